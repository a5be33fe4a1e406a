//! The packets of MQTT as plain values: what one says, not how it is written.
//!
//! One set of types serves 3.1.1 and 5.0: in 3.1.1 properties stay empty and are not written.
//! Source: MQTT 5.0 §3, MQTT 3.1.1 §3.

use core::fmt;
use core::num::NonZeroU16;

use bytes::Bytes;

use crate::{ReasonCode, TopicName};

/// A packet identifier, `1..=65535`.
pub type PacketId = NonZeroU16;

/// Name and value pairs that the protocol carries without looking at them, in order.
pub type UserProperties = Vec<(String, String)>;

/// A version of the protocol that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// Quality of service: how often a message may arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS of a number; `None` above 2.
    pub const fn from_u8(qos: u8) -> Option<Self> {
        match qos {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// `0..=2`.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// The SUBACK code that grants this QoS.
    pub const fn granted(self) -> ReasonCode {
        match self {
            Self::AtMostOnce => ReasonCode::Success,
            Self::AtLeastOnce => ReasonCode::GrantedQos1,
            Self::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }
}

/// Any packet of either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Client to server: the first packet.
    Connect(Box<Connect>),
    /// Server to client: the answer to it.
    Connack(Box<Connack>),
    /// Both ways: a message.
    Publish(Publish),
    /// Both ways: answer to a QoS 1 message.
    Puback(Ack),
    /// Both ways: first answer to a QoS 2 message.
    Pubrec(Ack),
    /// Both ways: the sender gives the packet id of a QoS 2 message free.
    Pubrel(Ack),
    /// Both ways: last answer to a QoS 2 message.
    Pubcomp(Ack),
    /// Client to server.
    Subscribe(Subscribe),
    /// Server to client.
    Suback(Suback),
    /// Client to server.
    Unsubscribe(Unsubscribe),
    /// Server to client; without reasons in 3.1.1.
    Unsuback(Suback),
    /// Client to server: I am alive.
    Pingreq,
    /// Server to client: so am I.
    Pingresp,
    /// Both ways in 5.0, client to server in 3.1.1.
    Disconnect(Disconnect),
    /// Both ways, 5.0 only.
    Auth(Auth),
}

impl Packet {
    /// What kind of packet it is.
    pub const fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) => PacketKind::Connect,
            Self::Connack(_) => PacketKind::Connack,
            Self::Publish(_) => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::Suback(_) => PacketKind::Suback,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect(_) => PacketKind::Disconnect,
            Self::Auth(_) => PacketKind::Auth,
        }
    }
}

/// The kinds of packets, numbered as in the fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketKind {
    /// The kind of a fixed header's upper four bits; `None` for the reserved 0.
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

/// CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version the client speaks.
    pub version: Version,
    /// The client's name for its session; empty: the server chooses one.
    pub client_id: String,
    /// Forget an earlier session of this name (3.1.1: also forget this one at its end).
    pub clean_start: bool,
    /// Seconds within which the client will send something; 0: never mind.
    pub keep_alive_secs: u16,
    /// Name of the account.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// What to publish if the connection ends badly.
    pub will: Option<Will>,
    /// Properties of 5.0.
    pub properties: ConnectProperties,
}

impl Connect {
    /// Seconds the session outlives the connection: `Some(0)` not at all, `None` for ever.
    ///
    /// * `v311`: for a 3.1.1 client without clean session, which cannot say.
    pub fn session_expiry_secs(&self, v311: Option<u32>) -> Option<u32> {
        match (self.version, self.clean_start) {
            (Version::V311, true) => Some(0),
            (Version::V311, false) => v311,
            (Version::V5, _) => match self.properties.session_expiry_secs {
                Some(u32::MAX) => None,
                Some(secs) => Some(secs),
                None => Some(0),
            },
        }
    }
}

/// A password as the client sent it. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Bytes);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Properties of CONNECT. Absent means the default of the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds the session outlives the connection; absent: 0; `u32::MAX`: for ever.
    pub session_expiry_secs: Option<u32>,
    /// QoS 1 and 2 messages the client takes before it has acknowledged; absent: 65535; never 0.
    pub receive_maximum: Option<u16>,
    /// Largest packet the client takes, in bytes; absent: no limit; never 0.
    pub maximum_packet_size: Option<u32>,
    /// Topic aliases the client takes; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// Whether the client asks for response information; absent: no.
    pub request_response_information: Option<bool>,
    /// Whether reason strings and user properties may be sent on any packet; absent: yes.
    pub request_problem_information: Option<bool>,
    /// Enhanced authentication: its method.
    pub authentication_method: Option<String>,
    /// Enhanced authentication: its first data.
    pub authentication_data: Option<Bytes>,
    /// User properties.
    pub user: UserProperties,
}

/// The message a client leaves for the case that it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// How surely.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds to wait for the client before publishing; always 0 in 3.1.1.
    pub delay_secs: u32,
    /// Properties of the message.
    pub properties: MessageProperties,
}

/// Properties of an application message, as PUBLISH and wills carry them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Whether the payload is told to be UTF-8 text; absent: unspecified bytes.
    pub payload_is_utf8: Option<bool>,
    /// Seconds after which the message is worthless; absent: never.
    pub message_expiry_secs: Option<u32>,
    /// MIME type or whatever both sides agree upon.
    pub content_type: Option<String>,
    /// Where an answer should go.
    pub response_topic: Option<TopicName>,
    /// What an answer should carry.
    pub correlation_data: Option<Bytes>,
    /// User properties.
    pub user: UserProperties,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Whether the server still had the session.
    pub session_present: bool,
    /// Accepted, or why not.
    pub reason: ReasonCode,
    /// Properties of 5.0.
    pub properties: ConnackProperties,
}

