//! A network of one device for the tests: knows its key and answers as it is told.
//!
//! It computes windows from the region's tables on its own, so that device and network check each
//! other.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::{Duration, Instant};
use lorawan::{
    Aes, CfList, DataMessage, DevAddr, DevNonce, Direction, DownlinkMacCommand, FCtrl, Frame,
    JoinAccept, JoinNonce, Key, MacCommand as _, MicContext, NetId, OpenedData, Region,
    SessionCiphers, derive_session_1_0, fcnt_candidates,
};

use crate::{Device, DeviceEffect, OnAir, Sent, Signal, airtime};

pub(crate) const APP_KEY: Key =
    Key::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
pub(crate) const DEV_ADDR: DevAddr = DevAddr::from_be_bytes([0x26, 0x01, 0x12, 0x34]);
pub(crate) const SIGNAL: Signal = Signal { rssi_dbm: -60, snr_ddb: 85 };

/// How the network answers one uplink.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Silence,
    Rx1,
    Rx2,
}

/// One uplink as the network read it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) frame: OnAir,
    pub(crate) fcnt: u32,
    pub(crate) confirmed: bool,
    pub(crate) fctrl: FCtrl,
    pub(crate) opened: OpenedData,
}

/// The network's side.
pub(crate) struct Network {
    pub(crate) region: &'static Region,
    pub(crate) ciphers: Option<SessionCiphers>,
    pub(crate) accept: JoinAccept,
    pub(crate) nonces: Vec<DevNonce>,
    pub(crate) last_up: Option<u32>,
    pub(crate) next_down: u32,
    pub(crate) rx1_dr_offset: u8,
    pub(crate) rx_delay: u8,
    /// Commands for the next downlink.
    pub(crate) commands: Vec<DownlinkMacCommand>,
    /// A payload for the next downlink.
    pub(crate) payload: Option<(u8, &'static [u8], bool)>,
    pub(crate) heard: Vec<Heard>,
}

impl Network {
    pub(crate) fn new(region: &'static Region, cf_list: Option<CfList>) -> Self {
        let accept = JoinAccept {
            join_nonce: JoinNonce(1),
            net_id: NetId::from_be_bytes([0, 0, 0x13]),
            dev_addr: DEV_ADDR,
            opt_neg: false,
            rx1_dr_offset: 0,
            rx2_dr: region.rx2_dr,
            rx_delay: 1,
            cf_list,
        };
        Self {
            region,
            ciphers: None,
            accept,
            nonces: Vec::new(),
            last_up: None,
            next_down: 0,
            rx1_dr_offset: 0,
            rx_delay: 1,
            commands: Vec::new(),
            payload: None,
            heard: Vec::new(),
        }
    }

    /// Reads an uplink and writes its answer; asserts that it is a right one.
    pub(crate) fn handle(&mut self, frame: &OnAir) -> Vec<u8> {
        match Frame::parse(&frame.phy_payload).unwrap() {
            Frame::JoinRequest(request) => {
                assert!(request.verify(&Aes::new(&APP_KEY)));
                let dev_nonce = request.fields.dev_nonce;
                self.nonces.push(dev_nonce);
                let (join_nonce, net_id) = (self.accept.join_nonce, self.accept.net_id);
                let keys = derive_session_1_0(&APP_KEY, join_nonce, net_id, dev_nonce);
                self.ciphers = Some(SessionCiphers::new(&keys));
                (self.last_up, self.next_down) = (None, 0);
                self.rx1_dr_offset = self.accept.rx1_dr_offset;
                self.rx_delay = self.accept.rx_delay.max(1);
                self.accept.encode_1_0(&APP_KEY)
            }
            Frame::Data(data) => {
                let ciphers = self.ciphers.as_ref().unwrap();
                let fcnt = fcnt_candidates(self.last_up, data.fcnt)
                    .unwrap()
                    .into_iter()
                    .find(|fcnt| ciphers.verify(&data, *fcnt, MicContext::default()))
                    .expect("the MIC is right");
                let opened = ciphers.open(&data, fcnt);
                self.last_up = Some(fcnt);
                let (confirmed, fctrl) = (data.confirmed, data.fctrl);
                let frame = frame.clone();
                self.heard.push(Heard { frame, fcnt, confirmed, fctrl, opened });
                self.downlink(confirmed)
            }
            other @ (Frame::JoinAccept(_) | Frame::Rejoin(_) | Frame::Proprietary(_)) => {
                panic!("{other:?}")
            }
        }
    }

