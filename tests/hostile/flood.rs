//! Three times as many connections as the server takes, none of which ever says CONNECT.
//!
//! The server starts with the limit of open files that a shell gives (1,024): it must see to more
//! by itself. Source: `mqtt.connections_max`.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tests::{Tern, eventually};

use super::mqtt::Tenant;
use super::wire::{Peer, connect};
use super::{Counters, Picture, SOON, counted, local, open_files, seen, server_as};

const HALF_OPEN: usize = 15_000;
/// `mqtt.connections_max`, as it comes.
const LIMIT: usize = 5_000;
/// Files that this process and the server need beside the flood.
const SPARE: usize = 1_000;
/// Threads that open connections.
const HANDS: u8 = 4;

/// As many connections as wanted, and as many as this process may have open.
fn affordable() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
    let most = maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let many = HALF_OPEN.min(most.saturating_sub(SPARE));
    assert!(many > LIMIT + SPARE, "{most} open files are too few for this test (ulimit -Hn)");
    if many < HALF_OPEN {
        println!("only {many} connections instead of {HALF_OPEN}: ulimit -Hn is {most}");
    }
    many
}

/// Opens connections from addresses of their own, so that they take no port that another test's
/// server on 127.0.0.1 is about to listen on.
fn open(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let opens = move |hand: u8| {
        let source = SocketAddr::from(([127, 0, 0, 2 + hand], 0));
        let connect = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a file is free");
            socket.bind(&source.into()).expect("a port is free");
            socket.connect_timeout(&to.into(), SOON).expect("the kernel takes it");
            TcpStream::from(socket)
        };
        (0..count / usize::from(HANDS)).map(connect).collect::<Vec<_>>()
    };
    let hands: Vec<_> = (0..HANDS).map(|hand| std::thread::spawn(move || opens(hand))).collect();
    hands.into_iter().flat_map(|hand| hand.join().expect("it opened its share")).collect()
}

#[test]
fn fifteen_thousand_half_open_connections_against_five_thousand() {
    let many = affordable() / usize::from(HANDS) * usize::from(HANDS);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("tern-in-a-shell");
    let binary = env!("CARGO_BIN_EXE_tern-under-test");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -Sn 1024\nexec '{binary}' \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let tern = server_as(&script);
    let red = Tenant::add(&tern, "red");
    let before = Picture::of(&tern);
    let files = open_files(&tern);
    let mut friend = Peer::accepted(tern.mqtt(), 4, "friend", red.account());

    let began = Instant::now();
    let mut flood = open(tern.mqtt(), many);
    println!("{many} connections opened in {:?}", began.elapsed());
    friend.is_served();
    let refused = |counters: &Counters| counters.get("tern_network_total", "connection_over_limit");
    // Places come free after ten seconds without CONNECT: whoever floods has to go on.
    let mut strangers = 0;
    eventually("a new client is refused while all places are taken", SOON, || {
        strangers += 1;
        flood.extend(open(tern.mqtt(), usize::from(HANDS)));
        let at = refused(&Counters::read(&tern));
        let mut stranger = Peer::open(tern.mqtt());
        stranger.send(&connect(4, "stranger", Some(red.account()), &[]));
        let closed = stranger.read().is_none();
        (closed && refused(&Counters::read(&tern)) > at).then_some(())
    });
    let held = open_files(&tern) - files;
    assert!(held <= LIMIT + 100, "{held} files for at most {LIMIT} connections");
    friend.is_served();
    assert!(local(&tern, "/health/ready").contains("ready"), "the operator is heard");
    assert_eq!(tern.get("/health/ready").map(|(status, _)| status), Some(200), "HTTP is served");
    seen(&tern, "mqtt", "too many connections are open");
    let counters = Counters::read(&tern);
    assert!(refused(&counters) > LIMIT as u64, "more are refused than were taken");

    let opened = flood.len() + strangers;
    drop(flood);
    all_is_well_again(&tern, &red, opened, files);
    friend.is_served();
    friend.leave();
    before.compare(&tern, 96 * 1_024);
}

/// The flood is gone: its places are free, and each of its connections is accounted for by name.
fn all_is_well_again(tern: &Tern, red: &Tenant, opened: usize, files: usize) {
    eventually("the flood's files are closed", SOON, || {
        (open_files(tern) <= files + 20).then_some(())
    });
    let mut ended = 0;
    eventually("each connection was refused, given up or left", SOON, || {
        let counters = Counters::read(tern);
        let closed = |reason| counters.get("tern_mqtt_closed_total", reason);
        let refused = counters.get("tern_network_total", "connection_over_limit");
        ended = refused + closed("stream_ended") + closed("connect_timeout");
        (ended >= opened as u64).then_some(())
    });
    assert_eq!(ended, opened as u64, "each connection is counted once");
    for number in 0..20 {
        Peer::accepted(tern.mqtt(), 4, &format!("after-{number}"), red.account()).leave();
    }
    counted(tern, "tern_mqtt_closed_total", "client_left", 20, "new clients");
}
