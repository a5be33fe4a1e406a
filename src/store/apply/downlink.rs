//! Handing out what a downlink carries, and recording what became of it.
//!
//! A confirmed item is kept under the number it was handed out for until the device's next uplink
//! settles it; an unconfirmed one until its TX_ACK or the next uplink; it is never handed out
//! again. Source: DESIGN 4.6 to 4.8; S8.

use lorawan::TxStatus;
use mac::transition::{self, DiscardReason, Plan};
use mac::{EventSource, PlanDownlink, PlanReply, RecordTxAck, RequestId};
use sabotage::Bug;

use super::rows::Rows;
use super::uplink::is_scarce;
use super::{Applied, Change};
use crate::model::{Device, ItemState, QueueItem, Tags};
use crate::{Event, Id, LogCode, LogLevel, Reply, State, TxAckEvent};

/// A queue item as `mac` sees it.
pub(super) fn item_view(item: &QueueItem) -> transition::QueueItem<'_> {
    let state = match item.state {
        ItemState::Queued => transition::ItemState::Queued,
        ItemState::HandedOut => transition::ItemState::HandedOut,
        ItemState::AwaitsAck { f_cnt_down, since } => {
            transition::ItemState::AwaitsAck { f_cnt_down, since }
        }
    };
    transition::QueueItem {
        id: item.id.0,
        f_port: item.f_port,
        confirmed: item.confirmed,
        data: &item.data,
        encrypted_f_cnt: item.encrypted_f_cnt,
        expires_at: item.expires_at,
        state,
    }
}

impl Device {
    /// The queue as `mac`'s transitions take it.
    pub fn queue_view(&self) -> Vec<transition::QueueItem<'_>> {
        self.queue.iter().map(item_view).collect()
    }
}

/// What became of a queue item whose downlink was reported.
struct Outcome {
    /// First report of this number as sent.
    sent: bool,
    /// The item was in the queue and has left it unsent.
    failed: Option<QueueItem>,
    queue_changed: bool,
}

impl State {
    pub(super) fn plan_downlink(
        &mut self,
        request: RequestId,
        ask: &PlanDownlink,
        applied: &mut Applied,
    ) -> Reply {
        let gone = Reply::Plan(PlanReply::Gone);
        let Some(device) = self.device(ask.dev_eui) else { return gone };
        if let Some(reply) = device.reply_to(request) {
            return reply;
        }
        let Some(profile) = self.device_profiles.get(&device.device_profile_id).cloned() else {
            return gone;
        };
        let fits = device.session.as_ref().is_some_and(|one| one.epoch == ask.session_epoch);
        if device.is_disabled || !fits {
            return gone;
        }
        let now = self.time();
        let planned = self.change_device(ask.dev_eui, |device| {
            let queue: Vec<_> = device.queue.iter().map(item_view).collect();
            let session = device.session.as_mut()?;
            let was_scarce = is_scarce(session);
            let plan = transition::plan(session, &profile.mac, &queue, ask, now);
            let (reply, number) = transition::hand_out(session, &plan, ask, now);
            let became_scarce = !was_scarce && is_scarce(session);
            drop(queue);
            mark(&mut device.queue, &plan, number, now);
            let reply = Reply::Plan(reply);
            device.answered(request, &reply);
            Some((reply, plan, became_scarce))
        });
        let Some((reply, plan, became_scarce)) = planned.flatten() else { return gone };
        if plan.item.is_some() || !plan.discarded.is_empty() {
            applied.changes.push(Change::DeviceQueue(ask.dev_eui));
        }
        self.write_discarded(ask, &plan, applied);
        if became_scarce && let Some(device) = self.devices.get(&ask.dev_eui).cloned() {
            Rows::of(self, applied, &device).scarce_numbers();
        }
        reply
    }

    fn write_discarded(&mut self, ask: &PlanDownlink, plan: &Plan, applied: &mut Applied) {
        if plan.discarded.is_empty() {
            return;
        }
        let Some(device) = self.devices.get(&ask.dev_eui).cloned() else { return };
        let mut rows = Rows::of(self, applied, &device);
        for (item_id, reason) in &plan.discarded {
            let code = match reason {
                DiscardReason::TooLarge => LogCode::DownlinkPayloadSize,
                DiscardReason::Expired => LogCode::Expired,
                DiscardReason::WrongFCnt => LogCode::FCntDown,
            };
            let mut context = Tags::from([("queue_item_id".into(), Id(*item_id).to_string())]);
            if *reason == DiscardReason::TooLarge {
                context.insert("max_size".into(), ask.max_payload.to_string());
            }
            rows.log(LogLevel::Error, code, reason.description(), context);
        }
    }

    pub(super) fn record_tx_ack(
        &mut self,
        request: RequestId,
        record: &RecordTxAck,
        applied: &mut Applied,
    ) -> Reply {
        let Some(device) = self.device(record.dev_eui) else { return Reply::Done };
        if let Some(reply) = device.reply_to(request) {
            return reply;
        }
        let outcome = self.change_device(record.dev_eui, |device| settle(device, record));
        let Some(outcome) = outcome else { return Reply::Done };
        let Some(device) = self.devices.get(&record.dev_eui).cloned() else { return Reply::Done };
        if outcome.queue_changed {
            applied.changes.push(Change::DeviceQueue(record.dev_eui));
        }
        let mut rows = Rows::of(self, applied, &device);
        if let (true, Some(item_id)) = (outcome.sent, record.item_id) {
            write_sent(&mut rows, record, Id(item_id));
        }
        if let Some(item) = outcome.failed {
            write_failed(&mut rows, record, &item);
        }
        Reply::Done
    }
}

