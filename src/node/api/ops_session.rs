//! Logins, API keys, accounts of the broker.

use store::model::{ApiKey, MqttAccount, MqttScope, PasswordHash};
use store::{Command, Id, Put};

use super::desk::{
    Answer, Desk, LoginCheck, checked_name, denied, holds, missing, page, text_of_password,
    text_of_secret,
};
use super::error::ApiError;
use super::login::Logins;
use super::machine::{View, checked_password};
use super::operation::Outcome;
use super::who::{API_KEY_PREFIX, digest, is_drawn_secret};
use super::wire::{self, ApiKeyCreated, Empty, List, ListQuery, MqttUser, MqttUserCreated};
use crate::effect::Secret;

/// Longest user name of an MQTT account, in bytes.
const MQTT_NAME_MAX: usize = 128;

/// Begins a login.
///
/// * Errors: too many failures of this name lately.
pub(super) fn login(
    view: &View<'_>,
    logins: &Logins,
    email: &str,
    password: Secret,
) -> Result<Answer, ApiError> {
    let email: String = email.trim().chars().take(200).collect();
    if let Some(wait) = logins.must_wait(&email, view.now.instant) {
        let text = format!("too many failed logins: wait {} s", wait.as_secs().max(1));
        return Err(ApiError::ResourceExhausted(text));
    }
    if password.expose().len() > 1_024 {
        return Err(ApiError::invalid("password", "at most 1,024 bytes"));
    }
    let Some(user) = view.state.user_named(&email).filter(|user| user.is_active) else {
        return Ok(Answer::NoSuchUser { password, email });
    };
    let check = LoginCheck { user: user.id, generation: user.generation, email };
    match &user.password {
        PasswordHash::Phc(phc) => Ok(Answer::CheckPassword { password, phc: phc.clone(), check }),
        drawn @ PasswordHash::Sha256(_) => {
            if is_drawn_secret(drawn, password.expose().as_bytes()) {
                return Ok(Answer::Welcome(check));
            }
            Ok(Answer::NoSuchUser { password, email: check.email })
        }
    }
}

/// Logins and API keys.
impl Desk<'_> {
    pub(super) fn logout(&self) -> Result<Answer, ApiError> {
        let nothing = Answer::Now(Outcome::Empty(Empty {}));
        Ok(self.who.login.map_or(nothing, |(hash, ends)| Answer::Logout(hash, ends)))
    }

    /// Whether the caller may make, see or delete API keys of this kind.
    fn need_api_key_right(&self, is_admin: bool, tenant: Option<Id>) -> Result<(), ApiError> {
        match tenant {
            None if is_admin => self.need_admin(),
            Some(tenant) if self.rights(tenant).admin => Ok(()),
            Some(_) | None => Err(denied("an administrator of the tenant")),
        }
    }

    pub(super) fn create_api_key(&mut self, key: &wire::ApiKey) -> Result<Answer, ApiError> {
        let tenant_id = match key.tenant_id.as_str() {
            _ if key.is_admin => None,
            text => Some(self.tenant(text)?.id),
        };
        self.need_api_key_right(key.is_admin, tenant_id)?;
        let id = self.new_id();
        let name = checked_name("name", &key.name)?;
        let secret = text_of_secret("", self.draw());
        let hex = id.to_string().replace('-', "");
        let token = format!("{API_KEY_PREFIX}{hex}_{secret}");
        let command = Command::CreateApiKey(ApiKey {
            id,
            name,
            is_admin: key.is_admin,
            tenant_id,
            is_read_only: key.is_read_only,
            secret: PasswordHash::Sha256(digest(secret.as_bytes())),
            created_at: self.view.now.wall,
        });
        let outcome = Outcome::ApiKeyCreated(ApiKeyCreated { id: id.to_string(), token });
        Answer::done(vec![command], outcome)
    }

    pub(super) fn delete_api_key(&self, id: &str) -> Result<Answer, ApiError> {
        let key = id.parse().ok().and_then(|id| self.view.state.api_key(id));
        let key = key.ok_or_else(|| missing("API key", id))?;
        self.need_api_key_right(key.is_admin, key.tenant_id)?;
        Answer::one(Command::DeleteApiKey(key.id))
    }

    pub(super) fn list_api_keys(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let tenant = match query.tenant_id.as_str() {
            _ if query.is_admin => None,
            text => Some(self.tenant(text)?.id),
        };
        self.need_api_key_right(query.is_admin, tenant)?;
        let all = self.view.state.api_keys().filter(|key| {
            key.is_admin == query.is_admin
                && key.tenant_id == tenant
                && holds(&query.search, &[&key.name])
        });
        let (total_count, items) = page(query.limit, query.offset, all);
        let item = |key: &ApiKey| wire::ApiKey {
            id: key.id.to_string(),
            name: key.name.clone(),
            is_admin: key.is_admin,
            tenant_id: key.tenant_id.map_or_else(String::new, |id| id.to_string()),
            is_read_only: key.is_read_only,
        };
        let result = items.into_iter().map(item).collect();
        Ok(Answer::Now(Outcome::ApiKeys(List { total_count, result })))
    }
}

