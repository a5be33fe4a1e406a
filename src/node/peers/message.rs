//! What the nodes' machines say to each other: receptions for a frame's home, downlinks for the
//! node that reaches the gateway, what became of them, and whose gateways can be reached from
//! where.
//!
//! Between nodes travel ages, never times: each clock is its node's own (dangers B15, C7). A kind
//! that is not known is dropped; its sender knows no more than that a message may be lost.

use clock::{Duration, GpsTime, Instant, WallTime};
use lorawan::{
    CrcStatus, DevAddr, Downlink, DownlinkTiming, GatewayEui, Modulation, TxAck, TxStatus, Uplink,
};
use mac::NodeId;
use minicbor::{Decode, Encode};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum PeerMessage {
    /// This gateway has heard this; you are its home.
    #[n(0)]
    Uplink(#[n(0)] Box<HandedOver>),
    /// Your path to this gateway is the freshest: send this.
    #[n(1)]
    Send(#[n(0)] Box<SendOrder>),
    /// What became of an order.
    #[n(2)]
    TxAck {
        #[n(0)]
        gateway: GatewayEui,
        #[n(1)]
        downlink_id: u32,
        #[n(2)]
        status: TxStatus,
    },
    /// A gateway has answered, to this node, a downlink that another has sent.
    #[n(3)]
    StrayTxAck {
        #[n(0)]
        gateway: GatewayEui,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        datagram: Vec<u8>,
    },
    /// Gateways of the sender.
    #[n(4)]
    Paths(#[n(0)] PathNews),
    /// Some of your news is missing here: tell everything.
    #[n(5)]
    PathsWanted,
    /// How the sender is.
    #[n(6)]
    Standing {
        /// It takes frames as their home.
        #[n(0)]
        serving: bool,
        /// It has heard nothing of the receiver yet: what was told before may have come too early.
        #[n(1)]
        asks: bool,
    },
    /// Give a sign of life.
    #[n(7)]
    Ping,
    /// Here I am.
    #[n(8)]
    Pong {
        /// Index of the last entry applied.
        #[n(0)]
        applied: u64,
        /// How often the sender has started.
        #[n(1)]
        boot: u64,
    },
    /// Find out whether this node is alive.
    #[n(9)]
    Probe {
        #[n(0)]
        target: NodeId,
    },
    /// It is.
    #[n(10)]
    Probed {
        #[n(0)]
        target: NodeId,
    },
}

/// A reception on its way to its frame's home.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct HandedOver {
    /// Microseconds since it reached the sender.
    #[n(0)]
    age_us: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    phy_payload: Vec<u8>,
    #[n(2)]
    gateway: GatewayEui,
    #[n(3)]
    gateway_time: Option<WallTime>,
    #[n(4)]
    gps_micros: Option<u64>,
    #[n(5)]
    frequency_hz: u32,
    #[n(6)]
    modulation: Modulation,
    #[n(7)]
    rssi_dbm: i16,
    #[n(8)]
    snr_ddb: i16,
    #[n(9)]
    channel: u8,
    #[n(10)]
    rf_chain: u8,
    #[n(11)]
    antenna: u8,
    #[n(12)]
    tmst: u32,
    #[n(13)]
    crc: CrcStatus,
}

impl HandedOver {
    pub(crate) fn of(uplink: &Uplink, now: Instant) -> Self {
        Self {
            age_us: micros(now.since(uplink.received_at)),
            phy_payload: uplink.phy_payload.to_vec(),
            gateway: uplink.gateway,
            gateway_time: uplink.gateway_time,
            gps_micros: uplink.gps_time.map(GpsTime::as_micros),
            frequency_hz: uplink.frequency_hz,
            modulation: uplink.modulation,
            rssi_dbm: uplink.rssi_dbm,
            snr_ddb: uplink.snr_ddb,
            channel: uplink.channel,
            rf_chain: uplink.rf_chain,
            antenna: uplink.antenna,
            tmst: uplink.tmst,
            crc: uplink.crc,
        }
    }

    /// On this node's clock.
    ///
    /// * `transit`: about how long the message was on its way.
    pub(crate) fn build(self, now: Instant, transit: Duration) -> Uplink {
        Uplink {
            phy_payload: self.phy_payload.into(),
            gateway: self.gateway,
            received_at: now.saturating_sub(Duration::from_micros(self.age_us) + transit),
            gateway_time: self.gateway_time,
            gps_time: self.gps_micros.map(GpsTime::from_micros),
            frequency_hz: self.frequency_hz,
            modulation: self.modulation,
            rssi_dbm: self.rssi_dbm,
            snr_ddb: self.snr_ddb,
            channel: self.channel,
            rf_chain: self.rf_chain,
            antenna: self.antenna,
            tmst: self.tmst,
            crc: self.crc,
        }
    }
}

/// When a downlink leaves the antenna: by the gateway's own counter, or GPS time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
enum Timing {
    #[n(0)]
    Immediately,
    #[n(1)]
    Delay {
        #[n(0)]
        tmst: u32,
        #[n(1)]
        delay_us: u64,
    },
    #[n(2)]
    Gps(#[n(0)] u64),
}

/// A downlink for a gateway that the receiver reaches.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct SendOrder {
    #[n(0)]
    downlink_id: u32,
    #[n(1)]
    gateway: GatewayEui,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    phy_payload: Vec<u8>,
    #[n(3)]
    timing: Timing,
    #[n(4)]
    frequency_hz: u32,
    #[n(5)]
    modulation: Modulation,
    #[n(6)]
    eirp_dbm: i8,
    #[n(7)]
    rf_chain: u8,
    #[n(8)]
    antenna: u8,
    #[n(9)]
    dev_addr: Option<DevAddr>,
}

impl SendOrder {
    pub(crate) fn of(downlink: &Downlink) -> Self {
        Self {
            downlink_id: downlink.downlink_id,
            gateway: downlink.gateway,
            phy_payload: downlink.phy_payload.to_vec(),
            timing: match downlink.timing {
                DownlinkTiming::Immediately => Timing::Immediately,
                DownlinkTiming::Delay { tmst, delay } => {
                    Timing::Delay { tmst, delay_us: micros(delay) }
                }
                DownlinkTiming::Gps(at) => Timing::Gps(at.as_micros()),
            },
            frequency_hz: downlink.frequency_hz,
            modulation: downlink.modulation,
            eirp_dbm: downlink.eirp_dbm,
            rf_chain: downlink.rf_chain,
            antenna: downlink.antenna,
            dev_addr: downlink.dev_addr,
        }
    }

    pub(crate) fn build(self) -> Downlink {
        Downlink {
            downlink_id: self.downlink_id,
            gateway: self.gateway,
            phy_payload: self.phy_payload.into(),
            timing: match self.timing {
                Timing::Immediately => DownlinkTiming::Immediately,
                Timing::Delay { tmst, delay_us } => {
                    DownlinkTiming::Delay { tmst, delay: Duration::from_micros(delay_us) }
                }
                Timing::Gps(micros) => DownlinkTiming::Gps(GpsTime::from_micros(micros)),
            },
            frequency_hz: self.frequency_hz,
            modulation: self.modulation,
            eirp_dbm: self.eirp_dbm,
            rf_chain: self.rf_chain,
            antenna: self.antenna,
            dev_addr: self.dev_addr,
        }
    }
}

/// News of the gateways that one node hears: the whole set, or what has changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PathNews {
    /// Rises by one with each message; a gap means that something is missing.
    #[n(0)]
    pub(crate) sequence: u64,
    /// It begins anew: forget what was told before.
    #[n(1)]
    pub(crate) whole: bool,
    /// Gateways.
    #[n(2)]
    pub(crate) entries: Vec<PathEntry>,
}

/// One gateway of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PathEntry {
    #[n(0)]
    pub(crate) gateway: GatewayEui,
    /// Milliseconds since its last datagram.
    #[n(1)]
    pub(crate) seen_ms: u64,
    /// Milliseconds since its last PULL_DATA; `None`: there is no way down.
    #[n(2)]
    pub(crate) pull_ms: Option<u64>,
}

impl PeerMessage {
    pub(crate) fn tx_ack(ack: TxAck) -> Self {
        let TxAck { gateway, downlink_id, status } = ack;
        Self::TxAck { gateway, downlink_id, status }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        minicbor::to_vec(self).expect("writing to a vector cannot fail")
    }

    /// * Returns `None` for what is not known here.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        minicbor::decode(bytes).ok()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
