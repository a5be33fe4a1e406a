//! S20, one radio: a gateway takes no two different frames for the same moment. It has begun the
//! first by the time it takes the second, and will not send that one, whatever its TX_ACK said.
//!
//! Source: requirements, part G, S20. Not the server's fault, and let pass: copies of one frame (it
//! asks for the second window when a TX_ACK got lost), a gateway whose counter has jumped, and what
//! an earlier boot had asked for. Nor can a node know what another has asked a gateway for: of
//! several, each is held to what it has said itself. It is the node whose PULL_RESP it is that
//! counts, whoever has planned the frame: all that a gateway is told by it goes through its hands.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lorawan::{DevAddr, DevEui, GatewayEui, TxStatus};

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Order, Seen, Transmission};

/// Frames of one gateway that are remembered.
const TAKEN_MAX: usize = 64;

/// Which frame a transmission carries.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Frame {
    Data(DevEui, DevAddr, u32),
    JoinAccept(Bytes),
}

#[derive(Clone, Debug)]
struct Sending {
    frame: Frame,
    how: Transmission,
    boot: u64,
}

/// Watches that part of S20.
#[derive(Debug, Default)]
pub struct OneRadio {
    handed: BTreeMap<Order, Sending>,
    taken: BTreeMap<GatewayEui, VecDeque<Sending>>,
    /// Starts of any node: the one that plans may be another than the one that says it.
    boots: u64,
    /// Gateways may share a name, or be told something else than was sent.
    doubtful: bool,
}

impl OneRadio {
    fn handed(&mut self, how: &Transmission, frame: Frame) {
        let sending = Sending { frame, how: how.clone(), boot: self.boots };
        self.handed.insert(how.order(), sending);
    }

    /// A datagram that came twice is answered twice: taken, and then refused for being there. Which
    /// answer reaches the node first is anybody's guess.
    fn told_twice(&mut self, order: &Order) {
        if let Some(taken) = self.taken.get_mut(&order.1) {
            taken.retain(|sending| sending.how.order() != *order);
        }
    }

    fn taken(&mut self, sending: Sending) -> Option<String> {
        let taken = self.taken.entry(sending.how.gateway).or_default();
        let other = taken.iter().find(|other| {
            other.frame != sending.frame
                && other.boot == sending.boot
                && other.how.node == sending.how.node
                && overlap(&other.how, &sending.how)
        });
        let text = other.map(|other| format!("{:?} amidst {:?}", sending.how, other.how));
        taken.push_back(sending);
        if taken.len() > TAKEN_MAX {
            taken.pop_front();
        }
        text.filter(|_| !self.doubtful)
    }
}

fn overlap(one: &Transmission, two: &Transmission) -> bool {
    let (Some(begin), Some(other)) = (one.tmst, two.tmst) else { return false };
    let within = |since: u32, long: &Transmission| u128::from(since) < long.airtime.as_micros();
    within(other.wrapping_sub(begin), one) || within(begin.wrapping_sub(other), two)
}

