//! Tells what a node does to the log: what it writes to its disk, and what it applies.
//!
//! The node's storage and its state machine are looked at from outside ([`Overseer`], and the
//! storage's onlooker); nothing here asks the node.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use host::autopsy;
use host::raft::{Content, Entry};
use host::storage::{Meta, Op, StorageError};
use lorawan::DevEui;
use mac::{Grant, PlanReply, SessionEpoch, UplinkReply};
use store::model::Device;
use store::{Command, Reply, RequestId, State};

use super::record::Record;
use crate::oracle::{Fact, RaftStep};
use crate::outside::Overseer;

/// The state is hashed after every so many entries: it is walked as a whole.
const STATE_EVERY: u64 = 64;

/// Looks on as one node applies the log, over all its boots.
#[derive(Clone, Debug)]
pub(super) struct Scribe {
    node: String,
    record: Record,
}

impl Scribe {
    pub(super) fn new(node: &str, record: &Record) -> Self {
        Self { node: node.to_owned(), record: record.clone() }
    }

    fn tell(&self, step: RaftStep) {
        self.record.tell(Fact::Raft { node: self.node.clone(), step });
    }

    fn tell_state(&self, index: u64, state: &State) {
        self.tell(RaftStep::State { index, hash: state.state_hash() });
    }

    /// The downlink numbers that may be drawn on after an entry, as far as it is about them.
    fn tell_grants(&self, index: u64, command: &Command, reply: &Reply, state: &State) {
        let (dev_eui, epoch, given) = match (command, reply) {
            (
                Command::AcceptUplink(uplink),
                Reply::Uplink(UplinkReply::Accepted { session_epoch, grant }),
            ) => (uplink.dev_eui, *session_epoch, *grant),
            (Command::PlanDownlink(plan), Reply::Plan(PlanReply::Planned { grant, .. })) => {
                (plan.dev_eui, plan.session_epoch, *grant)
            }
            _ => return,
        };
        let Some(device) = state.device(dev_eui) else { return };
        self.tell_grant(index, (dev_eui, device), epoch, given);
    }

    /// What the one who asked was given, and what now stands in the state: they differ where the
    /// grant has followed the device to another home.
    fn tell_grant(
        &self,
        index: u64,
        (dev_eui, known): (DevEui, &Device),
        epoch: SessionEpoch,
        given: Option<Grant>,
    ) {
        let mut sessions = known.session.iter().chain(&known.pending_session);
        let Some(session) = sessions.find(|session| session.epoch == epoch) else { return };
        let stands = session.n_f_cnt_down.grant.filter(|stands| Some(*stands) != given);
        for grant in [given, stands].into_iter().flatten() {
            let (node, dev_addr) = (self.node.clone(), session.dev_addr);
            self.record.tell(Fact::Granted { node, index, device: dev_eui, dev_addr, grant });
        }
    }
}

impl Overseer for Scribe {
    fn applied(&self, entry: &Entry, replies: &[(RequestId, Reply)], state: &State) {
        let Entry { index, term, content } = entry;
        let mut hasher = DefaultHasher::new();
        let command = match content {
            Content::Command(bytes) => Some(bytes.clone()),
            Content::Blank | Content::Members { .. } => None,
        };
        self.record.ledgers(|all| all.decide(*index, command));
        let decoded = match content {
            Content::Blank => None,
            Content::Command(bytes) => {
                bytes.hash(&mut hasher);
                store::decode_entry(bytes).ok()
            }
            Content::Members { voters, learners } => {
                let sets: [&BTreeSet<u64>; 2] = [voters, learners];
                sets.hash(&mut hasher);
                None
            }
        };
        self.tell(RaftStep::Applied { index: *index, term: *term, hash: hasher.finish() });
        let proposals = decoded.iter().flat_map(|entry| &entry.proposals);
        for (proposal, (_, reply)) in proposals.zip(replies) {
            self.tell_grants(*index, &proposal.command, reply, state);
        }
        if decoded.is_some() && index.is_multiple_of(STATE_EVERY) {
            self.tell_state(*index, state);
        }
    }

    fn restored(&self, state: &State) {
        self.tell(RaftStep::Restored(state.applied_index()));
        self.tell_state(state.applied_index(), state);
    }
}

/// Something is on its way to a node's disk.
pub(super) fn written(node: &str, record: &Record, op: &Op) {
    match step_of(op) {
        Ok(Some(step)) => record.tell(Fact::Raft { node: node.to_owned(), step }),
        Ok(None) => {}
        Err(error) => record.violate("audit", format!("{node} writes what nobody reads: {error}")),
    }
}

/// A node's disk has not stored what was on its way.
pub(super) fn refused(node: &str, record: &Record, op: &Op) {
    if let Op::PutMeta { key: Meta::Vote, .. } = op {
        record.tell(Fact::Raft { node: node.to_owned(), step: RaftStep::Unvoted });
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not about the log")]
fn step_of(op: &Op) -> Result<Option<RaftStep>, StorageError> {
    Ok(Some(match op {
        Op::PutLog { index, record, .. } => {
            let mut hasher = DefaultHasher::new();
            record.hash(&mut hasher);
            let (index, term) = (*index, autopsy::term_of(*index, record)?);
            RaftStep::Stored { index, term, hash: hasher.finish() }
        }
        Op::TruncateLogFrom { index } => RaftStep::Cut(*index),
        Op::PurgeLogThrough { index, .. } => RaftStep::Purged(*index),
        Op::PutMeta { key: Meta::Vote, value } => {
            let autopsy::Vote { term, leader, elected } = autopsy::vote_of(value)?;
            RaftStep::Voted { term, leader, elected }
        }
        Op::PutMeta { key: Meta::Snapshot, value } => match autopsy::reach_of(value)? {
            Some(reach) => RaftStep::Snapshot(reach),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}
