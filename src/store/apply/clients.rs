//! Persistent client sessions: who owns one, what it subscribes to, when it ends. Ownership of a
//! client identifier is decided here, by a fencing number that only rises (dangers B20).

use std::collections::BTreeMap;
use std::sync::Arc;

use mac::NodeId;
use mqtt::{Subscription, TopicFilter};
use sabotage::Bug;

use super::{Applied, Change, Decision};
use crate::client_session::ClientSession;
use crate::limits::{CLIENT_SESSIONS_MAX, SUBSCRIPTIONS_MAX};
use crate::{MqttSubscription, Refusal, Reply, State};

/// A connection that asks for a persistent session.
pub(super) struct Opening<'a> {
    pub(super) client_id: &'a str,
    pub(super) account: &'a str,
    pub(super) clean_start: bool,
    pub(super) expiry_s: u32,
    pub(super) node: NodeId,
}

impl State {
    pub(super) fn open_client_session(
        &mut self,
        opening: &Opening<'_>,
        applied: &mut Applied,
    ) -> Decision {
        let Opening { client_id, account, .. } = *opening;
        if !self.mqtt_accounts.contains_key(account) {
            return Err(Refusal::NotFound(format!("MQTT account {account}")));
        }
        let old = self.client_sessions.get(client_id).cloned();
        match &old {
            Some(old) if old.account != account => {
                let text = format!("client identifier {client_id} belongs to another account");
                return Err(Refusal::InUse(text));
            }
            None if self.client_sessions.len() >= CLIENT_SESSIONS_MAX => {
                let text = format!("{CLIENT_SESSIONS_MAX} persistent sessions exist already");
                return Err(Refusal::LimitReached(text));
            }
            Some(_) | None => {}
        }
        if let Some((old, node)) = old.as_ref().and_then(|old| Some((old, old.node?))) {
            let (client_id, fence) = (old.client_id.clone(), old.fence);
            applied.changes.push(Change::ClientTaken { client_id, node, fence });
        }
        if opening.clean_start {
            self.drop_session(client_id);
        }
        let present = old.is_some() && !opening.clean_start;
        self.core.last_fence += 1;
        let fence = self.core.last_fence;
        let (node, expiry_s) = (Some(opening.node), opening.expiry_s);
        if present {
            self.change_client(client_id, |session| {
                *session =
                    ClientSession { fence, node, expiry_s, ends_at_ticks: None, ..session.clone() };
            });
        } else {
            self.insert_client(ClientSession {
                client_id: client_id.to_owned(),
                account: account.to_owned(),
                fence,
                node,
                expiry_s,
                ends_at_ticks: None,
                subscriptions: BTreeMap::new(),
                queue: imbl::OrdMap::new(),
                next: 1,
                dropped: 0,
                created_at: self.time(),
            });
        }
        let (client_id, node) = (client_id.to_owned(), opening.node);
        applied.changes.push(Change::ClientOpened { client_id, node, present });
        Ok(Reply::ClientSession { present, fence })
    }

    pub(super) fn close_client_session(
        &mut self,
        client_id: &str,
        fence: u64,
        end: bool,
        applied: &mut Applied,
    ) -> Decision {
        let session = self.owned_session(client_id, fence)?;
        if end || session.expiry_s == 0 {
            self.end_session(client_id, applied);
        } else {
            self.disconnect(client_id);
        }
        Ok(Reply::Done)
    }

