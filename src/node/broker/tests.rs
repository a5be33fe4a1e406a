//! The broker through its own door: bytes in, effects out, a real state applied in between.

use std::collections::BTreeMap;

use clock::WallTime;
use mqtt::{Client as Peer, ClientClosed, ClientConfig, ClientEvent, Publish, TopicName, Version};
use store::model::{MqttAccount, MqttScope, PasswordHash, Tenant, User};
use store::{Entry, Id, Put};

use super::*;

mod missed;

use sha2::{Digest as _, Sha256};

const ACCOUNT: &str = "plant";
const PASSWORD: &str = "a good password";
const NODE: NodeId = NodeId(1);

/// A broker, its clients, and a log that decides when it is told to.
struct Bench {
    broker: Broker,
    state: State,
    index: u64,
    millis: u64,
    peers: BTreeMap<StreamId, Peer>,
    /// What the log has not decided.
    proposed: Vec<Proposal>,
    /// Rows on the disk.
    rows: Vec<EventRow>,
}

impl Bench {
    /// A broker that lets clients in.
    fn serving() -> Self {
        let mut bench = Self::starting();
        bench.broker.serve();
        bench.broker.set_quorum(true);
        bench
    }

    fn starting() -> Self {
        let mut bench = Self {
            broker: Broker::new(BrokerConfig::new(NODE), [7; 32]),
            state: State::new(),
            index: 0,
            millis: 1_000,
            peers: BTreeMap::new(),
            proposed: Vec::new(),
            rows: Vec::new(),
        };
        let password = PasswordHash::Sha256(Sha256::digest(PASSWORD.as_bytes()).into());
        let admin = User {
            id: Id([1; 16]),
            email: "admin".into(),
            note: String::new(),
            is_admin: true,
            is_active: true,
            password: password.clone(),
            generation: 0,
            created_at: WallTime::UNIX_EPOCH,
            updated_at: WallTime::UNIX_EPOCH,
        };
        let tenant = Tenant { id: Id([2; 16]), name: "home".into(), ..Tenant::default() };
        let account = MqttAccount {
            name: ACCOUNT.into(),
            scope: MqttScope::All,
            can_publish: true,
            password,
            created_at: WallTime::UNIX_EPOCH,
        };
        let (cluster_id, cluster_name) = (Id([9; 16]), "test".to_owned());
        let founders = Vec::new();
        let found =
            Command::Found { cluster_id, cluster_name, node: NODE, admin, tenant, founders };
        let put = Command::PutMqttAccount(Put { must_exist: Some(false), value: account });
        for (number, command) in (0..).zip([found, put]) {
            bench.apply(vec![Proposal { request: RequestId([number; 16]), command }]);
        }
        bench
    }

    fn now(&self) -> Now {
        let wall = WallTime::from_unix_secs(1_790_000_000);
        Now { instant: Instant::from_millis(self.millis), wall }
    }

