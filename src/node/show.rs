//! What the parts of the node tell, as lines for people: a verdict and, where there is one, a
//! remedy.

use std::net::SocketAddr;

use clock::Now;
use gateway::semtech::Refusal;
use lorawan::{GatewayEui, TxStatus};
use mac::{NotSent, UplinkError, Verdict, What};
use mqtt::CloseCause;

use crate::broker::Note;
use crate::watch::{WatchLevel, WatchLine};

/// A frame that concerns nobody here.
pub(crate) fn refused_uplink(now: Now, gateway: GatewayEui, error: &UplinkError) -> WatchLine {
    let kind = if is_join(error) { "join" } else { "uplink" };
    let level = if error.remedy().is_some() { WatchLevel::Bad } else { WatchLevel::Note };
    let verdict = if is_join(error) { format!("join: {error}") } else { error.to_string() };
    let mut line = WatchLine::new(now, kind, level, verdict);
    line.gateway_id = Some(gateway);
    line.dev_eui = error.dev_eui();
    line.dev_addr = error.dev_addr();
    line.remedy = error.remedy();
    line
}

const fn is_join(error: &UplinkError) -> bool {
    matches!(
        error,
        UplinkError::UnknownDevEui { .. }
            | UplinkError::DevEuiReversed { .. }
            | UplinkError::JoinEui { .. }
            | UplinkError::JoinNotAllowed { .. }
            | UplinkError::NoRootKey { .. }
            | UplinkError::JoinMic { .. }
            | UplinkError::DevNonceUsed { .. }
            | UplinkError::JoinNonceExhausted { .. }
    )
}

/// What became of a frame.
pub(crate) fn verdict(now: Now, verdict: &Verdict) -> WatchLine {
    let (kind, level, remedy) = match &verdict.what {
        What::Accepted { .. } => ("uplink", WatchLevel::Good, None),
        What::Joined { .. } => ("join", WatchLevel::Good, None),
        What::Refused(error) => {
            let kind = if is_join(error) { "join" } else { "uplink" };
            (kind, WatchLevel::Bad, error.remedy())
        }
        What::Repeated { .. } => ("uplink", WatchLevel::Note, None),
        What::Sent { .. } => ("downlink", WatchLevel::Good, None),
        What::GatewayRefused { status, .. } => {
            ("downlink", WatchLevel::Bad, Some(of_status(*status).to_owned()))
        }
        What::NotSent(reason) => {
            ("downlink", WatchLevel::Bad, of_not_sent(*reason).map(str::to_owned))
        }
        What::GivenUp => ("uplink", WatchLevel::Bad, None),
    };
    let mut line = WatchLine::new(now, kind, level, verdict.what.to_string());
    line.time = verdict.at;
    line.gateway_id = verdict.gateway;
    line.dev_eui = Some(verdict.dev_eui);
    line.remedy = remedy;
    line
}

const fn of_status(status: Option<TxStatus>) -> &'static str {
    match status {
        Some(TxStatus::TxPower) => {
            "this power is not in the gateway's table: set maxEirp or antennaGain of the gateway"
        }
        Some(TxStatus::TxFreq) => {
            "the gateway's radio does not reach this frequency: check its region"
        }
        Some(TxStatus::TooLate | TxStatus::TooEarly) => {
            "the way to the gateway is too slow: look at its network"
        }
        Some(TxStatus::CollisionPacket | TxStatus::CollisionBeacon) => {
            "the gateway sends something else at that moment"
        }
        Some(
            TxStatus::Ok | TxStatus::GpsUnlocked | TxStatus::QueueFull | TxStatus::InternalError,
        ) => "look at the gateway's own log",
        None => "no TX_ACK: look at the gateway's network and its own log",
    }
}

const fn of_not_sent(reason: NotSent) -> Option<&'static str> {
    match reason {
        NotSent::NoGatewayPath { .. } => {
            Some("the gateway must send PULL_DATA to this server's port")
        }
        NotSent::TooLate => Some("the way to the gateway is too slow: look at its network"),
        NotSent::Busy => Some("more gateways, or faster data rates, leave more air for answers"),
        NotSent::NoNumber => Some("let the device join anew"),
        NotSent::NoKey => Some("this node lacks the key file of the data folder"),
        NotSent::Refused | NotSent::NoWindow | NotSent::TooLarge => None,
    }
}

