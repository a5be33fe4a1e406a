//! Grants by example, and by whatever order of askers.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::WallTime;
use lorawan::TxStatus;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{DEV_EUI, HOME, ask, lora, profile, session, uplink};
use crate::{
    AcceptUplink, DeviceSession, DownlinkCounter, Grant, MacVersion, NodeId, PlanDownlink,
    PlanReply, RecordTxAck, SessionEpoch, UplinkReply,
};

const OTHER: NodeId = NodeId(2);

fn counter(next: u32) -> DownlinkCounter {
    DownlinkCounter { next, ..DownlinkCounter::default() }
}

fn range(home: NodeId, home_epoch: u32, lo: u32, hi: u32) -> Option<Grant> {
    Some(Grant { home, home_epoch, lo, hi })
}

fn at(secs: i64) -> WallTime {
    WallTime::from_unix_secs(1_790_000_000 + secs)
}

#[test]
fn a_grant_goes_on_under_its_epoch_when_less_than_half_is_left() {
    let mut n = counter(5);
    assert_eq!(grant_for(&mut n, HOME, None, 16), range(HOME, 1, 5, 21));
    assert_eq!(grant_for(&mut n, HOME, Some(5), 16), range(HOME, 1, 5, 21), "not used");
    assert_eq!(grant_for(&mut n, HOME, Some(13), 16), range(HOME, 1, 13, 21), "half is left");
    assert_eq!(grant_for(&mut n, HOME, Some(14), 16), range(HOME, 1, 14, 30));
    assert_eq!(grant_for(&mut n, HOME, Some(12), 16), range(HOME, 1, 14, 30), "an older question");
    assert_eq!(grant_for(&mut n, HOME, Some(30), 1), range(HOME, 1, 30, 31), "used up");
    assert_eq!((n.next, n.skipped), (31, None));
}

#[test]
fn a_home_that_forgot_and_another_home_start_beyond() {
    let mut n = counter(5);
    grant_for(&mut n, HOME, None, 4);
    assert_eq!(grant_for(&mut n, HOME, None, 4), range(HOME, 2, 9, 13));
    assert_eq!(n.skipped, Some(4), "for all the log knows");
    assert_eq!(grant_for(&mut n, OTHER, Some(10), 1), range(OTHER, 3, 13, 14));
    assert_eq!(grant_for(&mut n, HOME, Some(10), 2), range(HOME, 4, 14, 16));
    assert_eq!(n.skipped, Some(9));
    // A cursor from its last grant: it has used nothing of this one.
    assert_eq!(grant_for(&mut n, HOME, Some(10), 2), range(HOME, 4, 14, 16));
}

#[test]
fn the_end_of_the_counter_grants_what_is_left_and_then_nothing() {
    let mut n = counter(u32::MAX - 3);
    assert_eq!(grant_for(&mut n, HOME, None, 16), range(HOME, 1, u32::MAX - 3, u32::MAX));
    let before = n;
    assert_eq!(grant_for(&mut n, HOME, Some(u32::MAX), 16), None);
    assert_eq!(grant_for(&mut n, OTHER, None, 1), None);
    assert_eq!(n, before);
}

fn accept(session: &mut DeviceSession, uplink: &AcceptUplink, now: WallTime) -> Option<Grant> {
    let reply = accept_uplink(session, false, None, uplink, now);
    let UplinkReply::Accepted { grant, .. } = reply else { panic!("{reply:?}") };
    grant
}

fn quiet(f_cnt: u32) -> AcceptUplink {
    AcceptUplink { adr: false, ..uplink(f_cnt, 1) }
}

fn length(grant: Option<Grant>) -> u32 {
    grant.map_or(0, |grant| grant.hi - grant.lo)
}

