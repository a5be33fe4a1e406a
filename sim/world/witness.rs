//! Reads what nodes send to gateways, with the keys of the simulated devices.
//!
//! The witness remembers what each gateway has heard at which count of its counter. A downlink is
//! for the window of an uplink: its `tmst` minus a whole number of seconds is the count at which
//! that uplink ended, and so tells which reading an ACK bit acknowledges and which join-request a
//! join-accept answers. Nothing here trusts a node, or a device's opinion.
//!
//! A node knows gateways by their EUI alone. Where several have one, it may send one of them what
//! another has heard; and what it sends after a counter has jumped may be meant for the count
//! before. So hearings are kept for each gateway, whatever becomes of its counter, and looked for
//! at the one that is sent to first, then at its twins; of several the latest is meant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway::semtech::{Downward, TxTiming, Txpk, Upward, parse_downward, parse_upward};
use lorawan::{
    Aes, DataFrame, DevAddr, DevEui, DevNonce, EncryptedJoinAccept, Frame, GatewayEui, JoinEui,
    Key, MicContext, SessionCiphers, SessionKeys, derive_session_1_0, fcnt_candidates,
};

use crate::oracle::{Ciphertext, Fact, Field, Reading, Transmission};

/// The longest delay of a window, in seconds: RX2 of 15 + 1.
const WINDOW_MAX_S: u32 = 16;
/// How long a hearing is remembered. It may be forwarded two minutes late to a node that stands
/// still for another one; the counter that names it comes round after 71.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Hearings remembered at most, for very large runs: a minute of 100 gateways and 10,000 devices.
const HEARINGS_MAX: usize = 1 << 20;

/// Frames whose bytes are remembered, for whoever sends them again.
const FRAMES_MAX: usize = 1_024;

/// What a device was made with.
#[derive(Clone, Debug)]
pub struct Root {
    /// The join server it names.
    pub join_eui: JoinEui,
    /// Its root key.
    pub app_key: Key,
    /// The session it has from the start, if it is personalised (ABP).
    pub personal: Option<Personal>,
}

/// The session of a personalised device.
#[derive(Clone, Debug)]
pub struct Personal {
    /// Its address.
    pub dev_addr: DevAddr,
    /// Its keys, those of 1.0.
    pub keys: SessionKeys,
    /// The number of its first uplink.
    pub first_fcnt: u32,
    /// The server is told that its uplink counter may start anew.
    pub may_reset: bool,
}

/// What a frame of a device carries, as the device means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A join-request.
    Join {
        /// Who asks.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
    },
    /// Data.
    Data {
        /// What it says.
        reading: Reading,
        /// Whether it asks for an acknowledgement.
        confirmed: bool,
    },
}

/// One gateway's hearing of one frame.
#[derive(Debug)]
struct Hearing {
    by: IpAddr,
    at: Duration,
    carried: Arc<Carried>,
}

#[derive(Debug)]
struct Session {
    device: DevEui,
    keys: SessionKeys,
    ciphers: SessionCiphers,
    highest: Option<u32>,
}

/// What the witness knows.
#[derive(Debug, Default)]
pub struct Witness {
    roots: BTreeMap<DevEui, Root>,
    gateways: BTreeMap<IpAddr, GatewayEui>,
    /// By gateway, count and order.
    heard: BTreeMap<(GatewayEui, u32, u64), Hearing>,
    /// The keys of `heard`, oldest first.
    ages: VecDeque<(GatewayEui, u32, u64)>,
    /// Hearings so far.
    hearings: u64,
    /// What frames carry that somebody has overheard, and their bytes, oldest first.
    frames: BTreeMap<Bytes, Arc<Carried>>,
    overheard: VecDeque<Bytes>,
    sessions: BTreeMap<DevAddr, Vec<Session>>,
    /// Keys of sessions that nobody has asked for yet.
    new_keys: Vec<Key>,
}

impl Carried {
    /// Who sent it, and in words what it is.
    pub fn told(&self) -> String {
        match self {
            Self::Join { dev_eui, dev_nonce } => format!("join {} of {dev_eui}", dev_nonce.0),
            Self::Data { reading, .. } => format!("up {} of {}", reading.f_cnt, reading.device),
        }
    }
}

/// A fact and the line that tells it.
type Told = (String, Fact);

impl Witness {
    /// Makes a device known; once more changes nothing.
    pub fn introduce(&mut self, dev_eui: DevEui, root: Root) {
        if let Some(Personal { dev_addr, keys, .. }) = &root.personal {
            self.add_session(dev_eui, *dev_addr, keys.clone());
        }
        self.roots.insert(dev_eui, root);
    }

