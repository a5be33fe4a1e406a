//! What the Raft leader does next about membership: at most one step, asked for again and again.
//!
//! The log says who shall be a member ([`Status`]); Raft's configuration says who votes. This pure
//! function walks the second towards the first, one change at a time. It remembers nothing, so a
//! new leader goes on where the old one died.
//!
//! * While a change of the configuration is in flight there is no step at all.
//! * A change is proposed only if the voters that would then be needed can be reached: one that
//!   cannot be committed would block every later one.
//! * A tombstone follows the committed change that took the node out. The other way round, two
//!   nodes would wait for each other for ever: one refused by its peer, one without a majority.

use std::collections::{BTreeMap, BTreeSet};

use crate::RaftId;

/// A learner votes once it lags fewer entries of the log than this.
pub const PROMOTE_LAG_MAX: u64 = 100;

/// What the log says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Admitted, on its way to a vote.
    Joining,
    /// A full member.
    Up,
    /// Back from a partition, not yet level with the others; it votes.
    Healing,
    /// On its way out.
    Leaving,
    /// Not seen for a while; it keeps its vote until it is cleaned.
    Down,
    /// Away for so long that it lost its vote; its id and its log stay.
    Cleaned,
}

/// A member as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is on its way in or out.
    pub status: Status,
    /// The member whose place it takes, under the same name and another key.
    pub replaces: Option<RaftId>,
}

/// What a leader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The leader itself.
    pub me: RaftId,
    /// The members of the applied state; a revoked one is none.
    pub members: BTreeMap<RaftId, Member>,
    /// Voters of Raft's newest configuration.
    pub voters: BTreeSet<RaftId>,
    /// Its learners, and by how many entries each lags; `None` before the first answer.
    pub learners: BTreeMap<RaftId, Option<u64>>,
    /// That configuration is joint or not yet committed.
    pub is_changing: bool,
    /// Members that are alive; the leader itself need not stand among them.
    pub reachable: BTreeSet<RaftId>,
}

/// One step. All but the last three change Raft's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Replicate to this member without a vote.
    AddLearner(RaftId),
    /// Drop a learner that no member stands behind.
    Forget(RaftId),
    /// Give a learner its vote; in the same change another voter becomes a learner.
    Promote {
        /// Who gets it.
        add: RaftId,
        /// Whose place it takes.
        remove: Option<RaftId>,
    },
    /// Stop replicating to a learner.
    RemoveLearner(RaftId),
    /// Make a voter a learner: its id and log stay.
    RemoveVoter(RaftId),
    /// Pass the leadership on.
    HandOver {
        /// To this voter.
        to: RaftId,
    },
    /// Write into the log that this member is up.
    MarkUp(RaftId),
    /// Write the tombstone: peers answer this id `Removed` from now on.
    Revoke(RaftId),
}

/// The next step towards a configuration in which exactly those vote who should.
pub fn next_step(view: &View) -> Option<Step> {
    if view.is_changing || !view.voters.contains(&view.me) {
        return None;
    }
    hand_over(view)
        .or_else(|| revoke(view))
        .or_else(|| remove_learner(view))
        .or_else(|| mark_up(view))
        .or_else(|| remove_voter(view))
        .or_else(|| promote(view))
        .or_else(|| add_learner(view))
}

impl View {
    fn can_reach(&self, id: RaftId) -> bool {
        id == self.me || self.reachable.contains(&id)
    }

    /// On its way out: it leaves, or another member that votes has taken its place.
    fn is_departing(&self, id: RaftId) -> bool {
        let takes_its_place =
            |(by, member): (&RaftId, &Member)| member.replaces == Some(id) && by != &id;
        let replaced =
            || self.members.iter().any(|m| takes_its_place(m) && self.voters.contains(m.0));
        self.members.get(&id).is_some_and(|m| m.status == Status::Leaving || replaced())
    }

    /// It should not vote. A leader is not away, whatever was written of it before its election.
    fn loses_vote(&self, id: RaftId) -> bool {
        let cleaned = self.members.get(&id).is_some_and(|m| m.status == Status::Cleaned);
        (cleaned && id != self.me) || self.is_departing(id)
    }

