//! Explanations against every frame of the vector files, and against bytes that are none.

use lorawan::{DevNonce, JoinContext, JoinReqType, MicContext};
use serde_json::Value;

use super::measure::unhex;
use super::*;

fn lines() -> impl Iterator<Item = Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/");
    ["vectors.jsonl", "single_oracle.jsonl"].into_iter().flat_map(move |name| {
        let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines
    })
}

fn keys_of(line: &Value) -> FrameKeys {
    let Some(keys) = line["keys"].as_object() else { return FrameKeys::default() };
    let entries: Vec<String> =
        keys.iter().map(|(name, key)| format!("{name}={}", key.as_str().unwrap())).collect();
    FrameKeys::parse(entries.iter().map(String::as_str)).unwrap()
}

fn number(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap_or(0)).unwrap()
}

fn context_of(line: &Value) -> DecodeContext {
    let ctx = &line["ctx"];
    let byte = |name: &str| u8::try_from(number(&ctx[name])).unwrap();
    DecodeContext {
        fcnt: ctx["f_cnt"].as_u64().map(|fcnt| u32::try_from(fcnt).unwrap()),
        mic: Some(MicContext {
            conf_fcnt: number(&ctx["conf_f_cnt"]),
            tx_dr: byte("tx_dr"),
            tx_ch: byte("tx_ch"),
        }),
        join: ctx["join_eui"].as_str().map(|join_eui| JoinContext {
            join_req_type: JoinReqType::from_byte(byte("join_req_type")).unwrap(),
            join_eui: join_eui.parse().unwrap(),
            dev_nonce: DevNonce(number(&ctx["dev_nonce"])),
        }),
        dev_eui: ctx["dev_eui"].as_str().map(|dev_eui| dev_eui.parse().unwrap()),
    }
}

fn meaning<'a>(rows: &'a [Row], field: &str) -> Option<&'a str> {
    rows.iter().find(|row| row.field == field).map(|row| row.meaning.as_str())
}

#[test]
fn every_vector_is_explained() {
    let mut explained = 0;
    for line in lines() {
        let Some(phy) = line["phy"].as_str() else { continue };
        let bytes = unhex(phy, 1_024).unwrap();
        let (keys, context) = (keys_of(&line), context_of(&line));
        let rows = decode(&bytes, &keys, &context);
        let expect = &line["expect"];
        if expect["parse_error"] == true {
            assert!(rows.is_err(), "{line}");
            continue;
        }
        let rows = rows.unwrap();
        explained += 1;
        if let Some(right) = expect["mic_ok"].as_bool() {
            let verdict = meaning(&rows, "MIC").unwrap();
            assert_eq!(verdict.starts_with("right"), right, "{verdict}: {line}");
        }
        for (name, field) in [("dev_addr", "DevAddr"), ("dev_eui", "DevEUI"), ("net_id", "NetID")] {
            if let Some(text) = expect[name].as_str() {
                assert_eq!(meaning(&rows, field), Some(text), "{line}");
            }
        }
        if let Some(payload) = expect["payload"].as_str() {
            let row = rows.iter().find(|row| row.field == "payload").unwrap();
            assert_eq!(row.hex, payload, "{line}");
        }
        let commands: usize = ["f_opts_macs", "payload_macs"]
            .iter()
            .filter_map(|name| expect[name].as_array().map(Vec::len))
            .sum();
        if expect["dev_addr"].is_string() {
            let named = rows.iter().filter(|row| row.field.starts_with("  "));
            assert_eq!(named.count(), commands, "{line}");
        }
    }
    assert_eq!(explained, 2_541, "every frame but the malformed");
}

#[test]
fn the_mic_finds_what_was_not_told() {
    let mut found = [0_u32; 2];
    for line in lines().filter(|line| line["expect"]["mic_ok"] == true) {
        let (kind, ctx) = (line["kind"].as_str().unwrap(), &line["ctx"]);
        let fcnt = ctx["f_cnt"].as_u64().unwrap_or(u64::MAX);
        let new = kind == "data_up_1_1";
        if !(kind == "data_up_1_0" || new) || fcnt >= 16 << 16 || ctx["conf_f_cnt"] != 0 {
            continue;
        }
        let bytes = unhex(line["phy"].as_str().unwrap(), 255).unwrap();
        let rows = decode(&bytes, &keys_of(&line), &DecodeContext::default()).unwrap();
        assert_eq!(meaning(&rows, "FCnt"), Some(fcnt.to_string().as_str()), "{line}");
        if new {
            let end = format!("at DR{} on channel {}", ctx["tx_dr"], ctx["tx_ch"]);
            assert!(meaning(&rows, "MIC").unwrap().ends_with(&end), "{line}");
        }
        found[usize::from(new)] += 1;
        if found.iter().all(|count| *count > 20) {
            return;
        }
    }
    panic!("too few frames to try: {found:?}");
}

#[test]
fn an_explanation_reads_like_this() {
    let bytes = unhex("40 f04d3957 80 0100 01 95437876 2b11ff0d", 255).unwrap();
    let rows = decode(&bytes, &FrameKeys::default(), &DecodeContext::default()).unwrap();
    let text = "\
MHDR        40        unconfirmed data up
DevAddr     f04d3957  57394df0
FCtrl       80        ADR
FCnt        0100      1, the low half
FPort       01        1
FRMPayload  95437876  4 bytes, enciphered
MIC         2b11ff0d  not checked, give nwk_s_key, or f_nwk_s_int_key and s_nwk_s_int_key
payload               enciphered, give app_s_key
";
    assert_eq!(render(&rows), text);
}

#[test]
fn no_bytes_and_no_keys_make_it_panic() {
    let key = "000102030405060708090a0b0c0d0e0f";
    let old = FrameKeys::parse([format!("nwk_s_key={key},app_s_key={key},app_key={key}").as_str()]);
    let new = format!("f_nwk_s_int_key={key},s_nwk_s_int_key={key},nwk_s_enc_key={key}");
    let new = FrameKeys::parse([new.as_str()]);
    let context =
        DecodeContext { fcnt: Some(7), mic: Some(MicContext::default()), ..Default::default() };
    for keys in [FrameKeys::default(), old.unwrap(), new.unwrap()] {
        for mhdr in 0..=255_u8 {
            for len in [0_usize, 1, 2, 11, 12, 13, 17, 19, 23, 24, 27, 33, 34, 255, 256] {
                let mut bytes = vec![mhdr; len];
                if let Some(second) = bytes.get_mut(1) {
                    *second = mhdr & 3;
                }
                if let Ok(rows) = decode(&bytes, &keys, &context) {
                    assert!(!render(&rows).is_empty());
                }
            }
        }
    }
}
