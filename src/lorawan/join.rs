//! Activation over the air: join-request and join-accept, both versions.
//!
//! Source: LoRaWAN 1.0.4 §6.2, 1.1 §6.2; CFList: RP002-1.0.4 §2.

use crate::crypto::{Aes, Mic, decrypt_blocks, mic_eq};
use crate::frame::{MIC_LEN, MType, ParseError, Signed};
use crate::freq::{freq_from_bytes, freq_to_bytes};
use crate::{DevAddr, DevEui, DevNonce, JoinEui, JoinNonce, Key, NetId};

/// Channels a CFList of type 0 can add.
pub const CF_LIST_FREQUENCIES: usize = 5;
/// Masks of sixteen channels a CFList of type 1 can carry.
pub const CF_LIST_MASKS: usize = 6;

const SHORT_LEN: usize = 12;
const LONG_LEN: usize = SHORT_LEN + CF_LIST_LEN;
const CF_LIST_LEN: usize = 16;

/// What a join-request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// The join server (AppEUI up to 1.0.3).
    pub join_eui: JoinEui,
    /// Who asks.
    pub dev_eui: DevEui,
    /// Never used twice.
    pub dev_nonce: DevNonce,
}

impl JoinRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Signed<'_, Self>, ParseError> {
        let length = ParseError::Length { mtype: MType::JoinRequest, seen: bytes.len() };
        let (message, mic) = bytes.split_last_chunk::<MIC_LEN>().ok_or(length)?;
        let fields = Self::parse_body(message.get(1..).ok_or(length)?).ok_or(length)?;
        Ok(Signed::new(fields, message, *mic))
    }

    fn parse_body(body: &[u8]) -> Option<Self> {
        let (join_eui, body) = body.split_first_chunk()?;
        let (dev_eui, body) = body.split_first_chunk()?;
        Some(Self {
            join_eui: JoinEui::from_le_bytes(*join_eui),
            dev_eui: DevEui::from_le_bytes(*dev_eui),
            dev_nonce: DevNonce(u16::from_le_bytes(body.try_into().ok()?)),
        })
    }

    /// The PHYPayload, 23 bytes.
    ///
    /// * `key`: NwkKey, which is the AppKey of 1.0.x.
    pub fn encode(&self, key: &Aes) -> Vec<u8> {
        let mut bytes = vec![MType::JoinRequest.to_mhdr()];
        bytes.extend_from_slice(&self.join_eui.to_le_bytes());
        bytes.extend_from_slice(&self.dev_eui.to_le_bytes());
        bytes.extend_from_slice(&self.dev_nonce.0.to_le_bytes());
        let mic = key.mic(&[&bytes]);
        bytes.extend_from_slice(&mic);
        bytes
    }
}

/// What a join-accept answers: it enters the 1.1 MIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JoinReqType {
    /// A join-request, 0xFF.
    Join,
    /// A rejoin-request of type 0.
    Rejoin0,
    /// A rejoin-request of type 1.
    Rejoin1,
    /// A rejoin-request of type 2.
    Rejoin2,
}

impl JoinReqType {
    /// As the MIC block carries it.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Join => 0xFF,
            Self::Rejoin0 => 0,
            Self::Rejoin1 => 1,
            Self::Rejoin2 => 2,
        }
    }

    /// From the byte of the MIC block, if there is such a type.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0xFF => Some(Self::Join),
            0 => Some(Self::Rejoin0),
            1 => Some(Self::Rejoin1),
            2 => Some(Self::Rejoin2),
            _ => None,
        }
    }
}

/// The request that a 1.1 join-accept answers, as far as its MIC binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinContext {
    /// What kind of request.
    pub join_req_type: JoinReqType,
    /// The join server.
    pub join_eui: JoinEui,
    /// The nonce of the request; RJcount0 or RJcount1 for a rejoin.
    pub dev_nonce: DevNonce,
}

impl JoinContext {
    /// The bytes before MHDR in a 1.1 MIC.
    fn prefix(&self) -> [u8; 11] {
        let mut prefix = [0; 11];
        prefix[0] = self.join_req_type.to_byte();
        prefix[1..9].copy_from_slice(&self.join_eui.to_le_bytes());
        prefix[9..].copy_from_slice(&self.dev_nonce.0.to_le_bytes());
        prefix
    }
}

