//! The published cases of the field, byte for byte, as far as they reach this floor.

use lorawan::{DownlinkTiming, TxStatus};

use super::world::{GATEWAY, Item, World};
use crate::fixtures::{DEV_EUI, bytes, lora, wall};
use crate::transition::{DiscardReason, ItemFate, ItemState};
use crate::{MacVersion, SessionKeys, UplinkError};
use clock::Duration;

/// Hears one frame and returns what was sent, without times.
fn answer(world: &mut World, frame: &str) -> Vec<String> {
    world.hear_868(1_000, &bytes(frame));
    world.run_to(4_000);
    world.downlinks().into_iter().map(|(_, _, hex)| hex).collect()
}

fn without_app_key(world: &mut World) {
    let session = world.device().session.as_mut().unwrap();
    session.mac_version = MacVersion::V1_0_2;
    let nwk = "0102030405060708090a0b0c0d0e0f10".parse().unwrap();
    session.keys = crate::fixtures::sealed(&SessionKeys::v1_0(nwk, None), [0; 24]);
}

#[test]
fn chirp_004_adr_off_gets_no_answer() {
    let mut world = World::new("EU868");
    assert!(answer(&mut world, "4004030201000a007a9898dc").is_empty());
    assert_eq!(world.session().uplink.last, Some(10));
    assert!(world.seen.plans.is_empty(), "nothing to decide, nothing asked");
}

#[test]
fn chirp_013_a_disabled_device_is_ignored() {
    let mut world = World::new("EU868");
    without_app_key(&mut world);
    world.device().is_disabled = true;
    let radio = (868_100_000, lora(12, 125));
    let refused = world.hear(0, GATEWAY, 0, radio, &bytes("400403020100070001305e1aef"));
    assert_eq!(refused, Err(UplinkError::Disabled { dev_eui: DEV_EUI }));
    world.run_to(3_000);
    assert!(world.seen.accepts.is_empty());
}

#[test]
fn chirp_016_two_items_one_pending() {
    let mut world = World::new("EU868");
    world.enqueue(1, false, &[1, 2, 3, 4]);
    world.enqueue(2, false, &[2, 2, 3, 4]);
    let sent = answer(&mut world, "4004030201000a0001a0c34408");
    assert_eq!(sent, ["60040302019005000a732e49577e888b05"]);
}

#[test]
fn chirp_018_an_item_too_large_is_dropped_silently_on_the_air() {
    let mut world = World::new("EU868");
    world.enqueue(1, false, &[0; 52]);
    assert!(answer(&mut world, "4004030201000a0001a0c34408").is_empty());
    assert_eq!(world.seen.discarded, [DiscardReason::TooLarge]);
    assert!(world.device().queue.is_empty());
}

#[test]
fn chirp_021_and_022_status_by_interval() {
    let mut world = World::new("EU868");
    world.device().profile.status_requests_per_day = 24;
    world.device().session.as_mut().unwrap().status_requested_at = Some(wall(0));
    assert!(answer(&mut world, "4004030201000a007a9898dc").is_empty());
    let mut world = World::new("EU868");
    world.device().profile.status_requests_per_day = 24;
    answer(&mut world, "4004030201030a0006800a1d8d369b");
    let [status] = world.seen.statuses[..] else { panic!("one status") };
    assert_eq!((status.margin_db, status.battery_percent()), (10, Some(50.393_7)));
}

#[test]
fn chirp_029_and_030_status_is_asked_alone_and_beside_an_item() {
    let mut world = World::new("EU868");
    world.device().profile.status_requests_per_day = 1;
    let sent = answer(&mut world, "4004030201000a007a9898dc");
    assert_eq!(sent, ["600403020181050006faf096db"]);
    assert_eq!(world.session().n_f_cnt_down.reported, 6, "a TX_ACK reported 5");
    let mut world = World::new("EU868");
    world.device().profile.status_requests_per_day = 1;
    world.enqueue(1, false, &[1, 2, 3, 4]);
    world.device().queue[0].f_port = 1;
    let sent = answer(&mut world, "4004030201000a007a9898dc");
    assert_eq!(sent, ["60040302018105000601732e495715ccd565"]);
}

#[test]
fn chirp_035_and_036_counters_start_anew() {
    for (frame, f_cnt) in [("400403020100070001305e1aef", 7), ("400403020100000001832453a3", 0)] {
        let mut world = World::new("EU868");
        without_app_key(&mut world);
        world.device().skip_f_cnt_check = true;
        assert!(answer(&mut world, frame).is_empty());
        assert_eq!((world.seen.accepted.len(), world.seen.accepted[0].f_cnt), (1, f_cnt));
        assert_eq!(world.session().uplink.last, Some(f_cnt));
        assert_eq!(world.session().n_f_cnt_down.reported, 5);
    }
}

#[test]
fn chirp_037_to_040_payload_ack_and_empty_payload() {
    let mut world = World::new("EU868");
    assert!(answer(&mut world, "4004030201000a00010102030468932379").is_empty());
    let accepted = &world.seen.accepted[0];
    assert_eq!((&accepted.data[..], accepted.f_port), (&[0xd7, 0xf1, 0x70, 0x34][..], Some(1)));
    let mut world = World::new("EU868");
    let state = ItemState::AwaitsAck { f_cnt_down: 4, since: wall(0) };
    let data = bytes("");
    world.device().queue.push(Item { id: 0, f_port: 1, confirmed: false, data, state });
    answer(&mut world, "4004030201200a00010102030484fae40a");
    let [settled] = world.seen.confirmations[..] else { panic!("one ack") };
    assert_eq!((settled.fate, settled.f_cnt_down), (ItemFate::Acknowledged, 4));
    let mut world = World::new("EU868");
    answer(&mut world, "4004030201000a0001a0c34408");
    assert_eq!(world.seen.accepted[0].f_port, Some(1));
    assert!(world.seen.accepted[0].data.is_empty());
}

#[test]
fn chirp_041_and_042_a_confirmed_uplink_is_acknowledged_in_rx1_else_rx2() {
    for frame in ["8004030201000a000101020304455ac85f", "8004030201000a0001d234345e"] {
        let mut world = World::new("EU868");
        world.acks.push_back(Some(TxStatus::TooLate));
        let sent = answer(&mut world, frame);
        assert_eq!(sent, ["6004030201a00500a1b3da68"; 2], "{frame}");
        let radio: Vec<_> = world
            .seen
            .sent
            .iter()
            .map(|(_, d)| (d.frequency_hz, d.modulation, d.eirp_dbm, d.timing))
            .collect();
        let after =
            |secs| DownlinkTiming::Delay { tmst: 1_000_000, delay: Duration::from_secs(secs) };
        let rx1 = (868_100_000, lora(12, 125), 16, after(1));
        let rx2 = (869_525_000, lora(12, 125), 29, after(2));
        assert_eq!(radio, [rx1, rx2]);
        assert!(world.seen.plans.is_empty(), "a bare acknowledgement needs no log");
    }
}
