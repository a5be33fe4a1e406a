//! Consensus of one voter on a disk in memory that fails as told; openraft's own storage suite.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::RaftLogStorage;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftVote;
use openraft_rt::{AsyncRuntime, WatchReceiver};
use openraft_rt_tokio::TokioRuntime;

use tokio::time::Instant;

use super::log::{Fault, LogStore};
use super::machine::{Content, Entry, StoredChunks};
use super::state_machine::Shared;
use super::types::{CommittedLeaderId, LogId, RaftEntry, VoteGiven};
use super::*;
use crate::disk::Disk;
use crate::storage::torn::{Dice, Fault as DiskFault, TornDisk};
use crate::storage::{Batch, Database, Op, StorageError};

type C = TypeConfig<TokioRuntime>;
type Log = LogStore<TokioRuntime, InlineDisk>;
type Tapes = Consensus<TokioRuntime, InlineDisk, Tape>;

/// Commits on the spot, in the caller's task.
#[derive(Clone)]
struct InlineDisk {
    database: Arc<Database>,
    low: Arc<AtomicBool>,
}

impl InlineDisk {
    fn open(torn: &TornDisk) -> Self {
        let database = Arc::new(Database::open(torn.clone()).unwrap());
        Self { database, low: Arc::default() }
    }
}

impl Disk for InlineDisk {
    type Commit = Ready<Result<(), StorageError>>;

    fn commit(&self, batch: Batch) -> Self::Commit {
        ready(self.database.commit_one(batch))
    }

    fn database(&self) -> &Database {
        &self.database
    }

    fn free_bytes(&self) -> Option<u64> {
        Some(if self.low.load(Ordering::Relaxed) { 0 } else { u64::MAX })
    }
}

/// A machine that remembers every command, answers with its number, and writes it as a row.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<Bytes>>>);

impl Tape {
    fn commands(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().clone()
    }
}

struct TapeView(std::vec::IntoIter<Bytes>);

impl Chunks for TapeView {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}

impl Machine for Tape {
    type Snapshot = TapeView;

    async fn apply(&self, entries: Vec<Entry>) -> Result<Outcome, MachineError> {
        let mut tape = self.0.lock().unwrap();
        let mut outcome = Outcome::default();
        for entry in entries {
            let reply = match entry.content {
                Content::Command(command) if command == "poison" => {
                    return Err(MachineError { text: "upgrade this node".to_string() });
                }
                Content::Command(command) => {
                    tape.push(command.clone());
                    let sequence = tape.len() as u64;
                    outcome.batch.push(Op::PutEventRow { sequence, row: command });
                    Bytes::copy_from_slice(&sequence.to_le_bytes())
                }
                Content::Blank | Content::Members { .. } => Bytes::new(),
            };
            outcome.replies.push(reply);
        }
        Ok(outcome)
    }

    async fn snapshot(&self) -> Result<TapeView, MachineError> {
        Ok(TapeView(self.commands().into_iter()))
    }

    async fn restore(&self, chunks: StoredChunks) -> Result<(), MachineError> {
        let read: Result<Vec<Bytes>, StorageError> = chunks.collect();
        *self.0.lock().unwrap() = read.map_err(|e| MachineError { text: e.to_string() })?;
        Ok(())
    }
}

fn command(number: u64) -> Bytes {
    Bytes::from(format!("command {number}"))
}

fn settings() -> Settings {
    Settings { full_retry: Duration::from_millis(20), ..Settings::default() }
}

async fn start(torn: &TornDisk, settings: Settings) -> (Tapes, Tape, InlineDisk) {
    let (disk, tape) = (InlineDisk::open(torn), Tape::default());
    let consensus = Tapes::start(disk.clone(), tape.clone(), settings).await.unwrap();
    until(&consensus, |health| health.leader == Some(1)).await;
    (consensus, tape, disk)
}

