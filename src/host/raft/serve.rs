//! What a member does for the others: answers Raft's questions, takes snapshots in, tells up to
//! where a reader must have applied, and changes the members when told to.

use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use clock::Duration;
use openraft::ChangeMembers;
use openraft::raft::ReadPolicy;
use openraft::storage::Snapshot;
use openraft_rt::{AsyncRuntime, WatchReceiver};

use super::consensus::Consensus;
use super::machine::Machine;
use super::snapshot::StoredSnapshot;
use super::transfer::{Pin, Transfer};
use super::wire::{AppendAnswer, Ballot, SnapshotOpening, VoteAnswer};
use crate::disk::Disk;
use crate::peer::message::{Answer, Ask, Denial};
use crate::storage::{Batch, Op, StorageError};

/// How long a reader waits until this node has applied what is decided.
const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// Largest piece of a snapshot.
const PIECE_BYTES_MAX: usize = 4 << 20;

/// A snapshot that is coming from the leader.
pub(super) struct Incoming {
    opening: SnapshotOpening,
    generation: u64,
    pin: Arc<Pin>,
    next: u32,
    bytes: u64,
}

/// Who votes, who listens, and how far the listeners are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Composition {
    /// All who vote; while a change is under way those before and after it.
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    /// A change is not yet decided.
    pub(crate) changing: bool,
    /// A change is decided by half: who votes when it is wholly.
    pub(crate) half_way_to: Option<BTreeSet<u64>>,
    /// Entries that each other member lacks, as the leader knows.
    pub(crate) lag: BTreeMap<u64, u64>,
    /// Members that are getting a snapshot, and how far it is.
    pub(crate) sending: BTreeMap<u64, Transfer>,
}

impl<R: AsyncRuntime, D: Disk, M: Machine> Consensus<R, D, M> {
    /// Answers a question of Raft's; `None` for any other.
    pub(crate) async fn answer(&self, ask: Ask) -> Option<Answer> {
        let not_ready = Answer::No(Denial::NotReady);
        let Some(raft) = self.inner.raft() else { return Some(not_ready) };
        let failed =
            |error: &dyn core::fmt::Display| Answer::No(Denial::Because(error.to_string()));
        Some(match ask {
            Ask::Append(form) => match form.build::<R>() {
                Ok(request) => match raft.append_entries(request).await {
                    Ok(answer) => Answer::Append(AppendAnswer::of(&answer)),
                    Err(error) => failed(&error),
                },
                Err(error) => failed(&error),
            },
            Ask::Vote(form) => match raft.vote(form.build()).await {
                Ok(answer) => Answer::Vote(VoteAnswer::of(&answer)),
                Err(error) => failed(&error),
            },
            Ask::PreVote(form) => match raft.pre_vote(form.build()).await {
                Ok(answer) => Answer::Vote(VoteAnswer::of(&answer)),
                Err(error) => failed(&error),
            },
            Ask::Transfer(form) => match raft.handle_transfer_leader(form.build()).await {
                Ok(_) => Answer::Yes,
                Err(error) => failed(&error),
            },
            Ask::SnapshotBegin(opening) => self.begin_snapshot(opening),
            Ask::SnapshotPiece { transfer, piece, bytes } => {
                self.take_piece(transfer, piece, bytes.into()).await
            }
            Ask::SnapshotEnd { transfer } => self.install(transfer).await,
            Ask::ReadIndex => match self.read_index().await {
                Ok(index) => Answer::Index(index),
                Err(denial) => Answer::No(denial),
            },
            Ask::Alive
            | Ask::Forward(_)
            | Ask::Admit { .. }
            | Ask::Rows { .. }
            | Ask::Invite { .. }
            | Ask::MayJoin
            | Ask::Lags => return None,
        })
    }

