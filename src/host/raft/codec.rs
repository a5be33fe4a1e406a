//! How entries, votes, log ids, members and snapshot descriptions lie on disk.
//!
//! One version byte, then CBOR with numbered fields that are never reused. A version or variant
//! that this binary does not know is an error: it stops, it never skips.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use minicbor::bytes::ByteSlice;
use minicbor::{Decode, Encode};
use openraft::impls::leader_id_std::LeaderId;
use openraft::{EntryPayload, Membership};

use super::types::{
    CommittedLeaderId, LogId, Members, Payload, RaftEntry, SnapshotMeta, VoteGiven,
};
use crate::storage::StorageError;

/// Version of every encoding in this file.
const VERSION: u8 = 1;

/// Why bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Nothing there.
    #[error("empty record")]
    Empty,
    /// Written by a newer version.
    #[error("encoding version {0} is not known here: upgrade this node")]
    Version(u8),
    /// Not what this version writes.
    #[error("not a {what}: {text}")]
    Content { what: &'static str, text: String },
}

impl CodecError {
    /// Names the record that could not be read.
    pub(crate) fn at(self, table: &'static str, key: impl core::fmt::Display) -> StorageError {
        StorageError::Unreadable { table, key: key.to_string(), text: self.to_string() }
    }
}

#[derive(Encode, Decode)]
struct EntryForm<'a> {
    #[n(0)]
    term: u64,
    #[b(1)]
    body: BodyForm<'a>,
}

#[derive(Encode, Decode)]
enum BodyForm<'a> {
    #[n(0)]
    Blank,
    #[n(1)]
    Command(#[b(0)] &'a ByteSlice),
    #[n(2)]
    Members(#[n(0)] MembersForm),
}

/// The members as of some entry, likewise.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct MembersForm {
    /// Voters; two sets while a change is under way.
    #[n(0)]
    voters: Vec<BTreeSet<u64>>,
    /// Everybody, learners included.
    #[n(1)]
    all: BTreeSet<u64>,
}

/// A vote, on disk and on the way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Ballot {
    #[n(0)]
    term: u64,
    #[n(1)]
    node: u64,
    #[n(2)]
    committed: bool,
}

/// A log id, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Position {
    #[n(0)]
    pub(crate) term: u64,
    #[n(1)]
    pub(crate) index: u64,
}

#[derive(Encode, Decode)]
struct SnapshotForm {
    #[n(0)]
    generation: u64,
    #[n(1)]
    chunks: u32,
    #[n(2)]
    bytes: u64,
    #[n(3)]
    last: Option<Position>,
    #[n(4)]
    members_at: Option<Position>,
    #[n(5)]
    members: MembersForm,
}

/// A snapshot as it lies in the storage: which chunks, and up to where they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotRecord {
    pub(crate) generation: u64,
    pub(crate) chunks: u32,
    /// Size of all chunks together.
    pub(crate) bytes: u64,
    pub(crate) meta: SnapshotMeta,
}

/// Encodes an entry. Its index is the key under which it lies.
pub(crate) fn encode_entry(entry: &RaftEntry) -> Bytes {
    let body = match &entry.payload {
        EntryPayload::Blank => BodyForm::Blank,
        EntryPayload::Normal(Payload(bytes)) => BodyForm::Command(bytes[..].into()),
        EntryPayload::Membership(members) => BodyForm::Members(MembersForm::of(members)),
    };
    encode(&EntryForm { term: entry.log_id.committed_leader_id().term, body })
}

/// Decodes the entry that lies under `index`.
pub(crate) fn decode_entry(index: u64, record: &Bytes) -> Result<RaftEntry, CodecError> {
    let form: EntryForm<'_> = decode("log entry", record)?;
    let payload = match form.body {
        BodyForm::Blank => EntryPayload::Blank,
        // A view of the record, not a copy.
        BodyForm::Command(bytes) => EntryPayload::Normal(Payload(record.slice_ref(bytes))),
        BodyForm::Members(members) => EntryPayload::Membership(members.build()?),
    };
    Ok(RaftEntry { log_id: Position { term: form.term, index }.build(), payload })
}

/// Encodes a vote.
pub(crate) fn encode_vote(vote: &VoteGiven) -> Bytes {
    encode(&Ballot::of(vote))
}

/// Decodes a vote.
pub(crate) fn decode_vote(record: &[u8]) -> Result<VoteGiven, CodecError> {
    decode::<Ballot>("vote", record).map(Ballot::build)
}

/// Encodes a log id.
pub(crate) fn encode_log_id(log_id: &LogId) -> Bytes {
    encode(&Position::of(log_id))
}

/// Decodes a log id.
pub(crate) fn decode_log_id(record: &[u8]) -> Result<LogId, CodecError> {
    decode::<Position>("log id", record).map(Position::build)
}

/// Encodes the description of a snapshot.
pub(crate) fn encode_snapshot(snapshot: &SnapshotRecord) -> Bytes {
    let members = &snapshot.meta.last_membership;
    encode(&SnapshotForm {
        generation: snapshot.generation,
        chunks: snapshot.chunks,
        bytes: snapshot.bytes,
        last: snapshot.meta.last_log_id.as_ref().map(Position::of),
        members_at: members.log_id().as_ref().map(Position::of),
        members: MembersForm::of(members.membership()),
    })
}

