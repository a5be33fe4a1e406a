//! The transitions through their own door: literal sessions in, literal sessions out.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{DownlinkMacCommand, LinkAdrReq, MacCommand as _, TxStatus, UplinkMacCommand};

use super::*;
use crate::fixtures::{DEV_EUI, HOME, ask, lora, profile, session, uplink, wall};
use crate::{ChannelSet, Grant, MacVersion, NodeId, PlanReply, RecordTxAck, SessionEpoch};
use crate::{DeviceSession, HandedOut, UplinkReply};

fn accept(session: &mut DeviceSession, skip: bool, f_cnt: u32, digest: u8) -> UplinkReply {
    accept_uplink(session, skip, Some(NodeId(7)), &uplink(f_cnt, digest), wall(1))
}

fn accepted(epoch: u32, lo: u32, home_epoch: u32) -> UplinkReply {
    let grant = Grant { home: HOME, home_epoch, lo, hi: lo + 16 };
    UplinkReply::Accepted { session_epoch: SessionEpoch(epoch), grant: Some(grant) }
}

#[test]
fn a_frame_is_accepted_once() {
    let mut s = session(&profile("EU868"));
    assert_eq!(accept(&mut s, false, 10, 1), accepted(1, 5, 1));
    assert_eq!((s.uplink.last, s.uplink.at, s.dr, s.adr), (Some(10), Some(wall(1)), 2, true));
    let after = s.clone();
    assert_eq!(accept(&mut s, false, 10, 1), UplinkReply::Duplicate { winner: NodeId(7) });
    assert_eq!(accept(&mut s, false, 10, 2), UplinkReply::Conflict);
    assert_eq!(accept(&mut s, false, 9, 3), UplinkReply::FCntTooLow { last: 10 });
    assert_eq!(s, after, "what is not accepted changes nothing");
}

#[test]
fn the_first_frame_may_have_any_number() {
    for first in [0, 1, 40_000] {
        let mut s = session(&profile("EU868"));
        s.uplink.last = None;
        assert_eq!(accept(&mut s, false, first, 1), accepted(1, 5, 1));
    }
}

#[test]
fn an_unknown_last_frame_is_no_proof_of_a_repeat() {
    let mut s = session(&profile("EU868"));
    assert_eq!(accept(&mut s, false, 7, 1), UplinkReply::Conflict);
    assert_eq!(accept(&mut s, true, 7, 1), accepted(2, 5, 1), "chirp-035");
}

#[test]
fn a_reset_raises_the_epoch_and_keeps_downlink_numbers() {
    let mut s = session(&profile("EU868"));
    s.n_f_cnt_down.next = 9;
    assert_eq!(accept(&mut s, true, 0, 1), accepted(2, 9, 1));
    assert_eq!((s.uplink.last, s.n_f_cnt_down.reported), (Some(0), 5), "chirp-036");
    // Another proposer of the same frame still knows the old epoch.
    assert_eq!(accept(&mut s, true, 0, 1), UplinkReply::Duplicate { winner: NodeId(7) });
    assert_eq!(accept(&mut s, true, 1, 2), UplinkReply::Gone, "an old epoch is no session");
}

#[test]
fn the_gap_limit_is_for_old_versions() {
    let mut old = profile("EU868");
    old.mac_version = MacVersion::V1_0_3;
    let mut s = session(&old);
    let refused = UplinkReply::FCntGapTooLarge { last: 7 };
    assert_eq!(accept(&mut s, false, 7 + 16_385, 1), refused);
    assert_eq!(accept(&mut s.clone(), true, 7 + 16_385, 1), accepted(1, 5, 1));
    assert_eq!(accept(&mut s, false, 7 + 16_384, 1), accepted(1, 5, 1));
    let mut new = session(&profile("EU868"));
    assert_eq!(accept(&mut new, false, 7 + 100_000, 1), accepted(1, 5, 1));
}

#[test]
fn a_start_voids_only_the_grants_of_its_node() {
    let mut s = session(&profile("EU868"));
    accept(&mut s, false, 10, 1);
    let held = s.n_f_cnt_down;
    void_grants(&mut s, NodeId(2));
    assert_eq!(s.n_f_cnt_down, held);
    void_grants(&mut s, HOME);
    assert_eq!((s.n_f_cnt_down.grant, s.n_f_cnt_down.next), (None, 21));
    let mut next = uplink(11, 2);
    next.cursor = Some(5);
    let reply = accept_uplink(&mut s, false, None, &next, wall(2));
    assert_eq!(reply, accepted(1, 21, 2), "a number before the start is never granted again");
}