    /// The session keys that have arisen since this was last asked.
    pub fn take_new_keys(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.new_keys)
    }

    /// Makes a gateway known by its address; several may have one EUI.
    pub fn introduce_gateway(&mut self, address: IpAddr, gateway: GatewayEui) {
        self.gateways.insert(address, gateway);
    }

    /// The EUI of the gateway at an address.
    pub fn gateway_at(&self, address: IpAddr) -> Option<GatewayEui> {
        self.gateways.get(&address).copied()
    }

    /// Whether a device's uplink counter may start anew without a join.
    pub fn may_reset(&self, dev_eui: DevEui) -> bool {
        let personal = self.roots.get(&dev_eui).and_then(|root| root.personal.as_ref());
        personal.is_some_and(|personal| personal.may_reset)
    }

    /// The first downlink number that a personalised device was never sent.
    pub fn next_down(&self, dev_eui: DevEui) -> u32 {
        let personal = self.roots.get(&dev_eui).and_then(|root| root.personal.as_ref());
        let sessions = personal.and_then(|personal| self.sessions.get(&personal.dev_addr));
        let own = sessions.into_iter().flatten().filter(|session| session.device == dev_eui);
        own.filter_map(|session| session.highest).max().map_or(0, |highest| highest + 1)
    }

    /// The gateway at an address has heard a frame to its end.
    pub fn heard(&mut self, at: Duration, by: IpAddr, tmst: u32, carried: &Arc<Carried>) {
        let old = |hearing: &Hearing| hearing.at + KEPT < at;
        while let Some(key) = self.ages.front()
            && (self.ages.len() >= HEARINGS_MAX || self.heard.get(key).is_none_or(old))
        {
            self.heard.remove(key);
            self.ages.pop_front();
        }
        let Some(gateway) = self.gateway_at(by) else { return };
        self.take_down((gateway, tmst), Hearing { by, at, carried: Arc::clone(carried) });
    }

    fn take_down(&mut self, (gateway, tmst): (GatewayEui, u32), hearing: Hearing) {
        self.hearings += 1;
        let key = (gateway, tmst, self.hearings);
        self.heard.insert(key, hearing);
        self.ages.push_back(key);
    }

    /// What the gateways of one EUI heard at a count.
    fn at(&self, gateway: GatewayEui, tmst: u32) -> impl Iterator<Item = &Hearing> {
        let all = (gateway, tmst, 0)..=(gateway, tmst, u64::MAX);
        self.heard.range(all).map(|(_, hearing)| hearing)
    }

    /// Somebody has overheard the bytes of a frame that a gateway has heard.
    pub fn overheard(&mut self, gateway: GatewayEui, tmst: u32, phy_payload: &Bytes) {
        let mut heard = self.at(gateway, tmst);
        // Two frames that end in the same microsecond cannot be told apart here.
        let (Some(hearing), None) = (heard.next(), heard.next()) else { return };
        let carried = Arc::clone(&hearing.carried);
        drop(heard);
        if self.frames.insert(phy_payload.clone(), carried).is_none() {
            self.overheard.push_back(phy_payload.clone());
        }
        if self.overheard.len() > FRAMES_MAX
            && let Some(oldest) = self.overheard.pop_front()
        {
            self.frames.remove(&oldest);
        }
    }

    /// Somebody who is no gateway sends a datagram: the node will take the frames in it for heard
    /// by the gateway it names, when it says. What is genuine among them may be answered.
    pub fn forged(&mut self, at: Duration, datagram: &[u8]) {
        let Ok(Upward::PushData(head, push)) = parse_upward(datagram) else { return };
        for rxpk in push.rxpks {
            let Some(carried) = self.frames.get(&rxpk.phy_payload).cloned() else { continue };
            if !self.at(head.gateway, rxpk.tmst).any(|known| known.carried == carried) {
                let by = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
                self.take_down((head.gateway, rxpk.tmst), Hearing { by, at, carried });
            }
        }
    }

    /// Reads a datagram of the node `from` for the gateway at an address.
    ///
    /// Errors: a downlink that answers nothing anybody asked, or that no device's keys verify.
    pub fn datagram(
        &mut self,
        from: &str,
        to: IpAddr,
        datagram: &[u8],
    ) -> Result<Option<Told>, String> {
        let Some(gateway) = self.gateway_at(to) else { return Ok(None) };
        match parse_downward(datagram) {
            Ok(Downward::PullResp { token, txpk }) => {
                self.downlink((gateway, to), (from, token), &txpk).map(Some)
            }
            Ok(Downward::PushAck { .. } | Downward::PullAck { .. }) => Ok(None),
            Err(error) => Err(format!("unreadable datagram for gateway {gateway}: {error}")),
        }
    }

    fn downlink(
        &mut self,
        (gateway, to): (GatewayEui, IpAddr),
        by: (&str, u16),
        txpk: &Txpk,
    ) -> Result<Told, String> {
        let TxTiming::Counter(tmst) = txpk.timing else {
            return Err(format!("a class A downlink without its moment for gateway {gateway}"));
        };
        let asked = self.asked(gateway, to, tmst);
        let frame = Frame::parse(&txpk.phy_payload);
        match frame.map_err(|error| format!("no frame for gateway {gateway}: {error}"))? {
            Frame::JoinAccept(accept) => {
                self.join_accept(how(gateway, by, txpk), &asked, accept, txpk)
            }
            Frame::Data(data) => self.data(how(gateway, by, txpk), &asked, &data, txpk),
            other @ (Frame::JoinRequest(_) | Frame::Rejoin(_) | Frame::Proprietary(_)) => {
                Err(format!("a {:?} sent downwards to gateway {gateway}", other.mtype()))
            }
        }
    }

    /// What was heard at the start of the window that `tmst` opens, likeliest first.
    fn asked(&self, gateway: GatewayEui, to: IpAddr, tmst: u32) -> Vec<Arc<Carried>> {
        let begin = |seconds: u32| tmst.wrapping_sub(seconds * 1_000_000);
        let at = |tmst: u32| self.heard.range((gateway, tmst, 0)..=(gateway, tmst, u64::MAX));
        let mut hearings: Vec<&Hearing> = (1..=WINDOW_MAX_S)
            .flat_map(|seconds| at(begin(seconds)).map(|(_, hearing)| hearing))
            .collect();
        hearings.sort_by_key(|hearing| (hearing.by != to, Reverse(hearing.at)));
        hearings.into_iter().map(|hearing| Arc::clone(&hearing.carried)).collect()
    }

    fn add_session(&mut self, device: DevEui, dev_addr: DevAddr, keys: SessionKeys) {
        let sessions = self.sessions.entry(dev_addr).or_default();
        if !sessions.iter().any(|session| session.keys == keys) {
            let ciphers = SessionCiphers::new(&keys);
            self.new_keys.extend(each_of(&keys));
            sessions.push(Session { device, keys, ciphers, highest: None });
        }
    }

    fn join_accept(
        &mut self,
        how: Transmission,
        asked: &[Arc<Carried>],
        accept: EncryptedJoinAccept<'_>,
        txpk: &Txpk,
    ) -> Result<Told, String> {
        let gateway = how.gateway;
        let mut requests = asked.iter().filter_map(|carried| match carried.as_ref() {
            Carried::Join { dev_eui, dev_nonce } => Some((*dev_eui, *dev_nonce)),
            Carried::Data { .. } => None,
        });
        let answered = requests.find_map(|(dev_eui, dev_nonce)| {
            let root = self.roots.get(&dev_eui)?;
            let key = Aes::new(&root.app_key);
            let plain = accept.decrypt(&key);
            let fields = plain.verify_1_0(&key).then(|| plain.fields().ok()).flatten()?;
            Some((dev_eui, dev_nonce, root.clone(), fields))
        });
        let Some((dev_eui, dev_nonce, root, fields)) = answered else {
            return Err(format!("a join-accept for gateway {gateway} that answers no request"));
        };
        let keys = derive_session_1_0(&root.app_key, fields.join_nonce, fields.net_id, dev_nonce);
        self.add_session(dev_eui, fields.dev_addr, keys);
        let text = format!(
            "join-accept for {dev_eui} nonce {} through {gateway}: {}",
            dev_nonce.0, fields.dev_addr
        );
        let fact = Fact::JoinAcceptHanded {
            how,
            join_eui: root.join_eui,
            dev_eui,
            dev_nonce,
            join_nonce: fields.join_nonce,
            bytes: txpk.phy_payload.clone(),
        };
        Ok((text, fact))
    }

    fn data(
        &mut self,
        how: Transmission,
        asked: &[Arc<Carried>],
        data: &DataFrame<'_>,
        txpk: &Txpk,
    ) -> Result<Told, String> {
        let (dev_addr, gateway) = (data.dev_addr, how.gateway);
        let sessions = self.sessions.get_mut(&dev_addr).into_iter().flatten();
        let Some((session, f_cnt)) = sessions.into_iter().find_map(|session| {
            let f_cnt = session.counter(data)?;
            Some((session, f_cnt))
        }) else {
            return Err(format!("a downlink for {dev_addr} that no device's keys verify"));
        };
        session.highest = session.highest.max(Some(f_cnt));
        let device = session.device;
        let ciphertexts = session.ciphertexts(data, &txpk.phy_payload);
        let payload = session.payload(data, f_cnt);
        let acknowledges = if data.fctrl.ack {
            Some(acknowledged(asked, device).ok_or_else(|| {
                format!("an ACK for {device} through {gateway} that fits no confirmed uplink")
            })?)
        } else {
            None
        };
        let about = acknowledges.as_ref().map_or_else(String::new, |reading: &Reading| {
            format!(", acknowledges up {}", reading.f_cnt)
        });
        let port = data.f_port.map_or_else(|| "-".to_owned(), |port| port.to_string());
        let text = format!("down {f_cnt} for {device} port {port} through {gateway}{about}");
        let fact = Fact::DownlinkHanded {
            how,
            device,
            dev_addr,
            f_cnt,
            ciphertexts,
            payload,
            acknowledges,
        };
        Ok((text, fact))
    }
}

