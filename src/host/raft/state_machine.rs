//! openraft's state machine: hands entries to the [`Machine`], stores what comes of them.
//!
//! The state lives in memory; on disk are its last snapshot and the log behind it. Event rows are
//! stored lazily: a replay makes them again, and any later fsync, so also the purge of their
//! entries, makes them durable.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clock::Duration;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use openraft_rt::{AsyncRuntime, Instant as _, Mutex as _};

use super::codec::{SnapshotRecord, decode_snapshot, encode_snapshot};
use super::log::{Fault, OrderError};
use super::machine::{Chunks, Content, Entry, Machine, MachineError};
use super::settings::{APPLY_ENTRIES, LOW_SPACE_BYTES};
use super::snapshot::StoredSnapshot;
use super::transfer::{Pin, Pins};
use super::types::{LogId, Members, Payload, RaftEntry, SnapshotMeta, TypeConfig};
use crate::disk::Disk;
use crate::storage::{Batch, Meta, Op, StorageError};

/// How long a snapshot that is due may wait for one that is being sent.
const DEFER_MAX: Duration = Duration::from_secs(600);

/// What stays when consensus is started again inside the process: the machine's state does, too.
pub(crate) struct Shared<R: AsyncRuntime> {
    applied: R::Mutex<Applied>,
    current: Mutex<Option<SnapshotRecord>>,
    generation: AtomicU64,
    /// Generations up to this one that are not current by now never will be.
    closed: AtomicU64,
    /// Those that are built, received, installed or sent.
    pub(crate) pins: Pins,
    /// Since when no snapshot is built because one is being sent.
    deferred: Mutex<Option<R::Instant>>,
    /// Bytes appended since the last snapshot.
    pub(crate) growth: Arc<AtomicU64>,
    /// openraft's own suite leaves out entries.
    #[cfg(test)]
    pub(crate) holes: std::sync::atomic::AtomicBool,
}

struct Applied {
    last: Option<LogId>,
    members: Members,
    /// Which run of consensus may apply: a task of an earlier one may still be under way.
    run: u64,
}

impl<R: AsyncRuntime> Shared<R> {
    /// Reads which snapshot is current.
    pub(crate) fn load(disk: &impl Disk) -> Result<Self, StorageError> {
        let current = current_on(disk)?;
        let generation = current.as_ref().map_or(0, |snapshot| snapshot.generation);
        let applied = Applied { last: None, members: Members::default(), run: 0 };
        Ok(Self {
            applied: R::Mutex::new(applied),
            current: Mutex::new(current),
            generation: AtomicU64::new(generation),
            closed: AtomicU64::new(0),
            pins: Pins::default(),
            deferred: Mutex::new(None),
            growth: Arc::default(),
            #[cfg(test)]
            holes: Default::default(),
        })
    }

    /// Takes the state over from earlier runs; returns the number of the new one.
    pub(crate) async fn take_over(&self) -> u64 {
        let mut applied = self.applied.lock().await;
        applied.run += 1;
        applied.run
    }

    /// Whether an entry is missing between two.
    fn is_hole(&self, last: LogId, next: LogId) -> bool {
        #[cfg(test)]
        if self.holes.load(Ordering::Relaxed) {
            return false;
        }
        next.index() != last.index() + 1
    }

