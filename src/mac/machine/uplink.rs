//! Data uplinks: from one reception to the log's verdict.
//!
//! Source: DESIGN 4.1 to 4.5; facts (g), duplicates and retransmissions.

use bytes::Bytes;
use clock::{Instant, Now};
use lorawan::{CrcStatus, Direction, Frame, Signed, Uplink};
use rand_chacha::rand_core::Rng as _;

use super::downlink::gateway_count;
use super::effect::{Effect, What};
use super::error::UplinkError;
use super::flow::{Body, DataBody, FLOWS_MAX, Flow, FlowKey, Heard, JoinBody, Link, Stage};
use super::verify::{Spoken, authenticate, verify_join};
use super::views::Devices;
use super::{Mac, PROPOSAL_PATIENCE};
use crate::{AcceptUplink, NodeId, RECEPTIONS_MAX, Reception, RequestId, UplinkReply};

impl Mac {
    /// Takes up one reception of one frame: opens or joins its deduplication window.
    ///
    /// * Errors: why the frame concerns nobody here; count it by [`UplinkError::reason`] and show
    ///   it.
    pub fn handle_uplink(
        &mut self,
        now: Now,
        devices: &impl Devices,
        rx: Uplink,
    ) -> Result<(), UplinkError> {
        self.take_up(now, devices, rx, None)
    }

    /// Takes up a reception that another node has handed over, because this one is the frame's
    /// home.
    ///
    /// * `rx`: its `received_at` is on this node's clock: the age it came with is taken off.
    /// * Errors: as for [`Self::handle_uplink`].
    pub fn handle_handed_over(
        &mut self,
        now: Now,
        devices: &impl Devices,
        rx: Uplink,
        from: NodeId,
    ) -> Result<(), UplinkError> {
        self.take_up(now, devices, rx, Some(from))
    }

    fn take_up(
        &mut self,
        now: Now,
        devices: &impl Devices,
        rx: Uplink,
        via: Option<NodeId>,
    ) -> Result<(), UplinkError> {
        if rx.crc == CrcStatus::Bad {
            return Err(UplinkError::Crc);
        }
        if devices.gateway(rx.gateway).is_none() {
            return Err(UplinkError::UnknownGateway { gateway: rx.gateway });
        }
        let heard = self.heard(now, &rx, via);
        if via.is_some() {
            self.be_home(now, &rx.phy_payload);
        }
        if let Some(flow) = self.flows.of_frame(&rx.phy_payload) {
            let at = (flow.frequency_hz, flow.modulation);
            let home = flow
                .hear(Heard { elsewhere: (rx.frequency_hz, rx.modulation) != at, ..heard }, via);
            self.pass_on(home, &rx);
            return Ok(());
        }
        if let Some(error) = self.refusals.find(now.instant, &rx.phy_payload) {
            return Err(error);
        }
        let frames = self.flows.len();
        if frames >= FLOWS_MAX {
            return Err(UplinkError::Overloaded { frames });
        }
        let taken = self.open(now, devices, &rx, heard, via);
        if let Err(error) = &taken {
            tracing::trace!(gateway = %rx.gateway, reason = error.reason(), "frame refused");
            let until = now.instant + self.config.dedup;
            self.refusals.insert(until, rx.phy_payload, error.clone());
            self.log_refusal(now, error);
        }
        taken
    }

    /// Verifies a frame that is not in hand, and opens its window.
    fn open(
        &mut self,
        now: Now,
        devices: &impl Devices,
        rx: &Uplink,
        heard: Heard,
        via: Option<NodeId>,
    ) -> Result<(), UplinkError> {
        let frame = Frame::parse(&rx.phy_payload)?;
        let (key, body) = match &frame {
            Frame::Data(data) if data.direction == Direction::Up => {
                let own = &self.config.dev_addr_prefixes;
                let spoken = authenticate(devices, own, data, rx)?;
                let Spoken { dev_eui, epoch, f_cnt, digest, .. } = spoken;
                let body = self.data_body(now, data, rx, spoken);
                (FlowKey::Data { dev_eui, epoch, f_cnt, digest }, Body::Data(Box::new(body)))
            }
            Frame::JoinRequest(signed) => {
                let dr = verify_join(devices, signed, rx)?;
                let body = JoinBody { dr, join: None, answer: Bytes::new(), rebuilt: 0 };
                (join_key(signed), Body::Join(Box::new(body)))
            }
            Frame::Data(_) | Frame::JoinAccept(_) | Frame::Rejoin(_) | Frame::Proprietary(_) => {
                return Err(UplinkError::Unserved { mtype: frame.mtype() });
            }
        };
        if let Some(flow) = self.flows.of_key(&key) {
            let home = flow.hear(heard, via);
            self.pass_on(home, rx);
            return Ok(());
        }
        let mut flow = Flow {
            key,
            frame: rx.phy_payload.clone(),
            heard: vec![heard],
            frequency_hz: rx.frequency_hz,
            modulation: rx.modulation,
            received_wall: now.wall,
            opened_at: now.instant,
            body,
            stage: Stage::Collecting,
            deadline: now.instant + self.config.dedup,
            links: Vec::new(),
        };
        self.begin(now, devices, &mut flow, rx, via);
        self.flows.open(flow);
        Ok(())
    }

