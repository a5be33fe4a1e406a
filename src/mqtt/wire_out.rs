//! From our values to the bytes of one packet, through the codec library's builders.
//!
//! What a version has no place for is left out (properties in 3.1.1); what would be a lie is an
//! error. Source: MQTT 5.0 §3, MQTT 3.1.1 §3.

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::packet as lib;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code as codes;
use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::decoder::MAX_REMAINING_BYTES;
use crate::packet::*;
use crate::wire_properties::{List, clean, put};
use crate::{EncodeError, ReasonCode};

/// Appends `packet` to `out`, all or nothing.
///
/// * Returns the number of bytes written.
/// * Errors: [`EncodeError`], a mistake of the caller.
pub fn encode(version: Version, packet: &Packet, out: &mut BytesMut) -> Result<usize, EncodeError> {
    let weight = weight(packet);
    if weight > MAX_REMAINING_BYTES as usize {
        return Err(EncodeError::TooLarge { bytes: weight });
    }
    if let Packet::Connect(connect) = packet
        && connect.version != version
    {
        return Err(EncodeError::Version { kind: PacketKind::Connect });
    }
    let before = out.len();
    match version {
        Version::V311 => v311(packet, out)?,
        Version::V5 => v5(packet, out)?,
    }
    Ok(out.len() - before)
}

/// An upper bound of a packet's size in bytes: the library's builders panic on what cannot be
/// framed, so they are not asked for it.
fn weight(packet: &Packet) -> usize {
    let user = |user: &UserProperties| -> usize {
        user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum()
    };
    // Every other field is bounded by its own two-byte length.
    const FIXED: usize = 16 * 65_538;
    FIXED
        + match packet {
            Packet::Connect(p) => {
                let will = p.will.as_ref();
                user(&p.properties.user) + will.map_or(0, |will| user(&will.properties.user))
            }
            Packet::Connack(p) => user(&p.properties.user),
            Packet::Publish(p) => {
                p.payload.len() + user(&p.properties.user) + 5 * p.subscription_ids.len()
            }
            Packet::Puback(p) | Packet::Pubrec(p) | Packet::Pubrel(p) | Packet::Pubcomp(p) => {
                user(&p.user)
            }
            Packet::Subscribe(p) => {
                user(&p.user) + p.requests.iter().map(|r| 3 + r.filter.len()).sum::<usize>()
            }
            Packet::Suback(p) | Packet::Unsuback(p) => user(&p.user) + p.reasons.len(),
            Packet::Unsubscribe(p) => {
                user(&p.user) + p.filters.iter().map(|filter| 2 + filter.len()).sum::<usize>()
            }
            Packet::Pingreq | Packet::Pingresp => 0,
            Packet::Disconnect(p) => user(&p.user),
            Packet::Auth(p) => user(&p.user),
        }
}

fn write(packet: &impl GenericPacketTrait, out: &mut BytesMut) {
    out.reserve(packet.size());
    for part in packet.to_buffers() {
        out.extend_from_slice(&part);
    }
}

fn field(kind: PacketKind) -> impl Fn(MqttError) -> EncodeError {
    move |_| EncodeError::Field { kind }
}

/// The library's code of ours, for the packets that may carry it.
fn code<C: TryFrom<u8>>(kind: PacketKind, reason: ReasonCode) -> Result<C, EncodeError> {
    C::try_from(reason.as_u8()).map_err(|_| EncodeError::Reason { kind, reason })
}

fn qos(qos: Qos) -> lib::Qos {
    match qos {
        Qos::AtMostOnce => lib::Qos::AtMostOnce,
        Qos::AtLeastOnce => lib::Qos::AtLeastOnce,
        Qos::ExactlyOnce => lib::Qos::ExactlyOnce,
    }
}

