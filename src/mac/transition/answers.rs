//! What a device's MAC answers change. An answer counts only while its request is pending: sticky
//! answers come again and again (facts c), and nobody else's word changes a session.

use clock::WallTime;
use lorawan::{
    ChannelMask, DownlinkMacCommand, LINK_ADR_KEEP, LinkAdrReq, MacCommand as _, Region,
    UplinkMacCommand,
};

use super::channel_plan::after;
use super::requests::{CID_LINK_ADR, CID_NEW_CHANNEL, CID_RX_PARAM_SETUP, CID_RX_TIMING_SETUP};
use crate::{DeviceSession, ExtraChannel, MacProfile, MacVersion};

/// DevStatusAns: what a `status` event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// 0 = external power, 1..=254 = charge, 255 = unknown.
    pub battery: u8,
    /// SNR of the last DevStatusReq in dB, -32..=31.
    pub margin_db: i8,
}

impl DeviceStatus {
    /// Runs on external power.
    #[must_use]
    pub const fn has_external_power(self) -> bool {
        self.battery == 0
    }

    /// Charge in percent; `None` on external power or where the device cannot tell.
    #[must_use]
    pub fn battery_percent(self) -> Option<f32> {
        (1..=254).contains(&self.battery).then(|| f32::from(self.battery) / 254.0 * 100.0)
    }
}

/// What came of the MAC commands of one uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MacOutcome {
    /// The device's state, if it told: write a `status` event.
    pub status: Option<DeviceStatus>,
    /// Requests the device has taken, by CID.
    pub accepted: Vec<u8>,
    /// Requests the device has refused, by CID.
    pub rejected: Vec<u8>,
}

/// Applies the MAC answers of one accepted uplink to the session.
///
/// * `commands`: of FOpts or FPort 0, in order; what is not an answer to us is passed over.
/// * `now`: the state's time.
pub fn apply_mac_answers(
    session: &mut DeviceSession,
    profile: &MacProfile,
    commands: &[UplinkMacCommand],
    now: WallTime,
) -> MacOutcome {
    let mut outcome = MacOutcome::default();
    for command in commands {
        if let UplinkMacCommand::DevStatusAns { battery, margin_db } = *command {
            outcome.status = Some(DeviceStatus { battery, margin_db });
            // Told unasked, or asked by somebody before us: no need to ask again at once.
            session.status_requested_at.get_or_insert(now);
        }
    }
    let Ok(region) = profile.region_table() else { return outcome };
    let settlers: [(u8, Settler); 4] = [
        (CID_LINK_ADR, settle_link_adr),
        (CID_RX_PARAM_SETUP, settle_rx_param),
        (CID_NEW_CHANNEL, settle_new_channels),
        (CID_RX_TIMING_SETUP, settle_rx_timing),
    ];
    for (cid, settle) in settlers {
        let Some(at) = session.pending.iter().position(|pending| pending.cid == cid) else {
            continue;
        };
        let block = &session.pending[at].bytes;
        let requests: Vec<_> = DownlinkMacCommand::walk(block).map_while(Result::ok).collect();
        let Some(taken) = settle(region, session, &requests, commands) else { continue };
        session.pending.remove(at);
        if taken {
            outcome.accepted.push(cid);
        } else {
            let times = session.rejected.entry(cid).or_insert(0);
            *times = times.saturating_add(1);
            outcome.rejected.push(cid);
        }
    }
    outcome
}

/// Applies the answers to one pending block: `None` without an answer, else whether it was taken.
type Settler =
    fn(&Region, &mut DeviceSession, &[DownlinkMacCommand], &[UplinkMacCommand]) -> Option<bool>;

