//! The values of a scenario file: durations, ranges, shares.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::dice::Dice;

/// Longest time a scenario may name: a day.
const SPAN_MAX: Duration = Duration::from_secs(86_400);

/// A duration as people write it: `"200us"`, `"1.5s"`, `"2m"`, `"1h"`; a day at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A duration, or a range from which one is drawn for each seed: `"5s"`, `"20s..80s"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRange(pub Range<Duration>);

/// A probability, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum SpanError {
    #[error("`{0}` is not a duration: write a number and us, ms, s, m or h, as in \"1.5s\"")]
    Form(String),
    #[error("`{0}` is longer than a day")]
    TooLong(String),
    #[error("the range `{0}` ends before it begins")]
    Reversed(String),
}

fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let form = || SpanError::Form(text.to_owned());
    let digits = text.trim();
    let unit_at = digits.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(form)?;
    let (number, unit) = digits.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| form())?;
    let secs = match unit {
        "us" => number / 1_000_000.0,
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(form()),
    };
    let span = Duration::try_from_secs_f64(secs).map_err(|_| form())?;
    if span > SPAN_MAX { Err(SpanError::TooLong(text.to_owned())) } else { Ok(span) }
}

fn parse_range(text: &str) -> Result<Range<Duration>, SpanError> {
    let Some((start, end)) = text.split_once("..") else {
        let at = parse_span(text)?;
        return Ok(at..at);
    };
    let range = parse_span(start)?..parse_span(end)?;
    if range.end < range.start { Err(SpanError::Reversed(text.to_owned())) } else { Ok(range) }
}

impl SpanRange {
    /// Always the same.
    pub const fn fixed(span: Duration) -> Self {
        Self(span..span)
    }

    /// One duration of the range. Draws once.
    pub fn draw(&self, dice: &mut Dice) -> Duration {
        dice.between(&self.0)
    }
}

/// Reads a value out of a string.
struct Text<T>(fn(&str) -> Result<T, SpanError>, &'static str);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(parse_span, "a duration such as \"1.5s\"")).map(Self)
    }
}

impl<'de> Deserialize<'de> for SpanRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a duration such as \"5s\" or a range such as \"1s..3s\"";
        deserializer.deserialize_str(Text(parse_range, expected)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(de::Error::custom(format!("{share} is not a probability between 0 and 1")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_ranges_read_as_people_write_them() {
        let ms = Duration::from_millis;
        assert_eq!(parse_span("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(parse_span("1.5s"), Ok(ms(1_500)));
        assert_eq!(parse_span("2 m"), Ok(ms(120_000)));
        assert_eq!(parse_span("24h"), Ok(SPAN_MAX));
        assert_eq!(parse_range("1ms..6ms"), Ok(ms(1)..ms(6)));
        assert_eq!(parse_range("5s"), Ok(ms(5_000)..ms(5_000)));
    }

    #[test]
    fn hostile_texts_are_refused_in_words() {
        for text in ["", "5", "s", "-1s", "1e99h", "nans", "infs", "1d", "1.2.3s", "é"] {
            assert!(matches!(parse_span(text), Err(SpanError::Form(_))), "{text}");
        }
        assert!(matches!(parse_span("25h"), Err(SpanError::TooLong(_))));
        assert!(matches!(parse_range("3s..1s"), Err(SpanError::Reversed(_))));
        assert!(parse_range("1s..2s..3s").is_err());
    }
}
