//! What a data uplink is answered with: nothing, a bare frame from the grant, what the log plans,
//! or the same bytes as before.
//!
//! Source: DESIGN 4.6, 4.7 and 5 (granted downlink counters), dangers A3, B9 and B10.

use clock::{Instant, Now, WallTime};
use sabotage::Bug;

use super::Mac;
use super::downlink::{Answers, BuildError, Content, Window, answers, build, data_windows};
use super::effect::{CounterKind, CursorWrite, Effect, LogLevel, NotSent, What};
use super::error::LogCode;
use super::flow::{Body, DataBody, Flow, Heard, Link, Stage};
use super::memory::Repeat;
use super::transmit::{Numbered, Transmission, latest, no_path, reachable, window_slot};
use super::views::{Devices, SessionView};
use crate::transition::{Plan, plan};
use crate::{HandedOut, PlanDownlink, PlanReply, Reception, RequestId};

/// Longest run of MAC answers in a downlink: one LinkCheckAns and one DeviceTimeAns are far below.
const ANSWERS_LEN_MAX: usize = lorawan::F_OPTS_LEN_MAX;

/// A data frame that says nothing: header, address, counter and MIC.
const EMPTY_FRAME_LEN: usize = 12;

/// An uplink to be answered, looked at once.
struct Question<'a> {
    view: SessionView<'a>,
    windows: Vec<Window>,
    answers: Answers,
    /// Something must go out even if nothing is planned.
    due: bool,
    latest: Instant,
}

impl Mac {
    /// An accepted frame has waited long enough: decide whether the log has anything to decide.
    pub(super) fn answer(&mut self, now: Now, devices: &impl Devices, flow: &mut Flow) {
        let Some(question) = self.question(devices, flow) else { return self.done(now, flow) };
        let Body::Data(body) = &flow.body else { return self.done(now, flow) };
        let ask = self.plan_of(&question, body, false);
        let (view, dev_eui) = (question.view, body.accept.dev_eui);
        let queue = devices.queue(dev_eui);
        let mut planned = plan(view.session, view.profile, &queue, &ask, now.wall);
        if sabotage::planted(Bug::AckStarvesQueue) && body.accept.confirmed {
            planned = Plan::default();
        }
        if planned.decides_nothing() && !question.due {
            return self.done(now, flow);
        }
        if let Some(why) = self.hopeless(now, devices, flow, &question) {
            self.not_sent(now, dev_eui, why);
            return self.done(now, flow);
        }
        if planned.decides_nothing() {
            let content = Content {
                mac_commands: question.answers.bytes.clone(),
                item: None,
                f_pending: planned.f_pending,
                ack: body.accept.confirmed,
            };
            let is_newest = self.holds_newest(&ask, &question);
            if is_newest && self.compose(now, devices, flow, &question, &content) {
                return;
            }
        }
        self.ask_plan(flow, ask, question.latest);
    }

