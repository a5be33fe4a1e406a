//! The channels of a fixed plan, switched by blocks of LinkADRReq.
//!
//! The region's table knows the shortest block. What this adds: a block that does not fit a frame
//! is told in rounds, and a device below 1.0.2, which judges every LinkADRReq by itself, is never
//! left without a channel. Source: LoRaWAN 1.0.4 §5.3, RP002-1.0.4 §2.5.5.

use std::collections::BTreeSet;

use lorawan::{ChMaskCntl, ChannelMask, Region};

use crate::ChannelSet;
use crate::region::default_channels;

/// The masks from `current` to `target`, at most `masks_max`; the rest follows when these are
/// acknowledged.
///
/// * `atomic`: the device judges the block as a whole (from 1.0.2 on).
pub(super) fn masks(
    region: &Region,
    current: ChannelSet,
    target: ChannelSet,
    atomic: bool,
    masks_max: usize,
) -> Vec<ChannelMask> {
    let whole = region.channel_masks(current.iter(), target.iter());
    if atomic && whole.len() <= masks_max {
        return whole;
    }
    let mut banks: Vec<(bool, ChannelMask)> = Vec::new();
    for (ch_mask_cntl, meaning) in (0..).zip(&region.ch_mask_cntl) {
        let ChMaskCntl::Channels { first } = *meaning else { continue };
        let (has, wants) = (current.bank(first / 16), target.bank(first / 16));
        if has != wants {
            let gains = wants & !has != 0;
            banks.push((gains, ChannelMask { ch_mask: wants, ch_mask_cntl }));
        }
    }
    // Channels come before channels go.
    banks.sort_by_key(|(gains, _)| !gains);
    banks.into_iter().map(|(_, mask)| mask).take(masks_max).collect()
}

/// The channels after a mask that the device has accepted; as before for one without a meaning.
pub(super) fn after(region: &Region, channels: ChannelSet, mask: ChannelMask) -> ChannelSet {
    let enabled: BTreeSet<u8> = channels.iter().collect();
    let defined: BTreeSet<u8> = default_channels(region).iter().collect();
    let after = region.apply_channel_mask(&enabled, &defined, mask);
    after.map_or(channels, |after| after.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use lorawan::US915;
    use proptest::prelude::*;

    use super::*;

    fn walk(from: ChannelSet, masks: &[ChannelMask]) -> ChannelSet {
        masks.iter().fold(from, |channels, mask| after(&US915, channels, *mask))
    }

    #[test]
    fn a_device_that_judges_each_mask_gains_before_it_loses() {
        let from: ChannelSet = (0..=7).chain([64]).collect();
        let target: ChannelSet = (16..=23).chain([66]).collect();
        let block = masks(&US915, from, target, false, 5);
        let seen: Vec<u8> = block.iter().map(|mask| mask.ch_mask_cntl).collect();
        assert_eq!(seen, [1, 4, 0]);
        assert_eq!(walk(from, &block), target);
    }

    proptest! {
        #[test]
        fn every_target_is_reached_in_rounds(
            from in prop::collection::btree_set(0_u8..72, 1..72),
            to in prop::collection::btree_set(0_u8..72, 1..72),
            atomic: bool,
            masks_max in 1_usize..=3,
        ) {
            let target: ChannelSet = to.into_iter().collect();
            let mut channels: ChannelSet = from.into_iter().collect();
            let mut rounds = 0;
            while channels != target {
                let block = masks(&US915, channels, target, atomic, masks_max);
                prop_assert!(!block.is_empty() && block.len() <= masks_max);
                channels = walk(channels, &block);
                prop_assert!(!channels.is_empty());
                rounds += 1;
                prop_assert!(rounds <= 5);
            }
        }
    }
}
