//! openraft's log on this node's disk.
//!
//! `append` answers through a callback once the fsync has happened; many appends share one. The
//! checks on the order of writes stand in release too: openraft checks some of them in debug
//! builds alone and goes on with its cursor moved back otherwise.

use std::cmp::Ordering as Cmp;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use openraft_rt::{AsyncRuntime, MpscReceiver, MpscSender};
use sabotage::Bug;

use super::cache::{Cache, cost};
use super::codec::{
    decode_entry, decode_log_id, decode_vote, encode_entry, encode_log_id, encode_vote,
};
use super::types::{LogId, RaftEntry, TypeConfig, VoteGiven};
use crate::disk::Disk;
use crate::runtime::{Rx, Tx, queue};
use crate::storage::{Batch, Meta, Op, StorageError};

/// Appends that may wait for their fsync before the next one waits for room.
const FLUSHES: usize = 1_024;

/// Bytes of entries handed to a follower at once.
const READ_BYTES: usize = 1024 * 1024;

/// The first failure of storage under one run of consensus.
pub(crate) type Fault = Arc<OnceLock<StorageError>>;

/// A write that breaks the order which Raft rests on. Refused; consensus stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("vote went back from {from} to {to}")]
    Vote { from: String, to: String },
    #[error("entry {to} does not follow {from}")]
    Append { from: String, to: String },
    #[error("log would be cut at {index}, but entries up to {committed} are committed")]
    Truncate { index: u64, committed: u64 },
    #[error("committed went back from {from} to {to}")]
    Committed { from: String, to: String },
    #[error("a snapshot up to {to} would take the state back from {from}")]
    Install { from: String, to: String },
    #[error("entry {to} applied after {from}")]
    Apply { from: String, to: String },
}

impl From<OrderError> for io::Error {
    fn from(error: OrderError) -> Self {
        Self::other(error)
    }
}

/// The log of one run of consensus.
pub struct LogStore<R: AsyncRuntime, D: Disk> {
    reader: LogReader<D>,
    flushes: Tx<R, Flush<R, D>>,
}

/// Reads the log, from memory where it can.
pub struct LogReader<D> {
    shared: Arc<Shared<D>>,
}

struct Shared<D> {
    disk: D,
    state: Mutex<State>,
    fault: Fault,
    /// Bytes appended since the last snapshot was asked for.
    growth: Arc<AtomicU64>,
}

struct State {
    vote: Option<VoteGiven>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Index of the first entry there is.
    begin: u64,
    cache: Cache,
}

/// Something on its way to the disk.
struct Flush<R: AsyncRuntime, D: Disk> {
    commit: D::Commit,
    /// Entries below this index are durable then.
    next: u64,
    done: IOFlushed<TypeConfig<R>>,
}

impl<D> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R: AsyncRuntime, D: Disk> LogStore<R, D> {
    /// Reads where the log stands.
    ///
    /// * `cache_bytes`: memory for the tail of the log.
    /// * `growth`: counts the bytes appended.
    /// * Errors: as the disk says; [`StorageError::Unreadable`] for a newer encoding.
    pub(crate) fn open(
        disk: D,
        cache_bytes: usize,
        fault: Fault,
        growth: Arc<AtomicU64>,
    ) -> Result<Self, StorageError> {
        let database = disk.database();
        let read = |key| database.meta(key);
        let vote = read(Meta::Vote)?
            .map(|bytes| decode_vote(&bytes).map_err(|e| e.at("meta", "vote")))
            .transpose()?;
        let committed = read(Meta::Committed)?
            .map(|bytes| decode_log_id(&bytes).map_err(|e| e.at("meta", "committed")))
            .transpose()?;
        let purged = database
            .purged()?
            .map(|(_, bytes)| decode_log_id(&bytes).map_err(|e| e.at("meta", "purged")))
            .transpose()?;
        let bounds = database.log_bounds()?;
        let last = match bounds {
            None => None,
            Some((_, index)) => {
                let found = database.log(index..index + 1, 1)?.pop();
                let (_, record) = found.ok_or(StorageError::LogMissing { index })?;
                let entry = decode_entry(index, &record).map_err(|e| e.at("log", index))?;
                Some(entry.log_id)
            }
        };
        let last = last.max(purged);
        // The hint may have found its way to a disk that refused the entries before it: they were
        // decided by others, and who leads sends them again.
        let committed = committed.filter(|committed| Some(*committed) <= last);
        let cache = Cache::new(last.map_or(0, |last| last.index() + 1), cache_bytes);
        let begin = bounds.map_or(cache.first(), |(first, _)| first);
        let state = Mutex::new(State { vote, committed, purged, last, begin, cache });
        let reader = LogReader { shared: Arc::new(Shared { disk, state, fault, growth }) };
        let (flushes, waiting) = queue::<R, _>(FLUSHES);
        // Ends by itself when the store is dropped.
        drop(R::spawn(settle::<R, D>(reader.clone(), waiting)));
        Ok(Self { reader, flushes })
    }

