//! Datagrams that no forwarder sends. Source: PROTOCOL.TXT §3-§6 (packet_forwarder 4.0.1).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::{Tern, eventually};

use super::{Counters, Picture, SOON, counted, local_json, resident_kib, seen, server, watched};

const GATEWAY: [u8; 8] = [0xA8, 0x40, 0x41, 0xFF, 0xFE, 0x00, 0x00, 0x01];
const REFUSED: &str = "tern_gateway_refused_total";
const FLOOD: usize = 16_000;
/// Lengths of a PHYPayload at which something begins or ends.
const LENGTHS: [usize; 13] = [1, 4, 5, 11, 12, 13, 19, 23, 24, 33, 64, 254, 255];
/// Gateways that one listener remembers without knowing them.
const UNKNOWN_MAX: usize = 256;

fn head(version: u8, kind: u8, gateway: [u8; 8]) -> Vec<u8> {
    let mut bytes = vec![version, 0x12, 0x34, kind];
    bytes.extend(gateway);
    bytes
}

fn datagram(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = head(2, kind, GATEWAY);
    bytes.extend_from_slice(body);
    bytes
}

fn push(body: &str) -> Vec<u8> {
    datagram(0, body.as_bytes())
}

fn rxpk(phy_payload: &[u8]) -> String {
    let radio = r#""freq":868.1,"stat":1,"modu":"LORA","datr":"SF7BW125","codr":"4/5""#;
    let (size, data) = (phy_payload.len(), STANDARD.encode(phy_payload));
    let rest = format!(r#""rssi":-50,"lsnr":8.0,"size":{size},"data":"{data}""#);
    format!(r#"{{"tmst":1000,"chan":0,"rfch":1,{radio},{rest}}}"#)
}

/// One good frame with a part of its text replaced.
fn bent(from: &str, to: &str) -> Vec<u8> {
    let good = rxpk(&[0x40; 20]);
    let bad = good.replacen(from, to, 1);
    assert_ne!(good, bad, "{from} is there to be replaced");
    push(&format!(r#"{{"rxpk":[{bad}]}}"#))
}

/// Name, datagram, and the reason under which it is counted once.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let full = |body: &[u8]| {
        let mut bytes = datagram(0, body);
        bytes.resize(65_507, b' ');
        bytes
    };
    let deep = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        push(&format!(r#"{{"rxpk":{open}{close}}}"#))
    };
    let mut cases = heads();
    cases.extend([
        ("no body", push(""), "json"),
        ("65,507 bytes that are no head", vec![b'A'; 65_507], "version"),
        ("65,507 bytes cut off", full(br#"{"rxpk":["#), "json"),
        ("65,507 bytes of nothing much", full(b"{}"), "empty"),
        ("an array", push("[[]]"), "shape"),
        ("a number", push("7"), "shape"),
        ("a field twice", push(r#"{"rxpk":[],"rxpk":[]}"#), "shape"),
        ("neither rxpk nor stat", push(r#"{"x":1}"#), "empty"),
        ("NaN", bent("-50", "NaN"), "json"),
        ("nested 20 deep", deep(20), "nesting"),
        ("nested 30,000 deep", deep(30_000), "nesting"),
        ("invalid UTF-8", datagram(0, b"{\"rxpk\":[\"\xFF\xFE\"]}"), "utf8"),
        ("a byte order mark", push("\u{FEFF}{\"rxpk\":[]}"), "byte_order_mark"),
        ("statistics of texts", push(r#"{"stat":{"rxnb":"many"}}"#), "shape"),
        ("a frame's field twice", bent(r#""chan":0"#, r#""chan":0,"chan":1"#), "fields"),
        ("a frame's data twice", bent(r#""size":"#, r#""data":"QEBA","size":"#), "fields"),
        ("a counter beyond 64 bits", bent("1000", "99999999999999999999"), "fields"),
        ("a counter below zero", bent("1000", "-1"), "fields"),
        ("1e400", bent("-50", "1e400"), "fields"),
        ("a frequency of 1e30", bent("868.1", "1e30"), "frequency"),
        ("size unlike data", bent(r#""size":20"#, r#""size":21"#), "size"),
        ("data that is not base64", bent("QEBA", "Q*BA"), "base64"),
        ("no data", push(&format!(r#"{{"rxpk":[{}]}}"#, rxpk(&[]))), "payload_length"),
        ("256 bytes", push(&format!(r#"{{"rxpk":[{}]}}"#, rxpk(&[1; 256]))), "payload_length"),
        ("a modulation", bent("SF7BW125", "SF77BW1"), "modulation"),
        ("a state of 7", bent(r#""stat":1"#, r#""stat":7"#), "stat"),
        ("a wrong checksum", bent(r#""stat":1"#, r#""stat":-1"#), "crc_bad"),
        ("TX_ACK for nothing", datagram(5, b""), "unknown_token"),
    ]);
    cases
}

fn heads() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        ("empty", Vec::new(), "too_short"),
        ("1 byte", vec![2], "too_short"),
        ("11 bytes", head(2, 2, GATEWAY)[..11].to_vec(), "too_short"),
        ("version 0", head(0, 2, GATEWAY), "version"),
        ("version 3", head(3, 2, GATEWAY), "version"),
        ("version 255", head(255, 2, GATEWAY), "version"),
        ("PUSH_ACK from a gateway", head(2, 1, GATEWAY), "type"),
        ("PULL_RESP from a gateway", head(2, 3, GATEWAY), "type"),
        ("type 255", head(2, 255, GATEWAY), "type"),
        ("EUI 0", head(2, 2, [0; 8]), "gateway_eui"),
        ("EUI ff..ff", head(2, 2, [0xFF; 8]), "gateway_eui"),
        ("PULL_DATA with a body", datagram(2, b"x"), "too_long"),
    ]
}

/// A gateway at the server's port.
fn gateway(tern: &Tern) -> UdpSocket {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.connect(tern.udp()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Asks until the server answers: a real gateway would have lost nothing else.
fn is_served(socket: &UdpSocket) {
    let mut answer = [0; 16];
    eventually("PULL_ACK", SOON, || {
        socket.send(&head(2, 2, GATEWAY)).ok()?;
        loop {
            let length = socket.recv(&mut answer).ok()?;
            if answer[..length] == [2, 0x12, 0x34, 4] {
                return Some(());
            }
        }
    });
}

/// Datagrams that the kernel dropped before the server could take them.
fn dropped(tern: &Tern) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("Linux");
    let own = format!(":{:04X}", tern.udp().port());
    let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let of = |row: Vec<&str>| {
        let own = row.get(1)?.ends_with(&own);
        own.then(|| row.last()?.parse::<u64>().ok()).flatten()
    };
    rows.filter_map(of).sum()
}

#[test]
fn datagrams_that_no_forwarder_sends() {
    let tern = server();
    tern.ok(&["gateway", "add", "a84041fffe000001", "--name", "roof"]);
    let socket = gateway(&tern);
    is_served(&socket);
    let before = Picture::of(&tern);
    each_is_counted_and_shown(&tern, &socket);
    every_mhdr(&tern, &socket);
    let first = flood(&tern, &socket);
    let second = flood(&tern, &socket);
    println!("resident after one flood {first} KiB, after two {second} KiB");
    assert!(second <= first + 4 * 1_024, "a flood leaves memory behind: {first}, {second} KiB");
    unknown_gateways(&tern, &socket);
    is_served(&socket);
    before.compare(&tern, 48 * 1_024);
}

fn each_is_counted_and_shown(tern: &Tern, socket: &UdpSocket) {
    let at = socket.local_addr().unwrap();
    for (case, bytes, reason) in cases() {
        let expected = Counters::read(tern).get(REFUSED, reason) + 1;
        let shown = |lines: &[(String, String)]| {
            let of_here = format!("from {at}: ");
            lines.iter().filter(|(_, verdict)| verdict.starts_with(&of_here)).count()
        };
        let lines = shown(&watched(tern));
        socket.send(&bytes).unwrap_or_else(|error| panic!("{case}: {error}"));
        counted(tern, REFUSED, reason, expected, case);
        assert_eq!(shown(&watched(tern)), lines + 1, "{case}: one line for who watches");
    }
    is_served(socket);
}

/// Every first byte at every length of interest, from a registered gateway, eight frames at a time
/// as real forwarders send them.
fn every_mhdr(tern: &Tern, socket: &UdpSocket) {
    let refused = |counters: &Counters| counters.sum("tern_uplinks_refused_total");
    let before = Counters::read(tern);
    let mut frames = 0;
    for length in LENGTHS {
        let mut waiting = Vec::new();
        for mhdr in 0..=255_u8 {
            let mut frame = [mhdr.wrapping_mul(31); 255][..length].to_vec();
            frame[0] = mhdr;
            waiting.push(rxpk(&frame));
        }
        for frames in waiting.chunks(8) {
            socket.send(&push(&format!(r#"{{"rxpk":[{}]}}"#, frames.join(",")))).unwrap();
        }
        frames += 256;
        // One length at a time, so that the kernel need not drop any.
        let expected = refused(&before) + frames;
        let mut seen = 0;
        eventually(&format!("{length} bytes: each MHDR counted"), SOON, || {
            seen = refused(&Counters::read(tern));
            (seen >= expected).then_some(())
        });
        assert_eq!(seen, expected, "{length} bytes: each frame is counted once");
    }
    let after = Counters::read(tern);
    assert_eq!(after.sum("tern_uplinks_total"), before.sum("tern_uplinks_total"), "none is taken");
    for reason in ["parse", "unserved", "unknown_dev_addr", "unknown_dev_eui"] {
        assert!(after.get("tern_uplinks_refused_total", reason) > 0, "{reason} is among them");
    }
    seen(tern, "uplink", "");
    seen(tern, "join", "unknown DevEUI");
}

/// All cases over and over, as fast as 16,000 in a second or two.
///
/// * Returns the resident memory after it, in KiB.
fn flood(tern: &Tern, socket: &UdpSocket) -> u64 {
    // The two largest would be a flood of bytes, not of datagrams.
    let cases: Vec<_> = cases().into_iter().filter(|(_, bytes, _)| bytes.len() < 2_000).collect();
    let (before, lost) = (Counters::read(tern).sum(REFUSED), dropped(tern));
    let began = Instant::now();
    for number in 0..FLOOD {
        socket.send(&cases[number % cases.len()].1).unwrap();
        if number % 160 == 159 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let took = began.elapsed();
    is_served(socket);
    let mut accounted = 0;
    eventually("each datagram is counted, here or by the kernel", SOON, || {
        accounted = Counters::read(tern).sum(REFUSED) - before + dropped(tern) - lost;
        (accounted >= FLOOD as u64).then_some(())
    });
    assert_eq!(accounted, FLOOD as u64, "each datagram is counted once");
    println!("{FLOOD} in {took:?}, {} dropped by the kernel", dropped(tern) - lost);
    // The flood's end is told with the next line.
    std::thread::sleep(Duration::from_millis(1_050));
    socket.send(&[]).unwrap();
    seen(tern, "gateway", "more lines of this kind were not shown");
    resident_kib(tern)
}

/// Gateways that nobody registered, by the thousand: answered, counted, listed up to a bound.
fn unknown_gateways(tern: &Tern, socket: &UdpSocket) {
    const GATEWAYS: u16 = 5_000;
    let unregistered =
        |tern: &Tern| Counters::read(tern).get(REFUSED, "unregistered_gateway") + dropped(tern);
    let before = unregistered(tern);
    let body = format!(r#"{{"rxpk":[{}]}}"#, rxpk(&[0x40; 20]));
    for number in 0..GATEWAYS {
        let mut eui = [0x0A, 0, 0, 0, 0, 0, 0, 0];
        eui[6..].copy_from_slice(&number.to_be_bytes());
        let mut bytes = head(2, 0, eui);
        bytes.extend_from_slice(body.as_bytes());
        socket.send(&bytes).unwrap();
        if number % 50 == 49 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    eventually("each frame of an unknown gateway is counted", SOON, || {
        (unregistered(tern) >= before + u64::from(GATEWAYS)).then_some(())
    });
    let listed = local_json(tern, "/api/v1/gateways/unknown");
    let listed = listed["result"].as_array().unwrap_or_else(|| panic!("{listed}")).len();
    assert_eq!(listed, UNKNOWN_MAX, "the list is bounded, and full");
    std::thread::sleep(Duration::from_millis(1_050));
    socket.send(&head(2, 2, [0x0B; 8])).unwrap();
    seen(tern, "gateway", "unknown gateway 0b0b0b0b0b0b0b0b");
}
