//! The door to the replicated log: propose, watch, shut down.
//!
//! A supervisor task watches openraft. When a full disk has stopped it, the supervisor waits for
//! room and starts it again inside the process; the machine keeps its state. Any other failure is
//! for good and surfaces as a text in [`Health`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use clock::Duration;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::raft::{ClientWriteResult, FlushPoint};
use openraft::{Raft, RaftMetrics};
use openraft_rt::{AsyncRuntime, Select2, Select3, WatchReceiver, WatchSender};

use super::log::{Fault, LogStore};
use super::machine::Machine;
use super::marks::Marks;
use super::network::{Members, Nobody, PeerNetwork};
use super::serve::Incoming;
use super::settings::{COMMAND_MAX_BYTES, LOW_SPACE_BYTES, Settings};
use super::state_machine::{Shared, StateMachine};
use super::transfer::Transfer;
use super::types::{Payload, Responder, TypeConfig};
use crate::disk::Disk;
use crate::runtime::{OnceRx, WatchRx, WatchTx, once, watched};
use crate::storage::{Batch, Op, StorageError};

/// How often to look whether the storage has stopped; the second time openraft should know.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type RaftOf<R, D, M> = Raft<TypeConfig<R>, StateMachine<R, D, M>>;
type Metrics<R> = RaftMetrics<TypeConfig<R>>;

/// Why consensus could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// The disk refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// openraft refused: its text.
    #[error("consensus: {text}")]
    Raft {
        /// What openraft said.
        text: String,
    },
}

/// What became of a proposal that was not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads; nothing was written.
    #[error("not the leader")]
    NotLeader {
        /// Raft id of the leader.
        leader: u64,
    },
    /// Nobody leads, or the leader has not yet heard from a quorum; nothing was written. Retry.
    #[error("no quorum")]
    NoQuorum,
    /// The disk is (nearly) full; nothing was written.
    #[error("disk full: writes are refused until there is room")]
    Full,
    /// The command is too large; nothing was written.
    #[error("command of {bytes} bytes, {limit} at most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Consensus has stopped; nothing was written.
    #[error("stopped: {text}")]
    Stopped {
        /// Why.
        text: String,
    },
    /// The proposal was taken, but its fate is not known: it may be decided, now or later. Who
    /// proposes it again must make it recognisable.
    #[error("outcome unknown")]
    Unknown,
}

/// Whether consensus works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It works (see [`Health::leader`] for whether it can decide).
    Running,
    /// The disk is full; it starts again by itself when there is room.
    Full,
    /// It has stopped for good.
    Stopped {
        /// Why, for the operator.
        text: String,
    },
}

/// Where consensus stands; watched, so intermediate values may be missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it works.
    pub standing: Standing,
    /// Raft id of this node.
    pub id: u64,
    /// Raft id of the current leader, if this node knows one.
    pub leader: Option<u64>,
    /// Current term.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log: Option<u64>,
    /// Index of the last entry applied.
    pub applied: Option<u64>,
    /// Index up to which the last snapshot reaches.
    pub snapshot: Option<u64>,
    /// A snapshot is on its way to this node.
    pub receiving: Option<Transfer>,
}

/// The replicated log of this node. A value is a handle; clones share it.
///
/// When the last one is dropped its tasks end, without waiting for what is under way;
/// [`Consensus::shutdown`] waits.
pub struct Consensus<R: AsyncRuntime, D: Disk, M: Machine> {
    pub(super) inner: Arc<Inner<R, D, M>>,
    end: Arc<End<R>>,
}

/// Tells the supervisor to end, at the latest when the last handle is gone. Behind a lock since
/// the trait does not promise that a sender may be shared.
struct End<R: AsyncRuntime>(Mutex<WatchTx<R, bool>>);

impl<R: AsyncRuntime> End<R> {
    fn tell(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(true).ok();
    }
}

impl<R: AsyncRuntime> Drop for End<R> {
    fn drop(&mut self) {
        self.tell();
    }
}

