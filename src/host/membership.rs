//! `cluster join`, `leave`, `remove` and `status` on a running node.
//!
//! Who moves says [`cluster::join`]; here both sides are asked, and what follows is set going. A
//! join or a leave ends with a new start of the moving node, so the answer to the call may be
//! *underway*: the list of members shows the end. Source: DESIGN 6; requirements A.3.3; danger B17.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use clock::Duration;
use cluster::identity::{NodeName, PeerAddress};
use cluster::join::{
    IGNORED, JOINED, JoinRefusal, LEFT, REMOVED, RemoveRefusal, RemoveVerdict, Side, Verdict,
    decide_join, decide_leave, decide_remove,
};
use node::ClusterAsk;
use node::api::wire::{ClusterInfo, MemberInfo, MembershipAnswer};
use node::api::{ApiError, Outcome, Unavailable};
use store::{Command, Member, MemberStatus, NodeId, Reply, RequestId};

use crate::desk::{FrontDesk, Office};
use crate::identity::Intent;
use crate::node_loop::Local;
use crate::peer::link::BROKEN;
use crate::peer::message::{Answer, Ask, Denial, Hello};
use crate::peer::{Dialled, Peers, SAME_NODE};
use crate::runtime::AsyncRuntime;
use crate::service::CallReply;
use crate::world::{Kept, World};

/// How long the other side may take to answer one question.
const ASK_MAX: Duration = Duration::from_secs(4);
/// How long a side that is joining somebody at this moment is waited for.
const SETTLE_MAX: Duration = Duration::from_secs(12);
/// Pause before such a side is asked again.
const SETTLE_LOOK: Duration = Duration::from_millis(200);
/// How long the steward may take to let a removed member go, before the call is answered.
const REMOVAL_MAX: Duration = Duration::from_secs(15);
/// How often that is looked at.
const REMOVAL_LOOK: Duration = Duration::from_millis(50);
/// Pause before a node that wants to leave says so again.
const LEAVE_AGAIN: Duration = Duration::from_secs(1);

/// Does what a call asks about members.
pub(crate) struct Registrar<W: World> {
    pub(crate) world: W,
    pub(crate) desk: Arc<FrontDesk<W>>,
}

/// Whom the operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    /// `n2@host`, if he gave one.
    name: Option<NodeName>,
    address: PeerAddress,
    has_port: bool,
}

/// What came of one try.
enum Tried {
    /// This is the answer.
    Answer(MembershipAnswer),
    /// The other side is busy: ask again in a moment.
    Later(JoinRefusal),
    /// Nobody answers; whoever was busy before may be starting anew.
    Down(ApiError),
    /// Who was there a moment ago has hung up, perhaps to start anew.
    Gone(ApiError),
}

impl Target {
    /// Reads `n2`, `n2@host`, `n2@host:port` or `host:port`; a bare name means a node of this host.
    fn parse(text: &str, local_host: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, place) = match text.split_once('@') {
            Some((name, place)) => (Some(name), place),
            None if text.contains(':') || text.parse::<std::net::IpAddr>().is_ok() => (None, text),
            None => (Some(text), local_host),
        };
        let (host, port) = match place.rsplit_once(':') {
            // Colons without brackets are of an IPv6 address.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            Some(_) | None => (place, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let address = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let address = address.parse::<PeerAddress>().map_err(|error| error.to_string())?;
        let name = name.map(|name| format!("{name}@{bare}").parse::<NodeName>());
        let name = name.transpose().map_err(|error| error.to_string())?;
        Ok(Self { name, address, has_port: port.is_some() })
    }
}

impl<W: World> Registrar<W> {
    /// Answers a call.
    pub(crate) async fn answer(&self, ask: ClusterAsk) -> CallReply {
        let Some(office) = self.desk.office.get() else { return Err(starting()) };
        match ask {
            ClusterAsk::Describe => self.describe(office).await,
            ClusterAsk::Join { target, discard_local, attach } => {
                self.join(office, &target, discard_local, attach).await
            }
            ClusterAsk::Leave => self.leave(office).await,
            ClusterAsk::Remove { member } => self.remove(office, &member).await,
        }
    }

    fn peers(&self) -> &Peers<W> {
        &self.desk.peers
    }

    fn own_name(&self) -> Result<NodeName, ApiError> {
        let name = self.peers().hello().name;
        name.parse().map_err(|_| ApiError::Conflict(format!("this node's name is none: {name}")))
    }

