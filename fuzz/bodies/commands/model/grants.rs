//! Downlink numbers: how many are granted, to whom, and how many nobody is known to have used.

use clock::WallTime;
use lorawan::DevEui;
use mac::{
    AcceptUplink, DeviceSession, DownlinkCounter, Grant, NodeId, RecordTxAck, RequestId, Traffic,
};
use store::model::Tags;
use store::{Event, LogCode, LogLevel, Reply};

use super::Model;

/// Skipped numbers at which they are granted one by one.
const SCARCE: u32 = 8_192;
/// Uplinks without a copy at home after which the grant moves.
const FAR: u8 = 8;
/// Answers of a kind that are kept for retries.
const KEPT: usize = 2;

impl Model {
    /// The first answer to a question, if it is among the last that the device was given.
    pub(super) fn frame_answer(&self, dev_eui: DevEui, request: RequestId) -> Option<Reply> {
        let last = self.devices.get(&dev_eui)?.last_reply.iter();
        let earlier = self.earlier.get(&dev_eui).into_iter().flatten();
        let mut all = last.chain(earlier);
        all.find(|(asked, _)| *asked == request).map(|(_, reply)| reply.clone())
    }

    /// Two verdicts and two plans are remembered, the newest.
    pub(super) fn remember(&mut self, dev_eui: DevEui, request: RequestId, given: &Reply) {
        let Some(device) = self.devices.get_mut(&dev_eui) else { return };
        let before = device.last_reply.replace((request, given.clone()));
        let earlier = self.earlier.entry(dev_eui).or_default();
        before.into_iter().for_each(|before| earlier.insert(0, before));
        let is_plan = |reply: &Reply| matches!(reply, Reply::Plan(_));
        let mut kept = [is_plan(given)].to_vec();
        earlier.retain(|(_, reply)| {
            let of_kind = kept.iter().filter(|kind| **kind == is_plan(reply)).count();
            kept.push(is_plan(reply));
            of_kind < KEPT
        });
    }

    /// Says so when numbers have become scarce.
    pub(super) fn tell_scarcity(&mut self, dev_eui: DevEui, was_scarce: bool) {
        let session = self.devices.get(&dev_eui).and_then(|device| device.session.as_ref());
        if !was_scarce && session.is_some_and(tells_scarcity) {
            let (level, code) = (LogLevel::Warning, LogCode::FCntDown);
            let (description, context) = (String::new(), Tags::new());
            let event = Event::Log { level, code, description, context };
            self.tell(dev_eui, self.now, event);
        }
    }
}

/// Whether the session is known to be short of numbers.
pub(super) fn tells_scarcity(session: &DeviceSession) -> bool {
    session.traffic.is_some_and(|traffic| traffic.scarce)
}

/// Counts an accepted uplink and grants: to the home, or where the device has gone to.
pub(super) fn grant_with_uplink(
    session: &mut DeviceSession,
    uplink: &AcceptUplink,
    now: WallTime,
) -> Option<Grant> {
    let old = session.traffic.unwrap_or_default();
    let hour = hour_of(now);
    let confirmed = u16::from(uplink.confirmed);
    let mut traffic = match hour - old.hour {
        0 => Traffic { confirmed: old.confirmed.saturating_add(confirmed), ..old },
        1 => Traffic { hour, confirmed, confirmed_before: old.confirmed, ..old },
        _ => Traffic { hour, confirmed, confirmed_before: 0, ..old },
    };
    let holder = session.n_f_cnt_down.grant.map_or(uplink.home, |grant| grant.home);
    let elsewhere = uplink.heard_by.filter(|node| *node != uplink.home);
    let before = if holder == uplink.home { old.away } else { 0 };
    traffic.away = elsewhere.map_or(0, |_| before.saturating_add(1));
    session.traffic = Some(traffic);
    match elsewhere.filter(|_| traffic.away >= FAR) {
        Some(node) => {
            grant_many(session, node, None, now);
            None
        }
        None => grant_many(session, uplink.home, uplink.cursor, now),
    }
}

/// Grants for a downlink: one number beside, where the grant has just left the asker.
pub(super) fn grant_with_plan(
    session: &mut DeviceSession,
    home: NodeId,
    cursor: Option<u32>,
    now: WallTime,
) -> Option<Grant> {
    let has_left = session.traffic.is_some_and(|traffic| traffic.away >= FAR);
    match session.n_f_cnt_down.grant.filter(|grant| has_left && grant.home != home) {
        Some(elsewhere) => {
            let one = grant(&mut session.n_f_cnt_down, home, cursor, 1);
            grant_many(session, elsewhere.home, None, now);
            one
        }
        None => grant_many(session, home, cursor, now),
    }
}

