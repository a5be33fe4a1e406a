//! Readers of the event log and of the live view. A reader may wait for what is not there yet: it
//! is answered once, by the first thing that fits, and asks again; so a slow one holds nothing up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lorawan::{DevEui, GatewayEui};
use store::{EventRow, Id};

use super::error::{ApiError, Unavailable};
use super::machine::View;
use super::operation::Outcome;
use super::wire::{EventItem, EventPage, WatchItem, WatchLine, WatchPage};
use crate::effect::Effect;
use crate::input::{CallId, Token};
use crate::lacking::Lacking;

/// Lines the live view remembers.
const RING_LINES: usize = 1_000;
/// Lines on a page of the live view.
const LINES_MAX: usize = 500;
/// Readers that may wait at a time; beyond, the oldest is answered with an empty page.
const WAITING_MAX: usize = 1_024;

/// Whose things a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Everybody's.
    All,
    /// These tenants'.
    Tenants(BTreeSet<Id>),
}

impl Sight {
    fn covers(&self, tenant: Option<Id>) -> bool {
        match self {
            Self::All => true,
            Self::Tenants(ids) => tenant.is_some_and(|tenant| ids.contains(&tenant)),
        }
    }
}

/// One reader of the event log.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) call: CallId,
    from: u64,
    limit: usize,
    application: Option<Id>,
    device: Option<DevEui>,
    sight: Sight,
}

impl Reader {
    /// A reader from sequence `from` on; its call is named later.
    pub(super) fn new(
        from: u64,
        limit: u32,
        application: Option<Id>,
        device: Option<DevEui>,
        sight: Sight,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { call: CallId(0), from, limit, application, device, sight }
    }

    fn wants(&self, row: &EventRow) -> bool {
        self.application.is_none_or(|id| id == row.device.application_id)
            && self.device.is_none_or(|dev_eui| dev_eui == row.device.dev_eui)
            && self.sight.covers(Some(row.device.tenant_id))
    }

    fn answer(self, events: Vec<EventItem>) -> Effect {
        let page = EventPage { events, next: self.from.saturating_sub(1) };
        Effect::Reply { call: self.call, result: Ok(Outcome::Events(page)) }
    }
}

/// One reader of the live view.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) after: Option<u64>,
    pub(super) device: Option<DevEui>,
    pub(super) gateway: Option<GatewayEui>,
    pub(super) sight: Sight,
}

impl Watcher {
    fn wants(&self, view: &View<'_>, line: &WatchLine) -> bool {
        if self.device.is_some_and(|dev_eui| line.dev_eui != Some(dev_eui))
            || self.gateway.is_some_and(|id| line.gateway_id != Some(id))
        {
            return false;
        }
        let state = view.state;
        let device = line.dev_eui.and_then(|dev_eui| state.device(dev_eui));
        let by_device = device.and_then(|device| state.tenant_of(device.application_id));
        let gateway = line.gateway_id.and_then(|id| state.gateway(id));
        // A device's line is its tenant's, whoever's gateway heard it.
        let tenant = match line.dev_eui {
            Some(_) => by_device,
            None => gateway.map(|gateway| gateway.tenant_id),
        };
        self.sight.covers(tenant)
    }
}

/// All readers, and the ring of the live view.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    readings: BTreeMap<Token, (Reader, bool)>,
    waiting: VecDeque<Reader>,
    /// Rows that are not on this disk yet, and readers that wait for some of them.
    lacking: Lacking,
    starved: VecDeque<Reader>,
    ring: VecDeque<WatchItem>,
    lines: u64,
    watchers: VecDeque<(CallId, Watcher)>,
}

impl Feeds {
    /// Reads on, or waits, or says that there is nothing.
    pub(super) fn read(
        &mut self,
        view: &View<'_>,
        token: Token,
        mut reader: Reader,
        wait: bool,
        effects: &mut VecDeque<Effect>,
    ) {
        reader.from = reader.from.max(view.state.first_event());
        if self.lacking.gap_end(reader.from).is_some() {
            if wait {
                Self::wait(&mut self.starved, reader, effects);
            } else {
                let result = Err(ApiError::Unavailable(Unavailable::CatchingUp));
                effects.push_back(Effect::Reply { call: reader.call, result });
            }
        } else if reader.from < view.state.next_event() {
            let (from, limit) = (reader.from, reader.limit);
            self.readings.insert(token, (reader, wait));
            effects.push_back(Effect::ReadEvents { token, from, limit });
        } else if wait {
            Self::wait(&mut self.waiting, reader, effects);
        } else {
            effects.push_back(reader.answer(Vec::new()));
        }
    }

    fn wait(queue: &mut VecDeque<Reader>, reader: Reader, effects: &mut VecDeque<Effect>) {
        if queue.len() >= WAITING_MAX
            && let Some(oldest) = queue.pop_front()
        {
            effects.push_back(oldest.answer(Vec::new()));
        }
        queue.push_back(reader);
    }

