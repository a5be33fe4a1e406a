//! Persistent client sessions: one owner each, and what waits for it in order.

use std::collections::BTreeMap;

use clock::WallTime;
use mac::NodeId;
use mqtt::{TopicFilter, TopicName};
use store::limits::{CLIENT_SESSIONS_MAX, RETAINED_MAX, SESSION_QUEUE_MAX, SUBSCRIPTIONS_MAX};
use store::model::MqttScope;
use store::{EventRow, MqttMessage, MqttSubscription, Pointer, Queued, Refusal, Reply, Retained};

use super::{DONE, Decision, Model, in_use, invalid, limit_reached, need, not_found};

/// A session that outlives its connection.
pub(crate) struct ClientSession {
    pub(crate) client_id: String,
    pub(crate) account: String,
    pub(crate) fence: u64,
    pub(crate) node: Option<NodeId>,
    pub(crate) expiry_s: u32,
    /// Leader ticks at which it ends.
    pub(crate) ends_at: Option<u64>,
    pub(crate) subscriptions: BTreeMap<String, MqttSubscription>,
    pub(crate) queue: BTreeMap<u64, Queued>,
    pub(crate) next: u64,
    pub(crate) dropped: u64,
    pub(crate) created_at: WallTime,
}

impl Model {
    pub(super) fn open(
        &mut self,
        client_id: &str,
        account: &str,
        clean_start: bool,
        expiry_s: u32,
        node: NodeId,
    ) -> Decision {
        need(self.accounts.contains_key(account), not_found())?;
        let old = self.sessions.get(client_id);
        need(old.is_none_or(|old| old.account == account), in_use())?;
        need(old.is_some() || self.sessions.len() < CLIENT_SESSIONS_MAX, limit_reached())?;
        let present = old.is_some() && !clean_start;
        if !present {
            self.sessions.remove(client_id);
        }
        self.fences += 1;
        let created_at = self.now;
        let session = self.sessions.entry(client_id.to_owned()).or_insert_with(|| ClientSession {
            client_id: client_id.to_owned(),
            account: account.to_owned(),
            fence: 0,
            node: None,
            expiry_s: 0,
            ends_at: None,
            subscriptions: BTreeMap::new(),
            queue: BTreeMap::new(),
            next: 1,
            dropped: 0,
            created_at,
        });
        (session.fence, session.node) = (self.fences, Some(node));
        (session.expiry_s, session.ends_at) = (expiry_s, None);
        Ok(Reply::ClientSession { present, fence: self.fences })
    }

    /// The session, for its owner alone.
    fn owned(&mut self, client_id: &str, fence: u64) -> Result<&mut ClientSession, Refusal> {
        let session = self.sessions.get_mut(client_id).ok_or_else(not_found)?;
        if session.fence == fence { Ok(session) } else { Err(Refusal::Fenced) }
    }

    pub(super) fn close(&mut self, client_id: &str, fence: u64, end: bool) -> Decision {
        self.owned(client_id, fence)?;
        if end {
            self.sessions.remove(client_id);
        } else {
            self.disconnect(client_id);
        }
        DONE
    }

