//! `[[fault]]`: what goes wrong, and which keys each kind of fault takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Numbers, Share, Span, SpanRange};

/// What kind of fault.
#[derive(
    Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A machine loses power, and of its un-synced data any subset; it starts again after `lasts`.
    /// With `write`, at that write of the disk, counted from `at` on (30 s at most).
    PowerCut,
    /// `kill -9`: the process dies, the page cache lives; it starts again after `lasts`.
    Kill,
    /// The process is asked to stop, and does; it starts again after `lasts`.
    Stop,
    /// `SIGSTOP`: the process stands still for `lasts` (a minute at most), its clocks run on; with
    /// `frozen` they stand still too, as in a suspended virtual machine.
    Pause,
    /// The machine is off for `lasts` and comes back with an empty disk.
    WipeDisk,
    /// The machine is replaced by another one that starts, after `lasts`, from a copy of its disk.
    CloneDisk,
    /// The operator tells the node to leave its cluster. It hands over, ends by itself and its data
    /// is set aside; `lasts` after that it joins anew, empty. Nothing happens where the rest would
    /// be no majority of all.
    Leave,
    /// The machine loses power, and the operator has another node remove it. After `lasts` it is
    /// back with its old data, is told so and ends; its data is set aside. Started again it is
    /// alone and empty until the operator has it join. Nothing happens where the rest would be no
    /// majority of all.
    Remove,
    /// The next fsync of the node fails.
    FsyncError,
    /// The node's disk is full for `lasts`.
    DiskFull,
    /// The `write`-th write of the node from then on finds no space, and so do `count` in all.
    WriteError,
    /// `count` bits turn in data that was synced longer than `older` ago; a mirror mends them
    /// after `lasts`.
    BitRot,
    /// The next write of the node lands at another place of the same file.
    MisdirectedWrite,
    /// Fsyncs take `factor` times as long for `lasts`.
    SlowDisk,
    /// The node's wall clock jumps by `by`, or back with `backwards`.
    ClockJump,
    /// The node's clocks run `ppm` parts per million fast (negative: slow) for `lasts`.
    ClockDrift,
    /// Nothing passes from `from` to `to` (and back, unless `both` is false) for `lasts`.
    Cut,
    /// Links are worse for `lasts`: those from `from` to `to`, or all.
    Noise,
    /// Every stream of the node is reset.
    ResetStreams,
    /// Streams from `from` to `to` go nowhere for `lasts`, silently; datagrams pass.
    StallStreams,
    /// Nodes do not reach each other for `lasts`, as `shape` says; with `flap` it comes and goes
    /// meanwhile. Of several that overlap each has its own cuts.
    Partition,
    /// A gateway has no power for `lasts`.
    GatewayOff,
    /// A gateway's concentrator restarts: its counter (`tmst`) jumps, what it had queued is lost.
    CounterReset,
    /// Both sockets of a gateway are moved to other nodes, each for itself.
    Hop,
    /// For `lasts` a gateway forwards a `share` of what it hears a second time, `delay` late.
    LateCopies,
    /// For `lasts` a `share` of a gateway's TX_ACK get lost.
    TxAckLost,
    /// For `lasts` a gateway's TX_ACK come `delay` late.
    TxAckLate,
    /// For `lasts` a gateway refuses a `share` of the downlinks.
    TxRefused,
    /// A device restarts; with `memory_lost` it forgets its nonces and, if ABP, its counters.
    Reboot,
    /// Every device joins anew, each within `lasts`.
    JoinStorm,
    /// An MQTT client is cut off by its own machine for `lasts`.
    ClientAway,
    /// An MQTT client reads nothing for `lasts`.
    SlowClient,
    /// Somebody sends recorded frames again, `per_s` of them a second, for `lasts`.
    Replay,
    /// Somebody sends recorded frames with a bit turned.
    BitFlips,
    /// Somebody pretends to be gateways, known and unknown, and makes frames up.
    ForgedGateways,
    /// Somebody asks to join for devices, known and unknown, without their keys.
    JoinFlood,
    /// Somebody sends datagrams that are none of the protocol's, up to 16,000 a second.
    Malformed,
}

/// What a node may have promised just before a fault strikes.
#[derive(
    Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// A client was given an uplink event.
    Delivery,
    /// An acknowledgement left for a gateway.
    Ack,
    /// A join-accept left for a gateway.
    JoinAccept,
    /// A data downlink left for a gateway.
    Downlink,
    /// A call of the API was answered.
    Answer,
}

