//! One downlink on its way: RX1 on the best gateway, then RX2, then the next gateway, always the
//! same bytes, until one is taken or none is in time. Source: DESIGN 4.7 and 4.8.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::{Duration, Instant, Now};
use lorawan::{DevAddr, DevEui, Downlink, DownlinkTiming, GatewayEui, TxAck, TxStatus};
use sabotage::Bug;

use super::Mac;
use super::calendar::Slot;
use super::downlink::Window;
use super::effect::{Effect, LogLevel, NotSent, What};
use super::error::LogCode;
use super::flow::{Body, Flow, FlowKey, Heard, Link, Stage};
use super::memory::{Answer, REPEATS_MAX};
use super::views::Devices;
use crate::{RecordTxAck, SessionEpoch};

/// A gateway that has not answered a downlink by then counts as silent.
const TX_ACK_TIMEOUT: Duration = Duration::from_millis(300);
/// A repetition of a frame within this time of its acceptance is a copy, later a retransmission.
pub(super) const COPY_WINDOW: Duration = Duration::from_secs(1);
/// After its moment a frame has left the gateway within this time and its air-time: what the way
/// there was thought to take ([`super::MacConfig::gateway_delay`]), and some.
const OVER_AFTER: Duration = Duration::from_secs(1);
/// Gateways tried for one downlink.
const GATEWAYS_TRIED_MAX: usize = 4;

/// One gateway and one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    gateway: GatewayEui,
    tmst: u32,
    rf_chain: u8,
    antenna: u8,
    /// Last moment at which the gateway can still make it.
    latest: Instant,
    window: Window,
}

/// The numbered part of a downlink: what a data frame's report says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) epoch: SessionEpoch,
    /// Of the grant that the number is from.
    pub(super) home_epoch: u32,
    pub(super) f_cnt_down: u32,
    pub(super) item_id: Option<[u8; 16]>,
    /// Its sending was reported before.
    pub(super) reported: bool,
}

/// One downlink, with what is left to try.
#[derive(Debug)]
pub(super) struct Transmission {
    bytes: Bytes,
    dev_addr: Option<DevAddr>,
    /// `None` for a join-accept.
    numbered: Option<Numbered>,
    tries: VecDeque<Try>,
    /// In the hands of gateways, oldest first.
    sent: Vec<(u32, Try)>,
    /// What the last gateway asked said.
    status: Option<TxStatus>,
}

/// The moments after which no gateway that heard the frame can answer it any more.
pub(super) fn latest(heard: &[Heard], windows: &[Window], gateway_delay: Duration) -> Instant {
    let first = heard.iter().map(|heard| heard.received_at).max().unwrap_or_default();
    let longest = windows.iter().map(|window| window.delay).max().unwrap_or_default();
    (first + longest).saturating_sub(gateway_delay)
}

/// The gateways that heard the frame and can be reached, best first.
pub(super) fn reachable<'a>(devices: &impl Devices, heard: &'a [Heard]) -> Vec<&'a Heard> {
    let mut gateways: Vec<&Heard> = Vec::new();
    for one in heard {
        let gateway = one.reception.gateway;
        let known = gateways.iter().any(|other| other.reception.gateway == gateway);
        let has_path = devices.gateway(gateway).is_some_and(|view| view.has_path);
        if !known && has_path && gateways.len() < GATEWAYS_TRIED_MAX {
            gateways.push(one);
        }
    }
    gateways
}

/// When a gateway would send a frame of `len` bytes in a window of the uplink that ended at `tmst`.
pub(super) fn window_slot(tmst: u32, window: &Window, len: usize) -> Slot {
    let delay = u32::try_from(window.delay.as_micros()).unwrap_or(u32::MAX);
    let len = u8::try_from(len).unwrap_or(u8::MAX);
    Slot::new(tmst.wrapping_add(delay), lorawan::airtime(window.modulation, len, false))
}

