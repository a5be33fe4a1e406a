//! The links between the nodes of a cluster.
//!
//! * `noise`: the encrypted channel. * `message`: what is said on it.
//! * `link`: the way to one other node. * `door`: where others knock.
//! * `probe`: all of them as tests see them.
//!
//! `Peers` is what they share: who this node is, whom it knows, whom it lets in. Each node asks
//! over a connection of its own and answers over the other's.

pub(crate) mod door;
mod latest;
pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod noise;
pub mod probe;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::{Duration, Instant};
use cluster::identity::NodeKey;
use store::Id;

use link::{Line, Link, Whom};
pub use message::Contact;
use message::{Greeting, Hello};
pub use noise::CookieKey;
use noise::{Credentials, Identity};

use crate::runtime::{AsyncRuntime, WatchReceiver, WatchRx, WatchSender, WatchTx, watched};
use crate::world::World;

/// The same failure is logged again only after so long.
const NOTE_EVERY: Duration = Duration::from_secs(30);
/// How long whoever is dialled may take to answer.
const DIAL_MAX: Duration = Duration::from_secs(3);
/// What a node says to itself.
pub(crate) const SAME_NODE: &str = "this is the same node";
/// What is said of a copied data folder, behind which starts it is about.
const TWO_PROCESSES: &str = "two processes run with one identity (a copied data folder?): end one \
                             of them, and give it an empty data folder";
/// Failures remembered, so as not to repeat them.
const NOTES_MAX: usize = 64;

struct Known<W: World> {
    contact: Contact,
    link: Link<W>,
    /// When it last said something over a connection of its own.
    spoke: Option<Instant>,
}

/// One start of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    boot: u64,
    started: i64,
    address: String,
}

struct Standing<W: World> {
    hello: Hello,
    members: BTreeMap<u64, Known<W>>,
    /// Raft ids that were removed.
    revoked: std::collections::BTreeSet<u64>,
    /// The newest start seen of each key, counted anew in each cluster and with each raft id.
    boots: BTreeMap<(NodeKey, Id, u64), Start>,
    /// What was logged when, and how often it has happened since.
    notes: BTreeMap<String, (Instant, u64)>,
}

struct Inner<W: World> {
    closing: WatchRx<W::Runtime, bool>,
    close: Mutex<WatchTx<W::Runtime, bool>>,
    world: W,
    identity: Identity,
    cookie: CookieKey,
    standing: Mutex<Standing<W>>,
    /// Links so far.
    links: AtomicU64,
}

/// How one link is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineNow {
    /// Over which connection, if it is connected and a sign of life came lately.
    pub(crate) lively: Option<u64>,
    /// The other side says that this node was removed.
    pub(crate) removed: bool,
    /// About how long a message takes.
    pub(crate) transit: Duration,
}

/// A link to whoever answers at an address, closed when it is not needed any more.
pub(crate) struct Dialled<W: World> {
    pub(crate) link: Link<W>,
    pub(crate) key: NodeKey,
    pub(crate) hello: Arc<Hello>,
}

impl<W: World> Drop for Dialled<W> {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// Who this node is among others, and the links to them. Clones are the same.
pub(crate) struct Peers<W: World>(Arc<Inner<W>>);

impl<W: World> Clone for Peers<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: World> Peers<W> {
    /// Nobody is known yet.
    pub(crate) fn new(world: W, identity: Identity, cookie: CookieKey, hello: Hello) -> Self {
        let standing = Standing {
            hello,
            members: BTreeMap::new(),
            revoked: std::collections::BTreeSet::new(),
            boots: BTreeMap::new(),
            notes: BTreeMap::new(),
        };
        let (close, closing) = watched::<W::Runtime, bool>(false);
        let (close, standing) = (Mutex::new(close), Mutex::new(standing));
        let links = AtomicU64::new(0);
        Self(Arc::new(Inner { closing, close, world, identity, cookie, standing, links }))
    }

    fn standing(&self) -> MutexGuard<'_, Standing<W>> {
        self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn world(&self) -> &W {
        &self.0.world
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.world.now().instant
    }

    /// This node's key.
    pub(crate) fn key(&self) -> NodeKey {
        self.0.identity.key()
    }

    pub(crate) fn credentials(&self) -> Credentials<'_> {
        Credentials {
            identity: &self.0.identity,
            cookie: &self.0.cookie,
            seed: self.0.world.seed(),
        }
    }

    /// What this node says of itself now.
    pub(crate) fn hello(&self) -> Hello {
        self.standing().hello.clone()
    }

