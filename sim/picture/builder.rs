//! Gathers a picture while a run goes on, in bounded memory.
//!
//! How to feed it, in the order things come up:
//!
//! 1. [`PictureBuilder::lane`] for whoever appears: by name, as in the trace; asking twice gives
//!    the same lane. `n1` is a [`LaneKind::Node`], `gw1` a gateway, `dev4` a device, `app1` and
//!    `oper` clients, `world` and `audit` the world.
//! 2. [`PictureBuilder::event`] for each line of the trace, with the kind its mark shall show.
//! 3. [`PictureBuilder::arrow`] for each frame or message when it leaves, with what is known then;
//!    [`PictureBuilder::settle`] when it arrives, is judged or is lost. An arrow that nobody
//!    settles stays [`Verdict::Info`] and lost from sight.
//! 4. [`PictureBuilder::span`] when a fault strikes (or a phase begins, or a node leads) and
//!    [`PictureBuilder::span_ends`] when it is over; what nobody ends lasts until the end.
//! 5. [`PictureBuilder::violation`] for each broken promise, beside its line in the trace.
//! 6. [`PictureBuilder::finish`] at the end, with the report's facts; then [`Picture::write`].
//!
//! Nothing here moves the run: no draw, no clock, no error. Past its bounds it forgets: of events
//! and arrows those far from any fault (see `thin.rs`), of spans and violations the later ones,
//! and the page says how many.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{
    Arrow, Event, EventKind, Header, Lane, LaneId, LaneKind, Span, SpanKind, Verdict, Violation,
    bounded,
};
use super::thin::{Landmarks, Moment, Sample};
use super::{Later, Picture};

/// Events that a page shows; a builder holds twice as many.
pub const EVENTS_MAX: usize = 50_000;
/// Arrows that a page shows; a builder holds twice as many.
pub const ARROWS_MAX: usize = 50_000;
/// Lanes; whoever comes later shares the last one.
pub const LANES_MAX: u16 = 500;
/// Names of lanes that are remembered, those that share the last one included.
const NAMES_MAX: usize = 10_000;
/// Spans; later ones are counted only.
pub const SPANS_MAX: usize = 2_000;
/// Violations; later ones are counted only.
pub const VIOLATIONS_MAX: usize = 200;
/// Lanes that one span or one violation names.
const NAMED_MAX: usize = 64;

/// An arrow that may still be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrowId(u64);

/// A span that may still be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(usize);

impl Moment for Event {
    fn at(&self) -> Duration {
        self.at
    }

    fn is_landmark(&self) -> bool {
        matches!(self.kind, EventKind::Fault | EventKind::Unmet | EventKind::Violation)
    }
}

impl Moment for Arrow {
    fn at(&self) -> Duration {
        self.sent_at
    }
}

/// Gathers a picture.
#[derive(Debug)]
pub struct PictureBuilder {
    lanes: Vec<Lane>,
    by_name: BTreeMap<String, LaneId>,
    events: Sample<Event>,
    arrows: Sample<Arrow>,
    spans: Vec<Span>,
    violations: Vec<Violation>,
    later: Later,
    last: Duration,
}

impl Default for PictureBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl PictureBuilder {
    /// An empty picture.
    pub fn new() -> Self {
        Self::bounded_by(EVENTS_MAX, ARROWS_MAX)
    }

    /// As [`Self::new`], with other bounds.
    pub(super) fn bounded_by(events_max: usize, arrows_max: usize) -> Self {
        Self {
            lanes: Vec::new(),
            by_name: BTreeMap::new(),
            events: Sample::new(events_max),
            arrows: Sample::new(arrows_max),
            spans: Vec::new(),
            violations: Vec::new(),
            later: Later::default(),
            last: Duration::ZERO,
        }
    }

    /// The lane of that name, made if need be; the kind given first stays.
    ///
    /// Lanes are shown by kind, then by name, numbers in their order: `dev2` above `dev10`.
    pub fn lane(&mut self, name: &str, kind: LaneKind) -> LaneId {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let Some(id) = u16::try_from(self.lanes.len()).ok().filter(|id| *id < LANES_MAX) else {
            let last = LaneId(LANES_MAX - 1);
            if self.by_name.len() < NAMES_MAX {
                self.by_name.insert(bounded(name), last);
                self.later.lanes += 1;
            }
            return last;
        };
        let name = bounded(name);
        self.by_name.insert(name.clone(), LaneId(id));
        self.lanes.push(Lane { name, kind });
        LaneId(id)
    }

    /// A line of the trace. Times never go back.
    pub fn event(&mut self, at: Duration, lane: LaneId, kind: EventKind, text: &str) {
        self.reaches(at);
        if self.events.is_full() {
            let landmarks = self.landmarks();
            self.events.thin(&landmarks);
        }
        self.events.push(Event { at, lane, kind, text: bounded(text) });
    }

