//! The head of every datagram (version, token, type, gateway), and which body follows it.
//!
//! Byte 0 is the version, bytes 1-2 an opaque token, byte 3 the type, then upwards eight bytes of
//! gateway EUI. Source: PROTOCOL.TXT §3-§6 (packet_forwarder 4.0.1).

use lorawan::GatewayEui;
use sabotage::Bug;

use crate::semtech_push::PushData;
use crate::semtech_txack::TxReply;
use crate::semtech_txpk::{Txpk, TxpkError};

/// The largest UDP payload over IPv4, in bytes; a longer "datagram" is none.
pub const DATAGRAM_LEN_MAX: usize = 65_507;
/// Head of what a gateway sends, in bytes.
const UPWARD_HEAD_LEN: usize = 12;
/// Head of what a server sends, in bytes.
const DOWNWARD_HEAD_LEN: usize = 4;
/// Deeper brackets than this no forwarder writes (rxpk, rsig: five).
const NESTING_MAX: u32 = 16;

const PUSH_DATA: u8 = 0x00;
const PUSH_ACK: u8 = 0x01;
const PULL_DATA: u8 = 0x02;
const PULL_RESP: u8 = 0x03;
const PULL_ACK: u8 = 0x04;
const TX_ACK: u8 = 0x05;

/// Why a whole datagram is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Shorter than its head.
    #[error("{len} bytes are fewer than a head")]
    TooShort {
        /// Bytes seen.
        len: usize,
    },
    /// Longer than UDP can carry, or than its type may be.
    #[error("{len} bytes are too many")]
    TooLong {
        /// Bytes seen.
        len: usize,
    },
    /// Neither 1 nor 2.
    #[error("protocol version {0}")]
    Version(u8),
    /// A type that does not go this way.
    #[error("datagram type {0:#04x}")]
    Kind(u8),
    /// The EUI of nobody: all zero or all ones.
    #[error("gateway EUI {0}")]
    Eui(GatewayEui),
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    Utf8,
    /// The body begins with a byte order mark, which JSON forbids (RFC 8259 §8.1).
    #[error("the body begins with a byte order mark")]
    ByteOrderMark,
    /// Brackets deeper than any forwarder writes.
    #[error("the JSON is nested too deeply")]
    Nesting,
    /// Not JSON (`NaN` is not JSON either).
    #[error("not JSON: {0}")]
    Json(String),
    /// JSON, but a field of the outer object is missing, doubled or of the wrong type.
    #[error("not the expected object: {0}")]
    Shape(String),
    /// A PUSH_DATA with neither `rxpk` nor `stat`.
    #[error("neither rxpk nor stat")]
    Empty,
    /// A PULL_RESP whose `txpk` cannot be sent.
    #[error("txpk: {0}")]
    Txpk(#[from] TxpkError),
}

impl DatagramError {
    /// The label of this refusal in the metric that counts it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too_short",
            Self::TooLong { .. } => "too_long",
            Self::Version(_) => "version",
            Self::Kind(_) => "type",
            Self::Eui(_) => "gateway_eui",
            Self::Utf8 => "utf8",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Nesting => "nesting",
            Self::Json(_) => "json",
            Self::Shape(_) => "shape",
            Self::Empty => "empty",
            Self::Txpk(_) => "txpk",
        }
    }
}

/// The protocol version, byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 1: no TX_ACK exists.
    V1,
    /// Version 2, today's.
    V2,
}

impl Version {
    /// As byte 0.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, DatagramError> {
        match byte {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(DatagramError::Version(other)),
        }
    }
}

/// Who speaks, and the token to echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Protocol version, to be echoed.
    pub version: Version,
    /// Bytes 1-2, high byte first; opaque, to be echoed.
    pub token: u16,
    /// The gateway; never all zero nor all ones.
    pub gateway: GatewayEui,
}

/// Which type of datagram a gateway sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpwardKind {
    PushData,
    PullData,
    TxAck,
}

/// A datagram from a gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum Upward {
    /// Frames heard, statistics, or both.
    PushData(Head, PushData),
    /// "Downlinks for me come to this address."
    PullData(Head),
    /// What became of a PULL_RESP with the same token.
    TxAck(Head, TxReply),
}

/// A datagram from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downward {
    /// A PUSH_DATA with this token arrived.
    PushAck {
        /// The token echoed.
        token: u16,
    },
    /// A PULL_DATA with this token arrived.
    PullAck {
        /// The token echoed.
        token: u16,
    },
    /// A frame to send.
    PullResp {
        /// To be echoed in the TX_ACK.
        token: u16,
        /// The frame.
        txpk: Txpk,
    },
}

/// Which acknowledgement [`encode_ack`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// For a PUSH_DATA.
    Push,
    /// For a PULL_DATA.
    Pull,
}