pub(super) struct Inner<R: AsyncRuntime, D: Disk, M: Machine> {
    pub(super) disk: D,
    machine: M,
    settings: Settings,
    members: Arc<dyn Members>,
    pub(super) shared: Arc<Shared<R>>,
    /// The snapshot that is coming from the leader.
    incoming: Mutex<Option<Incoming>>,
    /// `None` while a full disk keeps it from running, and after the end.
    raft: RwLock<Option<RaftOf<R, D, M>>>,
    /// When it last stood still, nobody else voted.
    pub(super) was_alone: AtomicBool,
    // As for `End`.
    health: Mutex<WatchTx<R, Health>>,
    watch: WatchRx<R, Health>,
}

impl<R: AsyncRuntime, D: Disk, M: Machine> Clone for Consensus<R, D, M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), end: Arc::clone(&self.end) }
    }
}

/// A proposal under way: resolves with the machine's reply.
///
/// Dropping it does not withdraw the proposal.
pub struct Pending<R: AsyncRuntime> {
    answer: OnceRx<R, ClientWriteResult<TypeConfig<R>>>,
}

impl<R: AsyncRuntime> Future for Pending<R> {
    type Output = Result<Bytes, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| match answer {
            Ok(Ok(response)) => Ok(response.data.0),
            Ok(Err(error)) => Err(refusal::<R>(&error)),
            Err(_) => Err(ProposeError::Unknown),
        })
    }
}

fn refusal<R: AsyncRuntime>(error: &ClientWriteError<TypeConfig<R>>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id: Some(leader), .. }) => {
            ProposeError::NotLeader { leader: *leader }
        }
        ClientWriteError::ForwardToLeader(_) => ProposeError::NoQuorum,
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => ProposeError::Unknown,
    }
}

impl<R: AsyncRuntime, D: Disk, M: Machine> Consensus<R, D, M> {
    /// Starts consensus on a disk: restores the machine, founds a cluster of one on an empty disk,
    /// and, as the sole voter, stands for election at once.
    ///
    /// Returns when the machine is restored; [`Consensus::health`] tells when there is a leader. On
    /// a full disk it returns at once, standing [`Standing::Full`], and starts when there is room.
    ///
    /// Errors: a disk that cannot be read, or a snapshot the machine refuses.
    pub async fn start(disk: D, machine: M, settings: Settings) -> Result<Self, ConsensusError> {
        Self::start_among(Arc::new(Nobody), disk, machine, settings).await
    }

    /// The same as one of several members.
    pub(crate) async fn start_among(
        members: Arc<dyn Members>,
        disk: D,
        machine: M,
        settings: Settings,
    ) -> Result<Self, ConsensusError> {
        let shared = Arc::new(Shared::load(&disk)?);
        let idle = Health {
            standing: Standing::Running,
            id: settings.raft_id,
            leader: None,
            term: 0,
            last_log: None,
            applied: None,
            snapshot: None,
            receiving: None,
        };
        let (health, watch) = watched::<R, _>(idle);
        let (end, ending) = watched::<R, _>(false);
        let (health, end) = (Mutex::new(health), Arc::new(End(Mutex::new(end))));
        let raft = RwLock::new(None);
        let inner = Inner {
            disk,
            machine,
            settings,
            members,
            shared,
            incoming: Mutex::new(None),
            raft,
            was_alone: AtomicBool::new(false),
            health,
            watch,
        };
        let consensus = Self { inner: Arc::new(inner), end };
        let run = match consensus.inner.launch().await {
            Ok(run) => Some(run),
            Err(ConsensusError::Storage(StorageError::Full)) => {
                consensus.inner.stand(Standing::Full);
                None
            }
            Err(error) => return Err(error),
        };
        drop(R::spawn(supervise(Arc::clone(&consensus.inner), run, ending)));
        Ok(consensus)
    }

