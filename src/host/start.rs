//! How a node starts: its sockets, its place among others, its log, its loop. In this order; what
//! fails leaves nothing running.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clock::Duration;
use cluster::identity::PeerAddress;
use futures_util::FutureExt as _;
use node::{Input, Node};
use store::{Nameplate, NodeId};
use zeroize::Zeroizing;

use crate::desk::{FrontDesk, Office};
use crate::disk::Disk;
use crate::forming::{Beginning, FormError, Formed, Forming};
use crate::identity::{Identity, Intent};
use crate::load::Load;
use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::membership::{Registrar, go_on_leaving};
use crate::net::{Datagrams, Listener};
use crate::node_loop::{Local, NodeLoop};
use crate::peer::door::Door;
use crate::peer::message::{Hello, VERSIONS};
use crate::peer::{Contact, Peers};
use crate::proposer::{Proposer, Told};
use crate::quorum;
use crate::raft::Consensus;
use crate::raft::machine::link;
use crate::rows::{Fetcher, Ledger};
use crate::runtime::{AsyncRuntime, Tx, detach, queue, watched};
use crate::service::{
    Addresses, Ended, Event, Fatal, Handle, Membership, PeerSettings, Settings, StartError,
};
use crate::sockets::{advertised, bind_gateways, bind_mqtt, bind_peers, receive};
use crate::steward;
use crate::storage::{Batch, Meta, Op, StorageError};
use crate::streams::Connections;
use crate::succession;
use crate::world::{Kept, World};

/// Inputs from the network that wait for the loop; beyond, the kernel's buffers hold them.
const EVENTS_MAX: usize = 4_096;
/// How often the links are looked at.
const LINES_LOOK: Duration = Duration::from_millis(50);
/// A way that is longer or shorter by more than this is told.
const TRANSIT_APART: Duration = Duration::from_millis(5);

/// Whether the storage must be set aside before this node starts: it has left the cluster whose
/// data lies there.
///
/// * Errors: an unreadable storage, or what is kept beside it.
pub fn must_be_set_aside<W: World>(world: &W, disk: &W::Disk) -> Result<bool, FormError> {
    let identity = Identity::read(disk.database())?;
    let intent = intent_of(world)?;
    Ok(intent.is_some_and(|intent| intent.sets_aside(identity.as_ref())))
}

/// Notes that this node is no member any more: it stays alone until somebody says otherwise.
///
/// * Returns whether it wanted to leave, and goes on.
/// * Errors: what is kept beside the storage.
pub fn note_removal<W: World>(world: &W) -> Result<bool, FormError> {
    if matches!(intent_of(world)?, Some(Intent::Leave { .. })) {
        return Ok(true);
    }
    world.keep(Kept::Intent, Some(&Intent::Alone.encode()))?;
    Ok(false)
}

fn intent_of<W: World>(world: &W) -> Result<Option<Intent>, FormError> {
    Ok(world.kept(Kept::Intent)?.and_then(|bytes| Intent::decode(&bytes)))
}

/// How the node begins: what it intends overrules what it was told.
fn beginning_of<W: World>(world: &W, told: Beginning) -> Result<Beginning, FormError> {
    Ok(match intent_of(world)? {
        Some(Intent::Join { target, .. }) => match target.parse() {
            Ok(target) => Beginning::Join(target),
            Err(_) => told,
        },
        Some(Intent::Leave { .. } | Intent::Alone) => Beginning::Alone,
        None => told,
    })
}

/// Starts a node on an opened disk; it returns when the node is a member of a cluster.
///
/// * Errors: a taken port, an unreadable disk, a log that does not open; nothing runs then.
pub async fn start<W: World>(
    world: W,
    disk: W::Disk,
    settings: Settings,
) -> Result<Handle<W>, StartError> {
    let Settings { gateways, mqtt, connections_max, peers: place, node: make, raft } = settings;
    let bound = Bound::bind(&world, &gateways, &mqtt, &place.listen).await?;
    let boot = next_boot(&disk).await?;
    let address = advertised(&place.address, bound.addresses.peers)?;
    let peers = meet(&world, &place, &address, boot)?;
    let (heard_in, heard) = mailbox();
    let desk = FrontDesk::new(peers.clone(), heard_in);
    let Bound { sockets, mqtt, peer_listener, addresses } = bound;
    if let Some(listener) = peer_listener {
        let door = Door::new(peers.clone(), Arc::clone(&desk));
        detach::<W::Runtime>(peers.clone().while_open(door.serve(listener)));
    }
    let PeerSettings { name, beginning, .. } = place;
    let beginning = beginning_of(&world, beginning)?;
    let joins = matches!(beginning, Beginning::Join(_));
    let wanted = match intent_of(&world)? {
        Some(Intent::Join { to, .. }) => to,
        Some(Intent::Leave { .. } | Intent::Alone) | None => None,
    };
    peers.introduce(|hello| hello.joining = joins);
    let mut forming = Forming {
        world: world.clone(),
        disk: disk.clone(),
        peers: peers.clone(),
        name: name.clone(),
        address: address.clone(),
        wanted,
        heard,
    };
    let formed = forming.form(&beginning).await.inspect_err(|_| peers.close())?;
    let next = intent_of(&world)?.and_then(|intent| intent.then(&formed.identity));
    let kept = next.as_ref().map(Intent::encode);
    world.keep(Kept::Intent, kept.as_deref()).map_err(FormError::Kept)?;
    peers.introduce(|hello| {
        hello.cluster = Some(formed.identity.cluster);
        hello.joining = false;
        hello.raft_id = Some(formed.identity.raft_id);
        hello.members = hello.members.max(1);
    });
    let plates = membership_of(&formed, &peers, &address, &name);
    let node = Node::new(make(&plates), boot, world.seed());
    let member = Member { world, disk, peers, address, formed, node };
    let gates = Gates { sockets, mqtt, addresses, connections_max };
    let leaving = matches!(next, Some(Intent::Leave { .. }));
    member.run(raft, gates, desk, leaving).await
}

