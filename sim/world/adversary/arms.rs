//! What the adversary sends, one datagram after the other, each drawn anew.

use bytes::Bytes;
use gateway::semtech::{
    Head, PushData, Rxpk, TxReply, Upward, Version, encode_pull_data, parse_upward,
};
use lorawan::{
    Aes, CrcStatus, DataMessage, DevAddr, DevEui, DevNonce, Direction, EU868, FCtrl, GatewayEui,
    JoinEui, JoinRequest, Key, TxStatus,
};
use scenario::FaultKind;

use super::loot::{Heard, Loot};
use super::rubbish::Rubbish;
use super::{Shot, Way};
use crate::dice::Dice;

/// Share of replays that take one of the last few frames: their devices may still listen.
const FRESH: f64 = 0.5;
/// How many frames are the last few.
const FRESH_MAX: usize = 8;
/// Share of replays that repeat the whole datagram, byte by byte.
const WHOLE: f64 = 0.3;
/// Share of forged datagrams in the name of a gateway that nobody knows.
const STRANGE: f64 = 0.2;
/// Most bits that are turned at once.
const BITS_MAX: u64 = 3;

/// The means of one attack.
pub(super) struct Arms {
    kind: FaultKind,
    dice: Dice,
    /// Which gateway each host pretends to be; the last one nobody knows.
    faces: Vec<GatewayEui>,
    rubbish: Option<Rubbish>,
}

impl Arms {
    /// * `faces`: at least one.
    pub(super) fn new(kind: FaultKind, mut dice: Dice, faces: Vec<GatewayEui>) -> Self {
        let face = faces.first().copied().unwrap_or_default();
        let rubbish = (kind == FaultKind::Malformed).then(|| Rubbish::new(&mut dice, face));
        Self { kind, dice, faces, rubbish }
    }

