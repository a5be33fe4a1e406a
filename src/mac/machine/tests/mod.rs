//! The machine through its own door: receptions in, downlinks and questions out, times as literals.
//! The log is played by [`world`], with the same transitions that apply calls.

mod away;
mod cases;
mod chaos;
mod downlinks;
mod joins;
mod uplinks;
mod world;
