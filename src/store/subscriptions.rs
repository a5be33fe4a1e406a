//! Which persistent sessions want a topic: a trie of filter levels laid out in structure-sharing
//! maps, so that a clone of the state costs nothing. Derived from the sessions; node numbers may
//! differ between nodes, what is found does not.

use std::collections::BTreeMap;

use imbl::OrdMap;
use mqtt::{TopicFilter, TopicName};

use crate::MqttSubscription;

/// A node of the trie; 0 is the root.
type Node = u64;

/// What a session wants of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// 0..=2
    pub(crate) qos: u8,
    /// Not its own messages.
    pub(crate) no_local: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriptions {
    children: OrdMap<(Node, String), Node>,
    /// Parent, level, and how many children and subscribers hold the node.
    nodes: OrdMap<Node, (Node, String, u32)>,
    subscribers: OrdMap<(Node, String), Wanted>,
    last: Node,
}

impl Subscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds or replaces the subscription of `client_id`.
    pub(crate) fn add(&mut self, client_id: &str, filter: &TopicFilter, wanted: &MqttSubscription) {
        let mut node = 0;
        for level in filter.levels() {
            let key = (node, level.to_owned());
            node = match self.children.get(&key) {
                Some(child) => *child,
                None => {
                    self.last += 1;
                    self.hold(node);
                    self.nodes.insert(self.last, (node, level.to_owned(), 0));
                    self.children.insert(key, self.last);
                    self.last
                }
            };
        }
        let wanted = Wanted { qos: wanted.qos, no_local: wanted.no_local };
        if self.subscribers.insert((node, client_id.to_owned()), wanted).is_none() {
            self.hold(node);
        }
    }

    /// Removes the subscription of `client_id`, if there is one.
    pub(crate) fn remove(&mut self, client_id: &str, filter: &TopicFilter) {
        let mut node = 0;
        for level in filter.levels() {
            let Some(child) = self.children.get(&(node, level.to_owned())) else { return };
            node = *child;
        }
        if self.subscribers.remove(&(node, client_id.to_owned())).is_some() {
            self.release(node);
        }
    }

    fn hold(&mut self, node: Node) {
        if let Some((_, _, holders)) = self.nodes.get_mut(&node) {
            *holders += 1;
        }
    }

    fn release(&mut self, mut node: Node) {
        while let Some((parent, level, holders)) = self.nodes.get_mut(&node) {
            *holders -= 1;
            if *holders > 0 {
                return;
            }
            let key = (*parent, level.clone());
            self.nodes.remove(&node);
            self.children.remove(&key);
            node = key.0;
        }
    }

    /// The sessions that want `topic`, each once with the highest QoS of its matching filters.
    ///
    /// * `publisher`: left out where it did not want its own messages.
    pub(crate) fn matching(&self, topic: &TopicName, publisher: &str) -> BTreeMap<String, u8> {
        let levels: Vec<&str> = topic.levels().collect();
        let mut found = BTreeMap::new();
        let mut open = vec![(0, 0)];
        while let Some((node, depth)) = open.pop() {
            let hidden = depth == 0 && topic.is_system();
            let child = |level: &str| self.children.get(&(node, level.to_owned())).copied();
            if let Some(rest) = child("#").filter(|_| !hidden) {
                self.collect(rest, publisher, &mut found);
            }
            let Some(level) = levels.get(depth) else {
                self.collect(node, publisher, &mut found);
                continue;
            };
            let one = child("+").filter(|_| !hidden);
            open.extend(child(level).into_iter().chain(one).map(|next| (next, depth + 1)));
        }
        found
    }

    fn collect(&self, node: Node, publisher: &str, found: &mut BTreeMap<String, u8>) {
        let all = self.subscribers.range((node, String::new())..);
        for ((_, client), wanted) in all.take_while(|((of, _), _)| *of == node) {
            if wanted.no_local && client == publisher {
                continue;
            }
            let qos = found.entry(client.clone()).or_insert(0);
            *qos = (*qos).max(wanted.qos);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(filter: &str, qos: u8, no_local: bool) -> MqttSubscription {
        MqttSubscription {
            filter: filter.into(),
            qos,
            no_local,
            retain_as_published: false,
            retain_handling: 0,
            identifier: None,
        }
    }

    fn add(index: &mut Subscriptions, client: &str, filter: &str, qos: u8) {
        index.add(client, &filter.parse().unwrap(), &wish(filter, qos, false));
    }

    fn found(index: &Subscriptions, topic: &str) -> Vec<(String, u8)> {
        index.matching(&topic.parse().unwrap(), "").into_iter().collect()
    }

    #[test]
    fn the_highest_qos_counts_once_and_own_messages_may_be_left_out() {
        let mut index = Subscriptions::default();
        add(&mut index, "a", "x/+", 1);
        add(&mut index, "a", "x/#", 0);
        add(&mut index, "b", "#", 2);
        assert_eq!(found(&index, "x/y"), [("a".into(), 1), ("b".into(), 2)]);
        assert_eq!(found(&index, "x"), [("a".into(), 0), ("b".into(), 2)]);
        assert_eq!(found(&index, "$SYS/x"), []);
        let own = "own".parse().unwrap();
        index.add("c", &own, &wish("own", 1, true));
        assert_eq!(index.matching(&own.as_str().parse().unwrap(), "c").get("c"), None);
        assert_eq!(index.matching(&own.as_str().parse().unwrap(), "d").get("c"), Some(&1));
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut index = Subscriptions::default();
        let filters = ["a/b/c", "a/b", "a/+/c", "#", "a/b/#", "/"];
        for (qos, filter) in filters.iter().enumerate() {
            add(&mut index, "one", filter, u8::try_from(qos % 3).unwrap());
            add(&mut index, "two", filter, 1);
        }
        for filter in filters {
            index.remove("one", &filter.parse().unwrap());
            index.remove("one", &filter.parse().unwrap());
            index.remove("two", &filter.parse().unwrap());
        }
        assert!(index.is_empty() && index.nodes.is_empty() && index.children.is_empty());
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_each_filter_matches(
            filters in prop::collection::btree_set("(a|b|\\+)(/(a|b|\\+)){0,3}(/#)?", 0..12),
            gone in prop::collection::vec(any::<bool>(), 12),
            topic in "(a|b|c)(/(a|b|c)){0,3}",
        ) {
            let mut index = Subscriptions::default();
            for filter in &filters {
                add(&mut index, filter, filter, 1);
            }
            let mut left = Vec::new();
            for (filter, gone) in filters.iter().zip(gone) {
                let parsed: TopicFilter = filter.parse().unwrap();
                if gone {
                    index.remove(filter, &parsed);
                } else if parsed.matches(&topic.parse().unwrap()) {
                    left.push((filter.clone(), 1));
                }
            }
            prop_assert_eq!(found(&index, &topic), left);
        }
    }
}
