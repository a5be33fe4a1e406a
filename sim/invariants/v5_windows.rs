//! V5, receive windows: an uplink that wants an answer, heard by a gateway that can reach the node,
//! is answered in RX1 or RX2 as long as nothing is wrong: the answer is in a gateway's hands, and
//! that gateway has taken it, before the window opens.
//!
//! Source: requirements, part G, V5: no fault in the last 5 s, no miss. Nothing is wrong when no
//! fault is in force or has ended within `bounds.calm`, the node has been running for as long, and
//! its disk keeps up ([`Fact::Stalled`]): where the disk alone is slow an answer may be missing,
//! but none may come too late. What a fault has laid in wait on a disk counts as wrong for
//! [`LIES_IN_WAIT`]. Each frame is decided when its windows have passed.
//!
//! * A gateway that says TOO_LATE or TOO_EARLY was given a wrong moment: a miss, even if another
//!   window was met.
//! * A gateway that is sending something else may send in the other window, or another gateway may.
//!   If none can, the air was full: told at the end, and no miss. RX2 is louder than some gateways
//!   can be: one that says TX_POWER has RX1 alone.
//! * Where datagrams get lost also without a fault, only what the node shows to have received (it
//!   has asked its log about it) from such a gateway must be answered, and an answer may not reach
//!   its gateway. That it knows the gateway it must have shown: a PULL_DATA with a bit turned is
//!   acknowledged too.
//! * A gateway whose PULL socket was moved to another node gets nothing until it has told that one
//!   where it is, and nobody can know: what it has heard meanwhile is not judged.
//! * Join-requests with a nonce that was used or does not rise are refused, frames of a device that
//!   has lost its counters too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lorawan::{
    DevAddr, DevEui, DevNonce, Direction, GatewayEui, JOIN_ACCEPT_DELAY1, JoinEui, RECEIVE_DELAY1,
    RX2_AFTER_RX1, Region, TxStatus,
};
use mac::Reception;
use scenario::FaultKind;
use store::Command;

use super::air::Air;
use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Order, Reading, Seen, Transmission};

/// From the end of an uplink to its last window: RX2 of data, and of a join.
const LAST_WINDOW: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];
/// A write that will find no space, an fsync that will fail, bits that have turned: how long the
/// node may take to meet them and to deal with them. A device's frame that somebody else has
/// repeated too often gets no answer any more: so long until its next one.
const LIES_IN_WAIT: Duration = Duration::from_secs(45);
/// A frame that waited for the disk is accepted when the disk is back: what repeats it within this
/// time is taken for a copy.
const COPIES: Duration = Duration::from_secs(1);
/// A gateway that was asked for something is known to the node for so long at least.
const PATH_LASTS: Duration = Duration::from_secs(30);
/// The longest answer that is expected here, in bytes; a shorter one may find a smaller gap.
const ANSWER_LEN_MAX: u8 = 48;
/// A frame is decided so long after its last window: a fault that is told late still counts.
const SETTLES_AFTER: Duration = Duration::from_secs(5);

/// Which frame: a device's reading, or its join-request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Data(Reading),
    Join(DevEui, DevNonce),
}

/// One transmission that was heard while nothing was wrong.
#[derive(Clone, Debug)]
struct Frame {
    key: Key,
    at: Duration,
    /// When its last window opens.
    until: Duration,
    /// The gateways that have heard it and can reach the node, each with its counter then.
    live: Vec<(GatewayEui, u32)>,
    /// Something went wrong before its windows had passed.
    disturbed: bool,
    /// The disk did not keep up before they had.
    slow: bool,
    /// The gateways that the node names when it asks its log about it, each with its counter.
    received: Vec<(GatewayEui, u32)>,
    /// Answers handed out, and what their gateways said.
    answers: Vec<(Order, Option<TxStatus>)>,
}

/// Watches V5.
#[derive(Debug, Default)]
pub struct Windows {
    rough: bool,
    calm: Duration,
    /// Faults in force.
    faults: BTreeMap<String, u32>,
    /// Until when something was wrong.
    wrong_until: Duration,
    stalled_until: Duration,
    /// Slow disks in force.
    slow_disks: u32,
    frames: VecDeque<Frame>,
    /// The highest counter each session has sent.
    highest: BTreeMap<(DevEui, DevAddr), (u32, Reading)>,
    /// What each device asked with last, the highest nonce before, and whether it may be accepted.
    joins: BTreeMap<DevEui, Asked>,
    nonces_rise: bool,
    region: Option<&'static Region>,
    air: Air,
    /// When each gateway was last asked for anything by the node that runs.
    asked_at: BTreeMap<GatewayEui, Duration>,
    /// Gateways that were moved to another node, which does not know them yet.
    moved: BTreeSet<GatewayEui>,
    met: u64,
    crowded: u64,
}

