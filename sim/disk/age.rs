//! How long each durable sector has lain untouched: what bit rot goes by.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::SECTOR_LEN;
use super::surface::{Inode, Surface, index};

/// The sectors that `len` bytes from `offset` touch.
pub(super) fn sectors(offset: u64, len: usize) -> Range<usize> {
    if len == 0 {
        return 0..0;
    }
    let last = offset + len as u64 - 1;
    index(offset / SECTOR_LEN)..index(last / SECTOR_LEN) + 1
}

/// When each sector of each file became durable; nothing for a hole.
#[derive(Debug, Default)]
pub(super) struct Ages(BTreeMap<Inode, Vec<Option<Duration>>>);

impl Ages {
    /// These sectors have been written at `now`.
    pub(super) fn stamp(&mut self, file: Inode, sectors: Range<usize>, now: Duration) {
        let stamps = self.0.entry(file).or_default();
        if stamps.len() < sectors.end {
            stamps.resize(sectors.end, None);
        }
        stamps[sectors].fill(Some(now));
    }

    /// Everything of a surface has been written at `now`.
    pub(super) fn stamp_all(&mut self, surface: &Surface, now: Duration) {
        self.0.clear();
        for (&file, content) in &surface.files {
            self.stamp(file, sectors(0, content.bytes().len()), now);
        }
    }

    /// Sectors from `first` on are gone.
    pub(super) fn cut_off(&mut self, file: Inode, first: usize) {
        if let Some(stamps) = self.0.get_mut(&file) {
            stamps.truncate(first);
        }
    }

    /// Forgets the files that `surface` does not have.
    pub(super) fn sweep(&mut self, surface: &Surface) {
        self.0.retain(|file, _| surface.files.contains_key(file));
    }

    /// Sectors of a file that were last written longer than `older_than` ago.
    pub(super) fn old(
        &self,
        file: Inode,
        now: Duration,
        older_than: Duration,
    ) -> impl Iterator<Item = usize> {
        let stamps = self.0.get(&file).map_or(&[][..], Vec::as_slice);
        let is_old = move |stamp: &Option<Duration>| {
            stamp.is_some_and(|at| now.saturating_sub(at) > older_than)
        };
        stamps.iter().enumerate().filter(move |(_, stamp)| is_old(stamp)).map(|(place, _)| place)
    }
}
