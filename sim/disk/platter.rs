//! What a disk holds: what its machine sees, and what would survive a power cut now.
//!
//! Every change goes to the cache at once and into a journal. An fsync is an entry of that
//! journal too; once it has had its time ([`Platter::settle`]) what it covers is durable. A power
//! cut picks a moment in the journal: fsyncs before it have happened, later changes have not, and
//! of the changes no fsync covers any subset survives, torn at sector boundaries.
//!
//! Names live in the folder, and have an fsync of their own, as in POSIX. Pure: no time, no tasks.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// What a disk writes wholly or not at all.
pub const SECTOR_LEN: u64 = 512;

/// A file, whatever it is called.
pub(super) type Inode = u64;

#[derive(Clone, Debug)]
enum Op {
    Write { file: Inode, offset: u64, bytes: Vec<u8> },
    SetLen { file: Inode, len: u64 },
    Sync { file: Inode },
    Link { name: String, file: Inode },
    Rename { from: String, to: String },
    Unlink { name: String },
    SyncFolder,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    op: Op,
}

/// The bytes and the names, in one state.
#[derive(Clone, Debug, Default)]
struct Surface {
    files: BTreeMap<Inode, Vec<u8>>,
    names: BTreeMap<String, Inode>,
}

impl Surface {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Op::SetLen { file, len } => {
                self.files.entry(*file).or_default().resize(index(*len), 0);
            }
            Op::Link { name, file } => {
                self.files.entry(*file).or_default();
                self.names.insert(name.clone(), *file);
            }
            Op::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Op::Unlink { name } => {
                self.names.remove(name);
            }
            Op::Sync { .. } | Op::SyncFolder => {}
        }
    }

    fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) {
        let content = self.files.entry(file).or_default();
        let (start, end) = (index(offset), index(offset) + bytes.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
    }

    /// Forgets files without a name.
    fn sweep(&mut self) {
        let named: Vec<Inode> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }
}

/// Sizes of simulated files fit the machine that simulates them.
fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}

/// A disk's durable content at some moment.
#[derive(Clone, Debug)]
pub struct Image(Surface);

/// What was done to a disk, and what a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes.
    pub writes: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Fsyncs of files and of the folder.
    pub syncs: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Changes that a power cut lost whole.
    pub lost: u64,
    /// Writes of which a power cut left a part.
    pub torn: u64,
}

/// The disk's content; see the module.
#[derive(Debug, Default)]
pub(super) struct Platter {
    cache: Surface,
    durable: Surface,
    journal: Vec<Entry>,
    numbers: u64,
    inodes: Inode,
    pub(super) tally: Tally,
}

impl Platter {
    fn record(&mut self, op: Op) {
        self.cache.apply(&op);
        self.numbers += 1;
        self.journal.push(Entry { number: self.numbers, op });
    }

    pub(super) fn find(&self, name: &str) -> Option<Inode> {
        self.cache.names.get(name).copied()
    }

    /// An empty file of this name; what was called so before is forgotten.
    pub(super) fn create(&mut self, name: &str) -> Inode {
        self.inodes += 1;
        self.record(Op::Link { name: name.to_owned(), file: self.inodes });
        self.inodes
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        self.record(Op::Rename { from: from.to_owned(), to: to.to_owned() });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.record(Op::Unlink { name: name.to_owned() });
    }

    pub(super) fn read(&self, file: Inode) -> &[u8] {
        self.cache.files.get(&file).map_or(&[], Vec::as_slice)
    }

