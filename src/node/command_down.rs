//! Downlinks that applications publish on `application/{id}/device/{dev_eui}/command/down`.
//!
//! Driven by the broker with the payload of one message; pure. Fields as in `integration.proto`,
//! `DownlinkCommand`; JSON in the protobuf mapping.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use clock::WallTime;
use lorawan::DevEui;
use serde_json::Value;
use store::Id;

use crate::strict_json::{self, JsonError};

/// Longest payload taken, in bytes: 242 bytes of data as base64 and generous names.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
/// Deepest nesting taken.
const DEPTH_MAX: usize = 16;
/// Longest application payload in bytes: N of any data rate of any region.
const DATA_BYTES_MAX: usize = 242;

/// A downlink that an application asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownCommand {
    /// To whom, as the topic says.
    pub dev_eui: DevEui,
    /// The identifier given, if any; else the caller draws one.
    pub id: Option<Id>,
    /// Wants an acknowledgement.
    pub confirmed: bool,
    /// 1..=223
    pub f_port: u8,
    /// Plaintext.
    pub data: Bytes,
    /// Not worth sending after.
    pub expires_at: Option<WallTime>,
}

/// Why a downlink command is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownCommandError {
    /// Not JSON as it is taken here.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The payload is no object.
    #[error("a JSON object is needed")]
    NotAnObject,
    /// The device named inside is another than the topic's.
    #[error("devEui `{named}` is not the {topic} of the topic")]
    OtherDevice {
        /// As named inside, cut short.
        named: String,
        /// As in the topic.
        topic: DevEui,
    },
    /// A field that cannot be used.
    #[error("{field}: {why}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Structured data without a codec; reported to the application as DOWNLINK_CODEC.
    #[error("object: this server has no payload codecs yet; give data (base64)")]
    NoCodec,
}

impl DownCommandError {
    /// The name under which it is counted.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::NotAnObject => "not_an_object",
            Self::OtherDevice { .. } => "other_device",
            Self::Field { .. } => "field",
            Self::NoCodec => "no_codec",
        }
    }
}

/// The device that a topic commands, if it is a `command/down` topic at all.
///
/// * Returns application and device.
pub fn parse_topic(topic: &str) -> Option<(Id, DevEui)> {
    let mut parts = topic.split('/');
    let mut named = |name: &str| parts.next().filter(|part| *part == name).and(parts.next());
    let application = named("application")?;
    let device = named("device")?;
    let verb = named("command")?;
    if verb != "down" || parts.next().is_some() {
        return None;
    }
    let id: Id = application.parse().ok()?;
    let dev_eui: DevEui = device.parse().ok()?;
    // One topic, one spelling.
    let spelled = id.to_string() == application && dev_eui.to_string() == device;
    spelled.then_some((id, dev_eui))
}

/// Reads a downlink command.
///
/// * `dev_eui`: the device of the topic; the one inside must be the same.
/// * Errors: [`DownCommandError`].
pub fn parse(dev_eui: DevEui, payload: &[u8]) -> Result<DownCommand, DownCommandError> {
    let value = strict_json::parse(payload, COMMAND_BYTES_MAX, DEPTH_MAX)?;
    let Value::Object(fields) = value else {
        return Err(DownCommandError::NotAnObject);
    };
    // Protobuf readers take both spellings; null means unset.
    let get = |camel: &str, snake: &str| {
        let value = fields.get(camel).or_else(|| fields.get(snake));
        value.filter(|value| !value.is_null())
    };
    let named = text("devEui", get("devEui", "dev_eui"))?.unwrap_or("");
    if named.parse::<DevEui>() != Ok(dev_eui) {
        let named = named.chars().take(32).collect();
        return Err(DownCommandError::OtherDevice { named, topic: dev_eui });
    }
    let object = get("object", "object");
    if object.is_some_and(|object| object.as_object().is_none_or(|object| !object.is_empty())) {
        return Err(DownCommandError::NoCodec);
    }
    Ok(DownCommand {
        dev_eui,
        id: id(text("id", get("id", "id"))?)?,
        confirmed: match get("confirmed", "confirmed") {
            None => false,
            Some(Value::Bool(confirmed)) => *confirmed,
            Some(_) => return Err(field("confirmed", "true or false")),
        },
        f_port: f_port(get("fPort", "f_port"))?,
        data: data(text("data", get("data", "data"))?.unwrap_or(""))?,
        expires_at: match text("expiresAt", get("expiresAt", "expires_at"))? {
            None => None,
            Some(time) => Some(time.parse().map_err(|error: clock::ParseTimeError| {
                DownCommandError::Field { field: "expiresAt", why: error.to_string() }
            })?),
        },
    })
}

fn field(field: &'static str, why: &str) -> DownCommandError {
    DownCommandError::Field { field, why: why.to_owned() }
}

fn text<'v>(
    name: &'static str,
    value: Option<&'v Value>,
) -> Result<Option<&'v str>, DownCommandError> {
    match value {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| field(name, "a text is needed")),
    }
}

fn id(text: Option<&str>) -> Result<Option<Id>, DownCommandError> {
    match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            let id: Result<Id, store::ParseIdError> = text.parse();
            let why = |error: store::ParseIdError| error.to_string();
            id.map(Some).map_err(|error| DownCommandError::Field { field: "id", why: why(error) })
        }
    }
}

