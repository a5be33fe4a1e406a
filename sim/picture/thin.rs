//! A bounded sample of something that comes without end: what lies near a fault is kept first.
//!
//! A run may have a million events and a page may not. [`Sample`] keeps everything until it holds
//! twice what it may show, then thins itself, and goes on. Thinning keeps
//!
//! 1. the [`NEAR_SHARE`] of items that are nearest in time to a [`Landmark`]: the beginning, the
//!    end so far, each end of a fault, and, eight times as far around, each violation;
//! 2. of the others every second, or fourth, or eighth, ... counted over the whole run, so that
//!    what is left is spread evenly and does not depend on when thinning happened.

use std::time::Duration;

/// Share of what is shown, in percent, that is kept for the surroundings of landmarks.
const NEAR_SHARE: usize = 60;

/// How much wider the surroundings of a violation are than those of a fault.
const VIOLATION_REACH: u32 = 8;

/// Stretches with fewer whole neighbours between them than this are told as one.
const WHOLE_ENOUGH: usize = 64;

/// Something with a moment.
pub(super) trait Moment {
    /// When it happened.
    fn at(&self) -> Duration;

    /// Whether it stands for a fault or a violation itself.
    fn is_landmark(&self) -> bool {
        false
    }
}

/// Moments whose surroundings are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Landmarks {
    faults: Vec<Duration>,
    violations: Vec<Duration>,
}

impl Landmarks {
    /// In any order; the run's begin and end so far belong among the faults.
    pub(super) fn new(mut faults: Vec<Duration>, mut violations: Vec<Duration>) -> Self {
        faults.sort_unstable();
        violations.sort_unstable();
        Self { faults, violations }
    }

    /// How far it is from `at` to the nearest landmark.
    fn distance(&self, at: Duration) -> Duration {
        let to_violation = nearest(&self.violations, at) / VIOLATION_REACH;
        nearest(&self.faults, at).min(to_violation)
    }
}

/// Time from `at` to the nearest of `sorted`.
fn nearest(sorted: &[Duration], at: Duration) -> Duration {
    let place = sorted.partition_point(|moment| *moment < at);
    let after = sorted.get(place).map(|moment| *moment - at);
    let before = place.checked_sub(1).map(|last| at - sorted[last]);
    after.into_iter().chain(before).min().unwrap_or(Duration::MAX)
}

/// The smallest power of two of which no more than `max` places are multiples.
fn sparse_enough(places: &[(u64, usize)], max: usize) -> u64 {
    let multiples =
        |step: u64| places.iter().filter(|(place, _)| place.is_multiple_of(step)).count();
    let steps = (0..u64::BITS).map(|halvings| 1_u64 << halvings);
    steps.into_iter().find(|step| multiples(*step) <= max).unwrap_or(u64::MAX)
}

/// One of the items, and its place among all that ever came.
#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub(super) place: u64,
    pub(super) item: T,
}

/// A stretch of time of which a part is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The last item shown before it.
    pub(super) from: Duration,
    /// The first item shown after it.
    pub(super) to: Duration,
    /// Items left out between the two.
    pub(super) left_out: u64,
}

/// A bounded sample.
#[derive(Clone, Debug)]
pub(super) struct Sample<T> {
    kept: Vec<Kept<T>>,
    came: u64,
    max: usize,
}

impl<T: Moment> Sample<T> {
    /// Shows `max` items at most, and holds twice as many at most.
    pub(super) fn new(max: usize) -> Self {
        assert!(max > 0, "a sample of nothing shows nothing");
        Self { kept: Vec::new(), came: 0, max }
    }

