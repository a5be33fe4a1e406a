//! Who knocks at a node's door and is no node: without the cookie he gets not one byte, however he
//! tries and however often; with it he gets no further than sense allows.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tests::insider::{Hello, Insider, cookie_key, handshake, portion};
use tests::relay::Way;
use tests::traffic::{self, Traffic, TrafficConfig};
use tests::{Tern, eventually};

use super::wire::{answer_to, at_rest, behind};
use super::{COOKIE, SOON, members_are, prepared, refused, reproduce};
use crate::hostile::{open_files, resident_kib};

/// How long a handshake may take, as the door has it, and what a loaded machine adds.
const GREETING_MAX: Duration = Duration::from_millis(4_500);
/// Bad handshakes a second, and for how long.
const FLOOD_RATE: u32 = 1_000;
const FLOOD_FOR: Duration = Duration::from_secs(3);
/// Threads that flood.
const HANDS: u8 = 4;
/// What three thousand strangers may cost.
const FLOOD_KIB_MAX: u64 = 16 * 1_024;
const FLOOD_FILES_MAX: usize = 100;
/// Bytes of log that strangers may cause.
const PRINTED_MAX: usize = 8 * 1_024;

/// Bytes that no node says first, and whether the node must wait for more of them.
fn first_words() -> Vec<(&'static str, Vec<u8>, bool)> {
    let noise = |length: usize| vec![0xA7; length];
    let wrong = {
        let mut buffer = [0; 256];
        let length = handshake(&[7; 32], true).write_message(&[], &mut buffer).unwrap();
        portion(&buffer[..length])
    };
    vec![
        ("nothing", vec![], true),
        ("half a length", vec![0], true),
        ("a length alone", vec![0, 48], true),
        ("a byte of the message", vec![0, 48, 1], true),
        ("all but a byte of it", portion(&noise(48))[..49].to_vec(), true),
        ("noise", portion(&noise(48)), false),
        ("noise, and more of it", [portion(&noise(48)), noise(4_000)].concat(), false),
        ("a key of zeros", portion(&[0; 48]), false),
        ("another cookie", wrong.clone(), false),
        ("another cookie, and the rest", [wrong, portion(&noise(64))].concat(), false),
        ("a length of zero", vec![0, 0], false),
        ("a byte too few", portion(&noise(47)), false),
        ("a byte too many", portion(&noise(49)), false),
        ("the longest message", portion(&noise(65_535)), false),
        ("the longest length alone", vec![0xFF, 0xFF], false),
        ("HTTP", b"GET /health HTTP/1.1\r\nHost: tern\r\n\r\n".to_vec(), false),
        ("TLS", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03], false),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), false),
        ("MQTT", vec![0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 0], false),
        (
            "Erlang",
            b"\x00\x15N\x00\x00\x00\x03\x06\xd0\x49\x8b\x00\x00\x00\x00\x00\x02n1".to_vec(),
            false,
        ),
    ]
}

#[test]
fn nobody_without_the_cookie_gets_a_byte() {
    reproduce("strangers::nobody_without_the_cookie_gets_a_byte");
    let mut node = prepared(1);
    node.start_again();
    let printed = node.log().len();
    let to = node.peers();
    std::thread::scope(|scope| {
        for (name, said, waits) in first_words() {
            scope.spawn(move || {
                let since = Instant::now();
                let answer = answer_to(to, &said);
                let took = since.elapsed();
                assert!(answer.is_empty(), "{name}: {answer:?}");
                assert!(took < GREETING_MAX, "{name}: it holds on for {took:?}");
                assert_eq!(took > Duration::from_secs(2), waits, "{name}: {took:?}");
            });
        }
    });
    // The same again and again is told once.
    for _ in 0..50 {
        assert!(answer_to(to, &portion(&[0xA7; 48])).is_empty());
    }
    let log = node.log()[printed..].to_owned();
    for reason in ["secret mismatch", "another length", "no handshake in time"] {
        let lines = log.lines().filter(|line| line.contains(reason)).count();
        assert_eq!(lines, 1, "{reason}\n{log}");
    }
    assert!(log.len() < PRINTED_MAX, "{log}");
    members_are(&node, &[1]);
}

/// A connection from an address that no other test listens on.
fn stranger(from: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 10 + from], 0)).into()).ok()?;
    socket.connect_timeout(&to.into(), SOON).ok()?;
    // Closed by a reset: nothing lingers.
    socket.set_linger(Some(Duration::ZERO)).ok()?;
    Some(TcpStream::from(socket))
}

