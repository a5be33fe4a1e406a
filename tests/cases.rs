//! All cases of `tests/data/cases`, byte for byte through UDP and MQTT, by the command that users
//! have.

use std::process::Command;

#[test]
fn every_case_passes_unless_it_names_a_feature_that_is_missing() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/cases/network_server_cases.json");
    let output = Command::new(env!("CARGO_BIN_EXE_tern-under-test"))
        .args(["demo", "cases", file])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    assert_eq!(text.lines().last(), Some("15 passed, 0 failed, 13 skipped"));
}
