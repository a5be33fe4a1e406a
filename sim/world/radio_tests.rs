//! What can happen to devices and gateways, each shown to happen and to be survived by the node:
//! whole runs in miniature.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use scenario::Scenario;

use super::tests::MEMORY_MIB;
use super::{Record, Report, run};
use crate::runtime::held;
use crate::trace::{Format, Trace};

/// What a run has written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        held(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run and its lines: moment in seconds, lane, text.
pub(super) struct Told {
    pub(super) report: Report,
    lines: Vec<(f64, String, String)>,
}

impl Told {
    /// The lines of a lane that begin so: moment and the rest of each.
    pub(super) fn of<'a>(
        &'a self,
        lane: &'a str,
        begin: &'a str,
    ) -> impl Iterator<Item = (f64, &'a str)> {
        let mine = self.lines.iter().filter(move |(_, who, _)| who == lane);
        mine.filter_map(move |(at, _, text)| text.strip_prefix(begin).map(|rest| (*at, rest)))
    }

    pub(super) fn count(&self, lane: &str, begin: &str) -> usize {
        self.of(lane, begin).count()
    }

    /// Nothing was violated, and everything came about; more than `acknowledged` uplinks were.
    fn is_fine(&self, acknowledged: u32) {
        assert_eq!(self.report.exit_code(), 0, "{:?}", self.report);
        assert!(self.report.counts.acknowledged > acknowledged, "{:?}", self.report);
    }
}

pub(super) fn tell(text: &str, seed: u64) -> Told {
    let text = format!("title = \"t\"\n{text}");
    let mut scenario = Scenario::parse("t.toml", &text).unwrap();
    scenario.bounds.memory_mib = MEMORY_MIB;
    let paper = Paper::default();
    let out: Box<dyn Write + Send> = Box::new(paper.clone());
    let thread = std::thread::spawn(move || {
        run(&scenario, seed, None, &Record::new(Trace::new(Format::Text, out)))
    });
    let report = thread.join().unwrap();
    let text = String::from_utf8(held(&paper.0).clone()).unwrap();
    let line = |line: &str| {
        let mut parts = line.trim_start().splitn(2, "  ");
        let at = parts.next().unwrap_or_default().parse().unwrap();
        let (lane, text) = parts.next().unwrap_or_default().split_once(' ').unwrap();
        (at, lane.to_owned(), text.trim_start().to_owned())
    };
    Told { report, lines: text.lines().map(line).collect() }
}

/// The counter at the beginning of a text.
fn number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap()
}

/// DevEUI of the first device.
const DEV1: &str = "70b3d57ed0000000";

/// The numbers of the first device's uplinks in the event log, as it was read at the end.
fn accepted(told: &Told) -> Vec<u64> {
    let rows: Vec<(u64, u64)> = told
        .of("audit", "row ")
        .filter_map(|(_, rest)| {
            let (row, what) = rest.strip_suffix(DEV1)?.split_once(": up ")?;
            Some((number(row), number(what)))
        })
        .collect();
    let last_read = rows.iter().rposition(|(row, _)| *row == rows[0].0).unwrap_or(0);
    rows[last_read..].iter().map(|(_, f_cnt)| *f_cnt).collect()
}

#[test]
fn personalised_devices_roll_over_and_the_upper_half_counts_on() {
    let told = tell(
        r#"
        duration = "90s"
        settle = "60s"
        [gateways]
        hears = 0.8
        [devices]
        count = 2
        abp = 2
        first_fcnt = 65530
        [workload]
        uplink_every = "3s..5s"
        confirmed = 0.6
        [[fault]]
        kind = "power_cut"
        node = "n1"
        at = "20s..60s"
        after = "ack"
        times = 2
        "#,
        5,
    );
    told.is_fine(10);
    let accepted = accepted(&told);
    assert!(accepted.contains(&65_530) && accepted.contains(&65_540), "{accepted:?}");
    assert_eq!(told.count("dev1", "asks to join"), 0);
    assert_eq!(told.report.counts.joined, 0);
}

const RESET: &str = r#"
    duration = "3m"
    settle = "60s"
    [devices]
    abp = 1
    skip_fcnt_check = true
    [workload]
    uplink_every = "3s..5s"
    confirmed = 0.4
    downlink_every = "10s..20s"
    [[fault]]
    kind = "reboot"
    device = "dev1"
    memory_lost = true
    at = "30s..40s"
