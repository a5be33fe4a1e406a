//! `tern demo cases FILE`: each case on a fresh node of its own, through the doors that everybody
//! has: operations of the API, datagrams, MQTT.
//!
//! A case is left out only for a feature that it names and the server lacks, never by its id. What
//! this runner does not understand in a case makes it fail.

mod file;
mod judge;
mod stage;

use std::io::{self, Write};
use std::path::Path;

use futures_util::StreamExt;
use serde_json::Value;

use self::file::{Case, CaseFile, RawCase};
use super::DemoError;

pub use self::file::CaseFileError;

/// What cases may need and this server has, beyond LoRaWAN 1.0 class A.
const FEATURES: [&str; 0] = [];
/// Nodes at a time: each waits for seconds, none works for long.
const NODES_MAX: usize = 8;

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything as it should be.
    Passed,
    /// What was not.
    Failed(Vec<String>),
    /// Features it needs.
    Skipped(Vec<String>),
}

/// One case.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// Runs a file and says what came of each case that did not pass, then the counts.
///
/// * Errors: no such file; [`DemoError::Failed`] when a case failed.
pub async fn run_file(file: &Path) -> Result<(), DemoError> {
    let reports = run_cases(file).await?;
    let mut out = io::stdout().lock();
    let written = report(&mut out, &reports);
    written.map_err(|source| DemoError::Io { what: "standard output", source })?;
    let failed = count(&reports, |verdict| matches!(verdict, Verdict::Failed(_)));
    if failed == 0 { Ok(()) } else { Err(DemoError::Failed(format!("{failed} cases failed"))) }
}

/// Runs a file.
///
/// * Returns what came of each case, in the file's order.
/// * Errors: no such file.
pub async fn run_cases(file: &Path) -> Result<Vec<CaseReport>, CaseFileError> {
    let cases = read(file)?;
    let net_id = cases.common.network.net_id.as_str();
    let runs = cases.cases.into_iter().map(|case| run_case(case, net_id));
    Ok(futures_util::stream::iter(runs).buffered(NODES_MAX).collect().await)
}

fn read(file: &Path) -> Result<CaseFile, CaseFileError> {
    let name = file.display().to_string();
    let error = |source| CaseFileError::Read { file: name.clone(), source };
    let bytes = std::fs::metadata(file).map_err(error)?.len();
    if bytes > file::FILE_BYTES_MAX {
        return Err(CaseFileError::TooLarge { file: name, bytes });
    }
    let text = std::fs::read(file).map_err(error)?;
    serde_json::from_slice(&text).map_err(|source| CaseFileError::Json { file: name, source })
}

async fn run_case(raw: RawCase, net_id: &str) -> CaseReport {
    let RawCase { id, name, blackbox, rest } = raw;
    let missing: Vec<String> = blackbox
        .features
        .into_iter()
        .filter(|feature| !FEATURES.contains(&feature.as_str()))
        .collect();
    let verdict = if missing.is_empty() {
        match judged(rest, net_id).await {
            Ok(differences) if differences.is_empty() => Verdict::Passed,
            Ok(differences) => Verdict::Failed(differences),
            Err(why) => Verdict::Failed(vec![why]),
        }
    } else {
        Verdict::Skipped(missing)
    };
    CaseReport { id, name, verdict }
}

async fn judged(rest: serde_json::Map<String, Value>, net_id: &str) -> Result<Vec<String>, String> {
    let case: Case = serde_json::from_value(Value::Object(rest))
        .map_err(|error| format!("not understood: {error}"))?;
    let observed = stage::run(&case, net_id).await?;
    Ok(judge::differences(&case.expect, &observed))
}

fn count(reports: &[CaseReport], of: impl Fn(&Verdict) -> bool) -> usize {
    reports.iter().filter(|report| of(&report.verdict)).count()
}

fn report(out: &mut impl Write, reports: &[CaseReport]) -> io::Result<()> {
    for CaseReport { id, name, verdict } in reports {
        match verdict {
            Verdict::Passed => {}
            Verdict::Failed(differences) => {
                writeln!(out, "FAIL  {id}  {name}")?;
                for difference in differences {
                    writeln!(out, "      {difference}")?;
                }
            }
            Verdict::Skipped(features) => {
                writeln!(out, "skip  {id}  {name}: needs {}", features.join(", "))?;
            }
        }
    }
    writeln!(
        out,
        "{} passed, {} failed, {} skipped",
        count(reports, |verdict| *verdict == Verdict::Passed),
        count(reports, |verdict| matches!(verdict, Verdict::Failed(_))),
        count(reports, |verdict| matches!(verdict, Verdict::Skipped(_)))
    )
}
