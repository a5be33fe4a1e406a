//! Registration, root keys and activation of devices by people.

use std::sync::Arc;

use lorawan::{DevEui, JoinNonce};
use mac::transition::{Confirmation, ItemFate};
use mac::{DeviceSession, Sealed, SessionEpoch, transition};

use super::rows::Rows;
use super::{Applied, Change, Decision, check_put};
use crate::index::DeviceTraits;
use crate::limits::RETIRED_MAX;
use crate::model::{Device, DeviceKeys, ItemState, QueueItem};
use crate::state::RetiredNumbers;
use crate::{Event, Id, Put, Refusal, Reply, State};

/// The first JoinNonce of a device: devices of 1.0.4 and 1.1 want each above the last, from 0 on.
const FIRST_JOIN_NONCE: JoinNonce = JoinNonce(1);

impl RetiredNumbers {
    fn of(session: &DeviceSession) -> Self {
        let (n, a) = (session.n_f_cnt_down, session.a_f_cnt_down);
        Self { n_next: n.next, n_epoch: n.home_epoch, a_next: a.next, a_epoch: a.home_epoch }
    }

    /// The higher of each.
    fn max(self, other: Self) -> Self {
        Self {
            n_next: self.n_next.max(other.n_next),
            n_epoch: self.n_epoch.max(other.n_epoch),
            a_next: self.a_next.max(other.a_next),
            a_epoch: self.a_epoch.max(other.a_epoch),
        }
    }

    /// Raises the numbers of a new session above these.
    fn raise(self, session: &mut DeviceSession) {
        let (n, a) = (&mut session.n_f_cnt_down, &mut session.a_f_cnt_down);
        transition::raise_next(n, self.n_next);
        n.home_epoch = n.home_epoch.max(self.n_epoch);
        transition::raise_next(a, self.a_next);
        a.home_epoch = a.home_epoch.max(self.a_epoch);
    }
}

impl State {
    pub(super) fn put_device(&mut self, put: &Put<Device>, applied: &mut Applied) -> Decision {
        let Put { must_exist, value } = put;
        let dev_eui = value.dev_eui;
        let old = self.devices.get(&dev_eui).cloned();
        check_put(*must_exist, old.is_some(), || format!("device {dev_eui}"))?;
        let tenant = self.check_belongings(value)?;
        let moved_from = old.as_ref().and_then(|old| self.tenant_of(old.application_id));
        if moved_from.is_some_and(|from| from != tenant) {
            return Err(Refusal::Invalid("a device stays with its tenant".into()));
        }
        let now = self.time();
        let device = match old {
            Some(old) => {
                let old = old.as_ref().clone();
                Device { created_at: old.created_at, updated_at: now, ..keep_life(value, old) }
            }
            None => {
                self.check_device_limit(tenant)?;
                let floor = self.core.join_nonce_floor.max(FIRST_JOIN_NONCE);
                let mut born = blank(value, self.core.epoch_floor);
                born.created_at = now;
                born.updated_at = now;
                born.keys = value.keys.clone().map(|keys| {
                    let next_join_nonce = keys.next_join_nonce.max(floor);
                    DeviceKeys { next_join_nonce, ..keys }
                });
                born
            }
        };
        self.set_device(device);
        applied.changes.push(Change::Device(dev_eui));
        Ok(Reply::Done)
    }

    /// Application and profile exist and fit together.
    ///
    /// * Returns the tenant.
    fn check_belongings(&self, device: &Device) -> Result<Id, Refusal> {
        let application = device.application_id;
        let Some(tenant) = self.tenant_of(application) else {
            return Err(Refusal::NotFound(format!("application {application}")));
        };
        let Some(profile) = self.device_profiles.get(&device.device_profile_id) else {
            let text = format!("device profile {}", device.device_profile_id);
            return Err(Refusal::NotFound(text));
        };
        if profile.tenant_id.is_some_and(|owner| owner != tenant) {
            let text = "the device profile belongs to another tenant than the application";
            return Err(Refusal::Invalid(text.into()));
        }
        Ok(tenant)
    }

    fn check_device_limit(&self, tenant: Id) -> Result<(), Refusal> {
        let limit = self.tenants.get(&tenant).map_or(0, |tenant| tenant.max_device_count);
        if limit != 0 && self.tenant_device_count(tenant) >= u64::from(limit) {
            let text = format!("this tenant may own {limit} devices and does");
            return Err(Refusal::LimitReached(text));
        }
        Ok(())
    }

