//! `cargo sim`: what can be asked of the simulator, and its exit codes.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | nothing was violated, everything expected came about |
//! | 2 | a promise was broken (S..), or two runs of one seed differ |
//! | 3 | nothing was broken, but something did not come about (V.., `[expect]`) |
//! | 4 | the command line or the scenario cannot be used |
//!
//! One seed is one fresh process: whatever a library keeps in a static starts anew.

mod apart;
mod batch;
mod bench;
mod load;
mod meta;
mod once;
mod sabotage;
mod shrink;
mod tally;

use std::io::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use ::sabotage::Bug;
use clap::{Args, Parser, Subcommand};

use crate::marks::Mark;
use apart::Extras;

/// Runs whole nodes on a simulated machine room; every failure replays from its seed.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one seed in two processes and demand byte-identical traces.
    Meta {
        /// The scenario file.
        scenario: PathBuf,
        /// The seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Plant each known bug and demand that its checkers catch it.
    Sabotage(sabotage::Ask),
    /// Run the one that must fail: does the simulator see at all?
    Canary,
    /// Take away from a failing run whatever it does not need, and write what is left as a
    /// scenario.
    Shrink {
        /// The scenario file.
        scenario: PathBuf,
        /// The seed that fails.
        #[arg(long)]
        seed: u64,
        /// Plant a bug, by the name that `sabotage` shows.
        #[arg(long, value_name = "NAME", value_parser = parse_bug)]
        bug: Option<Bug>,
        /// The checker that must go on objecting, for example S1; the first that does without it.
        #[arg(long, value_name = "NAME")]
        checker: Option<String>,
        /// Where to write; beside the scenario without it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Measure simulated seconds and messages per CPU second, for four named profiles.
    Bench {
        /// Runs of each; the median is shown.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
    },
    /// List the marks that long runs must hit.
    Marks,
    /// Run the seeds that scenarios name themselves.
    Pinned {
        /// The scenario files.
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Print one table over the tallies in a folder.
    Table {
        /// Where `--tally` wrote them.
        folder: PathBuf,
        /// How often each kind of fault must have struck; and each mark must have been hit.
        #[arg(long, default_value_t = 0)]
        each: u64,
    },
}

#[derive(Args, Debug)]
struct Run {
    /// The scenario file.
    scenario: Option<PathBuf>,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Many seeds, each in a process of its own: FIRST..END, END not included. Stops at the first
    /// that fails.
    #[arg(long, value_name = "FIRST..END", conflicts_with_all = ["seed", "log", "html"],
          value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// With --seeds: go on after a seed that fails.
    #[arg(long, requires = "seeds")]
    keep_going: bool,
    /// With --seeds: run every N-th seed in a second process too, and compare every byte.
    #[arg(long, value_name = "N", requires = "seeds")]
    double: Option<u64>,
    /// With --seeds: write what came of it to a file, for `table`.
    #[arg(long, value_name = "FILE", requires = "seeds")]
    tally: Option<PathBuf>,
    /// Machine-readable: one JSON object a line, the report last.
    #[arg(long)]
    json: bool,
    /// Show what happens, of these lanes (n1,gw2,dev3,app1,oper,audit,world) or of `all`.
    #[arg(long, value_name = "LANES")]
    log: Option<String>,
    /// With --log: also what the nodes themselves log from this level on (lane `words`).
    #[arg(long, value_name = "LEVEL", requires = "log")]
    words: Option<tracing::Level>,
    /// Draw the run as one self-contained web page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Plant a bug, by the name that `sabotage` shows.
    #[arg(long, value_name = "NAME", value_parser = parse_bug)]
    bug: Option<Bug>,
}

/// Why a range of seeds is none.
#[derive(Debug, thiserror::Error)]
enum SeedsError {
    #[error("write FIRST..END, as in 0..200")]
    Form,
    #[error("no seed lies in {0}..{1}: the second must be larger")]
    Empty(u64, u64),
}

fn parse_seeds(text: &str) -> Result<Range<u64>, SeedsError> {
    let (first, end) = text.split_once("..").ok_or(SeedsError::Form)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| SeedsError::Form);
    let (first, end) = (number(first)?, number(end)?);
    if first < end { Ok(first..end) } else { Err(SeedsError::Empty(first, end)) }
}

/// Why a bug cannot be planted.
#[derive(Debug, thiserror::Error)]
#[error("no such bug; known: {0}")]
struct NoSuchBug(String);

fn parse_bug(text: &str) -> Result<Bug, NoSuchBug> {
    let known = || Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
    let found = Bug::ALL.iter().find(|bug| bug.name() == text);
    found.copied().ok_or_else(|| NoSuchBug(known()))
}

/// What the command line says, as exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    Fine = 0,
    Violated = 2,
    Unmet = 3,
    Unusable = 4,
}