    async fn describe(&self, office: &Arc<Office<W>>) -> CallReply {
        let own = office.identity.raft_id;
        let status = office.consensus.status();
        let composition = office.consensus.composition();
        let lags = office.lags(self.peers()).await;
        let lively = self.peers().lively();
        let is_running = move |id: u64| id == own || lively.contains(&id);
        let reached = composition.voters.iter().filter(|id| is_running(**id)).count();
        let quorum = status.leader.is_some() && reached > composition.voters.len() / 2;
        let leader = status.leader;
        let looked = office.look(move |state| {
            let cluster = state.cluster().map(|one| (one.id.to_string(), one.name.clone()));
            let member = |(id, member): (NodeId, &Member)| MemberInfo {
                name: member.plate.name.clone(),
                node_id: id.0,
                status: member.status.name().to_owned(),
                address: member.plate.address.clone(),
                boot: member.boot,
                running: is_running(id.0),
                votes: composition.voters.contains(&id.0),
                leads: leader == Some(id.0),
                lag: if leader == Some(id.0) { Some(0) } else { lags.get(&id.0).copied() },
            };
            (cluster, state.live_members().map(member).collect::<Vec<_>>())
        });
        let (cluster, members) = looked.await.ok_or_else(starting)?;
        let (cluster_id, cluster_name) = cluster.unwrap_or_default();
        let advice = advice(&members, quorum);
        let name = self.peers().hello().name;
        let info = ClusterInfo {
            cluster_id,
            cluster_name,
            name,
            node_id: own,
            quorum,
            leader,
            members,
            advice,
        };
        Ok(Outcome::Cluster(Box::new(info)))
    }

    async fn join(
        &self,
        office: &Arc<Office<W>>,
        text: &str,
        discard_local: bool,
        attach: bool,
    ) -> CallReply {
        let own = self.own_name()?;
        let target = Target::parse(text, own.host()).map_err(|why| {
            ApiError::invalid("node", format!("{why} (name@host, name@host:port or host:port)"))
        })?;
        let elsewhere = target.has_port && target.address != office.address;
        if target.address == office.address || (target.name.as_ref() == Some(&own) && !elsewhere) {
            return said("ignored", IGNORED, own.as_str());
        }
        let known = self.peers().contacts().into_iter().map(|one| one.name);
        if let Some(name) = &target.name
            && known.into_iter().any(|one| one == name.as_str())
        {
            return Err(refused(&JoinRefusal::AlreadyInCluster(name.clone())));
        }
        let until = self.peers().now() + SETTLE_MAX;
        let mut was_busy = false;
        loop {
            match self.try_join(office, &target, discard_local, attach).await? {
                Tried::Answer(answer) => return Ok(Outcome::Membership(answer)),
                Tried::Later(refusal) if self.peers().now() >= until => {
                    return Err(refused(&refusal));
                }
                Tried::Down(error) if !was_busy || self.peers().now() >= until => {
                    return Err(error);
                }
                Tried::Gone(error) if self.peers().now() >= until => return Err(error),
                Tried::Later(_) | Tried::Down(_) | Tried::Gone(_) => {
                    was_busy = true;
                    W::Runtime::sleep(SETTLE_LOOK).await;
                }
            }
        }
    }

    async fn try_join(
        &self,
        office: &Arc<Office<W>>,
        target: &Target,
        discard_local: bool,
        attach: bool,
    ) -> Result<Tried, ApiError> {
        let own = self.own_name()?;
        let asked = target.name.clone();
        let (dialled, them) = match self.dial(&target.address).await {
            Ok(reached) => reached,
            Err(why) if why.contains(SAME_NODE) => return Ok(ignored(&own)),
            Err(why) if why.contains("secret mismatch") || asked.is_none() => {
                return Err(ApiError::Conflict(format!("Failed to join the cluster: {why}")));
            }
            Err(why) => {
                let down = JoinRefusal::NodeDown(asked.unwrap_or(own));
                let error = ApiError::Conflict(format!("{down} ({why})"));
                return Ok(if why == BROKEN { Tried::Gone(error) } else { Tried::Down(error) });
            }
        };
        let Theirs { name, side, hello } = them;
        if asked.as_ref().is_some_and(|asked| *asked != name) {
            let down = JoinRefusal::NodeDown(asked.unwrap_or(own));
            let why = format!("{down} ({} is '{name}')", target.address);
            return Err(ApiError::Conflict(why));
        }
        if name == own {
            return Err(refused(&JoinRefusal::SameName(name)));
        }
        let Some(side) = side else {
            // It sets its data aside for somebody, perhaps for this node.
            if hello.joining {
                return Ok(Tried::Later(JoinRefusal::Busy(name)));
            }
            return Err(refused(&JoinRefusal::Starting(name)));
        };
        let us = self.side(office, own, discard_local).await?;
        let mut verdict = decide_join(&name, &us, Some(&side));
        if verdict == Verdict::WeJoinThem && attach {
            verdict = attached(&us, &side)?;
        }
        match verdict {
            Verdict::Ignore => Ok(ignored(&us.name)),
            Verdict::Refuse(busy @ JoinRefusal::Busy(_)) => Ok(Tried::Later(busy)),
            Verdict::Refuse(refusal) => Err(refused(&refusal)),
            Verdict::TheyJoinUs => self.invite(office, &dialled, &name, &hello).await,
            Verdict::WeJoinThem => {
                let place = target.address.to_string();
                self.move_to(office, &dialled, (&us, &name), place).await
            }
        }
    }

