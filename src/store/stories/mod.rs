//! Stories through the door that the log uses: entries in, replies, rows and changes out.

mod clients;
mod codec;
mod frames;
mod grants;
mod model;
mod registry;
mod snapshots;

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::WallTime;
use lorawan::{CodeRate, DevAddr, DevEui, DevNonce, JoinEui, JoinNonce, Modulation};
use mac::transition::{AbpActivation, activate_abp};
use mac::{
    AcceptJoin, AcceptUplink, DeviceSession, Digest, MacProfile, MacVersion, NodeId, PlanDownlink,
    RequestId, Sealed, SessionEpoch,
};

use crate::model::{
    Application, Device, DeviceProfile, ItemState, MqttAccount, MqttScope, PasswordHash, QueueItem,
    Tenant, User,
};
use crate::{Applied, Command, Entry, Id, Proposal, Put, Refusal, Reply, State};

const NODE: NodeId = NodeId(1);
const TENANT: Id = Id([1; 16]);
const APPLICATION: Id = Id([2; 16]);
const PROFILE: Id = Id([3; 16]);
const ADMIN: Id = Id([4; 16]);
const DEVICE: DevEui = DevEui::from_be_bytes([2, 2, 3, 4, 5, 6, 7, 8]);
const JOIN_EUI: JoinEui = JoinEui::from_be_bytes([7; 8]);
const ADDRESS: DevAddr = DevAddr::from_u32(0x0102_0304);

/// Seconds after an arbitrary start in 2026.
fn wall(seconds: i64) -> WallTime {
    WallTime::from_unix_secs(1_790_000_000 + seconds)
}

fn id(number: u8) -> Id {
    Id([number; 16])
}

fn create<T>(value: T) -> Put<T> {
    Put { must_exist: Some(false), value }
}

fn change<T>(value: T) -> Put<T> {
    Put { must_exist: Some(true), value }
}

/// A log of its own: stamps, numbers and applies.
#[derive(Clone, Default)]
struct Log {
    state: State,
    index: u64,
    requests: u64,
    now: i64,
}

impl Log {
    /// A founded cluster with a tenant, an application and a profile.
    fn founded() -> Self {
        let mut log = Self::default();
        log.done(Command::Found {
            cluster_id: id(9),
            cluster_name: "test".into(),
            node: NODE,
            admin: user(ADMIN, "admin"),
            tenant: tenant(TENANT, "one"),
            founders: Vec::new(),
        });
        log.done(Command::PutApplication(create(application(APPLICATION, TENANT, "app"))));
        log.done(Command::PutDeviceProfile(create(profile(PROFILE, Some(TENANT), "profile"))));
        log
    }

    /// As founded, with a device of either kind, not activated.
    fn with_device() -> Self {
        let mut log = Self::founded();
        log.done(Command::PutDevice(Box::new(create(device(DEVICE)))));
        log
    }

    /// As founded, with a personalised device: next uplink 8, next downlink 5, epoch 1.
    fn with_session() -> Self {
        let mut log = Self::with_device();
        log.done(activate(ADDRESS, 5));
        log
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.requests.to_be_bytes());
        RequestId(bytes)
    }

    fn entry(&mut self, proposals: Vec<Proposal>) -> Applied {
        self.index += 1;
        let entry = Entry { wall: wall(self.now), elapsed_micros: 0, proposals };
        self.state.apply(self.index, &entry).unwrap()
    }

    /// Lets leader time pass.
    fn pass(&mut self, seconds: u64) -> Applied {
        let mut left = seconds;
        let mut all = Applied::default();
        while left > 0 {
            let step = left.min(60);
            left -= step;
            self.now += i64::try_from(step).unwrap();
            self.index += 1;
            let elapsed_micros = step * 1_000_000;
            let entry = Entry { wall: wall(self.now), elapsed_micros, proposals: vec![] };
            let applied = self.state.apply(self.index, &entry).unwrap();
            all.changes.extend(applied.changes);
            all.drop_below = applied.drop_below.or(all.drop_below);
        }
        all
    }

    fn ask_as(&mut self, request: RequestId, command: Command) -> (Reply, Applied) {
        let applied = self.entry(vec![Proposal { request, command }]);
        (applied.replies[0].1.clone(), applied)
    }

    fn ask(&mut self, command: Command) -> (Reply, Applied) {
        let request = self.request();
        self.ask_as(request, command)
    }

    fn done(&mut self, command: Command) -> Applied {
        let (reply, applied) = self.ask(command);
        assert_eq!(reply, Reply::Done);
        applied
    }

    fn refused(&mut self, command: Command) -> Refusal {
        let before = self.state.clone();
        let reply = self.ask(command).0;
        let Reply::Refused(refusal) = reply else { panic!("not refused: {reply:?}") };
        assert_same_but_for_the_log(&before, &self.state);
        refusal
    }

    fn device(&self) -> &Device {
        self.state.device(DEVICE).unwrap()
    }

    fn session(&self) -> &DeviceSession {
        self.device().session.as_ref().unwrap()
    }
}

/// Equal apart from index, time and recorded answers.
fn assert_same_but_for_the_log(before: &State, after: &State) {
    let mut before = before.clone();
    before.core.applied = after.core.applied;
    before.core.now = after.core.now;
    before.core.last_reply = after.core.last_reply;
    before.replies = after.replies.clone();
    assert_eq!(before.state_hash(), after.state_hash(), "a refusal changes nothing");
}

