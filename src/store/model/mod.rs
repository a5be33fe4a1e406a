//! The registry: who may use the network, and with what. Fields and their meaning are those of the
//! field's REST API, so that its clients find what they know; what is ours alone says so.

mod account;
mod application;
mod device;
mod earlier;
mod gateway;
mod profile;
mod tenant;

use std::collections::BTreeMap;

pub use account::{ApiKey, MqttAccount, MqttScope, PasswordHash, User};
pub use application::Application;
pub use device::{Device, DeviceKeys, DeviceStatus, ItemState, QueueItem, UsedNonces};
pub use earlier::EarlierReplies;
pub use gateway::{Gateway, Location};
pub use profile::DeviceProfile;
pub use tenant::{Tenant, TenantUser};

/// Names and values that people attach to things.
pub type Tags = BTreeMap<String, String>;
