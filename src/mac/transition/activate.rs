//! New sessions: from a join, from personalisation, from an import.

use lorawan::{DevAddr, Region, UnknownRegion};

use super::grant::raise_next;
use crate::region::{default_channels, extra_channels};
use crate::{
    AcceptJoin, ChannelSet, DeviceSession, DownlinkCounter, MacProfile, MacVersion, Sealed,
    SessionEpoch, UplinkCounter,
};

/// What is known of a device that activates by personalisation, or of a session from another
/// server.
#[derive(Clone, Debug)]
pub struct AbpActivation {
    /// Its address.
    pub dev_addr: DevAddr,
    /// The version it speaks.
    pub mac_version: MacVersion,
    /// Its session keys, sealed.
    pub keys: Sealed,
    /// The next uplink counter expected: one above the last.
    pub f_cnt_up: u32,
    /// The next NFCntDown; up to 1.0.4 the only downlink counter.
    pub n_f_cnt_down: u32,
    /// The next AFCntDown (1.1).
    pub a_f_cnt_down: u32,
    /// RECEIVE_DELAY1 the device starts with, in seconds; `None`: the 1 s of the standard.
    pub rx1_delay_s: Option<u8>,
    /// RX1 offset it starts with; `None`: 0.
    pub rx1_dr_offset: Option<u8>,
    /// RX2 data rate it starts with; `None`: the region's.
    pub rx2_dr: Option<u8>,
    /// RX2 frequency it starts with, in hertz; `None`: the region's.
    pub rx2_frequency_hz: Option<u32>,
    /// Channels it starts with; `None`: the region's.
    pub channels: Option<ChannelSet>,
}

/// The session of a device that has just joined.
///
/// * `epoch`: one above every earlier activation of the device.
/// * On a fixed plan the device is taken to use every channel, whatever the CFList said: only an
///   answer to a LinkADRReq proves more, and a device that missed it would mostly be unheard.
/// * Errors: [`UnknownRegion`], when the profile names a region this version does not know.
pub fn activate_join(
    join: &AcceptJoin,
    profile: &MacProfile,
    epoch: SessionEpoch,
) -> Result<DeviceSession, UnknownRegion> {
    let region = profile.region_table()?;
    let mut session = blank(region, join.dev_addr, join.mac_version, join.keys.clone());
    session.epoch = epoch;
    session.rx1_delay_s = join.rx1_delay_s.clamp(1, 15);
    session.rx1_dr_offset = join.rx1_dr_offset;
    session.rx2_dr = join.rx2_dr;
    session.dr = join.dr;
    for (index, channel) in extra_channels(region, &join.extra_channels_hz) {
        session.extra_channels.insert(index, channel);
        session.channels.insert(index);
    }
    Ok(session)
}

/// The session of a personalised device, without epoch: apply gives that ([`install`]).
///
/// * Errors: [`UnknownRegion`], when the profile names a region this version does not know.
pub fn activate_abp(
    activation: AbpActivation,
    profile: &MacProfile,
) -> Result<DeviceSession, UnknownRegion> {
    let region = profile.region_table()?;
    let AbpActivation { dev_addr, mac_version, keys, .. } = activation;
    let from = |next| DownlinkCounter { next, reported: next, ..DownlinkCounter::default() };
    let mut session = blank(region, dev_addr, mac_version, keys);
    session.abp = true;
    session.uplink =
        UplinkCounter { last: activation.f_cnt_up.checked_sub(1), ..UplinkCounter::default() };
    session.n_f_cnt_down = from(activation.n_f_cnt_down);
    session.a_f_cnt_down = from(activation.a_f_cnt_down);
    session.rx1_delay_s = activation.rx1_delay_s.unwrap_or(1).clamp(1, 15);
    session.rx1_dr_offset = activation.rx1_dr_offset.unwrap_or(0);
    session.rx2_dr = activation.rx2_dr.unwrap_or(session.rx2_dr);
    session.rx2_frequency_hz = activation.rx2_frequency_hz.unwrap_or(session.rx2_frequency_hz);
    session.channels = activation.channels.unwrap_or(session.channels);
    Ok(session)
}

/// Makes `session` the device's activation number `epoch`: no grants, and no downlink number that
/// an earlier session may have used with the same keys.
///
/// * `earlier`: the device's sessions that this one replaces. Apply cannot compare keys, so one
///   DevAddr stands for one key set: skipping numbers is harmless, repeating one is not (S1).
#[must_use]
pub fn install<'a>(
    mut session: DeviceSession,
    epoch: SessionEpoch,
    earlier: impl IntoIterator<Item = &'a DeviceSession>,
) -> DeviceSession {
    session.epoch = epoch;
    for counter in [&mut session.n_f_cnt_down, &mut session.a_f_cnt_down] {
        (counter.grant, counter.skipped) = (None, None);
    }
    session.traffic = None;
    for old in earlier.into_iter().filter(|old| old.dev_addr == session.dev_addr) {
        for (counter, old) in [
            (&mut session.n_f_cnt_down, &old.n_f_cnt_down),
            (&mut session.a_f_cnt_down, &old.a_f_cnt_down),
        ] {
            raise_next(counter, old.next);
            counter.home_epoch = counter.home_epoch.max(old.home_epoch);
        }
    }
    session
}

fn blank(
    region: &Region,
    dev_addr: DevAddr,
    mac_version: MacVersion,
    keys: Sealed,
) -> DeviceSession {
    DeviceSession {
        epoch: SessionEpoch::default(),
        dev_addr,
        mac_version,
        keys,
        uplink: UplinkCounter::default(),
        n_f_cnt_down: DownlinkCounter::default(),
        a_f_cnt_down: DownlinkCounter::default(),
        rx1_delay_s: 1,
        rx1_dr_offset: 0,
        rx2_dr: region.rx2_dr,
        rx2_frequency_hz: region.rx2_frequency_hz,
        channels: default_channels(region),
        extra_channels: std::collections::BTreeMap::new(),
        dr: 0,
        tx_power: 0,
        nb_trans: 1,
        adr: false,
        pending: Vec::new(),
        rejected: std::collections::BTreeMap::new(),
        status_requested_at: None,
        abp: false,
        traffic: None,
        item_for: None,
    }
}
