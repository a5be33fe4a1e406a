//! The downlink queue of one device, as the API shows it.
//!
//! First in, first out. The network hands out the front at any time, and what was handed out stays
//! in sight for a while, as pending, and then is gone: neither is asked for by anybody. So an item
//! that this model holds *may* have gone further by itself, unless the device is silent: then the
//! network hands nothing out.
//!
//! Source: requirements, part G, S8 and S9.

use std::collections::BTreeSet;

use super::model::Model;

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Queue;

/// What is asked of a queue. Each item is queued by one operation only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueInput {
    /// Put an item at the end.
    Enqueue(String),
    /// Drop what waits; what was handed out stays.
    Flush,
    /// Take one item back.
    Cancel(String),
    /// Read it.
    List,
}

/// What a queue answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueOutput {
    /// Done.
    Done,
    /// The item is in somebody's hands: it was not taken back.
    AlreadyHandedOut,
    /// There is no such item.
    NotFound,
    /// What was read, oldest first.
    Items(Vec<Item>),
    /// Refused for a reason outside of the key, with the promise that nothing was changed.
    NotDone,
    /// An answer that the operation must never get, in its own words.
    Odd(String),
}

/// An item in a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Which.
    pub name: String,
    /// Handed out: it can be taken back no more, and goes by itself.
    pub pending: bool,
}

/// What is left of what was done so far.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueState {
    /// Whether the network hands out anything.
    pub(super) hands_out: bool,
    /// Oldest first, those known to be handed out before all others. A pending one may be gone; so
    /// may any other, together with all before it.
    pub(super) items: Vec<Item>,
}

/// Stands for all items that nobody has met.
const UNMET: &str = "(never met)";

impl QueueState {
    /// An empty queue.
    ///
    /// * `hands_out`: whether the device is heard, and so is handed what waits for it.
    pub fn empty(hands_out: bool) -> Self {
        Self { hands_out, items: Vec::new() }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|item| item.name == name)
    }

    fn enqueued(&self, name: &str) -> Option<Self> {
        if name != UNMET && self.place(name).is_some() {
            return None;
        }
        let mut after = self.clone();
        after.items.push(Item { name: name.to_owned(), pending: false });
        Some(after.tidied())
    }

    /// Where waiting items may have been handed out before, they may be pending still.
    fn flushed(&self) -> Self {
        if !self.hands_out {
            return Self { items: Vec::new(), ..self.clone() };
        }
        let mut after = self.clone();
        after.items.iter_mut().for_each(|item| item.pending = true);
        after.tidied()
    }

    fn cancelled(&self, name: &str) -> Option<Self> {
        let at = self.place(name).filter(|at| !self.items[*at].pending)?;
        let mut after = self.clone();
        after.items.remove(at);
        Some(after.tidied())
    }

    /// The item, and so all before it, has been handed out.
    fn handed_out(&self, name: &str) -> Option<Self> {
        let at = self.place(name)?;
        let mut after = self.clone();
        after.items[..=at].iter_mut().for_each(|item| item.pending = true);
        self.hands_out.then(|| after.tidied())
    }

    fn gone(&self, name: &str) -> Option<Self> {
        let Some(at) = self.place(name) else { return Some(self.clone()) };
        let mut after = self.clone();
        after.items[..at].iter_mut().for_each(|item| item.pending = true);
        after.items.remove(at);
        self.hands_out.then(|| after.tidied())
    }

    /// Without items that nobody met and that may be gone: whether they are makes no difference.
    fn tidied(mut self) -> Self {
        if self.hands_out {
            let mut may_be_gone = true;
            self.items.retain(|item| {
                may_be_gone &= item.pending || item.name == UNMET;
                !(may_be_gone && item.name == UNMET)
            });
        }
        self
    }

    /// The listed items are what is left of those here: the last ones wait, of the others any may
    /// be gone.
    fn listed(&self, listed: &[Item]) -> Option<Self> {
        let waiting = listed.iter().filter(|item| !item.pending).count();
        let handed = self.items.len().checked_sub(waiting)?;
        let (before, after) = self.items.split_at(handed);
        let (pending, rest) = listed.split_at(listed.len() - waiting);
        if rest != after || !(self.hands_out || before.is_empty()) {
            return None;
        }
        let mut left = before.iter();
        let found = pending
            .iter()
            .all(|item| item.pending && left.any(|candidate| candidate.name == item.name));
        found.then(|| Self { items: listed.to_vec(), ..self.clone() })
    }
}

