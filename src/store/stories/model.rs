//! Any log: the same state on every node, by whichever way it came, and what a small model expects.

use std::collections::{BTreeMap, BTreeSet};

use lorawan::TxStatus;
use mac::{JoinReply, PlanReply, RecordTxAck, UplinkReply};
use proptest::prelude::*;

use super::*;
use crate::{Event, SnapshotBuilder};

const DEVICES: u8 = 3;

fn eui(number: u8) -> DevEui {
    DevEui::from_be_bytes([0, 0, 0, 0, 0, 0, 1, number])
}

fn address(number: u8) -> DevAddr {
    // Two devices share an address.
    DevAddr::from_u32(u32::from(number / 2))
}

/// One step of an operator, a device or a node.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Delete(u8),
    SetKeys(u8),
    Activate(u8, u32),
    Deactivate(u8),
    Uplink {
        device: u8,
        epoch: u32,
        f_cnt: u32,
        bytes: u8,
        ack: bool,
        home: u8,
        cursor: Option<u32>,
        heard_by: Option<u8>,
    },
    Join {
        device: u8,
        nonce: u16,
        join_nonce: u32,
    },
    Plan {
        device: u8,
        epoch: u32,
        cursor: Option<u32>,
    },
    TxAck {
        device: u8,
        epoch: u32,
        f_cnt_down: u32,
        item: u8,
        status: Option<TxStatus>,
    },
    Enqueue(u8, u8, bool),
    Cancel(u8, u8),
    Flush(u8),
    Boot(u8),
    Open(u8, bool),
    Publish(u8),
    Account,
    /// The step before, again, under the same request.
    Retry,
}

fn status() -> impl Strategy<Value = Option<TxStatus>> {
    prop_oneof![Just(None), Just(Some(TxStatus::Ok)), Just(Some(TxStatus::TooLate))]
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES;
    prop_oneof![
        2 => device.clone().prop_map(Step::Create),
        1 => device.clone().prop_map(Step::Delete),
        1 => device.clone().prop_map(Step::SetKeys),
        2 => (device.clone(), 0_u32..4).prop_map(|(one, next)| Step::Activate(one, next)),
        1 => device.clone().prop_map(Step::Deactivate),
        8 => (
            (device.clone(), 0_u32..5, 0_u32..12),
            (0_u8..2, any::<bool>(), 1_u8..3),
            (prop::option::of(0_u32..60), prop::option::weighted(0.8, 1_u8..4)),
        )
            .prop_map(|((device, epoch, f_cnt), (bytes, ack, home), (cursor, heard_by))| {
                Step::Uplink { device, epoch, f_cnt, bytes, ack, home, cursor, heard_by }
            }),
        4 => (device.clone(), 0_u16..4, 0_u32..4)
            .prop_map(|(device, nonce, join_nonce)| Step::Join { device, nonce, join_nonce }),
        4 => (device.clone(), 0_u32..5, prop::option::of(0_u32..12))
            .prop_map(|(device, epoch, cursor)| Step::Plan { device, epoch, cursor }),
        4 => (device.clone(), 0_u8..6, any::<bool>()).prop_map(|(d, i, c)| Step::Enqueue(d, i, c)),
        3 => (device.clone(), 0_u32..5, 0_u32..12, 0_u8..6, status()).prop_map(
            |(device, epoch, f_cnt_down, item, status)| {
                Step::TxAck { device, epoch, f_cnt_down, item, status }
            }
        ),
        1 => (device.clone(), 0_u8..6).prop_map(|(device, item)| Step::Cancel(device, item)),
        1 => device.prop_map(Step::Flush),
        1 => (1_u8..3).prop_map(Step::Boot),
        1 => (0_u8..2, any::<bool>()).prop_map(|(client, clean)| Step::Open(client, clean)),
        1 => (0_u8..3).prop_map(Step::Publish),
        1 => Just(Step::Account),
        3 => Just(Step::Retry),
    ]
}

fn activation(device: u8, next: u32) -> Command {
    let Command::Activate { mut session, .. } = activate(address(device), next) else { panic!() };
    session.uplink.last = None;
    Command::Activate { dev_eui: eui(device), session }
}

