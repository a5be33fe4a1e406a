//! Whether the simulator sees: plants bugs, and counts the seeds that their checkers need.
//!
//! `cargo sim sabotage` hunts each bug of the table in [`::sabotage`] in its scenario, seed by
//! seed, each run in a process of its own, until every checker that must catch it has; then again
//! from later seeds on, so that the median tells what a night of runs is worth. `cargo sim canary`
//! is the one run that must fail before any run that passes means anything.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use ::sabotage::Bug;
use clap::Args;
use serde::Serialize;

use super::apart::{self, Extras};
use super::meta;
use super::{Code, complain, parse_bug, say};
use crate::runtime::held;
use crate::world::Report;

/// Times that each bug is to be caught, unless told otherwise.
const TRIES: u64 = 20;
/// Seeds that a bug may survive before it counts as not caught.
const SEEDS_MAX: u64 = 40;
/// The checker that needs two processes to see anything.
const DETERMINISM: &str = "S23";
/// Where scenarios lie.
const FOLDER: &str = "scenarios";
/// The run that must fail: a bug that no seed of its scenario survives.
const CANARY: (Bug, u64) = (Bug::DedupOff, 1);

/// What `cargo sim sabotage` may be asked.
#[derive(Args, Debug)]
pub(super) struct Ask {
    /// Only this bug.
    #[arg(long, value_name = "NAME", value_parser = parse_bug)]
    bug: Option<Bug>,
    /// How often each bug is to be caught, each time from later seeds on.
    #[arg(long, default_value_t = TRIES, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    tries: u64,
    /// Catch each bug once: what the gate wants to know.
    #[arg(long, conflicts_with = "tries")]
    until_caught: bool,
    /// Machine-readable: one JSON object for each bug.
    #[arg(long)]
    json: bool,
}

/// How a checker did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Catches {
    checker: String,
    /// Seeds needed, of each try in which it caught the bug.
    seeds: Vec<u64>,
}

impl Catches {
    /// The middle one, the lower of two.
    fn median(&self) -> Option<u64> {
        let mut sorted = self.seeds.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}

/// What came of hunting one bug.
#[derive(Clone, Debug, Serialize)]
struct Hunt {
    bug: String,
    breaks: String,
    scenario: String,
    /// Tries begun; the last one is the first in which the bug got away.
    tries: u64,
    checkers: Vec<Catches>,
    /// Who else said something.
    also: BTreeSet<String>,
}

impl Hunt {
    fn of(bug: Bug) -> Self {
        let blank = |checker: &&str| Catches { checker: (*checker).to_owned(), seeds: Vec::new() };
        Self {
            bug: bug.name().to_owned(),
            breaks: bug.breaks().to_owned(),
            scenario: bug.scenario().to_owned(),
            tries: 0,
            checkers: bug.catchers().iter().map(blank).collect(),
            also: BTreeSet::new(),
        }
    }

    fn is_caught(&self) -> bool {
        self.checkers.iter().all(|one| one.seeds.len() as u64 == self.tries)
    }

