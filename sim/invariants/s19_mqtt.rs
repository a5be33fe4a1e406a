//! S19, MQTT: at QoS 1 at least once while the session persists, at QoS 0 at most once; DUP only on
//! re-delivery; what one publisher says on one topic, and the rows of the event log, in order;
//! nothing that nobody said; nothing that an account must not see; one live connection per client;
//! a session that is kept is never lost; what is retained is the last acknowledged.
//!
//! Source: requirements, part G, S19; MQTT 5.0 §3.1.2.4, §3.3.1, §4.3, §4.4, §4.6, and 3.1.1
//! likewise. The oracle is a broker that floods ([`flood`]): whoever was subscribed when something
//! was said and acknowledged must get it. Whether all has arrived is decided at rest, for the
//! clients that must work then. (QoS 2 and wills are not watched: nobody uses them here.)
//!
//! Of several nodes each remembers what it has itself sent a client, until it starts again or the
//! client has turned to another: what comes from a memory that is new needs no DUP, and to a
//! session that begins there what was decided before may come once more, if that node lags. An
//! attempt that got no answer may take the session over later, and make the node of now forget. And
//! a node that is cut off cannot know that a connection was replaced elsewhere: that is judged in
//! calm alone. A session that ends with its connection is known to its own node alone: under its
//! name another one may live elsewhere until its keep-alive ends. What is retained a follower knows
//! a moment after the acknowledgement.

mod flood;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use mqtt::{TopicFilter, TopicName};

use super::{Invariant, Violation, violation};
use crate::oracle::{Event, Fact, Message, Reading, Seen};
use flood::{Flood, Said};
use session::{Asked, Client, Item, Kept, Link, Owed};

/// The QoS of events.
const EVENT_QOS: u8 = 1;
/// How long after an acknowledgement another node may not yet know, when nothing is wrong.
const FOLLOWS: Duration = Duration::from_millis(500);
/// How long after an attempt to connect that got no answer the log may still open its session.
const LATE_MAX: Duration = Duration::from_secs(30);

/// Watches S19.
#[derive(Debug, Default)]
pub struct Mqtt {
    flood: Flood,
    clients: BTreeMap<String, Client>,
    /// When each reading was first sent.
    sent: BTreeMap<Reading, Duration>,
    /// The reading of each event.
    readings: BTreeMap<String, Reading>,
    /// Faults in force, and when one last began or ended.
    faults: u32,
    disturbed: Option<Duration>,
    calm: Duration,
    /// Starts of each node.
    starts: BTreeMap<String, u64>,
    /// Who must have got everything, once that is decided.
    core: Option<Vec<String>>,
    /// A disk has lost something, and nobody can say what: nothing is promised any more.
    void: bool,
}

/// How something came.
struct Coming<'a> {
    item: Item,
    topic: &'a str,
    qos: u8,
    dup: bool,
    retain: bool,
    /// The QoS it was published at.
    published: u8,
    /// When it was first sent.
    since: Option<Duration>,
    /// How often its publisher has sent it.
    times: u32,
}

impl Mqtt {
    fn client(&mut self, name: &str) -> &mut Client {
        self.clients.entry(name.to_owned()).or_default()
    }

    fn account(&mut self, name: &str, sees: &str) {
        let connections = self.client(name).connections;
        let sees = TopicFilter::parse(sees).ok();
        *self.client(name) = Client { sees, connections, ..Client::default() };
    }

    fn connecting(
        &mut self,
        (at, name, node): (Duration, &str, &str),
        clean_start: bool,
        persistent: bool,
    ) {
        let starts = self.starts.get(node).copied().unwrap_or(0);
        let client = self.client(name);
        let asked = (node.to_owned(), starts);
        if client.unanswered && client.asks.0 != node {
            client.haunted_until = at + LATE_MAX;
        }
        client.unanswered = true;
        client.roams |= !client.asks.0.is_empty() && client.asks.0 != node;
        if client.asks != asked || at < client.haunted_until {
            (client.asks, client.memories) = (asked, client.memories + 1);
            if clean_start || !persistent {
                client.lightly.clear();
            }
        }
        (client.clean_start, client.persistent) = (clean_start, persistent);
        client.of_the_past = false;
        if clean_start {
            client.forget_session();
        }
        client.kept = match client.kept {
            // The answer may never come, and the session be there all the same.
            Kept::No if persistent => Kept::Maybe,
            // A clean start that is not answered may have come before or not at all.
            Kept::Yes if clean_start => Kept::Maybe,
            kept @ (Kept::No | Kept::Maybe | Kept::Yes) => kept,
        };
    }

