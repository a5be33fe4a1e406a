//! Simulated gateways and devices in the real world: crate `radio`'s state machines on real UDP
//! sockets and a real clock. For `tern demo` and the integration tests.
//!
//! A thread of its own owns them and the air between them: a device's frame reaches every gateway
//! in its reach when it ends, a gateway's frame reaches every device when it begins. [`Field`] asks
//! them to join and to send; what they do is told to a function as [`FieldEvent`]s. Frames of other
//! LoRaWAN stacks take part through [`Field::transmit`] and [`FieldEvent::Radiated`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use clock::{Duration, Instant};
use gateway::semtech::{Downward, Upward, parse_downward, parse_upward};
use host::world::World;
use lorawan::{DevEui, GatewayEui, TxStatus};
use radio::{
    AppUplink, Device, DeviceConfig, DeviceEffect, Forwarder, ForwarderConfig, ForwarderEffect,
    OnAir, SendError, Signal, Socket,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::world::RealWorld;

/// Commands and datagrams that wait; more than a demonstration can mean.
const QUEUE_MAX: usize = 1_024;
/// The largest UDP datagram.
const DATAGRAM_MAX: usize = 65_535;
/// How the loop waits when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
/// How a gateway hears frames that were handed in from outside.
const NEAR: Signal = Signal { rssi_dbm: -57, snr_ddb: 95 };

/// One device and who hears it.
#[derive(Clone, Debug)]
pub struct FieldDevice {
    /// The device.
    pub config: DeviceConfig,
    /// How each gateway hears it, in the order of [`FieldConfig::gateways`]; `None`: not at all.
    pub signals: Vec<Option<Signal>>,
}

/// Who is in the field, and where the server is.
#[derive(Clone, Debug)]
pub struct FieldConfig {
    /// UDP addresses of servers: gateways have one each, in turn.
    pub servers: Vec<SocketAddr>,
    /// Gateways.
    pub gateways: Vec<ForwarderConfig>,
    /// Devices.
    pub devices: Vec<FieldDevice>,
}

/// What happened in the field.
#[derive(Clone, Debug)]
pub enum FieldEvent {
    /// A device did something.
    Device {
        /// Which.
        dev_eui: DevEui,
        /// What.
        effect: DeviceEffect,
    },
    /// A device was asked for something that it cannot do now.
    Refused {
        /// Which.
        dev_eui: DevEui,
        /// Why.
        why: SendError,
    },
    /// A gateway begins to send a frame, now or a little ago.
    Radiated {
        /// Which.
        gateway: GatewayEui,
        /// The frame.
        frame: OnAir,
    },
    /// A gateway answered a downlink.
    Decided {
        /// Which.
        gateway: GatewayEui,
        /// What it said.
        status: TxStatus,
    },
    /// The server has acknowledged a frame to a gateway.
    Accepted {
        /// Which.
        gateway: GatewayEui,
        /// The whole PHYPayload.
        frame: Bytes,
    },
    /// A gateway dropped a datagram of the server without a word.
    Dropped {
        /// Which.
        gateway: GatewayEui,
        /// Why.
        why: &'static str,
    },
}

enum Order {
    Join(DevEui),
    Send(DevEui, AppUplink),
    Transmit(OnAir),
    Point(usize, SocketAddr),
}

struct Datagram {
    gateway: usize,
    socket: Socket,
    bytes: Vec<u8>,
}

/// Why an order was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Too many orders wait.
    #[error("{QUEUE_MAX} orders wait already")]
    Full,
    /// The thread has ended.
    #[error("the field's thread has ended")]
    Ended,
}

/// Gateways and devices at work; they end when it is dropped.
#[derive(Debug)]
pub struct Field {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    world: RealWorld,
}