#[derive(Clone, Debug, Default)]
struct Asked {
    nonces: BTreeMap<(JoinEui, DevNonce), u32>,
    last: DevNonce,
    fresh: bool,
}

impl Windows {
    fn is_calm(&self, at: Duration) -> bool {
        self.faults.is_empty() && at >= self.wrong_until + self.calm
    }

    fn is_slow(&self, at: Duration) -> bool {
        self.slow_disks > 0 || at < self.stalled_until + COPIES
    }

    /// The disk does not keep up for a while.
    fn stall(&mut self, at: Duration, until: Duration) {
        self.stalled_until = self.stalled_until.max(until);
        let open = self.frames.iter_mut().filter(|frame| frame.until >= at);
        open.for_each(|frame| frame.slow = true);
    }

    fn slow_disk(&mut self, at: Duration, begins: bool) {
        self.slow_disks = self.slow_disks.saturating_add_signed(if begins { 1 } else { -1 });
        self.stall(at, at);
    }

    /// Something goes wrong: the frames whose windows have not passed are not judged.
    fn disturb(&mut self, at: Duration, until: Duration) {
        self.wrong_until = self.wrong_until.max(until);
        let open = self.frames.iter_mut().filter(|frame| frame.until >= at);
        open.for_each(|frame| frame.disturbed = true);
    }

