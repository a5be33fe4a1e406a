//! The tables against those of two other implementations, where these agree with each other or
//! with the specification; and the masks against the device that obeys them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use crate::*;

/// Our region, TTS' band, and data rates of which lrwn's longest FRMPayload is known to be wrong.
const PEERS: [(&Region, &str, &[u8]); 2] =
    [(&EU868, "EU_863_870/RP002_V1_0_4", &[4]), (&US915, "US_902_928/RP002_V1_0_4", &[])];

fn load(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/");
    let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tts(band: &str) -> Value {
    load("regions_tts.json")[band].clone()
}

/// The name both give a modulation; they differ in how they write LR-FHSS code rates.
fn names(modulation: Modulation) -> [String; 2] {
    match modulation {
        Modulation::Lora { spreading_factor, bandwidth_hz, .. } => {
            let name = format!("SF{spreading_factor}BW{}", bandwidth_hz / 1_000);
            [name.clone(), name]
        }
        Modulation::Fsk { bitrate_bps, .. } => [(); 2].map(|()| format!("FSK{bitrate_bps}")),
        Modulation::LrFhss { channel_width_hz, code_rate } => {
            let width = channel_width_hz / 1_000;
            let (one, other) = match code_rate {
                LrFhssCodeRate::OneThird => ("1/3", "2/6"),
                LrFhssCodeRate::TwoThirds => ("2/3", "4/6"),
            };
            [format!("LRFHSS_OCW{width}_CR{one}"), format!("LRFHSS_OCW{width}_CR{other}")]
        }
    }
}

fn channels(channels: impl Iterator<Item = Channel>) -> Value {
    channels
        .map(|channel| vec![channel.frequency_hz, channel.min_dr.into(), channel.max_dr.into()])
        .collect()
}

#[test]
fn data_rates_agree_with_both() {
    let lrwn = load("regions_lrwn.json");
    for (region, band, wrong_n) in PEERS {
        let (tts, lrwn) = (tts(band), &lrwn[region.name]);
        for dr in 0..16_u8 {
            let theirs = &tts["dr[mod,maxM(no dwell),maxM(dwell)]"][dr.to_string()];
            let others = &lrwn["dr[mod,[M,N],[M,N]repeater]"][dr.to_string()];
            let Some(rate) = region.data_rate(dr) else {
                assert!(theirs.is_null() && others.is_null(), "{} DR{dr}", region.name);
                continue;
            };
            let [name, other_name] = names(rate.modulation);
            let [free, dwell] = rate.max_mac_payload;
            assert_eq!(*theirs, serde_json::json!([name, free, dwell]), "{} DR{dr}", region.name);
            assert_eq!(others[0], other_name);
            let max = region.max_payload(dr, false).unwrap();
            assert_eq!(others[1][0], max.mac_payload);
            let repeater = region.max_payload_repeater(dr, false).unwrap();
            assert_eq!(others[2], serde_json::json!([repeater.mac_payload, repeater.frm_payload]));
            if wrong_n.contains(&dr) {
                assert_eq!((max.frm_payload, &others[1][1]), (242, &serde_json::json!(222)));
            } else {
                assert_eq!(others[1][1], max.frm_payload);
            }
        }
    }
}

#[test]
fn channels_and_windows_agree_with_both() {
    let lrwn = load("regions_lrwn.json");
    for (region, band, _) in PEERS {
        let (tts, lrwn) = (tts(band), &lrwn[region.name]);
        let uplink = channels(region.uplink_channels());
        let downlink = if region.is_fixed_plan() {
            channels(region.downlink_channels())
        } else {
            uplink.clone()
        };
        for theirs in [&tts, lrwn] {
            assert_eq!(theirs["uplink_channels"], uplink);
            assert_eq!(theirs["downlink_channels"], downlink);
        }
        let rx1: Vec<_> = region
            .uplink_channels()
            .map(|c| region.rx1_frequency(c.frequency_hz).unwrap())
            .collect();
        assert_eq!(lrwn["rx1_freqs"], serde_json::json!(rx1));
        assert_eq!(lrwn["defaults"]["rx2_frequency"], region.rx2_frequency_hz);
        assert_eq!(lrwn["defaults"]["rx2_dr"], region.rx2_dr);
        assert_eq!(tts["rx2"], serde_json::json!([region.rx2_frequency_hz, region.rx2_dr]));
        for dr in 0..16_u8 {
            let ours: Vec<_> =
                (0..8).map_while(|offset| region.rx1_dr(dr, offset, false)).collect();
            let same: Vec<_> = (0..8).map_while(|offset| region.rx1_dr(dr, offset, true)).collect();
            assert_eq!(ours, same, "no dwell-time limit here");
            let theirs = &tts["rx1_dr"][format!("{dr}/dwell=false")];
            if ours.is_empty() {
                assert!(theirs.is_null(), "{} DR{dr}", region.name);
            } else {
                assert_eq!(*theirs, serde_json::json!(ours), "{} DR{dr}", region.name);
                assert_eq!(lrwn["rx1_dr"][dr.to_string()], serde_json::json!(ours));
            }
        }
    }
}

#[test]
fn powers_bands_and_class_b_agree_with_both() {
    let lrwn = load("regions_lrwn.json");
    for (region, band, _) in PEERS {
        let (tts, lrwn) = (tts(band), &lrwn[region.name]);
        let steps: Vec<i16> =
            region.tx_power_steps_db.iter().map(|step| -i16::from(*step)).collect();
        assert_eq!(tts["tx_offset"], serde_json::json!(steps));
        let known = lrwn["tx_power_offsets"].as_array().unwrap().len();
        assert_eq!(lrwn["tx_power_offsets"], serde_json::json!(steps[..known]));
        assert_eq!(tts["default_max_eirp"], region.max_eirp_dbm);
        assert_eq!(tts["max_adr_dr"], region.adr_max_dr);
        assert_eq!(tts["cflist_type"], u8::from(region.is_fixed_plan()));
        assert_eq!(tts["tx_param_setup_req"], region.tx_param_setup);
        let bands: Vec<_> = region
            .sub_bands
            .iter()
            .map(|band| {
                (
                    band.from_hz,
                    band.to_hz,
                    f64::from(band.duty_cycle_permille) / 1e3,
                    f64::from(band.max_eirp_cdbm) / 1e2,
                )
            })
            .collect();
        let theirs: Vec<_> = tts["subbands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|band| {
                let number = |name: &str| band[name].as_f64().unwrap();
                let edge = |name: &str| u32::try_from(band[name].as_u64().unwrap()).unwrap();
                (edge("MinFrequency"), edge("MaxFrequency"), number("DutyCycle"), number("MaxEIRP"))
            })
            .collect();
        assert_eq!(bands, theirs);
        assert_eq!(tts["pingslot"], serde_json::json!(region.class_b.ping_slot_hz));
        let freqs = format!("{:?}", region.class_b.beacon_hz).replace(',', "");
        assert_eq!(tts["beacon"], format!("dr={} cr=4/5 freqs={freqs}", region.class_b.data_rate));
        let hops: Vec<_> =
            (0..4).map(|addr| region.ping_slot_frequency(DevAddr::from_u32(addr), 640)).collect();
        assert_eq!(lrwn["pingslot_freq_devaddr0..3_beacon640"], serde_json::json!(hops));
        for band in region.sub_bands {
            assert!(i16::from(band.downlink_eirp_dbm) * 100 <= band.max_eirp_cdbm);
        }
    }
}

