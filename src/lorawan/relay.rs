//! The fields of relay MAC commands that are more than a few bits (TS011-1.0.1 §11).

use crate::command::{MacCommandError, take};
use crate::freq::{freq_from_bytes, freq_to_bytes};
use crate::{DevAddr, Key};

/// Longest EUI rule of a filter list: JoinEUI and DevEUI.
pub const FILTER_EUI_LEN_MAX: usize = 16;

/// The second wake-on-radio channel, as relay and end device must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondChannel {
    /// 0..=7, steps between the wake-on-radio frequency and its acknowledgement's.
    pub ack_offset: u8,
    /// 0..=15.
    pub data_rate: u8,
    /// 0 none, 1 in use, others reserved; 0..=3.
    pub index: u8,
    /// Hertz.
    pub freq_hz: u32,
}

impl SecondChannel {
    fn read([low, high]: [u8; 2], freq: [u8; 3]) -> Self {
        Self {
            ack_offset: low & 0x07,
            data_rate: low >> 3 & 0x0F,
            index: low >> 7 | (high & 0x01) << 1,
            freq_hz: freq_from_bytes(freq),
        }
    }

    /// The nine bits it shares a field with.
    const fn settings(&self) -> [u8; 2] {
        [
            self.ack_offset & 0x07 | (self.data_rate & 0x0F) << 3 | self.index << 7,
            self.index >> 1 & 0x01,
        ]
    }
}

/// RelayConfReq: how a relay listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConf {
    /// Whether it relays at all.
    pub enabled: bool,
    /// 0..=7: 1 s, 500 ms, 250 ms, 100 ms, 50 ms, 20 ms, then reserved.
    pub cad_periodicity: u8,
    /// 0 or 1: which default wake-on-radio channel.
    pub default_channel_index: u8,
    /// The second channel.
    pub second_channel: SecondChannel,
}

impl RelayConf {
    pub(crate) fn read([low, high, f0, f1, f2]: [u8; 5]) -> Self {
        Self {
            enabled: high >> 5 & 1 == 1,
            cad_periodicity: high >> 2 & 0x07,
            default_channel_index: high >> 1 & 0x01,
            second_channel: SecondChannel::read([low, high], [f0, f1, f2]),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let [low, high] = self.second_channel.settings();
        out.push(low);
        out.push(
            high | (self.default_channel_index & 0x01) << 1
                | (self.cad_periodicity & 0x07) << 2
                | u8::from(self.enabled) << 5,
        );
        out.extend_from_slice(&freq_to_bytes(self.second_channel.freq_hz));
    }
}

/// Who decides whether an end device speaks through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayActivation {
    /// Never.
    Disabled,
    /// Always.
    Enabled,
    /// After `smart_enable_level` uplinks without an answer.
    Dynamic,
    /// The end device.
    EndDevice,
}

/// EndDeviceConfReq: how an end device uses a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndDeviceConf {
    /// Who decides.
    pub activation: RelayActivation,
    /// 0..=3: 8, 16, 32 or 64 uplinks.
    pub smart_enable_level: u8,
    /// 0..=63 uplinks without a wake-on-radio acknowledgement before one goes out directly; 0
    /// always uses the relay.
    pub backoff: u8,
    /// The second channel.
    pub second_channel: SecondChannel,
}

impl EndDeviceConf {
    pub(crate) fn read([mode, low, high, f0, f1, f2]: [u8; 6]) -> Self {
        Self {
            activation: match mode >> 2 & 0x03 {
                0 => RelayActivation::Disabled,
                1 => RelayActivation::Enabled,
                2 => RelayActivation::Dynamic,
                _ => RelayActivation::EndDevice,
            },
            smart_enable_level: mode & 0x03,
            backoff: high >> 1 & 0x3F,
            second_channel: SecondChannel::read([low, high], [f0, f1, f2]),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let [low, high] = self.second_channel.settings();
        out.push((self.activation as u8) << 2 | self.smart_enable_level & 0x03);
        out.push(low);
        out.push(high | (self.backoff & 0x3F) << 1);
        out.extend_from_slice(&freq_to_bytes(self.second_channel.freq_hz));
    }
}

/// What a relay does with the join-requests that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// Forgets the rule.
    NoRule,
    /// Passes them on.
    Forward,
    /// Drops them.
    Filter,
    /// A value without a meaning yet.
    Reserved,
}