/// Accounts of the broker.
impl Desk<'_> {
    fn may_rule_scope(&self, scope: MqttScope) -> bool {
        match scope {
            MqttScope::All => self.who.is_writing_admin(),
            MqttScope::Tenant(tenant) => self.rights(tenant).admin,
            MqttScope::Application(id) => {
                self.view.state.tenant_of(id).is_some_and(|tenant| self.rights(tenant).devices)
            }
        }
    }

    fn scope_of(&self, user: &MqttUser) -> Result<MqttScope, ApiError> {
        let given = [!user.application_id.is_empty(), !user.tenant_id.is_empty(), user.all];
        if given.iter().filter(|given| **given).count() != 1 {
            let why = "say what the account may see: an application, a tenant, or all";
            return Err(ApiError::invalid("applicationId", why));
        }
        let scope = if user.all {
            MqttScope::All
        } else if user.application_id.is_empty() {
            MqttScope::Tenant(self.tenant(&user.tenant_id)?.id)
        } else {
            MqttScope::Application(self.application(&user.application_id)?.id)
        };
        if self.may_rule_scope(scope) { Ok(scope) } else { Err(denied("an administrator")) }
    }

    fn mqtt_account(&self, name: &str) -> Result<&MqttAccount, ApiError> {
        let account = self.view.state.mqtt_account(name);
        let account = account.filter(|account| self.may_rule_scope(account.scope));
        account.ok_or_else(|| missing("MQTT user", name))
    }

    pub(super) fn create_mqtt_user(&mut self, user: MqttUser) -> Result<Answer, ApiError> {
        let scope = self.scope_of(&user)?;
        let name = checked_name("name", &user.name)?;
        if name.len() > MQTT_NAME_MAX {
            return Err(ApiError::invalid("name", format!("at most {MQTT_NAME_MAX} bytes")));
        }
        if self.view.state.mqtt_account(&name).is_some() {
            return Err(ApiError::AlreadyExists(format!("there is an MQTT user `{name}` already")));
        }
        let topic = match scope {
            MqttScope::Application(id) => format!("application/{id}/device/+/event/+"),
            MqttScope::All | MqttScope::Tenant(_) => "application/+/device/+/event/+".to_owned(),
        };
        let account = MqttAccount {
            name: name.clone(),
            scope,
            can_publish: user.can_publish,
            password: PasswordHash::Sha256([0; 32]),
            created_at: self.view.now.wall,
        };
        let mut made =
            MqttUserCreated { name, password: String::new(), topic, port: self.settings.mqtt_port };
        if user.password.is_empty() {
            made.password = text_of_password(self.draw());
            let password = PasswordHash::Sha256(digest(made.password.as_bytes()));
            let value = MqttAccount { password, ..account };
            let command = Command::PutMqttAccount(Put { must_exist: Some(false), value });
            return Answer::done(vec![command], Outcome::MqttUserCreated(made));
        }
        let password = checked_password(user.password)?;
        let then = Box::new(move |password| {
            let value = MqttAccount { password, ..account };
            vec![Command::PutMqttAccount(Put { must_exist: Some(false), value })]
        });
        Ok(Answer::Hash { password, then, outcome: Outcome::MqttUserCreated(made) })
    }

    pub(super) fn update_mqtt_user(&self, user: MqttUser) -> Result<Answer, ApiError> {
        let old = self.mqtt_account(&user.name)?.clone();
        let scope = self.scope_of(&user)?;
        let account = MqttAccount { scope, can_publish: user.can_publish, ..old };
        if user.password.is_empty() {
            let put = Put { must_exist: Some(true), value: account };
            return Answer::one(Command::PutMqttAccount(put));
        }
        let password = checked_password(user.password)?;
        let then = Box::new(move |password| {
            let value = MqttAccount { password, ..account };
            vec![Command::PutMqttAccount(Put { must_exist: Some(true), value })]
        });
        Ok(Answer::Hash { password, then, outcome: Outcome::Empty(Empty {}) })
    }

    fn mqtt_to_wire(account: &MqttAccount) -> MqttUser {
        let mut user = MqttUser {
            name: account.name.clone(),
            can_publish: account.can_publish,
            created_at: Some(account.created_at),
            ..MqttUser::default()
        };
        match account.scope {
            MqttScope::All => user.all = true,
            MqttScope::Tenant(id) => user.tenant_id = id.to_string(),
            MqttScope::Application(id) => user.application_id = id.to_string(),
        }
        user
    }

    pub(super) fn get_mqtt_user(&self, name: &str) -> Result<Answer, ApiError> {
        let user = Self::mqtt_to_wire(self.mqtt_account(name)?);
        Ok(Answer::Now(Outcome::MqttUser(user)))
    }

    pub(super) fn delete_mqtt_user(&self, name: String) -> Result<Answer, ApiError> {
        self.mqtt_account(&name)?;
        Answer::one(Command::DeleteMqttAccount(name))
    }

    pub(super) fn list_mqtt_users(&self, query: &ListQuery) -> Result<Answer, ApiError> {
        let all = self.view.state.mqtt_accounts().filter(|account| {
            holds(&query.search, &[&account.name]) && self.may_rule_scope(account.scope)
        });
        let (total_count, items) = page(query.limit, query.offset, all);
        let result = items.into_iter().map(Self::mqtt_to_wire).collect();
        Ok(Answer::Now(Outcome::MqttUsers(List { total_count, result })))
    }
}
