//! Sessions, queues and retained messages of MQTT clients.

use bytes::Bytes;
use mqtt::{ClientConfig, Qos, Session, SessionLimits, TopicName, Version};
use node::StreamId;
use node::api::{Operation, Outcome, wire};
use store::{Entry, NodeId, Proposal, RequestId, SnapshotBuilder, State};

use super::bench::{Bench, data_frame};
use super::*;

const TOPIC: &str = "application/meters/level";

fn account(bench: &mut Bench) -> wire::MqttUserCreated {
    let user = wire::MqttUser {
        name: "dashboard".to_owned(),
        all: true,
        can_publish: true,
        ..Default::default()
    };
    let Outcome::MqttUserCreated(made) = bench.ok(Operation::CreateMqttUser(user)) else {
        panic!("an account was asked for, and something else came");
    };
    made
}

/// A client with a persistent session.
fn client(bench: &mut Bench, name: &str, account: &wire::MqttUserCreated) -> StreamId {
    let config = ClientConfig::new(Version::V5, name).account(&account.name, &account.password);
    bench.connect(config.persistent(3_600))
}

fn publish(payload: &'static str, retain: bool) -> mqtt::Publish {
    let topic = TopicName::parse(TOPIC).unwrap();
    mqtt::Publish { retain, ..mqtt::Publish::new(topic, Bytes::from_static(payload.as_bytes())) }
}

/// A node with an event that its client has not got.
fn with_a_waiting_event() -> State {
    let mut bench = Bench::new();
    let account = account(&mut bench);
    let app = client(&mut bench, "app", &account);
    bench.with(app, |at, client| {
        client.subscribe(at, &[("application/#", Qos::AtLeastOnce)]).unwrap();
    });
    bench.handle(node::Input::StreamClosed { stream: app });
    bench.activate(0);
    bench.uplink(0, false);
    let state = bench.node.state().clone();
    assert_eq!(state.client_queue("dashboard/app", 0).count(), 1);
    state
}

#[test]
fn a_start_forgets_what_waits() {
    let waiting = || {
        let mut bench = Bench::new();
        let account = account(&mut bench);
        let app = client(&mut bench, "app", &account);
        bench.with(app, |at, client| {
            client.subscribe(at, &[("application/#", Qos::AtLeastOnce)]).unwrap();
        });
        bench.activate(0);
        // What the client acknowledges does not reach the log before the crash.
        bench.hear(0, &data_frame(0, false, false));
        bench.wait(clock::Duration::from_millis(210));
        let mut state = bench.node.state().clone();
        let boot = store::Command::Boot { node: NodeId(1), boot: 2, feature_level: 1, plate: None };
        let proposals = vec![Proposal { request: RequestId([1; 16]), command: boot }];
        let entry = Entry { wall: clock::WallTime::UNIX_EPOCH, elapsed_micros: 0, proposals };
        state.apply(state.applied_index() + 1, &entry).unwrap();
        state.client_queue("dashboard/app", 0).count()
    };
    assert_eq!(both(Bug::QueueLostAtStart, waiting), (1, 0));
}

#[test]
fn a_snapshot_lacks_the_sessions() {
    let kept = || {
        let mut builder = SnapshotBuilder::new();
        for piece in with_a_waiting_event().snapshot() {
            builder.feed(&piece).unwrap();
        }
        builder.finish().unwrap().client_sessions().count()
    };
    assert_eq!(both(Bug::SessionNotInSnapshot, kept), (1, 0));
}

#[test]
fn what_was_under_way_stays_away_on_a_new_connection() {
    let again = || {
        let mut session = Session::new(SessionLimits::default());
        session.connected(10);
        assert!(session.enqueue("21.5", Qos::AtLeastOnce).is_none());
        assert!(session.poll_outgoing().is_some());
        session.disconnected();
        session.connected(10);
        session.poll_outgoing().is_some()
    };
    assert_eq!(both(Bug::NotSentAgain, again), (true, false));
}

#[test]
fn a_retained_message_stays_the_first() {
    let retained = || {
        let mut bench = Bench::new();
        let account = account(&mut bench);
        let app = client(&mut bench, "app", &account);
        for payload in ["21.5", "21.6"] {
            bench.with(app, |at, client| {
                client.publish(at, publish(payload, true), Qos::AtLeastOnce).unwrap();
            });
        }
        bench.messages.clear();
        bench.with(app, |at, client| {
            client.subscribe(at, &[(TOPIC, Qos::AtLeastOnce)]).unwrap();
        });
        bench.messages.iter().map(|one| one.payload.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        both(Bug::RetainedNotReplaced, retained),
        (vec!["21.6".into()], vec!["21.5".into()])
    );
}
