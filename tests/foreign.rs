//! A device of the lora-rs project (crate `lorawan-device`) in the air of a [`Site`].
//!
//! Its stack decides everything; the radio below it is the site's air. It hears a frame only if it
//! has tuned to the frame's frequency and modulation when the frame begins.
#![allow(clippy::wildcard_enum_match_arm, reason = "one event is waited for, the rest passes")]

use std::time::Duration;

use bytes::Bytes;
use lorawan::{CodeRate, Modulation, Region};
use lorawan_device::nb_device::radio::{Event as RadioEvent, PhyRxTx, Response as RadioResponse};
use lorawan_device::nb_device::radio::{RfConfig, RxQuality};
use lorawan_device::nb_device::{Device, Event, Response};
use lorawan_device::region::{Configuration, DR, Subband};
use lorawan_device::{AppEui, AppKey, DevEui, JoinMode, RngCore, Timings, default_crypto};
use radio::{OnAir, airtime};
use server::field::FieldEvent;

use crate::site::Site;

/// How much before a window's moment the receiver is on, and for how long.
const EARLY_MS: i32 = -20;
const OPEN_MS: u32 = 150;

/// Join-requests it sends before a test gives it up.
const ATTEMPTS: usize = 3;

/// What came of one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether the network said that it has it.
    pub acknowledged: bool,
    /// Port and payload of a downlink.
    pub downlink: Option<(u8, Vec<u8>)>,
}

/// Draws nonces and channels.
struct Dice(u64);

impl RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).expect("the upper half")
    }

    fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next_u64().to_be_bytes()[0];
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// The radio: what it was told, for the one who carries frames.
#[derive(Debug, Default)]
pub struct AirRadio {
    now_ms: u32,
    transmitted: Option<(RfConfig, Vec<u8>)>,
    listening: Option<RfConfig>,
    received: Vec<u8>,
}

fn modulation(rf: &RfConfig) -> Modulation {
    Modulation::Lora {
        spreading_factor: u8::try_from(rf.bb.sf.factor()).expect("5 to 12"),
        bandwidth_hz: rf.bb.bw.hz(),
        code_rate: CodeRate::Cr45,
    }
}

fn airtime_of(rf: &RfConfig, len: usize) -> Duration {
    airtime(modulation(rf), u8::try_from(len).expect("a frame"), true)
}

impl PhyRxTx for AirRadio {
    type PhyEvent = Vec<u8>;
    type PhyError = ();
    type PhyResponse = ();

    const MAX_RADIO_POWER: u8 = 26;

    fn get_mut_radio(&mut self) -> &mut Self {
        self
    }

    fn get_received_packet(&mut self) -> &mut [u8] {
        &mut self.received
    }

    fn handle_event(&mut self, event: RadioEvent<'_, Self>) -> Result<RadioResponse<Self>, ()> {
        Ok(match event {
            RadioEvent::TxRequest(config, frame) => {
                let airtime = airtime_of(&config.rf, frame.len()).as_millis();
                self.transmitted = Some((config.rf, frame.to_vec()));
                RadioResponse::TxDone(self.now_ms + u32::try_from(airtime).expect("seconds"))
            }
            RadioEvent::RxRequest(rf) => {
                self.listening = Some(rf);
                RadioResponse::Rxing
            }
            RadioEvent::CancelRx => {
                self.listening = None;
                RadioResponse::Idle
            }
            RadioEvent::Phy(frame) => {
                self.received = frame;
                RadioResponse::RxDone(RxQuality::new(-60, 9))
            }
        })
    }
}

impl Timings for AirRadio {
    fn get_rx_window_offset_ms(&self) -> i32 {
        EARLY_MS
    }

    fn get_rx_window_duration_ms(&self) -> u32 {
        OPEN_MS
    }
}

type Stack = Device<AirRadio, default_crypto::DefaultFactory, Dice, 256>;

/// The device.
pub struct ForeignDevice<'a> {
    site: &'a Site,
    stack: Stack,
    credentials: JoinMode,
}

