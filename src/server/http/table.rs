//! The routes of the field's REST mapping. Bodies wrap their object in its name, as clients expect.

use node::Secret;
use node::api::wire::{
    ApiKey, ApiKeyCreated, Application, ApplicationDetails, ApplicationListItem, Created, Device,
    DeviceActivation, DeviceDetails, DeviceKeys, DeviceKeysDetails, DeviceListItem, DeviceProfile,
    DeviceProfileDetails, DeviceProfileListItem, Empty, Gateway, GatewayDetails, GatewayListItem,
    List, LoginToken, NewUser, NextFCntDown, Profile, QueueItem, QueueItems, RandomDevAddr, Tenant,
    TenantDetails, TenantListItem, TenantUser, TenantUserDetails, TenantUserListItem, User,
    UserCreated, UserDetails, UserListItem,
};
use node::api::{ApiError, Operation as O};
use serde::Serialize;
use serde_json::{Value, json};

use super::params::Params;
use super::route::{Route, Verb, route};

const PAGE: &[&str] = &["limit", "offset", "search"];
const OF_TENANT: &[&str] = &["limit", "offset", "search", "tenantId"];
const OF_USER: &[&str] = &["limit", "offset", "search", "userId"];
const GATEWAYS: &[&str] = &["limit", "offset", "search", "tenantId", "orderBy", "orderByDesc"];
const KEYS: &[&str] = &["limit", "offset", "isAdmin", "tenantId"];
const DEVICES: &[&str] = &[
    "limit",
    "offset",
    "search",
    "applicationId",
    "deviceProfileId",
    "tenantId",
    "orderBy",
    "orderByDesc",
];

/// The default values of a type as JSON.
pub(super) fn sample<T: Default + Serialize>() -> Value {
    serde_json::to_value(T::default()).unwrap_or_default()
}

/// A list with one item of a type.
pub(super) fn list_of<T: Default + Serialize>() -> Value {
    let list = List { total_count: 0, result: vec![T::default()] };
    serde_json::to_value(list).unwrap_or_default()
}

fn wrapped<T: Default + Serialize>(name: &str) -> Value {
    json!({ name: sample::<T>() })
}

/// What was asked of an object whose identifier is in the path.
fn with_path<T>(
    params: &Params,
    part: &str,
    name: &str,
    set: fn(&mut T, String),
) -> Result<T, ApiError>
where
    T: serde::de::DeserializeOwned + Default,
{
    let mut value: T = params.needed(part)?;
    set(&mut value, params.path(name));
    Ok(value)
}

fn tenant_user(params: &Params) -> Result<TenantUser, ApiError> {
    with_path(params, "tenantUser", "id", |one: &mut TenantUser, id| one.tenant_id = id)
}

fn device_keys(params: &Params) -> Result<DeviceKeys, ApiError> {
    with_path(params, "deviceKeys", "devEui", |one: &mut DeviceKeys, id| one.dev_eui = id)
}

/// All of the field's routes that this server has.
pub(super) fn field_routes() -> Vec<Route> {
    let mut routes = tenants();
    routes.extend(users());
    routes.extend(sessions());
    routes.extend(applications());
    routes.extend(device_profiles());
    routes.extend(devices());
    routes.extend(device_life());
    routes.extend(gateways());
    routes
}

