//! A machine with a node on it: boots it, cuts its power, kills it, and notices when it fails.
//!
//! The disk and the outside belong to the machine and outlive every boot. A node that says that it
//! cannot go on is started again, as a supervisor would; unless a fault has asked for it, that is
//! a violation all the same.

mod standing;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::service::{self, Ended};
use madsim::runtime::Handle;
use madsim::task::NodeId;
use openraft_rt::AsyncRuntime;
use sabotage::Bug;
use scenario::Scenario;

use self::standing::{Lone, Standing};
use super::ledger::Clerk;
use super::record::Record;
use super::scribe::Scribe;
use super::settings;
use crate::clocks::Clocks;
use crate::dice::Seed;
use crate::disk::{Disk, Image, Speed};
use crate::marks::Mark;
use crate::net::{Death, Net};
use crate::oracle::{Fact, RaftStep};
use crate::outside::{Outside, Store};
use crate::runtime::{MadsimRuntime, held, sleep_virtual};
use crate::sometimes;

/// Where nodes take gateways.
pub(super) const PORT_GATEWAYS: u16 = 1_700;
/// Where nodes take MQTT clients.
pub(super) const PORT_MQTT: u16 = 1_883;
/// Pause before a node that failed is started again.
const SUPERVISOR_PAUSE: Duration = Duration::from_secs(2);
/// How often the supervisor looks.
const SUPERVISOR_LOOKS: Duration = Duration::from_millis(500);
/// What a disk answers whose machine has no power.
const NO_POWER: &str = "the machine has died";
/// How long a node may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What a process that ends in order takes to close its files.
const CLOSES_FILES: Duration = Duration::from_millis(1);

/// The way to a node.
pub(super) type NodeHandle = service::Handle<Outside>;

#[derive(Default)]
struct Boot {
    up: bool,
    /// It stands still.
    paused: bool,
    number: u32,
    handle: Option<NodeHandle>,
    failed: bool,
    /// Failures that faults have asked for and that have not come yet.
    excused: u32,
    /// Its disk holds what nobody wrote: it may fail as often as it notices.
    rotten: bool,
    /// Rotten bytes it had read when the rot began; none once they may have gone further.
    rotten_read: Option<u64>,
    misdirected: bool,
    /// The node has stopped while its disk held what nobody wrote.
    damaged: bool,
    /// What the node is to its cluster.
    standing: Standing,
    /// It was told that it is no member any more, and has stopped.
    removed: bool,
    /// It is started again when its data is set aside.
    returns: bool,
    /// What comes after that.
    lone: Lone,
    /// What was durable at each power cut, for a planted bug.
    images: Vec<Image>,
}

pub(super) struct Inner {
    pub(super) name: String,
    id: NodeId,
    pub(super) address: IpAddr,
    pub(super) scenario: Scenario,
    pub(super) seed: Seed,
    disk: Disk,
    outside: Outside,
    pub(super) record: Record,
    boot: Mutex<Boot>,
}

/// A machine. Clones are the same.
#[derive(Clone)]
pub(super) struct Machine(Arc<Inner>);

