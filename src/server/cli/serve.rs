//! `tern serve` and `tern demo`: a node in this process.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use host::service::StartError;
use node::api::{Credentials, Operation, Outcome};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::client::{CliError, SOCKET};
use crate::config::{Config, Source};
use crate::demo::DemoArgs;
use crate::handle::NodeHandle;
use crate::http::{HttpError, HttpServer, HttpSettings};
use crate::life::Life;
use crate::ports::holder;
use crate::run::{self, Running, ServeError};

/// Files looked for when none is named.
const USUAL_FILES: [&str; 2] = ["tern.toml", "/etc/tern/tern.toml"];

/// What `tern serve` was told.
#[derive(Clone, Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration file.
    #[arg(long, env = "TERN_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// EU868 or US915.
    #[arg(long)]
    region: Option<String>,
    /// Added to every port, to run several nodes on one machine.
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
    /// Any value of the configuration.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Stop when the standard input ends: with whoever started it.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl ServeArgs {
    /// File, environment and command line together.
    fn config(&self, data: Option<&Path>) -> Result<Config, CliError> {
        let usage = |error: crate::config::ConfigError| CliError::Usage(error.to_string());
        let mut source = Source::defaults();
        let usual = || USUAL_FILES.iter().map(PathBuf::from).find(|file| file.exists());
        if let Some(file) = self.config.clone().or_else(usual) {
            source.add_file(&file).map_err(usage)?;
        }
        if let Ok(folder) = std::env::var("STATE_DIRECTORY") {
            source.add("STATE_DIRECTORY", "data", folder).map_err(usage)?;
        }
        let variables = std::env::vars_os();
        let variables = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        source.add_environment(variables).map_err(usage)?;
        for pair in &self.set {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(CliError::Usage(format!("--set {pair}: write NAME=VALUE")));
            };
            source.add("--set", name.trim(), value.to_owned()).map_err(usage)?;
        }
        let flags = [
            ("--region", "region", self.region.clone()),
            ("--port-offset", "port_offset", self.port_offset.map(|offset| offset.to_string())),
            ("--data", "data", data.map(|data| data.display().to_string())),
        ];
        for (place, name, value) in flags {
            if let Some(value) = value {
                source.add(place, name, value).map_err(usage)?;
            }
        }
        source.finish().map_err(usage)
    }
}

/// Runs a node until it is told to stop, or cannot go on.
pub(super) fn run(args: &ServeArgs, data: Option<&Path>) -> Result<ExitCode, CliError> {
    let config = args.config(data)?;
    start_logging(&config.log_level)?;
    raise_file_limit();
    runtime()?.block_on(serve(&config, args.until_stdin_ends))
}

/// Runs the demonstration.
pub(super) fn demo(args: DemoArgs, json: bool) -> Result<ExitCode, CliError> {
    start_logging("warn,openraft=error")?;
    let ran = runtime()?.block_on(crate::demo::run(args, json));
    ran.map(|()| ExitCode::SUCCESS).map_err(|error| CliError::Serve(error.to_string()))
}

fn runtime() -> Result<Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CliError::Serve(error.to_string()))
}

/// Every connection is an open file, and the limit that a shell gives (1,024, mostly) is below what
/// the configuration allows: without this, MQTT clients alone could shut out HTTP and the disk.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn start_logging(level: &str) -> Result<(), CliError> {
    // The log's library tells each of its steps at INFO; whoever asks by name gets them.
    let quiet = if level.contains("openraft") { "" } else { ",openraft=warn" };
    let filter = tracing_subscriber::EnvFilter::try_new(format!("{level}{quiet}"))
        .map_err(|error| CliError::Usage(format!("log.level: {error}")))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first.
    let _ = subscriber.try_init();
    Ok(())
}

async fn serve(config: &Config, until_stdin_ends: bool) -> Result<ExitCode, CliError> {
    // The storage first: it shows whether another process has the folder.
    let prepared = run::prepare(&config.serve).map_err(|error| explained(&error))?;
    let life = Life::new(config.serve.clone());
    let node = life.node();
    let settings = HttpSettings {
        listen: vec![config.serve.http],
        socket: Some(prepared.folder().path().join(SOCKET)),
        connections_max: config.http_connections_max,
        ..HttpSettings::default()
    };
    let http = HttpServer::start(node.clone(), settings).await.map_err(|error| match &error {
        HttpError::Bind { address, .. } => taken("tcp", *address, "listen.http", &error),
        HttpError::Socket { .. } => CliError::Serve(error.to_string()),
    })?;
    let ready = async |running: Running| greet(&running, &node, &http).await;
    let ended = tokio::select! {
        biased;
        ended = life.live(prepared, ready) => ended,
        () = told_to_stop(until_stdin_ends) => {
            drop(http);
            life.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    drop(http);
    let aside = ended.map_err(|error| explained(&error))?;
    eprintln!("tern: removed from cluster; its data lies in {}", aside.display());
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, a TERM, or the end of the standard input if that is watched.
async fn told_to_stop(until_stdin_ends: bool) {
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        biased;
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = stdin_ended(), if until_stdin_ends => {}
    }
}

/// Waits on a thread of its own, which is simply left behind: a read cannot be taken back.
async fn stdin_ended() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let wait = move || {
        let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Nobody waits any more: the process stops already.
        let _ = tell.send(ended);
    };
    if std::thread::Builder::new().name("stdin".into()).spawn(wait).is_ok() {
        let _ = told.await;
    }
}

/// What an operator wants to see first.
async fn greet(running: &Running, node: &NodeHandle, http: &HttpServer) {
    let data = std::fs::canonicalize(&running.data).unwrap_or_else(|_| running.data.clone());
    let join = |addresses: &[SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let told = node.call(Credentials::Local, Operation::GetNode).await;
    eprintln!("tern {} is ready", env!("CARGO_PKG_VERSION"));
    eprintln!("  data      {}", data.display());
    if let Ok(Outcome::Node(info)) = told {
        eprintln!("  cluster   {} {}", info.cluster_name, info.cluster_id);
        eprintln!("  region    {}", info.region);
        eprintln!("  devices   {}", info.counts.get("devices").copied().unwrap_or(0));
    }
    let addresses = running.handle.addresses();
    eprintln!("  gateways  udp {}", join(&addresses.gateways));
    eprintln!("  mqtt      tcp {}", join(&addresses.mqtt));
    eprintln!("  http      tcp {}", join(http.addresses()));
    if let Some(password) = &running.new_password {
        // Whatever collects the output of a service must not keep it.
        if std::io::stderr().is_terminal() {
            eprintln!("  user      admin, password {}", password.as_str());
        } else {
            eprintln!("  user      admin, password in {}", running.password_file.display());
        }
    }
}

fn explained(error: &ServeError) -> CliError {
    if let ServeError::Start(StartError::Bind { what, address, .. }) = error {
        let option = if *what == "udp" { "listen.gateways" } else { "listen.mqtt" };
        return taken(what, *address, option, error);
    }
    CliError::Serve(error.to_string())
}

/// A port that is taken: who holds it, and what to change.
fn taken(what: &str, address: SocketAddr, option: &str, error: &dyn std::fmt::Display) -> CliError {
    let held = match holder(what, address) {
        Some(holder) => format!("; {} (pid {}) holds it", holder.name, holder.pid),
        None => String::new(),
    };
    CliError::Serve(format!(
        "{error}{held}. Change {option} (--set {option}=..), or move every port: --port-offset 100"
    ))
}
