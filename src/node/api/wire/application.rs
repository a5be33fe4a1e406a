//! Applications.

use clock::WallTime;
use serde::{Deserialize, Serialize};

use super::Tags;

/// An application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Application {
    /// UUID; given by the server.
    pub id: String,
    /// Unique in its tenant.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Owner.
    pub tenant_id: String,
    /// Free names and values, part of every event.
    pub tags: Tags,
}

/// An application with its times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationDetails {
    /// The application.
    pub application: Application,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
}

/// An application in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApplicationListItem {
    /// UUID.
    pub id: String,
    /// When it was made.
    pub created_at: Option<WallTime>,
    /// When it was last changed.
    pub updated_at: Option<WallTime>,
    /// Name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Ours: its tenant.
    pub tenant_id: String,
}
