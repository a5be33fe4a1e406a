//! Takes what the loop wants decided, puts what came together into one entry of the log, and tells
//! the node what failed. In order: an entry is in the log's hands before the next is made.

use bytes::Bytes;
use clock::{Duration, Instant};
use node::{Input, ProposalError};
use store::{Entry, Proposal, RequestId};

use crate::mailbox::{Inbox, Mailbox};
use crate::node_loop::Local;
use crate::raft::{Pending, ProposeError, Standing};
use crate::runtime::{AsyncRuntime, Select2, WatchReceiver, detach};
use crate::service::{ConsensusOf, Fatal};
use crate::world::World;

/// Commands in one entry; more go into the next.
const PROPOSALS_PER_ENTRY: usize = 256;
/// Bytes in one entry, roughly; a command that is larger alone goes alone.
const ENTRY_BYTES: usize = 512 * 1024;
/// How long a monotonic interval an entry may report: a pause of the process is not time that
/// passed for sessions and expiries.
const ELAPSED_MAX: Duration = Duration::from_secs(10);

/// How often the room on the disk is looked at.
const ROOM_LOOK: Duration = Duration::from_secs(1);

pub(crate) struct Proposer<W: World> {
    pub(crate) world: W,
    pub(crate) consensus: ConsensusOf<W>,
    pub(crate) proposed: Inbox<W::Runtime, Proposal>,
    pub(crate) local: Mailbox<W::Runtime, Local<W::Runtime>>,
    pub(crate) fatal: Fatal<W::Runtime>,
}

impl<W: World> Proposer<W> {
    /// Starts proposing, and telling the node how its log is.
    pub(crate) fn spawn(self) {
        let health =
            watch_health::<W>(self.consensus.clone(), self.local.clone(), self.fatal.clone());
        detach::<W::Runtime>(health);
        detach::<W::Runtime>(self.run());
    }

    async fn run(mut self) {
        let mut stamped = self.world.now().instant;
        while let Some(proposals) = self.proposed.take().await {
            for batch in entries_of(proposals) {
                stamped = self.propose(stamped, batch).await;
            }
        }
    }

    async fn propose(&self, stamped: Instant, proposals: Vec<Proposal>) -> Instant {
        let now = self.world.now();
        let elapsed = now.instant.since(stamped).min(ELAPSED_MAX);
        let elapsed_micros = u64::try_from(elapsed.as_micros()).unwrap_or(0);
        let requests: Vec<_> = proposals.iter().map(|proposal| proposal.request).collect();
        let entry = Entry { wall: now.wall, elapsed_micros, proposals };
        let Ok(bytes) = store::encode_entry(&entry) else {
            // Larger than the log takes: whoever asked is told, and asks for less.
            self.failed(&requests, ProposalError::TooLarge);
            return now.instant;
        };
        match self.consensus.submit(Bytes::from(bytes)).await {
            Ok(pending) => self.follow(pending, requests),
            Err(error) => self.failed(&requests, why(&error)),
        }
        now.instant
    }

    /// Waits beside the next proposals for the fate of these. A decision reaches the node by being
    /// applied; only a failure is told.
    fn follow(&self, pending: Pending<W::Runtime>, requests: Vec<RequestId>) {
        let local = self.local.clone();
        detach::<W::Runtime>(async move {
            if let Err(error) = pending.await {
                tell::<W>(&local, &requests, why(&error));
            }
        });
    }

    fn failed(&self, requests: &[RequestId], why: ProposalError) {
        tell::<W>(&self.local, requests, why);
    }
}

fn tell<W: World>(
    local: &Mailbox<W::Runtime, Local<W::Runtime>>,
    requests: &[RequestId],
    why: ProposalError,
) {
    for request in requests {
        local.push(Local::Input(Input::ProposalFailed { request: *request, why }));
    }
}

fn why(error: &ProposeError) -> ProposalError {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::NoQuorum => ProposalError::NoQuorum,
        ProposeError::Full => ProposalError::DiskFull,
        ProposeError::TooLarge { .. } => ProposalError::TooLarge,
        ProposeError::Stopped { .. } => ProposalError::Stopping,
        ProposeError::Unknown => ProposalError::Unknown,
    }
}

/// Groups proposals in their order, none too large.
fn entries_of(proposals: Vec<Proposal>) -> Vec<Vec<Proposal>> {
    let mut entries = Vec::new();
    let mut entry = Vec::new();
    let mut bytes = 0;
    for proposal in proposals {
        let size = store::proposal_size(&proposal);
        if entry.len() == PROPOSALS_PER_ENTRY || (bytes + size > ENTRY_BYTES && !entry.is_empty()) {
            entries.push(core::mem::take(&mut entry));
            bytes = 0;
        }
        bytes += size;
        entry.push(proposal);
    }
    if !entry.is_empty() {
        entries.push(entry);
    }
    entries
}

/// Tells the node each change of what its log can do, and ends it when the log has ended.
async fn watch_health<W: World>(
    consensus: ConsensusOf<W>,
    local: Mailbox<W::Runtime, Local<W::Runtime>>,
    fatal: Fatal<W::Runtime>,
) {
    let mut health = consensus.health();
    let mut told = None;
    loop {
        let now = health.borrow_and_update().clone();
        if let Standing::Stopped { text } = &now.standing {
            fatal.raise(text.clone());
            return;
        }
        let disk_full = now.standing == Standing::Full || !consensus.has_room();
        let standing = (now.leader.is_some() && !disk_full, disk_full);
        if told != Some(standing) {
            told = Some(standing);
            local.push(Local::Input(Input::Quorum { available: standing.0, disk_full }));
        }
        // Nobody tells that room has gone or come back.
        let looked = W::Runtime::sleep(ROOM_LOOK);
        if let Select2::First(Err(_)) = W::Runtime::select2(health.changed(), looked).await {
            return;
        }
    }
}
