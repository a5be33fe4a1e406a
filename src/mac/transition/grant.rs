//! Downlink numbers are granted, never assigned: DESIGN section 5.
//!
//! `next` only rises, and every number below it was granted to exactly one (home, home_epoch). So
//! two homes can never put different bytes under one number, whatever either of them believes.
//!
//! How many: one, or an hour's worth where the device sends confirmed uplinks or has its ADR bit
//! set, so that its home can go on acknowledging without the log. To whom: to whoever proposes, or,
//! when the device has been [`AWAY_MAX`] uplinks away from its home's gateways, to the node that
//! hears it. Only NFCntDown is granted in ranges; AFCntDown goes singly.

use clock::WallTime;
use sabotage::Bug;

use crate::{AcceptUplink, DeviceSession, DownlinkCounter, Grant, NodeId, Traffic};

/// The least range.
const RANGE_MIN: u32 = 16;
/// The largest.
const RANGE_MAX: u32 = 256;
/// Numbers skipped since a downlink was known to be received, at which ranges end: a device below
/// 1.0.4 may refuse what is 16,384 above the last it heard.
const SKIPPED_MAX: u32 = 8_192;
/// Uplinks in a row without a copy at the home, at which the grant follows the device.
pub(super) const AWAY_MAX: u8 = 8;

const HOUR_MICROS: i64 = 3_600_000_000;

/// The grant that `home` may draw on, of up to `length` numbers.
///
/// * `cursor`: first number of its grant that the home has not used; `None` if it knows of no grant
///   (it never had one, or has forgotten): then what it held is skipped, for it may have been used.
/// * The home keeps the grant it holds: `lo` follows its cursor, and when less than half of
///   `length` is left `hi` and [`DownlinkCounter::next`] rise together, under the same epoch.
/// * Any other, and a home without cursor, gets a new grant from `next` under a higher epoch. What
///   the last one leaves is nobody's any more but the old home's, wherever that is.
/// * Returns `None` when the counter is exhausted: the device must activate anew.
pub fn grant_for(
    counter: &mut DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
    length: u32,
) -> Option<Grant> {
    let grant = match own_part(counter, home, cursor) {
        Some(held) => {
            let is_low = held.hi - held.lo < length.div_ceil(2);
            let hi = if is_low { held.lo.saturating_add(length).max(held.hi) } else { held.hi };
            Some(Grant { hi, ..held }).filter(|grant| grant.lo < grant.hi)?
        }
        None => {
            let from_lo = counter.grant.filter(|_| sabotage::planted(Bug::GrantFromLo));
            let lo = from_lo.map_or(counter.next, |held| held.lo);
            let home_epoch = counter.home_epoch.saturating_add(1);
            let hi = lo.saturating_add(length).max(counter.next);
            let grant = Grant { home, home_epoch, lo, hi };
            let grant = Some(grant).filter(|grant| grant.lo < grant.hi)?;
            abandon(counter);
            grant
        }
    };
    assert!(grant.hi >= counter.next, "what was granted stays granted");
    counter.home_epoch = grant.home_epoch;
    counter.next = grant.hi;
    counter.grant = Some(grant);
    Some(grant)
}

/// What `home` has left of the newest grant by its own word, perhaps nothing; `None` if that is
/// another's, or the home knows of none. A cursor from an earlier grant lies below this one.
pub(super) fn own_part(
    counter: &DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
) -> Option<Grant> {
    let held = counter.grant.filter(|held| held.home == home)?;
    let cursor = cursor.filter(|cursor| *cursor <= held.hi)?;
    Some(Grant { lo: held.lo.max(cursor), ..held })
}

/// Takes back what `node` holds: it has started anew and may not know what it used (dangers A9).
pub fn void_grants(session: &mut DeviceSession, node: NodeId) {
    for counter in [&mut session.n_f_cnt_down, &mut session.a_f_cnt_down] {
        if sabotage::planted(Bug::GrantGivenBack) {
            counter.next = counter.grant.map_or(counter.next, |grant| grant.lo);
        }
        if counter.grant.is_some_and(|grant| grant.home == node) {
            abandon(counter);
        }
    }
}

/// Ends the newest grant: what is left of it is skipped.
fn abandon(counter: &mut DownlinkCounter) {
    if let Some(grant) = counter.grant.take() {
        skip(counter, grant.hi - grant.lo);
    }
}

/// Ends the newest grant, and skips what lies between `next` and the given number.
pub fn raise_next(counter: &mut DownlinkCounter, next: u32) {
    abandon(counter);
    skip(counter, next.saturating_sub(counter.next));
    counter.next = counter.next.max(next);
}

