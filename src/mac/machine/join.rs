//! Activation over the air: the join-accept is built before the log is asked and sent after it
//! agreed.
//!
//! Source: DESIGN 4 (Joins), LoRaWAN 1.0.4 §6.2.

use bytes::Bytes;
use clock::Now;
use lorawan::{
    DevAddr, JOIN_ACCEPT_DELAY1, JoinAccept, JoinNonce, NetId, RX2_AFTER_RX1, derive_session_1_0,
};
use rand_chacha::rand_core::Rng as _;
use sabotage::Bug;

use super::Mac;
use super::downlink::join_windows;
use super::effect::{Effect, What};
use super::error::UplinkError;
use super::flow::{Body, Flow, FlowKey, Link, Stage};
use super::transmit::{Transmission, no_path, reachable};
use super::verify::region_of;
use super::views::{Devices, JoinView};
use crate::{
    AcceptJoin, EXTRA_CHANNELS_MAX, JoinReply, MacProfile, MacVersion, RECEPTIONS_MAX, RequestId,
    SessionKeys,
};

/// JoinNonces have 24 bits.
const JOIN_NONCE_MAX: u32 = 0x00FF_FFFF;
/// Addresses drawn before one that another device has is taken: the MIC tells them apart.
const DRAWS_MAX: usize = 16;
/// How often a join is built anew because another one came between.
const REBUILDS_MAX: u8 = 3;

impl Mac {
    /// Derives, seals, builds, and asks the log.
    ///
    /// * `nonce`: the JoinNonce to build upon, if the log has told; else the state's next.
    pub(super) fn propose_join(
        &mut self,
        now: Now,
        devices: &impl Devices,
        flow: &mut Flow,
        nonce: Option<JoinNonce>,
    ) {
        match self.build_join(devices, flow, nonce) {
            Ok((join, answer)) => {
                let request = self.draw_request();
                if let Body::Join(body) = &mut flow.body {
                    body.join = Some(join.clone());
                    body.answer = answer;
                }
                flow.decide(flow.opened_at + JOIN_ACCEPT_DELAY1 + RX2_AFTER_RX1, request);
                self.effects.push_back(Effect::Join { request, join: Box::new(join) });
            }
            Err(error) => self.refuse(now, flow, error),
        }
    }

    fn build_join(
        &mut self,
        devices: &impl Devices,
        flow: &Flow,
        nonce: Option<JoinNonce>,
    ) -> Result<(AcceptJoin, Bytes), UplinkError> {
        let FlowKey::Join { dev_eui, join_eui, dev_nonce } = flow.key else {
            return Err(UplinkError::Unserved { mtype: lorawan::MType::RejoinRequest });
        };
        let Body::Join(body) = &flow.body else {
            return Err(UplinkError::Unserved { mtype: lorawan::MType::RejoinRequest });
        };
        let gone = UplinkError::Gone { dev_eui };
        let JoinView { profile, nwk_key, next_join_nonce, .. } =
            devices.join(dev_eui).ok_or(gone)?;
        let nwk_key = nwk_key.ok_or(UplinkError::NoRootKey { dev_eui })?;
        if sabotage::planted(Bug::SecretInLog) {
            let key = u128::from_be_bytes(*nwk_key.expose());
            tracing::info!(%dev_eui, key = format!("{key:032x}"), "join");
        }
        let next = nonce.unwrap_or(next_join_nonce);
        if next.0 > JOIN_NONCE_MAX {
            return Err(UplinkError::JoinNonceExhausted { dev_eui, next });
        }
        let region = region_of(dev_eui, profile)?;
        let dev_addr = self.draw_dev_addr(devices);
        let net_id = self.config.net_id;
        let keys: SessionKeys = derive_session_1_0(&nwk_key, next, net_id, dev_nonce).into();
        let mut seal_nonce = [0; 24];
        self.rng.fill_bytes(&mut seal_nonce);
        let keys = devices.seal(dev_eui, &keys, seal_nonce);
        let join = AcceptJoin {
            dev_eui,
            join_eui,
            dev_nonce,
            expected_join_nonce: next,
            dev_addr,
            mac_version: session_version(profile.mac_version),
            keys: keys.ok_or(UplinkError::KeysClosed { dev_eui })?,
            rx1_delay_s: profile.rx1_delay_s.clamp(1, 15),
            rx1_dr_offset: profile.rx1_dr_offset,
            rx2_dr: profile.rx2_dr.unwrap_or(region.rx2_dr),
            extra_channels_hz: extra_channels(profile, region),
            home: self.config.home,
            dr: body.dr,
            frequency_hz: flow.frequency_hz,
            modulation: flow.modulation,
            receptions: {
                let heard = flow.heard.iter().take(RECEPTIONS_MAX);
                heard.map(|heard| heard.reception.clone()).collect()
            },
            received_at: flow.received_wall,
        };
        let answer = answer_of(&join, profile, region, net_id).encode_1_0(&nwk_key);
        Ok((join, answer.into()))
    }

