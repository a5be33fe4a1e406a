//! The topic index: who wants this message, among many filters.
//!
//! Filters without a wildcard are found by name in one ordered map; only those with one stand in a
//! trie, whose level names are interned. Both grow piecemeal (a B-tree, chunks of an arena), so
//! that no insertion stalls. Answers do not depend on the order of insertions. At most 2^32
//! filters. [`crate::TopicFilter::matches`] is the oracle. Source: MQTT 5.0 §4.7.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arena::Arena;
use crate::{TopicFilter, TopicName};

/// Trie nodes that a lookup visits at most, unless the caller says otherwise: about a millisecond.
pub const LOOKUP_BUDGET: usize = 10_000;
/// Keys of one filter that stand in a sorted list; more make it a tree.
const FEW: usize = 32;

/// Keys of type `K` (small: a subscriber, a node) under topic filters, each with a value `V`.
#[derive(Clone, Debug)]
pub struct TopicIndex<K, V> {
    /// Every filter and its keys, with and without wildcards.
    filters: BTreeMap<TopicFilter, u32>,
    slots: Arena<Keys<K, V>>,
    nodes: Arena<Node>,
    root: u32,
    edges: BTreeMap<(u32, LevelId), u32>,
    levels: BTreeMap<Arc<str>, Level>,
    next_level: LevelId,
    len: usize,
}

/// Never used twice: 2^64 are enough.
type LevelId = u64;

#[derive(Clone, Copy, Debug)]
struct Level {
    id: LevelId,
    /// Edges of that name.
    edges: u32,
}

/// A place in the trie. It stands for the levels on its way from the root.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Edges out of it, without `plus`.
    edges: u32,
    /// The node behind `+`.
    plus: Option<u32>,
    /// Keys of the filter that ends here.
    here: Option<u32>,
    /// Keys of the filter that ends here with a further `#`.
    hash: Option<u32>,
}

impl Node {
    const fn is_bare(&self) -> bool {
        self.edges == 0 && self.plus.is_none() && self.here.is_none() && self.hash.is_none()
    }
}

#[derive(Clone, Debug)]
enum Keys<K, V> {
    Few(Vec<(K, V)>),
    Many(BTreeMap<K, V>),
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup<'a, K, V> {
    /// Keys and values, ordered by key; a key once for each of its filters that match.
    pub matches: Vec<(K, &'a V)>,
    /// Trie nodes visited.
    pub visited: usize,
    /// Whether the budget sufficed. If not, `matches` has all filters without a wildcard and some
    /// of the others.
    pub complete: bool,
}

impl<K: Copy + Ord, V> Default for TopicIndex<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Ord, V> TopicIndex<K, V> {
    /// An index of nothing.
    pub fn new() -> Self {
        let mut nodes = Arena::new();
        let root = nodes.insert(Node::default());
        Self {
            filters: BTreeMap::new(),
            slots: Arena::new(),
            nodes,
            root,
            edges: BTreeMap::new(),
            levels: BTreeMap::new(),
            next_level: 0,
            len: 0,
        }
    }

    /// Pairs of filter and key.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Different filters.
    pub fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Nodes of the trie, which filters with a wildcard need, with its root.
    pub fn trie_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Every filter with its keys, ordered by filter, then by key.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicFilter, impl Iterator<Item = (K, &V)>)> {
        self.filters
            .iter()
            .map(|(filter, slot)| (filter, self.slots.get(*slot).into_iter().flat_map(Keys::iter)))
    }

    /// The value of a pair.
    pub fn get(&self, filter: &TopicFilter, key: K) -> Option<&V> {
        self.slots.get(*self.filters.get(filter)?)?.get(key)
    }

