//! Where other nodes knock: accepts, checks the cookie, greets, and hands their questions on.
//!
//! Who does not know the cookie gets not one byte. Connections of peers are bounded; beyond, one is
//! closed as it comes. Handshakes under way are bounded, too: beyond, the oldest gives way, so that
//! strangers who are silent keep no node out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use clock::Duration;
use cluster::identity::NodeKey;

use super::Peers;
use super::latest::Latest;
use super::message::{Answer, Ask, Denial, Frame, Greeting, Hello, Tell, decode, encode};
use super::noise::{self, Channel, NoiseError, Opener, Sealer};
use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::net::{Listener, Stream, Writer};
use crate::runtime::{
    AsyncRuntime, OnceRx, OnceTx, OneshotSender, Select2, WatchReceiver, WatchRx, WatchSender,
    WatchTx, detach, once, watched,
};
use crate::world::{ReaderOf, StreamOf, World, WriterOf};

/// How long a handshake and the greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(3);
/// Handshakes under way.
const HANDSHAKES_MAX: usize = 32;
/// Connections of peers.
const CONNECTIONS_MAX: usize = 64;
/// Questions of one peer that are being answered; it is read no further then.
const ASKS_MAX: usize = 256;
/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the other side may leave an answer untaken.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// A connection over which nothing came for so long is given up: its other end asks for a sign of
/// life far more often.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) key: NodeKey,
    pub(crate) hello: Arc<Hello>,
}

/// Answers what other nodes ask.
pub(crate) trait Desk: Send + Sync + 'static {
    /// Answers one question.
    fn answer(&self, caller: &Caller, ask: Ask) -> impl Future<Output = Answer> + Send;

    /// Takes what needs no answer; waits while it cannot.
    fn hear(&self, caller: &Caller, tell: Tell) -> impl Future<Output = ()> + Send;
}

/// The door of one node.
pub(crate) struct Door<W: World, D> {
    peers: Peers<W>,
    desk: Arc<D>,
    knocks: Mutex<Knocks<W::Runtime>>,
    connections: AtomicUsize,
    latest: Latest<W::Runtime>,
}

/// Handshakes under way, in the order of their coming, and how each is told to give way.
struct Knocks<R: AsyncRuntime> {
    next: u64,
    open: BTreeMap<u64, OnceTx<R, ()>>,
}

impl<R: AsyncRuntime> Knocks<R> {
    /// One more; beyond [`HANDSHAKES_MAX`] the oldest must go.
    ///
    /// * Returns its number, and what ends it.
    fn enter(&mut self) -> (u64, OnceRx<R, ()>) {
        if self.open.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = self.open.pop_first()
        {
            oldest.send(()).ok();
        }
        let (give_way, ending) = once::<R, ()>();
        self.next += 1;
        self.open.insert(self.next, give_way);
        (self.next, ending)
    }
}

/// Counts down when it goes.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// One more, unless there are `limit`.
    fn enter(counter: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let entered = counter.fetch_add(1, Ordering::Relaxed) < limit;
        let counted = Self(counter);
        entered.then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<W: World, D: Desk> Door<W, D> {
    pub(crate) fn new(peers: Peers<W>, desk: Arc<D>) -> Arc<Self> {
        let knocks = Mutex::new(Knocks { next: 0, open: BTreeMap::new() });
        let (connections, latest) = (AtomicUsize::new(0), Latest::new());
        Arc::new(Self { peers, desk, knocks, connections, latest })
    }

    fn knocks(&self) -> MutexGuard<'_, Knocks<W::Runtime>> {
        self.knocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts until the node is gone.
    pub(crate) async fn serve(self: Arc<Self>, mut listener: W::Listener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                W::Runtime::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (door, peers) = (Arc::clone(&self), self.peers.clone());
            let knock = self.knocks().enter();
            let visit = async move { door.receive(stream, from, knock).await };
            detach::<W::Runtime>(peers.while_open(visit));
        }
    }

    async fn receive(
        &self,
        stream: StreamOf<W>,
        from: std::net::SocketAddr,
        (number, ending): (u64, OnceRx<W::Runtime, ()>),
    ) {
        let greeting = W::Runtime::timeout(GREETING_MAX, self.greet(stream));
        let greeted = W::Runtime::select2(greeting, ending).await;
        self.knocks().open.remove(&number);
        match greeted {
            Select2::First(Ok(Ok(Some(visit)))) => {
                let counted = Counted::enter(&self.connections, CONNECTIONS_MAX);
                if counted.is_some()
                    && let Some((ending, _open)) = self.latest.enter(&visit.caller)
                {
                    W::Runtime::select2(self.attend(visit), ending).await;
                }
            }
            Select2::First(Ok(Ok(None))) => {}
            Select2::First(Ok(Err(error))) => self.peers.note_stranger(from, &error.to_string()),
            Select2::First(Err(_)) => self.peers.note_stranger(from, "no handshake in time"),
            Select2::Second(_) => self.peers.note_stranger(from, "too many knock at a time"),
        }
    }

    async fn greet(&self, stream: StreamOf<W>) -> Result<Option<Visit<W>>, NoiseError> {
        let (reader, mut writer) = stream.split();
        let channel = {
            let credentials = self.peers.credentials();
            noise::respond(reader, &mut writer, &credentials).await?
        };
        let Channel { mut sealer, mut opener, peer } = channel;
        let bytes = opener.next().await?;
        let Some(hello) = decode::<Hello>(&bytes).filter(Hello::is_sound) else {
            return Err(NoiseError::Malformed("it does not greet as a node does"));
        };
        let greeting = self.peers.judge(peer, &hello);
        let welcome = matches!(greeting, Greeting::Welcome(_));
        let mut out = BytesMut::new();
        sealer.seal(&encode(&greeting), &mut out);
        writer.write_all(&out).await?;
        let caller = Caller { key: peer, hello: Arc::new(hello) };
        Ok(welcome.then_some(Visit { sealer, opener, writer, caller }))
    }

    async fn attend(&self, visit: Visit<W>) {
        let Visit { sealer, opener, writer, caller } = visit;
        let (outbox, inbox) = mailbox();
        let open = Arc::new(AtomicUsize::new(0));
        let (done, mut room) = watched::<W::Runtime, u64>(0);
        let desk = Arc::clone(&self.desk);
        let reading = async {
            let mut reception = Reception::<W, D> {
                peers: self.peers.clone(),
                desk,
                caller,
                outbox,
                open,
                done: Arc::new(Mutex::new(done)),
            };
            reception.read(opener, &mut room).await;
        };
        let writing = write::<W>(sealer, writer, inbox);
        W::Runtime::select2(reading, writing).await;
    }
}

