//! The loop: hands inputs to the node, does its effects in order, arms its deadline. Decides
//! nothing.
//!
//! What the log decided comes before what the network brought, so that a flood of datagrams does
//! not hold up the answer to a frame already accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::Instant;
use node::{CallId, Effect, Input, Node, StreamId, Token};
use store::{EventRow, Proposal, SnapshotBuilder, SnapshotReader, State};

use crate::disk::Disk;
use crate::mailbox::{Inbox, Mailbox};
use crate::net::Datagrams;
use crate::raft::machine::{Call, StoredChunks, answer};
use crate::raft::{self, Chunks, Content, MachineError, Outcome};
use crate::runtime::{AsyncRuntime, MpscReceiver, OnceTx, Rx, Select4, WatchSender, detach};
use crate::service::{CallReply, Event, Fatal};
use crate::storage::{Batch, Op, StorageError};
use crate::streams::{Outgoing, Way};
use crate::world::World;

/// Inputs taken from the network before effects are done and decisions looked at again.
const INPUTS_PER_TURN: usize = 256;
/// Pause before rows are read again from a file that was closed.
const READ_AGAIN: clock::Duration = clock::Duration::from_millis(200);
/// Far enough to mean never.
const NO_DEADLINE: Instant = Instant::from_secs(u64::MAX / 4_000_000);

/// What comes to the loop from this machine, and never waits.
pub(crate) enum Local<R: AsyncRuntime> {
    /// Work the node asked for is done.
    Input(Input),
    /// A call of the API, and where its answer goes.
    Call(Input, OnceTx<R, CallReply>),
    /// Rows that could not be read because the storage file was closed for want of room.
    ReadEvents(Token, u64, usize),
    /// Stop.
    Stop,
}

pub(crate) struct NodeLoop<W: World> {
    pub(crate) world: W,
    pub(crate) disk: W::Disk,
    pub(crate) node: Node,
    pub(crate) sockets: Vec<Arc<W::Datagrams>>,
    pub(crate) calls_of_log: Rx<W::Runtime, Call<W::Runtime>>,
    pub(crate) locals: Inbox<W::Runtime, Local<W::Runtime>>,
    pub(crate) local: Mailbox<W::Runtime, Local<W::Runtime>>,
    pub(crate) events: Rx<W::Runtime, Event<W::Runtime>>,
    pub(crate) proposals: Mailbox<W::Runtime, Proposal>,
    pub(crate) fatal: Fatal<W::Runtime>,
    pub(crate) ways: BTreeMap<StreamId, Way<W::Runtime>>,
    pub(crate) calls: BTreeMap<CallId, OnceTx<W::Runtime, CallReply>>,
}

impl<W: World> NodeLoop<W> {
    pub(crate) async fn run(mut self) {
        loop {
            self.do_effects();
            let deadline = self.node.poll_timeout().map_or(NO_DEADLINE, |(at, _)| at);
            let next = W::Runtime::select4(
                self.calls_of_log.recv(),
                self.locals.take(),
                self.events.recv(),
                self.world.sleep_until(deadline),
            )
            .await;
            let going = match next {
                Select4::First(Some(call)) => self.decide(call),
                Select4::Second(Some(locals)) => self.handle_locals(locals),
                Select4::Third(Some(event)) => self.handle_events(event),
                Select4::First(None) | Select4::Second(None) | Select4::Third(None) => false,
                Select4::Fourth(()) => {
                    self.node.handle_timeout(self.world.now());
                    true
                }
            };
            if !going {
                return;
            }
        }
    }

    fn decide(&mut self, call: Call<W::Runtime>) -> bool {
        match call {
            Call::Apply { entries, answer: to } => {
                let outcome = self.apply(entries);
                let failed = outcome.is_err();
                answer::<W::Runtime, _>(to, outcome);
                !failed
            }
            Call::Snapshot { answer: to } => {
                let frozen: Box<dyn Chunks> = Box::new(Frozen(self.node.state().snapshot()));
                answer::<W::Runtime, _>(to, Ok(frozen));
                true
            }
            Call::Restore { chunks, answer: to } => {
                let restored = read_state(chunks).map(|state| {
                    self.node.restore(self.world.now(), state);
                });
                answer::<W::Runtime, _>(to, restored);
                true
            }
        }
    }

    fn apply(&mut self, entries: Vec<raft::Entry>) -> Result<Outcome, MachineError> {
        let mut outcome = Outcome::default();
        for entry in entries {
            outcome.replies.push(Bytes::new());
            let Content::Command(bytes) = entry.content else { continue };
            let wrong = |text: String| MachineError { text };
            let decoded = store::decode_entry(&bytes).map_err(|error| wrong(error.to_string()))?;
            let rows = self
                .node
                .apply(self.world.now(), entry.index, &decoded)
                .map_err(|error| wrong(error.to_string()))?;
            for row in &rows.rows {
                let bytes = store::encode_event_row(row).into();
                outcome.batch.push(Op::PutEventRow { sequence: row.sequence, row: bytes });
            }
            if let Some(sequence) = rows.drop_below {
                outcome.batch.push(Op::DropEventRowsBelow { sequence });
            }
        }
        Ok(outcome)
    }

    fn handle_locals(&mut self, locals: Vec<Local<W::Runtime>>) -> bool {
        for local in locals {
            match local {
                Local::Input(input) => self.handle(input),
                Local::Call(input, replies) => {
                    if let Input::Call { call, .. } = &input {
                        self.calls.insert(*call, replies);
                    }
                    self.handle(input);
                }
                Local::ReadEvents(token, from, limit) => self.read_events(token, from, limit),
                Local::Stop => return false,
            }
            self.do_effects();
        }
        true
    }

