//! The six tables of the file, and how a batch changes them.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::batch::{Batch, Op};
use super::record::seal;

/// Log index -> entry.
pub(crate) const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
/// Name -> value.
pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// Generation and piece -> bytes.
pub(crate) const SNAPSHOT: TableDefinition<'static, (u64, u32), &[u8]> =
    TableDefinition::new("snapshot");
/// Sequence -> event row.
pub(crate) const EVENTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("events");
/// Whose -> where they stand.
pub(crate) const CURSORS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("cursors");

/// Key in `meta` of the format of the whole file.
pub(crate) const FORMAT_KEY: &str = "format";
/// Key in `meta` of the last log record purged: its index, then its log id as handed in.
pub(crate) const PURGED_KEY: &str = "purged";
/// Key in `meta` of the number of transactions so far: tells whether one that failed had landed.
pub(crate) const SERIAL_KEY: &str = "serial";

/// The bytes of a snapshot key that the checksum covers.
pub(crate) fn snapshot_key(generation: u64, chunk: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&generation.to_le_bytes());
    key[8..].copy_from_slice(&chunk.to_le_bytes());
    key
}

/// Creates all tables, so that a reader never meets a missing one.
pub(crate) fn create(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(LOG)?;
    txn.open_table(META)?;
    txn.open_table(SNAPSHOT)?;
    txn.open_table(EVENTS)?;
    txn.open_table(CURSORS)?;
    Ok(())
}

/// Writes a named value.
pub(crate) fn put_meta(txn: &WriteTransaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    let record = seal("meta", key.as_bytes(), value);
    txn.open_table(META)?.insert(key, &record[..])?;
    Ok(())
}

/// Applies the operations of some batches, in order.
pub(crate) fn apply<'a>(
    txn: &WriteTransaction,
    batches: impl Iterator<Item = &'a Batch>,
) -> Result<(), redb::Error> {
    let mut tables = Tables {
        log: txn.open_table(LOG)?,
        meta: txn.open_table(META)?,
        snapshot: txn.open_table(SNAPSHOT)?,
        events: txn.open_table(EVENTS)?,
        cursors: txn.open_table(CURSORS)?,
    };
    for op in batches.flat_map(Batch::ops) {
        tables.apply(op)?;
    }
    Ok(())
}

struct Tables<'txn> {
    log: redb::Table<'txn, u64, &'static [u8]>,
    meta: redb::Table<'txn, &'static str, &'static [u8]>,
    snapshot: redb::Table<'txn, (u64, u32), &'static [u8]>,
    events: redb::Table<'txn, u64, &'static [u8]>,
    cursors: redb::Table<'txn, &'static [u8], &'static [u8]>,
}

impl Tables<'_> {
    fn apply(&mut self, op: &Op) -> Result<(), redb::Error> {
        match op {
            Op::PutLog { index, record, .. } => {
                let record = seal("log", &index.to_le_bytes(), record);
                self.log.insert(*index, &record[..])?;
            }
            Op::TruncateLogFrom { index } => self.log.retain_in(*index.., |_, _| false)?,
            Op::PurgeLogThrough { index, log_id } => {
                self.log.retain_in(..=*index, |_, _| false)?;
                let value = [&index.to_le_bytes()[..], log_id].concat();
                self.put_meta(PURGED_KEY, &value)?;
            }
            Op::PutMeta { key, value } => self.put_meta(key.key(), value)?,
            Op::PutSnapshotChunk { generation, chunk, bytes } => {
                let record = seal("snapshot", &snapshot_key(*generation, *chunk), bytes);
                self.snapshot.insert((*generation, *chunk), &record[..])?;
            }
            Op::DropSnapshotsExcept { keep } => {
                self.snapshot.retain(|(owner, _), _| keep.contains(&owner))?;
            }
            Op::PutEventRow { sequence, row } => {
                let record = seal("events", &sequence.to_le_bytes(), row);
                self.events.insert(*sequence, &record[..])?;
            }
            Op::DropEventRowsBelow { sequence } => self.drop_events_below(*sequence)?,
            Op::PutCursor { key, value } => {
                let record = seal("cursors", key, value);
                self.cursors.insert(&key[..], &record[..])?;
            }
            Op::DropCursor { key } => {
                self.cursors.remove(&key[..])?;
            }
        }
        Ok(())
    }

    fn put_meta(&mut self, key: &str, value: &[u8]) -> Result<(), redb::Error> {
        let record = seal("meta", key.as_bytes(), value);
        self.meta.insert(key, &record[..])?;
        Ok(())
    }

    /// The ring drops a row or two for each one added: looking at the first is enough then.
    fn drop_events_below(&mut self, sequence: u64) -> Result<(), redb::Error> {
        let first = self.events.first()?.map(|(key, _)| key.value());
        if first.is_some_and(|first| first < sequence) {
            self.events.retain_in(..sequence, |_, _| false)?;
        }
        Ok(())
    }
}
