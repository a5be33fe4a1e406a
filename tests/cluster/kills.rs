//! Nodes die under load, or come: up to three processes, gateways that go to the next node when
//! theirs is silent, a subscriber whose session is the cluster's.
//!
//! What must hold is asserted: no uplink that a node which lived on has taken is lost, no event id
//! has two contents, no downlink number two frames. Times are measured and printed, never asserted.
//!
//! * `TERN_KILLS`, `TERN_RATE`, `TERN_COPIES`, `TERN_DEVICES`: other numbers than the short ones of
//!   `make test`.
//! * `TERN_RELEASE`: the binary to run, a release build.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mqtt::{ClientConfig, Version};
use serde_json::Value;
use tests::audit::Contents;
use tests::fleet::{Fleet, FleetConfig, Uplink};
use tests::subscriber::{Delivery, Subscriber};
use tests::{Tern, eventually, traffic};

use super::{COOKIE, SOON, name, reproduce};

/// Whoever had a frame this long has told others, or the log has it: what a node took within this
/// time before its death, and nobody else did, went with its memory.
const IN_MEMORY_ALONE: Duration = Duration::from_secs(1);
/// The rate of a run in `make test`, where the nodes are debug builds.
const RATE: u32 = 25;

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// As many as send every ten seconds. One more, so that not the same ones are confirmed each time.
const fn devices(rate: u32) -> u32 {
    10 * rate + 1
}

/// Nodes, and the load that they are under.
struct Stage {
    nodes: Vec<Tern>,
    fleet: Fleet,
    subscriber: Subscriber,
    devices: u32,
    /// Which node was gone, from when to when.
    outages: Vec<Outage>,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    node: usize,
    from: Duration,
    /// When it was ready again.
    until: Duration,
    /// When it lacked nothing any more.
    level: Duration,
}

fn prepare(number: u8) -> Tern {
    let binary = std::env::var_os("TERN_RELEASE").map(PathBuf::from);
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_tern-under-test").into());
    let mut node = Tern::prepare(&binary, "EU868", &[]);
    node.set("node.name", &name(number));
    node.set("listen.peers", "127.0.0.1:6369");
    node.set("cluster.address", "127.0.0.1:0");
    node.set("cluster.cookie", COOKIE);
    node
}

fn nodes(count: u8) -> Vec<Tern> {
    let mut nodes: Vec<_> = (1..=count).map(prepare).collect();
    let seeds: Vec<_> = nodes.iter().map(|node| node.peers().to_string()).collect();
    for node in &mut nodes {
        if count > 1 {
            node.set("cluster.discovery", "static");
            node.set("cluster.static.seeds", &seeds.join(","));
        }
        node.spawn();
    }
    nodes.iter_mut().for_each(Tern::wait_ready);
    nodes
}

impl Stage {
    fn new(count: u8, rate: u32, copies: u32) -> Self {
        Self::with_devices(count, rate, copies, devices(rate))
    }

    fn with_devices(count: u8, rate: u32, copies: u32, devices: u32) -> Self {
        let nodes = nodes(count);
        let copies = usize::try_from(copies).unwrap().min(nodes.len());
        let config = FleetConfig {
            nodes: nodes.iter().map(Tern::udp).collect(),
            // A fifth asks for an answer; see `gateways_each`.
            gateways_each: usize::try_from((rate / 50).clamp(2, 20)).unwrap(),
            copies,
            devices,
            rate,
            confirmed_each: 5,
        };
        let account = traffic::provision(&nodes[0], &config.gateways(), config.traffic());
        let mut client = ClientConfig::new(Version::V5, "auditor")
            .account("auditor", &account.password)
            .persistent(3_600);
        // A process that is stopped keeps its connections: only its silence tells.
        client.connect.keep_alive_secs = 2;
        client.answer_timeout = Duration::from_secs(2);
        let brokers = nodes.iter().map(Tern::mqtt).collect();
        let fleet = Fleet::start(config);
        let subscriber =
            Subscriber::roaming(brokers, client, &account.topic, sink(fleet.witness()));
        Self { nodes, fleet, subscriber, devices, outages: Vec::new() }
    }

    /// Who leads, as some node that is there sees it.
    fn leader(&self, asked: usize) -> usize {
        eventually("a leader", SOON, || {
            let (_, info) = self.nodes[asked].call("GET", "/api/v1/cluster", "");
            let all = info["members"].as_array()?;
            let leader = all.iter().find(|one| one["leads"] == true)?["name"].as_str()?;
            (0..self.nodes.len()).find(|node| name(u8::try_from(node + 1).unwrap()) == leader)
        })
    }

