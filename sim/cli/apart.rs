//! A seed in a process of its own: whatever a library keeps in a static starts anew.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::Report;

/// Clock ticks in a second of `/proc/self/stat`.
const TICKS_PER_S: f64 = 100.0;

/// What a run is given beside its scenario and its seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    /// The name of a bug to plant.
    pub(super) bug: Option<String>,
    /// Its whole trace is wanted.
    pub(super) log: bool,
}

/// Runs a seed apart; returns its whole output and what it said at the end.
///
/// Errors: why there is no report.
pub(super) fn run(path: &Path, seed: u64, extras: &Extras) -> Result<(Vec<u8>, Report), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(path).arg("--seed").arg(seed.to_string()).arg("--json");
    if extras.log {
        command.args(["--log", "all"]);
    }
    if let Some(bug) = &extras.bug {
        command.args(["--bug", bug]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let last = output.stdout.trim_ascii_end().rsplit(|&byte| byte == b'\n').next();
    match last.and_then(|line| serde_json::from_slice(line).ok()) {
        Some(report) => Ok((output.stdout, report)),
        None => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("seed {seed} left no report ({}): {why}", output.status))
        }
    }
}

/// CPU seconds of all processes that have ended, ours among their parents.
pub(super) fn cpu_of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; after it, cutime and cstime are the 14th and 15th.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after.split_whitespace().skip(13).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S
}

/// Processes at a time: as many as there are cores.
pub(super) fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
