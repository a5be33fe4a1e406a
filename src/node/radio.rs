//! Between gateways, frames and other nodes: what the listeners heard goes to `mac`, what `mac`
//! wants sent goes to the gateway's freshest path, on this node or another.

use std::collections::BTreeMap;

use clock::Now;
use gateway::semtech::{GatewaySettings, Output, SendError};
use lorawan::{Downlink, TxAck, TxStatus, Uplink};
use mac::{CursorWrite, LogEvent};
use store::{Command, Proposal};

use crate::broker::BrokerView;
use crate::effect::Effect;
use crate::event_json;
use crate::input::Token;
use crate::machine::{Node, Phase, state_view};
use crate::peers::{HandedOver, PeerMessage, SendOrder};
use crate::show;
use crate::views::freshest;

impl Node {
    fn handle_uplink(&mut self, now: Now, uplink: Uplink) {
        if self.phase != Phase::Serving {
            return self.metrics.count("tern_uplinks_refused_total", "not_serving");
        }
        let gateway = uplink.gateway;
        let devices = state_view(now, &self.state, &self.vault, &self.servers, &self.peers);
        match self.mac.handle_uplink(now, &devices, uplink) {
            Ok(()) => self.metrics.count("tern_uplinks_total", "taken_up"),
            Err(error) => {
                self.metrics.count("tern_uplinks_refused_total", error.reason());
                self.show(now, show::refused_uplink(now, gateway, &error));
            }
        }
    }