/// A whole number as the protobuf mapping writes it: `10`, `10.0` or `"10"`.
fn f_port(value: Option<&Value>) -> Result<u8, DownCommandError> {
    let number = match value {
        None => Some(0.0),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    let port = (1..=223u8).find(|port| number == Some(f64::from(*port)));
    port.ok_or_else(|| field("fPort", "a port from 1 to 223 is needed"))
}

/// base64 with either alphabet, with padding or without, as protobuf readers take it.
fn data(text: &str) -> Result<Bytes, DownCommandError> {
    let bytes = STANDARD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text))
        .or_else(|_| URL_SAFE.decode(text))
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .map_err(|_| field("data", "this is not base64"))?;
    if bytes.len() > DATA_BYTES_MAX {
        let why = format!("{} bytes, a frame carries at most {DATA_BYTES_MAX}", bytes.len());
        return Err(DownCommandError::Field { field: "data", why });
    }
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EUI: &str = "0102030405060708";

    fn eui() -> DevEui {
        EUI.parse().unwrap()
    }

    fn with(fields: &str) -> Result<DownCommand, DownCommandError> {
        parse(eui(), format!("{{\"devEui\":\"{EUI}\",{fields}}}").as_bytes())
    }

    #[test]
    fn a_whole_command_reads_as_meant() {
        let command = with(
            r#""id":"539f1aac-e912-41c5-b46c-46c5ea04ce46","confirmed":true,"fPort":10,
            "data":"AQID","expiresAt":"2026-11-20T12:00:00Z","object":null"#,
        );
        assert_eq!(
            command,
            Ok(DownCommand {
                dev_eui: eui(),
                id: Some("539f1aac-e912-41c5-b46c-46c5ea04ce46".parse().unwrap()),
                confirmed: true,
                f_port: 10,
                data: Bytes::from_static(&[1, 2, 3]),
                expires_at: Some(WallTime::from_unix_secs(1_795_176_000)),
            })
        );
    }

    #[test]
    fn what_protobuf_readers_take_is_taken() {
        for fields in [
            r#""f_port":7,"data":"-_8=""#,
            r#""fPort":"7","data":"+/8""#,
            r#""fPort":7.0,"data":"+/8=","id":"","object":{}"#,
        ] {
            let command = with(fields).unwrap_or_else(|error| panic!("{fields}: {error}"));
            assert_eq!((command.f_port, &command.data[..]), (7, &[0xFB, 0xFF][..]), "{fields}");
        }
        let dashes = br#"{"dev_eui":"01-02-03-04-05-06-07-08","fPort":1}"#;
        assert!(parse(eui(), dashes).unwrap().data.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        let long = format!(r#""fPort":1,"data":"{}""#, STANDARD.encode([0; 243]));
        for (fields, reason) in [
            (r#""fPort":0"#, "field"),
            (r#""fPort":224"#, "field"),
            (r#""fPort":-1"#, "field"),
            (r#""fPort":1.5"#, "field"),
            (r#""fPort":1e300"#, "field"),
            (r#""fPort":[1]"#, "field"),
            (r#""data":"AQ==""#, "field"),
            (r#""fPort":1,"data":"%%""#, "field"),
            (r#""fPort":1,"data":7"#, "field"),
            (r#""fPort":1,"confirmed":"yes""#, "field"),
            (r#""fPort":1,"id":"x""#, "field"),
            (r#""fPort":1,"expiresAt":"tomorrow""#, "field"),
            (r#""fPort":1,"object":{"led":1}"#, "no_codec"),
            (r#""fPort":1,"object":[]"#, "no_codec"),
            (r#""fPort":1,"fPort":2"#, "syntax"),
            (r#""fPort":NaN"#, "syntax"),
            (&long, "field"),
        ] {
            let refused = with(fields).expect_err(fields);
            assert_eq!(refused.reason(), reason, "{fields}: {refused}");
        }
        for (payload, reason) in [
            (&b"[]"[..], "not_an_object"),
            (b"{\"fPort\":1}", "other_device"),
            (b"{\"devEui\":\"0102030405060709\",\"fPort\":1}", "other_device"),
            (b"\xFF", "syntax"),
            (&[b' '; COMMAND_BYTES_MAX + 1], "too_long"),
        ] {
            assert_eq!(parse(eui(), payload).unwrap_err().reason(), reason);
        }
    }

    #[test]
    fn a_topic_has_one_spelling() {
        let id = "539f1aac-e912-41c5-b46c-46c5ea04ce46";
        let topic = format!("application/{id}/device/{EUI}/command/down");
        assert_eq!(parse_topic(&topic), Some((id.parse().unwrap(), eui())));
        for other in [
            format!("{topic}/x"),
            format!("application/{id}/device/{EUI}/command/up"),
            format!("application/{id}/device/{EUI}/event/down"),
            format!("application/{}/device/{EUI}/command/down", id.to_uppercase()),
            format!("application/{id}/device/01-02-03-04-05-06-07-08/command/down"),
            format!("/application/{id}/device/{EUI}/command/down"),
            "application".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse_topic(&other), None, "{other}");
        }
    }
}
