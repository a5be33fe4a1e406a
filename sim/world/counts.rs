//! What a run has brought about, in numbers.

use serde::{Deserialize, Serialize};

/// What a run has brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The scenario's devices that have joined, each counted once.
    pub joined: u32,
    /// Data frames sent, repetitions not counted.
    pub uplinks: u32,
    /// Transmissions of data frames, repetitions counted.
    pub transmissions: u32,
    /// Uplinks in the event log.
    pub accepted: u32,
    /// Uplinks delivered to clients, each counted once per client.
    pub delivered: u32,
    /// Confirmed uplinks whose acknowledgement the device heard.
    pub acknowledged: u32,
    /// Application downlinks queued.
    pub queued: u32,
    /// Application downlinks that reached their device.
    pub downlinks: u32,
    /// Restarts of nodes.
    pub restarts: u32,
    /// Calls of the API that were answered.
    pub calls: u32,
    /// Nodes that have left or were removed, and have set their data aside.
    #[serde(default)]
    pub departed: u32,
    /// Nodes that have become members again after that.
    #[serde(default)]
    pub readmitted: u32,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, more) in [
            (&mut self.joined, other.joined),
            (&mut self.uplinks, other.uplinks),
            (&mut self.transmissions, other.transmissions),
            (&mut self.accepted, other.accepted),
            (&mut self.delivered, other.delivered),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.queued, other.queued),
            (&mut self.downlinks, other.downlinks),
            (&mut self.restarts, other.restarts),
            (&mut self.calls, other.calls),
            (&mut self.departed, other.departed),
            (&mut self.readmitted, other.readmitted),
        ] {
            *mine = mine.saturating_add(more);
        }
    }
}
