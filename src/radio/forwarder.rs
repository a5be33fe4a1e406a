//! A packet forwarder as lora_pkt_fwd 4.0.1 behaves: two sockets, a 32-bit counter, a queue.
//!
//! Drive it: [`Forwarder::start`], then [`Forwarder::handle_frame`] when a frame it hears *ends*,
//! [`Forwarder::handle_datagram`] for what its sockets receive, [`Forwarder::handle_timeout`] when
//! [`Forwarder::poll_timeout`] is due; after each, drain [`Forwarder::poll_effect`]. It does
//! nothing before its start and after [`Forwarder::stop`]. Source: PROTOCOL.TXT §2-§6, and what the
//! reference forwarder was seen to do.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use clock::{Duration, Instant};
use gateway::semtech::{
    Downward, Head, PushData, Rxpk, Stat, TxReply, TxTiming, Txpk, Version, encode_pull_data,
    parse_downward,
};
use lorawan::{CrcStatus, GatewayEui, TxStatus};

use crate::air::{OnAir, Signal, airtime};
use crate::chance::Chance;
use crate::faults::{FaultDice, Faults};
use crate::jit::JitQueue;

/// Most frames in one PUSH_DATA.
const FRAMES_PER_PUSH_MAX: usize = 8;
/// How often the reference forwarder asks its concentrator for frames.
const FETCH_INTERVAL: Duration = Duration::from_millis(10);
/// Frames that wait for the next fetch; a concentrator's buffer is small too.
const HEARD_MAX: usize = 64;
/// TX_ACK that wait because of [`Faults::ack_delay`].
const DELAYED_MAX: usize = 64;
/// Frames that wait to be forwarded once more; what comes on top is forwarded once.
const AGAIN_MAX: usize = 4_096;

/// Which of its two sockets: they have different source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// PUSH_DATA and PUSH_ACK.
    Up,
    /// PULL_DATA, PULL_ACK, PULL_RESP and TX_ACK.
    Down,
}

/// One gateway's settings.
#[derive(Clone, Debug)]
pub struct ForwarderConfig {
    /// Its EUI.
    pub gateway: GatewayEui,
    /// Between two PULL_DATA.
    pub keepalive: Duration,
    /// Between two `stat` messages.
    pub stat_interval: Duration,
    /// What the concentrator's counter shows at [`Instant::ZERO`], in microseconds.
    pub counter_at_zero: u32,
    /// The powers its radio can make, in dBm at the connector.
    pub powers_dbm: Vec<i8>,
    /// Antenna gain in dBi that the forwarder itself takes off `powe`, as its configuration says.
    pub antenna_gain_db: i8,
    /// Lowest frequency its radio sends on, in hertz.
    pub tx_min_hz: u32,
    /// Highest frequency its radio sends on, in hertz.
    pub tx_max_hz: u32,
    /// Decides tokens and which faults strike.
    pub seed: [u8; 32],
}

impl ForwarderConfig {
    /// A gateway for any region, with the powers and intervals of the reference configuration.
    pub fn new(gateway: GatewayEui, seed: [u8; 32]) -> Self {
        Self {
            gateway,
            keepalive: Duration::from_secs(10),
            stat_interval: Duration::from_secs(30),
            counter_at_zero: 0,
            powers_dbm: vec![-6, -3, 0, 3, 6, 10, 11, 12, 13, 14, 16, 20, 23, 25, 26, 27],
            antenna_gain_db: 0,
            tx_min_hz: 100_000_000,
            tx_max_hz: 2_600_000_000,
            seed,
        }
    }
}

