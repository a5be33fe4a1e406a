//! Properties of 5.0, between the codec library's list and our structs.
//!
//! The library checks which properties a packet may carry and how often; here texts are checked
//! for U+0000 and lengths for being written no longer than need be. Source: MQTT 5.0 §2.2.2.

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet as lib;
use mqtt_protocol_core::mqtt::packet::{PropertiesSize, Property};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::decoder::{MAX_PROPERTY_BYTES, variable_byte_integer};
use crate::packet::{ConnackProperties, ConnectProperties, MessageProperties, UserProperties};
use crate::{PacketError, PacketKind, TopicName};

/// Every property that exists; each packet takes those it has.
#[derive(Default)]
pub(crate) struct Bag {
    pub(crate) connect: ConnectProperties,
    pub(crate) connack: ConnackProperties,
    pub(crate) message: MessageProperties,
    pub(crate) topic_alias: bool,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) session_expiry_secs: Option<u32>,
    pub(crate) authentication_method: Option<String>,
    pub(crate) authentication_data: Option<Bytes>,
    pub(crate) will_delay_secs: Option<u32>,
    pub(crate) reason_string: Option<String>,
    pub(crate) server_reference: Option<String>,
    pub(crate) user: UserProperties,
}

/// A text without U+0000, which no string of MQTT may hold (§1.5.4).
pub(crate) fn text(text: &str) -> Result<String, PacketError> {
    if text.contains('\0') { Err(PacketError::Nul) } else { Ok(text.to_owned()) }
}

impl Bag {
    /// Sorts a packet's properties into their fields.
    pub(crate) fn from_list(list: &[Property]) -> Result<Self, PacketError> {
        let mut bag = Self::default();
        for property in list {
            bag.take(property)?;
        }
        Ok(bag)
    }

    fn take(&mut self, property: &Property) -> Result<(), PacketError> {
        let (connect, connack) = (&mut self.connect, &mut self.connack);
        match property {
            Property::PayloadFormatIndicator(p) => {
                self.message.payload_is_utf8 = Some(p.val() == 1);
            }
            Property::MessageExpiryInterval(p) => self.message.message_expiry_secs = Some(p.val()),
            Property::ContentType(p) => self.message.content_type = Some(text(p.val())?),
            Property::ResponseTopic(p) => {
                let topic = TopicName::parse(p.val()).map_err(PacketError::Topic)?;
                self.message.response_topic = Some(topic);
            }
            Property::CorrelationData(p) => self.message.correlation_data = Some(bytes(p.val())),
            Property::SubscriptionIdentifier(p) => self.subscription_ids.push(p.val()),
            Property::SessionExpiryInterval(p) => self.session_expiry_secs = Some(p.val()),
            Property::AssignedClientIdentifier(p) => {
                connack.assigned_client_id = Some(text(p.val())?);
            }
            Property::ServerKeepAlive(p) => connack.server_keep_alive_secs = Some(p.val()),
            Property::AuthenticationMethod(p) => self.authentication_method = Some(text(p.val())?),
            Property::AuthenticationData(p) => self.authentication_data = Some(bytes(p.val())),
            Property::RequestProblemInformation(p) => {
                connect.request_problem_information = Some(p.val() == 1);
            }
            Property::WillDelayInterval(p) => self.will_delay_secs = Some(p.val()),
            Property::RequestResponseInformation(p) => {
                connect.request_response_information = Some(p.val() == 1);
            }
            Property::ResponseInformation(p) => connack.response_information = Some(text(p.val())?),
            Property::ServerReference(p) => self.server_reference = Some(text(p.val())?),
            Property::ReasonString(p) => self.reason_string = Some(text(p.val())?),
            Property::ReceiveMaximum(p) => {
                connect.receive_maximum = Some(p.val());
                connack.receive_maximum = Some(p.val());
            }
            Property::TopicAliasMaximum(p) => {
                connect.topic_alias_maximum = Some(p.val());
                connack.topic_alias_maximum = Some(p.val());
            }
            Property::TopicAlias(_) => self.topic_alias = true,
            Property::MaximumQos(p) => connack.maximum_qos = Some(p.val()),
            Property::RetainAvailable(p) => connack.retain_available = Some(p.val() == 1),
            Property::UserProperty(p) => self.user.push((text(p.key())?, text(p.val())?)),
            Property::MaximumPacketSize(p) => {
                connect.maximum_packet_size = Some(p.val());
                connack.maximum_packet_size = Some(p.val());
            }
            Property::WildcardSubscriptionAvailable(p) => {
                connack.wildcard_subscription_available = Some(p.val() == 1);
            }
            Property::SubscriptionIdentifierAvailable(p) => {
                connack.subscription_identifier_available = Some(p.val() == 1);
            }
            Property::SharedSubscriptionAvailable(p) => {
                connack.shared_subscription_available = Some(p.val() == 1);
            }
        }
        Ok(())
    }

