//! S2, downlink numbers: each that leaves a node was granted before, to exactly one home under one
//! epoch; one home and epoch hands them out in rising order; one number is one string of bytes; and
//! none is 16,384 or more above the last that the device took.
//!
//! Source: requirements, part G, S2. Told by what nodes apply, and by the datagrams. A copy of what
//! left before (RX2, another gateway, the answer to a repetition) is no new number. What leaves
//! when its window is over, for the link to the node that reaches the gateway had held it back, is
//! in no order. Nothing is said any more once the disks of a majority have lost what they held.

use std::collections::BTreeMap;

use bytes::Bytes;
use lorawan::DevEui;
use mac::Grant;

use super::lateness::Lateness;
use super::numbers::{Counter, Home, Ranges, home_of};
use super::{Invariant, Violation, violation};
use crate::oracle::{Ciphertext, Fact, Field, Judgement, Seen};

/// A device below 1.0.4 refuses what is so far above the last that it took.
const GAP_MAX: u32 = 16_384;

#[derive(Debug, Default)]
struct Numbers {
    granted: Ranges,
    /// The bytes of each number that has left.
    left: BTreeMap<u32, Bytes>,
    /// The highest that each home has handed out under each epoch.
    highest: BTreeMap<Home, u32>,
    /// The last that the device took.
    taken: Option<u32>,
}

/// Watches S2.
#[derive(Debug, Default)]
pub struct GrantedOnce {
    counters: BTreeMap<Counter, Numbers>,
    frames: BTreeMap<(DevEui, Bytes), (Counter, u32)>,
    lateness: Lateness,
    void: bool,
}

impl GrantedOnce {
    fn handed(
        &mut self,
        of: Counter,
        number: u32,
        parts: &[Ciphertext],
        late: bool,
    ) -> Option<String> {
        let whole = parts.iter().find(|part| part.field == Field::Frame)?;
        self.frames.insert((of.0, whole.bytes.clone()), (of, number));
        let numbers = self.counters.entry(of).or_default();
        let first = numbers.left.get(&number);
        if let Some(first) = first {
            let differs = *first != whole.bytes;
            return differs.then(|| format!("{number} of {of:?} is two frames"));
        }
        numbers.left.insert(number, whole.bytes.clone());
        let Some(home) = numbers.granted.home(number) else {
            return Some(format!("{number} of {of:?} left, and nobody was granted it"));
        };
        if late {
            return None;
        }
        let highest = numbers.highest.entry(home).or_insert(number);
        if *highest > number {
            return Some(format!("{number} of {of:?} left after {highest}, both of {home:?}"));
        }
        *highest = number;
        let gap = number.saturating_sub(numbers.taken.unwrap_or(0));
        (gap >= GAP_MAX).then(|| format!("{number} of {of:?}: the device took {:?}", numbers.taken))
    }

    fn taken(&mut self, device: DevEui, phy_payload: &Bytes) {
        let Some((of, number)) = self.frames.get(&(device, phy_payload.clone())) else { return };
        if let Some(numbers) = self.counters.get_mut(of) {
            numbers.taken = numbers.taken.max(Some(*number));
        }
    }
}

impl Invariant for GrantedOnce {
    fn name(&self) -> &'static str {
        "S2"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        if self.void {
            return Vec::new();
        }
        self.lateness.observe(seen);
        #[expect(clippy::wildcard_enum_match_arm, reason = "four facts concern it")]
        let wrong = match &seen.fact {
            Fact::Granted { device, dev_addr, grant, .. } => {
                let of = (*device, *dev_addr);
                let added = self.counters.entry(of).or_default().granted.add(grant);
                added.err().map(|other| {
                    let (home, Grant { lo, hi, .. }) = (home_of(grant), grant);
                    format!("{lo}..{hi} of {of:?} is granted to {home:?}, a part was to {other:?}")
                })
            }
            Fact::DownlinkHanded { how, device, dev_addr, f_cnt, ciphertexts, .. } => {
                let late = self.lateness.is_late(seen.at, how);
                self.handed((*device, *dev_addr), *f_cnt, ciphertexts, late)
            }
            Fact::Judged { device, phy_payload, judgement: Judgement::Taken } => {
                self.taken(*device, phy_payload);
                None
            }
            Fact::DiskLost { .. } => {
                self.void = true;
                None
            }
            _ => None,
        };
        wrong.map(|text| violation("S2", seen, text)).into_iter().collect()
    }

    fn closing(&self) -> Option<String> {
        let left: usize = self.counters.values().map(|numbers| numbers.left.len()).sum();
        Some(format!("{left} numbers left, each granted once"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{device, disk_lost, frame, granted, judge};
    use super::*;

    fn found(history: impl IntoIterator<Item = Fact>) -> Vec<String> {
        judge(&mut GrantedOnce::default(), history)
    }

    fn took(bytes: &'static [u8]) -> Fact {
        let judgement = Judgement::Taken;
        Fact::Judged { device: device(1), phy_payload: Bytes::from_static(bytes), judgement }
    }

    #[test]
    fn numbers_of_a_grant_in_order_and_copies_pass() {
        let history = [
            granted(1, 1, 0, 16),
            frame(0, b"zero"),
            frame(1, b"one"),
            frame(0, b"zero"),
            granted(2, 2, 16, 32),
            frame(16, b"sixteen"),
            frame(2, b"two"),
        ];
        assert!(found(history).is_empty(), "what another home has left lies below");
    }

    #[test]
    fn a_number_granted_twice_or_never_or_out_of_order_or_for_two_frames_is_caught() {
        let twice = found([granted(1, 1, 0, 16), granted(2, 2, 15, 31)]);
        assert!(twice.len() == 1 && twice[0].contains("a part was to (1, 1)"), "{twice:?}");
        let never = found([granted(1, 1, 0, 16), frame(16, b"sixteen")]);
        assert!(never.len() == 1 && never[0].contains("nobody was granted it"), "{never:?}");
        let turned = found([granted(1, 1, 0, 16), frame(1, b"one"), frame(0, b"zero")]);
        assert!(turned.len() == 1 && turned[0].contains("left after 1"), "{turned:?}");
        let two = found([granted(1, 1, 0, 16), frame(0, b"zero"), frame(0, b"null")]);
        assert!(two.len() == 1 && two[0].contains("is two frames"), "{two:?}");
        let anew = [granted(1, 1, 0, 16), disk_lost(true), granted(2, 1, 0, 16)];
        assert!(found(anew).is_empty());
    }

    #[test]
    fn what_a_device_must_refuse_is_caught() {
        let far =
            |number| [granted(1, 1, 0, 40_000), frame(7, b"a"), took(b"a"), frame(number, b"b")];
        assert!(found(far(7 + GAP_MAX - 1)).is_empty());
        let found = found(far(7 + GAP_MAX));
        assert!(found.len() == 1 && found[0].contains("the device took Some(7)"), "{found:?}");
    }
}
