//! Events over which the state has jumped reach those who were connected: in order, before newer
//! ones, once.

use bytes::Bytes;
use lorawan::{CodeRate, DevAddr, DevEui, Modulation};
use mac::transition::{AbpActivation, activate_abp};
use mac::{AcceptUplink, Digest as FrameDigest, MacProfile, MacVersion, Sealed, SessionEpoch};
use store::model::{Application, Device, DeviceProfile};

use super::*;
use crate::lacking::Lacking;

const TENANT: Id = Id([2; 16]);
const THING: Id = Id([4; 16]);

fn device() -> DevEui {
    DevEui::from_be_bytes([7; 8])
}

fn profile() -> MacProfile {
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

fn registry() -> Vec<Command> {
    fn put<T>(value: T) -> Put<T> {
        Put { must_exist: Some(false), value }
    }
    let application =
        Application { id: THING, tenant_id: TENANT, name: "app".into(), ..Application::default() };
    let device_profile = DeviceProfile {
        id: THING,
        tenant_id: Some(TENANT),
        name: "profile".into(),
        description: String::new(),
        mac: profile(),
        reg_params_revision: "A".into(),
        uplink_interval_s: 3_600,
        flush_queue_on_activate: false,
        tags: BTreeMap::new(),
        created_at: WallTime::UNIX_EPOCH,
        updated_at: WallTime::UNIX_EPOCH,
    };
    let sensor = Device {
        dev_eui: device(),
        application_id: THING,
        device_profile_id: THING,
        name: "sensor".into(),
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
    };
    let activation = AbpActivation {
        dev_addr: DevAddr::default(),
        mac_version: MacVersion::V1_0_4,
        keys: Sealed { key_id: 1, nonce: [1; 24], bytes: Box::new([1; 80]) },
        f_cnt_up: 0,
        n_f_cnt_down: 0,
        a_f_cnt_down: 0,
        rx1_delay_s: None,
        rx1_dr_offset: None,
        rx2_dr: None,
        rx2_frequency_hz: None,
        channels: None,
    };
    let session = Box::new(activate_abp(activation, &profile()).unwrap());
    vec![
        Command::PutApplication(put(application)),
        Command::PutDeviceProfile(put(device_profile)),
        Command::PutDevice(Box::new(put(sensor))),
        Command::Activate { dev_eui: device(), session },
    ]
}

fn uplink(f_cnt: u32) -> Command {
    Command::AcceptUplink(Box::new(AcceptUplink {
        dev_eui: device(),
        session_epoch: SessionEpoch(1),
        f_cnt,
        digest: FrameDigest([1; 16]),
        home: NODE,
        cursor: None,
        confirmed: false,
        adr: false,
        adr_ack_req: false,
        ack: false,
        class_b: false,
        f_port: Some(1),
        data: Bytes::from_static(&[1]),
        mac_commands: Bytes::new(),
        dr: 5,
        frequency_hz: 868_100_000,
        modulation: Modulation::Lora {
            spreading_factor: 7,
            bandwidth_hz: 125_000,
            code_rate: CodeRate::Cr45,
        },
        receptions: vec![],
        received_at: WallTime::UNIX_EPOCH,
        heard_by: None,
    }))
}

/// Decides a command in some state; the rows it wrote.
fn decide(state: &mut State, index: u64, command: Command) -> Vec<EventRow> {
    let mut name = [9; 16];
    name[..8].copy_from_slice(&index.to_be_bytes());
    let proposals = vec![Proposal { request: RequestId(name), command }];
    let entry = Entry { wall: WallTime::UNIX_EPOCH, elapsed_micros: 0, proposals };
    let applied = state.apply(index, &entry).unwrap();
    let refused = applied.replies.iter().any(|(_, reply)| matches!(reply, Reply::Refused(_)));
    assert!(!refused, "{:?}", applied.replies);
    applied.rows
}

impl Bench {
    /// A frame of the only device is decided here, as any other.
    fn frame(&mut self, f_cnt: u32) {
        self.index += 1;
        let rows = decide(&mut self.state, self.index, uplink(f_cnt));
        self.rows.extend(rows.iter().cloned());
        self.with(|broker, view| broker.handle_rows(view, &rows));
    }

    /// Frames are decided while this node is away; then it takes the whole state over.
    ///
    /// * Returns the rows, which are not on its disk.
    /// * `earlier`: what is still missing from before.
    fn jump(&mut self, f_cnts: std::ops::Range<u32>, earlier: &[EventRow]) -> Vec<EventRow> {
        let before = self.state.next_event();
        let mut rows = Vec::new();
        for f_cnt in f_cnts {
            self.index += 1;
            rows.extend(decide(&mut self.state, self.index, uplink(f_cnt)));
        }
        let gap = (before, self.state.next_event());
        let known = earlier.first().zip(earlier.last());
        let known = known.map(|(first, last)| (first.sequence, last.sequence + 1));
        let gaps = Lacking::new(known.into_iter().chain([gap]).collect());
        self.with(|broker, view| broker.handle_lacking(view, gaps));
        self.with(|broker, view| broker.handle_restored(view, before));
        rows
    }

    /// Rows were fetched; those from `rest` on are still missing.
    fn fetched(&mut self, rows: &[EventRow], rest: Option<(u64, u64)>) {
        self.rows.extend(rows.iter().cloned());
        self.rows.sort_by_key(|row| row.sequence);
        let lacking = Lacking::new(rest.into_iter().collect());
        self.with(|broker, view| broker.handle_lacking(view, lacking));
    }

    /// The counters of the frames that a client was told of.
    fn counters(&mut self, number: u64) -> Vec<u64> {
        let counter = |text: &String| {
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            json["fCnt"].as_u64().unwrap_or(0)
        };
        self.heard(number).iter().map(counter).collect()
    }
}

fn with_listener() -> Bench {
    let mut bench = Bench::serving();
    for command in registry() {
        bench.index += 1;
        decide(&mut bench.state, bench.index, command);
    }
    bench.connect(1, config(Version::V5, "listener"));
    bench.subscribe(1, "application/#");
    bench
}

#[test]
fn what_was_missed_comes_before_what_is_new_and_once() {
    let mut bench = with_listener();
    bench.frame(0);
    assert_eq!(bench.counters(1), [0]);
    let missed = bench.jump(1..300, &[]);
    bench.frame(300);
    assert_eq!(bench.counters(1), [0; 0], "nothing new before what is older");
    // A client that comes now is told of what happens from now on.
    bench.connect(2, config(Version::V5, "late"));
    bench.subscribe(2, "application/#");
    bench.frame(301);
    let end = missed.last().unwrap().sequence + 1;
    bench.fetched(&missed[..100], Some((missed[100].sequence, end)));
    for _ in 0..20 {
        bench.pass(1);
    }
    assert_eq!(bench.counters(1), (1..=100).collect::<Vec<_>>(), "as far as they are here");
    bench.frame(302);
    bench.fetched(&missed[100..], None);
    for _ in 0..30 {
        bench.pass(1);
    }
    bench.frame(303);
    assert_eq!(bench.counters(1), (101..=303).collect::<Vec<_>>());
    assert_eq!(bench.counters(2), [301, 302, 303]);
}

#[test]
fn a_second_jump_goes_on_where_the_first_has_not_ended() {
    let mut bench = with_listener();
    bench.frame(0);
    let first = bench.jump(1..10, &[]);
    bench.frame(10);
    let second = bench.jump(11..20, &first);
    let end = second.last().unwrap().sequence + 1;
    bench.fetched(&first, Some((second[0].sequence, end)));
    for _ in 0..5 {
        bench.pass(1);
    }
    assert_eq!(bench.counters(1), (0..=10).collect::<Vec<_>>());
    bench.fetched(&second, None);
    for _ in 0..5 {
        bench.pass(1);
    }
    assert_eq!(bench.counters(1), (11..20).collect::<Vec<_>>());
}

#[test]
fn events_that_nobody_has_are_not_waited_for_for_ever() {
    let mut bench = with_listener();
    bench.frame(0);
    bench.jump(1..10, &[]);
    bench.frame(10);
    assert_eq!(bench.counters(1), [0]);
    bench.pass(59_000);
    assert_eq!(bench.counters(1), [0; 0]);
    bench.pass(2_000);
    bench.pass(1);
    bench.pass(1);
    bench.frame(11);
    assert_eq!(bench.counters(1), [10, 11]);
    assert_eq!(bench.broker.take_events_missed(), 9);
}

#[test]
fn without_anybody_who_listens_nothing_is_kept_back() {
    let mut bench = Bench::serving();
    for command in registry() {
        bench.index += 1;
        decide(&mut bench.state, bench.index, command);
    }
    bench.jump(0..10, &[]);
    bench.connect(1, config(Version::V5, "listener"));
    bench.subscribe(1, "application/#");
    bench.frame(10);
    assert_eq!(bench.counters(1), [10]);
}

#[test]
fn a_lasting_session_gets_its_queue_when_the_rows_have_come() {
    let mut bench = with_listener();
    bench.connect(2, lasting("lasting"));
    bench.subscribe(2, "application/#");
    bench.decide();
    bench.frame(0);
    bench.apply(vec![]);
    let missed = bench.jump(1..4, &[]);
    for _ in 0..5 {
        bench.pass(100);
    }
    bench.counters(2);
    bench.fetched(&missed, None);
    for _ in 0..5 {
        bench.pass(100);
    }
    let got = bench.counters(2);
    assert!(got.ends_with(&[1, 2, 3]), "{got:?}");
    assert_eq!(bench.counters(1), [0, 1, 2, 3]);
}
