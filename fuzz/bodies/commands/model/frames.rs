//! Frames: accepted once, numbers granted once, items handed out once; and the rows they leave.

use std::sync::Arc;

use clock::{Duration, WallTime};
use lorawan::{DevEui, DevNonce, JoinNonce, MacCommand as _, TxStatus, UplinkMacCommand};
use mac::transition::activate_join;
use mac::{
    AcceptJoin, AcceptUplink, DeviceSession, HandedOut, JoinReply, PlanDownlink, PlanReply,
    RecordTxAck, RequestId, SessionEpoch, UplinkCounter, UplinkReply,
};
use store::model::{Device, DeviceStatus, ItemState, QueueItem, Tags, UsedNonces};
use store::{DeviceInfo, Event, EventRow, Id, LogCode, LogLevel, Reply, TxAckEvent, UpEvent};

use super::Model;
use super::activation::end_flights;
use super::grants::{
    counter_of, grant, grant_with_plan, grant_with_uplink, jump, received, remainder,
    tells_scarcity, usable,
};

/// Numbers that may be skipped for an item that its application has encrypted.
const SKIP_MAX: u32 = 1_024;
/// The last JoinNonce of 24 bits.
const JOIN_NONCE_MAX: u32 = 0xFF_FFFF;

impl Model {
    pub(super) fn accept_uplink(
        &mut self,
        request: RequestId,
        uplink: &AcceptUplink,
        given: &Reply,
    ) -> Reply {
        if let Some(first) = self.frame_answer(uplink.dev_eui, request) {
            return first;
        }
        let reply = self.judge_uplink(uplink);
        let final_word = matches!(reply, UplinkReply::Accepted { .. } | UplinkReply::Conflict);
        if final_word {
            self.remember(uplink.dev_eui, request, given);
        }
        if reply == UplinkReply::Conflict {
            self.tell_log(uplink.dev_eui, LogCode::UplinkFCntReset);
        }
        Reply::Uplink(reply)
    }

    /// A counter above the last one is new, the same with the same bytes a repeat, all else is not
    /// taken, unless the device may start anew: then it begins an epoch.
    fn judge_uplink(&mut self, uplink: &AcceptUplink) -> UplinkReply {
        let device = self.devices.get(&uplink.dev_eui).filter(|device| !device.is_disabled);
        let Some(device) = device else { return UplinkReply::Gone };
        let has_epoch = |session: &&DeviceSession| session.epoch == uplink.session_epoch;
        let pending = device.pending_session.as_ref().filter(has_epoch);
        let Some(session) = pending.or(device.session.as_ref()) else { return UplinkReply::Gone };
        let counter = session.uplink;
        let repeats = counter.last == Some(uplink.f_cnt) && counter.digest == Some(uplink.digest);
        if repeats {
            let winner = device.last_home.unwrap_or(uplink.home);
            return UplinkReply::Duplicate { winner };
        }
        if session.epoch != uplink.session_epoch {
            return UplinkReply::Gone;
        }
        let skips = device.skip_f_cnt_check;
        let is_new = counter.last.is_none_or(|last| uplink.f_cnt > last);
        if let Some(last) = counter.last.filter(|_| !skips) {
            let gap_max = session.mac_version.f_cnt_gap_max();
            if uplink.f_cnt < last {
                return UplinkReply::FCntTooLow { last };
            }
            if uplink.f_cnt == last {
                return UplinkReply::Conflict;
            }
            if gap_max.is_some_and(|gap_max| uplink.f_cnt - last > gap_max) {
                return UplinkReply::FCntGapTooLarge { last };
            }
        }
        let activates = pending.is_some();
        self.take_uplink(uplink, activates, !is_new)
    }