    /// An address of this network that no session has, if a few draws find one.
    fn draw_dev_addr(&mut self, devices: &impl Devices) -> DevAddr {
        let prefixes = &self.config.dev_addr_prefixes;
        let mut drawn = DevAddr::default();
        for _ in 0..DRAWS_MAX {
            let which = self.rng.next_u32() as usize % prefixes.len().max(1);
            let random = self.rng.next_u32();
            drawn = prefixes.get(which).map_or(drawn, |prefix| prefix.fill(random));
            if !devices.is_dev_addr_taken(drawn) {
                break;
            }
        }
        drawn
    }

    /// The log's verdict on a join.
    pub fn handle_join_reply(
        &mut self,
        now: Now,
        devices: &impl Devices,
        request: RequestId,
        reply: JoinReply,
    ) {
        let Some((id, mut flow)) = self.flows.take(Link::Request(request)) else { return };
        let deciding =
            matches!(flow.stage, Stage::Deciding { request: asked, .. } if asked == request);
        if let (Body::Join(body), true) = (&mut flow.body, deciding) {
            let FlowKey::Join { dev_eui, dev_nonce, .. } = flow.key else {
                return self.flows.put(id, flow);
            };
            match reply {
                JoinReply::Accepted { .. } => self.send_join_accept(now, devices, &mut flow),
                JoinReply::JoinNonceMoved { next } if body.rebuilt < REBUILDS_MAX => {
                    body.rebuilt += 1;
                    self.propose_join(now, devices, &mut flow, Some(next));
                }
                JoinReply::JoinNonceMoved { .. } => {
                    self.verdict(now, dev_eui, None, What::GivenUp);
                    self.done(now, &mut flow);
                }
                JoinReply::DevNonceUsed => {
                    self.refuse(now, &mut flow, UplinkError::DevNonceUsed { dev_eui, dev_nonce });
                }
                JoinReply::Gone => self.refuse(now, &mut flow, UplinkError::Gone { dev_eui }),
            }
        }
        self.flows.put(id, flow);
    }

    fn send_join_accept(&mut self, now: Now, devices: &impl Devices, flow: &mut Flow) {
        let dev_eui = flow.key.dev_eui();
        let Body::Join(body) = &flow.body else { return };
        let Some(join) = &body.join else { return };
        let best = flow.heard.first().map(|heard| heard.reception.gateway);
        let joined = What::Joined { dev_addr: join.dev_addr };
        let windows = devices
            .join(dev_eui)
            .and_then(|view| view.profile.region_table().ok())
            .map(|region| join_windows(region, flow.frequency_hz, body.dr))
            .unwrap_or_default();
        let gateways = reachable(devices, &flow.heard);
        let delay = self.config.gateway_delay;
        let answer = body.answer.clone();
        let transmission = if gateways.is_empty() {
            Err(no_path(devices, &flow.heard))
        } else {
            Transmission::new(answer, None, None, &gateways, &windows, delay)
        };
        self.verdict(now, dev_eui, best, joined);
        match transmission {
            Ok(transmission) => self.transmit(now, flow, Box::new(transmission)),
            Err(why) => {
                self.not_sent(now, dev_eui, why);
                self.done(now, flow);
            }
        }
    }
}

/// Without OptNeg a 1.1 device runs its session as a 1.0.x device (LoRaWAN 1.1 §6.1.1).
fn session_version(version: MacVersion) -> MacVersion {
    if version.is_1_1() { MacVersion::V1_0_3 } else { version }
}

fn extra_channels(profile: &MacProfile, region: &lorawan::Region) -> Vec<u32> {
    if region.is_fixed_plan() {
        return Vec::new();
    }
    profile.extra_channels_hz.iter().copied().take(EXTRA_CHANNELS_MAX).collect()
}

/// What the join-accept says.
fn answer_of(
    join: &AcceptJoin,
    profile: &MacProfile,
    region: &lorawan::Region,
    net_id: NetId,
) -> JoinAccept {
    // A list of masks only where the devices know it; the LinkADRReq that follows does the rest.
    let masks = profile.channels.filter(|_| profile.mac_version.knows_mask_list());
    let enabled: Vec<u8> = masks.iter().flat_map(crate::ChannelSet::iter).collect();
    JoinAccept {
        join_nonce: join.expected_join_nonce,
        net_id,
        dev_addr: join.dev_addr,
        opt_neg: false,
        rx1_dr_offset: join.rx1_dr_offset,
        rx2_dr: join.rx2_dr,
        rx_delay: join.rx1_delay_s,
        cf_list: region.cf_list(&join.extra_channels_hz, enabled),
    }
}
