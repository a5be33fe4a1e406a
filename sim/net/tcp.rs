//! Stream sockets as tasks use them: listeners, connections, and their two halves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use madsim::plugin::node;
use madsim::task::NodeId;

use super::flight::Flight;
use super::tcp_end::{
    Backlog, Body, Connection, End, EndState, PATIENCE, Pipe, Segment, Side, WINDOW, other,
};
use super::{Inner, Net, Sent};
use crate::runtime::held;

/// Largest payload of one segment.
const SEGMENT_LEN_MAX: usize = 16 * 1024;

/// A listening socket. It dies with its host.
#[derive(Debug)]
pub struct TcpListener {
    net: Arc<Net>,
    node: NodeId,
    id: u64,
    local: SocketAddr,
}

impl TcpListener {
    /// Listens on the host whose task is running.
    ///
    /// * `address`: port 0 chooses one; an unspecified address means the host's own.
    /// * Errors: `AddrInUse`, `AddrNotAvailable`, `NetworkDown` for a host without an address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let (net, node) = (Net::current(), node());
        let mut inner = held(&net.inner);
        let local = inner
            .claim(node, address, |inner, port| inner.listeners.contains_key(&(node, port)))?;
        let id = inner.number();
        let backlog = Backlog { owner: id, ready: VecDeque::new(), waiting: None };
        inner.listeners.insert((node, local.port()), backlog);
        drop(inner);
        Ok(Self { net, node, id, local })
    }

    /// The address it is bound to, with the port chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next connection. Cancel-safe.
    ///
    /// Errors: `NotConnected` once the host died.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| {
            let mut inner = held(&self.net.inner);
            let key = (self.node, self.local.port());
            let Some(backlog) = inner.listeners.get_mut(&key).filter(|b| b.owner == self.id) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let Some(id) = backlog.ready.pop_front() else {
                backlog.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let peer = inner.connections.get(&id).map(|connection| connection.ends[0].address);
            let peer = peer.unwrap_or(self.local);
            drop(inner);
            let owner = Owner { net: Arc::clone(&self.net), connection: id, side: 1 };
            Poll::Ready(Ok((TcpStream(Arc::new(owner)), peer)))
        })
        .await
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        let now = self.net.now();
        let mut inner = held(&self.net.inner);
        let key = (self.node, self.local.port());
        if inner.listeners.get(&key).is_none_or(|backlog| backlog.owner != self.id) {
            return;
        }
        let backlog = inner.listeners.remove(&key);
        for id in backlog.into_iter().flat_map(|backlog| backlog.ready) {
            inner.close(now, id, 1);
        }
    }
}

/// One end of a connection, closed when its last half is dropped.
#[derive(Debug)]
struct Owner {
    net: Arc<Net>,
    connection: u64,
    side: Side,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let now = self.net.now();
        held(&self.net.inner).close(now, self.connection, self.side);
    }
}

