//! Keys at rest: what the log, the state, a snapshot and a backup hold instead of a key.

use minicbor::{Decode, Encode};

/// A secret under authenticated encryption (XChaCha20-Poly1305). Opened by whoever holds the data
/// key `key_id`; nothing on this floor or the next can.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// Which data key sealed it.
    #[n(0)]
    pub key_id: u32,
    /// Drawn by the proposer, never twice under one key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: [u8; 24],
    /// Ciphertext and tag.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Box<[u8]>,
}

impl core::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Sealed(key {}, {} bytes)", self.key_id, self.bytes.len())
    }
}
