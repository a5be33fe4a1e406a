//! A class A end device: joins, sends, opens its windows, answers MAC commands.
//!
//! Drive it: [`Device::join`] and [`Device::send`] begin an exchange, [`Device::handle_frame`]
//! takes a frame when it *begins*, [`Device::handle_timeout`] when [`Device::poll_timeout`] is
//! due; after each, drain [`Device::poll_effect`]. One exchange at a time: its transmissions, the
//! two windows after each, and the pauses between. Of several things due at one moment, a frame
//! that begins comes before the timeout. Source: LoRaWAN 1.0.4 §3.3, §4, §6; 1.0.3 where older.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::{Duration, Instant};
use lorawan::{
    Aes, DataMessage, DevAddr, DevEui, DevNonce, Direction, FCtrl, JOIN_ACCEPT_DELAY1, JoinNonce,
    JoinRequest, MicContext, RX2_AFTER_RX1, SessionKeys, UplinkMacCommand,
};

use crate::air::{OnAir, Signal, airtime};
use crate::chance::Chance;
use crate::config::{Activation, AppUplink, DeviceConfig, DeviceVersion, SendError};
use crate::exchange::{Errand, Exchange, Message, Phase, Window};
use crate::plan::{Choice, Plan};
use crate::session::{BackOff, Session, SessionStart};
use crate::verdict::{DeviceEffect, Missed, Sent};

/// Bytes of a data frame besides FOpts and FRMPayload: FHDR and FPort.
const MAC_HEADER_LEN: usize = 8;

/// An end device. See the module's head for how to drive it.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) config: DeviceConfig,
    pub(crate) chance: Chance,
    pub(crate) plan: Plan,
    pub(crate) session: Option<Session>,
    pub(crate) exchange: Option<Exchange>,
    pub(crate) last_join_nonce: Option<JoinNonce>,
    pub(crate) effects: VecDeque<DeviceEffect>,
    /// The next nonce of a device that counts them; `None` once they have run out.
    next_dev_nonce: Option<u16>,
    /// The network's duty cycle keeps it silent until then.
    silent_until: Instant,
}

impl Device {
    /// A device fresh from the factory: an ABP one has its session already.
    pub fn new(config: DeviceConfig) -> Self {
        let mut device = Self {
            chance: Chance::new(config.seed),
            plan: Plan::new(config.region, config.channels.as_deref()),
            session: None,
            exchange: None,
            last_join_nonce: None,
            effects: VecDeque::new(),
            next_dev_nonce: Some(0),
            silent_until: Instant::ZERO,
            config,
        };
        device.personalise();
        device
    }

    /// Switches it off and on.
    ///
    /// * `memory_lost`: it forgets its nonces (and may use them again) and, if ABP, its counters:
    ///   the next uplink has the first number once more. Otherwise an ABP session goes on.
    /// * An OTAA session is always lost.
    pub fn reboot(&mut self, memory_lost: bool) {
        self.exchange = None;
        match (&self.config.activation, memory_lost) {
            (Activation::Abp { .. }, false) => {}
            (Activation::Abp { .. } | Activation::Otaa { .. }, _) => {
                self.session = None;
                self.plan = Plan::new(self.config.region, self.config.channels.as_deref());
            }
        }
        if memory_lost {
            self.next_dev_nonce = Some(0);
            self.last_join_nonce = None;
        }
        if self.session.is_none() {
            self.personalise();
        }
    }

    /// Begins to join.
    pub fn join(&mut self, now: Instant) -> Result<(), SendError> {
        if self.exchange.is_some() {
            return Err(SendError::Busy);
        }
        if !matches!(self.config.activation, Activation::Otaa { .. }) {
            return Err(SendError::Activation);
        }
        let dev_nonce = self.draw_nonce()?;
        self.plan = Plan::new(self.config.region, self.config.channels.as_deref());
        self.begin(now, Errand::Join { dev_nonce }, 1)
    }

    /// Begins to send.
    pub fn send(&mut self, now: Instant, uplink: AppUplink) -> Result<(), SendError> {
        if self.exchange.is_some() {
            return Err(SendError::Busy);
        }
        if now < self.silent_until {
            return Err(SendError::DutyCycle { until: self.silent_until });
        }
        let message = self.compose(&uplink)?;
        let session = self.session.as_mut().ok_or(SendError::Activation)?;
        let attempts_max = if uplink.confirmed {
            session.nb_trans.max(self.config.confirmed_tries)
        } else {
            session.nb_trans
        };
        session.next_fcnt_up = message.fcnt.checked_add(1);
        session.ack_due = None;
        session.answers.clear();
        if self.config.adr && session.count_uplink() == BackOff::Step {
            self.back_off();
        }
        self.begin(now, Errand::Data(message), attempts_max)
    }

