//! The `tern` command: what it understands, and where each part of it goes.

mod account;
pub(crate) mod client;
mod cluster;
mod device;
mod events;
mod frames;
mod login;
mod network;
mod print;
mod serve;
mod teach;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{Parser, Subcommand};

use client::{CliError, Client, Place};
use print::Out;

/// A LoRaWAN network server that is its own cluster.
#[derive(Debug, Parser)]
#[command(name = "tern", version, after_help = teach::TERN, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Where the server is, and how to print.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Data folder; on the server's own host its socket needs no password.
    #[arg(long, global = true, env = "TERN_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Server elsewhere, like http://10.0.0.5:8080 (see `tern login`).
    #[arg(long, global = true, env = "TERN_URL", hide_env_values = true, value_name = "URL")]
    url: Option<String>,
    /// JSON for programs instead of tables for people.
    #[arg(long, global = true, env = "TERN_JSON", hide_env_values = true,
          value_parser = FalseyValueParser::new())]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    #[command(after_long_help = teach::serve())]
    Serve(serve::ServeArgs),
    /// Run a node, or several, with simulated gateways and devices over real sockets.
    #[command(after_help = teach::DEMO)]
    Demo(crate::demo::DemoArgs),
    /// Print the version of this program, and of the server if there is one.
    Version,
    /// Show what happens: gateways, frames with verdict and remedy.
    #[command(after_help = teach::WATCH)]
    Watch(events::WatchArgs),
    /// Log in to a server elsewhere; the token is kept in your configuration folder (0600).
    #[command(after_help = teach::LOGIN)]
    Login(login::LoginArgs),
    /// Log out.
    Logout,
    /// Tenants, and their users.
    #[command(subcommand)]
    Tenant(network::TenantCommand),
    /// Applications: devices whose events belong together.
    #[command(subcommand)]
    Application(network::ApplicationCommand),
    /// Device profiles: what devices of one kind have in common.
    #[command(subcommand)]
    Profile(network::ProfileCommand),
    /// Devices: registration, keys, activation, import.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Gateways.
    #[command(subcommand)]
    Gateway(network::GatewayCommand),
    /// Downlinks that wait for a device.
    #[command(subcommand)]
    Queue(device::QueueCommand),
    /// Users who log in.
    #[command(subcommand)]
    User(account::UserCommand),
    /// API keys for programs.
    #[command(subcommand)]
    ApiKey(account::ApiKeyCommand),
    /// Accounts of the MQTT broker.
    #[command(subcommand)]
    MqttUser(account::MqttUserCommand),
    /// The event log.
    #[command(after_help = teach::EVENTS)]
    Events(events::EventsArgs),
    /// Frames: explain one, or check a file of them.
    #[command(subcommand)]
    Frame(frames::FrameCommand),
    /// The node: who it is and how it does.
    #[command(subcommand)]
    Node(account::NodeCommand),
    /// The cluster: who is in it, who comes, who goes.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Serve no more gateways and let another node lead, before this one is stopped.
    Drain,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody to tell if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tern: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let Cli { common, command } = cli;
    let out = Out::new(common.json);
    match command {
        Command::Serve(args) => return serve::run(&args, common.data.as_deref()),
        Command::Demo(args) => return serve::demo(args, out.json),
        Command::Frame(command) => return frames::run(command, &out),
        Command::Version => return login::version(&common, &out),
        Command::Login(args) => return login::login(&args, &out).map(|()| ok()),
        Command::Logout => return login::logout(&out).map(|()| ok()),
        Command::Cluster(cluster::ClusterCommand::Cookie { command }) => {
            return cluster::cookie(command.as_ref(), &common, &out).map(|()| ok());
        }
        Command::Watch(_)
        | Command::Tenant(_)
        | Command::Application(_)
        | Command::Profile(_)
        | Command::Device(_)
        | Command::Gateway(_)
        | Command::Queue(_)
        | Command::User(_)
        | Command::ApiKey(_)
        | Command::MqttUser(_)
        | Command::Events(_)
        | Command::Node(_)
        | Command::Cluster(_)
        | Command::Drain => {}
    }
    let client = Client::new(Place::find(&common)?)?;
    match command {
        Command::Watch(args) => events::watch(&args, &client, &out),
        Command::Tenant(command) => network::tenant(command, &client, &out),
        Command::Application(command) => network::application(command, &client, &out),
        Command::Profile(command) => network::profile(command, &client, &out),
        Command::Device(command) => device::device(command, &client, &out),
        Command::Gateway(command) => network::gateway(command, &client, &out),
        Command::Queue(command) => device::queue(command, &client, &out),
        Command::User(command) => account::user(command, &client, &out),
        Command::ApiKey(command) => account::api_key(command, &client, &out),
        Command::MqttUser(command) => account::mqtt_user(command, &client, &out),
        Command::Events(args) => events::events(&args, &client, &out),
        Command::Node(command) => account::node(command, &client, &out),
        Command::Cluster(command) => cluster::cluster(command, &client, &out),
        Command::Drain => account::node(account::NodeCommand::Drain, &client, &out),
        Command::Serve(_)
        | Command::Demo(_)
        | Command::Frame(_)
        | Command::Version
        | Command::Login(_)
        | Command::Logout => Ok(()),
    }
    .map(|()| ok())
}

fn ok() -> ExitCode {
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests;