/// Says how long the best gateway has been out of reach.
pub(super) fn no_path(devices: &impl Devices, heard: &[Heard]) -> NotSent {
    let best = heard.first().and_then(|heard| devices.pull_age(heard.reception.gateway));
    NotSent::NoGatewayPath { pull_age_s: best.map(|age| age.as_secs()) }
}

impl Transmission {
    /// Plans the tries.
    ///
    /// * Errors: [`NotSent`], when there is nobody, nothing or nowhere to send it with.
    pub(super) fn new(
        bytes: Bytes,
        dev_addr: Option<DevAddr>,
        numbered: Option<Numbered>,
        gateways: &[&Heard],
        windows: &[Window],
        gateway_delay: Duration,
    ) -> Result<Self, NotSent> {
        if gateways.is_empty() {
            return Err(NotSent::NoGatewayPath { pull_age_s: None });
        }
        if windows.is_empty() {
            return Err(NotSent::NoWindow);
        }
        let mut tries = VecDeque::new();
        for heard in gateways {
            let follows = |window: &&Window| heard.precedes(window) && window.carries(&bytes);
            for window in windows.iter().filter(follows) {
                let reception = &heard.reception;
                tries.push_back(Try {
                    gateway: reception.gateway,
                    tmst: reception.tmst,
                    rf_chain: reception.rf_chain,
                    antenna: reception.antenna,
                    latest: (heard.received_at + window.delay).saturating_sub(gateway_delay),
                    window: *window,
                });
            }
        }
        if tries.is_empty() {
            return Err(NotSent::TooLarge);
        }
        Ok(Self { bytes, dev_addr, numbered, tries, sent: Vec::new(), status: None })
    }

    /// When it is too late even for the last try.
    pub(super) fn latest(&self) -> Instant {
        self.tries.iter().map(|one| one.latest).max().unwrap_or_default()
    }
}

impl Mac {
    /// A gateway's answer to a downlink. One that nobody waits for is ignored.
    pub fn handle_tx_ack(&mut self, now: Now, ack: TxAck) {
        let link = Link::Downlink(ack.gateway, ack.downlink_id);
        let Some((id, mut flow)) = self.flows.take(link) else { return };
        let stage = core::mem::replace(&mut flow.stage, Stage::Done);
        if let Stage::Sending { mut transmission } = stage {
            if ack.status != TxStatus::Ok {
                self.calendar.cancel(ack.gateway, ack.downlink_id);
            }
            let is_last = transmission.sent.last().is_some_and(|(id, _)| *id == ack.downlink_id);
            let sent = transmission.sent.iter().find(|(id, _)| *id == ack.downlink_id).copied();
            match sent {
                Some(sent) if ack.status == TxStatus::Ok => {
                    self.finish(now, &mut flow, &transmission, Some(TxStatus::Ok), sent);
                }
                Some((_, tried)) if is_last => {
                    transmission.status = Some(ack.status);
                    let (window, status) = (tried.window.number, Some(ack.status));
                    let what = What::GatewayRefused { window, status };
                    self.verdict(now, flow.key.dev_eui(), Some(tried.gateway), what);
                    self.transmit(now, &mut flow, transmission);
                }
                Some(_) | None => flow.stage = Stage::Sending { transmission },
            }
        } else {
            flow.stage = stage;
        }
        self.flows.put(id, flow);
    }

    /// Another node's frame is to go over a gateway that this one reaches.
    ///
    /// * Returns false if the gateway has something else to send then: it must not be asked, for it
    ///   may say that it will, and not be able to.
    pub fn handle_order(&mut self, now: Now, order: &Downlink) -> bool {
        let DownlinkTiming::Delay { tmst, delay } = order.timing else { return true };
        let len = u8::try_from(order.phy_payload.len()).unwrap_or(u8::MAX);
        let delay_us = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
        let airtime = lorawan::airtime(order.modulation, len, false);
        let slot = Slot::new(tmst.wrapping_add(delay_us), airtime);
        if !self.calendar.is_free(order.gateway, slot, &order.phy_payload) {
            return false;
        }
        let over = now.instant + delay + OVER_AFTER + airtime;
        let what = (&order.phy_payload, slot);
        self.calendar.book(now.instant, over, order.gateway, order.downlink_id, what);
        true
    }