    fn connected(&mut self, name: &str, at: Duration, present: bool) -> Option<String> {
        let client = self.client(name);
        client.unanswered = false;
        if client.of_the_past {
            return None;
        }
        let wrong = match (present, client.clean_start, client.kept) {
            (true, true, _) => Some("a clean start found a session"),
            (true, false, Kept::No) => Some("a session out of nothing"),
            (false, false, Kept::Yes) => Some("the persistent session is gone"),
            (true | false, false, Kept::Maybe | Kept::Yes)
            | (false, true, _)
            | (false, false, Kept::No) => None,
        };
        if !present {
            client.forget_session();
        }
        client.newest.retain(|(_, _, qos), _| *qos > 0);
        client.connections += 1;
        let memory = client.memories;
        client.link = Some(Link { since: at, resumed: present, memory });
        client.kept = if client.persistent { Kept::Yes } else { Kept::No };
        wrong.map(|what| format!("{name} connected: {what}"))
    }

    fn disconnected(&mut self, name: &str) {
        let client = self.client(name);
        client.link = None;
        if !client.persistent {
            client.forget_session();
        }
    }

    fn subscribes(&mut self, name: &str, at: Duration, text: &str) {
        let Ok(filter) = TopicFilter::parse(text) else { return };
        let fresh = Asked { filter, first: at, last: at, granted: None };
        self.client(name).asked.entry(text.to_owned()).or_insert(fresh).last = at;
    }

    fn subscribed(&mut self, name: &str, at: Duration, text: &str, qos: u8) -> Option<String> {
        let client = self.clients.get_mut(name)?;
        let Some(asked) = client.asked.get_mut(text) else {
            return Some(format!("{name} is granted {text}, which it has not asked for"));
        };
        let since = asked.granted.map_or(at, |(_, since)| since);
        asked.granted = Some((qos, since));
        if qos > 0 && client.persistent {
            let owed = self.flood.retained(&asked.filter, asked.last, at);
            client.owed.extend(owed.into_iter().map(|(topic, any_of)| Owed { topic, any_of }));
        }
        None
    }

    /// A message of a publisher has reached a client.
    fn received(&mut self, at: Duration, name: &str, message: &Message) -> Vec<String> {
        let Some(said) = self.flood.said(&message.payload).cloned() else {
            if self.flood.is_lost(&message.payload) {
                return Vec::new();
            }
            return vec![format!("phantom: {name} got {message:?}, which nobody has said")];
        };
        let mut wrong = Vec::new();
        if said.topic.as_str() != message.topic {
            wrong.push(format!("{name} got {message:?}, which was said on {}", said.topic));
        }
        let coming = Coming {
            item: Item::Message(message.payload.clone()),
            topic: &message.topic,
            qos: message.qos,
            dup: message.dup,
            retain: message.retain,
            published: said.qos,
            since: Some(said.first),
            times: said.times,
        };
        if message.retain {
            wrong.extend(self.retained((at, name), &said, message));
        } else {
            wrong.extend(self.in_line(name, &said, message));
        }
        wrong.extend(self.came(name, &coming));
        let client = self.client(name);
        client.owed.retain(|owed| !owed.any_of.contains(&message.payload));
        wrong
    }

    /// What comes as retained must have been the last, unless the node may not know of that one.
    fn retained(
        &self,
        (at, name): (Duration, &str),
        said: &Said,
        message: &Message,
    ) -> Option<String> {
        if !said.retain {
            return Some(format!("{name} got {message:?}, which was not to be retained"));
        }
        let client = self.clients.get(name)?;
        // What comes again may answer an earlier SUBSCRIBE of the session.
        let moment = |asked: &Asked| if message.dup { asked.first } else { asked.last };
        let asked = client.matching(&said.topic).map(moment).max()?;
        let behind = if self.starts.len() > 1 { FOLLOWS } else { Duration::ZERO };
        let asked = asked.saturating_sub(behind);
        (self.flood.is_superseded(said, asked) && !self.may_lag(at, Duration::ZERO)).then(|| {
            format!("{name} got {message:?} as retained, and a later one was acknowledged before")
        })
    }

