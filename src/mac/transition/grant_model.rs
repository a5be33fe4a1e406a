//! Every order of events in a small cluster that draws on granted numbers, and what must never
//! come of them: a model, walked exhaustively. The grants are those of [`super::grant`] themselves.
//!
//! Three nodes and one log. A proposal stands in the air until the log takes it up, which may be
//! late or never, and in any order; each node applies the log when it likes. So a node that is
//! paused, split off or far behind is one that does not apply, and goes on with what it has. A
//! start loses what was in memory, keeps disk and applied state, and proposes to void the node's
//! grants; until it has applied that itself the node goes on from the cursor on its disk.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::{grant_for, void_grants};
use crate::fixtures::{profile, session};
use crate::{DeviceSession, DownlinkCounter, Grant, NodeId};

type Granting = fn(&mut DownlinkCounter, NodeId, Option<u32>, u32) -> Option<Grant>;
type Voiding = fn(&mut DownlinkCounter, NodeId);

/// The system and how far it is walked.
struct Cluster {
    granting: Granting,
    voiding: Voiding,
    /// Whether a cursor is written to the disk before its frame leaves.
    is_written_first: bool,
    asks: u8,
    starts: u8,
    frames: u8,
}

const TWICE: &str = "no number leaves twice";

/// Numbers in a grant here.
const LENGTH: u32 = 2;

impl Cluster {
    const fn real() -> Self {
        Self {
            granting: grant_for,
            voiding: void_by_session,
            is_written_first: true,
            asks: 3,
            starts: 1,
            frames: 3,
        }
    }
}

fn void_by_session(counter: &mut DownlinkCounter, node: NodeId) {
    static BASE: OnceLock<DeviceSession> = OnceLock::new();
    let mut whole = BASE.get_or_init(|| session(&profile("EU868"))).clone();
    whole.n_f_cnt_down = *counter;
    void_grants(&mut whole, node);
    *counter = whole.n_f_cnt_down;
}

/// What a proposal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wish {
    Numbers { cursor: Option<u32> },
    Void,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Proposal {
    node: usize,
    /// The start of the node that made it: a later one does not hear the answer.
    start: u8,
    wish: Wish,
}

/// A cursor: in memory with its end, on the disk without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Cursor {
    home_epoch: u32,
    next: u32,
    hi: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    start: u8,
    has_spoken: bool,
    applied: usize,
    counter: DownlinkCounter,
    memory: Option<Cursor>,
    disk: Option<Cursor>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    air: Vec<Proposal>,
    log: Vec<Proposal>,
    nodes: [Node; 3],
    asks: u8,
    starts: u8,
    frames: u8,
    /// Which home epoch sent a number, whoever heard it.
    sent: BTreeMap<u32, (usize, u32)>,
    wrong: Wrong,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Wrong {
    twice: bool,
    fell: bool,
    ungranted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A node proposes that it be granted numbers.
    Ask(usize),
    /// The log takes up a proposal.
    Decide(usize),
    /// A node applies the log up to the next entry of its own. What others' entries change of its
    /// state it looks at only when it starts, and not even then if it is behind.
    Apply(usize),
    /// A frame leaves: its cursor is written, it is sent.
    Send(usize),
    /// The node starts anew. `amid`: between the two halves of a sending. `behind`: what the log
    /// decided since it last applied its own is not known to it.
    Start { at: usize, amid: bool, behind: bool },
}

impl Node {
    /// What a started node may use before the log has voided it: its applied grant, from the cursor
    /// on its disk on.
    fn recover(&self, me: NodeId) -> Option<Cursor> {
        let grant = self.counter.grant.filter(|grant| grant.home == me)?;
        let disk = self.disk.filter(|disk| disk.home_epoch >= grant.home_epoch);
        if disk.is_some_and(|disk| disk.home_epoch > grant.home_epoch) {
            return None;
        }
        let next = disk.map_or(grant.lo, |disk| disk.next.max(grant.lo));
        Some(Cursor { home_epoch: grant.home_epoch, next, hi: grant.hi })
    }

    /// Takes a grant over from the log, as the machine does.
    fn adopt(&mut self, asked: Option<u32>, grant: Grant) {
        let Grant { home_epoch, lo, hi, .. } = grant;
        self.memory = match self.memory {
            Some(held) if held.home_epoch > home_epoch => return,
            Some(held) if held.home_epoch == home_epoch => {
                Some(Cursor { home_epoch, next: held.next.max(lo), hi: held.hi.max(hi) })
            }
            None if asked.is_some() => return,
            Some(_) | None => Some(Cursor { home_epoch, next: lo, hi }),
        };
    }
}

