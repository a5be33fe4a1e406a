//! One event as one aligned line for people, or as JSON for programs.

use std::io::{self, IsTerminal, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::DemoError;
use super::link::Message;

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// No escape sequences.
    Plain,
    /// A terminal.
    Coloured,
}

/// Where lines go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    style: Style,
    json: bool,
}

impl Voice {
    /// Standard output; coloured on a terminal.
    pub(super) fn new(json: bool) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { style: if colour { Style::Coloured } else { Style::Plain }, json }
    }

    /// An event.
    pub(super) fn event(self, event: &Event) -> Result<(), DemoError> {
        match self.json {
            true => say(&json!({"event": event.kind, "body": event.body}).to_string()),
            false => say(&event.line(self.style)),
        }
    }

    /// What a device has heard.
    pub(super) fn heard(self, time: &str, device: &str, what: &str) -> Result<(), DemoError> {
        match self.json {
            true => say(&json!({"heard": what.trim_end(), "device": device}).to_string()),
            false => say(&row(time, "heard", device, what, self.style)),
        }
    }

    /// What happens besides.
    pub(super) fn note(self, text: &str, json: &Value) -> Result<(), DemoError> {
        let (on, off) = match self.style {
            Style::Plain => ("", ""),
            Style::Coloured => ("\x1b[1m", "\x1b[0m"),
        };
        if self.json { say(&json.to_string()) } else { say(&format!("{on}{text}{off}")) }
    }

    /// A line for people; programs have the events.
    pub(super) fn text(self, text: &str) -> Result<(), DemoError> {
        if self.json { Ok(()) } else { say(text) }
    }

    /// An empty line for people.
    pub(super) fn blank(self) -> Result<(), DemoError> {
        self.text("")
    }
}

/// Writes a line; a pipe that was closed ends the demonstration.
fn say(text: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|source| DemoError::Io { what: "standard output", source })
}

/// An event as MQTT delivered it: its kind and its JSON.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// `up`, `join`, ..
    pub(super) kind: String,
    /// The JSON.
    pub(super) body: Value,
}

impl Event {
    /// Reads a message; `None`: it is no event.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let (_, kind) = message.topic.rsplit_once("/event/")?;
        let body = serde_json::from_slice(&message.payload).ok()?;
        Some(Self { kind: kind.to_owned(), body })
    }

    /// A text of it, empty if it is not there.
    pub(super) fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, pointer: &str) -> i64 {
        self.body.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
    }

    /// The number of an uplink.
    pub(super) fn fcnt(&self) -> u32 {
        u32::try_from(self.number("/fCnt")).unwrap_or_default()
    }

    fn is(&self, pointer: &str) -> bool {
        self.body.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The line: time of day, kind, device, and what there is to say.
    fn line(&self, style: Style) -> String {
        let time = self.text("/time").get(11..).unwrap_or_default().trim_end_matches('Z');
        let device = self.text("/deviceInfo/deviceName");
        let what = match self.kind.as_str() {
            "join" => format!("has the address {}", self.text("/devAddr")),
            "up" => self.uplink(),
            "txack" => format!(
                "#{:<4} downlink sent by {} {} s after the uplink",
                self.number("/fCntDown"),
                self.text("/gatewayId"),
                self.text("/txInfo/timing/delay/delay").trim_end_matches('s'),
            ),
            "ack" if self.is("/acknowledged") => {
                format!("#{:<4} downlink acknowledged by the device", self.number("/fCntDown"))
            }
            "ack" => format!("#{:<4} downlink NOT acknowledged", self.number("/fCntDown")),
            "status" => format!("link margin {} dB", self.number("/margin")),
            _ => format!("{} {}", self.text("/code"), self.text("/description")),
        };
        row(time, &self.kind, device, &what, style)
    }

    fn uplink(&self) -> String {
        let data = STANDARD.decode(self.text("/data")).unwrap_or_default();
        let best = self.body.pointer("/rxInfo").and_then(Value::as_array).map(|all| {
            let rssi = all.iter().filter_map(|one| one.get("rssi")?.as_i64()).max();
            (all.len(), rssi.unwrap_or_default())
        });
        let (gateways, rssi) = best.unwrap_or_default();
        format!(
            "#{:<4} {:<24} {:<9}  SF{:<2}  {gateways} gateway{}  {rssi} dBm",
            self.number("/fCnt"),
            readable(&data),
            if self.is("/confirmed") { "confirmed" } else { "" },
            self.number("/txInfo/modulation/lora/spreadingFactor"),
            if gateways == 1 { " " } else { "s" },
        )
    }
}

/// One line. What a device has heard is of the kind `heard`; the others are events.
fn row(time: &str, kind: &str, device: &str, what: &str, style: Style) -> String {
    let (on, off) = match (style, kind) {
        (Style::Plain, _) => ("", ""),
        (Style::Coloured, "join") => ("\x1b[32m", "\x1b[0m"),
        (Style::Coloured, "up") => ("\x1b[36m", "\x1b[0m"),
        (Style::Coloured, "ack" | "txack") => ("\x1b[33m", "\x1b[0m"),
        (Style::Coloured, "heard") => ("\x1b[2m", "\x1b[0m"),
        (Style::Coloured, _) => ("\x1b[35m", "\x1b[0m"),
    };
    format!("{time:<12.12}  {on}{kind:<6}{off}  {device:<16}  {}", what.trim_end())
}

/// Printable bytes as text, others in hexadecimal.
pub(super) fn readable(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => format!("\"{text}\""),
        _ => data.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, body: &str) -> Event {
        let topic = format!("application/a/device/b/event/{kind}");
        let payload = bytes::Bytes::copy_from_slice(body.as_bytes());
        Event::read(&Message { topic, payload }).unwrap()
    }

    #[test]
    fn one_line_says_who_what_and_how() {
        let up = event(
            "up",
            r#"{"time":"2026-11-20T18:00:01.250Z","deviceInfo":{"deviceName":"front-door"},
                "fCnt":3,"confirmed":true,"data":"b3Blbg==","rxInfo":[{"rssi":-80},{"rssi":-71}],
                "txInfo":{"modulation":{"lora":{"spreadingFactor":7}}}}"#,
        );
        assert_eq!(
            up.line(Style::Plain),
            "18:00:01.250  up      front-door        #3    \"open\"                   \
             confirmed  SF7   2 gateways  -71 dBm"
        );
        assert!(up.line(Style::Coloured).contains("\x1b[36mup    \x1b[0m"));
        // What is left out has its default value.
        let ack = event("ack", r#"{"time":"2026-11-20T18:00:01Z","deviceInfo":{}}"#);
        assert!(ack.line(Style::Plain).ends_with("#0    downlink NOT acknowledged"));
        let log = event("log", r#"{"code":"UPLINK_MIC","description":"MIC wrong"}"#);
        assert!(log.line(Style::Plain).ends_with("UPLINK_MIC MIC wrong"));
    }

    #[test]
    fn other_messages_are_no_events() {
        for (topic, payload) in [("a/command/down", "{}"), ("a/event/up", "{"), ("", "{}")] {
            let payload = bytes::Bytes::copy_from_slice(payload.as_bytes());
            assert!(Event::read(&Message { topic: topic.into(), payload }).is_none());
        }
        assert_eq!(readable(&[0, 255]), "00ff");
        assert_eq!(readable(&[]), "");
    }
}