    /// As CONNECT's.
    pub(crate) fn into_connect(self) -> ConnectProperties {
        ConnectProperties {
            session_expiry_secs: self.session_expiry_secs,
            authentication_method: self.authentication_method,
            authentication_data: self.authentication_data,
            user: self.user,
            ..self.connect
        }
    }

    /// As CONNACK's.
    pub(crate) fn into_connack(self) -> ConnackProperties {
        ConnackProperties {
            session_expiry_secs: self.session_expiry_secs,
            reason_string: self.reason_string,
            server_reference: self.server_reference,
            authentication_method: self.authentication_method,
            authentication_data: self.authentication_data,
            user: self.user,
            ..self.connack
        }
    }

    /// As a message's.
    pub(crate) fn into_message(self) -> MessageProperties {
        MessageProperties { user: self.user, ..self.message }
    }
}

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The length of the property block at `offset`, its own length field included.
///
/// * Errors: cut short, too long, or a length field longer than need be.
pub(crate) fn block_bytes(
    kind: PacketKind,
    body: &[u8],
    offset: usize,
) -> Result<usize, PacketError> {
    let rest = body.get(offset..).ok_or(PacketError::Malformed { kind })?;
    let (told, length_bytes) = variable_byte_integer(rest)
        .map_err(|_| PacketError::LeftOver { kind })?
        .ok_or(PacketError::Malformed { kind })?;
    if told > MAX_PROPERTY_BYTES {
        return Err(PacketError::PropertiesTooLong { told });
    }
    let block = length_bytes + told as usize;
    if rest.len() < block { Err(PacketError::Malformed { kind }) } else { Ok(block) }
}

/// Whether the properties at `offset` are written as short as can be: the library would also take
/// an identifier of one byte written in four.
pub(crate) fn check_canonical(
    kind: PacketKind,
    body: &[u8],
    offset: usize,
    list: &Vec<Property>,
) -> Result<(), PacketError> {
    let block = block_bytes(kind, body, offset)?;
    let canonical =
        list.size() + usize::from(list.size() > 127) + usize::from(list.size() > 16_383);
    if block == canonical + 1 { Ok(()) } else { Err(PacketError::LeftOver { kind }) }
}

/// What is wrong with the property block at `offset`, if anything: a twice given or a misplaced
/// one. Only asked when the library has refused the packet.
pub(crate) fn fault(
    kind: PacketKind,
    body: &[u8],
    offset: usize,
    allowed: &[u8],
) -> Option<PacketError> {
    let block = match block_bytes(kind, body, offset) {
        Ok(block) => block,
        Err(error) => return Some(error),
    };
    let Ok((list, _)) =
        <Vec<Property> as lib::PropertiesParse>::parse(&body[offset..offset + block])
    else {
        return Some(PacketError::Property);
    };
    let ids = list.iter().map(|property| property.id().as_u8()).collect::<Vec<_>>();
    for (position, id) in ids.iter().enumerate() {
        if !allowed.contains(id) {
            return Some(PacketError::PropertyMisplaced { id: *id, kind });
        }
        if *id != USER_PROPERTY && ids[..position].contains(id) {
            return Some(PacketError::PropertyTwice { id: *id });
        }
    }
    None
}

const USER_PROPERTY: u8 = 38;

/// Identifiers that a packet of this kind may carry; wills have [`WILL_PROPERTIES`].
pub(crate) const fn allowed(kind: PacketKind) -> &'static [u8] {
    match kind {
        PacketKind::Connect => &[17, 21, 22, 23, 25, 33, 34, 38, 39],
        PacketKind::Connack => {
            &[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]
        }
        PacketKind::Publish => &[1, 2, 3, 8, 9, 11, 35, 38],
        PacketKind::Subscribe => &[11, 38],
        PacketKind::Unsubscribe => &[38],
        PacketKind::Disconnect => &[17, 28, 31, 38],
        PacketKind::Auth => &[21, 22, 31, 38],
        PacketKind::Puback
        | PacketKind::Pubrec
        | PacketKind::Pubrel
        | PacketKind::Pubcomp
        | PacketKind::Suback
        | PacketKind::Unsuback => &[31, 38],
        PacketKind::Pingreq | PacketKind::Pingresp => &[],
    }
}

/// Identifiers that a will may carry.
pub(crate) const WILL_PROPERTIES: &[u8] = &[1, 2, 3, 8, 9, 24, 38];

/// A list of the library's properties under construction; absent values are left out.
#[derive(Default)]
pub(crate) struct List(pub(crate) Vec<Property>);

