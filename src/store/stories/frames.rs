//! Frames: accepted once, answered alike on retry, downlinks handed out once.

use lorawan::{GatewayEui, TxStatus};
use mac::{HandedOut, JoinReply, PlanReply, RecordTxAck, UplinkReply};

use super::*;
use crate::{Change, Event, LogCode, LogLevel};

fn kinds(applied: &Applied) -> Vec<&'static str> {
    applied.rows.iter().map(|row| row.event.kind()).collect()
}

fn verdict(reply: &Reply) -> &UplinkReply {
    let Reply::Uplink(verdict) = reply else { panic!("{reply:?}") };
    verdict
}

fn keys() -> Command {
    let (nwk_key, app_key) = (sealed(9), None);
    Command::SetDeviceKeys { dev_eui: DEVICE, must_exist: Some(false), nwk_key, app_key }
}

fn joined(reply: Reply) -> JoinReply {
    let Reply::Join(verdict) = reply else { panic!("{reply:?}") };
    verdict
}

fn ask_join(log: &mut Log, dev_nonce: u16, join_nonce: u32) -> (JoinReply, Applied) {
    let (reply, applied) = log.ask(Command::AcceptJoin(Box::new(join(dev_nonce, join_nonce))));
    (joined(reply), applied)
}

fn plan(log: &mut Log) -> (Option<HandedOut>, bool, Applied) {
    let uplink_f_cnt = log.session().uplink.last.unwrap_or(0);
    match log.ask(Command::PlanDownlink(PlanDownlink { uplink_f_cnt, ..ask(1) })) {
        (Reply::Plan(PlanReply::Planned { item, f_pending, .. }), applied) => {
            (item, f_pending, applied)
        }
        other => panic!("{other:?}"),
    }
}

fn tx_ack(f_cnt_down: u32, item: u8, status: Option<TxStatus>) -> Command {
    Command::RecordTxAck(RecordTxAck {
        dev_eui: DEVICE,
        session_epoch: SessionEpoch(1),
        f_cnt_down,
        a_counter: false,
        item_id: Some([item; 16]),
        status,
        gateway: GatewayEui::default(),
        downlink_id: 77,
        frequency_hz: 868_100_000,
        eirp_dbm: 14,
        modulation: lora(),
        delay_s: 1,
    })
}

#[test]
fn a_frame_is_accepted_once_whoever_proposes_it() {
    let mut log = Log::with_session();
    log.now = 5;
    let (reply, applied) = log.ask(accept(uplink(8)));
    assert!(matches!(verdict(&reply), UplinkReply::Accepted { session_epoch, .. }
        if *session_epoch == SessionEpoch(1)));
    assert_eq!(kinds(&applied), ["up"]);
    let other_home = AcceptUplink { home: NodeId(2), ..uplink(8) };
    let (reply, applied) = log.ask(accept(other_home));
    assert_eq!(verdict(&reply), &UplinkReply::Duplicate { winner: NODE });
    assert_eq!(applied.rows, []);
    let (reply, applied) = log.ask(accept(uplink(7)));
    assert_eq!(verdict(&reply), &UplinkReply::FCntTooLow { last: 8 });
    assert_eq!(applied.rows, []);
    assert_eq!(log.session().uplink.last, Some(8));
    assert_eq!(log.device().last_seen_at, Some(wall(0)));
    assert_eq!(log.device().last_home, Some(NODE));
}

#[test]
fn a_retry_of_a_won_question_is_still_won() {
    let mut log = Log::with_session();
    let request = log.request();
    let (first, applied) = log.ask_as(request, accept(uplink(8)));
    assert_eq!(applied.rows.len(), 1);
    let lost = log.ask(accept(AcceptUplink { home: NodeId(2), ..uplink(8) })).0;
    assert_eq!(verdict(&lost), &UplinkReply::Duplicate { winner: NODE });
    let (again, applied) = log.ask_as(request, accept(uplink(8)));
    assert_eq!((again, applied.rows.len()), (first, 0));
}

