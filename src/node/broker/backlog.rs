//! Events over which the state has jumped: this node took it over from another, and its clients
//! have not had what lies between.
//!
//! Whoever was connected gets those events from the event log, in order, before newer ones and
//! once; meanwhile newer ones wait there too, so that nothing is held in memory. Rows that are not
//! on this disk yet are waited for, but not for ever. A client that came after an event is not told
//! of it.

use std::sync::Arc;

use clock::{Duration, Instant};
use mqtt::ReasonCode;
use store::EventRow;

use super::client::Phase;
use super::deliver::is_full;
use super::message::Message;
use super::{Broker, BrokerView, ROWS_PER_READ};
use crate::effect::Effect;
use crate::input::{StreamId, Token};
use crate::lacking::Lacking;

/// How long newer events wait for one that is not on this disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two lots, so that everything else goes on.
const LOT_PAUSE: Duration = Duration::from_millis(1);
/// Pause before a client is looked at again that does not take what there is.
const SLOW_PAUSE: Duration = Duration::from_millis(20);
/// How long one lot may wait for slow clients.
const SLOW_MAX: Duration = Duration::from_secs(1);
/// Pause before a row is read again that ought to be on the disk.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How far those who were connected are.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The next event for them.
    next: u64,
    reading: Option<Token>,
    resume_at: Option<Instant>,
    slow_until: Instant,
    patient_until: Instant,
}

impl Backlog {
    fn moved_to(&mut self, next: u64, now: Instant) {
        self.next = next;
        self.patient_until = now + PATIENCE;
    }
}

impl Broker {
    /// The whole state was replaced; before, the next event was `before`.
    pub fn handle_restored(&mut self, view: BrokerView<'_>, before: u64) {
        self.remembered.clear();
        let now = view.now.instant;
        if before < view.state.next_event() && !self.routes.is_empty() {
            self.backlog.get_or_insert(Backlog {
                next: before,
                reading: None,
                resume_at: None,
                slow_until: now + SLOW_MAX,
                patient_until: now + PATIENCE,
            });
        }
        let streams: Vec<StreamId> = self.clients.keys().copied().collect();
        for stream in streams {
            self.check_client(view, stream);
        }
        self.catch_up(view);
    }

    /// What the changes would have brought that nobody has seen: a lost session, a lost account,
    /// something in the queue.
    fn check_client(&mut self, view: BrokerView<'_>, stream: StreamId) {
        let Some(client) = self.clients.get(&stream) else { return };
        let (Some(identity), Phase::Open) = (&client.identity, &client.phase) else { return };
        let account = view.state.mqtt_account(&identity.account);
        if account.is_none_or(|account| account.scope != identity.scope) {
            return self.end(view, stream, ReasonCode::NotAuthorized);
        }
        if let Some(fence) = client.fence {
            let session = view.state.client_session(&identity.name);
            if session.is_none_or(|session| session.fence != fence) {
                return self.end(view, stream, ReasonCode::SessionTakenOver);
            }
            self.load(view, stream);
            self.settle(view, stream);
        }
    }

    /// Which rows are not on this disk.
    pub(crate) fn handle_lacking(&mut self, view: BrokerView<'_>, lacking: Lacking) {
        self.lacking = lacking;
        self.feed_starved(view);
        self.catch_up(view);
    }

    /// Reads on for those whose row was not there.
    pub(super) fn feed_starved(&mut self, view: BrokerView<'_>) {
        self.starved_again_at = None;
        for stream in core::mem::take(&mut self.starved) {
            if let Some(client) = self.clients.get_mut(&stream) {
                client.loading = false;
                self.load(view, stream);
                self.settle(view, stream);
            }
        }
    }

    /// A row that waits in a client's queue is not on the disk: it comes, or it is gone.
    pub(super) fn row_missing(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        sequence: u64,
        rows: &[EventRow],
    ) {
        self.starved.insert(stream);
        if self.lacking.gap_end(sequence).is_some() {
            return;
        }
        let passed = rows.first().is_some_and(|row| row.sequence > sequence);
        if passed || sequence < view.state.first_event() {
            self.lost_rows.insert(sequence);
            self.events_missed += 1;
        }
        self.starved_again_at.get_or_insert(view.now.instant + AGAIN_AFTER);
    }

