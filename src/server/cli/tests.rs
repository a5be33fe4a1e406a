//! The help texts, held by a snapshot, and the command line read as people write it.

use clap::CommandFactory;

use super::*;

/// Where the snapshot lies; `TERN_BLESS=1 cargo test -p server help` writes it anew.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/help.txt");

/// The help of a command and all below it, at a fixed width.
fn help_of(command: &mut clap::Command, path: &str, text: &mut String) {
    let name = command.get_name().to_owned();
    let path = if path.is_empty() { name } else { format!("{path} {name}") };
    // Short below the first level: the options for all are said once.
    let is_deep = path.matches(' ').count() > 1;
    let help = if is_deep { command.render_help() } else { command.render_long_help() };
    let help = help.to_string();
    text.push_str(&format!("\n$ {path} --help\n"));
    for line in help.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // The demonstration describes itself.
    let below = command.get_subcommands_mut();
    for inner in below.filter(|inner| !matches!(inner.get_name(), "help" | "demo")) {
        help_of(inner, &path, text);
    }
}

#[test]
fn the_help_is_what_was_agreed() {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    help_of(&mut command, "", &mut text);
    if std::env::var_os("TERN_BLESS").is_some() {
        std::fs::write(SNAPSHOT, &text).unwrap();
    }
    let agreed = std::fs::read_to_string(SNAPSHOT).unwrap();
    let lines = agreed.lines().zip(text.lines()).enumerate();
    for (number, (agreed, seen)) in lines {
        assert_eq!(agreed, seen, "line {}: TERN_BLESS=1 writes the snapshot anew", number + 1);
    }
    assert_eq!(agreed.lines().count(), text.lines().count());
}

#[test]
fn every_line_of_the_introduction_is_understood() {
    Cli::command().debug_assert();
    let lines = teach::TERN.lines().filter_map(|line| line.trim().strip_prefix("tern "));
    let mut seen = 0;
    for line in lines {
        let line = line.split("   ").next().unwrap();
        let words = std::iter::once("tern").chain(line.split_whitespace());
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("tern {line}: {error}");
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for line in [
        "tern mqtt-user add x",
        "tern mqtt-user add x --application a --all",
        "tern queue push d --fport 0",
        "tern queue push d --fport 224",
        "tern queue push d --hex 01",
        "tern queue push d --fport 1 --hex 01 --base64 AQ==",
        "tern device add",
        "tern nonsense",
    ] {
        assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
    }
}
