//! What a file of server cases says, field by field. What is not known here is an error of that
//! case, not silently left out: a case that is not understood must not pass.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// Largest file taken, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a file of cases cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaseFileError {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no such file.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is larger than any such file.
    #[error("{file} has {bytes} bytes, at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
    },
}

/// The whole file; source, licence and conventions are for people.
#[derive(Debug, Deserialize)]
pub(super) struct CaseFile {
    pub(super) common: Common,
    pub(super) cases: Vec<RawCase>,
}

/// What all cases share.
#[derive(Debug, Deserialize)]
pub(super) struct Common {
    pub(super) network: Network,
}

/// Settings of the network; the others are every region's own defaults.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    pub(super) net_id: String,
}

/// A case of which only this much is read before it is known whether it can be run.
#[derive(Debug, Deserialize)]
pub(super) struct RawCase {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) blackbox: BlackBox,
    #[serde(flatten)]
    pub(super) rest: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlackBox {
    /// What the server needs beyond LoRaWAN 1.0 class A.
    pub(super) features: Vec<String>,
}

/// A case that is run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(rename = "source")]
    _source: String,
    pub(super) region: String,
    pub(super) provision: Provision,
    pub(super) pre: Vec<Step>,
    pub(super) trigger: Trigger,
    pub(super) expect: Expect,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provision {
    pub(super) gateways: Vec<Gateway>,
    pub(super) device_profiles: Vec<Profile>,
    pub(super) devices: Vec<Device>,
    #[serde(default)]
    pub(super) keys: Vec<Keys>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) gateway_id: String,
    /// Matters only to private gateways.
    #[serde(rename = "tenant")]
    _tenant: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) mac_version: String,
    pub(super) reg_params_revision: String,
    #[serde(default)]
    pub(super) adr_algorithm_id: String,
    #[serde(default)]
    pub(super) supports_otaa: bool,
    #[serde(default)]
    pub(super) device_status_req_interval: u32,
    /// Of no account to a class A device.
    #[serde(rename = "class_b_params")]
    _class_b_params: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) dev_eui: String,
    #[serde(default)]
    pub(super) join_eui: String,
    #[serde(rename = "dev_addr")]
    _dev_addr: Option<String>,
    pub(super) enabled_class: Option<String>,
    #[serde(default)]
    pub(super) is_disabled: bool,
    #[serde(default)]
    pub(super) skip_fcnt_check: bool,
    pub(super) last_device_status_request_age_s: Option<i64>,
    #[serde(default)]
    pub(super) f_cnt_up: u32,
    pub(super) device_session: Option<Session>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) dev_eui: String,
    #[serde(default)]
    pub(super) nwk_key: String,
    #[serde(default)]
    pub(super) app_key: String,
}

/// A session as another server keeps it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    pub(super) mac_version: String,
    pub(super) dev_addr: String,
    pub(super) f_nwk_s_int_key: String,
    pub(super) s_nwk_s_int_key: String,
    pub(super) nwk_s_enc_key: String,
    pub(super) app_s_key: Option<AppSKey>,
    #[serde(default)]
    pub(super) n_f_cnt_down: u32,
    #[serde(default)]
    pub(super) a_f_cnt_down: u32,
    pub(super) rx1_delay: Option<u8>,
    pub(super) rx2_frequency: Option<u32>,
    #[serde(default)]
    pub(super) enabled_uplink_channel_indices: Vec<u8>,
    #[serde(rename = "region_config_id")]
    _region_config_id: Option<String>,
    /// Says the same as the device's.
    #[serde(default)]
    pub(super) skip_f_cnt_check: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppSKey {
    pub(super) kek_label: String,
    pub(super) aes_key: String,
}