fn item(id: u8, data: &Bytes) -> QueueItem<'_> {
    QueueItem {
        id: [id; 16],
        f_port: 10,
        confirmed: false,
        data,
        encrypted_f_cnt: None,
        expires_at: None,
        state: ItemState::Queued,
    }
}

fn handed(id: u8, data: &Bytes) -> Option<HandedOut> {
    let (item_id, f_port, data) = ([id; 16], 10, data.clone());
    Some(HandedOut { item_id, f_port, confirmed: false, data, encrypted_f_cnt: None })
}

#[test]
fn items_go_first_in_first_out_with_f_pending_for_the_rest() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1, 2, 3, 4]));
    let s = session(&p);
    let queue = [item(1, &data), item(2, &data)];
    let both = plan(&s, &p, &queue, &ask(51), wall(0));
    assert_eq!((both.item.clone(), both.f_pending), (handed(1, &data), true), "chirp-016");
    let one = plan(&s, &p, &queue[1..], &ask(51), wall(0));
    assert_eq!((one.item, one.f_pending), (handed(2, &data), false));
    assert!(plan(&s, &p, &[], &ask(51), wall(0)).decides_nothing());
    let number =
        plan(&s, &p, &queue, &crate::PlanDownlink { number_only: true, ..ask(51) }, wall(0));
    assert!(number.decides_nothing() && number.f_pending);
}

#[test]
fn one_answer_carries_one_item_whoever_takes_it_over() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1]));
    let mut s = session(&p);
    let first = plan(&s, &p, &[item(1, &data), item(2, &data)], &ask(51), wall(0));
    hand_out(&mut s, &first, &ask(51), wall(0));
    let other = crate::PlanDownlink { home: NodeId(2), cursor: None, ..ask(51) };
    let second = plan(&s, &p, &[item(2, &data)], &other, wall(0));
    assert_eq!((second.item, second.f_pending), (None, true));
    let next = crate::PlanDownlink { uplink_f_cnt: ask(51).uplink_f_cnt + 1, ..other };
    let third = plan(&s, &p, &[item(2, &data)], &next, wall(0));
    assert_eq!(third.item, handed(2, &data));
}

#[test]
fn an_item_too_large_for_the_data_rate_is_dropped_and_the_next_tried() {
    let p = profile("EU868");
    let (large, exact, small) =
        (Bytes::from(vec![0; 52]), Bytes::from(vec![0; 51]), Bytes::from(vec![0; 1]));
    let s = session(&p);
    let seen = plan(&s, &p, &[item(1, &large), item(2, &small)], &ask(51), wall(0));
    assert_eq!(seen.discarded, [([1; 16], DiscardReason::TooLarge)]);
    assert_eq!(seen.item, handed(2, &small));
    let only = plan(&s, &p, &[item(1, &large)], &ask(51), wall(0));
    assert!(only.item.is_none() && !only.f_pending && !only.decides_nothing(), "chirp-018");
    // The largest that fits waits while MAC answers take its room (the shape of chirp-048).
    let mut beside = ask(51);
    beside.answers_len = 3;
    let waits = plan(&s, &p, &[item(1, &exact)], &beside, wall(0));
    assert!(waits.item.is_none() && waits.f_pending && waits.discarded.is_empty());
    assert_eq!(plan(&s, &p, &[item(1, &exact)], &ask(51), wall(0)).item, handed(1, &exact));
}

#[test]
fn an_expired_item_is_dropped() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1]));
    let mut first = item(1, &data);
    first.expires_at = Some(wall(10));
    let queue = [first, item(2, &data)];
    let s = session(&p);
    assert_eq!(plan(&s, &p, &queue, &ask(51), wall(9)).item, handed(1, &data));
    let late = plan(&s, &p, &queue, &ask(51), wall(10));
    assert_eq!(late.discarded, [([1; 16], DiscardReason::Expired)]);
    assert_eq!(late.item, handed(2, &data));
}

#[test]
fn an_item_encrypted_by_the_application_goes_under_its_number_or_not_at_all() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1]));
    for (wanted, number) in [(4, None), (5, Some(5)), (9, Some(9)), (5 + 1_025, None)] {
        let mut s = session(&p);
        let mut only = item(1, &data);
        only.encrypted_f_cnt = Some(wanted);
        let seen = plan(&s, &p, &[only], &ask(51), wall(0));
        assert_eq!(seen.item.is_some(), number.is_some(), "{wanted}");
        if let Some(number) = number {
            assert_eq!(hand_out(&mut s, &seen, &ask(51), wall(0)).1, Some(number));
            assert_eq!(s.n_f_cnt_down.next, number + 1);
        } else {
            assert_eq!(seen.discarded, [([1; 16], DiscardReason::WrongFCnt)]);
        }
    }
}

