//! The forwarder against the measured behaviour of the reference one, and against our own server.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::{Duration, Instant};
use gateway::semtech::{
    AckKind, GatewaySettings, Output, Server, TxTiming, Txpk, Upward, Version, encode_ack,
    parse_upward,
};
use lorawan::{CodeRate, Downlink, DownlinkTiming, GatewayEui, Modulation, TxAck, TxStatus};

use crate::{Faults, Forwarder, ForwarderConfig, ForwarderEffect, OnAir, Signal, Socket, airtime};

const EUI: GatewayEui = GatewayEui::from_be_bytes([0xAA, 0x55, 0x5A, 0, 0, 0, 1, 1]);
const SIGNAL: Signal = Signal { rssi_dbm: -90, snr_ddb: 55 };
const SF7: Modulation =
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 };

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

/// Started at 0 s, its first PULL_DATA drained.
fn started() -> Forwarder {
    let mut forwarder = Forwarder::new(ForwarderConfig::new(EUI, [7; 32]));
    forwarder.start(Instant::ZERO);
    drain(&mut forwarder);
    forwarder
}

fn drain(forwarder: &mut Forwarder) -> Vec<ForwarderEffect> {
    core::iter::from_fn(|| forwarder.poll_effect()).collect()
}

fn uplink(ends_at: u64) -> OnAir {
    let airtime = airtime(SF7, 4, true);
    OnAir {
        phy_payload: Bytes::from_static(&[0x40, 1, 2, 3]),
        frequency_hz: 868_100_000,
        modulation: SF7,
        inverted_polarity: false,
        eirp_dbm: 14,
        starts_at: at(ends_at).saturating_sub(airtime),
        airtime,
    }
}

fn txpk(timing: TxTiming) -> Txpk {
    Txpk {
        timing,
        frequency_hz: 868_100_000,
        rf_chain: 0,
        antenna: 0,
        power_dbm: 14,
        modulation: SF7,
        inverted_polarity: true,
        no_crc: true,
        phy_payload: Bytes::from_static(&[0x60, 1, 2, 3]),
    }
}

/// What the forwarder decides about `txpk` at `now`.
fn decide(forwarder: &mut Forwarder, now: u64, txpk: &Txpk) -> TxStatus {
    forwarder.handle_datagram(at(now), Socket::Down, &txpk.encode(Version::V2, 0x55AA));
    let effects = drain(forwarder);
    let [ForwarderEffect::Decided { token, status }, ForwarderEffect::Send { socket, bytes }] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*token, *socket), (0x55AA, Socket::Down));
    let Ok(Upward::TxAck(head, reply)) = parse_upward(bytes) else { panic!("{bytes:?}") };
    assert_eq!((head.token, head.gateway, reply.status), (0x55AA, EUI, *status));
    if *status == TxStatus::Ok {
        assert_eq!(bytes.len(), 12, "success has no body");
    }
    *status
}

