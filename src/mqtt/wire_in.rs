//! From the bytes of one framed packet to our values. With `wire_out` and `wire_properties` the
//! only place that knows the codec library.
//!
//! The library parses; here stands what it lets pass: reserved connect flags, packet id 0, U+0000,
//! wildcards and emptiness of topic names, options of 5.0 in 3.1.1, bytes left over, bodies of
//! packets that have none. When it refuses, [`fault`] says more exactly why, for the metrics.
//! Source: MQTT 5.0 §3, MQTT 3.1.1 §3.

use std::sync::Arc;

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{Properties, SubEntry, v3_1_1, v5_0};

use crate::packet::*;
use crate::wire_fault::{Cursor, fault, publish_fault};
use crate::wire_properties::{Bag, block_bytes, check_canonical, text};
use crate::{PacketError, ReasonCode, TopicName};

/// The version that a CONNECT asks for.
///
/// * `body`: after the fixed header.
/// * Errors: another protocol, or a level that is not served.
pub(crate) fn connect_version(body: &[u8]) -> Result<Version, PacketError> {
    let malformed = PacketError::Malformed { kind: PacketKind::Connect };
    let mut cursor = Cursor::new(body);
    let name = cursor.field().ok_or(malformed)?;
    let level = cursor.byte().ok_or(malformed)?;
    match (name, level) {
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT" | b"MQIsdp", level) => Err(PacketError::ProtocolLevel { level }),
        _ => Err(PacketError::ProtocolName),
    }
}

/// Decodes one packet.
///
/// * `flags`: lower four bits of the fixed header, already checked against `kind`.
/// * `body`: exactly the bytes after the fixed header.
/// * Errors: [`PacketError`].
pub(crate) fn decode(
    version: Version,
    kind: PacketKind,
    flags: u8,
    body: &[u8],
) -> Result<Packet, PacketError> {
    match kind {
        PacketKind::Connect => connect(body),
        PacketKind::Connack => connack(version, body),
        PacketKind::Publish => publish(version, flags, body),
        PacketKind::Puback => Ok(Packet::Puback(puback(version, body)?)),
        PacketKind::Pubrec => Ok(Packet::Pubrec(pubrec(version, body)?)),
        PacketKind::Pubrel => Ok(Packet::Pubrel(pubrel(version, body)?)),
        PacketKind::Pubcomp => Ok(Packet::Pubcomp(pubcomp(version, body)?)),
        PacketKind::Subscribe => subscribe(version, body),
        PacketKind::Suback => suback(version, body),
        PacketKind::Unsubscribe => unsubscribe(version, body),
        PacketKind::Unsuback => unsuback(version, body),
        PacketKind::Pingreq => empty(kind, body).map(|()| Packet::Pingreq),
        PacketKind::Pingresp => empty(kind, body).map(|()| Packet::Pingresp),
        PacketKind::Disconnect => disconnect(version, body),
        PacketKind::Auth => auth(body),
    }
}

fn empty(kind: PacketKind, body: &[u8]) -> Result<(), PacketError> {
    if body.is_empty() { Ok(()) } else { Err(PacketError::LeftOver { kind }) }
}

fn consumed(kind: PacketKind, body: &[u8], bytes: usize) -> Result<(), PacketError> {
    if bytes == body.len() { Ok(()) } else { Err(PacketError::LeftOver { kind }) }
}

fn packet_id(kind: PacketKind, body: &[u8]) -> Result<PacketId, PacketError> {
    let id = Cursor::new(body).number().ok_or(PacketError::Malformed { kind })?;
    PacketId::new(id).ok_or(PacketError::PacketIdZero)
}

fn reason(kind: PacketKind, code: u8) -> Result<ReasonCode, PacketError> {
    ReasonCode::from_u8(code).ok_or(PacketError::Malformed { kind })
}

/// Bits 3 to 7 say what of a will is there, bit 0 is reserved (§3.1.2.3 and following).
fn check_connect_flags(flags: u8) -> Result<(), PacketError> {
    let will = flags & 0b0000_0100 != 0;
    let will_details = flags & 0b0011_1000;
    let will_qos_3 = flags & 0b0001_1000 == 0b0001_1000;
    // 5.0 allows a password without a name; the library does not.
    let password_alone = flags & 0b1100_0000 == 0b0100_0000;
    if flags & 1 != 0 || (!will && will_details != 0) || will_qos_3 || password_alone {
        return Err(PacketError::ConnectFlags { flags });
    }
    Ok(())
}

