//! Application events as JSON, exactly as the field's integrations read them: the protobuf mapping.
//!
//! camelCase, default values left out (`fCnt` 0, `adr` false, level INFO ..), bytes as base64,
//! 64-bit integers as strings, enums as names, times as RFC 3339, durations as `"1.5s"`.
//! Driven by the broker and by readers of the event log; pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::WallTime;
use lorawan::{CodeRate, LrFhssCodeRate, Modulation};
use mac::Reception;
use serde::Serialize;
use store::model::Tags;
use store::{DeviceInfo, Event, EventRow, LogCode, LogLevel, TxAckEvent, UpEvent};

/// The kind of an event, as the last part of its topic.
pub const fn kind(event: &Event) -> &'static str {
    match event {
        Event::Up(_) => "up",
        Event::Join { .. } => "join",
        Event::Status { .. } => "status",
        Event::Ack { .. } => "ack",
        Event::TxAck(_) => "txack",
        Event::Log { .. } => "log",
    }
}

/// The topic of an event.
pub fn topic(row: &EventRow) -> String {
    let DeviceInfo { application_id, dev_eui, .. } = &*row.device;
    format!("application/{application_id}/device/{dev_eui}/event/{}", kind(&row.event))
}

/// Topic and payload of an event as MQTT delivers it.
pub fn topic_and_json(row: &EventRow) -> (String, Vec<u8>) {
    let json = serde_json::to_vec(&Message::of(row));
    (topic(row), json.expect("text keys and finite numbers always have a JSON"))
}

/// The JSON of an event as a value.
pub fn body(row: &EventRow) -> serde_json::Value {
    serde_json::to_value(Message::of(row)).expect("text keys and finite numbers always have a JSON")
}

/// The charge a device reports, in percent.
///
/// * `battery`: 1..=254; 0 (external power) and 255 (unknown) have none.
/// * Source: LoRaWAN 1.0.3 §5.5.
pub fn battery_percent(battery: u8) -> f32 {
    f32::from(battery) / 254.0 * 100.0
}

/// A refusal that the log does not decide, as a `log` event for the clients of this node alone.
///
/// * Returns topic and payload.
pub fn log_event(
    time: WallTime,
    device: &DeviceInfo,
    level: LogLevel,
    code: LogCode,
    description: &str,
    context: &Tags,
) -> (String, Vec<u8>) {
    let message = Message {
        time: Some(time),
        device_info: Some(DeviceInfoJson::of(device)),
        level: level_name(level),
        code: code_name(code),
        description: description.to_owned(),
        context: Some(context).filter(|context| !context.is_empty()).cloned(),
        ..Message::default()
    };
    let topic =
        format!("application/{}/device/{}/event/log", device.application_id, device.dev_eui);
    let json = serde_json::to_vec(&message);
    (topic, json.expect("text keys and finite numbers always have a JSON"))
}

