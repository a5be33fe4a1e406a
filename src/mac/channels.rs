//! Sets of uplink channels.

use core::fmt;
use core::str::FromStr;

use lorawan::{CHANNEL_COUNT_MAX, ChannelTextError, parse_channels};

use crate::ChannelSet;

impl ChannelSet {
    /// Adds a channel; one beyond 95 is ignored.
    pub fn insert(&mut self, channel: u8) {
        if channel < CHANNEL_COUNT_MAX {
            self.words[usize::from(channel / 64)] |= 1 << (channel % 64);
        }
    }

    /// Takes a channel out.
    pub fn remove(&mut self, channel: u8) {
        if channel < CHANNEL_COUNT_MAX {
            self.words[usize::from(channel / 64)] &= !(1 << (channel % 64));
        }
    }

    /// Whether the channel is in the set.
    #[must_use]
    pub fn contains(&self, channel: u8) -> bool {
        channel < CHANNEL_COUNT_MAX
            && self.words[usize::from(channel / 64)] >> (channel % 64) & 1 == 1
    }

    /// Whether no channel is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == [0; 2]
    }

    /// The channels, rising.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..CHANNEL_COUNT_MAX).filter(|channel| self.contains(*channel))
    }

    /// Sixteen channels from `16 * bank` on, the lowest in bit 0, as a ChMask carries them.
    #[must_use]
    pub fn bank(&self, bank: u8) -> u16 {
        (0..16).fold(0, |mask, bit| {
            let channel = bank.saturating_mul(16).saturating_add(bit);
            mask | u16::from(self.contains(channel)) << bit
        })
    }

    /// Replaces the sixteen channels from `16 * bank` on.
    pub fn set_bank(&mut self, bank: u8, mask: u16) {
        for bit in 0..16 {
            let channel = bank.saturating_mul(16).saturating_add(bit);
            if mask >> bit & 1 == 1 { self.insert(channel) } else { self.remove(channel) }
        }
    }
}

impl FromIterator<u8> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = u8>>(channels: I) -> Self {
        let mut set = Self::default();
        channels.into_iter().for_each(|channel| set.insert(channel));
        set
    }
}

impl FromStr for ChannelSet {
    type Err = ChannelTextError;

    /// Numbers and runs joined by `+`: `8-15+65`.
    fn from_str(text: &str) -> Result<Self, ChannelTextError> {
        parse_channels(text).map(|channels| channels.into_iter().collect())
    }
}

/// Runs joined by `+`: `8-15+65`.
impl fmt::Display for ChannelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut channel = 0;
        while channel < CHANNEL_COUNT_MAX {
            let first = channel;
            while self.contains(channel) {
                channel += 1;
            }
            match channel - first {
                0 => {}
                1 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{}", channel - 1)?,
            }
            if channel > first {
                separator = "+";
            }
            channel += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_band_is_two_masks() {
        let set: ChannelSet = (8..=15).chain([65]).collect();
        assert_eq!(set.to_string(), "8-15+65");
        assert_eq!("8-15+65".parse(), Ok(set));
        assert_eq!((set.bank(0), set.bank(1), set.bank(4)), (0xFF00, 0, 0x0002));
        assert_eq!(set.iter().count(), 9);
        let mut copy = ChannelSet::default();
        (0..6).for_each(|bank| copy.set_bank(bank, set.bank(bank)));
        assert_eq!(copy, set);
    }

    #[test]
    fn the_edges_hold() {
        let mut set: ChannelSet = [0, 63, 64, 95, 96, 255].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 95]);
        assert!(!set.contains(96) && !set.contains(255));
        assert_eq!(set.to_string(), "0+63-64+95");
        [0, 63, 64, 95, 200].into_iter().for_each(|channel| set.remove(channel));
        assert!(set.is_empty());
        assert_eq!(set.to_string(), "");
        assert_eq!(set.bank(255), 0);
    }
}
