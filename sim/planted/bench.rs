//! One node on a bench: no runtime, no disk, no radio, and a log that decides at once or when told.
//!
//! Frames are made by hand for one device with known keys; gateways answer each downlink at once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use clock::{Duration, Instant, Now, WallTime};
use gateway::semtech::{
    Downward, Head, PushData, Rxpk, TxReply, Txpk, Version, encode_pull_data, parse_downward,
};
use lorawan::{
    Aes, CrcStatus, DataFrame, DataMessage, DevAddr, DevEui, DevNonce, Direction, EU868, FCtrl,
    Frame, GatewayEui, JoinEui, JoinRequest, Key, NetId,
};
use mac::MacConfig;
use mqtt::{Client, ClientConfig, ClientEvent, Publish};
use node::api::wire::{self, NodeInfo};
use node::api::{ApiError, ApiSettings, Credentials, Operation, Outcome};
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{CallId, Config, Effect, Founding, Input, Node, StreamId};
use store::model::{PasswordHash, Tenant, User};
use store::{Command, Entry, EventRow, Id, NodeId, Proposal};

/// The one device, its address and its keys.
pub(super) const DEVICE: DevEui = DevEui::from_be_bytes([0x70, 0xB3, 0xD5, 0x7E, 0xD0, 0, 0, 1]);
pub(super) const JOIN_EUI: JoinEui = JoinEui::from_be_bytes([9; 8]);
pub(super) const ADDRESS: DevAddr = DevAddr::from_u32(0x0123_4567);
pub(super) const APP_KEY: Key = Key::from_bytes([7; 16]);
const NWK_S_KEY: Key = Key::from_bytes([5; 16]);
const APP_S_KEY: Key = Key::from_bytes([6; 16]);
/// The application's port.
pub(super) const PORT: u8 = 10;
/// Both windows are over after that long.
const EXCHANGE: Duration = Duration::from_secs(9);

/// Gateway number `place`, from 0.
pub(super) fn gateway(place: u8) -> GatewayEui {
    GatewayEui::from_be_bytes([0xAA, 0x55, 0x5A, 0, 0, 0, 0, place + 1])
}

fn address(place: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, place + 1)), 40_000)
}

