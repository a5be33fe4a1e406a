//! Who is in a cluster, who is alive, who must go. Nobody here can read a clock, draw a number or
//! open a socket: time and seeds are arguments, messages and decisions come out as values.
//!
//! * [`identity`]: keys, names, addresses.
//! * [`cookie`]: which secret is fit to be shared by all nodes of a cluster.
//! * [`founding`]: N empty nodes started at once are one cluster.
//! * [`join`]: of two nodes that shall be one cluster, who moves.
//! * [`detector`]: who is alive, by everybody's word.
//! * [`steward`]: what the Raft leader does next about voters and learners.

pub mod cookie;
pub mod detector;
pub mod founding;
pub mod identity;
pub mod join;
pub mod steward;

/// A Raft node id: 1..k by the founding, later ones by the log, never used again.
pub type RaftId = u64;
