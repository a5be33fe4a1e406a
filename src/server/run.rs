//! One node in the real world: its folder, its sockets, its loop, its HTTP door.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::forming::Beginning;
use host::peer::CookieKey;
use host::service::{self, Handle, Membership, PeerSettings, Settings, StartError};
use host::storage::StorageError;
use lorawan::NetId;
use mac::{ChannelSet, MacConfig};
use node::api::wire::{Listen, NodeInfo};
use node::api::{ApiSettings, Credentials, Operation, Outcome};
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{Config, Founding, Secret};
use sha2::{Digest as _, Sha256};
use store::model::{PasswordHash, Tenant, User};
use store::{Id, NodeId};
use zeroize::Zeroizing;

use crate::data::{DataError, DataFolder};
use crate::disk::FileDisk;
use crate::world::{Family, RealWorld, draw};

/// The number of the data key in the key file.
const DATA_KEY: u32 = 1;
/// How often readiness is looked at during a start.
const READY_POLL: Duration = Duration::from_millis(2);

/// What `tern serve` was told.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Data folder.
    pub data: PathBuf,
    /// UDP addresses for gateways.
    pub gateways: Vec<SocketAddr>,
    /// TCP address for MQTT clients.
    pub mqtt: SocketAddr,
    /// TCP address for HTTP, told to people; it is bound elsewhere.
    pub http: SocketAddr,
    /// MQTT connections at a time.
    pub connections_max: usize,
    /// Region of new device profiles, `EU868`.
    pub region: String,
    /// Uplink channels of new device profiles on a fixed plan.
    pub channels: Option<ChannelSet>,
    /// Network.
    pub net_id: NetId,
    /// Deduplication window.
    pub dedup: Duration,
    /// Wait for an application's answer.
    pub downlink_wait: Duration,
    /// How long before a window opens the frame must leave this node.
    pub gateway_delay: Duration,
    /// How long a persistent MQTT session outlives its connection, in seconds, at most.
    pub session_expiry_s: u32,
    /// For people, and part of the secret between peers.
    pub cluster_name: String,
    /// Nobody has heard a node for so long: it is down.
    pub ticktime: Duration,
    /// The node's place among others.
    pub cluster: ClusterSettings,
    /// Space kept allocated against a full disk, in bytes.
    pub reserve_bytes: u64,
}

/// A node's place among others.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// `tern@host`
    pub name: String,
    /// Where it may listen for other nodes: the first of these that is free.
    pub listen: Vec<SocketAddr>,
    /// Where others reach it; port 0: the one it listens on.
    pub address: String,
    /// IPv4 or IPv6.
    pub family: Family,
    /// The cookie, if it is not to be read from the data folder.
    pub cookie: Option<Zeroizing<String>>,
    /// How it becomes a member if its storage is empty.
    pub beginning: Beginning,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The storage in it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A socket or the log.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It ended before it was ready.
    #[error("{0}")]
    Failed(String),
}

/// A node that is ready.
pub struct Running {
    /// The way to it.
    pub handle: Handle<RealWorld>,
    /// Its folder.
    pub data: PathBuf,
    /// The first admin password, if it was made by this start.
    pub new_password: Option<Zeroizing<String>>,
    /// Where the first admin password lies.
    pub password_file: PathBuf,
}

/// A folder that is ours, with its storage open.
pub struct Prepared {
    folder: DataFolder,
    cookie: Zeroizing<String>,
    world: RealWorld,
    disk: FileDisk,
}

impl Prepared {
    /// The folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }
}

/// A member of a cluster that may not serve yet.
pub struct Begun {
    /// The way to it.
    pub handle: Handle<RealWorld>,
    folder: DataFolder,
    password: Option<(Zeroizing<String>, bool)>,
    founder: Id,
}

/// Starts a node; returns when its log has recovered and it serves.
///
/// * Errors: [`ServeError`]; nothing runs then.
pub async fn start(settings: &ServeSettings) -> Result<Running, ServeError> {
    let begun = begin(settings, prepare(settings)?).await?;
    let handle = begun.handle.clone();
    tokio::select! {
        biased;
        running = begun.ready() => Ok(running),
        text = handle.failed() => Err(ServeError::Failed(text)),
    }
}

/// Opens the folder and the storage in it, which no other process may have; sets the storage aside
/// if the node has left the cluster whose it is.
///
/// * Errors: [`ServeError`].
pub fn prepare(settings: &ServeSettings) -> Result<Prepared, ServeError> {
    let folder = DataFolder::open(&settings.data)?;
    let cookie = match &settings.cluster.cookie {
        Some(cookie) => cookie.clone(),
        None => folder.cookie(draw)?,
    };
    let world = RealWorld::new(DataFolder::open(&settings.data)?, settings.cluster.family);
    let mut disk = FileDisk::open(folder.path(), settings.reserve_bytes)?;
    if service::must_be_set_aside(&world, &disk).map_err(StartError::Form)? {
        drop(disk);
        let aside = folder.set_aside("pre-join")?;
        tracing::info!(to = %aside.display(), "the data of the cluster that was left is set aside");
        disk = FileDisk::open(folder.path(), settings.reserve_bytes)?;
    }
    Ok(Prepared { folder, cookie, world, disk })
}