    pub(super) fn set_device_keys(
        &mut self,
        dev_eui: DevEui,
        must_exist: Option<bool>,
        nwk_key: &Sealed,
        app_key: Option<&Sealed>,
        applied: &mut Applied,
    ) -> Decision {
        let device = self.need_device(dev_eui)?;
        check_put(must_exist, device.keys.is_some(), || format!("keys of device {dev_eui}"))?;
        let floor = self.core.join_nonce_floor.max(FIRST_JOIN_NONCE);
        self.change_device(dev_eui, |device| {
            let (next_join_nonce, dev_nonces) = match device.keys.take() {
                Some(keys) => (keys.next_join_nonce, keys.dev_nonces),
                None => (floor, Vec::new()),
            };
            let (nwk_key, app_key) = (nwk_key.clone(), app_key.cloned());
            device.keys = Some(DeviceKeys { nwk_key, app_key, next_join_nonce, dev_nonces });
        });
        applied.changes.push(Change::Device(dev_eui));
        Ok(Reply::Done)
    }

    pub(super) fn delete_device_keys(
        &mut self,
        dev_eui: DevEui,
        applied: &mut Applied,
    ) -> Decision {
        let device = self.need_device(dev_eui)?;
        let Some(next) = device.keys.as_ref().map(|keys| keys.next_join_nonce) else {
            return Err(Refusal::NotFound(format!("keys of device {dev_eui}")));
        };
        self.core.join_nonce_floor = self.core.join_nonce_floor.max(next);
        self.change_device(dev_eui, |device| device.keys = None);
        applied.changes.push(Change::Device(dev_eui));
        Ok(Reply::Done)
    }

    pub(super) fn flush_dev_nonces(&mut self, dev_eui: DevEui) -> Decision {
        if self.need_device(dev_eui)?.keys.is_none() {
            return Err(Refusal::NotFound(format!("keys of device {dev_eui}")));
        }
        self.change_device(dev_eui, |device| {
            if let Some(keys) = &mut device.keys {
                keys.dev_nonces.clear();
            }
        });
        Ok(Reply::Done)
    }

    /// Activates by personalisation or import. No downlink number comes again under the keys it was
    /// used with, also after the device was deactivated or deleted in between (dangers A7).
    pub(super) fn activate(
        &mut self,
        dev_eui: DevEui,
        given: &DeviceSession,
        applied: &mut Applied,
    ) -> Decision {
        let profile = self.need_device(dev_eui)?.device_profile_id;
        let flush = self.device_profiles.get(&profile).is_some_and(|p| p.flush_queue_on_activate);
        self.retire_sessions(dev_eui);
        let retired = self.retired.get(&(dev_eui, given.dev_addr)).copied();
        let lost = self.change_device(dev_eui, |device| {
            let epoch = SessionEpoch(device.last_epoch.0.saturating_add(1));
            let earlier = [device.session.take(), device.pending_session.take()];
            let mut session = transition::install(given.clone(), epoch, earlier.iter().flatten());
            if let Some(retired) = retired {
                retired.raise(&mut session);
            }
            device.last_epoch = epoch;
            device.session = Some(session);
            end_flights(device, flush)
        });
        self.write_lost(dev_eui, lost.unwrap_or_default(), applied);
        applied.changes.push(Change::Device(dev_eui));
        applied.changes.push(Change::DeviceQueue(dev_eui));
        Ok(Reply::Done)
    }

    pub(super) fn deactivate(&mut self, dev_eui: DevEui, applied: &mut Applied) -> Decision {
        let device = self.need_device(dev_eui)?;
        if device.session.is_none() && device.pending_session.is_none() {
            return Err(Refusal::NotFound(format!("activation of device {dev_eui}")));
        }
        self.retire_sessions(dev_eui);
        let lost = self.change_device(dev_eui, |device| {
            device.session = None;
            device.pending_session = None;
            end_flights(device, false)
        });
        self.write_lost(dev_eui, lost.unwrap_or_default(), applied);
        applied.changes.push(Change::Device(dev_eui));
        applied.changes.push(Change::DeviceQueue(dev_eui));
        Ok(Reply::Done)
    }

    /// Tells applications of confirmed items that nobody will acknowledge any more.
    fn write_lost(&mut self, dev_eui: DevEui, lost: Vec<Confirmation>, applied: &mut Applied) {
        let Some(device) = self.devices.get(&dev_eui).filter(|_| !lost.is_empty()).cloned() else {
            return;
        };
        let time = self.time();
        let mut rows = Rows::of(self, applied, &device);
        for Confirmation { item_id, f_cnt_down, .. } in lost {
            let (source, queue_item_id) = (rows.moment(), Id(item_id));
            let event = Event::Ack { queue_item_id, acknowledged: false, f_cnt_down };
            rows.write(&source, time, event);
        }
    }

