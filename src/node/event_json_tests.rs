//! The JSON of each event, compared with what the field's integrations expect.

use std::sync::Arc;

use bytes::Bytes;
use clock::WallTime;
use lorawan::{CodeRate, DevAddr, Modulation};
use serde_json::json;
use store::Id;

use super::*;

fn device() -> Arc<DeviceInfo> {
    Arc::new(DeviceInfo {
        tenant_id: Id([1; 16]),
        tenant_name: "tenant".into(),
        application_id: Id([2; 16]),
        application_name: "application".into(),
        device_profile_id: Id([3; 16]),
        device_profile_name: "profile".into(),
        device_name: "device".into(),
        dev_eui: "0102030405060708".parse().unwrap(),
        tags: Tags::from([("room".to_owned(), "5".to_owned())]),
        region: "eu868".into(),
    })
}

fn device_json() -> serde_json::Value {
    json!({
        "tenantId": "01010101-0101-0101-0101-010101010101", "tenantName": "tenant",
        "applicationId": "02020202-0202-0202-0202-020202020202", "applicationName": "application",
        "deviceProfileId": "03030303-0303-0303-0303-030303030303",
        "deviceProfileName": "profile", "deviceName": "device", "devEui": "0102030405060708",
        "tags": {"room": "5"},
    })
}

fn row(event: Event) -> EventRow {
    EventRow {
        sequence: 1,
        id: Id([4; 16]),
        time: WallTime::from_unix_micros(1_795_176_000_250_000),
        device: device(),
        event,
    }
}

const LORA: Modulation =
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 };

#[test]
fn an_uplink_has_every_field_that_is_not_a_default() {
    let up = row(Event::Up(Box::new(UpEvent {
        dev_addr: DevAddr::from_be_bytes([1, 2, 3, 4]),
        adr: true,
        dr: 5,
        f_cnt: 10,
        f_port: Some(2),
        confirmed: true,
        data: Bytes::from_static(&[1, 2, 3]),
        receptions: vec![Reception {
            gateway: "0807060504030201".parse().unwrap(),
            uplink_id: 7,
            ns_time: WallTime::from_unix_micros(1_795_176_000_500_000),
            gw_time: Some(WallTime::from_unix_secs(1_795_176_000)),
            gps_micros: Some(1_355_270_213_636_000),
            rssi_dbm: -55,
            snr_ddb: -72,
            channel: 1,
            rf_chain: 1,
            antenna: 0,
            tmst: 1_000_000,
            crc_ok: true,
        }],
        frequency_hz: 868_100_000,
        modulation: LORA,
        late: false,
    })));
    let (topic, payload) = topic_and_json(&up);
    assert_eq!(
        topic,
        "application/02020202-0202-0202-0202-020202020202/device/0102030405060708/event/up"
    );
    let seen: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(
        seen,
        json!({
            "deduplicationId": "04040404-0404-0404-0404-040404040404",
            "time": "2026-11-20T12:00:00.250Z",
            "deviceInfo": device_json(),
            "devAddr": "01020304", "adr": true, "dr": 5, "fCnt": 10, "fPort": 2,
            "confirmed": true, "data": "AQID",
            "rxInfo": [{
                "gatewayId": "0807060504030201", "uplinkId": 7,
                "gwTime": "2026-11-20T12:00:00Z", "nsTime": "2026-11-20T12:00:00.500Z",
                "timeSinceGpsEpoch": "1355270213.636s", "rssi": -55, "snr": -7.2,
                "channel": 1, "rfChain": 1, "context": "AA9CQA==", "crcStatus": "CRC_OK",
            }],
            "txInfo": {"frequency": 868_100_000, "modulation": {"lora": {
                "bandwidth": 125_000, "spreadingFactor": 7, "codeRate": "CR_4_5"}}},
            "regionConfigId": "eu868",
        })
    );
}

