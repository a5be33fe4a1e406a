//! Three nodes on a network that breaks in every way a network can, behind a balancer that keeps
//! nothing together: one PUSH_DATA goes here, the next there, the PULL_DATA to a third.
//!
//! Uplinks are delivered exactly once and confirmed ones answered, whatever breaks. Needs root and
//! network namespaces; where there are none it says so on the terminal and proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lorawan::Frame;
use serde_json::Value;
use tests::balancer::{Balancer, Forwarded, Target};
use tests::namespaces::Network;
use tests::relay::{Relay, Weather};
use tests::traffic::{self, Ledger, Sent, Traffic, TrafficConfig};
use tests::{Tern, eventually};

use super::{COOKIE, SOON, reproduce};

/// A device sends every few seconds, so that its windows are over before it sends again. There is
/// one gateway with one radio: a second window at SF12 would take it for more than a second, and
/// whatever is wanted then goes to its own second window, for good. At 450 ms between two confirmed
/// uplinks no second window falls on another's first one.
const TRAFFIC: TrafficConfig = TrafficConfig {
    devices: 64,
    joiners: 0,
    every: Duration::from_millis(50),
    confirmed_each: 9,
    join_each: 1_000_000,
    rx2_dr: 5,
};
/// How long each fault lasts: beyond [`SETTLE`], and beyond the time between two uplinks of a
/// device, so that a reading that is held up too long is overtaken by the next, and lost.
const FAULT: Duration = Duration::from_secs(6);
/// Quiet time between two faults.
const QUIET: Duration = Duration::from_secs(5);
/// How long the others may take to go on: an election and two deduplication windows.
const SETTLE: Duration = Duration::from_millis(2_500);
/// How long links may take to come up again: the longest pause between two tries, and a handshake.
const MENDED: Duration = Duration::from_millis(1_500);
/// Within this time an uplink is answered, in the second window if not in the first.
const WINDOWS: Duration = Duration::from_secs(2);
/// How soon a node that is struck may be handed its last frame before it is struck.
const IN_FLIGHT: Duration = Duration::from_millis(500);

/// A follower that does not hear the leader learns of no decision, but the third node reaches it:
/// it stays the home of its devices, and nobody answers in its place (DESIGN 4.2 and 4.4: only if
/// that is out of reach). Their answers may be missing for as long as this lasts; no reading may.
const ONE_WAY: &str = "what the leader says to one follower disappears";

/// A fault: who was struck, and from when until when.
#[derive(Debug)]
struct Struck {
    name: &'static str,
    node: Option<usize>,
    from: Instant,
    until: Instant,
    /// All three are ready again.
    whole: Instant,
}

/// Nodes, relays and the balancer.
struct Site<'a> {
    network: &'a Network,
    nodes: Vec<Tern>,
    relays: Vec<Relay>,
    balancer: Balancer,
    struck: Vec<Struck>,
    /// Holds the scripts that run a node at its host.
    _scripts: tempfile::TempDir,
}

fn prepared(network: &Network, scripts: &Path, host: u8) -> Tern {
    let script = scripts.join(format!("tern-{host}"));
    let text = network.script(host, env!("CARGO_BIN_EXE_tern-under-test"));
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut node = Tern::prepare(&script, "EU868", &[]);
    node.live_at(Network::host(host));
    node.set("node.name", &format!("n{host}@{}", Network::host(host)));
    node.set("cluster.cookie", COOKIE);
    node
}

