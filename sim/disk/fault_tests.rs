//! Faults that are asked for: each strikes, only where and when it should, and again from its seed.

use std::collections::BTreeSet;

use super::*;
use crate::runtime::{machine_room, sleep_virtual};

const HOUR: Duration = Duration::from_secs(3_600);

fn run<F: Future>(story: F) -> F::Output {
    machine_room(1).block_on(story)
}

fn disk(seed: u64) -> Disk {
    Disk::new(Seed(seed), "n1", Speed::default())
}

/// A disk with a durable file `f` of `len` sevens.
async fn with_file(seed: u64, len: usize) -> (Disk, DiskFile) {
    let disk = disk(seed);
    disk.write_file("f", &vec![7; len]).unwrap();
    disk.flush().await.unwrap();
    let file = disk.open("f").unwrap();
    (disk, file)
}

/// Where `f` is not all sevens.
fn changed(disk: &Disk) -> BTreeSet<usize> {
    let bytes = disk.read_file("f").unwrap();
    bytes.iter().enumerate().filter(|(_, byte)| **byte != 7).map(|(place, _)| place).collect()
}

#[test]
fn rot_turns_bits_of_what_has_lain_long_and_of_nothing_else() {
    run(async {
        let (disk, file) = with_file(3, 4_096).await;
        assert_eq!(disk.rot(50, HOUR), 0, "nothing is an hour old");
        sleep_virtual(HOUR * 2).await;
        // One sector is young again, one is about to be written.
        file.put(512, &[7; 512]).unwrap();
        file.sync().unwrap();
        disk.flush().await.unwrap();
        file.put(1_100, &[7]).unwrap();
        let turned = disk.rot(300, HOUR);
        assert!((290..=300).contains(&turned), "{turned}");
        let changed = changed(&disk);
        assert!(changed.iter().all(|place| !(512..1_536).contains(place)), "{changed:?}");
        assert!(changed.iter().any(|place| *place < 512));
        assert!(changed.iter().any(|place| *place >= 1_536));
        let tally = disk.tally();
        assert_eq!(tally.rotted, u64::from(turned));
        assert_eq!(tally.rotten_read, changed.len() as u64, "the file was read once");
    });
}

#[test]
fn rot_ends_with_a_write_or_a_scrub_and_a_lost_write_brings_it_back() {
    run(async {
        let (disk, file) = with_file(3, 1_024).await;
        sleep_virtual(HOUR).await;
        assert!(disk.rot(200, Duration::ZERO) > 100);
        let before = changed(&disk);
        file.put(0, &[7; 1_024]).unwrap();
        assert!(changed(&disk).is_empty(), "what is written is right");
        let unwritten = disk.image();
        disk.power_cut();
        let file = disk.open("f").unwrap();
        if changed(&disk).is_empty() {
            // The dice have kept the write: mended for good.
            assert_eq!(disk.scrub(), 0);
        }
        disk.restore(&unwritten);
        assert_eq!(changed(&disk), before, "a copy of a rotten disk is as rotten");
        assert_eq!(disk.scrub(), 0, "and nobody knows any more what was right");
        assert!(file.put(0, b"x").is_err());
    });
}

#[test]
fn a_scrub_mends_what_a_power_cut_left_rotten() {
    run(async {
        let (disk, file) = with_file(3, 1_024).await;
        sleep_virtual(HOUR).await;
        let turned = disk.rot(20, Duration::ZERO);
        drop(file);
        disk.power_cut();
        assert!(!changed(&disk).is_empty());
        assert_eq!(disk.scrub(), u64::from(turned));
        assert!(changed(&disk).is_empty());
        disk.power_cut();
        assert!(changed(&disk).is_empty());
    });
}

