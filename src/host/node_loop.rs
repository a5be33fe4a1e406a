//! The loop: hands inputs to the node, does its effects in order, arms its deadline. Decides
//! nothing.
//!
//! What the log decided comes before what the network brought, so that a flood of datagrams does
//! not hold up the answer to a frame already accepted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use clock::Instant;
use node::{CallId, ClusterAsk, Effect, Input, Node, StreamId, Token};
use store::{EventRow, Id, Proposal, Reply, RequestId, SnapshotBuilder, SnapshotReader, State};

use crate::desk::{FrontDesk, contacts};
use crate::disk::Disk;
use crate::identity::Intent;
use crate::load::Load;
use crate::mailbox::{Inbox, Mailbox};
use crate::membership::Registrar;
use crate::net::Datagrams;
use crate::peer::Peers;
use crate::peer::message::Tell;
use crate::proposer::Told;
use crate::raft::machine::{Call, StoredChunks, answer};
use crate::raft::{self, Chunks, Content, MachineError, Outcome};
use crate::rows::Ledger;
use crate::runtime::{AsyncRuntime, MpscReceiver, OnceTx, Rx, Select4, WatchSender, detach};
use crate::service::{CallReply, Ended, Event, Fatal};
use crate::storage::{Batch, Op, StorageError};
use crate::streams::{Outgoing, Way};
use crate::world::{Kept, World};

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
    /// A command that the host itself wants decided, and where the answer goes.
    Decide(Proposal, OnceTx<R, Reply>),
    /// Another node's machine has said something.
    Heard {
        /// Its raft id.
        from: u64,
        /// What.
        bytes: Bytes,
    },
    /// Looks at the state.
    Look(Box<dyn FnOnce(&State) + Send>),
    /// Become a member of another cluster: this node has nothing to lose.
    Join {
        /// Where to ask.
        target: String,
        /// The cluster that is there.
        cluster: Option<Id>,
        /// Its own devices may be set aside.
        discard_local: bool,
    },
    /// What came of a call that the host answers.
    Answer(CallId, CallReply),
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
    pub(crate) told: Mailbox<W::Runtime, Told<W::Runtime>>,
    /// What the host itself has asked of the log.
    pub(crate) decisions: BTreeMap<RequestId, OnceTx<W::Runtime, Reply>>,
    pub(crate) peers: Peers<W>,
    pub(crate) raft_id: u64,
    /// What fills a piece of a snapshot.
    pub(crate) piece_bytes: usize,
    /// Counts [`Local::Heard`] that were not taken yet.
    pub(crate) unheard: Arc<AtomicUsize>,
    /// Rows of the event log that this disk does not have.
    pub(crate) rows: Arc<Ledger<W::Runtime, W::Disk>>,
    pub(crate) fatal: Fatal<W::Runtime>,
    pub(crate) ways: BTreeMap<StreamId, Way<W::Runtime>>,
    pub(crate) calls: BTreeMap<CallId, OnceTx<W::Runtime, CallReply>>,
    pub(crate) desk: Arc<FrontDesk<W>>,
    /// What others were told.
    pub(crate) devices: usize,
    pub(crate) load: Arc<Load>,
}

