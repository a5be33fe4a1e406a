//! Random packets for property tests, valid in the version they are made for.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::*;

pub(crate) fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ä€🦀/]{0,12}"
}

pub(crate) fn topic() -> impl Strategy<Value = TopicName> {
    "[$/a-cä ]{1,8}".prop_map(|text| text.parse().unwrap())
}

fn blob() -> impl Strategy<Value = Bytes> {
    // Beyond 127 the remaining length takes two bytes, beyond 16,383 three.
    prop_oneof![8 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 16_300..16_500)]
        .prop_map(Bytes::from)
}

fn small_blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn user(version: Version) -> BoxedStrategy<UserProperties> {
    match version {
        Version::V311 => Just(Vec::new()).boxed(),
        Version::V5 => vec((text(), text()), 0..4).boxed(),
    }
}

/// A value of 5.0; 3.1.1 has its default.
fn v5<T: Default + Clone + core::fmt::Debug + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    match version {
        Version::V311 => Just(T::default()).boxed(),
        Version::V5 => strategy.boxed(),
    }
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

pub(crate) fn qos() -> impl Strategy<Value = Qos> {
    (0..3_u8).prop_map(|qos| Qos::from_u8(qos).unwrap())
}

fn message(version: Version) -> impl Strategy<Value = MessageProperties> {
    let properties = (
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic()),
        option::of(small_blob()),
        user(version),
    )
        .prop_map(|(utf8, expiry, content_type, response_topic, correlation_data, user)| {
            MessageProperties {
                payload_is_utf8: utf8,
                message_expiry_secs: expiry,
                content_type,
                response_topic,
                correlation_data,
                user,
            }
        });
    v5(version, properties)
}

fn connect_properties(version: Version) -> impl Strategy<Value = ConnectProperties> {
    let properties = (
        option::of(any::<u32>()),
        option::of(1..u16::MAX),
        option::of(1..u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of((text(), option::of(small_blob()))),
        user(version),
    )
        .prop_map(|(expiry, receive, size, aliases, response, problem, auth, user)| {
            let (authentication_method, authentication_data) = auth.unzip();
            ConnectProperties {
                session_expiry_secs: expiry,
                receive_maximum: receive,
                maximum_packet_size: size,
                topic_alias_maximum: aliases,
                request_response_information: response,
                request_problem_information: problem,
                authentication_method,
                authentication_data: authentication_data.flatten(),
                user,
            }
        });
    v5(version, properties)
}

fn connect(version: Version) -> impl Strategy<Value = Packet> {
    let will = (topic(), small_blob(), qos(), any::<bool>(), v5(version, any::<u32>()));
    let will = (will, message(version)).prop_map(
        |((topic, payload, qos, retain, delay_secs), properties)| Will {
            topic,
            payload,
            qos,
            retain,
            delay_secs,
            properties,
        },
    );
    let account = option::of((text(), option::of(small_blob())));
    (text(), any::<bool>(), any::<u16>(), account, option::of(will), connect_properties(version))
        .prop_map(move |(client_id, clean_start, keep_alive_secs, account, will, properties)| {
            let (username, password) = account.unzip();
            Packet::Connect(Box::new(Connect {
                version,
                client_id,
                clean_start,
                keep_alive_secs,
                username,
                password: password.flatten().map(Password),
                will,
                properties,
            }))
        })
}

fn connack_properties(version: Version) -> impl Strategy<Value = ConnackProperties> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(1..u16::MAX),
        option::of(0..2_u8),
        option::of(1..u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let flags = proptest::array::uniform4(option::of(any::<bool>()));
    let texts = proptest::array::uniform5(option::of(text()));
    let properties = (numbers, flags, texts, option::of(small_blob()), user(version)).prop_map(
        |(numbers, flags, texts, data, user)| {
            let (expiry, receive, maximum_qos, size, aliases, keep_alive) = numbers;
            let [retain, wildcard, identifier, shared] = flags;
            let [assigned, reason, information, reference, method] = texts;
            ConnackProperties {
                session_expiry_secs: expiry,
                receive_maximum: receive,
                maximum_qos,
                retain_available: retain,
                maximum_packet_size: size,
                assigned_client_id: assigned,
                topic_alias_maximum: aliases,
                reason_string: reason,
                wildcard_subscription_available: wildcard,
                subscription_identifier_available: identifier,
                shared_subscription_available: shared,
                server_keep_alive_secs: keep_alive,
                response_information: information,
                server_reference: reference,
                authentication_data: data.filter(|_| method.is_some()),
                authentication_method: method,
                user,
            }
        },
    );
    v5(version, properties)
}

fn connack(version: Version) -> impl Strategy<Value = Packet> {
    let reason = match version {
        Version::V311 => (0..6_u8).prop_map(|c| ReasonCode::from_v311_connack(c).unwrap()).boxed(),
        Version::V5 => prop_oneof![
            Just(ReasonCode::Success),
            Just(ReasonCode::BadUserNameOrPassword),
            Just(ReasonCode::QuotaExceeded),
            Just(ReasonCode::ConnectionRateExceeded),
        ]
        .boxed(),
    };
    (any::<bool>(), reason, connack_properties(version)).prop_map(
        |(session_present, reason, properties)| {
            Packet::Connack(Box::new(Connack { session_present, reason, properties }))
        },
    )
}

pub(crate) fn publish(version: Version) -> impl Strategy<Value = Publish> {
    let ids = v5(version, vec(1..=268_435_455_u32, 0..3));
    let delivery =
        (qos(), packet_id(), any::<bool>()).prop_map(|(qos, packet_id, dup)| match qos {
            Qos::AtMostOnce => Delivery::AtMostOnce,
            Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id, dup },
            Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id, dup },
        });
    (topic(), blob(), delivery, any::<bool>(), message(version), ids).prop_map(
        |(topic, payload, delivery, retain, properties, subscription_ids)| Publish {
            topic,
            payload,
            delivery,
            retain,
            properties,
            subscription_ids,
        },
    )
}

