//! Replicated truth: [`Command`] goes through the log, [`State::apply`] changes the state, a
//! [`Reply`] comes out.
//!
//! Apply sees neither clock nor dice nor key: same log, same state, byte for byte.

mod apply;
mod cbor_arc;
mod client;
mod client_session;
mod codec;
mod command;
mod event;
mod event_log;
mod id;
mod index;
pub mod limits;
pub mod model;
mod read;
mod replies;
mod reply;
mod snapshot;
mod state;
mod subscriptions;

pub use apply::{Applied, ApplyError, Change};
pub use client::{MqttMessage, MqttSubscription};
pub use client_session::{ClientSession, Pointer, Queued, Retained, StoredMessage};
pub use codec::{
    CodecError, decode_entry, decode_event_row, encode_entry, encode_event_row, proposal_size,
};
pub use command::{Command, Entry, Proposal, Put};
pub use event::{DeviceInfo, Event, EventRow, LogCode, LogLevel, TxAckEvent, UpEvent};
pub use id::{Id, ParseIdError};
pub use index::SessionSlot;
pub use mac::{NodeId, RequestId};
pub use read::{Owner, Page};
pub use reply::{Refusal, Reply};
pub use snapshot::{PIECE_BYTES, SnapshotBuilder, SnapshotError, SnapshotReader};
pub use state::{Cluster, Member, State};

#[cfg(test)]
mod stories;
