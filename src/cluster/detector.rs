//! Who among the members is alive, by everybody's word.
//!
//! Any byte from a member is a sign of life. A silent one is pinged; if that is not answered
//! either, it is *suspected*, which is said at once, and two others are asked whether they hear it.
//! Only when for the whole tick time nobody had a sign of it is it *down*. After that one sign is
//! enough. This is SWIM (Das, Gupta, Motivala 2002) without its gossip, in a full mesh of few.
//!
//! With tick time T, in silence: ping at T/4, suspicion and the first questions at 3T/8, both again
//! every T/8, down at T.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::{Duration, Instant};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::RaftId;

/// Default of `cluster.ticktime`.
pub const TICKTIME_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest tick time: its eighth must let a question and its answer pass.
pub const TICKTIME_MIN: Duration = Duration::from_millis(800);
/// How many others are asked about a suspect at a time.
const PROBES: usize = 2;

/// What to do or to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nobody had a sign of it for the tick time.
    Down {
        /// Who.
        node: RaftId,
    },
    /// Ask this member for a sign of life.
    Ping {
        /// Whom.
        to: RaftId,
    },
    /// Ask `via` to ping `target` and to say whether it answered within a quarter of the tick time.
    ProbeVia {
        /// Who is asked.
        via: RaftId,
        /// About whom.
        target: RaftId,
    },
    /// It is silent, or its connection was lost; it may still be alive.
    Suspected {
        /// Who.
        node: RaftId,
    },
    /// A sign of life of one that was suspected or down.
    Up {
        /// Who.
        node: RaftId,
    },
}

/// What is believed of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nothing speaks against it.
    Alive,
    /// Nobody had a sign of it for the tick time.
    Down,
    /// It is silent.
    Suspected,
}

#[derive(Clone, Debug)]
struct Peer {
    life: Life,
    /// The last byte from itself.
    heard: Instant,
    /// The last sign of life through anybody.
    sign: Instant,
    /// Its connection was lost and nothing was heard since.
    is_lost: bool,
    /// When it was last pinged in this silence.
    pinged: Option<Instant>,
}

/// The detector of one node. Drain [`Self::poll_effect`] after each call.
#[derive(Debug)]
pub struct Detector {
    me: RaftId,
    ticktime: Duration,
    rng: ChaCha12Rng,
    peers: BTreeMap<RaftId, Peer>,
    effects: VecDeque<Effect>,
}

impl Detector {
    /// A detector that watches nobody yet.
    ///
    /// * `ticktime`: raised to [`TICKTIME_MIN`] if it is shorter.
    pub fn new(me: RaftId, ticktime: Duration, seed: [u8; 32]) -> Self {
        Self {
            me,
            ticktime: ticktime.max(TICKTIME_MIN),
            rng: ChaCha12Rng::from_seed(seed),
            peers: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// Watches these members and nobody else. A new one counts as alive until it is silent.
    pub fn set_members(&mut self, now: Instant, ids: &BTreeSet<RaftId>) {
        self.peers.retain(|id, _| ids.contains(id));
        let me = self.me;
        for id in ids.iter().filter(|id| **id != me) {
            self.peers.entry(*id).or_insert(Peer {
                life: Life::Alive,
                heard: now,
                sign: now,
                is_lost: false,
                pinged: None,
            });
        }
    }

    /// A byte has come from this member.
    pub fn handle_heard(&mut self, now: Instant, from: RaftId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard = now;
            peer.is_lost = false;
            peer.pinged = None;
        }
        self.sign_of_life(now, from);
    }

    /// The connection to this member was reset: reason to ask, not to conclude.
    pub fn handle_lost(&mut self, now: Instant, from: RaftId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.is_lost = true;
            peer.pinged = None;
        }
        self.judge(now, from);
    }

