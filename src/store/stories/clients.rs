//! Persistent client sessions: ownership, queues, ends; retained messages.

use super::*;
use crate::limits::{SESSION_QUEUE_MAX, SUBSCRIPTIONS_MAX};
use crate::{Change, MqttMessage, MqttSubscription, Pointer, Queued};

const FOREVER: u32 = u32::MAX;

fn open(client: &str, account: &str, clean_start: bool, expiry_s: u32, node: u64) -> Command {
    Command::OpenClientSession {
        client_id: client.into(),
        account: account.into(),
        clean_start,
        expiry_s,
        node: NodeId(node),
    }
}

fn wish(filter: &str, qos: u8) -> MqttSubscription {
    MqttSubscription {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        identifier: None,
    }
}

fn subscribe(client: &str, fence: u64, filter: &str, qos: u8) -> Command {
    let (client_id, add) = (client.into(), vec![wish(filter, qos)]);
    Command::Subscribe { client_id, fence, add, remove: vec![] }
}

fn ack(client: &str, fence: u64, taken: &[u64]) -> Command {
    Command::AckMessages { client_id: client.into(), fence, taken: taken.to_vec() }
}

fn close(client: &str, fence: u64, end: bool) -> Command {
    Command::CloseClientSession { client_id: client.into(), fence, end }
}

fn message(topic: &str, payload: &[u8], qos: u8, retain: bool) -> MqttMessage {
    MqttMessage {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(payload),
        qos,
        retain,
        queue: true,
        expires_at: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: vec![],
        is_utf8: false,
        publisher: "publisher".into(),
        fence: None,
    }
}

/// With an account of each scope: `all`, `tenant`, `app`.
fn with_accounts() -> Log {
    let mut log = Log::with_session();
    log.done(Command::PutMqttAccount(create(account("all", MqttScope::All))));
    log.done(Command::PutMqttAccount(create(account("tenant", MqttScope::Tenant(TENANT)))));
    let scope = MqttScope::Application(APPLICATION);
    log.done(Command::PutMqttAccount(create(account("app", scope))));
    log
}

fn opened(log: &mut Log, command: Command) -> (bool, u64) {
    let reply = log.ask(command).0;
    let Reply::ClientSession { present, fence } = reply else { panic!("{reply:?}") };
    (present, fence)
}

fn queue(log: &Log, client: &str) -> Vec<(u64, Queued)> {
    log.state.client_queue(client, 0).collect()
}

fn pointers(log: &Log, client: &str) -> Vec<Pointer> {
    queue(log, client).into_iter().map(|(_, place)| place.pointer).collect()
}

#[test]
fn events_wait_for_a_client_that_is_away() {
    let mut log = with_accounts();
    let (present, fence) = opened(&mut log, open("c", "app", false, FOREVER, 1));
    assert!(!present);
    log.done(subscribe("c", fence, "application/+/device/+/event/up", 1));
    log.done(close("c", fence, false));
    let applied = log.ask(accept(uplink(8))).1;
    assert_eq!(applied.changes, [], "nobody is connected who could be told");
    log.ask(accept(uplink(9)));
    let (present, second) = opened(&mut log, open("c", "app", false, FOREVER, 2));
    assert!(present && second > fence);
    let waiting = [
        (1, Queued { pointer: Pointer::Event(1), qos: 1 }),
        (2, Queued { pointer: Pointer::Event(2), qos: 1 }),
    ];
    assert_eq!(queue(&log, "c"), waiting);
    log.done(ack("c", second, &[1]));
    assert_eq!(queue(&log, "c"), waiting[1..]);
    let applied = log.ask(accept(uplink(10))).1;
    let told = Change::ClientQueued { client_id: "c".into(), node: NodeId(2) };
    assert_eq!(applied.changes, [told]);
    assert_eq!(log.state.client_queue("c", 3).count(), 1);
}

