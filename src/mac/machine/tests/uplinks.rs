//! Windows, copies, repetitions, counters, refusals.

use bytes::Bytes;
use lorawan::{DevAddr, FCtrl, GatewayEui, MType, ParseError};

use super::super::{Effect, LogCode, What};
use super::world::{GATEWAY, SECOND, World, confirmed_up, data_up, plain_up};
use crate::fixtures::{DEV_ADDR, DEV_EUI, bytes, lora};
use crate::{MacVersion, SessionEpoch, UplinkError};

const EU: (u32, lorawan::Modulation) = (
    868_100_000,
    lorawan::Modulation::Lora {
        spreading_factor: 12,
        bandwidth_hz: 125_000,
        code_rate: lorawan::CodeRate::Cr45,
    },
);

#[test]
fn copies_over_two_gateways_are_one_frame_best_first() {
    let mut world = World::new("EU868");
    world.state.gateways.insert(SECOND, true);
    let frame = confirmed_up(10);
    world.hear(1_000, GATEWAY, -50, EU, &frame).unwrap();
    world.hear(1_000, GATEWAY, -50, EU, &frame).unwrap();
    world.hear(1_199, SECOND, 30, EU, &frame).unwrap();
    world.hear(1_201, SECOND, 90, EU, &frame).unwrap();
    world.run_to(5_000);
    let [accepted] = &world.seen.accepted[..] else { panic!("one frame") };
    let heard: Vec<_> = accepted.receptions.iter().map(|r| (r.gateway, r.snr_ddb)).collect();
    assert_eq!(heard, [(SECOND, 30), (GATEWAY, -50)], "once each, late copies dropped");
    assert_eq!(world.downlinks().len(), 1);
    assert_eq!((world.downlinks()[0].0, world.downlinks()[0].1), (1_300, SECOND));
}

#[test]
fn a_repetition_beside_a_late_copy_of_another_channel_is_answered_in_its_second_window() {
    let mut world = World::new("EU868");
    world.state.gateways.insert(SECOND, true);
    let frame = confirmed_up(10);
    // What the first gateway tells is old; the device's repetition came at 868.1 MHz.
    world.hear(1_000, GATEWAY, -50, (868_300_000, EU.1), &frame).unwrap();
    world.hear(1_050, SECOND, 90, EU, &frame).unwrap();
    world.run_to(5_000);
    let sent: Vec<_> =
        world.seen.sent.iter().map(|(_, one)| (one.gateway, one.frequency_hz)).collect();
    assert_eq!(sent, [(SECOND, 869_525_000)]);
}

#[test]
fn a_confirmed_frame_repeated_later_gets_the_same_bytes_and_no_second_event() {
    let mut world = World::new("EU868");
    let frame = confirmed_up(10);
    world.hear_868(1_000, &frame);
    // Accepted at 1.200: until 2.200 a repetition is a copy.
    world.hear_868(2_150, &frame);
    world.run_to(3_000);
    assert_eq!(world.seen.sent.len(), 1);
    world.hear_868(3_500, &frame);
    world.hear_868(6_000, &frame);
    world.run_to(9_000);
    let sent = world.downlinks();
    let times: Vec<_> = sent.iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [1_300, 3_700, 6_200]);
    assert!(sent.iter().all(|(.., hex)| *hex == sent[0].2), "{sent:?}");
    assert_eq!((world.seen.accepts.len(), world.seen.plans.len()), (1, 0), "no log entry");
    assert_eq!((world.seen.cursors.len(), world.seen.records.len()), (1, 1));
    assert_eq!(world.seen.logs.len(), 1, "told once in ten seconds");
    assert_eq!(world.seen.logs[0].code, LogCode::UplinkFCntRetransmission);
}

#[test]
fn a_repetition_whose_bytes_are_lost_gets_a_new_number() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(4_000);
    let mut restarted = World::new("EU868");
    restarted.state = world.state;
    restarted.hear_868(6_000, &confirmed_up(10));
    restarted.run_to(9_000);
    assert!(restarted.seen.accepts.is_empty());
    let [ask] = &restarted.seen.plans[..] else { panic!("one question") };
    assert!(ask.number_only && ask.cursor.is_none());
    // What the home held before is skipped; this is number 21.
    assert_eq!(&restarted.downlinks()[0].2[..16], "6004030201a01500");
}

#[test]
fn a_repetition_that_asks_for_nothing_gets_nothing() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &plain_up(10));
    world.hear_868(4_000, &plain_up(10));
    world.run_to(8_000);
    assert!(world.seen.sent.is_empty());
    assert!(world.seen.whats.contains(&What::Repeated { f_cnt: 10, answered: false }));
    assert_eq!(world.seen.accepted.len(), 1);
}

