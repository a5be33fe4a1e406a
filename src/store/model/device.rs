//! Devices: registration, keys, activation, queue.

use bytes::Bytes;
use clock::WallTime;
use lorawan::{DevEui, DevNonce, JoinEui, JoinNonce};
use mac::{DeviceSession, MacVersion, RequestId, Sealed, SessionEpoch};
use minicbor::{Decode, Encode};
use sabotage::Bug;

use super::{EarlierReplies, Tags};
use crate::{Id, Reply};

/// A registered device and everything the log knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Device {
    /// Identifier.
    #[n(0)]
    pub dev_eui: DevEui,
    /// Its application.
    #[n(1)]
    pub application_id: Id,
    /// Its profile.
    #[n(2)]
    pub device_profile_id: Id,
    /// For people.
    #[n(3)]
    pub name: String,
    /// Free text.
    #[n(4)]
    pub description: String,
    /// The join server its join-requests must name; `None`: any.
    #[n(5)]
    pub join_eui: Option<JoinEui>,
    /// An ABP device may start its counter anew.
    #[n(6)]
    pub skip_f_cnt_check: bool,
    /// Its frames are ignored.
    #[n(7)]
    pub is_disabled: bool,
    /// Names and values for integrations, not part of events.
    #[n(8)]
    pub variables: Tags,
    /// Names and values, part of every event.
    #[n(9)]
    pub tags: Tags,
    /// Root keys; `None` for ABP.
    #[n(10)]
    pub keys: Option<DeviceKeys>,
    /// The activation in use.
    #[n(11)]
    pub session: Option<DeviceSession>,
    /// An activation whose join-accept went out, until its first uplink.
    #[n(12)]
    pub pending_session: Option<DeviceSession>,
    /// The epoch of the newest activation ever made.
    #[n(13)]
    pub last_epoch: SessionEpoch,
    /// Downlinks waiting, first in first out.
    #[n(14)]
    pub queue: Vec<QueueItem>,
    /// What the device last said of itself.
    #[n(15)]
    pub status: Option<DeviceStatus>,
    /// When it was last heard; only forward.
    #[n(16)]
    pub last_seen_at: Option<WallTime>,
    /// The last answer given to a frame of this device, for a retry of the same request.
    #[n(17)]
    pub last_reply: Option<(RequestId, Reply)>,
    /// Who accepted its last uplink.
    #[n(18)]
    pub last_home: Option<mac::NodeId>,
    /// When it was made.
    #[n(19)]
    pub created_at: WallTime,
    /// When it was last changed by people.
    #[n(20)]
    pub updated_at: WallTime,
    /// Answers before the last, for retries that come late.
    #[n(21)]
    pub earlier_replies: Option<EarlierReplies>,
}

/// Root keys and the nonces they were used with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceKeys {
    /// The AppKey up to 1.0.4 (the API calls it `nwkKey`), the NwkKey from 1.1 on.
    #[n(0)]
    pub nwk_key: Sealed,
    /// The AppKey of 1.1.
    #[n(1)]
    pub app_key: Option<Sealed>,
    /// Next JoinNonce; strictly rising.
    #[n(2)]
    pub next_join_nonce: JoinNonce,
    /// Nonces used, by JoinEUI in order; a plain list, for nearly every device names one.
    #[n(3)]
    pub dev_nonces: Vec<UsedNonces>,
}

/// The nonces used with one JoinEUI.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct UsedNonces {
    /// The join server named.
    #[n(0)]
    pub join_eui: JoinEui,
    /// Sorted; from 1.0.4 on only the highest is kept.
    #[n(1)]
    pub nonces: Vec<DevNonce>,
}

impl DeviceKeys {
    /// Nonces used with `join_eui`, sorted.
    pub fn nonces_of(&self, join_eui: JoinEui) -> &[DevNonce] {
        let at = self.dev_nonces.binary_search_by_key(&join_eui, |used| used.join_eui);
        at.ok().and_then(|at| self.dev_nonces.get(at)).map_or(&[], |used| &used.nonces)
    }

    /// Whether a join-request with this nonce would be refused.
    pub fn is_nonce_used(&self, version: MacVersion, join_eui: JoinEui, nonce: DevNonce) -> bool {
        let used = self.nonces_of(join_eui);
        if version.dev_nonce_rises() {
            used.last().is_some_and(|highest| nonce <= *highest)
        } else {
            used.binary_search(&nonce).is_ok()
        }
    }

    /// Notes a nonce as used; where nonces must rise the lower ones need not be kept.
    pub(crate) fn use_nonce(&mut self, version: MacVersion, join_eui: JoinEui, nonce: DevNonce) {
        if sabotage::planted(Bug::DevNonceForgotten) {
            return;
        }
        let at = match self.dev_nonces.binary_search_by_key(&join_eui, |used| used.join_eui) {
            Ok(at) => at,
            Err(at) => {
                self.dev_nonces.reserve_exact(1);
                self.dev_nonces.insert(at, UsedNonces { join_eui, nonces: Vec::new() });
                at
            }
        };
        let Some(used) = self.dev_nonces.get_mut(at) else { return };
        if version.dev_nonce_rises() {
            used.nonces.clear();
        }
        if let Err(at) = used.nonces.binary_search(&nonce) {
            used.nonces.insert(at, nonce);
        }
    }
}

/// From DevStatusAns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceStatus {
    /// 0 = external power, 1..=254 = charge, 255 = unknown.
    #[n(0)]
    pub battery: u8,
    /// Demodulation margin in dB, -32..=31.
    #[n(1)]
    pub margin_db: i8,
    /// When it said so.
    #[n(2)]
    pub at: WallTime,
}

/// How far a queue item has come: queued, handed out, done (then it is no longer in the queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ItemState {
    /// Waits for its turn.
    #[n(0)]
    Queued,
    /// In a home's hands; if unconfirmed never sent anew, and no longer cancellable.
    #[n(1)]
    HandedOut,
    /// Sent under this counter, waits for the device's acknowledgement.
    #[n(2)]
    AwaitsAck {
        /// The downlink's number.
        #[n(0)]
        f_cnt_down: u32,
        /// When it was sent.
        #[n(1)]
        since: WallTime,
    },
}

/// One downlink that an application asked for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct QueueItem {
    /// Identifier, part of `ack` and `txack` events.
    #[n(0)]
    pub id: Id,
    /// 1..=223
    #[n(1)]
    pub f_port: u8,
    /// Wants an acknowledgement.
    #[n(2)]
    pub confirmed: bool,
    /// Plaintext, or ciphertext under `encrypted_f_cnt`.
    #[n(3)]
    #[cbor(with = "mac::cbor_bytes")]
    pub data: Bytes,
    /// The application encrypted it itself, for this counter.
    #[n(4)]
    pub encrypted_f_cnt: Option<u32>,
    /// Not worth sending after.
    #[n(5)]
    pub expires_at: Option<WallTime>,
    /// How far it has come.
    #[n(6)]
    pub state: ItemState,
    /// When it was queued.
    #[n(7)]
    pub created_at: WallTime,
}
