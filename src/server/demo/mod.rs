//! `tern demo`: nodes on loopback with simulated gateways and devices around them, over real
//! sockets; with several, one is killed on the way. And `tern demo cases`: a file of server cases
//! against a fresh node.
//!
//! Nothing here has a way into a node that others have not: operations of the API, datagrams, MQTT.
//! What it makes goes with it.

pub mod cases;
mod ledger;
mod line;
pub mod link;
pub mod node;
mod nodes;
mod outage;
mod play;
mod provision;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::node::api::{ApiError, Outcome};

use crate::run::ServeError;

/// What `tern demo` was told.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    /// How long, like 30s or 5m; without it until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// EU868 or US915.
    #[arg(long, default_value = "EU868")]
    pub region: String,
    /// Simulated devices.
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub devices: u8,
    /// Nodes of one cluster; with two or more, one is killed on the way and comes back.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=5))]
    pub nodes: u8,
    /// Something else than the demonstration.
    #[command(subcommand)]
    pub command: Option<DemoCommand>,
}

/// What else it can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DemoCommand {
    /// Run a file of server cases against fresh nodes: provision, inject a frame, compare.
    Cases {
        /// The file, in the format of tests/data/cases.
        file: PathBuf,
    },
}

/// Why a demonstration ends early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The node does not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The node ended.
    #[error("the node ended: {0}")]
    Node(String),
    /// The node refused something.
    #[error("{what}: {source}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// Its answer.
        source: ApiError,
    },
    /// The node answered something else.
    #[error("{what}: unexpected answer {outcome:?}")]
    Unexpected {
        /// What it was asked for.
        what: String,
        /// Its answer.
        outcome: Box<Outcome>,
    },
    /// Sockets.
    #[error("{what}: {source}")]
    Io {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No such region.
    #[error(transparent)]
    Region(#[from] lorawan::UnknownRegion),
    /// It ran, but not as it should.
    #[error("{0}")]
    Failed(String),
    /// The file of cases cannot be used.
    #[error(transparent)]
    Cases(#[from] cases::CaseFileError),
}

impl DemoError {
    fn unexpected(what: &str, outcome: Outcome) -> Self {
        Self::Unexpected { what: what.to_owned(), outcome: Box::new(outcome) }
    }
}

/// Runs it, until it is over or Ctrl-C.
///
/// * `json`: each line is an object for programs.
/// * Errors: [`DemoError`]; nothing is left behind.
pub async fn run(args: DemoArgs, json: bool) -> Result<(), DemoError> {
    match args.command {
        Some(DemoCommand::Cases { file }) => cases::run_file(&file).await,
        None => play::run(&args, line::Voice::new(json)).await,
    }
}

/// A time like `30s`, `5m`, `1h` or `90`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("seconds, minutes or hours: 30s, 5m, 1h".into()),
    };
    let number: u32 = digits.parse().map_err(|_| "a number and a unit: 30s, 5m, 1h")?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "5d", "-1s", "1.5s", "99999999999s", "30 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
