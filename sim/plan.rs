//! From the faults of a scenario to what happens when: drawn once per seed, before the run begins.
//!
//! [`pin`] resolves everything that a seed decides: whether a fault happens, how often, when, to
//! whom, for how long. What comes out are faults again, with nothing left to draw, so that a run
//! can be written down as a scenario of its own and faults be taken away one by one. Each fault
//! has a random stream named after itself: removing one leaves the others where they are. Who leads
//! or follows only the moment can tell at which a fault strikes.

use std::collections::BTreeMap;
use std::time::Duration;

use scenario::{Fault, FaultKind, Numbers, Scenario, Shape, SpanRange};

use crate::dice::{Dice, Seed};
use crate::partition;

/// How soon after a promise an aimed fault strikes, unless it says.
const AIM: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(2);
/// How long a fault lasts that does not say.
const LASTS: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(3);
/// Stands for a target that the seed chooses.
const ANY: &str = "any";

/// Everything that goes wrong in the run of one seed, in order of time.
pub fn pin(scenario: &Scenario, seed: Seed) -> Vec<Fault> {
    let mut ordinals: BTreeMap<String, u32> = BTreeMap::new();
    let mut pinned = Vec::new();
    for fault in &scenario.fault {
        let name = fault.name.clone().unwrap_or_else(|| {
            let plain = format!("{} {}", fault.kind, fault.target()).trim_end().to_owned();
            let ordinal = ordinals.entry(plain.clone()).or_default();
            *ordinal += 1;
            if *ordinal == 1 { plain } else { format!("{plain} #{ordinal}") }
        });
        pinned.extend(draw(scenario, fault, &name, seed));
    }
    pinned.sort_by_key(|fault| fault.at.0.start);
    pinned
}

/// The scenario of one seed alone: [`pin`] in the place of its faults.
pub fn pinned(scenario: &Scenario, seed: Seed) -> Scenario {
    Scenario { fault: pin(scenario, seed), ..scenario.clone() }
}

fn draw(scenario: &Scenario, fault: &Fault, name: &str, seed: Seed) -> Vec<Fault> {
    let mut dice = seed.stream(&format!("fault {name}"));
    let happens = dice.chance(fault.chance.map_or(1.0, |share| share.0));
    let times = if happens { fault.times.unwrap_or(1) } else { 0 };
    let once = |number: u32, dice: &mut Dice| {
        let name = match fault.times {
            Some(_) => format!("{name} /{number}"),
            None => name.to_owned(),
        };
        Fault { name: Some(name), ..draw_once(scenario, fault, dice) }
    };
    (1..=times).map(|number| once(number, &mut dice)).collect()
}

/// One occurrence; always as many draws.
fn draw_once(scenario: &Scenario, fault: &Fault, dice: &mut Dice) -> Fault {
    let fixed = |range: &SpanRange, dice: &mut Dice| SpanRange::fixed(dice.between(&range.0));
    let at = fixed(&fault.at, dice);
    let aim = fixed(fault.aim.as_ref().unwrap_or(&SpanRange(AIM)), dice);
    let lasts = fixed(fault.lasts.as_ref().unwrap_or(&SpanRange(LASTS)), dice);
    let choice = dice.draw();
    let place = dice.draw();
    let write = fault.write.as_ref().map(|write| {
        let width = write.0.end() - write.0.start() + 1;
        Numbers::fixed(write.0.start() + place % width.max(1))
    });
    let one_of = |name: &Option<String>, prefix: &str, count: u32| match name.as_deref() {
        Some(ANY) => Some(format!("{prefix}{}", choice % u64::from(count.max(1)) + 1)),
        _ => name.clone(),
    };
    let mut drawn = Fault {
        at,
        aim: fault.after.is_some().then_some(aim),
        lasts: has_end(fault.kind).then_some(lasts),
        write,
        node: one_of(&fault.node, "n", scenario.nodes.count),
        gateway: one_of(&fault.gateway, "gw", scenario.gateways.total()),
        device: one_of(&fault.device, "dev", scenario.devices.count),
        client: one_of(&fault.client, "app", scenario.clients.total()),
        chance: None,
        times: None,
        ..fault.clone()
    };
    if drawn.shape == Some(Shape::Bridge) && drawn.node.is_none() {
        drawn.node = one_of(&Some(ANY.to_owned()), "n", scenario.nodes.count);
    }
    if drawn.side.is_none() {
        drawn.side = partition::draw_side(&drawn, &nodes_of(scenario), place);
    }
    drawn
}

/// The names of all nodes.
fn nodes_of(scenario: &Scenario) -> Vec<String> {
    scenario.hosts().into_iter().take(scenario.nodes.count as usize).collect()
}

/// Whether a fault of this kind goes on for a time.
fn has_end(kind: FaultKind) -> bool {
    let (needed, allowed) = kind.keys();
    needed.iter().chain(allowed).any(|key| *key == scenario::Key::Lasts)
}

#[cfg(test)]
mod tests {
    use scenario::Promise;

    use super::*;

