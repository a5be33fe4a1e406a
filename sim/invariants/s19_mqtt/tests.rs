//! Histories that S19 passes, and histories that it must not pass.

use bytes::Bytes;

use super::super::history::{event, judge, reading};
use super::*;

const SCOPE: &str = "application/7/#";

fn owned(text: &str) -> String {
    text.to_owned()
}

fn account(client: &str, sees: &str) -> Fact {
    Fact::Account { client: owned(client), sees: owned(sees) }
}

fn connecting(client: &str, clean_start: bool, persistent: bool) -> Fact {
    connecting_to("n1", client, clean_start, persistent)
}

fn connecting_to(node: &str, client: &str, clean_start: bool, persistent: bool) -> Fact {
    Fact::Connecting { client: owned(client), node: owned(node), clean_start, persistent }
}

fn connected(client: &str, session_present: bool) -> Fact {
    Fact::Connected { client: owned(client), session_present, persistent: true }
}

fn disconnected(client: &str) -> Fact {
    Fact::Disconnected { client: owned(client) }
}

fn subscribes(client: &str, filter: &str) -> Fact {
    Fact::Subscribes { client: owned(client), filter: owned(filter) }
}

fn subscribed(client: &str, filter: &str, qos: u8) -> Fact {
    Fact::Subscribed { client: owned(client), filter: owned(filter), qos }
}

/// A client that keeps its session and has subscribed at QoS 1.
fn listener(client: &str, filter: &str) -> Vec<Fact> {
    vec![
        account(client, SCOPE),
        connecting(client, false, true),
        connected(client, false),
        subscribes(client, filter),
        subscribed(client, filter, 1),
    ]
}

/// A client that begins anew and has subscribed at QoS 0.
fn onlooker(client: &str, filter: &str) -> Vec<Fact> {
    vec![
        account(client, SCOPE),
        connecting(client, true, false),
        connected(client, false),
        subscribes(client, filter),
        subscribed(client, filter, 0),
    ]
}

/// It comes back to the session it had.
fn back(client: &str) -> Vec<Fact> {
    vec![disconnected(client), connecting(client, false, true), connected(client, true)]
}

fn message(topic: &str, payload: &'static str, qos: u8) -> Message {
    let payload = Bytes::from_static(payload.as_bytes());
    Message { topic: owned(topic), payload, qos, retain: false, dup: false }
}

fn kept(topic: &str, payload: &'static str, qos: u8) -> Message {
    Message { retain: true, ..message(topic, payload, qos) }
}

fn again(message: Message) -> Message {
    Message { dup: true, ..message }
}

fn said(message: Message) -> Fact {
    Fact::Published { client: owned("pub"), message, acknowledged: false }
}

fn done(message: Message) -> Fact {
    Fact::Published { client: owned("pub"), message, acknowledged: true }
}

fn got(client: &str, message: Message) -> Fact {
    Fact::Received { client: owned(client), message }
}

fn rested(core: &str) -> Fact {
    Fact::Rested { core: vec![owned(core)] }
}

fn restarted() -> Fact {
    Fact::Started { node: owned("n1") }
}

fn sent(f_cnt: u32) -> Fact {
    Fact::UplinkSent { reading: reading(f_cnt, "21.5"), confirmed: false }
}

/// An event as a client gets it.
fn delivered(client: &str, id: &str, f_cnt: u32, (qos, dup): (u8, bool)) -> Vec<Fact> {
    let event = event(id, reading(f_cnt, "21.5"));
    let topic = owned("application/7/device/1/event/up");
    vec![
        Fact::Delivered { client: owned(client), event },
        Fact::DeliveredAs { client: owned(client), id: owned(id), topic, qos, dup },
    ]
}