    /// Which rows are not on this disk.
    ///
    /// * Returns the readers that waited for some of them: they read on.
    pub(super) fn set_lacking(&mut self, lacking: Lacking) -> VecDeque<Reader> {
        self.lacking = lacking;
        core::mem::take(&mut self.starved)
    }

    /// The state has jumped: readers that waited for the next row may find it in the log.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Reader> {
        core::mem::take(&mut self.waiting)
    }

    /// The reader for whom rows were read, and whether it waits if there are none.
    pub(super) fn take_reading(&mut self, token: Token) -> Option<(Reader, bool)> {
        self.readings.remove(&token)
    }

    /// Rows were read for a reader.
    ///
    /// * Returns the reader if none of them fits and it has to read on.
    pub(super) fn rows_read(
        &mut self,
        view: &View<'_>,
        mut reader: Reader,
        rows: &[EventRow],
        effects: &mut VecDeque<Effect>,
    ) -> Option<Reader> {
        let mut events = Vec::new();
        for row in rows {
            if row.sequence < reader.from {
                continue;
            }
            if events.len() >= reader.limit || self.lacking.gap_end(reader.from).is_some() {
                break;
            }
            if reader.wants(row) {
                events.push(item(row));
            }
            reader.from = row.sequence.saturating_add(1);
        }
        if events.is_empty() && !rows.is_empty() {
            return Some(reader);
        }
        // Nothing there although the log says so: the rows are gone, or not on the disk yet.
        if events.is_empty() {
            reader.from = reader.from.max(view.state.first_event());
        }
        effects.push_back(reader.answer(events));
        None
    }

    /// A new row: readers that waited for it are answered.
    pub(super) fn row(&mut self, row: &EventRow, effects: &mut VecDeque<Effect>) {
        for mut reader in core::mem::take(&mut self.waiting) {
            if row.sequence >= reader.from && reader.wants(row) {
                reader.from = row.sequence.saturating_add(1);
                effects.push_back(reader.answer(vec![item(row)]));
            } else {
                self.waiting.push_back(reader);
            }
        }
    }

    /// Answers a watcher out of the ring, or lets it wait.
    pub(super) fn watch(
        &mut self,
        view: &View<'_>,
        call: CallId,
        watcher: Watcher,
        wait: bool,
        effects: &mut VecDeque<Effect>,
    ) {
        let after = watcher.after.unwrap_or(self.lines).min(self.lines);
        let kept = self.ring.iter().filter(|item| item.sequence > after);
        let wanted = kept.filter(|item| watcher.wants(view, &item.line));
        let lines: Vec<_> = wanted.take(LINES_MAX).cloned().collect();
        if lines.is_empty() && wait {
            if self.watchers.len() >= WAITING_MAX
                && let Some((call, _)) = self.watchers.pop_front()
            {
                effects.push_back(page(call, Vec::new(), self.lines, 0));
            }
            return self.watchers.push_back((call, Watcher { after: Some(after), ..watcher }));
        }
        let oldest = self.ring.front().map_or(self.lines, |item| item.sequence - 1);
        let missed = oldest.saturating_sub(after);
        let full = lines.len() >= LINES_MAX;
        let next = lines.last().filter(|_| full).map_or(self.lines, |item| item.sequence);
        effects.push_back(page(call, lines, next, missed));
    }

    /// A new line: watchers that waited for it are answered.
    pub(super) fn line(
        &mut self,
        view: &View<'_>,
        line: WatchLine,
        effects: &mut VecDeque<Effect>,
    ) {
        self.lines += 1;
        let item = WatchItem { sequence: self.lines, line };
        for (call, watcher) in core::mem::take(&mut self.watchers) {
            if watcher.wants(view, &item.line) {
                effects.push_back(page(call, vec![item.clone()], self.lines, 0));
            } else {
                self.watchers.push_back((call, watcher));
            }
        }
        if self.ring.len() >= RING_LINES {
            self.ring.pop_front();
        }
        self.ring.push_back(item);
    }

    /// The call is no longer of interest.
    pub(super) fn forget(&mut self, call: CallId) {
        self.waiting.retain(|reader| reader.call != call);
        self.starved.retain(|reader| reader.call != call);
        self.watchers.retain(|(other, _)| *other != call);
        self.readings.retain(|_, (reader, _)| reader.call != call);
    }
}

fn page(call: CallId, lines: Vec<WatchItem>, next: u64, missed: u64) -> Effect {
    let page = WatchPage { lines, next, missed };
    Effect::Reply { call, result: Ok(Outcome::Watch(page)) }
}

fn item(row: &EventRow) -> EventItem {
    EventItem {
        sequence: row.sequence,
        event: crate::event_json::kind(&row.event).to_owned(),
        topic: crate::event_json::topic(row),
        body: crate::event_json::body(row),
    }
}