    fn with(&mut self, act: impl FnOnce(&mut Broker, BrokerView<'_>)) {
        let now = self.now();
        act(&mut self.broker, BrokerView { now, state: &self.state });
        self.settle();
    }

    /// As the node does when the log has decided an entry.
    fn apply(&mut self, proposals: Vec<Proposal>) {
        self.index += 1;
        let now = self.now();
        let entry = Entry { wall: now.wall, elapsed_micros: 0, proposals };
        let applied = self.state.apply(self.index, &entry).unwrap();
        for change in &applied.changes {
            self.with(|broker, view| broker.handle_change(view, change));
        }
        for (request, reply) in &applied.replies {
            self.with(|broker, view| {
                broker.handle_reply(view, *request, reply, &mut Metrics::default());
            });
        }
    }

    /// The log decides all that waits, each in an entry of its own, until nothing does.
    fn decide(&mut self) {
        while !self.proposed.is_empty() {
            for proposal in core::mem::take(&mut self.proposed) {
                self.apply(vec![proposal]);
            }
        }
    }

    /// The log takes nothing of what waits.
    fn fail(&mut self, why: ProposalError) {
        for proposal in core::mem::take(&mut self.proposed) {
            let request = proposal.request;
            self.with(|broker, view| {
                broker.handle_proposal_failed(view, request, why);
            });
        }
    }

    /// Time passes; what is due is done.
    fn pass(&mut self, millis: u64) {
        self.millis += millis;
        self.with(Broker::handle_timeout);
    }

    /// A client comes in on a stream of that number.
    fn open(&mut self, number: u64, config: ClientConfig) {
        let (stream, now) = (StreamId(number), self.now().instant);
        self.peers.insert(stream, Peer::new(now, config));
        let peer = "192.0.2.1:1000".parse().unwrap();
        self.with(|broker, view| broker.handle_opened(view, stream, peer));
    }

    /// The client of one stream comes in again on another, and the log lets it.
    fn reconnect(&mut self, before: u64, number: u64) {
        self.come_back(before, number);
        self.decide();
    }

    fn come_back(&mut self, before: u64, number: u64) {
        let (stream, now) = (StreamId(number), self.now().instant);
        let mut client = self.peers.remove(&StreamId(before)).unwrap();
        client.reconnect(now);
        self.peers.insert(stream, client);
        let peer = "192.0.2.1:1000".parse().unwrap();
        self.with(|broker, view| broker.handle_opened(view, stream, peer));
    }

    /// As [`Self::open`], until it is connected; whether a session was there.
    fn connect(&mut self, number: u64, config: ClientConfig) -> bool {
        self.open(number, config);
        self.decide();
        let event = self.peer(number).poll_event();
        let Some(ClientEvent::Connected(connack)) = event else { panic!("{event:?}") };
        connack.session_present
    }

    fn peer(&mut self, number: u64) -> &mut Peer {
        self.peers.get_mut(&StreamId(number)).unwrap()
    }

    /// A client acts.
    fn act(&mut self, number: u64, act: impl FnOnce(&mut Peer, Instant)) {
        let now = self.now().instant;
        act(self.peer(number), now);
        self.settle();
    }

    fn publish(&mut self, number: u64, topic: &str, payload: &str) {
        self.say(number, topic, payload, Qos::AtLeastOnce, false);
    }

    fn say(&mut self, number: u64, topic: &str, payload: &str, qos: Qos, retain: bool) {
        let topic = TopicName::parse(topic).unwrap();
        let publish = Publish { retain, ..Publish::new(topic, payload.to_owned()) };
        self.act(number, |peer, now| peer.publish(now, publish, qos).unwrap());
    }

    fn subscribe(&mut self, number: u64, filter: &str) {
        self.act(number, |peer, now| {
            peer.subscribe(now, &[(filter, Qos::AtLeastOnce)]).unwrap();
        });
    }

    /// What a client has been told since this was last asked: `m1`, `m1 dup`, `m1 retained`.
    fn heard(&mut self, number: u64) -> Vec<String> {
        let mut heard = Vec::new();
        while let Some(event) = self.peer(number).poll_event() {
            if let ClientEvent::Message(publish) = event {
                let text = String::from_utf8(publish.payload.to_vec()).unwrap();
                let dup = matches!(publish.delivery, mqtt::Delivery::AtLeastOnce { dup: true, .. });
                let retain = if publish.retain { " retained" } else { "" };
                heard.push(format!("{text}{}{retain}", if dup { " dup" } else { "" }));
            }
        }
        heard
    }

    /// Carries bytes both ways until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            let now = self.now();
            while let Some(effect) = self.broker.poll_effect() {
                moved = true;
                let view = BrokerView { now, state: &self.state };
                match effect {
                    Effect::Write { stream, bytes } => {
                        let peer = self.peers.get_mut(&stream).unwrap();
                        peer.handle_bytes(now.instant, &bytes);
                        self.broker.handle_drained(view, stream, bytes.len());
                    }
                    Effect::Close { stream } => {
                        self.peers.get_mut(&stream).unwrap().handle_end();
                    }
                    Effect::Propose(proposal) => self.proposed.push(proposal),
                    Effect::PauseReading { .. } | Effect::Withdraw(_) => {}
                    Effect::ReadEvents { token, from, limit } => {
                        let rows = self.rows.iter().filter(|row| row.sequence >= from);
                        let rows: Vec<_> = rows.take(limit).cloned().collect();
                        self.broker.handle_events_read(view, token, &rows);
                    }
                    other @ (Effect::SendDatagram { .. }
                    | Effect::Reply { .. }
                    | Effect::PersistCursor { .. }
                    | Effect::Tell { .. }
                    | Effect::MembersChanged
                    | Effect::Cluster { .. }
                    | Effect::HandOver
                    | Effect::Fatal(_)
                    | Effect::CheckPassword { .. }
                    | Effect::HashPassword { .. }) => panic!("{other:?}"),
                }
            }
            for (stream, peer) in &mut self.peers {
                if let Some(bytes) = peer.poll_transmit() {
                    moved = true;
                    let view = BrokerView { now, state: &self.state };
                    self.broker.handle_bytes(view, *stream, &bytes);
                }
            }
            if !moved {
                return;
            }
        }
    }
}

