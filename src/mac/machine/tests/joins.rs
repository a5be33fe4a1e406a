//! Activation over the air.

use bytes::Bytes;
use lorawan::{
    Aes, CfList, DevAddr, DevEui, DevNonce, Frame, JoinAccept, JoinEui, JoinNonce, JoinRequest,
    Key, NetId, TxStatus, derive_session_1_0,
};

use super::super::{Effect, LogCode, NotSent, What};
use super::world::{GATEWAY, World};
use crate::fixtures::{DEV_EUI, bytes, lora};
use crate::{JoinReply, MacVersion, SessionEpoch, SessionKeys, UplinkError};

const JOIN_EUI: JoinEui = JoinEui::from_be_bytes([7; 8]);
const ROOT: [u8; 16] = [0x2B; 16];

fn root() -> Key {
    Key::from_bytes(ROOT)
}

fn request_of(dev_eui: DevEui, nonce: u16, key: &Key) -> Bytes {
    let request = JoinRequest { join_eui: JOIN_EUI, dev_eui, dev_nonce: DevNonce(nonce) };
    request.encode(&Aes::new(key)).into()
}

fn request(nonce: u16) -> Bytes {
    request_of(DEV_EUI, nonce, &root())
}

fn hear(world: &mut World, millis: u64, frame: &Bytes) -> Result<(), UplinkError> {
    world.hear(millis, GATEWAY, 0, (868_100_000, lora(7, 125)), frame)
}

/// What the device reads.
fn read(hex: &str) -> JoinAccept {
    let frame = bytes(hex);
    let Frame::JoinAccept(accept) = Frame::parse(&frame).unwrap() else { panic!("{hex}") };
    let key = Aes::new(&root());
    let accept = accept.decrypt(&key);
    assert!(accept.verify_1_0(&key));
    accept.fields().unwrap()
}

#[test]
fn a_join_is_answered_five_seconds_later_with_its_channels() {
    let mut world = World::new("EU868");
    let profile = &mut world.device().profile;
    profile.extra_channels_hz = vec![867_100_000, 867_300_000];
    (profile.rx1_delay_s, profile.rx2_dr) = (2, Some(3));
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(9_000);
    let [join] = &world.seen.joins[..] else { panic!("one join") };
    let sent = world.downlinks();
    assert_eq!((sent.len(), sent[0].0), (1, 1_200));
    let accept = read(&sent[0].2);
    assert_eq!(accept.join_nonce, JoinNonce(1));
    assert_eq!((accept.dev_addr, accept.rx_delay, accept.rx2_dr), (join.dev_addr, 2, 3));
    let list = CfList::Frequencies([867_100_000, 867_300_000, 0, 0, 0]);
    assert_eq!(accept.cf_list, Some(list));
    let downlink = &world.seen.sent[0].1;
    assert_eq!((downlink.frequency_hz, downlink.modulation), (868_100_000, lora(7, 125)));
    let delay =
        lorawan::DownlinkTiming::Delay { tmst: 1_000_000, delay: clock::Duration::from_secs(5) };
    assert_eq!(downlink.timing, delay);
    // The server's session is the device's.
    let net_id = NetId::from_be_bytes([0; 3]);
    let keys: SessionKeys =
        derive_session_1_0(&root(), accept.join_nonce, net_id, DevNonce(1)).into();
    let session = world.session();
    assert_eq!(SessionKeys::from_bytes(&session.keys.bytes), Ok(keys));
    assert_eq!((session.dev_addr, session.rx1_delay_s), (join.dev_addr, 2));
    assert_eq!(session.channels.to_string(), "0-4");
    assert!(!session.abp);
    assert_eq!(join.dev_addr.to_u32() >> 25, 0, "an address of this network");
    assert!(world.seen.records.is_empty(), "a join-accept has no number");
}

