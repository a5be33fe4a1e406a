//! Uplinks, joins and hostile datagrams.

use gateway::semtech::{Head, Version};
use gateway::semtech::{Server, UNREGISTERED_MAX, encode_pull_data};
use lorawan::GatewayEui;
use node::api::{Operation, Outcome};
use store::Command;

use super::bench::{Bench, DEVICE, data_frame, device, gateway};
use super::*;

#[test]
fn a_counter_below_the_last_comes_again() {
    let accepted = || {
        let mut bench = Bench::new();
        bench.activate(100);
        for f_cnt in [100, 101, 102, 101, 101] {
            bench.uplink(f_cnt, false);
        }
        bench.rows_of("up")
    };
    assert_eq!(both(Bug::ReplayWindow, accepted), (3, 4), "each once; and one below the last");
}

#[test]
fn the_same_frame_again_is_accepted_again() {
    let accepted = || {
        let mut bench = Bench::new();
        bench.activate(0);
        (0..3).for_each(|_| bench.uplink(0, true));
        bench.rows_of("up")
    };
    assert_eq!(both(Bug::DedupOff, accepted), (1, 3));
}

#[test]
fn a_frame_with_a_wrong_mic_is_put_to_the_log() {
    let asked = || {
        let mut bench = Bench::new();
        bench.activate(0);
        let mut forged = data_frame(0, true, false);
        *forged.last_mut().unwrap() ^= 1;
        bench.hear(0, &forged);
        bench.wait(clock::Duration::from_secs(5));
        bench.proposed.iter().filter(|c| matches!(c, Command::AcceptUplink(_))).count()
    };
    assert_eq!(both(Bug::MicUnchecked, asked), (0, 1));
}

#[test]
fn a_counter_never_leaves_its_lower_half() {
    let accepted = || {
        let mut bench = Bench::new();
        bench.activate(0xFFFF);
        [0xFFFF, 0x1_0000, 0x1_0001].into_iter().for_each(|f_cnt| bench.uplink(f_cnt, false));
        bench.rows_of("up")
    };
    assert_eq!(both(Bug::UpperHalfFrozen, accepted), (3, 1));
}

#[test]
fn two_requests_in_flight_make_two_sessions() {
    let sessions = || {
        let mut bench = Bench::new();
        bench.join(1, 2);
        (bench.rows_of("join"), bench.handed.len())
    };
    assert_eq!(both(Bug::DevNonceOutsideApply, sessions), ((1, 1), (2, 2)));
}

#[test]
fn a_recorded_join_request_makes_another_session() {
    let sessions = || {
        let mut bench = Bench::new();
        (0..3).for_each(|_| bench.join(1, 1));
        bench.rows_of("join")
    };
    assert_eq!(both(Bug::DevNonceForgotten, sessions), (1, 3));
}

#[test]
fn two_join_accepts_carry_one_join_nonce() {
    let next = || {
        let mut bench = Bench::new();
        (1..=2).for_each(|nonce| bench.join(nonce, 1));
        let keys = bench.node.state().device(DEVICE).unwrap().keys.clone().unwrap();
        (bench.rows_of("join"), keys.next_join_nonce.0)
    };
    assert_eq!(both(Bug::JoinNonceRepeats, next), ((2, 3), (2, 1)));
}

#[test]
fn a_counter_reset_grants_downlink_numbers_again() {
    let granted_from = || {
        let mut bench = Bench::new();
        bench.ok(Operation::UpdateDevice(node::api::wire::Device {
            skip_fcnt_check: true,
            ..device()
        }));
        bench.activate(0);
        [0, 1, 2, 0].into_iter().for_each(|f_cnt| bench.uplink(f_cnt, true));
        let session = bench.node.state().device(DEVICE).unwrap().session.clone().unwrap();
        session.n_f_cnt_down.grant.unwrap().lo
    };
    assert_eq!(both(Bug::ResetRestartsDownlinks, granted_from), (3, 0));
}

fn refusals(bench: &mut Bench) -> f64 {
    let Outcome::Metrics(metrics) = bench.ok(Operation::GetMetrics) else { panic!() };
    let refused = metrics.iter().find(|one| one.name == "tern_gateway_refused_total").unwrap();
    refused.samples.iter().map(|(_, value)| value).sum()
}

#[test]
fn a_refused_datagram_is_not_counted() {
    let counted = || {
        let mut bench = Bench::new();
        bench.datagram(0, b"nothing".to_vec());
        refusals(&mut bench)
    };
    let (healthy, sick) = both(Bug::SilentRefusal, counted);
    assert!(healthy > 0.5 && sick < 0.5, "{healthy} and {sick}");
}

#[test]
fn strangers_are_remembered_without_end() {
    let remembered = || {
        let mut server = Server::new(0);
        for number in 1..=1_000_u64 {
            let gateway = GatewayEui::from_be_bytes(number.to_be_bytes());
            let pull = encode_pull_data(Head { version: Version::V2, token: 0, gateway });
            let from = "10.0.0.9:1700".parse().unwrap();
            server.handle_datagram(clock::Instant::ZERO, from, &pull, |_| false);
        }
        server.unregistered().count()
    };
    assert_eq!(both(Bug::UnknownGatewaysUnbounded, remembered), (UNREGISTERED_MAX, 1_000));
}

#[test]
#[should_panic(expected = "JSON is UTF-8")]
fn a_body_that_is_not_utf8_panics() {
    let _planted = sabotage::plant(Bug::PanicOnInput);
    let head = Head { version: Version::V2, token: 0, gateway: gateway(0) };
    let mut datagram = encode_pull_data(head);
    datagram[3] = 0;
    datagram.extend_from_slice(b"{\"stat\":\xFF}");
    Bench::new().datagram(0, datagram);
}
