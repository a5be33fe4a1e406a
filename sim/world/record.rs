//! The notebook of a run: the trace, the facts, and what the invariants say of them.
//!
//! Everybody in the world writes into one notebook. A fact goes to every invariant at once; a line
//! goes to the trace. Nothing that is written here moves anything in the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gateway::semtech::{Upward, parse_upward};
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui};
use mac::{EventKind, EventSource, event_id};
use node::api::wire::Metric;
use openraft_rt::{Oneshot as _, OneshotSender as _};
use scenario::{FaultKind, Promise, Scenario};
use store::Id;

use super::counts::Counts;
use super::histories::Histories;
use super::ledger::Ledgers;
use super::painter::Painter;
use super::report::Report;
use super::witness::{Carried, Root, Witness};
use crate::clocks::virtual_now;
use crate::history::HistoryEvent;
use crate::invariants::{self, Invariant, Secrets, Violation};
use crate::marks::{Mark, Marks};
use crate::net::Sent;
use crate::oracle::{Answer, Event, Fact, Seen};
use crate::picture::Picture;
use crate::runtime::{Once, OnceReceiver, OnceSender, held};
use crate::trace::Trace;

/// Violations of one invariant that a report keeps; the first ones tell the story.
const VIOLATIONS_EACH_MAX: usize = 5;

struct Inner {
    trace: Trace,
    /// From which level on what the nodes log is noted.
    words: Option<tracing::Level>,
    invariants: Vec<Box<dyn Invariant + Send>>,
    violations: Vec<Violation>,
    unmet: Vec<String>,
    counts: Counts,
    faults: BTreeMap<FaultKind, u64>,
    marks: Marks,
    deliveries: u64,
    witness: Witness,
    joined: BTreeSet<DevEui>,
    ledgers: Ledgers,
    /// Nodes that have ever lost what their disks held.
    disks_lost: BTreeSet<String>,
    secrets: Secrets,
    delivered: BTreeMap<String, BTreeSet<String>>,
    asked: BTreeMap<(DevEui, JoinEui), BTreeSet<DevNonce>>,
    cluster: Option<[u8; 16]>,
    foundings: u32,
    promises: Vec<(Promise, OnceSender<()>)>,
    painter: Option<Painter>,
    histories: Histories,
    /// Somebody turns bits or forges frames: not every answer fits a question.
    doubtful: bool,
    last: Duration,
}

impl Inner {
    fn line(&mut self, at: Duration, lane: &str, text: &str) {
        self.last = at;
        // A closed pipe ends the output, not the run.
        let _ = self.trace.event(at, lane, text);
    }

    fn note(&mut self, at: Duration, lane: &str, text: &str) {
        self.line(at, lane, text);
        if let Some(painter) = &mut self.painter {
            painter.note(at, lane, text);
        }
    }

    /// A fact with its line.
    fn told(&mut self, at: Duration, lane: &str, text: &str, fact: Fact) {
        self.line(at, lane, text);
        if let Some(painter) = &mut self.painter {
            painter.fact(at, lane, text, &fact);
        }
        self.fact(at, fact);
    }

