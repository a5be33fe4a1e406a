//! Identifiers, in the order people write them (most significant byte first); the wire reverses
//! them. Texts are accepted with dashes, colons or spaces, in either case, and printed as
//! lower-case hexadecimal without separators. Source: LoRaWAN 1.1 §6.1, TS2-1.1.0 §5.

use core::fmt;
use core::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest text worth looking at: 16 hexadecimal digits with a separator between any two.
const TEXT_LEN_MAX: usize = 48;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    /// A character that is neither a hexadecimal digit nor a separator.
    #[error("`{0}` is not a hexadecimal digit")]
    Digit(char),
    /// The wrong number of digits.
    #[error("{seen} hexadecimal digits where {wanted} are needed")]
    Length {
        /// Digits in the text.
        seen: usize,
        /// Digits of this identifier.
        wanted: usize,
    },
}

/// Reads `2 * N` hexadecimal digits, ignoring dashes, colons, spaces and a `0x` in front.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut bytes = [0; N];
    let mut seen = 0;
    if text.len() > TEXT_LEN_MAX.max(3 * N) {
        return Err(ParseIdError::Length { seen: text.len(), wanted: 2 * N });
    }
    for character in text.chars() {
        if matches!(character, '-' | ':' | ' ') {
            continue;
        }
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or(ParseIdError::Digit(character))?;
        if let Some(byte) = bytes.get_mut(seen / 2) {
            *byte = *byte << 4 | digit;
        }
        seen += 1;
    }
    if seen == 2 * N { Ok(bytes) } else { Err(ParseIdError::Length { seen, wanted: 2 * N }) }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// From bytes as people write them, most significant first.
            pub const fn from_be_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// From bytes as the air carries them, least significant first.
            pub fn from_le_bytes(mut bytes: [u8; $bytes]) -> Self {
                bytes.reverse();
                Self(bytes)
            }

            /// Bytes as people write them, most significant first.
            pub const fn to_be_bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// Bytes as the air carries them, least significant first.
            pub fn to_le_bytes(self) -> [u8; $bytes] {
                let mut bytes = self.0;
                bytes.reverse();
                bytes
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        /// A byte string, most significant byte first: the form of the replicated log.
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = decoder.bytes()?.try_into();
                bytes.map(Self).map_err(|_| minicbor::decode::Error::message(stringify!($name)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

identifier!(
    /// The EUI-64 of an end device.
    DevEui,
    8
);
identifier!(
    /// The EUI-64 of the join server a device names (AppEUI up to 1.0.3).
    JoinEui,
    8
);
identifier!(
    /// The EUI-64 of a gateway.
    GatewayEui,
    8
);
identifier!(
    /// The 32-bit address of a device in its network; not unique.
    DevAddr,
    4
);
identifier!(
    /// The 24-bit identifier of a network.
    NetId,
    3
);

impl DevEui {
    /// The same bytes in reverse order: what a device sends whose EUI was typed the wrong way
    /// round.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self(self.to_le_bytes())
    }
}

impl DevAddr {
    /// The address as a number.
    pub const fn to_u32(self) -> u32 {
        u32::from_be_bytes(self.0)
    }

    /// The address from a number.
    pub const fn from_u32(value: u32) -> Self {
        Self(value.to_be_bytes())
    }
}

/// The nonce of one join-request, 16 bits on the air.
///
/// Random up to 1.0.3, strictly increasing from 1.0.4 on (LoRaWAN 1.0.4 §6.2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct DevNonce(#[n(0)] pub u16);

/// The nonce of one join-accept, 24 bits on the air (AppNonce up to 1.0.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct JoinNonce(#[n(0)] pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_people_write_an_eui_reads_alike() {
        let eui = DevEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0x00, 0x12, 0x34]);
        let forms = [
            "70b3d57ed0001234",
            "70B3D57ED0001234",
            "70-B3-D5-7E-D0-00-12-34",
            "70:b3:d5:7e:d0:00:12:34",
            " 70 b3 d5 7e d0 00 12 34 ",
            "70b3d57e-d0001234",
        ];
        for form in forms {
            assert_eq!(form.parse(), Ok(eui), "{form}");
        }
        assert_eq!(eui.to_string(), "70b3d57ed0001234");
        assert_eq!(eui.reversed().to_string(), "341200d07ed5b370");
    }

    #[test]
    fn a_wrong_text_says_what_is_wrong() {
        assert_eq!("70b3".parse::<DevEui>(), Err(ParseIdError::Length { seen: 4, wanted: 16 }));
        assert_eq!("".parse::<DevEui>(), Err(ParseIdError::Length { seen: 0, wanted: 16 }));
        assert_eq!("70b3d57ed000123g".parse::<DevEui>(), Err(ParseIdError::Digit('g')));
        let long = "0".repeat(100_000);
        assert!(long.parse::<DevAddr>().is_err());
    }
}
