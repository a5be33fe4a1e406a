//! Nodes come and go: real processes on loopback, asked by the command line as people ask them.
//!
//! The numbers are those of the scenarios (requirements, section E). A file per subject: joining,
//! leaving, restarts, operators' mistakes, deaths under load, who listens where; what is on the
//! wire, strangers at the door, and a network that breaks.

mod join;
mod kills;
mod leave;
mod listen;
mod mistakes;
mod network;
mod restart;
mod strangers;
mod wire;

use std::time::Duration;

use serde_json::Value;
use tests::{Tern, eventually};

/// How long anything about members may take; on a free machine it is a second or two.
const SOON: Duration = Duration::from_secs(40);
/// What all nodes of these clusters share.
const COOKIE: &str = "aWm4Qz81LpYx7Kc2vTn0Rj5sEd9Hb3Gf6UoX1ZqMtW0";

/// Says how to run one test again.
fn reproduce(test: &str) {
    println!("again: cargo test -p tests --test main cluster::{test} -- --exact --nocapture");
}

/// `n1@127.0.0.1`
fn name(number: u8) -> String {
    format!("n{number}@127.0.0.1")
}

/// As an operator names it to another.
fn place(number: u8, node: &Tern) -> String {
    format!("{}:{}", name(number), node.peers().port())
}

/// A node that is not started yet.
fn prepared(number: u8) -> Tern {
    let mut node = Tern::prepare(env!("CARGO_BIN_EXE_tern-under-test").as_ref(), "EU868", &[]);
    node.set("node.name", &name(number));
    node.set("listen.peers", "127.0.0.1:6369");
    node.set("cluster.address", "127.0.0.1:0");
    node.set("cluster.cookie", COOKIE);
    node
}

/// Nodes that are each alone.
fn singles<const N: usize>() -> [Tern; N] {
    let mut number = 0;
    let mut nodes: [Tern; N] = std::array::from_fn(|_| {
        number += 1;
        prepared(number)
    });
    nodes.iter_mut().for_each(Tern::spawn);
    nodes.iter_mut().for_each(Tern::wait_ready);
    nodes
}

/// One cluster; all but the first are admitted at their first start.
fn cluster_of<const N: usize>() -> [Tern; N] {
    let mut number = 0;
    let mut nodes: [Tern; N] = std::array::from_fn(|_| {
        number += 1;
        prepared(number)
    });
    let first = nodes[0].peers().to_string();
    nodes.iter_mut().skip(1).for_each(|node| node.set("cluster.join", &first));
    nodes.iter_mut().for_each(Tern::spawn);
    nodes.iter_mut().for_each(Tern::wait_ready);
    let numbers: Vec<u8> = (1..=number).collect();
    nodes.iter().for_each(|node| members_are(node, &numbers));
    nodes
}

/// Waits until a node sees exactly these members, all of them up and voting.
fn members_are(node: &Tern, numbers: &[u8]) {
    let mut wanted: Vec<String> = numbers.iter().map(|number| name(*number)).collect();
    wanted.sort();
    let what = format!("{wanted:?} are the members\n{}", node.log());
    eventually(&what, SOON, || {
        let (status, info) = node.call("GET", "/api/v1/cluster", "");
        let members = info["members"].as_array()?;
        let full =
            |one: &Value| one["status"] == "up" && one["votes"] == true && one["running"] == true;
        let mut names: Vec<_> =
            members.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        (status == 200 && names == wanted && members.iter().all(full)).then_some(())
    });
}

/// Runs a command that must fail; what it says.
fn refused(node: &Tern, arguments: &[&str]) -> String {
    let output = node.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} is refused: {said}");
    said
}

/// Gives a node something to lose.
fn add_device(node: &Tern, dev_eui: &str) {
    node.ok(&["application", "add", "office"]);
    node.ok(&["profile", "add", "room"]);
    let key = "00112233445566778899aabbccddeeff";
    node.ok(&["device", "add", dev_eui, "--app-key", key, "--name", "room-5"]);
}

/// Waits until a node knows these devices.
fn devices_are(node: &Tern, dev_euis: &[&str]) {
    eventually("the devices are there", SOON, || {
        let (_, list) = node.call("GET", "/api/devices?limit=10", "");
        let found = list["result"].as_array()?.iter().map(|one| one["devEui"].as_str());
        (found.collect::<Vec<_>>() == dev_euis.iter().copied().map(Some).collect::<Vec<_>>())
            .then_some(())
    });
}

/// Whether a folder `data.pre-join-..` or `data.removed-..` lies in a node's data folder.
fn set_aside(node: &Tern, why: &str) -> bool {
    let all = std::fs::read_dir(node.data()).unwrap();
    let mut names = all.map(|one| one.unwrap().file_name().into_string().unwrap());
    names.any(|name| name.starts_with(&format!("data.{why}-")))
}
