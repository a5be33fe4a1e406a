//! Draws a run while it goes on: lines become marks, frames become arrows, faults shaded spans.
//!
//! It listens where the trace is written and moves nothing. A frame's arrow leaves when its device
//! sends it and is settled by what the world sees later: heard by a gateway, in the event log, or
//! known already.

use std::collections::BTreeMap;
use std::time::Duration;

use lorawan::{DevEui, GatewayEui, TxStatus};
use scenario::{FaultKind, Scenario};

use super::report::Report;
use crate::invariants::Violation;
use crate::marks::Mark;
use crate::oracle::{Answer, Fact, Judgement, Order, Reading, Transmission};
use crate::picture::{
    Arrow, ArrowId, EventKind, Header, LaneId, LaneKind, Outcome, Picture, PictureBuilder, SpanId,
    SpanKind, Verdict,
};

/// Frames that wait to be settled; older ones stay as they are.
const OPEN_MAX: usize = 20_000;

/// Draws one run.
#[derive(Debug)]
pub(super) struct Painter {
    builder: PictureBuilder,
    devices: BTreeMap<DevEui, LaneId>,
    gateways: BTreeMap<GatewayEui, LaneId>,
    /// When each reading was last sent.
    sent: BTreeMap<Reading, Duration>,
    /// Arrows of a reading to gateways.
    heard: BTreeMap<Reading, Vec<ArrowId>>,
    accepted: BTreeMap<Reading, Duration>,
    /// Arrows of downlinks to gateways.
    handed: BTreeMap<Order, ArrowId>,
    /// The node that each client speaks to.
    nodes: BTreeMap<LaneId, LaneId>,
    spans: BTreeMap<(FaultKind, String), Vec<SpanId>>,
    phase: SpanId,
}

/// What a name in the trace stands for.
fn kind_of(name: &str) -> LaneKind {
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "n" => LaneKind::Node,
        "gw" => LaneKind::Gateway,
        "dev" | "probe" => LaneKind::Device,
        "app" | "oper" | "caller" | "pub" => LaneKind::Client,
        "adversary" => LaneKind::Adversary,
        _ => LaneKind::World,
    }
}

fn span_of(kind: FaultKind) -> SpanKind {
    match kind {
        FaultKind::PowerCut | FaultKind::WipeDisk | FaultKind::CloneDisk => SpanKind::PowerCut,
        FaultKind::Kill | FaultKind::Stop | FaultKind::Leave | FaultKind::Remove => SpanKind::Kill,
        FaultKind::Pause => SpanKind::Pause,
        FaultKind::FsyncError
        | FaultKind::DiskFull
        | FaultKind::WriteError
        | FaultKind::BitRot
        | FaultKind::MisdirectedWrite
        | FaultKind::SlowDisk => SpanKind::Disk,
        FaultKind::ClockJump | FaultKind::ClockDrift => SpanKind::Clock,
        FaultKind::Cut
        | FaultKind::Noise
        | FaultKind::ResetStreams
        | FaultKind::StallStreams
        | FaultKind::Partition => SpanKind::Link,
        FaultKind::GatewayOff
        | FaultKind::CounterReset
        | FaultKind::Hop
        | FaultKind::LateCopies
        | FaultKind::TxAckLost
        | FaultKind::TxAckLate
        | FaultKind::TxRefused
        | FaultKind::Reboot
        | FaultKind::JoinStorm
        | FaultKind::ClientAway
        | FaultKind::SlowClient
        | FaultKind::Replay
        | FaultKind::BitFlips
        | FaultKind::ForgedGateways
        | FaultKind::JoinFlood
        | FaultKind::Malformed => SpanKind::Fault,
    }
}

