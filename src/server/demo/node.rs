//! A node of the demonstration: on loopback, on ports of its own, in a folder that goes with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use host::forming::Beginning;
use host::service::Handle;
use lorawan::NetId;
use node::api::wire::{Application, Created, DeviceProfile, Gateway, MqttUser, MqttUserCreated};
use node::api::{Credentials, Operation, Outcome};

use super::DemoError;
use crate::run::{self, ClusterSettings, Running, ServeSettings};
use crate::world::{Family, RealWorld};

/// The tenant that every cluster is founded with.
const TENANT: &str = "tern";
/// Space kept against a full disk; a demonstration needs little.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// Broker connections.
const CONNECTIONS_MAX: usize = 64;

/// A folder in the system's temporary folder; removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A name that nobody else has; whoever writes makes it.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tern-demo-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// Where.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Somebody else has removed it already, or may read it: nothing more can be done.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a demonstration's node differs from `tern serve`'s defaults.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings<'a> {
    /// Region of new device profiles.
    pub region: &'a str,
    /// Deduplication window.
    pub dedup: Duration,
    /// Wait for an application's answer.
    pub downlink_wait: Duration,
    /// Network.
    pub net_id: NetId,
}

impl<'a> NodeSettings<'a> {
    /// As `tern serve` has it.
    pub fn new(region: &'a str) -> Self {
        Self {
            region,
            dedup: Duration::from_millis(200),
            downlink_wait: Duration::from_millis(100),
            net_id: NetId::from_be_bytes([0; 3]),
        }
    }
}

/// A running node with its folder.
pub struct DemoNode {
    handle: Handle<RealWorld>,
    folder: Folder,
}

impl DemoNode {
    /// Starts a node in a new folder, on ports that are free.
    ///
    /// * Errors: as `tern serve`.
    pub async fn start(settings: NodeSettings<'_>) -> Result<Self, DemoError> {
        let folder = Folder::new();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let serve = ServeSettings {
            data: folder.0.clone(),
            gateways: vec![any],
            mqtt: any,
            http: any,
            connections_max: CONNECTIONS_MAX,
            region: settings.region.to_owned(),
            channels: None,
            net_id: settings.net_id,
            dedup: settings.dedup,
            downlink_wait: settings.downlink_wait,
            gateway_delay: Duration::from_millis(100),
            session_expiry_s: 3_600,
            cluster_name: "demo".to_owned(),
            ticktime: cluster::detector::TICKTIME_DEFAULT,
            cluster: ClusterSettings {
                name: "tern@127.0.0.1".to_owned(),
                listen: vec![any],
                address: "127.0.0.1:0".to_owned(),
                family: Family::V4,
                cookie: None,
                beginning: Beginning::Alone,
            },
            reserve_bytes: RESERVE_BYTES,
        };
        let Running { handle, .. } = run::start(&serve).await?;
        Ok(Self { handle, folder })
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Where gateways send.
    pub fn udp(&self) -> SocketAddr {
        self.handle.addresses().gateways[0]
    }

    /// Where MQTT clients connect.
    pub fn mqtt(&self) -> SocketAddr {
        self.handle.addresses().mqtt[0]
    }

    /// Calls an operation as the local administrator.
    ///
    /// * Errors: the node's, with what was asked.
    pub async fn call(&self, what: &str, operation: Operation) -> Result<Outcome, DemoError> {
        let outcome = self.handle.call(Credentials::Local, operation).await;
        outcome.map_err(|source| DemoError::Refused { what: what.to_owned(), source })
    }

    /// Calls an operation that makes something with an id.
    ///
    /// * Errors: as [`Self::call`].
    pub async fn create(&self, what: &str, operation: Operation) -> Result<String, DemoError> {
        let outcome = self.call(what, operation).await?;
        let Outcome::Created(Created { id }) = &outcome else {
            return Err(DemoError::unexpected(what, outcome));
        };
        Ok(id.clone())
    }

    /// Makes an application.
    ///
    /// * Returns its id.
    pub async fn application(&self, name: &str) -> Result<String, DemoError> {
        let tenant_id = TENANT.to_owned();
        let one = Application { name: name.to_owned(), tenant_id, ..Application::default() };
        self.create("application", Operation::CreateApplication(one)).await
    }

    /// Makes a device profile of the tenant.
    ///
    /// * Returns its id.
    pub async fn profile(&self, mut one: DeviceProfile) -> Result<String, DemoError> {
        one.tenant_id = TENANT.to_owned();
        self.create("device profile", Operation::CreateDeviceProfile(Box::new(one))).await
    }

    /// Registers a gateway.
    pub async fn gateway(&self, gateway_id: &str, name: &str) -> Result<(), DemoError> {
        let one = Gateway {
            gateway_id: gateway_id.to_owned(),
            name: name.to_owned(),
            tenant_id: TENANT.to_owned(),
            ..Gateway::default()
        };
        self.call("gateway", Operation::CreateGateway(one)).await.map(|_| ())
    }

    /// Makes a broker account that sees everything and may publish.
    pub async fn account(&self, name: &str) -> Result<MqttUserCreated, DemoError> {
        let user =
            MqttUser { name: name.to_owned(), all: true, can_publish: true, ..MqttUser::default() };
        let what = "MQTT account";
        let outcome = self.call(what, Operation::CreateMqttUser(user)).await?;
        let Outcome::MqttUserCreated(created) = &outcome else {
            return Err(DemoError::unexpected(what, outcome));
        };
        Ok(created.clone())
    }

    /// Stops the node and removes its folder.
    pub async fn stop(self) {
        self.handle.stop().await;
    }
}
