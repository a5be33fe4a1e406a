//! `tern events`, `tern watch`.

use clap::Args;
use serde_json::Value;

use super::client::{CliError, Client, query};
use super::print::{Colour, Out, clean};

/// Lines of the past that `tern watch` shows first.
const LINES_BEFORE: usize = 20;

#[derive(Clone, Debug, Args)]
pub(super) struct EventsArgs {
    /// Only above this sequence; without it the last ones.
    #[arg(long)]
    after: Option<u64>,
    /// Wait for more.
    #[arg(long, short)]
    follow: bool,
    /// Most events, up to 1000.
    #[arg(long, default_value_t = 20)]
    limit: u64,
    #[arg(long)]
    application: Option<String>,
    #[arg(long)]
    device: Option<String>,
}

pub(super) fn events(args: &EventsArgs, client: &Client, out: &Out) -> Result<(), CliError> {
    let after = match args.after {
        Some(after) => after,
        None => {
            let node = client.get("/api/v1/node")?;
            node["events"][1].as_u64().unwrap_or(1).saturating_sub(1).saturating_sub(args.limit)
        }
    };
    let asked = |after: u64, more: Option<String>| {
        query(&[
            ("after", Some(after.to_string())),
            ("limit", more),
            ("applicationId", args.application.clone()),
            ("devEui", args.device.clone()),
        ])
    };
    if args.follow {
        let path = format!("/api/v1/events/stream{}", asked(after, None));
        return client.stream(&path, |event| print_event(event, out));
    }
    let page =
        client.get(&format!("/api/v1/events{}", asked(after, Some(args.limit.to_string()))))?;
    for event in page["events"].as_array().into_iter().flatten() {
        print_event(event, out)?;
    }
    Ok(())
}

fn print_event(event: &Value, out: &Out) -> Result<(), CliError> {
    if out.json {
        return out.line(&event.to_string());
    }
    if let Some(error) = event["error"].as_str() {
        return Err(CliError::Serve(error.to_owned()));
    }
    out.line(&event_line(event))
}

fn event_line(event: &Value) -> String {
    let body = &event["body"];
    let field = |name: &str| clean(body[name].as_str().unwrap_or_default());
    let number = |name: &str| body[name].as_u64().unwrap_or(0);
    let kind = event["event"].as_str().unwrap_or_default();
    let device = &body["deviceInfo"];
    let who = clean(device["devEui"].as_str().unwrap_or_default());
    let name = clean(device["deviceName"].as_str().unwrap_or_default());
    let what = match kind {
        "up" => format!(
            "FCnt {} port {} dr {} {}{}",
            number("fCnt"),
            number("fPort"),
            number("dr"),
            field("data"),
            if body["confirmed"] == true { " confirmed" } else { "" }
        ),
        "join" => format!("joined as {}", field("devAddr")),
        "ack" if body["acknowledged"] == true => {
            format!("FCntDown {} acknowledged", number("fCntDown"))
        }
        "ack" => format!("FCntDown {} was not acknowledged", number("fCntDown")),
        "txack" => format!("FCntDown {} sent by {}", number("fCntDown"), field("gatewayId")),
        "status" => {
            format!("margin {} dB, battery {}", body["margin"].as_i64().unwrap_or(0), battery(body))
        }
        _ => format!("{} {}", field("code"), field("description")),
    };
    let sequence = event["sequence"].as_u64().unwrap_or(0);
    format!("{sequence:>8}  {}  {kind:<6}  {who}  {name}  {what}", field("time"))
}

fn battery(body: &Value) -> String {
    if body["externalPowerSource"] == true {
        return "external".to_owned();
    }
    body["batteryLevel"].as_f64().map_or("unknown".to_owned(), |level| format!("{level:.0} %"))
}

#[derive(Clone, Debug, Args)]
pub(super) struct WatchArgs {
    /// One device alone.
    #[arg(long)]
    device: Option<String>,
    /// One gateway alone, by its EUI.
    #[arg(long)]
    gateway: Option<String>,
}

