//! What is known of one client: its session, what it asked for and what it got.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mqtt::{TopicFilter, TopicName};

/// What a client may get, by what it cannot be confused with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// An event, by its `deduplicationId`.
    Event(String),
    /// A publisher's message, by its payload.
    Message(Bytes),
}

/// Whether the node keeps a session for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    /// Surely not.
    #[default]
    No,
    /// It may: something that was asked for was never answered.
    Maybe,
    /// Surely.
    Yes,
}

/// A subscription.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) filter: TopicFilter,
    /// When it was first asked for in this session.
    pub(super) first: Duration,
    /// When it was last asked for.
    pub(super) last: Duration,
    /// The QoS granted, and when that was first told in this session.
    pub(super) granted: Option<(u8, Duration)>,
}

/// How an item came so far, in one session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Got {
    /// In which of the client's connections it came last.
    pub(super) connection: u64,
    /// How often in that one.
    pub(super) here: u32,
    /// How often it came without DUP out of one memory.
    pub(super) plain: u32,
    /// Out of which memory it came last.
    pub(super) memory: u64,
}

/// A retained message that a new subscriber must get: one of these.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) topic: TopicName,
    pub(super) any_of: BTreeSet<Bytes>,
}

/// The connection that a client has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// When it was accepted.
    pub(super) since: Duration,
    /// It goes on with a session that there was.
    pub(super) resumed: bool,
    /// Which memory answers: that of the node the client asked, as it was then, however late the
    /// answer comes.
    pub(super) memory: u64,
}

/// One client.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    /// What its account may see.
    pub(super) sees: Option<TopicFilter>,
    pub(super) kept: Kept,
    /// It wants its session kept.
    pub(super) persistent: bool,
    /// It began its newest attempt to connect with a clean start.
    pub(super) clean_start: bool,
    /// Which node it asked then, and that one's starts before.
    pub(super) asks: (String, u64),
    /// It has asked more than one node.
    pub(super) roams: bool,
    /// That attempt has no answer so far.
    pub(super) unanswered: bool,
    /// Until then one at another node, which got none, may take the session over.
    pub(super) haunted_until: Duration,
    /// How many memories it has spoken to: of a node, between two starts of it, without a break.
    pub(super) memories: u64,
    /// Everything was lost since: what is answered to that attempt, the lost cluster has said.
    pub(super) of_the_past: bool,
    pub(super) link: Option<Link>,
    /// Its connections so far.
    pub(super) connections: u64,
    /// Subscriptions of this session, by filter.
    pub(super) asked: BTreeMap<String, Asked>,
    /// What it got in this session.
    pub(super) got: BTreeMap<Item, Got>,
    /// How often it ever got something at QoS 0.
    pub(super) lightly: BTreeMap<Item, u32>,
    /// The newest message of each publisher on each topic at each QoS, its number and when it was
    /// first sent: order within it is kept.
    pub(super) newest: BTreeMap<(String, TopicName, u8), (u64, Duration)>,
    /// Events in the order in which they first came: in this session, or in this connection if its
    /// session ends with it.
    pub(super) events: Vec<String>,
    /// Retained messages it waits for.
    pub(super) owed: Vec<Owed>,
}

impl Client {
    /// Its session is no more: what comes now is another one.
    pub(super) fn forget_session(&mut self) {
        self.asked.clear();
        self.got.clear();
        self.newest.clear();
        self.events.clear();
        self.owed.clear();
    }

    /// The subscriptions that a topic matches.
    pub(super) fn matching(&self, topic: &TopicName) -> impl Iterator<Item = &Asked> {
        self.asked.values().filter(|asked| asked.filter.matches(topic))
    }

    /// Whether it surely was subscribed to a topic above QoS 0 at `moment`, in a session that is
    /// kept since.
    pub(super) fn subscribed_at(&self, topic: &TopicName, moment: Duration) -> bool {
        let mut granted = self.matching(topic).filter_map(|asked| asked.granted);
        granted.any(|(qos, since)| qos > 0 && since <= moment)
    }

    /// Whether it has asked for a topic above QoS 0 before `moment` and was granted it since.
    pub(super) fn asked_before(&self, topic: &TopicName, moment: Duration) -> bool {
        let granted = |asked: &Asked| asked.granted.is_some_and(|(qos, _)| qos > 0);
        self.matching(topic).any(|asked| granted(asked) && asked.first <= moment)
    }

    /// Its session is kept over all that may happen to it and to the node.
    pub(super) fn is_lasting(&self) -> bool {
        self.persistent && self.kept == Kept::Yes
    }
}