fn hex(key: &Key) -> String {
    key.expose().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bench.
pub(super) struct Bench {
    pub(super) node: Node,
    at: Instant,
    index: u64,
    calls: u64,
    /// The log decides nothing while true.
    pub(super) hold: bool,
    held: Vec<Proposal>,
    /// Everything that was asked of the log.
    pub(super) proposed: Vec<Command>,
    pub(super) rows: Vec<EventRow>,
    /// Gateways say nothing of what becomes of a downlink while true.
    pub(super) silent: bool,
    /// Frames that gateways were given.
    pub(super) handed: Vec<Txpk>,
    answers: BTreeMap<CallId, Result<Outcome, ApiError>>,
    clients: BTreeMap<StreamId, Client>,
    /// What clients got.
    pub(super) messages: Vec<Publish>,
}

impl Bench {
    /// A node that serves, with a device, two gateways and an application.
    pub(super) fn new() -> Self {
        let mut bench = Self {
            node: Node::new(config(), 1, [3; 32]),
            at: Instant::from_secs(1),
            index: 0,
            calls: 0,
            hold: false,
            held: Vec::new(),
            proposed: Vec::new(),
            rows: Vec::new(),
            silent: false,
            handed: Vec::new(),
            answers: BTreeMap::new(),
            clients: BTreeMap::new(),
            messages: Vec::new(),
        };
        bench.handle(Input::Quorum { available: true, disk_full: false, leader: Some(1) });
        bench.provision();
        bench
    }

    fn provision(&mut self) {
        let named = |text: &str| text.to_owned();
        let application = wire::Application { name: named("meters"), ..Default::default() };
        self.ok(Operation::CreateApplication(application));
        let profile = wire::DeviceProfile {
            name: named("class A"),
            supports_otaa: true,
            ..Default::default()
        };
        self.ok(Operation::CreateDeviceProfile(Box::new(profile)));
        for place in 0..2 {
            let gateway_id = gateway(place).to_string();
            let gateway =
                wire::Gateway { name: gateway_id.clone(), gateway_id, ..Default::default() };
            self.ok(Operation::CreateGateway(gateway));
        }
        let device = device();
        self.ok(Operation::CreateDevice(device));
        let (dev_eui, nwk_key) = (DEVICE.to_string(), hex(&APP_KEY));
        self.ok(Operation::CreateDeviceKeys(wire::DeviceKeys {
            dev_eui,
            nwk_key,
            ..Default::default()
        }));
    }

    /// Gives the device a session in which `f_cnt_up` comes next.
    pub(super) fn activate(&mut self, f_cnt_up: u32) {
        self.ok(Operation::ActivateDevice(wire::DeviceActivation {
            dev_eui: DEVICE.to_string(),
            dev_addr: ADDRESS.to_string(),
            f_nwk_s_int_key: hex(&NWK_S_KEY),
            app_s_key: hex(&APP_S_KEY),
            f_cnt_up,
            ..Default::default()
        }));
    }

    fn now(&self) -> Now {
        let wall = WallTime::from_unix_secs(1_700_000_000);
        Now { instant: self.at, wall: wall.saturating_add(self.at.since(Instant::ZERO)) }
    }

    /// Hands in an input and does what comes of it.
    pub(super) fn handle(&mut self, input: Input) {
        self.node.handle(self.now(), input);
        self.settle();
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, duration: Duration) {
        let end = self.at + duration;
        while let Some((due, _)) = self.node.poll_timeout().filter(|(due, _)| *due <= end) {
            self.at = due.max(self.at);
            self.node.handle_timeout(self.now());
            self.settle();
        }
        self.at = end;
    }

    /// Calls an operation; what it is answered, if it is.
    pub(super) fn call(&mut self, operation: Operation) -> Option<Result<Outcome, ApiError>> {
        self.calls += 1;
        let call = CallId(self.calls);
        self.handle(Input::Call { call, credentials: Credentials::Local, operation });
        self.answers.remove(&call)
    }

    /// As [`Self::call`], of what is answered well and at once.
    pub(super) fn ok(&mut self, operation: Operation) -> Outcome {
        self.call(operation).expect("answered at once").expect("answered well")
    }

    /// Queues a downlink; whether that was answered.
    pub(super) fn enqueue(&mut self, data: &str, confirmed: bool) -> bool {
        let item = wire::QueueItem {
            dev_eui: DEVICE.to_string(),
            f_port: PORT.into(),
            data: data.to_owned(),
            confirmed,
            ..Default::default()
        };
        self.call(Operation::Enqueue { item, flush: false }).is_some()
    }

    /// Gateway `place` hears a frame, and says so.
    pub(super) fn hear(&mut self, place: u8, frame: &[u8]) {
        let head = Head { version: Version::V2, token: 1, gateway: gateway(place) };
        let rxpk = Rxpk {
            phy_payload: Bytes::copy_from_slice(frame),
            gateway_time: None,
            gps_time: None,
            frequency_hz: 868_100_000,
            modulation: EU868.modulation(5).expect("DR5 is there"),
            rssi_dbm: -80,
            snr_ddb: 50,
            channel: 0,
            rf_chain: 0,
            antenna: 0,
            tmst: self.counter(place),
            crc: CrcStatus::Ok,
        };
        let push = PushData { rxpks: vec![rxpk], ..PushData::default() }.encode(head);
        for bytes in [encode_pull_data(head), push] {
            self.datagram(place, bytes);
        }
    }

    /// What the counter of gateway `place` shows.
    fn counter(&self, place: u8) -> u32 {
        let micros = u32::try_from(self.at.since(Instant::ZERO).as_micros());
        micros.expect("no bench lives for an hour") + 1_000_000 * u32::from(place)
    }

    /// A datagram from gateway `place`.
    pub(super) fn datagram(&mut self, place: u8, bytes: Vec<u8>) {
        let (from, bytes) = (address(place), Bytes::from(bytes));
        self.handle(Input::Datagram { listener: 0, from, bytes });
    }

    /// The device sends a data frame, and hears the answer out.
    pub(super) fn uplink(&mut self, f_cnt: u32, confirmed: bool) {
        self.hear(0, &data_frame(f_cnt, confirmed, false));
        self.wait(EXCHANGE);
    }

    /// The device asks to join: gateways `0..heard` hear it.
    pub(super) fn join(&mut self, nonce: u16, heard: u8) {
        let (join_eui, dev_eui, dev_nonce) = (JOIN_EUI, DEVICE, DevNonce(nonce));
        let request = JoinRequest { join_eui, dev_eui, dev_nonce }.encode(&Aes::new(&APP_KEY));
        for place in 0..heard {
            self.hear(place, &request);
        }
        self.wait(EXCHANGE);
    }

    /// The log decides what it holds, and everything from now on at once.
    pub(super) fn release(&mut self) {
        self.hold = false;
        for proposal in std::mem::take(&mut self.held) {
            self.apply(proposal);
        }
        self.settle();
    }

    fn apply(&mut self, proposal: Proposal) {
        self.index += 1;
        let now = self.now();
        let entry = Entry { wall: now.wall, elapsed_micros: 0, proposals: vec![proposal] };
        let applied = self.node.apply(now, self.index, &entry).expect("what it asked for itself");
        self.rows.extend(applied.rows);
    }

    /// Rows of a kind.
    pub(super) fn rows_of(&self, kind: &str) -> usize {
        self.rows.iter().filter(|row| node::event_json::kind(&row.event) == kind).count()
    }

    /// The numbers of the data frames that gateways were given, in order.
    pub(super) fn numbers(&self) -> Vec<u16> {
        self.frames().iter().map(|bytes| data(bytes).fcnt).collect()
    }

    /// Data frames that gateways were given.
    pub(super) fn frames(&self) -> Vec<Bytes> {
        let frames = self.handed.iter().map(|txpk| txpk.phy_payload.clone());
        frames.filter(|bytes| matches!(Frame::parse(bytes), Ok(Frame::Data(_)))).collect()
    }

    /// A client connects to the broker.
    pub(super) fn connect(&mut self, config: ClientConfig) -> StreamId {
        let stream = StreamId(self.clients.len() as u64 + 1);
        let mut client = Client::new(self.at, config);
        client.reconnect(self.at);
        self.clients.insert(stream, client);
        self.handle(Input::StreamOpened { stream, peer: address(9) });
        stream
    }

    /// Lets a client do something.
    pub(super) fn with(&mut self, stream: StreamId, act: impl FnOnce(Instant, &mut Client)) {
        act(self.at, self.clients.get_mut(&stream).expect("it has connected"));
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            while let Some(effect) = self.node.poll_effect() {
                self.act(effect);
            }
            let Some((stream, bytes)) = self.clients.iter_mut().find_map(|(stream, client)| {
                while let Some(event) = client.poll_event() {
                    if let ClientEvent::Message(publish) = event {
                        self.messages.push(publish);
                    }
                }
                Some((*stream, client.poll_transmit()?))
            }) else {
                return;
            };
            self.node.handle(self.now(), Input::StreamBytes { stream, bytes });
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Fatal(text) => panic!("{text}"),
            Effect::Tell { .. }
            | Effect::MembersChanged
            | Effect::Cluster { .. }
            | Effect::HandOver => {}
            Effect::SendDatagram { to, bytes, .. } => self.deliver(to, &bytes),
            Effect::Propose(proposal) => {
                self.proposed.push(proposal.command.clone());
                if self.hold { self.held.push(proposal) } else { self.apply(proposal) }
            }
            Effect::PersistCursor { token, .. } => {
                self.node.handle(self.now(), Input::CursorPersisted { token });
            }
            Effect::ReadEvents { token, from, limit } => {
                let rows = self.rows.iter().filter(|row| row.sequence >= from);
                let rows = rows.take(limit).cloned().collect();
                self.node.handle(self.now(), Input::EventsRead { token, rows });
            }
            Effect::Reply { call, result } => {
                self.answers.entry(call).or_insert(result);
            }
            Effect::Write { stream, bytes } => {
                let (at, len) = (self.at, bytes.len());
                if let Some(client) = self.clients.get_mut(&stream) {
                    client.handle_bytes(at, &bytes);
                }
                self.node.handle(self.now(), Input::StreamDrained { stream, bytes: len });
            }
            Effect::CheckPassword { token, .. } => {
                self.node.handle(self.now(), Input::PasswordChecked { token, fits: true });
            }
            Effect::HashPassword { token, .. } => {
                let phc = "a verifier".to_owned();
                self.node.handle(self.now(), Input::PasswordHashed { token, phc });
            }
            Effect::PauseReading { .. } | Effect::Withdraw(_) | Effect::Close { .. } => {}
        }
    }

    /// A gateway takes a downlink, and says so.
    fn deliver(&mut self, to: SocketAddr, bytes: &[u8]) {
        let Ok(Downward::PullResp { token, txpk }) = parse_downward(bytes) else { return };
        self.handed.push(txpk);
        let place = (0..2).find(|place| address(*place) == to);
        if let (false, Some(place)) = (self.silent, place) {
            let head = Head { version: Version::V2, token, gateway: gateway(place) };
            let (from, bytes) = (to, TxReply::OK.encode(head).into());
            self.node.handle(self.now(), Input::Datagram { listener: 0, from, bytes });
        }
    }
}

