//! The event log: what happened to devices, frozen as of then.
//!
//! A row holds names and tags as they were; its identifier is computed, not drawn, so that two
//! proposers arrive at the same one. JSON is made where it leaves the server.

use std::sync::Arc;

use bytes::Bytes;
use clock::WallTime;
use lorawan::{DevAddr, DevEui, GatewayEui, Modulation};
use mac::Reception;
use minicbor::{Decode, Encode};

use crate::Id;
use crate::model::Tags;

/// Who and what the device was when the event happened.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceInfo {
    /// Tenant.
    #[n(0)]
    pub tenant_id: Id,
    /// Its name.
    #[n(1)]
    pub tenant_name: String,
    /// Application.
    #[n(2)]
    pub application_id: Id,
    /// Its name.
    #[n(3)]
    pub application_name: String,
    /// Device profile.
    #[n(4)]
    pub device_profile_id: Id,
    /// Its name.
    #[n(5)]
    pub device_profile_name: String,
    /// Name of the device.
    #[n(6)]
    pub device_name: String,
    /// Device.
    #[n(7)]
    pub dev_eui: DevEui,
    /// Tags of application, profile and device, the later winning.
    #[n(8)]
    pub tags: Tags,
    /// Region configuration, as events name it (`eu868`).
    #[n(9)]
    pub region: String,
}

/// One row of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct EventRow {
    /// Position in the log of events, from 1; the cursor of `after=`.
    #[n(0)]
    pub sequence: u64,
    /// `deduplicationId`: one reading, one id, whoever proposed it.
    #[n(1)]
    pub id: Id,
    /// When it happened: for an uplink when it was first received.
    #[n(2)]
    pub time: WallTime,
    /// Frozen names; shared with the other rows of the same entry.
    #[n(3)]
    #[cbor(with = "crate::cbor_arc")]
    pub device: Arc<DeviceInfo>,
    /// What happened.
    #[n(4)]
    pub event: Event,
}

impl EventRow {
    /// The MQTT topic on which applications get it.
    pub fn topic(&self) -> String {
        let DeviceInfo { application_id, dev_eui, .. } = self.device.as_ref();
        format!("application/{application_id}/device/{dev_eui}/event/{}", self.event.kind())
    }
}

/// What happened. Kinds and fields are those of the field's application events.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// `up`
    #[n(0)]
    Up(#[n(0)] Box<UpEvent>),
    /// `join`
    #[n(1)]
    Join {
        /// The address given.
        #[n(0)]
        dev_addr: DevAddr,
    },
    /// `status`
    #[n(2)]
    Status {
        /// dB
        #[n(0)]
        margin_db: i8,
        /// 0 = external power, 255 = unknown, else 1..=254.
        #[n(1)]
        battery: u8,
    },
    /// `ack`
    #[n(3)]
    Ack {
        /// The item.
        #[n(0)]
        queue_item_id: Id,
        /// Whether the device acknowledged it.
        #[n(1)]
        acknowledged: bool,
        /// Its number.
        #[n(2)]
        f_cnt_down: u32,
    },
    /// `txack`
    #[n(4)]
    TxAck(#[n(0)] TxAckEvent),
    /// `log`
    #[n(5)]
    Log {
        /// How bad.
        #[n(0)]
        level: LogLevel,
        /// The field's code.
        #[n(1)]
        code: LogCode,
        /// For people.
        #[n(2)]
        description: String,
        /// Names and values.
        #[n(3)]
        context: Tags,
    },
}

impl Event {
    /// The field's name of the kind: the last level of the topic.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Join { .. } => "join",
            Self::Status { .. } => "status",
            Self::Ack { .. } => "ack",
            Self::TxAck(_) => "txack",
            Self::Log { .. } => "log",
        }
    }
}

/// An uplink as applications get it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UpEvent {
    /// Address.
    #[n(0)]
    pub dev_addr: DevAddr,
    /// FCtrl.ADR
    #[n(1)]
    pub adr: bool,
    /// Data rate.
    #[n(2)]
    pub dr: u8,
    /// Full counter.
    #[n(3)]
    pub f_cnt: u32,
    /// Port, if the frame had one.
    #[n(4)]
    pub f_port: Option<u8>,
    /// Confirmed uplink.
    #[n(5)]
    pub confirmed: bool,
    /// Payload.
    #[n(6)]
    #[cbor(with = "mac::cbor_bytes")]
    pub data: Bytes,
    /// Who heard it.
    #[n(7)]
    pub receptions: Vec<Reception>,
    /// Hertz.
    #[n(8)]
    pub frequency_hz: u32,
    /// How it was sent.
    #[n(9)]
    pub modulation: Modulation,
    /// Accepted after a longer hold: no downlink came of it.
    #[n(10)]
    pub late: bool,
}

/// A downlink that a gateway reported as sent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TxAckEvent {
    /// The transmission.
    #[n(0)]
    pub downlink_id: u32,
    /// The item.
    #[n(1)]
    pub queue_item_id: Option<Id>,
    /// Its number.
    #[n(2)]
    pub f_cnt_down: u32,
    /// Who sent it.
    #[n(3)]
    pub gateway: GatewayEui,
    /// Hertz.
    #[n(4)]
    pub frequency_hz: u32,
    /// dBm
    #[n(5)]
    pub eirp_dbm: i8,
    /// How.
    #[n(6)]
    pub modulation: Modulation,
    /// Seconds after the uplink.
    #[n(7)]
    pub delay_s: u8,
}

/// How bad a log event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum LogLevel {
    /// For information.
    #[n(0)]
    Info,
    /// Worth a look.
    #[n(1)]
    Warning,
    /// Something did not work.
    #[n(2)]
    Error,
}

/// The field's codes of log events, and none of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum LogCode {
    /// UNKNOWN
    #[n(0)]
    Unknown,
    /// DOWNLINK_PAYLOAD_SIZE
    #[n(1)]
    DownlinkPayloadSize,
    /// UPLINK_CODEC
    #[n(2)]
    UplinkCodec,
    /// DOWNLINK_CODEC
    #[n(3)]
    DownlinkCodec,
    /// OTAA
    #[n(4)]
    Otaa,
    /// UPLINK_F_CNT_RESET
    #[n(5)]
    UplinkFCntReset,
    /// UPLINK_MIC
    #[n(6)]
    UplinkMic,
    /// UPLINK_F_CNT_RETRANSMISSION
    #[n(7)]
    UplinkFCntRetransmission,
    /// DOWNLINK_GATEWAY
    #[n(8)]
    DownlinkGateway,
    /// RELAY_NEW_END_DEVICE
    #[n(9)]
    RelayNewEndDevice,
    /// F_CNT_DOWN
    #[n(10)]
    FCntDown,
    /// EXPIRED
    #[n(11)]
    Expired,
}