fn connect(body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Connect;
    let version = connect_version(body)?;
    // Name and level were read, so the flags are at a known place.
    check_connect_flags(*body.get(7).ok_or(PacketError::Malformed { kind })?)?;
    match version {
        Version::V311 => {
            let (p, used) = v3_1_1::Connect::parse(body).map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            let will = p.will_topic().zip(p.will_payload()).map(|(topic, payload)| {
                will(topic, payload, p.will_qos() as u8, p.will_retain(), Bag::default())
            });
            Ok(Packet::Connect(Box::new(Connect {
                version,
                client_id: text(p.client_id())?,
                clean_start: p.clean_session(),
                keep_alive_secs: p.keep_alive(),
                username: p.user_name().map(text).transpose()?,
                password: p.password().map(password),
                will: will.transpose()?,
                properties: ConnectProperties::default(),
            })))
        }
        Version::V5 => {
            let (p, used) = v5_0::Connect::parse(body).map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            check_canonical(kind, body, 10, p.props())?;
            let will = p.will_topic().zip(p.will_payload()).map(|(topic, payload)| {
                let behind_props = 10 + block_bytes(kind, body, 10)?;
                let will_props = behind_props + 2 + p.client_id().len();
                check_canonical(kind, body, will_props, p.will_props())?;
                let bag = Bag::from_list(p.will_props())?;
                will(topic, payload, p.will_qos() as u8, p.will_retain(), bag)
            });
            Ok(Packet::Connect(Box::new(Connect {
                version,
                client_id: text(p.client_id())?,
                clean_start: p.clean_start(),
                keep_alive_secs: p.keep_alive(),
                username: p.user_name().map(text).transpose()?,
                password: p.password().map(password),
                will: will.transpose()?,
                properties: Bag::from_list(p.props())?.into_connect(),
            })))
        }
    }
}

fn password(bytes: &[u8]) -> Password {
    Password(Bytes::copy_from_slice(bytes))
}

fn will(topic: &str, payload: &[u8], qos: u8, retain: bool, bag: Bag) -> Result<Will, PacketError> {
    Ok(Will {
        topic: TopicName::parse(topic).map_err(PacketError::Topic)?,
        payload: Bytes::copy_from_slice(payload),
        qos: Qos::from_u8(qos).ok_or(PacketError::Qos)?,
        retain,
        delay_secs: bag.will_delay_secs.unwrap_or(0),
        properties: bag.into_message(),
    })
}

fn connack(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Connack;
    let malformed = PacketError::Malformed { kind };
    if body.first().ok_or(malformed)? & 0b1111_1110 != 0 {
        return Err(malformed);
    }
    let connack = match version {
        Version::V311 => {
            let (p, used) = v3_1_1::Connack::parse(body).map_err(|_| malformed)?;
            consumed(kind, body, used)?;
            Connack {
                session_present: p.session_present(),
                reason: ReasonCode::from_v311_connack(p.return_code() as u8).ok_or(malformed)?,
                properties: ConnackProperties::default(),
            }
        }
        Version::V5 => {
            let (p, used) = v5_0::Connack::parse(body).map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            check_canonical(kind, body, 2, p.props())?;
            Connack {
                session_present: p.session_present(),
                reason: reason(kind, p.reason_code() as u8)?,
                properties: Bag::from_list(p.props())?.into_connack(),
            }
        }
    };
    Ok(Packet::Connack(Box::new(connack)))
}

