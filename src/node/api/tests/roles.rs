//! Who may do what: logins, tokens, roles, tenants that do not see each other.

use super::*;

fn device_admin() -> wire::UserTenant {
    wire::UserTenant { is_device_admin: true, ..wire::UserTenant::default() }
}

#[test]
fn nobody_in_particular_may_ask_for_health_and_nothing_else() {
    let mut world = World::new();
    let health = json(world.call(&Credentials::Anonymous, Operation::GetHealth));
    assert_eq!(health, serde_json::json!({"ready": true, "state": "ready", "load": 0}));
    for operation in [
        Operation::ListTenants(all()),
        Operation::GetNode,
        Operation::Drain,
        Operation::ReadEvents(EventFilter::default()),
        Operation::Logout,
    ] {
        let error = world.error(&Credentials::Anonymous, operation.clone());
        assert_eq!(error.http_status(), 401, "{operation:?}");
    }
    let wrong = Credentials::Bearer(Secret::new("tl_nonsense".into()));
    assert_eq!(world.error(&wrong, Operation::GetProfile).http_status(), 401);
}

#[test]
fn a_login_lasts_a_day_and_ends_with_a_new_password() {
    let mut world = World::new();
    let admin = world.login("admin", ADMIN_PASSWORD).unwrap();
    let profile = json(world.call(&admin, Operation::GetProfile));
    assert_eq!(profile["user"]["email"], "admin");
    world.seconds += 24 * 3_600 + 1;
    assert_eq!(world.error(&admin, Operation::GetProfile).http_status(), 401, "a day later");
    let admin = world.login("admin", ADMIN_PASSWORD).unwrap();
    let password = Some(Secret::new("second password".into()));
    world.ok(Operation::SetPassword { user: "admin".into(), password });
    assert_eq!(world.error(&admin, Operation::GetProfile).http_status(), 401, "new password");
    assert_eq!(world.login("admin", ADMIN_PASSWORD).unwrap_err().http_status(), 401);
    let admin = world.login("admin", "second password").unwrap();
    world.call(&admin, Operation::Logout).unwrap();
    assert_eq!(world.error(&admin, Operation::GetProfile).http_status(), 401, "logged out");
}

#[test]
fn a_reset_password_is_drawn_shown_once_and_works() {
    let mut world = World::new();
    let reset = Operation::SetPassword { user: "admin".into(), password: None };
    let shown = world.ok(reset)["password"].as_str().unwrap().to_owned();
    assert_eq!(shown.len(), 24);
    assert!(world.login("admin", &shown).is_ok());
    assert!(world.login("admin", ADMIN_PASSWORD).is_err());
}

#[test]
fn wrong_passwords_are_slowed_down_by_name() {
    let mut world = World::new();
    for name in ["admin", "nobody"] {
        for _ in 0..5 {
            assert_eq!(world.login(name, "guess").unwrap_err().http_status(), 401, "{name}");
        }
        assert_eq!(world.login(name, "guess").unwrap_err().http_status(), 429, "{name}");
    }
    assert_eq!(world.login("admin", ADMIN_PASSWORD).unwrap_err().http_status(), 429);
    world.seconds += 61;
    assert!(world.login("admin", ADMIN_PASSWORD).is_ok());
}

#[test]
fn a_tenants_people_see_their_tenant_alone() {
    let mut world = World::new();
    world.network();
    world.ok(Operation::CreateTenant(wire::Tenant {
        name: "other".into(),
        ..wire::Tenant::default()
    }));
    world.ok(Operation::CreateApplication(wire::Application {
        name: "theirs".into(),
        tenant_id: "other".into(),
        ..wire::Application::default()
    }));
    let reader = world.user("reader@home", wire::UserTenant::default());
    let tenants = json(world.call(&reader, Operation::ListTenants(all())));
    assert_eq!(tenants["totalCount"], 1);
    let applications = json(world.call(&reader, Operation::ListApplications(all())));
    assert_eq!(applications["result"][0]["name"], "app");
    assert_eq!(applications["totalCount"], 1);
    for hidden in [
        Operation::GetTenant("other".into()),
        Operation::GetApplication("theirs".into()),
        Operation::ListUnknownGateways,
        Operation::ListUsers(all()),
        Operation::CreateTenant(wire::Tenant::default()),
    ] {
        let status = world.error(&reader, hidden.clone()).http_status();
        assert!(matches!(status, 403 | 404), "{hidden:?}: {status}");
    }
}

