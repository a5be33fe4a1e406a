//! libFuzzer's door to `bodies::commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::commands::run(bytes));
