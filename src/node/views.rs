//! How the node's parts look at each other: the state and the vault as `mac` needs them, the
//! sockets as the API needs them. Views only: nothing is kept.

use clock::{Duration, Now, WallTime};
use gateway::semtech::{SeenGateway, Server, Tally};
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, Key};
use mac::transition::{ItemState as PlanItemState, QueueItem};
use mac::{
    DeviceSession, Devices, GatewayView, Home, JoinView, NodeId, Sealed, SessionEpoch, SessionKeys,
    SessionView,
};
use store::State;
use store::model::{Device, ItemState};

use crate::api::wire::{Metric, MetricKind, NodeInfo, NodeState, UnknownGateway};
use crate::api::{GatewayPath, NodeView};
use crate::metrics::Metrics;
use crate::peers::{Ages, Peers};
use crate::vault::{Vault, aad_root, aad_session};

/// A PULL_DATA older than this opens no way down: forwarders repeat it every 5 to 10 s.
const PATH_AGE_MAX: Duration = Duration::from_secs(60);

/// The state and the vault, as `mac` looks at them.
#[derive(Clone, Copy)]
pub(crate) struct StateView<'a> {
    pub(crate) now: Now,
    pub(crate) state: &'a State,
    pub(crate) vault: &'a Vault,
    pub(crate) servers: &'a [Server],
    pub(crate) peers: &'a Peers,
}

impl<'a> StateView<'a> {
    fn view(&self, device: &'a Device, session: &'a DeviceSession) -> Option<SessionView<'a>> {
        let profile = self.state.device_profile(device.device_profile_id)?;
        Some(SessionView {
            dev_eui: device.dev_eui,
            session,
            profile: &profile.mac,
            skip_f_cnt_check: device.skip_f_cnt_check,
            is_disabled: device.is_disabled,
        })
    }
}

impl Devices for StateView<'_> {
    fn sessions(&self, dev_addr: DevAddr) -> Vec<SessionView<'_>> {
        let sessions = self.state.sessions_by_addr(dev_addr);
        sessions.filter_map(|(device, _, session)| self.view(device, session)).collect()
    }

    fn session(&self, dev_eui: DevEui, epoch: SessionEpoch) -> Option<SessionView<'_>> {
        let device = self.state.device(dev_eui)?;
        let sessions = device.session.iter().chain(&device.pending_session);
        let session = sessions.into_iter().find(|session| session.epoch == epoch)?;
        self.view(device, session)
    }

    fn keys(&self, dev_eui: DevEui, session: &DeviceSession) -> Option<SessionKeys> {
        let bytes = self.vault.open(&aad_session(dev_eui), &session.keys)?;
        SessionKeys::from_bytes(&bytes).ok()
    }

    fn seal(&self, dev_eui: DevEui, keys: &SessionKeys, nonce: [u8; 24]) -> Option<Sealed> {
        let bytes = zeroize::Zeroizing::new(keys.to_bytes());
        Some(self.vault.seal(&aad_session(dev_eui), nonce, &bytes))
    }

    fn join(&self, dev_eui: DevEui) -> Option<JoinView<'_>> {
        let device = self.state.device(dev_eui)?;
        let profile = self.state.device_profile(device.device_profile_id)?;
        let open = |sealed: &Sealed| {
            let bytes = self.vault.open(&aad_root(dev_eui), sealed)?;
            Some(Key::from_bytes(bytes.as_slice().try_into().ok()?))
        };
        let keys = device.keys.as_ref();
        Some(JoinView {
            profile: &profile.mac,
            is_disabled: device.is_disabled,
            join_eui: device.join_eui,
            nwk_key: keys.and_then(|keys| open(&keys.nwk_key)),
            next_join_nonce: keys.map(|keys| keys.next_join_nonce).unwrap_or_default(),
        })
    }

    fn is_nonce_used(&self, dev_eui: DevEui, join_eui: JoinEui, nonce: DevNonce) -> bool {
        self.state.is_nonce_used(dev_eui, join_eui, nonce)
    }

    fn is_dev_addr_taken(&self, dev_addr: DevAddr) -> bool {
        self.state.sessions_by_addr(dev_addr).next().is_some()
    }

    fn queue(&self, dev_eui: DevEui) -> Vec<QueueItem<'_>> {
        let device = self.state.device(dev_eui);
        let items = device.into_iter().flat_map(|device| &device.queue);
        let item = |item: &'_ store::model::QueueItem| (item.id.0, item.state);
        items
            .map(|one| {
                let (id, state) = item(one);
                QueueItem {
                    id,
                    f_port: one.f_port,
                    confirmed: one.confirmed,
                    data: &one.data,
                    encrypted_f_cnt: one.encrypted_f_cnt,
                    expires_at: one.expires_at,
                    state: match state {
                        ItemState::Queued => PlanItemState::Queued,
                        ItemState::HandedOut => PlanItemState::HandedOut,
                        ItemState::AwaitsAck { f_cnt_down, since } => {
                            PlanItemState::AwaitsAck { f_cnt_down, since }
                        }
                    },
                }
            })
            .collect()
    }

    fn gateway(&self, gateway: GatewayEui) -> Option<GatewayView> {
        self.state.gateway(gateway)?;
        let has_path = self.pull_age(gateway).is_some_and(|age| age <= PATH_AGE_MAX);
        Some(GatewayView { has_path })
    }

    fn pull_age(&self, gateway: GatewayEui) -> Option<Duration> {
        let own = freshest(self.servers, gateway).and_then(|(_, seen)| seen.path);
        let own = own.map(|path| self.now.instant.since(path.last_pull));
        let other = self.peers.path(self.now.instant, gateway).map(|(_, age)| age);
        own.into_iter().chain(other).min()
    }

    fn home(&self, dev_eui: DevEui) -> Home {
        let own = self.peers.own();
        let holder = self.state.home_of(dev_eui);
        let home = match holder.filter(|node| *node == own || self.peers.serves(*node)) {
            Some(holder) => holder,
            None => self.peers.rendezvous(dev_eui),
        };
        if home == own { Home::Here } else { Home::There(home) }
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        self.peers.serves(node)
    }
}

