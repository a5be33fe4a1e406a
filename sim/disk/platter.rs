//! What a disk holds: what its machine sees, and what would survive a power cut now.
//!
//! Every change goes to the cache at once and into a journal. An fsync is an entry of that
//! journal too; once it has had its time ([`Platter::settle`]) what it covers is durable. A power
//! cut picks a moment in the journal: fsyncs before it have happened, later changes have not, and
//! of the changes no fsync covers any subset survives, torn at sector boundaries.
//!
//! Names live in the folder, and have an fsync of their own, as in POSIX. Pure: no tasks, and time
//! comes in as `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::age::{Ages, sectors};
use super::surface::{Inode, Surface, index};
use crate::dice::Dice;

/// What a disk writes wholly or not at all.
pub const SECTOR_LEN: u64 = 512;

/// A write on its way to the disk.
#[derive(Clone, Debug)]
struct Write {
    file: Inode,
    offset: u64,
    bytes: Vec<u8>,
    /// Where the disk puts it instead.
    astray: Option<u64>,
}

impl Write {
    fn lands_at(&self) -> u64 {
        self.astray.unwrap_or(self.offset)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(Write),
    SetLen { file: Inode, len: u64 },
    Sync { file: Inode },
    Link { name: String, file: Inode },
    Rename { from: String, to: String },
    Unlink { name: String },
    SyncFolder,
}

/// What becomes of a write that no fsync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    Whole,
    Torn,
}

impl Fate {
    const fn of(number: u64) -> Self {
        match number {
            0 => Self::Lost,
            1 => Self::Whole,
            _ => Self::Torn,
        }
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    op: Op,
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
    /// Writes and growths refused because the disk was full.
    pub refused: u64,
    /// Bits that have turned in durable data.
    pub rotted: u64,
    /// Bytes with a turned bit that the machine has read; one read twice counts twice.
    pub rotten_read: u64,
    /// Writes that have become durable at a wrong place.
    pub misdirected: u64,
}

/// The disk's content; see the module.
#[derive(Debug, Default)]
pub(super) struct Platter {
    cache: Surface,
    durable: Surface,
    ages: Ages,
    journal: Vec<Entry>,
    numbers: u64,
    inodes: Inode,
    /// The draw that says where the next write of a sector or more goes astray.
    stray: Option<u64>,
    pub(super) tally: Tally,
}

impl Platter {
    fn record(&mut self, op: Op) {
        match &op {
            Op::Write(write) => {
                self.cache.file(write.file).write(index(write.offset), &write.bytes);
            }
            Op::SetLen { file, len } => self.cache.file(*file).set_len(index(*len)),
            Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => name(&mut self.cache, &op),
            Op::Sync { .. } | Op::SyncFolder => {}
        }
        self.numbers += 1;
        self.journal.push(Entry { number: self.numbers, op });
    }

