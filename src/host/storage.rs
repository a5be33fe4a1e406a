//! One redb file: the log, single values, the snapshot, event rows, cursors.
//!
//! Synchronous: whoever drives it decides on which thread. [`Database::commit`] makes many
//! batches durable with one fsync; each batch wholly or not at all. What follows a failure is
//! decided here, once for all runtimes:
//!
//! * fsync failed: latched. Nothing is written any more, since the kernel may have dropped the
//!   dirty pages and the next fsync would say "fine". The next start writes the whole file anew.
//! * disk full: redb is closed and opened again, which takes it back to its last commit; the
//!   batches are refused with [`StorageError::Full`] and later ones may pass.
//! * anything else: latched too.
//!
//! Every record carries a CRC-32C of table, key and content.

mod batch;
mod error;
mod file;
mod guard;
mod medium;
mod read;
mod record;
mod tables;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod torn;

use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

pub use batch::{Batch, Meta, Op};
pub use error::StorageError;
pub use file::Folder;
use guard::guarded;
pub use medium::Medium;
use medium::{Failure, Watched};
use sabotage::Bug;

/// Newest format of the file that this version writes and reads.
const FORMAT: u32 = 1;

/// Memory redb may use for pages. Reads are rare (the log has a cache of its own).
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of lazy batches kept against a full disk; beyond, they are refused like all others.
const LAZY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The storage of one node.
pub struct Database {
    // `None` after a full disk, until it could be opened again. Closed before the medium, which
    // holds the folder's lock: fields drop in this order.
    engine: RwLock<Option<Engine>>,
    medium: Box<dyn Medium>,
    // Also what serialises commits.
    progress: Mutex<Progress>,
    stopped: OnceLock<StorageError>,
}

struct Engine {
    redb: redb::Database,
    failure: Failure,
}

/// Where the file stands after the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    /// Last index in the log, or the last purged one.
    last_log: Option<u64>,
    /// Number of transactions so far.
    serial: u64,
}

/// What commits change; its lock is what serialises them.
struct Progress {
    position: Position,
    /// Lazy batches since the last fsync: a full disk takes redb back behind them.
    lazy: Vec<Batch>,
    lazy_bytes: usize,
    /// Whether that has happened, so that they must be applied again.
    lazy_lost: bool,
}

impl core::fmt::Debug for Database {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Database").field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens the file on a medium, creating it in one step if it is not there.
    ///
    /// Errors: [`StorageError::TooNew`] for a file of a newer version, [`StorageError::Corrupt`]
    /// when its first records are damaged, else what the medium said.
    pub fn open(medium: impl Medium) -> Result<Self, StorageError> {
        let medium: Box<dyn Medium> = Box::new(medium);
        let exists = medium.exists().map_err(|e| StorageError::io("looking for the file", e))?;
        if !exists {
            create(&*medium)?;
        } else if medium.is_suspect().map_err(|e| StorageError::io("looking for doubts", e))? {
            tracing::warn!("an fsync had failed: the storage file is written anew");
            medium::rewrite(&*medium)?;
        }
        let engine = Engine::open(&*medium).inspect_err(|error| doubt(&*medium, error))?;
        engine.check_format()?;
        let progress = Progress::new(engine.position()?);
        Ok(Self {
            medium,
            engine: RwLock::new(Some(engine)),
            progress: Mutex::new(progress),
            stopped: OnceLock::new(),
        })
    }

    /// Opens the file in a folder of the file system ([`Folder`] holds the folder's lock).
    ///
    /// Errors: as [`Folder::open`] and [`Database::open`].
    pub fn open_folder(path: &std::path::Path) -> Result<Self, StorageError> {
        Self::open(Folder::open(path)?)
    }

