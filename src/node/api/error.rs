//! Why a call was not done, in the words, codes and HTTP statuses of the field's REST API.
//!
//! Source: google.rpc.Code and the mapping of grpc-gateway. `Conflict` is ABORTED, so that it
//! arrives as 409; an unknown outcome is UNKNOWN under 503.

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A value that cannot be used.
    #[error("{field}: {why}")]
    InvalidArgument {
        /// Its name as in the JSON.
        field: String,
        /// What is wrong with it, and what to give instead.
        why: String,
    },
    /// No credentials, or none that are known here.
    #[error("{0}")]
    Unauthenticated(String),
    /// Known, but not allowed.
    #[error("{0}")]
    PermissionDenied(String),
    /// There is no such thing, or none the caller may see.
    #[error("{0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0}")]
    AlreadyExists(String),
    /// Something stands in the way, like a queue item that was handed out.
    #[error("{0}")]
    Conflict(String),
    /// A limit is reached.
    #[error("{0}")]
    ResourceExhausted(String),
    /// Part of the field's API that this server does not have yet.
    #[error("{0}")]
    Unimplemented(String),
    /// Not now.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The log may have taken it or not; asking again may do it twice.
    #[error("the outcome is not known: look before you try again")]
    UnknownOutcome,
}

/// Why the node takes no call of this kind now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The cluster cannot decide.
    #[error("no quorum: this cannot be decided now, nothing was changed")]
    NoQuorum,
    /// No room.
    #[error("the disk is full: nothing can be written until space is freed")]
    DiskFull,
    /// Not yet.
    #[error("the node is starting: try again in a moment")]
    Starting,
    /// Events that others have are not here yet.
    #[error("this node is catching up and does not have these events yet: try again, or wait")]
    CatchingUp,
    /// No more.
    #[error("the node is stopping")]
    Stopping,
}

impl ApiError {
    /// A value that cannot be used.
    pub fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), why: why.into() }
    }

    /// The HTTP status.
    pub const fn http_status(&self) -> u16 {
        match self {
            Self::InvalidArgument { .. } => 400,
            Self::Unauthenticated(_) => 401,
            Self::PermissionDenied(_) => 403,
            Self::NotFound(_) => 404,
            Self::AlreadyExists(_) | Self::Conflict(_) => 409,
            Self::ResourceExhausted(_) => 429,
            Self::Unimplemented(_) => 501,
            Self::Unavailable(_) | Self::UnknownOutcome => 503,
        }
    }

    /// The gRPC code.
    pub const fn grpc_code(&self) -> u8 {
        match self {
            Self::UnknownOutcome => 2,
            Self::InvalidArgument { .. } => 3,
            Self::NotFound(_) => 5,
            Self::AlreadyExists(_) => 6,
            Self::PermissionDenied(_) => 7,
            Self::ResourceExhausted(_) => 8,
            Self::Conflict(_) => 10,
            Self::Unimplemented(_) => 12,
            Self::Unavailable(_) => 14,
            Self::Unauthenticated(_) => 16,
        }
    }

    /// The name under which it is counted.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "invalid_argument",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::PermissionDenied(_) => "permission_denied",
            Self::NotFound(_) => "not_found",
            Self::AlreadyExists(_) => "already_exists",
            Self::Conflict(_) => "conflict",
            Self::ResourceExhausted(_) => "resource_exhausted",
            Self::Unimplemented(_) => "unimplemented",
            Self::Unavailable(_) => "unavailable",
            Self::UnknownOutcome => "unknown_outcome",
        }
    }
}
