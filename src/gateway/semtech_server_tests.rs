//! The listener's promises: datagrams in, outputs out, times as literals.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::{Duration, GpsTime, Instant};
use lorawan::{
    CodeRate, CrcStatus, Downlink, DownlinkTiming, GatewayEui, LrFhssCodeRate, Modulation, TxAck,
    TxStatus,
};

use crate::semtech::{
    DatagramError, Downward, GatewaySettings, Head, Output, PushData, Refusal, Rxpk, SendError,
    Server, Stat, Tally, TxReply, TxTiming, Txpk, UNREGISTERED_MAX, Version, encode_pull_data,
    parse_downward,
};

const UP: &str = "192.0.2.7:40001";
const DOWN: &str = "192.0.2.7:40002";
const MOVED: &str = "198.51.100.9:777";

const SF7: Modulation =
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn eui(number: u64) -> GatewayEui {
    GatewayEui::from_be_bytes(number.to_be_bytes())
}

fn head(gateway: u64, token: u16) -> Head {
    Head { version: Version::V2, token, gateway: eui(gateway) }
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn rxpk(tmst: u32) -> Rxpk {
    Rxpk {
        phy_payload: Bytes::from_static(&[0x40, 1, 2, 3]),
        gateway_time: None,
        gps_time: None,
        frequency_hz: 868_100_000,
        modulation: SF7,
        rssi_dbm: -80,
        snr_ddb: 75,
        channel: 0,
        rf_chain: 1,
        antenna: 0,
        tmst,
        crc: CrcStatus::Ok,
    }
}

fn push(gateway: u64, token: u16, tmst: u32) -> Vec<u8> {
    let stat = Stat { rx_ok: Some(1), ..Stat::default() };
    PushData { rxpks: vec![rxpk(tmst)], stat: Some(stat), ..PushData::default() }
        .encode(head(gateway, token))
}

fn downlink(downlink_id: u32, eirp_dbm: i8, timing: DownlinkTiming) -> Downlink {
    Downlink {
        downlink_id,
        gateway: eui(1),
        phy_payload: Bytes::from_static(&[0x60, 9, 9]),
        timing,
        frequency_hz: 868_100_000,
        modulation: SF7,
        eirp_dbm,
        rf_chain: 0,
        antenna: 0,
        dev_addr: None,
    }
}

fn in_one_second(tmst: u32) -> DownlinkTiming {
    DownlinkTiming::Delay { tmst, delay: Duration::from_secs(1) }
}

/// A server and its registry: gateways 1 to 9.
struct World {
    server: Server,
}

impl World {
    fn new() -> Self {
        Self { server: Server::new(0xFFFE) }
    }

    /// A server that has heard gateway 1 pull at 0 s.
    fn with_path() -> Self {
        let mut world = Self::new();
        world.datagram(0, DOWN, &encode_pull_data(head(1, 1)));
        world
    }

    fn datagram(&mut self, millis: u64, from: &str, bytes: &[u8]) -> Vec<Output> {
        let registered = |gateway| gateway >= eui(1) && gateway <= eui(9);
        self.server.handle_datagram(at(millis), address(from), bytes, registered);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        core::iter::from_fn(|| self.server.poll_output()).collect()
    }

    fn send(&mut self, millis: u64, downlink: &Downlink) -> (SocketAddr, u16, Txpk) {
        let settings = GatewaySettings::default();
        let (to, bytes) = self.server.send(at(millis), downlink, settings).unwrap();
        let (token, txpk) = pull_resp(&bytes);
        (to, token, txpk)
    }

    fn tx_ack(&mut self, millis: u64, token: u16, status: TxStatus) -> Vec<Output> {
        let reply = TxReply { status, power_used_dbm: None };
        self.datagram(millis, DOWN, &reply.encode(head(1, token)))
    }
}

fn pull_resp(bytes: &[u8]) -> (u16, Txpk) {
    match parse_downward(bytes) {
        Ok(Downward::PullResp { token, txpk }) => (token, txpk),
        other => panic!("{other:?}"),
    }
}

fn acked(downlink_id: u32, status: TxStatus) -> Output {
    Output::TxAck(TxAck { gateway: eui(1), downlink_id, status })
}

#[test]
fn a_push_is_acknowledged_first_then_its_frames_come_out() {
    let mut world = World::new();
    let outputs = world.datagram(5, UP, &push(1, 0xABCD, 77));
    let [Output::Send { to, bytes }, Output::Stat { gateway, stat }, Output::Uplink(uplink)] =
        outputs.as_slice()
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((*to, bytes.as_slice()), (address(UP), &[2, 0xAB, 0xCD, 1][..]));
    assert_eq!((*gateway, stat.rx_ok), (eui(1), Some(1)));
    assert_eq!((uplink.gateway, uplink.received_at, uplink.tmst), (eui(1), at(5), 77));
    assert_eq!(world.server.path(eui(1)), None, "a push opens no path");
}

#[test]
fn a_version_1_gateway_is_answered_in_version_1_and_owes_no_tx_ack() {
    let mut world = World::new();
    let pull = encode_pull_data(Head { version: Version::V1, ..head(1, 7) });
    let outputs = world.datagram(0, DOWN, &pull);
    assert_eq!(outputs[0], Output::Send { to: address(DOWN), bytes: vec![1, 0, 7, 4] });
    let sent = world.server.send(at(1), &downlink(5, 14, in_one_second(0)), Default::default());
    assert_eq!(sent.unwrap().1[0], 1);
    assert_eq!(world.drain(), [acked(5, TxStatus::Ok)]);
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn without_acknowledging_frames_still_come_out() {
    let mut world = World::new();
    world.server.set_acknowledging(false);
    let outputs = world.datagram(0, UP, &push(1, 1, 0));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })), "{outputs:?}");
    assert!(outputs.iter().any(|output| matches!(output, Output::Uplink(_))));
    world.server.set_acknowledging(true);
    let outputs = world.datagram(1, UP, &push(1, 2, 0));
    assert!(matches!(outputs[0], Output::Send { .. }));
}

