//! S5, JoinNonce: over all distinct join-accepts that leave for a device their JoinNonce strictly
//! rises, also over restarts and snapshots. Copies of one join-accept are the same one.
//!
//! Source: requirements, part G, S5; LoRaWAN 1.0.4 §6.2.6. A JoinNonce used twice would derive the
//! same session keys again from the same DevNonce. A cluster founded anew on an empty disk knows
//! nothing of the old one and begins anew.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lorawan::{DevEui, JoinNonce};

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
        #[expect(clippy::wildcard_enum_match_arm, reason = "two facts concern it")]
        let wrong = match &seen.fact {
            Fact::JoinAcceptHanded { dev_eui, join_nonce, bytes, .. } => {
                self.left(*dev_eui, *join_nonce, bytes)
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
    use super::super::history::{disk_lost, join_accept, judge};
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
    fn a_nonce_that_does_not_rise_is_caught() {
        for nonce in [4, 5] {
            let history = [join_accept(7, 5, b"five"), join_accept(8, nonce, b"other")];
            assert_eq!(judge(&mut JoinNonceRises::default(), history).len(), 1, "{nonce}");
        }
        let replaced = [join_accept(7, 9, b"nine"), disk_lost(false), join_accept(8, 0, b"zero")];
        assert_eq!(judge(&mut JoinNonceRises::default(), replaced).len(), 1);
    }
}