    fn is_level(&self, id: RaftId) -> bool {
        self.learners.get(&id).copied().flatten().is_some_and(|lag| lag < PROMOTE_LAG_MAX)
    }

    /// A majority of these voters can be reached, and there is one at all.
    fn can_decide(&self, voters: &BTreeSet<RaftId>) -> bool {
        let reached = voters.iter().filter(|id| self.can_reach(**id)).count();
        reached > voters.len() / 2
    }

    fn departing(&self) -> impl Iterator<Item = RaftId> {
        self.members.keys().copied().filter(|id| self.is_departing(*id))
    }
}

/// A leader that loses its vote first passes the leadership to the best of the others.
fn hand_over(view: &View) -> Option<Step> {
    if !view.loses_vote(view.me) {
        return None;
    }
    let is_up = |id: &RaftId| view.members.get(id).is_some_and(|m| m.status == Status::Up);
    let others = view.voters.iter().copied();
    let mut fit =
        others.filter(|id| *id != view.me && view.can_reach(*id) && !view.loses_vote(*id));
    let first = fit.next()?;
    let to = Some(first).filter(is_up).or_else(|| fit.find(is_up)).unwrap_or(first);
    Some(Step::HandOver { to })
}

fn revoke(view: &View) -> Option<Step> {
    let mut departing = view.departing();
    let gone = |id: &RaftId| !view.voters.contains(id) && !view.learners.contains_key(id);
    departing.find(gone).map(Step::Revoke)
}

fn remove_learner(view: &View) -> Option<Step> {
    for id in view.learners.keys().copied() {
        if !view.members.contains_key(&id) {
            return Some(Step::Forget(id));
        }
        if view.is_departing(id) {
            return Some(Step::RemoveLearner(id));
        }
    }
    None
}

/// A joiner that votes has arrived; one that was cleaned is back once it is level again.
fn mark_up(view: &View) -> Option<Step> {
    let arrived = |id: &RaftId, member: &Member| match member.status {
        Status::Joining => view.voters.contains(id),
        Status::Cleaned => *id == view.me || (view.can_reach(*id) && view.is_level(*id)),
        Status::Up | Status::Healing | Status::Leaving | Status::Down => false,
    };
    let mut members = view.members.iter().filter(|(id, _)| !view.is_departing(**id));
    members.find(|(id, member)| arrived(id, member)).map(|(id, _)| Step::MarkUp(*id))
}

/// The unreachable ones first: without them the others may become removable.
fn remove_voter(view: &View) -> Option<Step> {
    let removable = |id: &RaftId| {
        let mut rest = view.voters.clone();
        rest.remove(id);
        *id != view.me && view.loses_vote(*id) && view.can_decide(&rest)
    };
    let voters = || view.voters.iter().copied().filter(removable);
    let unreachable = voters().find(|id| !view.can_reach(*id));
    unreachable.or_else(|| voters().next()).map(Step::RemoveVoter)
}

fn promote(view: &View) -> Option<Step> {
    for id in view.learners.keys().copied() {
        let Some(member) = view.members.get(&id) else { continue };
        if view.loses_vote(id) || !view.can_reach(id) || !view.is_level(id) {
            continue;
        }
        let remove = member.replaces.filter(|old| view.voters.contains(old) && *old != view.me);
        let mut voters = view.voters.clone();
        voters.insert(id);
        if let Some(old) = remove {
            voters.remove(&old);
        }
        if view.can_decide(&voters) {
            return Some(Step::Promote { add: id, remove });
        }
    }
    None
}

fn add_learner(view: &View) -> Option<Step> {
    let mut missing = view.members.keys().copied().filter(|id| {
        !view.voters.contains(id) && !view.learners.contains_key(id) && !view.is_departing(*id)
    });
    missing.find(|id| view.can_reach(*id)).map(Step::AddLearner)
}

#[cfg(test)]
mod tests;
