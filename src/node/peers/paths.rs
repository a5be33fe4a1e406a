//! Which node reaches which gateway: each node tells the others of its own, and copies theirs.
//!
//! A set has one writer. Its messages are numbered; whoever misses one asks for the whole. Entries
//! carry ages, which each node keeps on its own clock: of several paths the freshest counts. A
//! change is told at once, a mere refresh every few seconds. Source: DESIGN 3 (owned), 4.8; dangers
//! B15.

use std::collections::{BTreeMap, BTreeSet};

use clock::{Duration, Instant};
use lorawan::GatewayEui;
use mac::NodeId;
use sabotage::Bug;

use super::message::{PathEntry, PathNews};

/// How often news of mere refreshes leaves.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// Gateways in one message.
const ENTRIES_MAX: usize = 1_000;
/// Gateways remembered of one node.
const GATEWAYS_MAX: usize = 65_536;

/// What another node has told of one gateway. Ages, since this node may have started later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RemotePath {
    told_at: Instant,
    seen_age: Duration,
    pull_age: Option<Duration>,
}

/// How long ago a gateway was heard, and its last PULL_DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) seen: Duration,
    pub(crate) pull: Option<Duration>,
}

impl Ages {
    /// The least of two that may be missing.
    pub(crate) fn least(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).reduce(|one, other| Self {
            seen: one.seen.min(other.seen),
            pull: one.pull.into_iter().chain(other.pull).min(),
        })
    }
}

impl RemotePath {
    fn ages(&self, now: Instant) -> Ages {
        let since = now.since(self.told_at);
        Ages { seen: since + self.seen_age, pull: self.pull_age.map(|age| since + age) }
    }
}

/// What one other node has told.
#[derive(Debug, Default)]
struct Told {
    sequence: u64,
    /// A message is missing: the whole was asked for.
    behind: bool,
    gateways: BTreeMap<GatewayEui, RemotePath>,
}

/// The sets of all other nodes, and what of the own one is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    told: BTreeMap<NodeId, Told>,
    sequence: BTreeMap<NodeId, u64>,
    urgent: BTreeSet<GatewayEui>,
    refreshed: BTreeSet<GatewayEui>,
    refresh_at: Option<Instant>,
}

impl Paths {
    /// The freshest path that another of these nodes has, and its age.
    pub(crate) fn freshest(
        &self,
        now: Instant,
        gateway: GatewayEui,
        counts: impl Fn(NodeId) -> bool,
    ) -> Option<(NodeId, Duration)> {
        let ways = self.told.iter().filter(|(node, _)| counts(**node));
        let ways = ways.filter_map(|(node, told)| {
            let pull = told.gateways.get(&gateway)?.ages(now).pull?;
            Some((*node, pull))
        });
        if sabotage::planted(Bug::StalePath) {
            return ways.max_by_key(|(node, age)| (*age, *node));
        }
        ways.min_by_key(|(node, age)| (*age, *node))
    }

    /// What the others know of a gateway, the latest of it.
    pub(crate) fn latest(&self, now: Instant, gateway: GatewayEui) -> Option<Ages> {
        let all = self.told.values().filter_map(|told| told.gateways.get(&gateway));
        all.map(|path| path.ages(now)).fold(None, |least, ages| Ages::least(least, Some(ages)))
    }

    /// Takes another node's news.
    ///
    /// * Returns whether the whole must be asked for.
    pub(crate) fn handle_news(&mut self, now: Instant, from: NodeId, news: &PathNews) -> bool {
        let told = self.told.entry(from).or_default();
        if news.whole {
            told.gateways.clear();
            told.behind = false;
        } else if news.sequence != told.sequence + 1 {
            let first = !told.behind;
            told.behind = true;
            return first;
        } else if told.behind {
            return false;
        }
        told.sequence = news.sequence;
        for entry in &news.entries {
            if told.gateways.len() >= GATEWAYS_MAX && !told.gateways.contains_key(&entry.gateway) {
                continue;
            }
            let path = RemotePath {
                told_at: now,
                seen_age: Duration::from_millis(entry.seen_ms),
                pull_age: entry.pull_ms.map(Duration::from_millis),
            };
            told.gateways.insert(entry.gateway, path);
        }
        false
    }

