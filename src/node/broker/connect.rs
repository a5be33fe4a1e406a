//! From CONNECT to CONNACK, and the end of a connection.
//!
//! An account is needed: there is no anonymous access. A wrong name and a wrong password are
//! answered alike.

use clock::Duration;
use mqtt::{Accept, Closed, Connect, Packet, ReasonCode, Session, Version, Will};
use rand_chacha::rand_core::Rng;
use sha2::{Digest, Sha256};
use store::model::{MqttAccount, PasswordHash};
use store::{Command, Reply};

use super::client::{Client, Identity, Phase};
use super::deliver::{Route, took};
use super::message::Message;
use super::parked::{Parked, last_place};
use super::{Broker, BrokerView, Note, PARKED_MAX, PASSWORDS_MAX, REMEMBERED_MAX, Waiting};
use crate::effect::{Effect, Secret};
use crate::input::{StreamId, Token};

/// Sessions kept for ever, in the log's words.
const NO_END: u32 = u32::MAX;

impl Broker {
    pub(super) fn connect(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        connect: Box<Connect>,
    ) {
        if !self.serving {
            return self.refuse(view, stream, ReasonCode::ServerUnavailable);
        }
        let name = connect.username.as_deref().unwrap_or_default();
        let Some(account) = view.state.mqtt_account(name) else {
            return self.refuse(view, stream, ReasonCode::BadUserNameOrPassword);
        };
        let password = connect.password.as_ref().map_or(&[][..], |password| &password.0);
        let digest = digest(password);
        match &account.password {
            PasswordHash::Sha256(wanted) if *wanted == digest => {
                self.authenticated(view, stream, account, connect);
            }
            PasswordHash::Sha256(_) => {
                self.refuse(view, stream, ReasonCode::BadUserNameOrPassword);
            }
            PasswordHash::Phc(phc) if self.remembers(name, phc, &digest) => {
                self.authenticated(view, stream, account, connect);
            }
            PasswordHash::Phc(phc) => {
                let password = String::from_utf8(password.to_vec()).unwrap_or_default();
                self.check_password(view, stream, phc.clone(), password, connect);
            }
        }
    }

    /// Whether this very password was found to fit this very verifier since the start.
    fn remembers(&self, name: &str, phc: &str, password: &[u8; 32]) -> bool {
        self.remembered.get(name) == Some(&bound(phc, password))
    }

    fn check_password(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        phc: String,
        password: String,
        connect: Box<Connect>,
    ) {
        if self.checking.len() >= PASSWORDS_MAX {
            return self.refuse(view, stream, ReasonCode::ServerBusy);
        }
        let token = self.token();
        self.checking.insert(token, stream);
        if let Some(client) = self.clients.get_mut(&stream) {
            client.phase = Phase::Checking(connect);
        }
        let password = Secret::new(password);
        self.effects.push_back(Effect::CheckPassword { token, password, phc });
    }

    /// A password was checked; false if it was none of the broker's.
    pub fn handle_password_checked(
        &mut self,
        view: BrokerView<'_>,
        token: Token,
        fits: bool,
    ) -> bool {
        let Some(stream) = self.checking.remove(&token) else { return false };
        let Some(client) = self.clients.get_mut(&stream) else { return true };
        let Phase::Checking(connect) = core::mem::replace(&mut client.phase, Phase::Silent) else {
            return true;
        };
        let name = connect.username.clone().unwrap_or_default();
        match view.state.mqtt_account(&name) {
            Some(account) if fits => {
                if let PasswordHash::Phc(phc) = &account.password {
                    let password = connect.password.as_ref().map_or(&[][..], |p| &p.0);
                    if self.remembered.len() >= REMEMBERED_MAX {
                        self.remembered.clear();
                    }
                    self.remembered.insert(name, bound(phc, &digest(password)));
                }
                self.authenticated(view, stream, account, connect);
            }
            Some(_) | None => self.refuse(view, stream, ReasonCode::BadUserNameOrPassword),
        }
        self.settle(view, stream);
        true
    }

