//! A connection that its client has walked away from without a word, as when a cable is pulled or
//! a laptop sleeps. It stays open until the node misses a ping, or the client comes back on a
//! newer connection: from then on this one must be silent, and end.

use std::time::Duration;

use mqtt::{Client, ClientEvent};
use openraft_rt::{AsyncRuntime, Select3, WatchReceiver as _};

use super::super::field::world_now;
use super::super::record::Record;
use super::Standing;
use super::conversation::{READ_MAX, message_of};
use super::habits::PATIENCE;
use crate::clocks::virtual_now;
use crate::net::{TcpReader, TcpWriter};
use crate::oracle::{Fact, Message};
use crate::runtime::{MadsimRuntime, sleep_virtual_until};

/// Connections that one client leaves behind at most, at a time.
pub(super) const LEFTOVERS_MAX: usize = 8;

/// A connection left behind. It still takes what comes, and answers nothing.
pub(super) struct Leftover {
    pub(super) name: String,
    /// Which of the client's connections.
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) reader: TcpReader,
    pub(super) writer: TcpWriter,
    pub(super) standing: Standing,
    pub(super) record: Record,
}

impl Leftover {
    /// Listens until it ends.
    pub(super) async fn run(mut self) {
        self.standing.change(|shown| shown.leftovers += 1);
        let mut ear = self.standing.ear();
        let mut asked = None;
        while self.client.is_connected() {
            let due = self.ping_due().filter(|_| self.standing.is_resting() && asked.is_none());
            let alarm = async {
                match due {
                    Some(at) => sleep_virtual_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let next = MadsimRuntime::select3(ear.changed(), self.reader.read(READ_MAX), alarm);
            match next.await {
                Select3::First(Ok(())) => {}
                Select3::Second(Ok(bytes)) if !bytes.is_empty() => self.take(&bytes, asked),
                Select3::First(Err(_)) | Select3::Second(_) => break,
                Select3::Third(()) => {
                    // Whoever still holds it open will answer.
                    asked = Some(virtual_now());
                    self.ping().await;
                }
            }
        }
        self.record.note(&self.name, &format!("connection {} has ended too", self.number));
        self.standing.change(|shown| shown.leftovers -= 1);
    }

    /// * `asked`: when it has asked for a ping.
    fn take(&mut self, bytes: &[u8], asked: Option<Duration>) {
        let waited = self.waits_for_ping();
        self.client.handle_bytes(world_now(), bytes);
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Message(publish) = event {
                self.tell(Some(message_of(&publish)), None);
            }
        }
        if asked.is_some() && waited && self.client.is_connected() && !self.waits_for_ping() {
            self.tell(None, asked);
        }
    }

    fn ping_due(&self) -> Option<Duration> {
        self.client.poll_timeout().map(|(at, _)| Duration::from_micros(at.as_micros()))
    }

    fn waits_for_ping(&self) -> bool {
        self.client.poll_timeout().is_some_and(|(_, name)| name == "answer")
    }

    async fn ping(&mut self) {
        // An answer that was due before it was left ends it here.
        self.client.handle_timeout(world_now());
        if let Some(bytes) = self.client.poll_transmit() {
            // A stream that takes nothing is as good as ended.
            let _ = MadsimRuntime::timeout(PATIENCE, self.writer.write_all(&bytes)).await;
        }
    }

    /// It spoke: wrong only if a newer connection has taken its place, before it was asked at that.
    fn tell(&self, message: Option<Message>, asked: Option<Duration>) {
        let replaced = self.standing.replaced(self.number);
        let Some(since) = replaced.filter(|since| asked.is_none_or(|at| at > *since)) else {
            return;
        };
        let what = message.as_ref().map_or_else(
            || "a ping is answered".to_owned(),
            |message| format!("a message on {}", message.topic),
        );
        let text = format!("on connection {}, which was replaced: {what}", self.number);
        let fact = Fact::Stale { client: self.name.clone(), since, message };
        self.record.fact(&self.name, &text, fact);
    }
}
