//! The codec against what real forwarders write, and against what nobody should.

use bytes::Bytes;
use clock::{GpsTime, WallTime};
use lorawan::{CodeRate, CrcStatus, GatewayEui, LrFhssCodeRate, Modulation, TxStatus};
use proptest::prelude::*;

use crate::semtech::{
    AckKind, DATAGRAM_LEN_MAX, DatagramError, Downward, Head, PushData, RXPK_MAX, Rxpk, RxpkError,
    Stat, TxReply, TxTiming, Txpk, TxpkError, Upward, Version, encode_ack, encode_pull_data,
    parse_downward, parse_upward,
};

const EUI: [u8; 8] = [0xAA, 0x55, 0x5A, 0, 0, 0, 1, 1];
/// As lora_pkt_fwd 4.0.1 writes it.
const RXPK: &str = concat!(
    r#"{"tmst":3512348611,"chan":2,"rfch":1,"freq":866.349812,"stat":1,"modu":"LORA","#,
    r#""datr":"SF7BW125","codr":"4/6","lsnr":5.1,"rssi":-35,"size":4,"data":"AQIDBA=="}"#
);

fn head() -> Head {
    Head { version: Version::V2, token: 0x1234, gateway: GatewayEui::from_be_bytes(EUI) }
}

fn datagram(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0x12, 0x34, kind];
    bytes.extend_from_slice(&EUI);
    bytes.extend_from_slice(body);
    bytes
}

fn push(json: &str) -> Result<PushData, DatagramError> {
    match parse_upward(&datagram(0x00, json.as_bytes()))? {
        Upward::PushData(seen, push) => {
            assert_eq!(seen, head());
            Ok(push)
        }
        other @ (Upward::PullData(_) | Upward::TxAck(..)) => panic!("{other:?}"),
    }
}

/// One rxpk, as given but for one replacement.
fn rxpk_with(from: &str, to: &str) -> Result<Rxpk, RxpkError> {
    assert!(RXPK.contains(from), "{from} is in the sample");
    one(&RXPK.replace(from, to))
}

