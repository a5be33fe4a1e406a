//! Device profiles.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::Tags;

/// A device profile. Of the field's settings those that this server acts on, and those it must
/// refuse rather than ignore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceProfile {
    /// UUID; given by the server.
    pub id: String,
    /// Owner; empty: every tenant may use it.
    pub tenant_id: String,
    /// Unique in its tenant.
    pub name: String,
    /// Free text.
    pub description: String,
    /// `EU868`, `US915`; empty: the server's.
    pub region: String,
    /// `LORAWAN_1_0_0` .. `LORAWAN_1_0_4`, `LORAWAN_1_1_0`.
    pub mac_version: String,
    /// `A`, `B`, `RP002_1_0_0` .. `RP002_1_0_5`.
    pub reg_params_revision: String,
    /// Empty or `default`.
    pub adr_algorithm_id: String,
    /// `NONE`; others are refused until the server has codecs.
    pub payload_codec_runtime: String,
    /// Drop the queue when the device activates.
    pub flush_queue_on_activate: bool,
    /// Seconds between uplinks that people expect.
    pub uplink_interval: u32,
    /// DevStatusReq a day, 0 = never.
    pub device_status_req_interval: u32,
    /// Over-the-air activation.
    pub supports_otaa: bool,
    /// Refused until the server has it.
    pub supports_class_b: bool,
    /// Refused until the server has it.
    pub supports_class_c: bool,
    /// Seconds, 0 = 1.
    pub abp_rx1_delay: u32,
    /// RX1 data rate offset.
    pub abp_rx1_dr_offset: u32,
    /// RX2 data rate.
    pub abp_rx2_dr: u32,
    /// RX2 frequency in hertz, 0 = the region's.
    pub abp_rx2_freq: u32,
    /// Free names and values, part of every event.
    pub tags: Tags,
    /// A region configuration by name: `eu868`, or `us915_1` for channels 8-15 and 65.
    pub region_config_id: String,
    /// Refused until the server has it.
    pub is_relay: bool,
    /// Refused until the server has it.
    pub is_relay_ed: bool,
    /// RECEIVE_DELAY1 wanted, in seconds, 0 = 1.
    pub rx1_delay: u32,
    /// Ours: uplink channels of a fixed plan, as `8-15+65`; empty: the server's.
    pub channels: String,
    /// Ours: up to five extra channels of a dynamic plan, in hertz.
    pub extra_channels: Vec<u32>,
    /// Ours: seconds until an unacknowledged confirmed downlink is lost, 0 = at the next uplink.
    pub confirmed_timeout: u32,
}

/// A device profile with its times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceProfileDetails {
    /// The profile.
    pub device_profile: DeviceProfile,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
}

/// A device profile in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceProfileListItem {
    /// UUID.
    pub id: String,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// LoRaWAN version.
    pub mac_version: String,
    /// Regional parameters revision.
    pub reg_params_revision: String,
    /// Over-the-air activation.
    pub supports_otaa: bool,
    /// Class B.
    pub supports_class_b: bool,
    /// Class C.
    pub supports_class_c: bool,
}
