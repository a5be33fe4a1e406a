//! The two primitives beneath every LoRaWAN secret: AES-128 and AES-CMAC, and the counter blocks
//! that data frames build from them. Nothing here knows a frame's layout.
//!
//! Source: LoRaWAN 1.0.4 §4.3.3 and §4.4, LoRaWAN 1.1 §4.3.1.6, §4.3.3, §4.4, RFC 4493.

use core::fmt;

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit as _};
use aes::{Aes128Dec, Aes128Enc};
use cmac::digest::InnerInit as _;
use cmac::{Cmac, Mac as _};

use crate::{DevAddr, Key};

/// The message integrity code at the end of a frame, as the air carries it.
pub type Mic = [u8; 4];

const BLOCK: usize = 16;

/// Which way a data frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

impl Direction {
    const fn bit(self) -> u8 {
        match self {
            Self::Up => 0,
            Self::Down => 1,
        }
    }
}

/// An AES-128 key made ready for use: keep it where one key serves many frames.
///
/// Never printed; its round keys are wiped when it goes. About 180 bytes.
#[derive(Clone)]
pub struct Aes(Aes128Enc);

impl Aes {
    /// Expands `key`.
    pub fn new(key: &Key) -> Self {
        Self(Aes128Enc::new(&Array::from(*key.expose())))
    }

    /// One block through the cipher.
    pub fn encrypt_block(&self, block: [u8; BLOCK]) -> [u8; BLOCK] {
        let mut block = Array::from(block);
        self.0.encrypt_block(&mut block);
        block.into()
    }

    /// AES-CMAC over `parts` as if they were one message (RFC 4493).
    pub fn cmac(&self, parts: &[&[u8]]) -> [u8; BLOCK] {
        let mut mac = Cmac::<&Aes128Enc>::inner_init(&self.0);
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The first four bytes of [`Self::cmac`].
    pub fn mic(&self, parts: &[&[u8]]) -> Mic {
        let [a, b, c, d, ..] = self.cmac(parts);
        [a, b, c, d]
    }

    /// Encrypts `blocks` in place, each on its own: how a device opens a join-accept.
    ///
    /// Bytes after the last whole block stay as they are.
    pub(crate) fn encrypt_blocks(&self, blocks: &mut [u8]) {
        for chunk in blocks.as_chunks_mut::<BLOCK>().0 {
            *chunk = self.encrypt_block(*chunk);
        }
    }
}

impl fmt::Debug for Aes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aes(..)")
    }
}

impl From<&Key> for Aes {
    fn from(key: &Key) -> Self {
        Self::new(key)
    }
}

/// Decrypts `blocks` in place, each on its own: how a server closes a join-accept, so that a device
/// needs no decryption circuit (LoRaWAN 1.0.4 §6.2.6).
pub(crate) fn decrypt_blocks(key: &Key, blocks: &mut [u8]) {
    let cipher = Aes128Dec::new(&Array::from(*key.expose()));
    for chunk in blocks.as_chunks_mut::<BLOCK>().0 {
        let mut block = Array::from(*chunk);
        cipher.decrypt_block(&mut block);
        *chunk = block.into();
    }
}

/// Compares two codes without telling by time where they differ.
pub fn mic_eq(a: Mic, b: Mic) -> bool {
    a.iter().zip(b).fold(0, |differences, (x, y)| differences | (x ^ y)) == 0
}

/// The block that opens a data frame's MIC or cipher: a tag, four bytes of its own, then who speaks
/// and how often.
fn data_block(
    tag: u8,
    own: [u8; 4],
    direction: Direction,
    dev_addr: DevAddr,
    fcnt: u32,
    last: u8,
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[0] = tag;
    block[1..5].copy_from_slice(&own);
    block[5] = direction.bit();
    block[6..10].copy_from_slice(&dev_addr.to_le_bytes());
    block[10..14].copy_from_slice(&fcnt.to_le_bytes());
    block[15] = last;
    block
}

fn length_byte(message: &[u8]) -> u8 {
    u8::try_from(message.len()).unwrap_or(u8::MAX)
}

/// What a 1.1 MIC binds besides the frame itself; all zero for 1.0.x, which ignores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MicContext {
    /// Low 16 bits of the counter of the confirmed frame that this one acknowledges. Used only when
    /// the ACK bit of this frame is set.
    pub conf_fcnt: u16,
    /// Data rate index of the uplink; unused down.
    pub tx_dr: u8,
    /// Channel index of the uplink in the device's list; unused down.
    pub tx_ch: u8,
}

/// The MIC of a 1.0.x data frame, either way.
///
/// * `message`: MHDR up to, not including, the MIC; at most 251 bytes.
/// * Source: LoRaWAN 1.0.4 §4.4.
pub fn mic_1_0(
    nwk_s_key: &Aes,
    direction: Direction,
    dev_addr: DevAddr,
    fcnt: u32,
    message: &[u8],
) -> Mic {
    let b0 = data_block(0x49, [0; 4], direction, dev_addr, fcnt, length_byte(message));
    nwk_s_key.mic(&[&b0, message])
}

