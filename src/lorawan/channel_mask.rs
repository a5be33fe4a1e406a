//! Which channels are on: the text people write, and the LinkADRReq blocks that bring a device
//! there.
//!
//! Source: RP002-1.0.4 §2 (ChMaskCntl of each region), LoRaWAN 1.0.4 §5.3.

use std::collections::BTreeSet;

use crate::region::{ChMaskCntl, Region};

/// Channels that any ChMaskCntl can reach: indices 0..=95.
pub const CHANNEL_COUNT_MAX: u8 = 96;
const TEXT_LEN_MAX: usize = 512;
const BANK: u8 = 16;

/// Why a text is not a set of channels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelTextError {
    /// Nothing between two separators, or nothing at all.
    #[error("a channel is missing; write `8-15+65`")]
    Empty,
    /// Not a channel number.
    #[error("`{0}` is not a channel 0..=95")]
    Number(String),
    /// A run that ends before it starts.
    #[error("`{first}-{last}` runs backwards")]
    Backwards {
        /// Where it starts.
        first: u8,
        /// Where it ends.
        last: u8,
    },
    /// Longer than any set needs.
    #[error("{seen} characters, more than {TEXT_LEN_MAX}")]
    TooLong {
        /// Length of the text.
        seen: usize,
    },
}

/// Reads a set of channels: numbers and runs joined by `+`, spaces allowed. `8-15+65` is the second
/// sub-band of US915.
///
/// * Returns indices 0..=95; never empty.
pub fn parse_channels(text: &str) -> Result<BTreeSet<u8>, ChannelTextError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(ChannelTextError::TooLong { seen: text.len() });
    }
    let mut channels = BTreeSet::new();
    for part in text.split('+') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (channel(first)?, channel(last)?),
            None => (channel(part)?, channel(part)?),
        };
        if first > last {
            return Err(ChannelTextError::Backwards { first, last });
        }
        channels.extend(first..=last);
    }
    Ok(channels)
}

fn channel(text: &str) -> Result<u8, ChannelTextError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ChannelTextError::Empty);
    }
    // `parse` alone would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(channel) if digits && channel < CHANNEL_COUNT_MAX => Ok(channel),
        _ => Err(ChannelTextError::Number(text.chars().take(8).collect())),
    }
}

/// ChMask and ChMaskCntl of one LinkADRReq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelMask {
    /// Sixteen bits.
    pub ch_mask: u16,
    /// What they mean.
    pub ch_mask_cntl: u8,
}

/// A ChMaskCntl that the region does not have: the device refuses the whole block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ChMaskCntl {ch_mask_cntl} has no meaning in this region")]
pub struct ReservedChMaskCntl {
    /// The value.
    pub ch_mask_cntl: u8,
}

impl Region {
    /// What a device does with one LinkADRReq of a block.
    ///
    /// * `defined`: channels it has; a mask bit of another one is of no consequence here, whether
    ///   it is a reason to refuse is the device's matter.
    /// * Errors: [`ReservedChMaskCntl`].
    pub fn apply_channel_mask(
        &self,
        enabled: &BTreeSet<u8>,
        defined: &BTreeSet<u8>,
        mask: ChannelMask,
    ) -> Result<BTreeSet<u8>, ReservedChMaskCntl> {
        let ChannelMask { ch_mask, ch_mask_cntl } = mask;
        let wide = self.first_wide_channel;
        let bit = |number: u8| number < BANK && ch_mask >> number & 1 == 1;
        // `None` leaves a channel as it is.
        let decide = |channel: u8| match self.ch_mask_cntl.get(usize::from(ch_mask_cntl)) {
            Some(ChMaskCntl::Channels { first }) => {
                let number = channel.checked_sub(*first).filter(|number| *number < BANK);
                Some(number.map(bit))
            }
            Some(ChMaskCntl::AllOn) => Some(Some(true)),
            Some(ChMaskCntl::SubBands) if channel < wide => Some(Some(bit(channel / 8))),
            Some(ChMaskCntl::NarrowOn) if channel < wide => Some(Some(true)),
            Some(ChMaskCntl::NarrowOff) if channel < wide => Some(Some(false)),
            Some(ChMaskCntl::SubBands | ChMaskCntl::NarrowOn | ChMaskCntl::NarrowOff) => {
                Some(Some(bit(channel - wide)))
            }
            Some(ChMaskCntl::Reserved) | None => None,
        };
        let mut result = BTreeSet::new();
        for channel in defined {
            let decided = decide(*channel).ok_or(ReservedChMaskCntl { ch_mask_cntl })?;
            if decided.unwrap_or_else(|| enabled.contains(channel)) {
                result.insert(*channel);
            }
        }
        Ok(result)
    }

    /// The fewest masks that bring a device from `current` to `wanted`, to be sent as one block.
    ///
    /// Uses only the mask values that every revision of the regional parameters has: banks of
    /// sixteen, and all narrow channels on or off at once; never "by sub-band" (ChMaskCntl 5).
    ///
    /// * `current`, `wanted`: channels that are, and shall be, on; of those the device has.
    /// * Returns nothing when nothing must change.
    pub fn channel_masks(
        &self,
        current: impl IntoIterator<Item = u8>,
        wanted: impl IntoIterator<Item = u8>,
    ) -> Vec<ChannelMask> {
        let current: BTreeSet<u8> = current.into_iter().collect();
        let wanted: BTreeSet<u8> = wanted.into_iter().collect();
        let mut best = self.bank_masks(&current, &wanted);
        let wide_mask = mask_of(&wanted, self.first_wide_channel);
        for (ch_mask_cntl, meaning) in (0..).zip(&self.ch_mask_cntl) {
            let narrow_on = match meaning {
                ChMaskCntl::NarrowOn => true,
                ChMaskCntl::NarrowOff => false,
                ChMaskCntl::Channels { .. }
                | ChMaskCntl::AllOn
                | ChMaskCntl::SubBands
                | ChMaskCntl::Reserved => continue,
            };
            let narrow = (0..self.first_wide_channel).filter(|_| narrow_on);
            let wide = wanted.range(self.first_wide_channel..).copied();
            let after: BTreeSet<u8> = narrow.chain(wide).collect();
            let mut masks = vec![ChannelMask { ch_mask: wide_mask, ch_mask_cntl }];
            masks.extend(self.bank_masks(&after, &wanted));
            if masks.len() < best.len() {
                best = masks;
            }
        }
        best
    }

    /// One mask for each bank of sixteen that differs.
    fn bank_masks(&self, current: &BTreeSet<u8>, wanted: &BTreeSet<u8>) -> Vec<ChannelMask> {
        let mut masks = Vec::new();
        for (ch_mask_cntl, meaning) in (0..).zip(&self.ch_mask_cntl) {
            if let ChMaskCntl::Channels { first } = meaning {
                let ch_mask = mask_of(wanted, *first);
                if ch_mask != mask_of(current, *first) {
                    masks.push(ChannelMask { ch_mask, ch_mask_cntl });
                }
            }
        }
        masks
    }
}

/// The sixteen channels from `first` on, the first in bit 0.
fn mask_of(channels: &BTreeSet<u8>, first: u8) -> u16 {
    let bank = channels.range(first..first.saturating_add(BANK));
    bank.fold(0, |mask, channel| mask | 1 << (channel - first))
}