impl World {
    /// Applies one entry at one node.
    fn apply(&mut self, cluster: &Cluster, at: usize) {
        let node = &mut self.nodes[at];
        let Proposal { node: by, start, wish } = self.log[node.applied];
        node.applied += 1;
        let is_own = by == at && start == node.start;
        match wish {
            Wish::Void => {
                (cluster.voiding)(&mut node.counter, node_id(by));
                if is_own {
                    node.memory = None;
                }
            }
            Wish::Numbers { cursor } => {
                let grant = (cluster.granting)(&mut node.counter, node_id(by), cursor, LENGTH);
                if let (Some(grant), true) = (grant, is_own) {
                    node.adopt(cursor, grant);
                }
            }
        }
    }

    /// The entry up to which a node applies next: one of its own.
    fn next_own(&self, at: usize) -> Option<usize> {
        let first = self.nodes[at].applied;
        let rest = self.log.iter().skip(first);
        rest.clone().position(|entry| entry.node == at).map(|more| first + more + 1)
    }

    fn propose(&mut self, at: usize, wish: Wish) {
        self.nodes[at].has_spoken = true;
        self.air.push(Proposal { node: at, start: self.nodes[at].start, wish });
        self.air.sort_unstable();
    }

    /// One half of sending, or both.
    fn send(&mut self, at: usize, is_written: bool, has_left: bool) -> Option<()> {
        let node = &mut self.nodes[at];
        let drawn = node.memory.filter(|cursor| cursor.next < cursor.hi)?;
        let used = Cursor { next: drawn.next + 1, ..drawn };
        node.memory = Some(used);
        if is_written {
            node.disk = Some(used);
        }
        self.frames += 1;
        if has_left {
            let (number, home) = (drawn.next, (at, drawn.home_epoch));
            let same = self.sent.iter().filter(|(_, whose)| **whose == home);
            self.wrong.fell |= same.max().is_some_and(|(last, _)| number <= *last);
            self.wrong.ungranted |= number >= node.counter.next;
            self.wrong.twice |= self.sent.insert(number, home).is_some();
        }
        Some(())
    }

    /// Whether a node that others have overtaken has numbers left and the others have sent.
    fn is_overtaken_and_able(&self) -> bool {
        let newest = self.sent.values().map(|(_, epoch)| *epoch).max().unwrap_or(0);
        let memory = |node: &Node| node.memory.filter(|cursor| cursor.next < cursor.hi);
        self.nodes.iter().filter_map(memory).any(|cursor| cursor.home_epoch < newest)
    }

    /// Whether a node has started, has not heard of it from the log, and can send.
    fn is_started_and_able(&self) -> bool {
        self.nodes.iter().enumerate().any(|(at, node)| {
            let void = Proposal { node: at, start: node.start, wish: Wish::Void };
            let is_void = self.log.iter().take(node.applied).any(|entry| *entry == void);
            let able = node.memory.is_some_and(|cursor| cursor.next < cursor.hi);
            node.start > 0 && !is_void && able
        })
    }

    /// Whether a node holds a grant that it has taken from another that had not started anew.
    fn is_taken_over(&self) -> bool {
        let is_void = self.log.iter().any(|entry| entry.wish == Wish::Void);
        let is_other =
            |at: usize| self.log.iter().take(self.nodes[at].applied).any(|e| e.node != at);
        let holds = |(at, node): (usize, &Node)| {
            node.counter.grant.is_some_and(|grant| grant.home == node_id(at)) && is_other(at)
        };
        !is_void && self.nodes.iter().enumerate().any(holds)
    }

    /// Whether there are more numbers than grants made.
    fn is_extended(&self) -> bool {
        let counters = self.nodes.iter().map(|node| node.counter);
        counters.into_iter().any(|counter| counter.next > counter.home_epoch * LENGTH)
    }
}

