//! The field as the rest of the world holds it: one task lives its moments, one for each socket of
//! a gateway receives, and every method is a change from outside at this moment.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clock::Instant;
use madsim::task::NodeId;
use openraft_rt::{AsyncRuntime, Watch as _, WatchReceiver as _, WatchSender as _};
use radio::Socket;
use scenario::{Scenario, SpanRange};

use super::field::{Field, world_now};
use super::gate::{Gate, Trouble};
use super::mote::{Mote, Order, Outcomes};
use super::record::Record;
use crate::runtime::{MadsimRuntime, Watch, WatchReceiver, WatchSender, held, sleep_virtual_until};

/// The field, and the moment its task sleeps until.
struct Ground {
    field: Field,
    wakes_at: Option<Instant>,
}

/// The field as the rest of the world holds it. Clones are the same.
#[derive(Clone)]
pub(super) struct Meadow {
    ground: Arc<Mutex<Ground>>,
    wake: Arc<Mutex<WatchSender<u64>>>,
    woken: WatchReceiver<u64>,
}

impl Meadow {
    /// A field of devices, without gateways yet.
    pub(super) fn new(scenario: &Scenario, motes: Vec<Mote>, record: &Record) -> Self {
        let hear = (scenario.gateways.hears.0, scenario.devices.hears.0);
        let field = Field::new(motes, hear, record);
        let (wake, woken) = Watch::channel(0);
        let ground = Arc::new(Mutex::new(Ground { field, wakes_at: None }));
        Self { ground, wake: Arc::new(Mutex::new(wake)), woken }
    }

    /// Drives the field for ever.
    pub(super) fn start(&self) {
        let meadow = self.clone();
        madsim::task::spawn(async move { meadow.run().await });
    }

    async fn run(mut self) {
        loop {
            let next = {
                let mut ground = held(&self.ground);
                ground.wakes_at = ground.field.step(world_now());
                ground.wakes_at
            };
            let sleep = async {
                match next {
                    Some(at) => sleep_virtual_until(Duration::from_micros(at.as_micros())).await,
                    None => std::future::pending().await,
                }
            };
            let _ = MadsimRuntime::select2(self.woken.changed(), sleep).await;
        }
    }

    /// Changes the field now. Its task is woken only if something is due earlier than before.
    fn with<T>(&self, change: impl FnOnce(&mut Field, Instant) -> T) -> T {
        let (result, earlier) = {
            let mut ground = held(&self.ground);
            let result = change(&mut ground.field, world_now());
            let (due, wakes_at) = (ground.field.due(), ground.wakes_at);
            let earlier = due.is_some_and(|due| wakes_at.is_none_or(|at| due < at));
            (result, earlier)
        };
        if earlier {
            held(&self.wake).send_if_modified(|count| {
                *count += 1;
                true
            });
        }
        result
    }

    /// Adds a gateway and lets it receive.
    pub(super) fn add(&self, gate: Gate) {
        let sockets = gate.sockets();
        let place = self.with(|field, now| field.add(now, gate));
        for (socket, kind) in sockets.into_iter().zip([Socket::Up, Socket::Down]) {
            let meadow = self.clone();
            madsim::task::spawn(async move {
                while let Ok((bytes, from)) = socket.recv_from().await {
                    let way = (kind, from);
                    meadow.with(|field, now| field.receive(now, place, way, &bytes));
                }
            });
        }
    }

    /// The run begins: devices with a plan begin to live by it.
    pub(super) fn begin(&self, joins_at: &SpanRange) {
        self.with(|field, now| field.begin(now, joins_at));
    }

    /// Changes what is wrong with a gateway.
    pub(super) fn trouble(&self, place: usize, change: impl FnOnce(&mut Trouble)) {
        self.with(|field, now| field.trouble(now, place, change));
    }

    /// A gateway's concentrator restarts.
    pub(super) fn reset_counter(&self, place: usize) {
        self.with(|field, now| field.reset_counter(now, place));
    }

    /// A gateway's sockets are moved to other nodes.
    pub(super) fn hop(&self, place: usize) {
        self.with(|field, now| field.hop(now, place));
    }

    /// A device restarts.
    pub(super) fn reboot(&self, place: usize, memory_lost: bool) {
        self.with(|field, now| field.reboot(now, place, memory_lost));
    }

    /// Every device joins anew, each within a time.
    pub(super) fn join_storm(&self, within: Duration) {
        self.with(|field, now| field.join_storm(now, within));
    }

    /// Ends all plans, and lets everybody hear everything from now on; gateways speak to nodes of
    /// `core` alone.
    pub(super) fn rest(&self, core: &BTreeSet<NodeId>) {
        self.with(|field, now| field.rest(now, core));
    }

    /// Whether any device has an exchange under way.
    pub(super) fn is_busy(&self) -> bool {
        held(&self.ground).field.is_busy()
    }

    /// Tells a device to do something, unless it is busy.
    pub(super) fn order(&self, place: usize, order: Order) {
        self.with(|field, now| field.order(now, place, order));
    }

    /// Whether a device has an exchange under way, and what it has reached so far.
    pub(super) fn look(&self, place: usize) -> (bool, Outcomes) {
        held(&self.ground).field.look(place)
    }
}
