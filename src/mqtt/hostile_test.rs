//! Bytes that must be refused, each with its reason: the table of bad input of this layer.

use crate::*;

/// A field behind its two-byte length.
fn field(text: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

/// A packet of a first byte and the parts of its body.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 128, "one byte of remaining length");
    let mut out = vec![first, u8::try_from(body.len()).unwrap()];
    out.extend(body);
    out
}

fn decode(mut decoder: Decoder, bytes: &[u8]) -> Result<Option<Packet>, PacketError> {
    decoder.feed(bytes);
    decoder.next_packet()
}

fn refused(version: Version, table: &[(&str, Vec<u8>, PacketError)]) {
    for (what, bytes, error) in table {
        let result = decode(Decoder::client(version, 1 << 20), bytes);
        assert_eq!(result, Err(*error), "{what}");
    }
}

#[test]
fn framing() {
    for version in [Version::V311, Version::V5] {
        refused(
            version,
            &[
                (
                    "five-byte varint",
                    vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                    PacketError::RemainingLength,
                ),
                (
                    "four continued bytes",
                    vec![0x30, 0x80, 0x80, 0x80, 0x80],
                    PacketError::RemainingLength,
                ),
                ("overlong varint", vec![0xC0, 0x80, 0x00], PacketError::RemainingLength),
                ("type 0", vec![0x00, 0x00], PacketError::ReservedType { kind: 0 }),
                (
                    "an HTTP request",
                    b"GET / HTTP/1.1\r\n".to_vec(),
                    PacketError::ReservedFlags { kind: PacketKind::Puback, flags: 7 },
                ),
                (
                    "SUBSCRIBE with flags 0",
                    vec![0x80],
                    PacketError::ReservedFlags { kind: PacketKind::Subscribe, flags: 0 },
                ),
                ("QoS 3", vec![0x36], PacketError::Qos),
                ("QoS 3 with DUP and retain", vec![0x3F], PacketError::Qos),
                ("DUP at QoS 0", vec![0x38], PacketError::DupAtQos0),
                (
                    "PINGREQ with a body",
                    vec![0xC0, 1, 0],
                    PacketError::LeftOver { kind: PacketKind::Pingreq },
                ),
            ],
        );
    }
    refused(
        Version::V311,
        &[
            ("AUTH in 3.1.1", vec![0xF0, 0], PacketError::ReservedType { kind: 15 }),
            (
                "DISCONNECT with a body",
                vec![0xE0, 1, 0],
                PacketError::LeftOver { kind: PacketKind::Disconnect },
            ),
            (
                "PUBACK with a reason",
                vec![0x40, 3, 0, 1, 0],
                PacketError::LeftOver { kind: PacketKind::Puback },
            ),
        ],
    );
}