    /// Looks at seeds from `first` on until every checker has caught the bug.
    ///
    /// * `said`: who says something about a seed.
    /// * Returns the next seed; the bug got away if [`Self::is_caught`] is false then.
    /// * Errors: those of `said`.
    fn try_from(
        &mut self,
        first: u64,
        mut said: impl FnMut(u64) -> Result<BTreeSet<String>, String>,
    ) -> Result<u64, String> {
        self.tries += 1;
        for seed in first..first + SEEDS_MAX {
            for name in said(seed)? {
                match self.checkers.iter_mut().find(|one| one.checker == name) {
                    Some(one) if (one.seeds.len() as u64) < self.tries => {
                        one.seeds.push(seed - first + 1);
                    }
                    Some(_) => {}
                    None => drop(self.also.insert(name)),
                }
            }
            if self.is_caught() {
                return Ok(seed + 1);
            }
        }
        Ok(first + SEEDS_MAX)
    }
}

fn path_of(bug: Bug) -> PathBuf {
    PathBuf::from(FOLDER).join(bug.scenario()).with_extension("toml")
}

/// Who says something about a seed with a bug planted.
///
/// Errors: a run that left no report.
fn said(bug: Bug, seed: u64) -> Result<BTreeSet<String>, String> {
    let path = path_of(bug);
    let extras = Extras { bug: Some(bug.name().to_owned()), log: false };
    if bug.catchers().contains(&DETERMINISM) {
        let (_, compared) = meta::compare(&path, seed, &extras)?;
        return Ok(if compared.is_ok() { [].into() } else { [DETERMINISM.to_owned()].into() });
    }
    apart::run(&path, seed, &extras).map(|(_, report)| speakers(&report))
}

/// The checkers that a report quotes. What did not come about names its checker in front, but for
/// the scenario's own `[expect]`.
fn speakers(report: &Report) -> BTreeSet<String> {
    let unmet = report.unmet.iter().map(|text| match text.split_once(':') {
        Some((name, _)) if name.starts_with('V') => name.to_owned(),
        Some(_) | None => "expect".to_owned(),
    });
    report.violations.iter().map(|(name, _)| name.clone()).chain(unmet).collect()
}

/// Hunts a bug `tries` times, or until it gets away.
///
/// Errors: a run that left no report.
fn hunt(bug: Bug, tries: u64) -> Result<Hunt, String> {
    let mut hunt = Hunt::of(bug);
    let mut first = 0;
    while hunt.tries < tries && hunt.is_caught() {
        let next = hunt.try_from(first, |seed| said(bug, seed))?;
        let (name, tried, seeds) = (bug.name(), hunt.tries, next - first);
        let outcome = if hunt.is_caught() { "caught" } else { "NOT CAUGHT" };
        complain(&format!("{name}: try {tried} of {tries}: {outcome} after {seeds} seeds"));
        first = next;
    }
    Ok(hunt)
}

/// Plants each bug until every checker that must catch it has, and prints a table.
pub(super) fn run(ask: &Ask) -> Code {
    let bugs: Vec<Bug> = match &ask.bug {
        Some(bug) => vec![*bug],
        None => Bug::ALL.to_vec(),
    };
    let tries = if ask.until_caught { 1 } else { ask.tries };
    let next = Mutex::new(bugs.iter().enumerate());
    let hunts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..apart::workers() {
            scope.spawn(|| {
                while let Some((place, bug)) = { held(&next).next() } {
                    let result = hunt(*bug, tries);
                    held(&hunts).push((place, *bug, result));
                }
            });
        }
    });
    let mut hunts = held(&hunts);
    hunts.sort_by_key(|(place, ..)| *place);
    let mut code = Code::Fine;
    let mut table = vec![head()];
    for (_, bug, result) in hunts.iter() {
        match result {
            Ok(hunt) => {
                if !hunt.is_caught() && code == Code::Fine {
                    code = Code::Violated;
                }
                match ask.json {
                    true => say(&serde_json::to_string(hunt).unwrap_or_default()),
                    false => table.extend(rows(hunt)),
                }
            }
            Err(why) => {
                complain(&format!("{}: {why}", bug.name()));
                code = Code::Unusable;
            }
        }
    }
    if !ask.json {
        print(&table);
    }
    code
}

/// Columns of the table, as text.
type Row = [String; 7];

fn head() -> Row {
    ["bug", "checker", "scenario", "caught", "median", "most", "also seen by"].map(str::to_owned)
}