    fn take_uplink(
        &mut self,
        uplink: &AcceptUplink,
        activates: bool,
        is_reset: bool,
    ) -> UplinkReply {
        let (now, dev_eui) = (self.now, uplink.dev_eui);
        let flush = self.flushes_on_activation(dev_eui);
        let timeout = self.confirmed_timeout(dev_eui);
        let old = self.devices[&dev_eui].session.as_ref();
        if activates && old.is_some_and(|old| old.abp) {
            self.note_reached(dev_eui);
        }
        let device = self.devices.get_mut(&dev_eui).expect("judged before");
        if is_reset {
            device.last_epoch = SessionEpoch(device.last_epoch.0 + 1);
        }
        let (last_epoch, mut session) = match activates {
            true => (device.last_epoch, device.pending_session.take()),
            false => (device.last_epoch, device.session.take()),
        };
        let session = session.as_mut().expect("judged before");
        if is_reset {
            (session.epoch, session.item_for) = (last_epoch, None);
        }
        let session_epoch = session.epoch;
        let (last, digest, at) = (Some(uplink.f_cnt), Some(uplink.digest), Some(now));
        session.uplink = UplinkCounter { last, digest, at };
        (session.dr, session.adr) = (uplink.dr, uplink.adr);
        let was_scarce = tells_scarcity(session);
        let grant = grant_with_uplink(session, uplink, now);
        let settled = if activates {
            end_flights(device, flush).into_iter().map(|(id, number)| (id, number, false)).collect()
        } else {
            settle(device, session, uplink.ack, timeout, now)
        };
        let dev_addr = session.dev_addr;
        device.session = Some(session.clone());
        let status = status_of(&uplink.mac_commands);
        if let Some((battery, margin_db)) = status {
            device.status = Some(DeviceStatus { battery, margin_db, at: now });
        }
        device.last_seen_at = device.last_seen_at.max(Some(uplink.received_at.min(now)));
        device.last_home = Some(uplink.home);
        let time = uplink.received_at;
        self.tell_scarcity(dev_eui, was_scarce);
        if let Some((battery, margin_db)) = status {
            self.tell(dev_eui, time, Event::Status { margin_db, battery });
        }
        for (queue_item_id, f_cnt_down, acknowledged) in settled {
            self.tell(dev_eui, time, Event::Ack { queue_item_id, acknowledged, f_cnt_down });
        }
        let up = UpEvent {
            dev_addr,
            adr: uplink.adr,
            dr: uplink.dr,
            f_cnt: uplink.f_cnt,
            f_port: uplink.f_port,
            confirmed: uplink.confirmed,
            data: uplink.data.clone(),
            receptions: uplink.receptions.iter().take(mac::RECEPTIONS_MAX).cloned().collect(),
            frequency_hz: uplink.frequency_hz,
            modulation: uplink.modulation,
            late: false,
        };
        self.tell(dev_eui, time, Event::Up(Box::new(up)));
        UplinkReply::Accepted { session_epoch, grant }
    }

    fn confirmed_timeout(&self, dev_eui: DevEui) -> Duration {
        let device = self.devices.get(&dev_eui);
        let profile = device.and_then(|device| self.profiles.get(&device.device_profile_id));
        let seconds = profile.map_or(0, |profile| profile.mac.confirmed_timeout_s);
        Duration::from_secs(seconds.into())
    }

    pub(super) fn accept_join(
        &mut self,
        request: RequestId,
        join: &AcceptJoin,
        given: &Reply,
    ) -> Reply {
        if let Some(first) = self.frame_answer(join.dev_eui, request) {
            return first;
        }
        let reply = self.judge_join(join);
        if matches!(reply, JoinReply::Accepted { .. }) {
            self.remember(join.dev_eui, request, given);
            self.tell(join.dev_eui, join.received_at, Event::Join { dev_addr: join.dev_addr });
        }
        Reply::Join(reply)
    }