    fn heard(&mut self, now: Now, rx: &Uplink, via: Option<NodeId>) -> Heard {
        let reception = Reception {
            gateway: rx.gateway,
            uplink_id: self.rng.next_u32(),
            ns_time: now.wall,
            gw_time: rx.gateway_time,
            gps_micros: rx.gps_time.map(clock::GpsTime::as_micros),
            rssi_dbm: rx.rssi_dbm,
            snr_ddb: rx.snr_ddb,
            channel: rx.channel,
            rf_chain: rx.rf_chain,
            antenna: rx.antenna,
            tmst: rx.tmst,
            crc_ok: rx.crc == CrcStatus::Ok,
        };
        Heard { reception, received_at: rx.received_at, via, elsewhere: false }
    }

    /// The question for the log, but for what only the end of the window tells.
    fn data_body(
        &self,
        now: Now,
        frame: &lorawan::DataFrame<'_>,
        rx: &Uplink,
        spoken: Spoken,
    ) -> DataBody {
        let accept = AcceptUplink {
            dev_eui: spoken.dev_eui,
            session_epoch: spoken.epoch,
            f_cnt: spoken.f_cnt,
            digest: spoken.digest,
            home: self.config.home,
            cursor: None,
            confirmed: frame.confirmed,
            adr: frame.fctrl.adr,
            adr_ack_req: frame.fctrl.adr_ack_req,
            ack: frame.fctrl.ack,
            class_b: frame.fctrl.class_b,
            f_port: frame.f_port.filter(|port| *port != 0),
            data: spoken.data,
            mac_commands: spoken.mac_commands,
            dr: spoken.dr,
            frequency_hz: rx.frequency_hz,
            modulation: rx.modulation,
            receptions: Vec::new(),
            received_at: now.wall,
            heard_by: None,
        };
        DataBody { accept, repeat: spoken.repeat, accepted_at: None, grant: None }
    }

    /// The window has closed: the frame goes to the log, or is answered again.
    pub(super) fn close_window(&mut self, now: Now, devices: &impl Devices, flow: &mut Flow) {
        flow.sort_heard();
        match &mut flow.body {
            Body::Join(_) => self.propose_join(now, devices, flow, None),
            Body::Data(body) if body.repeat => self.answer_again(now, devices, flow),
            Body::Data(body) => {
                let accept = &mut body.accept;
                let receptions = flow.heard.iter().map(|heard| heard.reception.clone());
                accept.receptions = receptions.take(RECEPTIONS_MAX).collect();
                accept.cursor = self.cursors.next(accept.dev_eui, accept.session_epoch);
                let here = flow.heard.iter().any(|heard| heard.via.is_none());
                accept.heard_by = flow.heard.first().and_then(|best| best.via).filter(|_| !here);
                let accept = Box::new(accept.clone());
                let request = self.draw_request();
                flow.decide(now.instant + PROPOSAL_PATIENCE, request);
                self.effects.push_back(Effect::Accept { request, accept });
            }
        }
    }

