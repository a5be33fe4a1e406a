//! A small MQTT client without a socket, for the demo, the simulator and the tests.
//!
//! Drive it as [`crate::Connection`]: bytes in, events and bytes out, deadlines. Publishing goes
//! through a [`Session`], so QoS 1 and 2 messages survive [`Client::reconnect`].
//! Source: MQTT 5.0 §3, §4.4; MQTT 3.1.1 likewise.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use clock::{Duration, Instant};

use crate::packet::*;
use crate::session::{Incoming, Outgoing, Session, SessionLimits, Stage};
use crate::{Decoder, EncodeError, PacketError, ReasonCode, SessionError, encode};

/// SUBSCRIBE and UNSUBSCRIBE packets that may wait for their answers at once.
const MAX_REQUESTS: usize = 100;

/// Who a client is and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// CONNECT, sent at each connection.
    pub connect: Connect,
    /// Bounds of its session.
    pub limits: SessionLimits,
    /// How long CONNACK and PINGRESP may take.
    pub answer_timeout: Duration,
    /// Largest packet taken, in bytes with its fixed header.
    pub max_packet_bytes: u32,
    /// Whether QoS 1 messages are acknowledged at once; else by [`Client::acknowledge`].
    pub auto_acknowledge: bool,
}

impl ClientConfig {
    /// A client with a clean session and a keep-alive of 60 s.
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            connect: Connect {
                version,
                client_id: client_id.to_owned(),
                clean_start: true,
                keep_alive_secs: 60,
                username: None,
                password: None,
                will: None,
                properties: ConnectProperties::default(),
            },
            limits: SessionLimits::default(),
            answer_timeout: Duration::from_secs(10),
            max_packet_bytes: 1024 * 1024,
            auto_acknowledge: true,
        }
    }

    /// With an account.
    #[must_use]
    pub fn account(mut self, username: &str, password: &str) -> Self {
        self.connect.username = Some(username.to_owned());
        self.connect.password = Some(Password(Bytes::copy_from_slice(password.as_bytes())));
        self
    }

    /// With a session that outlives the connection; 3.1.1 cannot say for how long.
    #[must_use]
    pub fn persistent(mut self, expiry_secs: u32) -> Self {
        self.connect.clean_start = false;
        if self.connect.version == Version::V5 {
            self.connect.properties.session_expiry_secs = Some(expiry_secs);
        }
        self
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server accepted.
    Connected(Box<Connack>),
    /// A message.
    Message(Publish),
    /// The server has a QoS 1 or 2 message of ours, or refuses it.
    Published(Publish, ReasonCode),
    /// The answer to [`Client::subscribe`].
    Subscribed(Suback),
    /// The answer to [`Client::unsubscribe`].
    Unsubscribed(Suback),
    /// The end of this connection; nothing comes after it before [`Client::reconnect`].
    Closed(ClientClosed),
}

/// Why a client's connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientClosed {
    /// [`Client::disconnect`].
    #[error("left")]
    Left,
    /// The stream ended.
    #[error("the stream ended")]
    StreamEnded,
    /// CONNACK with an error.
    #[error("refused with {0:?}")]
    Refused(ReasonCode),
    /// DISCONNECT from the server.
    #[error("ended by the server with {0:?}")]
    Server(ReasonCode),
    /// No CONNACK or no PINGRESP in time.
    #[error("no answer in time")]
    Silent,
    /// Bytes that are no acceptable packet.
    #[error("{0}")]
    Packet(PacketError),
    /// A packet that does not belong here.
    #[error("{kind:?} out of place")]
    Unexpected {
        /// Its kind.
        kind: PacketKind,
    },
    /// More QoS 2 messages than the session remembers.
    #[error("{0}")]
    Session(SessionError),
}

/// Why a client cannot do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Not connected.
    #[error("not connected")]
    NotConnected,
    /// Too many requests wait for their answers.
    #[error("{MAX_REQUESTS} requests wait for their answers")]
    TooManyRequests,
    /// The queue was full; an older message was dropped for this one.
    #[error("the queue was full: the oldest message is dropped")]
    QueueFull,
    /// It cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitConnack,
    Connected,
    Closed,
}

