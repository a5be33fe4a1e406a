//! The disk in time, and redb on it: an acknowledged batch is never lost, and a batch acknowledged
//! too early is, or this simulator would be blind.

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::*;
use crate::runtime::{machine_room, sleep_virtual};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("t");

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn database(disk: &Disk) -> redb::Database {
    let file = disk.open("db").unwrap_or_else(|_| disk.create("db"));
    redb::Builder::new().create_with_backend(file).unwrap()
}

fn commit(database: &redb::Database, number: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        table.insert(number, [u8::try_from(number % 251).unwrap(); 300].as_slice())?;
        table.insert(number + 1_000_000, [7; 700].as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

fn stored(database: &redb::Database) -> Vec<u64> {
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(TABLE).unwrap();
    table.iter().unwrap().map(|row| row.unwrap().0.value()).collect()
}

/// Commits for a while, cuts the power, opens again. Returns (acknowledged, found).
fn power_cut_under_load(seed: u64, wait_for_fsync: bool) -> (u64, Vec<u64>) {
    machine_room(seed).block_on(async move {
        let disk = Disk::new(Seed(seed), "n1", Speed::default());
        let first = database(&disk);
        commit(&first, 0).unwrap();
        disk.rename("db", "db");
        disk.flush().await.unwrap();
        let acknowledged = Arc::new(Mutex::new(0));
        let node = madsim::runtime::Handle::current().create_node().build();
        let (writer, count) = (disk.clone(), Arc::clone(&acknowledged));
        node.spawn(async move {
            for number in 1.. {
                commit(&first, number).unwrap();
                let flush = writer.enqueue();
                if wait_for_fsync {
                    writer.finish(flush).await.unwrap();
                    *held(&count) = number;
                } else {
                    *held(&count) = number;
                    writer.finish(flush).await.unwrap();
                }
            }
        });
        sleep_virtual(Seed(seed).stream("when").between(&(ms(1)..ms(400)))).await;
        disk.power_cut();
        madsim::runtime::Handle::current().kill(node.id());
        sleep_virtual(ms(1)).await;
        let acknowledged = *held(&acknowledged);
        (acknowledged, stored(&database(&disk)))
    })
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_is_half_there() {
    let (mut total, mut beyond) = (0, 0);
    for seed in 0..200 {
        let (acknowledged, found) = power_cut_under_load(seed, true);
        let (low, high) = found.split_at(found.len() / 2);
        assert!(low.iter().map(|number| number + 1_000_000).eq(high.iter().copied()), "{seed}");
        assert!(low.iter().copied().eq(0..low.len() as u64), "seed {seed}: a gap in {low:?}");
        assert!(low.len() as u64 > acknowledged, "seed {seed}: {acknowledged} of {low:?}");
        total += acknowledged;
        beyond += u64::from(low.len() as u64 > acknowledged + 1);
    }
    assert!(total > 2_000, "only {total} batches acknowledged");
    assert!(beyond > 10, "un-acknowledged data survives at times too: {beyond}");
}

#[test]
fn acknowledging_before_the_fsync_loses_batches() {
    let lost = (0..100).filter(|&seed| {
        let (acknowledged, found) = power_cut_under_load(seed, false);
        found.len() as u64 / 2 <= acknowledged
    });
    let lost = lost.count();
    assert!(lost > 20, "only {lost} of 100 seeds noticed");
}

#[test]
fn fsyncs_queue_behind_each_other_and_some_are_very_slow() {
    machine_room(1).block_on(async {
        let disk = Disk::new(Seed(3), "n1", Speed::default());
        let file = disk.create("f");
        let mut last = virtual_now();
        let mut times = Vec::new();
        for _ in 0..1_000 {
            file.sync().unwrap();
            let done_at = disk.enqueue().done_at;
            assert!(done_at > last);
            times.push(done_at - last);
            last = done_at;
        }
        times.sort();
        assert!((ms(1)..ms(6)).contains(&times[500]));
        assert!(times[950] > ms(10) && times[998] > ms(100), "{:?}", times[998]);
    });
}

#[test]
fn a_full_disk_refuses_and_recovers_and_a_failed_fsync_fails_once() {
    machine_room(1).block_on(async {
        let disk = Disk::new(Seed(1), "n1", Speed::default());
        let file = disk.create("f");
        file.put(0, &[1; 100]).unwrap();
        disk.set_capacity(Some(150));
        assert_eq!(disk.free(), Some(50));
        assert_eq!(file.put(100, &[1; 51]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.put(50, &[2; 100]).unwrap();
        disk.set_capacity(None);
        file.put(150, &[1; 51]).unwrap();
        disk.fail_next_sync();
        assert!(file.sync().is_err());
        assert!(file.sync().is_ok());
    });
}

#[test]
fn a_dead_machine_writes_nothing_more_and_a_killed_process_loses_nothing() {
    let disk = Disk::new(Seed(1), "n1", Speed::default());
    let file = disk.create("f");
    file.put(0, b"abc").unwrap();
    disk.process_died();
    assert!(file.put(0, b"xyz").is_err());
    assert_eq!(disk.read_file("f").as_deref(), Some(b"abc".as_slice()));
}

#[test]
fn a_backup_brings_back_what_was_durable_then_and_nothing_since() {
    let runtime = machine_room(1);
    runtime.block_on(async {
        let disk = Disk::new(Seed(1), "n1", Speed::default());
        disk.write_file("f", b"old").unwrap();
        disk.flush().await.unwrap();
        let image = disk.image();
        disk.write_file("f", b"newer").unwrap();
        disk.flush().await.unwrap();
        disk.power_cut();
        disk.restore(&image);
        assert_eq!(disk.read_file("f").unwrap(), b"old");
        disk.power_cut();
        assert_eq!(disk.read_file("f").unwrap(), b"old");
    });
}

#[test]
fn power_goes_at_the_write_that_was_asked_for() {
    machine_room(3).block_on(async {
        let disk = Disk::new(Seed(3), "n1", Speed::default());
        disk.write_file("f", b"before").unwrap();
        disk.flush().await.unwrap();
        let file = disk.open("f").unwrap();
        let cut = disk.cut_at_write(2);
        file.put(0, b"first ").unwrap();
        file.put(0, b"second").unwrap();
        assert!(file.put(0, b"third ").is_err(), "a machine without power writes nothing");
        assert!(cut.await.is_ok());
        let kept = disk.read_file("f").unwrap();
        assert_ne!(kept, b"third ");
        assert_eq!(disk.tally().cuts, 1);
        let file = disk.open("f").unwrap();
        assert!(file.put(0, b"after ").is_ok(), "a trap springs once");
    });
}
