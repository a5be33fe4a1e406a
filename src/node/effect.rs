//! What a node wants done. The host does it, in this order, and decides nothing.

use std::net::SocketAddr;

use bytes::Bytes;
use store::{EventRow, Proposal, Reply, RequestId};

use crate::api::{ApiError, Outcome};
use crate::input::{CallId, StreamId, Token};

/// One piece of work for the host.
#[derive(Debug)]
pub enum Effect {
    /// Send a datagram from the gateways' socket number `listener`; if the network will not take
    /// it, drop it.
    SendDatagram {
        /// Which socket.
        listener: u8,
        /// Receiver.
        to: SocketAddr,
        /// Content.
        bytes: Bytes,
    },
    /// Write to a connection, in order.
    Write {
        /// Which connection.
        stream: StreamId,
        /// Content.
        bytes: Bytes,
    },
    /// Read no more from a connection, or read again.
    PauseReading {
        /// Which connection.
        stream: StreamId,
        /// No more.
        pause: bool,
    },
    /// Close a connection after what was written.
    Close {
        /// Which connection.
        stream: StreamId,
    },
    /// Answer a call; each is answered once.
    Reply {
        /// Which call.
        call: CallId,
        /// What came of it.
        result: Result<Outcome, ApiError>,
    },
    /// Put this into the log. It comes back through [`crate::Node::apply`], or as
    /// [`crate::Input::ProposalFailed`].
    Propose(Proposal),
    /// Nobody waits for this proposal any more: what is not in the log by now shall not get there.
    Withdraw(RequestId),
    /// Write `value` under `key` among the cursors, fsync, then say so. Two under one key: in
    /// order.
    PersistCursor {
        /// Named in [`crate::Input::CursorPersisted`].
        token: Token,
        /// Key.
        key: Vec<u8>,
        /// Value.
        value: Vec<u8>,
    },
    /// Read rows of the event log.
    ReadEvents {
        /// Named in [`crate::Input::EventsRead`].
        token: Token,
        /// First sequence wanted.
        from: u64,
        /// At most so many rows.
        limit: usize,
    },
    /// Let another node's machine have this; if its link is down, drop it.
    Tell {
        /// Its raft id.
        to: u64,
        /// For [`crate::Input::Peer`] there.
        bytes: Bytes,
    },
    /// The members in the state have changed.
    MembersChanged,
    /// The caller may ask this of the cluster: do it and answer the call.
    Cluster {
        /// Which call.
        call: CallId,
        /// What is asked.
        ask: ClusterAsk,
    },
    /// Let another node lead, if this one does.
    HandOver,
    /// This node must not go on, and why.
    Fatal(String),
    /// Check a password against a PHC string; slow on purpose.
    CheckPassword {
        /// Named in [`crate::Input::PasswordChecked`].
        token: Token,
        /// The password as given.
        password: Secret,
        /// The verifier.
        phc: String,
    },
    /// Hash a password with argon2id; slow on purpose.
    HashPassword {
        /// Named in [`crate::Input::PasswordHashed`].
        token: Token,
        /// The password as given.
        password: Secret,
        /// Salt, drawn by the node.
        salt: [u8; 16],
    },
}

/// What a call asks about the members of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAsk {
    /// Who is in it, and how they do.
    Describe,
    /// Become one cluster with another node.
    Join {
        /// `name@host`, `name@host:port` or `host:port`.
        target: String,
        /// This node's own devices may be set aside.
        discard_local: bool,
        /// The other node comes here; this one never moves.
        attach: bool,
    },
    /// Leave it.
    Leave,
    /// Take another member out.
    Remove {
        /// Its name or raft id.
        member: String,
    },
}

/// Text that never prints and is wiped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: for ciphers and hashes, never for a log line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What came of applying entries: the host stores the rows with the applied index.
#[derive(Debug, Default)]
pub struct AppliedRows {
    /// New rows of the event log.
    pub rows: Vec<EventRow>,
    /// Rows below this sequence may be dropped.
    pub drop_below: Option<u64>,
    /// What the log has answered, whoever asked.
    pub replies: Vec<(RequestId, Reply)>,
}
