//! Windows, gateways, reports, and what a downlink carries.

use bytes::Bytes;
use lorawan::{DownlinkMacCommand, FCtrl, MacCommand as _, TxStatus, UplinkMacCommand};

use super::super::{LogCode, NotSent, What};
use super::world::{GATEWAY, SECOND, World, confirmed_up, data_up, plain_up};
use crate::fixtures::{bytes, lora};
use crate::transition::ItemFate;

const SF12: lorawan::Modulation = lorawan::Modulation::Lora {
    spreading_factor: 12,
    bandwidth_hz: 125_000,
    code_rate: lorawan::CodeRate::Cr45,
};
const EU: (u32, lorawan::Modulation) = (868_100_000, SF12);

fn up(commands: &[UplinkMacCommand], fcnt: u32) -> Bytes {
    data_up(false, fcnt, FCtrl::default(), &UplinkMacCommand::encode_all(commands))
}

/// The FOpts of a downlink, given as printed.
fn f_opts(hex: &str) -> Vec<DownlinkMacCommand> {
    let frame = bytes(hex);
    let len = usize::from(frame[5] & 0x0F);
    DownlinkMacCommand::walk(&frame[8..8 + len]).map(Result::unwrap).collect()
}

#[test]
fn a_silent_gateway_is_asked_for_rx2_then_the_next_gateway() {
    let mut world = World::new("EU868");
    world.state.gateways.insert(SECOND, true);
    world.acks.extend([None, None, Some(TxStatus::Ok)]);
    let frame = confirmed_up(10);
    world.hear(1_000, GATEWAY, 50, EU, &frame).unwrap();
    world.hear(1_010, SECOND, 10, EU, &frame).unwrap();
    world.run_to(5_000);
    let seen: Vec<_> =
        world.seen.sent.iter().map(|(at, d)| (*at, d.gateway, d.frequency_hz)).collect();
    assert_eq!(
        seen,
        [
            (1_300, GATEWAY, 868_100_000),
            (1_600, GATEWAY, 869_525_000),
            (1_900, SECOND, 868_100_000)
        ]
    );
    let ids: Vec<_> = world.seen.sent.iter().map(|(_, d)| d.downlink_id).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    let [record] = &world.seen.records[..] else { panic!("one report") };
    assert_eq!((record.status, record.gateway), (Some(TxStatus::Ok), SECOND));
    assert_eq!((record.f_cnt_down, record.delay_s, record.eirp_dbm), (5, 1, 16));
    assert_eq!(world.session().n_f_cnt_down.reported, 6);
}

#[test]
fn refused_everywhere_is_reported_with_the_last_refusal() {
    let mut world = World::new("EU868");
    world.acks.extend([Some(TxStatus::CollisionPacket), Some(TxStatus::TxFreq)]);
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(5_000);
    assert_eq!(world.seen.records[0].status, Some(TxStatus::TxFreq));
    assert_eq!(world.session().n_f_cnt_down.reported, 5, "nothing was sent");
    assert!(world.seen.whats.contains(&What::NotSent(NotSent::Refused)));
    assert_eq!(world.seen.logs[0].code, LogCode::DownlinkGateway);
    // The number belongs to those bytes: the repetition gets them, and then they are reported.
    world.hear_868(6_000, &confirmed_up(10));
    world.run_to(9_000);
    assert_eq!(world.downlinks()[0].2, world.downlinks()[2].2);
    assert_eq!(world.session().n_f_cnt_down.reported, 6);
}

#[test]
fn an_answer_of_the_log_after_rx1_goes_to_rx2_and_after_rx2_nowhere() {
    let mut world = World::new("EU868");
    world.log_is_away = true;
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_950);
    world.log_returns();
    world.run_to(5_000);
    let seen: Vec<_> = world.seen.sent.iter().map(|(at, d)| (*at, d.frequency_hz)).collect();
    assert_eq!(seen, [(1_950, 869_525_000)]);
    world.log_is_away = true;
    world.hear_868(6_000, &confirmed_up(11));
    world.run_to(7_950);
    world.log_returns();
    world.run_to(9_000);
    assert_eq!(world.seen.sent.len(), 1);
    assert!(world.seen.whats.contains(&What::NotSent(NotSent::TooLate)));
    assert_eq!(world.seen.accepted.len(), 2, "the reading is kept");
}

#[test]
fn without_a_gateway_path_nothing_is_handed_out() {
    let mut world = World::new("EU868");
    world.enqueue(1, false, &[1]);
    world.state.gateways.insert(GATEWAY, false);
    world.hear_868(1_000, &plain_up(10));
    world.run_to(5_000);
    let told: Vec<_> = world.seen.whats.iter().map(ToString::to_string).collect();
    assert!(told.contains(&"no downlink: no gateway path: no PULL_DATA for 12 s".into()));
    assert!(world.seen.plans.is_empty());
    world.hear_868(6_000, &plain_up(11));
    world.state.gateways.insert(GATEWAY, true);
    world.run_to(9_000);
    assert_eq!(world.seen.sent.len(), 1, "it waited");
}