    /// Makes a change durable, wholly.
    fn apply(&mut self, now: Duration, op: &Op) {
        match op {
            Op::Write(write) => self.land_all(now, write),
            Op::SetLen { file, len } => {
                self.durable.file(*file).set_len(index(*len));
                self.ages.cut_off(*file, index(len.div_ceil(SECTOR_LEN)));
            }
            Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => name(&mut self.durable, op),
            Op::Sync { .. } | Op::SyncFolder => {}
        }
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

    pub(super) fn len(&self, file: Inode) -> u64 {
        self.cache.files.get(&file).map_or(0, |content| content.bytes().len() as u64)
    }

    /// The bytes of a file from `offset` on, `len` of them or all; `None` beyond its end.
    pub(super) fn read(&mut self, file: Inode, offset: u64, len: Option<usize>) -> Option<&[u8]> {
        let Some(content) = self.cache.files.get(&file) else {
            return (offset == 0 && len.unwrap_or(0) == 0).then_some(&[]);
        };
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = len.map_or(content.bytes().len(), |len| start.saturating_add(len));
        let bytes = content.bytes().get(start..end)?;
        self.tally.rotten_read += content.rotten(start..end);
        Some(bytes)
    }

    pub(super) fn write(&mut self, file: Inode, offset: u64, bytes: &[u8]) {
        self.tally.writes += 1;
        self.tally.bytes += bytes.len() as u64;
        let astray = self.lead_astray(file, offset, bytes.len() as u64);
        self.record(Op::Write(Write { file, offset, bytes: bytes.to_vec(), astray }));
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

    /// The next write that has another place to go to goes there; see [`super::Disk`].
    pub(super) fn misdirect(&mut self, dice: &mut Dice) {
        self.stray = Some(dice.draw());
    }

    /// The sector at which a write lands that should land at `offset`, if it goes astray.
    fn lead_astray(&mut self, file: Inode, offset: u64, len: u64) -> Option<u64> {
        let draw = self.stray.filter(|_| len >= SECTOR_LEN)?;
        let room = self.len(file).checked_sub(len)?;
        let places = room / SECTOR_LEN + 1;
        let own = offset.is_multiple_of(SECTOR_LEN).then_some(offset / SECTOR_LEN);
        let own = own.filter(|&own| own < places);
        let others = places - u64::from(own.is_some());
        let place = u64::try_from((u128::from(draw) * u128::from(others)) >> 64).ok()?;
        if others == 0 {
            return None;
        }
        self.stray = None;
        Some((place + u64::from(own.is_some_and(|own| place >= own))) * SECTOR_LEN)
    }

    /// An fsync of the file has failed. What it should have covered was written wholly, in part or
    /// not at all just then, as the dice say; the cache shows all of it, is clean for the kernel,
    /// and will not be written again unless somebody writes the same place anew.
    pub(super) fn orphan(&mut self, file: Inode, now: Duration, dice: &mut Dice) {
        for entry in std::mem::take(&mut self.journal) {
            match &entry.op {
                Op::Write(write) if write.file == file => {
                    let fate = Fate::of(dice.below(3));
                    self.suffer(now, write, fate, dice);
                }
                Op::SetLen { file: of, .. } if *of == file => {
                    if dice.chance(0.5) {
                        self.apply(now, &entry.op);
                    }
                }
                Op::Write(_)
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
        self.cache.names.values().map(|&file| self.len(file)).sum()
    }

    /// What is durable now.
    pub(super) fn image(&self) -> Image {
        Image(self.durable.copy())
    }

    /// Puts an image in the place of everything.
    pub(super) fn restore(&mut self, image: &Image, now: Duration) {
        self.journal.clear();
        self.stray = None;
        self.durable = image.0.clone();
        self.cache = image.0.clone();
        self.ages.stamp_all(&self.durable, now);
        // The image may come from another disk: its files keep their numbers, new ones get others.
        let last = image.0.files.keys().next_back().copied();
        self.inodes = self.inodes.max(last.unwrap_or(0));
    }

    /// Forgets everything.
    pub(super) fn wipe(&mut self) {
        self.restore(&Image(Surface::default()), Duration::ZERO);
    }

    /// Turns up to `bits` bits of sectors that have been durable, and left alone, for longer than
    /// `older_than`; returns how many. Draws twice per bit asked for.
    pub(super) fn rot(
        &mut self,
        bits: u32,
        older_than: Duration,
        now: Duration,
        dice: &mut Dice,
    ) -> u32 {
        let old = self.old_sectors(now, older_than);
        let mut turned = 0;
        for _ in 0..bits {
            let (which, bit) = (dice.draw(), dice.draw());
            let scaled = |draw: u64, end: usize| {
                usize::try_from((u128::from(draw) * end as u128) >> 64).unwrap_or(0)
            };
            let Some(&(file, sector)) = old.get(scaled(which, old.len())) else { continue };
            let start = sector * index(SECTOR_LEN);
            let content = self.durable.file(file);
            let len = content.bytes().len().saturating_sub(start).min(index(SECTOR_LEN));
            let bit = scaled(bit, len * 8);
            let (place, mask) = (start + bit / 8, 1 << (bit % 8));
            if content.turn(place, mask) {
                self.cache.file(file).turn(place, mask);
                turned += 1;
            }
        }
        self.tally.rotted += u64::from(turned);
        turned
    }

    /// Sectors of named files that hold what they held `older_than` ago, and are to hold it on.
    fn old_sectors(&self, now: Duration, older_than: Duration) -> Vec<(Inode, usize)> {
        let mut dirty = BTreeSet::new();
        for entry in &self.journal {
            if let Op::Write(write) = &entry.op {
                for start in [Some(write.offset), write.astray].into_iter().flatten() {
                    let touched = sectors(start, write.bytes.len());
                    dirty.extend(touched.map(|sector| (write.file, sector)));
                }
            }
        }
        let named: BTreeSet<Inode> = self.durable.names.values().copied().collect();
        let named = named.into_iter().filter(|file| self.cache.files.contains_key(file));
        named
            .flat_map(|file| {
                let old = self.ages.old(file, now, older_than);
                old.map(move |sector| (file, sector))
            })
            .filter(|place| !dirty.contains(place))
            .collect()
    }

    /// Turns back every bit that has turned and was not written since; returns how many.
    pub(super) fn scrub(&mut self) -> u64 {
        self.cache.heal();
        self.durable.heal()
    }

    /// The place in the journal up to which a [`Self::settle`] asked for now would go.
    pub(super) fn mark(&self) -> u64 {
        self.numbers
    }

    /// The fsyncs up to `mark` have had their time.
    pub(super) fn settle(&mut self, mark: u64, now: Duration) {
        let end = self.journal.partition_point(|entry| entry.number <= mark);
        if end == 0 {
            return;
        }
        let rest = self.journal.split_off(end);
        let open = self.settle_all(now);
        self.journal = open;
        self.journal.extend(rest);
    }

    /// Takes all entries out; makes durable what their fsyncs cover, returns what they do not.
    fn settle_all(&mut self, now: Duration) -> Vec<Entry> {
        let mut synced: BTreeMap<Inode, usize> = BTreeMap::new();
        let mut folder = 0;
        for (place, entry) in self.journal.iter().enumerate() {
            match entry.op {
                Op::Sync { file } => {
                    synced.insert(file, place);
                }
                Op::SyncFolder => folder = place,
                Op::Write(_)
                | Op::SetLen { .. }
                | Op::Link { .. }
                | Op::Rename { .. }
                | Op::Unlink { .. } => {}
            }
        }
        let mut open = Vec::new();
        for (place, entry) in std::mem::take(&mut self.journal).into_iter().enumerate() {
            let covered = match &entry.op {
                Op::Write(Write { file, .. }) | Op::SetLen { file, .. } => {
                    synced.get(file).is_some_and(|&sync| place < sync)
                }
                Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => place < folder,
                Op::Sync { .. } | Op::SyncFolder => continue,
            };
            if covered {
                self.apply(now, &entry.op);
            } else {
                open.push(entry);
            }
        }
        open
    }

    /// Power is cut, at a moment of the journal that the dice choose.
    pub(super) fn power_cut(&mut self, now: Duration, dice: &mut Dice) {
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
        self.journal.truncate(cut);
        let open = self.settle_all(now);
        let policy = dice.below(3);
        let mut folder_intact = true;
        for entry in open {
            let fate = match policy {
                0 => 0,
                1 => 1,
                _ => dice.below(4),
            };
            match &entry.op {
                Op::Write(write) => self.suffer(now, write, Fate::of(fate), dice),
                Op::SetLen { .. } if fate % 2 == 1 => self.apply(now, &entry.op),
                Op::Link { .. } | Op::Rename { .. } | Op::Unlink { .. } => {
                    // A journaling file system loses names from the end only.
                    folder_intact &= fate % 2 == 1;
                    if folder_intact {
                        self.apply(now, &entry.op);
                    }
                }
                Op::SetLen { .. } | Op::Sync { .. } | Op::SyncFolder => self.tally.lost += 1,
            }
        }
        self.durable.sweep();
        self.ages.sweep(&self.durable);
        self.cache = self.durable.clone();
    }

    /// What is left of a write that no fsync covers.
    fn suffer(&mut self, now: Duration, write: &Write, fate: Fate, dice: &mut Dice) {
        match fate {
            Fate::Lost => self.tally.lost += 1,
            Fate::Whole => self.land_all(now, write),
            Fate::Torn => self.tear(now, write, dice),
        }
    }

    /// Each sector of a write becomes durable or does not.
    fn tear(&mut self, now: Duration, write: &Write, dice: &mut Dice) {
        let mut start = 0;
        let mut kept = 0;
        while start < write.bytes.len() {
            let into_sector = (write.lands_at() + start as u64) % SECTOR_LEN;
            let end = write.bytes.len().min(start + index(SECTOR_LEN - into_sector));
            if dice.chance(0.5) {
                kept += end - start;
                self.land(now, write, start..end);
            }
            start = end;
        }
        if kept == 0 {
            self.tally.lost += 1;
            return;
        }
        self.tally.torn += u64::from(kept < write.bytes.len());
        self.tally.misdirected += u64::from(write.astray.is_some());
    }

    fn land_all(&mut self, now: Duration, write: &Write) {
        self.land(now, write, 0..write.bytes.len());
        self.tally.misdirected += u64::from(write.astray.is_some());
    }

    /// Makes a part of a write durable, where the disk puts it.
    fn land(&mut self, now: Duration, write: &Write, part: Range<usize>) {
        let place = write.lands_at() + part.start as u64;
        let mut bytes = &write.bytes[part];
        let content = self.durable.file(write.file);
        if write.astray.is_some() {
            // The file system notes the length it expects; what goes astray adds nothing to it.
            content.grow_to(index(write.offset) + write.bytes.len());
            let room = content.bytes().len().saturating_sub(index(place));
            bytes = &bytes[..bytes.len().min(room)];
        }
        content.write(index(place), bytes);
        self.ages.stamp(write.file, sectors(place, bytes.len()), now);
    }
}

/// Applies a change of names.
fn name(surface: &mut Surface, op: &Op) {
    match op {
        Op::Link { name, file } => surface.link(name, *file),
        Op::Rename { from, to } => surface.rename(from, to),
        Op::Unlink { name } => {
            surface.names.remove(name);
        }
        Op::Write(_) | Op::SetLen { .. } | Op::Sync { .. } | Op::SyncFolder => {}
    }
}

#[cfg(test)]
mod tests;
