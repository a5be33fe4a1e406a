//! The broker's side of one connection, before and after it is accepted, without a broker.
//!
//! Bytes in ([`Connection::handle_bytes`]), events out ([`Connection::poll_event`]); packets in
//! ([`Connection::send`]), bytes out ([`Connection::poll_transmit`]). The machine keeps the
//! connection's own rules: CONNECT first and once, time limits, sizes, windows, PINGREQ. Accounts,
//! sessions and routes are the caller's. Source: MQTT 5.0 §3.1 to §3.15, §4.9, §4.13.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use clock::{Duration, Instant};

use crate::connection_event::*;
use crate::packet::*;
use crate::{Decoder, MAX_CONTROL_BYTES, PacketError, ReasonCode, Subscription, encode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing but CONNECT is taken.
    AwaitConnect,
    /// CONNECT is with the broker; what follows it waits unread.
    AwaitVerdict,
    Open,
    Closed,
}

/// What the client said about itself in CONNECT, as far as the connection needs it.
#[derive(Clone, Copy, Debug)]
struct Peer {
    version: Version,
    receive_maximum: u16,
    maximum_packet_size: u32,
    keep_alive_secs: u16,
    session_expiry_secs: u32,
    problem_information: bool,
}

/// One connection. Drain [`Self::poll_event`] and [`Self::poll_transmit`] after every call.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    state: State,
    decoder: Decoder,
    peer: Peer,
    events: VecDeque<Event>,
    out: BytesMut,
    /// QoS 1 and 2 messages of the client that are not acknowledged: what the window counts.
    unacknowledged: BTreeSet<PacketId>,
    connect_deadline: Instant,
    /// When the last whole packet came.
    heard_at: Instant,
    /// When the packet that is not yet whole must be.
    packet_deadline: Option<Instant>,
}

impl Connection {
    /// A connection that was just opened.
    pub fn new(now: Instant, config: ConnectionConfig) -> Self {
        Self {
            state: State::AwaitConnect,
            decoder: Decoder::server(config.max_packet_bytes),
            peer: Peer {
                version: Version::V311,
                receive_maximum: u16::MAX,
                maximum_packet_size: u32::MAX,
                keep_alive_secs: 0,
                session_expiry_secs: 0,
                problem_information: true,
            },
            events: VecDeque::new(),
            out: BytesMut::new(),
            unacknowledged: BTreeSet::new(),
            connect_deadline: now + config.connect_timeout,
            heard_at: now,
            packet_deadline: None,
            config,
        }
    }

