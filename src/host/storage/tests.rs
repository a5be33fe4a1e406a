//! The storage against a disk that tears, fails, fills up and rots.

use bytes::Bytes;

use super::torn::{Dice, Fault, TornDisk};
use super::{Batch, Database, Folder, Medium, Meta, Op, StorageError};

/// Batch `n` of the model: two log records, an event row and a cursor that names it.
fn batch(n: u64) -> Batch {
    let record = |index: u64| {
        Bytes::from(vec![n.to_le_bytes()[0]; 1 + usize::try_from(index % 700).unwrap()])
    };
    Batch::new()
        .with(Op::PutLog { after: (2 * n).checked_sub(1), index: 2 * n, record: record(2 * n) })
        .with(Op::PutEventRow { sequence: n, row: record(n) })
        .with(Op::PutLog { after: Some(2 * n), index: 2 * n + 1, record: record(2 * n + 1) })
        .with(Op::PutCursor { key: Bytes::from("batch"), value: number(n) })
}

fn lazy_batch(n: u64) -> Batch {
    Batch::new().with(Op::PutCursor { key: Bytes::from("lazy"), value: number(n) }).lazily()
}

fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes())
}

fn cursor(database: &Database, key: &str) -> Option<u64> {
    let value = database.cursor(key.as_bytes()).unwrap()?;
    Some(u64::from_le_bytes(value[..].try_into().unwrap()))
}

/// Checks that the disk holds the batches up to some number, wholly, and nothing else.
fn next_batch(database: &Database) -> u64 {
    let last = cursor(database, "batch");
    let next = last.map_or(0, |last| last + 1);
    let log = database.log(0..u64::MAX, usize::MAX).unwrap();
    assert_eq!(log.len() as u64, 2 * next, "log records of whole batches");
    assert_eq!(database.log_bounds().unwrap(), last.map(|last| (0, 2 * last + 1)));
    let rows = database.event_rows(0, usize::MAX).unwrap();
    assert_eq!(rows.len() as u64, next, "event rows of whole batches");
    for (sequence, row) in rows {
        assert_eq!(row.len() as u64, 1 + sequence % 700);
    }
    next
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_is_halved_by_power_cuts() {
    let mut cuts = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let disk = TornDisk::default();
        let mut acknowledged = 0;
        let mut lazy_acknowledged = 0;
        let mut lazy = 0;
        for _ in 0..40 {
            let database = Database::open(disk.clone()).unwrap();
            let mut next = next_batch(&database);
            assert!(next >= acknowledged, "seed {seed}: {acknowledged} acknowledged, {next} kept");
            lazy = cursor(&database, "lazy").unwrap_or(0).max(lazy_acknowledged);
            assert_eq!(
                cursor(&database, "lazy").unwrap_or(0),
                lazy,
                "seed {seed}: lazy batch lost"
            );
            disk.arm(Fault::PowerCut(dice.below(60)));
            loop {
                let lazily = dice.below(3) == 0;
                let group: Vec<Batch> = if lazily {
                    lazy += 1;
                    vec![lazy_batch(lazy)]
                } else {
                    (next..=next + dice.below(4)).map(batch).collect()
                };
                if database.commit(&group).iter().any(Result::is_err) {
                    break;
                }
                if !lazily {
                    next += group.len() as u64;
                    acknowledged = next;
                    lazy_acknowledged = lazy;
                }
            }
            drop(database);
            disk.cut();
            disk.reboot(&mut dice);
            cuts += 1;
        }
        assert!(lazy > 0 && acknowledged > 40, "seed {seed} did little");
    }
    assert_eq!(cuts, 2_400);
}

#[test]
fn a_file_whose_creation_was_cut_short_is_created_again() {
    let whole = TornDisk::default();
    drop(Database::open(whole.clone()).unwrap());
    let steps = whole.operations();
    assert!(steps > 10);
    for step in 0..steps {
        for seed in 0..8 {
            let mut dice = Dice(seed);
            let disk = TornDisk::default();
            disk.arm(Fault::PowerCut(step));
            if let Ok(database) = Database::open(disk.clone()) {
                drop(database);
            }
            disk.cut();
            disk.reboot(&mut dice);
            let database = Database::open(disk).unwrap();
            assert_eq!(next_batch(&database), 0, "step {step}");
            database.commit_one(batch(0)).unwrap();
        }
    }
}

