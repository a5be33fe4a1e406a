//! What lies in a node's storage, read without the node: for checks that must not trust it.
//!
//! Nothing here writes, applies or repairs. Every record read is checked against its checksum, and
//! one that is damaged is an error that names it.

use bytes::Bytes;
use store::{SnapshotBuilder, State};

use crate::raft::codec::{decode_entry, decode_snapshot, decode_vote};
use crate::raft::types::Payload;
use crate::storage::{Database, Meta, StorageError};

/// The state as of some entry of the log.
#[derive(Clone, Debug)]
pub struct StoredState {
    /// Index of the last entry it includes; `None`: not even the first.
    pub through: Option<u64>,
    /// What those entries have decided.
    pub state: State,
}

/// The command in a record of the log; `None` for an entry without one (a new leader, members).
///
/// * `index`: under which the record lies.
/// * Errors: [`StorageError::Unreadable`] for an encoding that this version does not know.
pub fn command_of(index: u64, record: &Bytes) -> Result<Option<Bytes>, StorageError> {
    let entry = decode_entry(index, record).map_err(|error| error.at("log", index))?;
    Ok(match entry.payload {
        openraft::EntryPayload::Normal(Payload(command)) => Some(command),
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => None,
    })
}

/// The term of the leader who wrote a record of the log.
///
/// * Errors: as [`command_of`].
pub fn term_of(index: u64, record: &Bytes) -> Result<u64, StorageError> {
    let entry = decode_entry(index, record).map_err(|error| error.at("log", index))?;
    Ok(entry.log_id.committed_leader_id().term)
}

/// A vote as it lies on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// For whom, by raft id.
    pub leader: u64,
    /// A quorum has elected that one.
    pub elected: bool,
}

/// The vote in the record of that name.
///
/// * Errors: as [`command_of`].
pub fn vote_of(record: &[u8]) -> Result<Vote, StorageError> {
    let vote = decode_vote(record).map_err(|error| error.at("meta", "vote"))?;
    let (term, leader) = (vote.leader_id.term, vote.leader_id.voted_for);
    Ok(Vote { term, leader, elected: vote.committed })
}

/// Index of the last entry that the snapshot of a record includes.
///
/// * Errors: as [`command_of`].
pub fn reach_of(record: &[u8]) -> Result<Option<u64>, StorageError> {
    let record = decode_snapshot(record).map_err(|error| error.at("meta", "snapshot"))?;
    Ok(record.meta.last_log_id.map(|last| last.index()))
}

/// The state in the current snapshot; the state before the first entry if there is none.
///
/// * Errors: a damaged record, a missing piece, or what this version cannot read.
pub fn snapshot_of(database: &Database) -> Result<StoredState, StorageError> {
    let Some(bytes) = database.meta(Meta::Snapshot)? else {
        return Ok(StoredState { through: None, state: State::new() });
    };
    let record = decode_snapshot(&bytes).map_err(|error| error.at("meta", "snapshot"))?;
    let mut builder = SnapshotBuilder::default();
    for chunk in 0..record.chunks {
        let unreadable = |text: String| StorageError::Unreadable {
            table: "snapshot",
            key: format!("{}/{chunk}", record.generation),
            text,
        };
        let piece = database.snapshot_chunk(record.generation, chunk)?;
        let piece = piece.ok_or_else(|| unreadable("missing".to_owned()))?;
        builder.feed(&piece).map_err(|error| unreadable(error.to_string()))?;
    }
    let state = builder.finish().map_err(|error| StorageError::Unreadable {
        table: "snapshot",
        key: record.generation.to_string(),
        text: error.to_string(),
    })?;
    Ok(StoredState { through: record.meta.last_log_id.map(|last| last.index()), state })
}

/// The records of the log, in order, each with its index.
///
/// * Errors: a damaged record, or a hole.
pub fn log_of(database: &Database) -> Result<Vec<(u64, Bytes)>, StorageError> {
    database.log(0..u64::MAX, usize::MAX)
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::raft::codec::{SnapshotRecord, encode_entry, encode_snapshot};
    use crate::raft::types::{CommittedLeaderId, LogId, RaftEntry, SnapshotMeta};
    use crate::storage::torn::TornDisk;
    use crate::storage::{Batch, Op};

    fn log_id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1), index)
    }

    fn record(index: u64, payload: EntryPayload<Payload, u64, ()>) -> Bytes {
        encode_entry(&RaftEntry { log_id: log_id(index), payload })
    }

    #[test]
    fn commands_and_a_snapshot_are_found_where_the_node_has_put_them() {
        let database = Database::open(TornDisk::default()).unwrap();
        let empty = snapshot_of(&database).unwrap();
        assert_eq!((empty.through, log_of(&database).unwrap().len()), (None, 0));

        let command = Bytes::from_static(b"command");
        let normal = record(1, EntryPayload::Normal(Payload(command.clone())));
        let mut pieces = State::new().snapshot();
        let piece: Bytes = pieces.next_piece().unwrap().into();
        assert_eq!(pieces.next_piece(), None, "an empty state is one piece");
        let meta = SnapshotMeta { last_log_id: Some(log_id(0)), ..SnapshotMeta::default() };
        let snapshot = SnapshotRecord { generation: 3, chunks: 1, bytes: piece.len() as u64, meta };
        let batch = Batch::new()
            .with(Op::PutLog { after: None, index: 0, record: record(0, EntryPayload::Blank) })
            .with(Op::PutLog { after: Some(0), index: 1, record: normal })
            .with(Op::PutSnapshotChunk { generation: 3, chunk: 0, bytes: piece })
            .with(Op::PutMeta { key: Meta::Snapshot, value: encode_snapshot(&snapshot) });
        database.commit_one(batch).unwrap();

        let log = log_of(&database).unwrap();
        let commands: Vec<_> = log.iter().map(|(at, one)| command_of(*at, one).unwrap()).collect();
        assert_eq!(commands, [None, Some(command)]);
        let stored = snapshot_of(&database).unwrap();
        assert_eq!(stored.through, Some(0));
        assert_eq!(stored.state.state_hash(), State::new().state_hash());
    }

    #[test]
    fn a_missing_piece_is_an_error_that_names_it() {
        let database = Database::open(TornDisk::default()).unwrap();
        let meta = SnapshotMeta::default();
        let snapshot = SnapshotRecord { generation: 3, chunks: 1, bytes: 9, meta };
        let put = Op::PutMeta { key: Meta::Snapshot, value: encode_snapshot(&snapshot) };
        database.commit_one(Batch::new().with(put)).unwrap();
        let error = snapshot_of(&database).unwrap_err();
        assert!(error.to_string().contains("3/0"), "{error}");
    }
}
