//! What a downlink shall carry: MAC requests, one queue item, FPending, and under which number.
//!
//! [`plan`] only looks: apply calls it to decide, the home calls it on its own applied state to
//! learn whether anything needs deciding at all (a bare acknowledgement needs no log). [`hand_out`]
//! is the part that changes the session, and only apply calls it.

use bytes::Bytes;
use clock::WallTime;

use super::grant::{grant_for, grant_with_plan, own_part, raise_next, skip};
use super::requests::wanted;
use crate::{
    DeviceSession, DownlinkCounter, HandedOut, MacProfile, NodeId, PendingRequest, PlanDownlink,
    PlanReply,
};

/// Numbers that may be skipped to reach the one under which an application has encrypted an item.
const ENCRYPTED_SKIP_MAX: u32 = 1_024;

/// How far a queue item has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// Waits for its turn.
    Queued,
    /// In a home's hands: an unconfirmed one is never sent anew.
    HandedOut,
    /// Sent under this number; waits for the device's acknowledgement.
    AwaitsAck {
        /// The downlink's number.
        f_cnt_down: u32,
        /// When it was handed out or sent.
        since: WallTime,
    },
}

/// A queue item as planning sees it; first in first out.
#[derive(Clone, Debug)]
pub struct QueueItem<'a> {
    /// Identifier.
    pub id: [u8; 16],
    /// 1..=223
    pub f_port: u8,
    /// Wants an acknowledgement.
    pub confirmed: bool,
    /// Plaintext, or ciphertext under `encrypted_f_cnt`.
    pub data: &'a Bytes,
    /// The application encrypted it itself, for this number.
    pub encrypted_f_cnt: Option<u32>,
    /// Not worth sending after.
    pub expires_at: Option<WallTime>,
    /// How far it has come.
    pub state: ItemState,
}

/// Why an item is dropped unsent; each is a log event of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// Larger than any window of this device carries: log code DOWNLINK_PAYLOAD_SIZE.
    TooLarge,
    /// Its time has passed: log code EXPIRED.
    Expired,
    /// Encrypted for a number that cannot be used any more, or not yet for long: log code
    /// F_CNT_DOWN.
    WrongFCnt,
}

impl DiscardReason {
    /// The text of the log event.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::TooLarge => {
                "Device queue-item discarded because it exceeds the max. payload size"
            }
            Self::Expired => "Device queue-item discarded because it has expired",
            Self::WrongFCnt => "Device queue-item discarded because its frame-counter is invalid",
        }
    }
}

/// What one downlink shall carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// MAC requests in order; `tries` counts this one.
    pub requests: Vec<PendingRequest>,
    /// The item, if one is due and fits beside the MAC commands.
    pub item: Option<HandedOut>,
    /// Items dropped on the way to it.
    pub discarded: Vec<([u8; 16], DiscardReason)>,
    /// More is queued.
    pub f_pending: bool,
}

impl Plan {
    /// Whether the log has nothing to decide: whatever goes out is a bare frame.
    #[must_use]
    pub fn decides_nothing(&self) -> bool {
        self.requests.is_empty() && self.item.is_none() && self.discarded.is_empty()
    }

    fn request_bytes(&self) -> Vec<u8> {
        self.requests.iter().flat_map(|request| request.bytes.iter().copied()).collect()
    }
}