    /// Hears a frame begin. The moment is the frame's own, [`OnAir::starts_at`], so that whoever
    /// carries frames in real time may be a little late.
    ///
    /// * Errors: why it is not received; nothing has changed then.
    pub fn handle_frame(&mut self, frame: &OnAir, signal: Signal) -> Result<(), Missed> {
        let exchange = self.exchange.as_mut().ok_or(Missed::NotListening)?;
        exchange.begin_reception(frame, signal)
    }

    /// The next thing it does, until `None`.
    pub fn poll_effect(&mut self) -> Option<DeviceEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.exchange.as_ref().map(Exchange::due)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.due().0 <= now)
        else {
            return;
        };
        match &mut exchange.phase {
            Phase::Pausing { .. } => {
                // A network's command may have switched every channel off since; then it is over.
                if self.transmit(now).is_err() {
                    self.finish(now, false);
                }
            }
            Phase::Listening { reception, .. } => match reception.take() {
                Some(reception) => {
                    let heard = self.receive(reception);
                    let over =
                        self.exchange.as_ref().is_none_or(|exchange| exchange.due().0 <= now);
                    // After a frame that was not for it, it still opens the second window.
                    if heard || over {
                        self.finish(now, heard);
                    }
                }
                None => self.finish(now, false),
            },
        }
    }

    /// Whether it has a session.
    pub fn is_activated(&self) -> bool {
        self.session.is_some()
    }

    /// Whether an exchange is under way.
    pub fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// When the windows of its latest transmission open, also those that are over: it hears a frame
    /// only if that begins within [`WINDOW_TOLERANCE`](crate::WINDOW_TOLERANCE) of one. Both `None`
    /// while it waits for nothing.
    pub fn windows_open_at(&self) -> [Option<Instant>; 2] {
        self.exchange.as_ref().map_or([None; 2], Exchange::windows_open_at)
    }

    /// Its EUI.
    pub fn dev_eui(&self) -> DevEui {
        self.config.dev_eui
    }

    /// The address of its session.
    pub fn dev_addr(&self) -> Option<DevAddr> {
        self.session.as_ref().map(|session| session.dev_addr)
    }

    /// The keys of its session, for oracles.
    pub fn session_keys(&self) -> Option<&SessionKeys> {
        self.session.as_ref().map(|session| &session.keys)
    }

    /// The number of its next uplink.
    pub fn next_fcnt_up(&self) -> Option<u32> {
        self.session.as_ref().and_then(|session| session.next_fcnt_up)
    }

    /// The highest downlink number it has accepted.
    pub fn last_fcnt_down(&self) -> Option<u32> {
        self.session.as_ref().and_then(|session| session.last_fcnt_down)
    }

    /// Data rate index, TXPower index and NbTrans of its uplinks.
    pub fn link_settings(&self) -> Option<(u8, u8, u8)> {
        self.session.as_ref().map(|session| (session.data_rate, session.tx_power, session.nb_trans))
    }

    /// The uplink channels that are on.
    pub fn enabled_channels(&self) -> Vec<u8> {
        self.plan.enabled().collect()
    }

    /// Whether it has something to say to the network: an acknowledgement or MAC answers.
    pub fn has_answers(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            session.ack_due.is_some() || !session.answers.is_empty() || !session.sticky.is_empty()
        })
    }

    fn personalise(&mut self) {
        if let Activation::Abp { dev_addr, keys } = &self.config.activation {
            self.session = Some(Session::new(SessionStart {
                dev_addr: *dev_addr,
                keys: keys.clone(),
                first_fcnt: self.config.first_fcnt,
                rx1_dr_offset: 0,
                rx2_dr: self.config.region.rx2_dr,
                rx2_hz: self.config.region.rx2_frequency_hz,
                rx_delay: 1,
                data_rate: self.config.data_rate,
            }));
        }
    }

    fn draw_nonce(&mut self) -> Result<DevNonce, SendError> {
        if self.config.version < DeviceVersion::V1_0_4 {
            return Ok(DevNonce(self.chance.u16()));
        }
        let nonce = self.next_dev_nonce.ok_or(SendError::DevNonceExhausted)?;
        self.next_dev_nonce = nonce.checked_add(1);
        Ok(DevNonce(nonce))
    }

    /// The data frame for `uplink`; changes nothing.
    fn compose(&self, uplink: &AppUplink) -> Result<Message, SendError> {
        let session = self.session.as_ref().ok_or(SendError::Activation)?;
        if uplink.f_port == Some(0) || uplink.f_port.is_none() && !uplink.payload.is_empty() {
            return Err(SendError::Port);
        }
        let requests: Vec<UplinkMacCommand> = [
            (uplink.link_check, UplinkMacCommand::LinkCheckReq),
            (uplink.device_time, UplinkMacCommand::DeviceTimeReq),
        ]
        .into_iter()
        .filter_map(|(wanted, request)| wanted.then_some(request))
        .collect();
        let f_opts = session.f_opts(&requests);
        let len = uplink.payload.len();
        let room = self.config.region.max_payload(session.data_rate, false);
        let max = room.map_or(0, |room| usize::from(room.frm_payload)).saturating_sub(f_opts.len());
        if len > max {
            return Err(SendError::TooLong { len, max });
        }
        Ok(Message {
            confirmed: uplink.confirmed,
            fctrl: FCtrl {
                adr: self.config.adr,
                adr_ack_req: self.config.adr && session.adr_ack_req(),
                ack: session.ack_due.is_some(),
                ..FCtrl::default()
            },
            fcnt: session.next_fcnt_up.ok_or(SendError::FCntExhausted)?,
            f_opts,
            f_port: uplink.f_port,
            payload: uplink.payload.to_vec(),
            conf_fcnt: session.ack_due.unwrap_or(0),
        })
    }

    /// Opens an exchange with its first transmission.
    fn begin(&mut self, now: Instant, errand: Errand, attempts_max: u8) -> Result<(), SendError> {
        self.exchange = Some(Exchange {
            errand,
            phase: Phase::Pausing { until: now },
            attempts: 0,
            attempts_max,
            sent_at: now,
            acked: false,
            heard: false,
        });
        self.transmit(now).inspect_err(|_| self.exchange = None)
    }

    /// Sends the exchange's frame now, on a channel drawn anew, and plans its windows.
    fn transmit(&mut self, now: Instant) -> Result<(), SendError> {
        let Some(exchange) = &self.exchange else { return Err(SendError::NoChannel) };
        let joining = matches!(exchange.errand, Errand::Join { .. });
        let attempt = exchange.attempts.saturating_add(1);
        let session = self.session.as_ref().filter(|_| !joining);
        let data_rate = session.map_or(self.config.data_rate, |session| session.data_rate);
        let tx_power = session.map_or(0, |session| session.tx_power);
        let choice = self.plan.choose(data_rate, &mut self.chance).ok_or(SendError::NoChannel)?;
        let (sent, phy_payload) = match &exchange.errand {
            Errand::Join { dev_nonce } => {
                (Sent::Join { dev_nonce: *dev_nonce }, self.join_request(*dev_nonce))
            }
            Errand::Data(message) => {
                (Sent::Data { fcnt: message.fcnt, attempt }, self.seal(message, choice)?)
            }
        };
        let len = u8::try_from(phy_payload.len()).unwrap_or(u8::MAX);
        let frame = OnAir {
            phy_payload,
            frequency_hz: choice.uplink_hz,
            modulation: choice.modulation,
            inverted_polarity: false,
            eirp_dbm: self.config.region.uplink_eirp_dbm(tx_power).unwrap_or(0),
            starts_at: now,
            airtime: airtime(choice.modulation, len, true),
        };
        let ended = frame.ends_at();
        self.keep_duty_cycle(ended, frame.airtime);
        let windows = self.windows(ended, choice, joining);
        if let Some(exchange) = self.exchange.as_mut() {
            exchange.attempts = attempt;
            exchange.sent_at = ended;
            exchange.phase = Phase::Listening { windows, reception: None };
        }
        self.effects.push_back(DeviceEffect::Transmit { frame, sent });
        Ok(())
    }

    fn join_request(&self, dev_nonce: DevNonce) -> Bytes {
        let Activation::Otaa { app_key } = &self.config.activation else { return Bytes::new() };
        let (join_eui, dev_eui) = (self.config.join_eui, self.config.dev_eui);
        JoinRequest { join_eui, dev_eui, dev_nonce }.encode(&Aes::new(app_key)).into()
    }

    fn seal(&self, message: &Message, choice: Choice) -> Result<Bytes, SendError> {
        let session = self.session.as_ref().ok_or(SendError::Activation)?;
        let data = DataMessage {
            direction: Direction::Up,
            confirmed: message.confirmed,
            dev_addr: session.dev_addr,
            fctrl: message.fctrl,
            fcnt: message.fcnt,
            f_opts: &message.f_opts,
            f_port: message.f_port,
            payload: &message.payload,
        };
        let context = MicContext {
            conf_fcnt: message.conf_fcnt,
            tx_dr: choice.data_rate,
            tx_ch: choice.index,
        };
        let max = usize::from(u8::MAX) - MAC_HEADER_LEN;
        let too_long = SendError::TooLong { len: message.payload.len(), max };
        session.ciphers.seal(&data, context).map(Bytes::from).map_err(|_| too_long)
    }

    /// Both windows after a transmission that ends at `ended`.
    fn windows(&self, ended: Instant, choice: Choice, joining: bool) -> [Option<Window>; 2] {
        let region = self.config.region;
        let (delay, offset, rx2_hz, rx2_dr) = match self.session.as_ref().filter(|_| !joining) {
            Some(session) => (
                Duration::from_secs(u64::from(session.rx_delay)),
                session.rx1_dr_offset,
                session.rx2_hz,
                session.rx2_dr,
            ),
            None => (JOIN_ACCEPT_DELAY1, 0, region.rx2_frequency_hz, region.rx2_dr),
        };
        let rx1 = self.plan.rx1(choice, offset);
        let rx2 = self.plan.rx2(rx2_hz, rx2_dr);
        [
            rx1.map(|tuning| Window { opens: ended + delay, tuning }),
            rx2.map(|tuning| Window { opens: ended + delay + RX2_AFTER_RX1, tuning }),
        ]
    }

    fn keep_duty_cycle(&mut self, ended: Instant, airtime: Duration) {
        let exponent = self.session.as_ref().map_or(0, |session| session.max_duty_cycle);
        let share = 1_u32.checked_shl(u32::from(exponent)).unwrap_or(u32::MAX);
        self.silent_until = ended + airtime.saturating_mul(share - 1);
    }

    /// Ends a transmission's windows: the exchange is over, or goes on after a pause.
    fn finish(&mut self, now: Instant, heard: bool) {
        let Some(mut exchange) = self.exchange.take() else { return };
        let Errand::Data(message) = &exchange.errand else {
            // A join-accept that was taken has said so already.
            if !heard {
                self.effects.push_back(DeviceEffect::JoinFailed);
            }
            return;
        };
        exchange.heard |= heard;
        let satisfied = if message.confirmed { exchange.acked } else { heard };
        if satisfied || exchange.attempts >= exchange.attempts_max {
            let (fcnt, acked, heard) = (message.fcnt, exchange.acked, exchange.heard);
            self.effects.push_back(DeviceEffect::Done { fcnt, acked, heard });
            return;
        }
        // RETRANSMIT_TIMEOUT: 2 s, give or take one. A repetition for NbTrans needs no such wait.
        let least = if message.confirmed { 1_000_000 } else { 0 };
        let pause = least + u64::from(self.chance.below(2_000_000));
        let until = (now + Duration::from_micros(pause)).max(self.silent_until);
        exchange.phase = Phase::Pausing { until };
        self.exchange = Some(exchange);
    }

    /// One step to safer settings: full power, else one data rate lower, else every channel.
    /// Source: LoRaWAN 1.0.4 §4.3.1.1.
    fn back_off(&mut self) {
        let Some(session) = self.session.as_mut() else { return };
        let mask = self.plan.mask();
        let lower = session.data_rate.checked_sub(1).filter(|dr| self.plan.carries(&mask, *dr));
        match lower {
            _ if session.tx_power > 0 => session.tx_power = 0,
            Some(data_rate) => session.data_rate = data_rate,
            None => {
                session.nb_trans = 1;
                self.plan.switch_all_on();
            }
        }
    }
}
