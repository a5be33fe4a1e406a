//! Tenants and who may do what in them.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::Tags;

/// A tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tenant {
    /// UUID; given by the server.
    pub id: String,
    /// Unique.
    pub name: String,
    /// Free text.
    pub description: String,
    /// May own gateways.
    pub can_have_gateways: bool,
    /// Most gateways, 0 = any number.
    pub max_gateway_count: u32,
    /// Most devices, 0 = any number.
    pub max_device_count: u32,
    /// Uplinks of its gateways are its own alone.
    pub private_gateways_up: bool,
    /// Downlinks of its gateways are its own alone.
    pub private_gateways_down: bool,
    /// Free names and values.
    pub tags: Tags,
}

/// A tenant with its times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantDetails {
    /// The tenant.
    pub tenant: Tenant,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
}

/// A tenant in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantListItem {
    /// UUID.
    pub id: String,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// Name.
    pub name: String,
    /// May own gateways.
    pub can_have_gateways: bool,
    /// Uplinks of its gateways are its own alone.
    pub private_gateways_up: bool,
    /// Downlinks of its gateways are its own alone.
    pub private_gateways_down: bool,
    /// Most gateways, 0 = any number.
    pub max_gateway_count: u32,
    /// Most devices, 0 = any number.
    pub max_device_count: u32,
}

/// A user's rights in a tenant; without any of the three he reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantUser {
    /// Tenant.
    pub tenant_id: String,
    /// User; may be left out if `email` is given.
    pub user_id: String,
    /// Everything within the tenant.
    pub is_admin: bool,
    /// Devices, applications, device profiles.
    pub is_device_admin: bool,
    /// Gateways.
    pub is_gateway_admin: bool,
    /// E-mail address of the user.
    pub email: String,
}

/// A user's rights with their times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantUserDetails {
    /// The rights.
    pub tenant_user: TenantUser,
    /// When he was added.
    pub created_at: Option<WallTime>,
    /// When his rights last changed.
    pub updated_at: Option<WallTime>,
}

/// A user of a tenant in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantUserListItem {
    /// Tenant.
    pub tenant_id: String,
    /// User.
    pub user_id: String,
    /// When he was added.
    pub created_at: Option<WallTime>,
    /// When his rights last changed.
    pub updated_at: Option<WallTime>,
    /// E-mail address.
    pub email: String,
    /// Everything within the tenant.
    pub is_admin: bool,
    /// Devices, applications, device profiles.
    pub is_device_admin: bool,
    /// Gateways.
    pub is_gateway_admin: bool,
}
