//! Bytes as steps. A step is an opcode of [`op`] and the arguments that its reader below names, a
//! byte each; what is missing at the end is zero, so every input is a script.
//!
//! Names come from a small space, so that commands meet. Counters, nonces, epochs and fences are
//! told relative to what the model holds, as a proposer reads them from its own applied state: that
//! leads deep, and one step beside it. Frames are in `frames.rs`, the registry in `registry.rs`.

mod frames;
mod members;
mod registry;

use clock::WallTime;
use store::{Command, MqttMessage, MqttSubscription};

use super::model::Model;
use super::names::{account, application, client, node, text};
pub(crate) use registry::found;

/// Opcodes. Any other byte stands for one of [`FREQUENT`].
pub(crate) mod op {
    pub(crate) const CLOCK: u8 = 0;
    pub(crate) const CUT: u8 = 1;
    pub(crate) const RETRY: u8 = 2;
    pub(crate) const BATCH: u8 = 3;
    pub(crate) const BURST: u8 = 4;
    pub(crate) const UPLINK: u8 = 5;
    pub(crate) const JOIN: u8 = 6;
    pub(crate) const PLAN: u8 = 7;
    pub(crate) const TX_ACK: u8 = 8;
    pub(crate) const ENQUEUE: u8 = 9;
    pub(crate) const FLUSH_QUEUE: u8 = 10;
    pub(crate) const CANCEL_ITEM: u8 = 11;
    pub(crate) const ACTIVATE: u8 = 12;
    pub(crate) const DEACTIVATE: u8 = 13;
    pub(crate) const PUT_DEVICE: u8 = 14;
    pub(crate) const DELETE_DEVICE: u8 = 15;
    pub(crate) const SET_KEYS: u8 = 16;
    pub(crate) const DELETE_KEYS: u8 = 17;
    pub(crate) const FLUSH_NONCES: u8 = 18;
    pub(crate) const PUT_APPLICATION: u8 = 19;
    pub(crate) const DELETE_APPLICATION: u8 = 20;
    pub(crate) const PUT_PROFILE: u8 = 21;
    pub(crate) const DELETE_PROFILE: u8 = 22;
    pub(crate) const PUT_GATEWAY: u8 = 23;
    pub(crate) const DELETE_GATEWAY: u8 = 24;
    pub(crate) const PUT_TENANT: u8 = 25;
    pub(crate) const DELETE_TENANT: u8 = 26;
    pub(crate) const SET_RIGHTS: u8 = 27;
    pub(crate) const PUT_USER: u8 = 28;
    pub(crate) const SET_PASSWORD: u8 = 29;
    pub(crate) const DELETE_USER: u8 = 30;
    pub(crate) const CREATE_API_KEY: u8 = 31;
    pub(crate) const DELETE_API_KEY: u8 = 32;
    pub(crate) const PUT_ACCOUNT: u8 = 33;
    pub(crate) const DELETE_ACCOUNT: u8 = 34;
    pub(crate) const OPEN: u8 = 35;
    pub(crate) const CLOSE: u8 = 36;
    pub(crate) const SUBSCRIBE: u8 = 37;
    pub(crate) const TAKE: u8 = 38;
    pub(crate) const PUBLISH: u8 = 39;
    pub(crate) const BOOT: u8 = 40;
    pub(crate) const RAISE_LEVEL: u8 = 41;
    pub(crate) const FOUND: u8 = 42;
    pub(crate) const ADMIT: u8 = 43;
    pub(crate) const STATUS: u8 = 44;
    pub(crate) const COUNT: u8 = 45;

    /// What the other bytes mean: a history has far more frames than registrations.
    pub(crate) const FREQUENT: [u8; 12] = [
        UPLINK, UPLINK, UPLINK, JOIN, PLAN, PLAN, TX_ACK, ENQUEUE, RETRY, TAKE, PUBLISH, PUT_DEVICE,
    ];
}

/// Proposals that one batch may put into one entry.
const BATCH_MAX: u8 = 8;

/// Leader time between two entries, in microseconds; the last ones are more than counts.
const ELAPSED: [u64; 8] =
    [1_000_000, 0, 2_000_000, 4_000_000, 59_000_000, 60_000_000, 61_000_000, u64::MAX];

/// One step.
pub(crate) enum Step {
    /// The next entry bears another time.
    Clock {
        /// The leader's wall clock.
        wall: WallTime,
        /// Leader time since the last entry, in microseconds.
        elapsed_micros: u64,
    },
    /// One node begins anew from its snapshot.
    Cut,
    /// One entry.
    Entry(Vec<Ask>),
}

/// One proposal of an entry.
#[expect(clippy::large_enum_variant, reason = "a handful at a time; a box would only blur it")]
pub(crate) enum Ask {
    /// A new question.
    New(Command),
    /// The question so many before the last one again, under the same request.
    Again(usize),
}

