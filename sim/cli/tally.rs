//! What came of many runs, and the one table over all of them.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use scenario::FaultKind;
use serde::{Deserialize, Serialize};

use super::{Code, complain, say};
use crate::marks::Mark;
use crate::world::Report;

/// What came of a range of seeds of one scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    /// The scenario's file.
    scenario: String,
    /// First seed, and the one after the last.
    seeds: Range<u64>,
    /// Runs that left a report.
    pub(super) done: u64,
    /// Seeds of runs that broke a promise.
    violated: Vec<u64>,
    /// Seeds of runs in which something did not come about.
    unmet: Vec<u64>,
    /// Seeds of runs that left no report.
    pub(super) without_report: Vec<u64>,
    /// Seeds that were run twice.
    pub(super) doubles: u64,
    /// Seeds whose two runs differ.
    pub(super) differ: Vec<u64>,
    /// CPU seconds of all.
    pub(super) cpu_s: f64,
    /// Everything that was counted, added up.
    sum: Report,
}

impl Tally {
    pub(super) fn new(path: &Path, seeds: Range<u64>) -> Self {
        Self {
            scenario: path.display().to_string(),
            seeds,
            done: 0,
            violated: Vec::new(),
            unmet: Vec::new(),
            without_report: Vec::new(),
            doubles: 0,
            differ: Vec::new(),
            cpu_s: 0.0,
            sum: Report::default(),
        }
    }

    /// Adds a run.
    pub(super) fn take(&mut self, report: &Report) {
        self.done += 1;
        self.sum.add(report);
        match report.exit_code() {
            0 => {}
            2 => self.violated.push(report.seed),
            _ => self.unmet.push(report.seed),
        }
    }

    /// How fast it went.
    pub(super) fn speed(&self) -> String {
        let (simulated, cpu) = (self.sum.simulated_s, self.cpu_s.max(0.01));
        format!(
            "{simulated:.0} s simulated in {cpu:.1} CPU s ({:.0} per CPU s); {} uplinks accepted, \
             {} restarts, {} faults",
            simulated / cpu,
            self.sum.counts.accepted,
            self.sum.counts.restarts,
            self.sum.faults.values().sum::<u64>()
        )
    }

    /// One line: how many, and what was wrong with them.
    pub(super) fn verdict(&self) -> String {
        let mut line = format!("{} seeds: {} violations", self.done, self.violated.len());
        for (count, what) in [
            (self.unmet.len(), "not met"),
            (self.differ.len(), "differ in two processes"),
            (self.without_report.len(), "without a report"),
        ] {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        if self.doubles > 0 {
            line += &format!("; {} run twice", self.doubles);
        }
        line
    }

    pub(super) fn code(&self) -> Code {
        if !self.without_report.is_empty() {
            Code::Unusable
        } else if !self.violated.is_empty() || !self.differ.is_empty() {
            Code::Violated
        } else if !self.unmet.is_empty() {
            Code::Unmet
        } else {
            Code::Fine
        }
    }

    /// Writes it down, whole or not at all.
    pub(super) fn write(&self, file: &Path) -> io::Result<()> {
        let temporary = file.with_extension("new");
        fs::write(&temporary, serde_json::to_vec_pretty(self)?)?;
        fs::rename(temporary, file)
    }
}

/// Prints one table over all tallies in a folder.
///
/// * `each`: how often each kind of fault must have struck, and each mark been hit; 0 asks nothing.
pub(super) fn table(folder: &Path, each: u64) -> Code {
    let tallies = match read(folder) {
        Ok(tallies) if tallies.is_empty() => {
            complain(&format!("{}: no tally; write one with --tally FILE", folder.display()));
            return Code::Unusable;
        }
        Ok(tallies) => tallies,
        Err(why) => {
            complain(&why);
            return Code::Unusable;
        }
    };
    let mut sum = Report::default();
    let mut code = Code::Fine;
    say(&format!(
        "{:<44} {:>7} {:>6} {:>7} {:>7} {:>8} {:>9} {:>8}",
        "scenario", "seeds", "twice", "violat.", "not met", "restarts", "accepted", "sim s/s"
    ));
    for tally in &tallies {
        sum.add(&tally.sum);
        code = code.worse(tally.code());
        let name = Path::new(&tally.scenario).file_name().unwrap_or_default().to_string_lossy();
        say(&format!(
            "{:<44} {:>7} {:>6} {:>7} {:>7} {:>8} {:>9} {:>8.0}",
            format!("{name} {}..{}", tally.seeds.start, tally.seeds.end),
            tally.done,
            tally.doubles,
            tally.violated.len() + tally.differ.len(),
            tally.unmet.len() + tally.without_report.len(),
            tally.sum.counts.restarts,
            tally.sum.counts.accepted,
            tally.sum.simulated_s / tally.cpu_s.max(0.01)
        ));
    }
    let faults = FaultKind::ALL.map(|kind| kind.to_string());
    let missed = counts("fault", faults.iter().map(String::as_str), &sum.faults, each);
    let marks = Mark::ALL.iter().map(|mark| mark.name());
    let unmarked = counts("mark", marks, &sum.marks, each.min(1));
    for (what, names) in [("faults struck too rarely", missed), ("marks never hit", unmarked)] {
        if each > 0 && !names.is_empty() {
            say(&format!("{what}: {}", names.join(", ")));
            code = code.worse(Code::Unmet);
        }
    }
    code
}

/// Prints a column of counts; returns the names of those below `least`.
fn counts<'a>(
    head: &str,
    names: impl Iterator<Item = &'a str>,
    counts: &std::collections::BTreeMap<String, u64>,
    least: u64,
) -> Vec<&'a str> {
    say(&format!("\n{head:<28} {:>9}", "times"));
    let mut below = Vec::new();
    for name in names {
        let count = counts.get(name).copied().unwrap_or(0);
        say(&format!("{name:<28} {count:>9}"));
        if count < least {
            below.push(name);
        }
    }
    below
}

fn read(folder: &Path) -> Result<Vec<Tally>, String> {
    let told = |error: io::Error| format!("{}: {error}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(told)?
        .filter_map(|file| file.ok().map(|file| file.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let parsed = |path: &PathBuf| {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    };
    files.iter().map(parsed).collect()
}
