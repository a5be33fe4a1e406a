//! The world around several nodes: who is struck, who is cut off from whom, and who moves where.
//! What the nodes make of it is not looked at here.

use std::collections::BTreeSet;

use super::radio_tests::{Told, tell};

/// A story of three nodes, one gateway and a talkative device.
fn three(rest: &str, seed: u64) -> Told {
    let stage = "
        duration = \"60s\"
        settle = \"5s\"
        [nodes]
        count = 3
        [devices]
        abp = 1
        [workload]
        uplink_every = \"300ms..600ms\"
        confirmed = 0.0
    ";
    tell(&format!("{stage}{rest}"), seed)
}

/// Moments of lines, counted from the beginning of the workload.
fn moments(told: &Told, lane: &str, begin: &str) -> Vec<f64> {
    let (origin, _) = told.of("world", "the workload begins").next().unwrap();
    told.of(lane, begin).map(|(at, _)| at - origin).collect()
}

#[test]
fn a_gateway_that_hops_is_cut_off_until_another_node_knows_it() {
    let told = three("[[fault]]\nkind = \"hop\"\ngateway = \"gw1\"\nat = \"20s\"", 1);
    let moved = moments(&told, "gw1", "PULL goes to");
    assert_eq!(moved, moments(&told, "gw1", "PUSH goes to"));
    assert!(moved.len() == 1 && (20.0..20.1).contains(&moved[0]), "{moved:?}");
    let (origin, _) = told.of("world", "the workload begins").next().unwrap();
    let calm = told.of("world", "calm").next().unwrap().0;
    let mut cut_off = Vec::new();
    let mut later = Vec::new();
    for (at, text) in told.of("gw1", "hears up").filter(|(at, _)| *at < calm) {
        match (at - origin - moved[0], text.ends_with("cut off")) {
            (before, cut) if before < 0.0 => assert!(!cut, "{before}"),
            (after, true) => cut_off.push(after),
            (after, false) => later.push(after),
        }
    }
    let last = *cut_off.last().unwrap();
    assert!(cut_off.len() >= 2 && last < 11.5, "as long as a keep-alive and the news: {cut_off:?}");
    assert!(later.len() > 10 && later[0] > last, "known, and then known for good");
}

#[test]
fn push_and_pull_hop_each_for_itself_and_rest_at_the_core() {
    let told = three("[gateways]\ncount = 2\nspread = true\nhop_every = \"2s..5s\"", 1);
    let of = |begin: &str| moments(&told, "gw1", begin);
    let (push, pull) = (of("PUSH goes to"), of("PULL goes to"));
    assert!(push.len() > 10 && pull.len() > 10, "{push:?} {pull:?}");
    assert!(push.iter().all(|at| !pull.contains(at) || *at >= 60.0));
    let targets: BTreeSet<&str> =
        told.of("gw1", "PULL goes to ").map(|(_, rest)| &rest[..2]).collect();
    assert_eq!(targets, BTreeSet::from(["n1", "n2", "n3"]));
    assert_ne!(of("PULL"), moments(&told, "gw2", "PULL"));
    let core = told.of("world", "calm; the core:").next().unwrap().1.to_owned();
    for gateway in ["gw1", "gw2"] {
        for socket in ["PUSH goes to ", "PULL goes to "] {
            let (_, last) = told.of(gateway, socket).last().unwrap();
            assert!(core.contains(&last[..2]), "{gateway} {socket}{last}, {core}");
        }
    }
}

#[test]
fn gateways_leave_a_node_that_is_dead_for_some_seconds() {
    let kill = |lasts: &str| {
        format!(
            "[gateways]\nfailover = \"2s..4s\"\n[[fault]]\nkind = \"kill\"\nnode = \"n1\"\n\
             at = \"20s\"\nlasts = \"{lasts}\""
        )
    };
    let told = three(&kill("20s"), 1);
    for socket in ["PUSH goes to", "PULL goes to"] {
        let moved = moments(&told, "gw1", socket);
        assert!((22.0..25.1).contains(&moved[0]), "{socket}: {moved:?}");
        assert!(moved.iter().skip(1).all(|at| *at >= 60.0), "it stays: {moved:?}");
    }
    let soon_back = three(&kill("1s"), 1);
    assert!(moments(&soon_back, "gw1", "PULL").iter().all(|at| *at >= 60.0));
}

