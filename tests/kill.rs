//! kill -9 under load: a real process, killed at random moments and started again on its folder.
//!
//! What was told to anybody must still be true: an event that was delivered, an uplink that was
//! acknowledged, a number or a nonce that was used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lorawan::Frame;
use mqtt::{ClientConfig, Version};
use serde_json::Value;
use tests::audit::{Contents, Numbers};
use tests::subscriber::{Delivery, Subscriber};
use tests::traffic::{self, Down, Ledger, Sent, Traffic, TrafficConfig};
use tests::{Tern, eventually};

const TRAFFIC: TrafficConfig = TrafficConfig {
    devices: 20,
    joiners: 4,
    every: Duration::from_millis(4),
    confirmed_each: 3,
    join_each: 100,
    rx2_dr: 0,
};
/// How long a process lives, in milliseconds: from barely up to well under way.
const LIVES_MS: std::ops::Range<u64> = 300..2_200;
/// Join-requests replayed after each start.
const REPLAYS: usize = 3;

/// One event: topic and JSON, its keys in order.
type Told = (String, String);

fn told(topic: &str, body: &Value) -> Told {
    (topic.to_owned(), body.to_string())
}

fn told_of(delivery: &Delivery) -> (Told, Value) {
    let body: Value = serde_json::from_slice(&delivery.payload).expect("JSON");
    (told(&delivery.topic, &body), body)
}

/// What a node publishes beside the log: refusals that no log decides.
fn is_refusal(body: &Value) -> bool {
    let codes = ["UPLINK_MIC", "UPLINK_F_CNT_RETRANSMISSION", "OTAA"];
    body["code"].as_str().is_some_and(|code| codes.contains(&code))
}

/// The whole event log.
fn event_log(tern: &Tern) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event["sequence"].as_u64().unwrap());
        let after = after.to_string();
        let page = tern.ok(&["events", "--after", &after, "--limit", "1000", "--json"]);
        let before = events.len();
        events.extend(page.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        if events.len() == before {
            return events;
        }
    }
}

fn check_events(log: &[Value], delivered: &[Delivery]) {
    let logged: BTreeSet<Told> =
        log.iter().map(|event| told(event["topic"].as_str().unwrap(), &event["body"])).collect();
    let mut contents = Contents::default();
    let mut rows = BTreeSet::new();
    for event in log {
        let (topic, body) = (event["topic"].as_str().unwrap(), &event["body"]);
        contents.note(topic, body);
        if let Some(id) = body["deduplicationId"].as_str() {
            assert!(rows.insert((topic, id)), "the log holds one event twice: {event}");
        }
    }
    for delivery in delivered {
        let (event, body) = told_of(delivery);
        contents.note(&delivery.topic, &body);
        assert!(is_refusal(&body) || logged.contains(&event), "delivered, not logged: {event:?}");
    }
}

/// Uplinks that a device was told the network has.
fn check_acknowledgements(ledger: &Ledger, log: &[Value]) -> usize {
    let accepted: BTreeSet<(String, u64)> = log
        .iter()
        .filter(|event| event["event"] == "up")
        .map(|event| {
            let body = &event["body"];
            let dev_eui = body["deviceInfo"]["devEui"].as_str().unwrap().to_owned();
            (dev_eui, body["fCnt"].as_u64().unwrap_or(0))
        })
        .collect();
    let mut acknowledged = BTreeSet::new();
    for down in &ledger.downs {
        let Ok(Frame::Data(frame)) = Frame::parse(&down.bytes) else { continue };
        if !frame.fctrl.ack {
            continue;
        }
        // A number may hold two windows before this one: it is the device's own confirmed frame.
        let sent = ledger.answered(down, |sent| {
            matches!(sent, Sent::Data { device, confirmed: true, .. }
                if traffic::dev_addr(*device) == frame.dev_addr)
        });
        let Some(Sent::Data { device, fcnt, .. }) = sent else {
            panic!("an acknowledgement of nothing: {down:?}");
        };
        let dev_eui = traffic::dev_eui(device).to_string();
        let uplink = (dev_eui, u64::from(fcnt));
        assert!(accepted.contains(&uplink), "acknowledged, not logged: {uplink:?}");
        acknowledged.insert(uplink);
    }
    acknowledged.len()
}

