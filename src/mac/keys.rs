//! The keys of a session as one secret, to be sealed and opened together.
//!
//! Up to 1.0.4 the three network keys are one, so they are written once; the length alone tells the
//! four forms apart.

use lorawan::{Key, SessionCiphers};

use crate::{MacVersion, SessionKeys};

const KEY_LEN: usize = 16;

/// The bytes are not the keys of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{seen} bytes are not the keys of a session")]
pub struct KeysLengthError {
    /// Bytes given.
    pub seen: usize,
}

impl SessionKeys {
    /// The keys of a 1.0.x session.
    #[must_use]
    pub fn v1_0(nwk_s_key: Key, app_s_key: Option<Key>) -> Self {
        Self {
            f_nwk_s_int: nwk_s_key.clone(),
            s_nwk_s_int: nwk_s_key.clone(),
            nwk_s_enc: nwk_s_key,
            app_s: app_s_key,
        }
    }

    /// The secret to seal: 16 bytes NwkSKey (1.0.x) or 48 bytes FNwkSIntKey, SNwkSIntKey,
    /// NwkSEncKey (1.1), then 16 bytes AppSKey if it is known here.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 * KEY_LEN);
        bytes.extend_from_slice(self.f_nwk_s_int.expose());
        if !self.is_v1_0() {
            bytes.extend_from_slice(self.s_nwk_s_int.expose());
            bytes.extend_from_slice(self.nwk_s_enc.expose());
        }
        if let Some(key) = &self.app_s {
            bytes.extend_from_slice(key.expose());
        }
        bytes
    }

    /// The keys from an opened secret.
    ///
    /// * Errors: [`KeysLengthError`] unless there are 16, 32, 48 or 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysLengthError> {
        let (keys, []) = bytes.as_chunks::<KEY_LEN>() else {
            return Err(KeysLengthError { seen: bytes.len() });
        };
        let key = |bytes: &[u8; KEY_LEN]| Key::from_bytes(*bytes);
        match keys {
            [nwk] => Ok(Self::v1_0(key(nwk), None)),
            [nwk, app] => Ok(Self::v1_0(key(nwk), Some(key(app)))),
            [f, s, enc, rest @ ..] if rest.len() <= 1 => Ok(Self {
                f_nwk_s_int: key(f),
                s_nwk_s_int: key(s),
                nwk_s_enc: key(enc),
                app_s: rest.first().map(key),
            }),
            _ => Err(KeysLengthError { seen: bytes.len() }),
        }
    }

    /// Whether the three network keys are one, as up to 1.0.4.
    #[must_use]
    pub fn is_v1_0(&self) -> bool {
        self.f_nwk_s_int == self.s_nwk_s_int && self.f_nwk_s_int == self.nwk_s_enc
    }

    /// The AppSKey, or zeros where a join server keeps it: payloads then pass through as they are.
    pub(crate) fn app_s_or_blank(&self) -> Key {
        self.app_s.clone().unwrap_or(Key::from_bytes([0; KEY_LEN]))
    }

    /// The keys made ready for frames of `version`. Without an AppSKey application payloads must
    /// not be deciphered or enciphered with the result.
    #[must_use]
    pub fn ciphers(&self, version: MacVersion) -> SessionCiphers {
        let app_s_key = self.app_s_or_blank();
        let keys = if version.is_1_1() {
            lorawan::SessionKeys::V1_1 {
                f_nwk_s_int_key: self.f_nwk_s_int.clone(),
                s_nwk_s_int_key: self.s_nwk_s_int.clone(),
                nwk_s_enc_key: self.nwk_s_enc.clone(),
                app_s_key,
            }
        } else {
            lorawan::SessionKeys::V1_0 { nwk_s_key: self.f_nwk_s_int.clone(), app_s_key }
        };
        SessionCiphers::new(&keys)
    }
}

impl From<lorawan::SessionKeys> for SessionKeys {
    fn from(keys: lorawan::SessionKeys) -> Self {
        match keys {
            lorawan::SessionKeys::V1_0 { nwk_s_key, app_s_key } => {
                Self::v1_0(nwk_s_key, Some(app_s_key))
            }
            lorawan::SessionKeys::V1_1 {
                f_nwk_s_int_key,
                s_nwk_s_int_key,
                nwk_s_enc_key,
                app_s_key,
            } => Self {
                f_nwk_s_int: f_nwk_s_int_key,
                s_nwk_s_int: s_nwk_s_int_key,
                nwk_s_enc: nwk_s_enc_key,
                app_s: Some(app_s_key),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> Key {
        Key::from_bytes([fill; KEY_LEN])
    }

    #[test]
    fn the_four_forms_return_as_they_were() {
        let v1_1 = |app_s| SessionKeys {
            f_nwk_s_int: key(1),
            s_nwk_s_int: key(2),
            nwk_s_enc: key(3),
            app_s,
        };
        for (keys, len) in [
            (SessionKeys::v1_0(key(1), None), 16),
            (SessionKeys::v1_0(key(1), Some(key(4))), 32),
            (v1_1(None), 48),
            (v1_1(Some(key(4))), 64),
        ] {
            let bytes = keys.to_bytes();
            assert_eq!(bytes.len(), len);
            assert_eq!(SessionKeys::from_bytes(&bytes), Ok(keys));
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for seen in [0, 1, 15, 17, 31, 33, 63, 65, 80, 96] {
            let refused = SessionKeys::from_bytes(&vec![7; seen]);
            assert_eq!(refused, Err(KeysLengthError { seen }), "{seen}");
        }
    }
}
