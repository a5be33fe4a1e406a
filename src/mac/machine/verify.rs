//! Who spoke: the MIC over every session of a DevAddr and every counter the 16 bits may mean.
//!
//! Source: LoRaWAN 1.0.4 §4.3.1.5 and §4.4; DESIGN 4.1.

use bytes::Bytes;
use lorawan::{DataFrame, DevEui, Direction, MicContext, Region, Signed, Uplink, fcnt_candidates};
use sabotage::Bug;

use super::dev_addr::DevAddrPrefix;
use super::error::UplinkError;
use super::views::{Devices, JoinView, SessionView};
use crate::transition::{FCntVerdict, classify};
use crate::{Digest, SessionEpoch};

/// A data frame whose MIC is right.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) dev_eui: DevEui,
    pub(super) epoch: SessionEpoch,
    pub(super) f_cnt: u32,
    pub(super) digest: Digest,
    pub(super) dr: u8,
    /// It is the last frame again, not a new one.
    pub(super) repeat: bool,
    /// Application payload: in the clear if the AppSKey is here.
    pub(super) data: Bytes,
    /// MAC commands in the clear.
    pub(super) mac_commands: Bytes,
}

/// Finds the session and the counter of a data frame.
pub(super) fn authenticate(
    devices: &impl Devices,
    own: &[DevAddrPrefix],
    frame: &DataFrame<'_>,
    rx: &Uplink,
) -> Result<Spoken, UplinkError> {
    let dev_addr = frame.dev_addr;
    let sessions = devices.sessions(dev_addr);
    if sessions.is_empty() {
        let ours = own.iter().any(|prefix| prefix.contains(dev_addr));
        return Err(UplinkError::UnknownDevAddr { dev_addr, ours });
    }
    let mut closed = None;
    for view in &sessions {
        match spoken_by(devices, view, frame) {
            Ok(Some((f_cnt, mac_commands, data))) => {
                return judge(view, frame, rx, f_cnt, mac_commands, data);
            }
            Ok(None) => {}
            Err(error) => closed = Some(error),
        }
    }
    let one = sessions.first().filter(|view| sessions.iter().all(|s| s.dev_eui == view.dev_eui));
    let dev_eui = one.map(|view| view.dev_eui);
    Err(closed.unwrap_or(UplinkError::Mic { dev_addr, dev_eui }))
}

/// The counter, MAC commands and payload, if this session made the MIC.
fn spoken_by(
    devices: &impl Devices,
    view: &SessionView<'_>,
    frame: &DataFrame<'_>,
) -> Result<Option<(u32, Bytes, Bytes)>, UplinkError> {
    let (dev_eui, session) = (view.dev_eui, view.session);
    if session.mac_version.is_1_1() {
        return Err(UplinkError::Version { dev_eui });
    }
    let keys = devices.keys(dev_eui, session).ok_or(UplinkError::KeysClosed { dev_eui })?;
    let ciphers = keys.ciphers(session.mac_version);
    let context = MicContext::default();
    let candidates = candidates(session.uplink.last, frame.fcnt);
    let mut verified = candidates.iter().copied().find(|f| ciphers.verify(frame, *f, context));
    if sabotage::planted(Bug::MicUnchecked) {
        verified = verified.or(candidates.first().copied());
    }
    let Some(f_cnt) = verified else {
        return Ok(None);
    };
    let opened = ciphers.open(frame, f_cnt);
    if frame.f_port == Some(0) {
        return Ok(Some((f_cnt, opened.payload.into(), Bytes::new())));
    }
    let data = match keys.app_s {
        Some(_) => opened.payload.into(),
        None => Bytes::copy_from_slice(frame.frm_payload),
    };
    Ok(Some((f_cnt, opened.f_opts.into(), data)))
}

/// Every counter that the 16 bits may mean, most likely first: a new one in this half or the next,
/// the half before (a late copy across the roll-over), and the very first (a device that started
/// anew).
fn candidates(last: Option<u32>, wire: u16) -> Vec<u32> {
    let same_half = last.unwrap_or(0) & 0xFFFF_0000 | u32::from(wire);
    if sabotage::planted(Bug::UpperHalfFrozen) {
        return vec![same_half];
    }
    let new = fcnt_candidates(last, wire).unwrap_or([same_half; 2]);
    let mut all = new.to_vec();
    all.extend(same_half.checked_sub(0x1_0000));
    all.push(wire.into());
    all.dedup();
    all
}

