//! `tern user`, `api-key`, `mqtt-user`, `node`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{CliError, Client, part, query};
use super::network::{ListArgs, change, id, set, text};
use super::print::Out;
use super::teach;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// List users.
    List(ListArgs),
    /// Show one.
    Get { user: String },
    /// Make one; the server draws his password and shows it once.
    #[command(visible_alias = "create")]
    Add {
        email: String,
        /// May do everything.
        #[arg(long)]
        admin: bool,
        #[arg(long)]
        note: Option<String>,
    },
    /// Change one.
    Update {
        user: String,
        #[arg(long)]
        rename: Option<String>,
        #[arg(long)]
        admin: Option<bool>,
        #[arg(long)]
        active: Option<bool>,
        #[arg(long)]
        note: Option<String>,
    },
    /// Delete one.
    Delete { user: String },
    /// Draw a new password and show it once; his logins end.
    ResetPassword { user: String },
}

pub(super) fn user(command: UserCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use UserCommand as C;
    let one = |user: &str| format!("/api/users/{}", part(user));
    match command {
        C::List(list) => out.list(
            &client.get(&format!("/api/users{}", list.query(&[])))?,
            &[("ID", "/id"), ("USER", "/email"), ("ADMIN", "/isAdmin"), ("ACTIVE", "/isActive")],
        ),
        C::Get { user } => out.object(&client.get(&one(&user))?),
        C::Add { email, admin, note } => {
            let user = json!({"email": email, "isAdmin": admin, "isActive": true, "note": note});
            let answer = client.post("/api/users", &json!({"user": user}))?;
            let password = answer["password"].as_str().unwrap_or_default();
            out.done(&format!("user {email}, password {password}"), &answer)
        }
        C::Update { user, rename, admin, active, note } => {
            let answer = change(client, &one(&user), "user", |object| {
                let fields = [
                    ("email", text(rename.as_ref())),
                    ("isAdmin", admin.map(|yes| json!(yes))),
                    ("isActive", active.map(|yes| json!(yes))),
                    ("note", text(note.as_ref())),
                ];
                set(object, &fields);
            })?;
            out.done(&format!("user {user} changed"), &answer)
        }
        C::Delete { user } => {
            let answer = client.delete(&one(&user))?;
            out.done(&format!("user {user} deleted"), &answer)
        }
        C::ResetPassword { user } => {
            let answer = reset_password(client, &user)?;
            let password = answer["password"].as_str().unwrap_or_default();
            out.done(&format!("new password of {user}: {password}"), &answer)
        }
    }
}

fn reset_password(client: &Client, user: &str) -> Result<Value, CliError> {
    client.post(&format!("/api/v1/users/{}/reset-password", part(user)), &json!({}))
}

#[derive(Debug, Subcommand)]
pub(super) enum ApiKeyCommand {
    /// List the keys of a tenant, or of global administrators.
    List {
        #[arg(long)]
        tenant: Option<String>,
        #[arg(long)]
        admin: bool,
    },
    /// Make one; its token is shown once.
    #[command(visible_alias = "create")]
    Add {
        name: String,
        /// With only one tenant it need not be named.
        #[arg(long)]
        tenant: Option<String>,
        /// May do everything in every tenant.
        #[arg(long)]
        admin: bool,
        /// Only reads.
        #[arg(long)]
        read_only: bool,
    },
    /// Delete one.
    Delete { id: String },
}