fn tenants() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<Tenant>("tenant");
    let user = || wrapped::<TenantUser>("tenantUser");
    vec![
        route(Post, "/api/tenants", "Make a tenant.", Some(body), sample::<Created>, |p| {
            Ok(O::CreateTenant(p.needed("tenant")?))
        }),
        route(Get, "/api/tenants", "List tenants.", None, list_of::<TenantListItem>, |p| {
            Ok(O::ListTenants(p.list()?))
        })
        .query(OF_USER),
        route(Get, "/api/tenants/{id}", "One tenant.", None, sample::<TenantDetails>, |p| {
            Ok(O::GetTenant(p.path("id")))
        }),
        route(Put, "/api/tenants/{id}", "Change a tenant.", Some(body), sample::<Empty>, |p| {
            Ok(O::UpdateTenant(with_path(p, "tenant", "id", |one: &mut Tenant, id| one.id = id)?))
        }),
        route(Delete, "/api/tenants/{id}", "Delete a tenant.", None, sample::<Empty>, |p| {
            Ok(O::DeleteTenant(p.path("id")))
        }),
        route(
            Post,
            "/api/tenants/{id}/users",
            "Give a user rights in a tenant.",
            Some(user),
            sample::<Empty>,
            |p| Ok(O::AddTenantUser(tenant_user(p)?)),
        ),
        route(
            Get,
            "/api/tenants/{id}/users",
            "List the users of a tenant.",
            None,
            list_of::<TenantUserListItem>,
            |p| {
                let mut query = p.list()?;
                query.tenant_id = p.path("id");
                Ok(O::ListTenantUsers(query))
            },
        )
        .query(PAGE),
        route(
            Get,
            "/api/tenants/{id}/users/{userId}",
            "A user's rights in a tenant.",
            None,
            sample::<TenantUserDetails>,
            |p| Ok(O::GetTenantUser { tenant: p.path("id"), user: p.path("userId") }),
        ),
        route(
            Put,
            "/api/tenants/{id}/users/{userId}",
            "Change a user's rights in a tenant.",
            Some(user),
            sample::<Empty>,
            |p| {
                let user_id = p.path("userId");
                Ok(O::UpdateTenantUser(TenantUser { user_id, ..tenant_user(p)? }))
            },
        ),
        route(
            Delete,
            "/api/tenants/{id}/users/{userId}",
            "Take a user out of a tenant.",
            None,
            sample::<Empty>,
            |p| Ok(O::DeleteTenantUser { tenant: p.path("id"), user: p.path("userId") }),
        ),
    ]
}

fn users() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<User>("user");
    vec![
        route(
            Post,
            "/api/users",
            "Make a user.",
            Some(sample::<NewUser>),
            sample::<UserCreated>,
            |p| Ok(O::CreateUser(p.whole()?)),
        ),
        route(Get, "/api/users", "List users.", None, list_of::<UserListItem>, |p| {
            Ok(O::ListUsers(p.list()?))
        })
        .query(PAGE),
        route(Get, "/api/users/{id}", "One user.", None, sample::<UserDetails>, |p| {
            Ok(O::GetUser(p.path("id")))
        }),
        route(Put, "/api/users/{id}", "Change a user.", Some(body), sample::<Empty>, |p| {
            Ok(O::UpdateUser(with_path(p, "user", "id", |one: &mut User, id| one.id = id)?))
        }),
        route(Delete, "/api/users/{id}", "Delete a user.", None, sample::<Empty>, |p| {
            Ok(O::DeleteUser(p.path("id")))
        }),
        route(
            Post,
            "/api/users/{id}/password",
            "Set a user's password.",
            Some(|| json!({"password": ""})),
            sample::<Empty>,
            |p| {
                let password = Secret::new(p.part("password")?);
                Ok(O::SetPassword { user: p.path("id"), password: Some(password) })
            },
        ),
    ]
}

fn sessions() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    let key = || wrapped::<ApiKey>("apiKey");
    vec![
        route(
            Post,
            "/api/internal/login",
            "Log in; the token goes into Authorization: Bearer.",
            Some(|| json!({"email": "", "password": ""})),
            sample::<LoginToken>,
            |p| {
                let password = Secret::new(p.part("password")?);
                Ok(O::Login { email: p.part("email")?, password })
            },
        )
        .public(),
        route(Get, "/api/internal/profile", "Who is asking.", None, sample::<Profile>, |_| {
            Ok(O::GetProfile)
        }),
        route(
            Post,
            "/api/internal/api-keys",
            "Make an API key; its token is shown once.",
            Some(key),
            sample::<ApiKeyCreated>,
            |p| Ok(O::CreateApiKey(p.needed("apiKey")?)),
        ),
        route(Get, "/api/internal/api-keys", "List API keys.", None, list_of::<ApiKey>, |p| {
            Ok(O::ListApiKeys(p.list()?))
        })
        .query(KEYS),
        route(
            Delete,
            "/api/internal/api-keys/{id}",
            "Delete an API key.",
            None,
            sample::<Empty>,
            |p| Ok(O::DeleteApiKey(p.path("id"))),
        ),
    ]
}

