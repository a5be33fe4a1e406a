//! What has happened in the world, told by the world itself and not by the nodes.
//!
//! The world sees every transmission of every device, every datagram that leaves for a gateway,
//! every message a client gets and every entry a node applies; it holds the devices' keys, so it
//! reads what it sees. It states each as a [`Fact`]; the [`crate::invariants`] listen, and change
//! nothing.

mod raft;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lorawan::{
    DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, Modulation, Region, TxStatus,
};
use mac::Grant;
use scenario::FaultKind;
use store::Proposal;

pub use raft::RaftStep;

/// One data frame of a device, as the device means it.
///
/// The workload gives each uplink a payload of its own, so that a DevAddr and a counter that
/// return after a reset cannot be confused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    /// Who sent it.
    pub device: DevEui,
    /// In which session.
    pub dev_addr: DevAddr,
    /// The whole 32-bit counter.
    pub f_cnt: u32,
    /// `None` without a port, and then without payload.
    pub f_port: Option<u8>,
    /// Plaintext.
    pub payload: Bytes,
}

/// An accepted uplink as the log or a message shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Its `deduplicationId`.
    pub id: String,
    /// What it reports.
    pub reading: Reading,
}

/// Which part of a frame a cipher stream was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The application's or the network's payload.
    FrmPayload,
    /// MAC commands in the header, encrypted in 1.1.
    FOpts,
    /// The frame as a whole: a counter belongs to bytes, also where nothing in it is encrypted.
    Frame,
}

/// A ciphertext within a downlink, and the AES key it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The key itself: simulated keys are nobody's secret.
    pub key: [u8; 16],
    /// Which part of the frame.
    pub field: Field,
    /// The bytes.
    pub bytes: Bytes,
}

/// How a node asks a gateway to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// Which node: the one whose PULL_RESP it is.
    pub node: String,
    /// Which gateway.
    pub gateway: GatewayEui,
    /// The token of the PULL_RESP, which its TX_ACK repeats. Each node draws its own: another's may
    /// be the same.
    pub token: u16,
    /// When, on the gateway's counter, in microseconds; `None`: at once.
    pub tmst: Option<u32>,
    /// Hertz.
    pub frequency_hz: u32,
    /// EIRP in dBm.
    pub power_dbm: i8,
    /// Data rate.
    pub modulation: Modulation,
    /// How long it takes.
    pub airtime: Duration,
}

/// Which PULL_RESP: a node's, to a gateway, under a token.
pub type Order = (String, GatewayEui, u16);

impl Transmission {
    /// Which PULL_RESP carries it.
    pub fn order(&self) -> Order {
        (self.node.clone(), self.gateway, self.token)
    }
}

/// What became of something that was asked of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Done, says the node.
    Done,
    /// Certainly not done.
    Refused,
    /// No answer: it may be done, now or later, or never.
    Unknown,
}

/// Something a device makes of a downlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// Taken.
    Taken,
    /// Refused because of the order of counters: not above the last, or too far above it.
    Counter,
    /// Refused for another reason: another's, a wrong MIC, malformed.
    Other,
}

/// A message of an MQTT client that is no event of the network's: published, or received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub topic: String,
    /// Content; the publishers of a run never use one twice.
    pub payload: Bytes,
    /// 0, 1 or 2: of the publisher, or as delivered.
    pub qos: u8,
    /// Published to be retained, or delivered as a retained one.
    pub retain: bool,
    /// Delivered again.
    pub dup: bool,
}

/// What the world is like when nothing is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Where it is.
    pub region: &'static Region,
    /// The devices' DevNonces rise (from LoRaWAN 1.0.4 on).
    pub nonces_rise: bool,
    /// Devices' counters may start anew without a join (`skipFCntCheck`).
    pub resets: bool,
    /// Also without a fault datagrams get lost, garbled or late, or gateways refuse or are doubled.
    pub rough: bool,
    /// Also without a fault bits are turned on the way, or gateways share a name.
    pub doubtful: bool,
    /// No window may be missed when nothing was wrong for this long.
    pub calm: Duration,
}