#[test]
fn a_range_is_an_hour_of_confirmed_uplinks() {
    let mut s = session(&profile("EU868"));
    assert_eq!(length(accept(&mut s, &quiet(10), at(0))), 1, "neither confirmed nor ADR");
    assert_eq!(length(accept(&mut s.clone(), &uplink(11, 1), at(0))), 16, "ADR");
    let confirmed = |f_cnt| AcceptUplink { confirmed: true, ..quiet(f_cnt) };
    let mut longest = 0;
    for n in 0..400 {
        let grant = accept(&mut s, &confirmed(11 + n), at(i64::from(n)));
        let wanted = (n + 2).clamp(16, 256);
        assert_eq!(length(grant), wanted, "{n}");
        s.n_f_cnt_down.skipped = None;
        longest = longest.max(length(grant));
    }
    assert_eq!(longest, 256);
    // The hour before counts, the one before that does not.
    let hour = 3_600;
    let mut later = s.clone();
    assert_eq!(length(accept(&mut later, &quiet(500), at(hour))), 256);
    assert_eq!(length(accept(&mut later, &quiet(501), at(2 * hour))), 1);
    assert_eq!(length(accept(&mut s, &confirmed(500), at(9 * hour))), 16);
}

#[test]
fn a_range_is_of_n_f_cnt_down_alone() {
    let mut p = profile("EU868");
    p.mac_version = MacVersion::V1_1_0;
    let mut s = session(&p);
    accept(&mut s, &uplink(10, 1), at(0));
    let data = Bytes::from_static(&[1]);
    let item = QueueItem {
        id: [1; 16],
        f_port: 1,
        confirmed: false,
        data: &data,
        encrypted_f_cnt: None,
        expires_at: None,
        state: ItemState::Queued,
    };
    let seen = plan(&s, &p, &[item], &ask(51), at(1));
    let (reply, number) = hand_out(&mut s, &seen, &ask(51), at(1));
    let PlanReply::Planned { grant, a_grant, .. } = reply else { panic!("{reply:?}") };
    assert_eq!((grant, length(a_grant), number), (None, 1, Some(0)));
}

fn planned(session: &mut DeviceSession, home: NodeId, cursor: Option<u32>) -> Option<Grant> {
    let asked = PlanDownlink { home, cursor, ..ask(51) };
    match hand_out(session, &Plan::default(), &asked, at(0)) {
        (PlanReply::Planned { grant, .. }, number) => {
            assert_eq!(number, grant.map(|grant| grant.lo));
            grant
        }
        (PlanReply::Gone, _) => None,
    }
}

#[test]
fn a_plan_is_numbered_by_its_asker() {
    let mut s = session(&profile("EU868"));
    assert_eq!(accept(&mut s, &uplink(10, 1), at(0)), range(HOME, 1, 5, 21));
    assert_eq!(planned(&mut s, HOME, Some(7)), range(HOME, 1, 7, 21), "its own numbers");
    assert_eq!(planned(&mut s, OTHER, None), range(OTHER, 2, 21, 37), "a take-over");
    assert_eq!(planned(&mut s, HOME, Some(8)), range(HOME, 3, 37, 53));
    void_grants(&mut s, OTHER);
    assert_eq!(s.n_f_cnt_down.grant, range(HOME, 3, 37, 53));
    void_grants(&mut s, HOME);
    assert_eq!((s.n_f_cnt_down.grant, s.n_f_cnt_down.next), (None, 53));
    assert_eq!(s.n_f_cnt_down.skipped, Some(14 + 16 + 16));
    assert_eq!(planned(&mut s, HOME, Some(38)), range(HOME, 4, 53, 69));
}

fn heard_by(f_cnt: u32, node: Option<NodeId>, cursor: u32) -> AcceptUplink {
    AcceptUplink { heard_by: node, cursor: Some(cursor), ..uplink(f_cnt, 1) }
}

