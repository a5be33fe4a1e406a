//! Accepting data frames: once, whoever proposes them, and everything that follows from one.
//!
//! Each accepted frame gives an `up` row, also one without application payload (as the field's best
//! known server does; what a device was acknowledged for is thereby always in the event log). Rows
//! stand in the order log, status, ack, up. Source: DESIGN 4.4, 4.5; dangers A7, A10, B4.

use std::sync::Arc;

use clock::WallTime;
use lorawan::{MacCommand as _, UplinkMacCommand};
use mac::transition::{self, Confirmation, ItemFate};
use mac::{AcceptUplink, EventSource, RECEPTIONS_MAX, RequestId, SessionEpoch, UplinkReply};
use sabotage::Bug;

use super::device::end_flights;
use super::downlink::item_view;
use super::rows::Rows;
use super::{Applied, Change};
use crate::model::{
    Device, DeviceProfile, DeviceStatus, EarlierReplies, ItemState, QueueItem, Tags,
};
use crate::{Event, Id, LogCode, LogLevel, Reply, State, UpEvent};

/// What an accepted frame changed, for its rows.
struct Accepted {
    session_epoch: SessionEpoch,
    dev_addr: lorawan::DevAddr,
    status: Option<transition::DeviceStatus>,
    settled: Vec<Confirmation>,
    queue_changed: bool,
    session_changed: bool,
    /// Its downlink numbers are granted singly from now on.
    became_scarce: bool,
}

impl State {
    pub(super) fn accept_uplink(
        &mut self,
        request: RequestId,
        uplink: &AcceptUplink,
        applied: &mut Applied,
    ) -> Reply {
        let gone = Reply::Uplink(UplinkReply::Gone);
        let Some(device) = self.device(uplink.dev_eui) else { return gone };
        if let Some(reply) = device.reply_to(request) {
            return reply;
        }
        let Some(profile) = self.device_profiles.get(&device.device_profile_id).cloned() else {
            return gone;
        };
        if device.is_disabled {
            return gone;
        }
        // A join may end the session now. Only a personalised one is ever taken up again.
        let personalised = device.session.as_ref().is_some_and(|session| session.abp);
        if personalised && device.pending_session.is_some() {
            self.retire_sessions(uplink.dev_eui);
        }
        let now = self.time();
        let decided = self.change_device(uplink.dev_eui, |device| {
            let (reply, accepted) = accept(device, &profile, uplink, now);
            let reply = Reply::Uplink(reply);
            let final_word = accepted.is_some() || reply == Reply::Uplink(UplinkReply::Conflict);
            if final_word {
                device.answered(request, &reply);
            }
            (reply, accepted)
        });
        let Some((reply, accepted)) = decided else { return gone };
        match accepted {
            Some(accepted) => self.write_uplink(uplink, &accepted, applied),
            None if reply == Reply::Uplink(UplinkReply::Conflict) => {
                self.write_conflict(uplink, applied);
            }
            None => {}
        }
        reply
    }

    fn write_uplink(&mut self, uplink: &AcceptUplink, accepted: &Accepted, applied: &mut Applied) {
        let Some(device) = self.devices.get(&uplink.dev_eui).cloned() else { return };
        if accepted.session_changed {
            applied.changes.push(Change::Device(uplink.dev_eui));
        }
        if accepted.queue_changed {
            applied.changes.push(Change::DeviceQueue(uplink.dev_eui));
        }
        let (f_cnt, digest, time) = (uplink.f_cnt, uplink.digest, uplink.received_at);
        let source = EventSource::Uplink { session_epoch: accepted.session_epoch, f_cnt, digest };
        let mut rows = Rows::of(self, applied, &device);
        if accepted.became_scarce {
            rows.scarce_numbers();
        }
        if let Some(status) = accepted.status {
            let (margin_db, battery) = (status.margin_db, status.battery);
            rows.write(&source, time, Event::Status { margin_db, battery });
        }
        let mut ack_source = source;
        for settled in &accepted.settled {
            let acknowledged = match settled.fate {
                ItemFate::Acknowledged => true,
                ItemFate::Lost => false,
                ItemFate::Finished => continue,
            };
            let (queue_item_id, f_cnt_down) = (Id(settled.item_id), settled.f_cnt_down);
            rows.write(&ack_source, time, Event::Ack { queue_item_id, acknowledged, f_cnt_down });
            // One confirmed downlink is in flight at most; an import may have brought more.
            ack_source = rows.moment();
        }
        let up = UpEvent {
            dev_addr: accepted.dev_addr,
            adr: uplink.adr,
            dr: uplink.dr,
            f_cnt,
            f_port: uplink.f_port,
            confirmed: uplink.confirmed,
            data: uplink.data.clone(),
            receptions: uplink.receptions.iter().take(RECEPTIONS_MAX).cloned().collect(),
            frequency_hz: uplink.frequency_hz,
            modulation: uplink.modulation,
            late: false,
        };
        rows.write(&source, time, Event::Up(Box::new(up)));
    }

