//! What can be found out from the rest of the state, kept to find it fast: names, addresses,
//! belongings, counts. Never in a snapshot nor in the hash; rebuilt on restore.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use lorawan::{DevAddr, DevEui, GatewayEui};
use mac::RequestId;

use crate::Id;
use crate::client_session::ClientSession;
use crate::model::{Application, Device, DeviceProfile, Gateway, Tenant, User};
use crate::subscriptions::Subscriptions;

/// Which of a device's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionSlot {
    /// [`Device::session`]
    Current,
    /// [`Device::pending_session`]
    Pending,
}

/// Derived maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) addresses: OrdSet<(DevAddr, DevEui, SessionSlot)>,
    pub(crate) devices_of: OrdSet<(Id, DevEui)>,
    /// Devices by application.
    pub(crate) device_counts: OrdMap<Id, u32>,
    /// Devices by profile.
    pub(crate) profile_uses: OrdMap<Id, u32>,
    pub(crate) gateways_of: OrdSet<(Id, GatewayEui)>,
    pub(crate) tenant_names: OrdMap<String, Id>,
    pub(crate) application_names: OrdMap<(Id, String), Id>,
    pub(crate) profile_names: OrdMap<(Option<Id>, String), Id>,
    pub(crate) user_emails: OrdMap<String, Id>,
    pub(crate) replies: OrdMap<RequestId, u64>,
    /// Ends of disconnected client sessions, in leader ticks.
    pub(crate) session_ends: OrdSet<(u64, String)>,
    pub(crate) sessions_of_account: OrdSet<(String, String)>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) queued_bytes: u64,
    pub(crate) retained_bytes: u64,
}

/// What the index holds of a device, to compare before and after a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceTraits {
    application: Id,
    profile: Id,
    addresses: [Option<DevAddr>; 2],
}

impl DeviceTraits {
    pub(crate) fn of(device: &Device) -> Self {
        let address = |session: &Option<mac::DeviceSession>| session.as_ref().map(|s| s.dev_addr);
        Self {
            application: device.application_id,
            profile: device.device_profile_id,
            addresses: [address(&device.session), address(&device.pending_session)],
        }
    }
}

fn count(counts: &mut OrdMap<Id, u32>, id: Id, more: bool) {
    let counter = counts.entry(id).or_insert(0);
    *counter = if more { counter.saturating_add(1) } else { counter.saturating_sub(1) };
    if *counter == 0 {
        counts.remove(&id);
    }
}

impl Index {
    /// Follows a device from what it was to what it is.
    pub(crate) fn device_changed(
        &mut self,
        dev_eui: DevEui,
        before: Option<DeviceTraits>,
        after: Option<DeviceTraits>,
    ) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.devices_of.remove(&(before.application, dev_eui));
            count(&mut self.device_counts, before.application, false);
            count(&mut self.profile_uses, before.profile, false);
            for (address, slot) in Self::slots(before) {
                self.addresses.remove(&(address, dev_eui, slot));
            }
        }
        if let Some(after) = after {
            self.devices_of.insert((after.application, dev_eui));
            count(&mut self.device_counts, after.application, true);
            count(&mut self.profile_uses, after.profile, true);
            for (address, slot) in Self::slots(after) {
                self.addresses.insert((address, dev_eui, slot));
            }
        }
    }

    fn slots(traits: DeviceTraits) -> impl Iterator<Item = (DevAddr, SessionSlot)> {
        let [current, pending] = traits.addresses;
        let current = current.map(|address| (address, SessionSlot::Current));
        current.into_iter().chain(pending.map(|address| (address, SessionSlot::Pending)))
    }

    pub(crate) fn gateway_added(&mut self, gateway: &Gateway) {
        self.gateways_of.insert((gateway.tenant_id, gateway.gateway_id));
    }

    pub(crate) fn gateway_removed(&mut self, gateway: &Gateway) {
        self.gateways_of.remove(&(gateway.tenant_id, gateway.gateway_id));
    }

    pub(crate) fn tenant_added(&mut self, tenant: &Tenant) {
        self.tenant_names.insert(tenant.name.clone(), tenant.id);
    }

    pub(crate) fn application_added(&mut self, application: &Application) {
        let key = (application.tenant_id, application.name.clone());
        self.application_names.insert(key, application.id);
    }

    pub(crate) fn profile_added(&mut self, profile: &DeviceProfile) {
        self.profile_names.insert((profile.tenant_id, profile.name.clone()), profile.id);
    }

    pub(crate) fn user_added(&mut self, user: &User) {
        self.user_emails.insert(user.email.clone(), user.id);
    }

    /// Follows a client session's account and end; subscriptions are followed apart.
    pub(crate) fn session_changed(
        &mut self,
        before: Option<&Arc<ClientSession>>,
        after: Option<&Arc<ClientSession>>,
    ) {
        if let Some(before) = before {
            self.sessions_of_account.remove(&(before.account.clone(), before.client_id.clone()));
            if let Some(end) = before.ends_at_ticks {
                self.session_ends.remove(&(end, before.client_id.clone()));
            }
        }
        if let Some(after) = after {
            self.sessions_of_account.insert((after.account.clone(), after.client_id.clone()));
            if let Some(end) = after.ends_at_ticks {
                self.session_ends.insert((end, after.client_id.clone()));
            }
        }
    }
}