    /// Puts a pair in.
    ///
    /// * Returns the value it had before.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let slot = match self.filters.get(filter) {
            Some(slot) => *slot,
            None => {
                let slot = self.slots.insert(Keys::Few(Vec::new()));
                self.filters.insert(filter.clone(), slot);
                if filter.has_wildcard() {
                    self.plant(filter, slot);
                }
                slot
            }
        };
        let before = self.slots.get_mut(slot)?.insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a pair out.
    ///
    /// * Returns its value, if it was there.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> Option<V> {
        let slot = *self.filters.get(filter)?;
        let keys = self.slots.get_mut(slot)?;
        let value = keys.remove(key)?;
        self.len -= 1;
        if keys.is_empty() {
            self.slots.remove(slot);
            self.filters.remove(filter);
            if filter.has_wildcard() {
                self.uproot(filter);
            }
        }
        Some(value)
    }

    /// Everybody who wants a message of this name.
    ///
    /// * `budget`: trie nodes to visit at most, [`LOOKUP_BUDGET`] as a rule.
    pub fn lookup(&self, name: &TopicName, budget: usize) -> Lookup<'_, K, V> {
        let mut found = Lookup { matches: Vec::new(), visited: 0, complete: true };
        self.gather(self.filters.get(name.as_str()).copied(), &mut found);
        let levels: Vec<Option<LevelId>> =
            name.levels().map(|level| Some(self.levels.get(level)?.id)).collect();
        let mut stack = vec![(self.root, 0)];
        while let Some((at, depth)) = stack.pop() {
            if found.visited >= budget {
                found.complete = false;
                break;
            }
            found.visited += 1;
            let Some(node) = self.nodes.get(at) else { continue };
            // A wildcard at the root does not reach into `$SYS` and its like (§4.7.2).
            let hidden = depth == 0 && name.is_system();
            if !hidden {
                self.gather(node.hash, &mut found);
            }
            let Some(level) = levels.get(depth) else {
                self.gather(node.here, &mut found);
                continue;
            };
            if let Some(plus) = node.plus
                && !hidden
            {
                stack.push((plus, depth + 1));
            }
            if let Some(child) = level.and_then(|level| self.edges.get(&(at, level))) {
                stack.push((*child, depth + 1));
            }
        }
        // Stable: within a key the order is that of the walk, which the filters alone decide.
        found.matches.sort_by_key(|(key, _)| *key);
        found
    }

    fn gather<'a>(&'a self, slot: Option<u32>, found: &mut Lookup<'a, K, V>) {
        if let Some(keys) = slot.and_then(|slot| self.slots.get(slot)) {
            found.matches.extend(keys.iter());
        }
    }

    /// Puts a filter with a wildcard into the trie.
    fn plant(&mut self, filter: &TopicFilter, slot: u32) {
        let mut at = self.root;
        for level in filter.levels() {
            if level == "#" {
                self.node_mut(at).hash = Some(slot);
                return;
            }
            at = self.child_or_new(at, level);
        }
        self.node_mut(at).here = Some(slot);
    }

    fn child_or_new(&mut self, at: u32, level: &str) -> u32 {
        if let Some(child) = self.child(at, level) {
            return child;
        }
        let child = self.nodes.insert(Node::default());
        if level == "+" {
            self.node_mut(at).plus = Some(child);
            return child;
        }
        let id = match self.levels.get_mut(level) {
            Some(known) => {
                known.edges += 1;
                known.id
            }
            None => {
                let id = self.next_level;
                self.next_level += 1;
                self.levels.insert(level.into(), Level { id, edges: 1 });
                id
            }
        };
        self.edges.insert((at, id), child);
        self.node_mut(at).edges += 1;
        child
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        if level == "+" {
            return self.nodes.get(at)?.plus;
        }
        self.edges.get(&(at, self.levels.get(level)?.id)).copied()
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes.get_mut(at).expect("edges lead to nodes")
    }

    /// Takes a filter with a wildcard out of the trie, with the nodes that stood for it alone.
    fn uproot(&mut self, filter: &TopicFilter) {
        let mut way: Vec<(u32, &str)> = Vec::new();
        let mut at = self.root;
        let mut ends_in_hash = false;
        for level in filter.levels() {
            if level == "#" {
                ends_in_hash = true;
                break;
            }
            way.push((at, level));
            let Some(child) = self.child(at, level) else { return };
            at = child;
        }
        let node = self.node_mut(at);
        if ends_in_hash {
            node.hash = None;
        } else {
            node.here = None;
        }
        while let Some((parent, level)) = way.pop() {
            if !self.nodes.get(at).is_some_and(Node::is_bare) {
                return;
            }
            self.nodes.remove(at);
            self.cut(parent, level);
            at = parent;
        }
    }

    fn cut(&mut self, parent: u32, level: &str) {
        if level == "+" {
            self.node_mut(parent).plus = None;
            return;
        }
        self.node_mut(parent).edges -= 1;
        let Some(known) = self.levels.get_mut(level) else { return };
        self.edges.remove(&(parent, known.id));
        known.edges -= 1;
        if known.edges == 0 {
            self.levels.remove(level);
        }
    }
}

