//! Stands in for what the machine room is about to learn; goes when it has.
#![allow(missing_docs, unused_variables)]
use crate::clocks::Clocks;
use crate::disk::Disk;
use crate::net::Net;
use madsim::task::NodeId;
use std::time::Duration;
pub(super) struct Noise {
    pub(super) from: Option<NodeId>,
    pub(super) to: Option<NodeId>,
    pub(super) loss: Option<f64>,
    pub(super) duplicate: Option<f64>,
    pub(super) corrupt: Option<f64>,
    pub(super) latency: Option<std::ops::Range<Duration>>,
    pub(super) bandwidth: Option<u64>,
    pub(super) mtu: Option<usize>,
}
#[derive(Clone, Copy)]
pub(super) struct NoiseId;
pub(super) trait PendingNet {
    fn stall(&self, a: NodeId, b: NodeId) {}
    fn unstall(&self, a: NodeId, b: NodeId) {}
    fn reset_streams(&self, a: NodeId) {}
    fn lay(&self, noise: Noise) -> NoiseId {
        NoiseId
    }
    fn lift(&self, id: NoiseId) {}
}
impl PendingNet for Net {}
pub(super) trait PendingDisk {
    fn rot(&self, bits: u32, older: Duration) -> u32 {
        0
    }
    fn scrub(&self) {}
    fn misdirect_next_write(&self) {}
    fn fill_at_write(&self, n: u64, writes: u32) {}
    fn slow_by(&self, factor: u32) {}
    fn wipe(&self) {}
}
impl PendingDisk for Disk {}
pub(super) trait PendingClocks {
    fn freeze(&self, id: NodeId) {}
    fn thaw(&self, id: NodeId) {}
}
impl PendingClocks for Clocks {}
