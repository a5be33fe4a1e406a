//! libFuzzer's door to `bodies::mqtt_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::mqtt_packet::run(bytes));
