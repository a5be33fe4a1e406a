//! The whole server as one sans-IO machine.

pub mod api;
pub mod broker;
pub mod command_down;
mod effect;
pub mod event_json;
mod input;
mod lacking;
mod liveness;
mod machine;
pub mod metrics;
mod neighbours;
mod peers;
mod radio;
mod show;
pub mod strict_json;
pub mod vault;
mod views;
pub mod watch;

pub use effect::{AppliedRows, ClusterAsk, Effect, Secret};
pub use input::{CallId, Input, ProposalError, StreamId, Token};
pub use machine::{Config, Founding, Node};
