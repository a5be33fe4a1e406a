//! Logins in force and logins that failed. Both are bounded and live in memory alone: a restart
//! ends every login (API keys stay).

use std::collections::BTreeMap;

use clock::{Duration, Instant};
use store::Id;

/// How long a login lasts.
pub(super) const LOGIN_LASTS: Duration = Duration::from_secs(24 * 3600);
/// Most logins at a time; beyond, the one that ends first goes.
const LOGINS_MAX: usize = 10_000;
/// Failed logins of one name within [`FAILURE_WINDOW`] after which it has to wait.
const FAILURES_MAX: u32 = 5;
/// How long a name has to wait.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Names that failed and are remembered.
const FAILED_NAMES_MAX: usize = 1_024;

/// A login in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// Whose.
    pub(super) user: Id,
    /// The user's generation when he logged in: a new password ends it.
    pub(super) generation: u32,
    /// When it ends.
    pub(super) ends: Instant,
}

/// Logins in force by the hash of their token, and names that failed.
#[derive(Debug, Default)]
pub(super) struct Logins {
    tokens: BTreeMap<[u8; 32], Login>,
    failures: BTreeMap<String, (u32, Instant)>,
}

impl Logins {
    /// The login of a token, if it is in force.
    pub(super) fn get(&mut self, hash: &[u8; 32], now: Instant) -> Option<Login> {
        let login = *self.tokens.get(hash)?;
        if login.ends <= now {
            self.tokens.remove(hash);
            return None;
        }
        Some(login)
    }

    /// Begins a login.
    pub(super) fn begin(&mut self, hash: [u8; 32], login: Login, now: Instant) {
        if self.tokens.len() >= LOGINS_MAX {
            self.tokens.retain(|_, login| login.ends > now);
        }
        if self.tokens.len() >= LOGINS_MAX {
            let first = self.tokens.iter().min_by_key(|(_, login)| login.ends);
            if let Some(hash) = first.map(|(hash, _)| *hash) {
                self.tokens.remove(&hash);
            }
        }
        self.tokens.insert(hash, login);
    }

    /// Ends a login.
    pub(super) fn end(&mut self, hash: &[u8; 32]) {
        self.tokens.remove(hash);
    }

    /// How long this name still has to wait before it may try again.
    pub(super) fn must_wait(&self, name: &str, now: Instant) -> Option<Duration> {
        let (count, since) = self.failures.get(name)?;
        let over = *since + FAILURE_WINDOW;
        (*count >= FAILURES_MAX && now < over).then(|| over.since(now))
    }

    /// A login of this name failed.
    pub(super) fn failed(&mut self, name: &str, now: Instant) {
        self.failures.retain(|_, (_, since)| now.since(*since) < FAILURE_WINDOW);
        if self.failures.len() >= FAILED_NAMES_MAX && !self.failures.contains_key(name) {
            let first = self.failures.iter().min_by_key(|(_, (_, since))| *since);
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                self.failures.remove(&name);
            }
        }
        let entry = self.failures.entry(name.to_owned()).or_insert((0, now));
        entry.0 += 1;
    }

    /// A login of this name succeeded.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.failures.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_waits_after_five_failures_and_no_other_does() {
        let mut logins = Logins::default();
        for second in 0..5 {
            assert_eq!(logins.must_wait("admin", Instant::from_secs(second)), None, "{second}");
            logins.failed("admin", Instant::from_secs(second));
        }
        let wait = logins.must_wait("admin", Instant::from_secs(10));
        assert_eq!(wait, Some(Duration::from_secs(50)));
        assert_eq!(logins.must_wait("other", Instant::from_secs(10)), None);
        assert_eq!(logins.must_wait("admin", Instant::from_secs(60)), None);
    }

    #[test]
    fn memory_is_bounded_whatever_names_and_tokens_come() {
        let mut logins = Logins::default();
        for n in 0..LOGINS_MAX as u64 + 10 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            let ends = Instant::from_secs(1_000 + n);
            let login = Login { user: Id([1; 16]), generation: 0, ends };
            logins.begin(hash, login, Instant::ZERO);
            logins.failed(&format!("name {n}"), Instant::from_millis(n));
        }
        assert_eq!(logins.tokens.len(), LOGINS_MAX);
        assert_eq!(logins.failures.len(), FAILED_NAMES_MAX);
        assert_eq!(logins.get(&[0; 32], Instant::ZERO), None, "the first to end went");
    }
}
