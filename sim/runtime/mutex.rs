//! A lock that may be held across an await. Who waits gets it in order of arrival.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Mutex as StdMutex;
use std::task::{Context, Poll, Waker};

use openraft_rt::OptionalSend;

use super::held;

/// An asynchronous lock around a value.
#[derive(Debug)]
pub struct Mutex<T>(StdMutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    /// The value while nobody has it: a guard takes it out, and brings it back when dropped.
    value: Option<T>,
    waiting: BTreeMap<u64, Waker>,
    arrivals: u64,
}

impl<T> State<T> {
    fn offer(&self) {
        if self.value.is_some()
            && let Some(first) = self.waiting.values().next()
        {
            first.wake_by_ref();
        }
    }
}

/// The value, for as long as this lives.
#[derive(Debug)]
pub struct Guard<'a, T> {
    lock: &'a Mutex<T>,
    value: Option<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("a guard has its value until it is dropped")
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("a guard has its value until it is dropped")
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let mut state = held(&self.lock.0);
        state.value = self.value.take();
        state.offer();
    }
}

/// One who waits for the lock.
struct Locking<'a, T> {
    lock: &'a Mutex<T>,
    place: Option<u64>,
}

impl<'a, T> Future for Locking<'a, T> {
    type Output = Guard<'a, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Guard<'a, T>> {
        let lock = self.lock;
        let mut state = held(&lock.0);
        let place = *self.place.get_or_insert_with(|| {
            state.arrivals += 1;
            state.arrivals
        });
        let first = state.waiting.keys().next().is_none_or(|&first| first >= place);
        if first && let Some(value) = state.value.take() {
            state.waiting.remove(&place);
            self.place = None;
            return Poll::Ready(Guard { lock, value: Some(value) });
        }
        state.waiting.insert(place, cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Locking<'_, T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let mut state = held(&self.lock.0);
            state.waiting.remove(&place);
            state.offer();
        }
    }
}

impl<T: OptionalSend + 'static> openraft_rt::Mutex<T> for Mutex<T> {
    type Guard<'a> = Guard<'a, T>;

    fn new(value: T) -> Self {
        let state = State { value: Some(value), waiting: BTreeMap::new(), arrivals: 0 };
        Self(StdMutex::new(state))
    }

    fn lock(&self) -> impl Future<Output = Guard<'_, T>> + OptionalSend {
        Locking { lock: self, place: None }
    }
}
