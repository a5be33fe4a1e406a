//! Bytes of an MQTT peer, as a server and as a client see them.
//!
//! The first byte chooses who listens, the second how the stream is cut, the rest is the stream.
//! Whatever is taken as a packet must be written and read back as itself.
//! Shared by the fuzz target and by the replay of its corpus.

use bytes::BytesMut;
use clock::Instant;
use mqtt::{
    Accept, Client, ClientConfig, Connection, ConnectionConfig, Decoder, Event, Packet, Version,
    encode,
};

const MAX_PACKET_BYTES: u32 = 1 << 20;

/// One input.
pub fn run(data: &[u8]) {
    let [who, cut, stream @ ..] = data else { return };
    let piece = usize::from(*cut).max(1);
    match who % 5 {
        0 => decode(Decoder::server(MAX_PACKET_BYTES), stream, piece),
        1 => decode(Decoder::client(Version::V311, MAX_PACKET_BYTES), stream, piece),
        2 => decode(Decoder::client(Version::V5, MAX_PACKET_BYTES), stream, piece),
        3 => serve(stream, piece),
        _ => connect(stream, piece),
    }
}

fn decode(mut decoder: Decoder, stream: &[u8], piece: usize) {
    for bytes in stream.chunks(piece) {
        decoder.feed(bytes);
        while let Ok(Some(packet)) = decoder.next_packet() {
            let version = decoder.version().expect("a packet tells the version");
            read_back(version, &packet);
        }
    }
    assert!(decoder.buffered() <= stream.len());
}

fn read_back(version: Version, packet: &Packet) {
    // A CONNECT speaks for itself, whatever the stream around it speaks.
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let mut bytes = BytesMut::new();
    let written = encode(version, packet, &mut bytes).expect("what was read can be written");
    assert_eq!(written, bytes.len());
    let mut decoder = if matches!(packet, Packet::Connect(_)) {
        Decoder::server(u32::MAX)
    } else {
        Decoder::client(version, u32::MAX)
    };
    decoder.feed(&bytes);
    assert_eq!(decoder.next_packet(), Ok(Some(packet.clone())));
    assert_eq!(decoder.buffered(), 0);
}

/// A broker that accepts everybody and acknowledges nothing.
fn serve(stream: &[u8], piece: usize) {
    let now = Instant::from_secs(1);
    let mut connection = Connection::new(now, ConnectionConfig::default());
    let mut closed = 0;
    for bytes in stream.chunks(piece) {
        connection.handle_bytes(now, bytes);
        while let Some(event) = connection.poll_event() {
            assert_eq!(closed, 0, "nothing comes after the end");
            if matches!(event, Event::Connect(_)) {
                // It fails only for a client that does not take even a CONNACK.
                let _ = connection.accept(now, Accept::default());
            }
            closed += usize::from(matches!(event, Event::Closed(_)));
        }
        connection.poll_transmit();
    }
    connection.handle_timeout(Instant::from_secs(1_000_000));
    connection.handle_end();
    while let Some(event) = connection.poll_event() {
        closed += usize::from(matches!(event, Event::Closed(_)));
    }
    assert_eq!(closed, 1, "every connection ends once");
}

fn connect(stream: &[u8], piece: usize) {
    let now = Instant::from_secs(1);
    let mut client = Client::new(now, ClientConfig::new(Version::V5, "fuzz"));
    for bytes in stream.chunks(piece) {
        client.handle_bytes(now, bytes);
        while client.poll_event().is_some() {}
        client.poll_transmit();
    }
}
