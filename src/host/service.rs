//! One node at work: its sockets, its loop, its log, and the handle by which others call it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use node::api::{ApiError, Credentials, Operation, Outcome};
use node::{CallId, Input, Node, StreamId};

use crate::disk::Disk;
use crate::mailbox::{Mailbox, mailbox};
use crate::net::{Datagrams, Listener};
use crate::node_loop::{Local, NodeLoop};
use crate::proposer::Proposer;
use crate::raft::machine::{Link, link};
use crate::raft::{Consensus, ConsensusError};
use crate::runtime::{
    AsyncRuntime, MpscSender, Tx, WatchReceiver, WatchRx, WatchSender, WatchTx, detach, once,
    queue, watched,
};
use crate::storage::{Batch, Meta, Op, StorageError};
use crate::streams::{Connections, Way};
use crate::world::World;

/// Inputs from the network that wait for the loop; beyond, the kernel's buffers hold them.
const EVENTS_MAX: usize = 4_096;
/// The largest UDP datagram.
const DATAGRAM_MAX: usize = 65_535;

/// What came of a call.
pub type CallReply = Result<Outcome, ApiError>;

/// What a node listens on, and how it is set up.
#[derive(Debug)]
pub struct Settings {
    /// UDP addresses for gateways.
    pub gateways: Vec<SocketAddr>,
    /// TCP addresses for MQTT clients.
    pub mqtt: Vec<SocketAddr>,
    /// MQTT connections at a time; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// The node's own settings.
    pub node: node::Config,
    /// The log's settings.
    pub raft: crate::raft::Settings,
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
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log.
    #[error(transparent)]
    Log(#[from] ConsensusError),
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
pub(crate) struct Fatal<R: AsyncRuntime>(Arc<Mutex<WatchTx<R, Option<String>>>>);

impl<R: AsyncRuntime> Clone for Fatal<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: AsyncRuntime> Fatal<R> {
    /// Ends the node, unless something else has already.
    pub(crate) fn raise(&self, text: String) {
        let first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(text);
            }
            is_first
        });
    }
}

/// The way to a running node. Clones lead to the same one.
pub struct Handle<W: World> {
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
    next_call: Arc<AtomicU64>,
    fatal: WatchRx<W::Runtime, Option<String>>,
    consensus: ConsensusOf<W>,
    addresses: Arc<Addresses>,
}

impl<W: World> Clone for Handle<W> {
    fn clone(&self) -> Self {
        Self {
            local: self.local.clone(),
            next_call: Arc::clone(&self.next_call),
            fatal: self.fatal.clone(),
            consensus: self.consensus.clone(),
            addresses: Arc::clone(&self.addresses),
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
        let call = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, reply) = once::<W::Runtime, _>();
        let input = Input::Call { call, credentials, operation };
        self.local.push(Local::Call(input, sender));
        let _dropped = Dropped::<W> { call, local: self.local.clone() };
        // Whoever dies with the question in hand may have put it into the log before.
        reply.await.unwrap_or(Err(ApiError::UnknownOutcome))
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the node cannot go on, and says why. Never, for one that runs well.
    pub async fn failed(&self) -> String {
        let mut fatal = self.fatal.clone();
        let first = fatal.wait_until(Option::is_some).await;
        first.ok().flatten().unwrap_or_else(|| "the node's loop has ended".to_owned())
    }

    /// Stops the node: no new work, what was begun is finished.
    pub async fn stop(&self) {
        self.consensus.shutdown().await;
        self.local.push(Local::Stop);
    }
}

/// Starts a node on an opened disk.
///
/// * Errors: a taken port, an unreadable disk, a log that does not open; nothing runs then.
pub async fn start<W: World>(
    world: W,
    disk: W::Disk,
    settings: Settings,
) -> Result<Handle<W>, StartError> {
    let sockets = bind_gateways(&world, &settings.gateways).await?;
    let listeners = bind_mqtt(&world, &settings.mqtt).await?;
    let addresses = Addresses {
        gateways: sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
        mqtt: listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
    };
    let boot = next_boot(&disk).await?;
    let node = Node::new(settings.node, boot, world.seed());

    let (machine, calls_of_log) = link::<W::Runtime>();
    let (events_in, events) = queue::<W::Runtime, _>(EVENTS_MAX);
    let (local, locals) = mailbox();
    let (proposals, proposed) = mailbox();
    let (first_failure, fatal) = watched::<W::Runtime, Option<String>>(None);
    let first_failure = Fatal(Arc::new(Mutex::new(first_failure)));
    let node_loop = NodeLoop {
        world: world.clone(),
        disk: disk.clone(),
        node,
        sockets: sockets.clone(),
        calls_of_log,
        locals,
        local: local.clone(),
        events,
        proposals,
        fatal: first_failure.clone(),
        ways: BTreeMap::new(),
        calls: BTreeMap::new(),
    };
    detach::<W::Runtime>(node_loop.run());
    let consensus = Consensus::start(disk, machine, settings.raft).await?;
    let proposer = Proposer {
        world: world.clone(),
        consensus: consensus.clone(),
        proposed,
        local: local.clone(),
        fatal: first_failure,
    };
    proposer.spawn();
    for (number, socket) in sockets.into_iter().enumerate() {
        let listener = u8::try_from(number).unwrap_or(u8::MAX);
        detach::<W::Runtime>(receive::<W>(listener, socket, events_in.clone()));
    }
    let connections = Connections::<W>::new(events_in, settings.connections_max);
    for listener in listeners {
        detach::<W::Runtime>(Arc::clone(&connections).serve(listener));
    }
    let next_call = Arc::new(AtomicU64::new(1));
    Ok(Handle { local, next_call, fatal, consensus, addresses: Arc::new(addresses) })
}

async fn bind_gateways<W: World>(
    world: &W,
    addresses: &[SocketAddr],
) -> Result<Vec<Arc<W::Datagrams>>, StartError> {
    let mut sockets = Vec::new();
    for address in addresses {
        let bound = world.bind_datagrams(*address).await;
        let error = |source| StartError::Bind { what: "udp", address: *address, source };
        sockets.push(Arc::new(bound.map_err(error)?));
    }
    Ok(sockets)
}

async fn bind_mqtt<W: World>(
    world: &W,
    addresses: &[SocketAddr],
) -> Result<Vec<W::Listener>, StartError> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = world.bind_listener(*address).await;
        let error = |source| StartError::Bind { what: "tcp", address: *address, source };
        listeners.push(bound.map_err(error)?);
    }
    Ok(listeners)
}

/// Counts this start, on the disk before anything leaves the node.
async fn next_boot<D: Disk>(disk: &D) -> Result<u64, StorageError> {
    let last = disk.database().meta(Meta::Boot)?;
    let last = last.and_then(|bytes| Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?)));
    let boot = last.unwrap_or(0) + 1;
    let value = Bytes::copy_from_slice(&boot.to_le_bytes());
    disk.commit(Batch::new().with(Op::PutMeta { key: Meta::Boot, value })).await?;
    Ok(boot)
}

async fn receive<W: World>(
    listener: u8,
    socket: Arc<W::Datagrams>,
    events: Tx<W::Runtime, Event<W::Runtime>>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((length, from)) = socket.recv(&mut buffer).await else {
            W::Runtime::sleep(clock::Duration::from_millis(1)).await;
            continue;
        };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let input = Input::Datagram { listener, from, bytes };
        if events.send(Event::Input(input)).await.is_err() {
            return;
        }
    }
}
