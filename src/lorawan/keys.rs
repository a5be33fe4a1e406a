//! AES-128 keys: never printed, wiped when dropped.

use core::fmt;
use core::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::{ParseIdError, parse_hex};

/// An AES-128 key. `Debug` and `Display` never show it; its memory is wiped when it goes.
///
/// Text form for input: 32 hexadecimal digits, separators allowed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 16]);

impl Key {
    /// A key from its bytes, in the order people write them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret itself: for ciphers and for sealing, never for a log line.
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Key {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_prints() {
        let key: Key = "000102030405060708090A0B0C0D0E0F".parse().unwrap();
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(key.expose()[15], 0x0F);
        assert!("0001".parse::<Key>().is_err());
    }
}