fn publish(version: Version, flags: u8, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Publish;
    let malformed = PacketError::Malformed { kind };
    let qos = Qos::from_u8(flags >> 1 & 0b11).ok_or(PacketError::Qos)?;
    let mut cursor = Cursor::new(body);
    cursor.field().ok_or(malformed)?;
    let packet_id = match qos {
        Qos::AtMostOnce => None,
        Qos::AtLeastOnce | Qos::ExactlyOnce => {
            let id = cursor.number().ok_or(malformed)?;
            Some(PacketId::new(id).ok_or(PacketError::PacketIdZero)?)
        }
    };
    let properties_at = cursor.position();
    let payload_at = match version {
        Version::V311 => properties_at,
        Version::V5 => properties_at + block_bytes(kind, body, properties_at)?,
    };
    // The library would keep a copy of the payload: it is only shown what stands before.
    let head = Arc::from(&body[..payload_at]);
    let (topic, bag) = match version {
        Version::V311 => {
            let parsed = v3_1_1::Publish::parse(flags, head);
            let (p, _) = parsed.map_err(|_| publish_fault(version, body, properties_at))?;
            (TopicName::parse(p.topic_name()), Bag::default())
        }
        Version::V5 => {
            let parsed = v5_0::Publish::parse(flags, head);
            let (p, _) = parsed.map_err(|_| publish_fault(version, body, properties_at))?;
            check_canonical(kind, body, properties_at, p.props())?;
            (TopicName::parse(p.topic_name()), Bag::from_list(p.props())?)
        }
    };
    if bag.topic_alias {
        return Err(PacketError::TopicAlias);
    }
    let dup = flags & 0b1000 != 0;
    let delivery = match (qos, packet_id) {
        (Qos::AtLeastOnce, Some(packet_id)) => Delivery::AtLeastOnce { packet_id, dup },
        (Qos::ExactlyOnce, Some(packet_id)) => Delivery::ExactlyOnce { packet_id, dup },
        (Qos::AtMostOnce | Qos::AtLeastOnce | Qos::ExactlyOnce, _) => Delivery::AtMostOnce,
    };
    Ok(Packet::Publish(Publish {
        topic: topic.map_err(PacketError::Topic)?,
        // A copy of its own size: a slice would keep the whole receive buffer alive.
        payload: Bytes::copy_from_slice(&body[payload_at..]),
        delivery,
        retain: flags & 1 != 0,
        subscription_ids: bag.subscription_ids.clone(),
        properties: bag.into_message(),
    }))
}

/// One acknowledgement of both versions.
macro_rules! ack {
    ($name:ident, $kind:ident) => {
        fn $name(version: Version, body: &[u8]) -> Result<Ack, PacketError> {
            let kind = PacketKind::$kind;
            let packet_id = packet_id(kind, body)?;
            match version {
                Version::V311 => {
                    // The library would also take a reason code here.
                    consumed(kind, body, 2)?;
                    let parsed = v3_1_1::$kind::parse(body);
                    parsed.map_err(|_| fault(version, kind, body))?;
                    Ok(Ack::new(packet_id, ReasonCode::Success))
                }
                Version::V5 => {
                    let parsed = v5_0::$kind::parse(body);
                    let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
                    consumed(kind, body, used)?;
                    let reason = reason(kind, p.reason_code().map_or(0, |code| code as u8))?;
                    let (reason_string, user) = notes(kind, body, 3, p.props().as_ref())?;
                    Ok(Ack { packet_id, reason, reason_string, user })
                }
            }
        }
    };
}

ack!(puback, Puback);
ack!(pubrec, Pubrec);
ack!(pubrel, Pubrel);
ack!(pubcomp, Pubcomp);

/// What answers may say beyond their codes.
fn notes(
    kind: PacketKind,
    body: &[u8],
    offset: usize,
    list: Option<&Properties>,
) -> Result<(Option<String>, UserProperties), PacketError> {
    let Some(list) = list else { return Ok((None, UserProperties::new())) };
    check_canonical(kind, body, offset, list)?;
    let bag = Bag::from_list(list)?;
    Ok((bag.reason_string, bag.user))
}

fn subscribe(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Subscribe;
    let packet_id = packet_id(kind, body)?;
    let (entries, bag) = match version {
        Version::V311 => {
            let parsed = v3_1_1::Subscribe::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            (p.entries().iter().map(|e| request(version, e)).collect(), Bag::default())
        }
        Version::V5 => {
            let parsed = v5_0::Subscribe::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            check_canonical(kind, body, 2, p.props())?;
            let entries = p.entries().iter().map(|e| request(version, e)).collect();
            (entries, Bag::from_list(p.props())?)
        }
    };
    // The library lets a SUBSCRIBE have several identifiers; only a PUBLISH may (§3.8.2.1.2).
    let subscription_id = match bag.subscription_ids[..] {
        [] => None,
        [id] => Some(id),
        _ => return Err(PacketError::PropertyTwice { id: 11 }),
    };
    let requests: Result<Vec<SubscribeRequest>, PacketError> = entries;
    Ok(Packet::Subscribe(Subscribe {
        packet_id,
        requests: requests?,
        subscription_id,
        user: bag.user,
    }))
}