/// One client. Drain [`Self::poll_event`] and [`Self::poll_transmit`] after every call.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    state: State,
    decoder: Decoder,
    session: Session<Publish>,
    events: VecDeque<ClientEvent>,
    out: BytesMut,
    requests: usize,
    keep_alive: Option<Duration>,
    sent_at: Instant,
    /// Until when CONNACK or PINGRESP must come.
    answer_deadline: Option<Instant>,
}

impl Client {
    /// A client whose stream was just opened; CONNECT waits to be written.
    pub fn new(now: Instant, config: ClientConfig) -> Self {
        let mut client = Self {
            state: State::Closed,
            decoder: Decoder::client(config.connect.version, config.max_packet_bytes),
            session: Session::new(config.limits),
            events: VecDeque::new(),
            out: BytesMut::new(),
            requests: 0,
            keep_alive: None,
            sent_at: now,
            answer_deadline: None,
            config,
        };
        client.reconnect(now);
        client
    }

    /// A new stream was opened for the same session.
    pub fn reconnect(&mut self, now: Instant) {
        let connect = &self.config.connect;
        self.decoder = Decoder::client(connect.version, self.config.max_packet_bytes);
        self.session.disconnected();
        self.requests = 0;
        self.out.clear();
        let secs = connect.keep_alive_secs;
        self.keep_alive = (secs > 0).then(|| Duration::from_secs(secs.into()));
        let connect = Packet::Connect(Box::new(connect.clone()));
        self.state = State::AwaitConnack;
        self.answer_deadline = Some(now + self.config.answer_timeout);
        if self.write(now, &connect).is_err() {
            self.close(ClientClosed::Unexpected { kind: PacketKind::Connect });
        }
    }

    /// Whether the server has accepted and the connection has not ended.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Messages of ours that the server does not surely have.
    pub fn unacknowledged(&self) -> usize {
        let state = self.session.state();
        state.inflight.len() + state.queue.len()
    }

    /// Asks for messages.
    ///
    /// * `filters`: at least one, each with its highest QoS.
    /// * Returns the packet id that the answer will carry.
    /// * Errors: not connected, too many requests, a filter that cannot be written.
    pub fn subscribe(
        &mut self,
        now: Instant,
        filters: &[(&str, Qos)],
    ) -> Result<PacketId, ClientError> {
        let request = |(filter, qos): &(&str, Qos)| SubscribeRequest {
            filter: (*filter).to_owned(),
            options: SubscribeOptions { qos: *qos, ..SubscribeOptions::default() },
        };
        let requests: Vec<_> = filters.iter().map(request).collect();
        self.request(now, |packet_id| {
            let (subscription_id, user) = (None, UserProperties::new());
            Packet::Subscribe(Subscribe { packet_id, requests, subscription_id, user })
        })
    }

    /// Asks for no more messages.
    ///
    /// * Returns the packet id that the answer will carry.
    /// * Errors: as [`Self::subscribe`].
    pub fn unsubscribe(&mut self, now: Instant, filters: &[&str]) -> Result<PacketId, ClientError> {
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        self.request(now, |packet_id| {
            Packet::Unsubscribe(Unsubscribe { packet_id, filters, user: UserProperties::new() })
        })
    }

    fn request(
        &mut self,
        now: Instant,
        packet: impl FnOnce(PacketId) -> Packet,
    ) -> Result<PacketId, ClientError> {
        if self.state != State::Connected {
            return Err(ClientError::NotConnected);
        }
        if self.requests >= MAX_REQUESTS {
            return Err(ClientError::TooManyRequests);
        }
        let packet_id = self.session.reserve();
        if let Err(error) = self.write(now, &packet(packet_id)) {
            self.session.release(packet_id);
            return Err(error.into());
        }
        self.requests += 1;
        Ok(packet_id)
    }

