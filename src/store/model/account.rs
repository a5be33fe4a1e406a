//! Who may speak to the server: users, API keys, MQTT accounts.

use clock::WallTime;
use minicbor::{Decode, Encode};

use crate::Id;

/// A verifier of a password, never the password.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum PasswordHash {
    /// A PHC string (argon2id): for what people choose.
    #[n(0)]
    Phc(#[n(0)] String),
    /// SHA-256 of a secret of 128 bits or more that this server drew itself.
    #[n(1)]
    Sha256(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        [u8; 32],
    ),
}

impl core::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// Somebody who logs in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct User {
    /// Identifier.
    #[n(0)]
    pub id: Id,
    /// Login name, usually an e-mail address; unique. The first one is `admin`.
    #[n(1)]
    pub email: String,
    /// Free text.
    #[n(2)]
    pub note: String,
    /// May do everything.
    #[n(3)]
    pub is_admin: bool,
    /// May log in.
    #[n(4)]
    pub is_active: bool,
    /// Verifier of the password.
    #[n(5)]
    pub password: PasswordHash,
    /// Raised by each change of password or activity: sessions of an older one end.
    #[n(6)]
    pub generation: u32,
    /// When it was made.
    #[n(7)]
    pub created_at: WallTime,
    /// When it was last changed.
    #[n(8)]
    pub updated_at: WallTime,
}

/// A token for programs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ApiKey {
    /// Identifier; part of the token.
    #[n(0)]
    pub id: Id,
    /// For people.
    #[n(1)]
    pub name: String,
    /// May do everything.
    #[n(2)]
    pub is_admin: bool,
    /// Else: the tenant whose administrator it is.
    #[n(3)]
    pub tenant_id: Option<Id>,
    /// Only reads.
    #[n(4)]
    pub is_read_only: bool,
    /// Verifier of the token's secret.
    #[n(5)]
    pub secret: PasswordHash,
    /// When it was made.
    #[n(6)]
    pub created_at: WallTime,
}

/// What an MQTT account sees: nothing outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MqttScope {
    /// Every topic of every tenant.
    #[n(0)]
    All,
    /// The topics of the tenant's applications.
    #[n(1)]
    Tenant(#[n(0)] Id),
    /// The topics of one application.
    #[n(2)]
    Application(#[n(0)] Id),
}

/// An account of the broker.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct MqttAccount {
    /// User name; unique.
    #[n(0)]
    pub name: String,
    /// What it sees.
    #[n(1)]
    pub scope: MqttScope,
    /// May publish (`command/down`, and its own topics), not only read.
    #[n(2)]
    pub can_publish: bool,
    /// Verifier of the password.
    #[n(3)]
    pub password: PasswordHash,
    /// When it was made.
    #[n(4)]
    pub created_at: WallTime,
}