impl Field {
    /// Binds two sockets for each gateway on loopback and switches the gateways on.
    ///
    /// * `report`: told what happens, on the field's own thread; it must not block.
    /// * Errors: no sockets, no thread.
    pub fn start(
        config: FieldConfig,
        report: impl FnMut(FieldEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let world = RealWorld::without_folder();
        let (orders, ordered) = mpsc::channel(QUEUE_MAX);
        let clock = world.clone();
        let (opened, open) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("field".into()).spawn(move || {
            runtime.block_on(async move {
                match Ground::open(config, clock, Box::new(report)).await {
                    Ok((ground, datagrams)) => {
                        let _ = opened.send(Ok(()));
                        ground.run(ordered, datagrams).await;
                    }
                    Err(error) => {
                        let _ = opened.send(Err(error));
                    }
                }
            });
        })?;
        open.recv().map_err(|_| io::Error::other("the field's thread has ended"))??;
        Ok(Self { orders: Some(orders), thread: Some(thread), world })
    }

    /// Asks a device to join.
    ///
    /// * Errors: [`FieldError`]; whether the device can is reported.
    pub fn join(&self, dev_eui: DevEui) -> Result<(), FieldError> {
        self.order(Order::Join(dev_eui))
    }

    /// Asks a device to send.
    ///
    /// * Errors: as [`Self::join`].
    pub fn send(&self, dev_eui: DevEui, uplink: AppUplink) -> Result<(), FieldError> {
        self.order(Order::Send(dev_eui, uplink))
    }

    /// Puts a frame of another stack on the air; every gateway hears it when it ends.
    ///
    /// * Errors: as [`Self::join`].
    pub fn transmit(&self, frame: OnAir) -> Result<(), FieldError> {
        self.order(Order::Transmit(frame))
    }

    /// Lets a gateway send to another server from now on, and open its way down there at once.
    ///
    /// * `gateway`: its place in [`FieldConfig::gateways`].
    /// * Errors: as [`Self::join`].
    pub fn point(&self, gateway: usize, server: SocketAddr) -> Result<(), FieldError> {
        self.order(Order::Point(gateway, server))
    }

    /// The field's clock.
    pub fn now(&self) -> Instant {
        self.world.now().instant
    }

    fn order(&self, order: Order) -> Result<(), FieldError> {
        let orders = self.orders.as_ref().ok_or(FieldError::Ended)?;
        orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FieldError::Full,
            mpsc::error::TrySendError::Closed(_) => FieldError::Ended,
        })
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed over there.
            let _ = thread.join();
        }
    }
}

struct Gateway {
    forwarder: Forwarder,
    up: Arc<UdpSocket>,
    down: Arc<UdpSocket>,
    /// The frames of the latest PUSH_DATA, and its token.
    pushed: Option<(u16, Vec<Bytes>)>,
}

impl Gateway {
    fn push(&mut self, bytes: &[u8]) {
        if let Ok(Upward::PushData(head, data)) = parse_upward(bytes)
            && !data.rxpks.is_empty()
        {
            let frames = data.rxpks.into_iter().map(|rxpk| rxpk.phy_payload).collect();
            self.pushed = Some((head.token, frames));
        }
        // A full buffer or a dead server: datagrams get lost, as they do.
        let _ = self.up.try_send(bytes);
    }

    /// What the server says it has taken.
    fn accepted(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        let Ok(Downward::PushAck { token }) = parse_downward(bytes) else { return Vec::new() };
        let pushed = self.pushed.take_if(|(pushed, _)| *pushed == token);
        pushed.map(|(_, frames)| frames).unwrap_or_default()
    }

    async fn point(&mut self, now: Instant, server: SocketAddr) {
        for socket in [&self.up, &self.down] {
            // Loopback, or wherever the first server was: it can be reached or gets lost.
            let _ = socket.connect(server).await;
        }
        self.forwarder.start(now);
    }
}

/// What is on its way to the gateways: heard when it ends.
struct Flying {
    frame: OnAir,
    /// The device it comes from; `None`: handed in from outside.
    from: Option<usize>,
}