/// What is done before the trigger.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    DevicePartialUpdate(Box<DeviceUpdate>),
    DeviceProfileUpdate(Profile),
    Enqueue(Item),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceUpdate {
    pub(super) dev_eui: String,
    pub(super) device_session: Option<Session>,
    pub(super) enabled_class: Option<String>,
    pub(super) f_cnt_up: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) dev_eui: String,
    pub(super) f_port: u32,
    pub(super) confirmed: bool,
    /// Hexadecimal.
    pub(super) data: String,
    pub(super) is_pending: bool,
    pub(super) f_cnt_down: Option<u32>,
    pub(super) is_encrypted: bool,
    /// Of a sent item: seconds until it is given up.
    #[serde(rename = "timeout_after")]
    _timeout_after: Option<Value>,
    pub(super) expires_in_s: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Trigger {
    Uplink {
        phy_payload: String,
        #[serde(rename = "mtype")]
        _mtype: String,
        tx_info: TxInfo,
        rx_info: Vec<RxInfo>,
    },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct TxInfo {
    pub(super) freq_hz: u32,
    pub(super) modu: String,
    pub(super) sf: u8,
    pub(super) bw_hz: u32,
    pub(super) cr: String,
    #[serde(rename = "ipol")]
    pub(super) _ipol: bool,
    pub(super) power_dbm: Option<i8>,
    pub(super) timing: Option<Timing>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(super) struct Timing {
    pub(super) delay_after_uplink: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RxInfo {
    pub(super) gateway_id: String,
    pub(super) rssi: i16,
    pub(super) snr: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) events: Vec<ExpectedEvent>,
    pub(super) state: ExpectedState,
    /// Absent: nothing is said. `null`: none may come.
    #[serde(default, deserialize_with = "present")]
    pub(super) downlink: Option<Option<Downlink>>,
}

/// An event: its kind, and the fields it must have.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExpectedEvent {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(flatten)]
    pub(super) fields: serde_json::Map<String, Value>,
}

impl fmt::Display for ExpectedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, Value::Object(self.fields.clone()))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectedState {
    pub(super) f_cnt_up: Vec<Of<u32>>,
    pub(super) n_f_cnt_down: Vec<Of<u32>>,
    pub(super) a_f_cnt_down: Vec<Of<u32>>,
    pub(super) enabled_class: Vec<Of<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of<T> {
    pub(super) dev_eui: String,
    pub(super) value: T,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Downlink {
    pub(super) gateway_id: Option<String>,
    /// RX1, then RX2.
    pub(super) alternatives: Vec<Alternative>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alternative {
    pub(super) hex: String,
    #[serde(rename = "mtype")]
    _mtype: String,
    /// The same bytes, explained.
    #[serde(rename = "decoded")]
    _decoded: Option<Value>,
    pub(super) tx: Option<TxInfo>,
}

/// Tells a field that is null from one that is not there.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// `1.0.4` or `Lorawan104` as the API has it.
pub(super) fn mac_version(text: &str) -> String {
    let digits: Vec<String> = text
        .trim_start_matches("Lorawan")
        .chars()
        .filter(char::is_ascii_digit)
        .map(String::from)
        .collect();
    format!("LORAWAN_{}", digits.join("_"))
}

/// `RP002-1.0.3` or `A` as the API has it.
pub(super) fn revision(text: &str) -> String {
    text.replace(['-', '.'], "_")
}

/// Bytes of a text in hexadecimal.
///
/// * Errors: not hexadecimal.
pub(super) fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let error = || format!("{text:?} is not hexadecimal");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(error());
    }
    let pair = |position| u8::from_str_radix(&text[position..position + 2], 16);
    (0..text.len()).step_by(2).map(|position| pair(position).map_err(|_| error())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_translated() {
        assert_eq!(mac_version("1.0.4"), "LORAWAN_1_0_4");
        assert_eq!(mac_version("Lorawan110"), "LORAWAN_1_1_0");
        assert_eq!(revision("RP002-1.0.3"), "RP002_1_0_3");
        assert_eq!(revision("A"), "A");
        assert_eq!(unhex("00fF"), Ok(vec![0, 255]));
        assert!(unhex("0").is_err() && unhex("0g").is_err() && unhex("ü").is_err());
    }

    #[test]
    fn null_is_not_absent_and_the_unknown_is_refused() {
        let read = |text| serde_json::from_str::<Expect>(text);
        let absent = read(r#"{"events":[],"state":{}}"#).unwrap();
        assert!(absent.downlink.is_none());
        let null = read(r#"{"events":[],"state":{},"downlink":null}"#).unwrap();
        assert!(matches!(null.downlink, Some(None)));
        assert!(read(r#"{"events":[],"state":{},"weather":1}"#).is_err());
        assert!(read(r#"{"events":[],"state":{"weather":1}}"#).is_err());
    }
}