/// Reads steps.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next step of a history that has come to `model`; `None` at the end.
    pub(crate) fn step(&mut self, model: &Model) -> Option<Step> {
        self.rest.first()?;
        Some(match self.opcode() {
            op::CLOCK => self.clock(model),
            op::CUT => Step::Cut,
            op::BATCH => {
                let count = 2 + self.pick(BATCH_MAX - 1);
                Step::Entry((0..count).map(|_| self.ask(model)).collect())
            }
            op::BURST => {
                let count = self.byte();
                let ask = self.ask(model);
                Step::Entry((0..count).map(|number| repeat(&ask, number)).collect())
            }
            opcode => Step::Entry(vec![self.ask_as(opcode, model)]),
        })
    }

    fn opcode(&mut self) -> u8 {
        let byte = self.byte();
        let frequent = op::FREQUENT[usize::from(byte) % op::FREQUENT.len()];
        if byte < op::COUNT { byte } else { frequent }
    }

    fn ask(&mut self, model: &Model) -> Ask {
        let opcode = self.opcode();
        self.ask_as(opcode, model)
    }

    fn ask_as(&mut self, opcode: u8, model: &Model) -> Ask {
        if opcode == op::RETRY {
            // The largest bytes reach beyond what is remembered of answers.
            let back = usize::from(self.byte());
            return Ask::Again(if back < 240 { back } else { (back - 239) * 300 });
        }
        Ask::New(self.command(opcode, model))
    }

    /// `[wall, elapsed]`
    fn clock(&mut self, model: &Model) -> Step {
        let now = model.now.unix_micros();
        let seconds =
            |count: i64| WallTime::from_unix_micros(now.saturating_add(count * 1_000_000));
        let wall = match self.byte() % 16 {
            0..3 => seconds(1),
            3 => seconds(0),
            4 => seconds(10),
            5 => seconds(-10),
            6 => seconds(59 * 60),
            7 => seconds(3_600),
            8 => seconds(86_400),
            9 => seconds(7 * 86_400),
            10 => seconds(8 * 86_400),
            11 => seconds(-400 * 86_400),
            12 => WallTime::UNIX_EPOCH,
            13 => WallTime::from_unix_micros(i64::MIN),
            14 => seconds(30),
            _ => seconds(50 * 365 * 86_400),
        };
        let elapsed_micros = ELAPSED[usize::from(self.pick(8))];
        Step::Clock { wall, elapsed_micros }
    }

    /// A command; a control opcode within an entry asks to raise the feature level.
    fn command(&mut self, opcode: u8, model: &Model) -> Command {
        match opcode {
            op::UPLINK => self.uplink(model),
            op::JOIN => self.join(model),
            op::PLAN => self.plan(model),
            op::TX_ACK => self.tx_ack(model),
            op::ENQUEUE => self.enqueue(model),
            op::FLUSH_QUEUE..=op::FLUSH_NONCES => self.device_command(opcode),
            op::PUT_APPLICATION..=op::DELETE_ACCOUNT | op::FOUND => self.registry_command(opcode),
            op::OPEN => self.open(),
            op::CLOSE => self.close(model),
            op::SUBSCRIBE => self.subscribe(model),
            op::TAKE => self.take(model),
            op::PUBLISH => self.publish(),
            op::BOOT => self.boot(model),
            op::ADMIT => self.admit(model),
            op::STATUS => self.status(model),
            _ => self.raise_level(),
        }
    }

    /// `[level]`
    fn raise_level(&mut self) -> Command {
        Command::RaiseFeatureLevel(match self.byte() {
            0..128 => 1,
            128..248 => 0,
            248.. => 2,
        })
    }

    /// The next byte, 0 after the end.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `count`.
    fn pick(&mut self, count: u8) -> u8 {
        self.byte() % count
    }
}

/// The `number`th of a burst: items want names of their own.
fn repeat(ask: &Ask, number: u8) -> Ask {
    match ask {
        Ask::Again(back) => Ask::Again(*back),
        Ask::New(Command::Enqueue { dev_eui, item }) => {
            let mut item = item.clone();
            item.id.0[15] = number;
            Ask::New(Command::Enqueue { dev_eui: *dev_eui, item })
        }
        Ask::New(command) => Ask::New(command.clone()),
    }
}

/// Whether a bit of a byte of flags is set.
const fn bit(flags: u8, number: u8) -> bool {
    flags >> number & 1 == 1
}

/// Two bits of a byte of flags.
const fn two(flags: u8, from: u8) -> u8 {
    flags >> from & 3
}

