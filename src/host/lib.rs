//! How one node lives on some runtime: a chapter in six parts.
//!
//! * [`world`] and [`net`]: what a node needs from outside, as small traits. `server` answers them
//!   with tokio and real files, the simulator with madsim and faulty ones. Nothing here knows
//!   which.
//! * [`runtime`]: short names for the channels of openraft's runtime trait.
//! * [`storage`] and [`disk`]: one redb file with the log, the snapshot, the event rows and the
//!   cursors; every record checksummed, many batches in one fsync.
//! * [`peer`]: the encrypted links between nodes, and what is said on them.
//! * [`raft`]: the replicated log, bound to that storage and to a state machine behind a channel.
//! * [`service`]: all of it put together around the loop that drives [`node::Node`].
//! * [`autopsy`]: a storage read without its node.
pub mod autopsy;
mod desk;
pub mod disk;
pub mod forming;
mod identity;
mod load;
mod mailbox;
mod membership;
pub mod net;
mod node_loop;
pub mod password;
pub mod peer;
mod proposer;
mod quorum;
pub mod raft;
mod rows;
pub mod runtime;
pub mod service;
mod sockets;
mod start;
mod steward;
pub mod storage;
mod streams;
mod succession;
pub mod world;
