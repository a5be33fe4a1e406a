//! What can be asked of the state: one object, all of an owner's, a page of a search, a count.

use lorawan::{DevAddr, DevEui, GatewayEui};
use mac::{DeviceSession, NodeId};
use mqtt::TopicName;

use crate::Member;
use crate::client_session::{ClientSession, Pointer, Queued, Retained, StoredMessage};
use crate::index::SessionSlot;
use crate::model::{
    ApiKey, Application, Device, DeviceProfile, Gateway, MqttAccount, MqttScope, Tenant,
    TenantUser, User,
};
use crate::state::{Cluster, State};
use crate::{Id, MqttSubscription};

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<'a, T> {
    /// How many there are on all pages.
    pub total: usize,
    /// Those on this page.
    pub items: Vec<&'a T>,
}

/// Whose objects to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Everybody's.
    All,
    /// A tenant's.
    Tenant(Id),
    /// An application's.
    Application(Id),
}

fn page<'a, T>(
    all: impl Iterator<Item = &'a T>,
    search: &str,
    name: impl Fn(&T) -> &str,
    alias: impl Fn(&T) -> Option<String>,
    offset: usize,
    limit: usize,
) -> Page<'a, T> {
    let wanted = search.trim().to_lowercase();
    let mut page = Page { total: 0, items: Vec::new() };
    for item in all {
        let named = wanted.is_empty()
            || name(item).to_lowercase().contains(&wanted)
            || alias(item).is_some_and(|alias| alias.contains(&wanted));
        if !named {
            continue;
        }
        if page.total >= offset && page.items.len() < limit {
            page.items.push(item);
        }
        page.total += 1;
    }
    page
}

/// The cluster and its log.
impl State {
    /// Which cluster this is; `None` before the founding.
    pub const fn cluster(&self) -> Option<&Cluster> {
        self.core.cluster.as_ref()
    }

    /// Log index of the last entry applied; 0 before the first.
    pub const fn applied_index(&self) -> u64 {
        self.core.applied
    }

    /// The leader's wall clock as of the last entry; never goes back.
    pub const fn now(&self) -> clock::WallTime {
        self.core.now
    }

    /// Leader time passed since the founding, in microseconds; what durations count.
    pub const fn ticks(&self) -> u64 {
        self.core.ticks
    }

    /// Commands above this level are not to be used yet.
    pub const fn feature_level(&self) -> u32 {
        self.core.feature_level
    }

    /// What the log knows of a node.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Every node known.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    /// Those that belong to the cluster now, by raft id.
    pub fn live_members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members().filter(|(_, member)| member.is_live())
    }

    /// Lowest sequence of the event log that may still be read.
    pub const fn first_event(&self) -> u64 {
        self.events.first
    }

    /// The sequence that the next row of the event log will get.
    pub const fn next_event(&self) -> u64 {
        self.events.next
    }

    /// Rolling SHA-256 over every row ever written.
    pub const fn event_hash(&self) -> [u8; 32] {
        self.events.hash
    }

    /// Encoded bytes of the rows kept.
    pub const fn event_bytes(&self) -> u64 {
        self.events.bytes
    }
}

/// People and programs.
impl State {
    /// A tenant.
    pub fn tenant(&self, id: Id) -> Option<&Tenant> {
        self.tenants.get(&id).map(AsRef::as_ref)
    }

    /// A tenant by its name.
    pub fn tenant_named(&self, name: &str) -> Option<&Tenant> {
        self.tenant(*self.index.tenant_names.get(name)?)
    }