/// The broker's half.
impl Script<'_> {
    /// `[client, flags]`: account, clean start, expiry, node.
    fn open(&mut self) -> Command {
        let (number, flags) = (self.pick(3), self.byte());
        // Mostly each client uses its own account.
        let whose = if bit(flags, 7) { number + 1 } else { number };
        Command::OpenClientSession {
            client_id: client(number),
            account: account(whose % 3),
            clean_start: bit(flags, 0),
            expiry_s: [u32::MAX, 3, 0, 100][usize::from(two(flags, 1))],
            node: node(two(flags, 3)),
        }
    }

    /// The fence of a session, seldom the one before or the one after.
    fn fence(model: &Model, client_id: &str, flags: u8) -> u64 {
        let fence = model.sessions.get(client_id).map_or(1, |session| session.fence);
        match flags >> 4 {
            14 => fence.saturating_sub(1),
            15 => fence + 1,
            _ => fence,
        }
    }

    /// `[client, flags]`: end, fence.
    fn close(&mut self, model: &Model) -> Command {
        let (client_id, flags) = (client(self.pick(3)), self.byte());
        let fence = Self::fence(model, &client_id, flags);
        Command::CloseClientSession { client_id, fence, end: bit(flags, 0) }
    }

    /// `[client, flags, filter, filter]`: the upper bits of the second tell whether to remove it,
    /// to add it too, or to do nothing else but remove it.
    fn subscribe(&mut self, model: &Model) -> Command {
        let (client_id, flags) = (client(self.pick(3)), self.byte());
        let fence = Self::fence(model, &client_id, flags);
        let wish = |filter: String| MqttSubscription {
            filter,
            qos: (two(flags, 0) + 1) % 3,
            no_local: bit(flags, 2),
            retain_as_published: false,
            retain_handling: 0,
            identifier: None,
        };
        let (first, second) = (self.byte(), self.byte());
        let mut add = vec![wish(filter(first))];
        if first == u8::MAX {
            add = (0..101).map(|number| wish(text("many/", number))).collect();
        }
        let mut remove = Vec::new();
        match two(second, 6) {
            0 => {}
            1 => remove.push(filter(second)),
            2 => add.push(wish(filter(second))),
            _ => {
                add.clear();
                remove.push(filter(second));
            }
        }
        Command::Subscribe { client_id, fence, add, remove }
    }

    /// `[client, flags, count]`: so many from the front, of the middle, or what was never there.
    fn take(&mut self, model: &Model) -> Command {
        let (client_id, flags, count) = (client(self.pick(3)), self.byte(), self.byte());
        let fence = Self::fence(model, &client_id, flags);
        let waiting = model.sessions.get(&client_id).map(|session| &session.queue);
        let waiting = waiting.into_iter().flat_map(|queue| queue.keys().copied());
        let skip = usize::from(two(flags, 0));
        let mut taken: Vec<u64> = waiting.skip(skip).take(usize::from(count)).collect();
        if bit(flags, 2) {
            taken.push(7_777);
        }
        Command::AckMessages { client_id, fence, taken }
    }

    /// `[topic, flags, publisher]`: QoS, retain, queue, empty.
    fn publish(&mut self) -> Command {
        let (topic, flags) = (self.byte(), self.byte());
        let payload: &'static [u8] = if bit(flags, 4) { b"" } else { b"value" };
        Command::PublishMessage(MqttMessage {
            topic: topic_name(topic),
            payload: bytes::Bytes::from_static(payload),
            qos: (two(flags, 0) + 1) % 3,
            retain: bit(flags, 2),
            queue: !bit(flags, 3),
            expires_at: None,
            content_type: bit(flags, 5).then(|| text("type", topic)),
            response_topic: None,
            correlation_data: bit(flags, 6).then(|| vec![topic]),
            user_properties: vec![(text("key", flags), String::new())],
            is_utf8: bit(flags, 7),
            publisher: client(self.pick(3)),
            fence: None,
        })
    }
}

fn filter(number: u8) -> String {
    let app = application(number / 16 % 3);
    match number % 16 {
        0 => "#".into(),
        1 => format!("application/{app}/#"),
        2 => "application/+/device/+/event/up".into(),
        3 => "application/+/device/+/event/+".into(),
        4 => format!("application/{app}/+/+/event/join"),
        5 => "x/y".into(),
        6 => "+/y".into(),
        7 => "x/#".into(),
        8 => "$SYS/#".into(),
        9 => "$share/group/x/y".into(),
        10 => "x/#/y".into(),
        11 => String::new(),
        12 => format!("application/{app}/own"),
        _ => text("many/", number % 4),
    }
}

fn topic_name(number: u8) -> String {
    let app = application(number / 16 % 3);
    match number % 16 {
        0 | 1 => "x/y".into(),
        2 => "x".into(),
        3 | 4 => format!("application/{app}/own"),
        5 => format!("application/{app}/"),
        6 => format!("application/{app}"),
        7 => format!("application/{app}/device/0/event/up").to_uppercase(),
        8 => "x/+".into(),
        9 => String::new(),
        10 => "$SYS/x".into(),
        11 => "z/y".into(),
        _ => text("many/", number % 4),
    }
}
