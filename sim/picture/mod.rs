//! The picture of a run: one HTML page that needs nothing but a browser.
//!
//! [`PictureBuilder`] gathers lanes, events, arrows, spans and violations while a run goes on (its
//! page says how to feed it); [`Picture::write`] makes the page. In `page/` lie its frame
//! (`picture.html`), its style and its script, as they are: there is no build step, no library, and
//! the page's own policy forbids every request. What a run says goes in as JSON and as tables.
//!
//! The page opens at the first violation. Keys: `?` lists them.

mod builder;
mod data;
mod model;
mod page;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod thin;

use std::io::{self, Write};
use std::time::Duration;

pub use builder::{
    ARROWS_MAX, ArrowId, EVENTS_MAX, LANES_MAX, PictureBuilder, SPANS_MAX, SpanId, VIOLATIONS_MAX,
};
pub use model::{
    Arrow, EventKind, Header, LaneId, LaneKind, Outcome, SpanKind, TEXT_LEN_MAX, Verdict,
};

use model::{Event, Lane, Span, Violation};
use thin::Sample;

/// What came after a bound was reached, and is not in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Later {
    lanes: u64,
    spans: u64,
    violations: u64,
}

/// A run, ready to be looked at.
#[derive(Debug)]
pub struct Picture {
    header: Header,
    /// In the order they are shown.
    lanes: Vec<Lane>,
    /// Place in `lanes` of each lane that the builder gave out.
    rows: Vec<u16>,
    events: Sample<Event>,
    arrows: Sample<Arrow>,
    /// In the order of their begin.
    spans: Vec<Span>,
    /// In the order of their time.
    violations: Vec<Violation>,
    later: Later,
    end: Duration,
}

impl Picture {
    /// Writes the page, a few megabytes at most for the longest run.
    ///
    /// The same picture always gives the same bytes. Errors: what `out` said.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        page::write(self, out)
    }

    /// Where a lane is shown, from the top.
    fn row(&self, lane: LaneId) -> u16 {
        self.rows.get(usize::from(lane.0)).copied().unwrap_or_default()
    }
}