/// FilterListReq: one rule over JoinEUI and DevEUI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRule {
    /// 0..=15; rule 0 matches everything.
    pub index: u8,
    /// What to do.
    pub action: FilterAction,
    eui: [u8; FILTER_EUI_LEN_MAX],
    eui_len: u8,
}

impl FilterRule {
    /// A rule for join-requests whose JoinEUI and DevEUI, as people write them one after the other,
    /// start with `eui`; bytes past the sixteenth are cut off.
    pub fn new(index: u8, action: FilterAction, eui: &[u8]) -> Self {
        let mut kept = [0; FILTER_EUI_LEN_MAX];
        let mut eui_len = 0;
        for (to, from) in kept.iter_mut().zip(eui) {
            *to = *from;
            eui_len += 1;
        }
        Self { index, action, eui: kept, eui_len }
    }

    /// The bytes to match, as people write them; 0 to 16.
    pub fn eui(&self) -> &[u8] {
        &self.eui[..usize::from(self.eui_len)]
    }

    pub(crate) fn read(cid: u8, after: &[u8]) -> Result<(Self, &[u8]), MacCommandError> {
        let ([low, high], rest) = take::<2>(cid, after)?;
        let len = usize::from(low & 0x1F);
        if len > FILTER_EUI_LEN_MAX {
            return Err(MacCommandError::InnerLength { cid, seen: len, max: FILTER_EUI_LEN_MAX });
        }
        let Some((eui, rest)) = rest.split_at_checked(len) else {
            return Err(MacCommandError::Truncated { cid, wanted: 2 + len, left: after.len() });
        };
        let action = match low >> 5 & 0x03 {
            0 => FilterAction::NoRule,
            1 => FilterAction::Forward,
            2 => FilterAction::Filter,
            _ => FilterAction::Reserved,
        };
        let mut rule = Self::new(low >> 7 | (high & 0x07) << 1, action, eui);
        rule.eui[..len].reverse();
        Ok((rule, rest))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.eui_len | (self.action as u8) << 5 | self.index << 7);
        out.push(self.index >> 1 & 0x07);
        out.extend(self.eui().iter().rev());
    }
}

/// UpdateUplinkListReq: an end device that a relay serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkListEntry {
    /// 0..=15.
    pub index: u8,
    /// 0..=63 uplinks an hour; 63 is no limit.
    pub reload_rate: u8,
    /// 0..=3: the bucket holds 1, 2, 4 or 12 times the reload rate.
    pub bucket_size: u8,
    /// Whose uplinks.
    pub dev_addr: DevAddr,
    /// The wake-on-radio counter.
    pub wfcnt: u32,
    /// RootWorSKey.
    pub root_wor_s_key: Key,
}

impl UplinkListEntry {
    pub(crate) fn read(payload: [u8; 26]) -> Self {
        let [index, limit, a0, a1, a2, a3, w0, w1, w2, w3, key @ ..] = payload;
        Self {
            index: index & 0x0F,
            reload_rate: limit & 0x3F,
            bucket_size: limit >> 6,
            dev_addr: DevAddr::from_le_bytes([a0, a1, a2, a3]),
            wfcnt: u32::from_le_bytes([w0, w1, w2, w3]),
            root_wor_s_key: Key::from_bytes(key),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.index & 0x0F);
        out.push(self.reload_rate & 0x3F | self.bucket_size << 6);
        out.extend_from_slice(&self.dev_addr.to_le_bytes());
        out.extend_from_slice(&self.wfcnt.to_le_bytes());
        out.extend_from_slice(self.root_wor_s_key.expose());
    }
}

