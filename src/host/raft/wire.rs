//! Raft's questions and answers as they travel between nodes.
//!
//! Each form is openraft's message with numbered fields; entries travel as they lie on disk.
//! Reading one checks what openraft takes for granted: entries follow each other, none is missing.

use bytes::Bytes;
use minicbor::{Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft_rt::AsyncRuntime;

use super::codec::{CodecError, MembersForm, Position, decode_entry, encode_entry};
use super::types::{Members, SnapshotMeta, TypeConfig};

pub(crate) use super::codec::Ballot;

/// Append entries, or, without any, a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct AppendForm {
    #[n(0)]
    ballot: Ballot,
    #[n(1)]
    previous: Option<Position>,
    #[n(2)]
    committed: Option<Position>,
    #[n(3)]
    records: Vec<Record>,
}

/// An entry of the log, as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct Record(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    Vec<u8>,
);

impl AppendForm {
    pub(crate) fn of<R: AsyncRuntime>(request: &AppendEntriesRequest<TypeConfig<R>>) -> Self {
        Self {
            ballot: Ballot::of(&request.vote),
            previous: request.prev_log_id.as_ref().map(Position::of),
            committed: request.leader_commit.as_ref().map(Position::of),
            records: request.entries.iter().map(|one| Record(encode_entry(one).into())).collect(),
        }
    }

    /// * Errors: an entry that this version does not know.
    pub(crate) fn build<R: AsyncRuntime>(
        self,
    ) -> Result<AppendEntriesRequest<TypeConfig<R>>, CodecError> {
        let first = self.previous.map_or(0, |previous| previous.index.saturating_add(1));
        let records = (first..).zip(self.records);
        let entries = records.map(|(index, record)| decode_entry(index, &Bytes::from(record.0)));
        Ok(AppendEntriesRequest {
            vote: self.ballot.build(),
            prev_log_id: self.previous.map(Position::build),
            entries: entries.collect::<Result<_, _>>()?,
            leader_commit: self.committed.map(Position::build),
        })
    }
}

/// What came of an append.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum AppendAnswer {
    #[n(0)]
    Success,
    #[n(1)]
    Partial(#[n(0)] Option<Position>),
    #[n(2)]
    Conflict,
    #[n(3)]
    HigherVote(#[n(0)] Ballot),
}

impl AppendAnswer {
    pub(crate) fn of<R: AsyncRuntime>(answer: &AppendEntriesResponse<TypeConfig<R>>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(upto) => {
                Self::Partial(upto.as_ref().map(Position::of))
            }
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(Ballot::of(vote)),
        }
    }

    pub(crate) fn build<R: AsyncRuntime>(self) -> AppendEntriesResponse<TypeConfig<R>> {
        match self {
            Self::Success => AppendEntriesResponse::Success,
            Self::Partial(upto) => AppendEntriesResponse::PartialSuccess(upto.map(Position::build)),
            Self::Conflict => AppendEntriesResponse::Conflict,
            Self::HigherVote(ballot) => AppendEntriesResponse::HigherVote(ballot.build()),
        }
    }
}

/// Vote for me.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct VoteForm {
    #[n(0)]
    ballot: Ballot,
    #[n(1)]
    last: Option<Position>,
    #[n(2)]
    transfer: bool,
}

impl VoteForm {
    pub(crate) fn of<R: AsyncRuntime>(request: &VoteRequest<TypeConfig<R>>) -> Self {
        Self {
            ballot: Ballot::of(&request.vote),
            last: request.last_log_id.as_ref().map(Position::of),
            transfer: request.leadership_transfer,
        }
    }

    pub(crate) fn build<R: AsyncRuntime>(self) -> VoteRequest<TypeConfig<R>> {
        VoteRequest {
            vote: self.ballot.build(),
            last_log_id: self.last.map(Position::build),
            leadership_transfer: self.transfer,
        }
    }
}

/// Whether it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct VoteAnswer {
    #[n(0)]
    ballot: Ballot,
    #[n(1)]
    last: Option<Position>,
    #[n(2)]
    granted: bool,
}

impl VoteAnswer {
    pub(crate) fn of<R: AsyncRuntime>(answer: &VoteResponse<TypeConfig<R>>) -> Self {
        Self {
            ballot: Ballot::of(&answer.vote),
            last: answer.last_log_id.as_ref().map(Position::of),
            granted: answer.vote_granted,
        }
    }

    pub(crate) fn build<R: AsyncRuntime>(self) -> VoteResponse<TypeConfig<R>> {
        VoteResponse {
            vote: self.ballot.build(),
            vote_granted: self.granted,
            last_log_id: self.last.map(Position::build),
        }
    }
}

/// Lead in my place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TransferForm {
    #[n(0)]
    from: Ballot,
    #[n(1)]
    to: u64,
    #[n(2)]
    last: Option<Position>,
}

impl TransferForm {
    pub(crate) fn of<R: AsyncRuntime>(request: &TransferLeaderRequest<TypeConfig<R>>) -> Self {
        Self {
            from: Ballot::of(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(Position::of),
        }
    }

    pub(crate) fn build<R: AsyncRuntime>(self) -> TransferLeaderRequest<TypeConfig<R>> {
        let last = self.last.map(Position::build);
        TransferLeaderRequest::new(self.from.build(), self.to, last)
    }
}

/// A snapshot is about to come, piece by piece.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SnapshotOpening {
    #[n(0)]
    pub(crate) ballot: Ballot,
    #[n(1)]
    last: Option<Position>,
    #[n(2)]
    members_at: Option<Position>,
    #[n(3)]
    members: MembersForm,
    /// How many pieces.
    #[n(4)]
    pub(crate) pieces: u32,
}

impl SnapshotOpening {
    pub(crate) fn of(ballot: Ballot, meta: &SnapshotMeta, pieces: u32) -> Self {
        Self {
            ballot,
            last: meta.last_log_id.as_ref().map(Position::of),
            members_at: meta.last_membership.log_id().as_ref().map(Position::of),
            members: MembersForm::of(meta.last_membership.membership()),
            pieces,
        }
    }

    /// * Errors: members that cannot be.
    pub(crate) fn meta(&self) -> Result<SnapshotMeta, CodecError> {
        let members_at = self.members_at.map(Position::build);
        Ok(SnapshotMeta {
            last_log_id: self.last.map(Position::build),
            last_membership: Members::new(members_at, self.members.clone().build()?),
        })
    }
}
