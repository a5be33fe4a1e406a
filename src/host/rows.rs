//! Rows of the event log that this node does not have: a snapshot brings the state, not the rows.
//!
//! The loop says over which rows the state has jumped ([`Ledger::jump`]); a task asks the members
//! that can be reached, piece by piece, oldest first, until nothing is missing that the log still
//! keeps.
//!
//! What is missing outlives a crash without an fsync of its own: the disk keeps the order in which
//! batches come, so rows behind a gap are never durable before the note of the gap; and while none
//! are, a start sees the gap from the last row there is. Source: DESIGN 4.5; dangers B16.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clock::{Duration, Instant};
use store::State;

use crate::desk::Office;
use crate::disk::Disk;
use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::node_loop::Local;
use crate::peer::Peers;
use crate::peer::message::{Answer, Ask, Row};
use crate::runtime::AsyncRuntime;
use crate::storage::{Batch, Meta, Op, StorageError};
use crate::world::World;

/// How long a member may take for one piece.
const PIECE_MAX: Duration = Duration::from_secs(10);
/// Pause between two pieces: the log comes first.
const PIECE_PAUSE: Duration = Duration::from_millis(5);
/// Pause after nobody had a piece.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// All members say for so long that they do not have a row: it is lost.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Rows of the own disk looked at in one go.
const LOOK_ROWS: usize = 512;
/// Version of the record under [`Meta::Rows`].
const VERSION: u8 = 1;

/// Ranges of sequences, each from its first to before its end, in the order of fetching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Missing(Vec<(u64, u64)>);

impl Missing {
    /// The rows `from..to` are missing, too, and come first: whoever is connected waits for them.
    fn add(&mut self, from: u64, to: u64) {
        match self.0.first_mut() {
            Some((_, end)) if *end == from => *end = to,
            Some(_) | None => self.0.insert(0, (from, to)),
        }
    }

    /// The rows `from..to` are missing no more.
    fn remove(&mut self, from: u64, to: u64) {
        let rest = |(begin, end): (u64, u64)| {
            [(begin, end.min(from.max(begin))), (begin.max(to.min(end)), end)]
        };
        let rests = core::mem::take(&mut self.0).into_iter().flat_map(rest);
        self.0 = rests.filter(|(begin, end)| begin < end).collect();
    }

    fn cover(&self) -> Option<(u64, u64)> {
        let first = self.0.iter().map(|(from, _)| *from).min();
        first.zip(self.0.iter().map(|(_, to)| *to).max())
    }

    fn encode(&self) -> Bytes {
        let (from, to) = self.cover().unwrap_or((0, 0));
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&from.to_le_bytes());
        bytes.extend_from_slice(&to.to_le_bytes());
        bytes.into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StorageError> {
        let unreadable = || StorageError::Unreadable {
            table: "meta",
            key: "rows".to_owned(),
            text: "of another version: upgrade this node".to_owned(),
        };
        let (head, rest) = bytes.split_first_chunk::<9>().ok_or_else(unreadable)?;
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let range = number(&head[1..]).zip(number(rest)).filter(|_| head[0] == VERSION);
        let (from, to) = range.ok_or_else(unreadable)?;
        Ok(Self(if from < to { vec![(from, to)] } else { Vec::new() }))
    }

    fn note(&self) -> Op {
        Op::PutMeta { key: Meta::Rows, value: self.encode() }
    }
}

/// What is missing on one disk, shared by the loop and the task that fetches it.
pub(crate) struct Ledger<R: AsyncRuntime, D> {
    disk: D,
    missing: Mutex<Missing>,
    wake: Mailbox<R, ()>,
}

impl<R: AsyncRuntime, D: Disk> Ledger<R, D> {
    /// What an earlier start has left.
    pub(crate) fn load(disk: D) -> Result<(Self, Inbox<R, ()>), StorageError> {
        let noted = disk.database().meta(Meta::Rows)?;
        let missing = noted.map_or(Ok(Missing::default()), |bytes| Missing::decode(&bytes))?;
        let (wake, woken) = mailbox();
        Ok((Self { disk, missing: Mutex::new(missing), wake }, woken))
    }

