//! What the log answers.

use mac::{JoinReply, NodeId, PlanReply, UplinkReply};
use minicbor::{Decode, Encode};

/// The answer to one [`crate::Proposal`]. A retry under the same request gets it again.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// To [`crate::Command::AcceptUplink`].
    #[n(0)]
    Uplink(#[n(0)] UplinkReply),
    /// To [`crate::Command::AcceptJoin`].
    #[n(1)]
    Join(#[n(0)] JoinReply),
    /// To [`crate::Command::PlanDownlink`].
    #[n(2)]
    Plan(#[n(0)] PlanReply),
    /// Done.
    #[n(3)]
    Done,
    /// To [`crate::Command::OpenClientSession`].
    #[n(4)]
    ClientSession {
        /// There was one already.
        #[n(0)]
        present: bool,
        /// This connection's fencing number; a lower one is no longer the owner.
        #[n(1)]
        fence: u64,
    },
    /// To [`crate::Command::AdmitMember`]: the raft id of the new member.
    #[n(6)]
    Admitted(#[n(0)] NodeId),
    /// Not done, and nothing was changed.
    #[n(5)]
    Refused(#[n(0)] Refusal),
}

/// Why the log did not do what an operator asked.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The object is not there.
    #[n(0)]
    #[error("{0} does not exist")]
    NotFound(#[n(0)] String),
    /// The object, or one of that name, is there.
    #[n(1)]
    #[error("{0} exists already")]
    AlreadyExists(#[n(0)] String),
    /// Something else must go first.
    #[n(2)]
    #[error("{0}")]
    InUse(#[n(0)] String),
    /// A tenant's limit is reached.
    #[n(3)]
    #[error("{0}")]
    LimitReached(#[n(0)] String),
    /// The connection is no longer the owner of its client session.
    #[n(4)]
    #[error("another connection owns this session now")]
    Fenced,
    /// Values that do not fit together.
    #[n(5)]
    #[error("{0}")]
    Invalid(#[n(0)] String),
}
