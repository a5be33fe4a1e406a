//! The channels of one device: which exist, which are on, and where each is answered.
//!
//! Everything regional comes out of [`Region`]'s tables. Source: RP002-1.0.4 §2, LoRaWAN 1.0.4 §5.

use lorawan::{CfList, ChMaskCntl, Modulation, Region};

use crate::chance::Chance;

/// Channels a device of a dynamic plan can keep (RP002-1.0.4: at least 16).
const DYNAMIC_CHANNELS_MAX: u8 = 16;

#[derive(Clone, Copy, Debug)]
struct PlanChannel {
    uplink_hz: u32,
    /// Set by a DlChannelReq.
    rx1_hz: Option<u32>,
    min_dr: u8,
    max_dr: u8,
    on: bool,
}

/// A choice of channel for one transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) index: u8,
    pub(crate) uplink_hz: u32,
    pub(crate) data_rate: u8,
    pub(crate) modulation: Modulation,
}

/// What a window listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(crate) frequency_hz: u32,
    pub(crate) modulation: Modulation,
}

/// The channels that a LinkADRReq would leave on; one flag for each place.
pub(crate) type Mask = Vec<bool>;

/// The channels of one device.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) region: &'static Region,
    channels: Vec<Option<PlanChannel>>,
}

impl Plan {
    /// The region's own channels; only those of `enabled` on, if told.
    pub(crate) fn new(region: &'static Region, enabled: Option<&[u8]>) -> Self {
        let mut channels: Vec<_> = (0_u8..)
            .zip(region.uplink_channels())
            .map(|(index, channel)| {
                Some(PlanChannel {
                    uplink_hz: channel.frequency_hz,
                    rx1_hz: None,
                    min_dr: channel.min_dr,
                    max_dr: channel.max_dr,
                    on: enabled.is_none_or(|enabled| enabled.contains(&index)),
                })
            })
            .collect();
        if !region.is_fixed_plan() {
            channels.resize(usize::from(DYNAMIC_CHANNELS_MAX), None);
        }
        Self { region, channels }
    }

    /// The indices of the channels that are on.
    pub(crate) fn enabled(&self) -> impl Iterator<Item = u8> {
        (0..).zip(&self.channels).filter_map(|(index, channel)| {
            channel.is_some_and(|channel| channel.on).then_some(index)
        })
    }

    /// One of the channels that carry `data_rate`; else any that is on, at its lowest rate.
    pub(crate) fn choose(&self, data_rate: u8, chance: &mut Chance) -> Option<Choice> {
        let on: Vec<(u8, PlanChannel)> = (0_u8..)
            .zip(&self.channels)
            .filter_map(|(index, channel)| channel.filter(|c| c.on).map(|c| (index, c)))
            .collect();
        let fitting: Vec<_> = on
            .iter()
            .copied()
            .filter(|(_, channel)| (channel.min_dr..=channel.max_dr).contains(&data_rate))
            .collect();
        let (index, channel, data_rate) = match chance.pick(&fitting) {
            Some((index, channel)) => (*index, channel, data_rate),
            None => chance.pick(&on).map(|(index, channel)| (*index, channel, channel.min_dr))?,
        };
        let modulation = self.region.modulation(data_rate)?;
        Some(Choice { index, uplink_hz: channel.uplink_hz, data_rate, modulation })
    }

    /// Where RX1 listens after a transmission.
    pub(crate) fn rx1(&self, sent: Choice, rx1_dr_offset: u8) -> Option<Tuning> {
        let own = self.channel(sent.index).and_then(|channel| channel.rx1_hz);
        let frequency_hz = own.or_else(|| self.region.rx1_frequency(sent.uplink_hz))?;
        let data_rate = self.region.rx1_dr(sent.data_rate, rx1_dr_offset, false)?;
        Some(Tuning { frequency_hz, modulation: self.region.modulation(data_rate)? })
    }

    /// Where RX2 listens.
    pub(crate) fn rx2(&self, frequency_hz: u32, data_rate: u8) -> Option<Tuning> {
        let rate = self.region.data_rate(data_rate).filter(|rate| rate.down)?;
        Some(Tuning { frequency_hz, modulation: rate.modulation })
    }

    /// Whether RX1 knows this offset, whatever the uplink's data rate.
    pub(crate) fn knows_offset(&self, rx1_dr_offset: u8) -> bool {
        let offset = usize::from(rx1_dr_offset);
        let mut rows = self.region.rx1_dr.iter().filter(|row| !row.is_empty());
        rows.all(|row| offset < row.len())
    }

    /// Whether devices may be told to listen on this frequency.
    pub(crate) fn knows_frequency(&self, frequency_hz: u32) -> bool {
        self.region.sub_band(frequency_hz).is_some()
    }

