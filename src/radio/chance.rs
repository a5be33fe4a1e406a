//! Dice from a seed: the same seed throws the same dice.

use core::ops::Range;

use clock::Duration;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A seeded source of chance.
#[derive(Clone, Debug)]
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self::stream(seed, 0)
    }

    /// One of many independent streams of a seed.
    pub(crate) fn stream(seed: [u8; 32], stream: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        let [low, high, ..] = self.0.next_u32().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32().checked_rem(bound).unwrap_or(0)
    }

    /// True with probability `share`, 0 to 1. Draws also when the answer is certain.
    pub(crate) fn share(&mut self, share: f64) -> bool {
        f64::from(self.0.next_u32()) / (f64::from(u32::MAX) + 1.0) < share
    }

    /// A duration of `range`, to the microsecond; its start if the range is empty. Draws once.
    pub(crate) fn between(&mut self, range: &Range<Duration>) -> Duration {
        let width = range.end.saturating_sub(range.start).as_micros();
        let width = u32::try_from(width).unwrap_or(u32::MAX).max(1);
        range.start + Duration::from_micros(u64::from(self.below(width)))
    }

    /// One of `items`; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let bound = u32::try_from(items.len()).unwrap_or(u32::MAX);
        items.get(self.below(bound) as usize)
    }
}
