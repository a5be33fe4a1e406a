//! S8, the downlink queue: what leaves for a device is what somebody queued for it; each item is
//! sent under at most as many numbers as it may be tried; items go in the order of their calls; an
//! item that was cancelled is not sent.
//!
//! Source: requirements, part G, S8. The same bytes may leave any number of times (RX1, RX2,
//! another gateway, the answer to a repetition): what counts is the number they are sent under. A
//! call whose answer did not come may have queued its item, now, later or never.
//!
//! Of two nodes that each have an item to send the one that was given its item first may be held up
//! by its disk. Its number is the lower one, so that a device which has heard the other item takes
//! this one no more: that is no overtaking.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lorawan::{DevAddr, DevEui};

use super::{Invariant, Violation, violation};
use crate::oracle::{Answer, Fact, Seen};

/// Numbers that one item may be sent under. A confirmed item has no more than an unconfirmed one:
/// the server does not send a lost item again by itself, the application hears
/// `acknowledged: false` and decides (`mac::transition::confirm`).
const TRIES_MAX: usize = 1;

#[derive(Clone, Debug, Default)]
struct Item {
    /// When the call began.
    since: Duration,
    /// When and how it ended.
    ended: Option<(Duration, Answer)>,
    cancelled: bool,
    numbers: BTreeSet<(DevAddr, u32)>,
    arrived: usize,
}

/// Watches S8.
#[derive(Debug, Default)]
pub struct DownlinkQueue {
    items: BTreeMap<(DevEui, Bytes), Item>,
    /// The latest begin of a call whose item was sent, and its number, by device.
    latest: BTreeMap<DevEui, (Duration, (DevAddr, u32))>,
}

impl DownlinkQueue {
    fn asked(&mut self, device: DevEui, payload: &Bytes, at: Duration) -> Option<String> {
        let item = Item { since: at, ..Item::default() };
        let before = self.items.insert((device, payload.clone()), item);
        before.map(|_| format!("the workload queued {payload:02x?} for {device} twice"))
    }

    fn queued(
        &mut self,
        device: DevEui,
        payload: &Bytes,
        ended: (Duration, Answer),
    ) -> Option<String> {
        let item = self.items.get_mut(&(device, payload.clone()))?;
        item.ended = Some(ended);
        let refused = ended.1 == Answer::Refused && !item.numbers.is_empty();
        refused.then(|| format!("{payload:02x?} for {device} was refused, but has been sent"))
    }

    fn cancelled(&mut self, device: DevEui, payload: &Bytes) -> Option<String> {
        let item = self.items.get_mut(&(device, payload.clone()))?;
        item.cancelled = true;
        let sent = item.numbers.first().copied();
        sent.map(|number| format!("{payload:02x?} for {device} cancelled, but sent as {number:?}"))
    }

    fn sent(&mut self, device: DevEui, payload: &Bytes, number: (DevAddr, u32)) -> Option<String> {
        let Some(item) = self.items.get_mut(&(device, payload.clone())) else {
            return Some(format!("phantom: nobody queued {payload:02x?} for {device}"));
        };
        let first = item.numbers.is_empty();
        if !item.numbers.insert(number) {
            return None;
        }
        let latest = self.latest.entry(device).or_insert((item.since, number));
        let is_lower = number.0 == latest.1.0 && number.1 < latest.1.1;
        let is_older = |(at, answer)| answer == Answer::Done && at < latest.0;
        let overtaken = first && !is_lower && item.ended.is_some_and(is_older);
        if item.since > latest.0 {
            *latest = (item.since, number);
        }
        let what = format!("{payload:02x?} for {device}, sent as {number:?},");
        if item.numbers.len() > TRIES_MAX {
            return Some(format!("{what} was sent before: {:?}", item.numbers));
        }
        if item.cancelled {
            return Some(format!("{what} had been cancelled"));
        }
        if item.ended.is_some_and(|(_, answer)| answer == Answer::Refused) {
            return Some(format!("{what} had been refused"));
        }
        overtaken.then(|| format!("{what} was queued before an item that went before it"))
    }

    fn arrived(&mut self, device: DevEui, payload: &Bytes) -> Option<String> {
        let item = self.items.get_mut(&(device, payload.clone()));
        let Some(item) = item.filter(|item| !item.numbers.is_empty()) else {
            return Some(format!("phantom: {payload:02x?} reached {device} and was never sent"));
        };
        item.arrived += 1;
        let (arrived, tries) = (item.arrived, item.numbers.len());
        let text = || format!("{payload:02x?} reached {device} {arrived} times, sent {tries}");
        (arrived > tries).then(text)
    }

    /// A device without its memory takes again what it has taken before.
    fn forgotten(&mut self, device: DevEui) {
        let of_device = (device, Bytes::new())..;
        let items = self.items.range_mut(of_device).take_while(|((whose, _), _)| *whose == device);
        items.for_each(|(_, item)| item.arrived = 0);
    }
}