fn grant_many(
    session: &mut DeviceSession,
    home: NodeId,
    cursor: Option<u32>,
    now: WallTime,
) -> Option<Grant> {
    let is_scarce = |session: &DeviceSession| session.n_f_cnt_down.skipped.unwrap_or(0) >= SCARCE;
    let traffic = session.traffic.unwrap_or_default();
    let confirmed = match hour_of(now) - traffic.hour {
        0 => traffic.confirmed.max(traffic.confirmed_before),
        1 => traffic.confirmed,
        _ => 0,
    };
    let length = match session.adr || confirmed > 0 {
        true if !is_scarce(session) => u32::from(confirmed + 1).clamp(16, 256),
        _ => 1,
    };
    let granted = grant(&mut session.n_f_cnt_down, home, cursor, length);
    let scarce = is_scarce(session);
    session.traffic = session.traffic.map(|traffic| Traffic { scarce, ..traffic });
    granted
}

/// A home keeps what it has not used, and more when that is less than half; all else begins with
/// the next number of all, and what is left of the last grant is skipped.
pub(super) fn grant(
    counter: &mut DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
    length: u32,
) -> Option<Grant> {
    let own = remainder(counter, home, cursor);
    let lo = own.map_or(counter.next, |own| own.lo);
    let wanted = lo.saturating_add(length);
    let hi = match own {
        Some(own) if 2 * u64::from(own.hi - lo) >= u64::from(length) => own.hi,
        _ => wanted,
    };
    if lo == hi {
        return None;
    }
    if own.is_none() {
        let left = counter.grant.map_or(0, |left| left.hi - left.lo);
        skip(counter, left);
        counter.home_epoch += 1;
    }
    counter.next = hi;
    counter.grant = Some(Grant { home, home_epoch: counter.home_epoch, lo, hi });
    counter.grant
}

/// What a home has left of the newest grant.
pub(super) fn remainder(
    counter: &DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
) -> Option<Grant> {
    let held = counter.grant.filter(|held| held.home == home)?;
    let cursor = cursor.filter(|cursor| *cursor <= held.hi)?;
    Some(Grant { lo: held.lo.max(cursor), ..held })
}

/// The number that a home would use: the first of its grant that is unused, else the next of all.
pub(super) fn usable(counter: &DownlinkCounter, home: NodeId, cursor: Option<u32>) -> u32 {
    remainder(counter, home, cursor).map_or(counter.next, |own| own.lo)
}

/// Makes an encrypted item's number the home's next one.
///
/// * Returns the cursor from then on.
pub(super) fn jump(
    counter: &mut DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
    wanted: u32,
) -> Option<u32> {
    if usable(counter, home, cursor) == wanted {
        return cursor;
    }
    if let Some(own) = remainder(counter, home, cursor).filter(|own| wanted < own.hi) {
        skip(counter, wanted - own.lo);
        return Some(wanted);
    }
    end_grant(counter);
    skip(counter, wanted - counter.next);
    counter.next = wanted;
    None
}

/// Nobody holds the newest grant any more.
pub(super) fn end_grant(counter: &mut DownlinkCounter) {
    if let Some(grant) = counter.grant.take() {
        skip(counter, grant.hi - grant.lo);
    }
}

/// Counts numbers that nobody is known to have used.
pub(super) fn skip(counter: &mut DownlinkCounter, numbers: u32) {
    let skipped = counter.skipped.unwrap_or(0).saturating_add(numbers);
    counter.skipped = (skipped > 0).then_some(skipped);
}

/// The device has this number: what was skipped below it is past.
pub(super) fn received(counter: &mut DownlinkCounter, number: u32) {
    let first = counter.grant.map_or(counter.next, |grant| grant.lo);
    let above = first.saturating_sub(number.saturating_add(1));
    let skipped = counter.skipped.unwrap_or(0).min(above);
    counter.skipped = (skipped > 0).then_some(skipped);
}

/// The counter that a report is about.
pub(super) fn counter_of<'a>(
    session: &'a mut DeviceSession,
    record: &RecordTxAck,
) -> &'a mut DownlinkCounter {
    match record.a_counter {
        true => &mut session.a_f_cnt_down,
        false => &mut session.n_f_cnt_down,
    }
}

fn hour_of(now: WallTime) -> u32 {
    u32::try_from(now.unix_micros() / 3_600_000_000).unwrap_or(0)
}
