//! What the machine wants done, and what it shows to people.

use clock::WallTime;
use lorawan::{DevAddr, DevEui, Downlink, GatewayEui, TxStatus, Uplink};

use super::error::{LogCode, UplinkError};
use crate::{AcceptJoin, AcceptUplink, NodeId, PlanDownlink, RecordTxAck, RequestId, SessionEpoch};

/// One piece of work, to be done in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Put it into the log; the reply goes to `handle_uplink_reply`.
    Accept {
        /// Names the question.
        request: RequestId,
        /// The question.
        accept: Box<AcceptUplink>,
    },
    /// Put it into the log; the reply goes to `handle_join_reply`.
    Join {
        /// Names the question.
        request: RequestId,
        /// The question.
        join: Box<AcceptJoin>,
    },
    /// Put it into the log; the reply goes to `handle_plan_reply`.
    Plan {
        /// Names the question.
        request: RequestId,
        /// The question.
        plan: PlanDownlink,
    },
    /// Put it into the log; when it is there, say so to `handle_recorded`.
    Record {
        /// Names the question.
        request: RequestId,
        /// What became of a downlink.
        record: RecordTxAck,
    },
    /// Write it to the disk, fsync, then call `handle_cursor_persisted`: the frame waits for it.
    PersistCursor(CursorWrite),
    /// Send it over the freshest path to its gateway.
    Send(Downlink),
    /// Let another node, the frame's home, have this reception.
    HandOver {
        /// Which node.
        to: NodeId,
        /// The reception.
        uplink: Box<Uplink>,
    },
    /// Show it to those who watch.
    Verdict(Verdict),
    /// Publish a `log` event outside the event log, to this node's own clients. Rate-limited.
    Log(LogEvent),
}

/// Which downlink counter of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterKind {
    /// NFCntDown; up to 1.0.4 the only one.
    Network,
    /// AFCntDown.
    Application,
}

/// "Numbers below this one are used."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorWrite {
    /// Device.
    pub dev_eui: DevEui,
    /// Session.
    pub session_epoch: SessionEpoch,
    /// Counter.
    pub counter: CounterKind,
    /// The epoch of the grant.
    pub home_epoch: u32,
    /// First number of the grant not used.
    pub next_unused: u32,
    /// Names this write.
    pub token: u64,
}

/// A `log` event that the log does not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Whose application hears it.
    pub dev_eui: DevEui,
    /// How bad.
    pub level: LogLevel,
    /// The field's code.
    pub code: LogCode,
    /// For people.
    pub description: String,
}

/// How bad a `log` event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// As it should be.
    Info,
    /// Something to look at.
    Warning,
    /// Something was lost.
    Error,
}

/// One thing that happened to a frame, for `tern watch` and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// When.
    pub at: WallTime,
    /// The device.
    pub dev_eui: DevEui,
    /// The gateway, where one matters.
    pub gateway: Option<GatewayEui>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The log accepted an uplink.
    #[error("uplink {f_cnt} accepted, heard by {gateways} gateway(s){}", reset_text(*reset))]
    Accepted {
        /// Counter.
        f_cnt: u32,
        /// Gateways that heard it in time.
        gateways: usize,
        /// The device has started its counter anew.
        reset: bool,
    },
    /// The log accepted a join.
    #[error("joined as {dev_addr}")]
    Joined {
        /// The address given.
        dev_addr: DevAddr,
    },
    /// The log, or the last look before it, refused.
    #[error("{0}")]
    Refused(#[from] UplinkError),
    /// The last frame came again after more than a second.
    #[error("uplink {f_cnt} repeated{}", answer_text(*answered))]
    Repeated {
        /// Counter.
        f_cnt: u32,
        /// It is answered again.
        answered: bool,
    },
    /// A gateway took a downlink.
    #[error("downlink sent in RX{window}")]
    Sent {
        /// 1 or 2.
        window: u8,
        /// Its number; `None` for a join-accept.
        f_cnt_down: Option<u32>,
    },
    /// A gateway would not, or said nothing.
    #[error("gateway {}", refusal_text(*status))]
    GatewayRefused {
        /// 1 or 2.
        window: u8,
        /// What it said; `None`: nothing.
        status: Option<TxStatus>,
    },
    /// An answer was due and is not sent.
    #[error("no downlink: {0}")]
    NotSent(#[from] NotSent),
    /// The log did not answer in time.
    #[error("the log does not answer: frame given up")]
    GivenUp,
}

/// Why an answer that was due is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// No gateway that heard the device can be reached.
    #[error("no gateway path: {}", pull_text(*pull_age_s))]
    NoGatewayPath {
        /// Seconds since the last PULL_DATA of the best gateway; `None`: never heard.
        pull_age_s: Option<u64>,
    },
    /// Both windows have passed.
    #[error("too late for both windows")]
    TooLate,
    /// Every gateway and window was tried.
    #[error("no gateway would send it")]
    Refused,
    /// Every gateway is sending something else in both windows.
    #[error("every gateway is sending something else then")]
    Busy,
    /// The region's table has no window for this uplink.
    #[error("the region has no window for this uplink")]
    NoWindow,
    /// It is larger than what the windows carry.
    #[error("it fits neither window")]
    TooLarge,
    /// The session has no downlink number left.
    #[error("no downlink number is left: the device must join anew")]
    NoNumber,
    /// The session's keys cannot be opened, or the AppSKey is not here.
    #[error("a key is missing")]
    NoKey,
}

impl What {
    /// As a metric's label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Joined { .. } => "joined",
            Self::Refused(error) => error.reason(),
            Self::Repeated { .. } => "repeated",
            Self::Sent { .. } => "sent",
            Self::GatewayRefused { status: Some(_), .. } => "gateway_refused",
            Self::GatewayRefused { status: None, .. } => "gateway_silent",
            Self::NotSent(NotSent::NoGatewayPath { .. }) => "no_gateway_path",
            Self::NotSent(NotSent::TooLate) => "too_late",
            Self::NotSent(NotSent::Refused) => "refused",
            Self::NotSent(NotSent::Busy) => "busy",
            Self::NotSent(NotSent::NoWindow) => "no_window",
            Self::NotSent(NotSent::TooLarge) => "too_large",
            Self::NotSent(NotSent::NoNumber) => "no_number",
            Self::NotSent(NotSent::NoKey) => "no_key",
            Self::GivenUp => "given_up",
        }
    }
}

const fn reset_text(reset: bool) -> &'static str {
    if reset { ", counter started anew" } else { "" }
}

const fn answer_text(answered: bool) -> &'static str {
    if answered { ", answered again" } else { "" }
}

fn pull_text(pull_age_s: Option<u64>) -> String {
    pull_age_s.map_or("no PULL_DATA".into(), |secs| format!("no PULL_DATA for {secs} s"))
}

fn refusal_text(status: Option<TxStatus>) -> String {
    let Some(status) = status else { return "said nothing: no TX_ACK".into() };
    let name = match status {
        TxStatus::Ok => "took it",
        TxStatus::TooLate => "refused: TOO_LATE",
        TxStatus::TooEarly => "refused: TOO_EARLY",
        TxStatus::CollisionPacket => "refused: COLLISION_PACKET",
        TxStatus::CollisionBeacon => "refused: COLLISION_BEACON",
        TxStatus::TxFreq => "refused: TX_FREQ",
        TxStatus::TxPower => "refused: TX_POWER",
        TxStatus::GpsUnlocked => "refused: GPS_UNLOCKED",
        TxStatus::QueueFull => "refused: QUEUE_FULL",
        TxStatus::InternalError => "refused: INTERNAL_ERROR",
    };
    name.into()
}
