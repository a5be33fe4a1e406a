//! How `bytes::Bytes` stands in the log: a CBOR byte string.

use bytes::Bytes;
use minicbor::{Decoder, Encoder};

/// Writes a byte string.
pub fn encode<C, W: minicbor::encode::Write>(
    bytes: &Bytes,
    encoder: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    encoder.bytes(bytes)?.ok()
}

/// Reads a byte string.
pub fn decode<C>(decoder: &mut Decoder<'_>, _: &mut C) -> Result<Bytes, minicbor::decode::Error> {
    decoder.bytes().map(Bytes::copy_from_slice)
}