#[test]
fn it_pulls_before_it_pushes_and_keeps_pulling() {
    let mut forwarder = Forwarder::new(ForwarderConfig::new(EUI, [7; 32]));
    assert_eq!(forwarder.poll_timeout(Instant::ZERO), None);
    forwarder.start(Instant::ZERO);
    let effects = drain(&mut forwarder);
    let [ForwarderEffect::Send { socket: Socket::Down, bytes }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert!(matches!(parse_upward(bytes), Ok(Upward::PullData(head)) if head.gateway == EUI));
    let token = u16::from_be_bytes([bytes[1], bytes[2]]);

    let ack = encode_ack(AckKind::Pull, Version::V2, token);
    forwarder.handle_datagram(at(5), Socket::Up, &ack);
    assert_eq!(forwarder.counts().pull_acks, 0, "not on the other socket");
    forwarder.handle_datagram(at(5), Socket::Down, &ack);
    forwarder.handle_datagram(at(6), Socket::Down, &ack);
    assert_eq!(forwarder.counts().pull_acks, 1, "a token counts once");
    drain(&mut forwarder);

    assert_eq!(forwarder.poll_timeout(at(6)), Some((Instant::from_secs(10), "keepalive")));
    forwarder.handle_timeout(Instant::from_secs(10));
    assert!(matches!(
        drain(&mut forwarder).as_slice(),
        [ForwarderEffect::Send { socket: Socket::Down, .. }]
    ));
}

#[test]
fn frames_go_up_eight_at_a_time_with_the_counter_of_their_end() {
    let mut config = ForwarderConfig::new(EUI, [7; 32]);
    config.counter_at_zero = u32::MAX - 999_999;
    let mut forwarder = Forwarder::new(config);
    forwarder.start(Instant::ZERO);
    drain(&mut forwarder);
    for number in 0..9 {
        forwarder.handle_frame(at(1_000_000 + number), &uplink(1_000_000 + number), SIGNAL);
    }
    let downlink = OnAir { inverted_polarity: true, ..uplink(1_000_000) };
    forwarder.handle_frame(at(1_000_000), &downlink, SIGNAL);
    assert_eq!(drain(&mut forwarder), []);
    assert_eq!(forwarder.poll_timeout(at(1_000_010)), Some((at(1_010_000), "fetch")));
    forwarder.handle_timeout(at(1_010_000));
    let pushes: Vec<Vec<u32>> = drain(&mut forwarder)
        .into_iter()
        .map(|effect| {
            let ForwarderEffect::Send { socket: Socket::Up, bytes } = effect else {
                panic!("{effect:?}")
            };
            match parse_upward(&bytes) {
                Ok(Upward::PushData(_, push)) => push.rxpks.iter().map(|r| r.tmst).collect(),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert_eq!(pushes, [vec![0, 1, 2, 3, 4, 5, 6, 7], vec![8]]);
    assert_eq!(forwarder.counts().heard, 9);
}

#[test]
fn statistics_go_up_every_thirty_seconds() {
    let mut forwarder = started();
    forwarder.handle_timeout(Instant::from_secs(30));
    let pushed = drain(&mut forwarder).into_iter().find_map(|effect| match effect {
        ForwarderEffect::Send { socket: Socket::Up, bytes } => parse_upward(&bytes).ok(),
        ForwarderEffect::Send { .. }
        | ForwarderEffect::Radiate(_)
        | ForwarderEffect::Decided { .. }
        | ForwarderEffect::Dropped { .. } => None,
    });
    let Some(Upward::PushData(_, push)) = pushed else { panic!("{pushed:?}") };
    assert_eq!(push.stat.unwrap().rx_received, Some(0));
}

#[test]
fn the_queue_takes_what_the_reference_takes() {
    let now = 10_000_000;
    let counter = 10_000_000_u32;
    let table = [
        (0, TxStatus::TooLate),
        (32_500, TxStatus::TooLate),
        (32_501, TxStatus::Ok),
        (512_000_000, TxStatus::Ok),
        (512_000_001, TxStatus::TooEarly),
        (-1, TxStatus::TooEarly),
        (-5_000_000, TxStatus::TooEarly),
    ];
    for (lead, status) in table {
        let tmst = counter.wrapping_add_signed(lead);
        let seen = decide(&mut started(), now, &txpk(TxTiming::Counter(tmst)));
        assert_eq!(seen, status, "{lead} us ahead");
    }
}

#[test]
fn what_the_radio_cannot_do_is_refused_by_name() {
    let soon = TxTiming::Counter(1_000_000);
    let power = Txpk { power_dbm: 15, ..txpk(soon) };
    assert_eq!(decide(&mut started(), 0, &power), TxStatus::TxPower);
    let gps = txpk(TxTiming::Gps(clock::GpsTime::from_micros(5_000_000)));
    assert_eq!(decide(&mut started(), 0, &gps), TxStatus::GpsUnlocked);

    let mut config = ForwarderConfig::new(EUI, [7; 32]);
    (config.tx_min_hz, config.tx_max_hz) = (863_000_000, 870_000_000);
    config.antenna_gain_db = 2;
    let mut forwarder = Forwarder::new(config);
    forwarder.start(Instant::ZERO);
    drain(&mut forwarder);
    let frequency = Txpk { frequency_hz: 923_300_000, power_dbm: 15, ..txpk(soon) };
    assert_eq!(decide(&mut forwarder, 0, &frequency), TxStatus::TxFreq);
    let gained = Txpk { power_dbm: 16, ..txpk(soon) };
    assert_eq!(decide(&mut forwarder, 0, &gained), TxStatus::Ok, "16 dBm less its 2 dBi");
}

#[test]
fn frames_that_overlap_collide() {
    let mut forwarder = started();
    let length = u32::try_from(airtime(SF7, 4, false).as_micros()).unwrap();
    let first = 2_000_000;
    assert_eq!(decide(&mut forwarder, 0, &txpk(TxTiming::Counter(first))), TxStatus::Ok);
    let gap = length + 31_500 + 1_000;
    for (tmst, status) in [
        (first, TxStatus::CollisionPacket),
        (first + gap, TxStatus::CollisionPacket),
        (first - gap, TxStatus::CollisionPacket),
        (first + gap + 1, TxStatus::Ok),
        (first - gap - 1, TxStatus::Ok),
    ] {
        assert_eq!(decide(&mut forwarder, 0, &txpk(TxTiming::Counter(tmst))), status, "{tmst}");
    }
}

#[test]
fn the_queue_is_as_long_as_the_reference_one() {
    let mut forwarder = started();
    for number in 0..32 {
        let timing = TxTiming::Counter(1_000_000 + number * 200_000);
        assert_eq!(decide(&mut forwarder, 0, &txpk(timing)), TxStatus::Ok);
    }
    let timing = TxTiming::Counter(1_000_000 + 32 * 200_000);
    assert_eq!(decide(&mut forwarder, 0, &txpk(timing)), TxStatus::CollisionPacket);
}

#[test]
fn frames_leave_at_their_moment_also_across_the_wrap() {
    let mut config = ForwarderConfig::new(EUI, [7; 32]);
    config.counter_at_zero = u32::MAX - 500_000;
    config.keepalive = Duration::from_secs(60);
    let mut forwarder = Forwarder::new(config);
    forwarder.start(Instant::ZERO);
    drain(&mut forwarder);
    // The counter shows 499,999 one second in.
    assert_eq!(decide(&mut forwarder, 0, &txpk(TxTiming::Counter(499_999))), TxStatus::Ok);
    assert_eq!(decide(&mut forwarder, 0, &txpk(TxTiming::Immediately)), TxStatus::Ok);
    assert_eq!(forwarder.poll_timeout(at(0)), Some((at(1_000_000), "transmission")));
    forwarder.handle_timeout(at(999_999));
    assert_eq!(drain(&mut forwarder), []);
    forwarder.handle_timeout(at(1_000_000));
    let effects = drain(&mut forwarder);
    let [ForwarderEffect::Radiate(frame)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!((frame.starts_at, frame.eirp_dbm), (at(1_000_000), 14));
    assert_eq!(frame.airtime, airtime(SF7, 4, false));
    // Whoever calls late changes nothing about the air.
    let mut late = forwarder.clone();
    late.handle_timeout(at(1_500_000));
    assert!(matches!(drain(&mut late).as_slice(),
        [ForwarderEffect::Radiate(next)] if next.starts_at < at(1_200_000)));
    // The immediate one had to wait for it: a second, and then the other frame.
    let (next, _) = forwarder.poll_timeout(at(1_000_000)).unwrap();
    assert_eq!(next, at(1_000_000) + frame.airtime + Duration::from_micros(32_501));
}

#[test]
fn what_the_reference_drops_silently_is_dropped_silently() {
    let good = txpk(TxTiming::Counter(1_000_000)).encode(Version::V2, 1);
    let text = String::from_utf8(good[4..].to_vec()).unwrap();
    let mut dropped = vec![txpk(TxTiming::Counter(1_000_000)).encode(Version::V1, 1)];
    for (from, to) in [(r#""size":4,"#, ""), (r#""datr":"SF7BW125","#, ""), ("}}", "}")] {
        let mut bytes = good[..4].to_vec();
        bytes.extend_from_slice(text.replace(from, to).as_bytes());
        assert_ne!(bytes, good);
        dropped.push(bytes);
    }
    for bytes in dropped {
        let mut forwarder = started();
        forwarder.handle_datagram(at(0), Socket::Down, &bytes);
        let effects = drain(&mut forwarder);
        assert!(matches!(effects.as_slice(), [ForwarderEffect::Dropped { .. }]), "{effects:?}");
    }
}

#[test]
fn faults_strike_as_told() {
    let mut forwarder = started();
    forwarder.set_faults(Faults { lose_ack: 1.0, ..Faults::default() });
    let frame = txpk(TxTiming::Counter(1_000_000));
    forwarder.handle_datagram(at(0), Socket::Down, &frame.encode(Version::V2, 1));
    let decided = ForwarderEffect::Decided { token: 1, status: TxStatus::Ok };
    assert_eq!(drain(&mut forwarder), [decided]);

    let late = Duration::from_millis(700);
    forwarder.set_faults(Faults { ack_delay: late..late, ..Faults::default() });
    let frame = txpk(TxTiming::Counter(2_000_000));
    forwarder.handle_datagram(at(0), Socket::Down, &frame.encode(Version::V2, 2));
    assert_eq!(drain(&mut forwarder).len(), 1);
    assert_eq!(forwarder.poll_timeout(at(0)), Some((at(700_000), "tx_ack")));
    forwarder.handle_timeout(at(700_000));
    assert!(matches!(drain(&mut forwarder).as_slice(), [ForwarderEffect::Send { .. }]));

    let fail_status = TxStatus::TooLate;
    forwarder.set_faults(Faults { fail: 1.0, fail_status, ..Faults::default() });
    assert_eq!(decide(&mut forwarder, 700_000, &txpk(TxTiming::Immediately)), fail_status);

    forwarder.set_faults(Faults::default());
    forwarder.reset_counter(at(800_000), 42);
    assert_eq!(forwarder.counter(at(800_001)), 43);
    forwarder.handle_timeout(at(3_000_000));
    assert_eq!(drain(&mut forwarder), [], "a reset concentrator has forgotten its queue");
}

/// The `tmst` of the only frame in the only PUSH_DATA among the effects.
fn pushed(forwarder: &mut Forwarder) -> Option<u32> {
    let effects = drain(forwarder);
    let [ForwarderEffect::Send { socket: Socket::Up, bytes }] = effects.as_slice() else {
        assert_eq!(effects, []);
        return None;
    };
    let Ok(Upward::PushData(_, push)) = parse_upward(bytes) else { panic!("{bytes:?}") };
    assert_eq!(push.rxpks.len(), 1);
    Some(push.rxpks[0].tmst)
}

#[test]
fn a_frame_may_go_up_a_second_time_with_the_counter_of_its_hearing() {
    let mut forwarder = started();
    let frame = uplink(1_000_000);
    forwarder.handle_frame(at(1_000_000), &frame, SIGNAL);
    forwarder.forward_again(&frame, SIGNAL, at(5_000_000));
    forwarder.handle_timeout(at(1_010_000));
    let first = pushed(&mut forwarder);
    // The counter of its hearing, although the concentrator has restarted since.
    forwarder.reset_counter(at(2_000_000), 7);
    forwarder.handle_timeout(at(4_999_999));
    assert_eq!(pushed(&mut forwarder), None);
    assert_eq!(forwarder.poll_timeout(at(4_999_999)), Some((at(5_000_000), "second forwarding")));
    forwarder.handle_timeout(at(5_000_000));
    assert_eq!((pushed(&mut forwarder), first), (first, Some(1_000_000)));
}

#[test]
fn switched_off_it_forgets_everything_and_on_again_it_pulls_first() {
    let mut forwarder = started();
    let late = Duration::from_secs(1);
    forwarder.set_faults(Faults { ack_delay: late..late, ..Faults::default() });
    let frame = uplink(1_000_000);
    forwarder.handle_frame(at(1_000_000), &frame, SIGNAL);
    forwarder.forward_again(&frame, SIGNAL, at(3_000_000));
    let down = txpk(TxTiming::Counter(2_000_000)).encode(Version::V2, 1);
    forwarder.handle_datagram(at(1_000_000), Socket::Down, &down);
    drain(&mut forwarder);
    forwarder.stop();
    assert!(!forwarder.is_on());
    assert_eq!(forwarder.poll_timeout(at(1_000_000)), None);
    forwarder.handle_frame(at(1_500_000), &frame, SIGNAL);
    forwarder.handle_datagram(at(1_500_000), Socket::Down, &down);
    forwarder.handle_timeout(at(60_000_000));
    assert_eq!(drain(&mut forwarder), []);

    forwarder.reset_counter(at(60_000_000), 500);
    forwarder.start(at(60_000_000));
    let effects = drain(&mut forwarder);
    assert!(
        matches!(effects.as_slice(), [ForwarderEffect::Send { socket: Socket::Down, .. }]),
        "{effects:?}"
    );
    assert_eq!(forwarder.counter(at(60_000_001)), 501);
    assert_eq!(forwarder.poll_timeout(at(60_000_000)), Some((at(70_000_000), "keepalive")));
    assert_eq!(forwarder.counts().heard, 0);
}

#[test]
fn it_knows_whether_the_server_knows_it() {
    let mut forwarder = Forwarder::new(ForwarderConfig::new(EUI, [1; 32]));
    forwarder.start(Instant::ZERO);
    let effects = drain(&mut forwarder);
    let Some(ForwarderEffect::Send { bytes, .. }) = effects.first() else { panic!("{effects:?}") };
    let token = u16::from_be_bytes([bytes[1], bytes[2]]);
    assert_eq!(forwarder.pull_acked_at(), None);
    let stranger = encode_ack(AckKind::Pull, Version::V2, token.wrapping_add(1));
    forwarder.handle_datagram(at(5), Socket::Down, &stranger);
    assert_eq!(forwarder.pull_acked_at(), None);
    let ack = encode_ack(AckKind::Pull, Version::V2, token);
    forwarder.handle_datagram(at(6), Socket::Down, &ack);
    assert_eq!(forwarder.pull_acked_at(), Some(at(6)));
    forwarder.stop();
    assert_eq!(forwarder.pull_acked_at(), None);
}

#[test]
fn it_gets_on_with_our_own_server() {
    let (up, down): (SocketAddr, SocketAddr) =
        ("192.0.2.1:1001".parse().unwrap(), "192.0.2.1:1002".parse().unwrap());
    let mut server = Server::new(9);
    let mut forwarder = Forwarder::new(ForwarderConfig::new(EUI, [1; 32]));
    forwarder.start(Instant::ZERO);
    forwarder.handle_frame(at(1_000_000), &uplink(1_000_000), SIGNAL);
    forwarder.handle_timeout(at(1_010_000));
    let mut heard = Vec::new();
    let exchange = |forwarder: &mut Forwarder, server: &mut Server, now: u64| {
        let mut outcomes = Vec::new();
        while let Some(effect) = forwarder.poll_effect() {
            let ForwarderEffect::Send { socket, bytes } = effect else { continue };
            let from = if socket == Socket::Up { up } else { down };
            server.handle_datagram(at(now), from, &bytes, |_| true);
            while let Some(output) = server.poll_output() {
                if let Output::Send { to, bytes } = output {
                    let socket = if to == up { Socket::Up } else { Socket::Down };
                    forwarder.handle_datagram(at(now), socket, &bytes);
                } else {
                    outcomes.push(output);
                }
            }
        }
        outcomes
    };
    heard.extend(exchange(&mut forwarder, &mut server, 1_020_000));
    let counts = forwarder.counts();
    assert_eq!((counts.push_acks, counts.pull_acks), (1, 1));
    let [Output::Pulled { .. }, Output::PathChanged { .. }, Output::Uplink(uplink)] =
        heard.as_slice()
    else {
        panic!("{heard:?}")
    };
    let downlink = Downlink {
        downlink_id: 77,
        gateway: EUI,
        phy_payload: Bytes::from_static(&[0x60, 9]),
        timing: DownlinkTiming::Delay { tmst: uplink.tmst, delay: Duration::from_secs(1) },
        frequency_hz: uplink.frequency_hz,
        modulation: uplink.modulation,
        eirp_dbm: 14,
        rf_chain: 0,
        antenna: 0,
        dev_addr: None,
    };
    let settings = GatewaySettings::default();
    let (to, bytes) = server.send(at(1_300_000), &downlink, settings).unwrap();
    assert_eq!(to, down);
    forwarder.handle_datagram(at(1_310_000), Socket::Down, &bytes);
    let outcomes = exchange(&mut forwarder, &mut server, 1_320_000);
    let acked = TxAck { gateway: EUI, downlink_id: 77, status: TxStatus::Ok };
    assert_eq!(outcomes, [Output::TxAck(acked)]);
    // It leaves one second after the uplink ended, to the microsecond.
    assert_eq!(forwarder.poll_timeout(at(1_320_000)), Some((at(2_000_000), "transmission")));
}
