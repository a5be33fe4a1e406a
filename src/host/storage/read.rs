//! Reading: log records, single values, snapshot pieces, event rows, cursors.
//!
//! A damaged record is an error that names it, never a silence.

use std::ops::Range;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable};

use super::guard::guarded;
use super::record::open;
use super::tables::{
    CURSORS, EVENTS, FORMAT_KEY, LOG, META, PURGED_KEY, SERIAL_KEY, SNAPSHOT, snapshot_key,
};
use super::{Database, Engine, FORMAT, Meta, Position, StorageError, first};

/// What the first reads are for.
const OPENING: &str = "looking at the storage file";

impl Database {
    /// The value of a name, if set.
    pub fn meta(&self, key: Meta) -> Result<Option<Bytes>, StorageError> {
        self.read(|engine| engine.meta(key.key()))
    }

    /// Index and encoded log id of the last record purged, if any was.
    pub fn purged(&self) -> Result<Option<(u64, Bytes)>, StorageError> {
        self.read(Engine::purged)
    }

    /// First and last index in the log; `None` when it is empty.
    pub fn log_bounds(&self) -> Result<Option<(u64, u64)>, StorageError> {
        self.read(Engine::log_bounds)
    }

    /// Log records of a range of indexes, those that exist, up to about `max_bytes` (at least one).
    ///
    /// Errors: [`StorageError::LogMissing`] for a hole.
    pub fn log(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        self.read(|engine| {
            let mut records: Vec<(u64, Bytes)> = Vec::new();
            let mut bytes = 0;
            let table = engine.table(LOG)?;
            for found in engine.noting(table.range(range))? {
                let (key, value) = engine.noting(found)?;
                let index = key.value();
                let record = open("log", &index.to_le_bytes(), value.value(), index)?;
                if let Some((last, _)) = records.last()
                    && last + 1 != index
                {
                    return Err(StorageError::LogMissing { index: last + 1 });
                }
                bytes += record.len();
                records.push((index, record));
                if bytes >= max_bytes {
                    break;
                }
            }
            Ok(records)
        })
    }

    /// One piece of a snapshot, if stored.
    pub fn snapshot_chunk(
        &self,
        generation: u64,
        chunk: u32,
    ) -> Result<Option<Bytes>, StorageError> {
        self.read(|engine| {
            let table = engine.table(SNAPSHOT)?;
            let Some(found) = engine.noting(table.get((generation, chunk)))? else {
                return Ok(None);
            };
            let key = snapshot_key(generation, chunk);
            open("snapshot", &key, found.value(), format_args!("{generation}/{chunk}")).map(Some)
        })
    }

    /// Event rows from sequence `from` on, in order, at most `limit`.
    pub fn event_rows(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, StorageError> {
        self.read(|engine| {
            let table = engine.table(EVENTS)?;
            let mut rows = Vec::new();
            for found in engine.noting(table.range(from..))?.take(limit) {
                let (key, value) = engine.noting(found)?;
                let sequence = key.value();
                rows.push((
                    sequence,
                    open("events", &sequence.to_le_bytes(), value.value(), sequence)?,
                ));
            }
            Ok(rows)
        })
    }

    /// First and last sequence number of the event rows; `None` when there are none.
    pub fn event_bounds(&self) -> Result<Option<(u64, u64)>, StorageError> {
        self.read(|engine| {
            let table = engine.table(EVENTS)?;
            let first = engine.noting(table.first())?.map(|(key, _)| key.value());
            let last = engine.noting(table.last())?.map(|(key, _)| key.value());
            Ok(first.zip(last))
        })
    }

    /// The value of one cursor, if set.
    pub fn cursor(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.read(|engine| {
            let table = engine.table(CURSORS)?;
            let Some(found) = engine.noting(table.get(key))? else { return Ok(None) };
            open("cursors", key, found.value(), Hex(key)).map(Some)
        })
    }

    /// All cursors whose key begins with `prefix`, in the order of their keys.
    pub fn cursors(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.read(|engine| {
            let table = engine.table(CURSORS)?;
            let mut found = Vec::new();
            for entry in engine.noting(table.range(prefix..))? {
                let (key, value) = engine.noting(entry)?;
                let key = key.value();
                if !key.starts_with(prefix) {
                    break;
                }
                let content = open("cursors", key, value.value(), Hex(key))?;
                found.push((Bytes::copy_from_slice(key), content));
            }
            Ok(found)
        })
    }

    fn read<T>(
        &self,
        run: impl FnOnce(&Engine) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match &*self.engine() {
            Some(engine) => guarded("reading", || run(engine)),
            None => Err(StorageError::Full),
        }
    }
}

impl Engine {
    /// Refuses a file of a newer version.
    pub(crate) fn check_format(&self) -> Result<(), StorageError> {
        let found = guarded(OPENING, || self.number(FORMAT_KEY))?;
        let found = u32::from_le_bytes(found);
        if found > FORMAT {
            return Err(StorageError::TooNew { found, known: FORMAT });
        }
        Ok(())
    }

    /// Where the file stands.
    pub(crate) fn position(&self) -> Result<Position, StorageError> {
        guarded(OPENING, || {
            let purged = self.purged()?.map(|(index, _)| index);
            let last = self.log_bounds()?.map(|(_, last)| last);
            Ok(Position {
                last_log: last.max(purged),
                serial: u64::from_le_bytes(self.number(SERIAL_KEY)?),
            })
        })
    }

    fn number<const N: usize>(&self, key: &'static str) -> Result<[u8; N], StorageError> {
        let value = self.meta(key)?.ok_or_else(|| unreadable(key, "missing"))?;
        value[..].try_into().map_err(|_| unreadable(key, "of the wrong length"))
    }

    fn purged(&self) -> Result<Option<(u64, Bytes)>, StorageError> {
        let Some(value) = self.meta(PURGED_KEY)? else { return Ok(None) };
        let Some((index, _)) = value.split_first_chunk::<8>() else {
            return Err(unreadable(PURGED_KEY, "too short"));
        };
        Ok(Some((u64::from_le_bytes(*index), value.slice(8..))))
    }

    fn log_bounds(&self) -> Result<Option<(u64, u64)>, StorageError> {
        let table = self.table(LOG)?;
        let first = self.noting(table.first())?.map(|(key, _)| key.value());
        let last = self.noting(table.last())?.map(|(key, _)| key.value());
        Ok(first.zip(last))
    }

    fn meta(&self, key: &str) -> Result<Option<Bytes>, StorageError> {
        let table = self.table(META)?;
        let Some(found) = self.noting(table.get(key))? else { return Ok(None) };
        open("meta", key.as_bytes(), found.value(), key).map(Some)
    }

    fn table<K: redb::Key, V: redb::Value>(
        &self,
        definition: redb::TableDefinition<'static, K, V>,
    ) -> Result<redb::ReadOnlyTable<K, V>, StorageError> {
        let txn: ReadTransaction = self.noting(self.redb.begin_read())?;
        self.noting(txn.open_table(definition))
    }

    /// Names what the backend noted in place of redb's "I/O error".
    fn noting<T>(&self, result: Result<T, impl Into<redb::Error>>) -> Result<T, StorageError> {
        result.map_err(|error| first(&self.failure, "reading", &error.into()))
    }
}

fn unreadable(key: &str, text: &str) -> StorageError {
    StorageError::Unreadable { table: "meta", key: key.to_string(), text: text.to_string() }
}

/// A key of unknown content, printable.
struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
