//! What nodes say to each other, and how it lies on the channel.
//!
//! A message is a kind, a number and a body: an *ask* gets one *answer* under its number, a *tell*
//! gets none. Bodies are CBOR with numbered fields; which of them a peer knows is negotiated by
//! [`Hello`], inside the channel.

use bytes::{BufMut, Bytes, BytesMut};
use cluster::identity::NodeKey;
use minicbor::{Decode, Encode};
use store::Id;

use crate::raft::wire::{
    AppendAnswer, AppendForm, SnapshotOpening, TransferForm, VoteAnswer, VoteForm,
};

/// Versions of the protocol that this binary speaks.
pub(crate) const VERSIONS: (u32, u32) = (1, 1);
/// Longest text of a name, an address or a reason.
const TEXT_MAX: usize = 512;

/// Who speaks, first on each channel in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Hello {
    /// Oldest and newest version spoken.
    #[n(0)]
    pub(crate) versions: (u32, u32),
    /// Which cluster; `None` while there is none yet.
    #[n(1)]
    pub(crate) cluster: Option<Id>,
    /// Raft id in it.
    #[n(2)]
    pub(crate) raft_id: Option<u64>,
    /// How often the node has started; of two with one key the older is refused.
    #[n(3)]
    pub(crate) boot: u64,
    /// `tern@host`
    #[n(4)]
    pub(crate) name: String,
    /// Where it can be reached.
    #[n(5)]
    pub(crate) address: String,
    /// The highest feature level of the log that its binary knows.
    #[n(6)]
    pub(crate) feature_level: u32,
    /// The hash of its seed list, while it has no cluster.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) seeds: Option<[u8; 32]>,
    /// Members of its cluster, itself included; 0 while there is none.
    #[n(8)]
    pub(crate) members: u32,
    /// Devices it has: nobody wipes them by mistake.
    #[n(9)]
    pub(crate) devices: u64,
    /// It is about to join another: it admits nobody.
    #[n(10)]
    pub(crate) joining: bool,
    /// When it started, in microseconds of its own clock: of two starts with one number, another
    /// process. 0: its version does not say.
    #[n(11)]
    #[cbor(default)]
    pub(crate) started: i64,
    /// Over which of its links it speaks, and how often that has connected: a newer connection
    /// ends the one before. `None`: its version does not say.
    #[n(12)]
    pub(crate) connection: Option<(u64, u64)>,
    /// The raft id of the member that it means to speak with. `None`: whoever answers.
    #[n(13)]
    pub(crate) to: Option<u64>,
}

/// The answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Greeting {
    /// Come in.
    #[n(0)]
    Welcome(#[n(0)] Box<Hello>),
    /// This raft id was removed from the cluster.
    #[n(1)]
    Removed {
        /// Which.
        #[n(0)]
        raft_id: u64,
    },
    /// Not with you.
    #[n(2)]
    Refused(#[n(0)] String),
}

/// A member as others find it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Contact {
    /// Raft id.
    #[n(0)]
    pub raft_id: u64,
    /// Identity key.
    #[n(1)]
    pub key: NodeKey,
    /// `tern@host`
    #[n(2)]
    pub name: String,
    /// `host:port`
    #[n(3)]
    pub address: String,
}