    /// Hands a command to the log; returns once it is queued there, so that many are under way.
    ///
    /// Commands submitted one after the other by one task are appended in that order.
    ///
    /// Errors: see [`ProposeError`]; from here nothing was written, except for `Unknown`.
    pub async fn submit(&self, command: Bytes) -> Result<Pending<R>, ProposeError> {
        let (bytes, limit) = (command.len(), COMMAND_MAX_BYTES);
        if bytes > limit {
            return Err(ProposeError::TooLarge { bytes, limit });
        }
        if !self.has_room() {
            return Err(ProposeError::Full);
        }
        let raft = self.inner.raft().ok_or_else(|| self.refusal())?;
        let (respond, answer) = once::<R, _>();
        raft.client_write_ff(Payload(command), Some(Responder::new(respond)))
            .await
            .map_err(|_| self.refusal())?;
        Ok(Pending { answer })
    }

    /// Hands a command to the log and awaits its reply: see [`Consensus::submit`].
    pub async fn propose(&self, command: Bytes) -> Result<Bytes, ProposeError> {
        self.submit(command).await?.await
    }

    /// Whether the disk has room for commands; without, [`Consensus::submit`] refuses them.
    pub fn has_room(&self) -> bool {
        self.inner.disk.free_bytes().is_none_or(|free| free >= LOW_SPACE_BYTES)
    }

    /// Where consensus stands, to be watched.
    pub fn health(&self) -> WatchRx<R, Health> {
        self.inner.watch.clone()
    }

    /// Where consensus stands now.
    pub fn status(&self) -> Health {
        self.inner.watch.borrow_watched().clone()
    }

    /// Asks for a snapshot now; it is written in the background.
    pub async fn snapshot(&self) {
        if let Some(raft) = self.inner.raft()
            && raft.trigger().snapshot().await.is_err()
        {
            tracing::debug!("no snapshot: consensus has stopped");
        }
    }

    /// Ends it: what was taken is on disk, what is under way may stay unknown to its proposer.
    pub async fn shutdown(&self) {
        let raft = self.inner.take_raft();
        self.end.tell();
        if let Some(raft) = raft {
            raft.shutdown().await.ok();
        }
        // Behind everything submitted so far; lazy batches become durable with it.
        self.inner.disk.commit(Batch::new()).await.ok();
        self.inner.stand(Standing::Stopped { text: "shut down".to_string() });
    }

    /// Why nothing can be proposed.
    fn refusal(&self) -> ProposeError {
        match &self.inner.watch.borrow_watched().standing {
            Standing::Stopped { text } => ProposeError::Stopped { text: text.clone() },
            Standing::Full => ProposeError::Full,
            // It has failed a moment ago; the supervisor is about to say how.
            Standing::Running => ProposeError::NoQuorum,
        }
    }
}

type Flushed<R> = Box<dyn Fn() -> Option<FlushPoint<TypeConfig<R>>> + Send + Sync>;

/// One run of openraft.
struct Run<R: AsyncRuntime> {
    fault: Fault,
    metrics: <R::Watch as openraft_rt::Watch>::Receiver<Metrics<R>>,
    /// What the log has on the disk, as openraft believes.
    flushed: Flushed<R>,
    marks: Marks<R>,
}

