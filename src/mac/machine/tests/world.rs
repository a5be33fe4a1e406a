//! A world around the machine: devices and gateways, a log that decides at once, gateways that
//! answer as told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use clock::{Duration, Instant, Now, WallTime};
use lorawan::{
    CrcStatus, DataMessage, DevAddr, DevEui, DevNonce, Direction, Downlink, FCtrl, GatewayEui,
    JoinEui, JoinNonce, Key, MacCommand as _, MicContext, Modulation, NetId, TxAck, TxStatus,
    Uplink, UplinkMacCommand,
};

use super::super::{
    CursorWrite, Devices, Effect, GatewayView, Home, JoinView, LogEvent, Mac, MacConfig,
    SessionView, UplinkError, What,
};
use crate::fixtures::{DEV_ADDR, DEV_EUI, HOME, case_keys, lora, profile, sealed, session};
use crate::transition::{
    Confirmation, DeviceStatus, DiscardReason, ItemFate, ItemState, QueueItem, accept_uplink,
    activate_join, apply_mac_answers, confirm, hand_out, install, plan, record_tx_ack, void_grants,
};
use crate::{
    AcceptJoin, AcceptUplink, DeviceSession, JoinReply, MacProfile, NodeId, PlanDownlink,
    PlanReply, RecordTxAck, Sealed, SessionEpoch, SessionKeys, UplinkReply,
};

pub(super) const GATEWAY: GatewayEui = GatewayEui::from_be_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
pub(super) const SECOND: GatewayEui = GatewayEui::from_be_bytes([2, 2, 3, 4, 5, 6, 7, 8]);
/// What the forwarder takes to answer a PULL_RESP.
const ACK_AFTER: Duration = Duration::from_millis(10);
/// UTC at the machine's origin.
const WALL_ORIGIN_SECS: i64 = 1_790_000_000;

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: u8,
    pub(super) f_port: u8,
    pub(super) confirmed: bool,
    pub(super) data: Bytes,
    pub(super) state: ItemState,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) session: Option<DeviceSession>,
    pub(super) profile: MacProfile,
    pub(super) skip_f_cnt_check: bool,
    pub(super) is_disabled: bool,
    pub(super) join_eui: Option<JoinEui>,
    pub(super) root: Option<Key>,
    pub(super) next_join_nonce: JoinNonce,
    pub(super) nonces: BTreeSet<(JoinEui, DevNonce)>,
    pub(super) queue: Vec<Item>,
    pub(super) last_home: Option<NodeId>,
}

/// The applied state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) devices: BTreeMap<DevEui, Device>,
    /// Registered gateways, and whether a downlink can reach them.
    pub(super) gateways: BTreeMap<GatewayEui, bool>,
    /// The home of every device, if it is another node.
    pub(super) home: Option<NodeId>,
    /// Other nodes that can be reached.
    pub(super) within_reach: BTreeSet<NodeId>,
}

impl Devices for State {
    fn sessions(&self, dev_addr: DevAddr) -> Vec<SessionView<'_>> {
        let all = self.devices.iter().filter_map(|(dev_eui, device)| device.view(*dev_eui));
        all.filter(|view| view.session.dev_addr == dev_addr).collect()
    }

    fn session(&self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<SessionView<'_>> {
        let view = self.devices.get(&dev_eui)?.view(dev_eui)?;
        (view.session.epoch == epoch).then_some(view)
    }

    fn keys(&self, _: DevEui, session: &DeviceSession) -> Option<SessionKeys> {
        SessionKeys::from_bytes(&session.keys.bytes).ok()
    }

    fn seal(&self, _: DevEui, keys: &SessionKeys, nonce: [u8; 24]) -> Option<Sealed> {
        Some(sealed(keys, nonce))
    }

    fn join(&self, dev_eui: DevEui) -> Option<JoinView<'_>> {
        self.devices.get(&dev_eui).map(|device| JoinView {
            profile: &device.profile,
            is_disabled: device.is_disabled,
            join_eui: device.join_eui,
            nwk_key: device.root.clone(),
            next_join_nonce: device.next_join_nonce,
        })
    }

    fn is_nonce_used(&self, dev_eui: DevEui, join_eui: JoinEui, nonce: DevNonce) -> bool {
        self.devices[&dev_eui].nonces.contains(&(join_eui, nonce))
    }

    fn is_dev_addr_taken(&self, dev_addr: DevAddr) -> bool {
        !self.sessions(dev_addr).is_empty()
    }

    fn queue(&self, dev_eui: DevEui) -> Vec<QueueItem<'_>> {
        self.devices[&dev_eui].items()
    }

    fn gateway(&self, gateway: GatewayEui) -> Option<GatewayView> {
        self.gateways.get(&gateway).map(|has_path| GatewayView { has_path: *has_path })
    }

    fn home(&self, _: DevEui) -> Home {
        let home = self.home.filter(|home| self.within_reach.contains(home));
        home.map_or(Home::Here, Home::There)
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        self.within_reach.contains(&node)
    }

    fn pull_age(&self, gateway: GatewayEui) -> Option<Duration> {
        let has_path = self.gateways.get(&gateway)?;
        Some(Duration::from_secs(if *has_path { 1 } else { 12 }))
    }
}