fn acknowledged(asked: &[Arc<Carried>], device: DevEui) -> Option<Reading> {
    asked.iter().find_map(|carried| match carried.as_ref() {
        Carried::Data { reading, confirmed: true } if reading.device == device => {
            Some(reading.clone())
        }
        Carried::Data { .. } | Carried::Join { .. } => None,
    })
}

impl Session {
    /// The whole counter, if this session's keys verify the frame.
    fn counter(&self, data: &DataFrame<'_>) -> Option<u32> {
        let context = MicContext { conf_fcnt: 0, tx_dr: 0, tx_ch: 0 };
        let near = fcnt_candidates(self.highest, data.fcnt).ok()?;
        let mut candidates = near.into_iter().chain([u32::from(data.fcnt)]);
        candidates.find(|&f_cnt| self.ciphers.verify(data, f_cnt, context))
    }

    /// The application's payload, in the clear, and its port.
    fn payload(&self, data: &DataFrame<'_>, f_cnt: u32) -> Option<(u8, Bytes)> {
        let port = data.f_port.filter(|&port| port > 0)?;
        Some((port, self.ciphers.open(data, f_cnt).payload.into()))
    }

    fn ciphertexts(&self, data: &DataFrame<'_>, phy_payload: &Bytes) -> Vec<Ciphertext> {
        let (network, application) = match &self.keys {
            SessionKeys::V1_0 { nwk_s_key, app_s_key } => (nwk_s_key, app_s_key),
            SessionKeys::V1_1 { nwk_s_enc_key, app_s_key, .. } => (nwk_s_enc_key, app_s_key),
        };
        let frame =
            Ciphertext { key: *network.expose(), field: Field::Frame, bytes: phy_payload.clone() };
        let key = if data.f_port == Some(0) { network } else { application };
        let payload = data.f_port.map(|_| Ciphertext {
            key: *key.expose(),
            field: Field::FrmPayload,
            bytes: Bytes::copy_from_slice(data.frm_payload),
        });
        [Some(frame), payload].into_iter().flatten().collect()
    }
}