#[test]
fn an_unregistered_gateway_is_acknowledged_and_listed_but_not_heard() {
    let mut world = World::new();
    let outputs = world.datagram(3, UP, &push(10, 1, 0));
    let from = address(UP);
    let expected = [
        Output::UnregisteredGateway { gateway: eui(10), from },
        Output::Send { to: from, bytes: vec![2, 0, 1, 1] },
        Output::Refused {
            from,
            gateway: Some(eui(10)),
            refusal: Refusal::Unregistered { frames: 1 },
        },
    ];
    assert_eq!(outputs, expected);
    assert_eq!(world.datagram(4, UP, &push(10, 2, 0)).len(), 2, "announced once");
    let (listed, entry) = world.server.unregistered().next().unwrap();
    assert_eq!((listed, entry.first_seen, entry.last_seen), (eui(10), at(3), at(4)));
    assert_eq!((entry.pushes, entry.frames, entry.last_address), (2, 2, from));
}

#[test]
fn registering_a_gateway_keeps_the_path_it_had_opened() {
    let mut server = Server::new(0);
    let pull = encode_pull_data(head(10, 1));
    server.handle_datagram(at(0), address(DOWN), &pull, |_| false);
    server.handle_datagram(at(1), address(UP), &push(10, 1, 0), |_| true);
    assert_eq!(server.unregistered().count(), 0);
    assert_eq!(server.registered().count(), 1);
    assert_eq!(server.path(eui(10)).unwrap().address, address(DOWN));
    // Struck off again, it is announced again.
    while server.poll_output().is_some() {}
    server.handle_datagram(at(2), address(UP), &push(10, 1, 0), |_| false);
    let announced = Output::UnregisteredGateway { gateway: eui(10), from: address(UP) };
    assert_eq!(server.poll_output(), Some(announced));
}

#[test]
fn a_flood_of_unregistered_gateways_stays_bounded_and_harms_no_registered_one() {
    let mut world = World::with_path();
    for number in 1..=2_000 {
        world.datagram(number, UP, &encode_pull_data(head(1_000 + number, 1)));
    }
    assert_eq!(world.server.unregistered().count(), UNREGISTERED_MAX);
    let oldest = world.server.unregistered().map(|(_, entry)| entry.first_seen).min();
    assert_eq!(oldest, Some(at(2_001 - UNREGISTERED_MAX as u64)), "the youngest are kept");
    assert!(world.server.path(eui(1)).is_some());
}

#[test]
fn downlinks_go_where_the_latest_pull_came_from() {
    let mut world = World::with_path();
    let path = world.server.path(eui(1)).unwrap();
    assert_eq!((path.address, path.last_pull), (address(DOWN), at(0)));
    let refresh = world.datagram(5_000, DOWN, &encode_pull_data(head(1, 2)));
    let [Output::Send { .. }, Output::Pulled { before, .. }] = &refresh[..] else {
        panic!("a refresh is acknowledged and told, no more: {refresh:?}")
    };
    assert_eq!(*before, Some(at(0)));
    world.datagram(6_000, UP, &push(1, 1, 0));
    assert_eq!(world.send(6_001, &downlink(1, 14, in_one_second(0))).0, address(DOWN));

    let outputs = world.datagram(7_000, MOVED, &encode_pull_data(head(1, 3)));
    assert!(matches!(outputs[2], Output::PathChanged { gateway, path }
        if gateway == eui(1) && path.address == address(MOVED)));
    assert_eq!(world.send(7_001, &downlink(2, 14, in_one_second(0))).0, address(MOVED));
}

