//! Frames whose home is another node: handed over at once, kept until the log has decided them,
//! taken back when their home is lost.
//!
//! A device's home is the node that holds its downlink numbers. Whoever receives a frame verifies
//! it, hands each reception to the home, and keeps the frame: if the home falls silent before the
//! log has the frame, this node proposes it; if it falls silent before it has answered, this node
//! answers. Two homes at once are harmless: the log decides. Source: DESIGN 4.2 to 4.4; dangers B5,
//! B7.

use bytes::Bytes;
use clock::{Duration, Now};
use lorawan::{CrcStatus, Uplink};

use super::Mac;
use super::effect::Effect;
use super::flow::{Body, Flow, FlowKey, Heard, Stage};
use super::views::Devices;
use crate::{AcceptJoin, AcceptUplink, NodeId, SessionEpoch};

/// How long a home that can be reached may take until the log has the frame.
const HOME_PATIENCE: Duration = Duration::from_secs(1);
/// How long after a frame it makes sense to answer in its home's place: RX2 opens 2 s after it.
const WATCH: Duration = Duration::from_millis(1_700);

/// Where a device's frames are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// On this node.
    Here,
    /// On another one, which can be reached.
    There(NodeId),
}

impl Mac {
    /// The stage in which a new flow begins; hands its first reception over.
    pub(super) fn begin(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        rx: &Uplink,
        via: Option<NodeId>,
    ) {
        let home = match via {
            // Whoever handed it over takes this node for the home.
            Some(_) => Home::Here,
            None => devices.home(flow.key.dev_eui()),
        };
        let Home::There(home) = home else { return };
        if matches!(&flow.body, Body::Data(body) if body.repeat) {
            flow.stage = Stage::Watching { home };
            flow.deadline = now.instant + WATCH;
        } else {
            flow.stage = Stage::Away { home };
            flow.deadline = now.instant + self.config.dedup + HOME_PATIENCE;
        }
        self.hand_over(home, rx);
    }

    /// A further reception of a frame whose home is elsewhere.
    pub(super) fn pass_on(&mut self, home: Option<NodeId>, rx: &Uplink) {
        if let Some(home) = home {
            self.hand_over(home, rx);
        }
    }

    fn hand_over(&mut self, to: NodeId, rx: &Uplink) {
        self.effects.push_back(Effect::HandOver { to, uplink: Box::new(rx.clone()) });
    }

    /// Another node takes this one for the home of a frame in hand: then it is one.
    pub(super) fn be_home(&mut self, now: Now, frame: &Bytes) {
        if let Some((id, mut flow)) = self.flows.take_frame(frame) {
            if let Stage::Away { .. } = flow.stage {
                self.take_back(now, &mut flow);
            }
            self.flows.put(id, flow);
        }
    }

    /// The frame is this node's to decide from now on.
    pub(super) fn take_back(&self, now: Now, flow: &mut Flow) {
        flow.stage = Stage::Collecting;
        flow.deadline = (flow.opened_at + self.config.dedup).max(now.instant);
    }

    /// Another node was first: it gets what this one has heard, and answers.
    ///
    /// * Returns false if it is out of reach: then this node answers.
    pub(super) fn concede(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        winner: NodeId,
    ) -> bool {
        if !devices.is_reachable(winner) {
            return false;
        }
        let own = flow.heard.iter().filter(|heard| heard.via.is_none() && !heard.elsewhere);
        let receptions: Vec<Uplink> = own.map(|heard| flow.uplink_of(heard)).collect();
        for rx in receptions {
            self.hand_over(winner, &rx);
        }
        flow.stage = Stage::Watching { home: winner };
        flow.deadline = (flow.opened_at + WATCH).max(now.instant);
        true
    }

    /// The log has accepted a frame that another node proposed.
    ///
    /// * `epoch`: of the session since then; a counter reset raises it.
    pub fn handle_accepted_elsewhere(
        &mut self,
        now: Now,
        devices: &impl Devices,
        accept: &AcceptUplink,
        epoch: SessionEpoch,
    ) {
        let AcceptUplink { dev_eui, f_cnt, digest, home, .. } = *accept;
        let key = FlowKey::Data { dev_eui, epoch: accept.session_epoch, f_cnt, digest };
        let Some((id, mut flow)) = self.flows.take_key(&key) else { return };
        if let (Stage::Away { .. }, Body::Data(body)) = (&flow.stage, &mut flow.body) {
            body.accept.session_epoch = epoch;
            body.accepted_at = Some(now.instant);
            flow.stage = Stage::Watching { home };
            flow.deadline = (flow.opened_at + WATCH).max(now.instant);
            self.flows.rekey(id, &mut flow, FlowKey::Data { dev_eui, epoch, f_cnt, digest });
            if !devices.is_reachable(home) {
                self.answer_in_place(now, devices, &mut flow);
            }
        }
        self.flows.put(id, flow);
    }

    /// The log has activated a device by a request that another node proposed.
    pub fn handle_joined_elsewhere(&mut self, now: Now, join: &AcceptJoin) {
        let AcceptJoin { dev_eui, join_eui, dev_nonce, .. } = *join;
        let key = FlowKey::Join { dev_eui, join_eui, dev_nonce };
        let Some((id, mut flow)) = self.flows.take_key(&key) else { return };
        if let Stage::Away { .. } = flow.stage {
            self.done(now, &mut flow);
        }
        self.flows.put(id, flow);
    }

    /// Another node can no longer be reached: its frames are this node's.
    pub fn handle_node_lost(&mut self, now: Now, devices: &impl Devices, node: NodeId) {
        for id in self.flows.of_home(node) {
            let Some((id, mut flow)) = self.flows.take_id(id) else { continue };
            match flow.stage {
                Stage::Away { .. } => self.take_back(now, &mut flow),
                Stage::Watching { .. } => self.answer_in_place(now, devices, &mut flow),
                Stage::Collecting
                | Stage::Deciding { .. }
                | Stage::Waiting
                | Stage::Planning { .. }
                | Stage::Persisting { .. }
                | Stage::Sending { .. }
                | Stage::Done => {}
            }
            self.flows.put(id, flow);
        }
    }

    /// Answers an accepted frame whose home may not have.
    fn answer_in_place(&mut self, now: Now, devices: &impl Devices, flow: &mut Flow) {
        // Best first, as when a window closes.
        flow.sort_heard();
        match &flow.body {
            Body::Data(body) if body.repeat => self.answer_again(now, devices, flow),
            Body::Data(_) => self.answer(now, devices, flow),
            Body::Join(_) => self.done(now, flow),
        }
    }
}

impl Flow {
    /// A reception as its gateway told of it.
    fn uplink_of(&self, heard: &Heard) -> Uplink {
        let reception = &heard.reception;
        Uplink {
            phy_payload: self.frame.clone(),
            gateway: reception.gateway,
            received_at: heard.received_at,
            gateway_time: reception.gw_time,
            gps_time: reception.gps_micros.map(clock::GpsTime::from_micros),
            frequency_hz: self.frequency_hz,
            modulation: self.modulation,
            rssi_dbm: reception.rssi_dbm,
            snr_ddb: reception.snr_ddb,
            channel: reception.channel,
            rf_chain: reception.rf_chain,
            antenna: reception.antenna,
            tmst: reception.tmst,
            crc: if reception.crc_ok { CrcStatus::Ok } else { CrcStatus::None },
        }
    }
}