#[test]
fn defaults_are_left_out() {
    let up = row(Event::Up(Box::new(UpEvent {
        dev_addr: DevAddr::default(),
        adr: false,
        dr: 0,
        f_cnt: 0,
        f_port: None,
        confirmed: false,
        data: Bytes::new(),
        receptions: Vec::new(),
        frequency_hz: 868_100_000,
        modulation: Modulation::Fsk { bitrate_bps: 50_000, deviation_hz: 0 },
        late: false,
    })));
    assert_eq!(
        body(&up),
        json!({
            "deduplicationId": "04040404-0404-0404-0404-040404040404",
            "time": "2026-11-20T12:00:00.250Z", "deviceInfo": device_json(),
            "devAddr": "00000000", "regionConfigId": "eu868",
            "txInfo": {"frequency": 868_100_000, "modulation": {"fsk": {"datarate": 50_000}}},
        })
    );
}

#[test]
fn a_status_counts_the_charge_in_single_precision() {
    let status = |battery| body(&row(Event::Status { margin_db: 10, battery }));
    let charged = status(128);
    assert_eq!(charged["margin"], 10);
    assert_eq!(charged["batteryLevel"], 50.393_699_645_996_094);
    assert_eq!(charged.get("externalPowerSource"), None);
    assert_eq!(status(254)["batteryLevel"], 100.0);
    let powered = status(0);
    assert_eq!(powered["externalPowerSource"], true);
    assert_eq!(powered.get("batteryLevel"), None);
    let unknown = status(255);
    assert_eq!(unknown["batteryLevelUnavailable"], true);
    assert_eq!(unknown.get("batteryLevel"), None);
}

#[test]
fn an_acknowledgement_and_a_join_say_what_they_are_about() {
    let ack = Event::Ack { queue_item_id: Id([5; 16]), acknowledged: true, f_cnt_down: 12 };
    let ack = body(&row(ack));
    assert_eq!(ack["queueItemId"], "05050505-0505-0505-0505-050505050505");
    assert_eq!(ack["acknowledged"], true);
    assert_eq!(ack["fCntDown"], 12);
    let join = body(&row(Event::Join { dev_addr: DevAddr::from_be_bytes([0, 0x12, 0, 1]) }));
    assert_eq!(join["devAddr"], "00120001");
    assert_eq!(join["regionConfigId"], "eu868");
}

#[test]
fn a_transmission_is_reported_as_the_gateway_sent_it() {
    let sent = row(Event::TxAck(TxAckEvent {
        downlink_id: 99,
        queue_item_id: None,
        f_cnt_down: 3,
        gateway: "0807060504030201".parse().unwrap(),
        frequency_hz: 868_100_000,
        eirp_dbm: 14,
        modulation: LORA,
        delay_s: 1,
    }));
    assert_eq!(
        body(&sent),
        json!({
            "downlinkId": 99, "time": "2026-11-20T12:00:00.250Z", "deviceInfo": device_json(),
            "fCntDown": 3, "gatewayId": "0807060504030201",
            "txInfo": {
                "frequency": 868_100_000, "power": 14,
                "modulation": {"lora": {"bandwidth": 125_000, "spreadingFactor": 7,
                    "codeRate": "CR_4_5", "polarizationInversion": true}},
                "timing": {"delay": {"delay": "1s"}},
            },
        })
    );
}

#[test]
fn a_log_event_leaves_out_what_is_default() {
    let log = |level, code| {
        let context = Tags::from([("devNonce".to_owned(), "7".to_owned())]);
        body(&row(Event::Log { level, code, description: "text".into(), context }))
    };
    assert_eq!(
        log(LogLevel::Error, LogCode::DownlinkPayloadSize),
        json!({
            "time": "2026-11-20T12:00:00.250Z", "deviceInfo": device_json(),
            "level": "ERROR", "code": "DOWNLINK_PAYLOAD_SIZE", "description": "text",
            "context": {"devNonce": "7"},
        })
    );
    let quiet = log(LogLevel::Info, LogCode::Unknown);
    assert_eq!((quiet.get("level"), quiet.get("code")), (None, None));
    let none = Tags::new();
    let own = log_event(
        WallTime::from_unix_secs(0),
        &device(),
        LogLevel::Warning,
        LogCode::UplinkMic,
        "MIC wrong",
        &none,
    );
    let own: serde_json::Value = serde_json::from_slice(&own.1).unwrap();
    assert_eq!((&own["code"], own.get("context")), (&json!("UPLINK_MIC"), None));
}
