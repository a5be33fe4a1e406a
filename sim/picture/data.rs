//! The data of the drawing, as the script of the page reads it.
//!
//! One JSON object: events and arrows as columns, enumerations as places in lists of names, lanes
//! as places in the order they are shown, times in nanoseconds. It stands inside a script element,
//! so no character of it may end that element, open a comment or break a line: [`Harmless`].

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

use super::model::{EventKind, LaneKind, SpanKind, Verdict};
use super::thin::Stretch;
use super::{Arrow, Event, LaneId, Picture};

/// JSON in which nothing can end a script element, open a comment or break a line.
#[derive(Default)]
struct Harmless(CompactFormatter);

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let dangerous = ['<', '>', '&', '\u{2028}', '\u{2029}'];
        for part in fragment.split_inclusive(dangerous) {
            match part.char_indices().next_back() {
                Some((at, last)) if dangerous.contains(&last) => {
                    self.0.write_string_fragment(writer, &part[..at])?;
                    write!(writer, "\\u{:04x}", u32::from(last))?;
                }
                _ => self.0.write_string_fragment(writer, part)?,
            }
        }
        Ok(())
    }
}

/// Writes what the script draws.
pub(super) fn write(picture: &Picture, out: &mut dyn Write) -> io::Result<()> {
    let mut json = serde_json::Serializer::with_formatter(&mut *out, Harmless::default());
    Data::of(picture).serialize(&mut json).map_err(io::Error::from)
}

/// Nanoseconds: exact in JavaScript for a hundred days.
fn ns(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// The picture as the script reads it: columns, and enumerations as places in a list of names.
#[derive(Serialize)]
struct Data<'a> {
    end: u64,
    lane_kinds: Vec<&'static str>,
    event_kinds: Vec<&'static str>,
    verdicts: Vec<&'static str>,
    span_kinds: Vec<&'static str>,
    lanes: Vec<(&'a str, usize)>,
    events: Events<'a>,
    arrows: Arrows<'a>,
    spans: Vec<SpanRow<'a>>,
    violations: Vec<ViolationRow<'a>>,
    thinned_events: Vec<StretchRow>,
    thinned_arrows: Vec<StretchRow>,
}

/// Begin, end (null: none), kind, lanes, label.
type SpanRow<'a> = (u64, Option<u64>, usize, Vec<u16>, &'a str);
/// Time, checker, lanes, text.
type ViolationRow<'a> = (u64, &'a str, Vec<u16>, &'a str);
/// From, to, left out between them.
type StretchRow = (u64, u64, u64);

#[derive(Serialize)]
struct Events<'a> {
    at: Vec<u64>,
    lane: Vec<u16>,
    kind: Vec<usize>,
    text: Vec<&'a str>,
}

#[derive(Serialize)]
struct Arrows<'a> {
    sent: Vec<u64>,
    arrived: Vec<Option<u64>>,
    from: Vec<u16>,
    to: Vec<u16>,
    verdict: Vec<usize>,
    label: Vec<&'a str>,
    detail: Vec<&'a str>,
}

impl<'a> Data<'a> {
    fn of(picture: &'a Picture) -> Self {
        let rows = |lanes: &[LaneId]| lanes.iter().map(|lane| picture.row(*lane)).collect();
        Self {
            end: ns(picture.end),
            lane_kinds: LaneKind::ALL.iter().map(|kind| kind.name()).collect(),
            event_kinds: EventKind::ALL.iter().map(|kind| kind.name()).collect(),
            verdicts: Verdict::ALL.iter().map(|verdict| verdict.name()).collect(),
            span_kinds: SpanKind::ALL.iter().map(|kind| kind.name()).collect(),
            lanes: picture
                .lanes
                .iter()
                .map(|lane| (lane.name.as_str(), lane.kind as usize))
                .collect(),
            events: Events::of(picture),
            arrows: Arrows::of(picture),
            spans: picture
                .spans
                .iter()
                .map(|span| {
                    let kind = span.kind as usize;
                    (ns(span.from), span.to.map(ns), kind, rows(&span.lanes), span.label.as_str())
                })
                .collect(),
            violations: picture
                .violations
                .iter()
                .map(|found| {
                    let lanes = rows(&found.lanes);
                    (ns(found.at), found.checker.as_str(), lanes, found.text.as_str())
                })
                .collect(),
            thinned_events: stretches(&picture.events.stretches()),
            thinned_arrows: stretches(&picture.arrows.stretches()),
        }
    }
}

fn stretches(all: &[Stretch]) -> Vec<StretchRow> {
    all.iter().map(|stretch| (ns(stretch.from), ns(stretch.to), stretch.left_out)).collect()
}

impl<'a> Events<'a> {
    fn of(picture: &'a Picture) -> Self {
        let mut all: Vec<&Event> = picture.events.kept().iter().map(|kept| &kept.item).collect();
        // The script searches by time; what happened at once stays in its order.
        all.sort_by_key(|event| event.at);
        Self {
            at: all.iter().map(|event| ns(event.at)).collect(),
            lane: all.iter().map(|event| picture.row(event.lane)).collect(),
            kind: all.iter().map(|event| event.kind as usize).collect(),
            text: all.iter().map(|event| event.text.as_str()).collect(),
        }
    }
}

impl<'a> Arrows<'a> {
    fn of(picture: &'a Picture) -> Self {
        let mut all: Vec<&Arrow> = picture.arrows.kept().iter().map(|kept| &kept.item).collect();
        all.sort_by_key(|arrow| arrow.sent_at);
        Self {
            sent: all.iter().map(|arrow| ns(arrow.sent_at)).collect(),
            arrived: all.iter().map(|arrow| arrow.arrived_at.map(ns)).collect(),
            from: all.iter().map(|arrow| picture.row(arrow.from)).collect(),
            to: all.iter().map(|arrow| picture.row(arrow.to)).collect(),
            verdict: all.iter().map(|arrow| arrow.verdict as usize).collect(),
            label: all.iter().map(|arrow| arrow.label.as_str()).collect(),
            detail: all.iter().map(|arrow| arrow.detail.as_str()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmless(text: &str) -> String {
        let mut out = Vec::new();
        let mut json = serde_json::Serializer::with_formatter(&mut out, Harmless::default());
        text.serialize(&mut json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_cannot_leave_its_script_element_and_means_the_same() {
        for text in [
            "</script><script>alert(1)</script>",
            "<!-- <script>",
            "]]>&amp;",
            "a\u{2028}b\u{2029}c",
            "quotes \" and \\ and \u{0} and \u{1f}",
            "Grüße, 電波, 📡",
            "",
            "<",
        ] {
            let json = harmless(text);
            let dangerous = ['<', '>', '&', '\u{2028}', '\u{2029}', '\n'];
            assert!(!json.contains(dangerous), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
        assert_eq!(harmless("</script>"), "\"\\u003c/script\\u003e\"");
    }
}
