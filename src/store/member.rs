//! What the log knows of the nodes of its cluster. Source: DESIGN 6 (identity, membership); M6.

use clock::WallTime;
use minicbor::{Decode, Encode};

use crate::NodeId;

/// Where a member stands. Written by the leader; no rule of correctness rests on any of them but
/// `Revoked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum MemberStatus {
    /// Admitted; it has not caught up yet and does not vote.
    #[n(0)]
    Joining,
    /// It votes and was heard lately.
    #[default]
    #[n(1)]
    Up,
    /// It is heard again and catches up.
    #[n(2)]
    Healing,
    /// It is about to be let go.
    #[n(3)]
    Leaving,
    /// Nobody has heard it for a while.
    #[n(4)]
    Down,
    /// It has been down for so long that it does not vote any more; its id and log stay.
    #[n(5)]
    Cleaned,
    /// It is no member any more and its raft id never will be one: a tombstone.
    #[n(6)]
    Revoked,
}

impl MemberStatus {
    /// As people and events read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Healing => "healing",
            Self::Leaving => "leaving",
            Self::Down => "down",
            Self::Cleaned => "cleaned",
            Self::Revoked => "revoked",
        }
    }
}

/// Who a node is and where it is found: its key is the identity, the rest are labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Nameplate {
    /// X25519 public key.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// `tern@host`
    #[n(1)]
    pub name: String,
    /// `host:port` of its peer links.
    #[n(2)]
    pub address: String,
}

/// What the log knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// How often it has started.
    #[n(0)]
    pub boot: u64,
    /// The highest feature level its binary knows.
    #[n(1)]
    pub feature_level: u32,
    /// State time of that start.
    #[n(2)]
    pub booted_at: WallTime,
    /// Key, name and address.
    #[n(3)]
    #[cbor(default)]
    pub plate: Nameplate,
    /// Where it stands.
    #[n(4)]
    #[cbor(default)]
    pub status: MemberStatus,
    /// The member in whose place it votes once it has caught up.
    #[n(5)]
    pub replaces: Option<NodeId>,
}

impl Member {
    /// Whether it belongs to the cluster.
    pub fn is_live(&self) -> bool {
        self.status != MemberStatus::Revoked
    }
}
