//! The whole server as one sans-IO machine.

pub mod api;
mod effect;
mod input;
pub mod metrics;

pub mod vault;
pub mod watch;

pub use effect::{AppliedRows, Effect, Secret};
pub use input::{CallId, Committed, Input, ProposalError, StreamId, Token};