    /// This node as a side of a join.
    async fn side(
        &self,
        office: &Arc<Office<W>>,
        name: NodeName,
        discard_local: bool,
    ) -> Result<Side, ApiError> {
        let counted = office.look(|state| (state.live_members().count(), state.device_count()));
        let (members, devices) = counted.await.ok_or_else(starting)?;
        Ok(Side {
            key: self.peers().key(),
            name,
            cluster_id: office.identity.cluster.0,
            members: u32::try_from(members).unwrap_or(u32::MAX),
            devices: u64::try_from(devices).unwrap_or(u64::MAX),
            is_joining: self.peers().hello().joining,
            discard_local,
        })
    }

    /// Reaches whoever is there.
    async fn dial(&self, address: &PeerAddress) -> Result<(Dialled<W>, Theirs), String> {
        let dialled = self.peers().dial(&address.to_string(), None).await?;
        let (key, hello) = (dialled.key, Arc::clone(&dialled.hello));
        let name: NodeName = hello
            .name
            .parse()
            .map_err(|error| format!("{address} calls itself {}: {error}", hello.name))?;
        let side = hello.cluster.map(|cluster| Side {
            key,
            name: name.clone(),
            cluster_id: cluster.0,
            members: hello.members,
            devices: hello.devices,
            is_joining: hello.joining,
            discard_local: false,
        });
        Ok((dialled, Theirs { name, side, hello }))
    }

    /// Lets the other side come.
    async fn invite(
        &self,
        office: &Arc<Office<W>>,
        other: &Dialled<W>,
        name: &NodeName,
        hello: &Hello,
    ) -> Result<Tried, ApiError> {
        office.may_admit(self.peers(), other.key, hello).await.map_err(|why| failed(&why))?;
        let busy = || Ok(Tried::Later(JoinRefusal::Busy(name.clone())));
        if office.inviting.swap(true, Ordering::SeqCst) {
            return busy();
        }
        let address = office.address.to_string();
        let answer = other.link.ask(&Ask::Invite { address }, ASK_MAX).await;
        office.inviting.store(false, Ordering::SeqCst);
        match answer {
            Ok(Answer::Yes) => underway(JOINED, name.as_str()),
            Ok(Answer::No(Denial::NotReady)) | Err(_) => busy(),
            Ok(Answer::No(Denial::Because(why))) => Err(failed(&why)),
            Ok(_) => Err(failed("the other node does not answer as it should")),
        }
    }

    /// Sets this node's data aside and goes there.
    async fn move_to(
        &self,
        office: &Arc<Office<W>>,
        other: &Dialled<W>,
        (us, them): (&Side, &NodeName),
        place: String,
    ) -> Result<Tried, ApiError> {
        match other.link.ask(&Ask::MayJoin, ASK_MAX).await {
            Ok(Answer::Yes) => {}
            Ok(Answer::No(Denial::Because(why))) => return Err(failed(&why)),
            Ok(Answer::No(Denial::NoQuorum)) => return Err(failed("it has no quorum")),
            Err(_) => return Ok(Tried::Later(JoinRefusal::Busy(them.clone()))),
            Ok(_) => return Err(failed("the other node does not answer as it should")),
        }
        // What invites others admits them: it stays where it is.
        if office.inviting.load(Ordering::SeqCst) || !self.peers().begin_joining() {
            return Ok(Tried::Later(JoinRefusal::Busy(us.name.clone())));
        }
        let (cluster, discard_local) = (other.hello.cluster, us.discard_local);
        office.local.push(Local::Join { target: place, cluster, discard_local });
        underway(JOINED, us.name.as_str())
    }