fn settle_link_adr(
    region: &Region,
    session: &mut DeviceSession,
    requests: &[DownlinkMacCommand],
    commands: &[UplinkMacCommand],
) -> Option<bool> {
    // A 1.0.4 device that runs its own data rate need only take the channels.
    let mask_suffices = session.mac_version.link_adr_keeps() && !session.adr;
    let verdicts: Vec<bool> = commands
        .iter()
        .filter_map(|command| {
            let UplinkMacCommand::LinkAdrAns { ch_mask_ack, data_rate_ack, tx_power_ack } = command
            else {
                return None;
            };
            Some(*ch_mask_ack && (mask_suffices || *data_rate_ack && *tx_power_ack))
        })
        .collect();
    if verdicts.is_empty() {
        return None;
    }
    let atomic = session.mac_version >= MacVersion::V1_0_2;
    let all = verdicts.iter().all(|taken| *taken);
    for (at, request) in requests.iter().enumerate() {
        let DownlinkMacCommand::LinkAdrReq(request) = request else { continue };
        let taken = if atomic { all } else { verdicts.get(at).copied().unwrap_or(false) };
        if taken {
            adopt_link_adr(region, session, request);
        }
    }
    Some(all)
}

fn adopt_link_adr(region: &Region, session: &mut DeviceSession, request: &LinkAdrReq) {
    let LinkAdrReq { ch_mask, ch_mask_cntl, .. } = *request;
    let mask = ChannelMask { ch_mask, ch_mask_cntl };
    session.channels = after(region, session.channels, mask);
    if request.tx_power != LINK_ADR_KEEP {
        session.tx_power = request.tx_power;
    }
    if request.nb_trans != 0 {
        session.nb_trans = request.nb_trans;
    }
}

fn settle_rx_param(
    _: &Region,
    session: &mut DeviceSession,
    requests: &[DownlinkMacCommand],
    commands: &[UplinkMacCommand],
) -> Option<bool> {
    let taken = commands.iter().find_map(|command| {
        let UplinkMacCommand::RxParamSetupAns { channel_ack, rx2_dr_ack, rx1_dr_offset_ack } =
            command
        else {
            return None;
        };
        Some(*channel_ack && *rx2_dr_ack && *rx1_dr_offset_ack)
    })?;
    if let Some(DownlinkMacCommand::RxParamSetupReq { rx1_dr_offset, rx2_dr, freq_hz }) =
        requests.first()
        && taken
    {
        session.rx1_dr_offset = *rx1_dr_offset;
        session.rx2_dr = *rx2_dr;
        session.rx2_frequency_hz = *freq_hz;
    }
    Some(taken)
}

fn settle_new_channels(
    _: &Region,
    session: &mut DeviceSession,
    requests: &[DownlinkMacCommand],
    commands: &[UplinkMacCommand],
) -> Option<bool> {
    let verdicts: Vec<bool> = commands
        .iter()
        .filter_map(|command| {
            let UplinkMacCommand::NewChannelAns { channel_freq_ok, dr_range_ok } = command else {
                return None;
            };
            Some(*channel_freq_ok && *dr_range_ok)
        })
        .collect();
    for (request, taken) in requests.iter().zip(&verdicts) {
        let DownlinkMacCommand::NewChannelReq { ch_index, freq_hz, min_dr, max_dr } = *request
        else {
            continue;
        };
        if *taken {
            let channel = ExtraChannel { frequency_hz: freq_hz, min_dr, max_dr };
            session.extra_channels.insert(ch_index, channel);
            session.channels.insert(ch_index);
        }
    }
    (!verdicts.is_empty()).then(|| verdicts.iter().all(|taken| *taken))
}

fn settle_rx_timing(
    _: &Region,
    session: &mut DeviceSession,
    requests: &[DownlinkMacCommand],
    commands: &[UplinkMacCommand],
) -> Option<bool> {
    commands.contains(&UplinkMacCommand::RxTimingSetupAns).then_some(())?;
    if let Some(DownlinkMacCommand::RxTimingSetupReq { delay }) = requests.first() {
        session.rx1_delay_s = (*delay).max(1);
    }
    Some(true)
}
