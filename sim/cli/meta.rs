//! A seed in two processes must write the same bytes (S23).

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::apart::{self, Extras};
use super::{Code, complain, say};
use crate::world::Report;

/// Runs a seed in two processes and says whether every byte they write is the same.
pub(super) fn meta(path: &Path, seed: u64, extras: &Extras) -> Code {
    match compare(path, seed, extras) {
        Ok((report, Ok(()))) => {
            let trace = &report.digest[..16.min(report.digest.len())];
            let lines = report.events;
            say(&format!("seed {seed} in two processes: {lines} lines, byte-identical; {trace}"));
            Code::Fine
        }
        Ok((_, Err(why))) => {
            say(&why);
            Code::Violated
        }
        Err(why) => {
            complain(&why);
            Code::Unusable
        }
    }
}

/// Runs a seed twice; returns the report, and the first place where the two differ.
///
/// Errors: a run that left no report.
pub(super) fn compare(
    path: &Path,
    seed: u64,
    extras: &Extras,
) -> Result<(Report, Result<(), String>), String> {
    let extras = Extras { log: true, ..extras.clone() };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| apart::run(path, seed, &extras));
        let second = apart::run(path, seed, &extras);
        (first.join().unwrap_or_else(|_| Err("the first run panicked".to_owned())), second)
    });
    let ((first, report), (second, other)) = (first?, second?);
    let same = Sha256::digest(&first) == Sha256::digest(&second) && report.digest == other.digest;
    Ok((report, if same { Ok(()) } else { Err(difference(seed, &first, &second)) }))
}

fn difference(seed: u64, first: &[u8], second: &[u8]) -> String {
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
    };
    let (first, second) = (lines(first), lines(second));
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    let place = differs.unwrap_or_else(|| first.len().min(second.len()));
    let at = |lines: &[String]| lines.get(place).cloned().unwrap_or_else(|| "(nothing)".to_owned());
    format!(
        "S23 violated: seed {seed} in two processes differs at line {}\n  {}\n  {}",
        place + 1,
        at(&first),
        at(&second)
    )
}
