//! Frames whose home is another node, from the side that received them and from the home's.

use clock::{Duration, Instant};
use lorawan::Uplink;

use super::super::What;
use super::world::{GATEWAY, World, confirmed_up, plain_up};
use crate::fixtures::{DEV_EUI, HOME};
use crate::{AcceptUplink, NodeId, SessionEpoch, UplinkReply};

const OTHER: NodeId = NodeId(2);

/// A world whose devices all have their home on another node.
fn away() -> World {
    let mut world = World::new("EU868");
    world.state.home = Some(OTHER);
    world.state.within_reach.insert(OTHER);
    world
}

/// The other node's question to the log about the frame that was handed to it.
fn as_other(world: &mut World, f_cnt: u32) -> AcceptUplink {
    let mut probe = World::new("EU868");
    probe.hear_868(1_000, &confirmed_up(f_cnt));
    probe.run_to(1_250);
    let accept = AcceptUplink { home: OTHER, ..probe.seen.accepts[0].clone() };
    let now = world.now().wall;
    let UplinkReply::Accepted { session_epoch, .. } = world.apply_uplink(&accept, now) else {
        panic!("the log accepts it")
    };
    assert_eq!(session_epoch, accept.session_epoch);
    accept
}

/// A frame came here, and its home has had it decided 250 ms later.
fn decided_by_the_home() -> World {
    let mut world = away();
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_250);
    let accept = as_other(&mut world, 10);
    let (now, epoch) = (world.now(), accept.session_epoch);
    world.mac.handle_accepted_elsewhere(now, &world.state, &accept, epoch);
    world
}

fn lose(world: &mut World) {
    world.state.within_reach.clear();
    world.mac.handle_node_lost(world.now(), &world.state, OTHER);
    world.drain();
}

#[test]
fn every_reception_goes_to_the_home_and_nothing_to_the_log() {
    let mut world = away();
    let frame = confirmed_up(10);
    world.hear_868(1_000, &frame);
    world.hear_868(1_050, &frame);
    world.run_to(2_100);
    let [(to, first), (_, second)] = &world.seen.handed_over[..] else { panic!("two hearings") };
    assert_eq!((*to, &first.phy_payload), (OTHER, &frame));
    assert_eq!(second.received_at, Instant::from_millis(1_050));
    assert!(world.seen.accepts.is_empty() && world.seen.sent.is_empty());
}

#[test]
fn a_home_that_falls_silent_before_the_log_has_the_frame_is_stood_in_for() {
    let mut world = away();
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_050);
    lose(&mut world);
    world.run_to(5_000);
    assert_eq!(world.seen.accepts.len(), 1);
    assert_eq!(world.downlinks().len(), 1);
    assert_eq!(world.downlinks()[0].0, 1_300, "in RX1, as if it had been at home here");
}

#[test]
fn a_home_that_says_nothing_for_long_is_stood_in_for() {
    let mut world = away();
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(2_199);
    assert!(world.seen.accepts.is_empty());
    world.run_to(5_000);
    assert_eq!(world.seen.accepts.len(), 1);
    assert_eq!(world.downlinks().len(), 1, "in RX2");
}

#[test]
fn what_the_home_has_decided_is_left_to_it() {
    let mut world = decided_by_the_home();
    world.drain();
    world.run_to(6_000);
    assert!(world.seen.accepts.is_empty() && world.seen.sent.is_empty());
    assert_eq!(world.mac.frames_in_hand(), 0);
}

#[test]
fn a_home_that_dies_between_decision_and_answer_is_answered_for() {
    let mut world = decided_by_the_home();
    world.run_to(1_400);
    lose(&mut world);
    world.run_to(6_000);
    assert!(world.seen.accepts.is_empty(), "it is accepted");
    let [(_, answer)] = &world.seen.sent[..] else { panic!("one answer") };
    assert_eq!(answer.gateway, GATEWAY);
    let granted = world.session().n_f_cnt_down.grant.unwrap();
    assert_eq!(granted.home, HOME, "under a number of its own");
}

#[test]
fn two_homes_at_once_are_one_decision_and_one_answer() {
    let mut world = World::new("EU868");
    world.state.within_reach.insert(OTHER);
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_100);
    as_other(&mut world, 10);
    world.run_to(6_000);
    assert_eq!(world.seen.accepts.len(), 1, "it asks, and is told that the other was first");
    assert_eq!(world.seen.handed_over.len(), 1, "the winner hears what it has heard");
    assert!(world.seen.sent.is_empty());
}

#[test]
fn the_loser_answers_when_the_winner_is_out_of_reach() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_100);
    as_other(&mut world, 10);
    world.run_to(6_000);
    assert_eq!(world.seen.sent.len(), 1);
}

#[test]
fn what_is_handed_over_is_decided_here_and_says_who_heard_it() {
    let mut world = World::new("EU868");
    world.state.home = Some(OTHER);
    world.state.within_reach.insert(OTHER);
    let rx = {
        let mut probe = away();
        probe.hear_868(0, &plain_up(10));
        probe.seen.handed_over[0].1.clone()
    };
    world.run_to(1_000);
    let rx = Uplink { received_at: world.now().instant, ..rx };
    world.mac.handle_handed_over(world.now(), &world.state, rx, OTHER).unwrap();
    world.run_to(3_000);
    let [accept] = &world.seen.accepts[..] else { panic!("one question") };
    assert_eq!((accept.home, accept.heard_by), (HOME, Some(OTHER)));
    assert!(matches!(world.seen.whats[..], [What::Accepted { .. }]));
}

#[test]
fn a_node_that_is_taken_for_the_home_is_one() {
    let mut world = away();
    world.hear_868(1_000, &confirmed_up(10));
    let (_, rx) = world.seen.handed_over[0].clone();
    let rx = Uplink { received_at: rx.received_at + Duration::from_millis(20), tmst: 7, ..rx };
    world.mac.handle_handed_over(world.now(), &world.state, rx, OTHER).unwrap();
    world.run_to(6_000);
    let [accept] = &world.seen.accepts[..] else { panic!("one question") };
    assert_eq!((accept.receptions.len(), accept.heard_by), (2, None));
    assert_eq!(accept.session_epoch, SessionEpoch(1));
    assert_eq!(accept.dev_eui, DEV_EUI);
}