#[test]
fn a_number_in_hand_is_skipped_for_an_item_encrypted_for_the_next() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1]));
    let mut s = session(&p);
    accept(&mut s, false, 10, 1);
    let mut only = item(1, &data);
    only.encrypted_f_cnt = Some(6);
    let mut asked = ask(51);
    asked.cursor = Some(5);
    let seen = plan(&s, &p, &[only], &asked, wall(0));
    assert_eq!(hand_out(&mut s, &seen, &asked, wall(0)).1, Some(6));
}

#[test]
fn a_confirmed_item_in_flight_holds_back_the_next() {
    let (p, data) = (profile("EU868"), Bytes::from_static(&[1]));
    let s = session(&p);
    let mut sent = item(1, &data);
    sent.state = ItemState::AwaitsAck { f_cnt_down: 4, since: wall(0) };
    let held = plan(&s, &p, &[sent.clone(), item(2, &data)], &ask(51), wall(1));
    assert!(held.item.is_none() && held.f_pending && held.decides_nothing());
    sent.state = ItemState::HandedOut;
    let past = plan(&s, &p, &[sent, item(2, &data)], &ask(51), wall(1));
    assert_eq!(past.item, handed(2, &data), "an unconfirmed one holds back nobody");
}

#[test]
fn the_next_uplink_settles_what_was_sent() {
    let (mut p, data) = (profile("EU868"), Bytes::new());
    let mut s = session(&p);
    let awaits = ItemState::AwaitsAck { f_cnt_down: 4, since: wall(0) };
    let sent = QueueItem { state: awaits, ..item(1, &data) };
    let fate = |s: &DeviceSession, p: &_, item: &QueueItem<'_>, ack, at: WallTime| {
        let settled = confirm(&mut s.clone(), p, core::slice::from_ref(item), ack, at);
        settled.first().map(|c| (c.fate, c.f_cnt_down))
    };
    assert_eq!(fate(&s, &p, &sent, true, wall(1)), Some((ItemFate::Acknowledged, 4)), "chirp-039");
    assert_eq!(fate(&s, &p, &sent, false, wall(1)), Some((ItemFate::Lost, 4)));
    p.confirmed_timeout_s = 60;
    assert_eq!(fate(&s, &p, &sent, false, wall(59)), None);
    assert_eq!(fate(&s, &p, &sent, false, wall(60)), Some((ItemFate::Lost, 4)));
    // Number 5 went out and nobody said so; the next uplink has granted 6.
    accept(&mut s, false, 10, 1);
    let next = crate::AcceptUplink { cursor: Some(6), ..uplink(11, 2) };
    accept_uplink(&mut s, false, None, &next, wall(2));
    let silent = QueueItem { state: ItemState::HandedOut, confirmed: true, ..item(1, &data) };
    assert_eq!(fate(&s, &p, &silent, true, wall(3)), Some((ItemFate::Acknowledged, 5)));
    let plain = QueueItem { confirmed: false, ..silent };
    assert_eq!(fate(&s, &p, &plain, true, wall(3)), Some((ItemFate::Finished, 0)));
    assert_eq!(fate(&s, &p, &item(1, &data), true, wall(3)), None);
}

#[test]
fn only_a_sent_downlink_moves_what_the_api_shows() {
    let mut s = session(&profile("EU868"));
    let mut record = RecordTxAck {
        dev_eui: DEV_EUI,
        session_epoch: SessionEpoch(1),
        f_cnt_down: 8,
        a_counter: false,
        item_id: None,
        status: Some(TxStatus::TooLate),
        gateway: lorawan::GatewayEui::default(),
        downlink_id: 1,
        frequency_hz: 868_100_000,
        eirp_dbm: 16,
        modulation: lora(12, 125),
        delay_s: 1,
    };
    assert!(!record_tx_ack(&mut s, &record));
    record.status = None;
    assert!(!record_tx_ack(&mut s, &record));
    assert_eq!(s.n_f_cnt_down.reported, 5);
    record.status = Some(TxStatus::Ok);
    assert!(record_tx_ack(&mut s, &record));
    assert_eq!(s.n_f_cnt_down.reported, 9);
    record.f_cnt_down = 6;
    assert!(record_tx_ack(&mut s, &record));
    assert_eq!(s.n_f_cnt_down.reported, 9, "it never goes back");
}

