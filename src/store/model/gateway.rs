//! Gateways.

use clock::WallTime;
use lorawan::GatewayEui;
use minicbor::{Decode, Encode};

use super::Tags;
use crate::Id;

/// A place on Earth. Degrees and metres as IEEE 754 bits, so that equal states have equal bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Encode, Decode)]
pub struct Location {
    /// Degrees north, -90..=90.
    #[n(0)]
    pub latitude: f64,
    /// Degrees east, -180..=180.
    #[n(1)]
    pub longitude: f64,
    /// Metres above sea.
    #[n(2)]
    pub altitude: f64,
}

/// A registered gateway.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Gateway {
    /// Identifier.
    #[n(0)]
    pub gateway_id: GatewayEui,
    /// Owner.
    #[n(1)]
    pub tenant_id: Id,
    /// For people.
    #[n(2)]
    pub name: String,
    /// Free text.
    #[n(3)]
    pub description: String,
    /// Where it stands.
    #[n(4)]
    pub location: Location,
    /// Free names and values.
    #[n(5)]
    pub tags: Tags,
    /// Names and values from the gateway itself.
    #[n(6)]
    pub metadata: Tags,
    /// Seconds between its reports.
    #[n(7)]
    pub stats_interval_s: u32,
    /// Antenna gain in tenths of a dBi; subtracted from the EIRP. Ours.
    #[n(8)]
    pub antenna_gain_ddbi: i16,
    /// Highest EIRP in dBm, `None` = the region's. Ours.
    #[n(9)]
    pub max_eirp_dbm: Option<i8>,
    /// RF chain for downlinks, `None` = that of the uplink. Ours.
    #[n(10)]
    pub downlink_rf_chain: Option<u8>,
    /// When it was made.
    #[n(11)]
    pub created_at: WallTime,
    /// When it was last changed.
    #[n(12)]
    pub updated_at: WallTime,
}
