//! The seed list: the electorate of a founding.

use sha2::{Digest as _, Sha256};

use crate::identity::PeerAddress;

/// Most seeds: as many as a full mesh of voters bears.
pub const SEEDS_MAX: usize = 9;

/// Why a list is no seed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedListError {
    /// No address.
    #[error("the seed list is empty: a node that shall be alone lists its own address")]
    Empty,
    /// More than [`SEEDS_MAX`].
    #[error("the seed list has {0} addresses, at most {SEEDS_MAX} are taken; others just join")]
    TooMany(usize),
}

/// Addresses in order, each once, so that equal lists are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedList(Vec<PeerAddress>);

impl SeedList {
    /// A list from what the configuration says, in any order.
    pub fn new(mut addresses: Vec<PeerAddress>) -> Result<Self, SeedListError> {
        addresses.sort();
        addresses.dedup();
        match addresses.len() {
            0 => Err(SeedListError::Empty),
            len if len > SEEDS_MAX => Err(SeedListError::TooMany(len)),
            _ => Ok(Self(addresses)),
        }
    }

    /// The addresses in order.
    pub fn addresses(&self) -> &[PeerAddress] {
        &self.0
    }

    /// How many make a majority. An address nobody answers at counts as well.
    pub fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// Whether this address is in the list.
    pub fn contains(&self, address: &PeerAddress) -> bool {
        self.0.binary_search(address).is_ok()
    }

    /// What nodes compare: only those with one list vote together.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"tern seeds 1\n");
        for address in &self.0 {
            hash.update(format!("{address}\n"));
        }
        hash.finalize().into()
    }
}