    /// Lets no snapshot become current that is being written now: its run has ended, and its pieces
    /// are about to go.
    pub(crate) fn close_unfinished(&self) {
        let _published = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(self.generation.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes for current what the disk says; returns its generation. A publication that was refused
    /// for want of room may have landed or not: only the disk knows.
    pub(crate) fn reload(&self, disk: &impl Disk) -> Result<Option<u64>, StorageError> {
        let found = current_on(disk)?;
        let generation = found.as_ref().map(|snapshot| snapshot.generation);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(generation)
    }

    fn current(&self) -> Option<SnapshotRecord> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new generation, whose pieces stay until the pin is gone.
    pub(crate) fn begin(&self) -> (u64, Pin) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        (generation, self.pins.hold(generation))
    }

    fn kept(&self, current: u64) -> Vec<u64> {
        core::iter::once(current).chain(self.pins.generations()).collect()
    }

    /// Whether a snapshot had better wait: one is being sent, and the entries behind that one,
    /// which the next would let go, are what its receiver needs then.
    fn defers(&self) -> bool {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.pins.is_sending() {
            *deferred = None;
            return false;
        }
        deferred.get_or_insert_with(R::Instant::now).elapsed() < DEFER_MAX
    }
}

/// The snapshot that the disk holds for current.
fn current_on(disk: &impl Disk) -> Result<Option<SnapshotRecord>, StorageError> {
    let found = disk.database().meta(Meta::Snapshot)?;
    found
        .map(|bytes| decode_snapshot(&bytes).map_err(|error| error.at("meta", "snapshot")))
        .transpose()
}

/// The state machine of one run of consensus.
pub struct StateMachine<R: AsyncRuntime, D, M> {
    pub(crate) shared: Arc<Shared<R>>,
    pub(crate) machine: M,
    pub(crate) disk: D,
    pub(crate) fault: Fault,
    pub(crate) run: u64,
}

impl<R: AsyncRuntime, D: Disk, M: Machine> StateMachine<R, D, M> {
    async fn apply_group(
        &self,
        group: Vec<EntryResponder<TypeConfig<R>>>,
    ) -> Result<(), io::Error> {
        let mut applied = self.shared.applied.lock().await;
        if applied.run != self.run {
            return Err(io::Error::other("superseded by a later run"));
        }
        let mut entries = Vec::with_capacity(group.len());
        let mut responders = Vec::with_capacity(group.len());
        let mut last = applied.last;
        let mut members = None;
        for (entry, responder) in group {
            if let Some(last) = last
                && (self.shared.is_hole(last, entry.log_id) || entry.log_id <= last)
            {
                let (from, to) = (last.to_string(), entry.log_id.to_string());
                return Err(OrderError::Apply { from, to }.into());
            }
            last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                members = Some(Members::new(last, membership.clone()));
            }
            entries.push(plain(entry));
            responders.push(responder);
        }
        let outcome = self.machine.apply(entries).await.map_err(io::Error::other)?;
        // From here to the end nothing waits: machine and record move together.
        if outcome.replies.len() != responders.len() {
            let text = format!("{} replies to {}", outcome.replies.len(), responders.len());
            return Err(io::Error::other(MachineError { text }));
        }
        applied.last = last;
        if let Some(members) = members {
            applied.members = members;
        }
        drop(applied);
        if !outcome.batch.is_empty() {
            // Nobody waits: a failure shows with the next append, behind it in the disk's order.
            drop(self.disk.commit(outcome.batch.lazily()));
        }
        for (reply, responder) in outcome.replies.into_iter().zip(responders) {
            if let Some(responder) = responder {
                responder.send(Payload(reply));
            }
        }
        Ok(())
    }

    /// Puts on the disk, as a snapshot, what the machine has applied beyond the end of the log.
    ///
    /// A full disk may have refused entries that others have decided since, and that the machine
    /// keeps over the new start. openraft closes the gap by purging up to what is applied.
    pub(crate) async fn cover_gap(&mut self, log_end: Option<LogId>) -> Result<(), io::Error> {
        let applied = self.shared.applied.lock().await.last;
        if applied > log_end {
            self.get_snapshot_builder().await.build_snapshot().await?;
        }
        Ok(())
    }

    /// Makes a stored generation the current one, and drops all others.
    async fn publish(&self, record: SnapshotRecord) -> Result<(), io::Error> {
        let value = encode_snapshot(&record);
        let keep = self.shared.kept(record.generation);
        let batch = Batch::new()
            .with(Op::PutMeta { key: Meta::Snapshot, value })
            .with(Op::DropSnapshotsExcept { keep });
        let commit = {
            // One lock over both: the order on disk is the order in memory.
            let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = current
                .as_ref()
                .is_some_and(|current| current.meta.last_log_id > record.meta.last_log_id);
            if newer {
                return Err(io::Error::other("a newer snapshot came first"));
            }
            if record.generation <= self.shared.closed.load(Ordering::Relaxed) {
                return Err(io::Error::other("the run that wrote this snapshot has ended"));
            }
            *current = Some(record);
            self.disk.commit(batch)
        };
        self.settle(commit.await)
    }

    /// Remembers a failed write, and lets the log that shares the disk stop too.
    fn settle(&self, outcome: Result<(), StorageError>) -> Result<(), io::Error> {
        outcome.map_err(|error| {
            self.fault.get_or_init(|| error.clone());
            error.into()
        })
    }

    /// Stores pieces under a new generation.
    async fn store(
        &self,
        mut next: impl FnMut() -> Option<Result<bytes::Bytes, StorageError>> + Send,
    ) -> Result<StoredSnapshot<D>, io::Error> {
        let (generation, pin) = self.shared.begin();
        let (mut chunks, mut size) = (0, 0);
        while let Some(piece) = next() {
            let bytes = self.settle_read(piece)?;
            size += bytes.len() as u64;
            // One at a time: the log's batches pass in between.
            let put = Op::PutSnapshotChunk { generation, chunk: chunks, bytes };
            self.settle(self.disk.commit(Batch::new().with(put)).await)?;
            chunks += 1;
        }
        let (disk, pin) = (self.disk.clone(), Some(Arc::new(pin)));
        Ok(StoredSnapshot { disk, generation, chunks, bytes: size, pin })
    }

    fn settle_read<T>(&self, read: Result<T, StorageError>) -> Result<T, io::Error> {
        read.map_err(|error| {
            self.fault.get_or_init(|| error.clone());
            error.into()
        })
    }

