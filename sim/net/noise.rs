//! Bad weather on links: laid over what they are like, and taken off again without a trace.
//!
//! A link's quality is worked out anew from what it is like by itself and every noise that lies on
//! it, so that noises may overlap, nest and be lifted in any order. A noise makes a link worse and
//! never better, and changes how many draws a packet takes no more than the link's quality does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use madsim::task::NodeId;

use super::link::Quality;

/// Noises that lie on the network at once at most.
const NOISES_MAX: usize = 1_000;

/// What makes links worse for a while. The default changes nothing, everywhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noise {
    /// The host that sends; `None` is every host.
    pub from: Option<NodeId>,
    /// The host that receives; `None` is every host. What a host sends itself stays as it is.
    pub to: Option<NodeId>,
    /// At least this share of packets is lost, 0 to 1.
    pub loss: Option<f64>,
    /// At least this share of datagrams arrives twice, 0 to 1.
    pub duplicate: Option<f64>,
    /// At least this share of packets has one bit turned, 0 to 1.
    pub corrupt: Option<f64>,
    /// Added to the latency: its start to the start, its end to the end.
    pub latency: Option<Range<Duration>>,
    /// Bytes per second at most.
    pub bandwidth: Option<u64>,
    /// Largest datagram in bytes, if the link's own limit is not lower.
    pub mtu: Option<usize>,
}

impl Noise {
    fn lies_on(&self, (from, to): (NodeId, NodeId)) -> bool {
        from != to
            && self.from.is_none_or(|host| host == from)
            && self.to.is_none_or(|host| host == to)
    }

    fn worsen(&self, quality: &mut Quality) {
        let shares = [
            (&mut quality.loss, self.loss),
            (&mut quality.duplicate, self.duplicate),
            (&mut quality.corrupt, self.corrupt),
        ];
        for (share, least) in shares {
            *share = share.max(least.unwrap_or(0.0));
        }
        if let Some(added) = &self.latency {
            let latency = &mut quality.latency;
            *latency = latency.start + added.start..latency.end + added.end.max(added.start);
        }
        quality.bandwidth = quality.bandwidth.into_iter().chain(self.bandwidth).min();
        quality.mtu = quality.mtu.min(self.mtu.unwrap_or(usize::MAX));
    }
}

/// What [`super::Net::lift`] takes off again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoiseId(u64);

/// Every noise that lies on the network.
#[derive(Debug, Default)]
pub(super) struct Noises {
    laid: BTreeMap<NoiseId, Noise>,
    numbers: u64,
}

impl Noises {
    pub(super) fn lay(&mut self, noise: Noise) -> NoiseId {
        assert!(self.laid.len() < NOISES_MAX, "more than {NOISES_MAX} noises at once");
        self.numbers += 1;
        let id = NoiseId(self.numbers);
        self.laid.insert(id, noise);
        id
    }

    pub(super) fn lift(&mut self, id: NoiseId) -> Option<Noise> {
        self.laid.remove(&id)
    }

    /// What a link is like under everything that lies on it.
    pub(super) fn over(&self, link: (NodeId, NodeId), base: &Quality) -> Quality {
        let mut quality = base.clone();
        let lying = self.laid.values().filter(|noise| noise.lies_on(link));
        lying.for_each(|noise| noise.worsen(&mut quality));
        quality
    }
}
