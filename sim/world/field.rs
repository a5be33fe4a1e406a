//! Everything with an antenna, and the air between.
//!
//! A device's frame reaches gateways when it ends, a gateway's frame reaches devices when it
//! begins. A gateway hears a frame unless its dice say no, another frame on the same frequency and
//! data rate overlaps it, or the gateway itself is sending meanwhile. [`Field::step`] does what is
//! due and says when the next thing is; each change from outside goes through a method here, so
//! that its consequences follow at once. Devices and gateways keep the world's time: their clocks
//! are not put to the test here.
//!
//! The work is in what happens, not in how many there are: one queue of moments for all, and a
//! gateway's frame is shown only to devices that open a window just then.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;
use madsim::task::NodeId;
use radio::{ForwarderEffect, OnAir, Socket, WINDOW_TOLERANCE};
use scenario::SpanRange;

use super::air::Air;
use super::gate::{Gate, Trouble};
use super::mote::{Mote, Order, Outcomes};
use super::record::Record;
use super::timers::Timers;
use crate::clocks::virtual_now;
use crate::oracle::Fact;

/// The world's time, as devices and gateways take it.
pub(super) fn world_now() -> Instant {
    Instant::from_micros(u64::try_from(virtual_now().as_micros()).unwrap_or(u64::MAX))
}

/// Who has something to do. What happens at one moment happens in this order: a frame that ends is
/// heard by a gateway before that may send, and a gateway's frame begins at the very moment a
/// window opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Air,
    Gate(usize),
    Mote(usize),
}

/// Everything with an antenna.
pub(super) struct Field {
    motes: Vec<Mote>,
    gates: Vec<Gate>,
    air: Air,
    timers: Timers<Who>,
    /// When which device opens a window.
    windows: BTreeSet<(Instant, usize)>,
    /// Those of each device, as they stand there.
    own_windows: Vec<[Option<Instant>; 2]>,
    record: Record,
    gateways_hear: f64,
    devices_hear: f64,
}

impl Field {
    /// A field of devices, without gateways yet.
    ///
    /// * `gateways_hear`, `devices_hear`: the share of the frames meant for them that they hear.
    pub(super) fn new(
        motes: Vec<Mote>,
        (gateways_hear, devices_hear): (f64, f64),
        record: &Record,
    ) -> Self {
        Self {
            own_windows: vec![[None; 2]; motes.len()],
            motes,
            gates: Vec::new(),
            air: Air::default(),
            timers: Timers::new(),
            windows: BTreeSet::new(),
            record: record.clone(),
            gateways_hear,
            devices_hear,
        }
    }