/// Starts a node; returns when it is a member of a cluster, however long that takes.
///
/// * Errors: [`ServeError`]; nothing runs then.
pub async fn begin(settings: &ServeSettings, prepared: Prepared) -> Result<Begun, ServeError> {
    let Prepared { folder, cookie, world, disk } = prepared;
    let password = folder.admin_password(draw)?;
    let admin = admin(password.as_ref().map(|(password, _)| password));
    let (own, data, founder) = (settings.clone(), folder.path().to_owned(), admin.id);
    let name = settings.cluster_name.clone();
    let cookie = tokio::task::spawn_blocking(move || cookie_key(&cookie, &name));
    let cookie = cookie.await.map_err(|error| ServeError::Failed(error.to_string()))?;
    let settings = Settings {
        gateways: settings.gateways.clone(),
        mqtt: vec![settings.mqtt],
        connections_max: settings.connections_max,
        peers: PeerSettings {
            listen: settings.cluster.listen.clone(),
            name: settings.cluster.name.clone(),
            address: settings.cluster.address.clone(),
            cookie,
            beginning: settings.cluster.beginning.clone(),
        },
        node: Box::new(move |membership| node_config(&own, &data, membership, admin)),
        raft: host::raft::Settings::default(),
    };
    let handle = service::start(world, disk, settings).await?;
    Ok(Begun { handle, folder, password, founder })
}

impl Begun {
    /// Waits until it serves.
    pub async fn ready(self) -> Running {
        let Self { handle, folder, password, founder } = self;
        loop {
            let health = handle.call(Credentials::Anonymous, Operation::GetHealth).await;
            if matches!(health, Ok(Outcome::Health(health)) if health.ready) {
                break;
            }
            tokio::time::sleep(READY_POLL).await;
        }
        // Another founder's admin, or that of the cluster that admitted this node, is the
        // cluster's.
        let is_ours = handle.knows_user(founder).await;
        if !is_ours && password.as_ref().is_some_and(|(_, new)| *new) {
            folder.forget_password();
        }
        Running {
            handle,
            data: folder.path().to_owned(),
            new_password: password.filter(|(_, new)| *new && is_ours).map(|(password, _)| password),
            password_file: folder.password_file(),
        }
    }
}

/// The cookie as the handshake takes it: slow on purpose, and another one for each cluster's name.
fn cookie_key(cookie: &str, cluster_name: &str) -> CookieKey {
    let digest = Sha256::digest(cluster_name.as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest[..16]);
    CookieKey::new(host::password::derive(cookie.as_bytes(), &salt))
}

/// The first user. Used once, when the log is empty; the hash costs what a login costs.
fn admin(password: Option<&Zeroizing<String>>) -> User {
    let [salt, id, ..] = halves();
    let phc = password.map_or_else(String::new, |password| {
        host::password::hash(&Secret::new(password.to_string()), &salt)
    });
    User {
        id: Id::from_random(id),
        email: "admin".into(),
        note: "made with the cluster".into(),
        is_admin: true,
        is_active: true,
        password: PasswordHash::Phc(phc),
        generation: 0,
        created_at: clock::WallTime::UNIX_EPOCH,
        updated_at: clock::WallTime::UNIX_EPOCH,
    }
}

fn halves() -> [[u8; 16]; 2] {
    let seed = draw();
    let mut halves = [[0; 16]; 2];
    for (half, bytes) in halves.iter_mut().zip(seed.chunks_exact(16)) {
        half.copy_from_slice(bytes);
    }
    halves
}

fn node_config(
    settings: &ServeSettings,
    data: &Path,
    membership: &Membership,
    admin: User,
) -> Config {
    let raft_id = NodeId(membership.raft_id);
    let [id, _] = halves();
    let tenant = Tenant {
        id: Id::from_random(id),
        name: "tern".into(),
        description: "made with the cluster".into(),
        can_have_gateways: true,
        ..Tenant::default()
    };
    let mut mac = MacConfig::new(raft_id, settings.net_id);
    mac.dedup = settings.dedup;
    mac.downlink_wait = settings.downlink_wait;
    mac.gateway_delay = settings.gateway_delay;
    let mut broker = BrokerConfig::new(raft_id);
    broker.session_expiry_s = settings.session_expiry_s;
    let api = ApiSettings {
        region: settings.region.clone(),
        channels: settings.channels,
        net_id: settings.net_id,
        mqtt_port: settings.mqtt.port(),
    };
    let listen = Listen {
        gateways: settings.gateways.iter().map(ToString::to_string).collect(),
        mqtt: settings.mqtt.to_string(),
        http: settings.http.to_string(),
        mqtt_port: settings.mqtt.port(),
    };
    let info = NodeInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        node_id: raft_id.0,
        region: settings.region.clone(),
        listen,
        data: data.display().to_string(),
        ..NodeInfo::default()
    };
    let founding = membership.founds.map(|cluster_id| Founding {
        cluster_id: Some(cluster_id),
        founders: membership.founders.clone(),
        cluster_name: settings.cluster_name.clone(),
        admin,
        tenant,
    });
    Config {
        node: raft_id,
        plate: membership.plate.clone(),
        vault: Vault::new(DATA_KEY, &membership.data_key),
        listeners: u8::try_from(settings.gateways.len()).unwrap_or(u8::MAX),
        mac,
        broker,
        api,
        founding,
        info,
        ticktime: settings.ticktime,
    }
}
