//! The device against a network that computes everything on its own.

use clock::{Duration, Instant};
use lorawan::{
    CfList, DevEui, DevNonce, DownlinkMacCommand, EU868, JoinEui, JoinNonce, LinkAdrReq,
    MacCommand as _, Region, US915, UplinkMacCommand, derive_session_1_0,
};

use crate::testnet::{APP_KEY, Answer, DEV_ADDR, Network, SIGNAL, World};
use crate::{
    Activation, AppDownlink, AppUplink, Device, DeviceConfig, DeviceEffect, DeviceVersion, Missed,
    OnAir, SendError, Sent, Verdict,
};

fn config(region: &'static Region) -> DeviceConfig {
    let dev_eui = DevEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0, 1]);
    let join_eui = JoinEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0, 0]);
    DeviceConfig::otaa(region, dev_eui, join_eui, APP_KEY, [3; 32])
}

fn eu868() -> World {
    eu868_with(|_| {})
}

fn eu868_with(change: impl FnOnce(&mut DeviceConfig)) -> World {
    let mut config = config(&EU868);
    config.data_rate = 5;
    change(&mut config);
    World::new(Device::new(config), Network::new(&EU868, None))
}

fn us915() -> World {
    let mut config = config(&US915);
    let sub_band_2: Vec<u8> = (8..16).chain([65]).collect();
    let list = US915.cf_list(&[], sub_band_2.iter().copied());
    config.channels = Some(sub_band_2);
    World::new(Device::new(config), Network::new(&US915, list))
}

fn joined(mut world: World) -> World {
    world.join();
    world.sent.clear();
    world
}

fn send(world: &mut World, uplink: AppUplink, answer: Answer) -> Vec<DeviceEffect> {
    world.answers.push_back(answer);
    world.device.send(world.now, uplink).unwrap();
    world.run()
}

fn ping() -> AppUplink {
    AppUplink::unconfirmed(1, &b"ping"[..])
}

/// The MAC commands of the latest uplink.
fn said(world: &World) -> Vec<UplinkMacCommand> {
    let heard = world.network.heard.last().unwrap();
    UplinkMacCommand::walk(&heard.opened.f_opts).map(Result::unwrap).collect()
}

const ACCEPTED: fn(u32) -> DeviceEffect = |fcnt| DeviceEffect::Judged(Verdict::Accepted { fcnt });

fn done(fcnt: u32, acked: bool, heard: bool) -> DeviceEffect {
    DeviceEffect::Done { fcnt, acked, heard }
}

#[test]
fn it_joins_and_exchanges_confirmed_frames_in_both_regions_and_windows() {
    for (answer, mut world) in [
        (Answer::Rx1, eu868()),
        (Answer::Rx2, eu868()),
        (Answer::Rx1, us915()),
        (Answer::Rx2, us915()),
    ] {
        world.answers.push_back(answer.clone());
        world.device.join(world.now).unwrap();
        let joined = DeviceEffect::Joined { dev_addr: DEV_ADDR, join_nonce: JoinNonce(1) };
        assert_eq!(world.run(), [ACCEPTED(0), joined], "{answer:?}");

        for fcnt in 0..3 {
            world.network.payload = Some((9, b"pong", true));
            let effects = send(&mut world, AppUplink::confirmed(2, &b"hi"[..]), answer.clone());
            let delivered = DeviceEffect::Delivered(AppDownlink {
                fcnt,
                f_port: 9,
                payload: (&b"pong"[..]).into(),
                confirmed: true,
                f_pending: false,
            });
            assert_eq!(effects, [ACCEPTED(fcnt), delivered, done(fcnt, true, true)]);
            let heard = world.network.heard.last().unwrap();
            assert_eq!((heard.fcnt, heard.confirmed), (fcnt, true));
            assert_eq!(heard.opened.payload, b"hi");
            assert_eq!(heard.fctrl.ack, fcnt > 0, "each acknowledges the downlink before it");
            assert!(heard.fctrl.adr);
        }
        assert!(world.device.has_answers());
    }
}