    /// When the next thing is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| at)
    }

    /// Does everything that is due; returns when the next thing is.
    pub(super) fn step(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, who)) = self.timers.first() {
            if at > now {
                return Some(at);
            }
            match who {
                Who::Air => self.land(now),
                Who::Gate(place) => {
                    self.gates[place].handle_timeout(now, &self.record);
                    self.settle_gate(now, place);
                }
                Who::Mote(place) => {
                    self.motes[place].handle_timeout(now);
                    self.settle_mote(now, place);
                }
            }
        }
        None
    }

    /// Frames that end now reach the gateways.
    fn land(&mut self, now: Instant) {
        while let Some(flying) = self.air.land(now) {
            for place in 0..self.gates.len() {
                self.gates[place].hear(now, &flying, self.gateways_hear, &self.record);
                self.settle_gate(now, place);
            }
        }
        self.timers.arm(Who::Air, self.air.next());
    }

    /// Carries out what a gateway wants to do.
    fn settle_gate(&mut self, now: Instant, place: usize) {
        while let Some(effect) = self.gates[place].forwarder.poll_effect() {
            let gate = &mut self.gates[place];
            match effect {
                ForwarderEffect::Send { socket, bytes } => gate.send(socket, &bytes),
                ForwarderEffect::Radiate(frame) => self.radiate(now, place, &frame),
                ForwarderEffect::Decided { token, status } => {
                    let text = format!("txpk {token}: {status:?}");
                    let order = (gate.told_by().to_owned(), gate.forwarder.gateway(), token);
                    let fact = Fact::Decided { order, status };
                    self.record.fact(gate.name(), &text, fact);
                }
                ForwarderEffect::Dropped { why } => {
                    self.record.note(gate.name(), &format!("dropped a datagram: {why}"));
                }
            }
        }
        self.timers.arm(Who::Gate(place), self.gates[place].due(now));
    }

    /// A gateway's frame begins: devices that open a window now may hear it.
    fn radiate(&mut self, now: Instant, place: usize, frame: &OnAir) {
        let gate = &mut self.gates[place];
        self.record.note(gate.name(), &format!("radiates {} bytes", frame.phy_payload.len()));
        gate.radiates(frame);
        let from = frame.starts_at.saturating_sub(WINDOW_TOLERANCE);
        let to = frame.starts_at + WINDOW_TOLERANCE;
        let listening = self.windows.range((from, 0)..=(to, usize::MAX));
        let listening: Vec<usize> = listening.map(|(_, mote)| *mote).collect();
        for mote in listening {
            self.motes[mote].hear(frame, self.devices_hear);
            self.settle_mote(now, mote);
        }
    }

    /// Carries out what a device wants to do.
    fn settle_mote(&mut self, now: Instant, place: usize) {
        while let Some((frame, carried)) = self.motes[place].poll_frame(now) {
            self.air.lift(place, frame, carried);
            self.timers.arm(Who::Air, self.air.next());
        }
        let mote = &self.motes[place];
        let windows = mote.windows_open_at();
        let before = std::mem::replace(&mut self.own_windows[place], windows);
        if before != windows {
            before.into_iter().flatten().for_each(|at| {
                self.windows.remove(&(at, place));
            });
            self.windows.extend(windows.into_iter().flatten().map(|at| (at, place)));
        }
        self.timers.arm(Who::Mote(place), mote.due());
    }

    /// Adds a gateway; returns its place.
    pub(super) fn add(&mut self, now: Instant, gate: Gate) -> usize {
        let place = self.gates.len();
        self.gates.push(gate);
        self.settle_gate(now, place);
        place
    }

    /// A datagram arrives at a gateway.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        place: usize,
        way: (Socket, SocketAddr),
        bytes: &[u8],
    ) {
        self.gates[place].receive(now, way, bytes, &self.record);
        self.settle_gate(now, place);
    }

    fn each_gate(&mut self, now: Instant, change: impl Fn(&mut Gate, &Record)) {
        for place in 0..self.gates.len() {
            change(&mut self.gates[place], &self.record);
            self.settle_gate(now, place);
        }
    }

    fn each_mote(&mut self, now: Instant, change: impl Fn(&mut Mote)) {
        for place in 0..self.motes.len() {
            change(&mut self.motes[place]);
            self.settle_mote(now, place);
        }
    }

    /// The run begins: devices with a plan begin to live by it.
    pub(super) fn begin(&mut self, now: Instant, joins_at: &SpanRange) {
        self.each_gate(now, |gate, _| gate.begin(now));
        self.each_mote(now, |mote| mote.wake_up(now, joins_at));
    }

    /// Changes what is wrong with a gateway.
    pub(super) fn trouble(
        &mut self,
        now: Instant,
        place: usize,
        change: impl FnOnce(&mut Trouble),
    ) {
        let mut trouble = self.gates[place].trouble();
        change(&mut trouble);
        self.gates[place].set_trouble(now, trouble, &self.record);
        self.settle_gate(now, place);
    }

    /// A gateway's concentrator restarts.
    pub(super) fn reset_counter(&mut self, now: Instant, place: usize) {
        self.gates[place].reset_counter(now, &self.record);
        self.settle_gate(now, place);
    }

    /// A gateway's sockets are moved to other nodes.
    pub(super) fn hop(&mut self, now: Instant, place: usize) {
        self.gates[place].hop(&self.record);
        self.settle_gate(now, place);
    }

    /// A device restarts; what it is sending breaks off.
    pub(super) fn reboot(&mut self, now: Instant, place: usize, memory_lost: bool) {
        self.air.interrupt(place);
        self.motes[place].reboot(now, memory_lost);
        self.settle_mote(now, place);
    }

    /// Every device joins anew, each at a moment of its own within a time.
    pub(super) fn join_storm(&mut self, now: Instant, within: Duration) {
        self.each_mote(now, |mote| mote.storm(now, within));
    }

    /// Ends all plans, and lets everybody hear everything from now on; gateways speak to nodes of
    /// `core` alone.
    pub(super) fn rest(&mut self, now: Instant, core: &BTreeSet<NodeId>) {
        (self.gateways_hear, self.devices_hear) = (1.0, 1.0);
        self.each_gate(now, |gate, record| gate.rest(now, core, record));
        self.each_mote(now, Mote::rest);
    }

    /// Whether any device has an exchange under way.
    pub(super) fn is_busy(&self) -> bool {
        self.motes.iter().any(Mote::is_busy)
    }

    /// Tells a device to do something, unless it is busy.
    pub(super) fn order(&mut self, now: Instant, place: usize, order: Order) {
        self.motes[place].obey(now, order);
        self.settle_mote(now, place);
    }

    /// Whether a device has an exchange under way, and what it has reached so far.
    pub(super) fn look(&self, place: usize) -> (bool, Outcomes) {
        let mote = &self.motes[place];
        (mote.is_busy(), mote.outcomes)
    }
}