    fn missing(&self) -> MutexGuard<'_, Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is missing now.
    pub(crate) fn ranges(&self) -> Vec<(u64, u64)> {
        self.missing().0.clone()
    }

    /// The state is about to be replaced.
    ///
    /// * `before`: the next event of the state so far; 1 at the start, when the disk knows better.
    pub(crate) fn jump(&self, before: u64, state: &State) -> Result<(), StorageError> {
        self.jump_to(before, state.first_event(), state.next_event())
    }

    fn jump_to(&self, before: u64, first: u64, to: u64) -> Result<(), StorageError> {
        let last = match self.disk.database().event_bounds() {
            Ok(bounds) => bounds.map_or(0, |(_, last)| last),
            // Too much is taken for missing then, and found later.
            Err(StorageError::Full) => 0,
            Err(error) => return Err(error),
        };
        let from = before.max(last.saturating_add(1)).max(first);
        let mut missing = self.missing();
        let known = missing.clone();
        missing.remove(0, first);
        if from < to {
            missing.add(from, to);
            tracing::info!(from, to, "event rows are missing here and are fetched from members");
        }
        if *missing != known {
            // As lazy as the rows that follow, and before them in the disk's order.
            drop(self.disk.commit(Batch::new().with(missing.note()).lazily()));
            self.wake.push(());
        }
        Ok(())
    }

    /// The rows below are not kept by the log any more.
    fn trim(&self, first: u64) {
        self.missing().remove(0, first);
    }

    fn next(&self) -> Option<(u64, u64)> {
        self.missing().0.first().copied()
    }

    /// Stores rows that follow each other; false if they are not on the disk all the same.
    async fn store(&self, rows: Vec<Row>) -> Result<bool, StorageError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        let (from, to) = (first.sequence, last.sequence + 1);
        let commit = {
            // Noted and submitted under one lock: a jump comes before or after, not between.
            let missing = self.missing();
            let mut rest = missing.clone();
            rest.remove(from, to);
            let put = |row: Row| Op::PutEventRow { sequence: row.sequence, row: row.record.into() };
            let batch: Batch = rows.into_iter().map(put).chain([rest.note()]).collect();
            self.disk.commit(batch.lazily())
        };
        commit.await?;
        // A full disk keeps lazy batches in memory for later: not to be read yet.
        let found = self.disk.database().event_rows(to - 1, 1)?;
        let there = found.first().is_some_and(|(sequence, _)| *sequence == to - 1);
        if there {
            self.missing().remove(from, to);
        }
        Ok(there)
    }

    /// Rows that are there already are not fetched again.
    fn skip_present(&self, from: u64, to: u64) -> Result<bool, StorageError> {
        let rows = self.disk.database().event_rows(from, LOOK_ROWS)?;
        let present = (from..to).zip(rows).take_while(|(wanted, (found, _))| wanted == found);
        let end = from + u64::try_from(present.count()).unwrap_or(0);
        self.missing().remove(from, end);
        Ok(end > from)
    }

    fn give_up(&self, from: u64, to: u64) {
        tracing::error!(from, to, "event rows are lost: no member has them");
        let mut missing = self.missing();
        missing.remove(from, to);
        drop(self.disk.commit(Batch::new().with(missing.note()).lazily()));
    }
}

/// The rows of an answer that follow each other from `from` on, and are what they say.
fn sound(rows: Vec<Row>, from: u64, to: u64) -> Vec<Row> {
    let fits = |(wanted, row): &(u64, Row)| {
        let decoded = store::decode_event_row(&row.record);
        row.sequence == *wanted && decoded.is_ok_and(|decoded| decoded.sequence == *wanted)
    };
    (from..to).zip(rows).take_while(fits).map(|(_, row)| row).collect()
}

/// What came of asking everybody for one piece.
enum Piece {
    Rows(Vec<Row>),
    /// Every member has said that it does not have the first row; the nearest that anybody has.
    Nobody(Option<u64>),
    /// Somebody could not be asked.
    Later,
}

