//! What a fault does to the world when it begins, and what is undone when it ends.

use std::sync::Arc;
use std::time::Duration;

use madsim::task::NodeId;
use openraft_rt::AsyncRuntime;
use scenario::{Fault, FaultKind};

use super::World;
use super::client::Mood;
use super::gate::Trouble;
use super::machine::Machine;
use super::rift::Laid;
use crate::clocks::virtual_now;
use crate::oracle::Fact;
use crate::partition;
use crate::runtime::{MadsimRuntime, held, sleep_virtual, sleep_virtual_until};

/// How long an aimed fault waits for its promise.
const PROMISE_MAX: Duration = Duration::from_secs(30);
/// Bits that rot at a time, unless the fault says.
const ROT_BITS: u32 = 1;
/// How old data is that rots, unless the fault says.
const ROT_OLDER: Duration = Duration::from_secs(10);
/// How late a late copy or TX_ACK comes, unless the fault says.
const DELAY: std::ops::Range<Duration> = Duration::from_millis(200)..Duration::from_secs(30);

impl World {
    /// The life of one fault: `number` tells it from the others, `begin` is when the run began.
    pub(super) async fn endure(self: Arc<Self>, number: usize, fault: Fault, begin: Duration) {
        sleep_virtual_until(begin + fault.at.0.start).await;
        if let Some(promise) = fault.after {
            let kept = MadsimRuntime::timeout(PROMISE_MAX, self.record.next_promise(promise)).await;
            if kept.is_ok() {
                sleep_virtual(fault.aim.as_ref().map_or(Duration::ZERO, |aim| aim.0.start)).await;
            }
        }
        if virtual_now() >= begin + self.scenario.duration.0 {
            return;
        }
        let fault = self.cast(fault);
        if !self.may_strike(&fault).await {
            return;
        }
        held(&self.active).insert(number, fault.clone());
        let laid = self.begin(&fault).await;
        held(&self.laid).insert(number, laid);
        let lasts = fault.lasts.as_ref().map_or(Duration::ZERO, |lasts| lasts.0.start);
        match &fault.flap {
            Some(flap) => self.flap(number, &fault, &flap.0, virtual_now() + lasts).await,
            None if fault.lasts.is_some() => sleep_virtual(lasts).await,
            None => {}
        }
        // Outside the core nobody mends anything any more.
        if held(&self.active).remove(&number).is_some() {
            let laid = held(&self.laid).remove(&number).unwrap_or_default();
            self.end(&fault, laid).await;
        }
    }

    /// The place of the node that leads the cluster now, if one does; by itself a node leads.
    pub(super) fn leader(&self) -> Option<usize> {
        match self.machines.as_slice() {
            [_] => Some(0),
            machines => machines.iter().position(Machine::leads),
        }
    }

    /// Gives a fault that is meant for a role the name of the node that plays it now. Where nobody
    /// leads any node is taken, and who follows is drawn; always as many draws.
    fn cast(&self, mut fault: Fault) -> Fault {
        let leads = match fault.node.as_deref() {
            Some("leader") => true,
            Some("follower") => false,
            Some(_) | None => return fault,
        };
        let mut dice = self.seed.stream(&format!("role {}", fault.name.as_deref().unwrap_or("")));
        let (leader, all) = (self.leader(), 0..self.machines.len());
        let drawn = dice.draw();
        let mut able: Vec<usize> =
            all.clone().filter(|place| (Some(*place) == leader) == leads).collect();
        if able.is_empty() {
            able = all.collect();
        }
        let place = usize::try_from(drawn % able.len() as u64).unwrap_or(0);
        fault.node = Some(self.machines[able[place]].name().to_owned());
        partition::settle(&mut fault, &self.node_names());
        fault
    }

    /// The names of all nodes.
    pub(super) fn node_names(&self) -> Vec<String> {
        self.machines.iter().map(|machine| machine.name().to_owned()).collect()
    }

    pub(super) fn tell_fault(&self, fault: &Fault, begins: bool) {
        let (kind, target) = (fault.kind, fault.target());
        let verb = if begins { "begins" } else { "ends" };
        let text = format!("{kind} {target} {verb}").replace("  ", " ");
        self.record.fact("world", &text, Fact::Fault { kind, target, begins });
    }

    /// The machine that a fault of a node strikes.
    pub(super) fn machine(&self, fault: &Fault) -> &Machine {
        let named = |machine: &&Machine| Some(machine.name()) == fault.node.as_deref();
        self.machines.iter().find(named).unwrap_or(&self.machines[0])
    }