/// Knocks as often as the rate says, each time with other wrong words.
fn flood(to: SocketAddr, recorded: &[u8], stop: &AtomicBool) -> u64 {
    let knocks = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for hand in 0..HANDS {
            let knocks = &knocks;
            scope.spawn(move || {
                let words = first_words();
                let begun = Instant::now();
                let mut held = std::collections::VecDeque::new();
                for number in 0_u32.. {
                    let due =
                        begun + Duration::from_secs(1) * u32::from(HANDS) * number / FLOOD_RATE;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let Some(mut stream) = stranger(hand, to) else { continue };
                    let said = match number % 4 {
                        0 => recorded,
                        _ => &words[number as usize % words.len()].1,
                    };
                    let _ = stream.write_all(said);
                    knocks.fetch_add(1, Ordering::Relaxed);
                    held.push_back(stream);
                    if held.len() > 50 {
                        held.pop_front();
                    }
                }
            });
        }
    });
    knocks.into_inner()
}

const TRAFFIC: TrafficConfig = TrafficConfig {
    devices: 10,
    joiners: 0,
    every: Duration::from_millis(50),
    confirmed_each: 3,
    join_each: 1_000_000,
    rx2_dr: 0,
};

/// Rows of the event log.
fn rows(node: &Tern) -> u64 {
    node.call("GET", "/api/v1/node", "").1["events"][1].as_u64().unwrap()
}

#[test]
fn a_thousand_bad_handshakes_a_second_are_borne() {
    reproduce("strangers::a_thousand_bad_handshakes_a_second_are_borne");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    let (r1, _r2) = (behind(&mut n1), behind(&mut n2));
    n2.set("cluster.join", &r1.address().to_string());
    n1.spawn();
    n2.start_again();
    let nodes = [n1, n2];
    let [n1, n2] = &nodes;
    members_are(n1, &[1, 2]);
    traffic::provision(n1, &[traffic::GATEWAY.to_owned()], TRAFFIC);
    let links = r1.count();
    let recorded = r1.recordings().last().unwrap().bytes(Way::Up);
    let traffic = Traffic::start(n1.udp(), TRAFFIC);
    eventually("traffic", SOON, || (rows(n2) > 10).then_some(()));
    let (files, kib, printed) = (open_files(n1), resident_kib(n1), n1.log().len());

    let stop = AtomicBool::new(false);
    let (mut files_most, mut kib_most, before) = (0, 0, rows(n2));
    let (knocks, took) = std::thread::scope(|scope| {
        let begun = Instant::now();
        let flooding = scope.spawn(|| flood(n1.peers(), &recorded, &stop));
        while begun.elapsed() < FLOOD_FOR {
            std::thread::sleep(Duration::from_millis(100));
            files_most = files_most.max(open_files(n1));
            kib_most = kib_most.max(resident_kib(n1));
        }
        stop.store(true, Ordering::Release);
        (flooding.join().unwrap(), begun.elapsed())
    });
    let decided = rows(n2) - before;
    println!(
        "{knocks} knocks in {took:?}; {decided} rows meanwhile; {files} files, {files_most} at \
         most; {kib} KiB, {kib_most} at most"
    );
    assert_eq!(r1.count(), links, "the genuine node has stayed connected");
    assert!(knocks > u64::from(FLOOD_RATE), "hardly a flood: {knocks}");
    // Two nodes decide nothing without their link.
    assert!(decided > 20, "{decided} rows");
    assert!(files_most <= files + FLOOD_FILES_MAX, "{files} files, {files_most} at most");
    assert!(kib_most <= kib + FLOOD_KIB_MAX, "{kib} KiB, {kib_most} at most");
    let log = n1.log()[printed..].to_owned();
    assert!(log.len() < PRINTED_MAX, "{log}");
    all_is_decided(&nodes, traffic);
    eventually("its files are closed", SOON, || (open_files(n1) <= files + 5).then_some(()));
}

/// Every uplink of a traffic is in the log once, of all nodes.
fn all_is_decided(nodes: &[Tern], traffic: Traffic) {
    let sent = traffic.finish().sent.len() as u64;
    let pictures = at_rest(nodes);
    let rows =
        pictures[0]["events"][1].as_u64().unwrap() - pictures[0]["events"][0].as_u64().unwrap();
    assert!(rows >= sent, "{rows} rows of {sent} uplinks");
}

