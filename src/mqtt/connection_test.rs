//! The life of one connection, told through its door: bytes and packets in, events and bytes out.

use bytes::BytesMut;
use clock::{Duration, Instant};

use crate::*;

const START: Instant = Instant::from_secs(1_000);

fn at(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        client_id: "c1".into(),
        clean_start: true,
        keep_alive_secs: 60,
        username: Some("app7".into()),
        password: Some(Password("secret".into())),
        will: None,
        properties: ConnectProperties::default(),
    }
}

fn publish(qos: Qos, packet_id: u16) -> Packet {
    let mut publish = Publish::new("a/b".parse().unwrap(), "hello");
    publish.delivery = match qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { packet_id: id(packet_id), dup: false },
        Qos::ExactlyOnce => Delivery::ExactlyOnce { packet_id: id(packet_id), dup: false },
    };
    Packet::Publish(publish)
}

/// A connection and the client's side of its stream.
struct Pair {
    version: Version,
    server: Connection,
    decoder: Decoder,
}

impl Pair {
    fn new(version: Version, config: ConnectionConfig) -> Self {
        let decoder = Decoder::client(version, u32::MAX);
        Self { version, server: Connection::new(START, config), decoder }
    }

    /// Connected and accepted at `START`.
    fn open(version: Version, config: ConnectionConfig) -> Self {
        let mut pair = Self::new(version, config);
        pair.connect(connect(version));
        pair.server.accept(START, Accept::default()).unwrap();
        assert!(matches!(pair.received()[..], [Packet::Connack(_)]));
        pair
    }

    fn connect(&mut self, connect: Connect) {
        self.send(0, &Packet::Connect(Box::new(connect.clone())));
        assert_eq!(self.server.poll_event(), Some(Event::Connect(Box::new(connect))));
    }

    fn send(&mut self, millis: u64, packet: &Packet) {
        let mut bytes = BytesMut::new();
        encode(self.version, packet, &mut bytes).unwrap();
        self.server.handle_bytes(at(millis), &bytes);
    }