    /// The session, if the connection with `fence` is still its owner.
    pub(super) fn owned_session(
        &self,
        client_id: &str,
        fence: u64,
    ) -> Result<&ClientSession, Refusal> {
        match self.client_session(client_id) {
            None => Err(Refusal::NotFound(format!("session {client_id}"))),
            Some(session) if session.fence != fence => Err(Refusal::Fenced),
            Some(session) => Ok(session),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        client_id: &str,
        fence: u64,
        add: &[MqttSubscription],
        remove: &[String],
    ) -> Decision {
        let session = self.owned_session(client_id, fence)?;
        let mut wanted = session.subscriptions.clone();
        remove.iter().for_each(|filter| {
            wanted.remove(filter);
        });
        for subscription in add {
            plain_filter(&subscription.filter)?;
            wanted.insert(subscription.filter.clone(), subscription.clone());
        }
        if wanted.len() > SUBSCRIPTIONS_MAX {
            let text = format!("a session has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(Refusal::LimitReached(text));
        }
        for filter in remove.iter().filter_map(|filter| filter.parse::<TopicFilter>().ok()) {
            self.index.subscriptions.remove(client_id, &filter);
        }
        for subscription in add {
            if let Ok(filter) = subscription.filter.parse() {
                self.index.subscriptions.add(client_id, &filter, subscription);
            }
        }
        self.change_client(client_id, |session| session.subscriptions = wanted);
        Ok(Reply::Done)
    }

    /// The connection is gone, the session waits for its client.
    fn disconnect(&mut self, client_id: &str) {
        let now = self.core.ticks;
        self.change_client(client_id, |session| {
            session.node = None;
            let lives = u64::from(session.expiry_s).saturating_mul(1_000_000);
            let has_end = session.expiry_s != u32::MAX;
            session.ends_at_ticks = has_end.then_some(now.saturating_add(lives));
        });
    }

    /// Every connection that `node` had is gone.
    pub(super) fn disconnect_clients_of(&mut self, node: NodeId, applied: &mut Applied) {
        let connected = self.client_sessions.values().filter(|one| one.node == Some(node));
        let connected = connected.map(|one| (one.client_id.clone(), one.expiry_s));
        for (client_id, expiry_s) in connected.collect::<Vec<_>>() {
            if sabotage::planted(Bug::QueueLostAtStart) {
                self.change_client(&client_id, |session| session.queue.clear());
            }
            if expiry_s == 0 {
                self.end_session(&client_id, applied);
            } else {
                self.disconnect(&client_id);
            }
        }
    }

    /// Sessions whose client has stayed away for too long.
    pub(super) fn end_expired_sessions(&mut self, applied: &mut Applied) {
        while let Some((_, client_id)) =
            self.index.session_ends.get_min().filter(|(end, _)| *end <= self.core.ticks).cloned()
        {
            self.end_session(&client_id, applied);
        }
    }

    /// Ends every session of an account.
    pub(super) fn end_sessions_of(&mut self, account: &str, applied: &mut Applied) {
        let all = self.index.sessions_of_account.range((account.to_owned(), String::new())..);
        let his = all.take_while(|(of, _)| of == account).map(|(_, client_id)| client_id.clone());
        for client_id in his.collect::<Vec<_>>() {
            self.end_session(&client_id, applied);
        }
    }

    fn end_session(&mut self, client_id: &str, applied: &mut Applied) {
        if let Some(session) = self.drop_session(client_id) {
            let (node, fence) = (session.node, session.fence);
            let client_id = session.client_id.clone();
            applied.changes.push(Change::ClientEnded { client_id, node, fence });
        }
    }

    fn drop_session(&mut self, client_id: &str) -> Option<Arc<ClientSession>> {
        let session = self.client_sessions.remove(client_id)?;
        self.index.session_changed(Some(&session), None);
        for filter in session.subscriptions.keys().filter_map(|filter| filter.parse().ok()) {
            self.index.subscriptions.remove(client_id, &filter);
        }
        for place in session.queue.values() {
            self.release(place.pointer);
        }
        Some(session)
    }

    fn insert_client(&mut self, session: ClientSession) {
        let session = Arc::new(session);
        self.index.session_changed(None, Some(&session));
        self.client_sessions.insert(session.client_id.clone(), session);
    }

    /// Changes a session in place, and the index of owners and ends with it.
    pub(super) fn change_client(
        &mut self,
        client_id: &str,
        change: impl FnOnce(&mut ClientSession),
    ) {
        let Some(session) = self.client_sessions.get_mut(client_id) else { return };
        let before = session.ends_at_ticks;
        change(Arc::make_mut(session));
        let after = session.ends_at_ticks;
        if before == after {
            return;
        }
        if let Some(end) = before {
            self.index.session_ends.remove(&(end, client_id.to_owned()));
        }
        if let Some(end) = after {
            self.index.session_ends.insert((end, client_id.to_owned()));
        }
    }
}

/// A filter that a persistent session may have: groups share among connected clients only.
fn plain_filter(text: &str) -> Result<(), Refusal> {
    match text.parse::<Subscription>() {
        Ok(Subscription { group: None, .. }) => Ok(()),
        Ok(Subscription { group: Some(_), .. }) => {
            let text = "persistent sessions have no shared subscriptions";
            Err(Refusal::Invalid(text.into()))
        }
        Err(error) => Err(Refusal::Invalid(error.to_string())),
    }
}