impl Code {
    /// The one that says more.
    fn worse(self, other: Self) -> Self {
        let weight = |code: Self| match code {
            Self::Fine => 0,
            Self::Unmet => 1,
            Self::Violated => 2,
            Self::Unusable => 3,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let code = match Cli::try_parse() {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            // Help and version are no errors; clap's own exit code would mean "violated" here.
            let _ = error.print();
            if error.use_stderr() { Code::Unusable } else { Code::Fine }
        }
    };
    ExitCode::from(code as u8)
}

fn dispatch(cli: Cli) -> Code {
    match cli.verb {
        Some(Verb::Meta { scenario, seed }) => meta::meta(&scenario, seed, &Extras::default()),
        Some(Verb::Sabotage(ask)) => sabotage::run(&ask),
        Some(Verb::Canary) => sabotage::canary(),
        Some(Verb::Shrink { scenario, seed, bug, checker, out }) => {
            shrink::run(&shrink::Ask { scenario, seed, bug, checker, out })
        }
        Some(Verb::Bench { runs }) => bench::run(runs),
        Some(Verb::Marks) => {
            for mark in Mark::ALL {
                say(&format!("{:<26} {}", mark.name(), mark.told()));
            }
            Code::Fine
        }
        Some(Verb::Pinned { scenarios }) => pinned(&scenarios),
        Some(Verb::Table { folder, each }) => tally::table(&folder, each),
        None => simulate(cli.run),
    }
}

fn simulate(run: Run) -> Code {
    let Some(scenario) = run.scenario else {
        complain("which scenario? For example: cargo sim scenarios/first_light.toml");
        return Code::Unusable;
    };
    if let Some(seeds) = run.seeds {
        // A file that cannot be read is told once, not by every process.
        if let Err(why) = load::load(&scenario) {
            complain(&why);
            return Code::Unusable;
        }
        let options = batch::Options {
            extras: Extras { bug: run.bug.map(|bug| bug.name().to_owned()), log: false },
            json: run.json,
            keep_going: run.keep_going,
            double: run.double,
            tally: run.tally,
        };
        return batch::seeds(&scenario, seeds, &options);
    }
    let wanted = once::Wanted { json: run.json, log: run.log, words: run.words, html: run.html };
    once::run(&scenario, run.seed, run.bug, &wanted)
}

/// The seeds that scenarios name themselves: each once showed a fault that is fixed.
fn pinned(scenarios: &[PathBuf]) -> Code {
    let mut worst = Code::Fine;
    for path in scenarios {
        let seeds = match load::load(path) {
            Ok(scenario) => scenario.seeds,
            Err(why) => {
                complain(&why);
                return Code::Unusable;
            }
        };
        for seed in seeds {
            say(&format!("{}, pinned seed {seed}", path.display()));
            let code = batch::seeds(path, seed..seed.saturating_add(1), &batch::Options::default());
            worst = worst.worse(code);
        }
    }
    worst
}

/// A line for people or programs. A closed pipe ends nothing: the exit code still counts.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line about what went wrong with the asking.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_read_or_refused_in_words() {
        assert_eq!(parse_seeds("0..8").unwrap(), 0..8);
        for (text, why) in [
            ("8", "write FIRST..END"),
            ("a..b", "write FIRST..END"),
            ("", "write FIRST..END"),
            ("-1..3", "write FIRST..END"),
            ("5..5", "no seed lies in 5..5"),
            ("9..3", "no seed lies in 9..3"),
        ] {
            let error = parse_seeds(text).expect_err(text).to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_bug_is_known_by_its_name_alone() {
        assert_eq!(parse_bug("ack-before-fsync").unwrap(), Bug::AckBeforeFsync);
        let error = parse_bug("ack").expect_err("there is none").to_string();
        assert!(error.contains("ack-before-fsync"), "{error}");
    }
}
