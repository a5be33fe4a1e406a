//! How one client behaves: drawn once, from a stream named after it.

use std::ops::Range;
use std::time::Duration;

use mqtt::{ClientConfig, Version};
use scenario::Scenario;

use super::Part;
use crate::dice::{Dice, Seed};

/// How long CONNACK, PINGRESP or a write may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a kept session outlives a connection, in seconds.
const SESSION_S: u32 = 86_400;
/// Keep-alives, in seconds: half-open connections are noticed within one and a half.
const KEEP_ALIVES_S: [u16; 3] = [5, 8, 15];
/// What 5.0 clients take unacknowledged, where they say so.
const RECEIVE_MAXIMA: [u16; 3] = [1, 3, 20];
/// For how long acknowledgements are held back.
const HELD_FOR: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(6);
/// Share of partings that are polite.
const POLITE: f64 = 0.5;
/// Share of the others that leave a connection open behind them.
const SILENT: f64 = 0.5;
/// Share of slow phases in which pings are sent all the same.
const PINGS: f64 = 0.5;

/// How a client parts from its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// DISCONNECT, then the end of the stream.
    Politely,
    /// The end of the stream.
    Abruptly,
    /// Nothing: the other end learns of it when it misses a ping, or by a newer connection.
    Silently,
}

/// How one client behaves.
#[derive(Debug)]
pub(super) struct Habits {
    /// It begins anew with each connection.
    pub(super) clean_start: bool,
    /// Its session outlives its connections.
    pub(super) persistent: bool,
    version: Version,
    keep_alive_s: u16,
    receive_maximum: Option<u16>,
    holds: f64,
    away_every: Option<Range<Duration>>,
    away_for: Range<Duration>,
    dice: Dice,
}

impl Habits {
    /// Those of the client number `place` (from 0): every other one speaks 3.1.1.
    pub(super) fn new(scenario: &Scenario, seed: Seed, place: u32, part: Part) -> Self {
        let mut dice = seed.stream(&format!("client app{}", place + 1));
        let clients = &scenario.clients;
        let keep_alive_s = KEEP_ALIVES_S[dice.index(KEEP_ALIVES_S.len())];
        let says_maximum = dice.chance(0.5);
        let maximum = RECEIVE_MAXIMA[dice.index(RECEIVE_MAXIMA.len())];
        let begins_anew = dice.chance(0.5);
        let (clean_start, persistent) = match part {
            Part::Listener => (false, true),
            Part::Onlooker { .. } => (true, false),
            // A 3.1.1 session either goes on or ends with its connection.
            Part::Publisher { .. } => (begins_anew, !begins_anew || place.is_multiple_of(2)),
        };
        Self {
            clean_start,
            persistent,
            version: if place.is_multiple_of(2) { Version::V5 } else { Version::V311 },
            keep_alive_s,
            receive_maximum: says_maximum.then_some(maximum),
            holds: if part == Part::Listener || persistent { clients.holds.0 } else { 0.0 },
            away_every: clients.away_every.as_ref().map(|range| range.0.clone()),
            away_for: clients.away_for.0.clone(),
            dice,
        }
    }

    /// CONNECT and the rest, for an account.
    pub(super) fn config(&self, name: &str, user: &str, password: &str) -> ClientConfig {
        let mut config = ClientConfig::new(self.version, name).account(user, password);
        if self.persistent {
            config = config.persistent(SESSION_S);
        }
        config.connect.clean_start = self.clean_start;
        config.connect.keep_alive_secs = self.keep_alive_s;
        if self.version == Version::V5 {
            config.connect.properties.receive_maximum = self.receive_maximum;
        }
        config.answer_timeout = PATIENCE;
        config.auto_acknowledge = false;
        config
    }

    /// Pause between two pings of a client that does nothing else.
    pub(super) fn ping_every(&self) -> Duration {
        Duration::from_secs(self.keep_alive_s.into()) * 3 / 4
    }

    /// How long the next acknowledgement is held back; most are not. Always as many draws.
    pub(super) fn hold(&mut self) -> Duration {
        let (holds, time) = (self.dice.chance(self.holds), self.dice.between(&HELD_FOR));
        if holds { time } else { Duration::ZERO }
    }

    /// How long it stays before it goes away of its own accord; `None`: for ever.
    pub(super) fn stay(&mut self) -> Option<Duration> {
        let every = self.away_every.as_ref()?;
        Some(self.dice.between(every))
    }

    /// How it parts, and for how long if it is of its own accord. Always as many draws.
    pub(super) fn part(&mut self) -> (Parting, Duration) {
        let (polite, silent) = (self.dice.chance(POLITE), self.dice.chance(SILENT));
        let pause = self.dice.between(&self.away_for);
        let parting = match (polite, silent) {
            (true, _) => Parting::Politely,
            (false, true) => Parting::Silently,
            (false, false) => Parting::Abruptly,
        };
        (parting, pause)
    }

    /// Whether it goes on pinging while it does not read.
    pub(super) fn pings_while_slow(&mut self) -> bool {
        self.dice.chance(PINGS)
    }
}
