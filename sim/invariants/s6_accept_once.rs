//! S6, accept once: committed events contain each (DevEUI, session epoch, FCntUp) at most once,
//! each event is a genuine transmission with equal plaintext, and one event id has one content,
//! wherever it is seen: in the log as applied, in the log that remains, in a client's hands.
//!
//! Source: requirements, part G, S6. A log position keeps its content, also over a restart. The
//! workload never says the same twice, so that a reading accepted at two positions was accepted
//! twice whatever epoch the server gave it. Only where counters may start anew (`skipFCntCheck`) a
//! reading that comes late begins an epoch of its own, as whoever set that was told. A cluster
//! founded anew on an empty disk begins anew.

use std::collections::{BTreeMap, BTreeSet};

use lorawan::{DevAddr, DevEui};

use super::{Invariant, Violation, violation};
use crate::oracle::{Event, Fact, Reading, Seen};

/// Watches S6.
#[derive(Debug, Default)]
pub struct AcceptOnce {
    sent: BTreeSet<Reading>,
    /// Counters may start anew without a join.
    resets: bool,
    /// Where each counter of each session was accepted: device, address and epoch, counter.
    accepted: BTreeMap<(DevEui, DevAddr, u64, u32), u64>,
    /// Where each reading was accepted.
    readings: BTreeMap<Reading, u64>,
    /// What each log position holds.
    positions: BTreeMap<u64, (u64, Event)>,
    contents: BTreeMap<String, Reading>,
}

impl AcceptOnce {
    fn genuine(&mut self, event: &Event) -> Option<String> {
        if !self.sent.contains(&event.reading) {
            return Some(format!("phantom: no device sent {event:?}"));
        }
        let known = self.contents.entry(event.id.clone()).or_insert_with(|| event.reading.clone());
        (*known != event.reading)
            .then(|| format!("id {} stands for {known:?} and for {:?}", event.id, event.reading))
    }

    fn accept(&mut self, index: u64, session_epoch: u64, event: &Event) -> Option<String> {
        let content = (session_epoch, event.clone());
        let held = self.positions.entry(index).or_insert_with(|| content.clone());
        if *held != content {
            return Some(format!("log position {index} held {held:?} and now {content:?}"));
        }
        let reading = &event.reading;
        let first = *self.readings.entry(reading.clone()).or_insert(index);
        if first != index && !self.resets {
            return Some(format!("{reading:?} accepted at {first} and again at {index}"));
        }
        let counter = (reading.device, reading.dev_addr, session_epoch, reading.f_cnt);
        let first = *self.accepted.entry(counter).or_insert(index);
        (first != index).then(|| format!("{counter:?} accepted at {first} and again at {index}"))
    }

    fn begin_anew(&mut self) {
        self.accepted.clear();
        self.readings.clear();
        self.positions.clear();
    }

    fn repeated(log: &[Event]) -> Option<String> {
        let mut ids = BTreeSet::new();
        let twice = log.iter().find(|event| !ids.insert(&event.id))?;
        Some(format!("twice in the log that remains: {twice:?}"))
    }
}

impl Invariant for AcceptOnce {
    fn name(&self) -> &'static str {
        "S6"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        let mut wrong = Vec::new();
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        match &seen.fact {
            Fact::UplinkSent { reading, .. } => {
                self.sent.insert(reading.clone());
            }
            Fact::Begins(setting) => self.resets = setting.resets,
            Fact::DiskLost { wiped: true, .. } => self.begin_anew(),
            Fact::Accepted { index, session_epoch, event } => {
                wrong.extend(self.genuine(event));
                wrong.extend(self.accept(*index, *session_epoch, event));
            }
            Fact::Delivered { event, .. } => wrong.extend(self.genuine(event)),
            Fact::Ended { log } => {
                wrong.extend(log.iter().filter_map(|event| self.genuine(event)));
                wrong.extend(Self::repeated(log));
            }
            _ => {}
        }
        wrong.into_iter().map(|text| violation("S6", seen, text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{SETTING, disk_lost, event, judge, reading, uplink_sent as sent};
    use super::*;
    use crate::oracle::Setting;

    fn accepted(index: u64, event: Event) -> Fact {
        Fact::Accepted { index, session_epoch: 1, event }
    }

    fn delivered(event: Event) -> Fact {
        Fact::Delivered { client: "app".to_owned(), event }
    }

    #[test]
    fn a_genuine_event_passes_however_often_it_is_applied_or_delivered() {
        let one = event("a", reading(1, "21.5"));
        let history = [
            sent(1, "21.5"),
            accepted(7, one.clone()),
            delivered(one.clone()),
            accepted(7, one.clone()),
            delivered(one.clone()),
            Fact::Ended { log: vec![one] },
        ];
        assert!(judge(&mut AcceptOnce::default(), history).is_empty());
    }

    #[test]
    fn two_acceptances_of_one_counter_are_caught() {
        let history = [
            sent(1, "21.5"),
            accepted(7, event("a", reading(1, "21.5"))),
            accepted(8, event("b", reading(1, "21.5"))),
        ];
        assert_eq!(judge(&mut AcceptOnce::default(), history).len(), 1);
    }

    #[test]
    fn a_reading_accepted_in_two_epochs_is_caught_unless_the_cluster_is_another() {
        let again =
            Fact::Accepted { index: 8, session_epoch: 2, event: event("b", reading(1, "21.5")) };
        let first = accepted(7, event("a", reading(1, "21.5")));
        let twice = [sent(1, "21.5"), first.clone(), again.clone()];
        assert_eq!(judge(&mut AcceptOnce::default(), twice).len(), 1);
        let may_reset = Fact::Begins(Setting { resets: true, ..SETTING });
        let late = [may_reset, sent(1, "21.5"), first.clone(), again.clone()];
        assert!(judge(&mut AcceptOnce::default(), late).is_empty());
        let anew = [sent(1, "21.5"), first, disk_lost(true), again];
        assert!(judge(&mut AcceptOnce::default(), anew).is_empty());
    }

    #[test]
    fn phantoms_and_altered_payloads_are_caught() {
        let history = [
            sent(1, "21.5"),
            accepted(7, event("a", reading(2, "21.5"))),
            delivered(event("b", reading(1, "99.9"))),
            Fact::Ended { log: vec![event("c", reading(3, ""))] },
        ];
        assert_eq!(judge(&mut AcceptOnce::default(), history).len(), 3);
    }

    #[test]
    fn an_id_or_a_log_position_with_two_contents_is_caught() {
        let ids = [
            sent(1, "one"),
            sent(2, "two"),
            delivered(event("a", reading(1, "one"))),
            delivered(event("a", reading(2, "two"))),
        ];
        assert_eq!(judge(&mut AcceptOnce::default(), ids).len(), 1);
        let positions = [
            sent(1, "one"),
            sent(2, "two"),
            accepted(7, event("a", reading(1, "one"))),
            accepted(7, event("b", reading(2, "two"))),
        ];
        assert_eq!(judge(&mut AcceptOnce::default(), positions).len(), 1);
        let remains = vec![event("a", reading(1, "one")), event("a", reading(1, "one"))];
        let twice = [sent(1, "one"), Fact::Ended { log: remains }];
        assert_eq!(judge(&mut AcceptOnce::default(), twice).len(), 1);
    }
}
