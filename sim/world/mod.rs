//! One run: a world is built, lives through its faults, comes to rest, and is judged.
//!
//! 1. *Setup*, without faults: the node founds its cluster, the operator registers everything,
//!    gateways are switched on, clients subscribe.
//! 2. *Safety*, for the scenario's `duration`: devices live by their plan, faults strike.
//! 3. *Liveness*: no more faults, a faultless network and air. Within `settle` the node must
//!    serve, every client have every event, and a fresh device join, be acknowledged and get a
//!    downlink within three tries (V7).
//! 4. The power is cut once more; what the event log holds then is the truth the rest is measured
//!    against.

pub mod caller;
mod client;
mod field;
mod log;
mod machine;
mod mote;
mod operator;
mod record;
mod rest;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lorawan::{DevEui, GatewayEui};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use openraft_rt::AsyncRuntime;
use serde::{Deserialize, Serialize};

pub use record::{Counts, Record};
pub use witness::{Carried, Root, Witness};

use crate::clocks::virtual_now;
use crate::dice::Seed;
use crate::net::{Net, UdpSocket};
use crate::outside::Bug;
use crate::plan::{Action, plan};
use crate::runtime::{MadsimRuntime, held, machine_room, sleep_virtual, sleep_virtual_until};
use crate::scenario::Scenario;
use client::{AppClient, Standing};
use field::{Gate, Meadow};
use machine::{Machine, PORT_GATEWAYS, PORT_MQTT};
use mote::Mote;
use operator::Operator;

/// How long the setup may take before the run is called off.
const SETUP_MAX: Duration = Duration::from_secs(60);

/// How long an aimed fault waits for its promise.
const PROMISE_MAX: Duration = Duration::from_secs(30);

/// What came of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's title.
    pub title: String,
    /// The seed.
    pub seed: u64,
    /// Promises that did not hold: invariant and text. Exit code 2.
    pub violations: Vec<(String, String)>,
    /// What should have come about and did not. Exit code 3.
    pub unmet: Vec<String>,
    /// What came about.
    pub counts: Counts,
    /// Virtual time that passed, in seconds.
    pub simulated_s: f64,
    /// Lines of the trace.
    pub events: u64,
    /// The hash over all of it.
    pub digest: String,
}

impl Report {
    /// 0 all well, 2 a promise broken, 3 something did not come about.
    pub fn exit_code(&self) -> u8 {
        match (self.violations.is_empty(), self.unmet.is_empty()) {
            (false, _) => 2,
            (true, false) => 3,
            (true, true) => 0,
        }
    }
}

/// Runs a scenario with a seed. Call it once in a process: a panic inside is a violation.
pub fn run(scenario: &Scenario, seed: u64, bug: Bug, record: &Record) -> Report {
    let (story, told) = (scenario.clone(), record.clone());
    let panics = Panics::listen();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        machine_room(seed).block_on(async move { tell(story, Seed(seed), bug, told).await });
    }));
    if ended.is_err() {
        record.violate_at_end("S22", format!("panic: {}", panics.heard()));
    }
    drop(panics);
    let (last, events, digest) = record.closing();
    let violations = record.violations();
    Report {
        title: scenario.title.clone(),
        seed,
        violations: violations.iter().map(|v| (v.invariant.to_owned(), v.to_string())).collect(),
        unmet: record.unmet_so_far(),
        counts: record.counts(),
        simulated_s: last.as_secs_f64(),
        events,
        digest,
    }
}

/// Keeps what a panic says, instead of printing it over the trace.
struct Panics(Arc<std::sync::Mutex<Option<String>>>);

impl Panics {
    fn listen() -> Self {
        let heard = Arc::new(std::sync::Mutex::new(None));
        let ear = Arc::clone(&heard);
        std::panic::set_hook(Box::new(move |info| {
            held(&ear).get_or_insert_with(|| info.to_string());
        }));
        Self(heard)
    }

    fn heard(&self) -> String {
        let heard = held(&self.0).clone();
        heard.unwrap_or_else(|| "without a word".to_owned()).replace('\n', " ")
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            drop(std::panic::take_hook());
        }
    }
}

