//! Single situations as a table, and any situation led to its end by a Raft that obeys.

use proptest::prelude::*;

use super::*;

const LEADER: RaftId = 1;

fn member(status: Status) -> Member {
    Member { status, replaces: None }
}

/// Three voters that are up and seen, the first of them leading.
fn three() -> View {
    View {
        me: LEADER,
        members: (1..=3).map(|id| (id, member(Status::Up))).collect(),
        voters: [1, 2, 3].into(),
        learners: BTreeMap::new(),
        is_changing: false,
        reachable: [2, 3].into(),
    }
}

/// Carries a step out as an obedient Raft and log would.
fn obey(view: &mut View, step: Step) {
    match step {
        Step::AddLearner(id) => {
            assert!(view.learners.insert(id, None).is_none());
        }
        Step::Promote { add, remove } => {
            view.learners.remove(&add).expect("a learner is promoted");
            view.voters.insert(add);
            if let Some(old) = remove {
                assert!(view.voters.remove(&old), "a voter gives its place");
                view.learners.insert(old, None);
            }
        }
        Step::RemoveVoter(id) => {
            assert!(view.voters.remove(&id));
            view.learners.insert(id, Some(0));
        }
        Step::Forget(id) | Step::RemoveLearner(id) => {
            view.learners.remove(&id).expect("a learner goes");
        }
        Step::HandOver { to } => {
            assert!(view.voters.contains(&to) && to != view.me);
            view.reachable.insert(view.me);
            view.me = to;
        }
        Step::MarkUp(id) => {
            view.members.get_mut(&id).expect("a member").status = Status::Up;
        }
        Step::Revoke(id) => {
            assert!(!view.voters.contains(&id) && !view.learners.contains_key(&id));
            view.members.remove(&id).expect("a member is revoked");
        }
    }
    assert!(view.voters.contains(&view.me), "the leader keeps its vote");
}

fn story(view: &mut View) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = next_step(view) {
        steps.push(step);
        obey(view, step);
        for lag in view.learners.values_mut() {
            *lag = Some(0);
        }
        assert!(steps.len() < 60, "{steps:?}");
    }
    steps
}

#[test]
fn a_quiet_cluster_needs_nothing() {
    assert_eq!(next_step(&three()), None);
}

#[test]
fn a_joiner_becomes_a_voter_when_it_has_caught_up() {
    let mut view = three();
    view.members.insert(1_007, member(Status::Joining));
    assert_eq!(next_step(&view), None, "nobody has seen it yet");
    view.reachable.insert(1_007);
    assert_eq!(next_step(&view), Some(Step::AddLearner(1_007)));
    view.learners.insert(1_007, Some(PROMOTE_LAG_MAX));
    assert_eq!(next_step(&view), None, "it lags");
    view.learners.insert(1_007, Some(PROMOTE_LAG_MAX - 1));
    view.reachable.remove(&1_007);
    assert_eq!(next_step(&view), None, "nobody who is away gets a vote");
    view.reachable.insert(1_007);
    let steps = story(&mut view);
    assert_eq!(steps, [Step::Promote { add: 1_007, remove: None }, Step::MarkUp(1_007)]);
}

#[test]
fn a_wiped_node_takes_its_own_place_in_one_change() {
    let mut view = three();
    view.members.insert(3, member(Status::Down));
    view.members.insert(1_007, Member { status: Status::Joining, replaces: Some(3) });
    view.reachable = [2, 1_007].into();
    let steps = story(&mut view);
    assert_eq!(
        steps,
        [
            Step::AddLearner(1_007),
            Step::Promote { add: 1_007, remove: Some(3) },
            Step::RemoveLearner(3),
            Step::Revoke(3),
            Step::MarkUp(1_007),
        ]
    );
}

#[test]
fn the_tombstone_waits_for_the_change() {
    let mut view = three();
    view.members.insert(3, member(Status::Leaving));
    let step = next_step(&view);
    assert_eq!(step, Some(Step::RemoveVoter(3)));
    obey(&mut view, Step::RemoveVoter(3));
    view.is_changing = true;
    assert_eq!(next_step(&view), None);
    view.is_changing = false;
    assert_eq!(story(&mut view), [Step::RemoveLearner(3), Step::Revoke(3)]);
}

#[test]
fn a_leader_that_leaves_hands_over_to_one_that_is_up() {
    let mut view = three();
    view.members.insert(1, member(Status::Leaving));
    view.members.insert(2, member(Status::Healing));
    assert_eq!(next_step(&view), Some(Step::HandOver { to: 3 }));
    view.reachable.remove(&3);
    assert_eq!(next_step(&view), Some(Step::HandOver { to: 2 }));
    view.reachable.clear();
    assert_eq!(next_step(&view), None);
}