    /// What one publisher says on one topic comes in the order in which it was said.
    fn in_line(&mut self, name: &str, said: &Said, message: &Message) -> Option<String> {
        let client = self.client(name);
        let asked = client.matching(&said.topic).map(|asked| asked.first).min();
        let long_ago = said.acknowledged.zip(asked).is_some_and(|(done, asked)| done < asked);
        if long_ago {
            return Some(format!("{name} got {message:?}, said before it had subscribed"));
        }
        if client.got.contains_key(&Item::Message(message.payload.clone())) {
            return None;
        }
        let line = (said.publisher.clone(), said.topic.clone(), message.qos);
        let newest = client.newest.entry(line).or_insert((said.number, said.first));
        if newest.0 <= said.number {
            *newest = (said.number, said.first);
            return None;
        }
        // Said again behind the later one, and the first time not heard.
        (said.last <= newest.1).then(|| {
            format!("out of order: {name} got {message:?} after a later one of the publisher")
        })
    }

    /// An event has reached a client.
    fn event(&mut self, name: &str, id: &str, topic: &str, (qos, dup): (u8, bool)) -> Vec<String> {
        let reading = self.readings.get(id);
        let since = reading.and_then(|reading| self.sent.get(reading)).copied();
        let item = Item::Event(id.to_owned());
        let client = self.client(name);
        if !client.got.contains_key(&item) {
            client.events.push(id.to_owned());
        }
        let published = EVENT_QOS;
        let coming = Coming { item, topic, qos, dup, retain: false, published, since, times: 1 };
        self.came(name, &coming)
    }

    /// What holds for everything that comes.
    fn came(&mut self, name: &str, coming: &Coming<'_>) -> Vec<String> {
        let client = self.client(name);
        // Everything was lost a moment ago: what is on its way still proves nothing.
        let Some(link) = client.link else { return Vec::new() };
        let mut wrong: Vec<String> =
            [may_see(client, coming), is_wanted(client, coming), dup(client, coming)]
                .into_iter()
                .flatten()
                .collect();
        wrong.extend(repeats(client, coming, link.memory));
        let what = format!("{name} got {:?} on {}", coming.item, coming.topic);
        wrong.into_iter().map(|why| format!("{what}: {why}")).collect()
    }

    /// Whether a node may be cut off from what the others have decided.
    fn may_lag(&self, at: Duration, since: Duration) -> bool {
        let disturbed = self.disturbed.is_some_and(|then| at < then.max(since) + self.calm);
        self.starts.len() > 1 && (self.faults > 0 || disturbed)
    }

    /// A connection that was replaced has said something.
    fn stale(
        &self,
        (at, name): (Duration, &str),
        since: Duration,
        message: Option<&Message>,
    ) -> Option<String> {
        let unknown = self.clients.get(name).is_some_and(|one| one.roams && !one.persistent);
        if unknown || self.may_lag(at, since) {
            return None;
        }
        let newer = match message {
            None => true,
            Some(message) => {
                self.flood.said(&message.payload).is_some_and(|said| said.first > since)
            }
        };
        newer.then(|| {
            let at = since.as_secs_f64();
            format!(
                "two live connections of {name}: one that was replaced at {at:.6}s got \
                 {message:?}"
            )
        })
    }

    /// A message that a client of the core has not got.
    fn missing(&self, core: &[String]) -> Option<String> {
        let lasting =
            |(name, client): &(&String, &Client)| core.contains(name) && client.is_lasting();
        self.clients.iter().filter(lasting).find_map(|(name, client)| {
            let owed = client
                .owed
                .first()
                .map(|owed| format!("{name} has not got what is retained on {}", owed.topic));
            owed.or_else(|| self.missing_message(name, client))
        })
    }

