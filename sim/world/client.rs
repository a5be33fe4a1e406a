//! An MQTT client as an integrator would run it: one persistent session, every event at QoS 1.
//!
//! It reconnects for ever. What it is given it acknowledges at once, so whatever the node lost
//! after that is lost for good: exactly what the invariants look at.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mqtt::{Client, ClientConfig, ClientEvent, Qos, Version};
use openraft_rt::{AsyncRuntime, Select2};

use super::field::world_now;
use super::log;
use super::operator::Account;
use super::record::Record;
use crate::net::{TcpReader, TcpStream, TcpWriter};
use crate::runtime::{MadsimRuntime, held, sleep_virtual, sleep_virtual_until};

/// Pause between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);
/// How long an attempt, or a write, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Keep-alive, in seconds: half-open connections are noticed within it.
const KEEP_ALIVE_S: u16 = 8;
/// How long the session outlives a connection, in seconds.
const SESSION_S: u32 = 86_400;
/// Bytes read at once.
const READ_MAX: usize = 16 * 1024;

/// What a client is up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// It listens.
    #[default]
    Here,
    /// It is not connected, and does not try.
    Away,
    /// It is connected and reads nothing.
    Slow,
}

#[derive(Debug, Default)]
struct Shown {
    subscribed: bool,
    mood: Mood,
    /// What it must come in with from now on.
    account: Option<Account>,
}

/// What others may know of a client, and tell it.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing(Arc<Mutex<Shown>>);

impl Standing {
    /// Whether it has ever been told that it is subscribed.
    pub(super) fn is_subscribed(&self) -> bool {
        held(&self.0).subscribed
    }

    /// Gives it another account.
    pub(super) fn set_account(&self, account: Account) {
        held(&self.0).account = Some(account);
    }

    /// Puts it into another mood.
    pub(super) fn set_mood(&self, mood: Mood) {
        held(&self.0).mood = mood;
    }
}

/// A client; its task owns it.
pub(super) struct AppClient {
    name: String,
    server: SocketAddr,
    filter: String,
    client: Client,
    standing: Standing,
    record: Record,
}

impl AppClient {
    /// The client number `place` (from 0): every other one speaks 3.1.1.
    pub(super) fn new(place: u32, server: SocketAddr, account: Account, record: &Record) -> Self {
        let name = format!("app{}", place + 1);
        let version = if place.is_multiple_of(2) { Version::V5 } else { Version::V311 };
        let mut config = ClientConfig::new(version, &name)
            .account(&account.user, &account.password)
            .persistent(SESSION_S);
        config.connect.keep_alive_secs = KEEP_ALIVE_S;
        config.answer_timeout = PATIENCE;
        Self {
            name,
            server,
            filter: account.filter,
            client: Client::new(world_now(), config),
            standing: Standing::default(),
            record: record.clone(),
        }
    }

    /// What others may know of it.
    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Connects, listens, reconnects.
    pub(super) async fn run(mut self) {
        loop {
            let connecting = MadsimRuntime::timeout(PATIENCE, TcpStream::connect(self.server));
            if let Ok(Ok(stream)) = connecting.await {
                self.client.reconnect(world_now());
                let (mut reader, mut writer) = stream.split();
                self.converse(&mut reader, &mut writer).await;
            }
            sleep_virtual(AGAIN).await;
        }
    }

    async fn converse(&mut self, reader: &mut TcpReader, writer: &mut TcpWriter) {
        loop {
            while let Some(event) = self.client.poll_event() {
                if !self.take(event) {
                    return;
                }
            }
            if let Some(bytes) = self.client.poll_transmit() {
                let writing = MadsimRuntime::timeout(PATIENCE, writer.write_all(&bytes));
                if !matches!(writing.await, Ok(Ok(()))) {
                    self.client.handle_end();
                }
                continue;
            }
            let deadline = self.client.poll_timeout().map(|(at, _)| at);
            let alarm = async {
                match deadline {
                    Some(at) => sleep_virtual_until(Duration::from_micros(at.as_micros())).await,
                    None => std::future::pending().await,
                }
            };
            match MadsimRuntime::select2(reader.read(READ_MAX), alarm).await {
                Select2::First(Ok(bytes)) if !bytes.is_empty() => {
                    self.client.handle_bytes(world_now(), &bytes);
                }
                Select2::First(_) => self.client.handle_end(),
                Select2::Second(()) => self.client.handle_timeout(world_now()),
            }
        }
    }

    /// False when the connection is over.
    fn take(&mut self, event: ClientEvent) -> bool {
        match event {
            ClientEvent::Connected(connack) => {
                let text = format!("connected, session present: {}", connack.session_present);
                self.record.note(&self.name, &text);
                if !connack.session_present {
                    if self.standing.is_subscribed() {
                        let text = format!("{}: the persistent session is gone", self.name);
                        self.record.violate("S19", text);
                    }
                    let filter = [(self.filter.as_str(), Qos::AtLeastOnce)];
                    // A connection just accepted takes a subscription.
                    let _ = self.client.subscribe(world_now(), &filter);
                }
            }
            ClientEvent::Subscribed(_) => {
                self.record.note(&self.name, "subscribed");
                held(&self.standing.0).subscribed = true;
            }
            ClientEvent::Message(publish) => self.message(publish.topic.as_str(), &publish.payload),
            ClientEvent::Closed(cause) => {
                self.record.note(&self.name, &format!("connection over: {cause}"));
                return false;
            }
            ClientEvent::Published(..) | ClientEvent::Unsubscribed(_) => {}
        }
        true
    }

    fn message(&self, topic: &str, payload: &Bytes) {
        if !topic.ends_with("/event/up") {
            let kind = topic.rsplit('/').next().unwrap_or_default();
            self.record.note(&self.name, &format!("{kind} event"));
            return;
        }
        let body = serde_json::from_slice(payload).map_err(|error| error.to_string());
        match body.and_then(|body| log::uplink(&body)) {
            Ok(event) => self.record.delivered(&self.name, event),
            Err(why) => {
                let text = format!("{} was given an event it cannot read: {why}", self.name);
                self.record.violate("S6", text);
            }
        }
    }
}
