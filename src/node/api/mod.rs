//! The API as inputs of the node: who may do what, and what comes of it. The web layer and the
//! command line only translate.
//!
//! Driven by [`Api::handle_call`], then by what its effects bring back: replies of the log, checked
//! and hashed passwords, rows of the event log. Drain [`Api::poll_effect`] after each.
//! Fields, paths and roles are those of the field's REST API; what is ours alone says so.

mod desk;
mod dev_addr;
mod error;
mod feed;
mod login;
mod machine;
mod member_feed;
mod operation;
mod ops_device;
mod ops_network;
mod ops_node;
mod ops_people;
mod ops_profile;
mod ops_queue;
mod ops_session;
#[cfg(test)]
mod tests;
mod view;
mod who;
pub mod wire;

pub use error::{ApiError, Unavailable};
pub use machine::{Api, ApiSettings, TOKEN_BIT, View};
pub use operation::{Credentials, EventFilter, MemberFilter, Operation, Outcome, WatchFilter};
pub use view::{GatewayPath, NodeView};
