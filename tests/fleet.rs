//! Gateways of a cluster under load: devices send on time whatever the servers do (open loop),
//! each frame is heard by gateways of several nodes, and a gateway whose node is silent goes to the
//! next.
//!
//! All gateways count the same microseconds, so that a downlink's `tmst` tells which uplink it
//! answers, and whether it came in time.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gateway::semtech::{
    Downward, Head, TxReply, TxTiming, Version, encode_pull_data, parse_downward,
};
use lorawan::{Frame, GatewayEui, TxStatus};

use crate::audit::Numbers;
use crate::traffic::{self, data, push};

/// Between two PULL_DATA of a gateway.
const PULL_EVERY: Duration = Duration::from_millis(250);
/// A gateway that has heard nothing for so long goes to the next node.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Most gateways that hear a frame.
pub const COPIES_MAX: usize = 3;

/// Who sends, how often, and who hears it.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where the nodes take datagrams.
    pub nodes: Vec<SocketAddr>,
    /// Gateways that start on each node. An answer takes one of them for 75 ms, in either window:
    /// the second one has SF7 too.
    pub gateways_each: usize,
    /// Gateways that hear a frame, each of another group.
    pub copies: usize,
    /// Devices; they send in turn.
    pub devices: u32,
    /// Uplinks a second.
    pub rate: u32,
    /// Each so many uplinks one is confirmed; prime to `devices`.
    pub confirmed_each: u32,
}

impl FleetConfig {
    /// The gateways' EUIs, group by group.
    pub fn gateways(&self) -> Vec<String> {
        let all = 0..self.nodes.len() * self.gateways_each;
        all.map(|number| format!("0016c001ff2{number:05x}")).collect()
    }

    /// The devices as others see them.
    pub fn traffic(&self) -> traffic::TrafficConfig {
        traffic::TrafficConfig {
            devices: self.devices,
            joiners: 0,
            every: Duration::from_secs(1) / self.rate,
            confirmed_each: self.confirmed_each,
            join_each: 1,
            rx2_dr: 5,
        }
    }
}

/// A PUSH_ACK.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Of which node.
    pub node: usize,
    /// When.
    pub at: Duration,
}

/// One uplink and what became of it. Times count from the fleet's start.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Its number among all.
    pub number: u32,
    /// When it was to be sent, and what its gateways' counters said.
    pub due: Duration,
    /// Whether it asks for an answer.
    pub confirmed: bool,
    /// Which nodes took it.
    pub acked: [Option<Acked>; COPIES_MAX],
    /// When its event came.
    pub delivered: Option<Duration>,
    /// The window that the first answer in time was for: 1 or 2.
    pub answered: Option<u8>,
    /// An answer came too late for its window.
    pub late: bool,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Uplinks in the order of their sending.
    pub uplinks: Vec<Uplink>,
    /// Downlink numbers; a number used twice ends the test.
    pub numbers: Numbers,
    /// Gateways that went to the next node.
    pub moves: u32,
    by_tmst: HashMap<u32, u32>,
}

struct Gateway {
    eui: GatewayEui,
    home: usize,
    socket: UdpSocket,
    node: AtomicUsize,
    /// Microseconds since the start.
    heard_at: AtomicU64,
}

struct Shared {
    config: FleetConfig,
    begun: Instant,
    gateways: Vec<Gateway>,
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    quiet: AtomicBool,
}