/// Decides what a downlink carries. Pure: nothing is handed out yet.
///
/// * `queue`: the device's items, oldest first. A confirmed item in flight holds back those behind
///   it; so does, for one uplink, an item that another node was handed for its answer.
/// * `now`: the state's time.
/// * MAC commands come first: an item that fits the data rate but not beside them stays queued.
#[must_use]
pub fn plan(
    session: &DeviceSession,
    profile: &MacProfile,
    queue: &[QueueItem<'_>],
    ask: &PlanDownlink,
    now: WallTime,
) -> Plan {
    let mut plan = Plan::default();
    let max_payload = usize::from(ask.max_payload);
    if !ask.number_only {
        let space = max_payload.min(lorawan::F_OPTS_LEN_MAX);
        let space = space.saturating_sub(ask.answers_len.into());
        plan.requests = wanted(session, profile, now, space);
    }
    let mac_len = usize::from(ask.answers_len) + plan.request_bytes().len();
    let in_flight = queue.iter().any(|item| {
        matches!(item.state, ItemState::AwaitsAck { .. })
            || item.confirmed && item.state == ItemState::HandedOut
    });
    let has_one = session.item_for == Some(ask.uplink_f_cnt);
    for item in queue.iter().filter(|item| item.state == ItemState::Queued) {
        if ask.number_only || in_flight || has_one || plan.item.is_some() {
            plan.f_pending = true;
            break;
        }
        match judge(session, item, ask, now) {
            Some(reason) => plan.discarded.push((item.id, reason)),
            None if item.data.len() + mac_len > max_payload => {
                plan.f_pending = true;
                break;
            }
            None => plan.item = Some(handed_out(item)),
        }
    }
    plan
}

/// Hands out what was planned: pending requests, the interval of DevStatusReq, numbers.
///
/// * Returns the reply, and the number that the home will use if it sends the item or the frame:
///   the caller keeps it with a confirmed item.
/// * The caller removes `plan.discarded`, with a log event each, and marks `plan.item`.
pub fn hand_out(
    session: &mut DeviceSession,
    plan: &Plan,
    ask: &PlanDownlink,
    now: WallTime,
) -> (PlanReply, Option<u32>) {
    for request in &plan.requests {
        if request.cid == super::requests::CID_DEV_STATUS {
            session.status_requested_at = Some(now);
            continue;
        }
        session.pending.retain(|pending| pending.cid != request.cid);
        session.pending.push(request.clone());
    }
    if plan.item.is_some() {
        session.item_for = Some(ask.uplink_f_cnt);
    }
    let counts_apart = session.mac_version.is_1_1() && plan.item.is_some();
    let (counter, mut cursor) = if counts_apart {
        (&mut session.a_f_cnt_down, ask.a_cursor)
    } else {
        (&mut session.n_f_cnt_down, ask.cursor)
    };
    if let Some(wanted) = plan.item.as_ref().and_then(|item| item.encrypted_f_cnt) {
        cursor = move_to(counter, ask.home, cursor, wanted);
    }
    let granted = if counts_apart {
        grant_for(counter, ask.home, cursor, 1)
    } else {
        grant_with_plan(session, ask.home, cursor, now)
    };
    let number = granted.map(|grant| grant.lo);
    let reply = PlanReply::Planned {
        requests: plan.request_bytes().into(),
        item: plan.item.clone(),
        f_pending: plan.f_pending,
        grant: granted.filter(|_| !counts_apart),
        a_grant: granted.filter(|_| counts_apart),
    };
    (reply, number)
}

/// The number the home would use now: the first of its grant that is unused, else the next of all.
fn next_number(counter: &DownlinkCounter, home: NodeId, cursor: Option<u32>) -> u32 {
    own_part(counter, home, cursor).map_or(counter.next, |held| held.lo)
}

/// Makes `wanted` the home's next number: further on in its own grant, or beyond all that were
/// granted.
///
/// * Returns the home's cursor from now on.
fn move_to(
    counter: &mut DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
    wanted: u32,
) -> Option<u32> {
    match own_part(counter, home, cursor) {
        Some(held) if wanted < held.hi => {
            skip(counter, wanted.saturating_sub(held.lo));
            Some(wanted)
        }
        Some(_) | None if next_number(counter, home, cursor) == wanted => cursor,
        Some(_) | None => {
            raise_next(counter, wanted);
            None
        }
    }
}

/// Why an item can never be sent; `None` if it can.
fn judge(
    session: &DeviceSession,
    item: &QueueItem<'_>,
    ask: &PlanDownlink,
    now: WallTime,
) -> Option<DiscardReason> {
    if item.expires_at.is_some_and(|at| at <= now) {
        return Some(DiscardReason::Expired);
    }
    if item.data.len() > usize::from(ask.max_payload) {
        return Some(DiscardReason::TooLarge);
    }
    let (counter, cursor) = if session.mac_version.is_1_1() {
        (&session.a_f_cnt_down, ask.a_cursor)
    } else {
        (&session.n_f_cnt_down, ask.cursor)
    };
    let wanted = item.encrypted_f_cnt?;
    let usable = next_number(counter, ask.home, cursor);
    // A number of the home's own, or one beyond all that were granted: others are somebody else's.
    let own = own_part(counter, ask.home, cursor);
    let is_own = own.is_some_and(|held| (held.lo..held.hi).contains(&wanted));
    let reachable =
        wanted >= counter.next && wanted - counter.next <= ENCRYPTED_SKIP_MAX && wanted < u32::MAX;
    (wanted != usable && !is_own && !reachable).then_some(DiscardReason::WrongFCnt)
}

fn handed_out(item: &QueueItem<'_>) -> HandedOut {
    HandedOut {
        item_id: item.id,
        f_port: item.f_port,
        confirmed: item.confirmed,
        data: item.data.clone(),
        encrypted_f_cnt: item.encrypted_f_cnt,
    }
}