    fn write_conflict(&mut self, uplink: &AcceptUplink, applied: &mut Applied) {
        let Some(device) = self.devices.get(&uplink.dev_eui).cloned() else { return };
        let text = "Uplink refused: its frame-counter was used before with another content";
        let context = Tags::from([("f_cnt".to_owned(), uplink.f_cnt.to_string())]);
        let mut rows = Rows::of(self, applied, &device);
        rows.log(LogLevel::Error, LogCode::UplinkFCntReset, text, context);
    }
}

/// The frame's effect on its device; `None` beside the reply when nothing has changed.
fn accept(
    device: &mut Device,
    profile: &Arc<DeviceProfile>,
    uplink: &AcceptUplink,
    now: WallTime,
) -> (UplinkReply, Option<Accepted>) {
    let spoke = |session: &mac::DeviceSession| session.epoch == uplink.session_epoch;
    let is_current = device.session.as_ref().is_some_and(spoke);
    let activates = !is_current && device.pending_session.as_ref().is_some_and(spoke);
    let slot = if activates { &mut device.pending_session } else { &mut device.session };
    let Some(session) = slot else { return (UplinkReply::Gone, None) };
    let epoch_before = session.epoch;
    let was_scarce = is_scarce(session);
    let skip = device.skip_f_cnt_check;
    let reply = transition::accept_uplink(session, skip, device.last_home, uplink, now);
    let UplinkReply::Accepted { grant, .. } = reply else { return (reply, None) };
    // A reset is an activation like any other: above every epoch the device has had.
    let was_reset = session.epoch != epoch_before;
    if was_reset {
        device.last_epoch = SessionEpoch(device.last_epoch.0.saturating_add(1));
        session.epoch = device.last_epoch;
    }
    let session_epoch = session.epoch;
    let became_scarce = !was_scarce && is_scarce(session);
    let commands: Vec<_> =
        UplinkMacCommand::walk(&uplink.mac_commands).map_while(Result::ok).collect();
    let outcome = transition::apply_mac_answers(session, &profile.mac, &commands, now);
    let dev_addr = session.dev_addr;
    let items_before = device.queue.len();
    let mut settled = if activates {
        device.session = device.pending_session.take();
        end_flights(device, profile.flush_queue_on_activate)
    } else {
        let queue: Vec<_> = device.queue.iter().map(item_view).collect();
        transition::confirm(session, &profile.mac, &queue, uplink.ack, now)
    };
    if sabotage::planted(Bug::ConfirmedWithoutEnd) {
        let lost = settled.extract_if(.., |one| one.fate == ItemFate::Lost).collect::<Vec<_>>();
        let is_lost = |item: &&mut QueueItem| lost.iter().any(|one| one.item_id == item.id.0);
        device.queue.iter_mut().filter(is_lost).for_each(|item| item.state = ItemState::Queued);
    }
    device.queue.retain(|item| settled.iter().all(|one| one.item_id != item.id.0));
    let queue_changed = device.queue.len() != items_before;
    if device.queue.is_empty() {
        device.queue = Vec::new();
    }
    if let Some(status) = outcome.status {
        let (battery, margin_db) = (status.battery, status.margin_db);
        device.status = Some(DeviceStatus { battery, margin_db, at: now });
    }
    device.last_seen_at = device.last_seen_at.max(Some(uplink.received_at.min(now)));
    device.last_home = Some(uplink.home);
    let session_changed = activates || was_reset;
    let status = outcome.status;
    let accepted = Accepted {
        session_epoch,
        dev_addr,
        status,
        settled,
        queue_changed,
        session_changed,
        became_scarce,
    };
    (UplinkReply::Accepted { session_epoch, grant }, Some(accepted))
}

/// Whether the session's downlink numbers are granted singly because too many were skipped.
pub(super) fn is_scarce(session: &mac::DeviceSession) -> bool {
    session.traffic.is_some_and(|traffic| traffic.scarce)
}

impl Device {
    /// The answer that `request` got, if it is among the last this device was given.
    pub(super) fn reply_to(&self, request: RequestId) -> Option<Reply> {
        match &self.last_reply {
            Some((asked, reply)) if *asked == request => Some(reply.clone()),
            Some(_) | None => self.earlier_replies.as_ref()?.find(request),
        }
    }

    /// Keeps an answer for retries of its request, and of those before it the last ones of either
    /// kind: a plan in between takes no verdict away (dangers B4).
    pub(super) fn answered(&mut self, request: RequestId, reply: &Reply) {
        if let Some(before) = self.last_reply.replace((request, reply.clone())) {
            let earlier = self.earlier_replies.take();
            self.earlier_replies = EarlierReplies::with(reply, before, earlier);
        }
    }
}
