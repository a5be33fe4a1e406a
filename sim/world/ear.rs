//! Hears what the nodes log: every line must be free of secrets (S14).
//!
//! A small subscriber of our own, in force on the thread of the run: nothing is printed, no span is
//! followed, and the run does not depend on it. Our own crates are heard at every level, libraries
//! from INFO on: what they say below that no operator turns on.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Level, Metadata, Subscriber};

use super::record::Record;

/// Where the libraries beneath the nodes begin to be heard.
const LIBRARIES: Level = Level::INFO;
/// The executor of the simulation itself: no node logs through it.
const EXECUTOR: &str = "madsim";
/// The crates that make a node.
const OWN: [&str; 8] = ["clock", "lorawan", "mqtt", "gateway", "mac", "store", "node", "host"];

/// The subscriber.
#[derive(Debug)]
pub(super) struct Ear {
    record: Record,
}

impl Ear {
    pub(super) fn new(record: &Record) -> Self {
        Self { record: record.clone() }
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let crate_name = metadata.target().split("::").next().unwrap_or_default();
        let heard = OWN.contains(&crate_name) || *metadata.level() <= LIBRARIES;
        metadata.is_event() && crate_name != EXECUTOR && heard
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        self.record.word(*event.metadata().level(), || {
            format!("host {}: {}", madsim::plugin::node(), line.0)
        });
        self.record.overhear("a node", "log", line.0.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line of the log: every field, as it would be printed.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A string takes whatever is written.
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
