//! One run: a world is built, lives through its faults, comes to rest, and is judged.
//!
//! 1. *Setup*, without faults: the node founds its cluster, the operator registers everything,
//!    gateways are switched on, clients subscribe.
//! 2. *Safety*, for the scenario's `duration`: devices live by their plan, faults strike.
//! 3. *Liveness*: a core is drawn that holds a quorum; its faults are mended, all others are
//!    permanent. Within `settle` its nodes must serve, its clients have every event, and a fresh
//!    device join, be acknowledged and get a downlink within three tries (V7).
//! 4. The power is cut once more; what the event log holds then is the truth the rest is measured
//!    against.

mod accord;
mod adversary;
mod air;
mod audit;
mod caller;
mod census;
mod client;
mod counts;
mod ear;
mod field;
mod gate;
mod histories;
mod kit;
mod ledger;
mod line;
mod log;
mod machine;
#[cfg(test)]
mod many_tests;
mod meadow;
mod mote;
mod operator;
mod painter;
#[cfg(test)]
mod radio_tests;
mod record;
mod report;
mod rest;
mod rift;
mod roll;
mod scribe;
mod settings;
mod stranger;
mod strike;
#[cfg(test)]
mod tests;
mod timers;
mod witness;
#[cfg(test)]
mod witness_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lorawan::{DevEui, GatewayEui};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use openraft_rt::AsyncRuntime;
use sabotage::Bug;
use scenario::{Fault, Network, Scenario};

pub use counts::Counts;
pub use record::Record;
pub use report::Report;
pub use witness::{Carried, Personal, Root, Witness};

use crate::clocks::virtual_now;
use crate::dice::Seed;
use crate::invariants::Bounded;
use crate::net::{Net, Quality, UdpSocket};
use crate::oracle::{Fact, Setting};
use crate::plan;
use crate::runtime::{MadsimRuntime, held, machine_room, sleep_virtual, sleep_virtual_until};
use adversary::Adversary;
use caller::{Caller, Door, Shelf, Sizes, any_of, door_of};
use client::{AppClient, Doors, Part, Standing};
use ear::Ear;
use field::world_now;
use gate::Gate;
use line::Line;
use machine::{Machine, PORT_GATEWAYS, PORT_MQTT};
use meadow::Meadow;
use mote::Mote;
use operator::Operator;
use rift::Laid;
use stranger::Stranger;

/// How long the setup may take before the run is called off.
const SETUP_MAX: Duration = Duration::from_secs(60);

/// Latency with which every window can be met: there and back it takes less than the time that the
/// node leaves a gateway.
const LATENCY_MAX: Duration = Duration::from_millis(20);

/// What S21 watches. Clients of one node stay with it.
fn bounds(scenario: &Scenario) -> Bounded {
    let roaming = if scenario.nodes.count > 1 { scenario.clients.count as usize } else { 0 };
    Bounded::new(scenario.bounds.memory_mib.into(), roaming)
}

/// Runs a scenario with a seed. Call it once in a process: a panic inside is a violation.
///
/// * `bug`: is planted while it runs.
pub fn run(scenario: &Scenario, seed: u64, bug: Option<Bug>, record: &Record) -> Report {
    let _planted = bug.map(sabotage::plant);
    let (story, told) = (scenario.clone(), record.clone());
    let panics = Panics::listen();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        tracing::subscriber::with_default(Ear::new(record), || {
            machine_room(seed).block_on(async move { tell(story, Seed(seed), told).await });
        });
    }));
    if ended.is_err() {
        let text = panics.heard();
        record.overhear("a node", "panic", text.as_bytes());
        record.violate_at_end("S22", format!("panic: {text}"));
    }
    drop(panics);
    record.report(&scenario.title, seed)
}

/// Keeps what a panic says, instead of printing it over the trace.
struct Panics(Arc<Mutex<Option<String>>>);

