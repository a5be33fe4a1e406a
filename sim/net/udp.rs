//! Datagram sockets. A socket's queue is bounded: what finds it full is lost, as in a kernel.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use madsim::plugin::node;
use madsim::task::NodeId;

use super::{DATAGRAM_LEN_MAX, Flight, Inner, Net, Sent};
use crate::runtime::held;

/// Datagrams that wait in a socket at most: 208 KiB of small ones, as Linux has it.
const QUEUE_BOUND: usize = 1_024;

/// A bound port.
#[derive(Debug)]
pub(super) struct Port {
    /// Which socket owns it: a socket that outlives its host must not unbind its successor.
    owner: u64,
    queue: VecDeque<(Bytes, SocketAddr)>,
    /// Datagrams ever put into its queue.
    delivered: u64,
    waiting: Vec<Waker>,
}

impl Inner {
    pub(super) fn send_datagram(
        &mut self,
        now: Duration,
        node: NodeId,
        (source, to): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) {
        self.counts.sent += 1;
        if let Some(tap) = &mut self.tap {
            tap(Sent { at: now, node, from: source, to, payload });
        }
        let Some(target) = self.resolve(node, to.ip()) else {
            self.counts.unclaimed += 1;
            return;
        };
        let link = self.link(node, target);
        let fate = link.fate(now, payload.len());
        let full = link.in_flight >= link.quality.in_flight || payload.len() > link.quality.mtu;
        let copies = if full { 0 } else { fate.arrivals.iter().flatten().count() };
        link.in_flight += copies;
        let cuts = link.cuts;
        let mut bytes = payload.to_vec();
        if let Some(bit) = fate.flipped {
            let byte = usize::try_from(bit / 8).expect("a bit of the payload");
            bytes[byte] ^= 1 << (bit % 8);
        }
        self.counts.lost += u64::from(copies == 0);
        self.counts.duplicated += u64::from(copies == 2);
        self.counts.corrupted += u64::from(copies > 0 && fate.flipped.is_some());
        let payload = Bytes::from(bytes);
        for at in fate.arrivals.into_iter().flatten().take(copies) {
            let payload = payload.clone();
            let port = to.port();
            let flight = Flight::Datagram { from: node, to: target, cuts, source, port, payload };
            self.schedule(at, flight);
        }
    }

    pub(super) fn deliver_datagram(
        &mut self,
        (from, to): (NodeId, NodeId),
        cuts: u64,
        port: u16,
        datagram: (Bytes, SocketAddr),
    ) {
        let link = self.link(from, to);
        link.in_flight -= 1;
        if link.cut || link.cuts != cuts {
            self.counts.lost += 1;
            return;
        }
        let Some(port) = self.ports.get_mut(&(to, port)) else {
            self.counts.unclaimed += 1;
            return;
        };
        if port.queue.len() >= QUEUE_BOUND {
            self.counts.overflowed += 1;
            return;
        }
        port.queue.push_back(datagram);
        port.delivered += 1;
        self.counts.delivered += 1;
        port.waiting.drain(..).for_each(Waker::wake);
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
        let port = Port { owner: id, queue: VecDeque::new(), delivered: 0, waiting: Vec::new() };
        inner.ports.insert((node, local.port()), port);
        drop(inner);
        Ok(Self { net, node, id, local })
    }

    /// The address it is bound to, with the port chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Sends one datagram; what becomes of it the link decides.
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
            inner.ports.remove(&(self.node, self.local.port()));
        }
    }
}
