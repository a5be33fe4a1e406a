//! One record on disk: four bytes of CRC-32C, then the content.
//!
//! redb checks its pages only when it repairs a file, so bit rot in a page that is merely read
//! would go unseen. The checksum also covers table and key: a record that turns up in another
//! place is as wrong as one with a flipped bit.

use bytes::{BufMut, Bytes, BytesMut};
use sabotage::Bug;

use super::StorageError;

/// Bytes in front of the content.
pub(crate) const HEADER_BYTES: usize = 4;

/// Content with its checksum in front.
pub(crate) fn seal(table: &'static str, key: &[u8], content: &[u8]) -> BytesMut {
    let mut record = BytesMut::with_capacity(HEADER_BYTES + content.len());
    record.put_u32_le(checksum(table, key, content));
    record.put_slice(content);
    record
}

/// The content of a record.
///
/// * `shown`: the key as the error prints it.
/// * Errors: [`StorageError::Corrupt`] when it is shorter than a checksum or does not match.
pub(crate) fn open(
    table: &'static str,
    key: &[u8],
    record: &[u8],
    shown: impl core::fmt::Display,
) -> Result<Bytes, StorageError> {
    let corrupt = || StorageError::Corrupt { table, key: shown.to_string() };
    let (stored, content) = record.split_first_chunk::<HEADER_BYTES>().ok_or_else(corrupt)?;
    if u32::from_le_bytes(*stored) != checksum(table, key, content) {
        if sabotage::planted(Bug::ChecksumUnchecked) {
            return Ok(Bytes::copy_from_slice(content));
        }
        return Err(corrupt());
    }
    Ok(Bytes::copy_from_slice(content))
}

fn checksum(table: &'static str, key: &[u8], content: &[u8]) -> u32 {
    // A zero between table and key keeps their bytes apart; table names hold none.
    let crc = crc32c::crc32c_append(crc32c::crc32c(table.as_bytes()), &[0]);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, key), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_in_its_place_and_unchanged() {
        let record = seal("log", b"k1", b"content");
        assert_eq!(open("log", b"k1", &record, "k1").unwrap(), &b"content"[..]);
        assert!(open("events", b"k1", &record, "k1").is_err(), "another table");
        assert!(open("log", b"k2", &record, "k2").is_err(), "another key");
        for bit in 0..record.len() * 8 {
            let mut rotten = record.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let error = open("log", b"k1", &rotten, "k1").unwrap_err();
            assert_eq!(error, StorageError::Corrupt { table: "log", key: "k1".into() });
        }
        for length in 0..record.len() {
            assert!(open("log", b"k1", &record[..length], "k1").is_err(), "{length} bytes");
        }
    }
}