impl<'a> Site<'a> {
    fn start(network: &'a Network) -> Self {
        let scripts = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Tern> =
            (1..=3).map(|host| prepared(network, scripts.path(), host)).collect();
        let relay = |(host, node): (u8, &mut Tern)| {
            let relay = Relay::start((Network::front(host), 6_369).into(), node.peers());
            node.set("cluster.address", &relay.address().to_string());
            relay
        };
        let relays: Vec<Relay> = (1..).zip(&mut nodes).map(relay).collect();
        let first = relays[0].address().to_string();
        nodes.iter_mut().skip(1).for_each(|node| node.set("cluster.join", &first));
        nodes.iter_mut().for_each(Tern::spawn);
        nodes.iter_mut().for_each(Tern::wait_ready);
        let target = |node: &Tern| Target { udp: node.udp(), http: node.http() };
        let targets = nodes.iter().map(target).collect();
        let balancer = Balancer::start((Network::hub(), 1_700).into(), targets);
        let site = Self { network, nodes, relays, balancer, struck: Vec::new(), _scripts: scripts };
        site.is_whole();
        site
    }

    /// Waits until all vote, see each other, and are ready.
    fn is_whole(&self) {
        eventually("three nodes that are whole", SOON, || {
            let whole = |node: &Tern| {
                let (status, info) = node.call("GET", "/api/v1/cluster", "");
                let members = info["members"].as_array().cloned().unwrap_or_default();
                let up = |one: &Value| one["votes"] == true && one["running"] == true;
                status == 200 && members.len() == 3 && members.iter().all(up)
            };
            (self.balancer.ready() == 3 && self.nodes.iter().all(whole)).then_some(())
        });
    }

    /// Who leads, and who does not.
    fn roles(&self) -> (usize, usize, usize) {
        eventually("a leader", SOON, || {
            let (_, info) = self.nodes[0].call("GET", "/api/v1/cluster", "");
            let leads =
                |node: &Tern| node.call("GET", "/api/v1/cluster", "").1["nodeId"] == info["leader"];
            let leader = self.nodes.iter().position(leads)?;
            Some((leader, (leader + 1) % 3, (leader + 2) % 3))
        })
    }

    /// Something happens for a while, then is mended; the world must be whole again.
    fn strike(
        &mut self,
        name: &'static str,
        node: Option<usize>,
        begin: impl FnOnce(&mut Self),
        end: impl FnOnce(&mut Self),
    ) {
        let from = Instant::now();
        begin(self);
        std::thread::sleep(FAULT);
        end(self);
        let until = Instant::now();
        self.is_whole();
        println!("{name}: whole again after {:?}", until.elapsed());
        self.struck.push(Struck { name, node, from, until, whole: Instant::now() });
        std::thread::sleep(QUIET);
    }

    fn weather(&self, weather: Weather) {
        self.relays.iter().for_each(|relay| relay.weather(weather));
    }
}

fn host(node: usize) -> u8 {
    u8::try_from(node + 1).unwrap()
}

/// Everything that happens to them.
fn strike_all(site: &mut Site<'_>) {
    std::thread::sleep(QUIET);
    let (leader, one, _) = site.roles();
    site.strike(
        "a follower's cable is out",
        Some(one),
        |site| site.network.cable(host(one), false),
        |site| site.network.cable(host(one), true),
    );
    site.strike(
        "the leader's cable is out",
        Some(leader),
        |site| site.network.cable(host(leader), false),
        |site| site.network.cable(host(leader), true),
    );
    let (leader, _, follower) = site.roles();
    let front = Network::front(host(follower));
    site.strike(
        ONE_WAY,
        Some(follower),
        |site| site.network.blackhole(host(leader), front, true),
        |site| site.network.blackhole(host(leader), front, false),
    );
    let slow = Weather {
        delay: Duration::from_millis(25),
        jitter: Duration::from_millis(30),
        blackhole: false,
    };
    site.strike(
        "wires are slow",
        None,
        |site| site.weather(slow),
        |site| {
            site.weather(Weather::default());
        },
    );
    // Whoever is struck still reaches the others, and gets their answers: they hear its heartbeats.
    let held = Weather { blackhole: true, ..Weather::default() };
    let (leader, follower, _) = site.roles();
    site.strike(
        "links to a follower are held back",
        Some(follower),
        |site| site.relays[follower].weather(held),
        |site| site.relays[follower].weather(Weather::default()),
    );
    site.strike(
        "links to the leader are held back",
        Some(leader),
        |site| site.relays[leader].weather(held),
        |site| site.relays[leader].weather(Weather::default()),
    );
    let (leader, ..) = site.roles();
    site.strike(
        "the leader stands still",
        Some(leader),
        |site| site.nodes[leader].signal("STOP"),
        |site| site.nodes[leader].signal("CONT"),
    );
    let (leader, ..) = site.roles();
    site.strike(
        "the leader is killed",
        Some(leader),
        |site| site.nodes[leader].kill(),
        |site| site.nodes[leader].start_again(),
    );
}

