//! What is missing, across jumps, pieces, crashes and full disks.

use std::future::{Ready, ready};
use std::sync::Arc;

use openraft_rt::AsyncRuntime;
use openraft_rt_tokio::TokioRuntime;

use super::*;
use crate::storage::Database;
use crate::storage::torn::{Dice, Fault as DiskFault, TornDisk};

type OnDisk = Ledger<TokioRuntime, Inline>;

#[derive(Clone)]
struct Inline(Arc<Database>);

impl Inline {
    fn open(torn: &TornDisk) -> Self {
        Self(Arc::new(Database::open(torn.clone()).unwrap()))
    }

    fn put(&self, rows: std::ops::Range<u64>) {
        let put = |sequence| Op::PutEventRow { sequence, row: Bytes::from_static(b"row") };
        self.0.commit_one(rows.map(put).collect::<Batch>().lazily()).unwrap();
    }
}

impl Disk for Inline {
    type Commit = Ready<Result<(), StorageError>>;

    fn commit(&self, batch: Batch) -> Self::Commit {
        ready(self.0.commit_one(batch))
    }

    fn database(&self) -> &Database {
        &self.0
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

fn ledger(disk: &Inline) -> OnDisk {
    OnDisk::load(disk.clone()).unwrap().0
}

fn rows(range: std::ops::Range<u64>) -> Vec<Row> {
    range.map(|sequence| Row { sequence, record: b"row".to_vec() }).collect()
}

/// The jump as [`Ledger::jump`] makes it, for a state that has none but these cursors.
fn jump(ledger: &OnDisk, before: u64, first: u64, next: u64) {
    ledger.jump_to(before, first, next).unwrap();
}

#[test]
fn ranges_are_added_merged_and_taken_away() {
    let mut missing = Missing::default();
    missing.add(5, 10);
    missing.add(10, 12);
    assert_eq!(missing.0, [(5, 12)], "one jump after the other");
    missing.add(20, 30);
    assert_eq!(missing.0, [(20, 30), (5, 12)], "whoever is connected waits for the later");
    assert_eq!(missing.cover(), Some((5, 30)));
    assert_eq!(Missing::decode(&missing.encode()).unwrap().0, [(5, 30)]);
    missing.remove(22, 24);
    missing.remove(0, 6);
    assert_eq!(missing.0, [(20, 22), (24, 30), (6, 12)]);
    missing.remove(6, 12);
    missing.remove(1, 100);
    assert_eq!(missing.cover(), None);
    assert_eq!(Missing::decode(&missing.encode()).unwrap(), missing);
    assert!(Missing::decode(&[2; 17]).is_err() && Missing::decode(&[1; 3]).is_err());
}

#[test]
fn a_node_that_has_all_its_rows_misses_none() {
    let disk = Inline::open(&TornDisk::default());
    disk.put(1..100);
    let ledger = ledger(&disk);
    jump(&ledger, 1, 1, 100);
    jump(&ledger, 1, 1, 60);
    assert_eq!(ledger.ranges(), []);
    assert_eq!(disk.0.meta(Meta::Rows).unwrap(), None, "nothing is written for it");
}

#[test]
fn a_gap_outlives_every_power_cut_whatever_was_lost_with_it() {
    for cut_after in 0..4 {
        let torn = TornDisk::default();
        let disk = Inline::open(&torn);
        disk.put(1..10);
        disk.0.commit_one(Batch::new()).unwrap();
        let before = ledger(&disk);
        jump(&before, 10, 1, 50);
        if cut_after > 0 {
            disk.put(50..60);
        }
        if cut_after > 1 {
            disk.0.commit_one(Batch::new()).unwrap();
        }
        if cut_after > 2 {
            assert!(TokioRuntime::run(before.store(rows(10..20))).unwrap());
        }
        torn.cut();
        drop((before, disk));
        torn.reboot(&mut Dice(cut_after));
        let disk = Inline::open(&torn);
        let after = ledger(&disk);
        // The snapshot reaches to 50; what the log has behind it is applied again.
        jump(&after, 1, 1, 50);
        disk.put(50..60);
        let known = disk.0.event_rows(1, 100).unwrap();
        let known: Vec<u64> = known.into_iter().map(|(sequence, _)| sequence).collect();
        let missing = after.ranges();
        for sequence in 1..60 {
            let is_missing = missing.iter().any(|(from, to)| (*from..*to).contains(&sequence));
            assert!(is_missing || known.contains(&sequence), "{cut_after}: {sequence} {missing:?}");
        }
        while let Some((from, to)) = after.next() {
            if !after.skip_present(from, to).unwrap() {
                assert!(TokioRuntime::run(after.store(rows(from..to.min(from + 7)))).unwrap());
            }
        }
        assert!(disk.0.event_rows(1, 100).unwrap().iter().map(|(at, _)| *at).eq(1..60));
    }
}

#[test]
fn rows_that_a_full_disk_keeps_for_later_are_still_missing() {
    let torn = TornDisk::default();
    let disk = Inline::open(&torn);
    let ledger = ledger(&disk);
    jump(&ledger, 1, 1, 20);
    torn.arm(DiskFault::Full(0));
    let large = Op::PutCursor { key: "x".into(), value: vec![7; 1 << 20].into() };
    assert_eq!(disk.0.commit_one(Batch::new().with(large)), Err(StorageError::Full));
    let stored = TokioRuntime::run(ledger.store(rows(1..10)));
    assert!(!matches!(stored, Ok(true)), "{stored:?}");
    assert_eq!(ledger.ranges(), [(1, 20)]);
    torn.make_room();
    disk.0.commit_one(Batch::new()).unwrap();
    while let Some((from, to)) = ledger.next() {
        if !ledger.skip_present(from, to).unwrap() {
            assert!(TokioRuntime::run(ledger.store(rows(from..to.min(from + 5)))).unwrap());
        }
    }
    assert!(disk.0.event_rows(1, 100).unwrap().iter().map(|(at, _)| *at).eq(1..20));
}

#[test]
fn what_the_log_keeps_no_more_is_not_wanted() {
    let disk = Inline::open(&TornDisk::default());
    let ledger = ledger(&disk);
    jump(&ledger, 1, 30, 50);
    assert_eq!(ledger.ranges(), [(30, 50)]);
    ledger.trim(40);
    assert_eq!(ledger.ranges(), [(40, 50)]);
    ledger.give_up(40, 45);
    assert_eq!(ledger.ranges(), [(45, 50)]);
}

#[test]
fn an_answer_counts_up_to_its_first_gap_or_lie() {
    // These records are none of the log's: not one of them is taken.
    assert!(sound(rows(5..9), 5, 9).is_empty());
    assert!(sound(rows(6..9), 5, 9).is_empty());
}
