//! Values that the tests of this crate share.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{CodeRate, DevAddr, DevEui, Key, Modulation};

use crate::transition::{AbpActivation, activate_abp, install};
use crate::{
    AcceptUplink, DeviceSession, Digest, MacProfile, MacVersion, NodeId, PlanDownlink, Sealed,
    SessionEpoch, SessionKeys,
};

pub(crate) const HOME: NodeId = NodeId(1);
pub(crate) const DEV_EUI: DevEui = DevEui::from_be_bytes([2, 2, 3, 4, 5, 6, 7, 8]);
pub(crate) const DEV_ADDR: DevAddr = DevAddr::from_u32(0x0102_0304);

pub(crate) fn bytes(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

pub(crate) fn wall(secs: i64) -> WallTime {
    WallTime::from_unix_secs(1_790_000_000 + secs)
}

pub(crate) fn lora(spreading_factor: u8, bandwidth_khz: u32) -> Modulation {
    let bandwidth_hz = bandwidth_khz * 1_000;
    Modulation::Lora { spreading_factor, bandwidth_hz, code_rate: CodeRate::Cr45 }
}

/// The keys of every published case.
pub(crate) fn case_keys() -> SessionKeys {
    let nwk: Key = "0102030405060708090a0b0c0d0e0f10".parse().unwrap();
    let app: Key = "100f0e0d0c0b0a090807060504030201".parse().unwrap();
    SessionKeys::v1_0(nwk, Some(app))
}

/// A sealing for tests: none at all.
pub(crate) fn sealed(keys: &SessionKeys, nonce: [u8; 24]) -> Sealed {
    Sealed { key_id: 0, nonce, bytes: keys.to_bytes().into() }
}

pub(crate) fn profile(region: &str) -> MacProfile {
    MacProfile {
        region: region.into(),
        mac_version: MacVersion::V1_0_4,
        supports_otaa: true,
        rx1_delay_s: 1,
        rx1_dr_offset: 0,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: None,
        extra_channels_hz: Vec::new(),
        status_requests_per_day: 0,
        confirmed_timeout_s: 0,
    }
}

/// The session of the published cases: next uplink 8, next downlink 5.
pub(crate) fn session(profile: &MacProfile) -> DeviceSession {
    let activation = AbpActivation {
        dev_addr: DEV_ADDR,
        mac_version: profile.mac_version,
        keys: sealed(&case_keys(), [0; 24]),
        f_cnt_up: 8,
        n_f_cnt_down: 5,
        a_f_cnt_down: 0,
        rx1_delay_s: None,
        rx1_dr_offset: None,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: None,
    };
    install(activate_abp(activation, profile).unwrap(), SessionEpoch(1), [])
}

pub(crate) fn uplink(f_cnt: u32, digest: u8) -> AcceptUplink {
    AcceptUplink {
        dev_eui: DEV_EUI,
        session_epoch: SessionEpoch(1),
        f_cnt,
        digest: Digest([digest; 16]),
        home: HOME,
        cursor: None,
        confirmed: false,
        adr: true,
        adr_ack_req: false,
        ack: false,
        class_b: false,
        f_port: Some(1),
        data: Bytes::new(),
        mac_commands: Bytes::new(),
        dr: 2,
        frequency_hz: 868_100_000,
        modulation: lora(10, 125),
        receptions: Vec::new(),
        received_at: wall(0),
        heard_by: None,
    }
}

pub(crate) fn ask(max_payload: u8) -> PlanDownlink {
    PlanDownlink {
        dev_eui: DEV_EUI,
        session_epoch: SessionEpoch(1),
        home: HOME,
        cursor: None,
        a_cursor: None,
        max_payload,
        answers_len: 0,
        uplink_f_cnt: 10,
        number_only: false,
    }
}
