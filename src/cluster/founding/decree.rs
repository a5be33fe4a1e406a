//! Single-decree Paxos on the genesis: acceptor and proposer of one node, without time.
//!
//! The rules are those of "Paxos Made Simple" (Lamport 2001), section 2.2. What an acceptor has
//! promised or accepted is on disk before anybody hears of it: outputs that rest on it are held
//! until [`Decree::persisted`]. A proposer is its own acceptor under the same rule, so a ballot is
//! never used twice, not even across a restart. The model checker runs this very code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use minicbor::{Decode, Encode};

use super::message::{Ballot, Genesis, Message, ROUND_MAX, Vote, encode};
use crate::identity::NodeKey;

/// The encoding of [`Memory`], in front of it.
const VERSION: u8 = 1;

/// Why what the disk gave back cannot be used. Forgetting a promise is not an option.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Damaged.
    #[error(
        "the record of the founding is damaged: this node may have voted and must not vote again; \
         set its data folder aside, it then joins with a new identity"
    )]
    Damaged(#[from] minicbor::decode::Error),
    /// From a newer program.
    #[error("the record of the founding has version {0}, this program knows {VERSION}: upgrade it")]
    Version(u8),
}

/// What an acceptor must never forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub(super) struct Memory {
    /// No lower ballot is answered.
    #[n(0)]
    pub(super) promised: Option<Ballot>,
    #[n(1)]
    pub(super) accepted: Option<Vote>,
    #[n(2)]
    pub(super) decided: Option<Genesis>,
}

impl Memory {
    fn from_bytes(bytes: &[u8]) -> Result<Self, MemoryError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(minicbor::decode(rest)?),
            Some((version, _)) => Err(MemoryError::Version(*version)),
            None => Err(MemoryError::Version(0)),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(encode(self));
        bytes
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Output {
    Decided(Genesis),
    Persist { token: u64, bytes: Vec<u8> },
    Send { to: NodeKey, message: Message },
}

/// What a caller compares before and after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) promised: Option<Ballot>,
    pub(super) is_attempting: bool,
}

/// What waits for the disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Held {
    /// A decision was learnt.
    Learnt,
    /// Our own promise, with what we had accepted when we gave it.
    OwnPromise(Ballot, Option<Vote>),
    OwnVote(Ballot),
    Reply(NodeKey, Message),
}

/// One ballot of our own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    ballot: Ballot,
    peers: BTreeSet<NodeKey>,
    promises: BTreeMap<NodeKey, Option<Vote>>,
    /// What is proposed, once phase 1 is closed.
    genesis: Option<Genesis>,
    votes: BTreeSet<NodeKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decree {
    me: NodeKey,
    majority: usize,
    memory: Memory,
    /// Rounds that others were heard to use.
    round_seen: u64,
    token_issued: u64,
    token_persisted: u64,
    held: VecDeque<(u64, Held)>,
    attempt: Option<Attempt>,
    outputs: VecDeque<Output>,
}

impl Decree {
    pub(super) fn new(
        me: NodeKey,
        majority: usize,
        durable: Option<&[u8]>,
    ) -> Result<Self, MemoryError> {
        let memory = durable.map_or_else(|| Ok(Memory::default()), Memory::from_bytes)?;
        let outputs = memory.decided.clone().map(Output::Decided).into_iter().collect();
        Ok(Self {
            me,
            majority,
            memory,
            round_seen: 0,
            token_issued: 0,
            token_persisted: 0,
            held: VecDeque::new(),
            attempt: None,
            outputs,
        })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { promised: self.memory.promised, is_attempting: self.attempt.is_some() }
    }

    /// Whether a ballot of our own is under way.
    pub(super) fn is_attempting(&self) -> bool {
        self.attempt.is_some()
    }

