//! Who may draw on which downlink numbers, as the log has granted them.

use std::collections::BTreeMap;

use lorawan::{DevAddr, DevEui};
use mac::Grant;

/// One counter: a device's, in one session.
pub(super) type Counter = (DevEui, DevAddr);

/// Who draws on a grant: a member, under an epoch.
pub(super) type Home = (u64, u32);

/// A member and the epoch that a grant names.
pub(super) const fn home_of(grant: &Grant) -> Home {
    (grant.home.0, grant.home_epoch)
}

/// The ranges granted of one counter: by their first number, the first behind, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u32, (u32, Home)>);

impl Ranges {
    /// Adds what is granted; the ranges of one home and epoch are one.
    ///
    /// Errors: the other one to whom a number of it was granted before.
    pub(super) fn add(&mut self, grant: &Grant) -> Result<(), Home> {
        let (mut lo, mut hi) = (grant.lo, grant.hi);
        let home = home_of(grant);
        let touching = self.0.range(..=hi).rev().take_while(|(_, (end, _))| *end >= lo);
        let touching: Vec<(u32, u32, Home)> =
            touching.map(|(from, (end, whose))| (*from, *end, *whose)).collect();
        let other = touching
            .iter()
            .find(|(from, end, whose)| *whose != home && *from < grant.hi && *end > grant.lo);
        if let Some((_, _, whose)) = other {
            return Err(*whose);
        }
        for (from, end, _) in touching.iter().filter(|(_, _, whose)| *whose == home) {
            self.0.remove(from);
            (lo, hi) = (lo.min(*from), hi.max(*end));
        }
        if lo < hi {
            self.0.insert(lo, (hi, home));
        }
        Ok(())
    }

    /// To whom a number was granted.
    pub(super) fn home(&self, number: u32) -> Option<Home> {
        let (_, (end, home)) = self.0.range(..=number).next_back()?;
        (number < *end).then_some(*home)
    }
}

#[cfg(test)]
mod tests {
    use mac::NodeId;

    use super::*;

    fn grant(home: u64, home_epoch: u32, lo: u32, hi: u32) -> Grant {
        Grant { home: NodeId(home), home_epoch, lo, hi }
    }

    #[test]
    fn a_range_grows_and_shrinks_from_below_and_stays_its_homes() {
        let mut ranges = Ranges::default();
        for one in
            [grant(1, 1, 0, 16), grant(1, 1, 9, 25), grant(2, 2, 25, 26), grant(1, 1, 30, 30)]
        {
            assert_eq!(ranges.add(&one), Ok(()));
        }
        let homes = [0, 24, 25, 26].map(|number| ranges.home(number));
        assert_eq!(homes, [Some((1, 1)), Some((1, 1)), Some((2, 2)), None]);
        assert_eq!(ranges.add(&grant(1, 3, 25, 41)), Err((2, 2)));
        assert_eq!(ranges.add(&grant(1, 3, 26, 42)), Ok(()));
    }
}