/// How often each uplink is in a node's log: device and number.
fn delivered(node: &Tern) -> BTreeMap<(String, u64), usize> {
    let (mut counts, mut after) = (BTreeMap::new(), 0);
    loop {
        let from = after.to_string();
        let page = node.ok(&["events", "--after", &from, "--limit", "1000", "--json"]);
        let events: Vec<Value> =
            page.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let Some(last) = events.last() else { return counts };
        after = last["sequence"].as_u64().unwrap();
        for event in events.iter().filter(|event| event["event"] == "up") {
            let body = &event["body"];
            let dev_eui = body["deviceInfo"]["devEui"].as_str().unwrap().to_owned();
            *counts.entry((dev_eui, body["fCnt"].as_u64().unwrap_or(0))).or_insert(0) += 1;
        }
    }
}

/// The uplinks, by the gateway's counter, that were answered with an acknowledgement.
fn answered(ledger: &Ledger) -> BTreeSet<u32> {
    let mut answered = BTreeSet::new();
    for down in &ledger.downs {
        let Ok(Frame::Data(frame)) = Frame::parse(&down.bytes) else { continue };
        let windows = [1, 2].map(|delay: u32| down.tmst.wrapping_sub(delay * 1_000_000));
        let uplink = windows.into_iter().find(|tmst| {
            matches!(ledger.sent.get(tmst), Some(Sent::Data { device, confirmed: true, .. })
                if traffic::dev_addr(*device) == frame.dev_addr)
        });
        if frame.fctrl.ack {
            answered.insert(uplink.expect("an acknowledgement of something"));
        }
    }
    answered
}

/// Whether an uplink may be lost, and whether it may stay without an answer.
///
/// What is handed to a node that is struck may go with it. Answers want a leader and a home, so
/// that those of the moments around each change may be missing.
fn excused(struck: &[Struck], Forwarded { at, node }: Forwarded) -> (bool, bool) {
    let within = |from: Instant, until: Instant| at + IN_FLIGHT > from && at < until;
    let lost = |one: &Struck| one.node == Some(node) && within(one.from, one.whole);
    let late = |one: &Struck| {
        let settled = if one.name == ONE_WAY { one.until } else { one.from + SETTLE };
        within(one.from - WINDOWS, settled)
            || within(one.until - WINDOWS, one.whole.max(one.until + MENDED))
    };
    let lost = struck.iter().any(lost);
    (lost, lost || struck.iter().any(late))
}

/// Confirmed uplinks of one fault, by half seconds since it began: how many, and how many answered.
type Table = BTreeMap<(usize, u128), (usize, usize)>;

fn print(site: &Site<'_>, table: &Table) {
    for (number, one) in site.struck.iter().enumerate() {
        let of = table.iter().filter(|((fault, _), _)| *fault == number);
        let cells: Vec<String> = of.map(|(_, (all, acked))| format!("{acked}/{all}")).collect();
        println!("{}: {}", one.name, cells.join(" "));
    }
}

