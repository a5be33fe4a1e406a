//! A client's life: it connects, subscribes, listens, acknowledges (at times late), speaks if it is
//! a publisher, goes away and comes back.
//!
//! What it is given it acknowledges in order, so whatever the node lost after that is lost for
//! good: exactly what the invariants look at.

use std::collections::VecDeque;
use std::time::Duration;

use lorawan::DevEui;
use mqtt::{Client, ClientConfig, ClientEvent, Delivery, PacketId, Publish, Qos, Suback};
use openraft_rt::{AsyncRuntime, Select3, WatchReceiver as _};
use scenario::Scenario;

use super::super::field::world_now;
use super::super::log;
use super::super::operator::Account;
use super::super::record::Record;
use super::doors::Doors;
use super::habits::{Habits, PATIENCE, Parting};
use super::leftover::{LEFTOVERS_MAX, Leftover};
use super::publisher::{self, Publisher};
use super::{Mood, Part, Standing};
use crate::clocks::virtual_now;
use crate::dice::Seed;
use crate::net::{TcpReader, TcpStream, TcpWriter};
use crate::oracle::{Fact, Message};
use crate::runtime::{MadsimRuntime, WatchReceiver, sleep_virtual_until};

/// Pause between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes read at once.
pub(super) const READ_MAX: usize = 16 * 1024;
/// PINGREQ, for a client that does not know any more what it has been answered.
const PINGREQ: [u8; 2] = [0xC0, 0];

/// What a client wakes up for.
enum Wake {
    /// It was told something.
    Told,
    /// Bytes came.
    Bytes(bytes::Bytes),
    /// The stream is over.
    End,
    /// Something is due.
    Due,
}

/// A client; its task owns it.
pub(in super::super) struct AppClient {
    name: String,
    record: Record,
    publisher: Option<Publisher>,
    client: Client,
    doors: Doors,
    part: Part,
    /// Further clients publish: there is more to listen to than events.
    has_publishers: bool,
    config: ClientConfig,
    account: Account,
    habits: Habits,
    standing: Standing,
    ear: WatchReceiver<u64>,
    /// Which connection this is, from 1.
    number: u64,
    /// The node has confirmed its subscriptions in the session it has.
    in_force: bool,
    /// What it has to acknowledge, and when.
    owed: VecDeque<(Duration, PacketId)>,
    /// When it goes away of its own accord.
    leaves_at: Option<Duration>,
    /// Until when it then stays away.
    away_until: Option<Duration>,
    /// It does not try to connect before.
    again_at: Duration,
    /// When a slow client sends its next ping; `None`: it is not slow, or sends none.
    slow_ping: Option<Duration>,
    slow: bool,
}

impl AppClient {
    /// The client number `place` (from 0).
    pub(in super::super) fn new(
        scenario: &Scenario,
        seed: Seed,
        place: u32,
        (doors, account): (Doors, Account),
        devices: &[DevEui],
        record: &Record,
    ) -> Self {
        let name = format!("app{}", place + 1);
        let part = Part::of(&scenario.clients, place);
        let habits = Habits::new(scenario, seed, place, part);
        let publisher = match part {
            Part::Publisher { wide } => Some(Publisher::new(scenario, seed, place, wide, devices)),
            Part::Listener | Part::Onlooker { .. } => None,
        };
        let config = habits.config(&name, &account.user, &account.password);
        let standing = Standing::new(part);
        Self {
            client: Client::new(world_now(), config.clone()),
            name,
            record: record.clone(),
            publisher,
            doors,
            part,
            has_publishers: scenario.clients.publishers > 0,
            config,
            account,
            habits,
            ear: standing.ear(),
            standing,
            number: 0,
            in_force: false,
            owed: VecDeque::new(),
            leaves_at: None,
            away_until: None,
            again_at: Duration::ZERO,
            slow_ping: None,
            slow: false,
        }
    }