/// Splits a gateway's datagram into its head and its body, without looking into the body.
pub(crate) fn split_upward(datagram: &[u8]) -> Result<(Head, UpwardKind, &[u8]), DatagramError> {
    let len = datagram.len();
    if len > DATAGRAM_LEN_MAX {
        return Err(DatagramError::TooLong { len });
    }
    let Some((head, body)) = datagram.split_first_chunk::<UPWARD_HEAD_LEN>() else {
        return Err(DatagramError::TooShort { len });
    };
    let [version, token_high, token_low, kind, eui @ ..] = *head;
    let version = Version::from_byte(version)?;
    let kind = match kind {
        PUSH_DATA => UpwardKind::PushData,
        PULL_DATA => UpwardKind::PullData,
        TX_ACK => UpwardKind::TxAck,
        other => return Err(DatagramError::Kind(other)),
    };
    if eui == [0; 8] || eui == [0xFF; 8] {
        return Err(DatagramError::Eui(GatewayEui::from_be_bytes(eui)));
    }
    if kind == UpwardKind::PullData && !body.is_empty() {
        return Err(DatagramError::TooLong { len });
    }
    let token = u16::from_be_bytes([token_high, token_low]);
    Ok((Head { version, token, gateway: GatewayEui::from_be_bytes(eui) }, kind, body))
}

/// Reads one datagram of a gateway.
///
/// * Errors: why nothing of it can be used. A frame of a PUSH_DATA that is bad alone is listed in
///   [`PushData::refused`], beside the good ones.
pub fn parse_upward(datagram: &[u8]) -> Result<Upward, DatagramError> {
    let (head, kind, body) = split_upward(datagram)?;
    Ok(match kind {
        UpwardKind::PushData => Upward::PushData(head, PushData::parse(body)?),
        UpwardKind::PullData => Upward::PullData(head),
        UpwardKind::TxAck => Upward::TxAck(head, TxReply::parse(body)?),
    })
}

/// Reads one datagram of a server, as a forwarder does.
pub fn parse_downward(datagram: &[u8]) -> Result<Downward, DatagramError> {
    let len = datagram.len();
    if len > DATAGRAM_LEN_MAX {
        return Err(DatagramError::TooLong { len });
    }
    let Some((head, body)) = datagram.split_first_chunk::<DOWNWARD_HEAD_LEN>() else {
        return Err(DatagramError::TooShort { len });
    };
    let [version, token_high, token_low, kind] = *head;
    Version::from_byte(version)?;
    let token = u16::from_be_bytes([token_high, token_low]);
    match kind {
        PUSH_ACK if body.is_empty() => Ok(Downward::PushAck { token }),
        PULL_ACK if body.is_empty() => Ok(Downward::PullAck { token }),
        PUSH_ACK | PULL_ACK => Err(DatagramError::TooLong { len }),
        PULL_RESP => Ok(Downward::PullResp { token, txpk: Txpk::parse(body)? }),
        other => Err(DatagramError::Kind(other)),
    }
}

/// The four bytes that acknowledge a PUSH_DATA or a PULL_DATA.
pub fn encode_ack(kind: AckKind, version: Version, token: u16) -> [u8; 4] {
    let kind = match kind {
        AckKind::Push => PUSH_ACK,
        AckKind::Pull => PULL_ACK,
    };
    downward_head(version, token, kind)
}

/// The twelve bytes of a PULL_DATA.
pub fn encode_pull_data(head: Head) -> Vec<u8> {
    upward_head(head, PULL_DATA)
}

pub(crate) fn push_data_head(head: Head) -> Vec<u8> {
    upward_head(head, PUSH_DATA)
}

pub(crate) fn tx_ack_head(head: Head) -> Vec<u8> {
    upward_head(head, TX_ACK)
}

pub(crate) fn pull_resp_head(version: Version, token: u16) -> [u8; 4] {
    downward_head(version, token, PULL_RESP)
}

fn downward_head(version: Version, token: u16, kind: u8) -> [u8; 4] {
    let [high, low] = token.to_be_bytes();
    [version.to_byte(), high, low, kind]
}

fn upward_head(head: Head, kind: u8) -> Vec<u8> {
    let mut bytes = downward_head(head.version, head.token, kind).to_vec();
    bytes.extend_from_slice(&head.gateway.to_be_bytes());
    bytes
}

/// The body as text that is safe to hand to the JSON parser.
pub(crate) fn json_text(body: &[u8]) -> Result<&str, DatagramError> {
    if sabotage::planted(Bug::PanicOnInput) {
        return Ok(core::str::from_utf8(body).expect("JSON is UTF-8"));
    }
    let text = core::str::from_utf8(body).map_err(|_| DatagramError::Utf8)?;
    // Some forwarders send the C string's terminator along.
    let text = text.trim_end_matches('\0');
    if text.starts_with('\u{FEFF}') {
        return Err(DatagramError::ByteOrderMark);
    }
    if nesting(text) > NESTING_MAX {
        return Err(DatagramError::Nesting);
    }
    Ok(text)
}

/// How deep the brackets outside strings go.
fn nesting(text: &str) -> u32 {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_u32, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads an object; serde would take an array of the fields' values for it as well.
pub(crate) fn from_object<'a, T: serde::Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    let first = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if first.starts_with('[') {
        return Err(serde::de::Error::custom("an array where an object is expected"));
    }
    serde_json::from_str(text)
}

/// What serde_json found wrong, as bad syntax or as the wrong shape.
pub(crate) fn json_error(error: &serde_json::Error) -> DatagramError {
    let text = short(error);
    if error.is_data() { DatagramError::Shape(text) } else { DatagramError::Json(text) }
}

/// An error's text, cut to what a log line or a screen can bear: it may quote the sender.
pub(crate) fn short(error: &serde_json::Error) -> String {
    const TEXT_LEN_MAX: usize = 120;
    error.to_string().chars().take(TEXT_LEN_MAX).collect()
}
