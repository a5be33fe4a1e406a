//! The broker's replicated half: persistent client sessions, their queues, retained messages.
//! Transient sessions never come here.

use bytes::Bytes;
use clock::WallTime;
use minicbor::{Decode, Encode};

/// One subscription of a persistent session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MqttSubscription {
    /// Topic filter.
    #[n(0)]
    pub filter: String,
    /// Highest QoS wanted, 0..=2.
    #[n(1)]
    pub qos: u8,
    /// MQTT 5: not the client's own messages.
    #[n(2)]
    pub no_local: bool,
    /// MQTT 5: leave the retain flag as published.
    #[n(3)]
    pub retain_as_published: bool,
    /// MQTT 5: 0 send retained, 1 only if new, 2 never.
    #[n(4)]
    pub retain_handling: u8,
    /// MQTT 5: subscription identifier.
    #[n(5)]
    pub identifier: Option<u32>,
}

/// A message published by a client, or by the node on its behalf (a will).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MqttMessage {
    /// Topic name.
    #[n(0)]
    pub topic: String,
    /// Payload.
    #[n(1)]
    #[cbor(with = "mac::cbor_bytes")]
    pub payload: Bytes,
    /// 0..=2
    #[n(2)]
    pub qos: u8,
    /// Keep as the topic's last value; empty forgets it.
    #[n(3)]
    pub retain: bool,
    /// Put it into the queues of matching persistent sessions.
    #[n(4)]
    pub queue: bool,
    /// Not worth delivering after.
    #[n(5)]
    pub expires_at: Option<WallTime>,
    /// MQTT 5 content type.
    #[n(6)]
    pub content_type: Option<String>,
    /// MQTT 5 response topic.
    #[n(7)]
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub correlation_data: Option<Vec<u8>>,
    /// MQTT 5 user properties, in order.
    #[n(9)]
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5: the payload is text.
    #[n(10)]
    pub is_utf8: bool,
    /// Who published, for `no_local`.
    #[n(11)]
    pub publisher: String,
    /// The fencing number of the publisher's connection: nothing comes of the message once another
    /// has taken the session over, for the publisher says it again there. `None`: unconditional.
    #[n(12)]
    pub fence: Option<u64>,
}