    const TWO_FAULTS: &str = r#"
        title = "t"
        duration = "100s"
        [devices]
        count = 20
        [[fault]]
        kind = "power_cut"
        node = "n1"
        at = "10s..90s"
        times = 3
        lasts = "2s..4s"
        [[fault]]
        kind = "cut"
        from = "gw1"
        to = "n1"
        at = "5s..50s"
        chance = 0.5
    "#;

    fn parsed(text: &str) -> Scenario {
        Scenario::parse("t.toml", text).unwrap()
    }

    fn of(text: &str, seed: u64) -> Vec<Fault> {
        pin(&parsed(text), Seed(seed))
    }

    fn count(pinned: &[Fault], kind: FaultKind) -> usize {
        pinned.iter().filter(|fault| fault.kind == kind).count()
    }

    #[test]
    fn everything_is_drawn_and_repeats_with_the_seed() {
        let pinned = of(TWO_FAULTS, 7);
        assert_eq!(pinned, of(TWO_FAULTS, 7));
        assert_ne!(pinned, of(TWO_FAULTS, 8));
        assert_eq!(count(&pinned, FaultKind::PowerCut), 3);
        assert!(pinned.is_sorted_by_key(|fault| fault.at.0.start));
        for fault in &pinned {
            assert_eq!(fault.at.0.start, fault.at.0.end);
            assert!(fault.chance.is_none() && fault.times.is_none() && fault.name.is_some());
        }
    }

    #[test]
    fn a_pinned_scenario_is_a_scenario_and_pins_to_itself() {
        let scenario = pinned(&parsed(TWO_FAULTS), Seed(7));
        let written = scenario.to_toml().unwrap();
        let read = Scenario::parse("pinned.toml", &written).unwrap();
        assert_eq!(read, scenario);
        assert_eq!(pin(&read, Seed(7)), scenario.fault);
    }

    #[test]
    fn an_aimed_fault_waits_for_its_promise() {
        let aimed = TWO_FAULTS.replace("times = 3", "after = \"delivery\"");
        let pinned = of(&aimed, 7);
        let waits: Vec<_> = pinned.iter().filter(|fault| fault.after.is_some()).collect();
        assert_eq!(waits.len(), 1);
        assert_eq!(waits[0].after, Some(Promise::Delivery));
        assert!(waits[0].aim.as_ref().is_some_and(|aim| aim.0.start < AIM.end));
    }

    #[test]
    fn dropping_a_fault_leaves_the_others_where_they_were() {
        let parts: Vec<&str> = TWO_FAULTS.split("[[fault]]").collect();
        let power = |pinned: Vec<Fault>| -> Vec<Fault> {
            pinned.into_iter().filter(|fault| fault.kind == FaultKind::PowerCut).collect()
        };
        let without_second = format!("{}[[fault]]{}", parts[0], parts[1]);
        assert_eq!(power(of(&without_second, 7)), power(of(TWO_FAULTS, 7)));
        let swapped = format!("{}[[fault]]{}[[fault]]{}", parts[0], parts[2], parts[1]);
        assert_eq!(power(of(&swapped, 7)), power(of(TWO_FAULTS, 7)));
    }

    #[test]
    fn a_partition_is_drawn_whole_and_pins_to_itself() {
        let text = r#"
            title = "t"
            duration = "100s"
            [nodes]
            count = 5
            [[fault]]
            kind = "partition"
            shape = "split"
            node = "leader"
            at = "10s..90s"
            [[fault]]
            kind = "partition"
            shape = "bridge"
            at = "10s..90s"
            times = 2
            flap = "300ms..900ms"
            [[fault]]
            kind = "partition"
            shape = "majority_ring"
            at = "10s..90s"
        "#;
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let scenario = pinned(&parsed(text), Seed(seed));
            let written = scenario.to_toml().unwrap();
            let read = Scenario::parse("pinned.toml", &written).unwrap();
            assert_eq!(pin(&read, Seed(seed)), scenario.fault);
            let sides = scenario.fault.iter().map(|fault| fault.side.clone().unwrap());
            assert!(scenario.fault.iter().all(|fault| fault.lasts.is_some()));
            seen.extend(sides);
        }
        assert!(seen.len() > 80, "{} sides in 50 seeds", seen.len());
    }

    #[test]
    fn a_chance_and_a_target_are_drawn_for_each_seed() {
        let cut = |seed: u64| count(&of(TWO_FAULTS, seed), FaultKind::Cut);
        let happened = (0..200).filter(|&seed| cut(seed) == 1).count();
        assert!((70..130).contains(&happened), "{happened} of 200 at 1 in 2");
        let any =
            format!("{TWO_FAULTS}\n[[fault]]\nkind = \"reboot\"\ndevice = \"any\"\nat = \"1s\"");
        let struck = |seed: u64| of(&any, seed)[0].device.clone().unwrap();
        let all: std::collections::BTreeSet<String> = (0..200).map(struck).collect();
        assert!(all.len() > 15, "{all:?}");
        assert!(all.iter().all(|name| name.starts_with("dev")));
    }
}
