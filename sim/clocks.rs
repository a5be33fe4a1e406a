//! A clock for each node: offset, drift and jumps, over the one virtual time of the run.
//!
//! A node's monotonic clock starts anew at each boot and runs at its own rate; it never jumps. Its
//! wall clock is the monotonic one plus an offset, and the offset is what a fault moves. Deadlines
//! of a node are in its own time; [`Clocks::virtual_at`] finds the virtual moment they stand for,
//! with the rate in force when asked. A timer never fires before the node's clock shows its
//! deadline, whatever happens to the clock meanwhile; if the clock has become faster, it is late.
//!
//! A clock can be frozen, as those of a suspended virtual machine are: both stand still, and the
//! wall clock is behind afterwards. Stopping the machine's tasks meanwhile is the caller's part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::WallTime;
use madsim::plugin::{Simulator, simulator};
use madsim::rand::GlobalRng;
use madsim::task::NodeId;
use madsim::time::TimeHandle;

/// UTC at virtual time zero, before any node's offset: 2026-11-20T00:00:00Z.
pub const EPOCH_UNIX_SECS: i64 = 1_795_132_800;

/// What a fresh boot's monotonic clock starts from: not zero, so that nobody takes zero for "now".
const BOOT_ORIGIN: Duration = Duration::from_secs(1);

/// Largest drift, in parts per million: far beyond any quartz, below a clock that stands still.
pub const DRIFT_PPM_MAX: i32 = 500_000;

/// How long who waits for a frozen clock sleeps before it looks again.
const FROZEN_LOOK: Duration = Duration::from_millis(500);

/// Virtual time since the start of the run.
pub fn virtual_now() -> Duration {
    TimeHandle::current().elapsed()
}

#[derive(Clone, Copy, Debug)]
struct NodeClock {
    /// Virtual moment of the last boot or change of rate.
    since: Duration,
    /// Monotonic time then.
    monotonic: Duration,
    /// Virtual time of the last boot: the wall clock does not restart with the node.
    boot: Duration,
    /// Drift in parts per million.
    drift_ppm: i32,
    /// Wall clock ahead of the world's, in microseconds.
    offset_micros: i64,
    /// Both clocks stand still.
    frozen: bool,
}

impl NodeClock {
    fn booted(at: Duration) -> Self {
        Self {
            since: at,
            monotonic: BOOT_ORIGIN,
            boot: at,
            drift_ppm: 0,
            offset_micros: 0,
            frozen: false,
        }
    }

    /// The same clock, with everything up to `at` in its past.
    fn reckoned(self, at: Duration) -> Self {
        Self { since: at, monotonic: self.local(at), ..self }
    }

    /// Local nanoseconds per million virtual ones.
    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.drift_ppm)).expect("drift is limited")
    }

    fn local(&self, at: Duration) -> Duration {
        if self.frozen {
            return self.monotonic;
        }
        let elapsed = at.saturating_sub(self.since).as_nanos() * self.rate() / 1_000_000;
        self.monotonic + nanos(elapsed)
    }

    fn virtual_at(&self, local: Duration) -> Duration {
        let ahead = local.saturating_sub(self.monotonic).as_nanos() * 1_000_000;
        // Rounded up: a timer must not fire before the node's own clock shows its deadline.
        self.since + nanos(ahead.div_ceil(self.rate()))
    }

    fn wall(&self, at: Duration) -> WallTime {
        let local = self.local(at).saturating_sub(BOOT_ORIGIN);
        let world = WallTime::from_unix_secs(EPOCH_UNIX_SECS).saturating_add(self.boot + local);
        WallTime::from_unix_micros(world.unix_micros().saturating_add(self.offset_micros))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The clocks of all nodes. A madsim plugin: a node that dies gets a fresh monotonic clock.
#[derive(Debug)]
pub struct Clocks {
    time: WorldTime,
    nodes: Mutex<BTreeMap<NodeId, NodeClock>>,
}

/// The time of the run; a wrapper because madsim's handle has no `Debug`.
#[derive(Clone)]
struct WorldTime(TimeHandle);

impl std::fmt::Debug for WorldTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.elapsed())
    }
}

impl Simulator for Clocks {
    fn new(_: &GlobalRng, time: &TimeHandle, _: &madsim::Config) -> Self {
        Self { time: WorldTime(time.clone()), nodes: Mutex::default() }
    }

    fn reset_node(&self, id: NodeId) {
        let at = self.now();
        self.with(id, |clock| {
            let fresh = NodeClock::booted(at);
            *clock = NodeClock {
                drift_ppm: clock.drift_ppm,
                // What the drift has gathered stays in a battery-backed wall clock.
                offset_micros: clock.wall(at).unix_micros() - fresh.wall(at).unix_micros(),
                ..fresh
            };
        });
    }
}

impl Clocks {
    /// The clocks of the simulation now running.
    pub fn current() -> Arc<Self> {
        simulator()
    }

    fn now(&self) -> Duration {
        self.time.0.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, NodeClock>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: NodeId, f: impl FnOnce(&mut NodeClock) -> T) -> T {
        f(self.lock().entry(id).or_insert_with(|| NodeClock::booted(Duration::ZERO)))
    }

    /// The node's monotonic clock, since an origin of its boot.
    pub fn monotonic(&self, id: NodeId) -> Duration {
        let at = self.now();
        self.with(id, |clock| clock.local(at))
    }

