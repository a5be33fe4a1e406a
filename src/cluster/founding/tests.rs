//! Foundings in a world that loses, repeats, reorders, crashes and restarts.

use proptest::prelude::*;

use super::*;

fn address(node: u8) -> PeerAddress {
    format!("n{node}").parse().unwrap()
}

fn seed_list(nodes: impl Iterator<Item = u8>) -> SeedList {
    SeedList::new(nodes.map(address).collect()).unwrap()
}

fn config(node: u8, seeds: &SeedList) -> Config {
    Config {
        key: NodeKey([node; 32]),
        name: format!("tern@n{node}"),
        address: address(node),
        seeds: seeds.clone(),
        cluster_id: [node; 16],
        sealed_key: vec![node; 40],
    }
}

/// How a node's founding ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Admission([u8; 16]),
    Voter(Genesis),
}

struct Node {
    config: Config,
    founding: Option<Founding>,
    disk: Option<Vec<u8>>,
    /// Writes on their way to the disk, and when each arrives.
    writes: VecDeque<(Instant, u64, Vec<u8>)>,
    /// When it comes back, if it is away.
    restarts: Option<Instant>,
    boots: u8,
    end: Option<End>,
}

/// What is on its way, to be handed over at a time.
enum Packet {
    Hello(Hello),
    Message(Vec<u8>),
}

struct World {
    now: Instant,
    rng: ChaCha12Rng,
    nodes: BTreeMap<NodeKey, Node>,
    flying: BTreeMap<(Instant, u64), (NodeKey, NodeKey, Packet)>,
    sent: u64,
    /// Of a thousand packets so many are lost, and so many repeated.
    loss: u32,
    repeats: u32,
    warnings: Vec<Warning>,
    founded: BTreeSet<Genesis>,
}

impl World {
    fn new(configs: Vec<(Config, Instant)>, seed: u64) -> Self {
        let node = |(config, starts): (Config, Instant)| {
            let node = Node {
                founding: None,
                disk: None,
                writes: VecDeque::new(),
                restarts: Some(starts),
                boots: 0,
                end: None,
                config,
            };
            (node.config.key, node)
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            now: Instant::ZERO,
            rng: ChaCha12Rng::from_seed(bytes),
            nodes: configs.into_iter().map(node).collect(),
            flying: BTreeMap::new(),
            sent: 0,
            loss: 0,
            repeats: 0,
            warnings: Vec::new(),
            founded: BTreeSet::new(),
        }
    }

    /// `count` seeds started at once.
    fn seeds(count: u8, seed: u64) -> Self {
        let seeds = seed_list(1..=count);
        Self::new((1..=count).map(|n| (config(n, &seeds), Instant::ZERO)).collect(), seed)
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.next_u32() % 1_000 < of_thousand
    }

    fn millis(&mut self, most: u32) -> Duration {
        Duration::from_millis(u64::from(self.rng.next_u32() % most))
    }

    fn send(&mut self, from: NodeKey, to: NodeKey, message: &Message) {
        let copies = u32::from(!self.chance(self.loss)) + u32::from(self.chance(self.repeats));
        for _ in 0..copies {
            self.sent += 1;
            let at = self.now + self.millis(300);
            let packet = Packet::Message(message.to_bytes());
            self.flying.insert((at, self.sent), (from, to, packet));
        }
    }

    /// A link opens: both say Hello, which is lost only together with the link.
    fn greet(&mut self, from: NodeKey) {
        let Some(founding) = &self.nodes[&from].founding else { return };
        let hello = Hello::from_bytes(&founding.hello().to_bytes()).unwrap();
        let peers: Vec<_> = self.nodes.keys().copied().filter(|key| *key != from).collect();
        for peer in peers {
            let at = self.now + self.millis(500);
            self.sent += 1;
            self.flying.insert((at, self.sent), (from, peer, Packet::Hello(hello.clone())));
            if let Some(other) = &self.nodes[&peer].founding {
                let hello = other.hello();
                self.sent += 1;
                self.flying.insert((at, self.sent), (peer, from, Packet::Hello(hello)));
            }
        }
    }

    fn crash(&mut self, key: NodeKey, away: Duration) {
        let node = self.nodes.get_mut(&key).unwrap();
        node.founding = None;
        node.writes.clear();
        node.restarts = Some(self.now + away);
    }

