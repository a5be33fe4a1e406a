//! What a connection is configured with, what it tells the broker, and why it ends.

use clock::Duration;

use crate::packet::{Ack, Connect, PacketId, PacketKind, Publish, Qos, SubscribeOptions};
use crate::{EncodeError, PacketError, ReasonCode, Subscription, TopicError};

/// Limits and offers of a server, the same for all of a listener's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// From the connection's begin until its CONNACK.
    pub connect_timeout: Duration,
    /// From a packet's first byte to its last.
    pub packet_timeout: Duration,
    /// Largest packet taken, in bytes with its fixed header; told in CONNACK.
    pub max_packet_bytes: u32,
    /// Bytes that may wait for a slow reader; beyond, the connection closes.
    pub max_out_bytes: usize,
    /// QoS 1 and 2 messages taken before they are acknowledged; told in CONNACK. A 3.1.1 client,
    /// which is not told, is not read further instead.
    pub receive_maximum: u16,
    /// Longest keep-alive, in seconds; a 5.0 client with a longer one or none is told this one.
    pub max_keep_alive_secs: Option<u16>,
    /// Highest QoS that a client may publish with.
    pub maximum_qos: Qos,
    /// Whether messages can be retained.
    pub retain_available: bool,
    /// Whether `$share/..` is served.
    pub shared_subscription_available: bool,
    /// Whether subscription identifiers are served.
    pub subscription_identifier_available: bool,
    /// Longest client id, in bytes.
    pub max_client_id_bytes: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(60),
            max_packet_bytes: 1024 * 1024,
            max_out_bytes: 4 * 1024 * 1024,
            receive_maximum: 100,
            max_keep_alive_secs: None,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            shared_subscription_available: true,
            subscription_identifier_available: true,
            max_client_id_bytes: 256,
        }
    }
}

/// What the broker is told, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client wants in: answer with `accept` or `refuse`. Nothing else comes before that.
    Connect(Box<Connect>),
    /// A message. QoS 1: send PUBACK when it is safe; QoS 2: PUBREC.
    Publish(Publish),
    /// The client has a QoS 1 message.
    Puback(Ack),
    /// The client has a QoS 2 message, or refuses it.
    Pubrec(Ack),
    /// The client gives a QoS 2 packet id free: send PUBCOMP.
    Pubrel(Ack),
    /// The client is done with a QoS 2 message.
    Pubcomp(Ack),
    /// Send SUBACK with one reason for each request.
    Subscribe(SubscribeEvent),
    /// Send UNSUBACK with one reason for each filter.
    Unsubscribe {
        /// Of the UNSUBACK to come.
        packet_id: PacketId,
        /// What is no longer wanted, in order.
        filters: Vec<Result<Subscription, TopicError>>,
    },
    /// The end; nothing comes after it. Write what `poll_transmit` still has, then close.
    Closed(Closed),
}

/// A SUBSCRIBE whose filters are parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeEvent {
    /// Of the SUBACK to come.
    pub packet_id: PacketId,
    /// What is asked for, in order. Answer a wrong one with [`TopicError::suback_reason`].
    pub requests: Vec<(Result<Subscription, TopicError>, SubscribeOptions)>,
    /// Identifier that matching messages shall carry.
    pub subscription_id: Option<u32>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub cause: CloseCause,
    /// Whether a will, if any, is to be published (after its delay). Never before `accept`.
    pub publish_will: bool,
    /// A new session expiry in seconds that the client gave when it left.
    pub session_expiry_secs: Option<u32>,
}

