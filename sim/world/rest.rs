//! The end of a run: what must come about once nothing goes wrong any more, and the last look at
//! the event log. Source: requirements, part G, V1 and V7, S6 and S7; issue "Must show" 5.

use std::time::Duration;

use super::World;
use super::log::Auditor;
use super::mote::{Order, Outcomes};
use crate::clocks::virtual_now;
use crate::net::Quality;
use crate::oracle::{Event, Fact};
use crate::runtime::sleep_virtual;

/// Tries the probe has for each step.
const TRIES: u32 = 3;
/// How often the end looks whether something has come about.
const LOOKS: Duration = Duration::from_millis(100);
/// How long a restarted node may take until it serves (V1).
const READY_WITHIN: Duration = Duration::from_secs(10);

impl World {
    /// No more faults: everything that must come about now has `settle` for it.
    pub(super) async fn come_to_rest(&self) {
        self.record.note("world", "the workload ends; no more faults");
        self.net.set_quality(Quality::default());
        self.machine.disk().set_capacity(None);
        self.meadow.rest();
        self.machine.start();
        let end = virtual_now() + self.scenario.settle.0;
        if !self.operator.ready_within(READY_WITHIN).await {
            return self
                .record
                .unmet(format!("V1: the node does not serve after {READY_WITHIN:?}"));
        }
        while self.meadow.is_busy() && virtual_now() < end {
            sleep_virtual(LOOKS).await;
        }
        if let Err(step) = self.probe().await {
            self.record.unmet(format!("V7: a fresh device has not {step} within {TRIES} tries"));
        }
        while virtual_now() < end {
            match self.nobody_waits().await {
                Ok(()) => return,
                Err(_) => sleep_virtual(LOOKS).await,
            }
        }
        if let Err(why) = self.nobody_waits().await {
            self.record.unmet(format!("after {:?} of rest {why}", self.scenario.settle.0));
        }
    }

    /// Whether every client has every event; all have subscribed before the first one.
    async fn nobody_waits(&self) -> Result<(), String> {
        let rows = self.operator.events(0).await?;
        let up = rows.iter().filter(|row| row.event == "up");
        let log = up.map(|row| super::log::uplink(&row.body)).collect::<Result<Vec<_>, _>>()?;
        for (name, _) in &self.clients {
            if let Some(event) = self.record.missing(name, &log).first() {
                return Err(format!("{name} has not got {event:?}"));
            }
        }
        Ok(())
    }

    /// A fresh device joins, is acknowledged, and gets a downlink.
    ///
    /// Errors: the step that did not come about.
    async fn probe(&self) -> Result<(), &'static str> {
        let place = self.devices.len() - 1;
        let dev_eui = self.devices[place].1;
        self.within_tries(place, Order::Join, |now, _| now.joined > 0).await.ok_or("joined")?;
        self.within_tries(place, Order::Uplink, |now, _| now.acknowledged > 0)
            .await
            .ok_or("been acknowledged")?;
        let mut dice = self.seed.stream("downlinks probe");
        self.operator.enqueue(dev_eui, 0, &mut dice).await;
        self.within_tries(place, Order::Uplink, |now, before| now.downlinks > before.downlinks)
            .await
            .ok_or("got its downlink")
    }

    async fn within_tries(
        &self,
        place: usize,
        order: Order,
        reached: impl Fn(Outcomes, Outcomes) -> bool,
    ) -> Option<()> {
        let (_, before) = self.meadow.look(place);
        for _ in 0..TRIES {
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

    /// One more power cut; what the event log holds after it is what there is.
    pub(super) async fn judge(&self) {
        self.machine.power_cut();
        self.machine.start();
        if !self.operator.ready_within(READY_WITHIN).await {
            return self.record.unmet("V1: the node does not serve after the last cut".to_owned());
        }
        let rows = match self.operator.events(0).await {
            Ok(rows) => rows,
            Err(why) => {
                return self.record.unmet(format!("the event log cannot be read: {why}"));
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
        ] {
            if seen < wanted {
                self.record.unmet(format!("expected at least {wanted} {what}, saw {seen}"));
            }
        }
    }
}
