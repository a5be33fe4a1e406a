//! Bad input at a real process, over real sockets: it is survived, counted by reason, seen by who
//! watches, never written into the log, and costs neither memory without bound nor log lines.
//!
//! Each test has a server of its own and ends with the same look at it, [`Picture::compare`].
//! To repeat one: `cargo test -p tests --test main hostile::udp -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends by panicking, and tells")]

mod flood;
mod http;
mod mqtt;
mod udp;
mod wire;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::{Tern, eventually};

/// How long the server may take to do what is expected of it, on a crowded machine.
const SOON: Duration = Duration::from_secs(15);
/// Bytes that the process may print after its greeting, whatever it is sent.
const PRINTED_MAX: usize = 2_048;

/// A server with its own ports and folder.
fn server() -> Tern {
    server_as(Path::new(env!("CARGO_BIN_EXE_tern-under-test")))
}

fn server_as(binary: &Path) -> Tern {
    Tern::start(binary, "EU868", &[])
}

/// GET over the operator's own socket, which no flood of connections over TCP can fill.
fn local(tern: &Tern, path: &str) -> String {
    let mut stream = UnixStream::connect(tern.data().join("tern.sock")).expect("the socket");
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: tern\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

fn local_json(tern: &Tern, path: &str) -> Value {
    serde_json::from_str(&local(tern, path)).expect("JSON")
}

/// All counters with a reason, by name and reason.
#[derive(Clone, Debug, Default)]
struct Counters(BTreeMap<(String, String), u64>);

impl Counters {
    fn read(tern: &Tern) -> Self {
        let text = local(tern, "/metrics");
        let sample = |line: &str| {
            let (name, rest) = line.split_once("{reason=\"")?;
            let (reason, value) = rest.split_once("\"} ")?;
            Some(((name.to_owned(), reason.to_owned()), value.parse().ok()?))
        };
        Self(text.lines().filter_map(sample).collect())
    }

    fn get(&self, name: &str, reason: &str) -> u64 {
        self.0.get(&(name.to_owned(), reason.to_owned())).copied().unwrap_or(0)
    }

    /// All reasons of one counter together.
    fn sum(&self, name: &str) -> u64 {
        self.0.iter().filter(|((of, _), _)| of == name).map(|(_, value)| value).sum()
    }
}

/// Waits until a counter shows `value`; it must not pass it.
fn counted(tern: &Tern, name: &str, reason: &str, value: u64, case: &str) {
    let mut seen = 0;
    let what = format!("{case}: {name}{{reason={reason:?}}} {value}");
    eventually(&what, SOON, || {
        seen = Counters::read(tern).get(name, reason);
        (seen >= value).then_some(())
    });
    assert_eq!(seen, value, "{case}: {name}{{reason={reason:?}}}");
}

/// What `tern watch` remembers: kind and verdict of each line.
fn watched(tern: &Tern) -> Vec<(String, String)> {
    let (mut lines, mut after) = (Vec::new(), 0);
    loop {
        let page = local_json(tern, &format!("/api/v1/watch?after={after}"));
        let items = page["lines"].as_array().expect("lines").clone();
        if items.is_empty() {
            return lines;
        }
        after = page["next"].as_u64().expect("a number");
        let text = |item: &Value, name: &str| item[name].as_str().unwrap_or_default().to_owned();
        lines.extend(items.iter().map(|item| (text(item, "kind"), text(item, "verdict"))));
    }
}

/// Waits until who watches sees a line of this kind that has `needle` in it.
fn seen(tern: &Tern, kind: &str, needle: &str) {
    let mut lines = Vec::new();
    let line = eventually(&format!("a {kind} line with {needle:?}"), SOON, || {
        lines = watched(tern);
        let found = lines.iter().find(|(of, text)| of == kind && text.contains(needle));
        found.map(|(_, verdict)| verdict.clone())
    });
    assert!(line.chars().count() <= 400, "a line for a screen: {line}");
}

/// Resident memory of the server, in KiB.
pub(crate) fn resident_kib(tern: &Tern) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tern.pid())).expect("alive");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Files and sockets that the server has open.
pub(crate) fn open_files(tern: &Tern) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", tern.pid())).expect("alive").count()
}

/// What bad input must leave as it is.
struct Picture {
    pid: u32,
    applied: Value,
    events: Value,
    printed: usize,
    resident_kib: u64,
}

impl Picture {
    fn of(tern: &Tern) -> Self {
        let node = local_json(tern, "/api/v1/node");
        assert!(node["applied"].as_u64().is_some_and(|applied| applied > 0), "{node}");
        Self {
            pid: tern.pid(),
            applied: node["applied"].clone(),
            events: node["events"].clone(),
            printed: tern.log().len(),
            resident_kib: resident_kib(tern),
        }
    }

    /// Alive, ready, nothing in the log, next to nothing printed, memory within `kib` of before.
    fn compare(&self, tern: &Tern, kib: u64) {
        let after = Self::of(tern);
        assert_eq!(after.pid, self.pid);
        assert_eq!((&after.applied, &after.events), (&self.applied, &self.events), "the log");
        let (status, body) = tern.get("/health/ready").expect("HTTP is served");
        assert_eq!(status, 200, "{body}");
        let printed = after.printed - self.printed;
        assert!(printed <= PRINTED_MAX, "{printed} bytes printed\n{}", tern.log());
        assert!(!tern.log().contains("panicked"), "{}", tern.log());
        let grown = after.resident_kib.saturating_sub(self.resident_kib);
        println!("memory: {} KiB before, {grown} KiB more after", self.resident_kib);
        assert!(grown <= kib, "{grown} KiB more memory than before, at most {kib}");
    }
}
