//! Which gateways spoke lately, and where each one's downlinks go: bounded, least recent first out.
//!
//! The address is that of the latest PULL_DATA (a forwarder pushes from another port, and a NAT may
//! move it any time), never that of a PUSH_DATA.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use clock::{Duration, Instant};
use lorawan::GatewayEui;
use sabotage::Bug;

use crate::semtech_head::Version;

/// Where a gateway's downlinks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Source of the latest PULL_DATA.
    pub address: SocketAddr,
    /// When that arrived.
    pub last_pull: Instant,
    /// The version it spoke; a PULL_RESP in another one would be dropped by the forwarder.
    pub version: Version,
}

/// What a concentrator's counter showed when a datagram of that moment arrived.
#[derive(Clone, Copy, Debug)]
struct Counter {
    tmst: u32,
    at: Instant,
}

/// What is remembered of one gateway.
#[derive(Clone, Debug)]
pub struct SeenGateway {
    /// When it was first heard of.
    pub first_seen: Instant,
    /// When it last sent anything.
    pub last_seen: Instant,
    /// Source of its latest datagram, of whatever type.
    pub last_address: SocketAddr,
    /// PUSH_DATA received.
    pub pushes: u64,
    /// PULL_DATA received.
    pub pulls: u64,
    /// Usable frames received; those of an unregistered gateway were dropped.
    pub frames: u64,
    /// Where downlinks go; `None` until its first PULL_DATA.
    pub path: Option<Path>,
    /// Power in dBm (`powe`) of the latest downlink it accepted.
    pub accepted_power_dbm: Option<i8>,
    counter: Option<Counter>,
}

impl SeenGateway {
    fn new(now: Instant, from: SocketAddr) -> Self {
        Self {
            first_seen: now,
            last_seen: now,
            last_address: from,
            pushes: 0,
            pulls: 0,
            frames: 0,
            path: None,
            accepted_power_dbm: None,
            counter: None,
        }
    }

    /// Notes that the concentrator's counter showed `tmst` no later than `at`.
    pub(crate) fn observe_counter(&mut self, at: Instant, tmst: u32) {
        self.counter = Some(Counter { tmst, at });
    }

    /// How long until the concentrator's counter shows `tmst`; zero if it has, `None` if unknown.
    ///
    /// The way of the datagrams here is not counted, so it is at most this long.
    pub(crate) fn time_until(&self, now: Instant, tmst: u32) -> Option<Duration> {
        let Counter { tmst: seen, at } = self.counter?;
        let elapsed = now.since(at).as_micros();
        // The counter wraps each 71.6 minutes: more than half of that ahead means behind.
        let ahead = tmst.wrapping_sub(seen);
        let ahead = if ahead > u32::MAX / 2 { 0 } else { u128::from(ahead) };
        Some(Duration::from_micros(u64::try_from(ahead.saturating_sub(elapsed)).unwrap_or(0)))
    }
}

/// A bounded list of gateways; the one silent longest makes room.
#[derive(Debug)]
pub(crate) struct SeenList {
    limit: usize,
    gateways: BTreeMap<GatewayEui, SeenGateway>,
    by_age: BTreeSet<(Instant, GatewayEui)>,
}

impl SeenList {
    pub(crate) fn new(limit: usize) -> Self {
        assert!(limit > 0, "a list of nothing remembers nothing");
        Self { limit, gateways: BTreeMap::new(), by_age: BTreeSet::new() }
    }

    /// Notes that a gateway spoke; returns whether it was not in the list.
    pub(crate) fn touch(&mut self, now: Instant, gateway: GatewayEui, from: SocketAddr) -> bool {
        let known = self.remove(gateway);
        let is_new = known.is_none();
        let mut entry = known.unwrap_or_else(|| SeenGateway::new(now, from));
        entry.last_seen = now;
        entry.last_address = from;
        self.insert(gateway, entry);
        is_new
    }

    /// Puts in an entry; the oldest one goes if that is one too many.
    pub(crate) fn insert(&mut self, gateway: GatewayEui, entry: SeenGateway) {
        self.remove(gateway);
        if self.gateways.len() == self.limit
            && !sabotage::planted(Bug::UnknownGatewaysUnbounded)
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.gateways.remove(&oldest);
        }
        self.by_age.insert((entry.last_seen, gateway));
        self.gateways.insert(gateway, entry);
        assert!(self.by_age.len() == self.gateways.len(), "both views hold the same gateways");
    }

    pub(crate) fn remove(&mut self, gateway: GatewayEui) -> Option<SeenGateway> {
        let entry = self.gateways.remove(&gateway)?;
        self.by_age.remove(&(entry.last_seen, gateway));
        Some(entry)
    }

    pub(crate) fn entry(&self, gateway: GatewayEui) -> Option<&SeenGateway> {
        self.gateways.get(&gateway)
    }

    pub(crate) fn entry_mut(&mut self, gateway: GatewayEui) -> Option<&mut SeenGateway> {
        self.gateways.get_mut(&gateway)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (GatewayEui, &SeenGateway)> {
        self.gateways.iter().map(|(gateway, entry)| (*gateway, entry))
    }
}