#[test]
fn a_data_rate_is_found_by_its_modulation() {
    for region in REGIONS {
        for dr in 0..16 {
            let Some(rate) = region.data_rate(dr) else { continue };
            let found = |direction| region.dr_of(rate.modulation, direction);
            assert_eq!(found(Direction::Up).is_some_and(|seen| seen == dr), rate.up);
            assert_eq!(found(Direction::Down).is_some_and(|seen| seen == dr), rate.down);
        }
    }
    let sf8 =
        Modulation::Lora { spreading_factor: 8, bandwidth_hz: 500_000, code_rate: CodeRate::Cr48 };
    assert_eq!(US915.dr_of(sf8, Direction::Up), Some(4));
    assert_eq!(US915.dr_of(sf8, Direction::Down), Some(12));
    assert_eq!(EU868.dr_of(sf8, Direction::Up), None);
    assert_eq!((EU868.modulation(12), EU868.modulation(255)), (None, None));
    assert_eq!(EU868.rx1_dr(5, 6, false), None, "offset 6 is reserved");
    assert_eq!(EU868.max_payload(12, false), None);
}

#[test]
fn a_region_goes_by_its_name() {
    assert_eq!(Region::from_name("EU868").unwrap().name, "EU868");
    assert_eq!(Region::from_name("us915").unwrap().name, "US915");
    let error = Region::from_name("EU869").unwrap_err();
    assert_eq!(error.to_string(), "region `EU869` is not known; known are EU868, US915");
}

