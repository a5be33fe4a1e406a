//! What the demonstration has seen, and the one number that counts: what a live gateway accepted
//! and no application got.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::{Duration, Instant};
use serde_json::{Value, json};

/// What is older than this and has not come is called lost, until it comes.
const ON_ITS_WAY: Duration = Duration::from_secs(15);

/// One uplink: its device and its number.
type Uplink = (String, u32);

/// The summary is made of it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Devices whose join came as an event.
    pub(super) joined: BTreeSet<String>,
    /// Frames that devices sent, repetitions not counted.
    pub(super) sent: u32,
    /// Confirmed uplinks whose device heard the answer.
    pub(super) answered: u32,
    /// Downlinks asked for.
    pub(super) queued: u32,
    /// Downlinks that devices heard.
    pub(super) heard: u32,
    /// Confirmed downlinks that devices acknowledged, by event id.
    pub(super) acknowledged: BTreeSet<String>,
    on_air: BTreeMap<Bytes, Uplink>,
    accepted: BTreeMap<Uplink, Instant>,
    delivered: BTreeMap<Uplink, String>,
}

impl Ledger {
    /// A device sends.
    pub(super) fn transmitted(&mut self, frame: Bytes, dev_eui: String, fcnt: u32, again: bool) {
        self.sent += u32::from(!again);
        self.on_air.insert(frame, (dev_eui, fcnt));
    }

    /// A node has acknowledged a frame to a gateway.
    pub(super) fn accepted(&mut self, now: Instant, frame: &Bytes) {
        if let Some(uplink) = self.on_air.get(frame) {
            self.accepted.entry(uplink.clone()).or_insert(now);
        }
    }

    /// An uplink's event has come.
    ///
    /// * Returns whether for the first time.
    pub(super) fn delivered(&mut self, dev_eui: &str, fcnt: u32, id: &str) -> bool {
        self.delivered.insert((dev_eui.to_owned(), fcnt), id.to_owned()).is_none()
    }

    /// Accepted, and not delivered.
    fn open(&self) -> impl Iterator<Item = &Instant> {
        let open = self.accepted.iter().filter(|(uplink, _)| !self.delivered.contains_key(*uplink));
        open.map(|(_, at)| at)
    }

    /// Nothing is on its way.
    pub(super) fn is_complete(&self) -> bool {
        self.open().next().is_none() && self.heard >= self.queued
    }

    /// What a live gateway accepted and nobody got.
    ///
    /// * `now`: what is younger than this allows is on its way; `None`: nothing is any more.
    pub(super) fn lost(&self, now: Option<Instant>) -> usize {
        self.open().filter(|at| now.is_none_or(|now| now.since(**at) > ON_ITS_WAY)).count()
    }

    /// The one line.
    pub(super) fn line(&self, now: Option<Instant>) -> String {
        let lost = self.lost(now);
        let open = self.open().count() - lost;
        let way = if open > 0 { format!(" / on its way {open}") } else { String::new() };
        format!(
            "accepted by a live gateway {} / delivered {}{way} / lost {lost}",
            self.accepted.len(),
            self.accepted.len() - open - lost,
        )
    }

    /// The same for programs.
    pub(super) fn json(&self, now: Option<Instant>) -> Value {
        let lost = self.lost(now);
        let accepted = self.accepted.len();
        let delivered = accepted - self.open().count();
        json!({"ledger": {"accepted": accepted, "delivered": delivered, "lost": lost}})
    }

    /// What came of it, line by line.
    pub(super) fn summary(&self, devices: usize) -> [String; 3] {
        [
            format!("joined     {} of {devices} devices", self.joined.len()),
            format!(
                "uplinks    {} sent, {} delivered, {} acknowledged to their device",
                self.sent,
                self.delivered.len(),
                self.answered
            ),
            format!(
                "downlinks  {} queued, {} heard by devices, {} acknowledged",
                self.queued,
                self.heard,
                self.acknowledged.len()
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_is_on_its_way_and_then_lost_or_delivered() {
        let mut ledger = Ledger::default();
        let frame = Bytes::from_static(b"frame");
        let (then, later) = (Instant::ZERO, Instant::ZERO + Duration::from_secs(16));
        ledger.transmitted(frame.clone(), "a".into(), 1, false);
        assert!(ledger.line(Some(then)).contains("gateway 0 / delivered 0 / lost 0"));
        ledger.accepted(then, &frame);
        ledger.accepted(later, &frame);
        let line = ledger.line(Some(then));
        assert!(line.ends_with("gateway 1 / delivered 0 / on its way 1 / lost 0"), "{line}");
        assert!(ledger.line(Some(later)).ends_with("delivered 0 / lost 1"));
        assert_eq!(ledger.lost(None), 1);
        assert!(ledger.delivered("a", 1, "id") && !ledger.delivered("a", 1, "id"));
        assert!(ledger.line(None).ends_with("gateway 1 / delivered 1 / lost 0"));
        assert!(ledger.is_complete());
    }
}
