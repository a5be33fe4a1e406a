//! Tenants, their users, users.

use store::model::{PasswordHash, Tenant, TenantUser, User};
use store::{Command, Id, Put};

use super::desk::{
    Answer, Desk, WithHash, check_text, checked_name, denied, holds, missing, page,
    text_of_password,
};
use super::error::ApiError;
use super::machine::checked_password;
use super::operation::Outcome;
use super::who::{Rights, digest};
use super::wire::{self, Created, Empty, List, ListQuery, NewPassword};
use crate::effect::Secret;

/// The verifier of a password yet to be set.
fn no_password() -> PasswordHash {
    PasswordHash::Sha256([0; 32])
}

/// The identifier for an answer.
pub(super) fn created(id: Id) -> Outcome {
    Outcome::Created(Created { id: id.to_string() })
}

fn tenant_of_wire(id: Id, one: wire::Tenant) -> Result<Tenant, ApiError> {
    check_text(&one.description, &[("tags", &one.tags)])?;
    Ok(Tenant {
        id,
        name: checked_name("name", &one.name)?,
        description: one.description,
        can_have_gateways: one.can_have_gateways,
        max_gateway_count: one.max_gateway_count,
        max_device_count: one.max_device_count,
        private_gateways_up: one.private_gateways_up,
        private_gateways_down: one.private_gateways_down,
        tags: one.tags,
        ..Tenant::default()
    })
}

fn user_to_wire(user: &User) -> wire::User {
    wire::User {
        id: user.id.to_string(),
        is_admin: user.is_admin,
        is_active: user.is_active,
        email: user.email.clone(),
        note: user.note.clone(),
    }
}

/// Tenants.
impl Desk<'_> {
    pub(super) fn create_tenant(&mut self, tenant: wire::Tenant) -> Result<Answer, ApiError> {
        self.need_admin()?;
        let id = self.new_id();
        let value = tenant_of_wire(id, tenant)?;
        let command = Command::PutTenant(Put { must_exist: Some(false), value });
        Answer::done(vec![command], created(id))
    }

    pub(super) fn get_tenant(&self, id: &str) -> Result<Answer, ApiError> {
        let one = self.tenant(id)?;
        Ok(Answer::Now(Outcome::Tenant(wire::TenantDetails {
            tenant: wire::Tenant {
                id: one.id.to_string(),
                name: one.name.clone(),
                description: one.description.clone(),
                can_have_gateways: one.can_have_gateways,
                max_gateway_count: one.max_gateway_count,
                max_device_count: one.max_device_count,
                private_gateways_up: one.private_gateways_up,
                private_gateways_down: one.private_gateways_down,
                tags: one.tags.clone(),
            },
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
        })))
    }

    pub(super) fn update_tenant(&self, tenant: wire::Tenant) -> Result<Answer, ApiError> {
        self.need_admin()?;
        let value = tenant_of_wire(self.tenant(&tenant.id)?.id, tenant)?;
        Answer::one(Command::PutTenant(Put { must_exist: Some(true), value }))
    }

    pub(super) fn delete_tenant(&self, id: &str) -> Result<Answer, ApiError> {
        self.need_admin()?;
        if id.is_empty() {
            return Err(missing("tenant", id));
        }
        Answer::one(Command::DeleteTenant(self.tenant(id)?.id))
    }

    pub(super) fn list_tenants(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let of_user = match query.user_id.as_str() {
            "" => None,
            user => Some(self.user(user)?.id),
        };
        let state = self.view.state;
        let all = state.tenants().filter(|one| {
            self.rights(one.id).read
                && holds(&query.search, &[&one.name])
                && of_user.is_none_or(|user| state.tenant_user(one.id, user).is_some())
        });
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |one: &Tenant| wire::TenantListItem {
            id: one.id.to_string(),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            name: one.name.clone(),
            can_have_gateways: one.can_have_gateways,
            private_gateways_up: one.private_gateways_up,
            private_gateways_down: one.private_gateways_down,
            max_gateway_count: one.max_gateway_count,
            max_device_count: one.max_device_count,
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::Tenants(List { total_count, result })))
    }
}