    /// Publishes a message, now or once connected.
    ///
    /// * `publish`: its `delivery` says nothing; packet ids are the session's.
    /// * Errors: [`ClientError::QueueFull`], the message itself is queued all the same.
    pub fn publish(&mut self, now: Instant, publish: Publish, qos: Qos) -> Result<(), ClientError> {
        let dropped = self.session.enqueue(publish, qos);
        self.flush(now);
        if dropped.is_some() { Err(ClientError::QueueFull) } else { Ok(()) }
    }

    /// Acknowledges a QoS 1 message, where that is not done by itself.
    ///
    /// * Errors: not connected.
    pub fn acknowledge(&mut self, now: Instant, packet_id: PacketId) -> Result<(), ClientError> {
        if self.state != State::Connected {
            return Err(ClientError::NotConnected);
        }
        let ack = Ack::new(packet_id, ReasonCode::Success);
        Ok(self.write(now, &Packet::Puback(ack))?)
    }

    /// Leaves; a will is not published.
    pub fn disconnect(&mut self, now: Instant) {
        if self.state != State::Closed {
            let _ = self.write(now, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
            self.close(ClientClosed::Left);
        }
    }

    /// Takes received bytes.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.decoder.feed(bytes);
        while self.state != State::Closed {
            match self.decoder.next_packet() {
                Ok(Some(packet)) => self.take(now, packet),
                Ok(None) => break,
                Err(error) => self.close(ClientClosed::Packet(error)),
            }
        }
        self.flush(now);
    }

    /// The stream ended or failed.
    pub fn handle_end(&mut self) {
        self.close(ClientClosed::StreamEnded);
    }

