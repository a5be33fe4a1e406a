//! What this node answers when others ask: Raft's questions, proposals to be put into the log,
//! admissions, rows of the event log.
//!
//! Before there is a cluster it answers the founding alone. Whoever is of another cluster is
//! answered nothing that concerns this one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use clock::Duration;
use cluster::founding::{Message, answer_as_member};
use cluster::identity::{NodeKey, PeerAddress};
use store::limits::MEMBERS_MAX;
use store::{Command, Member, MemberStatus, Nameplate, NodeId, Proposal, Reply, RequestId, State};

use crate::disk::Disk;
use crate::forming::Heard;
use crate::identity::{Identity, Intent};
use crate::mailbox::Mailbox;
use crate::node_loop::Local;
use crate::peer::Peers;
use crate::peer::door::{Caller, Desk};
use crate::peer::link::{ANOTHER_MEMBER, Link, Whom};
use crate::peer::message::{Admission, Answer, Ask, Denial, Hello, Row, Tell};
use crate::proposer::Told;
use crate::quorum::read_index;
use crate::runtime::{AsyncRuntime, detach, once};
use crate::service::ConsensusOf;
use crate::world::{Kept, World};

/// How long the log may take to decide what another node asked for.
const DECIDE_MAX: Duration = Duration::from_secs(6);
/// How long the leader may take to say how far the others are.
const LAGS_MAX: Duration = Duration::from_millis(500);
/// Why a node admits nobody.
const JOINING: &str = "this node is about to join another cluster itself";
/// Why a node admits nobody who was told to join the cluster that it was in.
const ELSEWHERE: &str = "it is no member of that cluster any more";
/// Why a node that has left its cluster admits nobody who did not mean it.
const ALONE: &str = "it is no member of its cluster any more and stays alone until an operator \
                     has one of the two join the other";
/// How often, and how long apart, it is tried to reach somebody who is no member.
const TELL_TRIES: u32 = 10;
const TELL_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of rows in one answer.
const ROWS_BYTES_MAX: usize = 1 << 20;
/// Messages of other machines that may wait for the loop.
const UNHEARD_MAX: usize = 16_384;
/// Rows in one answer.
const ROWS_MAX: usize = 2_000;

/// What there is once the node is a member.
pub(crate) struct Office<W: World> {
    pub(crate) consensus: ConsensusOf<W>,
    pub(crate) identity: Identity,
    pub(crate) data_key: zeroize::Zeroizing<[u8; 32]>,
    pub(crate) address: PeerAddress,
    pub(crate) disk: W::Disk,
    pub(crate) local: Mailbox<W::Runtime, Local<W::Runtime>>,
    /// This node asks another to come: it goes nowhere itself.
    pub(crate) inviting: AtomicBool,
    pub(crate) told: Mailbox<W::Runtime, Told<W::Runtime>>,
    /// What other machines have said and the loop has not taken.
    pub(crate) unheard: Arc<AtomicUsize>,
}

/// The desk of one node.
pub(crate) struct FrontDesk<W: World> {
    pub(crate) peers: Peers<W>,
    pub(crate) heard: Mailbox<W::Runtime, Heard>,
    pub(crate) office: OnceLock<Arc<Office<W>>>,
}

impl<W: World> FrontDesk<W> {
    /// A desk that hears of a founding, until there is an office.
    pub(crate) fn new(peers: Peers<W>, heard: Mailbox<W::Runtime, Heard>) -> Arc<Self> {
        Arc::new(Self { peers, heard, office: OnceLock::new() })
    }

    fn founding(&self, caller: &Caller, bytes: &[u8]) {
        let Ok(message) = Message::from_bytes(bytes) else { return };
        let Some(office) = self.office.get() else {
            return self.heard.push(Heard { from: caller.key, message });
        };
        let genesis = office.identity.genesis.as_deref();
        let genesis = genesis.and_then(|bytes| minicbor::decode(bytes).ok());
        let cluster = office.identity.cluster.0;
        let answer = answer_as_member(cluster, &office.address, genesis.as_ref(), &message);
        let Some(tell) = answer.map(|answer| Tell::Founding(answer.to_bytes())) else { return };
        match self.peers.link_to(caller.key) {
            Some(link) => drop(link.tell(&tell)),
            None => self.tell_stranger(caller, tell),
        }
    }