/// What happens to a relay's token counters when its limits are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetLimitCounter {
    /// They become 0.
    ToZero,
    /// They become the reload rate.
    ToReloadRate,
    /// They become full.
    ToMax,
    /// They stay.
    Keep,
}

/// One token bucket of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardLimit {
    /// 0..=127 an hour; 127 is no limit.
    pub reload_rate: u8,
    /// 0..=3: the bucket holds 1, 2, 4 or 12 times the reload rate.
    pub bucket_size: u8,
}

/// ConfigureFwdLimitReq: how much a relay forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardLimits {
    /// What happens to the counters now.
    pub reset: ResetLimitCounter,
    /// Join-requests.
    pub join_req: ForwardLimit,
    /// NotifyNewEndDeviceReq.
    pub notify: ForwardLimit,
    /// Uplinks of all end devices.
    pub global_uplink: ForwardLimit,
    /// Everything.
    pub overall: ForwardLimit,
}

impl ForwardLimits {
    pub(crate) fn read([r0, r1, r2, r3, sizes]: [u8; 5]) -> Self {
        let limit = |reload_rate, shift: u32| ForwardLimit {
            reload_rate,
            bucket_size: sizes >> shift & 0x03,
        };
        Self {
            reset: match r3 >> 4 & 0x03 {
                0 => ResetLimitCounter::ToZero,
                1 => ResetLimitCounter::ToReloadRate,
                2 => ResetLimitCounter::ToMax,
                _ => ResetLimitCounter::Keep,
            },
            overall: limit(r0 & 0x7F, 0),
            global_uplink: limit(r0 >> 7 | (r1 & 0x3F) << 1, 2),
            notify: limit(r1 >> 6 | (r2 & 0x1F) << 2, 4),
            join_req: limit(r2 >> 5 | (r3 & 0x0F) << 3, 6),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let rate = |limit: ForwardLimit, shift: u32| u32::from(limit.reload_rate & 0x7F) << shift;
        let size = |limit: ForwardLimit, shift: u32| (limit.bucket_size & 0x03) << shift;
        let rates = rate(self.overall, 0)
            | rate(self.global_uplink, 7)
            | rate(self.notify, 14)
            | rate(self.join_req, 21)
            | u32::from(self.reset as u8) << 28;
        out.extend_from_slice(&rates.to_le_bytes());
        out.push(
            size(self.overall, 0)
                | size(self.global_uplink, 2)
                | size(self.notify, 4)
                | size(self.join_req, 6),
        );
    }
}

/// NotifyNewEndDeviceReq: a relay heard a device it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewEndDevice {
    /// Who.
    pub dev_addr: DevAddr,
    /// Signal-to-noise ratio of the wake-on-radio frame, -20..=11 dB; clamped when written.
    pub wor_snr_db: i8,
    /// Signal strength of the wake-on-radio frame, -142..=-15 dBm; clamped when written.
    pub wor_rssi_dbm: i16,
}

impl NewEndDevice {
    pub(crate) fn read([a0, a1, a2, a3, low, high]: [u8; 6]) -> Self {
        let rssi = low >> 5 | (high & 0x0F) << 3;
        Self {
            dev_addr: DevAddr::from_le_bytes([a0, a1, a2, a3]),
            wor_snr_db: (low & 0x1F).cast_signed() - 20,
            wor_rssi_dbm: -15 - i16::from(rssi),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let snr = (self.wor_snr_db.clamp(-20, 11) + 20).unsigned_abs();
        let rssi = (self.wor_rssi_dbm.clamp(-142, -15) + 15).unsigned_abs();
        let power = u16::from(snr) | rssi << 5;
        out.extend_from_slice(&self.dev_addr.to_le_bytes());
        out.extend_from_slice(&power.to_le_bytes());
    }
}