/// Fetches what is missing until the node is gone.
pub(crate) struct Fetcher<W: World> {
    pub(crate) peers: Peers<W>,
    pub(crate) office: Arc<Office<W>>,
    pub(crate) ledger: Arc<Ledger<W::Runtime, W::Disk>>,
    /// Whoever had the last piece is asked first.
    pub(crate) source: Option<u64>,
}

impl<W: World> Fetcher<W> {
    pub(crate) async fn run(mut self, mut woken: Inbox<W::Runtime, ()>) {
        let mut told = None;
        let mut barren: Option<(u64, Instant)> = None;
        loop {
            let Some(look) = self.office.look(|state| (state.first_event(), live(state))).await
            else {
                return;
            };
            let (first, members) = look;
            self.ledger.trim(first);
            let Some((from, to)) = self.ledger.next() else {
                if told.take().is_some() {
                    tracing::info!("no event rows are missing any more");
                }
                self.tell_loop();
                if woken.take().await.is_none() {
                    return;
                }
                continue;
            };
            self.tell(&mut told, to - from);
            let pause = match self.step(from, to, &members).await {
                Ok(Piece::Rows(_)) => PIECE_PAUSE,
                Ok(Piece::Nobody(next)) => {
                    let now = self.peers.now();
                    let known = barren.filter(|(at, _)| *at == from);
                    let (_, since) = *barren.insert(known.unwrap_or((from, now)));
                    if now.since(since) >= LOST_AFTER {
                        self.ledger.give_up(from, next.unwrap_or(to).clamp(from + 1, to));
                    }
                    AGAIN_AFTER
                }
                Ok(Piece::Later) => {
                    barren = None;
                    AGAIN_AFTER
                }
                Err(error) => {
                    tracing::debug!(%error, "event rows are not fetched now");
                    AGAIN_AFTER
                }
            };
            self.tell_loop();
            W::Runtime::sleep(pause).await;
        }
    }

    async fn step(
        &mut self,
        from: u64,
        to: u64,
        members: &BTreeSet<u64>,
    ) -> Result<Piece, StorageError> {
        if self.ledger.skip_present(from, to)? {
            return Ok(Piece::Rows(Vec::new()));
        }
        Ok(match self.ask_around(from, to, members).await {
            Piece::Rows(rows) => match self.ledger.store(rows).await? {
                true => Piece::Rows(Vec::new()),
                false => Piece::Later,
            },
            other @ (Piece::Nobody(_) | Piece::Later) => other,
        })
    }

    async fn ask_around(&mut self, from: u64, to: u64, members: &BTreeSet<u64>) -> Piece {
        let own = self.office.consensus.status().id;
        let others = members.iter().copied().filter(|id| *id != own);
        let (mut all, mut nearest) = (true, None::<u64>);
        let first = self.source.filter(|id| members.contains(id));
        for id in first.into_iter().chain(others.filter(|id| Some(*id) != first)) {
            let answer = match self.peers.link(id) {
                Some(link) => link.ask(&Ask::Rows { from, to }, PIECE_MAX).await.ok(),
                None => None,
            };
            match answer {
                Some(Answer::Rows(rows)) => {
                    let rows = sound(rows, from, to);
                    if !rows.is_empty() {
                        self.source = Some(id);
                        return Piece::Rows(rows);
                    }
                    all = false;
                }
                Some(Answer::RowsLacking { next }) => {
                    nearest = nearest.into_iter().chain(next).min();
                }
                Some(_) | None => all = false,
            }
        }
        if all { Piece::Nobody(nearest) } else { Piece::Later }
    }

    fn tell_loop(&self) {
        let missing = self.ledger.ranges();
        self.office.local.push(Local::Input(node::Input::RowsLacking { missing }));
    }

    fn tell(&self, told: &mut Option<Instant>, rows: u64) {
        let now = self.peers.now();
        if told.is_none_or(|at| now.since(at) >= TELL_EVERY) {
            *told = Some(now);
            tracing::info!(rows, "event rows still missing");
        }
    }
}

fn live(state: &State) -> BTreeSet<u64> {
    state.live_members().map(|(id, _)| id.0).collect()
}

#[cfg(test)]
mod tests;