pub(super) fn watch(args: &WatchArgs, client: &Client, out: &Out) -> Result<(), CliError> {
    if !out.json && args.device.is_none() && args.gateway.is_none() {
        show_gateways(client, out)?;
    }
    let asked = |after: u64| {
        query(&[
            ("after", Some(after.to_string())),
            ("devEui", args.device.clone()),
            ("gatewayId", args.gateway.clone()),
        ])
    };
    let (mut after, mut before) = (0, Vec::new());
    loop {
        let page = client.get(&format!("/api/v1/watch{}", asked(after)))?;
        let lines = page["lines"].as_array().cloned().unwrap_or_default();
        after = page["next"].as_u64().unwrap_or(after);
        if lines.is_empty() {
            break;
        }
        before.extend(lines);
    }
    for line in before.iter().skip(before.len().saturating_sub(LINES_BEFORE)) {
        print_line(line, out)?;
    }
    let path = format!("/api/v1/watch/stream{}", asked(after));
    client.stream(&path, |line| print_line(line, out))
}

/// What is there now; a caller who may not see it is shown less, not an error.
fn show_gateways(client: &Client, out: &Out) -> Result<(), CliError> {
    let known = client.get("/api/gateways?limit=1000")?;
    for gateway in known["result"].as_array().into_iter().flatten() {
        let state = gateway["state"].as_str().unwrap_or_default();
        let colour = if state == "ONLINE" { Colour::Green } else { Colour::Red };
        let id = gateway["gatewayId"].as_str().unwrap_or_default();
        let name = clean(gateway["name"].as_str().unwrap_or_default());
        let state = state.to_lowercase().replace('_', " ");
        out.line(&format!("gateway {id} {name}: {}", out.paint(colour, &state)))?;
    }
    let unknown = match client.get("/api/v1/gateways/unknown") {
        Ok(unknown) => unknown,
        Err(CliError::Refused { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    for gateway in unknown["result"].as_array().into_iter().flatten() {
        let id = gateway["gatewayId"].as_str().unwrap_or_default();
        let address = gateway["address"].as_str().unwrap_or_default();
        let verdict = out.paint(Colour::Red, "not registered");
        out.line(&format!("gateway {id} at {address}: {verdict}"))?;
        out.line(&format!("    -> tern gateway add {id}"))?;
    }
    Ok(())
}

fn print_line(item: &Value, out: &Out) -> Result<(), CliError> {
    if out.json {
        return out.line(&item.to_string());
    }
    if let Some(error) = item["error"].as_str() {
        return Err(CliError::Serve(error.to_owned()));
    }
    let field = |name: &str| clean(item[name].as_str().unwrap_or_default());
    let colour = match item["level"].as_str() {
        Some("good") => Colour::Green,
        Some("bad") => Colour::Red,
        Some(_) | None => Colour::Plain,
    };
    let time = field("time");
    let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock);
    let clock = clock.get(..8).unwrap_or(clock);
    let verdict = out.paint(colour, &field("verdict"));
    out.line(&format!("{}  {:<8}  {verdict}", out.paint(Colour::Dim, clock), field("kind")))?;
    match item["remedy"].as_str() {
        Some(remedy) => out.line(&format!("          -> {}", clean(remedy))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_event_is_one_line_without_control_characters() {
        let event = |kind: &str, body: Value| {
            let mut body = body;
            body["time"] = json!("2026-11-20T12:00:00Z");
            body["deviceInfo"] = json!({"devEui": "0102030405060708", "deviceName": "room\n5"});
            event_line(&json!({"sequence": 12, "event": kind, "body": body}))
        };
        let up = event("up", json!({"fCnt": 7, "fPort": 2, "dr": 5, "data": "AQ=="}));
        let expected = "      12  2026-11-20T12:00:00Z  up      0102030405060708  room\u{FFFD}5  \
            FCnt 7 port 2 dr 5 AQ==";
        assert_eq!(up, expected);
        assert!(event("status", json!({"batteryLevel": 50.39})).ends_with("battery 50 %"));
        assert!(event("ack", json!({"fCntDown": 3})).ends_with("was not acknowledged"));
    }
}