    fn authenticated(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        account: &MqttAccount,
        mut connect: Box<Connect>,
    ) {
        let assigned = connect.client_id.is_empty();
        if assigned {
            connect.client_id = format!("tern-{:016x}", self.rng.next_u64());
        }
        let name = format!("{}/{}", account.name, connect.client_id);
        let limit = self.config.session_expiry_s;
        let asked = connect.session_expiry_secs(Some(limit)).unwrap_or(NO_END);
        let expiry_s = asked.min(limit);
        let kept = view.state.client_session(&name).is_some();
        let persistent = expiry_s > 0 || kept;
        if persistent && !self.quorum {
            return self.refuse(view, stream, ReasonCode::ServerUnavailable);
        }
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.assigned = assigned;
        client.expiry_s = expiry_s;
        client.will = connect.will.take();
        client.identity = Some(Identity {
            account: account.name.clone(),
            scope: account.scope,
            can_publish: account.can_publish,
            name: name.clone(),
        });
        if let Some(older) = self.names.insert(name.clone(), stream) {
            self.end(view, older, ReasonCode::SessionTakenOver);
        }
        // The older one's end must not have taken the name away.
        self.names.insert(name.clone(), stream);
        self.wills.remove(&name);
        if !persistent {
            return self.accept(view, stream, &connect, false);
        }
        let command = Command::OpenClientSession {
            client_id: name,
            account: account.name.clone(),
            clean_start: connect.clean_start,
            expiry_s,
            node: self.config.node,
        };
        if let Some(client) = self.clients.get_mut(&stream) {
            client.phase = Phase::Opening(connect);
        }
        self.propose(Waiting::Open(stream), command);
    }

    pub(super) fn opened_by_log(&mut self, view: BrokerView<'_>, stream: StreamId, reply: &Reply) {
        let Reply::ClientSession { present, fence } = reply else {
            return self.refuse(view, stream, ReasonCode::NotAuthorized);
        };
        let Some(client) = self.clients.get_mut(&stream) else {
            return self.close_unwanted(view, *fence);
        };
        let Phase::Opening(connect) = core::mem::replace(&mut client.phase, Phase::Silent) else {
            return;
        };
        client.fence = Some(*fence);
        let name = client.name().to_owned();
        if let Some(parked) = self.parked.remove(&name)
            && *present
        {
            let (state, taken) = parked.into_parts(view.state, &name);
            if let Ok(session) = Session::restore(self.config.session, state) {
                let last = taken.last().copied().unwrap_or(0);
                client.next_place = 1 + last_place(&session).max(last);
                client.session = session;
            }
            taken.into_iter().for_each(|place| took(client, Some(place), view.now.instant));
        }
        let wanted: Vec<_> = view.state.subscriptions(&name).cloned().collect();
        for subscription in &wanted {
            self.restore_subscription(stream, subscription);
        }
        self.accept(view, stream, &connect, *present);
        self.load(view, stream);
        self.settle(view, stream);
    }

    /// The client has gone while the log opened its session.
    fn close_unwanted(&mut self, view: BrokerView<'_>, fence: u64) {
        let session = view.state.client_sessions().find(|session| session.fence == fence);
        let Some(client_id) = session.map(|session| session.client_id.clone()) else { return };
        let command = Command::CloseClientSession { client_id, fence, end: false };
        self.propose(Waiting::Nobody, command);
    }

