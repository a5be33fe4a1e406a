//! What becomes of a downlink after it was handed out: TX_ACK, and the device's acknowledgement.
//!
//! At most one confirmed item is in flight. The device's next new uplink settles it: with the ACK
//! bit it is acknowledged, without it is lost, at once or after the profile's
//! `confirmed_timeout_s`. Tern does not send a lost item again by itself: the application hears
//! `acknowledged: false` and decides.

use clock::{Duration, WallTime};
use lorawan::TxStatus;

use super::grant::note_received;
use super::plan::{ItemState, QueueItem};
use crate::{DeviceSession, MacProfile, RecordTxAck};

/// How a queue item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemFate {
    /// The device acknowledged it: event `ack` with `acknowledged: true`.
    Acknowledged,
    /// The device did not: event `ack` with `acknowledged: false`.
    Lost,
    /// It wanted no acknowledgement: no event.
    Finished,
}

/// One item that leaves the queue now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Which.
    pub item_id: [u8; 16],
    /// Why.
    pub fate: ItemFate,
    /// The number it was sent under.
    pub f_cnt_down: u32,
}

/// The items that a newly accepted uplink settles; the caller removes them and writes the events.
/// What is acknowledged was received: numbers skipped below it no longer count.
///
/// * `ack`: the uplink's ACK bit. In 1.0.x it means the last confirmed downlink, whichever that
///   was.
/// * `now`: the state's time.
/// * Call it after `accept_uplink` has accepted the frame.
pub fn confirm(
    session: &mut DeviceSession,
    profile: &MacProfile,
    queue: &[QueueItem<'_>],
    ack: bool,
    now: WallTime,
) -> Vec<Confirmation> {
    let timeout = Duration::from_secs(profile.confirmed_timeout_s.into());
    // A home that never reported back used the number before the grant just made.
    let unreported = session.n_f_cnt_down.grant.map_or(session.n_f_cnt_down.next, |g| g.lo);
    let mut settled = Vec::new();
    for item in queue {
        let (fate, f_cnt_down) = match item.state {
            ItemState::Queued => continue,
            ItemState::HandedOut if !item.confirmed => (ItemFate::Finished, 0),
            ItemState::HandedOut if ack => (ItemFate::Acknowledged, unreported.saturating_sub(1)),
            ItemState::HandedOut => (ItemFate::Lost, unreported.saturating_sub(1)),
            ItemState::AwaitsAck { f_cnt_down, .. } if ack => (ItemFate::Acknowledged, f_cnt_down),
            ItemState::AwaitsAck { since, .. } if now.since(since) < timeout => continue,
            ItemState::AwaitsAck { f_cnt_down, .. } => (ItemFate::Lost, f_cnt_down),
        };
        if fate == ItemFate::Acknowledged {
            let counter = if session.mac_version.is_1_1() {
                &mut session.a_f_cnt_down
            } else {
                &mut session.n_f_cnt_down
            };
            note_received(counter, f_cnt_down);
        }
        settled.push(Confirmation { item_id: item.id, fate, f_cnt_down });
    }
    settled
}

/// Notes a TX_ACK: only a downlink that a gateway reported as sent moves what the API shows. It
/// counts as received, for nobody knows better: numbers skipped below it no longer matter.
///
/// * Returns whether the downlink was sent in this session.
pub fn record_tx_ack(session: &mut DeviceSession, record: &RecordTxAck) -> bool {
    if record.session_epoch != session.epoch || record.status != Some(TxStatus::Ok) {
        return false;
    }
    let counter =
        if record.a_counter { &mut session.a_f_cnt_down } else { &mut session.n_f_cnt_down };
    counter.reported = counter.reported.max(record.f_cnt_down.saturating_add(1));
    note_received(counter, record.f_cnt_down);
    true
}
