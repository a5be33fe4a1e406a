//! The state as its readers tell it, beside the model; and what an entry must say that it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use lorawan::JoinNonce;
use mac::{DeviceSession, SessionEpoch};
use store::limits::{
    CLIENT_SESSIONS_MAX, DEVICE_QUEUE_MAX, RETAINED_MAX, SESSION_QUEUE_MAX, SUBSCRIPTIONS_MAX,
};
use store::model::{Device, DeviceKeys, DeviceProfile, EarlierReplies, Tags, TenantUser};
use store::{Change, Event, EventRow, Id, Pointer, SessionSlot, State};

use super::model::Model;
use super::names::{address, application, profile, tenant};

/// Everything that can be asked of `state` is as `model` says.
pub(super) fn same(model: &Model, state: &State) {
    assert_eq!(state.now(), model.now);
    assert_eq!(state.ticks(), model.ticks);
    assert_eq!(state.feature_level(), model.level);
    assert_eq!(state.cluster().map(|cluster| cluster.id), model.cluster);
    assert_eq!(state.next_event(), model.row_count + 1, "rows are numbered without a gap");
    equal("members", state.members().collect(), &model.members);
    equal("tenants", by(state.tenants(), |one| one.id), &model.tenants);
    equal("users", by(state.users(), |one| one.id), &model.users);
    equal("API keys", by(state.api_keys(), |one| one.id), &model.api_keys);
    equal("accounts", by(state.mqtt_accounts(), |one| one.name.clone()), &model.accounts);
    equal("applications", by(state.applications(), |one| one.id), &model.applications);
    equal("profiles", by(profiles(state), |one| one.id), &model.profiles);
    equal("gateways", by(state.gateways(), |one| one.gateway_id), &model.gateways);
    let retained = by(state.retained_messages(), |one| one.message.topic.clone());
    equal("retained", retained, &model.retained);
    equal("rights", rights(state), &model.rights);
    devices(model, state);
    owners(model, state);
    addresses(state);
    sessions(model, state);
    messages(model, state);
}

fn by<'a, K: Ord, T>(
    all: impl Iterator<Item = &'a T>,
    key: impl Fn(&T) -> K,
) -> BTreeMap<K, &'a T> {
    let mut map = BTreeMap::new();
    for one in all {
        assert!(map.insert(key(one), one).is_none(), "listed twice");
    }
    map
}

fn equal<K: Ord + Debug, T: PartialEq + Debug>(
    what: &str,
    seen: BTreeMap<K, &T>,
    wanted: &BTreeMap<K, T>,
) {
    assert!(seen.keys().eq(wanted.keys()), "{what}: {:?}, not {:?}", seen.keys(), wanted.keys());
    for (key, value) in seen {
        assert_eq!(*value, wanted[&key], "{what}: {key:?}");
    }
}

fn profiles(state: &State) -> impl Iterator<Item = &DeviceProfile> {
    let own = (0..2).flat_map(|number| state.profiles_of(tenant(number)));
    own.chain(state.global_profiles())
}

fn rights(state: &State) -> BTreeMap<(Id, Id), &TenantUser> {
    let of = |tenant| state.users_of(tenant).map(move |(user, rights)| ((tenant, user), rights));
    (0..2).map(tenant).flat_map(of).collect()
}

/// What MAC requests and their answers change in a session is `mac`'s business.
fn without_negotiation(session: &DeviceSession) -> DeviceSession {
    DeviceSession {
        rx1_delay_s: 0,
        rx1_dr_offset: 0,
        rx2_dr: 0,
        rx2_frequency_hz: 0,
        channels: mac::ChannelSet::default(),
        extra_channels: BTreeMap::new(),
        tx_power: 0,
        nb_trans: 0,
        pending: Vec::new(),
        rejected: BTreeMap::new(),
        status_requested_at: None,
        ..session.clone()
    }
}