struct Visit<W: World> {
    sealer: Sealer,
    opener: Opener<ReaderOf<W>>,
    writer: WriterOf<W>,
    caller: Caller,
}

/// The questions of one peer.
struct Reception<W: World, D> {
    peers: Peers<W>,
    desk: Arc<D>,
    caller: Caller,
    outbox: Mailbox<W::Runtime, Bytes>,
    open: Arc<AtomicUsize>,
    /// Counts answers given.
    done: Arc<Mutex<WatchTx<W::Runtime, u64>>>,
}

impl<W: World, D: Desk> Reception<W, D> {
    async fn read(&mut self, mut opener: Opener<ReaderOf<W>>, room: &mut WatchRx<W::Runtime, u64>) {
        loop {
            while self.open.load(Ordering::Relaxed) >= ASKS_MAX {
                if room.changed().await.is_err() {
                    return;
                }
            }
            let next = W::Runtime::timeout(SILENT_MAX, opener.next()).await;
            let Ok(Ok(bytes)) = next else { return };
            self.peers.note_spoke(self.caller.key);
            // It knocks again and is told.
            if self.peers.is_revoked(&self.caller.hello) {
                return;
            }
            match Frame::decode(&bytes) {
                Some(Frame::Ask { number, body }) => self.ask(number, &body),
                Some(Frame::Tell { body }) => {
                    // What a newer version tells is not for this one.
                    if let Some(tell) = decode::<Tell>(&body) {
                        self.desk.hear(&self.caller, tell).await;
                    }
                }
                Some(Frame::Answer { .. }) | None => return,
            }
        }
    }

    fn ask(&self, number: u64, body: &Bytes) {
        let Some(ask) = decode::<Ask>(body) else {
            let why = Denial::Because("this node does not know that question".into());
            return self.outbox.push(reply(number, &Answer::No(why)));
        };
        if ask == Ask::Alive {
            return self.outbox.push(reply(number, &Answer::Yes));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let (desk, caller, outbox) =
            (Arc::clone(&self.desk), self.caller.clone(), self.outbox.clone());
        let (open, done) = (Arc::clone(&self.open), Arc::clone(&self.done));
        detach::<W::Runtime>(async move {
            let answer = desk.answer(&caller, ask).await;
            outbox.push(reply(number, &answer));
            open.fetch_sub(1, Ordering::Relaxed);
            let done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.send_if_modified(|count| {
                *count += 1;
                true
            });
        });
    }
}

fn reply(number: u64, answer: &Answer) -> Bytes {
    Frame::Answer { number, body: encode(answer) }.encode()
}

async fn write<W: World>(
    mut sealer: Sealer,
    mut writer: WriterOf<W>,
    mut inbox: Inbox<W::Runtime, Bytes>,
) {
    let mut out = BytesMut::new();
    while let Some(messages) = inbox.take().await {
        for message in messages {
            sealer.seal(&message, &mut out);
        }
        let written = W::Runtime::timeout(WRITE_MAX, writer.write_all(&out)).await;
        if !written.is_ok_and(|written| written.is_ok()) {
            return;
        }
        out.clear();
    }
}