#[test]
fn an_uplink_frequency_names_its_channel() {
    let extra = [(3, 867_100_000), (7, 867_900_000)];
    assert_eq!(EU868.uplink_channel_index(868_500_000, extra), Some(2));
    assert_eq!(EU868.uplink_channel_index(867_900_000, extra), Some(7));
    assert_eq!(EU868.uplink_channel_index(867_900_000, []), None);
    assert_eq!(US915.uplink_channel_index(902_300_000, []), Some(0));
    assert_eq!(US915.uplink_channel_index(904_600_000, []), Some(65));
    assert_eq!(US915.uplink_channel_index(902_400_000, []), None);
    assert_eq!(US915.rx1_frequency(904_600_000), Some(923_900_000));
    assert_eq!(US915.rx1_frequency(902_400_000), None);
    assert_eq!(EU868.rx1_frequency(867_900_000), Some(867_900_000));
    assert_eq!((EU868.uplink_channel_count(), US915.uplink_channel_count()), (3, 72));
}

#[test]
fn a_downlink_is_as_loud_as_its_band_allows() {
    assert_eq!(EU868.downlink_eirp_dbm(868_100_000), 16);
    assert_eq!(EU868.downlink_eirp_dbm(869_525_000), 29);
    assert_eq!(EU868.downlink_eirp_dbm(868_650_000), 16, "between two sub-bands");
    assert_eq!(US915.downlink_eirp_dbm(923_300_000), 26);
    assert_eq!((EU868.uplink_eirp_dbm(7), EU868.uplink_eirp_dbm(8)), (Some(2), None));
    assert_eq!(US915.uplink_eirp_dbm(14), Some(2));
}

#[test]
fn a_cf_list_is_what_the_plan_has() {
    assert_eq!(EU868.cf_list(&[], 0..3), None);
    let five = [867_100_000, 867_300_000, 867_500_000, 867_700_000, 867_900_000];
    assert_eq!(EU868.cf_list(&five, []), Some(CfList::Frequencies(five)));
    assert_eq!(EU868.cf_list(&five[..1], []), Some(CfList::Frequencies([867_100_000, 0, 0, 0, 0])));
    let all = CfList::ChannelMasks([0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0x00FF, 0]);
    assert_eq!(US915.cf_list(&five, 0..72), Some(all));
    let lrwn = load("regions_lrwn.json")["US915"]["cflist_default_1_0_4"].clone();
    let bytes: String = all.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(lrwn, bytes);
}

