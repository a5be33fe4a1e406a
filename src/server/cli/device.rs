//! `tern device`, `tern queue`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{CliError, Client, part};
use super::network::{ListArgs, TagArgs, change, id, set, text};
use super::print::Out;
use super::teach;

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// List devices.
    List {
        #[command(flatten)]
        list: ListArgs,
        #[arg(long)]
        application: Option<String>,
        #[arg(long)]
        profile: Option<String>,
    },
    /// Show one.
    Get { device: String },
    /// Register one.
    #[command(visible_alias = "create", after_help = teach::DEVICE_ADD)]
    Add(AddArgs),
    /// Change one.
    Update {
        device: String,
        #[arg(long)]
        rename: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[arg(long)]
        application: Option<String>,
        #[arg(long)]
        profile: Option<String>,
        /// Ignore its frames, or no longer.
        #[arg(long)]
        disabled: Option<bool>,
        /// An ABP device may start its counter anew.
        #[arg(long)]
        skip_fcnt_check: Option<bool>,
        #[command(flatten)]
        tags: TagArgs,
    },
    /// Delete one.
    Delete { device: String },
    /// Show root keys, or set them.
    Keys {
        device: String,
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Show the activation in use.
    Activation { device: String },
    /// Activate by personalisation (ABP).
    Activate(ActivateArgs),
    /// End the activation.
    Deactivate { device: String },
    /// Forget the DevNonces used, so that a reset device may join again.
    FlushNonces { device: String },
    /// Move devices in from another server, activations and all.
    #[command(after_help = teach::DEVICE_IMPORT)]
    Import { file: PathBuf },
}

/// Root keys.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct KeyArgs {
    /// AppKey, 32 hexadecimal digits. Up to LoRaWAN 1.0.4 the only root key: the REST API calls
    /// that field nwkKey, and it is put there.
    #[arg(long, value_name = "KEY")]
    app_key: Option<String>,
    /// NwkKey of LoRaWAN 1.1.
    #[arg(long, value_name = "KEY")]
    nwk_key: Option<String>,
}