fn config(version: Version, name: &str) -> ClientConfig {
    ClientConfig::new(version, name).account(ACCOUNT, PASSWORD)
}

/// A client whose session outlives its connections.
fn lasting(name: &str) -> ClientConfig {
    config(Version::V5, name).persistent(3_600)
}

fn closed(peer: &mut Peer) -> Option<ClientClosed> {
    let mut last = None;
    while let Some(event) = peer.poll_event() {
        if let ClientEvent::Closed(cause) = event {
            last = Some(cause);
        }
    }
    last
}

#[test]
fn nobody_is_let_in_before_the_state_is_that_of_today() {
    let mut bench = Bench::starting();
    bench.broker.set_quorum(true);
    bench.open(1, config(Version::V5, "early"));
    let refused = Some(ClientClosed::Refused(ReasonCode::ServerUnavailable));
    assert_eq!(closed(bench.peer(1)), refused);
    bench.broker.serve();
    assert!(!bench.connect(2, config(Version::V5, "early")));
}

#[test]
fn a_3_1_1_client_is_sent_away_when_its_message_finds_no_room_and_says_it_again_in_order() {
    let mut bench = Bench::serving();
    bench.connect(1, lasting("listener"));
    bench.subscribe(1, "plant/#");
    bench.decide();
    let publisher = config(Version::V311, "publisher");
    bench.connect(2, publisher);
    bench.publish(2, "plant/a", "m1");
    bench.fail(ProposalError::DiskFull);
    assert!(!bench.peer(2).is_connected(), "it cannot be told otherwise");
    // What it says meanwhile waits for the next connection.
    bench.publish(2, "plant/a", "m2");
    bench.reconnect(2, 3);
    assert_eq!(bench.heard(1), ["m1", "m2"]);
}

#[test]
fn a_5_0_client_is_told_that_its_message_finds_no_room_and_stays() {
    let mut bench = Bench::serving();
    bench.connect(1, lasting("listener"));
    bench.subscribe(1, "plant/#");
    bench.decide();
    bench.connect(2, config(Version::V5, "publisher"));
    bench.publish(2, "plant/a", "m1");
    bench.fail(ProposalError::DiskFull);
    let event = bench.peer(2).poll_event();
    assert!(
        matches!(event, Some(ClientEvent::Published(_, ReasonCode::QuotaExceeded))),
        "{event:?}"
    );
    bench.publish(2, "plant/a", "m2");
    bench.decide();
    assert_eq!(bench.heard(1), ["m2"]);
}

#[test]
fn what_the_log_did_not_take_is_told_again_before_what_came_later() {
    let mut bench = with_m1_heard_by(lasting("listener"));
    // The client has acknowledged and leaves, and the log takes neither.
    bench.act(1, Peer::disconnect);
    bench.fail(ProposalError::DiskFull);
    // There is room again, and the client is back before the log is told.
    bench.publish(2, "plant/a", "m2");
    bench.come_back(1, 3);
    assert!(bench.proposed.is_empty(), "{:?}", bench.proposed);
    bench.pass(200);
    bench.decide();
    assert_eq!(bench.heard(3), ["m2"]);
}

#[test]
fn a_message_of_qos_0_that_finds_no_room_does_not_come_in_the_place_of_a_newer_one() {
    let mut bench = Bench::serving();
    bench.connect(1, config(Version::V5, "publisher"));
    bench.say(1, "plant/a", "old", Qos::AtMostOnce, true);
    bench.fail(ProposalError::DiskFull);
    bench.say(1, "plant/a", "new", Qos::AtLeastOnce, true);
    bench.decide();
    bench.pass(200);
    bench.decide();
    assert_eq!(bench.state.retained("plant/a").unwrap().message.payload, "new");
}

