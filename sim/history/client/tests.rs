//! Histories that a client may live through, and histories that it must not.

use super::*;
use crate::history::{Item, QueueInput, QueueOutput, RegisterInput, RegisterOutput};
use QueueInput::{Cancel, Enqueue, Flush, List};
use RegisterInput::{Create, Delete, Get, Update};
use RegisterOutput::{AlreadyExists, Done, NotDone, NotFound, Value};

const KEY: &str = "gateway 1";
const QUEUE: &str = "queue of 1";

/// Tells of calls by their times in milliseconds, in the order in which they happen.
#[derive(Default)]
struct Tale(Vec<(u64, bool, HistoryEvent)>);

impl Tale {
    fn add(mut self, client: &str, key: &str, times: (u64, u64), asked: Question) -> Self {
        let (call, at) = (CallId(self.0.len() as u64), Duration::from_millis(times.0));
        let (client, key) = (client.to_owned(), key.to_owned());
        let event = HistoryEvent::Called { call, client, key, at, question: asked };
        self.0.push((times.0, false, event));
        self
    }

    fn end(mut self, times: (u64, u64), answer: Option<Answer>) -> Self {
        let (call, at) = (CallId(self.0.len() as u64 - 1), Duration::from_millis(times.1));
        self.0.push((times.1, true, HistoryEvent::Returned { call, at, answer }));
        self
    }

    /// A register is asked.
    fn ask(
        self,
        client: &str,
        times: (u64, u64),
        input: RegisterInput,
        output: impl Into<Option<RegisterOutput>>,
    ) -> Self {
        let asked = self.add(client, KEY, times, Question::Register(input));
        asked.end(times, output.into().map(Answer::Register))
    }

    /// A queue is asked.
    fn queue(
        self,
        client: &str,
        times: (u64, u64),
        input: QueueInput,
        output: impl Into<Option<QueueOutput>>,
    ) -> Self {
        let asked = self.add(client, QUEUE, times, Question::Queue(input));
        asked.end(times, output.into().map(Answer::Queue))
    }

    fn judge(self, hands_out: bool) -> Vec<String> {
        let mut events = self.0;
        // What ends and what begins at one moment overlap.
        events.sort_by_key(|(at, ends, _)| (*at, *ends));
        let mut oracle = ClientOracle::new(hands_out);
        events.into_iter().flat_map(|(_, _, e)| oracle.observe(&ClientFact::Call(e))).collect()
    }
}

