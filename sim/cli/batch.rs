//! Many seeds of a scenario, as many at a time as there are cores, each in a fresh process.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use super::apart::{self, Extras};
use super::tally::Tally;
use super::{Code, complain, meta, say};
use crate::runtime::held;
use crate::world::Report;

/// Lines of progress for a range of seeds, roughly.
const PROGRESS_LINES: u64 = 10;

/// How a range is run.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    /// What each run is given.
    pub(super) extras: Extras,
    /// One JSON object a seed instead of lines for people.
    pub(super) json: bool,
    /// Go on after a violation.
    pub(super) keep_going: bool,
    /// Run every so many-th seed in a second process too, and compare every byte.
    pub(super) double: Option<u64>,
    /// Where to write what came of it, for the table of the long runs.
    pub(super) tally: Option<std::path::PathBuf>,
}

/// One seed, run; and its twin, compared.
struct Run {
    seed: u64,
    result: Result<Report, String>,
    /// Where the two differ, for a double run.
    twin: Option<Result<(), String>>,
}

/// Runs a range of seeds, then says what came of it.
pub(super) fn seeds(path: &Path, seeds: Range<u64>, options: &Options) -> Code {
    let total = seeds.end - seeds.start;
    // Whoever started us may have had children of his own in this process (cargo has).
    let before = apart::cpu_of_children();
    let waiting: Mutex<VecDeque<u64>> = Mutex::new(seeds.clone().collect());
    let tally = Mutex::new(Tally::new(path, seeds));
    std::thread::scope(|scope| {
        for _ in 0..apart::workers() {
            scope.spawn(|| {
                while let Some(seed) = next(&waiting) {
                    let run = run_one(path, seed, options);
                    let mut tally = held(&tally);
                    if !count(&mut tally, run, total, options) {
                        held(&waiting).clear();
                    }
                }
            });
        }
    });
    let mut tally = held(&tally);
    tally.cpu_s = apart::cpu_of_children() - before;
    if let Some(file) = &options.tally
        && let Err(error) = tally.write(file)
    {
        complain(&format!("{}: {error}", file.display()));
        return Code::Unusable;
    }
    if !options.json {
        say(&tally.speed());
    }
    say(&tally.verdict());
    tally.code()
}

fn next(waiting: &Mutex<VecDeque<u64>>) -> Option<u64> {
    held(waiting).pop_front()
}

fn run_one(path: &Path, seed: u64, options: &Options) -> Run {
    let doubled = options.double.is_some_and(|every| seed.is_multiple_of(every.max(1)));
    if !doubled {
        let result = apart::run(path, seed, &options.extras).map(|(_, report)| report);
        return Run { seed, result, twin: None };
    }
    match meta::compare(path, seed, &options.extras) {
        Ok((report, twin)) => Run { seed, result: Ok(report), twin: Some(twin) },
        Err(why) => Run { seed, result: Err(why), twin: None },
    }
}

/// Counts a run and says what is worth saying; false if going on is useless.
fn count(tally: &mut Tally, run: Run, total: u64, options: &Options) -> bool {
    let report = match run.result {
        Ok(report) => report,
        Err(why) => {
            complain(&why);
            tally.without_report.push(run.seed);
            return options.keep_going;
        }
    };
    let differs = matches!(run.twin, Some(Err(_)));
    if let Some(twin) = run.twin {
        tally.doubles += 1;
        if let Err(why) = twin {
            tally.differ.push(run.seed);
            say(&why);
        }
    }
    tally.take(&report);
    if options.json {
        say(&serde_json::to_string(&report).unwrap_or_default());
    } else {
        for text in report.violations.iter().map(|(_, text)| text).chain(&report.unmet) {
            say(&format!("seed {}: {text}", run.seed));
        }
        if tally.done.is_multiple_of((total / PROGRESS_LINES).max(1)) {
            complain(&format!("  {} of {total} seeds", tally.done));
        }
    }
    options.keep_going || (report.exit_code() == 0 && !differs)
}
