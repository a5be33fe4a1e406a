//! What types cannot say about a scenario: numbers in their bounds, faults that fit their kind and
//! the hosts that are there.

use std::ops::RangeInclusive;
use std::time::Duration;

use lorawan::Region;

use crate::error::{ScenarioError, hint, one_line, quote};
use crate::fault::{Fault, FaultKind, Key};
use crate::{Lines, Scenario, named};

/// Largest drift, in parts per million: far beyond any quartz, below a clock that stands still.
const DRIFT_PPM_MAX: u32 = 500_000;
/// Longest pause of a process.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Latest copy of a frame: what the world remembers of hearings reaches back so far.
const LATE_MAX: Duration = Duration::from_secs(120);
/// Pinned seeds of one scenario.
const SEEDS_MAX: usize = 100;
/// Faults and links of one scenario.
const TABLES_MAX: usize = 5_000;
/// Characters of a message made elsewhere.
const WHY_MAX: usize = 240;
/// Nodes that it takes for one to leave and the rest to be a majority of all.
const LEAVES_MIN: u32 = 3;
/// Stands for a target drawn for each seed, and for every one.
const ANY: &str = "any";
const ALL: &str = "all";
/// Stand for the node that leads, and for one that does not, when a fault strikes.
const ROLES: [&str; 2] = ["leader", "follower"];
/// Stands for each node, at the end of a noisy link.
const NODES: &str = "nodes";

pub(crate) fn scenario(
    file: &str,
    scenario: &Scenario,
    lines: &Lines,
) -> Result<(), ScenarioError> {
    let value = |why: String| ScenarioError::Value { file: file.to_owned(), why };
    numbers(scenario).map_err(value)?;
    moments(scenario).map_err(value)?;
    let region = Region::from_name(&scenario.nodes.region);
    region.map_err(|error| {
        let why = one_line(&error.to_string(), WHY_MAX);
        value(format!("nodes.region: {why}"))
    })?;
    let names = Names::of(scenario);
    for (place, link) in scenario.link.iter().enumerate() {
        for name in [&link.from, &link.to] {
            known(name, &names.hosts, &[]).map_err(|why| {
                let line = lines.links.get(place).copied().unwrap_or(1);
                ScenarioError::Form { file: file.to_owned(), line, why }
            })?;
        }
    }
    for (place, fault) in scenario.fault.iter().enumerate() {
        check_fault(scenario, &names, fault).map_err(|why| {
            let line = lines.faults.get(place).copied().unwrap_or(1);
            let why = format!("fault {} ({}): {why}", place + 1, fault.kind);
            ScenarioError::Form { file: file.to_owned(), line, why }
        })?;
    }
    Ok(())
}

fn within(key: &str, number: u64, allowed: RangeInclusive<u64>) -> Result<(), String> {
    if allowed.contains(&number) {
        return Ok(());
    }
    let (low, high) = allowed.into_inner();
    Err(format!("{key} is {number}, which is not between {low} and {high}"))
}

fn numbers(scenario: &Scenario) -> Result<(), String> {
    let (gateways, devices) = (&scenario.gateways, &scenario.devices);
    let (clients, callers) = (&scenario.clients, &scenario.callers);
    let allowed: [(&str, u64, RangeInclusive<u64>); 17] = [
        ("nodes.count", scenario.nodes.count.into(), 1..=9),
        ("nodes.snapshot_every", scenario.nodes.snapshot_every, 10..=1_000_000),
        ("network.queue", scenario.network.queue.into(), 1..=1_000_000),
        ("gateways.count", gateways.count.into(), 1..=100),
        ("gateways.twins", gateways.twins.into(), 0..=8),
        ("devices.count", devices.count.into(), 1..=10_000),
        ("devices.abp", devices.abp.into(), 0..=devices.count.into()),
        ("clients.count", clients.count.into(), 0..=100),
        ("clients.transient", clients.transient.into(), 0..=100),
        ("clients.publishers", clients.publishers.into(), 0..=10),
        ("callers.count", callers.count.into(), 0..=20),
        ("callers.keys", callers.keys.into(), 1..=20),
        ("workload.tries", scenario.workload.tries.into(), 1..=8),
        ("bounds.probe_tries", scenario.bounds.probe_tries.into(), 1..=100),
        ("bounds.memory_mib", scenario.bounds.memory_mib.into(), 16..=16_384),
        ("the number of faults", scenario.fault.len() as u64, 0..=TABLES_MAX as u64),
        ("the number of seeds", scenario.seeds.len() as u64, 0..=SEEDS_MAX as u64),
    ];
    allowed.into_iter().try_for_each(|(key, number, allowed)| within(key, number, allowed))?;
    within("the number of links", scenario.link.len() as u64, 0..=TABLES_MAX as u64)?;
    if scenario.violates.is_none() && scenario.plant.is_some() {
        return Err("`plant` without `violates`: say which checker must object".to_owned());
    }
    Ok(())
}