impl<'a> ForeignDevice<'a> {
    /// A device that has never joined.
    pub fn new(site: &'a Site, region: &'static Region, dev_eui: &str, app_key: &str) -> Self {
        let configuration = match region.name {
            "US915" => {
                let mut plan = lorawan_device::region::US915::new();
                plan.set_join_bias_and_noncompliant_retries(Subband::_2, ATTEMPTS);
                Configuration::from(plan)
            }
            _ => Configuration::new(lorawan_device::Region::EU868),
        };
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = u64::from(clock.expect("after 1970").subsec_nanos()) << 32 | 1;
        let mut stack = Stack::new(configuration, AirRadio::default(), Dice(seed));
        // In US915 it joins with SF10 whatever it is told, but takes RX1 from what it was told.
        if !region.is_fixed_plan() {
            stack.set_datarate(DR::_5);
        }
        let dev_eui: lorawan::DevEui = dev_eui.parse().expect("an EUI");
        let app_key: lorawan::Key = app_key.parse().expect("a key");
        let credentials = JoinMode::OTAA {
            deveui: DevEui::from(dev_eui.to_le_bytes()),
            appeui: AppEui::from([0; 8]),
            appkey: AppKey::from(*app_key.expose()),
        };
        Self { site, stack, credentials }
    }

    /// Joins; several attempts, as a frame may be lost on a busy machine.
    pub fn join(&mut self) {
        for _ in 0..ATTEMPTS {
            self.tell_time();
            let response = self.stack.join(self.credentials).expect("idle");
            match self.exchange(response) {
                Response::JoinSuccess => return,
                Response::NoJoinAccept => {}
                other => panic!("{other:?} for a join"),
            }
        }
        panic!("the foreign device does not come in");
    }

    /// Sends; a confirmed frame that is not acknowledged is not repeated.
    pub fn send(&mut self, payload: &[u8], f_port: u8, confirmed: bool) -> Heard {
        self.tell_time();
        let response = self.stack.send(payload, f_port, confirmed).expect("idle");
        let acknowledged = match self.exchange(response) {
            Response::DownlinkReceived(_) => true,
            Response::NoAck | Response::RxComplete => false,
            other => panic!("{other:?} for an uplink"),
        };
        let downlink = self.stack.take_downlink();
        Heard { acknowledged, downlink: downlink.map(|down| (down.fport, down.data.to_vec())) }
    }

    fn now_ms(&self) -> u32 {
        let since_start = self.site.field.now().since(clock::Instant::ZERO);
        u32::try_from(since_start.as_millis()).expect("a short test")
    }

    fn tell_time(&mut self) {
        let now_ms = self.now_ms();
        self.stack.get_radio().now_ms = now_ms;
    }

    /// Carries frames and time until the exchange is over.
    fn exchange(&mut self, mut response: Response) -> Response {
        if let Some((rf, frame)) = self.stack.get_radio().transmitted.take() {
            let airtime = airtime_of(&rf, frame.len());
            let frame = OnAir {
                phy_payload: Bytes::from(frame),
                frequency_hz: rf.frequency,
                modulation: modulation(&rf),
                inverted_polarity: false,
                eirp_dbm: 14,
                starts_at: self.site.field.now(),
                airtime,
            };
            self.site.field.transmit(frame).expect("the field is there");
        }
        let mut due_ms = self.now_ms();
        loop {
            match response {
                Response::TimeoutRequest(at_ms) => due_ms = at_ms,
                Response::NoUpdate => {}
                over => return over,
            }
            let left_ms = u64::from(due_ms.saturating_sub(self.now_ms()));
            let event = match self.heard(Duration::from_millis(left_ms)) {
                Some(frame) => Event::RadioEvent(RadioEvent::Phy(frame)),
                None => Event::TimeoutFired,
            };
            response = self.stack.handle_event(event).expect("a radio that always works");
        }
    }

    /// A frame that begins within the time and that the radio is tuned to.
    fn heard(&mut self, within: Duration) -> Option<Vec<u8>> {
        let until = self.site.field.now() + within;
        loop {
            let left = until.since(self.site.field.now());
            let frame = self.site.radiated(left)?;
            let listening = self.stack.get_radio().listening;
            let tuned = listening.is_some_and(|rf| {
                rf.frequency == frame.frequency_hz && modulation(&rf) == frame.modulation
            });
            if tuned && frame.inverted_polarity {
                return Some(frame.phy_payload.to_vec());
            }
        }
    }
}

impl Site {
    /// The next frame that the gateway begins to send within the time.
    fn radiated(&self, within: Duration) -> Option<OnAir> {
        self.next(within, |event| match event {
            FieldEvent::Radiated { frame, .. } => Some(frame.clone()),
            _ => None,
        })
        .ok()
    }
}
