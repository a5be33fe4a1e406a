//! What a node needs from outside, gathered in one trait.
//!
//! A node is generic over [`World`]. `server` implements it with tokio, real sockets and files;
//! the simulator with madsim and its own network, disk and clock. Both clocks and all randomness
//! come from here, so that a run replays from a seed (DESIGN.md 8).

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use clock::{Instant, Now};
use openraft_rt::AsyncRuntime;

use crate::disk::Disk;
use crate::net::{Datagrams, Listener};

/// The outside of one node: runtime, network, disk, clocks, randomness.
///
/// A value is a cheap handle; clones speak to the same outside.
pub trait World: Clone + Send + Sync + 'static {
    /// Tasks, timers and channels.
    type Runtime: AsyncRuntime;
    /// A bound UDP socket.
    type Datagrams: Datagrams;
    /// A bound TCP listener.
    type Listener: Listener;
    /// The node's one storage file.
    type Disk: Disk;

    /// Both clocks at this moment: monotonic since this node's start, and wall time.
    ///
    /// The two may disagree about how much time passed: the wall clock jumps, the other never.
    fn now(&self) -> Now;

    /// Resolves when [`World::now`] has reached `at` on the monotonic clock; at once if it has.
    ///
    /// Never early. Cancel-safe.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;

    /// 32 fresh unpredictable bytes, different at each call.
    fn seed(&self) -> [u8; 32];

    /// Binds a UDP socket. Port 0 lets the outside choose.
    ///
    /// Errors: as the system reports them; `AddrInUse` for a taken port.
    fn bind_datagrams(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Datagrams>> + Send;

    /// Binds a TCP listener. Port 0 lets the outside choose.
    ///
    /// Errors: as the system reports them; `AddrInUse` for a taken port.
    fn bind_listener(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::Listener>> + Send;
}
