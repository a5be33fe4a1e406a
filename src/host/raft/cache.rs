//! The tail of the log in memory, so that applying does not read back what was just written.
//!
//! Bounded in bytes; an entry leaves from the front, and only once it is durable, since until then
//! the disk cannot answer for it.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;

use super::types::RaftEntry;

/// What an entry costs beside its command.
const ENTRY_BYTES: usize = 96;

/// Consecutive entries at the end of the log.
pub(crate) struct Cache {
    entries: VecDeque<RaftEntry>,
    /// Index of the first entry held, or of the next to come.
    first: u64,
    bytes: usize,
    limit: usize,
    /// Entries below this index are on disk.
    durable: u64,
}

impl Cache {
    /// An empty tail of a log whose next entry has index `next`.
    pub(crate) fn new(next: u64, limit: usize) -> Self {
        Self { entries: VecDeque::new(), first: next, bytes: 0, limit, durable: next }
    }

    /// Index of the first entry held.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, entry: RaftEntry) {
        if self.entries.is_empty() {
            self.first = entry.log_id.index();
        }
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
    }

    /// Learns that entries below `next` are on disk; makes room.
    pub(crate) fn durable_below(&mut self, next: u64) {
        self.durable = self.durable.max(next);
        while self.bytes > self.limit && self.first < self.durable {
            self.pop();
        }
    }

    /// Forgets the entries from `index` on.
    pub(crate) fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index() >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= cost(&entry);
            }
        }
        self.durable = self.durable.min(index);
        self.first = self.first.min(index);
    }

    /// Forgets the entries up to and including `index`.
    pub(crate) fn purge_through(&mut self, index: u64) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index() <= index) {
            self.pop();
        }
        self.first = self.first.max(index + 1);
        self.durable = self.durable.max(index + 1);
    }

    /// The entries of a range that begins at or behind [`Cache::first`].
    pub(crate) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &RaftEntry> {
        self.entries
            .iter()
            .skip(usize::try_from(range.start.saturating_sub(self.first)).unwrap_or(usize::MAX))
            .take_while(move |entry| entry.log_id.index() < range.end)
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
            self.first = entry.log_id.index() + 1;
        }
    }
}

/// Bytes an entry takes in memory, about.
pub(crate) fn cost(entry: &RaftEntry) -> usize {
    ENTRY_BYTES
        + match &entry.payload {
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::super::types::{CommittedLeaderId, LogId, Payload};
    use super::*;
    use bytes::Bytes;

    fn entry(index: u64) -> RaftEntry {
        let term = CommittedLeaderId::new(1);
        let payload = EntryPayload::Normal(Payload(Bytes::from(vec![0; 104])));
        RaftEntry { log_id: LogId::new(term, index), payload }
    }

    fn held(cache: &Cache, range: Range<u64>) -> Vec<u64> {
        cache.range(range).map(|entry| entry.log_id.index()).collect()
    }

    #[test]
    fn only_durable_entries_leave_and_only_for_room() {
        let mut cache = Cache::new(10, 1_000);
        for index in 10..20 {
            cache.push(entry(index));
        }
        assert_eq!(held(&cache, 0..99), (10..20).collect::<Vec<_>>(), "twice the limit");
        cache.durable_below(12);
        assert_eq!(cache.first(), 12);
        cache.durable_below(20);
        assert_eq!(held(&cache, 15..18), [15, 16, 17]);
        assert_eq!(cache.first(), 15, "five entries of 200 bytes fit");
        cache.truncate_from(17);
        cache.push(entry(17));
        cache.push(entry(18));
        cache.push(entry(19));
        cache.push(entry(20));
        cache.durable_below(17);
        assert_eq!(cache.first(), 16);
        cache.durable_below(16);
        assert_eq!(held(&cache, 16..99), [16, 17, 18, 19, 20]);
        cache.truncate_from(3);
        assert_eq!(cache.first(), 3);
        cache.push(entry(3));
        cache.purge_through(50);
        assert_eq!((cache.first(), held(&cache, 0..99)), (51, vec![]));
    }
}
