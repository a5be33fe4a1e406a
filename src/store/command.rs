//! What the log decides. A command is complete: time is stamped by the leader when it appends,
//! random values are drawn and keys sealed by the proposer, and applying needs nothing else.

use clock::WallTime;
use lorawan::{DevEui, GatewayEui};
use mac::{
    AcceptJoin, AcceptUplink, DeviceSession, NodeId, PlanDownlink, RecordTxAck, RequestId, Sealed,
};
use minicbor::{Decode, Encode};

use crate::model::{
    ApiKey, Application, Device, DeviceProfile, Gateway, MqttAccount, PasswordHash, QueueItem,
    Tenant, TenantUser, User,
};
use crate::{Id, MemberStatus, MqttMessage, MqttSubscription, Nameplate};

/// One entry of the log: what the leader appended in one go.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Entry {
    /// The leader's wall clock; apply never lets `State.now` go back.
    #[n(0)]
    pub wall: WallTime,
    /// Microseconds of the leader's monotonic clock since it last stamped an entry, capped.
    #[n(1)]
    pub elapsed_micros: u64,
    /// Applied in this order.
    #[n(2)]
    pub proposals: Vec<Proposal>,
}

/// One command under the name that its retries carry too.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Proposal {
    /// Names the question.
    #[n(0)]
    pub request: RequestId,
    /// The question.
    #[n(1)]
    pub command: Command,
}