    /// A frame that the log accepted before came again: the same bytes, or a bare answer.
    pub(super) fn answer_again(&mut self, now: Now, devices: &impl Devices, flow: &mut Flow) {
        let Some(question) = self.asked_again(devices, flow) else { return self.done(now, flow) };
        let Body::Data(body) = &mut flow.body else { return self.done(now, flow) };
        body.accepted_at = Some(now.instant);
        let accept = &body.accept;
        let (dev_eui, f_cnt) = (accept.dev_eui, accept.f_cnt);
        let newest = question.view.session.n_f_cnt_down.home_epoch;
        let repeat = self
            .answers
            .repeat(now.instant, dev_eui, accept.session_epoch, f_cnt, accept.digest)
            .filter(|repeat| !repeat.is_overtaken(newest));
        let answered = match repeat {
            Some(Repeat::Answer(_)) => true,
            Some(Repeat::TooOften) => false,
            None => question.due,
        };
        let best = flow.heard.first().map(|heard| heard.reception.gateway);
        let text = format!("uplink {f_cnt} received again");
        let ask = self.plan_of(&question, body, true);
        let content = Content {
            mac_commands: question.answers.bytes.clone(),
            item: None,
            f_pending: devices.queue(dev_eui).iter().any(is_queued),
            ack: body.accept.confirmed,
        };
        self.verdict(now, dev_eui, best, What::Repeated { f_cnt, answered });
        self.log(now, dev_eui, LogLevel::Info, LogCode::UplinkFCntRetransmission, text);
        if !answered {
            return self.done(now, flow);
        }
        if let Some(why) = self.hopeless(now, devices, flow, &question) {
            self.not_sent(now, dev_eui, why);
            return self.done(now, flow);
        }
        if let Some(Repeat::Answer(answer)) = repeat {
            let numbered = Numbered {
                epoch: answer.epoch,
                home_epoch: answer.home_epoch,
                f_cnt_down: answer.f_cnt_down,
                item_id: answer.item_id,
                reported: answer.sent,
            };
            let gateways = reachable(devices, &flow.heard);
            let (dev_addr, delay) = (question.view.session.dev_addr, self.config.gateway_delay);
            let mut bytes = answer.bytes;
            if sabotage::planted(Bug::RepeatBuiltAnew) {
                let session = question.view.session;
                let keys = devices.keys(dev_eui, session);
                let anew = keys.and_then(|k| build(&k, session, answer.f_cnt_down, &content).ok());
                bytes = anew.unwrap_or(bytes);
            }
            let again = Transmission::new(
                bytes,
                Some(dev_addr),
                Some(numbered),
                &gateways,
                &question.windows,
                delay,
            );
            return match again {
                // Its number is on the disk since the first time.
                Ok(transmission) => self.transmit(now, flow, Box::new(transmission)),
                Err(why) => {
                    self.not_sent(now, dev_eui, why);
                    self.done(now, flow);
                }
            };
        }
        let is_newest = self.holds_newest(&ask, &question);
        if !is_newest || !self.compose(now, devices, flow, &question, &content) {
            self.ask_plan(flow, ask, question.latest);
        }
    }

    /// The log's plan for a downlink.
    pub fn handle_plan_reply(
        &mut self,
        now: Now,
        devices: &impl Devices,
        request: RequestId,
        reply: PlanReply,
    ) {
        let Some((id, mut flow)) = self.flows.take(Link::Request(request)) else { return };
        let asked = match &flow.stage {
            Stage::Planning { request: asked, plan, .. } if *asked == request => Some(plan.cursor),
            Stage::Planning { .. }
            | Stage::Away { .. }
            | Stage::Watching { .. }
            | Stage::Collecting
            | Stage::Deciding { .. }
            | Stage::Waiting
            | Stage::Persisting { .. }
            | Stage::Sending { .. }
            | Stage::Done => None,
        };
        if let Some(cursor) = asked {
            match reply {
                PlanReply::Planned { requests, item, f_pending, grant, .. } => {
                    if let (Body::Data(body), Some(grant)) = (&flow.body, grant) {
                        let epoch = body.accept.session_epoch;
                        let dev_eui = body.accept.dev_eui;
                        self.cursors.adopt(dev_eui, epoch, cursor, epoch, grant);
                    }
                    self.planned(now, devices, &mut flow, &requests, item, f_pending);
                }
                PlanReply::Gone => self.done(now, &mut flow),
            }
        }
        self.flows.put(id, flow);
    }

    /// Builds what was planned.
    fn planned(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        requests: &[u8],
        item: Option<HandedOut>,
        f_pending: bool,
    ) {
        let Some(question) = self.question(devices, flow) else { return self.done(now, flow) };
        let Body::Data(body) = &flow.body else { return self.done(now, flow) };
        if requests.is_empty() && item.is_none() && !question.due {
            return self.done(now, flow);
        }
        let mut mac_commands = question.answers.bytes.clone();
        mac_commands.extend_from_slice(requests);
        let ack = body.accept.confirmed;
        let dev_eui = body.accept.dev_eui;
        let content = Content { mac_commands, item, f_pending, ack };
        if !self.compose(now, devices, flow, &question, &content) {
            self.not_sent(now, dev_eui, NotSent::NoNumber);
            self.done(now, flow);
        }
    }

