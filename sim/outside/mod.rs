//! `host`'s view of the machine room: [`Outside`] is a `World` on simulated ground.
//!
//! Nothing is decided here: sockets come from [`crate::net`], time from [`crate::clocks`],
//! randomness from the node's own stream, storage from [`store`] on a [`crate::disk`].

mod sockets;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::{Instant, Now};
use host::world::World;
use madsim::task::NodeId;

pub use store::{Onlooker, Store};

use crate::clocks::Clocks;
use crate::dice::{Dice, Seed};
use crate::net::{TcpListener, UdpSocket};
use crate::runtime::{MadsimRuntime, Sleep, held};

/// The outside of one simulated node. Made once per machine; boots share it.
#[derive(Clone, Debug)]
pub struct Outside {
    node: NodeId,
    clocks: Arc<Clocks>,
    seeds: Arc<Mutex<Dice>>,
}

impl Outside {
    /// The outside of `node`, which the scenario calls `name`.
    pub fn new(seed: Seed, node: NodeId, name: &str) -> Self {
        let seeds = seed.stream(&format!("node {name}"));
        Self { node, clocks: Clocks::current(), seeds: Arc::new(Mutex::new(seeds)) }
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
}
