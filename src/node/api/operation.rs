//! What can be asked, and what can come of it.

use crate::effect::Secret;

use super::wire::{
    ActivationDetails, ApiKey, ApiKeyCreated, Application, ApplicationDetails, ApplicationListItem,
    ClusterInfo, Created, Device, DeviceActivation, DeviceDetails, DeviceImport, DeviceKeys,
    DeviceKeysDetails, DeviceListItem, DeviceProfile, DeviceProfileDetails, DeviceProfileListItem,
    Empty, EventPage, Gateway, GatewayDetails, GatewayListItem, Health, List, ListQuery,
    LoginToken, MemberEventPage, MembershipAnswer, Metric, MqttUser, MqttUserCreated, NewPassword,
    NewUser, NextFCntDown, NodeInfo, Profile, QueueItem, QueueItems, RandomDevAddr, Tenant,
    TenantDetails, TenantListItem, TenantUser, TenantUserDetails, TenantUserListItem,
    UnknownGateway, User, UserCreated, UserDetails, UserListItem, WatchPage,
};

/// Who calls.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nobody in particular: health, login, and nothing else.
    Anonymous,
    /// Somebody on the node's own host, through the 0600 socket, of the server's own uid: acts as a
    /// global administrator. Only the host of that socket may say so.
    Local,
    /// A login token or an API key.
    Bearer(Secret),
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those above this sequence; `None`: only those yet to come.
    pub after: Option<u64>,
    /// At most so many, 1..=1,000; 0 = 100.
    pub limit: u32,
    /// Application by id or name; empty: any that the caller may see.
    pub application_id: String,
    /// Device; empty: any.
    pub dev_eui: String,
    /// If there are none, wait until there is one.
    pub wait: bool,
}

/// Which lines of the live view are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchFilter {
    /// Only those above this number; `None`: only those yet to come.
    pub after: Option<u64>,
    /// Device; empty: any.
    pub dev_eui: String,
    /// Gateway; empty: any.
    pub gateway_id: String,
    /// If there are none, wait until there is one.
    pub wait: bool,
}

/// Which events of members are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFilter {
    /// Only those above this number; `None`: only those yet to come.
    pub after: Option<u64>,
    /// If there are none, wait until there is one.
    pub wait: bool,
}

impl Operation {
    /// Whether it concerns this node alone: it is answered from what the node knows now, also when
    /// the cluster can decide nothing.
    pub const fn is_of_this_node(&self) -> bool {
        matches!(
            self,
            Self::GetHealth
                | Self::GetMetrics
                | Self::GetNode
                | Self::GetCluster
                | Self::Watch(_)
                | Self::WatchMembers(_)
                | Self::NoteRefusals { .. }
                | Self::Drain
        )
    }
}

