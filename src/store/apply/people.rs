//! Tenants, users, API keys, MQTT accounts: who may do what.

use std::sync::Arc;

use super::{Applied, Change, Decision, check_put};
use crate::model::{ApiKey, MqttAccount, MqttScope, PasswordHash, Tenant, TenantUser, User};
use crate::{Id, Put, Refusal, Reply, State};

impl State {
    pub(super) fn put_tenant(&mut self, put: &Put<Tenant>, applied: &mut Applied) -> Decision {
        let id = put.value.id;
        let old = self.tenants.get(&id).cloned();
        check_put(put.must_exist, old.is_some(), || format!("tenant {id}"))?;
        let namesake = self.index.tenant_names.get(&put.value.name);
        if namesake.is_some_and(|other| *other != id) {
            return Err(Refusal::AlreadyExists(format!("a tenant named {}", put.value.name)));
        }
        let now = self.time();
        let mut tenant = put.value.clone();
        tenant.updated_at = now;
        tenant.created_at = old.as_ref().map_or(now, |old| old.created_at);
        if let Some(old) = old {
            self.index.tenant_names.remove(&old.name);
        }
        self.index.tenant_added(&tenant);
        self.tenants.insert(id, Arc::new(tenant));
        applied.changes.push(Change::Tenant(id));
        Ok(Reply::Done)
    }

    /// Deletes a tenant with all it owns: applications and their devices, device profiles,
    /// gateways, API keys, MQTT accounts and their sessions, and what its users may do in it.
    pub(super) fn delete_tenant(&mut self, id: Id, applied: &mut Applied) -> Decision {
        let Some(tenant) = self.tenants.get(&id).cloned() else {
            return Err(Refusal::NotFound(format!("tenant {id}")));
        };
        for application in self.applications_of(id).map(|one| one.id).collect::<Vec<_>>() {
            self.remove_application(application, applied);
        }
        for profile in self.profiles_of(id).map(|one| one.id).collect::<Vec<_>>() {
            self.remove_device_profile(profile, applied);
        }
        for gateway in self.gateways_of(id).map(|one| one.gateway_id).collect::<Vec<_>>() {
            self.remove_gateway(gateway, applied);
        }
        for user in self.users_of(id).map(|(user, _)| user).collect::<Vec<_>>() {
            self.tenant_users.remove(&(id, user));
            applied.changes.push(Change::User(user));
        }
        let keys = self.api_keys.values().filter(|key| key.tenant_id == Some(id));
        for key in keys.map(|key| key.id).collect::<Vec<_>>() {
            self.api_keys.remove(&key);
            applied.changes.push(Change::ApiKey(key));
        }
        self.remove_accounts_within(MqttScope::Tenant(id), applied);
        self.index.tenant_names.remove(&tenant.name);
        self.tenants.remove(&id);
        applied.changes.push(Change::Tenant(id));
        Ok(Reply::Done)
    }

    pub(super) fn set_tenant_user(
        &mut self,
        tenant_id: Id,
        user_id: Id,
        rights: Option<TenantUser>,
        applied: &mut Applied,
    ) -> Decision {
        if !self.tenants.contains_key(&tenant_id) {
            return Err(Refusal::NotFound(format!("tenant {tenant_id}")));
        }
        if !self.users.contains_key(&user_id) {
            return Err(Refusal::NotFound(format!("user {user_id}")));
        }
        let key = (tenant_id, user_id);
        let old = self.tenant_users.get(&key).copied();
        match rights {
            Some(rights) => {
                let updated_at = self.time();
                let created_at = old.map_or(updated_at, |old| old.created_at);
                self.tenant_users.insert(key, TenantUser { created_at, updated_at, ..rights });
            }
            None if old.is_none() => {
                return Err(Refusal::NotFound(format!("user {user_id} in tenant {tenant_id}")));
            }
            None => {
                self.tenant_users.remove(&key);
            }
        }
        applied.changes.push(Change::User(user_id));
        Ok(Reply::Done)
    }

    /// Creates or changes a user. A change keeps the password, which [`Self::set_password`] alone
    /// sets; becoming active or inactive raises the generation.
    pub(super) fn put_user(&mut self, put: &Put<User>, applied: &mut Applied) -> Decision {
        let id = put.value.id;
        let old = self.users.get(&id).cloned();
        check_put(put.must_exist, old.is_some(), || format!("user {id}"))?;
        let namesake = self.index.user_emails.get(&put.value.email);
        if namesake.is_some_and(|other| *other != id) {
            return Err(Refusal::AlreadyExists(format!("user {}", put.value.email)));
        }
        let now = self.time();
        let mut user = User { created_at: now, updated_at: now, ..put.value.clone() };
        if let Some(old) = old {
            user.created_at = old.created_at;
            user.password = old.password.clone();
            let turned = u32::from(old.is_active != user.is_active);
            user.generation = old.generation.saturating_add(turned);
            self.index.user_emails.remove(&old.email);
        }
        self.index.user_added(&user);
        self.users.insert(id, Arc::new(user));
        applied.changes.push(Change::User(id));
        Ok(Reply::Done)
    }

