//! The MQTT clients of a run: what each is there for, what the world may tell it and know of it.
//!
//! *Listeners* are what an integrator would run: a session that is kept, every event at QoS 1.
//! *Onlookers* begin anew each time and ask for everything at QoS 0; what their account must not
//! see must not reach them. *Publishers* speak, and listen to what comes back. All reconnect for
//! ever, in their own ways: [`conversation`] is a client's life, [`doors`] which node it goes to,
//! [`publisher`] what one says, [`leftover`] what becomes of a connection that its client has
//! walked away from.

mod conversation;
mod doors;
mod habits;
mod leftover;
mod publisher;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft_rt::{Watch as _, WatchSender as _};
use scenario::Clients;

pub(super) use conversation::AppClient;
pub(super) use doors::Doors;

use super::operator::Account;
use crate::clocks::virtual_now;
use crate::runtime::{Watch, WatchReceiver, WatchSender, held};

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Keeps its session and wants every event at QoS 1.
    Listener,
    /// Wants all it may see at QoS 0, anew with each connection.
    Onlooker {
        /// Its account is another application's, where nothing ever happens.
        foreign: bool,
    },
    /// Publishes, and subscribes to what comes back.
    Publisher {
        /// Its account may see and say everything; else one application's topics.
        wide: bool,
    },
}

impl Part {
    /// The part of the client number `place` (from 0): first all listeners, then all onlookers,
    /// every other one of whom is foreign, then all publishers, every other one wide.
    pub(super) fn of(clients: &Clients, place: u32) -> Self {
        let Some(onlooker) = place.checked_sub(clients.count) else { return Self::Listener };
        match onlooker.checked_sub(clients.transient) {
            None => Self::Onlooker { foreign: onlooker % 2 == 1 },
            Some(publisher) => Self::Publisher { wide: publisher % 2 == 1 },
        }
    }
}

/// What a client is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// It listens.
    #[default]
    Here,
    /// It is not connected, and does not try.
    Away,
    /// It is connected and reads nothing.
    Slow,
}

#[derive(Debug, Default)]
struct Shown {
    subscribed: bool,
    settled: bool,
    mood: Mood,
    resting: bool,
    /// The nodes it must be at in the end; any if there are none.
    core: Vec<SocketAddr>,
    /// What it must come in with from now on.
    account: Option<Account>,
    /// The number of its newest connection that was accepted, and when that was.
    newest: Option<(u64, Duration)>,
    /// Connections it has walked away from that have not ended yet.
    leftovers: usize,
}

#[derive(Debug)]
struct Shared {
    part: Part,
    shown: Mutex<Shown>,
    wake: Mutex<WatchSender<u64>>,
    woken: WatchReceiver<u64>,
}

/// What others may know of a client, and tell it. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Standing(Arc<Shared>);

impl Standing {
    fn new(part: Part) -> Self {
        let (wake, woken) = Watch::channel(0);
        let (shown, wake) = (Mutex::default(), Mutex::new(wake));
        Self(Arc::new(Shared { part, shown, wake, woken }))
    }

    /// What it is there for.
    pub(super) fn part(&self) -> Part {
        self.0.part
    }

    /// Whether it has ever been told that it is subscribed.
    pub(super) fn is_subscribed(&self) -> bool {
        held(&self.0.shown).subscribed
    }

    /// Whether it is connected and subscribed, and nothing it has said waits for an answer.
    pub(super) fn is_settled(&self) -> bool {
        held(&self.0.shown).settled
    }

    /// Gives it another account.
    pub(super) fn set_account(&self, account: Account) {
        self.tell(|shown| shown.account = Some(account));
    }

    /// Puts it into another mood.
    pub(super) fn set_mood(&self, mood: Mood) {
        self.tell(|shown| shown.mood = mood);
    }

    /// From now on it publishes nothing, acknowledges at once and goes nowhere of its own accord,
    /// but to a node of `core`.
    pub(super) fn rest(&self, core: &[SocketAddr]) {
        self.tell(|shown| (shown.resting, shown.core) = (true, core.to_vec()));
    }

    fn tell(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut held(&self.0.shown));
        held(&self.0.wake).send_if_modified(|count| {
            *count += 1;
            true
        });
    }

    fn mood(&self) -> Mood {
        held(&self.0.shown).mood
    }

    fn is_resting(&self) -> bool {
        held(&self.0.shown).resting
    }

    fn core(&self) -> Vec<SocketAddr> {
        held(&self.0.shown).core.clone()
    }

    fn has_new_account(&self) -> bool {
        held(&self.0.shown).account.is_some()
    }

    fn take_account(&self) -> Option<Account> {
        held(&self.0.shown).account.take()
    }

    /// A connection was accepted.
    fn connected(&self, number: u64) {
        held(&self.0.shown).newest = Some((number, virtual_now()));
    }

    /// When a connection newer than `number` was accepted, if one was.
    fn replaced(&self, number: u64) -> Option<Duration> {
        let newest = held(&self.0.shown).newest;
        newest.filter(|(newer, _)| *newer > number).map(|(_, since)| since)
    }

    fn leftovers(&self) -> usize {
        held(&self.0.shown).leftovers
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut held(&self.0.shown));
    }

    /// Resolves with the next thing it is told.
    fn ear(&self) -> WatchReceiver<u64> {
        self.0.woken.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_dealt_in_the_order_of_the_page() {
        let clients = Clients { count: 1, transient: 2, publishers: 2, ..Clients::default() };
        let parts: Vec<_> = (0..clients.total()).map(|place| Part::of(&clients, place)).collect();
        let expected = [
            Part::Listener,
            Part::Onlooker { foreign: false },
            Part::Onlooker { foreign: true },
            Part::Publisher { wide: false },
            Part::Publisher { wide: true },
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_connection_is_replaced_by_newer_ones_alone() {
        crate::runtime::machine_room(1).block_on(async {
            let standing = Standing::new(Part::Listener);
            assert_eq!(standing.replaced(1), None);
            standing.connected(1);
            assert_eq!(standing.replaced(1), None);
            standing.connected(2);
            assert!(standing.replaced(1).is_some());
        });
    }
}
