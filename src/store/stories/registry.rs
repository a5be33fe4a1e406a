//! The registry: creating, changing, limits, cascades, revocation.

use lorawan::{DevEui, GatewayEui};

use super::*;
use crate::model::{ApiKey, Gateway, Location, TenantUser};
use crate::{Change, Owner};

fn gateway(last: u8, tenant_id: Id) -> Gateway {
    Gateway {
        gateway_id: GatewayEui::from_be_bytes([0, 0, 0, 0, 0, 0, 0, last]),
        tenant_id,
        name: format!("gateway {last}"),
        description: String::new(),
        location: Location::default(),
        tags: BTreeMap::new(),
        metadata: BTreeMap::new(),
        stats_interval_s: 30,
        antenna_gain_ddbi: 0,
        max_eirp_dbm: None,
        downlink_rf_chain: None,
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    }
}

fn api_key(key: Id, tenant_id: Option<Id>) -> ApiKey {
    ApiKey {
        id: key,
        name: "key".into(),
        is_admin: false,
        tenant_id,
        is_read_only: false,
        secret: PasswordHash::Sha256([0; 32]),
        created_at: WallTime::UNIX_EPOCH,
    }
}

fn eui(number: u8) -> DevEui {
    DevEui::from_be_bytes([0, 0, 0, 0, 0, 0, 1, number])
}

fn put_device(device: Device) -> Command {
    Command::PutDevice(Box::new(create(device)))
}

#[test]
fn a_cluster_is_founded_once() {
    let mut log = Log::founded();
    let again = Command::Found {
        cluster_id: id(8),
        cluster_name: "other".into(),
        node: NODE,
        admin: user(id(5), "other"),
        tenant: tenant(id(6), "other"),
        founders: Vec::new(),
    };
    let refusal = log.refused(again);
    assert_eq!(refusal.to_string(), format!("cluster {} exists already", id(9)));
    assert_eq!(log.state.cluster().unwrap().name, "test");
    assert_eq!(log.state.user_named("admin").unwrap().id, ADMIN);
    assert_eq!(log.state.feature_level(), crate::limits::FEATURE_LEVEL);
}

#[test]
fn put_means_create_change_or_either() {
    let mut log = Log::founded();
    log.now = 10;
    let not_there = log.refused(Command::PutTenant(change(tenant(id(20), "two"))));
    assert_eq!(not_there, Refusal::NotFound(format!("tenant {}", id(20))));
    log.done(Command::PutTenant(create(tenant(id(20), "two"))));
    log.now = 20;
    let there = log.refused(Command::PutTenant(create(tenant(id(20), "two"))));
    assert_eq!(there, Refusal::AlreadyExists(format!("tenant {}", id(20))));
    log.done(Command::PutTenant(change(tenant(id(20), "three"))));
    log.now = 30;
    log.done(Command::PutTenant(Put { must_exist: None, value: tenant(id(20), "four") }));
    let four = log.state.tenant_named("four").unwrap();
    assert_eq!((four.created_at, four.updated_at), (wall(10), wall(30)));
    assert!(log.state.tenant_named("two").is_none() && log.state.tenant_named("three").is_none());
}

#[test]
fn names_are_unique_where_they_stand_for_an_identifier() {
    let mut log = Log::founded();
    log.done(Command::PutTenant(create(tenant(id(20), "two"))));
    for taken in [
        Command::PutTenant(create(tenant(id(21), "two"))),
        Command::PutTenant(change(tenant(id(20), "one"))),
        Command::PutApplication(create(application(id(22), TENANT, "app"))),
        Command::PutDeviceProfile(create(profile(id(23), Some(TENANT), "profile"))),
        Command::PutUser(create(user(id(24), "admin"))),
    ] {
        assert!(matches!(log.refused(taken), Refusal::AlreadyExists(_)));
    }
    log.done(Command::PutApplication(create(application(id(22), id(20), "app"))));
    log.done(Command::PutDeviceProfile(create(profile(id(23), None, "profile"))));
    assert_eq!(log.state.application_named(TENANT, "app").unwrap().id, APPLICATION);
    assert_eq!(log.state.device_profile_named(TENANT, "profile").unwrap().id, PROFILE);
    assert_eq!(log.state.device_profile_named(id(20), "profile").unwrap().id, id(23));
}

#[test]
fn what_belongs_to_nobody_is_refused() {
    let mut log = Log::founded();
    log.done(Command::PutTenant(create(tenant(id(20), "two"))));
    log.done(Command::PutDeviceProfile(create(profile(id(21), Some(id(20)), "foreign"))));
    let foreign = Device { device_profile_id: id(21), ..device(DEVICE) };
    assert!(matches!(log.refused(put_device(foreign)), Refusal::Invalid(_)));
    let homeless = Device { application_id: id(99), ..device(DEVICE) };
    assert!(matches!(log.refused(put_device(homeless)), Refusal::NotFound(_)));
    for orphan in [
        Command::PutApplication(create(application(id(22), id(99), "x"))),
        Command::PutDeviceProfile(create(profile(id(23), Some(id(99)), "x"))),
        Command::PutGateway(Box::new(create(gateway(1, id(99))))),
        Command::CreateApiKey(api_key(id(24), Some(id(99)))),
        Command::PutMqttAccount(create(account("x", MqttScope::Tenant(id(99))))),
        Command::PutMqttAccount(create(account("x", MqttScope::Application(id(99))))),
    ] {
        assert!(matches!(log.refused(orphan), Refusal::NotFound(_)));
    }
    let moved = Command::PutApplication(change(application(APPLICATION, id(20), "app")));
    assert!(matches!(log.refused(moved), Refusal::Invalid(_)));
}