/// A datagram, or a part of it, that came to nothing.
pub(crate) fn refused_datagram(
    now: Now,
    from: SocketAddr,
    gateway: Option<GatewayEui>,
    refusal: &Refusal,
) -> WatchLine {
    let verdict = format!("from {from}: {refusal}");
    let mut line = WatchLine::new(now, "gateway", WatchLevel::Note, verdict);
    line.gateway_id = gateway;
    line
}

/// A gateway that nobody registered.
pub(crate) fn unknown_gateway(now: Now, gateway: GatewayEui, from: SocketAddr) -> WatchLine {
    let verdict = format!("unknown gateway {gateway} from {from}");
    let mut line = WatchLine::new(now, "gateway", WatchLevel::Bad, verdict);
    line.gateway_id = Some(gateway);
    line.remedy = Some(format!("tern gateway add {gateway}"));
    line
}

/// A gateway's way down, new or moved.
pub(crate) fn path_changed(now: Now, gateway: GatewayEui, address: SocketAddr) -> WatchLine {
    let verdict = format!("downlinks go to {address}");
    let mut line = WatchLine::new(now, "gateway", WatchLevel::Good, verdict);
    line.gateway_id = Some(gateway);
    line
}

/// An MQTT connection beyond the limit.
pub(crate) fn refused_connection(now: Now, peer: SocketAddr) -> WatchLine {
    let verdict = format!("{peer}: closed, too many connections are open");
    let mut line = WatchLine::new(now, "mqtt", WatchLevel::Bad, verdict);
    line.remedy = Some("find who opens them, or raise mqtt.connections_max".to_owned());
    line
}

/// What the broker noted.
pub(crate) fn broker(now: Now, note: &Note) -> WatchLine {
    let (level, verdict) = match note {
        Note::Ended { peer, name, cause } => {
            let who = if name.is_empty() { peer.to_string() } else { format!("{name} ({peer})") };
            let good = matches!(cause, CloseCause::ClientLeft { .. });
            let level = if good { WatchLevel::Good } else { WatchLevel::Note };
            (level, format!("{who}: {cause}"))
        }
        Note::NotAllowed { name, topic } => {
            (WatchLevel::Bad, format!("{name} may not publish on {topic}"))
        }
        Note::NotGranted { name, wanted, reason } => {
            (WatchLevel::Bad, format!("{name}: subscription to {wanted} refused: {reason:?}"))
        }
        Note::NotReading { name } => {
            (WatchLevel::Bad, format!("{name} does not read: messages are dropped"))
        }
        Note::BadCommand { topic, error } => (WatchLevel::Bad, format!("{topic}: {error}")),
    };
    WatchLine::new(now, "mqtt", level, verdict)
}

/// The counter and its label for a note.
pub(crate) const fn note_metric(note: &Note) -> (&'static str, &'static str) {
    match note {
        Note::Ended { cause, .. } => ("tern_mqtt_closed_total", cause.name()),
        Note::NotAllowed { .. } => ("tern_mqtt_refused_total", "not_allowed"),
        Note::NotGranted { reason, .. } => ("tern_mqtt_refused_total", reason.name()),
        Note::NotReading { .. } => ("tern_mqtt_refused_total", "slow_reader"),
        Note::BadCommand { .. } => ("tern_mqtt_refused_total", "bad_command"),
    }
}

/// How bad a `log` event is, in the event log's words.
pub(crate) const fn log_level(level: mac::LogLevel) -> store::LogLevel {
    match level {
        mac::LogLevel::Info => store::LogLevel::Info,
        mac::LogLevel::Warning => store::LogLevel::Warning,
        mac::LogLevel::Error => store::LogLevel::Error,
    }
}

/// The code of a `log` event, in the event log's words.
pub(crate) const fn log_code(code: mac::LogCode) -> store::LogCode {
    match code {
        mac::LogCode::Otaa => store::LogCode::Otaa,
        mac::LogCode::UplinkMic => store::LogCode::UplinkMic,
        mac::LogCode::UplinkFCntReset => store::LogCode::UplinkFCntReset,
        mac::LogCode::UplinkFCntRetransmission => store::LogCode::UplinkFCntRetransmission,
        mac::LogCode::DownlinkGateway => store::LogCode::DownlinkGateway,
        mac::LogCode::FCntDown => store::LogCode::FCntDown,
    }
}
