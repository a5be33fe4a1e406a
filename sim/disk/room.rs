//! Room on the disk: how much there is, and the writes at which there is suddenly none.

use std::io;
use std::ops::Range;

/// The room of one disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes that all files together may take.
    pub(super) capacity: Option<u64>,
    /// Writes and growths asked for so far, refused ones too.
    pub(super) seen: u64,
    /// The numbers of those that find the disk full, counted from 1.
    full: Range<u64>,
}

impl Room {
    /// The `n`-th write or growth from now and the `writes - 1` after it find the disk full.
    pub(super) fn fill_at(&mut self, n: u64, writes: u32) {
        let first = self.seen.saturating_add(n.max(1));
        self.full = first..first.saturating_add(u64::from(writes));
    }

    /// There is room again.
    pub(super) fn empty(&mut self) {
        self.full = 0..0;
    }

    /// Asks for room: a write, or growth by `grown` bytes beyond what is `used`.
    ///
    /// Errors: `StorageFull`.
    pub(super) fn ask(&mut self, grown: u64, used: impl FnOnce() -> u64) -> io::Result<()> {
        self.seen += 1;
        let over = |capacity| grown > 0 && used() + grown > capacity;
        if self.full.contains(&self.seen) || self.capacity.is_some_and(over) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}
