//! What a device profile decides about frames; the rest of a profile is the registry's.

use minicbor::{Decode, Encode};

use crate::{ChannelSet, MacVersion};

/// The LoRaWAN half of a device profile.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MacProfile {
    /// Region by its table's name, `EU868` or `US915`.
    #[n(0)]
    pub region: String,
    /// Version the devices speak.
    #[n(1)]
    pub mac_version: MacVersion,
    /// Whether devices activate over the air.
    #[n(2)]
    pub supports_otaa: bool,
    /// RECEIVE_DELAY1 wanted, in seconds, 1..=15.
    #[n(3)]
    pub rx1_delay_s: u8,
    /// RX1 data rate offset wanted.
    #[n(4)]
    pub rx1_dr_offset: u8,
    /// RX2 data rate wanted; `None`: the region's.
    #[n(5)]
    pub rx2_dr: Option<u8>,
    /// RX2 frequency wanted in hertz; `None`: the region's.
    #[n(6)]
    pub rx2_frequency_hz: Option<u32>,
    /// Uplink channels wanted on a fixed plan (`channels = "8-15+65"`); `None`: all.
    #[n(7)]
    pub channels: Option<ChannelSet>,
    /// Extra channels for a dynamic plan, in hertz, at most five (they fill the CFList).
    #[n(8)]
    pub extra_channels_hz: Vec<u32>,
    /// DevStatusReq a day, 0 = never.
    #[n(9)]
    pub status_requests_per_day: u32,
    /// Seconds after which an unacknowledged confirmed downlink counts as lost, 0 = at the next
    /// uplink.
    #[n(10)]
    pub confirmed_timeout_s: u32,
}
