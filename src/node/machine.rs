//! The node: gateways, frames, broker and API around one replicated state.
//!
//! Driven by [`Node::handle`] for what happens outside, [`Node::apply`] for what the log has
//! decided, [`Node::handle_timeout`] when [`Node::poll_timeout`] is due; after each, drain
//! [`Node::poll_effect`]. The parts do not know each other: everything between them passes here.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use clock::{Duration, Instant, Now};
use gateway::semtech::{Output, Server};
use lorawan::GatewayEui;
use mac::{Mac, MacConfig};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use store::model::{Tenant, User};
use store::{
    Applied, ApplyError, Change, Command, Entry, Id, MemberStatus, Nameplate, NodeId, Proposal,
    Reply, RequestId, State,
};

use crate::api::wire::{NodeInfo, NodeState};
use crate::api::{Api, ApiSettings, View};
use crate::broker::{Broker, BrokerConfig, BrokerView};
use crate::effect::{AppliedRows, Effect};
use crate::event_json;
use crate::input::{Input, ProposalError};
use crate::lacking::Lacking;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::show;
use crate::vault::Vault;
use crate::views::{NodeFacts, StateView};
use crate::watch::{Watch, WatchLine};

/// Pause before the node's own proposal is put again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The highest feature level of the log that this binary knows.
const FEATURE_LEVEL: u32 = store::limits::FEATURE_LEVEL;

/// What a new cluster begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What the founders have agreed upon; `None`: this node draws it.
    pub cluster_id: Option<Id>,
    /// All founders, by raft id.
    pub founders: Vec<(NodeId, Nameplate)>,
    /// For people, and the salt of the peer links.
    pub cluster_name: String,
    /// The first user.
    pub admin: User,
    /// The first tenant.
    pub tenant: Tenant,
}

/// How a node is set up.
#[derive(Debug)]
pub struct Config {
    /// Raft id.
    pub node: NodeId,
    /// Seals and opens keys.
    pub vault: Vault,
    /// Sockets for gateways.
    pub listeners: u8,
    /// Frames.
    pub mac: MacConfig,
    /// Broker.
    pub broker: BrokerConfig,
    /// API.
    pub api: ApiSettings,
    /// Who it is and where its peers find it.
    pub plate: Nameplate,
    /// If the log is empty, and this node is one of those who begin it.
    pub founding: Option<Founding>,
    /// What people are told of the node.
    pub info: NodeInfo,
    /// Nobody has heard a node for so long: it is down.
    pub ticktime: Duration,
}

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The log's answer to the founding or the boot is awaited; nobody is served.
    Starting,
    Serving,
    Draining,
}

/// What the node itself asked of the log.
#[derive(Clone, Debug)]
pub(crate) enum Own {
    Found(Box<Founding>),
    Boot,
    /// All members know more than the log uses.
    Level,
    /// A member is not what the log says.
    Status(NodeId, MemberStatus),
}

/// One node. See the module's head for how to drive it.
pub struct Node {
    pub(crate) node: NodeId,
    pub(crate) boot: u64,
    pub(crate) vault: Vault,
    pub(crate) state: State,
    pub(crate) phase: Phase,
    pub(crate) quorum: bool,
    pub(crate) disk_full: bool,
    pub(crate) servers: Vec<Server>,
    pub(crate) mac: Mac,
    pub(crate) broker: Broker,
    pub(crate) api: Api,
    pub(crate) founding: Option<Box<Founding>>,
    pub(crate) own: BTreeMap<RequestId, Own>,
    pub(crate) own_again: Option<(Instant, RequestId)>,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) info: NodeInfo,
    pub(crate) metrics: Metrics,
    pub(crate) watch: Watch,
    pub(crate) peers: Peers,
    pub(crate) liveness: Liveness,
    /// Downlinks that another node has asked this one to send, and which.
    pub(crate) orders: BTreeMap<(GatewayEui, u32), NodeId>,
    pub(crate) leader: Option<NodeId>,
    plate: Nameplate,
    pub(crate) effects: VecDeque<Effect>,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Node({:?}, {:?}, boot {})", self.node, self.phase, self.boot)
    }
}

