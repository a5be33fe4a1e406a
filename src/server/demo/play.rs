//! The demonstration itself: devices join and report, an application answers some of them, every
//! event is printed as MQTT delivers it, and with several nodes one of them dies.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clock::{Instant, Now};
use host::world::World;
use lorawan::{GatewayEui, Region};
use mqtt::{ClientConfig, Version};
use radio::{AppUplink, DeviceEffect, ForwarderConfig, Sent};
use serde_json::json;
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::line::{Event, Voice, readable};
use super::link::Link;
use super::nodes::Nodes;
use super::outage::{Outage, Turn};
use super::provision::{Actor, Cast, GATEWAYS, provision};
use super::{DemoArgs, DemoError};
use crate::field::{Field, FieldConfig, FieldEvent};
use crate::world::RealWorld;

/// How long after the end what is on its way may still arrive.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// The same where a node may have to come back for it.
const LAST_WORDS_OF_MANY: Duration = Duration::from_secs(20);
/// How often the script looks at its devices.
const STEP: Duration = Duration::from_millis(100);
/// How often the ledger is shown.
const LEDGER_EVERY: Duration = Duration::from_secs(5);
/// Between two tries of the subscriber.
const RECONNECT_EVERY: Duration = Duration::from_millis(200);
/// How long its session outlives a connection, in seconds.
const SESSION_S: u32 = 600;
/// Every so many uplinks of a device the application answers.
const ANSWER_EVERY: u32 = 3;
/// Events of the field that wait for the script.
const FIELD_EVENTS_MAX: usize = 4_096;

struct Play {
    world: RealWorld,
    nodes: Nodes,
    field: Field,
    /// The node that each gateway sends to.
    points: Vec<usize>,
    actors: Vec<Actor>,
    application: String,
    client: ClientConfig,
    /// The subscriber; `None` while it looks for a node.
    link: Option<Link>,
    /// Where the next one comes from.
    links: mpsc::Receiver<(usize, Link)>,
    found: mpsc::Sender<(usize, Link)>,
    voice: Voice,
    ledger: Ledger,
    /// When the ledger is shown next.
    ledger_at: Instant,
}

/// Runs the demonstration.
pub(super) async fn run(args: &DemoArgs, voice: Voice) -> Result<(), DemoError> {
    let region = Region::from_name(&args.region)?;
    let how_many =
        if args.nodes == 1 { "a node".to_owned() } else { format!("{} nodes", args.nodes) };
    let text = format!("Starting {how_many} on loopback, in a temporary folder.");
    voice.note(&text, &json!({"note": "starting", "nodes": args.nodes}))?;
    let mut interrupted = Box::pin(interrupted());
    let nodes = tokio::select! {
        nodes = Nodes::start(args.nodes, region.name) => nodes?,
        () = &mut interrupted => return Ok(()),
    };
    let cast = provision(&nodes.all[0], nodes.all.len(), region, args.devices)?;
    let (report, events) = mpsc::channel(FIELD_EVENTS_MAX);
    let mut play = Play::open(nodes, cast, voice, report)?;
    play.greet(region, args.duration.is_none())?;
    play.run(args.duration, events, interrupted).await?;
    play.close()
}

impl Play {
    fn open(
        nodes: Nodes,
        cast: Cast,
        voice: Voice,
        report: mpsc::Sender<FieldEvent>,
    ) -> Result<Self, DemoError> {
        let forwarder = |(gateway, seed): (&GatewayEui, u8)| {
            let mut config = ForwarderConfig::new(*gateway, [seed; 32]);
            if nodes.all.len() > 1 {
                // Whoever takes over must soon know the way down.
                config.keepalive = Duration::from_secs(1);
            }
            config
        };
        let config = FieldConfig {
            servers: nodes.all.iter().map(|node| node.udp).collect(),
            gateways: cast.gateways.iter().zip(1..).map(forwarder).collect(),
            devices: cast.devices,
        };
        // What the script cannot take it would only have counted.
        let field = Field::start(config, move |event| drop(report.try_send(event)));
        let field = field.map_err(|source| DemoError::Io { what: "gateways", source })?;
        let client = ClientConfig::new(Version::V5, "tern-demo").account("demo", &cast.password);
        let (found, links) = mpsc::channel(1);
        let world = RealWorld::without_folder();
        let ledger_at = world.now().instant + LEDGER_EVERY;
        let servers = nodes.all.len();
        let play = Self {
            world,
            nodes,
            field,
            points: (0..cast.gateways.len()).map(|gateway| gateway % servers).collect(),
            actors: cast.actors,
            application: cast.application,
            client: client.persistent(SESSION_S),
            link: None,
            links,
            found,
            voice,
            ledger: Ledger::default(),
            ledger_at,
        };
        play.connect();
        Ok(play)
    }