fn planned(s: &mut DeviceSession, p: &crate::MacProfile, at: WallTime) -> Vec<DownlinkMacCommand> {
    let seen = plan(s, p, &[], &ask(51), at);
    let PlanReply::Planned { requests, .. } = hand_out(s, &seen, &ask(51), at).0 else {
        panic!("planned")
    };
    DownlinkMacCommand::walk(&requests).map(Result::unwrap).collect()
}

#[test]
fn the_state_of_the_device_is_asked_by_interval() {
    let mut p = profile("EU868");
    let mut s = session(&p);
    assert_eq!(planned(&mut s, &p, wall(0)), [], "0 a day");
    p.status_requests_per_day = 1;
    assert_eq!(planned(&mut s, &p, wall(0)), [DownlinkMacCommand::DevStatusReq], "chirp-029");
    assert_eq!(planned(&mut s, &p, wall(86_399)), []);
    assert_eq!(planned(&mut s, &p, wall(86_400)), [DownlinkMacCommand::DevStatusReq]);
    p.status_requests_per_day = 24;
    assert_eq!(planned(&mut s, &p, wall(86_401)), [], "chirp-021");
}

#[test]
fn the_state_of_the_device_is_told() {
    let p = profile("EU868");
    let mut s = session(&p);
    let told = UplinkMacCommand::DevStatusAns { battery: 128, margin_db: 10 };
    let status = apply_mac_answers(&mut s, &p, &[told], wall(5)).status.unwrap();
    assert_eq!(status.margin_db, 10);
    assert_eq!(status.battery_percent(), Some(50.393_7), "chirp-022");
    assert_eq!(s.status_requested_at, Some(wall(5)));
    let on = |battery| DeviceStatus { battery, margin_db: 0 };
    assert!(on(0).has_external_power() && on(0).battery_percent().is_none());
    assert!(!on(255).has_external_power() && on(255).battery_percent().is_none());
    assert_eq!(on(254).battery_percent(), Some(100.0));
}

#[test]
fn windows_change_when_the_device_says_so() {
    let mut p = profile("EU868");
    (p.rx1_delay_s, p.rx1_dr_offset, p.rx2_dr) = (5, 1, Some(3));
    let mut s = session(&p);
    let wanted = [
        DownlinkMacCommand::RxParamSetupReq { rx1_dr_offset: 1, rx2_dr: 3, freq_hz: 869_525_000 },
        DownlinkMacCommand::RxTimingSetupReq { delay: 5 },
    ];
    assert_eq!(planned(&mut s, &p, wall(0)), wanted);
    assert_eq!(planned(&mut s, &p, wall(1)), wanted, "until answered");
    assert_eq!((s.rx1_delay_s, s.rx2_dr), (1, 0));
    let refused = UplinkMacCommand::RxParamSetupAns {
        channel_ack: true,
        rx2_dr_ack: false,
        rx1_dr_offset_ack: true,
    };
    let seen =
        apply_mac_answers(&mut s, &p, &[refused, UplinkMacCommand::RxTimingSetupAns], wall(2));
    assert_eq!((seen.accepted, seen.rejected), (vec![8], vec![5]));
    assert_eq!((s.rx1_delay_s, s.rx1_dr_offset, s.rx2_dr), (5, 0, 0));
    assert_eq!(planned(&mut s, &p, wall(3)), wanted[..1], "refused once: once more");
    apply_mac_answers(&mut s, &p, &[refused], wall(4));
    assert_eq!(planned(&mut s, &p, wall(5)), [], "refused twice: no more");
    let before = s.clone();
    apply_mac_answers(&mut s, &p, &[UplinkMacCommand::RxTimingSetupAns, refused], wall(6));
    assert_eq!(s, before, "a sticky answer without a request means nothing");
}

#[test]
fn a_request_that_is_never_answered_is_given_up() {
    let mut p = profile("EU868");
    p.rx1_delay_s = 5;
    let mut s = session(&p);
    let made = (0..100).filter(|at| !planned(&mut s, &p, wall(*at)).is_empty()).count();
    assert_eq!(made, 16);
    p.rx1_delay_s = 6;
    assert!(!planned(&mut s, &p, wall(200)).is_empty(), "another wish is another request");
}

#[test]
fn requests_leave_room_for_the_answers() {
    let mut p = profile("EU868");
    (p.rx1_delay_s, p.rx1_dr_offset) = (5, 1);
    let s = session(&p);
    let cids = |answers_len, max_payload| {
        let asked = crate::PlanDownlink { answers_len, ..ask(max_payload) };
        let seen = plan(&s, &p, &[], &asked, wall(0));
        seen.requests.iter().map(|request| request.cid).collect::<Vec<_>>()
    };
    assert_eq!(cids(8, 51), [5, 8]);
    assert_eq!(cids(9, 51), [5], "15 bytes in all");
    assert_eq!(cids(12, 51), [8]);
    assert!(cids(14, 51).is_empty());
    assert_eq!(cids(0, 4), [8]);
    assert!(cids(200, 51).is_empty());
}

