//! Devices and what is about them: frames, queue, activation.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{CodeRate, DevEui, DevNonce, JoinNonce, Modulation, TxStatus};
use mac::transition::{AbpActivation, activate_abp};
use mac::{
    AcceptJoin, AcceptUplink, DeviceSession, Digest, DownlinkCounter, MacVersion, NodeId,
    PlanDownlink, Reception, RecordTxAck, SessionEpoch,
};
use store::Command;
use store::model::{Device, ItemState, QueueItem};

use super::super::model::Model;
use super::super::names::{address, device, gateway, item, join_eui, node, sealed, sealed_by_join};
use super::registry::mac_profile;
use super::{Script, bit, op, two};

/// What devices answer to MAC requests: nothing, a status, a yes to everything, a no, a fragment.
const MAC_ANSWERS: [&[u8]; 5] = [
    &[],
    &[0x06, 128, 10],
    &[0x03, 7, 0x03, 7, 0x05, 7, 0x06, 255, 63, 0x07, 3, 0x08],
    &[0x03, 0, 0x05, 0, 0x07, 0],
    &[0x06, 1, 2, 0x06, 3, 4, 0x05],
];

const STATUSES: [Option<TxStatus>; 4] =
    [Some(TxStatus::Ok), None, Some(TxStatus::TooLate), Some(TxStatus::InternalError)];

fn lora() -> Modulation {
    Modulation::Lora { spreading_factor: 7, bandwidth_hz: 125_000, code_rate: CodeRate::Cr45 }
}

/// What the proposer knows of a device; nothing of one that is not there.
struct Known<'a>(Option<&'a Device>);

impl<'a> Known<'a> {
    fn of(model: &'a Model, dev_eui: DevEui) -> Self {
        Self(model.devices.get(&dev_eui))
    }

    fn session(&self) -> Option<&'a DeviceSession> {
        self.0?.session.as_ref()
    }

    fn pending(&self) -> Option<&'a DeviceSession> {
        self.0?.pending_session.as_ref()
    }

    /// The session's epoch, that of the one to come, the one before, or one that never was.
    fn epoch(&self, choice: u8) -> SessionEpoch {
        let current = self.session().map_or(SessionEpoch(1), |session| session.epoch);
        match choice {
            0 | 1 => current,
            2 => self.pending().map_or(current, |session| session.epoch),
            _ => SessionEpoch(current.0.saturating_sub(1)),
        }
    }

    /// First number of a grant not used: none known, all unused, all used, or long ago.
    fn cursor(counter: Option<DownlinkCounter>, choice: u8) -> Option<u32> {
        let grant = counter?.grant;
        match choice {
            0 => None,
            1 => grant.map(|grant| grant.lo),
            2 => grant.map(|grant| grant.hi),
            _ => Some(0),
        }
    }
}