fn moments(scenario: &Scenario) -> Result<(), String> {
    if scenario.duration.0.is_zero() {
        return Err("duration must not be zero".to_owned());
    }
    if scenario.gateways.late_by.0.end > LATE_MAX {
        return Err(format!("gateways.late_by must end at {LATE_MAX:?} or before"));
    }
    let (workload, clients) = (&scenario.workload, &scenario.clients);
    let pauses = [
        ("workload.uplink_every", Some(&workload.uplink_every)),
        ("workload.downlink_every", workload.downlink_every.as_ref()),
        ("workload.rejoin_every", workload.rejoin_every.as_ref()),
        ("gateways.hop_every", scenario.gateways.hop_every.as_ref()),
        ("clients.publish_every", Some(&clients.publish_every)),
        ("clients.away_every", clients.away_every.as_ref()),
        ("callers.every", Some(&scenario.callers.every)),
    ];
    for (key, pause) in pauses {
        if pause.is_some_and(|pause| pause.0.start.is_zero()) {
            return Err(format!("{key} must not begin at zero"));
        }
    }
    Ok(())
}

fn check_fault(scenario: &Scenario, names: &Names, fault: &Fault) -> Result<(), String> {
    let end = scenario.duration.0;
    if fault.at.0.end > end {
        return Err(format!("`at` ends at {:?}, after the run's {end:?}", fault.at.0.end));
    }
    let (needed, allowed) = fault.kind.keys();
    let present = fault.keys();
    if let Some(missing) = needed.iter().find(|key| !present.contains(key)) {
        return Err(format!("`{}` is missing", missing.name()));
    }
    let strange = |key: &&Key| !needed.contains(key) && !allowed.contains(key);
    if let Some(key) = present.iter().find(strange) {
        let known: Vec<_> = needed.iter().chain(allowed).map(|key| key.name()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let name = key.name();
        return Err(format!("`{name}` means nothing for this kind of fault (it takes: {known})"));
    }
    within("`times`", fault.times.unwrap_or(1).into(), 1..=1_000)?;
    within("`per_s`", fault.per_s.unwrap_or(1).into(), 1..=16_000)?;
    within("`count`", fault.count.unwrap_or(1).into(), 1..=10_000)?;
    within("`factor`", fault.factor.unwrap_or(2).into(), 2..=1_000)?;
    if fault.write.as_ref().is_some_and(|write| *write.0.start() == 0) {
        return Err("`write` counts from 1".to_owned());
    }
    if fault.ppm.is_some_and(|ppm| ppm.unsigned_abs() > DRIFT_PPM_MAX) {
        return Err(format!("`ppm` must be {DRIFT_PPM_MAX} at most, either way"));
    }
    let long = fault.lasts.as_ref().is_some_and(|lasts| lasts.0.end > PAUSE_MAX);
    if fault.kind == FaultKind::Pause && long {
        return Err(format!("a pause lasts {PAUSE_MAX:?} at most"));
    }
    let leaves = matches!(fault.kind, FaultKind::Leave | FaultKind::Remove);
    if leaves && scenario.nodes.count < LEAVES_MIN {
        return Err(format!("it takes {LEAVES_MIN} nodes or more, there are fewer"));
    }
    let late = fault.delay.as_ref().is_some_and(|delay| delay.0.end > LATE_MAX);
    if fault.kind == FaultKind::LateCopies && late {
        return Err(format!("a copy comes {LATE_MAX:?} late at most"));
    }
    if fault.aim.is_some() && fault.after.is_none() {
        return Err("`aim` without `after`: say which promise it waits for".to_owned());
    }
    targets(names, fault)?;
    if fault.flap.as_ref().is_some_and(|flap| flap.0.start.is_zero()) {
        return Err("`flap` must not begin at zero".to_owned());
    }
    let Some(shape) = fault.shape else { return Ok(()) };
    crate::partition::check(fault, shape, scenario.nodes.count)
}

/// Everything that a fault or a link may name. Ten thousand devices and thousands of faults are
/// allowed: the lists are made once.
struct Names {
    hosts: Vec<String>,
    nodes: Vec<String>,
    gateways: Vec<String>,
    devices: Vec<String>,
    clients: Vec<String>,
}

impl Names {
    fn of(scenario: &Scenario) -> Self {
        Self {
            hosts: scenario.hosts(),
            nodes: named("n", scenario.nodes.count).collect(),
            gateways: named("gw", scenario.gateways.total()).collect(),
            devices: named("dev", scenario.devices.count).collect(),
            clients: named("app", scenario.clients.total()).collect(),
        }
    }
}

fn targets(names: &Names, fault: &Fault) -> Result<(), String> {
    let words = [ANY, ALL];
    let roles = [ANY, ROLES[0], ROLES[1]];
    let ends: &[&str] = if fault.kind == FaultKind::Noise { &[NODES] } else { &[] };
    for (name, among, words) in [
        (&fault.node, &names.nodes, &roles[..]),
        (&fault.gateway, &names.gateways, &words[..]),
        (&fault.device, &names.devices, &words[..]),
        (&fault.client, &names.clients, &words[..]),
        (&fault.from, &names.hosts, ends),
        (&fault.to, &names.hosts, ends),
    ] {
        if let Some(name) = name {
            known(name, among, words)?;
        }
    }
    for name in fault.side.iter().flatten() {
        known(name, &names.nodes, &[])?;
    }
    let between_nodes = fault.from.as_deref() == Some(NODES);
    if fault.from.is_some() && fault.from == fault.to && !between_nodes {
        return Err("`from` and `to` are the same host".to_owned());
    }
    Ok(())
}

fn known(name: &str, among: &[String], words: &[&str]) -> Result<(), String> {
    if among.iter().any(|known| known == name) || (words.contains(&name) && !among.is_empty()) {
        return Ok(());
    }
    // Ten thousand names are no help: the first few show how they look.
    let shown: Vec<String> =
        among.iter().take(12).cloned().chain(words.iter().map(|&word| word.to_owned())).collect();
    let name = quote(name);
    Err(format!("there is no `{name}` in this scenario; {}", hint(&name, &shown)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::TEXT_LEN_MAX;

    const HEAD: &str = "title = \"t\"\nduration = \"60s\"\n";

    fn error(rest: &str) -> String {
        let text = format!("{HEAD}{rest}");
        Scenario::parse("s.toml", &text).expect_err(rest).to_string()
    }

    #[test]
    fn a_small_scenario_needs_two_lines_and_has_defaults() {
        let scenario = Scenario::parse("s.toml", HEAD).unwrap();
        assert_eq!(scenario.nodes.count, 1);
        assert_eq!(scenario.workload.tries, 8);
        assert!(scenario.fault.is_empty());
        assert_eq!(scenario.to_toml().unwrap().lines().count(), 3, "defaults are not written");
    }

    #[test]
    fn every_committed_scenario_reads_and_is_written_as_it_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut read = 0;
        for path in files.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{error}"));
            let written = scenario.to_toml().unwrap();
            let again = Scenario::parse("written.toml", &written);
            assert_eq!(again.as_ref(), Ok(&scenario), "{}", path.display());
            read += 1;
        }
        assert!(read >= 3);
    }

    #[test]
    fn an_unknown_key_names_file_line_and_the_nearest_known_one() {
        let text = error("[devices]\ncuont = 3\n");
        assert!(text.starts_with("s.toml:4: there is no key `cuont` here"), "{text}");
        assert!(text.contains("did you mean `count`?"), "{text}");
        let text = error("[[fault]]\nkind = \"powercut\"\nnode = \"n1\"\nat = \"1s\"\n");
        assert!(text.contains(":4:") && text.contains("did you mean `power_cut`?"), "{text}");
        let text = error("[weather]\nrain = 1\n");
        assert!(text.contains("s.toml:3: there is no key `weather` here; known: title"), "{text}");
    }

    #[test]
    fn hostile_names_are_quoted_on_one_line() {
        for (rest, expected) in [
            ("\"a\\nb\" = 1\n", "there is no key `a\u{fffd}b` here; known: title,"),
            ("\"`, expected one of `x\" = 1\n", "key ``, expected one of `x` here; known: title,"),
            ("[[link]]\nfrom = \"n1\\nn2\"\nto = \"gw1\"\n", "there is no `n1\u{fffd}n2`"),
            ("[nodes]\nregion = \"\\u001b[2J\"\n", "region `\u{fffd}[2J`"),
            ("settle = \"1\\ns\\u0007\"\n", "`1\u{fffd}s\u{fffd}` is not a duration: write"),
            ("[network]\nloss = -1e-300\n", "-1e-300 is not a probability"),
        ] {
            let text = error(rest);
            assert!(text.contains(expected) && !text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn impossible_values_are_refused_with_their_place() {
        for (rest, expected) in [
            ("[devices]\ncount = 0\n", "devices.count is 0"),
            ("[devices]\ncount = 10001\n", "not between 1 and 10000"),
            ("[devices]\ncount = 2\nabp = 3\n", "devices.abp is 3, which is not between 0 and 2"),
            ("[devices]\nversion = \"2.0\"\n", "s.toml:4: there is no key `2.0` here"),
            ("[network]\nloss = 1.5\n", "s.toml:4: 1.5 is not a probability"),
            ("[network]\nqueue = 0\n", "network.queue is 0"),
            ("[nodes]\nregion = \"EU433\"\n", "nodes.region"),
            ("[[link]]\nfrom = \"n1\"\nto = \"gw2\"\n", "s.toml:3: there is no `gw2`"),
            ("[workload]\nuplink_every = \"0s..1s\"\n", "must not begin at zero"),
            ("[gateways]\nlate_by = \"1s..3m\"\n", "late_by must end at 120s or before"),
            ("[workload]\nuplink_every = \"3s..1s\"\n", "s.toml:4: the range `3s..1s` ends"),
            ("[workload]\nuplink_every = 5\n", "s.toml:4: invalid type"),
            ("settle = \"fast\"\n", "s.toml:3: `fast` is not a duration"),
            ("plant = \"stale-disk\"\n", "`plant` without `violates`"),
            ("seeds = [-1]\n", "s.toml:3:"),
            ("x = [\n", "s.toml:"),
        ] {
            let text = error(rest);
            assert!(text.contains(expected), "{rest}: {text}");
        }
        let long = Scenario::parse("s.toml", &" ".repeat(TEXT_LEN_MAX + 1)).unwrap_err();
        assert!(matches!(long, ScenarioError::TooLarge { .. }));
        let zero = Scenario::parse("s.toml", "title = \"t\"\nduration = \"0s\"\n").unwrap_err();
        assert_eq!(zero.to_string(), "s.toml: duration must not be zero");
    }

    #[test]
    fn faults_must_fit_their_kind_and_the_scenario() {
        for (fault, expected) in [
            ("kind = \"kill\"", "missing field `at`"),
            ("kind = \"kill\"\nat = \"1s\"", "s.toml:3: fault 1 (kill): `node` is missing"),
            ("kind = \"kill\"\nnode = \"n2\"\nat = \"1s\"", "no `n2` in this scenario; did you"),
            ("kind = \"kill\"\nnode = \"all\"\nat = \"1s\"", "no `all` in this scenario"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s..61s\"", "after the run's 60s"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\nppm = 3", "`ppm` means nothing"),
            ("kind = \"cut\"\nfrom = \"gw1\"\nat = \"1s\"", "`to` is missing"),
            (
                "kind = \"disk_full\"\nnode = \"n1\"\nat = \"1s\"\nafter = \"ack\"",
                "`after` means nothing for this kind of fault (it takes: node, lasts)",
            ),
            ("kind = \"cut\"\nfrom = \"gw1\"\nto = \"gw1\"\nat = \"1s\"", "the same host"),
            ("kind = \"clock_jump\"\nnode = \"n1\"\nat = \"1s\"", "`by` is missing"),
            ("kind = \"clock_drift\"\nnode = \"n1\"\nat = \"1s\"\nppm = 600000", "500000 at most"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\ntimes = 0", "`times` is 0"),
            ("kind = \"pause\"\nnode = \"n1\"\nat = \"1s\"\nlasts = \"61s\"", "60s at most"),
            ("kind = \"malformed\"\nat = \"1s\"\nper_s = 16001", "between 1 and 16000"),
            (
                "kind = \"late_copies\"\ngateway = \"gw1\"\nat = \"1s\"\ndelay = \"3m\"",
                "120s late at",
            ),
            ("kind = \"write_error\"\nnode = \"n1\"\nat = \"1s\"\nwrite = 0", "counts from 1"),
            ("kind = \"reboot\"\ndevice = \"dev2\"\nat = \"1s\"", "no `dev2` in this scenario"),
            ("kind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\naim = \"1ms\"", "`aim` without"),
        ] {
            let text = error(&format!("[[fault]]\n{fault}\n"));
            assert!(text.contains(expected), "{fault}: {text}");
        }
        let any = format!("{HEAD}[[fault]]\nkind = \"reboot\"\ndevice = \"any\"\nat = \"1s\"\n");
        assert!(Scenario::parse("s.toml", &any).is_ok());
        let mut noise = Fault::new(FaultKind::Noise, crate::SpanRange::ms(1, 1));
        (noise.from, noise.to) = (Some("nodes".to_owned()), Some("nodes".to_owned()));
        let mut scenario = Scenario::parse("s.toml", &any).unwrap();
        scenario.fault.push(noise);
        for role in ROLES {
            let mut pause = Fault::new(FaultKind::Pause, crate::SpanRange::ms(1, 1));
            pause.node = Some(role.to_owned());
            scenario.fault.push(pause);
        }
        let written = scenario.to_toml().unwrap();
        assert_eq!(Scenario::parse("s.toml", &written), Ok(scenario));
    }

    #[test]
    fn every_kind_has_its_keys_and_its_name() {
        for kind in FaultKind::ALL {
            let (needed, allowed) = kind.keys();
            assert!(needed.iter().all(|key| !allowed.contains(key)), "{kind}");
        }
        assert_eq!(FaultKind::MisdirectedWrite.to_string(), "misdirected_write");
    }
}
