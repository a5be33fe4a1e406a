//! Raft's way to other members: openraft's questions over the peer links.
//!
//! Each question has a deadline of its own. A slow disk is no dead peer: an append waits longer
//! than openraft would, which only its heartbeats do not.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use clock::Duration;
use openraft::error::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::transfer::Pins;
use super::types::{TypeConfig, VoteGiven};
use super::wire::{AppendForm, Ballot, SnapshotOpening, TransferForm, VoteForm};
use crate::disk::Disk;
use crate::peer::link::AskError;
use crate::peer::message::{Answer, Ask, Denial};
use crate::raft::StoredSnapshot;
use crate::runtime::{AsyncRuntime, Select2};

/// How long an append may take: the other side answers when its disk has it.
const APPEND_MAX: Duration = Duration::from_secs(3);
/// How long a vote may take.
const VOTE_MAX: Duration = Duration::from_secs(2);
/// How long one piece of a snapshot may take.
const PIECE_MAX: Duration = Duration::from_secs(10);
/// How often a piece is sent again whose answer did not come, and the pause before.
const PIECE_TRIES: u32 = 10;
const PIECE_PAUSE: Duration = Duration::from_millis(300);
/// How long the other side may take to install a snapshot whose pieces it has.
const INSTALL_MAX: Duration = Duration::from_secs(120);

/// An answer that is on its way.
pub(crate) type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, AskError>> + Send + 'a>>;

/// Whoever can ask the members of a cluster.
pub(crate) trait Members: Send + Sync + 'static {
    /// Asks a member, and waits at most `patience`.
    fn ask(&self, target: u64, ask: Ask, patience: Duration) -> Asking<'_>;
}

/// Reaches nobody: the members of a cluster of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nobody;

impl Members for Nobody {
    fn ask(&self, _: u64, _: Ask, _: Duration) -> Asking<'_> {
        Box::pin(std::future::ready(Err(AskError::Unreachable("not a known member".into()))))
    }
}

/// Makes the ways to members.
pub(crate) struct PeerNetwork<R, D> {
    members: Arc<dyn Members>,
    pins: Pins,
    types: PhantomData<fn() -> (R, D)>,
}

impl<R, D> PeerNetwork<R, D> {
    pub(crate) fn new(members: Arc<dyn Members>, pins: Pins) -> Self {
        Self { members, pins, types: PhantomData }
    }
}

/// The way to one member.
pub(crate) struct PeerClient<R, D> {
    members: Arc<dyn Members>,
    pins: Pins,
    target: u64,
    types: PhantomData<fn() -> (R, D)>,
}

impl<R: AsyncRuntime, D: Disk> RaftNetworkFactory<TypeConfig<R>> for PeerNetwork<R, D> {
    type Network = PeerClient<R, D>;

    async fn new_client(&mut self, target: u64, (): &()) -> PeerClient<R, D> {
        let (members, pins) = (Arc::clone(&self.members), self.pins.clone());
        PeerClient { members, pins, target, types: PhantomData }
    }
}

impl<R: AsyncRuntime, D: Disk> PeerClient<R, D> {
    async fn ask(&self, ask: Ask, patience: Duration) -> Result<Answer, AskError> {
        self.members.ask(self.target, ask, patience).await
    }

    fn failure(
        &self,
        error: &AskError,
        action: RPCTypes,
        patience: Duration,
    ) -> RPCError<TypeConfig<R>> {
        match error {
            AskError::Unreachable(why) => RPCError::Unreachable(Unreachable::from_string(why)),
            AskError::Unknown => {
                RPCError::Timeout(Timeout { action, id: 0, target: self.target, timeout: patience })
            }
        }
    }
}

/// An answer that is none to this question, or a refusal.
fn strange<R: AsyncRuntime>(answer: &Answer) -> RPCError<TypeConfig<R>> {
    let text = format!("the peer answers {answer:?}");
    match answer {
        // Asked again after a while, not at once.
        Answer::No(Denial::DiskFull | Denial::NotReady) => {
            RPCError::Unreachable(Unreachable::from_string(text))
        }
        Answer::No(
            Denial::NotLeader(_) | Denial::NoQuorum | Denial::Because(_) | Denial::Refused(_),
        )
        | Answer::Yes
        | Answer::Append(_)
        | Answer::Vote(_)
        | Answer::Transfer(_)
        | Answer::Standing(_)
        | Answer::Index(_)
        | Answer::Admitted(_)
        | Answer::Rows(_)
        | Answer::Lags(_)
        | Answer::RowsLacking { .. } => RPCError::Network(NetworkError::from_string(text)),
    }
}

