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
use store::{Reply, RequestId, State};

use zeroize::Zeroizing;

use crate::disk::Disk;
use crate::net::{Datagrams, Listener, Stream};
use crate::raft::Entry;

/// A connection in the world `W`.
pub type StreamOf<W> = <<W as World>::Listener as Listener>::Stream;
/// Its direction towards us.
pub(crate) type ReaderOf<W> = <StreamOf<W> as Stream>::Reader;
/// Its direction towards the peer.
pub(crate) type WriterOf<W> = <StreamOf<W> as Stream>::Writer;

/// What a node keeps beside its storage, readable by itself alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// The secret half of its identity key: 32 bytes.
    NodeKey,
    /// The key that seals keys at rest, the same on all members: 32 bytes.
    DataKey,
    /// What it is about to do about its membership, across a restart.
    Intent,
}

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

    /// Finds the addresses behind `host:port`.
    ///
    /// Errors: as the system reports them; no address is an error.
    fn resolve(&self, address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to a TCP listener.
    ///
    /// Errors: as the system reports them.
    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<StreamOf<Self>>> + Send;

    /// Reads what was kept; `None` if nothing was.
    ///
    /// Blocks for the time of a small file. Errors: also for a file that others may read.
    fn kept(&self, what: Kept) -> io::Result<Option<Zeroizing<Vec<u8>>>>;

    /// The node has applied an entry: for a world that looks on. Must not call the node.
    ///
    /// * `replies`: the answers to what the entry asks.
    /// * `state`: what is decided since.
    fn applied(&self, entry: &Entry, replies: &[(RequestId, Reply)], state: &State) {
        let _ = (entry, replies, state);
    }

    /// The node has taken a snapshot in the place of what it had applied: likewise.
    fn restored(&self, state: &State) {
        let _ = state;
    }

    /// Keeps something durably, in the place of what was kept before; `None` forgets it.
    ///
    /// Blocks for the time of a small file and its fsync.
    fn keep(&self, what: Kept, bytes: Option<&[u8]>) -> io::Result<()>;
}