impl Device {
    fn view(&self, dev_eui: DevEui) -> Option<SessionView<'_>> {
        Some(SessionView {
            dev_eui,
            session: self.session.as_ref()?,
            profile: &self.profile,
            skip_f_cnt_check: self.skip_f_cnt_check,
            is_disabled: self.is_disabled,
        })
    }

    fn items(&self) -> Vec<QueueItem<'_>> {
        let items = self.queue.iter().map(|item| QueueItem {
            id: [item.id; 16],
            f_port: item.f_port,
            confirmed: item.confirmed,
            data: &item.data,
            encrypted_f_cnt: None,
            expires_at: None,
            state: item.state,
        });
        items.collect()
    }
}

/// Everything that came out.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) accepts: Vec<AcceptUplink>,
    pub(super) accepted: Vec<AcceptUplink>,
    pub(super) joins: Vec<AcceptJoin>,
    pub(super) plans: Vec<PlanDownlink>,
    pub(super) sent: Vec<(u64, Downlink)>,
    pub(super) cursors: Vec<CursorWrite>,
    pub(super) records: Vec<RecordTxAck>,
    pub(super) whats: Vec<What>,
    pub(super) logs: Vec<LogEvent>,
    pub(super) statuses: Vec<DeviceStatus>,
    pub(super) confirmations: Vec<Confirmation>,
    pub(super) discarded: Vec<DiscardReason>,
    pub(super) handed_over: Vec<(NodeId, Uplink)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) mac: Mac,
    pub(super) state: State,
    pub(super) seen: Seen,
    /// What gateways answer next; afterwards they take everything. `None`: silence.
    pub(super) acks: VecDeque<Option<TxStatus>>,
    /// Questions the log leaves unanswered, from now on.
    pub(super) log_is_away: bool,
    pub(super) unanswered: Vec<Effect>,
    now_micros: u64,
    pending_acks: Vec<(u64, TxAck)>,
}

impl World {
    /// One gateway and the device of the published cases, with a profile of `region`.
    pub(super) fn new(region: &str) -> Self {
        let profile = profile(region);
        let device = Device {
            session: Some(session(&profile)),
            profile,
            skip_f_cnt_check: false,
            is_disabled: false,
            join_eui: None,
            root: Some(Key::from_bytes([0x2B; 16])),
            next_join_nonce: JoinNonce(1),
            nonces: BTreeSet::new(),
            queue: Vec::new(),
            last_home: None,
        };
        let net_id = NetId::from_be_bytes([0, 0, 0]);
        Self {
            mac: Mac::new(MacConfig::new(HOME, net_id), [7; 32]),
            state: State {
                devices: BTreeMap::from([(DEV_EUI, device)]),
                gateways: BTreeMap::from([(GATEWAY, true)]),
                home: None,
                within_reach: BTreeSet::new(),
            },
            seen: Seen::default(),
            acks: VecDeque::new(),
            log_is_away: false,
            unanswered: Vec::new(),
            now_micros: 0,
            pending_acks: Vec::new(),
        }
    }

    pub(super) fn device(&mut self) -> &mut Device {
        self.state.devices.get_mut(&DEV_EUI).unwrap()
    }

    pub(super) fn session(&self) -> &DeviceSession {
        self.state.devices[&DEV_EUI].session.as_ref().unwrap()
    }

    pub(super) fn enqueue(&mut self, id: u8, confirmed: bool, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let item = Item { id, f_port: 10, confirmed, data, state: ItemState::Queued };
        self.device().queue.push(item);
    }

    pub(super) fn now(&self) -> Now {
        let micros = WALL_ORIGIN_SECS * 1_000_000 + self.now_micros.cast_signed();
        Now {
            instant: Instant::from_micros(self.now_micros),
            wall: WallTime::from_unix_micros(micros),
        }
    }

