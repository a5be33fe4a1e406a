//! The way to other members: none yet, so every one of them is out of reach.
//!
//! A cluster of one voter never asks. When peer links come, this file becomes their client side.

use std::future::Future;

use openraft::error::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::types::{TypeConfig, VoteGiven};
use crate::disk::Disk;
use crate::raft::StoredSnapshot;
use openraft_rt::AsyncRuntime;

/// Reaches nobody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoPeers<D>(core::marker::PhantomData<fn() -> D>);

impl<D> NoPeers<D> {
    pub(crate) const fn new() -> Self {
        Self(core::marker::PhantomData)
    }
}

fn unreachable<R: AsyncRuntime>() -> Unreachable<TypeConfig<R>> {
    Unreachable::from_string("no link to this member")
}

impl<R: AsyncRuntime, D: Disk> RaftNetworkFactory<TypeConfig<R>> for NoPeers<D> {
    type Network = Self;

    async fn new_client(&mut self, _: u64, (): &()) -> Self {
        Self::new()
    }
}

impl<R: AsyncRuntime, D: Disk> RaftNetworkV2<TypeConfig<R>> for NoPeers<D> {
    type SnapshotData = StoredSnapshot<D>;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        Err(RPCError::Unreachable(unreachable::<R>()))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        Err(RPCError::Unreachable(unreachable::<R>()))
    }

    // openraft's own answer would be a yes, which is not ours to give.
    async fn pre_vote(
        &mut self,
        _: VoteRequest<TypeConfig<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        Err(RPCError::Unreachable(unreachable::<R>()))
    }

    async fn full_snapshot(
        &mut self,
        _: VoteGiven,
        _: SnapshotOf<TypeConfig<R>, StoredSnapshot<D>>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        Err(StreamingError::Unreachable(unreachable::<R>()))
    }
}
