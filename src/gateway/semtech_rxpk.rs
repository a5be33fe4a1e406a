//! One frame heard: an `rxpk` object to a value and back.
//!
//! Tolerant of what real forwarders leave out or add, strict about what would make the frame
//! another one. Source: PROTOCOL.TXT §4 (packet_forwarder 4.0.1); `rsig` of the version 2 gateways.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use clock::{GpsTime, Instant, WallTime};
use lorawan::{CrcStatus, GatewayEui, Modulation, Uplink};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::semtech_head::{from_object, short};
use crate::semtech_radio::{
    PayloadFault, decode_payload, encode_modulation, encode_payload, hertz, megahertz,
    parse_modulation, rounded,
};

/// GPS milliseconds beyond any this protocol will see: the year 2106.
const TMMS_MAX: u64 = 4_000_000_000_000;

/// The same year in microseconds of the Unix epoch.
const UNIX_MICROS_MAX: i64 = 4_300_000_000_000_000;

/// Why one frame of a PUSH_DATA is refused; the others of the datagram are kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RxpkError {
    /// The radio found the PHY checksum wrong (`stat` is -1).
    #[error("the frame's checksum is wrong")]
    CrcBad,
    /// A field is missing, doubled, of the wrong type, or a number no machine can hold.
    #[error("{0}")]
    Fields(String),
    /// `stat` is none of -1, 0, 1.
    #[error("stat {0}")]
    Stat(i64),
    /// `freq` is not one a radio can tune to.
    #[error("freq {0} MHz")]
    Frequency(String),
    /// `modu`, `datr` and `codr` name no modulation that Tern knows.
    #[error("unknown modulation {0}")]
    Modulation(String),
    /// `rssi` or `lsnr` is missing or no sound figure.
    #[error("rssi or lsnr missing or out of range")]
    Signal,
    /// `tmms` lies beyond the century.
    #[error("tmms {0}")]
    GpsTime(u64),
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
    /// More frames in one datagram than a forwarder sends; the first ones are kept.
    #[error("too many frames in one datagram")]
    TooMany,
}

impl RxpkError {
    /// The label of this refusal in the metric that counts it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::CrcBad => "crc_bad",
            Self::Fields(_) => "fields",
            Self::Stat(_) => "stat",
            Self::Frequency(_) => "frequency",
            Self::Modulation(_) => "modulation",
            Self::Signal => "signal",
            Self::GpsTime(_) => "gps_time",
            Self::Base64 => "base64",
            Self::PayloadLength(_) => "payload_length",
            Self::Size { .. } => "size",
            Self::TooMany => "too_many",
        }
    }
}

impl From<PayloadFault> for RxpkError {
    fn from(fault: PayloadFault) -> Self {
        match fault {
            PayloadFault::Base64 => Self::Base64,
            PayloadFault::Length(len) => Self::PayloadLength(len),
            PayloadFault::Size { told, seen } => Self::Size { told, seen },
        }
    }
}

/// One frame as one gateway heard it; fields as in [`Uplink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rxpk {
    /// The whole PHYPayload, 1 to 255 bytes.
    pub phy_payload: Bytes,
    /// UTC of the reception, from a gateway with GPS.
    pub gateway_time: Option<WallTime>,
    /// The same on the GPS scale, in whole milliseconds.
    pub gps_time: Option<GpsTime>,
    /// Hertz.
    pub frequency_hz: u32,
    /// How it was sent.
    pub modulation: Modulation,
    /// Signal strength in dBm.
    pub rssi_dbm: i16,
    /// Signal-to-noise ratio in tenths of a decibel; 0 for FSK and LR-FHSS.
    pub snr_ddb: i16,
    /// IF channel; 0 if not told.
    pub channel: u8,
    /// RF chain; 0 if not told.
    pub rf_chain: u8,
    /// Antenna with the best signal; 0 if not told.
    pub antenna: u8,
    /// The concentrator's counter at the end of the frame, in microseconds.
    pub tmst: u32,
    /// The PHY checksum; [`CrcStatus::None`] if not told.
    pub crc: CrcStatus,
}

/// The fields as they stand. A doubled one is an error of the deserializer, an unknown one ignored.
#[derive(Deserialize)]
struct RawRxpk<'a> {
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    tmms: Option<u64>,
    tmst: u32,
    chan: Option<u8>,
    rfch: Option<u8>,
    ant: Option<u8>,
    freq: f64,
    stat: Option<i64>,
    #[serde(borrow)]
    modu: Option<Cow<'a, str>>,
    #[serde(borrow)]
    datr: &'a RawValue,
    #[serde(borrow)]
    codr: Option<Cow<'a, str>>,
    rssi: Option<f64>,
    lsnr: Option<f64>,
    rsig: Option<Vec<RawSignal>>,
    size: Option<u64>,
    #[serde(borrow)]
    data: Cow<'a, str>,
}

/// One antenna's reception in `rsig`.
#[derive(Deserialize)]
struct RawSignal {
    ant: Option<u8>,
    chan: Option<u8>,
    rssic: Option<f64>,
    lsnr: Option<f64>,
}

/// The figures of the antenna that heard the frame best.
struct Signal {
    rssi_dbm: i16,
    snr_ddb: i16,
    channel: Option<u8>,
    antenna: Option<u8>,
}

