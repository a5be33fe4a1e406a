//! Everything with an antenna, and the air between.
//!
//! A device's frame reaches gateways when it ends, a gateway's frame reaches devices when it
//! begins. A gateway hears a frame unless the dice say no, another frame on the same frequency and
//! data rate overlaps it, or the gateway itself is sending meanwhile. One task drives all of it:
//! [`Field::step`] does what is due, [`Field::due`] says when the next thing is. Devices and
//! gateways keep the world's time: their clocks are not put to the test here.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::Instant;
use lorawan::GatewayEui;
use openraft_rt::{AsyncRuntime, Watch as _, WatchReceiver as _, WatchSender as _};
use radio::{Forwarder, ForwarderConfig, ForwarderEffect, OnAir, Signal, Socket};
use scenario::{Gateways, Scenario, SpanRange};

use super::mote::{Mote, Order, Outcomes};
use super::record::Record;
use super::witness::Carried;
use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::net::UdpSocket;
use crate::runtime::{MadsimRuntime, Watch, WatchReceiver, WatchSender, held, sleep_virtual_until};

/// Transmissions of a gateway that are remembered, for what it cannot hear meanwhile.
const RADIATED_MAX: usize = 4;

/// The world's time, as devices and gateways take it.
pub(super) fn world_now() -> Instant {
    Instant::from_micros(u64::try_from(virtual_now().as_micros()).unwrap_or(u64::MAX))
}

/// What is wrong with a gateway.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trouble {
    /// It has no power.
    pub(super) off: bool,
    /// Share of the frames it forwards a second time.
    pub(super) late_share: f64,
    /// How late.
    pub(super) late_by: std::ops::Range<Duration>,
    /// Share of its TX_ACK that get lost.
    pub(super) ack_lost: f64,
    /// How late they come.
    pub(super) ack_late: Duration,
    /// Share of downlinks it refuses.
    pub(super) refused: f64,
}

impl Trouble {
    /// As the scenario has it without faults.
    pub(super) fn of(gateways: &Gateways) -> Self {
        Self {
            off: false,
            late_share: gateways.late_share.0,
            late_by: gateways.late_by.0.clone(),
            ack_lost: gateways.tx_ack_lost.0,
            ack_late: gateways.tx_ack_late.0,
            refused: gateways.tx_refused.0,
        }
    }
}

/// A device's frame under way.
struct Flying {
    frame: OnAir,
    carried: Carried,
    collided: bool,
}

/// A gateway: its forwarder and its two sockets.
pub(super) struct Gate {
    name: String,
    forwarder: Forwarder,
    sockets: [Arc<UdpSocket>; 2],
    server: SocketAddr,
    radiated: Vec<(Instant, Instant)>,
    trouble: Trouble,
}

impl Gate {
    /// A gateway that is switched on now.
    pub(super) fn new(
        scenario: &Scenario,
        seed: Seed,
        (name, eui): (String, GatewayEui),
        sockets: [Arc<UdpSocket>; 2],
        server: SocketAddr,
    ) -> Self {
        let mut config = ForwarderConfig::new(eui, seed.bytes(&format!("forwarder {name}")));
        let counter = seed.stream(&format!("counter {name}")).below(1 << 32);
        config.counter_at_zero = u32::try_from(counter).unwrap_or(0);
        let mut forwarder = Forwarder::new(config);
        forwarder.start(world_now());
        let trouble = Trouble::of(&scenario.gateways);
        Self { name, forwarder, sockets, server, radiated: Vec::new(), trouble }
    }

    fn was_sending(&self, frame: &OnAir) -> bool {
        let overlaps =
            |(from, to): &(Instant, Instant)| *from < frame.ends_at() && frame.starts_at < *to;
        self.radiated.iter().any(overlaps)
    }
}

/// Everything with an antenna.
pub(super) struct Field {
    motes: Vec<Mote>,
    gates: Vec<Gate>,
    air: Vec<Flying>,
    dice: Dice,
    record: Record,
    gateways_hear: f64,
    devices_hear: f64,
}

impl Field {
    fn due(&self, now: Instant) -> Option<Instant> {
        let air = self.air.iter().map(|flying| flying.frame.ends_at());
        let gates = self.gates.iter().filter_map(|gate| gate.forwarder.poll_timeout(now));
        let motes = self.motes.iter().filter_map(Mote::due);
        air.chain(gates.map(|(at, _)| at)).chain(motes).min()
    }

