//! From a picture to the bytes of its page.
//!
//! `page/picture.html` is the frame; `{{name}}` in it stands for what [`fill`] puts there. Two
//! kinds of text go in, each made harmless in its own way: words between tags ([`Words`]), and the
//! data of the drawing as JSON in which no character can end the script element (`data.rs`).
//! Should either fail, the page's policy still runs no script but the one whose hash it names.

use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::thin::{Moment, Sample};
use super::{LaneId, Outcome, Picture, data};

/// The frame of the page.
const FRAME: &str = include_str!("page/picture.html");
/// Its style.
pub(super) const STYLE: &str = include_str!("page/picture.css");
/// Its script, in the order of its parts.
pub(super) const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/data.js"),
    include_str!("page/look.js"),
    include_str!("page/view.js"),
    include_str!("page/paint.js"),
    include_str!("page/labels.js"),
    include_str!("page/pointing.js"),
    include_str!("page/strips.js"),
    include_str!("page/panel.js"),
    include_str!("page/input.js"),
    include_str!("page/main.js"),
    "})();\n",
);

/// Writes the page.
pub(super) fn write(picture: &Picture, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = FRAME;
    while let Some((before, after)) = rest.split_once("{{") {
        out.write_all(before.as_bytes())?;
        let Some((name, after)) = after.split_once("}}") else {
            return Err(io::Error::other("the frame of the page has a {{ without its }}"));
        };
        fill(picture, name, out)?;
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// Puts what `name` stands for.
fn fill(picture: &Picture, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let header = &picture.header;
    match name {
        "policy" => write!(
            out,
            "default-src 'none'; script-src '{}'; style-src '{}'; img-src data:; \
             base-uri 'none'; form-action 'none'",
            hash(SCRIPT),
            hash(STYLE)
        ),
        "style" => out.write_all(STYLE.as_bytes()),
        "script" => out.write_all(SCRIPT.as_bytes()),
        "data" => data::write(picture, out),
        "title" => write!(out, "{}", Words(&header.title)),
        "seed" => write!(out, "{}", header.seed),
        "outcome" => out.write_all(header.outcome.name().as_bytes()),
        "outcome-words" => write!(out, "{}", Words(&outcome_words(picture))),
        "exit" => write!(out, "{}", header.exit_code),
        "lasted" => write!(out, "{:.1} s", header.lasted.as_secs_f64()),
        "events" => write!(out, "{}", Grouped(picture.events.came())),
        "digest" => write!(out, "{}", Words(header.digest.get(..16).unwrap_or(&header.digest))),
        "replay" => write!(out, "{}", Words(&header.replay)),
        "scenario" => write!(out, "{}", Words(&header.scenario)),
        "counts" => numbers(&header.counts, out),
        "marks" => numbers(&header.marks, out),
        "left-out" => left_out(picture, out),
        "wrongs" => wrongs(picture, out),
        "faults" => faults(picture, out),
        "fault-count" => {
            write!(out, "{}", picture.spans.iter().filter(|span| span.kind.is_fault()).count())
        }
        "wrong-count" => write!(out, "{}", picture.violations.len() + header.unmet.len()),
        unknown => Err(io::Error::other(format!("the frame of the page asks for {unknown}"))),
    }
}

/// A source in a content security policy: this script, this style and no other.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Words between tags or within quotes.
struct Words<'a>(&'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['&', '<', '>', '"', '\'']) {
            let (plain, mark) = match part.char_indices().next_back() {
                Some((at, '&')) => (&part[..at], "&amp;"),
                Some((at, '<')) => (&part[..at], "&lt;"),
                Some((at, '>')) => (&part[..at], "&gt;"),
                Some((at, '"')) => (&part[..at], "&quot;"),
                Some((at, '\'')) => (&part[..at], "&#39;"),
                _ => (part, ""),
            };
            f.write_str(plain)?;
            f.write_str(mark)?;
        }
        Ok(())
    }
}

/// 1234567 as "1 234 567", with spaces that do not break.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str("\u{202f}")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

fn outcome_words(picture: &Picture) -> String {
    match picture.header.outcome {
        Outcome::Held => "all held".to_owned(),
        Outcome::Unmet => "not met".to_owned(),
        Outcome::Violated => {
            let mut checkers: Vec<&str> =
                picture.violations.iter().map(|violation| violation.checker.as_str()).collect();
            checkers.sort_unstable();
            checkers.dedup();
            format!("violated {}", checkers.join(", ")).trim_end().to_owned()
        }
    }
}

