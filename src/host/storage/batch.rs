//! What can be written: operations on the five tables, gathered in batches.

use bytes::Bytes;

/// A single value with a fixed name.
///
/// The names are on disk: never rename, never reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meta {
    /// The vote this node has given.
    Vote,
    /// The last log id known to be committed.
    Committed,
    /// Which snapshot is current, and up to where it reaches.
    Snapshot,
    /// Which cluster this log is of, and which member of it this node is.
    Identity,
    /// How often this node has started.
    Boot,
    /// What this node has promised while its cluster was founded.
    Founding,
    /// Under which name this node asks to be admitted.
    Admission,
    /// Between which event rows some are missing that other members have.
    Rows,
}

impl Meta {
    /// The key in the table `meta`.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Snapshot => "snapshot",
            Self::Identity => "identity",
            Self::Boot => "boot",
            Self::Founding => "founding",
            Self::Admission => "admission",
            Self::Rows => "rows",
        }
    }
}

/// One change to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Appends a log record.
    PutLog {
        /// Index of the record before it, or the last purged one; `None` for the very first. A
        /// batch whose predecessor was refused is refused too, so the log never has a hole.
        after: Option<u64>,
        /// Position in the log, from 0.
        index: u64,
        /// Encoded entry.
        record: Bytes,
    },
    /// Removes the log records from `index` to the end.
    TruncateLogFrom {
        /// First index removed.
        index: u64,
    },
    /// Removes the log records up to and including `index`; the log goes on behind it.
    PurgeLogThrough {
        /// Last index removed.
        index: u64,
        /// Encoded log id of that record, for [`Database::purged`](super::Database::purged).
        log_id: Bytes,
    },
    /// Sets a named value.
    PutMeta {
        /// Which.
        key: Meta,
        /// Its bytes.
        value: Bytes,
    },
    /// Stores one piece of a snapshot.
    PutSnapshotChunk {
        /// Which snapshot.
        generation: u64,
        /// Which piece, from 0.
        chunk: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Removes the pieces of all snapshots but those named.
    DropSnapshotsExcept {
        /// The ones that stay: the current one, and one that is being received.
        keep: Vec<u64>,
    },
    /// Stores (or stores again) one row of the event log.
    PutEventRow {
        /// Its sequence number.
        sequence: u64,
        /// Its bytes.
        row: Bytes,
    },
    /// Removes the event rows below a sequence number.
    DropEventRowsBelow {
        /// First row that stays.
        sequence: u64,
    },
    /// Sets a cursor: where somebody stands (a counter grant, a consumer).
    PutCursor {
        /// Whose, 512 bytes at most by convention.
        key: Bytes,
        /// Its bytes.
        value: Bytes,
    },
    /// Forgets a cursor.
    DropCursor {
        /// Whose.
        key: Bytes,
    },
}

/// Operations that become durable together or not at all, applied in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    lazy: bool,
}

impl Batch {
    /// An empty batch. Committing it waits for everything submitted before.
    pub const fn new() -> Self {
        Self { ops: Vec::new(), lazy: false }
    }

    /// Adds one operation at the end.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Adds one operation at the end.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Asks for no fsync of its own: it becomes durable with the next batch that does.
    ///
    /// For what a replay of the log makes again. A full disk does not refuse it: it is kept in
    /// memory, up to a bound, and stored with a later batch. Changes to the log are never lazy.
    #[must_use]
    pub fn lazily(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// Whether it asks for no fsync of its own.
    pub fn is_lazy(&self) -> bool {
        self.lazy && !self.ops.iter().any(Op::changes_log)
    }

    /// Adds all operations of another batch at the end.
    pub fn append(&mut self, mut other: Self) {
        self.ops.append(&mut other.ops);
    }

    /// The operations, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether it holds no operation.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// How many bytes of content it carries, to bound queues.
    pub fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }
}

impl FromIterator<Op> for Batch {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        Self { ops: ops.into_iter().collect(), lazy: false }
    }
}

impl Op {
    fn changes_log(&self) -> bool {
        match self {
            Self::PutLog { .. } | Self::TruncateLogFrom { .. } | Self::PurgeLogThrough { .. } => {
                true
            }
            Self::PutMeta { .. }
            | Self::PutSnapshotChunk { .. }
            | Self::DropSnapshotsExcept { .. }
            | Self::PutEventRow { .. }
            | Self::DropEventRowsBelow { .. }
            | Self::PutCursor { .. }
            | Self::DropCursor { .. } => false,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::PutLog { record, .. } => record.len(),
            Self::PutMeta { value, .. } => value.len(),
            Self::PutSnapshotChunk { bytes, .. } => bytes.len(),
            Self::PutEventRow { row, .. } => row.len(),
            Self::PutCursor { key, value } => key.len() + value.len(),
            Self::PurgeLogThrough { log_id, .. } => log_id.len(),
            Self::DropCursor { key } => key.len(),
            Self::TruncateLogFrom { .. }
            | Self::DropSnapshotsExcept { .. }
            | Self::DropEventRowsBelow { .. } => 0,
        }
    }
}
