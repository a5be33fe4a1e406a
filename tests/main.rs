//! One test binary; each module is one subject.

mod cases;
mod fuzz_replay;
mod kill;
mod story;
mod tidy;
