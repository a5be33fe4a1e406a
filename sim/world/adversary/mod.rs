//! Somebody without keys, on hosts of its own: replays, turned bits, forged gateways, floods.
//!
//! It overhears what gateways send to the node, and sends what it likes from its own addresses.
//! Each of its hosts pretends to be one gateway, a registered one or none that anybody knows. The
//! witness is told of every genuine frame that goes out in a forged datagram, so that an answer to
//! it is judged like any other: no rule is off while an attack lasts, but for one. Whoever sends a
//! PULL_DATA in a gateway's name gets its downlinks: the protocol knows no proof of who speaks, and
//! until the gateway's next PULL_DATA its devices hear nothing.

mod arms;
mod loot;
mod rubbish;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gateway::semtech::{Downward, Head, TxReply, Version, parse_downward};
use lorawan::GatewayEui;
use scenario::{Fault, FaultKind, Scenario};

use super::record::Record;
use crate::clocks::virtual_now;
use crate::dice::{Dice, Seed};
use crate::net::{Sent, UdpSocket};
use crate::runtime::{held, sleep_virtual_until};
use arms::Arms;
use loot::Loot;

/// Registered gateways that it pretends to be, at most: one host each.
const FACES_MAX: usize = 4;
/// The EUI of the host that pretends to be a gateway nobody has registered.
const STRANGER: GatewayEui = GatewayEui::from_be_bytes([0xBA, 0xD0, 0, 0, 0, 0, 0, 1]);
/// Share of stolen downlinks that are answered.
const ANSWERS: f64 = 0.8;

/// One of its hosts, which pretends to be one gateway.
#[derive(Clone)]
struct Den {
    face: GatewayEui,
    /// As a forwarder has them: up and down.
    sockets: [Arc<UdpSocket>; 2],
}

/// Which socket a datagram leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// A datagram, and which host sends it.
struct Shot {
    den: usize,
    way: Way,
    bytes: Bytes,
    /// There may be a genuine frame in it.
    genuine: bool,
}

struct Shared {
    seed: Seed,
    /// Where nodes take gateways; each of its hosts speaks to one, in turn.
    servers: Vec<SocketAddr>,
    record: Record,
    listens: bool,
    loot: Mutex<Loot>,
    dens: Mutex<Vec<Den>>,
    own: Mutex<BTreeSet<IpAddr>>,
    /// Attacks under way, by the fault's name.
    running: Mutex<BTreeSet<(String, FaultKind)>>,
}

/// The adversary. Clones are the same.
#[derive(Clone)]
pub(super) struct Adversary(Arc<Shared>);

impl Adversary {
    pub(super) fn new(
        scenario: &Scenario,
        seed: Seed,
        servers: Vec<SocketAddr>,
        record: &Record,
    ) -> Self {
        Self(Arc::new(Shared {
            seed,
            servers,
            record: record.clone(),
            listens: scenario.fault.iter().any(|fault| is_attack(fault.kind)),
            loot: Mutex::default(),
            dens: Mutex::default(),
            own: Mutex::default(),
            running: Mutex::default(),
        }))
    }

    /// The EUIs that its hosts pretend to have; none if the scenario has no attack.
    pub(super) fn faces(&self, gateways: &[(String, GatewayEui)]) -> Vec<GatewayEui> {
        if !self.0.listens {
            return Vec::new();
        }
        let mut faces: Vec<GatewayEui> = Vec::new();
        for (_, eui) in gateways {
            if faces.len() < FACES_MAX && !faces.contains(eui) {
                faces.push(*eui);
            }
        }
        faces.push(STRANGER);
        faces
    }

    /// Moves into a host.
    pub(super) fn move_in(&self, face: GatewayEui, address: IpAddr, sockets: [Arc<UdpSocket>; 2]) {
        held(&self.0.own).insert(address);
        let den = Den { face, sockets };
        held(&self.0.dens).push(den.clone());
        let (adversary, name) = (self.clone(), format!("adversary {address}"));
        let dice = self.0.seed.stream(&name);
        madsim::task::spawn(async move { adversary.answer(den, dice).await });
    }

