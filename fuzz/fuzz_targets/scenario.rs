//! libFuzzer's door to `bodies::scenario`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::scenario::run(bytes));
