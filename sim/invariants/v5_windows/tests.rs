//! V5 as it must object, and as it must not.

use super::*;
use crate::invariants::history::{
    ADDRESS, SETTING, SF7, accept_uplink, acknowledgement, device, gateway, join_accept,
    join_request, logged, reading, transmission, uplink_sent,
};
use crate::oracle::Setting;

/// Facts at their moments, in milliseconds, then the end.
fn found(setting: Setting, history: &[(u64, Fact)]) -> Vec<String> {
    let mut windows = Windows::default();
    let begin = [(0, Fact::Begins(setting))];
    let end = [(60_000, Fact::Ended { log: Vec::new() })];
    let all = begin.iter().chain(history).chain(&end);
    all.flat_map(|(at, fact)| {
        let at = Duration::from_millis(*at);
        windows.observe(&Seen { at, fact: fact.clone() })
    })
    .map(|violation| violation.to_string())
    .collect()
}

fn heard(live: bool) -> Fact {
    Fact::Heard {
        gateway: gateway(1),
        tmst: 0,
        device: device(1),
        reading: Some(reading(1, "21.5")),
        wants_answer: true,
        live,
    }
}

fn decided(status: TxStatus) -> Fact {
    let how = transmission();
    Fact::Decided { order: how.order(), status }
}

fn fault(begins: bool) -> Fact {
    Fact::Fault { kind: FaultKind::SlowDisk, target: "n1".to_owned(), begins }
}

fn answered(status: TxStatus) -> Vec<(u64, Fact)> {
    vec![
        (10_000, uplink_sent(1, "21.5")),
        (10_100, heard(true)),
        (10_400, acknowledgement(0, reading(1, "21.5"))),
        (10_401, decided(status)),
    ]
}

fn unanswered() -> Vec<(u64, Fact)> {
    answered(TxStatus::Ok)[..2].to_vec()
}

#[test]
fn an_answer_that_a_gateway_took_passes_and_so_does_one_that_nobody_could_give() {
    assert!(found(SETTING, &answered(TxStatus::Ok)).is_empty());
    let cut_off = [(10_000, uplink_sent(1, "21.5")), (10_100, heard(false))];
    assert!(found(SETTING, &cut_off).is_empty());
    let crowded = answered(TxStatus::CollisionPacket);
    assert!(found(SETTING, &crowded).is_empty(), "the air is full");
    let other = [(10_000, uplink_sent(2, "later")), (10_100, heard(true))];
    assert!(found(SETTING, &other).is_empty(), "a counter that went back is refused");
}

#[test]
fn where_every_gateway_is_sending_something_else_nothing_is_missed() {
    let pushed = |tmst| Fact::Pushed {
        gateway: gateway(1),
        tmst,
        frequency_hz: 868_100_000,
        modulation: SF7,
    };
    // RX1 opens at 1 s of the gateway's counter, RX2 at 2 s.
    let other = |tmst, millis| Fact::DownlinkHanded {
        how: Transmission {
            token: 9,
            tmst: Some(tmst),
            airtime: Duration::from_millis(millis),
            ..transmission()
        },
        device: device(2),
        dev_addr: ADDRESS,
        f_cnt: 1,
        ciphertexts: Vec::new(),
        payload: None,
        acknowledges: None,
    };
    let with = |others: Vec<(u64, Fact)>| {
        let found = found(SETTING, &[others, unanswered(), vec![(10_110, pushed(0))]].concat());
        found.len()
    };
    assert_eq!(with(vec![(9_900, other(900_000, 200)), (9_950, other(2_500_000, 50))]), 0);
    assert_eq!(with(vec![(9_900, other(900_000, 200))]), 1, "RX2 was free");
    assert_eq!(with(vec![(9_900, other(2_500_000, 200))]), 1, "RX1 was free");
}

#[test]
fn no_answer_one_nobody_took_and_a_wrong_moment_are_misses() {
    assert_eq!(found(SETTING, &unanswered()).len(), 1);
    assert_eq!(found(SETTING, &answered(TxStatus::TooLate)).len(), 1);
    assert_eq!(found(SETTING, &answered(TxStatus::TooEarly)).len(), 1);
    assert_eq!(found(SETTING, &answered(TxStatus::Ok)[..3]).len(), 1, "it never arrived");
    let mut late = unanswered();
    late.push((12_200, acknowledgement(0, reading(1, "21.5"))));
    late.push((12_201, decided(TxStatus::Ok)));
    assert_eq!(found(SETTING, &late).len(), 1, "its windows have passed");
}

