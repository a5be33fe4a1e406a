//! The demonstration itself: devices join and report, an application answers some of them, and
//! every event is printed as MQTT delivers it.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::{Instant, Now};
use host::world::World;
use lorawan::{DevEui, GatewayEui, JoinEui, Key, Region};
use mqtt::{ClientConfig, Version};
use node::api::Operation;
use node::api::wire::{Device, DeviceKeys, DeviceProfile};
use radio::{AppUplink, DeviceConfig, DeviceEffect, ForwarderConfig, Sent, Signal};
use serde_json::json;
use tokio::sync::mpsc;

use super::line::{Event, Style, readable, row};
use super::link::Link;
use super::node::{DemoNode, NodeSettings};
use super::{DemoArgs, DemoError};
use crate::field::{Field, FieldConfig, FieldDevice, FieldEvent};
use crate::world::RealWorld;

/// The gateways' EUIs.
const GATEWAYS: [(u64, &str); 2] =
    [(0x0016_C001_F153_A14C, "roof"), (0x0016_C001_F153_A14D, "cellar")];
/// The first device's EUI.
const FIRST_DEVICE: u64 = 0x70B3_D57E_D000_0001;
/// The application's name.
const APPLICATION: &str = "demo";
/// How long after the end what is on its way may still arrive.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often the script looks at its devices.
const STEP: Duration = Duration::from_millis(100);
/// Every so many uplinks of a device the application answers.
const ANSWER_EVERY: u32 = 3;
/// Events of the field that wait for the script.
const FIELD_EVENTS_MAX: usize = 4_096;

/// One simulated device and where it stands in the script.
struct Actor {
    dev_eui: DevEui,
    name: String,
    quantity: Quantity,
    joined: bool,
    uplinks: u32,
    /// When it does the next thing.
    next: Instant,
}

/// What a device measures.
#[derive(Clone, Copy)]
enum Quantity {
    Temperature,
    Door,
    Meter,
    Moisture,
}

impl Quantity {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Temperature, "room-temp"),
        (Self::Door, "front-door"),
        (Self::Meter, "water-meter"),
        (Self::Moisture, "soil"),
    ];

    /// A reading that changes a little each time.
    fn reading(self, number: u32) -> String {
        match self {
            Self::Temperature => format!("{}.{} C", 20 + number % 3, number * 7 % 10),
            Self::Door if number.is_multiple_of(2) => "closed".to_owned(),
            Self::Door => "open".to_owned(),
            Self::Meter => format!("{:.3} m3", 118.25 + f64::from(number) * 0.012),
            Self::Moisture => format!("{} %", 41 - number % 9),
        }
    }
}

/// What the demonstration has seen; the summary is made of it.
#[derive(Default)]
struct Tally {
    joined: BTreeSet<String>,
    sent: u32,
    delivered: BTreeSet<String>,
    answered: u32,
    queued: u32,
    heard: u32,
    acknowledged: BTreeSet<String>,
}

struct Play {
    world: RealWorld,
    field: Field,
    actors: Vec<Actor>,
    application: String,
    link: Link,
    style: Style,
    tally: Tally,
}

/// Runs the demonstration.
pub(super) async fn run(args: &DemoArgs) -> Result<(), DemoError> {
    let region = Region::from_name(&args.region)?;
    say("Starting a node on loopback, in a temporary folder.")?;
    let node = DemoNode::start(NodeSettings::new(region.name)).await?;
    let played = play(args, region, &node).await;
    node.stop().await;
    played
}

async fn play(args: &DemoArgs, region: &'static Region, node: &DemoNode) -> Result<(), DemoError> {
    let (application, actors, devices) = provision(node, region, args.devices).await?;
    let account = node.account("demo").await?;
    let client = ClientConfig::new(Version::V5, "tern-demo");
    let client = client.account(&account.name, &account.password);
    let link = Link::open(node.mqtt(), client, &["application/#"]).await;
    let link = link.map_err(|source| DemoError::Io { what: "MQTT", source })?;
    let gateways = GATEWAYS.iter().zip(1..).map(|((eui, _), seed)| {
        ForwarderConfig::new(GatewayEui::from_be_bytes(eui.to_be_bytes()), [seed; 32])
    });
    let config = FieldConfig { server: node.udp(), gateways: gateways.collect(), devices };
    let (report, events) = mpsc::channel(FIELD_EVENTS_MAX);
    // What the script cannot take it would only have counted.
    let field = Field::start(config, move |event| drop(report.try_send(event)));
    let field = field.map_err(|source| DemoError::Io { what: "gateways", source })?;
    say(&format!(
        "{} simulated gateways send to udp {}, {} devices ({}) join through them.\n\
         Every event, as MQTT delivers it from tcp {}{}; and what devices hear:\n",
        GATEWAYS.len(),
        node.udp(),
        actors.len(),
        region.name,
        node.mqtt(),
        if args.duration.is_some() { "" } else { " (Ctrl-C ends)" },
    ))?;
    let style = style();
    let world = RealWorld::new();
    let tally = Tally::default();
    let mut play = Play { world, field, actors, application, link, style, tally };
    play.run(args.duration, events, node.failed()).await?;
    play.tally.close(play.actors.len())
}

