//! One UDP listener for packet forwarders, without its socket.
//!
//! Drive it: [`Server::handle_datagram`] for each datagram, [`Server::send`] for each downlink,
//! [`Server::handle_timeout`] when [`Server::poll_timeout`] is due; after each, drain
//! [`Server::poll_output`]. Any gateway is acknowledged, for that promises nothing; only registered
//! ones' frames come out. Source: PROTOCOL.TXT §3-§6.
//!
//! Every downlink that [`Server::send`] took has exactly one outcome: [`Output::TxAck`], or
//! [`Output::TxSilent`] after [`ACK_TIMEOUT`](crate::semtech::ACK_TIMEOUT). A late answer to a
//! silent one is only counted.

use std::collections::VecDeque;
use std::net::SocketAddr;

use clock::{Duration, Instant};
use lorawan::{Downlink, DownlinkTiming, GatewayEui, Modulation, TxAck, TxStatus, Uplink};
use sabotage::Bug;

use crate::semtech_flight::{Flight, Flights};
use crate::semtech_head::{
    AckKind, DatagramError, Head, UpwardKind, Version, encode_ack, split_upward,
};
use crate::semtech_push::PushData;
use crate::semtech_radio::PHY_PAYLOAD_LEN_MAX;
use crate::semtech_rxpk::RxpkError;
use crate::semtech_seen::{Path, SeenGateway, SeenList};
use crate::semtech_stat::Stat;
use crate::semtech_txack::TxReply;
use crate::semtech_txpk::{TxTiming, Txpk};

/// A PULL_DATA older than this no longer opens a path: every forwarder repeats it within 30 s.
pub const PATH_AGE_MAX: Duration = Duration::from_secs(60);
/// Registered gateways remembered by one listener.
pub const REGISTERED_MAX: usize = 65_536;
/// Unregistered gateways remembered by one listener, for the operator to see.
pub const UNREGISTERED_MAX: usize = 256;
/// A retry with less time than this before its moment is not worth the datagram: the forwarder
/// wants 32.5 ms, the rest is the way there.
const RETRY_LEAD_MIN: Duration = Duration::from_millis(80);

/// What the registry says about one gateway's radio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Antenna gain in dBi, cable loss deducted; taken off the EIRP asked for.
    pub antenna_gain_db: i8,
    /// Most its radio can make, in dBm at the connector; `None`: whatever is asked.
    pub power_max_dbm: Option<i8>,
    /// The RF chain that sends, whatever the downlink says; `None`: as the downlink says.
    pub rf_chain: Option<u8>,
}

/// What the machine hands out.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Bytes for the socket.
    Send {
        /// To whom.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// A frame, from a registered gateway.
    Uplink(Uplink),
    /// A registered gateway's statistics.
    Stat {
        /// Whose.
        gateway: GatewayEui,
        /// Its figures.
        stat: Stat,
    },
    /// A gateway answered a downlink.
    TxAck(TxAck),
    /// A gateway did not answer a downlink in time: a failure.
    TxSilent {
        /// Which gateway.
        gateway: GatewayEui,
        /// Which transmission.
        downlink_id: u32,
    },
    /// A gateway's PULL_DATA: its path is fresh.
    Pulled {
        /// Which gateway.
        gateway: GatewayEui,
        /// When its PULL_DATA before this one came, if there was one.
        before: Option<Instant>,
    },
    /// A TX_ACK for no downlink in flight here: another node may have sent it.
    StrayTxAck {
        /// Which gateway.
        gateway: GatewayEui,
        /// The whole datagram, for [`Server::handle_stray_tx_ack`] of that node.
        datagram: Vec<u8>,
    },
    /// A gateway's PULL_DATA came from a new address.
    PathChanged {
        /// Which gateway.
        gateway: GatewayEui,
        /// Its path from now on.
        path: Path,
    },
    /// An unregistered gateway spoke that was not in the list before.
    UnregisteredGateway {
        /// Its EUI.
        gateway: GatewayEui,
        /// Where it spoke from.
        from: SocketAddr,
    },
    /// Something was refused; to be counted by [`Refusal::reason`].
    Refused {
        /// Source of the datagram.
        from: SocketAddr,
        /// The gateway it named, if it got that far.
        gateway: Option<GatewayEui>,
        /// Why.
        refusal: Refusal,
    },
}

