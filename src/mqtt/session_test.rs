//! Flows by example, and a link that loses: never twice at QoS 2, never lost at QoS 1.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use crate::*;

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn session(limits: SessionLimits) -> Session<u32> {
    let mut session = Session::new(limits);
    session.connected(u16::MAX);
    session
}

fn sent(message: u32, delivery: Delivery) -> Option<Outgoing<u32>> {
    Some(Outgoing::Publish { message, delivery })
}

fn once(packet_id: u16, dup: bool) -> Delivery {
    Delivery::AtLeastOnce { packet_id: id(packet_id), dup }
}

fn twice(packet_id: u16, dup: bool) -> Delivery {
    Delivery::ExactlyOnce { packet_id: id(packet_id), dup }
}

#[test]
fn defaults_are_the_documented_ones() {
    let limits = SessionLimits::default();
    assert_eq!((limits.max_inflight, limits.max_awaiting_rel), (32, 1_000));
    assert_eq!((limits.max_queue, limits.store_qos0), (1_000, true));
}

#[test]
fn qos_1_goes_out_within_the_window_and_again_after_a_reconnect() {
    let mut session = session(SessionLimits { max_inflight: 2, ..SessionLimits::default() });
    for message in 10..13 {
        assert_eq!(session.enqueue(message, Qos::AtLeastOnce), None);
    }
    assert_eq!(session.poll_outgoing(), sent(10, once(1, false)));
    assert_eq!(session.poll_outgoing(), sent(11, once(2, false)));
    assert_eq!(session.poll_outgoing(), None);
    assert_eq!(session.handle_puback(id(2)), Ok(11));
    assert_eq!(session.poll_outgoing(), sent(12, once(3, false)));
    assert_eq!(
        session.handle_puback(id(2)),
        Err(SessionError::UnknownPacketId { packet_id: id(2) })
    );
    session.disconnected();
    assert_eq!(session.poll_outgoing(), None);
    // The client takes one at a time now.
    let mut session = Session::restore(SessionLimits::default(), session.into_state()).unwrap();
    session.connected(1);
    assert_eq!(session.poll_outgoing(), sent(10, once(1, true)));
    assert_eq!(session.poll_outgoing(), None);
    assert_eq!(session.handle_puback(id(1)), Ok(10));
    assert_eq!(session.poll_outgoing(), sent(12, once(3, true)));
    assert_eq!(session.handle_puback(id(3)), Ok(12));
    assert!(session.is_idle());
}

#[test]
fn qos_2_hands_over_once() {
    let mut session = session(SessionLimits::default());
    assert_eq!(session.enqueue(7, Qos::ExactlyOnce), None);
    assert_eq!(session.poll_outgoing(), sent(7, twice(1, false)));
    session.disconnected();
    session.connected(u16::MAX);
    assert_eq!(session.poll_outgoing(), sent(7, twice(1, true)));
    let pubrel = Some(Ack::new(id(1), ReasonCode::Success));
    let acked = session.handle_pubrec(id(1), ReasonCode::Success);
    assert_eq!(acked, Acked { released: Some(7), pubrel: pubrel.clone() });
    let acked = session.handle_pubrec(id(1), ReasonCode::Success);
    assert_eq!(acked, Acked { released: None, pubrel: pubrel.clone() });
    session.disconnected();
    session.connected(u16::MAX);
    assert_eq!(session.poll_outgoing(), pubrel.map(Outgoing::Pubrel));
    assert_eq!(session.handle_pubcomp(id(1)), Ok(()));
    assert!(session.handle_pubcomp(id(1)).is_err());
    assert!(session.is_idle());
}

#[test]
fn a_refused_qos_2_message_is_done() {
    let mut session = session(SessionLimits::default());
    assert_eq!(session.enqueue(7, Qos::ExactlyOnce), None);
    assert_eq!(session.poll_outgoing(), sent(7, twice(1, false)));
    assert!(session.handle_pubcomp(id(1)).is_err(), "not handed over yet");
    assert!(session.handle_puback(id(1)).is_err(), "not QoS 1");
    let acked = session.handle_pubrec(id(1), ReasonCode::QuotaExceeded);
    assert_eq!(acked, Acked { released: Some(7), pubrel: None });
    assert!(session.is_idle());
    let acked = session.handle_pubrec(id(1), ReasonCode::Success);
    let pubrel = Some(Ack::new(id(1), ReasonCode::PacketIdentifierNotFound));
    assert_eq!(acked, Acked { released: None, pubrel });
}