fn v311(packet: &Packet, out: &mut BytesMut) -> Result<(), EncodeError> {
    let kind = packet.kind();
    let bad = field(kind);
    match packet {
        Packet::Connect(p) => connect_v311(p, out).map_err(bad)?,
        Packet::Connack(p) => {
            let return_code = codes::ConnectReturnCode::try_from(p.reason.to_v311_connack())
                .map_err(|_| EncodeError::Reason { kind, reason: p.reason })?;
            let builder = v3_1_1::Connack::builder().session_present(p.session_present);
            write(&builder.return_code(return_code).build().map_err(bad)?, out);
        }
        Packet::Publish(p) => publish_v311(p, out).map_err(bad)?,
        Packet::Puback(p) => {
            let builder = v3_1_1::Puback::builder().packet_id(p.packet_id.get());
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Pubrec(p) => {
            let builder = v3_1_1::Pubrec::builder().packet_id(p.packet_id.get());
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Pubrel(p) => {
            let builder = v3_1_1::Pubrel::builder().packet_id(p.packet_id.get());
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Pubcomp(p) => {
            let builder = v3_1_1::Pubcomp::builder().packet_id(p.packet_id.get());
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Subscribe(p) => {
            let entries = entries(Version::V311, &p.requests).map_err(&bad)?;
            let builder = v3_1_1::Subscribe::builder().packet_id(p.packet_id.get());
            write(&builder.entries(entries).build().map_err(bad)?, out);
        }
        Packet::Suback(p) => {
            let builder = v3_1_1::Suback::builder().packet_id(p.packet_id.get());
            let return_codes = p.reasons.iter().map(|reason| suback_v311(kind, *reason));
            let return_codes = return_codes.collect::<Result<_, _>>()?;
            write(&builder.return_codes(return_codes).build().map_err(bad)?, out);
        }
        Packet::Unsubscribe(p) => {
            let builder = v3_1_1::Unsubscribe::builder().packet_id(p.packet_id.get());
            let builder = builder.entries(filters(p).map_err(&bad)?).map_err(&bad)?;
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Unsuback(p) => {
            let builder = v3_1_1::Unsuback::builder().packet_id(p.packet_id.get());
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Pingreq => write(&v3_1_1::Pingreq::new(), out),
        Packet::Pingresp => write(&v3_1_1::Pingresp::new(), out),
        Packet::Disconnect(_) => write(&v3_1_1::Disconnect::new(), out),
        Packet::Auth(_) => return Err(EncodeError::Version { kind }),
    }
    Ok(())
}

fn suback_v311(
    kind: PacketKind,
    reason: ReasonCode,
) -> Result<codes::SubackReturnCode, EncodeError> {
    code(kind, if reason.is_error() { ReasonCode::UnspecifiedError } else { reason })
}

fn connect_v311(p: &Connect, out: &mut BytesMut) -> Result<(), MqttError> {
    let mut builder = v3_1_1::Connect::builder()
        .client_id(clean(&p.client_id)?)?
        .clean_session(p.clean_start)
        .keep_alive(p.keep_alive_secs);
    if let Some(will) = &p.will {
        let payload = will.payload.to_vec();
        builder = builder.will_message(will.topic.as_str(), payload, qos(will.qos), will.retain)?;
    }
    if let Some(name) = &p.username {
        builder = builder.user_name(clean(name)?)?;
    }
    if let Some(password) = &p.password {
        builder = builder.password(password.0.to_vec())?;
    }
    write(&builder.build()?, out);
    Ok(())
}

fn publish_v311(p: &Publish, out: &mut BytesMut) -> Result<(), MqttError> {
    let builder = v3_1_1::Publish::builder()
        .topic_name(p.topic.as_str())?
        .qos(qos(p.delivery.qos()))
        .packet_id(p.delivery.packet_id().map(PacketId::get))
        .dup(p.delivery.dup())
        .retain(p.retain)
        .payload(&p.payload[..]);
    write(&builder.build()?, out);
    Ok(())
}

fn entries(
    version: Version,
    requests: &[SubscribeRequest],
) -> Result<Vec<lib::SubEntry>, MqttError> {
    let entry = |request: &SubscribeRequest| {
        let of = request.options;
        let mut options = lib::SubOpts::new().set_qos(qos(of.qos));
        if version == Version::V5 {
            options = options.set_nl(of.no_local).set_rap(of.retain_as_published);
            options = options.set_rh(match of.retain_handling {
                RetainHandling::Send => lib::RetainHandling::SendRetained,
                RetainHandling::SendIfNew => lib::RetainHandling::SendRetainedIfNotExists,
                RetainHandling::DoNotSend => lib::RetainHandling::DoNotSendRetained,
            });
        }
        lib::SubEntry::new(clean(&request.filter)?, options)
    };
    requests.iter().map(entry).collect()
}

fn filters(p: &Unsubscribe) -> Result<Vec<&str>, MqttError> {
    p.filters.iter().map(|filter| clean(filter)).collect()
}

fn v5(packet: &Packet, out: &mut BytesMut) -> Result<(), EncodeError> {
    let kind = packet.kind();
    let bad = field(kind);
    match packet {
        Packet::Connect(p) => connect_v5(p, out).map_err(bad)?,
        Packet::Connack(p) => {
            let builder = v5_0::Connack::builder().session_present(p.session_present);
            let builder = builder.reason_code(code(kind, p.reason)?);
            let list = List::connack(&p.properties).map_err(&bad)?;
            write(&builder.props(list.0).build().map_err(bad)?, out);
        }
        Packet::Publish(p) => publish_v5(p, out).map_err(bad)?,
        Packet::Puback(p) => puback_v5(p, out)?,
        Packet::Pubrec(p) => pubrec_v5(p, out)?,
        Packet::Pubrel(p) => pubrel_v5(p, out)?,
        Packet::Pubcomp(p) => pubcomp_v5(p, out)?,
        Packet::Subscribe(p) => {
            let mut list = List::default();
            let entries = entries(Version::V5, &p.requests).map_err(&bad)?;
            identifier(&mut list, p.subscription_id).map_err(&bad)?;
            list.user(&p.user).map_err(&bad)?;
            let builder = v5_0::Subscribe::builder().packet_id(p.packet_id.get());
            write(&builder.props(list.0).entries(entries).build().map_err(bad)?, out);
        }
        Packet::Suback(p) => {
            let list = List::ack(p.reason_string.as_deref(), &p.user).map_err(&bad)?;
            let reasons = p.reasons.iter().map(|reason| code(kind, *reason));
            let builder = v5_0::Suback::builder().packet_id(p.packet_id.get()).props(list.0);
            let builder = builder.reason_codes(reasons.collect::<Result<_, _>>()?);
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Unsubscribe(p) => {
            let list = List::ack(None, &p.user).map_err(&bad)?;
            let builder = v5_0::Unsubscribe::builder().packet_id(p.packet_id.get()).props(list.0);
            let builder = builder.entries(filters(p).map_err(&bad)?).map_err(&bad)?;
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Unsuback(p) => {
            let list = List::ack(p.reason_string.as_deref(), &p.user).map_err(&bad)?;
            let reasons = p.reasons.iter().map(|reason| code(kind, *reason));
            let builder = v5_0::Unsuback::builder().packet_id(p.packet_id.get()).props(list.0);
            let builder = builder.reason_codes(reasons.collect::<Result<_, _>>()?);
            write(&builder.build().map_err(bad)?, out);
        }
        Packet::Pingreq => write(&v5_0::Pingreq::new(), out),
        Packet::Pingresp => write(&v5_0::Pingresp::new(), out),
        Packet::Disconnect(p) => disconnect_v5(p, out)?,
        Packet::Auth(p) => auth_v5(p, out)?,
    }
    Ok(())
}

fn identifier(list: &mut List, id: Option<u32>) -> Result<(), MqttError> {
    put!(list, SubscriptionIdentifier, id);
    Ok(())
}

fn connect_v5(p: &Connect, out: &mut BytesMut) -> Result<(), MqttError> {
    let mut builder = v5_0::Connect::builder()
        .client_id(clean(&p.client_id)?)?
        .clean_start(p.clean_start)
        .keep_alive(p.keep_alive_secs)
        .props(List::connect(&p.properties)?.0);
    if let Some(will) = &p.will {
        let mut list = List::default();
        let delay = (will.delay_secs > 0).then_some(will.delay_secs);
        put!(list, WillDelayInterval, delay);
        list.message(&will.properties)?;
        let payload = will.payload.to_vec();
        builder = builder.will_message(will.topic.as_str(), payload, qos(will.qos), will.retain)?;
        builder = builder.will_props(list.0);
    }
    if let Some(name) = &p.username {
        builder = builder.user_name(clean(name)?)?;
    }
    if let Some(password) = &p.password {
        builder = builder.password(password.0.to_vec())?;
    }
    write(&builder.build()?, out);
    Ok(())
}

fn publish_v5(p: &Publish, out: &mut BytesMut) -> Result<(), MqttError> {
    let mut list = List::default();
    list.message(&p.properties)?;
    for id in &p.subscription_ids {
        identifier(&mut list, Some(*id))?;
    }
    let builder = v5_0::Publish::builder()
        .topic_name(p.topic.as_str())?
        .qos(qos(p.delivery.qos()))
        .packet_id(p.delivery.packet_id().map(PacketId::get))
        .dup(p.delivery.dup())
        .retain(p.retain)
        .props(list.0)
        .payload(&p.payload[..]);
    write(&builder.build()?, out);
    Ok(())
}

/// One acknowledgement of 5.0, as short as it may be.
macro_rules! ack_v5 {
    ($name:ident, $kind:ident) => {
        fn $name(p: &Ack, out: &mut BytesMut) -> Result<(), EncodeError> {
            let kind = PacketKind::$kind;
            let list = List::ack(p.reason_string.as_deref(), &p.user).map_err(field(kind))?;
            let mut builder = v5_0::$kind::builder().packet_id(p.packet_id.get());
            if p.reason != ReasonCode::Success || !list.0.is_empty() {
                builder = builder.reason_code(code(kind, p.reason)?);
            }
            if !list.0.is_empty() {
                builder = builder.props(list.0);
            }
            write(&builder.build().map_err(field(kind))?, out);
            Ok(())
        }
    };
}

ack_v5!(puback_v5, Puback);
ack_v5!(pubrec_v5, Pubrec);
ack_v5!(pubrel_v5, Pubrel);
ack_v5!(pubcomp_v5, Pubcomp);

fn disconnect_v5(p: &Disconnect, out: &mut BytesMut) -> Result<(), EncodeError> {
    let kind = PacketKind::Disconnect;
    let list = disconnect_list(p).map_err(field(kind))?;
    let mut builder = v5_0::Disconnect::builder();
    if p.reason != ReasonCode::Success || !list.0.is_empty() {
        builder = builder.reason_code(code(kind, p.reason)?);
    }
    if !list.0.is_empty() {
        builder = builder.props(list.0);
    }
    write(&builder.build().map_err(field(kind))?, out);
    Ok(())
}

fn disconnect_list(p: &Disconnect) -> Result<List, MqttError> {
    let mut list = List::default();
    put!(list, SessionExpiryInterval, p.session_expiry_secs);
    put!(list, ReasonString, p.reason_string.as_deref().map(clean).transpose()?);
    put!(list, ServerReference, p.server_reference.as_deref().map(clean).transpose()?);
    list.user(&p.user)?;
    Ok(list)
}

fn auth_v5(p: &Auth, out: &mut BytesMut) -> Result<(), EncodeError> {
    let kind = PacketKind::Auth;
    let list = auth_list(p).map_err(field(kind))?;
    let builder = v5_0::Auth::builder().reason_code(code(kind, p.reason)?).props(list.0);
    write(&builder.build().map_err(field(kind))?, out);
    Ok(())
}

fn auth_list(p: &Auth) -> Result<List, MqttError> {
    let mut list = List::default();
    list.authentication(p.method.as_deref(), p.data.as_ref())?;
    put!(list, ReasonString, p.reason_string.as_deref().map(clean).transpose()?);
    list.user(&p.user)?;
    Ok(list)
}