"#;

#[test]
fn a_personalised_device_that_begins_anew_is_taken_at_once_where_it_may() {
    let told = tell(RESET, 1);
    told.is_fine(10);
    let accepted = accepted(&told);
    let again = accepted.windows(2).position(|pair| pair[1] < pair[0]).unwrap();
    assert!(again > 2 && accepted[again + 1] <= 1, "{accepted:?}");
    // Its downlink counter goes on where it was.
    let down: Vec<u64> = told
        .of("dev1", "judges a frame: Accepted { fcnt: ")
        .map(|(_, rest)| number(rest))
        .collect();
    assert!(down.is_sorted() && down.len() > 10, "{down:?}");
}

#[test]
fn and_where_it_may_not_it_is_refused_until_it_is_above_its_last_number() {
    let told = tell(&RESET.replace("skip_fcnt_check = true", ""), 1);
    told.is_fine(3);
    let accepted = accepted(&told);
    let (reset_at, _) = told.of("dev1", "restarts, its memory is lost").next().unwrap();
    let sent_again = told.of("dev1", "up 0 ").filter(|(at, _)| *at > reset_at).count();
    assert!(sent_again > 0);
    assert!(accepted.windows(2).all(|pair| pair[0] < pair[1]), "{accepted:?}");
    let (last_at, _) = told.of("app1", "up ").last().unwrap();
    assert!(last_at > 150.0, "it has come back: {last_at}");
}

#[test]
fn twins_take_each_others_downlinks_and_acknowledgements_come_all_the_same() {
    let told = tell(
        r#"
        duration = "2m"
        settle = "60s"
        [gateways]
        twins = 1
        [devices]
        count = 3
        [workload]
        uplink_every = "4s..8s"
        confirmed = 0.8
        downlink_every = "15s..30s"
        "#,
        1,
    );
    told.is_fine(10);
    let (heard, heard_by_twin) = (told.count("gw1", "hears up"), told.count("gw2", "hears up"));
    assert!(heard > 20 && heard_by_twin > 20);
    let refused = |lane| told.of(lane, "txpk ").filter(|(_, rest)| rest.contains("TooEarly"));
    assert!(refused("gw1").count() + refused("gw2").count() > 5, "each is sent the other's");
    let calm = told.of("world", "calm").next().unwrap().0;
    assert_eq!(told.of("gw2", "hears").filter(|(at, _)| *at > calm).count(), 0, "taken off");
}

#[test]
fn late_copies_are_no_new_readings_and_come_too_late_to_be_answered() {
    let told = tell(
        r#"
        duration = "2m"
        settle = "60s"
        [gateways]
        count = 2
        hears = 0.9
        late_share = 0.7
        late_by = "200ms..40s"
        [devices]
        count = 3
        [workload]
        uplink_every = "4s..8s"
        confirmed = 0.7
        rejoin_every = "30s..60s"
        "#,
        1,
    );
    told.is_fine(10);
    let copies = told.count("gw1", "forwards up") + told.count("gw2", "forwards up");
    let joins = told.count("gw1", "forwards join") + told.count("gw2", "forwards join");
    assert!(copies > 30 && joins > 2, "{copies} copies, and {joins} of joins");
    assert!(told.report.counts.accepted <= told.report.counts.uplinks);
}