    /// A gateway has refused another node's frame.
    pub fn handle_order_refused(&mut self, gateway: GatewayEui, downlink_id: u32) {
        self.calendar.cancel(gateway, downlink_id);
    }

    /// A gateway said nothing: the next try.
    pub(super) fn silence(
        &mut self,
        now: Now,
        flow: &mut Flow,
        mut transmission: Box<Transmission>,
    ) {
        transmission.status = None;
        if let Some((_, tried)) = transmission.sent.last() {
            let what = What::GatewayRefused { window: tried.window.number, status: None };
            self.verdict(now, flow.key.dev_eui(), Some(tried.gateway), what);
        }
        self.transmit(now, flow, transmission);
    }

    /// Hands the downlink to the next gateway and window that is in time.
    pub(super) fn transmit(
        &mut self,
        now: Now,
        flow: &mut Flow,
        mut transmission: Box<Transmission>,
    ) {
        let (mut missed, mut busy) = (None, None);
        if let Some(Numbered { epoch, f_cnt_down, .. }) = transmission.numbered
            && !self.cursors.may_leave(flow.key.dev_eui(), epoch, f_cnt_down)
        {
            // A later answer overtook this one.
            missed = transmission.tries.pop_front();
            transmission.tries.clear();
        }
        while let Some(next) = transmission.tries.pop_front() {
            if now.instant > next.latest && !sabotage::planted(Bug::LateWindow) {
                missed = Some(next);
                continue;
            }
            let slot = next.slot(transmission.bytes.len());
            if !self.calendar.is_free(next.gateway, slot, &transmission.bytes) {
                busy = Some(next);
                continue;
            }
            let downlink_id = self.next_downlink_id;
            self.next_downlink_id = downlink_id.wrapping_add(1);
            let over = next.latest + OVER_AFTER + Duration::from_micros(slot.airtime_us.into());
            let what = (&transmission.bytes, slot);
            self.calendar.book(now.instant, over, next.gateway, downlink_id, what);
            self.effects.push_back(Effect::Send(next.downlink(downlink_id, &transmission)));
            flow.links.push(Link::Downlink(next.gateway, downlink_id));
            transmission.sent.push((downlink_id, next));
            flow.stage = Stage::Sending { transmission };
            flow.deadline = now.instant + TX_ACK_TIMEOUT;
            return;
        }
        let dev_eui = flow.key.dev_eui();
        let (why, status, last) = match (transmission.sent.last().copied(), busy) {
            (Some(sent), _) => (NotSent::Refused, transmission.status, Some(sent)),
            (None, Some(busy)) => (NotSent::Busy, Some(TxStatus::CollisionPacket), Some((0, busy))),
            (None, None) => (NotSent::TooLate, Some(TxStatus::TooLate), missed.map(|m| (0, m))),
        };
        let has_item = transmission.numbered.is_some_and(|numbered| numbered.item_id.is_some());
        if has_item {
            // Its application hears of it when the report is in the log.
            self.verdict(now, dev_eui, None, What::NotSent(why));
        } else {
            self.not_sent(now, dev_eui, why);
        }
        match last {
            Some(last) => self.finish(now, flow, &transmission, status, last),
            None => self.done(now, flow),
        }
    }

