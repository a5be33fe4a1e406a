//! What a persistent session had under way here when its connection ended: the log knows the queue,
//! and not what of it was sent.

use std::collections::BTreeSet;

use mqtt::{Inflight, Session, SessionState, Stage};
use store::State;

use super::deliver::is_queued;
use super::message::Held;

/// A session without a connection here.
#[derive(Debug)]
pub(super) struct Parked {
    state: SessionState<Held>,
    /// Places that the client has acknowledged here. The log struck none off if by then another
    /// node had the session.
    taken: BTreeSet<u64>,
    /// Its client was connected to another node since, and may have acknowledged there.
    pub(super) elsewhere: bool,
}

impl Parked {
    pub(super) const fn new(state: SessionState<Held>, taken: BTreeSet<u64>) -> Self {
        Self { state, taken, elsewhere: false }
    }

    /// Where the session goes on, and what of the log's queue its client has acknowledged; of a
    /// client that was elsewhere what the log still holds for it.
    pub(super) fn into_parts(
        self,
        log: &State,
        client_id: &str,
    ) -> (SessionState<Held>, BTreeSet<u64>) {
        let Self { mut state, mut taken, elsewhere } = self;
        taken.retain(|place| is_queued(log, client_id, *place));
        if elsewhere {
            let is_held =
                |place: Option<u64>| place.is_some_and(|place| is_queued(log, client_id, place));
            state.inflight.retain(|inflight| is_held(place_of(inflight)));
            state.queue.retain(|queued| is_held(queued.message.place));
            state.awaiting_rel.clear();
        }
        (state, taken)
    }
}

/// The last place of the log's queue that a session has taken over; 0: none.
pub(super) fn last_place(session: &Session<Held>) -> u64 {
    let state = session.state();
    let queued = state.queue.iter().filter_map(|queued| queued.message.place);
    let inflight = state.inflight.iter().filter_map(place_of);
    queued.chain(inflight).max().unwrap_or(0)
}

const fn place_of(inflight: &Inflight<Held>) -> Option<u64> {
    match &inflight.stage {
        Stage::AwaitPuback(held) | Stage::AwaitPubrec(held) => held.place,
        Stage::AwaitPubcomp => None,
    }
}
