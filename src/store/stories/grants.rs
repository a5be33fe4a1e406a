//! Downlink numbers: who holds them, where they go, and what a late retry hears.

use mac::{Grant, PlanReply, UplinkReply};

use super::*;
use crate::model::EarlierReplies;
use crate::{Event, LogCode, LogLevel, codec};

const OTHER: NodeId = NodeId(2);

/// An uplink of a device that gets ranges.
fn heard(f_cnt: u32, home: NodeId, cursor: Option<u32>) -> AcceptUplink {
    AcceptUplink { home, cursor, adr: true, ..uplink(f_cnt) }
}

fn accepted(log: &mut Log, uplink: AcceptUplink) -> Option<Grant> {
    let reply = log.ask(accept(uplink)).0;
    let Reply::Uplink(UplinkReply::Accepted { grant, .. }) = reply else { panic!("{reply:?}") };
    grant
}

fn planned(log: &mut Log, home: NodeId, cursor: Option<u32>) -> Option<Grant> {
    let reply = log.ask(Command::PlanDownlink(PlanDownlink { home, cursor, ..ask(1) })).0;
    let Reply::Plan(PlanReply::Planned { grant, .. }) = reply else { panic!("{reply:?}") };
    grant
}

fn range(home: NodeId, home_epoch: u32, lo: u32, hi: u32) -> Option<Grant> {
    Some(Grant { home, home_epoch, lo, hi })
}

#[test]
fn a_retry_hears_its_first_answer_whatever_came_between() {
    let mut log = Log::with_session();
    let (won, plan, next) = (log.request(), log.request(), log.request());
    let first = log.ask_as(won, accept(uplink(8))).0;
    for number in 1..=3 {
        log.done(enqueue(item(number, false, 3)));
    }
    let handed = log.ask_as(plan, Command::PlanDownlink(ask(1))).0;
    log.ask(Command::PlanDownlink(PlanDownlink { home: OTHER, ..ask(1) }));
    log.ask(accept(AcceptUplink { home: OTHER, ..uplink(8) }));
    let again = |log: &mut Log, request, command| {
        let before = log.state.clone();
        let (reply, applied) = log.ask_as(request, command);
        assert_same_but_for_the_log(&before, &log.state);
        assert_eq!((applied.rows.len(), applied.changes.len()), (0, 0), "a retry does nothing");
        reply
    };
    assert_eq!(again(&mut log, won, accept(uplink(8))), first);
    assert_eq!(again(&mut log, plan, Command::PlanDownlink(ask(1))), handed);
    // The next uplink, and plans without end.
    let second = log.ask_as(next, accept(uplink(9))).0;
    assert_eq!(again(&mut log, plan, Command::PlanDownlink(ask(1))), handed);
    for _ in 0..9 {
        log.ask(Command::PlanDownlink(ask(1)));
    }
    assert_eq!(again(&mut log, won, accept(uplink(8))), first);
    assert_eq!(again(&mut log, next, accept(uplink(9))), second);
    assert!(log.device().earlier_replies.as_ref().unwrap().iter().count() <= 3, "bounded");
}

#[test]
fn a_join_is_answered_again_after_an_uplink_of_the_old_session() {
    let mut log = Log::with_session();
    let (nwk_key, app_key) = (sealed(9), None);
    let must_exist = Some(false);
    log.done(Command::SetDeviceKeys { dev_eui: DEVICE, must_exist, nwk_key, app_key });
    log.ask(accept(uplink(8)));
    let request = log.request();
    let asked = || {
        let elsewhere = AcceptJoin { home: OTHER, ..join(1, 1) };
        Command::AcceptJoin(Box::new(elsewhere))
    };
    let first = log.ask_as(request, asked()).0;
    assert_eq!(log.device().last_home, Some(NODE), "of its last uplink");
    let lost = log.ask(accept(AcceptUplink { home: NodeId(3), ..uplink(8) })).0;
    assert_eq!(lost, Reply::Uplink(UplinkReply::Duplicate { winner: NODE }));
    log.ask(accept(uplink(9)));
    assert_eq!(log.ask_as(request, asked()).0, first);
}

