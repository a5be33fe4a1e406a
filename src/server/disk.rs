//! The real disk: one thread that drains a queue of batches into one transaction and one fsync.
//!
//! While a group is being synced the next one gathers. A reserve of space is kept allocated in a
//! file of its own; when the disk is full all the same, it is given up so that what must be
//! written still can be, and taken again when there is room. Source: DESIGN.md 5 (full disk).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use host::disk::Disk;
use host::storage::{Batch, Database, Folder, StorageError};
use tokio::sync::oneshot;

/// Batches in one transaction, at most.
const GROUP_BATCHES: usize = 4_096;
/// Bytes in one transaction, about: larger ones make everybody wait.
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// How long a measurement of free space counts.
const SPACE_VALID: Duration = Duration::from_millis(200);
/// Name of the file that holds the reserve.
const RESERVE_FILE: &str = "reserve";

/// A node's storage file in a folder, written by a thread of its own.
///
/// When the last handle is dropped, what was submitted is written and the folder is free again.
#[derive(Clone, Debug)]
pub struct FileDisk {
    writer: Arc<Writer>,
}

/// A batch on its way: see [`Disk::commit`].
#[derive(Debug)]
pub struct Ticket(oneshot::Receiver<Result<(), StorageError>>);

impl Future for Ticket {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            let gone = || StorageError::Stopped { text: "the disk thread has ended".to_string() };
            answer.unwrap_or_else(|_| Err(gone()))
        })
    }
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    queue: Mutex<Queue>,
    filled: Condvar,
    space: Mutex<Space>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    batch: Batch,
    answer: oneshot::Sender<Result<(), StorageError>>,
}

impl FileDisk {
    /// Opens the storage in a folder, creating both if need be.
    ///
    /// * `reserve_bytes`: space kept allocated ([`host::disk::RESERVE_BYTES`] in production, 0 for
    ///   none).
    /// * Errors: as [`Database::open_folder`]; [`StorageError::Io`] when no thread can be started.
    pub fn open(folder: &Path, reserve_bytes: u64) -> Result<Self, StorageError> {
        let database = Database::open(Folder::open(folder)?)?;
        let space = Mutex::new(Space::new(folder, reserve_bytes));
        let queue = Mutex::default();
        let shared = Arc::new(Shared { database, queue, filled: Condvar::new(), space });
        let inside = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("disk".to_string())
            .spawn(move || inside.run())
            .map_err(|error| StorageError::Io {
                doing: "starting the disk thread",
                text: error.to_string(),
            })?;
        Ok(Self { writer: Arc::new(Writer { shared, thread: Some(thread) }) })
    }
}

impl Disk for FileDisk {
    type Commit = Ticket;

    fn commit(&self, batch: Batch) -> Ticket {
        let (answer, ticket) = oneshot::channel();
        let shared = &*self.writer.shared;
        lock(&shared.queue).waiting.push_back(Waiting { batch, answer });
        shared.filled.notify_one();
        Ticket(ticket)
    }

    fn database(&self) -> &Database {
        &self.writer.shared.database
    }

    fn free_bytes(&self) -> Option<u64> {
        lock(&self.writer.shared.space).free()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.filled.notify_one();
        // The folder's lock goes with the thread: who opens it next must not find it taken.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the disk thread panicked");
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some(group) = self.next_group() {
            let (batches, answers): (Vec<_>, Vec<_>) =
                group.into_iter().map(|waiting| (waiting.batch, waiting.answer)).unzip();
            for (answer, result) in answers.into_iter().zip(self.commit(&batches)) {
                // Nobody waiting is no error.
                answer.send(result).ok();
            }
        }
    }

    /// Waits for batches and takes as many as go well into one transaction; `None` at the end.
    fn next_group(&self) -> Option<Vec<Waiting>> {
        let mut queue = lock(&self.queue);
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
            let Some(waiting) = queue.waiting.pop_front() else { break };
            bytes += waiting.batch.bytes();
            group.push(waiting);
        }
        Some(group)
    }

    fn commit(&self, batches: &[Batch]) -> Vec<Result<(), StorageError>> {
        let results = self.database.commit(batches);
        let full = results.contains(&Err(StorageError::Full));
        if full && lock(&self.space).give_up_reserve() {
            // Nothing of the group was stored, so trying again is not asking a failed disk twice.
            tracing::warn!("disk full: the reserve is given up");
            return self.database.commit(batches);
        }
        results
    }
}

/// How much may still be written, and the reserve.
#[derive(Debug)]
struct Space {
    folder: PathBuf,
    reserve_bytes: u64,
    reserved: bool,
    measured: Option<(Instant, Option<u64>)>,
}

impl Space {
    fn new(folder: &Path, reserve_bytes: u64) -> Self {
        let reserved = reserve_bytes == 0;
        Self { folder: folder.to_path_buf(), reserve_bytes, reserved, measured: None }
    }

    /// Bytes free beyond the reserve, taking the reserve first when it is not there.
    fn free(&mut self) -> Option<u64> {
        if let Some((at, free)) = self.measured
            && at.elapsed() < SPACE_VALID
        {
            return free;
        }
        let free = self.measure();
        self.measured = Some((Instant::now(), free));
        free
    }

    fn measure(&mut self) -> Option<u64> {
        let free = available(&self.folder)?;
        if self.reserved {
            return Some(free);
        }
        if free > self.reserve_bytes {
            match allocate(&self.folder.join(RESERVE_FILE), self.reserve_bytes) {
                Ok(()) => self.reserved = true,
                // A file system that cannot allocate: the number alone must do.
                Err(error) => tracing::debug!(%error, "no reserve"),
            }
            if self.reserved {
                return available(&self.folder);
            }
        }
        Some(free.saturating_sub(self.reserve_bytes))
    }

    /// Frees the reserve; says whether there was one.
    fn give_up_reserve(&mut self) -> bool {
        if self.reserve_bytes == 0 || !self.reserved {
            return false;
        }
        self.reserved = false;
        self.measured = None;
        match fs::remove_file(self.folder.join(RESERVE_FILE)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "reserve not given up");
                false
            }
        }
    }
}

/// Bytes an ordinary process may still write on the file system of a folder.
fn available(folder: &Path) -> Option<u64> {
    match rustix::fs::statvfs(folder) {
        Ok(stat) => Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => {
            tracing::debug!(%error, "free space unknown");
            None
        }
    }
}

/// Makes a file that takes up `bytes`, or leaves none.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
    if let Err(error) = allocated {
        drop(file);
        fs::remove_file(path)?;
        return Err(error.into());
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
