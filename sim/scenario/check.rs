//! What is wrong with a scenario file, in words that name the place and the remedy.

use super::{Fault, FaultKind, Scenario};
use crate::clocks::DRIFT_PPM_MAX;

/// Largest scenario file, in bytes.
const TEXT_LEN_MAX: usize = 256 * 1024;

/// Why a scenario cannot be run. Exit code 4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {why}")]
    Read {
        /// Its name.
        file: String,
        /// What the system said.
        why: String,
    },
    /// It is larger than any story.
    #[error("{file}: {len} bytes; a scenario has at most {TEXT_LEN_MAX}")]
    TooLarge {
        /// Its name.
        file: String,
        /// Its size in bytes.
        len: usize,
    },
    /// A key that does not exist.
    #[error("{file}:{line}: there is no key `{key}` here; {hint}")]
    UnknownKey {
        /// The file's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// The key as written.
        key: String,
        /// The nearest known one, and all others.
        hint: String,
    },
    /// Not TOML, or a value of another type.
    #[error("{file}:{line}: {why}")]
    Form {
        /// The file's name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Values that cannot be.
    #[error("{file}: {why}")]
    Value {
        /// The file's name.
        file: String,
        /// What is wrong, with the key.
        why: String,
    },
}

impl ScenarioError {
    pub(super) fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let (file, message) = (file.to_owned(), error.message());
        match unknown_key(message) {
            Some((key, known)) => Self::UnknownKey { file, line, hint: hint(&key, &known), key },
            None => Self::Form { file, line, why: message.to_owned() },
        }
    }
}

/// The line, from 1, in which a byte of the text lies.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// Takes serde's sentence apart: "unknown field `x`, expected one of `a`, `b`".
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message
        .strip_prefix("unknown field ")
        .or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((quoted.next()?, quoted.collect()))
}

fn hint(key: &str, known: &[String]) -> String {
    let all = known.join(", ");
    match known.iter().min_by_key(|candidate| distance(key, candidate)) {
        Some(nearest) if distance(key, nearest) <= key.len().div_ceil(3) => {
            format!("did you mean `{nearest}`? (known: {all})")
        }
        Some(_) | None => format!("known: {all}"),
    }
}

/// How many letters must be changed, added or removed to make `b` out of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

pub(super) fn size(file: &str, text: &str) -> Result<(), ScenarioError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(ScenarioError::TooLarge { file: file.to_owned(), len: text.len() });
    }
    Ok(())
}

/// Checks what types cannot say. `lines` are those of the `[[fault]]` tables.
pub(super) fn scenario(
    file: &str,
    scenario: &Scenario,
    lines: &[usize],
) -> Result<(), ScenarioError> {
    let counts = [
        ("nodes.count", scenario.nodes.count, 1..=9),
        ("gateways.count", scenario.gateways.count, 1..=100),
        ("devices.count", scenario.devices.count, 1..=10_000),
        ("clients.count", scenario.clients.count, 0..=100),
        ("workload.tries", scenario.workload.tries.into(), 1..=8),
    ];
    for (key, count, allowed) in counts {
        if !allowed.contains(&count) {
            let (low, high) = allowed.into_inner();
            let why = format!("{key} is {count}, which is not between {low} and {high}");
            return Err(ScenarioError::Value { file: file.to_owned(), why });
        }
    }
    if scenario.workload.uplink_every.0.start.is_zero() {
        let why = "workload.uplink_every must not begin at zero".to_owned();
        return Err(ScenarioError::Value { file: file.to_owned(), why });
    }
    for (place, fault) in scenario.fault.iter().enumerate() {
        if let Err(why) = check_fault(scenario, fault) {
            let line = lines.get(place).copied().unwrap_or(1);
            let why = format!("fault {}: {why}", place + 1);
            return Err(ScenarioError::Form { file: file.to_owned(), line, why });
        }
    }
    Ok(())
}

fn check_fault(scenario: &Scenario, fault: &Fault) -> Result<(), String> {
    let end = scenario.duration.0;
    if fault.at.0.end > end {
        return Err(format!("`at` ends at {:?}, after the run's {end:?}", fault.at.0.end));
    }
    if fault.times.is_some_and(|times| !(1..=1_000).contains(&times)) {
        return Err("`times` must be between 1 and 1,000".to_owned());
    }
    let kind = fault.kind;
    let needs = |present: bool, key: &str, wanted: bool| match (present, wanted) {
        (false, true) => Err(format!("`{key}` is missing")),
        (true, false) => Err(format!("`{key}` means nothing for this kind of fault")),
        (true, true) | (false, false) => Ok(()),
    };
    let cut = kind == FaultKind::Cut;
    needs(fault.node.is_some(), "node", !cut)?;
    needs(fault.from.is_some(), "from", cut)?;
    needs(fault.to.is_some(), "to", cut)?;
    if !matches!(kind, FaultKind::PowerCut | FaultKind::Kill) {
        needs(fault.after.is_some(), "after", false)?;
    }
    needs(fault.by.is_some(), "by", kind == FaultKind::ClockJump)?;
    needs(fault.ppm.is_some(), "ppm", kind == FaultKind::ClockDrift)?;
    if !cut {
        needs(fault.both.is_some(), "both", false)?;
    }
    if kind != FaultKind::ClockJump {
        needs(fault.backwards.is_some(), "backwards", false)?;
    }
    if matches!(kind, FaultKind::FsyncError | FaultKind::ClockJump) {
        needs(fault.lasts.is_some(), "lasts", false)?;
    }
    if fault.ppm.is_some_and(|ppm| ppm.unsigned_abs() > DRIFT_PPM_MAX.unsigned_abs()) {
        return Err(format!("`ppm` must be {DRIFT_PPM_MAX} at most, either way"));
    }
    let hosts = hosts(scenario);
    let nodes = &hosts[..scenario.nodes.count as usize];
    for (name, known) in [(&fault.node, nodes), (&fault.from, &hosts), (&fault.to, &hosts)] {
        if let Some(name) = name
            && !known.contains(name)
        {
            return Err(format!("there is no `{name}` in this scenario; {}", hint(name, known)));
        }
    }
    if cut && fault.from == fault.to {
        return Err("`from` and `to` are the same host".to_owned());
    }
    Ok(())
}

