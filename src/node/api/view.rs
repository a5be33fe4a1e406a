//! What the API reads of the node beside the replicated state, as a trait, so that it keeps no
//! copy.

use clock::WallTime;
use lorawan::GatewayEui;

use super::wire::{Metric, NodeInfo, NodeState, UnknownGateway};

/// What this node knows of a gateway from its own sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayPath {
    /// When it was last heard.
    pub last_seen_at: WallTime,
    /// Milliseconds since its last datagram.
    pub age_ms: u64,
    /// Milliseconds since its last PULL_DATA; `None`: there is no way down.
    pub pull_age_ms: Option<u64>,
}

/// What the rest of the node knows and does not replicate.
pub trait NodeView {
    /// A gateway's path; `None` if it was not heard since the start.
    fn gateway_path(&self, id: GatewayEui) -> Option<GatewayPath>;
    /// Gateways that nobody registered, a bounded list.
    fn unknown_gateways(&self) -> Vec<UnknownGateway>;
    /// How the node is.
    fn state(&self) -> NodeState;
    /// Who it is and how it does; `state`, `counts` and `events` are filled in by the API.
    fn info(&self) -> NodeInfo;
    /// Its numbers.
    fn metrics(&self) -> Vec<Metric>;
}
