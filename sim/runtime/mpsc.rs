//! A bounded queue of many senders. Who waits for room is served in order of arrival; a newcomer
//! never overtakes.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use openraft_rt::{OptionalSend, SendError, TryRecvError};

use super::held;

/// The queues of the simulator.
#[derive(Debug)]
pub struct Queue;

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    bound: usize,
    senders: usize,
    closed: bool,
    receiver: Option<Waker>,
    /// Senders waiting for room, by order of arrival.
    waiting: BTreeMap<u64, Waker>,
    arrivals: u64,
}

type Shared<T> = Arc<Mutex<State<T>>>;

impl<T> State<T> {
    /// Wakes as many waiting senders as there is room for.
    fn offer_room(&self) {
        let room = self.bound.saturating_sub(self.items.len());
        self.waiting.values().take(room).for_each(Waker::wake_by_ref);
    }

    fn take(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.offer_room();
        Some(item)
    }
}

/// The sending end.
#[derive(Debug)]
pub struct QueueSender<T>(Shared<T>);

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        held(&self.0).senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        let mut state = held(&self.0);
        state.senders -= 1;
        if state.senders == 0
            && let Some(receiver) = state.receiver.take()
        {
            receiver.wake();
        }
    }
}

/// A sender that does not keep the queue open.
#[derive(Debug)]
pub struct WeakQueueSender<T>(Shared<T>);

impl<T> Clone for WeakQueueSender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct QueueReceiver<T>(Shared<T>);

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        let mut state = held(&self.0);
        state.closed = true;
        let items = std::mem::take(&mut state.items);
        let waiting = std::mem::take(&mut state.waiting);
        // Items may own senders of this very queue: drop them with the lock released.
        drop(state);
        drop(items);
        waiting.into_values().for_each(Waker::wake);
    }
}

impl openraft_rt::Mpsc for Queue {
    type Sender<T: OptionalSend> = QueueSender<T>;
    type Receiver<T: OptionalSend> = QueueReceiver<T>;
    type WeakSender<T: OptionalSend> = WeakQueueSender<T>;

    fn channel<T: OptionalSend>(buffer: usize) -> (QueueSender<T>, QueueReceiver<T>) {
        assert!(buffer > 0, "a queue without room cannot be sent to");
        let state = Arc::new(Mutex::new(State {
            items: VecDeque::new(),
            bound: buffer,
            senders: 1,
            closed: false,
            receiver: None,
            waiting: BTreeMap::new(),
            arrivals: 0,
        }));
        (QueueSender(Arc::clone(&state)), QueueReceiver(state))
    }
}

/// One send that may have to wait. Dropped, it gives its place to the next.
struct Sending<'a, T> {
    shared: &'a Shared<T>,
    item: Option<T>,
    place: Option<u64>,
}

impl<T> Unpin for Sending<'_, T> {}

impl<T> Future for Sending<'_, T> {
    type Output = Result<(), SendError<T>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = held(this.shared);
        if state.closed {
            drop(state);
            let item = this.item.take().expect("a send is polled until it is ready, then no more");
            return Poll::Ready(Err(SendError(item)));
        }
        let place = *this.place.get_or_insert_with(|| {
            state.arrivals += 1;
            state.arrivals
        });
        let ahead = state.waiting.range(..place).count();
        if state.items.len() + ahead < state.bound {
            state.waiting.remove(&place);
            this.place = None;
            let item = this.item.take().expect("a send is polled until it is ready, then no more");
            state.items.push_back(item);
            if let Some(receiver) = state.receiver.take() {
                receiver.wake();
            }
            return Poll::Ready(Ok(()));
        }
        state.waiting.insert(place, cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Sending<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut state = held(self.shared);
            state.waiting.remove(&place);
            state.offer_room();
        }
    }
}

impl<T: OptionalSend> openraft_rt::MpscSender<Queue, T> for QueueSender<T> {
    async fn send(&self, item: T) -> Result<(), SendError<T>> {
        Sending { shared: &self.0, item: Some(item), place: None }.await
    }

    fn downgrade(&self) -> WeakQueueSender<T> {
        WeakQueueSender(Arc::clone(&self.0))
    }
}

impl<T: OptionalSend> openraft_rt::MpscWeakSender<Queue, T> for WeakQueueSender<T> {
    fn upgrade(&self) -> Option<QueueSender<T>> {
        let mut state = held(&self.0);
        if state.senders == 0 || state.closed {
            return None;
        }
        state.senders += 1;
        Some(QueueSender(Arc::clone(&self.0)))
    }
}

impl<T: OptionalSend> openraft_rt::MpscReceiver<T> for QueueReceiver<T> {
    async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = held(&self.0);
            if let Some(item) = state.take() {
                return Poll::Ready(Some(item));
            }
            if state.senders == 0 {
                return Poll::Ready(None);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut state = held(&self.0);
        match state.take() {
            Some(item) => Ok(item),
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt::{Mpsc as _, MpscReceiver as _, MpscSender as _};

    use super::*;
    use crate::runtime::{machine_room, sleep_virtual};

    #[test]
    fn waiting_senders_are_served_in_order_and_a_dropped_one_gives_its_place() {
        machine_room(3).block_on(async {
            let (tx, mut rx) = Queue::channel::<u32>(1);
            tx.send(0).await.unwrap();
            let mut tasks = Vec::new();
            for number in 1..=4 {
                let tx = tx.clone();
                tasks.push(madsim::task::spawn(async move { tx.send(number).await }));
                sleep_virtual(std::time::Duration::from_millis(1)).await;
            }
            tasks[1].abort();
            sleep_virtual(std::time::Duration::from_millis(1)).await;
            let mut got = Vec::new();
            for _ in 0..4 {
                got.push(rx.recv().await.unwrap());
            }
            assert_eq!(got, [0, 1, 3, 4]);
        });
    }
}
