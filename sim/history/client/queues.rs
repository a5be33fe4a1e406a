//! What clients know of downlink queues.
//!
//! An item goes one way: it waits, it is pending, it is gone. What a client knows of it is the
//! furthest stage that it has been shown or has brought about; it must never be shown less.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Call, How, Write};
use crate::history::{CallId, Item, QueueInput, QueueOutput};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Pending,
    Gone,
}

impl Stage {
    const fn text(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "handed out",
            Self::Gone => "gone",
        }
    }
}

/// What one client knows of an item.
#[derive(Clone, Debug)]
struct Known {
    stage: Stage,
    /// When it learned it.
    turn: u64,
    how: How,
}

/// The writes of one queue.
#[derive(Clone, Debug, Default)]
struct Written {
    items: BTreeMap<String, Write>,
    /// Of each item, those that were not refused.
    cancellations: BTreeMap<String, BTreeSet<CallId>>,
    flushes: BTreeMap<CallId, Write>,
}

impl Written {
    /// Whether somebody may have taken the item out.
    fn may_be_taken(&self, name: &str) -> bool {
        let cancelled = self.cancellations.get(name).is_some_and(|calls| !calls.is_empty());
        let Some(item) = self.items.get(name) else { return true };
        let mut flushes = self.flushes.values();
        cancelled || flushes.any(|flush| !flush.refused && !flush.is_before(item.call))
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    hands_out: bool,
    keys: BTreeMap<String, Written>,
    /// By client and key, then by item.
    known: BTreeMap<(String, String), BTreeMap<String, Known>>,
}

impl Queues {
    pub(super) fn new(hands_out: bool) -> Self {
        Self { hands_out, keys: BTreeMap::new(), known: BTreeMap::new() }
    }

    pub(super) fn called(&mut self, call: &Call, input: &QueueInput) -> Option<String> {
        let written = self.keys.entry(call.key.clone()).or_default();
        match input {
            QueueInput::Enqueue(name) => {
                let earlier = written.items.insert(name.clone(), Write::of(call))?;
                let Call { client, key, .. } = call;
                Some(format!("{client} queues for {key} what {} queued: {name}", earlier.client))
            }
            QueueInput::Cancel(name) => {
                written.cancellations.entry(name.clone()).or_default().insert(call.id);
                None
            }
            QueueInput::Flush => {
                written.flushes.insert(call.id, Write::of(call));
                None
            }
            QueueInput::List => None,
        }
    }

    /// * `now`: the time, and the number of the fact.
    pub(super) fn returned(
        &mut self,
        call: &Call,
        input: &QueueInput,
        now: (Duration, u64),
        output: &QueueOutput,
    ) -> Vec<String> {
        use {QueueInput as I, QueueOutput as O};
        if *output != O::Done {
            let refused = self.refused(call, input);
            let told = match (input, output) {
                (I::Cancel(name), O::AlreadyHandedOut) => self.saw(call, name, Stage::Pending, now),
                (I::Cancel(name), O::NotFound) => self.missed(call, name, now),
                (I::List, O::Items(items)) => return self.listed(call, items, now),
                (I::Enqueue(_) | I::Flush | I::Cancel(_) | I::List, _) => None,
            };
            return refused.into_iter().chain(told).collect();
        }
        match input {
            I::Enqueue(name) => {
                if let Some(write) = self.item(call, name) {
                    write.took_effect_by(now.0);
                }
                self.learn(call, name, Stage::Waiting, now.1, How::Wrote("queued it".to_owned()));
                Vec::new()
            }
            I::Cancel(name) => {
                // It was taken out of where it waited.
                let wrong = self.saw(call, name, Stage::Waiting, now);
                self.learn(call, name, Stage::Gone, now.1, How::Wrote("cancelled it".to_owned()));
                wrong.into_iter().collect()
            }
            I::Flush => {
                self.flushed(call, now);
                Vec::new()
            }
            I::List => Vec::new(),
        }
    }

    fn item(&mut self, call: &Call, name: &str) -> Option<&mut Write> {
        self.keys.get_mut(&call.key)?.items.get_mut(name)
    }

