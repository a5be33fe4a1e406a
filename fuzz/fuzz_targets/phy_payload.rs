//! libFuzzer's door to `bodies::phy_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::phy_payload::run(bytes));
