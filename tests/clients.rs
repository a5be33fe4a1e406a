//! Clients that others wrote: mosquitto's, paho-mqtt, and a LoRaWAN device of the lora-rs project.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use lorawan::{EU868, Region, US915};
use radio::AppUplink;
use serde_json::{Value, json};
use tests::foreign::ForeignDevice;
use tests::site::{Site, otaa};
use tests::{Tern, eventually};

const GATEWAY: &str = "0016c001ff10a235";
const DEVICE: &str = "70b3d57ed0001234";
const APP_KEY: &str = "00112233445566778899aabbccddeeff";

/// A node with an application, a device and an account that may publish.
struct Place {
    tern: Tern,
    application: String,
    password: String,
}

impl Place {
    fn start(region: &'static Region) -> Self {
        let tern = Tern::start(env!("CARGO_BIN_EXE_tern-under-test").as_ref(), region.name, &[]);
        tern.ok(&["gateway", "add", GATEWAY]);
        tern.ok(&["application", "add", "office"]);
        let mut profile = vec!["profile", "add", "sensor"];
        if region.is_fixed_plan() {
            profile.extend(["--channels", "8-15+65"]);
        }
        tern.ok(&profile);
        tern.ok(&["device", "add", DEVICE, "--app-key", APP_KEY]);
        let made = ["mqtt-user", "add", "backend", "--application", "office", "--publish"];
        let account = tern.json(&made);
        let topic = account["topic"].as_str().unwrap();
        let application = topic.split('/').nth(1).unwrap().to_owned();
        let password = account["password"].as_str().unwrap().to_owned();
        Self { tern, application, password }
    }

    /// Waits until the gateway has told where it can be reached.
    fn way_down(&self) {
        eventually("a PULL_DATA", Duration::from_secs(10), || {
            let gateway = self.tern.json(&["gateway", "get", GATEWAY]);
            gateway["pullAge"].as_f64().map(|_| ())
        });
    }

    fn topic(&self, end: &str) -> String {
        format!("application/{}/device/{DEVICE}/{end}", self.application)
    }

    fn mosquitto(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let port = self.tern.mqtt().port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-u", "backend", "-P", &self.password]);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        command
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let text = self.tern.ok(&["events", "--after", "0", "--limit", "1000", "--json"]);
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == kind).map(|event| event["body"].clone()).collect()
    }
}

/// A client that prints a line for each thing that happens.
struct Lines {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Lines {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { input: child.stdin.take(), child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.output.read_line(&mut line).unwrap();
        assert!(length > 0, "the client has ended");
        line.trim_end().to_owned()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mosquitto_subscribes_publishes_and_is_refused() {
    let place = Place::start(&EU868);
    let dev_eui = DEVICE.parse().unwrap();
    let mut subscribe = place.mosquitto("mosquitto_sub");
    subscribe.args(["-q", "1", "-v", "-V", "mqttv5", "-W", "60", "-t", &place.topic("event/+")]);
    let mut subscriber = Lines::start(subscribe);
    let site = Site::start(place.tern.udp(), GATEWAY, vec![otaa(&EU868, DEVICE, APP_KEY)]);
    site.join(dev_eui);
    assert!(subscriber.line().starts_with(&place.topic("event/join")));

    let down = json!({"devEui": DEVICE, "fPort": 10, "confirmed": true, "data": "AQI="});
    let publish = |version: &str, topic: &str, text: &str| {
        let mut publish = place.mosquitto("mosquitto_pub");
        publish.args(["-q", "1", "-V", version, "-t", topic, "-m", text]);
        publish.stderr(Stdio::piped()).output().unwrap()
    };
    let done = publish("mqttv311", &place.topic("command/down"), &down.to_string());
    assert!(done.status.success(), "{done:?}");
    eventually("the downlink in the queue", Duration::from_secs(5), || {
        (place.tern.json(&["queue", "list", DEVICE])["totalCount"] == 1).then_some(())
    });
    site.field.send(dev_eui, AppUplink::unconfirmed(2, "one")).unwrap();
    let heard = site.delivered();
    assert_eq!((heard.f_port, &heard.payload[..], heard.confirmed), (10, &[1, 2][..], true));
    site.done();
    site.field.send(dev_eui, AppUplink::confirmed(2, "two")).unwrap();
    assert!(site.done(), "acknowledged");
    let mut kinds = Vec::new();
    while kinds.iter().filter(|kind| *kind == "up").count() < 2
        || !kinds.iter().any(|kind| kind == "ack")
    {
        let line = subscriber.line();
        let (topic, body) = line.split_once(' ').unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["deviceInfo"]["devEui"], DEVICE);
        kinds.push(topic.rsplit('/').next().unwrap().to_owned());
    }