    /// A datagram has left a host that is no node.
    pub(super) fn overhear(&self, sent: &Sent<'_>) {
        let shared = &self.0;
        if shared.listens
            && shared.servers.contains(&sent.to)
            && !held(&shared.own).contains(&sent.from.ip())
        {
            held(&shared.loot).take(sent.payload, &shared.record);
        }
    }

    /// Begins what `fault` asks for.
    pub(super) fn attack(&self, fault: &Fault) {
        let name = fault.name.clone().unwrap_or_default();
        let per_s = u64::from(fault.per_s.unwrap_or(1).max(1));
        let begun = held(&self.0.running).insert((name.clone(), fault.kind));
        if begun && !held(&self.0.dens).is_empty() {
            self.0.record.note("world", &format!("{} at {per_s} a second", fault.kind));
            let (adversary, kind) = (self.clone(), fault.kind);
            madsim::task::spawn(async move { adversary.press(name, kind, per_s).await });
        }
    }

    /// Ends it.
    pub(super) fn cease(&self, fault: &Fault) {
        let name = fault.name.clone().unwrap_or_default();
        held(&self.0.running).remove(&(name, fault.kind));
    }

    /// Sends `per_s` datagrams a second until it is told to cease, in bursts a millisecond apart.
    async fn press(self, name: String, kind: FaultKind, per_s: u64) {
        let dice = self.0.seed.stream(&format!("attack {name}"));
        let faces: Vec<_> = held(&self.0.dens).iter().map(|den| den.face).collect();
        let mut arms = Arms::new(kind, dice, faces);
        let begin = virtual_now();
        let attack = (name, kind);
        let (mut sent, mut millis) = (0, 0);
        while held(&self.0.running).contains(&attack) {
            let due = (millis + 1) * per_s / 1_000;
            for _ in sent..due {
                let shot = arms.shot(&held(&self.0.loot));
                if let Some(shot) = shot {
                    self.send(&shot);
                }
            }
            sent = due;
            // The millisecond in which the next one is due.
            millis = ((sent + 1) * 1_000).div_ceil(per_s) - 1;
            sleep_virtual_until(begin + Duration::from_millis(millis)).await;
        }
    }

    fn send(&self, shot: &Shot) {
        if shot.genuine {
            self.0.record.forged(&shot.bytes);
        }
        let socket = held(&self.0.dens).get(shot.den).map(|den| match shot.way {
            Way::Up => Arc::clone(&den.sockets[0]),
            Way::Down => Arc::clone(&den.sockets[1]),
        });
        if let Some(socket) = socket {
            // What the network does not take is lost, as any datagram may be.
            let server = self.0.servers[shot.den % self.0.servers.len()];
            let _ = socket.send_to(server, &shot.bytes);
        }
    }

    /// Answers downlinks that it has stolen, as the gateway would have, while it forges gateways.
    async fn answer(self, den: Den, mut dice: Dice) {
        let [_, down] = &den.sockets;
        while let Ok((bytes, from)) = down.recv_from().await {
            let Ok(Downward::PullResp { token, .. }) = parse_downward(&bytes) else { continue };
            let (answers, status) = (dice.chance(ANSWERS), arms::status(&mut dice));
            let forging = |(_, kind): &(String, FaultKind)| *kind == FaultKind::ForgedGateways;
            if answers && held(&self.0.running).iter().any(forging) {
                let head = Head { version: Version::V2, token, gateway: den.face };
                let reply = TxReply { status, power_used_dbm: None };
                let _ = down.send_to(from, &reply.encode(head));
            }
        }
    }
}

/// Whether a fault of this kind is somebody's doing.
fn is_attack(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Replay
            | FaultKind::BitFlips
            | FaultKind::ForgedGateways
            | FaultKind::JoinFlood
            | FaultKind::Malformed
    )
}

#[cfg(test)]
mod tests;
