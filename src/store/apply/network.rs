//! Applications, device profiles, gateways: what a tenant owns beside its devices.

use std::sync::Arc;

use lorawan::GatewayEui;

use super::{Applied, Change, Decision, check_put};
use crate::model::{Application, DeviceProfile, Gateway, MqttScope};
use crate::{Id, Put, Refusal, Reply, State};

impl State {
    pub(super) fn put_application(
        &mut self,
        put: &Put<Application>,
        applied: &mut Applied,
    ) -> Decision {
        let Put { must_exist, value } = put;
        let id = value.id;
        let old = self.applications.get(&id).cloned();
        check_put(*must_exist, old.is_some(), || format!("application {id}"))?;
        self.need_tenant(value.tenant_id)?;
        if old.as_ref().is_some_and(|old| old.tenant_id != value.tenant_id) {
            return Err(Refusal::Invalid("an application stays with its tenant".into()));
        }
        let name = (value.tenant_id, value.name.clone());
        if self.index.application_names.get(&name).is_some_and(|other| *other != id) {
            return Err(Refusal::AlreadyExists(format!("an application named {}", value.name)));
        }
        let now = self.time();
        let created_at = old.as_ref().map_or(now, |old| old.created_at);
        if let Some(old) = old {
            self.index.application_names.remove(&(old.tenant_id, old.name.clone()));
        }
        let application = Application { created_at, updated_at: now, ..value.clone() };
        self.index.application_added(&application);
        self.applications.insert(id, Arc::new(application));
        applied.changes.push(Change::Application(id));
        Ok(Reply::Done)
    }

    pub(super) fn delete_application(&mut self, id: Id, applied: &mut Applied) -> Decision {
        if !self.applications.contains_key(&id) {
            return Err(Refusal::NotFound(format!("application {id}")));
        }
        self.remove_application(id, applied);
        Ok(Reply::Done)
    }

    /// Removes an application with its devices and the MQTT accounts that see it alone.
    pub(super) fn remove_application(&mut self, id: Id, applied: &mut Applied) {
        for dev_eui in self.devices_of(id).map(|device| device.dev_eui).collect::<Vec<_>>() {
            self.remove_device(dev_eui, applied);
        }
        self.remove_accounts_within(MqttScope::Application(id), applied);
        if let Some(application) = self.applications.remove(&id) {
            let name = (application.tenant_id, application.name.clone());
            self.index.application_names.remove(&name);
            applied.changes.push(Change::Application(id));
        }
    }

    pub(super) fn put_device_profile(
        &mut self,
        put: &Put<DeviceProfile>,
        applied: &mut Applied,
    ) -> Decision {
        let Put { must_exist, value } = put;
        let id = value.id;
        let old = self.device_profiles.get(&id).cloned();
        check_put(*must_exist, old.is_some(), || format!("device profile {id}"))?;
        value.tenant_id.map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
        if old.as_ref().is_some_and(|old| old.tenant_id != value.tenant_id) {
            return Err(Refusal::Invalid("a device profile stays with its tenant".into()));
        }
        let name = (value.tenant_id, value.name.clone());
        if self.index.profile_names.get(&name).is_some_and(|other| *other != id) {
            return Err(Refusal::AlreadyExists(format!("a device profile named {}", value.name)));
        }
        let now = self.time();
        let created_at = old.as_ref().map_or(now, |old| old.created_at);
        if let Some(old) = old {
            self.index.profile_names.remove(&(old.tenant_id, old.name.clone()));
        }
        let profile = DeviceProfile { created_at, updated_at: now, ..value.clone() };
        self.index.profile_added(&profile);
        self.device_profiles.insert(id, Arc::new(profile));
        applied.changes.push(Change::DeviceProfile(id));
        Ok(Reply::Done)
    }

    pub(super) fn delete_device_profile(&mut self, id: Id, applied: &mut Applied) -> Decision {
        if !self.device_profiles.contains_key(&id) {
            return Err(Refusal::NotFound(format!("device profile {id}")));
        }
        if let Some(uses) = self.index.profile_uses.get(&id) {
            let text = format!("{uses} devices use this device profile");
            return Err(Refusal::InUse(text));
        }
        self.remove_device_profile(id, applied);
        Ok(Reply::Done)
    }

    pub(super) fn remove_device_profile(&mut self, id: Id, applied: &mut Applied) {
        if let Some(profile) = self.device_profiles.remove(&id) {
            self.index.profile_names.remove(&(profile.tenant_id, profile.name.clone()));
            applied.changes.push(Change::DeviceProfile(id));
        }
    }

    pub(super) fn put_gateway(&mut self, put: &Put<Gateway>, applied: &mut Applied) -> Decision {
        let Put { must_exist, value } = put;
        let id = value.gateway_id;
        let old = self.gateways.get(&id).cloned();
        check_put(*must_exist, old.is_some(), || format!("gateway {id}"))?;
        let Some(tenant) = self.tenants.get(&value.tenant_id) else {
            return Err(Refusal::NotFound(format!("tenant {}", value.tenant_id)));
        };
        if old.is_none() {
            if !tenant.can_have_gateways {
                return Err(Refusal::LimitReached("this tenant may not own gateways".into()));
            }
            let limit = tenant.max_gateway_count;
            if limit != 0 && self.gateway_count(tenant.id) >= u64::from(limit) {
                let text = format!("this tenant may own {limit} gateways and does");
                return Err(Refusal::LimitReached(text));
            }
        }
        if old.as_ref().is_some_and(|old| old.tenant_id != value.tenant_id) {
            return Err(Refusal::Invalid("a gateway stays with its tenant".into()));
        }
        let now = self.time();
        let created_at = old.as_ref().map_or(now, |old| old.created_at);
        let gateway = Gateway { created_at, updated_at: now, ..value.clone() };
        self.index.gateway_added(&gateway);
        self.gateways.insert(id, Arc::new(gateway));
        applied.changes.push(Change::Gateway(id));
        Ok(Reply::Done)
    }

    pub(super) fn delete_gateway(&mut self, id: GatewayEui, applied: &mut Applied) -> Decision {
        if !self.gateways.contains_key(&id) {
            return Err(Refusal::NotFound(format!("gateway {id}")));
        }
        self.remove_gateway(id, applied);
        Ok(Reply::Done)
    }

    pub(super) fn remove_gateway(&mut self, id: GatewayEui, applied: &mut Applied) {
        if let Some(gateway) = self.gateways.remove(&id) {
            self.index.gateway_removed(&gateway);
            applied.changes.push(Change::Gateway(id));
        }
    }

    fn need_tenant(&self, id: Id) -> Result<(), Refusal> {
        let there = self.tenants.contains_key(&id);
        if there { Ok(()) } else { Err(Refusal::NotFound(format!("tenant {id}"))) }
    }
}