#[test]
fn the_newest_connection_owns_the_session() {
    let mut log = with_accounts();
    let (_, first) = opened(&mut log, open("c", "app", false, FOREVER, 1));
    let (reply, applied) = log.ask(open("c", "app", false, FOREVER, 2));
    let Reply::ClientSession { present: true, fence: second } = reply else { panic!("{reply:?}") };
    let taken = Change::ClientTaken { client_id: "c".into(), node: NodeId(1), fence: first };
    let present = true;
    let now = Change::ClientOpened { client_id: "c".into(), node: NodeId(2), present };
    assert_eq!(applied.changes, [taken, now]);
    for late in [close("c", first, true), subscribe("c", first, "#", 1), ack("c", first, &[1])] {
        assert_eq!(log.refused(late), Refusal::Fenced);
    }
    let (present, _) = opened(&mut log, open("c", "app", true, FOREVER, 2));
    assert!(!present, "a clean start drops what was there");
    assert!(second < log.state.client_session("c").unwrap().fence);
    let foreign = log.refused(open("c", "tenant", false, FOREVER, 1));
    assert!(matches!(foreign, Refusal::InUse(_)));
    assert!(matches!(log.refused(open("d", "nobody", false, 1, 1)), Refusal::NotFound(_)));
}

#[test]
fn a_session_ends_when_its_client_stays_away_too_long() {
    let mut log = with_accounts();
    let (_, fence) = opened(&mut log, open("c", "app", false, 120, 1));
    log.pass(3_600);
    assert!(log.state.client_session("c").is_some(), "while connected it does not end");
    log.done(close("c", fence, false));
    assert_eq!(log.pass(119).changes, []);
    let ended = Change::ClientEnded { client_id: "c".into(), node: None, fence };
    assert_eq!(log.pass(1).changes, [ended]);
    let (present, _) = opened(&mut log, open("c", "app", false, 120, 1));
    assert!(!present);
}

#[test]
fn a_session_without_an_expiry_ends_with_its_connection() {
    let mut log = with_accounts();
    let (_, fence) = opened(&mut log, open("c", "app", false, 0, 1));
    log.done(close("c", fence, false));
    assert!(log.state.client_session("c").is_none());
    let (_, fence) = opened(&mut log, open("d", "app", false, FOREVER, 1));
    log.done(close("d", fence, true));
    assert!(log.state.client_session("d").is_none());
}

#[test]
fn the_start_of_a_node_ends_its_connections() {
    let mut log = with_accounts();
    opened(&mut log, open("stays", "app", false, 60, 1));
    opened(&mut log, open("goes", "app", false, 0, 1));
    opened(&mut log, open("elsewhere", "app", false, 60, 2));
    log.done(Command::Boot { node: NODE, boot: 1, feature_level: 1, plate: None });
    assert_eq!(log.state.client_session("stays").unwrap().node, None);
    assert!(log.state.client_session("goes").is_none());
    assert_eq!(log.state.client_session("elsewhere").unwrap().node, Some(NodeId(2)));
    log.pass(60);
    assert!(log.state.client_session("stays").is_none());
}

#[test]
fn an_account_gets_only_what_it_may_see() {
    let mut log = with_accounts();
    log.done(Command::PutTenant(create(tenant(id(20), "two"))));
    log.done(Command::PutApplication(create(application(id(21), id(20), "other"))));
    let foreign = MqttScope::Application(id(21));
    log.done(Command::PutMqttAccount(create(account("foreign", foreign))));
    for name in ["all", "tenant", "app", "foreign"] {
        let (_, fence) = opened(&mut log, open(name, name, false, FOREVER, 1));
        log.done(subscribe(name, fence, "#", 1));
    }
    log.ask(accept(uplink(8)));
    let command = format!("application/{}/device/{DEVICE}/command/down", id(21));
    log.done(Command::PublishMessage(message(&command, b"x", 1, false)));
    log.done(Command::PublishMessage(message("free/topic", b"x", 1, false)));
    let (event, down, free) = (Pointer::Event(1), Pointer::Message(1), Pointer::Message(2));
    assert_eq!(pointers(&log, "all"), [event, down, free]);
    assert_eq!(pointers(&log, "tenant"), [event]);
    assert_eq!(pointers(&log, "app"), [event]);
    assert_eq!(pointers(&log, "foreign"), [down]);
}

