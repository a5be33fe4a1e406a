//! What a node has put into its log, kept outside the node, and what follows from applying all of
//! it once more, from the first entry on.
//!
//! Driven by the storage's onlooker ([`Clerk`]) as entries are on their way to the disk. An entry
//! written to a place takes with it what stood there and behind: a log is cut only at its end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use host::autopsy;
use lorawan::{DevAddr, DevEui};
use mac::{Grant, JoinReply, PlanReply, SessionEpoch, UplinkReply};
use store::{Command, Event, EventRow, Proposal, Reply, State};

use super::record::Record;
use super::scribe;
use crate::clocks::virtual_now;
use crate::marks::Mark;
use crate::oracle::{Fact, Permits, Reading};
use crate::outside::Onlooker;
use host::storage::Op;

/// Bytes of commands kept; a run that writes more is not replayed.
const BYTES_MAX: usize = 128 << 20;
/// An fsync that takes this long is worth telling: it may cost a device its window.
const STALL_MIN: Duration = Duration::from_millis(100);

/// The commands of one node's log by their place; `None` for entries without one.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    commands: BTreeMap<u64, Option<Bytes>>,
    bytes: usize,
    overflowed: bool,
}

/// What all nodes have put into their logs, and what the cluster has decided of it.
#[derive(Debug, Default)]
pub(super) struct Ledgers {
    by_node: BTreeMap<String, Ledger>,
    decided: Ledger,
}

impl Ledgers {
    /// A node has written to a place in its log.
    pub(super) fn write(&mut self, node: &str, index: u64, command: Option<Bytes>) {
        self.by_node.entry(node.to_owned()).or_default().write(index, command);
    }

    /// A node has applied an entry. Another one at the same place takes with it what stood behind:
    /// a cluster that has lost what it decided, which is for other checkers to judge.
    pub(super) fn decide(&mut self, index: u64, command: Option<Bytes>) {
        if !self.decided.has(index, command.as_ref()) {
            self.decided.write(index, command);
        }
    }

    /// What a node has written is no longer on its disk.
    pub(super) fn lose(&mut self, node: &str) {
        self.by_node.remove(node);
    }

    /// What a node has put into its log.
    pub(super) fn of(&self, node: &str) -> Ledger {
        self.by_node.get(node).cloned().unwrap_or_default()
    }

    /// What nodes have applied, whoever wrote it.
    pub(super) fn decided(&self) -> Ledger {
        self.decided.clone()
    }
}

/// What came of applying a ledger.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The state after its last entry.
    pub(super) state: State,
    /// What its entries permit.
    pub(super) permits: Permits,
    /// The whole event log.
    pub(super) rows: Vec<EventRow>,
    /// Devices whose nonces somebody had the server forget.
    pub(super) forgetful: BTreeSet<DevEui>,
    addresses: BTreeMap<(DevEui, SessionEpoch), DevAddr>,
}

impl Ledger {
    /// Notes what was written to `index`: a command, or an entry without one.
    pub(super) fn write(&mut self, index: u64, command: Option<Bytes>) {
        let gone = self.commands.split_off(&index);
        self.bytes -= gone.values().flatten().map(Bytes::len).sum::<usize>();
        self.bytes += command.as_ref().map_or(0, Bytes::len);
        self.overflowed |= self.bytes > BYTES_MAX;
        if !self.overflowed {
            self.commands.insert(index, command);
        }
    }

    /// Whether this is what was written to a place.
    pub(super) fn has(&self, index: u64, command: Option<&Bytes>) -> bool {
        self.commands.get(&index).is_some_and(|known| known.as_ref() == command)
    }

    /// The log up to `last`: what was decided, and behind that what one node has written.
    ///
    /// Errors: a place that nobody has applied and this node has not written.
    pub(super) fn continued_by(mut self, own: &Self, last: u64) -> Result<Self, String> {
        self.commands.split_off(&(last + 1));
        for index in 1..=last {
            if let Entry::Vacant(place) = self.commands.entry(index) {
                let command = own.commands.get(&index);
                let command = command.ok_or_else(|| format!("nobody was seen to write {index}"))?;
                place.insert(command.clone());
            }
        }
        self.overflowed |= own.overflowed;
        Ok(self)
    }

