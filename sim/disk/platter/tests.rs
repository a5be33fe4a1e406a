//! What power cuts, failed fsyncs, bit rot and stray writes leave, without time or tasks.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::dice::Seed;

const NOW: Duration = Duration::from_secs(1_000);

fn content(platter: &mut Platter, file: Inode) -> Vec<u8> {
    platter.read(file, 0, None).unwrap().to_vec()
}

/// The states a power cut can leave, over many throws.
fn outcomes(prepare: impl Fn(&mut Platter)) -> BTreeMap<Option<Vec<u8>>, u32> {
    let mut seen = BTreeMap::new();
    for seed in 0..400 {
        let mut platter = Platter::default();
        prepare(&mut platter);
        platter.power_cut(NOW, &mut Seed(seed).stream("disk"));
        let content = platter.find("f").map(|file| content(&mut platter, file));
        *seen.entry(content).or_default() += 1;
    }
    seen
}

fn named(platter: &mut Platter) -> Inode {
    let file = platter.create("f");
    platter.sync_folder();
    platter.settle(platter.mark(), NOW);
    file
}

#[test]
fn what_is_not_synced_may_be_lost_or_stay_and_what_is_settled_stays() {
    let unsynced = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"abc");
    });
    let expected = [Some(Vec::new()), Some(b"abc".to_vec())];
    assert!(unsynced.keys().eq(expected.iter()), "{unsynced:?}");
    let settled = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"abc");
        platter.sync(file);
        platter.settle(platter.mark(), NOW);
    });
    assert!(settled.keys().eq([Some(b"abc".to_vec())].iter()), "{settled:?}");
    let asked_only = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"abc");
        platter.sync(file);
    });
    assert_eq!(asked_only.len(), 2, "an fsync that has not had its time may not have happened");
}

#[test]
fn writes_tear_at_sectors_and_any_of_two_may_survive() {
    let torn = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 500, &[7; 24]);
    });
    let tail_only = [vec![0; 512], vec![7; 12]].concat();
    let head_only = [vec![0; 500], vec![7; 12]].concat();
    assert!(torn.contains_key(&Some(tail_only)) && torn.contains_key(&Some(head_only)));
    let two = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"a");
        platter.write(file, 1, b"b");
    });
    assert!(two.contains_key(&Some(b"\0b".to_vec())), "the later without the earlier");
}

#[test]
fn an_fsync_orders_what_comes_before_it_and_after_it() {
    let ordered = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"a");
        platter.sync(file);
        platter.write(file, 1, b"b");
    });
    assert!(!ordered.contains_key(&Some(b"\0b".to_vec())), "{ordered:?}");
    assert_eq!(ordered.len(), 3, "nothing, the first, both");
}

#[test]
fn a_failed_fsync_is_not_mended_by_the_next() {
    let tries = AtomicU32::new(0);
    let failed = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"a");
        let seed = Seed(u64::from(tries.fetch_add(1, Ordering::Relaxed)));
        platter.orphan(file, NOW, &mut seed.stream("orphans"));
        platter.sync(file);
        platter.settle(platter.mark(), NOW);
    });
    assert!(failed.contains_key(&Some(Vec::new())), "{failed:?}");
    let again = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"a");
        platter.orphan(file, NOW, &mut Seed(1).stream("orphans"));
        platter.write(file, 0, b"a");
        platter.sync(file);
        platter.settle(platter.mark(), NOW);
    });
    assert!(again.keys().eq([Some(b"a".to_vec())].iter()), "{again:?}");
}

#[test]
fn a_name_needs_the_fsync_of_its_folder() {
    let without = outcomes(|platter| {
        let file = platter.create("new");
        platter.write(file, 0, b"abc");
        platter.sync(file);
        platter.rename("new", "f");
        platter.settle(platter.mark(), NOW);
    });
    assert!(without.contains_key(&None));
    assert!(!without.contains_key(&Some(Vec::new())), "{without:?}");
}

#[test]
fn rot_is_durable_and_an_overwrite_that_is_lost_does_not_mend_it() {
    let seen = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, b"a");
        platter.sync(file);
        platter.settle(platter.mark(), NOW);
        let mut dice = Seed(1).stream("rot");
        let later = NOW + Duration::from_secs(60);
        assert_eq!(platter.rot(4, Duration::from_secs(60), later, &mut dice), 0, "not older");
        while platter.rot(1, Duration::from_secs(59), later, &mut dice) == 0 {}
        assert_ne!(content(platter, file), b"a");
        platter.write(file, 0, b"a");
        assert_eq!(content(platter, file), b"a");
    });
    assert_eq!(seen.len(), 2, "{seen:?}: rotten where the write was lost");
    assert!(seen.contains_key(&Some(b"a".to_vec())));
}

#[test]
fn a_stray_write_that_no_fsync_covers_is_lost_torn_or_astray_and_never_in_its_place() {
    let seen = outcomes(|platter| {
        let file = named(platter);
        platter.write(file, 0, &[0; 2_048]);
        platter.sync(file);
        platter.settle(platter.mark(), NOW);
        platter.misdirect(&mut Seed(1).stream("strays"));
        platter.write(file, 0, &[9; 1_024]);
    });
    let all = seen.keys().flatten();
    let mut struck: Vec<Vec<usize>> =
        all.map(|bytes| (0..4).filter(|sector| bytes[sector * 512] == 9).collect()).collect();
    struck.sort();
    // One place of 512 and 1,024 was drawn; any of its two sectors may have been written.
    let first = *struck.iter().flatten().min().unwrap();
    assert!(first == 1 || first == 2, "{struck:?}");
    let second = first + 1;
    assert_eq!(struck, [vec![], vec![first], vec![first, second], vec![second]]);
}
