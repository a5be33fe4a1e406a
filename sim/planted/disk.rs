//! What the storage says and what the disk holds.

use bytes::Bytes;
use host::storage::{Batch, Database, Op, StorageError};

use super::*;
use crate::dice::Seed;
use crate::disk::{Disk, Speed};
use crate::runtime::machine_room;

fn put(index: u64) -> Batch {
    let (after, record) = (index.checked_sub(1), Bytes::from(vec![0x5A; 64 * 1024]));
    Batch::new().with(Op::PutLog { after, index, record })
}

/// Runs in a machine room, which gives the disk its time.
fn on_a_disk<T>(look: impl Fn(Disk) -> T) -> T {
    machine_room(1).block_on(async move { look(Disk::new(Seed(1), "n1", Speed::default())) })
}

#[test]
fn a_full_disk_takes_what_it_does_not_hold() {
    let stored = || {
        on_a_disk(|disk| {
            let database = Database::open(disk.clone()).unwrap();
            disk.set_capacity(Some(disk.used()));
            let mut answers = (0..200).map(|index| database.commit_one(put(index)));
            let refused = answers.position(|answer| answer == Err(StorageError::Full));
            let last = database.log_bounds().unwrap().map_or(0, |(_, last)| last + 1);
            (refused.is_some(), last < 200)
        })
    };
    assert_eq!(both(Bug::FullDiskAnswered, stored), ((true, true), (false, true)));
}

#[test]
fn rotten_bytes_are_served() {
    let served = || {
        on_a_disk(|disk| {
            let database = Database::open(disk.clone()).unwrap();
            let row = Bytes::from_static(b"twenty-one and a half degrees");
            let op = Op::PutEventRow { sequence: 1, row: row.clone() };
            database.commit_one(Batch::new().with(op)).unwrap();
            drop(database);
            let mut bytes = disk.read_file("tern.redb").unwrap();
            let places = bytes.windows(row.len()).enumerate().filter(|(_, w)| *w == row);
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            assert!(!places.is_empty());
            places.iter().for_each(|place| bytes[*place] ^= 0x20);
            disk.write_file("tern.redb", &bytes).unwrap();
            let rows = Database::open(disk.clone()).unwrap().event_rows(1, 1);
            rows.map(|rows| rows[0].1.starts_with(b"T")).map_err(|error| error.to_string())
        })
    };
    let (healthy, sick) = both(Bug::ChecksumUnchecked, served);
    assert!(healthy.unwrap_err().contains("corrupt record in table `events`"));
    assert_eq!(sick, Ok(true));
}

#[test]
fn a_node_goes_on_after_a_failed_fsync() {
    let answered = || {
        on_a_disk(|disk| {
            let database = Database::open(disk.clone()).unwrap();
            disk.fail_next_sync();
            database.commit_one(put(0)).is_ok()
        })
    };
    assert_eq!(both(Bug::FsyncErrorIgnored, answered), (false, true));
}
