//! The real disk under real consensus: order, group commit, restarts, speed.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use host::raft::machine::StoredChunks;
use host::raft::{Chunks, Consensus, Content, Entry, Machine, MachineError, Outcome, Settings};
use host::storage::Op;
use openraft_rt::WatchReceiver;
use openraft_rt_tokio::TokioRuntime;

use super::*;

/// A folder of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tern-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn row(sequence: u64) -> Batch {
    Batch::new().with(Op::PutEventRow { sequence, row: Bytes::from(vec![7; 100]) })
}

#[tokio::test]
async fn batches_are_durable_in_the_order_submitted() {
    let place = Place::new("order");
    let disk = FileDisk::open(&place.0, 0).unwrap();
    let log = |index: u64| {
        let after = index.checked_sub(1);
        Batch::new().with(Op::PutLog { after, index, record: Bytes::from_static(b"x") })
    };
    // Each must follow the one before: any other order is refused.
    let tickets: Vec<Ticket> = (0..10_000).map(|index| disk.commit(log(index))).collect();
    for ticket in tickets.into_iter().rev() {
        ticket.await.unwrap();
    }
    // Submitted, not awaited: still written before the folder is free.
    drop(disk.commit(log(10_000)));
    drop(disk);
    let disk = FileDisk::open(&place.0, 0).unwrap();
    assert_eq!(disk.database().log_bounds().unwrap(), Some((0, 10_000)));
    assert!(matches!(FileDisk::open(&place.0, 0), Err(StorageError::Locked { .. })));
}

#[tokio::test]
async fn a_reserve_is_taken_given_up_and_taken_again() {
    let place = Place::new("reserve");
    let bytes = 1024 * 1024;
    let disk = FileDisk::open(&place.0, bytes).unwrap();
    let free = disk.free_bytes().unwrap();
    let reserve = place.0.join(RESERVE_FILE);
    assert_eq!(fs::metadata(&reserve).unwrap().len(), bytes);
    assert!(free > bytes, "a test machine with next to no space");
    let space = &disk.writer.shared.space;
    assert!(lock(space).give_up_reserve());
    assert!(!lock(space).give_up_reserve(), "only once");
    assert!(!reserve.exists());
    // There is room: the next measurement takes it again.
    disk.free_bytes().unwrap();
    assert!(reserve.exists());
    disk.commit(row(1)).await.unwrap();
}

/// Remembers how many commands it saw, and the last.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<(u64, Bytes)>>);

struct View(Option<Bytes>);

impl Chunks for View {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.take()
    }
}

impl Machine for Counter {
    type Snapshot = View;

    async fn apply(&self, entries: Vec<Entry>) -> Result<Outcome, MachineError> {
        let mut state = self.0.lock().unwrap();
        let mut outcome = Outcome::default();
        for entry in entries {
            outcome.replies.push(if let Content::Command(command) = entry.content {
                state.0 += 1;
                state.1 = command.clone();
                outcome.batch.push(Op::PutEventRow { sequence: state.0, row: command.clone() });
                command
            } else {
                Bytes::new()
            });
        }
        Ok(outcome)
    }

    async fn snapshot(&self) -> Result<View, MachineError> {
        Ok(View(Some(Bytes::copy_from_slice(&self.0.lock().unwrap().0.to_le_bytes()))))
    }

    async fn restore(&self, chunks: StoredChunks) -> Result<(), MachineError> {
        for chunk in chunks {
            let bytes = chunk.map_err(|e| MachineError { text: e.to_string() })?;
            self.0.lock().unwrap().0 = u64::from_le_bytes(bytes[..].try_into().unwrap());
        }
        Ok(())
    }
}

type Counters = Consensus<TokioRuntime, FileDisk, Counter>;

async fn start(place: &Place) -> (Counters, Counter) {
    // The tasks of an earlier run may be about to let go of the folder.
    let disk = loop {
        match FileDisk::open(&place.0, 0) {
            Err(StorageError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            other => break other.unwrap(),
        }
    };
    let counter = Counter::default();
    let consensus = Counters::start(disk, counter.clone(), Settings::default()).await.unwrap();
    let mut health = consensus.health();
    while health.borrow_and_update().leader.is_none() {
        health.changed().await.unwrap();
    }
    (consensus, counter)
}

/// Proposes commands, many under way at once, and awaits them all.
async fn propose(consensus: &Counters, numbers: Range<u64>) {
    let mut pending = VecDeque::new();
    for number in numbers {
        let command =
            Bytes::from(format!("an uplink of about sixty bytes, as small as they come {number}"));
        pending.push_back((command.clone(), consensus.submit(command).await.unwrap()));
        if pending.len() > 2_000
            && let Some((command, reply)) = pending.pop_front()
        {
            assert_eq!(reply.await.unwrap(), command);
        }
    }
    for (command, reply) in pending {
        assert_eq!(reply.await.unwrap(), command);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_proposals_outlive_an_abrupt_end() {
    let place = Place::new("proposals");
    let (consensus, counter) = start(&place).await;
    propose(&consensus, 0..10_000).await;
    assert_eq!(counter.0.lock().unwrap().0, 10_000);
    // No shutdown: its tasks find the door closed, whatever they were doing.
    drop(consensus);
    drop(counter);
    let (consensus, counter) = start(&place).await;
    propose(&consensus, 10_000..10_001).await;
    assert_eq!(counter.0.lock().unwrap().0, 10_001);
    consensus.shutdown().await;
}

/// `cargo test -p server --release -- --ignored --nocapture measure`
#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure_pipelined_proposals() {
    let place = Place::new("measure");
    let begin = Instant::now();
    let (consensus, _) = start(&place).await;
    eprintln!("created and led after {:?}", begin.elapsed());
    propose(&consensus, 0..10_000).await;
    for _ in 0..3 {
        let begin = Instant::now();
        propose(&consensus, 0..100_000).await;
        eprintln!("{:.0} proposals/s", 100_000.0 / begin.elapsed().as_secs_f64());
    }
    let begin = Instant::now();
    for number in 0..1_000 {
        propose(&consensus, number..number + 1).await;
    }
    eprintln!("{:?} for one alone", begin.elapsed() / 1_000);
    // As a killed process leaves it: redb reads the whole file and checks it.
    let killed = Place::new("killed");
    fs::create_dir_all(&killed.0).unwrap();
    let bytes = fs::copy(place.0.join("tern.redb"), killed.0.join("tern.redb")).unwrap();
    let begin = Instant::now();
    drop(Database::open_folder(&killed.0).unwrap());
    eprintln!("a file of {} MiB repaired after {:?}", bytes >> 20, begin.elapsed());
    let begin = Instant::now();
    consensus.shutdown().await;
    drop(consensus);
    let (consensus, counter) = start(&place).await;
    let count = counter.0.lock().unwrap().0;
    eprintln!("down and up again after {:?} with {count}", begin.elapsed());
    consensus.shutdown().await;
}
