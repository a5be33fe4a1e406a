//! Moving a device in from another server, activation and all. Ours alone.
//!
//! For an operator who migrates: a device that is in the field keeps its session, so nobody has to
//! walk to it. Only a global administrator may, it goes through the log like everything else, and
//! nothing can be lowered by it that a device would notice as a replay.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::{Device, DeviceKeys, QueueItem};

/// One device to move in. Registered if it is new, else changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeviceImport {
    /// Registration; `isDisabled` and `skipFcntCheck` included.
    pub device: Device,
    /// Root keys, for a device that may join again.
    pub device_keys: Option<DeviceKeys>,
    /// The activation in use.
    pub session: Option<ImportedSession>,
    /// Downlinks that wait, first in first out.
    pub queue: Vec<ImportedItem>,
}

/// An activation as another server kept it. What is left out is the region's or the profile's.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ImportedSession {
    /// Address, 8 hexadecimal digits.
    pub dev_addr: String,
    /// `LORAWAN_1_0_3` ..; empty: the profile's.
    pub mac_version: String,
    /// AppSKey; empty: its payloads arrive encrypted.
    pub app_s_key: String,
    /// NwkSKey, or NwkSEncKey.
    pub nwk_s_enc_key: String,
    /// NwkSKey, or SNwkSIntKey; empty: as `nwkSEncKey`.
    pub s_nwk_s_int_key: String,
    /// NwkSKey, or FNwkSIntKey; empty: as `nwkSEncKey`.
    pub f_nwk_s_int_key: String,
    /// Next uplink counter expected: the last accepted plus one.
    pub f_cnt_up: u32,
    /// First downlink counter not used yet.
    pub n_f_cnt_down: u32,
    /// The same of AFCntDown (1.1).
    pub a_f_cnt_down: u32,
    /// RECEIVE_DELAY1 in seconds.
    pub rx1_delay: Option<u8>,
    /// RX1 data rate offset.
    pub rx1_dr_offset: Option<u8>,
    /// RX2 data rate.
    pub rx2_dr: Option<u8>,
    /// RX2 frequency in hertz.
    pub rx2_frequency: Option<u32>,
    /// Channels the device uses, as `0-7` or `8-15+65`.
    pub channels: String,
    /// Data rate of its last uplink.
    pub dr: u8,
    /// TXPower index last acknowledged.
    pub tx_power: u8,
    /// NbTrans last acknowledged; 0 = 1.
    pub nb_trans: u8,
    /// Activated by personalisation; null: unless the device has root keys.
    pub abp: Option<bool>,
    /// When the device was last asked for its status.
    pub status_requested_at: Option<WallTime>,
}

impl core::fmt::Debug for ImportedSession {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ImportedSession({})", self.dev_addr)
    }
}

/// A downlink that waits, or that was sent and waits for the device's acknowledgement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportedItem {
    /// The item; if `isPending`, `fCntDown` is the counter it was sent under.
    #[serde(flatten)]
    pub item: QueueItem,
    /// When it was sent; null: now.
    pub sent_at: Option<WallTime>,
}