/// What a genuine frame means for its session.
fn judge(
    view: &SessionView<'_>,
    frame: &DataFrame<'_>,
    rx: &Uplink,
    f_cnt: u32,
    mac_commands: Bytes,
    data: Bytes,
) -> Result<Spoken, UplinkError> {
    let (dev_eui, session) = (view.dev_eui, view.session);
    if view.is_disabled {
        return Err(UplinkError::Disabled { dev_eui });
    }
    let digest = Digest::of(frame.mtype(), frame.f_port, frame.frm_payload);
    let repeat = match classify(session, view.skip_f_cnt_check, f_cnt, digest) {
        FCntVerdict::New | FCntVerdict::Reset => false,
        FCntVerdict::Repeat => true,
        FCntVerdict::Conflict => return Err(UplinkError::FCntConflict { dev_eui, f_cnt }),
        FCntVerdict::TooLow { last } => {
            return Err(UplinkError::FCntTooLow { dev_eui, f_cnt, last });
        }
        FCntVerdict::GapTooLarge { last } => {
            return Err(UplinkError::FCntGap { dev_eui, f_cnt, last });
        }
    };
    let region = region_of(dev_eui, view.profile)?;
    let dr = dr_of(region, rx)?;
    let epoch = session.epoch;
    Ok(Spoken { dev_eui, epoch, f_cnt, digest, dr, repeat, data, mac_commands })
}

/// The table of a device's region.
pub(super) fn region_of(
    dev_eui: DevEui,
    profile: &crate::MacProfile,
) -> Result<&'static Region, UplinkError> {
    let unknown = |_| UplinkError::Region { dev_eui, region: profile.region.clone() };
    profile.region_table().map_err(unknown)
}

fn dr_of(region: &Region, rx: &Uplink) -> Result<u8, UplinkError> {
    let modulation = rx.modulation;
    let unknown = || UplinkError::DataRate { modulation, region: region.name.into() };
    region.dr_of(modulation, Direction::Up).ok_or_else(unknown)
}

/// A join-request that may be put to the log: device, key, MIC and nonce are right. Returns the
/// data rate.
pub(super) fn verify_join(
    devices: &impl Devices,
    signed: &Signed<'_, lorawan::JoinRequest>,
    rx: &Uplink,
) -> Result<u8, UplinkError> {
    let lorawan::JoinRequest { join_eui, dev_eui, dev_nonce } = signed.fields;
    let Some(view) = devices.join(dev_eui) else {
        let registered = dev_eui.reversed();
        return Err(if registered != dev_eui && devices.join(registered).is_some() {
            UplinkError::DevEuiReversed { dev_eui, registered }
        } else {
            UplinkError::UnknownDevEui { dev_eui, join_eui }
        });
    };
    let JoinView { profile, is_disabled, join_eui: wanted, nwk_key, .. } = view;
    let nwk_key = nwk_key.ok_or(UplinkError::NoRootKey { dev_eui })?;
    if !signed.verify(&(&nwk_key).into()) {
        return Err(UplinkError::JoinMic { dev_eui });
    }
    if is_disabled {
        return Err(UplinkError::Disabled { dev_eui });
    }
    if !profile.supports_otaa {
        return Err(UplinkError::JoinNotAllowed { dev_eui });
    }
    if let Some(registered) = wanted.filter(|wanted| *wanted != join_eui) {
        return Err(UplinkError::JoinEui { dev_eui, seen: join_eui, registered });
    }
    if devices.is_nonce_used(dev_eui, join_eui, dev_nonce) {
        return Err(UplinkError::DevNonceUsed { dev_eui, dev_nonce });
    }
    dr_of(region_of(dev_eui, profile)?, rx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_of_sixteen_bits_is_tried_likely_ones_first() {
        assert_eq!(candidates(None, 5), [5, 0x1_0005, 5]);
        assert_eq!(candidates(Some(7), 5), [5, 0x1_0005, 5]);
        assert_eq!(candidates(Some(0x2_0003), 0xFFFF), [0x2_FFFF, 0x3_FFFF, 0x1_FFFF, 0xFFFF]);
        let end = 0xFFFF_FFF0;
        assert_eq!(candidates(Some(end), 0xFFEF), [0xFFFF_FFEF, 0xFFFE_FFEF, 0xFFEF]);
    }
}