/// Channels handed out with a join-accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfList {
    /// Type 0, dynamic plans: frequencies in hertz after the default channels; 0 leaves a place
    /// empty.
    Frequencies([u32; CF_LIST_FREQUENCIES]),
    /// Type 1, fixed plans: which channels are on, sixteen a mask, channel 0 in bit 0 of the first.
    ChannelMasks([u16; CF_LIST_MASKS]),
}

impl CfList {
    fn parse(bytes: &[u8; CF_LIST_LEN]) -> Result<Self, JoinAcceptError> {
        let [body @ .., kind] = bytes;
        match kind {
            0 => {
                let mut frequencies = [0; CF_LIST_FREQUENCIES];
                for (freq, chunk) in frequencies.iter_mut().zip(body.as_chunks::<3>().0) {
                    *freq = freq_from_bytes(*chunk);
                }
                Ok(Self::Frequencies(frequencies))
            }
            1 => {
                let mut masks = [0; CF_LIST_MASKS];
                for (mask, chunk) in masks.iter_mut().zip(body.as_chunks::<2>().0) {
                    *mask = u16::from_le_bytes(*chunk);
                }
                Ok(Self::ChannelMasks(masks))
            }
            seen => Err(JoinAcceptError::CfListType { seen: *seen }),
        }
    }

    pub(crate) fn encode(&self) -> [u8; CF_LIST_LEN] {
        let mut bytes = [0; CF_LIST_LEN];
        match self {
            Self::Frequencies(frequencies) => {
                for (chunk, freq) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(frequencies) {
                    *chunk = freq_to_bytes(*freq);
                }
            }
            Self::ChannelMasks(masks) => {
                for (chunk, mask) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(masks) {
                    *chunk = mask.to_le_bytes();
                }
                bytes[CF_LIST_LEN - 1] = 1;
            }
        }
        bytes
    }
}

/// What a join-accept grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinAccept {
    /// AppNonce up to 1.0.3; 24 bits.
    pub join_nonce: JoinNonce,
    /// The network.
    pub net_id: NetId,
    /// The session's address.
    pub dev_addr: DevAddr,
    /// The network speaks 1.1 and derives 1.1 keys; RFU in 1.0.x.
    pub opt_neg: bool,
    /// 0..=7.
    pub rx1_dr_offset: u8,
    /// 0..=15.
    pub rx2_dr: u8,
    /// Seconds from the end of an uplink to RX1, 0..=15; 0 means 1.
    pub rx_delay: u8,
    /// More channels, or which.
    pub cf_list: Option<CfList>,
}

/// Why a deciphered join-accept makes no sense: most likely it was meant for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinAcceptError {
    /// A CFList type other than 0 and 1.
    #[error("CFList type {seen} is not known")]
    CfListType {
        /// The byte.
        seen: u8,
    },
}

impl JoinAccept {
    /// The PHYPayload for a 1.0.x device: 17 bytes, or 33 with a CFList.
    ///
    /// * `key`: AppKey (NwkKey of a 1.1 device that is answered as 1.0.x).
    pub fn encode_1_0(&self, key: &Key) -> Vec<u8> {
        let mut bytes = self.encode_unsigned();
        let mic = Aes::new(key).mic(&[&bytes]);
        bytes.extend_from_slice(&mic);
        decrypt_blocks(key, &mut bytes[1..]);
        bytes
    }

    /// The PHYPayload for a 1.1 device: 17 bytes, or 33 with a CFList.
    ///
    /// * `js_int_key`: for the MIC. `enc_key`: NwkKey for a join-request, JSEncKey for a rejoin.
    pub fn encode_1_1(&self, js_int_key: &Key, enc_key: &Key, context: &JoinContext) -> Vec<u8> {
        let mut bytes = self.encode_unsigned();
        let mic = Aes::new(js_int_key).mic(&[&context.prefix(), &bytes]);
        bytes.extend_from_slice(&mic);
        decrypt_blocks(enc_key, &mut bytes[1..]);
        bytes
    }