    /// A DevNonce counts once (from 1.0.4 on it must rise), a JoinNonce goes to one join.
    fn judge_join(&mut self, join: &AcceptJoin) -> JoinReply {
        let now = self.now;
        let Some(device) = self.devices.get_mut(&join.dev_eui) else { return JoinReply::Gone };
        let profile = &self.profiles[&device.device_profile_id].mac;
        let names_us = device.join_eui.is_none_or(|ours| ours == join.join_eui);
        if device.is_disabled || !profile.supports_otaa || !names_us {
            return JoinReply::Gone;
        }
        let Some(keys) = &mut device.keys else { return JoinReply::Gone };
        let mut used: Vec<DevNonce> = keys.nonces_of(join.join_eui).to_vec();
        let rises = profile.mac_version.dev_nonce_rises();
        let (known, passed) =
            (used.contains(&join.dev_nonce), used.iter().any(|nonce| nonce.0 > join.dev_nonce.0));
        if known || rises && passed {
            return JoinReply::DevNonceUsed;
        }
        let next = keys.next_join_nonce;
        if join.expected_join_nonce != next {
            return JoinReply::JoinNonceMoved { next };
        }
        let session_epoch = SessionEpoch(device.last_epoch.0 + 1);
        let session = activate_join(join, profile, session_epoch).ok();
        let Some(session) = session.filter(|_| next.0 <= JOIN_NONCE_MAX) else {
            return JoinReply::Gone;
        };
        used.retain(|_| !rises);
        used.push(join.dev_nonce);
        used.sort();
        keys.dev_nonces.retain(|other| other.join_eui != join.join_eui);
        keys.dev_nonces.push(UsedNonces { join_eui: join.join_eui, nonces: used });
        keys.dev_nonces.sort_by_key(|used| used.join_eui);
        keys.next_join_nonce = JoinNonce(next.0 + 1);
        device.last_epoch = session_epoch;
        device.pending_session = Some(session);
        device.last_seen_at = device.last_seen_at.max(Some(join.received_at.min(now)));
        JoinReply::Accepted { session_epoch }
    }

    pub(super) fn plan_downlink(
        &mut self,
        request: RequestId,
        ask: &PlanDownlink,
        given: &Reply,
    ) -> Reply {
        if let Some(first) = self.frame_answer(ask.dev_eui, request) {
            return first;
        }
        let (now, requests) = (self.now, requests_of(given));
        let device = self.devices.get_mut(&ask.dev_eui).filter(|device| !device.is_disabled);
        let Some(device) = device else { return Reply::Plan(PlanReply::Gone) };
        let session = device.session.as_mut().filter(|one| one.epoch == ask.session_epoch);
        let Some(session) = session else { return Reply::Plan(PlanReply::Gone) };
        let queue = &mut device.queue;
        let choice = choose(session, queue, ask, requests.len(), now);
        queue.retain(|item| choice.dropped.iter().all(|(id, _)| *id != item.id));
        let counts_apart = session.mac_version.is_1_1() && choice.item.is_some();
        let was_scarce = tells_scarcity(session);
        let (counter, mut cursor) = match counts_apart {
            true => (&mut session.a_f_cnt_down, ask.a_cursor),
            false => (&mut session.n_f_cnt_down, ask.cursor),
        };
        let encrypted = choice.item.as_ref().and_then(|item| item.encrypted_f_cnt);
        if let Some(wanted) = encrypted {
            cursor = jump(counter, ask.home, cursor, wanted);
        }
        let granted = match counts_apart {
            true => grant(counter, ask.home, cursor, 1),
            false => grant_with_plan(session, ask.home, cursor, now),
        };
        let number = granted.map(|grant| grant.lo);
        if let Some(chosen) = &choice.item {
            session.item_for = Some(ask.uplink_f_cnt);
            let item = queue.iter_mut().find(|item| item.id.0 == chosen.item_id).expect("chosen");
            item.state = match number {
                Some(f_cnt_down) if item.confirmed => {
                    ItemState::AwaitsAck { f_cnt_down, since: now }
                }
                _ => ItemState::HandedOut,
            };
        }
        self.remember(ask.dev_eui, request, given);
        for (_, code) in choice.dropped {
            self.tell_log(ask.dev_eui, code);
        }
        self.tell_scarcity(ask.dev_eui, was_scarce);
        Reply::Plan(PlanReply::Planned {
            requests,
            item: choice.item,
            f_pending: choice.more,
            grant: granted.filter(|_| !counts_apart),
            a_grant: granted.filter(|_| counts_apart),
        })
    }