    fn start(&mut self, key: NodeKey) {
        let node = self.nodes.get_mut(&key).unwrap();
        node.restarts = None;
        node.boots += 1;
        let seed = [key.0[0] ^ node.boots.wrapping_mul(31); 32];
        let (config, disk) = (node.config.clone(), node.disk.as_deref());
        node.founding = Some(Founding::new(self.now, config, seed, disk).unwrap());
        self.drain(key);
        self.greet(key);
    }

    fn drain(&mut self, key: NodeKey) {
        let mut ended = false;
        loop {
            let now = self.now;
            let delay = self.millis(20);
            let node = self.nodes.get_mut(&key).unwrap();
            let Some(effect) = node.founding.as_mut().and_then(Founding::poll_effect) else {
                break;
            };
            let end = match effect {
                Effect::Send { to, message } => {
                    self.send(key, to, &message);
                    continue;
                }
                Effect::Persist { token, bytes } => {
                    let after = node.writes.back().map_or(now, |(at, ..)| *at);
                    node.writes.push_back((after.max(now + delay), token, bytes));
                    continue;
                }
                Effect::Warn(warning) => {
                    self.warnings.push(warning);
                    continue;
                }
                Effect::AskAdmission { cluster_id, .. } => End::Admission(cluster_id),
                Effect::Decided(genesis) => {
                    self.founded.insert(genesis.clone());
                    End::Voter(genesis)
                }
            };
            ended = true;
            if let Some(before) = &node.end {
                assert_eq!(*before, end, "{key:?}: an end is the same after a restart");
            }
            node.end = Some(end);
        }
        if ended {
            self.greet(key);
        }
    }

    /// The next moment at which something happens.
    fn next(&self) -> Option<Instant> {
        let of_node = |node: &Node| {
            let timer = node.founding.as_ref().and_then(|f| Some(f.poll_timeout()?.0));
            let write = node.writes.front().map(|(at, ..)| *at);
            [timer, write, node.restarts].into_iter().flatten().min()
        };
        let flight = self.flying.keys().next().map(|(at, _)| *at);
        self.nodes.values().filter_map(of_node).chain(flight).min()
    }

    fn step(&mut self, at: Instant) {
        self.now = self.now.max(at);
        while self.flying.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
            let (_, (from, to, packet)) = self.flying.pop_first().unwrap();
            let now = self.now;
            if let Some(founding) = &mut self.nodes.get_mut(&to).unwrap().founding {
                match packet {
                    Packet::Hello(hello) => founding.handle_hello(now, from, &hello),
                    Packet::Message(bytes) => {
                        let message = Message::from_bytes(&bytes).unwrap();
                        founding.handle_message(now, from, message);
                    }
                }
                self.drain(to);
            }
        }
        let keys: Vec<_> = self.nodes.keys().copied().collect();
        for key in keys {
            let now = self.now;
            let node = self.nodes.get_mut(&key).unwrap();
            if node.restarts.is_some_and(|at| at <= now) {
                self.start(key);
                continue;
            }
            let Some(founding) = &mut node.founding else { continue };
            while let Some((_, token, bytes)) = node.writes.pop_front_if(|w| w.0 <= now) {
                node.disk = Some(bytes);
                founding.handle_persisted(now, token);
            }
            if founding.poll_timeout().is_some_and(|(at, _)| at <= now) {
                founding.handle_timeout(now);
            }
            self.drain(key);
        }
    }

    fn run(&mut self, until: Instant) {
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.step(at);
        }
        self.now = until;
    }

    fn end(&self, node: u8) -> Option<End> {
        self.nodes[&NodeKey([node; 32])].end.clone()
    }

    /// Exactly one cluster, everybody in it or on the way to it.
    fn check(&self, seeds: usize) {
        assert_eq!(self.founded.len(), 1, "{:?}", self.founded);
        let genesis = self.founded.first().unwrap();
        assert!(genesis.voters.len() > seeds / 2, "a majority of the seeds votes");
        for (key, node) in &self.nodes {
            let expected = match genesis.raft_id(*key) {
                Some(_) => End::Voter(genesis.clone()),
                None => End::Admission(genesis.cluster_id),
            };
            assert_eq!(node.end, Some(expected), "{key:?}");
        }
    }
}

