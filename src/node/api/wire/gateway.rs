//! Gateways.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::Tags;

/// A place on Earth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above sea.
    pub altitude: f64,
}

/// A gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// EUI-64.
    pub gateway_id: String,
    /// For people.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Where it stands.
    pub location: Location,
    /// Owner.
    pub tenant_id: String,
    /// Free names and values.
    pub tags: Tags,
    /// Names and values from the gateway itself.
    pub metadata: Tags,
    /// Seconds between its reports, 0 = 30.
    pub stats_interval: u32,
    /// Ours: antenna gain in dBi, subtracted from the EIRP.
    pub antenna_gain: f64,
    /// Ours: highest EIRP in dBm; null: the region's.
    pub max_eirp: Option<i8>,
    /// Ours: RF chain for downlinks; null: that of the uplink.
    pub downlink_rf_chain: Option<u8>,
}

/// Whether a gateway is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GatewayState {
    /// Nothing was ever heard of it.
    #[default]
    NeverSeen,
    /// Heard within twice its reporting interval.
    Online,
    /// Silent for longer.
    Offline,
}

/// A gateway with its times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayDetails {
    /// The gateway.
    pub gateway: Gateway,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// When it was last heard.
    pub last_seen_at: Option<WallTime>,
    /// Ours: whether it is there.
    pub state: GatewayState,
    /// Ours: seconds since its last PULL_DATA; null: a downlink has no path.
    pub pull_age: Option<f64>,
}

/// A gateway in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayListItem {
    /// Owner.
    pub tenant_id: String,
    /// EUI-64.
    pub gateway_id: String,
    /// Name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Where it stands.
    pub location: Location,
    /// Names and values from the gateway itself.
    pub properties: Tags,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// When it was last heard.
    pub last_seen_at: Option<WallTime>,
    /// Whether it is there.
    pub state: GatewayState,
}

/// A gateway that nobody registered. Ours alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UnknownGateway {
    /// EUI-64 as it calls itself.
    pub gateway_id: String,
    /// Address of its last datagram.
    pub address: String,
    /// When it was first heard.
    pub first_seen_at: Option<WallTime>,
    /// When it was last heard.
    pub last_seen_at: Option<WallTime>,
    /// Datagrams so far.
    pub datagrams: u64,
}
