//! What a persistent session had under way here when its connection ended: the log knows the queue,
//! and not what of it was sent.

use std::collections::BTreeSet;

use mqtt::{Inflight, Session, SessionState, Stage};
use store::State;

use super::message::Held;

/// A session without a connection here.
#[derive(Debug)]
pub(super) struct Parked {
    state: SessionState<Held>,
    /// Its client was connected to another node since, and may have acknowledged there.
    pub(super) elsewhere: bool,
}

impl Parked {
    pub(super) const fn new(state: SessionState<Held>) -> Self {
        Self { state, elsewhere: false }
    }

    /// Where the session goes on; of a client that was elsewhere what the log still holds for it.
    pub(super) fn into_state(self, log: &State, client_id: &str) -> SessionState<Held> {
        let Self { mut state, elsewhere } = self;
        if elsewhere {
            let queue: BTreeSet<u64> =
                log.client_queue(client_id, 0).map(|(place, _)| place).collect();
            let is_held = |place: Option<u64>| place.is_some_and(|place| queue.contains(&place));
            state.inflight.retain(|inflight| is_held(place_of(inflight)));
            state.queue.retain(|queued| is_held(queued.message.place));
            state.awaiting_rel.clear();
        }
        state
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