#[test]
fn a_repetition_beside_a_newer_frame_gets_nothing() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &confirmed_up(10));
    // The newer one is not accepted yet when the older one comes again.
    world.hear_868(4_000, &confirmed_up(11));
    world.hear_868(4_100, &confirmed_up(10));
    world.run_to(8_000);
    let times: Vec<_> = world.downlinks().iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [1_300, 4_300]);
}

#[test]
fn a_repetition_whose_item_was_not_heard_gets_it_again() {
    let mut world = World::new("EU868");
    world.enqueue(1, false, &[9]);
    world.hear_868(1_000, &plain_up(10));
    world.hear_868(4_000, &plain_up(10));
    world.run_to(8_000);
    let sent = world.downlinks();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].2, sent[1].2);
    assert_eq!(world.seen.plans.len(), 1, "handed out once");
}

#[test]
fn a_frame_replayed_for_ever_is_answered_a_few_times() {
    let mut world = World::new("EU868");
    for second in 0..100 {
        world.hear_868(1_000 + second * 3_000, &confirmed_up(10));
    }
    world.run_to(400_000);
    assert_eq!(world.seen.sent.len(), 1 + 15);
    assert_eq!(world.session().n_f_cnt_down.next, 21);
    assert_eq!(world.seen.cursors.len(), 1);
}

#[test]
fn commands_on_port_zero_are_commands_and_no_payload() {
    let mut world = World::new("EU868");
    let message = lorawan::DataMessage {
        direction: lorawan::Direction::Up,
        confirmed: false,
        dev_addr: DEV_ADDR,
        fctrl: FCtrl::default(),
        fcnt: 10,
        f_opts: &[],
        f_port: Some(0),
        payload: &[0x06, 0xFF, 0x0A, 0x80, 1, 2],
    };
    let ciphers = crate::fixtures::case_keys().ciphers(MacVersion::V1_0_4);
    let frame = ciphers.seal(&message, lorawan::MicContext::default()).unwrap();
    world.hear_868(1_000, &frame.into());
    world.run_to(4_000);
    let accepted = &world.seen.accepted[0];
    assert_eq!((accepted.f_port, accepted.data.len()), (None, 0));
    assert_eq!(world.seen.statuses[0].battery, 255, "read up to the unknown command");
}

#[test]
fn an_adr_ack_request_is_answered_by_an_empty_downlink() {
    let mut world = World::new("EU868");
    let fctrl = FCtrl { adr: true, adr_ack_req: true, ..FCtrl::default() };
    world.hear_868(1_000, &data_up(false, 10, fctrl, &[]));
    world.run_to(4_000);
    assert_eq!(&world.downlinks()[0].2[..16], "6004030201800500");
    assert_eq!(world.downlinks()[0].2.len(), 24, "no port, no payload");
}

#[test]
fn a_counter_may_cross_into_the_next_half_and_a_late_copy_come_from_before() {
    let mut world = World::new("EU868");
    world.device().session.as_mut().unwrap().uplink.last = Some(0xFFFE);
    world.hear_868(1_000, &plain_up(0xFFFF));
    world.hear_868(3_000, &plain_up(0x1_0000));
    let late = world.hear(5_000, GATEWAY, 0, EU, &plain_up(0xFFF0));
    let (f_cnt, last) = (0xFFF0, 0x1_0000);
    assert_eq!(late, Err(UplinkError::FCntTooLow { dev_eui: DEV_EUI, f_cnt, last }));
    assert_eq!(world.session().uplink.last, Some(0x1_0000));
}

#[test]
fn a_device_that_may_start_anew_does_and_others_are_refused() {
    let mut world = World::new("EU868");
    world.device().session.as_mut().unwrap().uplink.last = Some(0x2_0007);
    let refused = world.hear(1_000, GATEWAY, 0, EU, &plain_up(3));
    let last = 0x2_0007;
    assert_eq!(refused, Err(UplinkError::FCntTooLow { dev_eui: DEV_EUI, f_cnt: 3, last }));
    assert_eq!(world.seen.logs[0].code, LogCode::UplinkFCntReset);
    world.device().skip_f_cnt_check = true;
    world.hear_868(2_000, &confirmed_up(3));
    world.run_to(5_000);
    assert_eq!(world.session().epoch, SessionEpoch(2));
    assert!(world.seen.whats.contains(&What::Accepted { f_cnt: 3, gateways: 1, reset: true }));
    // The answer, and its repetition, are found under the new epoch.
    world.hear_868(6_000, &confirmed_up(3));
    world.run_to(9_000);
    assert_eq!(world.seen.accepted.len(), 1);
    let sent = world.downlinks();
    assert_eq!((sent.len(), &sent[0].2), (2, &sent[1].2));
}

