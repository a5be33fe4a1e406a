//! The PHYPayload: what arrives on the air, told apart and bounded once. After [`Frame::parse`]
//! every accessor is infallible; nothing is authenticated or deciphered yet.
//!
//! RFU bits are ignored on reading and zero on writing. Source: LoRaWAN 1.0.4 §4, 1.1 §4.

use crate::crypto::{Aes, Mic, mic_eq};
use crate::data::DataFrame;
use crate::join::{EncryptedJoinAccept, JoinRequest};
use crate::rejoin::RejoinRequest;

/// Longest PHYPayload: what a LoRa radio's length byte can say.
pub const PHY_PAYLOAD_LEN_MAX: usize = 255;

pub(crate) const MIC_LEN: usize = 4;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No byte at all.
    #[error("the frame is empty")]
    Empty,
    /// Longer than any radio can send.
    #[error("{seen} bytes, more than {PHY_PAYLOAD_LEN_MAX}")]
    TooLong {
        /// Bytes given.
        seen: usize,
    },
    /// The major version is not LoRaWAN R1.
    #[error("major version {seen}, only 0 is LoRaWAN R1")]
    Major {
        /// The two bits.
        seen: u8,
    },
    /// A length this kind of frame cannot have.
    #[error("{seen} bytes cannot be a {mtype:?}")]
    Length {
        /// The kind of frame.
        mtype: MType,
        /// Bytes given.
        seen: usize,
    },
    /// FOptsLen reaches past the end of the frame.
    #[error("FOptsLen {wanted} where {left} bytes are left")]
    FOptsLen {
        /// What FCtrl says.
        wanted: usize,
        /// Bytes between FHDR and MIC.
        left: usize,
    },
    /// MAC commands in FOpts and in the payload of FPort 0 at once.
    #[error("FPort 0 together with FOpts")]
    FOptsWithPortZero,
    /// A rejoin type other than 0, 1 and 2.
    #[error("rejoin type {seen} is not known")]
    RejoinType {
        /// The byte.
        seen: u8,
    },
}

/// The message type: the three top bits of MHDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MType {
    /// 0, up.
    JoinRequest,
    /// 1, down.
    JoinAccept,
    /// 2.
    UnconfirmedDataUp,
    /// 3.
    UnconfirmedDataDown,
    /// 4.
    ConfirmedDataUp,
    /// 5.
    ConfirmedDataDown,
    /// 6, up, 1.1 only.
    RejoinRequest,
    /// 7, either way.
    Proprietary,
}

impl MType {
    /// From the byte MHDR.
    pub const fn from_mhdr(mhdr: u8) -> Self {
        match mhdr >> 5 {
            0 => Self::JoinRequest,
            1 => Self::JoinAccept,
            2 => Self::UnconfirmedDataUp,
            3 => Self::UnconfirmedDataDown,
            4 => Self::ConfirmedDataUp,
            5 => Self::ConfirmedDataDown,
            6 => Self::RejoinRequest,
            _ => Self::Proprietary,
        }
    }

    /// The byte MHDR with major version LoRaWAN R1.
    pub const fn to_mhdr(self) -> u8 {
        (self as u8) << 5
    }
}

