//! One seed, in this process.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sabotage::Bug;
use scenario::Scenario;

use super::{Code, complain, load, say};
use crate::trace::{Format, Lanes, Trace};
use crate::world::{self, Record, Report};

/// What is wanted of a run beside its report.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// One JSON object a line.
    pub(super) json: bool,
    /// These lanes.
    pub(super) log: Option<String>,
    /// What the nodes log, from this level on.
    pub(super) words: Option<tracing::Level>,
    /// A picture.
    pub(super) html: Option<PathBuf>,
}

/// Runs a scenario once and says what came of it.
pub(super) fn run(path: &Path, seed: u64, bug: Option<Bug>, wanted: &Wanted) -> Code {
    let scenario = match load::load(path) {
        Ok(scenario) => scenario,
        Err(why) => {
            complain(&why);
            return Code::Unusable;
        }
    };
    let bug = bug.or_else(|| scenario.plant.as_deref().and_then(load::bug));
    let (format, lanes) = match &wanted.log {
        None => (Format::Silent, Lanes::All),
        Some(log) if wanted.json => (Format::Json, lanes(log)),
        Some(log) => (Format::Text, lanes(log)),
    };
    let out: Box<dyn Write + Send> = Box::new(BufWriter::new(io::stdout()));
    let record = Record::new(Trace::new(format, out).only(lanes));
    if let Some(level) = wanted.words {
        record.note_words(level);
    }
    // A page that cannot be written is told before the run, not after it.
    let page = match wanted.html.as_deref().map(File::create).transpose() {
        Ok(page) => page,
        Err(error) => {
            let file = wanted.html.as_deref().unwrap_or(path).display();
            complain(&format!("{file}: {error}"));
            return Code::Unusable;
        }
    };
    if page.is_some() {
        record.draw();
    }
    let report = world::run(&scenario, seed, bug, &record);
    // Its lines come before the report.
    record.flush();
    if let (Some(page), Some(file)) = (page, &wanted.html) {
        let replay = format!("cargo sim {} --seed {seed}", path.display());
        let picture = record.picture(&scenario, &report, &replay);
        let written = picture.map_or(Ok(()), |picture| {
            let mut out = BufWriter::new(page);
            picture.write(&mut out).and_then(|()| out.flush())
        });
        if let Err(error) = written {
            complain(&format!("{}: {error}", file.display()));
            return Code::Unusable;
        }
    }
    if wanted.json {
        say(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        tell(path, &scenario, &report);
    }
    verdict(&scenario, &report)
}

/// The exit code: a scenario that must be violated is fine if the checker it names objects.
fn verdict(scenario: &Scenario, report: &Report) -> Code {
    match (&scenario.violates, report.exit_code()) {
        (Some(checker), _) if report.blames(checker) => Code::Fine,
        (Some(_), _) => Code::Violated,
        (None, 0) => Code::Fine,
        (None, 2) => Code::Violated,
        (None, _) => Code::Unmet,
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
fn tell(path: &Path, scenario: &Scenario, report: &Report) {
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
        "  {} of {} downlinks arrived; {} calls answered; {} restarts; {} nodes departed, \
         {} readmitted",
        counts.downlinks,
        counts.queued,
        counts.calls,
        counts.restarts,
        counts.departed,
        counts.readmitted
    ));
    let faults: Vec<String> =
        report.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if !faults.is_empty() {
        say(&format!("  faults: {}", faults.join(", ")));
    }
    for (_, text) in &report.violations {
        say(&format!("  {text}"));
    }
    for text in &report.unmet {
        say(&format!("  not met: {text}"));
    }
    if report.exit_code() != 0 {
        let (path, seed) = (path.display(), report.seed);
        say(&format!("  see it:    cargo sim {path} --seed {seed} --html run.html"));
        say(&format!("  read it:   cargo sim {path} --seed {seed} --log all"));
        say(&format!("  shrink it: cargo sim shrink {path} --seed {seed}"));
    }
    say(match (&scenario.violates, report.exit_code()) {
        (Some(checker), _) if report.blames(checker) => "ok: violated, as it must be",
        (Some(_), _) => "NOT VIOLATED: the simulator is blind to what was planted",
        (None, 0) => "ok",
        (None, 2) => "VIOLATED",
        (None, _) => "NOT MET",
    });
}
