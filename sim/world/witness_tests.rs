//! What the witness makes of single datagrams.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::semtech::{TxTiming, Txpk, Version};
use lorawan::{
    Aes, DataMessage, DevAddr, DevEui, DevNonce, Direction, EU868, FCtrl, GatewayEui, JoinAccept,
    JoinEui, JoinNonce, Key, NetId, derive_session_1_0,
};

use super::witness::{Carried, Personal, Root, Witness};
use crate::oracle::{Fact, Reading};

const APP_KEY: Key = Key::from_bytes([7; 16]);
/// Where it is.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1));
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
    witness.introduce_gateway(HERE, GATEWAY);
    witness
        .introduce(DEVICE, Root { join_eui: JoinEui::default(), app_key: APP_KEY, personal: None });
    let request = Carried::Join { dev_eui: DEVICE, dev_nonce: NONCE };
    witness.heard(Duration::ZERO, HERE, 100, &Arc::new(request));
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
    let told = witness.datagram("n1", HERE, &datagram).unwrap().unwrap().1;
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

fn confirmed(f_cnt: u32) -> Arc<Carried> {
    Arc::new(Carried::Data { reading: reading(f_cnt), confirmed: true })
}

#[test]
fn an_acknowledgement_is_for_the_uplink_of_its_window_also_when_the_counter_wraps() {
    let (mut witness, _) = joined();
    let at = u32::MAX - 500_000;
    for (tmst, f_cnt) in [(at - 7, 1), (at, 2)] {
        witness.heard(Duration::ZERO, HERE, tmst, &confirmed(f_cnt));
    }
    let datagram = pull_resp(at.wrapping_add(1_000_000), acknowledgement(&APP_KEY));
    let told = witness.datagram("n1", HERE, &datagram).unwrap().unwrap().1;
    let Fact::DownlinkHanded { acknowledges, f_cnt: 0, ciphertexts, .. } = told else {
        panic!("{told:?}")
    };
    assert_eq!(acknowledges, Some(reading(2)));
    assert_eq!(ciphertexts.len(), 1, "the frame as a whole, for it has no payload");
}

#[test]
fn downlinks_that_answer_nothing_or_that_no_key_verifies_are_told() {
    let (mut witness, accept) = joined();
    let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 3));
    witness.introduce_gateway(elsewhere, GatewayEui::from_be_bytes([3; 8]));
    let unasked = witness.datagram("n1", elsewhere, &accept).expect_err("nobody asked there");
    assert!(unasked.contains("answers no request"), "{unasked}");
    let unheard = witness.datagram("n1", HERE, &pull_resp(9, acknowledgement(&APP_KEY)));
    assert!(unheard.expect_err("no uplink").contains("fits no confirmed uplink"));
    let other = Key::from_bytes([8; 16]);
    let foreign = witness.datagram("n1", HERE, &pull_resp(9, acknowledgement(&other)));
    assert!(foreign.expect_err("another key").contains("no device's keys verify"));
}

/// The uplink that an acknowledgement to the gateway at `to` is for, its window at 1 s.
fn acknowledged(witness: &mut Witness, to: IpAddr, tmst: u32) -> Option<u32> {
    let datagram = pull_resp(tmst.wrapping_add(1_000_000), acknowledgement(&APP_KEY));
    let told = witness.datagram("n1", to, &datagram).unwrap().unwrap().1;
    let Fact::DownlinkHanded { acknowledges, how, .. } = told else { panic!("{told:?}") };
    assert_eq!(how.gateway, GATEWAY);
    acknowledges.map(|reading| reading.f_cnt)
}

#[test]
fn what_one_of_two_twins_has_heard_may_be_answered_through_the_other() {
    let (mut witness, _) = joined();
    let twin = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 9));
    witness.introduce_gateway(twin, GATEWAY);
    let second = Duration::from_secs(1);
    witness.heard(second, HERE, 77, &confirmed(1));
    witness.heard(second, twin, 500, &confirmed(1));
    witness.heard(second * 9, twin, 77, &confirmed(2));
    assert_eq!(acknowledged(&mut witness, HERE, 500), Some(1), "heard by the twin alone");
    assert_eq!(acknowledged(&mut witness, HERE, 77), Some(1), "its own hearing comes first");
    assert_eq!(acknowledged(&mut witness, twin, 77), Some(2));
}

#[test]
fn a_counter_that_comes_again_means_the_latest_hearing_and_none_is_kept_for_ever() {
    let (mut witness, _) = joined();
    witness.heard(Duration::from_secs(1), HERE, 77, &confirmed(1));
    witness.heard(Duration::from_secs(200), HERE, 77, &confirmed(2));
    assert_eq!(acknowledged(&mut witness, HERE, 77), Some(2));
    witness.heard(Duration::from_secs(302), HERE, 9, &confirmed(3));
    assert_eq!(acknowledged(&mut witness, HERE, 77), Some(2), "the first alone is too old");
    witness.heard(Duration::from_secs(600), HERE, 9, &confirmed(4));
    let datagram = pull_resp(1_000_077, acknowledgement(&APP_KEY));
    let told = witness.datagram("n1", HERE, &datagram).expect_err("both are too old");
    assert!(told.contains("fits no confirmed uplink"), "{told}");
}

#[test]
fn a_personalised_session_is_known_from_the_start_and_its_numbers_are_counted() {
    let mut witness = Witness::default();
    witness.introduce_gateway(HERE, GATEWAY);
    let keys = derive_session_1_0(&APP_KEY, JoinNonce(1), NetId::default(), NONCE);
    let personal = Personal { dev_addr: ADDRESS, keys, first_fcnt: 0, may_reset: true };
    let join_eui = JoinEui::default();
    witness
        .introduce(DEVICE, Root { join_eui, app_key: APP_KEY, personal: Some(personal.clone()) });
    assert_eq!((witness.next_down(DEVICE), witness.may_reset(DEVICE)), (0, true));
    witness.heard(Duration::ZERO, HERE, 77, &confirmed(1));
    assert_eq!(acknowledged(&mut witness, HERE, 77), Some(1));
    // Introduced again, as after the server has lost its disk: what was used stays used.
    witness.introduce(DEVICE, Root { join_eui, app_key: APP_KEY, personal: Some(personal) });
    assert_eq!(witness.next_down(DEVICE), 1);
}