    /// A report moves the counter that people see, once; it ends an item that was refused, or that
    /// nobody will acknowledge.
    pub(super) fn record_tx_ack(&mut self, record: &RecordTxAck) -> Reply {
        let now = self.now;
        let Some(device) = self.devices.get_mut(&record.dev_eui) else { return Reply::Done };
        let session = device.session.as_mut().filter(|one| one.epoch == record.session_epoch);
        let Some(session) = session else { return Reply::Done };
        let counter = counter_of(session, record);
        let sent = record.status == Some(TxStatus::Ok);
        if sent {
            received(counter, record.f_cnt_down);
        }
        let reported = record.f_cnt_down.saturating_add(1);
        let is_first = sent && reported > counter.reported;
        if is_first {
            counter.reported = reported;
        }
        let refused = !sent && record.status.is_some();
        let at = device.queue.iter().position(|item| {
            let in_hand = match item.state {
                ItemState::Queued => false,
                ItemState::HandedOut => true,
                ItemState::AwaitsAck { f_cnt_down, .. } => f_cnt_down == record.f_cnt_down,
            };
            in_hand && Some(item.id.0) == record.item_id && (refused || !item.confirmed)
        });
        let ended = at.map(|at| device.queue.remove(at));
        if let Some(item_id) = record.item_id.filter(|_| is_first) {
            self.tell(record.dev_eui, now, Event::TxAck(tx_ack_event(record, item_id)));
        }
        if let Some(item) = ended.filter(|_| !sent) {
            self.tell_log(record.dev_eui, LogCode::DownlinkGateway);
            if item.confirmed {
                let (queue_item_id, f_cnt_down) = (item.id, record.f_cnt_down);
                let event = Event::Ack { queue_item_id, acknowledged: false, f_cnt_down };
                self.tell(record.dev_eui, now, event);
            }
        }
        Reply::Done
    }

    fn tell_log(&mut self, dev_eui: DevEui, code: LogCode) {
        let (description, context) = (String::new(), Tags::new());
        let event = Event::Log { level: LogLevel::Error, code, description, context };
        self.tell(dev_eui, self.now, event);
    }

    /// Writes a row, with names and tags as they are now, and puts it into the queues.
    pub(super) fn tell(&mut self, dev_eui: DevEui, time: WallTime, event: Event) {
        self.row_count += 1;
        let device = Arc::new(self.info(&self.devices[&dev_eui]));
        let row = EventRow { sequence: self.row_count, id: Id::default(), time, device, event };
        self.queue_row(&row);
        self.rows.push(row);
    }

    fn info(&self, device: &Device) -> DeviceInfo {
        let application = &self.applications[&device.application_id];
        let profile = &self.profiles[&device.device_profile_id];
        let tenant = &self.tenants[&application.tenant_id];
        let mut tags = application.tags.clone();
        tags.extend(profile.tags.clone());
        tags.extend(device.tags.clone());
        DeviceInfo {
            tenant_id: tenant.id,
            tenant_name: tenant.name.clone(),
            application_id: application.id,
            application_name: application.name.clone(),
            device_profile_id: profile.id,
            device_profile_name: profile.name.clone(),
            device_name: device.name.clone(),
            dev_eui: device.dev_eui,
            tags,
            region: profile.mac.region.to_lowercase(),
        }
    }
}

/// What a device says of itself, the last word counting.
fn status_of(mac_commands: &[u8]) -> Option<(u8, i8)> {
    let commands = UplinkMacCommand::walk(mac_commands).map_while(Result::ok);
    let told = commands.filter_map(|command| match command {
        UplinkMacCommand::DevStatusAns { battery, margin_db } => Some((battery, margin_db)),
        _ => None,
    });
    told.last()
}

fn requests_of(given: &Reply) -> bytes::Bytes {
    match given {
        Reply::Plan(PlanReply::Planned { requests, .. }) => requests.clone(),
        _ => bytes::Bytes::new(),
    }
}