    /// The next downlink, with what is waiting for it.
    pub(crate) fn downlink(&mut self, ack: bool) -> Vec<u8> {
        let f_opts = DownlinkMacCommand::encode_all(&core::mem::take(&mut self.commands));
        let (f_port, payload, confirmed) = match self.payload.take() {
            Some((f_port, payload, confirmed)) => (Some(f_port), payload, confirmed),
            None => (None, &[][..], false),
        };
        let message = DataMessage {
            direction: Direction::Down,
            confirmed,
            dev_addr: DEV_ADDR,
            fctrl: FCtrl { ack, ..FCtrl::default() },
            fcnt: self.next_down,
            f_opts: &f_opts,
            f_port,
            payload,
        };
        self.next_down += 1;
        self.ciphers.as_ref().unwrap().seal(&message, MicContext::default()).unwrap()
    }

    /// The frame that answers `uplink` in one of its windows.
    pub(crate) fn in_window(
        &self,
        uplink: &OnAir,
        phy: Vec<u8>,
        rx1: bool,
        joining: bool,
    ) -> OnAir {
        let uplink_dr = self.region.dr_of(uplink.modulation, Direction::Up).unwrap();
        let offset = if joining { 0 } else { self.rx1_dr_offset };
        let delay = if joining { 5 } else { u64::from(self.rx_delay) };
        let (data_rate, frequency_hz, delay) = if rx1 {
            let data_rate = self.region.rx1_dr(uplink_dr, offset, false).unwrap();
            (data_rate, self.region.rx1_frequency(uplink.frequency_hz).unwrap(), delay)
        } else {
            (self.region.rx2_dr, self.region.rx2_frequency_hz, delay + 1)
        };
        let modulation = self.region.modulation(data_rate).unwrap();
        OnAir {
            airtime: airtime(modulation, u8::try_from(phy.len()).unwrap(), false),
            phy_payload: Bytes::from(phy),
            frequency_hz,
            modulation,
            inverted_polarity: true,
            eirp_dbm: 14,
            starts_at: uplink.ends_at() + Duration::from_secs(delay),
        }
    }
}

/// The device, the network, and the time.
pub(crate) struct World {
    pub(crate) device: Device,
    pub(crate) network: Network,
    pub(crate) now: Instant,
    /// What the next uplinks are answered; silence when there is none left.
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) sent: Vec<(OnAir, Sent)>,
}

impl World {
    pub(crate) fn new(device: Device, network: Network) -> Self {
        Self {
            device,
            network,
            now: Instant::from_secs(100),
            answers: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Joins with an answer in RX1.
    pub(crate) fn join(&mut self) {
        self.answers.push_back(Answer::Rx1);
        self.device.join(self.now).unwrap();
        let effects = self.run();
        assert!(
            effects.iter().any(|effect| matches!(effect, DeviceEffect::Joined { .. })),
            "{effects:?}"
        );
    }

    /// Lets the exchange run to its end; returns all effects but the transmissions.
    pub(crate) fn run(&mut self) -> Vec<DeviceEffect> {
        let mut effects = Vec::new();
        let mut down: Option<OnAir> = None;
        loop {
            while let Some(effect) = self.device.poll_effect() {
                if let DeviceEffect::Transmit { frame, sent } = effect {
                    down = self.answer(&frame, sent);
                    self.sent.push((frame, sent));
                } else {
                    effects.push(effect);
                }
            }
            let timeout = self.device.poll_timeout().map(|(at, _)| at);
            match (&down, timeout) {
                (Some(frame), Some(at)) if frame.starts_at <= at => {
                    self.now = frame.starts_at;
                    assert_eq!(self.device.handle_frame(frame, SIGNAL), Ok(()));
                    down = None;
                }
                (_, Some(at)) => {
                    self.now = self.now.max(at);
                    self.device.handle_timeout(self.now);
                }
                (_, None) => return effects,
            }
        }
    }

    fn answer(&mut self, frame: &OnAir, sent: Sent) -> Option<OnAir> {
        let phy = self.network.handle(frame);
        let joining = matches!(sent, Sent::Join { .. });
        match self.answers.pop_front().unwrap_or(Answer::Silence) {
            Answer::Silence => None,
            Answer::Rx1 => Some(self.network.in_window(frame, phy, true, joining)),
            Answer::Rx2 => Some(self.network.in_window(frame, phy, false, joining)),
        }
    }
}
