//! One connected client: its connection, its session, and what it may see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use clock::Instant;
use mqtt::{Connect, Connection, Session, SubscribeOptions, TopicFilter, Will};
use store::model::MqttScope;

use super::message::Held;

/// Bytes that may be with the host and not yet with the network before more is handed over.
pub(crate) const HANDED_OVER_MAX: usize = 64 * 1024;

/// How far a client is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Bytes may come, no CONNECT yet.
    Silent,
    /// Its password is being checked.
    Checking(Box<Connect>),
    /// Its session is being opened by the log.
    Opening(Box<Connect>),
    /// At work.
    Open,
}

/// Who a client is, once it has said so.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Account.
    pub(crate) account: String,
    /// What it may see.
    pub(crate) scope: MqttScope,
    /// Whether it may publish.
    pub(crate) can_publish: bool,
    /// Account and client identifier together: nobody takes over another account's session.
    pub(crate) name: String,
}

/// One subscription of a connected client.
#[derive(Clone, Debug)]
pub(crate) struct Subscribed {
    pub(crate) filter: TopicFilter,
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<u32>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) connection: Connection,
    pub(crate) phase: Phase,
    pub(crate) identity: Option<Identity>,
    /// Its client identifier was drawn here.
    pub(crate) assigned: bool,
    /// The fencing number of a session that the log keeps; `None` for a transient one.
    pub(crate) fence: Option<u64>,
    /// Seconds the session outlives this connection.
    pub(crate) expiry_s: u32,
    pub(crate) session: Session<Held>,
    pub(crate) subscriptions: BTreeMap<String, Subscribed>,
    pub(crate) will: Option<Will>,
    /// The next place of the replicated queue to load.
    pub(crate) next_place: u64,
    /// The first event that happened after it came.
    pub(crate) events_from: u64,
    /// Rows of the event log are on their way for it.
    pub(crate) loading: bool,
    /// Places the client has taken that the log was not told of.
    pub(crate) taken: Vec<u64>,
    /// Those of which it was told, and which it may not have struck off yet.
    pub(crate) told: BTreeSet<u64>,
    /// When the log shall be told of them.
    pub(crate) tell_at: Option<Instant>,
    /// Bytes with the host that are not yet with the network.
    pub(crate) handed_over: usize,
    /// Whether the host was asked to stop reading.
    pub(crate) paused: bool,
    /// Whether its messages of QoS 0 are being dropped.
    pub(crate) not_reading: bool,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, connection: Connection, session: Session<Held>) -> Self {
        Self {
            peer,
            connection,
            phase: Phase::Silent,
            identity: None,
            assigned: false,
            fence: None,
            expiry_s: 0,
            session,
            subscriptions: BTreeMap::new(),
            will: None,
            next_place: 0,
            events_from: 0,
            loading: false,
            taken: Vec::new(),
            told: BTreeSet::new(),
            tell_at: None,
            handed_over: 0,
            paused: false,
            not_reading: false,
        }
    }

    /// Its session's name; empty before it has said who it is.
    pub(crate) fn name(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.name)
    }

    /// The next moment something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.poll_timeout().map(|(at, _)| at);
        connection.into_iter().chain(self.tell_at).min()
    }
}