/// Everything a run is made of.
struct World {
    scenario: Scenario,
    seed: Seed,
    record: Record,
    net: Arc<Net>,
    machine: Machine,
    operator: Operator,
    meadow: Meadow,
    devices: Vec<(String, DevEui, Root)>,
    hosts: BTreeMap<String, NodeId>,
    clients: Vec<(String, Standing)>,
}

async fn tell(scenario: Scenario, seed: Seed, bug: Bug, record: Record) {
    let mut world = World::new(scenario, seed, bug, &record);
    let setup = world.set_up();
    let limit = MadsimRuntime::timeout(SETUP_MAX, setup);
    match limit.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return record.unmet(format!("the setup failed: {why}")),
        Err(_) => return record.unmet(format!("the setup took longer than {SETUP_MAX:?}")),
    }
    world.suffer().await;
    world.come_to_rest().await;
    world.judge().await;
}

impl World {
    fn new(scenario: Scenario, seed: Seed, bug: Bug, record: &Record) -> Self {
        let net = Net::start();
        net.set_quality(scenario.network.quality());
        let machine = Machine::new(&scenario, seed, 0, bug, record);
        let motes: Vec<Mote> = (0..scenario.devices.count)
            .map(|place| Mote::new(&scenario, seed, place, record))
            .chain([Mote::probe(&scenario, seed, record)])
            .collect();
        let devices =
            motes.iter().map(|mote| (mote.name.clone(), mote.dev_eui(), mote.root())).collect();
        let hears = (scenario.gateways.hears.0, scenario.devices.hears.0);
        let meadow = Meadow::new(seed, motes, hears, record);
        let operator = Operator::new(&machine, record);
        let hosts = BTreeMap::from([(machine.name().to_owned(), machine.id())]);
        let record = record.clone();
        let clients = Vec::new();
        Self { scenario, seed, record, net, machine, operator, meadow, devices, hosts, clients }
    }

