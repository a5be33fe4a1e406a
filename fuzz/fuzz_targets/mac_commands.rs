//! libFuzzer's door to `bodies::mac_commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::mac_commands::run(bytes));
