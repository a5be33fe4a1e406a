//! Identifiers of registry objects: UUIDs, drawn by the proposer.

use core::fmt;
use core::str::FromStr;

use minicbor::{Decode, Encode};

/// A UUID. Text form: 8-4-4-4-12 lower-case hexadecimal; dashes are optional on reading.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Id(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// Why a text is not a UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UUID like 1b4e28ba-2fa1-11d2-883f-0016d3cca427")]
pub struct ParseIdError(pub String);

impl Id {
    /// A version 4 UUID from random bytes. Source: RFC 9562 §5.4.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError(text.chars().take(48).collect());
        let mut bytes = [0; 16];
        let mut seen = 0;
        for character in text.chars().filter(|character| *character != '-') {
            let digit = character.to_digit(16).ok_or_else(error)?;
            let byte = bytes.get_mut(seen / 2).ok_or_else(error)?;
            *byte = *byte << 4 | u8::try_from(digit).map_err(|_| error())?;
            seen += 1;
        }
        if seen == 32 { Ok(Self(bytes)) } else { Err(error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_prints() {
        let text = "539f1aac-e912-41c5-b46c-46c5ea04ce46";
        let id: Id = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.replace('-', "").parse(), Ok(id));
        assert_eq!(Id::from_random([0xFF; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        for hostile in [
            "",
            "539f",
            "539f1aac-e912-41c5-b46c-46c5ea04ce460",
            "x39f1aace91241c5b46c46c5ea04ce46",
        ] {
            assert!(hostile.parse::<Id>().is_err(), "{hostile}");
        }
    }
}