    /// The connection ends, and the session does when its time is over.
    pub(super) fn disconnect(&mut self, client_id: &str) {
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        session.node = None;
        session.ends_at = match session.expiry_s {
            u32::MAX => None,
            seconds => Some(self.ticks.saturating_add(u64::from(seconds) * 1_000_000)),
        };
        if session.expiry_s == 0 {
            self.sessions.remove(client_id);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        client_id: &str,
        fence: u64,
        add: &[MqttSubscription],
        remove: &[String],
    ) -> Decision {
        let session = self.owned(client_id, fence)?;
        let mut wanted = session.subscriptions.clone();
        wanted.retain(|filter, _| !remove.contains(filter));
        for subscription in add {
            let filter = &subscription.filter;
            let is_plain = TopicFilter::parse(filter).is_ok() && !filter.starts_with("$share/");
            need(is_plain, invalid())?;
            wanted.insert(filter.clone(), subscription.clone());
        }
        need(wanted.len() <= SUBSCRIPTIONS_MAX, limit_reached())?;
        session.subscriptions = wanted;
        DONE
    }

    pub(super) fn take(&mut self, client_id: &str, fence: u64, taken: &[u64]) -> Decision {
        let session = self.owned(client_id, fence)?;
        session.queue.retain(|sequence, _| !taken.contains(sequence));
        DONE
    }

    /// The highest QoS at which a session wants a topic; 0 for not at all.
    fn wants(session: &ClientSession, topic: &TopicName, publisher: &str) -> u8 {
        let own = session.client_id == publisher;
        let all = session.subscriptions.values().filter(|one| !(own && one.no_local));
        let matching = all.filter(|one| {
            TopicFilter::parse(&one.filter).is_ok_and(|filter| filter.matches(topic))
        });
        matching.map(|one| one.qos).max().unwrap_or(0)
    }

    pub(super) fn publish(&mut self, message: &MqttMessage) -> Decision {
        let topic = TopicName::parse(&message.topic).map_err(|_| invalid())?;
        let empty = message.payload.is_empty();
        let replaces = self.retained.contains_key(&message.topic);
        let has_room = empty || replaces || self.retained.len() < RETAINED_MAX;
        need(!message.retain || has_room, limit_reached())?;
        if message.retain {
            self.retained.remove(&message.topic);
            if !empty {
                let retained = Retained { message: message.clone(), at: self.now };
                self.retained.insert(message.topic.clone(), retained);
            }
        }
        if !message.queue {
            return DONE;
        }
        let publisher = &message.publisher;
        let places = self.sessions.values().filter_map(|session| {
            let qos = Self::wants(session, &topic, publisher).min(message.qos);
            let sees = self.sees_topic(session, &message.topic);
            (sees && qos > 0).then(|| (session.client_id.clone(), qos))
        });
        let places: Vec<_> = places.collect();
        if places.is_empty() {
            return DONE;
        }
        let number = u64::try_from(self.messages.len()).expect("few") + 1;
        self.messages.insert(number, (message.clone(), self.now));
        for (client_id, qos) in places {
            self.queue(&client_id, Queued { pointer: Pointer::Message(number), qos });
        }
        DONE
    }

    /// An account sees its own applications' topics and no others.
    fn sees_topic(&self, session: &ClientSession, topic: &str) -> bool {
        let below = |id| {
            let rest = topic.strip_prefix(&format!("application/{id}/"));
            rest.is_some_and(|rest| !rest.is_empty())
        };
        match self.accounts[&session.account].scope {
            MqttScope::All => true,
            MqttScope::Application(id) => below(id),
            MqttScope::Tenant(tenant) => {
                let mut his = self.applications.values().filter(|one| one.tenant_id == tenant);
                his.any(|one| below(one.id))
            }
        }
    }

    /// Application events go out at QoS 1.
    pub(super) fn queue_row(&mut self, row: &EventRow) {
        let topic = TopicName::parse(&row.topic()).expect("a topic of ours");
        let wanting = self.sessions.values().filter(|session| {
            let sees = match self.accounts[&session.account].scope {
                MqttScope::All => true,
                MqttScope::Tenant(id) => row.device.tenant_id == id,
                MqttScope::Application(id) => row.device.application_id == id,
            };
            sees && Self::wants(session, &topic, "") > 0
        });
        for client_id in wanting.map(|session| session.client_id.clone()).collect::<Vec<_>>() {
            self.queue(&client_id, Queued { pointer: Pointer::Event(row.sequence), qos: 1 });
        }
    }

    /// One place more; the oldest goes where there are too many, or where its row is gone.
    fn queue(&mut self, client_id: &str, place: Queued) {
        let first_row = self.first_row;
        let Some(session) = self.sessions.get_mut(client_id) else { return };
        session.queue.insert(session.next, place);
        session.next += 1;
        while let Some(oldest) = session.queue.first_entry() {
            let gone = matches!(oldest.get().pointer, Pointer::Event(row) if row < first_row);
            if !gone && session.queue.len() <= SESSION_QUEUE_MAX {
                break;
            }
            session.queue.pop_first();
            session.dropped += 1;
        }
    }
}
