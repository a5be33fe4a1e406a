//! A queue whose sender never waits: for what the loop hands to its tasks, and they to it.
//!
//! Unbounded by itself; each user names its own bound. The receiver takes all that waits at once,
//! so that what came together is written, proposed or applied together.

use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::{AsyncRuntime, WatchReceiver, WatchRx, WatchSender, WatchTx, watched};

/// The sending end. Clones send to the same receiver.
pub(crate) struct Mailbox<R: AsyncRuntime, T: Send> {
    waiting: Arc<Mutex<Vec<T>>>,
    // The trait does not promise that a sender may be shared, hence the lock.
    signal: Arc<Mutex<WatchTx<R, u64>>>,
}

impl<R: AsyncRuntime, T: Send> Clone for Mailbox<R, T> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), signal: Arc::clone(&self.signal) }
    }
}

/// The receiving end.
pub(crate) struct Inbox<R: AsyncRuntime, T: Send> {
    waiting: Arc<Mutex<Vec<T>>>,
    signal: WatchRx<R, u64>,
}

/// A mailbox and its inbox.
pub(crate) fn mailbox<R: AsyncRuntime, T: Send>() -> (Mailbox<R, T>, Inbox<R, T>) {
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = watched::<R, u64>(0);
    let signal = Arc::new(Mutex::new(sender));
    (Mailbox { waiting: Arc::clone(&waiting), signal }, Inbox { waiting, signal: receiver })
}

impl<R: AsyncRuntime, T: Send> Mailbox<R, T> {
    /// Puts `item` at the end. An item for a receiver that is gone is dropped.
    pub(crate) fn push(&self, item: T) {
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(item);
            waiting.len() == 1
        };
        if first {
            let signal = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
            signal.send_if_modified(|count| {
                *count += 1;
                true
            });
        }
    }
}

impl<R: AsyncRuntime, T: Send> Inbox<R, T> {
    /// Waits until something is there and takes all of it; `None` when every sender is gone and
    /// nothing is left. Cancel-safe.
    pub(crate) async fn take(&mut self) -> Option<Vec<T>> {
        loop {
            if let Some(items) = self.try_take() {
                return Some(items);
            }
            if self.signal.changed().await.is_err() {
                return self.try_take();
            }
        }
    }

    /// Takes all that is there; `None` if nothing is.
    pub(crate) fn try_take(&mut self) -> Option<Vec<T>> {
        let items =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if items.is_empty() { None } else { Some(items) }
    }
}
