//! Datagram sockets. A socket's queue is bounded: what finds it full is lost, as in a kernel.
//!
//! A datagram to an IPv4 multicast group goes to every socket that has joined the group and is
//! bound to the port, over the link to each one's host, and has a fate of its own on each.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use madsim::plugin::node;
use madsim::task::NodeId;

use super::flight::{Datagram, Flight};
use super::{DATAGRAM_LEN_MAX, Delivered, Inner, Net, Sent};
use crate::runtime::held;

/// Datagrams that wait in a socket at most: 208 KiB of small ones, as Linux has it.
const QUEUE_BOUND: usize = 1_024;

/// Groups a socket may be in: what Linux allows.
const GROUPS_MAX: usize = 20;

/// A bound port.
#[derive(Debug)]
pub(super) struct Port {
    /// Which socket owns it: a socket that outlives its host must not unbind its successor.
    owner: u64,
    local: SocketAddr,
    groups: BTreeSet<Ipv4Addr>,
    queue: VecDeque<(Bytes, SocketAddr)>,
    /// Datagrams ever put into its queue.
    delivered: u64,
    waiting: Vec<Waker>,
}

impl Inner {
    fn send_datagram(
        &mut self,
        now: Duration,
        node: NodeId,
        (source, to): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) {
        self.counts.sent += 1;
        if let Some(tap) = &mut self.taps.sent {
            tap(Sent { at: now, node, from: source, to, payload });
        }
        if let IpAddr::V4(group) = to.ip()
            && group.is_multicast()
        {
            let members = self.groups.get(&(group, to.port())).cloned().unwrap_or_default();
            self.counts.unclaimed += u64::from(members.is_empty());
            for member in members {
                self.carry(now, (node, member), (source, Some(group), to.port()), payload);
            }
            return;
        }
        match self.resolve(node, to.ip()) {
            Some(host) => self.carry(now, (node, host), (source, None, to.port()), payload),
            None => self.counts.unclaimed += 1,
        }
    }

    /// Puts a datagram on the link to one host.
    fn carry(
        &mut self,
        now: Duration,
        (from, to): (NodeId, NodeId),
        (source, group, port): (SocketAddr, Option<Ipv4Addr>, u16),
        payload: &[u8],
    ) {
        let link = self.link(from, to);
        let fate = link.fate(now, payload.len());
        let full = link.in_flight >= link.quality.in_flight || payload.len() > link.quality.mtu;
        let copies = if full { 0 } else { fate.arrivals.iter().flatten().count() };
        link.in_flight += copies;
        let cuts = link.cuts;
        self.counts.lost += u64::from(copies == 0);
        self.counts.duplicated += u64::from(copies == 2);
        self.counts.corrupted += u64::from(copies > 0 && fate.flipped.is_some());
        for at in fate.arrivals.into_iter().flatten().take(copies) {
            let mut bytes = payload.to_vec();
            if let Some(bit) = fate.flipped {
                let byte = usize::try_from(bit / 8).expect("a bit of the payload");
                bytes[byte] ^= 1 << (bit % 8);
            }
            let payload = Bytes::from(bytes);
            let datagram = Datagram { from, to, cuts, source, group, port, payload };
            self.schedule(at, Flight::Datagram(datagram));
        }
    }

    pub(super) fn deliver_datagram(&mut self, now: Duration, datagram: Datagram) {
        let Datagram { from, to, cuts, source, group, port, payload } = datagram;
        let link = self.link(from, to);
        link.in_flight -= 1;
        if link.is_cut() || link.cuts != cuts {
            self.counts.lost += 1;
            return;
        }
        let bound = self.ports.get_mut(&(to, port));
        let Some(bound) = bound.filter(|bound| group.is_none_or(|g| bound.groups.contains(&g)))
        else {
            self.counts.unclaimed += 1;
            return;
        };
        if bound.queue.len() >= QUEUE_BOUND {
            self.counts.overflowed += 1;
            return;
        }
        if let Some(tap) = &mut self.taps.delivered {
            let to_address = group.map_or(bound.local, |group| SocketAddr::from((group, port)));
            tap(Delivered { at: now, node: to, from: source, to: to_address, payload: &payload });
        }
        bound.queue.push_back((payload, source));
        bound.delivered += 1;
        self.counts.delivered += 1;
        bound.waiting.drain(..).for_each(Waker::wake);
    }

