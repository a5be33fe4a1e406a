//! Why bytes are no packet, and why a packet cannot be written: one variant, one metric.
//!
//! A peer's mistake costs it the connection; [`PacketError::reason`] is what it is told.
//! Source: MQTT 5.0 §4.13 (handling errors), §2.4 (reason codes).

use crate::{PacketKind, ReasonCode, TopicError};

/// Why received bytes are not an acceptable packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The fixed header's remaining length has a fifth byte or is longer than it need be.
    #[error("the remaining length is not a variable byte integer of at most four bytes")]
    RemainingLength,
    /// Told to be longer than what is taken; nothing was reserved for it.
    #[error("a packet of {told} bytes is above the limit of {limit}")]
    TooLarge {
        /// Bytes with the fixed header, as told.
        told: u64,
        /// What is taken.
        limit: u32,
    },
    /// Packet type 0, or AUTH in 3.1.1.
    #[error("packet type {kind} is reserved")]
    ReservedType {
        /// The upper four bits.
        kind: u8,
    },
    /// The lower four bits of the fixed header are not those of the type.
    #[error("{kind:?} with flags {flags:#06b}")]
    ReservedFlags {
        /// The packet's kind.
        kind: PacketKind,
        /// The lower four bits.
        flags: u8,
    },
    /// Something else before CONNECT.
    #[error("{kind:?} before CONNECT")]
    NotConnected {
        /// What came.
        kind: PacketKind,
    },
    /// The protocol name is not `MQTT`.
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    /// MQTT, but neither level 4 nor level 5.
    #[error("protocol level {level} is not served")]
    ProtocolLevel {
        /// The level told: 3 is MQTT 3.1.
        level: u8,
    },
    /// Reserved bit set, will QoS 3, or will details without a will.
    #[error("connect flags {flags:#010b}")]
    ConnectFlags {
        /// The flags.
        flags: u8,
    },
    /// QoS 3, in a PUBLISH or asked for in a SUBSCRIBE.
    #[error("QoS 3")]
    Qos,
    /// DUP in a QoS 0 PUBLISH.
    #[error("a QoS 0 message is marked as a duplicate")]
    DupAtQos0,
    /// Packet id 0.
    #[error("packet id 0")]
    PacketIdZero,
    /// The topic name is none.
    #[error("topic name: {0}")]
    Topic(TopicError),
    /// A topic alias; we never offer any.
    #[error("topic alias that was not offered")]
    TopicAlias,
    /// U+0000 in a text.
    #[error("a text has the character U+0000")]
    Nul,
    /// A text that is no UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A property twice that may be there once.
    #[error("property {id} given twice")]
    PropertyTwice {
        /// Its identifier.
        id: u8,
    },
    /// A property that this packet does not have.
    #[error("property {id} in {kind:?}")]
    PropertyMisplaced {
        /// Its identifier.
        id: u8,
        /// The packet's kind.
        kind: PacketKind,
    },
    /// A property with a value outside its range, or of no known identifier.
    #[error("a property is malformed")]
    Property,
    /// Properties that do not fit into [`crate::MAX_PROPERTY_BYTES`].
    #[error("properties of {told} bytes")]
    PropertiesTooLong {
        /// Their length as told.
        told: u32,
    },
    /// Reserved bits in subscription options, or options of 5.0 in 3.1.1.
    #[error("subscription options {options:#010b}")]
    SubscribeOptions {
        /// The options.
        options: u8,
    },
    /// A SUBSCRIBE, UNSUBSCRIBE or SUBACK about nothing.
    #[error("{kind:?} without a filter")]
    NoFilter {
        /// The packet's kind.
        kind: PacketKind,
    },
    /// Bytes left over behind the packet's end, or a length written longer than it need be.
    #[error("{kind:?} with bytes left over")]
    LeftOver {
        /// The packet's kind.
        kind: PacketKind,
    },
    /// Anything else: cut short, or a code that is reserved.
    #[error("{kind:?} is malformed")]
    Malformed {
        /// The packet's kind.
        kind: PacketKind,
    },
}