#[test]
fn an_up_row_is_frozen_and_its_identifier_computed() {
    let mut log = Log::with_device();
    let tagged = |name: &str| BTreeMap::from([("where".to_owned(), name.to_owned())]);
    let named = Device { name: "old name".into(), tags: tagged("cellar"), ..device(DEVICE) };
    log.done(Command::PutDevice(Box::new(change(named))));
    log.done(activate(ADDRESS, 5));
    let mut twin = log.clone();
    let row = log.ask(accept(uplink(8))).1.rows.remove(0);
    assert_eq!(row.device.device_name, "old name");
    assert_eq!((row.device.tags.clone(), row.device.region.as_str()), (tagged("cellar"), "eu868"));
    let topic = format!("application/{APPLICATION}/device/0202030405060708/event/up");
    assert_eq!((row.topic(), row.sequence, row.time), (topic, 1, wall(0)));
    // Another node proposes it later, under another name, and arrives at the same identifier.
    twin.now = 100;
    let there = twin.ask(accept(AcceptUplink { home: NodeId(2), ..uplink(8) })).1.rows.remove(0);
    assert_eq!(there.id, row.id);
    assert_eq!(log.state.next_event(), 2);
}

#[test]
fn a_frame_without_payload_gives_an_up_row_too() {
    let mut log = Log::with_session();
    let silent = AcceptUplink { f_port: None, data: Bytes::new(), ..uplink(8) };
    let rows = log.ask(accept(silent)).1.rows;
    let Event::Up(up) = &rows[0].event else { panic!("{rows:?}") };
    assert_eq!((up.f_port, up.data.len(), up.f_cnt), (None, 0, 8));
}

#[test]
fn other_bytes_under_a_used_counter_are_a_conflict() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    let other = AcceptUplink { digest: Digest([99; 16]), ..uplink(8) };
    let (reply, applied) = log.ask(accept(other.clone()));
    assert_eq!(verdict(&reply), &UplinkReply::Conflict);
    let Event::Log { level, code, .. } = &applied.rows[0].event else { panic!("{applied:?}") };
    assert_eq!((*level, *code), (LogLevel::Error, LogCode::UplinkFCntReset));
    let again = log.ask(accept(other)).1;
    assert_ne!(again.rows[0].id, applied.rows[0].id, "it has happened again");
}

#[test]
fn a_reset_of_the_counter_begins_an_epoch_and_keeps_downlink_numbers() {
    let mut log = Log::with_device();
    let forgetful = Device { skip_f_cnt_check: true, ..device(DEVICE) };
    log.done(Command::PutDevice(Box::new(change(forgetful))));
    log.done(activate(ADDRESS, 5));
    let first = log.ask(accept(uplink(8))).1.rows.remove(0);
    let (reply, applied) = log.ask(accept(AcceptUplink { f_cnt: 0, ..uplink(8) }));
    let UplinkReply::Accepted { session_epoch, grant } = verdict(&reply) else { panic!() };
    assert_eq!(*session_epoch, SessionEpoch(2));
    assert!(grant.unwrap().lo >= 5);
    assert_eq!(log.device().last_epoch, SessionEpoch(2));
    assert_eq!(kinds(&applied), ["up"]);
    // The same counter and bytes in the new epoch are another reading.
    let second = AcceptUplink { session_epoch: SessionEpoch(2), ..uplink(8) };
    let rows = log.ask(accept(second)).1.rows;
    assert_ne!(rows[0].id, first.id);
}

