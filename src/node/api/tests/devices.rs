//! Devices and gateways: names for ids, keys, activation, queue, import.

use serde_json::json;

use super::*;

const EUI: &str = "70b3d57ed0001234";
const KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn activation(n_f_cnt_down: u32) -> Operation {
    Operation::ActivateDevice(wire::DeviceActivation {
        dev_eui: EUI.into(),
        dev_addr: "01020304".into(),
        nwk_s_enc_key: KEY.into(),
        app_s_key: KEY.into(),
        f_cnt_up: 8,
        n_f_cnt_down,
        ..wire::DeviceActivation::default()
    })
}

fn item(f_port: u32, data: &str) -> wire::QueueItem {
    wire::QueueItem { dev_eui: EUI.into(), f_port, data: data.into(), ..wire::QueueItem::default() }
}

#[test]
fn a_device_is_found_by_eui_in_any_form_and_by_name() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "otaa");
    for form in
        [EUI, "70-B3-D5-7E-D0-00-12-34", "70:b3:d5:7e:d0:00:12:34", "device 70b3d57ed0001234"]
    {
        let seen = world.ok(Operation::GetDevice(form.into()));
        assert_eq!(seen["device"]["devEui"], EUI, "{form}");
        assert_eq!(seen["classEnabled"], "CLASS_A");
    }
    let missing = world.error(&Credentials::Local, Operation::GetDevice("nothing".into()));
    assert_eq!(missing, ApiError::NotFound("there is no device `nothing`".into()));
}

#[test]
fn what_stands_in_every_event_is_bounded() {
    let mut world = World::new();
    world.network();
    let device = |description: usize, tags: usize| {
        let tag = |number| (format!("tag {number}"), "x".repeat(100));
        Operation::CreateDevice(wire::Device {
            dev_eui: EUI.into(),
            application_id: "app".into(),
            device_profile_id: "otaa".into(),
            description: "d".repeat(description),
            tags: (0..tags).map(tag).collect(),
            ..wire::Device::default()
        })
    };
    for wrong in [device(4_097, 0), device(0, 65), device(0, 80)] {
        assert_eq!(world.error(&Credentials::Local, wrong).http_status(), 400);
    }
    world.ok(device(4_096, 64));
}

#[test]
fn root_keys_come_back_to_whom_may_change_the_device() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "otaa");
    let keys = |nwk: &str, app: &str| wire::DeviceKeys {
        dev_eui: EUI.into(),
        nwk_key: nwk.into(),
        app_key: app.into(),
    };
    let wrong = Operation::CreateDeviceKeys(keys("", KEY));
    let error = world.error(&Credentials::Local, wrong);
    assert!(error.to_string().contains("the AppKey goes here"), "{error}");
    let short = world.error(&Credentials::Local, Operation::CreateDeviceKeys(keys("0102", "")));
    assert_eq!(short.http_status(), 400);
    world.ok(Operation::CreateDeviceKeys(keys(
        "00-01-02-03-04-05-06-07-08-09-0A-0B-0C-0D-0E-0F",
        "",
    )));
    let seen = world.ok(Operation::GetDeviceKeys(EUI.into()));
    assert_eq!(seen["deviceKeys"], json!({"devEui": EUI, "nwkKey": KEY, "appKey": ""}));
    let twice = world.error(&Credentials::Local, Operation::CreateDeviceKeys(keys(KEY, "")));
    assert_eq!(twice.http_status(), 409);
    let reader = world.user("reader@home", wire::UserTenant::default());
    let refused = world.error(&reader, Operation::GetDeviceKeys(EUI.into()));
    assert_eq!(refused.http_status(), 403);
    let stored = format!("{:?}", world.state.device(EUI.parse().unwrap()));
    assert!(!stored.contains(KEY));
}

#[test]
fn an_activation_shows_next_uplink_and_reported_downlink_counter() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "abp");
    let none = world.ok(Operation::GetActivation(EUI.into()));
    assert_eq!(none, json!({"deviceActivation": null}));
    world.ok(activation(5));
    let seen = world.ok(Operation::GetActivation(EUI.into()));
    let seen = &seen["deviceActivation"];
    assert_eq!((&seen["fCntUp"], &seen["nFCntDown"]), (&json!(8), &json!(5)));
    assert_eq!((&seen["sNwkSIntKey"], &seen["appSKey"]), (&json!(KEY), &json!(KEY)));
    let reader = world.user("reader@home", wire::UserTenant::default());
    let seen = world.call(&reader, Operation::GetActivation(EUI.into())).unwrap();
    let seen = serde_json::to_value(seen).unwrap();
    assert_eq!(seen["deviceActivation"]["appSKey"], "", "keys are for device administrators");
    world.ok(Operation::DeactivateDevice(EUI.into()));
    assert_eq!(world.ok(Operation::GetActivation(EUI.into())), json!({"deviceActivation": null}));
}

