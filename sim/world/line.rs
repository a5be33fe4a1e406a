//! The way behind a gateway: which node each of its two sockets speaks to, and who moves them.
//!
//! A gateway knows one server address; behind it may be a balancer that sends PUSH and PULL to
//! different nodes, moves either without being asked, or moves both away from a node that does not
//! answer. As the real forwarder's, a socket takes what comes from where it sends to, and nothing
//! else: a node that a PULL socket has left sends in vain. Each socket draws from a stream of its
//! own, named after the gateway, and with one node nothing is ever moved.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use madsim::task::NodeId;
use radio::Socket;
use scenario::{Gateways, Scenario};

use super::machine::{Machine, PORT_GATEWAYS};
use crate::dice::{Dice, Seed};
use crate::net::{Net, UdpSocket};

/// Both sockets, in the order of their places.
const SOCKETS: [Socket; 2] = [Socket::Up, Socket::Down];
/// How often a balancer looks after the nodes' health.
const LOOKS: Duration = Duration::from_millis(500);
/// How long it takes until all nodes know what one was told by a gateway: a change is told at once,
/// over links that are up.
const NEWS: Duration = Duration::from_millis(250);

/// A socket that was moved, told to whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    /// Which.
    pub(super) socket: Socket,
    /// In words.
    pub(super) told: String,
}

/// One socket's way.
struct Way {
    socket: Arc<UdpSocket>,
    /// The place of the node it speaks to.
    target: usize,
    /// When it is moved next.
    hops_at: Option<Instant>,
    /// When its node has not answered for long enough.
    given_up_at: Option<Instant>,
    hops: Dice,
    patience: Dice,
}

/// The node that has acknowledged a gateway's latest PULL_DATA.
#[derive(Clone, Copy, Debug)]
struct Known {
    target: usize,
    boot: u32,
    since: Instant,
}

/// Where a gateway stands on the network, and whom it speaks to.
pub(super) struct Line {
    host: NodeId,
    machines: Arc<[Machine]>,
    ways: [Way; 2],
    known_to: Option<Known>,
    hop_every: Option<Range<Duration>>,
    failover: Option<Range<Duration>>,
    looks_at: Option<Instant>,
}

impl Line {
    /// Of the gateway number `place` (from 0), on its host, with its sockets up and down.
    pub(super) fn new(
        scenario: &Scenario,
        seed: Seed,
        (place, name): (u32, &str),
        (host, sockets): (NodeId, [Arc<UdpSocket>; 2]),
        machines: &[Machine],
    ) -> Self {
        let Gateways { spread, hop_every, failover, .. } = &scenario.gateways;
        let targets = targets(seed, (place, name), machines.len(), *spread);
        let [up, down] = sockets;
        let way = |socket, target, kind: &str| Way {
            socket,
            target,
            hops_at: None,
            given_up_at: None,
            hops: seed.stream(&format!("hops {name} {kind}")),
            patience: seed.stream(&format!("failover {name} {kind}")),
        };
        let moves = machines.len() > 1;
        let range = |range: &Option<scenario::SpanRange>| {
            range.as_ref().filter(|_| moves).map(|range| range.0.clone())
        };
        Self {
            host,
            machines: machines.into(),
            ways: [way(up, targets[0], "up"), way(down, targets[1], "down")],
            known_to: None,
            hop_every: range(hop_every),
            failover: range(failover),
            looks_at: None,
        }
    }

    fn way(&self, socket: Socket) -> &Way {
        &self.ways[usize::from(socket == Socket::Down)]
    }

    fn machine(&self, socket: Socket) -> &Machine {
        &self.machines[self.way(socket).target]
    }

    /// The node that the PULL socket speaks to.
    pub(super) fn told_by(&self) -> &str {
        self.machine(Socket::Down).name()
    }

    /// Its sockets, up and down.
    pub(super) fn sockets(&self) -> [Arc<UdpSocket>; 2] {
        [0, 1].map(|place: usize| Arc::clone(&self.ways[place].socket))
    }

    /// Where it stands.
    pub(super) fn address(&self) -> IpAddr {
        self.ways[0].socket.local_addr().ip()
    }

    /// Sends a datagram to the socket's node. What the network does not take is lost, as any may
    /// be.
    pub(super) fn send(&self, socket: Socket, bytes: &[u8]) {
        let server = self.machine(socket).socket(PORT_GATEWAYS);
        let _ = self.way(socket).socket.send_to(server, bytes);
    }

    /// Whether a socket takes what comes from there.
    pub(super) fn takes(&self, socket: Socket, from: SocketAddr) -> bool {
        from == self.machine(socket).socket(PORT_GATEWAYS)
    }

