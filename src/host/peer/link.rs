//! The way to one other node: connects, asks, and connects again when the connection has broken.
//!
//! What is asked while there is no connection fails at once; what was asked over a connection that
//! broke is *unknown*. Every quarter second a link asks whether the other side is alive, and
//! measures the way; one that gets no answer for three seconds gives the connection up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use clock::{Duration, Instant};
use cluster::identity::NodeKey;
use sabotage::Bug;

use super::Peers;
use super::message::{Answer, Ask, Frame, Greeting, Hello, Tell, decode, encode};
use super::noise::{self, Channel, NoiseError, Opener, Sealer};
use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::net::{Stream, Writer};
use crate::runtime::{
    AsyncRuntime, OnceTx, OneshotSender, Select2, WatchReceiver, WatchRx, WatchSender, WatchTx,
    detach, once, watched,
};
use crate::world::{ReaderOf, StreamOf, World, WriterOf};

/// How long a connection may take to come about, handshake included.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the other side may leave what is written untaken.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Pauses between two tries, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often a link asks whether the other side is alive.
const ALIVE_EVERY: Duration = Duration::from_millis(250);
/// Without any sign for so long the other side is not counted on.
pub(crate) const SILENT_AFTER: Duration = Duration::from_millis(1_000);
/// Without any sign for so long the connection is given up.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Why a link is down that was opened a moment ago.
pub(crate) const NOT_TRIED: &str = "not tried yet";
/// Why a link is down whose other side had said who it is.
pub(crate) const BROKEN: &str = "the connection has broken";
/// Why a link does not come about, or a question is not answered.
pub(crate) const ANOTHER_MEMBER: &str = "that node is another member by now";
/// Bytes that may wait for the other side; beyond, asks are refused and tells dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Why an ask got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// Nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// It was sent; whether it had an effect is not known.
    #[error("no answer: whether it was done is not known")]
    Unknown,
}

/// Who must answer at the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Whoever it is.
    Anybody,
    /// The node with this key.
    Node(NodeKey),
    /// The member with this key and raft id. A node that has left and come back has its key still,
    /// but it is another member: it has nothing of what the first one had said that it has.
    Member(NodeKey, u64),
}

impl Whom {
    fn key(self) -> Option<NodeKey> {
        match self {
            Self::Anybody => None,
            Self::Node(key) | Self::Member(key, _) => Some(key),
        }
    }

    fn raft_id(self) -> Option<u64> {
        match self {
            Self::Anybody | Self::Node(_) => None,
            Self::Member(..) if sabotage::planted(Bug::FormerSelf) => None,
            Self::Member(_, raft_id) => Some(raft_id),
        }
    }
}

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Not connected, and why.
    Down(Arc<str>),
    /// Connected to whom.
    Up { key: NodeKey, hello: Arc<Hello> },
    /// The other side says that this node was removed.
    Removed,
}

/// What waits to be sent.
enum Outgoing<R: AsyncRuntime> {
    Ask { body: Bytes, answer: OnceTx<R, Result<Bytes, AskError>> },
    Tell { body: Bytes },
}

/// When something was last heard, and how long a question and its answer take.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    heard: Option<Instant>,
    round_trip: Duration,
}

struct Shared<W: World> {
    peers: Peers<W>,
    /// Which link of this node it is.
    number: u64,
    /// How often it has greeted somebody.
    greetings: AtomicU64,
    address: Mutex<String>,
    whom: Whom,
    line: Mutex<WatchTx<W::Runtime, Line>>,
    pulse: Mutex<Pulse>,
    /// Connections so far.
    connections: AtomicU64,
    waiting: AtomicUsize,
}

/// The way to one node. Clones are the same; it ends by [`Link::close`].
pub(crate) struct Link<W: World> {
    shared: Arc<Shared<W>>,
    outbox: Mailbox<W::Runtime, Outgoing<W::Runtime>>,
    line: WatchRx<W::Runtime, Line>,
    end: Arc<Mutex<WatchTx<W::Runtime, bool>>>,
}

impl<W: World> Clone for Link<W> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            outbox: self.outbox.clone(),
            line: self.line.clone(),
            end: Arc::clone(&self.end),
        }
    }
}