#[test]
fn a_told_length_reserves_nothing() {
    let mut decoder = Decoder::client(Version::V5, 1 << 28);
    // 268,435,455 bytes told, none sent.
    decoder.feed(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(
        decoder.next_packet(),
        Err(PacketError::TooLarge { told: 268_435_460, limit: 1 << 28 })
    );
    assert_eq!(decoder.buffered(), 0, "and what follows is not kept");
    decoder.feed(&[0; 1000]);
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn limits_are_exact() {
    let topic = field(b"t");
    let payload = vec![0; 100];
    let whole = packet(0x30, &[&topic, &payload]);
    let limit = u32::try_from(whole.len()).unwrap();
    assert!(decode(Decoder::client(Version::V311, limit), &whole).unwrap().is_some());
    // The length alone is enough to refuse it.
    let error = PacketError::TooLarge { told: u64::from(limit), limit: limit - 1 };
    assert_eq!(decode(Decoder::client(Version::V311, limit - 1), &whole[..2]), Err(error));
    // 16 KiB before CONNECT, 64 KiB for all but PUBLISH.
    let told = [0x10, 0x81, 0x80, 0x01];
    let error = PacketError::TooLarge { told: 16_389, limit: MAX_CONNECT_BYTES };
    assert_eq!(decode(Decoder::server(1 << 20), &told), Err(error));
    let told = [0x82, 0x81, 0x80, 0x04];
    let error = PacketError::TooLarge { told: 65_541, limit: MAX_CONTROL_BYTES };
    assert_eq!(decode(Decoder::client(Version::V5, 1 << 20), &told), Err(error));
    let told = [0x30, 0x81, 0x80, 0x04];
    assert_eq!(decode(Decoder::client(Version::V5, 1 << 20), &told), Ok(None));
}

#[test]
fn before_connect() {
    let table: [(&str, Vec<u8>, PacketError); 12] = [
        ("PUBLISH first", vec![0x30, 0], PacketError::NotConnected { kind: PacketKind::Publish }),
        ("PINGREQ first", vec![0xC0, 0], PacketError::NotConnected { kind: PacketKind::Pingreq }),
        ("no protocol", connect(b"HTTP", 4, 2, &[]), PacketError::ProtocolName),
        ("MQTT 3.1", connect(b"MQIsdp", 3, 2, &[]), PacketError::ProtocolLevel { level: 3 }),
        ("level 0", connect(b"MQTT", 0, 2, &[]), PacketError::ProtocolLevel { level: 0 }),
        ("level 6", connect(b"MQTT", 6, 2, &[]), PacketError::ProtocolLevel { level: 6 }),
        ("reserved flag", connect(b"MQTT", 4, 3, b"\0\0"), flags(3)),
        ("will QoS 3", connect(b"MQTT", 4, 0b0001_1110, b"\0\0\0\x01t\0\0"), flags(0b0001_1110)),
        ("will retain without will", connect(b"MQTT", 4, 0b0010_0010, b"\0\0"), flags(0b0010_0010)),
        ("password alone", connect(b"MQTT", 4, 0b0100_0010, b"\0\0\0\0"), flags(0b0100_0010)),
        (
            "client id cut short",
            connect(b"MQTT", 4, 2, b"\0\x05abc"),
            PacketError::Malformed { kind: PacketKind::Connect },
        ),
        (
            "bytes behind",
            connect(b"MQTT", 4, 2, b"\0\0\0"),
            PacketError::LeftOver { kind: PacketKind::Connect },
        ),
    ];
    for (what, bytes, error) in table {
        assert_eq!(decode(Decoder::server(1 << 20), &bytes), Err(error), "{what}");
    }
}

fn flags(flags: u8) -> PacketError {
    PacketError::ConnectFlags { flags }
}

/// CONNECT with keep-alive 60 and `rest` behind it.
fn connect(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    packet(0x10, &[&field(name), &[level, flags, 0, 60], rest])
}

#[test]
fn connect_details() {
    let will = |topic: &[u8]| [&field(b"id")[..], &field(topic), &field(b"gone")].concat();
    let nul = [&field(b"a\0b")[..]].concat();
    let twice = [&[6, 33, 0, 1, 33, 0, 2][..], &field(b"")].concat();
    let table = [
        ("client id with U+0000", connect(b"MQTT", 4, 2, &nul), PacketError::Nul),
        ("client id no UTF-8", connect(b"MQTT", 4, 2, &field(b"\xFF")), PacketError::Utf8),
        ("surrogate", connect(b"MQTT", 4, 2, &field(b"\xED\xA0\x80")), PacketError::Utf8),
        (
            "will topic with a wildcard",
            connect(b"MQTT", 4, 6, &will(b"a/#")),
            PacketError::Topic(TopicError::WildcardInName),
        ),
        (
            "will topic empty",
            connect(b"MQTT", 4, 6, &will(b"")),
            PacketError::Topic(TopicError::Empty),
        ),
        ("will topic no UTF-8", connect(b"MQTT", 4, 6, &will(b"\xC0")), PacketError::Utf8),
        (
            "username no UTF-8",
            connect(b"MQTT", 4, 0x82, &[field(b""), field(b"\x80")].concat()),
            PacketError::Utf8,
        ),
        (
            "receive maximum twice",
            connect(b"MQTT", 5, 2, &twice),
            PacketError::PropertyTwice { id: 33 },
        ),
        ("receive maximum 0", connect(b"MQTT", 5, 2, b"\x03\x21\0\0\0\0"), PacketError::Property),
        (
            "topic alias",
            connect(b"MQTT", 5, 2, b"\x03\x23\0\x01\0\0"),
            PacketError::PropertyMisplaced { id: 35, kind: PacketKind::Connect },
        ),
        ("property 0", connect(b"MQTT", 5, 2, b"\x01\0\0\0"), PacketError::Property),
        (
            "properties past the end",
            connect(b"MQTT", 5, 2, b"\x7F"),
            PacketError::Malformed { kind: PacketKind::Connect },
        ),
        (
            "property length overlong",
            connect(b"MQTT", 5, 2, b"\x80\0\0\0"),
            PacketError::LeftOver { kind: PacketKind::Connect },
        ),
        (
            "properties told too long",
            connect(b"MQTT", 5, 2, b"\xFF\xFF\xFF\x7F\0\0"),
            PacketError::PropertiesTooLong { told: 268_435_455 },
        ),
    ];
    for (what, bytes, error) in table {
        assert_eq!(decode(Decoder::server(1 << 20), &bytes), Err(error), "{what}");
    }
}

#[test]
fn publishes_of_311() {
    refused(
        Version::V311,
        &[
            ("empty", vec![0x30, 0], PacketError::Malformed { kind: PacketKind::Publish }),
            ("one byte", vec![0x30, 1, 0], PacketError::Malformed { kind: PacketKind::Publish }),
            ("topic length 0", packet(0x30, &[&field(b"")]), PacketError::Topic(TopicError::Empty)),
            (
                "topic past the end",
                packet(0x30, &[b"\0\x09abc"]),
                PacketError::Malformed { kind: PacketKind::Publish },
            ),
            ("U+0000", packet(0x30, &[&field(b"a\0")]), PacketError::Topic(TopicError::Nul)),
            ("no UTF-8", packet(0x30, &[&field(b"a\xFF")]), PacketError::Utf8),
            (
                "wildcard",
                packet(0x30, &[&field(b"a/+")]),
                PacketError::Topic(TopicError::WildcardInName),
            ),
            ("packet id 0", packet(0x32, &[&field(b"a"), &[0, 0]]), PacketError::PacketIdZero),
            (
                "packet id cut short",
                packet(0x32, &[&field(b"a"), &[1]]),
                PacketError::Malformed { kind: PacketKind::Publish },
            ),
        ],
    );
}

#[test]
fn publishes_of_5() {
    let id = [0, 1];
    refused(
        Version::V5,
        &[
            (
                "no property length",
                packet(0x30, &[&field(b"a")]),
                PacketError::Malformed { kind: PacketKind::Publish },
            ),
            (
                "content type twice",
                packet(0x32, &[&field(b"a"), &id, b"\x08\x03\0\x01a\x03\0\x01b"]),
                PacketError::PropertyTwice { id: 3 },
            ),
            (
                "session expiry",
                packet(0x30, &[&field(b"a"), b"\x05\x11\0\0\0\x01"]),
                PacketError::PropertyMisplaced { id: 17, kind: PacketKind::Publish },
            ),
            (
                "payload format 2",
                packet(0x30, &[&field(b"a"), b"\x02\x01\x02"]),
                PacketError::Property,
            ),
            (
                "subscription id 0",
                packet(0x30, &[&field(b"a"), b"\x02\x0B\0"]),
                PacketError::Property,
            ),
            (
                "subscription id overlong",
                packet(0x30, &[&field(b"a"), b"\x03\x0B\x81\0"]),
                PacketError::LeftOver { kind: PacketKind::Publish },
            ),
            (
                "topic alias",
                packet(0x30, &[&field(b"a"), b"\x03\x23\0\x01"]),
                PacketError::TopicAlias,
            ),
            ("alias for a topic", packet(0x30, &[b"\0\0\x03\x23\0\x01"]), PacketError::TopicAlias),
            (
                "topic alias 0",
                packet(0x30, &[&field(b"a"), b"\x03\x23\0\0"]),
                PacketError::Property,
            ),
            (
                "response topic with a wildcard",
                packet(0x30, &[&field(b"a"), b"\x04\x08\0\x01#"]),
                PacketError::Topic(TopicError::WildcardInName),
            ),
            (
                "user property with U+0000",
                packet(0x30, &[&field(b"a"), b"\x06\x26\0\x01\0\0\0"]),
                PacketError::Nul,
            ),
            (
                "property past the block",
                packet(0x30, &[&field(b"a"), b"\x02\x02\0\0\0\0"]),
                PacketError::Property,
            ),
        ],
    );
}

#[test]
fn everything_else_of_311() {
    let sub = PacketKind::Subscribe;
    refused(
        Version::V311,
        &[
            ("PUBACK id 0", packet(0x40, &[&[0, 0]]), PacketError::PacketIdZero),
            ("PUBREL id 0", packet(0x62, &[&[0, 0]]), PacketError::PacketIdZero),
            (
                "SUBSCRIBE id 0",
                packet(0x82, &[&[0, 0], &field(b"a"), &[0]]),
                PacketError::PacketIdZero,
            ),
            (
                "PUBCOMP of one byte",
                packet(0x70, &[&[1]]),
                PacketError::Malformed { kind: PacketKind::Pubcomp },
            ),
            ("SUBSCRIBE to nothing", packet(0x82, &[&[0, 1]]), PacketError::NoFilter { kind: sub }),
            (
                "UNSUBSCRIBE from nothing",
                packet(0xA2, &[&[0, 1]]),
                PacketError::NoFilter { kind: PacketKind::Unsubscribe },
            ),
            ("QoS 3", packet(0x82, &[&[0, 1], &field(b"a"), &[3]]), PacketError::Qos),
            (
                "options of 5.0",
                packet(0x82, &[&[0, 1], &field(b"a"), &[4]]),
                PacketError::SubscribeOptions { options: 4 },
            ),
            (
                "reserved options",
                packet(0x82, &[&[0, 1], &field(b"a"), &[0x40]]),
                PacketError::SubscribeOptions { options: 0x40 },
            ),
            (
                "no options",
                packet(0x82, &[&[0, 1], &field(b"a")]),
                PacketError::Malformed { kind: sub },
            ),
            ("filter no UTF-8", packet(0x82, &[&[0, 1], &field(b"\xFE"), &[0]]), PacketError::Utf8),
            ("filter with U+0000", packet(0x82, &[&[0, 1], &field(b"\0"), &[0]]), PacketError::Nul),
            (
                "SUBACK of 3",
                packet(0x90, &[&[0, 1, 3]]),
                PacketError::Malformed { kind: PacketKind::Suback },
            ),
            (
                "CONNACK of 6",
                packet(0x20, &[&[0, 6]]),
                PacketError::Malformed { kind: PacketKind::Connack },
            ),
        ],
    );
}

#[test]
fn everything_else_of_5() {
    refused(
        Version::V5,
        &[
            (
                "retain handling 3",
                packet(0x82, &[&[0, 1, 0], &field(b"a"), &[0x30]]),
                PacketError::SubscribeOptions { options: 0x30 },
            ),
            (
                "no local of a shared subscription",
                packet(0x82, &[&[0, 1, 0], &field(b"$share/g/a"), &[4]]),
                PacketError::SubscribeOptions { options: 4 },
            ),
            (
                "two subscription identifiers",
                packet(0x82, &[&[0, 1], b"\x04\x0B\x01\x0B\x02", &field(b"a"), &[0]]),
                PacketError::PropertyTwice { id: 11 },
            ),
            (
                "reason string twice",
                packet(0x40, &[&[0, 1, 0], b"\x06\x1F\0\0\x1F\0\0"]),
                PacketError::PropertyTwice { id: 31 },
            ),
            (
                "PUBACK of no reason",
                packet(0x40, &[&[0, 1, 1]]),
                PacketError::Malformed { kind: PacketKind::Puback },
            ),
            (
                "session expiry twice",
                packet(0xE0, &[&[0], b"\x0A\x11\0\0\0\x01\x11\0\0\0\x01"]),
                PacketError::PropertyTwice { id: 17 },
            ),
            (
                "AUTH without a method",
                packet(0xF0, &[&[0x18, 0]]),
                PacketError::Malformed { kind: PacketKind::Auth },
            ),
            (
                "UNSUBACK about nothing",
                packet(0xB0, &[&[0, 1, 0]]),
                PacketError::NoFilter { kind: PacketKind::Unsuback },
            ),
        ],
    );
}

#[test]
fn a_broken_stream_stays_broken() {
    let mut decoder = Decoder::client(Version::V5, 1 << 20);
    decoder.feed(&[0x00, 0xC0, 0x00]);
    let error = Err(PacketError::ReservedType { kind: 0 });
    assert_eq!(decoder.next_packet(), error);
    decoder.feed(&[0xC0, 0x00]);
    assert_eq!(decoder.next_packet(), error);
}

#[test]
fn what_a_peer_is_told() {
    let kind = PacketKind::Publish;
    for (error, reason) in [
        (PacketError::TooLarge { told: 2, limit: 1 }, ReasonCode::PacketTooLarge),
        (PacketError::Topic(TopicError::Empty), ReasonCode::TopicNameInvalid),
        (PacketError::PropertyTwice { id: 1 }, ReasonCode::ProtocolError),
        (PacketError::ProtocolLevel { level: 6 }, ReasonCode::UnsupportedProtocolVersion),
        (PacketError::Malformed { kind }, ReasonCode::MalformedPacket),
    ] {
        assert_eq!(error.reason(), reason);
        assert!(error.reason().is_error());
    }
}
