//! What an operator sees live: each frame with its verdict and the remedy.
//!
//! Lines are for people; nothing is decided by them. Floods are thinned here: beyond a rate per
//! kind of line only a count is kept, and told when the flood ends. The API keeps the ring of what
//! passed.

use std::collections::BTreeMap;

use clock::{Instant, Now, WallTime};
use lorawan::{DevAddr, DevEui, GatewayEui};
use serde::Serialize;

/// Lines of one kind let through in one second.
const LINES_PER_SECOND: u32 = 50;
/// Longest verdict, in characters: it may quote a stranger.
const VERDICT_MAX: usize = 300;

/// How a line is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchLevel {
    /// As it should be.
    Good,
    /// Neither good nor bad.
    Note,
    /// Something to mend.
    Bad,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchLine {
    /// When.
    pub time: WallTime,
    /// What kind of thing: `uplink`, `join`, `downlink`, `gateway`, `mqtt`, `http`.
    pub kind: &'static str,
    /// How to take it.
    pub level: WatchLevel,
    /// The gateway concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_id: Option<GatewayEui>,
    /// The device concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_eui: Option<DevEui>,
    /// The address concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_addr: Option<DevAddr>,
    /// What was seen and decided.
    pub verdict: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl WatchLine {
    /// A line about nobody in particular yet.
    ///
    /// * `verdict`: cut to what a screen can bear; control characters, which would command the
    ///   reader's terminal, are replaced.
    pub fn new(now: Now, kind: &'static str, level: WatchLevel, verdict: String) -> Self {
        let printable = |letter: char| if letter.is_control() { '\u{FFFD}' } else { letter };
        let verdict = verdict.chars().take(VERDICT_MAX).map(printable).collect();
        Self {
            time: now.wall,
            kind,
            level,
            gateway_id: None,
            dev_eui: None,
            dev_addr: None,
            verdict,
            remedy: None,
        }
    }
}

/// The thinning in front of those who watch.
#[derive(Debug, Default)]
pub struct Watch {
    rates: BTreeMap<&'static str, Rate>,
}

#[derive(Debug)]
struct Rate {
    since: Instant,
    passed: u32,
    dropped: u64,
}

impl Watch {
    /// What to show of a line: the line, before it the end of a flood; nothing while one lasts.
    pub fn add(&mut self, now: Now, line: WatchLine) -> Vec<WatchLine> {
        let rate = self.rates.entry(line.kind).or_insert(Rate {
            since: now.instant,
            passed: 0,
            dropped: 0,
        });
        let mut shown = Vec::new();
        if now.instant.since(rate.since).as_secs() >= 1 {
            if rate.dropped > 0 {
                let text = format!("{} more lines of this kind were not shown", rate.dropped);
                shown.push(WatchLine::new(now, line.kind, WatchLevel::Note, text));
            }
            *rate = Rate { since: now.instant, passed: 0, dropped: 0 };
        }
        if rate.passed >= LINES_PER_SECOND {
            rate.dropped += 1;
        } else {
            rate.passed += 1;
            shown.push(line);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now { instant: Instant::from_millis(millis), wall: WallTime::UNIX_EPOCH }
    }

    fn line(kind: &'static str) -> WatchLine {
        WatchLine::new(at(0), kind, WatchLevel::Note, "x".into())
    }

    #[test]
    fn a_verdict_that_quotes_a_stranger_is_cut_and_commands_no_terminal() {
        let verdict = format!("a/\u{1b}[2J\n{}", "x".repeat(60_000));
        let line = WatchLine::new(at(0), "mqtt", WatchLevel::Bad, verdict);
        assert!(line.verdict.starts_with("a/\u{FFFD}[2J\u{FFFD}xxx"));
        assert_eq!(line.verdict.chars().count(), 300);
    }

    #[test]
    fn a_flood_of_one_kind_is_counted_and_another_kind_still_shows() {
        let mut watch = Watch::default();
        let shown: usize = (0..10_000).map(|_| watch.add(at(0), line("uplink")).len()).sum();
        assert_eq!(shown, 50);
        assert_eq!(watch.add(at(10), line("join")).len(), 1);
        let after = watch.add(at(1_000), line("uplink"));
        assert_eq!(after[0].verdict, "9950 more lines of this kind were not shown");
        assert_eq!(after.len(), 2);
    }
}
