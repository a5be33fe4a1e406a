//! One device and what it does all day: joins until it has, then reports at its own pace, and now
//! and then joins anew or restarts.
//!
//! Each uplink carries a payload of its own (device, number, filling), so that the invariants can
//! tell any two readings apart, also after the device has begun to count anew. Each kind of
//! decision draws from a stream of its own, named after the device.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use lorawan::DevEui;
use radio::{AppUplink, Device, DeviceEffect, OnAir, Sent, Verdict};
use scenario::{Scenario, SpanRange};

use super::gate::draw_signal;
use super::kit::Kit;
use super::record::Record;
use super::witness::{Carried, Root};
use crate::dice::{Dice, Seed};
use crate::oracle::{Fact, Judgement, Reading};

/// The application's port.
pub(super) const PORT: u8 = 10;
/// Pause before a device that could not join tries again.
const JOIN_AGAIN: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(8);
/// How long a device takes to start.
const BOOT: std::ops::Range<Duration> = Duration::from_millis(500)..Duration::from_secs(3);
/// Most bytes behind device and number: with MAC commands still below the 11 of the slowest rate.
const FILLING_LEN_MAX: usize = 4;
/// Share of uplinks that ask the network for the time, or how well it hears.
const ASKS: f64 = 0.1;

/// What a device is told to do by somebody else than its own plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Join.
    Join,
    /// Send a confirmed uplink.
    Uplink,
}

/// How a device behaves.
#[derive(Clone, Debug)]
struct Habits {
    /// Between two uplinks; `None`: it only does what it is told.
    every: Option<SpanRange>,
    /// Between two joins of its own accord.
    rejoin_every: Option<SpanRange>,
    confirmed: f64,
}

/// What has come of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) joined: u32,
    pub(super) acknowledged: u32,
    pub(super) downlinks: u32,
}

/// The streams a device draws from.
struct Streams {
    workload: Dice,
    /// What it hears of what is sent to it.
    ears: Dice,
    /// When it joins anew of its own accord.
    rejoins: Dice,
    /// When it joins in a storm, how long it takes to start.
    moods: Dice,
}

/// A device.
pub(super) struct Mote {
    pub(super) name: String,
    pub(super) outcomes: Outcomes,
    device: Device,
    root: Root,
    habits: Habits,
    streams: Streams,
    record: Record,
    /// When it does something of its own accord next.
    next: Option<Instant>,
    /// When it joins anew.
    rejoins_at: Option<Instant>,
    /// It has begun to join and not joined yet: whatever session it has is over.
    joining: bool,
    /// It has done something of its own accord.
    begun: bool,
    numbers: u32,
    place: u32,
    sending: Option<AppUplink>,
    /// The frame it is receiving.
    hearing: Option<Bytes>,
    /// The scenario does not know of it.
    is_probe: bool,
}

impl Mote {
    /// The device number `place` (from 0) of the scenario.
    pub(super) fn new(scenario: &Scenario, seed: Seed, place: u32, record: &Record) -> Self {
        let workload = &scenario.workload;
        let habits = Habits {
            every: Some(workload.uplink_every.clone()),
            rejoin_every: workload.rejoin_every.clone(),
            confirmed: workload.confirmed.0,
        };
        Self::build(scenario, seed, (place, format!("dev{}", place + 1)), habits, record)
    }

    /// A device that only does what it is told.
    pub(super) fn probe(scenario: &Scenario, seed: Seed, record: &Record) -> Self {
        let habits = Habits { every: None, rejoin_every: None, confirmed: 1.0 };
        let who = (scenario.devices.count, "probe".to_owned());
        Self::build(scenario, seed, who, habits, record)
    }

    fn build(
        scenario: &Scenario,
        seed: Seed,
        (place, name): (u32, String),
        habits: Habits,
        record: &Record,
    ) -> Self {
        let is_probe = habits.every.is_none();
        let Kit { root, config } = Kit::draw(scenario, seed, (place, &name), is_probe);
        let stream = |what: &str| seed.stream(&format!("{what} {name}"));
        let streams = Streams {
            workload: stream("workload"),
            ears: stream("ears"),
            rejoins: stream("rejoins"),
            moods: stream("moods"),
        };
        Self {
            outcomes: Outcomes::default(),
            device: Device::new(config),
            root,
            habits,
            streams,
            record: record.clone(),
            next: None,
            rejoins_at: None,
            joining: false,
            begun: false,
            numbers: 0,
            place,
            sending: None,
            hearing: None,
            is_probe,
            name,
        }
    }

    /// Who it is.
    pub(super) fn dev_eui(&self) -> DevEui {
        self.device.dev_eui()
    }

    /// What it was made with.
    pub(super) fn root(&self) -> Root {
        self.root.clone()
    }