fn ack(version: Version, codes: &'static [ReasonCode]) -> impl Strategy<Value = Ack> {
    let reason = match version {
        Version::V311 => Just(ReasonCode::Success).boxed(),
        Version::V5 => proptest::sample::select(codes).boxed(),
    };
    (packet_id(), reason, v5(version, option::of(text())), user(version)).prop_map(
        |(packet_id, reason, reason_string, user)| Ack { packet_id, reason, reason_string, user },
    )
}

fn subscribe(version: Version) -> impl Strategy<Value = Packet> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend),
    ];
    let options = v5(version, (any::<bool>(), any::<bool>(), handling));
    let request = (text(), qos(), options).prop_map(|(filter, qos, options)| {
        let (no_local, retain_as_published, retain_handling) = options;
        SubscribeRequest {
            filter,
            options: SubscribeOptions { qos, no_local, retain_as_published, retain_handling },
        }
    });
    let id = v5(version, option::of(1..=268_435_455_u32));
    (packet_id(), vec(request, 1..5), id, user(version)).prop_map(
        |(packet_id, requests, subscription_id, user)| {
            Packet::Subscribe(Subscribe { packet_id, requests, subscription_id, user })
        },
    )
}

fn suback(
    version: Version,
    codes: &'static [ReasonCode],
    count: core::ops::Range<usize>,
) -> impl Strategy<Value = Suback> {
    let reasons = vec(proptest::sample::select(codes), count);
    (packet_id(), reasons, v5(version, option::of(text())), user(version)).prop_map(
        |(packet_id, reasons, reason_string, user)| Suback {
            packet_id,
            reasons,
            reason_string,
            user,
        },
    )
}

fn goodbye(version: Version) -> impl Strategy<Value = Packet> {
    let reasons: &[ReasonCode] = match version {
        Version::V311 => &[ReasonCode::Success],
        Version::V5 => &[
            ReasonCode::Success,
            ReasonCode::DisconnectWithWill,
            ReasonCode::SessionTakenOver,
            ReasonCode::WildcardSubscriptionsNotSupported,
        ],
    };
    let texts = proptest::array::uniform2(option::of(text()));
    let properties = v5(version, (option::of(any::<u32>()), texts));
    (proptest::sample::select(reasons), properties, user(version)).prop_map(
        |(reason, (session_expiry_secs, [reason_string, server_reference]), user)| {
            Packet::Disconnect(Disconnect {
                reason,
                session_expiry_secs,
                reason_string,
                server_reference,
                user,
            })
        },
    )
}

fn auth() -> impl Strategy<Value = Packet> {
    let reason = prop_oneof![
        Just(ReasonCode::ContinueAuthentication),
        Just(ReasonCode::ReAuthenticate),
        Just(ReasonCode::Success)
    ];
    (reason, text(), option::of(small_blob()), option::of(text()), user(Version::V5)).prop_map(
        |(reason, method, data, reason_string, user)| {
            Packet::Auth(Auth { reason, method: Some(method), data, reason_string, user })
        },
    )
}

/// Any packet that `version` has.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet> {
    const PUBACK: &[ReasonCode] =
        &[ReasonCode::Success, ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded];
    const PUBREL: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
    const SUBACK_V311: &[ReasonCode] = &[
        ReasonCode::Success,
        ReasonCode::GrantedQos1,
        ReasonCode::GrantedQos2,
        ReasonCode::UnspecifiedError,
    ];
    const SUBACK: &[ReasonCode] =
        &[ReasonCode::Success, ReasonCode::GrantedQos2, ReasonCode::TopicFilterInvalid];
    const UNSUBACK: &[ReasonCode] = &[ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    let unsubscribe =
        (packet_id(), vec(text(), 1..5), user(version)).prop_map(|(packet_id, filters, user)| {
            Packet::Unsubscribe(Unsubscribe { packet_id, filters, user })
        });
    let both = prop_oneof![
        connect(version),
        connack(version),
        publish(version).prop_map(Packet::Publish),
        ack(version, PUBACK).prop_map(Packet::Puback),
        ack(version, PUBACK).prop_map(Packet::Pubrec),
        ack(version, PUBREL).prop_map(Packet::Pubrel),
        ack(version, PUBREL).prop_map(Packet::Pubcomp),
        subscribe(version),
        unsubscribe,
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        goodbye(version),
    ];
    match version {
        Version::V311 => prop_oneof![
            12 => both,
            1 => suback(version, SUBACK_V311, 1..5).prop_map(Packet::Suback),
            1 => suback(version, UNSUBACK, 0..1).prop_map(Packet::Unsuback),
        ]
        .boxed(),
        Version::V5 => prop_oneof![
            12 => both,
            1 => suback(version, SUBACK, 1..5).prop_map(Packet::Suback),
            1 => suback(version, UNSUBACK, 1..5).prop_map(Packet::Unsuback),
            1 => auth(),
        ]
        .boxed(),
    }
}