impl<R: AsyncRuntime, D: Disk, M: Machine> Inner<R, D, M> {
    pub(super) fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn raft(&self) -> Option<RaftOf<R, D, M>> {
        self.raft.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_raft(&self) -> Option<RaftOf<R, D, M>> {
        let raft = self.raft.write().unwrap_or_else(PoisonError::into_inner).take()?;
        let alone = raft.voter_ids().eq([self.settings.raft_id]);
        self.was_alone.store(alone, Ordering::Relaxed);
        Some(raft)
    }

    /// Changes what is watched; the closure says whether it did.
    fn publish(&self, change: impl FnOnce(&mut Health) -> bool) {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.send_if_modified(change);
    }

    fn stand(&self, standing: Standing) {
        self.publish(|health| {
            let changed = health.standing != standing;
            if standing != Standing::Running {
                health.leader = None;
            }
            health.standing = standing;
            changed
        });
    }

    /// Starts openraft on what the disk holds.
    async fn launch(&self) -> Result<Run<R>, ConsensusError> {
        self.shared.close_unfinished();
        *self.incoming() = None;
        self.show_incoming(None);
        // A barrier: what an earlier run submitted is decided before anything is read.
        self.disk.commit(Batch::new()).await?;
        let keep = self.shared.reload(&self.disk)?;
        // The pieces of a snapshot that was never finished go.
        let sweep = Batch::new().with(Op::DropSnapshotsExcept { keep: keep.into_iter().collect() });
        self.disk.commit(sweep).await?;
        let fault = Fault::default();
        let growth = Arc::clone(&self.shared.growth);
        let (disk, cache) = (self.disk.clone(), self.settings.cache_bytes);
        let log = LogStore::open(disk.clone(), cache, Arc::clone(&fault), growth)?;
        let run = self.shared.take_over().await;
        let mut state_machine = StateMachine {
            shared: Arc::clone(&self.shared),
            machine: self.machine.clone(),
            disk,
            fault: Arc::clone(&fault),
            run,
        };
        let refused = |error: &dyn core::fmt::Display| match fault.get() {
            Some(fault) => ConsensusError::Storage(fault.clone()),
            None => ConsensusError::Raft { text: error.to_string() },
        };
        let id = self.settings.raft_id;
        let config = self.settings.config().map_err(|e| refused(&e))?;
        state_machine.cover_gap(log.last()).await.map_err(|e| refused(&e))?;
        let network = PeerNetwork::new(Arc::clone(&self.members), self.shared.pins.clone());
        let raft: RaftOf<R, D, M> =
            Raft::new(id, config, network, log, state_machine).await.map_err(|e| refused(&e))?;
        if !raft.is_initialized().await.map_err(|e| refused(&e))? {
            // Whoever was admitted waits for the leader; founders all begin with the same members.
            let founders = &self.settings.founders;
            let founders: BTreeMap<u64, ()> = founders.iter().map(|id| (*id, ())).collect();
            if founders.contains_key(&id) {
                raft.initialize(founders).await.map_err(|e| refused(&e))?;
            }
        } else if raft.voter_ids().eq([id]) {
            // Nobody else could object: no need to wait for an election timeout.
            raft.trigger().elect(false).await.map_err(|e| refused(&e))?;
        }
        let (metrics, progress) = (raft.metrics(), raft.watch_log_progress());
        let flushed: Flushed<R> = Box::new(move || progress.get());
        *self.raft.write().unwrap_or_else(PoisonError::into_inner) = Some(raft);
        self.stand(Standing::Running);
        let marks = Marks::new();
        Ok(Run { fault: Arc::clone(&fault), metrics, flushed, marks })
    }

    /// Tells how far a snapshot from the leader is.
    pub(super) fn show_incoming(&self, transfer: Option<Transfer>) {
        self.publish(|health| {
            let changed = health.receiving != transfer;
            health.receiving = transfer;
            changed
        });
    }

    /// Publishes what openraft reports; the text of its failure, if it has failed.
    fn observe(&self, run: &mut Run<R>) -> Option<String> {
        let flushed = (run.flushed)();
        let metrics = run.metrics.borrow_and_update();
        self.publish(|health| {
            let now = Health {
                standing: health.standing.clone(),
                id: health.id,
                leader: metrics.current_leader,
                term: metrics.current_term,
                last_log: metrics.last_log_index,
                applied: metrics.last_applied.map(|id| id.index()),
                snapshot: metrics.snapshot.map(|id| id.index()),
                receiving: health.receiving,
            };
            let changed = *health != now;
            *health = now;
            changed
        });
        let failed = metrics.running_state.as_ref().err().map(ToString::to_string);
        failed.or_else(|| run.marks.rise(&metrics, flushed).err())
    }

    /// Asks for a snapshot when the log has grown by so many bytes.
    async fn bound_the_log(&self) {
        let growth = &self.shared.growth;
        if growth.load(Ordering::Relaxed) < self.settings.snapshot_bytes {
            return;
        }
        growth.store(0, Ordering::Relaxed);
        if let Some(raft) = self.raft() {
            raft.trigger().snapshot().await.ok();
        }
    }

    /// Waits for room on a full disk and starts again. The failure, if it is another one.
    async fn revive(&self) -> Result<Run<R>, ConsensusError> {
        loop {
            R::sleep(self.settings.full_retry).await;
            if self.disk.free_bytes().is_some_and(|free| free < LOW_SPACE_BYTES) {
                continue;
            }
            match self.launch().await {
                Err(ConsensusError::Storage(StorageError::Full)) => {
                    if let Some(raft) = self.take_raft() {
                        raft.shutdown().await.ok();
                    }
                }
                other => return other,
            }
        }
    }
}

/// How one run of openraft ended.
enum Ended {
    /// It was told to.
    Told,
    /// The disk is full.
    Full,
    /// For good, with this text.
    Failed(String),
}

/// Watches openraft, and starts it again after a full disk, until the end.
async fn supervise<R: AsyncRuntime, D: Disk, M: Machine>(
    inner: Arc<Inner<R, D, M>>,
    mut run: Option<Run<R>>,
    mut ending: WatchRx<R, bool>,
) {
    loop {
        let ended = match run.take() {
            Some(run) => watch_over(&*inner, run, &mut ending).await,
            None => match R::select2(ending.changed(), inner.revive()).await {
                Select2::First(_) => Ended::Told,
                Select2::Second(Ok(revived)) => {
                    tracing::info!("there is room again: writes are accepted");
                    run = Some(revived);
                    continue;
                }
                Select2::Second(Err(error)) => Ended::Failed(error.to_string()),
            },
        };
        if let Some(raft) = inner.take_raft() {
            raft.shutdown().await.ok();
        }
        match ended {
            Ended::Told => return,
            Ended::Full => {
                tracing::warn!("disk full: writes are refused until there is room");
                inner.stand(Standing::Full);
            }
            Ended::Failed(text) => {
                tracing::error!(reason = %text, "consensus stopped");
                inner.stand(Standing::Stopped { text });
                return;
            }
        }
    }
}

/// Publishes what openraft reports and keeps the log short, until the run ends.
async fn watch_over<R: AsyncRuntime, D: Disk, M: Machine>(
    inner: &Inner<R, D, M>,
    mut run: Run<R>,
    ending: &mut WatchRx<R, bool>,
) -> Ended {
    let mut look = Box::pin(R::sleep(LOOK_EVERY));
    let mut is_doubtful = false;
    loop {
        let failed = inner.observe(&mut run);
        if *ending.borrow_watched() {
            return Ended::Told;
        }
        if let Some(text) = failed {
            return match run.fault.get() {
                Some(StorageError::Full) => Ended::Full,
                Some(fault) => Ended::Failed(fault.to_string()),
                None => Ended::Failed(text),
            };
        }
        inner.bound_the_log().await;
        match R::select3(ending.changed(), run.metrics.changed(), look.as_mut()).await {
            Select3::First(_) => return Ended::Told,
            Select3::Second(Ok(())) => {}
            Select3::Second(Err(_)) => return Ended::Failed("ended without a reason".to_string()),
            Select3::Third(()) => {
                // openraft hears of its own writes alone, and of those at once; a piece of a
                // snapshot may be the one that failed.
                let failure = inner.disk.database().stopped();
                if let (true, Some(failure)) = (is_doubtful, failure) {
                    return Ended::Failed(failure.to_string());
                }
                is_doubtful = failure.is_some();
                look = Box::pin(R::sleep(LOOK_EVERY));
            }
        }
    }
}