    fn fault(&mut self, at: Duration, name: String, begins: bool) {
        if begins {
            *self.faults.entry(name).or_default() += 1;
        } else if let Some(count) = self.faults.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.faults.remove(&name);
            }
        }
        self.disturb(at, at);
    }

    fn sent(&mut self, reading: &Reading) {
        let session = (reading.device, reading.dev_addr);
        let known = self.highest.entry(session).or_insert((reading.f_cnt, reading.clone()));
        if reading.f_cnt > known.0 {
            *known = (reading.f_cnt, reading.clone());
        }
    }

    fn asked(&mut self, device: DevEui, join_eui: JoinEui, nonce: DevNonce) {
        let rises = self.nonces_rise;
        let asked = self.joins.entry(device).or_default();
        let used = asked.nonces.contains_key(&(join_eui, nonce));
        let higher = asked.nonces.keys().any(|(to, other)| *to == join_eui && *other >= nonce);
        *asked.nonces.entry((join_eui, nonce)).or_default() += 1;
        (asked.last, asked.fresh) = (nonce, !(used || rises && higher));
    }

    /// Which frame a gateway has heard; `None` if the server may refuse it.
    fn key(&self, device: DevEui, reading: Option<&Reading>) -> Option<Key> {
        match reading {
            Some(reading) => {
                let (_, last) = self.highest.get(&(device, reading.dev_addr))?;
                (last == reading).then(|| Key::Data(reading.clone()))
            }
            None => {
                let asked = self.joins.get(&device)?;
                asked.fresh.then_some(Key::Join(device, asked.last))
            }
        }
    }

    fn heard(&mut self, at: Duration, key: Key, live: Option<(GatewayEui, u32)>) {
        let open = self.frames.iter_mut().rev().take_while(|frame| frame.at == at);
        if let Some(frame) = open.into_iter().find(|frame| frame.key == key) {
            frame.live.extend(live);
            return;
        }
        let last = LAST_WINDOW[usize::from(matches!(key, Key::Join(..)))];
        let (disturbed, slow) = (!self.is_calm(at), self.is_slow(at));
        self.frames.push_back(Frame {
            key,
            at,
            until: at + last,
            live: live.into_iter().collect(),
            disturbed,
            slow,
            received: Vec::new(),
            answers: Vec::new(),
        });
    }

    /// A gateway was moved to another node: what was to go to it is lost.
    fn hopped(&mut self, at: Duration, gateway: GatewayEui) {
        self.asked_at.remove(&gateway);
        self.moved.insert(gateway);
        for frame in self.frames.iter_mut().filter(|frame| frame.until >= at) {
            let heard = frame.live.iter().chain(&frame.received);
            frame.disturbed |= heard.into_iter().any(|(other, _)| *other == gateway);
        }
    }

    /// Whether a gateway that has heard a frame is where nobody looks for it.
    fn is_lost(&mut self, gateway: GatewayEui, live: bool) -> bool {
        if live {
            self.moved.remove(&gateway);
        }
        self.moved.contains(&gateway)
    }

    fn open(&mut self, at: Duration, key: &Key) -> Option<&mut Frame> {
        self.frames.iter_mut().rev().find(|frame| frame.key == *key && frame.until >= at)
    }

    fn handed(&mut self, at: Duration, key: &Key, how: &Transmission) {
        self.asked_at.insert(how.gateway, at);
        if let Some(frame) = self.open(at, key) {
            frame.answers.push((how.order(), None));
        }
    }

    fn decided(&mut self, order: &Order, status: TxStatus) {
        for frame in self.frames.iter_mut().rev() {
            let mut answers = frame.answers.iter_mut();
            let open = |one: &&mut (Order, Option<TxStatus>)| one.0 == *order && one.1.is_none();
            if let Some(answer) = answers.find(open) {
                answer.1 = Some(status);
                return;
            }
        }
    }

    fn proposed(&mut self, at: Duration, command: &Command) {
        let open = self.frames.iter_mut().rev().filter(|frame| frame.until >= at);
        let named =
            open.into_iter().find_map(|frame| Some((receptions(&frame.key, command)?, frame)));
        if let Some((receptions, frame)) = named {
            let heard = receptions.iter().map(|one| (one.gateway, one.tmst));
            let (rough, asked_at) = (self.rough, &self.asked_at);
            frame.received.extend(heard.filter(|(gateway, _)| {
                !rough || asked_at.get(gateway).is_some_and(|then| at < *then + PATH_LASTS)
            }));
        }
    }

    /// Whether every gateway was sending something else in both windows: every one that the node
    /// can have heard it from.
    fn is_crowded(&self, frame: &Frame) -> bool {
        let Some(region) = self.region else { return false };
        let delay1 = match frame.key {
            Key::Data(_) => RECEIVE_DELAY1,
            Key::Join(..) => JOIN_ACCEPT_DELAY1,
        };
        let taken = |gateway: GatewayEui, tmst: u32, delay: Duration, dr: Option<u8>| {
            let Some(modulation) = dr.and_then(|dr| region.modulation(dr)) else { return true };
            let begin = tmst.wrapping_add(u32::try_from(delay.as_micros()).unwrap_or(u32::MAX));
            let airtime = lorawan::airtime(modulation, ANSWER_LEN_MAX, false);
            self.air.is_taken(gateway, begin, airtime, frame.until)
        };
        let heard = if self.rough { &frame.received } else { &frame.live };
        let crowded = |(gateway, tmst): &(GatewayEui, u32)| {
            let uplink = self.air.uplink(*gateway, *tmst);
            let dr = uplink.and_then(|modulation| region.dr_of(modulation, Direction::Up));
            let rx1 = dr.and_then(|dr| region.rx1_dr(dr, 0, false));
            let (rx2, later) = (Some(region.rx2_dr), delay1 + RX2_AFTER_RX1);
            let quieter = (*gateway, Some(TxStatus::TxPower));
            let too_loud = frame.answers.iter().any(|(order, said)| (order.1, *said) == quieter);
            let rx2_is_taken = too_loud || taken(*gateway, *tmst, later, rx2);
            taken(*gateway, *tmst, delay1, rx1) && rx2_is_taken
        };
        // Two gateways with one EUI are one to the node, which takes one counter for both.
        heard.iter().all(|(gateway, _)| {
            let mut same = heard.iter().filter(|(other, _)| other == gateway);
            same.any(crowded)
        })
    }

    /// Decides the frames whose windows passed long enough before `at`.
    fn settle(&mut self, at: Duration) -> Vec<String> {
        let mut misses = Vec::new();
        while self.frames.front().is_some_and(|frame| frame.until + SETTLES_AFTER <= at) {
            let Some(frame) = self.frames.pop_front() else { break };
            if frame.disturbed || frame.live.is_empty() {
                continue;
            }
            let wrong = frame.wrong_moment(self.rough);
            let verdict = || frame.verdict(self.rough, self.is_crowded(&frame));
            match wrong.unwrap_or_else(|| if frame.slow { Verdict::Unknown } else { verdict() }) {
                Verdict::Met => self.met += 1,
                Verdict::Crowded => self.crowded += 1,
                Verdict::Unknown => {}
                Verdict::Missed(why) => {
                    let (at, key) = (frame.at.as_secs_f64(), &frame.key);
                    misses.push(format!("{why}: {key:?}, heard at {at:.6}s in calm"));
                }
            }
        }
        misses
    }
}

/// Who has heard a frame, if a command is about that one.
fn receptions<'a>(key: &Key, command: &'a Command) -> Option<&'a [Reception]> {
    match (key, command) {
        (Key::Data(reading), Command::AcceptUplink(uplink)) => {
            let (device, f_cnt) = (uplink.dev_eui, uplink.f_cnt);
            let same =
                (reading.device, reading.f_cnt, &reading.payload) == (device, f_cnt, &uplink.data);
            same.then_some(&uplink.receptions)
        }
        (Key::Join(device, nonce), Command::AcceptJoin(join)) => {
            let same = (*device, *nonce) == (join.dev_eui, join.dev_nonce);
            same.then_some(&join.receptions)
        }
        (Key::Data(_) | Key::Join(..), _) => None,
    }
}

