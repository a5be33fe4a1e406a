//! One device and what it does all day: joins until it has, then reports at its own pace.
//!
//! Each uplink carries a payload of its own (device, number, filling), so that the invariants can
//! tell any two readings apart.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use lorawan::{DevEui, JoinEui, Key, Region};
use radio::{AppUplink, Device, DeviceConfig, DeviceEffect, OnAir, Sent, Signal};
use scenario::{Scenario, SpanRange};

use super::record::Record;
use super::witness::{Carried, Root};
use crate::dice::{Dice, Seed};
use crate::oracle::{Fact, Reading};

/// The application's port.
pub(super) const PORT: u8 = 10;
/// Pause before a device that could not join tries again.
const JOIN_AGAIN: std::ops::Range<Duration> = Duration::from_secs(2)..Duration::from_secs(8);
/// Most bytes behind device and number: with MAC commands still below the 11 of the slowest rate.
const FILLING_LEN_MAX: u64 = 4;
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
pub(super) struct Habits {
    /// Between two uplinks; `None`: it only does what it is told.
    every: Option<SpanRange>,
    confirmed: f64,
}

/// What has come of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) joined: u32,
    pub(super) acknowledged: u32,
    pub(super) downlinks: u32,
}

/// A device.
pub(super) struct Mote {
    pub(super) name: String,
    pub(super) outcomes: Outcomes,
    device: Device,
    app_key: Key,
    join_eui: JoinEui,
    habits: Habits,
    dice: Dice,
    record: Record,
    /// When it does something of its own accord next.
    next: Option<Instant>,
    numbers: u32,
    place: u32,
    sending: Option<AppUplink>,
    /// The scenario does not know of it.
    is_probe: bool,
}

impl Mote {
    /// The device number `place` (from 0) of the scenario.
    pub(super) fn new(scenario: &Scenario, seed: Seed, place: u32, record: &Record) -> Self {
        let name = format!("dev{}", place + 1);
        let workload = &scenario.workload;
        let habits =
            Habits { every: Some(workload.uplink_every.clone()), confirmed: workload.confirmed.0 };
        Self::build(scenario, seed, place, (name, habits), record)
    }

    /// A device that only does what it is told.
    pub(super) fn probe(scenario: &Scenario, seed: Seed, record: &Record) -> Self {
        let habits = Habits { every: None, confirmed: 1.0 };
        let place = scenario.devices.count;
        Self::build(scenario, seed, place, ("probe".to_owned(), habits), record)
    }