/// Counts numbers that no home is known to have used.
pub(super) fn skip(counter: &mut DownlinkCounter, numbers: u32) {
    let skipped = counter.skipped.unwrap_or(0).saturating_add(numbers);
    counter.skipped = Some(skipped).filter(|skipped| *skipped > 0);
}

/// Notes that the device has received this number, as far as anybody can know: it acknowledged it,
/// or a gateway reported it as sent. What was skipped below it no longer matters.
pub(super) fn note_received(counter: &mut DownlinkCounter, number: u32) {
    let unheard = counter.grant.map_or(counter.next, |grant| grant.lo);
    let above = unheard.saturating_sub(number.saturating_add(1));
    counter.skipped = counter.skipped.map(|skipped| skipped.min(above)).filter(|many| *many > 0);
}

/// The grant made with an accepted uplink, if it is its proposer's. [`AWAY_MAX`] uplinks in a row
/// without a copy at the home give it to the node that hears the device instead.
pub(super) fn grant_with_uplink(
    session: &mut DeviceSession,
    uplink: &AcceptUplink,
    now: WallTime,
) -> Option<Grant> {
    let holder = session.n_f_cnt_down.grant.map(|grant| grant.home);
    let traffic = session.traffic.get_or_insert_default();
    traffic.count(uplink.confirmed, now);
    let heard_by = uplink.heard_by.filter(|node| *node != uplink.home);
    let is_new_home = holder.is_some_and(|holder| holder != uplink.home);
    traffic.away = match heard_by {
        None => 0,
        Some(_) if is_new_home => 1,
        Some(_) => traffic.away.saturating_add(1),
    };
    match heard_by {
        Some(node) if traffic.away >= AWAY_MAX => {
            grant_now(session, node, None, now);
            None
        }
        Some(_) | None => grant_now(session, uplink.home, uplink.cursor, now),
    }
}

/// Grants NFCntDown numbers for a downlink to be planned.
///
/// * A home that answers the very uplink with which its grant has followed the device gets one
///   number, and the grant goes on where it has gone, above that.
pub(super) fn grant_with_plan(
    session: &mut DeviceSession,
    home: NodeId,
    cursor: Option<u32>,
    now: WallTime,
) -> Option<Grant> {
    let holder = session.n_f_cnt_down.grant.map_or(home, |grant| grant.home);
    let has_moved = session.traffic.is_some_and(|traffic| traffic.away >= AWAY_MAX);
    if holder == home || !has_moved {
        return grant_now(session, home, cursor, now);
    }
    let single = grant_for(&mut session.n_f_cnt_down, home, cursor, 1);
    grant_now(session, holder, None, now);
    single
}

fn grant_now(
    session: &mut DeviceSession,
    home: NodeId,
    cursor: Option<u32>,
    now: WallTime,
) -> Option<Grant> {
    let length = grant_length(session, now);
    let grant = grant_for(&mut session.n_f_cnt_down, home, cursor, length);
    let is_scarce = is_scarce(session);
    if let Some(traffic) = &mut session.traffic {
        traffic.scarce = is_scarce;
    }
    grant
}

fn is_scarce(session: &DeviceSession) -> bool {
    session.n_f_cnt_down.skipped.is_some_and(|skipped| skipped >= SKIPPED_MAX)
}

/// Numbers in a grant made now: an hour's confirmed uplinks and one more, within bounds; one where
/// there is neither confirmed nor ADR traffic, or too many numbers were skipped.
fn grant_length(session: &DeviceSession, now: WallTime) -> u32 {
    let confirmed = session.traffic.map_or(0, |traffic| traffic.confirmed_per_hour(now));
    if is_scarce(session) || confirmed == 0 && !session.adr {
        return 1;
    }
    (u32::from(confirmed) + 1).clamp(RANGE_MIN, RANGE_MAX)
}

fn hour_of(now: WallTime) -> u32 {
    u32::try_from(now.unix_micros() / HOUR_MICROS).unwrap_or(0)
}

impl Traffic {
    fn count(&mut self, confirmed: bool, now: WallTime) {
        let hour = hour_of(now);
        if hour != self.hour {
            let is_next = self.hour.checked_add(1) == Some(hour);
            self.confirmed_before = if is_next { self.confirmed } else { 0 };
            (self.hour, self.confirmed) = (hour, 0);
        }
        self.confirmed = self.confirmed.saturating_add(confirmed.into());
    }

    /// Confirmed uplinks of this hour or the one before, whichever had more.
    fn confirmed_per_hour(&self, now: WallTime) -> u16 {
        match hour_of(now).saturating_sub(self.hour) {
            0 => self.confirmed.max(self.confirmed_before),
            1 => self.confirmed,
            _ => 0,
        }
    }
}