#[test]
fn what_cannot_be_sent_counts_as_delivered() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut session = session(SessionLimits { max_inflight: 1, ..SessionLimits::default() });
        assert_eq!((session.enqueue(7, qos), session.enqueue(8, qos)), (None, None));
        assert!(session.poll_outgoing().is_some());
        assert_eq!(session.poll_outgoing(), None);
        assert_eq!(session.abandon(id(1)), Some(7));
        assert_eq!(session.abandon(id(1)), None);
        assert!(session.poll_outgoing().is_some(), "the window is open again");
    }
}

#[test]
fn a_full_queue_drops_the_oldest() {
    let limits = SessionLimits { max_queue: 2, store_qos0: false, ..SessionLimits::default() };
    let mut session = Session::new(limits);
    assert_eq!(session.enqueue(0, Qos::AtMostOnce), Some(0), "away, and QoS 0 is not stored");
    assert_eq!(session.enqueue(1, Qos::AtLeastOnce), None);
    assert_eq!(session.enqueue(2, Qos::AtLeastOnce), None);
    assert_eq!(session.enqueue(3, Qos::AtLeastOnce), Some(1));
    session.connected(u16::MAX);
    assert_eq!(session.enqueue(4, Qos::AtMostOnce), Some(2));
    session.disconnected();
    assert_eq!(session.state().dropped, 4);
    assert_eq!(session.state().queue, [Queued { message: 3, qos: Qos::AtLeastOnce }]);
}

#[test]
fn qos_2_from_the_client_is_new_once() {
    let mut session = session(SessionLimits { max_awaiting_rel: 2, ..SessionLimits::default() });
    assert_eq!(session.handle_publish(twice(1, false)), Ok(Incoming::New));
    assert_eq!(session.handle_publish(twice(1, true)), Ok(Incoming::Duplicate));
    // Not even without DUP is it another message while its id is not free.
    assert_eq!(session.handle_publish(twice(1, false)), Ok(Incoming::Duplicate));
    assert_eq!(session.handle_publish(twice(2, false)), Ok(Incoming::New));
    let full = Err(SessionError::TooManyAwaitingRel { limit: 2 });
    assert_eq!(session.handle_publish(twice(3, false)), full);
    assert_eq!(session.handle_publish(once(1, true)), Ok(Incoming::New));
    assert_eq!(session.handle_pubrel(id(1)).reason, ReasonCode::Success);
    assert_eq!(session.handle_pubrel(id(1)).reason, ReasonCode::PacketIdentifierNotFound);
    assert_eq!(session.handle_publish(twice(1, false)), Ok(Incoming::New));
    session.refuse_publish(id(2));
    assert_eq!(session.handle_publish(twice(2, false)), Ok(Incoming::New));
}

#[test]
fn packet_ids_wrap_around_those_in_use() {
    let mut state = SessionState { last_packet_id: 65_534, ..SessionState::default() };
    let stage = Stage::AwaitPuback(0);
    state.inflight.push(Inflight { packet_id: id(65_535), stage: stage.clone() });
    state.inflight.push(Inflight { packet_id: id(1), stage });
    let mut session = Session::restore(SessionLimits::default(), state.clone()).unwrap();
    session.connected(u16::MAX);
    assert_eq!(session.poll_outgoing(), sent(0, once(65_535, true)));
    assert_eq!(session.poll_outgoing(), sent(0, once(1, true)));
    assert_eq!(session.enqueue(9, Qos::AtLeastOnce), None);
    assert_eq!(session.poll_outgoing(), sent(9, once(2, false)));
    state.inflight[1].packet_id = id(65_535);
    let error = SessionError::PacketIdTwice { packet_id: id(65_535) };
    assert_eq!(Session::restore(SessionLimits::default(), state).err(), Some(error));
}

/// What travels on the link.
#[derive(Clone, Debug)]
enum Wire {
    Publish(u32, Delivery),
    Puback(PacketId),
    Pubrec(PacketId),
    Pubrel(PacketId),
    Pubcomp(PacketId),
}

/// A sender, a receiver, and a link between them that can be cut.
struct World {
    sender: Session<u32>,
    receiver: Session<u32>,
    there: VecDeque<Wire>,
    back: VecDeque<Wire>,
    delivered: Vec<u32>,
    /// Which message each packet id stands for, as an observer of the link sees it.
    names: BTreeMap<PacketId, u32>,
    sent_before: BTreeSet<u32>,
    cuts: usize,
}

