//! The end of a run: what must come about once nothing goes wrong any more, and the last look at
//! the event log. Source: requirements, part G, V1 and V7, S6, S7 and S9.

use std::collections::BTreeSet;
use std::time::Duration;

use madsim::task::NodeId;
use scenario::{Fault, FaultKind};

use super::World;
use super::client::Part;
use super::log::Auditor;
use super::machine::{Machine, PORT_MQTT};
use super::mote::{Order, Outcomes};
use crate::clocks::virtual_now;
use crate::marks::Mark;
use crate::net::Quality;
use crate::oracle::{Event, Fact};
use crate::runtime::{held, sleep_virtual};
use crate::sometimes;

/// Share of the gateways and clients that belong to the core, beside one that always does.
const IN_CORE: f64 = 0.75;
/// How often the end looks whether something has come about.
const LOOKS: Duration = Duration::from_millis(100);

impl World {
    /// The safety phase is over. A core is drawn; its faults are mended, all others are permanent:
    /// what must come about now has `settle` for it. Returns the core.
    pub(super) async fn come_to_rest(&self) -> Vec<String> {
        let core = self.draw_core();
        self.record.fact("world", &format!("calm; the core: {}", core.join(" ")), Fact::Calm);
        self.mend(&core).await;
        self.net.set_quality(Quality::default());
        let nodes = self.machines_of(&core);
        self.meadow.rest(&nodes.iter().map(Machine::id).collect());
        let doors: Vec<_> = nodes.iter().map(|machine| machine.socket(PORT_MQTT)).collect();
        self.clients.iter().for_each(|(_, standing)| standing.rest(&doors));
        let end = virtual_now() + self.scenario.settle.0;
        let ready_within = self.scenario.bounds.ready_within.0;
        nodes.iter().for_each(Machine::start);
        self.operator.stay_with(nodes);
        let inside = |machine: &Machine| core.iter().any(|name| name == machine.name());
        if let Err(why) = self.serve_within(ready_within, inside).await {
            self.unmet(&core, format!("V1: {why} after {ready_within:?}"));
            return core;
        }
        while self.meadow.is_busy() && virtual_now() < end {
            sleep_virtual(LOOKS).await;
        }
        let tries = self.scenario.bounds.probe_tries;
        if let Err(step) = self.probe(tries).await {
            self.unmet(&core, format!("V7: a fresh device has not {step} within {tries} tries"));
        }
        let mut waits = self.nobody_waits(&core).await;
        while waits.is_err() && virtual_now() < end {
            sleep_virtual(LOOKS).await;
            waits = self.nobody_waits(&core).await;
        }
        if let Err(why) = waits {
            self.unmet(&core, format!("after {:?} of rest {why}", self.scenario.settle.0));
        }
        self.record.fact("world", "at rest", Fact::Rested { core: core.clone() });
        core
    }

    /// Something that must come about does not. A disk that has rotted or was written astray may be
    /// beyond repair; a node that has found it so is right to refuse it, and where the core is not
    /// without it nothing need come about.
    fn unmet(&self, core: &[String], text: String) {
        if self.machines_of(core).iter().any(Machine::is_damaged) {
            self.record.note("world", &format!("excused by a doubtful disk: {text}"));
        } else {
            self.record.unmet(text);
        }
    }

    /// Hosts that must work from now on: a majority of the nodes, those with a doubtful disk and
    /// those on their way out or in last, and some of the rest.
    fn draw_core(&self) -> Vec<String> {
        let mut dice = self.seed.stream("core");
        let mut nodes = self.machines.clone();
        let majority = nodes.len() / 2 + 1;
        while nodes.len() > majority {
            let drawn = dice.index(nodes.len());
            let doubtful = |one: &Machine| one.is_doubtful() || one.is_damaged();
            let moving = nodes.iter().position(|one| !one.is_settled());
            let last = moving.or_else(|| nodes.iter().position(doubtful));
            nodes.remove(last.unwrap_or(drawn));
        }
        let nodes = nodes.iter().map(|machine| machine.name().to_owned());
        let gateways = self.gateways.iter().map(|(name, _)| name.clone());
        let clients = self.clients.iter().map(|(name, _)| name.clone());
        let others = [gateways.collect::<Vec<_>>(), clients.collect()].map(|names| {
            let always = dice.index(names.len().max(1));
            let chosen = |(place, name): (usize, String)| {
                (dice.chance(IN_CORE) || place == always).then_some(name)
            };
            names.into_iter().enumerate().filter_map(chosen).collect::<Vec<_>>()
        });
        nodes.chain(others.into_iter().flatten()).collect()
    }

