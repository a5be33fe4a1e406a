//! The API as inputs of the node: who may do what, and what comes of it. The web layer and the
//! command line only translate.
//!
//! Driven by [`Api::handle_call`], then by what its effects bring back: replies of the log, checked
//! and hashed passwords, rows of the event log. Drain [`Api::poll_effect`] after each.
//! Fields, paths and roles are those of the field's REST API; what is ours alone says so.

mod error;
mod operation;
mod view;
pub mod wire;

pub use error::{ApiError, Unavailable};
pub use operation::{Credentials, EventFilter, Operation, Outcome, WatchFilter};
pub use view::{GatewayPath, NodeView};