#[test]
fn it_keeps_to_the_channels_it_is_given() {
    let mut world = joined(us915());
    assert_eq!(world.device.enabled_channels(), [8, 9, 10, 11, 12, 13, 14, 15, 65]);
    for _ in 0..40 {
        send(&mut world, ping(), Answer::Silence);
    }
    for (frame, _) in &world.sent {
        let index = US915.uplink_channel_index(frame.frequency_hz, []).unwrap();
        assert!((8..16).contains(&index), "DR0 on channel {index}");
    }

    let list = CfList::Frequencies([867_100_000, 867_300_000, 867_500_000, 867_700_000, 0]);
    let mut world = eu868();
    world.network.accept.cf_list = Some(list);
    let mut world = joined(world);
    assert_eq!(world.device.enabled_channels(), [0, 1, 2, 3, 4, 5, 6]);
    for _ in 0..60 {
        send(&mut world, ping(), Answer::Rx1);
    }
    let mut used: Vec<u32> = world.sent.iter().map(|(frame, _)| frame.frequency_hz).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), 7, "all are used, and answered on their own frequency");
}

#[test]
fn an_unanswered_join_ends_and_another_may_begin() {
    let mut world = eu868();
    world.device.join(world.now).unwrap();
    assert_eq!(world.device.join(world.now), Err(SendError::Busy));
    assert_eq!(world.device.send(world.now, ping()), Err(SendError::Busy));
    assert_eq!(world.run(), [DeviceEffect::JoinFailed]);
    assert_eq!(world.device.send(world.now, ping()), Err(SendError::Activation));
    world.join();
    assert!(world.device.is_activated());
}

/// Sends one uplink and returns the frame that would answer it in RX1.
fn open_window(world: &mut World) -> OnAir {
    world.device.send(world.now, ping()).unwrap();
    let Some(DeviceEffect::Transmit { frame, .. }) = world.device.poll_effect() else { panic!() };
    let phy = world.network.handle(&frame);
    world.network.in_window(&frame, phy, true, false)
}

#[test]
fn only_the_right_frame_at_the_right_time_is_received() {
    let mut world = joined(eu868());
    let down = open_window(&mut world);
    let opens = down.starts_at;
    let hear = |world: &mut World, at: Instant, frame: &OnAir| {
        world.device.handle_frame(&OnAir { starts_at: at, ..frame.clone() }, SIGNAL)
    };
    let millis = Duration::from_millis;
    for at in [world.now, opens.saturating_sub(millis(21)), opens + millis(21), opens + millis(979)]
    {
        assert_eq!(hear(&mut world, at, &down), Err(Missed::NotListening), "{at}");
    }
    let off = OnAir { frequency_hz: down.frequency_hz + 200_000, ..down.clone() };
    let listening_hz = down.frequency_hz;
    assert_eq!(hear(&mut world, opens, &off), Err(Missed::Frequency { listening_hz }));
    let slow = OnAir { modulation: EU868.modulation(0).unwrap(), ..down.clone() };
    assert_eq!(hear(&mut world, opens, &slow), Err(Missed::Modulation));
    let upward = OnAir { inverted_polarity: false, ..down.clone() };
    assert_eq!(hear(&mut world, opens, &upward), Err(Missed::Polarity));
    assert_eq!(hear(&mut world, opens + millis(20), &down), Ok(()));
    assert_eq!(hear(&mut world, opens + millis(20), &down), Err(Missed::Busy));
}

#[test]
fn its_windows_can_be_told_beforehand() {
    let mut world = joined(eu868());
    assert_eq!(world.device.windows_open_at(), [None; 2]);
    let opens = open_window(&mut world).starts_at;
    let second = opens + Duration::from_secs(1);
    assert_eq!(world.device.windows_open_at(), [Some(opens), Some(second)]);
    world.device.handle_timeout(second + Duration::from_millis(100));
    assert_eq!(world.device.windows_open_at(), [None; 2], "the exchange is over");
}

/// Lets the device judge `phy` in RX1 of a fresh uplink.
fn judge(world: &mut World, phy: impl FnOnce(&mut World, OnAir) -> OnAir) -> Verdict {
    let down = open_window(world);
    let down = phy(world, down);
    world.now = down.starts_at;
    world.device.handle_frame(&down, SIGNAL).unwrap();
    let effects = world.run();
    let Some(DeviceEffect::Judged(verdict)) = effects.first() else { panic!("{effects:?}") };
    let accepted = matches!(verdict, Verdict::Accepted { .. });
    let heard = matches!(effects.last(), Some(DeviceEffect::Done { heard: true, .. }));
    assert_eq!(accepted, heard, "{effects:?}");
    *verdict
}