/// No downlink number has two byte strings.
fn check_numbers(ledger: &Ledger) {
    let mut numbers = Numbers::default();
    ledger.downs.iter().for_each(|down| numbers.note(&down.bytes));
}

fn join_nonce(sent: &Sent, down: &Down) -> Option<u32> {
    let Sent::Join { device, .. } = sent else { return None };
    traffic::join_nonce(*device, &down.bytes)
}

/// No nonce of either side is used twice.
fn check_nonces(ledger: &Ledger) -> usize {
    let mut by_dev_nonce: BTreeMap<(u32, u16), u32> = BTreeMap::new();
    let mut by_join_nonce: BTreeMap<(u32, u32), u16> = BTreeMap::new();
    for down in &ledger.downs {
        if !matches!(Frame::parse(&down.bytes), Ok(Frame::JoinAccept(_))) {
            continue;
        }
        let sent = ledger.answered(down, |sent| join_nonce(sent, down).is_some());
        let Some(sent @ Sent::Join { device, dev_nonce }) = sent else {
            panic!("a join-accept for nothing: {down:?}");
        };
        let join_nonce = join_nonce(&sent, down).expect("it fits");
        let first = by_dev_nonce.entry((device, dev_nonce)).or_insert(join_nonce);
        assert_eq!(*first, join_nonce, "DevNonce {dev_nonce} of {device} is accepted twice");
        let first = by_join_nonce.entry((device, join_nonce)).or_insert(dev_nonce);
        assert_eq!(*first, dev_nonce, "JoinNonce {join_nonce} of {device} is used twice");
    }
    by_dev_nonce.len()
}

/// Join-requests that were answered before the crash are sent again.
fn replay(tern: &Tern, traffic: &Traffic, next_tmst: &mut u32) {
    let answered: Vec<Sent> = {
        let ledger = traffic.ledger();
        let joins = ledger
            .downs
            .iter()
            .rev()
            .filter_map(|down| ledger.answered(down, |sent| join_nonce(sent, down).is_some()));
        joins.take(REPLAYS).collect()
    };
    for sent in answered {
        let Sent::Join { device, dev_nonce } = sent else { continue };
        // The upper half of the counter is the replays'; the traffic stays below.
        traffic.replay(tern.udp(), device, dev_nonce, *next_tmst);
        *next_tmst += 1_000_003;
    }
}