impl KeyArgs {
    fn body(&self) -> Option<Value> {
        match (&self.nwk_key, &self.app_key) {
            (None, None) => None,
            (None, Some(only)) => Some(json!({"deviceKeys": {"nwkKey": only}})),
            (Some(nwk), app) => Some(json!({"deviceKeys": {"nwkKey": nwk, "appKey": app}})),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct AddArgs {
    /// DevEUI, as on the label.
    dev_eui: String,
    #[arg(long)]
    name: Option<String>,
    /// With only one application it need not be named.
    #[arg(long)]
    application: Option<String>,
    /// Device profile; with only one it need not be named.
    #[arg(long)]
    profile: Option<String>,
    #[command(flatten)]
    keys: KeyArgs,
    /// JoinEUI (AppEUI) its join-requests must name; any if left out.
    #[arg(long)]
    join_eui: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// An ABP device may start its counter anew.
    #[arg(long)]
    skip_fcnt_check: bool,
    #[command(flatten)]
    tags: TagArgs,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ActivateArgs {
    device: String,
    /// Drawn by the server if left out.
    #[arg(long)]
    dev_addr: Option<String>,
    #[arg(long, value_name = "KEY")]
    nwk_s_key: String,
    #[arg(long, value_name = "KEY")]
    app_s_key: String,
    /// Next uplink counter expected.
    #[arg(long, default_value_t = 0)]
    fcnt_up: u32,
    /// First downlink counter not used yet.
    #[arg(long, default_value_t = 0)]
    fcnt_down: u32,
}

fn one(device: &str) -> String {
    format!("/api/devices/{}", part(device))
}

pub(super) fn device(command: DeviceCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use DeviceCommand as C;
    match command {
        C::List { list, application, profile } => {
            let more = [("applicationId", application), ("deviceProfileId", profile)];
            out.list(
                &client.get(&format!("/api/devices{}", list.query(&more)))?,
                &[
                    ("DEVICE", "/devEui"),
                    ("NAME", "/name"),
                    ("PROFILE", "/deviceProfileName"),
                    ("LAST SEEN", "/lastSeenAt"),
                ],
            )
        }
        C::Get { device } => out.object(&client.get(&one(&device))?),
        C::Add(args) => add(&args, client, out),
        C::Update {
            device,
            rename,
            description,
            application,
            profile,
            disabled,
            skip_fcnt_check,
            tags,
        } => {
            let answer = change(client, &one(&device), "device", |object| {
                let fields = [
                    ("name", text(rename.as_ref())),
                    ("description", text(description.as_ref())),
                    ("applicationId", text(application.as_ref())),
                    ("deviceProfileId", text(profile.as_ref())),
                    ("isDisabled", disabled.map(|yes| json!(yes))),
                    ("skipFcntCheck", skip_fcnt_check.map(|yes| json!(yes))),
                ];
                set(object, &fields);
                tags.add_to(object);
            })?;
            out.done(&format!("device {device} changed"), &answer)
        }
        C::Delete { device } => {
            let answer = client.delete(&one(&device))?;
            out.done(&format!("device {device} deleted"), &answer)
        }
        C::Keys { device, keys } => self::keys(&device, &keys, client, out),
        C::Activation { device } => {
            let answer = client.get(&format!("{}/activation", one(&device)))?;
            if answer["deviceActivation"].is_null() {
                return out.done(&format!("device {device} is not activated"), &answer);
            }
            out.object(&answer)
        }
        C::Activate(args) => activate(&args, client, out),
        C::Deactivate { device } => {
            let answer = client.delete(&format!("{}/activation", one(&device)))?;
            out.done(&format!("device {device} is no longer activated"), &answer)
        }
        C::FlushNonces { device } => {
            let answer = client.delete(&format!("{}/dev-nonces", one(&device)))?;
            out.done(&format!("device {device} may use any DevNonce again"), &answer)
        }
        C::Import { file } => import(&file, client, out),
    }
}

/// The only one of a list, where people need not name it.
fn the_only(client: &Client, path: &str, flag: &str, how: &str) -> Result<String, CliError> {
    let list = client.get(&format!("{path}?limit=20"))?;
    let items = list["result"].as_array().cloned().unwrap_or_default();
    match items.as_slice() {
        [only] => Ok(id(only).to_owned()),
        [] => Err(CliError::Usage(format!("there is none yet for {flag}: {how}"))),
        several => {
            let names = several.iter().filter_map(|item| item["name"].as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            Err(CliError::Usage(format!("say which with {flag}: {names}")))
        }
    }
}

fn add(args: &AddArgs, client: &Client, out: &Out) -> Result<(), CliError> {
    let application = match &args.application {
        Some(name) => name.clone(),
        None => {
            let how = "tern application add NAME";
            the_only(client, "/api/applications", "--application", how)?
        }
    };
    let profile = match &args.profile {
        Some(name) => name.clone(),
        None => {
            let how = "tern profile add NAME";
            the_only(client, "/api/device-profiles", "--profile", how)?
        }
    };
    let mut object = json!({"devEui": args.dev_eui, "name": args.name,
        "applicationId": application, "deviceProfileId": profile, "joinEui": args.join_eui,
        "description": args.description, "skipFcntCheck": args.skip_fcnt_check});
    args.tags.add_to(&mut object);
    let answer = client.post("/api/devices", &json!({"device": object}))?;
    let Some(keys) = args.keys.body() else {
        let text = format!(
            "device {} registered; it cannot join yet: tern device keys {} --app-key KEY",
            args.dev_eui, args.dev_eui
        );
        return out.done(&text, &answer);
    };
    if let Err(error) = client.post(&format!("{}/keys", one(&args.dev_eui)), &keys) {
        let text = format!("device {} is registered, but without keys: {error}", args.dev_eui);
        return Err(CliError::Usage(text));
    }
    out.done(&format!("device {} registered; it may join", args.dev_eui), &answer)
}

fn keys(device: &str, keys: &KeyArgs, client: &Client, out: &Out) -> Result<(), CliError> {
    let path = format!("{}/keys", one(device));
    let Some(body) = keys.body() else {
        return out.object(&client.get(&path)?);
    };
    let answer = match client.post(&path, &body) {
        Err(CliError::Refused { status: 409, .. }) => client.put(&path, &body)?,
        other => other?,
    };
    out.done(&format!("keys of device {device} set; it may join"), &answer)
}

fn activate(args: &ActivateArgs, client: &Client, out: &Out) -> Result<(), CliError> {
    let dev_addr = match &args.dev_addr {
        Some(given) => given.clone(),
        None => {
            let path = format!("{}/get-random-dev-addr", one(&args.device));
            let drawn = client.post(&path, &json!({}))?;
            drawn["devAddr"].as_str().unwrap_or_default().to_owned()
        }
    };
    let key = &args.nwk_s_key;
    let body = json!({"deviceActivation": {"devAddr": dev_addr, "nwkSEncKey": key,
        "sNwkSIntKey": key, "fNwkSIntKey": key, "appSKey": args.app_s_key,
        "fCntUp": args.fcnt_up, "nFCntDown": args.fcnt_down}});
    let answer = client.post(&format!("{}/activate", one(&args.device)), &body)?;
    out.done(&format!("device {} is activated as {dev_addr}", args.device), &answer)
}

/// Objects of a migration file: one, an array of them, or one a line.
fn objects(text: &str) -> Result<Vec<Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Array(items)) => return Ok(items),
        Ok(one) => return Ok(vec![one]),
        Err(_) => {}
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let objects = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))
    });
    objects.collect()
}