    /// A host that is no node; `third` is the third part of its address.
    fn host(&mut self, name: &str, third: u8, place: u32) -> (NodeId, IpAddr) {
        let last = u8::try_from(place + 1).unwrap_or(u8::MAX);
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, third, last));
        let id = Handle::current().create_node().name(name).build().id();
        self.net.attach(id, address);
        self.hosts.insert(name.to_owned(), id);
        (id, address)
    }

    async fn set_up(&mut self) -> Result<(), String> {
        let lane = self.machine.name().to_owned();
        let (record, node) = (self.record.clone(), self.machine.id());
        let corrupts = self.scenario.network.corrupt.0 > 0.0;
        self.net.set_tap(Box::new(move |sent| {
            if sent.node == node {
                record.datagram(&lane, corrupts, &sent);
            }
        }));
        self.machine.start();
        if !self.operator.ready_within(SETUP_MAX).await {
            return Err("the node does not serve".to_owned());
        }
        self.record.introduce_cluster(self.operator.cluster().await?);
        let gateways: Vec<(String, GatewayEui)> = (0..self.scenario.gateways.count)
            .map(|place| {
                let eui = 0xAA55_5A00_0000_0001 + u64::from(place);
                (format!("gw{}", place + 1), GatewayEui::from_be_bytes(eui.to_be_bytes()))
            })
            .collect();
        self.operator.provision(&gateways, &self.devices).await?;
        self.meadow.start();
        for (place, gateway) in (0..).zip(gateways) {
            self.switch_on(place, gateway).await?;
        }
        for place in 0..self.scenario.clients.count {
            self.bring_in_client(place).await?;
        }
        while !self.clients.iter().all(|(_, standing)| standing.is_subscribed()) {
            sleep_virtual(Duration::from_millis(50)).await;
        }
        madsim::task::spawn(self.machine.clone().supervise());
        let (machine, operator) = (self.machine.clone(), self.operator.clone());
        madsim::task::spawn(log::audit(machine, operator, self.record.clone()));
        Ok(())
    }

    async fn switch_on(&mut self, place: u32, gateway: (String, GatewayEui)) -> Result<(), String> {
        let (id, address) = self.host(&gateway.0, 1, place);
        self.record.introduce_gateway(address, gateway.1);
        let host = Handle::current().get_node(id).ok_or("a host that was built is there")?;
        let bind = host.spawn(async {
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            Ok::<_, std::io::Error>([UdpSocket::bind(any)?, UdpSocket::bind(any)?].map(Arc::new))
        });
        let sockets = bind.await.map_err(|error| error.to_string())?;
        let sockets = sockets.map_err(|error| error.to_string())?;
        let server = self.machine.socket(PORT_GATEWAYS);
        self.meadow.add(Gate::new(self.seed, gateway, sockets, server));
        Ok(())
    }

    async fn bring_in_client(&mut self, place: u32) -> Result<(), String> {
        let name = format!("app{}", place + 1);
        let account = self.operator.account(&name).await?;
        let (id, _) = self.host(&name, 2, place);
        let server = self.machine.socket(PORT_MQTT);
        let client = AppClient::new(place, server, account, &self.record);
        self.clients.push((name, client.standing()));
        let host = Handle::current().get_node(id).ok_or("a host that was built is there")?;
        host.spawn(client.run());
        Ok(())
    }

    /// The safety phase: the workload runs and everything planned strikes.
    async fn suffer(&self) {
        let begin = virtual_now();
        self.record.note("world", "the workload begins");
        self.meadow.wake_up(&self.scenario.devices.joins_at);
        let operator = self.operator.clone();
        for (name, dev_eui, _) in self.devices.iter().take(self.scenario.devices.count as usize) {
            let Some(every) = self.scenario.workload.downlink_every.clone() else { break };
            let (operator, dev_eui) = (operator.clone(), *dev_eui);
            let mut dice = self.seed.stream(&format!("downlinks {name}"));
            let end = begin + self.scenario.duration.0;
            madsim::task::spawn(async move {
                for number in 1.. {
                    sleep_virtual(every.draw(&mut dice)).await;
                    if virtual_now() >= end {
                        return;
                    }
                    operator.enqueue(dev_eui, number, &mut dice).await;
                }
            });
        }
        let mut lag = Duration::ZERO;
        for planned in plan(&self.scenario, self.seed) {
            let due = begin + planned.at + lag;
            sleep_virtual_until(due).await;
            if let Some((promise, aim)) = planned.after {
                let promise = self.record.next_promise(promise);
                let _ = MadsimRuntime::timeout(PROMISE_MAX, promise).await;
                sleep_virtual(aim).await;
                lag += virtual_now().saturating_sub(due);
            }
            self.strike(&planned.action);
        }
        let end = begin + self.scenario.duration.0;
        if virtual_now() < end {
            sleep_virtual_until(end).await;
        }
    }

    /// Does what a fault wants. Only the first node exists as yet.
    fn strike(&self, action: &Action) {
        let disk = self.machine.disk();
        match action {
            Action::PowerCut(_) => self.machine.power_cut(),
            Action::Kill(_) => self.machine.kill(),
            Action::Start(_) => self.machine.start(),
            Action::Cut(from, to) => self.link(from, to, true),
            Action::Mend(from, to) => self.link(from, to, false),
            Action::FailFsync(_) => {
                self.machine.excuse();
                disk.fail_next_sync();
            }
            Action::FillDisk(_) => disk.set_capacity(Some(disk.used())),
            Action::FreeDisk(_) => disk.set_capacity(None),
            Action::JumpClock(_, micros) => self.machine.jump(*micros),
            Action::DriftClock(_, ppm) => self.machine.drift(*ppm),
        }
    }

    fn link(&self, from: &str, to: &str, cut: bool) {
        let (Some(&a), Some(&b)) = (self.hosts.get(from), self.hosts.get(to)) else { return };
        let verb = if cut { "cut" } else { "mended" };
        self.record.note("world", &format!("link {from} > {to} {verb}"));
        if cut {
            self.net.cut(a, b);
        } else {
            self.net.mend(a, b);
        }
    }
}