struct Ground {
    world: RealWorld,
    gateways: Vec<Gateway>,
    devices: Vec<(Device, Vec<Option<Signal>>)>,
    flying: Vec<Flying>,
    /// Downlinks that begin now.
    begun: VecDeque<OnAir>,
    report: Box<dyn FnMut(FieldEvent) + Send>,
}

impl Ground {
    async fn open(
        config: FieldConfig,
        world: RealWorld,
        report: Box<dyn FnMut(FieldEvent) + Send>,
    ) -> io::Result<(Self, mpsc::Receiver<Datagram>)> {
        let (arrive, datagrams) = mpsc::channel(QUEUE_MAX);
        let mut gateways = Vec::new();
        let servers = config.servers.iter().cycle();
        for ((gateway, settings), server) in config.gateways.into_iter().enumerate().zip(servers) {
            let up = socket(*server).await?;
            let down = socket(*server).await?;
            for (socket, udp) in [(Socket::Up, &up), (Socket::Down, &down)] {
                tokio::spawn(receive(gateway, socket, Arc::clone(udp), arrive.clone()));
            }
            gateways.push(Gateway { forwarder: Forwarder::new(settings), up, down, pushed: None });
        }
        let devices = config.devices.into_iter();
        let devices = devices.map(|one| (Device::new(one.config), one.signals)).collect();
        let (flying, begun) = (Vec::new(), VecDeque::new());
        Ok((Self { world, gateways, devices, flying, begun, report }, datagrams))
    }

    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut datagrams: mpsc::Receiver<Datagram>,
    ) {
        let now = self.now();
        for gateway in &mut self.gateways {
            gateway.forwarder.start(now);
        }
        loop {
            self.settle();
            let due = self.due();
            tokio::select! {
                biased;
                datagram = datagrams.recv() => {
                    if let Some(Datagram { gateway, socket, bytes }) = datagram {
                        self.receive(gateway, socket, &bytes);
                    }
                }
                order = orders.recv() => match order {
                    Some(Order::Point(gateway, server)) => {
                        let now = self.now();
                        if let Some(gateway) = self.gateways.get_mut(gateway) {
                            gateway.point(now, server).await;
                        }
                    }
                    Some(order) => self.obey(order),
                    None => return,
                },
                () = self.world.sleep_until(due) => {}
            }
        }
    }

    fn now(&self) -> Instant {
        self.world.now().instant
    }

    fn receive(&mut self, number: usize, socket: Socket, bytes: &[u8]) {
        let now = self.now();
        let gateway = &mut self.gateways[number];
        gateway.forwarder.handle_datagram(now, socket, bytes);
        for frame in gateway.accepted(bytes) {
            (self.report)(FieldEvent::Accepted { gateway: gateway.forwarder.gateway(), frame });
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.now();
        let (dev_eui, uplink) = match order {
            Order::Point(..) => return,
            Order::Transmit(frame) => return self.flying.push(Flying { frame, from: None }),
            Order::Join(dev_eui) => (dev_eui, None),
            Order::Send(dev_eui, uplink) => (dev_eui, Some(uplink)),
        };
        let mut devices = self.devices.iter_mut().map(|(device, _)| device);
        let Some(device) = devices.find(|device| device.dev_eui() == dev_eui) else { return };
        let done = match uplink {
            Some(uplink) => device.send(now, uplink),
            None => device.join(now),
        };
        if let Err(why) = done {
            (self.report)(FieldEvent::Refused { dev_eui, why });
        }
    }

    /// Does everything that is due, until nothing is. Frames that begin come before timeouts.
    fn settle(&mut self) {
        loop {
            let now = self.now();
            self.land(now);
            let mut quiet = true;
            for number in 0..self.gateways.len() {
                let forwarder = &mut self.gateways[number].forwarder;
                if forwarder.poll_timeout(now).is_some_and(|(at, _)| at <= now) {
                    forwarder.handle_timeout(now);
                }
                quiet &= !self.drain_gateway(number);
            }
            while let Some(frame) = self.begun.pop_front() {
                for (device, _) in &mut self.devices {
                    // Most frames are for others; each device knows its own windows.
                    let _ = device.handle_frame(&frame, NEAR);
                }
            }
            for number in 0..self.devices.len() {
                let device = &mut self.devices[number].0;
                if device.poll_timeout().is_some_and(|(at, _)| at <= now) {
                    device.handle_timeout(now);
                }
                quiet &= !self.drain_device(number);
            }
            if quiet {
                return;
            }
        }
    }

    /// Frames that have ended reach the gateways.
    fn land(&mut self, now: Instant) {
        let mut number = 0;
        while let Some(flying) = self.flying.get(number) {
            if flying.frame.ends_at() > now {
                number += 1;
                continue;
            }
            let Flying { frame, from } = self.flying.swap_remove(number);
            for (position, gateway) in self.gateways.iter_mut().enumerate() {
                let signal = match from {
                    Some(device) => self.devices[device].1.get(position).copied().flatten(),
                    None => Some(NEAR),
                };
                if let Some(signal) = signal {
                    gateway.forwarder.handle_frame(now, &frame, signal);
                }
            }
        }
    }

    fn drain_gateway(&mut self, number: usize) -> bool {
        let sender = &mut self.gateways[number];
        let gateway = sender.forwarder.gateway();
        let mut any = false;
        while let Some(effect) = sender.forwarder.poll_effect() {
            any = true;
            match effect {
                ForwarderEffect::Send { socket: Socket::Up, bytes } => sender.push(&bytes),
                ForwarderEffect::Send { socket: Socket::Down, bytes } => {
                    let _ = sender.down.try_send(&bytes);
                }
                ForwarderEffect::Radiate(frame) => {
                    (self.report)(FieldEvent::Radiated { gateway, frame: frame.clone() });
                    self.begun.push_back(frame);
                }
                ForwarderEffect::Decided { status, .. } => {
                    (self.report)(FieldEvent::Decided { gateway, status });
                }
                ForwarderEffect::Dropped { why } => {
                    (self.report)(FieldEvent::Dropped { gateway, why });
                }
            }
        }
        any
    }

    fn drain_device(&mut self, number: usize) -> bool {
        let (device, _) = &mut self.devices[number];
        let dev_eui = device.dev_eui();
        let mut any = false;
        while let Some(effect) = device.poll_effect() {
            any = true;
            if let DeviceEffect::Transmit { frame, .. } = &effect {
                self.flying.push(Flying { frame: frame.clone(), from: Some(number) });
            }
            (self.report)(FieldEvent::Device { dev_eui, effect });
        }
        any
    }

    fn due(&self) -> Instant {
        let now = self.now();
        let gateways =
            self.gateways.iter().filter_map(|gateway| gateway.forwarder.poll_timeout(now));
        let devices = self.devices.iter().filter_map(|(device, _)| device.poll_timeout());
        let flying = self.flying.iter().map(|flying| flying.frame.ends_at());
        let due = gateways.chain(devices).map(|(at, _)| at).chain(flying).min();
        due.unwrap_or(now + IDLE)
    }
}

async fn socket(server: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
    socket.connect(server).await?;
    // A socket that was never polled would refuse its first datagram.
    socket.writable().await?;
    Ok(Arc::new(socket))
}

async fn receive(
    gateway: usize,
    socket: Socket,
    udp: Arc<UdpSocket>,
    arrive: mpsc::Sender<Datagram>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match udp.recv(&mut buffer).await {
            Ok(length) => {
                let bytes = buffer[..length].to_vec();
                if arrive.send(Datagram { gateway, socket, bytes }).await.is_err() {
                    return;
                }
            }
            // The server is not there at the moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
