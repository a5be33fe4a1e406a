//! S21, bounded: the simulation stays within its memory; at rest a node has no more tasks than it
//! had when everything was set up, and remembers no more strangers than it says: nothing is leaked.
//!
//! Source: requirements, part G, S21. Fed with samples, not with facts: the executor counts the
//! tasks of each host, the operating system the memory of the process, in which all nodes are
//! simulated, the node the gateways that nobody has registered. A few tasks come and go with what a
//! node is doing just then.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway::semtech::UNREGISTERED_MAX;

use super::Violation;

/// Tasks that a node may have under way at rest beside those it had at the beginning: a commit, a
/// proposal that is followed, a connection being closed.
const SLACK: usize = 8;

/// Tasks that serve one client: connection, reader, writer.
const EACH_CLIENT: usize = 3;

/// Watches S21.
#[derive(Clone, Debug, Default)]
pub struct Bounded {
    /// Clients that may turn to another node, with all their tasks.
    roaming: usize,
    memory_max_mib: u64,
    memory_mib: u64,
    /// Tasks when everything was set up: clients connected, nothing under way.
    begun: BTreeMap<String, usize>,
    rested: BTreeMap<String, usize>,
}

impl Bounded {
    /// * `memory_max_mib`: the scenario's `bounds.memory_mib`.
    /// * `roaming`: clients that may be at another node at the end than at the beginning.
    pub fn new(memory_max_mib: u64, roaming: usize) -> Self {
        Self { memory_max_mib, roaming, ..Self::default() }
    }

    /// A node is set up and has so many tasks.
    pub fn set_up(&mut self, node: &str, tasks: usize) {
        self.begun.insert(node.to_owned(), tasks);
    }

    /// A node is at rest, its clients connected as after the setup, and has so many tasks.
    pub fn at_rest(&mut self, at: Duration, node: &str, tasks: usize) -> Vec<Violation> {
        self.rested.insert(node.to_owned(), tasks);
        // Whoever leads has tasks for each follower, and somebody else may lead by now.
        let begun = self.begun.values().copied().max().unwrap_or(0);
        let text =
            format!("{node} rests with {tasks} tasks, and the most to begin with was {begun}");
        let leaked = tasks > begun + SLACK + EACH_CLIENT * self.roaming;
        leaked.then_some(Violation { invariant: "S21", at, text }).into_iter().collect()
    }

    /// A node remembers so many gateways that nobody has registered; it has one gateway port.
    pub fn strangers(&self, at: Duration, node: &str, gateways: usize) -> Option<Violation> {
        let text = format!(
            "{node} remembers {gateways} unknown gateways, and should forget all but \
             {UNREGISTERED_MAX}"
        );
        let leaked = gateways > UNREGISTERED_MAX;
        leaked.then_some(Violation { invariant: "S21", at, text })
    }

    /// The process has taken so much memory at most.
    pub fn memory(&mut self, at: Duration, peak_mib: u64) -> Vec<Violation> {
        let first = self.memory_mib <= self.memory_max_mib;
        self.memory_mib = self.memory_mib.max(peak_mib);
        let text = format!("{peak_mib} MiB of memory, {} are allowed", self.memory_max_mib);
        let beyond = first && peak_mib > self.memory_max_mib;
        beyond.then_some(Violation { invariant: "S21", at, text }).into_iter().collect()
    }

    /// How many tasks each node began and rested with. Without the memory: what the machine says
    /// of it differs from run to run.
    pub fn closing(&self) -> String {
        let tasks = self.begun.iter().map(|(node, begun)| {
            let rested = self.rested.get(node).map_or_else(|| "?".to_owned(), usize::to_string);
            format!("{node} began with {begun} tasks and rests with {rested}")
        });
        tasks.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(9);

    #[test]
    fn what_stays_within_its_bounds_passes() {
        let mut bounded = Bounded::new(100, 0);
        bounded.set_up("n1", 20);
        assert!(bounded.at_rest(AT, "n1", 20 + SLACK).is_empty());
        assert!(bounded.memory(AT, 100).is_empty());
        assert!(bounded.strangers(AT, "n1", 256).is_none());
        assert_eq!(bounded.closing(), "n1 began with 20 tasks and rests with 28");
    }

    #[test]
    fn leaked_tasks_too_much_memory_and_too_many_strangers_are_caught() {
        let mut bounded = Bounded::new(100, 0);
        bounded.set_up("n1", 20);
        assert_eq!(bounded.at_rest(AT, "n1", 21 + SLACK).len(), 1);
        assert_eq!(bounded.memory(AT, 101).len(), 1);
        assert!(bounded.strangers(AT, "n1", 257).is_some());
        assert!(bounded.memory(AT, 102).is_empty(), "once");
    }

    #[test]
    fn roles_and_clients_may_have_moved() {
        let mut bounded = Bounded::new(100, 2);
        bounded.set_up("n1", 30);
        bounded.set_up("n2", 20);
        let most = 30 + SLACK + 2 * EACH_CLIENT;
        assert!(bounded.at_rest(AT, "n2", most).is_empty());
        assert_eq!(bounded.at_rest(AT, "n2", most + 1).len(), 1);
    }
}