    /// Waits until a node lacks nothing, as it sees it and the leader.
    fn wait_level(&self, node: usize) {
        let own = name(u8::try_from(node + 1).unwrap());
        eventually("it has caught up", SOON, || {
            let (status, info) = self.nodes[self.leader(node)].call("GET", "/api/v1/cluster", "");
            let one = info["members"].as_array()?.iter().find(|one| one["name"] == own)?;
            let level = one["lag"].as_u64().is_some_and(|lag| lag < 50);
            (status == 200 && one["running"] == true && level).then_some(())
        });
    }

    /// `kill -9`, `gone` later a start on the same folder.
    fn kill(&mut self, node: usize, gone: Duration) {
        let from = self.fleet.now();
        self.nodes[node].kill();
        std::thread::sleep(gone);
        self.nodes[node].start_again();
        self.returned(node, from);
    }

    /// The process stands still and then goes on, as if nothing had been.
    fn pause(&mut self, node: usize, gone: Duration) {
        let from = self.fleet.now();
        self.nodes[node].signal("STOP");
        std::thread::sleep(gone);
        self.nodes[node].signal("CONT");
        self.nodes[node].wait_ready();
        self.returned(node, from);
    }

    fn returned(&mut self, node: usize, from: Duration) {
        let until = self.fleet.now();
        self.fleet.back(node);
        self.wait_level(node);
        self.outages.push(Outage { node, from, until, level: self.fleet.now() });
    }

    /// Waits for what is on its way, checks, and says what there is to say.
    fn close(self, title: &str) {
        self.fleet.fall_silent();
        let mut last = (0, self.fleet.now());
        eventually("nothing is on its way any more", 4 * SOON, || {
            std::thread::sleep(Duration::from_millis(100));
            let ledger = self.fleet.ledger();
            let open = ledger.uplinks.iter().filter(|one| is_open(one)).count();
            if open != last.0 {
                last = (open, self.fleet.now());
            }
            let rest = self.fleet.now().saturating_sub(last.1);
            (rest > Duration::from_secs(if open == 0 { 3 } else { 15 })).then_some(())
        });
        let ledger = self.fleet.ledger();
        let uplinks = &ledger.uplinks;
        let taken = uplinks.iter().filter(|one| one.acked[0].is_some()).count();
        let open: Vec<&Uplink> = uplinks.iter().filter(|one| is_open(one)).collect();
        let (dropped, open) = self.in_the_log(open);
        let (alone, lost): (Vec<&Uplink>, Vec<&Uplink>) =
            open.into_iter().partition(|one| went_with_its_nodes(one, &self.outages));
        println!("\n{title}");
        println!(
            "  uplinks    {} sent, {taken} taken by a node, {} delivered",
            uplinks.len(),
            uplinks.iter().filter(|one| one.delivered.is_some()).count()
        );
        println!(
            "  lost       {}; {} more were in the memory of a killed node alone; {} are in the \
             event log, but the subscriber's queue of 1,000 was full",
            lost.len(),
            alone.len(),
            dropped.len()
        );
        answers(uplinks);
        unavailability(uplinks, &self.outages);
        let latencies = uplinks.iter().filter_map(|one| one.delivered?.checked_sub(one.due));
        println!("  event      {}", quantiles(latencies.collect()));
        println!("  numbers    {} downlink numbers, none used twice", ledger.numbers.len());
        println!("  gateways   {} moves to another node", ledger.moves);
        let show: Vec<_> = lost.iter().take(2).collect();
        assert!(lost.is_empty(), "{} uplinks are lost: {show:#?}\n{:#?}", lost.len(), self.outages);
    }
}

