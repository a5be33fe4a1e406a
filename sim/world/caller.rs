//! Clients of the API who ask about the same few things at the same time, and tell what they were
//! told, so that it can be judged: see [`crate::history`].
//!
//! The things stand on a shelf of their own: devices that never send, gateways that are never
//! heard, applications without devices, and queues of further silent devices. Deleting them
//! disturbs nobody. Each client draws from its own stream: a pause, a node, a thing, what to do
//! with it, how long the way there and back takes, and whether the answer is lost on it.
//!
//! Whoever builds a world makes a [`Shelf`] and a [`door_of`] each node, has the shelf prepared
//! while nothing fails, and lets [`Caller::run`] run as a task; what the callers hand over goes to
//! a [`Book`](crate::history::Book) and, as
//! [`ClientFact::Call`](crate::history::ClientFact::Call), to a
//! [`ClientOracle`](crate::history::ClientOracle). Their queues are those of silent devices.

mod errand;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::service::{self, CallReply};
use lorawan::{DevEui, GatewayEui};
use node::api::wire::{Application, DeviceProfile};
use node::api::{Credentials, Operation};
use openraft_rt::AsyncRuntime;

use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::history::{CallId, HistoryEvent, Question, QueueInput, RegisterInput};
use crate::outside::Outside;
use crate::runtime::{MadsimRuntime, held, sleep_virtual};
use errand::Thing;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a call, and its answer, are on their way.
const WAY: Range<Duration> = Duration::ZERO..Duration::from_millis(4);
/// Share of answers that are lost on their way.
const LOST: f64 = 0.01;
/// Items of a queue that somebody may want to take back.
const RECENT_MAX: usize = 8;
/// The application and the device profile of the devices on the shelf.
const SHELF: &str = "shelf";
/// EUIs of what is on the shelf: nobody else's begin so.
const EUI: u64 = 0x5E1F_0000_0000_0000;

/// A call under way.
pub(super) type Calling = Pin<Box<dyn Future<Output = CallReply> + Send>>;
/// The way to a node; `None` while nobody is there who would take a call.
pub(super) type Door = Arc<dyn Fn(Operation) -> Option<Calling> + Send + Sync>;

/// The door of the node that `running` gives, while it runs: its own host's.
pub(super) fn door_of(
    running: impl Fn() -> Option<service::Handle<Outside>> + Send + Sync + 'static,
) -> Door {
    Arc::new(move |operation| {
        let node = running()?;
        Some(Box::pin(async move { node.call(Credentials::Local, operation).await }))
    })
}

/// The first of several doors behind which somebody takes a call.
pub(super) fn any_of(doors: Vec<Door>) -> Door {
    Arc::new(move |operation| doors.iter().find_map(|door| door(operation.clone())))
}

/// How many things of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Devices that are made, changed and deleted.
    pub devices: u8,
    /// Gateways.
    pub gateways: u8,
    /// Applications.
    pub applications: u8,
    /// Devices that stay, and whose queues are asked about.
    pub queues: u8,
}

/// A queue's device, and what was queued last.
#[derive(Debug)]
struct Recent(Mutex<VecDeque<String>>);

/// What the callers share. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    things: Arc<[(Thing, Recent)]>,
}

impl Shelf {
    /// A shelf with some things on it; at least one.
    pub(super) fn new(sizes: Sizes) -> Self {
        let eui = |kind: u64, number: u8| (EUI | kind << 16 | u64::from(number)).to_be_bytes();
        let device = |number| Thing::Device(DevEui::from_be_bytes(eui(1, number)));
        let gateway = |number| Thing::Gateway(GatewayEui::from_be_bytes(eui(2, number)));
        let application = |number| Thing::Application(format!("{SHELF} {number}"));
        let queue = |number| Thing::Queue(DevEui::from_be_bytes(eui(3, number)));
        let all = (0..sizes.devices).map(device);
        let all = all.chain((0..sizes.gateways).map(gateway));
        let all = all.chain((0..sizes.applications).map(application));
        let all = all.chain((0..sizes.queues).map(queue));
        let things: Arc<[_]> = all.map(|thing| (thing, Recent(Mutex::default()))).collect();
        assert!(!things.is_empty(), "somebody has to be asked about something");
        Self { things }
    }

