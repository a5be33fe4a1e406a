//! Accepting join-requests: compare-and-set on both nonces, so that a DevNonce makes at most one
//! session and a JoinNonce goes to one join-accept. Source: DESIGN 4 (joins); S4, S5.

use clock::WallTime;
use lorawan::{DevEui, DevNonce, JoinEui, JoinNonce};
use mac::{AcceptJoin, EventSource, JoinReply, RequestId, SessionEpoch, transition};
use sabotage::Bug;

use super::rows::Rows;
use super::{Applied, Change};
use crate::model::{Device, DeviceProfile};
use crate::{Event, Reply, State};

/// The JoinNonce has 24 bits; past it a device needs new root keys.
const JOIN_NONCE_MAX: u32 = 0xFF_FFFF;

impl State {
    pub(super) fn accept_join(
        &mut self,
        request: RequestId,
        join: &AcceptJoin,
        applied: &mut Applied,
    ) -> Reply {
        let gone = Reply::Join(JoinReply::Gone);
        let Some(device) = self.device(join.dev_eui) else { return gone };
        if let Some(reply) = device.reply_to(request) {
            return reply;
        }
        let Some(profile) = self.device_profiles.get(&device.device_profile_id).cloned() else {
            return gone;
        };
        let now = self.time();
        let reply = self.change_device(join.dev_eui, |device| {
            let reply = Reply::Join(accept(device, &profile, join, now));
            if matches!(reply, Reply::Join(JoinReply::Accepted { .. })) {
                device.answered(request, &reply);
            }
            reply
        });
        let reply = reply.unwrap_or(gone);
        if let Reply::Join(JoinReply::Accepted { .. }) = reply
            && let Some(device) = self.devices.get(&join.dev_eui).cloned()
        {
            applied.changes.push(Change::Device(join.dev_eui));
            let (join_eui, dev_nonce) = (join.join_eui, join.dev_nonce);
            let source = EventSource::Join { join_eui, dev_nonce };
            let mut rows = Rows::of(self, applied, &device);
            rows.write(&source, join.received_at, Event::Join { dev_addr: join.dev_addr });
        }
        reply
    }
}

/// The request's effect on its device; nothing changes unless it is accepted.
fn accept(
    device: &mut Device,
    profile: &DeviceProfile,
    join: &AcceptJoin,
    now: WallTime,
) -> JoinReply {
    let names_us = device.join_eui.is_none_or(|ours| ours == join.join_eui);
    if device.is_disabled || !profile.mac.supports_otaa || !names_us {
        return JoinReply::Gone;
    }
    let Some(keys) = &mut device.keys else { return JoinReply::Gone };
    let version = profile.mac.mac_version;
    if keys.is_nonce_used(version, join.join_eui, join.dev_nonce)
        && !sabotage::planted(Bug::DevNonceOutsideApply)
    {
        return JoinReply::DevNonceUsed;
    }
    let next = keys.next_join_nonce;
    if next != join.expected_join_nonce {
        return JoinReply::JoinNonceMoved { next };
    }
    if next.0 > JOIN_NONCE_MAX {
        return JoinReply::Gone;
    }
    let session_epoch = SessionEpoch(device.last_epoch.0.saturating_add(1));
    let Ok(session) = transition::activate_join(join, &profile.mac, session_epoch) else {
        return JoinReply::Gone;
    };
    keys.use_nonce(version, join.join_eui, join.dev_nonce);
    if !sabotage::planted(Bug::JoinNonceRepeats) {
        keys.next_join_nonce = JoinNonce(next.0 + 1);
    }
    device.last_epoch = session_epoch;
    device.pending_session = Some(session);
    device.last_seen_at = device.last_seen_at.max(Some(join.received_at.min(now)));
    JoinReply::Accepted { session_epoch }
}

impl State {
    /// Whether a join-request with this nonce would be refused. Source: LoRaWAN 1.0.4 §6.2.5.
    pub fn is_nonce_used(&self, dev_eui: DevEui, join_eui: JoinEui, nonce: DevNonce) -> bool {
        let Some(device) = self.device(dev_eui) else { return false };
        let Some(profile) = self.device_profile(device.device_profile_id) else { return false };
        let keys = device.keys.as_ref();
        keys.is_some_and(|keys| keys.is_nonce_used(profile.mac.mac_version, join_eui, nonce))
    }
}