/// What a forwarder does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwarderEffect {
    /// Bytes for the server.
    Send {
        /// From which socket.
        socket: Socket,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// A frame begins at its [`OnAir::starts_at`], which is now unless this is late.
    Radiate(OnAir),
    /// What it decided about a PULL_RESP, told to whoever watches, TX_ACK lost or not.
    Decided {
        /// The token.
        token: u16,
        /// What the TX_ACK says, or would.
        status: TxStatus,
    },
    /// A datagram it dropped without a word, as the reference forwarder does.
    Dropped {
        /// Why.
        why: &'static str,
    },
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwarderCounts {
    /// Frames heard.
    pub heard: u32,
    /// Frames forwarded.
    pub forwarded: u32,
    /// PUSH_DATA sent.
    pub pushes: u32,
    /// PUSH_DATA acknowledged.
    pub push_acks: u32,
    /// PULL_DATA sent.
    pub pulls: u32,
    /// PULL_DATA acknowledged.
    pub pull_acks: u32,
    /// PULL_RESP received.
    pub downlinks: u32,
    /// Frames sent.
    pub radiated: u32,
}

/// A packet forwarder. See the module's head for how to drive it.
#[derive(Clone, Debug)]
pub struct Forwarder {
    config: ForwarderConfig,
    faults: FaultDice,
    chance: Chance,
    counts: ForwarderCounts,
    queue: JitQueue,
    heard: Vec<Rxpk>,
    delayed: VecDeque<(Instant, Vec<u8>)>,
    /// Frames to be forwarded once more, by moment and order.
    again: BTreeMap<(Instant, u64), Rxpk>,
    again_number: u64,
    /// When the counter showed `config.counter_at_zero`.
    counter_origin: Instant,
    push_token: Option<u16>,
    pull_token: Option<u16>,
    pull_acked_at: Option<Instant>,
    next_fetch: Option<Instant>,
    next_pull: Option<Instant>,
    next_stat: Option<Instant>,
    effects: VecDeque<ForwarderEffect>,
}

impl Forwarder {
    /// A forwarder that is switched off until [`Self::start`].
    pub fn new(config: ForwarderConfig) -> Self {
        Self {
            chance: Chance::new(config.seed),
            faults: FaultDice::new(config.seed),
            config,
            counts: ForwarderCounts::default(),
            queue: JitQueue::default(),
            heard: Vec::new(),
            delayed: VecDeque::new(),
            again: BTreeMap::new(),
            again_number: 0,
            counter_origin: Instant::ZERO,
            push_token: None,
            pull_token: None,
            pull_acked_at: None,
            next_fetch: None,
            next_pull: None,
            next_stat: None,
            effects: VecDeque::new(),
        }
    }

    /// Switches it on: the first PULL_DATA goes out at once, before any PUSH_DATA.
    pub fn start(&mut self, now: Instant) {
        self.next_stat = Some(now + self.config.stat_interval);
        self.pull(now);
    }

    /// Switches it off: what it had queued, heard or was about to say is lost.
    pub fn stop(&mut self) {
        self.queue.clear();
        self.heard.clear();
        self.delayed.clear();
        self.again.clear();
        self.effects.clear();
        self.counts = ForwarderCounts::default();
        (self.push_token, self.pull_token, self.pull_acked_at) = (None, None, None);
        (self.next_fetch, self.next_pull, self.next_stat) = (None, None, None);
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.next_pull.is_some()
    }

    /// When its latest PULL_DATA was acknowledged, or the one before it; `None` if none was since
    /// the start.
    pub fn pull_acked_at(&self) -> Option<Instant> {
        self.pull_acked_at
    }

    /// Between two PULL_DATA.
    pub fn keepalive(&self) -> Duration {
        self.config.keepalive
    }

    /// What goes wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults.faults = faults;
    }

    /// The concentrator starts anew: its counter shows `counter`, its queue is empty.
    pub fn reset_counter(&mut self, now: Instant, counter: u32) {
        self.counter_origin = now;
        self.config.counter_at_zero = counter;
        self.queue.clear();
    }

    /// The concentrator's counter, in microseconds; wraps every 71.6 minutes.
    pub fn counter(&self, now: Instant) -> u32 {
        let elapsed = now.since(self.counter_origin).as_micros() % (1 << 32);
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        self.config.counter_at_zero.wrapping_add(elapsed)
    }

    /// What has happened since the start.
    pub fn counts(&self) -> ForwarderCounts {
        self.counts
    }

    /// Its EUI.
    pub fn gateway(&self) -> GatewayEui {
        self.config.gateway
    }

    /// Has heard a frame to its end. Its `tmst` is that of [`OnAir::ends_at`], even if whoever
    /// carries frames in real time is a little late.
    ///
    /// * Another gateway's downlink is not heard: its polarity is inverted.
    pub fn handle_frame(&mut self, now: Instant, frame: &OnAir, signal: Signal) {
        if !self.is_on() || frame.inverted_polarity || self.heard.len() >= HEARD_MAX {
            return;
        }
        self.counts.heard = self.counts.heard.wrapping_add(1);
        self.heard.push(self.rxpk(frame, signal));
        if self.next_fetch.is_none() {
            self.next_fetch = Some(now + FETCH_INTERVAL);
        }
    }

    /// Forwards a frame that it has just heard once more at `at`, in a PUSH_DATA of its own and
    /// with the `tmst` of its hearing: a way back that buffers, and forgets that it has delivered.
    pub fn forward_again(&mut self, frame: &OnAir, signal: Signal, at: Instant) {
        if self.is_on() && !frame.inverted_polarity && self.again.len() < AGAIN_MAX {
            self.again_number += 1;
            self.again.insert((at, self.again_number), self.rxpk(frame, signal));
        }
    }

    /// Receives a datagram of the server.
    pub fn handle_datagram(&mut self, now: Instant, socket: Socket, datagram: &[u8]) {
        if !self.is_on() {
            return;
        }
        if datagram.first() != Some(&Version::V2.to_byte()) {
            return self.drop("version");
        }
        match (parse_downward(datagram), socket) {
            (Ok(Downward::PushAck { token }), Socket::Up) if self.push_token == Some(token) => {
                self.push_token = None;
                self.counts.push_acks += 1;
            }
            (Ok(Downward::PullAck { token }), Socket::Down) if self.pull_token == Some(token) => {
                self.pull_token = None;
                self.pull_acked_at = Some(now);
                self.counts.pull_acks += 1;
            }
            (Ok(Downward::PullResp { token, txpk }), Socket::Down) => {
                self.counts.downlinks += 1;
                self.handle_txpk(now, token, &txpk);
            }
            (Ok(_), Socket::Up | Socket::Down) => self.drop("unexpected"),
            // Bad JSON or a field missing: a line in its log, no TX_ACK.
            (Err(error), Socket::Up | Socket::Down) => self.drop(error.reason()),
        }
    }

    /// The next thing it does, until `None`.
    pub fn poll_effect(&mut self) -> Option<ForwarderEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let transmission = self
            .queue
            .next_in_us(self.counter(now))
            .map(|micros| now + Duration::from_micros(u64::from(micros)));
        let delayed = self.delayed.iter().map(|(at, _)| *at).min();
        let again = self.again.keys().next().map(|(at, _)| *at);
        [
            (transmission, "transmission"),
            (delayed, "tx_ack"),
            (self.next_fetch, "fetch"),
            (again, "second forwarding"),
            (self.next_pull, "keepalive"),
            (self.next_stat, "stat"),
        ]
        .into_iter()
        .filter_map(|(at, why)| at.map(|at| (at, why)))
        .min_by_key(|(at, _)| *at)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(queued) = self.queue.due(self.counter(now)) {
            self.counts.radiated = self.counts.radiated.wrapping_add(1);
            // The radio was loaded in time and keeps its moment, however late this call is.
            let late_us = self.counter(now).wrapping_sub(queued.tmst);
            let starts_at = now.saturating_sub(Duration::from_micros(u64::from(late_us)));
            let frame = OnAir { starts_at, ..queued.frame };
            self.effects.push_back(ForwarderEffect::Radiate(frame));
        }
        while let Some(position) = self.delayed.iter().position(|(at, _)| *at <= now) {
            let bytes = self.delayed.remove(position).map(|(_, bytes)| bytes).unwrap_or_default();
            self.send(Socket::Down, bytes);
        }
        if self.next_pull.is_some_and(|at| at <= now) {
            self.pull(now);
        }
        let stat_due = self.next_stat.is_some_and(|at| at <= now);
        if stat_due {
            self.next_stat = Some(now + self.config.stat_interval);
        }
        if self.next_fetch.is_some_and(|at| at <= now) {
            self.next_fetch = None;
            let heard = core::mem::take(&mut self.heard);
            for frames in heard.chunks(FRAMES_PER_PUSH_MAX) {
                self.counts.forwarded =
                    self.counts.forwarded.wrapping_add(u32::try_from(frames.len()).unwrap_or(0));
                self.push(frames.to_vec(), None);
            }
        }
        while let Some(first) = self.again.first_entry().filter(|first| first.key().0 <= now) {
            let rxpk = first.remove();
            self.push(vec![rxpk], None);
        }
        if stat_due {
            let stat = self.stat();
            self.push(Vec::new(), Some(stat));
        }
    }

    fn rxpk(&self, frame: &OnAir, signal: Signal) -> Rxpk {
        Rxpk {
            phy_payload: frame.phy_payload.clone(),
            gateway_time: None,
            gps_time: None,
            frequency_hz: frame.frequency_hz,
            modulation: frame.modulation,
            rssi_dbm: signal.rssi_dbm,
            snr_ddb: signal.snr_ddb,
            channel: 0,
            rf_chain: 0,
            antenna: 0,
            tmst: self.counter(frame.ends_at()),
            crc: CrcStatus::Ok,
        }
    }

    fn drop(&mut self, why: &'static str) {
        self.effects.push_back(ForwarderEffect::Dropped { why });
    }

    fn send(&mut self, socket: Socket, bytes: Vec<u8>) {
        self.effects.push_back(ForwarderEffect::Send { socket, bytes });
    }

    fn head(&self, token: u16) -> Head {
        Head { version: Version::V2, token, gateway: self.config.gateway }
    }

    fn pull(&mut self, now: Instant) {
        let token = self.chance.u16();
        self.pull_token = Some(token);
        self.next_pull = Some(now + self.config.keepalive);
        self.counts.pulls += 1;
        self.send(Socket::Down, encode_pull_data(self.head(token)));
    }

    fn push(&mut self, rxpks: Vec<Rxpk>, stat: Option<Stat>) {
        let token = self.chance.u16();
        self.push_token = Some(token);
        self.counts.pushes += 1;
        let push = PushData { rxpks, stat, ..PushData::default() };
        self.send(Socket::Up, push.encode(self.head(token)));
    }

    fn stat(&self) -> Stat {
        let counts = self.counts;
        let permille = (u64::from(counts.push_acks) * 1_000)
            .checked_div(u64::from(counts.pushes))
            .unwrap_or(0);
        Stat {
            rx_received: Some(counts.heard),
            rx_ok: Some(counts.heard),
            rx_forwarded: Some(counts.forwarded),
            acknowledged_permille: u16::try_from(permille).ok(),
            downlinks_received: Some(counts.downlinks),
            tx_sent: Some(counts.radiated),
            ..Stat::default()
        }
    }

    fn handle_txpk(&mut self, now: Instant, token: u16, txpk: &Txpk) {
        let blow = self.faults.strike();
        let status =
            blow.refused.unwrap_or_else(|| self.schedule(now, txpk).err().unwrap_or(TxStatus::Ok));
        self.effects.push_back(ForwarderEffect::Decided { token, status });
        if blow.ack_lost {
            return;
        }
        let reply = TxReply { status, power_used_dbm: None };
        let bytes = reply.encode(self.head(token));
        if blow.ack_delay.is_zero() {
            self.send(Socket::Down, bytes);
        } else if self.delayed.len() < DELAYED_MAX {
            self.delayed.push_back((now + blow.ack_delay, bytes));
        }
    }

    /// Checks in the order of the reference forwarder: time, frequency, power, queue.
    fn schedule(&mut self, now: Instant, txpk: &Txpk) -> Result<(), TxStatus> {
        let tmst = match txpk.timing {
            TxTiming::Immediately => None,
            TxTiming::Counter(tmst) => Some(tmst),
            TxTiming::Gps(_) => return Err(TxStatus::GpsUnlocked),
        };
        if !(self.config.tx_min_hz..=self.config.tx_max_hz).contains(&txpk.frequency_hz) {
            return Err(TxStatus::TxFreq);
        }
        let power_dbm = txpk.power_dbm.saturating_sub(self.config.antenna_gain_db);
        if !self.config.powers_dbm.contains(&power_dbm) {
            return Err(TxStatus::TxPower);
        }
        let len = u8::try_from(txpk.phy_payload.len()).unwrap_or(u8::MAX);
        let frame = OnAir {
            phy_payload: Bytes::clone(&txpk.phy_payload),
            frequency_hz: txpk.frequency_hz,
            modulation: txpk.modulation,
            inverted_polarity: txpk.inverted_polarity,
            eirp_dbm: txpk.power_dbm,
            starts_at: now,
            airtime: airtime(txpk.modulation, len, !txpk.no_crc),
        };
        self.queue.enqueue(self.counter(now), tmst, frame).map(|_| ())
    }
}
