//! The README's page "Your own gateway", as it stands there, against a forwarder that behaves as
//! the reference one.

use std::process::{Command, Stdio};
use std::time::Duration;

use lorawan::EU868;
use radio::AppUplink;
use tests::site::{Site, otaa};
use tests::{Tern, eventually};

const COMMANDS_MAX: usize = 8;
const GATEWAY: &str = "0016c001ff10a235";
const DEVICE: &str = "70b3d57ed0001234";
const APP_KEY: &str = "00112233445566778899aabbccddeeff";

/// The commands between the page's marks.
fn commands() -> Vec<Vec<String>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, page) = text.split_once("<!-- gateway:begin -->").expect("where the page begins");
    let (page, _) = page.split_once("<!-- gateway:end -->").expect("where it ends");
    let lines = page.lines().filter(|line| line.starts_with("tern "));
    lines.map(|line| line.split_whitespace().skip(1).map(str::to_owned).collect()).collect()
}

/// A process whose output is collected in a file.
struct Listening {
    child: std::process::Child,
    file: tempfile::NamedTempFile,
}

impl Listening {
    fn start(mut command: Command) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let output = file.reopen().unwrap();
        command.stdin(Stdio::null()).stderr(output.try_clone().unwrap()).stdout(output);
        Self { child: command.spawn().unwrap(), file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file.path()).unwrap()
    }

    fn wait_for(&self, what: &str) {
        eventually(&format!("{what:?} in\n{}", self.text()), Duration::from_secs(10), || {
            self.text().contains(what).then_some(())
        });
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_gateway_of_ones_own_in_the_commands_of_the_readme() {
    let commands = commands();
    assert!((4..=COMMANDS_MAX).contains(&commands.len()), "{commands:?}");
    assert_eq!(commands[0], ["serve", "--region", "EU868"]);
    let tern = Tern::start(env!("CARGO_BIN_EXE_tern-under-test").as_ref(), "EU868", &[]);
    let site = Site::start(tern.udp(), GATEWAY, vec![otaa(&EU868, DEVICE, APP_KEY)]);

    // A gateway that nobody registered is seen, with the command that does.
    let watch = |tern: &Tern| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
        command.arg("watch").env("TERN_DATA", tern.data());
        Listening::start(command)
    };
    let before = watch(&tern);
    before.wait_for(&format!("tern gateway add {GATEWAY}"));
    drop(before);

    let (mut subscribed, mut watching) = (None, None);
    for command in &commands[1..] {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        if arguments == ["watch"] {
            watching = Some(watch(&tern));
            continue;
        }
        let output = tern.ok(&arguments);
        if let Some(line) = output.lines().find(|line| line.contains("mosquitto_sub ")) {
            let line = &line[line.find("mosquitto_sub ").unwrap()..];
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {line}")]);
            subscribed = Some(Listening::start(shell));
        }
    }
    let subscribed = subscribed.expect("a mosquitto_sub line");
    let watching = watching.expect("the page ends with tern watch");

    let dev_eui = DEVICE.parse().unwrap();
    site.join(dev_eui);
    subscribed.wait_for(&format!("device/{DEVICE}/event/join"));
    site.field.send(dev_eui, AppUplink::confirmed(2, "hello")).unwrap();
    let downlink = site.delivered();
    assert_eq!((downlink.f_port, &downlink.payload[..]), (10, &[1, 2][..]), "the queued downlink");
    assert!(site.done(), "and the acknowledgement with it");
    subscribed.wait_for(&format!("device/{DEVICE}/event/up"));
    subscribed.wait_for("\"data\":\"aGVsbG8=\"");
    watching.wait_for("join");
    watching.wait_for("uplink");
    assert_eq!(tern.json(&["queue", "list", DEVICE])["totalCount"], 0);
}

#[test]
fn a_device_with_a_wrong_key_is_told_apart_from_an_unknown_one() {
    let tern = Tern::start(env!("CARGO_BIN_EXE_tern-under-test").as_ref(), "EU868", &[]);
    let unknown = "70b3d57ed0009999";
    let devices = vec![
        otaa(&EU868, DEVICE, "ffffffffffffffffffffffffffffffff"),
        otaa(&EU868, unknown, APP_KEY),
    ];
    let site = Site::start(tern.udp(), GATEWAY, devices);
    for command in ["gateway add 0016c001ff10a235", "application add a", "profile add p"] {
        tern.ok(&command.split(' ').collect::<Vec<_>>());
    }
    tern.ok(&["device", "add", DEVICE, "--app-key", APP_KEY]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tern-under-test"));
    command.arg("watch").env("TERN_DATA", tern.data());
    let watching = Listening::start(command);
    site.field.join(unknown.parse().unwrap()).unwrap();
    watching.wait_for(unknown);
    watching.wait_for("unknown DevEUI");
    site.field.join(DEVICE.parse().unwrap()).unwrap();
    watching.wait_for("check AppKey");
}