fn message(topic: u8) -> crate::MqttMessage {
    crate::MqttMessage {
        topic: topic.to_string(),
        payload: Bytes::from_static(b"x"),
        qos: 1,
        retain: topic == 0,
        queue: true,
        expires_at: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: vec![],
        is_utf8: false,
        publisher: String::new(),
        fence: None,
    }
}

fn tx_ack() -> RecordTxAck {
    RecordTxAck {
        dev_eui: DEVICE,
        session_epoch: SessionEpoch(0),
        f_cnt_down: 0,
        a_counter: false,
        item_id: None,
        status: None,
        gateway: lorawan::GatewayEui::default(),
        downlink_id: 1,
        frequency_hz: 868_100_000,
        eirp_dbm: 14,
        modulation: lora(),
        delay_s: 1,
    }
}

fn command(step: &Step) -> Option<Command> {
    let epoch = |number: u32| SessionEpoch(number);
    Some(match *step {
        Step::Create(number) => {
            let skip_f_cnt_check = number == 1;
            let put = Device { skip_f_cnt_check, ..device(eui(number)) };
            Command::PutDevice(Box::new(create(put)))
        }
        Step::Delete(number) => Command::DeleteDevice(eui(number)),
        Step::SetKeys(number) => Command::SetDeviceKeys {
            dev_eui: eui(number),
            must_exist: None,
            nwk_key: sealed(number),
            app_key: None,
        },
        Step::Activate(number, next) => activation(number, next),
        Step::Deactivate(number) => Command::Deactivate(eui(number)),
        Step::Uplink { device, epoch: number, f_cnt, bytes, ack, home, cursor, heard_by } => {
            accept(AcceptUplink {
                dev_eui: eui(device),
                session_epoch: epoch(number),
                digest: Digest([bytes; 16]),
                ack,
                // Some get ranges, some single numbers.
                adr: device > 0,
                home: NodeId(home.into()),
                cursor,
                heard_by: heard_by.map(|node| NodeId(node.into())),
                ..uplink(f_cnt)
            })
        }
        Step::Join { device, nonce, join_nonce } => Command::AcceptJoin(Box::new(AcceptJoin {
            dev_eui: eui(device),
            dev_addr: address(device),
            ..join(nonce, join_nonce)
        })),
        Step::Plan { device, epoch: number, cursor } => {
            Command::PlanDownlink(PlanDownlink { dev_eui: eui(device), cursor, ..ask(number) })
        }
        Step::TxAck { device, epoch: number, f_cnt_down, item, status } => {
            Command::RecordTxAck(RecordTxAck {
                dev_eui: eui(device),
                session_epoch: epoch(number),
                f_cnt_down,
                item_id: Some([item; 16]),
                status,
                ..tx_ack()
            })
        }
        Step::Enqueue(number, name, confirmed) => {
            Command::Enqueue { dev_eui: eui(number), item: item(name, confirmed, 4) }
        }
        Step::Cancel(number, name) => {
            Command::CancelItem { dev_eui: eui(number), item_id: id(name) }
        }
        Step::Flush(number) => Command::FlushQueue(eui(number)),
        Step::Boot(node) => {
            Command::Boot { node: NodeId(node.into()), boot: 1, feature_level: 1, plate: None }
        }
        Step::Open(client, clean_start) => Command::OpenClientSession {
            client_id: format!("client {client}"),
            account: "all".into(),
            clean_start,
            expiry_s: 3,
            node: NODE,
        },
        Step::Publish(topic) => Command::PublishMessage(message(topic)),
        Step::Account => {
            Command::PutMqttAccount(Put { must_exist: None, value: account("all", MqttScope::All) })
        }
        Step::Retry => return None,
    })
}

