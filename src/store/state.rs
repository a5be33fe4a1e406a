//! The state: what the log has decided so far, in maps that share structure, so that a clone is
//! cheap and a snapshot can be written from one while the log goes on. Source: DESIGN 3.

use std::sync::Arc;

use clock::WallTime;
use imbl::OrdMap;
use lorawan::{DevAddr, DevEui, GatewayEui, JoinNonce};
use mac::{NodeId, RequestId, SessionEpoch};
use minicbor::{Decode, Encode};

use crate::client_session::{ClientSession, Retained, StoredMessage};
use crate::event_log::EventLog;
use crate::index::Index;
use crate::member::Member;
use crate::model::{
    ApiKey, Application, Device, DeviceProfile, Gateway, MqttAccount, Tenant, TenantUser, User,
};
use crate::{Id, Reply};

/// Which cluster this is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cluster {
    /// Drawn by the founder.
    #[n(0)]
    pub id: Id,
    /// For people.
    #[n(1)]
    pub name: String,
}

/// Single values of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Core {
    /// Log index of the last entry applied.
    #[n(0)]
    pub(crate) applied: u64,
    /// Leader's wall clock, never going back.
    #[n(1)]
    pub(crate) now: WallTime,
    /// Microseconds of leaders' monotonic clocks.
    #[n(2)]
    pub(crate) ticks: u64,
    /// `None` before the founding.
    #[n(3)]
    pub(crate) cluster: Option<Cluster>,
    /// Commands above it are not used yet.
    #[n(4)]
    pub(crate) feature_level: u32,
    /// The last fencing number given.
    #[n(5)]
    pub(crate) last_fence: u64,
    /// The last number given to a stored message.
    #[n(6)]
    pub(crate) last_message: u64,
    /// Number of the newest answer kept for retries.
    #[n(7)]
    pub(crate) last_reply: u64,
    /// No device begins below what a deleted one reached: a device that is deleted and made anew
    /// neither repeats an event identifier..
    #[n(8)]
    pub(crate) epoch_floor: SessionEpoch,
    /// ..nor a JoinNonce.
    #[n(9)]
    pub(crate) join_nonce_floor: JoinNonce,
}

/// The downlink numbers of a session that has ended and whose keys may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct RetiredNumbers {
    /// First NFCntDown never granted.
    #[n(0)]
    pub(crate) n_next: u32,
    /// Its last grant's epoch.
    #[n(1)]
    pub(crate) n_epoch: u32,
    /// First AFCntDown never granted.
    #[n(2)]
    pub(crate) a_next: u32,
    /// Its last grant's epoch.
    #[n(3)]
    pub(crate) a_epoch: u32,
}

/// Everything that the log has decided. Changed by [`Self::apply`] alone.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) core: Core,
    pub(crate) members: OrdMap<NodeId, Member>,
    pub(crate) tenants: OrdMap<Id, Arc<Tenant>>,
    pub(crate) tenant_users: OrdMap<(Id, Id), TenantUser>,
    pub(crate) users: OrdMap<Id, Arc<User>>,
    pub(crate) api_keys: OrdMap<Id, Arc<ApiKey>>,
    pub(crate) mqtt_accounts: OrdMap<String, Arc<MqttAccount>>,
    pub(crate) applications: OrdMap<Id, Arc<Application>>,
    pub(crate) device_profiles: OrdMap<Id, Arc<DeviceProfile>>,
    pub(crate) devices: OrdMap<DevEui, Arc<Device>>,
    pub(crate) gateways: OrdMap<GatewayEui, Arc<Gateway>>,
    pub(crate) retired: OrdMap<(DevEui, DevAddr), RetiredNumbers>,
    pub(crate) client_sessions: OrdMap<String, Arc<ClientSession>>,
    pub(crate) messages: OrdMap<u64, Arc<StoredMessage>>,
    pub(crate) retained: OrdMap<String, Arc<Retained>>,
    /// Answers by the order in which they were given.
    pub(crate) replies: OrdMap<u64, (RequestId, Arc<Reply>)>,
    pub(crate) events: EventLog,
    /// Derived from the rest.
    pub(crate) index: Index,
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
