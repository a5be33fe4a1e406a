//! What two bugs need to be bugs, and what does nothing without the feature `sabotage`.

#[cfg(any(test, feature = "sabotage"))]
use std::{any::Any, cell::Cell, cell::RefCell, collections::BTreeMap};

/// Answers that [`last_answer`] remembers.
#[cfg(any(test, feature = "sabotage"))]
const ANSWERS_MAX: usize = 4_096;

#[cfg(any(test, feature = "sabotage"))]
thread_local! {
    static ORDERS: Cell<u32> = const { Cell::new(0) };
    static ANSWERS: RefCell<BTreeMap<String, Box<dyn Any>>> = const {
        RefCell::new(BTreeMap::new())
    };
}

/// Orders things as a map would that hashes with a key of its process.
///
/// The simulator answers for the system's randomness, so a `RandomState` is the same in every run.
/// Neither the number of a process is, nor where its code lies.
pub fn as_hashed<T>(things: &mut [T]) {
    #[cfg(any(test, feature = "sabotage"))]
    {
        let key = u64::from(std::process::id()) ^ (as_hashed::<T> as *const () as u64 >> 12);
        let order = ORDERS.get();
        ORDERS.set(order.wrapping_add(1));
        // Another bit each time, so that hardly two processes agree for long.
        let spread = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        if spread.rotate_left(order % 64) & 1 == 1 {
            things.reverse();
        }
    }
    let _ = things;
}

/// The answer that was fresh when the same was asked the time before, as a cache gives it that is
/// refreshed behind the reader's back; the first time the fresh one.
pub fn last_answer<T: Clone + 'static>(asked: String, fresh: T) -> T {
    #[cfg(any(test, feature = "sabotage"))]
    return ANSWERS.with_borrow_mut(|answers| {
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        let before = answers.insert(asked, Box::new(fresh.clone()));
        let before = before.and_then(|before| before.downcast::<T>().ok());
        before.map_or(fresh, |before| *before)
    });
    #[cfg(not(any(test, feature = "sabotage")))]
    {
        drop(asked);
        fresh
    }
}

/// Begins anew, with another bug.
#[cfg(any(test, feature = "sabotage"))]
pub(crate) fn forget() {
    ORDERS.set(0);
    ANSWERS.take();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_behind() {
        let ask = |fresh| last_answer("how many".to_owned(), fresh);
        assert_eq!([ask(1), ask(2), ask(3)], [1, 1, 2]);
        assert_eq!(last_answer("another".to_owned(), 9), 9);
    }

    #[test]
    fn an_order_is_one_of_two_and_not_always_the_same() {
        let orders: std::collections::BTreeSet<_> = (0..64)
            .map(|_| {
                let mut things = [1, 2, 3];
                as_hashed(&mut things);
                things
            })
            .collect();
        assert_eq!(orders, [[1, 2, 3], [3, 2, 1]].into());
    }
}
