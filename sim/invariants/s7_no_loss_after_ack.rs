//! S7, no loss after an acknowledgement: if an ACK bit for an uplink left a node, or a client was
//! given its event, the event is in the log at the end.
//!
//! Source: requirements, part G, S7. Decided when the run ends. (Its exemptions, every disk that
//! held the frame destroyed and the device deleted, do not occur in the smallest form.)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Reading, Seen};

/// Watches S7.
#[derive(Debug, Default)]
pub struct NoLossAfterAck {
    /// What was promised, when, and how.
    promised: BTreeMap<Reading, (Duration, &'static str)>,
}

impl Invariant for NoLossAfterAck {
    fn name(&self) -> &'static str {
        "S7"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "three facts concern it")]
        match &seen.fact {
            Fact::DownlinkHanded { acknowledges: Some(reading), .. } => {
                self.promised
                    .entry(reading.clone())
                    .or_insert((seen.at, "acknowledged to the device"));
                Vec::new()
            }
            Fact::Delivered { event, .. } => {
                self.promised
                    .entry(event.reading.clone())
                    .or_insert((seen.at, "delivered to a client"));
                Vec::new()
            }
            Fact::Ended { log } => {
                let kept: BTreeSet<&Reading> = log.iter().map(|event| &event.reading).collect();
                let lost = self.promised.iter().filter(|(reading, _)| !kept.contains(reading));
                lost.map(|(reading, (at, how))| {
                    let at = at.as_secs_f64();
                    violation("S7", seen, format!("lost, though {how} at {at:.6}s: {reading:?}"))
                })
                .collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lorawan::DevAddr;

    use super::super::history::{device, event, judge, reading, transmission};
    use super::*;

    fn acknowledged(f_cnt: u32) -> Fact {
        Fact::DownlinkHanded {
            how: transmission(),
            device: device(1),
            dev_addr: DevAddr::from_u32(1),
            f_cnt: 0,
            ciphertexts: Vec::new(),
            payload: None,
            acknowledges: Some(reading(f_cnt, "21.5")),
        }
    }

    fn delivered(f_cnt: u32) -> Fact {
        Fact::Delivered { client: "app".to_owned(), event: event("a", reading(f_cnt, "21.5")) }
    }

    #[test]
    fn what_was_promised_and_is_there_passes_and_what_was_not_promised_may_be_lost() {
        let kept = vec![event("a", reading(1, "21.5")), event("b", reading(2, "21.5"))];
        let sent = Fact::UplinkSent { reading: reading(3, "21.5"), confirmed: true };
        let history = [acknowledged(1), delivered(2), sent, Fact::Ended { log: kept }];
        assert!(judge(&mut NoLossAfterAck::default(), history).is_empty());
    }

    #[test]
    fn a_lost_acknowledged_or_delivered_uplink_is_caught() {
        let history = [acknowledged(1), delivered(2), Fact::Ended { log: Vec::new() }];
        let found = judge(&mut NoLossAfterAck::default(), history);
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("acknowledged to the device at 0.000000s"), "{found:?}");
        let altered = vec![event("a", reading(1, "21.6"))];
        let history = [acknowledged(1), Fact::Ended { log: altered }];
        assert_eq!(judge(&mut NoLossAfterAck::default(), history).len(), 1);
    }
}