impl Stage {
    /// Divides what did not come by MQTT: an outage at a high rate ends with more events at once
    /// than a session's queue holds, and then the oldest go. The log has them still.
    fn in_the_log<'a>(&self, open: Vec<&'a Uplink>) -> (Vec<&'a Uplink>, Vec<&'a Uplink>) {
        if open.is_empty() {
            return (open, Vec::new());
        }
        for (at, server, present) in self.subscriber.visits() {
            let at = at.saturating_duration_since(self.fleet.begun());
            println!("subscriber at {server} from {at:?}, its session there: {present}");
        }
        println!("not delivered: from {:?} to {:?}", open[0].due, open[open.len() - 1].due);
        let logs: Vec<_> = self.nodes.iter().map(|node| self.logged(node)).collect();
        open.into_iter().partition(|one| logs.iter().all(|log| log.contains(&one.number)))
    }

    /// The numbers of all uplinks in a node's event log.
    fn logged(&self, tern: &Tern) -> BTreeSet<u32> {
        let (mut after, mut numbers) = (0, BTreeSet::new());
        loop {
            let path = format!("/api/v1/events?after={after}&limit=1000");
            let (_, page) = tern.call("GET", &path, "");
            let events = page["events"].as_array().cloned().unwrap_or_default();
            let Some(last) = events.last() else { return numbers };
            after = last["sequence"].as_u64().expect("a sequence");
            for event in events.iter().filter(|event| event["event"] == "up") {
                let (device, fcnt) = identity(&event["body"]);
                numbers.insert(fcnt * self.devices + device);
            }
        }
    }
}

/// Notes events, and finds ids with two contents.
fn sink(witness: impl Fn(u32, u32) + Send) -> impl FnMut(Delivery) + Send {
    let mut contents = Contents::default();
    move |delivery| {
        let body: Value = serde_json::from_slice(&delivery.payload).expect("JSON");
        contents.note(&delivery.topic, &body);
        if !delivery.topic.ends_with("/event/up") {
            return;
        }
        let (device, fcnt) = identity(&body);
        witness(device, fcnt);
    }
}

/// Device and number of an uplink's event.
fn identity(body: &Value) -> (u32, u32) {
    let dev_eui = body["deviceInfo"]["devEui"].as_str().expect("an uplink has a device");
    let first = u64::from_be_bytes(traffic::dev_eui(0).to_be_bytes());
    let device = u64::from_str_radix(dev_eui, 16).expect("an EUI") - first;
    let fcnt = body["fCnt"].as_u64().unwrap_or(0);
    (u32::try_from(device).unwrap(), u32::try_from(fcnt).unwrap())
}

/// A node has taken it and its event has not come.
fn is_open(uplink: &Uplink) -> bool {
    uplink.acked[0].is_some() && uplink.delivered.is_none()
}

/// Every node that took it was killed before it can have told anybody.
fn went_with_its_nodes(uplink: &Uplink, outages: &[Outage]) -> bool {
    uplink.acked.iter().flatten().all(|acked| {
        outages.iter().any(|outage| {
            let died = outage.from + Duration::from_millis(20);
            outage.node == acked.node && acked.at <= died && died - acked.at < IN_MEMORY_ALONE
        })
    })
}

fn answers(uplinks: &[Uplink]) {
    let asked = || uplinks.iter().filter(|one| one.confirmed && one.acked[0].is_some());
    let count = |window| asked().filter(|one| one.answered == window).count();
    let all = asked().count().max(1);
    let (first, second, none) = (count(Some(1)), count(Some(2)), count(None));
    let late = asked().filter(|one| one.answered.is_none() && one.late).count();
    let share = |part: usize| {
        100.0 * f64::from(u32::try_from(part).unwrap_or(u32::MAX))
            / f64::from(u32::try_from(all).unwrap_or(u32::MAX))
    };
    println!(
        "  answers    {all} confirmed uplinks: {first} in RX1, {second} in RX2 ({:.2} %), {none} \
         without ({late} of them answered too late)",
        share(first + second)
    );
}

/// From the first uplink that was due after a kill to the first event of one that was.
fn unavailability(uplinks: &[Uplink], outages: &[Outage]) {
    let mut delivered: Vec<_> = uplinks.iter().filter_map(|one| one.delivered).collect();
    delivered.sort_unstable();
    let (mut served, mut gaps) = (Vec::new(), Vec::new());
    for outage in outages {
        let start = uplinks.partition_point(|one| one.due < outage.from);
        let Some(first) = uplinks.get(start) else { continue };
        let events = uplinks[start..].iter().filter_map(|one| one.delivered);
        served.extend(events.min().map(|event| event - first.due));
        let near = delivered.partition_point(|at| *at + Duration::from_secs(1) < outage.from);
        let window = delivered[near..].iter().take_while(|at| **at < outage.level);
        gaps.extend(window.clone().zip(window.skip(1)).map(|(one, next)| *next - *one).max());
    }
    println!("  outage     {} nodes gone; first event after: {}", outages.len(), quantiles(served));
    println!("  silence    longest between two events: {}", quantiles(gaps));
    let ready = outages.iter().map(|outage| outage.until - outage.from).collect();
    println!("  return     ready again: {}", quantiles(ready));
    let level = outages.iter().map(|outage| outage.level - outage.from).collect();
    println!("  return     caught up: {}", quantiles(level));
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| {
        let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(place).map_or("-".to_owned(), |time| format!("{:.3} s", time.as_secs_f64()))
    };
    format!("p50 {}  p99 {}  max {}", at(50), at(99), at(100))
}

