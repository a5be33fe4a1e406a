//! A value that many may watch. Receivers are woken in the order in which they were created.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft_rt::watch::{RecvError, SendError};
use openraft_rt::{OptionalSend, OptionalSync};

use super::held;

/// The watch channels of the simulator.
#[derive(Debug)]
pub struct Watch;

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    watchers: Mutex<Watchers>,
}

#[derive(Debug, Default)]
struct Watchers {
    /// Raised by each change.
    version: u64,
    senders: usize,
    receivers: usize,
    created: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl<T> Shared<T> {
    fn read(&self) -> WatchRef<'_, T> {
        WatchRef(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed(&self) {
        held(&self.watchers).version += 1;
        self.wake();
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut held(&self.watchers).waiting);
        waiting.into_values().for_each(Waker::wake);
    }

    fn receiver(self: &Arc<Self>, seen: Option<u64>) -> WatchReceiver<T> {
        let mut watchers = held(&self.watchers);
        watchers.receivers += 1;
        watchers.created += 1;
        let seen = seen.unwrap_or(watchers.version);
        WatchReceiver { shared: Arc::clone(self), id: watchers.created, seen }
    }
}

/// The sending end.
#[derive(Debug)]
pub struct WatchSender<T>(Arc<Shared<T>>);

impl<T> Clone for WatchSender<T> {
    fn clone(&self) -> Self {
        held(&self.0.watchers).senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        let left = {
            let mut watchers = held(&self.0.watchers);
            watchers.senders -= 1;
            watchers.senders
        };
        if left == 0 {
            self.0.wake();
        }
    }
}

/// A receiving end, which remembers what it has seen.
#[derive(Debug)]
pub struct WatchReceiver<T> {
    shared: Arc<Shared<T>>,
    id: u64,
    seen: u64,
}

impl<T> Clone for WatchReceiver<T> {
    fn clone(&self) -> Self {
        self.shared.receiver(Some(self.seen))
    }
}

impl<T> Drop for WatchReceiver<T> {
    fn drop(&mut self) {
        let mut watchers = held(&self.shared.watchers);
        watchers.receivers -= 1;
        watchers.waiting.remove(&self.id);
    }
}

/// A look at the value; nobody may send while it is held.
#[derive(Debug)]
pub struct WatchRef<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for WatchRef<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl openraft_rt::Watch for Watch {
    type Sender<T: OptionalSend + OptionalSync> = WatchSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = WatchReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = WatchRef<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(initial: T) -> (WatchSender<T>, WatchReceiver<T>) {
        let watchers = Watchers { senders: 1, ..Watchers::default() };
        let shared =
            Arc::new(Shared { value: RwLock::new(initial), watchers: Mutex::new(watchers) });
        let receiver = shared.receiver(None);
        (WatchSender(shared), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> openraft_rt::WatchSender<Watch, T> for WatchSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if held(&self.0.watchers).receivers == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|held| {
            *held = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        let modified = {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            modify(&mut value)
        };
        if modified {
            self.0.changed();
        }
        modified
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> WatchReceiver<T> {
        self.0.receiver(None)
    }
}

impl<T: OptionalSend + OptionalSync> openraft_rt::WatchReceiver<Watch, T> for WatchReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|cx| {
            let mut watchers = held(&self.shared.watchers);
            if watchers.version != self.seen {
                self.seen = watchers.version;
                Poll::Ready(Ok(()))
            } else if watchers.senders == 0 {
                Poll::Ready(Err(RecvError(())))
            } else {
                watchers.waiting.insert(self.id, cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        self.shared.read()
    }

    fn borrow_and_update(&mut self) -> WatchRef<'_, T> {
        self.seen = held(&self.shared.watchers).version;
        self.shared.read()
    }
}
