//! Replicated truth: [`Command`] goes through the log, [`State::apply`] changes the state, a
//! [`Reply`] comes out.
//!
//! Apply sees neither clock nor dice nor key: same log, same state, byte for byte. In the order of
//! an entry's life:
//!
//! * [`encode_entry`], [`decode_entry`]: strict; what is not understood stops the node.
//! * [`State::apply`]: answers ([`Reply`]), rows of the event log ([`EventRow`]) to be stored with
//!   the fact that the entry is applied, and what the node must act upon ([`Change`]). A retried
//!   request gets its first answer: frames from their device, all else from one ring.
//! * `State`'s readers (`read.rs`): objects, lists, pages, sessions by address, client queues.
//! * [`State::snapshot`], [`SnapshotBuilder`], [`State::state_hash`]: the whole state as pieces
//!   from a cheap clone, while the log goes on. Rows of the event log travel beside it.
//!
//! What grows is bounded by name in [`limits`]; what is derived lives in `index.rs` and never
//! leaves the node. Source: DESIGN 3, 4, 5, 7.

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
mod member;
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
pub use member::{Member, MemberStatus, Nameplate};
pub use read::{Owner, Page};
pub use reply::{Refusal, Reply};
pub use snapshot::{PIECE_BYTES, SnapshotBuilder, SnapshotError, SnapshotReader};
pub use state::{Cluster, State};

#[cfg(test)]
mod stories;
