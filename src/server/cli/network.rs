//! `tern tenant`, `application`, `profile`, `gateway`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{CliError, Client, part, query};
use super::print::Out;

/// Which part of a list.
#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    /// Text that the name must contain.
    #[arg(long)]
    pub(super) search: Option<String>,
    /// Most lines, up to 1000.
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u32,
    /// Lines to leave out at the front.
    #[arg(long, default_value_t = 0)]
    pub(super) offset: u32,
}

impl ListArgs {
    /// As a query, with what else is asked.
    pub(super) fn query(&self, more: &[(&str, Option<String>)]) -> String {
        let mut pairs = vec![
            ("limit", Some(self.limit.to_string())),
            ("offset", Some(self.offset.to_string())),
            ("search", self.search.clone()),
        ];
        pairs.extend_from_slice(more);
        query(&pairs)
    }
}

/// Names and values.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct TagArgs {
    /// NAME=VALUE, part of every event; may be given more than once.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) tags: Vec<(String, String)>,
}

impl TagArgs {
    /// Adds them to an object.
    pub(super) fn add_to(&self, object: &mut Value) {
        for (name, value) in &self.tags {
            object["tags"][name] = json!(value);
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Sets the fields that were given.
pub(super) fn set(object: &mut Value, fields: &[(&str, Option<Value>)]) {
    for (name, value) in fields {
        if let Some(value) = value {
            object[*name] = value.clone();
        }
    }
}

/// A given text as JSON.
pub(super) fn text(value: Option<&String>) -> Option<Value> {
    value.map(|value| json!(value))
}

/// Fetches an object, changes it, puts it back.
pub(super) fn change(
    client: &Client,
    path: &str,
    wrapper: &str,
    alter: impl FnOnce(&mut Value),
) -> Result<Value, CliError> {
    let mut object = client.get(path)?[wrapper].take();
    alter(&mut object);
    let mut body = Map::new();
    body.insert(wrapper.to_owned(), object);
    client.put(path, &Value::Object(body))
}

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// List tenants.
    List(ListArgs),
    /// Show one.
    Get { name: String },
    /// Make one.
    #[command(visible_alias = "create")]
    Add {
        name: String,
        #[arg(long)]
        description: Option<String>,
        /// May own no gateways.
        #[arg(long)]
        no_gateways: bool,
        /// Most devices, 0 = any number.
        #[arg(long, default_value_t = 0)]
        max_devices: u32,
        #[command(flatten)]
        tags: TagArgs,
    },
    /// Change one.
    Update {
        name: String,
        #[arg(long)]
        rename: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        tags: TagArgs,
    },
    /// Delete one and all it owns.
    Delete { name: String },
    /// List the users of one.
    Users { name: String },
    /// Give a user rights in one; without a flag he reads.
    AddUser {
        name: String,
        user: String,
        #[arg(long)]
        admin: bool,
        #[arg(long)]
        device_admin: bool,
        #[arg(long)]
        gateway_admin: bool,
    },
    /// Take a user out of one.
    RemoveUser { name: String, user: String },
}

pub(super) fn tenant(command: TenantCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use TenantCommand as C;
    let one = |name: &str| format!("/api/tenants/{}", part(name));
    match command {
        C::List(list) => out.list(
            &client.get(&format!("/api/tenants{}", list.query(&[])))?,
            &[("ID", "/id"), ("NAME", "/name"), ("GATEWAYS", "/canHaveGateways")],
        ),
        C::Get { name } => out.object(&client.get(&one(&name))?),
        C::Add { name, description, no_gateways, max_devices, tags } => {
            let mut tenant = json!({"name": name, "description": description,
                "canHaveGateways": !no_gateways, "maxDeviceCount": max_devices});
            tags.add_to(&mut tenant);
            let answer = client.post("/api/tenants", &json!({"tenant": tenant}))?;
            out.done(&format!("tenant {name}: {}", id(&answer)), &answer)
        }
        C::Update { name, rename, description, tags } => {
            let answer = change(client, &one(&name), "tenant", |tenant| {
                let fields =
                    [("name", text(rename.as_ref())), ("description", text(description.as_ref()))];
                set(tenant, &fields);
                tags.add_to(tenant);
            })?;
            out.done(&format!("tenant {name} changed"), &answer)
        }
        C::Delete { name } => {
            let answer = client.delete(&one(&name))?;
            out.done(&format!("tenant {name} deleted"), &answer)
        }
        C::Users { name } => out.list(
            &client.get(&format!("{}/users?limit=1000", one(&name)))?,
            &[
                ("USER", "/email"),
                ("ADMIN", "/isAdmin"),
                ("DEVICES", "/isDeviceAdmin"),
                ("GATEWAYS", "/isGatewayAdmin"),
            ],
        ),
        C::AddUser { name, user, admin, device_admin, gateway_admin } => {
            let row = json!({"tenantUser": {"email": user, "isAdmin": admin,
                "isDeviceAdmin": device_admin, "isGatewayAdmin": gateway_admin}});
            let answer = client.post(&format!("{}/users", one(&name)), &row)?;
            out.done(&format!("{user} is a user of tenant {name}"), &answer)
        }
        C::RemoveUser { name, user } => {
            let answer = client.delete(&format!("{}/users/{}", one(&name), part(&user)))?;
            out.done(&format!("{user} is no user of tenant {name} any more"), &answer)
        }
    }
}

/// The identifier in an answer.
pub(super) fn id(answer: &Value) -> &str {
    answer["id"].as_str().unwrap_or("-")
}

#[derive(Debug, Subcommand)]
pub(super) enum ApplicationCommand {
    /// List applications.
    List {
        #[command(flatten)]
        list: ListArgs,
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show one.
    Get { name: String },
    /// Make one.
    #[command(visible_alias = "create")]
    Add {
        name: String,
        /// With only one tenant it need not be named.
        #[arg(long)]
        tenant: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        tags: TagArgs,
    },
    /// Change one.
    Update {
        name: String,
        #[arg(long)]
        rename: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        tags: TagArgs,
    },
    /// Delete one and its devices.
    Delete { name: String },
}

pub(super) fn application(
    command: ApplicationCommand,
    client: &Client,
    out: &Out,
) -> Result<(), CliError> {
    use ApplicationCommand as C;
    let one = |name: &str| format!("/api/applications/{}", part(name));
    match command {
        C::List { list, tenant } => out.list(
            &client.get(&format!("/api/applications{}", list.query(&[("tenantId", tenant)])))?,
            &[("ID", "/id"), ("NAME", "/name"), ("DESCRIPTION", "/description")],
        ),
        C::Get { name } => out.object(&client.get(&one(&name))?),
        C::Add { name, tenant, description, tags } => {
            let mut object = json!({"name": name, "tenantId": tenant, "description": description});
            tags.add_to(&mut object);
            let answer = client.post("/api/applications", &json!({"application": object}))?;
            out.done(&format!("application {name}: {}", id(&answer)), &answer)
        }
        C::Update { name, rename, description, tags } => {
            let answer = change(client, &one(&name), "application", |object| {
                let fields =
                    [("name", text(rename.as_ref())), ("description", text(description.as_ref()))];
                set(object, &fields);
                tags.add_to(object);
            })?;
            out.done(&format!("application {name} changed"), &answer)
        }
        C::Delete { name } => {
            let answer = client.delete(&one(&name))?;
            out.done(&format!("application {name} deleted"), &answer)
        }
    }
}

/// The LoRaWAN half of a profile.
#[derive(Clone, Debug, Args)]
pub(super) struct ProfileArgs {
    /// EU868 or US915; the server's if left out.
    #[arg(long)]
    region: Option<String>,
    /// 1.0.0 to 1.0.4.
    #[arg(long, value_name = "VERSION")]
    mac_version: Option<String>,
    /// Uplink channels of a fixed plan, like 8-15+65.
    #[arg(long)]
    channels: Option<String>,
    /// RECEIVE_DELAY1 in seconds.
    #[arg(long, value_name = "SECONDS")]
    rx1_delay: Option<u32>,
    /// How often a day devices are asked for battery and margin.
    #[arg(long, value_name = "A_DAY")]
    status_requests: Option<u32>,
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    tags: TagArgs,
}

impl ProfileArgs {
    fn add_to(&self, object: &mut Value) {
        set(
            object,
            &[
                ("region", text(self.region.as_ref())),
                ("macVersion", text(self.mac_version.as_ref())),
                ("channels", text(self.channels.as_ref())),
                ("rx1Delay", self.rx1_delay.map(|delay| json!(delay))),
                ("deviceStatusReqInterval", self.status_requests.map(|count| json!(count))),
                ("description", text(self.description.as_ref())),
            ],
        );
        self.tags.add_to(object);
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ProfileCommand {
    /// List device profiles.
    List {
        #[command(flatten)]
        list: ListArgs,
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show one.
    Get { name: String },
    /// Make one; without --tenant every tenant may use it.
    #[command(visible_alias = "create")]
    Add {
        name: String,
        #[arg(long)]
        tenant: Option<String>,
        /// Devices activate by personalisation (ABP) instead of joining.
        #[arg(long)]
        abp: bool,
        #[command(flatten)]
        mac: ProfileArgs,
    },
    /// Change one.
    Update {
        name: String,
        #[arg(long)]
        rename: Option<String>,
        #[command(flatten)]
        mac: ProfileArgs,
    },
    /// Delete one that no device uses.
    Delete { name: String },
}

pub(super) fn profile(command: ProfileCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use ProfileCommand as C;
    let one = |name: &str| format!("/api/device-profiles/{}", part(name));
    match command {
        C::List { list, tenant } => out.list(
            &client.get(&format!("/api/device-profiles{}", list.query(&[("tenantId", tenant)])))?,
            &[
                ("ID", "/id"),
                ("NAME", "/name"),
                ("REGION", "/region"),
                ("VERSION", "/macVersion"),
                ("OTAA", "/supportsOtaa"),
            ],
        ),
        C::Get { name } => out.object(&client.get(&one(&name))?),
        C::Add { name, tenant, abp, mac } => {
            let mut object = json!({"name": name, "tenantId": tenant, "supportsOtaa": !abp});
            mac.add_to(&mut object);
            let answer = client.post("/api/device-profiles", &json!({"deviceProfile": object}))?;
            out.done(&format!("device profile {name}: {}", id(&answer)), &answer)
        }
        C::Update { name, rename, mac } => {
            let answer = change(client, &one(&name), "deviceProfile", |object| {
                set(object, &[("name", text(rename.as_ref()))]);
                mac.add_to(object);
            })?;
            out.done(&format!("device profile {name} changed"), &answer)
        }
        C::Delete { name } => {
            let answer = client.delete(&one(&name))?;
            out.done(&format!("device profile {name} deleted"), &answer)
        }
    }
}

/// What can be said of a gateway.
#[derive(Clone, Debug, Args)]
pub(super) struct GatewayArgs {
    #[arg(long)]
    description: Option<String>,
    /// Antenna gain in dBi, subtracted from the power.
    #[arg(long, value_name = "DBI", allow_hyphen_values = true)]
    antenna_gain: Option<f64>,
    /// Highest radiated power in dBm.
    #[arg(long, value_name = "DBM")]
    max_eirp: Option<i8>,
    /// Seconds between its reports.
    #[arg(long, value_name = "SECONDS")]
    stats_interval: Option<u32>,
    /// LATITUDE,LONGITUDE or LATITUDE,LONGITUDE,ALTITUDE
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, value_parser = location)]
    location: Option<Value>,
    #[command(flatten)]
    tags: TagArgs,
}

fn location(text: &str) -> Result<Value, String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok([latitude, longitude]) => Ok(json!({"latitude": latitude, "longitude": longitude})),
        Ok([latitude, longitude, altitude]) => {
            Ok(json!({"latitude": latitude, "longitude": longitude, "altitude": altitude}))
        }
        Ok(_) | Err(_) => Err("write LATITUDE,LONGITUDE, like 52.37,4.89".to_owned()),
    }
}

impl GatewayArgs {
    fn add_to(&self, object: &mut Value) {
        set(
            object,
            &[
                ("description", text(self.description.as_ref())),
                ("antennaGain", self.antenna_gain.map(|gain| json!(gain))),
                ("maxEirp", self.max_eirp.map(|power| json!(power))),
                ("statsInterval", self.stats_interval.map(|seconds| json!(seconds))),
                ("location", self.location.clone()),
            ],
        );
        self.tags.add_to(object);
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum GatewayCommand {
    /// List gateways.
    List {
        #[command(flatten)]
        list: ListArgs,
        #[arg(long)]
        tenant: Option<String>,
    },
    /// List gateways that nobody registered, with the command that does.
    Unknown,
    /// Show one.
    Get { gateway: String },
    /// Register one by its EUI.
    #[command(visible_alias = "create")]
    Add {
        gateway_id: String,
        #[arg(long)]
        name: Option<String>,
        /// With only one tenant it need not be named.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        more: GatewayArgs,
    },
    /// Change one.
    Update {
        gateway: String,
        #[arg(long)]
        rename: Option<String>,
        #[command(flatten)]
        more: GatewayArgs,
    },
    /// Delete one.
    Delete { gateway: String },
}

pub(super) fn gateway(command: GatewayCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use GatewayCommand as C;
    let one = |id: &str| format!("/api/gateways/{}", part(id));
    match command {
        C::List { list, tenant } => out.list(
            &client.get(&format!("/api/gateways{}", list.query(&[("tenantId", tenant)])))?,
            &[
                ("GATEWAY", "/gatewayId"),
                ("NAME", "/name"),
                ("STATE", "/state"),
                ("LAST SEEN", "/lastSeenAt"),
            ],
        ),
        C::Unknown => {
            let answer = client.get("/api/v1/gateways/unknown")?;
            let columns = [
                ("GATEWAY", "/gatewayId"),
                ("FROM", "/address"),
                ("LAST SEEN", "/lastSeenAt"),
                ("DATAGRAMS", "/datagrams"),
            ];
            out.list(&answer, &columns)?;
            match answer["result"][0]["gatewayId"].as_str() {
                Some(first) if !out.json => {
                    out.line(&format!("\nregister one: tern gateway add {first}"))
                }
                Some(_) | None => Ok(()),
            }
        }
        C::Get { gateway } => out.object(&client.get(&one(&gateway))?),
        C::Add { gateway_id, name, tenant, more } => {
            let name = name.unwrap_or_else(|| gateway_id.clone());
            let mut object = json!({"gatewayId": gateway_id, "name": name, "tenantId": tenant});
            more.add_to(&mut object);
            let answer = client.post("/api/gateways", &json!({"gateway": object}))?;
            out.done(&format!("gateway {gateway_id} registered as {name}"), &answer)
        }
        C::Update { gateway, rename, more } => {
            let answer = change(client, &one(&gateway), "gateway", |object| {
                set(object, &[("name", text(rename.as_ref()))]);
                more.add_to(object);
            })?;
            out.done(&format!("gateway {gateway} changed"), &answer)
        }
        C::Delete { gateway } => {
            let answer = client.delete(&one(&gateway))?;
            out.done(&format!("gateway {gateway} deleted"), &answer)
        }
    }
}