#[test]
fn a_counter_may_wrap_and_jump_and_a_gateway_lose_power() {
    let told = tell(
        r#"
        duration = "2m"
        settle = "60s"
        [gateways]
        count = 2
        counter_wraps = "30s..60s"
        [devices]
        count = 3
        [workload]
        uplink_every = "3s..5s"
        confirmed = 0.9
        [[fault]]
        kind = "counter_reset"
        gateway = "gw1"
        at = "70s..110s"
        times = 3
        [[fault]]
        kind = "gateway_off"
        gateway = "gw2"
        at = "70s..80s"
        lasts = "15s"
        "#,
        2,
    );
    told.is_fine(20);
    for lane in ["gw1", "gw2"] {
        let counts: Vec<(f64, u64)> = told
            .of(lane, "hears ")
            .map(|(at, rest)| (at, number(rest.rsplit(" at ").next().unwrap_or_default())))
            .collect();
        let wrapped = |pair: &&[(f64, u64)]| pair[1].0 < 75.0 && pair[1].1 < pair[0].1;
        assert_eq!(counts.windows(2).filter(wrapped).count(), 1, "{lane} wraps once");
    }
    assert_eq!(told.count("gw1", "its counter starts anew"), 3);
    assert_eq!(told.count("gw2", "its counter starts anew"), 1, "when power is back");
    let off = told.of("gw2", "no power").next().unwrap().0;
    let on = told.of("gw2", "power is back").next().unwrap().0;
    let meanwhile = |lane| told.of(lane, "hears").filter(|(at, _)| (off..on).contains(at)).count();
    assert!(meanwhile("gw1") > 3 && meanwhile("gw2") == 0);
    assert!(told.of("gw2", "hears").any(|(at, _)| at > on));
}

#[test]
fn tx_acks_get_lost_or_come_late_and_downlinks_are_refused() {
    let told = tell(
        r#"
        duration = "2m"
        settle = "60s"
        [gateways]
        count = 2
        tx_ack_lost = 0.3
        tx_refused = 0.3
        [devices]
        count = 3
        [workload]
        uplink_every = "4s..8s"
        confirmed = 0.7
        downlink_every = "10s..20s"
        [[fault]]
        kind = "tx_ack_late"
        gateway = "all"
        at = "40s"
        delay = "100ms..3s"
        lasts = "40s"
        "#,
        1,
    );
    told.is_fine(10);
    let both = |begin, end: &str| -> usize {
        ["gw1", "gw2"]
            .map(|lane| told.of(lane, begin).filter(|(_, t)| t.ends_with(end)).count())
            .iter()
            .sum()
    };
    assert!(both("txpk", "CollisionPacket") > 10, "refused");
    assert!(both("dropped a datagram", "") == 0);
    assert!(told.report.counts.downlinks > 3, "{:?}", told.report);
    let calm = told.of("world", "calm").next().unwrap().0;
    let after = told.of("gw1", "txpk").filter(|(at, text)| *at > calm && text.ends_with("Packet"));
    assert_eq!(after.count(), 0, "nothing is refused any more");
}

/// The nonces of a device's join-requests, and how often it has joined.
fn joins(told: &Told, lane: &str) -> (Vec<u64>, usize) {
    let nonces = told.of(lane, "asks to join, nonce ").map(|(_, rest)| number(rest)).collect();
    (nonces, told.count(lane, "joined as"))
}

const FORGETFUL: &str = r#"
    duration = "4m"
    settle = "60s"
    [devices]
    count = 2
    version = "1.0.3"
    [workload]
    uplink_every = "4s..8s"
    confirmed = 0.7
    rejoin_every = "20s..30s"
    [[fault]]
    kind = "reboot"
    device = "dev1"
    memory_lost = true
    at = "100s..120s"
"#;

#[test]
fn a_device_that_has_forgotten_its_nonces_comes_back_in_both_versions() {
    let told = tell(FORGETFUL, 1);
    told.is_fine(10);
    let (nonces, joined) = joins(&told, "dev1");
    assert!(joined > 4 && nonces.len() < joined + 3, "{nonces:?}");

    let told = tell(&FORGETFUL.replace("1.0.3", "1.0.4"), 1);
    told.is_fine(10);
    let (nonces, joined) = joins(&told, "dev1");
    let again = nonces.iter().rposition(|nonce| *nonce == 0).unwrap();
    assert!(again > 2, "it counts from 0 again: {nonces:?}");
    let highest = nonces[..again].iter().max().unwrap();
    let refused = nonces[again..].iter().filter(|nonce| *nonce <= highest).count();
    assert_eq!(refused, usize::try_from(*highest).unwrap() + 1, "each is asked with once more");
    assert!(nonces.last() > Some(highest) && joined > again, "and then it is in: {nonces:?}");
    let (others, joined) = joins(&told, "dev2");
    assert!(others.is_sorted() && joined > 4, "{others:?}");
}