impl Panics {
    fn listen() -> Self {
        let heard = Arc::new(Mutex::new(None));
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
    machines: Vec<Machine>,
    operator: Operator,
    meadow: Meadow,
    adversary: Adversary,
    stranger: Stranger,
    devices: Vec<(String, DevEui, Root)>,
    gateways: Vec<(String, GatewayEui)>,
    hosts: BTreeMap<String, NodeId>,
    clients: Vec<(String, Standing)>,
    shelf: Option<Shelf>,
    /// Faults in force, by the number of the task that began them.
    active: Mutex<BTreeMap<usize, Fault>>,
    /// What those have done to links.
    laid: Mutex<BTreeMap<usize, Laid>>,
    bounded: Mutex<Bounded>,
}

async fn tell(scenario: Scenario, seed: Seed, record: Record) {
    record.tell(Fact::Begins(setting(&scenario)));
    let mut world = World::new(scenario, seed, &record);
    let setup = world.set_up();
    let limit = MadsimRuntime::timeout(SETUP_MAX, setup);
    match limit.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return record.unmet(format!("the setup failed: {why}")),
        Err(_) => return record.unmet(format!("the setup took longer than {SETUP_MAX:?}")),
    }
    let world = Arc::new(world);
    for machine in &world.machines {
        held(&world.bounded).set_up(machine.name(), census::tasks_of(machine));
    }
    world.suffer().await;
    let core = world.come_to_rest().await;
    world.judge(&core).await;
}

/// What the scenario is like when nothing is wrong.
fn setting(scenario: &Scenario) -> Setting {
    let Scenario { network, gateways, .. } = scenario;
    let shares = [network.loss, gateways.late_share, gateways.tx_refused];
    let doubtful = network.corrupt.0 > 0.0 || gateways.twins > 0;
    let rough = shares.iter().any(|share| share.0 > 0.0)
        || doubtful
        || network.latency.0.end > LATENCY_MAX
        || network.mtu.is_some()
        || network.bandwidth.is_some()
        || !scenario.link.is_empty();
    Setting {
        region: kit::region(scenario),
        nonces_rise: scenario.devices.version == scenario::DeviceVersion::V1_0_4,
        resets: scenario.devices.skip_fcnt_check,
        rough,
        doubtful,
        calm: scenario.bounds.calm.0,
    }
}

/// The scenario's links, as the network takes them.
fn quality(network: &Network) -> Quality {
    let mut quality = Quality {
        latency: network.latency.0.clone(),
        loss: network.loss.0,
        duplicate: network.duplicate.0,
        corrupt: network.corrupt.0,
        bandwidth: network.bandwidth,
        in_flight: network.queue as usize,
        ..Quality::default()
    };
    if let Some(mtu) = network.mtu {
        quality.mtu = mtu as usize;
    }
    quality
}

impl World {
    fn new(scenario: Scenario, seed: Seed, record: &Record) -> Self {
        let net = Net::start();
        net.set_quality(quality(&scenario.network));
        let count = u8::try_from(scenario.nodes.count).unwrap_or(u8::MAX);
        let machines: Vec<Machine> =
            (0..count).map(|place| Machine::new(&scenario, seed, place, record)).collect();
        let motes: Vec<Mote> = (0..scenario.devices.count)
            .map(|place| Mote::new(&scenario, seed, place, record))
            .chain([Mote::probe(&scenario, seed, record)])
            .collect();
        let devices =
            motes.iter().map(|mote| (mote.name.clone(), mote.dev_eui(), mote.root())).collect();
        let meadow = Meadow::new(&scenario, motes, record);
        let operator = Operator::new(&machines, record);
        let hosts = machines.iter().map(|one| (one.name().to_owned(), one.id())).collect();
        let ways_in = machines.iter().map(|one| one.socket(PORT_GATEWAYS)).collect();
        let adversary = Adversary::new(&scenario, seed, ways_in, record);
        Self {
            seed,
            record: record.clone(),
            net,
            machines,
            operator,
            meadow,
            adversary,
            stranger: Stranger::new(),
            devices,
            gateways: gateways(&scenario),
            hosts,
            clients: Vec::new(),
            shelf: None,
            active: Mutex::default(),
            laid: Mutex::default(),
            bounded: Mutex::new(bounds(&scenario)),
            scenario,
        }
    }

