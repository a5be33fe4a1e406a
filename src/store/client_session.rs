//! Persistent client sessions as the state keeps them. A queue holds pointers: to a row of the
//! event log, or to a client's message that is stored once however many sessions wait for it.

use std::collections::BTreeMap;

use clock::WallTime;
use imbl::OrdMap;
use mac::NodeId;
use minicbor::{Decode, Encode};

use crate::{MqttMessage, MqttSubscription};

/// What a queue place points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Pointer {
    /// A row of the event log, by its sequence.
    #[n(0)]
    Event(#[n(0)] u64),
    /// A stored message ([`crate::State::message`]).
    #[n(1)]
    Message(#[n(0)] u64),
}

/// One place of a session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Queued {
    /// What waits.
    #[n(0)]
    pub pointer: Pointer,
    /// The lower of the publisher's and the subscription's QoS: 1 or 2.
    #[n(1)]
    pub qos: u8,
}

/// A session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSession {
    /// Client identifier, unique over all accounts.
    pub client_id: String,
    /// Account.
    pub account: String,
    /// The number of its newest connection.
    pub fence: u64,
    /// Where it is connected; `None` while it is not.
    pub node: Option<NodeId>,
    /// Seconds it outlives its connection; `u32::MAX` = for ever.
    pub expiry_s: u32,
    /// Leader ticks in microseconds at which it ends; `None` while connected or without an end.
    pub ends_at_ticks: Option<u64>,
    /// Subscriptions by filter.
    pub subscriptions: BTreeMap<String, MqttSubscription>,
    /// What waits, by queue sequence number.
    pub queue: OrdMap<u64, Queued>,
    /// The next queue sequence number; never used twice while the session lives.
    pub next: u64,
    /// Places lost because the queue was full or the event log had moved on.
    pub dropped: u64,
    /// When it was made.
    pub created_at: WallTime,
}

/// A stored message and how many queue places point to it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StoredMessage {
    /// The message.
    #[n(0)]
    pub message: MqttMessage,
    /// Queue places.
    #[n(1)]
    pub places: u32,
    /// State time at which it was published.
    #[n(2)]
    pub at: WallTime,
}

/// The last value of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Retained {
    /// The message.
    #[n(0)]
    pub message: MqttMessage,
    /// State time at which it was published.
    #[n(1)]
    pub at: WallTime,
}

impl MqttMessage {
    /// Bytes it weighs against the bounds of the state.
    pub(crate) fn weight(&self) -> u64 {
        let text = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        let properties: usize = self.user_properties.iter().map(|(k, v)| k.len() + v.len()).sum();
        let correlation = self.correlation_data.as_ref().map_or(0, Vec::len);
        let bytes = self.topic.len()
            + self.payload.len()
            + text(&self.content_type)
            + text(&self.response_topic)
            + correlation
            + properties
            + self.publisher.len();
        u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(128)
    }
}

/// The session in the snapshot; the queue as pairs in order.
#[derive(Encode, Decode)]
pub(crate) struct SessionRecord {
    #[n(0)]
    client_id: String,
    #[n(1)]
    account: String,
    #[n(2)]
    fence: u64,
    #[n(3)]
    node: Option<NodeId>,
    #[n(4)]
    expiry_s: u32,
    #[n(5)]
    ends_at_ticks: Option<u64>,
    #[n(6)]
    subscriptions: Vec<MqttSubscription>,
    #[n(7)]
    queue: Vec<(u64, Queued)>,
    #[n(8)]
    next: u64,
    #[n(9)]
    dropped: u64,
    #[n(10)]
    created_at: WallTime,
}

impl From<&ClientSession> for SessionRecord {
    fn from(session: &ClientSession) -> Self {
        Self {
            client_id: session.client_id.clone(),
            account: session.account.clone(),
            fence: session.fence,
            node: session.node,
            expiry_s: session.expiry_s,
            ends_at_ticks: session.ends_at_ticks,
            subscriptions: session.subscriptions.values().cloned().collect(),
            queue: session.queue.iter().map(|(sequence, place)| (*sequence, *place)).collect(),
            next: session.next,
            dropped: session.dropped,
            created_at: session.created_at,
        }
    }
}

impl From<SessionRecord> for ClientSession {
    fn from(record: SessionRecord) -> Self {
        let keyed = |subscription: MqttSubscription| (subscription.filter.clone(), subscription);
        Self {
            client_id: record.client_id,
            account: record.account,
            fence: record.fence,
            node: record.node,
            expiry_s: record.expiry_s,
            ends_at_ticks: record.ends_at_ticks,
            subscriptions: record.subscriptions.into_iter().map(keyed).collect(),
            queue: record.queue.into_iter().collect(),
            next: record.next,
            dropped: record.dropped,
            created_at: record.created_at,
        }
    }
}
