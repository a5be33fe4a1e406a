//! One node in the real world: its folder, its sockets, its loop, its HTTP door.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use host::service::{self, Handle, Settings, StartError};
use host::storage::StorageError;
use host::world::World;
use lorawan::NetId;
use mac::{ChannelSet, MacConfig};
use node::api::wire::{Listen, NodeInfo};
use node::api::{ApiSettings, Credentials, Operation, Outcome};
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{Config, Founding, Secret};
use store::model::{PasswordHash, Tenant, User};
use store::{Id, NodeId};
use zeroize::Zeroizing;

use crate::data::{DataError, DataFolder};
use crate::disk::FileDisk;
use crate::world::RealWorld;

/// The raft id of a cluster's founder.
const FOUNDER: NodeId = NodeId(1);
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
    /// For people.
    pub cluster_name: String,
    /// Space kept allocated against a full disk, in bytes.
    pub reserve_bytes: u64,
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

/// Starts a node; returns when its log has recovered and it serves.
///
/// * Errors: [`ServeError`]; nothing runs then.
pub async fn start(settings: &ServeSettings) -> Result<Running, ServeError> {
    let world = RealWorld::new();
    let folder = DataFolder::open(&settings.data)?;
    let key = folder.key(|| world.seed())?;
    let password = folder.admin_password(|| world.seed())?;
    let disk = FileDisk::open(folder.path(), settings.reserve_bytes)?;
    let admin = admin(&world, password.as_ref().map(|(password, _)| password));
    let node = node_config(settings, &folder, Vault::new(DATA_KEY, &key), admin);
    let settings = Settings {
        gateways: settings.gateways.clone(),
        mqtt: vec![settings.mqtt],
        connections_max: settings.connections_max,
        node,
        raft: host::raft::Settings { raft_id: FOUNDER.0, ..Default::default() },
    };
    let handle = service::start(world, disk, settings).await?;
    ready(&handle).await?;
    Ok(Running {
        handle,
        data: folder.path().to_owned(),
        new_password: password.filter(|(_, new)| *new).map(|(password, _)| password),
        password_file: folder.password_file(),
    })
}

async fn ready(handle: &Handle<RealWorld>) -> Result<(), ServeError> {
    let wait = async {
        loop {
            let health = handle.call(Credentials::Anonymous, Operation::GetHealth).await;
            if matches!(health, Ok(Outcome::Health(health)) if health.ready) {
                return;
            }
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::select! {
        biased;
        () = wait => Ok(()),
        text = handle.failed() => Err(ServeError::Failed(text)),
    }
}

/// The first user. Used once, when the log is empty; the hash costs what a login costs.
fn admin(world: &RealWorld, password: Option<&Zeroizing<String>>) -> User {
    let [salt, id, ..] = halves(world);
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

fn halves(world: &RealWorld) -> [[u8; 16]; 2] {
    let seed = world.seed();
    let mut halves = [[0; 16]; 2];
    for (half, bytes) in halves.iter_mut().zip(seed.chunks_exact(16)) {
        half.copy_from_slice(bytes);
    }
    halves
}

fn node_config(settings: &ServeSettings, folder: &DataFolder, vault: Vault, admin: User) -> Config {
    let [id, _] = halves(&RealWorld::new());
    let tenant = Tenant {
        id: Id::from_random(id),
        name: "tern".into(),
        description: "made with the cluster".into(),
        can_have_gateways: true,
        ..Tenant::default()
    };
    let mut mac = MacConfig::new(FOUNDER, settings.net_id);
    mac.dedup = settings.dedup;
    mac.downlink_wait = settings.downlink_wait;
    mac.gateway_delay = settings.gateway_delay;
    let mut broker = BrokerConfig::new(FOUNDER);
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
        node_id: FOUNDER.0,
        region: settings.region.clone(),
        listen,
        data: folder.path().display().to_string(),
        ..NodeInfo::default()
    };
    Config {
        node: FOUNDER,
        vault,
        listeners: u8::try_from(settings.gateways.len()).unwrap_or(u8::MAX),
        mac,
        broker,
        api,
        founding: Founding { cluster_name: settings.cluster_name.clone(), admin, tenant },
        info,
    }
}
