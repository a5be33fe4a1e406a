//! The frames of devices that are in the air, and which of them are broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Instant;
use radio::OnAir;

use super::witness::Carried;

/// A device's frame under way.
pub(super) struct Flying {
    pub(super) frame: OnAir,
    pub(super) carried: Arc<Carried>,
    /// That in words, for all the gateways that hear it.
    pub(super) told: String,
    /// Place of the device that sends it.
    pub(super) sender: usize,
    /// Another one overlaps it, or its sender stopped: nobody can read it.
    pub(super) broken: bool,
}

/// The air.
#[derive(Default)]
pub(super) struct Air {
    /// By the moment they end, then in order.
    flying: BTreeMap<(Instant, u64), Flying>,
    number: u64,
}

impl Air {
    /// A frame begins. On one frequency and data rate, two that overlap break each other.
    pub(super) fn lift(&mut self, sender: usize, frame: OnAir, carried: Carried) {
        let mut broken = false;
        for other in self.flying.values_mut() {
            if other.frame.frequency_hz == frame.frequency_hz
                && other.frame.modulation == frame.modulation
                && other.frame.ends_at() > frame.starts_at
            {
                other.broken = true;
                broken = true;
            }
        }
        self.number += 1;
        let key = (frame.ends_at(), self.number);
        let told = carried.told();
        let carried = Arc::new(carried);
        self.flying.insert(key, Flying { frame, carried, told, sender, broken });
    }

    /// The sender has stopped in the middle of what it says.
    pub(super) fn interrupt(&mut self, sender: usize) {
        let own = self.flying.values_mut().filter(|flying| flying.sender == sender);
        own.for_each(|flying| flying.broken = true);
    }

    /// When the next frame ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.flying.keys().next().map(|(at, _)| *at)
    }

    /// Takes out the next frame that has ended.
    pub(super) fn land(&mut self, now: Instant) -> Option<Flying> {
        let first = self.flying.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use lorawan::{DevEui, DevNonce, EU868};

    use super::*;

    fn frame(millis: u64, frequency_hz: u32, dr: u8) -> OnAir {
        OnAir {
            phy_payload: Bytes::new(),
            frequency_hz,
            modulation: EU868.modulation(dr).unwrap(),
            inverted_polarity: false,
            eirp_dbm: 14,
            starts_at: Instant::from_millis(millis),
            airtime: Duration::from_millis(100),
        }
    }

    fn landed(air: &mut Air) -> Vec<(usize, bool)> {
        let all = std::iter::from_fn(|| air.land(Instant::from_secs(9)));
        all.map(|flying| (flying.sender, flying.broken)).collect()
    }

    fn carried() -> Carried {
        Carried::Join { dev_eui: DevEui::default(), dev_nonce: DevNonce(1) }
    }

    #[test]
    fn frames_break_each_other_on_one_channel_and_rate_alone() {
        let mut air = Air::default();
        air.lift(0, frame(0, 868_100_000, 5), carried());
        air.lift(1, frame(50, 868_100_000, 4), carried());
        air.lift(2, frame(50, 868_300_000, 5), carried());
        air.lift(3, frame(99, 868_100_000, 5), carried());
        air.lift(4, frame(199, 868_100_000, 5), carried());
        assert_eq!(air.next(), Some(Instant::from_millis(100)));
        assert!(air.land(Instant::from_millis(99)).is_none());
        assert_eq!(landed(&mut air), [(0, true), (1, false), (2, false), (3, true), (4, false)]);
        assert_eq!(air.next(), None);
    }

    #[test]
    fn a_sender_without_power_breaks_its_own_frame() {
        let mut air = Air::default();
        air.lift(0, frame(0, 868_100_000, 5), carried());
        air.lift(1, frame(0, 868_300_000, 5), carried());
        air.interrupt(1);
        assert_eq!(landed(&mut air), [(0, false), (1, true)]);
    }
}
