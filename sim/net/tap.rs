//! Taps: who looks on sees each datagram and each stream's bytes, and changes nothing.
//!
//! A tap is called while the network is locked: it must not call the network.

use std::net::SocketAddr;
use std::time::Duration;

use madsim::task::NodeId;

/// What a tap sees as it is sent: before loss, duplication and corruption.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Virtual time.
    pub at: Duration,
    /// Host that sends.
    pub node: NodeId,
    /// Sender's address.
    pub from: SocketAddr,
    /// Receiver's address, or a group's.
    pub to: SocketAddr,
    /// Payload.
    pub payload: &'a [u8],
}

/// What a tap sees as it is put into a socket's queue: with whatever the link has done to it.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// Virtual time.
    pub at: Duration,
    /// Host that receives.
    pub node: NodeId,
    /// Sender's address.
    pub from: SocketAddr,
    /// The socket's address, or that of the group it was sent to.
    pub to: SocketAddr,
    /// Payload.
    pub payload: &'a [u8],
}

/// Sees what leaves a host. Must not call the network.
pub type Tap = Box<dyn FnMut(Sent<'_>) + Send>;

/// Sees what reaches a socket. Must not call the network.
pub type DeliveryTap = Box<dyn FnMut(Delivered<'_>) + Send>;

/// One of each at most.
#[derive(Default)]
pub(super) struct Taps {
    /// Datagrams.
    pub(super) sent: Option<Tap>,
    /// Datagrams.
    pub(super) delivered: Option<DeliveryTap>,
    /// Bytes of streams.
    pub(super) streamed: Option<Tap>,
}