    /// Lets it begin to live by its plan, at a moment of its own.
    pub(super) fn wake_up(&mut self, now: Instant, joins_at: &SpanRange) {
        let delay = self.streams.workload.between(&joins_at.0);
        if self.habits.every.is_some() {
            self.next = Some(now + delay);
        }
    }

    /// Ends its plan: what is under way is finished, nothing new begins.
    pub(super) fn rest(&mut self) {
        self.next = None;
        self.rejoins_at = None;
        self.habits.every = None;
    }

    /// Whether an exchange is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.device.is_busy()
    }

    /// When its windows open: it hears nothing at other times.
    pub(super) fn windows_open_at(&self) -> [Option<Instant>; 2] {
        self.device.windows_open_at()
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let exchange = self.device.poll_timeout().map(|(at, _)| at);
        // One exchange at a time: the plan waits for it.
        exchange.or_else(|| [self.next, self.rejoins_at].into_iter().flatten().min())
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.device.is_busy() {
            self.device.handle_timeout(now);
        } else if self.rejoins_at.is_some_and(|at| at <= now) {
            self.act(now, Some(Order::Join));
        } else if self.next.is_some_and(|at| at <= now) {
            let has_session = self.device.is_activated() && !self.joining;
            self.act(now, if has_session { None } else { Some(Order::Join) });
        }
    }

    /// Does what it is told, unless it is busy.
    pub(super) fn obey(&mut self, now: Instant, order: Order) {
        if !self.device.is_busy() {
            self.act(now, Some(order));
        }
    }

    /// Restarts.
    pub(super) fn reboot(&mut self, now: Instant, memory_lost: bool) {
        let pause = self.streams.moods.between(&BOOT);
        self.device.reboot(memory_lost);
        (self.sending, self.hearing) = (None, None);
        (self.joining, self.rejoins_at) = (false, None);
        if self.begun && self.habits.every.is_some() {
            self.next = Some(now + pause);
        }
        let text = if memory_lost { "restarts, its memory is lost" } else { "restarts" };
        let fact = Fact::Rebooted { device: self.dev_eui(), memory_lost };
        self.record.fact(&self.name, text, fact);
    }

    /// Joins anew at some moment within a time, if it can and has begun.
    pub(super) fn storm(&mut self, now: Instant, within: Duration) {
        let delay = self.streams.moods.between(&(Duration::ZERO..within));
        if self.begun && self.root.personal.is_none() && self.habits.every.is_some() {
            self.rejoins_at = Some(now + delay);
        }
    }

    fn act(&mut self, now: Instant, order: Option<Order>) {
        (self.next, self.begun) = (None, true);
        let begun = match order {
            Some(Order::Join) => {
                (self.joining, self.rejoins_at) = (true, None);
                self.device.join(now)
            }
            Some(Order::Uplink) => {
                let uplink = self.reading(1.0);
                self.send(now, uplink)
            }
            None => {
                let uplink = self.reading(self.habits.confirmed);
                self.send(now, uplink)
            }
        };
        if let Err(error) = begun {
            self.record.note(&self.name, &format!("does not send: {error}"));
            self.plan_next(now);
        }
    }

    fn send(&mut self, now: Instant, uplink: AppUplink) -> Result<(), radio::SendError> {
        self.device.send(now, uplink.clone())?;
        self.record.count(|counts| counts.uplinks += 1);
        self.sending = Some(uplink);
        Ok(())
    }

    /// The next reading; always as many draws.
    fn reading(&mut self, confirmed: f64) -> AppUplink {
        self.numbers += 1;
        let [_, _, place @ ..] = self.place.to_be_bytes();
        let [_, _, number @ ..] = self.numbers.to_be_bytes();
        let mut payload = [place, number].concat();
        let dice = &mut self.streams.workload;
        let mut filling = [0; FILLING_LEN_MAX];
        dice.fill(&mut filling);
        payload.extend(&filling[..dice.index(FILLING_LEN_MAX + 1)]);
        AppUplink {
            f_port: Some(PORT),
            payload: payload.into(),
            confirmed: dice.chance(confirmed),
            link_check: dice.chance(ASKS),
            device_time: dice.chance(ASKS),
        }
    }

    fn plan_next(&mut self, now: Instant) {
        let Some(every) = &self.habits.every else { return };
        let has_session = self.device.is_activated() && !self.joining;
        let pause = if has_session { &every.0 } else { &JOIN_AGAIN };
        self.next = Some(now + self.streams.workload.between(pause));
    }

    fn plan_rejoin(&mut self, now: Instant) {
        let Some(every) = &self.habits.rejoin_every else { return };
        let pause = self.streams.rejoins.between(&every.0);
        if self.habits.every.is_some() {
            self.rejoins_at = Some(now + pause);
        }
    }

    /// May hear a frame that begins while it opens a window. Always as many draws.
    pub(super) fn hear(&mut self, frame: &OnAir, chance: f64) {
        let heard = self.streams.ears.chance(chance);
        let signal = draw_signal(&mut self.streams.ears);
        if heard && self.device.handle_frame(frame, signal).is_ok() {
            self.hearing = Some(frame.phy_payload.clone());
        }
    }

    /// The next frame it sends, if any; everything else it does is written down.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<(OnAir, Carried)> {
        while let Some(effect) = self.device.poll_effect() {
            match effect {
                DeviceEffect::Transmit { frame, sent } => {
                    let carried = self.carried(sent)?;
                    self.tell_sent(sent, &carried);
                    return Some((frame, carried));
                }
                DeviceEffect::Judged(verdict) => self.judged(verdict),
                DeviceEffect::Joined { dev_addr, .. } => {
                    self.outcomes.joined += 1;
                    self.joining = false;
                    self.record.note(&self.name, &format!("joined as {dev_addr}"));
                    if !self.is_probe {
                        self.record.joined(self.device.dev_eui());
                    }
                    self.plan_next(now);
                    self.plan_rejoin(now);
                }
                DeviceEffect::JoinFailed => {
                    self.record.note(&self.name, "join failed");
                    self.plan_next(now);
                }
                DeviceEffect::Delivered(down) => {
                    self.outcomes.downlinks += 1;
                    let text = format!("took down {}", down.fcnt);
                    self.record.arrived(&self.name, &text, self.device.dev_eui(), down.payload);
                }
                DeviceEffect::Done { fcnt, acked, heard } => {
                    self.outcomes.acknowledged += u32::from(acked);
                    self.record.count(|counts| counts.acknowledged += u32::from(acked));
                    let text = format!("done with up {fcnt}: acked {acked}, heard {heard}");
                    self.record.note(&self.name, &text);
                    self.plan_next(now);
                }
                other @ (DeviceEffect::LinkCheck { .. } | DeviceEffect::Time { .. }) => {
                    self.record.note(&self.name, &format!("{other:?}"));
                }
            }
        }
        None
    }

    fn judged(&mut self, verdict: Verdict) {
        let judgement = match verdict {
            Verdict::Accepted { .. } => Judgement::Taken,
            Verdict::Replayed { .. } | Verdict::FCntGap { .. } => Judgement::Counter,
            Verdict::Malformed(_)
            | Verdict::Unexpected
            | Verdict::OtherAddress(_)
            | Verdict::Mic
            | Verdict::JoinMic
            | Verdict::JoinNonce { .. }
            | Verdict::JoinSettings => Judgement::Other,
        };
        let phy_payload = self.hearing.take().unwrap_or_default();
        let fact = Fact::Judged { device: self.device.dev_eui(), phy_payload, judgement };
        self.record.fact(&self.name, &format!("judges a frame: {verdict:?}"), fact);
    }

    fn carried(&self, sent: Sent) -> Option<Carried> {
        match sent {
            Sent::Join { dev_nonce } => {
                Some(Carried::Join { dev_eui: self.device.dev_eui(), dev_nonce })
            }
            Sent::Data { fcnt, .. } => {
                let uplink = self.sending.as_ref()?;
                let reading = Reading {
                    device: self.device.dev_eui(),
                    dev_addr: self.device.dev_addr()?,
                    f_cnt: fcnt,
                    f_port: uplink.f_port,
                    payload: Bytes::clone(&uplink.payload),
                };
                Some(Carried::Data { reading, confirmed: uplink.confirmed })
            }
        }
    }

    fn tell_sent(&self, sent: Sent, carried: &Carried) {
        let attempt = match sent {
            Sent::Join { .. } => 1,
            Sent::Data { attempt, .. } => attempt,
        };
        match carried {
            Carried::Join { dev_eui, dev_nonce } => {
                let (join_eui, dev_eui, dev_nonce) = (self.root.join_eui, *dev_eui, *dev_nonce);
                let text = format!("asks to join, nonce {}", dev_nonce.0);
                let fact = Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce };
                self.record.fact(&self.name, &text, fact);
            }
            Carried::Data { reading, confirmed } => {
                self.record.count(|counts| counts.transmissions += 1);
                let kind = if *confirmed { "confirmed" } else { "unconfirmed" };
                let text = format!("up {} {kind}, attempt {attempt}", reading.f_cnt);
                let fact = Fact::UplinkSent { reading: reading.clone(), confirmed: *confirmed };
                self.record.fact(&self.name, &text, fact);
            }
        }
    }
}
