//! A gateway's own statistics: a `stat` object to a value and back.
//!
//! Source: PROTOCOL.TXT §4 (packet_forwarder 4.0.1).

use std::borrow::Cow;
use std::fmt::Write as _;

use clock::WallTime;
use serde::Deserialize;

use crate::semtech_head::{DatagramError, from_object, json_error};
use crate::semtech_radio::rounded;

/// What a gateway says about its last interval; `None` where it said nothing sensible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stat {
    /// The gateway's own clock.
    pub time: Option<WallTime>,
    /// Degrees north, -90 to 90; told by gateways that know where they are.
    pub latitude_deg: Option<f64>,
    /// Degrees east, -180 to 180.
    pub longitude_deg: Option<f64>,
    /// Metres above the sea.
    pub altitude_m: Option<i32>,
    /// Frames heard.
    pub rx_received: Option<u32>,
    /// Frames heard with a right checksum.
    pub rx_ok: Option<u32>,
    /// Frames forwarded.
    pub rx_forwarded: Option<u32>,
    /// PUSH_DATA acknowledged, in tenths of a percent.
    pub acknowledged_permille: Option<u16>,
    /// Downlink datagrams received.
    pub downlinks_received: Option<u32>,
    /// Frames sent.
    pub tx_sent: Option<u32>,
}

#[derive(Deserialize)]
struct RawStat<'a> {
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    lati: Option<f64>,
    long: Option<f64>,
    alti: Option<f64>,
    rxnb: Option<u32>,
    rxok: Option<u32>,
    rxfw: Option<u32>,
    ackr: Option<f64>,
    dwnb: Option<u32>,
    txnb: Option<u32>,
}

impl Stat {
    /// Reads the object.
    ///
    /// * Errors: [`DatagramError::Shape`] if a field is doubled or of the wrong type. A figure out
    ///   of range is left out.
    pub(crate) fn parse(json: &str) -> Result<Self, DatagramError> {
        let raw: RawStat<'_> = from_object(json).map_err(|error| json_error(&error))?;
        let within = |value: Option<f64>, limit: f64| value.filter(|v| v.abs() <= limit);
        Ok(Self {
            time: raw.time.as_deref().and_then(parse_time),
            latitude_deg: within(raw.lati, 90.0),
            longitude_deg: within(raw.long, 180.0),
            altitude_m: raw
                .alti
                .and_then(|metres| rounded(metres, -100_000.0, 100_000.0))
                .and_then(|metres| i32::try_from(metres).ok()),
            rx_received: raw.rxnb,
            rx_ok: raw.rxok,
            rx_forwarded: raw.rxfw,
            acknowledged_permille: raw
                .ackr
                .and_then(|percent| rounded(percent * 10.0, 0.0, 1_000.0))
                .and_then(|permille| u16::try_from(permille).ok()),
            downlinks_received: raw.dwnb,
            tx_sent: raw.txnb,
        })
    }

    /// Writes the object as lora_pkt_fwd does; what is `None` is written as zero, a place left out.
    pub(crate) fn encode(&self, json: &mut String) {
        let time = self.time.unwrap_or_default();
        // RFC 3339 to "YYYY-MM-DD HH:MM:SS GMT": no fraction, a space, another zone's name.
        let text: String = time.to_string().chars().take(19).collect();
        let _ = write!(json, r#"{{"time":"{} GMT""#, text.replace('T', " "));
        if let (Some(latitude), Some(longitude)) = (self.latitude_deg, self.longitude_deg) {
            let altitude = self.altitude_m.unwrap_or(0);
            let _ =
                write!(json, r#","lati":{latitude:.5},"long":{longitude:.5},"alti":{altitude}"#);
        }
        let permille = self.acknowledged_permille.unwrap_or(0);
        let _ = write!(
            json,
            r#","rxnb":{},"rxok":{},"rxfw":{},"ackr":{}.{},"dwnb":{},"txnb":{}}}"#,
            self.rx_received.unwrap_or(0),
            self.rx_ok.unwrap_or(0),
            self.rx_forwarded.unwrap_or(0),
            permille / 10,
            permille % 10,
            self.downlinks_received.unwrap_or(0),
            self.tx_sent.unwrap_or(0),
        );
    }
}

/// `2014-01-12 08:59:28 GMT`, or RFC 3339.
fn parse_time(text: &str) -> Option<WallTime> {
    match text.strip_suffix(" GMT").or_else(|| text.strip_suffix(" UTC")) {
        Some(bare) => format!("{bare}Z").parse().ok(),
        None => text.parse().ok(),
    }
}
