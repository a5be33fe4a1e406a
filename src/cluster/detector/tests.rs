//! A mesh of detectors on a bad network, and single silences on the clock.

use super::*;

const TICK: Duration = TICKTIME_DEFAULT;

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn detector(members: RaftId) -> Detector {
    let mut detector = Detector::new(1, TICK, [7; 32]);
    detector.set_members(at(0), &(1..=members).collect());
    detector
}

fn drain(detector: &mut Detector) -> Vec<Effect> {
    std::iter::from_fn(|| detector.poll_effect()).collect()
}

/// Runs to `until`, with each effect's time in milliseconds.
fn run(detector: &mut Detector, until: Instant) -> Vec<(u64, Effect)> {
    let mut seen = Vec::new();
    while let Some((due, _)) = detector.poll_timeout().filter(|(due, _)| *due <= until) {
        detector.handle_timeout(due);
        seen.extend(drain(detector).into_iter().map(|e| (due.as_micros() / 1_000, e)));
    }
    seen
}

#[test]
fn a_silence_goes_from_ping_to_down_in_one_tick_time() {
    let mut detector = detector(2);
    let seen = run(&mut detector, at(10_000));
    let (ping, node) = (Effect::Ping { to: 2 }, 2);
    assert_eq!(
        seen,
        [
            (2_500, ping),
            (3_750, Effect::Suspected { node }),
            (3_750, ping),
            (5_000, ping),
            (6_250, ping),
            (7_500, ping),
            (8_750, ping),
            (10_000, Effect::Down { node }),
            (10_000, ping),
        ]
    );
    assert_eq!(detector.life(2), Some(Life::Down));
    detector.handle_heard(at(10_500), 2);
    assert_eq!(drain(&mut detector), [Effect::Up { node }]);
    assert_eq!(detector.alive(), [2].into());
}