    /// Applies everything up to the entry `through`.
    ///
    /// Errors: an entry that cannot be applied, or a ledger that is not whole.
    pub(super) fn replay(&self, through: u64) -> Result<Replay, String> {
        if self.overflowed {
            return Err(format!("more than {} MiB in the log", BYTES_MAX >> 20));
        }
        let mut replay = Replay::default();
        for (index, command) in self.commands.range(..=through) {
            let Some(command) = command else { continue };
            let wrong = |why: String| format!("entry {index}: {why}");
            let entry = store::decode_entry(command).map_err(|error| wrong(error.to_string()))?;
            let applied = replay.state.apply(*index, &entry);
            let applied = applied.map_err(|error| wrong(error.to_string()))?;
            for (proposal, (_, reply)) in entry.proposals.iter().zip(&applied.replies) {
                replay.note(&proposal.command, reply);
            }
            for row in applied.rows {
                replay.permits.uplinks.extend(reading_of(&row));
                replay.rows.push(row);
            }
        }
        Ok(replay)
    }
}

impl Replay {
    fn note(&mut self, command: &Command, reply: &Reply) {
        if let (Command::AcceptUplink(uplink), Reply::Uplink(UplinkReply::Accepted { .. })) =
            (command, reply)
        {
            self.learn_addresses(uplink.dev_eui);
        } else if let (Command::AcceptJoin(join), Reply::Join(JoinReply::Accepted { .. })) =
            (command, reply)
        {
            let nonces = (join.join_eui, join.dev_eui, join.dev_nonce, join.expected_join_nonce);
            self.permits.joins.insert(nonces);
            self.learn_addresses(join.dev_eui);
        } else if let Command::Activate { dev_eui, .. } = command {
            self.learn_addresses(*dev_eui);
        } else if let Command::FlushDevNonces(device)
        | Command::DeleteDeviceKeys(device)
        | Command::DeleteDevice(device) = command
        {
            self.forgetful.insert(*device);
        }
        self.note_grants(command, reply);
    }

    fn note_grants(&mut self, command: &Command, reply: &Reply) {
        if let (
            Command::AcceptUplink(uplink),
            Reply::Uplink(UplinkReply::Accepted { session_epoch, grant }),
        ) = (command, reply)
        {
            self.grant(uplink.dev_eui, *session_epoch, *grant);
        } else if let (
            Command::PlanDownlink(plan),
            Reply::Plan(PlanReply::Planned { grant, a_grant, .. }),
        ) = (command, reply)
        {
            self.grant(plan.dev_eui, plan.session_epoch, *grant);
            self.grant(plan.dev_eui, plan.session_epoch, *a_grant);
        }
    }

    fn learn_addresses(&mut self, device: DevEui) {
        let Some(known) = self.state.device(device) else { return };
        let sessions = known.session.iter().chain(&known.pending_session);
        let addresses = sessions.map(|session| ((device, session.epoch), session.dev_addr));
        self.addresses.extend(addresses);
    }

    fn grant(&mut self, device: DevEui, epoch: SessionEpoch, grant: Option<Grant>) {
        let address = self.addresses.get(&(device, epoch));
        let (Some(grant), Some(address)) = (grant, address) else { return };
        let numbers = (grant.lo..grant.hi).map(|number| (device, *address, number));
        self.permits.numbers.extend(numbers);
    }
}

/// The reading in a row, and the identity of its event; `None` for a row of another kind.
fn reading_of(row: &EventRow) -> Option<(String, Reading)> {
    let Event::Up(up) = &row.event else { return None };
    let reading = Reading {
        device: row.device.dev_eui,
        dev_addr: up.dev_addr,
        f_cnt: up.f_cnt,
        f_port: up.f_port,
        payload: up.data.clone(),
    };
    Some((row.id.to_string(), reading))
}

/// Looks on as one node's storage is written, and tells the notebook.
#[derive(Clone, Debug)]
pub(super) struct Clerk {
    node: String,
    record: Record,
}

impl Clerk {
    pub(super) fn new(node: &str, record: &Record) -> Self {
        Self { node: node.to_owned(), record: record.clone() }
    }
}

