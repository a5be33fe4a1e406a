//! S10, one log: of one term there is one leader; where two nodes hold an entry of one position
//! and term they hold the same up to there; all apply the same entry at a position, and come to
//! the same state; a leader has all that was applied before its election; what a node has applied
//! it never cuts off; it goes on where it stands, and throws away only what a snapshot includes.
//!
//! Source: requirements, part G, S10; Ongaro, "Consensus", figure 3.2. Told by each node's disk
//! and state machine, whatever the node believes. Where a node stood is known from what it has
//! written since its disk was last empty. What a power cut took from a log is not: its writer may
//! be taken to have more than it has, which excuses and never accuses. States are compared at some
//! entries.
//!
//! Nothing is said any more once the disks of a majority have lost what they held.

use std::collections::BTreeMap;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, RaftStep, Seen};

/// An entry by its term and what it says.
type Entry = (u64, u64);

/// What is known of one node.
#[derive(Debug, Default)]
struct Node {
    /// Which member it is, in the boot that runs or ran last.
    member: u64,
    log: BTreeMap<u64, Entry>,
    /// Positions up to here a snapshot includes.
    snapshot: u64,
    purged: u64,
    /// The last entry it has ever applied.
    applied: u64,
    /// And in this boot; `None` before the first.
    applied_now: Option<u64>,
    /// Its vote in this boot.
    vote: Option<(u64, u64, bool)>,
    /// The one before it, which stands if the disk refuses that one.
    vote_before: Option<(u64, u64, bool)>,
}

/// Watches S10.
#[derive(Debug, Default)]
pub struct OneLog {
    nodes: BTreeMap<String, Node>,
    leaders: BTreeMap<u64, u64>,
    /// Every entry that any node has held: what it says, and the term of the one before it.
    held: BTreeMap<(u64, u64), (u64, Option<u64>)>,
    applied: BTreeMap<u64, Entry>,
    states: BTreeMap<u64, [u8; 32]>,
    /// The last entry applied anywhere when each term was first heard of.
    before_term: BTreeMap<u64, u64>,
    void: bool,
}