fn devices(model: &Model, state: &State) {
    let seen = by(state.devices(), |one| one.dev_eui);
    assert!(seen.keys().eq(model.devices.keys()), "devices: {:?}", seen.keys());
    for (dev_eui, device) in seen {
        let essence = |device: &Device| Device {
            session: device.session.as_ref().map(without_negotiation),
            pending_session: device.pending_session.as_ref().map(without_negotiation),
            earlier_replies: None,
            ..device.clone()
        };
        let earlier: Vec<_> =
            device.earlier_replies.iter().flat_map(EarlierReplies::iter).collect();
        assert_eq!(earlier, model.earlier.get(&dev_eui).cloned().unwrap_or_default());
        assert_eq!(essence(device), essence(&model.devices[&dev_eui]), "device {dev_eui}");
        assert!(device.queue.len() <= DEVICE_QUEUE_MAX);
        for session in [&device.session, &device.pending_session].into_iter().flatten() {
            assert!(session.epoch <= device.last_epoch);
            for counter in [session.n_f_cnt_down, session.a_f_cnt_down] {
                assert!(counter.grant.is_none_or(|grant| grant.hi == counter.next));
            }
        }
    }
    assert_eq!(state.device_count(), model.devices.len());
}

/// Names, lists and counts are found fast; they must be what a search finds.
fn owners(model: &Model, state: &State) {
    for tenant in (0..2).map(tenant) {
        let seen: BTreeSet<Id> = state.applications_of(tenant).map(|one| one.id).collect();
        let his = model.applications.values().filter(|one| one.tenant_id == tenant);
        assert_eq!(seen, his.map(|one| one.id).collect());
        let seen: BTreeSet<_> = state.gateways_of(tenant).map(|one| one.gateway_id).collect();
        let his = model.gateways.values().filter(|one| one.tenant_id == tenant);
        assert_eq!(seen, his.map(|one| one.gateway_id).collect());
    }
    for application in (0..3).map(application) {
        let seen: Vec<_> = state.devices_of(application).map(|one| one.dev_eui).collect();
        let its = model.devices.values().filter(|one| one.application_id == application);
        assert_eq!(seen, its.map(|one| one.dev_eui).collect::<Vec<_>>());
        let count = u64::try_from(seen.len()).expect("few");
        assert_eq!(state.application_device_count(application), count);
    }
    for profile in (0..3).map(profile) {
        let users = model.devices.values().filter(|one| one.device_profile_id == profile).count();
        assert_eq!(state.profile_device_count(profile), u64::try_from(users).expect("few"));
    }
    for tenant in model.tenants.values() {
        assert_eq!(state.tenant_named(&tenant.name).map(|one| one.id), Some(tenant.id));
    }
    for user in model.users.values() {
        assert_eq!(state.user_named(&user.email).map(|one| one.id), Some(user.id));
    }
    for one in model.applications.values() {
        let found = state.application_named(one.tenant_id, &one.name);
        assert_eq!(found.map(|found| found.id), Some(one.id));
    }
}

/// Each session is found under its address, and nothing else is.
fn addresses(state: &State) {
    for dev_addr in (0..4).map(address) {
        let mut wanted = Vec::new();
        for device in state.devices() {
            let slots = [
                (&device.session, SessionSlot::Current),
                (&device.pending_session, SessionSlot::Pending),
            ];
            for (session, slot) in slots {
                if session.as_ref().is_some_and(|session| session.dev_addr == dev_addr) {
                    wanted.push((device.dev_eui, slot));
                }
            }
        }
        let seen = state.sessions_by_addr(dev_addr);
        let seen: Vec<_> = seen.map(|(device, slot, _)| (device.dev_eui, slot)).collect();
        assert_eq!(seen, wanted, "sessions of {dev_addr}");
    }
}