/// Whether a fault of this kind strikes once, and is over at once.
fn is_a_moment(kind: FaultKind) -> bool {
    let (needed, allowed) = kind.keys();
    !needed.iter().chain(allowed).any(|key| *key == scenario::Key::Lasts)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a fact without a mark of its own is a note")]
fn event_of(fact: &Fact) -> EventKind {
    match fact {
        Fact::JoinRequestSent { .. } | Fact::JoinAcceptHanded { .. } | Fact::Activated { .. } => {
            EventKind::Join
        }
        Fact::UplinkSent { .. } | Fact::Heard { .. } | Fact::Accepted { .. } => EventKind::Uplink,
        Fact::DownlinkHanded { acknowledges: Some(_), .. } => EventKind::Ack,
        Fact::DownlinkHanded { .. } | Fact::Decided { .. } | Fact::Judged { .. } => {
            EventKind::Downlink
        }
        Fact::Arrived { .. } => EventKind::Downlink,
        Fact::Queued { .. } | Fact::Cancelled { .. } => EventKind::Api,
        Fact::Delivered { .. }
        | Fact::Connected { .. }
        | Fact::Disconnected { .. }
        | Fact::Subscribed { .. }
        | Fact::Published { .. }
        | Fact::Received { .. } => EventKind::Mqtt,
        Fact::Logged { .. } => EventKind::Raft,
        Fact::Fault { .. }
        | Fact::Started { .. }
        | Fact::Down { .. }
        | Fact::DiskLost { .. }
        | Fact::CounterReset { .. }
        | Fact::Hopped { .. }
        | Fact::Rebooted { .. } => EventKind::Fault,
        _ => EventKind::Note,
    }
}

impl Painter {
    pub(super) fn new() -> Self {
        let mut builder = PictureBuilder::new();
        let phase = builder.span(Duration::ZERO, SpanKind::Phase, &[], "setup");
        Self {
            builder,
            devices: BTreeMap::new(),
            gateways: BTreeMap::new(),
            sent: BTreeMap::new(),
            heard: BTreeMap::new(),
            accepted: BTreeMap::new(),
            handed: BTreeMap::new(),
            nodes: BTreeMap::new(),
            spans: BTreeMap::new(),
            phase,
        }
    }

    fn lane(&mut self, name: &str) -> LaneId {
        self.builder.lane(name, kind_of(name))
    }

    /// A line that is no fact.
    pub(super) fn note(&mut self, at: Duration, lane: &str, text: &str) {
        let lane = self.lane(lane);
        let kind = if text.starts_with("unmet: ") { EventKind::Unmet } else { EventKind::Note };
        self.builder.event(at, lane, kind, text);
    }

    /// A promise that did not hold.
    pub(super) fn violation(&mut self, violation: &Violation) {
        let lane = self.lane("world");
        let text = violation.to_string();
        self.builder.event(violation.at, lane, EventKind::Violation, &text);
        self.builder.violation(violation.at, violation.invariant, &[], &violation.text);
    }

    /// The workload begins, or all faults are over.
    fn phase(&mut self, at: Duration, name: &str) {
        self.builder.span_ends(self.phase, at);
        self.phase = self.builder.span(at, SpanKind::Phase, &[], name);
    }

    /// A fact, with its line and whose it is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no arrow")]
    pub(super) fn fact(&mut self, at: Duration, lane_name: &str, text: &str, fact: &Fact) {
        let lane = self.lane(lane_name);
        self.builder.event(at, lane, event_of(fact), text);
        match fact {
            Fact::UplinkSent { reading, .. } => {
                self.devices.insert(reading.device, lane);
                self.sent.insert(reading.clone(), at);
            }
            Fact::JoinRequestSent { dev_eui, .. } => {
                self.devices.insert(*dev_eui, lane);
            }
            Fact::Heard { gateway, device, reading, .. } => {
                self.gateways.insert(*gateway, lane);
                self.heard(at, lane, *device, reading.as_ref());
            }
            Fact::Accepted { event, .. } => self.accepted(at, &event.reading),
            Fact::DownlinkHanded { how, f_cnt, acknowledges, .. } => {
                let label = format!("down {f_cnt}");
                let label = if acknowledges.is_some() { label + " ack" } else { label };
                self.handed(at, lane, how, &label, text);
            }
            Fact::JoinAcceptHanded { how, .. } => self.handed(at, lane, how, "join-accept", text),
            Fact::Decided { order, status } => self.decided(at, order, *status),
            Fact::Judged { device, judgement, .. } => self.judged(at, *device, *judgement, text),
            Fact::Delivered { event, .. } => {
                let label = format!("up {}", event.reading.f_cnt);
                self.message(at, lane, &label, text);
            }
            Fact::Received { message, .. } => self.message(at, lane, &message.topic, text),
            Fact::Queued { node, answer, .. } => self.call(at, lane, node, *answer, text),
            Fact::Connecting { node, .. } => {
                let node = self.lane(node);
                self.nodes.insert(lane, node);
            }
            Fact::Fault { kind, target, begins } => self.fault(at, *kind, target, *begins),
            Fact::Calm => self.phase(at, "rest"),
            _ => {}
        }
    }

    /// The workload begins.
    pub(super) fn begins(&mut self, at: Duration) {
        self.phase(at, "faults");
    }

    fn heard(&mut self, at: Duration, to: LaneId, device: DevEui, reading: Option<&Reading>) {
        let Some(&from) = self.devices.get(&device) else { return };
        let sent_at = reading.and_then(|reading| self.sent.get(reading)).copied().unwrap_or(at);
        let label =
            reading.map_or_else(|| "join-request".to_owned(), |one| format!("up {}", one.f_cnt));
        let arrow = self.builder.arrow(Arrow {
            from,
            to,
            sent_at: sent_at.min(at),
            arrived_at: Some(at),
            verdict: Verdict::Info,
            label,
            detail: "heard".to_owned(),
        });
        let Some(reading) = reading else { return };
        if self.accepted.contains_key(reading) {
            let detail = "heard again: it is in the event log already";
            self.builder.settle(arrow, None, Verdict::Duplicate, detail);
        } else {
            let arrows = self.heard.entry(reading.clone()).or_default();
            arrows.push(arrow);
        }
        while self.heard.len() > OPEN_MAX {
            self.heard.pop_first();
        }
    }

    fn accepted(&mut self, at: Duration, reading: &Reading) {
        self.accepted.entry(reading.clone()).or_insert(at);
        for arrow in self.heard.remove(reading).unwrap_or_default() {
            self.builder.settle(arrow, None, Verdict::Accepted, "in the event log");
        }
    }

    fn handed(&mut self, at: Duration, from: LaneId, how: &Transmission, label: &str, text: &str) {
        let Some(&to) = self.gateways.get(&how.gateway) else { return };
        let mhz = f64::from(how.frequency_hz) / 1e6;
        let arrow = self.builder.arrow(Arrow {
            from,
            to,
            sent_at: at,
            arrived_at: None,
            verdict: Verdict::Info,
            label: label.to_owned(),
            detail: format!("{text}; {mhz} MHz, {} dBm", how.power_dbm),
        });
        self.handed.insert(how.order(), arrow);
    }

    fn decided(&mut self, at: Duration, order: &Order, status: TxStatus) {
        let Some(arrow) = self.handed.remove(order) else { return };
        let verdict = match status {
            TxStatus::Ok => Verdict::Accepted,
            TxStatus::TooLate => Verdict::TooLate,
            TxStatus::TooEarly
            | TxStatus::CollisionPacket
            | TxStatus::CollisionBeacon
            | TxStatus::TxFreq
            | TxStatus::TxPower
            | TxStatus::GpsUnlocked
            | TxStatus::QueueFull
            | TxStatus::InternalError => Verdict::Refused,
        };
        self.builder.settle(arrow, Some(at), verdict, "");
    }

    /// A frame that a device has heard to its end, from whichever gateway sent it.
    fn judged(&mut self, at: Duration, device: DevEui, judgement: Judgement, text: &str) {
        let Some(&lane) = self.devices.get(&device) else { return };
        if judgement == Judgement::Counter {
            self.builder.event(at, lane, EventKind::Fault, text);
        }
    }

    /// A message that reached a client.
    fn message(&mut self, at: Duration, to: LaneId, label: &str, text: &str) {
        let Some(&from) = self.nodes.get(&to) else { return };
        self.builder.arrow(Arrow {
            from,
            to,
            sent_at: at,
            arrived_at: Some(at),
            verdict: Verdict::Accepted,
            label: label.to_owned(),
            detail: text.to_owned(),
        });
    }

    /// A call that has ended.
    fn call(&mut self, at: Duration, from: LaneId, node: &str, answer: Answer, text: &str) {
        let to = self.lane(node);
        let verdict = match answer {
            Answer::Done => Verdict::Accepted,
            Answer::Refused => Verdict::Refused,
            Answer::Unknown => Verdict::Lost,
        };
        let arrived_at = (answer != Answer::Unknown).then_some(at);
        self.builder.arrow(Arrow {
            from,
            to,
            sent_at: at,
            arrived_at,
            verdict,
            label: "call".to_owned(),
            detail: text.to_owned(),
        });
    }

    fn fault(&mut self, at: Duration, kind: FaultKind, target: &str, begins: bool) {
        let key = (kind, target.to_owned());
        if !begins {
            if let Some(span) = self.spans.get_mut(&key).and_then(Vec::pop) {
                self.builder.span_ends(span, at);
            }
            return;
        }
        // Words that are no names, such as `all` or a shape, have no lane.
        let is_name = |word: &&str| word.ends_with(|c: char| c.is_ascii_digit());
        let names: Vec<&str> = target.split_whitespace().filter(is_name).collect();
        let lanes: Vec<LaneId> = names.into_iter().map(|name| self.lane(name)).collect();
        let label = format!("{kind} {target}");
        let span = self.builder.span(at, span_of(kind), &lanes, label.trim_end());
        if is_a_moment(kind) {
            self.builder.span_ends(span, at);
        } else {
            self.spans.entry(key).or_default().push(span);
        }
    }

    /// The picture, with the report's facts on it.
    ///
    /// * `replay`: the command line that runs it again.
    pub(super) fn finish(self, scenario: &Scenario, report: &Report, replay: &str) -> Picture {
        let counts = &report.counts;
        let counts = [
            ("devices joined", counts.joined),
            ("uplinks", counts.uplinks),
            ("accepted", counts.accepted),
            ("delivered", counts.delivered),
            ("acknowledged", counts.acknowledged),
            ("downlinks queued", counts.queued),
            ("downlinks arrived", counts.downlinks),
            ("calls answered", counts.calls),
            ("restarts", counts.restarts),
            ("nodes departed", counts.departed),
        ];
        let faults = report.faults.iter().map(|(kind, count)| (kind.clone(), *count));
        let named = counts.into_iter().map(|(name, count)| (name.to_owned(), u64::from(count)));
        let marks = Mark::ALL.iter().map(|mark| {
            let name = mark.name().to_owned();
            let count = report.marks.get(&name).copied().unwrap_or(0);
            (name, count)
        });
        self.builder.finish(Header {
            title: report.title.clone(),
            seed: report.seed,
            outcome: match report.exit_code() {
                0 => Outcome::Held,
                2 => Outcome::Violated,
                _ => Outcome::Unmet,
            },
            exit_code: report.exit_code(),
            lasted: Duration::try_from_secs_f64(report.simulated_s).unwrap_or_default(),
            digest: report.digest.clone(),
            replay: replay.to_owned(),
            counts: named.chain(faults).collect(),
            unmet: report.unmet.clone(),
            marks: marks.collect(),
            scenario: scenario.to_toml().unwrap_or_default(),
        })
    }
}
