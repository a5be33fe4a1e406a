//! S5, JoinNonce: over all distinct join-accepts that leave for a device their JoinNonce strictly
//! rises, also over restarts and snapshots. Copies of one join-accept are the same one.
//!
//! Source: requirements, part G, S5; LoRaWAN 1.0.4 §6.2.6. A JoinNonce used twice would derive the
//! same session keys again from the same DevNonce. A cluster founded anew on an empty disk knows
//! nothing of the old one and begins anew. What a node holds back until its window is over is heard
//! by no device.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lorawan::{DevEui, JoinNonce};

use super::lateness::Lateness;
use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Seen};

#[derive(Debug)]
struct Accepts {
    last: JoinNonce,
    seen: BTreeSet<Bytes>,
}

/// Watches S5.
#[derive(Debug, Default)]
pub struct JoinNonceRises {
    devices: BTreeMap<DevEui, Accepts>,
    lateness: Lateness,
}

impl JoinNonceRises {
    fn left(&mut self, device: DevEui, nonce: JoinNonce, bytes: &Bytes) -> Option<String> {
        let Some(accepts) = self.devices.get_mut(&device) else {
            let seen = BTreeSet::from([bytes.clone()]);
            self.devices.insert(device, Accepts { last: nonce, seen });
            return None;
        };
        if !accepts.seen.insert(bytes.clone()) {
            return None;
        }
        let last = accepts.last;
        accepts.last = last.max(nonce);
        (nonce <= last).then(|| {
            format!("a join-accept for {device} with JoinNonce {} after {}", nonce.0, last.0)
        })
    }
}

impl Invariant for JoinNonceRises {
    fn name(&self) -> &'static str {
        "S5"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        self.lateness.observe(seen);
        #[expect(clippy::wildcard_enum_match_arm, reason = "two facts concern it")]
        let wrong = match &seen.fact {
            Fact::JoinAcceptHanded { how, dev_eui, join_nonce, bytes, .. } => {
                let wrong = self.left(*dev_eui, *join_nonce, bytes);
                wrong.filter(|_| !self.lateness.is_late(seen.at, how))
            }
            Fact::DiskLost { wiped: true, .. } => {
                self.devices.clear();
                None
            }
            _ => None,
        };
        wrong.map(|text| violation("S5", seen, text)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{disk_lost, heard_at, join_accept, judge, transmission};
    use super::*;

    #[test]
    fn rising_nonces_and_copies_pass_also_after_a_newer_one() {
        let history = [
            join_accept(7, 1, b"one"),
            join_accept(7, 1, b"one"),
            join_accept(8, 2, b"two"),
            join_accept(7, 1, b"one"),
            join_accept(9, 5, b"five"),
        ];
        assert!(judge(&mut JoinNonceRises::default(), history).is_empty());
        let anew = [join_accept(7, 9, b"nine"), disk_lost(true), join_accept(8, 0, b"zero")];
        assert!(judge(&mut JoinNonceRises::default(), anew).is_empty());
    }

    #[test]
    fn what_leaves_when_its_window_is_over_passes() {
        let how = transmission();
        for (counter, found) in [(0, 1), (how.tmst.unwrap(), 0)] {
            let history = [
                join_accept(8, 5, b"five"),
                heard_at(how.gateway, counter),
                join_accept(7, 4, b"four"),
            ];
            assert_eq!(judge(&mut JoinNonceRises::default(), history).len(), found);
        }
    }

    #[test]
    fn a_nonce_that_does_not_rise_is_caught() {
        for nonce in [4, 5] {
            let history = [join_accept(7, 5, b"five"), join_accept(8, nonce, b"other")];
            assert_eq!(judge(&mut JoinNonceRises::default(), history).len(), 1, "{nonce}");
        }
        let replaced = [join_accept(7, 9, b"nine"), disk_lost(false), join_accept(8, 0, b"zero")];
        assert_eq!(judge(&mut JoinNonceRises::default(), replaced).len(), 1);
    }
}
