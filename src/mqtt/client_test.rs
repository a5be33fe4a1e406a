//! The client against the broker's side of a connection, with the smallest of brokers between.

use clock::{Duration, Instant};

use crate::*;

const START: Instant = Instant::from_secs(50);

fn at(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn message(topic: &str, payload: &'static str) -> Publish {
    Publish::new(topic.parse().unwrap(), payload)
}

/// A client, a connection, and a broker that sends everything back to its one client.
struct World {
    client: Client,
    server: Connection,
    session: Session<Publish>,
    /// What the broker took, each once.
    taken: Vec<Publish>,
    /// Whether the broker acknowledges.
    acknowledges: bool,
}

impl World {
    fn new(config: ClientConfig) -> Self {
        let mut world = Self {
            client: Client::new(START, config),
            server: Connection::new(START, ConnectionConfig::default()),
            session: Session::new(SessionLimits::default()),
            taken: Vec::new(),
            acknowledges: true,
        };
        world.run(START);
        world
    }

    /// Both ends see the stream end, and the client comes back.
    fn reconnect(&mut self, now: Instant) -> Vec<ClientEvent> {
        self.client.handle_end();
        self.session.disconnected();
        self.server = Connection::new(now, ConnectionConfig::default());
        self.client.reconnect(now);
        self.run(now)
    }

    /// Moves bytes until nothing moves; returns what the client saw.
    fn run(&mut self, now: Instant) -> Vec<ClientEvent> {
        loop {
            let mut moved = false;
            while let Some(bytes) = self.client.poll_transmit() {
                self.server.handle_bytes(now, &bytes);
                moved = true;
            }
            while let Some(event) = self.server.poll_event() {
                self.broker(now, event);
            }
            while self.server.is_writable()
                && let Some(outgoing) = self.session.poll_outgoing()
            {
                let packet = match outgoing {
                    Outgoing::Publish { message, delivery } => {
                        Packet::Publish(Publish { delivery, ..message })
                    }
                    Outgoing::Pubrel(ack) => Packet::Pubrel(ack),
                };
                self.server.send(now, packet).unwrap();
            }
            while let Some(bytes) = self.server.poll_transmit() {
                self.client.handle_bytes(now, &bytes);
                moved = true;
            }
            if !moved {
                return core::iter::from_fn(|| self.client.poll_event()).collect();
            }
        }
    }

    fn broker(&mut self, now: Instant, event: Event) {
        match event {
            Event::Connect(connect) => {
                let session_present = !connect.clean_start && !self.session.is_idle();
                let accept = Accept { session_present, ..Accept::default() };
                self.server.accept(now, accept).unwrap();
                self.session.connected(self.server.receive_maximum());
            }
            Event::Publish(publish) => self.broker_publish(now, publish),
            Event::Puback(ack) => {
                self.session.handle_puback(ack.packet_id).unwrap();
            }
            Event::Pubrec(ack) => {
                let acked = self.session.handle_pubrec(ack.packet_id, ack.reason);
                let pubrel = Packet::Pubrel(acked.pubrel.unwrap());
                self.server.send(now, pubrel).unwrap();
            }
            Event::Pubrel(ack) => {
                let pubcomp = Packet::Pubcomp(self.session.handle_pubrel(ack.packet_id));
                self.server.send(now, pubcomp).unwrap();
            }
            Event::Pubcomp(ack) => self.session.handle_pubcomp(ack.packet_id).unwrap(),
            Event::Subscribe(subscribe) => {
                let qos = |(_, options): &(_, SubscribeOptions)| options.qos.granted();
                let reasons = subscribe.requests.iter().map(qos).collect();
                let suback = Suback::new(subscribe.packet_id, reasons);
                self.server.send(now, Packet::Suback(suback)).unwrap();
            }
            Event::Unsubscribe { packet_id, filters } => {
                let reasons = vec![ReasonCode::Success; filters.len()];
                let unsuback = Packet::Unsuback(Suback::new(packet_id, reasons));
                self.server.send(now, unsuback).unwrap();
            }
            Event::Closed(_) => {}
        }
    }

    fn broker_publish(&mut self, now: Instant, publish: Publish) {
        let delivery = publish.delivery;
        if self.session.handle_publish(delivery).unwrap() == Incoming::New {
            self.taken.push(publish.clone());
            assert_eq!(self.session.enqueue(publish, delivery.qos()), None);
        }
        if !self.acknowledges {
            return;
        }
        let ack = |packet_id| Ack::new(packet_id, ReasonCode::Success);
        match delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce { packet_id, .. } => {
                self.server.send(now, Packet::Puback(ack(packet_id))).unwrap();
            }
            Delivery::ExactlyOnce { packet_id, .. } => {
                self.server.send(now, Packet::Pubrec(ack(packet_id))).unwrap();
            }
        }
    }
}