    fn encode_unsigned(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + LONG_LEN + MIC_LEN);
        bytes.push(MType::JoinAccept.to_mhdr());
        bytes.extend_from_slice(&self.join_nonce.0.to_le_bytes()[..3]);
        bytes.extend_from_slice(&self.net_id.to_le_bytes());
        bytes.extend_from_slice(&self.dev_addr.to_le_bytes());
        bytes.push(
            u8::from(self.opt_neg) << 7 | (self.rx1_dr_offset & 0x07) << 4 | self.rx2_dr & 0x0F,
        );
        bytes.push(self.rx_delay & 0x0F);
        if let Some(cf_list) = &self.cf_list {
            bytes.extend_from_slice(&cf_list.encode());
        }
        bytes
    }

    fn parse(plain: &[u8]) -> Result<Self, JoinAcceptError> {
        let mut fixed = [0; SHORT_LEN];
        for (to, from) in fixed.iter_mut().zip(plain) {
            *to = *from;
        }
        let [j0, j1, j2, n0, n1, n2, a0, a1, a2, a3, settings, delay] = fixed;
        let cf_list = match plain.get(SHORT_LEN..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => Some(CfList::parse(bytes)?),
            None => None,
        };
        Ok(Self {
            join_nonce: JoinNonce(u32::from_le_bytes([j0, j1, j2, 0])),
            net_id: NetId::from_le_bytes([n0, n1, n2]),
            dev_addr: DevAddr::from_le_bytes([a0, a1, a2, a3]),
            opt_neg: settings & 0x80 != 0,
            rx1_dr_offset: settings >> 4 & 0x07,
            rx2_dr: settings & 0x0F,
            rx_delay: delay & 0x0F,
            cf_list,
        })
    }
}

/// A join-accept as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedJoinAccept<'a> {
    bytes: &'a [u8],
}

impl<'a> EncryptedJoinAccept<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        match bytes.len().checked_sub(1 + MIC_LEN) {
            Some(SHORT_LEN | LONG_LEN) => Ok(Self { bytes }),
            _ => Err(ParseError::Length { mtype: MType::JoinAccept, seen: bytes.len() }),
        }
    }

    /// Deciphers it. A wrong key shows only in the MIC.
    ///
    /// * `key`: NwkKey (AppKey of 1.0.x) after a join-request, JSEncKey after a rejoin-request.
    pub fn decrypt(&self, key: &Aes) -> DecryptedJoinAccept {
        let mut bytes = [0; 1 + LONG_LEN + MIC_LEN];
        let len = self.bytes.len().min(bytes.len());
        bytes[..len].copy_from_slice(&self.bytes[..len]);
        key.encrypt_blocks(&mut bytes[1..len]);
        DecryptedJoinAccept { bytes, len }
    }
}

/// A join-accept in the clear, not yet authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecryptedJoinAccept {
    bytes: [u8; 1 + LONG_LEN + MIC_LEN],
    len: usize,
}

impl DecryptedJoinAccept {
    /// MHDR up to the MIC.
    fn message(&self) -> &[u8] {
        &self.bytes[..self.len - MIC_LEN]
    }

    /// Everything between MHDR and MIC in the clear: 12 or 28 bytes.
    pub fn plain(&self) -> &[u8] {
        &self.message()[1..]
    }

    /// The MIC it carries.
    pub fn mic(&self) -> Mic {
        let mut mic = [0; MIC_LEN];
        mic.copy_from_slice(&self.bytes[self.len - MIC_LEN..self.len]);
        mic
    }

    /// Whether it was made with `key`: AppKey of 1.0.x.
    pub fn verify_1_0(&self, key: &Aes) -> bool {
        mic_eq(self.mic(), key.mic(&[self.message()]))
    }

    /// Whether it was made with `js_int_key` in answer to `context`.
    pub fn verify_1_1(&self, js_int_key: &Aes, context: &JoinContext) -> bool {
        mic_eq(self.mic(), js_int_key.mic(&[&context.prefix(), self.message()]))
    }

    /// What it grants; believe it after `verify_1_0` or `verify_1_1`, which of them `opt_neg` says.
    ///
    /// * Errors: [`JoinAcceptError`], when the CFList has no known type.
    pub fn fields(&self) -> Result<JoinAccept, JoinAcceptError> {
        JoinAccept::parse(self.plain())
    }
}