impl<R: AsyncRuntime, D: Disk> RaftNetworkV2<TypeConfig<R>> for PeerClient<R, D> {
    type SnapshotData = StoredSnapshot<D>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let heartbeat = request.entries.is_empty();
        let patience = if heartbeat { option.hard_ttl() } else { APPEND_MAX };
        match self.ask(Ask::Append(AppendForm::of(&request)), patience).await {
            Ok(Answer::Append(answer)) => Ok(answer.build()),
            Ok(other) => Err(strange::<R>(&other)),
            Err(error) => Err(self.failure(&error, RPCTypes::AppendEntries, patience)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.ask(Ask::Vote(VoteForm::of(&request)), VOTE_MAX).await {
            Ok(Answer::Vote(answer)) => Ok(answer.build()),
            Ok(other) => Err(strange::<R>(&other)),
            Err(error) => Err(self.failure(&error, RPCTypes::Vote, VOTE_MAX)),
        }
    }

    // openraft's own answer would be a yes, which is not ours to give.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.ask(Ask::PreVote(VoteForm::of(&request)), VOTE_MAX).await {
            Ok(Answer::Vote(answer)) => Ok(answer.build()),
            Ok(other) => Err(strange::<R>(&other)),
            Err(error) => Err(self.failure(&error, RPCTypes::Vote, VOTE_MAX)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteGiven,
        snapshot: SnapshotOf<TypeConfig<R>, StoredSnapshot<D>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let sending = self.send_snapshot(vote, snapshot);
        match R::select2(Box::pin(cancel), Box::pin(sending)).await {
            Select2::First(closed) => Err(closed.into()),
            Select2::Second(sent) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.ask(Ask::Transfer(TransferForm::of(&request)), VOTE_MAX).await {
            Ok(Answer::Yes) => Ok(Ok(())),
            Ok(other) => Err(strange::<R>(&other)),
            Err(error) => Err(self.failure(&error, RPCTypes::TransferLeader, VOTE_MAX)),
        }
    }
}

impl<R: AsyncRuntime, D: Disk> PeerClient<R, D> {
    /// Piece by piece; the answer to each is what lets the next one leave. A piece whose answer did
    /// not come is sent again, for a while: the pieces before it need not be.
    async fn send_snapshot(
        &self,
        vote: VoteGiven,
        snapshot: SnapshotOf<TypeConfig<R>, StoredSnapshot<D>>,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let stored = snapshot.snapshot;
        let opening = SnapshotOpening::of(Ballot::of(&vote), &snapshot.meta, stored.chunks);
        let begun = self.step(Ask::SnapshotBegin(opening), PIECE_MAX).await?;
        // It knows a newer leader.
        if let Answer::Standing(ballot) = &begun {
            return Ok(SnapshotResponse::new(ballot.build()));
        }
        let Answer::Transfer(transfer) = begun else { return Err(strange::<R>(&begun).into()) };
        let mut progress = self.pins.send::<R>(self.target, stored.chunks);
        for (piece, bytes) in (0..).zip(stored.read()) {
            let bytes = bytes.map_err(|error| {
                let why = format!("the snapshot cannot be read here: {error}");
                StreamingError::Unreachable(Unreachable::from_string(why))
            })?;
            let ask = Ask::SnapshotPiece { transfer, piece, bytes: bytes.into() };
            let taken = self.send_piece(ask).await?;
            if taken != Answer::Yes {
                return Err(strange::<R>(&taken).into());
            }
            progress.arrived(piece + 1);
        }
        let ended = self.step(Ask::SnapshotEnd { transfer }, INSTALL_MAX).await?;
        let Answer::Standing(ballot) = ended else { return Err(strange::<R>(&ended).into()) };
        Ok(SnapshotResponse::new(ballot.build()))
    }

    async fn send_piece(&self, ask: Ask) -> Result<Answer, StreamingError<TypeConfig<R>>> {
        for _ in 0..PIECE_TRIES {
            if let Ok(answer) = self.ask(ask.clone(), PIECE_MAX).await {
                return Ok(answer);
            }
            R::sleep(PIECE_PAUSE).await;
        }
        self.step(ask, PIECE_MAX).await
    }

    async fn step(
        &self,
        ask: Ask,
        patience: Duration,
    ) -> Result<Answer, StreamingError<TypeConfig<R>>> {
        let answer = self.ask(ask, patience).await;
        answer.map_err(|error| self.failure(&error, RPCTypes::InstallSnapshot, patience).into())
    }
}
