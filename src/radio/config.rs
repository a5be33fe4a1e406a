//! What a device is made with, and what it is asked to send.

use bytes::Bytes;
use clock::Instant;
use lorawan::{DevAddr, DevEui, JoinEui, Key, Region, SessionKeys};

/// The version a device speaks; 1.1 has its place here and comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceVersion {
    /// 1.0.2: random DevNonce, MAX_FCNT_GAP.
    V1_0_2,
    /// 1.0.3: adds DeviceTimeReq.
    V1_0_3,
    /// 1.0.4: counting DevNonce, rising JoinNonce, no MAX_FCNT_GAP, 0xF keeps in LinkADRReq.
    V1_0_4,
}

/// How a device comes to its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Over the air.
    Otaa {
        /// AppKey of 1.0.x.
        app_key: Key,
    },
    /// By personalisation: the session is there from the factory.
    Abp {
        /// Its address.
        dev_addr: DevAddr,
        /// Its keys.
        keys: SessionKeys,
    },
}

/// One device.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its EUI.
    pub dev_eui: DevEui,
    /// The join server it names.
    pub join_eui: JoinEui,
    /// How it comes to its session.
    pub activation: Activation,
    /// The version it speaks.
    pub version: DeviceVersion,
    /// Where it is used.
    pub region: &'static Region,
    /// Uplink channels it starts with, of a fixed plan: 8 to 15 and 65 are sub-band 2. `None`: all.
    pub channels: Option<Vec<u8>>,
    /// Uplink data rate index it starts with, joins included.
    pub data_rate: u8,
    /// Whether it lets the network set its data rate.
    pub adr: bool,
    /// The number of its first data frame: 0, or 1 as a widespread stack has it.
    pub first_fcnt: u32,
    /// How often it sends a confirmed uplink that nobody acknowledges, the first time included.
    pub confirmed_tries: u8,
    /// What a DevStatusReq is told: 0 external power, 1 to 254 of the battery, 255 unknown.
    pub battery: u8,
    /// Decides channels, nonces and pauses.
    pub seed: [u8; 32],
}

impl DeviceConfig {
    /// An OTAA device of 1.0.3 with ADR, as most in the field are.
    pub fn otaa(
        region: &'static Region,
        dev_eui: DevEui,
        join_eui: JoinEui,
        app_key: Key,
        seed: [u8; 32],
    ) -> Self {
        Self {
            dev_eui,
            join_eui,
            activation: Activation::Otaa { app_key },
            version: DeviceVersion::V1_0_3,
            region,
            channels: None,
            data_rate: 0,
            adr: true,
            first_fcnt: 0,
            confirmed_tries: 8,
            battery: 255,
            seed,
        }
    }
}

/// What a device is asked to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppUplink {
    /// 1 to 255; `None` sends no payload, only what the device has to say itself.
    pub f_port: Option<u8>,
    /// In the clear.
    pub payload: Bytes,
    /// Whether it asks for an acknowledgement.
    pub confirmed: bool,
    /// Adds a LinkCheckReq.
    pub link_check: bool,
    /// Adds a DeviceTimeReq.
    pub device_time: bool,
}

impl AppUplink {
    /// A payload on a port, unconfirmed.
    pub fn unconfirmed(f_port: u8, payload: impl Into<Bytes>) -> Self {
        Self { f_port: Some(f_port), payload: payload.into(), ..Self::default() }
    }

    /// A payload on a port, confirmed.
    pub fn confirmed(f_port: u8, payload: impl Into<Bytes>) -> Self {
        Self { confirmed: true, ..Self::unconfirmed(f_port, payload) }
    }
}

/// Why a device does not send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The last exchange is not over.
    #[error("an exchange is under way")]
    Busy,
    /// It has no session, or it has one by personalisation and cannot join.
    #[error("not activated that way")]
    Activation,
    /// Port 0 is the MAC layer's; without a port there can be no payload.
    #[error("no such port for this payload")]
    Port,
    /// Longer than the data rate allows, MAC commands included.
    #[error("{len} bytes, at most {max} now")]
    TooLong {
        /// Bytes of payload.
        len: usize,
        /// What there is room for.
        max: usize,
    },
    /// The network limited its duty cycle.
    #[error("silent until {until} by the network's duty cycle")]
    DutyCycle {
        /// When it may send again.
        until: Instant,
    },
    /// Its frame counter has run out.
    #[error("the frame counter has run out")]
    FCntExhausted,
    /// Its nonces have run out.
    #[error("the DevNonce has run out")]
    DevNonceExhausted,
    /// No channel is on.
    #[error("no channel to send on")]
    NoChannel,
}