#[test]
fn the_grant_follows_the_device_after_eight_uplinks_without_a_copy_at_home() {
    let mut s = session(&profile("EU868"));
    accept(&mut s, &uplink(10, 1), at(0));
    for f_cnt in 11..18 {
        let grant = accept(&mut s, &heard_by(f_cnt, Some(OTHER), 5), at(1));
        assert_eq!(grant, range(HOME, 1, 5, 21), "{f_cnt}");
    }
    let mut back = s.clone();
    assert_eq!(accept(&mut s, &heard_by(18, Some(OTHER), 5), at(1)), None, "another node's now");
    assert_eq!(s.n_f_cnt_down.grant, range(OTHER, 2, 21, 37));
    // The old home answers that very uplink under one number, and the grant stays where it is.
    assert_eq!(planned(&mut s, HOME, Some(5)), range(HOME, 3, 37, 38));
    assert_eq!(s.n_f_cnt_down.grant, range(OTHER, 4, 38, 54));
    let there = AcceptUplink { home: OTHER, ..heard_by(19, None, 21) };
    assert_eq!(accept(&mut s, &there, at(2)), range(OTHER, 4, 38, 54));
    assert_eq!(planned(&mut s, HOME, Some(5)), range(HOME, 5, 54, 70), "a take-over again");
    // One copy at home, or a copy that only the home has, and the count begins anew.
    accept(&mut back, &heard_by(18, Some(HOME), 5), at(1));
    for f_cnt in 19..26 {
        assert!(accept(&mut back, &heard_by(f_cnt, Some(OTHER), 5), at(1)).is_some());
    }
    assert_eq!(accept(&mut back, &heard_by(26, Some(NodeId(3)), 5), at(1)), None);
    assert_eq!(back.n_f_cnt_down.grant.unwrap().home, NodeId(3), "whoever hears it now");
    // Whoever takes over counts for himself.
    let third = AcceptUplink { home: OTHER, ..heard_by(27, Some(NodeId(3)), 0) };
    assert_eq!(accept(&mut back, &third, at(2)).unwrap().home, OTHER);
}

fn sent(f_cnt_down: u32) -> RecordTxAck {
    RecordTxAck {
        dev_eui: DEV_EUI,
        session_epoch: SessionEpoch(1),
        f_cnt_down,
        a_counter: false,
        item_id: None,
        status: Some(TxStatus::Ok),
        gateway: lorawan::GatewayEui::default(),
        downlink_id: 1,
        frequency_hz: 868_100_000,
        eirp_dbm: 16,
        modulation: lora(12, 125),
        delay_s: 1,
    }
}

#[test]
fn too_many_skipped_numbers_end_ranges_until_a_downlink_is_received() {
    let mut s = session(&profile("EU868"));
    let scarce = |s: &DeviceSession| s.traffic.is_some_and(|traffic| traffic.scarce);
    let mut f_cnt = 10;
    let mut ask_anew = |s: &mut DeviceSession| {
        f_cnt += 1;
        accept(s, &AcceptUplink { cursor: None, ..uplink(f_cnt, 1) }, at(0)).unwrap()
    };
    // Each start forgets 16 numbers.
    let starts = (0..).take_while(|_| length(Some(ask_anew(&mut s))) == 16).count();
    assert_eq!((starts, scarce(&s)), (8_192 / 16 + 1, true));
    let low = s.n_f_cnt_down;
    let last = ask_anew(&mut s);
    assert_eq!((length(Some(last)), low.next), (1, last.lo), "never silence");
    // Below the gap of 1.0.3, and far from the end of it.
    assert!(last.hi - 5 < 16_384 - 8_000);
    // A report from before the skips proves nothing, one of the newest numbers everything.
    let mut early = s.clone();
    record_tx_ack(&mut early, &sent(5));
    assert_eq!(length(Some(ask_anew(&mut early))), 1);
    record_tx_ack(&mut s, &sent(last.lo));
    assert_eq!((length(Some(ask_anew(&mut s))), scarce(&s)), (16, false));
    // So does the device's own acknowledgement.
    let p = profile("EU868");
    let data = Bytes::new();
    let f_cnt_down = early.n_f_cnt_down.next - 1;
    let item = QueueItem {
        id: [1; 16],
        f_port: 1,
        confirmed: true,
        data: &data,
        encrypted_f_cnt: None,
        expires_at: None,
        state: ItemState::AwaitsAck { f_cnt_down, since: at(0) },
    };
    confirm(&mut early, &p, &[item], true, at(1));
    assert_eq!(early.n_f_cnt_down.skipped, None);
}