#[test]
fn all_seeds_started_at_once_are_one_cluster() {
    for count in 1..=9 {
        let mut world = World::seeds(count, u64::from(count));
        world.run(Instant::from_secs(10));
        world.check(usize::from(count));
        let genesis = world.founded.first().unwrap();
        assert_eq!(genesis.voters.len(), usize::from(count), "nobody in sight is left out");
        assert_eq!((genesis.cluster_id, &genesis.sealed_key), ([1; 16], &vec![1; 40]));
        assert_eq!(genesis.voters[0].address, "n1:6369");
        assert_eq!(world.warnings, []);
    }
}

#[test]
fn a_single_seed_is_a_cluster_at_once() {
    let mut world = World::seeds(1, 1);
    world.run(Instant::from_millis(200));
    world.check(1);
}

#[test]
fn a_minority_waits() {
    let seeds = seed_list(1..=4);
    let pair = (1..=2).map(|n| (config(n, &seeds), Instant::ZERO)).collect();
    let mut world = World::new(pair, 5);
    world.run(Instant::from_secs(300));
    assert_eq!((world.end(1), world.end(2)), (None, None));
}

#[test]
fn a_late_seed_and_a_node_outside_the_list_ask_for_admission() {
    let seeds = seed_list(1..=3);
    let mut world = World::new(
        vec![
            (config(1, &seeds), Instant::ZERO),
            (config(2, &seeds), Instant::ZERO),
            (config(3, &seeds), Instant::from_secs(60)),
            (config(8, &seeds), Instant::ZERO),
        ],
        3,
    );
    world.run(Instant::from_secs(90));
    world.check(3);
    assert_eq!(world.end(3), Some(End::Admission([1; 16])));
    assert_eq!(world.end(8), Some(End::Admission([1; 16])));
    assert_eq!(world.warnings, [Warning::NotASeed(address(8))]);
}

#[test]
fn another_list_is_warned_about_and_does_not_count() {
    let (ours, theirs) = (seed_list(1..=3), seed_list([1, 2, 4].into_iter()));
    let mut world =
        World::new(vec![(config(1, &ours), Instant::ZERO), (config(2, &theirs), Instant::ZERO)], 3);
    world.run(Instant::from_secs(60));
    assert_eq!((world.end(1), world.end(2)), (None, None));
    assert_eq!(world.warnings.len(), 2, "each of the other, once: {:?}", world.warnings);
    assert!(world.warnings.iter().all(|w| matches!(w, Warning::OtherSeeds { .. })));
}

#[test]
fn two_nodes_do_not_sit_on_one_seat() {
    let seeds = seed_list(1..=3);
    let copied = Config { address: address(2), ..config(7, &seeds) };
    let mut world = World::new(
        vec![
            (config(2, &seeds), Instant::ZERO),
            (config(3, &seeds), Instant::ZERO),
            (copied, Instant::from_millis(700)),
        ],
        3,
    );
    world.run(Instant::from_secs(60));
    let genesis = world.founded.first().unwrap();
    assert_eq!((world.founded.len(), genesis.voters.len()), (1, 2));
    assert_eq!(world.end(7), Some(End::Admission(genesis.cluster_id)));
    assert!(world.warnings.iter().any(|w| matches!(w, Warning::SeedTaken { .. })));
}

#[test]
fn a_member_sends_a_stranger_on_and_tells_a_voter_who_it_is() {
    let seeds = seed_list(1..=3);
    let now = Instant::ZERO;
    let mut founding = Founding::new(now, config(2, &seeds), [2; 32], None).unwrap();
    let peer = NodeKey([1; 32]);
    let forming = Hello { cluster: None, ..Founding::hello(&founding) };
    founding.handle_hello(now, peer, &Hello { address: "n1:6369".into(), ..forming.clone() });
    let ballot = Ballot { round: 1, by: peer };
    founding.handle_message(now, peer, Message::Prepare { ballot });
    let Some(Effect::Persist { token, bytes }) = founding.poll_effect() else { panic!("writes") };
    assert_eq!(founding.poll_effect(), None, "nothing leaves before it is written");
    founding.handle_persisted(now, token);
    let promise = Message::Promise { ballot, accepted: None };
    assert_eq!(founding.poll_effect(), Some(Effect::Send { to: peer, message: promise }));

    // It may be a voter of that cluster: it asks first.
    let mut founding = Founding::new(now, config(2, &seeds), [2; 32], Some(&bytes)).unwrap();
    founding.handle_hello(now, peer, &Hello { cluster: Some([9; 16]), ..forming });
    let ask = founding.poll_effect();
    assert_eq!(ask, Some(Effect::Send { to: peer, message: Message::Ask }));
    let answer = answer_as_member([9; 16], &address(1), None, &Message::Ask).unwrap();
    founding.handle_message(now, peer, answer);
    let (cluster_id, address) = ([9; 16], "n1:6369".to_owned());
    let admission = Effect::AskAdmission { cluster_id, of: peer, address };
    assert_eq!(founding.poll_effect(), Some(admission));
    assert_eq!(founding.poll_timeout(), None);
    founding.handle_message(now, peer, Message::Prepare { ballot });
    assert_eq!(founding.poll_effect(), None, "it promises nothing any more");
}