/// The leader dies, again and again; twice in `make test`, a hundred times in `make soak`.
#[test]
fn leaders_die_under_load() {
    reproduce("kills::leaders_die_under_load");
    let (kills, rate) = (number("TERN_KILLS", 2), number("TERN_RATE", RATE));
    let copies = number("TERN_COPIES", 2);
    let mut stage = Stage::new(3, rate, copies);
    std::thread::sleep(Duration::from_secs(2));
    let mut alive = 0;
    for kill in 0..kills {
        let leader = stage.leader(alive);
        // Any moment: nothing else in here repeats every 377 ms.
        stage.kill(leader, Duration::from_millis(500 + u64::from(kill) * 377 % 2_500));
        let outage = stage.outages.last().unwrap();
        println!("kill {}: {outage:?}", kill + 1);
        alive = (leader + 1) % 3;
        std::thread::sleep(Duration::from_millis(1_500 + u64::from(kill) * 211 % 1_000));
    }
    let title = format!("{kills} leaders killed at {rate} uplinks/s, {copies} gateways a frame");
    stage.close(&title);
}

/// Any one node is gone for five seconds, dead or standing still; every frame is heard by a gateway
/// of each node. `TERN_GONE=all`: each of the three in turn, both ways, 2,000 uplinks at 100 a
/// second.
#[test]
fn any_one_node_is_gone_for_five_seconds() {
    reproduce("kills::any_one_node_is_gone_for_five_seconds");
    let all = std::env::var_os("TERN_GONE").is_some();
    let rate = number("TERN_RATE", if all { 100 } else { RATE });
    for node in 0..if all { 3 } else { 1 } {
        for paused in [true, false] {
            let mut stage = Stage::new(3, rate, 3);
            std::thread::sleep(Duration::from_secs(if all { 5 } else { 1 }));
            let leads = if stage.leader(node) == node { ", the leader," } else { "" };
            let (word, gone) =
                if paused { ("stopped", 5) } else { ("killed", if all { 5 } else { 2 }) };
            let gone = Duration::from_secs(gone);
            match paused {
                true => stage.pause(node, gone),
                false => stage.kill(node, gone),
            }
            let until = if all { Duration::from_secs(20) } else { Duration::ZERO };
            std::thread::sleep(until.saturating_sub(stage.fleet.now()));
            stage.close(&format!("n{}{leads} {word} for {gone:?} at {rate} uplinks/s", node + 1));
        }
    }
}

/// Scenario 9: a node comes to one with many devices while they send. `make soak` has 100,000.
#[test]
fn a_node_joins_many_devices_under_load() {
    reproduce("kills::a_node_joins_many_devices_under_load");
    let (devices, rate) = (number("TERN_DEVICES", 2_000), number("TERN_RATE", RATE));
    let mut stage = Stage::with_devices(1, rate, 1, devices);
    let mut comer = prepare(2);
    comer.set("cluster.join", &stage.nodes[0].peers().to_string());
    let since = Instant::now();
    comer.spawn();
    comer.wait_ready();
    let ready = since.elapsed();
    stage.nodes.push(comer);
    stage.wait_level(1);
    let level = since.elapsed();
    let (_, list) = stage.nodes[1].call("GET", "/api/devices?limit=1", "");
    assert_eq!(list["totalCount"], devices, "{list}");
    std::thread::sleep(Duration::from_secs(1));
    stage.close(&format!(
        "a node joins {devices} devices at {rate} uplinks/s: ready after {ready:?}, level after \
         {level:?}"
    ));
}

/// Nobody dies: what `TERN_NODES` nodes hold at `TERN_RATE` uplinks a second for `TERN_SECONDS`.
#[test]
#[ignore = "a measurement: deploy/soak.sh runs it with a release build"]
fn steady_load() {
    let (count, rate) = (number("TERN_NODES", 3), number("TERN_RATE", 100));
    let seconds = number("TERN_SECONDS", 10);
    let copies = number("TERN_COPIES", 1);
    let stage = Stage::new(u8::try_from(count).unwrap(), rate, copies);
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let title =
        format!("{count} nodes at {rate} uplinks/s for {seconds} s, {copies} gateways a frame");
    stage.close(&title);
}
