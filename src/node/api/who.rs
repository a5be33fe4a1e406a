//! Who calls, and what that allows: global administrator, tenant administrator, device
//! administrator, gateway administrator, reader. A read-only API key reads what its role reads.

use clock::{Now, WallTime};
use sha2::{Digest as _, Sha256};
use store::model::PasswordHash;
use store::{Id, State};

use super::error::ApiError;
use super::login::{Login, Logins};
use super::operation::Credentials;
use crate::vault::Vault;

/// What an API key begins with: `tk_<id>_<secret>`.
pub(super) const API_KEY_PREFIX: &str = "tk_";

/// A caller who has shown who he is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Principal {
    /// May do everything.
    pub(super) is_admin: bool,
    /// May change nothing and see no key.
    pub(super) is_read_only: bool,
    /// The user, if it is one.
    pub(super) user: Option<Id>,
    /// The tenant whose administrator an API key is.
    pub(super) key_tenant: Option<Id>,
    /// Hash and end of the login token used.
    pub(super) login: Option<([u8; 32], WallTime)>,
}

/// What a caller may do in one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rights {
    /// See it.
    pub(super) read: bool,
    /// Its users, API keys and accounts.
    pub(super) admin: bool,
    /// Applications, profiles, devices; also see keys.
    pub(super) devices: bool,
    /// Gateways.
    pub(super) gateways: bool,
}

impl Principal {
    /// The local operator.
    pub(super) fn local() -> Self {
        Self { is_admin: true, ..Self::default() }
    }

    /// What he may do in `tenant`.
    pub(super) fn rights(&self, state: &State, tenant: Id) -> Rights {
        let write = !self.is_read_only;
        if self.is_admin || self.key_tenant == Some(tenant) {
            return Rights { read: true, admin: write, devices: write, gateways: write };
        }
        let Some(row) = self.user.and_then(|user| state.tenant_user(tenant, user)) else {
            return Rights::default();
        };
        Rights {
            read: true,
            admin: row.is_admin,
            devices: row.is_admin || row.is_device_admin,
            gateways: row.is_admin || row.is_gateway_admin,
        }
    }

    /// Whether he may do what concerns the whole server.
    pub(super) fn is_writing_admin(&self) -> bool {
        self.is_admin && !self.is_read_only
    }
}

/// SHA-256 of a secret that was drawn, not chosen.
pub(super) fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// Whether a drawn secret is the one of the verifier; a chosen password is checked elsewhere.
pub(super) fn is_drawn_secret(verifier: &PasswordHash, secret: &[u8]) -> bool {
    match verifier {
        PasswordHash::Sha256(expected) => *expected == digest(secret),
        PasswordHash::Phc(_) => false,
    }
}

/// Finds out who calls; `None` for nobody in particular.
///
/// * Errors: [`ApiError::Unauthenticated`] for a token that is not known, or no longer.
pub(super) fn identify(
    credentials: &Credentials,
    state: &State,
    vault: &Vault,
    logins: &Logins,
    now: Now,
) -> Result<Option<Principal>, ApiError> {
    let token = match credentials {
        Credentials::Anonymous => return Ok(None),
        Credentials::Local => return Ok(Some(Principal::local())),
        Credentials::Bearer(token) => token.expose(),
    };
    let unknown = || ApiError::Unauthenticated("this token is not known here: log in again".into());
    if let Some(rest) = token.strip_prefix(API_KEY_PREFIX) {
        let (id, secret) = rest.split_once('_').ok_or_else(unknown)?;
        let key = id.parse().ok().and_then(|id| state.api_key(id)).ok_or_else(unknown)?;
        if !is_drawn_secret(&key.secret, secret.as_bytes()) {
            return Err(unknown());
        }
        return Ok(Some(Principal {
            is_admin: key.is_admin,
            is_read_only: key.is_read_only,
            key_tenant: key.tenant_id,
            ..Principal::default()
        }));
    }
    let hash = digest(token.as_bytes());
    let login = Login::of_token(vault, token).ok_or_else(unknown)?;
    if !logins.is_in_force(&hash, &login, now.wall) {
        return Err(unknown());
    }
    let user = state.user(login.user);
    let user = user.filter(|user| user.is_active && user.generation == login.generation);
    let user = user.ok_or_else(unknown)?;
    Ok(Some(Principal {
        is_admin: user.is_admin,
        user: Some(user.id),
        login: Some((hash, login.ends)),
        ..Principal::default()
    }))
}
