//! The event log and the live view of it. Ours alone.

use clock::WallTime;
use lorawan::{DevAddr, DevEui, GatewayEui};
use serde::{Deserialize, Serialize};

/// One event, as it went out over MQTT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventItem {
    /// Position in the event log: the cursor for `after=`.
    pub sequence: u64,
    /// `up`, `join`, `status`, `ack`, `txack`, `log`.
    pub event: String,
    /// MQTT topic.
    pub topic: String,
    /// The JSON of the event.
    pub body: serde_json::Value,
}

/// Some events, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventPage {
    /// The events.
    pub events: Vec<EventItem>,
    /// Give this as `after` to go on; also past events that the filter left out.
    pub next: u64,
}

/// How a line is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchLevel {
    /// As it should be.
    Good,
    /// Neither good nor bad.
    #[default]
    Note,
    /// Something to mend.
    Bad,
}

/// One line of `tern watch`: what happened, the verdict, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchLine {
    /// When.
    pub time: WallTime,
    /// What about: `uplink`, `join`, `downlink`, `gateway`, `mqtt`, `http`.
    pub kind: String,
    /// How to take it.
    pub level: WatchLevel,
    /// Gateway concerned.
    pub gateway_id: Option<GatewayEui>,
    /// Device concerned.
    pub dev_eui: Option<DevEui>,
    /// Address concerned.
    pub dev_addr: Option<DevAddr>,
    /// What was seen and decided: "join from 70b3d57ed0001234: unknown DevEUI".
    pub verdict: String,
    /// What to do: "tern device add 70b3d57ed0001234 --application ... --app-key ...".
    pub remedy: Option<String>,
}

impl From<&crate::watch::WatchLine> for WatchLine {
    fn from(line: &crate::watch::WatchLine) -> Self {
        Self {
            time: line.time,
            kind: line.kind.to_owned(),
            level: match line.level {
                crate::watch::WatchLevel::Good => WatchLevel::Good,
                crate::watch::WatchLevel::Note => WatchLevel::Note,
                crate::watch::WatchLevel::Bad => WatchLevel::Bad,
            },
            gateway_id: line.gateway_id,
            dev_eui: line.dev_eui,
            dev_addr: line.dev_addr,
            verdict: line.verdict.clone(),
            remedy: line.remedy.clone(),
        }
    }
}

/// A line with its place in the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchItem {
    /// Counts lines since the node started, from 1.
    pub sequence: u64,
    /// The line.
    #[serde(flatten)]
    pub line: WatchLine,
}

/// Some lines, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchPage {
    /// The lines.
    pub lines: Vec<WatchItem>,
    /// Give this as `after` to go on.
    pub next: u64,
    /// Lines that the ring had forgotten before they were asked for.
    pub missed: u64,
}