async fn until(consensus: &Tapes, reached: impl Fn(&Health) -> bool) -> Health {
    let mut watch = consensus.health();
    let wait = async {
        loop {
            let health = watch.borrow_and_update().clone();
            if reached(&health) {
                return health;
            }
            watch.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("health within 10 s")
}

async fn propose(consensus: &Tapes, numbers: std::ops::Range<u64>) {
    let mut pending = Vec::new();
    for number in numbers.clone() {
        pending.push((number, consensus.submit(command(number)).await.unwrap()));
    }
    for (number, reply) in pending {
        let expected = (number + 1).to_le_bytes();
        assert_eq!(reply.await.unwrap(), &expected[..], "command {number}");
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    TokioRuntime::run(test)
}

fn open_log(disk: &InlineDisk) -> Log {
    Log::open(disk.clone(), 1 << 20, Fault::default(), Arc::default()).unwrap()
}

struct Builder;

impl StoreBuilder<C, Log, StateMachine<TokioRuntime, InlineDisk, Tape>> for Builder {
    async fn build(
        &self,
    ) -> Result<((), Log, StateMachine<TokioRuntime, InlineDisk, Tape>), openraft::StorageError<C>>
    {
        let disk = InlineDisk::open(&TornDisk::default());
        let shared = Arc::new(Shared::load(&disk).unwrap());
        shared.holes.store(true, Ordering::Relaxed);
        let run = shared.take_over().await;
        let log = open_log(&disk);
        let (machine, fault) = (Tape::default(), Fault::default());
        Ok(((), log, StateMachine { shared, machine, disk, fault, run }))
    }
}

#[test]
fn passes_openraft_s_storage_suite() {
    run(async { Suite::test_all(Builder).await.unwrap() });
}

#[test]
fn ten_thousand_commands_outlive_power_cuts() {
    run(async {
        let torn = TornDisk::default();
        let mut dice = Dice(1);
        for round in 0..5 {
            let (consensus, tape, _) = start(&torn, settings()).await;
            until(&consensus, |health| {
                health.applied.is_some() && health.applied == health.last_log
            })
            .await;
            let expected: Vec<Bytes> = (0..round * 2_000).map(command).collect();
            assert_eq!(tape.commands(), expected, "round {round}");
            propose(&consensus, round * 2_000..(round + 1) * 2_000).await;
            torn.cut();
            // The process is gone; a new one starts on what the disk kept.
            drop(consensus);
            tokio::time::sleep(Duration::from_millis(50)).await;
            torn.reboot(&mut dice);
        }
        let (consensus, tape, disk) = start(&torn, settings()).await;
        until(&consensus, |h| h.applied.is_some() && h.applied == h.last_log).await;
        assert_eq!(tape.commands().len(), 10_000);
        assert_eq!(disk.database().event_bounds().unwrap(), Some((1, 10_000)));
    });
}

#[test]
fn what_was_answered_before_a_power_cut_in_mid_flight_is_there_after_it() {
    run(async {
        let torn = TornDisk::default();
        let mut dice = Dice(5);
        let mut answered: Vec<Bytes> = Vec::new();
        let mut unknown = 0;
        for round in 0..40 {
            let (consensus, tape, _) = start(&torn, settings()).await;
            until(&consensus, |h| h.applied.is_some() && h.applied == h.last_log).await;
            let kept = tape.commands();
            let missing = answered.iter().find(|command| !kept.contains(command));
            assert_eq!(missing, None, "round {round}");
            torn.arm(DiskFault::PowerCut(dice.below(100)));
            let mut pending = Vec::new();
            for number in 0..200 {
                let command = Bytes::from(format!("{round} {number}"));
                match consensus.submit(command.clone()).await {
                    Ok(reply) => pending.push((command, reply)),
                    Err(_) => break,
                }
                // Some alone, some many at once.
                if dice.below(3) == 0 {
                    tokio::task::yield_now().await;
                }
            }
            for (command, reply) in pending {
                match reply.await {
                    Ok(_) => answered.push(command),
                    Err(_) => unknown += 1,
                }
            }
            torn.cut();
            drop(consensus);
            tokio::time::sleep(Duration::from_millis(20)).await;
            torn.reboot(&mut dice);
        }
        assert!(!answered.is_empty() && unknown > 0, "{} and {unknown}", answered.len());
    });
}

#[test]
fn a_sole_voter_leads_within_50_ms() {
    run(async {
        let torn = TornDisk::default();
        let mut best = Duration::MAX;
        // The machine may be busy with other tests: the quickest start tells.
        for _ in 0..5 {
            let disk = InlineDisk::open(&torn);
            let begin = Instant::now();
            let consensus = Tapes::start(disk, Tape::default(), settings()).await.unwrap();
            until(&consensus, |health| health.leader == Some(1)).await;
            consensus.propose(command(0)).await.unwrap();
            best = best.min(begin.elapsed());
            consensus.shutdown().await;
        }
        assert!(best < Duration::from_millis(50), "{best:?}");
    });
}

#[test]
fn snapshots_shorten_the_log_and_a_start_reads_them() {
    run(async {
        let torn = TornDisk::default();
        let small = Settings { snapshot_entries: 100, keep_entries: 10, ..settings() };
        let (consensus, _, disk) = start(&torn, small.clone()).await;
        propose(&consensus, 0..1_000).await;
        let health = until(&consensus, |health| health.snapshot >= Some(900)).await;
        propose(&consensus, 1_000..1_050).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        while disk.database().log_bounds().unwrap().is_some_and(|(first, _)| first < 600) {
            assert!(Instant::now() < deadline, "never purged: {health:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop((consensus, disk));
        tokio::time::sleep(Duration::from_millis(50)).await;
        torn.cut();
        torn.reboot(&mut Dice(3));
        let (consensus, tape, disk) = start(&torn, small).await;
        propose(&consensus, 1_050..1_051).await;
        assert_eq!(tape.commands(), (0..1_051).map(command).collect::<Vec<_>>());
        // Rows of entries that were purged were durable before.
        let rows = disk.database().event_rows(0, usize::MAX).unwrap();
        assert!(rows.iter().map(|(sequence, _)| *sequence).eq(1..=rows.len() as u64));
        assert!(rows.len() >= 1_050, "{} rows", rows.len());
    });
}

#[test]
fn no_snapshot_is_begun_where_there_is_little_room() {
    run(async {
        let small = Settings { snapshot_entries: 20, ..settings() };
        let (consensus, _, disk) = start(&TornDisk::default(), small).await;
        propose(&consensus, 0..10).await;
        disk.low.store(true, Ordering::Relaxed);
        consensus.snapshot().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(consensus.status().snapshot, None);
        disk.low.store(false, Ordering::Relaxed);
        consensus.snapshot().await;
        until(&consensus, |health| health.snapshot.is_some()).await;
    });
}

#[test]
fn the_log_is_bounded_in_bytes_too() {
    run(async {
        let torn = TornDisk::default();
        let few = Settings { snapshot_bytes: 100_000, ..settings() };
        let (consensus, _, _) = start(&torn, few).await;
        for _ in 0..200 {
            consensus.propose(Bytes::from(vec![7; 1_000])).await.unwrap();
        }
        until(&consensus, |health| health.snapshot.is_some()).await;
    });
}

#[test]
fn a_full_disk_refuses_and_recovers_inside_the_process() {
    run(async {
        let torn = TornDisk::default();
        let (consensus, tape, disk) = start(&torn, settings()).await;
        propose(&consensus, 0..10).await;
        // Below the reserve: refused before anything is written.
        disk.low.store(true, Ordering::Relaxed);
        assert_eq!(consensus.propose(command(10)).await, Err(ProposeError::Full));
        disk.low.store(false, Ordering::Relaxed);
        propose(&consensus, 10..11).await;
        // No warning this time: the space gives out under redb.
        torn.arm(DiskFault::Full(0));
        assert_eq!(consensus.propose(command(11)).await, Err(ProposeError::Unknown));
        until(&consensus, |health| health.standing == Standing::Full).await;
        assert!(consensus.is_alone(), "what it knows may be read");
        assert_eq!(consensus.propose(command(11)).await, Err(ProposeError::Full));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(consensus.status().standing, Standing::Full);
        torn.make_room();
        until(&consensus, |h| h.standing == Standing::Running && h.leader == Some(1)).await;
        propose(&consensus, 11..20).await;
        assert_eq!(tape.commands(), (0..20).map(command).collect::<Vec<_>>(), "applied once each");
        let rows = disk.database().event_rows(0, usize::MAX).unwrap();
        assert_eq!(rows.len(), 20, "rows not yet synced when the disk filled up are there again");
    });
}

#[test]
fn it_starts_on_a_full_disk_and_waits_for_room() {
    run(async {
        let torn = TornDisk::default();
        let (consensus, _, disk) = start(&torn, settings()).await;
        propose(&consensus, 0..3).await;
        consensus.shutdown().await;
        torn.arm(DiskFault::Full(0));
        let tape = Tape::default();
        let consensus = Tapes::start(disk, tape.clone(), settings()).await.unwrap();
        assert_eq!(consensus.propose(command(3)).await, Err(ProposeError::Full));
        torn.make_room();
        until(&consensus, |health| health.leader == Some(1)).await;
        propose(&consensus, 3..4).await;
        assert_eq!(tape.commands(), (0..4).map(command).collect::<Vec<_>>());
    });
}

#[test]
fn its_tasks_end_with_the_last_handle() {
    run(async {
        let (consensus, tape, disk) = start(&TornDisk::default(), settings()).await;
        propose(&consensus, 0..3).await;
        let other = consensus.clone();
        drop(consensus);
        propose(&other, 3..4).await;
        drop(other);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Arc::strong_count(&tape.0) > 1 || Arc::strong_count(&disk.database) > 1 {
            assert!(Instant::now() < deadline, "something lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_failed_fsync_stops_it_with_a_clear_text() {
    run(async {
        let torn = TornDisk::default();
        let (consensus, _, _) = start(&torn, settings()).await;
        propose(&consensus, 0..10).await;
        torn.arm(DiskFault::Sync(0));
        assert_eq!(consensus.propose(command(10)).await, Err(ProposeError::Unknown));
        let health =
            until(&consensus, |health| matches!(health.standing, Standing::Stopped { .. })).await;
        let Standing::Stopped { text } = health.standing else { unreachable!() };
        assert!(text.contains("fsync failed") && text.contains("did not answer"), "{text}");
        let refused = consensus.propose(command(10)).await.unwrap_err();
        assert_eq!(refused, ProposeError::Stopped { text });
    });
}

#[test]
fn a_command_the_machine_does_not_know_stops_it() {
    run(async {
        let (consensus, _, _) = start(&TornDisk::default(), settings()).await;
        assert_eq!(
            consensus.propose(Bytes::from_static(b"poison")).await,
            Err(ProposeError::Unknown)
        );
        let health =
            until(&consensus, |health| matches!(health.standing, Standing::Stopped { .. })).await;
        let Standing::Stopped { text } = health.standing else { unreachable!() };
        assert!(text.contains("upgrade this node"), "{text}");
    });
}

#[test]
fn too_large_a_command_and_a_closed_door_are_refused() {
    run(async {
        let (consensus, _, _) = start(&TornDisk::default(), settings()).await;
        let large = Bytes::from(vec![0; 1024 * 1024 + 1]);
        let refused = consensus.propose(large).await.unwrap_err();
        assert_eq!(refused, ProposeError::TooLarge { bytes: 1_048_577, limit: 1_048_576 });
        propose(&consensus, 0..1).await;
        consensus.shutdown().await;
        let refused = consensus.propose(command(1)).await.unwrap_err();
        assert_eq!(refused, ProposeError::Stopped { text: "shut down".to_string() });
    });
}

#[test]
fn the_loop_behind_a_channel_applies_in_order() {
    run(async {
        let (link, mut calls) = machine::link::<TokioRuntime>();
        let tape = Tape::default();
        let owner = tape.clone();
        let node = tokio::spawn(async move {
            use openraft_rt::MpscReceiver;
            let mut served = 0;
            while let Some(call) = calls.recv().await {
                served += 1;
                match call {
                    machine::Call::Apply { entries, answer } => {
                        machine::answer::<TokioRuntime, _>(answer, owner.apply(entries).await);
                    }
                    machine::Call::Snapshot { answer } => {
                        let view = owner.snapshot().await.map(|v| Box::new(v) as Box<dyn Chunks>);
                        machine::answer::<TokioRuntime, _>(answer, view);
                    }
                    machine::Call::Restore { chunks, answer } => {
                        machine::answer::<TokioRuntime, _>(answer, owner.restore(chunks).await);
                    }
                }
            }
            served
        });
        let disk = InlineDisk::open(&TornDisk::default());
        let consensus =
            Consensus::<TokioRuntime, _, _>::start(disk, link, settings()).await.unwrap();
        let mut health = consensus.health();
        while health.borrow_and_update().leader.is_none() {
            health.changed().await.unwrap();
        }
        for number in 0..100 {
            let reply = consensus.propose(command(number)).await.unwrap();
            assert_eq!(reply, &(number + 1).to_le_bytes()[..]);
        }
        consensus.snapshot().await;
        while health.borrow_and_update().snapshot.is_none() {
            health.changed().await.unwrap();
        }
        consensus.shutdown().await;
        drop(consensus);
        assert!(node.await.unwrap() > 3);
        assert_eq!(tape.commands().len(), 100);
    });
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn blank(term: u64, index: u64) -> RaftEntry {
    openraft::Entry { log_id: id(term, index), payload: openraft::EntryPayload::Blank }
}

/// What the others had decided; the disk refused the entry here, and took the hint.
#[test]
fn a_hint_of_what_is_decided_counts_only_as_far_as_the_log_reaches() {
    run(async {
        for (decided, read) in [(id(2, 1), Some(id(2, 1))), (id(2, 2), None), (id(3, 1), None)] {
            let disk = InlineDisk::open(&TornDisk::default());
            let mut log = open_log(&disk);
            let noop = openraft::storage::IOFlushed::<C>::noop();
            log.append([blank(1, 0), blank(2, 1)], noop).await.unwrap();
            log.save_committed(Some(decided)).await.unwrap();
            assert_eq!(open_log(&disk).read_committed().await.unwrap(), read, "{decided}");
        }
    });
}

#[test]
fn writes_out_of_order_are_refused_in_release_too() {
    run(async {
        let disk = InlineDisk::open(&TornDisk::default());
        let mut log = open_log(&disk);
        let noop = openraft::storage::IOFlushed::<C>::noop;
        let vote = |term, node| {
            VoteGiven::from_leader_id(openraft::vote::RaftLeaderId::new(term, node), false)
        };
        log.save_vote(&vote(3, 1)).await.unwrap();
        log.save_vote(&vote(3, 1)).await.unwrap();
        assert!(log.save_vote(&vote(2, 1)).await.is_err());
        assert!(log.save_vote(&vote(3, 2)).await.is_err(), "one vote a term");
        log.append([blank(1, 0), blank(1, 1), blank(2, 2)], noop()).await.unwrap();
        assert!(log.append([blank(2, 2)], noop()).await.is_err());
        assert!(log.append([blank(2, 4)], noop()).await.is_err());
        assert!(log.append([blank(1, 3)], noop()).await.is_err(), "an older term");
        log.save_committed(Some(id(1, 1))).await.unwrap();
        assert!(log.save_committed(Some(id(1, 0))).await.is_err());
        assert!(log.truncate_after(Some(id(1, 0))).await.is_err(), "committed");
        log.truncate_after(Some(id(1, 1))).await.unwrap();
        log.append([blank(3, 2)], noop()).await.unwrap();
        // All of it is what a later start reads.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut again = open_log(&disk);
        let state = again.get_log_state().await.unwrap();
        assert_eq!((state.last_purged_log_id, state.last_log_id), (None, Some(id(3, 2))));
        assert_eq!(again.read_committed().await.unwrap(), Some(id(1, 1)));
        assert!(again.save_vote(&vote(2, 1)).await.is_err());
    });
}

mod transfers;
