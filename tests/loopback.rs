//! A node without a host: what it proposes is applied at once, what it would fsync is fsynced, and
//! the clock is a number. For stories about the whole server, and for measuring it without its
//! disk.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::{Duration, Instant, Now, WallTime};
use lorawan::{DataMessage, DevAddr, Direction, FCtrl, GatewayEui, Key, NetId};
use mac::MacConfig;
use node::api::wire::{
    Application, Device, DeviceActivation, DeviceProfile, Gateway, ListQuery, NodeInfo,
};
use node::api::{ApiError, ApiSettings, Credentials, Operation, Outcome};
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{CallId, Config, Effect, Founding, Input, Node};
use store::model::{PasswordHash, Tenant, User};
use store::{Entry, EventRow, Id, Nameplate, NodeId};

/// The wall clock at the origin of the monotonic one: 2026-11-20T17:46:40Z.
const START: i64 = 1_795_196_800;
/// The gateway of every loopback.
pub const GATEWAY: &str = "0102030405060708";

/// A node, its log, and what came out of it.
pub struct Loopback {
    node: Node,
    now: Duration,
    index: u64,
    next_call: u64,
    /// Datagrams the node sent, in order.
    pub datagrams: Vec<(SocketAddr, Bytes)>,
    /// Rows of the event log.
    pub rows: Vec<EventRow>,
    /// The log: index and entry.
    pub log: Vec<(u64, Entry)>,
    answers: Vec<Result<Outcome, ApiError>>,
    application: String,
    profile: String,
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loopback({:?} at {:?})", self.node, self.now)
    }
}

impl Loopback {
    /// A ready node with one gateway, one application and one EU868 profile for LoRaWAN 1.0.4.
    pub fn new() -> Self {
        let node = Node::new(config(), 1, [7; 32]);
        let mut loopback = Self {
            node,
            now: Duration::ZERO,
            index: 0,
            next_call: 0,
            datagrams: Vec::new(),
            rows: Vec::new(),
            log: Vec::new(),
            answers: Vec::new(),
            application: String::new(),
            profile: String::new(),
        };
        loopback.input(Input::Quorum { available: true, disk_full: false, leader: Some(1) });
        loopback.provision();
        loopback
    }

    fn provision(&mut self) {
        let tenants =
            self.call(Operation::ListTenants(ListQuery { limit: 10, ..ListQuery::default() }));
        let Ok(Outcome::Tenants(tenants)) = tenants else { panic!("{tenants:?}") };
        let tenant_id = tenants.result[0].id.clone();
        let name = || "bench".to_owned();
        self.application = self.created(Operation::CreateApplication(Application {
            name: name(),
            tenant_id: tenant_id.clone(),
            ..Application::default()
        }));
        self.profile = self.created(Operation::CreateDeviceProfile(Box::new(DeviceProfile {
            name: name(),
            tenant_id: tenant_id.clone(),
            region: "EU868".into(),
            mac_version: "LORAWAN_1_0_4".into(),
            supports_otaa: true,
            ..DeviceProfile::default()
        })));
        self.done(Operation::CreateGateway(Gateway {
            gateway_id: GATEWAY.into(),
            name: name(),
            tenant_id,
            ..Gateway::default()
        }));
        // A PULL_DATA opens the way down.
        let eui: GatewayEui = GATEWAY.parse().expect("an EUI");
        let mut pull = vec![2, 0, 1, 2];
        pull.extend_from_slice(&eui.to_be_bytes());
        self.datagram(&pull);
    }

    /// Registers and activates an ABP device whose keys derive from its number.
    pub fn add_device(&mut self, number: u32) -> Abp {
        let abp = Abp::new(number);
        self.done(Operation::CreateDevice(Device {
            dev_eui: abp.dev_eui(),
            name: format!("device {number}"),
            application_id: self.application.clone(),
            device_profile_id: self.profile.clone(),
            ..Device::default()
        }));
        let nwk = hex(abp.nwk.expose());
        self.done(Operation::ActivateDevice(DeviceActivation {
            dev_eui: abp.dev_eui(),
            dev_addr: abp.dev_addr.to_string(),
            app_s_key: hex(abp.app.expose()),
            nwk_s_enc_key: nwk.clone(),
            s_nwk_s_int_key: nwk.clone(),
            f_nwk_s_int_key: nwk,
            ..DeviceActivation::default()
        }));
        abp
    }

    /// Calls an operation as somebody on the node's own host.
    pub fn call(&mut self, operation: Operation) -> Result<Outcome, ApiError> {
        self.next_call += 1;
        let (call, credentials) = (CallId(self.next_call), Credentials::Local);
        self.input(Input::Call { call, credentials, operation });
        self.answers.pop().expect("answered at once, the log being at hand")
    }

    fn created(&mut self, operation: Operation) -> String {
        match self.call(operation) {
            Ok(Outcome::Created(created)) => created.id,
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, operation: Operation) {
        let outcome = self.call(operation);
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// A datagram from the gateway.
    pub fn datagram(&mut self, bytes: &[u8]) {
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let bytes = Bytes::copy_from_slice(bytes);
        self.input(Input::Datagram { listener: 0, from, bytes });
    }

    /// Lets time pass, doing what falls due on the way.
    pub fn pass(&mut self, duration: Duration) {
        let until = Instant::ZERO + self.now + duration;
        while let Some((at, _)) = self.node.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at.since(Instant::ZERO));
            self.node.handle_timeout(self.clock());
            self.drain();
        }
        self.now = until.since(Instant::ZERO);
    }