    /// What was acknowledged after it had subscribed, and the last that was retained since it
    /// asked:
    /// that came to it as retained, or as said, or a later one did.
    fn missing_message(&self, name: &str, client: &Client) -> Option<String> {
        self.flood.all().find_map(|(payload, said)| {
            let acknowledged = said.acknowledged.filter(|_| said.qos > 0)?;
            let sees = client.sees.as_ref().is_some_and(|sees| sees.matches(&said.topic));
            let last = || {
                said.retain
                    && client.asked_before(&said.topic, acknowledged)
                    && !self.flood.is_superseded(said, Duration::MAX)
            };
            let due = client.subscribed_at(&said.topic, said.first) || last();
            let got = client.got.contains_key(&Item::Message(payload.clone()));
            (sees && due && !got).then(|| {
                let text = String::from_utf8_lossy(payload);
                format!("{name} has not got {text} on {}, which was acknowledged", said.topic)
            })
        })
    }

    /// The event log that remains tells in which order events had to come, and which.
    fn ended(&self, log: &[Event]) -> Vec<String> {
        let places: BTreeMap<&str, usize> =
            log.iter().enumerate().map(|(place, event)| (event.id.as_str(), place)).collect();
        let mut wrong = Vec::new();
        for (name, client) in &self.clients {
            let came: Vec<(usize, &str)> = client
                .events
                .iter()
                .filter_map(|id| Some((*places.get(id.as_str())?, id.as_str())))
                .collect();
            let turned = came.windows(2).find(|pair| pair[0].0 > pair[1].0);
            wrong.extend(turned.map(|pair| {
                format!("out of order: {name} got event {} before event {}", pair[0].1, pair[1].1)
            }));
        }
        let core = self.core.iter().flatten();
        for (name, client) in core.filter_map(|name| self.clients.get_key_value(name)) {
            wrong.extend(self.missing_event(name, client, log));
        }
        wrong
    }

    fn missing_event(&self, name: &str, client: &Client, log: &[Event]) -> Option<String> {
        if !client.is_lasting() {
            return None;
        }
        let events =
            client.asked.values().filter(|asked| asked.filter.as_str().contains("/event/"));
        let granted = events.filter_map(|asked| asked.granted).filter(|(qos, _)| *qos > 0);
        let since = granted.map(|(_, since)| since).min()?;
        log.iter().find_map(|event| {
            let later = self.sent.get(&event.reading).is_some_and(|at| *at >= since);
            let got = client.got.contains_key(&Item::Event(event.id.clone()));
            (later && !got).then(|| format!("{name} has not got event {event:?}"))
        })
    }

    fn lose_all(&mut self) {
        self.flood.lose_all();
        for client in self.clients.values_mut() {
            client.forget_session();
            (client.link, client.kept, client.of_the_past) = (None, Kept::Maybe, true);
        }
    }
}

/// ACL: the account may see the topic.
fn may_see(client: &Client, coming: &Coming<'_>) -> Option<String> {
    let topic = TopicName::parse(coming.topic).ok()?;
    let sees = client.sees.as_ref()?;
    (!sees.matches(&topic)).then(|| format!("its account may see {} alone", sees.as_str()))
}

/// It comes to whoever has asked for it, at the lower of two QoS.
fn is_wanted(client: &Client, coming: &Coming<'_>) -> Option<String> {
    let topic = TopicName::parse(coming.topic).ok()?;
    let Some(granted) = client.matching(&topic).map(|asked| asked.granted).max() else {
        return Some("it has not asked for that".to_owned());
    };
    let (granted, _) = granted?;
    let lower = granted.min(coming.published);
    (coming.qos != lower).then(|| format!("at QoS {} instead of {lower}", coming.qos))
}

/// DUP: only for what was sent before, on an earlier connection of the same session.
fn dup(client: &Client, coming: &Coming<'_>) -> Option<String> {
    if !coming.dup {
        return None;
    }
    if coming.qos == 0 {
        return Some("DUP at QoS 0".to_owned());
    }
    match client.link {
        Some(Link { resumed: false, .. }) => Some("DUP in a new session".to_owned()),
        Some(Link { since, .. }) if coming.since.is_some_and(|first| first > since) => {
            Some("DUP, though it was said on this connection's time".to_owned())
        }
        Some(_) | None => None,
    }
}