#[test]
fn a_damaged_record_stops_the_node() {
    let seeds = seed_list(1..=3);
    let start = |bytes: &[u8]| {
        Founding::new(Instant::ZERO, config(1, &seeds), [0; 32], Some(bytes)).map(|_| ())
    };
    assert!(matches!(start(&[]), Err(MemoryError::Version(0))));
    assert!(matches!(start(&[2, 0x80]), Err(MemoryError::Version(2))));
    assert!(matches!(start(&[1, 0xFF, 0xFF]), Err(MemoryError::Damaged(_))));
}

#[test]
fn hostile_bytes_are_refused() {
    let voter = |raft_id, key: u8| Voter {
        raft_id,
        key: NodeKey([key; 32]),
        name: "n".repeat(LABEL_MAX),
        address: "a".into(),
    };
    let sound = Genesis {
        cluster_id: [1; 16],
        voters: (1..=9_u8).map(|id| voter(id.into(), id)).collect(),
        sealed_key: vec![0; SEALED_KEY_MAX],
    };
    let decided = |genesis: &Genesis| Message::Decided { genesis: genesis.clone() };
    let bytes = decided(&sound).to_bytes();
    assert!(bytes.len() <= MESSAGE_LEN_MAX, "the largest genesis fits");
    assert_eq!(Message::from_bytes(&bytes).unwrap(), decided(&sound));
    let broken: [&dyn Fn(&mut Genesis); 6] = [
        &|g| g.voters.clear(),
        &|g| g.voters.swap(0, 1),
        &|g| g.voters[3].raft_id = 7,
        &|g| g.voters.push(voter(10, 10)),
        &|g| g.voters[0].name.push('n'),
        &|g| g.sealed_key.push(0),
    ];
    for (number, edit) in broken.iter().enumerate() {
        let mut genesis = sound.clone();
        edit(&mut genesis);
        assert!(Message::from_bytes(&decided(&genesis).to_bytes()).is_err(), "{number}");
    }
    let ballot = Ballot { round: ROUND_MAX + 1, by: NodeKey([1; 32]) };
    assert!(Message::from_bytes(&Message::Prepare { ballot }.to_bytes()).is_err());
    assert!(Message::from_bytes(&vec![0; MESSAGE_LEN_MAX + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_founding_survives_a_bad_hour(
        seed: u64,
        count in 1..10_u8,
        starts in prop::collection::vec(0..20_000_u64, 9),
        loss in 0..400_u32,
        crashes in prop::collection::vec((1..10_u8, 50..6_000_u64, 1..5_000_u64), 0..8),
    ) {
        let seeds = seed_list(1..=count);
        let times = starts.into_iter().map(Instant::from_millis);
        let configs = (1..=count).zip(times).map(|(n, at)| (config(n, &seeds), at)).collect();
        let mut world = World::new(configs, seed);
        (world.loss, world.repeats) = (loss, 200);
        for (node, after, away) in crashes {
            let until = world.now + Duration::from_millis(after);
            world.run(until);
            world.crash(NodeKey([node.min(count); 32]), Duration::from_millis(away));
            prop_assert!(world.founded.len() <= 1);
        }
        // Calm: everybody is back, nothing is lost.
        (world.loss, world.repeats) = (0, 0);
        let until = world.now + Duration::from_secs(120);
        world.run(until);
        world.check(usize::from(count));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Message::from_bytes(&bytes);
        let _ = Hello::from_bytes(&bytes);
    }
}