    /// Takes the channels of a join-accept; a list of the other kind of plan says nothing.
    pub(crate) fn apply_cf_list(&mut self, list: &CfList) {
        let fixed = self.region.is_fixed_plan();
        match list {
            CfList::Frequencies(frequencies) if !fixed => {
                let first = self.region.uplink_channel_count();
                let (min_dr, max_dr) = self.default_rates();
                for (index, frequency_hz) in (first..).zip(frequencies) {
                    self.set(index, *frequency_hz, min_dr, max_dr);
                }
            }
            CfList::ChannelMasks(masks) if fixed => {
                for (index, channel) in self.channels.iter_mut().enumerate() {
                    let mask = masks.get(index / 16).copied().unwrap_or(0);
                    if let Some(channel) = channel {
                        channel.on = mask >> (index % 16) & 1 == 1;
                    }
                }
            }
            CfList::Frequencies(_) | CfList::ChannelMasks(_) => {}
        }
    }

    /// Which channels are on now.
    pub(crate) fn mask(&self) -> Mask {
        self.channels.iter().map(|channel| channel.is_some_and(|c| c.on)).collect()
    }

    /// Applies one LinkADRReq's mask to `mask`; `None` if it cannot be.
    pub(crate) fn masked(&self, mut mask: Mask, cntl: u8, bits: u16) -> Option<Mask> {
        let bit = |number: usize| number < 16 && bits >> number & 1 == 1;
        let wide = usize::from(self.region.first_wide_channel);
        let meaning = self.region.ch_mask_cntl.get(usize::from(cntl))?;
        for (index, on) in mask.iter_mut().enumerate() {
            let exists = self.channels.get(index).is_some_and(Option::is_some);
            let wanted = match meaning {
                ChMaskCntl::Channels { first } => match index.checked_sub(usize::from(*first)) {
                    Some(number) if number < 16 => bit(number),
                    Some(_) | None => *on,
                },
                ChMaskCntl::AllOn => exists,
                ChMaskCntl::SubBands if index < wide => bit(index / 8),
                ChMaskCntl::NarrowOn if index < wide => true,
                ChMaskCntl::NarrowOff if index < wide => false,
                ChMaskCntl::SubBands | ChMaskCntl::NarrowOn | ChMaskCntl::NarrowOff => {
                    bit(index - wide)
                }
                ChMaskCntl::Reserved => return None,
            };
            if wanted && !exists {
                return None;
            }
            *on = wanted;
        }
        Some(mask)
    }

    /// Whether a channel of `mask` carries `data_rate`.
    pub(crate) fn carries(&self, mask: &Mask, data_rate: u8) -> bool {
        let known = self.region.data_rate(data_rate).is_some_and(|rate| rate.up);
        known
            && self.channels.iter().zip(mask).any(|(channel, on)| {
                *on && channel.is_some_and(|c| (c.min_dr..=c.max_dr).contains(&data_rate))
            })
    }

    /// Switches the channels as `mask` says.
    pub(crate) fn switch(&mut self, mask: &Mask) {
        for (channel, on) in self.channels.iter_mut().zip(mask) {
            if let Some(channel) = channel {
                channel.on = *on;
            }
        }
    }

    /// Switches every channel on.
    pub(crate) fn switch_all_on(&mut self) {
        for channel in self.channels.iter_mut().flatten() {
            channel.on = true;
        }
    }

    /// Makes, changes or (0 Hz) removes a channel; returns whether frequency and rates are usable,
    /// and does it only if both are. The region's own channels stay.
    pub(crate) fn new_channel(
        &mut self,
        index: u8,
        frequency_hz: u32,
        min_dr: u8,
        max_dr: u8,
    ) -> (bool, bool) {
        let own = index < self.region.uplink_channel_count();
        let place = !own && index < DYNAMIC_CHANNELS_MAX;
        let freq_ok = place && (frequency_hz == 0 || self.knows_frequency(frequency_hz));
        let known = |dr| self.region.data_rate(dr).is_some_and(|rate| rate.up);
        let rates_ok = !own && min_dr <= max_dr && known(min_dr) && known(max_dr);
        if freq_ok && rates_ok {
            self.set(index, frequency_hz, min_dr, max_dr);
        }
        (freq_ok, rates_ok)
    }

    /// Moves RX1 of a channel; returns whether the frequency is usable and the channel exists, and
    /// does it only if both are so.
    pub(crate) fn dl_channel(&mut self, index: u8, frequency_hz: u32) -> (bool, bool) {
        let freq_ok = self.knows_frequency(frequency_hz);
        let channel = self.channels.get_mut(usize::from(index)).and_then(Option::as_mut);
        let exists = channel.is_some();
        if let Some(channel) = channel.filter(|_| freq_ok) {
            channel.rx1_hz = Some(frequency_hz);
        }
        (freq_ok, exists)
    }

