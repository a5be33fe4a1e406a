//! openraft's `AsyncRuntime` on madsim: what `host` runs on inside the simulator.
//!
//! From madsim come the executor and the virtual time. Everything a task may wait on is our own:
//! waiters are kept in order of arrival and woken in that order, so that a run depends on nothing
//! but its seed (tokio's `watch`, for one, spreads its waiters by a process-wide counter).
//! Randomness is the stream of the node that draws; time is that node's own clock.

mod mpsc;
mod mutex;
mod oneshot;
mod time;
mod watch;

use std::future::Future;
use std::io;
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::runtime::{Handle, Runtime};
use madsim::task::NodeId;
use openraft_rt::{AsyncRuntime, OptionalSend};

pub use mpsc::{Queue, QueueReceiver, QueueSender, WeakQueueSender};
pub use mutex::{Guard, Mutex};
pub use oneshot::{Closed, Once, OnceReceiver, OnceSender};
pub use time::{Elapsed, LocalInstant, Sleep, Timeout, sleep_virtual, sleep_virtual_until};
pub use watch::{Watch, WatchReceiver, WatchRef, WatchSender};

use crate::clocks::Clocks;
use crate::dice::{RuntimeDice, RuntimeRng};
use crate::net::Net;

/// Locks for the length of one statement: there is one thread, so nobody ever waits here.
pub(crate) fn held<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A madsim runtime with the plugins that [`MadsimRuntime`] needs.
pub fn machine_room(seed: u64) -> Runtime {
    let runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.add_simulator::<RuntimeDice>();
    runtime.add_simulator::<Clocks>();
    runtime.add_simulator::<Net>();
    runtime
}

/// Ends every task of a node, paused or not. To be preferred to madsim's own `kill`.
///
/// madsim drops the tasks of a paused node at once, before the network hears that the host is dead:
/// their streams would take leave of their peers, as no machine without power does.
pub fn kill(node: NodeId) {
    let handle = Handle::current();
    handle.resume(node);
    handle.kill(node);
}

/// The runtime of every simulated node. Nodes share one executor; madsim knows whose task runs.
pub struct MadsimRuntime {
    runtime: Runtime,
}

impl std::fmt::Debug for MadsimRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MadsimRuntime")
    }
}

impl AsyncRuntime for MadsimRuntime {
    type JoinError = madsim::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = madsim::task::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = LocalInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, F: Future<Output = R> + OptionalSend> = Timeout<F>;
    type ThreadLocalRng = RuntimeRng;
    type Mpsc = Queue;
    type Watch = Watch;
    type Oneshot = Once;
    type Mutex<T: OptionalSend + 'static> = Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        madsim::task::spawn(future)
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(LocalInstant::current() + duration)
    }

    fn sleep_until(deadline: LocalInstant) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F>(duration: Duration, future: F) -> Timeout<F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        Timeout::new(Self::sleep(duration), future)
    }

    fn timeout_at<R, F>(deadline: LocalInstant, future: F) -> Timeout<F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        Timeout::new(Self::sleep_until(deadline), future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> RuntimeRng {
        RuntimeRng::current()
    }

    /// For openraft's own suite: seed 0. A run builds its [`machine_room`] itself.
    fn new(_threads: usize) -> Self {
        Self { runtime: machine_room(0) }
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.runtime.block_on(future)
    }

    /// In a task of the same executor: the simulator has no threads, and work costs no time.
    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = io::Result<T>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let task = madsim::task::spawn(async move { work() });
        async move { task.await.map_err(io::Error::other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openrafts_own_suite_passes() {
        openraft_rt::testing::Suite::<MadsimRuntime>::test_all();
    }

    #[test]
    fn election_timeouts_come_from_the_nodes_own_stream() {
        use rand_chacha::rand_core::Rng as _;
        let draw = |seed: u64, nodes: usize| {
            machine_room(seed).block_on(async move {
                let handle = Handle::current();
                let nodes: Vec<_> = (0..nodes).map(|_| handle.create_node().build()).collect();
                for other in &nodes[1..] {
                    other.spawn(async { MadsimRuntime::thread_rng().next_u64() });
                }
                let draw = nodes[0].spawn(async { MadsimRuntime::thread_rng().next_u64() });
                draw.await.unwrap()
            })
        };
        assert_eq!(draw(1, 1), draw(1, 3), "other nodes' draws shift nothing");
        assert_ne!(draw(1, 1), draw(2, 1));
    }
}
