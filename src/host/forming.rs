//! From an empty storage to a member of a cluster: alone, founded with others, or admitted.
//!
//! Nothing is decided here: [`cluster::founding`] says what to send and when to stop. What it
//! promises is on the disk before it is said. Source: DESIGN 6 (founding).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use clock::{Duration, Instant};
use cluster::founding::{Config, Effect, Founding, Genesis, Hello as SeedHello, Message, SeedList};
use cluster::identity::{NodeKey, PeerAddress};
use sabotage::Bug;
use sha2::{Digest as _, Sha256};
use store::Id;
use zeroize::Zeroizing;

use crate::disk::Disk;
use crate::identity::Identity;
use crate::mailbox::Inbox;
use crate::peer::link::{Line, Link, Whom};
use crate::peer::message::{Admission, Answer, Ask, Denial, Tell};
use crate::peer::{Contact, Peers, SAME_NODE};
use crate::runtime::{AsyncRuntime, Select3, WatchReceiver, detach};
use crate::storage::{Batch, Meta, Op};
use crate::world::{Kept, World};

/// How long a member may take to put an admission into the log.
const ADMISSION_MAX: Duration = Duration::from_secs(8);
/// Pause before the next member, or the same one, is asked for admission again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often a link that has come up is looked for while a node forms.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a node with an empty storage becomes a member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It founds one alone.
    Alone,
    /// It founds one with these, or is admitted by those that have one.
    Seeds(Vec<PeerAddress>),
    /// It is admitted by whoever is there, however long that takes.
    Join(PeerAddress),
}

/// What a forming node hears from others.
pub(crate) struct Heard {
    pub(crate) from: NodeKey,
    pub(crate) message: Message,
}

/// A member, and the key that seals keys at rest.
pub(crate) struct Formed {
    pub(crate) identity: Identity,
    pub(crate) data_key: Zeroizing<[u8; 32]>,
}

/// Why no member came of it.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
    /// What is kept beside it.
    #[error("what this node keeps for itself: {0}")]
    Kept(#[from] std::io::Error),
    /// The data key is missing or is none.
    #[error(
        "the data key is missing, but the storage holds what was sealed with it: bring it back \
         from where the folder came"
    )]
    DataKey,
    /// What was promised before cannot be read.
    #[error("the founding that was under way cannot be resumed: {0}")]
    Founding(String),
}

pub(crate) struct Forming<W: World> {
    pub(crate) world: W,
    pub(crate) disk: W::Disk,
    pub(crate) peers: Peers<W>,
    /// `tern@host`
    pub(crate) name: String,
    /// Where this node is reached.
    pub(crate) address: PeerAddress,
    /// The cluster that it was told to join, if it was.
    pub(crate) wanted: Option<Id>,
    pub(crate) heard: Inbox<W::Runtime, Heard>,
}

impl<W: World> Forming<W> {
    /// Becomes a member, or is one already.
    pub(crate) async fn form(&mut self, beginning: &Beginning) -> Result<Formed, FormError> {
        if let Some(identity) = Identity::read(self.disk.database())? {
            let data_key = self.kept_key()?.ok_or(FormError::DataKey)?;
            if let Beginning::Join(target) = beginning {
                tracing::info!(%target, "not asked for admission: this node has a cluster already");
            }
            return Ok(Formed { identity, data_key });
        }
        match beginning {
            Beginning::Alone => self.alone().await,
            Beginning::Seeds(seeds) => match SeedList::new(seeds.clone()) {
                Ok(list) => self.with_seeds(list).await,
                Err(_) => self.alone().await,
            },
            Beginning::Join(target) => {
                if *target == self.address {
                    tracing::warn!(
                        %target,
                        reason = SAME_NODE,
                        "not admitted: name a node of the cluster that this one shall join"
                    );
                }
                self.admitted(vec![target.to_string()]).await
            }
        }
    }

