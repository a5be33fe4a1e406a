//! Text as a scenario file of the simulator: never a panic; what is refused is refused in one line
//! that says where; what is read can be written, and is read alike.

use scenario::{Scenario, ScenarioError};

/// What the file is called.
const FILE: &str = "story.toml";
/// Longest message, in bytes: somebody reads it in a terminal.
const MESSAGE_LEN_MAX: usize = 2_000;
/// Nodes, gateways with twins, clients of every kind: what the parser lets through.
const HOSTS_MAX: usize = 9 + 108 + 210;

/// One input.
pub fn run(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    match Scenario::parse(FILE, text) {
        Err(error) => refused(text, &error),
        Ok(scenario) => {
            let written = scenario.to_toml().expect("what was read can be written");
            assert_eq!(Scenario::parse(FILE, &written), Ok(scenario.clone()), "{written}");
            let hosts = scenario.hosts().len();
            assert!((2..=HOSTS_MAX).contains(&hosts), "{hosts} hosts");
        }
    }
}

fn refused(text: &str, error: &ScenarioError) {
    let message = error.to_string();
    assert!(message.len() < MESSAGE_LEN_MAX, "{} bytes of message", message.len());
    assert!(!message.contains(char::is_control), "more than one line: {message:?}");
    let place = message.strip_prefix(FILE).and_then(|rest| rest.strip_prefix(':'));
    let (line, why) = place.and_then(|rest| rest.split_once(' ')).expect("a file and a reason");
    assert!(!why.is_empty());
    match error {
        ScenarioError::UnknownKey { .. } | ScenarioError::Form { .. } => {
            let line: usize = line.trim_end_matches(':').parse().expect("a line");
            assert!((1..=text.lines().count() + 1).contains(&line), "line {line} of {text:?}");
        }
        // A number that does not fit, or the whole file: the key stands in the reason.
        ScenarioError::Value { .. } | ScenarioError::TooLarge { .. } => assert_eq!(line, ""),
        ScenarioError::Read { .. } => panic!("nobody asked it to read a file"),
    }
}

/// Files that wish the parser ill, and a few that must be taken: what follows a title and a
/// duration.
#[rustfmt::skip]
const FILES: &[(&str, &str)] = &[
    ("smallest", ""),
    ("every_unit", "settle = \" 1.5 h\"\n[gateways]\nlate_by = \"1us .. 2ms\"\n"),
    ("nanoseconds", "settle = \"0.000000001s\"\n"),
    ("times_out_of_bounds", "settle = \"25h\"\n"),
    ("times_that_are_none", "settle = \"infs\"\n"),
    ("times_reversed", "[workload]\nuplink_every = \"2s..1s\"\n"),
    ("times_from_zero", "[clients]\naway_every = \"0s..1s\"\n"),
    ("times_unfinished", "[workload]\nuplink_every = \"1s..\"\n"),
    ("shares_that_are_none", "[network]\nloss = nan\n"),
    ("shares_without_end", "[network]\nloss = inf\n"),
    ("shares_below_zero", "[network]\nloss = -0.0\ncorrupt = -1e-300\n"),
    ("numbers_of_64_bits", "[[fault]]\nkind = \"power_cut\"\nnode = \"n1\"\nat = \"1s\"\n\
      lasts = \"1s\"\nwrite = \"18446744073709551615\"\n"),
    ("numbers_from_to", "[[fault]]\nkind = \"power_cut\"\nnode = \"n1\"\nat = \"1s\"\n\
      lasts = \"1s\"\nwrite = \"1..9223372036854775808\"\n"),
    ("numbers_below_zero", "seeds = [-1]\n"),
    ("numbers_too_large", "[devices]\ncount = 9223372036854775807\n"),
    ("numbers_of_another_base", "[nodes]\ncount = 0x2\nsnapshot_every = 1_0_0\n"),
    ("wrong_types", "devices = [1, 2]\n"),
    ("wrong_type_of_time", "settle = 12:00:00\n"),
    ("unknown_table", "[weather]\nrain = 1\n"),
    ("unknown_key", "[devices]\ncuont = 3\n"),
    ("unknown_key_of_two_lines", "\"a\\nb\" = 1\n"),
    ("unknown_key_with_escapes", "\"\\u001b[2J\" = 1\n"),
    ("unknown_key_with_quotes", "\"`, expected one of `x`, `y\" = 1\n"),
    ("unknown_key_of_nothing", "\"\" = 1\n"),
    ("unknown_kind", "[[fault]]\nkind = \"powercut\"\nat = \"1s\"\n"),
    ("unknown_host_of_two_lines", "[[link]]\nfrom = \"n1\\nn2\"\nto = \"gw1\"\n"),
    ("unknown_device", "[[fault]]\nkind = \"reboot\"\ndevice = \"dev2\\r\"\nat = \"1s\"\n"),
    ("unknown_region", "[nodes]\nregion = \"EU\\n868\"\n"),
    ("key_twice", "settle = \"1s\"\nsettle = \"2s\"\n"),
    ("table_twice", "[nodes]\n[nodes]\n"),
    ("table_in_a_value", "nodes.count = 2\nnodes = {count = 2}\n"),
    ("deep", "x = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n"),
    ("dotted", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.a.b.c.d.e.f.g.h = 1\n"),
    ("unfinished", "[nodes\n"),
    ("unfinished_text", "plant = \"\n"),
    ("unfinished_escape", "plant = \"\\u00\"\n"),
    ("zero_byte", "plant = \"\0\"\n"),
    ("carriage_returns", "settle = \"1s\"\r\nsettl = 1\r\n"),
    ("carriage_returns_alone", "settle = \"1s\"\rsettle = 2\n"),
    ("byte_order_mark", "\u{feff}settle = \"1s\"\n"),
    ("signs_of_other_scripts", "settle = \"１s\"\n"),
    ("plant_without_checker", "plant = \"stale-disk\"\n"),
    ("plant", "plant = \"stale\\ndisk\"\nviolates = \"S\\u0001\"\n"),
    ("fault_of_a_later_time", "[[fault]]\nkind = \"kill\"\nnode = \"n1\"\nat = \"61s\"\n"),
    ("strange_key", "[[fault]]\nkind = \"kill\"\nnode = \"n1\"\nat = \"1s\"\nppm = 3\n"),
    ("fault_without_its_key", "[[fault]]\nkind = \"kill\"\nat = \"1s\"\n"),
    ("one_host", "[[fault]]\nkind = \"cut\"\nfrom = \"n1\"\nto = \"n1\"\nat = \"1s\"\n"),
    ("fault_of_any", "[[fault]]\nkind = \"reboot\"\ndevice = \"any\"\nat = \"1s..2s\"\n"),
    ("drift", "[[fault]]\nkind = \"clock_drift\"\nnode = \"n1\"\nat = \"1s\"\n\
      ppm = -2147483648\nlasts = \"1s\"\n"),
    ("every_table", "[nodes]\ncount = 9\n[gateways]\ncount = 100\ntwins = 8\n[clients]\n\
      count = 100\ntransient = 100\npublishers = 10\n[callers]\ncount = 20\n[expect]\n\
      marks = [\"\"]\n[bounds]\nmemory_mib = 16\n"),
];

/// The corpus files of the table: name and bytes.
pub fn files() -> impl Iterator<Item = (String, Vec<u8>)> {
    let head = "title = \"t\"\nduration = \"60s\"\n";
    FILES.iter().map(move |(name, rest)| (format!("hand_{name}"), format!("{head}{rest}").into()))
}
