//! What goes between nodes, seen by somebody who holds the wire: it tells nothing, and moves
//! nothing when it is said again, bent, or said elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use base64::Engine as _;
use lorawan::EU868;
use mqtt::{ClientConfig, Version};
use radio::AppUplink;
use serde_json::{Value, json};
use tests::insider::{Insider, cookie_key, portion};
use tests::relay::{Recording, Relay, Trick, Way};
use tests::site::{Site, otaa};
use tests::subscriber::Subscriber;
use tests::{Tern, eventually};

use super::{COOKIE, SOON, members_are, prepared, reproduce};

const GATEWAY: &str = "0016c001ff10a235";
const DEVICE: &str = "70b3d57ed000a1f7";
const APP_KEY: &str = "9f3c5be1a7d04862b1e85f0c6d2a7394";
const UPLINK: &[u8] = b"greenhouse valve 4 is stuck open";
const DOWNLINK: &[u8] = b"close it slowly and report again";
const APPLICATION: &str = "orangery-of-the-castle";
/// What two connections may have in common: less than this, in bytes.
const WINDOW: usize = 16;
/// Bytes of the node's part of the handshake, its length included.
const SECOND_MESSAGE: usize = 98;

/// Puts a relay before a node that is not started yet: others know it by the relay's address.
pub(super) fn behind(node: &mut Tern) -> Relay {
    let relay = Relay::start(([127, 0, 0, 1], 0).into(), node.peers());
    node.set("cluster.address", &relay.address().to_string());
    relay
}