#[test]
fn a_change_that_could_not_be_committed_is_not_begun() {
    let mut view = three();
    view.members.insert(2, member(Status::Leaving));
    view.reachable = [2].into();
    assert_eq!(next_step(&view), None, "of 1 and 3 one is away");
    view.members.insert(3, member(Status::Cleaned));
    assert_eq!(next_step(&view), Some(Step::RemoveVoter(3)), "the dead one first");
}

#[test]
fn the_last_voter_stays() {
    let mut view = three();
    for id in 1..=3 {
        view.members.insert(id, member(Status::Leaving));
    }
    story(&mut view);
    assert_eq!(view.voters, [1].into());
}

#[test]
fn a_cleaned_member_returns_by_catching_up() {
    let mut view = three();
    view.members.insert(3, member(Status::Cleaned));
    view.reachable.remove(&3);
    assert_eq!(story(&mut view), [Step::RemoveVoter(3)]);
    view.reachable.insert(3);
    let steps = story(&mut view);
    assert_eq!(steps, [Step::MarkUp(3), Step::Promote { add: 3, remove: None }]);
}

fn any_status() -> impl Strategy<Value = Status> {
    use Status::{Cleaned, Down, Healing, Joining, Leaving, Up};
    prop::sample::select(vec![Joining, Up, Healing, Leaving, Down, Cleaned])
}

fn any_view() -> impl Strategy<Value = View> {
    let place = prop::option::weighted(0.8, any::<bool>());
    let one = (any_status(), place, any::<bool>(), prop::option::of(1..7_u64), 0..300_u64);
    (prop::collection::vec(one, 1..6), prop::option::of(7..9_u64)).prop_map(|(ones, stray)| {
        let mut view = View { reachable: BTreeSet::new(), voters: [LEADER].into(), ..three() };
        view.members.clear();
        for (id, (status, place, seen, replaces, lag)) in (1..).zip(ones) {
            let replaces = replaces.filter(|old| status == Status::Joining && *old < id);
            view.members.insert(id, Member { status, replaces });
            if seen {
                view.reachable.insert(id);
            }
            match place {
                Some(true) => drop(view.voters.insert(id)),
                Some(false) if id != LEADER => drop(view.learners.insert(id, Some(lag))),
                Some(false) | None => {}
            }
        }
        if let Some(id) = stray {
            view.learners.insert(id, None);
        }
        view
    })
}

/// What holds of every step, whatever the situation.
fn check(view: &View, step: Step) -> Result<(), TestCaseError> {
    let mut voters = view.voters.clone();
    match step {
        Step::Promote { add, remove } => {
            prop_assert!(view.can_reach(add) && view.is_level(add));
            voters.insert(add);
            remove.map(|old| voters.remove(&old));
        }
        Step::RemoveVoter(id) => drop(voters.remove(&id)),
        Step::HandOver { to } => prop_assert!(view.can_reach(to)),
        Step::MarkUp(id) => {
            prop_assert!(view.can_reach(id) || view.voters.contains(&id));
        }
        Step::AddLearner(_) | Step::Forget(_) | Step::RemoveLearner(_) | Step::Revoke(_) => {}
    }
    if voters != view.voters {
        prop_assert!(voters.contains(&view.me) && view.can_decide(&voters), "{step:?}");
    }
    let mut in_flight = view.clone();
    in_flight.is_changing = true;
    prop_assert_eq!(next_step(&in_flight), None);
    Ok(())
}

fn run(view: &mut View) -> Result<(), TestCaseError> {
    for _ in 0..100 {
        let Some(step) = next_step(view) else { return Ok(()) };
        check(view, step)?;
        obey(view, step);
    }
    prop_assert!(false, "no end: {view:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_situation_ends_with_exactly_the_members_voting(mut view in any_view()) {
        // First with whoever is away and however far they lag, then with everybody back.
        run(&mut view)?;
        view.reachable.extend(view.members.keys());
        for _ in 0..20 {
            for lag in view.learners.values_mut() {
                *lag = Some(0);
            }
            run(&mut view)?;
        }
        let members: BTreeSet<RaftId> = view.members.keys().copied().collect();
        prop_assert_eq!(&view.voters, &members, "{:?}", view);
        prop_assert!(view.learners.is_empty());
        let in_full = |m: &Member| matches!(m.status, Status::Up | Status::Healing | Status::Down);
        let only_leavers = view.members.len() == 1;
        prop_assert!(only_leavers || view.members.values().all(in_full), "{:?}", view);
    }
}
