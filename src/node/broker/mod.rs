//! The broker: accounts, sessions, routing, retained messages, wills.
//!
//! Driven by bytes of connections and by what the log has applied. Transient sessions live here
//! alone; a session that outlives its connection lives in the log, with its subscriptions and its
//! queue, and here only while connected. Messages of QoS 1 and 2 reach such a session through that
//! queue alone, so that what was decided before a crash arrives after it. Source: DESIGN.md 7.
//!
//! Limit: the packet ids of a persistent session are this process's; after a crash an
//! unacknowledged QoS 2 message is sent under a new id, so it may arrive twice.

mod backlog;
mod client;
mod connect;
mod deliver;
mod message;
mod parked;
mod publish;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use clock::{Duration, Instant, Now};
use mqtt::{
    CloseCause, Connection, ConnectionConfig, Event, Packet, PacketId, Qos, ReasonCode, Session,
    SessionLimits, TopicIndex,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use store::{Command, EventRow, NodeId, Proposal, Refusal, Reply, RequestId, State};

use self::client::{Client, HANDED_OVER_MAX};
use self::message::Message;
use self::parked::Parked;
use crate::effect::Effect;
use crate::input::{ProposalError, StreamId, Token};
use crate::lacking::Lacking;
use crate::metrics::Metrics;

/// Tokens of the broker have this bit set and none above, so that they meet no other part's.
pub const TOKEN_BIT: u64 = 1 << 62;
/// How long a client's acknowledgements may wait to be told to the log together.
const TELL_AFTER: Duration = Duration::from_millis(50);
/// Pause before the log is told again what it did not take.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Acknowledgements told to the log at once.
const TELL_MAX: usize = 256;
/// Events kept ready for sessions that read their queue.
const RECENT_MAX: usize = 2_048;
/// Rows of the event log read at a time.
const ROWS_PER_READ: usize = 64;
/// Passwords at work at a time.
const PASSWORDS_MAX: usize = 16;
/// Accounts whose last good password is remembered as a digest, so that a reconnect is cheap.
const REMEMBERED_MAX: usize = 4_096;
/// Sessions of clients that are away whose packet ids are remembered.
const PARKED_MAX: usize = 10_000;

/// How the broker is set up.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// This node.
    pub node: NodeId,
    /// Limits of a connection.
    pub connection: ConnectionConfig,
    /// Limits of a session.
    pub session: SessionLimits,
    /// How long a 3.1.1 session without the clean flag outlives its connection, and the most that
    /// a 5.0 client may ask for, in seconds.
    pub session_expiry_s: u32,
}

impl BrokerConfig {
    /// The defaults for `node`.
    pub fn new(node: NodeId) -> Self {
        let connection = ConnectionConfig {
            shared_subscription_available: false,
            ..ConnectionConfig::default()
        };
        let session_expiry_s = 7 * 24 * 3_600;
        Self { node, connection, session: SessionLimits::default(), session_expiry_s }
    }
}

/// What waits for the log.
#[derive(Debug)]
enum Waiting {
    /// A client's session.
    Open(StreamId),
    /// A client's message.
    Publish { stream: StreamId, packet_id: PacketId, qos: Qos },
    /// A client's SUBSCRIBE or UNSUBSCRIBE.
    Subscribe { stream: StreamId, ack: Box<Packet>, retained: Vec<subscribe::WantsRetained> },
    /// A client's QoS 1 message for sessions that is a command, too: that one is acknowledged.
    Beside { stream: StreamId, packet_id: PacketId },
    /// Nobody: it is told again if the log did not take it.
    Nobody,
}