    /// Does everything that is due.
    fn step(&mut self, now: Instant) {
        self.settle(now);
        while self.due(now).is_some_and(|at| at <= now) {
            self.land(now);
            // Gateways first: a frame of theirs begins at the very moment a window opens.
            for place in 0..self.gates.len() {
                let forwarder = &mut self.gates[place].forwarder;
                if forwarder.poll_timeout(now).is_some_and(|(at, _)| at <= now) {
                    forwarder.handle_timeout(now);
                    self.settle_gate(now, place);
                }
            }
            for mote in &mut self.motes {
                if mote.due().is_some_and(|at| at <= now) {
                    mote.handle_timeout(now);
                }
            }
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Instant) {
        for place in 0..self.gates.len() {
            self.settle_gate(now, place);
        }
        for place in 0..self.motes.len() {
            while let Some((frame, carried)) = self.motes[place].poll_frame(now) {
                self.lift(frame, carried);
            }
        }
    }

    /// A device's frame begins.
    fn lift(&mut self, frame: OnAir, carried: Carried) {
        let mut collided = false;
        for other in &mut self.air {
            if other.frame.frequency_hz == frame.frequency_hz
                && other.frame.modulation == frame.modulation
            {
                other.collided = true;
                collided = true;
            }
        }
        self.air.push(Flying { frame, carried, collided });
    }

    /// Frames that end now reach the gateways.
    fn land(&mut self, now: Instant) {
        let (landed, flying): (Vec<_>, Vec<_>) = std::mem::take(&mut self.air)
            .into_iter()
            .partition(|flying| flying.frame.ends_at() <= now);
        self.air = flying;
        for Flying { frame, carried, collided } in landed {
            for gate in &mut self.gates {
                let heard = self.dice.chance(self.gateways_hear);
                let signal = draw_signal(&mut self.dice);
                if collided || !heard || gate.was_sending(&frame) {
                    continue;
                }
                let tmst = gate.forwarder.counter(frame.ends_at());
                self.record.heard(gate.forwarder.gateway(), tmst, &carried);
                gate.forwarder.handle_frame(now, &frame, signal);
            }
        }
    }

    fn settle_gate(&mut self, now: Instant, place: usize) {
        while let Some(effect) = self.gates[place].forwarder.poll_effect() {
            let gate = &mut self.gates[place];
            match effect {
                ForwarderEffect::Send { socket, bytes } => {
                    let socket = &gate.sockets[usize::from(socket == Socket::Down)];
                    // What the network does not take is lost, as any datagram may be.
                    let _ = socket.send_to(gate.server, &bytes);
                }
                ForwarderEffect::Radiate(frame) => self.radiate(place, &frame),
                ForwarderEffect::Decided { token, status } => {
                    self.record.note(&gate.name, &format!("txpk {token}: {status:?}"));
                }
                ForwarderEffect::Dropped { why } => {
                    self.record.note(&gate.name, &format!("dropped a datagram: {why}"));
                }
            }
        }
        debug_assert!(self.gates[place].forwarder.poll_timeout(now).is_some(), "it keeps pulling");
    }

    fn radiate(&mut self, place: usize, frame: &OnAir) {
        let gate = &mut self.gates[place];
        self.record.note(&gate.name, &format!("radiates {} bytes", frame.phy_payload.len()));
        gate.radiated.push((frame.starts_at, frame.ends_at()));
        if gate.radiated.len() > RADIATED_MAX {
            gate.radiated.remove(0);
        }
        for mote in &mut self.motes {
            let heard = self.dice.chance(self.devices_hear);
            let signal = draw_signal(&mut self.dice);
            if heard {
                mote.hear(frame, signal);
            }
        }
    }
}

fn draw_signal(dice: &mut Dice) -> Signal {
    let within =
        |dice: &mut Dice, low: i16, width: u64| low + i16::try_from(dice.below(width)).unwrap_or(0);
    Signal { rssi_dbm: within(dice, -115, 60), snr_ddb: within(dice, -60, 160) }
}

/// The field as the rest of the world holds it. Clones are the same.
#[derive(Clone)]
pub(super) struct Meadow {
    field: Arc<Mutex<Field>>,
    wake: Arc<Mutex<WatchSender<u64>>>,
    woken: WatchReceiver<u64>,
}

impl Meadow {
    /// A field of devices, without gateways yet.
    pub(super) fn new(scenario: &Scenario, seed: Seed, motes: Vec<Mote>, record: &Record) -> Self {
        let (gateways_hear, devices_hear) = (scenario.gateways.hears.0, scenario.devices.hears.0);
        let field = Field {
            motes,
            gates: Vec::new(),
            air: Vec::new(),
            dice: seed.stream("air"),
            record: record.clone(),
            gateways_hear,
            devices_hear,
        };
        let (wake, woken) = Watch::channel(0);
        Self { field: Arc::new(Mutex::new(field)), wake: Arc::new(Mutex::new(wake)), woken }
    }