    /// Answers somebody who forms still and is no member: he has missed what was decided, and there
    /// is no link to him.
    fn tell_stranger(&self, caller: &Caller, tell: Tell) {
        let address = caller.hello.address.clone();
        let link = Link::open(self.peers.clone(), address, Whom::Node(caller.key));
        detach::<W::Runtime>(async move {
            for _ in 0..TELL_TRIES {
                let told = link.tell(&tell);
                W::Runtime::sleep(TELL_PAUSE).await;
                if told {
                    break;
                }
            }
            link.close();
        });
    }
}

impl<W: World> Desk for FrontDesk<W> {
    async fn answer(&self, caller: &Caller, ask: Ask) -> Answer {
        let Some(office) = self.office.get() else { return Answer::No(Denial::NotReady) };
        if let Ask::Admit { request, cluster } = ask {
            if cluster.is_some_and(|meant| meant != office.identity.cluster) {
                return Answer::No(Denial::Because(ELSEWHERE.to_owned()));
            }
            return office.admit(&self.peers, caller, request).await;
        }
        if let Ask::Invite { address } = ask {
            return office.invited(&self.peers, caller, address).await;
        }
        if ask == Ask::MayJoin {
            return match office.may_admit(&self.peers, caller.key, &caller.hello).await {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(Denial::Because(why)),
            };
        }
        // Who is not known yet may have been admitted by an entry that has not come here.
        if caller.hello.cluster != Some(office.identity.cluster) {
            return Answer::No(Denial::Because("another cluster".into()));
        }
        if office.is_mistaken(caller) {
            return Answer::No(Denial::Because(ANOTHER_MEMBER.into()));
        }
        match ask {
            Ask::Forward(proposals) => office.forward(proposals).await,
            Ask::Rows { from, to } => office.rows(from, to),
            Ask::Alive
            | Ask::Append(_)
            | Ask::Vote(_)
            | Ask::PreVote(_)
            | Ask::Transfer(_)
            | Ask::SnapshotBegin(_)
            | Ask::SnapshotPiece { .. }
            | Ask::SnapshotEnd { .. }
            | Ask::ReadIndex
            | Ask::MayJoin
            | Ask::Admit { .. }
            | Ask::Invite { .. } => {
                office.consensus.answer(ask).await.unwrap_or(Answer::No(Denial::NotReady))
            }
            Ask::Lags => office.own_lags(),
        }
    }

    async fn hear(&self, caller: &Caller, tell: Tell) {
        match tell {
            Tell::Founding(bytes) => self.founding(caller, &bytes),
            Tell::Node(bytes) => {
                let Some(office) = self.office.get() else { return };
                let Some(from) = self.peers.member(caller.key) else { return };
                let same = caller.hello.cluster == Some(office.identity.cluster);
                if same && caller.hello.raft_id == Some(from) && !office.is_mistaken(caller) {
                    office.hear(from, bytes);
                }
            }
        }
    }
}

impl<W: World> Office<W> {
    /// Never waits: Raft's questions come over the same connection. What is too much is dropped, as
    /// the network may drop it; whoever said it keeps what matters until the log has it.
    fn hear(&self, from: u64, bytes: Vec<u8>) {
        if self.unheard.fetch_add(1, Ordering::Relaxed) >= UNHEARD_MAX {
            self.unheard.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.local.push(Local::Heard { from, bytes: bytes.into() });
    }

    /// Whether the caller means the member that this node was before it left and came back empty.
    /// That one's entries are gone, and its votes; to answer in its place is to vouch for them.
    fn is_mistaken(&self, caller: &Caller) -> bool {
        let own = self.identity.raft_id;
        caller.hello.to.is_some_and(|to| to != own)
    }

    async fn forward(&self, proposals: Vec<Proposal>) -> Answer {
        let status = self.consensus.status();
        if status.leader != Some(status.id) {
            return Answer::No(Denial::NotLeader(status.leader));
        }
        let (sender, answer) = once::<W::Runtime, _>();
        self.told.push(Told::Forwarded(proposals, sender));
        answer.await.unwrap_or(Answer::No(Denial::NotReady))
    }

    /// As many rows as fit, without a gap: whoever asks must not take a missing one for none.
    fn rows(&self, from: u64, to: u64) -> Answer {
        let rows = match self.disk.database().event_rows(from, ROWS_MAX) {
            Ok(rows) => rows,
            Err(error) => return Answer::No(Denial::Because(error.to_string())),
        };
        let next = rows.first().map(|(sequence, _)| *sequence);
        if next != Some(from) {
            return Answer::RowsLacking { next };
        }
        let mut bytes = 0;
        let within = (from..to).zip(rows).take_while(|(wanted, (sequence, record))| {
            let first = bytes == 0;
            bytes += record.len();
            wanted == sequence && (first || bytes <= ROWS_BYTES_MAX)
        });
        let row = |(_, (sequence, record)): (u64, (u64, bytes::Bytes))| Row {
            sequence,
            record: record.into(),
        };
        Answer::Rows(within.map(row).collect())
    }

    /// Puts a command into the log and waits for its answer.
    pub(crate) async fn decide(&self, request: RequestId, command: Command) -> Option<Reply> {
        let (sender, answer) = once::<W::Runtime, _>();
        let proposal = Proposal { request, command };
        self.local.push(Local::Decide(proposal, sender));
        let decided = W::Runtime::timeout(DECIDE_MAX, answer).await;
        decided.ok().and_then(Result::ok)
    }

    /// Looks at the state as of now.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = once::<W::Runtime, _>();
        let look = move |state: &State| {
            crate::runtime::OneshotSender::send(sender, look(state)).ok();
        };
        self.local.push(Local::Look(Box::new(look)));
        answer.await.ok()
    }

