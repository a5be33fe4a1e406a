//! Why the codec library refused a packet, as exactly as the metrics want it.
//!
//! Only walked when a packet is already refused, so it may take its time. Whatever it cannot name
//! is [`PacketError::Malformed`]. Source: MQTT 5.0 §1.5.4 (texts), §2.2.2 (properties), §3.

use crate::packet::{PacketKind, Version};
use crate::wire_properties::{self, WILL_PROPERTIES, allowed, block_bytes};
use crate::{PacketError, Qos};

/// Walks over fields of a packet's body.
pub(crate) struct Cursor<'a> {
    body: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `body`.
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { body, position: 0 }
    }

    /// Bytes walked so far.
    pub(crate) const fn position(&self) -> usize {
        self.position
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.body.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// A two-byte integer.
    pub(crate) fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A text or binary field behind its two-byte length.
    pub(crate) fn field(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.number()?);
        let field = self.body.get(self.position..self.position + length)?;
        self.position += length;
        Some(field)
    }

    fn skip(&mut self, bytes: usize) {
        self.position += bytes;
    }

    fn is_at_end(&self) -> bool {
        self.position >= self.body.len()
    }
}

/// The fault of a packet that the library refused.
pub(crate) fn fault(version: Version, kind: PacketKind, body: &[u8]) -> PacketError {
    let named = match kind {
        PacketKind::Connect => connect(version, body),
        PacketKind::Connack => properties(version, kind, body, 2),
        PacketKind::Subscribe | PacketKind::Unsubscribe => filters(version, kind, body),
        PacketKind::Suback | PacketKind::Unsuback => codes(version, kind, body),
        PacketKind::Puback | PacketKind::Pubrec | PacketKind::Pubrel | PacketKind::Pubcomp => {
            optional_properties(version, kind, body, 3)
        }
        PacketKind::Disconnect | PacketKind::Auth => optional_properties(version, kind, body, 1),
        PacketKind::Publish | PacketKind::Pingreq | PacketKind::Pingresp => None,
    };
    named.unwrap_or(PacketError::Malformed { kind })
}

fn properties(
    version: Version,
    kind: PacketKind,
    body: &[u8],
    offset: usize,
) -> Option<PacketError> {
    match version {
        Version::V311 => None,
        Version::V5 => wire_properties::fault(kind, body, offset, allowed(kind)),
    }
}

/// Properties that are left out together with their length when the packet ends before them.
fn optional_properties(
    version: Version,
    kind: PacketKind,
    body: &[u8],
    offset: usize,
) -> Option<PacketError> {
    if body.len() <= offset { None } else { properties(version, kind, body, offset) }
}

fn check_text(field: &[u8]) -> Option<PacketError> {
    core::str::from_utf8(field).err().map(|_| PacketError::Utf8)
}

fn block(version: Version, kind: PacketKind, body: &[u8], offset: usize) -> usize {
    match version {
        Version::V311 => 0,
        Version::V5 => block_bytes(kind, body, offset).unwrap_or(0),
    }
}

fn connect(version: Version, body: &[u8]) -> Option<PacketError> {
    let kind = PacketKind::Connect;
    if let Some(error) = properties(version, kind, body, 10) {
        return Some(error);
    }
    let flags = *body.get(7)?;
    let mut cursor = Cursor::new(body);
    cursor.skip(10 + block(version, kind, body, 10));
    if let Some(error) = check_text(cursor.field()?) {
        return Some(error);
    }
    if flags & 0b0100 != 0 {
        if version == Version::V5 {
            let at = cursor.position();
            if let Some(error) = wire_properties::fault(kind, body, at, WILL_PROPERTIES) {
                return Some(error);
            }
            cursor.skip(block(version, kind, body, at));
        }
        if let Some(error) = check_text(cursor.field()?) {
            return Some(error);
        }
        cursor.field()?;
    }
    if flags & 0b1000_0000 != 0 { check_text(cursor.field()?) } else { None }
}

/// The fault of a PUBLISH that the library refused, whose properties stand at `properties_at`.
pub(crate) fn publish_fault(version: Version, body: &[u8], properties_at: usize) -> PacketError {
    let kind = PacketKind::Publish;
    let topic = Cursor::new(body).field().and_then(check_text);
    topic
        .or_else(|| properties(version, kind, body, properties_at))
        .unwrap_or(PacketError::Malformed { kind })
}

fn filters(version: Version, kind: PacketKind, body: &[u8]) -> Option<PacketError> {
    if let Some(error) = properties(version, kind, body, 2) {
        return Some(error);
    }
    let mut cursor = Cursor::new(body);
    cursor.skip(2 + block(version, kind, body, 2));
    if cursor.is_at_end() {
        return Some(PacketError::NoFilter { kind });
    }
    while !cursor.is_at_end() {
        if let Some(error) = check_text(cursor.field()?) {
            return Some(error);
        }
        if kind == PacketKind::Subscribe {
            let options = cursor.byte()?;
            if Qos::from_u8(options & 0b11).is_none() {
                return Some(PacketError::Qos);
            }
            if options & 0b1100_0000 != 0 || options & 0b0011_0000 == 0b0011_0000 {
                return Some(PacketError::SubscribeOptions { options });
            }
        }
    }
    None
}

fn codes(version: Version, kind: PacketKind, body: &[u8]) -> Option<PacketError> {
    if let Some(error) = properties(version, kind, body, 2) {
        return Some(error);
    }
    let behind = 2 + block(version, kind, body, 2);
    (body.len() <= behind).then_some(PacketError::NoFilter { kind })
}