fn entries(steps: &[Step]) -> Vec<Entry> {
    let mut log = Log::default();
    let mut entries = vec![];
    let mut last: Option<Proposal> = None;
    let found = Command::Found {
        cluster_id: id(9),
        cluster_name: "model".into(),
        node: NODE,
        admin: user(ADMIN, "admin"),
        tenant: tenant(TENANT, "one"),
        founders: Vec::new(),
    };
    let begin = [
        found,
        Command::PutApplication(create(application(APPLICATION, TENANT, "app"))),
        Command::PutDeviceProfile(create(profile(PROFILE, Some(TENANT), "profile"))),
    ];
    let begin = begin.map(|command| Proposal { request: log.request(), command });
    entries.push(Entry { wall: wall(0), elapsed_micros: 0, proposals: begin.to_vec() });
    for (at, step) in steps.iter().enumerate() {
        let fresh = command(step).map(|command| Proposal { request: log.request(), command });
        let proposals: Vec<_> = fresh.or_else(|| last.clone()).into_iter().collect();
        last = proposals.last().cloned();
        let wall = wall(i64::try_from(at).unwrap());
        entries.push(Entry { wall, elapsed_micros: 1_000_000, proposals });
    }
    entries
}

/// What may never happen twice.
#[derive(Default)]
struct Seen {
    readings: BTreeSet<(DevEui, SessionEpoch, u32)>,
    nonces: BTreeMap<DevEui, u32>,
    grants: BTreeMap<(DevEui, SessionEpoch, DevAddr, u32), (NodeId, u32)>,
    rows: BTreeMap<Id, u64>,
    requests: BTreeMap<RequestId, Reply>,
    out: BTreeSet<(DevEui, Id, u64)>,
}

impl Seen {
    /// A personalised session keeps its keys whenever its address comes again; a joined one has
    /// keys of its own.
    fn grant(&mut self, dev_eui: DevEui, state: &State, grant: Option<mac::Grant>) {
        let Some(grant) = grant else { return };
        let session = state.device(dev_eui).unwrap().session.as_ref().unwrap();
        let keys = if session.abp { SessionEpoch(0) } else { session.epoch };
        for number in grant.lo..grant.hi {
            let whose = (grant.home, grant.home_epoch);
            let key = (dev_eui, keys, session.dev_addr, number);
            let owner = self.grants.entry(key).or_insert(whose);
            assert_eq!(*owner, whose, "number {number} was granted twice");
        }
    }

    fn check(&mut self, entry: &Entry, applied: &Applied, state: &State) {
        for (proposal, (request, reply)) in entry.proposals.iter().zip(&applied.replies) {
            let before = self.requests.insert(*request, reply.clone());
            let again = before.is_some();
            assert_eq!(before.as_ref().unwrap_or(reply), reply, "a retry gets the first answer");
            assert!(!again || applied.rows.is_empty(), "a retry writes nothing");
            match (&proposal.command, reply) {
                (
                    Command::AcceptUplink(up),
                    Reply::Uplink(UplinkReply::Accepted { session_epoch, grant }),
                ) => {
                    let reading = (up.dev_eui, *session_epoch, up.f_cnt);
                    assert!(self.readings.insert(reading) || again, "{reading:?} twice");
                    assert!(grant.is_none_or(|grant| grant.home == up.home), "his own");
                    self.grant(up.dev_eui, state, *grant);
                }
                (Command::AcceptJoin(join), Reply::Join(JoinReply::Accepted { .. })) => {
                    let last = self.nonces.insert(join.dev_eui, join.expected_join_nonce.0);
                    assert!(again || last.is_none_or(|last| last < join.expected_join_nonce.0));
                }
                (
                    Command::PlanDownlink(ask),
                    Reply::Plan(PlanReply::Planned { item, grant, .. }),
                ) => {
                    self.grant(ask.dev_eui, state, *grant);
                    let device = state.device(ask.dev_eui).unwrap();
                    let out = item.as_ref().filter(|item| !again && !item.confirmed);
                    if let Some(handed) = out {
                        let kept = device.queue.iter().find(|item| item.id.0 == handed.item_id);
                        let since = kept.unwrap().created_at.unix_micros().unsigned_abs();
                        let name = (ask.dev_eui, Id(handed.item_id), since);
                        assert!(self.out.insert(name), "an unconfirmed item twice");
                    }
                }
                _ => {}
            }
        }
        for row in &applied.rows {
            assert!(self.rows.insert(row.id, row.sequence).is_none(), "one id, two rows: {row:?}");
        }
    }
}