    pub(crate) fn handle_output(&mut self, now: Now, listener: u8, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                let bytes = bytes.into();
                self.effects.push_back(Effect::SendDatagram { listener, to, bytes });
            }
            Output::Uplink(uplink) => self.handle_uplink(now, uplink),
            Output::Stat { .. } => self.metrics.count("tern_uplinks_total", "gateway_stat"),
            Output::TxAck(ack) => match self.orders.remove(&(ack.gateway, ack.downlink_id)) {
                Some(node) => {
                    if ack.status != TxStatus::Ok {
                        self.mac.handle_order_refused(ack.gateway, ack.downlink_id);
                    }
                    self.peers.tell(node, PeerMessage::tx_ack(ack));
                }
                None => self.mac.handle_tx_ack(now, ack),
            },
            // `mac` has a deadline of its own, and the next try behind it.
            Output::TxSilent { gateway, downlink_id } => {
                self.orders.remove(&(gateway, downlink_id));
                self.metrics.count("tern_downlinks_total", "no_tx_ack");
            }
            Output::Pulled { gateway, before } => self.note_path(now, gateway, before),
            Output::StrayTxAck { gateway, datagram } => {
                if self.state.gateway(gateway).is_some() {
                    self.peers.tell_all(&PeerMessage::StrayTxAck { gateway, datagram });
                }
            }
            Output::PathChanged { gateway, path } => {
                if self.state.gateway(gateway).is_some() {
                    self.show(now, show::path_changed(now, gateway, path.address));
                }
            }
            Output::UnregisteredGateway { gateway, from } => {
                self.show(now, show::unknown_gateway(now, gateway, from));
            }
            Output::Refused { from, gateway, refusal } => {
                let (_, reason) = refusal.reason();
                self.metrics.count("tern_gateway_refused_total", reason);
                self.show(now, show::refused_datagram(now, from, gateway, &refusal));
            }
        }
    }

    pub(crate) fn do_mac(&mut self, now: Now, effect: mac::Effect) {
        let (request, command) = match effect {
            mac::Effect::Accept { request, accept } => (request, Command::AcceptUplink(accept)),
            mac::Effect::Join { request, join } => (request, Command::AcceptJoin(join)),
            mac::Effect::Plan { request, plan } => (request, Command::PlanDownlink(plan)),
            mac::Effect::Record { request, record } => (request, Command::RecordTxAck(record)),
            mac::Effect::PersistCursor(write) => return self.persist(&write),
            mac::Effect::Send(downlink) => return self.send(now, &downlink),
            mac::Effect::HandOver { to, uplink } => {
                let message = PeerMessage::Uplink(Box::new(HandedOver::of(&uplink, now.instant)));
                self.metrics.count("tern_uplinks_total", "handed_over");
                return self.peers.tell(to, message);
            }
            mac::Effect::Verdict(verdict) => {
                let name = match verdict.what {
                    mac::What::Accepted { .. }
                    | mac::What::Joined { .. }
                    | mac::What::Repeated { .. } => "tern_uplinks_total",
                    mac::What::Refused(_) => "tern_uplinks_refused_total",
                    mac::What::Sent { .. }
                    | mac::What::GatewayRefused { .. }
                    | mac::What::NotSent(_)
                    | mac::What::GivenUp => "tern_downlinks_total",
                };
                self.metrics.count(name, verdict.what.reason());
                tracing::debug!(dev_eui = %verdict.dev_eui, "{}", verdict.what);
                return self.show(now, show::verdict(now, &verdict));
            }
            mac::Effect::Log(event) => return self.notice(now, &event),
        };
        self.effects.push_back(Effect::Propose(Proposal { request, command }));
    }

    /// One cursor a device and counter; its value names session and grant. Nothing reads it while
    /// every start that reaches the quorum voids the grants; a node that starts cut off will.
    fn persist(&mut self, write: &CursorWrite) {
        let mut key = b"fcnt-down:".to_vec();
        key.extend_from_slice(&write.dev_eui.to_be_bytes());
        key.push(match write.counter {
            mac::CounterKind::Network => b'n',
            mac::CounterKind::Application => b'a',
        });
        let mut value = vec![1];
        for number in [write.session_epoch.0, write.home_epoch, write.next_unused] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        self.effects.push_back(Effect::PersistCursor { token: Token(write.token), key, value });
    }

    /// Sends a downlink over the freshest path: this node's own, or another's.
    fn send(&mut self, now: Now, downlink: &Downlink) {
        let gateway = downlink.gateway;
        let own = freshest(&self.servers, gateway).and_then(|(_, seen)| seen.path);
        let own_age = own.map(|path| now.instant.since(path.last_pull));
        if let Some((node, age)) = self.peers.path(now.instant, gateway)
            && own_age.is_none_or(|own| age < own)
        {
            let order = PeerMessage::Send(Box::new(SendOrder::of(downlink)));
            self.metrics.count("tern_downlinks_total", "over_another_node");
            return self.peers.tell(node, order);
        }
        if !self.send_here(now, downlink) {
            let (downlink_id, status) = (downlink.downlink_id, TxStatus::InternalError);
            self.mac.handle_tx_ack(now, TxAck { gateway, downlink_id, status });
        }
    }

    /// Sends a downlink from this node's socket; false if it has no way to the gateway.
    pub(crate) fn send_here(&mut self, now: Now, downlink: &Downlink) -> bool {
        let gateway = downlink.gateway;
        let settings = self.state.gateway(gateway).map(settings_of).unwrap_or_default();
        let number = freshest(&self.servers, gateway).map_or(0, |(number, _)| number);
        let sent = match self.servers.get_mut(number) {
            Some(server) => server.send(now.instant, downlink, settings),
            None => Err(SendError::NoPath { last_pull_age: None }),
        };
        match sent {
            Ok((to, bytes)) => {
                let listener = u8::try_from(number).unwrap_or(u8::MAX);
                let bytes = bytes.into();
                self.effects.push_back(Effect::SendDatagram { listener, to, bytes });
                true
            }
            Err(_) => {
                self.metrics.count("tern_downlinks_total", "no_path");
                false
            }
        }
    }

    /// A `log` event outside the event log, for this node's own clients.
    fn notice(&mut self, now: Now, event: &LogEvent) {
        let Some(device) = self.state.device(event.dev_eui) else { return };
        let info = self.state.device_info(device);
        let (level, code) = (show::log_level(event.level), show::log_code(event.code));
        let context = BTreeMap::new();
        let (topic, json) =
            event_json::log_event(now.wall, &info, level, code, &event.description, &context);
        self.broker.handle_notice(BrokerView { now, state: &self.state }, &topic, json);
    }
}

fn settings_of(gateway: &store::model::Gateway) -> GatewaySettings {
    let gain = (i32::from(gateway.antenna_gain_ddbi) + 5).div_euclid(10);
    let antenna_gain_db = i8::try_from(gain).unwrap_or(0);
    GatewaySettings {
        antenna_gain_db,
        power_max_dbm: gateway.max_eirp_dbm.map(|eirp| eirp.saturating_sub(antenna_gain_db)),
        rf_chain: gateway.downlink_rf_chain,
    }
}
