//! Regional parameters: one table per region, and the questions asked of any of them.
//!
//! A region is data ([`Region`] is the table itself); nothing here or above asks which one it is.
//! To add one, write its table and list it in [`REGIONS`]. Source: RP002-1.0.4 §2 and §3.

use clock::Duration;

use crate::join::{CF_LIST_FREQUENCIES, CF_LIST_MASKS, CfList};
use crate::{DevAddr, Direction, Modulation};

/// From the end of an uplink to RX1, unless the network says otherwise (RP002-1.0.4 §3.1).
pub const RECEIVE_DELAY1: Duration = Duration::from_secs(1);
/// From the end of a join-request to RX1.
pub const JOIN_ACCEPT_DELAY1: Duration = Duration::from_secs(5);
/// From RX1 to RX2, always.
pub const RX2_AFTER_RX1: Duration = Duration::from_secs(1);
/// Largest step of the uplink counter that versions before 1.0.4 allow.
pub const MAX_FCNT_GAP: u32 = 16_384;
/// Bytes of MACPayload that are not FRMPayload when there are no FOpts: FHDR and FPort.
const HEADER_LEN: u8 = 8;
/// A repeater adds a header of its own.
const REPEATER_MAC_PAYLOAD_MAX: u8 = 230;

/// Every region this version knows.
pub const REGIONS: [&Region; 2] = [&crate::region_eu868::EU868, &crate::region_us915::US915];

/// A name that no table has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("region `{0}` is not known; known are {known}", known = known_names())]
pub struct UnknownRegion(pub String);

fn known_names() -> String {
    REGIONS.map(|region| region.name).join(", ")
}

/// Channels at equal distances that share their data rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelBlock {
    /// Centre of the first channel in hertz.
    pub first_hz: u32,
    /// Distance of two neighbours in hertz.
    pub step_hz: u32,
    /// How many.
    pub count: u8,
    /// Lowest data rate.
    pub min_dr: u8,
    /// Highest data rate.
    pub max_dr: u8,
}

/// One channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Hertz.
    pub frequency_hz: u32,
    /// Lowest data rate.
    pub min_dr: u8,
    /// Highest data rate.
    pub max_dr: u8,
}

impl ChannelBlock {
    fn channels(&self) -> impl Iterator<Item = Channel> {
        let Self { first_hz, step_hz, count, min_dr, max_dr } = *self;
        (0..u32::from(count)).map(move |number| Channel {
            frequency_hz: first_hz + number * step_hz,
            min_dr,
            max_dr,
        })
    }
}

/// One data rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRate {
    /// How it is modulated.
    pub modulation: Modulation,
    /// Longest MACPayload (M) in bytes, without and with the 400 ms dwell-time limit; 0: not
    /// allowed.
    pub max_mac_payload: [u8; 2],
    /// A device may send with it.
    pub up: bool,
    /// A gateway may answer with it.
    pub down: bool,
}

/// Longest payloads of a data rate, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPayload {
    /// MACPayload (M): FHDR, FPort and FRMPayload.
    pub mac_payload: u8,
    /// FRMPayload (N) with a port and without FOpts; each byte of FOpts takes one.
    pub frm_payload: u8,
}

/// On which frequency RX1 listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rx1Frequency {
    /// The uplink's.
    Uplink,
    /// The downlink channel whose number is the uplink channel's modulo their count.
    DownlinkChannel,
}

/// What one value of ChMaskCntl does with its sixteen mask bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChMaskCntl {
    /// The mask is the sixteen channels from here on.
    Channels {
        /// First channel.
        first: u8,
    },
    /// Every channel on, whatever the mask.
    AllOn,
    /// Bit n switches the eight narrow channels from 8n on and the wide channel n.
    SubBands,
    /// All narrow channels on; the mask is the wide channels.
    NarrowOn,
    /// All narrow channels off; the mask is the wide channels.
    NarrowOff,
    /// No meaning.
    Reserved,
}

/// What a CFList says in this region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfListKind {
    /// Type 0: frequencies of more channels. Such a region has NewChannelReq.
    Frequencies,
    /// Type 1: which of the fixed channels are on.
    ChannelMasks,
}

