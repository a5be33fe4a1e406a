//! Who no longer hears whom when nodes are kept apart: pure, from a shape and names.

use std::collections::BTreeSet;

use scenario::{Fault, Shape};

/// A link that nothing passes: from the first to the second.
pub type Link = (String, String);

/// The side of a partition that does not say it, out of one draw; `None` for shapes without.
///
/// * `nodes`: all of them.
/// * `fault`: its `node` is a name by now, or a role that nobody plays yet: see [`settle`].
pub fn draw_side(fault: &Fault, nodes: &[String], drawn: u64) -> Option<Vec<String>> {
    let shape = fault.shape?;
    let node = fault.node.as_ref().filter(|node| nodes.contains(*node));
    let others = nodes.iter().filter(|name| Some(*name) != node).cloned().collect();
    let (mut order, drawn) = shuffled(others, drawn);
    match shape {
        Shape::Isolate | Shape::OneWay => None,
        Shape::Ring | Shape::MajorityRing => Some(order),
        Shape::Bridge => {
            order.truncate((nodes.len().saturating_sub(1) / 2).max(1));
            Some(order)
        }
        Shape::Split => {
            let most = (nodes.len() as u64).saturating_sub(1).max(1);
            let size = fault.count.map_or(1 + drawn % most, u64::from);
            order.splice(0..0, node.cloned());
            order.truncate(usize::try_from(size).unwrap_or(usize::MAX));
            Some(order)
        }
    }
}

/// Any order of names out of one draw, and what is left of it.
fn shuffled(mut names: Vec<String>, mut drawn: u64) -> (Vec<String>, u64) {
    let mut order = Vec::new();
    while !names.is_empty() {
        let len = names.len() as u64;
        order.push(names.remove(usize::try_from(drawn % len).unwrap_or(0)));
        drawn /= len;
    }
    (order, drawn)
}

/// Puts the node that is meant where its shape wants it, now that its name is known: onto the side
/// of a split in the place of another, off the sides of a bridge.
pub fn settle(fault: &mut Fault, nodes: &[String]) {
    let (Some(node), Some(side)) = (&fault.node, &mut fault.side) else { return };
    if fault.shape == Some(Shape::Bridge) {
        side.retain(|name| name != node);
        if side.is_empty() {
            side.extend(nodes.iter().find(|name| *name != node).cloned());
        }
    } else if !side.contains(node)
        && let Some(first) = side.first_mut()
    {
        first.clone_from(node);
    }
}

/// The links between nodes that a partition cuts.
pub fn cuts(fault: &Fault, nodes: &[String]) -> BTreeSet<Link> {
    let Some(shape) = fault.shape else { return BTreeSet::new() };
    let (node, side) = (fault.node.as_ref(), fault.side.as_deref().unwrap_or_default());
    let on_side = |name: &String| side.contains(name);
    let is_node = |name: &String| Some(name) == node;
    let passes = |from: &String, to: &String| match shape {
        Shape::Split => on_side(from) == on_side(to),
        Shape::Isolate => !is_node(from) && !is_node(to),
        Shape::OneWay if fault.hears == Some(true) => !is_node(from),
        Shape::OneWay => !is_node(to),
        Shape::Bridge => is_node(from) || is_node(to) || on_side(from) == on_side(to),
        Shape::Ring => neighbours(side, from, to),
        Shape::MajorityRing => hears(side, to, from),
    };
    let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (from, to)));
    let cut = pairs.filter(|(from, to)| from != to && !passes(from, to));
    cut.map(|(from, to)| (from.clone(), to.clone())).collect()
}

/// The links of a partition with those of gateways and clients, each of which stands beside a node
/// and reaches what that reaches.
///
/// * `sites`: the name of each, and the node it stands beside.
pub fn with_sites(mut links: BTreeSet<Link>, sites: &[(&String, &String)]) -> BTreeSet<Link> {
    let between = links.clone();
    for (from, to) in between {
        for (name, home) in sites {
            if **home == from {
                links.insert(((*name).clone(), to.clone()));
            }
            if **home == to {
                links.insert((from.clone(), (*name).clone()));
            }
        }
    }
    links
}

