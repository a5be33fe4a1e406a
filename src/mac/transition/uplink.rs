//! The uplink counter: compare-and-set, so that a frame is accepted once whoever proposes it.
//!
//! Source: DESIGN 4.4, LoRaWAN 1.0.4 §4.3.1.5; retransmissions and resets: facts (g).

use clock::WallTime;
use sabotage::Bug;

use super::grant::grant_with_uplink;
use crate::{
    AcceptUplink, DeviceSession, Digest, DownlinkCounter, NodeId, SessionEpoch, UplinkCounter,
    UplinkReply,
};

/// What a counter and a digest mean for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FCntVerdict {
    /// Above the last one.
    New,
    /// The device has started its counter anew, and may.
    Reset,
    /// The last frame accepted, again.
    Repeat,
    /// The last frame's counter with other bytes, or nobody knows with which.
    Conflict,
    /// Below the last one.
    TooLow {
        /// The last one.
        last: u32,
    },
    /// Too far above the last one for a device below 1.0.4.
    GapTooLarge {
        /// The last one.
        last: u32,
    },
}

/// Judges `f_cnt` and `digest` against the session's last frame.
///
/// * `skip_f_cnt_check`: the device may start its counter anew: a counter that is not above the
///   last one, with another digest than the recorded one or none recorded, is a reset.
#[must_use]
pub fn classify(
    session: &DeviceSession,
    skip_f_cnt_check: bool,
    f_cnt: u32,
    digest: Digest,
) -> FCntVerdict {
    let Some(last) = session.uplink.last else { return FCntVerdict::New };
    if sabotage::planted(Bug::ReplayWindow) && f_cnt < last && last - f_cnt <= 16 {
        return FCntVerdict::New;
    }
    if f_cnt > last {
        let gap_max = session.mac_version.f_cnt_gap_max().unwrap_or(u32::MAX);
        let within = skip_f_cnt_check || f_cnt - last <= gap_max;
        return if within { FCntVerdict::New } else { FCntVerdict::GapTooLarge { last } };
    }
    if f_cnt == last && session.uplink.digest == Some(digest) {
        if sabotage::planted(Bug::DedupOff) {
            return FCntVerdict::New;
        }
        return FCntVerdict::Repeat;
    }
    match (skip_f_cnt_check, f_cnt == last) {
        (true, _) => FCntVerdict::Reset,
        (false, true) => FCntVerdict::Conflict,
        (false, false) => FCntVerdict::TooLow { last },
    }
}

/// Accepts a frame or says why not. On acceptance: counter, data rate, ADR bit and grant move; a
/// reset raises the epoch and keeps keys and downlink numbers (dangers A7).
///
/// * `last_home`: who accepted the device's last frame, the winner of a duplicate.
/// * `now`: the state's time.
/// * The grant in the reply is the proposer's, or none: after 8 uplinks in a row that only other
///   nodes' gateways heard, the numbers go to the node that heard this one best.
/// * Call it on the session of `uplink.session_epoch` or, after a reset of that one, its successor.
///   The caller then applies MAC answers and acknowledgements, and writes the event under the epoch
///   in the reply.
pub fn accept_uplink(
    session: &mut DeviceSession,
    skip_f_cnt_check: bool,
    last_home: Option<NodeId>,
    uplink: &AcceptUplink,
    now: WallTime,
) -> UplinkReply {
    let is_last =
        session.uplink.last == Some(uplink.f_cnt) && session.uplink.digest == Some(uplink.digest);
    if session.epoch != uplink.session_epoch && !is_last {
        return UplinkReply::Gone;
    }
    match classify(session, skip_f_cnt_check, uplink.f_cnt, uplink.digest) {
        FCntVerdict::New => {}
        FCntVerdict::Reset => {
            session.epoch = SessionEpoch(session.epoch.0.saturating_add(1));
            session.item_for = None;
            if sabotage::planted(Bug::ResetRestartsDownlinks) {
                session.n_f_cnt_down = DownlinkCounter::default();
            }
        }
        FCntVerdict::Repeat => {
            return UplinkReply::Duplicate { winner: last_home.unwrap_or(uplink.home) };
        }
        FCntVerdict::Conflict => return UplinkReply::Conflict,
        FCntVerdict::TooLow { last } => return UplinkReply::FCntTooLow { last },
        FCntVerdict::GapTooLarge { last } => return UplinkReply::FCntGapTooLarge { last },
    }
    session.uplink =
        UplinkCounter { last: Some(uplink.f_cnt), digest: Some(uplink.digest), at: Some(now) };
    session.dr = uplink.dr;
    session.adr = uplink.adr;
    let grant = grant_with_uplink(session, uplink, now);
    UplinkReply::Accepted { session_epoch: session.epoch, grant }
}