/// Everything a node listens on.
struct Bound<W: World> {
    sockets: Vec<Arc<W::Datagrams>>,
    mqtt: Vec<W::Listener>,
    peer_listener: Option<W::Listener>,
    addresses: Addresses,
}

impl<W: World> Bound<W> {
    async fn bind(
        world: &W,
        gateways: &[SocketAddr],
        mqtt: &[SocketAddr],
        peers: &[SocketAddr],
    ) -> Result<Self, StartError> {
        let sockets = bind_gateways(world, gateways).await?;
        let mqtt = bind_mqtt(world, mqtt).await?;
        let peer_listener = bind_peers(world, peers).await?;
        let addresses = Addresses {
            gateways: sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
            mqtt: mqtt.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
            peers: peer_listener.as_ref().and_then(|one| one.local_addr().ok()),
        };
        Ok(Self { sockets, mqtt, peer_listener, addresses })
    }
}

/// Where gateways and clients come in.
struct Gates<W: World> {
    sockets: Vec<Arc<W::Datagrams>>,
    mqtt: Vec<W::Listener>,
    addresses: Addresses,
    connections_max: usize,
}

/// A node that is a member and does not run yet.
struct Member<W: World> {
    world: W,
    disk: W::Disk,
    peers: Peers<W>,
    address: PeerAddress,
    formed: Formed,
    node: Node,
}

impl<W: World> Member<W> {
    /// Starts the loop, the log, and what lies between them; opens the gates.
    async fn run(
        self,
        raft: crate::raft::Settings,
        gates: Gates<W>,
        desk: Arc<FrontDesk<W>>,
        leaving: bool,
    ) -> Result<Handle<W>, StartError> {
        let Self { world, disk, peers, address, formed, node } = self;
        let Formed { identity, data_key } = formed;
        let (machine, calls_of_log) = link::<W::Runtime>();
        let (events_in, events) = queue::<W::Runtime, _>(EVENTS_MAX);
        let (local, locals) = mailbox();
        let (told_in, told) = mailbox();
        let (first_failure, fatal) = watched::<W::Runtime, Option<Ended>>(None);
        let first_failure = Fatal::new(Mutex::new(first_failure));
        peers.set_members(&identity.contacts, []);
        let load = Arc::new(Load::default());
        let unheard = Arc::new(AtomicUsize::new(0));
        let (ledger, missing_rows) = Ledger::load(disk.clone())?;
        let ledger = Arc::new(ledger);
        let node_loop = NodeLoop {
            world: world.clone(),
            disk: disk.clone(),
            node,
            sockets: gates.sockets.clone(),
            calls_of_log,
            locals,
            local: local.clone(),
            events,
            told: told_in.clone(),
            decisions: BTreeMap::new(),
            peers: peers.clone(),
            raft_id: identity.raft_id,
            piece_bytes: raft.piece_bytes,
            unheard: Arc::clone(&unheard),
            rows: Arc::clone(&ledger),
            fatal: first_failure.clone(),
            ways: BTreeMap::new(),
            calls: BTreeMap::new(),
            desk: Arc::clone(&desk),
            devices: 0,
            load: Arc::clone(&load),
        };
        detach::<W::Runtime>(node_loop.run());
        let raft = crate::raft::Settings {
            raft_id: identity.raft_id,
            founders: identity.founders.clone(),
            ..raft
        };
        let members = Arc::new(peers.clone());
        let consensus = Consensus::start_among(members, disk.clone(), machine, raft).await?;
        let office = Arc::new(Office {
            consensus: consensus.clone(),
            identity,
            data_key,
            address,
            disk,
            local: local.clone(),
            inviting: AtomicBool::new(false),
            told: told_in,
            unheard,
        });
        desk.office.set(Arc::clone(&office)).ok();
        attend(&world, &peers, &office, told, first_failure);
        let open = |work| detach::<W::Runtime>(peers.clone().while_open(work));
        let fetcher =
            Fetcher { peers: peers.clone(), office: Arc::clone(&office), ledger, source: None };
        open(fetcher.run(missing_rows).boxed());
        if leaving {
            open(go_on_leaving(Registrar { world: world.clone(), desk }).boxed());
        }
        let addresses = gates.open(events_in, &peers);
        let next_call = Arc::new(AtomicU64::new(1));
        Ok(Handle { local, next_call, fatal, consensus, office, peers, addresses, load, world })
    }
}