    /// Every tenant, by name.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.index.tenant_names.values().filter_map(|id| self.tenant(*id))
    }

    /// Tenants whose name holds `search` in either case, by name.
    pub fn tenants_page(&self, search: &str, offset: usize, limit: usize) -> Page<'_, Tenant> {
        page(self.tenants(), search, |tenant| &tenant.name, |_| None, offset, limit)
    }

    /// What a user may do in a tenant; `None` if he is not of it.
    pub fn tenant_user(&self, tenant: Id, user: Id) -> Option<&TenantUser> {
        self.tenant_users.get(&(tenant, user))
    }

    /// The users of a tenant.
    pub fn users_of(&self, tenant: Id) -> impl Iterator<Item = (Id, &TenantUser)> {
        let range = (tenant, Id([0; 16]))..=(tenant, Id([0xFF; 16]));
        self.tenant_users.range(range).map(|((_, user), rights)| (*user, rights))
    }

    /// The tenants that a user belongs to.
    pub fn tenants_of(&self, user: Id) -> impl Iterator<Item = (Id, &TenantUser)> {
        let his = self.tenant_users.iter().filter(move |((_, of), _)| *of == user);
        his.map(|((tenant, _), rights)| (*tenant, rights))
    }

    /// A user.
    pub fn user(&self, id: Id) -> Option<&User> {
        self.users.get(&id).map(AsRef::as_ref)
    }

    /// A user by login name.
    pub fn user_named(&self, email: &str) -> Option<&User> {
        self.user(*self.index.user_emails.get(email)?)
    }

    /// Every user, by login name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.index.user_emails.values().filter_map(|id| self.user(*id))
    }

    /// Users whose login name holds `search`, by login name.
    pub fn users_page(&self, search: &str, offset: usize, limit: usize) -> Page<'_, User> {
        page(self.users(), search, |user| &user.email, |_| None, offset, limit)
    }

    /// An API key.
    pub fn api_key(&self, id: Id) -> Option<&ApiKey> {
        self.api_keys.get(&id).map(AsRef::as_ref)
    }

    /// Every API key.
    pub fn api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.values().map(AsRef::as_ref)
    }

    /// An MQTT account.
    pub fn mqtt_account(&self, name: &str) -> Option<&MqttAccount> {
        self.mqtt_accounts.get(name).map(AsRef::as_ref)
    }

    /// Every MQTT account, by name.
    pub fn mqtt_accounts(&self) -> impl Iterator<Item = &MqttAccount> {
        self.mqtt_accounts.values().map(AsRef::as_ref)
    }
}

/// Applications, profiles, gateways.
impl State {
    /// An application.
    pub fn application(&self, id: Id) -> Option<&Application> {
        self.applications.get(&id).map(AsRef::as_ref)
    }

    /// An application of a tenant by its name.
    pub fn application_named(&self, tenant: Id, name: &str) -> Option<&Application> {
        let key = (tenant, name.to_owned());
        self.application(*self.index.application_names.get(&key)?)
    }

    /// Every application.
    pub fn applications(&self) -> impl Iterator<Item = &Application> {
        self.applications.values().map(AsRef::as_ref)
    }

    /// The applications of a tenant, by name.
    pub fn applications_of(&self, tenant: Id) -> impl Iterator<Item = &Application> {
        let names = self.index.application_names.range((tenant, String::new())..);
        let names = names.take_while(move |((owner, _), _)| *owner == tenant);
        names.filter_map(|(_, id)| self.application(*id))
    }

