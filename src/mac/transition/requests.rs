//! The MAC requests a session needs: what the profile wants and the device does not yet do.
//!
//! A request is repeated in every downlink until it is answered, at most [`TRIES_MAX`] times, and
//! given up after [`REJECTIONS_MAX`] rejections. Source: LoRaWAN 1.0.4 §5.

use clock::{Duration, WallTime};
use lorawan::{DownlinkMacCommand, LINK_ADR_KEEP, LinkAdrReq, MacCommand as _, Region};

use super::channel_plan;
use crate::region::{default_channels, extra_channels};
use crate::{ChannelSet, DeviceSession, ExtraChannel, MacProfile, MacVersion, PendingRequest};

pub(super) const CID_LINK_ADR: u8 = 0x03;
pub(super) const CID_RX_PARAM_SETUP: u8 = 0x05;
pub(super) const CID_DEV_STATUS: u8 = 0x06;
pub(super) const CID_NEW_CHANNEL: u8 = 0x07;
pub(super) const CID_RX_TIMING_SETUP: u8 = 0x08;

/// Downlinks that carry one request in vain before it is given up.
pub(super) const TRIES_MAX: u8 = 16;
/// Rejections after which a request is not made again in this session.
pub(super) const REJECTIONS_MAX: u8 = 2;

const LINK_ADR_REQ_LEN: usize = 5;
const NEW_CHANNEL_REQ_LEN: usize = 6;
const SECONDS_PER_DAY: u64 = 86_400;

/// The requests for the next downlink, each whole, as many as fit `space` bytes.
pub(super) fn wanted(
    session: &DeviceSession,
    profile: &MacProfile,
    now: WallTime,
    space: usize,
) -> Vec<PendingRequest> {
    let Ok(region) = profile.region_table() else { return Vec::new() };
    let mut left = space;
    let mut requests = Vec::new();
    let kinds: [(u8, Builder); 5] = [
        (CID_LINK_ADR, link_adr),
        (CID_NEW_CHANNEL, new_channels),
        (CID_RX_PARAM_SETUP, rx_param_setup),
        (CID_RX_TIMING_SETUP, rx_timing_setup),
        (CID_DEV_STATUS, dev_status),
    ];
    for (cid, build) in kinds {
        if session.rejected.get(&cid).is_some_and(|times| *times >= REJECTIONS_MAX) {
            continue;
        }
        let context = Context { session, profile, region, now, space: left };
        let bytes = DownlinkMacCommand::encode_all(&build(&context));
        if bytes.is_empty() || bytes.len() > left {
            continue;
        }
        let tries = tries_before(session, cid, &bytes);
        if tries < TRIES_MAX {
            left -= bytes.len();
            requests.push(PendingRequest { cid, bytes, tries: tries + 1 });
        }
    }
    requests
}

struct Context<'a> {
    session: &'a DeviceSession,
    profile: &'a MacProfile,
    region: &'static Region,
    now: WallTime,
    space: usize,
}

type Builder = fn(&Context<'_>) -> Vec<DownlinkMacCommand>;

/// How often the same request went out already. A LinkADRReq is the same whatever data rate it
/// repeats: that follows the device.
fn tries_before(session: &DeviceSession, cid: u8, bytes: &[u8]) -> u8 {
    let same = |old: &PendingRequest| {
        old.bytes.len() == bytes.len()
            && old.bytes.iter().zip(bytes).enumerate().all(|(at, (old, new))| {
                old == new || cid == CID_LINK_ADR && at % LINK_ADR_REQ_LEN == 1
            })
    };
    let pending = session.pending.iter().find(|pending| pending.cid == cid);
    pending.filter(|old| same(old)).map_or(0, |old| old.tries)
}

/// Fixed plans: the channels the profile wants.
fn link_adr(context: &Context<'_>) -> Vec<DownlinkMacCommand> {
    let (session, region) = (context.session, context.region);
    if !region.is_fixed_plan() {
        return Vec::new();
    }
    let target = wanted_channels(context.profile, region);
    if session.channels == target || target.is_empty() {
        return Vec::new();
    }
    let masks_max = context.space / LINK_ADR_REQ_LEN;
    let atomic = session.mac_version >= MacVersion::V1_0_2;
    let (data_rate, tx_power) = if session.mac_version.link_adr_keeps() {
        (LINK_ADR_KEEP, LINK_ADR_KEEP)
    } else {
        (session.dr.min(region.adr_max_dr), session.tx_power)
    };
    channel_plan::masks(region, session.channels, target, atomic, masks_max)
        .into_iter()
        .map(|mask| {
            DownlinkMacCommand::LinkAdrReq(LinkAdrReq {
                data_rate,
                tx_power,
                ch_mask: mask.ch_mask,
                ch_mask_cntl: mask.ch_mask_cntl,
                nb_trans: session.nb_trans.max(1),
            })
        })
        .collect()
}

/// The channels of a fixed plan that the profile wants, all if it names none.
fn wanted_channels(profile: &MacProfile, region: &Region) -> ChannelSet {
    let all = default_channels(region);
    let wanted = profile.channels.unwrap_or(all);
    all.iter().filter(|channel| wanted.contains(*channel)).collect()
}

/// Dynamic plans: extra channels that the join-accept could not tell (ABP) or that were added
/// since.
fn new_channels(context: &Context<'_>) -> Vec<DownlinkMacCommand> {
    if context.region.is_fixed_plan() {
        return Vec::new();
    }
    let commands = extra_channels(context.region, &context.profile.extra_channels_hz)
        .filter(|(index, channel)| context.session.extra_channels.get(index) != Some(channel))
        .map(|(ch_index, ExtraChannel { frequency_hz, min_dr, max_dr })| {
            DownlinkMacCommand::NewChannelReq { ch_index, freq_hz: frequency_hz, min_dr, max_dr }
        });
    commands.take(context.space / NEW_CHANNEL_REQ_LEN).collect()
}

fn rx_param_setup(context: &Context<'_>) -> Vec<DownlinkMacCommand> {
    let (session, profile, region) = (context.session, context.profile, context.region);
    let rx2_dr = profile.rx2_dr.unwrap_or(region.rx2_dr);
    let freq_hz = profile.rx2_frequency_hz.unwrap_or(region.rx2_frequency_hz);
    let wanted = (profile.rx1_dr_offset, rx2_dr, freq_hz);
    if wanted == (session.rx1_dr_offset, session.rx2_dr, session.rx2_frequency_hz) {
        return Vec::new();
    }
    let rx1_dr_offset = profile.rx1_dr_offset;
    vec![DownlinkMacCommand::RxParamSetupReq { rx1_dr_offset, rx2_dr, freq_hz }]
}

fn rx_timing_setup(context: &Context<'_>) -> Vec<DownlinkMacCommand> {
    let delay = context.profile.rx1_delay_s.clamp(1, 15);
    if delay == context.session.rx1_delay_s.max(1) {
        return Vec::new();
    }
    vec![DownlinkMacCommand::RxTimingSetupReq { delay }]
}

fn dev_status(context: &Context<'_>) -> Vec<DownlinkMacCommand> {
    let per_day = u64::from(context.profile.status_requests_per_day);
    let Some(seconds) = SECONDS_PER_DAY.checked_div(per_day) else { return Vec::new() };
    let asked = context.session.status_requested_at;
    let due = asked.is_none_or(|at| context.now.since(at) >= Duration::from_secs(seconds.max(1)));
    if due { vec![DownlinkMacCommand::DevStatusReq] } else { Vec::new() }
}
