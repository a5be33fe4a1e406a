//! What a publisher says: messages on a topic of its own and on one it shares, messages to be
//! retained likewise, and commands for devices.
//!
//! No two payloads are alike, so whatever comes back tells where it came from. A command that may
//! have been queued is not asked for twice: its answer stays unknown.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lorawan::DevEui;
use mqtt::{Publish, Qos, ReasonCode, TopicName};
use scenario::Scenario;
use store::Id;

use super::super::mote;
use super::super::record::Record;
use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::oracle::{Answer, Fact, Message};

/// Share of messages at QoS 1; the others have QoS 0.
const SURELY: f64 = 0.7;
/// Share of commands that ask for an acknowledgement by the device.
const CONFIRMED: f64 = 0.3;
/// Where an account that may say everything speaks: outside all applications.
const WIDE: &str = "plant/";
/// First byte of a command's data: no downlink of the operator's begins like that.
const MARK: u8 = 0xFE;

/// What there is to hear of publishers.
///
/// * `scope`: the beginning of all topics that the account may see.
pub(super) fn filters(scope: &str, wide: bool) -> Vec<(String, Qos)> {
    let ends: &[&str] =
        if wide { &["#"] } else { &["board/#", "state/#", "device/+/command/down"] };
    let begin = if wide { WIDE } else { scope };
    ends.iter().map(|end| (format!("{begin}{end}"), Qos::AtLeastOnce)).collect()
}

/// A command whose answer is awaited.
struct Command {
    device: DevEui,
    data: Bytes,
    confirmed: bool,
    since: Duration,
}

/// A publisher's half of a client.
pub(super) struct Publisher {
    wide: bool,
    place: u32,
    devices: Vec<DevEui>,
    every: Range<Duration>,
    dice: Dice,
    next: Option<Duration>,
    numbers: u32,
    /// What the node has not acknowledged, in the order of its first sending.
    unanswered: Vec<Message>,
    /// Those of them that are commands, by their payload.
    commands: BTreeMap<Bytes, Command>,
}

/// What is drawn for each message; always as many draws.
struct Draw {
    kind: u64,
    surely: bool,
    device: Option<DevEui>,
    confirmed: bool,
    id: Id,
}

impl Publisher {
    /// That of the client number `place` (from 0).
    pub(super) fn new(
        scenario: &Scenario,
        seed: Seed,
        place: u32,
        wide: bool,
        devices: &[DevEui],
    ) -> Self {
        Self {
            wide,
            place,
            devices: devices.to_vec(),
            every: scenario.clients.publish_every.0.clone(),
            dice: seed.stream(&format!("publisher app{}", place + 1)),
            next: None,
            numbers: 0,
            unanswered: Vec::new(),
            commands: BTreeMap::new(),
        }
    }

    /// It may speak from now on.
    pub(super) fn begin(&mut self, now: Duration) {
        if self.next.is_none() {
            self.next = Some(now + self.dice.between(&self.every));
        }
    }