    /// Makes what must be there before anybody calls.
    ///
    /// * Errors: the first refusal.
    pub(super) async fn prepare(&self, door: &Door) -> Result<(), String> {
        let tenant_id = super::operator::TENANT.to_owned();
        let name = SHELF.to_owned();
        let application = Application { name, tenant_id, ..Application::default() };
        let Application { name, tenant_id, .. } = application.clone();
        let profile = DeviceProfile { name, tenant_id, ..DeviceProfile::default() };
        let first = Operation::CreateApplication(application);
        let second = Operation::CreateDeviceProfile(Box::new(profile));
        let queues = self.things.iter().filter_map(|(thing, _)| thing.foundation());
        for operation in [first, second].into_iter().chain(queues) {
            let calling = door(operation).ok_or("the node is not running")?;
            calling.await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// What a client draws for one call: always as many numbers.
struct Draw {
    pause: Duration,
    door: u64,
    thing: u64,
    /// In percent.
    deed: u64,
    item: u64,
    there: Duration,
    back: Duration,
    lost: bool,
}

impl Draw {
    fn of(dice: &mut Dice, pause: &Range<Duration>) -> Self {
        Self {
            pause: dice.between(pause),
            door: dice.draw(),
            thing: dice.draw(),
            deed: dice.below(100),
            item: dice.draw(),
            there: dice.between(&WAY),
            back: dice.between(&WAY),
            lost: dice.chance(LOST),
        }
    }
}

/// A number that was drawn, as a place in a list that is not empty.
fn place(drawn: u64, length: usize) -> usize {
    usize::try_from(drawn % length as u64).expect("below a usize")
}

/// One client. It has one call under way at a time.
pub(super) struct Caller<H> {
    name: String,
    number: u32,
    calls: u32,
    pause: Range<Duration>,
    dice: Dice,
    shelf: Shelf,
    doors: Vec<Door>,
    hear: H,
}

impl<H> std::fmt::Debug for Caller<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller({}, {} calls)", self.name, self.calls)
    }
}

impl<H: FnMut(HistoryEvent)> Caller<H> {
    /// The caller number `number` (from 0).
    ///
    /// * `pause`: between an answer and the next call, drawn each time.
    /// * `doors`: of all nodes, at least one; each call draws one, and goes on to the next where
    ///   nobody is behind it.
    /// * `hear`: is handed the beginning and the end of each call, when it happens.
    pub(super) fn new(
        seed: Seed,
        number: u32,
        pause: Range<Duration>,
        shelf: &Shelf,
        doors: Vec<Door>,
        hear: H,
    ) -> Self {
        assert!(!doors.is_empty(), "somebody has to be asked");
        let name = format!("caller{}", number + 1);
        let (dice, shelf) = (seed.stream(&name), shelf.clone());
        Self { name, number, calls: 0, pause, dice, shelf, doors, hear }
    }

    /// Calls until `end`, in virtual time; what is under way then comes to its end.
    pub(super) async fn run(mut self, end: Duration) {
        loop {
            let draw = Draw::of(&mut self.dice, &self.pause);
            sleep_virtual(draw.pause).await;
            if virtual_now() >= end {
                return;
            }
            self.call(&draw).await;
        }
    }

    async fn call(&mut self, draw: &Draw) {
        self.calls += 1;
        let things = Arc::clone(&self.shelf.things);
        let (thing, recent) = &things[place(draw.thing, things.len())];
        let question = self.question(thing, recent, draw);
        let mut doors = self.doors.clone();
        doors.rotate_left(place(draw.door, self.doors.len()));
        let call = CallId(u64::from(self.number) << 32 | u64::from(self.calls));
        let (client, key, at) = (self.name.clone(), thing.key(), virtual_now());
        let asked = question.clone();
        (self.hear)(HistoryEvent::Called { call, client, key, at, question: asked });
        let answer = async {
            sleep_virtual(draw.there).await;
            // Where nobody takes the call nothing comes of it.
            let calling = doors.iter().find_map(|door| door(thing.operation(&question)));
            let Some(calling) = calling else {
                return Some(errand::not_done(&question));
            };
            let reply = calling.await;
            sleep_virtual(draw.back).await;
            errand::answer(&question, reply)
        };
        let answer = MadsimRuntime::timeout(PATIENCE, answer).await.ok().flatten();
        let answer = answer.filter(|_| !draw.lost);
        (self.hear)(HistoryEvent::Returned { call, at: virtual_now(), answer });
    }

    /// What to ask. Each value is written once: by this client, with this call.
    fn question(&self, thing: &Thing, recent: &Recent, draw: &Draw) -> Question {
        let value = format!("{}.{}", self.name, self.calls);
        if !thing.is_queue() {
            return Question::Register(match draw.deed {
                0..40 => RegisterInput::Get,
                40..65 => RegisterInput::Update(value),
                65..85 => RegisterInput::Create(value),
                _ => RegisterInput::Delete,
            });
        }
        let mut recent = held(&recent.0);
        Question::Queue(match draw.deed {
            0..35 => QueueInput::List,
            35..75 => {
                if recent.len() >= RECENT_MAX {
                    recent.pop_front();
                }
                recent.push_back(value.clone());
                QueueInput::Enqueue(value)
            }
            75..90 if recent.is_empty() => QueueInput::List,
            75..90 => QueueInput::Cancel(recent[place(draw.item, recent.len())].clone()),
            _ => QueueInput::Flush,
        })
    }
}
