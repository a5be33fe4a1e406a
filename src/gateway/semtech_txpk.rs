//! One frame to send: the body of a PULL_RESP to a value and back.
//!
//! Source: PROTOCOL.TXT §6 (packet_forwarder 4.0.1), and which fields lora_pkt_fwd insists on.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use clock::GpsTime;
use lorawan::Modulation;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::semtech_head::{
    DatagramError, Version, from_object, json_error, json_text, pull_resp_head,
};
use crate::semtech_radio::{
    PayloadFault, decode_payload, encode_modulation, encode_payload, hertz, megahertz,
    parse_modulation, rounded,
};

/// When a frame is to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxTiming {
    /// `imme`: as soon as it can.
    Immediately,
    /// `tmst`: when the concentrator's counter shows this, in microseconds.
    Counter(u32),
    /// `tmms`: at a moment of the GPS scale, in whole milliseconds.
    Gps(GpsTime),
}

/// Why a `txpk` cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxpkError {
    /// None of `imme`, `tmst`, `tmms`.
    #[error("no time to send at")]
    Timing,
    /// `freq` is not one a radio can tune to.
    #[error("freq {0} MHz")]
    Frequency(String),
    /// `modu`, `datr`, `codr` or `fdev` is missing or unknown.
    #[error("modu, datr, codr or fdev missing or unknown")]
    Modulation,
    /// `powe` is no sound figure.
    #[error("powe out of range")]
    Power,
    /// `data` is not base64.
    #[error("data is not base64")]
    Base64,
    /// `data` holds no byte, or more than a LoRa frame can.
    #[error("{0} bytes are no PHYPayload")]
    PayloadLength(usize),
    /// `size` is unlike the bytes in `data`.
    #[error("size says {told}, data holds {seen}")]
    Size {
        /// What `size` says.
        told: u64,
        /// Bytes in `data`.
        seen: usize,
    },
}

impl From<PayloadFault> for TxpkError {
    fn from(fault: PayloadFault) -> Self {
        match fault {
            PayloadFault::Base64 => Self::Base64,
            PayloadFault::Length(len) => Self::PayloadLength(len),
            PayloadFault::Size { told, seen } => Self::Size { told, seen },
        }
    }
}

/// One frame for a forwarder to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txpk {
    /// When.
    pub timing: TxTiming,
    /// Hertz.
    pub frequency_hz: u32,
    /// `rfch`.
    pub rf_chain: u8,
    /// `ant`; written only if it is not 0.
    pub antenna: u8,
    /// `powe`: dBm at the antenna's connector.
    pub power_dbm: i8,
    /// How.
    pub modulation: Modulation,
    /// `ipol`: LoRaWAN downlinks have it inverted.
    pub inverted_polarity: bool,
    /// `ncrc`: LoRaWAN downlinks carry no PHY checksum.
    pub no_crc: bool,
    /// The whole PHYPayload, 1 to 255 bytes.
    pub phy_payload: Bytes,
}

#[derive(Deserialize)]
struct RawBody<'a> {
    #[serde(borrow)]
    txpk: RawTxpk<'a>,
}

#[derive(Deserialize)]
struct RawTxpk<'a> {
    imme: Option<bool>,
    tmst: Option<u32>,
    tmms: Option<u64>,
    freq: f64,
    rfch: u8,
    ant: Option<u8>,
    powe: Option<f64>,
    #[serde(borrow)]
    modu: Cow<'a, str>,
    #[serde(borrow)]
    datr: &'a RawValue,
    #[serde(borrow)]
    codr: Option<Cow<'a, str>>,
    fdev: Option<u32>,
    ipol: Option<bool>,
    ncrc: Option<bool>,
    size: u64,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

impl RawTxpk<'_> {
    /// `imme` before `tmst` before `tmms`.
    fn timing(&self) -> Option<TxTiming> {
        match (self.imme, self.tmst, self.tmms) {
            (Some(true), ..) => Some(TxTiming::Immediately),
            (_, Some(tmst), _) => Some(TxTiming::Counter(tmst)),
            (_, None, Some(millis)) => {
                millis.checked_mul(1_000).map(|micros| TxTiming::Gps(GpsTime::from_micros(micros)))
            }
            (_, None, None) => None,
        }
    }

    /// lora_pkt_fwd insists on `codr` for LoRa and `fdev` for FSK.
    fn modulation(&self) -> Option<Modulation> {
        let modulation =
            parse_modulation(Some(&self.modu), self.datr, self.codr.as_deref(), self.fdev)?;
        let told = match modulation {
            Modulation::Lora { .. } => self.codr.is_some(),
            Modulation::Fsk { .. } => self.fdev.is_some(),
            // LR-FHSS goes up only.
            Modulation::LrFhss { .. } => false,
        };
        told.then_some(modulation)
    }
}

impl Txpk {
    /// Reads what follows the head of a PULL_RESP, as a forwarder: its defaults where a field is
    /// missing (no power: 0 dBm; `ncrc` and `ipol` false).
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DatagramError> {
        let text = json_text(body)?;
        let RawBody { txpk } = from_object(text).map_err(|error| json_error(&error))?;
        let power_dbm = rounded(txpk.powe.unwrap_or(0.0), -100.0, 100.0)
            .and_then(|power| i8::try_from(power).ok())
            .ok_or(TxpkError::Power)?;
        Ok(Self {
            timing: txpk.timing().ok_or(TxpkError::Timing)?,
            frequency_hz: hertz(txpk.freq)
                .ok_or_else(|| TxpkError::Frequency(format!("{:e}", txpk.freq)))?,
            rf_chain: txpk.rfch,
            antenna: txpk.ant.unwrap_or(0),
            power_dbm,
            modulation: txpk.modulation().ok_or(TxpkError::Modulation)?,
            inverted_polarity: txpk.ipol.unwrap_or(false),
            no_crc: txpk.ncrc.unwrap_or(false),
            phy_payload: decode_payload(&txpk.data, Some(txpk.size)).map_err(TxpkError::from)?,
        })
    }

    /// Writes a whole PULL_RESP.
    pub fn encode(&self, version: Version, token: u16) -> Vec<u8> {
        let mut json = String::with_capacity(256 + self.phy_payload.len() * 4 / 3);
        json.push_str(r#"{"txpk":{"#);
        let _ = match self.timing {
            TxTiming::Immediately => write!(json, r#""imme":true"#),
            TxTiming::Counter(tmst) => write!(json, r#""imme":false,"tmst":{tmst}"#),
            TxTiming::Gps(at) => {
                write!(json, r#""imme":false,"tmms":{}"#, at.as_micros() / 1_000)
            }
        };
        let frequency = megahertz(self.frequency_hz);
        let _ = write!(json, r#","freq":{frequency},"rfch":{}"#, self.rf_chain);
        if self.antenna != 0 {
            let _ = write!(json, r#","ant":{}"#, self.antenna);
        }
        let modulation = encode_modulation(self.modulation);
        let _ = write!(json, r#","powe":{},{modulation}"#, self.power_dbm);
        if let Modulation::Fsk { deviation_hz, .. } = self.modulation {
            let _ = write!(json, r#","fdev":{deviation_hz}"#);
        }
        let (ipol, ncrc) = (self.inverted_polarity, self.no_crc);
        let (size, data) = (self.phy_payload.len(), encode_payload(&self.phy_payload));
        let _ = write!(json, r#","ipol":{ipol},"ncrc":{ncrc},"size":{size},"data":"{data}"}}}}"#);
        let mut datagram = pull_resp_head(version, token).to_vec();
        datagram.extend_from_slice(json.as_bytes());
        datagram
    }
}