    fn clone_for_builder(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            machine: self.machine.clone(),
            disk: self.disk.clone(),
            fault: Arc::clone(&self.fault),
            run: self.run,
        }
    }
}

fn plain(entry: RaftEntry) -> Entry {
    let content = match entry.payload {
        EntryPayload::Blank => Content::Blank,
        EntryPayload::Normal(Payload(command)) => Content::Command(command),
        EntryPayload::Membership(members) => Content::Members {
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
        },
    };
    Entry { index: entry.log_id.index(), term: entry.log_id.committed_leader_id().term, content }
}

impl<R: AsyncRuntime, D: Disk, M: Machine> RaftStateMachine<TypeConfig<R>>
    for StateMachine<R, D, M>
{
    type SnapshotData = StoredSnapshot<D>;
    type SnapshotBuilder = SnapshotBuilder<R, D, M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Members), io::Error> {
        let applied = self.shared.applied.lock().await;
        Ok((applied.last, applied.members.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig<R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut groups = entries.ready_chunks(APPLY_ENTRIES);
        while let Some(group) = groups.next().await {
            self.apply_group(group.into_iter().collect::<Result<_, _>>()?).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(
        &mut self,
        force: bool,
    ) -> Option<SnapshotBuilder<R, D, M>> {
        // A snapshot that runs out of space stops consensus; the log can wait for a better moment.
        let needed = LOW_SPACE_BYTES + self.shared.current().map_or(0, |current| current.bytes);
        if !force && self.disk.free_bytes().is_some_and(|free| free < needed) {
            return None;
        }
        if !force && self.shared.defers() {
            tracing::debug!("no snapshot is made while one is being sent");
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<R, D, M> {
        let applied = self.shared.applied.lock().await;
        // Under the lock: the view is that of the last entry applied.
        let view = self.machine.snapshot().await;
        let meta =
            SnapshotMeta { last_log_id: applied.last, last_membership: applied.members.clone() };
        drop(applied);
        self.shared.growth.store(0, Ordering::Relaxed);
        SnapshotBuilder { state_machine: self.clone_for_builder(), view: Some(view), meta }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: StoredSnapshot<D>,
    ) -> Result<(), io::Error> {
        let back = self.shared.applied.lock().await.last.filter(|at| Some(*at) > meta.last_log_id);
        if let Some(last) = back {
            let to = meta.last_log_id.map_or_else(|| "nothing".to_string(), |to| to.to_string());
            return Err(OrderError::Install { from: last.to_string(), to }.into());
        }
        let current = self.shared.current();
        let own = snapshot.is_on(&self.disk)
            && current.as_ref().is_some_and(|own| own.generation == snapshot.generation);
        let mut stored = snapshot;
        if !stored.is_on(&self.disk) {
            let mut pieces = stored.read();
            stored = self.store(|| pieces.next()).await?;
        }
        if !own {
            let (generation, chunks, bytes) = (stored.generation, stored.chunks, stored.bytes);
            let meta = meta.clone();
            self.publish(SnapshotRecord { generation, chunks, bytes, meta }).await?;
        }
        let mut applied = self.shared.applied.lock().await;
        self.machine.restore(stored.read()).await.map_err(io::Error::other)?;
        applied.last = meta.last_log_id;
        applied.members = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig<R>, StoredSnapshot<D>>>, io::Error> {
        Ok(self.shared.current().map(|record| Snapshot {
            meta: record.meta,
            snapshot: StoredSnapshot {
                disk: self.disk.clone(),
                generation: record.generation,
                chunks: record.chunks,
                bytes: record.bytes,
                pin: Some(Arc::new(self.shared.pins.hold_for_sending(record.generation))),
            },
        }))
    }
}

/// Writes one frozen view of the state to the disk, beside everything else that goes on.
pub struct SnapshotBuilder<R: AsyncRuntime, D, M: Machine> {
    state_machine: StateMachine<R, D, M>,
    view: Option<Result<M::Snapshot, MachineError>>,
    meta: SnapshotMeta,
}

impl<R: AsyncRuntime, D: Disk, M: Machine> RaftSnapshotBuilder<TypeConfig<R>>
    for SnapshotBuilder<R, D, M>
{
    type SnapshotData = StoredSnapshot<D>;

    async fn build_snapshot(
        &mut self,
    ) -> Result<SnapshotOf<TypeConfig<R>, StoredSnapshot<D>>, io::Error> {
        let Some(view) = self.view.take() else {
            return Err(io::Error::other("a view is written once"));
        };
        let mut view = view.map_err(io::Error::other)?;
        let snapshot = self.state_machine.store(|| view.next_chunk().map(Ok)).await?;
        let StoredSnapshot { generation, chunks, bytes, .. } = snapshot;
        let meta = self.meta.clone();
        let record = SnapshotRecord { generation, chunks, bytes, meta: meta.clone() };
        self.state_machine.publish(record).await?;
        Ok(Snapshot { meta, snapshot })
    }
}
