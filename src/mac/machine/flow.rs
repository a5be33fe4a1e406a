//! The frames in hand: one flow from the first reception to the last TX_ACK, and the names under
//! which the outside finds it again. No decision is made here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::{Instant, WallTime};
use lorawan::{DevEui, DevNonce, GatewayEui, JoinEui, Modulation};
use sabotage::Bug;

use super::downlink::Window;
use super::transmit::Transmission;
use crate::{
    AcceptJoin, AcceptUplink, Digest, Grant, NodeId, PlanDownlink, Reception, RequestId,
    SessionEpoch,
};

/// Frames in hand at once; one more is refused.
pub(super) const FLOWS_MAX: usize = 32_768;

/// Names a flow; never used twice.
pub(super) type FlowId = u64;

/// What makes two receptions one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FlowKey {
    Data { dev_eui: DevEui, epoch: SessionEpoch, f_cnt: u32, digest: Digest },
    Join { dev_eui: DevEui, join_eui: JoinEui, dev_nonce: DevNonce },
}

impl FlowKey {
    pub(super) const fn dev_eui(&self) -> DevEui {
        match self {
            Self::Data { dev_eui, .. } | Self::Join { dev_eui, .. } => *dev_eui,
        }
    }
}

/// Where an answer from outside belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    Request(RequestId),
    Token(u64),
    Downlink(GatewayEui, u32),
}

/// One gateway's hearing, and when this node got it.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) reception: Reception,
    pub(super) received_at: Instant,
    /// The node whose gateway it was, if not this one's.
    pub(super) via: Option<NodeId>,
    /// On another channel or data rate than the flow's first: another transmission of the same
    /// frame, that a gateway was late to tell of, or the first was. Its RX1 is not the flow's.
    pub(super) elsewhere: bool,
}

impl Heard {
    /// Whether this window of the flow follows what was heard here.
    pub(super) const fn precedes(&self, window: &Window) -> bool {
        window.number != 1 || !self.elsewhere
    }
}

/// One frame in hand.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    /// The PHYPayload as first heard.
    pub(super) frame: Bytes,
    pub(super) heard: Vec<Heard>,
    pub(super) frequency_hz: u32,
    pub(super) modulation: Modulation,
    /// When this cluster first received it.
    pub(super) received_wall: WallTime,
    /// When it was first received.
    pub(super) opened_at: Instant,
    pub(super) body: Body,
    pub(super) stage: Stage,
    /// When something must happen at the latest.
    pub(super) deadline: Instant,
    pub(super) links: Vec<Link>,
}

/// What the frame was.
#[derive(Debug)]
pub(super) enum Body {
    Data(Box<DataBody>),
    Join(Box<JoinBody>),
}

/// A data frame in hand.
#[derive(Debug)]
pub(super) struct DataBody {
    /// The question for the log; receptions and cursor are filled in when the window closes.
    pub(super) accept: AcceptUplink,
    /// The log accepted it before: it is answered, not proposed.
    pub(super) repeat: bool,
    pub(super) accepted_at: Option<Instant>,
    pub(super) grant: Option<Grant>,
}

/// A join-request in hand.
#[derive(Debug)]
pub(super) struct JoinBody {
    /// Uplink data rate index.
    pub(super) dr: u8,
    /// The question for the log, once built.
    pub(super) join: Option<AcceptJoin>,
    /// The join-accept, to be sent only when the log has accepted.
    pub(super) answer: Bytes,
    /// How often it was built anew because another join came between.
    pub(super) rebuilt: u8,
}

/// How far a flow has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Another node is its home: the log has not decided it yet.
    Away { home: NodeId },
    /// Another node has it decided and answers, unless it is lost.
    Watching { home: NodeId },
    /// The deduplication window is open.
    Collecting,
    /// The log decides; `again`: the question is to be put again at the deadline, until `until`.
    Deciding { request: RequestId, again: bool, until: Instant },
    /// Accepted; an application may still queue an answer.
    Waiting,
    /// The log plans; `again` as above.
    Planning { request: RequestId, plan: PlanDownlink, again: bool, until: Instant },
    /// The number is on its way to the disk.
    Persisting { transmission: Box<Transmission> },
    /// A gateway has it.
    Sending { transmission: Box<Transmission> },
    /// Nothing more to do: copies are still recognised.
    Done,
}