    /// When a client waits for a row, or is to get more of the backlog.
    pub(super) fn backlog_deadline(&self) -> Option<Instant> {
        let backlog = self.backlog.as_ref().filter(|backlog| backlog.reading.is_none());
        let backlog = backlog.map(|one| one.resume_at.unwrap_or(one.patient_until));
        backlog.into_iter().chain(self.starved_again_at).min()
    }

    /// Events dropped for clients since this was last asked, because the rows could not be had.
    pub fn take_events_missed(&mut self) -> u64 {
        core::mem::take(&mut self.events_missed)
    }

    /// Reads the next lot, or ends the backlog: from then on events pass as they come.
    pub(super) fn catch_up(&mut self, view: BrokerView<'_>) {
        let now = view.now.instant;
        if self.backlog.is_none() {
            return;
        }
        let slow = self.is_somebody_slow();
        let Some(backlog) = &mut self.backlog else { return };
        if backlog.reading.is_some() || backlog.resume_at.is_some_and(|at| at > now) {
            return;
        }
        backlog.resume_at = None;
        let first = view.state.first_event();
        if backlog.next < first {
            self.events_missed += first - backlog.next;
            backlog.moved_to(first, now);
        }
        if let Some(end) = self.lacking.gap_end(backlog.next) {
            if now < backlog.patient_until {
                return;
            }
            tracing::warn!(from = backlog.next, to = end, "events not found: clients go on");
            self.events_missed += end - backlog.next;
            backlog.moved_to(end, now);
            backlog.resume_at = Some(now + LOT_PAUSE);
            return;
        }
        if backlog.next >= view.state.next_event() {
            self.backlog = None;
            return;
        }
        if slow && now < backlog.slow_until {
            backlog.resume_at = Some(now + SLOW_PAUSE);
            return;
        }
        let from = backlog.next;
        if self.recent.contains_key(&from) {
            let rows = self.recent.range(from..).take(ROWS_PER_READ);
            let rows: Vec<Arc<EventRow>> = rows.map(|(_, row)| Arc::clone(row)).collect();
            self.deliver_lot(view, rows.iter().map(AsRef::as_ref));
        } else {
            self.next_token += 1;
            let token = Token(self.next_token);
            if let Some(backlog) = &mut self.backlog {
                backlog.reading = Some(token);
            }
            let limit = ROWS_PER_READ;
            self.effects.push_back(Effect::ReadEvents { token, from, limit });
        }
    }

    /// Rows were read; false if they were none of the backlog's.
    pub(super) fn backlog_read(
        &mut self,
        view: BrokerView<'_>,
        token: Token,
        rows: &[EventRow],
    ) -> bool {
        let Some(backlog) = self.backlog.as_mut().filter(|one| one.reading == Some(token)) else {
            return false;
        };
        backlog.reading = None;
        self.deliver_lot(view, rows.iter());
        true
    }

    fn deliver_lot<'r>(&mut self, view: BrokerView<'_>, rows: impl Iterator<Item = &'r EventRow>) {
        let now = view.now.instant;
        let Some(mut next) = self.backlog.as_ref().map(|backlog| backlog.next) else { return };
        let mut any = false;
        for row in rows.filter(|row| row.sequence >= view.state.first_event()) {
            // Not here at all although nobody fetches it: it is lost, which was said elsewhere.
            if row.sequence > next && self.lacking.gap_end(next).is_none() {
                self.events_missed += row.sequence - next;
                next = row.sequence;
            }
            if row.sequence != next {
                break;
            }
            if let Some(message) = Message::from_row(row) {
                self.deliver(view, &Arc::new(message), Some(row.sequence));
            }
            next = row.sequence + 1;
            any = true;
        }
        if let Some(backlog) = &mut self.backlog {
            if any {
                backlog.moved_to(next, now);
                backlog.slow_until = now + SLOW_MAX;
            }
            backlog.resume_at = Some(now + if any { LOT_PAUSE } else { AGAIN_AFTER });
        }
    }

    fn is_somebody_slow(&self) -> bool {
        let limit = self.config.session.max_queue;
        self.clients
            .values()
            .filter(|client| !client.subscriptions.is_empty())
            .any(|client| !client.connection.is_writable() || is_full(&client.session, limit))
    }
}