impl Machine {
    /// The machine number `place` (from 0), switched off.
    pub(super) fn new(scenario: &Scenario, seed: Seed, place: u8, record: &Record) -> Self {
        let name = format!("n{}", place + 1);
        let id = Handle::current().create_node().name(name.clone()).build().id();
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, place + 1));
        Net::current().attach(id, address);
        record.guard("the cookie", &seed.bytes("cookie"));
        Self(Arc::new(Inner {
            disk: Disk::new(seed, &name, speed(scenario)),
            outside: Outside::new(seed, id, &name)
                .overseen_by(Arc::new(Scribe::new(&name, record))),
            name,
            id,
            address,
            scenario: scenario.clone(),
            seed,
            record: record.clone(),
            boot: Mutex::default(),
        }))
    }

    /// As scenarios call it.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Its host on the network.
    pub(super) fn id(&self) -> NodeId {
        self.0.id
    }

    /// Its disk.
    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// Where one of its ports is.
    pub(super) fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.0.address, port)
    }

    /// The way to the node, while one runs.
    pub(super) fn node(&self) -> Option<NodeHandle> {
        held(&self.0.boot).handle.clone()
    }

    /// Whether the process stands still.
    pub(super) fn is_paused(&self) -> bool {
        held(&self.0.boot).paused
    }

    /// Whether its node leads the cluster, as far as that node knows.
    pub(super) fn leads(&self) -> bool {
        self.node().is_some_and(|node| node.leads())
    }

    /// Which boot this is, from 1.
    pub(super) fn boot_number(&self) -> u32 {
        held(&self.0.boot).number
    }

    /// The next failure of the node has a reason.
    fn excuse(&self) {
        held(&self.0.boot).excused += 1;
    }

    /// The next fsync fails, and the node with it.
    pub(super) fn fail_fsync(&self) {
        self.excuse();
        self.0.disk.fail_next_sync();
    }

    /// Bits of old data turn; what the node does about it, it may do.
    pub(super) fn rot(&self, bits: u32, older: Duration) {
        let before = self.0.disk.tally().rotten_read;
        let turned = self.0.disk.rot(bits, older);
        {
            let mut boot = held(&self.0.boot);
            boot.rotten_read = if boot.rotten { None } else { Some(before) };
            boot.rotten |= turned > 0;
        }
        self.0.record.note(&self.0.name, &format!("{turned} bits have rotted"));
    }

    /// A mirror mends what has rotted where it has rotted. What has been read meanwhile may have
    /// been written again elsewhere, as if it were right.
    pub(super) fn scrub(&self) {
        self.0.disk.scrub();
        let read = self.0.disk.tally().rotten_read;
        let mut boot = held(&self.0.boot);
        boot.rotten &= boot.rotten_read != Some(read);
    }

    /// The next write goes to another place.
    pub(super) fn misdirect_write(&self) {
        self.0.disk.misdirect_next_write();
        held(&self.0.boot).misdirected = true;
        // Where one disk is all there is, what the write overwrites, and what it should have
        // written, may be lost without anybody being able to know.
        self.disk_lost("the next write goes astray", false);
    }

    /// Its disk may hold what nobody wrote.
    pub(super) fn is_doubtful(&self) -> bool {
        let boot = held(&self.0.boot);
        boot.rotten || boot.misdirected
    }

    /// That has stopped the node: with one disk there may be nothing that it could go on with.
    pub(super) fn is_damaged(&self) -> bool {
        held(&self.0.boot).damaged
    }

    /// Starts the node, if it is not running.
    pub(super) fn start(&self) {
        let number = {
            let mut boot = held(&self.0.boot);
            if boot.up {
                return;
            }
            boot.up = true;
            boot.paused = false;
            boot.failed = false;
            boot.number += 1;
            boot.number
        };
        let inner = &self.0;
        let fact = Fact::Started { node: inner.name.clone() };
        inner.record.fact(&inner.name, &format!("boot {number}"), fact);
        let handle = Handle::current();
        if number > 1 {
            inner.record.count(|counts| counts.restarts += 1);
            handle.restart(inner.id);
        }
        let machine = self.clone();
        let node = handle.get_node(inner.id).expect("the machine was built with its node");
        node.spawn(async move { machine.run().await });
    }

    async fn run(self) {
        let inner = &self.0;
        let (refused_before, deaths_before) = (inner.disk.tally().refused, inner.disk.deaths());
        if self.is_alone() {
            return self.run_alone().await;
        }
        let started = async {
            let clerk = Arc::new(Clerk::new(&inner.name, &inner.record));
            let disk = Store::open(inner.disk.clone(), Some(clerk)).await;
            let disk = disk.map_err(|error| error.to_string())?;
            let settings = settings::of(inner);
            let started = service::start(inner.outside.clone(), disk, settings).await;
            started.map_err(|error| error.to_string())
        };
        let (text, no_room) = match started.await {
            Ok(handle) => {
                held(&inner.boot).handle = Some(handle.clone());
                let ended = handle.ended().await;
                if ended == Ended::Removed && self.is_going() {
                    return self.end_as_removed(handle).await;
                }
                (handle.failed().await, false)
            }
            // A node that finds no room when it starts says so and ends; whoever started it tries
            // again. One that runs must live on.
            Err(text) => {
                let no_room = inner.disk.tally().refused > refused_before;
                (format!("does not start: {text}"), no_room)
            }
        };
        {
            let mut boot = held(&inner.boot);
            boot.failed = true;
            boot.handle = None;
            boot.damaged |= boot.rotten || boot.misdirected;
        }
        let excused = self.excuses(&text, deaths_before) || no_room;
        self.down(&format!("failed: {text}"));
        sometimes!(inner.record, Mark::StoppedByRot, held(&inner.boot).rotten);
        if !excused {
            inner.record.violate("S22", format!("{} failed without a reason: {text}", inner.name));
        }
    }

    /// Whether a fault has asked for a failure, once, or the disk explains it.
    ///
    /// * `deaths_before`: how often who used the disk had died when it began.
    fn excuses(&self, text: &str, deaths_before: u64) -> bool {
        // Power went within a write: the disk knows it a moment before the node is ended.
        let unpowered = text.contains(NO_POWER) || self.0.disk.deaths() > deaths_before;
        let mut boot = held(&self.0.boot);
        let told = boot.excused > 0;
        boot.excused = boot.excused.saturating_sub(1);
        told || boot.rotten || boot.misdirected || unpowered
    }

    /// Starts the node again when it has failed.
    pub(super) async fn supervise(self) {
        loop {
            sleep_virtual(SUPERVISOR_LOOKS).await;
            if held(&self.0.boot).failed {
                sleep_virtual(SUPERVISOR_PAUSE).await;
                self.kill();
                self.start();
            }
            if held(&self.0.boot).removed {
                self.set_aside().await;
            }
        }
    }

    /// Cuts the machine's power, if it is on.
    pub(super) fn power_cut(&self) {
        if held(&self.0.boot).up {
            let before = self.0.disk.tally();
            // Before the tasks die, or destructors would write to a disk without power.
            self.0.disk.power_cut();
            let after = self.0.disk.tally();
            sometimes!(self.0.record, Mark::TornWrite, after.torn > before.torn);
            sometimes!(self.0.record, Mark::LostWrite, after.lost > before.lost);
            self.turn_back();
            self.end("power cut");
        }
    }

    /// Power went at a write: the disk knows, the node must follow.
    pub(super) fn lost_power(&self) {
        if held(&self.0.boot).up {
            self.end("power cut at a write");
        }
    }

    /// The planted bug: the second cut brings the disk of the first.
    fn turn_back(&self) {
        if !sabotage::planted(Bug::StaleDisk) {
            return;
        }
        let mut boot = held(&self.0.boot);
        boot.images.push(self.0.disk.image());
        if boot.images.len() == 2 {
            self.0.disk.restore(&boot.images[0]);
        }
    }

    /// Kills the process, if it runs.
    pub(super) fn kill(&self) {
        if held(&self.0.boot).up {
            self.0.disk.process_died();
            Net::current().announce_death(self.0.id, Death::Process);
            self.end("killed");
        }
    }

    fn end(&self, how: &str) {
        crate::runtime::kill(self.0.id);
        self.down(how);
        let handle = {
            let mut boot = held(&self.0.boot);
            sometimes!(self.0.record, Mark::CutWhileRecovering, boot.handle.is_none());
            boot.up = false;
            boot.failed = false;
            boot.removed = false;
            boot.lone.leave();
            boot.handle.take()
        };
        drop(handle);
    }

    /// Asks the process to stop and waits until it has, if it runs; it is not started again by
    /// itself.
    pub(super) async fn stop(&self) {
        let Some(node) = self.node() else { return };
        self.0.record.note(&self.0.name, "stops");
        let boot = self.boot_number();
        // A node that does not end in time is killed, as a service manager would.
        let in_order = MadsimRuntime::timeout(STOP_PATIENCE, node.stop()).await.is_ok();
        drop(node);
        if in_order && held(&self.0.boot).up && self.boot_number() == boot {
            held(&self.0.boot).handle = None;
            crate::runtime::kill(self.0.id);
            sleep_virtual(CLOSES_FILES).await;
        }
        if self.boot_number() == boot {
            self.kill();
        }
    }

    /// The process stands still; with `frozen` its clocks do too.
    pub(super) fn pause(&self, frozen: bool) {
        self.down(if frozen { "suspended" } else { "paused" });
        held(&self.0.boot).paused = true;
        if frozen {
            Clocks::current().freeze(self.0.id);
        }
        Handle::current().pause(self.0.id);
    }

    /// It goes on.
    pub(super) fn resume(&self) {
        let fact = Fact::Started { node: self.0.name.clone() };
        self.0.record.fact(&self.0.name, "goes on", fact);
        held(&self.0.boot).paused = false;
        Clocks::current().thaw(self.0.id);
        Handle::current().resume(self.0.id);
    }

    /// Cuts the power and empties the disk.
    pub(super) fn wipe(&self) {
        self.power_cut();
        self.0.disk.wipe();
        self.0.outside.forget();
        let (node, step) = (self.0.name.clone(), RaftStep::Wiped);
        self.0.record.tell(Fact::Raft { node, step });
        self.disk_lost("the disk is empty", true);
        self.lose_place();
    }

    /// What the disk kept is lost. Everybody must know once a majority of the nodes has lost its
    /// own at some time: before, others have all of it.
    fn disk_lost(&self, how: &str, wiped: bool) {
        let inner = &self.0;
        let lost = inner.record.lose_disk(&inner.name, wiped);
        if lost.len() * 2 <= inner.scenario.nodes.count as usize {
            return inner.record.note(&inner.name, how);
        }
        for node in lost {
            inner.record.fact(&node, how, Fact::DiskLost { node: node.clone(), wiped });
        }
    }

    /// Cuts the power; what starts next is another machine, with a copy of the disk.
    pub(super) fn replace(&self) {
        self.power_cut();
        self.0.record.note(&self.0.name, "another machine, with a copy of the disk");
        let image = self.0.disk.image();
        self.0.disk.wipe();
        self.0.disk.restore(&image);
        held(&self.0.boot).rotten_read = None;
    }

    fn down(&self, how: &str) {
        let fact = Fact::Down { node: self.0.name.clone() };
        self.0.record.fact(&self.0.name, how, fact);
    }

    /// Moves its wall clock.
    pub(super) fn jump(&self, micros: i64) {
        self.0.record.note(&self.0.name, &format!("clock jumps by {micros} us"));
        Clocks::current().jump(self.0.id, micros);
    }

    /// Sets the rate of its clocks.
    pub(super) fn drift(&self, ppm: i32) {
        self.0.record.note(&self.0.name, &format!("clock drifts by {ppm} ppm"));
        Clocks::current().drift(self.0.id, ppm);
    }
}

/// The scenario's disk, as the simulated one takes it.
fn speed(scenario: &Scenario) -> Speed {
    let disk = &scenario.disk;
    Speed {
        usual: disk.fsync.0.clone(),
        slow_share: disk.slow_share.0,
        slow: disk.slow.0.clone(),
        stall_share: disk.stall_share.0,
        stall: disk.stall.0.clone(),
    }
}
