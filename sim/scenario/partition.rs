//! What a partition may say: which keys go with which shape, and sides that are sides.

use std::collections::BTreeSet;

use crate::error::quote;
use crate::fault::{Fault, Key, Reach, Shape};

/// Checks the keys of a partition among `nodes` nodes, whose names are known to be right.
pub(crate) fn check(fault: &Fault, shape: Shape, nodes: u32) -> Result<(), String> {
    let name = shape.name();
    if nodes < shape.nodes_min() {
        let least = shape.nodes_min();
        return Err(format!("the shape {name} takes {least} nodes or more, there are {nodes}"));
    }
    let (needed, allowed) = keys(shape);
    let present = fault.keys();
    let own = [Key::Node, Key::Side, Key::Count, Key::Hears, Key::Reach];
    for key in own {
        if needed.contains(&key) && !present.contains(&key) {
            return Err(format!("`{}` is missing, for the shape {name}", key.name()));
        }
        if present.contains(&key) && !needed.contains(&key) && !allowed.contains(&key) {
            return Err(format!("`{}` means nothing for the shape {name}", key.name()));
        }
    }
    if fault.reach == Some(Reach::Everything) && matches!(shape, Shape::Bridge) {
        return Err("`everything`: a bridge has two sides, and neither is meant".to_owned());
    }
    let others = nodes - 1;
    if let Some(count) = fault.count.filter(|count| !(1..=others).contains(count)) {
        return Err(format!("`count` is {count}, which is not between 1 and {others}"));
    }
    fault.side.as_ref().map_or(Ok(()), |side| sides(fault, shape, side, nodes as usize))
}

/// The keys that a shape needs, and those that it may have.
const fn keys(shape: Shape) -> (&'static [Key], &'static [Key]) {
    match shape {
        Shape::Split => (&[], &[Key::Node, Key::Side, Key::Count, Key::Reach]),
        Shape::Isolate => (&[Key::Node], &[Key::Reach]),
        Shape::OneWay => (&[Key::Node], &[Key::Hears, Key::Reach]),
        Shape::Bridge => (&[], &[Key::Node, Key::Side, Key::Reach]),
        Shape::Ring | Shape::MajorityRing => (&[], &[Key::Side]),
    }
}

fn sides(fault: &Fault, shape: Shape, side: &[String], nodes: usize) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = side.iter().find(|name| !seen.insert(*name)) {
        return Err(format!("`side` names {} twice", quote(twice)));
    }
    let (least, most) = match shape {
        Shape::Ring | Shape::MajorityRing => (nodes, nodes),
        Shape::Bridge => (1, nodes - 2),
        Shape::Split | Shape::Isolate | Shape::OneWay => (1, nodes - 1),
    };
    if !(least..=most).contains(&side.len()) {
        return Err(format!("`side` must name {least} to {most} of the {nodes} nodes"));
    }
    if fault.count.is_some_and(|count| count as usize != side.len()) {
        return Err("`count` and `side` say different things".to_owned());
    }
    let named = fault.node.as_ref().filter(|node| node.starts_with('n'));
    let on_it = named.is_none_or(|node| side.contains(node) != (shape == Shape::Bridge));
    let drawn = fault.node.is_some() && named.is_none();
    match (on_it, drawn && fault.node.as_deref() == Some("any")) {
        (true, false) => Ok(()),
        (false, _) if shape == Shape::Bridge => Err("the bridge is on neither side".to_owned()),
        (false, _) => Err("`node` is not on its `side`".to_owned()),
        (true, true) => Err("`node` is drawn, and `side` is not".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::Scenario;

    fn parse(nodes: u32, rest: &str) -> Result<Scenario, String> {
        let text = format!(
            "title = \"t\"\nduration = \"60s\"\n[nodes]\ncount = {nodes}\n[[fault]]\n\
             kind = \"partition\"\nat = \"1s\"\n{rest}\n"
        );
        Scenario::parse("s.toml", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_shape_has_its_keys_and_is_written_as_it_reads() {
        for rest in [
            "shape = \"split\"",
            "shape = \"split\"\nnode = \"leader\"\ncount = 2",
            "shape = \"split\"\nside = [\"n1\", \"n3\"]\nreach = \"sites\"",
            "shape = \"isolate\"\nnode = \"any\"\nreach = \"everything\"\nafter = \"ack\"",
            "shape = \"one_way\"\nnode = \"n2\"\nhears = true\nflap = \"300ms..900ms\"",
            "shape = \"bridge\"",
            "shape = \"bridge\"\nnode = \"follower\"\nside = [\"n1\"]",
            "shape = \"ring\"\nlasts = \"5s\"",
            "shape = \"majority_ring\"\nside = [\"n2\", \"n1\", \"n5\", \"n3\", \"n4\"]",
        ] {
            let scenario = parse(5, rest).unwrap_or_else(|why| panic!("{rest}: {why}"));
            let written = scenario.to_toml().unwrap();
            assert_eq!(Scenario::parse("written.toml", &written).unwrap(), scenario, "{rest}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (nodes, rest, expected) in [
            (1, "shape = \"split\"", "shape split takes 2 nodes or more, there are 1"),
            (3, "shape = \"ring\"", "shape ring takes 4 nodes"),
            (5, "", "`shape` is missing"),
            (5, "shape = \"isolate\"", "`node` is missing, for the shape isolate"),
            (5, "shape = \"ring\"\nnode = \"n1\"", "`node` means nothing for the shape ring"),
            (5, "shape = \"split\"\nhears = true", "`hears` means nothing for the shape split"),
            (5, "shape = \"split\"\ncount = 5", "not between 1 and 4"),
            (5, "shape = \"split\"\nside = [\"n1\", \"n1\"]", "names n1 twice"),
            (5, "shape = \"split\"\nside = [\"n6\"]", "no `n6` in this scenario"),
            (5, "shape = \"split\"\nnode = \"n2\"\nside = [\"n1\"]", "not on its `side`"),
            (5, "shape = \"split\"\nnode = \"any\"\nside = [\"n1\"]", "`node` is drawn"),
            (5, "shape = \"bridge\"\nnode = \"n1\"\nside = [\"n1\"]", "on neither side"),
            (5, "shape = \"majority_ring\"\nside = [\"n1\"]", "5 to 5 of the 5 nodes"),
            (5, "shape = \"triangle\"", "no key `triangle` here; known: split"),
        ] {
            let why = parse(nodes, rest).expect_err(rest);
            assert!(why.contains(expected), "{rest}: {why}");
        }
    }
}