    /// Makes batches durable with one transaction and one fsync, in order.
    ///
    /// * Returns one result for each batch. A batch whose log records do not follow the log is
    ///   left out alone ([`StorageError::LogGap`]); every other failure is that of all.
    /// * Blocks for the time of an fsync; when all batches are lazy, for that of a write.
    /// * Errors: [`StorageError::Full`] is passing, all others but `LogGap` are for good.
    pub fn commit(&self, batches: &[Batch]) -> Vec<Result<(), StorageError>> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        // First of all, so that the batches are judged by what the file holds: a transaction that
        // was refused for want of room may have landed all the same.
        let opened = self.ensure_open(&mut progress);
        let mut after = progress.position;
        let mut judged: Vec<_> = batches.iter().map(|batch| after.admit(batch)).collect();
        after.serial += 1;
        let passing: Vec<&Batch> =
            batches.iter().zip(&judged).filter(|(_, j)| j.is_ok()).map(|(b, _)| b).collect();
        let lazy = passing.iter().all(|batch| batch.is_lazy());
        let durably = !lazy || progress.wants_fsync(passing.iter().map(|b| b.bytes()).sum());
        let outcome = opened.and_then(|()| self.write(&passing, durably, &mut progress, after));
        if durably && outcome.is_ok() {
            progress.forget_lazy();
        } else {
            progress.keep_lazy(&passing);
        }
        if let Err(error) = outcome {
            if sabotage::planted(Bug::FullDiskAnswered) && error == StorageError::Full {
                return judged;
            }
            for (result, batch) in judged.iter_mut().zip(batches) {
                let kept = error == StorageError::Full && batch.is_lazy();
                // Also for a batch with a gap: what it should follow may have been in this commit.
                if !kept || progress.lazy_bytes > LAZY_MAX_BYTES {
                    *result = Err(error.clone());
                }
            }
        }
        judged
    }

    /// Commits a single batch: see [`Database::commit`].
    pub fn commit_one(&self, batch: Batch) -> Result<(), StorageError> {
        self.commit(&[batch]).pop().unwrap_or(Ok(()))
    }

    /// The failure that stopped this storage for good, if one did.
    pub fn stopped(&self) -> Option<&StorageError> {
        self.stopped.get()
    }

    fn write(
        &self,
        batches: &[&Batch],
        durably: bool,
        progress: &mut Progress,
        after: Position,
    ) -> Result<(), StorageError> {
        let lost = if progress.lazy_lost { &progress.lazy[..] } else { &[] };
        let all = lost.iter().chain(batches.iter().copied());
        let outcome = match &*self.engine() {
            Some(engine) => engine.write(all, durably, after.serial),
            None => Err(StorageError::Full),
        };
        match outcome {
            Ok(()) => {
                progress.position = after;
                progress.lazy_lost = false;
                Ok(())
            }
            Err(StorageError::Full) => match self.reopen(progress) {
                // It had landed after all: the space gave out in the cleaning up.
                Ok(()) if durably && progress.position == after => Ok(()),
                Ok(()) | Err(StorageError::Full) => Err(StorageError::Full),
                Err(error) => Err(self.latch(error)),
            },
            Err(error) => Err(self.latch(error)),
        }
    }

    /// Opens the engine if an earlier lack of room has closed it.
    fn ensure_open(&self, progress: &mut Progress) -> Result<(), StorageError> {
        if let Some(failure) = self.stopped.get() {
            return Err(StorageError::Stopped { text: failure.to_string() });
        }
        if self.engine().is_none() {
            self.reopen(progress).map_err(|error| self.latch(error))?;
        }
        Ok(())
    }

    /// Closes the engine and opens it again, which takes it back to its last fsync.
    fn reopen(&self, progress: &mut Progress) -> Result<(), StorageError> {
        let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened: it holds the file's lock.
        *slot = None;
        progress.lazy_lost = true;
        let engine = Engine::open(&*self.medium)?;
        progress.position = engine.position()?;
        *slot = Some(engine);
        Ok(())
    }

    fn latch(&self, error: StorageError) -> StorageError {
        if error != StorageError::Full && self.stopped.set(error.clone()).is_ok() {
            tracing::error!(%error, "storage stopped");
            doubt(&*self.medium, &error);
        }
        error
    }

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Position {
    /// Whether a batch's log records follow the log; if so, where the log ends behind it.
    fn admit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut last = self.last_log;
        for op in batch.ops() {
            match op {
                Op::PutLog { after, index, .. } => {
                    if *after != last || last.is_some_and(|last| *index != last + 1) {
                        return Err(StorageError::LogGap { index: *index, last });
                    }
                    last = Some(*index);
                }
                // Truncation never goes below what was purged: those are committed.
                Op::TruncateLogFrom { index } => last = last.min(index.checked_sub(1)),
                Op::PurgeLogThrough { index, .. } => last = last.max(Some(*index)),
                Op::PutMeta { .. }
                | Op::PutSnapshotChunk { .. }
                | Op::DropSnapshotsExcept { .. }
                | Op::PutEventRow { .. }
                | Op::DropEventRowsBelow { .. }
                | Op::PutCursor { .. }
                | Op::DropCursor { .. } => {}
            }
        }
        self.last_log = last;
        Ok(())
    }
}

