//! What a fault does to links: noise laid over them, and nodes kept apart, for good or on and off.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use madsim::task::NodeId;
use scenario::{Fault, Reach};

use super::World;
use crate::clocks::virtual_now;
use crate::net::{Net, Noise, NoiseId};
use crate::partition;
use crate::runtime::{held, sleep_virtual_until};

/// Stands for each node, at the end of a noisy link.
const NODES: &str = "nodes";

/// What a fault has done to links, to be undone.
#[derive(Debug, Default)]
pub(super) struct Laid {
    noises: Vec<NoiseId>,
    /// Links of a partition, cut unless it is open.
    links: BTreeSet<(NodeId, NodeId)>,
    /// A partition that comes and goes is gone just now.
    open: bool,
}

impl Laid {
    /// Undoes it.
    pub(super) fn lift(mut self, net: &Net) {
        self.noises.drain(..).for_each(|id| net.lift(id));
        self.set_open(net, true);
    }

    /// Lets everything pass, or nothing.
    fn set_open(&mut self, net: &Net, open: bool) {
        if std::mem::replace(&mut self.open, open) == open {
            return;
        }
        for (from, to) in &self.links {
            if open { net.mend(*from, *to) } else { net.cut(*from, *to) }
        }
    }

    /// Undoes it among some hosts, and leaves the rest as it is for ever, cut. Returns whether
    /// nothing is left.
    pub(super) fn lift_among(mut self, net: &Net, hosts: &BTreeSet<NodeId>) -> bool {
        self.set_open(net, false);
        let inside = |link: &&(NodeId, NodeId)| hosts.contains(&link.0) && hosts.contains(&link.1);
        let mended = self.links.iter().filter(inside);
        let mended = mended.map(|(from, to)| net.mend(*from, *to)).count();
        mended == self.links.len()
    }
}

impl World {
    /// Lays noise over the links that a fault names.
    pub(super) fn lay_noise(&self, fault: &Fault) -> Laid {
        let noise = |from, to| Noise {
            from,
            to,
            loss: fault.loss.map(|share| share.0),
            duplicate: fault.duplicate.map(|share| share.0),
            corrupt: fault.corrupt.map(|share| share.0),
            latency: fault.latency.as_ref().map(|range| range.0.clone()),
            bandwidth: fault.bandwidth,
            mtu: fault.mtu.map(|mtu| mtu as usize),
        };
        let (from, to) = (self.ends(fault.from.as_deref()), self.ends(fault.to.as_deref()));
        let mut noises = Vec::new();
        for from in &from {
            for to in &to {
                // What a host sends itself is never noisy, but for it there would be one too many.
                if from.is_none() || from != to {
                    noises.push(self.net.lay(noise(*from, *to)));
                }
            }
        }
        if fault.both != Some(false) && fault.from != fault.to {
            for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
                if from != to {
                    noises.push(self.net.lay(noise(*to, *from)));
                }
            }
        }
        Laid { noises, ..Laid::default() }
    }

    /// The hosts at one end of noisy links; `None` stands for all.
    fn ends(&self, name: Option<&str>) -> Vec<Option<NodeId>> {
        match name {
            Some(NODES) => self.machines.iter().map(|machine| Some(machine.id())).collect(),
            Some(name) => vec![self.hosts.get(name).copied()],
            None => vec![None],
        }
    }

    /// Keeps nodes apart, as a fault says.
    pub(super) fn part(&self, fault: &Fault) -> Laid {
        let host = |name: &String| self.hosts.get(name).copied();
        let links = self.links_of(fault);
        let links: BTreeSet<_> =
            links.iter().filter_map(|(from, to)| Some((host(from)?, host(to)?))).collect();
        let mut laid = Laid { links, open: true, ..Laid::default() };
        laid.set_open(&self.net, false);
        laid
    }

    /// The links that a partition cuts, by name.
    fn links_of(&self, fault: &Fault) -> BTreeSet<partition::Link> {
        let nodes = self.node_names();
        let between = partition::cuts(fault, &nodes);
        let sites = self.gateways.iter().enumerate().map(|(place, (name, _))| (place, name));
        let clients = self.clients.iter().enumerate().map(|(place, (name, _))| (place, name));
        let sites = sites.chain(clients);
        match fault.reach.unwrap_or_default() {
            Reach::Nodes => between,
            Reach::Sites => {
                let sites: Vec<_> =
                    sites.map(|(place, name)| (name, &nodes[place % nodes.len()])).collect();
                partition::with_sites(between, &sites)
            }
            Reach::Everything => {
                let others: Vec<&String> = sites.map(|(_, name)| name).collect();
                partition::with_everything(fault, between, &others)
            }
        }
    }

    /// Lets a partition come and go until `end`, or until it is no longer in force.
    pub(super) async fn flap(
        &self,
        number: usize,
        fault: &Fault,
        phase: &Range<Duration>,
        end: Duration,
    ) {
        let name = fault.name.as_deref().unwrap_or_default();
        let mut dice = self.seed.stream(&format!("flap {name}"));
        loop {
            let until = virtual_now() + dice.between(phase);
            sleep_virtual_until(until.min(end)).await;
            if until >= end || !held(&self.active).contains_key(&number) {
                return;
            }
            if let Some(laid) = held(&self.laid).get_mut(&number) {
                let open = !laid.open;
                laid.set_open(&self.net, open);
                self.record.note("world", if open { "the partition opens" } else { "it closes" });
            }
        }
    }
}
