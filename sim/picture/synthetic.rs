//! Made-up runs that look like real ones, for the tests of the page.
//!
//! A crude network: devices join and send, gateways hear some of it, one node accepts the first
//! copy and tells the clients, confirmed uplinks are acknowledged. Faults shade what they shade.

use std::time::Duration;

use super::model::{Arrow, EventKind, Header, LaneId, LaneKind, Outcome, SpanKind, Verdict};
use super::{Picture, PictureBuilder};
use crate::dice::{Dice, Seed};

/// What a made-up run is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    pub(super) title: &'static str,
    pub(super) seed: u64,
    pub(super) nodes: u32,
    pub(super) gateways: u32,
    pub(super) devices: u32,
    pub(super) clients: u32,
    /// In seconds.
    pub(super) lasts: u64,
    /// Mean time between two uplinks of a device, in seconds.
    pub(super) uplink_every: u64,
    pub(super) faults: bool,
    pub(super) violated: bool,
}

/// A calm small run.
pub(super) const QUIET: Story = Story {
    title: "Quiet: one node, nothing goes wrong",
    seed: 3,
    nodes: 1,
    gateways: 2,
    devices: 4,
    clients: 2,
    lasts: 120,
    uplink_every: 9,
    faults: false,
    violated: false,
};

/// Three nodes, every kind of fault, a broken promise.
pub(super) const ROUGH: Story = Story {
    title: "Rough weather: power cuts, a full disk, a cut link, and an acknowledged uplink lost",
    seed: 18_446_744_073_709_551_557,
    nodes: 3,
    gateways: 3,
    devices: 6,
    clients: 2,
    lasts: 180,
    uplink_every: 8,
    faults: true,
    violated: true,
};

/// Many lanes, and events by the ten thousand.
pub(super) const CROWD: Story = Story {
    title: "A crowd: sixty lanes, more than ten thousand events",
    seed: 11,
    nodes: 5,
    gateways: 10,
    devices: 45,
    clients: 4,
    lasts: 600,
    uplink_every: 11,
    faults: true,
    violated: true,
};

/// More than a page may show.
pub(super) const FLOOD: Story = Story {
    title: "A flood: more than a page may show",
    seed: 29,
    nodes: 3,
    gateways: 20,
    devices: 120,
    clients: 4,
    lasts: 3_600,
    uplink_every: 30,
    faults: true,
    violated: true,
};