    /// Whether [`Self::thin`] must be called before the next push.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= 2 * self.max
    }

    /// Takes an item; returns its place among all.
    pub(super) fn push(&mut self, item: T) -> u64 {
        assert!(!self.is_full(), "a full sample is thinned first");
        let place = self.came;
        self.kept.push(Kept { place, item });
        self.came += 1;
        place
    }

    /// The item of that place, if it is still there.
    pub(super) fn get_mut(&mut self, place: u64) -> Option<&mut T> {
        let found = self.kept.binary_search_by_key(&place, |kept| kept.place).ok()?;
        Some(&mut self.kept[found].item)
    }

    /// Leaves at most what may be shown.
    pub(super) fn thin(&mut self, landmarks: &Landmarks) {
        if self.kept.len() <= self.max {
            return;
        }
        let near_max = self.max * NEAR_SHARE / 100;
        let mut ranked: Vec<(Duration, usize)> = self
            .kept
            .iter()
            .enumerate()
            .map(|(index, kept)| match kept.item.is_landmark() {
                true => (Duration::ZERO, index),
                false => (landmarks.distance(kept.item.at()), index),
            })
            .collect();
        // The index breaks ties, so that the same run always keeps the same items.
        ranked.select_nth_unstable(near_max);
        let (near, far) = ranked.split_at(near_max);
        let mut stays = vec![false; self.kept.len()];
        for (_, index) in near {
            stays[*index] = true;
        }
        let far: Vec<(u64, usize)> =
            far.iter().map(|(_, index)| (self.kept[*index].place, *index)).collect();
        let step = sparse_enough(&far, self.max - near_max);
        for (_, index) in far.iter().filter(|(place, _)| place.is_multiple_of(step)) {
            stays[*index] = true;
        }
        let mut stays = stays.into_iter();
        self.kept.retain(|_| stays.next().unwrap_or(false));
        assert!(self.kept.len() <= self.max, "thinning leaves what may be shown");
    }

    /// How many ever came.
    pub(super) fn came(&self) -> u64 {
        self.came
    }

    /// What is there, in the order it came.
    pub(super) fn kept(&self) -> &[Kept<T>] {
        &self.kept
    }

    /// Where items were left out, in the order of their coming; neighbouring stretches are one.
    pub(super) fn stretches(&self) -> Vec<Stretch> {
        let mut found: Vec<(usize, Stretch)> = Vec::new();
        for (index, pair) in self.kept.windows(2).enumerate() {
            let left_out = pair[1].place - pair[0].place - 1;
            if left_out == 0 {
                continue;
            }
            let (from, to) = (pair[0].item.at(), pair[1].item.at());
            match found.last_mut() {
                Some((last, stretch)) if index - *last < WHOLE_ENOUGH => {
                    *last = index;
                    stretch.to = to;
                    stretch.left_out += left_out;
                }
                _ => found.push((index, Stretch { from, to, left_out })),
            }
        }
        found.into_iter().map(|(_, stretch)| stretch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(u64);

    impl Moment for At {
        fn at(&self) -> Duration {
            Duration::from_millis(self.0)
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `count` items a millisecond apart, thinned whenever it must be, and once at the end.
    fn sampled(count: u64, max: usize, faults: &[u64], violations: &[u64]) -> Sample<At> {
        let mut sample = Sample::new(max);
        let landmarks = |now: u64| {
            let past =
                |all: &[u64]| all.iter().filter(|at| **at <= now).map(|at| ms(*at)).collect();
            let mut faults: Vec<Duration> = past(faults);
            faults.extend([ms(0), ms(now)]);
            Landmarks::new(faults, past(violations))
        };
        for at in 0..count {
            if sample.is_full() {
                sample.thin(&landmarks(at));
            }
            sample.push(At(at));
        }
        sample.thin(&landmarks(count - 1));
        sample
    }

    #[test]
    fn what_fits_stays_whole() {
        let sample = sampled(1_000, 1_000, &[], &[]);
        assert_eq!((sample.kept().len(), sample.came()), (1_000, 1_000));
        assert!(sample.stretches().is_empty());
    }

    #[test]
    fn a_long_run_keeps_its_landmarks_whole_and_its_middle_even() {
        let sample = sampled(100_000, 2_000, &[30_000], &[70_000]);
        assert!(sample.kept().len() <= 2_000);
        let there = |at: u64| sample.kept().binary_search_by_key(&at, |kept| kept.place).is_ok();
        for whole in [0..50, 29_960..30_040, 69_700..70_300, 99_950..100_000] {
            assert!(whole.clone().all(there), "{whole:?} is not whole");
        }
        let stretches = sample.stretches();
        let left_out: u64 = stretches.iter().map(|stretch| stretch.left_out).sum();
        assert_eq!(left_out + sample.kept().len() as u64, 100_000);
        // What stays of the middle is spread evenly over it, early and late alike.
        let within = |from, to| (from..to).filter(|at| there(*at)).count();
        let (early, late) = (within(5_000, 25_000), within(75_000, 95_000));
        assert!(early > 80 && early.abs_diff(late) <= 2, "{early} early, {late} late");
    }

    #[test]
    fn more_landmarks_than_room_still_stay_within_the_bound() {
        let every: Vec<u64> = (0..20_000).collect();
        let sample = sampled(20_000, 500, &every, &[]);
        assert!(sample.kept().len() <= 500 && sample.kept().len() > 300);
    }

    #[test]
    fn an_item_is_found_by_its_place_until_it_is_thinned_away() {
        let mut sample = sampled(10_000, 100, &[], &[]);
        assert!(sample.get_mut(0).is_some());
        let gone = (0..10_000).find(|place| sample.get_mut(*place).is_none());
        assert!(gone.is_some());
        assert!(sample.get_mut(10_000).is_none());
    }
}
