//! The state machine as consensus sees it, and the channel to the loop that owns the real one.
//!
//! A node has a single loop that owns its state. [`link`] makes a [`Machine`] that sends each
//! request there and awaits the answer; requests arrive in order, one at a time.

use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use openraft_rt::{AsyncRuntime, MpscSender, OneshotSender};

use crate::runtime::{OnceTx, Rx, Tx, once, queue};
use crate::storage::{Batch, StorageError};

/// One entry of the log, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log; the one after the last entry applied.
    pub index: u64,
    /// Term of the leader that appended it; never goes back.
    pub term: u64,
    /// What it says.
    pub content: Content,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a leader's first entry.
    Blank,
    /// An encoded command.
    Command(Bytes),
    /// Who votes, and who only listens, from this entry on.
    Members {
        /// Raft ids whose majority decides (both sets together while a change is under way).
        voters: BTreeSet<u64>,
        /// Raft ids that receive the log without a vote.
        learners: BTreeSet<u64>,
    },
}

/// What came of applying entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// One reply for each entry, in order; empty for what is not a command.
    pub replies: Vec<Bytes>,
    /// Rows and cursors to store. Stored without an fsync of their own (a replay of the log
    /// makes them again), but durable before the log is purged beyond these entries.
    pub batch: Batch,
}

/// Why a state machine cannot go on: consensus stops with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state machine: {text}")]
pub struct MachineError {
    /// What the operator reads.
    pub text: String,
}

/// A frozen view of the state, encoded piece by piece while the state goes on.
pub trait Chunks: Send + Sync + 'static {
    /// The next piece, at most a few hundred KiB; `None` at the end. Encodes on the spot.
    fn next_chunk(&mut self) -> Option<Bytes>;
}

impl Chunks for Box<dyn Chunks> {
    fn next_chunk(&mut self) -> Option<Bytes> {
        (**self).next_chunk()
    }
}

/// The pieces of a stored snapshot, read one by one.
pub type StoredChunks = Box<dyn Iterator<Item = Result<Bytes, StorageError>> + Send>;

/// What applies the log. A value is a handle; clones speak to the same state.
///
/// Calls come one at a time and in order; each must have had its effect when it returns.
pub trait Machine: Clone + Send + Sync + 'static {
    /// A frozen view of the state.
    type Snapshot: Chunks;

    /// Applies entries in order.
    ///
    /// Errors: an entry it does not understand ("upgrade this node"), or a loop that has ended.
    fn apply(
        &self,
        entries: Vec<Entry>,
    ) -> impl Future<Output = Result<Outcome, MachineError>> + Send;

    /// Freezes the state as of the last entry applied. Cheap: encoding comes later.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Snapshot, MachineError>> + Send;

    /// Replaces the state by a stored snapshot.
    ///
    /// Errors: pieces it cannot read.
    fn restore(
        &self,
        chunks: StoredChunks,
    ) -> impl Future<Output = Result<(), MachineError>> + Send;
}

/// A request to the loop that owns the state. Answer each before taking the next.
pub enum Call<R: AsyncRuntime> {
    /// See [`Machine::apply`].
    Apply {
        /// What to apply.
        entries: Vec<Entry>,
        /// Where the outcome goes.
        answer: OnceTx<R, Result<Outcome, MachineError>>,
    },
    /// See [`Machine::snapshot`].
    Snapshot {
        /// Where the frozen view goes.
        answer: OnceTx<R, Result<Box<dyn Chunks>, MachineError>>,
    },
    /// See [`Machine::restore`].
    Restore {
        /// The pieces, in order.
        chunks: StoredChunks,
        /// Where the outcome goes.
        answer: OnceTx<R, Result<(), MachineError>>,
    },
}

impl<R: AsyncRuntime> core::fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Apply { entries, .. } => write!(f, "Apply({} entries)", entries.len()),
            Self::Snapshot { .. } => f.write_str("Snapshot"),
            Self::Restore { .. } => f.write_str("Restore"),
        }
    }
}

/// Answers an apply request; nobody waiting is no error.
pub fn answer<R: AsyncRuntime, T: Send>(to: OnceTx<R, T>, value: T) {
    to.send(value).ok();
}

/// A [`Machine`] whose state is owned by a loop at the other end of a channel.
pub struct Link<R: AsyncRuntime> {
    calls: Tx<R, Call<R>>,
}

impl<R: AsyncRuntime> Clone for Link<R> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

/// Connects consensus to a loop: the [`Machine`], and the requests the loop must answer.
///
/// When the loop drops its end, consensus stops.
pub fn link<R: AsyncRuntime>() -> (Link<R>, Rx<R, Call<R>>) {
    // Calls come one at a time; a second may already wait after an in-process restart.
    let (calls, requests) = queue::<R, _>(2);
    (Link { calls }, requests)
}

impl<R: AsyncRuntime> Link<R> {
    async fn call<T: Send>(
        &self,
        request: impl FnOnce(OnceTx<R, Result<T, MachineError>>) -> Call<R> + Send,
    ) -> Result<T, MachineError> {
        let ended = || MachineError { text: "its loop has ended".to_string() };
        let (answer, outcome) = once::<R, _>();
        self.calls.send(request(answer)).await.map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }
}

impl<R: AsyncRuntime> Machine for Link<R> {
    type Snapshot = Box<dyn Chunks>;

    async fn apply(&self, entries: Vec<Entry>) -> Result<Outcome, MachineError> {
        self.call(|answer| Call::Apply { entries, answer }).await
    }

    async fn snapshot(&self) -> Result<Box<dyn Chunks>, MachineError> {
        self.call(|answer| Call::Snapshot { answer }).await
    }

    async fn restore(&self, chunks: StoredChunks) -> Result<(), MachineError> {
        self.call(|answer| Call::Restore { chunks, answer }).await
    }
}
