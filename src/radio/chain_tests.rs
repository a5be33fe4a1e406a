//! The whole way: device, air, forwarder, datagrams, the server's dialect, and back in the window.

use std::net::SocketAddr;

use clock::{Duration, Instant};
use gateway::semtech::{GatewaySettings, Output, Server};
use lorawan::{
    DevEui, Downlink, DownlinkTiming, EU868, GatewayEui, JoinEui, Region, TxStatus, US915, Uplink,
};

use crate::testnet::{APP_KEY, DEV_ADDR, Network, SIGNAL};
use crate::{
    AppUplink, Device, DeviceConfig, DeviceEffect, Faults, Forwarder, ForwarderConfig,
    ForwarderEffect, OnAir, Socket, Verdict,
};

const GATEWAY: GatewayEui = GatewayEui::from_be_bytes([0xAA, 0x55, 0x5A, 0, 0, 0, 0, 1]);

fn address(socket: Socket) -> SocketAddr {
    let port = match socket {
        Socket::Up => 4_001,
        Socket::Down => 4_002,
    };
    SocketAddr::from(([192, 0, 2, 1], port))
}

struct Chain {
    now: Instant,
    device: Device,
    forwarder: Forwarder,
    server: Server,
    network: Network,
    /// A frame of the device on its way to the gateway.
    air: Option<OnAir>,
    /// Whether the network answers in RX2 after RX1 failed.
    failures: Vec<TxStatus>,
    effects: Vec<DeviceEffect>,
    last: Option<(Uplink, Vec<u8>)>,
}

impl Chain {
    /// * `counter`: what the concentrator shows at the start.
    fn new(region: &'static Region, channels: Option<Vec<u8>>, counter: u32) -> Self {
        let dev_eui = DevEui::from_be_bytes([7; 8]);
        let mut config =
            DeviceConfig::otaa(region, dev_eui, JoinEui::from_be_bytes([8; 8]), APP_KEY, [9; 32]);
        let list = channels.as_ref().and_then(|on| region.cf_list(&[], on.iter().copied()));
        config.channels = channels;
        let mut gateway = ForwarderConfig::new(GATEWAY, [5; 32]);
        gateway.counter_at_zero = counter;
        let mut forwarder = Forwarder::new(gateway);
        forwarder.start(Instant::ZERO);
        let mut chain = Self {
            now: Instant::ZERO,
            device: Device::new(config),
            forwarder,
            server: Server::new(1),
            network: Network::new(region, list),
            air: None,
            failures: Vec::new(),
            effects: Vec::new(),
            last: None,
        };
        chain.settle();
        chain
    }

    /// Carries everything until the device's exchange is over; returns its effects.
    fn run(&mut self) -> Vec<DeviceEffect> {
        self.settle();
        while self.device.is_busy() {
            let air = self.air.as_ref().map(OnAir::ends_at);
            let device = self.device.poll_timeout().map(|(at, _)| at);
            let forwarder = self.forwarder.poll_timeout(self.now).map(|(at, _)| at);
            let server = self.server.poll_timeout().map(|(at, _)| at);
            let next = [air, device, forwarder, server].into_iter().flatten().min().unwrap();
            self.now = self.now.max(next);
            if let Some(frame) = self.air.take_if(|frame| frame.ends_at() <= self.now) {
                self.forwarder.handle_frame(self.now, &frame, SIGNAL);
            }
            // The gateway first: its frame begins at the very moment a window opens.
            self.forwarder.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
            self.settle();
            self.device.handle_timeout(self.now);
            self.settle();
        }
        core::mem::take(&mut self.effects)
    }

    fn settle(&mut self) {
        loop {
            if let Some(effect) = self.device.poll_effect() {
                if let DeviceEffect::Transmit { frame, .. } = effect {
                    self.air = Some(frame);
                } else {
                    self.effects.push(effect);
                }
            } else if let Some(effect) = self.forwarder.poll_effect() {
                self.carry(effect);
            } else if let Some(output) = self.server.poll_output() {
                self.serve(output);
            } else {
                return;
            }
        }
    }

    fn carry(&mut self, effect: ForwarderEffect) {
        match effect {
            ForwarderEffect::Send { socket, bytes } => {
                self.server.handle_datagram(self.now, address(socket), &bytes, |_| true);
            }
            ForwarderEffect::Radiate(frame) => {
                let heard = self.device.handle_frame(&frame, SIGNAL);
                assert_eq!(heard, Ok(()), "{frame:?}");
            }
            ForwarderEffect::Decided { .. } => {}
            ForwarderEffect::Dropped { why } => panic!("dropped: {why}"),
        }
    }

