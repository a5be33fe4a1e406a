//! What operators get wrong: a copied data folder, seeds that lead nowhere, a port range that is
//! taken, a cookie that everybody knows; and a joiner that dies half-way.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tests::{Tern, eventually};

use super::wire::at_rest;
use super::{
    COOKIE, SOON, add_device, cluster_of, devices_are, members_are, name, prepared, reproduce,
};

const DEVICE: &str = "70b3d57ed0001234";

/// A process on ports of its own, with a copy of a stopped node's folder.
fn twin_of(node: &Tern, number: u8) -> Tern {
    let twin = prepared(number);
    let copied = Command::new("cp").arg("-a").arg(node.data()).arg(twin.data()).status();
    assert!(copied.unwrap().success());
    twin
}

/// A folder that moves to another machine is the same node; the one it came from is none any more,
/// and says why.
#[test]
fn a_copied_folder_is_one_node_in_turn() {
    reproduce("mistakes::a_copied_folder_is_one_node_in_turn");
    let [n1, n2, mut n3] = cluster_of();
    add_device(&n1, DEVICE);
    devices_are(&n3, &[DEVICE]);
    n3.stop();
    let mut twin = twin_of(&n3, 3);
    let before = n1.json(&["cluster", "status"])["members"].as_array().unwrap().len();
    twin.start_again();
    for node in [&n1, &n2, &twin] {
        members_are(node, &[1, 2, 3]);
    }
    devices_are(&twin, &[DEVICE]);
    // It starts once more, so that the folder left behind is older for certain.
    twin.stop();
    twin.start_again();
    members_are(&n1, &[1, 2, 3]);
    twin.stop();
    n3.spawn();
    let line = "two processes run with one identity (a copied data folder?)";
    eventually("it is told why it is not let in", SOON, || n3.log().contains(line).then_some(()));
    assert_eq!(n3.get("/health/ready").map(|(status, _)| status), Some(503), "{}", n3.log());
    n3.kill();
    twin.start_again();
    for node in [&n1, &n2, &twin] {
        members_are(node, &[1, 2, 3]);
    }
    assert_eq!(before, 3);
}

