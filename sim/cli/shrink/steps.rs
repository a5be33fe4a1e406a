//! The ways in which a scenario can be made smaller, in the order in which they are tried.

use std::time::Duration;

use scenario::{
    Bounds, Callers, Clients, Devices, Disk, Expect, Fault, Gateways, Network, Nodes, Scenario,
    Share, Span, SpanRange, Workload,
};

use crate::world::Report;

/// How long a run goes on after what went wrong.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Something to compare: each step must make it smaller, or none helps any more.
pub(super) fn size(scenario: &Scenario) -> u64 {
    let text = scenario.to_toml().map_or(0, |text| text.len() as u64);
    let stage = scenario.devices.count + scenario.gateways.total() + scenario.clients.total();
    text + u64::from(stage) + scenario.duration.0.as_secs()
}

/// The scenario after the step number `place`; the same if the step changes nothing, `None` behind
/// the last.
///
/// * `report`: what came of the scenario: when it went wrong tells how long it must be.
pub(super) fn step(scenario: &Scenario, report: &Report, place: usize) -> Option<Scenario> {
    let mut smaller = scenario.clone();
    match place {
        0 => smaller.expect = Expect::default(),
        1 => smaller.callers = Callers { count: 0, ..Callers::default() },
        2 => smaller.clients = Clients { count: scenario.clients.count, ..Clients::default() },
        3 => smaller.clients.count = scenario.clients.count.min(1),
        4 => smaller.clients.count = 0,
        5 => smaller.devices.count = (scenario.devices.count / 2).max(1),
        6 => smaller.devices.count = scenario.devices.count.saturating_sub(1).max(1),
        7 => smaller.devices.abp = scenario.devices.abp.min(smaller.devices.count) / 2,
        8 => smaller.devices = Devices { count: smaller.devices.count, ..plain_devices(scenario) },
        9 => smaller.gateways.twins = 0,
        10 => smaller.gateways.count = (scenario.gateways.count / 2).max(1),
        11 => smaller.gateways = Gateways { count: smaller.gateways.count, ..Gateways::default() },
        12 => smaller.network = Network::default(),
        13 => smaller.link.clear(),
        14 => smaller.disk = Disk::default(),
        15 => smaller.nodes = plain_nodes(scenario),
        16 => smaller.workload.downlink_every = None,
        17 => smaller.workload.rejoin_every = None,
        18 => smaller.workload = plain_workload(scenario),
        19 => smaller.bounds = Bounds::default(),
        20 => return Some(ending(scenario, report)),
        21 => smaller.settle = Span(scenario.settle.0 / 2),
        22 => smaller.fault.iter_mut().for_each(rounded),
        _ => return None,
    }
    smaller.devices.abp = smaller.devices.abp.min(smaller.devices.count);
    Some(smaller)
}

/// Devices as they are without wishes, but for how they join.
fn plain_devices(scenario: &Scenario) -> Devices {
    Devices { abp: scenario.devices.abp, ..Devices::default() }
}

/// As many nodes, which faults may name, and as they are without wishes.
fn plain_nodes(scenario: &Scenario) -> Nodes {
    let (count, region) = (scenario.nodes.count, scenario.nodes.region.clone());
    Nodes { count, region, ..Nodes::default() }
}

fn plain_workload(scenario: &Scenario) -> Workload {
    Workload {
        uplink_every: scenario.workload.uplink_every.clone(),
        downlink_every: scenario.workload.downlink_every.clone(),
        cancel: Share(0.0),
        ..Workload::default()
    }
}

/// Ends the run soon after what went wrong, or after half the time.
fn ending(scenario: &Scenario, report: &Report) -> Scenario {
    let latest = scenario.fault.iter().map(|fault| fault.at.0.end).max().unwrap_or_default();
    let violated = report.violations.first().and_then(|(_, text)| moment(text));
    let wanted = violated.unwrap_or(scenario.duration.0 / 2).min(scenario.duration.0);
    // Whole seconds read better, and a fault must begin within the run.
    let secs = wanted.max(latest).as_secs() + AFTERMATH.as_secs();
    let duration = Duration::from_secs(secs).min(scenario.duration.0);
    Scenario { duration: Span(duration), ..scenario.clone() }
}

/// The moment in "S1 violated at 12.345678s: ...".
fn moment(text: &str) -> Option<Duration> {
    let seconds = text.split_once(" violated at ")?.1.split_once('s')?.0;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

/// Moments in whole milliseconds.
fn rounded(fault: &mut Fault) {
    let round = |range: &mut SpanRange| {
        let millis = u64::try_from(range.0.start.as_millis()).unwrap_or(u64::MAX);
        *range = SpanRange::fixed(Duration::from_millis(millis));
    };
    round(&mut fault.at);
    if let Some(lasts) = &mut fault.lasts {
        round(lasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        title = "t"
        duration = "100s"
        [gateways]
        count = 4
        twins = 1
        [devices]
        count = 9
        abp = 9
        [callers]
        count = 3
        [[fault]]
        kind = "kill"
        node = "n1"
        at = "12.345678901s"
        lasts = "1.23456s"
    "#;

    #[test]
    fn every_step_leaves_a_scenario_that_can_be_run_and_is_no_larger() {
        let scenario = Scenario::parse("t.toml", TEXT).unwrap();
        let report = Report::default();
        let mut place = 0;
        while let Some(smaller) = step(&scenario, &report, place) {
            let text = smaller.to_toml().unwrap();
            let read = Scenario::parse("step", &text).unwrap_or_else(|e| panic!("{place}: {e}"));
            assert_eq!(read, smaller, "step {place}");
            let counts = |one: &Scenario| {
                (one.devices.count, one.gateways.total(), one.clients.total(), one.duration)
            };
            let (before, after) = (counts(&scenario), counts(&smaller));
            assert!(after.0 <= before.0 && after.1 <= before.1 && after.2 <= before.2);
            assert!(after.3 <= before.3, "step {place}");
            place += 1;
        }
        assert!(place > 15);
    }

    #[test]
    fn the_run_ends_soon_after_what_went_wrong_but_not_before_its_faults() {
        let scenario = Scenario::parse("t.toml", TEXT).unwrap();
        let report = |text: &str| Report {
            violations: vec![("S1".to_owned(), text.to_owned())],
            ..Report::default()
        };
        let secs = |text: &str| ending(&scenario, &report(text)).duration.0.as_secs();
        assert_eq!(secs("S1 violated at 40.123456s: so"), 41);
        assert_eq!(secs("S1 violated at 3.5s: so"), 13);
        assert_eq!(secs("something else"), 51);
    }
}
