//! What is seen of a node's copy of the log that all nodes share.

/// What a node does to its copy of the log, as its disk and its state machine show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaftStep {
    /// It has started as this member.
    Numbered(u64),
    /// It has written its vote.
    Voted {
        /// In which term.
        term: u64,
        /// For which member.
        leader: u64,
        /// A quorum has elected that one.
        elected: bool,
    },
    /// Its disk has refused that vote: the one before it stands.
    Unvoted,
    /// It has written an entry to its log; what stood there and behind it is gone.
    Stored {
        /// Position in the log.
        index: u64,
        /// The term of the leader who made it.
        term: u64,
        /// Of all that it says.
        hash: u64,
    },
    /// It has cut its log: this entry and what is behind it is gone.
    Cut(u64),
    /// It has thrown away its log up to and including this entry.
    Purged(u64),
    /// A snapshot that includes this entry and all before it is its current one.
    Snapshot(u64),
    /// It has applied an entry.
    Applied {
        /// Position in the log.
        index: u64,
        /// The term of the leader who made it.
        term: u64,
        /// Of what it says.
        hash: u64,
    },
    /// It has taken the state of a snapshot up to and including this entry of the log's.
    Restored(u64),
    /// What all it has applied has come to.
    State {
        /// The last entry of it.
        index: u64,
        /// Of the whole state.
        hash: [u8; 32],
    },
    /// Its disk is empty.
    Wiped,
}