impl PacketError {
    /// What the peer is told in CONNACK or DISCONNECT.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::TooLarge { .. } | Self::PropertiesTooLong { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolLevel { .. } => {
                ReasonCode::UnsupportedProtocolVersion
            }
            Self::Topic(_) => ReasonCode::TopicNameInvalid,
            Self::TopicAlias => ReasonCode::TopicAliasInvalid,
            Self::NotConnected { .. }
            | Self::PacketIdZero
            | Self::PropertyTwice { .. }
            | Self::PropertyMisplaced { .. }
            | Self::Property
            | Self::NoFilter { .. } => ReasonCode::ProtocolError,
            Self::RemainingLength
            | Self::ReservedType { .. }
            | Self::ReservedFlags { .. }
            | Self::ConnectFlags { .. }
            | Self::Qos
            | Self::DupAtQos0
            | Self::Nul
            | Self::Utf8
            | Self::SubscribeOptions { .. }
            | Self::LeftOver { .. }
            | Self::Malformed { .. } => ReasonCode::MalformedPacket,
        }
    }

    /// Name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RemainingLength => "remaining_length",
            Self::TooLarge { .. } => "too_large",
            Self::ReservedType { .. } => "reserved_type",
            Self::ReservedFlags { .. } => "reserved_flags",
            Self::NotConnected { .. } => "not_connected",
            Self::ProtocolName => "protocol_name",
            Self::ProtocolLevel { .. } => "protocol_level",
            Self::ConnectFlags { .. } => "connect_flags",
            Self::Qos => "qos_3",
            Self::DupAtQos0 => "dup_at_qos_0",
            Self::PacketIdZero => "packet_id_zero",
            Self::Topic(error) => error.name(),
            Self::TopicAlias => "topic_alias",
            Self::Nul => "nul",
            Self::Utf8 => "utf8",
            Self::PropertyTwice { .. } => "property_twice",
            Self::PropertyMisplaced { .. } => "property_misplaced",
            Self::Property => "property",
            Self::PropertiesTooLong { .. } => "properties_too_long",
            Self::SubscribeOptions { .. } => "subscribe_options",
            Self::NoFilter { .. } => "no_filter",
            Self::LeftOver { .. } => "left_over",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// Why a packet of ours cannot be written. A mistake of the caller, never of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text or binary field above 65,535 bytes, a text with U+0000, or an empty list.
    #[error("{kind:?} has a field that cannot be written")]
    Field {
        /// The packet's kind.
        kind: PacketKind,
    },
    /// A reason code that this packet does not have.
    #[error("{kind:?} cannot carry {reason:?}")]
    Reason {
        /// The packet's kind.
        kind: PacketKind,
        /// The code.
        reason: ReasonCode,
    },
    /// A packet that this version does not have, or a CONNECT that speaks another one.
    #[error("{kind:?} is not in this version")]
    Version {
        /// The packet's kind.
        kind: PacketKind,
    },
    /// Above what the protocol can frame.
    #[error("a packet of up to {bytes} bytes cannot be framed")]
    TooLarge {
        /// An upper bound of its size.
        bytes: usize,
    },
}

/// Why a session cannot take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// An acknowledgement of nothing that is under way.
    #[error("packet id {packet_id} is not under way")]
    UnknownPacketId {
        /// The packet id.
        packet_id: crate::PacketId,
    },
    /// More QoS 2 packet ids than the session remembers.
    #[error("{limit} QoS 2 messages wait for PUBREL")]
    TooManyAwaitingRel {
        /// The limit.
        limit: usize,
    },
    /// A kept state in which a packet id stands for two messages.
    #[error("packet id {packet_id} stands for two messages")]
    PacketIdTwice {
        /// The packet id.
        packet_id: crate::PacketId,
    },
}
