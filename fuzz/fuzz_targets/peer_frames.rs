//! libFuzzer's door to `bodies::peer_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::peer_frames::run(bytes));
