//! One call being answered: who asks, what he may look at, and where names become identifiers.

use clock::WallTime;
use lorawan::{DevEui, GatewayEui, ParseIdError};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use store::model::{Application, Device, DeviceProfile, Gateway, PasswordHash, Tenant, User};
use store::{Command, Id};

use super::error::ApiError;
use super::feed::{Reader, Watcher};
use super::machine::{ApiSettings, View};
use super::operation::{Operation, Outcome};
use super::who::{Principal, Rights};
use super::wire::{Empty, Tags, WatchLine};
use crate::effect::{ClusterAsk, Secret};

/// Most items on one page of a list.
pub(super) const PAGE_MAX: u32 = 1_000;
/// Longest name of anything, in characters.
const NAME_MAX: usize = 200;

/// Longest description of anything, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 4_096;
/// Most tags, or variables, of one thing.
const TAGS_MAX: usize = 64;
/// Bytes of names and values of all tags of one thing.
const TAGS_BYTES_MAX: usize = 8_192;

/// Makes the commands once the password is hashed.
pub(super) type WithHash = Box<dyn FnOnce(PasswordHash) -> Vec<Command> + Send>;

/// A login whose password is being checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoginCheck {
    pub(super) user: Id,
    pub(super) generation: u32,
    pub(super) email: String,
}

/// What has to happen for the call.
pub(super) enum Answer {
    /// Nothing more.
    Now(Outcome),
    /// These go through the log, one after the other, then the outcome holds.
    Propose { commands: Vec<Command>, outcome: Outcome },
    /// Hash, then as above.
    Hash { password: Secret, then: WithHash, outcome: Outcome },
    /// A login.
    CheckPassword { password: Secret, phc: String, check: LoginCheck },
    /// A login whose password fits already.
    Welcome(LoginCheck),
    /// A login of nobody.
    NoSuchUser { password: Secret, email: String },
    /// The end of a login.
    Logout([u8; 32], WallTime),
    /// Rows of the event log.
    Read { reader: Reader, wait: bool },
    /// Lines of the live view.
    Watch { watcher: Watcher, wait: bool },
    /// Events of members.
    WatchMembers { after: Option<u64>, wait: bool },
    /// No more gateways.
    Drain,
    /// The host does it and answers.
    Host(ClusterAsk),
    /// A line for the live view.
    Line(WatchLine),
}

impl Answer {
    /// One command and `{}`.
    pub(super) fn one(command: Command) -> Result<Self, ApiError> {
        Self::done(vec![command], Outcome::Empty(Empty {}))
    }

    /// Commands and what holds after them.
    #[expect(clippy::unnecessary_wraps, reason = "ends every operation, which may fail")]
    pub(super) fn done(commands: Vec<Command>, outcome: Outcome) -> Result<Self, ApiError> {
        Ok(Self::Propose { commands, outcome })
    }
}

/// One call being answered.
pub(super) struct Desk<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) who: &'a Principal,
    pub(super) rng: &'a mut ChaCha20Rng,
    pub(super) settings: &'a ApiSettings,
}