/// Datagrams taken so far: each is counted once, by what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// PUSH_DATA with a body that could be read, whatever became of its frames.
    pub push_data: u64,
    /// PULL_DATA.
    pub pull_data: u64,
    /// TX_ACK for a downlink in flight.
    pub tx_ack: u64,
    /// TX_ACK for none: late, repeated or forged.
    pub tx_ack_unknown: u64,
    /// What could not be read: [`Refusal::Datagram`].
    pub unreadable: u64,
}

/// Why a datagram or a part of it came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The whole datagram.
    #[error("datagram: {0}")]
    Datagram(#[from] DatagramError),
    /// One frame of it.
    #[error("frame: {0}")]
    Rxpk(#[from] RxpkError),
    /// The statistics in it.
    #[error("stat: {0}")]
    Stat(DatagramError),
    /// A TX_ACK for no downlink in flight: late, repeated or forged.
    #[error("TX_ACK with token {token:#06x}, which is not in flight")]
    UnknownToken {
        /// The token.
        token: u16,
    },
    /// Frames of a gateway that nobody registered.
    #[error("{frames} frames of an unregistered gateway")]
    Unregistered {
        /// How many.
        frames: usize,
    },
}

impl Refusal {
    /// The two labels of this refusal in the metric that counts it: what was refused, and why.
    pub const fn reason(&self) -> (&'static str, &'static str) {
        match self {
            Self::Datagram(error) => ("datagram", error.reason()),
            Self::Rxpk(error) => ("rxpk", error.reason()),
            Self::Stat(error) => ("stat", error.reason()),
            Self::UnknownToken { .. } => ("tx_ack", "unknown_token"),
            Self::Unregistered { .. } => ("rxpk", "unregistered_gateway"),
        }
    }
}

/// Why a downlink cannot go through this listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No PULL_DATA of this gateway, or none lately.
    #[error("no gateway path: last PULL_DATA {last_pull_age:?} ago")]
    NoPath {
        /// Age of its latest PULL_DATA; `None` if there never was one.
        last_pull_age: Option<Duration>,
    },
    /// Too many downlinks wait for this gateway's, or for all gateways', answers.
    #[error("too many downlinks in flight")]
    TooManyInFlight,
    /// No bytes, or more than a LoRa frame can hold.
    #[error("{0} bytes are no PHYPayload")]
    PayloadLength(usize),
    /// LR-FHSS, which no gateway can send.
    #[error("a gateway cannot send LR-FHSS")]
    Modulation,
}

/// One listener. See the module's head for how to drive it.
#[derive(Debug)]
pub struct Server {
    acknowledging: bool,
    registered: SeenList,
    unregistered: SeenList,
    flights: Flights,
    tally: Tally,
    outputs: VecDeque<Output>,
}