    /// One at a time; the one of the newest leader. A deposed one learns of that instead.
    fn begin_snapshot(&self, opening: SnapshotOpening) -> Answer {
        let Some(raft) = self.inner.raft() else { return Answer::No(Denial::NotReady) };
        let known = raft.metrics().borrow_watched().vote;
        let offered = opening.ballot.build();
        if !matches!(offered.partial_cmp(&known), Some(Order::Equal | Order::Greater)) {
            return Answer::Standing(Ballot::of(&known));
        }
        if !self.has_room() {
            return Answer::No(Denial::DiskFull);
        }
        let mut slot = self.inner.incoming();
        if let Some(newer) = slot.as_ref().map(|one| one.opening.ballot.build())
            && newer > offered
        {
            return Answer::Standing(Ballot::of(&newer));
        }
        let (generation, pin) = self.inner.shared.begin();
        let pieces = opening.pieces;
        tracing::info!(pieces, "a snapshot is coming from the leader");
        // Pieces of the one before, if it was not whole, go with the next that becomes current.
        *slot = Some(Incoming { opening, generation, pin: Arc::new(pin), next: 0, bytes: 0 });
        drop(slot);
        self.inner.show_incoming(Some(Transfer { done: 0, pieces }));
        Answer::Transfer(generation)
    }

    /// Takes the next piece, or once more the one before: its sender may not know that it arrived.
    async fn take_piece(&self, transfer: u64, piece: u32, bytes: Bytes) -> Answer {
        let size = bytes.len() as u64;
        let (commit, pieces) = {
            let slot = self.inner.incoming();
            let Some(incoming) = slot.as_ref().filter(|one| one.generation == transfer) else {
                return Answer::No(Denial::Because("another snapshot is on its way".into()));
            };
            let again = piece.checked_add(1) == Some(incoming.next);
            let follows = piece == incoming.next && piece < incoming.opening.pieces;
            if !(follows || again) || bytes.len() > PIECE_BYTES_MAX {
                return Answer::No(Denial::Because("not the next piece".into()));
            }
            let put = Op::PutSnapshotChunk { generation: transfer, chunk: piece, bytes };
            (self.inner.disk.commit(Batch::new().with(put)), incoming.opening.pieces)
        };
        match commit.await {
            Ok(()) => {
                let mut slot = self.inner.incoming();
                // Counted when it is durable, and once, however often it came.
                if let Some(incoming) = slot.as_mut().filter(|one| one.generation == transfer)
                    && incoming.next == piece
                {
                    incoming.next += 1;
                    incoming.bytes += size;
                    drop(slot);
                    self.inner.show_incoming(Some(Transfer { done: piece + 1, pieces }));
                }
                Answer::Yes
            }
            Err(StorageError::Full) => Answer::No(Denial::DiskFull),
            Err(error) => Answer::No(Denial::Because(error.to_string())),
        }
    }

    async fn install(&self, transfer: u64) -> Answer {
        let incoming = {
            let mut slot = self.inner.incoming();
            let whole =
                |one: &mut Incoming| one.generation == transfer && one.next == one.opening.pieces;
            slot.take_if(whole)
        };
        let Some(incoming) = incoming else {
            return Answer::No(Denial::Because("the snapshot is not whole".into()));
        };
        self.inner.show_incoming(None);
        let Some(raft) = self.inner.raft() else { return Answer::No(Denial::NotReady) };
        let meta = match incoming.opening.meta() {
            Ok(meta) => meta,
            Err(error) => return Answer::No(Denial::Because(error.to_string())),
        };
        let stored = StoredSnapshot {
            disk: self.inner.disk.clone(),
            generation: transfer,
            chunks: incoming.opening.pieces,
            bytes: incoming.bytes,
            pin: Some(incoming.pin),
        };
        // What lacks a piece, or has a damaged one, never becomes current: a start would fail.
        if let Some(error) = stored.read().find_map(Result::err) {
            return Answer::No(Denial::Because(error.to_string()));
        }
        let vote = incoming.opening.ballot.build();
        let installed = raft.install_full_snapshot(vote, Snapshot { meta, snapshot: stored }).await;
        match installed {
            Ok(answer) => Answer::Standing(Ballot::of(&answer.vote)),
            Err(error) => Answer::No(Denial::Because(error.to_string())),
        }
    }