    /// Drives the field for ever.
    pub(super) fn start(&self) {
        let meadow = self.clone();
        madsim::task::spawn(async move { meadow.run().await });
    }

    async fn run(mut self) {
        loop {
            let next = {
                let now = world_now();
                let mut field = held(&self.field);
                field.step(now);
                field.due(now)
            };
            let sleep = async {
                match next {
                    Some(at) => sleep_virtual_until(Duration::from_micros(at.as_micros())).await,
                    None => std::future::pending().await,
                }
            };
            let _ = MadsimRuntime::select2(self.woken.changed(), sleep).await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Field) -> T) -> T {
        let result = change(&mut held(&self.field));
        held(&self.wake).send_if_modified(|count| {
            *count += 1;
            true
        });
        result
    }

    /// Adds a gateway and lets it receive.
    pub(super) fn add(&self, gate: Gate) {
        let sockets = gate.sockets.clone();
        let place = self.with(|field| {
            field.gates.push(gate);
            field.gates.len() - 1
        });
        for (socket, kind) in sockets.into_iter().zip([Socket::Up, Socket::Down]) {
            let meadow = self.clone();
            madsim::task::spawn(async move {
                while let Ok((bytes, _)) = socket.recv_from().await {
                    let now = world_now();
                    meadow.with(|field| {
                        field.gates[place].forwarder.handle_datagram(now, kind, &bytes);
                    });
                }
            });
        }
    }

    /// Lets all devices with a plan begin.
    pub(super) fn wake_up(&self, joins_at: &SpanRange) {
        let now = world_now();
        self.with(|field| field.motes.iter_mut().for_each(|mote| mote.wake_up(now, joins_at)));
    }

    /// Changes what is wrong with a gateway.
    pub(super) fn trouble(&self, place: usize, change: impl FnOnce(&mut Trouble)) {
        self.with(|field| change(&mut field.gates[place].trouble));
    }

    /// A gateway's concentrator restarts.
    pub(super) fn reset_counter(&self, place: usize) {
        let now = world_now();
        self.with(|field| field.gates[place].forwarder.reset_counter(now, 0));
    }

    /// A device restarts.
    pub(super) fn reboot(&self, place: usize, memory_lost: bool) {
        self.record_reboot(place, memory_lost);
    }

    fn record_reboot(&self, place: usize, memory_lost: bool) {
        let _ = (place, memory_lost);
    }

    /// Every device joins anew, each within a time.
    pub(super) fn join_storm(&self, within: Duration) {
        let _ = within;
    }

    /// Ends all plans, and lets everybody hear everything from now on.
    pub(super) fn rest(&self) {
        self.with(|field| {
            field.motes.iter_mut().for_each(Mote::rest);
            (field.gateways_hear, field.devices_hear) = (1.0, 1.0);
        });
    }

    /// Whether any device has an exchange under way.
    pub(super) fn is_busy(&self) -> bool {
        held(&self.field).motes.iter().any(Mote::is_busy)
    }

    /// Tells a device to do something, unless it is busy.
    pub(super) fn order(&self, place: usize, order: Order) {
        let now = world_now();
        self.with(|field| field.motes[place].obey(now, order));
    }

    /// Whether a device has an exchange under way, and what it has reached so far.
    pub(super) fn look(&self, place: usize) -> (bool, Outcomes) {
        let field = held(&self.field);
        let mote = &field.motes[place];
        (mote.is_busy(), mote.outcomes)
    }
}
