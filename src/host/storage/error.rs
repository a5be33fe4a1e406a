//! Why the storage refused, failed or stopped.

use std::path::PathBuf;

/// Every way in which storage answers other than "durable".
///
/// Cloneable, since one failed fsync answers every batch that waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk is full. The batch is not stored; later ones may be, once there is space.
    #[error("disk full: nothing was stored")]
    Full,
    /// An fsync failed. What the disk holds is unknown, so nothing is written any more: asking
    /// again may answer "fine" without the data being there.
    #[error("fsync failed: {text}; stopping, since what the disk holds is unknown")]
    Sync {
        /// What the system said.
        text: String,
    },
    /// Reading or writing the file failed, other than by lack of space.
    #[error("disk error while {doing}: {text}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system or the storage engine said.
        text: String,
    },
    /// An earlier failure stopped the storage for good.
    #[error("storage stopped by an earlier failure: {text}")]
    Stopped {
        /// The first failure.
        text: String,
    },
    /// A record does not match its checksum.
    #[error("corrupt record in table `{table}`, key {key}: checksum mismatch (bit rot?)")]
    Corrupt {
        /// The table it lies in.
        table: &'static str,
        /// Its key, printable.
        key: String,
    },
    /// A record's checksum holds, but its content makes no sense to this version.
    #[error("unreadable record in table `{table}`, key {key}: {text}")]
    Unreadable {
        /// The table it lies in.
        table: &'static str,
        /// Its key, printable.
        key: String,
        /// What is wrong with it.
        text: String,
    },
    /// A log record would leave a hole; the whole batch was left out.
    #[error("log record {index} does not follow {last:?}: the batch was not stored")]
    LogGap {
        /// Index of the record.
        index: u64,
        /// Last index in the log, or the last purged one.
        last: Option<u64>,
    },
    /// A log record that must exist does not.
    #[error("log record {index} is missing")]
    LogMissing {
        /// Index of the record.
        index: u64,
    },
    /// The folder was written by a newer version.
    #[error(
        "the data folder has format {found}, this version knows up to {known}: upgrade this node"
    )]
    TooNew {
        /// Format found on disk.
        found: u32,
        /// Newest format this version reads.
        known: u32,
    },
    /// Another process uses the folder.
    #[error("the data folder {path} is in use by {holder}")]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as known: "process 4711" or "another process".
        holder: String,
    },
}

impl StorageError {
    /// Builds an [`StorageError::Io`].
    pub(crate) fn io(doing: &'static str, error: impl core::fmt::Display) -> Self {
        Self::Io { doing, text: error.to_string() }
    }
}

/// What a storage error looks like through an interface that knows only I/O errors (openraft's).
impl From<StorageError> for std::io::Error {
    fn from(error: StorageError) -> Self {
        let kind = if error == StorageError::Full {
            std::io::ErrorKind::StorageFull
        } else {
            std::io::ErrorKind::Other
        };
        Self::new(kind, error)
    }
}