/// Which nodes a partition keeps apart.
#[derive(
    Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A side of nodes from the rest; of two nodes or more.
    Split,
    /// `node` from all others; of two or more.
    Isolate,
    /// `node` hears no other and is heard by all, or with `hears` the reverse; of two or more.
    OneWay,
    /// Two halves that meet at `node` alone, which sees both; of three or more.
    Bridge,
    /// Each sees its two neighbours alone; of four or more.
    Ring,
    /// Each hears a majority, itself included, and no two the same one; of three or more.
    MajorityRing,
}

/// Whom a partition cuts off, beside the nodes from each other.
#[derive(
    Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Nobody.
    #[default]
    Nodes,
    /// Gateways and clients stand beside a node each (`gw1` and `app1` at `n1`, and so on in turn)
    /// and reach what that reaches.
    Sites,
    /// The side, or the one node, reaches no gateway and no client.
    Everything,
}

/// `[[fault]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// Gives the fault's draws a name of their own, so that they stay what they are whatever is
    /// added or removed; its kind, its target and its place among such do without it.
    pub name: Option<String>,
    /// The node it strikes: `n1`, `any`, or who leads, or follows, when it strikes: `leader`,
    /// `follower` (the node itself where there is no other).
    pub node: Option<String>,
    /// The gateway it strikes: `gw1`, `any` or `all`.
    pub gateway: Option<String>,
    /// The device it strikes: `dev1`, `any` or `all`.
    pub device: Option<String>,
    /// The MQTT client it strikes: `app1`, `any` or `all`.
    pub client: Option<String>,
    /// The host that cannot send: `n1`, `gw1`, `app1`. For noise also `nodes`: with the same in
    /// `to` every link between two nodes, else the links of each node.
    pub from: Option<String>,
    /// The host it cannot reach.
    pub to: Option<String>,
    /// The other direction too (default true).
    pub both: Option<bool>,
    /// When; a range is drawn for each seed.
    pub at: SpanRange,
    /// Aimed: from `at` on it waits for such a promise (30 s at most), and strikes right after it.
    pub after: Option<Promise>,
    /// How soon after it (default `0ms..2ms`).
    pub aim: Option<SpanRange>,
    /// Whether it happens at all, drawn for each seed (default 1: always). A scenario of many
    /// faults with small chances is a swarm: each seed has a few of them.
    pub chance: Option<Share>,
    /// How often, each at a moment of its own (1 to 1,000; default 1).
    pub times: Option<u32>,
    /// For how long, drawn each time (default `1s..3s`).
    pub lasts: Option<SpanRange>,
    /// By how much a clock jumps.
    pub by: Option<Span>,
    /// Into the past (default false).
    pub backwards: Option<bool>,
    /// Drift in parts per million, 500,000 at most either way.
    pub ppm: Option<i32>,
    /// Which share of the occasions it strikes.
    pub share: Option<Share>,
    /// How late something comes, drawn each time (a copy 2 minutes at most).
    pub delay: Option<SpanRange>,
    /// Added to the latency of each packet.
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
    /// How many a second of virtual time (1 to 16,000).
    pub per_s: Option<u32>,
    /// Which write, counted from 1.
    pub write: Option<Numbers>,
    /// How many: bits, writes (1 to 10,000; default 1), nodes on the side of a split (drawn
    /// without it).
    pub count: Option<u32>,
    /// How long ago data must have been synced at least.
    pub older: Option<Span>,
    /// How many times as long (2 to 1,000).
    pub factor: Option<u32>,
    /// Whether a device forgets (default false).
    pub memory_lost: Option<bool>,
    /// Whether clocks stand still too (default false).
    pub frozen: Option<bool>,
    /// Which nodes are kept apart.
    pub shape: Option<Shape>,
    /// The nodes on one side; of a bridge one half without the bridge; of a ring all nodes in
    /// their order. Drawn without it, with `node` on it (a bridge's on neither).
    pub side: Option<Vec<String>>,
    /// One way: `node` hears the others and is not heard (default false: the reverse).
    pub hears: Option<bool>,
    /// Whom a partition cuts off beside nodes (default `nodes`).
    pub reach: Option<Reach>,
    /// How long a partition is there, and then is not, in turn, drawn each time.
    pub flap: Option<SpanRange>,
}