    /// The applications of a tenant whose name holds `search`, by name.
    pub fn applications_page(
        &self,
        tenant: Id,
        search: &str,
        offset: usize,
        limit: usize,
    ) -> Page<'_, Application> {
        page(self.applications_of(tenant), search, |one| &one.name, |_| None, offset, limit)
    }

    /// Who owns an application.
    pub fn tenant_of(&self, application: Id) -> Option<Id> {
        self.applications.get(&application).map(|application| application.tenant_id)
    }

    /// A device profile.
    pub fn device_profile(&self, id: Id) -> Option<&DeviceProfile> {
        self.device_profiles.get(&id).map(AsRef::as_ref)
    }

    /// A device profile by name: the tenant's, else one for every tenant.
    pub fn device_profile_named(&self, tenant: Id, name: &str) -> Option<&DeviceProfile> {
        let named = |owner| self.index.profile_names.get(&(owner, name.to_owned()));
        self.device_profile(*named(Some(tenant)).or_else(|| named(None))?)
    }

    /// The device profiles of a tenant alone, by name.
    pub fn profiles_of(&self, tenant: Id) -> impl Iterator<Item = &DeviceProfile> {
        self.profiles_owned(Some(tenant))
    }

    /// The device profiles for every tenant, by name.
    pub fn global_profiles(&self) -> impl Iterator<Item = &DeviceProfile> {
        self.profiles_owned(None)
    }

    fn profiles_owned(&self, owner: Option<Id>) -> impl Iterator<Item = &DeviceProfile> {
        let names = self.index.profile_names.range((owner, String::new())..);
        let names = names.take_while(move |((of, _), _)| *of == owner);
        names.filter_map(|(_, id)| self.device_profile(*id))
    }

    /// The device profiles a tenant may use, its own first, whose name holds `search`.
    pub fn device_profiles_page(
        &self,
        tenant: Id,
        search: &str,
        offset: usize,
        limit: usize,
    ) -> Page<'_, DeviceProfile> {
        let all = self.profiles_of(tenant).chain(self.global_profiles());
        page(all, search, |profile| &profile.name, |_| None, offset, limit)
    }

    /// A gateway.
    pub fn gateway(&self, id: GatewayEui) -> Option<&Gateway> {
        self.gateways.get(&id).map(AsRef::as_ref)
    }

    /// Every gateway, by identifier.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.gateways.values().map(AsRef::as_ref)
    }

    /// The gateways of a tenant, by identifier.
    pub fn gateways_of(&self, tenant: Id) -> impl Iterator<Item = &Gateway> {
        let lowest = GatewayEui::from_be_bytes([0; 8]);
        let keys = self.index.gateways_of.range((tenant, lowest)..);
        let keys = keys.take_while(move |(owner, _)| *owner == tenant);
        keys.filter_map(|(_, id)| self.gateway(*id))
    }

    /// How many gateways a tenant owns.
    pub fn gateway_count(&self, tenant: Id) -> u64 {
        self.gateways_of(tenant).map(|_| 1).sum()
    }

    /// Gateways whose name or identifier holds `search`, by identifier.
    pub fn gateways_page(
        &self,
        tenant: Option<Id>,
        search: &str,
        offset: usize,
        limit: usize,
    ) -> Page<'_, Gateway> {
        let alias = |gateway: &Gateway| Some(gateway.gateway_id.to_string());
        match tenant {
            None => page(self.gateways(), search, |one| &one.name, alias, offset, limit),
            Some(id) => page(self.gateways_of(id), search, |one| &one.name, alias, offset, limit),
        }
    }
}

/// Devices.
impl State {
    /// A device.
    pub fn device(&self, dev_eui: DevEui) -> Option<&Device> {
        self.devices.get(&dev_eui).map(AsRef::as_ref)
    }

    /// The node that holds the newest NFCntDown grant of a device's session, or of the activation
    /// it has not used yet if there is no other: who is to take its frames. `None`: nobody does.
    pub fn home_of(&self, dev_eui: DevEui) -> Option<NodeId> {
        let device = self.device(dev_eui)?;
        let session = device.session.as_ref().or(device.pending_session.as_ref())?;
        session.n_f_cnt_down.grant.map(|grant| grant.home)
    }

    /// Every device, by identifier.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values().map(AsRef::as_ref)
    }

    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The devices of an application, by identifier.
    pub fn devices_of(&self, application: Id) -> impl Iterator<Item = &Device> {
        let lowest = DevEui::from_be_bytes([0; 8]);
        let keys = self.index.devices_of.range((application, lowest)..);
        let keys = keys.take_while(move |(owner, _)| *owner == application);
        keys.filter_map(|(_, dev_eui)| self.device(*dev_eui))
    }

    /// How many devices an application has.
    pub fn application_device_count(&self, application: Id) -> u64 {
        self.index.device_counts.get(&application).copied().unwrap_or(0).into()
    }

    /// How many devices a tenant has.
    pub fn tenant_device_count(&self, tenant: Id) -> u64 {
        self.applications_of(tenant).map(|one| self.application_device_count(one.id)).sum()
    }

    /// How many devices use a profile.
    pub fn profile_device_count(&self, profile: Id) -> u64 {
        self.index.profile_uses.get(&profile).copied().unwrap_or(0).into()
    }

    /// Devices whose name or identifier holds `search`.
    pub fn devices_page(
        &self,
        owner: Owner,
        search: &str,
        offset: usize,
        limit: usize,
    ) -> Page<'_, Device> {
        let alias = |device: &Device| Some(device.dev_eui.to_string());
        match owner {
            Owner::All => page(self.devices(), search, |one| &one.name, alias, offset, limit),
            Owner::Tenant(id) => {
                let all = self.applications_of(id).flat_map(|one| self.devices_of(one.id));
                page(all, search, |one| &one.name, alias, offset, limit)
            }
            Owner::Application(id) => {
                page(self.devices_of(id), search, |one| &one.name, alias, offset, limit)
            }
        }
    }

    /// Every session with an address: several devices may share one, and a device may have two.
    pub fn sessions_by_addr(
        &self,
        dev_addr: DevAddr,
    ) -> impl Iterator<Item = (&Device, SessionSlot, &DeviceSession)> {
        let lowest = (dev_addr, DevEui::from_be_bytes([0; 8]), SessionSlot::Current);
        let keys = self.index.addresses.range(lowest..);
        let keys = keys.take_while(move |(address, _, _)| *address == dev_addr);
        keys.filter_map(|(_, dev_eui, slot)| {
            let device = self.device(*dev_eui)?;
            let session = match slot {
                SessionSlot::Current => device.session.as_ref(),
                SessionSlot::Pending => device.pending_session.as_ref(),
            };
            session.map(|session| (device, *slot, session))
        })
    }
}

