//! The real world: tokio, sockets, the system's clocks and randomness.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use clock::{Instant, Now, WallTime};
use host::net::{Datagrams, Listener, Reader, Stream, Writer};
use host::world::{Kept, World};
use openraft_rt_tokio::TokioRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use zeroize::Zeroizing;

use crate::data::DataFolder;
use crate::disk::FileDisk;

/// Receive buffer asked of the kernel for a gateways' socket: bursts wait here, not in the air.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The machine this process runs on. Clones share the origin of the monotonic clock.
#[derive(Clone, Debug)]
pub struct RealWorld {
    origin: Arc<std::time::Instant>,
    folder: Option<Arc<DataFolder>>,
    family: Family,
}

/// Which addresses the peer links use: `node.proto_dist`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// `inet_tcp`: IPv4.
    #[default]
    V4,
    /// `inet6_tcp`: IPv6.
    V6,
}

impl RealWorld {
    /// The monotonic clock starts now.
    ///
    /// * `folder`: where the node keeps its secrets.
    #[must_use]
    pub fn new(folder: DataFolder, family: Family) -> Self {
        let origin = Arc::new(std::time::Instant::now());
        Self { origin, folder: Some(Arc::new(folder)), family }
    }

    /// A world for whoever needs sockets and a clock alone: it keeps nothing.
    #[must_use]
    pub fn without_folder() -> Self {
        let origin = Arc::new(std::time::Instant::now());
        Self { origin, folder: None, family: Family::V4 }
    }
}

/// 32 bytes of the system's randomness.
pub fn draw() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("without the system's randomness nothing is safe");
    seed
}

impl World for RealWorld {
    type Runtime = TokioRuntime;
    type Datagrams = UdpSocketBound;
    type Listener = TcpListenerBound;
    type Disk = FileDisk;

    fn now(&self) -> Now {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
        let since_start = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            instant: Instant::from_micros(since_start),
            wall: WallTime::from_unix_micros(since_epoch),
        }
    }

    async fn sleep_until(&self, at: Instant) {
        let at = *self.origin + std::time::Duration::from_micros(at.as_micros());
        tokio::time::sleep_until(at.into()).await;
    }

    fn seed(&self) -> [u8; 32] {
        draw()
    }

    async fn bind_datagrams(&self, address: SocketAddr) -> io::Result<UdpSocketBound> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        // Best effort: the kernel caps it at its own limit.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        UdpSocket::from_std(socket.into()).map(UdpSocketBound)
    }

    async fn bind_listener(&self, address: SocketAddr) -> io::Result<TcpListenerBound> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(TcpListenerBound)
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let all = tokio::net::lookup_host(address).await?;
        let wanted = |one: &SocketAddr| one.is_ipv6() == (self.family == Family::V6);
        Ok(all.filter(wanted).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpConnection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(TcpConnection(stream))
    }

    fn kept(&self, what: Kept) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        self.folder.as_ref().map_or(Ok(None), |folder| folder.kept(what))
    }

    fn keep(&self, what: Kept, bytes: Option<&[u8]>) -> io::Result<()> {
        let missing = || io::Error::other("there is no data folder");
        self.folder.as_ref().ok_or_else(missing)?.keep(what, bytes)
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocketBound(UdpSocket);

impl Datagrams for UdpSocketBound {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.0.recv_from(buffer).await
    }

    fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.0.try_send_to(datagram, to).map(|_| ())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A bound TCP listener.
#[derive(Debug)]
pub struct TcpListenerBound(TcpListener);

impl Listener for TcpListenerBound {
    type Stream = TcpConnection;

    async fn accept(&mut self) -> io::Result<(TcpConnection, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((TcpConnection(stream), peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct TcpConnection(TcpStream);

impl Stream for TcpConnection {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    fn split(self) -> (TcpReader, TcpWriter) {
        let (reader, writer) = self.0.into_split();
        (TcpReader(reader), TcpWriter(writer))
    }
}

/// The direction towards us.
#[derive(Debug)]
pub struct TcpReader(OwnedReadHalf);

impl Reader for TcpReader {
    async fn read(&mut self, buffer: &mut BytesMut, limit: usize) -> io::Result<usize> {
        self.0.read_buf(&mut buffer.limit(limit)).await
    }
}

/// The direction towards the peer.
#[derive(Debug)]
pub struct TcpWriter(OwnedWriteHalf);

impl Writer for TcpWriter {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