impl World {
    fn new(max_inflight: u16) -> Self {
        let limits = SessionLimits { max_inflight, ..SessionLimits::default() };
        Self {
            sender: session(limits),
            receiver: session(limits),
            there: VecDeque::new(),
            back: VecDeque::new(),
            delivered: Vec::new(),
            names: BTreeMap::new(),
            sent_before: BTreeSet::new(),
            cuts: 0,
        }
    }

    fn send(&mut self) {
        let wire = match self.sender.poll_outgoing() {
            Some(Outgoing::Publish { message, delivery }) => {
                if let Some(packet_id) = delivery.packet_id() {
                    let name = *self.names.entry(packet_id).or_insert(message);
                    assert_eq!(name, message, "two messages under one packet id");
                    let again = !self.sent_before.insert(message);
                    assert_eq!(delivery.dup(), again, "DUP exactly when sent again");
                    assert!(!again || self.cuts > 0, "sent again without a reconnect");
                }
                Wire::Publish(message, delivery)
            }
            Some(Outgoing::Pubrel(ack)) => Wire::Pubrel(ack.packet_id),
            None => return,
        };
        self.there.push_back(wire);
    }

    fn receive(&mut self) {
        let answer = match self.there.pop_front() {
            Some(Wire::Publish(message, delivery)) => {
                if self.receiver.handle_publish(delivery).unwrap() == Incoming::New {
                    self.delivered.push(message);
                }
                match delivery {
                    Delivery::AtMostOnce => return,
                    Delivery::AtLeastOnce { packet_id, .. } => Wire::Puback(packet_id),
                    Delivery::ExactlyOnce { packet_id, .. } => Wire::Pubrec(packet_id),
                }
            }
            Some(Wire::Pubrel(packet_id)) => {
                self.receiver.handle_pubrel(packet_id);
                Wire::Pubcomp(packet_id)
            }
            Some(Wire::Puback(_) | Wire::Pubrec(_) | Wire::Pubcomp(_)) | None => return,
        };
        self.back.push_back(answer);
    }

    fn answer(&mut self) {
        match self.back.pop_front() {
            Some(Wire::Puback(packet_id)) => {
                let released = self.sender.handle_puback(packet_id).unwrap();
                assert_eq!(self.names.remove(&packet_id), Some(released));
            }
            Some(Wire::Pubrec(packet_id)) => {
                let acked = self.sender.handle_pubrec(packet_id, ReasonCode::Success);
                self.there.push_back(Wire::Pubrel(acked.pubrel.unwrap().packet_id));
            }
            Some(Wire::Pubcomp(packet_id)) => {
                self.sender.handle_pubcomp(packet_id).unwrap();
                self.names.remove(&packet_id);
            }
            Some(Wire::Publish(..) | Wire::Pubrel(_)) | None => {}
        }
    }

    /// All that travels is lost; both sides go through their kept states.
    fn cut(&mut self) {
        self.there.clear();
        self.back.clear();
        self.cuts += 1;
        for side in [&mut self.sender, &mut self.receiver] {
            let kept = side.state().clone();
            *side = Session::restore(SessionLimits::default(), kept).unwrap();
            side.connected(4);
        }
    }

    fn settle(&mut self) {
        while !self.sender.is_idle() || !self.there.is_empty() || !self.back.is_empty() {
            self.send();
            self.receive();
            self.answer();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enqueue,
    Send,
    Receive,
    Answer,
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Enqueue),
        4 => Just(Step::Send),
        4 => Just(Step::Receive),
        4 => Just(Step::Answer),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_link_that_loses(
        qos in strategies::qos(),
        max_inflight in 1..6_u16,
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new(max_inflight);
        let mut next = 0;
        for step in steps {
            match step {
                Step::Enqueue => {
                    prop_assert_eq!(world.sender.enqueue(next, qos), None);
                    next += 1;
                }
                Step::Send => world.send(),
                Step::Receive => world.receive(),
                Step::Answer => world.answer(),
                Step::Cut => world.cut(),
            }
        }
        world.settle();
        let all: Vec<u32> = (0..next).collect();
        let mut first = world.delivered.clone();
        let mut seen = BTreeSet::new();
        first.retain(|message| seen.insert(*message));
        match qos {
            Qos::AtMostOnce => prop_assert_eq!(&first, &world.delivered, "at most once"),
            Qos::AtLeastOnce => prop_assert_eq!(&first, &all, "at least once, first in order"),
            Qos::ExactlyOnce => prop_assert_eq!(&world.delivered, &all, "exactly once, in order"),
        }
        prop_assert!(world.receiver.is_idle(), "no packet id is remembered for nothing");
    }
}