fn write_sent(rows: &mut Rows<'_>, record: &RecordTxAck, item_id: Id) {
    let source = EventSource::Downlink {
        session_epoch: record.session_epoch,
        f_cnt_down: record.f_cnt_down,
        downlink_id: record.downlink_id,
    };
    let event = TxAckEvent {
        downlink_id: record.downlink_id,
        queue_item_id: Some(item_id),
        f_cnt_down: record.f_cnt_down,
        gateway: record.gateway,
        frequency_hz: record.frequency_hz,
        eirp_dbm: record.eirp_dbm,
        modulation: record.modulation,
        delay_s: record.delay_s,
    };
    let time = rows.now();
    rows.write(&source, time, Event::TxAck(event));
}

fn write_failed(rows: &mut Rows<'_>, record: &RecordTxAck, item: &QueueItem) {
    let text = record.status.map_or("the gateway did not answer", status_name);
    let context = Tags::from([
        ("downlink_id".to_owned(), record.downlink_id.to_string()),
        ("gateway_id".to_owned(), record.gateway.to_string()),
        ("queue_item_id".to_owned(), item.id.to_string()),
    ]);
    rows.log(LogLevel::Error, LogCode::DownlinkGateway, text, context);
    if item.confirmed {
        let source = rows.moment();
        let (queue_item_id, f_cnt_down) = (item.id, record.f_cnt_down);
        let event = Event::Ack { queue_item_id, acknowledged: false, f_cnt_down };
        let time = rows.now();
        rows.write(&source, time, event);
    }
}

/// Notes in the queue what a plan has handed out and dropped.
fn mark(queue: &mut Vec<QueueItem>, plan: &Plan, number: Option<u32>, now: clock::WallTime) {
    queue.retain(|item| plan.discarded.iter().all(|(id, _)| *id != item.id.0));
    let Some(handed) = &plan.item else { return };
    if sabotage::planted(Bug::ItemHandedOutTwice) && !handed.confirmed {
        return;
    }
    if let Some(item) = queue.iter_mut().find(|item| item.id.0 == handed.item_id) {
        item.state = match number {
            Some(f_cnt_down) if item.confirmed => ItemState::AwaitsAck { f_cnt_down, since: now },
            Some(_) | None => ItemState::HandedOut,
        };
    }
}

/// The report's effect on its device. A refused item is gone, for it was never on the air and
/// nobody sends it again by himself; a confirmed one without any report may have been sent and
/// still waits.
fn settle(device: &mut Device, record: &RecordTxAck) -> Outcome {
    let mut outcome = Outcome { sent: false, failed: None, queue_changed: false };
    if let Some(session) = &mut device.session {
        let counter = |session: &mac::DeviceSession| match record.a_counter {
            true => session.a_f_cnt_down.reported,
            false => session.n_f_cnt_down.reported,
        };
        let before = counter(session);
        let sent = transition::record_tx_ack(session, record);
        outcome.sent = sent && counter(session) > before;
    }
    let in_hand = |item: &QueueItem| {
        Some(item.id.0) == record.item_id
            && match item.state {
                ItemState::Queued => false,
                ItemState::HandedOut => true,
                ItemState::AwaitsAck { f_cnt_down, .. } => f_cnt_down == record.f_cnt_down,
            }
    };
    let current = device.session.as_ref().is_some_and(|one| one.epoch == record.session_epoch);
    let Some(at) = device.queue.iter().position(in_hand).filter(|_| current) else {
        return outcome;
    };
    let confirmed = device.queue.get(at).is_some_and(|item| item.confirmed);
    let refused = record.status.is_some_and(|status| status != TxStatus::Ok);
    if sabotage::planted(Bug::RequeuedAfterSilence) && !confirmed && record.status.is_none() {
        device.queue.get_mut(at).into_iter().for_each(|item| item.state = ItemState::Queued);
        return outcome;
    }
    if refused || !confirmed {
        let item = device.queue.remove(at);
        outcome.queue_changed = true;
        outcome.failed = (record.status != Some(TxStatus::Ok)).then_some(item);
    }
    outcome
}

/// A refusal as the field names it.
const fn status_name(status: TxStatus) -> &'static str {
    match status {
        TxStatus::Ok => "OK",
        TxStatus::TooLate => "TOO_LATE",
        TxStatus::TooEarly => "TOO_EARLY",
        TxStatus::CollisionPacket => "COLLISION_PACKET",
        TxStatus::CollisionBeacon => "COLLISION_BEACON",
        TxStatus::TxFreq => "TX_FREQ",
        TxStatus::TxPower => "TX_POWER",
        TxStatus::GpsUnlocked => "GPS_UNLOCKED",
        TxStatus::QueueFull => "QUEUE_FULL",
        TxStatus::InternalError => "INTERNAL_ERROR",
    }
}