/// Whether a value is what the protobuf mapping leaves out.
fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Every event is some of these fields, in the order of their messages.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(skip_serializing_if = "unset")]
    deduplication_id: String,
    #[serde(skip_serializing_if = "unset")]
    downlink_id: u32,
    #[serde(skip_serializing_if = "unset")]
    time: Option<WallTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_info: Option<DeviceInfoJson>,
    #[serde(skip_serializing_if = "unset")]
    dev_addr: String,
    #[serde(skip_serializing_if = "unset")]
    adr: bool,
    #[serde(skip_serializing_if = "unset")]
    dr: u8,
    #[serde(skip_serializing_if = "unset")]
    f_cnt: u32,
    #[serde(skip_serializing_if = "unset")]
    f_port: u8,
    #[serde(skip_serializing_if = "unset")]
    confirmed: bool,
    #[serde(skip_serializing_if = "unset")]
    data: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rx_info: Vec<RxInfo>,
    #[serde(skip_serializing_if = "unset")]
    queue_item_id: String,
    #[serde(skip_serializing_if = "unset")]
    acknowledged: bool,
    #[serde(skip_serializing_if = "unset")]
    f_cnt_down: u32,
    #[serde(skip_serializing_if = "unset")]
    gateway_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_info: Option<TxInfo>,
    #[serde(skip_serializing_if = "unset")]
    margin: i8,
    #[serde(skip_serializing_if = "unset")]
    external_power_source: bool,
    #[serde(skip_serializing_if = "unset")]
    battery_level_unavailable: bool,
    #[serde(skip_serializing_if = "unset")]
    battery_level: f64,
    #[serde(skip_serializing_if = "unset")]
    level: &'static str,
    #[serde(skip_serializing_if = "unset")]
    code: &'static str,
    #[serde(skip_serializing_if = "unset")]
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Tags>,
    #[serde(skip_serializing_if = "unset")]
    region_config_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceInfoJson {
    tenant_id: String,
    #[serde(skip_serializing_if = "unset")]
    tenant_name: String,
    application_id: String,
    #[serde(skip_serializing_if = "unset")]
    application_name: String,
    device_profile_id: String,
    #[serde(skip_serializing_if = "unset")]
    device_profile_name: String,
    #[serde(skip_serializing_if = "unset")]
    device_name: String,
    dev_eui: String,
    #[serde(skip_serializing_if = "unset")]
    tags: Tags,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RxInfo {
    gateway_id: String,
    #[serde(skip_serializing_if = "unset")]
    uplink_id: u32,
    #[serde(skip_serializing_if = "unset")]
    gw_time: Option<WallTime>,
    ns_time: WallTime,
    #[serde(skip_serializing_if = "unset")]
    time_since_gps_epoch: Option<String>,
    #[serde(skip_serializing_if = "unset")]
    rssi: i16,
    #[serde(skip_serializing_if = "unset")]
    snr: f64,
    #[serde(skip_serializing_if = "unset")]
    channel: u8,
    #[serde(skip_serializing_if = "unset")]
    rf_chain: u8,
    #[serde(skip_serializing_if = "unset")]
    antenna: u8,
    context: String,
    #[serde(skip_serializing_if = "unset")]
    crc_status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TxInfo {
    frequency: u32,
    #[serde(skip_serializing_if = "unset")]
    power: i8,
    modulation: ModulationJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ModulationJson {
    #[serde(rename_all = "camelCase")]
    Lora {
        bandwidth: u32,
        spreading_factor: u8,
        code_rate: &'static str,
        #[serde(skip_serializing_if = "unset")]
        polarization_inversion: bool,
    },
    #[serde(rename_all = "camelCase")]
    Fsk {
        #[serde(skip_serializing_if = "unset")]
        frequency_deviation: u32,
        datarate: u32,
    },
    #[serde(rename_all = "camelCase")]
    LrFhss { operating_channel_width: u32, code_rate: &'static str },
}

#[derive(Serialize)]
struct Timing {
    delay: Delay,
}

#[derive(Serialize)]
struct Delay {
    delay: String,
}

impl Message {
    fn of(row: &EventRow) -> Self {
        let device = &row.device;
        let message = Self {
            deduplication_id: row.id.to_string(),
            time: Some(row.time),
            device_info: Some(DeviceInfoJson::of(device)),
            ..Self::default()
        };
        match &row.event {
            Event::Up(up) => message.up(up, &device.region),
            Event::Join { dev_addr } => Self {
                dev_addr: dev_addr.to_string(),
                region_config_id: device.region.clone(),
                ..message
            },
            Event::Status { margin_db, battery } => Self {
                margin: *margin_db,
                external_power_source: *battery == 0,
                battery_level_unavailable: *battery == 255,
                battery_level: match battery {
                    0 | 255 => 0.0,
                    charge => battery_percent(*charge).into(),
                },
                ..message
            },
            Event::Ack { queue_item_id, acknowledged, f_cnt_down } => Self {
                queue_item_id: queue_item_id.to_string(),
                acknowledged: *acknowledged,
                f_cnt_down: *f_cnt_down,
                ..message
            },
            Event::TxAck(sent) => message.tx_ack(sent),
            Event::Log { level, code, description, context } => Self {
                deduplication_id: String::new(),
                level: level_name(*level),
                code: code_name(*code),
                description: description.clone(),
                context: Some(context).filter(|context| !context.is_empty()).cloned(),
                ..message
            },
        }
    }

    fn up(self, up: &UpEvent, region: &str) -> Self {
        Self {
            dev_addr: up.dev_addr.to_string(),
            adr: up.adr,
            dr: up.dr,
            f_cnt: up.f_cnt,
            f_port: up.f_port.unwrap_or(0),
            confirmed: up.confirmed,
            data: STANDARD.encode(&up.data),
            rx_info: up.receptions.iter().map(RxInfo::of).collect(),
            tx_info: Some(TxInfo {
                frequency: up.frequency_hz,
                power: 0,
                modulation: ModulationJson::of(up.modulation, false),
                timing: None,
            }),
            region_config_id: region.to_owned(),
            ..self
        }
    }

    fn tx_ack(self, sent: &TxAckEvent) -> Self {
        Self {
            deduplication_id: String::new(),
            downlink_id: sent.downlink_id,
            queue_item_id: sent.queue_item_id.map_or_else(String::new, |id| id.to_string()),
            f_cnt_down: sent.f_cnt_down,
            gateway_id: sent.gateway.to_string(),
            tx_info: Some(TxInfo {
                frequency: sent.frequency_hz,
                power: sent.eirp_dbm,
                modulation: ModulationJson::of(sent.modulation, true),
                timing: Some(Timing { delay: Delay { delay: format!("{}s", sent.delay_s) } }),
            }),
            ..self
        }
    }
}

impl DeviceInfoJson {
    fn of(device: &DeviceInfo) -> Self {
        Self {
            tenant_id: device.tenant_id.to_string(),
            tenant_name: device.tenant_name.clone(),
            application_id: device.application_id.to_string(),
            application_name: device.application_name.clone(),
            device_profile_id: device.device_profile_id.to_string(),
            device_profile_name: device.device_profile_name.clone(),
            device_name: device.device_name.clone(),
            dev_eui: device.dev_eui.to_string(),
            tags: device.tags.clone(),
        }
    }
}

impl RxInfo {
    fn of(heard: &Reception) -> Self {
        Self {
            gateway_id: heard.gateway.to_string(),
            uplink_id: heard.uplink_id,
            gw_time: heard.gw_time,
            ns_time: heard.ns_time,
            time_since_gps_epoch: heard.gps_micros.map(duration_text),
            rssi: heard.rssi_dbm,
            snr: f64::from(heard.snr_ddb) / 10.0,
            channel: heard.channel,
            rf_chain: heard.rf_chain,
            antenna: heard.antenna,
            context: STANDARD.encode(heard.tmst.to_be_bytes()),
            crc_status: if heard.crc_ok { "CRC_OK" } else { "" },
        }
    }
}

impl ModulationJson {
    fn of(modulation: Modulation, down: bool) -> Self {
        match modulation {
            Modulation::Lora { spreading_factor, bandwidth_hz, code_rate } => Self::Lora {
                bandwidth: bandwidth_hz,
                spreading_factor,
                code_rate: match code_rate {
                    CodeRate::Cr45 => "CR_4_5",
                    CodeRate::Cr46 => "CR_4_6",
                    CodeRate::Cr47 => "CR_4_7",
                    CodeRate::Cr48 => "CR_4_8",
                },
                polarization_inversion: down,
            },
            Modulation::Fsk { bitrate_bps, deviation_hz } => {
                Self::Fsk { frequency_deviation: deviation_hz, datarate: bitrate_bps }
            }
            Modulation::LrFhss { channel_width_hz, code_rate } => Self::LrFhss {
                operating_channel_width: channel_width_hz,
                code_rate: match code_rate {
                    LrFhssCodeRate::OneThird => "CR_2_6",
                    LrFhssCodeRate::TwoThirds => "CR_4_6",
                },
            },
        }
    }
}

/// A duration of the protobuf mapping: seconds with 0, 3 or 6 digits behind the point, then `s`.
fn duration_text(micros: u64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    match rest {
        0 => format!("{seconds}s"),
        rest if rest % 1_000 == 0 => format!("{seconds}.{:03}s", rest / 1_000),
        rest => format!("{seconds}.{rest:06}s"),
    }
}

const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Info => "",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
    }
}

const fn code_name(code: LogCode) -> &'static str {
    match code {
        LogCode::Unknown => "",
        LogCode::DownlinkPayloadSize => "DOWNLINK_PAYLOAD_SIZE",
        LogCode::UplinkCodec => "UPLINK_CODEC",
        LogCode::DownlinkCodec => "DOWNLINK_CODEC",
        LogCode::Otaa => "OTAA",
        LogCode::UplinkFCntReset => "UPLINK_F_CNT_RESET",
        LogCode::UplinkMic => "UPLINK_MIC",
        LogCode::UplinkFCntRetransmission => "UPLINK_F_CNT_RETRANSMISSION",
        LogCode::DownlinkGateway => "DOWNLINK_GATEWAY",
        LogCode::RelayNewEndDevice => "RELAY_NEW_END_DEVICE",
        LogCode::FCntDown => "F_CNT_DOWN",
        LogCode::Expired => "EXPIRED",
    }
}

#[cfg(test)]
#[path = "event_json_tests.rs"]
mod tests;
