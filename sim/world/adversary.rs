//! Somebody without keys: replays, turned bits, forged gateways, floods.

use std::net::SocketAddr;

use scenario::Fault;

use super::record::Record;
use crate::dice::Seed;

/// The adversary. Clones are the same.
#[derive(Clone)]
pub(super) struct Adversary {
    seed: Seed,
    server: SocketAddr,
    record: Record,
}

impl Adversary {
    pub(super) fn new(seed: Seed, server: SocketAddr, record: &Record) -> Self {
        Self { seed, server, record: record.clone() }
    }

    /// Begins what `fault` asks for.
    pub(super) fn attack(&self, fault: &Fault) {
        let _ = (self.seed, self.server);
        self.record.note("adversary", &format!("{} begins", fault.kind));
    }

    /// Ends it.
    pub(super) fn cease(&self, fault: &Fault) {
        self.record.note("adversary", &format!("{} ends", fault.kind));
    }
}
