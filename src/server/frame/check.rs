//! Holds the codec against a file of frames, one JSON object a line, whose meaning others have
//! worked out (format: `tests/data/vectors`). Every field under `expect` is compared.

use std::io::{self, BufRead, Read as _};

use lorawan::Direction;
use serde::Deserialize;
use serde_json::{Value, json};

use super::measure::{self, VectorContext, VectorKeys, unhex};

/// Longest line that is read; the longest of the known files has 2 KiB.
const LINE_LEN_MAX: usize = 64 * 1024;
/// Longest frame a line may hold: more than a radio can send, so that such a line can say so.
const FRAME_LEN_MAX: usize = 1_024;

/// One field that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line's `id`; its number if it has none.
    pub id: String,
    /// Where: `f_opts_macs.0.payload`; empty for the line as a whole.
    pub field: String,
    /// What the file says.
    pub expected: String,
    /// What we say.
    pub seen: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, field, expected, seen } = self;
        write!(f, "{id}: {field}: expected {expected}, got {seen}")
    }
}

/// What came of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines without a difference.
    pub passed: usize,
    /// Lines with at least one.
    pub failed: usize,
    /// Every difference, in the order of the file.
    pub differences: Vec<Difference>,
}

/// The last line of the report.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Why a file cannot be checked to its end.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("line {line} cannot be read")]
    Read {
        /// Where.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line longer than any frame's.
    #[error("line {line} is longer than {LINE_LEN_MAX} bytes")]
    LineTooLong {
        /// Where.
        line: usize,
    },
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<String>,
    kind: String,
    #[serde(default)]
    phy: Option<String>,
    #[serde(default)]
    bytes: Option<String>,
    #[serde(default)]
    keys: VectorKeys,
    #[serde(default)]
    ctx: VectorContext,
    expect: serde_json::Map<String, Value>,
}

/// Checks a whole file; empty lines are skipped.
///
/// * Errors: [`CheckError`]; a line that makes no sense is a difference, not an error.
pub fn check_file(reader: impl BufRead) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let mut reader = reader;
    for line in 1.. {
        let mut bytes = Vec::new();
        let limit = u64::try_from(LINE_LEN_MAX + 1).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut bytes);
        if read.map_err(|source| CheckError::Read { line, source })? == 0 {
            break;
        }
        if bytes.len() > LINE_LEN_MAX {
            return Err(CheckError::LineTooLong { line });
        }
        let text = String::from_utf8_lossy(&bytes);
        if text.trim().is_empty() {
            continue;
        }
        match check_line(&text, line) {
            Ok(()) => report.passed += 1,
            Err(differences) => {
                report.failed += 1;
                report.differences.extend(differences);
            }
        }
    }
    Ok(report)
}

