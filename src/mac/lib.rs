//! What a LoRaWAN network server decides about frames: activation, deduplication, uplink, downlink.

pub mod cbor_bytes;
mod decision;
mod profile;
mod sealed;
mod session;

pub use decision::{
    AcceptJoin, AcceptUplink, HandedOut, JoinReply, PlanDownlink, PlanReply, Reception,
    RecordTxAck, RequestId, UplinkReply,
};
pub use profile::MacProfile;
pub use sealed::Sealed;
pub use session::{
    ChannelSet, DeviceSession, Digest, DownlinkCounter, ExtraChannel, Grant, MacVersion, NodeId,
    PendingRequest, SessionEpoch, SessionKeys, UplinkCounter,
};

/// Receptions of one frame that an event keeps, best first.
pub const RECEPTIONS_MAX: usize = 32;