impl<K: Copy + Ord, V> Keys<K, V> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(tree) => tree.is_empty(),
        }
    }

    fn get(&self, key: K) -> Option<&V> {
        match self {
            Self::Few(list) => {
                let at = list.binary_search_by_key(&key, |(key, _)| *key).ok()?;
                Some(&list[at].1)
            }
            Self::Many(tree) => tree.get(&key),
        }
    }

    fn insert(&mut self, key: K, value: V) -> Option<V> {
        let list = match self {
            Self::Few(list) => list,
            Self::Many(tree) => return tree.insert(key, value),
        };
        match list.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => return Some(core::mem::replace(&mut list[at].1, value)),
            Err(at) => {
                // Most filters have one key: room for four would double a filter's memory.
                if list.is_empty() {
                    list.reserve_exact(1);
                }
                list.insert(at, (key, value));
            }
        }
        if list.len() > FEW {
            *self = Self::Many(core::mem::take(list).into_iter().collect());
        }
        None
    }

    fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::Few(list) => {
                let at = list.binary_search_by_key(&key, |(key, _)| *key).ok()?;
                Some(list.remove(at).1)
            }
            Self::Many(tree) => tree.remove(&key),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(tree) => (None, Some(tree)),
        };
        let few = few.into_iter().flatten().map(|(key, value)| (*key, value));
        few.chain(many.into_iter().flatten().map(|(key, value)| (*key, value)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        text.parse().unwrap()
    }

    fn keys<V>(index: &TopicIndex<u8, V>, name: &str) -> Vec<u8> {
        let found = index.lookup(&name.parse().unwrap(), LOOKUP_BUDGET);
        assert!(found.complete);
        found.matches.into_iter().map(|(key, _)| key).collect()
    }

    /// What is left of an index that is empty again.
    fn remains(index: &TopicIndex<u8, u32>) -> (usize, usize, usize, usize, usize) {
        let TopicIndex { filters, slots, nodes, edges, levels, .. } = index;
        (filters.len(), slots.len(), nodes.len(), edges.len(), levels.len())
    }

    #[test]
    fn the_golden_example_of_routes() {
        let mut index = TopicIndex::new();
        for (text, node) in
            [("t/+/x", 1), ("t/+/y", 1), ("t/#", 2), ("t/+/x", 3), ("t/a", 3), ("t/a", 3)]
        {
            index.insert(&filter(text), node, ());
        }
        assert_eq!(keys(&index, "t/a"), [2, 3]);
        assert_eq!(keys(&index, "t/b/x"), [1, 2, 3]);
        assert_eq!(keys(&index, "t/b/y"), [1, 2]);
        assert_eq!(keys(&index, "t"), [2]);
        assert_eq!(keys(&index, "u"), [0_u8; 0]);
        let listed: Vec<String> = index
            .iter()
            .map(|(filter, keys)| {
                let nodes: Vec<_> = keys.map(|(key, ())| format!("node{key}")).collect();
                format!("{filter} -> {}", nodes.join(", "))
            })
            .collect();
        assert_eq!(
            listed,
            ["t/# -> node2", "t/+/x -> node1, node3", "t/+/y -> node1", "t/a -> node3"]
        );
        assert_eq!((index.len(), index.filters()), (5, 4));
    }

    #[test]
    fn a_budget_ends_a_lookup() {
        let mut index = TopicIndex::new();
        // Every filter of 12 levels out of {a, +} with at most 8 wildcards.
        for bits in 0..1_u32 << 12 {
            let level = |at: u32| if bits >> at & 1 == 0 { "a" } else { "+" };
            let levels: Vec<&str> = (0..12).map(level).collect();
            if bits.count_ones() <= 8 {
                index.insert(&filter(&levels.join("/")), 1_u8, bits);
            }
        }
        let name: TopicName = ["a"; 12].join("/").parse().unwrap();
        let all = index.lookup(&name, usize::MAX);
        assert_eq!((all.matches.len(), all.complete), (3_797, true));
        let some = index.lookup(&name, 1_000);
        assert_eq!((some.visited, some.complete), (1_000, false));
        assert!(some.matches.iter().any(|(_, bits)| **bits == 0), "the exact one is there");
    }

    #[test]
    fn many_keys_of_one_filter() {
        let mut index = TopicIndex::new();
        for key in (0..=u8::MAX).rev() {
            assert_eq!(index.insert(&filter("a/+"), key, u32::from(key)), None);
            assert_eq!(index.insert(&filter("a/+"), key, 1), Some(u32::from(key)));
        }
        assert_eq!(keys(&index, "a/b"), (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(index.get(&filter("a/+"), 200), Some(&1));
        for key in 0..=u8::MAX {
            assert_eq!(index.remove(&filter("a/+"), key), Some(1));
        }
        assert_eq!(remains(&index), (0, 0, 1, 0, 0));
    }

    fn some_filter() -> impl Strategy<Value = TopicFilter> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("+")];
        (proptest::collection::vec(level, 0..4), any::<bool>()).prop_filter_map(
            "empty",
            |(mut levels, hash)| {
                if hash {
                    levels.push("#");
                }
                levels.join("/").parse().ok()
            },
        )
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_matcher(
            changes in proptest::collection::vec((some_filter(), 0..4_u8, any::<bool>()), 0..60),
            names in proptest::collection::vec("(a|b|\\$x|c)?(/(a|b|\\$x|)){0,3}", 1..20),
        ) {
            let mut index = TopicIndex::new();
            let mut naive: BTreeMap<(TopicFilter, u8), u32> = BTreeMap::new();
            for (value, (filter, key, put)) in (0..).zip(changes) {
                if put {
                    let before = naive.insert((filter.clone(), key), value);
                    prop_assert_eq!(index.insert(&filter, key, value), before);
                } else {
                    let before = naive.remove(&(filter.clone(), key));
                    prop_assert_eq!(index.remove(&filter, key), before);
                }
                prop_assert_eq!(index.len(), naive.len());
            }
            // The same pairs in another order give the same answers in the same order.
            let mut again = TopicIndex::new();
            for ((filter, key), value) in naive.iter().rev() {
                again.insert(filter, *key, *value);
            }
            for name in names.iter().filter_map(|name| TopicName::parse(name).ok()) {
                let found = index.lookup(&name, LOOKUP_BUDGET);
                prop_assert_eq!(&found, &again.lookup(&name, LOOKUP_BUDGET));
                let found: Vec<(u8, u32)> = found.matches.iter().map(|(k, v)| (*k, **v)).collect();
                prop_assert!(found.is_sorted_by_key(|(key, _)| *key));
                let wanted: BTreeSet<(u8, u32)> = naive
                    .iter()
                    .filter(|((filter, _), _)| filter.matches(&name))
                    .map(|((_, key), value)| (*key, *value))
                    .collect();
                prop_assert_eq!(found.len(), wanted.len(), "each match once");
                prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
            }
            for (filter, key) in naive.keys() {
                index.remove(filter, *key);
            }
            prop_assert_eq!(remains(&index), (0, 0, 1, 0, 0));
        }
    }
}
