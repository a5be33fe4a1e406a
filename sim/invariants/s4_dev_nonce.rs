//! S4, DevNonce: one (JoinEUI, DevEUI, DevNonce) yields at most one session, and all
//! join-accepts for it are byte-identical. Nobody is activated who did not ask.
//!
//! Source: requirements, part G, S4; LoRaWAN 1.0.3 §6.2.4. A second session for a replayed request
//! would let a recording cut a device off. (The strict rise of nonces from 1.0.4 on is not watched
//! yet: the devices of the smallest form speak 1.0.3.)

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lorawan::{DevAddr, DevEui, DevNonce, JoinEui};

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Seen};

type Request = (JoinEui, DevEui, DevNonce);

/// Watches S4.
#[derive(Debug, Default)]
pub struct DevNonceOnce {
    asked: BTreeSet<Request>,
    /// The session of each request: where the log decided it, and the address given.
    sessions: BTreeMap<Request, (u64, DevAddr)>,
    accepts: BTreeMap<Request, Bytes>,
}

impl Invariant for DevNonceOnce {
    fn name(&self) -> &'static str {
        "S4"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "three facts concern it")]
        let wrong = match &seen.fact {
            Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } => {
                self.asked.insert((*join_eui, *dev_eui, *dev_nonce));
                None
            }
            Fact::Activated { index, join_eui, dev_eui, dev_nonce, dev_addr } => {
                let request = (*join_eui, *dev_eui, *dev_nonce);
                let session = (*index, *dev_addr);
                let first = *self.sessions.entry(request).or_insert(session);
                if first != session {
                    // A node that restarts applies the same entry again: same index, same address.
                    Some(format!("a second session {session:?} for {request:?}, after {first:?}"))
                } else if !self.asked.contains(&request) {
                    Some(format!("session {session:?} for {request:?}, which nobody asked for"))
                } else {
                    None
                }
            }
            Fact::JoinAcceptHanded { how, join_eui, dev_eui, dev_nonce, bytes, .. } => {
                let request = (*join_eui, *dev_eui, *dev_nonce);
                let first = self.accepts.entry(request).or_insert_with(|| bytes.clone());
                (first != bytes).then(|| {
                    format!(
                        "join-accept {:02x?} for {request:?} through gateway {}, after {:02x?}",
                        &bytes[..],
                        how.gateway,
                        &first[..]
                    )
                })
            }
            _ => None,
        };
        wrong.map(|text| violation("S4", seen, text)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{device, judge, transmission};
    use super::*;

    fn asked(nonce: u16) -> Fact {
        Fact::JoinRequestSent {
            join_eui: JoinEui::default(),
            dev_eui: device(1),
            dev_nonce: DevNonce(nonce),
        }
    }

    fn activated(index: u64, nonce: u16, dev_addr: u32) -> Fact {
        Fact::Activated {
            index,
            join_eui: JoinEui::default(),
            dev_eui: device(1),
            dev_nonce: DevNonce(nonce),
            dev_addr: DevAddr::from_u32(dev_addr),
        }
    }

    fn accept(nonce: u16, bytes: &'static [u8]) -> Fact {
        Fact::JoinAcceptHanded {
            how: transmission(),
            join_eui: JoinEui::default(),
            dev_eui: device(1),
            dev_nonce: DevNonce(nonce),
            join_nonce: lorawan::JoinNonce::default(),
            bytes: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn one_session_a_nonce_and_identical_accepts_pass() {
        let history = [
            asked(7),
            activated(10, 7, 1),
            accept(7, b"one"),
            accept(7, b"one"),
            activated(10, 7, 1),
            asked(8),
            activated(11, 8, 2),
            accept(8, b"two"),
        ];
        assert!(judge(&mut DevNonceOnce::default(), history).is_empty());
    }

    #[test]
    fn a_second_session_another_accept_and_an_unasked_session_are_caught() {
        let twice = [asked(7), activated(10, 7, 1), activated(11, 7, 2)];
        assert_eq!(judge(&mut DevNonceOnce::default(), twice).len(), 1);
        let rewritten = [asked(7), activated(10, 7, 1), activated(10, 7, 2)];
        assert_eq!(judge(&mut DevNonceOnce::default(), rewritten).len(), 1);
        let other = [asked(7), accept(7, b"one"), accept(7, b"two")];
        assert_eq!(judge(&mut DevNonceOnce::default(), other).len(), 1);
        assert_eq!(judge(&mut DevNonceOnce::default(), [activated(10, 7, 1)]).len(), 1);
    }
}