    /// The last entry, or the last that was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.reader.shared.state().last
    }

    async fn flush(
        &self,
        batch: Batch,
        next: u64,
        done: IOFlushed<TypeConfig<R>>,
    ) -> Result<(), io::Error> {
        let commit = self.reader.shared.disk.commit(batch);
        let flush = Flush { commit, next, done };
        self.flushes.send(flush).await.map_err(|_| io::Error::other("log closed"))
    }

    /// Puts entries into the tail and makes the batch that stores them.
    fn stage(
        &self,
        entries: impl IntoIterator<Item = RaftEntry>,
    ) -> Result<(Batch, u64), io::Error> {
        let shared = &*self.reader.shared;
        shared.check()?;
        let mut state = shared.state();
        let mut batch = Batch::new();
        let mut grown = 0;
        for entry in entries {
            let log_id = entry.log_id;
            let order =
                |last: LogId| OrderError::Append { from: last.to_string(), to: log_id.to_string() };
            if let Some(last) = state.last
                && (log_id.index() != last.index() + 1 || log_id < last)
            {
                return Err(order(last).into());
            }
            let after = state.last.map(|last| last.index());
            let record = encode_entry(&entry);
            batch.push(Op::PutLog { after, index: log_id.index(), record });
            grown += cost(&entry);
            if state.last.is_none() {
                state.begin = log_id.index();
            }
            state.last = Some(log_id);
            state.cache.push(entry);
        }
        shared.growth.fetch_add(grown as u64, Ordering::Relaxed);
        Ok((batch, state.next()))
    }
}

/// Awaits the disk, in order, and tells openraft.
async fn settle<R: AsyncRuntime, D: Disk>(reader: LogReader<D>, mut waiting: Rx<R, Flush<R, D>>) {
    while let Some(flush) = waiting.recv().await {
        let early = sabotage::planted(Bug::EventBeforeCommit);
        let outcome = if early { Ok(()) } else { flush.commit.await };
        match outcome {
            // A failure before this one in the order: openraft must not believe in a later success.
            Ok(()) if reader.shared.fault.get().is_none() => {
                reader.shared.state().cache.durable_below(flush.next);
                flush.done.io_completed(Ok(()));
            }
            Ok(()) => {
                let error = reader.shared.check().err();
                flush.done.io_completed(error.map_or(Ok(()), Err));
            }
            Err(error) => {
                let error = reader.shared.fault(error);
                flush.done.io_completed(Err(error));
            }
        }
    }
}

impl<D> Shared<D> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the first failure.
    fn fault(&self, error: StorageError) -> io::Error {
        self.fault.get_or_init(|| error.clone());
        error.into()
    }

    fn check(&self) -> Result<(), io::Error> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone().into()))
    }
}

impl State {
    fn next(&self) -> u64 {
        self.last.map_or(0, |last| last.index() + 1)
    }
}

