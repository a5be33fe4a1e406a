//! What people do to a device: keys, activation, its downlink queue, its end.

use lorawan::{DevEui, JoinNonce};
use mac::{DeviceSession, DownlinkCounter, Sealed, SessionEpoch};
use store::limits::{DEVICE_QUEUE_MAX, DOWNLINK_BYTES_MAX};
use store::model::{Device, DeviceKeys, ItemState, QueueItem};
use store::{Command, Event, Id, Refusal};

use super::grants::skip;
use super::{
    DONE, Decision, Model, already_exists, expect, in_use, invalid, limit_reached, need, not_found,
};

impl Model {
    pub(super) fn decide_device(&mut self, command: &Command) -> Decision {
        match command {
            Command::PutDevice(put) => self.put_device(put),
            Command::DeleteDevice(dev_eui) => {
                need(self.devices.contains_key(dev_eui), not_found())?;
                self.remove_device(*dev_eui);
                DONE
            }
            Command::SetDeviceKeys { dev_eui, must_exist, nwk_key, app_key } => {
                self.set_keys(*dev_eui, *must_exist, nwk_key, app_key.as_ref())
            }
            Command::DeleteDeviceKeys(dev_eui) => {
                let keys = self.device(*dev_eui)?.keys.take().ok_or_else(not_found)?;
                self.join_nonce_floor = self.join_nonce_floor.max(keys.next_join_nonce.0);
                DONE
            }
            Command::FlushDevNonces(dev_eui) => {
                let keys = self.device(*dev_eui)?.keys.as_mut().ok_or_else(not_found)?;
                keys.dev_nonces.clear();
                DONE
            }
            Command::Activate { dev_eui, session } => self.activate(*dev_eui, session),
            Command::Deactivate(dev_eui) => self.deactivate(*dev_eui),
            Command::Enqueue { dev_eui, item } => self.enqueue(*dev_eui, item),
            Command::FlushQueue(dev_eui) => {
                self.device(*dev_eui)?.queue.retain(|item| item.state != ItemState::Queued);
                DONE
            }
            Command::CancelItem { dev_eui, item_id } => self.cancel(*dev_eui, *item_id),
            other => unreachable!("not about a device: {other:?}"),
        }
    }

    fn device(&mut self, dev_eui: DevEui) -> Result<&mut Device, Refusal> {
        self.devices.get_mut(&dev_eui).ok_or_else(not_found)
    }

    /// The JoinNonce of new keys: above all that went before with keys now gone, and never 0.
    pub(super) fn first_join_nonce(&self) -> JoinNonce {
        JoinNonce(self.join_nonce_floor.max(1))
    }

    fn set_keys(
        &mut self,
        dev_eui: DevEui,
        must_exist: Option<bool>,
        nwk_key: &Sealed,
        app_key: Option<&Sealed>,
    ) -> Decision {
        let first = self.first_join_nonce();
        let device = self.device(dev_eui)?;
        expect(must_exist, device.keys.is_some())?;
        let keys = device.keys.get_or_insert_with(|| DeviceKeys {
            nwk_key: nwk_key.clone(),
            app_key: None,
            next_join_nonce: first,
            dev_nonces: Vec::new(),
        });
        (keys.nwk_key, keys.app_key) = (nwk_key.clone(), app_key.cloned());
        DONE
    }

    /// Downlink numbers go on above all that the address may have had with the same keys.
    fn activate(&mut self, dev_eui: DevEui, given: &DeviceSession) -> Decision {
        self.device(dev_eui)?;
        self.note_reached(dev_eui);
        let flush = self.flushes_on_activation(dev_eui);
        let key = (dev_eui, given.dev_addr);
        let noted = self.reached.get(&key).copied().unwrap_or_default();
        let device = self.device(dev_eui)?;
        let earlier = [device.session.take(), device.pending_session.take()];
        let earlier = earlier.iter().flatten().filter(|old| old.dev_addr == given.dev_addr);
        let mut session = given.clone();
        session.traffic = None;
        for counter in [&mut session.n_f_cnt_down, &mut session.a_f_cnt_down] {
            (counter.grant, counter.skipped) = (None, None);
        }
        for [n, a] in earlier.map(counters).chain([noted]) {
            raise(&mut session.n_f_cnt_down, n);
            raise(&mut session.a_f_cnt_down, a);
        }
        device.last_epoch = SessionEpoch(device.last_epoch.0 + 1);
        session.epoch = device.last_epoch;
        device.session = Some(session);
        let lost = end_flights(device, flush);
        self.tell_lost(dev_eui, lost);
        DONE
    }