#[test]
fn channel_texts() {
    let set = |text| parse_channels(text).map(|set| set.into_iter().collect::<Vec<_>>());
    assert_eq!(set("8-15+65").unwrap(), [8, 9, 10, 11, 12, 13, 14, 15, 65]);
    assert_eq!(set(" 0 + 95 ").unwrap(), [0, 95]);
    assert_eq!(set("3-3").unwrap(), [3]);
    for missing in ["", " ", "+", "1+", "1-", "-1", "1++2"] {
        assert_eq!(set(missing), Err(ChannelTextError::Empty), "{missing:?}");
    }
    for wrong in ["96", "256", "a", "1.5", "8-15,65", "0x1", "1-2-3", "99999999999999999999"] {
        assert!(matches!(set(wrong), Err(ChannelTextError::Number(_))), "{wrong:?}");
    }
    assert_eq!(set("7-3"), Err(ChannelTextError::Backwards { first: 7, last: 3 }));
    assert_eq!(set(&"1+".repeat(300)), Err(ChannelTextError::TooLong { seen: 600 }));
}

#[test]
fn the_second_sub_band_of_us915_is_two_masks() {
    let wanted = parse_channels("8-15+65").unwrap();
    let masks = US915.channel_masks(0..72, wanted.clone());
    let mask = |ch_mask_cntl, ch_mask| ChannelMask { ch_mask, ch_mask_cntl };
    assert_eq!(masks, [mask(7, 0x0002), mask(0, 0xFF00)]);
    assert_eq!(US915.channel_masks(wanted.clone(), wanted.clone()), []);
    assert_eq!(US915.channel_masks(wanted.clone(), 0..72), [mask(6, 0x00FF)]);
    let ninth = wanted.iter().copied().chain([16]);
    assert_eq!(US915.channel_masks(wanted.clone(), ninth), [mask(1, 0x0001)]);
    assert_eq!(EU868.channel_masks(0..3, [0, 2]), [mask(0, 0b101)]);
    let all: BTreeSet<u8> = (0..72).collect();
    let by_sub_band = US915.apply_channel_mask(&all, &all, mask(5, 0x0002));
    assert_eq!(by_sub_band, Ok(wanted));
}

#[test]
fn reserved_mask_values_are_refused() {
    let three: BTreeSet<u8> = (0..3).collect();
    let apply = |region: &Region, ch_mask_cntl| {
        region.apply_channel_mask(&three, &three, ChannelMask { ch_mask: 1, ch_mask_cntl })
    };
    for ch_mask_cntl in [1, 2, 3, 4, 5, 7, 8, 255] {
        assert_eq!(apply(&EU868, ch_mask_cntl), Err(ReservedChMaskCntl { ch_mask_cntl }));
    }
    assert_eq!(apply(&EU868, 0), Ok([0].into()));
    assert_eq!(apply(&EU868, 6), Ok(three.clone()));
    assert_eq!(apply(&US915, 8), Err(ReservedChMaskCntl { ch_mask_cntl: 8 }));
}

fn some_of(count: u8) -> impl Strategy<Value = BTreeSet<u8>> {
    // Random sets seldom hold whole banks: half of them are made of runs.
    let scattered = proptest::collection::btree_set(0..count, 0..=usize::from(count));
    let runs = proptest::collection::vec((0..count, 1..40_u8), 0..6).prop_map(move |runs| {
        runs.iter().flat_map(|(first, len)| *first..count.min(first.saturating_add(*len))).collect()
    });
    prop_oneof![scattered, runs]
}

proptest! {
    #[test]
    fn masks_bring_a_device_where_it_should_be(
        us in (some_of(72), some_of(72)),
        eu in (some_of(16), some_of(16)),
    ) {
        for (region, count, (current, wanted)) in [(&US915, 72, us), (&EU868, 16, eu)] {
            let defined: BTreeSet<u8> = (0..count).collect();
            let masks = region.channel_masks(current.clone(), wanted.clone());
            prop_assert!(masks.len() <= usize::from(count.div_ceil(16)));
            let reached = masks.iter().try_fold(current, |enabled, mask| {
                region.apply_channel_mask(&enabled, &defined, *mask)
            });
            prop_assert_eq!(reached, Ok(wanted));
        }
    }
}
