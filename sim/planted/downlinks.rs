//! Numbers, queues, windows and power of downlinks.

use clock::Duration;
use node::api::Operation;
use store::{Entry, NodeId, Proposal, RequestId};

use super::bench::{Bench, DEVICE, PORT, data, data_frame};
use super::*;

#[test]
fn a_start_grants_again_what_was_used() {
    let numbers = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.uplink(0, true);
        bench.handle(node::Input::Quorum { available: true, disk_full: false, leader: Some(1) });
        let mut state = bench.node.state().clone();
        let before = state.device(DEVICE).unwrap().session.clone().unwrap().n_f_cnt_down.next;
        let boot = store::Command::Boot { node: NodeId(1), boot: 2, feature_level: 1, plate: None };
        let proposals = vec![Proposal { request: RequestId([1; 16]), command: boot }];
        let entry = Entry { wall: clock::WallTime::UNIX_EPOCH, elapsed_micros: 0, proposals };
        state.apply(state.applied_index() + 1, &entry).unwrap();
        let after = state.device(DEVICE).unwrap().session.clone().unwrap().n_f_cnt_down.next;
        (before, after)
    };
    assert_eq!(both(Bug::GrantGivenBack, numbers), ((16, 16), (16, 0)));
}

#[test]
fn a_retransmission_is_answered_with_other_bytes_under_the_same_number() {
    let answers = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.enqueue("AQI=", false);
        (0..2).for_each(|_| bench.uplink(0, true));
        let frames = bench.frames();
        (bench.numbers(), frames[0] == frames[1])
    };
    let same = (vec![0, 0], true);
    assert_eq!(both(Bug::RepeatBuiltAnew, answers), (same, (vec![0, 0], false)));
}

#[test]
fn numbers_come_out_of_order() {
    let numbers = || {
        let mut bench = Bench::new();
        bench.activate(0);
        (0..4).for_each(|f_cnt| bench.uplink(f_cnt, true));
        bench.numbers()
    };
    assert_eq!(both(Bug::CounterOutOfOrder, numbers), (vec![0, 1, 2, 3], vec![1, 0, 3, 2]));
}

/// The ports of the answers to three unconfirmed or confirmed uplinks.
fn ports(bench: &mut Bench, confirmed: bool) -> Vec<Option<u8>> {
    (0..3).for_each(|f_cnt| bench.uplink(f_cnt, confirmed));
    bench.frames().iter().map(|bytes| data(bytes).f_port).collect()
}

#[test]
fn an_item_is_handed_out_again_and_again() {
    let sent = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.enqueue("AQI=", false);
        ports(&mut bench, false)
    };
    let (once, thrice) = (vec![Some(PORT)], vec![Some(PORT); 3]);
    assert_eq!(both(Bug::ItemHandedOutTwice, sent), (once, thrice));
}

#[test]
fn an_item_that_no_gateway_reports_is_sent_again() {
    let numbers = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.silent = true;
        bench.enqueue("AQI=", false);
        ports(&mut bench, false);
        let numbers: std::collections::BTreeSet<_> = bench.numbers().into_iter().collect();
        numbers.len()
    };
    assert_eq!(both(Bug::RequeuedAfterSilence, numbers), (1, 3));
}

#[test]
fn a_confirmed_item_is_sent_until_somebody_acknowledges() {
    let sent = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.enqueue("AQI=", true);
        (ports(&mut bench, false).len(), bench.rows_of("ack"))
    };
    assert_eq!(both(Bug::ConfirmedWithoutEnd, sent), ((1, 1), (3, 0)));
}

#[test]
fn the_newest_item_goes_first() {
    let queue = || {
        let mut bench = Bench::new();
        bench.activate(0);
        for item in ["AQ==", "Ag==", "Aw=="] {
            bench.enqueue(item, false);
        }
        let device = bench.node.state().device(DEVICE).unwrap();
        device.queue.iter().map(|item| item.data[0]).collect::<Vec<_>>()
    };
    assert_eq!(both(Bug::QueueLifo, queue), (vec![1, 2, 3], vec![3, 2, 1]));
}

#[test]
fn a_queue_waits_for_ever_behind_confirmed_uplinks() {
    let sent = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.enqueue("AQI=", false);
        ports(&mut bench, true)
    };
    let served = vec![Some(PORT), None, None];
    assert_eq!(both(Bug::AckStarvesQueue, sent), (served, vec![None; 3]));
}

#[test]
fn a_downlink_leaves_for_a_window_that_is_over() {
    let windows = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.hold = true;
        bench.hear(0, &data_frame(0, true, false));
        bench.wait(Duration::from_millis(1_500));
        bench.release();
        bench.wait(Duration::from_secs(5));
        bench.handed.iter().map(|txpk| txpk.timing).collect::<Vec<_>>()
    };
    use gateway::semtech::TxTiming::Counter;
    let (in_time, late) = (vec![Counter(3_000_000)], vec![Counter(2_000_000)]);
    assert_eq!(both(Bug::LateWindow, windows), (in_time, late));
}

#[test]
fn a_downlink_is_louder_than_its_frequency_allows() {
    let power = || {
        let mut bench = Bench::new();
        bench.activate(0);
        bench.uplink(0, true);
        bench.handed[0].power_dbm
    };
    assert_eq!(both(Bug::TooLoud, power), (16, 20));
}

#[test]
fn a_queued_downlink_is_answered_before_the_log_has_it() {
    let answered = || {
        let mut bench = Bench::new();
        bench.hold = true;
        bench.enqueue("AQI=", false)
    };
    assert_eq!(both(Bug::AnswerBeforeCommit, answered), (false, true));
}

#[test]
fn a_look_shows_what_the_last_one_should_have() {
    let looked = || {
        let mut bench = Bench::new();
        let mut look = || {
            let device = DEVICE.to_string();
            let queue = bench.ok(Operation::GetQueue { device, count_only: true });
            let node::api::Outcome::Queue(queue) = queue else { panic!() };
            bench.enqueue("AQI=", false);
            queue.total_count
        };
        [look(), look(), look()]
    };
    assert_eq!(both(Bug::StaleRead, looked), ([0, 1, 2], [0, 0, 1]));
}