impl Rxpk {
    /// Reads one object of the `rxpk` array.
    pub(crate) fn parse(json: &str) -> Result<Self, RxpkError> {
        let raw: RawRxpk<'_> =
            from_object(json).map_err(|error| RxpkError::Fields(short(&error)))?;
        let crc = match raw.stat {
            Some(1) => CrcStatus::Ok,
            Some(0) | None => CrcStatus::None,
            Some(-1) => return Err(RxpkError::CrcBad),
            Some(other) => return Err(RxpkError::Stat(other)),
        };
        let frequency_hz =
            hertz(raw.freq).ok_or_else(|| RxpkError::Frequency(format!("{:e}", raw.freq)))?;
        let modulation = parse_modulation(raw.modu.as_deref(), raw.datr, raw.codr.as_deref(), None)
            .ok_or_else(|| RxpkError::Modulation(raw.described_modulation()))?;
        let signal = raw.best_signal(modulation).ok_or(RxpkError::Signal)?;
        let gps_time = match raw.tmms {
            Some(millis) if millis > TMMS_MAX => return Err(RxpkError::GpsTime(millis)),
            Some(millis) => Some(GpsTime::from_micros(millis * 1_000)),
            None => None,
        };
        Ok(Self {
            phy_payload: decode_payload(&raw.data, raw.size)?,
            // Only for people: a clock that cannot write its time costs the time, not the frame.
            gateway_time: raw.time.as_deref().and_then(plausible_time),
            gps_time,
            frequency_hz,
            modulation,
            rssi_dbm: signal.rssi_dbm,
            snr_ddb: signal.snr_ddb,
            channel: signal.channel.or(raw.chan).unwrap_or(0),
            rf_chain: raw.rfch.unwrap_or(0),
            antenna: signal.antenna.or(raw.ant).unwrap_or(0),
            tmst: raw.tmst,
            crc,
        })
    }

    /// The value the network server works with.
    ///
    /// * `received_at`: when the datagram reached this node.
    pub fn into_uplink(self, gateway: GatewayEui, received_at: Instant) -> Uplink {
        Uplink {
            phy_payload: self.phy_payload,
            gateway,
            received_at,
            gateway_time: self.gateway_time,
            gps_time: self.gps_time,
            frequency_hz: self.frequency_hz,
            modulation: self.modulation,
            rssi_dbm: self.rssi_dbm,
            snr_ddb: self.snr_ddb,
            channel: self.channel,
            rf_chain: self.rf_chain,
            antenna: self.antenna,
            tmst: self.tmst,
            crc: self.crc,
        }
    }

    /// Writes the object as lora_pkt_fwd does: its order of keys, no spaces.
    pub(crate) fn encode(&self, json: &mut String) {
        let _ = write!(json, r#"{{"tmst":{}"#, self.tmst);
        if let Some(time) = self.gateway_time {
            let _ = write!(json, r#","time":"{time}""#);
        }
        if let Some(gps_time) = self.gps_time {
            let _ = write!(json, r#","tmms":{}"#, gps_time.as_micros() / 1_000);
        }
        let _ = write!(json, r#","chan":{},"rfch":{}"#, self.channel, self.rf_chain);
        if self.antenna != 0 {
            let _ = write!(json, r#","ant":{}"#, self.antenna);
        }
        let stat = match self.crc {
            CrcStatus::Ok => 1,
            CrcStatus::Bad => -1,
            CrcStatus::None => 0,
        };
        let frequency = megahertz(self.frequency_hz);
        let modulation = encode_modulation(self.modulation);
        let _ = write!(json, r#","freq":{frequency},"stat":{stat},{modulation}"#);
        if matches!(self.modulation, Modulation::Lora { .. }) {
            let sign = if self.snr_ddb < 0 { "-" } else { "" };
            let tenths = self.snr_ddb.unsigned_abs();
            let _ = write!(json, r#","lsnr":{sign}{}.{}"#, tenths / 10, tenths % 10);
        }
        let (size, data) = (self.phy_payload.len(), encode_payload(&self.phy_payload));
        let _ = write!(json, r#","rssi":{},"size":{size},"data":"{data}"}}"#, self.rssi_dbm);
    }
}

impl RawRxpk<'_> {
    /// The figures of the frame itself, or of the best of its antennas: by SNR, then by strength.
    fn best_signal(&self, modulation: Modulation) -> Option<Signal> {
        let needs_snr = matches!(modulation, Modulation::Lora { .. });
        let own = RawSignal { ant: None, chan: None, rssic: self.rssi, lsnr: self.lsnr };
        let antennas = self.rsig.as_deref().unwrap_or(&[]).iter();
        antennas.chain([&own]).filter_map(|signal| signal.checked(needs_snr)).reduce(
            |best, next| {
                let better = (next.snr_ddb, next.rssi_dbm) > (best.snr_ddb, best.rssi_dbm);
                if better { next } else { best }
            },
        )
    }

    fn described_modulation(&self) -> String {
        let modu = self.modu.as_deref().unwrap_or("");
        let codr = self.codr.as_deref().unwrap_or("");
        let text = format!("{modu} {} {codr}", self.datr.get());
        text.chars().filter(|character| !character.is_control()).take(60).collect()
    }
}

/// RFC 3339 between the Unix epoch and the end of the century, more or less.
fn plausible_time(text: &str) -> Option<WallTime> {
    let time: WallTime = text.parse().ok()?;
    (0..=UNIX_MICROS_MAX).contains(&time.unix_micros()).then_some(time)
}

impl RawSignal {
    fn checked(&self, needs_snr: bool) -> Option<Signal> {
        let rssi_dbm = rounded(self.rssic?, -300.0, 100.0)?;
        let snr_ddb = match self.lsnr {
            Some(snr) if needs_snr => rounded(snr * 10.0, -1_000.0, 1_000.0)?,
            None if needs_snr => return None,
            Some(_) | None => 0,
        };
        Some(Signal {
            rssi_dbm: i16::try_from(rssi_dbm).ok()?,
            snr_ddb: i16::try_from(snr_ddb).ok()?,
            channel: self.chan,
            antenna: self.ant,
        })
    }
}
