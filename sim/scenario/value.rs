//! The values of a scenario file: durations, ranges, shares. Each is written the way it is read.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::quote;

/// Longest time a scenario may name: a day.
const SPAN_MAX: Duration = Duration::from_secs(86_400);

/// What one duration looks like, for the schema.
const SPAN_PATTERN: &str = r"[0-9]+(\.[0-9]+)? *(us|ms|s|m|h)";

/// A duration as people write it: `"200us"`, `"1.5s"`, `"2m"`, `"1h"`; a day at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A duration, or a range from which one is drawn: `"5s"`, `"20s..80s"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanRange(pub Range<Duration>);

/// A number, or a range from which one is drawn: `7`, `"1..400"`, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub RangeInclusive<u64>);

/// A probability, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share(pub f64);

/// Why a text is not the value it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ValueError {
    #[error("`{0}` is not a duration: write a number and us, ms, s, m or h, as in \"1.5s\"")]
    Duration(String),
    #[error("`{0}` is longer than a day")]
    TooLong(String),
    #[error("the range `{0}` ends before it begins")]
    Reversed(String),
    #[error("`{0}` is not a number, nor a range such as \"1..400\"")]
    Number(String),
}

fn parse_span(text: &str) -> Result<Duration, ValueError> {
    let form = || ValueError::Duration(quote(text));
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
    if span > SPAN_MAX { Err(ValueError::TooLong(quote(text))) } else { Ok(span) }
}

fn parse_range(text: &str) -> Result<Range<Duration>, ValueError> {
    let Some((start, end)) = text.split_once("..") else {
        let at = parse_span(text)?;
        return Ok(at..at);
    };
    let range = parse_span(start)?..parse_span(end)?;
    if range.end < range.start { Err(ValueError::Reversed(quote(text))) } else { Ok(range) }
}

fn parse_numbers(text: &str) -> Result<RangeInclusive<u64>, ValueError> {
    let number =
        |part: &str| part.trim().parse::<u64>().map_err(|_| ValueError::Number(quote(text)));
    let range = match text.split_once("..") {
        Some((start, end)) => number(start)?..=number(end)?,
        None => number(text)?..=number(text)?,
    };
    if range.is_empty() { Err(ValueError::Reversed(quote(text))) } else { Ok(range) }
}

impl fmt::Display for Span {
    /// In the largest unit that needs no fraction; to the nanosecond, so that it reads back equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)];
        let small = [("ms", 1_000_000), ("us", 1_000)];
        let whole = units.into_iter().chain(small).find(|(_, unit)| nanos.is_multiple_of(*unit));
        match whole {
            Some(_) if nanos == 0 => f.write_str("0s"),
            Some((name, unit)) => write!(f, "{}{name}", nanos / unit),
            None => write!(f, "{}.{:09}s", self.0.as_secs(), self.0.subsec_nanos()),
        }
    }
}

impl SpanRange {
    /// Always the same.
    pub const fn fixed(span: Duration) -> Self {
        Self(span..span)
    }

    /// A range in whole milliseconds.
    pub const fn ms(start: u64, end: u64) -> Self {
        Self(Duration::from_millis(start)..Duration::from_millis(end))
    }
}

impl fmt::Display for SpanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.start == self.0.end {
            return Span(self.0.start).fmt(f);
        }
        write!(f, "{}..{}", Span(self.0.start), Span(self.0.end))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.start() == self.0.end() {
            return self.0.start().fmt(f);
        }
        write!(f, "{}..{}", self.0.start(), self.0.end())
    }
}

impl Numbers {
    /// Always the same.
    pub const fn fixed(number: u64) -> Self {
        Self(number..=number)
    }
}

/// Reads a value out of a string.
struct Text<T>(fn(&str) -> Result<T, ValueError>, &'static str);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// Reads numbers, which may also stand without quotes.
struct NumbersText;

impl Visitor<'_> for NumbersText {
    type Value = RangeInclusive<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a range such as \"1..400\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        parse_numbers(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        let number =
            u64::try_from(number).map_err(|_| E::custom(ValueError::Number(number.to_string())))?;
        Ok(number..=number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(number..=number)
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

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersText).map(Self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(de::Error::custom(format!("{share:?} is not a probability between 0 and 1")))
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for SpanRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.start() == self.0.end() {
            self.0.start().serialize(serializer)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^ *{SPAN_PATTERN} *$") })
    }
}

impl JsonSchema for SpanRange {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!(r"^ *{SPAN_PATTERN} *(\.\. *{SPAN_PATTERN} *)?$");
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

impl JsonSchema for Numbers {
    fn schema_name() -> Cow<'static, str> {
        "NumberOrRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^ *[0-9]+ *(\.\. *[0-9]+ *)?$" },
            ]
        })
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
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
        assert_eq!(parse_numbers("1..400"), Ok(1..=400));
        assert_eq!(parse_numbers(" 7 "), Ok(7..=7));
    }

    #[test]
    fn what_is_written_reads_back_equal_to_the_nanosecond() {
        let nanos = [0, 1, 999, 1_000, 1_500_000, 61_000_000_000, 179_123_456_789];
        for span in nanos.map(Duration::from_nanos) {
            assert_eq!(parse_span(&Span(span).to_string()), Ok(span), "{span:?}");
        }
        assert_eq!(Span(Duration::from_secs(120)).to_string(), "2m");
        assert_eq!(Span(Duration::from_millis(1_500)).to_string(), "1500ms");
        assert_eq!(SpanRange::ms(1, 6).to_string(), "1ms..6ms");
        assert_eq!(Numbers(3..=9).to_string(), "3..9");
    }

    #[test]
    fn hostile_texts_are_refused_in_words() {
        for text in ["", "5", "s", "-1s", "1e99h", "nans", "infs", "1d", "1.2.3s", "é"] {
            assert!(matches!(parse_span(text), Err(ValueError::Duration(_))), "{text}");
        }
        assert!(matches!(parse_span("25h"), Err(ValueError::TooLong(_))));
        assert!(matches!(parse_range("3s..1s"), Err(ValueError::Reversed(_))));
        assert!(parse_range("1s..2s..3s").is_err());
        for text in ["", "x", "1..", "-3", "1..2..3", "99999999999999999999"] {
            assert!(matches!(parse_numbers(text), Err(ValueError::Number(_))), "{text}");
        }
        assert!(matches!(parse_numbers("9..3"), Err(ValueError::Reversed(_))));
    }
}