    fn leave(&mut self, group: Ipv4Addr, (node, port): (NodeId, u16)) {
        if let Some(members) = self.groups.get_mut(&(group, port)) {
            members.remove(&node);
            if members.is_empty() {
                self.groups.remove(&(group, port));
            }
        }
    }

    fn unbind(&mut self, place: (NodeId, u16)) {
        let groups = self.ports.remove(&place).map(|port| port.groups);
        for group in groups.into_iter().flatten() {
            self.leave(group, place);
        }
    }

    /// A host has died, with its sockets.
    pub(super) fn unbind_all(&mut self, node: NodeId) {
        let range = (node, u16::MIN)..=(node, u16::MAX);
        let places: Vec<_> = self.ports.range(range).map(|(place, _)| *place).collect();
        places.into_iter().for_each(|place| self.unbind(place));
    }
}

impl Net {
    /// Datagrams that the socket now bound to a port has been given since it was bound; `None` if
    /// none is.
    pub fn delivered_to(&self, node: NodeId, port: u16) -> Option<u64> {
        held(&self.inner).ports.get(&(node, port)).map(|port| port.delivered)
    }
}

/// A bound datagram socket. It dies with its host: every call then fails.
#[derive(Debug)]
pub struct UdpSocket {
    net: Arc<Net>,
    node: NodeId,
    id: u64,
    local: SocketAddr,
}

impl UdpSocket {
    /// Binds on the host whose task is running.
    ///
    /// * `address`: port 0 chooses one; an unspecified address means the host's own.
    /// * Errors: `AddrInUse`, `AddrNotAvailable`, `NetworkDown` for a host without an address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let (net, node) = (Net::current(), node());
        let mut inner = held(&net.inner);
        let local =
            inner.claim(node, address, |inner, port| inner.ports.contains_key(&(node, port)))?;
        let id = inner.number();
        let port = Port {
            owner: id,
            local,
            groups: BTreeSet::new(),
            queue: VecDeque::new(),
            delivered: 0,
            waiting: Vec::new(),
        };
        inner.ports.insert((node, local.port()), port);
        drop(inner);
        Ok(Self { net, node, id, local })
    }

    /// The address it is bound to, with the port chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Takes in what is sent to a multicast group and the socket's port, by itself too.
    ///
    /// Errors: `InvalidInput` for an address that is no group's; `AddrInUse` for a group it is in;
    /// `QuotaExceeded` above 20 groups; `NotConnected` once the host died.
    pub fn join_multicast(&self, group: Ipv4Addr) -> io::Result<()> {
        if !group.is_multicast() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut inner = held(&self.net.inner);
        let port = self.port(&mut inner)?;
        if port.groups.len() >= GROUPS_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if !port.groups.insert(group) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.groups.entry((group, self.local.port())).or_default().insert(self.node);
        Ok(())
    }

    /// Takes in no more of what is sent to a group, nor of what is under way to it.
    ///
    /// Errors: `AddrNotAvailable` for a group it is not in; `NotConnected` once the host died.
    pub fn leave_multicast(&self, group: Ipv4Addr) -> io::Result<()> {
        let mut inner = held(&self.net.inner);
        if !self.port(&mut inner)?.groups.remove(&group) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        inner.leave(group, (self.node, self.local.port()));
        Ok(())
    }

    /// Sends one datagram; what becomes of it the link decides, for a group each link for itself.
    ///
    /// Errors: `InvalidInput` above [`DATAGRAM_LEN_MAX`] bytes; `NotConnected` once the host died.
    pub fn send_to(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        if payload.len() > DATAGRAM_LEN_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let now = self.net.now();
        let mut inner = held(&self.net.inner);
        self.port(&mut inner)?;
        inner.send_datagram(now, self.node, (self.local, to), payload);
        Ok(())
    }

    /// Waits for one datagram. Cancel-safe; several tasks may wait at once.
    ///
    /// Errors: `NotConnected` once the host died.
    pub async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        poll_fn(|cx| {
            let mut inner = held(&self.net.inner);
            let port = match self.port(&mut inner) {
                Ok(port) => port,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if let Some(datagram) = port.queue.pop_front() {
                return Poll::Ready(Ok(datagram));
            }
            if !port.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                port.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn port<'a>(&self, inner: &'a mut Inner) -> io::Result<&'a mut Port> {
        inner
            .ports
            .get_mut(&(self.node, self.local.port()))
            .filter(|port| port.owner == self.id)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        let mut inner = held(&self.net.inner);
        if self.port(&mut inner).is_ok() {
            inner.unbind((self.node, self.local.port()));
        }
    }
}