    /// The log's verdict on a data frame.
    pub fn handle_uplink_reply(
        &mut self,
        now: Now,
        devices: &impl Devices,
        request: RequestId,
        reply: UplinkReply,
    ) {
        let Some((id, mut flow)) = self.flows.take(Link::Request(request)) else { return };
        let deciding =
            matches!(flow.stage, Stage::Deciding { request: asked, .. } if asked == request);
        if let (Body::Data(body), true) = (&mut flow.body, deciding) {
            let (dev_eui, f_cnt) = (body.accept.dev_eui, body.accept.f_cnt);
            let refused = match reply {
                UplinkReply::Accepted { session_epoch, grant } => {
                    let asked = body.accept.session_epoch;
                    body.accept.session_epoch = session_epoch;
                    body.accepted_at = Some(now.instant);
                    body.grant = grant;
                    if let Some(grant) = grant {
                        let cursor = body.accept.cursor;
                        self.cursors.adopt(dev_eui, asked, cursor, session_epoch, grant);
                    }
                    let digest = body.accept.digest;
                    let key = FlowKey::Data { dev_eui, epoch: session_epoch, f_cnt, digest };
                    self.flows.rekey(id, &mut flow, key);
                    self.accepted(now, devices, &mut flow, f_cnt, session_epoch != asked);
                    None
                }
                // This node was first, and its answer got lost, or it has started anew since.
                UplinkReply::Duplicate { winner } if winner == self.config.home => {
                    body.accepted_at = Some(now.instant);
                    self.accepted(now, devices, &mut flow, f_cnt, false);
                    None
                }
                // Somebody else was first: the winner answers.
                UplinkReply::Duplicate { winner } => {
                    body.accepted_at = Some(now.instant);
                    if !self.concede(now, devices, &mut flow, winner) {
                        self.answer(now, devices, &mut flow);
                    }
                    None
                }
                UplinkReply::Gone => Some(UplinkError::Gone { dev_eui }),
                UplinkReply::Conflict => {
                    // Apply has written the `log` event itself.
                    let what = What::Refused(UplinkError::FCntConflict { dev_eui, f_cnt });
                    self.verdict(now, dev_eui, None, what);
                    self.done(now, &mut flow);
                    None
                }
                UplinkReply::FCntTooLow { last } => {
                    Some(UplinkError::FCntTooLow { dev_eui, f_cnt, last })
                }
                UplinkReply::FCntGapTooLarge { last } => {
                    Some(UplinkError::FCntGap { dev_eui, f_cnt, last })
                }
            };
            if let Some(error) = refused {
                self.refuse(now, &mut flow, error);
            }
        }
        self.flows.put(id, flow);
    }

    fn accepted(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        f_cnt: u32,
        reset: bool,
    ) {
        let what = What::Accepted { f_cnt, gateways: gateway_count(&flow.heard), reset };
        let best = flow.heard.first().map(|heard| heard.reception.gateway);
        let dev_eui = flow.key.dev_eui();
        self.verdict(now, dev_eui, best, what);
        let answer_at = flow.opened_at + self.config.dedup + self.config.downlink_wait;
        if answer_at <= now.instant {
            self.answer(now, devices, flow);
        } else {
            flow.stage = Stage::Waiting;
            flow.deadline = answer_at;
        }
    }

    /// Shows a refusal by the log, or by the last look before it, and rests.
    pub(super) fn refuse(&mut self, now: Now, flow: &mut Flow, error: UplinkError) {
        self.log_refusal(now, &error);
        let best = flow.heard.first().map(|heard| heard.reception.gateway);
        self.verdict(now, flow.key.dev_eui(), best, What::Refused(error));
        self.done(now, flow);
    }
}

impl Flow {
    /// Adds a copy while the window is open. The same datagram twice is one hearing.
    ///
    /// * Returns the home that is to hear of it too.
    fn hear(&mut self, heard: Heard, via: Option<NodeId>) -> Option<NodeId> {
        let same = |other: &Heard| {
            (other.reception.gateway, other.reception.antenna, other.reception.tmst)
                == (heard.reception.gateway, heard.reception.antenna, heard.reception.tmst)
        };
        let (open, home) = match self.stage {
            Stage::Away { home } | Stage::Watching { home } => (true, Some(home)),
            Stage::Collecting => (true, None),
            Stage::Deciding { .. }
            | Stage::Waiting
            | Stage::Planning { .. }
            | Stage::Persisting { .. }
            | Stage::Sending { .. }
            | Stage::Done => (false, None),
        };
        if open && self.heard.len() < RECEPTIONS_MAX && !self.heard.iter().any(same) {
            self.heard.push(heard);
        }
        home.filter(|_| via.is_none())
    }

    /// Best first: SNR margin (all copies have one data rate), then signal strength.
    pub(super) fn sort_heard(&mut self) {
        self.heard.sort_by_key(|heard| {
            let Reception { snr_ddb, rssi_dbm, gateway, antenna, .. } = heard.reception;
            (core::cmp::Reverse((snr_ddb, rssi_dbm)), gateway, antenna)
        });
    }

    /// The log decides now; its answer is of use until `until`.
    pub(super) fn decide(&mut self, until: Instant, request: RequestId) {
        self.stage = Stage::Deciding { request, again: false, until };
        self.deadline = until;
        self.links.push(Link::Request(request));
    }
}

fn join_key(signed: &Signed<'_, lorawan::JoinRequest>) -> FlowKey {
    let lorawan::JoinRequest { join_eui, dev_eui, dev_nonce } = signed.fields;
    FlowKey::Join { dev_eui, join_eui, dev_nonce }
}