    async fn begin(&self, fault: &Fault) -> Laid {
        self.tell_fault(fault, true);
        let machine = self.machine(fault);
        match fault.kind {
            FaultKind::PowerCut => self.cut_power(machine, fault).await,
            FaultKind::Kill => machine.kill(),
            FaultKind::Stop => machine.stop().await,
            FaultKind::Pause => machine.pause(fault.frozen == Some(true)),
            FaultKind::WipeDisk => machine.wipe(),
            FaultKind::CloneDisk => machine.replace(),
            FaultKind::Leave => self.have_leave(machine, fault).await,
            FaultKind::Remove => self.have_removed(machine, fault).await,
            FaultKind::FsyncError => machine.fail_fsync(),
            FaultKind::DiskFull => machine.disk().set_capacity(Some(machine.disk().used())),
            FaultKind::WriteError => {
                let write = fault.write.as_ref().map_or(1, |write| *write.0.start());
                machine.disk().fill_at_write(write, fault.count.unwrap_or(1));
            }
            FaultKind::BitRot => {
                let older = fault.older.map_or(ROT_OLDER, |older| older.0);
                machine.rot(fault.count.unwrap_or(ROT_BITS), older);
            }
            FaultKind::MisdirectedWrite => machine.misdirect_write(),
            FaultKind::SlowDisk => machine.disk().slow_by(fault.factor.unwrap_or(1)),
            FaultKind::ClockJump => {
                let micros = fault.by.map_or(0, |by| by.0.as_micros());
                let micros = i64::try_from(micros).unwrap_or(i64::MAX);
                machine.jump(if fault.backwards == Some(true) { -micros } else { micros });
            }
            FaultKind::ClockDrift => machine.drift(fault.ppm.unwrap_or(0)),
            FaultKind::Noise => return self.lay_noise(fault),
            FaultKind::Partition => return self.part(fault),
            FaultKind::Cut => self.each_way(fault, |a, b| self.net.cut(a, b)),
            FaultKind::StallStreams => self.each_way(fault, |a, b| self.net.stall(a, b)),
            FaultKind::ResetStreams => drop(self.net.reset_streams(machine.id())),
            FaultKind::CounterReset => self.each_gateway(fault, |p| self.meadow.reset_counter(p)),
            FaultKind::Hop => self.each_gateway(fault, |place| self.meadow.hop(place)),
            FaultKind::GatewayOff
            | FaultKind::LateCopies
            | FaultKind::TxAckLost
            | FaultKind::TxAckLate
            | FaultKind::TxRefused => self.trouble(fault, true),
            FaultKind::Reboot => self.reboot(fault),
            FaultKind::JoinStorm => {
                self.meadow.join_storm(fault.lasts.as_ref().map_or(DELAY.start, |l| l.0.start));
            }
            FaultKind::ClientAway => self.put_clients(fault, Mood::Away),
            FaultKind::SlowClient => self.put_clients(fault, Mood::Slow),
            FaultKind::Replay
            | FaultKind::BitFlips
            | FaultKind::ForgedGateways
            | FaultKind::JoinFlood
            | FaultKind::Malformed => self.adversary.attack(fault),
        }
        Laid::default()
    }

    /// Undoes what [`Self::begin`] has done.
    pub(super) async fn end(&self, fault: &Fault, laid: Laid) {
        let machine = self.machine(fault);
        if matches!(fault.kind, FaultKind::Leave | FaultKind::Remove) {
            self.bring_back(machine).await;
        }
        self.tell_fault(fault, false);
        match fault.kind {
            FaultKind::PowerCut => {
                machine.disk().disarm();
                machine.start();
            }
            FaultKind::Kill | FaultKind::Stop | FaultKind::CloneDisk => {
                machine.start();
            }
            FaultKind::WipeDisk => self.found_anew(machine).await,
            FaultKind::Pause => machine.resume(),
            FaultKind::DiskFull => machine.disk().set_capacity(None),
            FaultKind::BitRot => machine.scrub(),
            FaultKind::SlowDisk => machine.disk().slow_by(1),
            FaultKind::ClockDrift => machine.drift(0),
            FaultKind::Noise | FaultKind::Partition => laid.lift(&self.net),
            FaultKind::Cut => self.each_way(fault, |a, b| self.net.mend(a, b)),
            FaultKind::StallStreams => self.each_way(fault, |a, b| self.net.unstall(a, b)),
            FaultKind::GatewayOff
            | FaultKind::LateCopies
            | FaultKind::TxAckLost
            | FaultKind::TxAckLate
            | FaultKind::TxRefused => self.trouble(fault, false),
            FaultKind::ClientAway | FaultKind::SlowClient => self.put_clients(fault, Mood::Here),
            FaultKind::Replay
            | FaultKind::BitFlips
            | FaultKind::ForgedGateways
            | FaultKind::JoinFlood
            | FaultKind::Malformed => self.adversary.cease(fault),
            FaultKind::Leave
            | FaultKind::Remove
            | FaultKind::FsyncError
            | FaultKind::WriteError
            | FaultKind::MisdirectedWrite
            | FaultKind::ClockJump
            | FaultKind::ResetStreams
            | FaultKind::CounterReset
            | FaultKind::Hop
            | FaultKind::Reboot
            | FaultKind::JoinStorm => {}
        }
    }