/// Decodes the description of a snapshot.
pub(crate) fn decode_snapshot(record: &[u8]) -> Result<SnapshotRecord, CodecError> {
    let form: SnapshotForm = decode("snapshot description", record)?;
    let members_at = form.members_at.map(Position::build);
    Ok(SnapshotRecord {
        generation: form.generation,
        chunks: form.chunks,
        bytes: form.bytes,
        meta: SnapshotMeta {
            last_log_id: form.last.map(Position::build),
            last_membership: Members::new(members_at, form.members.build()?),
        },
    })
}

impl Ballot {
    pub(crate) fn of(vote: &VoteGiven) -> Self {
        let LeaderId { term, voted_for } = vote.leader_id;
        Self { term, node: voted_for, committed: vote.committed }
    }

    pub(crate) fn build(self) -> VoteGiven {
        let leader_id = LeaderId { term: self.term, voted_for: self.node };
        VoteGiven { leader_id, committed: self.committed }
    }
}

impl Position {
    pub(crate) fn of(log_id: &LogId) -> Self {
        Self { term: log_id.committed_leader_id().term, index: log_id.index() }
    }

    pub(crate) fn build(self) -> LogId {
        LogId::new(CommittedLeaderId::new(self.term), self.index)
    }
}

impl MembersForm {
    pub(crate) fn of(members: &Membership<u64, ()>) -> Self {
        Self {
            voters: members.get_joint_config().clone(),
            all: members.nodes().map(|(id, ())| *id).collect(),
        }
    }

    pub(crate) fn build(self) -> Result<Membership<u64, ()>, CodecError> {
        let all: BTreeMap<u64, ()> = self.all.into_iter().map(|id| (id, ())).collect();
        // The members of a cluster that is not founded yet.
        if self.voters.iter().all(BTreeSet::is_empty) && all.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.voters, all)
            .map_err(|error| CodecError::Content { what: "membership", text: error.to_string() })
    }
}

fn encode<T: Encode<()>>(form: &T) -> Bytes {
    let mut record = vec![VERSION];
    minicbor::encode(form, &mut record).expect("writing to a vector cannot fail");
    record.into()
}

fn decode<'a, T: Decode<'a, ()>>(what: &'static str, record: &'a [u8]) -> Result<T, CodecError> {
    let (version, form) = record.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    minicbor::decode(form).map_err(|error| CodecError::Content { what, text: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        Position { term, index }.build()
    }

    fn entry(payload: EntryPayload<Payload, u64, ()>) -> RaftEntry {
        RaftEntry { log_id: id(7, 42), payload }
    }

    fn joint() -> Membership<u64, ()> {
        let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        Membership::new(voters, BTreeMap::from([(1, ()), (2, ()), (3, ()), (4, ()), (1_009, ())]))
            .unwrap()
    }

    #[test]
    fn every_form_returns_as_it_was() {
        let command = EntryPayload::Normal(Payload(Bytes::from_static(b"command")));
        for payload in [EntryPayload::Blank, command, EntryPayload::Membership(joint())] {
            let entry = entry(payload);
            let record = encode_entry(&entry);
            assert_eq!(decode_entry(42, &record), Ok(entry));
        }
        for committed in [false, true] {
            let leader_id = LeaderId { term: u64::MAX, voted_for: 3 };
            let vote = VoteGiven { leader_id, committed };
            assert_eq!(decode_vote(&encode_vote(&vote)), Ok(vote));
        }
        let record = encode_log_id(&id(3, 9));
        assert_eq!(decode_log_id(&record), Ok(id(3, 9)));
        for (last, members) in
            [(None, Members::default()), (Some(id(4, 5)), Members::new(Some(id(1, 0)), joint()))]
        {
            let meta = SnapshotMeta { last_log_id: last, last_membership: members };
            let snapshot = SnapshotRecord { generation: 3, chunks: 2, bytes: 99, meta };
            let record = encode_snapshot(&snapshot);
            assert_eq!(decode_snapshot(&record), Ok(snapshot));
        }
    }

    /// The bytes on disk, pinned: a change here is a new version, not an edit.
    #[test]
    fn the_bytes_stay_as_they_are() {
        let command = entry(EntryPayload::Normal(Payload(Bytes::from_static(b"ab"))));
        let bytes = [1, 0x82, 7, 0x82, 1, 0x81, 0x42, b'a', b'b'];
        assert_eq!(&encode_entry(&command)[..], bytes);
        assert_eq!(&encode_log_id(&id(3, 9))[..], [1, 0x82, 3, 9]);
        let leader_id = LeaderId { term: 2, voted_for: 1 };
        let vote = VoteGiven { leader_id, committed: true };
        assert_eq!(&encode_vote(&vote)[..], [1, 0x83, 2, 1, 0xF5]);
    }

    #[test]
    fn what_it_does_not_know_is_an_error() {
        let good = encode_entry(&entry(EntryPayload::Membership(joint())));
        let read = |record: &[u8]| decode_entry(42, &Bytes::copy_from_slice(record));
        assert_eq!(read(b""), Err(CodecError::Empty));
        let mut newer = good.to_vec();
        newer[0] = 2;
        assert_eq!(read(&newer), Err(CodecError::Version(2)));
        for length in 1..good.len() {
            assert!(read(&good[..length]).is_err(), "{length} bytes");
        }
        // An unknown kind of entry.
        assert!(read(&[1, 0x82, 7, 0x82, 9, 0x80]).is_err());
        // A length that is only told.
        assert!(
            read(&[1, 0x82, 7, 0x82, 1, 0x81, 0x5B, 0x7F, 255, 255, 255, 255, 255, 255, 255])
                .is_err()
        );
    }
}
