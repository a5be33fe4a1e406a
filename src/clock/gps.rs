//! GPS time: what DeviceTimeAns, beacons and `tmms` count.

use minicbor::{Decode, Encode};

use crate::{Duration, WallTime};

/// 1980-01-06T00:00:00Z in microseconds of the Unix epoch.
const GPS_EPOCH_UNIX_MICROS: i64 = 315_964_800_000_000;
/// Unix times at which a leap second had just been inserted, since the GPS epoch (IERS bulletin C).
const LEAP_SECONDS_UNIX: [i64; 18] = [
    362_793_600,
    394_329_600,
    425_865_600,
    489_024_000,
    567_993_600,
    631_152_000,
    662_688_000,
    709_948_800,
    741_484_800,
    773_020_800,
    820_454_400,
    867_715_200,
    915_148_800,
    1_136_073_600,
    1_230_768_000,
    1_341_100_800,
    1_435_708_800,
    1_483_228_800,
];

/// Microseconds since 1980-01-06T00:00:00Z, leap seconds counted. Never before that epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct GpsTime {
    #[n(0)]
    micros: u64,
}

impl GpsTime {
    /// From microseconds since the GPS epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Microseconds since the GPS epoch.
    pub const fn as_micros(self) -> u64 {
        self.micros
    }

    /// Time since the GPS epoch.
    pub const fn since_epoch(self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// The moment `wall` on the GPS scale; the epoch itself for anything before it.
    pub fn from_wall(wall: WallTime) -> Self {
        let unix_secs = wall.unix_micros().div_euclid(1_000_000);
        let leaps = LEAP_SECONDS_UNIX.iter().filter(|at| **at <= unix_secs).count() as i64;
        let micros = wall
            .unix_micros()
            .saturating_sub(GPS_EPOCH_UNIX_MICROS)
            .saturating_add(leaps * 1_000_000);
        Self { micros: u64::try_from(micros).unwrap_or(0) }
    }

    /// The moment as UTC.
    pub fn to_wall(self) -> WallTime {
        let mut unix =
            i64::try_from(self.micros).unwrap_or(i64::MAX).saturating_add(GPS_EPOCH_UNIX_MICROS);
        for at in LEAP_SECONDS_UNIX {
            if at * 1_000_000 <= unix - 1_000_000 {
                unix -= 1_000_000;
            }
        }
        WallTime::from_unix_micros(unix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighteen_leap_seconds_are_in_force_since_2017() {
        // 2018-01-01T00:00:00Z is GPS second 1,198,800,018.
        let wall = WallTime::from_unix_secs(1_514_764_800);
        assert_eq!(wall.to_gps().since_epoch().as_secs(), 1_198_800_018);
        assert_eq!(wall.to_gps().to_wall(), wall);
    }

    #[test]
    fn every_leap_second_round_trips_on_both_sides() {
        for at in LEAP_SECONDS_UNIX {
            for offset in [-2, -1, 0, 1, 2] {
                let wall = WallTime::from_unix_secs(at + offset);
                assert_eq!(wall.to_gps().to_wall(), wall, "leap second at {at}, offset {offset}");
            }
        }
    }

    #[test]
    fn before_the_epoch_is_the_epoch() {
        assert_eq!(WallTime::UNIX_EPOCH.to_gps(), GpsTime::default());
    }
}