    /// Waits until every one of some nodes serves.
    ///
    /// * Errors: the first that does not within `limit`.
    async fn serve_within(
        &self,
        limit: Duration,
        is_meant: impl Fn(&Machine) -> bool,
    ) -> Result<(), String> {
        let end = virtual_now() + limit;
        for machine in self.machines.iter().filter(|machine| is_meant(machine)) {
            let left = end.saturating_sub(virtual_now());
            if !self.operator.of(machine).ready_within(left).await {
                return Err(format!("{} does not serve", machine.name()));
            }
        }
        Ok(())
    }

    /// Registers everything once more, at a cluster that has been founded anew.
    async fn provision_again(&self) -> Result<(), String> {
        self.serve_within(SETUP_MAX, |_| true).await?;
        self.record.introduce_cluster(self.operator.cluster().await?);
        let version = self.scenario.devices.version;
        self.operator.provision(&self.gateways, &self.devices, version).await?;
        for (name, standing) in &self.clients {
            standing.set_account(self.operator.account(name, standing.part()).await?);
        }
        Ok(())
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
        self.tap();
        self.machines.iter().for_each(Machine::start);
        self.serve_within(SETUP_MAX, |_| true).await?;
        self.record.introduce_cluster(self.operator.cluster().await?);
        let version = self.scenario.devices.version;
        self.operator.provision(&self.gateways, &self.devices, version).await?;
        self.meadow.start();
        for (place, gateway) in (0..).zip(self.gateways.clone()) {
            self.switch_on(place, gateway).await?;
        }
        for place in 0..self.scenario.clients.total() {
            self.bring_in_client(place).await?;
        }
        self.prepare_shelf().await?;
        for (place, face) in (0..).zip(self.adversary.faces(&self.gateways)) {
            self.let_in_adversary(place, face).await?;
        }
        self.let_in_stranger()?;
        self.differ();
        while !self.clients.iter().all(|(_, standing)| standing.is_subscribed()) {
            sleep_virtual(Duration::from_millis(50)).await;
        }
        for machine in &self.machines {
            madsim::task::spawn(machine.clone().supervise());
            let (machine, operator) = (machine.clone(), self.operator.of(machine));
            let count = census::count_datagrams(machine, operator, self.record.clone());
            madsim::task::spawn(count);
        }
        for machine in &self.machines {
            let (machine, operator) = (machine.clone(), self.operator.of(machine));
            madsim::task::spawn(log::audit(machine.clone(), operator.clone(), self.record.clone()));
            madsim::task::spawn(roll::watch(machine, operator));
        }
        Ok(())
    }

    /// Shows the notebook what leaves the nodes.
    fn tap(&self) {
        let lanes: BTreeMap<NodeId, String> =
            self.machines.iter().map(|one| (one.id(), one.name().to_owned())).collect();
        let gateways = self.machines.iter().map(|one| one.socket(PORT_GATEWAYS));
        let gateways: BTreeSet<SocketAddr> = gateways.collect();
        let (record, adversary) = (self.record.clone(), self.adversary.clone());
        let (ear, writers, stranger) = (self.record.clone(), lanes.clone(), self.stranger.clone());
        self.net.set_stream_tap(Box::new(move |sent| {
            if let Some(lane) = writers.get(&sent.node) {
                ear.look(lane, &format!("stream {}>{}", sent.from, sent.to), sent.payload);
                stranger.overhear(&sent);
            }
        }));
        for machine in &self.machines {
            let (ear, name) = (self.record.clone(), machine.name().to_owned());
            machine.disk().set_tap(Box::new(move |bytes| ear.look(&name, "disk", bytes)));
        }
        self.net.set_tap(Box::new(move |sent| match lanes.get(&sent.node) {
            Some(lane) => record.datagram(lane, &sent),
            None => {
                if gateways.contains(&sent.to) {
                    record.pushed(&sent);
                }
                adversary.overhear(&sent);
            }
        }));
    }