    /// Ends the faults in force that concern the core alone, or everybody, and partitions within
    /// the core.
    async fn mend(&self, core: &[String]) {
        self.mend_partitions(core);
        let within = |name: &Option<String>| {
            name.as_ref().is_none_or(|name| core.contains(name) || name == "all" || name == "nodes")
        };
        let active: Vec<(usize, Fault)> = {
            let mut active = held(&self.active);
            let inside = |fault: &Fault| {
                [&fault.node, &fault.gateway, &fault.client, &fault.from, &fault.to]
                    .into_iter()
                    .all(within)
            };
            let mended = active.iter().filter(|(_, fault)| inside(fault));
            let mended: Vec<_> = mended.map(|(number, fault)| (*number, fault.clone())).collect();
            active.retain(|number, _| !mended.iter().any(|(known, _)| known == number));
            mended
        };
        for (number, fault) in active {
            let laid = held(&self.laid).remove(&number).unwrap_or_default();
            self.end(&fault, laid).await;
        }
        // What is left of it is permanent.
        held(&self.active).clear();
        for machine in self.machines_of(core) {
            machine.disk().set_capacity(None);
        }
    }

    /// The hosts of the core reach each other again; whoever is kept from the others stays so.
    fn mend_partitions(&self, core: &[String]) {
        let hosts: BTreeSet<NodeId> =
            core.iter().filter_map(|name| self.hosts.get(name)).copied().collect();
        let mut active = held(&self.active);
        for (number, fault) in active.extract_if(.., |_, one| one.kind == FaultKind::Partition) {
            let laid = held(&self.laid).remove(&number).unwrap_or_default();
            if laid.lift_among(&self.net, &hosts) {
                self.tell_fault(&fault, false);
            } else {
                self.record.note("world", "the core is whole again, the rest stays apart");
            }
        }
    }

    /// Whether every listener of the core has every event (all have subscribed before the first
    /// one), and every client of it what else it must get.
    async fn nobody_waits(&self, core: &[String]) -> Result<(), String> {
        if self.record.founded_anew() {
            // Who must have got what is for S19 alone to say then.
            return Ok(());
        }
        let rows = self.operator.events(0).await?;
        let up = rows.iter().filter(|row| row.event == "up");
        let log = up.map(|row| super::log::uplink(&row.body)).collect::<Result<Vec<_>, _>>()?;
        for (name, standing) in self.clients.iter().filter(|(name, _)| core.contains(name)) {
            if !standing.is_settled() {
                return Err(format!("{name} is not connected, or waits for an answer"));
            }
            let missing = self.record.missing(name, &log);
            if let (Part::Listener, Some(event)) = (standing.part(), missing.first()) {
                return Err(format!("{name} has not got {event:?}"));
            }
        }
        self.record.waiting(core).map_or(Ok(()), Err)
    }