    fn refused(&mut self, call: &Call, input: &QueueInput) -> Option<String> {
        let written = self.keys.get_mut(&call.key)?;
        match input {
            QueueInput::Enqueue(name) => {
                let shown_to = written.items.get_mut(name)?.refuse()?;
                let key = &call.key;
                Some(format!("phantom: {shown_to} was shown {name} of {key}, which is refused now"))
            }
            QueueInput::Cancel(name) => {
                written.cancellations.get_mut(name)?.remove(&call.id);
                None
            }
            QueueInput::Flush => {
                written.flushes.get_mut(&call.id)?.refuse();
                None
            }
            QueueInput::List => None,
        }
    }

    fn flushed(&mut self, call: &Call, now: (Duration, u64)) {
        let Some(written) = self.keys.get_mut(&call.key) else { return };
        if let Some(flush) = written.flushes.get_mut(&call.id) {
            flush.took_effect_by(now.0);
        }
        let there = written.items.iter().filter(|(_, item)| item.is_before(call.at));
        let there: Vec<String> = there.map(|(name, _)| name.clone()).collect();
        let stage = if self.hands_out { Stage::Pending } else { Stage::Gone };
        for name in there {
            self.learn(call, &name, stage, now.1, How::Wrote("flushed the queue".to_owned()));
        }
    }

    fn listed(&mut self, call: &Call, items: &[Item], now: (Duration, u64)) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        for Item { name, pending } in items {
            if !names.insert(name) {
                wrong.push(format!("{} is shown {name} of {} twice", call.client, call.key));
            }
            let stage = if *pending { Stage::Pending } else { Stage::Waiting };
            wrong.extend(self.saw(call, name, stage, now));
        }
        let known = self.known.get(&(call.client.clone(), call.key.clone()));
        let known = known.into_iter().flat_map(BTreeMap::keys);
        let missing: Vec<String> = known.filter(|name| !names.contains(name)).cloned().collect();
        wrong.extend(missing.iter().filter_map(|name| self.missed(call, name, now)));
        wrong
    }

    /// The client is shown an item.
    fn saw(
        &mut self,
        call: &Call,
        name: &str,
        stage: Stage,
        now: (Duration, u64),
    ) -> Option<String> {
        let (client, key, text) = (&call.client, &call.key, stage.text());
        let known = self.knew(call, name).cloned();
        let Some(item) = self.item(call, name) else {
            return Some(format!(
                "phantom: {client} is shown {name} of {key}, which nobody queued"
            ));
        };
        if let Some(why) = item.shown(client) {
            return Some(format!("phantom: {client} is shown {name} of {key}, {why}"));
        }
        item.took_effect_by(now.0);
        if let Some(Known { stage, how, .. }) = known.filter(|known| known.stage > stage) {
            let known = stage.text();
            return Some(format!(
                "{client} is shown {name} of {key} as {text}, which is {known}, {how}"
            ));
        }
        self.learn(call, name, stage, now.1, How::Saw(format!("it {text}")));
        None
    }

    /// The client is shown that an item is not there. Nothing, for an item it does not know.
    fn missed(&mut self, call: &Call, name: &str, now: (Duration, u64)) -> Option<String> {
        let Known { stage, how, .. } = self.knew(call, name)?.clone();
        if stage == Stage::Gone {
            return None;
        }
        let (client, key) = (&call.client, &call.key);
        self.learn(call, name, Stage::Gone, now.1, How::Saw("that it was gone".to_owned()));
        let taken = self.keys.get(key).is_some_and(|written| written.may_be_taken(name));
        (!self.hands_out && !taken).then(|| {
            format!("{client} is shown no {name} of {key}, though nobody may have taken it, {how}")
        })
    }

    /// What the client knew when it called.
    fn knew(&self, call: &Call, name: &str) -> Option<&Known> {
        let known = self.known.get(&(call.client.clone(), call.key.clone()))?.get(name)?;
        Some(known).filter(|known| known.turn < call.turn)
    }

    fn learn(&mut self, call: &Call, name: &str, stage: Stage, turn: u64, how: How) {
        let known = self.known.entry((call.client.clone(), call.key.clone())).or_default();
        if known.get(name).is_none_or(|known| known.stage < stage) {
            known.insert(name.to_owned(), Known { stage, turn, how });
        }
    }
}
