//! What other nodes say, what they are told, and what follows when one is lost.

use bytes::Bytes;
use clock::{Duration, Instant, Now};
use lorawan::{GatewayEui, TxAck, TxStatus};
use mac::{JoinReply, NodeId, UplinkReply};
use store::{Command, Reply};

use crate::effect::Effect;
use crate::machine::{Node, Own, Phase, state_view};
use crate::peers::{HandedOver, PathEntry, PeerMessage, SendOrder};
use crate::show;

/// Orders of other nodes that wait for a gateway's answer; beyond, the oldest are forgotten.
const ORDERS_MAX: usize = 16_384;

impl Node {
    /// The link to another node has come up or gone down.
    pub(crate) fn handle_peer_line(&mut self, now: Now, node: NodeId, up: bool, transit: Duration) {
        tracing::debug!(node = node.0, up, "link to a peer");
        if up {
            self.handle_heard(now, node);
        } else {
            self.handle_line_lost(now, node);
        }
        if !self.peers.handle_line(node, up, transit) {
            return;
        }
        if up {
            self.tell_paths(now.instant, node, None);
        } else {
            self.node_lost(now, node);
        }
    }

    fn node_lost(&mut self, now: Now, node: NodeId) {
        let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
        self.mac.handle_node_lost(now, &devices, node);
    }

    /// Another node's machine says something.
    pub(crate) fn handle_peer(&mut self, now: Now, from: NodeId, bytes: &Bytes) {
        self.handle_heard(now, from);
        let Some(message) = PeerMessage::decode(bytes) else {
            return self.metrics.count("tern_network_total", "peer_message_unknown");
        };
        match message {
            PeerMessage::Uplink(handed_over) => self.handle_handed_over(now, from, *handed_over),
            PeerMessage::Send(order) => self.handle_order(now, from, *order),
            PeerMessage::TxAck { gateway, downlink_id, status } => {
                self.mac.handle_tx_ack(now, TxAck { gateway, downlink_id, status });
            }
            PeerMessage::StrayTxAck { datagram, .. } => {
                let mut servers = self.servers.iter_mut();
                servers.any(|server| server.handle_stray_tx_ack(now.instant, &datagram));
            }
            PeerMessage::Paths(news) => {
                if self.peers.paths.handle_news(now.instant, from, &news) {
                    self.peers.tell(from, PeerMessage::PathsWanted);
                }
            }
            PeerMessage::PathsWanted => self.tell_paths(now.instant, from, None),
            PeerMessage::Ping => self.answer_ping(from),
            PeerMessage::Pong { applied, boot } => self.handle_pong(from, applied, boot),
            PeerMessage::Probe { target } => self.handle_probe(now, from, target),
            PeerMessage::Probed { target } => self.handle_probed(now, from, target),
            PeerMessage::Standing { serving, asks } => {
                tracing::debug!(from = from.0, serving, "standing of a peer");
                self.peers.handle_standing(from, serving);
                if asks {
                    self.peers.tell_standing(from);
                    self.tell_paths(now.instant, from, None);
                }
                if !serving {
                    self.node_lost(now, from);
                }
            }
        }
    }

    /// Another node's downlink goes over a gateway of this one, unless that is taken.
    fn handle_order(&mut self, now: Now, from: NodeId, order: SendOrder) {
        let downlink = order.build();
        let (gateway, downlink_id) = (downlink.gateway, downlink.downlink_id);
        if self.orders.len() >= ORDERS_MAX {
            self.orders.pop_first();
        }
        self.orders.insert((gateway, downlink_id), from);
        let refusal = if !self.mac.handle_order(now, &downlink) {
            Some(TxStatus::CollisionPacket)
        } else if !self.send_here(now, &downlink) {
            self.mac.handle_order_refused(gateway, downlink_id);
            Some(TxStatus::InternalError)
        } else {
            None
        };
        if let Some(status) = refusal {
            self.orders.remove(&(gateway, downlink_id));
            let ack = PeerMessage::tx_ack(TxAck { gateway, downlink_id, status });
            self.peers.tell(from, ack);
        }
    }