    /// Cuts the power now, or at the write that the fault names.
    async fn cut_power(&self, machine: &Machine, fault: &Fault) {
        let Some(write) = &fault.write else { return machine.power_cut() };
        let cut = machine.disk().cut_at_write(*write.0.start());
        match MadsimRuntime::timeout(PROMISE_MAX, cut).await {
            Ok(Ok(())) => machine.lost_power(),
            // The fault has ended before there was such a write.
            Ok(Err(_)) => {}
            Err(_) => machine.disk().disarm(),
        }
    }

    /// A cluster on an empty disk: everything must be registered once more. Where there are other
    /// nodes, they know everything.
    async fn found_anew(&self, machine: &Machine) {
        machine.start();
        if self.machines.len() > 1 {
            return;
        }
        if let Err(why) = self.provision_again().await {
            self.record.unmet(format!("after {} was wiped: {why}", machine.name()));
        }
    }

    /// Does something to the link of a fault, and to the way back.
    fn each_way(&self, fault: &Fault, change: impl Fn(NodeId, NodeId)) {
        let host = |name: &Option<String>| self.hosts.get(name.as_deref()?).copied();
        let (Some(from), Some(to)) = (host(&fault.from), host(&fault.to)) else { return };
        change(from, to);
        if fault.both != Some(false) {
            change(to, from);
        }
    }

    fn each_gateway(&self, fault: &Fault, strike: impl Fn(usize)) {
        places(fault.gateway.as_deref(), "gw", self.gateways.len()).into_iter().for_each(strike);
    }

    /// Lets a gateway have trouble of one kind, or has it as the scenario has it again.
    fn trouble(&self, fault: &Fault, begins: bool) {
        let share = fault.share.map_or(1.0, |share| share.0);
        let delay = fault.delay.as_ref().map_or(DELAY, |delay| delay.0.clone());
        let base = Trouble::of(&self.scenario.gateways);
        let change = |trouble: &mut Trouble| match (fault.kind, begins) {
            (FaultKind::GatewayOff, _) => trouble.off = begins,
            (FaultKind::LateCopies, true) => {
                (trouble.late_share, trouble.late_by) = (share, delay.clone())
            }
            (FaultKind::LateCopies, false) => trouble.late_share = base.late_share,
            (FaultKind::TxAckLost, true) => trouble.ack_lost = share,
            (FaultKind::TxAckLost, false) => trouble.ack_lost = base.ack_lost,
            (FaultKind::TxAckLate, true) => trouble.ack_late = delay.clone(),
            (FaultKind::TxAckLate, false) => trouble.ack_late = base.ack_late.clone(),
            (_, true) => trouble.refused = share,
            (_, false) => trouble.refused = base.refused,
        };
        self.each_gateway(fault, |place| self.meadow.trouble(place, change));
    }

    fn reboot(&self, fault: &Fault) {
        let count = self.scenario.devices.count as usize;
        for place in places(fault.device.as_deref(), "dev", count) {
            self.meadow.reboot(place, fault.memory_lost == Some(true));
        }
    }

    fn put_clients(&self, fault: &Fault, mood: Mood) {
        for place in places(fault.client.as_deref(), "app", self.clients.len()) {
            self.clients[place].1.set_mood(mood);
        }
    }
}

/// The places that a target means: `gw3` one, `all` each of `count`.
fn places(target: Option<&str>, prefix: &str, count: usize) -> Vec<usize> {
    let Some(name) = target else { return Vec::new() };
    if name == "all" {
        return (0..count).collect();
    }
    let number = name.strip_prefix(prefix).and_then(|text| text.parse::<usize>().ok());
    number
        .filter(|number| (1..=count).contains(number))
        .map(|number| number - 1)
        .into_iter()
        .collect()
}