#[test]
fn a_client_whose_message_is_not_decided_says_it_again_before_what_came_later() {
    for why in [ProposalError::Unknown, ProposalError::NoQuorum] {
        let mut bench = Bench::serving();
        bench.connect(1, lasting("listener"));
        bench.subscribe(1, "plant/#");
        bench.decide();
        bench.connect(2, config(Version::V5, "publisher"));
        bench.publish(2, "plant/a", "m1");
        bench.fail(why);
        assert!(!bench.peer(2).is_connected());
        bench.publish(2, "plant/a", "m2");
        bench.reconnect(2, 3);
        assert_eq!(bench.heard(1), ["m1", "m2"]);
        assert_eq!(bench.peer(3).unacknowledged(), 0);
    }
}

#[test]
fn a_retained_message_reaches_who_subscribes_while_it_is_on_its_way() {
    let mut bench = Bench::serving();
    bench.connect(1, config(Version::V5, "publisher"));
    bench.connect(2, lasting("listener"));
    bench.subscribe(2, "plant/#");
    // The log decides about the subscription first, and about the message with it in force.
    bench.say(1, "plant/a", "m1", Qos::AtLeastOnce, true);
    bench.decide();
    assert_eq!(bench.heard(2), ["m1"]);
}

/// A listener on stream 1 who has got m1, and who said it on stream 2.
fn with_m1_heard_by(listener: ClientConfig) -> Bench {
    let mut bench = Bench::serving();
    bench.connect(1, listener);
    bench.subscribe(1, "plant/#");
    bench.connect(2, config(Version::V5, "publisher"));
    bench.publish(2, "plant/a", "m1");
    bench.decide();
    assert_eq!(bench.heard(1), ["m1"]);
    bench
}

/// A session whose client has m1 and has not said so, and is gone; the log decides nothing.
fn with_m1_under_way() -> Bench {
    let slow = ClientConfig { auto_acknowledge: false, ..lasting("listener") };
    let mut bench = with_m1_heard_by(slow);
    bench.with(|broker, view| broker.handle_closed(view, StreamId(1)));
    bench
}

#[test]
fn a_message_under_way_is_marked_so_after_a_connection_that_the_log_opened_too_late() {
    let mut bench = with_m1_under_way();
    // The client comes and goes while the log stands still.
    bench.come_back(1, 3);
    bench.with(|broker, view| broker.handle_closed(view, StreamId(3)));
    bench.come_back(3, 4);
    bench.decide();
    assert_eq!(bench.heard(4), ["m1 dup"]);
}

#[test]
fn what_a_client_has_acknowledged_here_does_not_come_again_after_it_was_elsewhere() {
    let mut bench = with_m1_heard_by(lasting("listener"));
    // Another node has opened the session before the log is told: it strikes nothing off.
    let client_id = format!("{ACCOUNT}/listener");
    bench.apply(vec![opened_elsewhere(&client_id)]);
    bench.with(|broker, view| broker.handle_closed(view, StreamId(1)));
    bench.decide();
    assert_eq!(bench.state.client_queue(&client_id, 0).count(), 1);
    bench.publish(2, "plant/a", "m2");
    bench.come_back(1, 3);
    bench.decide();
    bench.pass(1_000);
    bench.decide();
    assert_eq!(bench.heard(3), ["m2"]);
    assert_eq!(bench.state.client_queue(&client_id, 0).count(), 0);
}

fn opened_elsewhere(client_id: &str) -> Proposal {
    let command = Command::OpenClientSession {
        client_id: client_id.to_owned(),
        account: ACCOUNT.to_owned(),
        clean_start: false,
        expiry_s: 3_600,
        node: NodeId(2),
    };
    Proposal { request: RequestId([5; 16]), command }
}

#[test]
fn what_was_under_way_here_is_still_known_after_the_client_was_elsewhere() {
    for acknowledged in [false, true] {
        let mut bench = with_m1_under_way();
        bench.decide();
        let client_id = format!("{ACCOUNT}/listener");
        bench.apply(vec![opened_elsewhere(&client_id)]);
        if acknowledged {
            let fence = bench.state.client_sessions().next().unwrap().fence;
            let taken = bench.state.client_queue(&client_id, 0).map(|(place, _)| place).collect();
            let command = Command::AckMessages { client_id, fence, taken };
            bench.apply(vec![Proposal { request: RequestId([6; 16]), command }]);
        }
        bench.come_back(1, 3);
        bench.decide();
        let again: &[&str] = if acknowledged { &[] } else { &["m1 dup"] };
        assert_eq!(bench.heard(3), again);
    }
}