    /// The next datagram; `None`: nothing of use was overheard yet.
    pub(super) fn shot(&mut self, loot: &Loot) -> Option<Shot> {
        if let Some(rubbish) = &self.rubbish {
            let bytes = rubbish.pick(&mut self.dice);
            return Some(Shot { den: 0, way: Way::Up, bytes, genuine: false });
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the kinds that are no attack do not come here"
        )]
        match self.kind {
            FaultKind::Replay => self.replay(loot),
            FaultKind::BitFlips => self.turn_bits(loot),
            FaultKind::JoinFlood => self.ask_to_join(loot),
            _ => self.forge(loot),
        }
    }

    fn replay(&mut self, loot: &Loot) -> Option<Shot> {
        let (whole, heard) = (self.dice.chance(WHOLE), self.pick(loot)?);
        let den = self.den_of(heard.gateway);
        match den.filter(|_| whole) {
            Some(den) => {
                let bytes = heard.datagram.clone();
                Some(Shot { den, way: Way::Up, bytes, genuine: true })
            }
            None => Some(self.push(heard.rxpk.clone(), true)),
        }
    }

    fn turn_bits(&mut self, loot: &Loot) -> Option<Shot> {
        let (whole, heard) = (self.dice.chance(WHOLE), self.pick(loot)?);
        let den = self.den_of(heard.gateway).filter(|_| whole);
        let Some(den) = den else {
            let mut phy_payload = heard.rxpk.phy_payload.to_vec();
            self.flip(&mut phy_payload);
            let rxpk = Rxpk { phy_payload: phy_payload.into(), ..heard.rxpk.clone() };
            return Some(self.push(rxpk, true));
        };
        let mut bytes = heard.datagram.to_vec();
        self.flip(&mut bytes);
        // What has become a PULL_DATA must not steal for a host the downlinks of another's face.
        if let Ok(Upward::PullData(head)) = parse_upward(&bytes)
            && head.gateway != heard.gateway
        {
            return None;
        }
        Some(Shot { den, way: Way::Up, bytes: bytes.into(), genuine: true })
    }

    /// A request in a device's name: one it has made, or one that only its key could.
    fn ask_to_join(&mut self, loot: &Loot) -> Option<Shot> {
        let (repeats, known) = (self.dice.chance(0.3), self.dice.chance(0.6));
        let place = self.dice.draw();
        if repeats {
            let heard = pick_of(&loot.joins, place)?;
            return Some(self.push(heard.rxpk.clone(), true));
        }
        let mut drawn = [0; 34];
        self.dice.fill(&mut drawn);
        let [.., a, b] = drawn;
        let dev_nonce = DevNonce(u16::from_be_bytes([a, b]));
        let stranger = JoinRequest {
            join_eui: JoinEui::from_be_bytes(part(&drawn[..8])),
            dev_eui: DevEui::from_be_bytes(part(&drawn[8..16])),
            dev_nonce,
        };
        let asked = match loot.devices.len() {
            count @ 1.. if known => {
                let place = usize::try_from(place % count as u64).unwrap_or(0);
                JoinRequest { dev_nonce, ..loot.devices[place] }
            }
            _ => stranger,
        };
        let key = Aes::new(&Key::from_bytes(part(&drawn[16..32])));
        let rxpk = self.on_air(loot, asked.encode(&key).into());
        Some(self.push(rxpk, false))
    }

    /// Something that only a gateway should say.
    fn forge(&mut self, loot: &Loot) -> Option<Shot> {
        let kind = self.dice.below(100);
        let den = self.dice.index(self.faces.len());
        let head = self.head(den);
        let shot = |way, bytes: Vec<u8>| Shot { den, way, bytes: bytes.into(), genuine: false };
        Some(match kind {
            // "My downlinks come here from now on."
            0..25 => shot(Way::Down, encode_pull_data(head)),
            25..35 => {
                // A gateway that comes out of nowhere, and another one each time.
                let gateway = GatewayEui::from_be_bytes(self.dice.draw().to_be_bytes());
                shot(Way::Down, encode_pull_data(Head { gateway, ..head }))
            }
            35..60 => {
                let status = status(&mut self.dice);
                shot(Way::Down, TxReply { status, power_used_dbm: None }.encode(head))
            }
            _ => {
                let frame = self.made_up(loot)?;
                let rxpk = self.on_air(loot, frame);
                self.push(rxpk, false)
            }
        })
    }

    /// A data frame in a device's name, or in nobody's, with a MIC that only its key could make.
    fn made_up(&mut self, loot: &Loot) -> Option<Bytes> {
        let mut drawn = [0; 48];
        self.dice.fill(&mut drawn);
        let known = self.dice.chance(0.8);
        let (place, ahead) = (self.dice.draw(), self.dice.below(4));
        let (confirmed, acknowledges) = (self.dice.chance(0.5), self.dice.chance(0.2));
        let count = loot.counters.len();
        let of = usize::try_from(place % count.max(1) as u64).unwrap_or(0);
        let device = loot.counters.iter().nth(of).filter(|_| known);
        let device = device.map(|(dev_addr, fcnt)| (*dev_addr, *fcnt));
        let stranger = (DevAddr::from_u32(u32::from_be_bytes(part(&drawn[40..44]))), 0);
        let (dev_addr, fcnt) = device.unwrap_or(stranger);
        let keys = [&drawn[..16], &drawn[16..32]].map(|key| Aes::new(&Key::from_bytes(part(key))));
        let message = DataMessage {
            direction: Direction::Up,
            confirmed,
            dev_addr,
            fctrl: FCtrl { ack: acknowledges, ..FCtrl::default() },
            fcnt: u32::from(fcnt).wrapping_add(u32::try_from(ahead).unwrap_or(0)),
            f_opts: &[],
            f_port: Some(super::super::mote::PORT),
            payload: &drawn[32..40],
        };
        message.encode_1_0(&keys[0], &keys[1]).ok().map(Bytes::from)
    }

    /// A frame as if it had been on the air: like one that was.
    fn on_air(&mut self, loot: &Loot, phy_payload: Bytes) -> Rxpk {
        let place = self.dice.draw();
        match pick_of(&loot.frames, place) {
            Some(heard) => Rxpk { phy_payload, ..heard.rxpk.clone() },
            None => Rxpk {
                phy_payload,
                gateway_time: None,
                gps_time: None,
                frequency_hz: 868_100_000,
                modulation: EU868.modulation(5).expect("it is one of its data rates"),
                rssi_dbm: -60,
                snr_ddb: 80,
                channel: 0,
                rf_chain: 0,
                antenna: 0,
                tmst: 0,
                crc: CrcStatus::Ok,
            },
        }
    }

    /// A PUSH_DATA of one of its faces, as if it had just heard this, loudly.
    fn push(&mut self, rxpk: Rxpk, genuine: bool) -> Shot {
        let strange = self.dice.chance(STRANGE);
        let known = self.dice.index(self.faces.len().saturating_sub(1).max(1));
        let den = if strange { self.faces.len() - 1 } else { known };
        let [tmst @ .., _, _, _, _] = self.dice.draw().to_be_bytes();
        let rxpk = Rxpk { tmst: u32::from_be_bytes(tmst), rssi_dbm: -30, snr_ddb: 120, ..rxpk };
        let push = PushData { rxpks: vec![rxpk], ..PushData::default() };
        let bytes = push.encode(self.head(den)).into();
        Shot { den, way: Way::Up, bytes, genuine }
    }

    fn head(&mut self, den: usize) -> Head {
        let [token @ .., _, _, _, _, _, _] = self.dice.draw().to_be_bytes();
        let gateway = self.faces[den];
        Head { version: Version::V2, token: u16::from_be_bytes(token), gateway }
    }

    /// A frame out of those it has: often one of the last.
    fn pick<'l>(&mut self, loot: &'l Loot) -> Option<&'l Heard> {
        let (fresh, place) = (self.dice.chance(FRESH), self.dice.draw());
        let count = loot.frames.len();
        let from = if fresh { count.saturating_sub(FRESH_MAX) } else { 0 };
        let width = (count - from).max(1) as u64;
        loot.frames.get(from + usize::try_from(place % width).unwrap_or(0))
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let count = 1 + self.dice.below(BITS_MAX);
        for _ in 0..count {
            let bit = self.dice.index(bytes.len().max(1) * 8);
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    fn den_of(&self, gateway: GatewayEui) -> Option<usize> {
        self.faces.iter().position(|face| *face == gateway)
    }
}

/// What a gateway may say of a downlink.
pub(super) fn status(dice: &mut Dice) -> TxStatus {
    const ALL: [TxStatus; 6] = [
        TxStatus::Ok,
        TxStatus::TooLate,
        TxStatus::TooEarly,
        TxStatus::CollisionPacket,
        TxStatus::TxFreq,
        TxStatus::TxPower,
    ];
    ALL[dice.index(ALL.len())]
}

fn pick_of(ring: &std::collections::VecDeque<Heard>, place: u64) -> Option<&Heard> {
    let count = ring.len().max(1) as u64;
    ring.get(usize::try_from(place % count).unwrap_or(0))
}

/// `bytes`, which are as many as there must be.
fn part<const LEN: usize>(bytes: &[u8]) -> [u8; LEN] {
    let mut part = [0; LEN];
    part.copy_from_slice(bytes);
    part
}
