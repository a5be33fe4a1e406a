//! Facts for the tests of the single properties: one device, one gateway, made histories.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{
    CodeRate, DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, Modulation, TxStatus,
};
use mac::{
    AcceptJoin, AcceptUplink, Digest, MacVersion, NodeId, Reception, RecordTxAck, RequestId,
    Sealed, SessionEpoch,
};
use store::model::Gateway;
use store::{Command, Proposal, Put};

use super::*;
use crate::oracle::{Ciphertext, Event, Fact, Field, Reading, Setting, Transmission};

pub(super) fn device(number: u8) -> DevEui {
    DevEui::from_be_bytes([0, 0, 0, 0, 0, 0, 0, number])
}

pub(super) fn gateway(number: u8) -> GatewayEui {
    GatewayEui::from_be_bytes([0, 0, 0, 0, 0, 0, 1, number])
}

/// 1.0.3 in Europe, and nothing is wrong.
pub(super) const SETTING: Setting = Setting {
    region: &lorawan::EU868,
    nonces_rise: false,
    resets: false,
    rough: false,
    doubtful: false,
    calm: Duration::from_secs(5),
};

pub(super) const ADDRESS: DevAddr = DevAddr::from_u32(0x0100_0001);

/// SF7 on 125 kHz.
pub(super) const SF7: Modulation =
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 };