    /// What others may know of it.
    pub(in super::super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Connects, listens, reconnects.
    pub(in super::super) async fn run(mut self) {
        self.come_in_as(None);
        loop {
            self.stay_away().await;
            if let Some(account) = self.standing.take_account() {
                self.come_in_as(Some(account));
            }
            let server = self.doors.next(&self.standing.core());
            let connecting = MadsimRuntime::timeout(PATIENCE, TcpStream::connect(server));
            if let Ok(Ok(stream)) = connecting.await {
                self.converse(stream).await;
            }
            self.again_at = virtual_now() + AGAIN;
        }
    }

    /// Takes up an account; nothing of the last one's session is left.
    fn come_in_as(&mut self, account: Option<Account>) {
        if let Some(account) = account {
            self.config = self.habits.config(&self.name, &account.user, &account.password);
            self.account = account;
            self.client = Client::new(world_now(), self.config.clone());
            if let Some(publisher) = &mut self.publisher {
                publisher.forget();
            }
        }
        self.in_force = false;
        let text = format!("may see {}", self.account.sees);
        let (client, sees) = (self.name.clone(), self.account.sees.clone());
        self.record.fact(&self.name, &text, Fact::Account { client, sees });
    }

    /// Waits until it may connect.
    async fn stay_away(&mut self) {
        loop {
            let now = virtual_now();
            let own = self.away_until.filter(|_| !self.standing.is_resting());
            let until = self.again_at.max(own.unwrap_or_default());
            let away = self.standing.mood() == Mood::Away;
            if !away && until <= now {
                return;
            }
            let alarm = async {
                if away { std::future::pending().await } else { sleep_virtual_until(until).await }
            };
            let _ = MadsimRuntime::select2(self.ear.changed(), alarm).await;
        }
    }

    /// One connection, from CONNECT to its end.
    async fn converse(&mut self, stream: TcpStream) {
        let (mut reader, mut writer) = stream.split();
        self.begin();
        let parting = loop {
            if !self.take_events() {
                break None;
            }
            if let Some(bytes) = self.client.poll_transmit() {
                let writing = MadsimRuntime::timeout(PATIENCE, writer.write_all(&bytes));
                if !matches!(writing.await, Ok(Ok(()))) {
                    self.client.handle_end();
                }
                continue;
            }
            let parting = match self.wake(&mut reader).await {
                Wake::Told => self.told(),
                Wake::Bytes(bytes) => {
                    self.client.handle_bytes(world_now(), &bytes);
                    None
                }
                Wake::End => {
                    self.client.handle_end();
                    None
                }
                Wake::Due => self.do_what_is_due(&mut writer).await,
            };
            if parting.is_some() {
                break parting;
            }
        };
        if let Some(parting) = parting {
            self.leave(parting, reader, writer).await;
        }
        self.end();
    }

    fn begin(&mut self) {
        self.number += 1;
        self.client.reconnect(world_now());
        (self.slow, self.slow_ping) = (false, None);
        self.leaves_at = self.habits.stay().map(|stay| virtual_now() + stay);
        let (clean_start, persistent) = (self.habits.clean_start, self.habits.persistent);
        self.in_force &= !clean_start;
        let text = format!("connects{}, clean start: {clean_start}", self.doors.told());
        let (client, node) = (self.name.clone(), self.doors.node());
        let fact = Fact::Connecting { client, node, clean_start, persistent };
        self.record.fact(&self.name, &text, fact);
    }

    fn end(&mut self) {
        self.owed.clear();
        self.settle();
        if let Some(publisher) = &mut self.publisher
            && publisher.interrupted((&self.name, &self.doors.node()), &self.record)
        {
            // What may have been done is not asked for twice: this session is given up.
            self.client = Client::new(world_now(), self.config.clone());
        }
        let fact = Fact::Disconnected { client: self.name.clone() };
        self.record.fact(&self.name, "disconnected", fact);
    }

    async fn wake(&mut self, reader: &mut TcpReader) -> Wake {
        let (due, reads) = (self.due(), !self.slow);
        let read = async {
            if reads { reader.read(READ_MAX).await } else { std::future::pending().await }
        };
        let alarm = async {
            match due {
                Some(at) => sleep_virtual_until(at).await,
                None => std::future::pending().await,
            }
        };
        match MadsimRuntime::select3(self.ear.changed(), read, alarm).await {
            Select3::First(_) => Wake::Told,
            Select3::Second(Ok(bytes)) if !bytes.is_empty() => Wake::Bytes(bytes),
            Select3::Second(_) => Wake::End,
            Select3::Third(()) => Wake::Due,
        }
    }

    /// When it does something of its own accord next.
    fn due(&self) -> Option<Duration> {
        let leaves = self.leaves_at.filter(|_| !self.standing.is_resting());
        if self.slow {
            return leaves.into_iter().chain(self.slow_ping).min();
        }
        let client = self.client.poll_timeout();
        let client = client.map(|(at, _)| Duration::from_micros(at.as_micros()));
        let owed = self.owed.front().map(|(at, _)| *at);
        let speaks = self.publisher.as_ref().filter(|_| self.may_speak());
        let speaks = speaks.and_then(Publisher::next);
        leaves.into_iter().chain(client).chain(owed).chain(speaks).min()
    }

    fn may_speak(&self) -> bool {
        self.client.is_connected() && self.in_force && !self.standing.is_resting()
    }

    /// It was told something; whether and how it leaves for that.
    fn told(&mut self) -> Option<Parting> {
        if self.standing.is_resting() {
            for (at, _) in &mut self.owed {
                *at = virtual_now().min(*at);
            }
        }
        if self.standing.has_new_account() || self.doors.is_outside(&self.standing.core()) {
            return Some(Parting::Abruptly);
        }
        let slow = match self.standing.mood() {
            Mood::Away => return Some(self.habits.part().0),
            Mood::Slow => true,
            Mood::Here => false,
        };
        if slow != self.slow {
            self.slow = slow;
            let pings = slow && self.habits.pings_while_slow();
            self.slow_ping = pings.then(virtual_now);
            let text = if slow { "reads nothing from now on" } else { "reads again" };
            self.record.note(&self.name, text);
        }
        None
    }

    /// Whether and how it leaves of its own accord.
    async fn do_what_is_due(&mut self, writer: &mut TcpWriter) -> Option<Parting> {
        let now = virtual_now();
        if self.slow {
            if self.slow_ping.is_some_and(|at| at <= now) {
                self.slow_ping = Some(now + self.habits.ping_every());
                // Whether the node still takes them shows when it reads again.
                let _ = MadsimRuntime::timeout(PATIENCE, writer.write_all(&PINGREQ)).await;
            }
        } else {
            self.client.handle_timeout(world_now());
            while let Some((_, packet_id)) = self.owed.pop_front_if(|(at, _)| *at <= now) {
                // Whatever is not acknowledged comes again.
                let _ = self.client.acknowledge(world_now(), packet_id);
            }
            self.speak(now);
        }
        if self.standing.is_resting() || self.leaves_at.is_none_or(|at| at > now) {
            return None;
        }
        let (parting, pause) = self.habits.part();
        self.away_until = Some(now + pause);
        Some(parting)
    }

    fn speak(&mut self, now: Duration) {
        if !self.may_speak() {
            return;
        }
        let Some(publisher) = &mut self.publisher else { return };
        if publisher.next().is_some_and(|at| at <= now) {
            let scope = self.account.sees.trim_end_matches('#');
            let who = (self.name.as_str(), &*self.doors.node());
            let (publish, qos) = publisher.speak(scope, who, &self.record);
            // A full queue drops the oldest, which is one the node has long been asked for.
            let _ = self.client.publish(world_now(), publish, qos);
            self.settle();
        }
    }

    async fn leave(&mut self, parting: Parting, reader: TcpReader, mut writer: TcpWriter) {
        let may_be_silent = self.publisher.is_none()
            && self.client.is_connected()
            && self.standing.leftovers() < LEFTOVERS_MAX;
        match parting {
            Parting::Politely => {
                self.record.note(&self.name, "leaves");
                self.client.disconnect(world_now());
                if let Some(bytes) = self.client.poll_transmit() {
                    let _ = MadsimRuntime::timeout(PATIENCE, writer.write_all(&bytes)).await;
                }
            }
            Parting::Silently if may_be_silent => {
                self.record.note(&self.name, "walks away and leaves its connection open");
                let fresh = Client::new(world_now(), self.config.clone());
                let leftover = Leftover {
                    name: self.name.clone(),
                    number: self.number,
                    client: std::mem::replace(&mut self.client, fresh),
                    reader,
                    writer,
                    standing: self.standing.clone(),
                    record: self.record.clone(),
                };
                madsim::task::spawn(leftover.run());
                return;
            }
            Parting::Abruptly | Parting::Silently => {
                self.record.note(&self.name, "walks away");
                self.client.handle_end();
            }
        }
        self.take_events();
    }

    /// False when the connection is over.
    fn take_events(&mut self) -> bool {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connected(connack) => self.connected(connack.session_present),
                ClientEvent::Subscribed(suback) => self.subscribed(&suback),
                ClientEvent::Message(publish) => self.message(&publish),
                ClientEvent::Published(publish, reason) => {
                    if let Some(publisher) = &mut self.publisher {
                        let who = (self.name.as_str(), self.doors.node());
                        publisher.answered(&publish, reason, (who.0, &who.1), &self.record);
                    }
                    self.settle();
                }
                ClientEvent::Closed(cause) => {
                    self.record.note(&self.name, &format!("connection over: {cause}"));
                    return false;
                }
                ClientEvent::Unsubscribed(_) => {}
            }
        }
        true
    }

    fn connected(&mut self, session_present: bool) {
        self.doors.let_in();
        self.standing.connected(self.number);
        let persistent = self.habits.persistent;
        let text = format!("connected, session present: {session_present}");
        let fact = Fact::Connected { client: self.name.clone(), session_present, persistent };
        self.record.fact(&self.name, &text, fact);
        self.in_force &= session_present;
        if let Some(publisher) = &self.publisher {
            publisher.repeats(&self.name, &self.record);
        }
        if !self.in_force {
            let filters = self.filters();
            for (filter, _) in &filters {
                let fact = Fact::Subscribes { client: self.name.clone(), filter: filter.clone() };
                self.record.fact(&self.name, &format!("subscribes to {filter}"), fact);
            }
            let filters: Vec<_> = filters.iter().map(|(text, qos)| (text.as_str(), *qos)).collect();
            // A connection just accepted takes a subscription.
            let _ = self.client.subscribe(world_now(), &filters);
        }
        self.settle();
    }

    /// What it wants to hear, and how surely.
    fn filters(&self) -> Vec<(String, Qos)> {
        let account = &self.account;
        let surely = |filter: String| (filter, Qos::AtLeastOnce);
        let scope = account.sees.trim_end_matches('#');
        match self.part {
            Part::Listener => {
                let others: &[&str] =
                    if self.has_publishers { &["board/#", "state/#"] } else { &[] };
                let others = others.iter().map(|end| surely(format!("{scope}{end}")));
                [surely(account.filter.clone())].into_iter().chain(others).collect()
            }
            Part::Onlooker { .. } => vec![("#".to_owned(), Qos::AtMostOnce)],
            Part::Publisher { wide } => publisher::filters(scope, wide),
        }
    }

    fn subscribed(&mut self, suback: &Suback) {
        let filters = self.filters();
        for ((filter, _), reason) in filters.iter().zip(&suback.reasons) {
            if reason.is_error() {
                let text = format!("{} may not subscribe to {filter}: {reason:?}", self.name);
                self.record.violate("S19", text);
                return;
            }
            let qos = *reason as u8;
            let (client, filter) = (self.name.clone(), filter.clone());
            let text = format!("subscribed to {filter}");
            self.record.fact(&self.name, &text, Fact::Subscribed { client, filter, qos });
        }
        self.in_force = true;
        self.standing.change(|shown| shown.subscribed = true);
        if let Some(publisher) = &mut self.publisher {
            publisher.begin(virtual_now());
        }
        self.settle();
    }

    /// Tells the world whether anything is still open.
    fn settle(&self) {
        let settled = self.client.is_connected()
            && self.in_force
            && self.publisher.as_ref().is_none_or(Publisher::is_settled);
        self.standing.change(|shown| shown.settled = settled);
    }

    fn message(&mut self, publish: &Publish) {
        if let Some(packet_id) = publish.delivery.packet_id() {
            let hold = self.habits.hold();
            let hold = if self.standing.is_resting() { Duration::ZERO } else { hold };
            // In order: none before the one in front of it.
            let earliest = self.owed.back().map_or(Duration::ZERO, |(at, _)| *at);
            self.owed.push_back(((virtual_now() + hold).max(earliest), packet_id));
        }
        let topic = publish.topic.as_str();
        let levels: Vec<&str> = topic.split('/').collect();
        match levels.as_slice() {
            ["application", _, "device", _, "event", "up"] => self.event(publish),
            ["application", _, "device", _, "event", kind] => {
                self.record.note(&self.name, &format!("{kind} event"));
            }
            _ => {
                let message = message_of(publish);
                let text = format!("{topic}: {}", String::from_utf8_lossy(&message.payload));
                let fact = Fact::Received { client: self.name.clone(), message };
                self.record.fact(&self.name, &text, fact);
            }
        }
    }

    fn event(&self, publish: &Publish) {
        let body = serde_json::from_slice(&publish.payload).map_err(|error| error.to_string());
        match body.and_then(|body| log::uplink(&body)) {
            Ok(event) => {
                let id = event.id.clone();
                self.record.delivered(&self.name, event);
                let Message { topic, qos, dup, .. } = message_of(publish);
                let client = self.name.clone();
                self.record.state(Fact::DeliveredAs { client, id, topic, qos, dup });
            }
            Err(why) => {
                let text = format!("{} was given an event it cannot read: {why}", self.name);
                self.record.violate("S6", text);
            }
        }
    }
}

/// What came, as the facts tell it.
pub(super) fn message_of(publish: &Publish) -> Message {
    let dup = match publish.delivery {
        Delivery::AtMostOnce => false,
        Delivery::AtLeastOnce { dup, .. } | Delivery::ExactlyOnce { dup, .. } => dup,
    };
    Message {
        topic: publish.topic.as_str().to_owned(),
        payload: publish.payload.clone(),
        qos: publish.delivery.qos().as_u8(),
        retain: publish.retain,
        dup,
    }
}
