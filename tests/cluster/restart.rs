//! Members that stop, die, move and come back.

use serde_json::Value;
use tests::{Tern, eventually};

use super::{SOON, add_device, cluster_of, devices_are, members_are, name, reproduce};

const DEVICE: &str = "70b3d57ed0001234";

/// Scenario 17.
#[test]
fn member_restart_rejoins() {
    reproduce("restart::member_restart_rejoins");
    let [n1, mut n2, n3] = cluster_of();
    n2.kill();
    eventually("it is missed", SOON, || {
        let stopped = n1.json(&["cluster", "status"])["stopped_nodes"].clone();
        (stopped == serde_json::json!([name(2)])).then_some(())
    });
    add_device(&n3, DEVICE);
    n2.start_again();
    members_are(&n1, &[1, 2, 3]);
    devices_are(&n2, &[DEVICE]);
}

/// Scenario 19: another name and another port; the key is the identity.
#[test]
fn rename_and_readdress() {
    reproduce("restart::rename_and_readdress");
    let [n1, mut n2, n3] = cluster_of();
    add_device(&n1, DEVICE);
    let before = n2.json(&["cluster", "status"])["nodeId"].clone();
    n2.stop();
    n2.set("node.name", &name(7));
    n2.set("listen.peers", "127.0.0.1:0");
    n2.start_again();
    for node in [&n1, &n2, &n3] {
        members_are(node, &[1, 3, 7]);
    }
    assert_eq!(n2.json(&["cluster", "status"])["nodeId"], before);
    devices_are(&n2, &[DEVICE]);
}

fn cluster_ids(nodes: &[Tern]) -> Vec<Value> {
    let id = |node: &Tern| node.call("GET", "/api/v1/cluster", "").1["clusterId"].clone();
    nodes.iter().map(id).collect()
}

#[test]
fn full_cluster_parallel_restart() {
    reproduce("restart::full_cluster_parallel_restart");
    let mut nodes: [Tern; 3] = cluster_of();
    add_device(&nodes[0], DEVICE);
    let before = cluster_ids(&nodes);
    std::thread::scope(|scope| {
        for node in &mut nodes {
            scope.spawn(|| node.stop());
        }
    });
    nodes.iter_mut().for_each(Tern::spawn);
    nodes.iter_mut().for_each(Tern::wait_ready);
    for node in &nodes {
        members_are(node, &[1, 2, 3]);
        devices_are(node, &[DEVICE]);
    }
    assert_eq!(cluster_ids(&nodes), before);
}

#[test]
fn full_cluster_seq_restart_reverse() {
    reproduce("restart::full_cluster_seq_restart_reverse");
    let mut nodes: [Tern; 3] = cluster_of();
    add_device(&nodes[0], DEVICE);
    nodes.iter_mut().for_each(Tern::stop);
    let [n1, n2, n3] = &mut nodes;
    // The one that was stopped last is not needed: any two decide.
    n3.spawn();
    eventually("it answers", SOON, || n3.get("/health/live").filter(|(status, _)| *status == 200));
    assert_eq!(n3.get("/health/ready").unwrap().0, 503, "one of three decides nothing");
    n2.spawn();
    n2.wait_ready();
    n3.wait_ready();
    devices_are(n2, &[DEVICE]);
    n1.start_again();
    for node in &nodes {
        members_are(node, &[1, 2, 3]);
        devices_are(node, &[DEVICE]);
    }
}