impl Server {
    /// A listener that has heard nobody yet and acknowledges.
    ///
    /// * `seed`: drawn afresh for each boot; begins the numbering of downlinks.
    pub fn new(seed: u16) -> Self {
        Self {
            acknowledging: true,
            registered: SeenList::new(REGISTERED_MAX),
            unregistered: SeenList::new(UNREGISTERED_MAX),
            flights: Flights::new(seed),
            tally: Tally::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether PUSH_DATA and PULL_DATA are acknowledged from now on: not while a node starts, forms
    /// its cluster or drains. Everything else goes on.
    pub fn set_acknowledging(&mut self, acknowledging: bool) {
        self.acknowledging = acknowledging;
    }

    /// Takes one datagram.
    ///
    /// * `from`: its source, which acknowledgements go to.
    /// * `is_registered`: whether the registry knows a gateway, asked once.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        is_registered: impl FnOnce(GatewayEui) -> bool,
    ) {
        let (head, kind, body) = match split_upward(datagram) {
            Ok(parts) => parts,
            Err(_) if sabotage::planted(Bug::SilentRefusal) => return,
            Err(error) => {
                self.tally.unreadable += 1;
                return self.refuse(from, None, error.into());
            }
        };
        let registered = is_registered(head.gateway);
        self.note(now, from, head.gateway, registered);
        match kind {
            UpwardKind::PushData => self.handle_push(now, from, head, body, registered),
            UpwardKind::PullData => self.handle_pull(now, from, head),
            UpwardKind::TxAck => self.handle_tx_ack(now, from, head, (body, datagram)),
        }
    }

    /// Takes a TX_ACK that a gateway has sent to another node; one that speaks of no downlink in
    /// flight here is not for this node either.
    ///
    /// * Returns whether it was for this one.
    pub fn handle_stray_tx_ack(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Ok((head, UpwardKind::TxAck, body)) = split_upward(datagram) else { return false };
        let Ok(reply) = TxReply::parse(body) else { return false };
        let Some(flight) = self.flights.land(head.gateway, head.token) else { return false };
        self.landed(now, head.gateway, flight, &reply);
        true
    }

    /// The datagram that sends `downlink`, and where to. Its outcome comes as an [`Output`].
    ///
    /// * Errors: why not through this listener; nothing is in flight then.
    pub fn send(
        &mut self,
        now: Instant,
        downlink: &Downlink,
        settings: GatewaySettings,
    ) -> Result<(SocketAddr, Vec<u8>), SendError> {
        let len = downlink.phy_payload.len();
        if len == 0 || len > PHY_PAYLOAD_LEN_MAX {
            return Err(SendError::PayloadLength(len));
        }
        if matches!(downlink.modulation, Modulation::LrFhss { .. }) {
            return Err(SendError::Modulation);
        }
        let path = self.path(downlink.gateway);
        let last_pull_age = path.map(|path| now.since(path.last_pull));
        let Some(path) = path.filter(|path| now.since(path.last_pull) <= PATH_AGE_MAX) else {
            return Err(SendError::NoPath { last_pull_age });
        };
        let txpk = txpk_of(downlink, settings);
        self.transmit(now, path, downlink.gateway, downlink.downlink_id, txpk, false)
            .ok_or(SendError::TooManyInFlight)
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.flights.next_deadline().map(|deadline| (deadline, "tx_ack"))
    }

    /// Gives up on the downlinks nobody answered in time.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((gateway, flight)) = self.flights.expire(now) {
            self.outputs.push_back(Output::TxSilent { gateway, downlink_id: flight.downlink_id });
        }
    }

    /// Where a gateway's downlinks go, however old that is.
    pub fn path(&self, gateway: GatewayEui) -> Option<Path> {
        self.seen(gateway).and_then(|entry| entry.path)
    }

    /// What is remembered of one gateway, registered or not.
    pub fn seen(&self, gateway: GatewayEui) -> Option<&SeenGateway> {
        self.registered.entry(gateway).or_else(|| self.unregistered.entry(gateway))
    }

    /// The registered gateways heard since the start, at most [`REGISTERED_MAX`], by EUI.
    pub fn registered(&self) -> impl Iterator<Item = (GatewayEui, &SeenGateway)> {
        self.registered.iter()
    }

    /// The unregistered gateways heard lately, at most [`UNREGISTERED_MAX`], by EUI.
    ///
    /// One that was registered since its last datagram leaves with its next.
    pub fn unregistered(&self) -> impl Iterator<Item = (GatewayEui, &SeenGateway)> {
        self.unregistered.iter()
    }

    /// Datagrams taken so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Downlinks waiting for their TX_ACK.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn refuse(&mut self, from: SocketAddr, gateway: Option<GatewayEui>, refusal: Refusal) {
        self.outputs.push_back(Output::Refused { from, gateway, refusal });
    }

    /// Notes that a gateway spoke, in the list it belongs to today.
    fn note(&mut self, now: Instant, from: SocketAddr, gateway: GatewayEui, registered: bool) {
        let (list, other) = if registered {
            (&mut self.registered, &mut self.unregistered)
        } else {
            (&mut self.unregistered, &mut self.registered)
        };
        // What is known of it, its path above all, outlives being registered or struck off.
        let moved = other.remove(gateway).map(|entry| list.insert(gateway, entry)).is_some();
        let is_new = list.touch(now, gateway, from);
        if (is_new || moved) && !registered {
            self.outputs.push_back(Output::UnregisteredGateway { gateway, from });
        }
    }

    fn seen_mut(&mut self, gateway: GatewayEui) -> Option<&mut SeenGateway> {
        match self.registered.entry_mut(gateway) {
            Some(entry) => Some(entry),
            None => self.unregistered.entry_mut(gateway),
        }
    }

    fn acknowledge(&mut self, to: SocketAddr, kind: AckKind, head: Head) {
        if self.acknowledging {
            let bytes = encode_ack(kind, head.version, head.token).to_vec();
            self.outputs.push_back(Output::Send { to, bytes });
        }
    }

    fn handle_push(
        &mut self,
        now: Instant,
        from: SocketAddr,
        head: Head,
        body: &[u8],
        registered: bool,
    ) {
        let gateway = head.gateway;
        // Before the body is read: it says "the link works", not "the frames are good".
        self.acknowledge(from, AckKind::Push, head);
        let push = PushData::parse(body);
        if let Some(entry) = self.seen_mut(gateway) {
            entry.pushes += 1;
            if let Ok(push) = &push {
                entry.frames += push.rxpks.len() as u64;
                if let Some(last) = push.rxpks.last() {
                    entry.observe_counter(now, last.tmst);
                }
            }
        }
        let push = match push {
            Ok(push) => push,
            Err(error) => {
                self.tally.unreadable += 1;
                return self.refuse(from, Some(gateway), error.into());
            }
        };
        self.tally.push_data += 1;
        for error in push.refused {
            self.refuse(from, Some(gateway), error.into());
        }
        if let Some(error) = push.stat_refused {
            self.refuse(from, Some(gateway), Refusal::Stat(error));
        }
        if !registered {
            if !push.rxpks.is_empty() {
                let frames = push.rxpks.len();
                self.refuse(from, Some(gateway), Refusal::Unregistered { frames });
            }
            return;
        }
        if let Some(stat) = push.stat {
            self.outputs.push_back(Output::Stat { gateway, stat });
        }
        let uplinks = push.rxpks.into_iter().map(|rxpk| rxpk.into_uplink(gateway, now));
        self.outputs.extend(uplinks.map(Output::Uplink));
    }

    fn handle_pull(&mut self, now: Instant, from: SocketAddr, head: Head) {
        let gateway = head.gateway;
        self.tally.pull_data += 1;
        self.acknowledge(from, AckKind::Pull, head);
        let path = Path { address: from, last_pull: now, version: head.version };
        let Some(entry) = self.seen_mut(gateway) else { return };
        entry.pulls += 1;
        let before = entry.path.replace(path);
        let last_pull = before.map(|path| path.last_pull);
        self.outputs.push_back(Output::Pulled { gateway, before: last_pull });
        if before.map(|path| (path.address, path.version)) != Some((from, head.version)) {
            self.outputs.push_back(Output::PathChanged { gateway, path });
        }
    }

    fn handle_tx_ack(
        &mut self,
        now: Instant,
        from: SocketAddr,
        head: Head,
        (body, datagram): (&[u8], &[u8]),
    ) {
        let Head { gateway, token, .. } = head;
        let reply = match TxReply::parse(body) {
            Ok(reply) => reply,
            // The downlink stays in flight: an answer nobody can read is as good as silence.
            Err(error) => {
                self.tally.unreadable += 1;
                return self.refuse(from, Some(gateway), error.into());
            }
        };
        let Some(flight) = self.flights.land(gateway, token) else {
            self.tally.tx_ack_unknown += 1;
            self.refuse(from, Some(gateway), Refusal::UnknownToken { token });
            let datagram = datagram.to_vec();
            return self.outputs.push_back(Output::StrayTxAck { gateway, datagram });
        };
        self.tally.tx_ack += 1;
        self.landed(now, gateway, flight, &reply);
    }

    /// A gateway has answered a downlink of this listener.
    fn landed(&mut self, now: Instant, gateway: GatewayEui, flight: Flight, reply: &TxReply) {
        let Flight { downlink_id, .. } = flight;
        if reply.status == TxStatus::Ok
            && let Some(entry) = self.seen_mut(gateway)
        {
            entry.accepted_power_dbm = Some(flight.txpk.power_dbm);
        }
        if reply.status == TxStatus::TxPower && self.retry(now, gateway, flight) {
            return;
        }
        self.outputs.push_back(Output::TxAck(TxAck { gateway, downlink_id, status: reply.status }));
    }

    /// Sends a downlink refused for its power once more, at the power this gateway last accepted.
    ///
    /// * Returns whether it did: not twice, not louder than asked (a region's limit stands behind
    ///   that), not when it would come too late.
    fn retry(&mut self, now: Instant, gateway: GatewayEui, flight: Flight) -> bool {
        let Flight { downlink_id, mut txpk, is_retry, .. } = flight;
        let Some(entry) = self.seen(gateway) else { return false };
        let Some(power_dbm) = entry.accepted_power_dbm else { return false };
        let Some(path) = entry.path else { return false };
        let in_time = match txpk.timing {
            TxTiming::Counter(tmst) => {
                entry.time_until(now, tmst).is_none_or(|left| left >= RETRY_LEAD_MIN)
            }
            TxTiming::Immediately | TxTiming::Gps(_) => true,
        };
        if is_retry || power_dbm >= txpk.power_dbm || !in_time {
            return false;
        }
        txpk.power_dbm = power_dbm;
        let Some((to, bytes)) = self.transmit(now, path, gateway, downlink_id, txpk, true) else {
            return false;
        };
        self.outputs.push_back(Output::Send { to, bytes });
        true
    }

    /// Numbers a frame and writes its datagram; `None` if too many are in flight.
    fn transmit(
        &mut self,
        now: Instant,
        path: Path,
        gateway: GatewayEui,
        downlink_id: u32,
        txpk: Txpk,
        is_retry: bool,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let token = self.flights.launch(now, gateway, downlink_id, txpk.clone(), is_retry)?;
        let bytes = txpk.encode(path.version, token);
        if path.version == Version::V1 {
            // Version 1 has no TX_ACK: that the datagram left is all anyone will ever know.
            self.flights.land(gateway, token);
            let status = TxStatus::Ok;
            self.outputs.push_back(Output::TxAck(TxAck { gateway, downlink_id, status }));
        }
        Some((path.address, bytes))
    }
}

/// The frame as this gateway must be told it.
fn txpk_of(downlink: &Downlink, settings: GatewaySettings) -> Txpk {
    let timing = match downlink.timing {
        DownlinkTiming::Immediately => TxTiming::Immediately,
        DownlinkTiming::Delay { tmst, delay } => {
            // The counter wraps, and so does the sum: only its lower 32 bits exist.
            let wrapped = delay.as_micros() % (1 << 32);
            let delay_us = u32::try_from(wrapped).unwrap_or(u32::MAX);
            TxTiming::Counter(tmst.wrapping_add(delay_us))
        }
        DownlinkTiming::Gps(at) => TxTiming::Gps(at),
    };
    let wanted_dbm = downlink.eirp_dbm.saturating_sub(settings.antenna_gain_db);
    Txpk {
        timing,
        frequency_hz: downlink.frequency_hz,
        rf_chain: settings.rf_chain.unwrap_or(downlink.rf_chain),
        antenna: downlink.antenna,
        power_dbm: settings.power_max_dbm.map_or(wanted_dbm, |max| wanted_dbm.min(max)),
        modulation: downlink.modulation,
        inverted_polarity: true,
        no_crc: true,
        phy_payload: downlink.phy_payload.clone(),
    }
}
