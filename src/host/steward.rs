//! Walks Raft's configuration towards what the log says about members, while this node leads.
//!
//! Which step is next says [`cluster::steward`]; here it is only done. A step that fails is found
//! again at the next look, by this leader or another.
//!
//! A leader whom the others hear but do not reach is of no use: they follow its heartbeats, and
//! nothing that they want decided arrives, while the next frames of the same devices do, elsewhere,
//! and make those that wait too old. So one whom no majority has reached for a second passes the
//! leadership on. Raft itself looks only at what a leader sends and is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::{Duration, Instant};
use cluster::steward::{self, Status, Step, View};
use store::{Command, MemberStatus, NodeId, Reply, RequestId, State};

use crate::desk::Office;
use crate::peer::Peers;
use crate::peer::link::SILENT_AFTER;
use crate::raft::Composition;
use crate::runtime::AsyncRuntime;
use crate::world::World;

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A leader that no majority has reached for so long passes the leadership on. Whoever reaches it
/// asks for a sign of life four times as often.
const DEAF_AFTER: Duration = SILENT_AFTER;

/// Since when this node has been led by itself, and could have heard the others.
#[derive(Clone, Copy, Debug)]
struct Reign {
    term: u64,
    since: Instant,
    looked: Instant,
}

impl Reign {
    /// This reign, or a new one: in another term, or after a pause of the process or the machine in
    /// which nobody could be heard.
    fn at(before: Option<Self>, now: Instant, term: u64) -> Self {
        let goes_on =
            |one: &Self| one.term == term && now.since(one.looked) < LOOK_EVERY + DEAF_AFTER / 2;
        let since = before.filter(goes_on).map_or(now, |one| one.since);
        Self { term, since, looked: now }
    }

    /// Whether fewer than a majority of the voters, this node included, have reached it lately.
    fn is_deaf(&self, me: u64, voters: &BTreeSet<u64>, spoke: &BTreeMap<u64, Instant>) -> bool {
        let last = |id: &u64| spoke.get(id).copied().unwrap_or_default().max(self.since);
        let reaches = |id: &&u64| **id == me || self.looked.since(last(id)) < DEAF_AFTER;
        voters.iter().filter(reaches).count() <= voters.len() / 2
    }
}

/// Looks until the node is gone.
pub(crate) async fn keep<W: World>(world: W, peers: Peers<W>, office: Arc<Office<W>>) {
    let mut reign = None;
    loop {
        W::Runtime::sleep(LOOK_EVERY).await;
        let status = office.consensus.status();
        if status.leader != Some(status.id) {
            reign = None;
            continue;
        }
        let now = Reign::at(reign, peers.now(), status.term);
        reign = Some(now);
        if now.is_deaf(status.id, &office.consensus.composition().voters, &peers.spoke())
            && let Some(to) = heir(&office, &peers)
        {
            tracing::warn!(to, "the other nodes do not reach this one: another shall lead");
            office.consensus.hand_over(to).await;
            reign = None;
            continue;
        }
        let composition = office.consensus.composition();
        if let Some(voters) = composition.half_way_to.clone() {
            if let Err(why) = office.consensus.finish_change(voters).await {
                tracing::warn!(reason = %why, "change of members not finished");
            }
            continue;
        }
        let Some(members) = office.look(members_of).await else { return };
        let view = view_of(status.id, members, &composition, &peers);
        if let Some(step) = steward::next_step(&view) {
            tracing::info!(?step, "membership");
            take(&world, &office, step).await;
        }
    }
}

/// The voter that is furthest, of those that answer.
fn heir<W: World>(office: &Office<W>, peers: &Peers<W>) -> Option<u64> {
    let Composition { voters, lag, .. } = office.consensus.composition();
    let answers = peers.lively().into_iter().filter(|id| voters.contains(id));
    answers.min_by_key(|id| (lag.get(id).copied().unwrap_or(u64::MAX), *id))
}

fn members_of(state: &State) -> BTreeMap<u64, steward::Member> {
    let member = |(id, member): (NodeId, &store::Member)| {
        let status = match member.status {
            MemberStatus::Joining => Status::Joining,
            MemberStatus::Up => Status::Up,
            MemberStatus::Healing => Status::Healing,
            MemberStatus::Leaving => Status::Leaving,
            MemberStatus::Down => Status::Down,
            MemberStatus::Cleaned => Status::Cleaned,
            MemberStatus::Revoked => return None,
        };
        let replaces = member.replaces.map(|id| id.0);
        Some((id.0, steward::Member { status, replaces }))
    };
    state.live_members().filter_map(member).collect()
}

fn view_of<W: World>(
    me: u64,
    members: BTreeMap<u64, steward::Member>,
    composition: &Composition,
    peers: &Peers<W>,
) -> View {
    let Composition { voters, learners, changing, lag, .. } = composition;
    let reachable: BTreeSet<u64> = peers.lively().into_iter().collect();
    View {
        me,
        members,
        voters: voters.clone(),
        learners: learners.iter().map(|id| (*id, lag.get(id).copied())).collect(),
        is_changing: *changing,
        reachable,
    }
}

async fn take<W: World>(world: &W, office: &Office<W>, step: Step) {
    let consensus = &office.consensus;
    let done = match step {
        Step::AddLearner(id) => consensus.add_learner(id).await,
        Step::Forget(id) | Step::RemoveLearner(id) => consensus.remove_learner(id).await,
        Step::Promote { add, remove } => consensus.change_voters(Some(add), remove).await,
        Step::RemoveVoter(id) => consensus.change_voters(None, Some(id)).await,
        Step::HandOver { to } => {
            consensus.hand_over(to).await;
            Ok(())
        }
        Step::MarkUp(id) => set(world, office, id, MemberStatus::Up).await,
        Step::Revoke(id) => set(world, office, id, MemberStatus::Revoked).await,
    };
    if let Err(why) = done {
        tracing::warn!(?step, reason = %why, "membership step not done");
    }
}

async fn set<W: World>(
    world: &W,
    office: &Office<W>,
    id: u64,
    status: MemberStatus,
) -> Result<(), String> {
    let mut request = [0; 16];
    request.copy_from_slice(&world.seed()[..16]);
    let command = Command::SetMemberStatus { node: NodeId(id), status };
    match office.decide(RequestId(request), command).await {
        Some(Reply::Refused(refusal)) => Err(refusal.to_string()),
        Some(_) => Ok(()),
        None => Err("no decision in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_leader_is_deaf_when_no_majority_has_reached_it_for_a_second() {
        let three = BTreeSet::from([1, 2, 3]);
        let mut reign = None;
        let mut look = |millis, spoke: &[(u64, u64)], voters: &BTreeSet<u64>| {
            let now = Reign::at(reign, at(millis), 7);
            reign = Some(now);
            let spoke = spoke.iter().map(|(id, millis)| (*id, at(*millis))).collect();
            now.is_deaf(1, voters, &spoke)
        };
        assert!(!look(10_000, &[(2, 100), (3, 100)], &three), "nobody could speak to it before");
        for millis in [10_200, 10_400, 10_600, 10_800] {
            assert!(!look(millis, &[(2, 10_100)], &three));
        }
        assert!(!look(11_000, &[(2, 10_100)], &three), "one of the others is enough");
        assert!(look(11_200, &[(2, 10_100)], &three));
        assert!(!look(11_200, &[], &BTreeSet::from([1])), "alone it is the majority");
        assert!(look(11_200, &[], &BTreeSet::from([1, 2])));
        assert!(!look(14_000, &[(2, 10_100)], &three), "it stood still itself");
    }
}