    /// Single links that are not like the rest.
    fn differ(&self) {
        for link in &self.scenario.link {
            let (Some(&from), Some(&to)) = (self.hosts.get(&link.from), self.hosts.get(&link.to))
            else {
                continue;
            };
            let change = |quality: &mut Quality| {
                let share = |value: Option<scenario::Share>, default: f64| {
                    value.map_or(default, |share| share.0)
                };
                quality.loss = share(link.loss, quality.loss);
                quality.duplicate = share(link.duplicate, quality.duplicate);
                quality.corrupt = share(link.corrupt, quality.corrupt);
                if let Some(latency) = &link.latency {
                    quality.latency = latency.0.clone();
                }
                quality.bandwidth = link.bandwidth.or(quality.bandwidth);
                quality.mtu = link.mtu.map_or(quality.mtu, |mtu| mtu as usize);
                quality.in_flight = link.queue.map_or(quality.in_flight, |queue| queue as usize);
            };
            self.net.change_link(from, to, change);
            if link.both != Some(false) {
                self.net.change_link(to, from, change);
            }
        }
    }

    async fn switch_on(&mut self, place: u32, gateway: (String, GatewayEui)) -> Result<(), String> {
        let (id, address) = self.host(&gateway.0, 1, place);
        self.record.introduce_gateway(address, gateway.1);
        let sockets = bind_two(id).await?;
        let (named, host) = ((place, gateway.0.as_str()), (id, sockets));
        let line = Line::new(&self.scenario, self.seed, named, host, &self.machines);
        let who = (place, gateway.0, gateway.1);
        self.meadow.add(Gate::new(&self.scenario, self.seed, who, line, world_now()));
        Ok(())
    }

    /// A host of the adversary's, which pretends to be a gateway.
    async fn let_in_adversary(&mut self, place: u32, face: GatewayEui) -> Result<(), String> {
        let (id, address) = self.host(&format!("adv{}", place + 1), 9, place);
        self.record.introduce_gateway(address, face);
        self.adversary.move_in(face, address, bind_two(id).await?);
        Ok(())
    }

    /// A host of somebody who does not know the cookie, where there are doors to knock at.
    fn let_in_stranger(&mut self) -> Result<(), String> {
        if self.machines.len() < 2 {
            return Ok(());
        }
        let (id, _) = self.host("stranger", 8, 0);
        let door = |one: &Machine| (one.name().to_owned(), one.socket(settings::PORT_PEERS));
        let doors = self.machines.iter().map(door).collect();
        let host = Handle::current().get_node(id).ok_or("a host that was built is there")?;
        host.spawn(self.stranger.clone().knock(self.seed, doors, self.record.clone()));
        Ok(())
    }

    async fn bring_in_client(&mut self, place: u32) -> Result<(), String> {
        let name = format!("app{}", place + 1);
        let part = Part::of(&self.scenario.clients, place);
        let account = self.operator.account(&name, part).await?;
        let (id, _) = self.host(&name, 2, place);
        let servers = self.machines.iter().map(|one| one.socket(PORT_MQTT)).collect();
        let doors = Doors::new(self.seed, place, servers, self.scenario.clients.anywhere);
        let way_in = (doors, account);
        let devices = self.devices.iter().take(self.scenario.devices.count as usize);
        let devices: Vec<_> = devices.map(|(_, dev_eui, _)| *dev_eui).collect();
        let (scenario, seed) = (&self.scenario, self.seed);
        let client = AppClient::new(scenario, seed, place, way_in, &devices, &self.record);
        self.clients.push((name, client.standing()));
        let host = Handle::current().get_node(id).ok_or("a host that was built is there")?;
        host.spawn(client.run());
        Ok(())
    }

