//! Bytes as what the machines of other nodes say to this one's: receptions, orders to send, their
//! acknowledgements, news of gateways, signs of life; links that come and go, and time that passes.
//!
//! An input is a row of steps: what happens, a length, so many bytes. Nothing a peer says ends the
//! node, and nothing makes it talk without end.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::{Duration, Instant, Now, WallTime};
use lorawan::NetId;
use mac::MacConfig;
use node::api::ApiSettings;
use node::api::wire::NodeInfo;
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{Config, Effect, Founding, Input, Node};
use store::model::{PasswordHash, Tenant, User};
use store::{Entry, Id, Nameplate, NodeId};

/// Steps of one input.
const STEPS_MAX: usize = 100;
/// What one step may make the node do.
const EFFECTS_MAX: usize = 2_000;
/// The wall clock at the origin of the monotonic one.
const START: i64 = 1_795_196_800;

/// One input.
pub fn run(data: &[u8]) {
    let mut world = Alone::new();
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        let [what, length, after @ ..] = rest else { return };
        let (body, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let from = 2 + u64::from(what >> 7);
        match what % 8 {
            0..=4 => {
                world.input(Input::Peer { from, bytes: Bytes::copy_from_slice(body) });
            }
            5 => world.pass(Duration::from_millis(u64::from(*length) * 20)),
            6 => {
                let transit = Duration::from_millis(u64::from(*length));
                let up = body.first().is_some_and(|byte| byte % 2 == 1);
                world.input(Input::PeerLine { node: from, up, transit });
            }
            _ => {
                let sender = SocketAddr::from(([127, 0, 0, 1], 40_000));
                let bytes = Bytes::copy_from_slice(body);
                world.input(Input::Datagram { listener: 0, from: sender, bytes });
            }
        }
    }
    world.pass(Duration::from_secs(5));
}

/// A node of three whose log answers at once.
struct Alone {
    node: Node,
    now: Duration,
    index: u64,
}

impl Alone {
    fn new() -> Self {
        let mut world =
            Self { node: Node::new(config(), 1, [7; 32]), now: Duration::ZERO, index: 0 };
        world.input(Input::Quorum { available: true, disk_full: false, leader: Some(1) });
        for node in [2, 3] {
            world.input(Input::PeerLine { node, up: true, transit: Duration::from_millis(1) });
        }
        world
    }

    fn clock(&self) -> Now {
        let wall = WallTime::from_unix_secs(START).saturating_add(self.now);
        Now { instant: Instant::ZERO + self.now, wall }
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.clock(), input);
        self.drain();
    }

    fn pass(&mut self, duration: Duration) {
        let until = Instant::ZERO + self.now + duration;
        for _ in 0..EFFECTS_MAX {
            let due = self.node.poll_timeout().filter(|(at, _)| *at <= until);
            let Some((at, _)) = due else { break };
            self.now = self.now.max(at.since(Instant::ZERO));
            self.node.handle_timeout(self.clock());
            self.drain();
        }
        self.now = until.since(Instant::ZERO);
    }

    fn drain(&mut self) {
        for count in 0.. {
            assert!(count < EFFECTS_MAX, "one step, and no end of it");
            match self.node.poll_effect() {
                None => return,
                Some(Effect::Propose(proposal)) => {
                    self.index += 1;
                    let now = self.clock();
                    let entry =
                        Entry { wall: now.wall, elapsed_micros: 1, proposals: vec![proposal] };
                    self.node.apply(now, self.index, &entry).expect("the log understands itself");
                }
                Some(Effect::PersistCursor { token, .. }) => {
                    self.node.handle(self.clock(), Input::CursorPersisted { token });
                }
                Some(Effect::Fatal(text)) => panic!("a peer ends this node: {text}"),
                Some(_) => {}
            }
        }
    }
}

fn plate(number: u8) -> (NodeId, Nameplate) {
    let (name, address) = (format!("n{number}@h"), format!("h{number}:6369"));
    (NodeId(number.into()), Nameplate { key: [number; 32], name, address })
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
        plate: plate(1).1,
        founding: Some(Founding {
            cluster_id: None,
            founders: [1, 2, 3].map(plate).to_vec(),
            cluster_name: "fuzz".into(),
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
            tenant: Tenant { id: Id::from_random([2; 16]), ..Tenant::default() },
        }),
        info: NodeInfo::default(),
    }
}

/// A message as a step.
fn said(body: &[u8]) -> Vec<u8> {
    [&[0, u8::try_from(body.len()).unwrap_or(u8::MAX)], body].concat()
}

/// Messages of each kind, sound and not.
pub fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let gateway = [0x1B, 0, 0x16, 0xC0, 1, 0xFF, 0x10, 0xA2, 0x35];
    let never = [0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let entry = |ms: &[u8]| [&[0x83][..], &gateway, ms, ms].concat();
    let news = |sequence: u8, whole: u8, entries: &[u8]| {
        said(&[&[0x82, 4, 0x81, 0x83, sequence, whole], entries].concat())
    };
    let one = |ms: &[u8]| [&[0x81][..], &entry(ms)].concat();
    let files = [
        ("nothing", vec![]),
        ("standing", said(&[0x82, 6, 0x81, 0xF5])),
        ("ping_and_pong", [said(&[0x82, 7, 0x80]), said(&[0x82, 8, 0x82, 9, 1])].concat()),
        ("pong_of_the_end_of_time", said(&[&[0x82, 8, 0x82][..], &never, &never].concat())),
        ("probe", [said(&[0x82, 9, 0x81, 3]), said(&[0x82, 10, 0x81, 3])].concat()),
        ("probe_itself", [said(&[0x82, 9, 0x81, 1]), said(&[0x82, 10, 0x81, 1])].concat()),
        ("paths", [news(1, 0xF5, &one(&[5])), news(2, 0xF4, &one(&[7]))].concat()),
        ("paths_of_never", [news(1, 0xF5, &one(&never)), vec![5, 250]].concat()),
        ("paths_behind", [news(9, 0xF4, &one(&[5])), news(3, 0xF4, &[0x80])].concat()),
        ("paths_endless", said(&[0x82, 4, 0x81, 0x83, 1, 0xF5, 0x9A, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("paths_wanted", said(&[0x82, 5, 0x80]).repeat(20)),
        ("tx_ack", said(&[&[0x82, 2, 0x83][..], &gateway, &[7, 0]].concat())),
        ("stray_tx_ack", said(&[&[0x82, 3, 0x82][..], &gateway, &[0x44, 2, 0, 1, 5]].concat())),
        ("deep", said(&[0x81; 250])),
        ("tags", said(&[0xC1; 250])),
        ("of_no_kind", said(&[0x82, 0x18, 99, 0x80])),
        ("cut", said(&[0x82, 0, 0x81, 0x8E])),
        ("lines", vec![6, 1, 0, 6, 1, 1, 0x86, 1, 0, 0x86, 1, 1]),
    ];
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes))
}
