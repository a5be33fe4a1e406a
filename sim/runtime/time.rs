//! Instants and timers in the time of the node whose task asks.
//!
//! madsim's own sleep lasts a millisecond at least and leaves a timer behind at every poll. Ours is
//! exact to the nanosecond and arms one timer. The shortest sleep is a microsecond, so that a
//! task that spins on a deadline already passed moves time on instead of hanging the run.
//!
//! A timer in a node's time asks the node's clock when it fires: if the clock has become slower or
//! stood still, the timer is armed anew for what is left.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::plugin::node;
use madsim::task::NodeId;
use madsim::time::TimeHandle;

use crate::clocks::{Clocks, virtual_now};

/// Shortest sleep.
const SLEEP_MIN: Duration = Duration::from_micros(1);

/// A moment on the monotonic clock of the node that read it, in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalInstant(Duration);

impl LocalInstant {
    /// The monotonic clock of the node whose task is running.
    pub fn current() -> Self {
        Self(Clocks::current().monotonic(node()))
    }

    /// Time since the origin of this boot.
    pub const fn since_boot(self) -> Duration {
        self.0
    }
}

impl openraft_rt::Instant for LocalInstant {
    fn now() -> Self {
        Self::current()
    }
}

impl Add<Duration> for LocalInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl AddAssign<Duration> for LocalInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for LocalInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

impl SubAssign<Duration> for LocalInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for LocalInstant {
    type Output = Duration;
    /// Zero if `earlier` is later, as after a reboot.
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Resolves when the node's clock shows the deadline.
#[derive(Debug)]
#[must_use = "a timer does nothing unless awaited"]
pub struct Sleep {
    inner: madsim::time::Sleep,
    /// Who is woken by the timer already armed.
    armed: Option<Waker>,
    /// Whose clock must show what; `None` for the world's.
    local: Option<(NodeId, Duration)>,
}

impl Sleep {
    /// Until the clock of the node whose task is running shows `deadline`.
    pub fn until(deadline: LocalInstant) -> Self {
        Self::until_on(node(), deadline.0)
    }

    /// Until the monotonic clock of `node` shows `local`, whoever asks.
    pub fn until_on(node: NodeId, local: Duration) -> Self {
        let at = Clocks::current().virtual_at(node, local);
        Self { local: Some((node, local)), ..Self::until_virtual(at) }
    }

    fn until_virtual(at: Duration) -> Self {
        let time = TimeHandle::current();
        let now = time.elapsed();
        let wait = at.saturating_sub(now).max(SLEEP_MIN);
        let mut inner = time.sleep(wait);
        Pin::new(&mut inner).reset(time.now_instant() + wait);
        Self { inner, armed: None, local: None }
    }

    /// Whether the clock that counts shows the deadline; if not, the timer is set anew.
    fn is_over(&mut self) -> bool {
        if !self.inner.is_elapsed() {
            return false;
        }
        let Some((node, local)) = self.local else { return true };
        if Clocks::current().monotonic(node) >= local {
            return true;
        }
        *self = Self::until_on(node, local);
        false
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if self.armed.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.armed = Some(cx.waker().clone());
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Sleeps in the time of the world, whatever the node's clock does: for the machine room itself.
pub fn sleep_virtual(duration: Duration) -> Sleep {
    Sleep::until_virtual(virtual_now() + duration)
}

/// Sleeps until a moment of the world's time.
pub fn sleep_virtual_until(at: Duration) -> Sleep {
    Sleep::until_virtual(at)
}

/// The deadline came before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

/// A future with a deadline; the future is asked first.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F> Timeout<F> {
    pub(super) fn new(sleep: Sleep, future: F) -> Self {
        Self { future: Box::pin(future), sleep }
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("sleep", &self.sleep).finish_non_exhaustive()
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::AsyncRuntime as _;

    use super::*;
    use crate::runtime::{MadsimRuntime, machine_room};

    #[test]
    fn a_sleep_is_exact_below_a_millisecond_and_never_zero() {
        machine_room(1).block_on(async {
            let start = virtual_now();
            sleep_virtual(Duration::from_micros(10)).await;
            let slept = virtual_now() - start;
            assert!((10..12).contains(&slept.as_micros()), "{slept:?}");
            let start = virtual_now();
            sleep_virtual_until(Duration::ZERO).await;
            assert!(virtual_now() - start >= SLEEP_MIN);
        });
    }

    #[test]
    fn a_node_whose_clock_is_fast_wakes_early() {
        machine_room(1).block_on(async {
            let node = madsim::runtime::Handle::current().create_node().build();
            Clocks::current().drift(node.id(), 100_000);
            let task = node.spawn(async {
                let start = LocalInstant::current();
                MadsimRuntime::sleep(Duration::from_secs(11)).await;
                LocalInstant::current() - start
            });
            let local = task.await.unwrap();
            assert!(local >= Duration::from_secs(11));
            let virtual_ms = virtual_now().as_millis();
            assert!((9_999..10_005).contains(&virtual_ms), "{virtual_ms}");
        });
    }

    #[test]
    fn a_timer_waits_for_a_clock_that_has_stood_still_or_become_slower() {
        machine_room(1).block_on(async {
            let node = madsim::runtime::Handle::current().create_node().build();
            let (clocks, id) = (Clocks::current(), node.id());
            let sleeping = |secs: u64| {
                node.spawn(async move {
                    MadsimRuntime::sleep(Duration::from_secs(secs)).await;
                    virtual_now()
                })
            };
            let task = sleeping(10);
            sleep_virtual(Duration::from_secs(4)).await;
            clocks.freeze(id);
            sleep_virtual(Duration::from_secs(100)).await;
            clocks.thaw(id);
            let woken = task.await.unwrap();
            assert!((110_000..110_010).contains(&woken.as_millis()), "{woken:?}");
            let task = sleeping(10);
            sleep_virtual(Duration::from_secs(5)).await;
            clocks.drift(id, -500_000);
            let woken = task.await.unwrap();
            assert!((125_000..125_010).contains(&woken.as_millis()), "{woken:?}");
            // Set up while the clock stands still: it looks again, and finds that it goes.
            clocks.freeze(id);
            let task = sleeping(5);
            sleep_virtual(Duration::from_secs(20)).await;
            clocks.thaw(id);
            let woken = task.await.unwrap();
            assert!((155_000..155_510).contains(&woken.as_millis()), "{woken:?}");
        });
    }
}