    /// Draws a number, fixes the bytes for ever, and sends the number to the disk before them.
    ///
    /// * Returns false when this home holds no number. In every other case the flow goes on or
    ///   rests.
    fn compose(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        question: &Question<'_>,
        content: &Content,
    ) -> bool {
        let Body::Data(body) = &flow.body else { return false };
        let (dev_eui, epoch) = (body.accept.dev_eui, body.accept.session_epoch);
        let session = question.view.session;
        let Some(keys) = devices.keys(dev_eui, session) else {
            self.not_sent(now, dev_eui, NotSent::NoKey);
            self.done(now, flow);
            return true;
        };
        let Some((f_cnt_down, grant)) = self.cursors.draw(dev_eui, epoch) else { return false };
        let bytes = match build(&keys, session, f_cnt_down, content) {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = match error {
                    BuildError::NoAppKey => NotSent::NoKey,
                    BuildError::WrongNumber => NotSent::NoNumber,
                    BuildError::Encode(_) => NotSent::TooLarge,
                };
                self.not_sent(now, dev_eui, why);
                self.done(now, flow);
                return true;
            }
        };
        let item_id = content.item.as_ref().map(|item| item.item_id);
        let home_epoch = grant.home_epoch;
        let numbered = Numbered { epoch, home_epoch, f_cnt_down, item_id, reported: false };
        self.remember(now, &flow.key, &bytes, &numbered);
        let gateways = reachable(devices, &flow.heard);
        let delay = self.config.gateway_delay;
        let dev_addr = Some(session.dev_addr);
        let windows = &question.windows;
        match Transmission::new(bytes, dev_addr, Some(numbered), &gateways, windows, delay) {
            Ok(transmission) => {
                self.next_token += 1;
                let token = self.next_token;
                flow.links.push(Link::Token(token));
                flow.deadline = transmission.latest().max(now.instant);
                flow.stage = Stage::Persisting { transmission: Box::new(transmission) };
                self.effects.push_back(Effect::PersistCursor(CursorWrite {
                    dev_eui,
                    session_epoch: epoch,
                    counter: CounterKind::Network,
                    home_epoch,
                    next_unused: f_cnt_down + 1,
                    token,
                }));
            }
            Err(why) => {
                self.not_sent(now, dev_eui, why);
                self.done(now, flow);
            }
        }
        true
    }

    /// A number is on the disk: its frame may leave.
    pub fn handle_cursor_persisted(&mut self, now: Now, token: u64) {
        let Some((id, mut flow)) = self.flows.take(Link::Token(token)) else { return };
        match core::mem::replace(&mut flow.stage, Stage::Done) {
            Stage::Persisting { transmission } => self.transmit(now, &mut flow, transmission),
            stage @ (Stage::Away { .. }
            | Stage::Watching { .. }
            | Stage::Collecting
            | Stage::Deciding { .. }
            | Stage::Waiting
            | Stage::Planning { .. }
            | Stage::Sending { .. }
            | Stage::Done) => flow.stage = stage,
        }
        self.flows.put(id, flow);
    }

    /// Whether nobody was granted numbers after this home, as far as it knows. What is left of an
    /// older grant lies below: a device that has heard the newer one refuses it.
    fn holds_newest(&self, ask: &PlanDownlink, question: &Question<'_>) -> bool {
        let held = self.cursors.home_epoch(ask.dev_eui, ask.session_epoch);
        held >= Some(question.view.session.n_f_cnt_down.home_epoch)
    }

    fn ask_plan(&mut self, flow: &mut Flow, plan: PlanDownlink, until: Instant) {
        let request = self.draw_request();
        flow.links.push(Link::Request(request));
        self.effects.push_back(Effect::Plan { request, plan: plan.clone() });
        flow.stage = Stage::Planning { request, plan, again: false, until };
        flow.deadline = until;
    }

    /// What the uplink asks for, and when its device listens; `None` if the session is gone.
    fn question<'a>(&self, devices: &'a impl Devices, flow: &Flow) -> Option<Question<'a>> {
        let Body::Data(body) = &flow.body else { return None };
        let accept = &body.accept;
        let view = devices.session(accept.dev_eui, accept.session_epoch)?;
        let region = view.profile.region_table().ok()?;
        let windows = data_windows(region, view.session, accept.frequency_hz, accept.dr);
        let end = end_of_uplink(&flow.heard, flow.received_wall);
        let answers = answers(&accept.mac_commands, &flow.heard, accept.modulation, end);
        let due =
            accept.confirmed || accept.adr_ack_req || answers.sticky || !answers.bytes.is_empty();
        let latest = latest(&flow.heard, &windows, self.config.gateway_delay);
        Some(Question { view, windows, answers, due, latest })
    }

    /// What a frame that came again asks for; `None` also if the device has said something since:
    /// it does not listen for this answer any more, whose number may overtake the newer one's.
    fn asked_again<'a>(&self, devices: &'a impl Devices, flow: &Flow) -> Option<Question<'a>> {
        let Body::Data(body) = &flow.body else { return None };
        let question = self.question(devices, flow)?;
        let is_last = question.view.session.uplink.digest == Some(body.accept.digest);
        is_last.then_some(question)
    }

    fn plan_of(&self, question: &Question<'_>, body: &DataBody, number_only: bool) -> PlanDownlink {
        let accept = &body.accept;
        let answers_len = question.answers.bytes.len().min(ANSWERS_LEN_MAX);
        PlanDownlink {
            dev_eui: accept.dev_eui,
            session_epoch: accept.session_epoch,
            home: self.config.home,
            cursor: self.cursors.next(accept.dev_eui, accept.session_epoch),
            a_cursor: None,
            max_payload: question.windows.iter().map(|w| w.payload_max).max().unwrap_or(0),
            answers_len: u8::try_from(answers_len).unwrap_or(u8::MAX),
            uplink_f_cnt: accept.f_cnt,
            number_only,
        }
    }

    /// Why nothing can reach the device now, before anything is handed out for it.
    fn hopeless(
        &self,
        now: Now,
        devices: &impl Devices,
        flow: &Flow,
        question: &Question<'_>,
    ) -> Option<NotSent> {
        let gateways = reachable(devices, &flow.heard);
        if gateways.is_empty() {
            return Some(no_path(devices, &flow.heard));
        }
        if question.windows.is_empty() {
            return Some(NotSent::NoWindow);
        }
        if now.instant > question.latest {
            return Some(NotSent::TooLate);
        }
        let free = gateways.iter().any(|heard| {
            let Reception { gateway, tmst, .. } = heard.reception;
            let slot = |window| window_slot(tmst, window, EMPTY_FRAME_LEN);
            let mut windows = question.windows.iter().filter(|window| heard.precedes(window));
            windows.any(|window| self.calendar.is_free(gateway, slot(window), &[]))
        });
        (!free).then_some(NotSent::Busy)
    }
}

fn is_queued(item: &crate::transition::QueueItem<'_>) -> bool {
    item.state == crate::transition::ItemState::Queued
}

/// A gateway with GPS time knows best; else the arrival here stands for it.
fn end_of_uplink(heard: &[Heard], received: WallTime) -> clock::GpsTime {
    let gps = heard.iter().find_map(|heard| heard.reception.gps_micros);
    gps.map_or_else(|| received.to_gps(), clock::GpsTime::from_micros)
}
