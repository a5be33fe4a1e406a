//! The QoS flows of one client's session, both ways, as a value that can be kept and moved.
//!
//! The session outlives connections: it knows which messages wait, which are under way under which
//! packet id, and which QoS 2 ids the client has not given free. Messages are names `M` of the
//! caller's, who holds the contents. Nothing here is sent twice but after a reconnect, as both
//! versions of the protocol want it: there is no retry timer. All transitions are deterministic,
//! so they may run inside the replicated state. Source: MQTT 5.0 §4.3, §4.4, §4.6, §4.9.

use std::collections::{BTreeSet, VecDeque};

use sabotage::Bug;

use crate::packet::{Ack, Delivery, PacketId, Qos};
use crate::{ReasonCode, SessionError};

/// Bounds of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// QoS 1 and 2 messages under way to the client at once, below 65,000; its own receive maximum
    /// also counts.
    pub max_inflight: u16,
    /// QoS 2 packet ids of the client that wait for PUBREL.
    pub max_awaiting_rel: usize,
    /// Messages that wait to be sent; at least 1. Beyond, the oldest is dropped.
    pub max_queue: usize,
    /// Whether QoS 0 messages wait while the client is away.
    pub store_qos0: bool,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_inflight: 32, max_awaiting_rel: 1_000, max_queue: 1_000, store_qos0: true }
    }
}

/// Everything of a session that must survive, for storing and sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState<M> {
    /// The packet id given last; 0 before the first.
    pub last_packet_id: u16,
    /// Under way to the client, in the order of their first sending.
    pub inflight: Vec<Inflight<M>>,
    /// Waiting to be sent, oldest first.
    pub queue: VecDeque<Queued<M>>,
    /// QoS 2 packet ids of the client that it has not given free.
    pub awaiting_rel: BTreeSet<PacketId>,
    /// Messages dropped so far because the queue was full or the client away.
    pub dropped: u64,
}

impl<M> Default for SessionState<M> {
    fn default() -> Self {
        Self {
            last_packet_id: 0,
            inflight: Vec::new(),
            queue: VecDeque::new(),
            awaiting_rel: BTreeSet::new(),
            dropped: 0,
        }
    }
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued<M> {
    /// Its name.
    pub message: M,
    /// How surely it shall arrive.
    pub qos: Qos,
}

/// A message under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflight<M> {
    /// Its packet id: nobody else's until it is done.
    pub packet_id: PacketId,
    /// How far it is.
    pub stage: Stage<M>,
}

/// How far a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage<M> {
    /// QoS 1, sent: PUBACK ends it.
    AwaitPuback(M),
    /// QoS 2, sent: PUBREC hands it over.
    AwaitPubrec(M),
    /// QoS 2, handed over, PUBREL sent: PUBCOMP gives the packet id free.
    AwaitPubcomp,
}

/// Something to send to the client now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing<M> {
    /// PUBLISH of this message.
    Publish {
        /// Its name.
        message: M,
        /// QoS, packet id, and whether it is sent again.
        delivery: Delivery,
    },
    /// PUBREL, again.
    Pubrel(Ack),
}

/// What to do with a message from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Deliver it, then acknowledge.
    New,
    /// A QoS 2 message that was delivered before: only acknowledge.
    Duplicate,
}

/// What an acknowledgement of the client leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked<M> {
    /// The message that is the client's now: forget it.
    pub released: Option<M>,
    /// PUBREL to send.
    pub pubrel: Option<Ack>,
}

/// One client's flows. See [`SessionState`] for what of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<M> {
    limits: SessionLimits,
    state: SessionState<M>,
    /// Messages that may be under way on the present connection; `None` while there is none.
    window: Option<usize>,
    /// Under way since an earlier connection and not yet sent again on this one.
    resend: VecDeque<PacketId>,
    /// Packet ids of a client's SUBSCRIBE and UNSUBSCRIBE on the present connection.
    reserved: BTreeSet<PacketId>,
}

impl<M: Clone> Session<M> {
    /// A session without a past.
    pub fn new(limits: SessionLimits) -> Self {
        Self::unconnected(limits, SessionState::default())
    }

    /// A kept session, not connected.
    ///
    /// * Errors: a packet id stands for two messages.
    pub fn restore(limits: SessionLimits, state: SessionState<M>) -> Result<Self, SessionError> {
        let mut ids = BTreeSet::new();
        for inflight in &state.inflight {
            if !ids.insert(inflight.packet_id) {
                return Err(SessionError::PacketIdTwice { packet_id: inflight.packet_id });
            }
        }
        Ok(Self::unconnected(limits, state))
    }

    fn unconnected(limits: SessionLimits, state: SessionState<M>) -> Self {
        let (resend, reserved) = (VecDeque::new(), BTreeSet::new());
        Self { limits, state, window: None, resend, reserved }
    }

    /// What must be kept.
    pub fn state(&self) -> &SessionState<M> {
        &self.state
    }

    /// What must be kept, without the rest.
    pub fn into_state(self) -> SessionState<M> {
        self.state
    }

