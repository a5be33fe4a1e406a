//! Which member of which cluster a storage belongs to, and what the node intends to become.
//!
//! Written once, with the first entry of the log in view: a node whose log is empty has no raft id,
//! whatever its key. Source: DESIGN 6 (identity); dangers A4.

use std::collections::BTreeSet;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use store::Id;

use crate::disk::Disk;
use crate::peer::Contact;
use crate::storage::{Batch, Database, Meta, Op, StorageError};

/// Version of both encodings in this file.
const VERSION: u8 = 1;

/// Whose log this is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Identity {
    /// The cluster.
    #[n(0)]
    pub(crate) cluster: Id,
    /// This node's raft id in it.
    #[n(1)]
    pub(crate) raft_id: u64,
    /// The voters that an empty log begins with; none for a node that was admitted.
    #[n(2)]
    pub(crate) founders: BTreeSet<u64>,
    /// Whom it can reach until its state says more.
    #[n(3)]
    pub(crate) contacts: Vec<Contact>,
    /// What the founders have agreed upon, as it was encoded.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) genesis: Option<Vec<u8>>,
}

impl Identity {
    /// Reads it; `None` before there is a cluster.
    pub(crate) fn read(database: &Database) -> Result<Option<Self>, StorageError> {
        let found = database.meta(Meta::Identity)?;
        found.map(|bytes| decode("identity", &bytes)).transpose()
    }

    /// Writes it durably.
    pub(crate) async fn write(&self, disk: &impl Disk) -> Result<(), StorageError> {
        let value = encode(self);
        disk.commit(Batch::new().with(Op::PutMeta { key: Meta::Identity, value })).await
    }
}

/// What a node is about to become, across a restart.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Intent {
    /// A member of the cluster that is reached there.
    #[n(0)]
    Join {
        /// Where to ask.
        #[n(0)]
        target: String,
        /// The cluster whose data is set aside.
        #[n(1)]
        from: Option<Id>,
        /// The cluster that was found there: whoever answers may be in another by then.
        #[n(2)]
        to: Option<Id>,
    },
    /// Nobody's member: it leaves this cluster.
    #[n(1)]
    Leave {
        /// Which.
        #[n(0)]
        from: Id,
    },
    /// Alone, until somebody says otherwise: it looks for nobody.
    #[n(2)]
    Alone,
}

impl Intent {
    pub(crate) fn encode(&self) -> Bytes {
        encode(self)
    }

    /// * Returns `None` for what this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        decode("intent", bytes).ok()
    }

    /// Whether a storage of this identity must be set aside first. Who leaves stays a member
    /// until the others say that he is none.
    pub(crate) fn sets_aside(&self, identity: Option<&Identity>) -> bool {
        match self {
            Self::Join { from, .. } => {
                identity.is_some_and(|identity| *from == Some(identity.cluster))
            }
            Self::Leave { .. } | Self::Alone => false,
        }
    }

    /// What is still intended by a member of that identity; `None`: nothing any more.
    pub(crate) fn then(self, identity: &Identity) -> Option<Self> {
        match self {
            Self::Join { .. } => None,
            Self::Leave { from } if from == identity.cluster => Some(self),
            Self::Leave { .. } | Self::Alone => Some(Self::Alone),
        }
    }
}

fn encode<T: Encode<()>>(value: &T) -> Bytes {
    let mut bytes = vec![VERSION];
    minicbor::encode(value, &mut bytes).expect("writing to a vector cannot fail");
    bytes.into()
}

fn decode<'b, T: Decode<'b, ()>>(what: &str, bytes: &'b [u8]) -> Result<T, StorageError> {
    let unreadable =
        |text: String| StorageError::Unreadable { table: "meta", key: what.to_owned(), text };
    match bytes.split_first() {
        Some((&VERSION, form)) => {
            minicbor::decode(form).map_err(|error| unreadable(error.to_string()))
        }
        Some((version, _)) => {
            Err(unreadable(format!("encoding version {version} is not known here")))
        }
        None => Err(unreadable("empty record".to_owned())),
    }
}
