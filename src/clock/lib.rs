//! Time as values. Nobody in this crate, nor above it up to `node`, can read a clock: whoever runs
//! a node hands the time in, so that a simulator may own it.
//!
//! * [`Instant`] is monotonic and local to one boot of one node: never stored, never sent.
//! * [`WallTime`] is UTC, for people and for `expiresAt`; it may jump.
//! * [`GpsTime`] counts from 1980-01-06 without leap seconds, as devices and beacons do.
//! * [`Duration`] is the standard library's.

mod calendar;
mod gps;
mod instant;
mod wall;

pub use core::time::Duration;

pub use calendar::ParseTimeError;
pub use gps::GpsTime;
pub use instant::Instant;
pub use wall::WallTime;

/// Both clocks of a node, read once per input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for deadlines.
    pub instant: Instant,
    /// UTC, for people.
    pub wall: WallTime,
}