#[test]
fn a_failed_fsync_is_latched() {
    for n in 0..3 {
        let disk = TornDisk::default();
        let database = Database::open(disk.clone()).unwrap();
        disk.arm(Fault::Sync(n));
        for number in 0..n {
            database.commit_one(batch(number)).unwrap();
        }
        let group = [batch(n), batch(n + 1)];
        let failed = database.commit(&group);
        assert!(failed.iter().all(|r| matches!(r, Err(StorageError::Sync { .. }))), "{failed:?}");
        let text = failed[0].clone().unwrap_err().to_string();
        assert!(text.contains("the device did not answer") && text.contains("stopping"), "{text}");
        // The device would answer again, but nobody asks it.
        let operations = disk.operations();
        for _ in 0..3 {
            let error = database.commit_one(batch(n)).unwrap_err();
            assert!(matches!(error, StorageError::Stopped { .. }), "{error}");
        }
        assert_eq!(disk.operations(), operations, "the disk was left alone");
        assert!(matches!(database.stopped(), Some(StorageError::Sync { .. })));
        drop(database);
        assert_eq!(disk.operations(), operations, "closing writes nothing either");
        disk.reboot(&mut Dice(n));
        assert!(next_batch(&Database::open(disk).unwrap()) >= n);
    }
}