#[test]
fn roles_are_cast_when_a_fault_strikes() {
    let kills = "
        [[fault]]
        kind = \"kill\"
        node = \"leader\"
        at = \"10s\"
        lasts = \"25s\"
        [[fault]]
        kind = \"pause\"
        node = \"follower\"
        at = \"30s\"
        lasts = \"1s\"
        [[fault]]
        kind = \"partition\"
        shape = \"split\"
        node = \"leader\"
        count = 1
        at = \"40s\"
        lasts = \"1s\"
    ";
    let mut paused = BTreeSet::new();
    for seed in 1..5 {
        let told = three(kills, seed);
        let struck = |begin: &str| -> Vec<String> {
            let (all, verb) = (told.of("world", begin), " begins");
            all.filter_map(|(_, rest)| rest.strip_suffix(verb)).map(str::to_owned).collect()
        };
        let (killed, paused_now) = (struck("kill "), struck("pause "));
        assert_eq!((killed.len(), paused_now.len()), (1, 1));
        assert_eq!(told.count(&killed[0], "killed"), 1, "{killed:?}");
        assert_eq!(told.count(&paused_now[0], "paused"), 1);
        assert_eq!(struck("partition split n").len(), 1);
        paused.extend(paused_now);
    }
    assert!(paused.len() > 1, "who follows is drawn: {paused:?}");
}

#[test]
fn a_partition_that_flaps_comes_and_goes_and_ends_open() {
    let told = three(
        "[[fault]]\nkind = \"partition\"\nshape = \"isolate\"\nnode = \"any\"\nat = \"10s\"\n\
         lasts = \"20s\"\nflap = \"300ms..900ms\"",
        1,
    );
    let (opens, closes) =
        (moments(&told, "world", "the partition opens"), moments(&told, "world", "it closes"));
    assert!((10..40).contains(&opens.len()) && opens.len() - closes.len() <= 1);
    assert!(opens.iter().zip(&closes).all(|(one, next)| one < next));
    let ended = moments(&told, "world", "partition isolate").pop().unwrap();
    assert!((29.9..30.1).contains(&ended) && opens.iter().all(|at| *at < ended));
}

#[test]
fn what_is_wrong_outside_the_core_is_wrong_for_ever() {
    let mut outside = 0;
    for seed in 0..6 {
        let told = three(
            "[[fault]]\nkind = \"kill\"\nnode = \"any\"\nat = \"50s\"\nlasts = \"10m\"\n\
             [[fault]]\nkind = \"partition\"\nshape = \"majority_ring\"\nat = \"50s\"\n\
             lasts = \"10m\"",
            seed,
        );
        let core = told.of("world", "calm; the core: ").next().unwrap().1.to_owned();
        let nodes = core.split(' ').filter(|name| name.starts_with('n')).count();
        assert_eq!(nodes, 2, "{core}");
        assert_eq!(told.count("world", "the core is whole again, the rest stays apart"), 1);
        let killed = told.of("world", "kill ").next().unwrap().1;
        let killed = killed.strip_suffix(" begins").unwrap();
        let starts = told.count(killed, "boot ");
        if core.split(' ').any(|name| name == killed) {
            assert!(starts >= 2, "{killed} of {core}");
        } else {
            assert_eq!(starts, 1, "{killed} is not of {core}");
            outside += 1;
        }
    }
    assert!((1..6).contains(&outside), "{outside}");
}

#[test]
fn clients_go_anywhere_if_they_may_and_to_the_core_in_the_end() {
    let told =
        three("[clients]\nanywhere = true\naway_every = \"1s..2s\"\naway_for = \"1s..2s\"", 1);
    let all = told.of("app1", "connects to ").map(|(_, rest)| &rest[..2]);
    let all: Vec<&str> = all.collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
    let core = told.of("world", "calm; the core:").next().unwrap().1;
    assert!(core.contains(all.last().unwrap()), "{all:?}: {core}");
}