    /// A frame or a message leaves.
    pub fn arrow(&mut self, arrow: Arrow) -> ArrowId {
        self.reaches(arrow.sent_at);
        self.reaches(arrow.arrived_at.unwrap_or_default());
        if self.arrows.is_full() {
            let landmarks = self.landmarks();
            self.arrows.thin(&landmarks);
        }
        let (label, detail) = (bounded(&arrow.label), bounded(&arrow.detail));
        ArrowId(self.arrows.push(Arrow { label, detail, ..arrow }))
    }

    /// What became of an arrow. May be called again: the last word counts.
    ///
    /// * `arrived_at`: when it was there; `None` leaves what is known.
    /// * `detail`: all that is to be said of it; empty leaves what is known.
    pub fn settle(
        &mut self,
        id: ArrowId,
        arrived_at: Option<Duration>,
        verdict: Verdict,
        detail: &str,
    ) {
        self.reaches(arrived_at.unwrap_or_default());
        let Some(arrow) = self.arrows.get_mut(id.0) else { return };
        arrow.verdict = verdict;
        arrow.arrived_at = arrived_at.or(arrow.arrived_at);
        if !detail.is_empty() {
            arrow.detail = bounded(detail);
        }
    }

    /// Something begins that goes on for a while.
    ///
    /// * `lanes`: where; none for everywhere. A cut link names its two ends, the sender first.
    /// * `label`: with whatever the kind does not tell: "n1 cannot reach gw2".
    pub fn span(
        &mut self,
        from: Duration,
        kind: SpanKind,
        lanes: &[LaneId],
        label: &str,
    ) -> SpanId {
        self.reaches(from);
        let id = SpanId(self.spans.len());
        if id.0 >= SPANS_MAX {
            self.later.spans += 1;
            return id;
        }
        let lanes = lanes.iter().copied().take(NAMED_MAX).collect();
        self.spans.push(Span { from, to: None, kind, lanes, label: bounded(label) });
        id
    }

    /// It is over.
    pub fn span_ends(&mut self, id: SpanId, at: Duration) {
        self.reaches(at);
        if let Some(span) = self.spans.get_mut(id.0) {
            span.to = Some(at.max(span.from));
        }
    }

    /// A promise did not hold.
    ///
    /// * `checker`: which: "S7".
    /// * `lanes`: whom it concerns; none for the whole run.
    /// * `text`: what was seen, with both sides of the contradiction.
    pub fn violation(&mut self, at: Duration, checker: &str, lanes: &[LaneId], text: &str) {
        self.reaches(at);
        if self.violations.len() >= VIOLATIONS_MAX {
            self.later.violations += 1;
            return;
        }
        let lanes = lanes.iter().copied().take(NAMED_MAX).collect();
        let (checker, text) = (bounded(checker), bounded(text));
        self.violations.push(Violation { at, checker, lanes, text });
    }

    /// The picture of the run, with its lanes in the order they are shown.
    pub fn finish(mut self, header: Header) -> Picture {
        self.reaches(header.lasted);
        let landmarks = self.landmarks();
        self.events.thin(&landmarks);
        self.arrows.thin(&landmarks);
        let mut order: Vec<usize> = (0..self.lanes.len()).collect();
        order.sort_by_key(|index| {
            let lane = &self.lanes[*index];
            let (stem, number) = stem_and_number(&lane.name);
            (lane.kind, stem.to_owned(), number, *index)
        });
        let mut rows = vec![0_u16; self.lanes.len()];
        for (row, index) in (0_u16..).zip(&order) {
            rows[*index] = row;
        }
        self.spans.sort_by_key(|span| span.from);
        self.violations.sort_by_key(|violation| violation.at);
        Picture {
            header,
            lanes: order.iter().map(|index| self.lanes[*index].clone()).collect(),
            rows,
            events: self.events,
            arrows: self.arrows,
            spans: self.spans,
            violations: self.violations,
            later: self.later,
            end: self.last,
        }
    }

    fn reaches(&mut self, at: Duration) {
        self.last = self.last.max(at);
    }

    fn landmarks(&self) -> Landmarks {
        let faults = self.spans.iter().filter(|span| span.kind.is_fault());
        let ends = faults.flat_map(|span| [Some(span.from), span.to]).flatten();
        let violations = self.violations.iter().map(|violation| violation.at);
        Landmarks::new(ends.chain([Duration::ZERO, self.last]).collect(), violations.collect())
    }
}

/// `dev12` is `dev` and 12, for an order that people expect.
fn stem_and_number(name: &str) -> (&str, u64) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem, name[stem.len()..].parse().unwrap_or(0))
}