    async fn leave(&self, office: &Arc<Office<W>>) -> CallReply {
        let own = NodeId(office.identity.raft_id);
        let members = office.look(|state| state.live_members().count()).await;
        let members = u32::try_from(members.ok_or_else(starting)?).unwrap_or(u32::MAX);
        decide_leave(members).map_err(|refusal| ApiError::Conflict(refusal.to_string()))?;
        let intent = Intent::Leave { from: office.identity.cluster };
        let kept = self.world.keep(Kept::Intent, Some(&intent.encode()));
        kept.map_err(|error| failed_to("leave the cluster", &error.to_string()))?;
        match self.let_go(office, own).await {
            Ok(()) => {
                let answer = MembershipAnswer {
                    state: "underway".to_owned(),
                    message: LEFT.to_owned(),
                    node: self.peers().hello().name,
                };
                Ok(Outcome::Membership(answer))
            }
            Err(error) => {
                // If the log takes it all the same, this node ends as one that was removed.
                if let Err(error) = self.world.keep(Kept::Intent, None) {
                    tracing::warn!(%error, "the intent to leave is not withdrawn");
                }
                Err(error)
            }
        }
    }

    /// Writes into the log that a member is on its way out.
    async fn let_go(&self, office: &Arc<Office<W>>, node: NodeId) -> Result<(), ApiError> {
        let mut request = [0; 16];
        request.copy_from_slice(&self.world.seed()[..16]);
        let command = Command::SetMemberStatus { node, status: MemberStatus::Leaving };
        let reply = office.decide(RequestId(request), command).await;
        let going = office.look(move |state| {
            state.member(node).is_none_or(|one| {
                matches!(one.status, MemberStatus::Leaving | MemberStatus::Revoked)
            })
        });
        if going.await == Some(true) {
            return Ok(());
        }
        match reply {
            Some(Reply::Refused(refusal)) => Err(ApiError::Conflict(refusal.to_string())),
            Some(_) => Ok(()),
            None => Err(ApiError::UnknownOutcome),
        }
    }

    async fn remove(&self, office: &Arc<Office<W>>, text: &str) -> CallReply {
        let own = self.own_name()?;
        let (given, is_number) = (text.trim().to_owned(), text.trim().parse::<u64>().ok());
        let name = match is_number {
            Some(_) => None,
            None => Target::parse(&given, own.host()).ok().and_then(|target| target.name),
        };
        let wanted = name.clone();
        let found = office.look(move |state| {
            let is_it = |id: NodeId, member: &Member| match (is_number, &wanted) {
                (Some(number), _) => id.0 == number,
                (None, Some(name)) => member.plate.name == name.as_str(),
                (None, None) => false,
            };
            let mut live = state.live_members();
            let found = live.find(|(id, member)| is_it(*id, member));
            found.map(|(id, member)| (id, member.plate.name.clone()))
        });
        let found = found.await.ok_or_else(starting)?;
        let asked = found.as_ref().and_then(|(_, name)| name.parse().ok()).or(name);
        let Some(asked) = asked else {
            let why = format!("no member has this name or raft id: `{given}`");
            return Err(ApiError::invalid("node", why));
        };
        let verdict = decide_remove(&own, &asked, found.is_some());
        let (node, name) = match (verdict, found) {
            (RemoveVerdict::Ignore, _) => return said("ignored", IGNORED, own.as_str()),
            (RemoveVerdict::Remove, Some(found)) => found,
            (RemoveVerdict::Remove, None) => {
                let refusal = RemoveRefusal::NotInCluster(asked);
                return Err(ApiError::NotFound(refusal.to_string()));
            }
            (RemoveVerdict::Refuse(refusal), _) => {
                return Err(ApiError::NotFound(refusal.to_string()));
            }
        };
        self.let_go(office, node).await?;
        let gone = async {
            loop {
                let live =
                    office.look(move |state| state.member(node).is_some_and(Member::is_live));
                if live.await != Some(true) {
                    return;
                }
                W::Runtime::sleep(REMOVAL_LOOK).await;
            }
        };
        let is_gone = W::Runtime::timeout(REMOVAL_MAX, gone).await.is_ok();
        said(if is_gone { "done" } else { "underway" }, REMOVED, &name)
    }
}