/// A question to the log. Numbers are never reused.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Command {
    /// First entry of a cluster.
    #[n(0)]
    Found {
        /// Drawn by the founder.
        #[n(0)]
        cluster_id: Id,
        /// For people, and the salt of the peer links.
        #[n(1)]
        cluster_name: String,
        /// The founder.
        #[n(2)]
        node: NodeId,
        /// The first user.
        #[n(3)]
        admin: User,
        /// The first tenant.
        #[n(4)]
        tenant: Tenant,
        /// All founders, by raft id; empty for a cluster of one without a name.
        #[n(5)]
        #[cbor(default)]
        founders: Vec<(NodeId, Nameplate)>,
    },
    /// A node reached the quorum after a start: its grants are void.
    #[n(1)]
    Boot {
        /// Which node.
        #[n(0)]
        node: NodeId,
        /// How often it has started.
        #[n(1)]
        boot: u64,
        /// The highest feature level its binary knows.
        #[n(2)]
        feature_level: u32,
        /// Who and where it is now; names and addresses may change between two starts.
        #[n(3)]
        plate: Option<Nameplate>,
    },
    /// A genuine data frame.
    #[n(2)]
    AcceptUplink(#[n(0)] Box<AcceptUplink>),
    /// A genuine join-request.
    #[n(3)]
    AcceptJoin(#[n(0)] Box<AcceptJoin>),
    /// A downlink to be filled.
    #[n(4)]
    PlanDownlink(#[n(0)] PlanDownlink),
    /// What became of a downlink.
    #[n(5)]
    RecordTxAck(#[n(0)] RecordTxAck),
    /// Create or change a tenant.
    #[n(6)]
    PutTenant(#[n(0)] Put<Tenant>),
    /// Delete a tenant and all it owns.
    #[n(7)]
    DeleteTenant(#[n(0)] Id),
    /// Set a user's rights in a tenant; `None` removes him.
    #[n(8)]
    SetTenantUser {
        /// Tenant.
        #[n(0)]
        tenant_id: Id,
        /// User.
        #[n(1)]
        user_id: Id,
        /// Rights.
        #[n(2)]
        rights: Option<TenantUser>,
    },
    /// Create or change a user.
    #[n(9)]
    PutUser(#[n(0)] Put<User>),
    /// Change a password.
    #[n(10)]
    SetPassword {
        /// User.
        #[n(0)]
        user_id: Id,
        /// New verifier.
        #[n(1)]
        password: PasswordHash,
    },
    /// Delete a user.
    #[n(11)]
    DeleteUser(#[n(0)] Id),
    /// Create an API key.
    #[n(12)]
    CreateApiKey(#[n(0)] ApiKey),
    /// Delete an API key.
    #[n(13)]
    DeleteApiKey(#[n(0)] Id),
    /// Create or change an MQTT account.
    #[n(14)]
    PutMqttAccount(#[n(0)] Put<MqttAccount>),
    /// Delete an MQTT account.
    #[n(15)]
    DeleteMqttAccount(#[n(0)] String),
    /// Create or change an application.
    #[n(16)]
    PutApplication(#[n(0)] Put<Application>),
    /// Delete an application and its devices.
    #[n(17)]
    DeleteApplication(#[n(0)] Id),
    /// Create or change a device profile.
    #[n(18)]
    PutDeviceProfile(#[n(0)] Put<DeviceProfile>),
    /// Delete a device profile that no device uses.
    #[n(19)]
    DeleteDeviceProfile(#[n(0)] Id),
    /// Create or change a device; keys, sessions, queue and nonces of an existing one stay.
    #[n(20)]
    PutDevice(#[n(0)] Box<Put<Device>>),
    /// Delete a device.
    #[n(21)]
    DeleteDevice(#[n(0)] DevEui),
    /// Set a device's root keys; nonces stay.
    #[n(22)]
    SetDeviceKeys {
        /// Device.
        #[n(0)]
        dev_eui: DevEui,
        /// Whether keys must be there (change), must not (create), or either (`None`).
        #[n(1)]
        must_exist: Option<bool>,
        /// AppKey up to 1.0.4, NwkKey from 1.1.
        #[n(2)]
        nwk_key: Sealed,
        /// AppKey of 1.1.
        #[n(3)]
        app_key: Option<Sealed>,
    },
    /// Remove a device's root keys.
    #[n(23)]
    DeleteDeviceKeys(#[n(0)] DevEui),
    /// Forget the DevNonces used.
    #[n(24)]
    FlushDevNonces(#[n(0)] DevEui),
    /// Activate by personalisation or import; the epoch in it is replaced by the next one.
    #[n(25)]
    Activate {
        /// Device.
        #[n(0)]
        dev_eui: DevEui,
        /// Session without epoch and without grants; `next` counters as given, never lowered for
        /// keys already in use.
        #[n(1)]
        session: Box<DeviceSession>,
    },
    /// End the activation.
    #[n(26)]
    Deactivate(#[n(0)] DevEui),
    /// Queue a downlink.
    #[n(27)]
    Enqueue {
        /// Device.
        #[n(0)]
        dev_eui: DevEui,
        /// Item; state as given only on import.
        #[n(1)]
        item: QueueItem,
    },
    /// Drop what is queued and not handed out.
    #[n(28)]
    FlushQueue(#[n(0)] DevEui),
    /// Create or change a gateway.
    #[n(29)]
    PutGateway(#[n(0)] Box<Put<Gateway>>),
    /// Delete a gateway.
    #[n(30)]
    DeleteGateway(#[n(0)] GatewayEui),
    /// A client with a persistent session connected: create or take over.
    #[n(31)]
    OpenClientSession {
        /// Client identifier, scoped by account.
        #[n(0)]
        client_id: String,
        /// Account.
        #[n(1)]
        account: String,
        /// Drop what an earlier session left.
        #[n(2)]
        clean_start: bool,
        /// Seconds it outlives the connection; `u32::MAX` = for ever.
        #[n(3)]
        expiry_s: u32,
        /// Where it is connected.
        #[n(4)]
        node: NodeId,
    },
    /// The connection of a persistent session ended, or the session does.
    #[n(32)]
    CloseClientSession {
        /// Client identifier.
        #[n(0)]
        client_id: String,
        /// The fencing number the connection had; an older one changes nothing.
        #[n(1)]
        fence: u64,
        /// Drop the session now.
        #[n(2)]
        end: bool,
    },
    /// Subscriptions of a persistent session.
    #[n(33)]
    Subscribe {
        /// Client identifier.
        #[n(0)]
        client_id: String,
        /// Fencing number.
        #[n(1)]
        fence: u64,
        /// Filters to add or replace.
        #[n(2)]
        add: Vec<MqttSubscription>,
        /// Filters to drop.
        #[n(3)]
        remove: Vec<String>,
    },
    /// Messages of a persistent session that its client has taken.
    #[n(34)]
    AckMessages {
        /// Client identifier.
        #[n(0)]
        client_id: String,
        /// Fencing number.
        #[n(1)]
        fence: u64,
        /// Queue sequence numbers.
        #[n(2)]
        taken: Vec<u64>,
    },
    /// A client's message for persistent sessions, or one to retain (empty = forget).
    #[n(35)]
    PublishMessage(#[n(0)] MqttMessage),
    /// Raise the feature level of the log to what every member knows.
    #[n(36)]
    RaiseFeatureLevel(#[n(0)] u32),
    /// Take one downlink out of the queue, unless it is handed out.
    #[n(37)]
    CancelItem {
        /// Device.
        #[n(0)]
        dev_eui: DevEui,
        /// Item.
        #[n(1)]
        item_id: Id,
    },
    /// A node without a log asks to be a member. From feature level 2 on.
    #[n(38)]
    AdmitMember {
        /// Who asks.
        #[n(0)]
        plate: Nameplate,
        /// The highest feature level its binary knows.
        #[n(1)]
        feature_level: u32,
        /// An unreachable member with its name or key, in whose place it votes.
        #[n(2)]
        replaces: Option<NodeId>,
    },
    /// Where a member stands. From feature level 2 on.
    #[n(39)]
    SetMemberStatus {
        /// Which.
        #[n(0)]
        node: NodeId,
        /// Where; `Revoked` is for good.
        #[n(1)]
        status: MemberStatus,
    },
}

/// Create, change, or either.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Put<T> {
    /// Whether it must be there (change), must not be there (create), or either (`None`).
    #[n(0)]
    pub must_exist: Option<bool>,
    /// The whole new value; times of making and change are set by apply.
    #[n(1)]
    pub value: T,
}