fn sub_band_2() -> ChannelSet {
    (8..=15).chain([65]).collect()
}

#[test]
fn a_sub_band_of_us915_is_asked_for_and_kept() {
    let mut p = profile("US915");
    p.channels = Some(sub_band_2());
    let mut s = session(&p);
    let request = |cntl, ch_mask| {
        DownlinkMacCommand::LinkAdrReq(LinkAdrReq {
            data_rate: 15,
            tx_power: 15,
            ch_mask,
            ch_mask_cntl: cntl,
            nb_trans: 1,
        })
    };
    assert_eq!(planned(&mut s, &p, wall(0)), [request(7, 0x0002), request(0, 0xFF00)]);
    let yes =
        UplinkMacCommand::LinkAdrAns { ch_mask_ack: true, data_rate_ack: true, tx_power_ack: true };
    assert_eq!(apply_mac_answers(&mut s, &p, &[yes, yes], wall(1)).accepted, [3]);
    assert_eq!(s.channels, sub_band_2());
    assert_eq!(planned(&mut s, &p, wall(2)), []);
    p.channels = None;
    assert_eq!(planned(&mut s, &p, wall(3)), [request(6, 0x00FF)]);
}

#[test]
fn before_1_0_4_a_mask_repeats_data_rate_and_power() {
    let mut p = profile("US915");
    p.channels = Some(sub_band_2());
    p.mac_version = MacVersion::V1_0_2;
    let mut s = session(&p);
    (s.dr, s.tx_power) = (4, 5);
    let commands = planned(&mut s, &p, wall(0));
    let DownlinkMacCommand::LinkAdrReq(first) = &commands[0] else { panic!("{commands:?}") };
    assert_eq!((first.data_rate, first.tx_power), (3, 5), "500 kHz is no rate for all channels");
    let no = UplinkMacCommand::LinkAdrAns {
        ch_mask_ack: true,
        data_rate_ack: false,
        tx_power_ack: true,
    };
    assert_eq!(apply_mac_answers(&mut s, &p, &[no, no], wall(1)).rejected, [3]);
    assert_eq!(s.channels.iter().count(), 72, "refused as a whole");
}

#[test]
fn a_1_0_4_device_without_adr_need_only_take_the_mask() {
    let mut p = profile("US915");
    p.channels = Some(sub_band_2());
    let mut s = session(&p);
    s.adr = false;
    planned(&mut s, &p, wall(0));
    let mask_only = UplinkMacCommand::LinkAdrAns {
        ch_mask_ack: true,
        data_rate_ack: false,
        tx_power_ack: false,
    };
    apply_mac_answers(&mut s, &p, &[mask_only], wall(1));
    assert_eq!(s.channels, sub_band_2());
}

#[test]
fn extra_channels_of_an_abp_device_are_told_one_by_one() {
    let mut p = profile("EU868");
    p.extra_channels_hz = vec![867_100_000, 867_300_000, 867_500_000];
    let mut s = session(&p);
    let yes = UplinkMacCommand::NewChannelAns { channel_freq_ok: true, dr_range_ok: true };
    assert_eq!(planned(&mut s, &p, wall(0)).len(), 2, "two fit 15 bytes");
    apply_mac_answers(&mut s, &p, &[yes, yes], wall(1));
    assert_eq!(s.channels.to_string(), "0-4");
    assert_eq!(planned(&mut s, &p, wall(2)).len(), 1);
    apply_mac_answers(&mut s, &p, &[yes], wall(3));
    assert_eq!(s.extra_channels[&5].frequency_hz, 867_500_000);
    assert_eq!(planned(&mut s, &p, wall(4)), []);
}

#[test]
fn numbers_of_a_key_set_survive_a_new_activation() {
    let p = profile("EU868");
    let mut old = session(&p);
    old.n_f_cnt_down.next = 40;
    let again = install(session(&p), SessionEpoch(2), [&old]);
    assert_eq!((again.epoch, again.n_f_cnt_down.next), (SessionEpoch(2), 40));
    assert_eq!(again.n_f_cnt_down.reported, 5);
    let mut elsewhere = session(&p);
    elsewhere.dev_addr = lorawan::DevAddr::from_u32(9);
    assert_eq!(install(elsewhere, SessionEpoch(3), [&old]).n_f_cnt_down.next, 5);
}
