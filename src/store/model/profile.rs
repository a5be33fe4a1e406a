//! Device profiles.

use clock::WallTime;
use mac::MacProfile;
use minicbor::{Decode, Encode};

use super::Tags;
use crate::Id;

/// What devices of one kind have in common.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceProfile {
    /// Identifier.
    #[n(0)]
    pub id: Id,
    /// Owner; `None`: every tenant may use it.
    #[n(1)]
    pub tenant_id: Option<Id>,
    /// For people; unique in its tenant.
    #[n(2)]
    pub name: String,
    /// Free text.
    #[n(3)]
    pub description: String,
    /// The LoRaWAN half.
    #[n(4)]
    pub mac: MacProfile,
    /// Regional parameters revision as the API names it (`A`, `B`, `RP002_1_0_0`..).
    #[n(5)]
    pub reg_params_revision: String,
    /// Seconds between uplinks that people expect; for display.
    #[n(6)]
    pub uplink_interval_s: u32,
    /// Drop the queue when the device activates.
    #[n(7)]
    pub flush_queue_on_activate: bool,
    /// Free names and values, part of every event.
    #[n(8)]
    pub tags: Tags,
    /// When it was made.
    #[n(9)]
    pub created_at: WallTime,
    /// When it was last changed.
    #[n(10)]
    pub updated_at: WallTime,
}
