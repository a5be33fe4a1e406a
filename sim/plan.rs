//! From the faults of a scenario to what happens when: drawn once per seed, before the run begins.
//!
//! Each `[[fault]]` has a random stream of its own, named after its place, kind and target, so
//! that dropping one leaves the others where they are.

use std::time::Duration;

use crate::dice::{Dice, Seed};
use crate::scenario::{Fault, FaultKind, Promise, Scenario, SpanRange};

/// How soon after a promise an aimed fault strikes.
const AIM: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(2);

/// How long a fault lasts that does not say.
const LASTS: std::ops::Range<Duration> = Duration::from_secs(1)..Duration::from_secs(3);

/// One thing to be done to the world. Hosts by name: `n1`, `gw1`, `app1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Cut the machine's power, if it is running.
    PowerCut(String),
    /// Kill the process, if it is running.
    Kill(String),
    /// Start the node, if it is not running.
    Start(String),
    /// Cut the link from one host to another.
    Cut(String, String),
    /// Mend it.
    Mend(String, String),
    /// Fail the next fsync.
    FailFsync(String),
    /// Let the disk be full.
    FillDisk(String),
    /// Let it have room again.
    FreeDisk(String),
    /// Move the wall clock by microseconds.
    JumpClock(String, i64),
    /// Let the clocks run fast by parts per million.
    DriftClock(String, i32),
}

/// An action and its moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    /// Virtual time.
    pub at: Duration,
    /// What to do.
    pub action: Action,
    /// What to wait for first, and how long to wait after it. What is planned later moves on by
    /// the time this takes.
    pub after: Option<(Promise, Duration)>,
}

impl Planned {
    fn at(at: Duration, action: Action) -> Self {
        Self { at, action, after: None }
    }
}

/// Everything that goes wrong in the run of one seed, in order of time.
pub fn plan(scenario: &Scenario, seed: Seed) -> Vec<Planned> {
    let mut planned: Vec<Planned> = scenario
        .fault
        .iter()
        .enumerate()
        .flat_map(|(place, fault)| draw(place, fault, seed))
        .collect();
    planned.sort();
    planned
}

fn draw(place: usize, fault: &Fault, seed: Seed) -> Vec<Planned> {
    let target = fault.node.as_ref().or(fault.from.as_ref()).map_or("", String::as_str);
    let mut dice = seed.stream(&format!("fault {place} {:?} {target}", fault.kind));
    let happens = dice.chance(fault.chance.map_or(1.0, |share| share.0));
    let times = if happens { fault.times.unwrap_or(1) } else { 0 };
    (0..times).flat_map(|_| draw_once(fault, &mut dice)).collect()
}

fn draw_once(fault: &Fault, dice: &mut Dice) -> Vec<Planned> {
    let at = fault.at.draw(dice);
    let aim = dice.between(&AIM);
    let lasts = fault.lasts.as_ref().unwrap_or(&SpanRange(LASTS)).draw(dice);
    let node = fault.node.clone().unwrap_or_default();
    let (from, to) = (fault.from.clone().unwrap_or_default(), fault.to.clone().unwrap_or_default());
    let (begin, end) = match fault.kind {
        FaultKind::PowerCut => (Action::PowerCut(node.clone()), Some(Action::Start(node))),
        FaultKind::Kill => (Action::Kill(node.clone()), Some(Action::Start(node))),
        FaultKind::Cut => {
            let there = (Action::Cut(from.clone(), to.clone()), Action::Mend(from, to));
            return both_ways(fault, at, lasts, there);
        }
        FaultKind::FsyncError => (Action::FailFsync(node), None),
        FaultKind::DiskFull => (Action::FillDisk(node.clone()), Some(Action::FreeDisk(node))),
        FaultKind::ClockJump => {
            let by = fault.by.map_or(0, |span| span.0.as_micros());
            let by = i64::try_from(by).unwrap_or(i64::MAX);
            let by = if fault.backwards == Some(true) { -by } else { by };
            (Action::JumpClock(node, by), None)
        }
        FaultKind::ClockDrift => {
            let ppm = fault.ppm.unwrap_or(0);
            (Action::DriftClock(node.clone(), ppm), Some(Action::DriftClock(node, 0)))
        }
    };
    let after = fault.after.map(|promise| (promise, aim));
    let begin = Planned { after, ..Planned::at(at, begin) };
    let end = end.map(|action| Planned::at(at + lasts, action));
    [Some(begin), end].into_iter().flatten().collect()
}