impl Invariant for OneRadio {
    fn name(&self) -> &'static str {
        "S20"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        self.doubtful |= seen.fact.raises_doubt();
        #[expect(clippy::wildcard_enum_match_arm, reason = "five facts concern it")]
        match &seen.fact {
            Fact::DownlinkHanded { how, device, dev_addr, f_cnt, .. } => {
                self.handed(how, Frame::Data(*device, *dev_addr, *f_cnt));
            }
            Fact::JoinAcceptHanded { how, bytes, .. } => {
                self.handed(how, Frame::JoinAccept(bytes.clone()));
            }
            Fact::Started { .. } => self.boots += 1,
            Fact::CounterReset { gateway } => {
                self.taken.remove(gateway);
            }
            Fact::Decided { order, status } => {
                let sending = self.handed.remove(order);
                if sending.is_none() && *status != TxStatus::Ok {
                    self.told_twice(order);
                }
                let taken = sending.filter(|_| *status == TxStatus::Ok);
                let wrong = taken.and_then(|sending| self.taken(sending));
                return wrong.map(|text| violation("S20", seen, text)).into_iter().collect();
            }
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::history::{ADDRESS, SETTING, device, gateway, judge, transmission};
    use super::*;
    use crate::oracle::Setting;

    fn handed(token: u16, tmst: u32, f_cnt: u32) -> Fact {
        let airtime = Duration::from_secs(1);
        Fact::DownlinkHanded {
            how: Transmission { token, tmst: Some(tmst), airtime, ..transmission() },
            device: device(1),
            dev_addr: ADDRESS,
            f_cnt,
            ciphertexts: Vec::new(),
            payload: None,
            acknowledges: None,
        }
    }

    fn decided(token: u16, status: TxStatus) -> Fact {
        Fact::Decided { order: ("n1".to_owned(), gateway(1), token), status }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> usize {
        judge(&mut OneRadio::default(), history).len()
    }

    /// Two frames, the second one so many microseconds after the first.
    fn two(apart: u32, f_cnt: u32, between: Option<Fact>) -> Vec<Fact> {
        let begin = u32::MAX - 300_000;
        let first = [handed(1, begin, 5), decided(1, TxStatus::Ok)];
        let second = [handed(2, begin.wrapping_add(apart), f_cnt), decided(2, TxStatus::Ok)];
        first.into_iter().chain(between).chain(second).collect()
    }

    #[test]
    fn one_frame_after_the_other_and_copies_of_one_pass() {
        assert_eq!(found(two(1_000_000, 6, None)), 0);
        assert_eq!(found(two(0_u32.wrapping_sub(1_000_000), 6, None)), 0);
        assert_eq!(found(two(500_000, 5, None)), 0, "the same frame in the other window");
        let refused = [
            handed(1, 0, 5),
            decided(1, TxStatus::CollisionPacket),
            handed(2, 500_000, 6),
            decided(2, TxStatus::Ok),
        ];
        assert_eq!(found(refused), 0);
    }

    #[test]
    fn two_frames_for_one_moment_are_caught_also_where_the_counter_wraps() {
        assert_eq!(found(two(999_999, 6, None)), 1);
        assert_eq!(found(two(0_u32.wrapping_sub(999_999), 6, None)), 1);
    }

    #[test]
    fn one_token_of_two_nodes_is_two_answers_and_neither_knows_of_the_others() {
        let by = |node: &str, mut fact: Fact| {
            if let Fact::DownlinkHanded { how, .. } = &mut fact {
                how.node = node.to_owned();
            } else if let Fact::Decided { order, .. } = &mut fact {
                order.0 = node.to_owned();
            } else {
                panic!("{fact:?}");
            }
            fact
        };
        let apart = [
            handed(1, 0, 5),
            by("n2", handed(1, 500_000, 6)),
            decided(1, TxStatus::Ok),
            by("n2", decided(1, TxStatus::Ok)),
        ];
        assert_eq!(found(apart), 0);
        let crossed = [
            handed(1, 0, 5),
            by("n2", handed(1, 2_000_000, 6)),
            decided(1, TxStatus::Ok),
            by("n2", decided(1, TxStatus::CollisionPacket)),
            handed(2, 500_000, 7),
            decided(2, TxStatus::Ok),
        ];
        assert_eq!(found(crossed), 1, "a refusal of another node's excuses nothing");
    }

    #[test]
    fn what_the_server_cannot_know_is_excused() {
        let started = Fact::Started { node: "n1".to_owned() };
        let jumped = Fact::CounterReset { gateway: gateway(1) };
        let told_twice = decided(1, TxStatus::CollisionPacket);
        for excuse in [started, jumped, told_twice] {
            assert_eq!(found(two(500_000, 6, Some(excuse))), 0);
        }
        let twins = Fact::Begins(Setting { doubtful: true, ..SETTING });
        assert_eq!(found([twins].into_iter().chain(two(500_000, 6, None))), 0);
    }
}