fn node_id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::default()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        steps.extend((0..world.air.len()).map(Step::Decide));
        for (at, node) in world.nodes.iter().enumerate() {
            if world.next_own(at).is_some() {
                steps.push(Step::Apply(at));
            }
            let can_send = world.frames < self.frames
                && node.memory.is_some_and(|cursor| cursor.next < cursor.hi);
            if can_send {
                steps.push(Step::Send(at));
            }
            // The nodes are alike: the second to do anything is called the second.
            if at > 0 && !world.nodes[at - 1].has_spoken {
                break;
            }
            if world.asks < self.asks {
                steps.push(Step::Ask(at));
            }
            if world.starts < self.starts && node.has_spoken {
                for behind in [false, true] {
                    steps.push(Step::Start { at, amid: false, behind });
                    if can_send {
                        steps.push(Step::Start { at, amid: true, behind });
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut world = last.clone();
        match step {
            Step::Ask(at) => {
                let cursor = world.nodes[at].memory.map(|cursor| cursor.next);
                world.asks += 1;
                world.propose(at, Wish::Numbers { cursor });
            }
            Step::Decide(which) => {
                let proposal = world.air.remove(which);
                world.log.push(proposal);
            }
            Step::Apply(at) => {
                let until = world.next_own(at)?;
                while world.nodes[at].applied < until {
                    world.apply(self, at);
                }
            }
            Step::Send(at) => world.send(at, true, true)?,
            Step::Start { at, amid, behind } => {
                if amid {
                    world.send(at, self.is_written_first, !self.is_written_first)?;
                }
                world.starts += 1;
                world.nodes[at].start += 1;
                while !behind && world.nodes[at].applied < world.log.len() {
                    world.apply(self, at);
                }
                world.nodes[at].memory = world.nodes[at].recover(node_id(at));
                world.propose(at, Wish::Void);
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TWICE, |_, world: &World| !world.wrong.twice),
            Property::always("numbers of a home epoch rise", |_, world: &World| !world.wrong.fell),
            Property::always("what leaves was granted", |_, world: &World| !world.wrong.ungranted),
            Property::sometimes("take-over", |_, world: &World| world.is_taken_over()),
            Property::sometimes("extension", |_, world: &World| world.is_extended()),
            Property::sometimes("an old home goes on", |_, world: &World| {
                world.is_overtaken_and_able()
            }),
            Property::sometimes("a start without the log goes on", |_, world: &World| {
                world.is_started_and_able()
            }),
        ]
    }
}

/// The properties that a cluster with a planted bug fails first.
fn failures(cluster: Cluster) -> Vec<&'static str> {
    let checker = cluster.checker().threads(2).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let properties = checker.model().properties();
    let never = properties.iter().filter(|one| one.expectation == Expectation::Always);
    never.map(|one| one.name).filter(|name| checker.discovery(name).is_some()).collect()
}

#[test]
fn no_order_of_events_makes_a_number_leave_twice() {
    let many_starts = Cluster { starts: 2, ..Cluster::real() };
    let many_grants = Cluster { asks: 4, ..Cluster::real() };
    for cluster in [many_starts, many_grants] {
        cluster.checker().threads(2).spawn_bfs().join().assert_properties();
    }
}

#[test]
fn a_grant_that_is_given_back_at_a_start_is_used_twice() {
    fn given_back(counter: &mut DownlinkCounter, node: NodeId) {
        if let Some(grant) = counter.grant.filter(|grant| grant.home == node) {
            (counter.next, counter.grant) = (grant.lo, None);
        }
    }
    let cluster = Cluster { voiding: given_back, ..Cluster::real() };
    assert_eq!(failures(cluster), [TWICE]);
}

#[test]
fn a_cursor_written_after_its_frame_has_left_is_used_twice() {
    let cluster = Cluster { is_written_first: false, ..Cluster::real() };
    assert!(failures(cluster).contains(&TWICE));
}

#[test]
fn a_log_that_numbers_a_frame_itself_uses_what_the_home_uses() {
    fn two_allocators(
        counter: &mut DownlinkCounter,
        home: NodeId,
        cursor: Option<u32>,
        length: u32,
    ) -> Option<Grant> {
        match counter.grant.filter(|held| held.home != home) {
            Some(held) => Some(Grant { home, home_epoch: held.home_epoch, ..held }),
            None => grant_for(counter, home, cursor, length),
        }
    }
    let cluster = Cluster { granting: two_allocators, ..Cluster::real() };
    assert_eq!(failures(cluster), [TWICE]);
}

#[test]
fn a_take_over_of_what_the_old_home_has_left_is_used_twice() {
    fn from_lo(
        counter: &mut DownlinkCounter,
        home: NodeId,
        cursor: Option<u32>,
        length: u32,
    ) -> Option<Grant> {
        if let Some(held) = counter.grant.filter(|held| held.home != home) {
            (counter.next, counter.grant) = (held.lo, None);
        }
        grant_for(counter, home, cursor, length)
    }
    let cluster = Cluster { granting: from_lo, ..Cluster::real() };
    assert_eq!(failures(cluster), [TWICE]);
}
