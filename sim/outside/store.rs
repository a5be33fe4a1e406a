//! `host`'s storage on a simulated disk: group commit, fsync in its own time, then the answer.
//!
//! A task of the node takes all batches that wait, commits them with one transaction, waits until
//! the disk has done its fsync, and only then answers. The task dies with the node.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use host::disk::Disk as HostDisk;
use host::storage::{Batch, Database, Medium, Meta, Op, StorageError};
use openraft_rt::{Oneshot as _, OneshotSender as _};
use redb::StorageBackend;
use sabotage::Bug;

use crate::clocks::virtual_now;
use crate::disk::Disk;
use crate::runtime::{Once, OnceReceiver, OnceSender, held};

/// The storage file, and its name while it is being created.
const FILE: &str = "tern.redb";
const TEMPORARY: &str = "tern.redb.new";
/// Says that an fsync has failed.
const SUSPECT: &str = "tern.redb.suspect";

impl Medium for Disk {
    fn exists(&self) -> io::Result<bool> {
        Ok(Self::exists(self, FILE))
    }

    fn create_temporary(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.create(TEMPORARY)))
    }

    fn publish(&self) -> io::Result<()> {
        Self::open(self, TEMPORARY)?.sync_data()?;
        self.rename(TEMPORARY, FILE);
        Ok(())
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(Self::open(self, FILE)?))
    }

    fn is_suspect(&self) -> io::Result<bool> {
        Ok(Self::exists(self, SUSPECT))
    }

    fn set_suspect(&self, suspect: bool) -> io::Result<()> {
        if suspect {
            drop(self.create(SUSPECT));
        } else {
            self.remove(SUSPECT);
        }
        Ok(())
    }
}

/// The disk as one process has it: nothing is done for it any more when it, or its machine, has
/// died, however far its code still runs in the same breath.
#[derive(Debug)]
struct Living {
    disk: Disk,
    deaths: u64,
}

impl Living {
    fn disk(&self) -> io::Result<&Disk> {
        let lives = self.disk.deaths() == self.deaths;
        lives.then_some(&self.disk).ok_or_else(|| io::Error::other("the machine has died"))
    }
}

impl Medium for Living {
    fn exists(&self) -> io::Result<bool> {
        Medium::exists(self.disk()?)
    }

    fn create_temporary(&self) -> io::Result<Box<dyn StorageBackend>> {
        self.disk()?.create_temporary()
    }

    fn publish(&self) -> io::Result<()> {
        self.disk()?.publish()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Medium::open(self.disk()?)
    }

    fn is_suspect(&self) -> io::Result<bool> {
        self.disk()?.is_suspect()
    }

    fn set_suspect(&self, suspect: bool) -> io::Result<()> {
        self.disk()?.set_suspect(suspect)
    }
}

type Answer = Result<(), StorageError>;

/// Sees what a node's storage is asked to write. Must not call the storage.
pub trait Onlooker: Send + Sync + std::fmt::Debug {
    /// An entry of the log is on its way to the disk.
    fn logged(&self, index: u64, record: &Bytes);

    /// A snapshot is about to become the current one.
    fn snapshot(&self);

    /// Anything is on its way to the disk, in this order.
    fn writes(&self, op: &Op);

    /// What was on its way to the disk is not stored: the node is told so.
    fn refused(&self, op: &Op);

    /// What is written now will be durable after so much time.
    fn waits(&self, wait: Duration);
}

/// Batches that wait for the next commit.
#[derive(Debug, Default)]
struct Waiting {
    batches: Vec<(Batch, OnceSender<Answer>)>,
    committer: Option<Waker>,
}

/// The storage of one boot of one node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Store {
    database: Arc<Database>,
    disk: Disk,
    waiting: Arc<Mutex<Waiting>>,
    onlooker: Option<Arc<dyn Onlooker>>,
}

impl Store {
    /// Opens the storage, creating it on an empty disk, and starts its task on the node whose task
    /// is running.
    ///
    /// * `onlooker`: is told of every write.
    /// * Errors: what [`Database::open`] says.
    pub async fn open(
        disk: Disk,
        onlooker: Option<Arc<dyn Onlooker>>,
    ) -> Result<Self, StorageError> {
        let process = Living { disk: disk.clone(), deaths: disk.deaths() };
        let database = Arc::new(Database::open(process)?);
        disk.flush().await.map_err(|error| StorageError::Io {
            doing: "opening the simulated disk",
            text: error.to_string(),
        })?;
        let store = Self { database, disk, waiting: Arc::default(), onlooker };
        madsim::task::spawn(store.clone().commit_all());
        Ok(store)
    }

    async fn commit_all(self) {
        loop {
            let (batches, answers): (Vec<_>, Vec<_>) =
                Gather(&self.waiting).await.into_iter().unzip();
            let results = self.database.commit(&batches);
            self.tell_refused(&batches, &results);
            let flush = self.disk.enqueue();
            if let Some(onlooker) = &self.onlooker {
                onlooker.waits(flush.done_at.saturating_sub(virtual_now()));
            }
            let mut pending: Vec<_> = answers.into_iter().zip(results).collect();
            if sabotage::planted(Bug::AckBeforeFsync) {
                answer(&mut pending);
            }
            if self.disk.finish(flush).await.is_err() {
                // The machine has died meanwhile: nobody is left to be answered.
                return;
            }
            answer(&mut pending);
        }
    }

    fn tell_refused(&self, batches: &[Batch], results: &[Answer]) {
        let Some(onlooker) = &self.onlooker else { return };
        let refused = batches.iter().zip(results).filter(|(_, result)| result.is_err());
        for op in refused.flat_map(|(batch, _)| batch.ops()) {
            onlooker.refused(op);
        }
    }
}

fn answer(pending: &mut Vec<(OnceSender<Answer>, Answer)>) {
    for (to, result) in pending.drain(..) {
        // Whoever dropped its commit wants no answer; the batch stays.
        let _ = to.send(result);
    }
}

/// Resolves with everything that waits, once something does.
struct Gather<'a>(&'a Mutex<Waiting>);

impl Future for Gather<'_> {
    type Output = Vec<(Batch, OnceSender<Answer>)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = held(self.0);
        if waiting.batches.is_empty() {
            waiting.committer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut waiting.batches))
    }
}

/// A batch under way.
#[derive(Debug)]
pub struct Commit(OnceReceiver<Answer>);

impl Future for Commit {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| {
                Err(StorageError::Stopped { text: "the machine has died".to_owned() })
            })
        })
    }
}

impl HostDisk for Store {
    type Commit = Commit;

    fn commit(&self, batch: Batch) -> Commit {
        if let Some(onlooker) = &self.onlooker {
            for op in batch.ops() {
                onlooker.writes(op);
                #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is nobody's business")]
                match op {
                    Op::PutLog { index, record, .. } => onlooker.logged(*index, record),
                    Op::PutMeta { key: Meta::Snapshot, .. } => onlooker.snapshot(),
                    _ => {}
                }
            }
        }
        let (sender, receiver) = Once::channel();
        let mut waiting = held(&self.waiting);
        waiting.batches.push((batch, sender));
        if let Some(committer) = waiting.committer.take() {
            committer.wake();
        }
        Commit(receiver)
    }

    fn database(&self) -> &Database {
        &self.database
    }

    fn free_bytes(&self) -> Option<u64> {
        self.disk.free()
    }
}
