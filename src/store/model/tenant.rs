//! Tenants and their users.

use clock::WallTime;
use minicbor::{Decode, Encode};

use super::Tags;
use crate::Id;

/// Owns applications, device profiles, devices and gateways; sees no other tenant's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Tenant {
    /// Its identifier.
    #[n(0)]
    pub id: Id,
    /// Its name, for people; unique so that it can stand for the identifier.
    #[n(1)]
    pub name: String,
    /// Free text.
    #[n(2)]
    pub description: String,
    /// May own gateways.
    #[n(3)]
    pub can_have_gateways: bool,
    /// Most gateways, 0 = any number.
    #[n(4)]
    pub max_gateway_count: u32,
    /// Most devices, 0 = any number.
    #[n(5)]
    pub max_device_count: u32,
    /// Its gateways' uplinks are its own alone.
    #[n(6)]
    pub private_gateways_up: bool,
    /// Its gateways' downlinks are its own alone.
    #[n(7)]
    pub private_gateways_down: bool,
    /// Free names and values.
    #[n(8)]
    pub tags: Tags,
    /// When it was made.
    #[n(9)]
    pub created_at: WallTime,
    /// When it was last changed.
    #[n(10)]
    pub updated_at: WallTime,
}

/// What a user may do in a tenant; without any of the three he may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct TenantUser {
    /// Everything within the tenant.
    #[n(0)]
    pub is_admin: bool,
    /// Devices, applications and device profiles.
    #[n(1)]
    pub is_device_admin: bool,
    /// Gateways.
    #[n(2)]
    pub is_gateway_admin: bool,
    /// When he was added.
    #[n(3)]
    pub created_at: WallTime,
    /// When his rights were last changed.
    #[n(4)]
    pub updated_at: WallTime,
}
