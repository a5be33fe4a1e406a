//! A scenario: one story as a TOML file, without a line of Rust. This page documents every key.
//!
//! ```toml
//! title = "Power goes while an uplink is being decided"
//! duration = "2m"
//! settle = "30s"
//!
//! [nodes]
//! count = 1
//!
//! [gateways]
//! count = 2
//! hears = 0.9
//!
//! [devices]
//! count = 3
//!
//! [workload]
//! uplink_every = "10s..20s"
//! confirmed = 0.5
//!
//! [[fault]]
//! kind = "power_cut"
//! node = "n1"
//! at = "20s..80s"
//! lasts = "2s..5s"
//!
//! [expect]
//! joined = 3
//! ```
//!
//! Unknown keys are refused, and the error names the nearest known one.

mod check;
mod value;

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use check::ScenarioError;
pub use value::{Share, Span, SpanRange};

use crate::disk::Speed;
use crate::net::Quality;

/// A whole scenario file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line that says what is put to the test.
    pub title: String,
    /// How long faults and workload go on, in virtual time.
    pub duration: Span,
    /// How long the world then has to come to rest, without faults: what must arrive, arrives.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// The cluster.
    #[serde(default)]
    pub nodes: Nodes,
    /// Every link between any two hosts.
    #[serde(default)]
    pub network: Network,
    /// Every node's disk.
    #[serde(default)]
    pub disk: DiskKeys,
    /// The gateways.
    #[serde(default)]
    pub gateways: Gateways,
    /// The devices.
    #[serde(default)]
    pub devices: Devices,
    /// The MQTT clients.
    #[serde(default)]
    pub clients: Clients,
    /// What devices and applications do.
    #[serde(default)]
    pub workload: Workload,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// What must have happened at the end, beside the invariants.
    #[serde(default)]
    pub expect: Expect,
}

/// `[nodes]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// How many, named `n1`, `n2`, ... (1 to 9; default 1).
    pub count: u32,
    /// The region, as `tern serve` takes it (default `EU868`).
    pub region: String,
    /// Deduplication window (default 200 ms).
    pub deduplication: Span,
}

/// `[network]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Latency, drawn per packet (default `100us..900us`).
    pub latency: SpanRange,
    /// Share of datagrams lost (default 0).
    pub loss: Share,
    /// Share of datagrams that arrive twice (default 0).
    pub duplicate: Share,
    /// Share of datagrams with a bit turned (default 0).
    pub corrupt: Share,
    /// Bytes per second of each link (default: no limit).
    pub bandwidth: Option<u64>,
}

/// `[disk]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskKeys {
    /// Time of most fsyncs (default `1ms..6ms`).
    pub fsync: SpanRange,
    /// Share of slow ones (default 0.08).
    pub slow_share: Share,
    /// Time of those (default `10ms..60ms`).
    pub slow: SpanRange,
    /// Share of stalls (default 0.01).
    pub stall_share: Share,
    /// Time of those (default `100ms..900ms`).
    pub stall: SpanRange,
}

/// `[gateways]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateways {
    /// How many, named `gw1`, `gw2`, ... (1 to 100; default 1).
    pub count: u32,
    /// Share of the frames in reach that a gateway hears (default 1).
    pub hears: Share,
}

/// `[devices]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Devices {
    /// How many, named `dev1`, `dev2`, ... (1 to 10,000; default 1).
    pub count: u32,
    /// Share of the downlinks meant for a device that it hears (default 1).
    pub hears: Share,
    /// When each joins, counted from the start (default `1s..5s`).
    pub joins_at: SpanRange,
}

/// `[clients]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// MQTT clients with a persistent session, subscribed to every event at QoS 1, named `app1`,
    /// `app2`, ... (0 to 100; default 1).
    pub count: u32,
}

/// `[workload]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Pause between two uplinks of a device, drawn each time (default `10s`).
    pub uplink_every: SpanRange,
    /// Share of uplinks that ask for an acknowledgement (default 0.5).
    pub confirmed: Share,
    /// Transmissions of a confirmed uplink at most (1 to 8; default 8).
    pub tries: u8,
    /// Pause between two downlinks queued for a device; none are queued without it.
    pub downlink_every: Option<SpanRange>,
}

/// What kind of fault.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A machine loses power, and of its un-synced data any subset; it starts again after `lasts`.
    PowerCut,
    /// `kill -9`: the process dies, the page cache lives; it starts again after `lasts`.
    Kill,
    /// Nothing passes from `from` to `to` (and back, if `both`) for `lasts`.
    Cut,
    /// The next fsync of the node fails.
    FsyncError,
    /// The node's disk is full for `lasts`.
    DiskFull,
    /// The node's wall clock jumps by `by`, or back with `backwards`.
    ClockJump,
    /// The node's clocks run `ppm` parts per million fast (negative: slow) for `lasts`.
    ClockDrift,
}