/// What the log permits that remains at the end of a run.
#[derive(Clone, Debug, Default)]
pub struct Permits {
    /// Downlink numbers granted.
    pub numbers: BTreeSet<(DevEui, DevAddr, u32)>,
    /// Joins accepted.
    pub joins: BTreeSet<(JoinEui, DevEui, DevNonce, JoinNonce)>,
    /// Uplinks accepted, by the `deduplicationId` of their event.
    pub uplinks: BTreeMap<String, Reading>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The run begins.
    Begins(Setting),
    /// A device sent a data frame (each repetition is told again).
    UplinkSent {
        /// What it said.
        reading: Reading,
        /// Whether it asks for an acknowledgement.
        confirmed: bool,
    },
    /// A device asked to join.
    JoinRequestSent {
        /// Whom it asks.
        join_eui: JoinEui,
        /// Who asks.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
    },
    /// A device was restarted.
    Rebooted {
        /// Which.
        device: DevEui,
        /// It has forgotten its nonces and, if ABP, its counters.
        memory_lost: bool,
    },
    /// A gateway has heard a frame of a device to its end.
    Heard {
        /// Which gateway.
        gateway: GatewayEui,
        /// Its counter then.
        tmst: u32,
        /// Whose frame.
        device: DevEui,
        /// The reading in it; `None` for a join-request.
        reading: Option<Reading>,
        /// Whether it wants an answer: a confirmed uplink, or a join-request.
        wants_answer: bool,
        /// The gateway can reach the cluster and has told it where it is: it pulled within its
        /// keep-alive and its links are not cut.
        live: bool,
    },
    /// A gateway, or somebody who says that he is one, tells a node of a frame: a PUSH_DATA leaves.
    Pushed {
        /// Which gateway it names.
        gateway: GatewayEui,
        /// That gateway's counter at the end of the frame, it says.
        tmst: u32,
        /// On which frequency it says that it heard the frame, in hertz.
        frequency_hz: u32,
        /// How it says that the frame was sent.
        modulation: Modulation,
    },
    /// A data downlink left a node for a gateway.
    DownlinkHanded {
        /// How it is to be sent.
        how: Transmission,
        /// For which device: the one whose keys verify it.
        device: DevEui,
        /// In which session.
        dev_addr: DevAddr,
        /// The whole 32-bit counter.
        f_cnt: u32,
        /// What is encrypted in it.
        ciphertexts: Vec<Ciphertext>,
        /// The application's payload, decrypted, and its port; `None` without one, or for port 0.
        payload: Option<(u8, Bytes)>,
        /// The uplink that its ACK bit acknowledges, told by the window it is meant for.
        acknowledges: Option<Reading>,
    },
    /// A join-accept left a node for a gateway.
    JoinAcceptHanded {
        /// How it is to be sent.
        how: Transmission,
        /// Whom the device had asked.
        join_eui: JoinEui,
        /// Who had asked.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
        /// The server's nonce in it.
        join_nonce: JoinNonce,
        /// The whole PHYPayload.
        bytes: Bytes,
    },
    /// A gateway decided about a PULL_RESP, whether its TX_ACK arrives or not.
    Decided {
        /// Which PULL_RESP.
        order: Order,
        /// What it decided.
        status: TxStatus,
    },
    /// A gateway's counter has jumped: what it was told before means nothing any more.
    CounterReset {
        /// Which gateway.
        gateway: GatewayEui,
    },
    /// A gateway's PULL socket was moved to another node: what the one before sends it now is lost,
    /// and the other learns of it with the next PULL_DATA.
    Hopped {
        /// Which gateway.
        gateway: GatewayEui,
    },
    /// A device has judged a downlink that it heard in one of its windows.
    Judged {
        /// Which device.
        device: DevEui,
        /// The whole frame.
        phy_payload: Bytes,
        /// What it makes of it.
        judgement: Judgement,
    },
    /// An application's downlink reached its device.
    Arrived {
        /// Which device.
        device: DevEui,
        /// What it says; each is queued once.
        payload: Bytes,
    },
    /// Somebody is about to ask for a downlink.
    QueueAsked {
        /// For which device.
        device: DevEui,
        /// What it says; each is queued once.
        payload: Bytes,
        /// Whether it asks for an acknowledgement.
        confirmed: bool,
    },
    /// Somebody asked for a downlink; told when the call ends.
    Queued {
        /// Which node was asked, the last of several.
        node: String,
        /// For which device.
        device: DevEui,
        /// What it says; each is queued once.
        payload: Bytes,
        /// Whether it asks for an acknowledgement.
        confirmed: bool,
        /// When the call began.
        since: Duration,
        /// What the node said.
        answer: Answer,
    },
    /// Somebody asked to take a downlink out of the queue again; told when the call ends.
    Cancelled {
        /// For which device.
        device: DevEui,
        /// What it would have said.
        payload: Bytes,
        /// `Done`: it was taken out and will not be sent.
        answer: Answer,
    },
    /// A node wrote an entry to its log: the first that the disk sees of it.
    Logged {
        /// Which node.
        node: String,
        /// Position in the log.
        index: u64,
        /// What it asks.
        proposals: Vec<Proposal>,
    },
    /// A node has done something to the log that all of them share.
    Raft {
        /// Which node.
        node: String,
        /// What.
        step: RaftStep,
    },
    /// A node has applied an entry after which somebody may draw on these downlink numbers.
    Granted {
        /// Which node.
        node: String,
        /// Position in the log.
        index: u64,
        /// For which device.
        device: DevEui,
        /// In which session.
        dev_addr: DevAddr,
        /// The numbers, and who may draw on them.
        grant: Grant,
    },
    /// Somebody who does not know the cookie has knocked where nodes listen for each other, and has
    /// hung up, or was hung up on.
    Knocked {
        /// Which node.
        node: String,
        /// What he had said.
        how: &'static str,
        /// He had said, to the last bit, what somebody says who knows it.
        genuine: bool,
        /// How many bytes he was answered.
        answered: usize,
    },
    /// A node's disk will not have done its next fsync before `until`: much later than usual.
    Stalled {
        /// Which node.
        node: String,
        /// Virtual time.
        until: Duration,
    },
    /// A node applied a log entry that activates a device.
    Activated {
        /// Position in the log.
        index: u64,
        /// Whom the device had asked.
        join_eui: JoinEui,
        /// Who had asked.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
        /// The address it was given.
        dev_addr: DevAddr,
    },
    /// A node applied a log entry that accepts an uplink.
    Accepted {
        /// Position in the log.
        index: u64,
        /// The session's epoch, counted by the log.
        session_epoch: u64,
        /// What was accepted.
        event: Event,
    },
    /// A client got an uplink event.
    Delivered {
        /// Which client.
        client: String,
        /// What it got.
        event: Event,
    },
    /// How the event came that a [`Self::Delivered`] has just told of.
    DeliveredAs {
        /// Which client.
        client: String,
        /// The event's `deduplicationId`.
        id: String,
        /// Where it was published.
        topic: String,
        /// As delivered.
        qos: u8,
        /// Delivered again.
        dup: bool,
    },
    /// A client has an account from now on, and no session under it.
    Account {
        /// Which client.
        client: String,
        /// The filter that covers all it may see.
        sees: String,
    },
    /// A client asks for a connection: its CONNECT is on its way.
    Connecting {
        /// Which client.
        client: String,
        /// Which node it asks.
        node: String,
        /// It wants nothing of an earlier session.
        clean_start: bool,
        /// It wants its session kept when this connection ends.
        persistent: bool,
    },
    /// A client's connection began.
    Connected {
        /// Which client.
        client: String,
        /// The node says that it has kept the client's session.
        session_present: bool,
        /// The client wants its session kept.
        persistent: bool,
    },
    /// A client's connection ended.
    Disconnected {
        /// Which client.
        client: String,
    },
    /// A connection that its client has replaced by a newer one still speaks.
    Stale {
        /// Which client.
        client: String,
        /// When the newer connection began.
        since: Duration,
        /// What came; `None`: the answer to a ping.
        message: Option<Message>,
    },
    /// A client asks for a subscription: its SUBSCRIBE is on its way.
    Subscribes {
        /// Which client.
        client: String,
        /// Its filter.
        filter: String,
    },
    /// A client's subscription is in force.
    Subscribed {
        /// Which client.
        client: String,
        /// Its filter.
        filter: String,
        /// What it was granted.
        qos: u8,
    },
    /// A client sends a message (each time it sends it is told), or the node has acknowledged it.
    Published {
        /// Which client.
        client: String,
        /// What.
        message: Message,
        /// The node has acknowledged it (QoS 1).
        acknowledged: bool,
    },
    /// A client got a message that is no event of the network's.
    Received {
        /// Which client.
        client: String,
        /// What it got.
        message: Message,
    },
    /// A node's process started.
    Started {
        /// Which node.
        node: String,
    },
    /// A node's process is no more, or stands still.
    Down {
        /// Which node.
        node: String,
    },
    /// A fault begins, or ends.
    Fault {
        /// Which kind.
        kind: FaultKind,
        /// Whom it strikes.
        target: String,
        /// It begins.
        begins: bool,
    },
    /// A node's disk holds nothing of what it held, or something else: what it alone kept is lost.
    DiskLost {
        /// Which node.
        node: String,
        /// The cluster is founded anew.
        wiped: bool,
    },
    /// The safety phase is over: no new faults, and those of the core are mended.
    Calm,
    /// The run is over, and this is what the log that remains permits.
    Audited(Permits),
    /// Whatever must come about without faults has had its time.
    Rested {
        /// The hosts that must work: nodes, gateways and clients.
        core: Vec<String>,
    },
    /// The run is over; this is the event log that remains.
    Ended {
        /// All uplink events in it, in order.
        log: Vec<Event>,
    },
}

impl Fact {
    /// From here on a node may have been told what nobody meant, so that not all it does can be
    /// told apart from outside: bits are turned on the way, gateways share a name, or somebody
    /// makes frames up.
    pub const fn raises_doubt(&self) -> bool {
        matches!(
            self,
            Self::Begins(Setting { doubtful: true, .. })
                | Self::Fault {
                    kind: FaultKind::Noise
                        | FaultKind::Replay
                        | FaultKind::BitFlips
                        | FaultKind::ForgedGateways
                        | FaultKind::JoinFlood
                        | FaultKind::Malformed,
                    ..
                }
        )
    }
}

/// A fact and its moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Virtual time.
    pub at: Duration,
    /// What happened.
    pub fact: Fact,
}