#[test]
fn rot_replays_from_the_seed_and_shifts_nothing_else() {
    let rotten = |seed| {
        run(async move {
            let (disk, file) = with_file(seed, 4_096).await;
            sleep_virtual(HOUR).await;
            disk.rot(10, Duration::ZERO);
            file.sync().unwrap();
            (changed(&disk), disk.enqueue().done_at)
        })
    };
    assert_eq!(rotten(3), rotten(3));
    assert_ne!(rotten(3).0, rotten(4).0);
    let clean = run(async {
        let (disk, file) = with_file(3, 4_096).await;
        sleep_virtual(HOUR).await;
        file.sync().unwrap();
        (changed(&disk), disk.enqueue().done_at)
    });
    assert!(clean.0.is_empty());
    assert_eq!(clean.1, rotten(3).1, "fsyncs take what they took");
}

/// The content of `f`, 512 bytes a piece, after a misdirected write of `len` nines at `offset`:
/// as the running machine reads it, and as it is after a power cut.
fn misdirected(seed: u64, offset: u64, len: usize) -> [Vec<u8>; 2] {
    run(async move {
        let (disk, file) = with_file(seed, 4_096).await;
        disk.misdirect_next_write();
        file.put(100, &[7]).unwrap();
        file.put(offset, &vec![9; len]).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.tally().misdirected, 0, "not before it is durable");
        disk.flush().await.unwrap();
        assert_eq!(disk.tally().misdirected, 1);
        let running = disk.read_file("f").unwrap();
        disk.power_cut();
        [running, disk.read_file("f").unwrap()]
    })
}

#[test]
fn a_misdirected_write_spares_its_own_place_and_strikes_another() {
    let mut places = BTreeSet::new();
    for seed in 0..40 {
        let [running, after] = misdirected(seed, 1_024, 512);
        assert_eq!(running[1_024..1_536], [9; 512], "the page cache shows what was written");
        assert_eq!(running.iter().filter(|byte| **byte == 9).count(), 512);
        assert_eq!(after[1_024..1_536], [7; 512], "the disk has not got it there");
        let start = after.iter().position(|byte| *byte == 9).unwrap();
        assert_eq!((start % 512, after.len()), (0, 4_096));
        assert_eq!(after[start..start + 512], [9; 512]);
        assert_eq!(after.iter().filter(|byte| **byte == 9).count(), 512);
        places.insert(start / 512);
    }
    assert!(places.iter().eq(&[0, 1, 3, 4, 5, 6, 7]), "{places:?}");
    assert_eq!(misdirected(3, 1_024, 512), misdirected(3, 1_024, 512));
}

#[test]
fn a_write_that_makes_its_file_longer_goes_astray_within_what_there_was() {
    for seed in 0..20 {
        let [running, after] = misdirected(seed, 4_096, 1_024);
        assert_eq!(running[4_096..], [9; 1_024]);
        assert_eq!(after.len(), 5_120, "the file system has noted the length");
        assert_eq!(after[4_096..], [0; 1_024]);
        assert_eq!(after.iter().filter(|byte| **byte == 9).count(), 1_024);
    }
}

#[test]
fn a_misdirection_waits_for_a_write_that_has_another_place() {
    run(async {
        let disk = disk(1);
        disk.misdirect_next_write();
        disk.write_file("small", &[9; 512]).unwrap();
        disk.write_file("f", &[7; 1_024]).unwrap();
        disk.flush().await.unwrap();
        assert_eq!(disk.tally().misdirected, 0, "a new file has no other place");
        let file = disk.open("f").unwrap();
        for _ in 0..2 {
            file.put(0, &[9; 512]).unwrap();
            file.sync().unwrap();
        }
        disk.flush().await.unwrap();
        assert_eq!(disk.tally().misdirected, 1, "one strikes one write");
        disk.power_cut();
        assert_eq!(disk.read_file("f").unwrap(), [9; 1_024]);
        assert_eq!(disk.read_file("small").unwrap(), [9; 512]);
    });
}

