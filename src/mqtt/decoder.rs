//! Framing: from a stream of bytes to packets, one direction of one connection.
//!
//! Feed bytes as they come and take packets until there is none. A length that is only told
//! reserves nothing: it is compared with the limit as soon as its bytes are there, and the buffer
//! grows by received bytes alone. Source: MQTT 5.0 §2.1 (fixed header), §1.5.5 (lengths).

use bytes::{Buf, BytesMut};

use crate::{Packet, PacketError, PacketKind, Version, wire_in};

/// Largest CONNECT that a server reads, in bytes with its fixed header.
pub const MAX_CONNECT_BYTES: u32 = 16 * 1024;
/// Largest packet other than PUBLISH, in bytes with its fixed header.
pub const MAX_CONTROL_BYTES: u32 = 64 * 1024;
/// Longest property block, in bytes.
pub const MAX_PROPERTY_BYTES: u32 = 64 * 1024;
/// Memory that a decoder keeps while it has nothing to hold, in bytes.
const IDLE_BYTES: usize = 1024;
/// What a fixed header can tell at most, in bytes.
pub(crate) const MAX_REMAINING_BYTES: u32 = 268_435_455;

/// Cuts packets out of a stream of bytes. After an error it repeats that error for ever.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    /// The most that `buffer` has held since it was made.
    held_bytes: usize,
    version: Option<Version>,
    max_packet_bytes: u32,
    failed: Option<PacketError>,
}

/// The fixed header of a packet.
#[derive(Clone, Copy)]
struct Header {
    kind: PacketKind,
    flags: u8,
    header_bytes: usize,
    body_bytes: u32,
}

impl Decoder {
    /// A server's: nothing but CONNECT is taken, up to [`MAX_CONNECT_BYTES`], until one has told
    /// the version; then PUBLISH up to `max_packet_bytes` and all else up to
    /// [`MAX_CONTROL_BYTES`].
    pub fn server(max_packet_bytes: u32) -> Self {
        Self::new(None, max_packet_bytes)
    }

    /// A client's, which knows the version because it chose it.
    pub fn client(version: Version, max_packet_bytes: u32) -> Self {
        Self::new(Some(version), max_packet_bytes)
    }

    fn new(version: Option<Version>, max_packet_bytes: u32) -> Self {
        let buffer = BytesMut::new();
        Self { buffer, held_bytes: 0, version, max_packet_bytes, failed: None }
    }

    /// The version, once known.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Bytes held that are not yet a packet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Takes received bytes, whatever their borders.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
            self.held_bytes = self.held_bytes.max(self.buffer.len());
        }
    }

    /// The next packet; `None`: feed more.
    ///
    /// * Errors: [`PacketError`]; the stream has no further packet that could be trusted.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.cut();
        if let Err(error) = result {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
        }
        result
    }

    fn cut(&mut self) -> Result<Option<Packet>, PacketError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let whole = header.header_bytes + header.body_bytes as usize;
        let Some(body) = self.buffer.get(header.header_bytes..whole) else { return Ok(None) };
        let version = match self.version {
            Some(version) => version,
            None => wire_in::connect_version(body)?,
        };
        let packet = wire_in::decode(version, header.kind, header.flags, body)?;
        self.version = Some(version);
        self.buffer.advance(whole);
        if self.buffer.is_empty() && self.held_bytes > IDLE_BYTES {
            // A large packet's memory must not stay for the life of a silent connection.
            self.buffer = BytesMut::new();
            self.held_bytes = 0;
        }
        Ok(Some(packet))
    }

    fn header(&self) -> Result<Option<Header>, PacketError> {
        let Some(first) = self.buffer.first().copied() else { return Ok(None) };
        let (number, flags) = (first >> 4, first & 0x0F);
        let kind = PacketKind::from_u8(number).ok_or(PacketError::ReservedType { kind: number })?;
        self.check_kind(kind, flags)?;
        let Some((body_bytes, length_bytes)) = variable_byte_integer(&self.buffer[1..])? else {
            return Ok(None);
        };
        let limit = self.limit(kind);
        let header_bytes = 1 + length_bytes;
        let told = u64::from(body_bytes) + header_bytes as u64;
        if told > u64::from(limit) {
            return Err(PacketError::TooLarge { told, limit });
        }
        Ok(Some(Header { kind, flags, header_bytes, body_bytes }))
    }

    fn check_kind(&self, kind: PacketKind, flags: u8) -> Result<(), PacketError> {
        match self.version {
            None if kind != PacketKind::Connect => return Err(PacketError::NotConnected { kind }),
            Some(Version::V311) if kind == PacketKind::Auth => {
                return Err(PacketError::ReservedType { kind: kind as u8 });
            }
            None | Some(Version::V311 | Version::V5) => {}
        }
        let expected = match kind {
            PacketKind::Publish if flags & 0b0110 == 0b0110 => return Err(PacketError::Qos),
            PacketKind::Publish if flags & 0b1110 == 0b1000 => return Err(PacketError::DupAtQos0),
            PacketKind::Publish => return Ok(()),
            PacketKind::Pubrel | PacketKind::Subscribe | PacketKind::Unsubscribe => 0b0010,
            PacketKind::Connect
            | PacketKind::Connack
            | PacketKind::Puback
            | PacketKind::Pubrec
            | PacketKind::Pubcomp
            | PacketKind::Suback
            | PacketKind::Unsuback
            | PacketKind::Pingreq
            | PacketKind::Pingresp
            | PacketKind::Disconnect
            | PacketKind::Auth => 0,
        };
        if flags == expected { Ok(()) } else { Err(PacketError::ReservedFlags { kind, flags }) }
    }

    fn limit(&self, kind: PacketKind) -> u32 {
        let kinds = match (self.version, kind) {
            (None, _) => MAX_CONNECT_BYTES,
            (Some(_), PacketKind::Publish) => u32::MAX,
            (Some(_), _) => MAX_CONTROL_BYTES,
        };
        kinds.min(self.max_packet_bytes)
    }
}

/// Reads a variable byte integer: its value and its length in bytes; `None`: feed more.
pub(crate) fn variable_byte_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, PacketError> {
    let mut value = 0;
    for (position, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            // A trailing zero byte means that fewer would have done (§1.5.5).
            if position > 0 && *byte == 0 {
                return Err(PacketError::RemainingLength);
            }
            return Ok(Some((value, position + 1)));
        }
    }
    if bytes.len() >= 4 { Err(PacketError::RemainingLength) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_packets_memory_is_let_go() {
        for (payload, keeps) in [(100, true), (100_000, false)] {
            let mut decoder = Decoder::client(Version::V311, 1 << 20);
            let publish = crate::Publish::new("t".parse().unwrap(), vec![0; payload]);
            let mut bytes = BytesMut::new();
            crate::encode(Version::V311, &Packet::Publish(publish), &mut bytes).unwrap();
            decoder.feed(&bytes);
            assert!(decoder.next_packet().unwrap().is_some());
            assert_eq!(decoder.buffer.try_reclaim(payload), keeps);
        }
    }
}
