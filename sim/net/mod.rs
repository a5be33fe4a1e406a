//! The network between simulated hosts: a madsim plugin of our own.
//!
//! A host is a madsim node with an address. Between any two hosts, each direction is a link with
//! its own latency, loss, duplication, corruption, bandwidth and random stream, and can be cut
//! alone; a cut takes what is under way with it. A [`Noise`] makes links worse for a while.
//! Datagrams ([`UdpSocket`]), to one host or to a multicast group, and streams ([`TcpListener`],
//! [`TcpStream`]) die with their host. One task, the driver, delivers everything in the order of
//! (virtual time, order of sending).
//!
//! Nothing here draws from madsim's own dice or uses its network.

mod flight;
mod link;
mod noise;
mod tap;
mod tcp;
mod tcp_end;
mod udp;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::plugin::{Simulator, simulator};
use madsim::rand::GlobalRng;
use madsim::task::NodeId;
use madsim::time::TimeHandle;

pub use link::Quality;
pub use noise::{Noise, NoiseId};
pub use tap::{Delivered, DeliveryTap, Sent, Tap};
pub use tcp::{TcpListener, TcpReader, TcpStream, TcpWriter};
pub use udp::UdpSocket;

use crate::dice::Seed;
use crate::runtime::{held, sleep_virtual_until};
use flight::{Flight, Flights};
use link::Link;
use noise::Noises;
use tap::Taps;

/// Largest payload of a UDP datagram over IPv4.
pub const DATAGRAM_LEN_MAX: usize = 65_507;

/// First of the ports given to whoever asks for port 0.
const PORT_EPHEMERAL_MIN: u16 = 49_152;

/// How a host dies, as its peers notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Death {
    /// Power is cut: peers hear nothing, and their streams stay half-open.
    #[default]
    Power,
    /// The process is killed and its kernel lives: peers' streams are reset.
    Process,
}

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams sent; one to a group counts once.
    pub sent: u64,
    /// Datagrams put into a socket's queue.
    pub delivered: u64,
    /// Datagrams lost to a link's loss, a cut, its MTU or its queue.
    pub lost: u64,
    /// Extra copies made.
    pub duplicated: u64,
    /// Datagrams with a bit turned.
    pub corrupted: u64,
    /// Datagrams that found the socket's queue full.
    pub overflowed: u64,
    /// Datagrams to a port, host or group where nobody listens.
    pub unclaimed: u64,
    /// Segments of streams that reached their host.
    pub segments: u64,
    /// Segments of streams that had to be sent again.
    pub resent: u64,
    /// Connections reset or given up.
    pub reset: u64,
}

#[derive(Debug)]
struct Host {
    address: IpAddr,
    port_next: u16,
    /// Some process of it has used the network since its last death.
    up: bool,
    death: Death,
}

/// Everything behind the one lock.
#[derive(Default)]
struct Inner {
    hosts: BTreeMap<NodeId, Host>,
    addresses: BTreeMap<IpAddr, NodeId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    quality: Quality,
    noises: Noises,
    ports: BTreeMap<(NodeId, u16), udp::Port>,
    /// The hosts whose socket of this port has joined this group.
    groups: BTreeMap<(Ipv4Addr, u16), BTreeSet<NodeId>>,
    listeners: BTreeMap<(NodeId, u16), tcp_end::Backlog>,
    connections: BTreeMap<u64, tcp_end::Connection>,
    flights: Flights,
    numbers: u64,
    driver: Option<Waker>,
    taps: Taps,
    counts: Counts,
}