#[test]
fn what_older_binaries_wrote_is_read() {
    let mut log = Log::with_session();
    log.ask(accept(heard(8, NODE, None)));
    let mut device = log.device().clone();
    let mut session = device.session.take().unwrap();
    session.traffic = None;
    session.n_f_cnt_down.skipped = None;
    device.session = Some(session);
    device.earlier_replies = None;
    let mut bytes = Vec::new();
    codec::write(&device, &mut bytes);
    // An array of 21 fields, as before there were more.
    assert_eq!(bytes[0], 0x95);
    assert_eq!(codec::read::<Device>(&bytes), Ok(device));
    let mut none = Vec::new();
    codec::write(&None::<EarlierReplies>, &mut none);
    assert_eq!(none, [0xf6]);
}

#[test]
fn the_home_is_who_holds_the_numbers() {
    let mut log = Log::with_session();
    assert_eq!(log.state.home_of(DEVICE), None);
    assert_eq!(accepted(&mut log, heard(8, NODE, None)), range(NODE, 1, 5, 21));
    assert_eq!(log.state.home_of(DEVICE), Some(NODE));
    // Its own numbers, then a take-over by another node, then back: nobody's twice.
    assert_eq!(planned(&mut log, NODE, Some(6)), range(NODE, 1, 6, 21));
    assert_eq!(planned(&mut log, OTHER, None), range(OTHER, 2, 21, 37));
    assert_eq!(log.state.home_of(DEVICE), Some(OTHER));
    assert_eq!(accepted(&mut log, heard(9, NODE, Some(6))), range(NODE, 3, 37, 53));
    assert_eq!(accepted(&mut log, heard(10, NODE, Some(46))), range(NODE, 3, 46, 62));
    let boot = |node| Command::Boot { node, boot: 1, feature_level: 1, plate: None };
    log.done(boot(OTHER));
    assert_eq!(log.state.home_of(DEVICE), Some(NODE));
    log.done(boot(NODE));
    assert_eq!(log.state.home_of(DEVICE), None);
    assert_eq!(accepted(&mut log, heard(11, NODE, Some(46))), range(NODE, 4, 62, 78));
    assert_eq!(log.session().n_f_cnt_down.skipped, Some(15 + 16 + 16));
    log.done(Command::Deactivate(DEVICE));
    assert_eq!(log.state.home_of(DEVICE), None);
    // The same keys again go on above, and the device may miss what was passed over.
    log.done(activate(ADDRESS, 5));
    let counter = log.session().n_f_cnt_down;
    assert_eq!((counter.next, counter.skipped), (78, Some(73)));
}

#[test]
fn the_home_follows_the_device() {
    let mut log = Log::with_session();
    accepted(&mut log, heard(8, NODE, None));
    for f_cnt in 9..=15 {
        let away = AcceptUplink { heard_by: Some(OTHER), ..heard(f_cnt, NODE, Some(5)) };
        assert!(accepted(&mut log, away).is_some());
    }
    let last = AcceptUplink { heard_by: Some(OTHER), ..heard(16, NODE, Some(5)) };
    assert_eq!(accepted(&mut log, last), None);
    assert_eq!(log.state.home_of(DEVICE), Some(OTHER));
    assert_eq!(planned(&mut log, NODE, Some(5)), range(NODE, 3, 37, 38));
    assert_eq!(log.state.home_of(DEVICE), Some(OTHER), "one number moves no home");
    let lost = log.ask(accept(heard(16, OTHER, None))).0;
    assert_eq!(lost, Reply::Uplink(UplinkReply::Duplicate { winner: NODE }));
}

#[test]
fn numbers_that_grow_scarce_are_told_once() {
    let mut log = Log::with_session();
    let mut told = Vec::new();
    let mut rows = |applied: Applied, f_cnt: u32| {
        for row in applied.rows {
            if let Event::Log { level, code, .. } = row.event {
                told.push((f_cnt, level, code));
            }
        }
    };
    for f_cnt in 8..700 {
        let (_, applied) = log.ask(accept(heard(f_cnt, NODE, None)));
        rows(applied, f_cnt);
        if f_cnt == 600 {
            let next = log.session().n_f_cnt_down.next;
            let (_, applied) = log.ask(Command::PlanDownlink(ask(1)));
            rows(applied, f_cnt);
            assert_eq!(log.session().n_f_cnt_down.next, next + 1);
        }
    }
    assert_eq!(told, [(8 + 512, LogLevel::Warning, LogCode::FCntDown)]);
}
