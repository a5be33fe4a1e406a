//! Of the connections of one link the latest counts.
//!
//! A network may hold back what was said over a connection that its sender has given up, and bring
//! it when the sender has long said something newer over the next one: an old proposal would be
//! decided behind those that followed it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::identity::NodeKey;

use super::door::Caller;
use crate::runtime::{AsyncRuntime, OnceRx, OnceTx, OneshotSender, once};

/// Whose link: the key, the start of its process, and the number it has there.
type Name = (NodeKey, i64, u64);

/// The number of each link's latest connection, and what ends it.
type Connections<R> = BTreeMap<Name, (u64, OnceTx<R, ()>)>;

/// The latest connection of each link that leads here.
pub(super) struct Latest<R: AsyncRuntime>(Arc<Mutex<Connections<R>>>);

impl<R: AsyncRuntime> Latest<R> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    fn all(&self) -> MutexGuard<'_, Connections<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more connection; the one before it on the same link ends.
    ///
    /// * Returns what ends this one, and a guard to be held as long as it is open; `None` if a
    ///   newer one has come before it.
    pub(super) fn enter(&self, caller: &Caller) -> Option<(OnceRx<R, ()>, Open<R>)> {
        let (end, ending) = once::<R, ()>();
        let Some((link, number)) = caller.hello.connection else {
            return Some((ending, Open::Unnumbered { _end: end }));
        };
        let name = (caller.key, caller.hello.started, link);
        let mut all = self.all();
        if all.get(&name).is_some_and(|(newest, _)| *newest >= number) {
            return None;
        }
        if let Some((_, before)) = all.insert(name, (number, end)) {
            before.send(()).ok();
        }
        drop(all);
        let latest = Self(Arc::clone(&self.0));
        Some((ending, Open::Numbered { latest, name, number }))
    }
}

/// An open connection.
pub(super) enum Open<R: AsyncRuntime> {
    /// Of a version that does not number them: nothing ends it.
    Unnumbered {
        _end: OnceTx<R, ()>,
    },
    Numbered {
        latest: Latest<R>,
        name: Name,
        number: u64,
    },
}

impl<R: AsyncRuntime> Drop for Open<R> {
    fn drop(&mut self) {
        if let Self::Numbered { latest, name, number } = self {
            let mut all = latest.all();
            if all.get(name).is_some_and(|(newest, _)| newest == number) {
                all.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft_rt_tokio::TokioRuntime;

    use super::*;
    use crate::peer::message::{Hello, VERSIONS};

    fn caller(started: i64, connection: Option<(u64, u64)>) -> Caller {
        let hello = Hello {
            versions: VERSIONS,
            cluster: None,
            raft_id: None,
            boot: 1,
            name: "n2@h".to_owned(),
            address: "h:6369".to_owned(),
            feature_level: 1,
            seeds: None,
            members: 0,
            devices: 0,
            joining: false,
            started,
            connection,
            to: None,
        };
        Caller { key: NodeKey([2; 32]), hello: Arc::new(hello) }
    }

    #[tokio::test]
    async fn a_newer_connection_of_a_link_ends_the_one_before_and_no_other() {
        let latest = Latest::<TokioRuntime>::new();
        let (ended, first) = latest.enter(&caller(5, Some((0, 0)))).unwrap();
        let (mut other_link, _other) = latest.enter(&caller(5, Some((1, 0)))).unwrap();
        let (mut other_process, _process) = latest.enter(&caller(6, Some((0, 0)))).unwrap();
        let (mut unnumbered, _unnumbered) = latest.enter(&caller(5, None)).unwrap();
        let (mut newest, second) = latest.enter(&caller(5, Some((0, 1)))).unwrap();
        assert_eq!(ended.await, Ok(()));
        for open in [&mut other_link, &mut other_process, &mut unnumbered, &mut newest] {
            assert!(open.try_recv().is_err(), "it goes on");
        }
        // The end of the older one takes nothing from the newer one.
        drop(first);
        assert!(latest.enter(&caller(5, Some((0, 0)))).is_none(), "it comes too late");
        drop(second);
        assert_eq!(latest.all().len(), 2);
    }
}