/// Names and numbers as the inside of a `<dl>`.
fn numbers(all: &[(String, u64)], out: &mut dyn Write) -> io::Result<()> {
    for (label, number) in all {
        let class = if *number == 0 { " class=\"none\"" } else { "" };
        writeln!(out, "<div{class}><dt>{}</dt><dd>{}</dd></div>", Words(label), Grouped(*number))?;
    }
    Ok(())
}

/// What is not in the picture, as list items.
fn left_out(picture: &Picture, out: &mut dyn Write) -> io::Result<()> {
    thinned("events", &picture.events, out)?;
    thinned("arrows", &picture.arrows, out)?;
    let later = &picture.later;
    let bounds = [
        ("lanes share the last lane", later.lanes),
        ("later faults are not shown", later.spans),
        ("later violations are not shown", later.violations),
    ];
    for (words, number) in bounds.iter().filter(|(_, number)| *number > 0) {
        writeln!(out, "<li>{} {words}.</li>", Grouped(*number))?;
    }
    Ok(())
}

fn thinned<T: Moment>(what: &str, sample: &Sample<T>, out: &mut dyn Write) -> io::Result<()> {
    let stretches = sample.stretches();
    let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else { return Ok(()) };
    let left_out: u64 = stretches.iter().map(|stretch| stretch.left_out).sum();
    writeln!(
        out,
        "<li>{} of {} {what} are left out between {:.3} s and {:.3} s, evenly; the surroundings \
         of faults and violations are kept.</li>",
        Grouped(left_out),
        Grouped(sample.came()),
        first.from.as_secs_f64(),
        last.to.as_secs_f64()
    )
}

/// A link to a stretch of time, with a little around it.
fn link(from: f64, to: f64) -> String {
    let around = ((to - from) * 0.5).max(0.5);
    format!("#t={:.6}..{:.6}", (from - around).max(0.0), to + around)
}

fn names(picture: &Picture, lanes: &[LaneId]) -> String {
    let names: Vec<&str> = lanes
        .iter()
        .filter_map(|lane| picture.lanes.get(usize::from(picture.row(*lane))))
        .map(|lane| lane.name.as_str())
        .collect();
    names.join(", ")
}

/// Violations, then what has not come about, as rows of a table.
fn wrongs(picture: &Picture, out: &mut dyn Write) -> io::Result<()> {
    for violation in &picture.violations {
        let at = violation.at.as_secs_f64();
        writeln!(
            out,
            "<tr><td><a href=\"{}\">{at:.6}</a></td><td>{}</td><td>{}</td><td>{}</td></tr>",
            link(at, at),
            Words(&violation.checker),
            Words(&names(picture, &violation.lanes)),
            Words(&violation.text)
        )?;
    }
    for text in &picture.header.unmet {
        writeln!(out, "<tr><td>end</td><td>not met</td><td></td><td>{}</td></tr>", Words(text))?;
    }
    Ok(())
}

/// Faults as rows of a table.
fn faults(picture: &Picture, out: &mut dyn Write) -> io::Result<()> {
    for span in picture.spans.iter().filter(|span| span.kind.is_fault()) {
        let from = span.from.as_secs_f64();
        let to = span.to.unwrap_or(picture.end).as_secs_f64();
        let lasts = match span.to {
            Some(_) => format!("{:.3}", to - from),
            None => "to the end".to_owned(),
        };
        writeln!(
            out,
            "<tr><td><a href=\"{}\">{from:.6}</a></td><td>{lasts}</td><td>{}</td><td>{}</td></tr>",
            link(from, to),
            Words(&names(picture, &span.lanes)),
            Words(&span.label)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_between_tags_and_in_quotes() {
        let said = Words("a < b && \"c\" > 'd'").to_string();
        assert_eq!(said, "a &lt; b &amp;&amp; &quot;c&quot; &gt; &#39;d&#39;");
        assert_eq!(Words("Grüße").to_string(), "Grüße");
        assert_eq!(Words("").to_string(), "");
    }

    #[test]
    fn long_numbers_are_read_in_groups() {
        let grouped = |number| Grouped(number).to_string().replace('\u{202f}', "_");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1_000");
        assert_eq!(grouped(1_234_567), "1_234_567");
    }

    #[test]
    fn nothing_in_the_script_or_the_style_ends_its_element() {
        for word in ["</script", "<!--", "</style"] {
            assert!(!SCRIPT.to_lowercase().contains(word), "the script contains {word}");
            assert!(!STYLE.to_lowercase().contains(word), "the style contains {word}");
        }
    }
}
