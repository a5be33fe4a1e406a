//! The bytes and the names of a disk in one state: what its machine sees, or what is durable.
//!
//! Pure, and without a journal: a change is applied or it is not. Bits that have turned are turned
//! in the bytes themselves; beside them is kept which, so that they can be counted and mended.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A file, whatever it is called.
pub(super) type Inode = u64;

/// Sizes of simulated files fit the machine that simulates them.
pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits into memory")
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Bits that are not as they were written, by the place of their byte.
    rot: BTreeMap<usize, u8>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.bytes.resize(len, 0);
        self.rot.split_off(&len);
    }

    pub(super) fn grow_to(&mut self, len: usize) {
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
    }

    /// Writes, growing the file if it must. What is written is as it should be.
    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        self.grow_to(end);
        self.bytes[start..end].copy_from_slice(bytes);
        if !self.rot.is_empty() {
            self.rot.retain(|place, _| !(start..end).contains(place));
        }
    }

    /// Turns one bit; false if the file is too short or the bit has turned before.
    pub(super) fn turn(&mut self, place: usize, mask: u8) -> bool {
        let Some(byte) = self.bytes.get_mut(place) else { return false };
        let turned = self.rot.entry(place).or_default();
        if *turned & mask != 0 {
            return false;
        }
        *turned |= mask;
        *byte ^= mask;
        true
    }

    /// Bytes of `range` that hold a turned bit.
    pub(super) fn rotten(&self, range: Range<usize>) -> u64 {
        if self.rot.is_empty() || range.is_empty() {
            return 0;
        }
        self.rot.range(range).count() as u64
    }

    /// Turns every turned bit back; returns how many.
    fn heal(&mut self) -> u64 {
        let mut healed = 0;
        for (place, mask) in std::mem::take(&mut self.rot) {
            self.bytes[place] ^= mask;
            healed += u64::from(mask.count_ones());
        }
        healed
    }
}

/// The bytes and the names, in one state.
#[derive(Clone, Debug, Default)]
pub(super) struct Surface {
    pub(super) files: BTreeMap<Inode, Content>,
    pub(super) names: BTreeMap<String, Inode>,
}

impl Surface {
    pub(super) fn file(&mut self, file: Inode) -> &mut Content {
        self.files.entry(file).or_default()
    }

    pub(super) fn link(&mut self, name: &str, file: Inode) {
        self.files.entry(file).or_default();
        self.names.insert(name.to_owned(), file);
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(file) = self.names.remove(from) {
            self.names.insert(to.to_owned(), file);
        }
    }

    /// Forgets files without a name.
    pub(super) fn sweep(&mut self) {
        let named: BTreeSet<Inode> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    /// Turns every turned bit back; returns how many.
    pub(super) fn heal(&mut self) -> u64 {
        self.files.values_mut().map(Content::heal).sum()
    }

    /// A copy of it, bit by bit: to the copy, turned bits are what was written.
    pub(super) fn copy(&self) -> Self {
        let mut copy = self.clone();
        copy.sweep();
        copy.files.values_mut().for_each(|content| content.rot.clear());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_bit_goes_when_its_byte_is_written_or_healed_and_not_before() {
        let mut content = Content::default();
        content.write(0, b"abcd");
        assert!(content.turn(1, 0x10) && content.turn(3, 0x01) && content.turn(3, 0x02));
        assert!(!content.turn(1, 0x10), "it has turned");
        assert!(!content.turn(4, 0x10), "there is no such byte");
        assert_eq!((content.bytes(), content.rotten(0..4)), (b"arcg".as_slice(), 2));
        content.write(0, b"AB");
        assert_eq!((content.bytes(), content.rotten(0..4)), (b"ABcg".as_slice(), 1));
        assert_eq!(content.heal(), 2);
        assert_eq!((content.bytes(), content.rotten(0..4)), (b"ABcd".as_slice(), 0));
        assert!(content.turn(3, 0x01));
        content.set_len(2);
        content.set_len(4);
        assert_eq!(content.heal(), 0, "what is cut off takes its rot along");
        assert_eq!(content.bytes(), b"AB\0\0");
    }

    #[test]
    fn a_copy_takes_turned_bits_for_good_and_leaves_nameless_files_behind() {
        let mut surface = Surface::default();
        surface.link("f", 1);
        surface.file(1).write(0, b"a");
        surface.file(2).write(0, b"nobody's");
        assert!(surface.file(1).turn(0, 0x02));
        let mut copy = surface.copy();
        assert_eq!((copy.heal(), surface.heal()), (0, 1));
        assert_eq!((copy.file(1).bytes(), surface.file(1).bytes()), (b"c".as_slice(), &b"a"[..]));
        assert!(copy.files.keys().eq([&1]));
    }
}