    /// Whether nothing waits, is under way, or is to be remembered.
    pub fn is_idle(&self) -> bool {
        let state = &self.state;
        state.inflight.is_empty() && state.queue.is_empty() && state.awaiting_rel.is_empty()
    }

    /// A connection takes the session up. What is under way is sent again, in order.
    ///
    /// * `receive_maximum`: the client's, [`crate::Connection::receive_maximum`].
    pub fn connected(&mut self, receive_maximum: u16) {
        self.window = Some(usize::from(self.limits.max_inflight.min(receive_maximum)));
        self.resend = self.state.inflight.iter().map(|inflight| inflight.packet_id).collect();
        if sabotage::planted(Bug::NotSentAgain) {
            self.resend.clear();
        }
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.window = None;
        self.resend.clear();
        self.reserved.clear();
        if !self.limits.store_qos0 {
            let before = self.state.queue.len();
            self.state.queue.retain(|queued| queued.qos != Qos::AtMostOnce);
            self.state.dropped += (before - self.state.queue.len()) as u64;
        }
    }

    /// A message for the client.
    ///
    /// * Returns a message that is dropped for it, or itself if it is.
    #[must_use = "a dropped message's contents must be let go"]
    pub fn enqueue(&mut self, message: M, qos: Qos) -> Option<M> {
        if qos == Qos::AtMostOnce && self.window.is_none() && !self.limits.store_qos0 {
            self.state.dropped += 1;
            return Some(message);
        }
        let dropped = if self.state.queue.len() >= self.limits.max_queue.max(1) {
            self.state.dropped += 1;
            self.state.queue.pop_front().map(|queued| queued.message)
        } else {
            None
        };
        self.state.queue.push_back(Queued { message, qos });
        dropped
    }

