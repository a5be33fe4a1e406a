//! The machine: from a gateway's reception to the last TX_ACK, for class A.
//!
//! ```text
//! Uplink -> MIC -> window 200 ms -> Accept -> log -> wait 100 ms -> nothing to decide: bare answer
//!                                                                -> Plan -> log -> frame
//!        frame -> cursor on disk -> RX1 on the best gateway -> RX2 -> next gateway -> Record
//! ```
//!
//! Sans-IO: time comes in as `now`, the state as a view ([`Devices`]), work goes out through
//! [`Mac::poll_effect`]. Mutate once, drain the effects, then mutate again. Source: DESIGN 4 and 5.

mod answer;
mod away;
mod calendar;
mod dev_addr;
mod downlink;
mod effect;
mod error;
mod flow;
mod join;
mod memory;
mod transmit;
mod uplink;
mod verify;
mod views;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use clock::{Duration, Instant, Now};
use lorawan::{DevEui, GatewayEui, NetId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

pub use away::Home;
pub use dev_addr::DevAddrPrefix;
pub use effect::{CounterKind, CursorWrite, Effect, LogEvent, LogLevel, NotSent, Verdict, What};
pub use error::{LogCode, UplinkError};
pub use views::{Devices, GatewayView, JoinView, SessionView};

use crate::{NodeId, RequestId};
use calendar::Calendar;
use flow::{Body, Flow, Flows, Link, Stage};
use memory::{AnswerMemory, Cursors, LogLimit, Records, Refusals};

/// How long a frame waits for the log before it is given up. The device repeats what matters to it.
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(30);
/// After a proposal failed, the same question is put again.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacConfig {
    /// This node.
    pub home: NodeId,
    /// How long a frame's copies are collected: 200 ms.
    pub dedup: Duration,
    /// How long after that an application may still queue an answer: 100 ms; 0 allowed.
    pub downlink_wait: Duration,
    /// How long before a window opens the frame must leave this node: network, forwarder and radio.
    pub gateway_delay: Duration,
    /// The network.
    pub net_id: NetId,
    /// Where new addresses are drawn from; empty: the NetID's own range.
    pub dev_addr_prefixes: Vec<DevAddrPrefix>,
}

impl MacConfig {
    /// The defaults of the field for this node.
    #[must_use]
    pub fn new(home: NodeId, net_id: NetId) -> Self {
        Self {
            home,
            dedup: Duration::from_millis(200),
            downlink_wait: Duration::from_millis(100),
            gateway_delay: Duration::from_millis(60),
            net_id,
            dev_addr_prefixes: Vec::new(),
        }
    }
}

/// What this node does about frames. Holds no session: only frames in hand and bounded memories.
#[derive(Debug)]
pub struct Mac {
    config: MacConfig,
    rng: ChaCha12Rng,
    flows: Flows,
    cursors: Cursors,
    answers: AnswerMemory,
    refusals: Refusals,
    records: Records,
    log_limit: LogLimit,
    calendar: Calendar,
    next_downlink_id: u32,
    next_token: u64,
    effects: VecDeque<Effect>,
}

impl Mac {
    /// A machine without frames in hand.
    ///
    /// * `seed`: fresh randomness of each start: request names, addresses, nonces of seals.
    #[must_use]
    pub fn new(mut config: MacConfig, seed: [u8; 32]) -> Self {
        if config.dev_addr_prefixes.is_empty() {
            config.dev_addr_prefixes = vec![DevAddrPrefix::of(config.net_id)];
        }
        let mut rng = ChaCha12Rng::from_seed(seed);
        Self {
            config,
            flows: Flows::default(),
            cursors: Cursors::default(),
            answers: AnswerMemory::default(),
            refusals: Refusals::default(),
            records: Records::default(),
            log_limit: LogLimit::default(),
            calendar: Calendar::default(),
            next_downlink_id: rng.next_u32(),
            next_token: 0,
            rng,
            effects: VecDeque::new(),
        }
    }

