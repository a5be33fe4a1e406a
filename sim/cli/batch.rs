//! Many runs, each in a fresh process: a range of seeds, one seed twice.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use sabotage::Bug;
use sha2::{Digest as _, Sha256};

use super::{Code, complain, say};
use crate::runtime::held;
use crate::world::Report;

/// Processes at a time.
pub(super) const WORKERS: usize = 2;
/// Lines of progress for a range of seeds, roughly.
const PROGRESS_LINES: u64 = 10;
/// Clock ticks in a second of `/proc/self/stat`.
const TICKS_PER_S: f64 = 100.0;

/// Runs a seed in a process of its own; returns its whole output and what it said at the end.
///
/// Errors: why there is no report.
pub(super) fn run_apart(
    path: &Path,
    seed: u64,
    bug: Option<Bug>,
    log: bool,
) -> Result<(Vec<u8>, Report), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg(path).arg("--seed").arg(seed.to_string()).arg("--json");
    if log {
        command.args(["--log", "all"]);
    }
    if let Some(bug) = bug {
        command.args(["--bug", bug.name()]);
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
fn cpu_of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold spaces; after it, cutime and cstime are the 14th and 15th.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after.split_whitespace().skip(13).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_S
}

#[derive(Default)]
struct Tally {
    done: u64,
    violated: u64,
    unmet: u64,
    without_report: u64,
    simulated_s: f64,
    accepted: u64,
    restarts: u64,
}

/// Runs a range of seeds, two at a time.
pub(super) fn seeds(path: &Path, seeds: Range<u64>, bug: Option<Bug>, json: bool) -> Code {
    let total = seeds.end - seeds.start;
    // Whoever started us may have had children of his own in this process (cargo has).
    let before = cpu_of_children();
    let next = Mutex::new(seeds);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(seed) = held(&next).next() {
                    let result = run_apart(path, seed, bug, false);
                    let mut tally = held(&tally);
                    let stop = count(&mut tally, seed, total, &result, json);
                    if stop {
                        let mut rest = held(&next);
                        rest.start = rest.end;
                    }
                }
            });
        }
    });
    let tally = held(&tally);
    if tally.without_report > 0 {
        return Code::Unusable;
    }
    let cpu = cpu_of_children() - before;
    if !json {
        say(&format!(
            "{:.0} s simulated in {cpu:.1} CPU s ({:.0} per CPU s); {} uplinks accepted, \
             {} restarts",
            tally.simulated_s,
            tally.simulated_s / cpu.max(0.01),
            tally.accepted,
            tally.restarts
        ));
    }
    let rest = if tally.unmet > 0 { format!(", {} not met", tally.unmet) } else { String::new() };
    say(&format!("{} seeds: {} violations{rest}", tally.done, tally.violated));
    match (tally.violated, tally.unmet) {
        (0, 0) => Code::Fine,
        (0, _) => Code::Unmet,
        (_, _) => Code::Violated,
    }
}

/// Counts a run and says what is worth saying; true if going on is useless.
fn count(
    tally: &mut Tally,
    seed: u64,
    total: u64,
    result: &Result<(Vec<u8>, Report), String>,
    json: bool,
) -> bool {
    let report = match result {
        Ok((_, report)) => report,
        Err(why) => {
            complain(why);
            tally.without_report += 1;
            return true;
        }
    };
    tally.done += 1;
    tally.simulated_s += report.simulated_s;
    tally.accepted += u64::from(report.counts.accepted);
    tally.restarts += u64::from(report.counts.restarts);
    tally.violated += u64::from(report.exit_code() == 2);
    tally.unmet += u64::from(report.exit_code() == 3);
    if json {
        say(&serde_json::to_string(report).unwrap_or_default());
        return false;
    }
    for text in report.violations.iter().map(|(_, text)| text).chain(&report.unmet) {
        say(&format!("seed {seed}: {text}"));
    }
    if tally.done.is_multiple_of((total / PROGRESS_LINES).max(1)) {
        say(&format!("  {} of {total} seeds", tally.done));
    }
    false
}

/// What two processes made of one seed.
pub(super) struct Compared {
    /// Every byte they wrote is the same.
    pub(super) same: bool,
    /// What there is to say.
    lines: Vec<String>,
}

/// Runs a seed in two processes and compares every byte they write.
pub(super) fn meta(path: &Path, seed: u64) -> Code {
    match compare(path, seed, None) {
        Ok(compared) => {
            compared.lines.iter().for_each(|line| say(line));
            if compared.same { Code::Fine } else { Code::Violated }
        }
        Err(why) => {
            complain(&why);
            Code::Unusable
        }
    }
}

/// As [`meta`], with a bug planted in both.
///
/// Errors: a run that left no report.
pub(super) fn compare(path: &Path, seed: u64, bug: Option<Bug>) -> Result<Compared, String> {
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| run_apart(path, seed, bug, true));
        let second = run_apart(path, seed, bug, true);
        (first.join().unwrap_or_else(|_| Err("the first run panicked".to_owned())), second)
    });
    let ((first, report), (second, other)) = (first?, second?);
    let hash = |bytes: &[u8]| -> String {
        Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    };
    if first == second && report.digest == other.digest {
        let line = format!(
            "seed {seed} in two processes: {} lines, byte-identical ({}); trace {}",
            report.events,
            hash(&first),
            &report.digest[..16.min(report.digest.len())]
        );
        return Ok(Compared { same: true, lines: vec![line] });
    }
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    let (first, second) = (lines(&first), lines(&second));
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    let place = differs.unwrap_or_else(|| first.len().min(second.len()));
    let shown =
        |lines: &[String]| format!("  {}", lines.get(place).map_or("(nothing)", String::as_str));
    let head = format!("S23 violated: seed {seed} in two processes differs at line {}", place + 1);
    Ok(Compared { same: false, lines: vec![head, shown(&first), shown(&second)] })
}