/// Users of a tenant.
impl Desk<'_> {
    fn tenant_to_rule(&self, text: &str) -> Result<Id, ApiError> {
        let id = self.tenant(text)?.id;
        if self.rights(id).admin { Ok(id) } else { Err(denied("an administrator of the tenant")) }
    }

    pub(super) fn set_tenant_user(
        &self,
        row: &wire::TenantUser,
        must_exist: bool,
    ) -> Result<Answer, ApiError> {
        let tenant_id = self.tenant_to_rule(&row.tenant_id)?;
        let named = if row.user_id.is_empty() { &row.email } else { &row.user_id };
        let user_id = self.user(named)?.id;
        let exists = self.view.state.tenant_user(tenant_id, user_id).is_some();
        if must_exist && !exists {
            return Err(ApiError::NotFound(format!("`{named}` is no user of this tenant")));
        }
        if !must_exist && exists {
            let text = format!("`{named}` is a user of this tenant already");
            return Err(ApiError::AlreadyExists(text));
        }
        let rights = TenantUser {
            is_admin: row.is_admin,
            is_device_admin: row.is_device_admin,
            is_gateway_admin: row.is_gateway_admin,
            ..TenantUser::default()
        };
        Answer::one(Command::SetTenantUser { tenant_id, user_id, rights: Some(rights) })
    }

    pub(super) fn get_tenant_user(&self, tenant: &str, user: &str) -> Result<Answer, ApiError> {
        let tenant = self.tenant(tenant)?;
        let user = self.user(user)?;
        let row = self.view.state.tenant_user(tenant.id, user.id);
        let row = row.ok_or_else(|| missing("user of the tenant", &user.email))?;
        Ok(Answer::Now(Outcome::TenantUser(wire::TenantUserDetails {
            tenant_user: wire::TenantUser {
                tenant_id: tenant.id.to_string(),
                user_id: user.id.to_string(),
                is_admin: row.is_admin,
                is_device_admin: row.is_device_admin,
                is_gateway_admin: row.is_gateway_admin,
                email: user.email.clone(),
            },
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        })))
    }

    pub(super) fn delete_tenant_user(&self, tenant: &str, user: &str) -> Result<Answer, ApiError> {
        let tenant_id = self.tenant_to_rule(tenant)?;
        let user_id = self.user(user)?.id;
        Answer::one(Command::SetTenantUser { tenant_id, user_id, rights: None })
    }

    pub(super) fn list_tenant_users(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let tenant = self.tenant(&query.tenant_id)?;
        let state = self.view.state;
        let all = state.users_of(tenant.id).filter_map(|(id, row)| Some((state.user(id)?, row)));
        let all = all.filter(|(user, _)| holds(&query.search, &[&user.email]));
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |(user, row): (&User, &TenantUser)| wire::TenantUserListItem {
            tenant_id: tenant.id.to_string(),
            user_id: user.id.to_string(),
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
            email: user.email.clone(),
            is_admin: row.is_admin,
            is_device_admin: row.is_device_admin,
            is_gateway_admin: row.is_gateway_admin,
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::TenantUsers(List { total_count, result })))
    }
}

