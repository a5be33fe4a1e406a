//! Devices: registration, keys, activation, queue.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::Tags;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// EUI-64.
    pub dev_eui: String,
    /// For people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its application.
    pub application_id: String,
    /// Its profile.
    pub device_profile_id: String,
    /// An ABP device may start its counter anew.
    pub skip_fcnt_check: bool,
    /// Its frames are ignored.
    pub is_disabled: bool,
    /// Names and values for integrations.
    pub variables: Tags,
    /// Names and values, part of every event.
    pub tags: Tags,
    /// The join server its join-requests must name; empty or zero: any.
    pub join_eui: String,
}

/// What a device last said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceStatus {
    /// dB
    pub margin: i32,
    /// On external power.
    pub external_power_source: bool,
    /// Percent; -1 = unknown.
    pub battery_level: f64,
}

/// A device in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceListItem {
    /// EUI-64.
    pub dev_eui: String,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// When it was last heard.
    pub last_seen_at: Option<WallTime>,
    /// Name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Profile.
    pub device_profile_id: String,
    /// Its name.
    pub device_profile_name: String,
    /// What it last said of itself.
    pub device_status: Option<DeviceStatus>,
    /// Names and values.
    pub tags: Tags,
    /// Ours: its application.
    pub application_id: String,
}

/// A device with its times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceDetails {
    /// The device.
    pub device: Device,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// When it was last heard.
    pub last_seen_at: Option<WallTime>,
    /// What it last said of itself.
    pub device_status: Option<DeviceStatus>,
    /// `CLASS_A`.
    pub class_enabled: String,
}

/// Root keys, 32 hexadecimal digits each.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceKeys {
    /// Whose.
    pub dev_eui: String,
    /// The AppKey up to LoRaWAN 1.0.4, the NwkKey from 1.1 on.
    pub nwk_key: String,
    /// The AppKey of LoRaWAN 1.1.
    pub app_key: String,
}

impl core::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DeviceKeys({})", self.dev_eui)
    }
}

/// Root keys as an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceKeysDetails {
    /// The keys.
    pub device_keys: DeviceKeys,
    /// When the device was made.
    pub created_at: Option<WallTime>,
    /// When the device was last changed.
    pub updated_at: Option<WallTime>,
}

/// An activation. Up to 1.0.4 the three network keys are one, the NwkSKey.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceActivation {
    /// Whose.
    pub dev_eui: String,
    /// Address, 8 hexadecimal digits.
    pub dev_addr: String,
    /// AppSKey.
    pub app_s_key: String,
    /// NwkSKey, or NwkSEncKey.
    pub nwk_s_enc_key: String,
    /// NwkSKey, or SNwkSIntKey.
    pub s_nwk_s_int_key: String,
    /// NwkSKey, or FNwkSIntKey.
    pub f_nwk_s_int_key: String,
    /// Next uplink counter expected: the last accepted plus one.
    pub f_cnt_up: u32,
    /// Downlink counter after the last one that a gateway reported as sent.
    pub n_f_cnt_down: u32,
    /// The same of AFCntDown (1.1).
    pub a_f_cnt_down: u32,
}

impl core::fmt::Debug for DeviceActivation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "DeviceActivation({}, {})", self.dev_eui, self.dev_addr)
    }
}

/// An activation as an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActivationDetails {
    /// The activation, if the device has one.
    pub device_activation: Option<DeviceActivation>,
}

/// An address drawn for a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RandomDevAddr {
    /// 8 hexadecimal digits.
    pub dev_addr: String,
}

/// The downlink counter an application that encrypts itself should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NextFCntDown {
    /// Counter.
    pub f_cnt_down: u32,
}

/// A downlink that waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueItem {
    /// UUID; drawn if left out.
    pub id: String,
    /// To whom.
    pub dev_eui: String,
    /// Wants an acknowledgement.
    pub confirmed: bool,
    /// 1..=223
    pub f_port: u32,
    /// base64
    pub data: String,
    /// Refused until the server has codecs.
    pub object: Option<serde_json::Value>,
    /// Handed out or sent, and waiting for the device; it can no longer be taken back.
    pub is_pending: bool,
    /// Its number once it has one.
    pub f_cnt_down: u32,
    /// `data` is encrypted already, for the counter `fCntDown`.
    pub is_encrypted: bool,
    /// Not worth sending after.
    pub expires_at: Option<WallTime>,
}

/// A device's queue, first in first out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QueueItems {
    /// How many.
    pub total_count: u32,
    /// The items.
    pub result: Vec<QueueItem>,
}