impl<'a> Desk<'a> {
    /// Answers an operation.
    #[expect(clippy::wildcard_enum_match_arm, reason = "what is left is about one device")]
    pub(super) fn answer(&mut self, operation: Operation) -> Result<Answer, ApiError> {
        use Operation as O;
        match operation {
            O::CreateTenant(tenant) => self.create_tenant(tenant),
            O::GetTenant(id) => self.get_tenant(&id),
            O::UpdateTenant(tenant) => self.update_tenant(tenant),
            O::DeleteTenant(id) => self.delete_tenant(&id),
            O::ListTenants(query) => self.list_tenants(&query),
            O::AddTenantUser(row) => self.set_tenant_user(&row, false),
            O::GetTenantUser { tenant, user } => self.get_tenant_user(&tenant, &user),
            O::UpdateTenantUser(row) => self.set_tenant_user(&row, true),
            O::DeleteTenantUser { tenant, user } => self.delete_tenant_user(&tenant, &user),
            O::ListTenantUsers(query) => self.list_tenant_users(&query),
            O::CreateUser(user) => self.create_user(user),
            O::GetUser(id) => self.get_user(&id),
            O::UpdateUser(user) => self.update_user(&user),
            O::DeleteUser(id) => self.delete_user(&id),
            O::ListUsers(query) => self.list_users(&query),
            O::SetPassword { user, password } => self.set_password(&user, password),
            O::CreateApiKey(key) => self.create_api_key(&key),
            O::DeleteApiKey(id) => self.delete_api_key(&id),
            O::ListApiKeys(query) => self.list_api_keys(&query),
            O::Logout => self.logout(),
            O::GetProfile => self.get_profile(),
            O::CreateMqttUser(user) => self.create_mqtt_user(user),
            O::GetMqttUser(name) => self.get_mqtt_user(&name),
            O::UpdateMqttUser(user) => self.update_mqtt_user(user),
            O::DeleteMqttUser(name) => self.delete_mqtt_user(name),
            O::ListMqttUsers(query) => self.list_mqtt_users(&query),
            O::CreateApplication(one) => self.create_application(one),
            O::GetApplication(id) => self.get_application(&id),
            O::UpdateApplication(one) => self.update_application(one),
            O::DeleteApplication(id) => self.delete_application(&id),
            O::ListApplications(query) => self.list_applications(&query),
            O::CreateDeviceProfile(profile) => self.create_device_profile(*profile),
            O::GetDeviceProfile(id) => self.get_device_profile(&id),
            O::UpdateDeviceProfile(profile) => self.update_device_profile(*profile),
            O::DeleteDeviceProfile(id) => self.delete_device_profile(&id),
            O::ListDeviceProfiles(query) => self.list_device_profiles(&query),
            O::CreateGateway(gateway) => self.create_gateway(gateway),
            O::GetGateway(id) => self.get_gateway(&id),
            O::UpdateGateway(gateway) => self.update_gateway(gateway),
            O::DeleteGateway(id) => self.delete_gateway(&id),
            O::ListGateways(query) => self.list_gateways(&query),
            O::ListUnknownGateways => self.list_unknown_gateways(),
            O::ReadEvents(filter) => self.read_events(&filter),
            O::Watch(filter) => self.watch(&filter),
            O::WatchMembers(filter) => self.watch_members(&filter),
            O::GetNode => self.get_node(),
            O::Drain => self.drain(),
            O::GetCluster => self.get_cluster(),
            O::JoinCluster { target, discard_local, attach } => {
                self.change_cluster(ClusterAsk::Join { target, discard_local, attach })
            }
            O::LeaveCluster => self.change_cluster(ClusterAsk::Leave),
            O::RemoveMember { member } => self.change_cluster(ClusterAsk::Remove { member }),
            O::NoteRefusals { reason, count } => self.note_refusals(&reason, count),
            O::GetHealth | O::GetMetrics | O::Login { .. } => {
                unreachable!("answered before anybody is asked who he is")
            }
            device => self.answer_device(device),
        }
    }

    /// The caller's rights in a tenant.
    pub(super) fn rights(&self, tenant: Id) -> Rights {
        self.who.rights(self.view.state, tenant)
    }

    /// Only for who may change everything.
    pub(super) fn need_admin(&self) -> Result<(), ApiError> {
        if self.who.is_writing_admin() {
            return Ok(());
        }
        Err(denied("a global administrator"))
    }

    /// Draws random bytes.
    pub(super) fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Draws an identifier.
    pub(super) fn new_id(&mut self) -> Id {
        Id::from_random(self.draw())
    }

