//! Applications, device profiles, gateways, devices: who owns what, and what goes with it.

use mac::SessionEpoch;
use store::model::{Application, Device, DeviceProfile, Gateway, MqttScope};
use store::{Id, Put, Refusal};

use super::{
    DONE, Decision, Model, already_exists, expect, in_use, invalid, limit_reached, need, not_found,
};

impl Model {
    pub(super) fn put_application(&mut self, put: &Put<Application>) -> Decision {
        let value = &put.value;
        let old = self.applications.get(&value.id);
        expect(put.must_exist, old.is_some())?;
        need(self.tenants.contains_key(&value.tenant_id), not_found())?;
        need(old.is_none_or(|old| old.tenant_id == value.tenant_id), invalid())?;
        let mut others = self.applications.values().filter(|other| other.id != value.id);
        let named =
            |other: &Application| (other.tenant_id, &other.name) == (value.tenant_id, &value.name);
        need(!others.any(named), already_exists())?;
        let created_at = old.map_or(self.now, |old| old.created_at);
        let application = Application { created_at, updated_at: self.now, ..value.clone() };
        self.applications.insert(application.id, application);
        DONE
    }

    pub(super) fn delete_application(&mut self, id: Id) -> Decision {
        need(self.applications.contains_key(&id), not_found())?;
        self.remove_application(id);
        DONE
    }

    /// An application goes with its devices and the accounts that saw it alone.
    pub(super) fn remove_application(&mut self, id: Id) {
        self.applications.remove(&id);
        let its = self.devices.values().filter(|device| device.application_id == id);
        for dev_eui in its.map(|device| device.dev_eui).collect::<Vec<_>>() {
            self.remove_device(dev_eui);
        }
        self.remove_accounts_of(MqttScope::Application(id));
    }

    pub(super) fn put_profile(&mut self, put: &Put<DeviceProfile>) -> Decision {
        let value = &put.value;
        let old = self.profiles.get(&value.id);
        expect(put.must_exist, old.is_some())?;
        let has_owner = value.tenant_id.is_none_or(|tenant| self.tenants.contains_key(&tenant));
        need(has_owner, not_found())?;
        need(old.is_none_or(|old| old.tenant_id == value.tenant_id), invalid())?;
        let mut others = self.profiles.values().filter(|other| other.id != value.id);
        let named = |other: &DeviceProfile| {
            (other.tenant_id, &other.name) == (value.tenant_id, &value.name)
        };
        need(!others.any(named), already_exists())?;
        let created_at = old.map_or(self.now, |old| old.created_at);
        let profile = DeviceProfile { created_at, updated_at: self.now, ..value.clone() };
        self.profiles.insert(profile.id, profile);
        DONE
    }

    pub(super) fn delete_profile(&mut self, id: Id) -> Decision {
        need(self.profiles.contains_key(&id), not_found())?;
        need(self.devices.values().all(|device| device.device_profile_id != id), in_use())?;
        self.profiles.remove(&id);
        DONE
    }

    pub(super) fn put_gateway(&mut self, put: &Put<Gateway>) -> Decision {
        let value = &put.value;
        let old = self.gateways.get(&value.gateway_id);
        expect(put.must_exist, old.is_some())?;
        let owner = self.tenants.get(&value.tenant_id).ok_or_else(not_found)?;
        if old.is_none() {
            let all = self.gateways.values();
            let his = all.filter(|gateway| gateway.tenant_id == owner.id).count();
            need(owner.can_have_gateways && fits(his, owner.max_gateway_count), limit_reached())?;
        }
        need(old.is_none_or(|old| old.tenant_id == value.tenant_id), invalid())?;
        let created_at = old.map_or(self.now, |old| old.created_at);
        let gateway = Gateway { created_at, updated_at: self.now, ..value.clone() };
        self.gateways.insert(gateway.gateway_id, gateway);
        DONE
    }

    fn owner_of(&self, device: &Device) -> Result<Id, Refusal> {
        let application = self.applications.get(&device.application_id).ok_or_else(not_found)?;
        Ok(application.tenant_id)
    }

    /// A new device has nothing but its registration and keys; a change leaves all else alone.
    pub(super) fn put_device(&mut self, put: &Put<Device>) -> Decision {
        let value = &put.value;
        let old = self.devices.get(&value.dev_eui);
        expect(put.must_exist, old.is_some())?;
        let owner = self.owner_of(value)?;
        let profile = self.profiles.get(&value.device_profile_id).ok_or_else(not_found)?;
        need(profile.tenant_id.is_none_or(|tenant| tenant == owner), invalid())?;
        let device = match old {
            Some(old) => {
                need(self.owner_of(old)? == owner, invalid())?;
                Device {
                    keys: old.keys.clone(),
                    session: old.session.clone(),
                    pending_session: old.pending_session.clone(),
                    last_epoch: old.last_epoch,
                    queue: old.queue.clone(),
                    status: old.status,
                    last_seen_at: old.last_seen_at,
                    last_reply: old.last_reply.clone(),
                    last_home: old.last_home,
                    earlier_replies: None,
                    created_at: old.created_at,
                    updated_at: self.now,
                    ..value.clone()
                }
            }
            None => {
                let all = self.devices.values();
                let his = all.filter(|device| self.owner_of(device) == Ok(owner)).count();
                let limit = self.tenants.get(&owner).map_or(0, |tenant| tenant.max_device_count);
                need(fits(his, limit), limit_reached())?;
                self.earlier.remove(&value.dev_eui);
                let mut device = blank(value);
                (device.created_at, device.updated_at) = (self.now, self.now);
                device.last_epoch = SessionEpoch(self.epoch_floor);
                if let Some(keys) = &mut device.keys {
                    keys.next_join_nonce = keys.next_join_nonce.max(self.first_join_nonce());
                }
                device
            }
        };
        self.devices.insert(device.dev_eui, device);
        DONE
    }
}

/// Whether one more fits under a limit; 0 is none.
fn fits(count: usize, limit: u32) -> bool {
    limit == 0 || u32::try_from(count).is_ok_and(|count| count < limit)
}

/// As registered, never heard of.
fn blank(value: &Device) -> Device {
    Device {
        session: None,
        pending_session: None,
        queue: Vec::new(),
        status: None,
        last_seen_at: None,
        last_reply: None,
        last_home: None,
        earlier_replies: None,
        ..value.clone()
    }
}