#[test]
fn the_same_counter_with_other_content_is_refused_without_a_proposal() {
    let mut world = World::new("EU868");
    world.hear_868(1_000, &plain_up(10));
    world.run_to(4_000);
    let other = world.hear(5_000, GATEWAY, 0, EU, &confirmed_up(10));
    assert_eq!(other, Err(UplinkError::FCntConflict { dev_eui: DEV_EUI, f_cnt: 10 }));
    assert_eq!(world.seen.accepts.len(), 1);
}

#[test]
fn the_session_is_told_by_the_mic_not_by_the_address() {
    let mut world = World::new("EU868");
    let mut twin = World::new("EU868").state.devices.remove(&DEV_EUI).unwrap();
    let other = crate::SessionKeys::v1_0(lorawan::Key::from_bytes([9; 16]), None);
    twin.session.as_mut().unwrap().keys = crate::fixtures::sealed(&other, [0; 24]);
    let before = lorawan::DevEui::from_be_bytes([0; 8]);
    world.state.devices.insert(before, twin);
    world.hear_868(1_000, &plain_up(10));
    world.run_to(2_000);
    assert_eq!(world.seen.accepted[0].dev_eui, DEV_EUI);
    let mut forged = plain_up(11).to_vec();
    forged[12] ^= 1;
    let refused = world.hear(3_000, GATEWAY, 0, EU, &forged.into());
    assert_eq!(refused, Err(UplinkError::Mic { dev_addr: DEV_ADDR, dev_eui: None }));
}

#[test]
fn what_concerns_nobody_is_named() {
    let mut world = World::new("EU868");
    let nobody = GatewayEui::from_be_bytes([9; 8]);
    let refused = |world: &mut World, gateway, radio, frame: &Bytes| {
        let error = world.hear(0, gateway, 0, radio, frame).unwrap_err();
        assert!(!error.reason().is_empty());
        error
    };
    let frame = plain_up(10);
    let gateway = nobody;
    assert_eq!(refused(&mut world, nobody, EU, &frame), UplinkError::UnknownGateway { gateway });
    let mut foreign = frame.to_vec();
    foreign[4] = 0xFF;
    let dev_addr = DevAddr::from_u32(0xFF02_0304);
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &foreign.into()),
        UplinkError::UnknownDevAddr { dev_addr, ours: false }
    );
    let mut lost = frame.to_vec();
    lost[1] = 0xFF;
    let dev_addr = DevAddr::from_u32(0x0102_03FF);
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &lost.into()),
        UplinkError::UnknownDevAddr { dev_addr, ours: true }
    );
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &Bytes::new()),
        UplinkError::Parse(ParseError::Empty)
    );
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &bytes("6004030201a00500a1b3da68")),
        UplinkError::Unserved { mtype: MType::UnconfirmedDataDown }
    );
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &bytes("e0010203")),
        UplinkError::Unserved { mtype: MType::Proprietary }
    );
    let odd = lora(10, 500);
    assert!(matches!(
        refused(&mut world, GATEWAY, (868_100_000, odd), &frame),
        UplinkError::DataRate { .. }
    ));
    world.run_to(1_000);
    world.device().session.as_mut().unwrap().mac_version = MacVersion::V1_1_0;
    assert_eq!(
        refused(&mut world, GATEWAY, EU, &plain_up(11)),
        UplinkError::Version { dev_eui: DEV_EUI }
    );
    assert_eq!(world.mac.frames_in_hand(), 0);
    world.run_to(9_000);
    assert!(world.seen.accepts.is_empty());
}

#[test]
fn a_question_the_log_did_not_take_is_put_again_under_the_same_name() {
    let mut world = World::new("EU868");
    world.log_is_away = true;
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_200);
    let [Effect::Accept { request, accept }] = &world.unanswered[..] else { panic!("one") };
    let (request, accept) = (*request, accept.clone());
    world.unanswered.clear();
    world.mac.handle_proposal_failed(world.now(), request, true);
    world.run_to(1_300);
    assert_eq!(world.unanswered, [Effect::Accept { request, accept }]);
    world.log_returns();
    world.run_to(4_000);
    assert_eq!(world.seen.accepted.len(), 1);
    assert_eq!(world.seen.sent[0].0, 1_300);
}

#[test]
fn a_refused_question_and_one_never_answered_are_given_up() {
    let mut world = World::new("EU868");
    world.log_is_away = true;
    world.hear_868(1_000, &confirmed_up(10));
    world.run_to(1_200);
    let [Effect::Accept { request, .. }] = &world.unanswered[..] else { panic!("one") };
    let request = *request;
    world.mac.handle_proposal_failed(world.now(), request, false);
    world.run_to(1_300);
    assert_eq!(world.seen.whats, [What::GivenUp]);
    world.hear_868(5_000, &confirmed_up(11));
    world.run_to(60_000);
    assert_eq!(world.seen.whats, [What::GivenUp, What::GivenUp]);
    assert_eq!(world.mac.frames_in_hand(), 0);
    assert_eq!(world.mac.poll_timeout(), None, "nothing is left behind");
}