    /// When it speaks next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Whether nothing it said waits for an answer.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// The next message, written down as sent.
    pub(super) fn speak(
        &mut self,
        scope: &str,
        (name, node): (&str, &str),
        record: &Record,
    ) -> (Publish, Qos) {
        let now = virtual_now();
        self.next = Some(now + self.dice.between(&self.every));
        self.numbers += 1;
        let draw = self.draw();
        let qos = if draw.surely { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let begin = if self.wide { WIDE } else { scope };
        let plain = || Bytes::from(format!("{name}/{}", self.numbers));
        let (topic, payload, retain) = match (draw.kind, draw.device) {
            (0..15, Some(device)) => {
                let payload = self.command(device, &draw, record);
                (format!("{begin}device/{device}/command/down"), payload, false)
            }
            (0..45, _) => (format!("{begin}board/{name}"), plain(), false),
            (45..65, _) => (format!("{begin}board/shared"), plain(), false),
            (65..80, _) => (format!("{begin}state/{name}"), plain(), true),
            (80.., _) => (format!("{begin}state/shared"), plain(), true),
        };
        let (dup, topic_name) = (false, TopicName::parse(&topic));
        let message = Message { topic, payload, qos: qos.as_u8(), retain, dup };
        tell_sent(name, &message, record);
        if draw.surely {
            self.unanswered.push(message.clone());
        } else if let Some(command) = self.commands.remove(&message.payload) {
            tell_answer((name, node), &command, Answer::Unknown, record);
        }
        let topic = topic_name.expect("made of names without wildcards");
        (Publish { retain, ..Publish::new(topic, message.payload) }, qos)
    }

    fn draw(&mut self) -> Draw {
        let dice = &mut self.dice;
        let (kind, surely) = (dice.below(100), dice.chance(SURELY));
        let place = dice.index(self.devices.len().max(1));
        let device = self.devices.get(place).copied().filter(|_| !self.wide);
        let confirmed = dice.chance(CONFIRMED);
        let mut id = [0; 16];
        dice.fill(&mut id);
        Draw { kind, surely, device, confirmed, id: Id::from_random(id) }
    }

    /// The payload of a command, as `integration.proto` has it in JSON.
    fn command(&mut self, device: DevEui, draw: &Draw, record: &Record) -> Bytes {
        let [.., place] = self.place.to_be_bytes();
        let data = Bytes::from([&[MARK, place][..], &self.numbers.to_be_bytes()].concat());
        let json = serde_json::json!({
            "id": draw.id.to_string(),
            "devEui": device.to_string(),
            "confirmed": draw.confirmed,
            "fPort": mote::PORT,
            "data": STANDARD.encode(&data),
        });
        let (confirmed, since) = (draw.confirmed, virtual_now());
        record.queues(device, &data, confirmed);
        let payload = Bytes::from(json.to_string());
        self.commands.insert(payload.clone(), Command { device, data, confirmed, since });
        payload
    }

    /// The node has a message, or refuses it.
    pub(super) fn answered(
        &mut self,
        publish: &Publish,
        reason: ReasonCode,
        (name, node): (&str, &str),
        record: &Record,
    ) {
        let mine = |message: &Message| message.payload == publish.payload;
        let Some(place) = self.unanswered.iter().position(mine) else { return };
        let message = self.unanswered.remove(place);
        let done = !reason.is_error();
        let command = self.commands.remove(&message.payload);
        if done {
            let text = format!("{} acknowledged", message.topic);
            let client = name.to_owned();
            record.fact(name, &text, Fact::Published { client, message, acknowledged: true });
        } else {
            record.note(name, &format!("{} refused: {reason:?}", message.topic));
        }
        if let Some(command) = command {
            let answer = if done { Answer::Done } else { Answer::Refused };
            tell_answer((name, node), &command, answer, record);
        }
    }

    /// A connection has begun on which everything unanswered is sent again.
    pub(super) fn repeats(&self, name: &str, record: &Record) {
        for message in &self.unanswered {
            tell_sent(name, &Message { dup: true, ..message.clone() }, record);
        }
    }

    /// A connection has ended; whether nothing unanswered may be sent again.
    pub(super) fn interrupted(&mut self, (name, node): (&str, &str), record: &Record) -> bool {
        if self.commands.is_empty() {
            return false;
        }
        for command in std::mem::take(&mut self.commands).into_values() {
            tell_answer((name, node), &command, Answer::Unknown, record);
        }
        self.unanswered.clear();
        true
    }

    /// It comes in with another account: what was unanswered stays so.
    pub(super) fn forget(&mut self) {
        self.unanswered.clear();
    }
}

fn tell_sent(name: &str, message: &Message, record: &Record) {
    let again = if message.dup { " again" } else { "" };
    let retain = if message.retain { ", to be retained" } else { "" };
    let text = format!(
        "publishes{again} on {} at QoS {}{retain}: {}",
        message.topic,
        message.qos,
        String::from_utf8_lossy(&message.payload)
    );
    let (client, message) = (name.to_owned(), message.clone());
    record.fact(name, &text, Fact::Published { client, message, acknowledged: false });
}

fn tell_answer((name, node): (&str, &str), command: &Command, answer: Answer, record: &Record) {
    let Command { device, data, confirmed, since } = command;
    let text = format!("command for {device}: {answer:?}");
    let fact = Fact::Queued {
        node: node.to_owned(),
        device: *device,
        payload: data.clone(),
        confirmed: *confirmed,
        since: *since,
        answer,
    };
    record.fact(name, &text, fact);
}