/// A key of `[[fault]]` that not every kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the key of that name in `Fault`")]
pub enum Key {
    Node,
    Gateway,
    Device,
    Client,
    From,
    To,
    Both,
    After,
    Aim,
    Lasts,
    By,
    Backwards,
    Ppm,
    Share,
    Delay,
    Latency,
    Loss,
    Duplicate,
    Corrupt,
    Bandwidth,
    Mtu,
    PerS,
    Write,
    Count,
    Older,
    Factor,
    MemoryLost,
    Frozen,
    Shape,
    Side,
    Hears,
    Reach,
    Flap,
}

impl Key {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Device => "device",
            Self::Client => "client",
            Self::From => "from",
            Self::To => "to",
            Self::Both => "both",
            Self::After => "after",
            Self::Aim => "aim",
            Self::Lasts => "lasts",
            Self::By => "by",
            Self::Backwards => "backwards",
            Self::Ppm => "ppm",
            Self::Share => "share",
            Self::Delay => "delay",
            Self::Latency => "latency",
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Corrupt => "corrupt",
            Self::Bandwidth => "bandwidth",
            Self::Mtu => "mtu",
            Self::PerS => "per_s",
            Self::Write => "write",
            Self::Count => "count",
            Self::Older => "older",
            Self::Factor => "factor",
            Self::MemoryLost => "memory_lost",
            Self::Frozen => "frozen",
            Self::Shape => "shape",
            Self::Side => "side",
            Self::Hears => "hears",
            Self::Reach => "reach",
            Self::Flap => "flap",
        }
    }
}

impl Fault {
    /// A fault with nothing but a kind and a moment.
    pub fn new(kind: FaultKind, at: SpanRange) -> Self {
        Self {
            kind,
            name: None,
            node: None,
            gateway: None,
            device: None,
            client: None,
            from: None,
            to: None,
            both: None,
            at,
            after: None,
            aim: None,
            chance: None,
            times: None,
            lasts: None,
            by: None,
            backwards: None,
            ppm: None,
            share: None,
            delay: None,
            latency: None,
            loss: None,
            duplicate: None,
            corrupt: None,
            bandwidth: None,
            mtu: None,
            per_s: None,
            write: None,
            count: None,
            older: None,
            factor: None,
            memory_lost: None,
            frozen: None,
            shape: None,
            side: None,
            hears: None,
            reach: None,
            flap: None,
        }
    }

    /// The keys it has, of those that not every kind takes.
    pub fn keys(&self) -> Vec<Key> {
        let present = [
            (Key::Node, self.node.is_some()),
            (Key::Gateway, self.gateway.is_some()),
            (Key::Device, self.device.is_some()),
            (Key::Client, self.client.is_some()),
            (Key::From, self.from.is_some()),
            (Key::To, self.to.is_some()),
            (Key::Both, self.both.is_some()),
            (Key::After, self.after.is_some()),
            (Key::Aim, self.aim.is_some()),
            (Key::Lasts, self.lasts.is_some()),
            (Key::By, self.by.is_some()),
            (Key::Backwards, self.backwards.is_some()),
            (Key::Ppm, self.ppm.is_some()),
            (Key::Share, self.share.is_some()),
            (Key::Delay, self.delay.is_some()),
            (Key::Latency, self.latency.is_some()),
            (Key::Loss, self.loss.is_some()),
            (Key::Duplicate, self.duplicate.is_some()),
            (Key::Corrupt, self.corrupt.is_some()),
            (Key::Bandwidth, self.bandwidth.is_some()),
            (Key::Mtu, self.mtu.is_some()),
            (Key::PerS, self.per_s.is_some()),
            (Key::Write, self.write.is_some()),
            (Key::Count, self.count.is_some()),
            (Key::Older, self.older.is_some()),
            (Key::Factor, self.factor.is_some()),
            (Key::MemoryLost, self.memory_lost.is_some()),
            (Key::Frozen, self.frozen.is_some()),
            (Key::Shape, self.shape.is_some()),
            (Key::Side, self.side.is_some()),
            (Key::Hears, self.hears.is_some()),
            (Key::Reach, self.reach.is_some()),
            (Key::Flap, self.flap.is_some()),
        ];
        present.into_iter().filter_map(|(key, there)| there.then_some(key)).collect()
    }

    /// Whom it strikes, in words that tell one such fault from another.
    pub fn target(&self) -> String {
        let names = [&self.node, &self.gateway, &self.device, &self.client, &self.from, &self.to];
        let shape = self.shape.map(Shape::name);
        let names = names.into_iter().flatten();
        let side = self.side.iter().flatten().filter(|name| self.node.as_ref() != Some(name));
        let names = names.chain(side).map(String::as_str);
        shape.into_iter().chain(names).collect::<Vec<_>>().join(" ")
    }
}

