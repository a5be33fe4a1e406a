//! The words that `rxpk` and `txpk` share: data rate, code rate, frequency, payload.
//!
//! Source: PROTOCOL.TXT §4 and §6 (packet_forwarder 4.0.1).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use lorawan::{CodeRate, LrFhssCodeRate, Modulation};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest PHYPayload a LoRa radio can carry, in bytes: its length field has eight bits.
pub const PHY_PAYLOAD_LEN_MAX: usize = 255;
/// Longest base64 text worth decoding: a group more than fits, so that a refusal names the length.
const PAYLOAD_TEXT_LEN_MAX: usize = (PHY_PAYLOAD_LEN_MAX / 3 + 1) * 4;

/// Writes padding; reads with or without it, as forwarders differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a payload's text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadFault {
    Base64,
    Length(usize),
    Size { told: u64, seen: usize },
}

/// Decodes `data` and compares it with `size`, if told.
pub(crate) fn decode_payload(text: &str, size: Option<u64>) -> Result<Bytes, PayloadFault> {
    if text.len() > PAYLOAD_TEXT_LEN_MAX {
        return Err(PayloadFault::Length(text.len() / 4 * 3));
    }
    let payload = BASE64.decode(text).map_err(|_| PayloadFault::Base64)?;
    if payload.is_empty() || payload.len() > PHY_PAYLOAD_LEN_MAX {
        return Err(PayloadFault::Length(payload.len()));
    }
    match size {
        Some(told) if told != payload.len() as u64 => {
            Err(PayloadFault::Size { told, seen: payload.len() })
        }
        Some(_) | None => Ok(payload.into()),
    }
}

/// `data`, with padding.
pub(crate) fn encode_payload(payload: &[u8]) -> String {
    BASE64.encode(payload)
}

/// Megahertz as whole hertz; `None` outside what a LoRa radio of any kind can tune to.
pub(crate) fn hertz(megahertz: f64) -> Option<u32> {
    let hertz = rounded(megahertz * 1e6, 100e6, 2_600e6)?;
    u32::try_from(hertz).ok()
}

/// Hertz as megahertz with six decimals, as the protocol writes it.
pub(crate) fn megahertz(frequency_hz: u32) -> String {
    format!("{}.{:06}", frequency_hz / 1_000_000, frequency_hz % 1_000_000)
}

/// The nearest whole number, or `None` outside the bounds (or if it is no number).
pub(crate) fn rounded(value: f64, min: f64, max: f64) -> Option<i64> {
    if !(min..=max).contains(&value) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "the bounds are far inside an i64")]
    let whole = value.round() as i64;
    Some(whole)
}

/// Reads `datr`, `codr` and `fdev` as one modulation; `modu` may be missing.
///
/// * Returns `None` for what no LoRaWAN radio knows.
pub(crate) fn parse_modulation(
    modu: Option<&str>,
    datr: &RawValue,
    codr: Option<&str>,
    deviation_hz: Option<u32>,
) -> Option<Modulation> {
    let is_text = datr.get().starts_with('"');
    match modu {
        Some("LORA") | None if is_text => {
            let text: Cow<'_, str> = serde_json::from_str::<CowText<'_>>(datr.get()).ok()?.0;
            let (spreading_factor, bandwidth_hz) = parse_lora_datr(&text)?;
            let code_rate = parse_codr(codr)?;
            Some(Modulation::Lora { spreading_factor, bandwidth_hz, code_rate })
        }
        Some("LR-FHSS") if is_text => {
            let text: Cow<'_, str> = serde_json::from_str::<CowText<'_>>(datr.get()).ok()?.0;
            let channel_width_hz = parse_lr_fhss_datr(&text)?;
            let code_rate = match codr? {
                "1/3" | "2/6" => LrFhssCodeRate::OneThird,
                "2/3" | "4/6" => LrFhssCodeRate::TwoThirds,
                _ => return None,
            };
            Some(Modulation::LrFhss { channel_width_hz, code_rate })
        }
        Some("FSK") | None if !is_text => {
            let bitrate_bps: u32 = serde_json::from_str(datr.get()).ok()?;
            (500..=300_000).contains(&bitrate_bps).then_some(())?;
            // An uplink does not tell its deviation; LoRaWAN's is half the bit rate (RP002 §2.5.3).
            let deviation_hz = deviation_hz.unwrap_or(bitrate_bps / 2);
            Some(Modulation::Fsk { bitrate_bps, deviation_hz })
        }
        Some(_) | None => None,
    }
}

#[derive(serde::Deserialize)]
struct CowText<'a>(#[serde(borrow)] Cow<'a, str>);

fn parse_lora_datr(text: &str) -> Option<(u8, u32)> {
    let (spreading_factor, bandwidth) = text.strip_prefix("SF")?.split_once("BW")?;
    let spreading_factor = digits(spreading_factor).and_then(|sf| u8::try_from(sf).ok())?;
    let bandwidth_hz = match digits(bandwidth)? {
        125 => 125_000,
        250 => 250_000,
        500 => 500_000,
        // 2.4 GHz: the protocol cuts the fraction of the kilohertz.
        203 => 203_125,
        406 => 406_250,
        812 => 812_500,
        1_625 => 1_625_000,
        _ => return None,
    };
    (5..=12).contains(&spreading_factor).then_some((spreading_factor, bandwidth_hz))
}

/// `M0CW137`: the modulation's variant, of which there is one, and the channel's kilohertz.
fn parse_lr_fhss_datr(text: &str) -> Option<u32> {
    let kilohertz = digits(text.strip_prefix("M0CW")?)?;
    matches!(kilohertz, 137 | 336 | 1_523).then_some(kilohertz * 1_000)
}

/// A short decimal number; `str::parse` would take a sign too.
fn digits(text: &str) -> Option<u32> {
    (text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())?;
    text.parse().ok()
}

/// A missing code rate is LoRaWAN's own.
fn parse_codr(codr: Option<&str>) -> Option<CodeRate> {
    match codr {
        None | Some("4/5") => Some(CodeRate::Cr45),
        Some("4/6" | "2/3") => Some(CodeRate::Cr46),
        Some("4/7") => Some(CodeRate::Cr47),
        Some("4/8" | "1/2") => Some(CodeRate::Cr48),
        Some(_) => None,
    }
}

/// `"modu":..,"datr":..` and for LoRa `,"codr":..`, without braces.
pub(crate) fn encode_modulation(modulation: Modulation) -> String {
    match modulation {
        Modulation::Lora { spreading_factor, bandwidth_hz, code_rate } => {
            let kilohertz = bandwidth_hz / 1_000;
            let codr = match code_rate {
                CodeRate::Cr45 => "4/5",
                CodeRate::Cr46 => "4/6",
                CodeRate::Cr47 => "4/7",
                CodeRate::Cr48 => "4/8",
            };
            let datr = format!("SF{spreading_factor}BW{kilohertz}");
            format!(r#""modu":"LORA","datr":"{datr}","codr":"{codr}""#)
        }
        Modulation::Fsk { bitrate_bps, .. } => format!(r#""modu":"FSK","datr":{bitrate_bps}"#),
        Modulation::LrFhss { channel_width_hz, code_rate } => {
            let kilohertz = channel_width_hz / 1_000;
            let codr = match code_rate {
                LrFhssCodeRate::OneThird => "2/6",
                LrFhssCodeRate::TwoThirds => "4/6",
            };
            format!(r#""modu":"LR-FHSS","datr":"M0CW{kilohertz}","codr":"{codr}""#)
        }
    }
}
