//! The nodes of the demonstration: `tern serve` processes on loopback, so that one of them can
//! really be killed. On ports that were free, in a folder that goes with them.
//!
//! A child ends with its standard input, which is ours: also if we are killed ourselves.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::DemoError;
use super::node::Folder;
use crate::cli::client::{Client, Place, SOCKET};
use crate::world::draw;

/// How long the nodes may take to find one another, or one to come back.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often readiness is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of a log that says why a node ended.
const LOG_LINES: usize = 5;
/// Where the nodes' ports are looked for: what Linux hands to connections begins at 32,768.
const PORTS: Range<u16> = 28_500..32_700;
/// How often, since others look there too.
const TRIES: usize = 50;

/// One node: its process, while it lives.
#[derive(Debug)]
pub(super) struct Node {
    /// `n1`
    pub(super) short: String,
    /// Where gateways send.
    pub(super) udp: SocketAddr,
    /// Where MQTT clients connect.
    pub(super) mqtt: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

/// All of them, and the folder they live in.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The nodes, by number.
    pub(super) all: Vec<Node>,
    // Dropped after the processes that write in it.
    _folder: Folder,
}

impl Nodes {
    /// Starts so many nodes, and waits until they are one cluster.
    ///
    /// * Errors: no ports, no folder, a node that ends or is not ready in time.
    pub(super) async fn start(count: u8, region: &str) -> Result<Self, DemoError> {
        let folder = Folder::new();
        let cookie = cluster::cookie::cookie_from_random(draw());
        let ports = io_at("ports", Ports::free(count))?;
        let seeds: Vec<String> = ports.iter().map(|ports| ports.peers.to_string()).collect();
        let mut all = Vec::new();
        for (number, ports) in (1..).zip(&ports) {
            let short = format!("n{number}");
            let own = folder.path().join(&short);
            let text = ports.config(&short, &own, region, &cookie, &seeds);
            io_at("the demonstration's folder", write_config(&own, &text))?;
            all.push(Node { short, udp: ports.udp, mqtt: ports.mqtt, folder: own, child: None });
        }
        let mut nodes = Self { all, _folder: folder };
        for node in &mut nodes.all {
            node.spawn()?;
        }
        nodes.ready().await?;
        Ok(nodes)
    }

    /// Waits until all serve.
    ///
    /// * Errors: one has ended, or is not ready in time.
    async fn ready(&mut self) -> Result<(), DemoError> {
        let since = Instant::now();
        while let Some(waiting) = self.all.iter().find(|node| !node.is_ready()) {
            if let Some(error) = waiting.is_late(since) {
                return Err(error);
            }
            // Not of the waiting one alone: it may wait for the one that has ended.
            if let Some(error) = self.ended() {
                return Err(error);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Some node that lives.
    pub(super) fn any(&self) -> Option<&Node> {
        self.all.iter().find(|node| node.child.is_some())
    }

    /// Why a node that should live has ended, if one has.
    pub(super) fn ended(&mut self) -> Option<DemoError> {
        self.all.iter_mut().find_map(Node::ended)
    }
}

impl Node {
    /// Starts its process, on its folder.
    ///
    /// * Errors: no process.
    pub(super) fn spawn(&mut self) -> Result<(), DemoError> {
        self.child = Some(io_at("a node's process", self.launch())?);
        Ok(())
    }

    fn launch(&self) -> io::Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TERN_") {
                command.env_remove(name);
            }
        }
        // A group of its own: the terminal's Ctrl-C is for us alone.
        command
            .args(["serve", "--until-stdin-ends", "--config"])
            .arg(self.folder.join("tern.toml"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    }

    fn is_ready(&self) -> bool {
        self.get("/health/ready").is_some()
    }

    /// What to say if it has not been ready for too long.
    fn is_late(&self, since: Instant) -> Option<DemoError> {
        let late = since.elapsed() > READY_WITHIN;
        late.then(|| DemoError::Node(format!("{} is not ready: {}", self.short, self.told())))
    }

    /// Why it has ended, if it has without being killed by us.
    fn ended(&mut self) -> Option<DemoError> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(DemoError::Node(format!("{} ({status}): {}", self.short, self.told())))
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Asks it, as the local administrator; `None`: it does not answer, or refuses.
    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.child.as_ref()?;
        self.client(|client| client.get(path)).ok()
    }

    /// Makes something.
    ///
    /// * Errors: its words.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, DemoError> {
        let text = |why: String| DemoError::Failed(format!("POST {path}: {why}"));
        self.client(|client| client.post(path, body)).map_err(text)
    }

    /// The client has a runtime of its own, which must not be entered from within ours.
    fn client<T, E: ToString>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, String> {
        let place = Place::Socket(self.folder.join("data").join(SOCKET));
        tokio::task::block_in_place(|| {
            let client = Client::new(place).map_err(|error| error.to_string())?;
            ask(&client).map_err(|error| error.to_string())
        })
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The end of its log.
    fn told(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Ports {
    udp: SocketAddr,
    mqtt: SocketAddr,
    http: SocketAddr,
    peers: SocketAddr,
}

impl Ports {
    /// Free ports for so many nodes. They are named before they are used, for a node that was
    /// killed comes back to its own: so they lie below those that systems hand to whoever connects.
    ///
    /// * Errors: something holds on to some of each set that was tried.
    fn free(nodes: u8) -> io::Result<Vec<Self>> {
        let needed = u16::from(nodes) * Self::PER_NODE;
        let places = (PORTS.end - PORTS.start) / needed;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            let [low, high, ..] = draw();
            let first = PORTS.start + u16::from_le_bytes([low, high]) % places * needed;
            let starts = (first..first + needed).step_by(usize::from(Self::PER_NODE));
            match starts.map(Self::free_from).collect() {
                Ok(ports) => return Ok(ports),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    const PER_NODE: u16 = 4;

    fn free_from(first: u16) -> io::Result<Self> {
        let [udp, mqtt, http, peers] =
            [0, 1, 2, 3].map(|next| SocketAddr::from((Ipv4Addr::LOCALHOST, first + next)));
        UdpSocket::bind(udp)?;
        for taken in [mqtt, http, peers] {
            TcpListener::bind(taken)?;
        }
        Ok(Self { udp, mqtt, http, peers })
    }

    fn config(
        &self,
        short: &str,
        folder: &Path,
        region: &str,
        cookie: &str,
        seeds: &[String],
    ) -> String {
        let text = |value: &dyn std::fmt::Display| json!(value.to_string());
        let mut lines = vec![
            ("data", text(&folder.join("data").display())),
            ("region", text(&region)),
            ("listen.gateways", text(&self.udp)),
            ("listen.mqtt", text(&self.mqtt)),
            ("listen.http", text(&self.http)),
            ("listen.peers", text(&self.peers)),
            ("node.name", text(&format!("{short}@127.0.0.1"))),
            ("cluster.name", text(&"demo")),
            ("cluster.cookie", text(&cookie)),
            ("cluster.address", text(&self.peers)),
            ("storage.reserve", text(&"1MiB")),
            ("mqtt.connections_max", text(&"64")),
            ("log.level", text(&"warn,openraft=error")),
        ];
        if seeds.len() > 1 {
            lines.push(("cluster.discovery", text(&"static")));
            lines.push(("cluster.static.seeds", json!(seeds)));
        }
        lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
    }
}

fn write_config(folder: &Path, text: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("tern.toml"), text)
}

fn io_at<T>(what: &'static str, result: io::Result<T>) -> Result<T, DemoError> {
    result.map_err(|source| DemoError::Io { what, source })
}
