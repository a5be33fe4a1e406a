//! A load balancer for gateways that knows nothing but UDP and `/health/ready`: each datagram goes
//! to the next node that is ready, whatever it is and whoever sent it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a node is asked, and how long it may take to answer.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ANSWER_MAX: Duration = Duration::from_millis(300);
/// How late a thread may see that all is over.
const TICK: Duration = Duration::from_millis(50);

/// One node behind it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where it takes gateways' datagrams.
    pub udp: SocketAddr,
    /// Where it says whether it is ready.
    pub http: SocketAddr,
}

/// Where an uplink was sent on to.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded {
    /// When.
    pub at: Instant,
    /// To which node, by its place in the list.
    pub node: usize,
}

struct Shared {
    socket: UdpSocket,
    targets: Vec<Target>,
    ready: Vec<AtomicBool>,
    /// Uplinks by the gateway's counter.
    uplinks: Mutex<BTreeMap<u32, Forwarded>>,
    stop: AtomicBool,
}

/// A balancer at work; it ends when dropped.
pub struct Balancer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl std::fmt::Debug for Balancer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Balancer({})", self.address)
    }
}

impl Balancer {
    /// Begins, with no node known to be ready.
    pub fn start(at: SocketAddr, targets: Vec<Target>) -> Self {
        let socket = UdpSocket::bind(at).expect("a port for the balancer");
        socket.set_read_timeout(Some(TICK)).expect("a time limit");
        let address = socket.local_addr().expect("it is bound");
        let ready = targets.iter().map(|_| AtomicBool::new(false)).collect();
        let (uplinks, stop) = (Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { socket, targets, ready, uplinks, stop });
        for node in 0..shared.targets.len() {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || look(&shared, node));
        }
        let mine = Arc::clone(&shared);
        std::thread::spawn(move || forward(&mine));
        Self { shared, address }
    }

    /// Where gateways send.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many nodes are ready.
    pub fn ready(&self) -> usize {
        self.shared.ready.iter().filter(|ready| ready.load(Ordering::Acquire)).count()
    }

    /// Where each uplink went, by the gateway's counter; those it had nobody for are missing.
    pub fn uplinks(&self) -> BTreeMap<u32, Forwarded> {
        self.shared.uplinks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Asks one node again and again.
fn look(shared: &Shared, node: usize) {
    while !shared.stop.load(Ordering::Acquire) {
        let ready = is_ready(shared.targets[node].http).unwrap_or(false);
        shared.ready[node].store(ready, Ordering::Release);
        std::thread::sleep(ASK_EVERY);
    }
}

fn is_ready(http: SocketAddr) -> Option<bool> {
    let mut stream = TcpStream::connect_timeout(&http, ANSWER_MAX).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let ask = b"GET /health/ready HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    Some(head.ends_with(b" 200"))
}

fn forward(shared: &Arc<Shared>) {
    let mut ways: BTreeMap<(SocketAddr, usize), UdpSocket> = BTreeMap::new();
    let (mut buffer, mut next) = (vec![0; 65_535], 0);
    while !shared.stop.load(Ordering::Acquire) {
        let Ok((length, gateway)) = shared.socket.recv_from(&mut buffer) else { continue };
        let count = shared.targets.len();
        let is_ready = |node: &usize| shared.ready[*node].load(Ordering::Acquire);
        let Some(node) = (next..next + count).map(|at| at % count).find(is_ready) else { continue };
        next = node + 1;
        let way = ways.entry((gateway, node)).or_insert_with(|| open(shared, gateway, node));
        if let Some(tmst) = tmst_of(&buffer[..length]) {
            let forwarded = Forwarded { at: Instant::now(), node };
            let mut uplinks = shared.uplinks.lock().unwrap_or_else(PoisonError::into_inner);
            uplinks.insert(tmst, forwarded);
        }
        // A node that has died refuses; the next datagram goes elsewhere.
        let _ = way.send(&buffer[..length]);
    }
}

/// A way to a node for one gateway, and back.
fn open(shared: &Arc<Shared>, gateway: SocketAddr, node: usize) -> UdpSocket {
    let way = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
    way.connect(shared.targets[node].udp).expect("an address");
    way.set_read_timeout(Some(TICK)).expect("a time limit");
    let (back, shared) = (way.try_clone().expect("a second handle"), Arc::clone(shared));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while !shared.stop.load(Ordering::Acquire) {
            if let Ok(length) = back.recv(&mut buffer) {
                let _ = shared.socket.send_to(&buffer[..length], gateway);
            }
        }
    });
    way
}

/// The gateway's counter of an uplink.
fn tmst_of(datagram: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(datagram.get(12..)?).ok()?;
    let (_, rest) = text.split_once("\"tmst\":")?;
    let end = rest.find(|digit: char| !digit.is_ascii_digit())?;
    rest[..end].parse().ok()
}