    fn greet(&self, region: &Region, endless: bool) -> Result<(), DemoError> {
        let join = |addresses: Vec<String>| addresses.join(", ");
        let udp = join(self.nodes.all.iter().map(|node| node.udp.to_string()).collect());
        let mqtt = join(self.nodes.all.iter().map(|node| node.mqtt.to_string()).collect());
        let text = format!(
            "{} simulated gateways send to udp {udp}, {} devices ({}) join through them.\n\
             Every event, as MQTT delivers it from tcp {mqtt}{}; and what devices hear:\n",
            self.points.len(),
            self.actors.len(),
            region.name,
            if endless { " (Ctrl-C ends)" } else { "" },
        );
        self.voice.note(&text, &json!({"note": "ready", "udp": udp, "mqtt": mqtt}))
    }

    async fn run(
        &mut self,
        duration: Option<Duration>,
        mut events: mpsc::Receiver<FieldEvent>,
        mut interrupted: impl Future<Output = ()> + Unpin,
    ) -> Result<(), DemoError> {
        let begun = self.now();
        for (number, actor) in (0..).zip(&mut self.actors) {
            actor.next = begun + Duration::from_millis(350) * number;
        }
        let end = duration.map(|duration| begun + duration);
        let mut outage = Outage::new(self.nodes.all.len(), begun, duration);
        let mut closing = None;
        let mut steps = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                message = next_message(&mut self.link) => match message {
                    Some(message) => if let Some(event) = Event::read(&message) {
                        self.take(&event)?;
                    },
                    None => self.unlinked()?,
                },
                Some((node, link)) = self.links.recv() => self.linked(node, link)?,
                Some(event) = events.recv() => self.watch(event)?,
                _ = steps.tick() => {
                    let now = self.now();
                    if closing.is_none() && end.is_some_and(|end| end <= now) {
                        closing = Some(now + self.last_words());
                    }
                    self.story(now, &mut outage)?;
                    match closing {
                        Some(until) if until <= now => return Ok(()),
                        Some(_) if self.ledger.is_complete() && !outage.is_on() => return Ok(()),
                        Some(_) => {}
                        None => self.act(now),
                    }
                }
                () = &mut interrupted, if closing.is_none() => {
                    closing = Some(self.now() + self.last_words());
                }
            }
        }
    }

    fn now(&self) -> Instant {
        self.world.now().instant
    }

    fn last_words(&self) -> Duration {
        if self.nodes.all.len() == 1 { LAST_WORDS } else { LAST_WORDS_OF_MANY }
    }

    /// A node dies and comes back; the ledger is shown now and then.
    fn story(&mut self, now: Instant, outage: &mut Outage) -> Result<(), DemoError> {
        if let Some(error) = self.nodes.ended() {
            return Err(error);
        }
        let points = &self.points;
        let names = |node: usize| {
            let at = |(number, (_, name)): (usize, &(u64, &'static str))| {
                (points.get(number) == Some(&node)).then_some(*name)
            };
            GATEWAYS.iter().enumerate().filter_map(at).collect()
        };
        if let Some(Turn { text, json, point }) = outage.step(now, &mut self.nodes, names)? {
            self.voice.note(&format!("{}   >>>   {text}", self.time()), &json)?;
            self.show_ledger(Some(now))?;
            if let Some((from, to)) = point {
                self.point(from, to);
            }
        }
        if self.ledger_at <= now {
            self.show_ledger(Some(now))?;
        }
        Ok(())
    }

    fn show_ledger(&mut self, now: Option<Instant>) -> Result<(), DemoError> {
        self.ledger_at = self.now() + LEDGER_EVERY;
        if self.nodes.all.len() == 1 {
            return Ok(());
        }
        let text = format!("{}   ===   {}", self.time(), self.ledger.line(now));
        self.voice.note(&text, &self.ledger.json(now))
    }

    /// The gateways of a node send to another one from now on.
    fn point(&mut self, home: usize, to: usize) {
        let nodes = self.nodes.all.len();
        for (gateway, point) in self.points.iter_mut().enumerate() {
            if gateway % nodes == home {
                *point = to;
                // Full only if the field's thread stands still.
                let _ = self.field.point(gateway, self.nodes.all[to].udp);
            }
        }
    }

    /// Looks for a node that takes the subscriber in, in a task of its own.
    fn connect(&self) {
        let brokers: Vec<SocketAddr> = self.nodes.all.iter().map(|node| node.mqtt).collect();
        let (client, found) = (self.client.clone(), self.found.clone());
        tokio::spawn(async move {
            for (node, broker) in brokers.iter().enumerate().cycle() {
                let link = Link::open(*broker, client.clone(), &["application/#"]).await;
                if let Ok(link) = link {
                    // The demonstration is over: nobody wants it.
                    let _ = found.send((node, link)).await;
                    return;
                }
                tokio::time::sleep(RECONNECT_EVERY).await;
            }
        });
    }

    fn unlinked(&mut self) -> Result<(), DemoError> {
        self.link = None;
        if self.nodes.all.len() == 1 {
            return Err(DemoError::Failed("the MQTT connection ended".into()));
        }
        self.connect();
        Ok(())
    }

    fn linked(&mut self, node: usize, link: Link) -> Result<(), DemoError> {
        self.link = Some(link);
        if self.nodes.all.len() == 1 {
            return Ok(());
        }
        let name = &self.nodes.all[node].short;
        let text = format!("{}   >>>   the subscriber is at {name}", self.time());
        self.voice.note(&text, &json!({"note": "subscriber", "node": name}))
    }

    /// The time of day.
    fn time(&self) -> String {
        let wall = self.world.now().wall.to_string();
        format!("{:<12.12}", wall.get(11..).unwrap_or_default().trim_end_matches('Z'))
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
        let Now { instant: now, .. } = self.world.now();
        let (dev_eui, effect) = match event {
            FieldEvent::Device { dev_eui, effect } => (dev_eui, effect),
            FieldEvent::Accepted { frame, .. } => {
                self.ledger.accepted(now, &frame);
                return Ok(());
            }
            FieldEvent::Refused { .. }
            | FieldEvent::Radiated { .. }
            | FieldEvent::Decided { .. }
            | FieldEvent::Dropped { .. } => return Ok(()),
        };
        let time = self.time();
        let Some(actor) = self.actors.iter_mut().find(|actor| actor.dev_eui == dev_eui) else {
            return Ok(());
        };
        match effect {
            DeviceEffect::Joined { .. } => {
                actor.joined = true;
                actor.next = now + Duration::from_millis(300);
            }
            DeviceEffect::Transmit { sent: Sent::Data { fcnt, attempt }, frame } => {
                let dev_eui = dev_eui.to_string();
                self.ledger.transmitted(frame.phy_payload, dev_eui, fcnt, attempt > 1);
            }
            DeviceEffect::Delivered(down) => {
                self.ledger.heard += 1;
                let what = format!("#{:<4} {}", down.fcnt, readable(&down.payload));
                self.voice.heard(&time, &actor.name, &what)?;
                // It answers soon: the acknowledgement of a confirmed downlink rides along.
                actor.next = actor.next.min(now + Duration::from_millis(1_500));
            }
            DeviceEffect::Done { fcnt, acked: true, .. } => {
                self.ledger.answered += 1;
                let what = format!("#{fcnt:<4} its uplink is acknowledged");
                self.voice.heard(&time, &actor.name, &what)?;
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
        self.voice.event(event)?;
        match event.kind.as_str() {
            "join" => {
                self.ledger.joined.insert(dev_eui);
            }
            "up" if self.ledger.delivered(&dev_eui, event.fcnt(), &id) => self.answer(&dev_eui)?,
            "ack" => {
                self.ledger.acknowledged.insert(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// The application: an answer now and then, every second one confirmed.
    fn answer(&mut self, dev_eui: &str) -> Result<(), DemoError> {
        let find = self.actors.iter().find(|actor| actor.dev_eui.to_string() == dev_eui);
        let (Some(actor), Some(link)) = (find, &self.link) else { return Ok(()) };
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
        let published = link.publish(&topic, command.to_string().into_bytes());
        // Its node may have died a moment ago; with one node nothing takes that away.
        self.ledger.queued += u32::from(published.is_ok());
        match published {
            Err(source) if self.nodes.all.len() == 1 => Err(DemoError::Io { what: "MQTT", source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Says what came of it, and ends the nodes.
    ///
    /// * Errors: nothing did, or something that was accepted did not come.
    fn close(mut self) -> Result<(), DemoError> {
        self.voice.blank()?;
        self.show_ledger(None)?;
        for line in self.ledger.summary(self.actors.len()) {
            self.voice.text(&line)?;
        }
        let (lost, joined) = (self.ledger.lost(None), !self.ledger.joined.is_empty());
        let (voice, many) = (self.voice, self.nodes.all.len() > 1);
        drop(self);
        voice.text("Nothing is left behind.")?;
        if !joined {
            return Err(DemoError::Failed("no device has joined: it ran for too short".into()));
        }
        if many && lost > 0 {
            let text = format!("{lost} uplinks that a live gateway accepted were lost");
            return Err(DemoError::Failed(text));
        }
        Ok(())
    }
}

/// The next message of the subscriber, if there is one; else none ever.
async fn next_message(link: &mut Option<Link>) -> Option<super::link::Message> {
    match link {
        Some(link) => link.message().await,
        None => std::future::pending().await,
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
