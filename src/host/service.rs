//! One node at work: its sockets, its loop, its log, and the handle by which others call it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clock::Duration;
use node::api::wire::Health;
use node::api::{ApiError, Credentials, Operation, Outcome, Unavailable};
use node::{CallId, Input, StreamId};
use sabotage::Bug;
use store::{Id, Nameplate, NodeId};
use zeroize::Zeroizing;

use crate::desk::Office;
use crate::forming::{Beginning, FormError};
use crate::load::Load;
use crate::mailbox::Mailbox;
use crate::node_loop::Local;
use crate::peer::{CookieKey, Peers};
use crate::raft::machine::Link;
use crate::raft::{Consensus, ConsensusError};
use crate::runtime::{AsyncRuntime, WatchReceiver, WatchRx, WatchSender, WatchTx, once};
pub use crate::start::{must_be_set_aside, note_removal, start};
use crate::storage::StorageError;
use crate::streams::Way;
use crate::world::World;

/// How long a successor may take to lead.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// What came of a call.
pub type CallReply = Result<Outcome, ApiError>;

/// What a node listens on, and how it is set up.
pub struct Settings {
    /// UDP addresses for gateways.
    pub gateways: Vec<SocketAddr>,
    /// TCP addresses for MQTT clients.
    pub mqtt: Vec<SocketAddr>,
    /// MQTT connections at a time; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Its place among others.
    pub peers: PeerSettings,
    /// Makes the node's own settings, once it is known which member of which cluster it is.
    pub node: Box<dyn FnOnce(&Membership) -> node::Config + Send>,
    /// The log's settings.
    pub raft: crate::raft::Settings,
}

/// A node's place among others.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Where it may listen for other nodes: the first of these ports that is free.
    pub listen: Vec<SocketAddr>,
    /// `tern@host`
    pub name: String,
    /// Where others reach it; a port of 0 is replaced by the one it listens on.
    pub address: String,
    /// The cookie, as the handshake takes it.
    pub cookie: CookieKey,
    /// How it becomes a member if its storage is empty.
    pub beginning: Beginning,
}

/// Which member of which cluster a node is.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Its raft id.
    pub raft_id: u64,
    /// The cluster that it founds, alone or with others; `None` if it was admitted.
    pub founds: Option<Id>,
    /// All founders, this one included.
    pub founders: Vec<(NodeId, Nameplate)>,
    /// Who it is and where others reach it.
    pub plate: Nameplate,
    /// Seals keys at rest, the same on all members.
    pub data_key: Zeroizing<[u8; 32]>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("cannot listen on {what} {address}: {source}")]
    Bind {
        /// `udp` or `tcp`.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No port for other nodes is free.
    #[error("port range exhausted: none of the ports {first} to {last} is free for peer links")]
    PortRange {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// The address at which others shall reach it.
    #[error("{text}: {why}")]
    Address {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It did not become a member.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The log.
    #[error(transparent)]
    Log(#[from] ConsensusError),
}

/// How a node has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It cannot go on, for this reason.
    Failed(String),
    /// It was removed from its cluster.
    Removed,
    /// It is to start again on an empty storage, as a member of another cluster.
    Rejoin,
}

/// What comes to the loop from the network.
pub(crate) enum Event<R: AsyncRuntime> {
    /// As it is.
    Input(Input),
    /// A connection, and the way to its writer.
    StreamOpened {
        /// Its name.
        stream: StreamId,
        /// The other end.
        peer: SocketAddr,
        /// The way to it.
        way: Way<R>,
    },
    /// A connection beyond the limit was closed.
    ConnectionRefused {
        /// The other end.
        peer: SocketAddr,
    },
}

/// The first failure that ends the node, seen by whoever waits for it.
pub(crate) struct Fatal<R: AsyncRuntime>(Arc<Mutex<WatchTx<R, Option<Ended>>>>);

impl<R: AsyncRuntime> Clone for Fatal<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: AsyncRuntime> Fatal<R> {
    pub(crate) fn new(first: Mutex<WatchTx<R, Option<Ended>>>) -> Self {
        Self(Arc::new(first))
    }

    /// Ends the node, unless something else has already.
    pub(crate) fn raise(&self, ended: Ended) {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(ended);
            }
            is_first
        });
    }
}

/// The way to a running node. Clones lead to the same one.
pub struct Handle<W: World> {
    pub(crate) local: Mailbox<W::Runtime, Local<W::Runtime>>,
    pub(crate) next_call: Arc<AtomicU64>,
    pub(crate) fatal: WatchRx<W::Runtime, Option<Ended>>,
    pub(crate) office: Arc<Office<W>>,
    pub(crate) peers: Peers<W>,
    pub(crate) consensus: ConsensusOf<W>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) load: Arc<Load>,
    pub(crate) world: W,
}