/// Users.
impl Desk<'_> {
    pub(super) fn create_user(&mut self, new: wire::NewUser) -> Result<Answer, ApiError> {
        self.need_admin()?;
        let id = self.new_id();
        let user = User {
            id,
            email: checked_name("email", &new.user.email)?,
            note: new.user.note,
            is_admin: new.user.is_admin,
            is_active: new.user.is_active,
            password: no_password(),
            generation: 0,
            created_at: self.view.now.wall,
            updated_at: self.view.now.wall,
        };
        let mut rows = Vec::new();
        for row in &new.tenants {
            let tenant_id = self.tenant(&row.tenant_id)?.id;
            let rights = Some(TenantUser {
                is_admin: row.is_admin,
                is_device_admin: row.is_device_admin,
                is_gateway_admin: row.is_gateway_admin,
                ..TenantUser::default()
            });
            rows.push(Command::SetTenantUser { tenant_id, user_id: id, rights });
        }
        let then: WithHash = Box::new(move |password| {
            let value = User { password, ..user };
            let mut commands = vec![Command::PutUser(Put { must_exist: Some(false), value })];
            commands.extend(rows);
            commands
        });
        let mut made = wire::UserCreated { id: id.to_string(), password: String::new() };
        if new.password.is_empty() {
            made.password = text_of_password(self.draw());
            let verifier = PasswordHash::Sha256(digest(made.password.as_bytes()));
            return Answer::done(then(verifier), Outcome::UserCreated(made));
        }
        let password = checked_password(new.password)?;
        Ok(Answer::Hash { password, then, outcome: Outcome::UserCreated(made) })
    }

    /// A user whom the caller may look at: anybody for an administrator, else himself.
    fn user_to_see(&self, text: &str) -> Result<&User, ApiError> {
        let user = self.user(text)?;
        let may = self.who.is_admin || self.who.user == Some(user.id);
        if may { Ok(user) } else { Err(denied("a global administrator, or the user himself")) }
    }

    pub(super) fn get_user(&self, id: &str) -> Result<Answer, ApiError> {
        let user = self.user_to_see(id)?;
        Ok(Answer::Now(Outcome::User(wire::UserDetails {
            user: user_to_wire(user),
            created_at: Some(user.created_at),
            updated_at: Some(user.updated_at),
        })))
    }

    pub(super) fn update_user(&self, user: &wire::User) -> Result<Answer, ApiError> {
        self.need_admin()?;
        let named = if user.id.is_empty() { &user.email } else { &user.id };
        let old = self.user(named)?;
        if self.who.user == Some(old.id) && !(user.is_active && user.is_admin) {
            let why = "you cannot take your own rights: another administrator can";
            return Err(ApiError::invalid("isAdmin", why));
        }
        let value = User {
            email: checked_name("email", &user.email)?,
            note: user.note.clone(),
            is_admin: user.is_admin,
            is_active: user.is_active,
            ..old.clone()
        };
        Answer::one(Command::PutUser(Put { must_exist: Some(true), value }))
    }

    pub(super) fn delete_user(&self, id: &str) -> Result<Answer, ApiError> {
        self.need_admin()?;
        let user = self.user(id)?;
        if self.who.user == Some(user.id) {
            let why = "you cannot delete yourself: another administrator can";
            return Err(ApiError::invalid("id", why));
        }
        Answer::one(Command::DeleteUser(user.id))
    }

    pub(super) fn list_users(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        if !self.who.is_admin {
            return Err(denied("a global administrator"));
        }
        let all = self.view.state.users().filter(|one| holds(&query.search, &[&one.email]));
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |one: &User| wire::UserListItem {
            id: one.id.to_string(),
            created_at: Some(one.created_at),
            updated_at: Some(one.updated_at),
            email: one.email.clone(),
            is_admin: one.is_admin,
            is_active: one.is_active,
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::Users(List { total_count, result })))
    }

    pub(super) fn set_password(
        &mut self,
        user: &str,
        password: Option<Secret>,
    ) -> Result<Answer, ApiError> {
        let user = self.user(user)?;
        let (user_id, email) = (user.id, user.email.clone());
        if !self.who.is_writing_admin() && self.who.user != Some(user_id) {
            return Err(denied("a global administrator, or the user himself"));
        }
        let Some(password) = password else {
            let drawn = text_of_password(self.draw());
            let verifier = PasswordHash::Sha256(digest(drawn.as_bytes()));
            let command = Command::SetPassword { user_id, password: verifier };
            let outcome = Outcome::Password(NewPassword { email, password: drawn });
            return Answer::done(vec![command], outcome);
        };
        let password = checked_password(password.expose().to_owned())?;
        let then = Box::new(move |password| vec![Command::SetPassword { user_id, password }]);
        Ok(Answer::Hash { password, then, outcome: Outcome::Empty(Empty {}) })
    }

    /// The caller's rights by tenant, for his profile.
    pub(super) fn profile_tenants(&self) -> Vec<wire::ProfileTenant> {
        let state = self.view.state;
        if let Some(tenant) = self.who.key_tenant {
            let Rights { admin, devices, gateways, .. } = self.rights(tenant);
            return vec![wire::ProfileTenant {
                tenant_id: tenant.to_string(),
                is_admin: admin,
                is_device_admin: devices,
                is_gateway_admin: gateways,
                ..wire::ProfileTenant::default()
            }];
        }
        let Some(user) = self.who.user else { return Vec::new() };
        let row = |(tenant, row): (Id, &TenantUser)| wire::ProfileTenant {
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
            tenant_id: tenant.to_string(),
            is_admin: row.is_admin,
            is_device_admin: row.is_device_admin,
            is_gateway_admin: row.is_gateway_admin,
        };
        state.tenants_of(user).map(row).collect()
    }

    pub(super) fn get_profile(&self) -> Result<Answer, ApiError> {
        let user = match self.who.user.and_then(|id| self.view.state.user(id)) {
            Some(user) => user_to_wire(user),
            None => wire::User {
                email: if self.who.key_tenant.is_some() { "api-key" } else { "local" }.into(),
                is_admin: self.who.is_admin,
                is_active: true,
                ..wire::User::default()
            },
        };
        let tenants = self.profile_tenants();
        Ok(Answer::Now(Outcome::Profile(wire::Profile { user, tenants })))
    }
}
