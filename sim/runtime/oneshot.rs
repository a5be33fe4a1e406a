//! A channel for one value.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use openraft_rt::OptionalSend;

use super::held;

/// The one-value channels of the simulator.
#[derive(Debug)]
pub struct Once;

#[derive(Debug)]
struct State<T> {
    value: Option<T>,
    sender_gone: bool,
    receiver_gone: bool,
    waiting: Option<Waker>,
}

/// The sender went without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sender is gone")]
pub struct Closed;

/// The sending end.
#[derive(Debug)]
pub struct OnceSender<T>(Arc<Mutex<State<T>>>);

/// The receiving end.
#[derive(Debug)]
pub struct OnceReceiver<T>(Arc<Mutex<State<T>>>);

impl openraft_rt::Oneshot for Once {
    type Sender<T: OptionalSend> = OnceSender<T>;
    type Receiver<T: OptionalSend> = OnceReceiver<T>;
    type ReceiverError = Closed;

    fn channel<T: OptionalSend>() -> (OnceSender<T>, OnceReceiver<T>) {
        let state = State { value: None, sender_gone: false, receiver_gone: false, waiting: None };
        let state = Arc::new(Mutex::new(state));
        (OnceSender(Arc::clone(&state)), OnceReceiver(state))
    }
}

impl<T: OptionalSend> openraft_rt::OneshotSender<T> for OnceSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        let mut state = held(&self.0);
        if state.receiver_gone {
            return Err(value);
        }
        state.value = Some(value);
        Ok(())
        // Dropping `self` wakes the receiver.
    }
}

impl<T> Drop for OnceSender<T> {
    fn drop(&mut self) {
        let mut state = held(&self.0);
        state.sender_gone = true;
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }
}

impl<T> Future for OnceReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = held(&self.0);
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.sender_gone {
            return Poll::Ready(Err(Closed));
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for OnceReceiver<T> {
    fn drop(&mut self) {
        let value = {
            let mut state = held(&self.0);
            state.receiver_gone = true;
            state.value.take()
        };
        // The value may own the other end of this channel: drop it with the lock released.
        drop(value);
    }
}
