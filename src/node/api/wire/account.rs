//! Users, API keys, MQTT accounts, logins.

use clock::WallTime;
use serde::{Deserialize, Serialize};

/// Somebody who logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// UUID; given by the server.
    pub id: String,
    /// May do everything.
    pub is_admin: bool,
    /// May log in.
    pub is_active: bool,
    /// Login name, usually an e-mail address; unique.
    pub email: String,
    /// Free text.
    pub note: String,
}

/// A user with his times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserDetails {
    /// The user.
    pub user: User,
    /// When he was made.
    pub created_at: Option<WallTime>,
    /// When he was last changed.
    pub updated_at: Option<WallTime>,
}

/// A user in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserListItem {
    /// UUID.
    pub id: String,
    /// When he was made.
    pub created_at: Option<WallTime>,
    /// When he was last changed.
    pub updated_at: Option<WallTime>,
    /// Login name.
    pub email: String,
    /// May do everything.
    pub is_admin: bool,
    /// May log in.
    pub is_active: bool,
}

/// A new user's rights in one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserTenant {
    /// Tenant.
    pub tenant_id: String,
    /// Everything within it.
    pub is_admin: bool,
    /// Devices, applications, device profiles.
    pub is_device_admin: bool,
    /// Gateways.
    pub is_gateway_admin: bool,
}

/// A user to be made.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewUser {
    /// The user.
    pub user: User,
    /// His password, 8 to 128 characters; empty (ours): the server draws one and shows it once.
    pub password: String,
    /// His rights.
    pub tenants: Vec<UserTenant>,
}

impl core::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NewUser({})", self.user.email)
    }
}

/// A new user.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserCreated {
    /// UUID.
    pub id: String,
    /// Ours: the password if the server drew it; shown once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
}

impl core::fmt::Debug for UserCreated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "UserCreated({})", self.id)
    }
}

/// A password drawn by the server; shown once.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewPassword {
    /// Login name.
    pub email: String,
    /// The password.
    pub password: String,
}

impl core::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NewPassword({})", self.email)
    }
}

/// A token for programs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKey {
    /// UUID; given by the server.
    pub id: String,
    /// For people.
    pub name: String,
    /// May do everything.
    pub is_admin: bool,
    /// Else: the tenant whose administrator it is.
    pub tenant_id: String,
    /// Only reads.
    pub is_read_only: bool,
}

/// A new API key; the token is shown once.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiKeyCreated {
    /// UUID.
    pub id: String,
    /// For `Authorization: Bearer`.
    pub token: String,
}

impl core::fmt::Debug for ApiKeyCreated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ApiKeyCreated({})", self.id)
    }
}

/// The answer to a login.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoginToken {
    /// For `Authorization: Bearer`; the field's name for it, though it is no JWT.
    pub jwt: String,
    /// Ours: when it ends.
    pub expires_at: Option<WallTime>,
}

impl core::fmt::Debug for LoginToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "LoginToken(until {:?})", self.expires_at)
    }
}

/// Who the caller is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// The user; for an API key or the local socket one made up with its rights.
    pub user: User,
    /// His rights.
    pub tenants: Vec<ProfileTenant>,
}

/// The caller's rights in one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileTenant {
    /// When he was added.
    pub created_at: Option<WallTime>,
    /// When his rights last changed.
    pub updated_at: Option<WallTime>,
    /// Tenant.
    pub tenant_id: String,
    /// Everything within it.
    pub is_admin: bool,
    /// Devices, applications, device profiles.
    pub is_device_admin: bool,
    /// Gateways.
    pub is_gateway_admin: bool,
}

/// An account of the broker. Ours alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MqttUser {
    /// User name; unique.
    pub name: String,
    /// Sees this application alone.
    pub application_id: String,
    /// Else: sees the applications of this tenant.
    pub tenant_id: String,
    /// Else, if true: sees everything.
    pub all: bool,
    /// May publish, not only read.
    pub can_publish: bool,
    /// To be set, 8 to 128 characters; empty on creation: the server draws one. Never in an answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// When it was made; set by the server.
    pub created_at: Option<WallTime>,
}

impl core::fmt::Debug for MqttUser {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MqttUser({})", self.name)
    }
}

/// A new account of the broker, with what a client needs. Ours alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MqttUserCreated {
    /// User name.
    pub name: String,
    /// The password if the server drew it; shown once.
    pub password: String,
    /// A topic filter that covers what it may see.
    pub topic: String,
    /// The broker's port.
    pub port: u16,
}

impl core::fmt::Debug for MqttUserCreated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MqttUserCreated({})", self.name)
    }
}
