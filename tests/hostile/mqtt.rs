//! MQTT clients that break the protocol, lie about who they are, ask for what is not theirs, or do
//! not read. Source: MQTT 5.0 §2 to §4.13, MQTT 3.1.1 likewise.

use std::time::Duration;

use tests::Tern;

use super::wire::{Peer, connect, packet, publish, subscribe, text};
use super::{Counters, Picture, counted, resident_kib, seen, server};

const CLOSED: &str = "tern_mqtt_closed_total";
const REFUSED: &str = "tern_mqtt_refused_total";
/// Payload of a flood, in bytes, and how many of them: 40 MB in all.
const PAYLOAD: usize = 100_000;
const MESSAGES: usize = 400;

/// An application with an account that may publish.
pub(super) struct Tenant {
    pub(super) application: String,
    pub(super) name: String,
    pub(super) password: String,
}

impl Tenant {
    pub(super) fn add(tern: &Tern, name: &str) -> Self {
        let application = tern.json(&["application", "add", name]);
        let made = tern.json(&["mqtt-user", "add", name, "--application", name, "--publish"]);
        let field = |value: &serde_json::Value, field: &str| {
            value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
        };
        Self {
            application: field(&application, "id"),
            name: name.to_owned(),
            password: field(&made, "password"),
        }
    }

    pub(super) fn account(&self) -> (&str, &str) {
        (&self.name, &self.password)
    }

    /// A topic of the application that is nobody's downlink and nobody's event.
    pub(super) fn topic(&self) -> String {
        format!("application/{}/talk", self.application)
    }
}

#[test]
fn clients_that_break_the_protocol_or_do_not_read() {
    let tern = server();
    let (red, blue) = (Tenant::add(&tern, "red"), Tenant::add(&tern, "blue"));
    let before = Picture::of(&tern);
    // Its ten seconds run while the others are at work.
    let mut silent = Peer::open(tern.mqtt());
    let mut begins = Peer::open(tern.mqtt());
    begins.send(&connect(4, "begins", Some(red.account()), &[])[..20]);
    let mut slow = Peer::accepted(tern.mqtt(), 4, "slow", red.account());
    let mut stuck = Peer::accepted(tern.mqtt(), 4, "stuck", red.account());
    let mut bystander = Peer::accepted(tern.mqtt(), 4, "bystander", blue.account());
    broken_before_connect(&tern, &red);
    broken_after_connect(&tern, &red);
    a_length_that_is_only_told(&tern, &red);
    nobody_without_an_account(&tern, &red);
    bystander.is_served();
    std::thread::sleep(Duration::from_millis(1_050));
    what_is_not_theirs(&tern, &red, &blue);
    one_that_does_not_read(&tern, &red, &mut slow);
    drop(slow);
    one_that_acknowledges_nothing(&tern, &red, &mut stuck);
    drop(stuck);
    bystander.is_served();
    silent.is_closed("no CONNECT at all");
    begins.is_closed("half a CONNECT");
    counted(&tern, CLOSED, "connect_timeout", 2, "no CONNECT at all, and half a one");
    seen(&tern, "mqtt", &format!("127.0.0.1:{}: no CONNECT in time", silent.port()));
    bystander.leave();
    before.compare(&tern, 48 * 1_024);
}

/// Sends it; the server closes, counts the reason once, and shows who it was.
fn is_thrown_out(tern: &Tern, case: &str, mut peer: Peer, bytes: &[u8], reason: &str) {
    let expected = Counters::read(tern).get(CLOSED, reason) + 1;
    peer.send(bytes);
    peer.is_closed(case);
    counted(tern, CLOSED, reason, expected, case);
    seen(tern, "mqtt", &format!("127.0.0.1:{}", peer.port()));
}

