//! Placeholder while the house is being raised.

pub mod disk;
pub mod frame;
pub mod handle;
pub mod http;
pub mod data;
pub mod run;
pub mod world;