/// The only violation that a history leads to.
fn violated(history: impl IntoIterator<Item = Fact>) -> String {
    let found = judge(&mut Mqtt::default(), history);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

fn passes(history: impl IntoIterator<Item = Fact>) {
    assert_eq!(judge(&mut Mqtt::default(), history), Vec::<String>::new());
}

const A: &str = "application/7/board/a";
const UP: &str = "application/7/device/+/event/+";

#[test]
fn a_day_of_a_listener_passes() {
    let (m1, m2) = (message(A, "m1", 1), message(A, "m2", 1));
    let mut history = listener("app1", "application/7/board/#");
    history.extend([said(m1.clone()), got("app1", m1.clone()), done(m1.clone()), said(m2.clone())]);
    history.extend(back("app1"));
    // Not acknowledged before: once more, and told so; then on.
    history.extend([got("app1", again(m1)), got("app1", m2.clone()), done(m2), rested("app1")]);
    passes(history);
}

#[test]
fn at_qos_1_what_was_acknowledged_must_arrive() {
    let m1 = message(A, "m1", 1);
    let lost = [said(m1.clone()), done(m1.clone()), rested("app1")];
    let text = violated([listener("app1", "application/7/#"), lost.to_vec()].concat());
    assert!(text.contains("app1 has not got m1"), "{text}");
    // Neither what nobody was told to have arrived, nor for who is not of the core.
    let open = [said(m1.clone()), rested("app1")];
    passes([listener("app1", "application/7/#"), open.to_vec()].concat());
    let others = [said(m1.clone()), done(m1.clone()), rested("app2")];
    passes([listener("app1", "application/7/#"), others.to_vec()].concat());
    // Nor what was said before it had subscribed, or at QoS 0, or to an onlooker.
    let early = vec![said(m1.clone()), done(m1)];
    let late = [early, listener("app1", "application/7/#"), vec![rested("app1")]].concat();
    passes(late);
    let light = vec![said(message(A, "m0", 0)), rested("app1")];
    passes([listener("app1", "application/7/#"), light].concat());
    let m1 = message(A, "m1", 1);
    let seen = vec![said(m1.clone()), done(m1), rested("app1")];
    passes([onlooker("app1", "#"), seen].concat());
}

#[test]
fn what_waits_is_told_while_there_is_time() {
    let mut mqtt = Mqtt::default();
    let m1 = message(A, "m1", 1);
    let history = [listener("app1", "application/7/#"), vec![said(m1.clone()), done(m1.clone())]];
    assert!(judge(&mut mqtt, history.concat()).is_empty());
    let core = [owned("app1")];
    assert!(mqtt.waiting(&core).is_some_and(|text| text.contains("m1")));
    assert_eq!(mqtt.waiting(&[owned("app2")]), None);
    assert!(judge(&mut mqtt, [got("app1", m1)]).is_empty());
    assert_eq!(mqtt.waiting(&core), None);
}

#[test]
fn dup_is_for_what_was_sent_before_on_an_earlier_connection() {
    let m1 = message(A, "m1", 1);
    let first = vec![said(m1.clone()), got("app1", again(m1.clone()))];
    let text = violated([listener("app1", "application/7/#"), first].concat());
    assert!(text.contains("DUP in a new session"), "{text}");
    let fresh = vec![said(m1.clone()), got("app1", again(m1))];
    let text = violated([listener("app1", "application/7/#"), back("app1"), fresh].concat());
    assert!(text.contains("on this connection's time"), "{text}");
    let m0 = message(A, "m0", 0);
    let light = vec![said(m0.clone())];
    let lights = vec![got("app1", again(m0))];
    let text =
        violated([listener("app1", "application/7/#"), light, back("app1"), lights].concat());
    assert!(text.contains("DUP at QoS 0"), "{text}");
}

#[test]
fn a_repetition_says_so_unless_the_node_has_forgotten_or_the_publisher_said_it_again() {
    let m1 = message(A, "m1", 1);
    let before =
        [listener("app1", "application/7/#"), vec![said(m1.clone()), got("app1", m1.clone())]];
    let before = before.concat();
    let text = violated([before.clone(), back("app1"), vec![got("app1", m1.clone())]].concat());
    assert!(text.contains("2 times without DUP"), "{text}");
    let restart = vec![restarted()];
    passes([before.clone(), restart, back("app1"), vec![got("app1", m1.clone())]].concat());
    let elsewhere = |node: &str| {
        vec![
            disconnected("app1"),
            connecting_to(node, "app1", false, true),
            connected("app1", true),
        ]
    };
    passes([before.clone(), elsewhere("n2"), vec![got("app1", m1.clone())]].concat());
    // Another node's restart makes this one forget nothing.
    let another = Fact::Started { node: owned("n2") };
    let others = [vec![another], back("app1"), vec![got("app1", m1.clone())]].concat();
    let text = violated([before.clone(), others].concat());
    assert!(text.contains("2 times without DUP"), "{text}");
    // The node of before has said it all, and the client hears it when that one is dead.
    let said_before = vec![
        said(m1.clone()),
        disconnected("app1"),
        connecting("app1", false, true),
        restarted(),
        connected("app1", true),
        got("app1", m1.clone()),
    ];
    let said_after = [back("app1"), vec![got("app1", m1.clone())]].concat();
    passes([listener("app1", "application/7/#"), said_before, said_after].concat());
    let repeated = vec![said(again(m1.clone())), got("app1", m1.clone())];
    passes([before.clone(), repeated].concat());
    let twice = vec![got("app1", m1.clone())];
    let text = violated([before.clone(), twice].concat());
    assert!(text.contains("2 times on one connection"), "{text}");
    // What was under way when the node died was sent before.
    let late = vec![restarted(), got("app1", m1)];
    let text = violated([before, late].concat());
    assert!(text.contains("2 times on one connection"), "{text}");
}

#[test]
fn at_qos_0_at_most_once() {
    let m0 = message(A, "m0", 0);
    let once = [onlooker("app1", "#"), vec![said(m0.clone()), got("app1", m0.clone())]].concat();
    passes(once.clone());
    let anew = vec![
        disconnected("app1"),
        connecting("app1", true, false),
        connected("app1", false),
        subscribes("app1", "#"),
        got("app1", m0),
    ];
    let text = violated([once, anew].concat());
    assert!(text.contains("2 times at QoS 0"), "{text}");
    let twice = [
        vec![sent(1)],
        onlooker("app1", "#"),
        delivered("app1", "e1", 1, (0, false)),
        delivered("app1", "e1", 1, (0, false)),
    ];
    assert!(violated(twice.concat()).contains("2 times at QoS 0"));
}

#[test]
fn one_publisher_on_one_topic_comes_in_order() {
    let [m1, m2] = ["m1", "m2"].map(|payload| message(A, payload, 1));
    let both = vec![said(m1.clone()), said(m2.clone())];
    let turned = vec![got("app1", m2.clone()), got("app1", m1.clone())];
    let text =
        violated([listener("app1", "application/7/#"), both.clone(), turned.clone()].concat());
    assert!(text.contains("out of order"), "{text}");
    // A repetition reorders nothing, and another topic or publisher has its own order.
    let again = vec![got("app1", m1), got("app1", m2.clone())];
    let repeated = vec![got("app1", again_of("m1")), got("app1", again_of("m2"))];
    passes(
        [listener("app1", "application/7/#"), both.clone(), again, back("app1"), repeated].concat(),
    );
    let both_again = vec![said(again_of("m1")), said(again_of("m2"))];
    passes([listener("app1", "application/7/#"), both.clone(), both_again, turned].concat());
    let other = message("application/7/board/b", "m3", 1);
    let theirs = vec![said(other.clone()), said(m2.clone()), got("app1", m2), got("app1", other)];
    passes([listener("app1", "application/7/#"), theirs].concat());
}

fn again_of(payload: &'static str) -> Message {
    again(message(A, payload, 1))
}

#[test]
fn events_come_in_the_order_of_the_log_and_all_of_them() {
    let log: Vec<Event> =
        [("e1", 1), ("e2", 2)].map(|(id, f_cnt)| event(id, reading(f_cnt, "21.5"))).into();
    let begin = [listener("app1", UP), vec![sent(1), sent(2)]].concat();
    let ended = Fact::Ended { log };
    let [e1, e2] = [("e1", 1), ("e2", 2)].map(|(id, f)| delivered("app1", id, f, (1, false)));
    let end = vec![rested("app1"), ended];
    passes([begin.clone(), e1.clone(), e2.clone(), end.clone()].concat());
    let repeated = [back("app1"), delivered("app1", "e1", 1, (1, true))].concat();
    passes([begin.clone(), e1.clone(), e2.clone(), repeated, end.clone()].concat());
    let text = violated([begin.clone(), e2, e1.clone(), end.clone()].concat());
    assert!(text.contains("got event e2 before event e1"), "{text}");
    let text = violated([begin, e1, end].concat());
    assert!(text.contains("has not got event") && text.contains("\"e2\""), "{text}");
}

#[test]
fn phantoms_and_altered_messages_are_caught() {
    let begin = listener("app1", "application/7/#");
    let text = violated([begin.clone(), vec![got("app1", message(A, "m1", 1))]].concat());
    assert!(text.contains("phantom"), "{text}");
    let m1 = message(A, "m1", 1);
    let moved = vec![said(m1), got("app1", message("application/7/board/b", "m1", 1))];
    let text = violated([begin.clone(), moved].concat());
    assert!(text.contains("which was said on application/7/board/a"), "{text}");
    let m1 = message(A, "m1", 1);
    let raised = vec![said(message(A, "m1", 0)), got("app1", m1.clone())];
    let text = violated([begin, raised].concat());
    assert!(text.contains("at QoS 1 instead of 0"), "{text}");
    let old = vec![said(m1.clone()), done(m1.clone())];
    let text = violated([old, listener("app1", "application/7/#"), vec![got("app1", m1)]].concat());
    assert!(text.contains("said before it had subscribed"), "{text}");
}

#[test]
fn nobody_gets_what_his_account_must_not_see_or_what_he_did_not_ask_for() {
    let theirs = message("application/8/board/a", "m1", 0);
    let crossed = vec![said(theirs.clone()), got("app1", theirs)];
    let text = violated([onlooker("app1", "#"), crossed].concat());
    assert!(text.contains("may see application/7/# alone"), "{text}");
    let m1 = message(A, "m1", 1);
    let unasked = vec![said(m1.clone()), got("app1", m1)];
    let text = violated([listener("app1", UP), unasked].concat());
    assert!(text.contains("has not asked for that"), "{text}");
}

#[test]
fn a_kept_session_is_there_and_a_clean_start_finds_none() {
    let begin = listener("app1", UP);
    let gone =
        vec![disconnected("app1"), connecting("app1", false, true), connected("app1", false)];
    let text = violated([begin.clone(), gone.clone()].concat());
    assert!(text.contains("the persistent session is gone"), "{text}");
    let lost = vec![Fact::DiskLost { node: owned("n1"), wiped: true }];
    passes([begin.clone(), lost.clone(), gone].concat());
    // The lost cluster's answer arrives after it, and what it has said behind that.
    let late = [disconnected("app1"), connecting("app1", false, true)];
    let answer = vec![connected("app1", true)];
    let told = delivered("app1", "e1", 1, (1, false));
    passes([begin.clone(), late.to_vec(), lost, answer, told].concat());
    let clean = vec![disconnected("app1"), connecting("app1", true, true), connected("app1", true)];
    let text = violated([begin, clean].concat());
    assert!(text.contains("a clean start found a session"), "{text}");
    let first = vec![account("app1", SCOPE), connecting("app1", true, false)];
    let nothing = vec![disconnected("app1"), connecting("app1", false, false)];
    let found = vec![connected("app1", true)];
    let text = violated([first, vec![connected("app1", false)], nothing, found].concat());
    assert!(text.contains("a session out of nothing"), "{text}");
    // What was asked for and not answered may have come about.
    let unanswered =
        vec![account("app1", SCOPE), connecting("app1", false, true), disconnected("app1")];
    let answered = vec![connecting("app1", false, true), connected("app1", true)];
    passes([unanswered, answered].concat());
}

#[test]
fn a_new_subscriber_gets_the_last_retained() {
    let [m1, m2] = ["m1", "m2"].map(|payload| kept(A, payload, 1));
    let both = vec![said(m1.clone()), done(m1.clone()), said(m2.clone()), done(m2.clone())];
    let begin = [both, listener("app1", "application/7/#")].concat();
    passes([begin.clone(), vec![got("app1", m2.clone()), rested("app1")]].concat());
    let text = violated([begin.clone(), vec![got("app1", m1.clone()), got("app1", m2)]].concat());
    assert!(text.contains("a later one was acknowledged before"), "{text}");
    let text = violated([begin, vec![rested("app1")]].concat());
    assert!(text.contains("has not got what is retained on"), "{text}");
    let plain = message(A, "m3", 1);
    let told = vec![said(plain.clone()), got("app1", Message { retain: true, ..plain })];
    let text = violated([listener("app1", "application/7/#"), told].concat());
    assert!(text.contains("was not to be retained"), "{text}");
}

#[test]
fn what_is_under_way_while_somebody_subscribes_comes_as_retained_or_as_said() {
    let [m1, m2] = ["m1", "m2"].map(|payload| kept(A, payload, 1));
    let begin = vec![
        said(m1.clone()),
        done(m1.clone()),
        account("app1", SCOPE),
        connecting("app1", false, true),
        connected("app1", false),
        subscribes("app1", "application/7/#"),
        said(m2.clone()),
        subscribed("app1", "application/7/#", 1),
        done(m2.clone()),
    ];
    let live = Message { retain: false, ..m2.clone() };
    passes([begin.clone(), vec![got("app1", m2), rested("app1")]].concat());
    let old = vec![got("app1", m1)];
    passes([begin.clone(), old.clone(), vec![got("app1", live), rested("app1")]].concat());
    let text = violated([begin, old, vec![rested("app1")]].concat());
    assert!(text.contains("app1 has not got m2"), "{text}");
}

#[test]
fn a_connection_that_was_replaced_is_silent() {
    let m1 = message(A, "m1", 1);
    let stale = |since: u64, message: Option<Message>| {
        let since = Duration::from_secs(since);
        vec![Fact::Stale { client: owned("app1"), since, message }]
    };
    let begin =
        [listener("app1", "application/7/#"), back("app1"), vec![said(m1.clone())]].concat();
    // The newer connection began at 7 s, the message was said at 8 s.
    let text = violated([begin.clone(), stale(7, Some(m1.clone()))].concat());
    assert!(text.contains("two live connections of app1"), "{text}");
    passes([begin.clone(), stale(8, Some(m1))].concat());
    let text = violated([begin, stale(7, None)].concat());
    assert!(text.contains("two live connections"), "{text}");
}

#[test]
fn a_payload_stands_for_one_message() {
    let twice = [said(message(A, "m1", 1)), said(message("application/7/board/b", "m1", 1))];
    assert!(violated(twice).contains("which stands for"));
}