fn broken_before_connect(tern: &Tern, red: &Tenant) {
    let account = Some(red.account());
    let twice = [0x11, 0, 0, 0, 9, 0x11, 0, 0, 0, 9];
    let misplaced = [0x0B, 1];
    let mut level_7 = connect(4, "x", account, &[]);
    level_7[8] = 7;
    let mut flags = connect(4, "x", account, &[]);
    flags[9] |= 1;
    let mut will_qos_3 = connect(4, "x", account, &[]);
    will_qos_3[9] |= 0x1C;
    for (case, bytes, reason) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "not_connected"),
        ("PUBLISH first", publish(b"a", None, b"x"), "not_connected"),
        ("type 0", vec![0, 0], "reserved_type"),
        ("a 5-byte length in CONNECT", vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 1], "remaining_length"),
        ("a CONNECT told to be large", vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], "too_large"),
        ("level 7", level_7, "protocol_level"),
        ("a reserved flag", flags, "connect_flags"),
        ("a will of QoS 3", will_qos_3, "connect_flags"),
        ("a property twice", connect(5, "x", account, &twice), "property_twice"),
        ("a property of PUBLISH", connect(5, "x", account, &misplaced), "property_misplaced"),
        ("a client id with U+0000", connect(4, "x\0y", account, &[]), "nul"),
        ("a client id of 300 bytes", connect(4, &"x".repeat(300), account, &[]), "client_id"),
    ] {
        is_thrown_out(tern, case, Peer::open(tern.mqtt()), &bytes, reason);
    }
}

fn broken_after_connect(tern: &Tern, red: &Tenant) {
    let own = red.topic().into_bytes();
    let mut nul = own.clone();
    nul.push(0);
    let mut not_utf8 = own.clone();
    not_utf8.push(0xFF);
    let mut qos_3 = publish(&own, Some(1), b"x");
    qos_3[0] = 0x36;
    let mut cut = text(&own);
    cut.truncate(4);
    for (case, bytes, reason) in [
        ("a 5-byte length", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], "remaining_length"),
        ("256 MB told", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], "too_large"),
        ("a topic of length 0", publish(b"", None, b"x"), "topic_empty"),
        ("U+0000 in a topic", publish(&nul, None, b"x"), "topic_nul"),
        ("a topic that is not UTF-8", publish(&not_utf8, None, b"x"), "utf8"),
        ("a wildcard in a topic", publish(b"application/#", None, b""), "topic_wildcard_in_name"),
        ("a topic cut short", packet(0x30, &cut), "malformed"),
        ("PUBLISH with packet id 0", publish(&own, Some(0), b"x"), "packet_id_zero"),
        ("SUBSCRIBE with packet id 0", subscribe(0, "application/#", 0), "packet_id_zero"),
        ("PUBLISH with QoS 3", qos_3, "qos_3"),
        ("SUBSCRIBE with QoS 3", subscribe(1, "application/#", 3), "qos_3"),
        ("SUBSCRIBE without a filter", packet(0x82, &[0, 1]), "no_filter"),
        ("SUBSCRIBE with flags 0", packet(0x80, &[0, 1, 0, 1, b'a', 0]), "reserved_flags"),
        ("CONNACK from a client", packet(0x20, &[0, 0]), "unexpected_packet"),
        ("a second CONNECT", connect(4, "y", Some(red.account()), &[]), "second_connect"),
    ] {
        let peer = Peer::accepted(tern.mqtt(), 4, "red", red.account());
        is_thrown_out(tern, case, peer, &bytes, reason);
        // Thinned beyond 50 lines a second, and this is about each of them.
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut alias = text(&own);
    alias.extend([6, 0x23, 0, 1, 0x23, 0, 1]);
    let peer = Peer::accepted(tern.mqtt(), 5, "red", red.account());
    is_thrown_out(
        tern,
        "a property of PUBLISH twice",
        peer,
        &packet(0x30, &alias),
        "property_twice",
    );
}