    fn fact(&mut self, at: Duration, fact: Fact) {
        if let Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } = &fact {
            self.asked.entry((*dev_eui, *join_eui)).or_default().insert(*dev_nonce);
        }
        if let Fact::Fault { kind, begins: true, .. } = &fact {
            *self.faults.entry(*kind).or_default() += 1;
        }
        if let Fact::DiskLost { .. } = &fact {
            self.histories.forget();
        }
        self.doubtful |= fact.raises_doubt();
        self.promised(&fact);
        let seen = Seen { at, fact };
        self.marks.observe(&seen);
        let found: Vec<Violation> =
            self.invariants.iter_mut().flat_map(|invariant| invariant.observe(&seen)).collect();
        for violation in found {
            self.violate(violation);
        }
    }

    /// Wakes whoever waits for a promise of this kind.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few facts are promises")]
    fn promised(&mut self, fact: &Fact) {
        let promise = match fact {
            Fact::Delivered { .. } => Promise::Delivery,
            Fact::DownlinkHanded { acknowledges: Some(_), .. } => Promise::Ack,
            Fact::DownlinkHanded { .. } => Promise::Downlink,
            Fact::JoinAcceptHanded { .. } => Promise::JoinAccept,
            Fact::Queued { answer: Answer::Done, .. } => Promise::Answer,
            _ => return,
        };
        let (kept, waiting): (Vec<_>, Vec<_>) =
            self.promises.drain(..).partition(|(awaited, _)| *awaited == promise);
        self.promises = waiting;
        for (_, waits) in kept {
            // Whoever gave up waiting wants to know nothing.
            let _ = waits.send(());
        }
    }

    fn look(&mut self, at: Duration, whose: &str, channel: &str, bytes: &[u8]) {
        for violation in self.secrets.look(at, whose, channel, bytes) {
            self.violate(violation);
        }
    }

    fn violate(&mut self, violation: Violation) {
        self.line(violation.at, "world", &violation.to_string());
        if let Some(painter) = &mut self.painter {
            painter.violation(&violation);
        }
        let same = |known: &&Violation| known.invariant == violation.invariant;
        if self.violations.iter().filter(same).count() < VIOLATIONS_EACH_MAX {
            self.violations.push(violation);
        }
    }
}

