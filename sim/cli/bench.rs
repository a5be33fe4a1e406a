//! How fast it goes: simulated seconds and messages per CPU second, for four named profiles.

use std::path::Path;

use super::apart::{self, Extras};
use super::{Code, complain, load, say};

/// The profiles: a name, and the scenario that is run with seed 1.
const PROFILES: [(&str, &str); 4] = [
    ("small", "scenarios/bench/small.toml"),
    ("large", "scenarios/bench/large.toml"),
    ("cluster", "scenarios/bench/cluster.toml"),
    ("swarm", "scenarios/swarm.toml"),
];

/// Runs each profile `runs` times, one process at a time, and prints the medians.
pub(super) fn run(runs: u32) -> Code {
    say(&format!(
        "{:<8} {:>5} {:>8} {:>8} {:>10} {:>9} {:>12} {:>14}",
        "profile",
        "nodes",
        "gateways",
        "devices",
        "simulated",
        "CPU s",
        "sim s/CPU s",
        "messages/CPU s"
    ));
    for (name, path) in PROFILES {
        let path = Path::new(path);
        let scenario = match load::load(path) {
            Ok(scenario) => scenario,
            Err(why) => {
                complain(&why);
                return Code::Unusable;
            }
        };
        let mut measured = Vec::new();
        for _ in 0..runs {
            let before = apart::cpu_of_children();
            match apart::run(path, 1, &Extras::default()) {
                Ok((_, report)) if report.exit_code() == 0 => {
                    measured.push((apart::cpu_of_children() - before, report));
                }
                Ok((_, report)) => {
                    let wrong = report.violations.iter().map(|(_, text)| text);
                    let why = wrong.chain(&report.unmet).next().map_or("", String::as_str);
                    complain(&format!("{} measures nothing: {why}", path.display()));
                    return Code::Unusable;
                }
                Err(why) => {
                    complain(&why);
                    return Code::Unusable;
                }
            }
        }
        measured.sort_by(|a, b| a.0.total_cmp(&b.0));
        let Some((cpu, report)) = measured.get(measured.len() / 2) else { continue };
        let cpu = cpu.max(0.01);
        say(&format!(
            "{name:<8} {:>5} {:>8} {:>8} {:>8.0} s {cpu:>9.2} {:>12.0} {:>14.0}",
            scenario.nodes.count,
            scenario.gateways.total(),
            scenario.devices.count,
            report.simulated_s,
            report.simulated_s / cpu,
            report.deliveries as f64 / cpu
        ));
    }
    Code::Fine
}
