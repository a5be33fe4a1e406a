//! N empty nodes started at once are exactly one cluster.
//!
//! Each node lists the same seeds. The seeds agree on one [`Genesis`] by single-decree Paxos among
//! a majority of the list, and all its voters initialise Raft with it. Whoever is not among its
//! voters, or meets a node that has a cluster already, asks to be admitted there.
//!
//! Sans-IO: [`Hello`]s and [`Message`]s of authenticated peers come in, [`Effect`]s go out. The
//! transport may lose, repeat and reorder. Drain [`Founding::poll_effect`] after each call. What is
//! to be persisted must be synced before [`Founding::handle_persisted`] is called; losing it later
//! means that a node votes twice. Say [`Founding::hello`] when a link opens, and on all links again
//! after the end: a node with another list learns of the cluster by nothing else.
//!
//! * The electorate is the list's addresses. A key holds at most one of them and the first holder
//!   of an address keeps it, since a wiped disk has forgotten what it promised.
//! * A node with another list is warned about and does not vote with us.
//! * The smallest key proposes first, the others wait their turn: duels end by patience and dice.
//! * Once a cluster was seen, only a node that has accepted a genesis goes on proposing: its own
//!   founding may be that cluster's. One that has promised asks first whether it is a voter there.
//!
//! Limit: changing the seed list while a founding is under way changes the electorate. Two lists
//! whose majorities do not overlap can found two clusters.

mod decree;
mod message;
mod seeds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::{Duration, Instant};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::identity::{NodeKey, PeerAddress};
use decree::{Decree, Output, Standing};

pub use decree::MemoryError;
pub use message::{
    Ballot, Genesis, Hello, LABEL_MAX, MESSAGE_LEN_MAX, Message, MessageError, ROUND_MAX,
    SEALED_KEY_MAX, Vote, Voter,
};
pub use seeds::{SEEDS_MAX, SeedList, SeedListError};

/// How long a majority waits for the seeds that have not said Hello.
pub const SIGHT: Duration = Duration::from_secs(1);
/// How long a majority of promises waits for those of the others.
pub const GATHER: Duration = Duration::from_secs(1);
/// How long one ballot may take.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// How much longer each next key waits than the one before it.
pub const TURN: Duration = Duration::from_secs(2);
/// How often a node asks whether something has been decided.
pub const ASK_EVERY: Duration = Duration::from_secs(1);
/// First wait after a ballot that failed; doubles up to sixteen times this.
const BACKOFF: Duration = Duration::from_millis(500);
/// Most warnings that are remembered so as not to be repeated.
const WARNINGS_MAX: usize = 64;

/// What a node brings to its founding.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its identity.
    pub key: NodeKey,
    /// Its name.
    pub name: String,
    /// Its own address; a seed finds it in the list.
    pub address: PeerAddress,
    /// The list.
    pub seeds: SeedList,
    /// The cluster id it would propose, drawn by the caller.
    pub cluster_id: [u8; 16],
    /// The sealed data key it would propose, likewise.
    pub sealed_key: Vec<u8>,
}

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Warning {
    /// This node's address is not in its seed list.
    #[error(
        "{0} is not in the seed list: this node waits for the others to found a cluster; write \
         the address in the list exactly as `cluster.address` has it if it shall vote"
    )]
    NotASeed(PeerAddress),
    /// A peer has another list.
    #[error("{name} ({key:?}) has another seed list and does not count: give all nodes one list")]
    OtherSeeds {
        /// Who.
        key: NodeKey,
        /// Its name.
        name: String,
    },
    /// Two keys at one seed address.
    #[error(
        "the seed {address} was the node {holder:?} and now says that it is {claimant:?}: if its \
         data folder was wiped, restart the other forming nodes; if two nodes have one \
         `cluster.address`, correct it"
    )]
    SeedTaken {
        /// The seed.
        address: PeerAddress,
        /// Who had it first.
        holder: NodeKey,
        /// Who says so now.
        claimant: NodeKey,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The end: there is a cluster without this node. Ask one of its members for admission.
    AskAdmission {
        /// Which cluster.
        cluster_id: [u8; 16],
        /// The member.
        of: NodeKey,
        /// Where it says it listens.
        address: String,
    },
    /// The end: this node is a voter of this genesis. It may come again after a restart.
    Decided(Genesis),
    /// Write these bytes in place of the former ones, sync, then call
    /// [`Founding::handle_persisted`].
    Persist {
        /// Names the write.
        token: u64,
        /// What [`Founding::new`] wants back.
        bytes: Vec<u8>,
    },
    /// Send, if there is a link to that node.
    Send {
        /// To whom.
        to: NodeKey,
        /// What.
        message: Message,
    },
    /// Tell the operator, once.
    Warn(Warning),
}