#[test]
fn activating_anew_with_the_same_keys_never_lowers_the_downlink_counter() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "abp");
    world.ok(activation(500));
    world.ok(activation(0));
    let session = world.state.device(EUI.parse().unwrap()).unwrap().session.as_ref().unwrap();
    assert_eq!(session.n_f_cnt_down.next, 500);
}

#[test]
fn a_queue_holds_what_was_asked_and_refuses_what_no_frame_carries() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "abp");
    world.ok(activation(0));
    let long = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [0; 243]);
    for wrong in [item(0, ""), item(224, ""), item(1, "%"), item(1, &long)] {
        let enqueue = Operation::Enqueue { item: wrong, flush: false };
        assert_eq!(world.error(&Credentials::Local, enqueue).http_status(), 400);
    }
    let with_object = wire::QueueItem { object: Some(json!({"led": 1})), ..item(1, "") };
    let enqueue = Operation::Enqueue { item: with_object, flush: false };
    assert_eq!(world.error(&Credentials::Local, enqueue).http_status(), 400);
    let first = world.ok(Operation::Enqueue { item: item(10, "AQI="), flush: false });
    let queue = world.ok(Operation::GetQueue { device: EUI.into(), count_only: false });
    assert_eq!(queue["totalCount"], 1);
    assert_eq!(queue["result"][0]["id"], first["id"]);
    assert_eq!(queue["result"][0]["data"], "AQI=");
    world.ok(Operation::Enqueue { item: item(11, ""), flush: true });
    let queue = world.ok(Operation::GetQueue { device: EUI.into(), count_only: false });
    assert_eq!((&queue["totalCount"], &queue["result"][0]["fPort"]), (&json!(1), &json!(11)));
    let id = queue["result"][0]["id"].as_str().unwrap().to_owned();
    world.ok(Operation::CancelItem { device: EUI.into(), item: id.clone() });
    let gone = Operation::CancelItem { device: EUI.into(), item: id };
    assert_eq!(world.error(&Credentials::Local, gone).http_status(), 404);
}

#[test]
fn an_import_brings_the_session_in_as_the_other_server_left_it() {
    let mut world = World::new();
    world.network();
    let import: wire::DeviceImport = serde_json::from_value(json!({
        "device": {"devEui": EUI, "applicationId": "app", "deviceProfileId": "otaa",
            "isDisabled": true, "skipFcntCheck": true},
        "session": {"devAddr": "01020304", "nwkSEncKey": KEY, "appSKey": KEY, "fCntUp": 8,
            "nFCntDown": 5, "rx1Delay": 3, "channels": "0-2", "abp": false,
            "statusRequestedAt": "2026-11-20T12:00:00Z"},
        "queue": [
            {"fPort": 10, "data": "AQI=", "confirmed": true, "isPending": true, "fCntDown": 4},
            {"fPort": 11, "data": "AQ=="},
        ],
    }))
    .unwrap();
    world.ok(Operation::ImportDevice(Box::new(import.clone())));
    let device = world.state.device(EUI.parse().unwrap()).unwrap();
    assert!(device.is_disabled && device.skip_f_cnt_check);
    let session = device.session.as_ref().unwrap();
    assert_eq!(session.uplink.last, Some(7));
    assert_eq!((session.n_f_cnt_down.next, session.rx1_delay_s, session.abp), (5, 3, false));
    assert!(session.status_requested_at.is_some());
    let queue = world.ok(Operation::GetQueue { device: EUI.into(), count_only: false });
    assert_eq!(queue["result"][0]["isPending"], true);
    assert_eq!(queue["result"][0]["fCntDown"], 4);
    assert_eq!(queue["result"][1]["isPending"], false);
    let rights = wire::UserTenant { is_admin: true, ..wire::UserTenant::default() };
    let tenant_admin = world.user("boss@home", rights);
    let refused = world.error(&tenant_admin, Operation::ImportDevice(Box::new(import)));
    assert_eq!(refused.http_status(), 403, "only a global administrator moves sessions in");
    let unknown = serde_json::from_value::<wire::DeviceImport>(json!({"sesion": {}}));
    assert!(unknown.is_err(), "a misspelt name in a migration file must not be ignored");
}