#[test]
fn every_qos_goes_there_and_back() {
    for version in [Version::V311, Version::V5] {
        let mut world = World::new(ClientConfig::new(version, "demo").account("a", "b"));
        assert!(world.client.is_connected());
        let wanted = [("x/#", Qos::ExactlyOnce), ("y", Qos::AtMostOnce)];
        let packet_id = world.client.subscribe(START, &wanted).unwrap();
        let reasons = vec![ReasonCode::GrantedQos2, ReasonCode::Success];
        let suback = ClientEvent::Subscribed(Suback::new(packet_id, reasons));
        assert_eq!(world.run(START), [suback]);
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            world.client.publish(START, message("x/y", "hello"), qos).unwrap();
            let events = world.run(START);
            let came_back = |event: &ClientEvent| match event {
                ClientEvent::Message(publish) => publish.delivery.qos() == qos,
                ClientEvent::Connected(_)
                | ClientEvent::Published(..)
                | ClientEvent::Subscribed(_)
                | ClientEvent::Unsubscribed(_)
                | ClientEvent::Closed(_) => false,
            };
            assert!(events.iter().any(came_back), "{version:?} {qos:?} {events:?}");
            let published = ClientEvent::Published(message("x/y", "hello"), ReasonCode::Success);
            assert_eq!(events.contains(&published), qos != Qos::AtMostOnce);
            assert_eq!(world.client.unacknowledged(), 0);
        }
        assert!(world.session.is_idle());
        let packet_id = world.client.unsubscribe(START, &["y"]).unwrap();
        let reasons = if version == Version::V5 { vec![ReasonCode::Success] } else { vec![] };
        let unsuback = ClientEvent::Unsubscribed(Suback::new(packet_id, reasons));
        assert_eq!(world.run(START), [unsuback]);
        world.client.disconnect(START);
        assert_eq!(world.run(START), [ClientEvent::Closed(ClientClosed::Left)]);
        assert!(!world.server.is_open());
        let error = Err(ClientError::NotConnected);
        assert_eq!(world.client.subscribe(START, &[("z", Qos::AtMostOnce)]), error);
    }
}

#[test]
fn what_was_not_acknowledged_comes_again() {
    let config = ClientConfig { auto_acknowledge: false, ..ClientConfig::new(Version::V5, "d") };
    let mut world = World::new(config.persistent(3_600));
    world.acknowledges = false;
    world.client.publish(START, message("q1", "1"), Qos::AtLeastOnce).unwrap();
    world.client.publish(START, message("q2", "2"), Qos::ExactlyOnce).unwrap();
    world.run(START);
    assert_eq!((world.client.unacknowledged(), world.taken.len()), (2, 2));
    world.acknowledges = true;
    let events = world.reconnect(at(1_000));
    assert!(matches!(&events[1], ClientEvent::Connected(connack) if connack.session_present));
    assert_eq!(world.client.unacknowledged(), 0);
    let topics: Vec<_> = world.taken.iter().map(|publish| publish.topic.as_str()).collect();
    assert_eq!(topics, ["q1", "q2", "q1"], "QoS 1 again, QoS 2 not");
    assert!(world.taken[2].delivery.dup());
    // The broker's QoS 1 messages were not acknowledged either.
    let events = world.reconnect(at(2_000));
    let again = events.iter().find_map(|event| match event {
        ClientEvent::Message(publish) => publish.delivery.packet_id(),
        ClientEvent::Connected(_)
        | ClientEvent::Published(..)
        | ClientEvent::Subscribed(_)
        | ClientEvent::Unsubscribed(_)
        | ClientEvent::Closed(_) => None,
    });
    world.client.acknowledge(at(2_000), again.unwrap()).unwrap();
    world.run(at(2_000));
    assert_eq!(world.session.state().inflight.len(), 1, "q1 was taken twice");
}

#[test]
fn a_lost_session_is_begun_anew() {
    let mut world = World::new(ClientConfig::new(Version::V311, "d").persistent(0));
    world.acknowledges = false;
    world.client.publish(START, message("t", "1"), Qos::AtLeastOnce).unwrap();
    world.run(START);
    world.acknowledges = true;
    world.session = Session::new(SessionLimits::default());
    world.reconnect(at(1_000));
    assert_eq!((world.client.unacknowledged(), world.taken.len()), (0, 2));
    assert!(!world.taken[1].delivery.dup());
}

#[test]
fn pings_and_silence() {
    let mut world = World::new(ClientConfig::new(Version::V5, "d"));
    world.run(START);
    assert_eq!(world.client.poll_timeout(), Some((at(45_000), "ping")));
    world.client.handle_timeout(at(45_000));
    assert_eq!(world.client.poll_timeout(), Some((at(55_000), "answer")));
    assert_eq!(world.run(at(45_001)), []);
    assert_eq!(world.client.poll_timeout(), Some((at(90_000), "ping")));
    world.client.handle_timeout(at(90_000));
    world.client.handle_timeout(at(100_000));
    assert_eq!(world.client.poll_event(), Some(ClientEvent::Closed(ClientClosed::Silent)));
    assert_eq!(world.client.poll_timeout(), None);
}

#[test]
fn servers_that_misbehave() {
    let connack = &[0x20, 3, 0, 0, 0][..];
    let unexpected = |kind| ClientClosed::Unexpected { kind };
    for (bytes, closed) in [
        (&[0x20, 3, 0, 0x87, 0][..], ClientClosed::Refused(ReasonCode::NotAuthorized)),
        (&[0xD0, 0], unexpected(PacketKind::Pingresp)),
        (&[connack, connack].concat(), unexpected(PacketKind::Connack)),
        (&[connack, &[0xC0, 0]].concat(), unexpected(PacketKind::Pingreq)),
        (&[connack, &[0x90, 4, 0, 9, 0, 0]].concat(), unexpected(PacketKind::Suback)),
        (
            &[connack, &[0xE0, 1, 0x8B]].concat(),
            ClientClosed::Server(ReasonCode::ServerShuttingDown),
        ),
        (&[connack, &[0x36]].concat(), ClientClosed::Packet(PacketError::Qos)),
    ] {
        let mut client = Client::new(START, ClientConfig::new(Version::V5, "d"));
        client.handle_bytes(START, bytes);
        let last = core::iter::from_fn(|| client.poll_event()).last();
        assert_eq!(last, Some(ClientEvent::Closed(closed)));
        client.handle_end();
        assert_eq!(client.poll_event(), None);
    }
}
