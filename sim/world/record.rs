//! The notebook of a run: the trace, the facts, and what the invariants say of them.
//!
//! Everybody in the world writes into one notebook. A fact goes to every invariant at once; a line
//! goes to the trace. Nothing that is written here moves anything in the world.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui};
use mac::{EventKind, EventSource, event_id};
use openraft_rt::{Oneshot as _, OneshotSender as _};
use scenario::Promise;
use serde::{Deserialize, Serialize};
use store::Id;

use super::witness::{Carried, Root, Witness};
use crate::clocks::virtual_now;
use crate::invariants::{self, Invariant, Violation};
use crate::net::Sent;
use crate::oracle::{Answer, Event, Fact, Seen};
use crate::runtime::{Once, OnceReceiver, OnceSender, held};
use crate::trace::Trace;

/// Violations of one invariant that a report keeps; the first ones tell the story.
const VIOLATIONS_EACH_MAX: usize = 5;

/// What a run has brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The scenario's devices that have joined, each counted once.
    pub joined: u32,
    /// Data frames sent, repetitions not counted.
    pub uplinks: u32,
    /// Transmissions of data frames, repetitions counted.
    pub transmissions: u32,
    /// Uplinks in the event log.
    pub accepted: u32,
    /// Uplinks delivered to clients, each counted once per client.
    pub delivered: u32,
    /// Confirmed uplinks whose acknowledgement the device heard.
    pub acknowledged: u32,
    /// Application downlinks queued.
    pub queued: u32,
    /// Application downlinks that reached their device.
    pub downlinks: u32,
    /// Restarts of nodes.
    pub restarts: u32,
}

/// An application downlink that somebody queued.
#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    confirmed: bool,
    arrived: u32,
}

struct Inner {
    trace: Trace,
    invariants: Vec<Box<dyn Invariant + Send>>,
    violations: Vec<Violation>,
    unmet: Vec<String>,
    counts: Counts,
    witness: Witness,
    joined: BTreeSet<DevEui>,
    queued: BTreeMap<(DevEui, Vec<u8>), Queued>,
    delivered: BTreeMap<String, BTreeSet<String>>,
    asked: BTreeMap<(DevEui, JoinEui), BTreeSet<DevNonce>>,
    cluster: Option<[u8; 16]>,
    promises: Vec<(Promise, OnceSender<()>)>,
    /// Somebody turns bits or forges frames: not every answer fits a question.
    doubtful: bool,
    last: Duration,
}

impl Inner {
    fn note(&mut self, at: Duration, lane: &str, text: &str) {
        self.last = at;
        // A closed pipe ends the output, not the run.
        let _ = self.trace.event(at, lane, text);
    }

    fn fact(&mut self, at: Duration, fact: Fact) {
        if let Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } = &fact {
            self.asked.entry((*dev_eui, *join_eui)).or_default().insert(*dev_nonce);
        }
        self.promised(&fact);
        let seen = Seen { at, fact };
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

    fn violate(&mut self, violation: Violation) {
        self.note(violation.at, "world", &violation.to_string());
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
            invariants: invariants::all(),
            violations: Vec::new(),
            unmet: Vec::new(),
            counts: Counts::default(),
            witness: Witness::default(),
            joined: BTreeSet::new(),
            queued: BTreeMap::new(),
            delivered: BTreeMap::new(),
            asked: BTreeMap::new(),
            cluster: None,
            promises: Vec::new(),
            doubtful: false,
            last: Duration::ZERO,
        })))
    }

    /// Writes a line.
    pub fn note(&self, lane: &str, text: &str) {
        held(&self.0).note(virtual_now(), lane, text);
    }

    /// States a fact, with its line.
    pub fn fact(&self, lane: &str, text: &str, fact: Fact) {
        let (at, mut inner) = (virtual_now(), held(&self.0));
        inner.note(at, lane, text);
        inner.fact(at, fact);
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
        held(&self.0).witness.introduce(dev_eui, root);
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

    /// From now on an answer may fit no question: bits are turned, or frames forged.
    pub fn doubt(&self) {
        held(&self.0).doubtful = true;
    }

    /// A datagram has left a host.
    pub fn datagram(&self, lane: &str, sent: &Sent<'_>) {
        let mut inner = held(&self.0);
        inner.trace.absorb(sent.at, lane, sent.payload);
        inner.last = sent.at;
        match inner.witness.datagram(sent.to.ip(), sent.payload) {
            Ok(None) => {}
            Ok(Some((text, fact))) => {
                inner.note(sent.at, lane, &text);
                inner.fact(sent.at, fact);
            }
            Err(text) if inner.doubtful => inner.note(sent.at, lane, &text),
            Err(text) => {
                inner.violate(Violation { invariant: "witness", at: sent.at, text });
            }
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
    pub fn queues(&self, dev_eui: DevEui, payload: &[u8], confirmed: bool) {
        let mut inner = held(&self.0);
        inner.counts.queued += 1;
        let item = Queued { confirmed, arrived: 0 };
        inner.queued.insert((dev_eui, payload.to_vec()), item);
    }

    /// An application downlink has reached its device.
    pub fn arrived(&self, lane: &str, text: &str, dev_eui: DevEui, payload: Bytes) {
        let at = virtual_now();
        let mut inner = held(&self.0);
        inner.counts.downlinks += 1;
        inner.note(at, lane, text);
        let wrong = match inner.queued.get_mut(&(dev_eui, payload.to_vec())) {
            None => Some(format!("phantom: nobody queued {payload:02x?} for device {dev_eui}")),
            Some(item) => {
                item.arrived += 1;
                (item.arrived > 1 && !item.confirmed)
                    .then(|| format!("unconfirmed {payload:02x?} reached device {dev_eui} twice"))
            }
        };
        if let Some(text) = wrong {
            inner.violate(Violation { invariant: "S8", at, text });
        }
        inner.fact(at, Fact::Arrived { device: dev_eui, payload });
    }

    /// Makes the cluster's identity known, which event identities are computed with.
    pub fn introduce_cluster(&self, cluster: [u8; 16]) {
        held(&self.0).cluster = Some(cluster);
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

    /// What was violated so far.
    pub fn violations(&self) -> Vec<Violation> {
        held(&self.0).violations.clone()
    }

    /// What has not come about.
    pub fn unmet_so_far(&self) -> Vec<String> {
        held(&self.0).unmet.clone()
    }

    /// Writes out the lines that wait.
    pub fn flush(&self) {
        held(&self.0).trace.flush();
    }

    /// The time of the last line, how many lines there are, and the hash over all.
    pub fn closing(&self) -> (Duration, u64, String) {
        let inner = held(&self.0);
        (inner.last, inner.trace.events(), inner.trace.digest())
    }
}
