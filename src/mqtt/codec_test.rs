//! What is written reads back, in any pieces; what is not a packet never panics.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::strategies::packet;
use crate::*;

fn decoder(version: Version, of: &Packet) -> Decoder {
    if of.kind() == PacketKind::Connect {
        Decoder::server(1 << 20)
    } else {
        Decoder::client(version, 1 << 20)
    }
}

fn bytes(version: Version, packet: &Packet) -> BytesMut {
    let mut out = BytesMut::new();
    let written = encode(version, packet, &mut out).unwrap();
    assert_eq!(written, out.len());
    out
}

fn round_trip(version: Version, packet: &Packet) -> Result<(), TestCaseError> {
    // A CONNECT speaks for itself, whatever the stream around it speaks.
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let bytes = bytes(version, packet);
    let mut decoder = decoder(version, packet);
    decoder.feed(&bytes);
    prop_assert_eq!(decoder.next_packet(), Ok(Some(packet.clone())));
    prop_assert_eq!(decoder.next_packet(), Ok(None));
    prop_assert_eq!(decoder.version(), Some(version));
    Ok(())
}

proptest! {
    #[test]
    fn v311_packets_read_back(packet in packet(Version::V311)) {
        round_trip(Version::V311, &packet)?;
    }

    #[test]
    fn v5_packets_read_back(packet in packet(Version::V5)) {
        round_trip(Version::V5, &packet)?;
    }

    #[test]
    fn a_stream_in_any_pieces_is_the_same_packets(
        packets in proptest::collection::vec(packet(Version::V5), 1..8),
        piece in 1..50_usize,
    ) {
        let mut stream = BytesMut::new();
        for packet in &packets {
            encode(Version::V5, packet, &mut stream).unwrap();
        }
        let mut decoder = Decoder::client(Version::V5, 1 << 20);
        let mut read = Vec::new();
        for piece in stream.chunks(piece) {
            decoder.feed(piece);
            while let Some(packet) = decoder.next_packet().unwrap() {
                read.push(packet);
            }
        }
        prop_assert_eq!(read, packets);
        prop_assert_eq!(decoder.buffered(), 0);
    }

    /// A packet with one byte changed is refused or is another packet, which reads back itself.
    #[test]
    fn a_changed_packet_never_panics(
        version in prop_oneof![Just(Version::V311), Just(Version::V5)],
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut runner = proptest::test_runner::TestRunner::new_with_rng(
            ProptestConfig::default(),
            proptest::test_runner::TestRng::from_seed(
                proptest::test_runner::RngAlgorithm::ChaCha,
                &seed.to_le_bytes().repeat(4),
            ),
        );
        let packet = packet(version).new_tree(&mut runner).unwrap().current();
        let mut bytes = bytes(version, &packet);
        let at = at.index(bytes.len().min(64));
        bytes[at] = value;
        let mut decoder = decoder(version, &packet);
        decoder.feed(&bytes);
        if let Ok(Some(other)) = decoder.next_packet() {
            let version = decoder.version().unwrap();
            round_trip(version, &other)?;
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for mut decoder in [
            Decoder::server(1 << 20),
            Decoder::client(Version::V311, 1 << 20),
            Decoder::client(Version::V5, 1 << 20),
        ] {
            decoder.feed(&bytes);
            while let Ok(Some(packet)) = decoder.next_packet() {
                round_trip(decoder.version().unwrap(), &packet)?;
            }
        }
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let topic: TopicName = "a".parse().unwrap();
    let long = "x".repeat(65_536);
    let id = PacketId::new(1).unwrap();
    let mut publish = Publish::new(topic, "");
    publish.properties.content_type = Some("a\0".into());
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.reason_string = Some(long.clone());
    let subscribe =
        Subscribe { packet_id: id, requests: Vec::new(), subscription_id: None, user: Vec::new() };
    let unsubscribe = Unsubscribe { packet_id: id, filters: vec![long], user: Vec::new() };
    let field = |kind| EncodeError::Field { kind };
    let table = [
        (Packet::Publish(publish), field(PacketKind::Publish)),
        (Packet::Disconnect(disconnect), field(PacketKind::Disconnect)),
        (Packet::Subscribe(subscribe), field(PacketKind::Subscribe)),
        (Packet::Unsubscribe(unsubscribe), field(PacketKind::Unsubscribe)),
        (
            Packet::Connect(Box::new(ClientConfig::new(Version::V311, "c").connect)),
            EncodeError::Version { kind: PacketKind::Connect },
        ),
        (
            Packet::Puback(Ack::new(id, ReasonCode::KeepAliveTimeout)),
            EncodeError::Reason { kind: PacketKind::Puback, reason: ReasonCode::KeepAliveTimeout },
        ),
    ];
    for (packet, error) in table {
        let mut out = BytesMut::new();
        assert_eq!(encode(Version::V5, &packet, &mut out), Err(error));
        assert!(out.is_empty());
    }
}

#[test]
fn a_refusal_becomes_a_return_code_in_311() {
    let connack = |reason| {
        let properties = ConnackProperties::default();
        Packet::Connack(Box::new(Connack { session_present: false, reason, properties }))
    };
    for (reason, code) in [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
    ] {
        assert_eq!(bytes(Version::V311, &connack(reason))[..], [0x20, 2, 0, code]);
    }
}
