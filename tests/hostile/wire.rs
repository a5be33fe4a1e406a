//! MQTT packets written and read by hand, so that nothing here depends on the codec under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::SOON;

/// A text with its length before it.
pub(super) fn text(text: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend_from_slice(text);
    bytes
}

/// A packet with its remaining length.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest % 128).expect("below 128");
        rest /= 128;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// CONNECT with a clean session.
///
/// * `level`: 4 for 3.1.1, 5 for 5.0.
/// * `properties`: the encoded properties of 5.0.
pub(super) fn connect(level: u8, id: &str, account: Option<(&str, &str)>, props: &[u8]) -> Vec<u8> {
    let mut body = text(b"MQTT");
    body.extend([level, if account.is_some() { 0xC2 } else { 0x02 }, 0, 60]);
    if level == 5 {
        body.push(u8::try_from(props.len()).expect("short"));
        body.extend_from_slice(props);
    }
    body.extend(text(id.as_bytes()));
    if let Some((name, password)) = account {
        body.extend(text(name.as_bytes()));
        body.extend(text(password.as_bytes()));
    }
    packet(0x10, &body)
}

/// PUBLISH of 3.1.1; QoS 1 if there is a packet id.
pub(super) fn publish(topic: &[u8], id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if let Some(id) = id {
        body.extend(id.to_be_bytes());
    }
    body.extend_from_slice(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}

/// SUBSCRIBE of 3.1.1.
pub(super) fn subscribe(id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(text(filter.as_bytes()));
    body.push(qos);
    packet(0x82, &body)
}

/// A connection.
pub(super) struct Peer {
    stream: TcpStream,
}

impl Peer {
    pub(super) fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the port is open");
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A client that the server has accepted.
    pub(super) fn accepted(to: SocketAddr, level: u8, id: &str, account: (&str, &str)) -> Self {
        let mut peer = Self::open(to);
        peer.send(&connect(level, id, Some(account), &[]));
        let (first, body) = peer.read().expect("CONNACK");
        assert_eq!((first, body[1]), (0x20, 0), "{id}: accepted");
        peer
    }

    /// Its port, as the server names it.
    pub(super) fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    /// Writes; a server that has had enough may have closed already.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet: first byte and body; `None` at the end of the stream.
    pub(super) fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.byte()?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((first, body))
    }

    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither an answer nor the end: {error}"),
        }
    }

    /// Reads on until the server closes.
    pub(super) fn is_closed(&mut self, case: &str) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{case}: the server does not close: {error}"),
        }
    }

    /// A question whose answer shows that this client is still served.
    pub(super) fn is_served(&mut self) {
        self.send(&packet(0xC0, &[]));
        assert_eq!(self.read(), Some((0xD0, Vec::new())), "PINGRESP");
    }

    /// Leaves politely.
    pub(super) fn leave(mut self) {
        self.send(&packet(0xE0, &[]));
        self.is_closed("DISCONNECT");
    }
}
