//! US902-928. Source: RP002-1.0.4 §2.5; sub-bands as TTS tables them.

use crate::LrFhssCodeRate::{OneThird, TwoThirds};
use crate::region::{CfListKind, ChMaskCntl, ChannelBlock, ClassB, Region, Rx1Frequency, SubBand};
use crate::region_rate::{down, lora, lr_fhss, up};

/// Beacons, ping slots and RX1 take turns on these.
const DOWNLINK_HZ: [u32; 8] = [
    923_300_000,
    923_900_000,
    924_500_000,
    925_100_000,
    925_700_000,
    926_300_000,
    926_900_000,
    927_500_000,
];

/// What a gateway radiates, in dBm EIRP: below the sub-band's 28.15, and a step that the power
/// tables of the field's gateways have, so that a forwarder which insists on them takes it.
const DOWNLINK_EIRP_DBM: i8 = 26;

/// 902 to 928 MHz: 64 narrow and 8 wide channels up, 8 wide ones down.
pub static US915: Region = Region {
    name: "US915",
    uplink: &[
        ChannelBlock { first_hz: 902_300_000, step_hz: 200_000, count: 64, min_dr: 0, max_dr: 3 },
        ChannelBlock { first_hz: 903_000_000, step_hz: 1_600_000, count: 8, min_dr: 4, max_dr: 6 },
    ],
    downlink: &[ChannelBlock {
        first_hz: DOWNLINK_HZ[0],
        step_hz: 600_000,
        count: 8,
        min_dr: 8,
        max_dr: 13,
    }],
    first_wide_channel: 64,
    ch_mask_cntl: [
        ChMaskCntl::Channels { first: 0 },
        ChMaskCntl::Channels { first: 16 },
        ChMaskCntl::Channels { first: 32 },
        ChMaskCntl::Channels { first: 48 },
        ChMaskCntl::Channels { first: 64 },
        ChMaskCntl::SubBands,
        ChMaskCntl::NarrowOn,
        ChMaskCntl::NarrowOff,
    ],
    cf_list: CfListKind::ChannelMasks,
    data_rates: [
        up(lora(10, 125, 19)),
        up(lora(9, 125, 61)),
        up(lora(8, 125, 133)),
        up(lora(7, 125, 250)),
        up(lora(8, 500, 250)),
        lr_fhss(1523, OneThird, 58),
        lr_fhss(1523, TwoThirds, 133),
        None,
        down(lora(12, 500, 61)),
        down(lora(11, 500, 137)),
        down(lora(10, 500, 250)),
        down(lora(9, 500, 250)),
        down(lora(8, 500, 250)),
        down(lora(7, 500, 250)),
        None,
        None,
    ],
    // DR0 on a narrow channel and DR4 on a wide one, in turn.
    join_data_rates: &[0, 4],
    adr_max_dr: 3,
    rx1_frequency: Rx1Frequency::DownlinkChannel,
    rx1_dr: [
        &[10, 9, 8, 8],
        &[11, 10, 9, 8],
        &[12, 11, 10, 9],
        &[13, 12, 11, 10],
        &[13, 13, 12, 11],
        &[10, 9, 8, 8],
        &[11, 10, 9, 8],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
    ],
    rx1_dr_dwell: None,
    rx2_frequency_hz: 923_300_000,
    rx2_dr: 8,
    max_eirp_dbm: 30,
    tx_power_steps_db: &[0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28],
    tx_param_setup: false,
    sub_bands: &[
        SubBand {
            from_hz: 902_300_000,
            to_hz: 914_900_000,
            duty_cycle_permille: 1_000,
            max_eirp_cdbm: 2315,
            downlink_eirp_dbm: 23,
        },
        SubBand {
            from_hz: 923_300_000,
            to_hz: 927_500_000,
            duty_cycle_permille: 1_000,
            max_eirp_cdbm: 2815,
            downlink_eirp_dbm: DOWNLINK_EIRP_DBM,
        },
    ],
    downlink_eirp_dbm: DOWNLINK_EIRP_DBM,
    class_b: ClassB {
        data_rate: 8,
        beacon_hz: &DOWNLINK_HZ,
        ping_slot_hz: &DOWNLINK_HZ,
        beacon_len: 23,
    },
};
