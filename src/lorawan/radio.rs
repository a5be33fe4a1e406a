//! What passes between a gateway dialect and the network server, whichever dialect it was.

use bytes::Bytes;
use clock::{Duration, GpsTime, Instant, WallTime};

use minicbor::{Decode, Encode};

use crate::{DevAddr, GatewayEui};

/// How a frame is modulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Modulation {
    /// LoRa.
    #[n(0)]
    Lora {
        /// 5..=12.
        #[n(0)]
        spreading_factor: u8,
        /// Hertz.
        #[n(1)]
        bandwidth_hz: u32,
        /// Forward error correction.
        #[n(2)]
        code_rate: CodeRate,
    },
    /// Frequency shift keying.
    #[n(1)]
    Fsk {
        /// Bits per second.
        #[n(0)]
        bitrate_bps: u32,
        /// Frequency deviation in hertz.
        #[n(1)]
        deviation_hz: u32,
    },
    /// Long-range frequency hopping, uplink only.
    #[n(2)]
    LrFhss {
        /// Width of the channel that is hopped over, in hertz: 137,000, 336,000 or 1,523,000.
        #[n(0)]
        channel_width_hz: u32,
        /// Forward error correction.
        #[n(1)]
        code_rate: LrFhssCodeRate,
    },
}

/// LR-FHSS forward error correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum LrFhssCodeRate {
    /// 1/3, also written 2/6.
    #[n(0)]
    OneThird,
    /// 2/3, also written 4/6.
    #[n(1)]
    TwoThirds,
}

/// LoRa forward error correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum CodeRate {
    /// 4/5, LoRaWAN's own.
    #[n(0)]
    Cr45,
    /// 4/6.
    #[n(1)]
    Cr46,
    /// 4/7.
    #[n(2)]
    Cr47,
    /// 4/8.
    #[n(3)]
    Cr48,
}

/// What the radio said about the PHY checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CrcStatus {
    /// Checked and right.
    #[n(0)]
    Ok,
    /// Checked and wrong: such a frame is dropped.
    #[n(1)]
    Bad,
    /// The frame carried none.
    #[n(2)]
    None,
}

/// One reception of one frame by one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The whole PHYPayload.
    pub phy_payload: Bytes,
    /// Who heard it.
    pub gateway: GatewayEui,
    /// When the datagram reached this node, on its monotonic clock.
    pub received_at: Instant,
    /// When the gateway says it was heard, if it has a clock it trusts.
    pub gateway_time: Option<WallTime>,
    /// The same on the GPS scale.
    pub gps_time: Option<GpsTime>,
    /// Hertz.
    pub frequency_hz: u32,
    /// How it was sent.
    pub modulation: Modulation,
    /// Signal strength in dBm.
    pub rssi_dbm: i16,
    /// Signal-to-noise ratio in tenths of a decibel; 0 for FSK.
    pub snr_ddb: i16,
    /// The gateway's IF channel.
    pub channel: u8,
    /// The gateway's RF chain; a downlink in answer uses its own.
    pub rf_chain: u8,
    /// The gateway's antenna.
    pub antenna: u8,
    /// The concentrator's counter at the end of the frame, in microseconds, wrapping each 71.6
    /// minutes.
    pub tmst: u32,
    /// The PHY checksum.
    pub crc: CrcStatus,
}

/// When a downlink leaves the antenna.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownlinkTiming {
    /// As soon as it can.
    Immediately,
    /// `delay` after the concentrator counter of an uplink.
    Delay {
        /// The counter of the uplink, in microseconds.
        tmst: u32,
        /// Time after it.
        delay: Duration,
    },
    /// At a moment of the GPS scale.
    Gps(GpsTime),
}

/// One frame for one gateway to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downlink {
    /// Names this transmission in its [`TxAck`]; never two in flight alike on one gateway.
    pub downlink_id: u32,
    /// Who sends it.
    pub gateway: GatewayEui,
    /// The whole PHYPayload.
    pub phy_payload: Bytes,
    /// When.
    pub timing: DownlinkTiming,
    /// Hertz.
    pub frequency_hz: u32,
    /// How.
    pub modulation: Modulation,
    /// Radiated power (EIRP) in dBm; the dialect subtracts the antenna's gain.
    pub eirp_dbm: i8,
    /// The gateway's RF chain.
    pub rf_chain: u8,
    /// The gateway's antenna.
    pub antenna: u8,
    /// To whom, for people who read traces; `None` before a device has an address.
    pub dev_addr: Option<DevAddr>,
}

/// What became of a [`Downlink`]. The names are those of the Semtech protocol and of `gw.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum TxStatus {
    /// Accepted by the radio.
    #[n(0)]
    Ok,
    /// Too late to be scheduled.
    #[n(1)]
    TooLate,
    /// Too early, or in the past (a real forwarder reports a late frame so).
    #[n(2)]
    TooEarly,
    /// Overlaps another frame.
    #[n(3)]
    CollisionPacket,
    /// Overlaps a beacon.
    #[n(4)]
    CollisionBeacon,
    /// Outside the radio's range.
    #[n(5)]
    TxFreq,
    /// A power the radio cannot make.
    #[n(6)]
    TxPower,
    /// Needs GPS time and has none.
    #[n(7)]
    GpsUnlocked,
    /// The gateway's queue is full.
    #[n(8)]
    QueueFull,
    /// Anything else the gateway reported.
    #[n(9)]
    InternalError,
}

/// A gateway's answer to a [`Downlink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxAck {
    /// Who answers.
    pub gateway: GatewayEui,
    /// Which transmission.
    pub downlink_id: u32,
    /// What became of it.
    pub status: TxStatus,
}