#[test]
fn it_says_why_it_refuses_a_frame() {
    let mut world = joined(eu868());
    assert_eq!(judge(&mut world, |_, down| down), Verdict::Accepted { fcnt: 0 });
    let mut first = None;
    let verdict = judge(&mut world, |_, down| {
        first = Some(down.phy_payload.clone());
        down
    });
    assert_eq!(verdict, Verdict::Accepted { fcnt: 1 });
    let replay = first.unwrap();
    let verdict = judge(&mut world, |_, down| OnAir { phy_payload: replay, ..down });
    assert_eq!(verdict, Verdict::Replayed { fcnt: 1, last: 1 });

    let change = |at: usize| {
        move |_: &mut World, down: OnAir| {
            let mut bytes = down.phy_payload.to_vec();
            bytes[at] ^= 1;
            OnAir { phy_payload: bytes.into(), ..down }
        }
    };
    assert_eq!(judge(&mut world, change(11)), Verdict::Mic);
    assert!(matches!(judge(&mut world, change(1)), Verdict::OtherAddress(_)));
    assert!(matches!(judge(&mut world, change(0)), Verdict::Malformed(_)));
    let verdict = judge(&mut world, |world, down| {
        let phy_payload = world.network.heard.last().unwrap().frame.phy_payload.clone();
        OnAir { phy_payload, ..down }
    });
    assert_eq!(verdict, Verdict::Unexpected, "an uplink");
    let verdict = judge(&mut world, |world, down| OnAir {
        phy_payload: world.network.accept.encode_1_0(&APP_KEY).into(),
        ..down
    });
    assert_eq!(verdict, Verdict::Unexpected, "a join-accept unasked");
}

#[test]
fn a_gap_of_counters_is_refused_below_1_0_4_only() {
    for (version, refused) in [(DeviceVersion::V1_0_3, true), (DeviceVersion::V1_0_4, false)] {
        let mut world = joined(eu868_with(|config| config.version = version));
        assert_eq!(judge(&mut world, |_, down| down), Verdict::Accepted { fcnt: 0 });
        world.network.next_down = 16_384;
        assert_eq!(judge(&mut world, |_, down| down), Verdict::Accepted { fcnt: 16_384 });
        let fcnt = 2 * 16_384 + 1;
        world.network.next_down = fcnt;
        let expected = if refused {
            Verdict::FCntGap { fcnt, last: 16_384 }
        } else {
            Verdict::Accepted { fcnt }
        };
        assert_eq!(judge(&mut world, |_, down| down), expected);
    }
    // Across the 16-bit end the MIC tells the half.
    let mut world = joined(eu868());
    for fcnt in [16_000, 32_000, 48_000, 64_000, 66_000] {
        world.network.next_down = fcnt;
        assert_eq!(judge(&mut world, |_, down| down), Verdict::Accepted { fcnt });
    }
    assert_eq!(world.device.last_fcnt_down(), Some(66_000));
}

#[test]
fn a_join_accept_must_fit_key_nonce_and_region() {
    let verdict = |world: &mut World| {
        world.answers.push_back(Answer::Rx1);
        world.device.join(world.now).unwrap();
        let effects = world.run();
        let Some(DeviceEffect::Judged(verdict)) = effects.first() else { panic!("{effects:?}") };
        if !matches!(verdict, Verdict::Accepted { .. }) {
            assert_eq!(effects.last(), Some(&DeviceEffect::JoinFailed));
        }
        *verdict
    };
    let mut world = us915();
    world.network.accept.rx2_dr = 0;
    assert_eq!(verdict(&mut world), Verdict::JoinSettings, "DR0 goes up only in US915");
    world.network.accept.rx2_dr = 8;
    world.network.accept.rx1_dr_offset = 4;
    assert_eq!(verdict(&mut world), Verdict::JoinSettings);
    world.network.accept.rx1_dr_offset = 3;
    assert_eq!(verdict(&mut world), Verdict::Accepted { fcnt: 0 });
    let effects = send(&mut world, AppUplink::confirmed(1, &b"x"[..]), Answer::Rx1);
    assert_eq!(effects, [ACCEPTED(0), done(0, true, true)], "with the offset in RX1");

    let mut world = eu868_with(|config| config.version = DeviceVersion::V1_0_4);
    world.network.accept.join_nonce = JoinNonce(7);
    assert_eq!(verdict(&mut world), Verdict::Accepted { fcnt: 0 });
    let repeated = Verdict::JoinNonce { seen: JoinNonce(7), last: JoinNonce(7) };
    assert_eq!(verdict(&mut world), repeated);
    world.network.accept.join_nonce = JoinNonce(8);
    assert_eq!(verdict(&mut world), Verdict::Accepted { fcnt: 0 });
}

