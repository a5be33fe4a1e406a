//! Frequencies in 24 bits, as MAC commands and the CFList carry them.

/// From here on the unit is 200 Hz: no sub-gigahertz plan reaches 1.2 GHz, and the 2.4 GHz plan
/// starts at 2.4 GHz.
const ISM2400_FROM: u32 = 12_000_000;
const ISM2400_FROM_HZ: u32 = 2_400_000_000;

/// Hertz from 24 bits in units of 100 Hz; of 200 Hz for the 2.4 GHz plan.
pub(crate) fn freq_from_bytes([low, mid, high]: [u8; 3]) -> u32 {
    let value = u32::from_le_bytes([low, mid, high, 0]);
    if value >= ISM2400_FROM { value * 200 } else { value * 100 }
}

/// 24 bits from hertz, rounded down to the unit; what cannot be said becomes the nearest that can.
pub(crate) fn freq_to_bytes(freq_hz: u32) -> [u8; 3] {
    let value = if freq_hz >= ISM2400_FROM_HZ {
        (freq_hz / 200).min(0x00FF_FFFF)
    } else {
        (freq_hz / 100).min(ISM2400_FROM - 1)
    };
    let [low, mid, high, _] = value.to_le_bytes();
    [low, mid, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_units_round_trip() {
        for freq_hz in
            [0, 100, 868_100_000, 923_300_000, 1_199_999_900, 2_400_000_000, 2_479_000_000]
        {
            assert_eq!(freq_from_bytes(freq_to_bytes(freq_hz)), freq_hz);
        }
        assert_eq!(freq_to_bytes(868_100_000), [0x28, 0x76, 0x84]);
    }

    #[test]
    fn what_cannot_be_said_is_clamped() {
        assert_eq!(freq_from_bytes(freq_to_bytes(1_700_000_000)), 1_199_999_900);
        assert_eq!(freq_from_bytes(freq_to_bytes(u32::MAX)), 0x00FF_FFFF * 200);
    }
}