#[test]
fn rx2_of_a_join_is_the_regions_own() {
    let mut world = World::new("EU868");
    world.device().profile.rx2_dr = Some(3);
    world.acks.push_back(Some(TxStatus::CollisionPacket));
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(9_000);
    let downlink = &world.seen.sent[1].1;
    assert_eq!((downlink.frequency_hz, downlink.modulation), (869_525_000, lora(12, 125)));
    assert_eq!(world.downlinks()[0].2, world.downlinks()[1].2);
}

#[test]
fn copies_of_a_join_are_one_and_a_repetition_is_refused() {
    let mut world = World::new("EU868");
    hear(&mut world, 1_000, &request(1)).unwrap();
    hear(&mut world, 1_100, &request(1)).unwrap();
    hear(&mut world, 1_500, &request(1)).unwrap();
    world.run_to(9_000);
    assert_eq!((world.seen.joins.len(), world.seen.sent.len()), (1, 1));
    let (dev_eui, dev_nonce) = (DEV_EUI, DevNonce(1));
    let refused = UplinkError::DevNonceUsed { dev_eui, dev_nonce };
    assert_eq!(hear(&mut world, 10_000, &request(1)), Err(refused));
    assert_eq!(world.seen.logs[0].code, LogCode::Otaa);
    hear(&mut world, 11_000, &request(2)).unwrap();
    world.run_to(19_000);
    assert_eq!(read(&world.downlinks()[1].2).join_nonce, JoinNonce(2));
    assert_eq!(world.session().epoch, SessionEpoch(3));
}

#[test]
fn a_join_that_lost_a_race_is_built_anew_upon_the_next_nonce() {
    let mut world = World::new("EU868");
    world.log_is_away = true;
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(1_200);
    let [Effect::Join { request: first, .. }] = world.unanswered[..] else { panic!("one") };
    world.unanswered.clear();
    world.device().next_join_nonce = JoinNonce(9);
    world.log_is_away = false;
    let now = world.now();
    let reply = JoinReply::JoinNonceMoved { next: JoinNonce(9) };
    world.mac.handle_join_reply(now, &world.state, first, reply);
    world.run_to(9_000);
    assert_eq!(world.seen.joins[0].expected_join_nonce, JoinNonce(9));
    assert_eq!(read(&world.downlinks()[0].2).join_nonce, JoinNonce(9));
}

#[test]
fn a_join_accept_leaves_only_after_the_log_agreed() {
    let mut world = World::new("EU868");
    world.log_is_away = true;
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(6_800);
    assert!(world.seen.sent.is_empty());
    world.log_returns();
    world.run_to(9_000);
    assert_eq!(world.seen.sent.len(), 1, "in time for RX2");
    assert_eq!(world.seen.sent[0].1.frequency_hz, 869_525_000);
    world.log_is_away = true;
    hear(&mut world, 11_000, &request(2)).unwrap();
    world.run_to(30_000);
    assert_eq!(world.seen.whats.last(), Some(&What::GivenUp));
}

#[test]
fn us915_tells_the_sub_band_where_the_version_knows_how() {
    for (version, told) in [(MacVersion::V1_0_2, false), (MacVersion::V1_0_3, true)] {
        let mut world = World::new("US915");
        let profile = &mut world.device().profile;
        profile.channels = Some("8-15+65".parse().unwrap());
        profile.mac_version = version;
        let radio = (903_900_000, lora(10, 125));
        world.hear(1_000, GATEWAY, 0, radio, &request(1)).unwrap();
        world.run_to(9_000);
        let accept = read(&world.downlinks()[0].2);
        let masks = CfList::ChannelMasks([0xFF00, 0, 0, 0, 0x0002, 0]);
        assert_eq!(accept.cf_list, told.then_some(masks), "{version}");
        let channels = world.session().channels;
        assert_eq!(channels.iter().count(), 72, "until a LinkADRAns proves more");
        assert_eq!(world.seen.sent[0].1.frequency_hz, 923_300_000);
    }
}

