//! S4, DevNonce: one (JoinEUI, DevEUI, DevNonce) yields at most one session, and all
//! join-accepts for it are byte-identical. Nobody is activated who did not ask. From 1.0.4 on the
//! nonces of a device's sessions strictly rise, in the order of the log.
//!
//! Source: requirements, part G, S4; LoRaWAN 1.0.3 §6.2.4, 1.0.4 §6.2.5. A second session for a
//! replayed request would let a recording cut a device off. A device whose nonces somebody has told
//! the server to forget is no longer held to their rise, and a cluster founded anew knows no nonce.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lorawan::{DevAddr, DevEui, DevNonce, JoinEui};

use store::{Command, Proposal};

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
    /// Nonces must rise.
    rising: bool,
    /// The nonce of each session by the place of its decision, of devices that must let them rise.
    order: BTreeMap<(JoinEui, DevEui), BTreeMap<u64, DevNonce>>,
    /// Devices whose nonces the server was told to forget.
    forgotten: BTreeSet<DevEui>,
}

impl DevNonceOnce {
    fn activated(&mut self, request: Request, session: (u64, DevAddr)) -> Option<String> {
        let first = *self.sessions.entry(request).or_insert(session);
        if first != session {
            // A node that restarts applies the same entry again: same index, same address.
            return Some(format!("a second session {session:?} for {request:?}, after {first:?}"));
        }
        if !self.asked.contains(&request) {
            return Some(format!("session {session:?} for {request:?}, which nobody asked for"));
        }
        self.rises(request, session.0)
    }

    fn rises(&mut self, (join_eui, dev_eui, nonce): Request, index: u64) -> Option<String> {
        if !self.rising || self.forgotten.contains(&dev_eui) {
            return None;
        }
        let nonces = self.order.entry((join_eui, dev_eui)).or_default();
        let below = nonces.range(..index).next_back().map(|(_, nonce)| *nonce);
        let above = nonces.range(index + 1..).next().map(|(_, nonce)| *nonce);
        nonces.insert(index, nonce);
        let wrong = below.filter(|below| *below >= nonce).or(above.filter(|above| *above <= nonce));
        let other = wrong?;
        Some(format!("{dev_eui}: DevNonce {} at {index} does not rise, see {}", nonce.0, other.0))
    }

    fn handed(&mut self, request: Request, bytes: &Bytes, fact: &Fact) -> Option<String> {
        let first = self.accepts.entry(request).or_insert_with(|| bytes.clone());
        (first != bytes).then(|| format!("{fact:02x?}, after {:02x?}", &first[..]))
    }

    fn proposed(&mut self, proposals: &[Proposal]) {
        for proposal in proposals {
            if let Command::FlushDevNonces(dev_eui)
            | Command::DeleteDeviceKeys(dev_eui)
            | Command::DeleteDevice(dev_eui) = proposal.command
            {
                self.forgotten.insert(dev_eui);
            }
        }
    }
}

impl Invariant for DevNonceOnce {
    fn name(&self) -> &'static str {
        "S4"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        let wrong = match &seen.fact {
            Fact::Begins(setting) => {
                self.rising = setting.nonces_rise;
                None
            }
            Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce } => {
                self.asked.insert((*join_eui, *dev_eui, *dev_nonce));
                None
            }
            Fact::Activated { index, join_eui, dev_eui, dev_nonce, dev_addr } => {
                self.activated((*join_eui, *dev_eui, *dev_nonce), (*index, *dev_addr))
            }
            Fact::JoinAcceptHanded { join_eui, dev_eui, dev_nonce, bytes, .. } => {
                self.handed((*join_eui, *dev_eui, *dev_nonce), bytes, &seen.fact)
            }
            Fact::Logged { proposals, .. } => {
                self.proposed(proposals);
                None
            }
            Fact::DiskLost { wiped: true, .. } => {
                self.sessions.clear();
                self.accepts.clear();
                self.order.clear();
                None
            }
            _ => None,
        };
        wrong.map(|text| violation("S4", seen, text)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{
        SETTING, device, disk_lost, join_accept, join_request, judge, logged,
    };
    use super::*;
    use crate::oracle::Setting;

    fn activated(index: u64, nonce: u16, dev_addr: u32) -> Fact {
        Fact::Activated {
            index,
            join_eui: JoinEui::default(),
            dev_eui: device(1),
            dev_nonce: DevNonce(nonce),
            dev_addr: DevAddr::from_u32(dev_addr),
        }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> usize {
        judge(&mut DevNonceOnce::default(), history).len()
    }

    #[test]
    fn one_session_a_nonce_and_identical_accepts_pass() {
        let history = [
            join_request(8),
            activated(10, 8, 1),
            join_accept(8, 1, b"one"),
            join_accept(8, 1, b"one"),
            activated(10, 8, 1),
            join_request(7),
            activated(11, 7, 2),
            join_accept(7, 2, b"two"),
        ];
        assert_eq!(found(history), 0, "nonces of 1.0.3 are random");
        let anew = [join_request(7), activated(10, 7, 1), disk_lost(true), activated(3, 7, 2)];
        assert_eq!(found(anew), 0, "a new cluster cannot know");
    }

    #[test]
    fn a_second_session_another_accept_and_an_unasked_session_are_caught() {
        assert_eq!(found([join_request(7), activated(10, 7, 1), activated(11, 7, 2)]), 1);
        assert_eq!(found([join_request(7), activated(10, 7, 1), activated(10, 7, 2)]), 1);
        let other = [join_request(7), join_accept(7, 1, b"one"), join_accept(7, 1, b"two")];
        assert_eq!(found(other), 1);
        assert_eq!(found([activated(10, 7, 1)]), 1);
    }

    #[test]
    fn from_1_0_4_on_nonces_rise_in_the_order_of_the_log() {
        let rising = Fact::Begins(Setting { nonces_rise: true, ..SETTING });
        let asked = || [join_request(7), join_request(8), join_request(9)];
        let history = |sessions: [Fact; 3]| {
            [rising.clone()].into_iter().chain(asked()).chain(sessions).collect::<Vec<_>>()
        };
        let risen = [activated(1, 7, 1), activated(3, 9, 3), activated(2, 8, 2)];
        assert_eq!(found(history(risen)), 0, "in whatever order they are told");
        let fallen = [activated(1, 8, 1), activated(2, 9, 2), activated(3, 7, 3)];
        assert_eq!(found(history(fallen)), 1);
        let between = [activated(1, 7, 1), activated(3, 8, 3), activated(2, 9, 2)];
        assert_eq!(found(history(between)), 1);
        let mut flushed = history([activated(1, 9, 1), activated(2, 7, 2), activated(3, 8, 3)]);
        flushed.insert(5, logged(9, [Command::FlushDevNonces(device(1))]));
        assert_eq!(found(flushed), 0);
    }
}
