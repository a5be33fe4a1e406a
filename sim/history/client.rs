//! What one client may expect, judged with every answer and every event that it gets.
//!
//! * *No phantoms*: nobody is shown what nobody wrote or sent, nor what was refused.
//! * *Monotonic reads*: nobody is shown an older value of a key after a newer one, and the cursor
//!   of a feed rises within a connection.
//! * *One's own writes*: after an acknowledged write its writer is shown that write or a later one.
//!
//! Values are unique, so they name their writes. One write is older than another only where time
//! proves it: it had taken effect, as an acknowledgement or somebody's reading shows, before the
//! other was called. What may have been concurrent is never complained of, so a complaint is always
//! justified; whether *all* answers fit one order is for [`super::linear`] to say.
//!
//! Source: requirements, part G, S9; D. Terry et al., "Session guarantees for weakly consistent
//! replicated data", 1994.

mod queues;
mod registers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use queues::Queues;
use registers::Registers;

use super::{Answer, CallId, HistoryEvent, Question};

/// Something that a client did or was shown. Told in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFact {
    /// A call of the API begins or ends.
    Call(HistoryEvent),
    /// Something that feeds may show from now on: a device's uplink, a published message.
    Sent {
        /// About what: a device, a topic.
        key: String,
        /// What; said again by a repetition.
        value: String,
    },
    /// A connection to a feed begins, in place of the last one.
    FeedOpened {
        /// Whose.
        client: String,
        /// Which feed.
        feed: String,
        /// Only what is above this is to be shown, if the client said so.
        after: Option<u64>,
    },
    /// A feed shows something.
    Shown {
        /// To whom.
        client: String,
        /// Which feed.
        feed: String,
        /// Where in the feed; `None`: it has no cursor, and may repeat.
        cursor: Option<u64>,
        /// About what.
        key: String,
        /// What.
        value: String,
    },
}

/// A write, and what is known of its time.
#[derive(Clone, Debug)]
struct Write {
    client: String,
    /// It took effect no earlier.
    call: Duration,
    /// It took effect no later, if it is known to have taken effect at all.
    by: Option<Duration>,
    /// It never takes effect.
    refused: bool,
    /// Who was shown it first.
    shown_to: Option<String>,
}

impl Write {
    fn of(call: &Call) -> Self {
        let (client, call) = (call.client.clone(), call.at);
        Self { client, call, by: None, refused: false, shown_to: None }
    }

    fn took_effect_by(&mut self, at: Duration) {
        self.by = Some(self.by.map_or(at, |by| by.min(at)));
    }

    /// Whether it certainly took effect before `at`.
    fn is_before(&self, at: Duration) -> bool {
        self.by.is_some_and(|by| by < at)
    }

    /// Somebody was shown it. Returns what is wrong with that.
    fn shown(&mut self, client: &str) -> Option<&'static str> {
        self.shown_to.get_or_insert_with(|| client.to_owned());
        self.refused.then_some("which was refused")
    }

    /// It was refused. Returns who was shown it before.
    fn refuse(&mut self) -> Option<&str> {
        self.refused = true;
        self.shown_to.as_deref()
    }
}

/// A call under way.
#[derive(Clone, Debug)]
struct Call {
    id: CallId,
    client: String,
    key: String,
    at: Duration,
    /// The number of the fact: a client knew what it had been told before.
    turn: u64,
    question: Question,
}

/// How a client knows something; names the promise that is broken if it is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// It was shown.
    Saw(String),
    /// It did it itself, and was told so.
    Wrote(String),
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saw(what) => write!(f, "after it saw {what}: monotonic reads"),
            Self::Wrote(what) => write!(f, "after it {what} itself: its own writes"),
        }
    }
}

/// Judges as it goes.
#[derive(Clone, Debug)]
pub struct ClientOracle {
    calls: BTreeMap<CallId, Call>,
    registers: Registers,
    queues: Queues,
    sent: BTreeMap<String, BTreeSet<String>>,
    /// The last cursor of each client's feeds.
    cursors: BTreeMap<(String, String), u64>,
    turn: u64,
}

impl ClientOracle {
    /// Before anything has happened.
    ///
    /// * `hands_out`: whether the network hands out what waits in the queues that are asked about.
    pub fn new(hands_out: bool) -> Self {
        Self {
            calls: BTreeMap::new(),
            registers: Registers::default(),
            queues: Queues::new(hands_out),
            sent: BTreeMap::new(),
            cursors: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Sees the next fact; says what it contradicts, if anything.
    pub fn observe(&mut self, fact: &ClientFact) -> Vec<String> {
        self.turn += 1;
        match fact {
            ClientFact::Call(event) => self.call(event),
            ClientFact::Sent { key, value } => {
                self.sent.entry(key.clone()).or_default().insert(value.clone());
                Vec::new()
            }
            ClientFact::FeedOpened { client, feed, after } => {
                let place = (client.clone(), feed.clone());
                match after {
                    Some(after) => self.cursors.insert(place, *after),
                    None => self.cursors.remove(&place),
                };
                Vec::new()
            }
            ClientFact::Shown { client, feed, cursor, key, value } => {
                let mut wrong = Vec::new();
                let sent = self.sent.get(key).is_some_and(|values| values.contains(value));
                if !sent {
                    wrong.push(format!(
                        "phantom: {feed} shows {client} {value} of {key}, which nobody sent"
                    ));
                }
                wrong.extend(cursor.and_then(|cursor| self.advance(client, feed, cursor)));
                wrong
            }
        }
    }

    fn advance(&mut self, client: &str, feed: &str, cursor: u64) -> Option<String> {
        let last = self.cursors.insert((client.to_owned(), feed.to_owned()), cursor)?;
        (cursor <= last).then(|| format!("{feed} shows {client} {cursor} after {last}"))
    }

    fn call(&mut self, event: &HistoryEvent) -> Vec<String> {
        match event {
            HistoryEvent::Called { call, client, key, at, question } => {
                let (client, key, question) = (client.clone(), key.clone(), question.clone());
                let call = Call { id: *call, client, key, at: *at, turn: self.turn, question };
                let wrong = match &call.question {
                    Question::Register(input) => self.registers.called(&call, input),
                    Question::Queue(input) => self.queues.called(&call, input),
                };
                self.calls.insert(call.id, call);
                wrong.into_iter().collect()
            }
            HistoryEvent::Returned { call, at, answer } => {
                let Some(call) = self.calls.remove(call) else { return Vec::new() };
                let Some(answer) = answer else { return Vec::new() };
                match (&call.question, answer) {
                    (Question::Register(input), Answer::Register(output)) => {
                        self.registers.returned(&call, input, (*at, self.turn), output)
                    }
                    (Question::Queue(input), Answer::Queue(output)) => {
                        self.queues.returned(&call, input, (*at, self.turn), output)
                    }
                    (Question::Register(_), Answer::Queue(_))
                    | (Question::Queue(_), Answer::Register(_)) => {
                        panic!("an answer to another question: {answer:?}")
                    }
                }
            }
        }
    }
}