/// What is asked. Wherever an identifier is a text, a name that is unique where the caller looks
/// does as well; EUIs are taken with dashes, colons or spaces, in either case.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Make a tenant.
    CreateTenant(Tenant),
    /// One tenant.
    GetTenant(String),
    /// Change a tenant; all values are replaced.
    UpdateTenant(Tenant),
    /// Delete a tenant and all it owns.
    DeleteTenant(String),
    /// The tenants the caller may see.
    ListTenants(ListQuery),
    /// Give a user rights in a tenant.
    AddTenantUser(TenantUser),
    /// A user's rights.
    GetTenantUser {
        /// Tenant.
        tenant: String,
        /// User.
        user: String,
    },
    /// Change a user's rights.
    UpdateTenantUser(TenantUser),
    /// Take a user out of a tenant.
    DeleteTenantUser {
        /// Tenant.
        tenant: String,
        /// User.
        user: String,
    },
    /// The users of a tenant.
    ListTenantUsers(ListQuery),
    /// Make a user.
    CreateUser(NewUser),
    /// One user.
    GetUser(String),
    /// Change a user; not his password.
    UpdateUser(User),
    /// Delete a user.
    DeleteUser(String),
    /// All users.
    ListUsers(ListQuery),
    /// Set a password; his logins end.
    SetPassword {
        /// User.
        user: String,
        /// New password; `None`: the server draws one and shows it once.
        password: Option<Secret>,
    },
    /// Make an API key.
    CreateApiKey(ApiKey),
    /// Delete an API key.
    DeleteApiKey(String),
    /// API keys: of a tenant, or of global administrators.
    ListApiKeys(ListQuery),
    /// Log in.
    Login {
        /// Login name.
        email: String,
        /// Password.
        password: Secret,
    },
    /// End the login whose token made this call.
    Logout,
    /// Who the caller is.
    GetProfile,
    /// Make an application.
    CreateApplication(Application),
    /// One application.
    GetApplication(String),
    /// Change an application.
    UpdateApplication(Application),
    /// Delete an application and its devices.
    DeleteApplication(String),
    /// The applications of a tenant, or all the caller may see.
    ListApplications(ListQuery),
    /// Make a device profile.
    CreateDeviceProfile(Box<DeviceProfile>),
    /// One device profile.
    GetDeviceProfile(String),
    /// Change a device profile.
    UpdateDeviceProfile(Box<DeviceProfile>),
    /// Delete a device profile that no device uses.
    DeleteDeviceProfile(String),
    /// The device profiles of a tenant and the global ones, or all the caller may see.
    ListDeviceProfiles(ListQuery),
    /// Register a device.
    CreateDevice(Device),
    /// One device, by DevEUI or name.
    GetDevice(String),
    /// Change a device's registration.
    UpdateDevice(Device),
    /// Delete a device.
    DeleteDevice(String),
    /// The devices of an application or profile, or all the caller may see.
    ListDevices(ListQuery),
    /// Set the root keys of a device that has none.
    CreateDeviceKeys(DeviceKeys),
    /// A device's root keys.
    GetDeviceKeys(String),
    /// Change a device's root keys.
    UpdateDeviceKeys(DeviceKeys),
    /// Remove a device's root keys.
    DeleteDeviceKeys(String),
    /// Forget the DevNonces a device has used.
    FlushDevNonces(String),
    /// Activate a device by personalisation.
    ActivateDevice(DeviceActivation),
    /// End a device's activation.
    DeactivateDevice(String),
    /// A device's activation.
    GetActivation(String),
    /// Draw an address nobody has.
    GetRandomDevAddr(String),
    /// The counter for an application that encrypts itself.
    GetNextFCntDown(String),
    /// Queue a downlink.
    Enqueue {
        /// The downlink.
        item: QueueItem,
        /// Drop what waits first.
        flush: bool,
    },
    /// A device's queue.
    GetQueue {
        /// Device.
        device: String,
        /// Only how many.
        count_only: bool,
    },
    /// Drop what waits; what was handed out stays.
    FlushQueue(String),
    /// Take one downlink back; one that was handed out is refused with a conflict.
    CancelItem {
        /// Device.
        device: String,
        /// Item.
        item: String,
    },
    /// Register a gateway.
    CreateGateway(Gateway),
    /// One gateway, by id or name.
    GetGateway(String),
    /// Change a gateway.
    UpdateGateway(Gateway),
    /// Delete a gateway.
    DeleteGateway(String),
    /// The gateways of a tenant, or all the caller may see.
    ListGateways(ListQuery),
    /// Gateways that nobody registered.
    ListUnknownGateways,
    /// Make an account of the broker.
    CreateMqttUser(MqttUser),
    /// One account.
    GetMqttUser(String),
    /// Change an account; an empty password stays as it is.
    UpdateMqttUser(MqttUser),
    /// Delete an account.
    DeleteMqttUser(String),
    /// The accounts the caller may see.
    ListMqttUsers(ListQuery),
    /// Move a device in from another server (see [`DeviceImport`]).
    ImportDevice(Box<DeviceImport>),
    /// Rows of the event log.
    ReadEvents(EventFilter),
    /// Lines of the live view.
    Watch(WatchFilter),
    /// What has happened to members of the cluster.
    WatchMembers(MemberFilter),
    /// Who the node is and how it does.
    GetNode,
    /// What a load balancer asks.
    GetHealth,
    /// The node's numbers.
    GetMetrics,
    /// Show in the live view that the web layer refused requests. Only it asks so; it has no path.
    NoteRefusals {
        /// Why they were refused.
        reason: String,
        /// How many since this was last shown.
        count: u64,
    },
    /// Serve no more gateways: their datagrams go unacknowledged, so that they turn elsewhere. The
    /// leadership goes to another node.
    Drain,
    /// The cluster as this node sees it.
    GetCluster,
    /// Become one cluster with another node.
    JoinCluster {
        /// `name@host`, `name@host:port` or `host:port`.
        target: String,
        /// This node's own devices may be set aside.
        discard_local: bool,
        /// The other node comes here; this one never moves.
        attach: bool,
    },
    /// Leave the cluster: this node goes on alone and empty.
    LeaveCluster,
    /// Take another member out of the cluster, dead or alive.
    RemoveMember {
        /// Its name or raft id.
        member: String,
    },
}