/// Many who tell the largest length that is taken and send almost nothing cost almost nothing.
fn a_length_that_is_only_told(tern: &Tern, red: &Tenant) {
    let before = resident_kib(tern);
    let told: Vec<_> = (0..200)
        .map(|number| {
            let id = format!("told-{number}");
            let mut peer = Peer::accepted(tern.mqtt(), 4, &id, red.account());
            // 1 MiB less the head: below the limit, so it waits for the rest.
            peer.send(&[0x30, 0xF0, 0xFF, 0x3F, 0, 1]);
            peer
        })
        .collect();
    let grown = resident_kib(tern).saturating_sub(before);
    assert!(grown < 32 * 1_024, "200 MiB told, {grown} KiB taken");
    drop(told);
    counted(tern, CLOSED, "stream_ended", 200, "those who left");
}

fn nobody_without_an_account(tern: &Tern, red: &Tenant) {
    // Return code 4 of 3.1.1, and 0x86 of 5.0: wrong name or password, not told apart.
    for (level, code) in [(4, 4), (5, 0x86)] {
        for (case, account) in [
            ("anonymous", None),
            ("unknown account", Some(("nobody", "x"))),
            ("wrong password", Some((red.name.as_str(), "x"))),
            ("no password", Some((red.name.as_str(), ""))),
            ("another's password", Some(("blue", red.password.as_str()))),
        ] {
            let reason = "bad_user_name_or_password";
            let expected = Counters::read(tern).get(CLOSED, reason) + 1;
            let mut peer = Peer::open(tern.mqtt());
            peer.send(&connect(level, "x", account, &[]));
            let (first, body) = peer.read().unwrap_or_else(|| panic!("{case}: no CONNACK"));
            assert_eq!((first, body[1]), (0x20, code), "{case}, level {level}");
            peer.is_closed(case);
            counted(tern, CLOSED, reason, expected, case);
        }
    }
}

/// Red may neither hear nor speak in blue's application, nor forge an event in its own.
fn what_is_not_theirs(tern: &Tern, red: &Tenant, blue: &Tenant) {
    let mut hears = Peer::accepted(tern.mqtt(), 4, "hears", blue.account());
    hears.send(&subscribe(1, "application/#", 1));
    assert_eq!(hears.read(), Some((0x90, vec![0, 1, 1])), "wider than the account, so filtered");
    let mut red_peer = Peer::accepted(tern.mqtt(), 4, "speaks", red.account());
    red_peer.send(&subscribe(1, &format!("application/{}/#", blue.application), 0));
    assert_eq!(red_peer.read(), Some((0x90, vec![0, 1, 0x80])), "blue's topics");
    red_peer.send(&subscribe(2, "#", 0));
    assert_eq!(red_peer.read(), Some((0x90, vec![0, 2, 0])), "what red may see of all");

    let eui = "0102030405060708";
    let of_blue = format!("application/{}/device/{eui}", blue.application);
    let of_red = format!("application/{}/device/{eui}", red.application);
    let down = br#"{"devEui":"0102030405060708","fPort":1,"data":"AQ=="}"#;
    for topic in [
        format!("{of_blue}/command/down"),
        format!("{of_blue}/event/up"),
        blue.topic(),
        format!("{of_red}/event/up"),
        format!("{of_red}/event/join"),
        "$SYS/broker".to_owned(),
        "elsewhere".to_owned(),
    ] {
        // 3.1.1 has no word for a refusal: it is acknowledged and goes nowhere.
        red_peer.send(&publish(topic.as_bytes(), Some(7), down));
        assert_eq!(red_peer.read(), Some((0x40, vec![0, 7])), "{topic}");
        seen(tern, "mqtt", &format!("red/speaks may not publish on {topic}"));
    }
    counted(tern, REFUSED, "not_allowed", 7, "topics that are not red's");
    counted(tern, REFUSED, "not_authorized", 1, "a subscription that is not red's");
    seen(tern, "mqtt", &format!("subscription to application/{}/#", blue.application));
    red_peer.send(&publish(format!("{of_red}/command/down").as_bytes(), Some(8), down));
    assert_eq!(red_peer.read(), Some((0x40, vec![0, 8])));
    counted(tern, REFUSED, "bad_command", 1, "a downlink for a device that is not there");

    // Blue has heard nothing of it, and red nothing of blue: the next each hears is its own.
    let mut blue_peer = Peer::accepted(tern.mqtt(), 4, "blue", blue.account());
    blue_peer.send(&publish(blue.topic().as_bytes(), None, b"blue"));
    assert_eq!(
        hears.read(),
        Some((0x30, [text(blue.topic().as_bytes()), b"blue".into()].concat()))
    );
    blue_peer.is_served();
    red_peer.send(&publish(red.topic().as_bytes(), None, b"red"));
    let own = Some((0x30, [text(red.topic().as_bytes()), b"red".into()].concat()));
    assert_eq!(red_peer.read(), own, "red hears red alone");
    for peer in [hears, red_peer, blue_peer] {
        peer.leave();
    }
}