impl Node {
    /// A node whose log is to be replayed.
    ///
    /// * `boot`: how often this node has started, this start included.
    /// * `seed`: from the system's randomness, fresh for each start.
    pub fn new(config: Config, boot: u64, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut draw = || {
            let mut part = [0; 32];
            rng.fill_bytes(&mut part);
            part
        };
        let mac = Mac::new(config.mac, draw());
        let broker = Broker::new(config.broker, draw());
        let api = Api::new(config.api, draw());
        let server = |_| {
            let mut server = Server::new(u16::from_le_bytes([draw()[0], draw()[1]]));
            server.set_acknowledging(false);
            server
        };
        let servers = (0..config.listeners).map(server).collect();
        let liveness = Liveness::new(config.node, config.ticktime, draw());
        Self {
            node: config.node,
            boot,
            vault: config.vault,
            state: State::new(),
            phase: Phase::Starting,
            quorum: false,
            disk_full: false,
            servers,
            mac,
            broker,
            api,
            founding: config.founding.map(Box::new),
            own: BTreeMap::new(),
            own_again: None,
            rng,
            info: config.info,
            metrics: Metrics::default(),
            watch: Watch::default(),
            peers: Peers::new(config.node),
            liveness,
            orders: BTreeMap::new(),
            leader: None,
            plate: config.plate,
            effects: VecDeque::new(),
        }
    }

    /// What the log has decided so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The next piece of work for the host.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let servers = self.servers.iter().filter_map(Server::poll_timeout);
        let own = self.own_again.map(|(at, _)| (at, "own proposal"));
        let news = self.peers.paths.poll_timeout().map(|at| (at, "gateway paths"));
        let others = self.liveness.poll_timeout();
        let parts = [self.mac.poll_timeout(), self.broker.poll_timeout(), own, news, others];
        servers.chain(parts.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
        self.mac.handle_timeout(now, &devices);
        self.broker.handle_timeout(BrokerView { now, state: &self.state });
        for server in &mut self.servers {
            server.handle_timeout(now.instant);
        }
        self.handle_silence(now);
        if let Some((_, request)) = self.own_again.take_if(|(at, _)| *at <= now.instant) {
            self.propose_own(request);
        }
        self.settle(now);
    }