/// Checks one line.
///
/// * `number`: names the line where it has no `id`.
/// * Errors: every [`Difference`], at least one.
pub fn check_line(text: &str, number: usize) -> Result<(), Vec<Difference>> {
    let fault = |id: String, seen: String| {
        vec![Difference { id, field: "line".into(), expected: "a frame to check".into(), seen }]
    };
    let line: Line = serde_json::from_str(text)
        .map_err(|error| fault(format!("line {number}"), error.to_string()))?;
    let id = line.id.clone().unwrap_or_else(|| format!("line {number}"));
    let seen = measure(&line).map_err(|seen| fault(id.clone(), seen))?;
    let mut differences = Vec::new();
    compare(&id, "", &Value::Object(line.expect), &seen, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

fn measure(line: &Line) -> Result<Value, String> {
    let hex = line.phy.as_ref().or(line.bytes.as_ref()).ok_or("neither `phy` nor `bytes`")?;
    let bytes = unhex(hex, FRAME_LEN_MAX)?;
    match line.kind.as_str() {
        "mac_set_up" => Ok(json!({"commands": measure::commands(Direction::Up, &bytes)})),
        "mac_set_down" => Ok(json!({"commands": measure::commands(Direction::Down, &bytes)})),
        kind => measure::frame(kind, &bytes, &line.keys, &line.ctx),
    }
}

/// Every leaf of `expected` must be in `seen`; what only `seen` has was not asked.
fn compare(
    id: &str,
    field: &str,
    expected: &Value,
    seen: &Value,
    differences: &mut Vec<Difference>,
) {
    let inside = |name: &str| {
        if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") }
    };
    match (expected, seen) {
        (Value::Object(expected), Value::Object(seen)) => {
            for (name, expected) in expected {
                let seen = seen.get(name).unwrap_or(&Value::Null);
                compare(id, &inside(name), expected, seen, differences);
            }
        }
        (Value::Array(wanted), Value::Array(given)) if wanted.len() == given.len() => {
            for (at, (expected, seen)) in wanted.iter().zip(given).enumerate() {
                compare(id, &inside(&at.to_string()), expected, seen, differences);
            }
        }
        // A port with nothing behind it: some write an empty payload, some none.
        (Value::Null, Value::String(text)) if field == "payload" && text.is_empty() => {}
        (Value::Null, Value::Array(none)) if field == "payload_macs" && none.is_empty() => {}
        _ if expected == seen => {}
        _ => differences.push(Difference {
            id: id.into(),
            field: field.into(),
            expected: expected.to_string(),
            seen: seen.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::BufReader;

    use super::*;

    fn open(name: &str) -> BufReader<File> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/");
        BufReader::new(File::open(format!("{folder}{name}")).unwrap())
    }

    #[test]
    fn every_field_of_every_known_vector_is_as_expected() {
        for (name, lines) in [("vectors.jsonl", 2_851), ("single_oracle.jsonl", 145)] {
            let report = check_file(open(name)).unwrap();
            assert_eq!(report, Report { passed: lines, ..Report::default() }, "{name}");
        }
    }

    /// Every leaf under `value`, by its path.
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter()
                    .for_each(|(name, inner)| leaves(inner, &format!("{path}/{name}"), found));
            }
            Value::Array(list) => {
                let each = list.iter().enumerate();
                each.for_each(|(at, inner)| leaves(inner, &format!("{path}/{at}"), found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                found.push(path.to_owned());
            }
        }
    }

    #[test]
    fn a_change_in_any_field_is_found() {
        let mut kinds = BTreeMap::new();
        let mut changed = 0;
        for name in ["vectors.jsonl", "single_oracle.jsonl"] {
            for text in open(name).lines() {
                let line: Value = serde_json::from_str(&text.unwrap()).unwrap();
                let kind = line["kind"].as_str().unwrap().to_owned();
                let lines = kinds.entry(kind).or_insert(0);
                *lines += 1;
                if *lines > 10 {
                    continue;
                }
                let mut paths = Vec::new();
                leaves(&line["expect"], "/expect", &mut paths);
                for path in paths {
                    let mut wrong = line.clone();
                    let leaf = wrong.pointer_mut(&path).unwrap();
                    *leaf = match leaf {
                        Value::Bool(value) => json!(!*value),
                        Value::Number(value) => json!(value.as_i64().unwrap() + 1),
                        Value::String(text) => json!(format!("{text}00")),
                        Value::Null | Value::Array(_) | Value::Object(_) => json!("something"),
                    };
                    let differences = check_line(&wrong.to_string(), 1).unwrap_err();
                    assert_eq!(differences.len(), 1, "{path}: {differences:?}");
                    assert_eq!(format!("/expect/{}", differences[0].field.replace('.', "/")), path);
                    changed += 1;
                }
            }
        }
        assert!(kinds.len() >= 25 && changed > 1_000, "{} kinds, {changed} fields", kinds.len());
    }

    #[test]
    fn a_line_that_makes_no_sense_is_a_difference() {
        for text in [
            "nonsense",
            "[]",
            "{}",
            r#"{"kind":"data_up_1_0","expect":{}}"#,
            r#"{"kind":"data_up_1_0","phy":"4","expect":{}}"#,
            r#"{"kind":"data_up_1_0","phy":"4x","expect":{}}"#,
            r#"{"kind":"data_up_1_0","phy":"40f04d573900000001020304","expect":{}}"#,
            r#"{"kind":"join_request","phy":"40f04d5739000000","expect":{"mic_ok":true}}"#,
        ] {
            let report = check_file(text.as_bytes()).unwrap();
            assert_eq!((report.passed, report.failed), (0, 1), "{text}");
            assert!(!report.differences.is_empty());
        }
        let report = check_file("\n  \n".as_bytes()).unwrap();
        assert_eq!(report.to_string(), "0 passed, 0 failed");
        let long = " ".repeat(LINE_LEN_MAX + 1);
        assert!(matches!(check_file(long.as_bytes()), Err(CheckError::LineTooLong { line: 1 })));
    }
}