    /// Takes received bytes. Read no more while [`Self::wants_bytes`] is false.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if self.state == State::Closed {
            return;
        }
        self.decoder.feed(bytes);
        self.read(now);
    }

    /// The stream ended or failed.
    pub fn handle_end(&mut self) {
        self.close(CloseCause::StreamEnded);
    }

    /// The next deadline and its name, if any.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::AwaitConnect | State::AwaitVerdict => Some((self.connect_deadline, "connect")),
            State::Open => {
                let packet = self.packet_deadline.map(|at| (at, "packet"));
                let keep_alive = self.keep_alive_deadline().map(|at| (at, "keep_alive"));
                packet.into_iter().chain(keep_alive).min()
            }
            State::Closed => None,
        }
    }

    /// Acts on every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let cause = match self.poll_timeout() {
            Some((at, name)) if at <= now => match (self.state, name) {
                (State::AwaitConnect, _) => CloseCause::ConnectTimeout,
                (State::AwaitVerdict, _) => return self.give_up(CloseCause::VerdictTimeout),
                (State::Open | State::Closed, "packet") => CloseCause::PacketTimeout,
                (State::Open | State::Closed, _) => CloseCause::KeepAlive,
            },
            Some(_) | None => return,
        };
        self.close(cause);
    }

    /// What happened; `None`: nothing more for now.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to write, all that wait; `None`: nothing. Do not ask again before they are written,
    /// or the bound on what waits is void.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.out.is_empty() { None } else { Some(core::mem::take(&mut self.out).freeze()) }
    }

    /// Whether more may be read from the stream now.
    pub fn wants_bytes(&self) -> bool {
        match self.state {
            State::AwaitConnect => true,
            State::AwaitVerdict => self.decoder.buffered() < MAX_CONTROL_BYTES as usize,
            State::Open => !self.is_window_full(),
            State::Closed => false,
        }
    }

    /// Whether messages may be sent now: false while the client reads slowly. Keep QoS 1 and 2
    /// messages in their session meanwhile, and drop QoS 0.
    pub fn is_writable(&self) -> bool {
        self.state == State::Open && self.out.len() < self.config.max_out_bytes / 2
    }

    /// Whether the connection was accepted and has not ended.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The version the client speaks; 3.1.1 before CONNECT.
    pub fn version(&self) -> Version {
        self.peer.version
    }

    /// QoS 1 and 2 messages that the client takes unacknowledged: the window of its session.
    pub fn receive_maximum(&self) -> u16 {
        self.peer.receive_maximum
    }

    /// The broker accepts the CONNECT; packets that followed it are read now.
    ///
    /// * Errors: there is none to accept, or the client takes no packet as large as the CONNACK
    ///   (which ends the connection).
    pub fn accept(&mut self, now: Instant, accept: Accept) -> Result<(), SendError> {
        if self.state != State::AwaitVerdict {
            return Err(SendError::NotOpen);
        }
        let config = &self.config;
        let keep_alive = match (self.peer.version, config.max_keep_alive_secs) {
            (Version::V5, Some(max))
                if self.peer.keep_alive_secs == 0 || self.peer.keep_alive_secs > max =>
            {
                Some(max)
            }
            (Version::V311 | Version::V5, _) => None,
        };
        let properties = ConnackProperties {
            session_expiry_secs: accept.session_expiry_secs,
            receive_maximum: Some(config.receive_maximum),
            maximum_qos: (config.maximum_qos < Qos::ExactlyOnce)
                .then_some(config.maximum_qos.as_u8()),
            retain_available: (!config.retain_available).then_some(false),
            maximum_packet_size: Some(config.max_packet_bytes),
            assigned_client_id: accept.assigned_client_id,
            subscription_identifier_available: (!config.subscription_identifier_available)
                .then_some(false),
            shared_subscription_available: (!config.shared_subscription_available).then_some(false),
            server_keep_alive_secs: keep_alive,
            ..ConnackProperties::default()
        };
        self.peer.keep_alive_secs = keep_alive.unwrap_or(self.peer.keep_alive_secs);
        let session_present = accept.session_present;
        let connack = Connack { session_present, reason: ReasonCode::Success, properties };
        if let Err(error) = self.write(&Packet::Connack(Box::new(connack))) {
            self.close(CloseCause::Broker(ReasonCode::PacketTooLarge));
            return Err(error);
        }
        self.state = State::Open;
        self.heard_at = now;
        self.read(now);
        Ok(())
    }

    /// The broker refuses the CONNECT: the client is told why and the connection ends.
    pub fn refuse(&mut self, reason: ReasonCode) {
        if self.state == State::AwaitVerdict {
            self.give_up(CloseCause::Refused(reason));
        }
    }

    /// The broker ends the connection; a 5.0 client is told why.
    pub fn disconnect(&mut self, reason: ReasonCode) {
        match self.state {
            State::AwaitVerdict => self.give_up(CloseCause::Broker(reason)),
            State::AwaitConnect | State::Open => self.close(CloseCause::Broker(reason)),
            State::Closed => {}
        }
    }

    /// Sends a packet to the client. Acknowledgements open the client's window again, so events
    /// may follow. Windows towards the client are the session's.
    ///
    /// * Errors: [`SendError`]; after `SlowReader` the connection has ended.
    pub fn send(&mut self, now: Instant, packet: Packet) -> Result<(), SendError> {
        if self.state != State::Open {
            return Err(SendError::NotOpen);
        }
        let packet = self.without_notes(packet);
        match &packet {
            Packet::Publish(_)
            | Packet::Pubrel(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => self.write(&packet),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.write(&packet)?;
                self.acknowledged(now, ack.packet_id);
                Ok(())
            }
            Packet::Pubrec(ack) => {
                self.write(&packet)?;
                if ack.reason.is_error() {
                    self.acknowledged(now, ack.packet_id);
                }
                Ok(())
            }
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Disconnect(_)
            | Packet::Auth(_) => Err(SendError::Kind { kind: packet.kind() }),
        }
    }

    /// A client may ask not to be told reasons in words, except where it must be (§3.1.2.11.7).
    fn without_notes(&self, mut packet: Packet) -> Packet {
        if self.peer.problem_information {
            return packet;
        }
        match &mut packet {
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => {
                *ack = Ack::new(ack.packet_id, ack.reason);
            }
            Packet::Suback(ack) | Packet::Unsuback(ack) => {
                *ack = Suback::new(ack.packet_id, core::mem::take(&mut ack.reasons));
            }
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Publish(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect(_)
            | Packet::Auth(_) => {}
        }
        packet
    }

    fn write(&mut self, packet: &Packet) -> Result<(), SendError> {
        let before = self.out.len();
        let bytes = encode(self.peer.version, packet, &mut self.out)?;
        let limit = self.peer.maximum_packet_size;
        if bytes > limit as usize {
            self.out.truncate(before);
            return Err(SendError::TooLarge { bytes, limit });
        }
        if self.out.len() > self.config.max_out_bytes {
            self.close(CloseCause::SlowReader);
            return Err(SendError::SlowReader);
        }
        Ok(())
    }

    fn acknowledged(&mut self, now: Instant, packet_id: PacketId) {
        let was_full = self.is_window_full();
        self.unacknowledged.remove(&packet_id);
        if was_full && !self.is_window_full() {
            // Silence was ours: the client could not be heard.
            self.heard_at = now;
            self.read(now);
        }
    }

    /// A 3.1.1 client does not know the window, so it is held up instead of thrown out.
    fn is_window_full(&self) -> bool {
        self.peer.version == Version::V311
            && self.unacknowledged.len() >= usize::from(self.config.receive_maximum)
    }

    fn keep_alive_deadline(&self) -> Option<Instant> {
        let secs = u64::from(self.peer.keep_alive_secs);
        let silent = secs > 0 && !self.is_window_full();
        silent.then(|| self.heard_at + Duration::from_millis(secs * 1_500))
    }

    /// Reads packets for as long as the state takes them.
    fn read(&mut self, now: Instant) {
        while matches!(self.state, State::AwaitConnect | State::Open) && !self.is_window_full() {
            match self.decoder.next_packet() {
                Ok(Some(packet)) => {
                    self.heard_at = now;
                    self.packet_deadline = None;
                    self.take(packet);
                }
                Ok(None) => break,
                Err(error) => return self.broken(error),
            }
        }
        let limit = match self.state {
            State::AwaitVerdict => MAX_CONTROL_BYTES as usize * 2,
            State::Open => self.config.max_packet_bytes.max(MAX_CONTROL_BYTES) as usize * 2,
            State::AwaitConnect | State::Closed => usize::MAX,
        };
        if self.decoder.buffered() > limit {
            return self.close(CloseCause::Overflow);
        }
        let begun = self.state == State::Open && self.decoder.buffered() > 0;
        if !begun || self.is_window_full() {
            self.packet_deadline = None;
        } else if self.packet_deadline.is_none() {
            self.packet_deadline = Some(now + self.config.packet_timeout);
        }
    }

    fn broken(&mut self, error: PacketError) {
        if let PacketError::ProtocolLevel { level } = error {
            // The answer has the form that the client is likely to understand (§3.1.2.2).
            self.peer.version = if level > 5 { Version::V5 } else { Version::V311 };
            return self.give_up(CloseCause::Packet(error));
        }
        self.close(CloseCause::Packet(error));
    }

    fn take(&mut self, packet: Packet) {
        if self.state == State::AwaitConnect {
            // The decoder lets nothing else pass before it.
            if let Packet::Connect(connect) = packet {
                self.take_connect(connect);
            }
            return;
        }
        match packet {
            Packet::Connect(_) => self.close(CloseCause::SecondConnect),
            Packet::Publish(publish) => self.take_publish(publish),
            Packet::Puback(ack) => self.events.push_back(Event::Puback(ack)),
            Packet::Pubrec(ack) => self.events.push_back(Event::Pubrec(ack)),
            Packet::Pubrel(ack) => self.events.push_back(Event::Pubrel(ack)),
            Packet::Pubcomp(ack) => self.events.push_back(Event::Pubcomp(ack)),
            Packet::Subscribe(subscribe) => self.take_subscribe(subscribe),
            Packet::Unsubscribe(Unsubscribe { packet_id, filters, .. }) => {
                let filters = filters.iter().map(|filter| Subscription::parse(filter)).collect();
                self.events.push_back(Event::Unsubscribe { packet_id, filters });
            }
            Packet::Pingreq => {
                // A full buffer has already closed the connection.
                let _ = self.write(&Packet::Pingresp);
            }
            Packet::Disconnect(disconnect) => self.take_disconnect(&disconnect),
            Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp
            | Packet::Auth(_) => self.close(CloseCause::Unexpected { kind: packet.kind() }),
        }
    }

    fn take_connect(&mut self, connect: Box<Connect>) {
        let properties = &connect.properties;
        self.peer = Peer {
            version: connect.version,
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            maximum_packet_size: properties.maximum_packet_size.unwrap_or(u32::MAX),
            keep_alive_secs: connect.keep_alive_secs,
            session_expiry_secs: properties.session_expiry_secs.unwrap_or(0),
            problem_information: properties.request_problem_information.unwrap_or(true),
        };
        let nameless = connect.version == Version::V311
            && connect.client_id.is_empty()
            && !connect.clean_start;
        self.state = State::AwaitVerdict;
        let will = connect.will.as_ref();
        if nameless || connect.client_id.len() > self.config.max_client_id_bytes {
            self.give_up(CloseCause::ClientId);
        } else if properties.authentication_method.is_some() {
            self.give_up(CloseCause::AuthenticationMethod);
        } else if will.is_some_and(|will| will.qos > self.config.maximum_qos) {
            self.give_up(CloseCause::Qos);
        } else if will.is_some_and(|will| will.retain && !self.config.retain_available) {
            self.give_up(CloseCause::Retain);
        } else {
            self.events.push_back(Event::Connect(connect));
        }
    }

    fn take_publish(&mut self, publish: Publish) {
        if !publish.subscription_ids.is_empty() {
            return self.close(CloseCause::SubscriptionId);
        }
        if publish.delivery.qos() > self.config.maximum_qos {
            return self.close(CloseCause::Qos);
        }
        if publish.retain && !self.config.retain_available {
            return self.close(CloseCause::Retain);
        }
        if let Some(packet_id) = publish.delivery.packet_id() {
            self.unacknowledged.insert(packet_id);
            let window = usize::from(self.config.receive_maximum);
            if self.peer.version == Version::V5 && self.unacknowledged.len() > window {
                return self.close(CloseCause::ReceiveMaximum);
            }
        }
        self.events.push_back(Event::Publish(publish));
    }

    fn take_subscribe(&mut self, subscribe: Subscribe) {
        let identified = subscribe.subscription_id.is_some();
        if identified && !self.config.subscription_identifier_available {
            return self.close(CloseCause::SubscriptionId);
        }
        let parse =
            |request: SubscribeRequest| (Subscription::parse(&request.filter), request.options);
        self.events.push_back(Event::Subscribe(SubscribeEvent {
            packet_id: subscribe.packet_id,
            requests: subscribe.requests.into_iter().map(parse).collect(),
            subscription_id: subscribe.subscription_id,
        }));
    }

    fn take_disconnect(&mut self, disconnect: &Disconnect) {
        let raised = self.peer.session_expiry_secs == 0
            && disconnect.session_expiry_secs.is_some_and(|secs| secs > 0);
        if raised {
            return self.close(CloseCause::SessionExpiry);
        }
        self.state = State::Closed;
        self.events.push_back(Event::Closed(Closed {
            cause: CloseCause::ClientLeft { reason: disconnect.reason },
            publish_will: disconnect.reason != ReasonCode::Success,
            session_expiry_secs: disconnect.session_expiry_secs,
        }));
    }

    /// Ends a connection that was never accepted, with a CONNACK that says why.
    fn give_up(&mut self, cause: CloseCause) {
        let reason = cause.reason();
        let properties = ConnackProperties::default();
        let connack = Connack { session_present: false, reason, properties };
        // A reason that CONNACK does not have is not told; the connection ends all the same.
        let _ = encode(self.peer.version, &Packet::Connack(Box::new(connack)), &mut self.out);
        self.state = State::Closed;
        let closed = Closed { cause, publish_will: false, session_expiry_secs: None };
        self.events.push_back(Event::Closed(closed));
    }

    fn close(&mut self, cause: CloseCause) {
        if self.state == State::Closed {
            return;
        }
        let open = self.state == State::Open;
        if cause == CloseCause::SlowReader {
            // It would not be read either, and the memory is wanted back.
            self.out = BytesMut::new();
        } else if open && cause != CloseCause::StreamEnded && self.peer.version == Version::V5 {
            let disconnect = Packet::Disconnect(Disconnect::new(cause.reason()));
            let _ = encode(Version::V5, &disconnect, &mut self.out);
        }
        self.state = State::Closed;
        let closed = Closed { cause, publish_will: open, session_expiry_secs: None };
        self.events.push_back(Event::Closed(closed));
    }
}