/// Nodes that reach each other over relays, the last of them not started.
fn wired<const N: usize>() -> ([Tern; N], [Relay; N]) {
    let mut number = 0;
    let mut nodes: [Tern; N] = std::array::from_fn(|_| {
        number += 1;
        prepared(number)
    });
    let relays = nodes.each_mut().map(behind);
    let first = relays[0].address().to_string();
    nodes.iter_mut().skip(1).for_each(|node| node.set("cluster.join", &first));
    (nodes, relays)
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_within(needle: &[u8], hay: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// A secret in every form in which somebody might have written it.
fn forms(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
    let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let forms = [
        ("", bytes.to_vec()),
        (" reversed", reversed),
        (" in hexadecimal", hex(bytes).into_bytes()),
        (" in capitals", hex(bytes).to_uppercase().into_bytes()),
        (" in base64", base64.into_bytes()),
    ];
    forms.into_iter().map(|(form, bytes)| (format!("{name}{form}"), bytes)).collect()
}

/// What must not be read by whoever listens.
fn secrets(nodes: &[Tern]) -> Vec<(String, Vec<u8>)> {
    let mut secrets: Vec<(String, Vec<u8>)> = [
        ("the cookie", COOKIE.as_bytes().to_vec()),
        ("the key of the cookie", cookie_key(COOKIE, "tern").to_vec()),
        ("the AppKey", unhex(APP_KEY)),
        ("the DevEUI", unhex(DEVICE)),
        ("the gateway's EUI", unhex(GATEWAY)),
        ("an uplink's payload", UPLINK.to_vec()),
        ("a downlink's payload", DOWNLINK.to_vec()),
        ("an application's name", APPLICATION.as_bytes().to_vec()),
        ("a topic", b"application/".to_vec()),
        ("a topic's end", b"/event/up".to_vec()),
        ("a node's name", b"n2@127.0.0.1".to_vec()),
        ("an address", b"127.0.0.1:".to_vec()),
    ]
    .iter()
    .flat_map(|(name, bytes)| forms(name, bytes))
    .collect();
    for node in nodes {
        for file in ["data.key", "node.key"] {
            let key = std::fs::read(node.data().join(file)).unwrap();
            secrets.extend(forms(file, &key));
        }
        let id = node.json(&["cluster", "status"])["clusterId"].as_str().unwrap().replace('-', "");
        secrets.extend(forms("the cluster's id", &unhex(&id)));
    }
    secrets
}

/// Windows that two connections have in common, or one has twice.
///
/// Noise forces none: its only constants on the wire are the lengths of portions, two bytes each.
/// Ephemeral keys are fresh, and everything else is sealed under keys that depend on them.
fn repeated(connections: &[Recording]) -> Vec<[u8; WINDOW]> {
    let mut all: Vec<[u8; WINDOW]> = Vec::new();
    for connection in connections {
        for way in [Way::Up, Way::Down] {
            let bytes = connection.bytes(way);
            all.extend(
                bytes.windows(WINDOW).map(|window| <[u8; WINDOW]>::try_from(window).unwrap()),
            );
        }
    }
    all.sort_unstable();
    all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
}

fn provision(node: &Tern) -> (String, String) {
    node.ok(&["gateway", "add", GATEWAY]);
    node.ok(&["application", "add", APPLICATION]);
    node.ok(&["profile", "add", "room"]);
    node.ok(&["device", "add", DEVICE, "--app-key", APP_KEY]);
    let account = node.json(&["mqtt-user", "add", "tap", "--application", APPLICATION]);
    let text = |name: &str| account[name].as_str().unwrap().to_owned();
    (text("password"), text("topic"))
}

/// A device joins and reports over one node, is heard at the other, and gets its downlink.
fn live_a_day(entrance: &Tern, listening: &Tern) {
    let (password, topic) = provision(listening);
    let config = ClientConfig::new(Version::V5, "tap").account("tap", &password);
    let subscriber = Subscriber::start(listening.mqtt(), config, &topic);
    let site = Site::start(entrance.udp(), GATEWAY, vec![otaa(&EU868, DEVICE, APP_KEY)]);
    let dev_eui = DEVICE.parse().unwrap();
    site.join(dev_eui);
    entrance.ok(&["queue", "push", DEVICE, "--fport", "10", "--hex", &hex(DOWNLINK)]);
    site.field.send(dev_eui, AppUplink::confirmed(2, UPLINK)).unwrap();
    assert_eq!(&site.delivered().payload[..], DOWNLINK);
    assert!(site.done(), "acknowledged");
    let data = base64::engine::general_purpose::STANDARD.encode(UPLINK);
    eventually("the event at the other node", SOON, || {
        let all = subscriber.deliveries();
        let mut texts = all.iter().map(|one| String::from_utf8_lossy(&one.payload));
        texts.any(|text| text.contains(&data)).then_some(())
    });
}

/// What must not change by itself: applied, rows, objects, members.
fn picture(node: &Tern) -> Value {
    let (_, info) = node.call("GET", "/api/v1/node", "");
    let (_, cluster) = node.call("GET", "/api/v1/cluster", "");
    let members = cluster["members"].as_array().unwrap().iter();
    let members: Vec<_> = members.map(|one| json!([one["name"], one["votes"]])).collect();
    json!({
        "applied": info["applied"],
        "events": info["events"],
        "counts": info["counts"],
        "cluster": cluster["clusterId"],
        "members": members,
    })
}

/// Waits until nothing is decided any more.
pub(super) fn at_rest(nodes: &[Tern]) -> Vec<Value> {
    eventually("a log at rest", SOON, || {
        let before: Vec<_> = nodes.iter().map(picture).collect();
        std::thread::sleep(Duration::from_millis(700));
        let same = nodes.iter().map(picture).eq(before.iter().cloned());
        let level = before.iter().all(|one| one["applied"] == before[0]["applied"]);
        (same && level).then_some(before)
    })
}

/// Says bytes to a node and listens until it hangs up.
pub(super) fn answer_to(node: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    // It may have hung up in the middle.
    let _ = stream.write_all(said);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs up");
    }
    answer
}

/// Says a recorded connection again, whole and in parts.
fn replay(node: &Tern, recording: &Recording, key: &[u8; 32]) {
    assert!(recording.up.len() > 6, "there is something to say again");
    let (first, rest) = recording.up.split_first().unwrap();
    let whole = recording.bytes(Way::Up);
    let cases: [(&str, Vec<u8>); 5] = [
        ("the whole connection", whole.clone()),
        ("up to its greeting", recording.up[..3].concat()),
        ("without its third message", [&first[..], &rest[1..].concat()].concat()),
        ("one record behind the first message", [&first[..], &recording.up[5]].concat()),
        ("the node's own part", recording.bytes(Way::Down)),
    ];
    for (name, said) in &cases {
        let answer = answer_to(node.peers(), said);
        // The first message is genuine: the answer is the node's part of a new handshake.
        assert!(answer.len() <= SECOND_MESSAGE, "{name}: {} bytes", answer.len());
        let wanted = if name.starts_with("the node's") { 0 } else { SECOND_MESSAGE };
        assert_eq!(answer.len(), wanted, "{name}");
    }
    for (at, record) in recording.up.iter().enumerate().skip(1).take(8) {
        assert!(answer_to(node.peers(), record).is_empty(), "record {at} alone");
        let mut fresh = Insider::knock(node.peers(), key);
        fresh.say_raw(record);
        assert_eq!(fresh.hear(), None, "record {at} in a connection of its own");
    }
}

#[test]
fn what_goes_between_nodes_tells_nothing_and_moves_nothing() {
    reproduce("wire::what_goes_between_nodes_tells_nothing_and_moves_nothing");
    let (mut nodes, relays) = wired::<3>();
    nodes[..2].iter_mut().for_each(Tern::spawn);
    nodes[..2].iter_mut().for_each(Tern::wait_ready);
    members_are(&nodes[0], &[1, 2]);
    live_a_day(&nodes[0], &nodes[1]);
    nodes[2].start_again();
    nodes.iter().for_each(|node| members_are(node, &[1, 2, 3]));

    let before = at_rest(&nodes);
    relays.iter().for_each(Relay::cut);
    let connections: Vec<_> = relays.iter().flat_map(Relay::recordings).collect();
    let sizes: Vec<_> = connections
        .iter()
        .map(|one| one.bytes(Way::Up).len() + one.bytes(Way::Down).len())
        .collect();
    println!("{} connections, {} bytes: {sizes:?}", sizes.len(), sizes.iter().sum::<usize>());
    assert!(connections.len() >= 6 && sizes.iter().sum::<usize>() > 10_000, "{sizes:?}");
    let heard: Vec<u8> = connections
        .iter()
        .flat_map(|one| [one.bytes(Way::Up), one.bytes(Way::Down)])
        .flatten()
        .collect();
    for (name, secret) in secrets(&nodes) {
        assert!(!is_within(&secret, &heard), "{name} goes over the wire");
        let planted = [&heard[..100], &secret[..], &heard[100..200]].concat();
        assert!(is_within(&secret, &planted), "the check itself must be able to find it");
    }
    assert_eq!(repeated(&connections), Vec::<[u8; WINDOW]>::new(), "said twice");
    let twice = [connections[0].clone(), connections[0].clone()];
    assert!(!repeated(&twice).is_empty(), "the check itself must be able to find it");

    let key = cookie_key(COOKIE, "tern");
    let longest = relays[0].recordings().into_iter().max_by_key(|one| one.up.len()).unwrap();
    replay(&nodes[0], &longest, &key);
    nodes.iter().for_each(|node| members_are(node, &[1, 2, 3]));
    assert_eq!(at_rest(&nodes), before, "a replay changes nothing");
}

/// Plays a trick; waits until its connection has ended and another is used.
///
/// * `anew`: breaks the connection there is, for a trick in a handshake.
fn play(relay: &Relay, (way, at): (Way, usize), trick: Trick, anew: bool, case: &str) -> Recording {
    let (since, count, before) = (Instant::now(), relay.count(), relay.meddled());
    relay.meddle(way, at, trick);
    if anew {
        relay.cut();
    }
    let bent = eventually(&format!("{case}: another connection"), SOON, || {
        let bent = relay.meddled().into_iter().find(|number| !before.contains(number))?;
        let all = relay.recordings();
        let again = all.iter().skip(count).any(|one| one.down.len() > 3 && !one.meddled);
        (again && all[bent].ended.is_some()).then(|| all[bent].clone())
    });
    assert!(since.elapsed() < Duration::from_secs(6), "{case}: {:?}", since.elapsed());
    println!("{case}: ended by {:?}, the next after {:?}", bent.ended, since.elapsed());
    bent
}

#[test]
fn a_bent_record_ends_its_connection_and_nothing_else() {
    reproduce("wire::a_bent_record_ends_its_connection_and_nothing_else");
    let (mut nodes, relays) = wired::<2>();
    nodes.iter_mut().for_each(Tern::spawn);
    nodes.iter_mut().for_each(Tern::wait_ready);
    nodes.iter().for_each(|node| members_are(node, &[1, 2]));
    let before = at_rest(&nodes);
    let key = cookie_key(COOKIE, "tern");
    let foreign = {
        let mut insider = Insider::knock(nodes[0].peers(), &key);
        insider.record(0, b"\0\0\0\0\0\0\0\0\x01\x82\0\x80")
    };
    let records = [
        ("the first bit of a length", Trick::Flip(0)),
        ("the last bit of a length", Trick::Flip(15)),
        ("the first bit of a record", Trick::Flip(16)),
        ("a bit in its middle", Trick::Flip(16 + 8 * 12 + 3)),
        ("the last bit of its tag", Trick::Flip(-1)),
        ("a record that comes twice", Trick::Twice),
        ("a record that is missing", Trick::Omit),
        ("a record of another connection", Trick::Before(foreign)),
        ("an empty record", Trick::Before(portion(&[]))),
        ("a record without a byte", Trick::Before(portion(&[7; 16]))),
        ("a record that is cut", Trick::Cut(9)),
    ];
    for (name, trick) in &records {
        for (way, other) in [(Way::Up, Way::Down), (Way::Down, Way::Up)] {
            let case = format!("{name}, {way:?}");
            let bent = play(&relays[0], (way, 4), trick.clone(), false, &case);
            // Whoever got it hangs up at once, unless he still waits for what a length promises.
            if !name.contains("length") && !name.contains("cut") {
                assert_eq!(bent.ended, Some(other), "{case}");
            }
        }
    }
    // In the handshake of a genuine node, too.
    for (way, at) in [(Way::Up, 0), (Way::Down, 0), (Way::Up, 1)] {
        for bit in [15, -1] {
            let case = format!("bit {bit} of handshake message {at}, {way:?}");
            play(&relays[0], (way, at), Trick::Flip(bit), true, &case);
        }
    }
    nodes.iter().for_each(|node| members_are(node, &[1, 2]));
    assert_eq!(at_rest(&nodes), before, "nothing was taken from a bent record");
}