/// The listener that heard the gateway's latest PULL_DATA, or, without any, its latest datagram.
pub(crate) fn freshest(servers: &[Server], gateway: GatewayEui) -> Option<(usize, &SeenGateway)> {
    let seen = servers.iter().enumerate();
    let seen = seen.filter_map(|(number, server)| Some((number, server.seen(gateway)?)));
    seen.max_by_key(|(_, seen)| (seen.path.map(|path| path.last_pull), seen.last_seen))
}

/// The rest of the node, as the API looks at it.
pub(crate) struct NodeFacts<'a> {
    pub(crate) now: Now,
    pub(crate) state: NodeState,
    pub(crate) servers: &'a [Server],
    pub(crate) peers: &'a Peers,
    pub(crate) metrics: &'a Metrics,
    pub(crate) info: &'a NodeInfo,
    pub(crate) applied: u64,
    pub(crate) cluster: Option<(String, String)>,
}

impl NodeFacts<'_> {
    fn wall(&self, at: clock::Instant) -> WallTime {
        let ago = i64::try_from(self.now.instant.since(at).as_micros()).unwrap_or(0);
        WallTime::from_unix_micros(self.now.wall.unix_micros().saturating_sub(ago))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl NodeView for NodeFacts<'_> {
    fn gateway_path(&self, id: GatewayEui) -> Option<GatewayPath> {
        let now = self.now.instant;
        let own = freshest(self.servers, id).map(|(_, seen)| Ages {
            seen: now.since(seen.last_seen),
            pull: seen.path.map(|path| now.since(path.last_pull)),
        });
        let others = self.peers.paths.latest(now, id);
        let Ages { seen, pull } = Ages::least(own, others)?;
        let micros = i64::try_from(seen.as_micros()).unwrap_or(i64::MAX);
        let at = self.now.wall.unix_micros().saturating_sub(micros);
        Some(GatewayPath {
            last_seen_at: WallTime::from_unix_micros(at),
            age_ms: millis(seen),
            pull_age_ms: pull.map(millis),
        })
    }

    fn unknown_gateways(&self) -> Vec<UnknownGateway> {
        let unknown = self.servers.iter().flat_map(Server::unregistered);
        unknown
            .map(|(eui, seen)| UnknownGateway {
                gateway_id: eui.to_string(),
                address: seen.last_address.to_string(),
                first_seen_at: Some(self.wall(seen.first_seen)),
                last_seen_at: Some(self.wall(seen.last_seen)),
                datagrams: seen.pushes + seen.pulls,
            })
            .collect()
    }

    fn state(&self) -> NodeState {
        self.state
    }

    fn info(&self) -> NodeInfo {
        let (cluster_id, cluster_name) = self.cluster.clone().unwrap_or_default();
        NodeInfo {
            uptime: self.now.instant.as_micros() / 1_000_000,
            applied: self.applied,
            cluster_id,
            cluster_name,
            ..self.info.clone()
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let tallies = self.servers.iter().map(Server::tally);
        self.metrics.export().into_iter().chain([datagrams(tallies)]).collect()
    }
}

/// The listeners' datagrams as a family of metrics.
fn datagrams(tallies: impl Iterator<Item = Tally>) -> Metric {
    let mut sums = [0_u64; 5];
    for tally in tallies {
        let Tally { push_data, pull_data, tx_ack, tx_ack_unknown, unreadable } = tally;
        let counts = [push_data, pull_data, tx_ack, tx_ack_unknown, unreadable];
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    let kinds = ["push_data", "pull_data", "tx_ack", "tx_ack_unknown", "unreadable"];
    #[expect(clippy::cast_precision_loss, reason = "2^53 datagrams are enough")]
    let sample = |(kind, sum): (&str, u64)| (vec![("reason", kind.to_owned())], sum as f64);
    Metric {
        name: "tern_gateway_datagrams_total",
        help: "Datagrams of gateways, each counted once, by what became of it.",
        kind: MetricKind::Counter,
        samples: kinds.into_iter().zip(sums).map(sample).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagrams_of_all_listeners_are_one_family() {
        let one = Tally { push_data: 2, unreadable: 1, ..Tally::default() };
        let other = Tally { push_data: 3, tx_ack: 7, ..Tally::default() };
        let family = datagrams([one, other].into_iter());
        let value = |kind: &str| {
            let wanted = vec![("reason", kind.to_owned())];
            family.samples.iter().find(|(labels, _)| *labels == wanted).map(|(_, value)| *value)
        };
        assert_eq!(value("push_data"), Some(5.0));
        assert_eq!(value("tx_ack"), Some(7.0));
        assert_eq!(value("unreadable"), Some(1.0));
        assert_eq!(value("pull_data"), Some(0.0));
    }
}
