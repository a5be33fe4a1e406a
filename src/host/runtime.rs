//! Short names for what openraft's runtime trait offers: channels, tasks, timers.
//!
//! Everything simulated uses these and neither tokio nor madsim. Never `select!`: use
//! `R::select2` and its kin, which poll in the order written.

pub use openraft_rt::{
    AsyncRuntime, Instant, Mpsc, MpscReceiver, MpscSender, Mutex, Oneshot, OneshotSender, Select2,
    Select3, Select4, TryRecvError, Watch, WatchReceiver, WatchSender,
};

/// Sending end of a bounded queue of runtime `R`.
pub type Tx<R, T> = <<R as AsyncRuntime>::Mpsc as Mpsc>::Sender<T>;
/// Receiving end of a bounded queue of runtime `R`.
pub type Rx<R, T> = <<R as AsyncRuntime>::Mpsc as Mpsc>::Receiver<T>;
/// Sending end of a one-value channel of runtime `R`.
pub type OnceTx<R, T> = <<R as AsyncRuntime>::Oneshot as Oneshot>::Sender<T>;
/// Receiving end of a one-value channel of runtime `R`.
pub type OnceRx<R, T> = <<R as AsyncRuntime>::Oneshot as Oneshot>::Receiver<T>;
/// Sending end of a watched value of runtime `R`.
pub type WatchTx<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Sender<T>;
/// Receiving end of a watched value of runtime `R`.
pub type WatchRx<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Receiver<T>;

/// A bounded queue of runtime `R`: at most `bound` items wait.
pub fn queue<R: AsyncRuntime, T: Send>(bound: usize) -> (Tx<R, T>, Rx<R, T>) {
    <R::Mpsc as Mpsc>::channel(bound)
}

/// A one-value channel of runtime `R`.
pub fn once<R: AsyncRuntime, T: Send>() -> (OnceTx<R, T>, OnceRx<R, T>) {
    <R::Oneshot as Oneshot>::channel()
}

/// A watched value of runtime `R`.
pub fn watched<R: AsyncRuntime, T: Send + Sync>(initial: T) -> (WatchTx<R, T>, WatchRx<R, T>) {
    <R::Watch as Watch>::channel(initial)
}

/// Starts a task that nobody waits for. It ends when what it listens to is gone.
pub(crate) fn detach<R: AsyncRuntime>(task: impl Future<Output = ()> + Send + 'static) {
    drop(R::spawn(task));
}