pub(super) fn reading(f_cnt: u32, payload: &'static str) -> Reading {
    Reading {
        device: device(1),
        dev_addr: ADDRESS,
        f_cnt,
        f_port: Some(10),
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

pub(super) fn event(id: &str, reading: Reading) -> Event {
    Event { id: id.to_owned(), reading }
}

/// RX1 of an uplink on 868.1 MHz.
pub(super) fn transmission() -> Transmission {
    Transmission {
        node: "n1".to_owned(),
        gateway: gateway(1),
        token: 1,
        tmst: Some(1_000_000),
        frequency_hz: 868_100_000,
        power_dbm: 16,
        modulation: SF7,
        airtime: Duration::from_millis(50),
    }
}

/// A gateway hears some frame when its counter is at `tmst`.
pub(super) fn heard_at(gateway: GatewayEui, tmst: u32) -> Fact {
    Fact::Heard { gateway, tmst, device: device(1), reading: None, wants_answer: false, live: true }
}

pub(super) fn uplink_sent(f_cnt: u32, payload: &'static str) -> Fact {
    Fact::UplinkSent { reading: reading(f_cnt, payload), confirmed: true }
}

pub(super) fn join_request(nonce: u16) -> Fact {
    let (join_eui, dev_eui) = (JoinEui::default(), device(1));
    Fact::JoinRequestSent { join_eui, dev_eui, dev_nonce: DevNonce(nonce) }
}

pub(super) fn join_accept(nonce: u16, join_nonce: u32, bytes: &'static [u8]) -> Fact {
    Fact::JoinAcceptHanded {
        how: transmission(),
        join_eui: JoinEui::default(),
        dev_eui: device(1),
        dev_nonce: DevNonce(nonce),
        join_nonce: JoinNonce(join_nonce),
        bytes: Bytes::from_static(bytes),
    }
}

/// A downlink with an application's payload on port 10, or without one.
pub(super) fn downlink(f_cnt: u32, payload: Option<&'static [u8]>) -> Fact {
    Fact::DownlinkHanded {
        how: transmission(),
        device: device(1),
        dev_addr: ADDRESS,
        f_cnt,
        ciphertexts: Vec::new(),
        payload: payload.map(|bytes| (10, Bytes::from_static(bytes))),
        acknowledges: None,
    }
}

/// A downlink of which the bytes matter.
pub(super) fn frame(f_cnt: u32, bytes: &'static [u8]) -> Fact {
    let ciphertext =
        Ciphertext { key: [1; 16], field: Field::Frame, bytes: Bytes::from_static(bytes) };
    Fact::DownlinkHanded {
        how: transmission(),
        device: device(1),
        dev_addr: ADDRESS,
        f_cnt,
        ciphertexts: vec![ciphertext],
        payload: None,
        acknowledges: None,
    }
}

/// A downlink that acknowledges an uplink.
pub(super) fn acknowledgement(f_cnt: u32, reading: Reading) -> Fact {
    Fact::DownlinkHanded {
        how: transmission(),
        device: device(1),
        dev_addr: ADDRESS,
        f_cnt,
        ciphertexts: Vec::new(),
        payload: None,
        acknowledges: Some(reading),
    }
}

/// Numbers of the device granted by an entry, as a node has applied it: home, epoch, range.
pub(super) fn granted_at(node: &str, index: u64, of: (u64, u32, u32, u32)) -> Fact {
    let (home, home_epoch, lo, hi) = of;
    let grant = mac::Grant { home: NodeId(home), home_epoch, lo, hi };
    Fact::Granted { node: node.to_owned(), index, device: device(1), dev_addr: ADDRESS, grant }
}

/// The same, of an entry of its own.
pub(super) fn granted(home: u64, home_epoch: u32, lo: u32, hi: u32) -> Fact {
    granted_at("n1", u64::from(home_epoch), (home, home_epoch, lo, hi))
}

pub(super) fn disk_lost(wiped: bool) -> Fact {
    Fact::DiskLost { node: "n1".to_owned(), wiped }
}

pub(super) fn logged<const N: usize>(index: u64, commands: [Command; N]) -> Fact {
    let proposals = commands.map(|command| Proposal { request: RequestId([0; 16]), command });
    Fact::Logged { node: "n1".to_owned(), index, proposals: proposals.into() }
}

pub(super) fn put_gateway(number: u8) -> Command {
    let value = Gateway {
        gateway_id: gateway(number),
        tenant_id: store::Id::default(),
        name: String::new(),
        description: String::new(),
        location: store::model::Location::default(),
        tags: store::model::Tags::default(),
        metadata: store::model::Tags::default(),
        stats_interval_s: 30,
        antenna_gain_ddbi: 0,
        max_eirp_dbm: None,
        downlink_rf_chain: None,
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    };
    Command::PutGateway(Box::new(Put { must_exist: None, value }))
}

fn heard_by(number: u8) -> Vec<Reception> {
    vec![Reception {
        gateway: gateway(number),
        uplink_id: 1,
        ns_time: WallTime::UNIX_EPOCH,
        gw_time: None,
        gps_micros: None,
        rssi_dbm: -80,
        snr_ddb: 50,
        channel: 0,
        rf_chain: 0,
        antenna: 0,
        tmst: 0,
        crc_ok: true,
    }]
}

/// The proposal to accept a reading that `heard` reports.
pub(super) fn accept_uplink(reading: Reading, heard: u8) -> Command {
    Command::AcceptUplink(Box::new(AcceptUplink {
        dev_eui: reading.device,
        session_epoch: SessionEpoch(1),
        f_cnt: reading.f_cnt,
        digest: Digest([0; 16]),
        home: NodeId(1),
        cursor: None,
        confirmed: true,
        adr: false,
        adr_ack_req: false,
        ack: false,
        class_b: false,
        f_port: reading.f_port,
        data: reading.payload,
        mac_commands: Bytes::new(),
        dr: 5,
        frequency_hz: 868_100_000,
        modulation: SF7,
        receptions: heard_by(heard),
        received_at: WallTime::UNIX_EPOCH,
        heard_by: None,
    }))
}

/// The proposal to accept the request with `nonce` that `heard` reports.
pub(super) fn accept_join(nonce: u16, heard: u8) -> Command {
    Command::AcceptJoin(Box::new(AcceptJoin {
        dev_eui: device(1),
        join_eui: JoinEui::default(),
        dev_nonce: DevNonce(nonce),
        expected_join_nonce: JoinNonce(0),
        dev_addr: ADDRESS,
        mac_version: MacVersion::V1_0_3,
        keys: Sealed { key_id: 1, nonce: [0; 24], bytes: Box::default() },
        rx1_delay_s: 1,
        rx1_dr_offset: 0,
        rx2_dr: 0,
        extra_channels_hz: Vec::new(),
        home: NodeId(1),
        dr: 5,
        frequency_hz: 868_100_000,
        modulation: SF7,
        receptions: heard_by(heard),
        received_at: WallTime::UNIX_EPOCH,
    }))
}

/// The report of what became of a downlink.
pub(super) fn tx_ack(f_cnt_down: u32, status: Option<TxStatus>) -> Command {
    Command::RecordTxAck(RecordTxAck {
        dev_eui: device(1),
        session_epoch: SessionEpoch(1),
        f_cnt_down,
        a_counter: false,
        item_id: None,
        status,
        gateway: gateway(1),
        downlink_id: 1,
        frequency_hz: 868_100_000,
        eirp_dbm: 16,
        modulation: SF7,
        delay_s: 1,
    })
}

/// Feeds a history, a second apart; returns what was violated.
pub(super) fn judge(
    invariant: &mut dyn Invariant,
    history: impl IntoIterator<Item = Fact>,
) -> Vec<String> {
    let at = |second: usize| Duration::from_secs(second as u64);
    let facts = history.into_iter().enumerate();
    facts
        .flat_map(|(second, fact)| invariant.observe(&Seen { at: at(second), fact }))
        .map(|violation| violation.to_string())
        .collect()
}