#[test]
fn what_is_wrong_excuses_until_it_has_been_over_for_long_enough() {
    for (begins, ends, misses) in [(9_000, 9_500, 0), (1_000, 4_000, 1), (11_000, 11_001, 0)] {
        let mut history = unanswered();
        history.extend([(begins, fault(true)), (ends, fault(false))]);
        history.sort_by_key(|(at, _)| *at);
        assert_eq!(found(SETTING, &history).len(), misses, "fault at {begins}");
    }
    let lies_in_wait =
        Fact::Fault { kind: FaultKind::WriteError, target: "n1".to_owned(), begins: false };
    let waiting = [vec![(1_000, lies_in_wait)], unanswered()].concat();
    assert!(found(SETTING, &waiting).is_empty());
    let mut in_force = unanswered();
    in_force.insert(0, (1_000, fault(true)));
    assert!(found(SETTING, &in_force).is_empty());
    let stalled = |until| {
        let until = Duration::from_millis(until);
        vec![(9_900, Fact::Stalled { node: "n1".to_owned(), until })]
    };
    assert!(found(SETTING, &[stalled(9_200), unanswered()].concat()).is_empty());
    assert_eq!(found(SETTING, &[stalled(9_050), unanswered()].concat()).len(), 1);
    let started = vec![(8_000, Fact::Started { node: "n1".to_owned() })];
    assert!(found(SETTING, &[started, unanswered()].concat()).is_empty());
}

#[test]
fn where_datagrams_get_lost_only_what_was_received_must_be_answered() {
    let rough = Setting { rough: true, ..SETTING };
    assert!(found(rough, &unanswered()).is_empty());
    let mut received = unanswered();
    received.push((10_300, logged(9, [accept_uplink(reading(1, "21.5"), 1)])));
    assert!(found(rough, &received).is_empty(), "the node may not know the gateway");
    received.insert(0, (9_000, acknowledgement(0, reading(0, "21.4"))));
    assert_eq!(found(rough, &received).len(), 1);
    received.push((10_400, acknowledgement(0, reading(1, "21.5"))));
    assert!(found(rough, &received).is_empty());
}

#[test]
fn a_join_has_its_windows_later_and_a_used_nonce_none() {
    let heard = Fact::Heard {
        gateway: gateway(1),
        tmst: 0,
        device: device(1),
        reading: None,
        wants_answer: true,
        live: true,
    };
    let asked = vec![(10_000, join_request(7)), (10_100, heard.clone())];
    assert_eq!(found(SETTING, &asked).len(), 1);
    let accepted = vec![(13_000, join_accept(7, 1, b"one")), (13_001, decided(TxStatus::Ok))];
    assert!(found(SETTING, &[asked.clone(), accepted.clone()].concat()).is_empty());
    let again = vec![(20_000, join_request(7)), (20_100, heard)];
    assert!(found(SETTING, &[asked, accepted, again].concat()).is_empty());
}

#[test]
fn a_gateway_that_was_moved_is_not_relied_on_until_it_is_known_again() {
    let hopped = |at| vec![(at, Fact::Hopped { gateway: gateway(1) })];
    assert!(found(SETTING, &[unanswered(), hopped(10_200)].concat()).is_empty(), "under way");
    assert_eq!(found(SETTING, &[hopped(9_000), unanswered()].concat()).len(), 1, "known again");
    assert_eq!(found(SETTING, &[unanswered(), hopped(13_000)].concat()).len(), 1, "afterwards");
    // Another gateway is fine, and the answer may still have gone to the one that was moved.
    let other = Fact::Heard {
        gateway: gateway(2),
        tmst: 0,
        device: device(1),
        reading: Some(reading(1, "21.5")),
        wants_answer: true,
        live: true,
    };
    let history = |live| {
        let own = vec![(10_000, uplink_sent(1, "21.5")), (10_100, heard(live))];
        [hopped(9_000), own, vec![(10_100, other.clone())]].concat()
    };
    assert!(found(SETTING, &history(false)).is_empty());
    assert_eq!(found(SETTING, &history(true)).len(), 1);
}
