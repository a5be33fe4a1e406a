//! Brings an election forward when the leader's process is gone.
//!
//! A leader that ends closes its connections, and all others learn of it within milliseconds. Raft
//! alone looks at the time since its last heartbeat: it waits the lease, and then up to an election
//! timeout more, for it cannot tell a slow leader from none. Confirmed uplinks have two seconds
//! from the air to their answer; with what the death of a leader takes by itself few of them are
//! left.
//!
//! So whoever sees its link to the leader broken, and broken still when no voter can be bound by
//! the lease any more, asks the others whether they would vote for it. They look as they always do:
//! a leader that somebody still hears stays, and a log that lacks something is refused. The voters
//! ask one after the other, lest two of them stand against each other.

use std::collections::BTreeSet;

use clock::{Duration, Instant};

use crate::peer::Peers;
use crate::raft::LEASE;
use crate::runtime::AsyncRuntime;
use crate::service::ConsensusOf;
use crate::world::World;

/// How often the link is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between the voters' turns: a round of questions, and a vote on the disk.
const TURN: Duration = Duration::from_millis(100);

/// The leader, as this node's link to it shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    leader: u64,
    term: u64,
    /// Over which connection.
    over: Option<u64>,
    /// Since when it is gone. A process that starts anew leads no more: that it can be reached
    /// again changes nothing.
    gone: Option<Instant>,
}

impl Sight {
    /// What is seen now.
    ///
    /// * `leads`: who leads, and in which term.
    /// * `over`: the connection to it, if there is one.
    fn at(before: Option<Self>, now: Instant, leads: (u64, u64), over: Option<u64>) -> Self {
        let before = before.filter(|before| (before.leader, before.term) == leads);
        let gone = match before {
            Some(Self { gone: Some(since), .. }) => Some(since),
            Some(before) if before.over.is_some() && before.over != over => Some(now),
            Some(_) | None => None,
        };
        Self { leader: leads.0, term: leads.1, over, gone }
    }

    /// Whether it is this node's turn to ask for the votes.
    fn is_due(&self, now: Instant, me: u64, voters: &BTreeSet<u64>) -> bool {
        let before = voters.iter().filter(|id| **id < me && **id != self.leader).count();
        let turn = TURN * u32::try_from(before).unwrap_or(u32::MAX);
        voters.contains(&me) && self.gone.is_some_and(|since| now.since(since) >= LEASE + turn)
    }
}

/// Watches the link to whoever leads, until the node is gone.
pub(crate) async fn watch<W: World>(consensus: ConsensusOf<W>, peers: Peers<W>) {
    let mut sight = None;
    loop {
        W::Runtime::sleep(LOOK_EVERY).await;
        let status = consensus.status();
        let Some(leader) = status.leader.filter(|leader| *leader != status.id) else {
            sight = None;
            continue;
        };
        let now = peers.now();
        let over = peers.connection(leader);
        let seen = Sight::at(sight, now, (leader, status.term), over);
        sight = Some(seen);
        if seen.is_due(now, status.id, &consensus.composition().voters) {
            tracing::info!(leader, "the leader is gone: asking for the votes");
            consensus.ask_for_votes().await;
            // Once: Raft goes on by itself, and what is seen from now on counts.
            sight = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Instant = Instant::from_millis(1_000);

    fn due_at(me: u64, voters: &[u64]) -> Option<u64> {
        let voters = voters.iter().copied().collect();
        let sight = Sight { leader: 2, term: 7, over: None, gone: Some(SINCE) };
        let due = |later: &u64| sight.is_due(SINCE + Duration::from_millis(*later), me, &voters);
        (0..2_000).find(due)
    }

    #[test]
    fn voters_ask_one_after_the_other_when_the_lease_is_over() {
        assert_eq!(due_at(1, &[1, 2, 3]), Some(800));
        assert_eq!(due_at(3, &[1, 2, 3]), Some(900), "the leader has no turn");
        assert_eq!(due_at(5, &[1, 2, 3, 4, 5]), Some(1_100));
        assert_eq!(due_at(4, &[1, 2, 3]), None, "it has no vote");
    }

    #[test]
    fn a_leader_is_gone_when_its_connection_is_although_another_comes_about() {
        let look = |before, leads, over| Sight::at(before, SINCE, leads, over);
        let first = look(None, (2, 7), Some(1));
        assert_eq!(first.gone, None);
        assert_eq!(look(Some(first), (2, 7), Some(1)).gone, None);
        assert_eq!(look(None, (2, 7), None).gone, None, "not connected yet");
        for over in [None, Some(2)] {
            let broken = look(Some(first), (2, 7), over);
            assert_eq!(broken.gone, Some(SINCE));
            assert_eq!(look(Some(broken), (2, 7), Some(3)).gone, Some(SINCE));
            assert_eq!(look(Some(broken), (2, 8), Some(3)).gone, None, "elected again");
        }
    }
}
