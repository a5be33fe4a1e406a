//! A gateway's worth of traffic for a process under load: activated devices that send far more
//! often than real ones, some of it confirmed, others that join again and again; and a ledger of
//! everything that went either way.
//!
//! The gateway answers every downlink with TX_ACK at once. The counter of each uplink is its own,
//! so that a downlink's `tmst` tells which uplink it answers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::semtech::{
    Downward, Head, PushData, Rxpk, TxReply, TxTiming, Version, encode_pull_data, parse_downward,
};
use lorawan::{
    Aes, CrcStatus, DataMessage, DevAddr, DevEui, DevNonce, Direction, EU868, FCtrl, Frame,
    GatewayEui, JoinEui, JoinRequest, Key, TxStatus,
};
use serde_json::{Value, json};

use crate::Tern;

/// The gateway's EUI.
pub const GATEWAY: &str = "0016c001ff10a235";
/// Between two PULL_DATA: after a restart the way down opens again soon.
const PULL_EVERY: Duration = Duration::from_millis(100);

/// Who sends, and how often.
#[derive(Clone, Copy, Debug)]
pub struct TrafficConfig {
    /// Devices activated by personalisation; they send in turn.
    pub devices: u32,
    /// Devices that join; their numbers follow.
    pub joiners: u32,
    /// Between two uplinks.
    pub every: Duration,
    /// Each so many uplinks one is confirmed; prime to `devices`, so that all have their turn.
    pub confirmed_each: u32,
    /// Each so many uplinks a device joins.
    pub join_each: u32,
    /// Data rate of the second window: 0 (SF12) takes a gateway's radio for more than a second.
    pub rx2_dr: u8,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A data frame.
    Data {
        /// By which device.
        device: u32,
        /// Its number.
        fcnt: u32,
        /// Whether it asks for an answer.
        confirmed: bool,
    },
    /// A join-request.
    Join {
        /// By which device.
        device: u32,
        /// Its nonce.
        dev_nonce: u16,
    },
}

/// What came down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// When it is to be sent, on the gateway's counter.
    pub tmst: u32,
    /// The PHYPayload.
    pub bytes: Vec<u8>,
}

/// Everything that went either way.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Uplinks by the counter of the gateway.
    pub sent: BTreeMap<u32, Sent>,
    /// Downlinks in the order of their coming.
    pub downs: Vec<Down>,
}

impl Ledger {
    /// The uplink that a downlink answers: one that it `fits`, a window's delay before it.
    pub fn answered(&self, down: &Down, fits: impl Fn(&Sent) -> bool) -> Option<Sent> {
        [1, 2, 5, 6].into_iter().find_map(|delay_s: u32| {
            let sent = self.sent.get(&down.tmst.wrapping_sub(delay_s * 1_000_000))?;
            let joins = matches!(sent, Sent::Join { .. });
            (joins == (delay_s >= 5) && fits(sent)).then_some(*sent)
        })
    }
}

/// The nonce of a join-accept that is for this device.
pub fn join_nonce(device: u32, accept: &[u8]) -> Option<u32> {
    let Ok(Frame::JoinAccept(frame)) = Frame::parse(accept) else { return None };
    let aes = Aes::new(&key(device));
    let accept = frame.decrypt(&aes);
    let fields = accept.fields().ok().filter(|_| accept.verify_1_0(&aes))?;
    Some(fields.join_nonce.0)
}

/// A device's root key, or both its session keys.
pub fn key(device: u32) -> Key {
    let mut bytes = [0x5A; 16];
    bytes[..4].copy_from_slice(&device.to_be_bytes());
    Key::from_bytes(bytes)
}

/// A device's EUI.
pub fn dev_eui(device: u32) -> DevEui {
    DevEui::from_be_bytes((0x70B3_D57E_D000_0000 + u64::from(device)).to_be_bytes())
}

