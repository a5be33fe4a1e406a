//! Who goes: by his own wish, or taken out, dead or alive.

use serde_json::json;
use tests::eventually;

use super::{
    SOON, add_device, cluster_of, devices_are, members_are, name, place, refused, reproduce,
    set_aside, singles,
};

const DEVICE: &str = "70b3d57ed0001234";

/// Scenario 1.
#[test]
fn join_leave_basic() {
    reproduce("leave::join_leave_basic");
    let [n1, n2, n3] = singles();
    add_device(&n1, DEVICE);
    let status = |names: &str| {
        format!("Join the cluster successfully.\nCluster status: [{{running_nodes,[{names}]}}]\n")
    };
    let said = n2.ok(&["cluster", "join", &place(1, &n1)]);
    assert_eq!(said, status("'n1@127.0.0.1','n2@127.0.0.1'"));
    n3.ok(&["cluster", "join", &place(1, &n1)]);
    for node in [&n1, &n2, &n3] {
        members_are(node, &[1, 2, 3]);
        devices_are(node, &[DEVICE]);
    }
    let said = n2.ok(&["cluster", "leave"]);
    let alone =
        "Leave the cluster successfully.\nCluster status: [{running_nodes,['n2@127.0.0.1']}]\n";
    assert_eq!(said, alone);
    n3.ok(&["cluster", "leave"]);
    // They are empty singles and stay so.
    for (node, number) in [(&n2, 2), (&n3, 3)] {
        members_are(node, &[number]);
        devices_are(node, &[]);
        assert!(set_aside(node, "removed"));
    }
    members_are(&n1, &[1]);
    devices_are(&n1, &[DEVICE]);
}

/// Scenarios 15 and 16.
#[test]
fn force_leave_self_ignored_and_the_last_stays() {
    reproduce("leave::force_leave_self_ignored_and_the_last_stays");
    let [n1] = singles();
    for own in ["n1", &name(1), "1"] {
        assert_eq!(n1.ok(&["cluster", "force-leave", own]), "Ignore.\n");
    }
    let said = refused(&n1, &["cluster", "leave"]);
    assert!(said.contains("Failed to leave the cluster: node_not_in_cluster"), "{said}");
    let said = refused(&n1, &["cluster", "remove", "n7@127.0.0.1"]);
    assert!(said.contains("{node_not_in_cluster,'n7@127.0.0.1'}"), "{said}");
    members_are(&n1, &[1]);
}

/// Scenario 13.
#[test]
fn web_admin_remove_server() {
    reproduce("leave::web_admin_remove_server");
    let [n1, _n2, mut n3] = cluster_of();
    let (status, answer) = n1.call("DELETE", "/api/servers/n3@127.0.0.1", "");
    assert_eq!((status, &answer["state"]), (200, &json!("done")), "{answer}");
    let ended = n3.ended(SOON);
    assert_eq!(ended.code(), Some(0), "{}", n3.log());
    assert!(n3.log().contains("removed from cluster"), "{}", n3.log());
    assert!(set_aside(&n3, "removed"));
    members_are(&n1, &[1, 2]);
    // It does not come back by itself.
    n3.start_again();
    members_are(&n3, &[3]);
    members_are(&n1, &[1, 2]);
}

/// Scenario 14.
#[test]
fn remove_dead_node() {
    reproduce("leave::remove_dead_node");
    let [n1, n2, mut n3] = cluster_of();
    n3.kill();
    let said = n1.ok(&["cluster", "remove", &name(3)]);
    assert!(said.starts_with("Remove the node from cluster successfully.\n"), "{said}");
    for node in [&n1, &n2] {
        members_are(node, &[1, 2]);
    }
    n3.spawn();
    assert_eq!(n3.ended(SOON).code(), Some(0), "{}", n3.log());
    assert!(n3.log().contains("removed from cluster"), "{}", n3.log());
    members_are(&n1, &[1, 2]);
}

/// Scenario 18.
#[test]
fn leave_then_join_quickly() {
    reproduce("leave::leave_then_join_quickly");
    let nodes: [tests::Tern; 4] = cluster_of();
    let [n1, n2, ..] = &nodes;
    let before = n2.json(&["cluster", "status"])["nodeId"].clone();
    n2.ok(&["cluster", "leave"]);
    n2.ok(&["cluster", "join", &place(1, n1)]);
    nodes.iter().for_each(|node| members_are(node, &[1, 2, 3, 4]));
    assert_ne!(n2.json(&["cluster", "status"])["nodeId"], before, "a new member");
}

/// A drained node leads no more and says so to a load balancer.
#[test]
fn a_drained_node_passes_the_leadership_on() {
    reproduce("leave::a_drained_node_passes_the_leadership_on");
    let nodes: [tests::Tern; 3] = cluster_of();
    let (_, info) = nodes[0].call("GET", "/api/v1/cluster", "");
    let leader = info["leader"].clone();
    let of = |node: &&tests::Tern| node.call("GET", "/api/v1/cluster", "").1["nodeId"] == leader;
    let leading = nodes.iter().find(of).unwrap();
    leading.ok(&["drain"]);
    eventually("another leads", SOON, || {
        let (_, info) = leading.call("GET", "/api/v1/cluster", "");
        (info["leader"].is_u64() && info["leader"] != leader).then_some(())
    });
    let (status, body) = leading.get("/health/ready").unwrap();
    assert!(status == 503 && body.contains("\"draining\""), "{status} {body}");
}