impl Onlooker for Clerk {
    fn logged(&self, index: u64, record: &Bytes) {
        let wrong = |why: String| {
            let text = format!("entry {index} of {} cannot be read: {why}", self.node);
            self.record.violate("audit", text);
        };
        let command = match autopsy::command_of(index, record) {
            Ok(command) => command,
            Err(error) => return wrong(error.to_string()),
        };
        self.record.ledgers(|all| all.write(&self.node, index, command.clone()));
        let Some(command) = command else { return };
        match store::decode_entry(&command) {
            Ok(entry) => {
                let text = format!("log {index}: {}", kinds(&entry.proposals));
                let (node, proposals) = (self.node.clone(), entry.proposals);
                self.record.fact(&self.node, &text, Fact::Logged { node, index, proposals });
            }
            Err(error) => wrong(error.to_string()),
        }
    }

    fn snapshot(&self) {
        self.record.hit(Mark::SnapshotWritten);
    }

    fn writes(&self, op: &Op) {
        scribe::written(&self.node, &self.record, op);
    }

    fn refused(&self, op: &Op) {
        scribe::refused(&self.node, &self.record, op);
    }

    fn waits(&self, wait: Duration) {
        if wait >= STALL_MIN {
            let text = format!("the disk takes {} ms", wait.as_millis());
            let (node, until) = (self.node.clone(), virtual_now() + wait);
            self.record.fact(&self.node, &text, Fact::Stalled { node, until });
        }
    }
}

/// What an entry asks, for people: each kind with its number.
fn kinds(proposals: &[Proposal]) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for proposal in proposals {
        *counts.entry(kind(&proposal.command)).or_default() += 1;
    }
    let texts: Vec<String> = counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    texts.join(", ")
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the trace is about frames")]
const fn kind(command: &Command) -> &'static str {
    match command {
        Command::Found { .. } => "found",
        Command::Boot { .. } => "boot",
        Command::AcceptUplink(_) => "uplink",
        Command::AcceptJoin(_) => "join",
        Command::PlanDownlink(_) => "plan",
        Command::RecordTxAck(_) => "tx_ack",
        Command::Enqueue { .. } => "enqueue",
        Command::CancelItem { .. } => "cancel",
        Command::OpenClientSession { .. }
        | Command::CloseClientSession { .. }
        | Command::Subscribe { .. }
        | Command::AckMessages { .. }
        | Command::PublishMessage(_) => "client",
        _ => "registry",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(entries: &[(u64, &'static str)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (index, text) in entries {
            let command = (!text.is_empty()).then(|| Bytes::from_static(text.as_bytes()));
            ledger.write(*index, command);
        }
        ledger
    }

    #[test]
    fn a_log_is_cut_only_at_its_end() {
        let rewritten = ledger(&[(1, "a"), (2, "b"), (3, "c"), (2, ""), (3, "d")]);
        let has = |index, text: &'static str| {
            rewritten.has(index, Some(&Bytes::from_static(text.as_bytes())))
        };
        assert!(has(1, "a") && !has(2, "b") && rewritten.has(2, None) && has(3, "d"));
        assert!(!rewritten.has(4, None), "nothing was written there");
    }

    #[test]
    fn what_was_decided_counts_whoever_has_written_something_else() {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let mut all = Ledgers::default();
        for (node, index, text) in [("n1", 1, "a"), ("n1", 2, "of no majority"), ("n2", 3, "c")] {
            all.write(node, index, bytes(text));
        }
        for (index, command) in [(1, bytes("a")), (2, None), (1, bytes("a"))] {
            all.decide(index, command);
        }
        let whole = all.decided().continued_by(&all.of("n2"), 3).unwrap();
        assert!(whole.has(1, bytes("a").as_ref()) && whole.has(2, None));
        assert!(whole.has(3, bytes("c").as_ref()));
        all.lose("n2");
        assert!(all.decided().continued_by(&all.of("n2"), 3).is_err(), "nobody has the third");
        all.decide(1, bytes("b"));
        assert!(!all.decided().has(2, None), "what stood behind is gone");
    }
}
