//! A gateway: what it hears, what it forwards and how, and what is wrong with it.
//!
//! Its protocol is [`radio::Forwarder`]'s, the way behind it [`Line`]'s; here are its power, its
//! ears and its counter. Each kind of decision draws from a stream of its own, named after the
//! gateway, and each frame and downlink takes the same number of draws whatever is wrong.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use lorawan::GatewayEui;
use madsim::task::NodeId;
use radio::{Faults, Forwarder, ForwarderConfig, OnAir, Signal, Socket};
use scenario::{Gateways, Scenario};

use super::air::Flying;
use super::line::{Line, Moved};
use super::record::Record;
use crate::dice::{Dice, Seed};
use crate::net::UdpSocket;
use crate::oracle::Fact;

/// Longest a frame stays in the air: SF12 with 255 bytes, rounded up.
const AIRTIME_MAX: Duration = Duration::from_secs(10);
/// Transmissions remembered, for what is not heard meanwhile; a gateway sends one at a time.
const RADIATED_MAX: usize = 256;
/// How long a PULL_ACK may be on its way and its gateway still counts as known to the node.
const PULL_ACK_LATE: Duration = Duration::from_millis(500);
/// Values of the counter.
const COUNTER_VALUES: u64 = 1 << 32;

/// What is wrong with a gateway.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    /// It has no power.
    pub(super) off: bool,
    /// Share of the frames it forwards a second time.
    pub(super) late_share: f64,
    /// How late.
    pub(super) late_by: Range<Duration>,
    /// Share of its TX_ACK that get lost.
    pub(super) ack_lost: f64,
    /// How late they come.
    pub(super) ack_late: Range<Duration>,
    /// Share of downlinks it refuses.
    pub(super) refused: f64,
}

impl Trouble {
    /// As the scenario has it without faults.
    pub(super) fn of(gateways: &Gateways) -> Self {
        let late = gateways.tx_ack_late.0;
        Self {
            off: false,
            late_share: gateways.late_share.0,
            late_by: gateways.late_by.0.clone(),
            ack_lost: gateways.tx_ack_lost.0,
            ack_late: late..late,
            refused: gateways.tx_refused.0,
        }
    }

    fn faults(&self) -> Faults {
        Faults {
            lose_ack: self.ack_lost,
            fail: self.refused,
            ack_delay: self.ack_late.clone(),
            ..Faults::default()
        }
    }
}

/// A gateway.
pub(super) struct Gate {
    name: String,
    pub(super) forwarder: Forwarder,
    line: Line,
    radiated: Vec<(Instant, Instant)>,
    usual: Trouble,
    trouble: Trouble,
    /// Another one has its EUI, too; and it is the wrong one of them.
    has_twin: bool,
    is_twin: bool,
    wraps_after: Option<Duration>,
    ears: Dice,
    backhaul: Dice,
    counters: Dice,
}

impl Gate {
    /// The gateway number `place` (from 0), switched on now.
    pub(super) fn new(
        scenario: &Scenario,
        seed: Seed,
        (place, name, eui): (u32, String, GatewayEui),
        line: Line,
        now: Instant,
    ) -> Self {
        let gateways = &scenario.gateways;
        let mut counters = seed.stream(&format!("counter {name}"));
        let wraps = gateways.counter_wraps.as_ref();
        let wraps_after =
            counters.between(wraps.map_or(&(Duration::ZERO..Duration::ZERO), |w| &w.0));
        let mut config = ForwarderConfig::new(eui, seed.bytes(&format!("forwarder {name}")));
        config.counter_at_zero = draw_counter(&mut counters);
        let mut forwarder = Forwarder::new(config);
        let usual = Trouble::of(gateways);
        forwarder.set_faults(usual.faults());
        forwarder.start(now);
        Self {
            forwarder,
            line,
            radiated: Vec::new(),
            trouble: usual.clone(),
            usual,
            has_twin: gateways.twins > 0 && (place == 0 || place >= gateways.count),
            is_twin: place >= gateways.count,
            wraps_after: wraps.map(|_| wraps_after),
            ears: seed.stream(&format!("ears {name}")),
            backhaul: seed.stream(&format!("backhaul {name}")),
            counters,
            name,
        }
    }

    /// As scenarios call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The sockets that receive for it.
    pub(super) fn sockets(&self) -> [Arc<UdpSocket>; 2] {
        self.line.sockets()
    }

    /// The node whose PULL_RESP it takes.
    pub(super) fn told_by(&self) -> &str {
        self.line.told_by()
    }

    fn address(&self) -> IpAddr {
        self.line.address()
    }

