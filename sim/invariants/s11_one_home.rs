//! S11, one home: after each entry of the log the numbers of a device are granted to one home
//! under one epoch, all nodes agree who that is, and no epoch ever comes again for another; and a
//! node hands out no new number under an epoch older than one that it has applied.
//!
//! Source: requirements, part G, S11; dangers, C3. A home that does not know yet that another has
//! taken over goes on drawing below: that is meant, and lossy. What it had fixed before it knew (a
//! number on its way to the disk, a frame on its way to the node that reaches the gateway) may
//! still leave for [`UNDER_WAY`], or when its window is over: then it is refused. Nothing is said
//! any more once the disks of a majority have lost what they held.

use std::collections::BTreeMap;
use std::time::Duration;

use lorawan::{DevAddr, DevEui};
use mac::Grant;

use super::lateness::Lateness;
use super::numbers::{Counter, Home, Ranges, home_of};
use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, RaftStep, Seen};

/// How long a number may be on its way from its home's decision to a gateway: the disk may stall,
/// and the window is not over before RX2 of a join.
const UNDER_WAY: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Known {
    granted: Ranges,
    /// The grants after each entry, in order.
    at: BTreeMap<u64, Vec<Grant>>,
    homes: BTreeMap<u32, u64>,
    left: std::collections::BTreeSet<u32>,
    /// The epochs that each member has applied, and when it did first.
    applied: BTreeMap<u64, BTreeMap<u32, Duration>>,
}

/// Watches S11.
#[derive(Debug, Default)]
pub struct OneHome {
    counters: BTreeMap<Counter, Known>,
    members: BTreeMap<String, u64>,
    /// What each node was last told, of the entry it is at: two grants of one entry come in order.
    under_way: BTreeMap<(String, Counter), (u64, usize)>,
    lateness: Lateness,
    void: bool,
}

impl OneHome {
    fn granted(
        &mut self,
        (at, node): (Duration, &str),
        index: u64,
        of: Counter,
        grant: &Grant,
    ) -> Option<String> {
        let place = self.under_way.entry((node.to_owned(), of)).or_insert((index, 0));
        if place.0 != index {
            *place = (index, 0);
        }
        let nth = place.1;
        place.1 += 1;
        let known = self.counters.entry(of).or_default();
        // Whose it is when it overlaps, S2 says.
        let _ = known.granted.add(grant);
        if let Some(member) = self.members.get(node) {
            let epochs = known.applied.entry(*member).or_default();
            epochs.entry(grant.home_epoch).or_insert(at);
        }
        let (home, epoch) = home_of(grant);
        let first = *known.homes.entry(epoch).or_insert(home);
        if first != home {
            return Some(format!("{of:?}: epoch {epoch} is {home}'s, and was {first}'s"));
        }
        let all = known.at.entry(index).or_default();
        match all.get(nth) {
            // A node that starts again applies the entry again.
            Some(other) if other != grant => {
                Some(format!("{of:?} at {index}: {node} has {grant:?}, another {other:?}"))
            }
            Some(_) => None,
            None => {
                all.push(*grant);
                None
            }
        }
    }

    fn handed(&mut self, at: Duration, of: Counter, number: u32, is_late: bool) -> Option<String> {
        let known = self.counters.get_mut(&of)?;
        // What came too late may come again in time.
        if !known.left.insert(number) || is_late {
            return None;
        }
        let (home, epoch): Home = known.granted.home(number)?;
        let applied = known.applied.get(&home)?;
        let (newer, since) = applied.range(epoch + 1..).next()?;
        (at > *since + UNDER_WAY).then(|| {
            let since = since.as_secs_f64();
            format!(
                "{number} of {of:?} leaves under epoch {epoch}: its home {home} has known of \
                 {newer} since {since:.6}s"
            )
        })
    }
}

impl Invariant for OneHome {
    fn name(&self) -> &'static str {
        "S11"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        if self.void {
            return Vec::new();
        }
        self.lateness.observe(seen);
        #[expect(clippy::wildcard_enum_match_arm, reason = "four facts concern it")]
        let wrong = match &seen.fact {
            Fact::Raft { node, step: RaftStep::Numbered(member) } => {
                self.members.insert(node.clone(), *member);
                self.under_way.retain(|(other, _), _| other != node);
                None
            }
            Fact::Granted { node, index, device, dev_addr, grant } => {
                let of: (DevEui, DevAddr) = (*device, *dev_addr);
                self.granted((seen.at, node), *index, of, grant)
            }
            Fact::DownlinkHanded { device, dev_addr, f_cnt, how, .. } => {
                let is_late = self.lateness.is_late(seen.at, how);
                self.handed(seen.at, (*device, *dev_addr), *f_cnt, is_late)
            }
            Fact::DiskLost { .. } => {
                self.void = true;
                None
            }
            _ => None,
        };
        wrong.map(|text| violation("S11", seen, text)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{disk_lost, frame, granted, granted_at, judge};
    use super::*;

    fn numbered(node: &str, member: u64) -> Fact {
        Fact::Raft { node: node.to_owned(), step: RaftStep::Numbered(member) }
    }

    fn found(history: impl IntoIterator<Item = Fact>) -> Vec<String> {
        let begin = [numbered("n1", 1), numbered("n2", 2)];
        judge(&mut OneHome::default(), begin.into_iter().chain(history))
    }

    /// The second home takes over at entry 2; the first one learns of it or not, and seconds pass.
    fn taken_over(first_knows: bool) -> Vec<Fact> {
        let second = (2, 2, 16, 32);
        let learns = first_knows.then(|| granted_at("n1", 2, second));
        let begin = [granted(1, 1, 0, 16), granted_at("n2", 2, second)];
        begin.into_iter().chain(learns).chain((0..3).map(|_| Fact::Calm)).collect()
    }

    #[test]
    fn a_home_that_does_not_know_goes_on_and_one_that_knows_does_not() {
        let then = |first_knows, fact| found(taken_over(first_knows).into_iter().chain([fact]));
        assert!(then(false, frame(3, b"three")).is_empty());
        assert!(then(true, frame(16, b"sixteen")).is_empty());
        let old = then(true, frame(3, b"three"));
        assert!(old.len() == 1 && old[0].contains("leaves under epoch 1"), "{old:?}");
        let copy = [granted(1, 1, 0, 16), frame(3, b"three")];
        let copy = copy.into_iter().chain(taken_over(true)).chain([frame(3, b"three")]);
        assert!(found(copy).is_empty(), "the same bytes once more");
    }

    #[test]
    fn one_entry_with_two_outcomes_and_an_epoch_of_two_homes_are_caught() {
        let apart = [granted_at("n1", 1, (1, 1, 0, 16)), granted_at("n2", 1, (1, 1, 0, 17))];
        assert!(found(apart)[0].contains("another"));
        let same = [granted_at("n1", 1, (1, 1, 0, 16)), granted_at("n2", 1, (1, 1, 0, 16))];
        assert!(found(same).is_empty());
        let both = [granted_at("n1", 1, (1, 1, 0, 16)), granted_at("n1", 2, (2, 1, 16, 32))];
        assert!(found(both)[0].contains("epoch 1 is 2's, and was 1's"));
        let lost = [disk_lost(true), granted_at("n1", 1, (1, 1, 0, 16))];
        assert!(found(lost).is_empty());
    }
}