/// A device's address.
pub fn dev_addr(device: u32) -> DevAddr {
    DevAddr::from_u32(0x0042_0000 + device)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A broker account that sees the load's events.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name is `auditor`.
    pub password: String,
    /// The filter of everything it may see.
    pub topic: String,
}

/// Registers gateways and devices, and somebody who watches them.
pub fn provision(tern: &Tern, gateways: &[String], config: TrafficConfig) -> Account {
    tern.ok(&["application", "add", "load"]);
    if config.rx2_dr == 0 {
        tern.ok(&["profile", "add", "load", "--mac-version", "1.0.3"]);
    } else {
        let made = tern.json(&["profile", "add", "load", "--mac-version", "1.0.3", "--abp"]);
        let path = format!("/api/device-profiles/{}", made["id"].as_str().expect("an id"));
        let mut profile = tern.call("GET", &path, "").1;
        profile["deviceProfile"]["abpRx2Dr"] = json!(config.rx2_dr);
        let (status, answer) = tern.call("PUT", &path, &profile.to_string());
        assert_eq!(status, 200, "{answer}");
    }
    for gateway in gateways {
        tern.ok(&["gateway", "add", gateway, "--name", gateway]);
    }
    let file = tern.data().join("devices.jsonl");
    std::fs::write(&file, import_file(config, "load", "load")).expect("the node's own folder");
    tern.ok(&["device", "import", file.to_str().expect("a plain path")]);
    let account = tern.json(&["mqtt-user", "add", "auditor", "--application", "load"]);
    let text = |name: &str| account[name].as_str().expect("a text").to_owned();
    Account { password: text("password"), topic: text("topic") }
}

/// The devices for `tern device import`, one object a line.
pub fn import_file(config: TrafficConfig, application: &str, profile: &str) -> String {
    let mut lines = String::new();
    for device in 0..config.devices + config.joiners {
        let key = hex(key(device).expose());
        let mut one = json!({"device": {
            "devEui": dev_eui(device).to_string(),
            "name": format!("device-{device}"),
            "applicationId": application,
            "deviceProfileId": profile,
        }});
        if device < config.devices {
            one["session"] = json!({
                "devAddr": dev_addr(device).to_string(),
                "nwkSEncKey": key,
                "appSKey": key,
                "rx1Delay": 1,
                "rx2Dr": config.rx2_dr,
            });
        } else {
            one["deviceKeys"] = json!({"nwkKey": key});
        }
        lines.push_str(&Value::to_string(&one));
        lines.push('\n');
    }
    lines
}

#[derive(Debug, Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
}

