//! What a node has put into its log, kept outside the node, and what follows from applying all of
//! it once more, from the first entry on.
//!
//! Driven by the storage's onlooker ([`Clerk`]) as entries are on their way to the disk. An entry
//! written to a place takes with it what stood there and behind: a log is cut only at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use host::autopsy;
use lorawan::{DevAddr, DevEui};
use mac::{Grant, JoinReply, PlanReply, SessionEpoch, UplinkReply};
use store::{Command, Event, EventRow, Proposal, Reply, State};

use super::record::Record;
use crate::clocks::virtual_now;
use crate::marks::Mark;
use crate::oracle::{Fact, Permits, Reading};
use crate::outside::Onlooker;

/// Bytes of commands kept; a run that writes more is not replayed.
const BYTES_MAX: usize = 128 << 20;
/// An fsync that takes this long is worth telling: it may cost a device its window.
const STALL_MIN: Duration = Duration::from_millis(100);

/// The commands of one node's log by their place.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    commands: BTreeMap<u64, Bytes>,
    bytes: usize,
    overflowed: bool,
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
        self.bytes -= gone.values().map(Bytes::len).sum::<usize>();
        let Some(command) = command else { return };
        self.bytes += command.len();
        self.overflowed |= self.bytes > BYTES_MAX;
        if !self.overflowed {
            self.commands.insert(index, command);
        }
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
        self.record.write_ledger(&self.node, index, command.clone());
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