impl<R: AsyncRuntime, D: Disk> RaftLogStorage<TypeConfig<R>> for LogStore<R, D> {
    type LogReader = LogReader<D>;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig<R>>, io::Error> {
        let state = self.reader.shared.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogReader<D> {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &VoteGiven) -> Result<(), io::Error> {
        let shared = &*self.reader.shared;
        shared.check()?;
        let commit = {
            let mut state = shared.state();
            if let Some(before) = state.vote
                && !matches!(before.partial_cmp(vote), Some(Cmp::Less | Cmp::Equal))
            {
                return Err(
                    OrderError::Vote { from: before.to_string(), to: vote.to_string() }.into()
                );
            }
            state.vote = Some(*vote);
            let value = encode_vote(vote);
            shared.disk.commit(Batch::new().with(Op::PutMeta { key: Meta::Vote, value }))
        };
        commit.await.map_err(|error| shared.fault(error))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let shared = &*self.reader.shared;
        let mut state = shared.state();
        if committed < state.committed {
            let text = |id: Option<LogId>| id.map_or("none".to_string(), |id| id.to_string());
            let (from, to) = (text(state.committed), text(committed));
            return Err(OrderError::Committed { from, to }.into());
        }
        state.committed = committed;
        if let Some(committed) = committed {
            let value = encode_log_id(&committed);
            let batch = Batch::new().with(Op::PutMeta { key: Meta::Committed, value });
            // A hint that saves time at start: it needs no fsync and nobody waits for it.
            drop(shared.disk.commit(batch.lazily()));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.reader.shared.state().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig<R>>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (batch, next) = self.stage(entries)?;
        self.flush(batch, next, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let shared = &*self.reader.shared;
        shared.check()?;
        let index = last.map_or(0, |last| last.index() + 1);
        let commit = {
            let mut state = shared.state();
            let kept = state.committed.max(state.purged).map(|id| id.index());
            if let Some(committed) = kept.filter(|kept| *kept >= index) {
                return Err(OrderError::Truncate { index, committed }.into());
            }
            state.last = state.last.min(last);
            state.cache.truncate_from(index);
            shared.disk.commit(Batch::new().with(Op::TruncateLogFrom { index }))
        };
        commit.await.map_err(|error| shared.fault(error))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let (batch, next) = {
            let mut state = self.reader.shared.state();
            if Some(log_id) <= state.purged {
                return Ok(());
            }
            state.purged = Some(log_id);
            state.last = state.last.max(Some(log_id));
            state.begin = log_id.index() + 1;
            state.cache.purge_through(log_id.index());
            let bytes = encode_log_id(&log_id);
            let purge = Op::PurgeLogThrough { index: log_id.index(), log_id: bytes };
            (Batch::new().with(purge), log_id.index() + 1)
        };
        // Nobody needs it to be durable; what follows lies behind it in the disk's order.
        self.flush(batch, next, IOFlushed::noop()).await
    }
}

impl<D: Disk> LogReader<D> {
    /// Entries of a range, those there are; stops behind `max_bytes`, but returns at least one.
    fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<RaftEntry>, io::Error> {
        let (range, cached_from, cached) = {
            let state = self.shared.state();
            let start = range.start.max(state.begin);
            let range = start..range.end.min(state.next()).max(start);
            let from = state.cache.first().clamp(range.start, range.end);
            let cached: Vec<_> = state.cache.range(from..range.end).cloned().collect();
            (range, from, cached)
        };
        let mut entries = Vec::new();
        if range.start < cached_from {
            let database = self.shared.disk.database();
            let found = database.log(range.start..cached_from, max_bytes);
            // Named as the reason, so that a file closed for want of room is waited for.
            for (index, record) in found.map_err(|error| self.shared.fault(error))? {
                let entry = decode_entry(index, &record).map_err(|e| e.at("log", index))?;
                entries.push(entry);
            }
        }
        let mut next =
            entries.last().map_or(range.start, |entry: &RaftEntry| entry.log_id.index() + 1);
        let mut bytes: usize = entries.iter().map(cost).sum();
        for entry in cached {
            if bytes >= max_bytes && !entries.is_empty() {
                break;
            }
            if entry.log_id.index() != next {
                break;
            }
            next += 1;
            bytes += cost(&entry);
            entries.push(entry);
        }
        let whole = next == range.end || bytes >= max_bytes;
        if whole { Ok(entries) } else { Err(StorageError::LogMissing { index: next }.into()) }
    }
}

impl<R: AsyncRuntime, D: Disk> RaftLogReader<TypeConfig<R>> for LogReader<D> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(half_open(&range), usize::MAX)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start..end, READ_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteGiven>, io::Error> {
        Ok(self.shared.state().vote)
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
