//! What API clients asked and were told, and whether all of it fits together.
//!
//! * [`Book`] keeps the operations of each key and has them judged at the end ([`linear`]): S9;
//! * [`ClientOracle`] judges each answer and each event as it comes: no phantoms, monotonic reads,
//!   one's own writes;
//! * the sequential models are [`Register`] and [`Queue`].
//!
//! Everything here is told and asks nobody: no clock, no runtime.

mod client;
pub mod linear;
mod model;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use client::{ClientFact, ClientOracle};
pub use linear::{Explanation, Limit, Operation, Return, Verdict};
pub use model::{Model, Register, RegisterInput, RegisterOutput};
pub use queue::{Item, Queue, QueueInput, QueueOutput, QueueState};

/// Keys that a book has room for; what is told of further ones stays undecided.
const KEYS_MAX: usize = 1_000;
/// Operations kept of a key: one more than are looked at, for the end of the part looked at.
const KEPT_MAX: usize = linear::OPERATIONS_MAX + 1;

/// One call, named by whoever tells of it; never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Of a device, gateway or application.
    Register(RegisterInput),
    /// Of a device's downlink queue.
    Queue(QueueInput),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By a device, gateway or application.
    Register(RegisterOutput),
    /// By a device's downlink queue.
    Queue(QueueOutput),
}

/// A call begins or ends. Told in the order in which it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryEvent {
    /// A client calls.
    Called {
        /// Which call.
        call: CallId,
        /// Who.
        client: String,
        /// About what: "gateway 5e1f000000020001". A key is of one kind for the whole run.
        key: String,
        /// When, in virtual time.
        at: Duration,
        /// What is asked.
        question: Question,
    },
    /// A call is over.
    Returned {
        /// Which call.
        call: CallId,
        /// When, in virtual time.
        at: Duration,
        /// What was answered; `None`: nobody knows what came of it, and nobody waits any more.
        answer: Option<Answer>,
    },
}

type Registers = Vec<Operation<RegisterInput, RegisterOutput>>;
type Queues = Vec<Operation<QueueInput, QueueOutput>>;

/// The operations of one key.
#[derive(Clone, Debug)]
enum Page {
    Register(Registers),
    Queue(Queues),
}

impl Page {
    fn add(&mut self, client: &str, key: &str, at: Duration, question: &Question) -> Option<usize> {
        match (self, question) {
            (Self::Register(all), Question::Register(input)) => begin(all, client, key, at, input),
            (Self::Queue(all), Question::Queue(input)) => begin(all, client, key, at, input),
            (Self::Register(_), Question::Queue(_)) | (Self::Queue(_), Question::Register(_)) => {
                panic!("{key} is asked as what it is not: {question:?}")
            }
        }
    }

    fn end(&mut self, place: usize, at: Duration, answer: &Answer) {
        match (self, answer) {
            (Self::Register(all), Answer::Register(output)) => end(all, place, at, output),
            (Self::Queue(all), Answer::Queue(output)) => end(all, place, at, output),
            (Self::Register(_), Answer::Queue(_)) | (Self::Queue(_), Answer::Register(_)) => {
                panic!("an answer to another question: {answer:?}")
            }
        }
    }
}

fn begin<I: Clone, O>(
    all: &mut Vec<Operation<I, O>>,
    client: &str,
    key: &str,
    call: Duration,
    input: &I,
) -> Option<usize> {
    if all.len() >= KEPT_MAX {
        return None;
    }
    let (client, key, input) = (client.to_owned(), key.to_owned(), input.clone());
    all.push(Operation { client, key, call, ret: None, input });
    Some(all.len() - 1)
}

fn end<I, O: Clone>(all: &mut [Operation<I, O>], place: usize, at: Duration, output: &O) {
    if let Some(operation) = all.get_mut(place) {
        operation.ret = Some(Return { at, output: output.clone() });
    }
}

/// All operations of a run, a page for each key.
#[derive(Clone, Debug)]
pub struct Book {
    hands_out: bool,
    pages: BTreeMap<String, Page>,
    /// Calls under way, and where they stand.
    calls: BTreeMap<CallId, (String, usize)>,
    /// Calls about keys that there was no room for.
    left_out: usize,
}

impl Book {
    /// An empty book.
    ///
    /// * `hands_out`: whether the network hands out what waits in the queues that are asked about.
    pub fn new(hands_out: bool) -> Self {
        Self { hands_out, pages: BTreeMap::new(), calls: BTreeMap::new(), left_out: 0 }
    }

    /// Takes down what happened.
    pub fn observe(&mut self, event: &HistoryEvent) {
        match event {
            HistoryEvent::Called { call, client, key, at, question } => {
                if self.pages.len() >= KEYS_MAX && !self.pages.contains_key(key) {
                    self.left_out += 1;
                    return;
                }
                let page = self.pages.entry(key.clone()).or_insert_with(|| match question {
                    Question::Register(_) => Page::Register(Vec::new()),
                    Question::Queue(_) => Page::Queue(Vec::new()),
                });
                if let Some(place) = page.add(client, key, *at, question) {
                    self.calls.insert(*call, (key.clone(), place));
                }
            }
            HistoryEvent::Returned { call, at, answer } => {
                let Some((key, place)) = self.calls.remove(call) else { return };
                if let (Some(page), Some(answer)) = (self.pages.get_mut(&key), answer) {
                    page.end(place, *at, answer);
                }
            }
        }
    }

    /// Judges every key, in order of their names.
    pub fn judge(&self) -> Vec<(String, Verdict)> {
        let judged = self.pages.iter().map(|(key, page)| {
            let verdict = match page {
                Page::Register(all) => linear::check::<Register>(&None, all),
                Page::Queue(all) => linear::check::<Queue>(&QueueState::empty(self.hands_out), all),
            };
            (key.clone(), verdict)
        });
        let undecided = Verdict::Undecided { limit: Limit::Keys(self.left_out), so_far: None };
        let beyond = (self.left_out > 0).then(|| ("further keys".to_owned(), undecided));
        judged.chain(beyond).collect()
    }

    /// Operations taken down, and how many of them were answered.
    pub fn counts(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for page in self.pages.values() {
            let (all, answered) = match page {
                Page::Register(all) => (all.len(), all.iter().filter(|o| o.ret.is_some()).count()),
                Page::Queue(all) => (all.len(), all.iter().filter(|o| o.ret.is_some()).count()),
            };
            counts = (counts.0 + all, counts.1 + answered);
        }
        counts
    }
}