#[test]
fn without_a_fresh_pull_there_is_no_path() {
    let mut world = World::new();
    world.datagram(0, UP, &push(1, 1, 0));
    let frame = downlink(1, 14, in_one_second(0));
    let send = |world: &mut World, millis| {
        world.server.send(at(millis), &frame, GatewaySettings::default()).map(|_| ())
    };
    assert_eq!(send(&mut world, 1), Err(SendError::NoPath { last_pull_age: None }));
    world.datagram(1_000, DOWN, &encode_pull_data(head(1, 1)));
    assert_eq!(send(&mut world, 61_000), Ok(()));
    let last_pull_age = Some(Duration::from_micros(60_001_000));
    assert_eq!(send(&mut world, 61_001), Err(SendError::NoPath { last_pull_age }));
}

#[test]
fn a_downlink_says_what_its_gateway_needs() {
    let mut world = World::with_path();
    let frame = downlink(1, 16, in_one_second(5));
    let settings =
        GatewaySettings { antenna_gain_db: 3, power_max_dbm: Some(27), rf_chain: Some(1) };
    let (_, bytes) = world.server.send(at(1), &frame, settings).unwrap();
    let txpk = pull_resp(&bytes).1;
    assert_eq!((txpk.power_dbm, txpk.rf_chain, txpk.frequency_hz), (13, 1, 868_100_000));
    assert!(txpk.inverted_polarity && txpk.no_crc);
    let settings = GatewaySettings { power_max_dbm: Some(10), ..settings };
    let (_, bytes) = world.server.send(at(1), &frame, settings).unwrap();
    assert_eq!(pull_resp(&bytes).1.power_dbm, 10);
    let frame = Downlink { phy_payload: Bytes::new(), ..frame };
    let empty = world.server.send(at(1), &frame, settings);
    assert_eq!(empty.unwrap_err(), SendError::PayloadLength(0));
    let modulation =
        Modulation::LrFhss { channel_width_hz: 137_000, code_rate: LrFhssCodeRate::OneThird };
    let hopping = Downlink { modulation, ..downlink(1, 14, in_one_second(0)) };
    let refused = world.server.send(at(1), &hopping, settings);
    assert_eq!(refused.unwrap_err(), SendError::Modulation);
}

#[test]
fn the_moment_to_send_wraps_with_the_counter() {
    let mut world = World::with_path();
    let table = [
        (in_one_second(0), TxTiming::Counter(1_000_000)),
        (in_one_second(u32::MAX), TxTiming::Counter(999_999)),
        (in_one_second(u32::MAX - 999_999), TxTiming::Counter(0)),
        (in_one_second(u32::MAX - 1_000_000), TxTiming::Counter(u32::MAX)),
        (
            DownlinkTiming::Delay { tmst: 10, delay: Duration::from_micros(u64::MAX) },
            TxTiming::Counter(9),
        ),
        (DownlinkTiming::Immediately, TxTiming::Immediately),
        (
            DownlinkTiming::Gps(GpsTime::from_micros(1_400_000_000_123_000)),
            TxTiming::Gps(GpsTime::from_micros(1_400_000_000_123_000)),
        ),
    ];
    for (timing, expected) in table {
        assert_eq!(world.send(1, &downlink(1, 14, timing)).2.timing, expected, "{timing:?}");
    }
}

