//! From a message to the clients who want it, each once, at the lower of two qualities of service.

use std::sync::Arc;

use clock::Instant;
use mqtt::{Ack, LOOKUP_BUDGET, Outgoing, Packet, Qos, SendError, Session, SubscribeOptions};
use store::{Change, Command, EventRow, Pointer, State};

use super::client::{Client, Phase, Subscribed};
use super::message::{Held, Message};
use super::{Broker, BrokerView, Note, RECENT_MAX, ROWS_PER_READ, TELL_AFTER, TELL_MAX, Waiting};
use crate::effect::Effect;
use crate::input::{StreamId, Token};

/// Places of a replicated queue in a session at a time.
const LOADED_MAX: usize = 64;
/// Bytes of payload that may wait for one client outside the log.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What a route knows of its subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    options: SubscribeOptions,
    identifier: Option<u32>,
}

impl Route {
    pub(crate) const fn of(subscribed: &Subscribed) -> Self {
        Self { options: subscribed.options, identifier: subscribed.identifier }
    }
}

/// How one client gets a message: the sum of its matching subscriptions.
struct Match {
    stream: StreamId,
    qos: Qos,
    retain_as_published: bool,
    identifiers: Vec<u32>,
}

impl Broker {
    /// Publishes a message of a client or of the node itself: to those connected now, and to the
    /// log if a persistent session wants it or it is to be retained.
    pub(super) fn publish(&mut self, view: BrokerView<'_>, message: Message) {
        let queue = wants_queue(view.state, &message);
        let message = Arc::new(message);
        self.deliver(view, &message, None);
        if queue || message.retain {
            let command = Command::PublishMessage(message.to_stored(queue, None));
            self.propose(Waiting::Nobody, command);
        }
    }

    /// Delivers what only this node's clients are told, outside the event log.
    pub fn handle_notice(&mut self, view: BrokerView<'_>, topic: &str, json: Vec<u8>) {
        if let Some(message) = Message::from_server(topic, json) {
            self.deliver(view, &Arc::new(message), None);
        }
    }

    /// Rows that the log has decided: to those connected now, and ready for those who read a queue.
    pub fn handle_rows(&mut self, view: BrokerView<'_>, rows: &[EventRow]) {
        for row in rows {
            // While older ones are still to come, newer ones are left to the log.
            if self.backlog.is_none()
                && !self.routes.is_empty()
                && let Some(message) = Message::from_row(row)
            {
                self.deliver(view, &Arc::new(message), Some(row.sequence));
            }
            if self.recent.len() >= RECENT_MAX {
                self.recent.pop_first();
            }
            self.recent.insert(row.sequence, Arc::new(row.clone()));
        }
        self.catch_up(view);
    }

    /// What else the log has decided that concerns clients.
    pub fn handle_change(&mut self, view: BrokerView<'_>, change: &Change) {
        match change {
            Change::MqttAccount(name) => self.handle_account_changed(view, name),
            Change::ClientTaken { client_id, fence, .. } => {
                self.handle_fenced(view, client_id, *fence);
            }
            // What is under way is known where the client was connected. It stays so if the client
            // has gone again before the log answered, or was elsewhere in between.
            Change::ClientOpened { client_id, present: false, .. } => {
                self.parked.remove(client_id);
            }
            Change::ClientOpened { client_id, node, .. } => {
                if *node != self.config.node
                    && let Some(parked) = self.parked.get_mut(client_id)
                {
                    parked.elsewhere = true;
                }
            }
            Change::ClientEnded { client_id, fence, .. } => {
                self.parked.remove(client_id);
                self.handle_fenced(view, client_id, *fence);
            }
            Change::ClientQueued { client_id, .. } => {
                if let Some(stream) = self.names.get(client_id).copied() {
                    self.load(view, stream);
                    self.settle(view, stream);
                }
            }
            Change::Device(_)
            | Change::DeviceQueue(_)
            | Change::Gateway(_)
            | Change::Tenant(_)
            | Change::Application(_)
            | Change::DeviceProfile(_)
            | Change::User(_)
            | Change::ApiKey(_)
            | Change::Retained(_)
            | Change::Member(_) => {}
        }
    }