    async fn admit(&self, peers: &Peers<W>, caller: &Caller, request: [u8; 16]) -> Answer {
        let because = |why: &str| Answer::No(Denial::Because(why.to_owned()));
        if caller.hello.cluster.is_some() {
            return because("it has a cluster");
        }
        if peers.hello().joining {
            return because(JOINING);
        }
        if !caller.hello.joining && self.stays_alone(peers).await {
            return because(ALONE);
        }
        let plate = Nameplate {
            key: caller.key.0,
            name: caller.hello.name.clone(),
            address: caller.hello.address.clone(),
        };
        let wanted = plate.clone();
        let alive = peers.lively();
        let Some(replaces) = self.look(move |state| replaced(state, &wanted, &alive)).await else {
            return Answer::No(Denial::NotReady);
        };
        let feature_level = caller.hello.feature_level;
        let command = Command::AdmitMember { plate, feature_level, replaces };
        let id = match self.decide(RequestId(request), command).await {
            Some(Reply::Admitted(id)) => id,
            Some(Reply::Refused(refusal)) => {
                return Answer::No(Denial::Refused(refusal.to_string()));
            }
            Some(_) | None => return Answer::No(Denial::NoQuorum),
        };
        // The log answers a question that comes again as it did then: the place may be gone by now,
        // or taken by the asker before it lost its log.
        if self.look(move |state| is_taken(state, id)).await.unwrap_or(false) {
            let why = "that admission is used up: ask under another name";
            return Answer::No(Denial::Refused(why.to_owned()));
        }
        // It may have begun meanwhile; the newcomer asks others, or this node's new cluster.
        if peers.hello().joining {
            return because(JOINING);
        }
        let members = self.look(contacts).await.unwrap_or_default();
        Answer::Admitted(Box::new(Admission {
            cluster: self.identity.cluster,
            raft_id: id.0,
            data_key: *self.data_key,
            members,
        }))
    }

    /// Whether this node was told that it is no member any more and is a cluster of its own since.
    /// Whoever finds it in a list of seeds looks for the others: two clusters would come of it.
    async fn stays_alone(&self, peers: &Peers<W>) -> bool {
        let kept = peers.world().kept(Kept::Intent).ok().flatten();
        let is_left = kept.and_then(|bytes| Intent::decode(&bytes)) == Some(Intent::Alone);
        is_left && self.look(|state| state.live_members().count()).await == Some(1)
    }

    /// Another node asks this one to come.
    async fn invited(&self, peers: &Peers<W>, caller: &Caller, address: String) -> Answer {
        let free = self.look(|state| (state.live_members().count(), state.device_count())).await;
        match free {
            Some((1, 0)) => {}
            Some(_) => return Answer::No(Denial::Because("it has something to lose".into())),
            None => return Answer::No(Denial::NotReady),
        }
        // Nobody sets data aside to go where he cannot arrive.
        if let Err(why) = peers.dial(&address, Some(caller.key)).await {
            let why = format!("it does not reach this node at {address} (cluster.address?): {why}");
            return Answer::No(Denial::Because(why));
        }
        if self.inviting.load(Ordering::SeqCst) || !peers.begin_joining() {
            return Answer::No(Denial::NotReady);
        }
        let cluster = caller.hello.cluster;
        self.local.push(Local::Join { target: address, cluster, discard_local: false });
        Answer::Yes
    }