impl<W: World> Link<W> {
    /// A link to `address`, which connects by itself.
    pub(crate) fn open(peers: Peers<W>, address: String, whom: Whom) -> Self {
        let (line, watch) = watched::<W::Runtime, _>(Line::Down(NOT_TRIED.into()));
        let (end, ending) = watched::<W::Runtime, _>(false);
        let (outbox, inbox) = mailbox();
        let shared = Arc::new(Shared {
            number: peers.number_link(),
            greetings: AtomicU64::new(0),
            peers,
            address: Mutex::new(address),
            whom,
            line: Mutex::new(line),
            pulse: Mutex::default(),
            connections: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        });
        detach::<W::Runtime>(Arc::clone(&shared).keep(inbox, ending));
        Self { shared, outbox, line: watch, end: Arc::new(Mutex::new(end)) }
    }

    /// The other node has moved.
    pub(crate) fn readdress(&self, address: &str) {
        let mut current = self.shared.address.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != address {
            address.clone_into(&mut current);
        }
    }

    /// Ends it; what waits fails.
    pub(crate) fn close(&self) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).send(true).ok();
    }

    /// How it stands, to be watched.
    pub(crate) fn line(&self) -> WatchRx<W::Runtime, Line> {
        self.line.clone()
    }

    /// Connected.
    pub(crate) fn is_up(&self) -> bool {
        matches!(&*self.line.borrow_watched(), Line::Up { .. })
    }

    /// Connected, and the other side has given a sign of life lately.
    pub(crate) fn is_lively(&self) -> bool {
        let heard = self.shared.pulse().heard;
        let now = self.shared.peers.now();
        self.is_up() && heard.is_some_and(|heard| now.since(heard) < SILENT_AFTER)
    }

    /// The other side says that this node was removed.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(&*self.line.borrow_watched(), Line::Removed)
    }

    /// Which connection this is: whoever answers over another one may have started anew, and what
    /// he was told before may be lost.
    pub(crate) fn connection(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Half of the last round trip: about how long a message is on its way.
    pub(crate) fn transit(&self) -> Duration {
        self.shared.pulse().round_trip / 2
    }

    /// Asks, and waits at most `patience` for the answer.
    pub(crate) async fn ask(&self, ask: &Ask, patience: Duration) -> Result<Answer, AskError> {
        if let Line::Down(why) = &*self.line.borrow_watched() {
            return Err(AskError::Unreachable(why.to_string()));
        }
        let body = encode(ask);
        if !self.shared.has_room(body.len()) {
            return Err(AskError::Unreachable("it does not keep up".into()));
        }
        let (answer, answered) = once::<W::Runtime, _>();
        self.outbox.push(Outgoing::Ask { body, answer });
        let bytes = match W::Runtime::timeout(patience, answered).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) | Err(_) => return Err(AskError::Unknown),
        };
        decode(&bytes).ok_or(AskError::Unknown)
    }

    /// Tells, without an answer; false if it was dropped for certain.
    pub(crate) fn tell(&self, tell: &Tell) -> bool {
        let body = encode(tell);
        let goes = self.is_up() && self.shared.has_room(body.len());
        if goes {
            self.outbox.push(Outgoing::Tell { body });
        }
        goes
    }
}

