//! Real consensus on the real storage engine, on simulated ground: power cuts under load.

use std::time::Duration;

use bytes::Bytes;
use host::raft::machine::StoredChunks;
use host::raft::{Chunks, Consensus, Content, Entry, Machine, MachineError, Outcome, Settings};
use sabotage::Bug;

use super::*;
use crate::clocks::virtual_now;
use crate::disk::{Disk, Speed};
use crate::runtime::{machine_room, sleep_virtual};

/// A machine that remembers every command with its place in the log.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<(u64, Bytes)>>>);

struct Pieces(std::vec::IntoIter<Bytes>);

impl Chunks for Pieces {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}

impl Machine for Tape {
    type Snapshot = Pieces;

    async fn apply(&self, entries: Vec<Entry>) -> Result<Outcome, MachineError> {
        let mut outcome = Outcome::default();
        for entry in entries {
            outcome.replies.push(Bytes::new());
            if let Content::Command(command) = entry.content {
                held(&self.0).push((entry.index, command));
            }
        }
        Ok(outcome)
    }

    async fn snapshot(&self) -> Result<Pieces, MachineError> {
        let encode = |(index, command): &(u64, Bytes)| {
            Bytes::from([&index.to_le_bytes()[..], command].concat())
        };
        let pieces: Vec<Bytes> = held(&self.0).iter().map(encode).collect();
        Ok(Pieces(pieces.into_iter()))
    }

    async fn restore(&self, chunks: StoredChunks) -> Result<(), MachineError> {
        let mut tape = Vec::new();
        for chunk in chunks {
            let chunk = chunk.map_err(|error| MachineError { text: error.to_string() })?;
            let (index, command) = chunk.split_at(8);
            let index = u64::from_le_bytes(index.try_into().unwrap());
            tape.push((index, Bytes::copy_from_slice(command)));
        }
        *held(&self.0) = tape;
        Ok(())
    }
}

type Log = Consensus<MadsimRuntime, Store, Tape>;

/// What the world saw of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct History {
    acknowledged: Vec<(u64, Bytes)>,
    final_log: Vec<(u64, Bytes)>,
    boots: u32,
    ended_at: Duration,
}

/// Proposes one command after the other, for as long as the node lives.
async fn propose(log: Log, boot: u32, history: Arc<Mutex<History>>) {
    for number in 0_u32.. {
        let command = Bytes::from(format!("boot {boot} command {number}"));
        match log.propose(command.clone()).await {
            Ok(_) => held(&history).acknowledged.push((0, command)),
            Err(_) => sleep_virtual(Duration::from_millis(20)).await,
        }
    }
}

/// One node, five power cuts, a quiet end. Everything a seed decides.
fn power_cuts(seed: u64) -> History {
    machine_room(seed).block_on(async move {
        let handle = madsim::runtime::Handle::current();
        let node = handle.create_node().build();
        let disk = Disk::new(Seed(seed), "n1", Speed::default());
        let history = Arc::new(Mutex::new(History::default()));
        let mut when = Seed(seed).stream("when");
        for boot in 0..=5 {
            let tape = Tape::default();
            let settings =
                Settings { snapshot_entries: 50, keep_entries: 10, ..Settings::default() };
            let (disk_of_node, machine, out) = (disk.clone(), tape.clone(), Arc::clone(&history));
            let node_now = handle.get_node(node.id()).unwrap();
            node_now.spawn(async move {
                let store = Store::open(disk_of_node, None).await.unwrap();
                let log = Log::start(store, machine, settings).await.unwrap();
                held(&out).boots += 1;
                if boot < 5 {
                    propose(log, boot, out).await;
                } else {
                    // The last boot only restores, until the end of the run.
                    std::future::pending::<()>().await;
                    drop(log);
                }
            });
            if boot == 5 {
                sleep_virtual(Duration::from_secs(10)).await;
                held(&history).final_log = held(&tape.0).clone();
                break;
            }
            let range = Duration::from_millis(100)..Duration::from_secs(3);
            sleep_virtual(when.between(&range)).await;
            disk.power_cut();
            handle.kill(node.id());
            sleep_virtual(Duration::from_millis(200)).await;
            handle.restart(node.id());
        }
        let mut history = held(&history).clone();
        history.ended_at = virtual_now();
        history
    })
}

fn lost(history: &History) -> usize {
    let kept = |command: &Bytes| history.final_log.iter().any(|(_, kept)| kept == command);
    history.acknowledged.iter().filter(|(_, command)| !kept(command)).count()
}

#[test]
fn no_decided_command_is_lost_to_power_cuts() {
    let mut acknowledged = 0;
    for seed in 0..50 {
        let history = power_cuts(seed);
        assert_eq!(lost(&history), 0, "seed {seed}");
        assert!(history.final_log.is_sorted_by_key(|(index, _)| *index), "seed {seed}");
        acknowledged += history.acknowledged.len();
    }
    assert!(acknowledged > 10_000, "only {acknowledged} commands in 50 runs");
}

#[test]
fn a_store_that_answers_before_the_fsync_is_noticed() {
    let _bug = sabotage::plant(Bug::AckBeforeFsync);
    let noticed = (0..20).filter(|&seed| lost(&power_cuts(seed)) > 0).count();
    assert!(noticed >= 10, "noticed in {noticed} of 20 seeds only");
}

#[test]
fn a_run_repeats_to_the_nanosecond() {
    let (first, second) = (power_cuts(7), power_cuts(7));
    assert_eq!(first, second);
    assert_ne!(first.ended_at, power_cuts(8).ended_at);
}