    fn channel(&self, index: u8) -> Option<PlanChannel> {
        self.channels.get(usize::from(index)).copied().flatten()
    }

    fn default_rates(&self) -> (u8, u8) {
        let first = self.region.uplink_channels().next();
        first.map_or((0, 0), |channel| (channel.min_dr, channel.max_dr))
    }

    fn set(&mut self, index: u8, frequency_hz: u32, min_dr: u8, max_dr: u8) {
        let channel =
            PlanChannel { uplink_hz: frequency_hz, rx1_hz: None, min_dr, max_dr, on: true };
        if let Some(place) = self.channels.get_mut(usize::from(index)) {
            *place = (frequency_hz != 0).then_some(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use lorawan::{EU868, US915};

    use super::*;

    fn on(plan: &Plan) -> Vec<u8> {
        plan.enabled().collect()
    }

    #[test]
    fn a_fixed_plan_starts_with_the_channels_told() {
        let sub_band_2: Vec<u8> = (8..16).chain([65]).collect();
        let plan = Plan::new(&US915, Some(&sub_band_2));
        assert_eq!(on(&plan), sub_band_2);
        let mut chance = Chance::new([1; 32]);
        for _ in 0..100 {
            let narrow = plan.choose(0, &mut chance).unwrap();
            assert!((8..16).contains(&narrow.index));
            let wide = plan.choose(4, &mut chance).unwrap();
            assert_eq!((wide.index, wide.uplink_hz), (65, 904_600_000));
            assert_eq!(plan.rx1(wide, 0).unwrap().frequency_hz, 923_900_000);
        }
    }

    #[test]
    fn masks_mean_what_the_region_says() {
        let plan = Plan::new(&US915, None);
        let apply = |cntl, bits| plan.masked(vec![false; 72], cntl, bits);
        let count = |mask: Option<Mask>| mask.map(|mask| mask.iter().filter(|on| **on).count());
        assert_eq!(count(apply(0, 0xFF00)), Some(8));
        assert_eq!(count(apply(5, 0x0002)), Some(9));
        assert!(apply(5, 0x0002).unwrap()[65]);
        assert_eq!(count(apply(6, 0x0000)), Some(64));
        assert_eq!(count(apply(7, 0x00FF)), Some(8));
        assert_eq!(count(apply(4, 0xFF01)), Some(1), "bits beyond the last channel are RFU");

        let mut plan = Plan::new(&EU868, None);
        assert_eq!(plan.masked(plan.mask(), 0, 0x0008), None, "channel 3 does not exist");
        assert_eq!(plan.masked(plan.mask(), 1, 0x0001), None);
        assert_eq!(plan.masked(vec![false; 16], 6, 0).map(|m| m[..4].to_vec()), {
            Some(vec![true, true, true, false])
        });
        plan.apply_cf_list(&CfList::Frequencies([867_100_000, 867_300_000, 0, 867_700_000, 0]));
        assert_eq!(on(&plan), [0, 1, 2, 3, 4, 6]);
        plan.apply_cf_list(&CfList::ChannelMasks([0; 6]));
        assert_eq!(on(&plan), [0, 1, 2, 3, 4, 6], "the other kind of list says nothing");
    }

    #[test]
    fn channels_come_and_go_but_not_the_regions_own() {
        let mut plan = Plan::new(&EU868, None);
        assert_eq!(plan.new_channel(1, 867_100_000, 0, 5), (false, false));
        assert_eq!(plan.new_channel(3, 867_100_000, 0, 5), (true, true));
        assert_eq!(plan.new_channel(4, 915_000_000, 0, 5), (false, true));
        assert_eq!(plan.new_channel(4, 867_300_000, 5, 0), (true, false));
        assert_eq!(plan.new_channel(16, 867_300_000, 0, 5), (false, true));
        assert_eq!(plan.dl_channel(3, 869_525_000), (true, true));
        assert_eq!(plan.dl_channel(5, 869_525_000), (true, false));
        let modulation = EU868.modulation(5).unwrap();
        let sent = Choice { index: 3, uplink_hz: 867_100_000, data_rate: 5, modulation };
        assert_eq!(plan.rx1(sent, 0).unwrap().frequency_hz, 869_525_000);
        assert_eq!(plan.new_channel(3, 0, 0, 5), (true, true));
        assert_eq!(on(&plan), [0, 1, 2]);
    }
}