    /// * `event`: its place in the event log, if it is a row of it.
    pub(super) fn deliver(
        &mut self,
        view: BrokerView<'_>,
        message: &Arc<Message>,
        event: Option<u64>,
    ) {
        for found in self.matches(message) {
            let Some(client) = self.clients.get_mut(&found.stream) else { continue };
            if event.is_some_and(|sequence| sequence < client.events_from) {
                continue;
            }
            let Some(identity) = &client.identity else { continue };
            // Of QoS 1 and 2 a session that the log keeps hears through its queue.
            let through_queue = client.fence.is_some() && found.qos > Qos::AtMostOnce;
            let allowed = view.state.scope_allows(identity.scope, message.topic.as_str());
            let unwanted = found.qos == Qos::AtMostOnce && !client.connection.is_writable();
            if through_queue || !allowed {
                continue;
            }
            let overflows = !unwanted && is_full(&client.session, self.config.session.max_queue);
            self.unread += u64::from(unwanted);
            self.overflowed += u64::from(overflows);
            let too_slow = unwanted || overflows;
            if too_slow && !client.not_reading {
                self.notes.push(Note::NotReading { name: identity.name.clone() });
            }
            client.not_reading = too_slow;
            if too_slow {
                continue;
            }
            let held = Held {
                message: Arc::clone(message),
                place: None,
                subscription_ids: found.identifiers,
                retain: found.retain_as_published && message.retain,
            };
            // There is room: nothing is dropped for it.
            let _ = client.session.enqueue(held, found.qos);
            self.pump(view, found.stream);
            self.flush(found.stream);
        }
    }

    fn matches(&self, message: &Message) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (stream, route) in self.routes.lookup(&message.topic, LOOKUP_BUDGET).matches {
            let own = || self.clients.get(&stream).is_some_and(|c| c.name() == message.publisher);
            if route.options.no_local && own() {
                continue;
            }
            let qos = message.qos.min(route.options.qos);
            match matches.last_mut() {
                Some(last) if last.stream == stream => {
                    last.qos = last.qos.max(qos);
                    last.retain_as_published |= route.options.retain_as_published;
                    last.identifiers.extend(route.identifier);
                }
                Some(_) | None => matches.push(Match {
                    stream,
                    qos,
                    retain_as_published: route.options.retain_as_published,
                    identifiers: route.identifier.into_iter().collect(),
                }),
            }
        }
        matches
    }

    /// Sends what waits, while the client takes it.
    pub(super) fn pump(&mut self, view: BrokerView<'_>, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        if !matches!(client.phase, Phase::Open) {
            return;
        }
        while client.connection.is_writable() {
            let Some(outgoing) = client.session.poll_outgoing() else { break };
            match outgoing {
                Outgoing::Pubrel(ack) => {
                    let _ = client.connection.send(view.now.instant, Packet::Pubrel(ack));
                }
                Outgoing::Publish { message, delivery } => {
                    let sent = match message.packet(view.now.wall, delivery) {
                        Some(publish) => {
                            client.connection.send(view.now.instant, Packet::Publish(publish))
                        }
                        // Expired: as if the client had it.
                        None => Err(SendError::TooLarge { bytes: 0, limit: 0 }),
                    };
                    if let (Err(SendError::TooLarge { .. }), Some(id)) =
                        (sent, delivery.packet_id())
                    {
                        forget(client, id, view.now.instant);
                    }
                }
            }
        }
        if client.session.state().queue.len() < LOADED_MAX / 2 && client.fence.is_some() {
            self.load(view, stream);
        }
    }

    /// Loads a session that the log keeps from its queue there.
    pub(super) fn load(&mut self, view: BrokerView<'_>, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        if client.fence.is_none() || client.loading || !matches!(client.phase, Phase::Open) {
            return;
        }
        let name = client.name().to_owned();
        let mut loaded = false;
        while client.session.state().queue.len() < LOADED_MAX {
            let from = client.next_place;
            let Some((place, queued)) = view.state.client_queue(&name, from).next() else { break };
            let message = match queued.pointer {
                Pointer::Message(number) => {
                    let stored = view.state.message(number);
                    stored.and_then(|stored| Message::from_stored(&stored.message))
                }
                Pointer::Event(sequence) => match self.recent.get(&sequence) {
                    Some(row) => Message::from_row(row),
                    None if self.lost_rows.remove(&sequence) => None,
                    None if self.lacking.gap_end(sequence).is_some() => {
                        client.loading = true;
                        self.starved.insert(stream);
                        break;
                    }
                    None => {
                        client.loading = true;
                        self.next_token += 1;
                        let token = Token(self.next_token);
                        self.loads.insert(token, (stream, sequence));
                        let limit = ROWS_PER_READ;
                        let read = Effect::ReadEvents { token, from: sequence, limit };
                        self.effects.push_back(read);
                        break;
                    }
                },
            };
            client.next_place = place + 1;
            let Some(message) = message else {
                client.taken.push(place);
                continue;
            };
            let held = Held {
                message: Arc::new(message),
                place: Some(place),
                subscription_ids: Vec::new(),
                retain: false,
            };
            let qos = Qos::from_u8(queued.qos).unwrap_or(Qos::AtLeastOnce);
            let _ = client.session.enqueue(held, qos);
            loaded = true;
        }
        if loaded {
            self.pump(view, stream);
        }
    }

    /// Rows of the event log were read; false if they were none of the broker's.
    pub fn handle_events_read(
        &mut self,
        view: BrokerView<'_>,
        token: Token,
        rows: &[EventRow],
    ) -> bool {
        if self.backlog_read(view, token, rows) {
            return true;
        }
        let Some((stream, wanted)) = self.loads.remove(&token) else { return false };
        if rows.first().is_none_or(|row| row.sequence != wanted) {
            self.row_missing(view, stream, wanted, rows);
            return true;
        }
        for row in rows {
            self.recent.insert(row.sequence, Arc::new(row.clone()));
        }
        if let Some(client) = self.clients.get_mut(&stream) {
            client.loading = false;
            self.load(view, stream);
            self.settle(view, stream);
        }
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_first();
        }
        true
    }

    /// An acknowledgement of the client.
    pub(super) fn acked(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        release: impl FnOnce(&mut Session<Held>) -> Option<Held>,
    ) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        if let Some(held) = release(&mut client.session) {
            took(client, held.place, view.now.instant);
        }
        if client.taken.len() >= TELL_MAX {
            self.tell_taken(view, stream);
        }
    }

    pub(super) fn handle_pubrec(&mut self, view: BrokerView<'_>, stream: StreamId, ack: &Ack) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let acked = client.session.handle_pubrec(ack.packet_id, ack.reason);
        if let Some(pubrel) = acked.pubrel {
            let _ = client.connection.send(view.now.instant, Packet::Pubrel(pubrel));
        }
        self.acked(view, stream, |_| acked.released);
    }

    /// Tells the log which places of its queue a client has taken.
    pub(super) fn tell_taken(&mut self, view: BrokerView<'_>, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let due = client.tell_at.is_some_and(|at| at <= view.now.instant);
        let all = client.taken.len() >= TELL_MAX || !client.connection.is_open();
        if !(due || all) {
            return;
        }
        client.tell_at = None;
        let (Some(fence), false) = (client.fence, client.taken.is_empty()) else { return };
        let taken = core::mem::take(&mut client.taken);
        let client_id = client.name().to_owned();
        client.told.retain(|place| is_queued(view.state, &client_id, *place));
        client.told.extend(&taken);
        self.propose(Waiting::Nobody, Command::AckMessages { client_id, fence, taken });
    }
}

