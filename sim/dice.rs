//! Randomness of a run: one seed, and out of it a stream of its own for each purpose.
//!
//! A stream depends on the seed and its name alone (`"net 1>2"`, `"disk n1"`, `"workload"`), so
//! that removing one fault, or one link, shifts no draw of another. For the same reason callers
//! draw a fixed number of values per event, whatever the probabilities are: [`Dice::chance`] draws
//! also for 0 and for 1.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use madsim::plugin::{Simulator, node, simulator};
use madsim::rand::GlobalRng;
use madsim::runtime::Handle;
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _, TryRng};
use sha2::{Digest as _, Sha256};

/// What a run replays from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the simulation now running.
    pub fn current() -> Self {
        Self(Handle::current().seed())
    }

    /// The stream called `name`, from its beginning.
    pub fn stream(self, name: &str) -> Dice {
        Dice(ChaCha8Rng::from_seed(self.bytes(name)))
    }

    /// 32 bytes for whoever keeps a generator of its own, as nodes and devices do.
    pub fn bytes(self, name: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0.to_le_bytes()).chain_update(name).finalize().into()
    }
}

/// One stream of draws.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..end`; `end` must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "an empty range has nothing to draw");
        let wide = u128::from(self.draw()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the upper half of a product of two u64")
    }

    /// An index into a list of `len` entries; `len` must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True with probability `p`, 0 to 1. Draws once, also when the answer is certain.
    pub fn chance(&mut self, p: f64) -> bool {
        // 53 bits are what an f64 holds exactly.
        let unit = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < p
    }

    /// A duration of `range`, to the nanosecond; its start if the range is empty. Draws once.
    pub fn between(&mut self, range: &Range<Duration>) -> Duration {
        let width = range.end.saturating_sub(range.start).as_nanos();
        let width = u64::try_from(width).unwrap_or(u64::MAX).max(1);
        range.start + Duration::from_nanos(self.below(width))
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// The streams the nodes' runtimes draw from (election timeouts), one per node.
#[derive(Debug, Default)]
pub struct RuntimeDice(Mutex<BTreeMap<NodeId, Dice>>);

impl Simulator for RuntimeDice {
    fn new(_: &GlobalRng, _: &TimeHandle, _: &madsim::Config) -> Self {
        Self::default()
    }
}

/// What `AsyncRuntime::thread_rng` answers: the stream of the node whose task is running.
#[derive(Clone, Debug)]
pub struct RuntimeRng {
    dice: Arc<RuntimeDice>,
    node: NodeId,
}

impl RuntimeRng {
    /// The stream of the node whose task is running.
    pub fn current() -> Self {
        Self { dice: simulator(), node: node() }
    }

    fn with<T>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> T) -> T {
        let mut streams = self.dice.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams
            .entry(self.node)
            .or_insert_with(|| Seed::current().stream(&format!("runtime {}", self.node)));
        draw(&mut stream.0)
    }
}

impl TryRng for RuntimeRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.with(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.with(|rng| rng.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.with(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_seed_and_by_name_and_repeat() {
        let first = |seed: u64, name: &str| Seed(seed).stream(name).draw();
        assert_eq!(first(7, "net"), first(7, "net"));
        assert_ne!(first(7, "net"), first(7, "disk"));
        assert_ne!(first(7, "net"), first(8, "net"));
    }

    #[test]
    fn draws_stay_in_their_range_and_certain_answers_still_draw() {
        let mut dice = Seed(1).stream("test");
        let mut twin = Seed(1).stream("test");
        assert!(!dice.chance(0.0));
        twin.draw();
        assert_eq!(dice.draw(), twin.draw());
        assert!((0..1_000).all(|_| dice.chance(1.0)));
        let hits = (0..10_000).filter(|_| dice.chance(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits} of 10,000 at 1 in 4");
        assert!((0..1_000).all(|_| dice.below(3) < 3));
        let range = Duration::from_millis(1)..Duration::from_millis(2);
        assert!((0..1_000).all(|_| range.contains(&dice.between(&range))));
        let empty = Duration::from_millis(5)..Duration::from_millis(5);
        assert_eq!(dice.between(&empty), Duration::from_millis(5));
    }
}