    /// The safety phase: the workload runs and everything planned strikes, each fault by a task
    /// of its own.
    async fn suffer(self: &Arc<Self>) {
        let begin = virtual_now();
        self.record.begins();
        self.meadow.begin(&self.scenario.devices.joins_at);
        let end = begin + self.scenario.duration.0;
        self.queue_downlinks(end);
        self.let_call(end);
        for (number, fault) in plan::pin(&self.scenario, self.seed).into_iter().enumerate() {
            let world = Arc::clone(self);
            madsim::task::spawn(async move { world.endure(number, fault, begin).await });
        }
        sleep_virtual_until(end).await;
    }

    /// The callers of the API begin, and call until `end`.
    fn let_call(&self, end: Duration) {
        let Some(shelf) = &self.shelf else { return };
        for number in 0..self.scenario.callers.count {
            let record = self.record.clone();
            let hear = move |event| record.called(event);
            let pause = self.scenario.callers.every.0.clone();
            let caller = Caller::new(self.seed, number, pause, shelf, self.doors(), hear);
            madsim::task::spawn(caller.run(end));
        }
    }

    /// The doors of all nodes.
    fn doors(&self) -> Vec<Door> {
        let door = |machine: Machine| door_of(move || machine.node());
        self.machines.iter().cloned().map(door).collect()
    }

    /// Puts the things that callers ask about on their shelf.
    async fn prepare_shelf(&mut self) -> Result<(), String> {
        if self.scenario.callers.count == 0 {
            return Ok(());
        }
        let each = u8::try_from(self.scenario.callers.keys).unwrap_or(u8::MAX);
        let (devices, gateways, applications, queues) = (each, each, each, each);
        let shelf = Shelf::new(Sizes { devices, gateways, applications, queues });
        shelf.prepare(&any_of(self.doors())).await?;
        self.shelf = Some(shelf);
        Ok(())
    }

    fn queue_downlinks(&self, end: Duration) {
        let Some(every) = self.scenario.workload.downlink_every.clone() else { return };
        for (name, dev_eui, _) in self.devices.iter().take(self.scenario.devices.count as usize) {
            let (operator, dev_eui, every) = (self.operator.clone(), *dev_eui, every.clone());
            let cancel = self.scenario.workload.cancel.0;
            let mut dice = self.seed.stream(&format!("downlinks {name}"));
            madsim::task::spawn(async move {
                for number in 1.. {
                    sleep_virtual(dice.between(&every.0)).await;
                    if virtual_now() >= end {
                        return;
                    }
                    operator.enqueue(dev_eui, number, cancel, &mut dice).await;
                }
            });
        }
    }
}

/// The two sockets that a packet forwarder has, on a host.
async fn bind_two(id: NodeId) -> Result<[Arc<UdpSocket>; 2], String> {
    let host = Handle::current().get_node(id).ok_or("a host that was built is there")?;
    let bind = host.spawn(async {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Ok::<_, std::io::Error>([UdpSocket::bind(any)?, UdpSocket::bind(any)?].map(Arc::new))
    });
    let sockets = bind.await.map_err(|error| error.to_string())?;
    sockets.map_err(|error| error.to_string())
}

/// Names and EUIs of the gateways; twins have the EUI of the first.
fn gateways(scenario: &Scenario) -> Vec<(String, GatewayEui)> {
    (0..scenario.gateways.total())
        .map(|place| {
            let own = if place < scenario.gateways.count { u64::from(place) } else { 0 };
            let eui = GatewayEui::from_be_bytes((0xAA55_5A00_0000_0001 + own).to_be_bytes());
            (format!("gw{}", place + 1), eui)
        })
        .collect()
}
