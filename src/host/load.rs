//! How busy the loop is: the share of time in which it works and does not wait.
//!
//! Written by the loop, read by whoever answers a load balancer. The figure is that of the last
//! whole window, mixed with those before it, so that one burst does not turn gateways away.

use std::sync::atomic::{AtomicU64, Ordering};

use clock::{Duration, Instant};

/// How long one look takes.
const WINDOW: Duration = Duration::from_secs(1);

/// The load of one loop.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// When the window began.
    since: AtomicU64,
    /// When the loop began to work.
    working: AtomicU64,
    /// Microseconds at work in this window.
    busy: AtomicU64,
    /// Per mille, of the windows before.
    share: AtomicU64,
}

impl Load {
    /// The loop begins to work.
    pub(crate) fn work(&self, now: Instant) {
        self.turn(now.as_micros());
        self.working.store(now.as_micros(), Ordering::Relaxed);
    }

    /// The loop has nothing to do.
    pub(crate) fn rest(&self, now: Instant) {
        let worked = now.as_micros().saturating_sub(self.working.load(Ordering::Relaxed));
        self.busy.fetch_add(worked, Ordering::Relaxed);
        self.turn(now.as_micros());
    }

    /// Ends a window that has lasted long enough.
    fn turn(&self, now: u64) {
        let since = self.since.load(Ordering::Relaxed);
        let window = u64::try_from(WINDOW.as_micros()).unwrap_or(u64::MAX);
        let lasted = now.saturating_sub(since);
        if lasted < window {
            return;
        }
        let busy = self.busy.swap(0, Ordering::Relaxed).min(lasted);
        let share = busy.saturating_mul(1_000) / lasted;
        let before = self.share.load(Ordering::Relaxed);
        self.share.store((before + share) / 2, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
    }

    /// Percent of the last seconds spent at work.
    pub(crate) fn percent(&self, now: Instant) -> u32 {
        self.turn(now.as_micros());
        u32::try_from(self.share.load(Ordering::Relaxed) / 10).unwrap_or(100).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_works_half_the_time_is_half_busy() {
        let load = Load::default();
        for turn in 0..200 {
            load.work(Instant::from_millis(turn * 100));
            load.rest(Instant::from_millis(turn * 100 + 50));
        }
        let busy = load.percent(Instant::from_secs(20));
        assert!((45..=50).contains(&busy), "{busy}");
        for second in 21..40 {
            load.percent(Instant::from_secs(second));
        }
        assert_eq!(load.percent(Instant::from_secs(41)), 0);
    }
}
