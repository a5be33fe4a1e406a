//! Accepted connections: a reader and a writer task each, with the loop between them.
//!
//! The node bounds what waits for a client (it counts what it wrote and what was drained); here
//! every write that waits goes out in one call. Connections beyond the limit are closed at once.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use clock::Duration;
use node::{Input, StreamId};
use sabotage::Bug;

use crate::mailbox::{Inbox, Mailbox, mailbox};
use crate::net::{Listener, Reader, Stream, Writer};
use crate::runtime::{
    AsyncRuntime, MpscSender, Select2, Tx, WatchReceiver, WatchRx, WatchSender, WatchTx, detach,
    watched,
};
use crate::service::Event;
use crate::world::{ReaderOf, StreamOf, World, WriterOf};

/// Bytes read from a connection before the loop sees them.
const READ_MAX: usize = 16 * 1024;
/// How long a client may take for its last bytes once the node has given it up.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// Pause after an accept that failed (too many open files, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the loop asks of a connection's writer.
pub(crate) enum Outgoing {
    /// Send this.
    Bytes(Bytes),
    /// Send what came before, then close.
    Close,
}

/// What the readers and writers of one node share.
pub(crate) struct Connections<W: World> {
    events: Tx<W::Runtime, Event<W::Runtime>>,
    next: AtomicU64,
    open: AtomicUsize,
    limit: usize,
}

impl<W: World> Connections<W> {
    pub(crate) fn new(events: Tx<W::Runtime, Event<W::Runtime>>, limit: usize) -> Arc<Self> {
        Arc::new(Self { events, next: AtomicU64::new(1), open: AtomicUsize::new(0), limit })
    }

    /// Accepts until the node is gone.
    pub(crate) async fn serve(self: Arc<Self>, mut listener: W::Listener) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                W::Runtime::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if self.open.load(Ordering::Relaxed) >= self.limit {
                if self.events.send(Event::ConnectionRefused { peer }).await.is_err() {
                    return;
                }
                continue;
            }
            if self.open_stream(stream, peer).await.is_err() {
                return;
            }
        }
    }

    async fn open_stream(
        self: &Arc<Self>,
        stream: StreamOf<W>,
        peer: SocketAddr,
    ) -> Result<(), ()> {
        let id = StreamId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.fetch_add(1, Ordering::Relaxed);
        let (reader, writer) = stream.split();
        let (outbox, inbox) = mailbox();
        let (pause, paused) = watched::<W::Runtime, bool>(false);
        let event = Event::StreamOpened { stream: id, peer, way: Way { outbox, pause } };
        self.events.send(event).await.map_err(|_| ())?;
        let (finished, ended) = watched::<W::Runtime, bool>(false);
        detach::<W::Runtime>(Arc::clone(self).read(id, reader, ended, paused));
        detach::<W::Runtime>(Arc::clone(self).write(id, writer, inbox, finished));
        Ok(())
    }

    async fn read(
        self: Arc<Self>,
        stream: StreamId,
        mut reader: ReaderOf<W>,
        mut ended: WatchRx<W::Runtime, bool>,
        mut paused: WatchRx<W::Runtime, bool>,
    ) {
        let mut buffer = BytesMut::new();
        loop {
            while *paused.borrow_and_update() {
                let changed = W::Runtime::select2(ended.changed(), paused.changed()).await;
                let Select2::Second(Ok(())) = changed else { break };
            }
            let read = W::Runtime::select2(ended.changed(), reader.read(&mut buffer, READ_MAX));
            let Select2::Second(Ok(1..)) = read.await else { break };
            let bytes = buffer.split().freeze();
            if self.events.send(Event::Input(Input::StreamBytes { stream, bytes })).await.is_err() {
                break;
            }
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        // Dropping the loop's outbox ends the writer.
        let _ = self.events.send(Event::Input(Input::StreamClosed { stream })).await;
    }

    async fn write(
        self: Arc<Self>,
        stream: StreamId,
        mut writer: WriterOf<W>,
        mut inbox: Inbox<W::Runtime, Outgoing>,
        finished: WatchTx<W::Runtime, bool>,
    ) {
        let mut waiting = Waiting::default();
        while !waiting.closing {
            let Some(items) = inbox.take().await else { break };
            waiting.extend(items);
            if !self.send_waiting(stream, &mut writer, &mut inbox, &mut waiting).await {
                break;
            }
        }
        let _ = W::Runtime::timeout(CLOSE_GRACE, writer.shutdown()).await;
        let _ = finished.send(true);
        if sabotage::planted(Bug::ConnectionLeak) {
            std::future::pending::<()>().await;
        }
    }

    /// Sends all that waits, however long the peer takes, unless the node wants the connection
    /// closed: then only for the grace. False when the connection is no longer of use.
    async fn send_waiting(
        &self,
        stream: StreamId,
        writer: &mut WriterOf<W>,
        inbox: &mut Inbox<W::Runtime, Outgoing>,
        waiting: &mut Waiting,
    ) -> bool {
        while !waiting.bytes.is_empty() {
            let together = waiting.bytes.split();
            let mut writing = pin!(writer.write_all(&together));
            let written = loop {
                if waiting.closing {
                    break W::Runtime::timeout(CLOSE_GRACE, writing.as_mut()).await.is_ok_and(ok);
                }
                match W::Runtime::select2(writing.as_mut(), inbox.take()).await {
                    Select2::First(result) => break ok(result),
                    Select2::Second(Some(items)) => waiting.extend(items),
                    Select2::Second(None) => waiting.closing = true,
                }
            };
            let bytes = together.len();
            let drained = Event::Input(Input::StreamDrained { stream, bytes });
            if !written || self.events.send(drained).await.is_err() {
                return false;
            }
        }
        true
    }
}

fn ok(result: std::io::Result<()>) -> bool {
    result.is_ok()
}

/// What a writer has not sent yet.
#[derive(Default)]
struct Waiting {
    bytes: BytesMut,
    closing: bool,
}

impl Waiting {
    fn extend(&mut self, items: Vec<Outgoing>) {
        for item in items {
            match item {
                Outgoing::Bytes(bytes) => self.bytes.extend_from_slice(&bytes),
                Outgoing::Close => self.closing = true,
            }
        }
    }
}

/// The way from the loop to one connection.
pub(crate) struct Way<R: AsyncRuntime> {
    /// To its writer.
    pub(crate) outbox: Mailbox<R, Outgoing>,
    /// To its reader: true while it shall not read.
    pub(crate) pause: WatchTx<R, bool>,
}
