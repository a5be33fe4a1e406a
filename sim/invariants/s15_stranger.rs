//! S15, strangers: whoever does not know the cookie gets not one byte where nodes listen for each
//! other, whatever he says: nonsense, half a handshake, too much of one, or what he has overheard
//! of two nodes, with a bit turned. Whoever repeats to the bit how another began is answered as
//! that one was, with a handshake that he cannot go on with, and not a byte more. And no node
//! takes him for a member: members are those that machines have started as.
//!
//! Source: requirements, part G, S15. Somebody knocks in every run of several nodes.

use std::collections::BTreeSet;

use store::Command;

use super::{Invariant, Violation, violation};
use crate::oracle::{Fact, Seen};

/// A node's part of the handshake, and its length in front.
const HANDSHAKE_LEN: usize = 2 + 96;

/// Watches S15.
#[derive(Debug, Default)]
pub struct Stranger {
    knocks: u64,
    /// Names of nodes that knock.
    nodes: BTreeSet<String>,
}

impl Invariant for Stranger {
    fn name(&self) -> &'static str {
        "S15"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "three facts concern it")]
        match &seen.fact {
            Fact::Started { node } => {
                self.nodes.insert(node.clone());
            }
            Fact::Knocked { node, how, genuine, answered } => {
                self.knocks += 1;
                if *answered > if *genuine { HANDSHAKE_LEN } else { 0 } {
                    let text = format!("{node} answers {answered} bytes to {how}");
                    return vec![violation("S15", seen, text)];
                }
            }
            Fact::Logged { node, index, proposals } => {
                let admitted = proposals.iter().filter_map(|one| {
                    let Command::AdmitMember { plate, .. } = &one.command else { return None };
                    Some(plate.name.as_str())
                });
                let known = |name: &str| {
                    self.nodes.contains(name.split_once('@').map_or(name, |(host, _)| host))
                };
                let strange = admitted.filter(|name| !known(name));
                let tell = |name| format!("entry {index} of {node} admits {name}, who is no node");
                return strange.map(|name| violation("S15", seen, tell(name))).collect();
            }
            _ => {}
        }
        Vec::new()
    }

    fn closing(&self) -> Option<String> {
        Some(format!("{} knocks without an answer", self.knocks))
    }
}

#[cfg(test)]
mod tests {
    use store::Nameplate;

    use super::super::history::{judge, logged};
    use super::*;

    fn knocked(genuine: bool, answered: usize) -> Fact {
        Fact::Knocked { node: "n1".to_owned(), how: "words", genuine, answered }
    }

    fn admits(name: &str) -> Fact {
        let plate = Nameplate { key: [1; 32], name: name.to_owned(), address: String::new() };
        logged(1, [Command::AdmitMember { plate, feature_level: 1, replaces: None }])
    }

    #[test]
    fn silence_and_a_machine_that_joins_pass_an_answer_and_a_stranger_do_not() {
        let started = Fact::Started { node: "n4".to_owned() };
        let fine = [started.clone(), knocked(false, 0), knocked(true, 98), admits("n4@10.0.0.4")];
        assert!(judge(&mut Stranger::default(), fine).is_empty());
        assert_eq!(judge(&mut Stranger::default(), [knocked(true, 99)]).len(), 1);
        let strange = [knocked(false, 96), started, admits("n5@10.0.0.5")];
        let found = judge(&mut Stranger::default(), strange);
        assert!(found.len() == 2 && found[0].contains("96 bytes") && found[1].contains("n5"));
    }
}