#[test]
fn a_confirmed_uplink_is_repeated_byte_for_byte_until_acknowledged() {
    let mut world = joined(eu868());
    world.answers = [Answer::Silence, Answer::Silence, Answer::Rx2].into();
    world.device.send(world.now, AppUplink::confirmed(1, &b"x"[..])).unwrap();
    assert_eq!(world.run(), [ACCEPTED(2), done(0, true, true)]);
    assert_eq!(world.sent.len(), 3);
    for (number, pair) in world.sent.windows(2).enumerate() {
        let ((first, _), (second, sent)) = (&pair[0], &pair[1]);
        assert_eq!(first.phy_payload, second.phy_payload);
        assert_eq!(*sent, Sent::Data { fcnt: 0, attempt: u8::try_from(number + 2).unwrap() });
        // RX2 opens 2 s after the end; then 2 s, give or take one.
        let pause = second.starts_at.since(first.ends_at());
        assert!(
            (Duration::from_secs(3)..=Duration::from_millis(5_100)).contains(&pause),
            "{pause:?}"
        );
    }
    world.sent.clear();
    world.device.send(world.now, AppUplink::confirmed(1, &b"x"[..])).unwrap();
    assert_eq!(world.run(), [done(1, false, false)]);
    assert_eq!(world.sent.len(), 8);
    assert_eq!(world.device.next_fcnt_up(), Some(2));
}

fn adr(data_rate: u8, tx_power: u8, ch_mask_cntl: u8, ch_mask: u16, nb_trans: u8) -> LinkAdrReq {
    LinkAdrReq { data_rate, tx_power, ch_mask, ch_mask_cntl, nb_trans }
}

#[test]
fn link_adr_is_obeyed_as_a_block_or_not_at_all() {
    let ans = |ch_mask_ack, data_rate_ack, tx_power_ack| UplinkMacCommand::LinkAdrAns {
        ch_mask_ack,
        data_rate_ack,
        tx_power_ack,
    };
    let mut world = joined(us915());
    // Sub-band 1 in two steps: everything narrow off, then the first eight on.
    world.network.commands = vec![
        DownlinkMacCommand::LinkAdrReq(adr(0, 0, 7, 0x0001, 1)),
        DownlinkMacCommand::LinkAdrReq(adr(3, 5, 0, 0x00FF, 3)),
    ];
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(world.device.link_settings(), Some((3, 5, 3)));
    assert_eq!(world.device.enabled_channels(), [0, 1, 2, 3, 4, 5, 6, 7, 64]);
    world.sent.clear();
    send(&mut world, ping(), Answer::Silence);
    assert_eq!(said(&world), [ans(true, true, true); 2]);
    assert_eq!(world.sent.len(), 3, "NbTrans");
    assert_eq!(world.sent[0].0.eirp_dbm, 20);
    world.sent.clear();
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(world.sent.len(), 1, "a downlink ends the repetitions");

    for (request, answer) in [
        (adr(3, 5, 0, 0x0000, 1), ans(true, false, true)),
        (adr(12, 5, 0, 0x00FF, 1), ans(true, false, true)),
        (adr(3, 15, 0, 0x00FF, 1), ans(true, true, false)),
        (adr(15, 5, 0, 0x00FF, 1), ans(true, false, true)),
    ] {
        world.network.commands = vec![DownlinkMacCommand::LinkAdrReq(request)];
        send(&mut world, ping(), Answer::Rx1);
        send(&mut world, ping(), Answer::Rx1);
        assert_eq!(said(&world), [answer], "{request:?}");
        assert_eq!(world.device.link_settings(), Some((3, 5, 3)), "{request:?}");
    }

    let mut world = joined(eu868_with(|config| config.version = DeviceVersion::V1_0_4));
    world.network.commands = vec![DownlinkMacCommand::LinkAdrReq(adr(15, 15, 0, 0x0003, 0))];
    send(&mut world, ping(), Answer::Rx1);
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(said(&world), [ans(true, true, true)], "0xF keeps, from 1.0.4 on");
    assert_eq!(world.device.link_settings(), Some((5, 0, 1)));
    assert_eq!(world.device.enabled_channels(), [0, 1]);
    world.network.commands = vec![DownlinkMacCommand::LinkAdrReq(adr(5, 0, 0, 0x0008, 1))];
    send(&mut world, ping(), Answer::Rx1);
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(said(&world), [ans(false, true, true)], "channel 3 does not exist");
}