fn tale() -> Tale {
    Tale::default()
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn value(name: &str) -> RegisterOutput {
    Value(text(name))
}

/// `a* b`: `a` is pending, `b` waits.
fn items(words: &str) -> QueueOutput {
    let item = |word: &str| Item {
        name: word.trim_end_matches('*').to_owned(),
        pending: word.ends_with('*'),
    };
    QueueOutput::Items(words.split_whitespace().map(item).collect())
}

fn fine(tale: Tale) {
    assert_eq!(tale.judge(true), Vec::<String>::new());
}

/// One contradiction, which says this.
fn wrong(tale: Tale, says: &str) {
    one(&tale.judge(true), says);
}

fn one(found: &[String], says: &str) {
    assert!(found.len() == 1 && found[0].contains(says), "{says}: {found:?}");
}

fn written(first: &str, second: &str) -> Tale {
    tale().ask("w", (0, 9), Create(text(first)), Done).ask(
        "w",
        (20, 29),
        Update(text(second)),
        Done,
    )
}

#[test]
fn what_was_written_is_seen_while_it_is_being_written_and_later() {
    let early = tale()
        .ask("w", (0, 50), Create(text("a")), None)
        .ask("r", (10, 20), Get, value("a"))
        .ask("s", (60, 70), Get, value("a"));
    fine(early);
    fine(written("a", "b").ask("r", (30, 31), Get, value("b")));
}

#[test]
fn phantoms_and_refused_writes_are_caught() {
    wrong(written("a", "b").ask("r", (30, 31), Get, value("c")), "which nobody wrote");
    wrong(
        tale().ask("r", (0, 1), Get, value("a")).ask("w", (2, 3), Create(text("a")), Done),
        "nobody",
    );
    let refused = tale().ask("w", (0, 9), Create(text("a")), NotDone);
    wrong(refused.ask("r", (20, 21), Get, value("a")), "which was refused");
    let refused_later = tale().ask("w", (0, 90), Create(text("a")), AlreadyExists).ask(
        "r",
        (20, 21),
        Get,
        value("a"),
    );
    wrong(refused_later, "which is refused now");
    let twice = written("a", "b").ask("r", (30, 40), Create(text("a")), None);
    wrong(twice, "r writes to gateway 1 what w wrote");
}

#[test]
fn a_reader_may_go_from_one_value_to_a_later_or_a_concurrent_one() {
    let forth = written("a", "b").ask("r", (10, 11), Get, value("a"));
    fine(forth.ask("r", (30, 31), Get, value("b")));
    // Nobody can say which of two writes was the later one.
    let apart = tale()
        .ask("w", (0, 50), Create(text("a")), None)
        .ask("x", (5, 60), Update(text("b")), Done)
        .ask("r", (61, 62), Get, value("b"))
        .ask("r", (63, 64), Get, value("a"));
    fine(apart);
    // Each reader goes his own way: this one has not seen the newer value.
    let others = written("a", "b").ask("r", (30, 31), Get, value("b"));
    fine(others.ask("s", (32, 33), Get, value("a")));
}

#[test]
fn an_older_value_after_a_newer_one_is_caught() {
    let back = written("a", "b").ask("r", (30, 31), Get, value("b"));
    wrong(back.ask("r", (32, 33), Get, value("a")), "after it saw b: monotonic reads");
    // Never acknowledged, but somebody had seen it before the other was called.
    let seen = tale()
        .ask("w", (0, 99), Create(text("a")), None)
        .ask("s", (5, 8), Get, value("a"))
        .ask("x", (10, 19), Update(text("b")), Done)
        .ask("r", (30, 31), Get, value("b"))
        .ask("r", (32, 33), Get, value("a"));
    wrong(seen, "older than what began at 0.010000s");
}

#[test]
fn absence_needs_a_deletion_that_may_have_come_later() {
    let gone = written("a", "b").ask("r", (30, 31), Get, value("b"));
    let deleted = |times, output: Option<RegisterOutput>| {
        let gone = written("a", "b").ask("r", (30, 31), Get, value("b"));
        gone.ask("x", times, Delete, output).ask("r", (60, 61), Get, NotFound)
    };
    wrong(gone.ask("r", (60, 61), Get, NotFound), "nobody may have deleted it");
    fine(deleted((40, 50), Some(Done)));
    fine(deleted((40, 50), None));
    fine(deleted((1, 22), Some(Done)));
    wrong(deleted((40, 50), Some(NotDone)), "nobody may have deleted it");
    wrong(deleted((1, 12), Some(Done)), "nobody may have deleted it");
    fine(tale().ask("r", (0, 1), Get, NotFound).ask("r", (2, 3), Delete, NotFound));
    let update = written("a", "b").ask("w", (40, 41), Update(text("c")), NotFound);
    wrong(update, "after it wrote b itself: its own writes");
}

#[test]
fn what_was_deleted_does_not_come_back() {
    let deleted = || written("a", "b").ask("x", (40, 50), Delete, Done);
    wrong(deleted().ask("x", (60, 61), Get, value("b")), "after it deleted it itself");
    let seen = written("a", "b").ask("r", (30, 31), Get, value("b"));
    let seen = seen.ask("x", (40, 50), Delete, Done).ask("r", (60, 61), Get, NotFound);
    wrong(seen.ask("r", (62, 63), Get, value("b")), "after it saw that it was deleted");
    // It never knew of the deletion.
    fine(deleted().ask("r", (60, 61), Get, value("b")));
}

#[test]
fn a_writer_reads_its_write_or_a_later_one() {
    fine(written("a", "b").ask("w", (30, 31), Get, value("b")));
    let later = written("a", "b").ask("x", (30, 90), Update(text("c")), None);
    fine(later.ask("w", (40, 41), Get, value("c")));
    wrong(written("a", "b").ask("w", (30, 31), Get, value("a")), "after it wrote b itself");
    // Without an acknowledgement nobody may rely on it.
    let open = tale()
        .ask("w", (0, 9), Create(text("a")), Done)
        .ask("w", (20, 29), Update(text("b")), None)
        .ask("w", (30, 31), Get, value("a"));
    fine(open);
}

#[test]
fn a_call_is_held_to_what_was_known_when_it_began() {
    let overlapping =
        written("a", "b").ask("r", (30, 35), Get, value("b")).ask("r", (30, 40), Get, value("a"));
    fine(overlapping);
}

fn queued() -> Tale {
    tale().queue("w", (0, 9), Enqueue(text("a")), QueueOutput::Done).queue(
        "w",
        (10, 19),
        Enqueue(text("b")),
        QueueOutput::Done,
    )
}

#[test]
fn queue_items_go_one_way() {
    let shown = |words: &[&str]| {
        words
            .iter()
            .zip((20..).step_by(5))
            .fold(queued(), |tale, (words, at)| tale.queue("r", (at, at + 1), List, items(words)))
    };
    fine(shown(&["a b", "a* b", "a* b", "b", "b*", ""]));
    wrong(shown(&["a* b", "a b"]), "as waiting, which is handed out, after it saw it handed out");
    wrong(shown(&["a b", "b", "a b"]), "as waiting, which is gone, after it saw that it was gone");
    wrong(shown(&["a b", "b", "a* b"]), "as handed out, which is gone");
    // It never knew that the item was there: the list may as well have come before.
    fine(shown(&["b", "a b"]));
}

#[test]
fn queue_phantoms_and_doubles_are_caught() {
    wrong(queued().queue("r", (20, 21), List, items("a b c")), "which nobody queued");
    wrong(queued().queue("r", (20, 21), List, items("a b a")), "a of queue of 1 twice");
    wrong(queued().queue("x", (20, 29), Cancel(text("c")), QueueOutput::Done), "nobody queued");
    let refused = tale().queue("w", (0, 9), Enqueue(text("a")), QueueOutput::NotDone);
    wrong(refused.queue("r", (20, 21), List, items("a")), "which was refused");
}

#[test]
fn a_writer_knows_what_it_did_to_a_queue() {
    let cancelled = || queued().queue("w", (20, 29), Cancel(text("a")), QueueOutput::Done);
    fine(cancelled().queue("w", (30, 31), List, items("b")));
    wrong(cancelled().queue("w", (30, 31), List, items("a b")), "after it cancelled it itself");
    let flushed = || queued().queue("w", (20, 29), Flush, QueueOutput::Done);
    fine(flushed().queue("w", (30, 31), List, items("a* b*")));
    wrong(flushed().queue("w", (30, 31), List, items("b")), "after it flushed the queue itself");
    let late = queued().queue("w", (20, 29), Cancel(text("a")), QueueOutput::AlreadyHandedOut);
    wrong(late.queue("w", (30, 31), List, items("a b")), "after it saw it handed out");
}

#[test]
fn the_queue_of_a_silent_device_loses_nothing_by_itself() {
    let listed = |tale: Tale| tale.queue("w", (30, 31), List, items("b")).judge(false);
    one(&listed(queued()), "nobody may have taken it, after it queued it itself");
    let asked =
        |output: Option<QueueOutput>| queued().queue("x", (20, 29), Cancel(text("a")), output);
    assert_eq!(listed(asked(Some(QueueOutput::Done))), Vec::<String>::new());
    assert_eq!(listed(asked(None)), Vec::<String>::new());
    one(&listed(asked(Some(QueueOutput::NotDone))), "nobody may have taken it");
    let flushed = queued().queue("x", (1, 29), Flush, None);
    assert_eq!(listed(flushed), Vec::<String>::new());
    let before = tale().queue("x", (0, 1), Flush, QueueOutput::Done);
    let before = before.queue("w", (5, 9), Enqueue(text("a")), QueueOutput::Done);
    one(&before.queue("w", (30, 31), List, items("")).judge(false), "nobody may have taken it");
}

fn opened(after: Option<u64>) -> ClientFact {
    ClientFact::FeedOpened { client: text("c"), feed: text("events"), after }
}

fn shown(cursor: u64, value: &str) -> ClientFact {
    let (client, feed, key) = (text("c"), text("events"), text("device 1"));
    ClientFact::Shown { client, feed, cursor: Some(cursor), key, value: text(value) }
}

fn fed(facts: impl IntoIterator<Item = ClientFact>) -> Vec<String> {
    let mut oracle = ClientOracle::new(true);
    let sent = |value: &str| ClientFact::Sent { key: text("device 1"), value: text(value) };
    let all = [sent("x"), sent("y")].into_iter().chain(facts);
    all.flat_map(|fact| oracle.observe(&fact)).collect()
}

#[test]
fn a_feed_goes_forward_within_a_connection_and_may_repeat_after_one() {
    let twice = [opened(Some(3)), shown(4, "x"), shown(9, "y"), opened(Some(4)), shown(9, "y")];
    assert_eq!(fed(twice), Vec::<String>::new());
    one(&fed([opened(None), shown(4, "x"), shown(4, "x")]), "events shows c 4 after 4");
    one(&fed([opened(None), shown(4, "x"), shown(3, "y")]), "events shows c 3 after 4");
    one(&fed([opened(Some(4)), shown(4, "x")]), "events shows c 4 after 4");
    one(&fed([opened(None), shown(4, "z")]), "z of device 1, which nobody sent");
}