#[test]
fn numbers_passed_over_for_a_new_activation_are_skipped() {
    let mut old = session(&profile("EU868"));
    old.n_f_cnt_down.next = 40;
    let again = install(session(&profile("EU868")), SessionEpoch(2), [&old]);
    assert_eq!((again.n_f_cnt_down.next, again.n_f_cnt_down.skipped), (40, Some(35)));
}

/// A home as the machine keeps its cursor: by session, the newest epoch, what is used stays used.
#[derive(Clone, Copy, Debug, Default)]
struct Home {
    held: Option<(u32, u32, u32)>,
}

impl Home {
    fn adopt(&mut self, grant: Grant) {
        let Grant { home_epoch, lo, hi, .. } = grant;
        self.held = match self.held {
            Some((epoch, next, end)) if epoch == home_epoch => {
                Some((epoch, next.max(lo), end.max(hi)))
            }
            Some((epoch, ..)) if epoch > home_epoch => self.held,
            Some(_) | None => Some((home_epoch, lo, hi)),
        };
    }

    fn draw(&mut self) -> Option<(u32, u32, u32)> {
        let (_, next, hi) = self.held.as_mut()?;
        if *next >= *hi {
            return None;
        }
        *next += 1;
        self.held.map(|(epoch, next, hi)| (epoch, next - 1, hi))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Uplink { home: usize, confirmed: bool, adr: bool, heard_by: Option<usize> },
    Plan(usize),
    Encrypted(usize, u32),
    Emit(usize),
    Forget(usize),
    Report(u32),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let home = 0_usize..3;
    let heard_by = prop::option::weighted(0.8, 0_usize..3);
    prop_oneof![
        6 => (home.clone(), any::<bool>(), any::<bool>(), heard_by).prop_map(
            |(home, confirmed, adr, heard_by)| Step::Uplink { home, confirmed, adr, heard_by }
        ),
        3 => home.clone().prop_map(Step::Plan),
        1 => (home.clone(), 0_u32..40).prop_map(|(home, ahead)| Step::Encrypted(home, ahead)),
        8 => home.clone().prop_map(Step::Emit),
        1 => home.prop_map(Step::Forget),
        1 => (0_u32..600).prop_map(Step::Report),
        1 => (0_i64..9_000).prop_map(Step::Wait),
    ]
}

/// The story of one session, and all that was granted and emitted in it.
struct Story {
    session: DeviceSession,
    homes: [Home; 3],
    now: i64,
    f_cnt: u32,
    owners: BTreeMap<u32, (NodeId, u32)>,
    emitted: BTreeMap<u32, (NodeId, u32)>,
    last_of: BTreeMap<(NodeId, u32), u32>,
}

fn node(at: usize) -> NodeId {
    NodeId(u64::try_from(at).unwrap() + 1)
}

impl Story {
    fn new() -> Self {
        Self {
            session: session(&profile("EU868")),
            homes: [Home::default(); 3],
            now: 0,
            f_cnt: 10,
            owners: BTreeMap::new(),
            emitted: BTreeMap::new(),
            last_of: BTreeMap::new(),
        }
    }

    fn granted(&mut self, home: usize, grant: Option<Grant>) {
        let Some(grant) = grant else { return };
        assert_eq!(grant.home, node(home), "a reply grants to its asker");
        assert!(grant.lo < grant.hi && grant.hi - grant.lo <= 256 + 64, "{grant:?}");
        self.own(grant);
        self.homes[home].adopt(grant);
    }

    fn own(&mut self, grant: Grant) {
        for number in grant.lo..grant.hi {
            let whose = (grant.home, grant.home_epoch);
            assert_eq!(*self.owners.entry(number).or_insert(whose), whose, "{number} twice");
        }
    }

