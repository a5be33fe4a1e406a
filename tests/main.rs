//! One test binary; each module is one subject.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails loudly, and waits for one thing among others"
)]

mod cases;
mod clients;
mod cluster;
mod demo;
mod fuzz_replay;
mod gateway;
mod hostile;
mod kill;
mod story;
mod tidy;
