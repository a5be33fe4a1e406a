//! The tables of a scenario that set the stage, each with its defaults.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Share, Span, SpanRange};

/// `[nodes]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// How many, named `n1`, `n2`, ... (1 to 9).
    pub count: u32,
    /// The region, as `tern serve` takes it.
    pub region: String,
    /// Deduplication window.
    pub deduplication: Span,
    /// Entries of the log between two snapshots.
    pub snapshot_every: u64,
}

impl Default for Nodes {
    fn default() -> Self {
        let deduplication = Span(Duration::from_millis(200));
        Self { count: 1, region: "EU868".to_owned(), deduplication, snapshot_every: 150 }
    }
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Latency, drawn per packet; a wide range reorders datagrams.
    pub latency: SpanRange,
    /// Share of packets lost.
    pub loss: Share,
    /// Share of datagrams that arrive twice.
    pub duplicate: Share,
    /// Share of packets with a bit turned.
    pub corrupt: Share,
    /// Bytes per second of each link; no limit without it.
    pub bandwidth: Option<u64>,
    /// Largest datagram in bytes; a larger one is lost.
    pub mtu: Option<u32>,
    /// Datagrams under way on a link at most; what comes on top is lost.
    pub queue: u32,
}

impl Default for Network {
    fn default() -> Self {
        let latency = SpanRange(Duration::from_micros(100)..Duration::from_micros(900));
        let none = Share(0.0);
        let (loss, duplicate, corrupt) = (none, none, none);
        Self { latency, loss, duplicate, corrupt, bandwidth: None, mtu: None, queue: 4_096 }
    }
}

/// `[[link]]`: how a single link differs from `[network]`; keys left out are as there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The host that sends: `n1`, `gw1`, `app1`.
    pub from: String,
    /// The host that receives.
    pub to: String,
    /// The way back too (default true).
    pub both: Option<bool>,
    /// Latency, drawn per packet.
    pub latency: Option<SpanRange>,
    /// Share of packets lost.
    pub loss: Option<Share>,
    /// Share of datagrams that arrive twice.
    pub duplicate: Option<Share>,
    /// Share of packets with a bit turned.
    pub corrupt: Option<Share>,
    /// Bytes per second.
    pub bandwidth: Option<u64>,
    /// Largest datagram in bytes.
    pub mtu: Option<u32>,
    /// Datagrams under way at most.
    pub queue: Option<u32>,
}

/// `[disk]`: how long an fsync takes. They queue one behind the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// Time of most fsyncs.
    pub fsync: SpanRange,
    /// Share of slow ones.
    pub slow_share: Share,
    /// Time of those.
    pub slow: SpanRange,
    /// Share of stalls.
    pub stall_share: Share,
    /// Time of those.
    pub stall: SpanRange,
}

impl Default for Disk {
    /// An SD card on a bad day.
    fn default() -> Self {
        Self {
            fsync: SpanRange::ms(1, 6),
            slow_share: Share(0.08),
            slow: SpanRange::ms(10, 60),
            stall_share: Share(0.01),
            stall: SpanRange::ms(100, 900),
        }
    }
}

/// `[gateways]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gateways {
    /// How many, named `gw1`, `gw2`, ... (1 to 100).
    pub count: u32,
    /// Share of the frames in reach that a gateway hears.
    pub hears: Share,
    /// Further gateways that wrongly have the EUI of `gw1` (0 to 8); they take the next names.
    pub twins: u32,
    /// Share of the heard frames that a gateway forwards a second time, late.
    pub late_share: Share,
    /// How late (2 minutes at most).
    pub late_by: SpanRange,
    /// Share of TX_ACK that get lost.
    pub tx_ack_lost: Share,
    /// Share of downlinks that a gateway refuses (COLLISION_PACKET).
    pub tx_refused: Share,
    /// By how much every TX_ACK comes late.
    pub tx_ack_late: Span,
    /// When the 32-bit counter (`tmst`) of each gateway wraps, from the start of the run; at a
    /// moment of its own within 71 minutes without it.
    pub counter_wraps: Option<SpanRange>,
    /// PUSH goes to one node and PULL to another from the beginning, as drawn.
    pub spread: bool,
    /// Pause after which one socket of a gateway is moved to another node, PUSH and PULL each for
    /// itself, as by a balancer that does not remember; they stay without it.
    pub hop_every: Option<SpanRange>,
    /// How long a node has not answered when a gateway's socket is moved to one that does, as by a
    /// balancer that looks after the nodes' health; never without it.
    pub failover: Option<SpanRange>,
}

impl Default for Gateways {
    fn default() -> Self {
        Self {
            count: 1,
            hears: Share(1.0),
            twins: 0,
            late_share: Share(0.0),
            late_by: SpanRange::ms(200, 30_000),
            tx_ack_lost: Share(0.0),
            tx_refused: Share(0.0),
            tx_ack_late: Span(Duration::ZERO),
            counter_wraps: None,
            spread: false,
            hop_every: None,
            failover: None,
        }
    }
}

impl Gateways {
    /// All of them, twins included.
    pub fn total(&self) -> u32 {
        self.count.saturating_add(self.twins)
    }
}