#[test]
fn each_role_reaches_its_own_and_no_further() {
    let mut world = World::new();
    world.network();
    let gateways = wire::UserTenant { is_gateway_admin: true, ..wire::UserTenant::default() };
    let reader = world.user("reader@home", wire::UserTenant::default());
    let gateways = world.user("gateways@home", gateways);
    let devices = world.user("devices@home", device_admin());
    let device = |eui: &str| {
        Operation::CreateDevice(wire::Device {
            dev_eui: eui.into(),
            application_id: "app".into(),
            device_profile_id: "otaa".into(),
            ..wire::Device::default()
        })
    };
    let gateway = |id: &str| {
        Operation::CreateGateway(wire::Gateway {
            gateway_id: id.into(),
            name: "gateway".into(),
            tenant_id: "home".into(),
            ..wire::Gateway::default()
        })
    };
    assert_eq!(world.error(&reader, device("0000000000000001")).http_status(), 403);
    assert_eq!(world.error(&gateways, device("0000000000000001")).http_status(), 403);
    assert!(world.call(&devices, device("0000000000000001")).is_ok());
    assert_eq!(world.error(&reader, gateway("0000000000000002")).http_status(), 403);
    assert_eq!(world.error(&devices, gateway("0000000000000002")).http_status(), 403);
    assert!(world.call(&gateways, gateway("0000000000000002")).is_ok());
    let add_user = Operation::AddTenantUser(wire::TenantUser {
        tenant_id: "home".into(),
        email: "admin".into(),
        ..wire::TenantUser::default()
    });
    assert_eq!(world.error(&devices, add_user).http_status(), 403);
    let drain = world.error(&devices, Operation::Drain);
    assert_eq!(drain.http_status(), 403);
    assert!(!world.api.take_drain());
    world.ok(Operation::Drain);
    assert!(world.api.take_drain());
}

#[test]
fn an_api_key_acts_for_its_tenant_until_it_is_deleted() {
    let mut world = World::new();
    world.network();
    let key = |is_read_only| {
        Operation::CreateApiKey(wire::ApiKey {
            name: "key".into(),
            tenant_id: "home".into(),
            is_read_only,
            ..wire::ApiKey::default()
        })
    };
    let bearer = |made: &serde_json::Value| {
        Credentials::Bearer(Secret::new(made["token"].as_str().unwrap().to_owned()))
    };
    let writing = world.ok(key(false));
    let reading = world.ok(key(true));
    let application = |name: &str| {
        Operation::CreateApplication(wire::Application {
            name: name.into(),
            tenant_id: "home".into(),
            ..wire::Application::default()
        })
    };
    assert!(world.call(&bearer(&writing), application("by key")).is_ok());
    let refused = world.error(&bearer(&reading), application("by reader"));
    assert_eq!(refused.http_status(), 403);
    let seen = json(world.call(&bearer(&reading), Operation::ListApplications(all())));
    assert_eq!(seen["totalCount"], 2);
    let id = writing["id"].as_str().unwrap().to_owned();
    world.ok(Operation::DeleteApiKey(id));
    assert_eq!(world.error(&bearer(&writing), Operation::GetProfile).http_status(), 401);
    let mut forged = reading["token"].as_str().unwrap().to_owned();
    forged.pop();
    let forged = Credentials::Bearer(Secret::new(forged + "~"));
    assert_eq!(world.error(&forged, Operation::GetProfile).http_status(), 401);
}

#[test]
fn a_node_that_cannot_decide_says_so_and_an_unknown_outcome_is_not_a_refusal() {
    let mut world = World::new();
    let tenant =
        || Operation::CreateTenant(wire::Tenant { name: "t".into(), ..wire::Tenant::default() });
    for (why, expected) in [
        (ProposalError::NoQuorum, ApiError::Unavailable(Unavailable::NoQuorum)),
        (ProposalError::DiskFull, ApiError::Unavailable(Unavailable::DiskFull)),
        (ProposalError::Stopping, ApiError::Unavailable(Unavailable::Stopping)),
        (ProposalError::Unknown, ApiError::UnknownOutcome),
    ] {
        world.fail = Some(why);
        assert_eq!(world.error(&Credentials::Local, tenant()), expected);
    }
    world.fail = None;
    world.node.state = wire::NodeState::Starting;
    let starting = world.error(&Credentials::Local, Operation::ListTenants(all()));
    assert_eq!(starting, ApiError::Unavailable(Unavailable::Starting));
    let health = json(world.call(&Credentials::Anonymous, Operation::GetHealth));
    assert_eq!(health["ready"], false);
}

#[test]
fn an_mqtt_account_needs_one_scope_and_its_password_is_never_shown_again() {
    let mut world = World::new();
    world.network();
    let user = |application_id: &str, all| wire::MqttUser {
        name: "dashboard".into(),
        application_id: application_id.into(),
        all,
        ..wire::MqttUser::default()
    };
    for wrong in [user("", false), user("app", true)] {
        let error = world.error(&Credentials::Local, Operation::CreateMqttUser(wrong));
        assert_eq!(error.http_status(), 400);
    }
    let made = world.ok(Operation::CreateMqttUser(user("app", false)));
    assert_eq!(made["password"].as_str().map(str::len), Some(24));
    assert_eq!(made["port"], 1883);
    let again = world.error(&Credentials::Local, Operation::CreateMqttUser(user("app", false)));
    assert_eq!(again.http_status(), 409);
    let seen = world.ok(Operation::GetMqttUser("dashboard".into()));
    assert_eq!(seen.get("password"), None);
    let id = seen["applicationId"].as_str().unwrap();
    assert_eq!(made["topic"], format!("application/{id}/device/+/event/+"));
}