    /// `via` says whether it hears `target`. Only a yes tells something.
    pub fn handle_probe_answer(&mut self, now: Instant, target: RaftId, via: RaftId, alive: bool) {
        self.handle_heard(now, via);
        if alive {
            self.sign_of_life(now, target);
        }
    }

    /// Pings, suspects and gives up whoever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forgive_own_sleep(now);
        let ids: Vec<_> = self.peers.keys().copied().collect();
        for id in ids {
            self.judge(now, id);
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.peers.values().map(|peer| self.deadline(peer)).min().map(|at| (at, "silence"))
    }

    /// The next thing to do or to know.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What is believed of a member; of itself and of strangers nothing.
    pub fn life(&self, id: RaftId) -> Option<Life> {
        self.peers.get(&id).map(|peer| peer.life)
    }

    /// The members that nothing speaks against.
    pub fn alive(&self) -> BTreeSet<RaftId> {
        let alive = self.peers.iter().filter(|(_, peer)| peer.life == Life::Alive);
        alive.map(|(id, _)| *id).collect()
    }

    /// A node that was stopped for a while has heard nobody, which says nothing of the others.
    fn forgive_own_sleep(&mut self, now: Instant) {
        let Some((due, _)) = self.poll_timeout() else { return };
        let late = now.since(due);
        if late > self.ticktime / 4 {
            for peer in self.peers.values_mut() {
                peer.heard = (peer.heard + late).min(now);
                peer.sign = (peer.sign + late).min(now);
            }
        }
    }

    fn sign_of_life(&mut self, now: Instant, id: RaftId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.sign = now;
        if peer.life != Life::Alive {
            peer.life = Life::Alive;
            self.effects.push_back(Effect::Up { node: id });
        }
    }

    fn judge(&mut self, now: Instant, id: RaftId) {
        let (ping_after, suspect_after) = (self.ticktime / 4, self.ticktime / 8 * 3);
        let (ticktime, again_after) = (self.ticktime, self.ticktime / 8);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let quiet = now.since(peer.sign);
        if peer.life == Life::Alive && (quiet >= suspect_after || peer.newly_lost()) {
            peer.life = Life::Suspected;
            self.effects.push_back(Effect::Suspected { node: id });
        }
        if peer.life != Life::Down && quiet >= ticktime {
            peer.life = Life::Down;
            self.effects.push_back(Effect::Down { node: id });
        }
        let silent = now.since(peer.heard);
        let is_due = peer.pinged.is_none_or(|at| now.since(at) >= again_after);
        if is_due && (silent >= ping_after || peer.is_lost) {
            peer.pinged = Some(now);
            let asks = silent >= suspect_after || peer.is_lost;
            self.effects.push_back(Effect::Ping { to: id });
            if asks {
                self.ask_others(id);
            }
        }
    }

    /// Asks others that are alive, chosen anew each time.
    fn ask_others(&mut self, target: RaftId) {
        let alive = self.peers.iter().filter(|(id, p)| **id != target && p.life == Life::Alive);
        let mut others: Vec<RaftId> = alive.map(|(id, _)| *id).collect();
        for _ in 0..PROBES.min(others.len()) {
            let index = usize::try_from(self.rng.next_u32()).unwrap_or(0) % others.len();
            self.effects.push_back(Effect::ProbeVia { via: others.swap_remove(index), target });
        }
    }

    fn deadline(&self, peer: &Peer) -> Instant {
        let first = if peer.is_lost { peer.heard } else { peer.heard + self.ticktime / 4 };
        let ping = peer.pinged.map_or(first, |at| at + self.ticktime / 8);
        match peer.life {
            Life::Alive => ping.min(peer.sign + self.ticktime / 8 * 3),
            Life::Suspected => ping.min(peer.sign + self.ticktime),
            Life::Down => ping,
        }
    }
}

impl Peer {
    /// Lost, and not asked about since.
    fn newly_lost(&self) -> bool {
        self.is_lost && self.pinged.is_none()
    }
}

#[cfg(test)]
mod tests;
