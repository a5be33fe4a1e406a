//! The replicated log: openraft bound to this node's storage and to a state machine.
//!
//! * [`Consensus`] is the door: propose, watch, shut down. It starts openraft again inside the
//!   process when a full disk has stopped it.
//! * [`Machine`] is what applies; [`machine::link`] forwards to a loop behind a channel.
//! * The log lies in [`crate::storage`], with a bounded copy of its tail in memory.
//!
//! All of openraft is behind this module; its version is pinned, and upgraded on purpose.

mod cache;
pub(crate) mod codec;
mod consensus;
mod log;
pub mod machine;
mod marks;
pub(crate) mod network;
mod serve;
mod settings;
mod snapshot;
mod state_machine;
mod transfer;
pub(crate) mod types;
pub(crate) mod wire;

pub use consensus::{Consensus, ConsensusError, Health, Pending, ProposeError, Standing};
pub use log::{LogReader, LogStore};
pub use machine::{Chunks, Content, Entry, Machine, MachineError, Outcome};
pub(crate) use serve::Composition;
pub(crate) use settings::LEASE;
pub use settings::Settings;
pub use snapshot::StoredSnapshot;
pub use state_machine::{SnapshotBuilder, StateMachine};
pub use transfer::Transfer;
pub use types::{Payload, TypeConfig};

#[cfg(test)]
mod tests;