/// A seed that counts.
#[derive(Clone, Debug)]
struct Seat {
    name: String,
    address: PeerAddress,
}

/// The founding, as one node sees it. It is kept after its end: late seeds still ask.
#[derive(Debug)]
pub struct Founding {
    config: Config,
    rng: ChaCha12Rng,
    /// Acceptor and proposer; for a node that is no seed only what it learns.
    decree: Decree,
    /// Seeds that count, this node included if it is one.
    seats: BTreeMap<NodeKey, Seat>,
    /// Nodes that said they have a cluster.
    settled: BTreeSet<NodeKey>,
    /// When to try again.
    wake: Instant,
    /// When to propose to those who have promised.
    gather_until: Option<Instant>,
    attempts: u32,
    concluded: bool,
    warned: BTreeSet<Warning>,
    effects: VecDeque<Effect>,
}

impl Founding {
    /// Begins, or resumes with what was persisted last.
    ///
    /// * `seed`: for the waits, different on each node.
    /// * Errors: bytes that cannot be used; the node must not start.
    pub fn new(
        now: Instant,
        config: Config,
        seed: [u8; 32],
        durable: Option<&[u8]>,
    ) -> Result<Self, MemoryError> {
        let mut founding = Self {
            rng: ChaCha12Rng::from_seed(seed),
            decree: Decree::new(config.key, config.seeds.majority(), durable)?,
            seats: BTreeMap::new(),
            settled: BTreeSet::new(),
            wake: now + ASK_EVERY,
            gather_until: None,
            attempts: 0,
            concluded: false,
            warned: BTreeSet::new(),
            effects: VecDeque::new(),
            config,
        };
        let config = &founding.config;
        if config.seeds.contains(&config.address) {
            let seat = Seat { name: config.name.clone(), address: config.address.clone() };
            founding.seats.insert(config.key, seat);
            founding.settle_down(now);
        } else {
            founding.warn(Warning::NotASeed(founding.config.address.clone()));
        }
        founding.drain_decree();
        Ok(founding)
    }

    /// What to say when a link opens.
    pub fn hello(&self) -> Hello {
        let decided = self.decree.memory().decided.as_ref();
        let ours = decided.filter(|genesis| genesis.raft_id(self.config.key).is_some());
        Hello {
            name: self.config.name.clone(),
            address: self.config.address.to_string(),
            seeds: self.config.seeds.hash(),
            cluster: ours.map(|genesis| genesis.cluster_id),
        }
    }

    /// A peer has said Hello on a new link.
    ///
    /// The caller hands it in only if `from` is the key that answers at `hello.address`, or if that
    /// is no seed address: so a copied configuration cannot sit on another's seat.
    pub fn handle_hello(&mut self, now: Instant, from: NodeKey, hello: &Hello) {
        if from == self.config.key || self.concluded {
            return;
        }
        if let Some(cluster_id) = hello.cluster {
            self.meet_settled(from, cluster_id, &hello.address);
        } else if self.take_seat(from, hello) {
            self.settle_down(now);
        }
    }

    /// A peer has sent a message.
    pub fn handle_message(&mut self, now: Instant, from: NodeKey, message: Message) {
        if self.is_done_elsewhere() || from == self.config.key {
            return;
        }
        let before = self.decree.standing();
        match &message {
            Message::Ask => self.decree.handle_message(from, message),
            Message::Decided { genesis } => {
                self.end_with(genesis, from);
                self.decree.handle_message(from, message);
            }
            Message::Elsewhere { cluster_id, address } => {
                if self.decree.memory().accepted.is_none() {
                    self.ask_admission(*cluster_id, from, address.clone());
                }
            }
            Message::Prepare { .. }
            | Message::Promise { .. }
            | Message::Refuse { .. }
            | Message::Accept { .. }
            | Message::Accepted { .. } => {
                let both_vote = self.is_seed() && self.seats.contains_key(&from);
                if both_vote || self.decree.memory().decided.is_some() {
                    self.decree.handle_message(from, message);
                }
            }
        }
        self.after_decree(now, before);
    }