    /// What happened; `None`: nothing more for now.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// Bytes to write, all that wait; `None`: nothing.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.out.is_empty() { None } else { Some(core::mem::take(&mut self.out).freeze()) }
    }

    /// The next deadline and its name, if any.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match (self.state, self.answer_deadline) {
            (State::Closed, _) => None,
            (State::AwaitConnack | State::Connected, Some(at)) => Some((at, "answer")),
            (State::AwaitConnack | State::Connected, None) => {
                // A quarter of the keep-alive is left for the way.
                self.keep_alive.map(|keep_alive| (self.sent_at + keep_alive * 3 / 4, "ping"))
            }
        }
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.poll_timeout() {
            Some((at, "ping")) if at <= now => {
                self.answer_deadline = Some(now + self.config.answer_timeout);
                let _ = self.write(now, &Packet::Pingreq);
            }
            Some((at, _)) if at <= now => self.close(ClientClosed::Silent),
            Some(_) | None => {}
        }
    }

    fn write(&mut self, now: Instant, packet: &Packet) -> Result<(), EncodeError> {
        encode(self.config.connect.version, packet, &mut self.out)?;
        self.sent_at = now;
        Ok(())
    }

    fn close(&mut self, cause: ClientClosed) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.session.disconnected();
            self.events.push_back(ClientEvent::Closed(cause));
        }
    }

    /// Sends what the session lets go.
    fn flush(&mut self, now: Instant) {
        while self.state == State::Connected {
            let packet = match self.session.poll_outgoing() {
                Some(Outgoing::Publish { message, delivery }) => {
                    Packet::Publish(Publish { delivery, ..message })
                }
                Some(Outgoing::Pubrel(ack)) => Packet::Pubrel(ack),
                None => return,
            };
            if self.write(now, &packet).is_err() {
                self.close(ClientClosed::Unexpected { kind: packet.kind() });
            }
        }
    }

    fn take(&mut self, now: Instant, packet: Packet) {
        let kind = packet.kind();
        match (self.state, packet) {
            (State::AwaitConnack, Packet::Connack(connack)) => self.take_connack(connack),
            (State::Connected, Packet::Publish(publish)) => self.take_publish(now, publish),
            (State::Connected, Packet::Puback(ack)) => {
                if let Ok(publish) = self.session.handle_puback(ack.packet_id) {
                    self.events.push_back(ClientEvent::Published(publish, ack.reason));
                }
            }
            (State::Connected, Packet::Pubrec(ack)) => {
                let acked = self.session.handle_pubrec(ack.packet_id, ack.reason);
                if let Some(publish) = acked.released {
                    self.events.push_back(ClientEvent::Published(publish, ack.reason));
                }
                if let Some(pubrel) = acked.pubrel {
                    let _ = self.write(now, &Packet::Pubrel(pubrel));
                }
            }
            (State::Connected, Packet::Pubrel(ack)) => {
                let pubcomp = self.session.handle_pubrel(ack.packet_id);
                let _ = self.write(now, &Packet::Pubcomp(pubcomp));
            }
            (State::Connected, Packet::Pubcomp(ack)) => {
                // One that nothing waits for changes nothing.
                let _ = self.session.handle_pubcomp(ack.packet_id);
            }
            (State::Connected, Packet::Suback(suback)) if self.answered(suback.packet_id) => {
                self.events.push_back(ClientEvent::Subscribed(suback));
            }
            (State::Connected, Packet::Unsuback(suback)) if self.answered(suback.packet_id) => {
                self.events.push_back(ClientEvent::Unsubscribed(suback));
            }
            (State::Connected, Packet::Pingresp) => self.answer_deadline = None,
            (State::Connected, Packet::Disconnect(disconnect)) => {
                self.close(ClientClosed::Server(disconnect.reason));
            }
            (State::AwaitConnack | State::Connected | State::Closed, _) => {
                self.close(ClientClosed::Unexpected { kind });
            }
        }
    }

    fn answered(&mut self, packet_id: PacketId) -> bool {
        let known = self.session.release(packet_id);
        self.requests -= usize::from(known);
        known
    }

    fn take_connack(&mut self, connack: Box<Connack>) {
        if connack.reason.is_error() {
            return self.close(ClientClosed::Refused(connack.reason));
        }
        if !connack.session_present {
            self.begin_anew();
        }
        self.session.connected(connack.properties.receive_maximum.unwrap_or(u16::MAX));
        if let Some(secs) = connack.properties.server_keep_alive_secs {
            self.keep_alive = (secs > 0).then(|| Duration::from_secs(secs.into()));
        }
        self.answer_deadline = None;
        self.state = State::Connected;
        self.events.push_back(ClientEvent::Connected(connack));
    }

    /// The server knows nothing of our session: what it may not have is published as new.
    fn begin_anew(&mut self) {
        let old = core::mem::replace(&mut self.session, Session::new(self.config.limits));
        let state = old.into_state();
        for inflight in state.inflight {
            let _ = match inflight.stage {
                Stage::AwaitPuback(publish) => self.session.enqueue(publish, Qos::AtLeastOnce),
                Stage::AwaitPubrec(publish) => self.session.enqueue(publish, Qos::ExactlyOnce),
                Stage::AwaitPubcomp => None,
            };
        }
        for queued in state.queue {
            let _ = self.session.enqueue(queued.message, queued.qos);
        }
    }

    fn take_publish(&mut self, now: Instant, publish: Publish) {
        let incoming = match self.session.handle_publish(publish.delivery) {
            Ok(incoming) => incoming,
            Err(error) => return self.close(ClientClosed::Session(error)),
        };
        let delivery = publish.delivery;
        if incoming == Incoming::New {
            self.events.push_back(ClientEvent::Message(publish));
        }
        let answer = match delivery {
            Delivery::AtLeastOnce { packet_id, .. } if self.config.auto_acknowledge => {
                Packet::Puback(Ack::new(packet_id, ReasonCode::Success))
            }
            Delivery::ExactlyOnce { packet_id, .. } => {
                Packet::Pubrec(Ack::new(packet_id, ReasonCode::Success))
            }
            Delivery::AtMostOnce | Delivery::AtLeastOnce { .. } => return,
        };
        let _ = self.write(now, &answer);
    }
}