    /// Reports what became of the downlink, and rests.
    fn finish(
        &mut self,
        now: Now,
        flow: &mut Flow,
        transmission: &Transmission,
        status: Option<TxStatus>,
        (downlink_id, tried): (u32, Try),
    ) {
        let dev_eui = flow.key.dev_eui();
        if status == Some(TxStatus::Ok) {
            let f_cnt_down = transmission.numbered.map(|numbered| numbered.f_cnt_down);
            let what = What::Sent { window: tried.window.number, f_cnt_down };
            self.verdict(now, dev_eui, Some(tried.gateway), what);
        }
        if let Some(numbered) = transmission.numbered.filter(|numbered| !numbered.reported) {
            if status == Some(TxStatus::Ok) {
                self.answers.mark_sent(dev_eui, numbered.f_cnt_down);
            }
            let record = tried.record(dev_eui, numbered, status, downlink_id);
            let request = self.draw_request();
            self.records.insert(now.instant, request, record.clone());
            self.effects.push_back(Effect::Record { request, record });
        }
        self.done(now, flow);
    }

    /// Nothing more to do for this frame than to know its copies.
    pub(super) fn done(&mut self, now: Now, flow: &mut Flow) {
        let accepted_at = match &flow.body {
            Body::Data(body) => body.accepted_at,
            Body::Join(_) => None,
        };
        flow.stage = Stage::Done;
        flow.deadline = (accepted_at.unwrap_or(now.instant) + COPY_WINDOW).max(now.instant);
    }

    /// Shows that an answer that was due is not sent.
    pub(super) fn not_sent(&mut self, now: Now, dev_eui: DevEui, why: NotSent) {
        let code = match why {
            NotSent::NoNumber => LogCode::FCntDown,
            NotSent::NoGatewayPath { .. }
            | NotSent::TooLate
            | NotSent::Refused
            | NotSent::Busy
            | NotSent::NoWindow
            | NotSent::TooLarge
            | NotSent::NoKey => LogCode::DownlinkGateway,
        };
        self.log(now, dev_eui, LogLevel::Error, code, why.to_string());
        self.verdict(now, dev_eui, None, What::NotSent(why));
    }

    /// Remembers the answer to a data frame, so that its repetition gets the same bytes.
    pub(super) fn remember(&mut self, now: Now, key: &FlowKey, bytes: &Bytes, numbered: &Numbered) {
        let FlowKey::Data { dev_eui, epoch, f_cnt, digest } = *key else { return };
        let Numbered { home_epoch, f_cnt_down, item_id, .. } = *numbered;
        let bytes = bytes.clone();
        let answer = Answer {
            epoch,
            home_epoch,
            f_cnt,
            digest,
            bytes,
            f_cnt_down,
            item_id,
            sent: false,
            repeats_left: REPEATS_MAX,
        };
        self.answers.insert(now.instant, dev_eui, answer);
    }
}

impl Try {
    /// When a frame of `len` bytes would be in the air.
    fn slot(&self, len: usize) -> Slot {
        window_slot(self.tmst, &self.window, len)
    }

    fn downlink(&self, downlink_id: u32, transmission: &Transmission) -> Downlink {
        Downlink {
            downlink_id,
            gateway: self.gateway,
            phy_payload: transmission.bytes.clone(),
            timing: DownlinkTiming::Delay { tmst: self.tmst, delay: self.window.delay },
            frequency_hz: self.window.frequency_hz,
            modulation: self.window.modulation,
            eirp_dbm: self.window.eirp_dbm,
            rf_chain: self.rf_chain,
            antenna: self.antenna,
            dev_addr: transmission.dev_addr,
        }
    }

    fn record(
        &self,
        dev_eui: DevEui,
        numbered: Numbered,
        status: Option<TxStatus>,
        downlink_id: u32,
    ) -> RecordTxAck {
        RecordTxAck {
            dev_eui,
            session_epoch: numbered.epoch,
            f_cnt_down: numbered.f_cnt_down,
            a_counter: false,
            item_id: numbered.item_id,
            status,
            gateway: self.gateway,
            downlink_id,
            frequency_hz: self.window.frequency_hz,
            eirp_dbm: self.window.eirp_dbm,
            modulation: self.window.modulation,
            delay_s: u8::try_from(self.window.delay.as_secs()).unwrap_or(u8::MAX),
        }
    }
}