    fn kept_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>, FormError> {
        let Some(bytes) = self.world.kept(Kept::DataKey)? else { return Ok(None) };
        let key = bytes.as_slice().try_into().map_err(|_| FormError::DataKey)?;
        Ok(Some(Zeroizing::new(key)))
    }

    /// The key is kept before the identity: a member without it could open nothing.
    async fn begin(
        &self,
        identity: Identity,
        data_key: Zeroizing<[u8; 32]>,
    ) -> Result<Formed, FormError> {
        self.world.keep(Kept::DataKey, Some(&data_key[..]))?;
        identity.write(&self.disk).await?;
        Ok(Formed { identity, data_key })
    }

    fn contact(&self, raft_id: u64) -> Contact {
        let (name, address) = (self.name.clone(), self.address.to_string());
        Contact { raft_id, key: self.peers.key(), name, address }
    }

    async fn alone(&self) -> Result<Formed, FormError> {
        let data_key = match self.kept_key()? {
            Some(kept) => kept,
            None => Zeroizing::new(self.world.seed()),
        };
        let identity = Identity {
            cluster: draw_id(&self.world.seed()),
            raft_id: 1,
            founders: BTreeSet::from([1]),
            contacts: vec![self.contact(1)],
            genesis: None,
        };
        self.begin(identity, data_key).await
    }

