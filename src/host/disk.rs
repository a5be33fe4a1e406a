//! The disk of one node, as its tasks see it: submit a batch, await its fsync, read at any time.
//!
//! `server` puts one thread behind it that drains a queue into one transaction (group commit). The
//! simulator commits on a torn disk, waits the drawn latency, and settles. Both call
//! [`Database::commit`](crate::storage::Database::commit); what a failure means is decided there:
//! after a failed fsync nothing is ever written again, after a full disk the next batch may pass.

use std::future::Future;

use crate::storage::{Batch, Database, StorageError};

/// Free space the node keeps for itself: below it client proposals are refused, so that votes,
/// snapshots and purges still find room.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// Durable batches, in order, and reads.
pub trait Disk: Clone + Send + Sync + 'static {
    /// Resolves when the batch is durable, or refused.
    type Commit: Future<Output = Result<(), StorageError>> + Send + 'static;

    /// Submits a batch: it takes its place in the order *now*, not when the result is polled.
    ///
    /// * Batches become durable in the order submitted, each wholly or not at all.
    /// * Many waiting batches share one fsync. Dropping the result does not withdraw the batch.
    /// * Errors: [`StorageError::Full`] refuses this batch alone; everything else is for good.
    fn commit(&self, batch: Batch) -> Self::Commit;

    /// Reads: what has been committed, also what is not yet durable.
    fn database(&self) -> &Database;

    /// Bytes that new data may still take, reserve not counted. `None` when it cannot be told.
    ///
    /// Cheap: implementations measure now and then, not at each call.
    fn free_bytes(&self) -> Option<u64>;
}