impl Model for Queue {
    type State = QueueState;
    type Input = QueueInput;
    type Output = QueueOutput;

    fn answered(
        state: &Self::State,
        input: &Self::Input,
        output: &Self::Output,
    ) -> Option<Self::State> {
        use {QueueInput as I, QueueOutput as O};
        match (input, output) {
            (I::Enqueue(_) | I::Flush | I::Cancel(_) | I::List, O::NotDone) => Some(state.clone()),
            (I::Enqueue(name), O::Done) => state.enqueued(name),
            (I::Flush, O::Done) => Some(state.flushed()),
            (I::Cancel(name), O::Done) => state.cancelled(name),
            (I::Cancel(name), O::AlreadyHandedOut) => state.handed_out(name),
            (I::Cancel(name), O::NotFound) => state.gone(name),
            (I::List, O::Items(items)) => state.listed(items),
            (
                I::Enqueue(_) | I::Flush,
                O::AlreadyHandedOut | O::NotFound | O::Items(_) | O::Odd(_),
            )
            | (I::Cancel(_), O::Items(_) | O::Odd(_))
            | (I::List, O::Done | O::AlreadyHandedOut | O::NotFound | O::Odd(_)) => None,
        }
    }

    fn does_nothing(output: &Self::Output) -> bool {
        *output != QueueOutput::Done
    }

    fn unanswered(state: &Self::State, input: &Self::Input) -> Option<Self::State> {
        match input {
            QueueInput::Enqueue(name) => state.enqueued(name),
            QueueInput::Flush => Some(state.flushed()),
            QueueInput::Cancel(name) => state.cancelled(name),
            QueueInput::List => None,
        }
    }

    /// Whatever was listed, or was to be cancelled.
    fn met(history: &[(&Self::Input, Option<&Self::Output>)]) -> BTreeSet<String> {
        let mut met = BTreeSet::new();
        for (input, output) in history {
            if let QueueInput::Cancel(name) = input {
                met.insert(name.clone());
            }
            if let Some(QueueOutput::Items(items)) = output {
                met.extend(items.iter().map(|item| item.name.clone()));
            }
        }
        met
    }

    fn simplified(input: &Self::Input, met: &BTreeSet<String>) -> Self::Input {
        match input {
            QueueInput::Enqueue(name) if !met.contains(name) => {
                QueueInput::Enqueue(UNMET.to_owned())
            }
            QueueInput::Enqueue(_)
            | QueueInput::Flush
            | QueueInput::Cancel(_)
            | QueueInput::List => input.clone(),
        }
    }

    fn helps(input: &Self::Input) -> bool {
        match input {
            // Nobody met it: it would only have to go again.
            QueueInput::Enqueue(name) => name != UNMET,
            QueueInput::Flush | QueueInput::Cancel(_) => true,
            QueueInput::List => false,
        }
    }