/// Counts how often it came, which has its bounds: a publisher may say a thing again, and a node
/// that restarts forgets what it has sent, and another does not know.
fn repeats(client: &mut Client, coming: &Coming<'_>, memory: u64) -> Vec<String> {
    let connection = client.connections;
    let got = client.got.entry(coming.item.clone()).or_default();
    if coming.retain {
        return Vec::new();
    }
    if got.connection != connection {
        (got.connection, got.here) = (connection, 0);
    }
    if got.memory != memory {
        (got.memory, got.plain) = (memory, 0);
    }
    got.here += 1;
    got.plain += u32::from(!coming.dup);
    let (here, plain) = (got.here, got.plain);
    let mut wrong = Vec::new();
    if coming.qos == 0 {
        let times = client.lightly.entry(coming.item.clone()).or_default();
        *times += 1;
        if *times > coming.times {
            wrong.push(format!("{times} times at QoS 0, said {} times", coming.times));
        }
    } else if here > coming.times {
        wrong.push(format!("{here} times on one connection, said {} times", coming.times));
    } else if plain > coming.times {
        wrong.push(format!("{plain} times without DUP, said {} times", coming.times));
    }
    wrong
}

impl Mqtt {
    /// What happened and can break nothing by itself.
    #[expect(clippy::wildcard_enum_match_arm, reason = "others concern other promises")]
    fn note(&mut self, at: Duration, fact: &Fact) {
        match fact {
            Fact::UplinkSent { reading, .. } => {
                self.sent.entry(reading.clone()).or_insert(at);
            }
            Fact::Started { node } => *self.starts.entry(node.clone()).or_default() += 1,
            Fact::Begins(setting) => self.calm = setting.calm,
            Fact::Fault { begins, .. } => {
                self.faults = self.faults.saturating_add_signed(if *begins { 1 } else { -1 });
                self.disturbed = Some(at);
            }
            Fact::DiskLost { wiped: false, .. } => self.void = true,
            Fact::DiskLost { wiped: true, .. } => self.lose_all(),
            Fact::Account { client, sees } => self.account(client, sees),
            Fact::Connecting { client, node, clean_start, persistent } => {
                self.connecting((at, client, node), *clean_start, *persistent);
            }
            Fact::Disconnected { client } => self.disconnected(client),
            Fact::Subscribes { client, filter } => self.subscribes(client, at, filter),
            Fact::Published { message, acknowledged: true, .. } => {
                self.flood.acknowledge(at, &message.payload);
            }
            Fact::Delivered { event, .. } => {
                self.readings.insert(event.id.clone(), event.reading.clone());
            }
            Fact::Rested { core } => self.core = Some(core.clone()),
            _ => {}
        }
    }

    /// What is wrong with what happened.
    #[expect(clippy::wildcard_enum_match_arm, reason = "others concern other promises")]
    fn judge(&mut self, at: Duration, fact: &Fact) -> Vec<String> {
        match fact {
            Fact::Connected { client, session_present, .. } => {
                self.connected(client, at, *session_present).into_iter().collect()
            }
            Fact::Subscribed { client, filter, qos } => {
                self.subscribed(client, at, filter, *qos).into_iter().collect()
            }
            Fact::Published { client, message, acknowledged: false } => {
                self.flood.send(at, client, message).err().into_iter().collect()
            }
            Fact::Received { client, message } => self.received(at, client, message),
            Fact::DeliveredAs { client, id, topic, qos, dup } => {
                self.event(client, id, topic, (*qos, *dup))
            }
            Fact::Stale { client, since, message } => {
                self.stale((at, client), *since, message.as_ref()).into_iter().collect()
            }
            Fact::Rested { core } => self.missing(core).into_iter().collect(),
            Fact::Ended { log } => self.ended(log),
            _ => Vec::new(),
        }
    }
}

impl Invariant for Mqtt {
    fn name(&self) -> &'static str {
        "S19"
    }

    fn observe(&mut self, seen: &Seen) -> Vec<Violation> {
        let at = seen.at;
        if self.void {
            return Vec::new();
        }
        self.note(at, &seen.fact);
        let wrong = self.judge(at, &seen.fact);
        wrong.into_iter().map(|text| violation("S19", seen, text)).collect()
    }

    fn waiting(&self, core: &[String]) -> Option<String> {
        if self.void { None } else { self.missing(core) }
    }
}
