//! EU863-870. Source: RP002-1.0.4 §2.4; sub-bands: ERC Recommendation 70-03 as TTS tables them.

use crate::LrFhssCodeRate::{OneThird, TwoThirds};
use crate::region::{CfListKind, ChMaskCntl, ChannelBlock, ClassB, Region, Rx1Frequency, SubBand};
use crate::region_rate::{fsk50, lora, lr_fhss};

/// 865 to 868.6 MHz and around: three default channels, up to sixteen, 1 % duty cycle.
pub static EU868: Region = Region {
    name: "EU868",
    uplink: &[ChannelBlock {
        first_hz: 868_100_000,
        step_hz: 200_000,
        count: 3,
        min_dr: 0,
        max_dr: 5,
    }],
    downlink: &[],
    first_wide_channel: 3,
    ch_mask_cntl: [
        ChMaskCntl::Channels { first: 0 },
        ChMaskCntl::Reserved,
        ChMaskCntl::Reserved,
        ChMaskCntl::Reserved,
        ChMaskCntl::Reserved,
        ChMaskCntl::Reserved,
        ChMaskCntl::AllOn,
        ChMaskCntl::Reserved,
    ],
    cf_list: CfListKind::Frequencies,
    data_rates: [
        lora(12, 125, 59),
        lora(11, 125, 59),
        lora(10, 125, 59),
        lora(9, 125, 123),
        lora(8, 125, 250),
        lora(7, 125, 250),
        lora(7, 250, 250),
        fsk50(250),
        lr_fhss(137, OneThird, 58),
        lr_fhss(137, TwoThirds, 123),
        lr_fhss(336, OneThird, 58),
        lr_fhss(336, TwoThirds, 123),
        None,
        None,
        None,
        None,
    ],
    join_data_rates: &[0, 1, 2, 3, 4, 5],
    adr_max_dr: 5,
    rx1_frequency: Rx1Frequency::Uplink,
    rx1_dr: [
        &[0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0],
        &[3, 2, 1, 0, 0, 0],
        &[4, 3, 2, 1, 0, 0],
        &[5, 4, 3, 2, 1, 0],
        &[6, 5, 4, 3, 2, 1],
        &[7, 6, 5, 4, 3, 2],
        &[1, 0, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0],
        &[2, 1, 0, 0, 0, 0],
        &[],
        &[],
        &[],
        &[],
    ],
    rx1_dr_dwell: None,
    rx2_frequency_hz: 869_525_000,
    rx2_dr: 0,
    max_eirp_dbm: 16,
    tx_power_steps_db: &[0, 2, 4, 6, 8, 10, 12, 14],
    tx_param_setup: false,
    sub_bands: &[
        sub_band(863_000_000, 865_000_000, 1, 1615, 16),
        sub_band(865_000_000, 868_000_000, 10, 1615, 16),
        sub_band(868_000_000, 868_600_000, 10, 1615, 16),
        sub_band(868_700_000, 869_200_000, 1, 1615, 16),
        sub_band(869_400_000, 869_650_000, 100, 2915, 29),
        sub_band(869_700_000, 870_000_000, 10, 1615, 16),
    ],
    downlink_eirp_dbm: 16,
    class_b: ClassB {
        data_rate: 3,
        beacon_hz: &[869_525_000],
        ping_slot_hz: &[869_525_000],
        beacon_len: 17,
    },
};

const fn sub_band(
    from_hz: u32,
    to_hz: u32,
    duty_cycle_permille: u16,
    max_eirp_cdbm: i16,
    downlink_eirp_dbm: i8,
) -> SubBand {
    SubBand { from_hz, to_hz, duty_cycle_permille, max_eirp_cdbm, downlink_eirp_dbm }
}