    /// A fresh device joins, is acknowledged, and gets a downlink.
    ///
    /// Errors: the step that did not come about.
    async fn probe(&self, tries: u32) -> Result<(), &'static str> {
        let place = self.devices.len() - 1;
        let dev_eui = self.devices[place].1;
        self.within_tries(tries, place, Order::Join, |now, _| now.joined > 0)
            .await
            .ok_or("joined")?;
        self.within_tries(tries, place, Order::Uplink, |now, _| now.acknowledged > 0)
            .await
            .ok_or("been acknowledged")?;
        let mut dice = self.seed.stream("downlinks probe");
        self.operator.enqueue(dev_eui, 0, 0.0, &mut dice).await;
        self.within_tries(tries, place, Order::Uplink, |now, before| {
            now.downlinks > before.downlinks
        })
        .await
        .ok_or("got its downlink")
    }

    async fn within_tries(
        &self,
        tries: u32,
        place: usize,
        order: Order,
        reached: impl Fn(Outcomes, Outcomes) -> bool,
    ) -> Option<()> {
        let (_, before) = self.meadow.look(place);
        for _ in 0..tries {
            self.meadow.order(place, order);
            while self.meadow.look(place).0 {
                sleep_virtual(LOOKS).await;
            }
            if reached(self.meadow.look(place).1, before) {
                return Some(());
            }
            sleep_virtual(Duration::from_secs(1)).await;
        }
        None
    }

    /// Nothing is under way: nothing may be left over.
    async fn count_at_rest(&self, core: &[String]) {
        let nodes = self.machines_of(core);
        let mut remembered = Vec::new();
        for machine in &nodes {
            let strangers = super::census::strangers_of(&self.operator.of(machine)).await;
            remembered.extend(strangers.map(|gateways| (machine.name(), gateways)));
        }
        let at = virtual_now();
        let mut bounded = held(&self.bounded);
        let mut found = Vec::new();
        for machine in &nodes {
            let tasks = super::census::tasks_of(machine);
            found.extend(bounded.at_rest(at, machine.name(), tasks));
        }
        for (name, gateways) in remembered {
            found.extend(bounded.strangers(at, name, gateways));
        }
        if let Some(mib) = super::census::peak_memory_mib() {
            found.extend(bounded.memory(at, mib));
        }
        for violation in found {
            self.record.violate(violation.invariant, violation.text);
        }
        self.record.note("world", &format!("S21: {}", bounded.closing()));
    }

    /// One more power cut; what the event log holds after it is what there is.
    pub(super) async fn judge(&self, core: &[String]) {
        self.record.judge_histories();
        self.count_at_rest(core).await;
        self.look_at_machines();
        self.machines.iter().for_each(Machine::power_cut);
        self.machines_of(core).iter().for_each(Machine::start);
        let inside = |machine: &Machine| core.iter().any(|name| name == machine.name());
        let ready_within = self.scenario.bounds.ready_within.0;
        if let Err(why) = self.serve_within(ready_within, inside).await {
            return self.unmet(core, format!("V1: {why} after the last cut"));
        }
        self.agree(core, ready_within).await;
        let rows = match self.operator.events(0).await {
            Ok(rows) => rows,
            Err(why) => {
                return self.unmet(core, format!("the event log cannot be read: {why}"));
            }
        };
        let mut auditor = Auditor::default();
        let log: Vec<Event> =
            rows.iter().filter_map(|row| auditor.take(row, &self.record)).collect();
        let accepted = u32::try_from(log.len()).unwrap_or(u32::MAX);
        self.record.count(|counts| counts.accepted = accepted);
        let text = format!("{} rows in the event log, {accepted} of them uplinks", rows.len());
        self.record.fact("world", &text, Fact::Ended { log });
        self.compare();
        self.audit(core, &rows);
        for (name, words) in self.record.closing_words() {
            self.record.note("world", &format!("{name}: {words}"));
        }
    }

    /// What disks and network have to tell of the run.
    fn look_at_machines(&self) {
        for machine in &self.machines {
            let tally = machine.disk().tally();
            sometimes!(self.record, Mark::WriteRefused, tally.refused > 0);
            sometimes!(self.record, Mark::RottenRead, tally.rotten_read > 0);
            sometimes!(self.record, Mark::WriteAstray, tally.misdirected > 0);
        }
        let counts = self.net.counts();
        self.record.delivered_by_network(counts.delivered + counts.segments);
    }

    /// Holds what came about against what the scenario expects.
    fn compare(&self) {
        let (seen, wanted) = (self.record.counts(), &self.scenario.expect);
        for (what, seen, wanted) in [
            ("devices joined", seen.joined, wanted.joined),
            ("uplinks in the event log", seen.accepted, wanted.accepted),
            ("uplinks delivered", seen.delivered, wanted.delivered),
            ("uplinks acknowledged", seen.acknowledged, wanted.acknowledged),
            ("downlinks arrived", seen.downlinks, wanted.downlinks),
            ("restarts", seen.restarts, wanted.restarts),
            ("calls answered", seen.calls, wanted.calls),
            ("nodes departed", seen.departed, wanted.departed),
            ("nodes readmitted", seen.readmitted, wanted.readmitted),
        ] {
            if seen < wanted {
                self.record.unmet(format!("expect: at least {wanted} {what}, saw {seen}"));
            }
        }
        for name in &wanted.marks {
            match Mark::named(name) {
                Some(mark) if self.record.marked(mark) > 0 => {}
                Some(_) => self.record.unmet(format!("expect: the mark {name} was not hit")),
                None => self.record.unmet(format!("expect: there is no mark {name}")),
            }
        }
    }
}