fn applications() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<Application>("application");
    let path = "/api/applications/{id}";
    vec![
        route(
            Post,
            "/api/applications",
            "Make an application.",
            Some(body),
            sample::<Created>,
            |p| Ok(O::CreateApplication(p.needed("application")?)),
        ),
        route(
            Get,
            "/api/applications",
            "List applications.",
            None,
            list_of::<ApplicationListItem>,
            |p| Ok(O::ListApplications(p.list()?)),
        )
        .query(OF_TENANT),
        route(Get, path, "One application.", None, sample::<ApplicationDetails>, |p| {
            Ok(O::GetApplication(p.path("id")))
        }),
        route(Put, path, "Change an application.", Some(body), sample::<Empty>, |p| {
            let set = |one: &mut Application, id| one.id = id;
            Ok(O::UpdateApplication(with_path(p, "application", "id", set)?))
        }),
        route(Delete, path, "Delete an application.", None, sample::<Empty>, |p| {
            Ok(O::DeleteApplication(p.path("id")))
        }),
    ]
}

fn device_profiles() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<DeviceProfile>("deviceProfile");
    let path = "/api/device-profiles/{id}";
    vec![
        route(
            Post,
            "/api/device-profiles",
            "Make a device profile.",
            Some(body),
            sample::<Created>,
            |p| Ok(O::CreateDeviceProfile(Box::new(p.needed("deviceProfile")?))),
        ),
        route(
            Get,
            "/api/device-profiles",
            "List device profiles.",
            None,
            list_of::<DeviceProfileListItem>,
            |p| Ok(O::ListDeviceProfiles(p.list()?)),
        )
        .query(OF_TENANT),
        route(Get, path, "One device profile.", None, sample::<DeviceProfileDetails>, |p| {
            Ok(O::GetDeviceProfile(p.path("id")))
        }),
        route(Put, path, "Change a device profile.", Some(body), sample::<Empty>, |p| {
            let set = |one: &mut DeviceProfile, id| one.id = id;
            let profile = with_path(p, "deviceProfile", "id", set)?;
            Ok(O::UpdateDeviceProfile(Box::new(profile)))
        }),
        route(Delete, path, "Delete a device profile.", None, sample::<Empty>, |p| {
            Ok(O::DeleteDeviceProfile(p.path("id")))
        }),
    ]
}

fn devices() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<Device>("device");
    let keys = || wrapped::<DeviceKeys>("deviceKeys");
    let path = "/api/devices/{devEui}";
    let keys_path = "/api/devices/{devEui}/keys";
    vec![
        route(Post, "/api/devices", "Register a device.", Some(body), sample::<Empty>, |p| {
            Ok(O::CreateDevice(p.needed("device")?))
        }),
        route(Get, "/api/devices", "List devices.", None, list_of::<DeviceListItem>, |p| {
            Ok(O::ListDevices(p.list()?))
        })
        .query(DEVICES),
        route(Get, path, "One device.", None, sample::<DeviceDetails>, |p| {
            Ok(O::GetDevice(p.path("devEui")))
        }),
        route(Put, path, "Change a device.", Some(body), sample::<Empty>, |p| {
            let set = |one: &mut Device, id| one.dev_eui = id;
            Ok(O::UpdateDevice(with_path(p, "device", "devEui", set)?))
        }),
        route(Delete, path, "Delete a device.", None, sample::<Empty>, |p| {
            Ok(O::DeleteDevice(p.path("devEui")))
        }),
        route(Post, keys_path, "Set root keys.", Some(keys), sample::<Empty>, |p| {
            Ok(O::CreateDeviceKeys(device_keys(p)?))
        }),
        route(Get, keys_path, "The root keys.", None, sample::<DeviceKeysDetails>, |p| {
            Ok(O::GetDeviceKeys(p.path("devEui")))
        }),
        route(Put, keys_path, "Change root keys.", Some(keys), sample::<Empty>, |p| {
            Ok(O::UpdateDeviceKeys(device_keys(p)?))
        }),
        route(Delete, keys_path, "Remove root keys.", None, sample::<Empty>, |p| {
            Ok(O::DeleteDeviceKeys(p.path("devEui")))
        }),
        route(
            Delete,
            "/api/devices/{devEui}/dev-nonces",
            "Forget the DevNonces used.",
            None,
            sample::<Empty>,
            |p| Ok(O::FlushDevNonces(p.path("devEui"))),
        ),
    ]
}