/// Starts what stands between the log and the other nodes.
fn attend<W: World>(
    world: &W,
    peers: &Peers<W>,
    office: &Arc<Office<W>>,
    told: Inbox<W::Runtime, Told<W::Runtime>>,
    failure: Fatal<W::Runtime>,
) {
    let (consensus, local) = (office.consensus.clone(), office.local.clone());
    let proposer = Proposer {
        world: world.clone(),
        peers: peers.clone(),
        consensus: consensus.clone(),
        told,
        own: office.told.clone(),
        local: local.clone(),
    };
    proposer.spawn();
    let open = |work| detach::<W::Runtime>(peers.clone().while_open(work));
    open(succession::watch::<W>(consensus.clone(), peers.clone()).boxed());
    quorum::spawn::<W>(consensus, peers.clone(), local.clone(), failure.clone());
    open(steward::keep(world.clone(), peers.clone(), Arc::clone(office)).boxed());
    open(watch_lines(peers.clone(), local, failure).boxed());
}

impl<W: World> Gates<W> {
    fn open(self, events: Tx<W::Runtime, Event<W::Runtime>>, peers: &Peers<W>) -> Arc<Addresses> {
        let open = |work| detach::<W::Runtime>(peers.clone().while_open(work));
        for (number, socket) in self.sockets.into_iter().enumerate() {
            let listener = u8::try_from(number).unwrap_or(u8::MAX);
            open(receive::<W>(listener, socket, events.clone()).boxed());
        }
        let connections = Connections::<W>::new(events, self.connections_max);
        for listener in self.mqtt {
            open(Arc::clone(&connections).serve(listener).boxed());
        }
        Arc::new(self.addresses)
    }
}

/// This node among others, whom it does not know yet.
fn meet<W: World>(
    world: &W,
    settings: &PeerSettings,
    address: &PeerAddress,
    boot: u64,
) -> Result<Peers<W>, FormError> {
    let secret = match world.kept(Kept::NodeKey)? {
        Some(kept) => kept.as_slice().try_into().map_err(|_| FormError::DataKey)?,
        None => {
            let drawn = world.seed();
            world.keep(Kept::NodeKey, Some(&drawn))?;
            drawn
        }
    };
    let hello = Hello {
        versions: VERSIONS,
        cluster: None,
        raft_id: None,
        boot,
        name: settings.name.clone(),
        address: address.to_string(),
        feature_level: store::limits::FEATURE_LEVEL,
        seeds: None,
        members: 0,
        devices: 0,
        joining: false,
        started: world.now().wall.unix_micros(),
        connection: None,
        to: None,
    };
    let identity = crate::peer::noise::Identity::new(Zeroizing::new(secret));
    Ok(Peers::new(world.clone(), identity, settings.cookie.clone(), hello))
}

fn membership_of<W: World>(
    Formed { identity, data_key }: &Formed,
    peers: &Peers<W>,
    address: &PeerAddress,
    name: &str,
) -> Membership {
    let plate = |contact: &Contact| Nameplate {
        key: contact.key.0,
        name: contact.name.clone(),
        address: contact.address.clone(),
    };
    let founders = identity.contacts.iter().filter(|one| identity.founders.contains(&one.raft_id));
    let (name, address) = (name.to_owned(), address.to_string());
    Membership {
        raft_id: identity.raft_id,
        founds: (!identity.founders.is_empty()).then_some(identity.cluster),
        founders: founders.map(|one| (NodeId(one.raft_id), plate(one))).collect(),
        plate: Nameplate { key: peers.key().0, name, address },
        data_key: data_key.clone(),
    }
}

/// Tells the loop which other nodes can be reached, and ends the node if it was removed.
async fn watch_lines<W: World>(
    peers: Peers<W>,
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
    fatal: Fatal<W::Runtime>,
) {
    let mut told: BTreeMap<u64, (Option<u64>, Duration)> = BTreeMap::new();
    loop {
        let lines = peers.lines();
        for (id, line) in &lines {
            if line.removed {
                fatal.raise(Ended::Removed);
            }
            let (node, transit) = (*id, line.transit);
            let tell = |up| local.push(Local::Input(Input::PeerLine { node, up, transit }));
            let before = told.get(id).copied();
            let is_as_before = |(lively, told): (Option<u64>, Duration)| {
                lively == line.lively && transit.abs_diff(told) <= TRANSIT_APART
            };
            if before.is_some_and(is_as_before) {
                continue;
            }
            told.insert(node, (line.lively, transit));
            // Another connection: the one before has broken, however short the break was.
            let last = before.and_then(|(lively, _)| lively);
            if line.lively.is_none() || last.is_some_and(|last| Some(last) != line.lively) {
                tell(false);
            }
            if line.lively.is_some() {
                tell(true);
            }
        }
        told.retain(|id, _| lines.contains_key(id));
        W::Runtime::sleep(LINES_LOOK).await;
    }
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