    /// Handles one event and those that wait behind it, so that what arrived together is proposed
    /// and written together.
    fn handle_events(&mut self, first: Event<W::Runtime>) -> bool {
        self.handle_event(first);
        for _ in 1..INPUTS_PER_TURN {
            let Ok(event) = self.events.try_recv() else { break };
            self.handle_event(event);
        }
        true
    }

    fn handle_event(&mut self, event: Event<W::Runtime>) {
        match event {
            Event::Input(input) => self.handle(input),
            Event::StreamOpened { stream, peer, way } => {
                self.ways.insert(stream, way);
                self.handle(Input::StreamOpened { stream, peer });
            }
            Event::ConnectionRefused { peer } => {
                self.node.handle_refused_connection(self.world.now(), peer);
            }
        }
        self.do_effects();
    }

    fn handle(&mut self, input: Input) {
        if let Input::StreamClosed { stream } = &input {
            self.ways.remove(stream);
        }
        if let Input::CallDropped { call } = &input {
            self.calls.remove(call);
        }
        self.node.handle(self.world.now(), input);
    }

    fn do_effects(&mut self) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::SendDatagram { listener, to, bytes } => {
                    if let Some(socket) = self.sockets.get(usize::from(listener))
                        && socket.try_send(to, &bytes).is_err()
                    {
                        self.node.count_datagram_not_sent();
                    }
                }
                Effect::Write { stream, bytes } => {
                    if let Some(way) = self.ways.get(&stream) {
                        way.outbox.push(Outgoing::Bytes(bytes));
                    }
                }
                Effect::PauseReading { stream, pause } => {
                    if let Some(way) = self.ways.get(&stream) {
                        way.pause.send_if_different(pause);
                    }
                }
                Effect::Close { stream } => {
                    if let Some(way) = self.ways.remove(&stream) {
                        way.outbox.push(Outgoing::Close);
                    }
                }
                Effect::Reply { call, result } => {
                    // Whoever dropped the call meanwhile wants no answer.
                    if let Some(to) = self.calls.remove(&call) {
                        answer::<W::Runtime, _>(to, result);
                    }
                }
                Effect::Propose(proposal) => self.proposals.push(proposal),
                Effect::PersistCursor { token, key, value } => self.persist(token, key, value),
                Effect::ReadEvents { token, from, limit } => self.read_events(token, from, limit),
                Effect::CheckPassword { token, password, phc } => {
                    self.work(move || Input::PasswordChecked {
                        token,
                        fits: crate::password::fits(&password, &phc),
                    });
                }
                Effect::HashPassword { token, password, salt } => {
                    self.work(move || Input::PasswordHashed {
                        token,
                        phc: crate::password::hash(&password, &salt),
                    });
                }
            }
        }
    }

    fn persist(&self, token: Token, key: Vec<u8>, value: Vec<u8>) {
        let op = Op::PutCursor { key: key.into(), value: value.into() };
        let commit = self.disk.commit(Batch::new().with(op));
        let (local, fatal) = (self.local.clone(), self.fatal.clone());
        detach::<W::Runtime>(async move {
            match commit.await {
                Ok(()) => local.push(Local::Input(Input::CursorPersisted { token })),
                // The number stays unused: nothing leaves that the disk does not remember.
                Err(StorageError::Full) => {}
                Err(error) => fatal.raise(error.to_string()),
            }
        });
    }

    fn read_events(&mut self, token: Token, from: u64, limit: usize) {
        match read_rows(self.disk.database().event_rows(from, limit)) {
            Ok(rows) => self.node.handle(self.world.now(), Input::EventsRead { token, rows }),
            // A full disk closes the file until it has room: that passes.
            Err(StorageError::Full) => {
                let local = self.local.clone();
                detach::<W::Runtime>(async move {
                    W::Runtime::sleep(READ_AGAIN).await;
                    local.push(Local::ReadEvents(token, from, limit));
                });
            }
            Err(error) => self.fatal.raise(error.to_string()),
        }
    }

    /// Slow work beside the loop.
    fn work(&self, run: impl FnOnce() -> Input + Send + 'static) {
        let local = self.local.clone();
        detach::<W::Runtime>(async move {
            if let Ok(input) = W::Runtime::spawn_blocking(run).await {
                local.push(Local::Input(input));
            }
        });
    }
}

fn read_rows(rows: Result<Vec<(u64, Bytes)>, StorageError>) -> Result<Vec<EventRow>, StorageError> {
    let unreadable = |(sequence, bytes): &(u64, Bytes)| {
        store::decode_event_row(bytes).map_err(|error| StorageError::Unreadable {
            table: "events",
            key: sequence.to_string(),
            text: error.to_string(),
        })
    };
    rows?.iter().map(unreadable).collect()
}

/// The state as it was, encoded piece by piece while it goes on.
struct Frozen(SnapshotReader);

impl Chunks for Frozen {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.next_piece().map(Bytes::from)
    }
}

fn read_state(chunks: StoredChunks) -> Result<State, MachineError> {
    let mut builder = SnapshotBuilder::default();
    for chunk in chunks {
        let chunk = chunk.map_err(|error| MachineError { text: error.to_string() })?;
        builder.feed(&chunk).map_err(|error| MachineError { text: error.to_string() })?;
    }
    builder.finish().map_err(|error| MachineError { text: error.to_string() })
}