    /// Who has promised, if phase 1 of our ballot is open and they are a majority; and whether all
    /// that were asked have.
    pub(super) fn promisers(&self) -> Option<(BTreeSet<NodeKey>, bool)> {
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.genesis.is_none())?;
        let promisers: BTreeSet<_> = attempt.promises.keys().copied().collect();
        let all = promisers.len() > attempt.peers.len();
        (promisers.len() >= self.majority).then_some((promisers, all))
    }

    /// Opens a ballot above all that were seen. With our own promise on disk the peers are asked.
    pub(super) fn begin(&mut self, peers: BTreeSet<NodeKey>) {
        let promised = self.memory.promised.map_or(0, |ballot| ballot.round);
        let ballot = Ballot { round: promised.max(self.round_seen) + 1, by: self.me };
        if self.memory.decided.is_some() || ballot.round > ROUND_MAX {
            return;
        }
        self.memory.promised = Some(ballot);
        self.attempt = Some(Attempt {
            ballot,
            peers,
            promises: BTreeMap::new(),
            genesis: None,
            votes: BTreeSet::new(),
        });
        self.persist();
        self.hold(Held::OwnPromise(ballot, self.memory.accepted.clone()));
    }

    pub(super) fn abandon(&mut self) {
        self.attempt = None;
    }

    /// Closes phase 1: proposes what an acceptor has accepted in the highest ballot, else `fresh`.
    pub(super) fn propose(&mut self, fresh: Genesis) {
        if self.promisers().is_none() {
            return;
        }
        let Some(attempt) = &mut self.attempt else { return };
        let ballot = attempt.ballot;
        if self.memory.promised != Some(ballot) {
            // We have promised a higher one since.
            self.attempt = None;
            return;
        }
        let promises = core::mem::take(&mut attempt.promises);
        let earlier = promises.into_values().flatten().max_by_key(|vote| vote.ballot);
        let genesis = earlier.map_or(fresh, |vote| vote.genesis);
        attempt.genesis = Some(genesis.clone());
        let vote = Vote { ballot, genesis };
        for to in &attempt.peers {
            let message = Message::Accept { vote: vote.clone() };
            self.outputs.push_back(Output::Send { to: *to, message });
        }
        self.memory.accepted = Some(vote);
        self.persist();
        self.hold(Held::OwnVote(ballot));
    }

    pub(super) fn handle_message(&mut self, from: NodeKey, message: Message) {
        match message {
            Message::Ask => self.answer_decided(from),
            Message::Prepare { ballot } => self.handle_prepare(from, ballot),
            Message::Promise { ballot, accepted } => {
                if let Some(attempt) = self.attempt_of(from, ballot)
                    && attempt.genesis.is_none()
                {
                    attempt.promises.insert(from, accepted);
                }
            }
            Message::Refuse { ballot, promised } => {
                if promised > ballot && self.attempt_of(from, ballot).is_some() {
                    self.round_seen = self.round_seen.max(promised.round);
                    self.attempt = None;
                }
            }
            Message::Accept { vote } => self.handle_accept(from, vote),
            Message::Accepted { ballot } => {
                if self.attempt_of(from, ballot).is_some() {
                    self.count_vote(from, ballot);
                }
            }
            Message::Decided { genesis } => self.decide(genesis),
            Message::Elsewhere { .. } => {}
        }
    }

    /// The bytes under `token`, and all before them, are on disk.
    pub(super) fn persisted(&mut self, token: u64) {
        self.token_persisted = self.token_persisted.max(token.min(self.token_issued));
        while self.held.front().is_some_and(|(token, _)| *token <= self.token_persisted) {
            if let Some((_, held)) = self.held.pop_front() {
                self.release(held);
            }
        }
    }

    fn handle_prepare(&mut self, from: NodeKey, ballot: Ballot) {
        if self.memory.decided.is_some() {
            self.answer_decided(from);
        } else if ballot.by != from {
            // Nobody speaks for another.
        } else if let Some(promised) = self.memory.promised.filter(|p| *p > ballot) {
            self.send(from, Message::Refuse { ballot, promised });
        } else {
            if self.memory.promised != Some(ballot) {
                self.memory.promised = Some(ballot);
                self.persist();
            }
            let accepted = self.memory.accepted.clone();
            self.hold(Held::Reply(from, Message::Promise { ballot, accepted }));
        }
    }

    fn handle_accept(&mut self, from: NodeKey, vote: Vote) {
        let ballot = vote.ballot;
        if self.memory.decided.is_some() {
            self.answer_decided(from);
        } else if ballot.by != from {
            // Nobody speaks for another.
        } else if let Some(promised) = self.memory.promised.filter(|p| *p > ballot) {
            self.send(from, Message::Refuse { ballot, promised });
        } else {
            if self.memory.accepted.as_ref() != Some(&vote) {
                self.memory.promised = Some(ballot);
                self.memory.accepted = Some(vote);
                self.persist();
            }
            self.hold(Held::Reply(from, Message::Accepted { ballot }));
        }
    }

    fn attempt_of(&mut self, from: NodeKey, ballot: Ballot) -> Option<&mut Attempt> {
        self.attempt.as_mut().filter(|a| a.ballot == ballot && a.peers.contains(&from))
    }

    fn count_vote(&mut self, from: NodeKey, ballot: Ballot) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| a.ballot == ballot) else { return };
        let Some(genesis) = attempt.genesis.clone() else { return };
        attempt.votes.insert(from);
        if attempt.votes.len() >= self.majority {
            self.decide(genesis);
        }
    }

    /// Learns the decision. A second one that differs is somebody else's cluster: ours stays.
    fn decide(&mut self, genesis: Genesis) {
        if self.memory.decided.is_none() {
            self.memory.decided = Some(genesis);
            self.persist();
            self.hold(Held::Learnt);
        }
    }

    fn answer_decided(&mut self, to: NodeKey) {
        if let Some(genesis) = self.memory.decided.clone() {
            self.hold(Held::Reply(to, Message::Decided { genesis }));
        }
    }

    fn send(&mut self, to: NodeKey, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }

    fn persist(&mut self) {
        self.token_issued += 1;
        let bytes = self.memory.to_bytes();
        self.outputs.push_back(Output::Persist { token: self.token_issued, bytes });
    }

    /// Lets go of what rests on our memory once all of that is on disk.
    fn hold(&mut self, held: Held) {
        if self.token_persisted == self.token_issued {
            self.release(held);
        } else if !self.held.iter().any(|(_, other)| *other == held) {
            // Repeated questions get one answer, or a slow disk would let them pile up.
            self.held.push_back((self.token_issued, held));
        }
    }

    fn release(&mut self, held: Held) {
        match held {
            Held::Reply(to, message) => self.send(to, message),
            Held::OwnVote(ballot) => self.count_vote(self.me, ballot),
            Held::OwnPromise(ballot, accepted) => {
                let me = self.me;
                let Some(attempt) = self.attempt.as_mut().filter(|a| a.ballot == ballot) else {
                    return;
                };
                attempt.promises.insert(me, accepted);
                for to in attempt.peers.clone() {
                    self.send(to, Message::Prepare { ballot });
                }
            }
            Held::Learnt => {
                let peers = self.attempt.take().map(|attempt| attempt.peers).unwrap_or_default();
                let Some(genesis) = self.memory.decided.clone() else { return };
                for to in peers {
                    self.send(to, Message::Decided { genesis: genesis.clone() });
                }
                self.outputs.push_back(Output::Decided(genesis));
            }
        }
    }
}

/// For the model checker: how many writes there were makes no difference, only which are awaited.
#[cfg(test)]
impl core::hash::Hash for Decree {
    fn hash<H: core::hash::Hasher>(&self, hasher: &mut H) {
        let awaited = |(token, held)| (self.token_issued - token, held);
        let held: Vec<_> = self.held.iter().map(|(token, held)| awaited((token, held))).collect();
        (self.token_issued - self.token_persisted, held).hash(hasher);
        (&self.memory, self.round_seen, &self.attempt, &self.outputs).hash(hasher);
    }
}