#[test]
fn what_fits_only_rx1_is_not_sent_in_rx2() {
    let mut world = World::new("EU868");
    world.acks.push_back(Some(TxStatus::TooLate));
    world.enqueue(1, false, &[7; 200]);
    world.hear(1_000, GATEWAY, 0, (868_100_000, lora(7, 125)), &plain_up(10)).unwrap();
    world.run_to(5_000);
    let seen: Vec<_> = world.seen.sent.iter().map(|(_, d)| d.frequency_hz).collect();
    assert_eq!(seen, [868_100_000]);
    assert_eq!(world.seen.records[0].status, Some(TxStatus::TooLate));
    assert_eq!(world.seen.records[0].item_id, Some([1; 16]));
}

#[test]
fn questions_of_the_device_are_answered_in_order() {
    let mut world = World::new("EU868");
    world.state.gateways.insert(SECOND, true);
    let frame = up(&[UplinkMacCommand::DeviceTimeReq, UplinkMacCommand::LinkCheckReq], 10);
    world.hear(1_000, GATEWAY, -100, EU, &frame).unwrap();
    world.hear(1_001, SECOND, 55, EU, &frame).unwrap();
    world.run_to(4_000);
    // 1,790,000,001 s of the Unix epoch: 315,964,800 s less, 18 leap seconds more.
    let time = DownlinkMacCommand::DeviceTimeAns { gps_seconds: 1_474_035_219, fraction: 0 };
    let link = DownlinkMacCommand::LinkCheckAns { margin_db: 25, gateway_count: 2 };
    assert_eq!(f_opts(&world.downlinks()[0].2), [time, link]);
    assert!(world.seen.plans.is_empty());
}

#[test]
fn a_device_hears_that_its_sticky_answer_arrived() {
    let mut world = World::new("EU868");
    world.device().profile.rx1_delay_s = 3;
    world.hear_868(1_000, &plain_up(10));
    world.run_to(4_000);
    let request = DownlinkMacCommand::RxTimingSetupReq { delay: 3 };
    assert_eq!(f_opts(&world.downlinks()[0].2), [request]);
    world.hear_868(5_000, &up(&[UplinkMacCommand::RxTimingSetupAns], 11));
    world.run_to(9_000);
    assert_eq!(world.session().rx1_delay_s, 3);
    let delays: Vec<_> = world.seen.records.iter().map(|record| record.delay_s).collect();
    assert_eq!(delays, [1, 3], "the answer already comes in the new window");
    world.hear_868(10_000, &plain_up(12));
    world.run_to(19_000);
    assert_eq!(world.seen.sent.len(), 2, "and then there is peace");
}

#[test]
fn a_confirmed_item_is_settled_by_the_next_uplink() {
    let mut world = World::new("EU868");
    world.enqueue(1, true, &[1]);
    world.enqueue(2, true, &[2]);
    world.enqueue(3, false, &[3]);
    world.hear_868(1_000, &plain_up(10));
    world.run_to(4_000);
    assert_eq!(&world.downlinks()[0].2[..16], "a004030201900500", "confirmed, more pending");
    let ack = FCtrl { ack: true, ..FCtrl::default() };
    world.hear_868(5_000, &data_up(false, 11, ack, &[]));
    world.run_to(8_000);
    world.hear_868(9_000, &plain_up(12));
    world.run_to(12_000);
    let fates: Vec<_> =
        world.seen.confirmations.iter().map(|c| (c.item_id[0], c.fate, c.f_cnt_down)).collect();
    assert_eq!(fates, [(1, ItemFate::Acknowledged, 5), (2, ItemFate::Lost, 6)]);
    assert_eq!(&world.downlinks()[2].2[..16], "6004030201800700", "the third went last");
    let items: Vec<_> = world.seen.records.iter().map(|record| record.item_id).collect();
    assert_eq!(items, [Some([1; 16]), Some([2; 16]), Some([3; 16])]);
}