/// Deterministic, of a seed that is printed.
fn draw(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn kill_nine_under_load_takes_nothing_back() {
    let kills = std::env::var("TERN_KILLS").map_or(5, |text| text.parse().expect("a number"));
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let drawn = u64::from(clock.subsec_nanos()) << 20 | 1;
    let seed = std::env::var("TERN_SEED").map_or(drawn, |text| text.parse().unwrap());
    println!("TERN_SEED={seed} TERN_KILLS={kills}");
    let mut dice = seed;
    let binary = env!("CARGO_BIN_EXE_tern-under-test").as_ref();
    let mut tern = Tern::start(binary, "EU868", &[]);
    let account = traffic::provision(&tern, &[traffic::GATEWAY.to_owned()], TRAFFIC);
    let config = ClientConfig::new(Version::V5, "auditor").account("auditor", &account.password);
    let subscriber = Subscriber::start(tern.mqtt(), config.persistent(3_600), &account.topic);
    let traffic = Traffic::start(tern.udp(), TRAFFIC);
    let mut next_tmst = 3_000_000_001;
    for kill in 1..=kills {
        let life = LIVES_MS.start + draw(&mut dice) % (LIVES_MS.end - LIVES_MS.start);
        std::thread::sleep(Duration::from_millis(life));
        tern.kill();
        let dead = Instant::now();
        tern.start_again();
        println!("kill {kill}: lived {life} ms, ready after {:?}", dead.elapsed());
        replay(&tern, &traffic, &mut next_tmst);
    }
    std::thread::sleep(Duration::from_secs(2));
    let sent = traffic.ledger().sent.len();
    let ledger = traffic.finish();

    let log = eventually("a log that has come to rest", Duration::from_secs(20), || {
        let log = event_log(&tern);
        std::thread::sleep(Duration::from_secs(1));
        (event_log(&tern).len() == log.len()).then_some(log)
    });
    let wanted: BTreeSet<Told> =
        log.iter().map(|event| told(event["topic"].as_str().unwrap(), &event["body"])).collect();
    eventually("every event at the persistent subscriber", Duration::from_secs(30), || {
        let got: BTreeSet<Told> =
            subscriber.deliveries().iter().map(|delivery| told_of(delivery).0).collect();
        wanted.is_subset(&got).then_some(())
    });
    check_events(&log, &subscriber.deliveries());
    let acknowledged = check_acknowledgements(&ledger, &log);
    check_numbers(&ledger);
    let joined = check_nonces(&ledger);
    let kills: usize = kills;
    println!("{sent} sent, {} logged, {acknowledged} acknowledged, {joined} joins", log.len());
    assert!(log.len() > 100 * kills, "hardly any load: {} events", log.len());
    assert!(acknowledged > 5 * kills + 10, "hardly any acknowledgements: {acknowledged}");
    assert!(joined >= kills, "hardly any joins: {joined}");
}

/// The checks themselves must be able to fail.
mod checks {
    use serde_json::json;

    use super::*;

    fn up(content: &str) -> Value {
        json!({"deduplicationId": "a", "deviceInfo": {"devEui": "01"}, "data": content})
    }

    fn logged(body: &Value) -> Value {
        json!({"sequence": 1, "event": "up", "topic": "t", "body": body})
    }

    fn delivered(body: &Value) -> Delivery {
        Delivery { topic: "t".into(), payload: body.to_string().into_bytes() }
    }

    fn data_down(payload: &[u8], ack: bool) -> Down {
        let message = lorawan::DataMessage {
            direction: lorawan::Direction::Down,
            confirmed: false,
            dev_addr: traffic::dev_addr(0),
            fctrl: lorawan::FCtrl { ack, ..lorawan::FCtrl::default() },
            fcnt: 7,
            f_opts: &[],
            f_port: Some(1),
            payload,
        };
        let key = lorawan::Aes::new(&traffic::key(0));
        Down { tmst: 1_000_004, bytes: message.encode_1_0(&key, &key).unwrap() }
    }

    #[test]
    fn what_is_as_it_should_be_passes() {
        check_events(&[logged(&up("x"))], &[delivered(&up("x")), delivered(&up("x"))]);
        let downs = vec![data_down(b"x", false), data_down(b"x", false)];
        check_numbers(&Ledger { downs, ..Ledger::default() });
    }

    #[test]
    #[should_panic(expected = "delivered, not logged")]
    fn a_delivered_event_that_is_missing_is_found() {
        check_events(&[], &[delivered(&up("x"))]);
    }

    #[test]
    #[should_panic(expected = "one id, two contents")]
    fn an_id_with_two_contents_is_found() {
        check_events(&[logged(&up("x"))], &[delivered(&up("y"))]);
    }

    #[test]
    #[should_panic(expected = "the log holds one event twice")]
    fn a_row_that_is_there_twice_is_found() {
        check_events(&[logged(&up("x")), logged(&up("x"))], &[]);
    }

    #[test]
    #[should_panic(expected = "is used twice")]
    fn a_number_with_two_byte_strings_is_found() {
        let downs = vec![data_down(b"x", false), data_down(b"y", false)];
        check_numbers(&Ledger { downs, ..Ledger::default() });
    }

    #[test]
    #[should_panic(expected = "acknowledged, not logged")]
    fn an_acknowledged_uplink_that_is_missing_is_found() {
        let sent = [(4, Sent::Data { device: 0, fcnt: 1, confirmed: true })].into();
        check_acknowledgements(&Ledger { sent, downs: vec![data_down(b"", true)] }, &[]);
    }

    #[test]
    #[should_panic(expected = "is accepted twice")]
    fn a_nonce_that_is_accepted_twice_is_found() {
        let accept = |join_nonce| {
            let accept = lorawan::JoinAccept {
                join_nonce: lorawan::JoinNonce(join_nonce),
                net_id: lorawan::NetId::default(),
                dev_addr: traffic::dev_addr(0),
                opt_neg: false,
                rx1_dr_offset: 0,
                rx2_dr: 0,
                rx_delay: 1,
                cf_list: None,
            };
            Down { tmst: 5_000_004, bytes: accept.encode_1_0(&traffic::key(0)) }
        };
        let sent = [(4, Sent::Join { device: 0, dev_nonce: 9 })].into();
        check_nonces(&Ledger { sent, downs: vec![accept(1), accept(2)] });
    }
}