/// The fleet at work; it ends when dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Begins.
    pub fn start(config: FleetConfig) -> Self {
        assert!(config.copies <= COPIES_MAX.min(config.nodes.len()), "one gateway of each group");
        let mut gateways = Vec::new();
        for (number, eui) in config.gateways().iter().enumerate() {
            let home = number / config.gateways_each;
            let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
            gateways.push(Gateway {
                eui: eui.parse().expect("an EUI"),
                home,
                socket,
                node: AtomicUsize::new(home),
                heard_at: AtomicU64::new(0),
            });
        }
        let shared = Arc::new(Shared {
            config,
            begun: Instant::now(),
            gateways,
            ledger: Mutex::default(),
            stop: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for number in 0..shared.gateways.len() {
            let mine = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || hear(&mine, &mine.gateways[number])));
        }
        for work in [send, pull] {
            let mine = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || work(&mine)));
        }
        Self { shared, threads }
    }

    /// When its clock began.
    pub fn begun(&self) -> Instant {
        self.shared.begun
    }

    /// The time on its clock.
    pub fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// What has happened so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger()
    }

    /// No further uplinks; the gateways go on.
    pub fn fall_silent(&self) {
        self.shared.quiet.store(true, Ordering::Release);
    }

    /// A node is back: its gateways return to it, as a balancer sends them.
    pub fn back(&self, node: usize) {
        for gateway in self.shared.gateways.iter().filter(|gateway| gateway.home == node) {
            gateway.heard_at.store(micros(self.now()), Ordering::Release);
            gateway.node.store(node, Ordering::Release);
        }
    }

    /// Who notes that an uplink's event has come.
    pub fn witness(&self) -> impl Fn(u32, u32) + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move |device, fcnt| {
            let (at, devices) = (shared.begun.elapsed(), shared.config.devices);
            let number = usize::try_from(fcnt * devices + device).expect("small");
            let mut ledger = shared.ledger();
            let uplink = ledger.uplinks.get_mut(number).expect("an event of an uplink");
            uplink.delivered.get_or_insert(at);
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short run")
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Devices send when it is time, never later for the servers' sake.
fn send(shared: &Shared) {
    let config = &shared.config;
    for number in 0_u32.. {
        let due = Duration::from_secs(1) * number / config.rate;
        std::thread::sleep(due.saturating_sub(shared.begun.elapsed()));
        if shared.is_over() || shared.quiet.load(Ordering::Acquire) {
            return;
        }
        let (device, fcnt) = (number % config.devices, number / config.devices);
        let confirmed = number.is_multiple_of(config.confirmed_each);
        let tmst = u32::try_from(micros(due)).expect("an hour at most");
        let uplink = Uplink {
            number,
            due,
            confirmed,
            acked: [None; COPIES_MAX],
            delivered: None,
            answered: None,
            late: false,
        };
        let mut ledger = shared.ledger();
        ledger.uplinks.push(uplink);
        ledger.by_tmst.insert(tmst, number);
        drop(ledger);
        let frame = data(device, fcnt, confirmed);
        let token = u16::try_from(number & 0xFFFF).expect("16 bits");
        // Groups take turns, so that with fewer copies than groups each hears its share; and the
        // gateways of a group, so that answers to neighbours do not want the same radio.
        let turn = usize::try_from(number / config.confirmed_each).expect("32 bits");
        for copy in 0..config.copies {
            let number = usize::try_from(number).expect("32 bits");
            let group = (number + copy) % config.nodes.len();
            let each = config.gateways_each;
            let gateway = &shared.gateways[group * each + turn % each];
            let node = config.nodes[gateway.node.load(Ordering::Acquire)];
            let _ = gateway.socket.send_to(&push(gateway.eui, token, tmst, frame.clone()), node);
        }
    }
}

/// Keeps the ways down open, and leaves nodes that are silent.
fn pull(shared: &Shared) {
    let config = &shared.config;
    while !shared.is_over() {
        for gateway in &shared.gateways {
            let now = micros(shared.begun.elapsed());
            let silent = now.saturating_sub(gateway.heard_at.load(Ordering::Acquire));
            let mut node = gateway.node.load(Ordering::Acquire);
            if config.nodes.len() > 1 && silent > micros(SILENCE_MAX) {
                node = (node + 1) % config.nodes.len();
                gateway.node.store(node, Ordering::Release);
                gateway.heard_at.store(now, Ordering::Release);
                shared.ledger().moves += 1;
            }
            let head = Head { version: Version::V2, token: 2, gateway: gateway.eui };
            let _ = gateway.socket.send_to(&encode_pull_data(head), config.nodes[node]);
        }
        std::thread::sleep(PULL_EVERY);
    }
}

/// What one gateway is told.
fn hear(shared: &Shared, gateway: &Gateway) {
    let mut buffer = [0; 4096];
    while !shared.is_over() {
        let Ok((length, from)) = gateway.socket.recv_from(&mut buffer) else { continue };
        let now = shared.begun.elapsed();
        let Some(node) = shared.config.nodes.iter().position(|node| *node == from) else {
            continue;
        };
        // Words of a node that was left already do not keep a gateway where it is.
        if node == gateway.node.load(Ordering::Acquire) {
            gateway.heard_at.store(micros(now), Ordering::Release);
        }
        match parse_downward(&buffer[..length]) {
            Ok(Downward::PushAck { token }) => taken(&mut shared.ledger(), token, node, now),
            Ok(Downward::PullResp { token, txpk }) => {
                let TxTiming::Counter(tmst) = txpk.timing else { continue };
                answered(shared, tmst, &txpk.phy_payload, now);
                let reply = TxReply { status: TxStatus::Ok, power_used_dbm: None };
                let head = Head { version: Version::V2, token, gateway: gateway.eui };
                let _ = gateway.socket.send_to(&reply.encode(head), from);
            }
            Ok(Downward::PullAck { .. }) | Err(_) => {}
        }
    }
}

/// The token is the lower half of the latest uplink's number that has it.
fn taken(ledger: &mut Ledger, token: u16, node: usize, at: Duration) {
    let Some(last) = ledger.uplinks.len().checked_sub(1) else { return };
    let mut number = (last & !0xFFFF) | usize::from(token);
    if number > last {
        number = number.saturating_sub(0x1_0000);
    }
    let Some(uplink) = ledger.uplinks.get_mut(number) else { return };
    if let Some(place) = uplink.acked.iter_mut().find(|place| place.is_none()) {
        *place = Some(Acked { node, at });
    }
}

fn answered(shared: &Shared, tmst: u32, frame: &[u8], now: Duration) {
    let mut ledger = shared.ledger();
    ledger.numbers.note(frame);
    let Ok(Frame::Data(data)) = Frame::parse(frame) else { return };
    let in_time = micros(now) < u64::from(tmst);
    for window in [1_u8, 2] {
        let sent = tmst.wrapping_sub(u32::from(window) * 1_000_000);
        let Some(number) = ledger.by_tmst.get(&sent).copied() else { continue };
        let device = traffic::dev_addr(number % shared.config.devices);
        if !data.fctrl.ack || data.dev_addr != device {
            continue;
        }
        let uplink = &mut ledger.uplinks[usize::try_from(number).expect("32 bits")];
        if in_time {
            uplink.answered.get_or_insert(window);
        } else {
            uplink.late = true;
        }
    }
}
