//! Whole runs in miniature.

use super::*;
use crate::trace::{Format, Trace};

const CALM: &str = r#"
    title = "a calm minute"
    duration = "60s"
    settle = "30s"
    [workload]
    uplink_every = "5s"
    confirmed = 1.0
    downlink_every = "15s"
    [expect]
    joined = 1
    accepted = 5
"#;

/// All tests are one process, whose memory the bound is about.
pub(super) const MEMORY_MIB: u32 = 8_192;

/// One run on a thread of its own, as in a process of its own.
pub(super) fn run_apart(text: &str, seed: u64) -> Report {
    let mut scenario = Scenario::parse("t.toml", text).unwrap();
    scenario.bounds.memory_mib = MEMORY_MIB;
    let thread = std::thread::spawn(move || {
        let record = Record::new(Trace::new(Format::Silent, Box::new(std::io::sink())));
        run(&scenario, seed, None, &record)
    });
    thread.join().unwrap()
}

#[test]
fn a_calm_minute_brings_everything_and_repeats_to_the_last_byte() {
    let report = run_apart(CALM, 3);
    assert_eq!(report.exit_code(), 0, "{report:?}");
    assert!(report.counts.downlinks >= 1, "{report:?}");
    assert_eq!(report.counts.accepted, report.counts.delivered);
    let again = run_apart(CALM, 3);
    assert_eq!((report.events, report.digest), (again.events, again.digest.clone()));
    assert_ne!(again.digest, run_apart(CALM, 4).digest);
}

#[test]
fn what_does_not_come_about_is_told_and_no_violation() {
    let report = run_apart(&CALM.replace("accepted = 5", "accepted = 500"), 3);
    assert_eq!(report.exit_code(), 3, "{report:?}");
    assert!(report.unmet[0].contains("at least 500 uplinks"), "{report:?}");
}

#[test]
fn a_gateway_nobody_hears_brings_no_violation_and_a_healed_one_the_probe() {
    let deaf = CALM.replace("[workload]", "[gateways]\nhears = 0.0\n[workload]");
    let report = run_apart(&deaf, 3);
    assert_eq!((report.exit_code(), report.counts.accepted), (3, 2), "the probe's: {report:?}");
}