    /// The bytes of [`Effect::Persist`] are on disk.
    pub fn handle_persisted(&mut self, now: Instant, token: u64) {
        let before = self.decree.standing();
        self.decree.persisted(token);
        self.after_decree(now, before);
    }

    /// Proposes, gives up, or asks, if it is time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.concluded {
            return;
        }
        if self.gather_until.is_some_and(|at| at <= now) {
            self.propose();
        }
        if self.wake <= now {
            self.try_again(now);
        }
        self.drain_decree();
    }

    /// When to call [`Self::handle_timeout`]; never again after the end.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let wake = (self.wake, "founding");
        let gather = self.gather_until.map(|at| (at, "founding: promises"));
        (!self.concluded).then(|| gather.map_or(wake, |gather| gather.min(wake)))
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Concluded with an admission elsewhere: a node that will get another Raft id must not promise
    /// or accept any more, or it becomes a voter that never comes.
    fn is_done_elsewhere(&self) -> bool {
        self.concluded && self.decree.memory().decided.is_none()
    }

    fn is_seed(&self) -> bool {
        self.seats.contains_key(&self.config.key)
    }

    fn warn(&mut self, warning: Warning) {
        if self.warned.len() < WARNINGS_MAX && self.warned.insert(warning.clone()) {
            self.effects.push_back(Effect::Warn(warning));
        }
    }

    /// A node with a cluster. Who has promised nothing is a voter nowhere and just joins it.
    fn meet_settled(&mut self, from: NodeKey, cluster_id: [u8; 16], address: &str) {
        if self.decree.memory().promised.is_none() {
            self.ask_admission(cluster_id, from, address.to_owned());
            return;
        }
        if self.settled.len() < SEEDS_MAX {
            self.settled.insert(from);
        }
        self.effects.push_back(Effect::Send { to: from, message: Message::Ask });
    }

    /// Seats a forming seed; whether somebody sat down.
    fn take_seat(&mut self, from: NodeKey, hello: &Hello) -> bool {
        if hello.seeds != self.config.seeds.hash() {
            self.warn(Warning::OtherSeeds { key: from, name: hello.name.clone() });
            return false;
        }
        let Ok(address) = hello.address.parse::<PeerAddress>() else { return false };
        if !self.config.seeds.contains(&address) || self.seats.contains_key(&from) {
            return false;
        }
        let holder = self.seats.iter().find(|(_, seat)| seat.address == address);
        if let Some((holder, _)) = holder {
            let holder = *holder;
            self.warn(Warning::SeedTaken { address, holder, claimant: from });
            return false;
        }
        self.seats.insert(from, Seat { name: hello.name.clone(), address });
        true
    }

    /// Sets the first try by what is in sight: at once for the smallest of all.
    fn settle_down(&mut self, now: Instant) {
        if !self.is_seed() || !self.has_majority() || self.decree.is_attempting() {
            return;
        }
        let all = self.seats.len() == self.config.seeds.addresses().len();
        let sight = if all { Duration::ZERO } else { SIGHT };
        let rank = self.rank();
        let jitter = if rank == 0 { Duration::ZERO } else { self.jitter(TURN / 2) };
        self.wake = now + sight + TURN * rank + jitter;
    }

    fn has_majority(&self) -> bool {
        self.seats.len() >= self.config.seeds.majority()
    }

    /// How many of the seated have a smaller key; at most [`SEEDS_MAX`].
    fn rank(&self) -> u32 {
        let smaller = self.seats.keys().filter(|key| **key < self.config.key).count();
        u32::try_from(smaller).unwrap_or(u32::MAX)
    }

    /// Something from zero to `most`, drawn in thousandths.
    fn jitter(&mut self, most: Duration) -> Duration {
        most / 1_000 * (self.rng.next_u32() % 1_001)
    }

    /// Gives up a ballot that took too long, or asks whoever may know and opens one.
    fn try_again(&mut self, now: Instant) {
        if self.decree.is_attempting() {
            self.decree.abandon();
            return self.back_off(now);
        }
        self.wake = now + ASK_EVERY;
        let me = self.config.key;
        let peers: BTreeSet<_> = self.seats.keys().copied().filter(|key| *key != me).collect();
        for to in self.settled.union(&peers) {
            self.effects.push_back(Effect::Send { to: *to, message: Message::Ask });
        }
        let may_found = self.settled.is_empty() || self.decree.memory().accepted.is_some();
        if self.is_seed() && self.has_majority() && may_found {
            self.decree.begin(peers);
            self.wake = now + PATIENCE;
        }
    }

    fn back_off(&mut self, now: Instant) {
        self.gather_until = None;
        let doubled = BACKOFF * (1 << self.attempts.min(4));
        self.attempts = self.attempts.saturating_add(1);
        self.wake = now + doubled / 2 + self.jitter(doubled) + TURN / 2 * self.rank();
    }

    /// Follows up on what a message or the disk has changed.
    fn after_decree(&mut self, now: Instant, before: Standing) {
        if !self.concluded {
            match self.decree.promisers() {
                Some((_, true)) => self.propose(),
                Some((_, false)) if self.gather_until.is_none() => {
                    self.gather_until = Some(now + GATHER);
                }
                Some((_, false)) | None => {}
            }
            let after = self.decree.standing();
            let of_another = after.promised.filter(|ballot| ballot.by != self.config.key);
            if before.is_attempting && !after.is_attempting {
                self.back_off(now);
            } else if !after.is_attempting && of_another.is_some() && after != before {
                // Somebody is at it: let it finish.
                let patience = now + PATIENCE + self.jitter(PATIENCE);
                self.wake = self.wake.max(patience);
            }
        }
        self.drain_decree();
    }

    /// Proposes the seeds that have promised as voters.
    fn propose(&mut self) {
        self.gather_until = None;
        let Some((promisers, _)) = self.decree.promisers() else { return };
        let seats = promisers.iter().filter_map(|key| Some((*key, self.seats.get(key)?)));
        let voters = (1..).zip(seats).map(|(raft_id, (key, seat))| Voter {
            raft_id,
            key,
            name: seat.name.clone(),
            address: seat.address.to_string(),
        });
        let voters = voters.collect();
        self.decree.propose(Genesis {
            cluster_id: self.config.cluster_id,
            voters,
            sealed_key: self.config.sealed_key.clone(),
        });
    }

    fn drain_decree(&mut self) {
        while let Some(output) = self.decree.poll_output() {
            match output {
                Output::Persist { token, bytes } => {
                    self.effects.push_back(Effect::Persist { token, bytes });
                }
                Output::Send { to, message } => {
                    self.effects.push_back(Effect::Send { to, message });
                }
                Output::Decided(genesis) => {
                    self.end_with(&genesis, self.config.key);
                    self.tell_decided(genesis);
                }
            }
        }
    }

    /// A genesis without this node: `teller`, if it is a voter, is asked for admission.
    fn end_with(&mut self, genesis: &Genesis, teller: NodeKey) {
        if genesis.raft_id(self.config.key).is_none() {
            let told = genesis.voters.iter().find(|voter| voter.key == teller);
            let Some(of) = told.or(genesis.voters.first()) else { return };
            self.ask_admission(genesis.cluster_id, of.key, of.address.clone());
        }
    }

    fn tell_decided(&mut self, genesis: Genesis) {
        if !self.concluded {
            self.concluded = true;
            self.effects.push_back(Effect::Decided(genesis));
        }
    }

    fn ask_admission(&mut self, cluster_id: [u8; 16], of: NodeKey, address: String) {
        if !self.concluded {
            self.concluded = true;
            self.effects.push_back(Effect::AskAdmission { cluster_id, of, address });
        }
    }
}

/// What a member answers to a forming node, if anything.
///
/// * `genesis`: that of its cluster, which the log knows; whoever is named in it must learn that,
///   or it would come back as somebody else beside its own empty seat.
pub fn answer_as_member(
    cluster_id: [u8; 16],
    address: &PeerAddress,
    genesis: Option<&Genesis>,
    message: &Message,
) -> Option<Message> {
    match message {
        Message::Ask | Message::Prepare { .. } | Message::Accept { .. } => Some(match genesis {
            Some(genesis) => Message::Decided { genesis: genesis.clone() },
            None => Message::Elsewhere { cluster_id, address: address.to_string() },
        }),
        Message::Promise { .. }
        | Message::Refuse { .. }
        | Message::Accepted { .. }
        | Message::Decided { .. }
        | Message::Elsewhere { .. } => None,
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