/// Which LoRaWAN version a device speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceVersion {
    /// Draws its DevNonce at random.
    #[default]
    #[serde(rename = "1.0.3")]
    V1_0_3,
    /// Counts its DevNonce up.
    #[serde(rename = "1.0.4")]
    V1_0_4,
}

/// `[devices]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// How many, named `dev1`, `dev2`, ... (1 to 10,000).
    pub count: u32,
    /// Share of the downlinks meant for a device that it hears.
    pub hears: Share,
    /// When each joins, or an ABP device begins to send, counted from the start.
    pub joins_at: SpanRange,
    /// How many of them, the first ones, are personalised (ABP) instead of joining (OTAA).
    pub abp: u32,
    /// The number of an ABP device's first uplink.
    pub first_fcnt: u32,
    /// The server's `skipFCntCheck` for ABP devices: an ABP reset is taken for one.
    pub skip_fcnt_check: bool,
    /// The LoRaWAN version all of them speak: `1.0.3` or `1.0.4`.
    pub version: DeviceVersion,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            count: 1,
            hears: Share(1.0),
            joins_at: SpanRange::ms(1_000, 5_000),
            abp: 0,
            first_fcnt: 0,
            skip_fcnt_check: false,
            version: DeviceVersion::default(),
        }
    }
}

/// `[clients]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// MQTT clients with a persistent session, subscribed to every event at QoS 1, named `app1`,
    /// `app2`, ... (0 to 100).
    pub count: u32,
    /// Further ones with a transient session at QoS 0; they take the next names (0 to 100).
    pub transient: u32,
    /// Further ones that publish commands at QoS 0 and 1 and messages to be retained, and check
    /// what comes back (0 to 10).
    pub publishers: u32,
    /// Pause between two messages of a publisher.
    pub publish_every: SpanRange,
    /// Pause between two times that a client goes away and comes back; never without it.
    pub away_every: Option<SpanRange>,
    /// For how long it stays away.
    pub away_for: SpanRange,
    /// Share of messages whose acknowledgement is held back, for up to six seconds.
    pub holds: Share,
    /// Each connects to a node drawn anew each time, instead of one of its own. Whichever it is,
    /// the next one is tried when it does not let the client in.
    pub anywhere: bool,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            count: 1,
            transient: 0,
            publishers: 0,
            publish_every: SpanRange::ms(1_000, 3_000),
            away_every: None,
            away_for: SpanRange::ms(1_000, 20_000),
            holds: Share(0.15),
            anywhere: false,
        }
    }
}

impl Clients {
    /// All of them.
    pub fn total(&self) -> u32 {
        self.count.saturating_add(self.transient).saturating_add(self.publishers)
    }
}

/// `[callers]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Callers {
    /// How many call the API at a time, where HTTP has done its part (0 to 20).
    pub count: u32,
    /// Pause between two calls of one.
    pub every: SpanRange,
    /// Objects of each kind that they share; the fewer, the more they collide (1 to 20).
    pub keys: u32,
}

impl Default for Callers {
    fn default() -> Self {
        Self { count: 0, every: SpanRange::ms(200, 1_500), keys: 3 }
    }
}

/// `[workload]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Pause between two uplinks of a device, drawn each time.
    pub uplink_every: SpanRange,
    /// Share of uplinks that ask for an acknowledgement.
    pub confirmed: Share,
    /// Transmissions of a confirmed uplink at most (1 to 8).
    pub tries: u8,
    /// Pause between two downlinks queued for a device; none are queued without it.
    pub downlink_every: Option<SpanRange>,
    /// Share of queued downlinks that somebody tries to cancel soon afterwards.
    pub cancel: Share,
    /// Pause after which a device joins anew of its own accord; never without it.
    pub rejoin_every: Option<SpanRange>,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            uplink_every: SpanRange::fixed(Duration::from_secs(10)),
            confirmed: Share(0.5),
            tries: 8,
            downlink_every: None,
            cancel: Share(0.0),
            rejoin_every: None,
        }
    }
}

/// `[expect]`: what a run must have reached when it ends; 0, the default, asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Devices that have joined.
    pub joined: u32,
    /// Uplinks in the event log.
    pub accepted: u32,
    /// Uplinks delivered to clients, each counted once per client.
    pub delivered: u32,
    /// Confirmed uplinks whose acknowledgement the device heard.
    pub acknowledged: u32,
    /// Application downlinks that reached their device.
    pub downlinks: u32,
    /// Restarts of nodes.
    pub restarts: u32,
    /// Calls of the API that were answered.
    pub calls: u32,
    /// Nodes that have left or were removed, and have set their data aside.
    pub departed: u32,
    /// Nodes that have become members again after that.
    pub readmitted: u32,
    /// Marks (`cargo sim marks` lists them) that must have been hit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
}

/// `[bounds]`: how soon and within what the world must recover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// A node that was started serves within this time (V1).
    pub ready_within: Span,
    /// Tries that a fresh device has at the end for joining, an acknowledgement and a downlink
    /// (V7).
    pub probe_tries: u32,
    /// No window may be missed when nothing was wrong for this long (V5).
    pub calm: Span,
    /// Memory of the whole simulation, in MiB (S21).
    pub memory_mib: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        let secs = |secs| Span(Duration::from_secs(secs));
        Self { ready_within: secs(10), probe_tries: 3, calm: secs(5), memory_mib: 512 }
    }
}