    /// The next piece of work, until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted next, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        [self.flows.next_deadline(), self.records.next_deadline()].into_iter().flatten().min()
    }

    /// Does whatever was due by `now`.
    pub fn handle_timeout(&mut self, now: Now, devices: &impl Devices) {
        while let Some((id, mut flow)) = self.flows.take_due(now.instant) {
            let stage = core::mem::replace(&mut flow.stage, Stage::Done);
            match stage {
                Stage::Away { .. } => {
                    self.take_back(now, &mut flow);
                    self.close_window(now, devices, &mut flow);
                }
                Stage::Watching { .. } => self.done(now, &mut flow),
                Stage::Collecting => self.close_window(now, devices, &mut flow),
                Stage::Waiting => self.answer(now, devices, &mut flow),
                Stage::Deciding { request, again: true, until } => {
                    self.ask_again(&mut flow, request, until);
                }
                Stage::Planning { request, plan, again: true, until } => {
                    self.effects.push_back(Effect::Plan { request, plan: plan.clone() });
                    flow.stage = Stage::Planning { request, plan, again: false, until };
                    flow.deadline = until;
                }
                Stage::Deciding { again: false, .. }
                | Stage::Planning { again: false, .. }
                | Stage::Persisting { .. } => {
                    self.verdict(now, flow.key.dev_eui(), None, What::GivenUp);
                    self.done(now, &mut flow);
                }
                Stage::Sending { transmission } => self.silence(now, &mut flow, transmission),
                Stage::Done => {
                    self.flows.close(id, &flow);
                    continue;
                }
            }
            self.flows.put(id, flow);
        }
        while let Some((request, record)) = self.records.take_due(now.instant) {
            self.effects.push_back(Effect::Record { request, record });
        }
    }

    /// A proposal has not come back through the log.
    ///
    /// * `retry`: it may yet be decided: the same question is put again while it is useful.
    pub fn handle_proposal_failed(&mut self, now: Now, request: RequestId, retry: bool) {
        let at = now.instant + RETRY_DELAY;
        if retry {
            self.records.retry(at, request);
        } else {
            self.records.remove(request);
        }
        let Some((id, mut flow)) = self.flows.take(Link::Request(request)) else { return };
        let at = if retry { at } else { now.instant };
        if let Stage::Deciding { request: asked, again, until }
        | Stage::Planning { request: asked, again, until, .. } = &mut flow.stage
            && *asked == request
        {
            *again = retry && at < *until;
            flow.deadline = if *again { at } else { now.instant };
        }
        self.flows.put(id, flow);
    }

    /// The log has a report of [`Effect::Record`].
    pub fn handle_recorded(&mut self, request: RequestId) {
        self.records.remove(request);
    }

    /// How many frames are in hand.
    #[must_use]
    pub fn frames_in_hand(&self) -> usize {
        self.flows.len()
    }

    /// Puts the same question about a frame to the log again.
    fn ask_again(&mut self, flow: &mut Flow, request: RequestId, until: Instant) {
        match &flow.body {
            Body::Data(body) => {
                let accept = Box::new(body.accept.clone());
                self.effects.push_back(Effect::Accept { request, accept });
            }
            Body::Join(body) => {
                let join = body.join.clone().map(Box::new);
                self.effects.extend(join.map(|join| Effect::Join { request, join }));
            }
        }
        flow.stage = Stage::Deciding { request, again: false, until };
        flow.deadline = until;
    }

    fn draw_request(&mut self) -> RequestId {
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        RequestId(name)
    }

    fn verdict(&mut self, now: Now, dev_eui: DevEui, gateway: Option<GatewayEui>, what: What) {
        self.effects.push_back(Effect::Verdict(Verdict { at: now.wall, dev_eui, gateway, what }));
    }

    /// A `log` event, unless there were too many.
    fn log(
        &mut self,
        now: Now,
        dev_eui: DevEui,
        level: LogLevel,
        code: LogCode,
        description: String,
    ) {
        if self.log_limit.allows(now.instant, dev_eui, code) {
            let event = LogEvent { dev_eui, level, code, description };
            self.effects.push_back(Effect::Log(event));
        }
    }

    /// The `log` event of a refusal, if its device's application gets one.
    fn log_refusal(&mut self, now: Now, error: &UplinkError) {
        if let (Some(dev_eui), Some(code)) = (error.dev_eui(), error.log_code()) {
            self.log(now, dev_eui, LogLevel::Error, code, error.to_string());
        }
    }
}