fn request(version: Version, entry: &SubEntry) -> Result<SubscribeRequest, PacketError> {
    let [options] = *entry.sub_opts().to_buffer();
    let shared = entry.topic_filter().starts_with("$share/");
    let no_local = options & 0b0100 != 0;
    if (version == Version::V311 && options & !0b11 != 0) || (no_local && shared) {
        return Err(PacketError::SubscribeOptions { options });
    }
    Ok(SubscribeRequest {
        filter: text(entry.topic_filter())?,
        options: SubscribeOptions {
            qos: Qos::from_u8(options & 0b11).ok_or(PacketError::Qos)?,
            no_local,
            retain_as_published: options & 0b1000 != 0,
            retain_handling: match options >> 4 & 0b11 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(PacketError::SubscribeOptions { options }),
            },
        },
    })
}

fn suback(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Suback;
    let packet_id = packet_id(kind, body)?;
    let (codes, reason_string, user) = match version {
        Version::V311 => {
            let parsed = v3_1_1::Suback::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            let codes = p.return_codes().into_iter().map(|code| code as u8).collect();
            (codes, None, UserProperties::new())
        }
        Version::V5 => {
            let parsed = v5_0::Suback::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            let (reason_string, user) = notes(kind, body, 2, Some(p.props()))?;
            let codes = p.reason_codes().into_iter().map(|code| code as u8).collect();
            (codes, reason_string, user)
        }
    };
    Ok(Packet::Suback(Suback { packet_id, reasons: reasons(kind, codes)?, reason_string, user }))
}

fn reasons(kind: PacketKind, codes: Vec<u8>) -> Result<Vec<ReasonCode>, PacketError> {
    codes.into_iter().map(|code| reason(kind, code)).collect()
}

fn unsubscribe(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Unsubscribe;
    let packet_id = packet_id(kind, body)?;
    let (filters, user) = match version {
        Version::V311 => {
            let parsed = v3_1_1::Unsubscribe::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            let filters = p.entries().iter().map(|entry| text(entry.as_str())).collect();
            (filters, UserProperties::new())
        }
        Version::V5 => {
            let parsed = v5_0::Unsubscribe::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            check_canonical(kind, body, 2, p.props())?;
            let filters = p.entries().iter().map(|entry| text(entry.as_str())).collect();
            (filters, Bag::from_list(p.props())?.user)
        }
    };
    let filters: Result<Vec<String>, PacketError> = filters;
    Ok(Packet::Unsubscribe(Unsubscribe { packet_id, filters: filters?, user }))
}

fn unsuback(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Unsuback;
    let packet_id = packet_id(kind, body)?;
    match version {
        Version::V311 => {
            let parsed = v3_1_1::Unsuback::parse(body);
            let (_, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            Ok(Packet::Unsuback(Suback::new(packet_id, Vec::new())))
        }
        Version::V5 => {
            let parsed = v5_0::Unsuback::parse(body);
            let (p, used) = parsed.map_err(|_| fault(version, kind, body))?;
            consumed(kind, body, used)?;
            let (reason_string, user) = notes(kind, body, 2, Some(p.props()))?;
            let codes = p.reason_codes().into_iter().map(|code| code as u8).collect();
            let reasons = reasons(kind, codes)?;
            Ok(Packet::Unsuback(Suback { packet_id, reasons, reason_string, user }))
        }
    }
}

fn disconnect(version: Version, body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Disconnect;
    if version == Version::V311 {
        empty(kind, body)?;
        return Ok(Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    }
    let (p, used) = v5_0::Disconnect::parse(body).map_err(|_| fault(version, kind, body))?;
    consumed(kind, body, used)?;
    let bag = match p.props() {
        Some(list) => {
            check_canonical(kind, body, 1, list)?;
            Bag::from_list(list)?
        }
        None => Bag::default(),
    };
    Ok(Packet::Disconnect(Disconnect {
        reason: reason(kind, p.reason_code().map_or(0, |code| code as u8))?,
        session_expiry_secs: bag.session_expiry_secs,
        reason_string: bag.reason_string,
        server_reference: bag.server_reference,
        user: bag.user,
    }))
}

fn auth(body: &[u8]) -> Result<Packet, PacketError> {
    let kind = PacketKind::Auth;
    let (p, used) = v5_0::Auth::parse(body).map_err(|_| fault(Version::V5, kind, body))?;
    consumed(kind, body, used)?;
    let bag = match p.props() {
        Some(list) => {
            check_canonical(kind, body, 1, list)?;
            Bag::from_list(list)?
        }
        None => Bag::default(),
    };
    Ok(Packet::Auth(Auth {
        reason: reason(kind, p.reason_code().map_or(0, |code| code as u8))?,
        method: bag.authentication_method,
        data: bag.authentication_data,
        reason_string: bag.reason_string,
        user: bag.user,
    }))
}