/// The links of a partition with those between its side, or its one node, and all other hosts.
pub fn with_everything(
    fault: &Fault,
    mut links: BTreeSet<Link>,
    others: &[&String],
) -> BTreeSet<Link> {
    let side = fault.side.iter().flatten();
    let side: Vec<&String> =
        if fault.side.is_some() { side.collect() } else { fault.node.iter().collect() };
    let one_way = fault.shape == Some(Shape::OneWay);
    let (hears, is_heard) =
        (one_way && fault.hears == Some(true), one_way && fault.hears != Some(true));
    for node in side {
        for other in others {
            if !hears {
                links.insert(((*other).clone(), node.clone()));
            }
            if !is_heard {
                links.insert((node.clone(), (*other).clone()));
            }
        }
    }
    links
}

/// How far the second is in front of the first around a ring.
fn ahead(ring: &[String], from: &String, to: &String) -> Option<usize> {
    let place = |name: &String| ring.iter().position(|other| other == name);
    Some((place(to)? + ring.len() - place(from)?) % ring.len())
}

fn neighbours(ring: &[String], one: &String, other: &String) -> bool {
    ahead(ring, one, other).is_none_or(|ahead| ahead == 1 || ahead + 1 == ring.len())
}

/// Whether a node hears another: a majority in a row, itself in the middle, and with an even
/// majority one more behind it than in front.
fn hears(ring: &[String], node: &String, other: &String) -> bool {
    let majority = ring.len() / 2 + 1;
    let in_front = (majority - 1) / 2;
    ahead(ring, node, other)
        .is_none_or(|ahead| ahead <= in_front || ahead + majority / 2 >= ring.len())
}