#[test]
fn status_and_acknowledgement_stand_before_the_reading() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, true, 3)));
    assert_eq!(plan(&mut log).0.unwrap().item_id, [1; 16]);
    let answer = AcceptUplink { ack: true, mac_commands: vec![6, 128, 10].into(), ..uplink(9) };
    let (_, applied) = log.ask(accept(answer));
    assert_eq!(kinds(&applied), ["status", "ack", "up"]);
    assert_eq!(applied.rows[0].event, Event::Status { margin_db: 10, battery: 128 });
    let Event::Ack { queue_item_id, acknowledged, .. } = applied.rows[1].event else { panic!() };
    assert_eq!((queue_item_id, acknowledged), (id(1), true));
    assert_eq!(log.device().queue, []);
    assert_eq!(log.device().status.unwrap().battery, 128);
    let ids: std::collections::BTreeSet<_> = applied.rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn an_unacknowledged_item_is_reported_lost() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, true, 3)));
    plan(&mut log);
    let (_, applied) = log.ask(accept(uplink(9)));
    assert_eq!(kinds(&applied), ["ack", "up"]);
    let Event::Ack { acknowledged, .. } = applied.rows[0].event else { panic!() };
    assert!(!acknowledged);
    assert_eq!(log.device().queue, []);
}

#[test]
fn an_unconfirmed_item_is_handed_out_once() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, false, 3)));
    log.done(enqueue(item(2, false, 3)));
    let request = log.request();
    let wanted = PlanDownlink { uplink_f_cnt: 8, ..ask(1) };
    let first = log.ask_as(request, Command::PlanDownlink(wanted.clone())).0;
    let again = log.ask_as(request, Command::PlanDownlink(wanted)).0;
    assert_eq!(first, again, "the home asks again after a lost reply");
    let (none, more, _) = plan(&mut log);
    assert_eq!((none, more), (None, true), "one answer carries one item");
    let applied = log.done(tx_ack(5, 1, Some(TxStatus::Ok)));
    assert_eq!(kinds(&applied), ["txack"]);
    let left: Vec<_> = log.device().queue.iter().map(|item| item.id).collect();
    assert_eq!(left, [id(2)]);
    assert_eq!(log.session().n_f_cnt_down.reported, 6);
    assert_eq!(log.done(tx_ack(5, 1, Some(TxStatus::Ok))).rows, [], "reported once");
    log.ask(accept(uplink(9)));
    let (next, more, _) = plan(&mut log);
    assert_eq!((next.unwrap().item_id, more), ([2; 16], false));
    assert_eq!(plan(&mut log).0, None, "handed out is handed out");
    log.ask(accept(uplink(10)));
    assert_eq!(log.device().queue, [], "the next uplink ends what nobody reported");
}

#[test]
fn a_downlink_that_no_gateway_sent_is_reported() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, true, 3)));
    plan(&mut log);
    let ItemState::AwaitsAck { f_cnt_down, .. } = log.device().queue[0].state else { panic!() };
    assert_eq!(log.done(tx_ack(f_cnt_down, 1, None)).rows, [], "silence proves nothing");
    let applied = log.done(tx_ack(f_cnt_down, 1, Some(TxStatus::TxFreq)));
    assert_eq!(kinds(&applied), ["log", "ack"]);
    let Event::Log { code, description, .. } = &applied.rows[0].event else { panic!() };
    assert_eq!((*code, description.as_str()), (LogCode::DownlinkGateway, "TX_FREQ"));
    assert_eq!(log.device().queue, []);
    let repeated = log.done(tx_ack(f_cnt_down, 1, Some(TxStatus::TxFreq)));
    assert_eq!(repeated.rows, []);
}

#[test]
fn what_does_not_fit_or_has_expired_is_dropped_with_a_word() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, false, 52)));
    log.done(enqueue(QueueItem { expires_at: Some(wall(9)), ..item(2, false, 3) }));
    log.done(enqueue(item(3, false, 51)));
    log.now = 10;
    let (handed, _, applied) = plan(&mut log);
    assert_eq!(handed.unwrap().item_id, [3; 16]);
    let seen: Vec<_> = applied.rows.iter().map(|row| row.event.clone()).collect();
    let [Event::Log { level, code, description, .. }, Event::Log { code: second, .. }] = &seen[..]
    else {
        panic!("{seen:?}")
    };
    assert_eq!((*level, *code), (LogLevel::Error, LogCode::DownlinkPayloadSize));
    let wanted = "Device queue-item discarded because it exceeds the max. payload size";
    assert_eq!((description.as_str(), *second), (wanted, LogCode::Expired));
    assert_eq!(applied.changes, [Change::DeviceQueue(DEVICE)]);
}

