//! Short ways to write the rows of a region's table.

use crate::region::DataRate;
use crate::{CodeRate, LrFhssCodeRate, Modulation};

/// A LoRa data rate: spreading factor, kilohertz, longest MACPayload.
pub(crate) const fn lora(spreading_factor: u8, bandwidth_khz: u32, max: u8) -> Option<DataRate> {
    let bandwidth_hz = bandwidth_khz * 1_000;
    let modulation = Modulation::Lora { spreading_factor, bandwidth_hz, code_rate: CodeRate::Cr45 };
    Some(DataRate { modulation, max_mac_payload: [max, max], up: true, down: true })
}

/// LoRaWAN's FSK at 50 kbit/s (RP002-1.0.4 §3.2.3).
pub(crate) const fn fsk50(max: u8) -> Option<DataRate> {
    let modulation = Modulation::Fsk { bitrate_bps: 50_000, deviation_hz: 25_000 };
    Some(DataRate { modulation, max_mac_payload: [max, max], up: true, down: true })
}

/// An LR-FHSS data rate, uplink only: channel width in kilohertz, code rate, longest MACPayload.
pub(crate) const fn lr_fhss(
    channel_width_khz: u32,
    code_rate: LrFhssCodeRate,
    max: u8,
) -> Option<DataRate> {
    let modulation = Modulation::LrFhss { channel_width_hz: channel_width_khz * 1_000, code_rate };
    Some(DataRate { modulation, max_mac_payload: [max, max], up: true, down: false })
}

/// The same for devices only.
pub(crate) const fn up(rate: Option<DataRate>) -> Option<DataRate> {
    match rate {
        Some(rate) => Some(DataRate { down: false, ..rate }),
        None => None,
    }
}

/// The same for gateways only.
pub(crate) const fn down(rate: Option<DataRate>) -> Option<DataRate> {
    match rate {
        Some(rate) => Some(DataRate { up: false, ..rate }),
        None => None,
    }
}