    /// Takes what happened outside.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram { listener, from, bytes } => {
                self.handle_datagram(now, listener, from, &bytes);
            }
            Input::StreamOpened { stream, peer } => {
                self.broker.handle_opened(BrokerView { now, state: &self.state }, stream, peer);
            }
            Input::StreamBytes { stream, bytes } => {
                self.broker.handle_bytes(BrokerView { now, state: &self.state }, stream, &bytes);
            }
            Input::StreamDrained { stream, bytes } => {
                self.broker.handle_drained(BrokerView { now, state: &self.state }, stream, bytes);
            }
            Input::StreamClosed { stream } => {
                self.broker.handle_closed(BrokerView { now, state: &self.state }, stream);
            }
            Input::Call { call, credentials, operation } => {
                self.with_api(now, |api, view| {
                    api.handle_call(view, call, &credentials, operation);
                });
            }
            Input::CallDropped { call } => self.api.handle_call_dropped(call),
            Input::ProposalFailed { request, why } => self.proposal_failed(now, request, why),
            Input::CursorPersisted { token } => self.mac.handle_cursor_persisted(now, token.0),
            Input::EventsRead { token, rows } => {
                let view = BrokerView { now, state: &self.state };
                if !self.broker.handle_events_read(view, token, &rows) {
                    self.with_api(now, |api, view| {
                        api.handle_events_read(view, token, &rows);
                    });
                }
            }
            Input::RowsLacking { missing } => {
                let lacking = Lacking::new(missing);
                let view = BrokerView { now, state: &self.state };
                self.broker.handle_lacking(view, lacking.clone());
                self.with_api(now, |api, view| api.handle_lacking(view, lacking));
            }
            Input::PasswordChecked { token, fits } => {
                let view = BrokerView { now, state: &self.state };
                if !self.broker.handle_password_checked(view, token, fits) {
                    self.api.handle_password_checked(now, token, fits);
                }
            }
            Input::PasswordHashed { token, phc } => {
                self.api.handle_password_hashed(now, token, phc);
            }
            Input::Quorum { available, disk_full, leader } => {
                self.leader = leader.map(NodeId);
                self.handle_quorum(available, disk_full);
            }
            Input::PeerLine { node, up, transit } => {
                self.handle_peer_line(now, NodeId(node), up, transit);
            }
            Input::Peer { from, bytes } => self.handle_peer(now, NodeId(from), &bytes),
        }
        self.settle(now);
    }

    /// Applies an entry that the log has decided.
    ///
    /// * Errors: [`ApplyError`]: the node must stop, an entry is never skipped.
    pub fn apply(
        &mut self,
        now: Now,
        index: u64,
        entry: &Entry,
    ) -> Result<AppliedRows, ApplyError> {
        let Applied { replies, rows, drop_below, changes } = self.state.apply(index, entry)?;
        let view = BrokerView { now, state: &self.state };
        self.broker.handle_rows(view, &rows);
        for row in &rows {
            self.metrics.count("tern_events_total", event_json::kind(&row.event));
            self.api.handle_row(row);
        }
        for change in &changes {
            self.broker.handle_change(BrokerView { now, state: &self.state }, change);
        }
        for change in &changes {
            if let Change::Member(id) = change {
                self.member_changed(*id);
            }
        }
        if changes.iter().any(|change| matches!(change, Change::Member(_))) {
            self.members_changed(now);
        }
        for (proposal, (request, reply)) in entry.proposals.iter().zip(&replies) {
            self.handle_others_frame(now, &proposal.command, reply);
            self.handle_reply(now, *request, reply.clone());
        }
        self.settle(now);
        Ok(AppliedRows { rows, drop_below, replies })
    }

    /// Takes a whole state instead of what was applied so far.
    pub fn restore(&mut self, now: Now, state: State) {
        let before = self.state.next_event();
        self.state = state;
        self.members_restored();
        self.members_changed(now);
        self.broker.handle_restored(BrokerView { now, state: &self.state }, before);
        self.with_api(now, |api, view| api.handle_restored(view));
        self.settle(now);
    }

    /// An MQTT connection beyond the limit was closed by the host.
    pub fn handle_refused_connection(&mut self, now: Now, peer: SocketAddr) {
        self.metrics.count("tern_network_total", "connection_over_limit");
        self.show(now, show::refused_connection(now, peer));
        self.settle(now);
    }

    /// The network did not take a datagram.
    pub fn count_datagram_not_sent(&mut self) {
        self.metrics.count("tern_network_total", "datagram_not_sent");
    }

    fn node_state(&self) -> NodeState {
        match self.phase {
            Phase::Starting => NodeState::Starting,
            Phase::Draining => NodeState::Draining,
            Phase::Serving if self.disk_full => NodeState::DiskFull,
            Phase::Serving if !self.quorum => NodeState::NoQuorum,
            Phase::Serving => NodeState::Ready,
        }
    }

    fn with_api(&mut self, now: Now, call: impl FnOnce(&mut Api, &View<'_>)) {
        let facts = NodeFacts {
            now,
            state: self.node_state(),
            servers: &self.servers,
            peers: &self.peers,
            metrics: &self.metrics,
            info: &self.info,
            cluster: self.state.cluster().map(|one| (one.id.to_string(), one.name.clone())),
            applied: self.state.applied_index(),
        };
        let view = View { now, state: &self.state, vault: &self.vault, node: &facts };
        call(&mut self.api, &view);
    }

    fn handle_datagram(&mut self, now: Now, listener: u8, from: SocketAddr, bytes: &Bytes) {
        let state = &self.state;
        if let Some(server) = self.servers.get_mut(usize::from(listener)) {
            let registered = |gateway| state.gateway(gateway).is_some();
            server.handle_datagram(now.instant, from, bytes, registered);
        }
    }

    fn handle_reply(&mut self, now: Now, request: RequestId, reply: Reply) {
        let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
        match reply {
            Reply::Uplink(reply) => {
                self.mac.handle_uplink_reply(now, &devices, request, reply);
            }
            Reply::Join(reply) => self.mac.handle_join_reply(now, &devices, request, reply),
            Reply::Plan(reply) => self.mac.handle_plan_reply(now, &devices, request, reply),
            Reply::Done | Reply::ClientSession { .. } | Reply::Admitted(_) | Reply::Refused(_) => {
                self.mac.handle_recorded(request);
                let view = BrokerView { now, state: &self.state };
                let taken = self.broker.handle_reply(view, request, &reply, &mut self.metrics)
                    || self.api.handle_reply(request, &reply);
                if !taken {
                    self.own_reply(request, &reply);
                }
            }
        }
    }

    fn proposal_failed(&mut self, now: Now, request: RequestId, why: ProposalError) {
        self.metrics.count("tern_proposals_failed_total", why.reason());
        let retry = matches!(why, ProposalError::NoQuorum | ProposalError::Unknown);
        self.mac.handle_proposal_failed(now, request, retry);
        let view = BrokerView { now, state: &self.state };
        let taken = self.broker.handle_proposal_failed(view, request, why)
            || self.api.handle_proposal_failed(request, why);
        // Looked at anew instead, by whoever leads then.
        self.own.retain(|name, own| *name != request || !matches!(own, Own::Status(..)));
        if !taken && self.own.contains_key(&request) {
            self.own_again = Some((now.instant + AGAIN_AFTER, request));
        }
    }

    fn handle_quorum(&mut self, available: bool, disk_full: bool) {
        self.quorum = available;
        self.disk_full = disk_full;
        self.broker.set_quorum(available);
        if !available || self.phase != Phase::Starting || !self.own.is_empty() {
            return;
        }
        // Everything before this leadership is applied: the state tells whether there is a cluster.
        let own = match self.founding.take() {
            Some(founding) if self.state.cluster().is_none() => Own::Found(founding),
            Some(_) | None => Own::Boot,
        };
        self.ask(own);
    }

    pub(crate) fn ask(&mut self, own: Own) {
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        self.own.insert(RequestId(name), own);
        self.propose_own(RequestId(name));
    }

    fn propose_own(&mut self, request: RequestId) {
        let drawn = self.draw_id();
        let command = match self.own.get(&request) {
            Some(Own::Found(founding)) => Command::Found {
                cluster_id: founding.cluster_id.unwrap_or(drawn),
                cluster_name: founding.cluster_name.clone(),
                node: self.node,
                admin: founding.admin.clone(),
                tenant: founding.tenant.clone(),
                founders: founding.founders.clone(),
            },
            Some(Own::Boot) => {
                let (node, boot) = (self.node, self.boot);
                let plate = Some(self.plate.clone());
                Command::Boot { node, boot, feature_level: FEATURE_LEVEL, plate }
            }
            Some(Own::Level) => Command::RaiseFeatureLevel(FEATURE_LEVEL),
            Some(Own::Status(node, status)) => {
                Command::SetMemberStatus { node: *node, status: *status }
            }
            None => return,
        };
        self.effects.push_back(Effect::Propose(Proposal { request, command }));
    }

    fn draw_id(&mut self) -> Id {
        let mut drawn = [0; 16];
        self.rng.fill_bytes(&mut drawn);
        Id::from_random(drawn)
    }

    fn own_reply(&mut self, request: RequestId, reply: &Reply) {
        match (self.own.remove(&request), reply) {
            // Founded, by this proposal, an earlier one of the same start, or another founder's.
            (Some(Own::Found(_)), _) => self.ask(Own::Boot),
            (Some(Own::Boot), Reply::Refused(refusal)) => {
                self.effects.push_back(Effect::Fatal(refusal.to_string()));
            }
            (Some(Own::Boot), _) => {
                self.phase = Phase::Serving;
                self.broker.serve();
                self.servers.iter_mut().for_each(|server| server.set_acknowledging(true));
                self.peers.set_serving(true);
                self.raise_feature_level();
            }
            (Some(Own::Level | Own::Status(..)) | None, _) => {}
        }
    }

    fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.peers.set_serving(false);
        self.servers.iter_mut().for_each(|server| server.set_acknowledging(false));
    }

    /// Passes on what the parts have to say until none has more.
    fn settle(&mut self, now: Now) {
        loop {
            while let Some((listener, output)) = self.poll_servers() {
                self.handle_output(now, listener, output);
            }
            let Some(effect) = self.mac.poll_effect() else { break };
            self.do_mac(now, effect);
        }
        let (unread, overflowed) = (self.broker.take_unread(), self.broker.take_overflowed());
        self.metrics.add("tern_mqtt_refused_total", "slow_reader_qos0", unread);
        self.metrics.add("tern_mqtt_refused_total", "slow_reader_queue", overflowed);
        let missed = self.broker.take_events_missed();
        self.metrics.add("tern_mqtt_refused_total", "event_not_found", missed);
        for note in self.broker.take_notes() {
            let (name, reason) = show::note_metric(&note);
            self.metrics.count(name, reason);
            self.show(now, show::broker(now, &note));
        }
        if self.api.take_drain() {
            self.drain();
        }
        while let Some(effect) = self.broker.poll_effect() {
            self.effects.push_back(effect);
        }
        self.watch_others(now);
        self.tell_peers(now);
        while let Some(effect) = self.api.poll_effect() {
            self.effects.push_back(effect);
        }
    }

    fn poll_servers(&mut self) -> Option<(u8, Output)> {
        let servers = self.servers.iter_mut().zip(0..);
        servers.into_iter().find_map(|(server, number)| Some((number, server.poll_output()?)))
    }

    pub(crate) fn show(&mut self, now: Now, line: WatchLine) {
        for line in self.watch.add(now, line) {
            self.with_api(now, |api, view| api.handle_watch(view, &line));
        }
    }
}

pub(crate) fn state_view<'a>(
    now: Now,
    state: &'a State,
    vault: &'a Vault,
    servers: &'a [Server],
    peers: &'a Peers,
) -> StateView<'a> {
    StateView { now, state, vault, servers, peers }
}