/// The traffic; it ends when dropped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Begins.
    pub fn start(server: SocketAddr, config: TrafficConfig) -> Self {
        let shared = Arc::new(Shared::default());
        let socket = || {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
            socket.connect(server).expect("loopback");
            socket
        };
        let (up, down) = (socket(), socket());
        let pull = down.try_clone().expect("a second handle");
        let id: GatewayEui = GATEWAY.parse().expect("an EUI");
        let (sending, hearing) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || send(&sending, &up, &pull, id, config)),
            std::thread::spawn(move || hear(&hearing, &down, id)),
        ];
        Self { shared, threads }
    }

    /// What has happened so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a join-request once more, byte for byte.
    pub fn replay(&self, server: SocketAddr, device: u32, dev_nonce: u16, tmst: u32) {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        let id: GatewayEui = GATEWAY.parse().expect("an EUI");
        self.ledger().sent.insert(tmst, Sent::Join { device, dev_nonce });
        let frame = join_request(device, dev_nonce);
        let _ = socket.send_to(&push(id, 1, tmst, frame), server);
    }

    /// Ends it, and returns what has happened.
    pub fn finish(mut self) -> Ledger {
        self.end();
        std::mem::take(&mut *self.ledger())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

/// The reception of a frame, as a datagram.
pub(crate) fn push(gateway: GatewayEui, token: u16, tmst: u32, phy_payload: Vec<u8>) -> Vec<u8> {
    let rxpk = Rxpk {
        phy_payload: Bytes::from(phy_payload),
        gateway_time: None,
        gps_time: None,
        frequency_hz: 868_100_000,
        modulation: EU868.modulation(5).expect("SF7"),
        rssi_dbm: -60,
        snr_ddb: 90,
        channel: 0,
        rf_chain: 0,
        antenna: 0,
        tmst,
        crc: CrcStatus::Ok,
    };
    let head = Head { version: Version::V2, token, gateway };
    PushData { rxpks: vec![rxpk], ..PushData::default() }.encode(head)
}

fn join_request(device: u32, dev_nonce: u16) -> Vec<u8> {
    let request = JoinRequest {
        join_eui: JoinEui::from_be_bytes([0; 8]),
        dev_eui: dev_eui(device),
        dev_nonce: DevNonce(dev_nonce),
    };
    request.encode(&Aes::new(&key(device)))
}

/// A device's frame.
pub(crate) fn data(device: u32, fcnt: u32, confirmed: bool) -> Vec<u8> {
    let message = DataMessage {
        direction: Direction::Up,
        confirmed,
        dev_addr: dev_addr(device),
        fctrl: FCtrl::default(),
        fcnt,
        f_opts: &[],
        f_port: Some(10),
        payload: &fcnt.to_be_bytes(),
    };
    let key = Aes::new(&key(device));
    message.encode_1_0(&key, &key).expect("a legal frame")
}

fn send(
    shared: &Shared,
    up: &UdpSocket,
    down: &UdpSocket,
    gateway: GatewayEui,
    config: TrafficConfig,
) {
    let begun = Instant::now();
    let mut pull_at = begun;
    for number in 0_u32.. {
        let due = begun + config.every * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        if pull_at <= Instant::now() {
            let head = Head { version: Version::V2, token: 2, gateway };
            // A server that was killed refuses; the next one is asked again.
            let _ = down.send(&encode_pull_data(head));
            pull_at += PULL_EVERY;
        }
        // The upper half is left to replays.
        let tmst = u32::try_from(begun.elapsed().as_micros() % (1 << 31)).expect("31 bits");
        let device = number % config.devices;
        let fcnt = number / config.devices;
        let confirmed = number.is_multiple_of(config.confirmed_each);
        transmit(shared, up, gateway, tmst, Sent::Data { device, fcnt, confirmed });
        if config.joiners > 0 && number % config.join_each == 1 {
            let joins = number / config.join_each;
            let device = config.devices + joins % config.joiners;
            let dev_nonce = u16::try_from(joins / config.joiners).expect("a short run");
            transmit(shared, up, gateway, tmst + 1, Sent::Join { device, dev_nonce });
        }
    }
}

fn transmit(shared: &Shared, up: &UdpSocket, gateway: GatewayEui, tmst: u32, sent: Sent) {
    let frame = match sent {
        Sent::Data { device, fcnt, confirmed } => data(device, fcnt, confirmed),
        Sent::Join { device, dev_nonce } => join_request(device, dev_nonce),
    };
    shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).sent.insert(tmst, sent);
    let _ = up.send(&push(gateway, 1, tmst, frame));
}

fn hear(shared: &Shared, down: &UdpSocket, gateway: GatewayEui) {
    down.set_read_timeout(Some(Duration::from_millis(20))).expect("a time limit");
    let mut buffer = [0; 4096];
    while !shared.stop.load(Ordering::Acquire) {
        let Ok(length) = down.recv(&mut buffer) else { continue };
        let Ok(Downward::PullResp { token, txpk }) = parse_downward(&buffer[..length]) else {
            continue;
        };
        let TxTiming::Counter(tmst) = txpk.timing else { continue };
        let bytes = txpk.phy_payload.to_vec();
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.downs.push(Down { tmst, bytes });
        drop(ledger);
        let reply = TxReply { status: TxStatus::Ok, power_used_dbm: None };
        let _ = down.send(&reply.encode(Head { version: Version::V2, token, gateway }));
    }
}
