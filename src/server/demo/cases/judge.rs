//! Compares what came of a case with what should have.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::semtech::{TxTiming, Txpk};
use serde_json::Value;

use super::super::link::Message;
use super::file::{Alternative, Downlink, Expect, ExpectedEvent, Of, unhex};
use super::stage::{Observed, UPLINK_TMST, modulation};

/// Says everything that is not as it should be; nothing if all is.
pub(super) fn differences(expect: &Expect, observed: &Observed) -> Vec<String> {
    let mut found = Vec::new();
    events(&expect.events, &observed.events, &mut found);
    match &expect.downlink {
        None => {}
        Some(None) => {
            for (gateway, txpk) in &observed.downlinks {
                found.push(format!("a downlink to {gateway}: {}", hex(&txpk.phy_payload)));
            }
        }
        Some(Some(wanted)) => downlinks(wanted, &observed.downlinks, &mut found),
    }
    let seen = |of: &dyn Fn(&_) -> u32| -> BTreeMap<String, u32> {
        observed.activations.iter().map(|(eui, one)| (eui.clone(), of(one))).collect()
    };
    let state = &expect.state;
    values("f_cnt_up", &state.f_cnt_up, &seen(&|one| one.f_cnt_up), &mut found);
    values("n_f_cnt_down", &state.n_f_cnt_down, &seen(&|one| one.n_f_cnt_down), &mut found);
    values("a_f_cnt_down", &state.a_f_cnt_down, &seen(&|one| one.a_f_cnt_down), &mut found);
    let classes = observed.classes.iter();
    let classes =
        classes.map(|(eui, class)| (eui.clone(), class.trim_start_matches("CLASS_").to_owned()));
    values("enabled_class", &state.enabled_class, &classes.collect(), &mut found);
    found
}

fn values<T: PartialEq + std::fmt::Debug>(
    name: &str,
    wanted: &[Of<T>],
    seen: &BTreeMap<String, T>,
    found: &mut Vec<String>,
) {
    for Of { dev_eui, value } in wanted {
        let seen = seen.get(dev_eui);
        if seen != Some(value) {
            found.push(format!("{name} of {dev_eui}: wanted {value:?}, seen {seen:?}"));
        }
    }
}

fn events(wanted: &[ExpectedEvent], seen: &[Message], found: &mut Vec<String>) {
    let mut left: Vec<(&str, Value)> = Vec::new();
    for message in seen {
        let kind = message.topic.rsplit('/').next().unwrap_or_default();
        match serde_json::from_slice(&message.payload) {
            Ok(body) => left.push((kind, body)),
            Err(error) => found.push(format!("{}: {error}", message.topic)),
        }
    }
    for event in wanted {
        if event.kind == "none" {
            found.extend(left.iter().map(|(kind, body)| format!("an event: {kind} {body}")));
            continue;
        }
        // Each wanted event is another one.
        let fits = |(kind, body): &(&str, Value)| mismatch(event, kind, body).is_none();
        if let Some(position) = left.iter().position(fits) {
            left.remove(position);
            continue;
        }
        let near: Vec<_> =
            left.iter().filter_map(|(kind, body)| mismatch(event, kind, body)).collect();
        found.push(format!("no event {event}; seen: {near:?}"));
    }
}

/// Why an event is not the wanted one; `None` if it is.
fn mismatch(wanted: &ExpectedEvent, kind: &str, body: &Value) -> Option<String> {
    let wanted_kind = if wanted.kind == "uplink" { "up" } else { &wanted.kind };
    if kind != wanted_kind {
        return Some(format!("{kind} {body}"));
    }
    wanted.fields.iter().find_map(|(name, value)| {
        let fits = match (name.as_str(), value) {
            ("dev_eui", value) => body.pointer("/deviceInfo/devEui") == Some(value),
            // Every server has its own; that there is one is what counts.
            ("deduplicationId", Value::String(text)) if text.is_empty() => {
                body.get("deduplicationId").and_then(Value::as_str).is_some_and(|id| !id.is_empty())
            }
            ("data_hex", Value::String(text)) => {
                let data = body.get("data").and_then(Value::as_str).unwrap_or_default();
                unhex(text).is_ok_and(|bytes| STANDARD.encode(bytes) == data)
            }
            ("descriptions", Value::Array(texts)) => {
                body.get("description").is_some_and(|seen| texts.contains(seen))
            }
            (name, value) => equal(value, body.get(name)),
        };
        (!fits).then(|| format!("{name} is not {value} in {body}"))
    })
}

/// Values as the protobuf mapping has them: a default is left out, a float may have been single.
fn equal(wanted: &Value, seen: Option<&Value>) -> bool {
    match (wanted, seen) {
        (Value::Bool(false), None) => true,
        (Value::String(text), None) => text.is_empty(),
        (Value::Number(number), None) => number.as_f64() == Some(0.0),
        (Value::Number(wanted), Some(Value::Number(seen))) => {
            let (Some(wanted), Some(seen)) = (wanted.as_f64(), seen.as_f64()) else { return false };
            (wanted - seen).abs() <= wanted.abs() * 1e-6
        }
        (wanted, seen) => Some(wanted) == seen,
    }
}