#[test]
fn us915_answers_on_its_downlink_channels_and_asks_for_the_sub_band() {
    let mut world = World::new("US915");
    world.device().profile.channels = Some("8-15+65".parse().unwrap());
    world.acks.push_back(Some(TxStatus::TooLate));
    // Channel 9: 904.1 MHz; RX1 on downlink channel 1.
    world.hear(1_000, GATEWAY, 0, (904_100_000, lora(10, 125)), &plain_up(10)).unwrap();
    world.run_to(4_000);
    let radio: Vec<_> =
        world.seen.sent.iter().map(|(_, d)| (d.frequency_hz, d.modulation)).collect();
    assert_eq!(radio, [(923_900_000, lora(10, 500)), (923_300_000, lora(12, 500))]);
    assert_eq!(f_opts(&world.downlinks()[0].2).len(), 2);
    let yes =
        UplinkMacCommand::LinkAdrAns { ch_mask_ack: true, data_rate_ack: true, tx_power_ack: true };
    world.hear(6_000, GATEWAY, 0, (904_100_000, lora(10, 125)), &up(&[yes, yes], 11)).unwrap();
    world.run_to(9_000);
    assert_eq!(world.session().channels.to_string(), "8-15+65");
    assert_eq!(world.seen.sent.len(), 2);
}

#[test]
fn a_frame_waits_for_its_number_on_the_disk() {
    let mut world = World::new("EU868");
    world.enqueue(1, false, &[1]);
    for fcnt in 10..14 {
        world.hear_868(u64::from(fcnt) * 3_000, &confirmed_up(fcnt));
    }
    world.run_to(60_000);
    let numbers: Vec<_> = world.seen.cursors.iter().map(|write| write.next_unused).collect();
    assert_eq!(numbers, [6, 7, 8, 9], "one number each, none twice");
    assert_eq!(world.session().n_f_cnt_down.next, 21, "one grant serves them all");
    assert_eq!(world.session().n_f_cnt_down.reported, 9);
}

#[test]
fn an_application_may_answer_into_the_same_window() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &plain_up(10));
    world.run_to(1_299);
    world.enqueue(1, false, &[1, 2, 3, 4]);
    world.run_to(5_000);
    assert_eq!(world.downlinks()[0].0, 1_300);
}

#[test]
fn a_refusal_that_comes_after_the_next_try_changes_nothing() {
    let mut world = World::new("EU868");
    world.acks.extend([None, None]);
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_650);
    let first = world.seen.sent[0].1.downlink_id;
    let second = world.seen.sent[1].1.downlink_id;
    let ack = |downlink_id, status| lorawan::TxAck { gateway: GATEWAY, downlink_id, status };
    world.mac.handle_tx_ack(world.now(), ack(first, TxStatus::TooLate));
    world.mac.handle_tx_ack(world.now(), ack(second.wrapping_add(9), TxStatus::Ok));
    assert_eq!(world.seen.sent.len(), 2);
    world.mac.handle_tx_ack(world.now(), ack(first, TxStatus::Ok));
    world.run_to(5_000);
    assert_eq!(world.seen.records.len(), 1);
    assert_eq!(world.seen.records[0].downlink_id, first, "late, but it was sent");
}

#[test]
fn a_gateway_that_is_sending_then_is_asked_for_the_other_window_or_not_at_all() {
    let mut world = World::new("EU868");
    for (at, f_cnt) in [(1_000, 10), (1_500, 11), (1_600, 12)] {
        world.hear_868(at, &confirmed_up(f_cnt));
    }
    world.run_to(4_000);
    // The first is sent in RX1 from 2 s to 3 s, the second would begin amidst it, and the third
    // amidst both.
    let seen: Vec<_> = world.seen.sent.iter().map(|(at, d)| (*at, d.frequency_hz)).collect();
    assert_eq!(seen, [(1_300, 868_100_000), (1_800, 869_525_000)]);
    assert!(world.seen.whats.contains(&What::NotSent(NotSent::Busy)));
    assert_eq!(world.seen.accepted.len(), 3, "every reading is kept");
    assert_eq!(world.session().n_f_cnt_down.next, 21);
    assert_eq!(world.seen.cursors.len(), 2, "no number was drawn in vain");
    // A second gateway has a radio of its own.
    world.state.gateways.insert(SECOND, true);
    world.hear_868(6_000, &confirmed_up(13));
    world.hear_868(6_500, &confirmed_up(14));
    world.hear_868(6_600, &confirmed_up(15));
    world.hear(6_610, SECOND, 10, EU, &confirmed_up(15)).unwrap();
    world.run_to(9_000);
    let last = world.seen.sent.last().map(|(at, d)| (*at, d.gateway, d.frequency_hz));
    assert_eq!(last, Some((6_900, SECOND, 868_100_000)));
}

#[test]
fn what_a_gateway_has_refused_keeps_its_radio_free() {
    let mut world = World::new("EU868");
    world.acks.extend([Some(TxStatus::TooLate), Some(TxStatus::TooLate)]);
    world.hear_868(1_000, &confirmed_up(10));
    world.hear_868(1_500, &confirmed_up(11));
    world.run_to(4_000);
    let seen: Vec<_> = world.seen.sent.iter().map(|(at, d)| (*at, d.frequency_hz)).collect();
    assert_eq!(seen, [(1_300, 868_100_000), (1_310, 869_525_000), (1_800, 868_100_000)]);
}
