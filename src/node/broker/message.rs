//! A message on its way through the broker: one value, shared by all who get it.

use std::sync::Arc;

use bytes::Bytes;
use clock::{Duration, WallTime};
use mqtt::{Delivery, MessageProperties, Publish, Qos, TopicName, Will};
use store::{EventRow, MqttMessage};

/// What was published, by whom.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
    /// The publisher's.
    pub(crate) qos: Qos,
    /// To be kept as the topic's last value.
    pub(crate) retain: bool,
    pub(crate) properties: MessageProperties,
    /// Not worth delivering after.
    pub(crate) expires_at: Option<WallTime>,
    /// Session name of the client; empty for the server's own.
    pub(crate) publisher: String,
}

impl Message {
    pub(crate) fn from_publish(now: WallTime, publish: Publish, publisher: &str) -> Self {
        Self {
            expires_at: expiry(now, &publish.properties),
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            properties: publish.properties,
            publisher: publisher.to_owned(),
        }
    }

    pub(crate) fn from_will(now: WallTime, will: Will, publisher: &str) -> Self {
        Self {
            expires_at: expiry(now, &will.properties),
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            properties: will.properties,
            publisher: publisher.to_owned(),
        }
    }

    /// An event as applications get it, at QoS 1, not retained; `None` for a row that has no topic.
    pub(crate) fn from_row(row: &EventRow) -> Option<Self> {
        let (topic, json) = crate::event_json::topic_and_json(row);
        Self::from_server(&topic, json)
    }

    /// A message of the server itself, at QoS 1, not retained.
    pub(crate) fn from_server(topic: &str, json: Vec<u8>) -> Option<Self> {
        Some(Self {
            topic: TopicName::parse(topic).ok()?,
            payload: json.into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: MessageProperties::default(),
            expires_at: None,
            publisher: String::new(),
        })
    }

    /// A message of the replicated state; `None` if its topic is none any more.
    pub(crate) fn from_stored(stored: &MqttMessage) -> Option<Self> {
        let response_topic = stored.response_topic.as_deref();
        Some(Self {
            topic: TopicName::parse(&stored.topic).ok()?,
            payload: stored.payload.clone(),
            qos: Qos::from_u8(stored.qos).unwrap_or_default(),
            retain: stored.retain,
            properties: MessageProperties {
                payload_is_utf8: stored.is_utf8.then_some(true),
                message_expiry_secs: None,
                content_type: stored.content_type.clone(),
                response_topic: response_topic.and_then(|text| TopicName::parse(text).ok()),
                correlation_data: stored.correlation_data.clone().map(Bytes::from),
                user: stored.user_properties.clone(),
            },
            expires_at: stored.expires_at,
            publisher: stored.publisher.clone(),
        })
    }

    /// The form for the log.
    ///
    /// * `queue`: it shall enter the queues of persistent sessions.
    /// * `fence`: of the connection on which it came, if its loss is the publisher's to mend.
    pub(crate) fn to_stored(&self, queue: bool, fence: Option<u64>) -> MqttMessage {
        let properties = &self.properties;
        MqttMessage {
            topic: self.topic.as_str().to_owned(),
            payload: self.payload.clone(),
            qos: self.qos.as_u8(),
            retain: self.retain,
            queue,
            expires_at: self.expires_at,
            content_type: properties.content_type.clone(),
            response_topic: properties.response_topic.as_ref().map(ToString::to_string),
            correlation_data: properties.correlation_data.as_ref().map(|bytes| bytes.to_vec()),
            user_properties: properties.user.clone(),
            is_utf8: properties.payload_is_utf8 == Some(true),
            publisher: self.publisher.clone(),
            fence,
        }
    }
}

fn expiry(now: WallTime, properties: &MessageProperties) -> Option<WallTime> {
    let secs = properties.message_expiry_secs?;
    Some(now.saturating_add(Duration::from_secs(u64::from(secs))))
}

/// A message in the hands of one client's session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) message: Arc<Message>,
    /// Its place in the replicated queue, to be given free when the client has it.
    pub(crate) place: Option<u64>,
    /// MQTT 5: which subscriptions it matched.
    pub(crate) subscription_ids: Vec<u32>,
    /// The retain flag as the client shall see it.
    pub(crate) retain: bool,
}

impl Held {
    /// The packet; `None` once the message has expired.
    pub(crate) fn packet(&self, now: WallTime, delivery: Delivery) -> Option<Publish> {
        let mut properties = self.message.properties.clone();
        if let Some(expires_at) = self.message.expires_at {
            if expires_at <= now {
                return None;
            }
            let left = expires_at.since(now).as_secs();
            properties.message_expiry_secs = Some(u32::try_from(left).unwrap_or(u32::MAX));
        }
        Some(Publish {
            topic: self.message.topic.clone(),
            payload: self.message.payload.clone(),
            delivery,
            retain: self.retain,
            properties,
            subscription_ids: self.subscription_ids.clone(),
        })
    }
}
