//! What the network server asks the log to decide about frames, and what the log answers. Plain
//! values: [`crate::Mac`] makes the questions, `store::State::apply` gives the answers.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, Modulation, TxStatus};
use minicbor::{Decode, Encode};

use crate::{Digest, Grant, MacVersion, NodeId, Sealed, SessionEpoch};

/// Names one question for ever: a retry carries the same, and gets the first answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RequestId(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

/// One gateway's hearing of a frame, as an event reports it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Reception {
    /// Who heard it.
    #[n(0)]
    pub gateway: GatewayEui,
    /// Names this reception among those of the gateway.
    #[n(1)]
    pub uplink_id: u32,
    /// When this cluster received it.
    #[n(2)]
    pub ns_time: WallTime,
    /// When the gateway says it was heard.
    #[n(3)]
    pub gw_time: Option<WallTime>,
    /// The same since the GPS epoch, in microseconds.
    #[n(4)]
    pub gps_micros: Option<u64>,
    /// dBm
    #[n(5)]
    pub rssi_dbm: i16,
    /// Tenths of a decibel.
    #[n(6)]
    pub snr_ddb: i16,
    /// IF channel.
    #[n(7)]
    pub channel: u8,
    /// RF chain.
    #[n(8)]
    pub rf_chain: u8,
    /// Antenna.
    #[n(9)]
    pub antenna: u8,
    /// Concentrator counter in microseconds.
    #[n(10)]
    pub tmst: u32,
    /// Whether the PHY checksum was checked and right.
    #[n(11)]
    pub crc_ok: bool,
}

/// "This data frame is genuine; accept it once." Compare-and-set on the uplink counter.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AcceptUplink {
    /// Whose.
    #[n(0)]
    pub dev_eui: DevEui,
    /// The session whose keys verified it.
    #[n(1)]
    pub session_epoch: SessionEpoch,
    /// The full counter.
    #[n(2)]
    pub f_cnt: u32,
    /// The frame's identity beside its counter.
    #[n(3)]
    pub digest: Digest,
    /// Who asks, and will answer the device.
    #[n(4)]
    pub home: NodeId,
    /// First number of the home's grant that it has not used; `None` if it knows of no grant.
    #[n(5)]
    pub cursor: Option<u32>,
    /// Confirmed uplink.
    #[n(6)]
    pub confirmed: bool,
    /// FCtrl.ADR
    #[n(7)]
    pub adr: bool,
    /// FCtrl.ADRACKReq
    #[n(8)]
    pub adr_ack_req: bool,
    /// FCtrl.ACK: the device acknowledges the last confirmed downlink.
    #[n(9)]
    pub ack: bool,
    /// FCtrl class B bit.
    #[n(10)]
    pub class_b: bool,
    /// FPort; 0 never stands here, its commands are in `mac_commands`.
    #[n(11)]
    pub f_port: Option<u8>,
    /// Application payload: plaintext if the session has its AppSKey, else ciphertext.
    #[n(12)]
    #[cbor(with = "crate::cbor_bytes")]
    pub data: Bytes,
    /// Decrypted MAC commands of FOpts or FPort 0.
    #[n(13)]
    #[cbor(with = "crate::cbor_bytes")]
    pub mac_commands: Bytes,
    /// Uplink data rate.
    #[n(14)]
    pub dr: u8,
    /// Hertz.
    #[n(15)]
    pub frequency_hz: u32,
    /// How it was sent.
    #[n(16)]
    pub modulation: Modulation,
    /// Who heard it, best first, at most [`crate::RECEPTIONS_MAX`].
    #[n(17)]
    pub receptions: Vec<Reception>,
    /// When the cluster first received it, for the event's `time`.
    #[n(18)]
    pub received_at: WallTime,
    /// The node whose gateway heard it best, when no gateway of the home did; `None` when one did.
    #[n(19)]
    pub heard_by: Option<NodeId>,
}

/// The log's verdict on an [`AcceptUplink`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum UplinkReply {
    /// First and only acceptance.
    #[n(0)]
    Accepted {
        /// The epoch of the session now (an ABP reset raises it).
        #[n(0)]
        session_epoch: SessionEpoch,
        /// NFCntDown numbers the home may use; `None` when another node holds them, as after they
        /// have followed the device. What it has left of an earlier grant it may still use.
        #[n(1)]
        grant: Option<Grant>,
    },
    /// The same frame was accepted before.
    #[n(1)]
    Duplicate {
        /// The home that won.
        #[n(0)]
        winner: NodeId,
    },
    /// The same counter with other bytes: not accepted.
    #[n(2)]
    Conflict,
    /// The counter is below the last one.
    #[n(3)]
    FCntTooLow {
        /// The last one accepted.
        #[n(0)]
        last: u32,
    },
    /// Device, session or permission is gone.
    #[n(4)]
    Gone,
    /// The counter is too far above the last one for a device below 1.0.4.
    #[n(5)]
    FCntGapTooLarge {
        /// The last one accepted.
        #[n(0)]
        last: u32,
    },
}