    fn clock(&self) -> Now {
        let wall = WallTime::from_unix_secs(START).saturating_add(self.now);
        Now { instant: Instant::ZERO + self.now, wall }
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.clock(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::SendDatagram { to, bytes, .. } => self.datagrams.push((to, bytes)),
                Effect::Propose(proposal) => {
                    self.index += 1;
                    let now = self.clock();
                    let entry =
                        Entry { wall: now.wall, elapsed_micros: 1, proposals: vec![proposal] };
                    let applied = self.node.apply(now, self.index, &entry);
                    self.rows.extend(applied.expect("the log understands itself").rows);
                    self.log.push((self.index, entry));
                }
                Effect::PersistCursor { token, .. } => {
                    self.node.handle(self.clock(), Input::CursorPersisted { token });
                }
                Effect::Reply { result, .. } => self.answers.push(result),
                Effect::Fatal(text) => panic!("{text}"),
                Effect::Write { .. }
                | Effect::Tell { .. }
                | Effect::MembersChanged
                | Effect::Cluster { .. }
                | Effect::HandOver
                | Effect::Withdraw(_)
                | Effect::Close { .. }
                | Effect::PauseReading { .. }
                | Effect::ReadEvents { .. }
                | Effect::CheckPassword { .. }
                | Effect::HashPassword { .. } => {}
            }
        }
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

/// A device with session keys of its own.
#[derive(Debug)]
pub struct Abp {
    number: u32,
    dev_addr: DevAddr,
    nwk: Key,
    app: Key,
}

impl Abp {
    fn new(number: u32) -> Self {
        let key = |tag: u8| {
            let mut bytes = [tag; 16];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            Key::from_bytes(bytes)
        };
        Self { number, dev_addr: DevAddr::from_u32(0x0100_0000 + number), nwk: key(1), app: key(2) }
    }

    fn dev_eui(&self) -> String {
        format!("{:016x}", 0x7000_0000_0000_0000 + u64::from(self.number))
    }

    /// A data uplink with 20 bytes on FPort 10.
    pub fn uplink(&self, f_cnt: u32, confirmed: bool) -> Vec<u8> {
        let message = DataMessage {
            direction: Direction::Up,
            confirmed,
            dev_addr: self.dev_addr,
            fctrl: FCtrl::default(),
            fcnt: f_cnt,
            f_opts: &[],
            f_port: Some(10),
            payload: &[0xA5; 20],
        };
        let (nwk, app) = (lorawan::Aes::new(&self.nwk), lorawan::Aes::new(&self.app));
        message.encode_1_0(&nwk, &app).expect("a legal frame")
    }

    /// The same in a PUSH_DATA of the loopback's gateway, heard at `tmst`.
    pub fn push(&self, f_cnt: u32, confirmed: bool, tmst: u32) -> Vec<u8> {
        push_data(&self.uplink(f_cnt, confirmed), tmst)
    }
}

/// A PUSH_DATA of the loopback's gateway with one frame at SF7 on 868.1 MHz.
pub fn push_data(phy_payload: &[u8], tmst: u32) -> Vec<u8> {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(phy_payload);
    let eui: GatewayEui = GATEWAY.parse().expect("an EUI");
    let mut datagram = vec![2, 0, 0, 0];
    datagram.extend_from_slice(&eui.to_be_bytes());
    let size = phy_payload.len();
    datagram.extend_from_slice(
        format!(
            "{{\"rxpk\":[{{\"tmst\":{tmst},\"chan\":0,\"rfch\":0,\"freq\":868.100000,\"stat\":1,\
             \"modu\":\"LORA\",\"datr\":\"SF7BW125\",\"codr\":\"4/5\",\"rssi\":-60,\"lsnr\":7.0,\
             \"size\":{size},\"data\":\"{data}\"}}]}}"
        )
        .as_bytes(),
    );
    datagram
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn config() -> Config {
    let node = NodeId(1);
    Config {
        node,
        vault: Vault::new(1, &[9; 32]),
        listeners: 1,
        mac: MacConfig::new(node, NetId::default()),
        broker: BrokerConfig::new(node),
        api: ApiSettings { region: "EU868".into(), ..ApiSettings::default() },
        ticktime: Duration::from_secs(10),
        plate: Nameplate::default(),
        founding: Some(Founding {
            cluster_id: None,
            founders: Vec::new(),
            cluster_name: "loopback".into(),
            admin: User {
                id: Id::from_random([1; 16]),
                email: "admin".into(),
                note: String::new(),
                is_admin: true,
                is_active: true,
                password: PasswordHash::Sha256([0; 32]),
                generation: 0,
                created_at: WallTime::UNIX_EPOCH,
                updated_at: WallTime::UNIX_EPOCH,
            },
            tenant: Tenant {
                id: Id::from_random([2; 16]),
                name: "tern".into(),
                can_have_gateways: true,
                ..Tenant::default()
            },
        }),
        info: NodeInfo::default(),
    }
}
