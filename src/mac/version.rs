//! LoRaWAN versions: how people and the field's API write them, and what they change.

use core::fmt;
use core::str::FromStr;

use crate::MacVersion;

/// No such version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a LoRaWAN version: 1.0.0, 1.0.1, 1.0.2, 1.0.3, 1.0.4 or 1.1.0")]
pub struct ParseVersionError(pub String);

impl MacVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 6] =
        [Self::V1_0_0, Self::V1_0_1, Self::V1_0_2, Self::V1_0_3, Self::V1_0_4, Self::V1_1_0];

    /// As people write it: `1.0.2`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_0_0 => "1.0.0",
            Self::V1_0_1 => "1.0.1",
            Self::V1_0_2 => "1.0.2",
            Self::V1_0_3 => "1.0.3",
            Self::V1_0_4 => "1.0.4",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// As the field's API names it: `LORAWAN_1_0_2`.
    #[must_use]
    pub const fn api_name(self) -> &'static str {
        match self {
            Self::V1_0_0 => "LORAWAN_1_0_0",
            Self::V1_0_1 => "LORAWAN_1_0_1",
            Self::V1_0_2 => "LORAWAN_1_0_2",
            Self::V1_0_3 => "LORAWAN_1_0_3",
            Self::V1_0_4 => "LORAWAN_1_0_4",
            Self::V1_1_0 => "LORAWAN_1_1_0",
        }
    }

    /// Whether frames use the formulas of 1.1: four keys, two downlink counters.
    #[must_use]
    pub const fn is_1_1(self) -> bool {
        matches!(self, Self::V1_1_0)
    }

    /// The largest step of the uplink counter, where there is one: MAX_FCNT_GAP, below 1.0.4 only.
    #[must_use]
    pub fn f_cnt_gap_max(self) -> Option<u32> {
        (self < Self::V1_0_4).then_some(lorawan::MAX_FCNT_GAP)
    }

    /// Whether a DevNonce must be above the last one (1.0.4, 1.1), not merely new.
    #[must_use]
    pub fn dev_nonce_rises(self) -> bool {
        self >= Self::V1_0_4
    }

    /// Whether 0xF in a LinkADRReq means "keep data rate and power".
    #[must_use]
    pub fn link_adr_keeps(self) -> bool {
        self >= Self::V1_0_4
    }

    /// Whether the devices know a CFList of channel masks (type 1).
    #[must_use]
    pub fn knows_mask_list(self) -> bool {
        self >= Self::V1_0_3
    }
}

impl fmt::Display for MacVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MacVersion {
    type Err = ParseVersionError;

    /// Either form; `1.1` stands for `1.1.0`.
    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let text = text.trim();
        let named = Self::ALL
            .into_iter()
            .find(|version| text == version.as_str() || text == version.api_name());
        let short = (text == "1.1").then_some(Self::V1_1_0);
        named
            .or(short)
            .ok_or_else(|| ParseVersionError(text.chars().take(ECHO_CHARS_MAX).collect()))
    }
}

/// How much of a wrong text an error repeats.
const ECHO_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_every_version_read_back() {
        for version in MacVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
            assert_eq!(version.api_name().parse(), Ok(version));
        }
        assert_eq!("1.1".parse(), Ok(MacVersion::V1_1_0));
        for wrong in ["", "1.0", "1.0.5", "LORAWAN_1_0_5", "lorawan"] {
            assert_eq!(wrong.parse::<MacVersion>(), Err(ParseVersionError(wrong.into())));
        }
    }

    #[test]
    fn the_gap_limit_ends_with_1_0_3() {
        assert_eq!(MacVersion::V1_0_3.f_cnt_gap_max(), Some(16_384));
        assert_eq!(MacVersion::V1_0_4.f_cnt_gap_max(), None);
        assert_eq!(MacVersion::V1_1_0.f_cnt_gap_max(), None);
    }
}