impl Invariant for DownlinkQueue {
    fn name(&self) -> &'static str {
        "S8"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        let wrong = match &seen.fact {
            Fact::QueueAsked { device, payload, .. } => self.asked(*device, payload, seen.at),
            Fact::Queued { device, payload, answer, .. } => {
                self.queued(*device, payload, (seen.at, *answer))
            }
            Fact::Cancelled { device, payload, answer: Answer::Done } => {
                self.cancelled(*device, payload)
            }
            Fact::DownlinkHanded {
                device, dev_addr, f_cnt, payload: Some((_, payload)), ..
            } => self.sent(*device, payload, (*dev_addr, *f_cnt)),
            Fact::Arrived { device, payload } => self.arrived(*device, payload),
            Fact::Rebooted { device, memory_lost: true } => {
                self.forgotten(*device);
                None
            }
            _ => None,
        };
        wrong.map(|text| violation("S8", seen, text)).into_iter().collect()
    }

    fn closing(&self) -> Option<String> {
        let done = |item: &&Item| item.ended.is_some_and(|(_, answer)| answer == Answer::Done);
        let sent = self.items.values().filter(|item| !item.numbers.is_empty()).count();
        let cancelled = self.items.values().filter(|item| item.cancelled).count();
        let waits = |item: &&Item| item.numbers.is_empty() && !item.cancelled;
        let left = self.items.values().filter(done).filter(waits).count();
        let asked = self.items.len();
        Some(format!(
            "{asked} downlinks asked for: {sent} sent, {cancelled} cancelled, {left} queued and \
             never sent"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{device, downlink, judge, uplink_sent};
    use super::*;

    const A: &[u8] = b"item a";
    const B: &[u8] = b"item b";

    fn payload(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    fn asked(bytes: &'static [u8]) -> Fact {
        Fact::QueueAsked { device: device(1), payload: payload(bytes), confirmed: false }
    }

    fn queued(bytes: &'static [u8], answer: Answer) -> Fact {
        let (confirmed, since) = (false, Duration::ZERO);
        Fact::Queued {
            node: "n1".to_owned(),
            device: device(1),
            payload: payload(bytes),
            confirmed,
            since,
            answer,
        }
    }

    fn cancelled(bytes: &'static [u8], answer: Answer) -> Fact {
        Fact::Cancelled { device: device(1), payload: payload(bytes), answer }
    }

    fn sent(f_cnt: u32, bytes: &'static [u8]) -> Fact {
        downlink(f_cnt, Some(bytes))
    }

    fn arrived(bytes: &'static [u8]) -> Fact {
        Fact::Arrived { device: device(1), payload: payload(bytes) }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> Vec<String> {
        judge(&mut DownlinkQueue::default(), history)
    }

    #[test]
    fn items_in_order_copies_and_unknown_outcomes_pass() {
        use Answer::{Done, Refused, Unknown};
        let in_order = [
            asked(A),
            queued(A, Done),
            asked(B),
            queued(B, Unknown),
            sent(1, A),
            sent(1, A),
            arrived(A),
            cancelled(A, Refused),
            sent(2, B),
            arrived(B),
        ];
        assert!(found(in_order).is_empty());
        // B was queued after A, for all anybody knows: the calls overlap, or A's answer never came.
        let overlapping =
            [asked(A), asked(B), queued(A, Done), queued(B, Done), sent(1, B), sent(2, A)];
        assert!(found(overlapping).is_empty());
        let unknown =
            [asked(A), queued(A, Unknown), asked(B), queued(B, Done), sent(1, B), sent(2, A)];
        assert!(found(unknown).is_empty());
        let withdrawn = [asked(A), queued(A, Done), cancelled(A, Done)];
        assert!(found(withdrawn).is_empty());
        // The answer comes after the item has gone.
        assert!(found([asked(A), sent(1, A), arrived(A), queued(A, Done)]).is_empty());
        let forgets = Fact::Rebooted { device: device(1), memory_lost: true };
        assert!(found([asked(A), sent(1, A), arrived(A), forgets, arrived(A)]).is_empty());
    }

    #[test]
    fn a_second_number_a_second_arrival_and_phantoms_are_caught() {
        assert_eq!(found([asked(A), sent(1, A), sent(2, A)]).len(), 1);
        assert_eq!(found([asked(A), sent(1, A), arrived(A), arrived(A)]).len(), 1);
        assert_eq!(found([sent(1, A)]).len(), 1);
        assert_eq!(found([asked(A), arrived(A)]).len(), 1);
        assert_eq!(found([uplink_sent(1, "x"), asked(A), sent(1, B)]).len(), 1);
    }

    #[test]
    fn what_was_refused_or_cancelled_must_not_be_sent() {
        use Answer::{Done, Refused};
        assert_eq!(found([asked(A), queued(A, Refused), sent(1, A)]).len(), 1);
        assert_eq!(found([asked(A), sent(1, A), queued(A, Refused)]).len(), 1);
        assert_eq!(found([asked(A), queued(A, Done), cancelled(A, Done), sent(1, A)]).len(), 1);
        assert_eq!(found([asked(A), queued(A, Done), sent(1, A), cancelled(A, Done)]).len(), 1);
    }

    #[test]
    fn an_item_that_leaves_late_under_the_lower_number_overtakes_nothing() {
        use Answer::Done;
        let late = [asked(A), queued(A, Done), asked(B), queued(B, Done), sent(2, B), sent(1, A)];
        assert_eq!(found(late), Vec::<String>::new());
    }

    #[test]
    fn an_item_that_overtakes_is_caught() {
        use Answer::{Done, Unknown};
        for answer in [Done, Unknown] {
            let overtakes =
                [asked(A), queued(A, Done), asked(B), queued(B, answer), sent(1, B), sent(2, A)];
            assert_eq!(found(overtakes).len(), 1, "{answer:?}");
        }
    }

    #[test]
    fn what_was_never_sent_is_told_and_no_violation() {
        let mut queue = DownlinkQueue::default();
        let history = [asked(A), queued(A, Answer::Done), asked(B), queued(B, Answer::Unknown)];
        assert!(judge(&mut queue, history).is_empty());
        let words = queue.closing().unwrap();
        assert!(words.contains("2 downlinks asked for: 0 sent") && words.contains("1 queued and"));
    }
}