    fn build(
        scenario: &Scenario,
        seed: Seed,
        place: u32,
        (name, habits): (String, Habits),
        record: &Record,
    ) -> Self {
        let is_probe = habits.every.is_none();
        let mut dice = seed.stream(&format!("workload {name}"));
        let dev_eui =
            DevEui::from_be_bytes((0x70B3_D57E_D000_0000 + u64::from(place)).to_be_bytes());
        let join_eui = JoinEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0xFF, 0, 1]);
        let mut app_key = [0; 16];
        dice.fill(&mut app_key);
        let app_key = Key::from_bytes(app_key);
        let radio_seed = seed.bytes(&format!("radio {name}"));
        let region = region(scenario);
        let mut config = DeviceConfig::otaa(region, dev_eui, join_eui, app_key.clone(), radio_seed);
        config.confirmed_tries = scenario.workload.tries;
        let rates = region.uplink_channels().next().map_or(0..=0, |one| one.min_dr..=one.max_dr);
        let rates: Vec<u8> = rates.collect();
        config.data_rate = rates[dice.index(rates.len())];
        Self {
            name,
            outcomes: Outcomes::default(),
            device: Device::new(config),
            app_key,
            join_eui,
            habits,
            dice,
            record: record.clone(),
            next: None,
            numbers: 0,
            place,
            sending: None,
            is_probe,
        }
    }

    /// Who it is.
    pub(super) fn dev_eui(&self) -> DevEui {
        self.device.dev_eui()
    }

    /// What it was made with.
    pub(super) fn root(&self) -> Root {
        Root { join_eui: self.join_eui, app_key: self.app_key.clone() }
    }

    /// Lets it begin to live by its plan; it joins at a moment of its own.
    pub(super) fn wake_up(&mut self, now: Instant, joins_at: &SpanRange) {
        let delay = self.dice.between(&joins_at.0);
        if self.habits.every.is_some() {
            self.next = Some(now + delay);
        }
    }

    /// Ends its plan: what is under way is finished, nothing new begins.
    pub(super) fn rest(&mut self) {
        self.next = None;
        self.habits.every = None;
    }

    /// Whether an exchange is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.device.is_busy()
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let exchange = self.device.poll_timeout().map(|(at, _)| at);
        // One exchange at a time: the plan waits for it.
        exchange.or(self.next)
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.device.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.device.handle_timeout(now);
        } else if !self.device.is_busy() && self.next.is_some_and(|at| at <= now) {
            self.next = None;
            let order = if self.device.is_activated() { None } else { Some(Order::Join) };
            self.act(now, order);
        }
    }

    /// Does what it is told, unless it is busy.
    pub(super) fn obey(&mut self, now: Instant, order: Order) {
        if !self.device.is_busy() {
            self.act(now, Some(order));
        }
    }

    fn act(&mut self, now: Instant, order: Option<Order>) {
        let begun = match order {
            Some(Order::Join) => self.device.join(now),
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
        let len = usize::try_from(self.dice.below(FILLING_LEN_MAX + 1)).unwrap_or(0);
        let mut filling = vec![0; len];
        self.dice.fill(&mut filling);
        payload.extend(filling);
        AppUplink {
            f_port: Some(PORT),
            payload: payload.into(),
            confirmed: self.dice.chance(confirmed),
            link_check: self.dice.chance(ASKS),
            device_time: self.dice.chance(ASKS),
        }
    }

    fn plan_next(&mut self, now: Instant) {
        let Some(every) = &self.habits.every else { return };
        let pause = if self.device.is_activated() {
            self.dice.between(&every.0)
        } else {
            self.dice.between(&JOIN_AGAIN)
        };
        self.next = Some(now + pause);
    }

    /// Hears a frame begin.
    pub(super) fn hear(&mut self, frame: &OnAir, signal: Signal) {
        // Most frames are for others.
        let _ = self.device.handle_frame(frame, signal);
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
                DeviceEffect::Joined { dev_addr, .. } => {
                    self.outcomes.joined += 1;
                    self.record.note(&self.name, &format!("joined as {dev_addr}"));
                    if !self.is_probe {
                        self.record.joined(self.device.dev_eui());
                    }
                    self.plan_next(now);
                }
                DeviceEffect::JoinFailed => {
                    self.record.note(&self.name, "join failed");
                    self.plan_next(now);
                }
                DeviceEffect::Delivered(down) => {
                    self.outcomes.downlinks += 1;
                    self.record.note(&self.name, &format!("took down {}", down.fcnt));
                    self.record.arrived();
                }
                DeviceEffect::Done { fcnt, acked, heard } => {
                    self.outcomes.acknowledged += u32::from(acked);
                    self.record.count(|counts| counts.acknowledged += u32::from(acked));
                    let text = format!("done with up {fcnt}: acked {acked}, heard {heard}");
                    self.record.note(&self.name, &text);
                    self.plan_next(now);
                }
                other @ (DeviceEffect::Judged(_)
                | DeviceEffect::LinkCheck { .. }
                | DeviceEffect::Time { .. }) => {
                    self.record.note(&self.name, &format!("{other:?}"));
                }
            }
        }
        None
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
                let (join_eui, dev_eui, dev_nonce) = (self.join_eui, *dev_eui, *dev_nonce);
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

/// The region of a scenario, whose name was checked when it was read.
pub(super) fn region(scenario: &Scenario) -> &'static Region {
    Region::from_name(&scenario.nodes.region).unwrap_or(&lorawan::EU868)
}