/// Properties of CONNACK. Absent means the default of the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnackProperties {
    /// Seconds, if not what the client asked for.
    pub session_expiry_secs: Option<u32>,
    /// QoS 1 and 2 messages the server takes unacknowledged; absent: 65535; never 0.
    pub receive_maximum: Option<u16>,
    /// Highest QoS served, 0 or 1; absent: 2.
    pub maximum_qos: Option<u8>,
    /// Whether messages can be retained; absent: yes.
    pub retain_available: Option<bool>,
    /// Largest packet the server takes, in bytes; absent: no limit; never 0.
    pub maximum_packet_size: Option<u32>,
    /// The client id that the server chose.
    pub assigned_client_id: Option<String>,
    /// Topic aliases the server takes; absent: 0.
    pub topic_alias_maximum: Option<u16>,
    /// For people.
    pub reason_string: Option<String>,
    /// Whether filters may have wildcards; absent: yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscription identifiers are served; absent: yes.
    pub subscription_identifier_available: Option<bool>,
    /// Whether `$share/..` is served; absent: yes.
    pub shared_subscription_available: Option<bool>,
    /// Keep-alive in seconds that the client must use instead of its own.
    pub server_keep_alive_secs: Option<u16>,
    /// Basis for response topics.
    pub response_information: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// Enhanced authentication: its method.
    pub authentication_method: Option<String>,
    /// Enhanced authentication: its data.
    pub authentication_data: Option<Bytes>,
    /// User properties.
    pub user: UserProperties,
}

/// PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// How surely, under which packet id.
    pub delivery: Delivery,
    /// To the server: keep it for later subscribers. To a client: it was kept.
    pub retain: bool,
    /// Properties of the message.
    pub properties: MessageProperties,
    /// Identifiers of the subscriptions it matched, `1..=268435455`; only from server to client.
    pub subscription_ids: Vec<u32>,
}

impl Publish {
    /// A QoS 0 message without properties, not retained.
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            delivery: Delivery::AtMostOnce,
            retain: false,
            properties: MessageProperties::default(),
            subscription_ids: Vec::new(),
        }
    }
}

/// How a PUBLISH is delivered. A packet id exists exactly for QoS 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Names the delivery until its PUBACK.
        packet_id: PacketId,
        /// Whether it was sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Names the delivery until its PUBCOMP.
        packet_id: PacketId,
        /// Whether it was sent before.
        dup: bool,
    },
}

impl Delivery {
    /// The quality of service.
    pub const fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// The packet id, if the quality of service has one.
    pub const fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { packet_id, .. } | Self::ExactlyOnce { packet_id, .. } => {
                Some(packet_id)
            }
        }
    }

    /// Whether it was sent before.
    pub const fn dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of the PUBLISH it is about.
    pub packet_id: PacketId,
    /// Always [`ReasonCode::Success`] in 3.1.1.
    pub reason: ReasonCode,
    /// For people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

impl Ack {
    /// An acknowledgement with a reason code alone.
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user: Vec::new() }
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Of the SUBACK to come.
    pub packet_id: PacketId,
    /// What is asked for: at least one, in order.
    pub requests: Vec<SubscribeRequest>,
    /// Identifier that matching messages shall carry, `1..=268435455`.
    pub subscription_id: Option<u32>,
    /// User properties.
    pub user: UserProperties,
}

/// One line of a SUBSCRIBE. The filter is only known to be text: parse it with
/// [`crate::Subscription::parse`] and refuse it alone if it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// A topic filter, perhaps `$share/{group}/{filter}`.
    pub filter: String,
    /// How messages shall be delivered.
    pub options: SubscribeOptions,
}

/// How messages of a subscription shall be delivered. 3.1.1 has the QoS alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Highest QoS.
    pub qos: Qos,
    /// Not the client's own messages.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// What to do with messages retained before.
    pub retain_handling: RetainHandling,
}

/// What to do with retained messages when a subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send them.
    #[default]
    Send = 0,
    /// Send them if the subscription is new.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// SUBACK or UNSUBACK: one reason for each filter asked for, in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback {
    /// Of the request.
    pub packet_id: PacketId,
    /// Not empty, but for a 3.1.1 UNSUBACK, which has none.
    pub reasons: Vec<ReasonCode>,
    /// For people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

impl Suback {
    /// An answer with reason codes alone.
    pub const fn new(packet_id: PacketId, reasons: Vec<ReasonCode>) -> Self {
        Self { packet_id, reasons, reason_string: None, user: Vec::new() }
    }
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Of the UNSUBACK to come.
    pub packet_id: PacketId,
    /// At least one, in order; only known to be text.
    pub filters: Vec<String>,
    /// User properties.
    pub user: UserProperties,
}

/// DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Always [`ReasonCode::Success`] in 3.1.1.
    pub reason: ReasonCode,
    /// A client's last word on its session's life, in seconds.
    pub session_expiry_secs: Option<u32>,
    /// For people.
    pub reason_string: Option<String>,
    /// Another server to use.
    pub server_reference: Option<String>,
    /// User properties.
    pub user: UserProperties,
}

impl Disconnect {
    /// A disconnect with a reason code alone.
    pub const fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_secs: None,
            reason_string: None,
            server_reference: None,
            user: Vec::new(),
        }
    }
}

/// AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Success, go on, or start again.
    pub reason: ReasonCode,
    /// Present unless the reason is success.
    pub method: Option<String>,
    /// What the method needs.
    pub data: Option<Bytes>,
    /// For people.
    pub reason_string: Option<String>,
    /// User properties.
    pub user: UserProperties,
}