/// Connects again and again and says nothing; whoever is closed is replaced at once.
fn sit(to: SocketAddr, stop: &AtomicBool) {
    let mut seats: Vec<(Instant, TcpStream)> = Vec::new();
    while !stop.load(Ordering::Acquire) {
        seats.retain(|(since, stream)| {
            stream.set_nonblocking(true).is_ok()
                && since.elapsed() < Duration::from_secs(4)
                && stream.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
        });
        while seats.len() < 60 {
            let Some(stream) = stranger(9, to) else { break };
            seats.push((Instant::now(), stream));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who takes all places of the door and says nothing keeps no node out.
#[test]
fn silent_strangers_keep_no_node_out() {
    reproduce("strangers::silent_strangers_keep_no_node_out");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    let (r1, _r2) = (behind(&mut n1), behind(&mut n2));
    n2.set("cluster.join", &r1.address().to_string());
    n1.spawn();
    n2.start_again();
    members_are(&n1, &[1, 2]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| sit(n1.peers(), &stop));
        std::thread::sleep(Duration::from_secs(1));
        let before = r1.count();
        r1.cut();
        let since = Instant::now();
        let back = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the node is let in", Duration::from_secs(10), || {
                let all = r1.recordings();
                all.iter().skip(before).any(|one| one.down.len() > 2).then_some(())
            });
        }));
        println!("let in again after {:?}, {} tries", since.elapsed(), r1.count() - before);
        stop.store(true, Ordering::Release);
        assert!(back.is_ok());
    });
}

/// CBOR of a list that holds a list that holds a list, without end.
fn deep(depth: usize) -> Vec<u8> {
    vec![0x81; depth]
}