#[test]
fn after_a_failed_fsync_the_next_start_writes_the_file_anew_and_forgets_its_doubts() {
    let path = std::env::temp_dir().join(format!("tern-suspect-{}", std::process::id()));
    let database = Database::open_folder(&path).unwrap();
    database.commit_one(batch(0)).unwrap();
    drop(database);
    let folder = Folder::open(&path).unwrap();
    assert!(!Medium::is_suspect(&folder).unwrap());
    Medium::set_suspect(&folder, true).unwrap();
    drop(folder);
    let database = Database::open_folder(&path).unwrap();
    assert_eq!(next_batch(&database), 1);
    database.commit_one(batch(1)).unwrap();
    drop(database);
    let folder = Folder::open(&path).unwrap();
    assert!(!Medium::is_suspect(&folder).unwrap(), "it has been mended");
    drop(folder);
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_full_disk_refuses_at_every_write_and_passes() {
    let mut refused = 0;
    for site in 0.. {
        let disk = TornDisk::default();
        let database = Database::open(disk.clone()).unwrap();
        database.commit_one(batch(0)).unwrap();
        database.commit_one(lazy_batch(1)).unwrap();
        disk.arm(Fault::Full(site));
        let outcome = database.commit(&[batch(1), lazy_batch(2)]);
        if disk.disarm() {
            assert!(outcome.iter().all(Result::is_ok));
            break;
        }
        let next = if outcome[0].is_ok() { 2 } else { 1 };
        if outcome[0].is_err() {
            refused += 1;
            assert_eq!(outcome[0], Err(StorageError::Full), "site {site}");
            assert_eq!(outcome[1], Ok(()), "site {site}: a lazy batch is kept for later");
            // Still full: refused again, and what does not follow the log as well.
            let again = database.commit_one(batch(1));
            assert!(again.is_err(), "site {site}");
        }
        disk.make_room();
        let gap = database.commit(&[batch(next + 1), Batch::new()]);
        assert!(matches!(gap[0], Err(StorageError::LogGap { .. })), "site {site}: {gap:?}");
        assert_eq!(gap[1], Ok(()));
        assert_eq!(next_batch(&database), next, "site {site}");
        assert_eq!(cursor(&database, "lazy"), Some(2), "site {site}");
        database.commit_one(batch(next)).unwrap();
        drop(database);
        disk.cut();
        disk.reboot(&mut Dice(site));
        let database = Database::open(disk).unwrap();
        assert_eq!(next_batch(&database), next + 1, "site {site}");
        assert_eq!(cursor(&database, "lazy"), Some(2), "site {site}");
    }
    assert!(refused > 2, "{refused} sites refused");
}

#[test]
fn after_a_full_disk_the_log_goes_on_behind_what_the_file_holds() {
    for site in 0.. {
        let disk = TornDisk::default();
        let database = Database::open(disk.clone()).unwrap();
        database.commit_one(batch(0)).unwrap();
        disk.arm(Fault::Full(site));
        let outcome = database.commit_one(batch(1));
        if disk.disarm() {
            break;
        }
        disk.make_room();
        // What a restarted log reads, and where it goes on.
        database.commit_one(Batch::new()).unwrap();
        let next = next_batch(&database);
        assert!(outcome.is_err() || next == 2, "site {site}: acknowledged and gone");
        assert_eq!(database.commit_one(batch(next)), Ok(()), "site {site}");
        assert_eq!(next_batch(&database), next + 1, "site {site}");
    }
}

#[test]
fn many_batches_share_one_fsync_and_lazy_ones_need_none() {
    let disk = TornDisk::default();
    let database = Database::open(disk.clone()).unwrap();
    let before = disk.syncs();
    let group: Vec<Batch> = (0..100).map(batch).collect();
    assert!(database.commit(&group).iter().all(Result::is_ok));
    assert_eq!(disk.syncs(), before + 1);
    for n in 0..50 {
        database.commit_one(lazy_batch(n)).unwrap();
    }
    assert_eq!(disk.syncs(), before + 1);
    assert_eq!(cursor(&database, "lazy"), Some(49), "and yet they are seen");
}

#[test]
fn bit_rot_is_an_error_that_names_the_record() {
    let needle = Bytes::from_static(b"twelve bytes and more");
    let disk = TornDisk::default();
    let database = Database::open(disk.clone()).unwrap();
    let put = Batch::new()
        .with(Op::PutLog { after: None, index: 0, record: needle.clone() })
        .with(Op::PutEventRow { sequence: 9, row: needle.clone() })
        .with(Op::PutMeta { key: Meta::Vote, value: needle.clone() })
        .with(Op::PutSnapshotChunk { generation: 3, chunk: 1, bytes: needle.clone() })
        .with(Op::PutCursor { key: Bytes::from_static(b"\xAB"), value: needle.clone() });
    database.commit_one(put).unwrap();
    drop(database);
    assert!(disk.rot(&needle) >= 5);
    let database = Database::open(disk).unwrap();
    let corrupt = |table, key: &str| StorageError::Corrupt { table, key: key.to_string() };
    assert_eq!(database.log(0..9, 1).unwrap_err(), corrupt("log", "0"));
    assert_eq!(database.event_rows(0, 9).unwrap_err(), corrupt("events", "9"));
    assert_eq!(database.meta(Meta::Vote).unwrap_err(), corrupt("meta", "vote"));
    assert_eq!(database.snapshot_chunk(3, 1).unwrap_err(), corrupt("snapshot", "3/1"));
    assert_eq!(database.cursor(b"\xAB").unwrap_err(), corrupt("cursors", "ab"));
    assert_eq!(database.cursors(b"").unwrap_err(), corrupt("cursors", "ab"));
    let text = database.event_rows(0, 9).unwrap_err().to_string();
    assert!(text.contains("`events`") && text.contains('9'), "{text}");
}

#[test]
fn the_log_is_truncated_purged_and_goes_on() {
    let database = Database::open(TornDisk::default()).unwrap();
    assert!(database.commit(&(0..5).map(batch).collect::<Vec<_>>()).iter().all(Result::is_ok));
    let log_id = Bytes::from_static(b"opaque");
    let cut = Batch::new()
        .with(Op::TruncateLogFrom { index: 8 })
        .with(Op::PurgeLogThrough { index: 3, log_id: log_id.clone() })
        .with(Op::PutLog { after: Some(7), index: 8, record: Bytes::from_static(b"new") })
        .with(Op::DropEventRowsBelow { sequence: 2 });
    database.commit_one(cut).unwrap();
    assert_eq!(database.log_bounds().unwrap(), Some((4, 8)));
    assert_eq!(database.purged().unwrap(), Some((3, log_id.clone())));
    assert_eq!(database.event_bounds().unwrap(), Some((2, 4)));
    // Purged beyond its end, as after a snapshot from elsewhere: it goes on behind it.
    database.commit_one(Batch::new().with(Op::PurgeLogThrough { index: 50, log_id })).unwrap();
    assert_eq!(database.log_bounds().unwrap(), None);
    let put = |after, index| {
        Batch::new().with(Op::PutLog { after, index, record: Bytes::from_static(b"x") })
    };
    assert!(database.commit_one(put(Some(8), 9)).is_err());
    assert!(database.commit_one(put(Some(50), 52)).is_err());
    database.commit_one(put(Some(50), 51)).unwrap();
}

#[test]
fn a_folder_is_one_process_s_own_and_not_older_than_its_content() {
    let path = std::env::temp_dir().join(format!("tern-folder-{}", std::process::id()));
    std::fs::remove_dir_all(&path).ok();
    let database = Database::open_folder(&path.join("data")).unwrap();
    let error = Folder::open(&path.join("data")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    database.commit_one(batch(0)).unwrap();
    drop(database);
    let database = Database::open_folder(&path.join("data")).unwrap();
    assert_eq!(next_batch(&database), 1);
    database.write_format(super::FORMAT + 1);
    drop(database);
    let error = Database::open_folder(&path.join("data")).unwrap_err();
    assert!(error.to_string().contains("upgrade this node"), "{error}");
    std::fs::remove_dir_all(&path).unwrap();
}

impl Database {
    fn write_format(&self, format: u32) {
        let engine = self.engine();
        let txn = engine.as_ref().unwrap().redb.begin_write().unwrap();
        super::tables::put_meta(&txn, super::tables::FORMAT_KEY, &format.to_le_bytes()).unwrap();
        txn.commit().unwrap();
    }
}
