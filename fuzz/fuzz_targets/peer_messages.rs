//! libFuzzer's door to `bodies::peer_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::peer_messages::run(bytes));