fn one(rxpk: &str) -> Result<Rxpk, RxpkError> {
    // A sound frame behind it must always survive.
    let mut push = push(&format!(r#"{{"rxpk":[{rxpk},{RXPK}]}}"#)).unwrap();
    let last = push.rxpks.pop().unwrap();
    assert_eq!(last.tmst, 3_512_348_611);
    match push.refused.pop() {
        Some(error) => Err(error),
        None => Ok(push.rxpks.pop().unwrap()),
    }
}

#[test]
fn a_frame_as_the_reference_forwarder_writes_it() {
    let rxpk = one(RXPK).unwrap();
    let expected = Rxpk {
        phy_payload: Bytes::from_static(&[1, 2, 3, 4]),
        gateway_time: None,
        gps_time: None,
        frequency_hz: 866_349_812,
        modulation: Modulation::Lora {
            spreading_factor: 7,
            bandwidth_hz: 125_000,
            code_rate: CodeRate::Cr46,
        },
        rssi_dbm: -35,
        snr_ddb: 51,
        channel: 2,
        rf_chain: 1,
        antenna: 0,
        tmst: 3_512_348_611,
        crc: CrcStatus::Ok,
    };
    assert_eq!(rxpk, expected);
    // Written back, it is the very text.
    let written = PushData { rxpks: vec![expected], ..PushData::default() }.encode(head());
    assert_eq!(written, datagram(0x00, format!(r#"{{"rxpk":[{RXPK}]}}"#).as_bytes()));
}

#[test]
fn what_forwarders_leave_out_or_add_does_not_matter() {
    let bare = r#"{"tmst":7,"freq":868.1,"datr":"SF12BW125","rssi":-120.4,"lsnr":-20.25,
        "data":"AQIDBA"}"#;
    let rxpk = one(bare).unwrap();
    assert_eq!((rxpk.tmst, rxpk.rssi_dbm, rxpk.snr_ddb), (7, -120, -203));
    assert_eq!((rxpk.crc, rxpk.channel, rxpk.rf_chain), (CrcStatus::None, 0, 0));
    assert_eq!(rxpk.phy_payload.as_ref(), [1, 2, 3, 4]);

    let more = RXPK.replace(
        r#""chan""#,
        r#""jver":1,"rssis":-36,"foff":-1200,"mid":8,"brd":[{"x":{}}],"codr2":null,"chan""#,
    );
    assert_eq!(one(&more), one(RXPK));
    assert_eq!(rxpk_with("AQIDBA==", "AQIDBA"), one(RXPK));
    assert_eq!(rxpk_with("AQIDBA==", "AQIDBA="), one(RXPK));
    assert_eq!(rxpk_with(r#","chan":2"#, r#","chan":null"#).unwrap().channel, 0);

    let timed = rxpk_with(
        r#""chan""#,
        r#""time":"2013-03-31T16:21:17.528002Z","tmms":1048771293528,"chan""#,
    )
    .unwrap();
    let time: WallTime = "2013-03-31T16:21:17.528002Z".parse().unwrap();
    assert_eq!(timed.gateway_time, Some(time));
    assert_eq!(timed.gps_time, Some(GpsTime::from_micros(1_048_771_293_528_000)));
    assert_eq!(rxpk_with(r#""chan""#, r#""time":"soon","chan""#), one(RXPK));
}

#[test]
fn fsk_has_a_number_for_a_data_rate_and_neither_code_rate_nor_snr() {
    let fsk = r#"{"tmst":1,"chan":8,"rfch":0,"freq":868.8,"stat":1,"modu":"FSK","datr":50000,
        "rssi":-75,"size":4,"data":"AQIDBA=="}"#;
    let rxpk = one(fsk).unwrap();
    assert_eq!(rxpk.modulation, Modulation::Fsk { bitrate_bps: 50_000, deviation_hz: 25_000 });
    assert_eq!((rxpk.snr_ddb, rxpk.rssi_dbm), (0, -75));
}

#[test]
fn lr_fhss_names_its_channel_width() {
    let fhss = r#"{"tmst":1,"freq":867.5,"stat":1,"modu":"LR-FHSS","datr":"M0CW336","codr":"4/6",
        "hpw":8,"rssi":-75,"size":4,"data":"AQIDBA=="}"#;
    let modulation =
        Modulation::LrFhss { channel_width_hz: 336_000, code_rate: LrFhssCodeRate::TwoThirds };
    assert_eq!(one(fhss).unwrap().modulation, modulation);
    let written = PushData { rxpks: vec![one(fhss).unwrap()], ..PushData::default() };
    let read = parse_upward(&written.encode(head()));
    assert_eq!(read, Ok(Upward::PushData(head(), written)));
}

#[test]
fn of_several_antennas_the_best_signal_counts() {
    let rsig = RXPK.replace(
        r#""lsnr":5.1,"rssi":-35"#,
        r#""rsig":[{"ant":0,"chan":7,"lsnr":-3,"rssic":-80},
            {"ant":1,"chan":23,"lsnr":9.5,"rssic":-70,"etime":"x"},
            {"ant":2,"chan":9,"lsnr":9.5,"rssic":-71},{"ant":3}]"#,
    );
    let rxpk = one(&rsig).unwrap();
    assert_eq!((rxpk.antenna, rxpk.channel, rxpk.snr_ddb, rxpk.rssi_dbm), (1, 23, 95, -70));
    let none = RXPK.replace(r#""lsnr":5.1,"rssi":-35"#, r#""rsig":[{"ant":3}]"#);
    assert_eq!(one(&none), Err(RxpkError::Signal));
}

#[test]
fn a_bad_frame_is_refused_alone_and_for_a_reason() {
    let long = "A".repeat(348);
    let table: &[(&str, &str, &str)] = &[
        (r#""stat":1"#, r#""stat":-1"#, "crc_bad"),
        (r#""stat":1"#, r#""stat":2"#, "stat"),
        (r#""stat":1"#, r#""stat":"ok""#, "fields"),
        (r#""stat":1"#, r#""stat":1,"stat":1"#, "fields"),
        (r#""size":4"#, r#""size":4,"size":4"#, "fields"),
        (r#""tmst":3512348611,"#, "", "fields"),
        ("3512348611", "4294967296", "fields"),
        ("3512348611", "-1", "fields"),
        ("3512348611", "1e3", "fields"),
        ("866.349812", "1e999", "fields"),
        ("866.349812", "-866.3", "frequency"),
        ("866.349812", "866349812", "frequency"),
        ("866.349812", "0", "frequency"),
        (r#""SF7BW125""#, r#""SF13BW125""#, "modulation"),
        (r#""SF7BW125""#, r#""SF7BW126""#, "modulation"),
        (r#""SF7BW125""#, r#""SF+7BW125""#, "modulation"),
        (r#""SF7BW125""#, r#""SFBW""#, "modulation"),
        (r#""SF7BW125""#, r#""M0CW137""#, "modulation"),
        (r#""SF7BW125""#, "50000", "modulation"),
        (r#""SF7BW125""#, "{}", "modulation"),
        (r#""LORA""#, r#""LR-FHSS""#, "modulation"),
        (r#""LORA","datr":"SF7BW125""#, r#""LR-FHSS","datr":"M0CW138""#, "modulation"),
        (r#""LORA","datr":"SF7BW125""#, r#""LR-FHSS","datr":"M1CW137""#, "modulation"),
        (r#""LORA""#, r#""lora""#, "modulation"),
        (r#""LORA""#, r#""FSK""#, "modulation"),
        (r#""4/6""#, r#""OFF""#, "modulation"),
        (r#""lsnr":5.1,"#, "", "signal"),
        (r#""rssi":-35,"#, "", "signal"),
        ("-35", "-3500", "signal"),
        ("5.1", "1e300", "signal"),
        (r#""chan":2"#, r#""chan":256"#, "fields"),
        (r#""chan""#, r#""tmms":18446744073709551615,"chan""#, "gps_time"),
        (r#""size":4"#, r#""size":5"#, "size"),
        (r#""size":4"#, r#""size":18446744073709551615"#, "size"),
        ("AQIDBA==", "AQID*A==", "base64"),
        ("AQIDBA==", "A", "base64"),
        ("AQIDBA==", "", "payload_length"),
        ("AQIDBA==", &long, "payload_length"),
        (r#""AQIDBA==""#, "[1,2,3,4]", "fields"),
    ];
    for (from, to, reason) in table {
        let error = rxpk_with(from, to).expect_err(to);
        assert_eq!(error.reason(), *reason, "{from} -> {to}: {error}");
    }
    assert_eq!(one("[]").unwrap_err().reason(), "fields");
    assert_eq!(one("null").unwrap_err().reason(), "fields");
}

#[test]
fn size_and_payload_limits_are_exact() {
    let text = |len: usize| {
        let payload = Bytes::from(vec![0xA5; len]);
        let rxpk = Rxpk { phy_payload: payload, ..one(RXPK).unwrap() };
        let bytes = PushData { rxpks: vec![rxpk], ..PushData::default() }.encode(head());
        let Ok(Upward::PushData(_, push)) = parse_upward(&bytes) else { panic!("{bytes:?}") };
        push
    };
    assert_eq!(text(255).rxpks[0].phy_payload.len(), 255);
    assert_eq!(text(256).refused, [RxpkError::PayloadLength(256)]);
}

#[test]
fn hostile_bodies_are_refused_whole() {
    let nested = |depth: usize| format!(r#"{{"x":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let table: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "json"),
        (b"{".to_vec(), "json"),
        (b"{}".to_vec(), "empty"),
        (b"[]".to_vec(), "shape"),
        (b"null".to_vec(), "shape"),
        (br#"[[],{}]"#.to_vec(), "shape"),
        (br#"{"rxpk":null}"#.to_vec(), "empty"),
        (br#"{"rxpk":{}}"#.to_vec(), "shape"),
        (br#"{"rxpk":[],"rxpk":[]}"#.to_vec(), "shape"),
        (br#"{"rxpk":[{"tmst":NaN}]}"#.to_vec(), "json"),
        (br#"{"rxpk":[]} x"#.to_vec(), "json"),
        (b"{\"rxpk\":[\xFF]}".to_vec(), "utf8"),
        (b"\xEF\xBB\xBF{\"rxpk\":[]}".to_vec(), "byte_order_mark"),
        (nested(16).into_bytes(), "nesting"),
        (nested(30_000).into_bytes(), "nesting"),
        (vec![b'['; DATAGRAM_LEN_MAX - 12], "nesting"),
        (vec![b'"'; DATAGRAM_LEN_MAX - 12], "shape"),
        (vec![b' '; DATAGRAM_LEN_MAX - 11], "too_long"),
    ];
    for (body, reason) in table {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let error = parse_upward(&datagram(0x00, &body)).expect_err(&shown);
        assert_eq!(error.reason(), reason, "{shown}: {error}");
        assert!(error.to_string().len() < 300, "{shown}");
    }
    assert_eq!(push(&nested(15)).unwrap_err(), DatagramError::Empty);
    // Brackets in a string are no nesting, an escaped quote ends none.
    let text = format!(r#"{{"stat":{{}},"x":"\"{}"}}"#, "[".repeat(100));
    assert_eq!(push(&text).unwrap().stat, Some(Stat::default()));
    assert_eq!(push("{\"rxpk\":[]}\0").unwrap(), PushData::default());
}

#[test]
fn hostile_heads_are_refused() {
    let with = |position: usize, byte: u8| {
        let mut bytes = datagram(0x02, b"");
        bytes[position] = byte;
        bytes
    };
    for len in 0..12 {
        let error = parse_upward(&datagram(0x02, b"")[..len]).unwrap_err();
        assert_eq!(error, DatagramError::TooShort { len });
    }
    assert_eq!(parse_upward(&with(0, 0)).unwrap_err(), DatagramError::Version(0));
    assert_eq!(parse_upward(&with(0, 3)).unwrap_err(), DatagramError::Version(3));
    for kind in [0x01, 0x03, 0x04, 0x06, 0xFF] {
        assert_eq!(parse_upward(&with(3, kind)).unwrap_err(), DatagramError::Kind(kind));
    }
    for fill in [0x00, 0xFF] {
        let mut bytes = datagram(0x02, b"");
        bytes[4..].fill(fill);
        assert_eq!(parse_upward(&bytes).unwrap_err().reason(), "gateway_eui");
    }
    assert_eq!(parse_upward(&datagram(0x02, b"x")), Err(DatagramError::TooLong { len: 13 }));
    let Ok(Upward::PullData(seen)) = parse_upward(&with(0, 1)) else { panic!("version 1 is read") };
    assert_eq!(seen, Head { version: Version::V1, ..head() });
}

#[test]
fn no_more_frames_are_looked_at_than_a_forwarder_sends() {
    let frames = |count: usize| format!(r#"{{"rxpk":[{}]}}"#, vec![RXPK; count].join(","));
    let push_of = |count: usize| push(&frames(count)).unwrap();
    assert_eq!(push_of(RXPK_MAX).rxpks.len(), RXPK_MAX);
    assert!(push_of(RXPK_MAX).refused.is_empty());
    let over = push_of(RXPK_MAX + 20);
    assert_eq!((over.rxpks.len(), over.refused), (RXPK_MAX, vec![RxpkError::TooMany]));
    let tiny = format!(r#"{{"rxpk":[{}]}}"#, vec!["0"; 30_000].join(","));
    assert_eq!(push(&tiny).unwrap().refused.len(), RXPK_MAX + 1);
}

#[test]
fn statistics_stand_alone_or_beside_frames() {
    let json = concat!(
        r#"{"time":"2014-01-12 08:59:28 GMT","lati":46.24000,"long":3.25230,"alti":145,"#,
        r#""rxnb":2,"rxok":2,"rxfw":1,"ackr":99.5,"dwnb":3,"txnb":1}"#
    );
    let stat = push(&format!(r#"{{"stat":{json}}}"#)).unwrap().stat.unwrap();
    assert_eq!(stat.time, Some("2014-01-12T08:59:28Z".parse().unwrap()));
    assert_eq!((stat.latitude_deg, stat.longitude_deg), (Some(46.24), Some(3.2523)));
    assert_eq!((stat.altitude_m, stat.acknowledged_permille), (Some(145), Some(995)));
    assert_eq!((stat.rx_forwarded, stat.downlinks_received), (Some(1), Some(3)));
    let written = PushData { stat: Some(stat.clone()), ..PushData::default() }.encode(head());
    assert_eq!(written, datagram(0x00, format!(r#"{{"stat":{json}}}"#).as_bytes()));

    let both = push(&format!(r#"{{"rxpk":[{RXPK}],"stat":{json}}}"#)).unwrap();
    assert_eq!((both.rxpks.len(), both.stat), (1, Some(stat)));
    let odd = push(r#"{"stat":{"lati":91,"ackr":120.0,"time":"never","temp":21.5}}"#).unwrap();
    assert_eq!(odd.stat, Some(Stat::default()));
    let bad = push(&format!(r#"{{"rxpk":[{RXPK}],"stat":{{"rxnb":-1}}}}"#)).unwrap();
    assert_eq!(bad.rxpks.len(), 1);
    assert_eq!(bad.stat_refused.unwrap().reason(), "shape");
}

#[test]
fn every_form_of_tx_ack_reads() {
    let reply = |body: &[u8]| match parse_upward(&datagram(0x05, body)) {
        Ok(Upward::TxAck(seen, reply)) => {
            assert_eq!(seen.token, 0x1234);
            Ok(reply)
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.reason()),
    };
    let failed = |status| Ok(TxReply { status, power_used_dbm: None });
    assert_eq!(reply(b""), Ok(TxReply::OK));
    assert_eq!(reply(b"\0"), Ok(TxReply::OK));
    assert_eq!(reply(br#"{"txpk_ack":{}}"#), Ok(TxReply::OK));
    assert_eq!(reply(br#"{"txpk_ack":{"error":"NONE"}}"#), Ok(TxReply::OK));
    let names = [
        ("TOO_LATE", TxStatus::TooLate),
        ("TOO_EARLY", TxStatus::TooEarly),
        ("COLLISION_PACKET", TxStatus::CollisionPacket),
        ("COLLISION_BEACON", TxStatus::CollisionBeacon),
        ("TX_FREQ", TxStatus::TxFreq),
        ("TX_POWER", TxStatus::TxPower),
        ("GPS_UNLOCKED", TxStatus::GpsUnlocked),
        ("QUEUE_FULL", TxStatus::QueueFull),
        ("UNKNOWN", TxStatus::InternalError),
        ("WHATEVER", TxStatus::InternalError),
    ];
    for (name, status) in names {
        let body = format!(r#"{{"txpk_ack":{{"error":"{name}"}}}}"#);
        assert_eq!(reply(body.as_bytes()), failed(status), "{name}");
        if name != "WHATEVER" {
            let encoded = TxReply { status, power_used_dbm: None }.encode(head());
            assert_eq!(encoded, datagram(0x05, body.as_bytes()));
        }
    }
    let warned = TxReply { status: TxStatus::Ok, power_used_dbm: Some(20) };
    assert_eq!(reply(br#"{"txpk_ack":{"warn":"TX_POWER","value":20}}"#), Ok(warned));
    assert_eq!(reply(br#"{"txpk_ack":{"error":"NONE","warn":"TX_POWER","value":20}}"#), Ok(warned));
    assert_eq!(parse_upward(&warned.encode(head())), Ok(Upward::TxAck(head(), warned)));
    assert_eq!(TxReply::OK.encode(head()), datagram(0x05, b""));
    for (body, reason) in [
        (&b"{"[..], "json"),
        (b"{}", "shape"),
        (br#"{"txpk_ack":null}"#, "shape"),
        (br#"{"txpk_ack":{"error":1}}"#, "shape"),
        (br#"{"txpk_ack":{"error":"NONE","error":"TOO_LATE"}}"#, "shape"),
    ] {
        assert_eq!(reply(body), Err(reason), "{}", String::from_utf8_lossy(body));
    }
}

fn txpk() -> Txpk {
    Txpk {
        timing: TxTiming::Counter(5_000_000),
        frequency_hz: 869_525_000,
        rf_chain: 0,
        antenna: 0,
        power_dbm: 27,
        modulation: Modulation::Lora {
            spreading_factor: 12,
            bandwidth_hz: 125_000,
            code_rate: CodeRate::Cr45,
        },
        inverted_polarity: true,
        no_crc: true,
        phy_payload: Bytes::from_static(&[0x60, 1, 2, 3]),
    }
}

#[test]
fn a_downlink_is_written_as_forwarders_read_it() {
    let expected = concat!(
        r#"{"txpk":{"imme":false,"tmst":5000000,"freq":869.525000,"rfch":0,"powe":27,"#,
        r#""modu":"LORA","datr":"SF12BW125","codr":"4/5","ipol":true,"ncrc":true,"size":4,"#,
        r#""data":"YAECAw=="}}"#
    );
    let bytes = txpk().encode(Version::V2, 0xBEEF);
    assert_eq!(bytes[..4], [2, 0xBE, 0xEF, 0x03]);
    assert_eq!(core::str::from_utf8(&bytes[4..]), Ok(expected));

    let fsk = Txpk {
        timing: TxTiming::Immediately,
        antenna: 1,
        modulation: Modulation::Fsk { bitrate_bps: 50_000, deviation_hz: 25_000 },
        ..txpk()
    };
    let expected = concat!(
        r#"{"txpk":{"imme":true,"freq":869.525000,"rfch":0,"ant":1,"powe":27,"modu":"FSK","#,
        r#""datr":50000,"fdev":25000,"ipol":true,"ncrc":true,"size":4,"data":"YAECAw=="}}"#
    );
    assert_eq!(core::str::from_utf8(&fsk.encode(Version::V1, 1)[4..]), Ok(expected));
}

#[test]
fn a_downlink_that_cannot_be_sent_says_why() {
    let sample = String::from_utf8(txpk().encode(Version::V2, 1)[4..].to_vec()).unwrap();
    let read = |from: &str, to: &str| {
        assert!(sample.contains(from), "{from}");
        let mut bytes = vec![2, 0, 1, 3];
        bytes.extend_from_slice(sample.replace(from, to).as_bytes());
        parse_downward(&bytes)
    };
    let fault = |from, to| match read(from, to) {
        Err(DatagramError::Txpk(error)) => error,
        other => panic!("{from} -> {to}: {other:?}"),
    };
    assert_eq!(fault(r#","tmst":5000000"#, ""), TxpkError::Timing);
    assert_eq!(fault(r#","codr":"4/5""#, ""), TxpkError::Modulation);
    assert_eq!(fault(r#""size":4"#, r#""size":3"#), TxpkError::Size { told: 3, seen: 4 });
    assert_eq!(fault("27", "1000"), TxpkError::Power);
    assert_eq!(fault("869.525000", "8"), TxpkError::Frequency("8e0".into()));
    assert_eq!(read(r#""rfch":0,"#, "").unwrap_err().reason(), "shape");
    assert_eq!(read(r#""data":"YAECAw==""#, r#""x":1"#).unwrap_err().reason(), "shape");
    let Ok(Downward::PullResp { txpk: bare, .. }) = read(r#","ncrc":true"#, "") else { panic!() };
    assert!(!bare.no_crc, "a forwarder adds a checksum unless told");
    let Ok(Downward::PullResp { txpk: first, .. }) = read(r#""imme":false"#, r#""imme":true"#)
    else {
        panic!()
    };
    assert_eq!(first.timing, TxTiming::Immediately, "imme comes before tmst");
}

#[test]
fn acknowledgements_echo_version_and_token() {
    assert_eq!(encode_ack(AckKind::Push, Version::V2, 0x1234), [2, 0x12, 0x34, 1]);
    assert_eq!(encode_ack(AckKind::Pull, Version::V1, 0x1234), [1, 0x12, 0x34, 4]);
    assert_eq!(parse_downward(&[2, 0x12, 0x34, 1]), Ok(Downward::PushAck { token: 0x1234 }));
    assert_eq!(parse_downward(&[2, 0x12, 0x34, 4]), Ok(Downward::PullAck { token: 0x1234 }));
    assert_eq!(parse_downward(&[2, 0, 0, 1, 0]), Err(DatagramError::TooLong { len: 5 }));
    assert_eq!(parse_downward(&[2, 0, 0]), Err(DatagramError::TooShort { len: 3 }));
    assert_eq!(parse_downward(&[2, 0, 0, 0]), Err(DatagramError::Kind(0)));
    assert_eq!(encode_pull_data(head()), datagram(0x02, b""));
}

fn modulations() -> impl Strategy<Value = Modulation> {
    let rates = [CodeRate::Cr45, CodeRate::Cr46, CodeRate::Cr47, CodeRate::Cr48];
    let widths = [125_000, 250_000, 500_000, 203_125, 406_250, 812_500, 1_625_000];
    let lora = (
        5_u8..=12,
        proptest::sample::select(widths.to_vec()),
        proptest::sample::select(rates.to_vec()),
    )
        .prop_map(|(spreading_factor, bandwidth_hz, code_rate)| Modulation::Lora {
            spreading_factor,
            bandwidth_hz,
            code_rate,
        });
    let fsk = (500_u32..=300_000)
        .prop_map(|bitrate_bps| Modulation::Fsk { bitrate_bps, deviation_hz: bitrate_bps / 2 });
    prop_oneof![lora, fsk]
}

fn payloads() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 1..=255).prop_map(Bytes::from)
}

proptest! {
    #[test]
    fn every_frame_round_trips(
        phy_payload in payloads(),
        modulation in modulations(),
        frequency_hz in 100_000_000_u32..=2_600_000_000,
        tmst: u32,
        (rssi_dbm, snr) in (-300_i16..=100, -1_000_i16..=1_000),
        (channel, rf_chain, antenna) in any::<(u8, u8, u8)>(),
        gps_millis in proptest::option::of(0_u64..=4_000_000_000_000),
        unix_micros in proptest::option::of(0_i64..=4_000_000_000_000_000),
    ) {
        let is_lora = matches!(modulation, Modulation::Lora { .. });
        let rxpk = Rxpk {
            phy_payload,
            gateway_time: unix_micros.map(WallTime::from_unix_micros),
            gps_time: gps_millis.map(|millis| GpsTime::from_micros(millis * 1_000)),
            frequency_hz,
            modulation,
            rssi_dbm,
            snr_ddb: if is_lora { snr } else { 0 },
            channel,
            rf_chain,
            antenna,
            tmst,
            crc: CrcStatus::Ok,
        };
        let push = PushData { rxpks: vec![rxpk], ..PushData::default() };
        prop_assert_eq!(parse_upward(&push.encode(head())), Ok(Upward::PushData(head(), push)));
    }

    #[test]
    fn every_downlink_round_trips(
        phy_payload in payloads(),
        modulation in modulations(),
        frequency_hz in 100_000_000_u32..=2_600_000_000,
        power_dbm in -100_i8..=100,
        (rf_chain, antenna, token) in any::<(u8, u8, u16)>(),
        timing in prop_oneof![
            Just(TxTiming::Immediately),
            any::<u32>().prop_map(TxTiming::Counter),
            (0_u64..=4_000_000_000_000)
                .prop_map(|millis| TxTiming::Gps(GpsTime::from_micros(millis * 1_000))),
        ],
        (inverted_polarity, no_crc) in any::<(bool, bool)>(),
    ) {
        let txpk = Txpk {
            timing, frequency_hz, rf_chain, antenna, power_dbm, modulation,
            inverted_polarity, no_crc, phy_payload,
        };
        let bytes = txpk.encode(Version::V2, token);
        prop_assert_eq!(parse_downward(&bytes), Ok(Downward::PullResp { token, txpk }));
    }

    #[test]
    fn no_bytes_bring_the_parsers_down(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_upward(&bytes);
        let _ = parse_downward(&bytes);
    }

    /// Sound datagrams with a few bytes changed reach far deeper than noise does.
    #[test]
    fn a_damaged_datagram_does_not_bring_the_parsers_down(
        changes in proptest::collection::vec((12_usize..200, any::<u8>()), 1..6),
    ) {
        let mut bytes = datagram(0x00, format!(r#"{{"rxpk":[{RXPK}]}}"#).as_bytes());
        for (position, byte) in changes {
            let position = position.min(bytes.len() - 1);
            bytes[position] = byte;
        }
        if let Ok(Upward::PushData(_, push)) = parse_upward(&bytes) {
            for rxpk in push.rxpks {
                prop_assert!((1..=255).contains(&rxpk.phy_payload.len()));
            }
        }
    }
}