/// What whoever watches the node may like to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A connection ended.
    Ended {
        /// The other end.
        peer: SocketAddr,
        /// Session name, if it got that far.
        name: String,
        /// Why.
        cause: CloseCause,
    },
    /// A client spoke where it may not.
    NotAllowed {
        /// Session name.
        name: String,
        /// Where.
        topic: String,
    },
    /// A subscription was refused.
    NotGranted {
        /// Session name.
        name: String,
        /// The filter, or what is wrong with it.
        wanted: String,
        /// What the client was told.
        reason: ReasonCode,
    },
    /// A client reads so slowly that messages are dropped from now on.
    NotReading {
        /// Session name.
        name: String,
    },
    /// A downlink that makes no sense.
    BadCommand {
        /// Where.
        topic: String,
        /// What is wrong with it.
        error: String,
    },
}

/// Whether nobody was promised that the log takes this: a message of QoS 0, which would only come
/// late, and in the place of a newer one.
fn is_lossy(command: &Command) -> bool {
    matches!(command, Command::PublishMessage(message) if message.qos == 0)
}

/// The broker of one node.
pub struct Broker {
    config: BrokerConfig,
    rng: ChaCha20Rng,
    clients: BTreeMap<StreamId, Client>,
    /// Connected sessions by name.
    names: BTreeMap<String, StreamId>,
    routes: TopicIndex<StreamId, deliver::Route>,
    deadlines: BTreeSet<(Instant, StreamId)>,
    armed: BTreeMap<StreamId, Instant>,
    waiting: BTreeMap<RequestId, (Waiting, Command)>,
    /// What the log did not take, and what came after it: told again together, in order.
    again: Vec<RequestId>,
    again_at: Option<Instant>,
    checking: BTreeMap<Token, StreamId>,
    remembered: BTreeMap<String, [u8; 32]>,
    /// What was under way of sessions that are not connected and were here last.
    parked: BTreeMap<String, Parked>,
    wills: BTreeMap<String, (Instant, Message)>,
    recent: BTreeMap<u64, Arc<EventRow>>,
    loads: BTreeMap<Token, (StreamId, u64)>,
    /// Rows that are not on this disk yet.
    lacking: Lacking,
    /// Events that those connected have missed, while newer ones wait.
    backlog: Option<backlog::Backlog>,
    /// Sessions whose queue has come to a row that is not there.
    starved: BTreeSet<StreamId>,
    starved_again_at: Option<Instant>,
    /// Such rows that never come.
    lost_rows: BTreeSet<u64>,
    /// Events dropped because their rows could not be had.
    events_missed: u64,
    next_token: u64,
    serving: bool,
    quorum: bool,
    notes: Vec<Note>,
    /// Messages of QoS 0 dropped because their client did not read.
    unread: u64,
    /// Messages of QoS 1 and 2 dropped because too much waited for their client.
    overflowed: u64,
    effects: VecDeque<Effect>,
}

impl core::fmt::Debug for Broker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Broker({} clients)", self.clients.len())
    }
}

/// What the broker may look at while it works.
#[derive(Clone, Copy, Debug)]
pub struct BrokerView<'a> {
    /// The time.
    pub now: Now,
    /// The replicated state.
    pub state: &'a State,
}