    fn handle_handed_over(&mut self, now: Now, from: NodeId, handed_over: HandedOver) {
        if self.phase != Phase::Serving {
            return self.metrics.count("tern_uplinks_refused_total", "not_serving");
        }
        let uplink = handed_over.build(now.instant, self.peers.transit(from));
        let gateway = uplink.gateway;
        let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
        match self.mac.handle_handed_over(now, &devices, uplink, from) {
            Ok(()) => self.metrics.count("tern_uplinks_total", "taken_over"),
            Err(error) => {
                self.metrics.count("tern_uplinks_refused_total", error.reason());
                self.show(now, show::refused_uplink(now, gateway, &error));
            }
        }
    }

    /// Frames that the log has decided for another node may be in this one's hands, too.
    pub(crate) fn handle_others_frame(&mut self, now: Now, command: &Command, reply: &Reply) {
        if let (Command::AcceptUplink(accept), Reply::Uplink(reply)) = (command, reply)
            && accept.home != self.node
            && let UplinkReply::Accepted { session_epoch, .. } = reply
        {
            let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
            self.mac.handle_accepted_elsewhere(now, &devices, accept, *session_epoch);
        }
        if let (Command::AcceptJoin(join), Reply::Join(JoinReply::Accepted { .. })) =
            (command, reply)
            && join.home != self.node
        {
            self.mac.handle_joined_elsewhere(now, join);
        }
    }

    /// A gateway's PULL_DATA came here.
    pub(crate) fn note_path(&mut self, now: Now, gateway: GatewayEui, before: Option<Instant>) {
        let own_age = before.map(|before| now.instant.since(before));
        let other = self.peers.path(now.instant, gateway);
        let moved = match (own_age, other) {
            (None, _) => true,
            (Some(own), Some((_, age))) => age < own,
            (Some(_), None) => false,
        };
        tracing::trace!(%gateway, moved, "PULL_DATA");
        self.peers.paths.note_own(now.instant, gateway, moved);
    }

    /// Tells the others what is new, and sends what was said.
    pub(crate) fn tell_peers(&mut self, now: Now) {
        let news = self.peers.paths.take_news(now.instant);
        if !news.is_empty() {
            for node in self.peers.within_reach() {
                self.tell_paths(now.instant, node, Some(&news));
            }
        }
        while let Some((to, message)) = self.peers.poll_message() {
            let bytes = message.encode().into();
            self.effects.push_back(Effect::Tell { to: to.0, bytes });
        }
    }

    /// Tells a node of these gateways, or of all.
    fn tell_paths(&mut self, now: Instant, to: NodeId, only: Option<&[GatewayEui]>) {
        let millis = |at: Instant| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let entry = |(gateway, seen): (GatewayEui, &gateway::semtech::SeenGateway)| PathEntry {
            gateway,
            seen_ms: millis(seen.last_seen),
            pull_ms: seen.path.map(|path| millis(path.last_pull)),
        };
        let entries: Vec<PathEntry> = match only {
            Some(only) => {
                let seen = only.iter().filter_map(|gateway| {
                    let (_, seen) = crate::views::freshest(&self.servers, *gateway)?;
                    Some((*gateway, seen))
                });
                seen.map(entry).collect()
            }
            None => {
                let registered = self.servers.iter().flat_map(|server| server.registered());
                registered.map(entry).collect()
            }
        };
        for news in self.peers.paths.messages(to, &entries, only.is_none()) {
            self.peers.tell(to, PeerMessage::Paths(news));
        }
    }

    /// Members came, went or moved.
    pub(crate) fn members_changed(&mut self, now: Now) {
        self.watch_members(now);
        // Whoever is not known yet will be: its link is up before the log, which is caught up with,
        // tells of it, and nobody says a second time that it is.
        let state = &self.state;
        self.peers.retain(|node| state.member(node).is_none_or(store::Member::is_live));
        self.effects.push_back(Effect::MembersChanged);
        self.raise_feature_level();
    }

    /// Lets the log use what every member knows.
    pub(crate) fn raise_feature_level(&mut self) {
        let known = self.state.live_members().map(|(_, member)| member.feature_level).min();
        let level = store::limits::FEATURE_LEVEL;
        let wanted = known == Some(level) && self.state.feature_level() < level;
        let asked = self.own.values().any(|own| matches!(own, Own::Level));
        if wanted && !asked && self.phase == Phase::Serving && self.leader == Some(self.node) {
            self.ask(Own::Level);
        }
    }
}
