//! `host`'s view of the machine room: [`Outside`] is a `World` on simulated ground.
//!
//! Nothing is decided here: sockets come from [`crate::net`], time from [`crate::clocks`],
//! randomness from the node's own stream, storage from [`store`] on a [`crate::disk`].

mod sockets;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::{Instant, Now};
use host::world::{Kept, World};
use madsim::task::NodeId;
use zeroize::Zeroizing;

use ::store::{Reply, RequestId, State};
use host::raft::Entry;

pub use store::{Onlooker, Store};

use crate::clocks::Clocks;
use crate::dice::{Dice, Seed};
use crate::net::{TcpListener, TcpStream, UdpSocket};
use crate::runtime::{MadsimRuntime, Sleep, held};

/// Sees what a node applies. Must not call the node.
pub trait Overseer: Send + Sync + std::fmt::Debug {
    /// As [`World::applied`].
    fn applied(&self, entry: &Entry, replies: &[(RequestId, Reply)], state: &State);

    /// As [`World::restored`].
    fn restored(&self, state: &State);
}

/// The outside of one simulated node. Made once per machine; boots share it.
#[derive(Clone, Debug)]
pub struct Outside {
    node: NodeId,
    clocks: Arc<Clocks>,
    seeds: Arc<Mutex<Dice>>,
    /// What the node keeps beside its disk: it survives what its process survives.
    kept: Arc<Mutex<BTreeMap<Kept, Vec<u8>>>>,
    overseer: Option<Arc<dyn Overseer>>,
}

impl Outside {
    /// The outside of `node`, which the scenario calls `name`.
    pub fn new(seed: Seed, node: NodeId, name: &str) -> Self {
        let seeds = seed.stream(&format!("node {name}"));
        Self {
            node,
            clocks: Clocks::current(),
            seeds: Arc::new(Mutex::new(seeds)),
            kept: Arc::default(),
            overseer: None,
        }
    }

    /// The same, with somebody who looks on.
    #[must_use]
    pub fn overseen_by(self, overseer: Arc<dyn Overseer>) -> Self {
        Self { overseer: Some(overseer), ..self }
    }

    /// The node's data is set aside, its identity stays; with `intent` also what it is about to
    /// become.
    pub fn set_aside(&self, intent: bool) {
        let stays = |what: &Kept| match what {
            Kept::NodeKey => true,
            Kept::Intent => intent,
            Kept::DataKey => false,
        };
        held(&self.kept).retain(|what, _| stays(what));
    }

    /// The same, with nobody who looks on.
    #[must_use]
    pub fn unseen(&self) -> Self {
        Self { overseer: None, ..self.clone() }
    }

    /// Everything that the node kept beside its disk is lost.
    pub fn forget(&self) {
        held(&self.kept).clear();
    }
}

impl World for Outside {
    type Runtime = MadsimRuntime;
    type Datagrams = UdpSocket;
    type Listener = TcpListener;
    type Disk = Store;

    fn now(&self) -> Now {
        let monotonic = self.clocks.monotonic(self.node).as_micros();
        let micros = u64::try_from(monotonic).unwrap_or(u64::MAX);
        Now { instant: Instant::from_micros(micros), wall: self.clocks.wall(self.node) }
    }

    async fn sleep_until(&self, at: Instant) {
        if self.now().instant < at {
            Sleep::until_on(self.node, Duration::from_micros(at.as_micros())).await;
        }
    }

    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        held(&self.seeds).fill(&mut seed);
        seed
    }

    async fn bind_datagrams(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(address)
    }

    async fn bind_listener(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address)
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        let parsed = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(vec![parsed])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    fn applied(&self, entry: &Entry, replies: &[(RequestId, Reply)], state: &State) {
        if let Some(overseer) = &self.overseer {
            overseer.applied(entry, replies, state);
        }
    }

    fn restored(&self, state: &State) {
        if let Some(overseer) = &self.overseer {
            overseer.restored(state);
        }
    }

    fn kept(&self, what: Kept) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(held(&self.kept).get(&what).cloned().map(Zeroizing::new))
    }

    fn keep(&self, what: Kept, bytes: Option<&[u8]>) -> io::Result<()> {
        let mut kept = held(&self.kept);
        match bytes {
            Some(bytes) => drop(kept.insert(what, bytes.to_vec())),
            None => drop(kept.remove(&what)),
        }
        Ok(())
    }
}