#[test]
fn revoking_an_account_ends_its_sessions_and_queues() {
    let mut log = with_accounts();
    for client in ["one", "two"] {
        let (_, fence) = opened(&mut log, open(client, "app", false, FOREVER, 1));
        log.done(subscribe(client, fence, "#", 1));
    }
    let topic = format!("application/{APPLICATION}/x");
    log.done(Command::PublishMessage(message(&topic, b"x", 1, false)));
    assert_eq!(log.state.message(1).unwrap().places, 2);
    let applied = log.done(Command::DeleteMqttAccount("app".into()));
    assert_eq!(log.state.client_sessions().count(), 0);
    assert!(log.state.message(1).is_none(), "nobody waits for it any more");
    assert_eq!(applied.changes.last(), Some(&Change::MqttAccount("app".into())));
    assert_eq!(applied.changes.len(), 3);
    let again = log.refused(open("one", "app", false, FOREVER, 1));
    assert!(matches!(again, Refusal::NotFound(_)));
    let (_, fence) = opened(&mut log, open("three", "tenant", false, FOREVER, 1));
    log.done(subscribe("three", fence, "#", 1));
    let narrowed = account("tenant", MqttScope::Application(APPLICATION));
    log.done(Command::PutMqttAccount(change(narrowed)));
    assert!(log.state.client_session("three").is_none(), "its queue may hold too much");
}

#[test]
fn a_message_is_stored_once_and_goes_with_its_last_place() {
    let mut log = with_accounts();
    let mut fences = vec![];
    for (client, qos) in [("zero", 0), ("one", 1), ("two", 2)] {
        let (_, fence) = opened(&mut log, open(client, "all", false, FOREVER, 1));
        log.done(subscribe(client, fence, "a/#", qos));
        fences.push(fence);
    }
    log.done(Command::PublishMessage(message("a/b", b"x", 2, false)));
    log.done(Command::PublishMessage(message("a/b", b"not kept", 0, false)));
    let pointer = Pointer::Message(1);
    assert_eq!(queue(&log, "zero"), []);
    assert_eq!(queue(&log, "one"), [(1, Queued { pointer, qos: 1 })]);
    assert_eq!(queue(&log, "two"), [(1, Queued { pointer, qos: 2 })]);
    log.done(ack("one", fences[1], &[1, 1, 99]));
    assert_eq!(log.state.message(1).unwrap().places, 1);
    log.done(ack("two", fences[2], &[1]));
    assert!(log.state.message(1).is_none() && log.state.message(2).is_none());
    assert_eq!(log.state.index.queued_bytes, 0);
}

#[test]
fn a_full_queue_loses_its_oldest_and_counts_it() {
    let mut log = with_accounts();
    let (_, fence) = opened(&mut log, open("c", "all", false, FOREVER, 1));
    log.done(subscribe("c", fence, "#", 1));
    for _ in 0..SESSION_QUEUE_MAX + 3 {
        log.done(Command::PublishMessage(message("t", b"x", 1, false)));
    }
    let session = log.state.client_session("c").unwrap();
    assert_eq!((session.queue.len(), session.dropped), (SESSION_QUEUE_MAX, 3));
    assert_eq!(session.queue.get_min().unwrap().0, 4);
    assert_eq!(log.state.messages.len(), SESSION_QUEUE_MAX);
}

#[test]
fn places_of_rows_that_are_gone_go_too() {
    let mut log = with_accounts();
    let (_, fence) = opened(&mut log, open("c", "all", false, FOREVER, 1));
    log.done(subscribe("c", fence, "#", 1));
    log.state.events.bounds.piece_bytes = 1;
    log.state.events.bounds.bytes = 1;
    log.ask(accept(uplink(8)));
    let applied = log.ask(accept(uplink(9))).1;
    assert_eq!(applied.drop_below, Some(2));
    assert_eq!(pointers(&log, "c"), [Pointer::Event(2)]);
    log.ask(accept(uplink(10)));
    assert_eq!(pointers(&log, "c"), [Pointer::Event(3)]);
    assert_eq!(log.state.client_session("c").unwrap().dropped, 1);
}

