//! What a session takes from its region's table, in this crate's types.

use lorawan::{Region, UnknownRegion};

use crate::{ChannelSet, ExtraChannel, MacProfile};

/// Channels that a CFList of frequencies, and so a profile, can add.
pub const EXTRA_CHANNELS_MAX: usize = lorawan::CF_LIST_FREQUENCIES;

impl MacProfile {
    /// The table of the profile's region.
    ///
    /// * Errors: [`UnknownRegion`], when this version does not know it.
    pub fn region_table(&self) -> Result<&'static Region, UnknownRegion> {
        Region::from_name(&self.region)
    }
}

/// The channels every device of the region has.
pub(crate) fn default_channels(region: &Region) -> ChannelSet {
    (0..region.uplink_channel_count()).collect()
}

/// Extra channels of a dynamic plan by index: they follow the default ones, with the same data
/// rates. None on a fixed plan.
pub(crate) fn extra_channels(
    region: &Region,
    frequencies_hz: &[u32],
) -> impl Iterator<Item = (u8, ExtraChannel)> {
    let rates = region.uplink.first().map_or((0, 0), |block| (block.min_dr, block.max_dr));
    let count = if region.is_fixed_plan() { 0 } else { EXTRA_CHANNELS_MAX };
    (region.uplink_channel_count()..).zip(frequencies_hz).take(count).map(
        move |(index, frequency_hz)| {
            let (min_dr, max_dr) = rates;
            (index, ExtraChannel { frequency_hz: *frequency_hz, min_dr, max_dr })
        },
    )
}
