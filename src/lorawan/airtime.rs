//! How long a frame stays in the air.
//!
//! Source: Semtech SX1276 datasheet §4.1.1.7 and SX1261/2 datasheet §6.1.4 (LoRa), RP002-1.0.4 §4.

use clock::Duration;

use crate::{CodeRate, LrFhssCodeRate, Modulation};

/// Symbols of a LoRaWAN preamble, without the 4.25 of the sync word.
const LORA_PREAMBLE_SYMBOLS: u64 = 8;
/// Preamble, sync word and length of an FSK frame, in bytes.
const FSK_OVERHEAD: u64 = 5 + 3 + 1;

/// How long a frame stays in the air.
///
/// * `phy_len`: bytes of the PHYPayload, 0 to 255.
/// * `with_crc`: whether a PHY checksum follows: uplinks have one, LoRaWAN downlinks none.
/// * Returns whole microseconds, rounded up.
pub fn airtime(modulation: Modulation, phy_len: u8, with_crc: bool) -> Duration {
    match modulation {
        Modulation::Lora { spreading_factor, bandwidth_hz, code_rate } => {
            lora_airtime(spreading_factor, bandwidth_hz, code_rate, phy_len, with_crc)
        }
        Modulation::Fsk { bitrate_bps, .. } => {
            let crc = if with_crc { 2 } else { 0 };
            let bits = (FSK_OVERHEAD + u64::from(phy_len) + crc) * 8;
            Duration::from_micros((bits * 1_000_000).div_ceil(u64::from(bitrate_bps.max(1))))
        }
        Modulation::LrFhss { code_rate, .. } => lr_fhss_airtime(code_rate, phy_len),
    }
}

/// An estimate, for nobody here sends LR-FHSS: header replicas of 0.23 s each, then the coded bits
/// at 488 bit/s.
fn lr_fhss_airtime(code_rate: LrFhssCodeRate, phy_len: u8) -> Duration {
    let bits = (u64::from(phy_len) + 2) * 8;
    let (headers, coded) = match code_rate {
        LrFhssCodeRate::OneThird => (3, bits * 3),
        LrFhssCodeRate::TwoThirds => (2, bits * 3 / 2),
    };
    Duration::from_micros(headers * 233_472 + coded * 1_000_000 / 488)
}

fn lora_airtime(
    spreading_factor: u8,
    bandwidth_hz: u32,
    code_rate: CodeRate,
    phy_len: u8,
    with_crc: bool,
) -> Duration {
    let sf = i64::from(spreading_factor);
    let bandwidth = u64::from(bandwidth_hz.max(1));
    // Symbols of 16 ms and more use the low data rate optimisation: two bits fewer each.
    let slow = (1_u64 << spreading_factor) * 1_000 >= 16 * bandwidth;
    let bits_per_symbol = 4 * (sf - if slow { 2 } else { 0 });
    // SF5 and SF6 have a longer sync word and no header of their own rate.
    let (header_bits, sync_quarters) = if sf < 7 { (20, 25) } else { (28, 17) };
    let crc_bits = if with_crc { 16 } else { 0 };
    let bits = 8 * i64::from(phy_len) + crc_bits - 4 * sf + header_bits;
    let blocks =
        u64::try_from(bits).unwrap_or(0).div_ceil(u64::try_from(bits_per_symbol).unwrap_or(1));
    let symbols_per_block = match code_rate {
        CodeRate::Cr45 => 5,
        CodeRate::Cr46 => 6,
        CodeRate::Cr47 => 7,
        CodeRate::Cr48 => 8,
    };
    let symbols = LORA_PREAMBLE_SYMBOLS + 8 + blocks * symbols_per_block;
    let quarters = symbols * 4 + sync_quarters;
    let chips = quarters << spreading_factor;
    Duration::from_micros((chips * 1_000_000).div_ceil(4 * bandwidth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora(spreading_factor: u8, bandwidth_hz: u32) -> Modulation {
        Modulation::Lora { spreading_factor, bandwidth_hz, code_rate: CodeRate::Cr45 }
    }

    #[test]
    fn known_airtimes() {
        // Worked out by hand from the datasheet: explicit header, 8 symbols of preamble.
        let table = [
            (lora(7, 125_000), 13, true, 46_336),
            (lora(7, 125_000), 23, true, 61_696),
            (lora(12, 125_000), 13, true, 1_155_072),
            (lora(12, 125_000), 23, true, 1_482_752),
            (lora(12, 125_000), 23, false, 1_482_752),
            (lora(11, 125_000), 23, true, 823_296),
            (lora(10, 125_000), 23, true, 370_688),
            (lora(8, 500_000), 51, true, 46_208),
            (lora(12, 500_000), 33, true, 411_648),
        ];
        for (modulation, len, crc, micros) in table {
            let seen = airtime(modulation, len, crc);
            assert_eq!(seen, Duration::from_micros(micros), "{modulation:?}, {len} bytes");
        }
        let fsk = Modulation::Fsk { bitrate_bps: 50_000, deviation_hz: 25_000 };
        assert_eq!(airtime(fsk, 14, true), Duration::from_millis(4));
    }

    #[test]
    fn more_bytes_never_take_less_time() {
        for sf in 5..=12 {
            let mut last = Duration::ZERO;
            for len in 0..=255 {
                let next = airtime(lora(sf, 125_000), len, true);
                assert!(next >= last, "SF{sf}, {len} bytes");
                last = next;
            }
        }
    }
}
