//! One test binary; each module is one subject.

mod fuzz_replay;
mod story;
mod tidy;