/// What an uplink in the same session means for what was in flight.
fn settle(
    device: &mut Device,
    session: &mut DeviceSession,
    ack: bool,
    timeout: Duration,
    now: WallTime,
) -> Vec<(Id, u32, bool)> {
    // A home that never reported used the number before the one it may use next.
    let counter = session.n_f_cnt_down;
    let before = counter.grant.map_or(counter.next, |grant| grant.lo).saturating_sub(1);
    let mut told = Vec::new();
    device.queue.retain(|item| {
        let number = match item.state {
            ItemState::Queued => return true,
            ItemState::HandedOut if !item.confirmed => return false,
            ItemState::HandedOut => before,
            ItemState::AwaitsAck { since, .. } if !ack && now.since(since) < timeout => {
                return true;
            }
            ItemState::AwaitsAck { f_cnt_down, .. } => f_cnt_down,
        };
        if ack {
            match session.mac_version.is_1_1() {
                true => received(&mut session.a_f_cnt_down, number),
                false => received(&mut session.n_f_cnt_down, number),
            }
        }
        told.push((item.id, number, ack));
        false
    });
    told
}

/// What a downlink carries.
#[derive(Default)]
struct Choice {
    item: Option<HandedOut>,
    dropped: Vec<(Id, LogCode)>,
    more: bool,
}

/// First in, first out: the oldest item goes if nothing confirmed is in flight and it fits; what
/// can never go is dropped.
fn choose(
    session: &DeviceSession,
    queue: &[QueueItem],
    ask: &PlanDownlink,
    requests_len: usize,
    now: WallTime,
) -> Choice {
    let mut choice = Choice::default();
    let in_flight = |item: &QueueItem| match item.state {
        ItemState::Queued => false,
        ItemState::HandedOut => item.confirmed,
        ItemState::AwaitsAck { .. } => true,
    };
    let has_one = session.item_for == Some(ask.uplink_f_cnt);
    let busy = ask.number_only || has_one || queue.iter().any(in_flight);
    let space = usize::from(ask.max_payload);
    let mac_len = usize::from(ask.answers_len) + requests_len;
    for item in queue.iter().filter(|item| item.state == ItemState::Queued) {
        if busy || choice.item.is_some() {
            choice.more = true;
            break;
        }
        if item.expires_at.is_some_and(|at| at <= now) {
            choice.dropped.push((item.id, LogCode::Expired));
        } else if item.data.len() > space {
            choice.dropped.push((item.id, LogCode::DownlinkPayloadSize));
        } else if item.encrypted_f_cnt.is_some_and(|wanted| !can_number(session, ask, wanted)) {
            choice.dropped.push((item.id, LogCode::FCntDown));
        } else if item.data.len() + mac_len > space {
            choice.more = true;
            break;
        } else {
            choice.item = Some(HandedOut {
                item_id: item.id.0,
                f_port: item.f_port,
                confirmed: item.confirmed,
                data: item.data.clone(),
                encrypted_f_cnt: item.encrypted_f_cnt,
            });
        }
    }
    choice
}

/// Whether a downlink can bear the number that an application encrypted for: the one in hand, or
/// one a little above all that were granted.
fn can_number(session: &DeviceSession, ask: &PlanDownlink, wanted: u32) -> bool {
    let (counter, cursor) = match session.mac_version.is_1_1() {
        true => (&session.a_f_cnt_down, ask.a_cursor),
        false => (&session.n_f_cnt_down, ask.cursor),
    };
    let above = wanted.checked_sub(counter.next);
    let reachable = above.is_some_and(|skipped| skipped <= SKIP_MAX) && wanted < u32::MAX;
    let own = remainder(counter, ask.home, cursor);
    let is_own = own.is_some_and(|own| own.lo <= wanted && wanted < own.hi);
    reachable || is_own || wanted == usable(counter, ask.home, cursor)
}

fn tx_ack_event(record: &RecordTxAck, item_id: [u8; 16]) -> TxAckEvent {
    TxAckEvent {
        downlink_id: record.downlink_id,
        queue_item_id: Some(Id(item_id)),
        f_cnt_down: record.f_cnt_down,
        gateway: record.gateway,
        frequency_hz: record.frequency_hz,
        eirp_dbm: record.eirp_dbm,
        modulation: record.modulation,
        delay_s: record.delay_s,
    }
}
