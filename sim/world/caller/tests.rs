//! Callers of a real node: what they are told fits together, also over crashes; and what a lying
//! door tells them is noticed.

use std::collections::BTreeMap;

use node::api::Outcome;

use super::*;
use crate::history::{Book, ClientFact, ClientOracle, Verdict};
use crate::trace::{Format, Trace};
use crate::world::*;

const STORY: &str = "title = \"callers\"\nduration = \"1m\"";
const SIZES: Sizes = Sizes { devices: 2, gateways: 1, applications: 1, queues: 2 };
const MINUTE: Duration = Duration::from_secs(60);

/// Four callers of one node for a minute; its power goes once, and once its process is killed.
fn lived(seed: u64, crashes: bool, door: fn(Door) -> Door) -> Vec<HistoryEvent> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let thread = std::thread::spawn(move || {
        machine_room(seed).block_on(async move {
            Net::start();
            let scenario = Scenario::parse("t.toml", STORY).unwrap();
            let record = Record::new(Trace::new(Format::Silent, Box::new(std::io::sink())));
            let machine = Machine::new(&scenario, Seed(seed), 0, &record);
            machine.start();
            assert!(
                Operator::new(std::slice::from_ref(&machine), &record).ready_within(MINUTE).await
            );
            let running = machine.clone();
            let honest = door_of(move || running.node());
            let shelf = Shelf::new(SIZES);
            shelf.prepare(&honest).await.unwrap();
            let begin = virtual_now();
            let callers = (0..4).map(|number| {
                let heard = Arc::clone(&heard);
                let pause = Duration::from_millis(20)..Duration::from_millis(400);
                let hear = move |event| held(&heard).push(event);
                let doors = vec![door(Arc::clone(&honest))];
                let caller = Caller::new(Seed(seed), number, pause, &shelf, doors, hear);
                madsim::task::spawn(caller.run(begin + MINUTE))
            });
            let callers: Vec<_> = callers.collect();
            if crashes {
                sleep_virtual(Duration::from_secs(20)).await;
                machine.power_cut();
                sleep_virtual(Duration::from_secs(2)).await;
                machine.start();
                sleep_virtual(Duration::from_secs(20)).await;
                machine.kill();
                machine.start();
            }
            for caller in callers {
                caller.await.unwrap();
            }
        });
    });
    thread.join().unwrap();
    std::mem::take(&mut *held(&events))
}

/// What is wrong with a history, and its book.
fn judged(events: &[HistoryEvent]) -> (Vec<String>, Book) {
    let (mut book, mut oracle) = (Book::new(false), ClientOracle::new(false));
    let mut wrong = Vec::new();
    for event in events {
        book.observe(event);
        wrong.extend(oracle.observe(&ClientFact::Call(event.clone())));
    }
    for (key, verdict) in book.judge() {
        if !matches!(verdict, Verdict::Linearizable { .. }) {
            wrong.push(format!("{key}: {verdict}"));
        }
    }
    (wrong, book)
}

/// How often each kind of answer was given.
fn answers(events: &[HistoryEvent]) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for event in events {
        let HistoryEvent::Returned { answer, .. } = event else { continue };
        let text = answer.as_ref().map_or_else(|| "unknown".to_owned(), |one| format!("{one:?}"));
        let text = text.replace("Register(", "").replace("Queue(", "");
        let word = text.split(|sign: char| !sign.is_alphanumeric()).next().unwrap_or_default();
        *answers.entry(word.to_owned()).or_default() += 1;
    }
    answers
}

#[test]
fn what_a_node_tells_its_callers_fits_together_over_crashes() {
    let events = lived(1, true, |door| door);
    let (wrong, book) = judged(&events);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let (all, answered) = book.counts();
    assert!(all > 800 && answered > all * 3 / 4 && answered < all, "{answered} of {all}");
    let answers = answers(&events);
    for kind in ["Done", "AlreadyExists", "NotFound", "Value", "Items", "unknown"] {
        assert!(answers.get(kind).is_some_and(|count| *count >= 5), "{kind}: {answers:?}");
    }
    assert!(!answers.contains_key("Odd"), "{answers:?}");
}

#[test]
fn callers_repeat_from_their_seed() {
    let events = lived(2, true, |door| door);
    assert_eq!(events, lived(2, true, |door| door));
    assert_ne!(events, lived(3, true, |door| door));
}

/// A door that goes on telling of each device what it told the first time.
fn forgetful(door: Door) -> Door {
    let told: Arc<Mutex<BTreeMap<String, Outcome>>> = Arc::default();
    Arc::new(move |operation| {
        let Operation::GetDevice(id) = &operation else { return door(operation) };
        let (id, told) = (id.clone(), Arc::clone(&told));
        let calling = door(operation)?;
        Some(Box::pin(async move {
            let outcome = calling.await?;
            Ok(held(&told).entry(id).or_insert(outcome).clone())
        }))
    })
}

/// A door behind which what is to be deleted stays.
fn lazy(door: Door) -> Door {
    Arc::new(move |operation| {
        let Operation::DeleteGateway(id) = operation else { return door(operation) };
        let calling = door(Operation::GetGateway(id))?;
        Some(Box::pin(async move {
            calling.await?;
            Ok(Outcome::Empty(node::api::wire::Empty {}))
        }))
    })
}

#[test]
fn stale_reads_and_deletions_not_done_are_noticed() {
    let (wrong, _) = judged(&lived(1, false, forgetful));
    let text = wrong.join("\n");
    assert!(text.contains("monotonic reads") && text.contains("its own writes"), "{text}");
    assert!(text.contains("device 5e1f000000010000: not linearizable"), "{text}");
    assert!(!text.contains("gateway") && !text.contains("queue"), "{text}");
    let (wrong, _) = judged(&lived(1, false, lazy));
    let text = wrong.join("\n");
    assert!(text.contains("gateway 5e1f000000020000: not linearizable"), "{text}");
    assert!(!text.contains("device") && !text.contains("queue"), "{text}");
}
