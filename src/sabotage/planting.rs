//! Planting: one bug, in one thread, until the guard goes. Only with the feature `sabotage`.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::Bug;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this bug is planted in this thread.
#[must_use]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// A planted bug; dropping it takes the bug away.
#[derive(Debug)]
#[must_use = "the bug goes with it"]
pub struct Planted {
    /// It belongs to its thread.
    _here: PhantomData<*const ()>,
}

/// Plants a bug in this thread.
///
/// Panics if one is planted already: what a run shows is to be that bug's alone.
pub fn plant(bug: Bug) -> Planted {
    let before = PLANTED.replace(Some(bug));
    assert!(before.is_none(), "{before:?} is planted already");
    crate::props::forget();
    Planted { _here: PhantomData }
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "whether another thread sees it")]
    fn a_bug_is_planted_alone_in_its_thread_until_its_guard_goes() {
        assert!(!planted(Bug::DedupOff));
        let guard = plant(Bug::DedupOff);
        assert!(planted(Bug::DedupOff) && !planted(Bug::StaleDisk));
        let elsewhere = std::thread::spawn(|| planted(Bug::DedupOff));
        assert!(!elsewhere.join().unwrap());
        drop(guard);
        assert!(!planted(Bug::DedupOff));
    }

    #[test]
    #[should_panic(expected = "Some(DedupOff) is planted already")]
    fn a_second_bug_is_refused() {
        let _first = plant(Bug::DedupOff);
        let _second = plant(Bug::StaleDisk);
    }

    #[test]
    fn every_bug_has_a_name_of_its_own_and_says_what_it_breaks() {
        let mut names = std::collections::BTreeSet::new();
        for bug in Bug::ALL {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(bug.name().chars().all(plain), "{bug:?}");
            assert!(names.insert(bug.name()), "{bug:?}: the name is taken");
            assert!(bug.breaks().ends_with('.'), "{bug:?}");
        }
    }
}
