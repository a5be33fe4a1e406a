//! How a simulated node is set up: the same for every boot of a machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use host::forming::Beginning;
use host::peer::CookieKey;
use host::service::{Membership, PeerSettings, Settings};
use lorawan::NetId;
use mac::MacConfig;
use node::api::ApiSettings;
use node::api::wire::{Listen, NodeInfo};
use node::broker::BrokerConfig;
use node::vault::Vault;
use node::{Config, Founding};
use scenario::Scenario;
use store::model::{PasswordHash, Tenant, User};
use store::{Id, NodeId};

use super::kit::region;
use super::machine::{Inner, PORT_GATEWAYS, PORT_MQTT};
use super::record::Record;
use crate::dice::Seed;
use crate::oracle::{Fact, RaftStep};

/// Where nodes listen for each other.
pub(super) const PORT_PEERS: u16 = 6_369;
/// Entries kept behind a snapshot.
const KEEP_ENTRIES: u64 = 20;
/// What fills a piece of a snapshot: small, so that even the states of small worlds go over in many
/// pieces, between which anything may happen.
const PIECE_BYTES: usize = 2 << 10;

/// The settings of one machine's node.
pub(super) fn of(machine: &Inner) -> Settings {
    let Inner { scenario, seed, address, record, name, .. } = machine;
    let (own, seed, record, node) = (scenario.clone(), *seed, record.clone(), name.clone());
    let socket = |port| SocketAddr::new(*address, port);
    Settings {
        gateways: vec![socket(PORT_GATEWAYS)],
        mqtt: vec![socket(PORT_MQTT)],
        connections_max: 1_000,
        peers: PeerSettings {
            listen: vec![socket(PORT_PEERS)],
            name: format!("{name}@{address}"),
            address: format!("{address}:{PORT_PEERS}"),
            cookie: CookieKey::new(seed.bytes("cookie")),
            beginning: beginning(scenario),
        },
        node: Box::new(move |membership| {
            let step = RaftStep::Numbered(membership.raft_id);
            record.tell(Fact::Raft { node: node.clone(), step });
            config(&own, seed, membership, &record)
        }),
        raft: host::raft::Settings {
            snapshot_entries: scenario.nodes.snapshot_every,
            keep_entries: KEEP_ENTRIES,
            piece_bytes: PIECE_BYTES,
            ..host::raft::Settings::default()
        },
    }
}

fn beginning(scenario: &Scenario) -> Beginning {
    let count = u8::try_from(scenario.nodes.count).unwrap_or(u8::MAX);
    if count < 2 {
        return Beginning::Alone;
    }
    let address = |place: u8| {
        let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, place));
        format!("{address}:{PORT_PEERS}").parse().expect("an address and a port")
    };
    Beginning::Seeds((1..=count).map(address).collect())
}

fn config(scenario: &Scenario, seed: Seed, membership: &Membership, record: &Record) -> Config {
    record.guard("the vault's key", &*membership.data_key);
    let net_id = NetId::default();
    let raft_id = NodeId(membership.raft_id);
    let region = region(scenario).name.to_owned();
    let mut mac = MacConfig::new(raft_id, net_id);
    mac.dedup = scenario.nodes.deduplication.0;
    let info = NodeInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: raft_id.0,
        region: region.clone(),
        listen: Listen { mqtt_port: PORT_MQTT, ..Listen::default() },
        ..NodeInfo::default()
    };
    Config {
        node: raft_id,
        vault: Vault::new(1, &membership.data_key),
        listeners: 1,
        mac,
        broker: BrokerConfig::new(raft_id),
        api: ApiSettings { region, channels: None, net_id, mqtt_port: PORT_MQTT },
        plate: membership.plate.clone(),
        founding: membership.founds.map(|cluster_id| founding(seed, cluster_id, membership)),
        info,
        ticktime: cluster::detector::TICKTIME_DEFAULT,
    }
}

fn founding(seed: Seed, cluster_id: Id, membership: &Membership) -> Founding {
    let id = |name: &str| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&seed.bytes(name)[..16]);
        Id::from_random(bytes)
    };
    let admin = User {
        id: id("admin"),
        email: "admin".to_owned(),
        note: String::new(),
        is_admin: true,
        is_active: true,
        password: PasswordHash::Sha256(seed.bytes("admin password")),
        generation: 0,
        created_at: clock::WallTime::UNIX_EPOCH,
        updated_at: clock::WallTime::UNIX_EPOCH,
    };
    let tenant = Tenant {
        id: id("tenant"),
        name: super::operator::TENANT.to_owned(),
        can_have_gateways: true,
        ..Tenant::default()
    };
    Founding {
        cluster_id: Some(cluster_id),
        founders: membership.founders.clone(),
        cluster_name: "sim".to_owned(),
        admin,
        tenant,
    }
}