    /// Remembers the downlink numbers of a session that people end: what they end they may bring
    /// again, keys and all. That is so of a personalised session, of an imported one, and of one
    /// joined here that was exported.
    pub(super) fn retire_sessions(&mut self, dev_eui: DevEui) {
        let Some(device) = self.devices.get(&dev_eui) else { return };
        let Some(session) = device.session.as_ref() else { return };
        let key = (dev_eui, session.dev_addr);
        let numbers = RetiredNumbers::of(session);
        // A join may have given the address of an earlier session again, and counted from 0.
        let before = self.retired.get(&key).copied().unwrap_or(numbers);
        self.retired.insert(key, numbers.max(before));
        while self.retired.len() > RETIRED_MAX {
            let other = self.retired.keys().find(|other| **other != key).copied();
            let Some(other) = other else { return };
            self.retired.remove(&other);
        }
    }

    pub(super) fn need_device(&self, dev_eui: DevEui) -> Result<&Device, Refusal> {
        self.device(dev_eui).ok_or_else(|| Refusal::NotFound(format!("device {dev_eui}")))
    }

    /// Changes a device in place, and the index with it.
    ///
    /// * Returns what `change` returns; `None` if there is no such device.
    pub(crate) fn change_device<R>(
        &mut self,
        dev_eui: DevEui,
        change: impl FnOnce(&mut Device) -> R,
    ) -> Option<R> {
        let device = Arc::make_mut(self.devices.get_mut(&dev_eui)?);
        let before = DeviceTraits::of(device);
        let result = change(device);
        let after = DeviceTraits::of(device);
        self.index.device_changed(dev_eui, Some(before), Some(after));
        Some(result)
    }

    fn set_device(&mut self, device: Device) {
        let dev_eui = device.dev_eui;
        let after = DeviceTraits::of(&device);
        let before = self.devices.insert(dev_eui, Arc::new(device));
        let before = before.map(|before| DeviceTraits::of(&before));
        self.index.device_changed(dev_eui, before, Some(after));
    }

    pub(super) fn delete_device(&mut self, dev_eui: DevEui, applied: &mut Applied) -> Decision {
        self.need_device(dev_eui)?;
        self.remove_device(dev_eui, applied);
        Ok(Reply::Done)
    }

    pub(super) fn remove_device(&mut self, dev_eui: DevEui, applied: &mut Applied) {
        self.retire_sessions(dev_eui);
        let Some(device) = self.devices.remove(&dev_eui) else { return };
        self.index.device_changed(dev_eui, Some(DeviceTraits::of(&device)), None);
        self.core.epoch_floor = self.core.epoch_floor.max(device.last_epoch);
        if let Some(keys) = &device.keys {
            let next = keys.next_join_nonce;
            self.core.join_nonce_floor = self.core.join_nonce_floor.max(next);
        }
        applied.changes.push(Change::Device(dev_eui));
    }
}

/// The registration of `value` with everything else of `old`.
fn keep_life(value: &Device, old: Device) -> Device {
    Device {
        application_id: value.application_id,
        device_profile_id: value.device_profile_id,
        name: value.name.clone(),
        description: value.description.clone(),
        join_eui: value.join_eui,
        skip_f_cnt_check: value.skip_f_cnt_check,
        is_disabled: value.is_disabled,
        variables: value.variables.clone(),
        tags: value.tags.clone(),
        ..old
    }
}

/// The registration of `value` without anything lived through.
fn blank(value: &Device, last_epoch: SessionEpoch) -> Device {
    Device {
        keys: None,
        session: None,
        pending_session: None,
        last_epoch,
        queue: Vec::new(),
        status: None,
        last_seen_at: None,
        last_reply: None,
        earlier_replies: None,
        last_home: None,
        ..value.clone()
    }
}

/// What the end of a session means for the queue: nothing is in flight any more. An unconfirmed
/// item that was handed out may have been sent and is done; a confirmed one is lost, as after any
/// missing acknowledgement; what the application encrypted for that session is worthless.
///
/// * `flush`: drop what still waits, too.
/// * Returns the confirmed items that were in flight.
pub(super) fn end_flights(device: &mut Device, flush: bool) -> Vec<Confirmation> {
    let mut lost = Vec::new();
    for item in device.queue.iter().filter(|item| item.confirmed) {
        let f_cnt_down = match item.state {
            ItemState::Queued => continue,
            ItemState::HandedOut => 0,
            ItemState::AwaitsAck { f_cnt_down, .. } => f_cnt_down,
        };
        lost.push(Confirmation { item_id: item.id.0, fate: ItemFate::Lost, f_cnt_down });
    }
    let waits = |item: &QueueItem| item.state == ItemState::Queued && !flush;
    device.queue.retain(|item| waits(item) && item.encrypted_f_cnt.is_none());
    if device.queue.is_empty() {
        device.queue = Vec::new();
    }
    lost
}