/// Registers everything through the operations of the API.
async fn provision(
    node: &DemoNode,
    region: &'static Region,
    count: u8,
) -> Result<(String, Vec<Actor>, Vec<FieldDevice>), DemoError> {
    let application = node.application(APPLICATION).await?;
    let channels = region.is_fixed_plan().then(|| (8..16).chain([65]).collect::<Vec<u8>>());
    let profile = DeviceProfile {
        name: "demo sensor".to_owned(),
        region: region.name.to_owned(),
        supports_otaa: true,
        channels: if channels.is_some() { "8-15+65".to_owned() } else { String::new() },
        ..DeviceProfile::default()
    };
    let profile = node.profile(profile).await?;
    for (eui, name) in GATEWAYS {
        node.gateway(&format!("{eui:016x}"), name).await?;
    }
    let world = RealWorld::new();
    let (mut actors, mut devices) = (Vec::new(), Vec::new());
    for number in 0..count {
        let eui = FIRST_DEVICE + u64::from(number);
        let dev_eui = DevEui::from_be_bytes(eui.to_be_bytes());
        let (quantity, name) = Quantity::ALL[usize::from(number) % Quantity::ALL.len()];
        let name = format!("{name}-{}", usize::from(number) / Quantity::ALL.len() + 1);
        let key = world.seed().first_chunk::<16>().copied().unwrap_or_default();
        register(node, dev_eui, &name, &application, &profile, key).await?;
        let join_eui = JoinEui::from_be_bytes([0; 8]);
        let seed = world.seed();
        let mut config = DeviceConfig::otaa(region, dev_eui, join_eui, Key::from_bytes(key), seed);
        config.channels.clone_from(&channels);
        config.data_rate = if region.is_fixed_plan() { 3 } else { 5 };
        devices.push(FieldDevice { config, signals: signals(number) });
        let next = Instant::ZERO;
        actors.push(Actor { dev_eui, name, quantity, joined: false, uplinks: 0, next });
    }
    Ok((application, actors, devices))
}

async fn register(
    node: &DemoNode,
    dev_eui: DevEui,
    name: &str,
    application: &str,
    profile: &str,
    key: [u8; 16],
) -> Result<(), DemoError> {
    let device = Device {
        dev_eui: dev_eui.to_string(),
        name: name.to_owned(),
        application_id: application.to_owned(),
        device_profile_id: profile.to_owned(),
        ..Device::default()
    };
    node.call("device", Operation::CreateDevice(device)).await?;
    let nwk_key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let keys = DeviceKeys { dev_eui: dev_eui.to_string(), nwk_key, ..DeviceKeys::default() };
    node.call("keys", Operation::CreateDeviceKeys(keys)).await.map(|_| ())
}

/// The roof hears everybody, the cellar every second one, each a little differently.
fn signals(number: u8) -> Vec<Option<Signal>> {
    let step = i16::from(number % 8);
    let roof = Signal { rssi_dbm: -71 - 4 * step, snr_ddb: 95 - 10 * step };
    let cellar = Signal { rssi_dbm: -98 - 2 * step, snr_ddb: 20 - 5 * step };
    vec![Some(roof), number.is_multiple_of(2).then_some(cellar)]
}

fn style() -> Style {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if colour { Style::Coloured } else { Style::Plain }
}

