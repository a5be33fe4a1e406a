//! The other nodes as the node's machine sees them: who can be reached and serves, which gateways
//! each of them reaches, and what is said to them.
//!
//! Nothing here is replicated by the log: each node is the only writer of what it tells of itself.

mod message;
mod paths;

use std::collections::{BTreeMap, VecDeque};

use clock::{Duration, Instant};
use lorawan::{DevEui, GatewayEui};
use mac::NodeId;
use sha2::{Digest as _, Sha256};

pub(crate) use message::{HandedOver, PathEntry, PeerMessage, SendOrder};
pub(crate) use paths::{Ages, Paths};

/// How one other node stands, as far as this one knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Neighbour {
    /// It answers over the link to it.
    within_reach: bool,
    /// It has said that it serves.
    serving: bool,
    /// About how long a message takes.
    transit: Duration,
}

/// All other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    own: NodeId,
    neighbours: BTreeMap<NodeId, Neighbour>,
    pub(crate) paths: Paths,
    outbox: VecDeque<(NodeId, PeerMessage)>,
    serving: bool,
}

impl Peers {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            neighbours: BTreeMap::new(),
            paths: Paths::default(),
            outbox: VecDeque::new(),
            serving: false,
        }
    }

    /// This node.
    pub(crate) fn own(&self) -> NodeId {
        self.own
    }

    /// The next message, and to whom.
    pub(crate) fn poll_message(&mut self) -> Option<(NodeId, PeerMessage)> {
        self.outbox.pop_front()
    }

    pub(crate) fn tell(&mut self, to: NodeId, message: PeerMessage) {
        self.outbox.push_back((to, message));
    }

    /// The nodes whose link is up.
    pub(crate) fn within_reach(&self) -> Vec<NodeId> {
        let up = self.neighbours.iter().filter(|(_, one)| one.within_reach);
        up.map(|(node, _)| *node).collect()
    }

    /// Tells all that can be reached.
    pub(crate) fn tell_all(&mut self, message: &PeerMessage) {
        for node in self.within_reach() {
            self.tell(node, message.clone());
        }
    }

    /// The link to another node has come up or gone down.
    ///
    /// * Returns whether that is new.
    pub(crate) fn handle_line(&mut self, node: NodeId, up: bool, transit: Duration) -> bool {
        let neighbour = self.neighbours.entry(node).or_default();
        let changed = neighbour.within_reach != up;
        neighbour.within_reach = up;
        neighbour.transit = transit;
        if !up {
            neighbour.serving = false;
        }
        if changed && up {
            self.tell(node, PeerMessage::Standing { serving: self.serving, asks: true });
        }
        changed
    }

    /// Another node says whether it serves.
    pub(crate) fn handle_standing(&mut self, node: NodeId, serving: bool) {
        self.neighbours.entry(node).or_default().serving = serving;
    }

    /// Another node asks how this one is.
    pub(crate) fn tell_standing(&mut self, node: NodeId) {
        self.tell(node, PeerMessage::Standing { serving: self.serving, asks: false });
    }

    /// This node serves from now on, or no more.
    pub(crate) fn set_serving(&mut self, serving: bool) {
        if self.serving != serving {
            self.serving = serving;
            self.tell_all(&PeerMessage::Standing { serving, asks: false });
        }
    }

    /// Forgets whoever is no member any more.
    pub(crate) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        let gone: Vec<NodeId> =
            self.neighbours.keys().copied().filter(|node| !is_member(*node)).collect();
        for node in gone {
            self.neighbours.remove(&node);
            self.paths.forget(node);
        }
    }

    /// Whether a frame handed to this node is in good hands.
    pub(crate) fn serves(&self, node: NodeId) -> bool {
        self.neighbours.get(&node).is_some_and(|one| one.within_reach && one.serving)
    }

    /// Whether its link is up.
    pub(crate) fn is_within_reach(&self, node: NodeId) -> bool {
        self.neighbours.get(&node).is_some_and(|one| one.within_reach)
    }

    /// About how long a message from it was on its way.
    pub(crate) fn transit(&self, node: NodeId) -> Duration {
        self.neighbours.get(&node).map_or(Duration::ZERO, |one| one.transit)
    }

    /// The first node for a device that nobody is the home of, by rendezvous hash over those that
    /// serve, this node included.
    pub(crate) fn rendezvous(&self, dev_eui: DevEui) -> NodeId {
        let others = self.neighbours.keys().copied().filter(|node| self.serves(*node));
        let weight = |node: &NodeId| {
            let mut hasher = Sha256::new();
            hasher.update(dev_eui.to_be_bytes());
            hasher.update(node.0.to_be_bytes());
            let digest: [u8; 32] = hasher.finalize().into();
            (digest, *node)
        };
        others.chain(self.serving.then_some(self.own)).max_by_key(weight).unwrap_or(self.own)
    }

    /// The freshest path to a gateway over another node.
    pub(crate) fn path(&self, now: Instant, gateway: GatewayEui) -> Option<(NodeId, Duration)> {
        self.paths.freshest(now, gateway, |node| self.is_within_reach(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_finds_the_same_home_and_devices_spread_over_all() {
        let ids = [1, 2, 1_007].map(NodeId);
        let nodes = ids.map(|own| {
            let mut peers = Peers::new(own);
            peers.set_serving(true);
            for other in ids.into_iter().filter(|other| *other != own) {
                peers.handle_line(other, true, Duration::ZERO);
                peers.handle_standing(other, true);
            }
            peers
        });
        let mut homes = BTreeMap::new();
        for number in 0..300_u64 {
            let device = DevEui::from_be_bytes(number.to_be_bytes());
            let home = nodes[0].rendezvous(device);
            assert!(nodes.iter().all(|node| node.rendezvous(device) == home));
            *homes.entry(home).or_insert(0) += 1;
        }
        assert!(homes.len() == 3 && homes.values().all(|count| *count > 60), "{homes:?}");
    }

    #[test]
    fn a_lost_node_keeps_no_frame_and_moves_no_other() {
        let mut peers = Peers::new(NodeId(1));
        peers.set_serving(true);
        for other in [2, 3].map(NodeId) {
            peers.handle_line(other, true, Duration::ZERO);
            peers.handle_standing(other, true);
        }
        let devices = (0..100_u64).map(|number| DevEui::from_be_bytes(number.to_be_bytes()));
        let devices: Vec<DevEui> = devices.collect();
        let before: Vec<NodeId> = devices.iter().map(|one| peers.rendezvous(*one)).collect();
        assert!(peers.handle_line(NodeId(3), false, Duration::ZERO));
        for (device, home) in devices.iter().zip(before) {
            let now = peers.rendezvous(*device);
            assert!(now != NodeId(3) && (home == NodeId(3) || now == home));
        }
    }
}
