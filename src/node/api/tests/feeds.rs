//! The event log and the live view: pages, waiting readers, tenants.

use std::sync::Arc;

use serde_json::json;
use store::{DeviceInfo, Event};

use super::*;
use crate::watch::{WatchLevel, WatchLine};

fn row(sequence: u64, dev_eui: &str, tenant: u8) -> EventRow {
    EventRow {
        sequence,
        id: store::Id([4; 16]),
        time: WallTime::from_unix_secs(1),
        device: Arc::new(DeviceInfo {
            tenant_id: store::Id([tenant; 16]),
            tenant_name: String::new(),
            application_id: store::Id([2; 16]),
            application_name: String::new(),
            device_profile_id: store::Id([3; 16]),
            device_profile_name: String::new(),
            device_name: String::new(),
            dev_eui: dev_eui.parse().unwrap(),
            tags: wire::Tags::new(),
            region: "eu868".into(),
        }),
        event: Event::Join { dev_addr: lorawan::DevAddr::default() },
    }
}

fn filter(after: Option<u64>, wait: bool) -> EventFilter {
    EventFilter { after, wait, ..EventFilter::default() }
}

#[test]
fn a_reader_without_rows_gets_an_empty_page_at_once() {
    let mut world = World::new();
    let page = world.ok(Operation::ReadEvents(filter(Some(0), false)));
    assert_eq!(page["events"], json!([]));
}

#[test]
fn a_waiting_reader_is_answered_once_by_the_first_row_it_may_see() {
    let mut world = World::new();
    let reader = world.user("reader@home", wire::UserTenant::default());
    let call = world.begin(&reader, Operation::ReadEvents(filter(None, true)));
    let of_device = EventFilter { dev_eui: "0000000000000002".into(), ..filter(None, true) };
    let other = world.begin(&Credentials::Local, Operation::ReadEvents(of_device));
    assert!(world.answer(call).is_none() && world.answer(other).is_none());
    let first = world.state.next_event();
    world.with(|api, _| api.handle_row(&row(first, "0000000000000001", 0xEE)));
    assert!(world.answer(call).is_none(), "another tenant's");
    world.with(|api, _| api.handle_row(&row(first + 1, "0000000000000002", 0x01)));
    let page = json(world.answer(call).unwrap());
    assert_eq!(page["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["events"][0]["event"], "join");
    assert_eq!(page["next"], first + 1);
    assert_eq!(json(world.answer(other).unwrap())["next"], first + 1);
    world.with(|api, _| api.handle_row(&row(first + 2, "0000000000000002", 0x01)));
    assert!(world.answers.is_empty(), "nobody waits any more");
}

#[test]
fn a_caller_who_left_is_forgotten() {
    let mut world = World::new();
    let call = world.begin(&Credentials::Local, Operation::ReadEvents(filter(None, true)));
    let watch = WatchFilter { wait: true, ..WatchFilter::default() };
    let watching = world.begin(&Credentials::Local, Operation::Watch(watch));
    world.with(|api, _| {
        api.handle_call_dropped(call);
        api.handle_call_dropped(watching);
    });
    world.with(|api, view| {
        api.handle_row(&row(1, "0000000000000001", 1));
        let line = WatchLine::new(view.now, "node", WatchLevel::Note, "x".into());
        api.handle_watch(view, &line);
    });
    assert!(world.answers.is_empty());
}

#[test]
fn the_live_view_tells_what_it_forgot() {
    let mut world = World::new();
    for number in 0..1_500 {
        world.with(|api, view| {
            let line = WatchLine::new(view.now, "node", WatchLevel::Note, format!("{number}"));
            api.handle_watch(view, &line);
        });
    }
    let from_start = WatchFilter { after: Some(0), ..WatchFilter::default() };
    let page = world.ok(Operation::Watch(from_start));
    assert_eq!((&page["missed"], page["lines"].as_array().map(Vec::len)), (&json!(500), Some(500)));
    assert_eq!(page["lines"][0]["verdict"], "500");
    let on = WatchFilter { after: page["next"].as_u64(), ..WatchFilter::default() };
    let page = world.ok(Operation::Watch(on));
    assert_eq!((&page["missed"], &page["lines"][0]["sequence"]), (&json!(0), &json!(1_001)));
    let now_on = world.ok(Operation::Watch(WatchFilter::default()));
    assert_eq!((&now_on["lines"], &now_on["next"]), (&json!([]), &json!(1_500)));
}

#[test]
fn a_tenants_reader_sees_lines_of_its_own_devices_alone() {
    let mut world = World::new();
    world.network();
    world.device("0000000000000001", "otaa");
    let reader = world.user("reader@home", wire::UserTenant::default());
    for dev_eui in [Some("0000000000000001"), Some("0000000000000002"), None] {
        world.with(|api, view| {
            let mut line = WatchLine::new(view.now, "uplink", WatchLevel::Good, "x".into());
            line.dev_eui = dev_eui.map(|text| text.parse().unwrap());
            api.handle_watch(view, &line);
        });
    }
    let all_lines = WatchFilter { after: Some(0), ..WatchFilter::default() };
    let seen = json(world.call(&reader, Operation::Watch(all_lines.clone())));
    assert_eq!(seen["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(seen["lines"][0]["devEui"], "0000000000000001");
    let seen = world.ok(Operation::Watch(all_lines));
    assert_eq!(seen["lines"].as_array().map(Vec::len), Some(3));
}
