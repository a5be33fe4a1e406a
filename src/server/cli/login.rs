//! Logging in to a server elsewhere; the token lies in the user's configuration folder, 0600.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Common;
use super::client::{CliError, Client, Place, address_of};
use super::print::Out;

/// What `tern login` was told.
#[derive(Debug, clap::Args)]
pub(super) struct LoginArgs {
    /// Address of the server, like http://10.0.0.5:8080
    url: String,
    /// Login name.
    #[arg(long, default_value = "admin")]
    email: String,
    /// Read the password from standard input instead of asking.
    #[arg(long)]
    password_stdin: bool,
}

/// A login kept for later commands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Server.
    pub(super) url: String,
    /// Token.
    pub(super) token: String,
}

impl Saved {
    fn path() -> Option<PathBuf> {
        let own = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        Some(own.or_else(home)?.join("tern").join("login.json"))
    }

    /// The last login, if there is one that can be read.
    pub(super) fn load() -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path()?).ok()?).ok()
    }

    fn store(&self) -> Result<PathBuf, CliError> {
        let path = Self::path();
        let path = path.ok_or_else(|| CliError::Usage("HOME is not set".to_owned()))?;
        let error =
            |error: io::Error| CliError::File { path: path.clone(), why: error.to_string() };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error)?;
        }
        let fresh = path.with_extension("new");
        // One left behind by a crash must not keep its rights.
        let _ = fs::remove_file(&fresh);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh);
        let mut file = file.map_err(error)?;
        file.write_all(json!(self).to_string().as_bytes()).map_err(error)?;
        fs::rename(&fresh, &path).map_err(error)?;
        Ok(path)
    }
}

/// Logs in.
pub(super) fn login(args: &LoginArgs, out: &Out) -> Result<(), CliError> {
    let address = address_of(&args.url)?;
    let client = Client::new(Place::Tcp { address, token: None })?;
    let password = password(args)?;
    let body = json!({"email": args.email, "password": password});
    let answer = client.post("/api/internal/login", &body)?;
    let token = answer["jwt"].as_str().unwrap_or_default().to_owned();
    let path = Saved { url: args.url.clone(), token }.store()?;
    let until = answer["expiresAt"].as_str().unwrap_or("the server restarts");
    let text = format!(
        "logged in to {} as {} until {until} (kept in {})",
        args.url,
        args.email,
        path.display()
    );
    out.done(&text, &json!({"url": args.url, "expiresAt": answer["expiresAt"]}))
}

fn password(args: &LoginArgs) -> Result<String, CliError> {
    let stdin = io::stdin();
    if !args.password_stdin && !stdin.is_terminal() {
        let text = "give the password with --password-stdin, or run this on a terminal";
        return Err(CliError::Usage(text.to_owned()));
    }
    let hidden = if args.password_stdin { None } else { tcgetattr(&stdin).ok() };
    if let Some(shown) = &hidden {
        eprint!("password of {}: ", args.email);
        let mut silent = shown.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // A terminal that cannot be told shows the password: no reason not to go on.
        let _ = tcsetattr(&stdin, OptionalActions::Now, &silent);
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &hidden {
        let _ = tcsetattr(&stdin, OptionalActions::Now, shown);
        eprintln!();
    }
    read.map_err(|error| CliError::Usage(format!("no password: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Logs out.
pub(super) fn logout(out: &Out) -> Result<(), CliError> {
    let Some(saved) = Saved::load() else {
        return out.done("nobody is logged in", &json!({}));
    };
    let place = Place::Tcp { address: address_of(&saved.url)?, token: Some(saved.token) };
    // The token is forgotten here even if the server is out of reach; there it ends within a day.
    let told = Client::new(place)?.post("/api/v1/logout", &json!({}));
    if let Some(path) = Saved::path() {
        let error =
            |error: io::Error| CliError::File { path: path.clone(), why: error.to_string() };
        fs::remove_file(&path).map_err(error)?;
    }
    let text = match told {
        Ok(_) => format!("logged out of {}", saved.url),
        Err(error) => format!("the login is forgotten here ({error})"),
    };
    out.done(&text, &json!({}))
}

/// Prints versions.
pub(super) fn version(common: &Common, out: &Out) -> Result<ExitCode, CliError> {
    let own = env!("CARGO_PKG_VERSION");
    let server = Place::find(common).and_then(Client::new);
    let server = server.and_then(|client| client.get("/api/v1/node"));
    let server = server.ok().and_then(|node| node["version"].as_str().map(str::to_owned));
    let text = match &server {
        Some(server) => format!("tern {own}, server {server}"),
        None => format!("tern {own}"),
    };
    out.done(&text, &json!({"version": own, "server": server}))?;
    Ok(ExitCode::SUCCESS)
}