#[test]
fn each_downlink_has_its_token_and_one_outcome() {
    let mut world = World::with_path();
    let tokens: Vec<u16> =
        (1..=4).map(|id| world.send(10, &downlink(id, 14, in_one_second(0))).1).collect();
    assert_eq!(tokens, [0xFFFE, 0xFFFF, 0, 1], "numbering wraps");
    assert_eq!(world.tx_ack(20, 0, TxStatus::Ok), [acked(3, TxStatus::Ok)]);
    assert_eq!(world.tx_ack(20, 1, TxStatus::TooLate), [acked(4, TxStatus::TooLate)]);
    let again = world.tx_ack(21, 0, TxStatus::Ok);
    let refusal = Refusal::UnknownToken { token: 0 };
    let refused = Output::Refused { from: address(DOWN), gateway: Some(eui(1)), refusal };
    // Another node may have sent it: that one takes the datagram as it is.
    let [first, Output::StrayTxAck { gateway, datagram }] = &again[..] else { panic!("{again:?}") };
    assert_eq!((first, *gateway), (&refused, eui(1)));
    assert!(!world.server.handle_stray_tx_ack(at(21), datagram));
    let mut other = World::with_path();
    let mut sent = || other.send(10, &downlink(9, 14, in_one_second(0))).1;
    while sent() != 0 {}
    assert!(other.server.handle_stray_tx_ack(at(22), datagram));
    assert_eq!(other.drain(), [acked(9, TxStatus::Ok)]);

    assert_eq!(world.server.poll_timeout(), Some((at(1_010), "tx_ack")));
    world.server.handle_timeout(at(1_009));
    assert_eq!(world.drain(), []);
    world.server.handle_timeout(at(1_010));
    let silent = |downlink_id| Output::TxSilent { gateway: eui(1), downlink_id };
    assert_eq!(world.drain(), [silent(1), silent(2)]);
    assert_eq!((world.server.poll_timeout(), world.server.in_flight()), (None, 0));
}

#[test]
fn a_token_is_worth_nothing_from_another_gateway_nor_unreadable() {
    let mut world = World::with_path();
    let token = world.send(10, &downlink(1, 14, in_one_second(0))).1;
    let outputs = world.datagram(11, DOWN, &TxReply::OK.encode(head(2, token)));
    let unknown = Refusal::UnknownToken { token };
    assert!(matches!(&outputs[0], Output::Refused { refusal, .. } if *refusal == unknown));
    let mut garbled = TxReply::OK.encode(head(1, token));
    garbled.push(b'{');
    let outputs = world.datagram(12, DOWN, &garbled);
    assert!(matches!(
        &outputs[0],
        Output::Refused { refusal: Refusal::Datagram(DatagramError::Json(_)), .. }
    ));
    assert_eq!(world.tx_ack(13, token, TxStatus::Ok), [acked(1, TxStatus::Ok)]);
}

#[test]
fn a_token_in_flight_is_not_given_again_and_flights_are_bounded() {
    let mut world = World::with_path();
    let frame = downlink(1, 14, in_one_second(0));
    let tokens: std::collections::BTreeSet<u16> =
        (0..32).map(|_| world.send(10, &frame).1).collect();
    assert_eq!(tokens.len(), 32);
    let full = world.server.send(at(10), &frame, GatewaySettings::default());
    assert_eq!(full.unwrap_err(), SendError::TooManyInFlight);
    world.tx_ack(11, 0xFFFE, TxStatus::Ok);
    let token = world.send(12, &frame).1;
    assert!(!tokens.contains(&token));
}

