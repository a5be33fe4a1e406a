//! RFC 3339 to microseconds of the Unix epoch and back, in the proleptic Gregorian calendar.
//!
//! Civil days by counting in 400-year eras that begin on 1 March, so that the leap day comes last.

use core::fmt;

const MICROS_PER_SEC: i64 = 1_000_000;
const SECS_PER_DAY: i64 = 86_400;
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_UNIX: i64 = 719_468;

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time like 2026-11-20T17:52:06Z")]
pub struct ParseTimeError;

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * DAYS_PER_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
        - DAYS_TO_UNIX
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_TO_UNIX;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

pub(crate) fn format_rfc3339(unix_micros: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let secs = unix_micros.div_euclid(MICROS_PER_SEC);
    let micros = unix_micros.rem_euclid(MICROS_PER_SEC);
    let (year, month, day) = civil_from_days(secs.div_euclid(SECS_PER_DAY));
    let of_day = secs.rem_euclid(SECS_PER_DAY);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
    if micros != 0 {
        if micros % 1_000 == 0 {
            write!(f, ".{:03}", micros / 1_000)?;
        } else {
            write!(f, ".{micros:06}")?;
        }
    }
    f.write_str("Z")
}

fn number(text: &[u8], digits: usize) -> Result<(i64, &[u8]), ParseTimeError> {
    let (head, rest) = text.split_at_checked(digits).ok_or(ParseTimeError)?;
    let mut value = 0;
    for byte in head {
        if !byte.is_ascii_digit() {
            return Err(ParseTimeError);
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Ok((value, rest))
}

fn expect<'a>(text: &'a [u8], allowed: &[u8]) -> Result<&'a [u8], ParseTimeError> {
    match text.split_first() {
        Some((first, rest)) if allowed.contains(first) => Ok(rest),
        _ => Err(ParseTimeError),
    }
}

fn fraction(text: &[u8]) -> Result<(i64, &[u8]), ParseTimeError> {
    let Some(digits) = text.strip_prefix(b".") else { return Ok((0, text)) };
    let count = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 || count > 18 {
        return Err(ParseTimeError);
    }
    let (head, rest) = digits.split_at(count);
    let mut micros = 0;
    for position in 0..6 {
        micros = micros * 10 + head.get(position).map_or(0, |b| i64::from(b - b'0'));
    }
    Ok((micros, rest))
}

fn offset_secs(text: &[u8]) -> Result<i64, ParseTimeError> {
    if text == b"Z" || text == b"z" {
        return Ok(0);
    }
    let sign = match text.first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Err(ParseTimeError),
    };
    let (hours, rest) = number(&text[1..], 2)?;
    let (minutes, rest) = number(expect(rest, b":")?, 2)?;
    if !rest.is_empty() || hours > 23 || minutes > 59 {
        return Err(ParseTimeError);
    }
    Ok(sign * (hours * 3_600 + minutes * 60))
}

pub(crate) fn parse_rfc3339(text: &str) -> Result<i64, ParseTimeError> {
    let (year, rest) = number(text.as_bytes(), 4)?;
    let (month, rest) = number(expect(rest, b"-")?, 2)?;
    let (day, rest) = number(expect(rest, b"-")?, 2)?;
    let (hour, rest) = number(expect(rest, b"Tt ")?, 2)?;
    let (minute, rest) = number(expect(rest, b":")?, 2)?;
    let (second, rest) = number(expect(rest, b":")?, 2)?;
    let (micros, rest) = fraction(rest)?;
    let offset = offset_secs(rest)?;
    let days = days_from_civil(year, month, day);
    // A leap second (`:60`) is taken as the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 || civil_from_days(days) != (year, month, day) {
        return Err(ParseTimeError);
    }
    let secs = days * SECS_PER_DAY + hour * 3_600 + minute * 60 + second - offset;
    Ok(secs * MICROS_PER_SEC + micros)
}

#[cfg(test)]
mod tests {
    use crate::WallTime;

    #[test]
    fn known_moments_read_and_print() {
        let table = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000_000),
            ("2026-11-20T17:52:06.250Z", 1_795_197_126_250_000),
            ("2026-11-20T17:52:06.000001Z", 1_795_197_126_000_001),
            ("1969-12-31T23:59:59Z", -1_000_000),
        ];
        for (text, micros) in table {
            let time: WallTime = text.parse().unwrap();
            assert_eq!(time.unix_micros(), micros, "{text}");
            assert_eq!(time.to_string(), text);
        }
        assert_eq!(
            "2026-11-20T18:52:06+01:00".parse(),
            Ok(WallTime::from_unix_secs(1_795_197_126))
        );
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        let hostile = [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00ZZ",
            "２０２６-01-01T00:00:00Z",
            "2026-01-01T00:00:00+24:00",
        ];
        for text in hostile {
            assert!(text.parse::<WallTime>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_round_trips() {
        for day in -146_097..146_097 {
            let time = WallTime::from_unix_secs(day * 86_400);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