/// The MIC of a 1.1 uplink: half under SNwkSIntKey, half under FNwkSIntKey.
///
/// * `context.conf_fcnt` must be 0 unless the ACK bit is set.
/// * Source: LoRaWAN 1.1 §4.4.2.
pub fn uplink_mic_1_1(
    f_nwk_s_int_key: &Aes,
    s_nwk_s_int_key: &Aes,
    dev_addr: DevAddr,
    fcnt: u32,
    context: MicContext,
    message: &[u8],
) -> Mic {
    let [conf_low, conf_high] = context.conf_fcnt.to_le_bytes();
    let own = [conf_low, conf_high, context.tx_dr, context.tx_ch];
    let b1 = data_block(0x49, own, Direction::Up, dev_addr, fcnt, length_byte(message));
    let serving = s_nwk_s_int_key.mic(&[&b1, message]);
    let forwarding = mic_1_0(f_nwk_s_int_key, Direction::Up, dev_addr, fcnt, message);
    [serving[0], serving[1], forwarding[0], forwarding[1]]
}

/// The MIC of a 1.1 downlink.
///
/// * `conf_fcnt` must be 0 unless the ACK bit is set.
/// * Source: LoRaWAN 1.1 §4.4.1.
pub fn downlink_mic_1_1(
    s_nwk_s_int_key: &Aes,
    dev_addr: DevAddr,
    fcnt: u32,
    conf_fcnt: u16,
    message: &[u8],
) -> Mic {
    let [conf_low, conf_high] = conf_fcnt.to_le_bytes();
    let own = [conf_low, conf_high, 0, 0];
    let b0 = data_block(0x49, own, Direction::Down, dev_addr, fcnt, length_byte(message));
    s_nwk_s_int_key.mic(&[&b0, message])
}

/// Encrypts or decrypts a FRMPayload in place; the same operation both ways.
///
/// * `key`: AppSKey, or for FPort 0 NwkSKey (1.0.x) or NwkSEncKey (1.1).
/// * Source: LoRaWAN 1.0.4 §4.3.3.
pub fn apply_payload_cipher(
    key: &Aes,
    direction: Direction,
    dev_addr: DevAddr,
    fcnt: u32,
    payload: &mut [u8],
) {
    for (chunk, number) in payload.chunks_mut(BLOCK).zip(1_u8..) {
        let stream = key.encrypt_block(data_block(0x01, [0; 4], direction, dev_addr, fcnt, number));
        xor(chunk, &stream);
    }
}

/// Which 1.1 counter numbers a frame: it enters the FOpts cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FCntKind {
    /// FCntUp, or NFCntDown of a downlink without FPort or with FPort 0.
    Network,
    /// AFCntDown of a downlink with FPort 1 or more.
    Application,
}

/// Encrypts or decrypts the FOpts of a 1.1 frame in place; the same operation both ways.
///
/// * `f_opts`: at most 15 bytes.
/// * Source: LoRaWAN 1.1 §4.3.1.6 with the errata "FOpts Encryption, Usage of FCntDwn".
pub fn apply_f_opts_cipher(
    nwk_s_enc_key: &Aes,
    kind: FCntKind,
    direction: Direction,
    dev_addr: DevAddr,
    fcnt: u32,
    f_opts: &mut [u8],
) {
    let kind_byte = match kind {
        FCntKind::Network => 0x01,
        FCntKind::Application => 0x02,
    };
    let block = data_block(0x01, [0, 0, 0, kind_byte], direction, dev_addr, fcnt, 0x01);
    xor(f_opts, &nwk_s_enc_key.encrypt_block(block));
}

fn xor(bytes: &mut [u8], stream: &[u8; BLOCK]) {
    for (byte, pad) in bytes.iter_mut().zip(stream) {
        *byte ^= pad;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aes(text: &str) -> Aes {
        Aes::new(&text.parse().unwrap())
    }

    #[test]
    fn cmac_agrees_with_rfc_4493() {
        let key = aes("2b7e151628aed2a6abf7158809cf4f3c");
        assert_eq!(key.mic(&[]), [0xbb, 0x1d, 0x69, 0x29]);
        let block: [u8; 16] =
            "6bc1bee22e409f96e93d7e117393172a".parse::<Key>().unwrap().expose().to_owned();
        assert_eq!(key.mic(&[&block]), [0x07, 0x0a, 0x16, 0xb4]);
        assert_eq!(key.mic(&[&block[..7], &block[7..]]), key.mic(&[&block]));
    }

    #[test]
    fn blocks_decrypt_what_they_encrypt() {
        let key: Key = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
        let mut bytes = *b"two whole blocks, and then some more";
        decrypt_blocks(&key, &mut bytes);
        assert_ne!(&bytes[..32], b"two whole blocks, and then some ");
        assert_eq!(&bytes[32..], b"more", "a torn block is left alone");
        Aes::new(&key).encrypt_blocks(&mut bytes);
        assert_eq!(&bytes, b"two whole blocks, and then some more");
    }

    #[test]
    fn an_expanded_key_never_prints() {
        assert_eq!(format!("{:?}", aes("000102030405060708090a0b0c0d0e0f")), "Aes(..)");
    }

    #[test]
    fn the_longest_payload_is_ciphered_to_its_end() {
        let key = aes("000102030405060708090a0b0c0d0e0f");
        let mut payload = [0; 242];
        apply_payload_cipher(&key, Direction::Up, DevAddr::from_u32(1), 7, &mut payload);
        assert!(payload.chunks(16).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
        apply_payload_cipher(&key, Direction::Up, DevAddr::from_u32(1), 7, &mut payload);
        assert_eq!(payload, [0; 242]);
    }

    #[test]
    fn codes_differ_in_any_byte() {
        assert!(mic_eq([1, 2, 3, 4], [1, 2, 3, 4]));
        for at in 0..4 {
            let mut other = [1, 2, 3, 4];
            other[at] ^= 0x80;
            assert!(!mic_eq([1, 2, 3, 4], other), "byte {at}");
        }
    }
}
