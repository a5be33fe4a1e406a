//! Who has something to do next: one moment for each, and the earliest first.

use std::collections::{BTreeMap, BTreeSet};

use clock::Instant;

/// A queue of moments, at most one for each `K`. At one moment the smaller `K` comes first.
#[derive(Debug)]
pub(super) struct Timers<K> {
    queue: BTreeSet<(Instant, K)>,
    armed: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Timers<K> {
    /// Nobody has anything to do.
    pub(super) const fn new() -> Self {
        Self { queue: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// Says when `who` has something to do, in place of what was said before.
    pub(super) fn arm(&mut self, who: K, at: Option<Instant>) {
        let before = self.armed.get(&who).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, who));
            self.armed.remove(&who);
        }
        if let Some(at) = at {
            self.queue.insert((at, who));
            self.armed.insert(who, at);
        }
    }

    /// The next one, and when.
    pub(super) fn first(&self) -> Option<(Instant, K)> {
        self.queue.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_the_latest_word_counts() {
        let at = |millis| Some(Instant::from_millis(millis));
        let mut timers = Timers::new();
        for (who, moment) in [(2, at(5)), (1, at(7)), (3, at(5)), (1, at(5)), (3, at(9))] {
            timers.arm(who, moment);
        }
        let mut order = Vec::new();
        while let Some((moment, who)) = timers.first() {
            order.push((moment, who));
            timers.arm(who, None);
        }
        let moment = Instant::from_millis;
        assert_eq!(order, [(moment(5), 1), (moment(5), 2), (moment(9), 3)]);
        assert!(timers.armed.is_empty());
    }
}
