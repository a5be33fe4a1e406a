//! Every order of events of a small founding: the model checker drives the very code that runs.
//!
//! Three seeds. What was sent may arrive at any later time, any number of times or never. A write
//! reaches the disk at any later time, or never if the node crashes before; then it restarts with
//! what the disk holds. Ballots and crashes are few, or there would be no end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stateright::{Checker, Model, Property};

use super::decree::{Decree, Output};
use super::{Ballot, Genesis, Message};
use crate::identity::NodeKey;

const NODES: u8 = 3;
const MAJORITY: usize = 2;

fn key(node: u8) -> NodeKey {
    NodeKey([node; 32])
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    decree: Decree,
    disk: Option<Vec<u8>>,
    /// The newest write that the disk has not taken yet.
    writing: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    nodes: BTreeMap<NodeKey, Arc<Node>>,
    /// All that was ever sent: sender, receiver, message.
    sent: BTreeSet<(NodeKey, NodeKey, Arc<Message>)>,
    /// All that was ever decided.
    decided: BTreeSet<Genesis>,
    ballots_left: u8,
    crashes_left: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Begin(NodeKey),
    Crash(NodeKey),
    Deliver(NodeKey, NodeKey, Arc<Message>),
    Propose(NodeKey),
    Synced(NodeKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    /// The planted bug: it says it has written before it has, so that a promise leaves which a
    /// crash can still undo.
    Lies,
    /// It has written before anything else happens to its node.
    Quick,
    /// It writes at any later time.
    Slow,
}

impl Node {
    fn sync(&mut self) {
        if let Some((token, bytes)) = self.writing.take() {
            self.disk = Some(bytes);
            self.decree.persisted(token);
        }
    }
}

#[derive(Clone, Debug)]
struct Founders {
    ballots: u8,
    crashes: u8,
    disk: Disk,
    /// Who may open ballots, and who may crash.
    proposers: &'static [u8],
    mortals: &'static [u8],
}

impl Founders {
    /// Carries out what a node wants.
    fn drain(&self, world: &mut World, at: NodeKey) {
        let World { nodes, sent, decided, .. } = world;
        let Some(node) = nodes.get_mut(&at).map(Arc::make_mut) else { return };
        while let Some(output) = node.decree.poll_output() {
            match output {
                Output::Decided(genesis) => drop(decided.insert(genesis)),
                Output::Persist { token, bytes } => {
                    node.writing = Some((token, bytes));
                    match self.disk {
                        Disk::Lies => node.decree.persisted(token),
                        Disk::Slow if self.mortals.contains(&at.0[0]) => {}
                        Disk::Quick | Disk::Slow => node.sync(),
                    }
                }
                // Lost, all of them: one makes a proposer give up sooner, the other spreads what
                // `decided` has collected already.
                Output::Send {
                    message: Message::Refuse { .. } | Message::Decided { .. }, ..
                } => {}
                Output::Send { to, message } => drop(sent.insert((at, to, message.into()))),
            }
        }
        decided.extend(node.decree.memory().decided.clone());
    }
}

impl Model for Founders {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        let fresh = |node| {
            let decree = Decree::new(key(node), MAJORITY, None).unwrap();
            (key(node), Arc::new(Node { decree, disk: None, writing: None }))
        };
        vec![World {
            nodes: (1..=NODES).map(fresh).collect(),
            sent: BTreeSet::new(),
            decided: BTreeSet::new(),
            ballots_left: self.ballots,
            crashes_left: self.crashes,
        }]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        for (key, node) in &world.nodes {
            if world.ballots_left > 0 && self.proposers.contains(&key.0[0]) {
                events.push(Event::Begin(*key));
            }
            if world.crashes_left > 0 && self.mortals.contains(&key.0[0]) {
                events.push(Event::Crash(*key));
            }
            if node.decree.promisers().is_some() {
                events.push(Event::Propose(*key));
            }
            events.extend(node.writing.as_ref().map(|_| Event::Synced(*key)));
        }
        let deliveries = world.sent.iter().cloned();
        events.extend(deliveries.map(|(from, to, message)| Event::Deliver(from, to, message)));
    }

    fn next_state(&self, last: &World, event: Event) -> Option<World> {
        let mut world = last.clone();
        let at = match &event {
            Event::Begin(at) | Event::Crash(at) | Event::Propose(at) | Event::Synced(at) => *at,
            Event::Deliver(_, to, _) => *to,
        };
        let node = world.nodes.get_mut(&at).map(Arc::make_mut)?;
        match event {
            Event::Begin(_) => {
                world.ballots_left -= 1;
                let peers = (1..=NODES).map(key).filter(|peer| *peer != at).collect();
                node.decree.begin(peers);
            }
            Event::Crash(_) => {
                world.crashes_left -= 1;
                node.writing = None;
                node.decree = Decree::new(at, MAJORITY, node.disk.as_deref()).unwrap();
            }
            Event::Deliver(from, _, message) => {
                node.decree.handle_message(from, Message::clone(&message));
            }
            Event::Propose(_) => {
                let ballot = node.decree.memory().promised?;
                node.decree.propose(genesis(ballot));
            }
            Event::Synced(_) => node.sync(),
        }
        self.drain(&mut world, at);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one genesis", |_, world: &World| world.decided.len() <= 1),
            Property::sometimes("a founding", |_, world: &World| !world.decided.is_empty()),
        ]
    }
}

/// A value of its own for each ballot, so that no two can be confused.
fn genesis(ballot: Ballot) -> Genesis {
    let cluster_id = [ballot.by.0[0]; 16];
    Genesis { cluster_id, voters: Vec::new(), sealed_key: ballot.round.to_le_bytes().to_vec() }
}

/// Two ballots, one crash, of one of these nodes.
fn founders(disk: Disk, mortals: &'static [u8]) -> Founders {
    Founders { ballots: 2, crashes: 1, disk, proposers: &[1, 3], mortals }
}

fn explore(disk: Disk, mortals: &'static [u8]) {
    let checker = founders(disk, mortals).checker().threads(2).spawn_bfs().join();
    assert!(checker.is_done() && checker.unique_state_count() > 10_000);
    checker.assert_properties();
}

#[test]
fn no_order_of_events_founds_two_clusters() {
    explore(Disk::Quick, &[1, 2, 3]);
    // Without a crash a slow disk is nothing but a slow network: only who may crash has one.
    for mortals in [&[1][..], &[2], &[3]] {
        explore(Disk::Slow, mortals);
    }
}

#[test]
fn a_promise_that_leaves_before_it_is_written_founds_two() {
    let checker = founders(Disk::Lies, &[2]).checker().spawn_dfs().join();
    let path = checker.discovery("one genesis").expect("the checker finds the planted bug");
    assert!(path.into_actions().contains(&Event::Crash(key(2))));
}
