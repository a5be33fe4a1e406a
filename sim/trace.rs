//! The record of a run: one line per event, and a hash over all of them.
//!
//! Two runs of one seed must write the same bytes. A line carries virtual time to the nanosecond,
//! which moves with every task the executor polls, so the hash notices a difference in scheduling
//! too. Nothing of the machine enters: no wall time, no address, no task number.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How lines are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Only the hash is kept.
    #[default]
    Silent,
    /// Aligned columns for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The record of one run.
pub struct Trace {
    hash: Sha256,
    events: u64,
    format: Format,
    lanes: Lanes,
    out: Box<dyn Write + Send>,
}

/// Whose lines are shown; the hash counts all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lanes {
    /// Everybody's.
    #[default]
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Lanes {
    fn shows(&self, lane: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(lanes) => lanes.contains(lane),
        }
    }
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Trace {
    /// An empty record that writes its lines to `out`.
    pub fn new(format: Format, out: Box<dyn Write + Send>) -> Self {
        Self { hash: Sha256::new(), events: 0, format, lanes: Lanes::All, out }
    }

    /// Shows the lines of these lanes alone.
    #[must_use]
    pub fn only(mut self, lanes: Lanes) -> Self {
        self.lanes = lanes;
        self
    }

    /// Records one event.
    ///
    /// * `lane`: who: "n1", "gw2", "dev3", "app", "world".
    /// * `text`: what, on one line.
    /// * Errors: what writing the line said (a full disk, a closed pipe).
    pub fn event(&mut self, at: Duration, lane: &str, text: &str) -> io::Result<()> {
        self.events += 1;
        self.hash.update(at.as_nanos().to_le_bytes());
        // Lengths in front, so that no two pairs of texts make the same bytes.
        for part in [lane, text] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        if !self.lanes.shows(lane) {
            return Ok(());
        }
        match self.format {
            Format::Silent => Ok(()),
            Format::Text => {
                let (secs, nanos) = (at.as_secs(), at.subsec_nanos());
                writeln!(self.out, "{secs:>6}.{nanos:09}  {lane:<7} {text}")
            }
            Format::Json => {
                let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
                let line = serde_json::json!({ "at_ns": nanos, "lane": lane, "event": text });
                writeln!(self.out, "{line}")
            }
        }
    }

    /// Records bytes that have no line of their own: the hash alone notices them.
    pub fn absorb(&mut self, at: Duration, lane: &str, bytes: &[u8]) {
        self.hash.update(at.as_nanos().to_le_bytes());
        for part in [lane.as_bytes(), bytes] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
    }

    /// Writes out what waits.
    pub fn flush(&mut self) {
        // A closed pipe ends the output, not the run.
        let _ = self.out.flush();
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash over everything so far, in hexadecimal.
    pub fn digest(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(events: &[(u64, &str, &str)]) -> String {
        let mut trace = Trace::new(Format::Silent, Box::new(io::sink()));
        for (nanos, lane, text) in events {
            trace.event(Duration::from_nanos(*nanos), lane, text).unwrap();
        }
        trace.digest()
    }

    #[test]
    fn time_lane_text_and_order_all_count() {
        let base = digest(&[(1, "n1", "up"), (2, "gw1", "heard")]);
        assert_eq!(base, digest(&[(1, "n1", "up"), (2, "gw1", "heard")]));
        for other in [
            digest(&[(1, "n1", "up"), (3, "gw1", "heard")]),
            digest(&[(1, "n1", "up"), (2, "gw2", "heard")]),
            digest(&[(1, "n1", "up"), (2, "gw", "1heard")]),
            digest(&[(2, "gw1", "heard"), (1, "n1", "up")]),
        ] {
            assert_ne!(base, other);
        }
    }
}