#[test]
fn answers_about_windows_are_repeated_until_a_downlink_comes() {
    let mut world = joined(eu868());
    world.network.commands = vec![
        DownlinkMacCommand::RxTimingSetupReq { delay: 5 },
        DownlinkMacCommand::RxParamSetupReq { rx1_dr_offset: 2, rx2_dr: 3, freq_hz: 868_500_000 },
        DownlinkMacCommand::DevStatusReq,
    ];
    send(&mut world, ping(), Answer::Rx1);
    (world.network.rx_delay, world.network.rx1_dr_offset) = (5, 2);
    let rx_param = UplinkMacCommand::RxParamSetupAns {
        channel_ack: true,
        rx2_dr_ack: true,
        rx1_dr_offset_ack: true,
    };
    let sticky = [UplinkMacCommand::RxTimingSetupAns, rx_param];
    send(&mut world, ping(), Answer::Silence);
    let status = UplinkMacCommand::DevStatusAns { battery: 255, margin_db: 8 };
    assert_eq!(said(&world), [sticky[0], sticky[1], status]);
    send(&mut world, ping(), Answer::Silence);
    assert_eq!(said(&world), sticky);
    // The answer comes with the new delay and offset, and is the last that is needed.
    assert_eq!(send(&mut world, ping(), Answer::Rx1), [ACCEPTED(3), done(3, false, true)]);
    assert_eq!(said(&world), sticky);
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(said(&world), []);
}

#[test]
fn channels_move_on_request() {
    let mut world = joined(eu868());
    let new = |ch_index, freq_hz, max_dr| DownlinkMacCommand::NewChannelReq {
        ch_index,
        freq_hz,
        min_dr: 0,
        max_dr,
    };
    world.network.commands = vec![new(3, 867_100_000, 5), new(0, 867_300_000, 5)];
    send(&mut world, ping(), Answer::Rx1);
    world.network.commands =
        vec![DownlinkMacCommand::DlChannelReq { ch_index: 9, freq_hz: 868_100_000 }];
    send(&mut world, ping(), Answer::Rx1);
    let answer = |ok| UplinkMacCommand::NewChannelAns { channel_freq_ok: ok, dr_range_ok: ok };
    assert_eq!(said(&world), [answer(true), answer(false)]);
    assert_eq!(world.device.enabled_channels(), [0, 1, 2, 3]);
    send(&mut world, ping(), Answer::Rx1);
    let none = UplinkMacCommand::DlChannelAns { channel_freq_ok: true, uplink_freq_exists: false };
    assert_eq!(said(&world), [none]);

    let mut world = joined(us915());
    world.network.commands = vec![new(3, 902_300_000, 3)];
    send(&mut world, ping(), Answer::Rx1);
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(said(&world), [], "a fixed plan has no NewChannelReq");
}

#[test]
fn a_duty_cycle_of_the_network_keeps_it_silent() {
    let mut world = joined(eu868());
    world.network.commands = vec![DownlinkMacCommand::DutyCycleReq { max_duty_cycle: 7 }];
    send(&mut world, ping(), Answer::Rx1);
    world.sent.clear();
    send(&mut world, ping(), Answer::Rx1);
    assert_eq!(said(&world), [UplinkMacCommand::DutyCycleAns]);
    let frame = &world.sent[0].0;
    let until = frame.ends_at() + frame.airtime * 127;
    assert_eq!(world.device.send(world.now, ping()), Err(SendError::DutyCycle { until }));
    assert_eq!(world.device.send(until, ping()), Ok(()));
}

#[test]
fn it_asks_for_time_and_link_quality() {
    let mut world = joined(eu868());
    world.network.commands = vec![
        DownlinkMacCommand::LinkCheckAns { margin_db: 20, gateway_count: 2 },
        DownlinkMacCommand::DeviceTimeAns { gps_seconds: 1_400_000_000, fraction: 128 },
    ];
    let uplink = AppUplink { link_check: true, device_time: true, ..AppUplink::default() };
    let effects = send(&mut world, uplink, Answer::Rx1);
    let asked = [UplinkMacCommand::LinkCheckReq, UplinkMacCommand::DeviceTimeReq];
    assert_eq!(said(&world), asked);
    let time = DeviceEffect::Time {
        gps: clock::GpsTime::from_micros(1_400_000_000_500_000),
        uplink_ended_at: world.sent[0].0.ends_at(),
    };
    let link = DeviceEffect::LinkCheck { margin_db: 20, gateway_count: 2 };
    assert_eq!(effects, [ACCEPTED(0), link, time, done(0, false, true)]);
}