#[test]
fn a_tenant_owns_no_more_than_it_may() {
    let mut log = Log::founded();
    let limited = Tenant { max_device_count: 2, max_gateway_count: 1, ..tenant(TENANT, "one") };
    log.done(Command::PutTenant(change(limited.clone())));
    log.done(put_device(device(eui(1))));
    log.done(put_device(device(eui(2))));
    assert!(matches!(log.refused(put_device(device(eui(3)))), Refusal::LimitReached(_)));
    log.done(Command::PutDevice(Box::new(change(device(eui(2))))));
    log.done(Command::DeleteDevice(eui(1)));
    log.done(put_device(device(eui(3))));
    log.done(Command::PutGateway(Box::new(create(gateway(1, TENANT)))));
    let second = Command::PutGateway(Box::new(create(gateway(2, TENANT))));
    assert!(matches!(log.refused(second), Refusal::LimitReached(_)));
    let none = Tenant { can_have_gateways: false, max_gateway_count: 0, ..limited };
    log.done(Command::PutTenant(change(none)));
    let third = Command::PutGateway(Box::new(create(gateway(3, TENANT))));
    assert!(matches!(log.refused(third), Refusal::LimitReached(_)));
}

#[test]
fn a_tenant_takes_everything_with_it() {
    let mut log = Log::with_session();
    log.done(Command::PutTenant(create(tenant(id(20), "two"))));
    log.done(Command::PutApplication(create(application(id(21), id(20), "other"))));
    log.done(Command::PutGateway(Box::new(create(gateway(1, TENANT)))));
    log.done(Command::PutGateway(Box::new(create(gateway(2, id(20))))));
    log.done(Command::CreateApiKey(api_key(id(30), Some(TENANT))));
    log.done(Command::CreateApiKey(api_key(id(31), None)));
    for (name, scope) in [
        ("all", MqttScope::All),
        ("tenant", MqttScope::Tenant(TENANT)),
        ("application", MqttScope::Application(APPLICATION)),
        ("other", MqttScope::Tenant(id(20))),
    ] {
        log.done(Command::PutMqttAccount(create(account(name, scope))));
    }
    let rights = Some(TenantUser::default());
    for tenant_id in [TENANT, id(20)] {
        log.done(Command::SetTenantUser { tenant_id, user_id: ADMIN, rights });
    }
    let applied = log.done(Command::DeleteTenant(TENANT));
    let state = &log.state;
    assert!(state.tenant(TENANT).is_none() && state.tenant_named("one").is_none());
    assert!(state.application(APPLICATION).is_none() && state.device(DEVICE).is_none());
    assert!(state.device_profile(PROFILE).is_none());
    assert_eq!(state.sessions_by_addr(ADDRESS).count(), 0);
    assert_eq!(state.gateways().map(|one| one.tenant_id).collect::<Vec<_>>(), [id(20)]);
    assert_eq!(state.api_keys().map(|key| key.id).collect::<Vec<_>>(), [id(31)]);
    let accounts: Vec<_> = state.mqtt_accounts().map(|one| one.name.as_str()).collect();
    assert_eq!(accounts, ["all", "other"]);
    assert_eq!(state.tenants_of(ADMIN).map(|(tenant, _)| tenant).collect::<Vec<_>>(), [id(20)]);
    for gone in [
        Change::Device(DEVICE),
        Change::ApiKey(id(30)),
        Change::MqttAccount("tenant".into()),
        Change::MqttAccount("application".into()),
        Change::User(ADMIN),
        Change::Tenant(TENANT),
    ] {
        assert!(applied.changes.contains(&gone), "{gone:?}");
    }
}

#[test]
fn a_profile_in_use_stays() {
    let mut log = Log::with_device();
    let refusal = log.refused(Command::DeleteDeviceProfile(PROFILE));
    assert_eq!(refusal.to_string(), "1 devices use this device profile");
    log.done(Command::DeleteDevice(DEVICE));
    log.done(Command::DeleteDeviceProfile(PROFILE));
}