    /// Whether a node could be admitted that sets its own cluster aside: nobody does so in vain.
    ///
    /// * Errors: why not, in words.
    pub(crate) async fn may_admit(
        &self,
        peers: &Peers<W>,
        key: NodeKey,
        hello: &Hello,
    ) -> Result<(), String> {
        if peers.hello().joining {
            return Err(JOINING.to_owned());
        }
        if !self.consensus.is_alone() && !self.read_barrier(peers).await {
            return Err("no quorum: nobody can be admitted now".to_owned());
        }
        // Members must reach it where it says that it is.
        if let Err(why) = peers.dial(&hello.address, Some(key)).await {
            let (name, address) = (&hello.name, &hello.address);
            return Err(format!("{name} is not reached at {address} (cluster.address?): {why}"));
        }
        let (name, level, alive) = (hello.name.clone(), hello.feature_level, peers.lively());
        let own = self.identity.raft_id;
        let refused = self.look(move |state| {
            let lives = |id: NodeId| id.0 == own || alive.contains(&id.0);
            let mut members = state.live_members();
            if members.any(|(id, member)| member.plate.name == name && lives(id)) {
                return Some(format!("a member with the same name exists already: {name}"));
            }
            if state.live_members().count() >= MEMBERS_MAX {
                return Some(format!("a cluster has {MEMBERS_MAX} members at most"));
            }
            let needed = state.feature_level();
            (level < needed).then(|| {
                format!("the cluster uses feature level {needed}, {name} knows {level}: upgrade it")
            })
        });
        match refused.await {
            Some(None) => Ok(()),
            Some(Some(why)) => Err(why),
            None => Err("it is starting".to_owned()),
        }
    }

    /// How many entries each member lacks, if this node leads.
    fn own_lags(&self) -> Answer {
        let status = self.consensus.status();
        if status.leader != Some(status.id) {
            return Answer::No(Denial::NotLeader(status.leader));
        }
        Answer::Lags(self.consensus.composition().lag)
    }

    /// How many entries each member lacks, as the leader says.
    pub(crate) async fn lags(&self, peers: &Peers<W>) -> BTreeMap<u64, u64> {
        let mut answer = Some(self.own_lags());
        if let Some(Answer::No(Denial::NotLeader(Some(leader)))) = answer {
            answer = match peers.link(leader) {
                Some(link) => link.ask(&Ask::Lags, LAGS_MAX).await.ok(),
                None => None,
            };
        }
        let Some(Answer::Lags(lags)) = answer else { return BTreeMap::new() };
        lags
    }

    /// Waits until this node has applied all that was decided by now, whoever leads.
    ///
    /// * Returns false if there is no quorum, or this node does not catch up.
    pub(crate) async fn read_barrier(&self, peers: &Peers<W>) -> bool {
        match read_index::<W>(&self.consensus, peers).await {
            Some(index) => self.consensus.wait_applied(index).await,
            None => false,
        }
    }
}

/// The members as others find them.
pub(crate) fn contacts(state: &State) -> Vec<crate::peer::Contact> {
    let contact = |(id, member): (NodeId, &Member)| crate::peer::Contact {
        raft_id: id.0,
        key: NodeKey(member.plate.key),
        name: member.plate.name.clone(),
        address: member.plate.address.clone(),
    };
    state.live_members().map(contact).collect()
}

/// The member in whose place a node without a log votes: the one with its key, whose log is lost,
/// or one with its name that cannot be reached.
fn replaced(state: &State, plate: &Nameplate, alive: &[u64]) -> Option<NodeId> {
    let mut candidates = state.live_members().filter(|(id, member)| {
        let same_key = member.plate.key == plate.key;
        let same_name = member.plate.name == plate.name && !alive.contains(&id.0);
        let on_its_way = matches!(member.status, MemberStatus::Joining | MemberStatus::Leaving);
        (same_key || same_name) && !on_its_way
    });
    candidates.next().map(|(id, _)| id)
}

/// Whether whoever was admitted under this id has begun as that member, or is none any more.
fn is_taken(state: &State, id: NodeId) -> bool {
    let begun = |member: &Member| member.status != MemberStatus::Joining || member.boot > 0;
    state.member(id).is_some_and(begun)
}