impl Script<'_> {
    /// `[device, flags, what, extra]`
    ///
    /// * flags: epoch (2 bits), cursor (2), node (1), ack, confirmed, no port.
    /// * what: counter (4 bits), content (2), time (2). extra: MAC answers (4 bits), ADR, who heard
    ///   it or receptions.
    pub(super) fn uplink(&mut self, model: &Model) -> Command {
        let (dev_eui, flags) = (device(self.pick(4)), self.byte());
        let (what, extra) = (self.byte(), self.byte());
        let known = Known::of(model, dev_eui);
        let session_epoch = known.epoch(two(flags, 0));
        let mut speaks = [known.session(), known.pending()].into_iter().flatten();
        let session = speaks.rfind(|session| session.epoch == session_epoch);
        let session = session.or(known.session());
        let last = session.and_then(|session| session.uplink.last);
        let f_cnt = match what % 16 {
            0..6 => last.map_or(0, |last| last.saturating_add(1)),
            6 | 7 => last.unwrap_or(0),
            8 => last.unwrap_or(1).saturating_sub(1),
            9 => 0,
            10 => last.unwrap_or(0).saturating_add(2),
            11 => last.unwrap_or(0).saturating_add(16_384),
            12 => last.unwrap_or(0).saturating_add(16_385),
            13 => 1,
            14 => 2,
            _ => u32::MAX,
        };
        let repeated = session.and_then(|session| session.uplink.digest);
        let digest = match two(what, 4) {
            0 | 1 => repeated.filter(|_| Some(f_cnt) == last).unwrap_or(Digest([1; 16])),
            other => Digest([other; 16]),
        };
        let counter = session.map(|session| session.n_f_cnt_down);
        let has_port = !bit(flags, 7);
        Command::AcceptUplink(Box::new(AcceptUplink {
            dev_eui,
            session_epoch,
            f_cnt,
            digest,
            home: node(u8::from(bit(flags, 4))),
            cursor: Known::cursor(counter, two(flags, 2)),
            confirmed: bit(flags, 6),
            adr: bit(extra, 4),
            adr_ack_req: false,
            ack: bit(flags, 5),
            class_b: false,
            f_port: has_port.then_some(1),
            data: if has_port { Bytes::from_static(&[1, 2, 3]) } else { Bytes::new() },
            mac_commands: Bytes::from_static(MAC_ANSWERS[usize::from(extra % 16 % 5)]),
            dr: extra % 6,
            frequency_hz: 868_100_000,
            modulation: lora(),
            receptions: receptions(extra, model.now),
            received_at: moment(model, two(what, 6)),
            heard_by: heard_by(extra),
        }))
    }

    /// `[device, nonce, flags]`: expected JoinNonce (2 bits), join server (1), address (2), node
    /// (1), time (2).
    pub(super) fn join(&mut self, model: &Model) -> Command {
        let (dev_eui, nonce, flags) = (device(self.pick(4)), self.byte(), self.byte());
        let known = Known::of(model, dev_eui);
        let keys = known.0.and_then(|device| device.keys.as_ref());
        let next = keys.map_or(JoinNonce(1), |keys| keys.next_join_nonce);
        let expected_join_nonce = match two(flags, 0) {
            0 | 1 => next,
            2 => JoinNonce(next.0 + 1),
            _ => JoinNonce(next.0.saturating_sub(1)),
        };
        let join_eui = join_eui(u8::from(bit(flags, 2)));
        let used = keys.map_or(&[][..], |keys| keys.nonces_of(join_eui));
        let highest = used.last().map_or(0, |nonce| nonce.0);
        let dev_nonce = match nonce % 8 {
            0..4 => highest.wrapping_add(1),
            4 => highest,
            5 => used.first().map_or(9, |nonce| nonce.0),
            6 => u16::from(nonce / 8),
            _ => u16::MAX,
        };
        let profile = known.0.and_then(|device| model.profiles.get(&device.device_profile_id));
        Command::AcceptJoin(Box::new(AcceptJoin {
            dev_eui,
            join_eui,
            dev_nonce: DevNonce(dev_nonce),
            expected_join_nonce,
            dev_addr: address(two(flags, 3)),
            mac_version: profile.map_or(MacVersion::V1_0_4, |profile| profile.mac.mac_version),
            // Each join that is accepted writes a row.
            keys: sealed_by_join(model.row_count),
            rx1_delay_s: 1,
            rx1_dr_offset: 0,
            rx2_dr: 0,
            extra_channels_hz: vec![],
            home: node(u8::from(bit(flags, 5))),
            dr: 5,
            frequency_hz: 868_100_000,
            modulation: lora(),
            receptions: vec![],
            received_at: moment(model, two(flags, 6)),
        }))
    }

    /// `[device, flags, space]`: epoch (2 bits), cursor (2), node (1), number only, cursor of 1.1
    /// (2).
    pub(super) fn plan(&mut self, model: &Model) -> Command {
        let (dev_eui, flags, space) = (device(self.pick(4)), self.byte(), self.byte());
        let known = Known::of(model, dev_eui);
        let session = known.session();
        let (n, a) = (session.map(|one| one.n_f_cnt_down), session.map(|one| one.a_f_cnt_down));
        Command::PlanDownlink(PlanDownlink {
            dev_eui,
            session_epoch: known.epoch(two(flags, 0)),
            home: node(u8::from(bit(flags, 4))),
            cursor: Known::cursor(n, two(flags, 2)),
            a_cursor: Known::cursor(a, two(flags, 6)),
            max_payload: [51, 51, 242, 51, 11, 0, 3, 255][usize::from(space % 8)],
            answers_len: [0, 0, 0, 2, 15, 16, 50, 255][usize::from(space / 8 % 8)],
            uplink_f_cnt: 0,
            number_only: bit(flags, 5),
        })
    }

    /// `[device, item, flags]`
    ///
    /// * item: 6 and 7 mean none, 8 and above one that is in the queue.
    /// * flags: status (2 bits), number (2), epoch (2), counter of 1.1, gateway.
    pub(super) fn tx_ack(&mut self, model: &Model) -> Command {
        let (dev_eui, number, flags) = (device(self.pick(4)), self.byte(), self.byte());
        let known = Known::of(model, dev_eui);
        let queue = known.0.map_or(&[][..], |device| &device.queue);
        let at = usize::from(number - number.min(8)) % queue.len().max(1);
        let meant = queue.get(at).filter(|_| number >= 8);
        let item_id = match number {
            6 | 7 => None,
            0..6 => Some(item(number).0),
            8.. => meant.map(|item| item.id.0),
        };
        let a_counter = bit(flags, 6);
        let counter = known.session().map(|session| match a_counter {
            true => session.a_f_cnt_down,
            false => session.n_f_cnt_down,
        });
        let next = counter.map_or(0, |counter| counter.next);
        let awaited = meant.and_then(|item| match item.state {
            ItemState::AwaitsAck { f_cnt_down, .. } => Some(f_cnt_down),
            ItemState::Queued | ItemState::HandedOut => None,
        });
        let f_cnt_down = match two(flags, 2) {
            0 => awaited.unwrap_or(next.saturating_sub(1)),
            1 => next.saturating_sub(1),
            2 => next.saturating_sub(2),
            _ => 0,
        };
        Command::RecordTxAck(RecordTxAck {
            dev_eui,
            session_epoch: known.epoch(two(flags, 4)),
            f_cnt_down,
            a_counter,
            item_id,
            status: STATUSES[usize::from(two(flags, 0))],
            gateway: gateway(u8::from(bit(flags, 7))),
            // No home gives two downlinks one name.
            downlink_id: f_cnt_down << 1 | u32::from(a_counter),
            frequency_hz: 868_100_000,
            eirp_dbm: 14,
            modulation: lora(),
            delay_s: 1,
        })
    }

    /// `[device, item, flags, kind]`
    ///
    /// * flags: confirmed (2 bits), length (3), encrypted for (3). kind: port (2), end (2), state.
    pub(super) fn enqueue(&mut self, model: &Model) -> Command {
        let (dev_eui, number) = (device(self.pick(4)), self.pick(6));
        let (flags, kind) = (self.byte(), self.byte());
        let session = Known::of(model, dev_eui).session();
        let next = session.map_or(0, |session| match session.mac_version.is_1_1() {
            true => session.a_f_cnt_down.next,
            false => session.n_f_cnt_down.next,
        });
        let item = QueueItem {
            id: item(number),
            f_port: [10, 223, 0, 224][usize::from(two(kind, 0))],
            confirmed: bit(flags, 0),
            data: vec![number; [3, 0, 11, 51, 52, 242, 243, 3][usize::from(flags / 4 % 8)]].into(),
            encrypted_f_cnt: match flags >> 5 {
                4 => Some(next),
                5 => Some(next.saturating_sub(1)),
                6 => Some(next.saturating_add(1_024)),
                7 => Some(next.saturating_add(1_025)),
                _ => None,
            },
            expires_at: match two(kind, 2) {
                0 | 1 => None,
                2 => Some(moment(model, 0)),
                _ => Some(moment(model, 3)),
            },
            // An import brings what another server has sent already.
            state: match kind >> 4 {
                14 => ItemState::HandedOut,
                15 => ItemState::AwaitsAck { f_cnt_down: next, since: model.now },
                _ => ItemState::Queued,
            },
            created_at: WallTime::UNIX_EPOCH,
        };
        Command::Enqueue { dev_eui, item }
    }

    /// Queue, activation, keys, deletion: `[device]` and what the opcode needs.
    pub(super) fn device_command(&mut self, opcode: u8) -> Command {
        let dev_eui = device(self.pick(4));
        match opcode {
            op::FLUSH_QUEUE => Command::FlushQueue(dev_eui),
            op::CANCEL_ITEM => Command::CancelItem { dev_eui, item_id: item(self.pick(6)) },
            op::ACTIVATE => self.activate(dev_eui),
            op::DEACTIVATE => Command::Deactivate(dev_eui),
            op::PUT_DEVICE => self.put_device(dev_eui),
            op::DELETE_DEVICE => Command::DeleteDevice(dev_eui),
            op::SET_KEYS => {
                let flags = self.byte();
                Command::SetDeviceKeys {
                    dev_eui,
                    must_exist: super::registry::must_exist(flags),
                    nwk_key: sealed(flags),
                    app_key: bit(flags, 2).then(|| sealed(9)),
                }
            }
            op::DELETE_KEYS => Command::DeleteDeviceKeys(dev_eui),
            _ => Command::FlushDevNonces(dev_eui),
        }
    }

    /// `[flags, counters]`: address (1 bit), imported (1), version (2); next up (2), next down (3).
    fn activate(&mut self, dev_eui: DevEui) -> Command {
        let (flags, counters) = (self.byte(), self.byte());
        let dev_addr = address(flags % 2);
        let first = [0, 5, 1_000, u32::MAX - 1][usize::from(two(counters, 2))];
        let versions =
            [MacVersion::V1_0_4, MacVersion::V1_0_2, MacVersion::V1_1_0, MacVersion::V1_0_4];
        let mac_version = versions[usize::from(two(flags, 2))];
        let activation = AbpActivation {
            dev_addr,
            mac_version,
            // One address stands for one set of keys.
            keys: sealed(200 + flags % 2),
            f_cnt_up: [0, 8, 1, u32::MAX][usize::from(two(counters, 0))],
            n_f_cnt_down: first,
            a_f_cnt_down: first,
            rx1_delay_s: None,
            rx1_dr_offset: None,
            rx2_dr: None,
            rx2_frequency_hz: None,
            channels: None,
        };
        let profile = mac_profile(0);
        let mut session = activate_abp(activation, &profile).expect("EU868 is known");
        session.abp = !bit(flags, 1);
        // Whatever the proposer believes here counts for nothing.
        session.epoch = SessionEpoch(counters.into());
        Command::Activate { dev_eui, session: Box::new(session) }
    }
}

/// Now, a little earlier, long ago, or to come.
fn moment(model: &Model, choice: u8) -> WallTime {
    let seconds = [0, -1, -100, 100][usize::from(choice)] * 1_000_000;
    WallTime::from_unix_micros(model.now.unix_micros().saturating_add(seconds))
}

/// Seldom more than an event keeps.
fn heard_by(extra: u8) -> Option<NodeId> {
    match extra >> 5 {
        1 => Some(node(0)),
        2 | 3 => Some(node(1)),
        _ => None,
    }
}

fn receptions(extra: u8, now: WallTime) -> Vec<Reception> {
    let count = match extra >> 5 {
        0..6 => 0,
        6 => 1,
        _ => 33,
    };
    let one = |uplink_id| Reception {
        gateway: gateway(0),
        uplink_id,
        ns_time: now,
        gw_time: None,
        gps_micros: None,
        rssi_dbm: -100,
        snr_ddb: 55,
        channel: 0,
        rf_chain: 0,
        antenna: 0,
        tmst: 0,
        crc_ok: true,
    };
    (0..count).map(one).collect()
}