fn device_life() -> Vec<Route> {
    use Verb::{Delete, Get, Post};
    let activation = || wrapped::<DeviceActivation>("deviceActivation");
    let item = || json!({"queueItem": sample::<QueueItem>(), "flushQueue": false});
    let queue = "/api/devices/{devEui}/queue";
    let activation_path = "/api/devices/{devEui}/activation";
    vec![
        route(
            Post,
            "/api/devices/{devEui}/activate",
            "Activate by personalisation.",
            Some(activation),
            sample::<Empty>,
            |p| {
                let set = |one: &mut DeviceActivation, id| one.dev_eui = id;
                Ok(O::ActivateDevice(with_path(p, "deviceActivation", "devEui", set)?))
            },
        ),
        route(
            Get,
            activation_path,
            "The activation in use.",
            None,
            || json!({"deviceActivation": sample::<DeviceActivation>()}),
            |p| Ok(O::GetActivation(p.path("devEui"))),
        ),
        route(Delete, activation_path, "End the activation.", None, sample::<Empty>, |p| {
            Ok(O::DeactivateDevice(p.path("devEui")))
        }),
        route(
            Post,
            "/api/devices/{devEui}/get-random-dev-addr",
            "Draw an address nobody has.",
            Some(sample::<Empty>),
            sample::<RandomDevAddr>,
            |p| Ok(O::GetRandomDevAddr(p.path("devEui"))),
        ),
        route(
            Post,
            "/api/devices/{devEui}/get-next-f-cnt-down",
            "The counter for an application that encrypts itself.",
            Some(sample::<Empty>),
            sample::<NextFCntDown>,
            |p| Ok(O::GetNextFCntDown(p.path("devEui"))),
        ),
        route(Post, queue, "Queue a downlink.", Some(item), sample::<Created>, |p| {
            let set = |one: &mut QueueItem, id| one.dev_eui = id;
            let item = with_path(p, "queueItem", "devEui", set)?;
            Ok(O::Enqueue { item, flush: p.part("flushQueue")? })
        }),
        route(
            Get,
            queue,
            "The queue.",
            None,
            || json!(QueueItems { total_count: 0, result: vec![QueueItem::default()] }),
            |p| {
                let count_only = p.flag("countOnly")?;
                Ok(O::GetQueue { device: p.path("devEui"), count_only })
            },
        )
        .query(&["countOnly"]),
        route(Delete, queue, "Drop what waits.", None, sample::<Empty>, |p| {
            Ok(O::FlushQueue(p.path("devEui")))
        }),
    ]
}

fn gateways() -> Vec<Route> {
    use Verb::{Delete, Get, Post, Put};
    let body = || wrapped::<Gateway>("gateway");
    let path = "/api/gateways/{gatewayId}";
    vec![
        route(Post, "/api/gateways", "Register a gateway.", Some(body), sample::<Empty>, |p| {
            Ok(O::CreateGateway(p.needed("gateway")?))
        }),
        route(Get, "/api/gateways", "List gateways.", None, list_of::<GatewayListItem>, |p| {
            Ok(O::ListGateways(p.list()?))
        })
        .query(GATEWAYS),
        route(Get, path, "One gateway.", None, sample::<GatewayDetails>, |p| {
            Ok(O::GetGateway(p.path("gatewayId")))
        }),
        route(Put, path, "Change a gateway.", Some(body), sample::<Empty>, |p| {
            let set = |one: &mut Gateway, id| one.gateway_id = id;
            Ok(O::UpdateGateway(with_path(p, "gateway", "gatewayId", set)?))
        }),
        route(Delete, path, "Delete a gateway.", None, sample::<Empty>, |p| {
            Ok(O::DeleteGateway(p.path("gatewayId")))
        }),
    ]
}
