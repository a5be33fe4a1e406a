//! Replays the committed fuzz corpus on stable: every file of every target, without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies/mod.rs"]
#[allow(unreachable_pub, missing_docs, reason = "the fuzz workspace uses it as a library")]
mod bodies;

/// Files a target's corpus may hold; more would slow every run down for little.
const FILES_MAX: usize = 128;

#[test]
#[expect(clippy::print_stdout, reason = "names the input, shown only if its body panics")]
fn every_committed_input_is_digested() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    for (name, run) in bodies::TARGETS {
        let mut files: Vec<_> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("no corpus for {name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty() && files.len() <= FILES_MAX, "{name} has {} files", files.len());
        for file in files {
            println!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    let folders: BTreeSet<String> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets = bodies::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(folders, targets);
}

/// Told in `fuzz/bodies`; `TERN_WRITE_CORPUS=1` writes them.
#[test]
fn what_is_told_by_hand_is_in_the_corpus() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
    for (target, name, bytes) in bodies::told_files() {
        let file = corpus.join(target).join(&name);
        if std::env::var_os("TERN_WRITE_CORPUS").is_some() {
            fs::write(&file, &bytes).unwrap();
        }
        let seen = fs::read(&file).unwrap_or_default();
        assert_eq!(seen, bytes, "{name} is not as told: TERN_WRITE_CORPUS=1 writes it");
    }
}
