//! What each gateway has been asked to send, and when. It has one radio.
//!
//! A forwarder refuses a frame for a moment at which another waits in its queue. Once it has begun
//! a frame it no longer knows of it: it takes the second one, says OK, and cannot send it when its
//! time comes (lora_pkt_fwd 4.0.1, "concentrator is currently emitting"). Nobody would try the
//! other window then, nor another gateway. So this node remembers, and does not ask; nor does it
//! pass on what another node asks of a gateway that this one reaches.
//!
//! All times of frames are on the gateway's own counter, which wraps.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use clock::{Duration, Instant};
use lorawan::GatewayEui;

/// Kept free between two frames, in microseconds: the forwarder wakes 30 ms before a frame, and
/// takes 1.5 ms to start the radio and 1 ms of margin.
const GUARD_US: u32 = 32_500;
/// Frames remembered for all gateways; beyond, the oldest is forgotten.
const FRAMES_MAX: usize = 65_536;

/// When a frame is to be sent: begin and length in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) tmst: u32,
    pub(super) airtime_us: u32,
}

impl Slot {
    pub(super) fn new(tmst: u32, airtime: Duration) -> Self {
        Self { tmst, airtime_us: u32::try_from(airtime.as_micros()).unwrap_or(u32::MAX) }
    }

    /// Whether both cannot be sent by one radio.
    const fn collides(self, other: Self) -> bool {
        other.tmst.wrapping_sub(self.tmst) < self.airtime_us.saturating_add(GUARD_US)
            || self.tmst.wrapping_sub(other.tmst) < other.airtime_us.saturating_add(GUARD_US)
    }
}

#[derive(Clone, Debug)]
struct Booking {
    downlink_id: u32,
    frame: Bytes,
    slot: Slot,
}

/// The frames that gateways have been asked to send and have not refused.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    by_gateway: BTreeMap<GatewayEui, Vec<Booking>>,
    /// When each is over, in the order in which they were asked for: within seconds the same.
    ends: VecDeque<(Instant, GatewayEui, u32)>,
}

impl Calendar {
    /// Whether a gateway has nothing else to send then.
    ///
    /// * `frame`: other transmissions of it, of which one at most is sent, do not count.
    pub(super) fn is_free(&self, gateway: GatewayEui, slot: Slot, frame: &[u8]) -> bool {
        let bookings = self.by_gateway.get(&gateway).into_iter().flatten();
        let mut others = bookings.filter(|booking| booking.frame != frame);
        !others.any(|booking| booking.slot.collides(slot))
    }

    /// Notes what a gateway is asked to send.
    ///
    /// * `over`: when it has certainly been sent.
    pub(super) fn book(
        &mut self,
        now: Instant,
        over: Instant,
        gateway: GatewayEui,
        downlink_id: u32,
        (frame, slot): (&Bytes, Slot),
    ) {
        while let Some((end, gateway, downlink_id)) = self.ends.front().copied()
            && (end <= now || self.ends.len() >= FRAMES_MAX)
        {
            self.ends.pop_front();
            self.cancel(gateway, downlink_id);
        }
        let booking = Booking { downlink_id, frame: frame.clone(), slot };
        self.by_gateway.entry(gateway).or_default().push(booking);
        self.ends.push_back((over, gateway, downlink_id));
    }

    /// The gateway has refused it, or it is over.
    pub(super) fn cancel(&mut self, gateway: GatewayEui, downlink_id: u32) {
        let Some(bookings) = self.by_gateway.get_mut(&gateway) else { return };
        bookings.retain(|booking| booking.downlink_id != downlink_id);
        if bookings.is_empty() {
            self.by_gateway.remove(&gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: GatewayEui = GatewayEui::from_be_bytes([1; 8]);
    const OTHER: GatewayEui = GatewayEui::from_be_bytes([2; 8]);

    const FRAME: Bytes = Bytes::from_static(b"frame");

    fn slot(tmst: u32, airtime_ms: u64) -> Slot {
        Slot::new(tmst, Duration::from_millis(airtime_ms))
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn a_radio_sends_one_frame_at_a_time_with_a_pause_between_two() {
        let mut calendar = Calendar::default();
        calendar.book(at(1), at(4), GATEWAY, 7, (&FRAME, slot(1_000_000, 1_000)));
        let free = |tmst: u32, airtime_ms| calendar.is_free(GATEWAY, slot(tmst, airtime_ms), &[]);
        assert!(!free(1_000_000, 50) && !free(1_999_999, 50) && !free(2_032_499, 50));
        assert!(free(2_032_500, 50));
        assert!(!free(900_000, 100) && !free(900_000, 68) && free(900_000, 67));
        assert!(calendar.is_free(OTHER, slot(1_000_000, 50), &[]), "it has a radio of its own");
        assert!(calendar.is_free(GATEWAY, slot(1_500_000, 50), &FRAME), "the same frame again");
    }

    #[test]
    fn counters_wrap() {
        let mut calendar = Calendar::default();
        calendar.book(at(1), at(4), GATEWAY, 7, (&FRAME, slot(u32::MAX - 99_999, 300)));
        assert!(!calendar.is_free(GATEWAY, slot(150_000, 50), &[]));
        assert!(calendar.is_free(GATEWAY, slot(232_500, 50), &[]));
    }

    #[test]
    fn what_was_refused_or_is_over_takes_no_room() {
        let mut calendar = Calendar::default();
        calendar.book(at(1), at(4), GATEWAY, 7, (&FRAME, slot(1_000_000, 1_000)));
        calendar.cancel(GATEWAY, 7);
        assert!(calendar.is_free(GATEWAY, slot(1_000_000, 50), &[]));
        for number in 0..100_000 {
            let now = at(u64::from(number) / 1_000);
            let over = now + Duration::from_secs(3);
            calendar.book(now, over, GATEWAY, number, (&FRAME, slot(number, 1)));
        }
        assert!(calendar.by_gateway[&GATEWAY].len() <= 4_001, "{}", calendar.ends.len());
        assert_eq!(calendar.ends.len(), calendar.by_gateway[&GATEWAY].len());
        for number in 0..70_000 {
            calendar.book(at(200), at(300), GATEWAY, number, (&FRAME, slot(number, 1)));
        }
        assert!(calendar.ends.len() <= FRAMES_MAX);
    }
}