impl Broker {
    /// A broker without clients.
    ///
    /// * `seed`: from the system's randomness; request names and assigned client ids come of it.
    pub fn new(config: BrokerConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            rng: ChaCha20Rng::from_seed(seed),
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            routes: TopicIndex::default(),
            deadlines: BTreeSet::new(),
            armed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            again: Vec::new(),
            again_at: None,
            checking: BTreeMap::new(),
            remembered: BTreeMap::new(),
            parked: BTreeMap::new(),
            wills: BTreeMap::new(),
            recent: BTreeMap::new(),
            loads: BTreeMap::new(),
            lacking: Lacking::default(),
            backlog: None,
            starved: BTreeSet::new(),
            starved_again_at: None,
            lost_rows: BTreeSet::new(),
            events_missed: 0,
            next_token: TOKEN_BIT,
            serving: false,
            quorum: false,
            notes: Vec::new(),
            unread: 0,
            overflowed: 0,
            effects: VecDeque::new(),
        }
    }

    /// The next piece of work for the host.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What happened since this was last asked.
    pub fn take_notes(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.notes)
    }

    /// Messages of QoS 0 dropped since this was last asked, because their clients did not read.
    pub fn take_unread(&mut self) -> u64 {
        core::mem::take(&mut self.unread)
    }

    /// Messages of QoS 1 and 2 dropped since this was last asked, because too much waited for their
    /// clients already.
    pub fn take_overflowed(&mut self) -> u64 {
        core::mem::take(&mut self.overflowed)
    }

    /// The state is that of today: clients are let in from now on. Before, they would find
    /// accounts, subscriptions and retained messages as they were at some time of the past.
    pub fn serve(&mut self) {
        self.serving = true;
    }

    /// Whether the log takes proposals now: without, persistent sessions are refused.
    pub fn set_quorum(&mut self, available: bool) {
        self.quorum = available;
    }

    /// A connection was accepted by the host.
    pub fn handle_opened(&mut self, view: BrokerView<'_>, stream: StreamId, peer: SocketAddr) {
        let connection = Connection::new(view.now.instant, self.config.connection.clone());
        let session = Session::new(self.config.session);
        self.clients.insert(stream, Client::new(peer, connection, session));
        self.settle(view, stream);
    }

    /// Bytes of a client.
    pub fn handle_bytes(&mut self, view: BrokerView<'_>, stream: StreamId, bytes: &[u8]) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.connection.handle_bytes(view.now.instant, bytes);
        self.settle(view, stream);
    }

    /// The host has given bytes to the network.
    pub fn handle_drained(&mut self, view: BrokerView<'_>, stream: StreamId, bytes: usize) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.handed_over = client.handed_over.saturating_sub(bytes);
        self.settle(view, stream);
    }

    /// The connection is gone.
    pub fn handle_closed(&mut self, view: BrokerView<'_>, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.connection.handle_end();
        self.settle(view, stream);
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let client = self.deadlines.first().map(|(at, _)| (*at, "mqtt client"));
        let will = self.wills.values().map(|(at, _)| (*at, "mqtt will")).min();
        let again = self.again_at.map(|at| (at, "mqtt retry"));
        let missed = self.backlog_deadline().map(|at| (at, "mqtt missed events"));
        [client, will, again, missed].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, view: BrokerView<'_>) {
        while let Some((at, stream)) = self.deadlines.first().copied() {
            if at > view.now.instant {
                break;
            }
            self.deadlines.pop_first();
            self.armed.remove(&stream);
            if let Some(client) = self.clients.get_mut(&stream) {
                client.connection.handle_timeout(view.now.instant);
                self.tell_taken(view, stream);
                self.settle(view, stream);
            }
        }
        if self.starved_again_at.is_some_and(|at| at <= view.now.instant) {
            self.feed_starved(view);
        }
        self.catch_up(view);
        let due = |(at, _): &(Instant, Message)| *at <= view.now.instant;
        let names: Vec<_> =
            self.wills.iter().filter(|(_, will)| due(will)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some((_, message)) = self.wills.remove(&name) {
                self.publish(view, message);
            }
        }
        if self.again_at.is_some_and(|at| at <= view.now.instant) {
            self.again_at = None;
            for request in core::mem::take(&mut self.again) {
                // What the log has decided meanwhile is not asked again.
                if let Some((_, command)) = self.waiting.get(&request) {
                    let command = command.clone();
                    self.effects.push_back(Effect::Propose(Proposal { request, command }));
                }
            }
        }
    }

    /// The log has answered a request; false if it was none of the broker's.
    pub fn handle_reply(
        &mut self,
        view: BrokerView<'_>,
        request: RequestId,
        reply: &Reply,
        metrics: &mut Metrics,
    ) -> bool {
        let Some((waiting, _)) = self.waiting.remove(&request) else { return false };
        match waiting {
            Waiting::Open(stream) => self.opened_by_log(view, stream, reply),
            Waiting::Publish { stream, .. } if *reply == Reply::Refused(Refusal::Fenced) => {
                self.end(view, stream, ReasonCode::SessionTakenOver);
            }
            Waiting::Publish { stream, packet_id, qos } => {
                let reason = publish::reason_of(reply);
                if reason.is_error() {
                    metrics.count("tern_mqtt_refused_total", reason.name());
                }
                self.acknowledge(view, stream, packet_id, qos, reason);
            }
            Waiting::Subscribe { stream, ack, retained } => {
                self.subscribed_by_log(view, stream, *ack, retained, reply);
            }
            Waiting::Beside { .. } | Waiting::Nobody => {}
        }
        true
    }

    /// A proposal failed; false if it was none of the broker's.
    pub fn handle_proposal_failed(
        &mut self,
        view: BrokerView<'_>,
        request: RequestId,
        why: ProposalError,
    ) -> bool {
        let Some((waiting, command)) = self.waiting.remove(&request) else { return false };
        match waiting {
            Waiting::Open(stream) => self.refuse(view, stream, ReasonCode::ServerUnavailable),
            // The client says it again, perhaps to another node, which may have a quorum; and what
            // it has said since behind it. Told again from here it would come behind that.
            Waiting::Publish { stream, qos: Qos::AtLeastOnce, .. }
                if matches!(why, ProposalError::NoQuorum | ProposalError::Unknown) =>
            {
                self.end(view, stream, ReasonCode::ServerUnavailable);
            }
            Waiting::Publish { stream, packet_id, qos } => match why {
                // It may yet be applied, or is worth another try: the name stays, the client waits.
                ProposalError::Unknown | ProposalError::NoQuorum => {
                    let waiting = Waiting::Publish { stream, packet_id, qos };
                    self.tell_again(view, request, waiting, command);
                }
                ProposalError::DiskFull | ProposalError::Stopping => {
                    self.no_room(view, stream, packet_id, qos);
                }
                ProposalError::TooLarge => {
                    self.acknowledge(view, stream, packet_id, qos, ReasonCode::QuotaExceeded);
                }
            },
            Waiting::Subscribe { stream, .. } => {
                self.end(view, stream, ReasonCode::ServerUnavailable);
            }
            Waiting::Beside { stream, packet_id } if self.is_unanswered(stream, packet_id) => {
                self.end(view, stream, ReasonCode::ServerUnavailable);
            }
            Waiting::Beside { .. } | Waiting::Nobody
                if why != ProposalError::Stopping && !is_lossy(&command) =>
            {
                self.tell_again(view, request, Waiting::Nobody, command);
            }
            Waiting::Beside { .. } | Waiting::Nobody => {}
        }
        true
    }

    /// Takes back what a client that has gone said at QoS 1 and nobody has decided: it will say
    /// that again, and after that this must not come any more.
    fn withdraw(&mut self, gone: StreamId) {
        let unanswered = |waiting: &Waiting| {
            if let Waiting::Publish { stream, packet_id, qos: Qos::AtLeastOnce } = waiting
                && *stream == gone
            {
                return Some(*packet_id);
            }
            None
        };
        let packets: BTreeSet<_> =
            self.waiting.values().filter_map(|(waiting, _)| unanswered(waiting)).collect();
        let goes_with_it = |waiting: &Waiting| {
            matches!(waiting, Waiting::Beside { stream, packet_id }
                if *stream == gone && packets.contains(packet_id))
        };
        let withdrawn = self.waiting.extract_if(.., |_, (waiting, _)| {
            unanswered(waiting).is_some() || goes_with_it(waiting)
        });
        for (request, _) in withdrawn {
            self.again.retain(|waits| *waits != request);
            self.effects.push_back(Effect::Withdraw(request));
        }
    }

    fn is_unanswered(&self, of: StreamId, packet: PacketId) -> bool {
        self.waiting.values().any(|(waiting, _)| {
            matches!(waiting, Waiting::Publish { stream, packet_id, .. }
                if (*stream, *packet_id) == (of, packet))
        })
    }

    fn tell_again(
        &mut self,
        view: BrokerView<'_>,
        request: RequestId,
        waiting: Waiting,
        command: Command,
    ) {
        self.waiting.insert(request, (waiting, command));
        self.again.push(request);
        self.again_at.get_or_insert(view.now.instant + AGAIN_AFTER);
    }

    /// Puts a command into the log, under a name of its own, behind all that waits to be told
    /// again:
    /// the end of a connection before the next one's begin, one message before a later one.
    fn propose(&mut self, waiting: Waiting, command: Command) {
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        let request = RequestId(name);
        self.waiting.insert(request, (waiting, command.clone()));
        if self.again.is_empty() {
            self.effects.push_back(Effect::Propose(Proposal { request, command }));
        } else {
            self.again.push(request);
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Handles what the client's connection has to say, sends what waits for it, arms its deadline.
    fn settle(&mut self, view: BrokerView<'_>, stream: StreamId) {
        loop {
            let Some(client) = self.clients.get_mut(&stream) else { return };
            let Some(event) = client.connection.poll_event() else { break };
            self.handle_event(view, stream, event);
        }
        self.pump(view, stream);
        self.flush(stream);
        self.arm(stream);
    }

    fn handle_event(&mut self, view: BrokerView<'_>, stream: StreamId, event: Event) {
        match event {
            Event::Connect(connect) => self.connect(view, stream, connect),
            Event::Publish(publish) => self.handle_publish(view, stream, publish),
            Event::Puback(ack) => {
                self.acked(view, stream, |session| session.handle_puback(ack.packet_id).ok())
            }
            Event::Pubrec(ack) => self.handle_pubrec(view, stream, &ack),
            Event::Pubcomp(ack) => self.acked(view, stream, |session| {
                // An unknown id is the client's affair.
                let _ = session.handle_pubcomp(ack.packet_id);
                None
            }),
            Event::Pubrel(ack) => {
                if let Some(client) = self.clients.get_mut(&stream) {
                    let pubcomp = client.session.handle_pubrel(ack.packet_id);
                    self.send(view, stream, Packet::Pubcomp(pubcomp));
                }
            }
            Event::Subscribe(subscribe) => self.subscribe(view, stream, subscribe),
            Event::Unsubscribe { packet_id, filters } => {
                self.unsubscribe(view, stream, packet_id, filters);
            }
            Event::Closed(closed) => self.closed(view, stream, &closed),
        }
    }

    /// Sends a packet; a connection that does not take it has ended or ends by itself.
    fn send(&mut self, view: BrokerView<'_>, stream: StreamId, packet: Packet) {
        if let Some(client) = self.clients.get_mut(&stream) {
            let _ = client.connection.send(view.now.instant, packet);
        }
    }

    /// Hands bytes to the host while it takes them, and asks it to read or not to.
    fn flush(&mut self, stream: StreamId) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        if client.handed_over < HANDED_OVER_MAX
            && let Some(bytes) = client.connection.poll_transmit()
        {
            client.handed_over += bytes.len();
            self.effects.push_back(Effect::Write { stream, bytes });
        }
        let pause = !client.connection.wants_bytes();
        if pause != client.paused {
            client.paused = pause;
            self.effects.push_back(Effect::PauseReading { stream, pause });
        }
    }

    fn arm(&mut self, stream: StreamId) {
        let wanted = self.clients.get(&stream).and_then(Client::deadline);
        let armed = self.armed.get(&stream).copied();
        if wanted == armed {
            return;
        }
        if let Some(at) = armed {
            self.deadlines.remove(&(at, stream));
            self.armed.remove(&stream);
        }
        if let Some(at) = wanted {
            self.deadlines.insert((at, stream));
            self.armed.insert(stream, at);
        }
    }
}
