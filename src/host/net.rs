//! Sockets as a node sees them: datagrams, listeners, streams.
//!
//! Small on purpose: what is not here cannot be simulated. Implementations set `TCP_NODELAY` on
//! every stream (without it a broker adds 20 to 40 ms).

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;

/// A bound UDP socket, shared by reference between tasks.
pub trait Datagrams: Send + Sync + 'static {
    /// Waits for one datagram and copies it to the front of `buffer`.
    ///
    /// * Returns its length and its sender. What does not fit is cut: hand in 65,535 bytes.
    /// * Cancel-safe: a dropped future loses no datagram.
    /// * Errors: transient ones too (an ICMP refusal of an earlier send); the caller counts and
    ///   goes on, pausing when they repeat.
    fn recv(
        &self,
        buffer: &mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends one datagram now or not at all.
    ///
    /// Errors: `WouldBlock` when the socket's buffer is full; the datagram is then lost, as any
    /// datagram may be.
    fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// The address it is bound to, with the port chosen.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A bound TCP listener.
pub trait Listener: Send + 'static {
    /// An accepted connection.
    type Stream: Stream;

    /// Waits for the next connection. Cancel-safe.
    ///
    /// Errors: transient ones too (too many open files); the caller pauses and goes on.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// The address it is bound to, with the port chosen.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// One connection, to be split into its two directions.
pub trait Stream: Send + 'static {
    /// The direction towards us.
    type Reader: Reader;
    /// The direction towards the peer.
    type Writer: Writer;

    /// Splits the connection; it closes when both halves are dropped.
    fn split(self) -> (Self::Reader, Self::Writer);
}

/// The receiving half of a connection.
pub trait Reader: Send + 'static {
    /// Appends what has arrived to `buffer`, `limit` bytes at most.
    ///
    /// * Returns how many bytes were appended; 0 means that the peer has finished (`limit` > 0).
    /// * Cancel-safe: a dropped future loses no byte.
    fn read(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> impl Future<Output = io::Result<usize>> + Send;
}

/// The sending half of a connection.
pub trait Writer: Send + 'static {
    /// Sends all of `bytes`, waiting while the peer does not take them.
    ///
    /// Not cancel-safe: after a dropped future or an error the connection is only good for closing.
    fn write_all(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Tells the peer that nothing more will come.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}
