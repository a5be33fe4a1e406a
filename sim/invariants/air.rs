//! What gateways are sending, for the properties that ask whether one had its radio free.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lorawan::{GatewayEui, Modulation, TxStatus};

use crate::oracle::{Fact, Order, Seen, Transmission};

/// Kept free between two frames, in microseconds: what a forwarder takes to start its radio, and a
/// little.
const GUARD_US: u32 = 35_000;
/// How long frames and uplinks are remembered: more than the longest window and air-time.
const KEPT: Duration = Duration::from_secs(30);

/// The frames that gateways were asked to send and, as far as the node can know, have not refused,
/// and the uplinks they heard.
#[derive(Debug, Default)]
pub(super) struct Air {
    frames: BTreeMap<GatewayEui, VecDeque<(Duration, Transmission)>>,
    /// Frames that gateways have taken. One whose datagram came twice is refused the second time.
    taken: BTreeSet<Order>,
    /// Answers of gateways get lost also without a fault: the node may not know what was refused.
    rough: bool,
    uplinks: BTreeMap<(GatewayEui, u32), Modulation>,
    order: VecDeque<(Duration, GatewayEui, u32)>,
}

impl Air {
    /// Sees the next fact.
    pub(super) fn observe(&mut self, seen: &Seen) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "six facts concern it")]
        match &seen.fact {
            Fact::Begins(setting) => self.rough = setting.rough,
            Fact::DownlinkHanded { how, .. } | Fact::JoinAcceptHanded { how, .. } => {
                let frames = self.frames.entry(how.gateway).or_default();
                while frames.front().is_some_and(|(at, _)| *at + KEPT < seen.at) {
                    frames.pop_front();
                }
                frames.push_back((seen.at, how.clone()));
                self.taken.remove(&how.order());
            }
            Fact::Decided { order, status: TxStatus::Ok } => {
                self.taken.insert(order.clone());
            }
            Fact::Decided { order, .. } if !self.rough && !self.taken.contains(order) => {
                let (node, gateway, token) = order;
                if let Some(frames) = self.frames.get_mut(gateway) {
                    frames.retain(|(_, how)| (&how.node, how.token) != (node, *token));
                }
            }
            Fact::Pushed { gateway, tmst, modulation, .. } => {
                while let Some((at, gateway, tmst)) = self.order.front().copied()
                    && at + KEPT < seen.at
                {
                    self.order.pop_front();
                    self.uplinks.remove(&(gateway, tmst));
                }
                self.uplinks.insert((*gateway, *tmst), *modulation);
                self.order.push_back((seen.at, *gateway, *tmst));
            }
            _ => {}
        }
    }

    /// How the uplink was sent that a gateway heard at `tmst`, if it was told to the node.
    pub(super) fn uplink(&self, gateway: GatewayEui, tmst: u32) -> Option<Modulation> {
        self.uplinks.get(&(gateway, tmst)).copied()
    }

    /// Whether a gateway was asked for something else at a moment of its counter.
    ///
    /// * `until`: what it was asked for later does not count.
    pub(super) fn is_taken(
        &self,
        gateway: GatewayEui,
        tmst: u32,
        airtime: Duration,
        until: Duration,
    ) -> bool {
        let frames = self.frames.get(&gateway).into_iter().flatten();
        let asked = frames.filter(|(at, _)| *at <= until);
        let mut slots = asked.filter_map(|(_, how)| Some((how.tmst?, how.airtime)));
        slots.any(|(other, length)| {
            before(tmst, other, airtime + guard()) || before(other, tmst, length + guard())
        })
    }
}

const fn guard() -> Duration {
    Duration::from_micros(GUARD_US as u64)
}

/// Whether `two` comes within `length` after `one`, on a counter that wraps.
fn before(one: u32, two: u32, length: Duration) -> bool {
    u128::from(two.wrapping_sub(one)) < length.as_micros()
}

#[cfg(test)]
mod tests {
    use super::super::history::{downlink, gateway, transmission};
    use super::*;

    fn at(fact: Fact) -> Seen {
        Seen { at: Duration::from_secs(9), fact }
    }

    #[test]
    fn a_frame_takes_its_moment_until_it_is_refused() {
        // 50 ms from 1 s of the gateway's counter on.
        let how = transmission();
        let mut air = Air::default();
        air.observe(&at(downlink(5, None)));
        let now = Duration::from_secs(9);
        let taken =
            |air: &Air, tmst| air.is_taken(gateway(1), tmst, Duration::from_millis(100), now);
        assert!(taken(&air, 1_000_000) && taken(&air, 1_084_999) && taken(&air, 865_001));
        assert!(!taken(&air, 1_085_000) && !taken(&air, 865_000));
        assert!(!air.is_taken(gateway(2), 1_000_000, Duration::from_secs(1), now));
        let [ok, refused] = [TxStatus::Ok, TxStatus::CollisionPacket]
            .map(|status| at(Fact::Decided { order: how.order(), status }));
        let mut twice = Air::default();
        twice.observe(&at(downlink(5, None)));
        twice.observe(&ok);
        twice.observe(&refused);
        assert!(taken(&twice, 1_000_000), "its datagram came twice");
        let earlier = Duration::from_secs(8);
        assert!(!air.is_taken(gateway(1), 1_000_000, Duration::from_secs(1), earlier));
        let (order, status) = (("n2".to_owned(), how.gateway, how.token), TxStatus::TooLate);
        air.observe(&at(Fact::Decided { order, status }));
        assert!(taken(&air, 1_000_000), "it is another node's that was refused");
        air.observe(&at(Fact::Decided { order: how.order(), status }));
        assert!(!taken(&air, 1_000_000));
    }
}
