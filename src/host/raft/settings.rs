//! The numbers of consensus, for a local network with slow disks.
//!
//! Source: openraft's configuration reference; values measured in simulation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use sabotage::Bug;

/// What may differ between nodes and tests. [`Settings::default`] is for production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This node's raft id. Never reused.
    pub raft_id: u64,
    /// The voters that an empty log begins with: the same for all of them. Empty for a node that
    /// was admitted.
    pub founders: BTreeSet<u64>,
    /// A snapshot is made after so many entries.
    pub snapshot_entries: u64,
    /// A snapshot is also made after so many bytes of entries.
    pub snapshot_bytes: u64,
    /// Bytes that fill a piece of a snapshot, at most [`store::PIECE_BYTES`].
    pub piece_bytes: usize,
    /// Entries kept behind a snapshot, for followers that lag a little.
    pub keep_entries: u64,
    /// Memory for the tail of the log, in bytes; entries not yet durable are kept beside it.
    pub cache_bytes: usize,
    /// How often a full disk is asked whether there is room again.
    pub full_retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            raft_id: 1,
            founders: BTreeSet::from([1]),
            snapshot_entries: 50_000,
            snapshot_bytes: 32 * 1024 * 1024,
            piece_bytes: store::PIECE_BYTES,
            keep_entries: 1_000,
            cache_bytes: 8 * 1024 * 1024,
            full_retry: Duration::from_millis(500),
        }
    }
}

/// Client proposals are refused when less than this is free: votes, snapshots and purges still
/// find room then.
pub(crate) const LOW_SPACE_BYTES: u64 = 16 * 1024 * 1024;

/// How long after a leader's last word nobody votes for another.
pub(crate) const LEASE: Duration = Duration::from_millis(LEASE_MS);
const LEASE_MS: u64 = 800;

/// Largest command, in bytes.
pub(crate) const COMMAND_MAX_BYTES: usize = 1024 * 1024;

/// Largest group of entries applied in one call.
pub(crate) const APPLY_ENTRIES: usize = 256;

impl Settings {
    /// What openraft is told.
    pub(crate) fn config(&self) -> Result<Arc<Config>, openraft::ConfigError> {
        let config = Config {
            cluster_name: "tern".to_string(),
            // The default of 50 and 150 to 300 ms is too nervous for slow disks.
            heartbeat_interval: 100,
            election_timeout_min: 400,
            // Which is the lease, too.
            election_timeout_max: LEASE_MS,
            // A leader that is heard but hears nobody must fall silent: lease plus longest
            // election, at least.
            quorum_loss_probe_interval: Some(2_000),
            enable_pre_vote: Some(true),
            // A restarted leader whose unsynced tail was lost would use a log id twice.
            enable_leader_restore: Some(sabotage::planted(Bug::LeaderRestore)),
            // A log that went back is a disk that lost data: never accepted.
            allow_log_reversion: Some(false),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: 256,
            max_payload_entries: 300,
            max_append_entries: Some(4_096),
            ..Config::default()
        };
        config.validate().map(Arc::new)
    }
}