/// One frame, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A device asks to be activated.
    JoinRequest(Signed<'a, JoinRequest>),
    /// The answer, still enciphered.
    JoinAccept(EncryptedJoinAccept<'a>),
    /// Data up or down.
    Data(DataFrame<'a>),
    /// An activated 1.1 device makes itself known again.
    Rejoin(Signed<'a, RejoinRequest>),
    /// Everything after MHDR of a frame outside the standard; it has no MIC.
    Proprietary(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Tells a frame apart and checks its shape.
    ///
    /// * Errors: [`ParseError`]; never panics, whatever the bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some((mhdr, rest)) = bytes.split_first() else { return Err(ParseError::Empty) };
        if bytes.len() > PHY_PAYLOAD_LEN_MAX {
            return Err(ParseError::TooLong { seen: bytes.len() });
        }
        if mhdr & 0b11 != 0 {
            return Err(ParseError::Major { seen: mhdr & 0b11 });
        }
        match MType::from_mhdr(*mhdr) {
            MType::JoinRequest => JoinRequest::parse(bytes).map(Self::JoinRequest),
            MType::JoinAccept => EncryptedJoinAccept::parse(bytes).map(Self::JoinAccept),
            MType::UnconfirmedDataUp
            | MType::UnconfirmedDataDown
            | MType::ConfirmedDataUp
            | MType::ConfirmedDataDown => DataFrame::parse(bytes).map(Self::Data),
            MType::RejoinRequest => RejoinRequest::parse(bytes).map(Self::Rejoin),
            MType::Proprietary => Ok(Self::Proprietary(rest)),
        }
    }

    /// What kind of frame it is.
    pub fn mtype(&self) -> MType {
        match self {
            Self::JoinRequest(_) => MType::JoinRequest,
            Self::JoinAccept(_) => MType::JoinAccept,
            Self::Data(data) => data.mtype(),
            Self::Rejoin(_) => MType::RejoinRequest,
            Self::Proprietary(_) => MType::Proprietary,
        }
    }
}

/// Fields in the clear with a MIC under one key: join- and rejoin-requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a, T> {
    /// What the frame says, not authenticated until [`Self::verify`].
    pub fields: T,
    message: &'a [u8],
    mic: Mic,
}

impl<'a, T> Signed<'a, T> {
    pub(crate) const fn new(fields: T, message: &'a [u8], mic: Mic) -> Self {
        Self { fields, message, mic }
    }

    /// The MIC the frame carries.
    pub const fn mic(&self) -> Mic {
        self.mic
    }

    /// Whether the frame was made with `key`: NwkKey for a join-request (AppKey up to 1.0.x),
    /// SNwkSIntKey for a rejoin-request 0 or 2, JSIntKey for a rejoin-request 1.
    pub fn verify(&self, key: &Aes) -> bool {
        mic_eq(self.mic, key.mic(&[self.message]))
    }
}

/// A proprietary frame around `payload`.
///
/// * Errors: [`EncodeError::TooLong`] past 254 bytes of payload.
pub fn encode_proprietary(payload: &[u8]) -> Result<Vec<u8>, EncodeError> {
    if payload.len() >= PHY_PAYLOAD_LEN_MAX {
        return Err(EncodeError::TooLong { wanted: payload.len() + 1 });
    }
    let mut bytes = Vec::with_capacity(payload.len() + 1);
    bytes.push(MType::Proprietary.to_mhdr());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Why a frame cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than any radio can send.
    #[error("{wanted} bytes, more than {PHY_PAYLOAD_LEN_MAX}")]
    TooLong {
        /// Bytes the frame would have.
        wanted: usize,
    },
    /// More MAC commands than FOpts can hold.
    #[error("{seen} bytes of FOpts, more than 15")]
    FOptsTooLong {
        /// Bytes given.
        seen: usize,
    },
    /// MAC commands in FOpts and in the payload of FPort 0 at once.
    #[error("FPort 0 together with FOpts")]
    FOptsWithPortZero,
    /// A payload needs a port.
    #[error("a payload without FPort")]
    PayloadWithoutPort,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mhdr_at_every_length_is_judged_without_panic() {
        let mut parsed = [0_u32; 8];
        for mhdr in 0..=255_u8 {
            for len in 1..=257_usize {
                for fill in [0x00, 0x5A, 0xFF] {
                    let mut bytes = vec![fill; len];
                    bytes[0] = mhdr;
                    let seen = Frame::parse(&bytes);
                    if mhdr & 0b11 != 0 || len > PHY_PAYLOAD_LEN_MAX {
                        assert!(seen.is_err(), "{mhdr:02x} at {len}");
                    } else if let Ok(frame) = seen {
                        assert_eq!(frame.mtype(), MType::from_mhdr(mhdr));
                        parsed[usize::from(mhdr >> 5)] += 1;
                    }
                }
            }
        }
        // Eight MHDR values (RFU bits) lead to each type; fills that name no rejoin type fail.
        assert_eq!(parsed[0], 8 * 3, "join-request has one length");
        assert_eq!(parsed[1], 8 * 3 * 2, "join-accept has two");
        assert_eq!(parsed[6], 8, "a rejoin-request of zeros is type 0");
        assert_eq!(parsed[7], 8 * 3 * 255, "a proprietary frame has any");
        assert!(parsed[2..6].iter().all(|count| *count > 8 * 244), "{parsed:?}");
    }

    #[test]
    fn hostile_bytes_are_refused_by_name() {
        use MType::{JoinAccept, JoinRequest, RejoinRequest, UnconfirmedDataUp};
        let data = |len: usize, fctrl: u8, port: u8| {
            let mut bytes = vec![0x40; len];
            bytes[5] = fctrl;
            bytes.iter_mut().skip(8).for_each(|byte| *byte = port);
            bytes
        };
        let with = |first: u8, second: u8, len: usize| {
            let mut bytes = vec![first; len];
            bytes[1] = second;
            bytes
        };
        let table: &[(&str, Vec<u8>, ParseError)] = &[
            ("empty", vec![], ParseError::Empty),
            ("one byte", vec![0x40], ParseError::Length { mtype: UnconfirmedDataUp, seen: 1 }),
            (
                "shortest - 1",
                vec![0x40; 11],
                ParseError::Length { mtype: UnconfirmedDataUp, seen: 11 },
            ),
            ("longest + 1", vec![0xE0; 256], ParseError::TooLong { seen: 256 }),
            ("a datagram", vec![0xE0; 65_507], ParseError::TooLong { seen: 65_507 }),
            ("major 1", vec![0x41; 12], ParseError::Major { seen: 1 }),
            ("major 3", vec![0xFF; 12], ParseError::Major { seen: 3 }),
            ("join-request - 1", vec![0; 22], ParseError::Length { mtype: JoinRequest, seen: 22 }),
            ("join-request + 1", vec![0; 24], ParseError::Length { mtype: JoinRequest, seen: 24 }),
            ("join-accept", vec![0x20; 16], ParseError::Length { mtype: JoinAccept, seen: 16 }),
            ("join-accept", vec![0x20; 32], ParseError::Length { mtype: JoinAccept, seen: 32 }),
            ("join-accept", vec![0x20; 34], ParseError::Length { mtype: JoinAccept, seen: 34 }),
            ("rejoin type 3", with(0xC0, 3, 19), ParseError::RejoinType { seen: 3 }),
            ("rejoin 0", with(0xC0, 0, 24), ParseError::Length { mtype: RejoinRequest, seen: 24 }),
            ("rejoin 1", with(0xC0, 1, 19), ParseError::Length { mtype: RejoinRequest, seen: 19 }),
            ("rejoin 2", with(0xC0, 2, 18), ParseError::Length { mtype: RejoinRequest, seen: 18 }),
            ("rejoin bare", vec![0xC0], ParseError::Length { mtype: RejoinRequest, seen: 1 }),
            (
                "FOptsLen past the end",
                data(12, 0x01, 9),
                ParseError::FOptsLen { wanted: 1, left: 0 },
            ),
            (
                "FOptsLen past the end",
                data(26, 0x0F, 9),
                ParseError::FOptsLen { wanted: 15, left: 14 },
            ),
            ("FPort 0 with FOpts", data(14, 0x01, 0), ParseError::FOptsWithPortZero),
        ];
        for (name, bytes, error) in table {
            assert_eq!(Frame::parse(bytes), Err(*error), "{name}");
        }
    }

    #[test]
    fn a_proprietary_frame_is_what_follows_mhdr() {
        let bytes = encode_proprietary(&[1, 2, 3]).unwrap();
        assert_eq!(bytes, [0xE0, 1, 2, 3]);
        assert_eq!(Frame::parse(&bytes), Ok(Frame::Proprietary(&[1, 2, 3])));
        assert_eq!(Frame::parse(&[0xE0]), Ok(Frame::Proprietary(&[])));
        assert!(encode_proprietary(&[0; 254]).is_ok());
        assert_eq!(encode_proprietary(&[0; 255]), Err(EncodeError::TooLong { wanted: 256 }));
    }
}
