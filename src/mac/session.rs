//! One activation of one device, as the replicated state keeps it.
//!
//! Plain values: `mac`'s pure transitions change them, and only the log's apply calls those.

use std::collections::BTreeMap;

use clock::WallTime;
use lorawan::{DevAddr, Key};
use minicbor::{Decode, Encode};

use crate::Sealed;

/// The LoRaWAN version a device speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum MacVersion {
    /// 1.0.0
    #[n(0)]
    V1_0_0,
    /// 1.0.1
    #[n(1)]
    V1_0_1,
    /// 1.0.2
    #[n(2)]
    V1_0_2,
    /// 1.0.3
    #[n(3)]
    V1_0_3,
    /// 1.0.4
    #[n(4)]
    V1_0_4,
    /// 1.1.0
    #[n(5)]
    V1_1_0,
}

/// Counts the activations of one device, an ABP counter reset included; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SessionEpoch(#[n(0)] pub u32);

/// The raft id of a node: 1..k by the founding, else 1,000 + the log index of its admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct NodeId(#[n(0)] pub u64);

/// What tells two frames with one counter apart: the first 16 bytes of SHA-256 over MType, FPort
/// and ciphertext. The MIC is left out: in 1.1 it differs per transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Digest(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// The opened keys of a session. Up to 1.0.4 the three network keys are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKeys {
    /// NwkSKey, or FNwkSIntKey.
    pub f_nwk_s_int: Key,
    /// NwkSKey, or SNwkSIntKey.
    pub s_nwk_s_int: Key,
    /// NwkSKey, or NwkSEncKey.
    pub nwk_s_enc: Key,
    /// AppSKey; absent when a join server keeps it.
    pub app_s: Option<Key>,
}

/// Downlink numbers that one home may use without asking again (half-open range).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Grant {
    /// Who may use it.
    #[n(0)]
    pub home: NodeId,
    /// Rises with every change of home and every void.
    #[n(1)]
    pub home_epoch: u32,
    /// First number of the range that its home had not used when it last asked.
    #[n(2)]
    pub lo: u32,
    /// First number after the range; equals [`DownlinkCounter::next`] for the newest grant.
    #[n(3)]
    pub hi: u32,
}

/// One downlink counter of one key set. Never reset while the keys live, not even by an ABP reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct DownlinkCounter {
    /// The first number never granted to anybody.
    #[n(0)]
    pub next: u32,
    /// The one valid grant, if any.
    #[n(1)]
    pub grant: Option<Grant>,
    /// The epoch of the last grant made, voided or not.
    #[n(2)]
    pub home_epoch: u32,
    /// Last number a TX_ACK reported as sent, plus one: what the API shows as `nFCntDown`.
    #[n(3)]
    pub reported: u32,
    /// Numbers granted and, as far as the log knows, never sent since the device was last known to
    /// have received one; `None`: none. Only [`crate::transition`] counts.
    #[n(4)]
    pub skipped: Option<u32>,
}

/// What a device's uplinks tell about the downlink numbers it will need, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Traffic {
    /// The hour that is counted, since the Unix epoch.
    #[n(0)]
    pub hour: u32,
    /// Confirmed uplinks in it.
    #[n(1)]
    pub confirmed: u16,
    /// Confirmed uplinks in the hour before.
    #[n(2)]
    pub confirmed_before: u16,
    /// Uplinks accepted in a row of which no gateway of the home heard a copy.
    #[n(3)]
    pub away: u8,
    /// Grants are of one number, and the event log says so.
    #[n(4)]
    pub scarce: bool,
}

/// The uplink side of the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UplinkCounter {
    /// Highest number accepted; `None` before the first.
    #[n(0)]
    pub last: Option<u32>,
    /// What that frame was; `None` when it is not known (an imported session).
    #[n(1)]
    pub digest: Option<Digest>,
    /// When it was accepted.
    #[n(2)]
    pub at: Option<WallTime>,
}

/// A channel beyond the region's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ExtraChannel {
    /// Hertz.
    #[n(0)]
    pub frequency_hz: u32,
    /// Lowest data rate.
    #[n(1)]
    pub min_dr: u8,
    /// Highest data rate.
    #[n(2)]
    pub max_dr: u8,
}

/// A set of uplink channel indices, 0..=95.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ChannelSet {
    /// Bit n of word n / 64 is channel n.
    #[n(0)]
    pub words: [u64; 2],
}

/// A MAC request that waits for the device's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PendingRequest {
    /// The command identifier.
    #[n(0)]
    pub cid: u8,
    /// The commands as sent, CIDs included: a block where the specification asks for one.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// How often it was handed out.
    #[n(2)]
    pub tries: u8,
}

/// Everything the log knows of one activation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceSession {
    /// Which activation.
    #[n(0)]
    pub epoch: SessionEpoch,
    /// Its address.
    #[n(1)]
    pub dev_addr: DevAddr,
    /// The version spoken: 1.1 only where the device asked for it.
    #[n(2)]
    pub mac_version: MacVersion,
    /// The keys, sealed together ([`SessionKeys`]).
    #[n(3)]
    pub keys: Sealed,
    /// Uplink counter.
    #[n(4)]
    pub uplink: UplinkCounter,
    /// NFCntDown; up to 1.0.4 the only one.
    #[n(5)]
    pub n_f_cnt_down: DownlinkCounter,
    /// AFCntDown, 1.1 only.
    #[n(6)]
    pub a_f_cnt_down: DownlinkCounter,
    /// RECEIVE_DELAY1 in seconds, 1..=15.
    #[n(7)]
    pub rx1_delay_s: u8,
    /// RX1 data rate offset.
    #[n(8)]
    pub rx1_dr_offset: u8,
    /// RX2 data rate.
    #[n(9)]
    pub rx2_dr: u8,
    /// RX2 frequency in hertz.
    #[n(10)]
    pub rx2_frequency_hz: u32,
    /// Channels the device is known to use.
    #[n(11)]
    pub channels: ChannelSet,
    /// Channels beyond the defaults, by index.
    #[n(12)]
    pub extra_channels: BTreeMap<u8, ExtraChannel>,
    /// Data rate of the last uplink.
    #[n(13)]
    pub dr: u8,
    /// TXPower index last acknowledged.
    #[n(14)]
    pub tx_power: u8,
    /// NbTrans last acknowledged, at least 1.
    #[n(15)]
    pub nb_trans: u8,
    /// Whether the last uplink had its ADR bit set.
    #[n(16)]
    pub adr: bool,
    /// Requests in flight, at most one a CID.
    #[n(17)]
    pub pending: Vec<PendingRequest>,
    /// Rejected requests by CID: how often, to stop asking.
    #[n(18)]
    pub rejected: BTreeMap<u8, u8>,
    /// When a DevStatusReq last went out.
    #[n(19)]
    pub status_requested_at: Option<WallTime>,
    /// ABP: activated by personalisation, so an uplink counter reset may be allowed.
    #[n(20)]
    pub abp: bool,
    /// What its uplinks tell about the numbers it needs; `None` before the first.
    #[n(21)]
    pub traffic: Option<Traffic>,
    /// The uplink (FCntUp, 32 bits) in whose answer a queue item was last handed out: one answer,
    /// one item, also where a second node takes the answer over.
    #[n(22)]
    pub item_for: Option<u32>,
}
