//! Answers kept for retries: a question asked again under the same name gets its first answer.
//!
//! About frames each device keeps the last answer itself; everything else shares one ring.

use std::sync::Arc;

use mac::RequestId;

use crate::limits::REPLIES_MAX;
use crate::{Reply, State};

impl State {
    /// The answer given to `request`, if it is about no frame and not too long ago.
    pub fn recorded_reply(&self, request: RequestId) -> Option<&Reply> {
        let number = self.index.replies.get(&request)?;
        self.replies.get(number).map(|(_, reply)| reply.as_ref())
    }

    pub(crate) fn record_reply(&mut self, request: RequestId, reply: &Reply) {
        self.core.last_reply += 1;
        let number = self.core.last_reply;
        self.replies.insert(number, (request, Arc::new(reply.clone())));
        self.index.replies.insert(request, number);
        while self.replies.len() > REPLIES_MAX {
            let Some((number, (request, _))) = self.replies.get_min().cloned() else { return };
            self.replies.remove(&number);
            self.index.replies.remove(&request);
        }
    }
}