impl<W: World> Shared<W> {
    fn pulse(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let room = self.waiting.load(Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        if room {
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
        }
        room
    }

    fn stand(&self, line: Line) {
        let current = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        current.send_if_modified(|now| {
            let changed = *now != line;
            *now = line;
            changed
        });
    }

    async fn keep(
        self: Arc<Self>,
        mut inbox: Inbox<W::Runtime, Outgoing<W::Runtime>>,
        mut ending: WatchRx<W::Runtime, bool>,
    ) {
        let mut pause = PAUSE.0;
        loop {
            let work = self.once(&mut inbox, &mut pause);
            if let Select2::First(_) = W::Runtime::select2(ending.changed(), work).await {
                self.refuse(&mut inbox, "this link is closed");
                return;
            }
        }
    }

    /// One connection from beginning to end, and the pause after it.
    async fn once(
        &self,
        inbox: &mut Inbox<W::Runtime, Outgoing<W::Runtime>>,
        pause: &mut Duration,
    ) {
        match self.connect().await {
            Ok((connection, hello)) => {
                *pause = PAUSE.0;
                let key = connection.peer;
                // Whatever slipped in while there was no connection is old news.
                self.refuse(inbox, "not connected");
                self.heard(None);
                self.connections.fetch_add(1, Ordering::Relaxed);
                self.stand(Line::Up { key, hello: Arc::new(hello) });
                self.converse(connection, inbox).await;
                self.refuse(inbox, BROKEN);
                self.stand(Line::Down(BROKEN.into()));
            }
            Err(Failure::Removed) => self.stand(Line::Removed),
            Err(Failure::Text(text)) => {
                self.peers.note_failure(&self.address(), &text);
                self.stand(Line::Down(text.into()));
            }
        }
        self.refuse(inbox, "not connected");
        W::Runtime::sleep(*pause).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    fn address(&self) -> String {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn connect(&self) -> Result<(Connection<W>, Hello), Failure> {
        let address = self.address();
        let text = |error: &dyn core::fmt::Display| Failure::Text(format!("{address}: {error}"));
        let whole = async {
            let places = self.peers.world().resolve(&address).await.map_err(|e| text(&e))?;
            let mut failure = text(&"no such host");
            for place in places {
                match self.peers.world().connect(place).await {
                    Ok(stream) => return self.greet(stream).await,
                    Err(error) => failure = text(&error),
                }
            }
            Err(failure)
        };
        let result = W::Runtime::timeout(CONNECT_MAX, whole).await;
        result.unwrap_or_else(|_| Err(text(&"no answer in time")))
    }

    /// Handshake and first words.
    async fn greet(&self, stream: StreamOf<W>) -> Result<(Connection<W>, Hello), Failure> {
        let (reader, mut writer) = stream.split();
        let address = self.address();
        let text = |error: &dyn core::fmt::Display| Failure::Text(format!("{address}: {error}"));
        let noise = |error: NoiseError| text(&error);
        let channel = {
            let credentials = self.peers.credentials();
            noise::initiate(reader, &mut writer, &credentials).await.map_err(noise)?
        };
        let Channel { mut sealer, mut opener, peer } = channel;
        if self.whom.key().is_some_and(|expected| expected != peer) {
            return Err(text(&"another node answers there"));
        }
        let greeting = self.greetings.fetch_add(1, Ordering::Relaxed);
        let (connection, to) = (Some((self.number, greeting)), self.whom.raft_id());
        let ours = Hello { connection, to, ..self.peers.hello() };
        let mut out = BytesMut::new();
        sealer.seal(&encode(&ours), &mut out);
        writer.write_all(&out).await.map_err(|e| text(&e))?;
        let bytes = opener.next().await.map_err(noise)?;
        match decode::<Greeting>(&bytes) {
            Some(Greeting::Welcome(hello)) if hello.is_other_than(to) => Err(text(&ANOTHER_MEMBER)),
            Some(Greeting::Welcome(hello)) if hello.is_sound() => {
                self.peers.note_start(peer, &hello).map_err(|why| text(&why))?;
                Ok((Connection { sealer, opener, writer, peer }, *hello))
            }
            Some(Greeting::Removed { raft_id }) if ours.raft_id == Some(raft_id) => {
                Err(Failure::Removed)
            }
            Some(Greeting::Refused(why)) => Err(text(&why)),
            Some(Greeting::Welcome(_) | Greeting::Removed { .. }) | None => {
                Err(text(&"it does not greet as a node does"))
            }
        }
    }

    fn heard(&self, round_trip: Option<Duration>) {
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        pulse.heard = Some(self.peers.now());
        // Beyond, somebody stood still: that is no way's length.
        if let Some(round_trip) = round_trip.filter(|round_trip| *round_trip < SILENT_AFTER) {
            pulse.round_trip = round_trip;
        }
    }

    fn refuse(&self, inbox: &mut Inbox<W::Runtime, Outgoing<W::Runtime>>, why: &str) {
        for item in inbox.try_take().into_iter().flatten() {
            match item {
                Outgoing::Ask { body, answer } => {
                    self.waiting.fetch_sub(body.len(), Ordering::Relaxed);
                    answer.send(Err(AskError::Unreachable(why.to_owned()))).ok();
                }
                Outgoing::Tell { body } => {
                    self.waiting.fetch_sub(body.len(), Ordering::Relaxed);
                }
            }
        }
    }

    /// Speaks until the connection is of no use any more.
    async fn converse(
        &self,
        connection: Connection<W>,
        inbox: &mut Inbox<W::Runtime, Outgoing<W::Runtime>>,
    ) {
        let Connection { sealer, opener, writer, .. } = connection;
        let pending = Pending::<W::Runtime>::default();
        let reading = self.read(opener, &pending);
        let writing = self.write(sealer, writer, &pending, inbox);
        W::Runtime::select2(reading, writing).await;
        pending.fail();
    }

    async fn read(&self, mut opener: Opener<ReaderOf<W>>, pending: &Pending<W::Runtime>) {
        while let Ok(bytes) = opener.next().await {
            // The other side asks over a connection of its own.
            let Some(Frame::Answer { number, body }) = Frame::decode(&bytes) else { return };
            match pending.take(number) {
                Some(Waiting::Ask(answer)) => {
                    self.heard(None);
                    answer.send(Ok(body)).ok();
                }
                Some(Waiting::Alive(since)) => {
                    self.heard(Some(self.peers.now().since(since)));
                }
                None => return,
            }
        }
    }

    async fn write(
        &self,
        mut sealer: Sealer,
        mut writer: WriterOf<W>,
        pending: &Pending<W::Runtime>,
        inbox: &mut Inbox<W::Runtime, Outgoing<W::Runtime>>,
    ) {
        let mut next_number = 0;
        let mut out = BytesMut::new();
        let frame = |sealer: &mut Sealer, out: &mut BytesMut, frame: &Frame| {
            sealer.seal(&frame.encode(), out);
        };
        loop {
            let alive = W::Runtime::sleep(ALIVE_EVERY);
            match W::Runtime::select2(inbox.take(), alive).await {
                Select2::First(None) => return,
                Select2::First(Some(items)) => {
                    for item in items {
                        match item {
                            Outgoing::Ask { body, answer } => {
                                self.waiting.fetch_sub(body.len(), Ordering::Relaxed);
                                next_number += 1;
                                pending.put(next_number, Waiting::Ask(answer));
                                let ask = Frame::Ask { number: next_number, body };
                                frame(&mut sealer, &mut out, &ask);
                            }
                            Outgoing::Tell { body } => {
                                self.waiting.fetch_sub(body.len(), Ordering::Relaxed);
                                frame(&mut sealer, &mut out, &Frame::Tell { body });
                            }
                        }
                    }
                }
                Select2::Second(()) => {}
            }
            let now = self.peers.now();
            if pending.wants_alive(now) {
                next_number += 1;
                pending.put(next_number, Waiting::Alive(now));
                let ask = Frame::Ask { number: next_number, body: encode(&Ask::Alive) };
                frame(&mut sealer, &mut out, &ask);
            }
            if self.pulse().heard.is_none_or(|heard| now.since(heard) > DEAD_AFTER) {
                return;
            }
            let written = W::Runtime::timeout(WRITE_MAX, writer.write_all(&out)).await;
            if !written.is_ok_and(|written| written.is_ok()) {
                return;
            }
            out.clear();
        }
    }
}

enum Failure {
    Removed,
    Text(String),
}

struct Connection<W: World> {
    sealer: Sealer,
    opener: Opener<ReaderOf<W>>,
    writer: WriterOf<W>,
    peer: NodeKey,
}

enum Waiting<R: AsyncRuntime> {
    Ask(OnceTx<R, Result<Bytes, AskError>>),
    Alive(Instant),
}

/// What was asked over one connection.
struct Pending<R: AsyncRuntime>(Mutex<Asked<R>>);

struct Asked<R: AsyncRuntime> {
    waiting: BTreeMap<u64, Waiting<R>>,
    alive_asked: Option<Instant>,
}

impl<R: AsyncRuntime> Default for Pending<R> {
    fn default() -> Self {
        Self(Mutex::new(Asked { waiting: BTreeMap::new(), alive_asked: None }))
    }
}

impl<R: AsyncRuntime> Pending<R> {
    fn put(&self, number: u64, waiting: Waiting<R>) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Waiting::Alive(at) = &waiting {
            asked.alive_asked = Some(*at);
        }
        asked.waiting.insert(number, waiting);
    }

    fn take(&self, number: u64) -> Option<Waiting<R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number)
    }

    /// Whether it is time to ask for a sign of life again.
    fn wants_alive(&self, now: Instant) -> bool {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner).alive_asked;
        asked.is_none_or(|asked| now.since(asked) >= ALIVE_EVERY)
    }

    fn fail(&self) {
        let all = {
            let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            core::mem::take(&mut asked.waiting)
        };
        for waiting in all.into_values() {
            if let Waiting::Ask(answer) = waiting {
                answer.send(Err(AskError::Unknown)).ok();
            }
        }
    }
}
