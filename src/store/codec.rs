//! Entries and event rows as bytes: a version, then CBOR with numbered fields.
//!
//! Reading is strict: what would not be written again byte for byte is not understood, and a node
//! that does not understand the log stops ("upgrade this node"); it never skips. Hence a field
//! added later is an `Option`, whose absence is not written.

use core::convert::Infallible;

use minicbor::{Decode, Decoder, Encode};

use crate::limits::ENTRY_BYTES_MAX;
use crate::{Entry, EventRow, Proposal};

/// The version of every encoding here.
pub(crate) const VERSION: u8 = 1;

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// No bytes at all.
    #[error("nothing to read")]
    Empty,
    /// Longer than [`ENTRY_BYTES_MAX`].
    #[error("{bytes} bytes, at most {ENTRY_BYTES_MAX} are allowed")]
    TooLong {
        /// Their length.
        bytes: usize,
    },
    /// Written by a newer binary.
    #[error("version {seen} of the log is unknown here: upgrade this node")]
    Version {
        /// The version in front.
        seen: u8,
    },
    /// A command, variant or field that this binary does not know, or damaged bytes.
    #[error("the log holds what this binary does not know ({0}): upgrade this node")]
    Unknown(String),
    /// Well-formed, but not as this binary would write it: it holds a field that is unknown here.
    #[error("the log holds a field that this binary does not know: upgrade this node")]
    NotCanonical,
}

/// Compares what is written with what was read, without keeping it.
struct Compare<'a> {
    rest: &'a [u8],
    same: bool,
}

impl minicbor::encode::Write for Compare<'_> {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => self.rest = rest,
            None => self.same = false,
        }
        Ok(())
    }
}

/// Appends the encoding of `value` to `out`.
pub(crate) fn write<T: Encode<()>>(value: &T, out: &mut Vec<u8>) {
    let written: Result<(), minicbor::encode::Error<Infallible>> = minicbor::encode(value, out);
    written.expect("no encoder of this crate refuses a value, and a vector takes any bytes");
}

/// Reads one value that fills `bytes` and is written the same way again.
pub(crate) fn read<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder::new(bytes);
    let value: T = decoder.decode().map_err(|error| CodecError::Unknown(error.to_string()))?;
    if decoder.position() != bytes.len() {
        return Err(CodecError::NotCanonical);
    }
    let mut compare = Compare { rest: bytes, same: true };
    let written = minicbor::encode(&value, &mut compare);
    let same = written.is_ok() && compare.same && compare.rest.is_empty();
    if same { Ok(value) } else { Err(CodecError::NotCanonical) }
}

fn versioned<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut out = vec![VERSION];
    write(value, &mut out);
    out
}

fn read_versioned<T: Encode<()> + for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, rest)) => read(rest),
        Some((&seen, _)) => Err(CodecError::Version { seen }),
    }
}

/// An entry as bytes of the log.
///
/// * Errors: [`CodecError::TooLong`]: such an entry must not be proposed.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    let bytes = versioned(entry);
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Bytes that a proposal takes in an entry.
pub fn proposal_size(proposal: &Proposal) -> usize {
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = minicbor::encode(proposal, &mut count);
    count.0
}

struct Count(usize);

impl minicbor::encode::Write for &mut Count {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len();
        Ok(())
    }
}

/// An entry from bytes of the log.
///
/// * Errors: [`CodecError`]; the node stops, it must not go on without the entry.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    read_versioned(bytes)
}

/// A row of the event log as bytes.
pub fn encode_event_row(row: &EventRow) -> Vec<u8> {
    versioned(row)
}

/// A row of the event log from bytes.
///
/// * Errors: [`CodecError`].
pub fn decode_event_row(bytes: &[u8]) -> Result<EventRow, CodecError> {
    read_versioned(bytes)
}
