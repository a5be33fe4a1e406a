//! Cursors of the event log: where it begins and ends, a rolling hash over all rows ever written,
//! and how old and large its pieces are. The rows themselves lie in the host's storage.

use std::collections::VecDeque;

use clock::{Duration, WallTime};
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::limits;

/// How much of the event log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EventBounds {
    #[n(0)]
    pub(crate) bytes: u64,
    #[n(1)]
    pub(crate) age_micros: u64,
    #[n(2)]
    pub(crate) piece_bytes: u64,
    #[n(3)]
    pub(crate) piece_age_micros: u64,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Default for EventBounds {
    fn default() -> Self {
        Self {
            bytes: limits::EVENT_BYTES_MAX,
            age_micros: micros(limits::EVENT_AGE_MAX),
            piece_bytes: limits::EVENT_PIECE_BYTES,
            piece_age_micros: micros(limits::EVENT_PIECE_AGE),
        }
    }
}

/// Rows that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Piece {
    /// First row.
    #[n(0)]
    first: u64,
    /// Encoded bytes of its rows.
    #[n(1)]
    bytes: u64,
    /// State time of its first row.
    #[n(2)]
    opened_at: WallTime,
    /// State time of its last row.
    #[n(3)]
    last_at: WallTime,
}

/// The cursors.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct EventLog {
    /// Lowest sequence that may still be read.
    #[n(0)]
    pub(crate) first: u64,
    /// Sequence of the next row.
    #[n(1)]
    pub(crate) next: u64,
    /// SHA-256 over the hash before and the encoded row.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) hash: [u8; 32],
    /// Bytes of the rows kept.
    #[n(3)]
    pub(crate) bytes: u64,
    #[n(4)]
    pieces: VecDeque<Piece>,
    #[n(5)]
    pub(crate) bounds: EventBounds,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            first: 1,
            next: 1,
            hash: [0; 32],
            bytes: 0,
            pieces: VecDeque::new(),
            bounds: EventBounds::default(),
        }
    }
}

impl EventLog {
    /// Counts one encoded row, whose sequence is `next`.
    pub(crate) fn append(&mut self, row: &[u8], now: WallTime) {
        let bytes = u64::try_from(row.len()).unwrap_or(u64::MAX);
        self.hash = Sha256::new_with_prefix(self.hash).chain_update(row).finalize().into();
        let full = |piece: &Piece| {
            piece.bytes >= self.bounds.piece_bytes
                || micros(now.since(piece.opened_at)) >= self.bounds.piece_age_micros
        };
        match self.pieces.back_mut() {
            Some(piece) if !full(piece) => {
                piece.bytes = piece.bytes.saturating_add(bytes);
                piece.last_at = now;
            }
            Some(_) | None => {
                let first = self.next;
                self.pieces.push_back(Piece { first, bytes, opened_at: now, last_at: now });
            }
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.next += 1;
    }

    /// Lets go of whole pieces that are too old or too much; the newest one stays.
    ///
    /// * Returns the sequence below which rows may be deleted, if it has moved.
    pub(crate) fn trim(&mut self, now: WallTime) -> Option<u64> {
        let before = self.first;
        while let (Some(oldest), Some(following)) = (self.pieces.front(), self.pieces.get(1)) {
            let old = micros(now.since(oldest.last_at)) > self.bounds.age_micros;
            if !old && self.bytes <= self.bounds.bytes {
                break;
            }
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            self.first = following.first;
            self.pieces.pop_front();
        }
        (self.first > before).then_some(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_secs(seconds)
    }

    fn small() -> EventLog {
        let bounds = EventBounds {
            bytes: 100,
            age_micros: 1_000_000_000,
            piece_bytes: 20,
            piece_age_micros: 60_000_000,
        };
        EventLog { bounds, ..EventLog::default() }
    }

    #[test]
    fn rows_go_in_whole_pieces_when_they_are_too_many() {
        let mut log = small();
        let mut kept = Vec::new();
        for _ in 0..12 {
            log.append(&[7; 10], at(0));
            kept.push(log.trim(at(0)));
        }
        let mut wanted = vec![None; 12];
        wanted[10] = Some(3);
        assert_eq!(kept, wanted, "the eleventh row makes 110 bytes, a piece of two rows goes");
        assert_eq!((log.first, log.next, log.bytes), (3, 13, 100));
    }

    #[test]
    fn rows_go_when_they_are_too_old_and_the_newest_piece_stays() {
        let mut log = small();
        log.append(&[1; 4], at(0));
        log.append(&[2; 4], at(59));
        log.append(&[3; 4], at(60));
        assert_eq!(log.trim(at(1_059)), None, "the last row of the piece is not too old yet");
        assert_eq!(log.trim(at(1_060)), Some(3));
        assert_eq!(log.trim(at(90_000)), None);
        assert_eq!((log.first, log.next, log.bytes), (3, 4, 4));
    }

    #[test]
    fn the_hash_tells_order_and_content() {
        let hash = |rows: &[&[u8]]| {
            let mut log = small();
            rows.iter().for_each(|row| log.append(row, at(0)));
            log.hash
        };
        assert_ne!(hash(&[b"a", b"b"]), hash(&[b"b", b"a"]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a", b""]));
        assert_eq!(hash(&[b"a", b"b"]), hash(&[b"a", b"b"]));
    }
}