/// What a node may have promised just before a fault strikes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// A client was given an uplink event.
    Delivery,
    /// An acknowledgement left for a gateway.
    Ack,
    /// A join-accept left for a gateway.
    JoinAccept,
}

/// `[[fault]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// The node it strikes: `n1`. All kinds but `cut`.
    pub node: Option<String>,
    /// `cut`: the host that cannot send: `n1`, `gw1`, `app1`.
    pub from: Option<String>,
    /// `cut`: the host it cannot reach.
    pub to: Option<String>,
    /// `cut`: the other direction too (default true).
    pub both: Option<bool>,
    /// When; a range is drawn for each seed.
    pub at: SpanRange,
    /// Aimed: from `at` on it waits for such a promise (30 s at most), and strikes within 2 ms of
    /// it. `power_cut` and `kill` only.
    pub after: Option<Promise>,
    /// Whether it happens at all, drawn for each seed (default 1: always).
    pub chance: Option<Share>,
    /// How often, each at a moment of its own (1 to 1,000; default 1).
    pub times: Option<u32>,
    /// For how long, drawn each time (default `1s..3s`).
    pub lasts: Option<SpanRange>,
    /// `clock_jump`: by how much.
    pub by: Option<Span>,
    /// `clock_jump`: into the past (default false).
    pub backwards: Option<bool>,
    /// `clock_drift`: parts per million, 500,000 at most either way.
    pub ppm: Option<i32>,
}

/// `[expect]`: what a run must have reached when it ends; 0, the default, asks for nothing.
#[derive(Clone, Debug, Default, Deserialize)]
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
}

fn default_settle() -> Span {
    Span(std::time::Duration::from_secs(30))
}

impl Default for Nodes {
    fn default() -> Self {
        let deduplication = Span(std::time::Duration::from_millis(200));
        Self { count: 1, region: "EU868".to_owned(), deduplication }
    }
}

impl Default for Network {
    fn default() -> Self {
        let latency = SpanRange(Quality::default().latency);
        let none = Share(0.0);
        Self { latency, loss: none, duplicate: none, corrupt: none, bandwidth: None }
    }
}

impl Network {
    /// As the network takes it.
    pub fn quality(&self) -> Quality {
        Quality {
            latency: self.latency.0.clone(),
            loss: self.loss.0,
            duplicate: self.duplicate.0,
            corrupt: self.corrupt.0,
            bandwidth: self.bandwidth,
            ..Quality::default()
        }
    }
}

impl Default for DiskKeys {
    fn default() -> Self {
        let speed = Speed::default();
        Self {
            fsync: SpanRange(speed.usual),
            slow_share: Share(speed.slow_share),
            slow: SpanRange(speed.slow),
            stall_share: Share(speed.stall_share),
            stall: SpanRange(speed.stall),
        }
    }
}

impl DiskKeys {
    /// As the disk takes it.
    pub fn speed(&self) -> Speed {
        Speed {
            usual: self.fsync.0.clone(),
            slow_share: self.slow_share.0,
            slow: self.slow.0.clone(),
            stall_share: self.stall_share.0,
            stall: self.stall.0.clone(),
        }
    }
}

impl Default for Gateways {
    fn default() -> Self {
        Self { count: 1, hears: Share(1.0) }
    }
}

impl Default for Devices {
    fn default() -> Self {
        let secs = std::time::Duration::from_secs;
        Self { count: 1, hears: Share(1.0), joins_at: SpanRange(secs(1)..secs(5)) }
    }
}

impl Default for Clients {
    fn default() -> Self {
        Self { count: 1 }
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            uplink_every: SpanRange::fixed(std::time::Duration::from_secs(10)),
            confirmed: Share(0.5),
            tries: 8,
            downlink_every: None,
        }
    }
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// Errors: what cannot be read, is not TOML, has an unknown key or an impossible value, with
    /// file, line and, for a key, the nearest known one.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ScenarioError::Read { file: name.clone(), why: error.to_string() })?;
        Self::parse(&name, &text)
    }

    /// Reads a scenario out of `text`; `file` is what errors call it.
    ///
    /// Errors: as [`Self::load`].
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        check::size(file, text)?;
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::from_toml(file, text, &error))?;
        let lines = FaultLines::of(text);
        check::scenario(file, &scenario, &lines.0)?;
        Ok(scenario)
    }
}

/// The line of each `[[fault]]`, for what is found wrong after parsing.
struct FaultLines(Vec<usize>);

impl FaultLines {
    fn of(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Faults {
            #[serde(default)]
            fault: Vec<toml::Spanned<IgnoredAny>>,
        }
        let faults = toml::from_str::<Faults>(text).map_or(Vec::new(), |faults| faults.fault);
        Self(faults.iter().map(|fault| check::line_of(text, fault.span().start)).collect())
    }
}
