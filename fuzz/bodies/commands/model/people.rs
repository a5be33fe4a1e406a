//! Tenants, users, API keys, MQTT accounts.

use store::model::{ApiKey, MqttAccount, MqttScope, PasswordHash, Tenant, TenantUser, User};
use store::{Id, Put};

use super::{DONE, Decision, Model, already_exists, expect, need, not_found};

impl Model {
    pub(super) fn put_tenant(&mut self, put: &Put<Tenant>) -> Decision {
        let value = &put.value;
        let old = self.tenants.get(&value.id);
        expect(put.must_exist, old.is_some())?;
        let mut others = self.tenants.values().filter(|other| other.id != value.id);
        need(others.all(|other| other.name != value.name), already_exists())?;
        let created_at = old.map_or(self.now, |old| old.created_at);
        let tenant = Tenant { created_at, updated_at: self.now, ..value.clone() };
        self.tenants.insert(tenant.id, tenant);
        DONE
    }

    /// All that a tenant owns goes with it.
    pub(super) fn delete_tenant(&mut self, id: Id) -> Decision {
        need(self.tenants.remove(&id).is_some(), not_found())?;
        let his = self.applications.values().filter(|one| one.tenant_id == id);
        for application in his.map(|one| one.id).collect::<Vec<_>>() {
            self.remove_application(application);
        }
        self.profiles.retain(|_, profile| profile.tenant_id != Some(id));
        self.gateways.retain(|_, gateway| gateway.tenant_id != id);
        self.rights.retain(|(tenant, _), _| *tenant != id);
        self.api_keys.retain(|_, key| key.tenant_id != Some(id));
        self.remove_accounts_of(MqttScope::Tenant(id));
        DONE
    }

    pub(super) fn set_rights(
        &mut self,
        tenant: Id,
        user: Id,
        rights: Option<TenantUser>,
    ) -> Decision {
        need(self.tenants.contains_key(&tenant), not_found())?;
        need(self.users.contains_key(&user), not_found())?;
        let old = self.rights.remove(&(tenant, user));
        need(old.is_some() || rights.is_some(), not_found())?;
        if let Some(rights) = rights {
            let created_at = old.map_or(self.now, |old| old.created_at);
            let rights = TenantUser { created_at, updated_at: self.now, ..rights };
            self.rights.insert((tenant, user), rights);
        }
        DONE
    }

    /// A change keeps the password; becoming active or inactive ends older log-ins.
    pub(super) fn put_user(&mut self, put: &Put<User>) -> Decision {
        let value = &put.value;
        let old = self.users.get(&value.id);
        expect(put.must_exist, old.is_some())?;
        let mut others = self.users.values().filter(|other| other.id != value.id);
        need(others.all(|other| other.email != value.email), already_exists())?;
        let mut user = User { created_at: self.now, updated_at: self.now, ..value.clone() };
        if let Some(old) = old {
            user.created_at = old.created_at;
            user.password = old.password.clone();
            user.generation = old.generation + u32::from(old.is_active != user.is_active);
        }
        self.users.insert(user.id, user);
        DONE
    }

    pub(super) fn set_password(&mut self, id: Id, password: &PasswordHash) -> Decision {
        let user = self.users.get_mut(&id).ok_or_else(not_found)?;
        user.password = password.clone();
        user.generation += 1;
        user.updated_at = self.now;
        DONE
    }

    pub(super) fn delete_user(&mut self, id: Id) -> Decision {
        need(self.users.remove(&id).is_some(), not_found())?;
        self.rights.retain(|(_, user), _| *user != id);
        DONE
    }

    pub(super) fn create_api_key(&mut self, key: &ApiKey) -> Decision {
        need(!self.api_keys.contains_key(&key.id), already_exists())?;
        let has_owner = key.tenant_id.is_none_or(|tenant| self.tenants.contains_key(&tenant));
        need(has_owner, not_found())?;
        self.api_keys.insert(key.id, ApiKey { created_at: self.now, ..key.clone() });
        DONE
    }

    /// Who sees something else now must not find in his queues what he saw before.
    pub(super) fn put_account(&mut self, put: &Put<MqttAccount>) -> Decision {
        let value = &put.value;
        let old = self.accounts.get(&value.name);
        expect(put.must_exist, old.is_some())?;
        let is_there = match value.scope {
            MqttScope::All => true,
            MqttScope::Tenant(id) => self.tenants.contains_key(&id),
            MqttScope::Application(id) => self.applications.contains_key(&id),
        };
        need(is_there, not_found())?;
        let created_at = old.map_or(self.now, |old| old.created_at);
        if old.is_some_and(|old| old.scope != value.scope) {
            self.sessions.retain(|_, session| session.account != value.name);
        }
        let account = MqttAccount { created_at, ..value.clone() };
        self.accounts.insert(account.name.clone(), account);
        DONE
    }

    pub(super) fn delete_account(&mut self, name: &str) -> Decision {
        need(self.accounts.remove(name).is_some(), not_found())?;
        self.sessions.retain(|_, session| session.account != name);
        DONE
    }

    /// The accounts that saw only what is gone go too, and their sessions with them.
    pub(super) fn remove_accounts_of(&mut self, scope: MqttScope) {
        self.accounts.retain(|_, account| account.scope != scope);
        self.sessions.retain(|_, session| self.accounts.contains_key(&session.account));
    }
}
