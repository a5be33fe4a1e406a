//! What a device does and what it thinks of each frame it hears.

use bytes::Bytes;
use clock::{GpsTime, Instant};
use lorawan::{DevAddr, DevNonce, JoinNonce, ParseError};

use crate::air::OnAir;

/// Why a frame that began was not received at all. Costs nothing: most frames are for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// No window is open.
    #[error("no window is open")]
    NotListening,
    /// It is receiving another frame.
    #[error("another frame is being received")]
    Busy,
    /// The open window is on another frequency.
    #[error("listening on {listening_hz} Hz")]
    Frequency {
        /// What it listens on, in hertz.
        listening_hz: u32,
    },
    /// The open window is for another modulation.
    #[error("listening for another modulation")]
    Modulation,
    /// Uplinks are not heard by devices.
    #[error("the polarity is an uplink's")]
    Polarity,
}

/// What a device makes of a frame received in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its own, and taken.
    Accepted {
        /// The whole counter; 0 for a join-accept.
        fcnt: u32,
    },
    /// Not a frame.
    Malformed(ParseError),
    /// A frame that makes no sense now: a join-accept unasked, data while joining, an uplink.
    Unexpected,
    /// For another session.
    OtherAddress(DevAddr),
    /// A counter that was accepted before, with a right MIC: a repetition or a replay.
    Replayed {
        /// Its counter.
        fcnt: u32,
        /// The highest accepted.
        last: u32,
    },
    /// Further ahead than MAX_FCNT_GAP (below 1.0.4).
    FCntGap {
        /// Its counter.
        fcnt: u32,
        /// The highest accepted.
        last: u32,
    },
    /// No counter gives this MIC.
    Mic,
    /// A join-accept for somebody else, or forged.
    JoinMic,
    /// A join-accept whose nonce does not rise (1.0.4).
    JoinNonce {
        /// Its nonce.
        seen: JoinNonce,
        /// The last accepted.
        last: JoinNonce,
    },
    /// A join-accept with settings the region does not have: refused as a whole.
    JoinSettings,
}

/// A payload for the application in the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppDownlink {
    /// The whole counter.
    pub fcnt: u32,
    /// 1 to 255.
    pub f_port: u8,
    /// In the clear.
    pub payload: Bytes,
    /// Whether the next uplink will acknowledge it.
    pub confirmed: bool,
    /// Whether more waits at the network.
    pub f_pending: bool,
}

/// What a transmission carries, for oracles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A join-request.
    Join {
        /// Its nonce.
        dev_nonce: DevNonce,
    },
    /// A data frame.
    Data {
        /// Its whole counter.
        fcnt: u32,
        /// 1 for the first transmission, then 2, 3, ...
        attempt: u8,
    },
}

/// What a device does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEffect {
    /// Begins to send a frame now.
    Transmit {
        /// The frame.
        frame: OnAir,
        /// What is in it.
        sent: Sent,
    },
    /// Says what it made of a frame received to its end.
    Judged(Verdict),
    /// Has a new session.
    Joined {
        /// Its address.
        dev_addr: DevAddr,
        /// The accept's nonce.
        join_nonce: JoinNonce,
    },
    /// Neither window brought a join-accept; the exchange is over.
    JoinFailed,
    /// A payload arrived.
    Delivered(AppDownlink),
    /// LinkCheckAns.
    LinkCheck {
        /// Decibels above the floor.
        margin_db: u8,
        /// Gateways that heard it.
        gateway_count: u8,
    },
    /// DeviceTimeAns.
    Time {
        /// The network's time when the uplink that asked ended.
        gps: GpsTime,
        /// When that was, on the device's clock.
        uplink_ended_at: Instant,
    },
    /// The exchange of a data frame is over.
    Done {
        /// The frame's whole counter.
        fcnt: u32,
        /// Whether it was confirmed and acknowledged.
        acked: bool,
        /// Whether any downlink came.
        heard: bool,
    },
}