    fn plan(&mut self, home: usize, encrypted: Option<u32>) {
        let p = profile("EU868");
        let data = Bytes::from_static(&[1]);
        let encrypted_f_cnt = encrypted.map(|ahead| self.session.n_f_cnt_down.reported + ahead);
        let item = QueueItem {
            id: [1; 16],
            f_port: 1,
            confirmed: false,
            data: &data,
            encrypted_f_cnt,
            expires_at: None,
            state: ItemState::Queued,
        };
        let queue = if encrypted.is_some() { vec![item] } else { vec![] };
        let cursor = self.homes[home].held.map(|held| held.1);
        let asked = PlanDownlink { home: node(home), cursor, ..ask(51) };
        let seen = plan(&self.session, &p, &queue, &asked, at(self.now));
        let (reply, number) = hand_out(&mut self.session, &seen, &asked, at(self.now));
        let PlanReply::Planned { grant, item, .. } = reply else { panic!("{reply:?}") };
        self.granted(home, grant);
        if item.is_some() {
            assert_eq!(number, encrypted_f_cnt, "under its number or not at all");
            let next = self.homes[home].held.map(|held| held.1);
            assert_eq!(next, number, "the home draws what the log said");
        }
    }

    fn take(&mut self, step: &Step) {
        let before = self.session.n_f_cnt_down;
        match *step {
            Step::Uplink { home, confirmed, adr, heard_by } => {
                self.f_cnt += 1;
                let cursor = self.homes[home].held.map(|held| held.1);
                let heard_by = heard_by.map(node);
                let home_id = node(home);
                let uplink = AcceptUplink {
                    home: home_id,
                    cursor,
                    confirmed,
                    adr,
                    heard_by,
                    ..uplink(self.f_cnt, 1)
                };
                let grant = accept(&mut self.session, &uplink, at(self.now));
                self.granted(home, grant);
            }
            Step::Plan(home) => self.plan(home, None),
            Step::Encrypted(home, ahead) => self.plan(home, Some(ahead)),
            Step::Emit(home) => self.emit(home),
            Step::Forget(home) => {
                self.homes[home] = Home::default();
                void_grants(&mut self.session, node(home));
            }
            Step::Report(number) => {
                let known = self.emitted.range(..=number).next_back().map(|(number, _)| *number);
                known.map(|number| record_tx_ack(&mut self.session, &sent(number)));
            }
            Step::Wait(secs) => self.now += secs,
        }
        let after = self.session.n_f_cnt_down;
        assert!(after.next >= before.next && after.home_epoch >= before.home_epoch);
        if let Some(grant) = after.grant {
            assert_eq!((grant.hi, grant.home_epoch), (after.next, after.home_epoch));
            self.own(grant);
        }
        if let (Some(old), Some(new)) = (before.grant, after.grant)
            && old.home_epoch == new.home_epoch
        {
            assert!(old.home == new.home && old.lo <= new.lo && new.lo <= new.hi);
            assert!(new.hi == old.hi || old.hi == before.next, "an extension is contiguous");
        }
    }

    fn emit(&mut self, home: usize) {
        let Some((epoch, number, hi)) = self.homes[home].draw() else { return };
        let whose = (node(home), epoch);
        assert!(number < hi && number < self.session.n_f_cnt_down.next);
        assert_eq!(self.owners.get(&number), Some(&whose), "{number} was granted to its sender");
        assert_eq!(self.emitted.insert(number, whose), None, "{number} left twice");
        let last = self.last_of.insert(whose, number);
        assert!(last.is_none_or(|last| last < number), "numbers of a home epoch rise");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_order_of_askers_grants_or_sends_a_number_twice(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut story = Story::new();
        for step in &steps {
            story.take(step);
        }
    }

    #[test]
    fn no_cursor_grants_a_number_twice(
        asks in prop::collection::vec((1_u64..4, prop::option::of(0_u32..80), 1_u32..5), 1..60),
    ) {
        let mut n = counter(0);
        let mut owners = BTreeMap::new();
        for (home, cursor, length) in asks {
            let before = n;
            let grant = grant_for(&mut n, NodeId(home), cursor, length).unwrap();
            prop_assert!(grant.home == NodeId(home) && grant.lo < grant.hi);
            prop_assert!(n.next >= before.next && grant.hi == n.next);
            for number in grant.lo..grant.hi {
                let whose = (grant.home, grant.home_epoch);
                prop_assert_eq!(*owners.entry(number).or_insert(whose), whose);
            }
        }
    }
}
