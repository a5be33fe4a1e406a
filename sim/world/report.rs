//! What came of a run, for people, programs and the tables of long runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::Counts;

/// What came of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// Promises that did not hold: invariant and text. Exit code 2.
    pub violations: Vec<(String, String)>,
    /// What should have come about and did not. Exit code 3.
    pub unmet: Vec<String>,
    /// What came about.
    pub counts: Counts,
    /// Faults that began, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Marks that were hit, and how often.
    pub marks: BTreeMap<String, u64>,
    /// Messages that reached a host: datagrams and segments of streams.
    pub deliveries: u64,
    /// Virtual time that passed, in seconds.
    pub simulated_s: f64,
    /// Lines of the trace.
    pub events: u64,
    /// The hash over all of it.
    pub digest: String,
}

impl Report {
    /// 0 all well, 2 a promise broken, 3 something did not come about.
    pub fn exit_code(&self) -> u8 {
        match (self.violations.is_empty(), self.unmet.is_empty()) {
            (false, _) => 2,
            (true, false) => 3,
            (true, true) => 0,
        }
    }

    /// Whether a checker has objected.
    pub fn blames(&self, checker: &str) -> bool {
        self.violations.iter().any(|(name, _)| name == checker)
            || self.unmet.iter().any(|text| text.starts_with(&format!("{checker}:")))
    }

    /// Adds what another run has brought about, for a table over many.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        for (mark, count) in &other.marks {
            *self.marks.entry(mark.clone()).or_default() += count;
        }
        self.counts.add(&other.counts);
        self.simulated_s += other.simulated_s;
        self.events += other.events;
        self.deliveries += other.deliveries;
    }
}
