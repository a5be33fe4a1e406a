//! `tern demo`: joins within seconds, events as MQTT delivers them, a summary, and nothing left.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

fn demo(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tern-under-test"))
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), text + &String::from_utf8_lossy(&output.stderr))
}

/// Columns: time of day, kind, device, the rest.
fn kinds(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| line.as_bytes().get(2) == Some(&b':'));
    lines.filter_map(|line| line.split_whitespace().nth(1)).collect()
}

fn shows_life(region: &str) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--for", "21s", "--region", region, "--devices", "3"];
    let (success, text) = demo(folder.path(), &arguments);
    println!("{text}");
    assert!(success);
    let kinds = kinds(&text);
    let count = |kind: &str| kinds.iter().filter(|seen| **seen == kind).count();
    assert_eq!(count("join"), 3);
    assert!(count("up") >= 6 && count("txack") >= 1 && count("ack") >= 1, "{kinds:?}");
    assert!(count("heard") >= 3, "{kinds:?}");
    assert!(text.contains("confirmed") && text.contains("its uplink is acknowledged"));
    assert!(text.contains("joined     3 of 3 devices"));
    assert!(!text.contains('\x1b'), "colours only on a terminal");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_demonstration_shows_life_in_eu868() {
    shows_life("EU868");
}

#[test]
fn the_demonstration_shows_life_in_us915() {
    shows_life("US915");
}

/// Whoever has this folder's path on its command line.
fn processes_of(folder: &std::path::Path) -> usize {
    let folder = folder.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
}

#[test]
fn three_nodes_lose_nothing_when_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--nodes", "3", "--for", "24s", "--devices", "4", "--json"];
    let (success, text) = demo(folder.path(), &arguments);
    println!("{text}");
    assert!(success);
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let notes: Vec<_> = lines.iter().filter_map(|line| line["note"].as_str()).collect();
    let story: Vec<_> = notes
        .iter()
        .filter(|note| ["killed", "moved", "started", "caught up"].contains(*note))
        .collect();
    assert_eq!(story, [&"killed", &"moved", &"started", &"caught up"], "{notes:?}");
    let ledger = &lines.iter().rfind(|line| line["ledger"].is_object()).unwrap()["ledger"];
    assert_eq!(ledger["lost"], 0);
    assert!(ledger["accepted"].as_u64().unwrap() >= 8, "{ledger}");
    assert_eq!(ledger["accepted"], ledger["delivered"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(processes_of(folder.path()), 0);
}

#[test]
fn its_nodes_end_with_it_even_if_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tern-under-test"))
        .args(["demo", "--nodes", "2", "--json"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"ready\"")));
    assert_eq!(processes_of(folder.path()), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    tests::eventually("its nodes end", Duration::from_secs(20), || {
        (processes_of(folder.path()) == 0).then_some(())
    });
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tern-under-test"))
        .args(["demo", "--devices", "1"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("  join  ")));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line == "joined     1 of 1 devices"), "{rest:#?}");
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_region_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (success, text) = demo(folder.path(), &["--region", "MOON"]);
    assert!(!success && text.contains("MOON"), "{text}");
}