enum Verdict {
    Met,
    /// Every gateway that was asked was sending something else.
    Crowded,
    /// Lost on the way, as datagrams here are.
    Unknown,
    Missed(String),
}

impl Frame {
    fn said(&self, status: TxStatus) -> bool {
        self.answers.iter().any(|(_, said)| *said == Some(status))
    }

    /// A gateway was asked at a moment that was none, though its datagrams do not get lost.
    fn wrong_moment(&self, rough: bool) -> Option<Verdict> {
        let wrong = !rough && (self.said(TxStatus::TooLate) || self.said(TxStatus::TooEarly));
        wrong.then(|| Verdict::Missed(format!("a gateway says {:?}", self.answers)))
    }

    fn verdict(&self, rough: bool, crowded: bool) -> Verdict {
        if self.said(TxStatus::Ok) {
            return Verdict::Met;
        }
        if self.said(TxStatus::CollisionPacket) {
            return if rough { Verdict::Unknown } else { Verdict::Crowded };
        }
        // What was asked for was refused, and nothing else is free.
        let received = self.received.iter().any(|(gateway, _)| {
            let mut live = self.live.iter();
            live.any(|(other, _)| other == gateway)
        });
        if crowded && (received || !rough) {
            return Verdict::Crowded;
        }
        match (rough, self.answers.is_empty(), received) {
            (true, false, _) | (true, true, false) => Verdict::Unknown,
            (true, true, true) => {
                Verdict::Missed("received, and no gateway was given an answer".to_owned())
            }
            (false, true, _) => Verdict::Missed("no gateway was given an answer".to_owned()),
            (false, false, _) => Verdict::Missed(format!("no gateway took {:?}", self.answers)),
        }
    }
}

impl Invariant for Windows {
    fn name(&self) -> &'static str {
        "V5"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        let at = seen.at;
        self.air.observe(seen);
        #[expect(clippy::wildcard_enum_match_arm, reason = "what answers, and what disturbs")]
        match &seen.fact {
            Fact::Begins(setting) => {
                self.rough = setting.rough;
                self.region = Some(setting.region);
                self.calm = setting.calm;
                self.nonces_rise = setting.nonces_rise;
            }
            Fact::UplinkSent { reading, .. } => self.sent(reading),
            Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } => {
                self.asked(*dev_eui, *join_eui, *dev_nonce);
            }
            Fact::Heard { gateway, tmst, device, reading, wants_answer: true, live } => {
                let lost = self.is_lost(*gateway, *live);
                if let Some(key) = self.key(*device, reading.as_ref()) {
                    self.heard(at, key.clone(), live.then_some((*gateway, *tmst)));
                    if let Some(frame) = self.open(at, &key).filter(|_| lost) {
                        frame.disturbed = true;
                    }
                }
            }
            Fact::Logged { proposals, .. } => {
                proposals.iter().for_each(|one| self.proposed(at, &one.command));
            }
            Fact::DownlinkHanded { how, acknowledges: Some(reading), .. } => {
                self.handed(at, &Key::Data(reading.clone()), how);
            }
            Fact::JoinAcceptHanded { how, dev_eui, dev_nonce, .. } => {
                self.handed(at, &Key::Join(*dev_eui, *dev_nonce), how);
            }
            Fact::Decided { order, status } => self.decided(order, *status),
            Fact::Fault { kind: FaultKind::SlowDisk, begins, .. } => self.slow_disk(at, *begins),
            Fact::Fault { kind, target, begins } => {
                self.fault(at, format!("{kind} {target}"), *begins);
                if let FaultKind::WriteError
                | FaultKind::FsyncError
                | FaultKind::MisdirectedWrite
                | FaultKind::BitRot
                | FaultKind::Replay = kind
                {
                    self.disturb(at, at + LIES_IN_WAIT);
                }
            }
            Fact::Stalled { until, .. } => self.stall(at, *until),
            Fact::Hopped { gateway } => self.hopped(at, *gateway),
            Fact::Started { .. } => {
                self.asked_at.clear();
                self.disturb(at, at);
            }
            Fact::Down { .. }
            | Fact::DiskLost { .. }
            | Fact::CounterReset { .. }
            | Fact::Rebooted { .. }
            | Fact::Calm => self.disturb(at, at),
            Fact::Ended { .. } => {
                let misses = self.settle(Duration::MAX);
                return misses.into_iter().map(|text| violation("V5", seen, text)).collect();
            }
            _ => {}
        }
        self.settle(at).into_iter().map(|text| violation("V5", seen, text)).collect()
    }

    fn closing(&self) -> Option<String> {
        let Self { met, crowded, .. } = self;
        Some(format!("{met} windows met in calm, {crowded} lost to full air"))
    }
}

#[cfg(test)]
mod tests;
