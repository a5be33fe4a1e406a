//! Who comes: by command, by configuration, by the list of servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Tern, eventually};

use super::{
    SOON, add_device, cluster_of, devices_are, members_are, name, place, prepared, refused,
    reproduce, set_aside, singles,
};

const DEVICE: &str = "70b3d57ed0001234";

/// Scenario 2.
#[test]
fn join_either_side() {
    reproduce("join::join_either_side");
    let [n1, n2, n3] = singles();
    add_device(&n1, DEVICE);
    // Asked on the side that has something to lose: the other one comes.
    let said = n1.ok(&["cluster", "join", &place(2, &n2)]);
    assert!(said.starts_with("Join the cluster successfully.\nCluster status: "), "{said}");
    for node in [&n1, &n2] {
        members_are(node, &[1, 2]);
        devices_are(node, &[DEVICE]);
    }
    assert!(set_aside(&n2, "pre-join") && !set_aside(&n1, "pre-join"));
    // Both have devices: nobody moves, unless its operator says so.
    add_device(&n3, "70b3d57ed0009999");
    let said = refused(&n3, &["cluster", "join", &place(1, &n1)]);
    assert!(said.contains("--discard-local"), "{said}");
    devices_are(&n3, &["70b3d57ed0009999"]);
    n3.ok(&["cluster", "join", &place(1, &n1), "--discard-local"]);
    members_are(&n3, &[1, 2, 3]);
    devices_are(&n3, &[DEVICE]);
}

/// Scenarios 3, 4, 5.
#[test]
fn join_self_down_and_twice() {
    reproduce("join::join_self_down_and_twice");
    let [n1, n2] = singles();
    for own in ["n1", &name(1), &place(1, &n1), &n1.peers().to_string()] {
        assert_eq!(n1.ok(&["cluster", "join", own]), "Ignore.\n", "{own}");
    }
    let down = prepared(3);
    let said = refused(&n1, &["cluster", "join", &place(3, &down)]);
    let expected = "Failed to join the cluster: {node_down,'n3@127.0.0.1'}";
    assert!(said.contains(expected), "{said}");
    members_are(&n1, &[1]);
    n2.ok(&["cluster", "join", &place(1, &n1)]);
    let before = n2.json(&["cluster", "status"]);
    for (node, other) in [(&n2, place(1, &n1)), (&n1, place(2, &n2)), (&n1, name(2))] {
        let said = refused(node, &["cluster", "join", &other]);
        assert!(said.contains("{already_in_cluster,'"), "{said}");
    }
    assert_eq!(n2.json(&["cluster", "status"])["members"], before["members"]);
}

/// Scenario 6.
#[test]
fn join_each_other_simultaneously() {
    reproduce("join::join_each_other_simultaneously");
    let [n1, n2] = singles();
    let (p1, p2) = (place(1, &n1), place(2, &n2));
    let outputs = std::thread::scope(|scope| {
        let one = scope.spawn(|| n1.run(&["cluster", "join", &p2]));
        let other = scope.spawn(|| n2.run(&["cluster", "join", &p1]));
        [one.join().unwrap(), other.join().unwrap()]
    });
    let texts = outputs.each_ref().map(|output| {
        let (out, err) = (&output.stdout, &output.stderr);
        format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    });
    let good = outputs.iter().filter(|output| output.status.success()).count();
    assert!(good >= 1, "{texts:#?}");
    for (output, text) in outputs.iter().zip(&texts) {
        assert!(output.status.success() || text.contains("already_in_cluster"), "{texts:#?}");
    }
    for node in [&n1, &n2] {
        members_are(node, &[1, 2]);
    }
    // One of them stayed where it was.
    assert_eq!([&n1, &n2].into_iter().filter(|node| set_aside(node, "pre-join")).count(), 1);
}

/// Scenario 7, with four joiners: the machines that run this have two cores.
#[test]
fn join_many_simultaneously() {
    reproduce("join::join_many_simultaneously");
    let nodes: [Tern; 5] = singles();
    let first = place(1, &nodes[0]);
    // The first has devices, so that whoever comes comes to it.
    add_device(&nodes[0], DEVICE);
    let since = Instant::now();
    std::thread::scope(|scope| {
        for node in &nodes[1..] {
            let first = first.as_str();
            scope.spawn(move || node.ok(&["cluster", "join", first]));
        }
    });
    nodes.iter().for_each(|node| members_are(node, &[1, 2, 3, 4, 5]));
    println!("all members after {:?}", since.elapsed());
}

/// Scenario 8.
#[test]
fn join_wrong_secret() {
    reproduce("join::join_wrong_secret");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    n2.set("cluster.cookie", "kP3xVb72QmTz9Ls4Wc8Yh1Nf6Rj0Gd5AeUiOoXqZsKt");
    n1.start_again();
    n2.start_again();
    let since = Instant::now();
    let said = refused(&n2, &["cluster", "join", &place(1, &n1)]);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(said.contains("secret mismatch") && said.trim().lines().count() == 1, "{said}");
    for node in [&n1, &n2] {
        let lines = || node.log().lines().filter(|line| line.contains("secret mismatch")).count();
        eventually("a line in the log", SOON, || (lines() > 0).then_some(()));
        assert_eq!(lines(), 1, "{}", node.log());
        members_are(node, &[node_number(node)]);
    }
    // Whoever does not know the cookie gets not one byte.
    let mut stranger = TcpStream::connect(n1.peers()).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stranger.write_all(&[7; 200]).unwrap();
    let mut answer = Vec::new();
    // Closed or reset: nothing came either way.
    let _ = stranger.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
}