    fn sequences(
        history: &[(&Self::Input, Option<&Self::Output>)],
    ) -> Vec<(Self::Input, Self::Input)> {
        let mut pairs = BTreeSet::new();
        for (_, output) in history {
            let Some(QueueOutput::Items(items)) = output else { continue };
            let enqueue = |item: &Item| QueueInput::Enqueue(item.name.clone());
            pairs.extend(items.windows(2).map(|two| (enqueue(&two[0]), enqueue(&two[1]))));
        }
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use QueueInput as I;
    use QueueOutput as O;

    fn named(text: &str) -> Vec<Item> {
        text.split_whitespace()
            .map(|word| Item {
                name: word.trim_end_matches('*').to_owned(),
                pending: word.ends_with('*'),
            })
            .collect()
    }

    /// `a* b`: `a` is pending, `b` waits.
    fn queue(hands_out: bool, text: &str) -> QueueState {
        QueueState { hands_out, items: named(text) }
    }

    fn after(state: &QueueState, input: &I, output: &O) -> Option<String> {
        let after = Queue::answered(state, input, output)?;
        let words = after.items.iter().map(|item| {
            let mark = if item.pending { "*" } else { "" };
            format!("{}{mark}", item.name)
        });
        Some(words.collect::<Vec<_>>().join(" "))
    }

    fn listed(state: &QueueState, text: &str) -> Option<String> {
        after(state, &I::List, &O::Items(named(text)))
    }

    #[test]
    fn the_front_goes_by_itself_and_only_the_front() {
        let three = queue(true, "a b c");
        for fits in ["a b c", "a* b c", "b c", "a* b* c", "b* c", "c", "a* c*", "c*", ""] {
            assert_eq!(listed(&three, fits).as_deref(), Some(fits));
        }
        for wrong in ["a c", "a b", "b a c", "a b* c", "a b c d", "d* c", "b* a* c"] {
            assert_eq!(listed(&three, wrong), None, "{wrong}");
        }
        assert_eq!(listed(&queue(true, "a* b"), "a b"), None, "nothing comes back");
    }

    #[test]
    fn a_silent_device_keeps_its_queue() {
        let two = queue(false, "a b");
        assert!(listed(&two, "a b").is_some());
        assert!(listed(&two, "b").is_none() && listed(&two, "a* b").is_none());
        let cancel = I::Cancel("a".to_owned());
        assert_eq!(after(&two, &cancel, &O::AlreadyHandedOut), None);
        assert_eq!(after(&two, &cancel, &O::NotFound), None);
        assert_eq!(after(&two, &cancel, &O::Done).as_deref(), Some("b"));
        assert_eq!(after(&two, &I::Flush, &O::Done).as_deref(), Some(""));
    }

    #[test]
    fn what_is_handed_out_is_neither_cancelled_nor_flushed() {
        let two = queue(true, "a b");
        let cancel = I::Cancel("b".to_owned());
        assert_eq!(after(&two, &cancel, &O::Done).as_deref(), Some("a"));
        assert_eq!(after(&two, &cancel, &O::AlreadyHandedOut).as_deref(), Some("a* b*"));
        assert_eq!(after(&two, &cancel, &O::NotFound).as_deref(), Some("a*"));
        assert_eq!(after(&queue(true, "a* b*"), &cancel, &O::Done), None);
        let flushed = Queue::answered(&two, &I::Flush, &O::Done).unwrap();
        assert!(listed(&flushed, "").is_some() && listed(&flushed, "a*").is_some());
        assert!(listed(&flushed, "b").is_none(), "a flushed item waits no more");
        assert_eq!(after(&two, &I::Enqueue("a".to_owned()), &O::Done), None);
        assert_eq!(after(&two, &I::Flush, &O::NotFound), None);
    }

    #[test]
    fn items_that_nobody_met_are_as_good_as_one() {
        let (list, cancel) = (I::List, I::Cancel("b".to_owned()));
        let items = O::Items(named("a"));
        let met = Queue::met(&[(&list, Some(&items)), (&cancel, None)]);
        let simple = |name: &str| Queue::simplified(&I::Enqueue(name.to_owned()), &met);
        assert!(Queue::helps(&simple("a")) && Queue::helps(&simple("b")));
        assert!(!Queue::helps(&simple("c")) && simple("c") == simple("d"));
        let queued = |state: &QueueState, name| after(state, &simple(name), &O::Done);
        assert_eq!(queued(&queue(true, "a*"), "c").as_deref(), Some("a*"), "it may be gone");
        let behind = Queue::answered(&queue(true, "a"), &simple("c"), &O::Done).unwrap();
        assert_eq!(behind.items.len(), 2);
        assert!(listed(&behind, "a").is_none() && listed(&behind, "a*").is_some());
        let run = Queue::answered(&behind, &simple("d"), &O::Done).unwrap();
        assert_eq!(run.items.len(), 3, "they wait behind one that may be listed");
    }

    #[test]
    fn lists_tell_in_which_order_items_were_queued() {
        let (list, items) = (I::List, O::Items(named("a* b c")));
        let pair = |a: &str, b: &str| (I::Enqueue(a.to_owned()), I::Enqueue(b.to_owned()));
        assert_eq!(Queue::sequences(&[(&list, Some(&items))]), [pair("a", "b"), pair("b", "c")]);
    }
}
