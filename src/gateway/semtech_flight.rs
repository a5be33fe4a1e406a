//! Downlinks on their way: which token stands for which downlink, until a TX_ACK or silence.
//!
//! A token is unique among the downlinks in flight of one gateway. Every entry has a deadline, so
//! the map empties itself; it is bounded all the same.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};
use lorawan::GatewayEui;

use crate::semtech_txpk::Txpk;

/// How long a gateway has to answer a PULL_RESP before it counts as silent.
///
/// lora_pkt_fwd answers when it has queued the frame, before sending it; one second leaves room for
/// a satellite link and still time for RX2 after a silent RX1.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// Most downlinks in flight on one gateway: what lora_pkt_fwd can queue.
pub const IN_FLIGHT_PER_GATEWAY_MAX: usize = 32;
/// Most downlinks in flight on all gateways together.
pub const IN_FLIGHT_MAX: usize = 16_384;

/// One PULL_RESP that has not been answered.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) downlink_id: u32,
    pub(crate) txpk: Txpk,
    /// Whether this is already the second attempt, at a power accepted before.
    pub(crate) is_retry: bool,
    deadline: Instant,
}

/// The downlinks in flight.
#[derive(Debug)]
pub(crate) struct Flights {
    by_token: BTreeMap<(GatewayEui, u16), Flight>,
    deadlines: BTreeSet<(Instant, GatewayEui, u16)>,
    next_token: u16,
}

impl Flights {
    /// * `first_token`: where numbering begins; unlike the last boot's, lest a late TX_ACK meet it.
    pub(crate) fn new(first_token: u16) -> Self {
        Self { by_token: BTreeMap::new(), deadlines: BTreeSet::new(), next_token: first_token }
    }

    /// Notes a downlink sent now and gives its token; `None` if too many are in flight.
    pub(crate) fn launch(
        &mut self,
        now: Instant,
        gateway: GatewayEui,
        downlink_id: u32,
        txpk: Txpk,
        is_retry: bool,
    ) -> Option<u16> {
        let tokens = (gateway, u16::MIN)..=(gateway, u16::MAX);
        let own = self.by_token.range(tokens).count();
        if own >= IN_FLIGHT_PER_GATEWAY_MAX || self.by_token.len() >= IN_FLIGHT_MAX {
            return None;
        }
        // Fewer are in flight than there are tokens, so a free one comes within a few steps.
        while self.by_token.contains_key(&(gateway, self.next_token)) {
            self.next_token = self.next_token.wrapping_add(1);
        }
        let token = self.next_token;
        self.next_token = token.wrapping_add(1);
        let deadline = now + ACK_TIMEOUT;
        self.by_token.insert((gateway, token), Flight { downlink_id, txpk, is_retry, deadline });
        self.deadlines.insert((deadline, gateway, token));
        Some(token)
    }

    /// Takes out the downlink a TX_ACK speaks of.
    pub(crate) fn land(&mut self, gateway: GatewayEui, token: u16) -> Option<Flight> {
        let flight = self.by_token.remove(&(gateway, token))?;
        self.deadlines.remove(&(flight.deadline, gateway, token));
        assert!(self.by_token.len() == self.deadlines.len(), "every flight has its deadline");
        Some(flight)
    }

    /// Takes out one downlink whose time to be answered is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(GatewayEui, Flight)> {
        let (deadline, gateway, token) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.land(gateway, token).map(|flight| (gateway, flight))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_token.len()
    }
}
