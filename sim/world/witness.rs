//! Reads what nodes send to gateways, with the keys of the simulated devices.
//!
//! The witness remembers what each gateway has heard at which count of its counter. A downlink is
//! for the window of an uplink: its `tmst` minus a whole number of seconds is the count at which
//! that uplink ended, and so tells which reading an ACK bit acknowledges and which join-request a
//! join-accept answers. Nothing here trusts a node, or a device's opinion.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use gateway::semtech::{Downward, TxTiming, Txpk, Upward, parse_downward, parse_upward};
use lorawan::{
    Aes, DataFrame, DevAddr, DevEui, DevNonce, EncryptedJoinAccept, Frame, GatewayEui, JoinEui,
    Key, MicContext, SessionCiphers, SessionKeys, derive_session_1_0, fcnt_candidates,
};

use crate::oracle::{Ciphertext, Fact, Field, Reading, Transmission};

/// The longest delay of a window, in seconds: RX2 of 15 + 1.
const WINDOW_MAX_S: u32 = 16;

/// Frames whose bytes are remembered, for whoever sends them again.
const FRAMES_MAX: usize = 1_024;

/// What a device was made with.
#[derive(Clone, Debug)]
pub struct Root {
    /// The join server it names.
    pub join_eui: JoinEui,
    /// Its root key.
    pub app_key: Key,
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
    heard: BTreeMap<(GatewayEui, u32), Vec<Carried>>,
    /// What frames carry that somebody has overheard, and their bytes, oldest first.
    frames: BTreeMap<Bytes, Carried>,
    overheard: VecDeque<Bytes>,
    sessions: BTreeMap<DevAddr, Vec<Session>>,
}

/// A fact and the line that tells it.
type Told = (String, Fact);

impl Witness {
    /// Makes a device known.
    pub fn introduce(&mut self, dev_eui: DevEui, root: Root) {
        self.roots.insert(dev_eui, root);
    }

    /// A gateway has heard a frame to its end.
    pub fn heard(&mut self, gateway: GatewayEui, tmst: u32, carried: &Carried) {
        self.heard.entry((gateway, tmst)).or_default().push(carried.clone());
    }

    /// Somebody has overheard the bytes of a frame that a gateway has heard.
    pub fn overheard(&mut self, gateway: GatewayEui, tmst: u32, phy_payload: &Bytes) {
        // Two frames that end in the same microsecond cannot be told apart here.
        let Some([carried]) = self.heard.get(&(gateway, tmst)).map(Vec::as_slice) else { return };
        if self.frames.insert(phy_payload.clone(), carried.clone()).is_none() {
            self.overheard.push_back(phy_payload.clone());
        }
        if self.overheard.len() > FRAMES_MAX
            && let Some(oldest) = self.overheard.pop_front()
        {
            self.frames.remove(&oldest);
        }
    }

    /// Somebody who is no gateway sends a datagram: the node will take the frames in it for heard by
    /// the gateway it names, when it says. What is genuine among them may be answered.
    pub fn forged(&mut self, datagram: &[u8]) {
        let Ok(Upward::PushData(head, push)) = parse_upward(datagram) else { return };
        for rxpk in push.rxpks {
            if let Some(carried) = self.frames.get(&rxpk.phy_payload) {
                let heard = self.heard.entry((head.gateway, rxpk.tmst)).or_default();
                if !heard.contains(carried) {
                    heard.push(carried.clone());
                }
            }
        }
    }

    /// Reads a datagram for a gateway.
    ///
    /// Errors: a downlink that answers nothing anybody asked, or that no device's keys verify.
    pub fn datagram(
        &mut self,
        gateway: GatewayEui,
        datagram: &[u8],
    ) -> Result<Option<Told>, String> {
        match parse_downward(datagram) {
            Ok(Downward::PullResp { token, txpk }) => {
                self.downlink(gateway, token, &txpk).map(Some)
            }
            Ok(Downward::PushAck { .. } | Downward::PullAck { .. }) => Ok(None),
            Err(error) => Err(format!("unreadable datagram for gateway {gateway}: {error}")),
        }
    }

    fn downlink(&mut self, gateway: GatewayEui, token: u16, txpk: &Txpk) -> Result<Told, String> {
        let TxTiming::Counter(tmst) = txpk.timing else {
            return Err(format!("a class A downlink without its moment for gateway {gateway}"));
        };
        let frame = Frame::parse(&txpk.phy_payload);
        match frame.map_err(|error| format!("no frame for gateway {gateway}: {error}"))? {
            Frame::JoinAccept(accept) => {
                self.join_accept(how(gateway, token, txpk), tmst, accept, txpk)
            }
            Frame::Data(data) => self.data(how(gateway, token, txpk), tmst, &data, txpk),
            other @ (Frame::JoinRequest(_) | Frame::Rejoin(_) | Frame::Proprietary(_)) => {
                Err(format!("a {:?} sent downwards to gateway {gateway}", other.mtype()))
            }
        }
    }

    /// What the gateway had heard at the start of the window that `tmst` opens.
    fn asked(&self, gateway: GatewayEui, tmst: u32) -> impl Iterator<Item = &Carried> {
        let begin = move |seconds: u32| tmst.wrapping_sub(seconds * 1_000_000);
        (1..=WINDOW_MAX_S)
            .filter_map(move |seconds| self.heard.get(&(gateway, begin(seconds))))
            .flatten()
    }

    fn join_accept(
        &mut self,
        how: Transmission,
        tmst: u32,
        accept: EncryptedJoinAccept<'_>,
        txpk: &Txpk,
    ) -> Result<Told, String> {
        let gateway = how.gateway;
        let requests = self.asked(gateway, tmst).filter_map(|carried| match carried {
            Carried::Join { dev_eui, dev_nonce } => Some((*dev_eui, *dev_nonce)),
            Carried::Data { .. } => None,
        });
        let answered = requests.into_iter().find_map(|(dev_eui, dev_nonce)| {
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
        let sessions = self.sessions.entry(fields.dev_addr).or_default();
        if !sessions.iter().any(|session| session.keys == keys) {
            let ciphers = SessionCiphers::new(&keys);
            sessions.push(Session { device: dev_eui, keys, ciphers, highest: None });
        }
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
        tmst: u32,
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
            Some(self.acknowledged(gateway, tmst, device).ok_or_else(|| {
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

    fn acknowledged(&self, gateway: GatewayEui, tmst: u32, device: DevEui) -> Option<Reading> {
        self.asked(gateway, tmst).find_map(|carried| match carried {
            Carried::Data { reading, confirmed: true } if reading.device == device => {
                Some(reading.clone())
            }
            Carried::Data { .. } | Carried::Join { .. } => None,
        })
    }
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

/// The radio's part of a PULL_RESP.
fn how(gateway: GatewayEui, token: u16, txpk: &Txpk) -> Transmission {
    let len = u8::try_from(txpk.phy_payload.len()).unwrap_or(u8::MAX);
    Transmission {
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