    /// The node that the PULL socket speaks to has acknowledged a PULL_DATA.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        let target = self.way(Socket::Down).target;
        let boot = self.machines[target].boot_number();
        let known = self.known_to.filter(|known| (known.target, known.boot) == (target, boot));
        let since = known.map_or(now, |known| known.since);
        self.known_to = Some(Known { target, boot, since });
    }

    /// No node knows any more where it is.
    pub(super) fn forget(&mut self) {
        self.known_to = None;
    }

    /// Whether the cluster that runs knows where it is, and both can reach each other: what it
    /// hears gets to a node, and the node that knows it, still the one it listens to, to it.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        let [up, down] = SOCKETS.map(|socket| self.machine(socket));
        let apart = up.id() != down.id();
        let known = self.known_to.filter(|known| !apart || now.since(known.since) >= NEWS);
        known.is_some_and(|known| known.boot == down.boot_number())
            && self.reaches(down)
            && (!apart || self.reaches(up))
    }

    fn reaches(&self, machine: &Machine) -> bool {
        let (net, host, node) = (Net::current(), self.host, machine.id());
        machine.node().is_some() && !net.is_cut(host, node) && !net.is_cut(node, host)
    }

    /// The run begins: from now on sockets are moved.
    pub(super) fn begin(&mut self, now: Instant) {
        let every = self.hop_every.as_ref();
        for way in &mut self.ways {
            way.hops_at = every.map(|every| now + way.hops.between(every));
        }
        self.looks_at = self.failover.as_ref().map(|_| now + LOOKS);
    }

    /// When it moves a socket next, or looks whether to.
    pub(super) fn due(&self) -> Option<Instant> {
        let hops = self.ways.iter().filter_map(|way| way.hops_at);
        hops.chain(self.looks_at).min()
    }

    /// Moves the sockets for which it is time.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Moved> {
        let mut moved = Vec::new();
        for socket in SOCKETS {
            let place = usize::from(socket == Socket::Down);
            if self.ways[place].hops_at.is_some_and(|at| at <= now) {
                moved.extend(self.hop(socket));
                let (every, way) = (&self.hop_every, &mut self.ways[place]);
                way.hops_at = every.as_ref().map(|every| now + way.hops.between(every));
            }
        }
        if self.looks_at.is_some_and(|at| at <= now) {
            self.looks_at = Some(now + LOOKS);
            for socket in SOCKETS {
                moved.extend(self.look_after(now, socket));
            }
        }
        moved
    }

    /// Moves a socket to another node, any of them.
    pub(super) fn hop(&mut self, socket: Socket) -> Option<Moved> {
        let all: Vec<usize> = (0..self.machines.len()).collect();
        self.move_among(socket, &all)
    }

    /// Moves a socket to one of some nodes that is not its own; one draw, also if there is none.
    fn move_among(&mut self, socket: Socket, places: &[usize]) -> Option<Moved> {
        let from = self.way(socket).target;
        let way = &mut self.ways[usize::from(socket == Socket::Down)];
        let others: Vec<usize> = places.iter().copied().filter(|place| *place != from).collect();
        let drawn = way.hops.index(others.len().max(1));
        let to = *others.get(drawn)?;
        way.target = to;
        way.given_up_at = None;
        let verb = match socket {
            Socket::Up => "PUSH",
            Socket::Down => "PULL",
        };
        if socket == Socket::Down {
            self.known_to = None;
        }
        let [from, to] = [from, to].map(|place| self.machines[place].name());
        Some(Moved { socket, told: format!("{verb} goes to {to} from now on, and not to {from}") })
    }

    /// Moves a socket whose node has not answered for long enough to one that does.
    fn look_after(&mut self, now: Instant, socket: Socket) -> Option<Moved> {
        let patience = self.failover.clone()?;
        let answers = |machine: &Machine| self.reaches(machine) && !machine.is_paused();
        let places = self.machines.iter().enumerate();
        let live: Vec<usize> =
            places.filter(|(_, machine)| answers(machine)).map(|(place, _)| place).collect();
        let way = &mut self.ways[usize::from(socket == Socket::Down)];
        if live.contains(&way.target) {
            way.given_up_at = None;
            return None;
        }
        let drawn = &mut way.patience;
        let at = *way.given_up_at.get_or_insert_with(|| now + drawn.between(&patience));
        if at > now || live.is_empty() { None } else { self.move_among(socket, &live) }
    }

    /// Nothing is moved any more, but for sockets whose node is not one of `core`.
    pub(super) fn rest(&mut self, core: &BTreeSet<NodeId>) -> Vec<Moved> {
        self.looks_at = None;
        self.ways.iter_mut().for_each(|way| way.hops_at = None);
        let places = self.machines.iter().enumerate();
        let inside: Vec<usize> = places
            .filter(|(_, machine)| core.contains(&machine.id()))
            .map(|(place, _)| place)
            .collect();
        let outside =
            SOCKETS.into_iter().filter(|socket| !inside.contains(&self.way(*socket).target));
        let outside: Vec<Socket> = outside.collect();
        outside.into_iter().filter_map(|socket| self.move_among(socket, &inside)).collect()
    }
}

/// The places of the nodes that a gateway's sockets speak to at first.
fn targets(seed: Seed, (place, name): (u32, &str), nodes: usize, spread: bool) -> [usize; 2] {
    let home = place as usize % nodes;
    if !spread || nodes < 2 {
        return [home, home];
    }
    let mut dice = seed.stream(&format!("spread {name}"));
    let (up, behind) = (dice.index(nodes), 1 + dice.index(nodes - 1));
    [up, (up + behind) % nodes]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_begin_at_home_or_spread_over_two_nodes() {
        assert_eq!(targets(Seed(1), (4, "gw5"), 3, false), [1, 1]);
        assert_eq!(targets(Seed(1), (4, "gw5"), 1, true), [0, 0]);
        let pairs = (0..200).map(|seed| targets(Seed(seed), (0, "gw1"), 3, true));
        let pairs: BTreeSet<[usize; 2]> = pairs.collect();
        assert_eq!(pairs.len(), 6, "every pair of two: {pairs:?}");
        assert!(pairs.iter().all(|[up, down]| up != down));
    }
}