    fn received(&mut self) -> Vec<Packet> {
        while let Some(bytes) = self.server.poll_transmit() {
            self.decoder.feed(&bytes);
        }
        let mut packets = Vec::new();
        while let Some(packet) = self.decoder.next_packet().unwrap() {
            packets.push(packet);
        }
        packets
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// The connection ended just now, for this cause; returns whether the will goes out.
    fn closed(&mut self, cause: CloseCause) -> bool {
        match &self.events()[..] {
            [Event::Closed(closed)] => {
                assert_eq!(closed.cause, cause);
                assert_eq!(self.server.poll_timeout(), None);
                assert!(!self.server.wants_bytes());
                closed.publish_will
            }
            events => panic!("not just closed: {events:?}"),
        }
    }
}

fn connack_reason(packets: &[Packet]) -> ReasonCode {
    match packets {
        [Packet::Connack(connack)] => connack.reason,
        packets => panic!("not just CONNACK: {packets:?}"),
    }
}

fn disconnect_reason(packets: &[Packet]) -> ReasonCode {
    match packets {
        [Packet::Disconnect(disconnect)] => disconnect.reason,
        packets => panic!("not just DISCONNECT: {packets:?}"),
    }
}

#[test]
fn connack_tells_the_offers() {
    let config = ConnectionConfig {
        max_keep_alive_secs: Some(30),
        retain_available: false,
        maximum_qos: Qos::AtLeastOnce,
        ..ConnectionConfig::default()
    };
    let mut pair = Pair::new(Version::V5, config);
    pair.connect(Connect { client_id: String::new(), ..connect(Version::V5) });
    let accept = Accept {
        session_present: false,
        assigned_client_id: Some("tern-1".into()),
        session_expiry_secs: Some(7_200),
    };
    pair.server.accept(START, accept).unwrap();
    let expected = Connack {
        session_present: false,
        reason: ReasonCode::Success,
        properties: ConnackProperties {
            session_expiry_secs: Some(7_200),
            receive_maximum: Some(100),
            maximum_qos: Some(1),
            retain_available: Some(false),
            maximum_packet_size: Some(1_048_576),
            assigned_client_id: Some("tern-1".into()),
            server_keep_alive_secs: Some(30),
            ..ConnackProperties::default()
        },
    };
    assert_eq!(pair.received(), [Packet::Connack(Box::new(expected))]);
    assert_eq!(pair.server.poll_timeout(), Some((at(45_000), "keep_alive")));
}

#[test]
fn what_follows_connect_waits_for_the_verdict() {
    for version in [Version::V311, Version::V5] {
        let mut pair = Pair::new(version, ConnectionConfig::default());
        pair.connect(connect(version));
        pair.send(1, &publish(Qos::AtMostOnce, 1));
        assert_eq!(pair.events(), []);
        pair.server.accept(at(2), Accept::default()).unwrap();
        assert!(matches!(pair.events()[..], [Event::Publish(_)]));
        assert_eq!(pair.server.accept(at(3), Accept::default()), Err(SendError::NotOpen));

        let mut pair = Pair::new(version, ConnectionConfig::default());
        pair.connect(connect(version));
        pair.send(1, &publish(Qos::AtMostOnce, 1));
        pair.server.refuse(ReasonCode::NotAuthorized);
        assert_eq!(connack_reason(&pair.received()), ReasonCode::NotAuthorized);
        assert!(!pair.closed(CloseCause::Refused(ReasonCode::NotAuthorized)));
    }
}

#[test]
fn too_much_before_the_verdict_ends_it() {
    let mut pair = Pair::new(Version::V5, ConnectionConfig::default());
    pair.connect(connect(Version::V5));
    pair.server.handle_bytes(at(1), &[0; 65_536]);
    assert!(!pair.server.wants_bytes());
    pair.server.handle_bytes(at(1), &[0; 65_537]);
    assert!(!pair.closed(CloseCause::Overflow));
}

#[test]
fn levels_that_are_not_served() {
    for (name, level, answer) in [
        (&b"\0\x04MQTT"[..], 3, &[0x20, 2, 0, 1][..]),
        (&b"\0\x06MQIsdp"[..], 3, &[0x20, 2, 0, 1]),
        (&b"\0\x04MQTT"[..], 6, &[0x20, 3, 0, 0x84, 0]),
    ] {
        let mut server = Connection::new(START, ConnectionConfig::default());
        let body = [name, &[level, 2, 0, 60, 0, 0]].concat();
        let bytes = [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat();
        server.handle_bytes(START, &bytes);
        assert_eq!(server.poll_transmit().as_deref(), Some(answer));
        let Some(Event::Closed(closed)) = server.poll_event() else { panic!("not closed") };
        assert_eq!(closed.cause, CloseCause::Packet(PacketError::ProtocolLevel { level }));
    }
}

#[test]
fn what_is_no_connect_is_not_answered() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\0", b"\xC0\0", b"\0", b"\x30"]
    {
        let mut server = Connection::new(START, ConnectionConfig::default());
        server.handle_bytes(START, bytes);
        assert_eq!(server.poll_transmit(), None);
        assert!(matches!(server.poll_event(), Some(Event::Closed(_))));
        server.handle_bytes(START, bytes);
        assert_eq!(server.poll_event(), None);
    }
}

#[test]
fn connects_refused_without_the_broker() {
    let nameless = Connect { client_id: String::new(), ..connect(Version::V311) };
    let nameless = Connect { clean_start: false, ..nameless };
    let long = |version| Connect { client_id: "x".repeat(257), ..connect(version) };
    let mut enhanced = connect(Version::V5);
    enhanced.properties.authentication_method = Some("SCRAM".into());
    let id_invalid = ReasonCode::ClientIdentifierNotValid;
    for (connect, cause, reason) in [
        (nameless, CloseCause::ClientId, id_invalid),
        (long(Version::V311), CloseCause::ClientId, id_invalid),
        (long(Version::V5), CloseCause::ClientId, id_invalid),
        (enhanced, CloseCause::AuthenticationMethod, ReasonCode::BadAuthenticationMethod),
    ] {
        let mut pair = Pair::new(connect.version, ConnectionConfig::default());
        pair.send(0, &Packet::Connect(Box::new(connect)));
        assert_eq!(connack_reason(&pair.received()), reason);
        assert!(!pair.closed(cause));
    }
}

#[test]
fn deadlines() {
    let config = ConnectionConfig::default();
    let mut pair = Pair::new(Version::V5, config.clone());
    assert_eq!(pair.server.poll_timeout(), Some((at(10_000), "connect")));
    pair.server.handle_bytes(at(9_000), &[0x10]);
    pair.server.handle_timeout(at(9_999));
    assert_eq!(pair.events(), []);
    pair.server.handle_timeout(at(10_000));
    assert!(!pair.closed(CloseCause::ConnectTimeout));
    assert_eq!(pair.received(), []);

    let mut pair = Pair::new(Version::V5, config.clone());
    pair.connect(connect(Version::V5));
    pair.server.handle_timeout(at(10_000));
    assert_eq!(connack_reason(&pair.received()), ReasonCode::ServerUnavailable);
    assert!(!pair.closed(CloseCause::VerdictTimeout));

    let mut pair = Pair::open(Version::V5, config.clone());
    pair.send(80_000, &Packet::Pingreq);
    assert_eq!(pair.received(), [Packet::Pingresp]);
    pair.server.handle_timeout(at(90_000));
    assert_eq!(pair.server.poll_timeout(), Some((at(170_000), "keep_alive")));
    pair.server.handle_timeout(at(170_000));
    assert_eq!(disconnect_reason(&pair.received()), ReasonCode::KeepAliveTimeout);
    assert!(pair.closed(CloseCause::KeepAlive));
}

#[test]
fn a_slow_writer_is_ended() {
    let mut pair = Pair::new(Version::V311, ConnectionConfig::default());
    pair.connect(Connect { keep_alive_secs: 0, ..connect(Version::V311) });
    pair.server.accept(START, Accept::default()).unwrap();
    assert_eq!(pair.server.poll_timeout(), None);
    // One byte of a packet every ten seconds.
    for (millis, byte) in [(0, 0x30), (10_000, 0x7F), (20_000, 0), (30_000, 1), (59_999, b'a')] {
        pair.server.handle_bytes(at(millis), &[byte]);
        assert_eq!(pair.server.poll_timeout(), Some((at(60_000), "packet")));
    }
    pair.server.handle_timeout(at(60_000));
    assert!(pair.closed(CloseCause::PacketTimeout));
}

#[test]
fn a_slow_reader_is_ended() {
    let config = ConnectionConfig { max_out_bytes: 1_000, ..ConnectionConfig::default() };
    let mut pair = Pair::open(Version::V5, config);
    let mut sent = 0;
    while pair.server.is_writable() {
        pair.server.send(START, publish(Qos::AtMostOnce, 1)).unwrap();
        sent += 1;
    }
    assert_eq!(sent, 39, "13 bytes each, up to half of the bound");
    let result = loop {
        if let Err(error) = pair.server.send(START, publish(Qos::AtMostOnce, 1)) {
            break error;
        }
    };
    assert_eq!(result, SendError::SlowReader);
    assert_eq!(pair.received(), [], "what waited is let go");
    assert!(pair.closed(CloseCause::SlowReader));
    assert_eq!(pair.server.send(START, Packet::Pingresp), Err(SendError::NotOpen));
}

#[test]
fn protocol_faults_of_an_open_connection() {
    let mut identified = Publish::new("a".parse().unwrap(), "");
    identified.subscription_ids = vec![1];
    let unexpected = |kind| CloseCause::Unexpected { kind };
    let protocol = ReasonCode::ProtocolError;
    let method = Some("SCRAM".into());
    let auth = Auth {
        reason: ReasonCode::ReAuthenticate,
        method,
        data: None,
        reason_string: None,
        user: Vec::new(),
    };
    let mut longer = Disconnect::new(ReasonCode::Success);
    longer.session_expiry_secs = Some(60);
    let again = Packet::Connect(Box::new(connect(Version::V5)));
    for (packet, cause, reason) in [
        (again, CloseCause::SecondConnect, protocol),
        (Packet::Pingresp, unexpected(PacketKind::Pingresp), protocol),
        (Packet::Auth(auth), unexpected(PacketKind::Auth), protocol),
        (Packet::Publish(identified), CloseCause::SubscriptionId, protocol),
        (Packet::Disconnect(longer), CloseCause::SessionExpiry, protocol),
        (publish(Qos::ExactlyOnce, 1), CloseCause::Qos, ReasonCode::QosNotSupported),
    ] {
        let config =
            ConnectionConfig { maximum_qos: Qos::AtLeastOnce, ..ConnectionConfig::default() };
        let mut pair = Pair::open(Version::V5, config);
        pair.send(5, &packet);
        assert_eq!(disconnect_reason(&pair.received()), reason, "{cause:?}");
        assert!(pair.closed(cause), "the will goes out");
    }
    // 3.1.1 has no DISCONNECT from the server.
    let mut pair = Pair::open(Version::V311, ConnectionConfig::default());
    pair.send(5, &Packet::Connect(Box::new(connect(Version::V311))));
    assert_eq!(pair.received(), []);
    assert!(pair.closed(CloseCause::SecondConnect));
}

#[test]
fn a_broken_packet_is_told_and_counted() {
    let mut pair = Pair::open(Version::V5, ConnectionConfig::default());
    pair.server.handle_bytes(at(1), &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(disconnect_reason(&pair.received()), ReasonCode::PacketTooLarge);
    let Some(Event::Closed(closed)) = pair.server.poll_event() else { panic!("not closed") };
    assert_eq!(closed.cause.name(), "too_large");
}

#[test]
fn leaving() {
    for (version, reason, will) in [
        (Version::V311, ReasonCode::Success, false),
        (Version::V5, ReasonCode::Success, false),
        (Version::V5, ReasonCode::DisconnectWithWill, true),
        (Version::V5, ReasonCode::UnspecifiedError, true),
    ] {
        let mut pair = Pair::open(version, ConnectionConfig::default());
        pair.send(5, &Packet::Disconnect(Disconnect::new(reason)));
        pair.send(6, &publish(Qos::AtMostOnce, 1));
        assert_eq!(pair.received(), []);
        assert_eq!(pair.closed(CloseCause::ClientLeft { reason }), will);
    }
    let mut pair = Pair::open(Version::V5, ConnectionConfig::default());
    pair.server.handle_end();
    pair.server.handle_end();
    assert_eq!(pair.received(), []);
    assert!(pair.closed(CloseCause::StreamEnded));
    let mut pair = Pair::open(Version::V5, ConnectionConfig::default());
    pair.server.disconnect(ReasonCode::SessionTakenOver);
    assert_eq!(disconnect_reason(&pair.received()), ReasonCode::SessionTakenOver);
    assert!(pair.closed(CloseCause::Broker(ReasonCode::SessionTakenOver)));
}

#[test]
fn a_v5_client_beyond_the_window_is_ended() {
    let config = ConnectionConfig { receive_maximum: 2, ..ConnectionConfig::default() };
    let mut pair = Pair::open(Version::V5, config);
    pair.send(1, &publish(Qos::AtLeastOnce, 1));
    pair.send(1, &publish(Qos::ExactlyOnce, 2));
    let ack = |packet_id| Ack::new(id(packet_id), ReasonCode::Success);
    pair.server.send(at(2), Packet::Puback(ack(1))).unwrap();
    pair.server.send(at(2), Packet::Pubrec(ack(2))).unwrap();
    pair.send(3, &publish(Qos::AtLeastOnce, 3));
    assert_eq!(pair.events().len(), 3);
    // Packet id 2 counts until its PUBCOMP.
    pair.send(4, &publish(Qos::AtLeastOnce, 4));
    assert!(pair.closed(CloseCause::ReceiveMaximum));
}

#[test]
fn a_311_client_beyond_the_window_waits() {
    let config = ConnectionConfig { receive_maximum: 2, ..ConnectionConfig::default() };
    let mut pair = Pair::open(Version::V311, config);
    for packet_id in 1..=5 {
        pair.send(1, &publish(Qos::AtLeastOnce, packet_id));
    }
    assert_eq!(pair.events().len(), 2);
    assert!(!pair.server.wants_bytes());
    assert_eq!(pair.server.poll_timeout(), None, "its silence is ours");
    for (packet_id, millis) in [(1, 200_000), (2, 200_001), (3, 200_002)] {
        let ack = Ack::new(id(packet_id), ReasonCode::Success);
        pair.server.send(at(millis), Packet::Puback(ack)).unwrap();
        assert_eq!(pair.events().len(), 1);
    }
    assert!(!pair.server.wants_bytes());
    let ack = Ack::new(id(4), ReasonCode::Success);
    pair.server.send(at(200_003), Packet::Puback(ack)).unwrap();
    assert!(pair.server.wants_bytes());
    assert_eq!(pair.server.poll_timeout(), Some((at(290_003), "keep_alive")));
}

#[test]
fn subscriptions_come_parsed_and_a_wrong_one_stands_alone() {
    let mut pair = Pair::open(Version::V5, ConnectionConfig::default());
    let request = |filter: &str| SubscribeRequest {
        filter: filter.into(),
        options: SubscribeOptions { qos: Qos::AtLeastOnce, ..SubscribeOptions::default() },
    };
    let requests = vec![request("a/#"), request("a/#/b"), request("$share/g/x")];
    let subscribe =
        Subscribe { packet_id: id(9), requests, subscription_id: Some(5), user: Vec::new() };
    pair.send(1, &Packet::Subscribe(subscribe));
    let Some(Event::Subscribe(event)) = pair.server.poll_event() else { panic!("no event") };
    assert_eq!(event.subscription_id, Some(5));
    let reasons: Vec<_> = event
        .requests
        .iter()
        .map(|(filter, options)| match filter {
            Ok(_) => options.qos.granted(),
            Err(error) => error.suback_reason(),
        })
        .collect();
    let granted = ReasonCode::GrantedQos1;
    assert_eq!(reasons, [granted, ReasonCode::TopicFilterInvalid, granted]);
    pair.server.send(at(2), Packet::Suback(Suback::new(id(9), reasons.clone()))).unwrap();
    assert_eq!(pair.received(), [Packet::Suback(Suback::new(id(9), reasons))]);
}

#[test]
fn what_the_client_does_not_want_is_not_sent() {
    let mut pair = Pair::new(Version::V5, ConnectionConfig::default());
    let properties = ConnectProperties {
        maximum_packet_size: Some(40),
        request_problem_information: Some(false),
        receive_maximum: Some(7),
        ..ConnectProperties::default()
    };
    pair.connect(Connect { properties, ..connect(Version::V5) });
    pair.server.accept(START, Accept::default()).unwrap();
    assert_eq!(pair.server.receive_maximum(), 7);
    pair.received();
    let mut large = Publish::new("a".parse().unwrap(), vec![0; 100]);
    let error = SendError::TooLarge { bytes: 106, limit: 40 };
    assert_eq!(pair.server.send(START, Packet::Publish(large.clone())), Err(error));
    large.payload.truncate(10);
    pair.server.send(START, Packet::Publish(large.clone())).unwrap();
    let mut ack = Ack::new(id(1), ReasonCode::QuotaExceeded);
    ack.reason_string = Some("full".into());
    pair.server.send(START, Packet::Puback(ack)).unwrap();
    let bare = Ack::new(id(1), ReasonCode::QuotaExceeded);
    assert_eq!(pair.received(), [Packet::Publish(large), Packet::Puback(bare)]);
    let kind = PacketKind::Pingreq;
    assert_eq!(pair.server.send(START, Packet::Pingreq), Err(SendError::Kind { kind }));
}