#[cfg(test)]
mod tests {
    use scenario::{FaultKind, SpanRange};

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("n{number}")).collect()
    }

    fn fault(shape: Shape, node: Option<&str>, side: &[&str]) -> Fault {
        let side = (!side.is_empty()).then(|| side.iter().map(|&name| name.to_owned()).collect());
        let plain = Fault::new(FaultKind::Partition, SpanRange::ms(0, 0));
        Fault { shape: Some(shape), node: node.map(str::to_owned), side, ..plain }
    }

    /// Whom each node hears, as digits: "1:23 2:1 3:1".
    fn heard(fault: &Fault, count: usize) -> String {
        let (nodes, cut) = (names(count), cuts(fault, &names(count)));
        let of = |to: &String| {
            let hears =
                |from: &&String| *from != to && !cut.contains(&((*from).clone(), to.clone()));
            let all = nodes.iter().filter(hears).map(|name| &name[1..]);
            format!("{}:{}", &to[1..], all.collect::<String>())
        };
        nodes.iter().map(of).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_split_leaves_each_side_to_itself() {
        let split = fault(Shape::Split, None, &["n2", "n5"]);
        assert_eq!(heard(&split, 5), "1:34 2:5 3:14 4:13 5:2");
    }

    #[test]
    fn who_is_isolated_neither_hears_nor_is_heard() {
        assert_eq!(heard(&fault(Shape::Isolate, Some("n2"), &[]), 3), "1:3 2: 3:1");
    }

    #[test]
    fn one_way_is_deaf_and_with_hears_mute() {
        let deaf = fault(Shape::OneWay, Some("n1"), &[]);
        assert_eq!(heard(&deaf, 3), "1: 2:13 3:12");
        let mute = Fault { hears: Some(true), ..deaf };
        assert_eq!(heard(&mute, 3), "1:23 2:3 3:2");
    }

    #[test]
    fn two_halves_meet_at_the_bridge_alone() {
        let bridge = fault(Shape::Bridge, Some("n3"), &["n1", "n2"]);
        assert_eq!(heard(&bridge, 5), "1:23 2:13 3:1245 4:35 5:34");
        assert_eq!(heard(&fault(Shape::Bridge, Some("n2"), &["n3"]), 3), "1:2 2:13 3:2");
    }

    #[test]
    fn around_a_ring_each_sees_its_neighbours() {
        let ring = fault(Shape::Ring, None, &["n1", "n3", "n5", "n2", "n4"]);
        assert_eq!(heard(&ring, 5), "1:34 2:45 3:15 4:12 5:23");
    }

    #[test]
    fn around_a_majority_ring_each_hears_another_majority() {
        for count in 3..=9 {
            let nodes = names(count);
            let ring: Vec<&str> = nodes.iter().map(String::as_str).collect();
            let text = heard(&fault(Shape::MajorityRing, None, &ring), count);
            let mut seen = BTreeSet::new();
            for node in text.split(' ') {
                let (own, others) = node.split_once(':').unwrap();
                assert_eq!(others.len() + 1, count / 2 + 1, "{text}");
                let mut majority: Vec<char> = own.chars().chain(others.chars()).collect();
                majority.sort_unstable();
                assert!(seen.insert(majority), "two hear the same: {text}");
            }
        }
        let three = fault(Shape::MajorityRing, None, &["n1", "n2", "n3"]);
        assert_eq!(heard(&three, 3), "1:3 2:1 3:2");
    }

    #[test]
    fn sites_share_the_fate_of_their_nodes_and_everything_spares_nobody() {
        let [gw1, gw2, n1, n2] = ["gw1", "gw2", "n1", "n2"].map(str::to_owned);
        let isolated = fault(Shape::Isolate, Some("n1"), &[]);
        let told = |links: &BTreeSet<Link>| {
            let texts = links.iter().map(|(from, to)| format!("{from}>{to}"));
            texts.collect::<Vec<_>>().join(" ")
        };
        let between = cuts(&isolated, &names(2));
        let sites = with_sites(between.clone(), &[(&gw1, &n1), (&gw2, &n2)]);
        assert_eq!(told(&sites), "gw1>n2 gw2>n1 n1>gw2 n1>n2 n2>gw1 n2>n1");
        let all = with_everything(&isolated, between, &[&gw1, &gw2]);
        assert_eq!(told(&all), "gw1>n1 gw2>n1 n1>gw1 n1>gw2 n1>n2 n2>n1");
        let deaf = fault(Shape::OneWay, Some("n1"), &[]);
        let all = with_everything(&deaf, cuts(&deaf, &names(2)), &[&gw1]);
        assert_eq!(told(&all), "gw1>n1 n2>n1");
    }

    #[test]
    fn sides_are_drawn_as_their_shape_wants_them() {
        let nodes = names(5);
        let mut sizes = BTreeSet::new();
        for drawn in 0..2_000 {
            let drawn = drawn * 7_919;
            let side = |fault: &Fault| draw_side(fault, &nodes, drawn);
            let split = side(&fault(Shape::Split, Some("n4"), &[])).unwrap();
            assert!(split.contains(&"n4".to_owned()) && split.len() < 5);
            sizes.insert(split.len());
            let half = side(&fault(Shape::Bridge, Some("n4"), &[])).unwrap();
            assert!(half.len() == 2 && !half.contains(&"n4".to_owned()));
            let ring: BTreeSet<_> =
                side(&fault(Shape::Ring, None, &[])).unwrap().into_iter().collect();
            assert_eq!(ring.len(), 5);
            assert!(side(&fault(Shape::Isolate, Some("n1"), &[])).is_none());
            let two = Fault { count: Some(2), ..fault(Shape::Split, Some("leader"), &[]) };
            assert_eq!(side(&two).unwrap().len(), 2);
        }
        assert_eq!(sizes, BTreeSet::from([1, 2, 3, 4]));
    }

    #[test]
    fn who_plays_a_role_takes_its_place() {
        let mut split = fault(Shape::Split, Some("n3"), &["n1", "n2"]);
        settle(&mut split, &names(5));
        assert_eq!(split.side.unwrap(), ["n3", "n2"]);
        let mut bridge = fault(Shape::Bridge, Some("n1"), &["n1"]);
        settle(&mut bridge, &names(3));
        assert_eq!(bridge.side.unwrap(), ["n2"]);
    }
}