    /// The next thing to send; `None`: nothing, not connected, or the window is full. Ask only
    /// while the connection is writable: what this returns counts as sent.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing<M>> {
        let window = self.window?;
        let under_way = self.state.inflight.len() - self.resend.len();
        if let Some(packet_id) = self.resend.front().copied() {
            if under_way >= window {
                return None;
            }
            self.resend.pop_front();
            return self.send_again(packet_id);
        }
        if self.state.queue.front()?.qos > Qos::AtMostOnce && under_way >= window {
            return None;
        }
        let Queued { message, qos } = self.state.queue.pop_front()?;
        let dup = false;
        let (delivery, stage) = match qos {
            Qos::AtMostOnce => {
                return Some(Outgoing::Publish { message, delivery: Delivery::AtMostOnce });
            }
            Qos::AtLeastOnce => {
                let packet_id = self.next_packet_id();
                let delivery = Delivery::AtLeastOnce { packet_id, dup };
                (delivery, Inflight { packet_id, stage: Stage::AwaitPuback(message.clone()) })
            }
            Qos::ExactlyOnce => {
                let packet_id = self.next_packet_id();
                let delivery = Delivery::ExactlyOnce { packet_id, dup };
                (delivery, Inflight { packet_id, stage: Stage::AwaitPubrec(message.clone()) })
            }
        };
        self.state.inflight.push(stage);
        Some(Outgoing::Publish { message, delivery })
    }

    fn send_again(&self, packet_id: PacketId) -> Option<Outgoing<M>> {
        let dup = true;
        let at = self.position(packet_id)?;
        Some(match &self.state.inflight[at].stage {
            Stage::AwaitPuback(message) => Outgoing::Publish {
                message: message.clone(),
                delivery: Delivery::AtLeastOnce { packet_id, dup },
            },
            Stage::AwaitPubrec(message) => Outgoing::Publish {
                message: message.clone(),
                delivery: Delivery::ExactlyOnce { packet_id, dup },
            },
            Stage::AwaitPubcomp => Outgoing::Pubrel(Ack::new(packet_id, ReasonCode::Success)),
        })
    }

    fn position(&self, packet_id: PacketId) -> Option<usize> {
        self.state.inflight.iter().position(|inflight| inflight.packet_id == packet_id)
    }

    /// A packet id that no message gets until it is released: a client's for SUBSCRIBE and
    /// UNSUBSCRIBE. Forgotten with the connection.
    pub(crate) fn reserve(&mut self) -> PacketId {
        let packet_id = self.next_packet_id();
        self.reserved.insert(packet_id);
        packet_id
    }

    /// Whether the packet id was reserved; it is no longer.
    pub(crate) fn release(&mut self, packet_id: PacketId) -> bool {
        self.reserved.remove(&packet_id)
    }

    /// The id after the last one that nothing under way has.
    fn next_packet_id(&mut self) -> PacketId {
        let used = self.state.inflight.len() + self.reserved.len();
        assert!(used < usize::from(u16::MAX), "the bounds leave an id free");
        loop {
            self.state.last_packet_id = self.state.last_packet_id.wrapping_add(1);
            if let Some(packet_id) = PacketId::new(self.state.last_packet_id)
                && self.position(packet_id).is_none()
                && !self.reserved.contains(&packet_id)
            {
                return packet_id;
            }
        }
    }

    fn remove(&mut self, at: usize) -> Stage<M> {
        let Inflight { packet_id, stage } = self.state.inflight.remove(at);
        self.resend.retain(|id| *id != packet_id);
        stage
    }

    /// PUBACK: the client has a QoS 1 message. An error in it also ends the delivery (§4.3.2).
    ///
    /// * Returns the message that may be forgotten.
    /// * Errors: no such message; the client may be told, or the packet ignored.
    pub fn handle_puback(&mut self, packet_id: PacketId) -> Result<M, SessionError> {
        let at = self.position(packet_id);
        let is_qos1 = |at: &usize| matches!(self.state.inflight[*at].stage, Stage::AwaitPuback(_));
        let at = at.filter(is_qos1).ok_or(SessionError::UnknownPacketId { packet_id })?;
        match self.remove(at) {
            Stage::AwaitPuback(message) => Ok(message),
            Stage::AwaitPubrec(_) | Stage::AwaitPubcomp => {
                Err(SessionError::UnknownPacketId { packet_id })
            }
        }
    }

    /// PUBREC: the client has a QoS 2 message, or refuses it for good with an error.
    pub fn handle_pubrec(&mut self, packet_id: PacketId, reason: ReasonCode) -> Acked<M> {
        let unknown = Acked {
            released: None,
            pubrel: Some(Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound)),
        };
        let Some(at) = self.position(packet_id) else { return unknown };
        let pubrel = Some(Ack::new(packet_id, ReasonCode::Success));
        match &mut self.state.inflight[at].stage {
            Stage::AwaitPuback(_) => unknown,
            Stage::AwaitPubcomp => Acked { released: None, pubrel },
            stage @ Stage::AwaitPubrec(_) => {
                let before = core::mem::replace(stage, Stage::AwaitPubcomp);
                let released = match before {
                    Stage::AwaitPubrec(message) => Some(message),
                    Stage::AwaitPuback(_) | Stage::AwaitPubcomp => None,
                };
                if reason.is_error() {
                    self.remove(at);
                    return Acked { released, pubrel: None };
                }
                self.resend.retain(|id| *id != packet_id);
                Acked { released, pubrel }
            }
        }
    }

    /// PUBCOMP: the packet id of a QoS 2 message is free again.
    ///
    /// * Errors: no such packet id, or its message has not been handed over.
    pub fn handle_pubcomp(&mut self, packet_id: PacketId) -> Result<(), SessionError> {
        match self.position(packet_id) {
            Some(at) if matches!(self.state.inflight[at].stage, Stage::AwaitPubcomp) => {
                self.remove(at);
                Ok(())
            }
            Some(_) | None => Err(SessionError::UnknownPacketId { packet_id }),
        }
    }

    /// A message that was just taken for sending cannot be sent, for example because it is above
    /// the client's maximum packet size: it counts as delivered (MQTT 5.0 §3.1.2.11.4).
    ///
    /// * Returns the message that may be forgotten; `None`: nothing to forget.
    pub fn abandon(&mut self, packet_id: PacketId) -> Option<M> {
        match self.remove(self.position(packet_id)?) {
            Stage::AwaitPuback(message) | Stage::AwaitPubrec(message) => Some(message),
            Stage::AwaitPubcomp => None,
        }
    }

    /// A message from the client: whether it is a new one. Of QoS 2 its packet id is remembered
    /// from now on: keep the state together with the message, then send PUBREC.
    ///
    /// * Errors: [`SessionError::TooManyAwaitingRel`]; end the connection, or answer PUBREC with
    ///   [`ReasonCode::QuotaExceeded`].
    pub fn handle_publish(&mut self, delivery: Delivery) -> Result<Incoming, SessionError> {
        let packet_id = match delivery {
            Delivery::AtMostOnce | Delivery::AtLeastOnce { .. } => return Ok(Incoming::New),
            Delivery::ExactlyOnce { packet_id, .. } => packet_id,
        };
        if self.state.awaiting_rel.contains(&packet_id) {
            return Ok(Incoming::Duplicate);
        }
        let limit = self.limits.max_awaiting_rel;
        if self.state.awaiting_rel.len() >= limit {
            return Err(SessionError::TooManyAwaitingRel { limit });
        }
        self.state.awaiting_rel.insert(packet_id);
        Ok(Incoming::New)
    }

    /// A QoS 2 message from the client is refused after all: with the PUBREC that tells an error
    /// its packet id is free.
    pub fn refuse_publish(&mut self, packet_id: PacketId) {
        self.state.awaiting_rel.remove(&packet_id);
    }

    /// PUBREL: the client gives a QoS 2 packet id free.
    ///
    /// * Returns the PUBCOMP to send.
    pub fn handle_pubrel(&mut self, packet_id: PacketId) -> Ack {
        if self.state.awaiting_rel.remove(&packet_id) {
            Ack::new(packet_id, ReasonCode::Success)
        } else {
            Ack::new(packet_id, ReasonCode::PacketIdentifierNotFound)
        }
    }
}
