//! Downlink numbers are granted, never assigned: DESIGN section 5.
//!
//! `next` only rises, and every number below it was granted to exactly one (home, home_epoch). So
//! two homes can never put different bytes under one number, whatever either of them believes.

use sabotage::Bug;

use crate::{DeviceSession, DownlinkCounter, Grant, NodeId};

/// Numbers in one grant. One node needs no more; a cluster grants an hour's worth.
pub const GRANT_LENGTH: u32 = 1;

/// The grant that `home` may draw on: the one it holds and has not used up, else a new one of
/// `length` numbers from [`DownlinkCounter::next`] under a higher epoch.
///
/// * `cursor`: first number of its grant that the home has not used; `None` if it knows of no grant
///   (it never had one, or has forgotten): then what it held is skipped, for it may have been used.
/// * Returns `None` when the counter is exhausted: the device must activate anew.
pub fn grant_for(
    counter: &mut DownlinkCounter,
    home: NodeId,
    cursor: Option<u32>,
    length: u32,
) -> Option<Grant> {
    if let Some(held) = counter.grant
        && held.home == home
        && cursor.is_some_and(|cursor| cursor < held.hi)
    {
        return Some(held);
    }
    let lo = counter.next;
    let hi = lo.checked_add(length).filter(|hi| *hi > lo)?;
    let grant = Grant { home, home_epoch: counter.home_epoch.saturating_add(1), lo, hi };
    counter.home_epoch = grant.home_epoch;
    counter.next = hi;
    counter.grant = Some(grant);
    assert!(grant.hi == counter.next, "the newest grant ends where the next begins");
    Some(grant)
}

/// Takes back what `node` holds: it has started anew and may not know what it used (dangers A9).
pub fn void_grants(session: &mut DeviceSession, node: NodeId) {
    for counter in [&mut session.n_f_cnt_down, &mut session.a_f_cnt_down] {
        if sabotage::planted(Bug::GrantGivenBack) {
            counter.next = counter.grant.map_or(counter.next, |grant| grant.lo);
        }
        counter.grant = counter.grant.filter(|grant| grant.home != node);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);

    fn counter(next: u32) -> DownlinkCounter {
        DownlinkCounter { next, ..DownlinkCounter::default() }
    }

    #[test]
    fn an_unused_grant_is_kept_and_a_used_one_replaced() {
        let mut n = counter(5);
        let first = grant_for(&mut n, HOME, None, 1).unwrap();
        assert_eq!(first, Grant { home: HOME, home_epoch: 1, lo: 5, hi: 6 });
        assert_eq!(grant_for(&mut n, HOME, Some(5), 1), Some(first), "not used");
        let second = grant_for(&mut n, HOME, Some(6), 1).unwrap();
        assert_eq!(second, Grant { home: HOME, home_epoch: 2, lo: 6, hi: 7 });
    }

    #[test]
    fn a_home_that_forgot_and_another_home_start_beyond() {
        let mut n = counter(5);
        grant_for(&mut n, HOME, None, 4);
        assert_eq!(grant_for(&mut n, HOME, None, 4).unwrap().lo, 9);
        let other = grant_for(&mut n, OTHER, Some(10), 1).unwrap();
        assert_eq!((other.lo, other.hi, other.home_epoch), (13, 14, 3));
        assert_eq!(grant_for(&mut n, HOME, Some(10), 1).unwrap().lo, 14);
    }

    #[test]
    fn the_end_of_the_counter_grants_nothing() {
        let mut n = counter(u32::MAX);
        assert_eq!(grant_for(&mut n, HOME, None, 1), None);
        assert_eq!(n, counter(u32::MAX));
    }

    proptest! {
        #[test]
        fn no_number_is_granted_twice(
            asks in prop::collection::vec((1_u64..4, prop::option::of(0_u32..80), 1_u32..5), 1..60),
        ) {
            let mut n = counter(0);
            let mut owner = std::collections::BTreeMap::new();
            for (home, cursor, length) in asks {
                let grant = grant_for(&mut n, NodeId(home), cursor, length).unwrap();
                prop_assert_eq!(grant.home, NodeId(home));
                prop_assert!(grant.lo < grant.hi);
                for number in grant.lo..grant.hi {
                    let whose = (grant.home, grant.home_epoch);
                    prop_assert_eq!(*owner.entry(number).or_insert(whose), whose);
                }
            }
        }
    }
}