    /// A tenant the caller may see, by id or name; if the text is empty the only one there is.
    pub(super) fn tenant(&self, text: &str) -> Result<&'a Tenant, ApiError> {
        let state = self.view.state;
        let visible = |tenant: &&Tenant| self.rights(tenant.id).read;
        if text.is_empty() {
            let mut all = state.tenants().filter(visible);
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(ApiError::invalid("tenantId", "you may see no tenant")),
                (Some(_), Some(_)) => {
                    let names: Vec<_> = state.tenants().filter(visible).take(10).collect();
                    let names: Vec<_> = names.iter().map(|one| one.name.as_str()).collect();
                    let why = format!("say which tenant, by id or name: {}", names.join(", "));
                    Err(ApiError::invalid("tenantId", why))
                }
            };
        }
        let by_id = text.parse().ok().and_then(|id| state.tenant(id));
        let found = by_id.or_else(|| state.tenant_named(text));
        found.filter(visible).ok_or_else(|| missing("tenant", text))
    }

    /// A user by id or login name.
    pub(super) fn user(&self, text: &str) -> Result<&'a User, ApiError> {
        let state = self.view.state;
        let by_id = text.parse().ok().and_then(|id| state.user(id));
        by_id.or_else(|| state.user_named(text)).ok_or_else(|| missing("user", text))
    }

    /// An application the caller may see, by id, or by name if only one he sees has it.
    pub(super) fn application(&self, text: &str) -> Result<&'a Application, ApiError> {
        let state = self.view.state;
        let visible = |one: &&Application| self.rights(one.tenant_id).read;
        if let Some(one) = text.parse().ok().and_then(|id| state.application(id)) {
            return Some(one).filter(visible).ok_or_else(|| missing("application", text));
        }
        let named = state.tenants().filter_map(|tenant| state.application_named(tenant.id, text));
        only("application", text, named.filter(visible))
    }

    /// A device profile the caller may see, by id, or by name: of `tenant` if given, else global.
    pub(super) fn profile(
        &self,
        text: &str,
        tenant: Option<Id>,
    ) -> Result<&'a DeviceProfile, ApiError> {
        let state = self.view.state;
        let visible =
            |one: &&DeviceProfile| one.tenant_id.is_none_or(|tenant| self.rights(tenant).read);
        if let Some(one) = text.parse().ok().and_then(|id| state.device_profile(id)) {
            return Some(one).filter(visible).ok_or_else(|| missing("device profile", text));
        }
        if let Some(one) = tenant.and_then(|tenant| state.device_profile_named(tenant, text)) {
            return Some(one).filter(visible).ok_or_else(|| missing("device profile", text));
        }
        let own = state.tenants().flat_map(|tenant| state.profiles_of(tenant.id));
        let named = own.chain(state.global_profiles()).filter(|one| one.name == text);
        only("device profile", text, named.filter(visible))
    }

    /// A device the caller may see, by DevEUI, or by name if only one he sees has it.
    pub(super) fn device(&self, text: &str) -> Result<(&'a Device, Rights), ApiError> {
        let state = self.view.state;
        let rights = |one: &Device| {
            state.tenant_of(one.application_id).map_or(Rights::default(), |id| self.rights(id))
        };
        if let Ok(dev_eui) = text.parse::<DevEui>() {
            let one = state.device(dev_eui).filter(|one| rights(one).read);
            return one.map(|one| (one, rights(one))).ok_or_else(|| missing("device", text));
        }
        let named = state.devices().filter(|one| one.name == text && rights(one).read);
        only("device", text, named).map(|one| (one, rights(one)))
    }

    /// A device whose queue, keys or registration the caller may change.
    pub(super) fn device_to_change(&self, text: &str) -> Result<&'a Device, ApiError> {
        let (device, rights) = self.device(text)?;
        if rights.devices { Ok(device) } else { Err(denied("a device administrator")) }
    }

    /// A gateway the caller may see, by id, or by name if only one he sees has it.
    pub(super) fn gateway(&self, text: &str) -> Result<&'a Gateway, ApiError> {
        let state = self.view.state;
        let visible = |one: &&Gateway| self.rights(one.tenant_id).read;
        if let Ok(id) = text.parse::<GatewayEui>() {
            return state.gateway(id).filter(visible).ok_or_else(|| missing("gateway", text));
        }
        only("gateway", text, state.gateways().filter(|one| one.name == text).filter(visible))
    }
}

