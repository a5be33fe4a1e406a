//! From a run that fails to the smallest scenario that fails the same way.
//!
//! The faults of the seed are pinned, so that taking one away leaves the others where they are.
//! Then, as long as the same checker objects: groups of faults go, halves first; the stage gets
//! smaller; the run ends sooner. What is left is written as a scenario file of its own, with the
//! seed it needs.

mod steps;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sabotage::Bug;
use scenario::Scenario;

use super::apart::{self, Extras};
use super::{Code, complain, load, say};
use crate::dice::Seed;
use crate::plan;
use crate::world::Report;

/// Runs that a shrinking takes at most.
const RUNS_MAX: u32 = 400;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) scenario: PathBuf,
    pub(super) seed: u64,
    pub(super) bug: Option<Bug>,
    /// Whose objection is looked into; the first one's without it.
    pub(super) checker: Option<String>,
    /// Where the result goes; beside the scenario without it.
    pub(super) out: Option<PathBuf>,
}

/// A hunt for something smaller.
struct Hunt {
    folder: PathBuf,
    seed: u64,
    bug: Option<String>,
    /// The checker that must go on objecting.
    checker: String,
    runs: u32,
    /// The smallest so far, and what came of it.
    best: Scenario,
    report: Report,
}

/// Shrinks a failing run, and writes what is left.
pub(super) fn run(ask: &Ask) -> Code {
    match shrink(ask) {
        Ok(code) => code,
        Err(why) => {
            complain(&why);
            Code::Unusable
        }
    }
}

fn shrink(ask: &Ask) -> Result<Code, String> {
    let scenario = load::load(&ask.scenario)?;
    let bug = ask.bug.map(|bug| bug.name().to_owned()).or_else(|| scenario.plant.clone());
    let folder = std::env::temp_dir().join(format!("tern-shrink-{}", std::process::id()));
    let told = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(told)?;
    let pinned = plan::pinned(&scenario, Seed(ask.seed));
    let plain = Scenario { violates: None, plant: None, seeds: Vec::new(), ..pinned };
    let mut hunt = Hunt {
        folder,
        seed: ask.seed,
        bug,
        checker: String::new(),
        runs: 0,
        best: plain.clone(),
        report: Report::default(),
    };
    let result = hunt.all(&plain, ask);
    // Leftovers in the temporary folder harm nobody.
    let _ = fs::remove_dir_all(&hunt.folder);
    result
}

impl Hunt {
    fn all(&mut self, plain: &Scenario, ask: &Ask) -> Result<Code, String> {
        let first = self.judge(plain)?;
        let Some(checker) = first_checker(&first) else {
            say(&format!("seed {} does not fail: there is nothing to shrink", ask.seed));
            return Ok(Code::Fine);
        };
        let checker = ask.checker.clone().unwrap_or(checker);
        if !first.blames(&checker) {
            let names: BTreeSet<&str> = first.violations.iter().map(|(n, _)| n.as_str()).collect();
            let names = Vec::from_iter(names).join(", ");
            return Err(format!("{checker} does not object to seed {}: {names}", ask.seed));
        }
        say(&format!("{checker} objects; {} faults, shrinking ...", plain.fault.len()));
        (self.checker, self.report) = (checker, first);
        loop {
            let before = steps::size(&self.best);
            self.drop_faults()?;
            self.narrow()?;
            if steps::size(&self.best) == before || self.runs >= RUNS_MAX {
                break;
            }
        }
        let out = self.out(ask);
        fs::write(&out, self.file(ask)?).map_err(|e| format!("{}: {e}", out.display()))?;
        let best = &self.best;
        say(&format!(
            "{} of {} faults left, {} devices, {} gateways, {:?}, after {} runs",
            best.fault.len(),
            plain.fault.len(),
            best.devices.count,
            best.gateways.total(),
            best.duration.0,
            self.runs
        ));
        say(&format!("written: {}", out.display()));
        say(&format!("  see it: cargo sim {} --seed {} --html run.html", out.display(), ask.seed));
        Ok(Code::Fine)
    }

    /// Runs a candidate.
    ///
    /// Errors: a run that left no report, a folder that cannot be written.
    fn judge(&mut self, scenario: &Scenario) -> Result<Report, String> {
        self.runs += 1;
        let path = self.folder.join("candidate.toml");
        let text = scenario.to_toml().map_err(|error| error.to_string())?;
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let extras = Extras { bug: self.bug.clone(), log: false };
        apart::run(&path, self.seed, &extras).map(|(_, report)| report)
    }

