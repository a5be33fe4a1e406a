//! The answers a device was given before its last one.

use mac::RequestId;
use minicbor::{Decode, Decoder, Encode};

use crate::{Reply, codec};

/// Answers kept of one kind: verdicts on frames, and plans. A plan never displaces a verdict.
const KEPT_OF_KIND: usize = 2;

/// Earlier answers by the requests that got them, newest first. As bytes, for there is one of these
/// in nearly every device: a twentieth of the memory of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct EarlierReplies(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    Vec<u8>,
);

impl EarlierReplies {
    /// The answer that `request` got.
    pub fn find(&self, request: RequestId) -> Option<Reply> {
        self.iter().find(|(asked, _)| *asked == request).map(|(_, reply)| reply)
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, Reply)> + '_ {
        let mut decoder = Decoder::new(&self.0);
        core::iter::from_fn(move || decoder.decode().ok())
    }

    /// `before` and what of `earlier` is still kept beside it and `newest`; `None` if nothing is.
    pub(crate) fn with(
        newest: &Reply,
        before: (RequestId, Reply),
        earlier: Option<Self>,
    ) -> Option<Self> {
        let mut kept = [0_usize; 2];
        kept[usize::from(is_plan(newest))] += 1;
        let mut bytes = Vec::new();
        let earlier = earlier.unwrap_or_default();
        for (request, reply) in core::iter::once(before).chain(earlier.iter()) {
            let of_kind = &mut kept[usize::from(is_plan(&reply))];
            if *of_kind < KEPT_OF_KIND {
                *of_kind += 1;
                codec::write(&(request, reply), &mut bytes);
            }
        }
        bytes.shrink_to_fit();
        (!bytes.is_empty()).then_some(Self(bytes))
    }
}

const fn is_plan(reply: &Reply) -> bool {
    matches!(reply, Reply::Plan(_))
}
