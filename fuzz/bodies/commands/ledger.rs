//! What may never happen twice, or out of order, over a whole history. Told by questions, replies
//! and rows, so that an error which state and model share is seen too.
//!
//! Source: DESIGN 4.4, 4.5, 4.7, 5; requirements G2 (S1, S4, S5, S8).

use std::collections::{BTreeMap, BTreeSet};

use clock::WallTime;
use lorawan::{DevEui, DevNonce, JoinEui};
use mac::{Grant, HandedOut, JoinReply, NodeId, PlanReply, RequestId, SessionEpoch, UplinkReply};
use store::limits::{EVENT_AGE_MAX, EVENT_PIECE_AGE};
use store::{Command, Event, EventRow, Id, Proposal, Reply, State};

use super::model::Model;

/// Device, sealed keys, whether AFCntDown, number.
type Numbered = (DevEui, Box<[u8]>, bool, u32);

#[derive(Default)]
pub(super) struct Ledger {
    /// First answers.
    replies: BTreeMap<RequestId, Reply>,
    readings: BTreeSet<(DevEui, SessionEpoch, u32)>,
    /// Which grant a downlink number belongs to.
    grants: BTreeMap<Numbered, (NodeId, u32)>,
    dev_nonces: BTreeSet<(DevEui, JoinEui, DevNonce)>,
    join_nonces: BTreeMap<DevEui, u32>,
    /// Items queued and not handed out, in the order of their coming.
    waiting: BTreeMap<(DevEui, Id), usize>,
    handed_out: BTreeMap<DevEui, usize>,
    fence: u64,
    rows: BTreeSet<Id>,
    /// State time of every row, the first at 0.
    row_times: Vec<WallTime>,
    first_row: u64,
}

impl Ledger {
    /// Notes an answer.
    pub(super) fn note(&mut self, proposal: &Proposal, reply: &Reply, model: &Model) {
        let first = self.replies.get(&proposal.request);
        if first == Some(reply) {
            // A question asked again that got its first answer again: no new fact.
            return;
        }
        self.replies.insert(proposal.request, reply.clone());
        match (&proposal.command, reply) {
            (
                Command::AcceptUplink(up),
                Reply::Uplink(UplinkReply::Accepted { session_epoch, grant }),
            ) => {
                let reading = (up.dev_eui, *session_epoch, up.f_cnt);
                assert!(self.readings.insert(reading), "accepted twice: {reading:?}");
                self.note_grant(up.dev_eui, false, *grant, model);
            }
            (Command::AcceptJoin(join), Reply::Join(JoinReply::Accepted { .. })) => {
                let nonce = (join.dev_eui, join.join_eui, join.dev_nonce);
                assert!(self.dev_nonces.insert(nonce), "a DevNonce made two sessions: {nonce:?}");
                let given = join.expected_join_nonce.0;
                let last = self.join_nonces.insert(join.dev_eui, given);
                assert!(last.is_none_or(|last| last < given), "JoinNonce {given} after {last:?}");
            }
            (
                Command::PlanDownlink(ask),
                Reply::Plan(PlanReply::Planned { item, grant, a_grant, .. }),
            ) => {
                self.note_grant(ask.dev_eui, false, *grant, model);
                self.note_grant(ask.dev_eui, true, *a_grant, model);
                if let Some(item) = item {
                    self.note_handed_out(ask.dev_eui, item);
                }
            }
            (_, Reply::ClientSession { fence, .. }) => {
                assert!(*fence > self.fence, "fence {fence} after {}", self.fence);
                self.fence = *fence;
            }
            (command, Reply::Done) => self.note_done(command),
            _ => {}
        }
    }

    /// What people did to items and nonces.
    fn note_done(&mut self, command: &Command) {
        match command {
            Command::Enqueue { dev_eui, item } => {
                self.waiting.insert((*dev_eui, item.id), self.replies.len());
            }
            Command::CancelItem { dev_eui, item_id } => {
                assert!(self.waiting.remove(&(*dev_eui, *item_id)).is_some(), "was handed out");
            }
            Command::FlushQueue(dev_eui) => self.waiting.retain(|(of, _), _| of != dev_eui),
            Command::FlushDevNonces(dev_eui)
            | Command::DeleteDeviceKeys(dev_eui)
            | Command::DeleteDevice(dev_eui) => self.forget_nonces(Some(*dev_eui)),
            Command::DeleteApplication(_) | Command::DeleteTenant(_) => self.forget_nonces(None),
            // Of nonces that had to rise only the highest is known when they no longer have to.
            Command::PutDevice(put) => self.forget_nonces(Some(put.value.dev_eui)),
            Command::PutDeviceProfile(_) => self.forget_nonces(None),
            _ => {}
        }
    }

    fn forget_nonces(&mut self, dev_eui: Option<DevEui>) {
        self.dev_nonces.retain(|(of, _, _)| dev_eui.is_some_and(|dev_eui| dev_eui != *of));
    }

    fn note_grant(&mut self, dev_eui: DevEui, is_a: bool, grant: Option<Grant>, model: &Model) {
        let session = model.devices.get(&dev_eui).and_then(|device| device.session.as_ref());
        let (Some(grant), Some(session)) = (grant, session) else { return };
        assert!(grant.lo < grant.hi, "an empty grant: {grant:?}");
        for number in grant.lo..grant.hi {
            let whose = (grant.home, grant.home_epoch);
            let numbered = (dev_eui, session.keys.bytes.clone(), is_a, number);
            let owner = *self.grants.entry(numbered).or_insert(whose);
            assert_eq!(owner, whose, "downlink number {number} of {dev_eui} was granted twice");
        }
    }

    /// Each item at most once, first in first out.
    fn note_handed_out(&mut self, dev_eui: DevEui, item: &HandedOut) {
        let queued = self.waiting.remove(&(dev_eui, Id(item.item_id)));
        let queued = queued.expect("an item that waits");
        let before = self.handed_out.insert(dev_eui, queued);
        assert!(before.is_none_or(|before| before < queued), "an item overtook another");
    }

    /// Notes a row. Joins are told apart by their DevNonce, which is checked with the answer.
    pub(super) fn note_row(&mut self, row: &EventRow, now: WallTime) {
        self.row_times.push(now);
        let is_join = matches!(row.event, Event::Join { .. });
        assert!(is_join || self.rows.insert(row.id), "two rows of one name: {row:?}");
    }

    /// Rows go when they are old, in pieces of an hour, and the newest never does.
    pub(super) fn note_dropped(&mut self, state: &State, drop_below: Option<u64>) {
        let first = state.first_event();
        let before = core::mem::replace(&mut self.first_row, first);
        assert!(before <= first && (first < state.next_event() || self.row_times.is_empty()));
        assert_eq!(drop_below.unwrap_or(before.max(1)), first);
        let time = |sequence: u64| {
            let at = usize::try_from(sequence.saturating_sub(1)).expect("few rows");
            self.row_times.get(at).copied()
        };
        let age = |at: WallTime| state.now().since(at);
        for at in (before.max(1)..first).filter_map(time) {
            assert!(age(at) > EVENT_AGE_MAX, "a row of {at} is gone at {}", state.now());
        }
        if let (Some(oldest), Some(newest)) = (time(first), self.row_times.last()) {
            let is_due = age(oldest) > EVENT_AGE_MAX + EVENT_PIECE_AGE;
            let stays = newest.since(oldest) < EVENT_PIECE_AGE;
            assert!(!is_due || stays, "a row of {oldest} is still there at {}", state.now());
        }
    }
}
