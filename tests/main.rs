//! One test binary; each module is one subject.

mod cases;
mod clients;
mod demo;
mod fuzz_replay;
mod gateway;
mod hostile;
mod kill;
mod story;
mod tidy;
