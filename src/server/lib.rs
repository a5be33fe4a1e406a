//! Placeholder while the house is being raised.

pub mod disk;
pub mod frame;