/// A piece of spectrum with its own limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubBand {
    /// Lower edge in hertz, included.
    pub from_hz: u32,
    /// Upper edge in hertz, included.
    pub to_hz: u32,
    /// Share of an hour a transmitter may use, in thousandths: 10 is 1 %.
    pub duty_cycle_permille: u16,
    /// Highest radiated power in hundredths of a dBm EIRP.
    pub max_eirp_cdbm: i16,
    /// Radiated power of downlinks in dBm EIRP, if they belong here.
    pub downlink_eirp_dbm: i8,
}

/// Where beacons and ping slots are, and how they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassB {
    /// Data rate of beacons, and of ping slots by default.
    pub data_rate: u8,
    /// Hertz; with more than one, they take turns with each beacon.
    pub beacon_hz: &'static [u32],
    /// Hertz; with more than one, they take turns with beacon and DevAddr.
    pub ping_slot_hz: &'static [u32],
    /// Bytes of a beacon.
    pub beacon_len: u8,
}

/// The table of one region.
#[derive(Debug, PartialEq, Eq)]
pub struct Region {
    /// The common name, as configuration and API write it.
    pub name: &'static str,
    /// Channels every device has: index 0 first. Wide channels of a fixed plan come last.
    pub uplink: &'static [ChannelBlock],
    /// Channels a gateway answers on, if they are not the uplink's.
    pub downlink: &'static [ChannelBlock],
    /// First of the wide (500 kHz) channels of a fixed plan; the channel count if there is none.
    pub first_wide_channel: u8,
    /// What ChMaskCntl 0..=7 mean.
    pub ch_mask_cntl: [ChMaskCntl; 8],
    /// What a CFList says.
    pub cf_list: CfListKind,
    /// Data rates by index.
    pub data_rates: [Option<DataRate>; 16],
    /// Data rates a join-request may use.
    pub join_data_rates: &'static [u8],
    /// Highest data rate ADR uses.
    pub adr_max_dr: u8,
    /// Where RX1 listens.
    pub rx1_frequency: Rx1Frequency,
    /// RX1 data rate by uplink data rate, then by RX1DROffset; empty: no such uplink.
    pub rx1_dr: [&'static [u8]; 16],
    /// The same under the 400 ms downlink dwell-time limit, where it differs.
    pub rx1_dr_dwell: Option<[&'static [u8]; 16]>,
    /// RX2 until the network says otherwise, hertz.
    pub rx2_frequency_hz: u32,
    /// RX2 until the network says otherwise.
    pub rx2_dr: u8,
    /// Highest radiated power of a device in dBm EIRP: TXPower 0.
    pub max_eirp_dbm: i8,
    /// TXPower steps in dB below it, index 0 first.
    pub tx_power_steps_db: &'static [u8],
    /// TxParamSetupReq is spoken here.
    pub tx_param_setup: bool,
    /// Limits by frequency.
    pub sub_bands: &'static [SubBand],
    /// Radiated power of downlinks outside them, dBm EIRP.
    pub downlink_eirp_dbm: i8,
    /// Beacons and ping slots.
    pub class_b: ClassB,
}

impl Region {
    /// The region of that name, in either case.
    ///
    /// * Errors: [`UnknownRegion`], which lists those that are known.
    pub fn from_name(name: &str) -> Result<&'static Self, UnknownRegion> {
        REGIONS
            .into_iter()
            .find(|region| region.name.eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownRegion(name.chars().take(32).collect()))
    }

    /// Whether the channels are fixed, to be switched on and off only.
    pub const fn is_fixed_plan(&self) -> bool {
        matches!(self.cf_list, CfListKind::ChannelMasks)
    }

    /// The channels every device has, index 0 first: 3 to 96.
    pub fn uplink_channels(&self) -> impl Iterator<Item = Channel> {
        self.uplink.iter().flat_map(ChannelBlock::channels)
    }

    /// How many channels every device has.
    pub fn uplink_channel_count(&self) -> u8 {
        self.uplink.iter().map(|block| block.count).sum()
    }

    /// The downlink channels of a plan that has its own, index 0 first.
    pub fn downlink_channels(&self) -> impl Iterator<Item = Channel> {
        self.downlink.iter().flat_map(ChannelBlock::channels)
    }

    /// The index of the channel that `frequency_hz` is the centre of.
    ///
    /// * `extra`: index and frequency in hertz of channels a device has beyond those of the plan.
    /// * Returns `None` for a frequency that is no channel's: the frame cannot be this device's.
    pub fn uplink_channel_index(
        &self,
        frequency_hz: u32,
        extra: impl IntoIterator<Item = (u8, u32)>,
    ) -> Option<u8> {
        let at = |(index, channel): (u8, Channel)| {
            (channel.frequency_hz == frequency_hz).then_some(index)
        };
        (0..).zip(self.uplink_channels()).find_map(at).or_else(|| {
            let mut extra = extra.into_iter();
            extra.find_map(|(index, channel_hz)| (channel_hz == frequency_hz).then_some(index))
        })
    }

    /// The data rate `dr`, if the region has it.
    pub fn data_rate(&self, dr: u8) -> Option<&DataRate> {
        self.data_rates.get(usize::from(dr))?.as_ref()
    }

    /// How the data rate `dr` is modulated.
    pub fn modulation(&self, dr: u8) -> Option<Modulation> {
        self.data_rate(dr).map(|rate| rate.modulation)
    }

    /// The data rate index of a modulation used in `direction`.
    ///
    /// Code rate and frequency deviation do not matter: gateways report them loosely.
    pub fn dr_of(&self, modulation: Modulation, direction: Direction) -> Option<u8> {
        let fits = |rate: &DataRate| {
            let used = match direction {
                Direction::Up => rate.up,
                Direction::Down => rate.down,
            };
            used && same_rate(rate.modulation, modulation)
        };
        (0..)
            .zip(&self.data_rates)
            .find_map(|(dr, rate)| rate.as_ref().filter(|r| fits(r)).map(|_| dr))
    }

    /// Longest payloads at data rate `dr`.
    ///
    /// * `dwell_time`: the 400 ms limit holds in this direction.
    /// * Returns `None` for a data rate that does not exist or is not allowed so.
    pub fn max_payload(&self, dr: u8, dwell_time: bool) -> Option<MaxPayload> {
        let mac_payload = self.data_rate(dr)?.max_mac_payload[usize::from(dwell_time)];
        let frm_payload = mac_payload.checked_sub(HEADER_LEN)?;
        Some(MaxPayload { mac_payload, frm_payload })
    }

    /// Longest payloads at data rate `dr` where a repeater may stand in between.
    pub fn max_payload_repeater(&self, dr: u8, dwell_time: bool) -> Option<MaxPayload> {
        let mac_payload =
            self.max_payload(dr, dwell_time)?.mac_payload.min(REPEATER_MAC_PAYLOAD_MAX);
        Some(MaxPayload { mac_payload, frm_payload: mac_payload.checked_sub(HEADER_LEN)? })
    }

    /// Where RX1 listens after an uplink on `uplink_hz`, in hertz.
    ///
    /// * A DlChannelReq that the device has accepted overrides it.
    /// * Returns `None` for an uplink frequency that is not on a fixed plan.
    pub fn rx1_frequency(&self, uplink_hz: u32) -> Option<u32> {
        match self.rx1_frequency {
            Rx1Frequency::Uplink => Some(uplink_hz),
            Rx1Frequency::DownlinkChannel => {
                let count: u8 = self.downlink.iter().map(|block| block.count).sum();
                let number = self.uplink_channel_index(uplink_hz, [])?.checked_rem(count)?;
                self.downlink_channels()
                    .nth(usize::from(number))
                    .map(|channel| channel.frequency_hz)
            }
        }
    }

    /// The data rate of RX1 after an uplink at `uplink_dr`.
    ///
    /// * `dwell_time`: the 400 ms limit holds for downlinks.
    /// * Returns `None` for an uplink data rate or an offset that does not exist.
    pub fn rx1_dr(&self, uplink_dr: u8, rx1_dr_offset: u8, dwell_time: bool) -> Option<u8> {
        let table = match &self.rx1_dr_dwell {
            Some(dwell) if dwell_time => dwell,
            Some(_) | None => &self.rx1_dr,
        };
        table.get(usize::from(uplink_dr))?.get(usize::from(rx1_dr_offset)).copied()
    }

    /// The sub-band that holds `frequency_hz`.
    pub fn sub_band(&self, frequency_hz: u32) -> Option<&SubBand> {
        self.sub_bands.iter().find(|band| (band.from_hz..=band.to_hz).contains(&frequency_hz))
    }

    /// Radiated power of a downlink on `frequency_hz`, in dBm EIRP, unless the operator says
    /// otherwise.
    pub fn downlink_eirp_dbm(&self, frequency_hz: u32) -> i8 {
        self.sub_band(frequency_hz).map_or(self.downlink_eirp_dbm, |band| band.downlink_eirp_dbm)
    }

    /// Radiated power of a device at `tx_power`, in dBm EIRP.
    pub fn uplink_eirp_dbm(&self, tx_power: u8) -> Option<i8> {
        let step = self.tx_power_steps_db.get(usize::from(tx_power))?;
        self.max_eirp_dbm.checked_sub_unsigned(*step)
    }

    /// The CFList that tells a device its channels.
    ///
    /// * `extra_hz`: channels beyond the default ones, in order, for dynamic plans; five fit.
    /// * `enabled`: indices that are on, for fixed plans.
    /// * Returns `None` when there is nothing to tell.
    pub fn cf_list(
        &self,
        extra_hz: &[u32],
        enabled: impl IntoIterator<Item = u8>,
    ) -> Option<CfList> {
        match self.cf_list {
            CfListKind::Frequencies => {
                let mut frequencies = [0; CF_LIST_FREQUENCIES];
                for (place, extra) in frequencies.iter_mut().zip(extra_hz) {
                    *place = *extra;
                }
                (!extra_hz.is_empty()).then_some(CfList::Frequencies(frequencies))
            }
            CfListKind::ChannelMasks => {
                let mut masks = [0; CF_LIST_MASKS];
                for channel in enabled {
                    if let Some(mask) = masks.get_mut(usize::from(channel / 16)) {
                        *mask |= 1 << (channel % 16);
                    }
                }
                (masks != [0; CF_LIST_MASKS]).then_some(CfList::ChannelMasks(masks))
            }
        }
    }

    /// Frequency of the beacon at `beacon_time` (GPS seconds, a multiple of 128), in hertz.
    pub fn beacon_frequency(&self, beacon_time: u32) -> u32 {
        in_turn(self.class_b.beacon_hz, beacon_time / 128)
    }

    /// Frequency of a device's ping slots in the period that `beacon_time` opens, in hertz.
    pub fn ping_slot_frequency(&self, dev_addr: DevAddr, beacon_time: u32) -> u32 {
        in_turn(self.class_b.ping_slot_hz, dev_addr.to_u32().wrapping_add(beacon_time / 128))
    }
}

/// The element whose turn it is; 0 of none, which no table has.
fn in_turn(frequencies: &[u32], turn: u32) -> u32 {
    let count = u32::try_from(frequencies.len()).unwrap_or(u32::MAX);
    let number = turn.checked_rem(count).and_then(|number| usize::try_from(number).ok());
    number.and_then(|number| frequencies.get(number).copied()).unwrap_or(0)
}

fn same_rate(a: Modulation, b: Modulation) -> bool {
    use Modulation::{Fsk, Lora, LrFhss};
    match (a, b) {
        (
            Lora { spreading_factor: a, bandwidth_hz: a_hz, .. },
            Lora { spreading_factor: b, bandwidth_hz: b_hz, .. },
        ) => (a, a_hz) == (b, b_hz),
        (Fsk { bitrate_bps: a, .. }, Fsk { bitrate_bps: b, .. }) => a == b,
        (LrFhss { .. }, LrFhss { .. }) => a == b,
        (Lora { .. } | Fsk { .. } | LrFhss { .. }, _) => false,
    }
}