    fn accept(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        connect: &Connect,
        session_present: bool,
    ) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let is_v5 = connect.version == Version::V5;
        let shortened = client.expiry_s != connect.properties.session_expiry_secs.unwrap_or(0);
        let accept = Accept {
            session_present,
            assigned_client_id: (is_v5 && client.assigned).then(|| connect.client_id.clone()),
            session_expiry_secs: (is_v5 && shortened).then_some(client.expiry_s),
        };
        if client.connection.accept(view.now.instant, accept).is_ok() {
            client.phase = Phase::Open;
            client.events_from = view.state.next_event();
            let window = client.connection.receive_maximum();
            client.session.connected(window);
        }
    }

    pub(super) fn refuse(&mut self, view: BrokerView<'_>, stream: StreamId, reason: ReasonCode) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.connection.refuse(reason);
        self.settle(view, stream);
    }

    /// Ends a connection from this side.
    pub(super) fn end(&mut self, view: BrokerView<'_>, stream: StreamId, reason: ReasonCode) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        client.connection.disconnect(reason);
        self.settle(view, stream);
    }

    /// Ends the connections of an account that changed or is gone.
    pub fn handle_account_changed(&mut self, view: BrokerView<'_>, account: &str) {
        self.remembered.remove(account);
        let of_account = |client: &Client| {
            client.identity.as_ref().is_some_and(|identity| identity.account == account)
        };
        let streams: Vec<_> =
            self.clients.iter().filter(|(_, c)| of_account(c)).map(|(s, _)| *s).collect();
        for stream in streams {
            self.end(view, stream, ReasonCode::NotAuthorized);
        }
    }

    /// Another connection owns the session since, or the log has ended it.
    pub fn handle_fenced(&mut self, view: BrokerView<'_>, name: &str, fence: u64) {
        let Some(stream) = self.names.get(name).copied() else { return };
        if self.clients.get(&stream).is_some_and(|client| client.fence == Some(fence)) {
            self.end(view, stream, ReasonCode::SessionTakenOver);
        }
    }

    pub(super) fn closed(&mut self, view: BrokerView<'_>, stream: StreamId, closed: &Closed) {
        self.tell_taken(view, stream);
        self.flush(stream);
        let Some(mut client) = self.clients.remove(&stream) else { return };
        if let Some(at) = self.armed.remove(&stream) {
            self.deadlines.remove(&(at, stream));
        }
        self.effects.push_back(Effect::Close { stream });
        self.withdraw(stream);
        for subscribed in client.subscriptions.values() {
            self.routes.remove(&subscribed.filter, stream);
        }
        let name = client.name().to_owned();
        self.notes.push(Note::Ended { peer: client.peer, name: name.clone(), cause: closed.cause });
        if self.names.get(&name) == Some(&stream) {
            self.names.remove(&name);
        }
        let ends = closed.session_expiry_secs == Some(0) || client.expiry_s == 0;
        if let Some(fence) = client.fence {
            let client_id = name.clone();
            self.propose(
                Waiting::Nobody,
                Command::CloseClientSession { client_id, fence, end: ends },
            );
            client.session.disconnected();
            if !ends && self.parked.len() < PARKED_MAX {
                let parked = Parked::new(client.session.into_state(), client.told);
                self.parked.insert(name.clone(), parked);
            }
        }
        if let (true, Some(will)) = (closed.publish_will, client.will) {
            self.will(view, name, will, if ends { 0 } else { client.expiry_s });
        }
    }

    /// Publishes a will, after its delay, which ends with the session. Source: MQTT 5.0 §3.1.3.2.2.
    fn will(&mut self, view: BrokerView<'_>, name: String, will: Will, session_left_s: u32) {
        let delay = Duration::from_secs(u64::from(will.delay_secs.min(session_left_s)));
        let message = Message::from_will(view.now.wall, will, &name);
        if delay.is_zero() {
            self.publish(view, message);
        } else {
            self.wills.insert(name, (view.now.instant + delay, message));
        }
    }

    fn restore_subscription(&mut self, stream: StreamId, wanted: &store::MqttSubscription) {
        let Some(subscribed) = super::subscribe::restored(wanted) else { return };
        let route = Route::of(&subscribed);
        self.routes.insert(&subscribed.filter, stream, route);
        if let Some(client) = self.clients.get_mut(&stream) {
            client.subscriptions.insert(wanted.filter.clone(), subscribed);
        }
    }

    /// There is no room for a client's message, nor for what comes behind it. A 3.1.1 client cannot
    /// be told: on its next connection it says this one again, and all after it, so that the order
    /// holds.
    pub(super) fn no_room(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        packet_id: mqtt::PacketId,
        qos: mqtt::Qos,
    ) {
        let reason = ReasonCode::QuotaExceeded;
        let client = self.clients.get(&stream);
        if client.is_some_and(|client| client.connection.version() == Version::V311) {
            self.end(view, stream, reason);
        } else {
            self.acknowledge(view, stream, packet_id, qos, reason);
        }
    }

    /// Answers a client's message.
    pub(super) fn acknowledge(
        &mut self,
        view: BrokerView<'_>,
        stream: StreamId,
        packet_id: mqtt::PacketId,
        qos: mqtt::Qos,
        reason: ReasonCode,
    ) {
        let Some(client) = self.clients.get_mut(&stream) else { return };
        let is_v311 = client.connection.version() == Version::V311;
        if is_v311 && reason == ReasonCode::QuotaExceeded {
            // 3.1.1 has no word for it: without an answer the client keeps the message.
            return;
        }
        let ack = mqtt::Ack::new(packet_id, reason);
        let packet = match qos {
            mqtt::Qos::AtMostOnce => return,
            mqtt::Qos::AtLeastOnce => Packet::Puback(ack),
            mqtt::Qos::ExactlyOnce => {
                if reason.is_error() {
                    client.session.refuse_publish(packet_id);
                }
                Packet::Pubrec(ack)
            }
        };
        self.send(view, stream, packet);
        self.settle(view, stream);
    }
}

fn digest(password: &[u8]) -> [u8; 32] {
    Sha256::digest(password).into()
}

/// A password's digest, good for one verifier only.
fn bound(phc: &str, password: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(password).chain_update(phc).finalize().into()
}