fn downlinks(wanted: &Downlink, seen: &[(String, Txpk)], found: &mut Vec<String>) {
    for (window, alternative) in (1..).zip(&wanted.alternatives) {
        let Some((gateway, txpk)) = seen.get(window - 1) else {
            found.push(format!("no downlink for RX{window}, wanted {}", alternative.hex));
            continue;
        };
        if wanted.gateway_id.as_ref().is_some_and(|wanted| wanted != gateway) {
            found.push(format!("RX{window} through gateway {gateway}"));
        }
        if hex(&txpk.phy_payload) != alternative.hex {
            let (wanted, seen) = (&alternative.hex, hex(&txpk.phy_payload));
            found.push(format!("RX{window}: wanted {wanted}, seen {seen}"));
        }
        transmission(window, alternative, txpk, found);
    }
    for (gateway, txpk) in seen.iter().skip(wanted.alternatives.len()) {
        let bytes = hex(&txpk.phy_payload);
        found.push(format!("one downlink too many, to {gateway}: {bytes}"));
    }
}

fn transmission(window: usize, wanted: &Alternative, seen: &Txpk, found: &mut Vec<String>) {
    if !seen.inverted_polarity || !seen.no_crc {
        found.push(format!("RX{window}: a downlink has inverted polarity and no checksum"));
    }
    let Some(tx) = &wanted.tx else { return };
    if seen.frequency_hz != tx.freq_hz || modulation(tx).ok() != Some(seen.modulation) {
        let (frequency, modulation) = (seen.frequency_hz, seen.modulation);
        found.push(format!("RX{window}: wanted {tx:?}, seen {frequency} Hz {modulation:?}"));
    }
    if tx.power_dbm.is_some_and(|power| power != seen.power_dbm) {
        found.push(format!("RX{window}: wanted {:?} dBm, seen {}", tx.power_dbm, seen.power_dbm));
    }
    if let Some(timing) = &tx.timing {
        let delay = timing.delay_after_uplink.trim_end_matches('s').parse::<u32>();
        let at = delay.map(|seconds| TxTiming::Counter(UPLINK_TMST + seconds * 1_000_000));
        if at.as_ref().ok() != Some(&seen.timing) {
            found.push(format!("RX{window}: wanted {at:?}, seen {:?}", seen.timing));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, body: &str) -> Message {
        let topic = format!("application/a/device/b/event/{kind}");
        Message { topic, payload: bytes::Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn judge(expect: &str, observed: &Observed) -> Vec<String> {
        differences(&serde_json::from_str(expect).unwrap(), observed)
    }

    #[test]
    fn what_is_wanted_must_come_and_each_once() {
        let up = r#"{"deduplicationId":"x","deviceInfo":{"devEui":"01"},"fCnt":7,"data":"1/E="}"#;
        let mut seen = Observed { events: vec![message("up", up)], ..Observed::default() };
        let one = r#"{"type":"uplink","dev_eui":"01","deduplicationId":"","fCnt":7,"dr":0,
                      "adr":false,"data_hex":"d7f1"}"#;
        let with = |events: &str| format!(r#"{{"events":[{events}],"state":{{}}}}"#);
        assert_eq!(judge(&with(one), &seen), [""; 0]);
        assert_eq!(judge(&with(&format!("{one},{one}")), &seen).len(), 1);
        assert_eq!(judge(&with(&one.replace("7,", "8,")), &seen).len(), 1);
        assert_eq!(judge(&with(&one.replace("d7f1", "d7f2")), &seen).len(), 1);
        assert_eq!(judge(&with(r#"{"type":"none"}"#), &seen).len(), 1);
        assert_eq!(judge(&with(""), &seen), [""; 0]);
        seen.events.clear();
        assert_eq!(judge(&with(r#"{"type":"none"}"#), &seen), [""; 0]);
        assert_eq!(judge(&with(one), &seen).len(), 1);
    }

    #[test]
    fn a_state_that_is_not_there_differs() {
        let expect = r#"{"events":[],"state":{"f_cnt_up":[{"dev_eui":"01","value":7}]}}"#;
        assert_eq!(judge(expect, &Observed::default()).len(), 1);
    }

    #[test]
    fn defaults_are_left_out_and_floats_were_single() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(equal(&value("0"), None) && equal(&value("false"), None));
        assert!(!equal(&value("1"), None) && !equal(&value("true"), None));
        assert!(equal(&value("50.393699645996094"), Some(&value("50.3937"))));
        assert!(!equal(&value("50.39"), Some(&value("50.3937"))));
    }
}