/// "This join-request is genuine; activate once." Compare-and-set on both nonces.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AcceptJoin {
    /// Whose.
    #[n(0)]
    pub dev_eui: DevEui,
    /// The join server it named.
    #[n(1)]
    pub join_eui: JoinEui,
    /// Its nonce.
    #[n(2)]
    pub dev_nonce: DevNonce,
    /// The join nonce the proposer built upon: the state's next.
    #[n(3)]
    pub expected_join_nonce: JoinNonce,
    /// Drawn by the proposer.
    #[n(4)]
    pub dev_addr: DevAddr,
    /// The version of the session: 1.1 only if OptNeg was set.
    #[n(5)]
    pub mac_version: MacVersion,
    /// The derived keys, sealed.
    #[n(6)]
    pub keys: Sealed,
    /// Receive delay told to the device, in seconds.
    #[n(7)]
    pub rx1_delay_s: u8,
    /// RX1 offset told.
    #[n(8)]
    pub rx1_dr_offset: u8,
    /// RX2 data rate told.
    #[n(9)]
    pub rx2_dr: u8,
    /// Extra channels told by the CFList, in hertz.
    #[n(10)]
    pub extra_channels_hz: Vec<u32>,
    /// Who asks.
    #[n(11)]
    pub home: NodeId,
    /// Uplink data rate.
    #[n(12)]
    pub dr: u8,
    /// Hertz.
    #[n(13)]
    pub frequency_hz: u32,
    /// How it was sent.
    #[n(14)]
    pub modulation: Modulation,
    /// Who heard it, best first.
    #[n(15)]
    pub receptions: Vec<Reception>,
    /// When the cluster first received it.
    #[n(16)]
    pub received_at: WallTime,
}

/// The log's verdict on an [`AcceptJoin`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum JoinReply {
    /// Activated: the join-accept may leave.
    #[n(0)]
    Accepted {
        /// The new session.
        #[n(0)]
        session_epoch: SessionEpoch,
    },
    /// The nonce was used before, or is not above the last one (1.0.4, 1.1).
    #[n(1)]
    DevNonceUsed,
    /// Another join came between: build anew upon this nonce.
    #[n(2)]
    JoinNonceMoved {
        /// The state's next.
        #[n(0)]
        next: JoinNonce,
    },
    /// The device is gone, disabled, or may not join.
    #[n(3)]
    Gone,
}

/// "What shall this downlink carry?" Hands out MAC requests, one queue item and, if need be, a
/// number.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PlanDownlink {
    /// To whom.
    #[n(0)]
    pub dev_eui: DevEui,
    /// In which session.
    #[n(1)]
    pub session_epoch: SessionEpoch,
    /// Who will send it.
    #[n(2)]
    pub home: NodeId,
    /// First number of the home's NFCntDown grant not used.
    #[n(3)]
    pub cursor: Option<u32>,
    /// The same for AFCntDown (1.1).
    #[n(4)]
    pub a_cursor: Option<u32>,
    /// FRMPayload + FOpts bytes that fit the larger of the two windows.
    #[n(5)]
    pub max_payload: u8,
    /// Bytes of MAC answers the home has to place already.
    #[n(6)]
    pub answers_len: u8,
    /// The uplink answered, for the trace of `DevStatusReq` intervals and log events.
    #[n(7)]
    pub uplink_f_cnt: u32,
    /// Only a number: the answer to a retransmission whose bytes are lost.
    #[n(8)]
    pub number_only: bool,
}

/// A queue item in the hands of the home.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct HandedOut {
    /// The item.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub item_id: [u8; 16],
    /// 1..=223
    #[n(1)]
    pub f_port: u8,
    /// Wants an acknowledgement.
    #[n(2)]
    pub confirmed: bool,
    /// Plaintext, or ciphertext if the application encrypted it itself.
    #[n(3)]
    #[cbor(with = "crate::cbor_bytes")]
    pub data: Bytes,
    /// The application encrypted it under this counter; no other may be used.
    #[n(4)]
    pub encrypted_f_cnt: Option<u32>,
}

/// The log's answer to a [`PlanDownlink`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PlanReply {
    /// Build this.
    #[n(0)]
    Planned {
        /// MAC requests, encoded.
        #[n(0)]
        #[cbor(with = "crate::cbor_bytes")]
        requests: Bytes,
        /// The item, if one was due and fits.
        #[n(1)]
        item: Option<HandedOut>,
        /// More is queued.
        #[n(2)]
        f_pending: bool,
        /// NFCntDown numbers the asker may use.
        #[n(3)]
        grant: Option<Grant>,
        /// AFCntDown numbers the home may use (1.1).
        #[n(4)]
        a_grant: Option<Grant>,
    },
    /// Device or session is gone.
    #[n(1)]
    Gone,
}

/// "This is what became of the downlink."
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RecordTxAck {
    /// To whom it went.
    #[n(0)]
    pub dev_eui: DevEui,
    /// In which session.
    #[n(1)]
    pub session_epoch: SessionEpoch,
    /// Its number.
    #[n(2)]
    pub f_cnt_down: u32,
    /// Counted by AFCntDown (1.1 and FPort above 0).
    #[n(3)]
    pub a_counter: bool,
    /// The queue item within, if any.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub item_id: Option<[u8; 16]>,
    /// Ok, or the last refusal after every gateway and window was tried; `None`: silence.
    #[n(5)]
    pub status: Option<TxStatus>,
    /// Who sent it.
    #[n(6)]
    pub gateway: GatewayEui,
    /// The transmission.
    #[n(7)]
    pub downlink_id: u32,
    /// Hertz.
    #[n(8)]
    pub frequency_hz: u32,
    /// EIRP, dBm.
    #[n(9)]
    pub eirp_dbm: i8,
    /// How.
    #[n(10)]
    pub modulation: Modulation,
    /// Seconds after the uplink.
    #[n(11)]
    pub delay_s: u8,
}