fn sessions(model: &Model, state: &State) {
    let seen = by(state.client_sessions(), |one| one.client_id.clone());
    assert!(seen.keys().eq(model.sessions.keys()), "client sessions: {:?}", seen.keys());
    for (client_id, session) in seen {
        let wanted = &model.sessions[&client_id];
        assert_eq!(session.account, wanted.account);
        assert_eq!((session.fence, session.node), (wanted.fence, wanted.node), "{client_id}");
        assert_eq!((session.expiry_s, session.ends_at_ticks), (wanted.expiry_s, wanted.ends_at));
        assert_eq!(session.subscriptions, wanted.subscriptions);
        assert_eq!((session.next, session.dropped), (wanted.next, wanted.dropped), "{client_id}");
        assert_eq!(session.created_at, wanted.created_at);
        assert!(session.queue.iter().eq(&wanted.queue), "queue of {client_id}");
        assert!(session.queue.len() <= SESSION_QUEUE_MAX);
        assert!(session.subscriptions.len() <= SUBSCRIPTIONS_MAX);
        let is_there = |pointer| match pointer {
            Pointer::Event(row) => row >= state.first_event(),
            Pointer::Message(_) => true,
        };
        let readable = wanted.queue.iter().filter(|(_, place)| is_there(place.pointer));
        let readable = readable.map(|(at, place)| (*at, *place));
        assert!(state.client_queue(&client_id, 0).eq(readable), "what {client_id} may read");
    }
    assert!(state.client_sessions().count() <= CLIENT_SESSIONS_MAX);
    assert!(state.retained_messages().count() <= RETAINED_MAX);
}

/// A message is kept while somebody waits for it, and no longer.
fn messages(model: &Model, state: &State) {
    let mut places: BTreeMap<u64, u32> = BTreeMap::new();
    for place in model.sessions.values().flat_map(|session| session.queue.values()) {
        if let Pointer::Message(number) = place.pointer {
            *places.entry(number).or_default() += 1;
        }
    }
    for (number, (message, at)) in &model.messages {
        let wanted = places.get(number).map(|count| (message, *count, *at));
        let seen = state.message(*number).map(|stored| (&stored.message, stored.places, stored.at));
        assert_eq!(seen, wanted, "message {number}");
    }
    assert!(state.message(u64::try_from(model.messages.len()).expect("few") + 1).is_none());
}

/// A row without its identifier and without words for people.
pub(super) fn plain(row: &EventRow) -> EventRow {
    let event = match &row.event {
        Event::Log { level, code, description, .. } => {
            assert!(!description.is_empty());
            let (description, context) = (String::new(), Tags::new());
            Event::Log { level: *level, code: *code, description, context }
        }
        other => other.clone(),
    };
    EventRow { id: Id::default(), event, ..row.clone() }
}

/// Nothing that can be asked for is another than before, sessions that ran out left aside.
pub(super) fn untouched(before: &State, after: &State) {
    assert!(before.members().eq(after.members()));
    assert!(before.tenants().eq(after.tenants()));
    assert!(before.users().eq(after.users()));
    assert!(before.api_keys().eq(after.api_keys()));
    assert!(before.mqtt_accounts().eq(after.mqtt_accounts()));
    assert!(before.applications().eq(after.applications()));
    assert!(profiles(before).eq(profiles(after)));
    assert!(before.gateways().eq(after.gateways()));
    assert!(before.devices().eq(after.devices()), "a device changed");
    assert!(before.retained_messages().eq(after.retained_messages()));
    assert_eq!(before.event_hash(), after.event_hash());
    for session in after.client_sessions() {
        assert_eq!(before.client_session(&session.client_id), Some(session));
    }
}