    /// Keeps a candidate if the same checker objects to it; says whether it does.
    fn try_out(&mut self, candidate: Scenario) -> Result<bool, String> {
        let usable =
            candidate.to_toml().is_ok_and(|text| Scenario::parse("candidate", &text).is_ok());
        if !usable || self.runs >= RUNS_MAX {
            return Ok(false);
        }
        let report = self.judge(&candidate)?;
        let fails = report.blames(&self.checker);
        if fails {
            complain(&format!(
                "  {} faults, {} devices, {:?}",
                candidate.fault.len(),
                candidate.devices.count,
                candidate.duration.0
            ));
            (self.best, self.report) = (candidate, report);
        }
        Ok(fails)
    }

    /// Takes groups of faults away: halves, quarters, single ones.
    fn drop_faults(&mut self) -> Result<(), String> {
        let mut group = self.best.fault.len();
        while group > 0 {
            let mut start = 0;
            while start < self.best.fault.len() {
                let mut candidate = self.best.clone();
                let end = (start + group).min(candidate.fault.len());
                candidate.fault.drain(start..end);
                if !self.try_out(candidate)? {
                    start = end;
                }
            }
            group = if group == 1 { 0 } else { group.div_ceil(2) };
        }
        Ok(())
    }

    /// Makes the stage smaller and the run shorter, one step after the other.
    fn narrow(&mut self) -> Result<(), String> {
        let mut place = 0;
        // Each step is tried again as long as it helps: counts are halved more than once.
        while let Some(candidate) = steps::step(&self.best, &self.report, place) {
            let same = candidate == self.best;
            if same || !self.try_out(candidate)? {
                place += 1;
            }
        }
        Ok(())
    }

    fn out(&self, ask: &Ask) -> PathBuf {
        let beside = || {
            let stem = ask.scenario.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{stem}_{}_{}.toml", self.checker.to_lowercase(), ask.seed);
            ask.scenario.parent().unwrap_or(Path::new(".")).join(name)
        };
        ask.out.clone().unwrap_or_else(beside)
    }

    fn file(&self, ask: &Ask) -> Result<String, String> {
        let texts = self.report.violations.iter().filter(|(name, _)| *name == self.checker);
        let text = texts.map(|(_, text)| text).chain(&self.report.unmet).next();
        let text = text.map_or("", String::as_str);
        let short: String = text.chars().take(400).collect();
        let mut scenario = self.best.clone();
        scenario.seeds = vec![ask.seed];
        if self.bug.is_some() {
            (scenario.plant, scenario.violates) = (self.bug.clone(), Some(self.checker.clone()));
        }
        let body = scenario.to_toml().map_err(|error| error.to_string())?;
        let from = ask.scenario.file_name().unwrap_or_default().to_string_lossy();
        Ok(format!(
            "# What is left of {from}, seed {}, when everything is taken away that it does not\n\
             # need for this: {}\n{body}",
            ask.seed,
            wrapped(&short)
        ))
    }
}

/// The checker that objected first.
fn first_checker(report: &Report) -> Option<String> {
    let violated = report.violations.first().map(|(name, _)| name.clone());
    let unmet = || {
        let text = report.unmet.first()?;
        Some(text.split_once(':').map_or("expect", |(name, _)| name).to_owned())
    };
    violated.or_else(unmet)
}

/// A text as lines of a comment.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + word.len() > 90) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n# ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checker_is_named_by_its_violation_or_by_what_did_not_come_about() {
        let violated = Report {
            violations: vec![("S7".to_owned(), "lost".to_owned())],
            unmet: vec!["V7: no join".to_owned()],
            ..Report::default()
        };
        assert_eq!(first_checker(&violated).as_deref(), Some("S7"));
        let unmet = Report { unmet: vec!["V7: no join".to_owned()], ..Report::default() };
        assert_eq!(first_checker(&unmet).as_deref(), Some("V7"));
        assert!(unmet.blames("V7") && !unmet.blames("V1"));
        assert_eq!(first_checker(&Report::default()), None);
    }

    #[test]
    fn a_long_text_becomes_lines_of_a_comment() {
        let text = wrapped(&"word ".repeat(60));
        assert!(text.lines().count() >= 3);
        assert!(text.lines().skip(1).all(|line| line.starts_with("# ") && line.len() <= 100));
    }
}