impl OneLog {
    fn last_applied(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(index, _)| *index)
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.entry(name.to_owned()).or_default()
    }

    fn step(&mut self, name: &str, step: &RaftStep) -> Option<String> {
        match *step {
            RaftStep::Numbered(member) => {
                let node = self.node(name);
                (node.member, node.applied_now) = (member, None);
                (node.vote, node.vote_before) = (None, None);
                None
            }
            RaftStep::Voted { term, leader, elected } => self.voted(name, (term, leader, elected)),
            RaftStep::Unvoted => {
                let node = self.node(name);
                node.vote = node.vote_before;
                None
            }
            RaftStep::Stored { index, term, hash } => self.stored(name, index, (term, hash)),
            RaftStep::Cut(index) => {
                let node = self.node(name);
                node.log.split_off(&index);
                let applied = node.applied_now.filter(|applied| *applied >= index);
                applied.map(|applied| format!("cuts its log at {index}, and has applied {applied}"))
            }
            RaftStep::Purged(through) => {
                let node = self.node(name);
                node.purged = node.purged.max(through);
                node.log = node.log.split_off(&(through + 1));
                (through > node.snapshot).then(|| {
                    format!("purges up to {through}, its snapshot ends at {}", node.snapshot)
                })
            }
            RaftStep::Snapshot(through) => self.snapshot(name, through),
            RaftStep::Applied { index, term, hash } => self.applied(name, index, (term, hash)),
            RaftStep::Restored(through) => {
                let node = self.node(name);
                let wrong = node.applied_now.filter(|applied| *applied > through);
                node.applied_now = Some(through.max(node.applied_now.unwrap_or(0)));
                node.applied = node.applied.max(through);
                wrong.map(|applied| format!("goes back from {applied} to a snapshot of {through}"))
            }
            RaftStep::State { index, hash } => {
                let known = *self.states.entry(index).or_insert(hash);
                (known != hash).then(|| format!("another state than others have after {index}"))
            }
            RaftStep::Wiped => {
                self.nodes.remove(name);
                None
            }
        }
    }

    fn voted(&mut self, name: &str, vote: (u64, u64, bool)) -> Option<String> {
        let (term, leader, elected) = vote;
        let last = self.last_applied();
        self.before_term.entry(term).or_insert(last);
        let node = self.node(name);
        let before = node.vote.replace(vote);
        node.vote_before = before;
        let went_back = before.filter(|(known, for_whom, _)| {
            *known > term || *known == term && *for_whom != leader && !elected
        });
        if let Some((known, for_whom, _)) = went_back {
            return Some(format!("votes for {leader} in {term}, after {for_whom} in {known}"));
        }
        if !elected {
            return None;
        }
        let is_itself = node.member == leader;
        let known = *self.leaders.entry(term).or_insert(leader);
        if known != leader {
            return Some(format!("two leaders of term {term}: {known} and {leader}"));
        }
        let is_new = is_itself && before != Some(vote);
        is_new.then(|| self.is_complete(name, term)).flatten()
    }

    /// Whether the leader of a term has what was applied before that term was heard of.
    fn is_complete(&self, name: &str, term: u64) -> Option<String> {
        let last = *self.before_term.get(&term)?;
        let wanted = *self.applied.get(&last)?;
        let node = self.nodes.get(name)?;
        if last <= node.snapshot.max(node.purged) {
            return None;
        }
        let has = node.log.get(&last).map(|(term, _)| *term);
        (has != Some(wanted.0)).then(|| {
            format!("leads term {term} with {has:?} at {last}, where {wanted:?} was applied")
        })
    }

    fn stored(&mut self, name: &str, index: u64, entry: Entry) -> Option<String> {
        let (term, hash) = entry;
        let last = self.last_applied();
        self.before_term.entry(term).or_insert(last);
        let node = self.node(name);
        let overwritten = node.log.split_off(&index).remove(&index);
        node.log.insert(index, entry);
        let before = index.checked_sub(1).and_then(|before| node.log.get(&before));
        let before = before.map(|(term, _)| *term);
        let is_applied = node.applied_now.is_some_and(|applied| applied >= index);
        if is_applied && overwritten.is_some_and(|known| known != entry) {
            return Some(format!("writes {entry:?} to {index}, which it has applied already"));
        }
        if before.is_some_and(|before| before > term) {
            return Some(format!("{index} is of term {term}, the one before of {before:?}"));
        }
        let known = self.held.entry((index, term)).or_insert((hash, before));
        known.1 = known.1.or(before);
        let differs = known.0 != hash || before.is_some_and(|before| known.1 != Some(before));
        differs.then(|| {
            format!("holds {hash:x} behind {before:?} at {index} of {term}, others {known:x?}")
        })
    }

    fn snapshot(&mut self, name: &str, through: u64) -> Option<String> {
        let last = self.last_applied();
        let node = self.node(name);
        let before = node.snapshot;
        node.snapshot = before.max(through);
        if before > through {
            return Some(format!("takes a snapshot up to {through} after one up to {before}"));
        }
        (through > last).then(|| format!("a snapshot up to {through}, nobody has applied that"))
    }

    fn applied(&mut self, name: &str, index: u64, entry: Entry) -> Option<String> {
        let node = self.node(name);
        let before = node.applied_now.replace(index);
        node.applied = node.applied.max(index);
        // A snapshot tells the last entry with a command; the ones behind it may have none.
        if before.is_some_and(|before| index <= before) {
            return Some(format!("applies {index} after {before:?}"));
        }
        let own = node.log.get(&index).map(|(term, _)| *term);
        if own.is_some_and(|term| term != entry.0) {
            return Some(format!("applies {entry:?} at {index}, and holds {own:?}"));
        }
        let end = node.log.last_key_value().map_or(0, |(end, _)| *end).max(node.snapshot);
        if index > end {
            return Some(format!("applies {index}, and its log ends at {end}"));
        }
        let known = *self.applied.entry(index).or_insert(entry);
        (known != entry).then(|| format!("applies {entry:x?} at {index}, others {known:x?}"))
    }
}