/// The names of all hosts: nodes first, then gateways, then clients.
fn hosts(scenario: &Scenario) -> Vec<String> {
    let named = |prefix: &'static str, count: u32| (1..=count).map(move |n| format!("{prefix}{n}"));
    named("n", scenario.nodes.count)
        .chain(named("gw", scenario.gateways.count))
        .chain(named("app", scenario.clients.count))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEAD: &str = "title = \"t\"\nduration = \"60s\"\n";

    fn error(rest: &str) -> String {
        let text = format!("{HEAD}{rest}");
        Scenario::parse("s.toml", &text).expect_err(rest).to_string()
    }

    #[test]
    fn a_small_scenario_needs_two_lines_and_has_defaults() {
        let scenario = Scenario::parse("s.toml", HEAD).unwrap();
        assert_eq!(scenario.nodes.count, 1);
        assert_eq!(scenario.workload.tries, 8);
        assert!(scenario.fault.is_empty());
    }

    #[test]
    fn every_committed_scenario_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let scenarios = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let read = scenarios.map(|path| Scenario::load(&path).unwrap_or_else(|e| panic!("{e}")));
        assert!(read.count() >= 1);
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_known_one() {
        let text = error("[devices]\ncuont = 3\n");
        assert!(text.starts_with("s.toml:4: there is no key `cuont` here"), "{text}");
        assert!(text.contains("did you mean `count`?"), "{text}");
        let text = error("[[fault]]\nkind = \"powercut\"\nnode = \"n1\"\nat = \"1s\"\n");
        assert!(text.contains(":4:") && text.contains("did you mean `power_cut`?"), "{text}");
        let text = error("[weather]\nrain = 1\n");
        assert!(text.contains("s.toml:3: there is no key `weather` here; known: title"), "{text}");
    }

    #[test]
    fn impossible_values_are_refused_with_their_place() {
        for (rest, expected) in [
            ("[devices]\ncount = 0\n", "devices.count is 0"),
            ("[devices]\ncount = 10001\n", "not between 1 and 10000"),
            ("[network]\nloss = 1.5\n", "s.toml:4: 1.5 is not a probability"),
            ("[workload]\nuplink_every = \"0s..1s\"\n", "must not begin at zero"),
            ("[workload]\nuplink_every = \"3s..1s\"\n", "s.toml:4: the range `3s..1s` ends"),
            ("[workload]\nuplink_every = 5\n", "s.toml:4: invalid type"),
            ("settle = \"fast\"\n", "s.toml:3: `fast` is not a duration"),
            ("x = [\n", "s.toml:"),
        ] {
            let text = error(rest);
            assert!(text.contains(expected), "{rest}: {text}");
        }
        let long = Scenario::parse("s.toml", &" ".repeat(TEXT_LEN_MAX + 1)).unwrap_err();
        assert!(matches!(long, ScenarioError::TooLarge { .. }));
    }

    #[test]
    fn faults_must_fit_the_scenario() {
        for (fault, expected) in [
            ("kind = \"kill\"\nat = \"1s\"", "s.toml:3: fault 1: `node` is missing"),
            ("kind = \"kill\"\nnode = \"n2\"\nat = \"1s\"", "no `n2` in this scenario; did you"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s..61s\"", "after the run's 60s"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\nppm = 3", "`ppm` means nothing"),
            ("kind = \"cut\"\nfrom = \"gw1\"\nat = \"1s\"", "`to` is missing"),
            (
                "kind = \"disk_full\"\nnode = \"n1\"\nat = \"1s\"\nafter = \"ack\"",
                "`after` means nothing",
            ),
            ("kind = \"cut\"\nfrom = \"gw1\"\nto = \"gw1\"\nat = \"1s\"", "the same host"),
            ("kind = \"clock_jump\"\nnode = \"n1\"\nat = \"1s\"", "`by` is missing"),
            ("kind = \"clock_drift\"\nnode = \"n1\"\nat = \"1s\"\nppm = 600000", "500000 at most"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\ntimes = 0", "between 1 and 1,000"),
        ] {
            let text = error(&format!("[[fault]]\n{fault}\n"));
            assert!(text.contains(expected), "{fault}: {text}");
        }
    }
}