/// The only one of several that match a name.
fn only<'a, T>(
    kind: &str,
    text: &str,
    mut found: impl Iterator<Item = &'a T>,
) -> Result<&'a T, ApiError> {
    let one = found.next().ok_or_else(|| missing(kind, text))?;
    if found.next().is_some() {
        let why = format!("more than one {kind} is called `{text}`: give its id");
        return Err(ApiError::invalid("id", why));
    }
    Ok(one)
}

/// There is no such thing, or none the caller may see.
pub(super) fn missing(kind: &str, text: &str) -> ApiError {
    let text: String = text.chars().take(64).collect();
    if text.is_empty() {
        return ApiError::invalid("id", format!("say which {kind}, by id or name"));
    }
    ApiError::NotFound(format!("there is no {kind} `{text}`"))
}

/// The caller's role does not reach.
pub(super) fn denied(role: &str) -> ApiError {
    ApiError::PermissionDenied(format!("this needs {role} (and no read-only key)"))
}

/// A DevEUI or gateway id as a new object is given it.
pub(super) fn parse_eui<T>(field: &str, text: &str) -> Result<T, ApiError>
where
    T: core::str::FromStr<Err = ParseIdError>,
{
    if text.is_empty() {
        return Err(ApiError::invalid(field, "16 hexadecimal digits are needed"));
    }
    text.parse().map_err(|error: ParseIdError| ApiError::invalid(field, error.to_string()))
}

/// A name as a new object is given it: not empty, not too long.
pub(super) fn checked_name(field: &str, name: &str) -> Result<String, ApiError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > NAME_MAX || name.chars().any(char::is_control) {
        let why = format!("a name of 1 to {NAME_MAX} characters is needed");
        return Err(ApiError::invalid(field, why));
    }
    Ok(name.to_owned())
}

/// Free text and names with values, which stand in the log and in every event: bounded.
pub(super) fn check_text(description: &str, tags: &[(&str, &Tags)]) -> Result<(), ApiError> {
    if description.len() > DESCRIPTION_BYTES_MAX {
        let why = format!("at most {DESCRIPTION_BYTES_MAX} bytes");
        return Err(ApiError::invalid("description", why));
    }
    for (field, tags) in tags {
        let bytes: usize = tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        if tags.len() > TAGS_MAX || bytes > TAGS_BYTES_MAX {
            let why = format!("at most {TAGS_MAX} of them, {TAGS_BYTES_MAX} bytes in all");
            return Err(ApiError::invalid(field, why));
        }
    }
    Ok(())
}

/// One page out of what matches: how many match, and those on the page.
pub(super) fn page<T>(limit: u32, offset: u32, all: impl Iterator<Item = T>) -> (u32, Vec<T>) {
    let (offset, limit) = (u64::from(offset), u64::from(limit.min(PAGE_MAX)));
    let mut seen = 0u64;
    let mut items = Vec::new();
    for item in all {
        if seen >= offset && seen - offset < limit {
            items.push(item);
        }
        seen += 1;
    }
    (u32::try_from(seen).unwrap_or(u32::MAX), items)
}

/// Whether one of the texts holds what is searched, in either case.
pub(super) fn holds(search: &str, texts: &[&str]) -> bool {
    let search = search.trim().to_lowercase();
    search.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&search))
}

/// A drawn secret as text: `prefix` and 43 characters of base64url.
pub(super) fn text_of_secret(prefix: &str, secret: [u8; 32]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    format!("{prefix}{text}")
}

/// A drawn password for people to copy: 24 letters and digits without
/// look-alikes, more than 128 bits.
pub(super) fn text_of_password(drawn: [u8; 24]) -> String {
    const LETTERS: &[u8; 55] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRTUVWXYZ2346789";
    drawn.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}
