//! What waits for persistent sessions: rows of the event log and clients' messages, by pointer; and
//! the retained messages. Everything is bounded by name in [`crate::limits`].

use std::sync::Arc;

use mqtt::TopicName;
use sabotage::Bug;

use super::{Applied, Change, Decision};
use crate::client_session::{Pointer, Queued, Retained, StoredMessage};
use crate::limits::{QUEUED_BYTES_MAX, RETAINED_BYTES_MAX, RETAINED_MAX, SESSION_QUEUE_MAX};
use crate::model::MqttScope;
use crate::{EventRow, MqttMessage, Refusal, Reply, State};

/// Application events are published at QoS 1.
const EVENT_QOS: u8 = 1;

impl State {
    /// Puts an event row into the queues of the persistent sessions that want it and may see it.
    pub(super) fn queue_event(&mut self, row: &EventRow, applied: &mut Applied) {
        if self.index.subscriptions.is_empty() {
            return;
        }
        let Ok(topic) = TopicName::parse(&row.topic()) else { return };
        let device = &row.device;
        for (client_id, qos) in self.index.subscriptions.matching(&topic, "") {
            let scope = self.scope_of_client(&client_id);
            let sees = scope.is_some_and(|scope| match scope {
                MqttScope::All => true,
                MqttScope::Tenant(tenant) => tenant == device.tenant_id,
                MqttScope::Application(application) => application == device.application_id,
            });
            let qos = qos.min(EVENT_QOS);
            if sees && qos > 0 {
                let pointer = Pointer::Event(row.sequence);
                self.queue_for(&client_id, Queued { pointer, qos }, applied);
            }
        }
    }

    fn scope_of_client(&self, client_id: &str) -> Option<MqttScope> {
        let session = self.client_sessions.get(client_id)?;
        self.mqtt_accounts.get(&session.account).map(|account| account.scope)
    }

    /// A client's message: retained, queued for persistent sessions, or both.
    pub(super) fn publish_message(
        &mut self,
        message: &MqttMessage,
        applied: &mut Applied,
    ) -> Decision {
        let topic = TopicName::parse(&message.topic)
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        if let Some(fence) = message.fence {
            self.owned_session(&message.publisher, fence).map_err(|_| Refusal::Fenced)?;
        }
        if message.retain {
            self.check_retained(message)?;
        }
        let mut receivers = Vec::new();
        if message.queue && message.qos > 0 {
            let wanting = self.index.subscriptions.matching(&topic, &message.publisher);
            receivers = wanting.into_iter().collect();
            receivers.retain(|(client_id, qos)| {
                let scope = self.scope_of_client(client_id);
                let sees = scope.is_some_and(|scope| self.scope_allows(scope, &message.topic));
                sees && *qos > 0
            });
        }
        let weight = message.weight();
        if !receivers.is_empty()
            && self.index.queued_bytes.saturating_add(weight) > QUEUED_BYTES_MAX
        {
            let text = "too many messages wait for persistent sessions";
            return Err(Refusal::LimitReached(text.into()));
        }
        if message.retain {
            self.retain_message(message, applied);
        }
        if let Ok(places) = u32::try_from(receivers.len())
            && places > 0
        {
            self.core.last_message += 1;
            let number = self.core.last_message;
            let stored = StoredMessage { message: message.clone(), places, at: self.time() };
            self.messages.insert(number, Arc::new(stored));
            self.index.queued_bytes = self.index.queued_bytes.saturating_add(weight);
            for (client_id, qos) in receivers {
                let place = Queued { pointer: Pointer::Message(number), qos: qos.min(message.qos) };
                self.queue_for(&client_id, place, applied);
            }
        }
        Ok(Reply::Done)
    }

    fn check_retained(&self, message: &MqttMessage) -> Result<(), Refusal> {
        let old = self.retained.get(&message.topic).map_or(0, |old| old.message.weight());
        let new = if message.payload.is_empty() { 0 } else { message.weight() };
        let bytes = self.index.retained_bytes.saturating_sub(old).saturating_add(new);
        if new > old && bytes > RETAINED_BYTES_MAX {
            return Err(Refusal::LimitReached("too many bytes are retained".into()));
        }
        if new > 0 && old == 0 && self.retained.len() >= RETAINED_MAX {
            let text = format!("{RETAINED_MAX} topics have a retained message already");
            return Err(Refusal::LimitReached(text));
        }
        Ok(())
    }

    fn retain_message(&mut self, message: &MqttMessage, applied: &mut Applied) {
        let topic = message.topic.clone();
        if sabotage::planted(Bug::RetainedNotReplaced) && self.retained.contains_key(&topic) {
            return;
        }
        let old = if message.payload.is_empty() {
            self.retained.remove(&topic)
        } else {
            self.index.retained_bytes += message.weight();
            let retained = Retained { message: message.clone(), at: self.time() };
            self.retained.insert(topic.clone(), Arc::new(retained))
        };
        let freed = old.map_or(0, |old| old.message.weight());
        self.index.retained_bytes = self.index.retained_bytes.saturating_sub(freed);
        applied.changes.push(Change::Retained(topic));
    }

    /// Messages that the client has taken leave the queue.
    pub(super) fn ack_messages(&mut self, client_id: &str, fence: u64, taken: &[u64]) -> Decision {
        self.owned_session(client_id, fence)?;
        let mut gone = Vec::new();
        self.change_client(client_id, |session| {
            gone.extend(taken.iter().filter_map(|sequence| session.queue.remove(sequence)));
        });
        for place in gone {
            self.release(place.pointer);
        }
        Ok(Reply::Done)
    }

    /// Adds a place to a queue; where there is none the oldest goes, and is counted.
    fn queue_for(&mut self, client_id: &str, place: Queued, applied: &mut Applied) {
        let first_event = self.events.first;
        let mut lost = Vec::new();
        let mut connected = None;
        self.change_client(client_id, |session| {
            connected = session.node;
            let sequence = session.next;
            session.next += 1;
            session.queue.insert(sequence, place);
            while let Some((oldest, place)) = session.queue.get_min().copied() {
                let stale = matches!(place.pointer, Pointer::Event(row) if row < first_event);
                if !stale && session.queue.len() <= SESSION_QUEUE_MAX {
                    break;
                }
                session.queue.remove(&oldest);
                session.dropped = session.dropped.saturating_add(1);
                lost.push(place.pointer);
            }
        });
        for pointer in lost {
            self.release(pointer);
        }
        if let Some(node) = connected {
            let change = Change::ClientQueued { client_id: client_id.to_owned(), node };
            if applied.changes.last() != Some(&change) {
                applied.changes.push(change);
            }
        }
    }

    /// One place less points here; a message without any goes.
    pub(super) fn release(&mut self, pointer: Pointer) {
        let Pointer::Message(number) = pointer else { return };
        let Some(stored) = self.messages.get_mut(&number) else { return };
        if stored.places > 1 {
            Arc::make_mut(stored).places -= 1;
            return;
        }
        let weight = stored.message.weight();
        self.messages.remove(&number);
        self.index.queued_bytes = self.index.queued_bytes.saturating_sub(weight);
    }
}