/// The other side of a join, as it says.
struct Theirs {
    name: NodeName,
    /// `None`: it has no cluster.
    side: Option<Side>,
    hello: Arc<Hello>,
}

/// What an operator should know who looks at these members.
fn advice(members: &[MemberInfo], quorum: bool) -> Vec<String> {
    let mut advice = Vec::new();
    if !quorum {
        let text = "no quorum: without a majority of the voters nothing can be decided; bring the \
                    missing nodes back";
        advice.push(text.to_owned());
    }
    if members.len() == 2 {
        let text = "two members: if either is away nothing can be decided, so two are less \
                    available than one; add a third";
        advice.push(text.to_owned());
    }
    advice
}

/// The verdict where the other side must come here though this one could go there.
fn attached(us: &Side, them: &Side) -> Result<Verdict, ApiError> {
    if them.members > 1 {
        let why = format!(
            "'{}' is in a cluster of {} members; run `tern cluster leave` on it first",
            them.name, them.members
        );
        return Err(failed(&why));
    }
    if them.devices > 0 {
        let (joiner, host) = (them.name.clone(), us.name.clone());
        let devices = them.devices;
        return Err(refused(&JoinRefusal::JoinerHasDevices { joiner, devices, host }));
    }
    Ok(Verdict::TheyJoinUs)
}

fn starting() -> ApiError {
    ApiError::Unavailable(Unavailable::Starting)
}

fn refused(refusal: &JoinRefusal) -> ApiError {
    ApiError::Conflict(refusal.to_string())
}

fn failed(why: &str) -> ApiError {
    failed_to("join the cluster", why)
}

fn failed_to(what: &str, why: &str) -> ApiError {
    ApiError::Conflict(format!("Failed to {what}: {why}"))
}

fn said(state: &str, message: &str, node: &str) -> CallReply {
    Ok(Outcome::Membership(MembershipAnswer {
        state: state.to_owned(),
        message: message.to_owned(),
        node: node.to_owned(),
    }))
}

fn ignored(own: &NodeName) -> Tried {
    let (state, message) = ("ignored".to_owned(), IGNORED.to_owned());
    Tried::Answer(MembershipAnswer { state, message, node: own.to_string() })
}

#[expect(clippy::unnecessary_wraps, reason = "ends a try, which may fail")]
fn underway(message: &str, node: &str) -> Result<Tried, ApiError> {
    let (state, message) = ("underway".to_owned(), message.to_owned());
    Ok(Tried::Answer(MembershipAnswer { state, message, node: node.to_owned() }))
}

/// A node that was stopped while it left goes on leaving.
pub(crate) async fn go_on_leaving<W: World>(registrar: Registrar<W>) {
    loop {
        W::Runtime::sleep(LEAVE_AGAIN).await;
        let Some(office) = registrar.desk.office.get() else { continue };
        let own = NodeId(office.identity.raft_id);
        if registrar.let_go(office, own).await.is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_may_write_a_name_an_address_or_both() {
        for (text, name, address, has_port) in [
            ("n2", Some("n2@h1"), "h1:6369", false),
            ("n2@h2", Some("n2@h2"), "h2:6369", false),
            ("n2@10.0.0.5:7000", Some("n2@10.0.0.5"), "10.0.0.5:7000", true),
            ("10.0.0.5:7000", None, "10.0.0.5:7000", true),
            ("10.0.0.5", None, "10.0.0.5:6369", false),
            ("n2@[::1]:7000", Some("n2@::1"), "[::1]:7000", true),
            ("n2@::1", Some("n2@::1"), "[::1]:6369", false),
        ] {
            let target = Target::parse(text, "h1").unwrap();
            assert_eq!(target.name.as_ref().map(NodeName::as_str), name, "{text}");
            assert_eq!((target.address.to_string().as_str(), target.has_port), (address, has_port));
        }
        for text in ["", "@h", "n@h@x", "n2@h:port"] {
            assert!(Target::parse(text, "h1").is_err(), "{text}");
        }
    }

    #[test]
    fn two_members_are_told_that_they_are_too_few() {
        let member = MemberInfo::default;
        assert!(advice(&[member()], true).is_empty());
        assert!(advice(&[member(), member()], true)[0].contains("add a third"));
        assert!(advice(&[member(), member(), member()], false)[0].contains("no quorum"));
    }
}