/// The keys of a session, one by one.
fn each_of(keys: &SessionKeys) -> Vec<Key> {
    match keys {
        SessionKeys::V1_0 { nwk_s_key, app_s_key } => vec![nwk_s_key.clone(), app_s_key.clone()],
        SessionKeys::V1_1 { f_nwk_s_int_key, s_nwk_s_int_key, nwk_s_enc_key, app_s_key } => {
            [f_nwk_s_int_key, s_nwk_s_int_key, nwk_s_enc_key, app_s_key].map(Key::clone).to_vec()
        }
    }
}

/// The radio's part of a PULL_RESP.
fn how(gateway: GatewayEui, (node, token): (&str, u16), txpk: &Txpk) -> Transmission {
    let len = u8::try_from(txpk.phy_payload.len()).unwrap_or(u8::MAX);
    Transmission {
        node: node.to_owned(),
        gateway,
        token,
        tmst: match txpk.timing {
            TxTiming::Counter(tmst) => Some(tmst),
            TxTiming::Immediately | TxTiming::Gps(_) => None,
        },
        frequency_hz: txpk.frequency_hz,
        power_dbm: txpk.power_dbm,
        modulation: txpk.modulation,
        airtime: radio::airtime(txpk.modulation, len, !txpk.no_crc),
    }
}
