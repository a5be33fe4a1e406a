//! Whether the nodes of the core agree at the end: one event log, one state, on every disk.
//!
//! Of a cluster no disk alone tells what was decided: its last entries may be nobody else's, and
//! its first ones may have come as a snapshot. The truth is what nodes were seen to apply, and
//! behind that the log of the core's node that has most of it. Each disk is held against that log
//! as far as it has it, and the disks of the core must have all that the API has shown.
//! Source: requirements, part G, S10 (one log, one state).

use std::time::Duration;

use node::api::wire::EventItem;

use super::World;
use super::audit::{Findings, audit, last_entry};
use super::ledger::Ledger;
use super::machine::Machine;
use crate::clocks::virtual_now;
use crate::oracle::Fact;
use crate::runtime::sleep_virtual;

/// Pause between two looks at what the nodes of the core show.
const LOOKS: Duration = Duration::from_millis(500);

/// The log of the cluster as the world has seen it.
struct Truth {
    /// Whose log it is, but for what it got as a snapshot.
    told_by: String,
    ledger: Ledger,
    /// It was put together from what several nodes wrote.
    common: bool,
}

impl World {
    /// The machines of the core.
    pub(super) fn machines_of(&self, core: &[String]) -> Vec<Machine> {
        let inside = |machine: &&Machine| core.iter().any(|name| name == machine.name());
        self.machines.iter().filter(inside).cloned().collect()
    }

    /// Waits until every node of the core shows the same event log; a violation if they do not
    /// within `limit`. With one node there is nothing to compare.
    pub(super) async fn agree(&self, core: &[String], limit: Duration) {
        if self.machines.len() == 1 {
            return;
        }
        let end = virtual_now() + limit;
        loop {
            let Err(why) = self.compare_logs(core).await else { return };
            if virtual_now() >= end {
                return self.record.violate("S10", format!("after {limit:?} {why}"));
            }
            sleep_virtual(LOOKS).await;
        }
    }

    async fn compare_logs(&self, core: &[String]) -> Result<(), String> {
        let mut first: Option<(String, Vec<EventItem>)> = None;
        for machine in self.machines_of(core) {
            let name = machine.name().to_owned();
            let rows = self.operator.of(&machine).events(0).await;
            let rows = rows.map_err(|why| format!("{name} does not show its event log: {why}"))?;
            let Some((other, told)) = &first else {
                first = Some((name, rows));
                continue;
            };
            if *told != rows {
                let at = told.iter().zip(&rows).position(|(one, two)| one != two);
                let at = at.unwrap_or(told.len().min(rows.len()));
                return Err(format!("{other} and {name} show different rows from {at} on"));
            }
        }
        Ok(())
    }

    /// The power is cut for good, and what is on the disks is read without the nodes.
    pub(super) fn audit(&self, core: &[String], shown: &[EventItem]) {
        self.machines.iter().for_each(Machine::power_cut);
        let truth = match self.truth(core) {
            Ok(truth) => truth,
            Err(why) => return self.record.violate("audit", why),
        };
        for machine in &self.machines {
            let name = machine.name();
            let shown = if core.iter().any(|one| one == name) { shown } else { &[] };
            let (image, common) = (machine.disk().image(), truth.common);
            match audit(&image, self.seed, (&truth.ledger, common), shown) {
                Ok(findings) => self.tell_findings(name, findings, truth.told_by == name),
                Err(why) if machine.is_doubtful() => {
                    self.record.note("world", &format!("{name} unreadable: {why}"));
                }
                Err(why) => self.record.violate("audit", format!("{name} unreadable: {why}")),
            }
        }
    }

    fn tell_findings(&self, name: &str, findings: Findings, is_truth: bool) {
        for text in findings.wrong {
            self.record.violate("audit", format!("{name}: {text}"));
        }
        let text = format!("{name}: the disk is read");
        if is_truth {
            self.record.fact("world", &text, Fact::Audited(findings.permits));
        } else {
            self.record.note("world", &format!("{text} up to entry {}", findings.through));
        }
    }

    /// The log of the cluster: one node's own; of several that of the core's which has most of it.
    fn truth(&self, core: &[String]) -> Result<Truth, String> {
        if let [machine] = self.machines.as_slice() {
            let told_by = machine.name().to_owned();
            let ledger = self.record.ledgers(|all| all.of(&told_by));
            return Ok(Truth { told_by, ledger, common: false });
        }
        let mut best: Option<(u64, String)> = None;
        for machine in self.machines_of(core) {
            let last = match last_entry(&machine.disk().image(), self.seed) {
                Ok(last) => last,
                Err(_) if machine.is_doubtful() => continue,
                Err(why) => return Err(format!("{} unreadable: {why}", machine.name())),
            };
            if best.as_ref().is_none_or(|(most, _)| last > *most) {
                best = Some((last, machine.name().to_owned()));
            }
        }
        let (last, told_by) = best.ok_or("no disk of the core can be read")?;
        let (own, decided) = self.record.ledgers(|all| (all.of(&told_by), all.decided()));
        let ledger = decided.continued_by(&own, last)?;
        Ok(Truth { told_by, ledger, common: true })
    }
}