/// Why a connection ended. Each is a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseCause {
    /// DISCONNECT.
    #[error("the client left with {reason:?}")]
    ClientLeft {
        /// What it said.
        reason: ReasonCode,
    },
    /// The stream ended without DISCONNECT.
    #[error("the stream ended")]
    StreamEnded,
    /// No CONNECT in time.
    #[error("no CONNECT in time")]
    ConnectTimeout,
    /// The broker did not accept or refuse in time.
    #[error("no decision about CONNECT in time")]
    VerdictTimeout,
    /// A packet that was begun did not end in time.
    #[error("a packet did not end in time")]
    PacketTimeout,
    /// No packet within one and a half keep-alives.
    #[error("nothing heard within one and a half keep-alives")]
    KeepAlive,
    /// Bytes that are no acceptable packet.
    #[error("{0}")]
    Packet(PacketError),
    /// CONNECT again.
    #[error("a second CONNECT")]
    SecondConnect,
    /// A packet that clients do not send.
    #[error("{kind:?} from a client")]
    Unexpected {
        /// Its kind.
        kind: PacketKind,
    },
    /// A subscription identifier in a client's PUBLISH, or one that is not served.
    #[error("a subscription identifier where none may be")]
    SubscriptionId,
    /// More unacknowledged messages than told.
    #[error("more unacknowledged messages than the receive maximum")]
    ReceiveMaximum,
    /// A QoS above the offered one.
    #[error("QoS above the offered maximum")]
    Qos,
    /// Retain, which is not offered.
    #[error("retained messages are not offered")]
    Retain,
    /// A client id that is too long, or none in a 3.1.1 session that shall last.
    #[error("the client id is too long or missing")]
    ClientId,
    /// Enhanced authentication, which is not offered.
    #[error("enhanced authentication is not offered")]
    AuthenticationMethod,
    /// A session expiry in DISCONNECT where there was none in CONNECT.
    #[error("a session that was to end is to go on")]
    SessionExpiry,
    /// More bytes than may wait to be read.
    #[error("more sent than may wait")]
    Overflow,
    /// More bytes than may wait to be written.
    #[error("the client does not read")]
    SlowReader,
    /// The broker refused the CONNECT.
    #[error("refused with {0:?}")]
    Refused(ReasonCode),
    /// The broker ended it.
    #[error("ended with {0:?}")]
    Broker(ReasonCode),
}

impl CloseCause {
    /// What the client is told.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::ClientLeft { reason } | Self::Refused(reason) | Self::Broker(reason) => reason,
            Self::StreamEnded | Self::ConnectTimeout => ReasonCode::UnspecifiedError,
            Self::VerdictTimeout => ReasonCode::ServerUnavailable,
            Self::PacketTimeout | Self::KeepAlive => ReasonCode::KeepAliveTimeout,
            Self::Packet(error) => error.reason(),
            Self::SecondConnect
            | Self::Unexpected { .. }
            | Self::SubscriptionId
            | Self::SessionExpiry => ReasonCode::ProtocolError,
            Self::ReceiveMaximum => ReasonCode::ReceiveMaximumExceeded,
            Self::Qos => ReasonCode::QosNotSupported,
            Self::Retain => ReasonCode::RetainNotSupported,
            Self::ClientId => ReasonCode::ClientIdentifierNotValid,
            Self::AuthenticationMethod => ReasonCode::BadAuthenticationMethod,
            Self::Overflow | Self::SlowReader => ReasonCode::QuotaExceeded,
        }
    }

    /// Name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientLeft { .. } => "client_left",
            Self::StreamEnded => "stream_ended",
            Self::ConnectTimeout => "connect_timeout",
            Self::VerdictTimeout => "verdict_timeout",
            Self::PacketTimeout => "packet_timeout",
            Self::KeepAlive => "keep_alive",
            Self::Packet(error) => error.name(),
            Self::SecondConnect => "second_connect",
            Self::Unexpected { .. } => "unexpected_packet",
            Self::SubscriptionId => "subscription_id",
            Self::ReceiveMaximum => "receive_maximum",
            Self::Qos => "qos_not_offered",
            Self::Retain => "retain_not_offered",
            Self::ClientId => "client_id",
            Self::AuthenticationMethod => "authentication_method",
            Self::SessionExpiry => "session_expiry",
            Self::Overflow => "overflow",
            Self::SlowReader => "slow_reader",
            Self::Refused(reason) | Self::Broker(reason) => reason.name(),
        }
    }
}

/// What the broker answers to an acceptable CONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// Whether an earlier session goes on.
    pub session_present: bool,
    /// The client id chosen for a client that came without one.
    pub assigned_client_id: Option<String>,
    /// The session's life in seconds, if not what the client asked for.
    pub session_expiry_secs: Option<u32>,
}

/// Why a packet was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is not accepted yet, or ended.
    #[error("the connection is not open")]
    NotOpen,
    /// Above the client's maximum packet size: treat the message as delivered (§3.1.2.11.4).
    #[error("a packet of {bytes} bytes is above the client's limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The client's limit.
        limit: u32,
    },
    /// Too much waits to be written: the connection has ended.
    #[error("the client does not read")]
    SlowReader,
    /// A packet that servers do not send.
    #[error("{kind:?} is not a server's to send")]
    Kind {
        /// Its kind.
        kind: PacketKind,
    },
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
