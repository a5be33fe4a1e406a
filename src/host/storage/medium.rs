//! Where the bytes lie: a file that can be created in one step and opened again.
//!
//! [`Medium`] is what the simulator replaces. [`Watched`] stands between redb and the medium and
//! remembers *which* call failed first: redb itself only says "I/O error", and the difference
//! between "no space" and "fsync failed" decides whether the node lives on.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};
use sabotage::Bug;

use super::StorageError;

/// A file for the storage engine.
///
/// Creation is two steps because a half-created file cannot be repaired: it is built under a
/// temporary name, synced, and only then given its name.
pub trait Medium: Send + Sync + 'static {
    /// Whether the file exists under its final name.
    fn exists(&self) -> io::Result<bool>;

    /// Opens an empty file under the temporary name; what lay there is discarded.
    fn create_temporary(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Gives the temporary file its final name, durably: file synced, renamed, folder synced.
    fn publish(&self) -> io::Result<()>;

    /// Opens the file under its final name.
    ///
    /// Called at start, and again after a full disk: the earlier backend is closed by then.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;

    /// Whether [`Medium::set_suspect`] was told so, by this process or one before it.
    ///
    /// Media whose cache dies with the process need no memory for it: the default.
    fn is_suspect(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Remembers that an fsync of the file has failed, or that this has been mended.
    ///
    /// Need not outlive a power cut: what it is about, the cache, does not either.
    fn set_suspect(&self, _suspect: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the whole file anew, in place, after an fsync of it has failed.
///
/// The cache holds pages that the kernel has marked clean and that are not on the disk. Everything
/// works until the power goes, and then the file has holes. Written again they are dirty again.
pub(crate) fn rewrite(medium: &dyn Medium) -> Result<(), StorageError> {
    let doing = "writing the file anew after a failed fsync";
    let backend = medium.open().map_err(|e| StorageError::io(doing, e))?;
    let (backend, failure) = Watched::new(backend);
    let run = || -> io::Result<()> {
        let len = backend.len()?;
        backend.set_len(len)?;
        let mut buffer = vec![0; REWRITE_BYTES];
        let mut offset = 0;
        while offset < len {
            let rest = usize::try_from(len - offset).unwrap_or(usize::MAX).min(REWRITE_BYTES);
            backend.read(offset, &mut buffer[..rest])?;
            backend.write(offset, &buffer[..rest])?;
            offset += rest as u64;
        }
        backend.sync_data()?;
        backend.close()?;
        medium.set_suspect(false)
    };
    run().map_err(|error| {
        let noted = failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        noted.unwrap_or_else(|| StorageError::io(doing, error))
    })
}

/// Bytes rewritten at a time.
const REWRITE_BYTES: usize = 1024 * 1024;

/// What failed first on a backend.
pub(crate) type Failure = Arc<Mutex<Option<StorageError>>>;

/// A backend that remembers its first failed call and then refuses all others.
pub(crate) struct Watched {
    inner: Box<dyn StorageBackend>,
    failure: Failure,
}

impl Watched {
    /// Wraps a backend; the second value tells later what failed.
    pub(crate) fn new(inner: Box<dyn StorageBackend>) -> (Self, Failure) {
        let failure = Failure::default();
        (Self { inner, failure: Arc::clone(&failure) }, failure)
    }

    fn note<T>(&self, doing: &'static str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            let failure = match (doing, error.kind()) {
                (SYNC, _) => StorageError::Sync { text: error.to_string() },
                (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    StorageError::Full
                }
                _ => StorageError::io(doing, error),
            };
            let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(failure);
        })
    }

    /// Nothing may follow a failure: redb's clean-up would write to a disk of unknown state.
    fn alive(&self) -> io::Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(failure) => Err(io::Error::other(failure.to_string())),
        }
    }
}

const SYNC: &str = "syncing the storage file";

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.alive()?;
        self.note("measuring the storage file", self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.alive()?;
        self.note("reading the storage file", self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        self.note("resizing the storage file", self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?;
        let synced = self.inner.sync_data();
        if sabotage::planted(Bug::FsyncErrorIgnored) {
            return Ok(());
        }
        self.note(SYNC, synced)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?;
        self.note("writing the storage file", self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
