//! Applications.

use clock::WallTime;
use minicbor::{Decode, Encode};

use super::Tags;
use crate::Id;

/// A set of devices whose events belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Application {
    /// Identifier; part of every topic.
    #[n(0)]
    pub id: Id,
    /// Owner.
    #[n(1)]
    pub tenant_id: Id,
    /// For people; unique in its tenant.
    #[n(2)]
    pub name: String,
    /// Free text.
    #[n(3)]
    pub description: String,
    /// Free names and values, part of every event.
    #[n(4)]
    pub tags: Tags,
    /// When it was made.
    #[n(5)]
    pub created_at: WallTime,
    /// When it was last changed.
    #[n(6)]
    pub updated_at: WallTime,
}