impl Play {
    async fn run(
        &mut self,
        duration: Option<Duration>,
        mut events: mpsc::Receiver<FieldEvent>,
        failed: impl Future<Output = DemoError>,
    ) -> Result<(), DemoError> {
        let begun = self.now();
        for (number, actor) in (0..).zip(&mut self.actors) {
            actor.next = begun + Duration::from_millis(350) * number;
        }
        let end = duration.map(|duration| begun + duration);
        let mut closing = None;
        let interrupted = interrupted();
        tokio::pin!(failed, interrupted);
        let mut steps = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                message = self.link.message() => match message {
                    Some(message) => if let Some(event) = Event::read(&message) {
                        self.take(&event)?;
                    },
                    None => return Err(DemoError::Failed("the MQTT connection ended".into())),
                },
                Some(event) = events.recv() => self.watch(event)?,
                _ = steps.tick() => {
                    let now = self.now();
                    if closing.is_none() && end.is_some_and(|end| end <= now) {
                        closing = Some(now + LAST_WORDS);
                    }
                    match closing {
                        Some(until) if until <= now || self.tally.is_complete() => return Ok(()),
                        Some(_) => {}
                        None => self.act(now),
                    }
                }
                () = &mut interrupted, if closing.is_none() => {
                    closing = Some(self.now() + LAST_WORDS);
                }
                error = &mut failed => return Err(error),
            }
        }
    }

    fn now(&self) -> Instant {
        self.world.now().instant
    }

    /// Whose turn it is joins or reports.
    fn act(&mut self, now: Instant) {
        for (number, actor) in (0..).zip(&mut self.actors) {
            if actor.next > now {
                continue;
            }
            if !actor.joined {
                // A join-accept comes after 5 s at the earliest, and the device waits for 6.
                actor.next = now + Duration::from_secs(8);
                let _ = self.field.join(actor.dev_eui);
                continue;
            }
            actor.uplinks += 1;
            actor.next = now + Duration::from_millis(4_500) + Duration::from_millis(370) * number;
            let reading = actor.quantity.reading(actor.uplinks);
            let uplink = match actor.uplinks % 2 {
                0 => AppUplink::confirmed(2, reading),
                _ => AppUplink::unconfirmed(2, reading),
            };
            let _ = self.field.send(actor.dev_eui, uplink);
        }
    }

    /// What devices and gateways do.
    fn watch(&mut self, event: FieldEvent) -> Result<(), DemoError> {
        let FieldEvent::Device { dev_eui, effect } = event else { return Ok(()) };
        let Now { instant: now, wall } = self.world.now();
        let Some(actor) = self.actors.iter_mut().find(|actor| actor.dev_eui == dev_eui) else {
            return Ok(());
        };
        let time = wall.to_string();
        let time = time.get(11..).unwrap_or_default().trim_end_matches('Z');
        let heard = |what: &str| say(&row(time, "heard", &actor.name, what, self.style));
        match effect {
            DeviceEffect::Joined { .. } => {
                actor.joined = true;
                actor.next = now + Duration::from_millis(300);
            }
            DeviceEffect::Transmit { sent: Sent::Data { attempt: 1, .. }, .. } => {
                self.tally.sent += 1;
            }
            DeviceEffect::Delivered(down) => {
                self.tally.heard += 1;
                heard(&format!("#{:<4} {}", down.fcnt, readable(&down.payload)))?;
                // It answers soon: the acknowledgement of a confirmed downlink rides along.
                actor.next = actor.next.min(now + Duration::from_millis(1_500));
            }
            DeviceEffect::Done { fcnt, acked: true, .. } => {
                self.tally.answered += 1;
                heard(&format!("#{fcnt:<4} its uplink is acknowledged"))?;
            }
            DeviceEffect::Transmit { .. }
            | DeviceEffect::Judged(_)
            | DeviceEffect::JoinFailed
            | DeviceEffect::LinkCheck { .. }
            | DeviceEffect::Time { .. }
            | DeviceEffect::Done { .. } => {}
        }
        Ok(())
    }

    /// An event: counted, printed, sometimes answered.
    fn take(&mut self, event: &Event) -> Result<(), DemoError> {
        let dev_eui = event.text("/deviceInfo/devEui").to_owned();
        let id = event.text("/deduplicationId").to_owned();
        say(&event.line(self.style))?;
        match event.kind.as_str() {
            "join" => {
                self.tally.joined.insert(dev_eui);
            }
            "up" if self.tally.delivered.insert(id.clone()) => self.answer(&dev_eui)?,
            "ack" => {
                self.tally.acknowledged.insert(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// The application: an answer now and then, every second one confirmed.
    fn answer(&mut self, dev_eui: &str) -> Result<(), DemoError> {
        let Some(actor) = self.actors.iter().find(|actor| actor.dev_eui.to_string() == dev_eui)
        else {
            return Ok(());
        };
        if !actor.uplinks.is_multiple_of(ANSWER_EVERY) {
            return Ok(());
        }
        let text = format!("hello, {}", actor.name);
        let command = json!({
            "devEui": dev_eui,
            "fPort": 10,
            "confirmed": (actor.uplinks / ANSWER_EVERY) % 2 == 1,
            "data": STANDARD.encode(text),
        });
        let topic = format!("application/{}/device/{dev_eui}/command/down", self.application);
        self.tally.queued += 1;
        let published = self.link.publish(&topic, command.to_string().into_bytes());
        published.map_err(|source| DemoError::Io { what: "MQTT", source })
    }
}

impl Tally {
    /// Nothing is on its way.
    fn is_complete(&self) -> bool {
        let delivered = self.delivered.len() >= usize::try_from(self.sent).unwrap_or(usize::MAX);
        delivered && self.heard >= self.queued
    }

    /// Says what came of it.
    ///
    /// * Errors: nothing did.
    fn close(&self, devices: usize) -> Result<(), DemoError> {
        say(&format!("\njoined     {} of {devices} devices", self.joined.len()))?;
        say(&format!(
            "uplinks    {} sent, {} delivered, {} acknowledged to their device",
            self.sent,
            self.delivered.len(),
            self.answered
        ))?;
        say(&format!(
            "downlinks  {} queued, {} heard by devices, {} acknowledged",
            self.queued,
            self.heard,
            self.acknowledged.len()
        ))?;
        say("Nothing is left behind.")?;
        if self.joined.is_empty() {
            return Err(DemoError::Failed("no device has joined: it ran for too short".into()));
        }
        Ok(())
    }
}

/// Ctrl-C, or a polite end from outside.
async fn interrupted() {
    let Ok(mut terminated) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// Writes a line; a pipe that was closed ends the demonstration.
fn say(text: &str) -> Result<(), DemoError> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|source| DemoError::Io { what: "standard output", source })
}