/// Index and counts hold what the objects say.
fn assert_consistent(state: &State) {
    let sessions = state.devices().flat_map(|one| [&one.session, &one.pending_session]);
    let sessions = sessions.flatten().count();
    let found: usize = (0..2).map(|n| state.sessions_by_addr(DevAddr::from_u32(n)).count()).sum();
    assert_eq!(sessions, found);
    let devices = u64::try_from(state.device_count()).unwrap();
    assert_eq!(state.application_device_count(APPLICATION), devices);
    let places = state.client_sessions().flat_map(|one| one.queue.values());
    assert!(places.into_iter().all(|place| state.is_there(place.pointer)));
    for device in state.devices() {
        for session in [&device.session, &device.pending_session].into_iter().flatten() {
            assert!(session.epoch <= device.last_epoch);
            for counter in [session.n_f_cnt_down, session.a_f_cnt_down] {
                assert!(counter.grant.is_none_or(|grant| grant.hi == counter.next));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_happens_twice_and_every_way_leads_to_one_state(
        steps in prop::collection::vec(step(), 1..120),
        cut in any::<prop::sample::Index>(),
    ) {
        let entries = entries(&steps);
        let cut = cut.index(entries.len());
        let (mut here, mut there) = (State::new(), State::new());
        let mut seen = Seen::default();
        let mut index = 0;
        for (at, entry) in entries.iter().enumerate() {
            index += 1;
            let applied = here.apply(index, entry).unwrap();
            seen.check(entry, &applied, &here);
            assert_consistent(&here);
            // The other node reads bytes, and begins again from a snapshot in the middle.
            let bytes = crate::encode_entry(entry).unwrap();
            let twin = there.apply(index, &crate::decode_entry(&bytes).unwrap()).unwrap();
            prop_assert_eq!(&twin, &applied);
            if at == cut {
                let mut builder = SnapshotBuilder::new();
                for piece in there.snapshot() {
                    builder.feed(&piece).unwrap();
                }
                there = builder.finish().unwrap();
            }
        }
        prop_assert_eq!(here.state_hash(), there.state_hash());
        prop_assert_eq!(here.event_hash(), there.event_hash());
    }

    #[test]
    fn registration_is_what_a_plain_map_says(
        steps in prop::collection::vec((0_u8..3, 0_u8..6, prop::option::of(any::<bool>())), 1..80),
    ) {
        let mut log = Log::founded();
        let mut model: BTreeMap<DevEui, u8> = BTreeMap::new();
        for (at, (what, number, must_exist)) in steps.into_iter().enumerate() {
            let (dev_eui, there) = (eui(number), model.contains_key(&eui(number)));
            let tag = u8::try_from(at).unwrap();
            let (command, fits) = if what == 0 {
                (Command::DeleteDevice(dev_eui), there)
            } else {
                let value = Device { name: tag.to_string(), ..device(dev_eui) };
                let put = Command::PutDevice(Box::new(Put { must_exist, value }));
                (put, must_exist.is_none_or(|must| must == there))
            };
            let reply = log.ask(command).0;
            prop_assert_eq!(reply == Reply::Done, fits, "{:?}", reply);
            match (fits, what) {
                (false, _) => {}
                (true, 0) => drop(model.remove(&dev_eui)),
                (true, _) => drop(model.insert(dev_eui, tag)),
            }
            let names = log.state.devices().map(|one| (one.dev_eui, one.name.parse().unwrap()));
            prop_assert_eq!(names.collect::<BTreeMap<_, _>>(), model.clone());
        }
    }
}

#[test]
fn a_reading_is_in_the_event_log_before_it_is_answered() {
    let mut log = Log::with_session();
    for f_cnt in [8, 9, 9, 10, 4] {
        let (reply, applied) = log.ask(accept(uplink(f_cnt)));
        let accepted = matches!(reply, Reply::Uplink(UplinkReply::Accepted { .. }));
        let ups = applied.rows.iter().filter(|row| matches!(row.event, Event::Up(_)));
        assert_eq!(ups.count(), usize::from(accepted));
    }
}