fn both_ways(
    fault: &Fault,
    at: Duration,
    lasts: Duration,
    there: (Action, Action),
) -> Vec<Planned> {
    let back = |action: &Action| match action {
        Action::Cut(from, to) => Action::Cut(to.clone(), from.clone()),
        Action::Mend(from, to) => Action::Mend(to.clone(), from.clone()),
        other @ (Action::PowerCut(_)
        | Action::Kill(_)
        | Action::Start(_)
        | Action::FailFsync(_)
        | Action::FillDisk(_)
        | Action::FreeDisk(_)
        | Action::JumpClock(..)
        | Action::DriftClock(..)) => other.clone(),
    };
    let mut planned = Vec::new();
    for (at, action) in [(at, there.0), (at + lasts, there.1)] {
        if fault.both != Some(false) {
            planned.push(Planned::at(at, back(&action)));
        }
        planned.push(Planned::at(at, action));
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_FAULTS: &str = r#"
        title = "t"
        duration = "100s"
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

    fn of(text: &str, seed: u64) -> Vec<Planned> {
        plan(&Scenario::parse("t.toml", text).unwrap(), Seed(seed))
    }

    #[test]
    fn power_returns_after_it_went_and_everything_repeats_with_the_seed() {
        let planned = of(TWO_FAULTS, 7);
        assert_eq!(planned, of(TWO_FAULTS, 7));
        assert_ne!(planned, of(TWO_FAULTS, 8));
        let cuts = |p: &&Planned| p.action == Action::PowerCut("n1".to_owned());
        let starts = |p: &&Planned| p.action == Action::Start("n1".to_owned());
        assert_eq!(planned.iter().filter(cuts).count(), 3);
        assert_eq!(planned.iter().filter(starts).count(), 3);
        assert!(planned.is_sorted_by_key(|planned| planned.at));
    }

    #[test]
    fn an_aimed_fault_waits_for_its_promise_and_its_end_does_not() {
        let aimed = TWO_FAULTS.replace("times = 3", "after = \"delivery\"");
        let planned = of(&aimed, 7);
        let waits =
            |p: &&Planned| matches!(p.after, Some((Promise::Delivery, aim)) if aim < AIM.end);
        let waiting: Vec<_> = planned.iter().filter(waits).collect();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].action, Action::PowerCut("n1".to_owned()));
    }

    #[test]
    fn dropping_the_second_fault_leaves_the_first_where_it_was() {
        let one = TWO_FAULTS.split("[[fault]]").take(2).collect::<Vec<_>>().join("[[fault]]");
        let power = |planned: Vec<Planned>| -> Vec<Planned> {
            let of_node = |p: &Planned| matches!(&p.action, Action::PowerCut(_) | Action::Start(_));
            planned.into_iter().filter(of_node).collect()
        };
        assert_eq!(power(of(&one, 7)), power(of(TWO_FAULTS, 7)));
    }

    #[test]
    fn a_chance_is_drawn_for_each_seed_and_a_cut_goes_both_ways_unless_told() {
        let cut = |seed: u64| {
            let planned = of(TWO_FAULTS, seed);
            planned.iter().filter(|p| matches!(p.action, Action::Cut(..))).count()
        };
        let happened = (0..200).filter(|&seed| cut(seed) == 2).count();
        assert!((70..130).contains(&happened), "{happened} of 200 at 1 in 2");
        assert!((0..200).all(|seed| matches!(cut(seed), 0 | 2)));
        let one_way = TWO_FAULTS.replace("chance = 0.5", "both = false");
        let planned = of(&one_way, 1);
        assert_eq!(planned.iter().filter(|p| matches!(p.action, Action::Mend(..))).count(), 1);
    }
}
