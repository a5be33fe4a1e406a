//! Snapshots on their way: which pieces must stay on the disk meanwhile, and how far each is.
//!
//! Pieces that belong to no current snapshot go when another becomes current. Whoever still needs
//! some holds a [`Pin`]: a snapshot being built, received, installed, or sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft_rt::{AsyncRuntime, Instant as _};

use clock::Duration;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How far a snapshot is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Pieces that have arrived.
    pub done: u32,
    /// Pieces in all.
    pub pieces: u32,
}

#[derive(Debug, Default)]
struct Held {
    pins: BTreeMap<u64, usize>,
    sending: usize,
    sends: BTreeMap<u64, Transfer>,
}

/// What is held on one disk. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<Mutex<Held>>);

impl Pins {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the pieces of a generation until the pin is gone.
    pub(crate) fn hold(&self, generation: u64) -> Pin {
        *self.held().pins.entry(generation).or_insert(0) += 1;
        Pin { pins: self.clone(), generation, sends: false }
    }

    /// The same, for a snapshot that another member may be about to get.
    pub(crate) fn hold_for_sending(&self, generation: u64) -> Pin {
        let mut pin = self.hold(generation);
        self.held().sending += 1;
        pin.sends = true;
        pin
    }

    /// Generations whose pieces must stay.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.held().pins.keys().copied().collect()
    }

    /// Whether some snapshot is being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.held().sending > 0
    }

    /// To whom how much was sent.
    pub(crate) fn sends(&self) -> BTreeMap<u64, Transfer> {
        self.held().sends.clone()
    }

    /// Begins to tell of a snapshot that goes to a member.
    pub(crate) fn send<R: AsyncRuntime>(&self, to: u64, pieces: u32) -> Send<R> {
        self.held().sends.insert(to, Transfer { done: 0, pieces });
        Send { pins: self.clone(), to, teller: Teller::new() }
    }
}

/// Keeps the pieces of one generation.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Pins,
    generation: u64,
    sends: bool,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held();
        if self.sends {
            held.sending -= 1;
        }
        if let Some(count) = held.pins.get_mut(&self.generation) {
            *count -= 1;
            if *count == 0 {
                held.pins.remove(&self.generation);
            }
        }
    }
}

/// One snapshot that goes to a member.
pub(crate) struct Send<R: AsyncRuntime> {
    pins: Pins,
    to: u64,
    teller: Teller<R>,
}

impl<R: AsyncRuntime> Send<R> {
    /// So many pieces have arrived.
    pub(crate) fn arrived(&mut self, done: u32) {
        let mut held = self.pins.held();
        let Some(transfer) = held.sends.get_mut(&self.to) else { return };
        transfer.done = done;
        let Transfer { pieces, .. } = *transfer;
        drop(held);
        if self.teller.is_due() {
            tracing::info!(to = self.to, done, pieces, "snapshot is being sent");
        }
    }
}

impl<R: AsyncRuntime> Drop for Send<R> {
    fn drop(&mut self) {
        self.pins.held().sends.remove(&self.to);
    }
}

/// Lets a line through every few seconds.
pub(crate) struct Teller<R: AsyncRuntime>(R::Instant);

impl<R: AsyncRuntime> Teller<R> {
    pub(crate) fn new() -> Self {
        Self(R::Instant::now())
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.0.elapsed() >= TELL_EVERY;
        if due {
            self.0 = R::Instant::now();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_while_anybody_needs_them() {
        let pins = Pins::default();
        let (one, other) = (pins.hold(3), pins.hold_for_sending(3));
        let built = pins.hold(4);
        assert_eq!(pins.generations(), [3, 4]);
        assert!(pins.is_sending());
        drop(one);
        assert_eq!(pins.generations(), [3, 4]);
        drop(other);
        assert!(!pins.is_sending());
        assert_eq!(pins.generations(), [4]);
        drop(built);
        assert_eq!(pins.generations(), [0; 0]);
    }
}
