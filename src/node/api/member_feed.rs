//! Readers of what happens to members: a bounded ring, and whoever waits for the next.

use std::collections::VecDeque;

use super::operation::Outcome;
use super::wire::{MemberEvent, MemberEventPage};
use crate::effect::Effect;
use crate::input::CallId;

/// Events remembered, and at most on a page.
const RING_MAX: usize = 1_000;
/// Readers that may wait at a time; beyond, the oldest is answered with an empty page.
const WAITING_MAX: usize = 1_024;

/// The ring and its readers.
#[derive(Debug, Default)]
pub(super) struct MemberFeed {
    ring: VecDeque<MemberEvent>,
    /// The highest number that is not in the ring any more.
    forgotten: u64,
    waiting: VecDeque<(CallId, u64)>,
}

impl MemberFeed {
    fn last(&self) -> u64 {
        self.ring.back().map_or(self.forgotten, |event| event.sequence)
    }

    /// Answers a reader out of the ring, or lets it wait.
    pub(super) fn watch(
        &mut self,
        call: CallId,
        after: Option<u64>,
        wait: bool,
        effects: &mut VecDeque<Effect>,
    ) {
        let after = after.unwrap_or_else(|| self.last());
        let events: Vec<_> =
            self.ring.iter().filter(|event| event.sequence > after).cloned().collect();
        if events.is_empty() && wait {
            if self.waiting.len() >= WAITING_MAX
                && let Some((oldest, after)) = self.waiting.pop_front()
            {
                effects.push_back(page(oldest, Vec::new(), after, false));
            }
            return self.waiting.push_back((call, after));
        }
        effects.push_back(page(call, events, after, after < self.forgotten));
    }

    /// A new event: readers that waited for it are answered.
    pub(super) fn add(&mut self, event: MemberEvent, effects: &mut VecDeque<Effect>) {
        for (call, after) in core::mem::take(&mut self.waiting) {
            if event.sequence > after {
                effects.push_back(page(call, vec![event.clone()], after, false));
            } else {
                self.waiting.push_back((call, after));
            }
        }
        if self.ring.len() >= RING_MAX
            && let Some(oldest) = self.ring.pop_front()
        {
            self.forgotten = oldest.sequence;
        }
        self.ring.push_back(event);
    }

    /// The call is no longer of interest.
    pub(super) fn forget(&mut self, call: CallId) {
        self.waiting.retain(|(other, _)| *other != call);
    }
}

fn page(call: CallId, events: Vec<MemberEvent>, after: u64, missed: bool) -> Effect {
    let next = events.last().map_or(after, |event| event.sequence);
    let page = MemberEventPage { events, next, missed };
    Effect::Reply { call, result: Ok(Outcome::MemberEvents(page)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(effects: &mut VecDeque<Effect>) -> Vec<(u64, Vec<u64>, u64, bool)> {
        let page = |effect| {
            let Effect::Reply { call, result: Ok(Outcome::MemberEvents(page)) } = effect else {
                panic!("{effect:?}")
            };
            let numbers = page.events.iter().map(|event| event.sequence).collect();
            (call.0, numbers, page.next, page.missed)
        };
        effects.drain(..).map(page).collect()
    }

    fn event(sequence: u64) -> MemberEvent {
        MemberEvent { sequence, ..MemberEvent::default() }
    }

    #[test]
    fn a_reader_gets_what_is_there_and_waits_for_the_next() {
        let (mut feed, mut effects) = (MemberFeed::default(), VecDeque::new());
        feed.add(event(256), &mut effects);
        feed.add(event(257), &mut effects);
        feed.watch(CallId(1), Some(0), true, &mut effects);
        feed.watch(CallId(2), None, true, &mut effects);
        feed.watch(CallId(3), Some(256), false, &mut effects);
        feed.watch(CallId(4), Some(257), false, &mut effects);
        feed.watch(CallId(5), None, true, &mut effects);
        feed.forget(CallId(5));
        feed.add(event(600), &mut effects);
        let wanted = [
            (1, vec![256, 257], 257, false),
            (3, vec![257], 257, false),
            (4, vec![], 257, false),
            (2, vec![600], 600, false),
        ];
        assert_eq!(pages(&mut effects), wanted);
    }

    #[test]
    fn what_was_forgotten_is_said() {
        let (mut feed, mut effects) = (MemberFeed::default(), VecDeque::new());
        for number in 1..=1_002 {
            feed.add(event(number), &mut effects);
        }
        feed.watch(CallId(1), Some(1), false, &mut effects);
        feed.watch(CallId(2), Some(2), false, &mut effects);
        let pages = pages(&mut effects);
        assert_eq!((pages[0].1.len(), pages[0].3), (1_000, true));
        assert!(!pages[1].3);
    }
}
