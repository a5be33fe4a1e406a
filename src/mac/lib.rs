//! What a LoRaWAN network server decides about frames: activation, deduplication, uplink, downlink.
//! This is LoRaWAN 1.0.x, class A, with the places of 1.1 kept (four keys, two downlink counters).
//!
//! Three rooms:
//!
//! * *Values*: [`DeviceSession`] and [`MacProfile`] as the replicated state keeps them, and the
//!   questions and answers that pass through the log ([`AcceptUplink`], [`AcceptJoin`],
//!   [`PlanDownlink`], [`RecordTxAck`]).
//! * [`transition`]: the pure functions by which the log's apply changes a session. Compare-and-set
//!   on counters, grants of downlink numbers, MAC requests and answers, the downlink queue.
//! * [`Mac`]: the machine in front of the log. It verifies MICs, collects copies, asks the log,
//!   builds frames and walks the receive windows. It sees the state through [`Devices`] and keeps
//!   only frames in hand: losing all of it costs a downlink number, never a reading.

pub mod cbor_bytes;
mod channels;
mod decision;
mod event_id;
#[cfg(test)]
mod fixtures;
mod keys;
mod machine;
mod profile;
mod region;
mod sealed;
mod session;
pub mod transition;
mod version;

pub use decision::{
    AcceptJoin, AcceptUplink, HandedOut, JoinReply, PlanDownlink, PlanReply, Reception,
    RecordTxAck, RequestId, UplinkReply,
};
pub use event_id::{EventKind, EventSource, event_id};
pub use keys::KeysLengthError;
pub use machine::{
    CounterKind, CursorWrite, DevAddrPrefix, Devices, Effect, GatewayView, Home, JoinView, LogCode,
    LogEvent, LogLevel, Mac, MacConfig, NotSent, SessionView, UplinkError, Verdict, What,
};
pub use profile::MacProfile;
pub use region::EXTRA_CHANNELS_MAX;
pub use sealed::Sealed;
pub use session::{
    ChannelSet, DeviceSession, Digest, DownlinkCounter, ExtraChannel, Grant, MacVersion, NodeId,
    PendingRequest, SessionEpoch, SessionKeys, Traffic, UplinkCounter,
};
pub use version::ParseVersionError;

/// Receptions of one frame that an event keeps, best first.
pub const RECEPTIONS_MAX: usize = 32;
