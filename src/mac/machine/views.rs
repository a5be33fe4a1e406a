//! What the machine sees of the replicated state. It keeps no copy: every call looks anew, at what
//! this node has applied so far.

use clock::Duration;
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, Key};

use super::away::Home;
use crate::transition::QueueItem;
use crate::{DeviceSession, MacProfile, NodeId, Sealed, SessionEpoch, SessionKeys};

/// One session, with what of its device decides about frames.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    /// Device.
    pub dev_eui: DevEui,
    /// Its activation: the one in use, or the one whose first uplink is awaited.
    pub session: &'a DeviceSession,
    /// Its profile.
    pub profile: &'a MacProfile,
    /// It may start its counter anew.
    pub skip_f_cnt_check: bool,
    /// Its frames are ignored.
    pub is_disabled: bool,
}

/// A device that asks to join.
#[derive(Clone, Debug)]
pub struct JoinView<'a> {
    /// Its profile.
    pub profile: &'a MacProfile,
    /// Its frames are ignored.
    pub is_disabled: bool,
    /// The join server it must name; `None`: any.
    pub join_eui: Option<JoinEui>,
    /// Its root key, opened: AppKey up to 1.0.4, NwkKey from 1.1. `None`: not set, or sealed with a
    /// key that this node lacks.
    pub nwk_key: Option<Key>,
    /// The nonce of its next join-accept.
    pub next_join_nonce: JoinNonce,
}

/// A registered gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayView {
    /// A downlink can reach it now: somebody heard its PULL_DATA lately.
    pub has_path: bool,
}

/// The machine's view of the state and of the key vault.
pub trait Devices {
    /// Every session with this address, pending ones included.
    fn sessions(&self, dev_addr: DevAddr) -> Vec<SessionView<'_>>;

    /// One session, if it is still a device's.
    fn session(&self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<SessionView<'_>>;

    /// The opened keys of a session; `None` if this node lacks the key that sealed them.
    fn keys(&self, dev_eui: DevEui, session: &DeviceSession) -> Option<SessionKeys>;

    /// Seals the keys of a new session; `None` if this node cannot.
    fn seal(&self, dev_eui: DevEui, keys: &SessionKeys, nonce: [u8; 24]) -> Option<Sealed>;

    /// A registered device.
    fn join(&self, dev_eui: DevEui) -> Option<JoinView<'_>>;

    /// Whether the log would refuse this nonce.
    fn is_nonce_used(&self, dev_eui: DevEui, join_eui: JoinEui, nonce: DevNonce) -> bool;

    /// Whether some session has this address.
    fn is_dev_addr_taken(&self, dev_addr: DevAddr) -> bool;

    /// A device's downlink queue, oldest first.
    fn queue(&self, dev_eui: DevEui) -> Vec<QueueItem<'_>>;

    /// A registered gateway.
    fn gateway(&self, gateway: GatewayEui) -> Option<GatewayView>;

    /// Where a device's frames are decided: the node that holds its downlink numbers, else, or if
    /// that cannot be reached, the first of those that can by rendezvous hash.
    fn home(&self, dev_eui: DevEui) -> Home {
        let _ = dev_eui;
        Home::Here
    }

    /// Whether another node can be reached.
    fn is_reachable(&self, node: NodeId) -> bool {
        let _ = node;
        false
    }

    /// How long ago its last PULL_DATA came, for people; `None`: never, or not known.
    fn pull_age(&self, gateway: GatewayEui) -> Option<Duration> {
        let _ = gateway;
        None
    }
}