/// The notebook. Clones are the same.
#[derive(Clone)]
pub struct Record(Arc<Mutex<Inner>>);

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Record {
    /// An empty notebook around a trace.
    pub fn new(trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            trace,
            words: None,
            invariants: invariants::all(),
            violations: Vec::new(),
            unmet: Vec::new(),
            counts: Counts::default(),
            faults: BTreeMap::new(),
            marks: Marks::default(),
            deliveries: 0,
            witness: Witness::default(),
            joined: BTreeSet::new(),
            ledgers: Ledgers::default(),
            disks_lost: BTreeSet::new(),
            secrets: Secrets::default(),
            delivered: BTreeMap::new(),
            asked: BTreeMap::new(),
            cluster: None,
            foundings: 0,
            promises: Vec::new(),
            painter: None,
            histories: Histories::default(),
            doubtful: false,
            last: Duration::ZERO,
        })))
    }

    /// Notes what the nodes log from a level on, in a lane `words`.
    pub fn note_words(&self, level: tracing::Level) {
        held(&self.0).words = Some(level);
    }

    /// A node has logged something.
    pub(super) fn word(&self, level: tracing::Level, line: impl FnOnce() -> String) {
        let mut inner = held(&self.0);
        if inner.words.is_some_and(|least| level <= least) {
            inner.note(virtual_now(), "words", &line());
        }
    }

    /// Draws the run from now on.
    pub fn draw(&self) {
        held(&self.0).painter = Some(Painter::new());
    }

    /// What was drawn, with the report's facts on it.
    ///
    /// * `replay`: the command line that runs it again.
    pub fn picture(&self, scenario: &Scenario, report: &Report, replay: &str) -> Option<Picture> {
        let painter = held(&self.0).painter.take()?;
        Some(painter.finish(scenario, report, replay))
    }

    /// The workload begins.
    pub fn begins(&self) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        inner.note(at, "world", "the workload begins");
        if let Some(painter) = &mut inner.painter {
            painter.begins(at);
        }
    }

    /// Writes a line.
    pub fn note(&self, lane: &str, text: &str) {
        held(&self.0).note(virtual_now(), lane, text);
    }

    /// States a fact, with its line.
    pub fn fact(&self, lane: &str, text: &str, fact: Fact) {
        let at = virtual_now();
        held(&self.0).told(at, lane, text, fact);
    }

    /// States a fact that needs no line.
    pub fn tell(&self, fact: Fact) {
        let at = virtual_now();
        held(&self.0).fact(at, fact);
    }

    /// States a fact whose line is there already.
    pub fn state(&self, fact: Fact) {
        let at = virtual_now();
        held(&self.0).fact(at, fact);
    }

    /// What an invariant still waits for; see [`Invariant::waiting`].
    pub fn waiting(&self, core: &[String]) -> Option<String> {
        held(&self.0).invariants.iter().find_map(|invariant| invariant.waiting(core))
    }

    /// States what no invariant needs to find out.
    pub fn violate(&self, invariant: &'static str, text: String) {
        let at = virtual_now();
        held(&self.0).violate(Violation { invariant, at, text });
    }

    /// As [`Self::violate`], when the run is over and nobody knows the time any more.
    pub fn violate_at_end(&self, invariant: &'static str, text: String) {
        let mut inner = held(&self.0);
        let at = inner.last;
        inner.violate(Violation { invariant, at, text });
    }

    /// Something that had to come about has not.
    pub fn unmet(&self, text: String) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        inner.note(at, "world", &format!("unmet: {text}"));
        inner.unmet.push(text);
    }

    /// Resolves with the next promise of this kind.
    pub fn next_promise(&self, promise: Promise) -> OnceReceiver<()> {
        let (sender, receiver) = Once::channel();
        held(&self.0).promises.push((promise, sender));
        receiver
    }

    /// Makes a device known to the witness.
    pub fn introduce_device(&self, dev_eui: DevEui, root: Root) {
        let mut inner = held(&self.0);
        inner.secrets.guard(&format!("the root key of {dev_eui}"), root.app_key.expose());
        inner.witness.introduce(dev_eui, root);
    }

    /// Makes a gateway's address known.
    pub fn introduce_gateway(&self, address: IpAddr, gateway: GatewayEui) {
        held(&self.0).witness.introduce_gateway(address, gateway);
    }

    /// Whether a device's uplink counter may start anew without a join.
    pub fn may_reset(&self, dev_eui: DevEui) -> bool {
        held(&self.0).witness.may_reset(dev_eui)
    }

    /// The first downlink number that a personalised device was never sent.
    pub fn next_down(&self, dev_eui: DevEui) -> u32 {
        held(&self.0).witness.next_down(dev_eui)
    }

    /// Somebody has overheard the bytes of a frame that a gateway has heard.
    pub fn overheard(&self, gateway: GatewayEui, tmst: u32, phy_payload: &Bytes) {
        held(&self.0).witness.overheard(gateway, tmst, phy_payload);
    }

    /// Somebody who is no gateway sends a datagram in one's name.
    pub fn forged(&self, datagram: &[u8]) {
        let at = virtual_now();
        held(&self.0).witness.forged(at, datagram);
    }

    /// The gateway at address `by` has heard a frame to its end, at `tmst` on its counter.
    ///
    /// * `told`: what the frame is, in words.
    /// * `live`: as [`Fact::Heard`] says.
    pub fn heard(
        &self,
        (lane, told): (&str, &str),
        by: IpAddr,
        carried: &Arc<Carried>,
        tmst: u32,
        live: bool,
    ) {
        let (at, mut inner) = (virtual_now(), held(&self.0));
        let Some(gateway) = inner.witness.gateway_at(by) else { return };
        inner.witness.heard(at, by, tmst, carried);
        let cut_off = if live { "" } else { ", cut off" };
        inner.note(at, lane, &format!("hears {told} at {tmst}{cut_off}"));
        let (device, reading, wants_answer) = match carried.as_ref() {
            Carried::Join { dev_eui, .. } => (*dev_eui, None, true),
            Carried::Data { reading, confirmed } => {
                (reading.device, Some(reading.clone()), *confirmed)
            }
        };
        let fact = Fact::Heard { gateway, tmst, device, reading, wants_answer, live };
        inner.fact(at, fact);
    }

    /// Guards a secret from now on: it must never leave a node in clear (S14).
    pub fn guard(&self, name: &str, secret: &[u8]) {
        held(&self.0).secrets.guard(name, secret);
    }

    /// Bytes leave a node over a channel ("stream 17", "disk", "log"): no secret may be in them.
    pub fn look(&self, whose: &str, channel: &str, bytes: &[u8]) {
        let at = virtual_now();
        held(&self.0).look(at, whose, channel, bytes);
    }

    /// As [`Self::look`], where nobody may ask for the time.
    pub fn overhear(&self, whose: &str, channel: &str, bytes: &[u8]) {
        let mut inner = held(&self.0);
        let at = inner.last;
        inner.look(at, whose, channel, bytes);
    }

    /// A datagram is on its way to where a node takes gateways.
    pub fn pushed(&self, sent: &Sent<'_>) {
        let Ok(Upward::PushData(head, push)) = parse_upward(sent.payload) else { return };
        let mut inner = held(&self.0);
        for rxpk in push.rxpks {
            let fact = Fact::Pushed {
                gateway: head.gateway,
                tmst: rxpk.tmst,
                frequency_hz: rxpk.frequency_hz,
                modulation: rxpk.modulation,
            };
            inner.fact(sent.at, fact);
        }
    }

    /// A datagram has left a node.
    pub fn datagram(&self, lane: &str, sent: &Sent<'_>) {
        let mut inner = held(&self.0);
        inner.trace.absorb(sent.at, lane, sent.payload);
        inner.last = sent.at;
        inner.look(sent.at, lane, "datagram", sent.payload);
        let told = inner.witness.datagram(lane, sent.to.ip(), sent.payload);
        for key in inner.witness.take_new_keys() {
            inner.secrets.guard("a session key", key.expose());
        }
        match told {
            Ok(None) => {}
            Ok(Some((text, fact))) => {
                inner.told(sent.at, lane, &text, fact);
            }
            Err(text) if inner.doubtful => inner.note(sent.at, lane, &text),
            Err(text) => {
                inner.violate(Violation { invariant: "witness", at: sent.at, text });
            }
        }
    }

    /// A caller of the API asks, or is told.
    pub fn called(&self, event: HistoryEvent) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        if let HistoryEvent::Called { client, key, question, .. } = &event {
            inner.note(at, client, &format!("asks {key}: {question:?}"));
        }
        if let HistoryEvent::Returned { answer, .. } = &event {
            inner.counts.calls += u32::from(answer.is_some());
            if answer.is_none() {
                inner.marks.hit(Mark::UnknownOutcome);
            }
        }
        for text in inner.histories.observe(event) {
            inner.violate(Violation { invariant: "S9", at, text });
        }
    }

    /// Whether one order explains what the callers of the API were told.
    pub fn judge_histories(&self) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        let (wrong, undecided) = inner.histories.judge();
        for text in wrong {
            inner.violate(Violation { invariant: "S9", at, text });
        }
        for text in undecided {
            // Not known is never fine.
            let text = format!("S9: {text}");
            inner.note(at, "world", &format!("unmet: {text}"));
            inner.unmet.push(text);
        }
    }

    /// A device of the scenario has joined.
    pub fn joined(&self, dev_eui: DevEui) {
        let mut inner = held(&self.0);
        if inner.joined.insert(dev_eui) {
            inner.counts.joined += 1;
        }
    }

    /// Somebody is about to queue a downlink; each payload is queued once.
    pub fn queues(&self, device: DevEui, payload: &Bytes, confirmed: bool) {
        held(&self.0).counts.queued += 1;
        self.tell(Fact::QueueAsked { device, payload: payload.clone(), confirmed });
    }

    /// An application downlink has reached its device.
    pub fn arrived(&self, lane: &str, text: &str, device: DevEui, payload: Bytes) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        inner.counts.downlinks += 1;
        inner.told(at, lane, text, Fact::Arrived { device, payload });
    }

    /// A node has lost what its disk held, all of it if `wiped`; who has so far.
    pub(super) fn lose_disk(&self, node: &str, wiped: bool) -> BTreeSet<String> {
        let mut inner = held(&self.0);
        if wiped {
            inner.ledgers.lose(node);
        }
        inner.disks_lost.insert(node.to_owned());
        inner.disks_lost.clone()
    }

    /// What the nodes have put into their logs; not for long.
    pub(super) fn ledgers<T>(&self, look: impl FnOnce(&mut Ledgers) -> T) -> T {
        look(&mut held(&self.0).ledgers)
    }

    /// What the invariants have to say at the end beside violations, each under its name.
    pub fn closing_words(&self) -> Vec<(&'static str, String)> {
        let inner = held(&self.0);
        let words = |one: &(dyn Invariant + Send)| Some((one.name(), one.closing()?));
        let scanner = ("S14", inner.secrets.closing());
        inner.invariants.iter().filter_map(|one| words(one.as_ref())).chain([scanner]).collect()
    }

    /// Whether the cluster was founded more than once: clients subscribed anew then, and events of
    /// the time between are nobody's.
    pub fn founded_anew(&self) -> bool {
        held(&self.0).foundings > 1
    }

    /// Makes the cluster's identity known, which event identities are computed with.
    pub fn introduce_cluster(&self, cluster: [u8; 16]) {
        let mut inner = held(&self.0);
        inner.foundings += 1;
        inner.cluster = Some(cluster);
    }

    /// A row of the event log says that a device was activated.
    ///
    /// * `id`: its `deduplicationId`: computed from the request, so it tells which one it was.
    pub fn activated(&self, index: u64, dev_eui: DevEui, dev_addr: DevAddr, id: &str) {
        let request = {
            let inner = held(&self.0);
            let cluster = inner.cluster.unwrap_or_default();
            let first = JoinEui::from_be_bytes([0; 8]);
            let last = JoinEui::from_be_bytes([u8::MAX; 8]);
            let requests = inner.asked.range((dev_eui, first)..=(dev_eui, last));
            let mut all = requests
                .flat_map(|((_, join_eui), nonces)| nonces.iter().map(|nonce| (*join_eui, *nonce)));
            all.find(|(join_eui, dev_nonce)| {
                let source = EventSource::Join { join_eui: *join_eui, dev_nonce: *dev_nonce };
                Id(event_id(cluster, dev_eui, EventKind::Join, &source)).to_string() == id
            })
        };
        match request {
            Some((join_eui, dev_nonce)) => {
                let text = format!("row {index}: {dev_eui} joined as {dev_addr}");
                let fact = Fact::Activated { index, join_eui, dev_eui, dev_nonce, dev_addr };
                self.fact("audit", &text, fact);
            }
            None => {
                let text = format!("row {index}: {dev_eui} joined with a request it never sent");
                self.violate("S4", text);
            }
        }
    }

    /// A client got an uplink event.
    pub fn delivered(&self, client: &str, event: Event) {
        let text = format!("up {} of {}", event.reading.f_cnt, event.reading.device);
        {
            let mut inner = held(&self.0);
            let fresh =
                inner.delivered.entry(client.to_owned()).or_default().insert(event.id.clone());
            inner.counts.delivered += u32::from(fresh);
        }
        self.fact(client, &text, Fact::Delivered { client: client.to_owned(), event });
    }

    /// Events of `log` that a client has not got.
    pub fn missing(&self, client: &str, log: &[Event]) -> Vec<Event> {
        let inner = held(&self.0);
        let got = inner.delivered.get(client);
        let missing = |event: &&Event| got.is_none_or(|got| !got.contains(&event.id));
        log.iter().filter(missing).cloned().collect()
    }

    /// Changes the counts.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut held(&self.0).counts);
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        held(&self.0).counts
    }

    /// Writes out the lines that wait.
    pub fn flush(&self) {
        held(&self.0).trace.flush();
    }

    /// Everything that came of the run.
    pub fn report(&self, title: &str, seed: u64) -> Report {
        let inner = held(&self.0);
        let violations = inner.violations.iter();
        Report {
            title: title.to_owned(),
            seed,
            violations: violations.map(|v| (v.invariant.to_owned(), v.to_string())).collect(),
            unmet: inner.unmet.clone(),
            counts: inner.counts,
            faults: inner.faults.iter().map(|(kind, n)| (kind.to_string(), *n)).collect(),
            marks: inner.marks.counts().iter().map(|(m, n)| (m.name().to_owned(), *n)).collect(),
            deliveries: inner.deliveries,
            simulated_s: inner.last.as_secs_f64(),
            events: inner.trace.events(),
            digest: inner.trace.digest(),
        }
    }

    /// Counts a mark.
    pub fn hit(&self, mark: Mark) {
        held(&self.0).marks.hit(mark);
    }

    /// Looks at a node's counters for marks.
    pub fn metrics(&self, boot: &str, metrics: &[Metric]) {
        held(&self.0).marks.metrics(boot, metrics);
    }

    /// How often a mark was hit.
    pub fn marked(&self, mark: Mark) -> u64 {
        held(&self.0).marks.counts().get(&mark).copied().unwrap_or(0)
    }

    /// Says how many messages the network has delivered.
    pub fn delivered_by_network(&self, messages: u64) {
        held(&self.0).deliveries = messages;
    }
}
