//! The node itself. Ours alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It is no member of a cluster yet: it waits for others.
    Forming,
    /// Not everything of its log is applied yet.
    #[default]
    Starting,
    /// Decides and serves.
    Ready,
    /// Serves, but the log takes no writes (no quorum).
    NoQuorum,
    /// Serves, but the disk has less than its reserve.
    DiskFull,
    /// Told to serve no more gateways.
    Draining,
    /// Going down.
    Stopping,
}

/// What a load balancer asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Health {
    /// Whether the node takes everything.
    pub ready: bool,
    /// How it is.
    pub state: NodeState,
    /// Its load: the share of the last seconds, in percent, in which its loop was at work.
    pub load: u32,
}

/// Where the node listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Listen {
    /// Gateways, UDP.
    pub gateways: Vec<String>,
    /// MQTT, TCP.
    pub mqtt: String,
    /// HTTP, TCP.
    pub http: String,
    /// The MQTT port alone.
    pub mqtt_port: u16,
}

/// Who the node is and how it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// Version of the binary.
    pub version: String,
    /// Raft id.
    pub node_id: u64,
    /// UUID of the cluster.
    pub cluster_id: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// How it is.
    pub state: NodeState,
    /// Seconds since it started.
    pub uptime: u64,
    /// Region of new device profiles.
    pub region: String,
    /// Where it listens.
    pub listen: Listen,
    /// Data folder.
    pub data: String,
    /// Objects by kind: tenants, applications, devices, ...
    pub counts: BTreeMap<String, u64>,
    /// Index of the last entry of the log applied.
    pub applied: u64,
    /// First and next sequence of the event log.
    pub events: (u64, u64),
}

/// What a metric does over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One family of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `tern_...`; a counter ends in `_total`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it does over time.
    pub kind: MetricKind,
    /// Labels and value.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}
