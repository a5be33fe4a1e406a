//! The last look at a node's disk, without the node: is every record whole, is the state on it what
//! its log says from the first entry on, and does it know of everything that has left the node?
//!
//! Three accounts are held against each other: what lies on the disk (a snapshot and the tail of
//! the log), what the node was seen to write from its first entry on ([`super::ledger`]), and what
//! it showed through its API. Source: requirements, part G, S5, S10 (one log, one state) and S12.

use std::collections::BTreeMap;

use host::autopsy;
use host::storage::Database;
use node::api::wire::EventItem;
use store::{EventRow, State};

use super::ledger::{Ledger, Replay};
use crate::dice::Seed;
use crate::disk::{Disk, Image, Speed};
use crate::oracle::Permits;

/// What a disk holds, read and checked.
struct Remains {
    /// Snapshot and tail, applied.
    state: State,
    /// The last entry of the log, of one that counts.
    last: u64,
    /// Rows that the tail makes anew, and those that were stored.
    rows: BTreeMap<u64, Vec<u8>>,
}

/// What the audit found.
pub(super) struct Findings {
    /// What the log permits that remains.
    pub(super) permits: Permits,
    /// The last entry that was held against it.
    pub(super) through: u64,
    /// What does not fit.
    pub(super) wrong: Vec<String>,
}

/// Reads an image of a node's disk and holds it against what was seen of the node.
///
/// * `log`: what it wrote to its log; or, if true, what the cluster did: then the disk counts as
///   far as it has the same entries, and what it has beyond them was never decided.
/// * `shown`: the event log as its API showed it, at some moment before.
/// * Errors: what makes the disk or the ledger unreadable; nothing else can be said then.
pub(super) fn audit(
    image: &Image,
    seed: Seed,
    (ledger, is_common): (&Ledger, bool),
    shown: &[EventItem],
) -> Result<Findings, String> {
    let database = open(image, seed)?;
    let remains = Remains::read(&database, is_common.then_some(ledger))?;
    let replay = ledger.replay(remains.last)?;
    let mut wrong = Vec::new();
    if remains.state.state_hash() != replay.state.state_hash() {
        let last = remains.last;
        wrong.push(format!("snapshot and log give another state than the whole log up to {last}"));
    }
    wrong.extend(compare_rows(&remains, &replay.rows));
    wrong.extend(compare_shown(&replay.rows, shown));
    wrong.extend(forgotten(&replay));
    Ok(Findings { permits: replay.permits, through: remains.last, wrong })
}

/// The last entry of the log on an image of a node's disk.
///
/// Errors: as [`audit`].
pub(super) fn last_entry(image: &Image, seed: Seed) -> Result<u64, String> {
    let database = open(image, seed)?;
    let text = |error: host::storage::StorageError| error.to_string();
    let through = autopsy::snapshot_of(&database).map_err(text)?.through;
    let log = autopsy::log_of(&database).map_err(text)?;
    Ok(log.last().map(|(index, _)| *index).max(through).unwrap_or(0))
}

fn open(image: &Image, seed: Seed) -> Result<Database, String> {
    let disk = Disk::new(seed, "audit", Speed::default());
    disk.restore(image);
    Database::open(disk).map_err(|error| error.to_string())
}

impl Remains {
    /// * `common`: the log of the cluster, where that is another than this disk's own.
    fn read(database: &Database, common: Option<&Ledger>) -> Result<Self, String> {
        let text = |error: host::storage::StorageError| error.to_string();
        // Read for their checksums alone: every start voids what they say.
        database.cursors(b"").map_err(text)?;
        let mut rows: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (sequence, row) in database.event_rows(0, usize::MAX).map_err(text)? {
            rows.insert(sequence, row.to_vec());
        }
        let stored = autopsy::snapshot_of(database).map_err(text)?;
        let mut state = stored.state;
        let mut last = stored.through.unwrap_or(0);
        for (index, record) in autopsy::log_of(database).map_err(text)? {
            let covered = stored.through.is_some_and(|through| index <= through);
            let command = autopsy::command_of(index, &record).map_err(text)?;
            let alien = |log: &Ledger| !covered && !log.has(index, command.as_ref());
            if common.is_some_and(alien) {
                break;
            }
            last = last.max(index);
            let Some(command) = command.filter(|_| !covered) else { continue };
            let wrong = |why: String| format!("entry {index}: {why}");
            let entry = store::decode_entry(&command).map_err(|error| wrong(error.to_string()))?;
            let applied = state.apply(index, &entry).map_err(|error| wrong(error.to_string()))?;
            for row in applied.rows {
                rows.insert(row.sequence, store::encode_event_row(&row));
            }
        }
        Ok(Self { state, last, rows })
    }
}

/// Rows on the disk that are not as the whole log makes them, or are missing.
fn compare_rows(remains: &Remains, replayed: &[EventRow]) -> Option<String> {
    let other = replayed.iter().find(|row| {
        let stored = remains.rows.get(&row.sequence);
        stored.is_none_or(|stored| *stored != store::encode_event_row(row))
    });
    if let Some(row) = other {
        let there = if remains.rows.contains_key(&row.sequence) { "another" } else { "no" };
        return Some(format!(
            "event row {}: {there} row on the disk, wanted {row:?}",
            row.sequence
        ));
    }
    let (stored, wanted) = (remains.rows.len(), replayed.len());
    (stored != wanted).then(|| format!("{stored} event rows on the disk, the log makes {wanted}"))
}

/// Rows that the API has shown and that the log does not make.
fn compare_shown(replayed: &[EventRow], shown: &[EventItem]) -> Option<String> {
    let made: BTreeMap<u64, &EventRow> = replayed.iter().map(|row| (row.sequence, row)).collect();
    let phantom = shown.iter().find(|item| {
        let row = made.get(&item.sequence);
        row.is_none_or(|row| {
            let id = item.body.pointer("/deduplicationId").and_then(serde_json::Value::as_str);
            let same_id = id.is_none_or(|id| id == row.id.to_string());
            !same_id || node::event_json::kind(&row.event) != item.event
        })
    });
    phantom.map(|item| format!("the API showed {item:?}, which the log does not make"))
}

/// Numbers granted that the state would grant again, and nonces used that it would take again.
fn forgotten(replay: &Replay) -> Vec<String> {
    let mut wrong = Vec::new();
    for (device, address, number) in &replay.permits.numbers {
        let Some(known) = replay.state.device(*device) else { continue };
        let mut sessions = known.session.iter().chain(&known.pending_session);
        let session = sessions.find(|session| session.dev_addr == *address);
        let next = session.map(|one| one.n_f_cnt_down.next.max(one.a_f_cnt_down.next));
        if let Some(next) = next.filter(|next| number >= next) {
            wrong.push(format!("{device} was granted {number}, and {next} comes next"));
        }
    }
    for (join_eui, device, dev_nonce, join_nonce) in &replay.permits.joins {
        let keys = replay.state.device(*device).and_then(|known| known.keys.as_ref());
        let Some(keys) = keys.filter(|_| !replay.forgetful.contains(device)) else { continue };
        if !replay.state.is_nonce_used(*device, *join_eui, *dev_nonce) {
            wrong.push(format!("DevNonce {} of {device} is not known as used", dev_nonce.0));
        }
        if keys.next_join_nonce <= *join_nonce {
            let next = keys.next_join_nonce.0;
            wrong.push(format!("{device} got JoinNonce {}, and {next} comes next", join_nonce.0));
        }
    }
    wrong
}