/// The device as it is registered.
pub(super) fn device() -> wire::Device {
    wire::Device {
        dev_eui: DEVICE.to_string(),
        name: "meter".to_owned(),
        application_id: "meters".to_owned(),
        device_profile_id: "class A".to_owned(),
        ..Default::default()
    }
}

/// A data frame of the device.
pub(super) fn data_frame(f_cnt: u32, confirmed: bool, ack: bool) -> Vec<u8> {
    let message = DataMessage {
        direction: Direction::Up,
        confirmed,
        dev_addr: ADDRESS,
        fctrl: FCtrl { ack, ..FCtrl::default() },
        fcnt: f_cnt,
        f_opts: &[],
        f_port: Some(PORT),
        payload: &f_cnt.to_be_bytes(),
    };
    message.encode_1_0(&Aes::new(&NWK_S_KEY), &Aes::new(&APP_S_KEY)).expect("a short frame")
}

/// A data frame, parsed.
pub(super) fn data(bytes: &[u8]) -> DataFrame<'_> {
    match Frame::parse(bytes) {
        Ok(Frame::Data(frame)) => frame,
        other => panic!("no data frame: {other:?}"),
    }
}

/// A node alone in its cluster.
pub(super) fn config() -> Config {
    let (raft_id, net_id) = (NodeId(1), NetId::default());
    let admin = User {
        id: Id::from_random([1; 16]),
        email: "admin".to_owned(),
        note: String::new(),
        is_admin: true,
        is_active: true,
        password: PasswordHash::Sha256([0; 32]),
        generation: 0,
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    };
    let (id, name) = (Id::from_random([2; 16]), "home".to_owned());
    let tenant = Tenant { id, name, can_have_gateways: true, ..Tenant::default() };
    let region = EU868.name.to_owned();
    Config {
        node: raft_id,
        vault: Vault::new(1, &[4; 32]),
        listeners: 1,
        mac: MacConfig::new(raft_id, net_id),
        broker: BrokerConfig::new(raft_id),
        api: ApiSettings { region, channels: None, net_id, mqtt_port: 1_883 },
        ticktime: Duration::from_secs(10),
        plate: store::Nameplate::default(),
        founding: Some(Founding {
            cluster_id: None,
            founders: Vec::new(),
            cluster_name: "bench".to_owned(),
            admin,
            tenant,
        }),
        info: NodeInfo::default(),
    }
}