fn node_number(node: &Tern) -> u8 {
    let (_, info) = node.call("GET", "/api/v1/cluster", "");
    let name = info["name"].as_str().unwrap().to_owned();
    name[1..2].parse().unwrap()
}

/// Scenario 11.
#[test]
fn db_master_first_start_only() {
    reproduce("join::db_master_first_start_only");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    n2.set("db_master", &format!("n1@{}", n1.peers()));
    // Nobody is there yet: it waits and does not give up.
    n2.spawn();
    let forming = || n2.get("/health/ready").filter(|(status, _)| *status == 503);
    let (_, body) = eventually("it waits", SOON, forming);
    assert!(body.contains("\"forming\""), "{body}");
    assert_eq!(n2.get("/health/live").unwrap().0, 200);
    n1.start_again();
    n2.wait_ready();
    members_are(&n1, &[1, 2]);
    let before = n2.json(&["cluster", "status"]);
    n2.stop();
    n2.set("db_master", "n9@127.0.0.1:9");
    n2.start_again();
    members_are(&n2, &[1, 2]);
    assert_eq!(n2.json(&["cluster", "status"])["clusterId"], before["clusterId"]);
    assert!(n2.log().contains("this node has a cluster already"), "{}", n2.log());
}

/// Scenario 12.
#[test]
fn web_admin_add_server() {
    reproduce("join::web_admin_add_server");
    let [n1, n2] = singles();
    let body = json!({"sname": place(2, &n2)}).to_string();
    let (status, answer) = n1.call("POST", "/api/servers", &body);
    assert_eq!(status, 409, "{answer}");
    let warning = answer["message"].as_str().unwrap();
    assert!(warning.contains("Database on the node you enter will be DELETED"), "{warning}");
    members_are(&n1, &[1]);
    let body = json!({"sname": place(2, &n2), "confirm": true}).to_string();
    let (status, answer) = n1.call("POST", "/api/servers", &body);
    assert_eq!((status, &answer["node"]), (200, &json!(name(2))), "{answer}");
    members_are(&n1, &[1, 2]);
    assert!(set_aside(&n2, "pre-join") && !set_aside(&n1, "pre-join"), "the one entered comes");
    let (status, list) = n1.call("GET", "/api/servers", "");
    assert_eq!((status, list.as_array().unwrap().len()), (200, 2), "{list}");
    assert_eq!(list[0]["sname"], json!(name(1)));
    assert!(list[0]["memory"]["total_memory"].as_u64().unwrap() > 0, "{list}");
    assert!(list[0]["disk"][0]["size_kb"].as_u64().unwrap() > 0, "{list}");
}

/// Scenario 21.
#[test]
fn booting_node_refuses_join() {
    reproduce("join::booting_node_refuses_join");
    let (mut n1, mut n2) = (prepared(1), prepared(2));
    let seeds = format!("{},127.0.0.1:9,127.0.0.1:10", n1.peers());
    n1.set("cluster.static.seeds", &seeds);
    n1.set("cluster.discovery", "static");
    n1.spawn();
    n2.start_again();
    eventually("it forms", SOON, || n1.get("/health/live"));
    eventually("peers are let in", SOON, || TcpStream::connect(n1.peers()).ok());
    let said = refused(&n2, &["cluster", "join", &place(1, &n1)]);
    assert!(said.contains("is starting and has no cluster yet"), "{said}");
    assert_eq!(n1.get("/health/ready").unwrap().0, 503);
    n1.kill();
    n1.set("cluster.discovery", "off");
    n1.start_again();
    n2.ok(&["cluster", "join", &place(1, &n1)]);
    members_are(&n2, &[1, 2]);
}

/// What an operator sees of a cluster of two, and of three without one.
#[test]
fn what_is_said_of_a_cluster() {
    reproduce("join::what_is_said_of_a_cluster");
    let [n1, mut n2] = cluster_of();
    let output = n1.run(&["cluster", "status"]);
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("two are less available than one"), "{note}");
    n2.kill();
    eventually("it is missed", SOON, || {
        let said = n1.ok(&["cluster", "status"]);
        (said.contains("{stopped_nodes,['n2@127.0.0.1']}") && said.contains("quorum: NO"))
            .then_some(())
    });
    let (_, list) = n1.call("GET", "/api/servers", "");
    assert_eq!(list[1]["health_alerts"], json!(["disconnected"]));
    assert_eq!(list[1]["health_decay"], json!(100));
    let cookie = n1.ok(&["cluster", "cookie", "new"]);
    assert!(cookie.trim().len() >= 43, "{cookie}");
}
