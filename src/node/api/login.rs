//! Login tokens, and names whose login failed.
//!
//! A token says whose it is, under which password, and until when, sealed with a key that all
//! members have: it holds on every node and across restarts, and no node remembers it. A new
//! password or a user switched off ends it everywhere, at once. A logout ends it on this node
//! alone, until this node starts again: a list of those is kept here, bounded, and whoever must be
//! sure sets a new password.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clock::{Duration, Instant, WallTime};
use store::Id;

use crate::vault::Vault;

/// How long a login lasts.
pub(super) const LOGIN_LASTS: Duration = Duration::from_secs(24 * 3600);
/// Most logouts remembered; beyond, the one whose token ends first goes.
const LOGOUTS_MAX: usize = 10_000;
/// Failed logins of one name within [`FAILURE_WINDOW`] after which it has to wait.
const FAILURES_MAX: u32 = 5;
/// How long a name has to wait.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Names that failed and are remembered.
const FAILED_NAMES_MAX: usize = 1_024;

/// What a token begins with.
const PREFIX: &str = "tl_";
/// Version of what follows.
const VERSION: u8 = 1;
/// Version, user, generation, end, random part.
const BODY: usize = 1 + 16 + 4 + 8 + 8;
/// The seal behind it.
const SEAL: usize = 32;

/// A login, as its token says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// Whose.
    pub(super) user: Id,
    /// The user's generation when he logged in: a new password ends it.
    pub(super) generation: u32,
    /// When it ends, in whole seconds.
    pub(super) ends: WallTime,
}

impl Login {
    /// Its token.
    ///
    /// * `drawn`: tells two logins of one second apart.
    pub(super) fn token(&self, vault: &Vault, drawn: [u8; 8]) -> String {
        let mut bytes = Vec::with_capacity(BODY + SEAL);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.user.0);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.ends.unix_micros().to_be_bytes());
        bytes.extend_from_slice(&drawn);
        let seal = vault.login_seal(&bytes);
        bytes.extend_from_slice(&seal);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a token says; `None` for one that was not made by a member of this cluster.
    pub(super) fn of_token(vault: &Vault, token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let (body, seal) = bytes.split_first_chunk::<BODY>()?;
        if !vault.is_login_seal(body, seal) || body[0] != VERSION {
            return None;
        }
        let (user, rest) = body[1..].split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (ends, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            user: Id(*user),
            generation: u32::from_be_bytes(*generation),
            ends: WallTime::from_unix_micros(i64::from_be_bytes(*ends)),
        })
    }
}

/// Tokens that were logged out here, and names that failed.
#[derive(Debug, Default)]
pub(super) struct Logins {
    ended: BTreeMap<[u8; 32], WallTime>,
    failures: BTreeMap<String, (u32, Instant)>,
}

impl Logins {
    /// Whether the token with this hash is in force.
    pub(super) fn is_in_force(&self, hash: &[u8; 32], login: &Login, now: WallTime) -> bool {
        login.ends > now && !self.ended.contains_key(hash)
    }

    /// Ends a login on this node.
    pub(super) fn end(&mut self, hash: [u8; 32], ends: WallTime, now: WallTime) {
        if self.ended.len() >= LOGOUTS_MAX {
            self.ended.retain(|_, ends| *ends > now);
        }
        if self.ended.len() >= LOGOUTS_MAX {
            let first = self.ended.iter().min_by_key(|(_, ends)| **ends);
            if let Some(hash) = first.map(|(hash, _)| *hash) {
                self.ended.remove(&hash);
            }
        }
        self.ended.insert(hash, ends);
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

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_secs(seconds)
    }

    #[test]
    fn a_token_holds_wherever_the_data_key_is_and_nowhere_else() {
        let login = Login { user: Id([3; 16]), generation: 7, ends: at(1_000) };
        let token = login.token(&Vault::new(1, &[1; 32]), [9; 8]);
        // Another node, or this one after a restart.
        assert_eq!(Login::of_token(&Vault::new(1, &[1; 32]), &token), Some(login));
        assert_eq!(Login::of_token(&Vault::new(1, &[2; 32]), &token), None);
        assert_eq!(Login::of_token(&Vault::new(1, &[1; 32]), "tl_AAAA"), None);
        assert_ne!(token, login.token(&Vault::new(1, &[1; 32]), [8; 8]));
    }

    #[test]
    fn not_one_bit_of_a_token_can_be_turned() {
        let vault = Vault::new(1, &[1; 32]);
        let login = Login { user: Id([3; 16]), generation: 7, ends: at(1_000) };
        let token = login.token(&vault, [9; 8]);
        let bytes = URL_SAFE_NO_PAD.decode(&token[3..]).unwrap();
        assert_eq!(bytes.len(), BODY + SEAL);
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let bent = format!("tl_{}", URL_SAFE_NO_PAD.encode(bent));
            assert_eq!(Login::of_token(&vault, &bent), None, "bit {bit}");
        }
        for cut in 0..token.len() {
            assert_eq!(Login::of_token(&vault, &token[..cut]), None);
        }
        assert_eq!(Login::of_token(&vault, &format!("{token}AA")), None);
    }

    #[test]
    fn a_token_ends_by_itself_or_by_a_logout_here() {
        let mut logins = Logins::default();
        let login = Login { user: Id([3; 16]), generation: 7, ends: at(1_000) };
        assert!(logins.is_in_force(&[1; 32], &login, at(999)));
        assert!(!logins.is_in_force(&[1; 32], &login, at(1_000)));
        logins.end([1; 32], login.ends, at(10));
        assert!(!logins.is_in_force(&[1; 32], &login, at(11)));
        assert!(logins.is_in_force(&[2; 32], &login, at(11)));
    }

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
        for n in 0..LOGOUTS_MAX as u64 + 10 {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            logins.end(hash, at(1_000 + n as i64), at(0));
            logins.failed(&format!("name {n}"), Instant::from_millis(n));
        }
        assert_eq!(logins.ended.len(), LOGOUTS_MAX);
        assert_eq!(logins.failures.len(), FAILED_NAMES_MAX);
        assert!(!logins.ended.contains_key(&[0; 32]), "the first to end went");
    }
}
