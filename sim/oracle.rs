//! What has happened in the world, told by the world itself and not by the nodes.
//!
//! The world sees every transmission of every device, every datagram that leaves for a gateway,
//! every message a client gets and every entry a node applies; it holds the devices' keys, so it
//! reads what it sees. It states each as a [`Fact`]; the [`crate::invariants`] listen, and change
//! nothing.

use std::time::Duration;

use bytes::Bytes;
use lorawan::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui};

/// One data frame of a device, as the device means it.
///
/// The workload gives each uplink a payload of its own, so that a DevAddr and a counter that
/// return after a reset cannot be confused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reading {
    /// Who sent it.
    pub device: DevEui,
    /// In which session.
    pub dev_addr: DevAddr,
    /// The whole 32-bit counter.
    pub f_cnt: u32,
    /// `None` without a port, and then without payload.
    pub f_port: Option<u8>,
    /// Plaintext.
    pub payload: Bytes,
}

/// An accepted uplink as the log or a message shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// Its `deduplicationId`.
    pub id: String,
    /// What it reports.
    pub reading: Reading,
}

/// Which part of a frame a cipher stream was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The application's or the network's payload.
    FrmPayload,
    /// MAC commands in the header, encrypted in 1.1.
    FOpts,
    /// The frame as a whole: a counter belongs to bytes, also where nothing in it is encrypted.
    Frame,
}

/// A ciphertext within a downlink, and the AES key it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ciphertext {
    /// The key itself: simulated keys are nobody's secret.
    pub key: [u8; 16],
    /// Which part of the frame.
    pub field: Field,
    /// The bytes.
    pub bytes: Bytes,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A device sent a data frame (each repetition is told again).
    UplinkSent {
        /// What it said.
        reading: Reading,
        /// Whether it asks for an acknowledgement.
        confirmed: bool,
    },
    /// A device asked to join.
    JoinRequestSent {
        /// Whom it asks.
        join_eui: JoinEui,
        /// Who asks.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
    },
    /// A data downlink left a node for a gateway.
    DownlinkHanded {
        /// For which gateway.
        gateway: GatewayEui,
        /// For which device: the one whose keys verify it.
        device: DevEui,
        /// In which session.
        dev_addr: DevAddr,
        /// The whole 32-bit counter.
        f_cnt: u32,
        /// What is encrypted in it.
        ciphertexts: Vec<Ciphertext>,
        /// The uplink that its ACK bit acknowledges, told by the window it is meant for.
        acknowledges: Option<Reading>,
    },
    /// A join-accept left a node for a gateway.
    JoinAcceptHanded {
        /// For which gateway.
        gateway: GatewayEui,
        /// Whom the device had asked.
        join_eui: JoinEui,
        /// Who had asked.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
        /// The whole PHYPayload.
        bytes: Bytes,
    },
    /// A node applied a log entry that activates a device.
    Activated {
        /// Position in the log.
        index: u64,
        /// Whom the device had asked.
        join_eui: JoinEui,
        /// Who had asked.
        dev_eui: DevEui,
        /// With which nonce.
        dev_nonce: DevNonce,
        /// The address it was given.
        dev_addr: DevAddr,
    },
    /// A node applied a log entry that accepts an uplink.
    Accepted {
        /// Position in the log.
        index: u64,
        /// The session's epoch, counted by the log.
        session_epoch: u64,
        /// What was accepted.
        event: Event,
    },
    /// A client got an uplink event.
    Delivered {
        /// Which client.
        client: String,
        /// What it got.
        event: Event,
    },
    /// The run is over; this is the event log that remains.
    Ended {
        /// All uplink events in it, in order.
        log: Vec<Event>,
    },
}

/// A fact and its moment.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Virtual time.
    pub at: Duration,
    /// What happened.
    pub fact: Fact,
}