/// A question of one node to another.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(crate) enum Ask {
    /// Are you there?
    #[n(0)]
    Alive,
    /// Raft: append these entries.
    #[n(1)]
    Append(#[n(0)] AppendForm),
    /// Raft: vote for me.
    #[n(2)]
    Vote(#[n(0)] VoteForm),
    /// Raft: would you vote for me?
    #[n(3)]
    PreVote(#[n(0)] VoteForm),
    /// Raft: lead in my place.
    #[n(4)]
    Transfer(#[n(0)] TransferForm),
    /// Raft: a snapshot follows.
    #[n(5)]
    SnapshotBegin(#[n(0)] SnapshotOpening),
    /// One piece of it.
    #[n(6)]
    SnapshotPiece {
        /// As the answer to the beginning named it.
        #[n(0)]
        transfer: u64,
        /// Which piece, from 0.
        #[n(1)]
        piece: u32,
        /// Content.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        bytes: Vec<u8>,
    },
    /// That was all: install it.
    #[n(7)]
    SnapshotEnd {
        /// As above.
        #[n(0)]
        transfer: u64,
    },
    /// Put these proposals into the log, in this order.
    #[n(8)]
    Forward(#[n(0)] Vec<store::Proposal>),
    /// Up to where must I have applied to have seen all that is decided?
    #[n(9)]
    ReadIndex,
    /// I have no cluster: take me in, as what my hello says.
    #[n(10)]
    Admit {
        /// Names the question, for its retries.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        request: [u8; 16],
        /// The cluster that is meant; `None`: whichever it is.
        #[n(1)]
        cluster: Option<Id>,
    },
    /// Rows of the event log, from this sequence on, as many as fit.
    #[n(11)]
    Rows {
        /// First wanted.
        #[n(0)]
        from: u64,
        /// First not wanted.
        #[n(1)]
        to: u64,
    },
    /// You have nothing to lose: join the cluster that I am in.
    #[n(12)]
    Invite {
        /// Where to ask.
        #[n(0)]
        address: String,
    },
    /// Would you admit me, as what my hello says, if I had no cluster?
    #[n(13)]
    MayJoin,
    /// How many entries does each member lack, as the leader knows?
    #[n(14)]
    Lags,
}

/// Why an ask was not answered as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Denial {
    /// Not the leader; perhaps this one is.
    #[n(0)]
    NotLeader(#[n(0)] Option<u64>),
    /// Nobody can decide now.
    #[n(1)]
    NoQuorum,
    /// The disk is full.
    #[n(2)]
    DiskFull,
    /// It is not ready for this question.
    #[n(3)]
    NotReady,
    /// For people.
    #[n(4)]
    Because(#[n(0)] String),
    /// The log has decided against it, and would under the same name for ever; for people.
    #[n(5)]
    Refused(#[n(0)] String),
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(crate) enum Answer {
    /// Yes; taken; done.
    #[n(0)]
    Yes,
    /// No.
    #[n(1)]
    No(#[n(0)] Denial),
    /// To an append.
    #[n(2)]
    Append(#[n(0)] AppendAnswer),
    /// To a vote or a pre-vote.
    #[n(3)]
    Vote(#[n(0)] VoteAnswer),
    /// To the beginning of a snapshot: its number.
    #[n(4)]
    Transfer(#[n(0)] u64),
    /// To the end of a snapshot, or a question for a vote: the vote given here.
    #[n(5)]
    Standing(#[n(0)] crate::raft::wire::Ballot),
    /// To a read index.
    #[n(6)]
    Index(#[n(0)] u64),
    /// To an admission.
    #[n(7)]
    Admitted(#[n(0)] Box<Admission>),
    /// To rows: the first wanted and those that follow it without a gap.
    #[n(8)]
    Rows(#[n(0)] Vec<Row>),
    /// To rows: the first wanted is not here.
    #[n(9)]
    RowsLacking {
        /// The first one here behind it, if there is any.
        #[n(0)]
        next: Option<u64>,
    },
    /// To lags, by raft id.
    #[n(10)]
    Lags(#[n(0)] std::collections::BTreeMap<u64, u64>),
}

/// One row of the event log on its way.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Row {
    #[n(0)]
    pub(crate) sequence: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) record: Vec<u8>,
}

/// What a node needs to become a member.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Admission {
    /// The cluster.
    #[n(0)]
    pub(crate) cluster: Id,
    /// Its raft id in it, never used before.
    #[n(1)]
    pub(crate) raft_id: u64,
    /// The key that seals keys at rest.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) data_key: [u8; 32],
    /// Whom it can reach.
    #[n(3)]
    pub(crate) members: Vec<Contact>,
}

impl core::fmt::Debug for Admission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Admission({}, raft id {})", self.cluster, self.raft_id)
    }
}

/// What needs no answer.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub(crate) enum Tell {
    /// Between the nodes' machines; only they read it.
    #[n(0)]
    Node(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// Between nodes that have no cluster yet: a message of the founding.
    #[n(1)]
    Founding(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
}

/// One message on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Ask { number: u64, body: Bytes },
    Answer { number: u64, body: Bytes },
    Tell { body: Bytes },
}

/// Bytes before the body.
const HEAD: usize = 9;

impl Frame {
    /// As it goes into the channel.
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, number, body) = match self {
            Self::Ask { number, body } => (0, *number, body),
            Self::Answer { number, body } => (1, *number, body),
            Self::Tell { body } => (2, 0, body),
        };
        let mut bytes = BytesMut::with_capacity(HEAD + body.len());
        bytes.put_u8(kind);
        bytes.put_u64(number);
        bytes.put_slice(body);
        bytes.freeze()
    }

    /// As it came out; `None` for a kind that is not known.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let number = u64::from_be_bytes(bytes.get(1..HEAD)?.try_into().ok()?);
        let body = bytes.slice(HEAD..);
        match bytes.first()? {
            0 => Some(Self::Ask { number, body }),
            1 => Some(Self::Answer { number, body }),
            2 => Some(Self::Tell { body }),
            _ => None,
        }
    }
}

/// Encodes a body.
pub(crate) fn encode<T: Encode<()>>(body: &T) -> Bytes {
    minicbor::to_vec(body).expect("writing to a vector cannot fail").into()
}

/// Decodes a body; `None` if it is none of this version's.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(body: &'b [u8]) -> Option<T> {
    minicbor::decode(body).ok()
}

impl Hello {
    /// Whether its texts have a length that a person would write.
    pub(crate) fn is_sound(&self) -> bool {
        self.name.len() <= TEXT_MAX && self.address.len() <= TEXT_MAX
    }

    /// Whether it is a member, and not the one that was meant.
    pub(crate) fn is_other_than(&self, meant: Option<u64>) -> bool {
        meant.is_some_and(|meant| self.raft_id.is_some_and(|raft_id| raft_id != meant))
    }

    /// Why the two cannot speak with each other, if they cannot.
    pub(crate) fn misfit(&self, other: &Self) -> Option<String> {
        let ((from, to), (other_from, other_to)) = (self.versions, other.versions);
        (to < other_from || other_to < from).then(|| {
            let older = if to < other_from { &self.name } else { &other.name };
            format!(
                "{} speaks versions {from} to {to} of the peer protocol, {} versions {other_from} \
                 to {other_to}: upgrade {older}",
                self.name, other.name
            )
        })
    }
}