impl Owner {
    /// The connection, if this end can still be used.
    fn usable<'a>(&self, inner: &'a mut Inner) -> io::Result<&'a mut Connection> {
        let connection =
            inner.connections.get_mut(&self.connection).ok_or(io::ErrorKind::NotConnected)?;
        match connection.ends[self.side].state {
            EndState::Open | EndState::Opening => Ok(connection),
            EndState::Failed(kind) => Err(kind.into()),
            EndState::Closed | EndState::Dead => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn poll_opened(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = held(&self.net.inner);
        let connection = self.usable(&mut inner)?;
        let end = &mut connection.ends[self.side];
        if end.state == EndState::Open {
            return Poll::Ready(Ok(()));
        }
        end.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_read(&self, cx: &Context<'_>, limit: usize) -> Poll<io::Result<Bytes>> {
        let mut inner = held(&self.net.inner);
        let connection = self.usable(&mut inner)?;
        let pipe = &mut connection.pipes[other(self.side)];
        if let Some(first) = pipe.ready.front_mut() {
            let taken = first.split_to(first.len().min(limit));
            if first.is_empty() {
                pipe.ready.pop_front();
            }
            pipe.outstanding -= taken.len();
            if let Some(writer) = connection.ends[other(self.side)].writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(taken));
        }
        if pipe.complete {
            return Poll::Ready(Ok(Bytes::new()));
        }
        connection.ends[self.side].reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.net.now();
        let mut inner = held(&self.net.inner);
        let connection = self.usable(&mut inner)?;
        let End { node, address: from, .. } = connection.ends[self.side];
        let to = connection.ends[other(self.side)].address;
        let pipe = &mut connection.pipes[self.side];
        if pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(pipe.outstanding);
        let len = bytes.len().min(room).min(SEGMENT_LEN_MAX);
        if len == 0 && !bytes.is_empty() {
            connection.ends[self.side].writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.outstanding += len;
        let number = pipe.next_number();
        if let Some(tap) = &mut inner.taps.streamed {
            tap(Sent { at: now, node, from, to, payload: &bytes[..len] });
        }
        let body = Body::Data(number, Bytes::copy_from_slice(&bytes[..len]));
        inner.transmit(now, Segment::new(self.connection, self.side, body));
        Poll::Ready(Ok(len))
    }
}

/// One connection.
#[derive(Debug)]
pub struct TcpStream(Arc<Owner>);

impl TcpStream {
    /// Calls `address` from the host whose task is running, and waits for the answer.
    ///
    /// Errors: `ConnectionRefused` where nobody listens on a host that is up; `TimedOut` after
    /// a minute and a quarter of silence; `HostUnreachable` for an address that nobody has.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (net, node) = (Net::current(), node());
        let owner = {
            let now = net.now();
            let mut inner = held(&net.inner);
            let callee = inner.resolve(node, address.ip()).ok_or(io::ErrorKind::HostUnreachable)?;
            let own = SocketAddr::new(inner.host(node)?.address, 0);
            // The caller's port is for people: connections are known by their number.
            let caller = inner.claim(node, own, |_, _| false)?;
            let id = inner.number();
            let ends = [
                End::new(node, caller, EndState::Opening),
                End::new(callee, address, EndState::Opening),
            ];
            let connection = Connection { ends, pipes: [Pipe::default(), Pipe::default()] };
            inner.connections.insert(id, connection);
            inner.transmit(now, Segment::new(id, 0, Body::Open(address.port())));
            let patience = Flight::GiveUp { connection: id, side: 0, opening: true };
            inner.schedule(now + PATIENCE, patience);
            drop(inner);
            Owner { net, connection: id, side: 0 }
        };
        poll_fn(|cx| owner.poll_opened(cx)).await?;
        Ok(Self(Arc::new(owner)))
    }

    /// Splits the connection; it closes when both halves are dropped.
    pub fn split(self) -> (TcpReader, TcpWriter) {
        (TcpReader(Arc::clone(&self.0)), TcpWriter(self.0))
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct TcpReader(Arc<Owner>);

impl TcpReader {
    /// Waits for bytes, `limit` at most. Empty when the peer has finished. Cancel-safe.
    ///
    /// Errors: `ConnectionReset`; `TimedOut` when something this end sent was never taken.
    pub async fn read(&mut self, limit: usize) -> io::Result<Bytes> {
        assert!(limit > 0, "a read without room cannot tell the end from nothing");
        poll_fn(|cx| self.0.poll_read(cx, limit)).await
    }
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct TcpWriter(Arc<Owner>);

impl TcpWriter {
    /// Sends all of `bytes`, waiting while the peer does not take them. Not cancel-safe.
    ///
    /// Errors: `ConnectionReset`, `TimedOut`, `BrokenPipe` after [`Self::shutdown`].
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let len = poll_fn(|cx| self.0.poll_write(cx, bytes)).await?;
            bytes = &bytes[len..];
        }
        Ok(())
    }

    /// Tells the peer that nothing more will come.
    ///
    /// Errors: as [`Self::write_all`].
    pub fn shutdown(&mut self) -> io::Result<()> {
        let now = self.0.net.now();
        let mut inner = held(&self.0.net.inner);
        self.0.usable(&mut inner)?;
        inner.finish(now, self.0.connection, self.0.side);
        Ok(())
    }
}