    pub(super) fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) {
        self.tally.writes += 1;
        self.tally.bytes += bytes.len() as u64;
        self.record(Op::Write { file, offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, file: Inode, len: u64) {
        self.record(Op::SetLen { file, len });
    }

    pub(super) fn sync(&mut self, file: Inode) {
        self.tally.syncs += 1;
        self.record(Op::Sync { file });
    }

    pub(super) fn sync_folder(&mut self) {
        self.tally.syncs += 1;
        self.record(Op::SyncFolder);
    }

    /// An fsync of the file has failed. What it should have covered was written wholly, in part or
    /// not at all just then, as the dice say; the cache shows all of it, is clean for the kernel,
    /// and will not be written again unless somebody writes the same place anew.
    pub(super) fn orphan(&mut self, file: Inode, dice: &mut Dice) {
        for entry in std::mem::take(&mut self.journal) {
            match &entry.op {
                Op::Write { file: of, offset, bytes } if *of == file => match dice.below(3) {
                    0 => self.tally.lost += 1,
                    1 => self.durable.write(file, *offset, bytes),
                    _ => self.tear(dice, file, *offset, bytes),
                },
                Op::SetLen { file: of, .. } if *of == file => {
                    if dice.chance(0.5) {
                        self.durable.apply(&entry.op);
                    }
                }
                Op::Write { .. }
                | Op::SetLen { .. }
                | Op::Sync { .. }
                | Op::Link { .. }
                | Op::Rename { .. }
                | Op::Unlink { .. }
                | Op::SyncFolder => self.journal.push(entry),
            }
        }
    }

    /// Bytes in all files.
    pub(super) fn used(&self) -> u64 {
        let names = &self.cache.names;
        let len = |file: &Inode| self.cache.files.get(file).map_or(0, |bytes| bytes.len() as u64);
        names.values().map(len).sum()
    }

    /// What is durable now.
    pub(super) fn image(&self) -> Image {
        Image(self.durable.clone())
    }

    /// Puts an image in the place of everything.
    pub(super) fn restore(&mut self, image: &Image) {
        self.journal.clear();
        self.durable = image.0.clone();
        self.cache = image.0.clone();
    }

    /// The place in the journal up to which a [`Self::settle`] asked for now would go.
    pub(super) fn mark(&self) -> u64 {
        self.numbers
    }

    /// The fsyncs up to `mark` have had their time.
    pub(super) fn settle(&mut self, mark: u64) {
        let end = self.journal.partition_point(|entry| entry.number <= mark);
        let rest = self.journal.split_off(end);
        let open = self.settle_all(end);
        self.journal = open;
        self.journal.extend(rest);
    }

    /// Takes `end` entries out; makes durable what their fsyncs cover, returns what they do not.
    fn settle_all(&mut self, end: usize) -> Vec<Entry> {
        let mut synced: BTreeMap<Inode, usize> = BTreeMap::new();
        let mut folder = 0;
        for (place, entry) in self.journal[..end].iter().enumerate() {
            match entry.op {
                Op::Sync { file } => {
                    synced.insert(file, place);
                }
                Op::SyncFolder => folder = place,
                Op::Write { .. }
                | Op::SetLen { .. }
                | Op::Link { .. }
                | Op::Rename { .. }
                | Op::Unlink { .. } => {}
            }
        }
        let mut open = Vec::new();
        for (place, entry) in self.journal.drain(..end).enumerate() {
            let covered = match &entry.op {
                Op::Write { file, .. } | Op::SetLen { file, .. } => {
                    synced.get(file).is_some_and(|&sync| place < sync)
                }
                Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => place < folder,
                Op::Sync { .. } | Op::SyncFolder => continue,
            };
            if covered {
                self.durable.apply(&entry.op);
            } else {
                open.push(entry);
            }
        }
        open
    }

    /// Power is cut, at a moment of the journal that the dice choose.
    pub(super) fn power_cut(&mut self, dice: &mut Dice) {
        let all = self.journal.len();
        let anywhere = dice.index(all + 1);
        // The extremes are what breaks software most often: they come up every other time.
        let cut = match dice.below(4) {
            0 => 0,
            1 => all,
            _ => anywhere,
        };
        self.tally.lost += (all - cut) as u64;
        self.tally.cuts += 1;
        let open = self.settle_all(cut);
        let policy = dice.below(3);
        let mut folder_intact = true;
        for entry in open {
            let fate = match policy {
                0 => 0,
                1 => 1,
                _ => dice.below(4),
            };
            match &entry.op {
                Op::Write { file, offset, bytes } => match fate {
                    0 => self.tally.lost += 1,
                    1 => self.durable.write(*file, *offset, bytes),
                    _ => self.tear(dice, *file, *offset, bytes),
                },
                Op::SetLen { .. } if fate % 2 == 1 => self.durable.apply(&entry.op),
                Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => {
                    // A journaling file system loses names from the end only.
                    folder_intact &= fate % 2 == 1;
                    if folder_intact {
                        self.durable.apply(&entry.op);
                    }
                }
                Op::SetLen { .. } | Op::Sync { .. } | Op::SyncFolder => self.tally.lost += 1,
            }
        }
        self.journal.clear();
        self.durable.sweep();
        self.cache = self.durable.clone();
    }

    fn tear(&mut self, dice: &mut Dice, file: Inode, offset: u64, bytes: &[u8]) {
        let mut start = 0;
        let mut kept = 0;
        while start < bytes.len() {
            let into_sector = (offset + start as u64) % SECTOR_LEN;
            let end = bytes.len().min(start + index(SECTOR_LEN - into_sector));
            if dice.chance(0.5) {
                kept += end - start;
                self.durable.write(file, offset + start as u64, &bytes[start..end]);
            }
            start = end;
        }
        if kept == 0 {
            self.tally.lost += 1;
        } else if kept < bytes.len() {
            self.tally.torn += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::dice::Seed;

    /// The states a power cut can leave, over many throws.
    fn outcomes(prepare: impl Fn(&mut Platter)) -> BTreeMap<Option<Vec<u8>>, u32> {
        let mut seen = BTreeMap::new();
        for seed in 0..400 {
            let mut platter = Platter::default();
            prepare(&mut platter);
            platter.power_cut(&mut Seed(seed).stream("disk"));
            let content = platter.find("f").map(|file| platter.read(file).to_vec());
            *seen.entry(content).or_default() += 1;
        }
        seen
    }

    fn named(platter: &mut Platter) -> Inode {
        let file = platter.create("f");
        platter.sync_folder();
        platter.settle(platter.mark());
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
            platter.settle(platter.mark());
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
            platter.orphan(file, &mut seed.stream("orphans"));
            platter.sync(file);
            platter.settle(platter.mark());
        });
        assert!(failed.contains_key(&Some(Vec::new())), "{failed:?}");
        let again = outcomes(|platter| {
            let file = named(platter);
            platter.write(file, 0, b"a");
            platter.orphan(file, &mut Seed(1).stream("orphans"));
            platter.write(file, 0, b"a");
            platter.sync(file);
            platter.settle(platter.mark());
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
            platter.settle(platter.mark());
        });
        assert!(without.contains_key(&None));
        assert!(!without.contains_key(&Some(Vec::new())), "{without:?}");
    }
}