/// The node that holds a key, a list or a connection learns of every change of it.
pub(super) fn changes_are_named(before: &State, after: &State, changes: &[Change]) {
    let named = |change: Change| {
        assert!(changes.contains(&change), "nobody is told: {change:?}");
    };
    let stands = |state: &State, id| {
        let mut all = state.members().filter(|(member, _)| *member == id);
        all.next().map(|(_, member)| (member.plate.clone(), member.status))
    };
    for (id, member) in after.members() {
        let now = (member.plate.clone(), member.status);
        if stands(before, id).unwrap_or_default() != now {
            named(Change::Member(id));
        }
    }
    let of = |state| by(State::tenants(state), |one| one.id);
    differing(of(before), of(after)).for_each(|id| named(Change::Tenant(id)));
    let of = |state| by(State::users(state), |one| one.id);
    differing(of(before), of(after)).for_each(|id| named(Change::User(id)));
    let differing_rights = differing(rights(before), rights(after));
    differing_rights.for_each(|(_, user)| named(Change::User(user)));
    let of = |state| by(State::api_keys(state), |one| one.id);
    differing(of(before), of(after)).for_each(|id| named(Change::ApiKey(id)));
    let of = |state| by(State::mqtt_accounts(state), |one| one.name.clone());
    differing(of(before), of(after)).for_each(|name| named(Change::MqttAccount(name)));
    let of = |state| by(State::applications(state), |one| one.id);
    differing(of(before), of(after)).for_each(|id| named(Change::Application(id)));
    let of = |state| by(profiles(state), |one| one.id);
    differing(of(before), of(after)).for_each(|id| named(Change::DeviceProfile(id)));
    let of = |state| by(State::gateways(state), |one| one.gateway_id);
    differing(of(before), of(after)).for_each(|id| named(Change::Gateway(id)));
    let of = |state| by(State::retained_messages(state), |one| one.message.topic.clone());
    differing(of(before), of(after)).for_each(|topic| named(Change::Retained(topic)));
    let of = |state| by(State::devices(state), |one| one.dev_eui);
    for dev_eui in differing(of(before), of(after)) {
        let (old, new) = (before.device(dev_eui), after.device(dev_eui));
        if old.map(identity) != new.map(identity) {
            named(Change::Device(dev_eui));
        }
        if old.zip(new).is_some_and(|(old, new)| old.queue != new.queue) {
            named(Change::DeviceQueue(dev_eui));
        }
    }
    client_changes_are_named(before, after, changes);
}

/// Keys whose values differ, or that only one side has.
fn differing<K: Ord + Clone, T: PartialEq>(
    old: BTreeMap<K, &T>,
    new: BTreeMap<K, &T>,
) -> impl Iterator<Item = K> {
    let keys: BTreeSet<K> = old.keys().chain(new.keys()).cloned().collect();
    keys.into_iter().filter(move |key| old.get(key) != new.get(key))
}

/// What an opened key depends on: registration, keys, and which sessions there are.
fn identity(device: &Device) -> impl PartialEq {
    let sessions = [&device.session, &device.pending_session].map(|session| {
        session.as_ref().map(|session| (session.epoch, session.dev_addr, session.keys.clone()))
    });
    let without_nonces = |keys: &DeviceKeys| DeviceKeys {
        next_join_nonce: JoinNonce(0),
        dev_nonces: Vec::new(),
        ..keys.clone()
    };
    let registration = Device {
        keys: device.keys.as_ref().map(without_nonces),
        session: None,
        pending_session: None,
        last_epoch: SessionEpoch(0),
        queue: Vec::new(),
        status: None,
        last_seen_at: None,
        last_reply: None,
        last_home: None,
        earlier_replies: None,
        ..device.clone()
    };
    (registration, sessions)
}

fn client_changes_are_named(before: &State, after: &State, changes: &[Change]) {
    let fence_named = |wanted: u64| {
        changes.iter().any(|change| match change {
            Change::ClientTaken { fence, .. } | Change::ClientEnded { fence, .. } => {
                *fence == wanted
            }
            _ => false,
        })
    };
    for new in after.client_sessions().filter(|new| new.node.is_some()) {
        let old = before.client_session(&new.client_id).filter(|old| old.fence == new.fence);
        let opened = |change: &Change| match change {
            Change::ClientOpened { client_id, .. } => *client_id == new.client_id,
            _ => false,
        };
        assert!(old.is_some() || changes.iter().any(opened), "{} opened", new.client_id);
    }
    for old in before.client_sessions() {
        let new = after.client_session(&old.client_id).filter(|new| new.fence == old.fence);
        match new {
            // A clean start ends a session that nobody is connected to without a word.
            None => assert!(old.node.is_none() || fence_named(old.fence), "{} lost", old.client_id),
            Some(new) => {
                let (client_id, same_node) = (new.client_id.clone(), old.node == new.node);
                if let Some(node) = new.node.filter(|_| same_node && old.next < new.next) {
                    assert!(changes.contains(&Change::ClientQueued { client_id, node }));
                }
            }
        }
    }
}