fn user(id: Id, email: &str) -> User {
    User {
        id,
        email: email.into(),
        note: String::new(),
        is_admin: true,
        is_active: true,
        password: PasswordHash::Phc("$argon2id$".into()),
        generation: 0,
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    }
}

fn tenant(id: Id, name: &str) -> Tenant {
    Tenant { id, name: name.into(), can_have_gateways: true, ..Tenant::default() }
}

fn application(id: Id, tenant_id: Id, name: &str) -> Application {
    Application { id, tenant_id, name: name.into(), ..Application::default() }
}

fn mac_profile() -> MacProfile {
    MacProfile {
        region: "EU868".into(),
        mac_version: MacVersion::V1_0_4,
        supports_otaa: true,
        rx1_delay_s: 1,
        rx1_dr_offset: 0,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: None,
        extra_channels_hz: vec![],
        status_requests_per_day: 0,
        confirmed_timeout_s: 0,
    }
}

fn profile(id: Id, tenant_id: Option<Id>, name: &str) -> DeviceProfile {
    DeviceProfile {
        id,
        tenant_id,
        name: name.into(),
        description: String::new(),
        mac: mac_profile(),
        reg_params_revision: "A".into(),
        uplink_interval_s: 3_600,
        flush_queue_on_activate: false,
        tags: BTreeMap::new(),
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    }
}

fn device(dev_eui: DevEui) -> Device {
    Device {
        dev_eui,
        application_id: APPLICATION,
        device_profile_id: PROFILE,
        name: format!("sensor {dev_eui}"),
        description: String::new(),
        join_eui: None,
        skip_f_cnt_check: false,
        is_disabled: false,
        variables: BTreeMap::new(),
        tags: BTreeMap::new(),
        keys: None,
        session: None,
        pending_session: None,
        last_epoch: SessionEpoch(0),
        queue: vec![],
        status: None,
        last_seen_at: None,
        last_reply: None,
        earlier_replies: None,
        last_home: None,
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    }
}

fn sealed(tag: u8) -> Sealed {
    Sealed { key_id: 1, nonce: [tag; 24], bytes: Box::new([tag; 80]) }
}

fn activate(dev_addr: DevAddr, n_f_cnt_down: u32) -> Command {
    let activation = AbpActivation {
        dev_addr,
        mac_version: MacVersion::V1_0_4,
        keys: sealed(1),
        f_cnt_up: 8,
        n_f_cnt_down,
        a_f_cnt_down: 0,
        rx1_delay_s: None,
        rx1_dr_offset: None,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: None,
    };
    let session = Box::new(activate_abp(activation, &mac_profile()).unwrap());
    Command::Activate { dev_eui: DEVICE, session }
}

fn lora() -> Modulation {
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 }
}

fn uplink(f_cnt: u32) -> AcceptUplink {
    AcceptUplink {
        dev_eui: DEVICE,
        session_epoch: SessionEpoch(1),
        f_cnt,
        digest: Digest([u8::try_from(f_cnt % 251).unwrap(); 16]),
        home: NODE,
        cursor: None,
        confirmed: false,
        adr: false,
        adr_ack_req: false,
        ack: false,
        class_b: false,
        f_port: Some(1),
        data: Bytes::from_static(&[1, 2, 3]),
        mac_commands: Bytes::new(),
        dr: 5,
        frequency_hz: 868_100_000,
        modulation: lora(),
        receptions: vec![],
        received_at: wall(0),
        heard_by: None,
    }
}

fn accept(uplink: AcceptUplink) -> Command {
    Command::AcceptUplink(Box::new(uplink))
}

fn join(dev_nonce: u16, expected_join_nonce: u32) -> AcceptJoin {
    AcceptJoin {
        dev_eui: DEVICE,
        join_eui: JOIN_EUI,
        dev_nonce: DevNonce(dev_nonce),
        expected_join_nonce: JoinNonce(expected_join_nonce),
        dev_addr: ADDRESS,
        mac_version: MacVersion::V1_0_4,
        keys: sealed(2),
        rx1_delay_s: 1,
        rx1_dr_offset: 0,
        rx2_dr: 0,
        extra_channels_hz: vec![],
        home: NODE,
        dr: 5,
        frequency_hz: 868_100_000,
        modulation: lora(),
        receptions: vec![],
        received_at: wall(0),
    }
}

fn ask(session_epoch: u32) -> PlanDownlink {
    PlanDownlink {
        dev_eui: DEVICE,
        session_epoch: SessionEpoch(session_epoch),
        home: NODE,
        cursor: None,
        a_cursor: None,
        max_payload: 51,
        answers_len: 0,
        uplink_f_cnt: 0,
        number_only: false,
    }
}

fn item(number: u8, confirmed: bool, bytes: usize) -> QueueItem {
    QueueItem {
        id: id(number),
        f_port: 10,
        confirmed,
        data: Bytes::from(vec![number; bytes]),
        encrypted_f_cnt: None,
        expires_at: None,
        state: ItemState::Queued,
        created_at: WallTime::UNIX_EPOCH,
    }
}

fn enqueue(item: QueueItem) -> Command {
    Command::Enqueue { dev_eui: DEVICE, item }
}

fn account(name: &str, scope: MqttScope) -> MqttAccount {
    MqttAccount {
        name: name.into(),
        scope,
        can_publish: true,
        password: PasswordHash::Phc("$argon2id$".into()),
        created_at: WallTime::UNIX_EPOCH,
    }
}