pub(super) fn api_key(command: ApiKeyCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use ApiKeyCommand as C;
    let path = "/api/internal/api-keys";
    match command {
        C::List { tenant, admin } => {
            let asked = query(&[
                ("limit", Some("1000".to_owned())),
                ("tenantId", tenant),
                ("isAdmin", Some(admin.to_string())),
            ]);
            let columns = [("ID", "/id"), ("NAME", "/name"), ("READ ONLY", "/isReadOnly")];
            out.list(&client.get(&format!("{path}{asked}"))?, &columns)
        }
        C::Add { name, tenant, admin, read_only } => {
            let key = json!({"name": name, "tenantId": tenant, "isAdmin": admin,
                "isReadOnly": read_only});
            let answer = client.post(path, &json!({"apiKey": key}))?;
            let token = answer["token"].as_str().unwrap_or_default();
            out.done(&format!("API key {name}: {}\ntoken: {token}", id(&answer)), &answer)
        }
        C::Delete { id } => {
            let answer = client.delete(&format!("{path}/{}", part(&id)))?;
            out.done(&format!("API key {id} deleted"), &answer)
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum MqttUserCommand {
    /// List accounts.
    List(ListArgs),
    /// Show one.
    Get { name: String },
    /// Make one, and print the line that shows events arriving.
    #[command(visible_alias = "create", after_help = teach::MQTT_USER_ADD)]
    Add {
        name: String,
        /// Sees this application alone.
        #[arg(long, required_unless_present_any = ["tenant", "all"])]
        application: Option<String>,
        /// Sees the applications of this tenant.
        #[arg(long, conflicts_with = "application")]
        tenant: Option<String>,
        /// Sees everything.
        #[arg(long, conflicts_with_all = ["application", "tenant"])]
        all: bool,
        /// May also publish: queue downlinks.
        #[arg(long)]
        publish: bool,
    },
    /// Change one.
    Update {
        name: String,
        /// May publish, or no longer.
        #[arg(long)]
        publish: Option<bool>,
    },
    /// Delete one.
    Delete { name: String },
}

pub(super) fn mqtt_user(
    command: MqttUserCommand,
    client: &Client,
    out: &Out,
) -> Result<(), CliError> {
    use MqttUserCommand as C;
    let one = |name: &str| format!("/api/v1/mqtt-users/{}", part(name));
    match command {
        C::List(list) => out.list(
            &client.get(&format!("/api/v1/mqtt-users{}", list.query(&[])))?,
            &[
                ("NAME", "/name"),
                ("APPLICATION", "/applicationId"),
                ("TENANT", "/tenantId"),
                ("ALL", "/all"),
                ("PUBLISHES", "/canPublish"),
            ],
        ),
        C::Get { name } => out.object(&client.get(&one(&name))?),
        C::Add { name, application, tenant, all, publish } => {
            let user = json!({"name": name, "applicationId": application, "tenantId": tenant,
                "all": all, "canPublish": publish});
            let answer = client.post("/api/v1/mqtt-users", &json!({"mqttUser": user}))?;
            let line = subscribe_line(&answer, &client.place().host());
            out.done(
                &format!("MQTT user {name}; its password is in this line, shown once:\n{line}"),
                &answer,
            )
        }
        C::Update { name, publish } => {
            let mut user = client.get(&one(&name))?;
            set(&mut user, &[("canPublish", publish.map(|yes| json!(yes)))]);
            let answer = client.put(&one(&name), &json!({"mqttUser": user}))?;
            out.done(&format!("MQTT user {name} changed"), &answer)
        }
        C::Delete { name } => {
            let answer = client.delete(&one(&name))?;
            out.done(&format!("MQTT user {name} deleted"), &answer)
        }
    }
}

/// The line that shows events arriving, ready for a shell.
fn subscribe_line(made: &Value, host: &str) -> String {
    let field = |name: &str| quoted(made[name].as_str().unwrap_or_default());
    let port = made["port"].as_u64().unwrap_or(1883);
    format!(
        "mosquitto_sub -h {host} -p {port} -u {} -P {} -q 1 -v -t {}",
        field("name"),
        field("password"),
        quoted(made["topic"].as_str().unwrap_or("#")),
    )
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./@:".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Who the node is and how it does.
    #[command(visible_alias = "get")]
    Status,
    /// Serve no more gateways, so that they turn to another node.
    Drain,
}

pub(super) fn node(command: NodeCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    match command {
        NodeCommand::Status => out.object(&client.get("/api/v1/node")?),
        NodeCommand::Drain => {
            let answer = client.post("/api/v1/node/drain", &json!({}))?;
            out.done("the node serves no more gateways", &answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_survives_a_shell() {
        let made = json!({"name": "o'hara", "password": "abc", "port": 1983,
            "topic": "application/x/device/+/event/+"});
        assert_eq!(
            subscribe_line(&made, "localhost"),
            "mosquitto_sub -h localhost -p 1983 -u 'o'\\''hara' -P abc -q 1 -v \
             -t 'application/x/device/+/event/+'"
        );
    }
}