/// What came of it. As JSON each is the body of the answer.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Done.
    Empty(Empty),
    /// Made.
    Created(Created),
    /// [`Operation::GetTenant`]
    Tenant(TenantDetails),
    /// [`Operation::ListTenants`]
    Tenants(List<TenantListItem>),
    /// [`Operation::GetTenantUser`]
    TenantUser(TenantUserDetails),
    /// [`Operation::ListTenantUsers`]
    TenantUsers(List<TenantUserListItem>),
    /// [`Operation::CreateUser`]
    UserCreated(UserCreated),
    /// [`Operation::GetUser`]
    User(UserDetails),
    /// [`Operation::ListUsers`]
    Users(List<UserListItem>),
    /// [`Operation::SetPassword`] where the server drew it.
    Password(NewPassword),
    /// [`Operation::CreateApiKey`]
    ApiKeyCreated(ApiKeyCreated),
    /// [`Operation::ListApiKeys`]
    ApiKeys(List<ApiKey>),
    /// [`Operation::Login`]
    Login(LoginToken),
    /// [`Operation::GetProfile`]
    Profile(Profile),
    /// [`Operation::GetApplication`]
    Application(ApplicationDetails),
    /// [`Operation::ListApplications`]
    Applications(List<ApplicationListItem>),
    /// [`Operation::GetDeviceProfile`]
    DeviceProfile(Box<DeviceProfileDetails>),
    /// [`Operation::ListDeviceProfiles`]
    DeviceProfiles(List<DeviceProfileListItem>),
    /// [`Operation::GetDevice`]
    Device(Box<DeviceDetails>),
    /// [`Operation::ListDevices`]
    Devices(List<DeviceListItem>),
    /// [`Operation::GetDeviceKeys`]
    DeviceKeys(DeviceKeysDetails),
    /// [`Operation::GetActivation`]
    Activation(ActivationDetails),
    /// [`Operation::GetRandomDevAddr`]
    DevAddr(RandomDevAddr),
    /// [`Operation::GetNextFCntDown`]
    NextFCntDown(NextFCntDown),
    /// [`Operation::GetQueue`]
    Queue(QueueItems),
    /// [`Operation::GetGateway`]
    Gateway(Box<GatewayDetails>),
    /// [`Operation::ListGateways`]
    Gateways(List<GatewayListItem>),
    /// [`Operation::ListUnknownGateways`]
    UnknownGateways(List<UnknownGateway>),
    /// [`Operation::CreateMqttUser`]
    MqttUserCreated(MqttUserCreated),
    /// [`Operation::GetMqttUser`]
    MqttUser(MqttUser),
    /// [`Operation::ListMqttUsers`]
    MqttUsers(List<MqttUser>),
    /// [`Operation::ReadEvents`]
    Events(EventPage),
    /// [`Operation::Watch`]
    Watch(WatchPage),
    /// [`Operation::WatchMembers`]
    MemberEvents(MemberEventPage),
    /// [`Operation::GetNode`]
    Node(Box<NodeInfo>),
    /// [`Operation::GetCluster`]
    Cluster(Box<ClusterInfo>),
    /// [`Operation::JoinCluster`], [`Operation::LeaveCluster`], [`Operation::RemoveMember`]
    Membership(MembershipAnswer),
    /// [`Operation::GetHealth`]
    Health(Health),
    /// [`Operation::GetMetrics`]; has no JSON, the web layer writes the Prometheus text.
    #[serde(skip_serializing)]
    Metrics(Vec<Metric>),
}
