//! MAC commands: every one written is read back, and hostile blocks end where they must.

use proptest::prelude::*;

use crate::*;

fn read_all<C: MacCommand>(block: &[u8]) -> (Vec<C>, Option<MacCommandError>) {
    let mut commands = Vec::new();
    for item in C::walk(block) {
        match item {
            Ok(command) => commands.push(command),
            Err(error) => return (commands, Some(error)),
        }
    }
    (commands, None)
}

/// Payload lengths by CID, as the table of the specification has them: (CID, up, down).
const LENGTHS: [(u8, Option<usize>, Option<usize>); 26] = [
    (0x01, Some(1), Some(1)),
    (0x02, Some(0), Some(2)),
    (0x03, Some(1), Some(4)),
    (0x04, Some(0), Some(1)),
    (0x05, Some(1), Some(4)),
    (0x06, Some(2), Some(0)),
    (0x07, Some(1), Some(5)),
    (0x08, Some(0), Some(1)),
    (0x09, Some(0), Some(1)),
    (0x0A, Some(1), Some(4)),
    (0x0B, Some(1), Some(1)),
    (0x0C, Some(0), Some(1)),
    (0x0D, Some(0), Some(5)),
    (0x0E, None, Some(2)),
    (0x0F, Some(1), Some(1)),
    (0x10, Some(1), Some(0)),
    (0x11, Some(1), Some(4)),
    (0x12, Some(0), Some(3)),
    (0x13, Some(1), Some(3)),
    (0x20, Some(1), Some(1)),
    (0x40, Some(1), Some(5)),
    (0x41, Some(1), Some(6)),
    (0x43, Some(0), Some(26)),
    (0x44, Some(5), Some(1)),
    (0x45, Some(0), Some(5)),
    (0x46, Some(6), None),
];

fn check_length<C: MacCommand>(cid: u8, len: Option<usize>) {
    let Some(len) = len else {
        let error = MacCommandError::UnknownCid { cid, unread: 3 };
        assert_eq!(read_all::<C>(&[cid, 0, 0, 0]).1, Some(error));
        return;
    };
    for left in 0..len {
        let error = MacCommandError::Truncated { cid, wanted: len, left };
        let block = [&[cid][..], &vec![0; left]].concat();
        assert_eq!(read_all::<C>(&block).1, Some(error), "CID {cid:02x}");
    }
    let block = [&[cid][..], &vec![0; len]].concat();
    let (commands, error) = read_all::<C>(&block);
    assert_eq!((commands.len(), error), (1, None), "CID {cid:02x}");
    assert_eq!((commands[0].cid(), commands[0].encoded_len()), (cid, 1 + len));
}

#[test]
fn each_command_has_the_length_of_the_table() {
    for (cid, up, down) in LENGTHS {
        check_length::<UplinkMacCommand>(cid, up);
        check_length::<DownlinkMacCommand>(cid, down);
    }
    check_length::<UplinkMacCommand>(0x42, Some(1));
    let known = |cid: u8| cid == 0x42 || LENGTHS.iter().any(|row| row.0 == cid);
    for cid in (0..=255).filter(|cid| !known(*cid)) {
        check_length::<UplinkMacCommand>(cid, None);
        check_length::<DownlinkMacCommand>(cid, None);
    }
}

#[test]
fn what_comes_before_an_unknown_command_is_kept() {
    let (commands, error) =
        read_all::<UplinkMacCommand>(&[0x02, 0x06, 0xFF, 0x3F, 0x80, 0x02, 0x02]);
    let status = UplinkMacCommand::DevStatusAns { battery: 255, margin_db: -1 };
    assert_eq!(commands, [UplinkMacCommand::LinkCheckReq, status]);
    assert_eq!(error, Some(MacCommandError::UnknownCid { cid: 0x80, unread: 2 }));
    let mut walk = UplinkMacCommand::walk(&[0x99, 0x02]);
    assert!(walk.next().unwrap().is_err());
    assert!(walk.next().is_none(), "an unknown command ends the walk");
}

#[test]
fn a_filter_list_is_as_long_as_it_says() {
    let rule = FilterRule::new(11, FilterAction::Filter, &[1, 2, 3, 4]);
    let block = DownlinkMacCommand::encode_all(&[DownlinkMacCommand::FilterListReq(rule)]);
    assert_eq!(block, [0x42, 0b1100_0100, 0b0000_0101, 4, 3, 2, 1]);
    assert_eq!(read_all(&block), (vec![DownlinkMacCommand::FilterListReq(rule)], None));
    let cut = MacCommandError::Truncated { cid: 0x42, wanted: 6, left: 5 };
    assert_eq!(read_all::<DownlinkMacCommand>(&block[..6]).1, Some(cut));
    let long = [&[0x42, 0x11, 0x00][..], &[0; 40]].concat();
    let error = MacCommandError::InnerLength { cid: 0x42, seen: 17, max: 16 };
    assert_eq!(read_all::<DownlinkMacCommand>(&long).1, Some(error));
}