fn import(file: &Path, client: &Client, out: &Out) -> Result<(), CliError> {
    let error = |why: String| CliError::File { path: file.to_owned(), why };
    let text = std::fs::read_to_string(file).map_err(|why| error(why.to_string()))?;
    let objects = objects(&text).map_err(error)?;
    let mut failed = 0;
    for object in &objects {
        let dev_eui = object["device"]["devEui"].as_str().unwrap_or("without devEui");
        if let Err(refusal) = client.post("/api/v1/devices/import", object) {
            failed += 1;
            out.line(&format!("{dev_eui}: {refusal}"))?;
        }
    }
    let imported = objects.len() - failed;
    let answer = json!({"imported": imported, "failed": failed});
    out.done(&format!("{imported} imported, {failed} failed"), &answer)?;
    if failed > 0 { Err(error(format!("{failed} devices were not imported"))) } else { Ok(()) }
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Show what waits for a device.
    #[command(visible_alias = "get")]
    List { device: String },
    /// Queue a downlink.
    #[command(visible_aliases = ["add", "create"], after_help = teach::QUEUE_PUSH)]
    Push(PushArgs),
    /// Take one downlink back, if it was not handed out yet.
    Delete { device: String, item: String },
    /// Drop all that waits.
    Flush { device: String },
}

#[derive(Clone, Debug, Args)]
pub(super) struct PushArgs {
    device: String,
    /// 1 to 223
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=223))]
    fport: u32,
    /// Payload, like 0102 or 01-02.
    #[arg(long, conflicts_with = "base64")]
    hex: Option<String>,
    /// Payload, like AQI=.
    #[arg(long)]
    base64: Option<String>,
    /// The device must acknowledge it.
    #[arg(long)]
    confirmed: bool,
    /// Not worth sending after, like 2026-11-20T18:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Drop what waits first.
    #[arg(long)]
    flush: bool,
}

pub(super) fn queue(command: QueueCommand, client: &Client, out: &Out) -> Result<(), CliError> {
    use QueueCommand as C;
    let path = |device: &str| format!("{}/queue", one(device));
    match command {
        C::List { device } => out.list(
            &client.get(&path(&device))?,
            &[
                ("ID", "/id"),
                ("PORT", "/fPort"),
                ("DATA", "/data"),
                ("CONFIRMED", "/confirmed"),
                ("PENDING", "/isPending"),
                ("EXPIRES", "/expiresAt"),
            ],
        ),
        C::Push(args) => {
            let data = match (&args.hex, &args.base64) {
                (Some(hex), _) => STANDARD.encode(from_hex(hex)?),
                (None, Some(base64)) => base64.clone(),
                (None, None) => String::new(),
            };
            let body = json!({"queueItem": {"fPort": args.fport, "data": data,
                "confirmed": args.confirmed, "expiresAt": args.expires_at},
                "flushQueue": args.flush});
            let answer = client.post(&path(&args.device), &body)?;
            let text = format!("queued for {}: {}", args.device, id(&answer));
            out.done(&text, &answer)
        }
        C::Delete { device, item } => {
            let path = format!("/api/v1/devices/{}/queue/{}", part(&device), part(&item));
            let answer = client.delete(&path)?;
            out.done(&format!("{item} is taken back"), &answer)
        }
        C::Flush { device } => {
            let answer = client.delete(&path(&device))?;
            out.done(&format!("nothing waits for {device} any more"), &answer)
        }
    }
}

/// Bytes out of hexadecimal digits; dashes, colons and spaces do not count.
pub(super) fn from_hex(text: &str) -> Result<Vec<u8>, CliError> {
    let wrong = || CliError::Usage(format!("`{text}` is not hexadecimal, like 0102"));
    let digits: Vec<u32> = text
        .chars()
        .filter(|letter| !matches!(letter, '-' | ':' | ' '))
        .map(|letter| letter.to_digit(16).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(wrong()) };
    pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).map_err(|_| wrong())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_migration_files_are_read() {
        assert_eq!(from_hex("01-0A ff").unwrap(), [1, 10, 255]);
        assert!(from_hex("010").is_err() && from_hex("0x").is_err() && from_hex("ü1").is_err());
        assert!(from_hex("").unwrap().is_empty());
        assert_eq!(objects("{\"a\":1}").unwrap().len(), 1);
        assert_eq!(objects("[{},{}]").unwrap().len(), 2);
        assert_eq!(objects("{}\n\n{}\n{}").unwrap().len(), 3);
        assert_eq!(objects("{}\nx").unwrap_err().split(':').next(), Some("line 2"));
    }
}