#[test]
fn the_last_value_of_a_topic_is_kept_until_an_empty_one() {
    let mut log = Log::founded();
    let first = log.done(Command::PublishMessage(message("a", b"1", 0, true)));
    assert_eq!(first.changes, [Change::Retained("a".into())]);
    log.done(Command::PublishMessage(message("a", b"22", 1, true)));
    log.done(Command::PublishMessage(message("a", b"passing", 1, false)));
    assert_eq!(log.state.retained("a").unwrap().message.payload.as_ref(), b"22");
    log.done(Command::PublishMessage(message("a", b"", 0, true)));
    assert!(log.state.retained("a").is_none());
    assert_eq!(log.state.index.retained_bytes, 0);
    let wrong = Command::PublishMessage(message("a/+", b"1", 0, true));
    assert!(matches!(log.refused(wrong), Refusal::Invalid(_)));
}

#[test]
fn retained_messages_are_bounded_in_bytes() {
    let mut log = Log::founded();
    let large = vec![0; 7 << 20];
    for number in 0..9 {
        log.done(Command::PublishMessage(message(&number.to_string(), &large, 0, true)));
    }
    let tenth = Command::PublishMessage(message("9", &large, 0, true));
    assert!(matches!(log.refused(tenth), Refusal::LimitReached(_)));
    log.done(Command::PublishMessage(message("0", &large, 0, true)));
    log.done(Command::PublishMessage(message("0", b"", 0, true)));
    log.done(Command::PublishMessage(message("9", &large, 0, true)));
}

#[test]
fn subscriptions_are_checked_replaced_and_bounded() {
    let mut log = with_accounts();
    let (_, fence) = opened(&mut log, open("c", "all", false, FOREVER, 1));
    for wrong in ["", "a/#/b", "$share/group/a"] {
        assert!(matches!(log.refused(subscribe("c", fence, wrong, 1)), Refusal::Invalid(_)));
    }
    log.done(subscribe("c", fence, "a", 0));
    log.done(Command::PublishMessage(message("a", b"x", 1, false)));
    assert_eq!(queue(&log, "c"), []);
    log.done(subscribe("c", fence, "a", 1));
    log.done(Command::PublishMessage(message("a", b"x", 1, false)));
    assert_eq!(queue(&log, "c").len(), 1);
    let (client_id, remove) = ("c".to_owned(), vec!["a".to_owned()]);
    log.done(Command::Subscribe { client_id: client_id.clone(), fence, add: vec![], remove });
    log.done(Command::PublishMessage(message("a", b"x", 1, false)));
    assert_eq!(queue(&log, "c").len(), 1);
    let add = (0..=SUBSCRIPTIONS_MAX).map(|number| wish(&number.to_string(), 1)).collect();
    let many = Command::Subscribe { client_id, fence, add, remove: vec![] };
    assert!(matches!(log.refused(many), Refusal::LimitReached(_)));
}

#[test]
fn a_scope_reads_one_spelling_of_its_applications_alone() {
    let log = Log::founded();
    let (tenant, app) = (MqttScope::Tenant(TENANT), MqttScope::Application(APPLICATION));
    let own = format!("application/{APPLICATION}/device/x/event/up");
    for scope in [MqttScope::All, tenant, app] {
        assert!(log.state.scope_allows(scope, &own));
    }
    let dashless = own.replace('-', "");
    let upper = own.to_uppercase();
    let bare = format!("application/{APPLICATION}");
    for topic in [dashless.as_str(), &upper, &bare, "application//x", "$SYS/x", "other", ""] {
        assert!(log.state.scope_allows(MqttScope::All, topic));
        assert!(!log.state.scope_allows(tenant, topic), "{topic}");
        assert!(!log.state.scope_allows(app, topic), "{topic}");
    }
}
