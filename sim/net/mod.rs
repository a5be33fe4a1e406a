//! The network between simulated hosts: a madsim plugin of our own.
//!
//! A host is a madsim node with an address. Between any two hosts, each direction is a link with
//! its own latency, loss, duplication, corruption, bandwidth and random stream, and can be cut
//! alone; a cut takes what is under way with it. Datagrams ([`UdpSocket`]) and streams
//! ([`TcpListener`], [`TcpStream`]) die with their host. One task, the driver, delivers
//! everything in the order of (virtual time, order of sending).
//!
//! Nothing here draws from madsim's own dice or uses its network.

mod link;
mod tcp;
mod tcp_end;
mod udp;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use madsim::plugin::{Simulator, simulator};
use madsim::rand::GlobalRng;
use madsim::task::NodeId;
use madsim::time::TimeHandle;

pub use link::Quality;
pub use tcp::{TcpListener, TcpReader, TcpStream, TcpWriter};
pub use udp::UdpSocket;

use crate::dice::Seed;
use crate::runtime::{Sleep, held, sleep_virtual_until};
use link::Link;

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

/// A datagram as a tap sees it, at the moment it is sent: before loss and corruption.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Virtual time.
    pub at: Duration,
    /// Host that sends.
    pub node: NodeId,
    /// Sender's address.
    pub from: SocketAddr,
    /// Receiver's address.
    pub to: SocketAddr,
    /// Payload.
    pub payload: &'a [u8],
}

/// Sees each datagram that leaves a host. Must not call the network.
pub type Tap = Box<dyn FnMut(Sent<'_>) + Send>;

/// What the network has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams sent.
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
    /// Datagrams to a port or host where nobody listens.
    pub unclaimed: u64,
    /// Segments of streams that had to be sent again.
    pub resent: u64,
    /// Connections reset or given up.
    pub reset: u64,
}

/// Something under way, due at a moment.
#[derive(Debug)]
enum Flight {
    Datagram { from: NodeId, to: NodeId, cuts: u64, source: SocketAddr, port: u16, payload: Bytes },
    Segment(tcp_end::Segment),
    Retry(tcp_end::Segment),
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
    ports: BTreeMap<(NodeId, u16), udp::Port>,
    listeners: BTreeMap<(NodeId, u16), tcp_end::Backlog>,
    connections: BTreeMap<u64, tcp_end::Connection>,
    flights: BTreeMap<(Duration, u64), Flight>,
    numbers: u64,
    driver: Option<Waker>,
    tap: Option<Tap>,
    counts: Counts,
}

impl Inner {
    /// A number never given before in this run.
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let quality = if from == to { Quality::loopback() } else { self.quality.clone() };
        self.links.entry((from, to)).or_insert_with(|| {
            Link::new(quality, Seed::current().stream(&format!("net {from}>{to}")))
        })
    }

    fn schedule(&mut self, at: Duration, flight: Flight) {
        let earliest = self.flights.keys().next().is_none_or(|&(first, _)| at < first);
        let number = self.number();
        self.flights.insert((at, number), flight);
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
            Flight::Datagram { from, to, cuts, source, port, payload } => {
                self.deliver_datagram((from, to), cuts, port, (payload, source));
            }
            Flight::Segment(segment) => self.arrive(now, segment),
            Flight::Retry(segment) => self.transmit(now, segment),
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
        inner.ports.retain(|&(node, _), _| node != id);
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
        madsim::task::spawn(Driver { net: Arc::clone(&net), timer: None });
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

    /// Sets what links are like that nobody has changed singly.
    pub fn set_quality(&self, quality: Quality) {
        let mut inner = held(&self.inner);
        let before = std::mem::replace(&mut inner.quality, quality.clone());
        for ((from, to), link) in &mut inner.links {
            if from != to && link.quality == before {
                link.quality = quality.clone();
            }
        }
    }

    /// Changes the link from one host to another; the way back stays as it is.
    pub fn change_link(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Quality)) {
        change(&mut held(&self.inner).link(from, to).quality);
    }

    /// Cuts the link from one host to another, and what is under way on it.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).cut();
    }

    /// Mends what [`Self::cut`] cut.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        held(&self.inner).link(from, to).cut = false;
    }

    /// Whether the link from one host to another is cut.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        held(&self.inner).links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    /// Says how the host's next death looks to its peers; [`Death::Power`] unless told.
    pub fn announce_death(&self, node: NodeId, death: Death) {
        if let Some(host) = held(&self.inner).hosts.get_mut(&node) {
            host.death = death;
        }
    }

    /// Shows every datagram to `tap` as it leaves its host.
    pub fn set_tap(&self, tap: Tap) {
        held(&self.inner).tap = Some(tap);
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        held(&self.inner).counts
    }

    /// Delivers what is due; returns when the next is.
    fn deliver_due(&self, waker: &Waker) -> Option<Duration> {
        let now = self.now();
        let mut inner = held(&self.inner);
        inner.driver = Some(waker.clone());
        loop {
            let first = *inner.flights.keys().next()?;
            if first.0 > now {
                return Some(first.0);
            }
            let flight = inner.flights.remove(&first)?;
            inner.deliver(now, flight);
        }
    }
}

/// The task that moves everything under way.
struct Driver {
    net: Arc<Net>,
    timer: Option<(Duration, Sleep)>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(next) = self.net.deliver_due(cx.waker()) else { return Poll::Pending };
            if self.timer.as_ref().is_none_or(|(at, _)| *at > next) {
                self.timer = Some((next, sleep_virtual_until(next)));
            }
            let Some((_, timer)) = &mut self.timer else { continue };
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

#[cfg(test)]
mod tests;
