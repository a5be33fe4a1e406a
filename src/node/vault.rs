//! Seals keys before they enter the log and opens them where a frame needs them.
//!
//! XChaCha20-Poly1305 under one data key per cluster. The associated data names the purpose and the
//! device, so that a sealed key moved elsewhere does not open. Pure: the nonce is the caller's.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use lorawan::DevEui;
use mac::Sealed;
use sabotage::Bug;
use sha2::Sha256;
use zeroize::Zeroizing;

/// What the key of login tokens is derived for.
const LOGIN_PURPOSE: &[u8] = b"tern login token 1";

/// The data key at work.
pub struct Vault {
    key_id: u32,
    cipher: XChaCha20Poly1305,
    login_key: Zeroizing<[u8; 32]>,
}

impl core::fmt::Debug for Vault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Vault(key {})", self.key_id)
    }
}

impl Vault {
    /// A vault with the data key `key_id`.
    pub fn new(key_id: u32, key: &[u8; 32]) -> Self {
        let login_key = Zeroizing::new(hmac(key, LOGIN_PURPOSE).finalize().into_bytes().into());
        Self { key_id, cipher: XChaCha20Poly1305::new(key.into()), login_key }
    }

    /// HMAC-SHA256 of what a login token says.
    pub(crate) fn login_seal(&self, said: &[u8]) -> [u8; 32] {
        hmac(&self.login_key, said).finalize().into_bytes().into()
    }

    /// Whether a seal is the one of `said`; takes the same time for every wrong one.
    pub(crate) fn is_login_seal(&self, said: &[u8], seal: &[u8]) -> bool {
        hmac(&self.login_key, said).verify_slice(seal).is_ok()
    }

    /// Seals `secret` for the purpose `aad`.
    ///
    /// * `nonce`: drawn at random by the caller, never twice under one key.
    pub fn seal(&self, aad: &[u8], mut nonce: [u8; 24], secret: &[u8]) -> Sealed {
        if sabotage::planted(Bug::KeyInClear) {
            nonce.iter_mut().zip(secret).for_each(|(byte, of_key)| *byte = *of_key);
        }
        let bytes = self
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad })
            .expect("a key is far below the cipher's limit of 256 GiB");
        Sealed { key_id: self.key_id, nonce, bytes: bytes.into() }
    }

    /// Opens what was sealed for the same purpose; `None` if key, purpose or bytes differ.
    pub fn open(&self, aad: &[u8], sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        if sealed.key_id != self.key_id {
            return None;
        }
        let payload = Payload { msg: &sealed.bytes, aad };
        self.cipher.decrypt(&XNonce::from(sealed.nonce), payload).ok().map(Zeroizing::new)
    }
}

fn hmac(key: &[u8; 32], said: &[u8]) -> Hmac<Sha256> {
    let keyed = Hmac::<Sha256>::new_from_slice(key);
    keyed.expect("a key of any length does").chain_update(said)
}

/// The purpose of a device's root keys.
pub fn aad_root(dev_eui: DevEui) -> [u8; 13] {
    aad(b"root:", dev_eui)
}

/// The purpose of a device's session keys.
pub fn aad_session(dev_eui: DevEui) -> [u8; 13] {
    aad(b"sess:", dev_eui)
}

fn aad(purpose: &[u8; 5], dev_eui: DevEui) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..5].copy_from_slice(purpose);
    aad[5..].copy_from_slice(&dev_eui.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_for_its_device_and_purpose_alone() {
        let vault = Vault::new(1, &[7; 32]);
        let eui: DevEui = "70b3d57ed0001234".parse().unwrap();
        let sealed = vault.seal(&aad_root(eui), [9; 24], b"sixteen byte key");
        assert!(!sealed.bytes.windows(7).any(|w| w == b"sixteen"));
        assert_eq!(vault.open(&aad_root(eui), &sealed).unwrap().as_slice(), b"sixteen byte key");
        assert!(vault.open(&aad_session(eui), &sealed).is_none());
        assert!(vault.open(&aad_root(eui.reversed()), &sealed).is_none());
        assert!(Vault::new(1, &[8; 32]).open(&aad_root(eui), &sealed).is_none());
        assert!(Vault::new(2, &[7; 32]).open(&aad_root(eui), &sealed).is_none());
        let mut bent = sealed;
        bent.bytes[0] ^= 1;
        assert!(vault.open(&aad_root(eui), &bent).is_none());
    }
}
