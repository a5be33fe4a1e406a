//! S7, no loss after an acknowledgement: if an ACK bit for an uplink left a node, or a client was
//! given its event, the event is in the log at the end.
//!
//! Source: requirements, part G, S7. Decided when the run ends. Exempt is what was promised before
//! the disks of a majority of the nodes were lost, and before its device was deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lorawan::DevEui;
use store::{Command, Proposal};

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Reading, Seen};

/// Watches S7.
#[derive(Debug, Default)]
pub struct NoLossAfterAck {
    /// What was promised, when, and how.
    promised: BTreeMap<Reading, (Duration, &'static str)>,
    /// When each node's disk was last lost, if it was.
    disks: BTreeMap<String, Option<Duration>>,
    /// When each device was last deleted.
    deleted: BTreeMap<DevEui, Duration>,
}

impl NoLossAfterAck {
    fn promise(&mut self, reading: &Reading, at: Duration, how: &'static str) {
        self.promised.entry(reading.clone()).or_insert((at, how));
    }

    fn proposed(&mut self, proposals: &[Proposal], at: Duration) {
        for proposal in proposals {
            if let Command::DeleteDevice(device) = proposal.command {
                self.deleted.insert(device, at);
            }
        }
    }

    fn is_exempt(&self, reading: &Reading, promised: Duration) -> bool {
        let after = |lost: &Option<Duration>| lost.is_some_and(|lost| lost >= promised);
        // What was decided lies on a majority of the disks, and may lie on no other.
        let lost = self.disks.values().filter(|lost| after(lost)).count();
        let destroyed = lost * 2 > self.disks.len();
        destroyed || self.deleted.get(&reading.device).is_some_and(|at| *at >= promised)
    }
}

impl Invariant for NoLossAfterAck {
    fn name(&self) -> &'static str {
        "S7"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        match &seen.fact {
            Fact::DownlinkHanded { acknowledges: Some(reading), .. } => {
                self.promise(reading, seen.at, "acknowledged to the device");
            }
            Fact::Delivered { event, .. } => {
                self.promise(&event.reading, seen.at, "delivered to a client");
            }
            Fact::Started { node } => {
                self.disks.entry(node.clone()).or_default();
            }
            Fact::DiskLost { node, .. } => {
                self.disks.insert(node.clone(), Some(seen.at));
            }
            Fact::Logged { proposals, .. } => self.proposed(proposals, seen.at),
            Fact::Ended { log } => {
                let kept: BTreeSet<&Reading> = log.iter().map(|event| &event.reading).collect();
                let lost = self.promised.iter().filter(|(reading, (at, _))| {
                    !kept.contains(reading) && !self.is_exempt(reading, *at)
                });
                let tell = |(reading, (at, how)): (&Reading, &(Duration, &str))| {
                    let at = at.as_secs_f64();
                    violation("S7", seen, format!("lost, though {how} at {at:.6}s: {reading:?}"))
                };
                return lost.map(tell).collect();
            }
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{self, device, disk_lost, event, judge, logged, reading};
    use super::*;

    fn acknowledged(f_cnt: u32) -> Fact {
        history::acknowledgement(0, reading(f_cnt, "21.5"))
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

    #[test]
    fn what_was_promised_before_a_majority_of_disks_was_lost_or_the_device_deleted_is_exempt() {
        let nothing = || Fact::Ended { log: Vec::new() };
        let found = |history: Vec<Fact>| judge(&mut NoLossAfterAck::default(), history).len();
        let started = |node: &str| Fact::Started { node: node.to_owned() };
        assert_eq!(found(vec![acknowledged(1), disk_lost(true), nothing()]), 0);
        assert_eq!(found(vec![disk_lost(true), acknowledged(1), nothing()]), 1);
        let another = vec![started("n1"), started("n2"), delivered(1), disk_lost(false), nothing()];
        assert_eq!(found(another), 1, "the other node still had it");
        let most = |last: &str| {
            let lost = |node: &str| Fact::DiskLost { node: node.to_owned(), wiped: true };
            let nodes = ["n1", "n2", "n3"].map(started);
            let after = [delivered(1), lost("n3"), lost(last), nothing()];
            nodes.into_iter().chain(after).collect()
        };
        assert_eq!([found(most("n2")), found(most("n3"))], [0, 1]);
        let delete = || logged(9, [Command::DeleteDevice(device(1))]);
        assert_eq!(found(vec![acknowledged(1), delete(), nothing()]), 0);
        assert_eq!(found(vec![delete(), acknowledged(1), nothing()]), 1);
    }
}
