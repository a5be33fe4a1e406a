//! What the adversary sends, and how fast.

use std::net::Ipv4Addr;

use gateway::semtech::{PushData, Rxpk, Upward, parse_upward};
use lorawan::{CrcStatus, EU868, Frame};
use madsim::runtime::Handle;
use scenario::SpanRange;

use super::*;
use crate::net::Net;
use crate::runtime::{machine_room, sleep_virtual};
use crate::trace::{Format, Trace};

const FACE: GatewayEui = GatewayEui::from_be_bytes([1; 8]);

fn rxpk(phy_payload: &'static [u8]) -> Rxpk {
    Rxpk {
        phy_payload: Bytes::from_static(phy_payload),
        gateway_time: None,
        gps_time: None,
        frequency_hz: 868_100_000,
        modulation: EU868.modulation(5).unwrap(),
        rssi_dbm: -80,
        snr_ddb: 70,
        channel: 0,
        rf_chain: 0,
        antenna: 0,
        tmst: 1_000,
        crc: CrcStatus::Ok,
    }
}

/// One data frame and one join-request, as `FACE` forwarded them.
fn loot() -> Loot {
    let record = Record::new(Trace::new(Format::Silent, Box::new(std::io::sink())));
    let mut loot = Loot::default();
    let join: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 1, 1, 1, 1];
    let data: &[u8] = &[0x80, 4, 3, 2, 1, 0, 7, 0, 10, 0xAA, 0xBB, 1, 2, 3, 4];
    for phy_payload in [data, join] {
        let push = PushData { rxpks: vec![rxpk(phy_payload)], ..PushData::default() };
        let head = Head { version: Version::V2, token: 9, gateway: FACE };
        loot.take(&push.encode(head), &record);
    }
    loot
}

fn arms(kind: FaultKind) -> Arms {
    Arms::new(kind, Seed(3).stream("test"), vec![FACE, STRANGER])
}

/// The frames in a datagram, if it is a PUSH_DATA.
fn frames(shot: &Shot) -> Option<Vec<Rxpk>> {
    match parse_upward(&shot.bytes) {
        Ok(Upward::PushData(_, push)) => Some(push.rxpks),
        Ok(Upward::PullData(_) | Upward::TxAck(..)) | Err(_) => None,
    }
}

fn bits_apart(one: &[u8], other: &[u8]) -> u32 {
    one.iter().zip(other).map(|(one, other)| (one ^ other).count_ones()).sum()
}

#[test]
fn what_anybody_can_read_is_read() {
    let loot = loot();
    assert_eq!((loot.frames.len(), loot.joins.len(), loot.devices.len()), (2, 1, 1));
    assert_eq!(loot.counters.values().collect::<Vec<_>>(), [&7]);
    assert!(arms(FaultKind::Replay).shot(&Loot::default()).is_none(), "nothing to replay yet");
}

#[test]
fn a_replay_is_a_frame_that_was_heard_also_byte_by_byte() {
    let (loot, mut arms) = (loot(), arms(FaultKind::Replay));
    let shots: Vec<_> = (0..200).map(|_| arms.shot(&loot).unwrap()).collect();
    let known =
        |rxpk: &Rxpk| loot.frames.iter().any(|heard| heard.rxpk.phy_payload == rxpk.phy_payload);
    assert!(shots.iter().all(|shot| shot.genuine && frames(shot).unwrap().iter().all(known)));
    let whole = |shot: &&Shot| loot.frames.iter().any(|heard| heard.datagram == shot.bytes);
    let count = shots.iter().filter(whole).count();
    assert!((30..90).contains(&count), "{count} of 200 at 3 in 10");
}

#[test]
fn few_bits_are_turned() {
    let (loot, mut arms) = (loot(), arms(FaultKind::BitFlips));
    let mut turned = 0;
    for _ in 0..200 {
        let Some(shot) = arms.shot(&loot) else { continue };
        let apart = |heard: &loot::Heard| {
            let datagram = bits_apart(&heard.datagram, &shot.bytes);
            let frame = frames(&shot).into_iter().flatten().next();
            let frame = frame
                .map_or(u32::MAX, |frame| bits_apart(&heard.rxpk.phy_payload, &frame.phy_payload));
            datagram.min(frame)
        };
        let least = loot.frames.iter().map(apart).min().unwrap();
        assert!(least <= 3, "{least} bits");
        turned += u32::from(least > 0);
    }
    assert!(turned > 150, "{turned} of 200; two flips of one bit are none");
}

#[test]
fn forged_gateways_and_join_requests_are_well_formed() {
    let loot = loot();
    for kind in [FaultKind::ForgedGateways, FaultKind::JoinFlood] {
        let mut arms = arms(kind);
        for _ in 0..200 {
            let shot = arms.shot(&loot).unwrap();
            assert!(parse_upward(&shot.bytes).is_ok());
            let frames = frames(&shot).unwrap_or_default();
            assert!(frames.iter().all(|rxpk| Frame::parse(&rxpk.phy_payload).is_ok()));
        }
    }
}

#[test]
fn no_rubbish_is_a_frame() {
    let mut arms = arms(FaultKind::Malformed);
    let mut largest = 0;
    for _ in 0..5_000 {
        let shot = arms.shot(&Loot::default()).unwrap();
        largest = largest.max(shot.bytes.len());
        let frames = frames(&shot).unwrap_or_default();
        assert!(frames.iter().all(|rxpk| Frame::parse(&rxpk.phy_payload).is_err()));
    }
    assert_eq!(largest, gateway::semtech::DATAGRAM_LEN_MAX);
}

#[test]
fn a_flood_has_the_pace_it_is_given_and_ends() {
    let scenario = "title = \"t\"\nduration = \"9s\"\n[[fault]]\nkind = \"malformed\"\n\
                    at = \"1s\"\nper_s = 16000\n";
    let scenario = Scenario::parse("t.toml", scenario).unwrap();
    machine_room(5).block_on(async move {
        let net = Net::start();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 1));
        let host = Handle::current().create_node().name("adv1").build();
        net.attach(host.id(), address);
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let bound = host.spawn(async move { [0, 1].map(|_| UdpSocket::bind(any).unwrap()) });
        let sockets = bound.await.unwrap().map(Arc::new);
        let record = Record::new(Trace::new(Format::Silent, Box::new(std::io::sink())));
        let server = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1_700);
        let adversary = Adversary::new(&scenario, Seed(5), vec![server], &record);
        adversary.move_in(FACE, address, sockets);
        for per_s in [16_000, 3] {
            let mut fault = Fault::new(FaultKind::Malformed, SpanRange::ms(0, 1));
            fault.per_s = Some(per_s);
            let before = net.counts().sent;
            adversary.attack(&fault);
            sleep_virtual(Duration::from_millis(2_000)).await;
            adversary.cease(&fault);
            sleep_virtual(Duration::from_secs(3)).await;
            let sent = net.counts().sent - before;
            let wanted = u64::from(per_s) * 2;
            assert!((wanted - 1..=wanted + 32).contains(&sent), "{sent} instead of {wanted}");
        }
    });
}