    /// A frame reaches `gateway` at `millis`; whatever is due before happens first.
    pub(super) fn hear(
        &mut self,
        millis: u64,
        gateway: GatewayEui,
        snr_ddb: i16,
        (frequency_hz, modulation): (u32, Modulation),
        frame: &Bytes,
    ) -> Result<(), UplinkError> {
        self.run_to(millis);
        let now = self.now();
        let rx = Uplink {
            phy_payload: frame.clone(),
            gateway,
            received_at: now.instant,
            gateway_time: None,
            gps_time: None,
            frequency_hz,
            modulation,
            rssi_dbm: -80,
            snr_ddb,
            channel: 0,
            rf_chain: 1,
            antenna: 0,
            // Its counter began with the world's.
            tmst: u32::try_from(self.now_micros).unwrap(),
            crc: CrcStatus::Ok,
        };
        let result = self.mac.handle_uplink(now, &self.state, rx);
        self.drain();
        result
    }

    /// The frame of a case: SF12 on 868.1 MHz over one gateway.
    pub(super) fn hear_868(&mut self, millis: u64, frame: &Bytes) {
        self.hear(millis, GATEWAY, 0, (868_100_000, lora(12, 125)), frame).unwrap();
    }

    /// Lets time pass until `millis`.
    pub(super) fn run_to(&mut self, millis: u64) {
        let end = millis * 1_000;
        self.drain();
        loop {
            let timer = self.mac.poll_timeout().map(|(at, _)| at.as_micros().max(self.now_micros));
            let ack = self.pending_acks.iter().map(|(at, _)| *at).min();
            let Some(next) = timer.into_iter().chain(ack).min().filter(|at| *at <= end) else {
                break;
            };
            self.now_micros = next;
            if let Some(at) = self.pending_acks.iter().position(|(at, _)| *at <= next) {
                let (_, ack) = self.pending_acks.remove(at);
                self.mac.handle_tx_ack(self.now(), ack);
            } else {
                self.mac.handle_timeout(self.now(), &self.state);
            }
            self.drain();
        }
        self.now_micros = end;
    }

