//! What happens to the members of a cluster. Ours alone.

use clock::WallTime;
use serde::{Deserialize, Serialize};

/// What happened. All but the last three were decided by the log: every node tells them alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberNews {
    /// It was admitted and has not caught up yet.
    Joining,
    /// It is a full member, in touch.
    #[default]
    Up,
    /// Nobody has heard it for the tick time.
    Down,
    /// It is heard again and catches up.
    Healing,
    /// It is about to be let go.
    Leaving,
    /// It was down for so long that it votes no more.
    Cleaned,
    /// It is no member any more.
    Left,
    /// It was not down but out of touch: it is heard again and has not started anew.
    PartitionOccurred,
    /// It has caught up after that.
    PartitionHealed,
    /// This node has not heard it for a while, or has lost the connection.
    Suspected,
    /// Neither this node nor whom it asked has heard it for the tick time.
    Unheard,
    /// This node hears it again.
    Heard,
}

/// Something that happened to a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberEvent {
    /// Give this as `after` to go on. What the log has decided has the same number on every node.
    pub sequence: u64,
    /// What happened.
    pub event: MemberNews,
    /// `tern@host`
    pub name: String,
    /// Its raft id.
    pub node_id: u64,
    /// When, by the log's time; by this node's for what this node alone has seen.
    pub time: WallTime,
}

/// Some of them, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberEventPage {
    /// The events.
    pub events: Vec<MemberEvent>,
    /// Give this as `after` to go on.
    pub next: u64,
    /// Whether some above `after` were forgotten, or came before this node started.
    pub missed: bool,
}