impl Invariant for OneLog {
    fn name(&self) -> &'static str {
        "S10"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        if let Fact::DiskLost { .. } = &seen.fact {
            self.void = true;
        }
        let Fact::Raft { node, step } = &seen.fact else { return Vec::new() };
        if self.void {
            return Vec::new();
        }
        let wrong = self.step(node, step);
        let tell = |text| violation("S10", seen, format!("{node} {text}"));
        wrong.map(tell).into_iter().collect()
    }

    fn closing(&self) -> Option<String> {
        let (entries, states, terms) = (self.applied.len(), self.states.len(), self.leaders.len());
        Some(format!("{entries} entries and {states} states compared, {terms} terms with a leader"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::judge;
    use super::*;

    fn raft(node: &str, step: RaftStep) -> Fact {
        Fact::Raft { node: node.to_owned(), step }
    }

    fn stored(node: &str, index: u64, term: u64, hash: u64) -> Fact {
        raft(node, RaftStep::Stored { index, term, hash })
    }

    fn applied(node: &str, index: u64, term: u64, hash: u64) -> Fact {
        raft(node, RaftStep::Applied { index, term, hash })
    }

    fn voted(node: &str, term: u64, leader: u64, elected: bool) -> Fact {
        raft(node, RaftStep::Voted { term, leader, elected })
    }

    /// Three members; the first leads term 1, and two hold and apply one entry.
    fn begun() -> Vec<Fact> {
        let numbered =
            (1..=3).map(|member| raft(&format!("n{member}"), RaftStep::Numbered(member)));
        let rest = [
            voted("n1", 1, 1, true),
            stored("n1", 1, 1, 11),
            stored("n2", 1, 1, 11),
            applied("n1", 1, 1, 11),
        ];
        numbered.chain(rest).collect()
    }

    fn found(more: impl IntoIterator<Item = Fact>) -> Vec<String> {
        judge(&mut OneLog::default(), begun().into_iter().chain(more))
    }

    fn passes(more: impl IntoIterator<Item = Fact>) {
        assert_eq!(found(more), Vec::<String>::new());
    }

    fn violated(more: impl IntoIterator<Item = Fact>, about: &str) {
        let found = found(more);
        assert!(found.len() == 1 && found[0].contains(about), "{found:?}");
    }

    #[test]
    fn a_change_of_leaders_and_a_tail_that_was_never_decided_pass() {
        passes([
            stored("n1", 2, 1, 12),
            voted("n2", 2, 2, false),
            voted("n2", 2, 2, true),
            voted("n3", 2, 3, false),
            voted("n3", 2, 2, true),
            stored("n2", 2, 2, 22),
            raft("n1", RaftStep::Cut(2)),
            stored("n1", 2, 2, 22),
            applied("n2", 1, 1, 11),
            applied("n2", 2, 2, 22),
            applied("n1", 2, 2, 22),
            raft("n1", RaftStep::Snapshot(2)),
            raft("n1", RaftStep::Purged(1)),
            raft("n1", RaftStep::State { index: 2, hash: [1; 32] }),
            raft("n2", RaftStep::State { index: 2, hash: [1; 32] }),
        ]);
    }

    #[test]
    fn a_restart_and_a_wiped_disk_begin_anew() {
        passes([
            raft("n1", RaftStep::Numbered(1)),
            applied("n1", 1, 1, 11),
            raft("n2", RaftStep::Wiped),
            raft("n2", RaftStep::Numbered(1_001)),
            raft("n2", RaftStep::Snapshot(1)),
            raft("n2", RaftStep::Restored(1)),
            stored("n2", 2, 1, 12),
            applied("n2", 2, 1, 12),
        ]);
    }

    #[test]
    fn two_leaders_and_a_leader_without_what_was_applied_are_caught() {
        violated([voted("n3", 1, 3, true)], "two leaders of term 1");
        violated([voted("n3", 2, 3, true)], "leads term 2 with None at 1");
        violated([voted("n2", 2, 2, false), voted("n2", 2, 3, false)], "votes for 3 in 2");
        violated([voted("n2", 3, 2, false), voted("n2", 2, 3, false)], "votes for 3 in 2");
    }

    #[test]
    fn a_vote_that_the_disk_refused_was_not_given() {
        let refused = || [voted("n2", 3, 2, false), raft("n2", RaftStep::Unvoted)];
        passes(refused().into_iter().chain([voted("n2", 3, 3, false)]));
        let again = [voted("n2", 2, 2, false)].into_iter().chain(refused());
        violated(again.chain([voted("n2", 2, 3, false)]), "votes for 3 in 2");
    }

    #[test]
    fn one_place_with_two_entries_is_caught() {
        violated([stored("n3", 1, 1, 99)], "others");
        violated([stored("n3", 1, 1, 11), applied("n3", 1, 1, 99)], "others");
        violated([raft("n1", RaftStep::Cut(1))], "has applied 1");
        violated([stored("n1", 1, 2, 21)], "which it has applied already");
        let states = |hash| raft("n2", RaftStep::State { index: 1, hash });
        violated([states([1; 32]), states([2; 32])], "another state");
    }

    #[test]
    fn whoever_does_not_go_on_where_he_stands_is_caught() {
        violated([applied("n1", 1, 1, 11)], "applies 1 after");
        violated([applied("n2", 2, 1, 12)], "its log ends at 1");
        violated([raft("n1", RaftStep::Purged(1))], "its snapshot ends at 0");
        violated([raft("n1", RaftStep::Snapshot(7))], "nobody has applied that");
    }
}