#[test]
fn credentials_end_with_a_change_that_the_node_hears_of() {
    let mut log = Log::founded();
    log.done(Command::PutUser(create(user(id(30), "eve@example.org"))));
    let password = PasswordHash::Phc("new".into());
    let applied = log.done(Command::SetPassword { user_id: id(30), password: password.clone() });
    assert_eq!(applied.changes, [Change::User(id(30))]);
    assert_eq!(log.state.user(id(30)).unwrap().generation, 1);
    let dismissed = User { is_active: false, ..user(id(30), "eve@example.org") };
    log.done(Command::PutUser(change(dismissed)));
    let eve = log.state.user(id(30)).unwrap();
    assert_eq!((eve.generation, &eve.password), (2, &password), "a change keeps the password");
    let rights = Some(TenantUser { is_admin: true, ..TenantUser::default() });
    log.done(Command::SetTenantUser { tenant_id: TENANT, user_id: id(30), rights });
    let applied = log.done(Command::DeleteUser(id(30)));
    assert_eq!(applied.changes, [Change::User(id(30))]);
    assert!(log.state.user_named("eve@example.org").is_none());
    assert_eq!(log.state.users_of(TENANT).count(), 0);
    log.done(Command::CreateApiKey(api_key(id(31), None)));
    assert_eq!(log.done(Command::DeleteApiKey(id(31))).changes, [Change::ApiKey(id(31))]);
    assert!(matches!(log.refused(Command::DeleteApiKey(id(31))), Refusal::NotFound(_)));
}

#[test]
fn a_retry_gets_the_first_answer_and_changes_nothing() {
    let mut log = Log::founded();
    let request = log.request();
    let command = Command::PutTenant(create(tenant(id(20), "two")));
    assert_eq!(log.ask_as(request, command.clone()).0, Reply::Done);
    log.done(Command::DeleteTenant(id(20)));
    let (reply, applied) = log.ask_as(request, command);
    assert_eq!((reply, applied.changes), (Reply::Done, vec![]));
    assert!(log.state.tenant(id(20)).is_none(), "it is not created again");
}

#[test]
fn pages_search_names_and_identifiers() {
    let mut log = Log::founded();
    for number in 1..=9 {
        let name = if number % 2 == 0 { "Cellar" } else { "Roof" };
        log.done(put_device(Device { name: name.into(), ..device(eui(number)) }));
    }
    log.done(Command::PutApplication(create(application(id(22), TENANT, "empty"))));
    let page = |owner, search: &str, offset, limit| {
        let page = log.state.devices_page(owner, search, offset, limit);
        (page.total, page.items.iter().map(|one| one.dev_eui).collect::<Vec<_>>())
    };
    assert_eq!(page(Owner::Application(APPLICATION), "cell", 1, 2), (4, vec![eui(4), eui(6)]));
    assert_eq!(page(Owner::Tenant(TENANT), "", 8, 5), (9, vec![eui(9)]));
    assert_eq!(page(Owner::All, "0103", 0, 5), (1, vec![eui(3)]));
    assert_eq!(page(Owner::Application(id(22)), "", 0, 5), (0, vec![]));
    assert_eq!(log.state.tenant_device_count(TENANT), 9);
    assert_eq!(log.state.profile_device_count(PROFILE), 9);
}

#[test]
fn time_never_goes_back_and_counts_leader_ticks() {
    let mut log = Log::founded();
    log.now = 100;
    log.done(Command::PutTenant(create(tenant(id(20), "late"))));
    log.now = 50;
    log.done(Command::PutTenant(create(tenant(id(21), "later"))));
    assert_eq!(log.state.tenant(id(21)).unwrap().created_at, wall(100));
    assert_eq!(log.state.now(), wall(100));
    let entry = Entry { wall: wall(100), elapsed_micros: u64::MAX, proposals: vec![] };
    log.state.apply(100, &entry).unwrap();
    assert_eq!(log.state.ticks(), crate::limits::ELAPSED_MICROS_MAX);
}

#[test]
fn what_a_newer_log_demands_stops_the_node() {
    let mut log = Log::founded();
    let before = log.state.state_hash();
    let level = crate::limits::FEATURE_LEVEL + 1;
    let request = log.request();
    let proposals = vec![Proposal { request, command: Command::RaiseFeatureLevel(level) }];
    let entry = Entry { wall: wall(0), elapsed_micros: 0, proposals };
    let error = log.state.apply(50, &entry).unwrap_err();
    assert!(error.to_string().ends_with("upgrade this node"), "{error}");
    assert_eq!(log.state.state_hash(), before);
    let old = Entry { proposals: vec![], ..entry };
    assert!(log.state.apply(log.index, &old).is_err(), "an entry is applied once");
}

#[test]
fn the_feature_level_rises_to_what_every_node_knows() {
    let (next, known) = (crate::limits::FEATURE_LEVEL, crate::limits::FEATURE_LEVEL - 1);
    let mut log = Log::founded();
    log.done(Command::Boot { node: NodeId(2), boot: 1, feature_level: known, plate: None });
    let refusal = log.refused(Command::RaiseFeatureLevel(next));
    assert!(refusal.to_string().ends_with(&format!("knows feature level {known}, not {next}")));
    log.done(Command::Boot { node: NodeId(1), boot: 1, feature_level: next, plate: None });
    log.done(Command::Boot { node: NodeId(2), boot: 2, feature_level: next, plate: None });
    log.done(Command::RaiseFeatureLevel(next));
    let older = Command::Boot { node: NodeId(2), boot: 1, feature_level: next, plate: None };
    assert!(matches!(log.refused(older), Refusal::Invalid(_)));
    assert_eq!(log.state.member(NodeId(2)).unwrap().boot, 2);
}
