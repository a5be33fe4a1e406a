//! A `tern` process in a folder and on ports of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a process may take from start to ready; the goal is half a second, a loaded test
/// machine needs more.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Ports of `tern serve` before the offset.
const UDP: [u16; 2] = [1700, 1680];
const TCP: [u16; 3] = [1883, 8080, 6369];

/// Nobody but this machine is served, and the disk is not kept for bad days.
const LOOPBACK: [&str; 4] = [
    "listen.gateways=127.0.0.1:1700, 127.0.0.1:1680",
    "listen.mqtt=127.0.0.1:1883",
    "listen.http=127.0.0.1:8080",
    "storage.reserve=1MiB",
];

/// A server process; killed when dropped, its folder removed.
#[derive(Debug)]
pub struct Tern {
    binary: PathBuf,
    folder: tempfile::TempDir,
    host: Ipv4Addr,
    offset: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Tern {
    /// Starts `tern serve` with a region and further arguments, and waits until it is ready.
    pub fn start(binary: &Path, region: &str, arguments: &[&str]) -> Self {
        let mut tern = Self::prepare(binary, region, arguments);
        tern.start_again();
        tern
    }

    /// A folder and ports; nothing runs yet.
    pub fn prepare(binary: &Path, region: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut all = vec!["--region".to_owned(), region.to_owned()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self {
            binary: binary.to_owned(),
            folder,
            host: Ipv4Addr::LOCALHOST,
            offset: free_offset(),
            arguments: all,
            child: None,
        }
    }

    /// Sets a value of the configuration for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.arguments.extend(["--set".to_owned(), format!("{name}={value}")]);
    }

    /// It listens at another address than this machine's own.
    pub fn live_at(&mut self, host: Ipv4Addr) {
        self.host = host;
        self.set("listen.gateways", &format!("{host}:1700, {host}:1680"));
        self.set("listen.mqtt", &format!("{host}:1883"));
        self.set("listen.http", &format!("{host}:8080"));
        self.set("listen.peers", &format!("{host}:6369"));
    }

    /// Waits until the process has ended by itself.
    pub fn ended(&mut self, within: Duration) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("running");
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status;
            }
            if since.elapsed() > within {
                child.kill().expect("our own child");
                child.wait().expect("our own child");
                panic!("tern does not end\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A call over the local socket: status and JSON.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let socket = self.data().join("tern.sock");
        let mut stream = UnixStream::connect(socket).expect("the local socket");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: tern\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("the local socket");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("a status"), serde_json::from_str(body).unwrap_or_default())
    }

    /// Starts the process on the same folder and ports, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Without the variables of whoever runs the tests: `TERN_KILLS` is no setting of a server.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TERN_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts the process without waiting.
    pub fn spawn(&mut self) {
        let log = self.folder.path().join("stderr.log");
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let child = self
            .command()
            .arg("serve")
            .arg("--data")
            .arg(self.data())
            .args(["--port-offset", &self.offset.to_string()])
            .args(LOOPBACK.iter().flat_map(|set| ["--set", set]))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("one file, two names"))
            .stderr(log)
            .spawn()
            .expect("tern starts");
        self.child = Some(child);
    }

    /// Waits until `/health/ready` says 200.
    pub fn wait_ready(&mut self) {
        let since = Instant::now();
        while !self.is_ready() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "tern ended: {ended:?}\n{}", self.log());
            assert!(since.elapsed() < READY_WITHIN, "not ready in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_ready(&self) -> bool {
        self.get("/health/ready").is_some_and(|(status, _)| status == 200)
    }

    /// `kill -9`: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// Sends a signal, `STOP` for example.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill");
        assert!(sent.success(), "kill -{name} {pid}");
    }

    /// A graceful stop; the exit status must be success.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let status = child.wait().expect("our own child");
        assert!(status.success(), "graceful stop: {status}\n{}", self.log());
    }

    /// Runs another `tern` command against this server's local socket.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command()
            .args(arguments)
            .env("TERN_DATA", self.data())
            .stdin(Stdio::null())
            .output()
            .expect("tern runs")
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "tern {arguments:?}\n{out}\n{err}\n{}", self.log());
        out.into_owned()
    }

    /// Runs a command with `--json` that must succeed.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.ok(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
    }

    /// A bare HTTP GET: status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: tern\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Some((status, body.unwrap_or_default()))
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the process has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr.log")).unwrap_or_default()
    }

    /// The process, while it runs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Where other nodes knock, if it listens there.
    pub fn peers(&self) -> SocketAddr {
        (self.host, TCP[2] + self.offset).into()
    }

    /// Where gateways send.
    pub fn udp(&self) -> SocketAddr {
        (self.host, UDP[0] + self.offset).into()
    }

    /// Where MQTT clients connect.
    pub fn mqtt(&self) -> SocketAddr {
        (self.host, TCP[0] + self.offset).into()
    }

    /// Where HTTP clients connect.
    pub fn http(&self) -> SocketAddr {
        (self.host, TCP[1] + self.offset).into()
    }
}

impl Drop for Tern {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An offset at which all ports of a node are free. Tests of one run never ask for the same twice.
fn free_offset() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).expect("small") * 100;
    loop {
        let offset = 10_000 + start + NEXT.fetch_add(1, Ordering::Relaxed) * 3 % 9_900;
        let udp = UDP.iter().all(|port| UdpSocket::bind(("127.0.0.1", port + offset)).is_ok());
        let tcp = TCP.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok());
        if udp && tcp {
            return offset;
        }
    }
}

/// Waits until `condition` gives a value; panics with `what` after `within`.
pub fn eventually<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(since.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