    pub(super) fn set_password(
        &mut self,
        user_id: Id,
        password: &PasswordHash,
        applied: &mut Applied,
    ) -> Decision {
        let now = self.time();
        let Some(user) = self.users.get_mut(&user_id) else {
            return Err(Refusal::NotFound(format!("user {user_id}")));
        };
        let user = Arc::make_mut(user);
        user.password = password.clone();
        user.generation = user.generation.saturating_add(1);
        user.updated_at = now;
        applied.changes.push(Change::User(user_id));
        Ok(Reply::Done)
    }

    pub(super) fn delete_user(&mut self, id: Id, applied: &mut Applied) -> Decision {
        let Some(user) = self.users.remove(&id) else {
            return Err(Refusal::NotFound(format!("user {id}")));
        };
        self.index.user_emails.remove(&user.email);
        let tenants = self.tenant_users.keys().filter(|(_, user)| *user == id);
        for key in tenants.copied().collect::<Vec<_>>() {
            self.tenant_users.remove(&key);
        }
        applied.changes.push(Change::User(id));
        Ok(Reply::Done)
    }

    pub(super) fn create_api_key(&mut self, key: &ApiKey, applied: &mut Applied) -> Decision {
        if self.api_keys.contains_key(&key.id) {
            return Err(Refusal::AlreadyExists(format!("API key {}", key.id)));
        }
        if let Some(tenant) = key.tenant_id
            && !self.tenants.contains_key(&tenant)
        {
            return Err(Refusal::NotFound(format!("tenant {tenant}")));
        }
        let created = ApiKey { created_at: self.time(), ..key.clone() };
        self.api_keys.insert(key.id, Arc::new(created));
        applied.changes.push(Change::ApiKey(key.id));
        Ok(Reply::Done)
    }

    pub(super) fn delete_api_key(&mut self, id: Id, applied: &mut Applied) -> Decision {
        if self.api_keys.remove(&id).is_none() {
            return Err(Refusal::NotFound(format!("API key {id}")));
        }
        applied.changes.push(Change::ApiKey(id));
        Ok(Reply::Done)
    }

    /// Creates or changes an MQTT account. Another scope ends its persistent sessions, whose queues
    /// may hold what it no longer sees.
    pub(super) fn put_mqtt_account(
        &mut self,
        put: &Put<MqttAccount>,
        applied: &mut Applied,
    ) -> Decision {
        let name = &put.value.name;
        let old = self.mqtt_accounts.get(name).cloned();
        check_put(put.must_exist, old.is_some(), || format!("MQTT account {name}"))?;
        match put.value.scope {
            MqttScope::Tenant(id) if !self.tenants.contains_key(&id) => {
                return Err(Refusal::NotFound(format!("tenant {id}")));
            }
            MqttScope::Application(id) if !self.applications.contains_key(&id) => {
                return Err(Refusal::NotFound(format!("application {id}")));
            }
            MqttScope::All | MqttScope::Tenant(_) | MqttScope::Application(_) => {}
        }
        let now = self.time();
        let created_at = old.as_ref().map_or(now, |old| old.created_at);
        if old.is_some_and(|old| old.scope != put.value.scope) {
            self.end_sessions_of(name, applied);
        }
        let account = MqttAccount { created_at, ..put.value.clone() };
        self.mqtt_accounts.insert(name.clone(), Arc::new(account));
        applied.changes.push(Change::MqttAccount(name.clone()));
        Ok(Reply::Done)
    }

    pub(super) fn delete_mqtt_account(&mut self, name: &str, applied: &mut Applied) -> Decision {
        if !self.mqtt_accounts.contains_key(name) {
            return Err(Refusal::NotFound(format!("MQTT account {name}")));
        }
        self.remove_account(name, applied);
        Ok(Reply::Done)
    }

    fn remove_account(&mut self, name: &str, applied: &mut Applied) {
        self.end_sessions_of(name, applied);
        self.mqtt_accounts.remove(name);
        applied.changes.push(Change::MqttAccount(name.to_owned()));
    }

    /// Removes the accounts that see nothing but `scope`.
    pub(super) fn remove_accounts_within(&mut self, scope: MqttScope, applied: &mut Applied) {
        let within = self.mqtt_accounts.values().filter(|account| account.scope == scope);
        for name in within.map(|account| account.name.clone()).collect::<Vec<_>>() {
            self.remove_account(&name, applied);
        }
    }
}