    /// Asks one after the other until one admits this node.
    async fn admitted(&self, targets: Vec<String>) -> Result<Formed, FormError> {
        let links: Vec<Link<W>> = targets
            .iter()
            .map(|target| Link::open(self.peers.clone(), target.clone(), Whom::Anybody))
            .collect();
        let kept = self.disk.database().meta(Meta::Admission)?;
        let mut request = match kept.and_then(|bytes| bytes[..].try_into().ok()) {
            Some(request) if !sabotage::planted(Bug::AdmissionRenamed) => request,
            _ => self.draw_request().await?,
        };
        let admission = loop {
            let mut found = None;
            for link in &links {
                match link.ask(&Ask::Admit { request, cluster: self.wanted }, ADMISSION_MAX).await {
                    Ok(Answer::Admitted(admission)) => found = Some(*admission),
                    // The name stays: it may be decided yet, where somebody was asked who did not
                    // answer, and a second admission would take the place of the first.
                    Ok(Answer::No(Denial::Because(why))) => {
                        tracing::warn!(reason = %why, "not admitted here");
                    }
                    Ok(Answer::No(Denial::Refused(why))) => {
                        tracing::warn!(reason = %why, "not admitted");
                        // The log keeps its answer: under the same name it would be refused for
                        // ever, also when nothing stands in the way any more.
                        request = self.draw_request().await?;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            match found {
                Some(admission) => break admission,
                None => W::Runtime::sleep(ASK_AGAIN).await,
            }
        };
        links.iter().for_each(Link::close);
        let Admission { cluster, raft_id, data_key, members } = admission;
        let identity = Identity {
            cluster,
            raft_id,
            founders: BTreeSet::new(),
            contacts: members,
            genesis: None,
        };
        self.begin(identity, Zeroizing::new(data_key)).await
    }

    /// A name under which to ask the log for admission. It is kept before it is used: whom this
    /// node asked before a restart may still put that question to the log, and under two names
    /// the later entry would take back what the other gave.
    async fn draw_request(&self) -> Result<[u8; 16], FormError> {
        let mut request = [0; 16];
        request.copy_from_slice(&self.world.seed()[..16]);
        let value = Bytes::copy_from_slice(&request);
        let put = Op::PutMeta { key: Meta::Admission, value };
        self.disk.commit(Batch::new().with(put)).await?;
        Ok(request)
    }

    async fn with_seeds(&mut self, list: SeedList) -> Result<Formed, FormError> {
        let addresses = list.addresses().to_vec();
        let own = self.address.clone();
        let links: BTreeMap<PeerAddress, Link<W>> = addresses
            .iter()
            .filter(|address| **address != own)
            .map(|address| {
                let link = Link::open(self.peers.clone(), address.to_string(), Whom::Anybody);
                (address.clone(), link)
            })
            .collect();
        let data_key = Zeroizing::new(self.world.seed());
        let cluster_id = draw_id(&self.world.seed());
        let config = Config {
            key: self.peers.key(),
            name: self.name.clone(),
            address: own,
            seeds: list,
            cluster_id: cluster_id.0,
            sealed_key: self.seal(cluster_id, &data_key),
        };
        let seeds = config.seeds.hash();
        self.peers.introduce(|hello| hello.seeds = Some(seeds));
        let durable = self.disk.database().meta(Meta::Founding)?;
        let founding = Founding::new(self.now(), config, self.world.seed(), durable.as_deref());
        let founding = founding.map_err(|error| FormError::Founding(error.to_string()))?;
        let outcome = self.agree(founding, &links).await?;
        self.peers.introduce(|hello| hello.seeds = None);
        detach::<W::Runtime>(async move {
            // Time for the last messages to leave.
            W::Runtime::sleep(ASK_AGAIN).await;
            links.values().for_each(Link::close);
        });
        match outcome {
            Outcome::Decided(genesis) => self.as_founder(genesis).await,
            Outcome::Elsewhere(address) => {
                let others = addresses.iter().filter(|other| **other != self.address);
                let others = others.map(ToString::to_string);
                let asked: Vec<String> = [address.clone()]
                    .into_iter()
                    .chain(others.filter(|other| *other != address))
                    .collect();
                self.admitted(asked).await
            }
        }
    }

    fn now(&self) -> Instant {
        self.world.now().instant
    }

    /// Carries messages between the seeds until there is an end.
    async fn agree(
        &mut self,
        mut founding: Founding,
        links: &BTreeMap<PeerAddress, Link<W>>,
    ) -> Result<Outcome, FormError> {
        let mut greeted = BTreeMap::new();
        loop {
            if let Some(outcome) = self.do_effects(&mut founding, links).await? {
                return Ok(outcome);
            }
            self.greet(&mut founding, links, &mut greeted);
            let look = self.now() + LOOK_EVERY;
            let wake = founding.poll_timeout().map_or(look, |(at, _)| at.min(look));
            let ended = core::future::pending::<()>();
            let next = W::Runtime::select3(self.heard.take(), self.world.sleep_until(wake), ended);
            match next.await {
                Select3::First(Some(all)) => {
                    for Heard { from, message } in all {
                        founding.handle_message(self.now(), from, message);
                    }
                }
                Select3::First(None) => core::future::pending().await,
                Select3::Second(()) | Select3::Third(()) => {}
            }
            founding.handle_timeout(self.now());
        }
    }

    /// Tells the founding of each link that has come up.
    fn greet(
        &self,
        founding: &mut Founding,
        links: &BTreeMap<PeerAddress, Link<W>>,
        greeted: &mut BTreeMap<PeerAddress, Line>,
    ) {
        for (address, link) in links {
            let line = link.line().borrow_watched().clone();
            if greeted.get(address) == Some(&line) {
                continue;
            }
            if let Line::Up { key, hello } = &line
                // Whoever answers here must say that this is its address.
                && hello.address == address.to_string()
            {
                let hello = SeedHello {
                    name: hello.name.clone(),
                    address: hello.address.clone(),
                    seeds: hello.seeds.unwrap_or_default(),
                    cluster: hello.cluster.map(|id| id.0),
                };
                founding.handle_hello(self.now(), *key, &hello);
            }
            greeted.insert(address.clone(), line);
        }
    }

    async fn do_effects(
        &self,
        founding: &mut Founding,
        links: &BTreeMap<PeerAddress, Link<W>>,
    ) -> Result<Option<Outcome>, FormError> {
        while let Some(effect) = founding.poll_effect() {
            match effect {
                Effect::Send { to, message } => {
                    if let Some(link) = links.values().find(|link| leads_to(link, to)) {
                        link.tell(&Tell::Founding(message.to_bytes()));
                    }
                }
                Effect::Persist { token, bytes } => {
                    let value = Bytes::from(bytes);
                    let put = Op::PutMeta { key: Meta::Founding, value };
                    self.disk.commit(Batch::new().with(put)).await?;
                    founding.handle_persisted(self.now(), token);
                }
                Effect::Warn(warning) => tracing::warn!(reason = %warning, "founding"),
                Effect::Decided(genesis) => {
                    let decided = Message::Decided { genesis: genesis.clone() }.to_bytes();
                    for link in links.values() {
                        link.tell(&Tell::Founding(decided.clone()));
                    }
                    return Ok(Some(Outcome::Decided(genesis)));
                }
                Effect::AskAdmission { address, .. } => {
                    return Ok(Some(Outcome::Elsewhere(address)));
                }
            }
        }
        Ok(None)
    }

    async fn as_founder(&self, genesis: Genesis) -> Result<Formed, FormError> {
        let own = genesis.raft_id(self.peers.key());
        let Some(raft_id) = own else {
            let mut founders = addresses_of(&genesis);
            founders.retain(|founder| *founder != self.address.to_string());
            return self.admitted(founders).await;
        };
        let cluster = Id(genesis.cluster_id);
        let data_key = self.unseal(cluster, &genesis.sealed_key).ok_or_else(|| {
            FormError::Founding("the agreed data key does not open: another cookie?".into())
        })?;
        let identity = Identity {
            cluster,
            raft_id,
            founders: genesis.voters.iter().map(|voter| voter.raft_id).collect(),
            contacts: contacts_of(&genesis),
            genesis: Some(minicbor::to_vec(&genesis).expect("writing to a vector cannot fail")),
        };
        self.begin(identity, data_key).await
    }

    /// The data key of a cluster to come, sealed with what only its nodes know.
    fn seal(&self, cluster: Id, data_key: &[u8; 32]) -> Vec<u8> {
        let seed = self.world.seed();
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&seed[..24]);
        let payload = Payload { msg: data_key, aad: &cluster.0 };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("a key is far below the cipher's limit");
        [&nonce[..], &sealed].concat()
    }

    fn unseal(&self, cluster: Id, sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, bytes) = sealed.split_at_checked(24)?;
        let nonce: [u8; 24] = nonce.try_into().ok()?;
        let payload = Payload { msg: bytes, aad: &cluster.0 };
        let opened = Zeroizing::new(self.cipher().decrypt(&XNonce::from(nonce), payload).ok()?);
        Some(Zeroizing::new(opened.as_slice().try_into().ok()?))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let credentials = self.peers.credentials();
        let mut hasher = Sha256::new();
        hasher.update(b"tern data key of a genesis");
        hasher.update(credentials.cookie.expose());
        let key: [u8; 32] = hasher.finalize().into();
        XChaCha20Poly1305::new((&key).into())
    }
}

enum Outcome {
    Decided(Genesis),
    Elsewhere(String),
}

/// The founders as others find them.
pub(crate) fn contacts_of(genesis: &Genesis) -> Vec<Contact> {
    let voters = genesis.voters.iter();
    voters
        .map(|voter| Contact {
            raft_id: voter.raft_id,
            key: voter.key,
            name: voter.name.clone(),
            address: voter.address.clone(),
        })
        .collect()
}

fn addresses_of(genesis: &Genesis) -> Vec<String> {
    genesis.voters.iter().map(|voter| voter.address.clone()).collect()
}

fn draw_id(seed: &[u8; 32]) -> Id {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&seed[..16]);
    Id::from_random(bytes)
}

/// Whether a link is up and at its other end is this node.
fn leads_to<W: World>(link: &Link<W>, node: NodeKey) -> bool {
    matches!(&*link.line().borrow_watched(), Line::Up { key, .. } if *key == node)
}