/// The broker's replicated half.
impl State {
    /// A persistent session.
    pub fn client_session(&self, client_id: &str) -> Option<&ClientSession> {
        self.client_sessions.get(client_id).map(AsRef::as_ref)
    }

    /// Every persistent session, by client identifier.
    pub fn client_sessions(&self) -> impl Iterator<Item = &ClientSession> {
        self.client_sessions.values().map(AsRef::as_ref)
    }

    /// What waits for a session from queue sequence `from` on; rows the event log has let go of are
    /// left out.
    pub fn client_queue(
        &self,
        client_id: &str,
        from: u64,
    ) -> impl Iterator<Item = (u64, Queued)> + '_ {
        let session = self.client_session(client_id);
        let places = session.into_iter().flat_map(move |session| session.queue.range(from..));
        places.filter(|(_, place)| self.is_there(place.pointer)).map(|(at, place)| (*at, *place))
    }

    pub(crate) fn is_there(&self, pointer: Pointer) -> bool {
        match pointer {
            Pointer::Event(sequence) => sequence >= self.events.first,
            Pointer::Message(number) => self.messages.contains_key(&number),
        }
    }

    /// A client's message that waits for persistent sessions.
    pub fn message(&self, number: u64) -> Option<&StoredMessage> {
        self.messages.get(&number).map(AsRef::as_ref)
    }

    /// The retained message of a topic.
    pub fn retained(&self, topic: &str) -> Option<&Retained> {
        self.retained.get(topic).map(AsRef::as_ref)
    }

    /// Every retained message, by topic.
    pub fn retained_messages(&self) -> impl Iterator<Item = &Retained> {
        self.retained.values().map(AsRef::as_ref)
    }

    /// Whether an account of `scope` may see `topic`: its own applications' and nothing else.
    pub fn scope_allows(&self, scope: MqttScope, topic: &str) -> bool {
        let application = || -> Option<Id> {
            let (id, rest) = topic.strip_prefix("application/")?.split_once('/')?;
            // One topic, one spelling: the dashed lower-case form that events use.
            let parsed: Id = id.parse().ok()?;
            (!rest.is_empty() && parsed.to_string() == id).then_some(parsed)
        };
        match scope {
            MqttScope::All => true,
            MqttScope::Tenant(tenant) => {
                application().and_then(|id| self.tenant_of(id)) == Some(tenant)
            }
            MqttScope::Application(id) => application() == Some(id),
        }
    }

    /// Whether a persistent session subscribes to `topic` at QoS 1 or 2, its own messages left out
    /// where it did not want them. Whether its account may see the topic is not asked here.
    pub fn is_wanted(&self, topic: &TopicName, publisher: &str) -> bool {
        let wanting = || self.index.subscriptions.matching(topic, publisher);
        !self.index.subscriptions.is_empty() && wanting().values().any(|qos| *qos > 0)
    }

    /// The subscriptions of a persistent session, by filter.
    pub fn subscriptions(&self, client_id: &str) -> impl Iterator<Item = &MqttSubscription> {
        let session = self.client_session(client_id);
        session.into_iter().flat_map(|session| session.subscriptions.values())
    }
}