    /// When it does something of its own accord next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let forwarder = self.forwarder.poll_timeout(now).map(|(at, _)| at);
        forwarder.into_iter().chain(self.line.due()).min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, record: &Record) {
        self.forwarder.handle_timeout(now);
        let moved = self.line.handle_timeout(now);
        self.tell_moved(moved, record);
    }

    /// Both its sockets are moved to other nodes.
    pub(super) fn hop(&mut self, record: &Record) {
        let moved = [Socket::Up, Socket::Down].map(|socket| self.line.hop(socket));
        self.tell_moved(moved.into_iter().flatten(), record);
    }

    fn tell_moved(&self, moved: impl IntoIterator<Item = Moved>, record: &Record) {
        for Moved { socket, told } in moved {
            match socket {
                Socket::Up => record.note(&self.name, &told),
                Socket::Down => {
                    let gateway = self.forwarder.gateway();
                    record.fact(&self.name, &told, Fact::Hopped { gateway });
                }
            }
        }
    }

    /// The run begins: from now on it counts to the moment at which its counter shall wrap.
    pub(super) fn begin(&mut self, now: Instant) {
        self.line.begin(now);
        if let Some(after) = self.wraps_after {
            let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX) % COUNTER_VALUES;
            let ahead = u32::try_from(micros).unwrap_or(u32::MAX);
            self.forwarder.reset_counter(now, 0_u32.wrapping_sub(ahead));
        }
    }

    /// Sends a datagram to its node.
    pub(super) fn send(&self, socket: Socket, bytes: &[u8]) {
        self.line.send(socket, bytes);
    }

    /// Receives a datagram, if it comes from where the socket sends to.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        (socket, from): (Socket, SocketAddr),
        bytes: &[u8],
        record: &Record,
    ) {
        if !self.line.takes(socket, from) {
            return record.note(&self.name, &format!("does not take a datagram from {from}"));
        }
        let before = self.forwarder.pull_acked_at();
        self.forwarder.handle_datagram(now, socket, bytes);
        if self.forwarder.pull_acked_at() != before {
            self.line.acknowledged(now);
        }
    }

    /// The end of a device's frame: it hears it unless the dice say no, the frame is broken, or it
    /// sends or has no power. Always as many draws.
    pub(super) fn hear(&mut self, now: Instant, flying: &Flying, chance: f64, record: &Record) {
        let Flying { frame, carried, told, broken, .. } = flying;
        let heard = self.ears.chance(chance);
        let signal = draw_signal(&mut self.ears);
        let twice = self.backhaul.chance(self.trouble.late_share);
        let late_by = self.backhaul.between(&self.trouble.late_by);
        if *broken || !heard || !self.forwarder.is_on() || self.was_sending(frame) {
            return;
        }
        let tmst = self.forwarder.counter(frame.ends_at());
        let live = self.is_live(now);
        record.heard((&self.name, told), self.address(), carried, tmst, live);
        self.forwarder.handle_frame(now, frame, signal);
        if twice {
            record.note(&self.name, &format!("forwards {told} again in {late_by:?}"));
            self.forwarder.forward_again(frame, signal, now + late_by);
        }
    }

    /// Notes that it sends a frame.
    pub(super) fn radiates(&mut self, frame: &OnAir) {
        let over = frame.starts_at.saturating_sub(AIRTIME_MAX);
        self.radiated.retain(|(_, to)| *to > over);
        if self.radiated.len() < RADIATED_MAX {
            self.radiated.push((frame.starts_at, frame.ends_at()));
        }
    }

    fn was_sending(&self, frame: &OnAir) -> bool {
        let overlaps =
            |(from, to): &(Instant, Instant)| *from < frame.ends_at() && frame.starts_at < *to;
        self.radiated.iter().any(overlaps)
    }

    /// Whether the cluster that runs now knows where it is, and both can reach each other.
    fn is_live(&self, now: Instant) -> bool {
        let fresh = self.forwarder.keepalive() + PULL_ACK_LATE;
        let acked = self.forwarder.pull_acked_at();
        !self.has_twin && acked.is_some_and(|at| now.since(at) <= fresh) && self.line.is_live(now)
    }

    /// Something else is wrong with it from now on.
    pub(super) fn set_trouble(&mut self, now: Instant, trouble: Trouble, record: &Record) {
        self.forwarder.set_faults(trouble.faults());
        let was_off = std::mem::replace(&mut self.trouble, trouble).off;
        match (was_off, self.trouble.off) {
            (false, true) => {
                record.note(&self.name, "no power");
                self.forwarder.stop();
                self.line.forget();
            }
            (true, false) => {
                record.note(&self.name, "power is back");
                self.reset_counter(now, record);
                self.forwarder.start(now);
            }
            (false, false) | (true, true) => {}
        }
    }

    /// What is wrong with it.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Its concentrator restarts: the counter goes on from anywhere.
    pub(super) fn reset_counter(&mut self, now: Instant, record: &Record) {
        let counter = draw_counter(&mut self.counters);
        self.forwarder.reset_counter(now, counter);
        let gateway = self.forwarder.gateway();
        let text = format!("its counter starts anew from {counter}");
        record.fact(&self.name, &text, Fact::CounterReset { gateway });
    }

    /// Nothing goes wrong with it any more, but for faults in force; a gateway that wrongly has the
    /// EUI of another is taken off. It speaks to nodes of `core` alone.
    pub(super) fn rest(&mut self, now: Instant, core: &BTreeSet<NodeId>, record: &Record) {
        let moved = self.line.rest(core);
        self.tell_moved(moved, record);
        let mut trouble = self.trouble.clone();
        let (usual, none) = (&self.usual, Duration::ZERO..Duration::ZERO);
        let calm = |now: &mut f64, usual: f64| {
            if *now == usual {
                *now = 0.0;
            }
        };
        calm(&mut trouble.late_share, usual.late_share);
        calm(&mut trouble.ack_lost, usual.ack_lost);
        calm(&mut trouble.refused, usual.refused);
        if trouble.ack_late == usual.ack_late {
            trouble.ack_late = none;
        }
        trouble.off |= self.is_twin;
        self.set_trouble(now, trouble, record);
    }
}

fn draw_counter(dice: &mut Dice) -> u32 {
    u32::try_from(dice.below(COUNTER_VALUES)).unwrap_or(0)
}

/// How well a frame is heard; two draws.
pub(super) fn draw_signal(dice: &mut Dice) -> Signal {
    let within =
        |dice: &mut Dice, low: i16, width: u64| low + i16::try_from(dice.below(width)).unwrap_or(0);
    Signal { rssi_dbm: within(dice, -115, 60), snr_ddb: within(dice, -60, 160) }
}