impl Inner {
    /// A number never given before in this run.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let (quality, noises) = (&self.quality, &self.noises);
        self.links.entry((from, to)).or_insert_with(|| {
            let base = if from == to { Quality::loopback() } else { quality.clone() };
            let under = noises.over((from, to), &base);
            let mut link = Link::new(base, Seed::current().stream(&format!("net {from}>{to}")));
            link.become_like(under);
            link
        })
    }

    /// Works out anew what every link is like.
    fn weather(&mut self) {
        for (&ends, link) in &mut self.links {
            link.become_like(self.noises.over(ends, &link.base));
        }
    }

    fn schedule(&mut self, at: Duration, flight: Flight) {
        let earliest = self.flights.next_at().is_none_or(|first| at < first);
        self.flights.push(at, flight);
        if earliest && let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// The host behind an address, as `node` sees it.
    fn resolve(&self, node: NodeId, address: IpAddr) -> Option<NodeId> {
        if address.is_loopback() || address.is_unspecified() {
            return Some(node);
        }
        self.addresses.get(&address).copied()
    }

    fn host(&mut self, node: NodeId) -> io::Result<&mut Host> {
        self.hosts.get_mut(&node).ok_or_else(|| io::ErrorKind::NetworkDown.into())
    }

    /// Chooses the port and the address shown to others for a socket of `node`.
    fn claim(
        &mut self,
        node: NodeId,
        wanted: SocketAddr,
        taken: impl Fn(&Self, u16) -> bool,
    ) -> io::Result<SocketAddr> {
        if self.resolve(node, wanted.ip()) != Some(node) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let host = self.host(node)?;
        host.up = true;
        let shown = if wanted.ip().is_unspecified() { host.address } else { wanted.ip() };
        if wanted.port() != 0 {
            if taken(self, wanted.port()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            return Ok(SocketAddr::new(shown, wanted.port()));
        }
        for _ in PORT_EPHEMERAL_MIN..u16::MAX {
            let host = self.host(node)?;
            let port = host.port_next;
            host.port_next = port.checked_add(1).unwrap_or(PORT_EPHEMERAL_MIN);
            if !taken(self, port) {
                return Ok(SocketAddr::new(shown, port));
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn deliver(&mut self, now: Duration, flight: Flight) {
        match flight {
            Flight::Datagram(datagram) => self.deliver_datagram(now, datagram),
            Flight::Segment(segment) => self.arrive(now, segment),
            Flight::Retry(segment) => self.transmit(now, segment),
            Flight::GiveUp { connection, side, opening } => self.give_up(connection, side, opening),
        }
    }
}

/// The network of one run.
pub struct Net {
    time: TimeHandle,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Simulator for Net {
    fn new(_: &GlobalRng, time: &TimeHandle, _: &madsim::Config) -> Self {
        Self { time: time.clone(), inner: Mutex::default() }
    }

    fn reset_node(&self, id: NodeId) {
        let now = self.now();
        let mut inner = held(&self.inner);
        inner.unbind_all(id);
        inner.bury(now, id);
        if let Some(host) = inner.hosts.get_mut(&id) {
            host.up = false;
            host.death = Death::default();
        }
    }
}

impl Net {
    /// The network of the simulation now running.
    pub fn current() -> Arc<Self> {
        simulator()
    }

    /// Starts delivering. Call once, from the future given to `block_on`.
    pub fn start() -> Arc<Self> {
        let net = Self::current();
        madsim::task::spawn(Driver { net: Arc::clone(&net), armed: BinaryHeap::new() });
        net
    }

    fn now(&self) -> Duration {
        self.time.elapsed()
    }

    /// Gives a madsim node its address.
    pub fn attach(&self, node: NodeId, address: IpAddr) {
        let mut inner = held(&self.inner);
        let host =
            Host { address, port_next: PORT_EPHEMERAL_MIN, up: false, death: Death::default() };
        inner.hosts.insert(node, host);
        let before = inner.addresses.insert(address, node);
        assert!(before.is_none_or(|other| other == node), "{address} belongs to two hosts");
    }

    /// Sets what links are like that nobody has changed singly, noises aside.
    pub fn set_quality(&self, quality: Quality) {
        let mut inner = held(&self.inner);
        let before = std::mem::replace(&mut inner.quality, quality.clone());
        for ((from, to), link) in &mut inner.links {
            if from != to && link.base == before {
                link.base = quality.clone();
            }
        }
        inner.weather();
    }

    /// Changes the link from one host to another; the way back stays as it is.
    pub fn change_link(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Quality)) {
        let mut inner = held(&self.inner);
        let inner = &mut *inner;
        change(&mut inner.link(from, to).base);
        let Inner { links, noises, .. } = inner;
        if let Some(link) = links.get_mut(&(from, to)) {
            link.become_like(noises.over((from, to), &link.base));
        }
    }

    /// Lays a noise over the links it names, those of hosts to come included, until
    /// [`Self::lift`]. Of several on one link each makes it worse.
    pub fn lay(&self, noise: Noise) -> NoiseId {
        let mut inner = held(&self.inner);
        let id = inner.noises.lay(noise);
        inner.weather();
        id
    }

    /// Takes a noise off again; links are as they would be without it. Packets under way keep the
    /// time they were given.
    pub fn lift(&self, noise: NoiseId) {
        let mut inner = held(&self.inner);
        if inner.noises.lift(noise).is_some() {
            inner.weather();
        }
    }

    /// Cuts the link from one host to another, and what is under way on it. Cuts are counted: each
    /// must be mended before anything passes.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).cut();
    }

    /// Mends one cut of [`Self::cut`].
    pub fn mend(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).mend();
    }

    /// Whether the link from one host to another is cut.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        held(&self.inner).links.get(&(from, to)).is_some_and(Link::is_cut)
    }

    /// Says how the host's next death looks to its peers; [`Death::Power`] unless told.
    pub fn announce_death(&self, node: NodeId, death: Death) {
        if let Some(host) = held(&self.inner).hosts.get_mut(&node) {
            host.death = death;
        }
    }

    /// Resets every stream between a host and others, as a middlebox does that has lost its table:
    /// both ends learn of it at once, whatever the links are like. Returns how many there were.
    pub fn reset_streams(&self, node: NodeId) -> usize {
        held(&self.inner).reset_streams(node)
    }

    /// Makes a black hole of the link from one host to another, for streams alone: their segments
    /// vanish, those under way too, and are not sent again. A writer sees a full window, and its
    /// connection times out after the usual patience, though the link be restored before.
    pub fn stall(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).stalled = true;
    }

    /// Ends what [`Self::stall`] began: new segments pass. A stream that has lost one stays stuck.
    pub fn unstall(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).stalled = false;
    }

    /// Shows every datagram to `tap` as it leaves its host, also to the host itself. One to a group
    /// is shown once.
    pub fn set_tap(&self, tap: Tap) {
        held(&self.inner).taps.sent = Some(tap);
    }

    /// Shows every datagram to `tap` as it is put into a socket's queue.
    pub fn set_delivery_tap(&self, tap: DeliveryTap) {
        held(&self.inner).taps.delivered = Some(tap);
    }

    /// Shows the bytes of every stream to `tap` as they leave their host: each once, in order,
    /// however often the link loses them.
    pub fn set_stream_tap(&self, tap: Tap) {
        held(&self.inner).taps.streamed = Some(tap);
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        held(&self.inner).counts
    }

    /// Delivers what is due; returns when the next is.
    fn deliver_due(&self, now: Duration, waker: &Waker) -> Option<Duration> {
        let mut inner = held(&self.inner);
        if inner.driver.as_ref().is_none_or(|driver| !driver.will_wake(waker)) {
            inner.driver = Some(waker.clone());
        }
        while let Some(flight) = inner.flights.pop(now) {
            inner.deliver(now, flight);
        }
        inner.flights.next_at()
    }
}

/// The task that moves everything under way.
struct Driver {
    net: Arc<Net>,
    /// The moments at which it will be woken. A timer cannot be taken back: one armed before
    /// something earlier came up serves for its own moment later.
    armed: BinaryHeap<Reverse<Duration>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.net.now();
            let next = self.net.deliver_due(now, cx.waker());
            while self.armed.peek().is_some_and(|Reverse(at)| *at <= now) {
                self.armed.pop();
            }
            let Some(next) = next else { return Poll::Pending };
            if self.armed.peek().is_some_and(|Reverse(at)| *at <= next) {
                return Poll::Pending;
            }
            if Pin::new(&mut sleep_virtual_until(next)).poll(cx).is_pending() {
                self.armed.push(Reverse(next));
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests;
