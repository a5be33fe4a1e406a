//! Keys where none may be.

use std::sync::{Arc, Mutex};

use node::vault::Vault;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::bench::{APP_KEY, Bench};
use super::*;
use crate::runtime::held;

#[test]
fn a_sealed_key_stands_beside_its_ciphertext() {
    let in_clear = || {
        let sealed = Vault::new(1, &[4; 32]).seal(b"root", [9; 24], APP_KEY.expose());
        assert_eq!(**Vault::new(1, &[4; 32]).open(b"root", &sealed).unwrap(), APP_KEY.expose()[..]);
        sealed.nonce.starts_with(APP_KEY.expose())
    };
    assert_eq!(both(Bug::KeyInClear, in_clear), (false, true));
}

/// Keeps every field of every event as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        held(&self.0).push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_root_key_is_in_a_log_line() {
    let told = || {
        let lines = Lines::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        Bench::new().join(1, 1);
        drop(guard);
        held(&lines.0).contains(&"07".repeat(16))
    };
    assert_eq!(both(Bug::SecretInLog, told), (false, true));
}
