//! UTC, as people and `expiresAt` mean it.

use core::fmt;
use core::str::FromStr;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::calendar::{self, ParseTimeError};
use crate::{Duration, GpsTime};

/// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted. May be negative.
///
/// Text form: RFC 3339 in UTC with microseconds only where there are any (`2026-11-20T17:52:06Z`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct WallTime {
    #[n(0)]
    micros: i64,
}

impl WallTime {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self { micros: 0 };

    /// From microseconds since the Unix epoch.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// From seconds since the Unix epoch.
    pub const fn from_unix_secs(secs: i64) -> Self {
        Self { micros: secs * 1_000_000 }
    }

    /// Microseconds since the Unix epoch.
    pub const fn unix_micros(self) -> i64 {
        self.micros
    }

    /// The same moment later by `duration`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self { micros: self.micros.saturating_add(micros) }
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(
            u64::try_from(self.micros.saturating_sub(earlier.micros)).unwrap_or(0),
        )
    }

    /// The same moment on the GPS scale, with the leap seconds of 2017 (still in force in 2026).
    pub fn to_gps(self) -> GpsTime {
        GpsTime::from_wall(self)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        calendar::format_rfc3339(self.micros, f)
    }
}

impl FromStr for WallTime {
    type Err = ParseTimeError;

    /// RFC 3339 with any offset; a fraction beyond microseconds is cut off.
    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        calendar::parse_rfc3339(text).map(|micros| Self { micros })
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