#[test]
fn without_downlinks_it_asks_for_one_and_then_steps_back() {
    let mut world = joined(eu868());
    world.network.commands = vec![DownlinkMacCommand::LinkAdrReq(adr(5, 3, 0, 0x0001, 1))];
    send(&mut world, ping(), Answer::Rx1);
    let asks = |world: &World| world.network.heard.last().unwrap().fctrl.adr_ack_req;
    for _ in 0..64 {
        send(&mut world, ping(), Answer::Silence);
        assert!(!asks(&world));
    }
    for _ in 64..95 {
        send(&mut world, ping(), Answer::Silence);
        assert!(asks(&world));
    }
    assert_eq!(world.device.link_settings(), Some((5, 3, 1)));
    let mut settings = Vec::new();
    for _ in 0..7 {
        send(&mut world, ping(), Answer::Silence);
        settings.push(world.device.link_settings().unwrap());
        for _ in 0..31 {
            send(&mut world, ping(), Answer::Silence);
        }
    }
    let expected = [5, 4, 3, 2, 1, 0, 0].map(|data_rate| (data_rate, 0, 1));
    assert_eq!(settings, expected);
    assert_eq!(world.device.enabled_channels(), [0, 1, 2], "at the end every channel is on");
    send(&mut world, ping(), Answer::Rx1);
    send(&mut world, ping(), Answer::Silence);
    assert!(!asks(&world), "one downlink is enough");
}

#[test]
fn payloads_fit_the_data_rate() {
    let mut world = joined(eu868_with(|config| config.data_rate = 0));
    let of = |len: usize| AppUplink::unconfirmed(1, vec![0; len]);
    let refused = world.device.send(world.now, of(52));
    assert_eq!(refused, Err(SendError::TooLong { len: 52, max: 51 }));
    let asking = AppUplink { link_check: true, ..of(51) };
    let refused = world.device.send(world.now, asking);
    assert_eq!(refused, Err(SendError::TooLong { len: 51, max: 50 }));
    assert_eq!(send(&mut world, of(51), Answer::Silence), [done(0, false, false)]);
    let no_port = AppUplink { f_port: Some(0), ..of(1) };
    assert_eq!(world.device.send(world.now, no_port), Err(SendError::Port));
}

#[test]
fn a_reboot_costs_the_session_and_perhaps_the_memory() {
    let nonces = |version, memory_lost| {
        let mut world = joined(eu868_with(|config| config.version = version));
        world.device.reboot(memory_lost);
        assert!(!world.device.is_activated());
        world.network.accept.join_nonce = JoinNonce(2);
        world.join();
        world.network.nonces
    };
    let zero_and = |second| vec![DevNonce(0), DevNonce(second)];
    assert_eq!(nonces(DeviceVersion::V1_0_4, false), zero_and(1));
    assert_eq!(nonces(DeviceVersion::V1_0_4, true), zero_and(0));
    let random = nonces(DeviceVersion::V1_0_3, true);
    assert_ne!(random[0], random[1]);
}

#[test]
fn an_abp_device_has_its_session_from_the_start_and_may_begin_anew() {
    let (nonce, net_id) = (JoinNonce(5), lorawan::NetId::from_be_bytes([0, 0, 1]));
    let keys = derive_session_1_0(&APP_KEY, nonce, net_id, DevNonce(1));
    let mut world = eu868_with(|config| {
        config.activation = Activation::Abp { dev_addr: DEV_ADDR, keys: keys.clone() };
        config.first_fcnt = 1;
    });
    world.network.ciphers = Some(lorawan::SessionCiphers::new(&keys));
    assert_eq!(world.device.join(world.now), Err(SendError::Activation));
    assert_eq!(send(&mut world, ping(), Answer::Rx1), [ACCEPTED(0), done(1, false, true)]);
    world.device.reboot(false);
    assert_eq!(world.device.next_fcnt_up(), Some(2));
    world.device.reboot(true);
    assert_eq!((world.device.next_fcnt_up(), world.device.last_fcnt_down()), (Some(1), None));
    // It takes any downlink counter now, the next one as well as an old one.
    world.network.last_up = None;
    assert_eq!(send(&mut world, ping(), Answer::Rx1), [ACCEPTED(1), done(1, false, true)]);
}

#[test]
fn the_same_seed_lives_the_same_life() {
    let life = || {
        let mut world = joined(eu868());
        for _ in 0..20 {
            send(&mut world, AppUplink::confirmed(1, &b"x"[..]), Answer::Silence);
        }
        world.sent
    };
    assert_eq!(life(), life());
}
