//! Which types openraft works with here.
//!
//! Standard Raft: one leader per term (`leader_id_std`). A member has no address in openraft's
//! view (`Node = ()`): addresses lie in the state, since changing them through the log of
//! members risks two quorums.

use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;

use bytes::Bytes;
use openraft::impls::{BoxedErrorSource, InlineBatch, Vote, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use openraft_rt::{AsyncRuntime, OneshotSender};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::runtime::OnceTx;

/// A command as the log carries it: bytes that only the state machine reads.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(
    /// The encoded command.
    pub Bytes,
);

// Never the content: it holds other people's data.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// openraft asks for serde; neither the disk nor the peers use it (they use `codec`).
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(|bytes| Self(bytes.into()))
    }
}

/// openraft's types on runtime `R`. A value of it never exists.
pub struct TypeConfig<R>(PhantomData<fn() -> R>);

impl<R: AsyncRuntime> RaftTypeConfig for TypeConfig<R> {
    type D = Payload;
    type R = Payload;
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Payload, u64, ()>;
    type Entry = RaftEntry;
    type AsyncRuntime = R;
    type Responder<T>
        = Responder<R, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A leader that a quorum has elected: in standard Raft, its term.
pub(crate) type CommittedLeaderId = <leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::Committed;
/// Position of an entry: term and index.
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote given.
pub(crate) type VoteGiven = Vote<leader_id_std::LeaderId<u64, u64>>;
/// The members as of some entry.
pub(crate) type Members = openraft::StoredMembership<CommittedLeaderId, u64, ()>;
/// How far a snapshot reaches.
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, ()>;
/// An entry of openraft's.
pub(crate) type RaftEntry = openraft::Entry<CommittedLeaderId, EntryPayload<Payload, u64, ()>>;

/// Hands openraft's answer to whoever proposed; nobody waiting is no error.
pub struct Responder<R: AsyncRuntime, T: Send>(OnceTx<R, T>);

impl<R: AsyncRuntime, T: Send> Responder<R, T> {
    pub(crate) fn new(answer: OnceTx<R, T>) -> Self {
        Self(answer)
    }
}

impl<R, T> openraft::raft::responder::Responder<TypeConfig<R>, T> for Responder<R, T>
where
    R: AsyncRuntime,
    T: OptionalSend + 'static,
{
    fn on_complete(self, result: T) {
        self.0.send(result).ok();
    }
}

// By hand, because derives would ask the same of `R`.
impl<R> fmt::Debug for TypeConfig<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}

impl<R> Clone for TypeConfig<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for TypeConfig<R> {}

impl<R> Default for TypeConfig<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> PartialEq for TypeConfig<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for TypeConfig<R> {}

impl<R> PartialOrd for TypeConfig<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for TypeConfig<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
