//! What reaches a node: the one door, for the real world and for the simulator.

use std::net::SocketAddr;

use bytes::Bytes;
use store::{EventRow, RequestId};

use crate::api::{Credentials, Operation};

/// One accepted connection, named by the host; never used twice in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One call of the API, named by the host; never used twice in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a piece of work that the node asked of the host; never used twice in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Why a proposal has not come back through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// No quorum, or no leader yet: not in the log now, but a retry may put it there.
    #[error("no quorum: this cannot be decided now")]
    NoQuorum,
    /// The disk is full: nothing was written.
    #[error("the disk is full: nothing can be written until space is freed")]
    DiskFull,
    /// Larger than an entry of the log may be.
    #[error("too large for the log")]
    TooLarge,
    /// Nobody knows: it may yet be applied. Never taken for a refusal.
    #[error("the outcome is not known")]
    Unknown,
    /// The node is going down.
    #[error("the node is stopping")]
    Stopping,
}

impl ProposalError {
    /// As a metric's label.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoQuorum => "no_quorum",
            Self::DiskFull => "disk_full",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
            Self::Stopping => "stopping",
        }
    }
}

/// One thing that happened outside.
#[derive(Debug)]
pub enum Input {
    /// A datagram on the gateways' socket number `listener`.
    Datagram {
        /// Which of the sockets, in the order of the configuration.
        listener: u8,
        /// Sender.
        from: SocketAddr,
        /// The whole datagram.
        bytes: Bytes,
    },
    /// An MQTT connection was accepted.
    StreamOpened {
        /// Its name.
        stream: StreamId,
        /// The other end.
        peer: SocketAddr,
    },
    /// Bytes from an MQTT client.
    StreamBytes {
        /// Which connection.
        stream: StreamId,
        /// In order, without gaps.
        bytes: Bytes,
    },
    /// The host has handed this many bytes of [`crate::Effect::Write`] to the network.
    StreamDrained {
        /// Which connection.
        stream: StreamId,
        /// Bytes no longer waiting.
        bytes: usize,
    },
    /// The connection is gone, whoever ended it.
    StreamClosed {
        /// Which connection.
        stream: StreamId,
    },
    /// A call of the API.
    Call {
        /// Its name.
        call: CallId,
        /// Who calls.
        credentials: Credentials,
        /// What for.
        operation: Operation,
    },
    /// Whoever made this call has gone: it needs no answer any more.
    CallDropped {
        /// Which call.
        call: CallId,
    },
    /// A proposal failed before the log returned it.
    ProposalFailed {
        /// Which one.
        request: RequestId,
        /// Why.
        why: ProposalError,
    },
    /// A cursor is on the disk: what it covers may leave.
    CursorPersisted {
        /// As in [`crate::Effect::PersistCursor`].
        token: Token,
    },
    /// Rows of the event log.
    EventsRead {
        /// As in [`crate::Effect::ReadEvents`].
        token: Token,
        /// In rising sequence.
        rows: Vec<EventRow>,
    },
    /// Which rows of the event log are not on this disk yet; told before the state that names them,
    /// and whenever some have come.
    RowsLacking {
        /// Ranges of sequences, each from its first to before its end.
        missing: Vec<(u64, u64)>,
    },
    /// A password was checked.
    PasswordChecked {
        /// As in [`crate::Effect::CheckPassword`].
        token: Token,
        /// Whether it fits.
        fits: bool,
    },
    /// A password was hashed.
    PasswordHashed {
        /// As in [`crate::Effect::HashPassword`].
        token: Token,
        /// The verifier as a PHC string.
        phc: String,
    },
    /// Whether the log takes proposals now: there is a quorum and room on the disk.
    Quorum {
        /// It does.
        available: bool,
        /// The disk has less than its reserve.
        disk_full: bool,
        /// Raft id of the leader, if one is known.
        leader: Option<u64>,
    },
    /// The link to another node has come up or gone down.
    PeerLine {
        /// Its raft id.
        node: u64,
        /// It answers.
        up: bool,
        /// About how long a message takes to or from it.
        transit: clock::Duration,
    },
    /// Another node's machine says something.
    Peer {
        /// Its raft id.
        from: u64,
        /// What, as it came from [`crate::Effect::Tell`] there.
        bytes: Bytes,
    },
}
