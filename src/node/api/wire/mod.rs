//! The values of the API with the field names of the field's REST API in JSON (camelCase; absent
//! and null mean the default). They are what both the web layer and the command line speak.
//!
//! What is ours alone says so. Times are RFC 3339; bytes are base64.

mod account;
mod application;
mod cluster;
mod device;
mod event;
mod gateway;
mod import;
mod member;
mod node;
mod profile;
mod tenant;

pub use account::{
    ApiKey, ApiKeyCreated, LoginToken, MqttUser, MqttUserCreated, NewPassword, NewUser, Profile,
    ProfileTenant, User, UserCreated, UserDetails, UserListItem, UserTenant,
};
pub use application::{Application, ApplicationDetails, ApplicationListItem};
pub use cluster::{ClusterInfo, MemberInfo, MembershipAnswer};
pub use device::{
    ActivationDetails, Device, DeviceActivation, DeviceDetails, DeviceKeys, DeviceKeysDetails,
    DeviceListItem, DeviceStatus, NextFCntDown, QueueItem, QueueItems, RandomDevAddr,
};
pub use event::{EventItem, EventPage, WatchItem, WatchLevel, WatchLine, WatchPage};
pub use gateway::{
    Gateway, GatewayDetails, GatewayListItem, GatewayState, Location, UnknownGateway,
};
pub use import::{DeviceImport, ImportedItem, ImportedSession};
pub use member::{MemberEvent, MemberEventPage, MemberNews};
pub use node::{Health, Listen, Metric, MetricKind, NodeInfo, NodeState};
pub use profile::{DeviceProfile, DeviceProfileDetails, DeviceProfileListItem};
pub use tenant::{
    Tenant, TenantDetails, TenantListItem, TenantUser, TenantUserDetails, TenantUserListItem,
};

use serde::{Deserialize, Serialize};

/// Names and values that people attach to things.
pub type Tags = std::collections::BTreeMap<String, String>;

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The identifier of what was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Created {
    /// UUID.
    pub id: String,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// How many there are in all.
    pub total_count: u32,
    /// The page; empty if the limit asked was 0.
    pub result: Vec<T>,
}

/// What part of a list is wanted. Empty texts mean "any".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListQuery {
    /// Most items wanted; 0 asks for the count alone; at most 1,000 are given.
    pub limit: u32,
    /// Items to leave out at the front.
    pub offset: u32,
    /// Text that the name (or EUI, or e-mail address) must contain, in either case.
    pub search: String,
    /// Tenant, by id or name.
    pub tenant_id: String,
    /// Application, by id or name.
    pub application_id: String,
    /// Device profile, by id or name.
    pub device_profile_id: String,
    /// User, by id or e-mail address.
    pub user_id: String,
    /// `NAME`, `DEV_EUI`, `GATEWAY_ID`, `LAST_SEEN_AT` or `DEVICE_PROFILE_NAME`.
    pub order_by: String,
    /// Backwards.
    pub order_by_desc: bool,
    /// API keys: those of global administrators.
    pub is_admin: bool,
}