#[test]
fn a_profile_refuses_what_the_server_cannot_do_and_names_sub_bands() {
    let mut world = World::new();
    let profile = |fields: serde_json::Value| -> Operation {
        let mut value = json!({"name": "p", "tenantId": "home", "supportsOtaa": true});
        value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Operation::CreateDeviceProfile(Box::new(serde_json::from_value(value).unwrap()))
    };
    for wrong in [
        json!({"supportsClassC": true}),
        json!({"supportsClassB": true}),
        json!({"payloadCodecRuntime": "JS"}),
        json!({"region": "EU999"}),
        json!({"region": "EU868", "channels": "8-15+65"}),
        json!({"region": "US915", "channels": "70-80"}),
        json!({"region": "US915", "regionConfigId": "us915_8"}),
        json!({"region": "US915", "extraChannels": [867_100_000]}),
        json!({"extraChannels": [915_000_000]}),
        json!({"macVersion": "LORAWAN_2"}),
        json!({"regParamsRevision": "C"}),
        json!({"rx1Delay": 16}),
        json!({"name": " "}),
    ] {
        let status = world.error(&Credentials::Local, profile(wrong.clone())).http_status();
        assert_eq!(status, 400, "{wrong}");
    }
    world.ok(profile(json!({"region": "US915", "regionConfigId": "us915_1"})));
    let seen = world.ok(Operation::GetDeviceProfile("p".into()));
    assert_eq!(seen["deviceProfile"]["channels"], "8-15+65");
    assert_eq!(seen["deviceProfile"]["macVersion"], "LORAWAN_1_0_3");
    let again: wire::DeviceProfile = serde_json::from_value(seen["deviceProfile"].clone()).unwrap();
    world.ok(Operation::UpdateDeviceProfile(Box::new(again)));
    assert_eq!(
        world.ok(Operation::GetDeviceProfile("p".into()))["deviceProfile"],
        seen["deviceProfile"]
    );
}

#[test]
fn a_gateway_says_whether_it_is_there() {
    let mut world = World::new();
    for id in ["0000000000000001", "0000000000000002"] {
        world.ok(Operation::CreateGateway(wire::Gateway {
            gateway_id: id.into(),
            name: format!("gw {id}"),
            antenna_gain: 2.15,
            ..wire::Gateway::default()
        }));
    }
    let seen = world.ok(Operation::GetGateway("00-00-00-00-00-00-00-01".into()));
    assert_eq!(seen["state"], "OFFLINE", "61 s is more than twice 30 s");
    assert_eq!(seen["pullAge"], 12.5);
    assert_eq!(seen["gateway"]["antennaGain"], 2.2, "kept in tenths of a dBi");
    let list = world.ok(Operation::ListGateways(all()));
    assert_eq!(list["result"][1]["state"], "NEVER_SEEN");
    let nan = wire::Location { latitude: f64::NAN, ..wire::Location::default() };
    let wrong = wire::Gateway {
        gateway_id: "0000000000000003".into(),
        name: "x".into(),
        location: nan,
        ..wire::Gateway::default()
    };
    let refused = world.error(&Credentials::Local, Operation::CreateGateway(wrong));
    assert_eq!(refused.http_status(), 400);
}

#[test]
fn lists_page_search_and_order() {
    let mut world = World::new();
    world.network();
    for number in 0..25 {
        world.device(&format!("70b3d57ed00012{number:02x}"), "otaa");
    }
    let query = ListQuery { limit: 10, offset: 20, application_id: "app".into(), ..all() };
    let page = world.ok(Operation::ListDevices(query));
    assert_eq!(page["totalCount"], 25);
    assert_eq!(page["result"].as_array().map(Vec::len), Some(5));
    let count = world.ok(Operation::ListDevices(ListQuery { limit: 0, ..all() }));
    assert_eq!(
        (&count["totalCount"], count["result"].as_array().map(Vec::len)),
        (&json!(25), Some(0))
    );
    let found = ListQuery { search: "D000120A".into(), ..all() };
    assert_eq!(world.ok(Operation::ListDevices(found))["totalCount"], 1);
    let last = ListQuery { order_by: "DEV_EUI".into(), order_by_desc: true, ..all() };
    let last = world.ok(Operation::ListDevices(last));
    assert_eq!(last["result"][0]["devEui"], "70b3d57ed0001218");
}

#[test]
fn random_addresses_belong_to_the_network() {
    let mut world = World::new();
    world.network();
    world.device(EUI, "abp");
    let drawn = world.ok(Operation::GetRandomDevAddr(EUI.into()));
    let drawn = drawn["devAddr"].as_str().unwrap();
    assert!(drawn.starts_with("00") || drawn.starts_with("01"), "{drawn}");
}