/// Whether as much waits for a client as may. What comes then is dropped, not the oldest: that may
/// be a message that the log keeps for it.
pub(super) fn is_full(session: &Session<Held>, limit: usize) -> bool {
    let queue = &session.state().queue;
    let bytes: usize = queue.iter().map(|queued| queued.message.message.payload.len()).sum();
    queue.len() >= limit || bytes >= WAITING_BYTES_MAX
}

/// Whether a persistent session wants the message. What is to be retained goes to the log anyway,
/// and whoever has subscribed by then gets it as its latest.
pub(super) fn wants_queue(state: &State, message: &Message) -> bool {
    let wanted = || state.is_wanted(&message.topic, &message.publisher);
    message.qos > Qos::AtMostOnce && (message.retain || wanted())
}

/// Whether the log still holds this place of a session's queue.
pub(super) fn is_queued(state: &State, client_id: &str, place: u64) -> bool {
    state.client_queue(client_id, place).next().is_some_and(|(at, _)| at == place)
}

pub(super) fn took(client: &mut Client, place: Option<u64>, now: Instant) {
    if let Some(place) = place {
        client.taken.push(place);
        client.tell_at.get_or_insert(now + TELL_AFTER);
    }
}

/// Treats a message that cannot be sent as delivered. Source: MQTT 5.0 §3.1.2.11.4.
fn forget(client: &mut Client, id: mqtt::PacketId, now: Instant) {
    let released = client.session.abandon(id);
    took(client, released.and_then(|held| held.place), now);
}
