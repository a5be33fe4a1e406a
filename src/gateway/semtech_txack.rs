//! The body of a TX_ACK: what became of a PULL_RESP.
//!
//! An empty body is success. Source: PROTOCOL.TXT §5.6 (packet_forwarder 4.0.1); `warn` is an
//! addition of its successor for newer concentrators, which then sends at the nearest power it has.

use std::borrow::Cow;

use lorawan::TxStatus;
use serde::Deserialize;

use crate::semtech_head::{DatagramError, Head, from_object, json_error, json_text, tx_ack_head};

/// A forwarder's answer to a PULL_RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxReply {
    /// What became of the frame; [`TxStatus::InternalError`] for an error nobody has documented.
    pub status: TxStatus,
    /// The power it is sent at instead, in dBm, if the forwarder warned of another.
    pub power_used_dbm: Option<i8>,
}

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow)]
    txpk_ack: RawReply<'a>,
}

#[derive(Deserialize)]
struct RawReply<'a> {
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    warn: Option<Cow<'a, str>>,
    value: Option<f64>,
}

impl TxReply {
    /// Accepted, as asked.
    pub const OK: Self = Self { status: TxStatus::Ok, power_used_dbm: None };

    /// Reads what follows the head.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DatagramError> {
        let text = json_text(body)?.trim();
        if text.is_empty() {
            return Ok(Self::OK);
        }
        let RawBody { txpk_ack } = from_object(text).map_err(|error| json_error(&error))?;
        let status = txpk_ack.error.as_deref().map_or(TxStatus::Ok, status_from_name);
        let warned = txpk_ack.warn.as_deref() == Some("TX_POWER");
        let power_used_dbm = txpk_ack
            .value
            .filter(|_| warned)
            .and_then(|value| crate::semtech_radio::rounded(value, -100.0, 100.0))
            .and_then(|value| i8::try_from(value).ok());
        Ok(Self { status, power_used_dbm })
    }

    /// Writes a whole TX_ACK, as a forwarder; success without a warning has no body.
    pub fn encode(&self, head: Head) -> Vec<u8> {
        let mut datagram = tx_ack_head(head);
        if self.status != TxStatus::Ok {
            let name = name_from_status(self.status);
            let body = format!(r#"{{"txpk_ack":{{"error":"{name}"}}}}"#);
            datagram.extend_from_slice(body.as_bytes());
        } else if let Some(power) = self.power_used_dbm {
            let body = format!(r#"{{"txpk_ack":{{"warn":"TX_POWER","value":{power}}}}}"#);
            datagram.extend_from_slice(body.as_bytes());
        }
        datagram
    }
}

fn status_from_name(name: &str) -> TxStatus {
    match name {
        "NONE" | "" => TxStatus::Ok,
        "TOO_LATE" => TxStatus::TooLate,
        "TOO_EARLY" => TxStatus::TooEarly,
        "COLLISION_PACKET" => TxStatus::CollisionPacket,
        "COLLISION_BEACON" => TxStatus::CollisionBeacon,
        "TX_FREQ" => TxStatus::TxFreq,
        "TX_POWER" => TxStatus::TxPower,
        "GPS_UNLOCKED" => TxStatus::GpsUnlocked,
        "QUEUE_FULL" | "FULL" => TxStatus::QueueFull,
        _ => TxStatus::InternalError,
    }
}

fn name_from_status(status: TxStatus) -> &'static str {
    match status {
        TxStatus::Ok => "NONE",
        TxStatus::TooLate => "TOO_LATE",
        TxStatus::TooEarly => "TOO_EARLY",
        TxStatus::CollisionPacket => "COLLISION_PACKET",
        TxStatus::CollisionBeacon => "COLLISION_BEACON",
        TxStatus::TxFreq => "TX_FREQ",
        TxStatus::TxPower => "TX_POWER",
        TxStatus::GpsUnlocked => "GPS_UNLOCKED",
        TxStatus::QueueFull => "QUEUE_FULL",
        TxStatus::InternalError => "UNKNOWN",
    }
}
