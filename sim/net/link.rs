//! One direction between two hosts: how long a packet takes, and what becomes of it.
//!
//! Each packet takes the same number of draws from the link's own stream, whatever the link is
//! like, so that changing one property of a link changes nothing else about it.

use std::ops::Range;
use std::time::Duration;

use crate::dice::Dice;

/// What a link is like. The default is a quiet local network.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Drawn per packet; a wide range reorders datagrams.
    pub latency: Range<Duration>,
    /// Share of packets that never arrive, 0 to 1. Streams send them again.
    pub loss: f64,
    /// Share of datagrams that arrive twice, each copy with its own latency.
    pub duplicate: f64,
    /// Share of packets with one bit turned. Streams notice and send them again.
    pub corrupt: f64,
    /// Bytes per second, if they are limited.
    pub bandwidth: Option<u64>,
    /// Datagrams under way at most; what comes on top is lost.
    pub in_flight: usize,
    /// Largest datagram in bytes; a larger one is lost.
    pub mtu: usize,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(100)..Duration::from_micros(900),
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            bandwidth: None,
            in_flight: 4_096,
            mtu: super::DATAGRAM_LEN_MAX,
        }
    }
}

impl Quality {
    /// Between two sockets of one host.
    pub fn loopback() -> Self {
        let latency = Duration::from_micros(10)..Duration::from_micros(30);
        Self { latency, ..Self::default() }
    }
}

/// What becomes of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// When the packet, and its duplicate, arrive.
    pub(super) arrivals: [Option<Duration>; 2],
    /// The bit that is turned on the way, counted from the first.
    pub(super) flipped: Option<u64>,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Link {
    /// What it is like by itself.
    pub(super) base: Quality,
    /// What it is like under the noises that lie on it.
    pub(super) quality: Quality,
    /// How many cuts lie on it that nobody has mended: nothing passes while there is one.
    unmended: u32,
    /// Segments of streams vanish.
    pub(super) stalled: bool,
    /// How often it has been cut: a packet that was under way then is gone, healed or not.
    pub(super) cuts: u64,
    /// Datagrams under way.
    pub(super) in_flight: usize,
    dice: Dice,
    busy_until: Duration,
}

impl Link {
    pub(super) fn new(base: Quality, dice: Dice) -> Self {
        Self {
            quality: base.clone(),
            base,
            unmended: 0,
            stalled: false,
            cuts: 0,
            in_flight: 0,
            dice,
            busy_until: Duration::ZERO,
        }
    }

    /// What is under way keeps its time; what waits for bandwidth does not hold up the rest once
    /// the bandwidth is another.
    pub(super) fn become_like(&mut self, quality: Quality) {
        if quality.bandwidth != self.quality.bandwidth {
            self.busy_until = Duration::ZERO;
        }
        self.quality = quality;
    }

    /// Decides about a packet of `len` bytes sent at `now`.
    pub(super) fn fate(&mut self, now: Duration, len: usize) -> Fate {
        let quality = &self.quality;
        let lost = self.dice.chance(quality.loss);
        let twice = self.dice.chance(quality.duplicate);
        let corrupt = self.dice.chance(quality.corrupt);
        let bit = self.dice.below((len as u64 * 8).max(1));
        let latencies = [0, 1].map(|_| self.dice.between(&quality.latency));
        if self.is_cut() || lost {
            return Fate { arrivals: [None, None], flipped: None };
        }
        let mut leaves = now;
        if let Some(bandwidth) = quality.bandwidth {
            let nanos = len as u128 * 1_000_000_000 / u128::from(bandwidth.max(1));
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            leaves = self.busy_until.max(now) + Duration::from_nanos(nanos);
            self.busy_until = leaves;
        }
        Fate {
            arrivals: [Some(leaves + latencies[0]), twice.then_some(leaves + latencies[1])],
            flipped: (corrupt && len > 0).then_some(bit),
        }
    }

    /// Cuts it once more.
    pub(super) fn cut(&mut self) {
        self.unmended += 1;
        self.cuts += 1;
    }

    /// Mends one cut; others that lie on it stay.
    pub(super) fn mend(&mut self) {
        self.unmended = self.unmended.saturating_sub(1);
    }

    /// Nothing passes.
    pub(super) fn is_cut(&self) -> bool {
        self.unmended > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Seed;

    const NOW: Duration = Duration::from_secs(1);

    fn link(quality: Quality) -> Link {
        Link::new(quality, Seed(7).stream("net 1>2"))
    }

    #[test]
    fn loss_does_not_shift_the_latency_of_what_arrives() {
        let mut clean = link(Quality::default());
        let mut lossy = link(Quality { loss: 0.3, duplicate: 0.2, ..Quality::default() });
        let mut lost = 0;
        for _ in 0..1_000 {
            let (a, b) = (clean.fate(NOW, 100), lossy.fate(NOW, 100));
            match b.arrivals[0] {
                Some(at) => assert_eq!(a.arrivals[0], Some(at)),
                None => lost += 1,
            }
        }
        assert!((200..400).contains(&lost), "{lost} of 1,000 lost at 0.3");
    }

    #[test]
    fn bandwidth_queues_packets_behind_each_other() {
        let latency = Duration::ZERO..Duration::ZERO;
        let mut link = link(Quality { latency, bandwidth: Some(1_000), ..Quality::default() });
        let arrivals = [0, 1].map(|_| link.fate(NOW, 500).arrivals[0]);
        assert_eq!(arrivals, [500, 1_000].map(|ms| Some(NOW + Duration::from_millis(ms))));
    }

    #[test]
    fn a_cut_link_passes_nothing() {
        let mut link = link(Quality { duplicate: 1.0, ..Quality::default() });
        assert!(link.fate(NOW, 1).arrivals.iter().all(Option::is_some));
        link.cut();
        assert_eq!(link.fate(NOW, 1).arrivals, [None, None]);
    }

    #[test]
    fn a_link_passes_again_when_every_cut_is_mended() {
        let mut link = link(Quality::default());
        link.cut();
        link.cut();
        link.mend();
        assert!(link.is_cut());
        link.mend();
        assert!(!link.is_cut());
        link.mend();
        link.cut();
        assert!(link.is_cut(), "what was mended too often holds no cut back");
    }
}
