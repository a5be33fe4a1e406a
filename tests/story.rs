//! The whole server as a sans-IO machine: from a datagram to a row and back to a datagram.

use std::time::Duration;

use store::Event;
use tests::loopback::Loopback;

fn pull_resps(loopback: &Loopback) -> Vec<String> {
    let responses = loopback.datagrams.iter().filter(|(_, bytes)| bytes[3] == 3);
    responses.map(|(_, bytes)| String::from_utf8_lossy(&bytes[4..]).into_owned()).collect()
}

#[test]
fn a_confirmed_uplink_becomes_one_row_and_one_acknowledgement_in_time() {
    let mut loopback = Loopback::new();
    let device = loopback.add_device(1);
    loopback.datagrams.clear();
    loopback.datagram(&device.push(5, true, 1_000_000));
    assert_eq!(loopback.datagrams[0].1[..], [2, 0, 0, 1], "PUSH_ACK at once");
    loopback.pass(Duration::from_millis(199));
    assert!(loopback.rows.is_empty(), "the deduplication window is open");
    loopback.pass(Duration::from_millis(1));
    assert_eq!(loopback.rows.len(), 1);
    let Event::Up(up) = &loopback.rows[0].event else { panic!("{:?}", loopback.rows[0]) };
    assert_eq!((up.f_cnt, up.f_port, up.confirmed, up.data.len()), (5, Some(10), true, 20));
    assert!(pull_resps(&loopback).is_empty(), "an application may still answer");
    loopback.pass(Duration::from_millis(100));
    let responses = pull_resps(&loopback);
    assert_eq!(responses.len(), 1);
    assert!(responses[0].contains("\"tmst\":2000000"), "RX1 opens 1 s later: {}", responses[0]);
    assert!(responses[0].contains("\"freq\":868.1"), "RX1 on the uplink's channel");
}

#[test]
fn the_same_frame_from_the_air_again_is_answered_again_without_a_second_row() {
    let mut loopback = Loopback::new();
    let device = loopback.add_device(1);
    loopback.datagram(&device.push(5, true, 1_000_000));
    loopback.pass(Duration::from_secs(3));
    loopback.datagram(&device.push(5, true, 4_000_000));
    loopback.pass(Duration::from_secs(3));
    assert_eq!(loopback.rows.len(), 1);
    let data = |text: &str| text.split("\"data\":\"").nth(1).map(|rest| rest.to_owned());
    let responses = pull_resps(&loopback);
    let first = responses.first().and_then(|text| data(text));
    let again = responses.iter().find(|text| text.contains("\"tmst\":5000000"));
    assert_eq!(again.and_then(|text| data(text)), first, "the same bytes, not another number");
}

#[test]
fn an_unconfirmed_uplink_is_not_answered() {
    let mut loopback = Loopback::new();
    let device = loopback.add_device(1);
    loopback.datagram(&device.push(1, false, 1_000_000));
    loopback.pass(Duration::from_secs(3));
    assert_eq!(loopback.rows.len(), 1);
    assert!(pull_resps(&loopback).is_empty());
}