    fn serve(&mut self, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                let socket = if to == address(Socket::Up) { Socket::Up } else { Socket::Down };
                self.forwarder.handle_datagram(self.now, socket, &bytes);
            }
            Output::Uplink(uplink) => {
                let phy = self.network.handle(&on_air(&uplink));
                self.answer(&uplink, phy.clone(), true);
                self.last = Some((uplink, phy));
            }
            Output::TxAck(ack) if ack.status == TxStatus::Ok => {}
            Output::TxAck(ack) => {
                self.failures.push(ack.status);
                self.forwarder.set_faults(Faults::default());
                if let Some((uplink, phy)) = self.last.take() {
                    self.answer(&uplink, phy, false);
                }
            }
            Output::Pulled { .. }
            | Output::StrayTxAck { .. }
            | Output::PathChanged { .. }
            | Output::Stat { .. } => {}
            other @ (Output::TxSilent { .. }
            | Output::UnregisteredGateway { .. }
            | Output::Refused { .. }) => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, uplink: &Uplink, phy: Vec<u8>, rx1: bool) {
        let frame = on_air(uplink);
        let joining = self.network.heard.is_empty();
        let down = self.network.in_window(&frame, phy, rx1, joining);
        let downlink = Downlink {
            downlink_id: 1,
            gateway: GATEWAY,
            phy_payload: down.phy_payload.clone(),
            timing: DownlinkTiming::Delay {
                tmst: uplink.tmst,
                delay: down.starts_at.since(frame.ends_at()),
            },
            frequency_hz: down.frequency_hz,
            modulation: down.modulation,
            eirp_dbm: 14,
            rf_chain: 0,
            antenna: 0,
            dev_addr: Some(DEV_ADDR),
        };
        let settings = GatewaySettings::default();
        let (to, bytes) = self.server.send(self.now, &downlink, settings).unwrap();
        assert_eq!(to, address(Socket::Down));
        self.forwarder.handle_datagram(self.now, Socket::Down, &bytes);
    }
}

/// The uplink as it was in the air, as far as its gateway can tell.
fn on_air(uplink: &Uplink) -> OnAir {
    OnAir {
        phy_payload: uplink.phy_payload.clone(),
        frequency_hz: uplink.frequency_hz,
        modulation: uplink.modulation,
        inverted_polarity: false,
        eirp_dbm: 0,
        starts_at: uplink.received_at,
        airtime: Duration::ZERO,
    }
}

fn join_and_confirm(chain: &mut Chain) {
    chain.device.join(chain.now).unwrap();
    let effects = chain.run();
    assert!(matches!(effects.last(), Some(DeviceEffect::Joined { .. })), "{effects:?}");
    for fcnt in 0..3 {
        chain.device.send(chain.now, AppUplink::confirmed(1, &b"hello"[..])).unwrap();
        let accepted = DeviceEffect::Judged(Verdict::Accepted { fcnt });
        let done = DeviceEffect::Done { fcnt, acked: true, heard: true };
        assert_eq!(chain.run(), [accepted, done]);
        assert_eq!(chain.network.heard.last().unwrap().opened.payload, b"hello");
    }
}

#[test]
fn eu868_and_us915_join_and_confirm_through_gateway_and_dialect() {
    join_and_confirm(&mut Chain::new(&EU868, None, 0));
    join_and_confirm(&mut Chain::new(&US915, Some((8..16).chain([65]).collect()), 0));
}

#[test]
fn the_counter_may_wrap_in_every_window() {
    // The join's windows lie across the wrap, or the first uplink's do, or nothing does.
    for before_wrap_us in [6_000_000, 7_000_000, 9_000_000, 11_000_000] {
        let counter = u32::MAX - before_wrap_us;
        join_and_confirm(&mut Chain::new(&EU868, None, counter));
    }
}

#[test]
fn a_refused_rx1_is_answered_in_rx2() {
    let mut chain = Chain::new(&EU868, None, 0);
    join_and_confirm(&mut chain);
    let fail_status = TxStatus::TooEarly;
    chain.forwarder.set_faults(Faults { fail: 1.0, fail_status, ..Faults::default() });
    chain.device.send(chain.now, AppUplink::confirmed(1, &b"x"[..])).unwrap();
    let effects = chain.run();
    assert_eq!(effects.last(), Some(&DeviceEffect::Done { fcnt: 3, acked: true, heard: true }));
    assert_eq!(chain.failures, [TxStatus::TooEarly]);
}
