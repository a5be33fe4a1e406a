//! Snapshots as pieces in the storage.
//!
//! A new snapshot is written under a new generation beside the old one; then one batch makes it
//! current and drops the others. A crash in between leaves pieces that nobody names, which the
//! next snapshot drops.

use std::sync::Arc;

use crate::disk::Disk;
use crate::storage::StorageError;

use super::machine::StoredChunks;
use super::transfer::Pin;

/// A snapshot on some disk: this node's, or one it is being installed from.
#[derive(Debug, Clone)]
pub struct StoredSnapshot<D> {
    /// The disk it lies on.
    pub disk: D,
    /// Under which generation.
    pub generation: u64,
    /// In how many pieces.
    pub chunks: u32,
    /// Size of all pieces together.
    pub bytes: u64,
    /// Keeps the pieces there.
    pub(crate) pin: Option<Arc<Pin>>,
}

impl<D: Disk> StoredSnapshot<D> {
    /// Its pieces, in order, read one by one.
    pub fn read(&self) -> StoredChunks {
        let Self { disk, generation, chunks, pin, .. } = self.clone();
        Box::new((0..chunks).map(move |chunk| {
            let _kept = &pin;
            let found = disk.database().snapshot_chunk(generation, chunk)?;
            found.ok_or_else(|| StorageError::Unreadable {
                table: "snapshot",
                key: format!("{generation}/{chunk}"),
                text: "missing".to_string(),
            })
        }))
    }

    /// Whether it lies on that disk.
    pub(crate) fn is_on(&self, disk: &D) -> bool {
        core::ptr::eq(self.disk.database(), disk.database())
    }
}