/// Tells a story, start to end.
pub(super) fn run(story: Story) -> Picture {
    Telling::new(story, PictureBuilder::new()).told()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What is still to be said, so that the builder hears it in the order of time.
enum Said {
    Event(LaneId, EventKind, String),
    Arrow(Arrow),
    Begins(usize),
    Ends(usize),
    Violated(&'static str, Vec<LaneId>, String),
}

struct Telling {
    story: Story,
    dice: Dice,
    picture: PictureBuilder,
    nodes: Vec<LaneId>,
    gateways: Vec<LaneId>,
    devices: Vec<LaneId>,
    clients: Vec<LaneId>,
    world: LaneId,
    said: Vec<(Duration, Said)>,
    spans: Vec<(Duration, Duration, SpanKind, Vec<LaneId>, String)>,
    counts: [u64; 4],
}

impl Telling {
    fn new(story: Story, mut picture: PictureBuilder) -> Self {
        let mut lanes = |stem: &str, count: u32, kind| -> Vec<LaneId> {
            (1..=count).map(|number| picture.lane(&format!("{stem}{number}"), kind)).collect()
        };
        Self {
            nodes: lanes("n", story.nodes, LaneKind::Node),
            devices: lanes("dev", story.devices, LaneKind::Device),
            gateways: lanes("gw", story.gateways, LaneKind::Gateway),
            clients: lanes("app", story.clients, LaneKind::Client),
            world: picture.lane("world", LaneKind::World),
            dice: Seed(story.seed).stream("synthetic"),
            said: Vec::new(),
            spans: Vec::new(),
            counts: [0; 4],
            picture,
            story,
        }
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.dice.below(to - from)
    }

    fn say(&mut self, at: Duration, lane: LaneId, kind: EventKind, text: impl Into<String>) {
        self.said.push((at, Said::Event(lane, kind, text.into())));
    }

    fn sends(
        &mut self,
        (from, sent_at): (LaneId, Duration),
        (to, arrived_at): (LaneId, Option<Duration>),
        verdict: Verdict,
        label: &str,
        detail: &str,
    ) {
        let (label, detail) = (label.to_owned(), detail.to_owned());
        let arrow = Arrow { from, to, sent_at, arrived_at, verdict, label, detail };
        self.said.push((sent_at, Said::Arrow(arrow)));
    }

    /// Whether a fault of this kind lies over the lane.
    fn suffers(&self, lane: LaneId, at: Duration, kinds: &[SpanKind]) -> bool {
        self.spans.iter().any(|(from, to, kind, lanes, _)| {
            (*from..*to).contains(&at) && kinds.contains(kind) && lanes.contains(&lane)
        })
    }

    /// The node that answers at that time: the first one alive.
    fn answering(&self, at: Duration) -> Option<LaneId> {
        let down = [SpanKind::PowerCut, SpanKind::Kill, SpanKind::Pause];
        self.nodes.iter().copied().find(|node| !self.suffers(*node, at, &down))
    }

    fn told(mut self) -> Picture {
        let end = ms(self.story.lasts * 1_000);
        self.plan_faults();
        for number in 0..self.devices.len() {
            self.live(number);
        }
        let phases = [("setup", 0, 2), ("faults", 2, 80), ("rest", 80, 100)];
        for (label, from, to) in phases {
            let part = |percent: u32| end * percent / 100;
            let phase = (part(from), part(to), SpanKind::Phase, Vec::new(), label.to_owned());
            self.spans.push(phase);
        }
        self.lead(end);
        if self.story.violated {
            self.violate();
        }
        let spans: Vec<_> = self.spans.iter().map(|(from, to, ..)| (*from, *to)).collect();
        for (index, (from, to)) in spans.into_iter().enumerate() {
            self.said.push((from, Said::Begins(index)));
            self.said.push((to, Said::Ends(index)));
        }
        self.dictate(end)
    }

    fn plan_faults(&mut self) {
        if !self.story.faults {
            return;
        }
        let (n1, gw1) = (self.nodes[0], self.gateways[0]);
        let last = *self.nodes.last().expect("a node");
        let kinds = [
            (SpanKind::PowerCut, vec![n1], "power cut"),
            (SpanKind::Link, vec![gw1, n1], "gw1 cannot reach n1"),
            (SpanKind::Disk, vec![last], "disk full"),
            (SpanKind::Kill, vec![n1], "killed"),
            (SpanKind::Clock, vec![n1], "wall clock back by 1 h"),
            (SpanKind::Pause, vec![last], "paused"),
            (SpanKind::PowerCut, vec![last], "power cut"),
            (SpanKind::Link, vec![n1, last], "n1 and n3 cannot reach each other"),
        ];
        let step = self.story.lasts * 1_000 * 8 / 10 / kinds.len() as u64;
        for (place, (kind, lanes, label)) in (0..).zip(kinds) {
            let from = ms(place * step + self.between(step / 3, step * 2 / 3));
            let to = from + ms(self.between(1_500, 7_000));
            for lane in lanes.clone() {
                self.say(from, lane, EventKind::Fault, label);
            }
            if matches!(kind, SpanKind::PowerCut | SpanKind::Kill) {
                self.say(to, lanes[0], EventKind::Note, format!("boot {}", place + 2));
            }
            self.spans.push((from, to, kind, lanes, label.to_owned()));
        }
    }

    fn lead(&mut self, end: Duration) {
        let (mut at, mut term) = (ms(1_200), 1);
        while at < end && self.nodes.len() > 1 {
            let leader = self.nodes[term % self.nodes.len()];
            let to = (at + ms(self.between(20_000, 60_000))).min(end);
            self.say(at, leader, EventKind::Raft, format!("leads in term {term}"));
            let label = format!("leader, term {term}");
            self.spans.push((at, to, SpanKind::Leader, vec![leader], label));
            (at, term) = (to + ms(900), term + 1);
        }
    }

    fn live(&mut self, number: usize) {
        let device = self.devices[number];
        let mut at = ms(self.between(2_000, 20_000));
        let nonce = self.dice.below(65_536);
        self.say(at, device, EventKind::Join, format!("asks to join, nonce {nonce}"));
        self.uplink(device, number, at, "join-request", false);
        self.say(at + ms(5_061), device, EventKind::Join, "joined as 01e208a4");
        let every = self.story.uplink_every * 1_000;
        for f_cnt in 0.. {
            at += ms(self.between(every / 2, every * 3 / 2));
            if at + ms(4_000) > ms(self.story.lasts * 1_000) {
                return;
            }
            let confirmed = self.dice.below(10) < 6;
            let how = if confirmed { "confirmed" } else { "unconfirmed" };
            self.counts[0] += 1;
            self.say(at, device, EventKind::Uplink, format!("up {f_cnt} {how}, attempt 1"));
            self.uplink(device, number, at, &format!("up {f_cnt} {how}"), confirmed);
        }
    }

    fn uplink(
        &mut self,
        device: LaneId,
        number: usize,
        at: Duration,
        label: &str,
        confirmed: bool,
    ) {
        let airtime = ms(self.between(60, 400));
        let mut taken: Option<(LaneId, LaneId, Duration)> = None;
        for gateway in self.gateways.clone() {
            let heard = at + airtime;
            let channel = 868_100_000 + 200_000 * self.dice.below(3);
            let detail = format!("SF7BW125, {channel} Hz, {} dBm", -(80 + number as i64));
            match self.dice.below(10) {
                0..5 if self.gateways.len() > 4 => continue,
                5 => {
                    self.sends((device, at), (gateway, None), Verdict::Lost, label, "too weak");
                    continue;
                }
                _ => self.sends(
                    (device, at),
                    (gateway, Some(heard)),
                    Verdict::Accepted,
                    label,
                    &detail,
                ),
            }
            let arrived = heard + ms(self.between(1, 60));
            let Some(node) = self.answering(arrived) else {
                let why = "the node is down";
                self.sends((gateway, heard), (self.nodes[0], None), Verdict::Lost, label, why);
                continue;
            };
            let (verdict, why) = match (taken, self.dice.below(40)) {
                (_, 0) => (Verdict::Refused, "MIC does not match any session"),
                (_, 1) => (Verdict::TooLate, "the window had closed 12 ms before"),
                (Some(_), _) => (Verdict::Duplicate, "known from another gateway"),
                (None, _) => (Verdict::Accepted, detail.as_str()),
            };
            self.sends((gateway, heard), (node, Some(arrived)), verdict, label, why);
            if verdict == Verdict::Accepted {
                taken = Some((gateway, node, arrived));
            }
        }
        if let Some((gateway, node, arrived)) = taken {
            self.decide((device, gateway, node), arrived, label, confirmed);
        }
    }

    fn decide(
        &mut self,
        (device, gateway, node): (LaneId, LaneId, LaneId),
        arrived: Duration,
        label: &str,
        confirmed: bool,
    ) {
        self.counts[1] += 1;
        let durable = arrived + ms(200) + ms(self.between(2, 40));
        self.say(durable, node, EventKind::Fsync, format!("log entry {} durable", self.counts[1]));
        for client in self.clients.clone() {
            let there = durable + ms(self.between(1, 9));
            self.counts[2] += 1;
            self.sends((node, durable), (client, Some(there)), Verdict::Info, label, "QoS 1");
            self.say(there, client, EventKind::Mqtt, format!("{label} of 70b3d57ed0000003"));
        }
        if confirmed {
            self.counts[3] += 1;
            let text = format!("acknowledges {label}");
            let (sent, radiated) = (durable + ms(100), durable + ms(760));
            self.say(sent, node, EventKind::Ack, text.clone());
            let ack = Verdict::Acknowledged;
            self.sends((node, sent), (gateway, Some(sent + ms(4))), ack, &text, "PULL_RESP");
            self.say(radiated, gateway, EventKind::Downlink, "radiates 12 bytes");
            let heard = Some(radiated + ms(61));
            self.sends((gateway, radiated), (device, heard), ack, &text, "RX1, SF7BW125");
        }
    }

    fn violate(&mut self) {
        let at = ms(self.story.lasts * 613);
        let lanes = vec![self.nodes[0], self.devices[2]];
        let text = "dev3 was acknowledged up 4 at 108.211304 s, and no row of the event log holds \
                    it: it came before the power cut of n1 at 108.213 s";
        self.say(at, self.world, EventKind::Violation, format!("S7 violated: {text}"));
        self.said.push((at, Said::Violated("S7", lanes, text.to_owned())));
    }

    fn dictate(mut self, end: Duration) -> Picture {
        self.said.sort_by_key(|(at, _)| *at);
        let mut open = Vec::new();
        for (at, said) in self.said {
            match said {
                Said::Event(lane, kind, text) => self.picture.event(at, lane, kind, &text),
                Said::Arrow(arrow) => {
                    self.picture.arrow(arrow);
                }
                Said::Begins(index) => {
                    let (_, _, kind, lanes, label) = &self.spans[index];
                    open.push((index, self.picture.span(at, *kind, lanes, label)));
                }
                Said::Ends(index) => {
                    let found = open.iter().find(|(place, _)| *place == index);
                    self.picture.span_ends(found.expect("it began").1, at);
                }
                Said::Violated(checker, lanes, text) => {
                    self.picture.violation(at, checker, &lanes, &text);
                }
            }
        }
        let names = ["uplinks", "accepted", "delivered", "acknowledged"];
        let counts = names.iter().zip(self.counts);
        let violated = self.story.violated;
        self.picture.finish(Header {
            title: self.story.title.to_owned(),
            seed: self.story.seed,
            outcome: if violated { Outcome::Violated } else { Outcome::Held },
            exit_code: if violated { 2 } else { 0 },
            lasted: end,
            digest: "1263a821d658273f00112233445566778899aabbccddeeff".to_owned(),
            replay: format!("cargo sim scenarios/rough_weather.toml --seed {}", self.story.seed),
            counts: counts.map(|(name, number)| ((*name).to_owned(), number)).collect(),
            unmet: Vec::new(),
            marks: vec![
                ("an uplink refused for its MIC".to_owned(), 3),
                ("a torn tail".to_owned(), 0),
            ],
            scenario: include_str!("../../scenarios/rough_weather.toml").to_owned(),
        })
    }
}