impl Shape {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Isolate => "isolate",
            Self::OneWay => "one_way",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::MajorityRing => "majority_ring",
        }
    }

    /// Nodes that it takes at least.
    pub const fn nodes_min(self) -> u32 {
        match self {
            Self::Split | Self::Isolate | Self::OneWay => 2,
            Self::Bridge | Self::MajorityRing => 3,
            Self::Ring => 4,
        }
    }
}

impl FaultKind {
    /// Every kind, in the order of the page.
    pub const ALL: [Self; 37] = [
        Self::PowerCut,
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::WipeDisk,
        Self::CloneDisk,
        Self::Leave,
        Self::Remove,
        Self::FsyncError,
        Self::DiskFull,
        Self::WriteError,
        Self::BitRot,
        Self::MisdirectedWrite,
        Self::SlowDisk,
        Self::ClockJump,
        Self::ClockDrift,
        Self::Cut,
        Self::Noise,
        Self::ResetStreams,
        Self::StallStreams,
        Self::Partition,
        Self::GatewayOff,
        Self::CounterReset,
        Self::Hop,
        Self::LateCopies,
        Self::TxAckLost,
        Self::TxAckLate,
        Self::TxRefused,
        Self::Reboot,
        Self::JoinStorm,
        Self::ClientAway,
        Self::SlowClient,
        Self::Replay,
        Self::BitFlips,
        Self::ForgedGateways,
        Self::JoinFlood,
        Self::Malformed,
    ];

    /// The keys it needs, and those it may have, beside the ones that every kind takes.
    pub const fn keys(self) -> (&'static [Key], &'static [Key]) {
        use Key as K;
        match self {
            Self::PowerCut => (&[K::Node], &[K::After, K::Aim, K::Write, K::Lasts]),
            Self::Kill => (&[K::Node], &[K::After, K::Aim, K::Lasts]),
            Self::Stop | Self::WipeDisk | Self::CloneDisk | Self::Leave | Self::Remove => {
                (&[K::Node], &[K::Lasts])
            }
            Self::Pause => (&[K::Node], &[K::Lasts, K::Frozen]),
            Self::FsyncError | Self::MisdirectedWrite | Self::ResetStreams => (&[K::Node], &[]),
            Self::DiskFull => (&[K::Node], &[K::Lasts]),
            Self::WriteError => (&[K::Node, K::Write], &[K::Count]),
            Self::BitRot => (&[K::Node], &[K::Count, K::Older, K::Lasts]),
            Self::SlowDisk => (&[K::Node, K::Factor], &[K::Lasts]),
            Self::ClockJump => (&[K::Node, K::By], &[K::Backwards]),
            Self::ClockDrift => (&[K::Node, K::Ppm], &[K::Lasts]),
            Self::Cut | Self::StallStreams => (&[K::From, K::To], &[K::Both, K::Lasts]),
            Self::Noise => (
                &[],
                &[
                    K::From,
                    K::To,
                    K::Both,
                    K::Lasts,
                    K::Latency,
                    K::Loss,
                    K::Duplicate,
                    K::Corrupt,
                    K::Bandwidth,
                    K::Mtu,
                ],
            ),
            Self::Partition => (
                &[K::Shape],
                &[
                    K::Node,
                    K::Side,
                    K::Count,
                    K::Hears,
                    K::Reach,
                    K::After,
                    K::Aim,
                    K::Flap,
                    K::Lasts,
                ],
            ),
            Self::GatewayOff => (&[K::Gateway], &[K::Lasts]),
            Self::CounterReset | Self::Hop => (&[K::Gateway], &[]),
            Self::LateCopies => (&[K::Gateway], &[K::Share, K::Delay, K::Lasts]),
            Self::TxAckLost | Self::TxRefused => (&[K::Gateway], &[K::Share, K::Lasts]),
            Self::TxAckLate => (&[K::Gateway], &[K::Delay, K::Lasts]),
            Self::Reboot => (&[K::Device], &[K::MemoryLost]),
            Self::JoinStorm => (&[], &[K::Lasts]),
            Self::ClientAway | Self::SlowClient => (&[K::Client], &[K::Lasts]),
            Self::Replay
            | Self::BitFlips
            | Self::ForgedGateways
            | Self::JoinFlood
            | Self::Malformed => (&[K::PerS], &[K::Lasts]),
        }
    }
}

impl std::fmt::Display for FaultKind {
    /// As it is written in a scenario.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