#[test]
fn two_hundred_devices_join_anew_at_once() {
    let told = tell(
        r#"
        duration = "3m"
        settle = "60s"
        [nodes]
        region = "US915"
        [gateways]
        count = 3
        hears = 0.9
        [devices]
        count = 200
        joins_at = "1s..60s"
        [workload]
        uplink_every = "50s..80s"
        confirmed = 0.3
        [[fault]]
        kind = "join_storm"
        at = "90s"
        lasts = "10s"
        [[fault]]
        kind = "power_cut"
        node = "n1"
        at = "95s"
        after = "join_accept"
        [expect]
        joined = 200
        "#,
        1,
    );
    told.is_fine(30);
    let begins = told.of("world", "join_storm begins").next().unwrap().0;
    let asked: BTreeSet<&str> = told
        .lines
        .iter()
        .filter(|(at, _, text)| {
            (begins..begins + 20.0).contains(at) && text.starts_with("asks to join")
        })
        .map(|(_, lane, _)| lane.as_str())
        .collect();
    assert!(asked.len() > 190, "{}", asked.len());
    let joined_again = told
        .lines
        .iter()
        .filter(|(at, _, text)| *at > begins && text.starts_with("joined as"))
        .count();
    assert!(joined_again > 190, "{joined_again}");
}

#[test]
fn a_gateway_is_cut_off_until_the_node_that_runs_knows_where_it_is() {
    let told = tell(
        r#"
        duration = "2m"
        settle = "60s"
        [devices]
        abp = 1
        [workload]
        uplink_every = "1s..2s"
        confirmed = 0.2
        [[fault]]
        kind = "cut"
        from = "n1"
        to = "gw1"
        both = false
        at = "20s"
        lasts = "25s"
        [[fault]]
        kind = "kill"
        node = "n1"
        at = "80s"
        lasts = "1s"
        "#,
        1,
    );
    told.is_fine(5);
    let (begin, _) = told.of("world", "the workload begins").next().unwrap();
    let cut_off = |from: f64, to: f64| -> Vec<bool> {
        let heard = told.of("gw1", "hears up");
        let heard = heard.filter(|(at, _)| (begin + from..begin + to).contains(at));
        heard.map(|(_, text)| text.ends_with("cut off")).collect()
    };
    let all =
        |seen: Vec<bool>, wanted: bool| seen.len() > 2 && seen.iter().all(|one| *one == wanted);
    assert!(all(cut_off(0.0, 20.0), false));
    assert!(all(cut_off(20.0, 45.0), true));
    assert!(all(cut_off(55.5, 80.0), false), "a keep-alive after the link is mended");
    let restarted = cut_off(80.0, 100.0);
    assert!(restarted[0] && !restarted[restarted.len() - 1], "{restarted:?}");
    assert!(restarted.is_sorted_by(|one, next| *one || !next), "{restarted:?}");
}

/// What the only device has said, and which of it the only gateway has heard.
fn said_and_heard(gateway: &str) -> (Vec<String>, Vec<String>) {
    let told = tell(
        &format!(
            r#"
            duration = "2m"
            settle = "60s"
            [gateways]
            hears = 0.5
            {gateway}
            [devices]
            abp = 1
            [workload]
            uplink_every = "2s..4s"
            confirmed = 0.0
            downlink_every = "5s..10s"
            "#
        ),
        3,
    );
    told.is_fine(0);
    let calm = told.of("world", "calm").next().unwrap().0;
    let lines = |lane, begin| -> Vec<String> {
        let lines = told.of(lane, begin).filter(|(at, _)| *at < calm);
        lines.map(|(_, rest)| rest.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    (lines("dev1", "up "), lines("gw1", "hears up "))
}

#[test]
fn one_trouble_more_or_less_moves_no_other_draw() {
    let (said, heard) = said_and_heard("");
    assert!(said.len() > 20 && (said.len() / 4..said.len()).contains(&heard.len()));
    for trouble in ["tx_refused = 1.0", "tx_ack_lost = 1.0", "late_share = 1.0"] {
        let (also_said, also_heard) = said_and_heard(trouble);
        // A refused downlink lets the device wait for its second window: it says a little less.
        let common = said.len().min(also_said.len());
        assert_eq!(said[..common], also_said[..common], "{trouble}");
        let common = heard.len().min(also_heard.len());
        assert!(common > 10, "{trouble}");
        assert_eq!(heard[..common], also_heard[..common], "{trouble}");
    }
}