/// A subscriber that never reads costs a bound, and holds up neither the speaker nor who reads.
fn one_that_does_not_read(tern: &Tern, red: &Tenant, slow: &mut Peer) {
    slow.send(&subscribe(1, &red.topic(), 0));
    assert_eq!(slow.read(), Some((0x90, vec![0, 1, 0])));
    let mut reads = Peer::accepted(tern.mqtt(), 4, "reads", red.account());
    reads.send(&subscribe(1, &red.topic(), 0));
    assert_eq!(reads.read(), Some((0x90, vec![0, 1, 0])));
    let before = resident_kib(tern);
    let mut speaks = Peer::accepted(tern.mqtt(), 4, "speaks", red.account());
    let message = publish(red.topic().as_bytes(), None, &vec![b'x'; PAYLOAD]);
    for number in 0..MESSAGES {
        speaks.send(&message);
        let (first, body) = reads.read().expect("a message");
        assert_eq!((first, body.len()), (0x30, 2 + red.topic().len() + PAYLOAD), "{number}");
    }
    speaks.is_served();
    let grown = resident_kib(tern).saturating_sub(before);
    assert!(grown < 24 * 1_024, "40 MB for one who does not read: {grown} KiB kept");
    let dropped = Counters::read(tern).get(REFUSED, "slow_reader_qos0");
    assert!(dropped >= 200, "{dropped} of {MESSAGES} messages counted as dropped");
    // It may seem to read while the kernel's buffers grow, and be told of again.
    let told = Counters::read(tern).get(REFUSED, "slow_reader");
    assert!((1..=20).contains(&told), "{told} times told of one client that does not read");
    seen(tern, "mqtt", "red/slow does not read");
    for peer in [reads, speaks] {
        peer.leave();
    }
}

/// At QoS 1 what is not acknowledged waits, up to a bound in bytes, and the speaker is not held up.
fn one_that_acknowledges_nothing(tern: &Tern, red: &Tenant, stuck: &mut Peer) {
    stuck.send(&subscribe(1, &red.topic(), 1));
    assert_eq!(stuck.read(), Some((0x90, vec![0, 1, 1])));
    let before = resident_kib(tern);
    let mut speaks = Peer::accepted(tern.mqtt(), 4, "speaks", red.account());
    let message = publish(red.topic().as_bytes(), Some(9), &vec![b'x'; PAYLOAD]);
    for number in 0..MESSAGES {
        speaks.send(&message);
        assert_eq!(speaks.read(), Some((0x40, vec![0, 9])), "{number}");
    }
    let grown = resident_kib(tern).saturating_sub(before);
    assert!(grown < 32 * 1_024, "40 MB for one who acknowledges nothing: {grown} KiB kept");
    let dropped = Counters::read(tern).get(REFUSED, "slow_reader_queue");
    assert!(dropped >= 200, "{dropped} of {MESSAGES} messages counted as dropped");
    seen(tern, "mqtt", "red/stuck does not read");
    speaks.leave();
}
