//! Whole runs in miniature, and what the witness makes of single datagrams.

use bytes::Bytes;
use gateway::semtech::{TxTiming, Txpk, Version};
use lorawan::{
    Aes, DataMessage, DevAddr, DevEui, DevNonce, Direction, EU868, FCtrl, GatewayEui, JoinAccept,
    JoinEui, JoinNonce, Key, NetId, derive_session_1_0,
};

use super::*;
use crate::oracle::{Fact, Reading};
use crate::trace::{Format, Trace};

const CALM: &str = r#"
    title = "a calm minute"
    duration = "60s"
    settle = "30s"
    [workload]
    uplink_every = "5s"
    confirmed = 1.0
    downlink_every = "15s"
    [expect]
    joined = 1
    accepted = 5
"#;

/// One run on a thread of its own, as in a process of its own.
fn run_apart(text: &str, seed: u64) -> Report {
    let scenario = Scenario::parse("t.toml", text).unwrap();
    let thread = std::thread::spawn(move || {
        let record = Record::new(Trace::new(Format::Silent, Box::new(std::io::sink())));
        run(&scenario, seed, None, &record)
    });
    thread.join().unwrap()
}

#[test]
fn a_calm_minute_brings_everything_and_repeats_to_the_last_byte() {
    let report = run_apart(CALM, 3);
    assert_eq!(report.exit_code(), 0, "{report:?}");
    assert!(report.counts.downlinks >= 1, "{report:?}");
    assert_eq!(report.counts.accepted, report.counts.delivered);
    let again = run_apart(CALM, 3);
    assert_eq!((report.events, report.digest), (again.events, again.digest.clone()));
    assert_ne!(again.digest, run_apart(CALM, 4).digest);
}

#[test]
fn what_does_not_come_about_is_told_and_no_violation() {
    let report = run_apart(&CALM.replace("accepted = 5", "accepted = 500"), 3);
    assert_eq!(report.exit_code(), 3, "{report:?}");
    assert!(report.unmet[0].contains("at least 500 uplinks"), "{report:?}");
}

#[test]
fn a_gateway_nobody_hears_brings_no_violation_and_a_healed_one_the_probe() {
    let deaf = CALM.replace("[workload]", "[gateways]\nhears = 0.0\n[workload]");
    let report = run_apart(&deaf, 3);
    assert_eq!((report.exit_code(), report.counts.accepted), (3, 2), "the probe's: {report:?}");
}

const APP_KEY: Key = Key::from_bytes([7; 16]);
const GATEWAY: GatewayEui = GatewayEui::from_be_bytes([1; 8]);
const DEVICE: DevEui = DevEui::from_be_bytes([2; 8]);
const ADDRESS: DevAddr = DevAddr::from_u32(0x0123_4567);
const NONCE: DevNonce = DevNonce(9);

fn pull_resp(tmst: u32, phy_payload: Vec<u8>) -> Vec<u8> {
    let txpk = Txpk {
        timing: TxTiming::Counter(tmst),
        frequency_hz: 868_100_000,
        rf_chain: 0,
        antenna: 0,
        power_dbm: 14,
        modulation: EU868.modulation(5).unwrap(),
        inverted_polarity: true,
        no_crc: true,
        phy_payload: phy_payload.into(),
    };
    txpk.encode(Version::V2, 1)
}

/// A witness who has seen one device join, and the datagram that let it.
fn joined() -> (Witness, Vec<u8>) {
    let mut witness = Witness::default();
    witness.introduce(DEVICE, Root { join_eui: JoinEui::default(), app_key: APP_KEY });
    witness.heard(GATEWAY, 100, &Carried::Join { dev_eui: DEVICE, dev_nonce: NONCE });
    let accept = JoinAccept {
        join_nonce: JoinNonce(1),
        net_id: NetId::default(),
        dev_addr: ADDRESS,
        opt_neg: false,
        rx1_dr_offset: 0,
        rx2_dr: 0,
        rx_delay: 1,
        cf_list: None,
    };
    let datagram = pull_resp(5_000_100, accept.encode_1_0(&APP_KEY));
    let told = witness.datagram(GATEWAY, &datagram).unwrap().unwrap().1;
    assert!(matches!(told, Fact::JoinAcceptHanded { dev_nonce: NONCE, .. }), "{told:?}");
    (witness, datagram)
}

fn acknowledgement(app_key: &Key) -> Vec<u8> {
    let keys = derive_session_1_0(app_key, JoinNonce(1), NetId::default(), NONCE);
    let lorawan::SessionKeys::V1_0 { nwk_s_key, app_s_key } = keys else { panic!() };
    let message = DataMessage {
        direction: Direction::Down,
        confirmed: false,
        dev_addr: ADDRESS,
        fctrl: FCtrl { ack: true, ..FCtrl::default() },
        fcnt: 0,
        f_opts: &[],
        f_port: None,
        payload: &[],
    };
    message.encode_1_0(&Aes::new(&nwk_s_key), &Aes::new(&app_s_key)).unwrap()
}

fn reading(f_cnt: u32) -> Reading {
    Reading {
        device: DEVICE,
        dev_addr: ADDRESS,
        f_cnt,
        f_port: Some(10),
        payload: Bytes::from_static(b"21.5"),
    }
}

#[test]
fn an_acknowledgement_is_for_the_uplink_of_its_window_also_when_the_counter_wraps() {
    let (mut witness, _) = joined();
    let at = u32::MAX - 500_000;
    for (tmst, f_cnt) in [(at - 7, 1), (at, 2)] {
        let carried = Carried::Data { reading: reading(f_cnt), confirmed: true };
        witness.heard(GATEWAY, tmst, &carried);
    }
    let datagram = pull_resp(at.wrapping_add(1_000_000), acknowledgement(&APP_KEY));
    let told = witness.datagram(GATEWAY, &datagram).unwrap().unwrap().1;
    let Fact::DownlinkHanded { acknowledges, f_cnt: 0, ciphertexts, .. } = told else {
        panic!("{told:?}")
    };
    assert_eq!(acknowledges, Some(reading(2)));
    assert_eq!(ciphertexts.len(), 1, "the frame as a whole, for it has no payload");
}

#[test]
fn downlinks_that_answer_nothing_or_that_no_key_verifies_are_told() {
    let (mut witness, accept) = joined();
    let elsewhere = GatewayEui::from_be_bytes([3; 8]);
    let unasked = witness.datagram(elsewhere, &accept).expect_err("nobody asked there");
    assert!(unasked.contains("answers no request"), "{unasked}");
    let unheard = witness.datagram(GATEWAY, &pull_resp(9, acknowledgement(&APP_KEY)));
    assert!(unheard.expect_err("no uplink").contains("fits no confirmed uplink"));
    let other = Key::from_bytes([8; 16]);
    let foreign = witness.datagram(GATEWAY, &pull_resp(9, acknowledgement(&other)));
    assert!(foreign.expect_err("another key").contains("no device's keys verify"));
}