    pub(super) fn drain(&mut self) {
        while let Some(effect) = self.mac.poll_effect() {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let now = self.now();
        if self.log_is_away
            && matches!(effect, Effect::Accept { .. } | Effect::Join { .. } | Effect::Plan { .. })
        {
            self.unanswered.push(effect);
            return;
        }
        match effect {
            Effect::Accept { request, accept } => {
                self.seen.accepts.push((*accept).clone());
                let reply = self.apply_uplink(&accept, now.wall);
                self.mac.handle_uplink_reply(now, &self.state, request, reply);
            }
            Effect::Join { request, join } => {
                self.seen.joins.push((*join).clone());
                let reply = self.apply_join(&join);
                self.mac.handle_join_reply(now, &self.state, request, reply);
            }
            Effect::Plan { request, plan } => {
                let reply = self.apply_plan(&plan, now.wall);
                self.seen.plans.push(plan);
                self.mac.handle_plan_reply(now, &self.state, request, reply);
            }
            Effect::Record { request, record } => {
                record_tx_ack(self.device().session.as_mut().unwrap(), &record);
                self.seen.records.push(record);
                self.mac.handle_recorded(request);
            }
            Effect::PersistCursor(write) => {
                self.seen.cursors.push(write);
                self.mac.handle_cursor_persisted(now, write.token);
            }
            Effect::Send(downlink) => {
                if let Some(status) = self.acks.pop_front().unwrap_or(Some(TxStatus::Ok)) {
                    let Downlink { gateway, downlink_id, .. } = downlink;
                    let at = self.now_micros + u64::try_from(ACK_AFTER.as_micros()).unwrap();
                    self.pending_acks.push((at, TxAck { gateway, downlink_id, status }));
                }
                self.seen.sent.push((self.now_micros / 1_000, downlink));
            }
            Effect::HandOver { to, uplink } => self.seen.handed_over.push((to, *uplink)),
            Effect::Verdict(verdict) => self.seen.whats.push(verdict.what),
            Effect::Log(event) => self.seen.logs.push(event),
        }
    }

    /// The node dies and starts anew: nothing it remembered is left, its grants are void.
    ///
    /// * `decided`: what the log had not answered is decided after all, and nobody hears of it.
    pub(super) fn restart(&mut self, decided: bool, seed: u8) {
        for effect in core::mem::take(&mut self.unanswered) {
            let now = self.now().wall;
            if let (Effect::Accept { accept, .. }, true) = (&effect, decided) {
                self.apply_uplink(accept, now);
            } else if let (Effect::Plan { plan, .. }, true) = (&effect, decided) {
                self.apply_plan(plan, now);
            }
        }
        self.log_is_away = false;
        self.pending_acks.clear();
        let net_id = NetId::from_be_bytes([0, 0, 0]);
        self.mac = Mac::new(MacConfig::new(HOME, net_id), [seed; 32]);
        void_grants(self.device().session.as_mut().unwrap(), HOME);
    }

    /// Answers what was held back while the log was away.
    pub(super) fn log_returns(&mut self) {
        self.log_is_away = false;
        for effect in core::mem::take(&mut self.unanswered) {
            self.perform(effect);
        }
        self.drain();
    }

    pub(super) fn apply_uplink(&mut self, accept: &AcceptUplink, now: WallTime) -> UplinkReply {
        let Some(device) = self.state.devices.get_mut(&accept.dev_eui) else {
            return UplinkReply::Gone;
        };
        let Some(session) = &mut device.session else { return UplinkReply::Gone };
        let skip = device.skip_f_cnt_check;
        let reply = accept_uplink(session, skip, device.last_home, accept, now);
        if matches!(reply, UplinkReply::Accepted { .. }) {
            let commands: Vec<_> =
                UplinkMacCommand::walk(&accept.mac_commands).map_while(Result::ok).collect();
            let outcome = apply_mac_answers(session, &device.profile, &commands, now);
            self.seen.statuses.extend(outcome.status);
            device.last_home = Some(accept.home);
            let mut session = device.session.clone().unwrap();
            let settled = confirm(&mut session, &device.profile, &device.items(), accept.ack, now);
            device.session = Some(session);
            device.queue.retain(|item| settled.iter().all(|c| c.item_id != [item.id; 16]));
            let told = settled.into_iter().filter(|c| c.fate != ItemFate::Finished);
            self.seen.confirmations.extend(told);
            self.seen.accepted.push(accept.clone());
        }
        reply
    }

    fn apply_join(&mut self, join: &AcceptJoin) -> JoinReply {
        let Some(device) = self.state.devices.get_mut(&join.dev_eui) else {
            return JoinReply::Gone;
        };
        if join.expected_join_nonce != device.next_join_nonce {
            return JoinReply::JoinNonceMoved { next: device.next_join_nonce };
        }
        if !device.nonces.insert((join.join_eui, join.dev_nonce)) {
            return JoinReply::DevNonceUsed;
        }
        device.next_join_nonce.0 += 1;
        let session_epoch = SessionEpoch(device.session.as_ref().map_or(1, |s| s.epoch.0 + 1));
        let fresh = activate_join(join, &device.profile, session_epoch).unwrap();
        device.session = Some(install(fresh, session_epoch, device.session.as_ref()));
        JoinReply::Accepted { session_epoch }
    }

    fn apply_plan(&mut self, ask: &PlanDownlink, now: WallTime) -> PlanReply {
        let device = self.state.devices.get_mut(&ask.dev_eui).unwrap();
        let session = device.session.clone().unwrap();
        let planned = plan(&session, &device.profile, &device.items(), ask, now);
        let (reply, number) = hand_out(device.session.as_mut().unwrap(), &planned, ask, now);
        self.seen.discarded.extend(planned.discarded.iter().map(|(_, why)| *why));
        device.queue.retain(|item| planned.discarded.iter().all(|(id, _)| *id != [item.id; 16]));
        if let Some(handed) = planned.item {
            for item in device.queue.iter_mut().filter(|item| [item.id; 16] == handed.item_id) {
                let f_cnt_down = number.unwrap();
                item.state = match item.confirmed {
                    true => ItemState::AwaitsAck { f_cnt_down, since: now },
                    false => ItemState::HandedOut,
                };
            }
        }
        reply
    }

    /// The downlinks sent so far: when, over which gateway, the bytes.
    pub(super) fn downlinks(&self) -> Vec<(u64, GatewayEui, String)> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let sent = self.seen.sent.iter();
        sent.map(|(at, d)| (*at, d.gateway, hex(&d.phy_payload))).collect()
    }
}

/// A data uplink of the device of the cases.
pub(super) fn data_up(confirmed: bool, fcnt: u32, fctrl: FCtrl, f_opts: &[u8]) -> Bytes {
    payload_up(confirmed, fcnt, fctrl, f_opts, &[1, 2, 3])
}

/// The same with a payload of its own.
pub(super) fn payload_up(
    confirmed: bool,
    fcnt: u32,
    fctrl: FCtrl,
    f_opts: &[u8],
    payload: &[u8],
) -> Bytes {
    let message = DataMessage {
        direction: Direction::Up,
        confirmed,
        dev_addr: DEV_ADDR,
        fctrl,
        fcnt,
        f_opts,
        f_port: Some(1),
        payload,
    };
    let ciphers = case_keys().ciphers(crate::MacVersion::V1_0_4);
    ciphers.seal(&message, MicContext::default()).unwrap().into()
}

/// A plain data uplink.
pub(super) fn plain_up(fcnt: u32) -> Bytes {
    data_up(false, fcnt, FCtrl::default(), &[])
}

/// A confirmed data uplink.
pub(super) fn confirmed_up(fcnt: u32) -> Bytes {
    data_up(true, fcnt, FCtrl::default(), &[])
}