#[test]
fn what_is_handed_out_can_be_neither_cancelled_nor_flushed() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    for number in 1..=3 {
        log.done(enqueue(item(number, false, 3)));
    }
    plan(&mut log);
    let cancel = |item| Command::CancelItem { dev_eui: DEVICE, item_id: id(item) };
    assert_eq!(log.refused(cancel(1)), Refusal::InUse("already handed out".into()));
    log.done(cancel(2));
    assert!(matches!(log.refused(cancel(2)), Refusal::NotFound(_)));
    log.done(Command::FlushQueue(DEVICE));
    let left: Vec<_> = log.device().queue.iter().map(|item| item.id).collect();
    assert_eq!(left, [id(1)]);
}

#[test]
fn the_queue_has_bounds() {
    let mut log = Log::with_session();
    for (port, bytes) in [(0, 1), (224, 1), (1, 243)] {
        let wrong = QueueItem { f_port: port, ..item(1, false, bytes) };
        assert!(matches!(log.refused(enqueue(wrong)), Refusal::Invalid(_)));
    }
    log.done(enqueue(item(1, false, 242)));
    assert!(matches!(log.refused(enqueue(item(1, false, 1))), Refusal::AlreadyExists(_)));
    for number in 1..crate::limits::DEVICE_QUEUE_MAX {
        let mut name = [0; 16];
        name[..8].copy_from_slice(&number.to_be_bytes());
        log.done(enqueue(QueueItem { id: Id(name), ..item(2, false, 1) }));
    }
    assert!(matches!(log.refused(enqueue(item(3, false, 1))), Refusal::LimitReached(_)));
}

#[test]
fn a_join_is_a_compare_and_set_on_both_nonces() {
    let mut log = Log::with_device();
    assert_eq!(ask_join(&mut log, 1, 1).0, JoinReply::Gone, "no keys");
    log.done(keys());
    let moved = JoinReply::JoinNonceMoved { next: JoinNonce(1) };
    assert_eq!(ask_join(&mut log, 1, 9).0, moved);
    let (reply, applied) = ask_join(&mut log, 1, 1);
    assert_eq!(reply, JoinReply::Accepted { session_epoch: SessionEpoch(1) });
    assert_eq!(kinds(&applied), ["join"]);
    assert_eq!(applied.changes, [Change::Device(DEVICE)]);
    assert_eq!(ask_join(&mut log, 1, 2).0, JoinReply::DevNonceUsed);
    let accepted = JoinReply::Accepted { session_epoch: SessionEpoch(2) };
    assert_eq!(ask_join(&mut log, 5, 2).0, accepted);
    assert_eq!(ask_join(&mut log, 3, 3).0, JoinReply::DevNonceUsed, "1.0.4: it must rise");
    log.done(Command::FlushDevNonces(DEVICE));
    let accepted = JoinReply::Accepted { session_epoch: SessionEpoch(3) };
    assert_eq!(ask_join(&mut log, 3, 3).0, accepted, "the JoinNonce went on");
}

#[test]
fn below_1_0_4_a_nonce_must_only_be_new() {
    let mut log = Log::with_device();
    let mut old = profile(PROFILE, Some(TENANT), "profile");
    old.mac.mac_version = MacVersion::V1_0_2;
    log.done(Command::PutDeviceProfile(change(old)));
    log.done(keys());
    for (nonce, join_nonce) in [(9, 1), (3, 2), (5, 3)] {
        let reply = ask_join(&mut log, nonce, join_nonce).0;
        assert!(matches!(reply, JoinReply::Accepted { .. }), "{nonce}");
    }
    for nonce in [3, 5, 9] {
        assert_eq!(ask_join(&mut log, nonce, 4).0, JoinReply::DevNonceUsed);
    }
}

