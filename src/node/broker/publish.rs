//! Messages of clients: what they may say, and where it goes.
//!
//! `application/{id}/device/{eui}/command/down` is a downlink for the log. Nobody but the server
//! speaks under `.../event/..`: a reading that an application trusts was on the air.

use std::sync::Arc;

use lorawan::DevEui;
use mqtt::{Incoming, Publish, ReasonCode, SessionError};
use rand_chacha::rand_core::Rng;
use store::model::{ItemState, QueueItem};
use store::{Command, Id, Refusal, Reply};

use super::client::Identity;
use super::deliver::wants_queue;
use super::message::Message;
use super::{Broker, BrokerView, Note, Waiting};
use crate::command_down;
use crate::input::StreamId;

impl Broker {
    pub(super) fn handle_publish(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        publish: Publish,
    ) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let Some(identity) = client.identity.clone() else { return };
        let fence = client.fence;
        let (qos, packet_id) = (publish.delivery.qos(), publish.delivery.packet_id());
        match client.session.handle_publish(publish.delivery) {
            Ok(Incoming::New) => {}
            Ok(Incoming::Duplicate) => {
                if let Some(packet_id) = packet_id {
                    self.acknowledge(view, stream, packet_id, qos, ReasonCode::Success);
                }
                return;
            }
            Err(SessionError::TooManyAwaitingRel { .. }) => {
                return self.end(view, stream, ReasonCode::ReceiveMaximumExceeded);
            }
            Err(_) => return self.end(view, stream, ReasonCode::ProtocolError),
        }
        let verdict = self.judge(view, &identity, &publish);
        let downlink = match verdict {
            Verdict::Refused(reason) => {
                if let Some(packet_id) = packet_id {
                    self.acknowledge(view, stream, packet_id, qos, reason);
                }
                return;
            }
            Verdict::Plain => None,
            Verdict::Downlink(command) => Some(*command),
        };
        let message = Message::from_publish(view.now.wall, publish, &identity.name);
        let queue = wants_queue(view.state, &message);
        let message = Arc::new(message);
        self.deliver(view, &message, None);
        let kept = queue || message.retain;
        // Of QoS 2 this node alone knows that it has come: its publisher will not say it elsewhere.
        let fence = fence.filter(|_| qos == mqtt::Qos::AtLeastOnce);
        let stored = kept.then(|| Command::PublishMessage(message.to_stored(queue, fence)));
        // A downlink that a session is to be told of as well takes two commands; its own decides.
        match (downlink, stored) {
            (Some(downlink), Some(stored)) => {
                let beside = packet_id.filter(|_| qos == mqtt::Qos::AtLeastOnce);
                let beside = beside.map(|packet_id| Waiting::Beside { stream, packet_id });
                self.propose(beside.unwrap_or(Waiting::Nobody), stored);
                self.decide(view, stream, packet_id, qos, Some(downlink));
            }
            (downlink, stored) => self.decide(view, stream, packet_id, qos, downlink.or(stored)),
        }
    }

    fn judge(&mut self, view: BrokerView<'_>, identity: &Identity, publish: &Publish) -> Verdict {
        let topic = publish.topic.as_str();
        let allowed = identity.can_publish
            && view.state.scope_allows(identity.scope, topic)
            && !publish.topic.is_system()
            && !is_event(topic);
        if !allowed {
            let (name, topic) = (identity.name.clone(), topic.to_owned());
            self.notes.push(Note::NotAllowed { name, topic });
            return Verdict::Refused(ReasonCode::NotAuthorized);
        }
        let Some((application, dev_eui)) = command_down::parse_topic(topic) else {
            return Verdict::Plain;
        };
        match self.downlink(view, application, dev_eui, &publish.payload) {
            Ok(command) => Verdict::Downlink(Box::new(command)),
            Err(error) => {
                self.notes.push(Note::BadCommand { topic: topic.to_owned(), error });
                Verdict::Refused(ReasonCode::PayloadFormatInvalid)
            }
        }
    }

    fn downlink(
        &mut self,
        view: BrokerView<'_>,
        application: Id,
        dev_eui: DevEui,
        payload: &[u8],
    ) -> Result<Command, String> {
        let down = command_down::parse(dev_eui, payload).map_err(|error| error.to_string())?;
        let registered = view.state.device(dev_eui);
        if registered.is_none_or(|device| device.application_id != application) {
            return Err(format!("application {application} has no device {dev_eui}"));
        }
        let mut drawn = [0; 16];
        self.rng.fill_bytes(&mut drawn);
        let item = QueueItem {
            id: down.id.unwrap_or(Id::from_random(drawn)),
            f_port: down.f_port,
            confirmed: down.confirmed,
            data: down.data,
            encrypted_f_cnt: None,
            expires_at: down.expires_at,
            state: ItemState::Queued,
            created_at: view.now.wall,
        };
        Ok(Command::Enqueue { dev_eui, item })
    }

    /// Answers at once, or when the log has it.
    fn decide(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        packet_id: Option<mqtt::PacketId>,
        qos: mqtt::Qos,
        command: Option<Command>,
    ) {
        match (command, packet_id) {
            (Some(command), Some(packet_id)) => {
                self.propose(Waiting::Publish { stream, packet_id, qos }, command);
            }
            (Some(command), None) => self.propose(Waiting::Nobody, command),
            (None, Some(packet_id)) => {
                self.acknowledge(view, stream, packet_id, qos, ReasonCode::Success);
            }
            (None, None) => {}
        }
    }
}

/// What becomes of a client's message.
enum Verdict {
    Refused(ReasonCode),
    Plain,
    Downlink(Box<Command>),
}

/// Whether a topic is one that only the server speaks on.
fn is_event(topic: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    matches!(levels.as_slice(), ["application", _, "device", _, "event", ..])
}

/// What a client is told of the log's answer.
pub(super) const fn reason_of(reply: &Reply) -> ReasonCode {
    match reply {
        Reply::Refused(Refusal::LimitReached(_)) => ReasonCode::QuotaExceeded,
        Reply::Refused(Refusal::Fenced) => ReasonCode::SessionTakenOver,
        Reply::Refused(_) => ReasonCode::PayloadFormatInvalid,
        Reply::Uplink(_)
        | Reply::Join(_)
        | Reply::Plan(_)
        | Reply::Done
        | Reply::ClientSession { .. }
        | Reply::Admitted(_) => ReasonCode::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_not_a_clients_to_speak_on() {
        assert!(is_event("application/a/device/b/event/up"));
        assert!(!is_event("application/a/device/b/command/down"));
        assert!(!is_event("application/a/events"));
    }
}