#[test]
fn a_disk_can_be_found_full_at_each_write_and_growth() {
    let refused = |n: u64, writes: u32| {
        let disk = disk(1);
        let file = disk.create("f");
        disk.fill_at_write(n, writes);
        let answers = [
            file.put(0, &[1; 10]),
            redb::StorageBackend::set_len(&file, 100),
            file.put(0, &[2; 10]),
            redb::StorageBackend::set_len(&file, 5),
            file.put(0, &[3; 10]),
        ];
        let refused: Vec<bool> = answers
            .into_iter()
            .map(|answer| answer.is_err_and(|error| error.kind() == io::ErrorKind::StorageFull))
            .collect();
        assert_eq!(disk.writes_seen(), 4, "to shrink takes no room");
        assert_eq!(disk.tally().refused, refused.iter().filter(|refused| **refused).count() as u64);
        refused
    };
    assert_eq!(refused(1, 1), [true, false, false, false, false]);
    assert_eq!(refused(2, 2), [false, true, true, false, false]);
    assert_eq!(refused(4, 9), [false, false, false, false, true]);
    assert_eq!(refused(5, 9), [false; 5]);
    assert_eq!(refused(1, 0), [false; 5]);
}

#[test]
fn a_slow_disk_draws_as_often_as_a_fast_one() {
    let times = |factors: [u32; 3]| {
        run(async move {
            let disk = disk(5);
            let file = disk.create("f");
            let mut last = virtual_now();
            factors.map(|factor| {
                disk.slow_by(factor);
                file.sync().unwrap();
                let done_at = disk.enqueue().done_at;
                let took = done_at - last;
                last = done_at;
                took
            })
        })
    };
    let [first, second, third] = times([1, 1, 1]);
    assert_eq!(times([1, 10, 1]), [first, second * 10, third]);
}

#[test]
fn a_wiped_disk_is_empty_and_an_image_starts_another_machine() {
    run(async {
        let (one, file) = with_file(1, 100).await;
        one.create("never synced");
        let image = one.image();
        one.wipe();
        assert_eq!((one.used(), one.exists("f")), (0, false));
        assert!(file.put(0, b"x").is_err(), "its files are closed");
        one.power_cut();
        assert!(!one.exists("f"), "and stays empty");
        let two = Disk::new(Seed(1), "n2", Speed::default());
        let theirs = two.create("theirs");
        let flush = two.enqueue();
        two.restore(&image);
        assert!(theirs.put(0, b"x").is_err());
        assert!(two.finish(flush).await.is_err(), "an fsync of what is gone is no promise");
        assert_eq!(two.read_file("f").unwrap(), [7; 100]);
        assert!(!two.exists("theirs") && !two.exists("never synced"));
        let new = two.create("new");
        assert_eq!(two.read_file("new").unwrap(), b"", "a new file is nobody else's");
        new.put(0, b"abc").unwrap();
        assert_eq!(two.read_file("f").unwrap(), [7; 100]);
    });
}

#[test]
fn a_tap_sees_each_write_and_no_refused_one() {
    let disk = disk(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let out = Arc::clone(&seen);
    disk.create("before").put(0, b"unseen").unwrap();
    disk.set_tap(Box::new(move |bytes| held(&out).push(bytes.to_vec())));
    disk.write_file("f", b"one").unwrap();
    disk.fill_at_write(1, 1);
    disk.create("g").put(0, b"two").unwrap_err();
    disk.create("g").put(0, b"three").unwrap();
    assert_eq!(*held(&seen), [b"one".to_vec(), b"three".to_vec()]);
}

#[test]
fn an_fsync_that_has_had_its_time_is_done_though_nobody_heard() {
    for seed in 0..50 {
        run(async move {
            let disk = disk(seed);
            disk.write_file("f", b"abc").unwrap();
            let flush = disk.enqueue();
            sleep_virtual_until(flush.done_at).await;
            disk.power_cut();
            assert_eq!(disk.read_file("f").unwrap(), b"abc", "seed {seed}");
        });
    }
}