/// Both at once: the cluster decides, keeps one state, and somebody is told.
#[test]
fn a_copied_folder_runs_twice_at_once() {
    reproduce("mistakes::a_copied_folder_runs_twice_at_once");
    let [n1, n2, mut n3] = cluster_of();
    add_device(&n1, DEVICE);
    n3.stop();
    let mut twin = twin_of(&n3, 3);
    n3.start_again();
    twin.spawn();
    for number in 0..30 {
        n1.ok(&["application", "add", &format!("app-{number}")]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let line = "two processes run with one identity (a copied data folder?)";
    let all = || format!("{}{}{}{}", n1.log(), n2.log(), n3.log(), twin.log());
    eventually(&format!("somebody is told\n{}", all()), Duration::from_secs(15), || {
        all().contains(line).then_some(())
    });
    twin.kill();
    n3.kill();
    n3.spawn();
    for node in [&n1, &n2] {
        devices_are(node, &[DEVICE]);
        let (_, list) = node.call("GET", "/api/applications?limit=100", "");
        assert_eq!(list["totalCount"], 31, "{list}");
    }
}

/// Killed at every moment of its first start: in the end it is one member, and nothing is left of
/// those that came to nothing.
#[test]
fn a_joiner_dies_half_way() {
    reproduce("mistakes::a_joiner_dies_half_way");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    n2.set("cluster.join", &n1.peers().to_string());
    n1.start_again();
    add_device(&n1, DEVICE);
    for lives_ms in [60, 120, 180, 240, 320, 400] {
        n2.spawn();
        std::thread::sleep(Duration::from_millis(lives_ms));
        n2.kill();
        let (_, info) = n1.call("GET", "/api/v1/cluster", "");
        println!("lived {lives_ms} ms: {} members", info["members"].as_array().unwrap().len());
    }
    // Admitted, and dead before it has said so.
    n2.spawn();
    let admitted = || {
        let (_, info) = n1.call("GET", "/api/v1/cluster", "");
        info["members"].as_array().filter(|members| members.len() > 1).map(|_| ())
    };
    eventually("it is admitted", SOON, admitted);
    n2.kill();
    n2.start_again();
    for node in [&n1, &n2] {
        members_are(node, &[1, 2]);
        devices_are(node, &[DEVICE]);
    }
    assert_eq!(at_rest(&[n1, n2])[0]["members"].as_array().unwrap().len(), 2);
}

/// It is its own only seed, named twice: a cluster of one. It shall join itself: it says that this
/// leads nowhere.
#[test]
fn a_node_that_is_its_own_seed() {
    reproduce("mistakes::a_node_that_is_its_own_seed");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    n1.set("cluster.discovery", "static");
    n1.set("cluster.static.seeds", &format!("{0},{0}", n1.peers()));
    n1.start_again();
    members_are(&n1, &[1]);
    n2.set("cluster.join", &n2.peers().to_string());
    n2.spawn();
    eventually("it says so", SOON, || n2.log().contains("this is the same node").then_some(()));
    assert_eq!(n2.get("/health/ready").map(|(status, _)| status), Some(503));
}

/// Seeds where nobody is, or somebody who is no node: it waits, says whom it misses, and is a
/// member as soon as it can be one.
#[test]
fn seeds_that_lead_nowhere() {
    reproduce("mistakes::seeds_that_lead_nowhere");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = deaf.local_addr().unwrap();
    let seeds = format!("{},{},{deaf}", n1.peers(), n2.peers());
    for node in [&mut n1, &mut n2] {
        node.set("cluster.discovery", "static");
        node.set("cluster.static.seeds", &seeds);
    }
    n1.spawn();
    eventually("it says whom it misses", SOON, || {
        let log = n1.log();
        let missed = |address: &str| {
            log.lines().any(|line| line.contains("no peer link") && line.contains(address))
        };
        (missed(&n2.peers().to_string()) && missed(&deaf.to_string())).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(n1.get("/health/ready").map(|(status, _)| status), Some(503));
    let lines = n1.log().lines().filter(|line| line.contains("no peer link")).count();
    assert!(lines <= 6, "{lines} lines\n{}", n1.log());
    // Two of three are a majority.
    n2.start_again();
    n1.wait_ready();
    members_are(&n1, &[1, 2]);
}

/// Runs a node that must not start; what it says.
fn does_not_start(mut node: Tern) -> String {
    node.spawn();
    let status = node.ended(SOON);
    assert_ne!(status.code(), Some(0), "{}", node.log());
    node.log()
}

#[test]
fn a_port_range_without_a_free_port() {
    reproduce("mistakes::a_port_range_without_a_free_port");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    let port = n1.peers().port();
    let base = port - (n1.mqtt().port() - 1_883);
    let taken: Vec<_> =
        (port..port + 2).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
    assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    n1.set("listen.peers", &format!("127.0.0.1:{base}-{}", base + 1));
    let said = does_not_start(n1);
    assert!(said.contains("port range exhausted") && said.contains(&port.to_string()), "{said}");
    // One that is free is found behind one that is not.
    let port = n2.peers().port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    n2.set("listen.peers", "127.0.0.1:6369-6379");
    n2.start_again();
    members_are(&n2, &[2]);
}

#[test]
fn a_cookie_that_is_none() {
    reproduce("mistakes::a_cookie_that_is_none");
    for cookie in ["emqsecretcookie", "correct horse battery staple", "x"] {
        let mut node = prepared(1);
        node.set("cluster.cookie", cookie);
        let said = does_not_start(node);
        assert!(said.contains("tern cluster cookie new"), "{said}");
        assert!(cookie.len() < 2 || !said.contains(cookie), "it is not repeated: {said}");
    }
    let in_file = |text: &str, mode: u32| {
        let mut node = prepared(1);
        node.set("cluster.cookie", "");
        std::fs::create_dir(node.data()).unwrap();
        let file = node.data().join("cluster.cookie");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        node
    };
    for mode in [0o644, 0o640, 0o604] {
        let said = does_not_start(in_file(COOKIE, mode));
        assert!(said.contains("chmod 600") && !said.contains(COOKIE), "{mode:o}: {said}");
    }
    let said = does_not_start(in_file("emqsecretcookie\n", 0o600));
    assert!(said.contains("published default"), "{said}");
    let mut node = in_file(&format!("{COOKIE}\n"), 0o600);
    node.start_again();
    let (_, info) = node.call("GET", "/api/v1/cluster", "");
    assert_eq!(info["name"], name(1));
}
