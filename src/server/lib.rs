//! Tern in the real world: tokio's sockets, files, clocks; HTTP, configuration, the command line.

mod cli;
pub mod config;
pub mod data;
pub mod demo;
pub mod disk;
pub mod field;
pub mod frame;
pub mod handle;
pub mod http;
pub mod life;
mod ports;
pub mod run;
pub mod world;

pub use cli::main;