    /// Up to where a reader must have applied to have seen all that was decided when it asked.
    /// Asks a quorum whether this node still leads.
    pub(crate) async fn read_index(&self) -> Result<u64, Denial> {
        let raft = self.inner.raft().ok_or(Denial::NotReady)?;
        match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(_) => {
                let leader = self.status().leader.filter(|leader| *leader != self.status().id);
                Err(leader.map_or(Denial::NoQuorum, |leader| Denial::NotLeader(Some(leader))))
            }
        }
    }

    /// Waits until this node has applied up to `index`; false if it does not in time.
    pub(crate) async fn wait_applied(&self, index: u64) -> bool {
        let mut health = self.health();
        let reached = health.wait_until(|now| now.applied.is_some_and(|at| at >= index));
        R::timeout(CATCH_UP_MAX, reached).await.is_ok_and(|waited| waited.is_ok())
    }

    /// The members as this node knows them.
    pub(crate) fn composition(&self) -> Composition {
        let Some(raft) = self.inner.raft() else { return Composition::default() };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or(0);
        // Who has answered nothing yet lags by nobody knows how much, however short the log is.
        let lag = metrics.replication.iter().flatten().filter_map(|(id, matching)| {
            let at = matching.as_ref()?.index();
            Some((*id, last.saturating_sub(at)))
        });
        let decided = metrics.committed_membership_config.log_id();
        let undecided = metrics.membership_config.log_id() != decided;
        let joint = members.get_joint_config();
        let half_way_to = joint.last().filter(|_| joint.len() > 1 && !undecided).cloned();
        Composition {
            voters: members.voter_ids().collect(),
            learners: members.learner_ids().collect(),
            changing: undecided || joint.len() > 1,
            half_way_to,
            lag: lag.collect(),
            sending: self.inner.shared.pins.sends(),
        }
    }

    /// Whether this node decides alone; while openraft stands still, whether it did.
    pub(crate) fn is_alone(&self) -> bool {
        match self.inner.raft() {
            Some(raft) => raft.voter_ids().eq([self.status().id]),
            None => self.inner.was_alone.load(Ordering::Relaxed),
        }
    }

    /// Lets somebody listen.
    pub(crate) async fn add_learner(&self, id: u64) -> Result<(), String> {
        let raft = self.inner.raft().ok_or("consensus does not run")?;
        raft.add_learner(id, (), false).await.map(drop).map_err(|error| error.to_string())
    }

    /// Changes who votes, in one step: whom to add (a learner) and whom to let go.
    pub(crate) async fn change_voters(
        &self,
        add: Option<u64>,
        remove: Option<u64>,
    ) -> Result<(), String> {
        let raft = self.inner.raft().ok_or("consensus does not run")?;
        let mut voters = self.composition().voters;
        voters.extend(add);
        voters.retain(|id| Some(*id) != remove);
        let change = ChangeMembers::ReplaceAllVoters(voters);
        raft.change_membership(change, true).await.map(drop).map_err(|error| error.to_string())
    }

    /// Ends a change that an earlier leader has left half-way.
    pub(crate) async fn finish_change(&self, voters: BTreeSet<u64>) -> Result<(), String> {
        let raft = self.inner.raft().ok_or("consensus does not run")?;
        let change = ChangeMembers::ReplaceAllVoters(voters);
        raft.change_membership(change, true).await.map(drop).map_err(|error| error.to_string())
    }

    /// Forgets a learner.
    pub(crate) async fn remove_learner(&self, id: u64) -> Result<(), String> {
        let raft = self.inner.raft().ok_or("consensus does not run")?;
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
        raft.change_membership(change, false).await.map(drop).map_err(|error| error.to_string())
    }

    /// Asks another voter to lead, if this node does.
    pub(crate) async fn hand_over(&self, to: u64) {
        if let Some(raft) = self.inner.raft() {
            raft.trigger().transfer_leader(to).await.ok();
        }
    }

    /// Asks the other voters whether they would elect this node, and stands if a majority would.
    pub(crate) async fn ask_for_votes(&self) {
        if let Some(raft) = self.inner.raft() {
            raft.trigger().elect(true).await.ok();
        }
    }

    /// The voter that is furthest, this node not counted.
    pub(crate) fn heir(&self) -> Option<u64> {
        let Composition { voters, lag, .. } = self.composition();
        let own = self.status().id;
        let others = voters.into_iter().filter(|id| *id != own);
        others.min_by_key(|id| (lag.get(id).copied().unwrap_or(u64::MAX), *id))
    }
}