impl Progress {
    fn new(position: Position) -> Self {
        Self { position, lazy: Vec::new(), lazy_bytes: 0, lazy_lost: false }
    }

    /// Whether enough has gathered that the next commit should be durable whatever it holds.
    fn wants_fsync(&self, bytes: usize) -> bool {
        self.lazy_lost || self.lazy_bytes + bytes > LAZY_MAX_BYTES / 2
    }

    fn keep_lazy(&mut self, batches: &[&Batch]) {
        for batch in batches.iter().filter(|batch| batch.is_lazy()) {
            if self.lazy_bytes <= LAZY_MAX_BYTES {
                self.lazy_bytes += batch.bytes();
                self.lazy.push((*batch).clone());
            }
        }
    }

    fn forget_lazy(&mut self) {
        self.lazy.clear();
        self.lazy_bytes = 0;
    }
}

/// Remembers for the next start that the cache may hold what the disk does not.
fn doubt(medium: &dyn Medium, error: &StorageError) {
    if matches!(error, StorageError::Sync { .. })
        && let Err(error) = medium.set_suspect(true)
    {
        tracing::error!(%error, "reboot the machine before the next start");
    }
}

/// Creates the file: built and synced under a temporary name, then named.
fn create(medium: &dyn Medium) -> Result<(), StorageError> {
    let (backend, failure) =
        Watched::new(medium.create_temporary().map_err(|e| StorageError::io("creating", e))?);
    let build = || -> Result<(), redb::Error> {
        let redb = redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
        let txn = redb.begin_write()?;
        tables::create(&txn)?;
        tables::put_meta(&txn, tables::FORMAT_KEY, &FORMAT.to_le_bytes())?;
        tables::put_meta(&txn, tables::SERIAL_KEY, &0_u64.to_le_bytes())?;
        txn.commit()?;
        Ok(())
    };
    build().map_err(|error| first(&failure, "creating the storage file", &error))?;
    medium.publish().map_err(|e| StorageError::io("naming the new storage file", e))
}

/// The failure the backend noted, or what redb made of it.
fn first(failure: &Failure, doing: &'static str, error: &redb::Error) -> StorageError {
    let noted = failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
    noted.unwrap_or_else(|| StorageError::io(doing, error))
}

impl Engine {
    fn open(medium: &dyn Medium) -> Result<Self, StorageError> {
        let backend = medium.open().map_err(|e| StorageError::io("opening the file", e))?;
        let (backend, failure) = Watched::new(backend);
        let doing = "opening the storage file";
        let redb = guarded(doing, || {
            let mut builder = redb::Builder::new();
            let opened = builder.set_cache_size(CACHE_BYTES).create_with_backend(backend);
            opened.map_err(|error| first(&failure, doing, &error.into()))
        })?;
        Ok(Self { redb, failure })
    }

    fn write<'a>(
        &self,
        batches: impl Iterator<Item = &'a Batch>,
        durably: bool,
        serial: u64,
    ) -> Result<(), StorageError> {
        let run = || -> Result<(), redb::Error> {
            let mut txn = self.redb.begin_write()?;
            if !durably {
                txn.set_durability(redb::Durability::None)?;
            }
            tables::apply(&txn, batches)?;
            tables::put_meta(&txn, tables::SERIAL_KEY, &serial.to_le_bytes())?;
            txn.commit()?;
            Ok(())
        };
        guarded("writing", || run().map_err(|error| first(&self.failure, "writing", &error)))
    }
}