/// Bodies of questions that no node asks.
fn strange_questions() -> Vec<(&'static str, Vec<u8>)> {
    let claim = |head: u8, length: u32| [&[head], &length.to_be_bytes()[..]].concat();
    vec![
        ("nothing", vec![]),
        ("a number that no question has", vec![0x82, 0x18, 99, 0x80]),
        ("a number of 64 bits", [&[0x82, 0x1B][..], &[0xFF; 8], &[0x80]].concat()),
        ("a list without end", vec![0x9F]),
        ("a list of four milliards", claim(0x9A, u32::MAX)),
        ("proposals, four milliards", [&[0x82, 8, 0x81][..], &claim(0x9A, u32::MAX)].concat()),
        ("bytes, four milliards", [&[0x82, 6, 0x83, 1, 1][..], &claim(0x5A, u32::MAX)].concat()),
        ("a text that is none", [&[0x82, 12, 0x81][..], &[0x62, 0xFF, 0xFE]].concat()),
        ("a list in a list, 200,000 deep", deep(200_000)),
        ("tags, 200,000 deep", vec![0xC1; 200_000]),
        ("a map", vec![0xA1, 0, 0]),
        ("a float", vec![0xFB, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("an append without fields", vec![0x82, 1, 0x81, 0x80]),
        ("a vote of wrong types", vec![0x82, 2, 0x81, 0x83, 0x61, b'x', 0xF5, 0xF6]),
        ("twelve", vec![12]),
    ]
}

#[test]
fn what_makes_no_sense_inside_is_refused_and_survived() {
    reproduce("strangers::what_makes_no_sense_inside_is_refused_and_survived");
    let mut nodes = [prepared(1)];
    nodes[0].start_again();
    let before = at_rest(&nodes);
    let [node] = &nodes;
    let key = cookie_key(COOKIE, "tern");
    let welcomed = || {
        let mut insider = Insider::knock(node.peers(), &key);
        let (welcome, text) = insider.greet(&Hello::default()).unwrap();
        assert!(welcome, "{text}");
        insider
    };
    // First words that are no greeting: the connection ends without an answer.
    let long = Hello { name: "n".repeat(600), ..Hello::default() }.encode();
    for words in [vec![], vec![0x80], vec![0x8B], deep(60_000), long, b"hello".to_vec()] {
        let mut insider = Insider::knock(node.peers(), &key);
        insider.say(&words);
        assert_eq!(insider.hear(), None, "{} bytes", words.len());
    }
    // Questions: denied, each under its number, over one connection.
    let mut insider = welcomed();
    for (number, (name, body)) in (1..).zip(strange_questions()) {
        let mut whole = vec![0];
        whole.extend_from_slice(&u64::to_be_bytes(number));
        whole.extend_from_slice(&body);
        for part in whole.chunks(60_000) {
            let last = part.as_ptr_range().end == whole.as_ptr_range().end;
            let record = insider.record(u8::from(!last), part);
            insider.say_raw(&record);
        }
        let answer = insider.hear().unwrap_or_else(|| panic!("{name}: hung up"));
        assert_eq!(answer[..9], [&[1], &u64::to_be_bytes(number)[..]].concat(), "{name}");
        assert_eq!(answer[9..11], [0x82, 1], "{name} is denied: {answer:?}");
    }
    // Frames that are none, and a message beyond the longest: the connection ends.
    for words in [vec![], vec![0; 8], vec![9; 9], vec![1; 20]] {
        let mut insider = welcomed();
        insider.say(&words);
        assert_eq!(insider.hear(), None, "{words:?}");
    }
    let mut insider = welcomed();
    let kib = resident_kib(node);
    for _ in 0..(13 << 20) / 60_000 {
        let record = insider.record(1, &[0; 60_000]);
        insider.say_raw(&record);
    }
    assert_eq!(insider.hear(), None, "a message without end");
    let grown = resident_kib(node).saturating_sub(kib);
    assert!(grown < 64 * 1_024, "{grown} KiB for a message without end");
    assert!(!node.log().contains("panicked"), "{}", node.log());
    assert_eq!(at_rest(&nodes), before);
}

/// An older or a newer node: the version is agreed inside the encryption, and told to both.
#[test]
fn versions_that_do_not_fit_are_told_apart() {
    reproduce("strangers::versions_that_do_not_fit_are_told_apart");
    let mut node = prepared(1);
    node.start_again();
    let key = cookie_key(COOKIE, "tern");
    let greet = |versions| {
        let hello = Hello { versions, ..Hello::default() };
        Insider::knock(node.peers(), &key).greet(&hello).expect("an answer")
    };
    for versions in [(1, 1), (1, 7), (0, 1), (0, u32::MAX)] {
        let (welcome, text) = greet(versions);
        assert!(welcome, "{versions:?}: {text}");
    }
    for (versions, older) in [((2, 3), "n1@127.0.0.1"), ((0, 0), "stub@127.0.0.1")] {
        let (welcome, text) = greet(versions);
        assert!(!welcome && text.contains(&format!("upgrade {older}")), "{versions:?}: {text}");
    }
    // Versions that agree, and a binary that knows too little of the log: not admitted.
    let admit = [&[0x82, 10, 0x81, 0x50][..], &[5; 16]].concat();
    let hello = Hello { feature_level: 0, ..Hello::default() };
    let mut insider = Insider::knock(node.peers(), &key);
    assert!(insider.greet(&hello).unwrap().0);
    let answer = insider.ask(1, &admit).unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("feature level") && text.contains("upgrade it"), "{text}");
    members_are(&node, &[1]);
}

/// A node that shares the cookie but not the name of the cluster is a stranger like any other.
#[test]
fn another_clusters_name_is_another_secret() {
    reproduce("strangers::another_clusters_name_is_another_secret");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    n2.set("cluster.name", "gull");
    n1.start_again();
    n2.start_again();
    let said = refused(&n2, &["cluster", "join", &super::place(1, &n1)]);
    assert!(said.contains("secret mismatch"), "{said}");
    members_are(&n1, &[1]);
}

/// A node that has left and come back is another member behind the same address and key: what is
/// meant for the one that it was is not answered.
#[test]
fn what_is_meant_for_another_member_is_not_answered() {
    reproduce("strangers::what_is_meant_for_another_member_is_not_answered");
    const READ_INDEX: [u8; 3] = [0x82, 9, 0x80];
    let mut node = prepared(1);
    node.start_again();
    let (_, info) = node.call("GET", "/api/v1/cluster", "");
    let id: store::Id = info["clusterId"].as_str().unwrap().parse().unwrap();
    let key = cookie_key(COOKIE, "tern");
    let answer = |to| {
        let mut insider = Insider::knock(node.peers(), &key);
        let hello = Hello { cluster: Some(id.0), to, ..Hello::default() };
        let (welcome, text) = insider.greet(&hello).unwrap();
        assert!(welcome, "{text}");
        insider.ask(1, &READ_INDEX).unwrap()
    };
    for meant in [None, Some(1)] {
        let index = answer(meant);
        assert_ne!(index[..2], [0x82, 1], "{meant:?}: {index:?}");
    }
    let denied = answer(Some(2));
    assert_eq!(denied[..2], [0x82, 1], "{denied:?}");
    let text = String::from_utf8_lossy(&denied);
    assert!(text.contains("another member"), "{text}");
}
