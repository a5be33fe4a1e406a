//! S3, downlink order: a device never rejects a downlink because of the order of its counters.
//!
//! Source: requirements, part G, S3. The holder of the grant at the latest log index is always the
//! one node there is. Not its fault, and let pass:
//!
//! * bytes that the device has taken before, over another gateway or in another window;
//! * a frame that a gateway held while its counter jumped: it leaves at a moment nobody asked for;
//! * a frame that leaves when every window of its uplink is long over: a bit of a gateway's EUI was
//!   turned on the way, and a gateway was told the moment of another one's counter;
//! * a frame that no node has sent;
//! * frames of a cluster founded anew, for a device whose counters are those of the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lorawan::{DevEui, GatewayEui};

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Field, Judgement, Seen};

/// How long a gateway may hold what it was told: the longest delay of a window, and some.
const ASTRAY_MAX: Duration = Duration::from_secs(20);
/// How long after a gateway was told to send a frame its last window is over here: RX2 of a join is
/// the latest there is, and the frame itself takes a second or two.
const WINDOWS_OVER: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
struct Frame {
    gateways: BTreeSet<GatewayEui>,
    /// When a gateway was last told to send it.
    told: Duration,
    taken: bool,
}

/// Watches S3.
#[derive(Debug, Default)]
pub struct DownlinkOrder {
    frames: BTreeMap<(DevEui, Bytes), Frame>,
    jumped: BTreeMap<GatewayEui, Duration>,
    /// Devices that have taken nothing since the cluster was founded anew.
    strangers: BTreeSet<DevEui>,
    devices: BTreeSet<DevEui>,
}

impl DownlinkOrder {
    fn taken(&mut self, device: DevEui, phy_payload: &Bytes) {
        if let Some(frame) = self.frames.get_mut(&(device, phy_payload.clone())) {
            frame.taken = true;
            self.strangers.remove(&device);
        }
    }

    fn rejected(&self, device: DevEui, phy_payload: &Bytes, at: Duration) -> Option<String> {
        let frame = self.frames.get(&(device, phy_payload.clone()))?;
        let astray = |gateway| self.jumped.get(gateway).is_some_and(|then| at < *then + ASTRAY_MAX);
        let late = at > frame.told + WINDOWS_OVER;
        let stranger = self.strangers.contains(&device);
        if frame.taken || late || stranger || frame.gateways.iter().any(astray) {
            return None;
        }
        Some(format!("{device} rejects {:02x?} for its counter", &phy_payload[..]))
    }
}

impl Invariant for DownlinkOrder {
    fn name(&self) -> &'static str {
        "S3"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "five facts concern it")]
        match &seen.fact {
            Fact::DownlinkHanded { how, device, ciphertexts, .. } => {
                self.devices.insert(*device);
                for one in ciphertexts.iter().filter(|one| one.field == Field::Frame) {
                    let frame = self.frames.entry((*device, one.bytes.clone())).or_default();
                    frame.gateways.insert(how.gateway);
                    frame.told = seen.at;
                }
            }
            Fact::CounterReset { gateway } => {
                self.jumped.insert(*gateway, seen.at);
            }
            Fact::DiskLost { wiped: true, .. } => self.strangers.extend(&self.devices),
            Fact::Judged { device, phy_payload, judgement: Judgement::Taken } => {
                self.taken(*device, phy_payload);
            }
            Fact::Judged { device, phy_payload, judgement: Judgement::Counter } => {
                let wrong = self.rejected(*device, phy_payload, seen.at);
                return wrong.map(|text| violation("S3", seen, text)).into_iter().collect();
            }
            _ => {}
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{device, disk_lost, frame, judge, transmission};
    use super::*;

    fn judged(bytes: &'static [u8], judgement: Judgement) -> Fact {
        Fact::Judged { device: device(1), phy_payload: Bytes::from_static(bytes), judgement }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> usize {
        judge(&mut DownlinkOrder::default(), history).len()
    }

    #[test]
    fn copies_of_what_was_taken_and_frames_of_others_pass() {
        use Judgement::{Counter, Other, Taken};
        let history = [
            frame(5, b"five"),
            judged(b"five", Taken),
            judged(b"five", Counter),
            frame(6, b"six"),
            judged(b"six", Other),
            judged(b"replayed by somebody", Counter),
        ];
        assert_eq!(found(history), 0);
    }

    #[test]
    fn a_counter_that_jumped_and_a_new_cluster_excuse() {
        let jumped = Fact::CounterReset { gateway: transmission().gateway };
        assert_eq!(found([frame(5, b"five"), jumped, judged(b"five", Judgement::Counter)]), 0);
        let anew = [
            frame(5, b"five"),
            judged(b"five", Judgement::Taken),
            disk_lost(true),
            frame(0, b"zero"),
            judged(b"zero", Judgement::Counter),
        ];
        assert_eq!(found(anew), 0);
    }

    #[test]
    fn a_frame_that_leaves_long_after_its_windows_passes() {
        let later = |seconds| {
            let calm = (0..seconds).map(|_| Fact::Calm);
            [frame(5, b"five")].into_iter().chain(calm).chain([judged(b"five", Judgement::Counter)])
        };
        assert_eq!((found(later(7)), found(later(8))), (1, 0));
    }

    #[test]
    fn a_number_out_of_order_is_caught() {
        use Judgement::{Counter, Taken};
        let older =
            [frame(5, b"five"), frame(6, b"six"), judged(b"six", Taken), judged(b"five", Counter)];
        assert_eq!(found(older), 1);
        let settled = [
            frame(5, b"five"),
            judged(b"five", Taken),
            disk_lost(true),
            frame(7, b"seven"),
            judged(b"seven", Taken),
            frame(6, b"six"),
            judged(b"six", Counter),
        ];
        assert_eq!(found(settled), 1, "once it has taken a frame of the new cluster");
    }
}