    fn deactivate(&mut self, dev_eui: DevEui) -> Decision {
        let device = self.device(dev_eui)?;
        need(device.session.is_some() || device.pending_session.is_some(), not_found())?;
        self.note_reached(dev_eui);
        let device = self.device(dev_eui)?;
        (device.session, device.pending_session) = (None, None);
        let lost = end_flights(device, false);
        self.tell_lost(dev_eui, lost);
        DONE
    }

    fn tell_lost(&mut self, dev_eui: DevEui, lost: Vec<(Id, u32)>) {
        for (queue_item_id, f_cnt_down) in lost {
            let event = Event::Ack { queue_item_id, acknowledged: false, f_cnt_down };
            self.tell(dev_eui, self.now, event);
        }
    }

    pub(super) fn flushes_on_activation(&self, dev_eui: DevEui) -> bool {
        let device = self.devices.get(&dev_eui);
        let profile = device.and_then(|device| self.profiles.get(&device.device_profile_id));
        profile.is_some_and(|profile| profile.flush_queue_on_activate)
    }

    /// What people end they may bring back, keys and all: its downlink counters are remembered.
    pub(super) fn note_reached(&mut self, dev_eui: DevEui) {
        let session = self.devices.get(&dev_eui).and_then(|device| device.session.as_ref());
        let Some(session) = session else { return };
        let noted = self.reached.entry((dev_eui, session.dev_addr)).or_default();
        for (noted, counter) in noted.iter_mut().zip(counters(session)) {
            raise(noted, counter);
        }
    }

    pub(super) fn remove_device(&mut self, dev_eui: DevEui) {
        self.note_reached(dev_eui);
        let Some(device) = self.devices.remove(&dev_eui) else { return };
        self.epoch_floor = self.epoch_floor.max(device.last_epoch.0);
        let next = device.keys.map_or(0, |keys| keys.next_join_nonce.0);
        self.join_nonce_floor = self.join_nonce_floor.max(next);
    }

    fn enqueue(&mut self, dev_eui: DevEui, item: &QueueItem) -> Decision {
        let created_at = self.now;
        let queue = &mut self.device(dev_eui)?.queue;
        need((1..=223).contains(&item.f_port), invalid())?;
        need(item.data.len() <= DOWNLINK_BYTES_MAX, invalid())?;
        need(queue.iter().all(|other| other.id != item.id), already_exists())?;
        need(queue.len() < DEVICE_QUEUE_MAX, limit_reached())?;
        queue.push(QueueItem { created_at, ..item.clone() });
        DONE
    }

    /// What is in somebody's hands cannot be taken back.
    fn cancel(&mut self, dev_eui: DevEui, id: Id) -> Decision {
        let queue = &mut self.device(dev_eui)?.queue;
        let item = queue.iter().find(|item| item.id == id).ok_or_else(not_found)?;
        need(item.state == ItemState::Queued, in_use())?;
        queue.retain(|item| item.id != id);
        DONE
    }
}

fn counters(session: &DeviceSession) -> [DownlinkCounter; 2] {
    [session.n_f_cnt_down, session.a_f_cnt_down]
}

/// No number below what was reached, and no grant under an epoch that was.
fn raise(counter: &mut DownlinkCounter, reached: DownlinkCounter) {
    skip(counter, reached.next.saturating_sub(counter.next));
    counter.next = counter.next.max(reached.next);
    counter.home_epoch = counter.home_epoch.max(reached.home_epoch);
}

/// The session is over: what was in flight is, too, and what was encrypted for it is worthless.
///
/// * Returns the confirmed items that were in flight, with their numbers.
pub(super) fn end_flights(device: &mut Device, flush: bool) -> Vec<(Id, u32)> {
    let mut lost = Vec::new();
    for item in &device.queue {
        match item.state {
            ItemState::AwaitsAck { f_cnt_down, .. } if item.confirmed => {
                lost.push((item.id, f_cnt_down));
            }
            ItemState::HandedOut if item.confirmed => lost.push((item.id, 0)),
            _ => {}
        }
    }
    device
        .queue
        .retain(|item| item.state == ItemState::Queued && item.encrypted_f_cnt.is_none() && !flush);
    lost
}
