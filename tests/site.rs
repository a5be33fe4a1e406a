//! A place with simulated gateways and devices, as a test looks at it: ask, then wait for what
//! must happen.
#![allow(clippy::wildcard_enum_match_arm, reason = "one event is waited for, the rest passes")]

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lorawan::{DevEui, GatewayEui, JoinEui, Key, Region};
use radio::{AppDownlink, DeviceConfig, DeviceEffect, ForwarderConfig, Signal};
use server::field::{Field, FieldConfig, FieldDevice, FieldEvent};

/// Two windows and the time a loaded machine takes.
const EXCHANGE: Duration = Duration::from_secs(12);

/// A gateway, devices, and what they did.
#[derive(Debug)]
pub struct Site {
    /// Ask them here.
    pub field: Field,
    events: Receiver<FieldEvent>,
}

/// A device that joins with SF7 (EU868) or SF7 of sub-band 2 (US915).
pub fn otaa(region: &'static Region, dev_eui: &str, app_key: &str) -> DeviceConfig {
    let dev_eui: DevEui = dev_eui.parse().expect("an EUI");
    let app_key: Key = app_key.parse().expect("a key");
    let join_eui = JoinEui::from_be_bytes([0; 8]);
    let mut seed = [7; 32];
    // Otherwise every test device would draw the same nonces.
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    seed[..16].copy_from_slice(&clock.expect("after 1970").as_nanos().to_be_bytes());
    let mut config = DeviceConfig::otaa(region, dev_eui, join_eui, app_key, seed);
    config.data_rate = if region.is_fixed_plan() { 3 } else { 5 };
    config.channels = region.is_fixed_plan().then(|| (8..16).chain([65]).collect());
    config
}

impl Site {
    /// One gateway, and devices that it hears well.
    pub fn start(server: SocketAddr, gateway: &str, devices: Vec<DeviceConfig>) -> Self {
        let gateway: GatewayEui = gateway.parse().expect("an EUI");
        let near = Signal { rssi_dbm: -70, snr_ddb: 90 };
        let device = |config| FieldDevice { config, signals: vec![Some(near)] };
        let mut forwarder = ForwarderConfig::new(gateway, [1; 32]);
        // A server that was restarted soon knows the way down again.
        forwarder.keepalive = Duration::from_secs(1);
        let config = FieldConfig {
            servers: vec![server],
            gateways: vec![forwarder],
            devices: devices.into_iter().map(device).collect(),
        };
        let (report, events) = channel();
        // A test that has ended listens no more.
        let field = Field::start(config, move |event| drop(report.send(event)));
        Self { field: field.expect("sockets on loopback"), events }
    }

    /// The next event that `pick` takes; those before it are passed over.
    ///
    /// * Errors: those passed over, when none came in time.
    pub(crate) fn next<T>(
        &self,
        within: Duration,
        mut pick: impl FnMut(&FieldEvent) -> Option<T>,
    ) -> Result<T, Vec<FieldEvent>> {
        let since = Instant::now();
        let mut passed = Vec::new();
        loop {
            let left = within.saturating_sub(since.elapsed());
            let Ok(event) = self.events.recv_timeout(left) else { return Err(passed) };
            if let Some(picked) = pick(&event) {
                return Ok(picked);
            }
            passed.push(event);
        }
    }

    /// The next event that `pick` takes, which must come.
    pub fn expect<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl FnMut(&FieldEvent) -> Option<T>,
    ) -> T {
        let picked = self.next(within, pick);
        picked.unwrap_or_else(|seen| panic!("{what}: not within {within:?}; seen: {seen:#?}"))
    }

    /// Lets a device join, and again if an accept is lost, until it has.
    pub fn join(&self, dev_eui: DevEui) {
        for _ in 0..3 {
            self.field.join(dev_eui).expect("the field is there");
            let joined = self.expect("the end of a join", EXCHANGE, |event| match event {
                FieldEvent::Device { effect: DeviceEffect::Joined { .. }, .. } => Some(true),
                FieldEvent::Device { effect: DeviceEffect::JoinFailed, .. } => Some(false),
                _ => None,
            });
            if joined {
                return;
            }
        }
        panic!("{dev_eui} does not come in");
    }

    /// A payload for a device's application.
    pub fn delivered(&self) -> AppDownlink {
        self.expect("a downlink at the device", EXCHANGE, |event| match event {
            FieldEvent::Device { effect: DeviceEffect::Delivered(downlink), .. } => {
                Some(downlink.clone())
            }
            _ => None,
        })
    }

    /// The end of an uplink's exchange.
    ///
    /// * Returns whether it was acknowledged.
    pub fn done(&self) -> bool {
        self.expect("the end of an uplink", EXCHANGE, |event| match event {
            FieldEvent::Device { effect: DeviceEffect::Done { acked, .. }, .. } => Some(*acked),
            _ => None,
        })
    }
}