#[test]
fn device_time_is_seconds_and_256ths() {
    let time = |micros| DownlinkMacCommand::device_time(clock::GpsTime::from_micros(micros));
    let half = DownlinkMacCommand::DeviceTimeAns { gps_seconds: 1_209_149_899, fraction: 0x85 };
    assert_eq!(time(1_209_149_899_519_532), half);
    assert_eq!(
        time(1_999_999),
        DownlinkMacCommand::DeviceTimeAns { gps_seconds: 1, fraction: 255 }
    );
    assert_eq!(
        time(u64::MAX),
        DownlinkMacCommand::DeviceTimeAns { gps_seconds: u32::MAX, fraction: 255 }
    );
}

/// Known answers for the relay commands, worked out by hand from the bit tables.
#[test]
fn relay_fields_lie_where_the_tables_say() {
    let second_channel =
        SecondChannel { ack_offset: 5, data_rate: 9, index: 1, freq_hz: 868_100_000 };
    let relay =
        RelayConf { enabled: true, cad_periodicity: 3, default_channel_index: 1, second_channel };
    let end_device = EndDeviceConf {
        activation: RelayActivation::Dynamic,
        smart_enable_level: 1,
        backoff: 32,
        second_channel,
    };
    let limit = |reload_rate, bucket_size| ForwardLimit { reload_rate, bucket_size };
    let limits = ForwardLimits {
        reset: ResetLimitCounter::ToMax,
        join_req: limit(127, 3),
        notify: limit(0, 0),
        global_uplink: limit(1, 1),
        overall: limit(64, 2),
    };
    let commands = [
        DownlinkMacCommand::RelayConfReq(relay),
        DownlinkMacCommand::EndDeviceConfReq(end_device),
        DownlinkMacCommand::ConfigureFwdLimitReq(limits),
    ];
    let block = DownlinkMacCommand::encode_all(&commands);
    let expected: [&[u8]; 3] = [
        &[0x40, 0b1100_1101, 0b0010_1110, 0x28, 0x76, 0x84],
        &[0x41, 0b0000_1001, 0b1100_1101, 0b0100_0000, 0x28, 0x76, 0x84],
        &[0x45, 0b1100_0000, 0b0000_0000, 0b1110_0000, 0b0010_1111, 0b1100_0110],
    ];
    assert_eq!(block, expected.concat());
    let heard = NewEndDevice { dev_addr: DevAddr::from_u32(1), wor_snr_db: 9, wor_rssi_dbm: -110 };
    let block = UplinkMacCommand::encode_all(&[UplinkMacCommand::NotifyNewEndDeviceReq(heard)]);
    assert_eq!(block, [0x46, 1, 0, 0, 0, 0b1111_1101, 0b0000_1011]);
    assert_eq!(
        read_all::<UplinkMacCommand>(&block).0,
        [UplinkMacCommand::NotifyNewEndDeviceReq(heard)]
    );
}

/// A block of known commands with arbitrary payloads, RFU bits included.
fn block(down: bool) -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<(u8, usize)> = LENGTHS
        .iter()
        .filter_map(|(cid, up, len)| if down { *len } else { *up }.map(|len| (*cid, len)))
        .collect();
    let one = (0..known.len(), any::<[u8; 26]>());
    proptest::collection::vec(one, 0..12).prop_map(move |picks| {
        picks.iter().fold(Vec::new(), |mut block, (at, bytes)| {
            let (cid, len) = known[*at];
            block.push(cid);
            block.extend_from_slice(&bytes[..len]);
            block
        })
    })
}

/// Reading forgets RFU bits, so that what is written from it is the same commands, no longer block,
/// and from then on the same bytes.
fn check_block<C: MacCommand + PartialEq + core::fmt::Debug>(block: &[u8]) {
    let (commands, error) = read_all::<C>(block);
    assert_eq!(error, None);
    let written = C::encode_all(&commands);
    assert_eq!(written.len(), block.len());
    let (again, error) = read_all::<C>(&written);
    assert_eq!((&again, error), (&commands, None));
    assert_eq!(C::encode_all(&again), written);
}

proptest! {
    #[test]
    fn uplink_blocks_round_trip(block in block(false)) {
        check_block::<UplinkMacCommand>(&block);
    }

    #[test]
    fn downlink_blocks_round_trip(block in block(true)) {
        check_block::<DownlinkMacCommand>(&block);
    }

    #[test]
    fn any_block_ends(block in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (up, _) = read_all::<UplinkMacCommand>(&block);
        let (down, _) = read_all::<DownlinkMacCommand>(&block);
        prop_assert!(up.len() <= block.len() && down.len() <= block.len());
    }
}