/// A line for each checker.
fn rows(hunt: &Hunt) -> Vec<Row> {
    let also: Vec<&str> = hunt.also.iter().map(String::as_str).collect();
    let row = |one: &Catches| {
        let figure = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
        let caught = one.seeds.len() as u64 == hunt.tries;
        let missed = if caught { String::new() } else { format!("NOT CAUGHT in {SEEDS_MAX}; ") };
        [
            hunt.bug.clone(),
            one.checker.clone(),
            hunt.scenario.clone(),
            format!("{}/{}", one.seeds.len(), hunt.tries),
            figure(one.median()),
            figure(one.seeds.iter().max().copied()),
            missed + &also.join(" "),
        ]
    };
    hunt.checkers.iter().map(row).collect()
}

/// Prints a table with its columns aligned, numbers to the right.
fn print(table: &[Row]) {
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [bug, checker, scenario, caught, median, most] = [0, 1, 2, 3, 4, 5].map(width);
    for [a, b, c, d, e, f, g] in table {
        let line = format!(
            "{a:<bug$}  {b:<checker$}  {c:<scenario$}  {d:>caught$}  {e:>median$}  {f:>most$}  {g}"
        );
        say(line.trim_end());
    }
}

/// Runs the one that must fail: the simulator is fine if its checker says so.
pub(super) fn canary() -> Code {
    let (bug, seed) = CANARY;
    let checker = bug.catchers()[0];
    let about = format!("{} in {}, seed {seed}", bug.name(), path_of(bug).display());
    match said(bug, seed) {
        Ok(said) if said.contains(checker) => {
            say(&format!("the simulator sees: {checker} has caught {about}"));
            Code::Fine
        }
        Ok(said) => {
            let heard = said.into_iter().collect::<Vec<_>>().join(" ");
            let heard = if heard.is_empty() { "nobody".to_owned() } else { heard };
            complain(&format!("the simulator is blind: {checker} misses {about} ({heard} spoke)"));
            Code::Violated
        }
        Err(why) => {
            complain(&why);
            Code::Unusable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds that are multiples of `n` make the checker speak.
    fn every(checker: &str, n: u64) -> impl FnMut(u64) -> Result<BTreeSet<String>, String> {
        move |seed| {
            let speaks = seed.is_multiple_of(n);
            Ok(if speaks { [checker.to_owned()].into() } else { [].into() })
        }
    }

    #[test]
    fn each_try_counts_from_where_the_last_one_ended() {
        let mut hunt = Hunt::of(Bug::DedupOff);
        let mut first = 1;
        for _ in 0..3 {
            first = hunt.try_from(first, every("S6", 5)).unwrap();
        }
        assert_eq!(hunt.checkers[0].seeds, [5, 5, 5]);
        assert!(hunt.is_caught() && first == 16);
        assert_eq!(hunt.try_from(first, every("S7", 2)).unwrap(), 16 + SEEDS_MAX);
        assert!(!hunt.is_caught());
        assert_eq!(hunt.also, ["S7".to_owned()].into());
        assert!(rows(&hunt)[0][6].starts_with("NOT CAUGHT"), "{:?}", rows(&hunt));
    }

    #[test]
    fn a_bug_with_three_checkers_is_caught_when_all_have_seen_it() {
        let mut hunt = Hunt::of(Bug::StaleDisk);
        let each = |seed: u64| {
            Ok([["S1", "S6", "S7"][usize::try_from(seed % 3).unwrap()].to_owned()].into())
        };
        assert_eq!(hunt.try_from(0, each).unwrap(), 3);
        let needed: Vec<_> = hunt.checkers.iter().map(|one| one.seeds.clone()).collect();
        assert_eq!(needed, [[1], [2], [3]]);
        assert_eq!(rows(&hunt).len(), 3);
    }

    #[test]
    fn the_median_is_the_lower_of_two() {
        let of = |seeds: &[u64]| Catches { checker: String::new(), seeds: seeds.to_vec() }.median();
        assert_eq!(
            [of(&[]), of(&[7]), of(&[9, 1]), of(&[5, 1, 9])],
            [None, Some(7), Some(1), Some(5)]
        );
    }
}