    /// A gateway of this node's own was heard.
    ///
    /// * `moved`: its way down changed, or was another node's until now.
    pub(crate) fn note_own(&mut self, now: Instant, gateway: GatewayEui, moved: bool) {
        if moved {
            self.urgent.insert(gateway);
            self.refreshed.remove(&gateway);
        } else if !self.urgent.contains(&gateway) {
            self.refreshed.insert(gateway);
            self.refresh_at.get_or_insert(now + REFRESH_EVERY);
        }
    }

    /// The gateways of which there is something to tell now.
    pub(crate) fn take_news(&mut self, now: Instant) -> Vec<GatewayEui> {
        let mut news = core::mem::take(&mut self.urgent);
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            news.append(&mut self.refreshed);
        }
        news.into_iter().collect()
    }

    /// When a refresh is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.refresh_at
    }

    /// Messages for one node, numbered.
    ///
    /// * `whole`: everything anew; else `entries` are what has changed.
    pub(crate) fn messages(
        &mut self,
        to: NodeId,
        entries: &[PathEntry],
        whole: bool,
    ) -> Vec<PathNews> {
        let sequence = self.sequence.entry(to).or_default();
        let mut parts: Vec<&[PathEntry]> = entries.chunks(ENTRIES_MAX).collect();
        if parts.is_empty() && whole {
            parts.push(&[]);
        }
        let mut messages = Vec::new();
        for (number, part) in parts.into_iter().enumerate() {
            *sequence += 1;
            let whole = whole && number == 0;
            messages.push(PathNews { sequence: *sequence, whole, entries: part.to_vec() });
        }
        messages
    }

    /// Forgets a node that is no member any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.told.remove(&node);
        self.sequence.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N2: NodeId = NodeId(2);
    const N3: NodeId = NodeId(3);

    fn gateway(number: u64) -> GatewayEui {
        GatewayEui::from_be_bytes(number.to_be_bytes())
    }

    fn entry(number: u64, pull_ms: u64) -> PathEntry {
        PathEntry { gateway: gateway(number), seen_ms: pull_ms, pull_ms: Some(pull_ms) }
    }

    fn news(sequence: u64, whole: bool, entries: &[PathEntry]) -> PathNews {
        PathNews { sequence, whole, entries: entries.to_vec() }
    }

    #[test]
    fn the_freshest_path_counts_whatever_order_it_was_told_in() {
        let mut paths = Paths::default();
        let at = Instant::from_secs(100);
        assert!(!paths.handle_news(at, N2, &news(1, true, &[entry(1, 4_000)])));
        assert!(!paths.handle_news(at, N3, &news(1, true, &[entry(1, 9_000)])));
        let later = Instant::from_secs(101);
        let found = paths.freshest(later, gateway(1), |_| true);
        assert_eq!(found, Some((N2, Duration::from_secs(5))));
        assert_eq!(paths.freshest(later, gateway(1), |node| node == N3).unwrap().0, N3);
        assert_eq!(paths.freshest(later, gateway(2), |_| true), None);
    }

    #[test]
    fn a_gap_is_noticed_once_and_mended_by_the_whole() {
        let mut paths = Paths::default();
        let at = Instant::from_secs(100);
        assert!(!paths.handle_news(at, N2, &news(1, true, &[entry(1, 0)])));
        assert!(paths.handle_news(at, N2, &news(3, false, &[entry(2, 0)])));
        assert!(!paths.handle_news(at, N2, &news(4, false, &[entry(2, 0)])), "asked already");
        assert!(paths.freshest(at, gateway(2), |_| true).is_none());
        assert!(!paths.handle_news(at, N2, &news(5, true, &[entry(2, 0)])));
        assert!(!paths.handle_news(at, N2, &news(6, false, &[entry(3, 0)])));
        assert!(paths.freshest(at, gateway(1), |_| true).is_none(), "not in the whole");
        assert!(paths.freshest(at, gateway(3), |_| true).is_some());
    }

    #[test]
    fn a_change_is_told_at_once_and_a_refresh_with_others() {
        let mut paths = Paths::default();
        let at = Instant::from_secs;
        paths.note_own(at(10), gateway(1), true);
        paths.note_own(at(10), gateway(2), false);
        assert_eq!(paths.take_news(at(10)), [gateway(1)]);
        paths.note_own(at(11), gateway(3), false);
        assert_eq!(paths.poll_timeout(), Some(at(12)));
        assert_eq!(paths.take_news(at(12)), [gateway(2), gateway(3)]);
        assert_eq!(paths.poll_timeout(), None);
    }
}