impl<W: World> NodeLoop<W> {
    pub(crate) async fn run(mut self) {
        self.tell_missing_rows();
        loop {
            self.do_effects();
            self.load.rest(self.world.now().instant);
            let deadline = self.node.poll_timeout().map_or(NO_DEADLINE, |(at, _)| at);
            let next = W::Runtime::select4(
                self.calls_of_log.recv(),
                self.locals.take(),
                self.events.recv(),
                self.world.sleep_until(deadline),
            )
            .await;
            self.load.work(self.world.now().instant);
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
                let reader = self.node.state().snapshot().in_pieces_of(self.piece_bytes);
                let frozen: Box<dyn Chunks> = Box::new(Frozen(reader));
                answer::<W::Runtime, _>(to, Ok(frozen));
                true
            }
            Call::Restore { chunks, answer: to } => {
                let restored = read_state(chunks).and_then(|state| self.restore(state));
                answer::<W::Runtime, _>(to, restored);
                true
            }
        }
    }

    /// What the new state names and this disk does not hold is known before anybody looks for it.
    fn restore(&mut self, state: State) -> Result<(), MachineError> {
        let before = self.node.state().next_event();
        let jumped = self.rows.jump(before, &state);
        jumped.map_err(|error| MachineError { text: error.to_string() })?;
        self.tell_missing_rows();
        self.node.restore(self.world.now(), state);
        self.world.restored(self.node.state());
        self.count_devices();
        Ok(())
    }

    fn tell_missing_rows(&mut self) {
        let missing = self.rows.ranges();
        self.node.handle(self.world.now(), Input::RowsLacking { missing });
    }

    fn apply(&mut self, entries: Vec<raft::Entry>) -> Result<Outcome, MachineError> {
        let mut outcome = Outcome::default();
        for entry in entries {
            outcome.replies.push(Bytes::new());
            let Content::Command(bytes) = &entry.content else {
                self.world.applied(&entry, &[], self.node.state());
                continue;
            };
            let wrong = |text: String| MachineError { text };
            let decoded = store::decode_entry(bytes).map_err(|error| wrong(error.to_string()))?;
            let rows = self
                .node
                .apply(self.world.now(), entry.index, &decoded)
                .map_err(|error| wrong(error.to_string()))?;
            self.world.applied(&entry, &rows.replies, self.node.state());
            for (request, reply) in &rows.replies {
                if let Some(to) = self.decisions.remove(request) {
                    answer::<W::Runtime, _>(to, reply.clone());
                }
            }
            let decided = rows.replies.iter().map(|(request, _)| *request).collect();
            self.told.push(Told::Decided(decided));
            for row in &rows.rows {
                let bytes = store::encode_event_row(row).into();
                outcome.batch.push(Op::PutEventRow { sequence: row.sequence, row: bytes });
            }
            if let Some(sequence) = rows.drop_below {
                outcome.batch.push(Op::DropEventRowsBelow { sequence });
            }
        }
        self.count_devices();
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
                Local::Decide(proposal, to) => {
                    self.decisions.insert(proposal.request, to);
                    self.told.push(Told::Propose(Box::new(proposal)));
                }
                Local::Heard { from, bytes } => {
                    self.unheard.fetch_sub(1, Ordering::Relaxed);
                    self.handle(Input::Peer { from, bytes });
                }
                Local::Look(look) => look(self.node.state()),
                Local::Join { target, cluster, discard_local } => {
                    self.leave_for(target, cluster, discard_local);
                }
                Local::Answer(call, reply) => self.reply(call, reply),
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
                Effect::Reply { call, result } => self.reply(call, result),
                Effect::Cluster { call, ask } => self.ask_cluster(call, ask),
                Effect::HandOver => self.hand_over(),
                Effect::Propose(proposal) => self.told.push(Told::Propose(Box::new(proposal))),
                Effect::Withdraw(request) => self.told.push(Told::Decided(vec![request])),
                Effect::Tell { to, bytes } => {
                    if let Some(link) = self.peers.link(to) {
                        link.tell(&Tell::Node(bytes.into()));
                    }
                }
                Effect::MembersChanged => self.follow_members(),
                Effect::Fatal(text) => self.fatal.raise(Ended::Failed(text)),
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

    fn reply(&mut self, call: CallId, result: CallReply) {
        // Whoever dropped the call meanwhile wants no answer.
        if let Some(to) = self.calls.remove(&call) {
            answer::<W::Runtime, _>(to, result);
        }
    }

    fn ask_cluster(&self, call: CallId, ask: ClusterAsk) {
        let registrar = Registrar { world: self.world.clone(), desk: Arc::clone(&self.desk) };
        let local = self.local.clone();
        detach::<W::Runtime>(self.peers.clone().while_open(async move {
            local.push(Local::Answer(call, registrar.answer(ask).await));
        }));
    }

    fn hand_over(&self) {
        let Some(office) = self.desk.office.get().map(Arc::clone) else { return };
        detach::<W::Runtime>(async move {
            let status = office.consensus.status();
            if status.leader == Some(status.id)
                && let Some(heir) = office.consensus.heir()
            {
                office.consensus.hand_over(heir).await;
            }
        });
    }

    /// Says to others how many devices there are.
    fn count_devices(&mut self) {
        let devices = self.node.state().device_count();
        if devices != self.devices {
            self.devices = devices;
            let devices = u64::try_from(devices).unwrap_or(u64::MAX);
            self.peers.introduce(|hello| hello.devices = devices);
        }
    }

    /// Keeps links to the members that the state knows.
    fn follow_members(&mut self) {
        let state = self.node.state();
        if state.cluster().is_none() {
            return;
        }
        let gone = state.members().filter(|(_, member)| !member.is_live());
        let gone: Vec<u64> = gone.map(|(id, _)| id.0).collect();
        if gone.contains(&self.raft_id) {
            self.fatal.raise(Ended::Removed);
        }
        let contacts = contacts(state);
        let members = u32::try_from(contacts.len()).unwrap_or(u32::MAX);
        self.peers.introduce(|hello| hello.members = members);
        // A node that has just begun to catch up knows more from its admission than from its log.
        if contacts.iter().any(|one| one.raft_id == self.raft_id) {
            self.peers.set_members(&contacts, gone);
        }
    }

    /// Makes room for another cluster's data.
    fn leave_for(&self, target: String, to: Option<Id>, discard_local: bool) {
        let state = self.node.state();
        // Somebody or something may have come since this was decided.
        let has_devices = state.device_count() > 0 && !discard_local;
        if state.live_members().count() > 1 || has_devices {
            tracing::warn!(%target, "not joined: this node has something to lose by now");
            return self.peers.introduce(|hello| hello.joining = false);
        }
        let from = self.node.state().cluster().map(|cluster| cluster.id);
        let intent = Intent::Join { target, from, to }.encode();
        match self.world.keep(Kept::Intent, Some(&intent)) {
            Ok(()) => self.fatal.raise(Ended::Rejoin),
            Err(error) => {
                tracing::error!(%error, "the intent to join cannot be kept");
                self.peers.introduce(|hello| hello.joining = false);
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
                Err(error) => fatal.raise(Ended::Failed(error.to_string())),
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
            Err(error) => self.fatal.raise(Ended::Failed(error.to_string())),
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
