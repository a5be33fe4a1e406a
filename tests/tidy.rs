//! The tree keeps its own rules: file headers, sizes, scenario headers, sources of invariants,
//! every folder named in the README, floors that reach no runtime, and no planted bug in a release.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
/// Floors 0-5: nothing here may reach a runtime or a socket.
const RUNTIME_FREE: [&str; 11] = [
    "clock", "sabotage", "lorawan", "mqtt", "gateway", "mac", "store", "radio", "cluster", "node",
    "host",
];
/// Floors 0-4: nothing here may reach randomness either.
const DICE_FREE: [&str; 10] =
    ["clock", "sabotage", "lorawan", "mqtt", "gateway", "mac", "store", "radio", "cluster", "node"];
/// Places of one planted bug, at most: one is the rule.
const PLACES_MAX: usize = 2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the root").to_owned()
}

fn tracked(pattern: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", pattern])
        .current_dir(root())
        .output()
        .expect("git lists the tree");
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let files: Vec<_> = text.lines().map(|line| root().join(line)).filter(|p| p.exists()).collect();
    assert!(!files.is_empty(), "no file matches {pattern}: this check would prove nothing");
    files
}

fn check(pattern: &str, mut rule: impl FnMut(&str, &str) -> Result<(), String>) {
    let mut broken = Vec::new();
    for path in tracked(pattern) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root()).expect("listed below the root").display().to_string();
        if let Err(why) = rule(&name, &text) {
            broken.push(format!("{name}: {why}"));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    check("*.rs", |_, text| {
        if text.starts_with("//!") { Ok(()) } else { Err("does not begin with //!".into()) }
    });
}

#[test]
fn source_files_stay_small() {
    check("*.rs", |_, text| {
        if let Some(line) = text.lines().position(|line| line.chars().count() > COLUMNS_MAX) {
            return Err(format!("line {} is longer than {COLUMNS_MAX} columns", line + 1));
        }
        match text.lines().count() {
            count if count > LINES_MAX => Err(format!("{count} lines, at most {LINES_MAX}")),
            _ => Ok(()),
        }
    });
}