/// Adds a property of the library's type `$name` if `$value` is there.
macro_rules! put {
    ($list:expr, $name:ident, $value:expr) => {
        if let Some(value) = $value {
            $list.0.push(mqtt_protocol_core::mqtt::packet::$name::new(value)?.into());
        }
    };
}
pub(crate) use put;

impl List {
    /// The user properties, in order.
    pub(crate) fn user(&mut self, user: &UserProperties) -> Result<(), MqttError> {
        for (name, value) in user {
            let property = lib::UserProperty::new(clean(name)?, clean(value)?)?;
            self.0.push(property.into());
        }
        Ok(())
    }

    /// What acknowledgements carry.
    pub(crate) fn ack(reason: Option<&str>, user: &UserProperties) -> Result<Self, MqttError> {
        let mut list = Self::default();
        put!(list, ReasonString, reason.map(clean).transpose()?);
        list.user(user)?;
        Ok(list)
    }

    /// What messages carry.
    pub(crate) fn message(&mut self, of: &MessageProperties) -> Result<(), MqttError> {
        let format = of
            .payload_is_utf8
            .map(|utf8| if utf8 { lib::PayloadFormat::String } else { lib::PayloadFormat::Binary });
        put!(self, PayloadFormatIndicator, format);
        put!(self, MessageExpiryInterval, of.message_expiry_secs);
        put!(self, ContentType, of.content_type.as_deref().map(clean).transpose()?);
        put!(self, ResponseTopic, of.response_topic.as_ref().map(TopicName::as_str));
        if let Some(data) = &of.correlation_data {
            self.0.push(lib::CorrelationData::new(data.to_vec())?.into());
        }
        self.user(&of.user)
    }

    /// What CONNECT carries.
    pub(crate) fn connect(of: &ConnectProperties) -> Result<Self, MqttError> {
        let mut list = Self::default();
        put!(list, SessionExpiryInterval, of.session_expiry_secs);
        put!(list, ReceiveMaximum, of.receive_maximum);
        put!(list, MaximumPacketSize, of.maximum_packet_size);
        put!(list, TopicAliasMaximum, of.topic_alias_maximum);
        put!(list, RequestResponseInformation, of.request_response_information.map(u8::from));
        put!(list, RequestProblemInformation, of.request_problem_information.map(u8::from));
        list.authentication(of.authentication_method.as_deref(), of.authentication_data.as_ref())?;
        list.user(&of.user)?;
        Ok(list)
    }

    /// What CONNACK carries.
    pub(crate) fn connack(of: &ConnackProperties) -> Result<Self, MqttError> {
        let mut list = Self::default();
        put!(list, SessionExpiryInterval, of.session_expiry_secs);
        put!(list, ReceiveMaximum, of.receive_maximum);
        put!(list, MaximumQos, of.maximum_qos);
        put!(list, RetainAvailable, of.retain_available.map(u8::from));
        put!(list, MaximumPacketSize, of.maximum_packet_size);
        let client_id = of.assigned_client_id.as_deref().map(clean).transpose()?;
        put!(list, AssignedClientIdentifier, client_id);
        put!(list, TopicAliasMaximum, of.topic_alias_maximum);
        put!(list, ReasonString, of.reason_string.as_deref().map(clean).transpose()?);
        let available = of.wildcard_subscription_available.map(u8::from);
        put!(list, WildcardSubscriptionAvailable, available);
        let available = of.subscription_identifier_available.map(u8::from);
        put!(list, SubscriptionIdentifierAvailable, available);
        let available = of.shared_subscription_available.map(u8::from);
        put!(list, SharedSubscriptionAvailable, available);
        put!(list, ServerKeepAlive, of.server_keep_alive_secs);
        let information = of.response_information.as_deref().map(clean).transpose()?;
        put!(list, ResponseInformation, information);
        put!(list, ServerReference, of.server_reference.as_deref().map(clean).transpose()?);
        list.authentication(of.authentication_method.as_deref(), of.authentication_data.as_ref())?;
        list.user(&of.user)?;
        Ok(list)
    }

    /// Enhanced authentication.
    pub(crate) fn authentication(
        &mut self,
        method: Option<&str>,
        data: Option<&Bytes>,
    ) -> Result<(), MqttError> {
        put!(self, AuthenticationMethod, method.map(clean).transpose()?);
        if let Some(data) = data {
            self.0.push(lib::AuthenticationData::new(data.to_vec())?.into());
        }
        Ok(())
    }
}

/// A text that may be written: the library would let U+0000 pass.
pub(crate) fn clean(text: &str) -> Result<&str, MqttError> {
    if text.contains('\0') { Err(MqttError::ValueOutOfRange) } else { Ok(text) }
}