    /// The node's wall clock.
    pub fn wall(&self, id: NodeId) -> WallTime {
        let at = self.now();
        self.with(id, |clock| clock.wall(at))
    }

    /// The virtual moment at which the node's monotonic clock shows `local`; for a clock that is
    /// frozen before that, the moment to ask again.
    pub fn virtual_at(&self, id: NodeId, local: Duration) -> Duration {
        let at = self.now();
        self.with(id, |clock| match clock.frozen && clock.monotonic < local {
            true => at + FROZEN_LOOK,
            false => clock.virtual_at(local),
        })
    }

    /// Moves the node's wall clock by `micros`, forwards or back. Its monotonic clock stays.
    pub fn jump(&self, id: NodeId, micros: i64) {
        self.with(id, |clock| clock.offset_micros = clock.offset_micros.saturating_add(micros));
    }

    /// Sets the rate of both of the node's clocks, from now on.
    ///
    /// * `drift_ppm`: parts per million, at most [`DRIFT_PPM_MAX`] either way; positive is fast.
    pub fn drift(&self, id: NodeId, drift_ppm: i32) {
        assert!(drift_ppm.abs() <= DRIFT_PPM_MAX, "the scenario's parser limits the drift");
        let at = self.now();
        self.with(id, |clock| *clock = NodeClock { drift_ppm, ..clock.reckoned(at) });
    }

    /// Stops both of the node's clocks, until [`Self::thaw`] or its next boot.
    pub fn freeze(&self, id: NodeId) {
        let at = self.now();
        self.with(id, |clock| *clock = NodeClock { frozen: true, ..clock.reckoned(at) });
    }

    /// Lets both clocks go on from where they stand: the wall clock stays behind by the pause,
    /// unless [`Self::jump`] sets it.
    pub fn thaw(&self, id: NodeId) {
        let at = self.now();
        self.with(id, |clock| *clock = NodeClock { frozen: false, ..clock.reckoned(at) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn drift_moves_both_clocks_and_deadlines_find_their_virtual_moment() {
        let fast = NodeClock { drift_ppm: 100, ..NodeClock::booted(Duration::ZERO) };
        assert_eq!(fast.local(HOUR), BOOT_ORIGIN + HOUR + Duration::from_millis(360));
        let deadline = BOOT_ORIGIN + Duration::from_secs(10);
        let fires = fast.virtual_at(deadline);
        assert!(fires < Duration::from_secs(10));
        assert!(fast.local(fires) >= deadline, "never before the node's own clock shows it");
    }

    #[test]
    fn a_jump_moves_the_wall_clock_alone() {
        let mut clock = NodeClock::booted(Duration::ZERO);
        assert_eq!(clock.wall(Duration::ZERO).to_string(), "2026-11-20T00:00:00Z");
        clock.offset_micros = -3_600_000_000;
        assert_eq!(clock.wall(HOUR).to_string(), "2026-11-20T00:00:00Z");
        assert_eq!(clock.local(HOUR), BOOT_ORIGIN + HOUR);
    }

    #[test]
    fn frozen_clocks_stand_still_and_go_on_behind_the_world() {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, Default::default());
        runtime.add_simulator::<Clocks>();
        runtime.block_on(async {
            let clocks = Clocks::current();
            let handle = madsim::runtime::Handle::current();
            let [node, other] = [(), ()].map(|()| handle.create_node().build().id());
            let read = || (clocks.monotonic(node), clocks.wall(node).unix_micros());
            clocks.drift(node, 100_000);
            madsim::time::sleep(HOUR).await;
            clocks.freeze(node);
            let before = read();
            let deadline = before.0 + HOUR;
            madsim::time::sleep(HOUR).await;
            clocks.freeze(node);
            assert_eq!(read(), before);
            assert!(clocks.virtual_at(node, deadline) > virtual_now(), "it is not yet");
            assert!(clocks.virtual_at(node, before.0) <= virtual_now(), "this is past");
            clocks.thaw(node);
            assert_eq!(read(), before, "no step when it goes on");
            assert_eq!(clocks.virtual_at(node, deadline).as_secs(), 7_200 + 3_600 * 10 / 11);
            madsim::time::sleep(HOUR).await;
            clocks.thaw(node);
            let after = read();
            let (ran, set) = ((after.0 - before.0).as_secs(), (after.1 - before.1) / 1_000_000);
            assert_eq!((ran, set), (3_960, 3_960), "at its own rate");
            assert_eq!(clocks.wall(other).unix_micros() - after.1, (3_600 - 720) * 1_000_000);
            clocks.freeze(node);
            handle.kill(node);
            madsim::time::sleep(HOUR).await;
            assert!(clocks.monotonic(node) > HOUR, "a boot thaws");
        });
    }

    #[test]
    fn a_reboot_restarts_the_monotonic_clock_and_keeps_the_wall_clock() {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(1, Default::default());
        runtime.add_simulator::<Clocks>();
        runtime.block_on(async {
            let clocks = Clocks::current();
            let node = madsim::runtime::Handle::current().create_node().build().id();
            clocks.jump(node, 5_000_000);
            clocks.drift(node, 1_000);
            madsim::time::sleep(HOUR).await;
            let (monotonic, wall) = (clocks.monotonic(node), clocks.wall(node));
            assert!(monotonic > HOUR);
            madsim::runtime::Handle::current().kill(node);
            assert_eq!(clocks.monotonic(node), BOOT_ORIGIN);
            assert_eq!(clocks.wall(node), wall);
        });
    }
}