impl Stage {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Away { .. } | Self::Watching { .. } => "another home",
            Self::Collecting => "deduplication window",
            Self::Deciding { .. } | Self::Planning { .. } => "proposal",
            Self::Waiting => "downlink wait",
            Self::Persisting { .. } => "cursor",
            Self::Sending { .. } => "TX_ACK",
            Self::Done => "copies",
        }
    }
}

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    by_id: BTreeMap<FlowId, Flow>,
    by_key: BTreeMap<FlowKey, FlowId>,
    by_frame: BTreeMap<Bytes, FlowId>,
    by_link: BTreeMap<Link, FlowId>,
    deadlines: BTreeSet<(Instant, FlowId)>,
    last_id: FlowId,
}

impl Flows {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Opens a flow under its key and its bytes.
    pub(super) fn open(&mut self, flow: Flow) {
        self.last_id += 1;
        let id = self.last_id;
        if sabotage::planted(Bug::DevNonceOutsideApply) && matches!(flow.body, Body::Join(_)) {
            // As if each gateway's copy had come to another node.
            return self.put(id, flow);
        }
        self.by_key.insert(flow.key, id);
        self.by_frame.insert(flow.frame.clone(), id);
        self.put(id, flow);
    }

    /// The flow of the same bytes.
    pub(super) fn of_frame(&mut self, frame: &Bytes) -> Option<&mut Flow> {
        self.by_id.get_mut(self.by_frame.get(frame)?)
    }

    /// The flow of the same frame, whatever its MIC.
    pub(super) fn of_key(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        self.by_id.get_mut(self.by_key.get(key)?)
    }

    /// Takes the flow that an answer belongs to; it must be put back or closed.
    pub(super) fn take(&mut self, link: Link) -> Option<(FlowId, Flow)> {
        self.take_id(*self.by_link.get(&link)?)
    }

    /// Takes the flow whose deadline passed first; it must be put back or closed.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(FlowId, Flow)> {
        let (deadline, id) = *self.deadlines.first()?;
        if deadline > now { None } else { self.take_id(id) }
    }

    /// Takes the flow of the same bytes; it must be put back or closed.
    pub(super) fn take_frame(&mut self, frame: &Bytes) -> Option<(FlowId, Flow)> {
        self.take_id(*self.by_frame.get(frame)?)
    }

    /// Takes the flow of a frame; it must be put back or closed.
    pub(super) fn take_key(&mut self, key: &FlowKey) -> Option<(FlowId, Flow)> {
        self.take_id(*self.by_key.get(key)?)
    }

    /// The flows whose home is this other node.
    pub(super) fn of_home(&self, node: NodeId) -> Vec<FlowId> {
        let theirs = |flow: &Flow| match flow.stage {
            Stage::Away { home } | Stage::Watching { home } => home == node,
            Stage::Collecting
            | Stage::Deciding { .. }
            | Stage::Waiting
            | Stage::Planning { .. }
            | Stage::Persisting { .. }
            | Stage::Sending { .. }
            | Stage::Done => false,
        };
        self.by_id.iter().filter(|(_, flow)| theirs(flow)).map(|(id, _)| *id).collect()
    }

    pub(super) fn take_id(&mut self, id: FlowId) -> Option<(FlowId, Flow)> {
        let flow = self.by_id.remove(&id)?;
        self.deadlines.remove(&(flow.deadline, id));
        Some((id, flow))
    }

    /// Puts a flow back.
    pub(super) fn put(&mut self, id: FlowId, flow: Flow) {
        self.deadlines.insert((flow.deadline, id));
        for link in &flow.links {
            self.by_link.insert(*link, id);
        }
        let taken = self.by_id.insert(id, flow);
        assert!(taken.is_none(), "a flow is in one pair of hands");
    }

    /// Lets a flow that was taken go for good.
    pub(super) fn close(&mut self, id: FlowId, flow: &Flow) {
        if self.by_key.get(&flow.key) == Some(&id) {
            self.by_key.remove(&flow.key);
        }
        if self.by_frame.get(&flow.frame) == Some(&id) {
            self.by_frame.remove(&flow.frame);
        }
        for link in &flow.links {
            self.by_link.remove(link);
        }
    }

    /// Gives a flow that was taken another key: the log has raised the epoch.
    pub(super) fn rekey(&mut self, id: FlowId, flow: &mut Flow, key: FlowKey) {
        if self.by_key.get(&flow.key) == Some(&id) {
            self.by_key.remove(&flow.key);
        }
        flow.key = key;
        self.by_key.insert(key, id);
    }

    /// The next deadline and what it is for.
    pub(super) fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let (deadline, id) = *self.deadlines.first()?;
        let reason = self.by_id.get(&id).map_or("flow", |flow| flow.stage.reason());
        Some((deadline, reason))
    }
}
