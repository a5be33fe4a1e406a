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

mod batch;
mod once;
mod sabotage;

use std::io::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use ::sabotage::Bug;
use clap::{Args, Parser, Subcommand};

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
}

#[derive(Args, Debug)]
struct Run {
    /// The scenario file.
    scenario: Option<PathBuf>,
    /// The seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Many seeds, each in a process of its own: FIRST..END, END not included.
    #[arg(long, value_name = "FIRST..END", conflicts_with = "seed", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// Machine-readable: one JSON object a line, the report last.
    #[arg(long)]
    json: bool,
    /// Show what happens, of these lanes (n1,gw2,dev3,app1,oper,audit,world) or of `all`.
    #[arg(long, value_name = "LANES")]
    log: Option<String>,
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
        Some(Verb::Meta { scenario, seed }) => batch::meta(&scenario, seed),
        Some(Verb::Sabotage(ask)) => sabotage::run(&ask),
        Some(Verb::Canary) => sabotage::canary(),
        None => {
            let run = cli.run;
            let Some(scenario) = run.scenario else {
                complain("which scenario? For example: cargo sim scenarios/first_light.toml");
                return Code::Unusable;
            };
            match run.seeds {
                Some(seeds) => batch::seeds(&scenario, seeds, run.bug, run.json),
                None => once::run(&scenario, run.seed, run.bug, run.json, run.log.as_deref()),
            }
        }
    }
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