#[test]
fn two_others_are_asked_and_their_word_counts() {
    let mut detector = detector(5);
    let mut asked = Vec::new();
    for now in (0..60_000).step_by(250).map(at) {
        for from in [2, 3, 4] {
            detector.handle_heard(now, from);
        }
        if detector.poll_timeout().is_some_and(|(due, _)| due <= now) {
            detector.handle_timeout(now);
        }
        for effect in drain(&mut detector) {
            match effect {
                Effect::ProbeVia { via, target } => {
                    assert_eq!(target, 5);
                    asked.push(via);
                    detector.handle_probe_answer(now, target, via, true);
                }
                Effect::Down { .. } => panic!("others hear it"),
                Effect::Ping { .. } | Effect::Suspected { .. } | Effect::Up { .. } => {}
            }
        }
    }
    assert_eq!(detector.life(5), Some(Life::Alive));
    assert!(asked.len() > 60, "the questions go on while it does not speak to us");
    assert!([2, 3, 4].iter().all(|via| asked.contains(via)), "and turn to all in time");
    assert!(asked.chunks(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_no_of_another_is_no_sign() {
    let mut detector = detector(3);
    for millis in (0..11_000).step_by(500) {
        detector.handle_probe_answer(at(millis), 3, 2, false);
        detector.handle_timeout(at(millis));
    }
    assert_eq!((detector.life(2), detector.life(3)), (Some(Life::Alive), Some(Life::Down)));
}

#[test]
fn a_lost_connection_is_suspected_at_once_and_down_no_sooner() {
    let mut detector = detector(3);
    detector.handle_heard(at(1_000), 2);
    detector.handle_heard(at(1_000), 3);
    detector.handle_lost(at(1_200), 2);
    let probe = Effect::ProbeVia { via: 3, target: 2 };
    let (suspected, ping) = (Effect::Suspected { node: 2 }, Effect::Ping { to: 2 });
    assert_eq!(drain(&mut detector), [suspected, ping, probe]);
    let down = |(at, effect): &(u64, Effect)| (*effect == Effect::Down { node: 2 }).then_some(*at);
    let downs: Vec<_> = run(&mut detector, at(30_000)).iter().filter_map(down).collect();
    assert_eq!(downs, [11_000]);
}

#[test]
fn who_slept_itself_accuses_nobody() {
    let mut detector = detector(4);
    detector.handle_timeout(at(600_000));
    let seen = drain(&mut detector);
    assert!(seen.iter().all(|effect| matches!(effect, Effect::Ping { .. })), "{seen:?}");
    let seen = run(&mut detector, at(607_500));
    let downs = seen.iter().filter(|(_, effect)| matches!(effect, Effect::Down { .. }));
    assert_eq!(downs.count(), 3, "but silence goes on counting");
}

#[test]
fn only_members_are_watched() {
    let mut detector = detector(3);
    detector.set_members(at(100), &[1, 2].into());
    detector.handle_heard(at(200), 3);
    detector.handle_lost(at(200), 9);
    assert_eq!((detector.life(1), detector.life(3)), (None, None));
    let seen = run(&mut detector, at(20_000));
    assert!(!seen.is_empty() && drain(&mut detector).is_empty());
    let of_two = |(_, e): &(u64, Effect)| match *e {
        Effect::Ping { to: node } | Effect::Suspected { node } | Effect::Down { node } => node == 2,
        Effect::ProbeVia { .. } | Effect::Up { .. } => false,
    };
    assert!(seen.iter().all(of_two), "{seen:?}");
    detector.set_members(at(30_000), &[1].into());
    assert_eq!(detector.poll_timeout(), None);
}

/// What travels in the mesh. Each is also a sign of life of its sender.
#[derive(Clone, Copy)]
enum Packet {
    /// A ping, and for whom it was sent, if another asked.
    Ping(Option<RaftId>),
    Pong(Option<RaftId>),
    Ask(RaftId),
    Heard(RaftId),
}

/// Detectors in a full mesh that says nothing but what they ask for.
struct Mesh {
    nodes: BTreeMap<RaftId, Detector>,
    flying: BTreeMap<(Instant, u64), (RaftId, RaftId, Packet)>,
    rng: ChaCha12Rng,
    sent: u64,
    dead: BTreeSet<RaftId>,
    loss_percent: u64,
    suspicions: u64,
    downs: Vec<(Instant, RaftId, RaftId)>,
    ups: Vec<(Instant, RaftId, RaftId)>,
}

const LATENCY: Duration = Duration::from_millis(300);

impl Mesh {
    fn new(count: RaftId, seed: u8) -> Self {
        let members: BTreeSet<_> = (1..=count).collect();
        let node = |id: &RaftId| {
            let mut detector = Detector::new(*id, TICK, [seed ^ id.to_le_bytes()[0]; 32]);
            detector.set_members(at(0), &members);
            (*id, detector)
        };
        Self {
            nodes: members.iter().map(node).collect(),
            flying: BTreeMap::new(),
            rng: ChaCha12Rng::from_seed([seed; 32]),
            sent: 0,
            dead: BTreeSet::new(),
            loss_percent: 5,
            suspicions: 0,
            downs: Vec::new(),
            ups: Vec::new(),
        }
    }

    fn send(&mut self, now: Instant, from: RaftId, to: RaftId, packet: Packet) {
        self.sent += 1;
        if self.rng.next_u64() % 100 >= self.loss_percent {
            self.flying.insert((now + LATENCY, self.sent), (from, to, packet));
        }
    }

    fn drain(&mut self, now: Instant, id: RaftId) {
        while let Some(effect) = self.nodes.get_mut(&id).and_then(Detector::poll_effect) {
            match effect {
                Effect::Ping { to } => self.send(now, id, to, Packet::Ping(None)),
                Effect::ProbeVia { via, target } => self.send(now, id, via, Packet::Ask(target)),
                Effect::Suspected { .. } => self.suspicions += 1,
                Effect::Down { node } => self.downs.push((now, id, node)),
                Effect::Up { node } => self.ups.push((now, id, node)),
            }
        }
    }

    fn deliver(&mut self, now: Instant, (from, to, packet): (RaftId, RaftId, Packet)) {
        let Some(node) = self.nodes.get_mut(&to).filter(|_| !self.dead.contains(&to)) else {
            return;
        };
        node.handle_heard(now, from);
        match packet {
            Packet::Ping(on_behalf) => self.send(now, to, from, Packet::Pong(on_behalf)),
            Packet::Pong(Some(asker)) => self.send(now, to, asker, Packet::Heard(from)),
            Packet::Pong(None) => {}
            Packet::Ask(target) => self.send(now, to, target, Packet::Ping(Some(from))),
            Packet::Heard(target) => node.handle_probe_answer(now, target, from, true),
        }
        self.drain(now, to);
    }

    fn run(&mut self, until: Instant) {
        loop {
            let alive = self.nodes.iter().filter(|(id, _)| !self.dead.contains(id));
            let due = alive.filter_map(|(id, node)| Some((node.poll_timeout()?.0, *id))).min();
            let flight = self.flying.first_key_value().map(|(key, _)| *key);
            let (now, id) = match (due, flight) {
                (Some((due, id)), flight) if flight.is_none_or(|(lands, _)| due < lands) => {
                    (due, Some(id))
                }
                (_, Some((lands, _))) => (lands, None),
                (Some(_) | None, None) => return,
            };
            if now > until {
                return;
            }
            match id {
                Some(id) => {
                    self.nodes.get_mut(&id).unwrap().handle_timeout(now);
                    self.drain(now, id);
                }
                None => {
                    let (_, packet) = self.flying.pop_first().unwrap();
                    self.deliver(now, packet);
                }
            }
        }
    }
}

#[test]
fn a_slow_and_lossy_network_downs_nobody_alive() {
    for (seed, count) in [(1, 3), (2, 5), (3, 9)] {
        let mut mesh = Mesh::new(count, seed);
        mesh.run(Instant::from_secs(3_600));
        assert_eq!(mesh.downs, [], "seed {seed}, {count} nodes");
        assert!(mesh.suspicions > 0, "the network is bad enough to prove something");
    }
}

#[test]
fn everybody_notices_a_death_in_time_and_a_return_at_once() {
    for seed in 1..20 {
        let mut mesh = Mesh::new(5, seed);
        mesh.run(Instant::from_secs(60));
        mesh.dead.insert(4);
        mesh.run(Instant::from_secs(120));
        let accusers: BTreeSet<_> = mesh.downs.iter().map(|(_, by, _)| *by).collect();
        assert_eq!(accusers, [1, 2, 3, 5].into(), "seed {seed}");
        for (when, _, node) in &mesh.downs {
            assert_eq!(*node, 4, "seed {seed}");
            assert!(*when <= Instant::from_secs(60) + TICK + LATENCY * 4, "seed {seed}: {when}");
        }
        // It never stopped: the network did. Its first question tells everybody.
        mesh.dead.clear();
        mesh.ups.clear();
        mesh.nodes.get_mut(&4).unwrap().handle_timeout(Instant::from_secs(120));
        mesh.drain(Instant::from_secs(120), 4);
        mesh.run(Instant::from_secs(125));
        let told: BTreeSet<_> = mesh.ups.iter().filter(|up| up.2 == 4).map(|up| up.1).collect();
        assert_eq!(told, [1, 2, 3, 5].into(), "seed {seed}");
    }
}