#[test]
fn after_tx_power_the_last_accepted_power_is_tried_once() {
    let mut world = World::with_path();
    let token = world.send(10, &downlink(1, 14, in_one_second(0))).1;
    world.tx_ack(11, token, TxStatus::Ok);
    assert_eq!(world.server.seen(eui(1)).unwrap().accepted_power_dbm, Some(14));

    let token = world.send(20, &downlink(2, 27, in_one_second(0))).1;
    let outputs = world.tx_ack(30, token, TxStatus::TxPower);
    let [Output::Send { to, bytes }] = outputs.as_slice() else { panic!("{outputs:?}") };
    let (retry_token, txpk) = pull_resp(bytes);
    assert_eq!((*to, txpk.power_dbm), (address(DOWN), 14));
    assert_ne!(retry_token, token);
    assert_eq!(world.tx_ack(40, retry_token, TxStatus::TxPower), [acked(2, TxStatus::TxPower)]);

    let token = world.send(50, &downlink(3, 27, in_one_second(0))).1;
    let outputs = world.tx_ack(60, token, TxStatus::TxPower);
    let [Output::Send { bytes, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    let retry_token = pull_resp(bytes).0;
    assert_eq!(world.tx_ack(70, retry_token, TxStatus::Ok), [acked(3, TxStatus::Ok)]);
}

#[test]
fn no_retry_when_nothing_was_accepted_or_only_something_louder() {
    let mut world = World::with_path();
    let token = world.send(10, &downlink(1, 27, in_one_second(0))).1;
    assert_eq!(world.tx_ack(11, token, TxStatus::TxPower), [acked(1, TxStatus::TxPower)]);
    let token = world.send(20, &downlink(2, 27, in_one_second(0))).1;
    world.tx_ack(21, token, TxStatus::Ok);
    let token = world.send(30, &downlink(3, 14, in_one_second(0))).1;
    assert_eq!(world.tx_ack(31, token, TxStatus::TxPower), [acked(3, TxStatus::TxPower)]);
}

#[test]
fn no_retry_when_it_would_come_too_late() {
    // The counter showed 2^32 - 500,000 when the uplink came in at 1.0 s: due at 2.0 s, wrapping.
    let tmst = u32::MAX - 499_999;
    for (refused_at, retried) in [(1_919, true), (1_921, false), (2_500, false)] {
        let mut world = World::with_path();
        world.datagram(900, UP, &push(1, 1, tmst.wrapping_sub(100_000)));
        let token = world.send(910, &downlink(1, 14, DownlinkTiming::Immediately)).1;
        world.tx_ack(911, token, TxStatus::Ok);
        world.datagram(1_000, UP, &push(1, 1, tmst));
        let token = world.send(1_600, &downlink(2, 27, in_one_second(tmst))).1;
        let outputs = world.tx_ack(refused_at, token, TxStatus::TxPower);
        let sent = matches!(outputs.as_slice(), [Output::Send { .. }]);
        assert_eq!(sent, retried, "refused at {refused_at} ms: {outputs:?}");
    }
}

#[test]
fn what_cannot_be_read_is_counted_and_an_unreadable_push_still_acknowledged() {
    let mut world = World::new();
    let reasons = |outputs: Vec<Output>| -> Vec<(&'static str, &'static str)> {
        let refusals = outputs.into_iter().filter_map(|output| match output {
            Output::Refused { refusal, .. } => Some(refusal.reason()),
            Output::Send { .. }
            | Output::Uplink(_)
            | Output::Stat { .. }
            | Output::TxAck(_)
            | Output::TxSilent { .. }
            | Output::Pulled { .. }
            | Output::StrayTxAck { .. }
            | Output::PathChanged { .. }
            | Output::UnregisteredGateway { .. } => None,
        });
        refusals.collect()
    };
    assert_eq!(reasons(world.datagram(0, UP, b"")), [("datagram", "too_short")]);
    assert_eq!(reasons(world.datagram(0, UP, &[9; 12])), [("datagram", "version")]);
    let mut bad = push(1, 1, 0);
    bad.truncate(40);
    let outputs = world.datagram(0, UP, &bad);
    assert!(matches!(outputs[0], Output::Send { .. }), "acknowledged: {outputs:?}");
    assert_eq!(reasons(outputs), [("datagram", "json")]);
    let text = String::from_utf8_lossy(&push(1, 1, 0)[12..]).replace(r#""size":4"#, r#""size":3"#);
    let mut bytes = push(1, 1, 0)[..12].to_vec();
    bytes.extend_from_slice(text.replace(r#""rxnb":0"#, r#""rxnb":-1"#).as_bytes());
    let seen = reasons(world.datagram(0, UP, &bytes));
    assert_eq!(seen, [("rxpk", "size"), ("stat", "shape")]);
}

#[test]
fn every_datagram_is_counted_once() {
    let mut server = Server::new(5);
    let sum = |tally: Tally| {
        let Tally { push_data, pull_data, tx_ack, tx_ack_unknown, unreadable } = tally;
        push_data + pull_data + tx_ack + tx_ack_unknown + unreadable
    };
    let mut taken = 0;
    let mut take = |server: &mut Server, datagram: &[u8]| {
        server.handle_datagram(at(1), address(UP), datagram, |gateway| gateway == eui(1));
        taken += 1;
        assert_eq!(sum(server.tally()), taken, "{datagram:02x?}");
    };
    take(&mut server, &encode_pull_data(head(1, 1)));
    take(&mut server, &push(1, 2, 9));
    take(&mut server, &push(2, 3, 9));
    let (_, pull_resp) =
        server.send(at(1), &downlink(7, 14, in_one_second(9)), GatewaySettings::default()).unwrap();
    let Ok(Downward::PullResp { token, .. }) = parse_downward(&pull_resp) else { panic!() };
    let ack = TxReply { status: TxStatus::Ok, power_used_dbm: None }.encode(head(1, token));
    take(&mut server, &ack);
    take(&mut server, &ack);
    let mut broken = push(1, 4, 9);
    broken.truncate(broken.len() - 1);
    take(&mut server, &broken);
    take(&mut server, b"\x02");
    take(&mut server, &[&ack[..], b"x"].concat());
    let wanted = Tally { push_data: 2, pull_data: 1, tx_ack: 1, tx_ack_unknown: 1, unreadable: 3 };
    assert_eq!(server.tally(), wanted);
}