/// What each node has refused, and why.
fn refusals(site: &Site<'_>) -> String {
    let of = |node: &Tern| {
        let metrics = node.get("/metrics").map(|(_, text)| text).unwrap_or_default();
        let wanted = ["tern_uplinks_refused_total{", "tern_proposals_failed_total{"];
        let found = metrics.lines().filter(|line| wanted.iter().any(|one| line.starts_with(one)));
        found.map(|line| format!("{line}\n")).collect::<String>()
    };
    let nodes = site.nodes.iter().enumerate();
    nodes.map(|(node, one)| format!("n{}:\n{}", node + 1, of(one))).collect()
}

/// * `ended`: nobody has listened for answers since.
fn check(site: &Site<'_>, ledger: &Ledger, ended: Instant) {
    let forwarded = site.balancer.uplinks();
    let logs: Vec<_> = site.nodes.iter().map(delivered).collect();
    assert!(logs.iter().all(|log| *log == logs[0]), "all nodes have the same rows");
    let twice: Vec<_> = logs[0].iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "delivered twice: {twice:?}");
    let answered = answered(ledger);
    let (mut lost, mut unanswered, mut table) = (Vec::new(), Vec::new(), Table::new());
    let mut must_be_answered = 0;
    for (tmst, sent) in &ledger.sent {
        let (Some(forwarded), Sent::Data { device, fcnt, confirmed }) = (forwarded.get(tmst), sent)
        else {
            continue;
        };
        let (may_be_lost, may_be_silent) = excused(&site.struck, *forwarded);
        let uplink = (traffic::dev_eui(*device).to_string(), u64::from(*fcnt));
        let fault = site.struck.iter().rposition(|one| one.from <= forwarded.at);
        let since = fault.map(|fault| forwarded.at - site.struck[fault].from);
        let what = || {
            let name = fault.map(|fault| site.struck[fault].name);
            format!("{uplink:?} by n{}, {since:?} after {name:?}", forwarded.node + 1)
        };
        let is_there = logs[0].contains_key(&uplink);
        if !is_there && !may_be_lost {
            lost.push(what());
        }
        if !is_there || !confirmed {
            continue;
        }
        let is_answered = answered.contains(tmst);
        if let (Some(fault), Some(since)) = (fault, since) {
            let cell = table.entry((fault, since.as_millis() / 500)).or_default();
            *cell = (cell.0 + 1, cell.1 + usize::from(is_answered));
        }
        if !may_be_silent && forwarded.at + WINDOWS < ended {
            must_be_answered += 1;
            unanswered.extend((!is_answered).then(what));
        }
    }
    let counts = (ledger.sent.len(), forwarded.len(), logs[0].len(), answered.len());
    println!("sent, forwarded, delivered, acknowledged: {counts:?}");
    println!("those that had to be acknowledged: {must_be_answered}");
    print(site, &table);
    assert!(lost.is_empty(), "lost: {lost:#?}\n{}", refusals(site));
    assert!(unanswered.is_empty(), "without an answer: {unanswered:#?}");
    assert!(must_be_answered > 30 && counts.3 > 80, "hardly any acknowledgements");
}

#[test]
fn whatever_breaks_uplinks_are_delivered_once_and_answered() {
    reproduce("network::whatever_breaks_uplinks_are_delivered_once_and_answered");
    let network = match Network::build(3) {
        Ok(network) => network,
        Err(why) => {
            // Past what a passing test may not print.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED, nothing proven: three nodes on a network that breaks ({why})"
            );
            return;
        }
    };
    // A thread of its own: where it has gone it stays.
    let living = || {
        network.enter();
        let mut site = Site::start(&network);
        traffic::provision(&site.nodes[0], &[traffic::GATEWAY.to_owned()], TRAFFIC);
        let traffic = Traffic::start(site.balancer.address(), TRAFFIC);
        strike_all(&mut site);
        std::thread::sleep(Duration::from_secs(2));
        let ended = Instant::now();
        let ledger = traffic.finish();
        super::wire::at_rest(&site.nodes);
        check(&site, &ledger, ended);
    };
    let ended = std::thread::scope(|scope| scope.spawn(living).join());
    drop(network);
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}