impl<W: World> Clone for Handle<W> {
    fn clone(&self) -> Self {
        Self {
            local: self.local.clone(),
            next_call: Arc::clone(&self.next_call),
            fatal: self.fatal.clone(),
            consensus: self.consensus.clone(),
            office: Arc::clone(&self.office),
            peers: self.peers.clone(),
            addresses: Arc::clone(&self.addresses),
            load: Arc::clone(&self.load),
            world: self.world.clone(),
        }
    }
}

/// The log of a node in the world `W`.
pub(crate) type ConsensusOf<W> =
    Consensus<<W as World>::Runtime, <W as World>::Disk, Link<<W as World>::Runtime>>;

/// Where a node listens, with the ports chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// UDP, for gateways.
    pub gateways: Vec<SocketAddr>,
    /// TCP, for MQTT.
    pub mqtt: Vec<SocketAddr>,
    /// TCP, for other nodes.
    pub peers: Option<SocketAddr>,
}

/// Tells the loop that nobody waits for an answer any more.
struct Dropped<W: World> {
    call: CallId,
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
}

impl<W: World> Drop for Dropped<W> {
    fn drop(&mut self) {
        self.local.push(Local::Input(Input::CallDropped { call: self.call }));
    }
}

impl<W: World> Handle<W> {
    /// Calls an operation and waits for its answer. Dropping the future gives the call up; what it
    /// asked of the log may come about all the same.
    pub async fn call(&self, credentials: Credentials, operation: Operation) -> CallReply {
        // Whoever asks sees all that was decided before, whichever node he asks.
        let of_cluster = !operation.is_of_this_node() && !self.consensus.is_alone();
        let is_bound = of_cluster && !sabotage::planted(Bug::ReadWithoutBarrier);
        if is_bound && !self.office.read_barrier(&self.peers).await {
            return Err(ApiError::Unavailable(Unavailable::NoQuorum));
        }
        let call = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, reply) = once::<W::Runtime, _>();
        let input = Input::Call { call, credentials, operation };
        self.local.push(Local::Call(input, sender));
        let _dropped = Dropped::<W> { call, local: self.local.clone() };
        // Whoever dies with the question in hand may have put it into the log before.
        let answer = reply.await.unwrap_or(Err(ApiError::UnknownOutcome));
        match answer {
            Ok(Outcome::Health(health)) => {
                let load = self.load.percent(self.world.now().instant);
                Ok(Outcome::Health(Health { load, ..health }))
            }
            other => other,
        }
    }

    /// Whether the cluster has this user.
    pub async fn knows_user(&self, id: Id) -> bool {
        self.office.look(move |state| state.user(id).is_some()).await.unwrap_or(false)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the node has ended by itself, and says how. Never, for one that runs well.
    pub async fn ended(&self) -> Ended {
        let mut fatal = self.fatal.clone();
        let first = fatal.wait_until(Option::is_some).await;
        let gone = || Ended::Failed("the node's loop has ended".to_owned());
        first.ok().flatten().unwrap_or_else(gone)
    }

    /// As [`Self::ended`], in words.
    pub async fn failed(&self) -> String {
        match self.ended().await {
            Ended::Failed(text) => text,
            Ended::Removed => "this node was removed from its cluster".to_owned(),
            Ended::Rejoin => "this node joins another cluster".to_owned(),
        }
    }

    /// Whether this node leads now.
    pub fn leads(&self) -> bool {
        let status = self.consensus.status();
        status.leader == Some(status.id)
    }

    /// Stops the node: no new work, what was begun is finished, somebody else leads.
    pub async fn stop(&self) {
        self.hand_over().await;
        self.consensus.shutdown().await;
        self.peers.close();
        self.local.push(Local::Stop);
    }

    /// If this node leads, lets the voter that is furthest lead in its place, and waits a moment
    /// until it does.
    async fn hand_over(&self) {
        let Some(heir) = self.consensus.heir().filter(|_| self.leads()) else { return };
        self.consensus.hand_over(heir).await;
        let mut health = self.consensus.health();
        let own = self.consensus.status().id;
        let moved = health.wait_until(|now| now.leader.is_some_and(|leader| leader != own));
        let _ = W::Runtime::timeout(HAND_OVER_MAX, moved).await;
    }
}