#[test]
fn a_1_1_device_is_answered_as_1_0() {
    let mut world = World::new("EU868");
    world.device().profile.mac_version = MacVersion::V1_1_0;
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(9_000);
    assert!(!read(&world.downlinks()[0].2).opt_neg);
    assert_eq!(world.session().mac_version, MacVersion::V1_0_3);
}

#[test]
fn every_refusal_says_what_to_mend() {
    let mut world = World::new("EU868");
    let dev_eui = DEV_EUI.reversed();
    let reversed = UplinkError::DevEuiReversed { dev_eui, registered: DEV_EUI };
    assert_eq!(hear(&mut world, 0, &request_of(dev_eui, 1, &root())), Err(reversed.clone()));
    assert_eq!(
        reversed.remedy().unwrap(),
        "swap the byte order of 0202030405060708 here or in the device"
    );
    let stranger = DevEui::from_be_bytes([9; 8]);
    let unknown = UplinkError::UnknownDevEui { dev_eui: stranger, join_eui: JOIN_EUI };
    assert_eq!(hear(&mut world, 0, &request_of(stranger, 1, &root())), Err(unknown.clone()));
    assert_eq!(unknown.to_string(), "join from 0909090909090909: unknown DevEUI");
    let dev_eui = DEV_EUI;
    let mic = hear(&mut world, 0, &request_of(dev_eui, 1, &Key::from_bytes([1; 16])));
    assert_eq!(mic, Err(UplinkError::JoinMic { dev_eui }));
    assert_eq!(mic.unwrap_err().remedy().unwrap(), "check AppKey");
    let mut refused = |nonce, change: fn(&mut super::world::Device)| {
        change(world.device());
        hear(&mut world, u64::from(nonce) * 1_000, &request(nonce)).unwrap_err()
    };
    let registered = JoinEui::from_be_bytes([8; 8]);
    assert_eq!(
        refused(2, |device| device.join_eui = Some(JoinEui::from_be_bytes([8; 8]))),
        UplinkError::JoinEui { dev_eui, seen: JOIN_EUI, registered }
    );
    assert_eq!(
        refused(3, |device| device.profile.supports_otaa = false),
        UplinkError::JoinNotAllowed { dev_eui }
    );
    assert_eq!(refused(4, |device| device.is_disabled = true), UplinkError::Disabled { dev_eui });
    assert_eq!(refused(5, |device| device.root = None), UplinkError::NoRootKey { dev_eui });
}

#[test]
fn an_exhausted_join_nonce_and_a_lost_path_are_told() {
    let mut world = World::new("EU868");
    world.device().next_join_nonce = JoinNonce(1 << 24);
    hear(&mut world, 1_000, &request(1)).unwrap();
    world.run_to(2_000);
    let (dev_eui, next) = (DEV_EUI, JoinNonce(1 << 24));
    let exhausted = UplinkError::JoinNonceExhausted { dev_eui, next };
    assert_eq!(world.seen.whats, [What::Refused(exhausted)]);
    world.device().next_join_nonce = JoinNonce(5);
    world.state.gateways.insert(GATEWAY, false);
    hear(&mut world, 5_000, &request(2)).unwrap();
    world.run_to(15_000);
    assert_eq!(
        world.seen.whats.last(),
        Some(&What::NotSent(NotSent::NoGatewayPath { pull_age_s: Some(12) }))
    );
    assert!(world.seen.sent.is_empty());
}

#[test]
fn addresses_of_sessions_are_not_drawn() {
    let mut world = World::new("EU868");
    let drawn: Vec<DevAddr> = (1..40_u16)
        .map(|nonce| {
            hear(&mut world, u64::from(nonce) * 10_000, &request(nonce)).unwrap();
            world.run_to(u64::from(nonce) * 10_000 + 1_000);
            world.seen.joins.last().unwrap().dev_addr
        })
        .collect();
    let mut distinct = drawn.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), drawn.len());
}
