//! How a shared value stands in the log: as the value.

use std::sync::Arc;

use minicbor::{Decode, Decoder, Encode, Encoder};

/// Writes the value.
pub(crate) fn encode<C, T: Encode<C>, W: minicbor::encode::Write>(
    value: &Arc<T>,
    encoder: &mut Encoder<W>,
    context: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    value.as_ref().encode(encoder, context)
}

/// Reads the value.
pub(crate) fn decode<'b, C, T: Decode<'b, C>>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Arc<T>, minicbor::decode::Error> {
    T::decode(decoder, context).map(Arc::new)
}
