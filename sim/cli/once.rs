//! One seed, in this process.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use sabotage::Bug;

use super::{Code, complain, say};
use crate::scenario::Scenario;
use crate::trace::{Format, Lanes, Trace};
use crate::world::{self, Record, Report};

/// Runs a scenario once and says what came of it.
pub(super) fn run(path: &Path, seed: u64, bug: Option<Bug>, json: bool, log: Option<&str>) -> Code {
    let scenario = match Scenario::load(path) {
        Ok(scenario) => scenario,
        Err(error) => {
            complain(&error.to_string());
            return Code::Unusable;
        }
    };
    if scenario.nodes.count != 1 {
        complain(&format!(
            "{}: nodes.count is {}; runs of more than one node are not built yet",
            path.display(),
            scenario.nodes.count
        ));
        return Code::Unusable;
    }
    let (format, lanes) = match log {
        None => (Format::Silent, Lanes::All),
        Some(log) => (if json { Format::Json } else { Format::Text }, lanes(log)),
    };
    let out: Box<dyn Write + Send> = Box::new(BufWriter::new(io::stdout()));
    let record = Record::new(Trace::new(format, out).only(lanes));
    let report = world::run(&scenario, seed, bug, &record);
    // Its lines come before the report.
    record.flush();
    if json {
        say(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        tell(path, &report);
    }
    match report.exit_code() {
        0 => Code::Fine,
        2 => Code::Violated,
        _ => Code::Unmet,
    }
}

fn lanes(text: &str) -> Lanes {
    if text == "all" {
        return Lanes::All;
    }
    let lanes: BTreeSet<String> = text.split(',').map(|lane| lane.trim().to_owned()).collect();
    Lanes::Only(lanes)
}

/// The report for people.
fn tell(path: &Path, report: &Report) {
    let counts = &report.counts;
    say(&format!("{}  (seed {})", report.title, report.seed));
    say(&format!(
        "  {:.1} s simulated, {} events, trace {}",
        report.simulated_s,
        report.events,
        &report.digest[..16.min(report.digest.len())]
    ));
    say(&format!(
        "  {} devices joined; {} uplinks in {} transmissions: {} accepted, {} delivered, \
         {} acknowledged",
        counts.joined,
        counts.uplinks,
        counts.transmissions,
        counts.accepted,
        counts.delivered,
        counts.acknowledged
    ));
    say(&format!(
        "  {} of {} downlinks arrived; {} restarts",
        counts.downlinks, counts.queued, counts.restarts
    ));
    for (_, text) in &report.violations {
        say(&format!("  {text}"));
    }
    for text in &report.unmet {
        say(&format!("  not met: {text}"));
    }
    if report.exit_code() != 0 {
        say(&format!("  see it: cargo sim {} --seed {} --log all", path.display(), report.seed));
    }
    say(match report.exit_code() {
        0 => "ok",
        2 => "VIOLATED",
        _ => "NOT MET",
    });
}