#[test]
fn work_left_open_has_an_owner() {
    // The words are built here, so that this file does not find itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    check("*.rs", |_, text| {
        for (number, line) in text.lines().enumerate() {
            for word in &words {
                if line.contains(&format!("{word}:")) || line.contains(&format!("{word} ")) {
                    return Err(format!("line {}: {word} without (owner)", number + 1));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn no_line_names_the_machine_it_was_written_on() {
    let places = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat()];
    for pattern in ["*.rs", "*.md", "*.toml", "*.sh", "Makefile", ".ci/run"] {
        check(pattern, |_, text| match places.iter().find(|place| text.contains(*place)) {
            Some(place) => Err(format!("names {place}")),
            None => Ok(()),
        });
    }
}

#[test]
fn every_scenario_tells_its_story() {
    check("scenarios/*.toml", |_, text| {
        let header = text.lines().take_while(|line| line.starts_with('#'));
        let header = header.filter(|line| line.len() > 2).count();
        if header >= 2 { Ok(()) } else { Err("needs a story of two comment lines or more".into()) }
    });
}

#[test]
fn every_invariant_names_its_source() {
    check(":(glob)sim/invariants/s*.rs", |_, text| {
        let has = |word: &str| text.lines().any(|l| l.starts_with("//!") && l.contains(word));
        let tested = text.contains("#[test]") || text.contains("mod tests;");
        match (has("Source:"), tested) {
            (true, true) => Ok(()),
            (false, _) => Err("has no `Source:` in its header".into()),
            (_, false) => Err("has no test that it can fail".into()),
        }
    });
}

#[test]
fn every_folder_has_its_line_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let mut folders: Vec<String> = Vec::new();
    for path in tracked("*") {
        let name = path.strip_prefix(root()).expect("listed below the root");
        let parts: Vec<_> = name.iter().filter_map(|part| part.to_str()).collect();
        let folder = match parts.as_slice() {
            ["src", floor, _, ..] => format!("{floor}/"),
            [top, _, ..] if !top.starts_with('.') => format!("{top}/"),
            _ => continue,
        };
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    let missing: Vec<_> =
        folders.iter().filter(|folder| !readme.contains(folder.as_str())).collect();
    assert!(missing.is_empty(), "README.md says nothing of {missing:?}");
}

/// Whether `package`, in any version, is among what `of` is built from.
fn reaches(of: &str, package: &str) -> bool {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", of, "-e", "normal"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    let of_line = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    assert!(of_line(of), "cargo tree -p {of}: {}", String::from_utf8_lossy(&output.stderr));
    of_line(package)
}

#[test]
fn the_floors_below_the_server_reach_no_runtime() {
    for floor in RUNTIME_FREE {
        for package in ["tokio", "mio", "socket2", "madsim"] {
            // tokio's channels alone (no runtime, no I/O) stand beneath openraft's traits.
            assert!(!reaches(floor, package), "{floor} reaches {package}");
        }
    }
}

#[test]
fn the_floors_below_the_host_reach_no_dice() {
    for floor in DICE_FREE {
        assert!(!reaches(floor, "getrandom"), "{floor} reaches getrandom");
    }
    assert!(reaches("server", "tokio"), "the check itself must be able to see a dependency");
}

/// The bugs of `src/sabotage`: variant and name, out of the lines of its table.
fn bugs() -> BTreeMap<String, String> {
    let table = fs::read_to_string(root().join("src/sabotage/lib.rs")).expect("the table");
    let row = |line: &str| {
        let (variant, rest) = line.trim().split_once(": \"")?;
        let (name, rest) = rest.split_once("\", [")?;
        rest.ends_with(';').then(|| (variant.to_owned(), name.to_owned()))
    };
    let bugs: BTreeMap<_, _> = table.lines().filter_map(row).collect();
    assert!(bugs.len() > 20, "the table is read: {bugs:?}");
    bugs
}

/// Whether the packages that these arguments choose are built with the planted bugs.
fn builds_bugs(arguments: &[&str]) -> bool {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "features"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    tree.contains("sabotage feature \"sabotage\"")
}

#[test]
fn no_release_is_built_with_a_planted_bug() {
    assert!(!builds_bugs(&[]), "all default members together, whose features cargo unites");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let (_, members) = manifest.split_once("default-members = [").expect("default members");
    let (members, _) = members.split_once(']').expect("the end of a list");
    for path in members.split('"').filter(|part| part.starts_with(char::is_alphabetic)) {
        let package = path.rsplit('/').next().expect("a name");
        assert!(!builds_bugs(&["-p", package]), "{package}");
    }
    let simulated = ["-p", "sim", "--config", "build.rustflags=['--cfg=madsim']"];
    assert!(builds_bugs(&simulated), "the check itself must be able to see them");
}

#[test]
fn the_binary_knows_no_bug_by_name() {
    let binary = fs::read(env!("CARGO_BIN_EXE_tern-under-test")).expect("the tests' binary");
    let holds = |text: &str| binary.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(holds("fcnt-down:"), "the check itself must be able to find a text");
    // They stand in one table: all of them or none.
    for name in bugs().values().filter(|name| name.len() > 12).take(3) {
        assert!(!holds(name), "{name}");
    }
}

#[test]
fn each_planted_bug_has_its_place_in_plain_code() {
    let bugs = bugs();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    check("*.rs", |file, text| {
        if ["src/sabotage/", "sim/planted/", "tests/"].iter().any(|dir| file.starts_with(dir)) {
            return Ok(());
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_test = file.contains("test");
        for (number, line) in text.lines().enumerate() {
            let Some((before, rest)) = line.split_once("sabotage::planted(Bug::") else { continue };
            let variant = rest.split(')').next().unwrap_or_default();
            let in_code = !is_test && number < code.lines().count();
            match bugs.get_key_value(variant) {
                Some((variant, _)) if in_code && !before.contains("//") => {
                    *places.entry(variant).or_default() += 1;
                }
                Some(_) => return Err(format!("line {}: not in plain code", number + 1)),
                None => return Err(format!("line {}: {variant} is not in the table", number + 1)),
            }
        }
        Ok(())
    });
    for variant in bugs.keys() {
        let found = places.get(variant.as_str()).copied().unwrap_or(0);
        assert!((1..=PLACES_MAX).contains(&found), "{variant} is planted in {found} places");
    }
    let twice = places.values().filter(|count| **count > 1).count();
    assert!(twice <= 1, "{twice} bugs have more than one place: {places:?}");
}
