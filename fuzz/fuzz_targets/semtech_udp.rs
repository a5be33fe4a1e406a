//! libFuzzer's door to `bodies::semtech_udp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::semtech_udp::run(bytes));