    // Nobody without an account, nobody beyond his application.
    let port = place.tern.mqtt().port().to_string();
    let stranger = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port, "-t", "#", "-W", "5"])
        .output()
        .unwrap();
    assert!(!stranger.status.success(), "{stranger:?}");
    let beyond = publish("mqttv5", "application/0/device/0/command/down", "{}");
    let text = String::from_utf8_lossy(&beyond.stderr).to_lowercase();
    assert!(!beyond.status.success() || text.contains("not authorized"), "{beyond:?}");
}

#[test]
fn paho_keeps_its_session_over_a_restart_of_the_server() {
    let mut place = Place::start(&EU868);
    let dev_eui = DEVICE.parse().unwrap();
    let mut python = Command::new("/usr/bin/python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/paho_client.py"));
    let port = place.tern.mqtt().port().to_string();
    python.args([&port, "backend", &place.password, &place.topic("event/up")]);
    let mut paho = Lines::start(python);
    assert_eq!(paho.line(), "subscribed, session present: 0");
    let site = Site::start(place.tern.udp(), GATEWAY, vec![otaa(&EU868, DEVICE, APP_KEY)]);
    site.join(dev_eui);
    site.field.send(dev_eui, AppUplink::confirmed(2, "before")).unwrap();
    assert!(site.done());
    assert_eq!(paho.line(), "up before");

    // It leaves; meanwhile an event is decided, and the server is killed.
    paho.say("disconnect");
    assert_eq!(paho.line(), "disconnected");
    site.field.send(dev_eui, AppUplink::confirmed(2, "meanwhile")).unwrap();
    assert!(site.done());
    place.tern.kill();
    place.tern.start_again();
    paho.say("connect");
    let mut lines = [paho.line(), paho.line()];
    lines.sort();
    assert_eq!(lines, ["subscribed, session present: 1", "up meanwhile"]);

    // And it publishes: the answer to the next uplink.
    let down = json!({"devEui": DEVICE, "fPort": 7, "data": "cGFobw=="}).to_string();
    paho.say(&format!("publish {} {down}", place.topic("command/down")));
    assert_eq!(paho.line(), "published");
    eventually("the downlink in the queue", Duration::from_secs(5), || {
        (place.tern.json(&["queue", "list", DEVICE])["totalCount"] == 1).then_some(())
    });
    place.way_down();
    site.field.send(dev_eui, AppUplink::confirmed(2, "after")).unwrap();
    assert_eq!(&site.delivered().payload[..], b"paho");
    assert_eq!(paho.line(), "up after");
}

fn foreign_device(region: &'static Region) {
    let place = Place::start(region);
    let site = Site::start(place.tern.udp(), GATEWAY, vec![]);
    let mut device = ForeignDevice::new(&site, region, DEVICE, APP_KEY);
    device.join();
    eventually("the join event", Duration::from_secs(5), || {
        (place.events("join").len() == 1).then_some(())
    });
    for number in 0..2_u8 {
        assert!(device.send(&[number, 0xA5], 3, true).acknowledged, "uplink {number}");
    }
    place.tern.ok(&["queue", "push", DEVICE, "--fport", "12", "--hex", "c0ffee", "--confirmed"]);
    let heard = device.send(&[2], 3, true);
    assert!(heard.acknowledged);
    assert_eq!(heard.downlink, Some((12, vec![0xC0, 0xFF, 0xEE])));
    // Its next frame acknowledges the downlink.
    assert!(device.send(&[3], 3, true).acknowledged);
    let acks = eventually("the acknowledgement", Duration::from_secs(5), || {
        Some(place.events("ack")).filter(|acks| !acks.is_empty())
    });
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0]["acknowledged"], true);
    let data: Vec<Value> = place.events("up").iter().map(|up| up["data"].clone()).collect();
    assert_eq!(data, ["AKU=", "AaU=", "Ag==", "Aw=="]);
}

#[test]
fn a_foreign_device_joins_and_exchanges_confirmed_frames_in_eu868() {
    foreign_device(&EU868);
}

#[test]
fn a_foreign_device_joins_and_exchanges_confirmed_frames_in_us915_sub_band_2() {
    foreign_device(&US915);
}
