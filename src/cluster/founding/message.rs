//! What nodes say to each other while there is no cluster yet, and what they agree on.
//!
//! Everything is bounded: bytes by [`MESSAGE_LEN_MAX`], lists and texts by the rules behind
//! [`MessageError`].

use minicbor::{Decode, Encode};

use super::seeds::SEEDS_MAX;
use crate::RaftId;
use crate::identity::NodeKey;

/// Longest encoded message or Hello, in bytes.
pub const MESSAGE_LEN_MAX: usize = 16_384;
/// Longest name or address of a voter, in bytes.
pub const LABEL_MAX: usize = 300;
/// Longest sealed key, in bytes.
pub const SEALED_KEY_MAX: usize = 1_024;
/// Highest round of a ballot that is taken: rounds go up by one, nobody gets here honestly.
pub const ROUND_MAX: u64 = u32::MAX as u64;

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not the encoding.
    #[error("not a message of the founding")]
    Encoding(#[from] minicbor::decode::Error),
    /// Voters not in the order of their keys, not numbered 1..k, none, or more than seeds.
    #[error("the voters of a genesis are 1..k in the order of their keys, at most {SEEDS_MAX}")]
    Voters,
    /// A name, an address, a key or the whole is too long.
    #[error("too long")]
    TooLong,
    /// A round beyond [`ROUND_MAX`].
    #[error("the round of a ballot is beyond {ROUND_MAX}")]
    Round,
}

/// One voter of the new cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Voter {
    /// 1..k in the order of the keys.
    #[n(0)]
    pub raft_id: RaftId,
    /// Its identity.
    #[n(1)]
    pub key: NodeKey,
    /// Its name, a label.
    #[n(2)]
    pub name: String,
    /// Its address, a label.
    #[n(3)]
    pub address: String,
}

/// What a cluster begins with. All voters initialise Raft with this same value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Genesis {
    /// Drawn by the proposer.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub cluster_id: [u8; 16],
    /// In the order of their keys.
    #[n(1)]
    pub voters: Vec<Voter>,
    /// The cluster's data key, sealed by the proposer.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub sealed_key: Vec<u8>,
}

impl Genesis {
    /// The Raft id of the node with this key, if it is a voter.
    pub fn raft_id(&self, key: NodeKey) -> Option<RaftId> {
        self.voters.iter().find(|voter| voter.key == key).map(|voter| voter.raft_id)
    }

    fn check(&self) -> Result<(), MessageError> {
        let numbered = (1..).zip(&self.voters).all(|(id, voter)| voter.raft_id == id);
        let ordered = self.voters.is_sorted_by(|a, b| a.key < b.key);
        if !numbered || !ordered || !(1..=SEEDS_MAX).contains(&self.voters.len()) {
            return Err(MessageError::Voters);
        }
        if self.sealed_key.len() > SEALED_KEY_MAX {
            return Err(MessageError::TooLong);
        }
        self.voters.iter().try_for_each(|voter| check_labels(&voter.name, &voter.address))
    }
}

fn check_labels(name: &str, address: &str) -> Result<(), MessageError> {
    if name.len() > LABEL_MAX || address.len() > LABEL_MAX {
        return Err(MessageError::TooLong);
    }
    Ok(())
}

/// The number of a proposal: rounds, and among equals the proposer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Ballot {
    /// Counts from 1.
    #[n(0)]
    pub round: u64,
    /// Who proposes: no two nodes share a ballot.
    #[n(1)]
    pub by: NodeKey,
}

/// A genesis that an acceptor has accepted, and in which ballot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Vote {
    /// The ballot.
    #[n(0)]
    pub ballot: Ballot,
    /// The value.
    #[n(1)]
    pub genesis: Genesis,
}

/// A message between forming nodes, or from one that has a cluster to one that is forming.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Message {
    /// What has been decided? No answer while nothing has.
    #[n(0)]
    Ask,
    /// Phase 1a: promise me to take no lower ballot.
    #[n(1)]
    Prepare {
        /// Which ballot.
        #[n(0)]
        ballot: Ballot,
    },
    /// Phase 1b: promised.
    #[n(2)]
    Promise {
        /// Which ballot.
        #[n(0)]
        ballot: Ballot,
        /// What the acceptor had accepted before.
        #[n(1)]
        accepted: Option<Vote>,
    },
    /// A higher ballot was promised to somebody.
    #[n(3)]
    Refuse {
        /// The ballot that is refused.
        #[n(0)]
        ballot: Ballot,
        /// The higher one.
        #[n(1)]
        promised: Ballot,
    },
    /// Phase 2a: accept this.
    #[n(4)]
    Accept {
        /// Ballot and value.
        #[n(0)]
        vote: Vote,
    },
    /// Phase 2b: accepted.
    #[n(5)]
    Accepted {
        /// In which ballot.
        #[n(0)]
        ballot: Ballot,
    },
    /// A majority has accepted this; it will never be anything else.
    #[n(6)]
    Decided {
        /// The value.
        #[n(0)]
        genesis: Genesis,
    },
    /// The sender is in a cluster of whose genesis it knows nothing.
    #[n(7)]
    Elsewhere {
        /// That cluster.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        cluster_id: [u8; 16],
        /// Where to ask for admission.
        #[n(1)]
        address: String,
    },
}

impl Message {
    /// Reads what a peer sent.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let message: Self = decode_bounded(bytes)?;
        message.check()?;
        Ok(message)
    }

    /// The encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Ask => Ok(()),
            Self::Prepare { ballot } | Self::Accepted { ballot } => check_ballot(*ballot),
            Self::Promise { ballot, accepted } => {
                check_ballot(*ballot)?;
                accepted.as_ref().map_or(Ok(()), check_vote)
            }
            Self::Refuse { ballot, promised } => {
                check_ballot(*ballot)?;
                check_ballot(*promised)
            }
            Self::Accept { vote } => check_vote(vote),
            Self::Decided { genesis } => genesis.check(),
            Self::Elsewhere { address, .. } => check_labels("", address),
        }
    }
}

fn check_ballot(ballot: Ballot) -> Result<(), MessageError> {
    if ballot.round > ROUND_MAX { Err(MessageError::Round) } else { Ok(()) }
}

fn check_vote(vote: &Vote) -> Result<(), MessageError> {
    check_ballot(vote.ballot)?;
    vote.genesis.check()
}

/// What a node says of itself when a link opens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its own address, as it stands in the seed list.
    #[n(1)]
    pub address: String,
    /// The hash of its seed list.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub seeds: [u8; 32],
    /// The cluster it is a member of; none while it is forming.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub cluster: Option<[u8; 16]>,
}

impl Hello {
    /// Reads what a peer sent.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageError> {
        let hello: Self = decode_bounded(bytes)?;
        check_labels(&hello.name, &hello.address)?;
        Ok(hello)
    }

    /// The encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

fn decode_bounded<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, MessageError> {
    if bytes.len() > MESSAGE_LEN_MAX {
        return Err(MessageError::TooLong);
    }
    Ok(minicbor::decode(bytes)?)
}

/// Writing into memory does not fail.
pub(super) fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    match minicbor::encode(value, &mut bytes) {
        Ok(()) => bytes,
        Err(error) => unreachable!("encoding into memory: {error}"),
    }
}