    /// A number for one more link.
    fn number_link(&self) -> u64 {
        self.0.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Says that this node is about to join another; false if it has said so before.
    pub(crate) fn begin_joining(&self) -> bool {
        !std::mem::replace(&mut self.standing().hello.joining, true)
    }

    /// Changes what it says; connections made later say it.
    pub(crate) fn introduce(&self, change: impl FnOnce(&mut Hello)) {
        change(&mut self.standing().hello);
    }

    /// Keeps a link to each of these members but this node itself, and to nobody else; answers
    /// those removed that they are.
    pub(crate) fn set_members(
        &self,
        contacts: &[Contact],
        revoked: impl IntoIterator<Item = u64>,
    ) -> Vec<(u64, Link<W>)> {
        let own = self.key();
        let mut opened = Vec::new();
        let mut standing = self.standing();
        standing.revoked = revoked.into_iter().collect();
        let gone: Vec<u64> = standing
            .members
            .iter()
            .filter(|(id, known)| {
                !contacts.iter().any(|one| one.raft_id == **id && one.key == known.contact.key)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(known) = standing.members.remove(&id) {
                known.link.close();
            }
        }
        for contact in contacts.iter().filter(|contact| contact.key != own) {
            match standing.members.get_mut(&contact.raft_id) {
                Some(known) => {
                    known.link.readdress(&contact.address);
                    known.contact = contact.clone();
                }
                None => {
                    let address = contact.address.clone();
                    let whom = Whom::Member(contact.key, contact.raft_id);
                    let link = Link::open(self.clone(), address, whom);
                    opened.push((contact.raft_id, link.clone()));
                    let known = Known { contact: contact.clone(), link, spoke: None };
                    standing.members.insert(contact.raft_id, known);
                }
            }
        }
        opened
    }

    /// Whom this node knows as members, itself not included.
    pub(crate) fn contacts(&self) -> Vec<Contact> {
        self.standing().members.values().map(|known| known.contact.clone()).collect()
    }

    /// The way to a member.
    pub(crate) fn link(&self, raft_id: u64) -> Option<Link<W>> {
        self.standing().members.get(&raft_id).map(|known| known.link.clone())
    }

    /// Over which connection a member is reached, if over any.
    pub(crate) fn connection(&self, raft_id: u64) -> Option<u64> {
        let link = self.link(raft_id)?;
        link.is_up().then(|| link.connection())
    }

    /// The members that have given a sign of life lately.
    pub(crate) fn lively(&self) -> Vec<u64> {
        self.lines()
            .into_iter()
            .filter(|(_, line)| line.lively.is_some())
            .map(|(id, _)| id)
            .collect()
    }

    /// A node has said something over a connection of its own: it reaches this one.
    pub(crate) fn note_spoke(&self, key: NodeKey) {
        let now = self.now();
        let mut standing = self.standing();
        let known = standing.members.values_mut().find(|known| known.contact.key == key);
        if let Some(known) = known {
            known.spoke = Some(now);
        }
    }

    /// When each member last said something over a connection of its own.
    pub(crate) fn spoke(&self) -> BTreeMap<u64, Instant> {
        let standing = self.standing();
        let all = standing.members.iter();
        all.filter_map(|(id, known)| Some((*id, known.spoke?))).collect()
    }

    /// How the links to the members are.
    pub(crate) fn lines(&self) -> BTreeMap<u64, LineNow> {
        let links: Vec<_> = {
            let standing = self.standing();
            standing.members.iter().map(|(id, one)| (*id, one.link.clone())).collect()
        };
        let now = |link: &Link<W>| LineNow {
            lively: link.is_lively().then(|| link.connection()),
            removed: link.is_removed(),
            transit: link.transit(),
        };
        links.iter().map(|(id, link)| (*id, now(link))).collect()
    }

    /// Ends all links, and what lives [`Self::while_open`].
    pub(crate) fn close(&self) {
        self.0.close.lock().unwrap_or_else(PoisonError::into_inner).send(true).ok();
        for known in core::mem::take(&mut self.standing().members).into_values() {
            known.link.close();
        }
    }

    /// Does `work` until it ends or the node does; its sockets are closed then.
    pub(crate) async fn while_open(self, work: impl Future<Output = ()> + Send) {
        let mut closing = self.0.closing.clone();
        W::Runtime::select2(closing.wait_until(|closed| *closed), work).await;
    }

    /// Reaches whoever is at an address.
    ///
    /// * `expected`: who must answer there.
    /// * Errors: why nobody is reached, in words.
    pub(crate) async fn dial(
        &self,
        address: &str,
        expected: Option<NodeKey>,
    ) -> Result<Dialled<W>, String> {
        let whom = expected.map_or(Whom::Anybody, Whom::Node);
        let link = Link::open(self.clone(), address.to_owned(), whom);
        let mut line = link.line();
        let tried = line.wait_until(|line| *line != Line::Down(link::NOT_TRIED.into()));
        let tried = W::Runtime::timeout(DIAL_MAX, tried).await;
        let why = match tried {
            Ok(Ok(Line::Up { key, hello })) => return Ok(Dialled { link, key, hello }),
            Ok(Ok(Line::Down(why))) => why.to_string(),
            Ok(Ok(Line::Removed)) => "it says that this node was removed".to_owned(),
            Ok(Err(_)) | Err(_) => format!("{address}: no answer in time"),
        };
        link.close();
        Err(why)
    }

    /// Whether a member of this cluster was removed from it.
    pub(crate) fn is_revoked(&self, hello: &Hello) -> bool {
        let standing = self.standing();
        hello.cluster.is_some()
            && hello.cluster == standing.hello.cluster
            && hello.raft_id.is_some_and(|raft_id| standing.revoked.contains(&raft_id))
    }

    /// The way to a member by its key.
    pub(crate) fn link_to(&self, key: NodeKey) -> Option<Link<W>> {
        let standing = self.standing();
        let known = standing.members.values().find(|known| known.contact.key == key);
        known.map(|known| known.link.clone())
    }

    /// The raft id of a member's key.
    pub(crate) fn member(&self, key: NodeKey) -> Option<u64> {
        let standing = self.standing();
        let known = standing.members.iter().find(|(_, known)| known.contact.key == key);
        known.map(|(id, _)| *id)
    }

    /// Whether to speak with whoever knocks.
    pub(crate) fn judge(&self, key: NodeKey, hello: &Hello) -> Greeting {
        let standing = self.standing();
        let ours = standing.hello.clone();
        if let Some(why) = ours.misfit(hello) {
            return Greeting::Refused(why);
        }
        if let (Some(raft_id), true) = (hello.raft_id, hello.cluster == ours.cluster)
            && ours.cluster.is_some()
            && standing.revoked.contains(&raft_id)
        {
            return Greeting::Removed { raft_id };
        }
        if key == self.key() {
            return Greeting::Refused(SAME_NODE.into());
        }
        drop(standing);
        match self.note_start(key, hello) {
            Ok(()) => Greeting::Welcome(Box::new(ours)),
            Err(why) => Greeting::Refused(why),
        }
    }

    /// Speaks with one process of each identity: the one that started last, as its storage counts;
    /// of two copies of one storage the one that came first.
    ///
    /// * Errors: why not with this one; logged here too, where people look first.
    pub(crate) fn note_start(&self, key: NodeKey, hello: &Hello) -> Result<(), String> {
        // A storage that is no member of a cluster yet may be a new one.
        let (Some(cluster), Some(raft_id)) = (hello.cluster, hello.raft_id) else { return Ok(()) };
        let Hello { boot, started, ref address, ref name, .. } = *hello;
        let start = Start { boot, started, address: address.clone() };
        let known = {
            let mut standing = self.standing();
            let known = standing.boots.entry((key, cluster, raft_id)).or_insert(start.clone());
            if boot > known.boot || (boot, started) == (known.boot, known.started) {
                *known = start;
                return Ok(());
            }
            known.clone()
        };
        let why = format!(
            "start {} of {name} at {} is known, this is start {boot} at {address}: {TWO_PROCESSES}",
            known.boot, known.address
        );
        self.note(format!("{name} twice"), |count| {
            tracing::warn!(node = %name, reason = why, count, "peer turned away");
        });
        Err(why)
    }

    /// A connection to another node has failed.
    pub(crate) fn note_failure(&self, address: &str, why: &str) {
        self.note(format!("{address} {why}"), |count| {
            tracing::warn!(address, reason = why, count, "no peer link");
        });
    }

    /// Somebody knocked who was not let in.
    pub(crate) fn note_stranger(&self, from: SocketAddr, why: &str) {
        self.note(format!("{} {why}", from.ip()), |count| {
            tracing::warn!(from = %from.ip(), reason = why, count, "peer turned away");
        });
    }

    fn note(&self, what: String, log: impl FnOnce(u64)) {
        let now = self.now();
        let mut standing = self.standing();
        if standing.notes.len() >= NOTES_MAX {
            standing.notes.retain(|_, (at, _)| now.since(*at) < NOTE_EVERY);
        }
        if standing.notes.len() >= NOTES_MAX {
            return;
        }
        let (at, count) = standing.notes.entry(what).or_insert((now, 0));
        *count += 1;
        if *count == 1 || now.since(*at) >= NOTE_EVERY {
            let happened = *count;
            (*at, *count) = (now, 1);
            drop(standing);
            log(happened);
        }
    }
}

impl<W: World> crate::raft::network::Members for Peers<W> {
    fn ask(
        &self,
        target: u64,
        ask: message::Ask,
        patience: Duration,
    ) -> crate::raft::network::Asking<'_> {
        Box::pin(async move {
            let missing = || link::AskError::Unreachable("not a known member".into());
            self.link(target).ok_or_else(missing)?.ask(&ask, patience).await
        })
    }
}
