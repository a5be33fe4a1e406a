//! Whether a downlink leaves when its window is over: a link that was cut in between may hold an
//! order back until it heals. Its gateway refuses it, and no device hears it.

use std::collections::BTreeMap;
use std::time::Duration;

use lorawan::GatewayEui;

use crate::oracle::{Fact, Seen, Transmission};

/// When each gateway's counter was where.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    counters: BTreeMap<GatewayEui, (Duration, u32)>,
}

impl Lateness {
    pub(super) fn observe(&mut self, seen: &Seen) {
        if let Fact::Heard { gateway, tmst, .. } = &seen.fact {
            self.counters.insert(*gateway, (seen.at, *tmst));
        }
    }

    /// Whether a frame that leaves now can no longer be sent when it should.
    pub(super) fn is_late(&self, at: Duration, how: &Transmission) -> bool {
        let Some((then, counter)) = self.counters.get(&how.gateway) else { return false };
        let Some(tmst) = how.tmst else { return false };
        let now = i128::from(*counter) + micros(at) - micros(*then);
        // The counter wraps: the window is the nearest of those that it may mean.
        let ahead = (i128::from(tmst) - now).rem_euclid(1 << 32);
        ahead > 1 << 31
    }
}

fn micros(at: Duration) -> i128 {
    i128::try_from(at.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::history::{heard_at, transmission};
    use super::*;

    #[test]
    fn a_window_is_over_when_the_counter_is_behind_it() {
        let mut lateness = Lateness::default();
        let how = |tmst| Transmission { tmst: Some(tmst), ..transmission() };
        let at = Duration::from_secs(100);
        assert!(!lateness.is_late(at, &how(5)), "nothing is known of its counter");
        let fact = heard_at(transmission().gateway, u32::MAX - 10);
        lateness.observe(&Seen { at, fact });
        assert!(!lateness.is_late(at, &how(1_000_000)), "over the wrap");
        assert!(!lateness.is_late(at + Duration::from_millis(900), &how(1_000_000)));
        assert!(lateness.is_late(at + Duration::from_millis(1_100), &how(1_000_000)));
    }
}