#[test]
fn a_join_counts_from_the_first_uplink_on() {
    let mut log = Log::with_session();
    log.done(keys());
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, true, 3)));
    log.done(enqueue(item(2, false, 3)));
    plan(&mut log);
    ask_join(&mut log, 1, 1);
    assert_eq!(log.session().epoch, SessionEpoch(1), "the device may not have heard the accept");
    let slots: Vec<_> = log.state.sessions_by_addr(ADDRESS).map(|(_, slot, _)| slot).collect();
    assert_eq!(slots.len(), 2);
    let first = AcceptUplink { session_epoch: SessionEpoch(2), f_cnt: 0, ..uplink(0) };
    let (reply, applied) = log.ask(accept(first));
    assert!(matches!(verdict(&reply), UplinkReply::Accepted { .. }));
    assert!(applied.changes.contains(&Change::Device(DEVICE)));
    assert_eq!(kinds(&applied), ["ack", "up"]);
    let Event::Ack { queue_item_id, acknowledged, .. } = applied.rows[0].event else { panic!() };
    assert_eq!((queue_item_id, acknowledged), (id(1), false), "in flight when its session ended");
    assert_eq!(log.device().queue.iter().map(|item| item.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(log.session().epoch, SessionEpoch(2));
    assert!(log.device().pending_session.is_none());
    assert_eq!(log.state.sessions_by_addr(ADDRESS).count(), 1);
    let (reply, _) = log.ask(accept(uplink(9)));
    assert_eq!(verdict(&reply), &UplinkReply::Gone, "the old session has ended");
}

#[test]
fn a_queue_that_ends_with_its_session_is_told() {
    let mut log = Log::with_session();
    log.done(keys());
    log.ask(accept(uplink(8)));
    log.done(enqueue(item(1, false, 3)));
    plan(&mut log);
    ask_join(&mut log, 1, 1);
    let first = AcceptUplink { session_epoch: SessionEpoch(2), f_cnt: 0, ..uplink(0) };
    let (_, applied) = log.ask(accept(first));
    assert_eq!(log.device().queue, [], "handed out in the session before");
    assert!(applied.changes.contains(&Change::DeviceQueue(DEVICE)));
}

#[test]
fn an_activation_may_empty_the_queue_and_ends_what_was_in_flight() {
    let mut log = Log::with_session();
    log.ask(accept(uplink(8)));
    for (number, confirmed) in [(1, true), (2, false)] {
        log.done(enqueue(item(number, confirmed, 3)));
    }
    log.done(enqueue(QueueItem { encrypted_f_cnt: Some(9), ..item(3, false, 3) }));
    plan(&mut log);
    let mut emptying = profile(PROFILE, Some(TENANT), "profile");
    let applied = log.done(activate(ADDRESS, 0));
    assert_eq!(kinds(&applied), ["ack"]);
    assert_eq!(log.device().queue.iter().map(|item| item.id).collect::<Vec<_>>(), [id(2)]);
    emptying.flush_queue_on_activate = true;
    log.done(Command::PutDeviceProfile(change(emptying)));
    assert_eq!(kinds(&log.done(activate(ADDRESS, 0))), [""; 0]);
    assert_eq!(log.device().queue, []);
}

#[test]
fn a_disabled_or_deleted_device_is_gone() {
    let mut log = Log::with_session();
    let disabled = Device { is_disabled: true, ..device(DEVICE) };
    log.done(Command::PutDevice(Box::new(change(disabled))));
    assert_eq!(log.ask(accept(uplink(8))).0, Reply::Uplink(UplinkReply::Gone));
    assert_eq!(log.ask(Command::PlanDownlink(ask(1))).0, Reply::Plan(PlanReply::Gone));
    log.done(Command::DeleteDevice(DEVICE));
    assert_eq!(log.ask(accept(uplink(8))).0, Reply::Uplink(UplinkReply::Gone));
}

#[test]
fn no_number_comes_again_after_a_start_a_deactivation_or_a_deletion() {
    let mut log = Log::with_session();
    let grant = |log: &mut Log, f_cnt, epoch| {
        let frame = AcceptUplink { session_epoch: SessionEpoch(epoch), ..uplink(f_cnt) };
        let reply = log.ask(accept(frame)).0;
        let UplinkReply::Accepted { grant, .. } = verdict(&reply) else { panic!("{reply:?}") };
        grant.unwrap()
    };
    let first = grant(&mut log, 8, 1);
    log.done(Command::Boot { node: NODE, boot: 1, feature_level: 1, plate: None });
    assert_eq!(log.session().n_f_cnt_down.grant, None, "a start voids what the node held");
    let second = grant(&mut log, 9, 1);
    assert!(second.lo >= first.hi);
    log.done(Command::Deactivate(DEVICE));
    log.done(activate(ADDRESS, 0));
    let third = grant(&mut log, 10, 2);
    assert!(third.lo >= second.hi);
    log.done(Command::DeleteDevice(DEVICE));
    log.done(Command::PutDevice(Box::new(create(device(DEVICE)))));
    log.done(activate(ADDRESS, 0));
    assert_eq!(log.session().epoch, SessionEpoch(3), "nor does an epoch");
    let fourth = grant(&mut log, 8, 3);
    assert!(fourth.lo >= third.hi);
}

#[test]
fn no_number_comes_again_when_a_session_is_imported_again() {
    let mut log = Log::with_device();
    let Command::Activate { mut session, .. } = activate(ADDRESS, 5) else { panic!() };
    // As joined at another server.
    session.abp = false;
    let import = Command::Activate { dev_eui: DEVICE, session };
    let grant = |log: &mut Log, epoch| {
        let frame = AcceptUplink { session_epoch: SessionEpoch(epoch), ..uplink(8) };
        let reply = log.ask(accept(frame)).0;
        let UplinkReply::Accepted { grant, .. } = verdict(&reply) else { panic!("{reply:?}") };
        grant.unwrap()
    };
    log.done(import.clone());
    let first = grant(&mut log, 1);
    log.done(Command::Deactivate(DEVICE));
    log.done(import.clone());
    let second = grant(&mut log, 2);
    assert!(second.lo >= first.hi && second.home_epoch > first.home_epoch);
    log.done(Command::DeleteDevice(DEVICE));
    log.done(Command::PutDevice(Box::new(create(device(DEVICE)))));
    log.done(import.clone());
    let third = grant(&mut log, 3);
    assert!(third.lo >= second.hi);
    // A join that gives the same address counts from 0, and must not hide what went before.
    log.done(Command::Deactivate(DEVICE));
    log.done(keys());
    ask_join(&mut log, 1, 1);
    let first = AcceptUplink { session_epoch: SessionEpoch(4), f_cnt: 0, ..uplink(0) };
    log.ask(accept(first));
    log.done(Command::Deactivate(DEVICE));
    log.done(import);
    assert!(grant(&mut log, 5).lo >= third.hi);
}

#[test]
fn a_device_made_anew_goes_on_with_its_join_nonce() {
    let mut log = Log::with_device();
    log.done(keys());
    ask_join(&mut log, 1, 1);
    ask_join(&mut log, 2, 2);
    log.done(Command::DeleteDeviceKeys(DEVICE));
    log.done(keys());
    assert_eq!(ask_join(&mut log, 3, 1).0, JoinReply::JoinNonceMoved { next: JoinNonce(3) });
    log.done(Command::DeleteDevice(DEVICE));
    log.done(Command::PutDevice(Box::new(create(device(DEVICE)))));
    log.done(keys());
    assert_eq!(ask_join(&mut log, 3, 1).0, JoinReply::JoinNonceMoved { next: JoinNonce(3) });
}
