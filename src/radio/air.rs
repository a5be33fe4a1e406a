//! A frame in the air. How long it stays there: [`airtime`].

use bytes::Bytes;
use clock::{Duration, Instant};
use lorawan::Modulation;

pub use lorawan::airtime;

/// One frame in the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnAir {
    /// The whole PHYPayload.
    pub phy_payload: Bytes,
    /// Hertz.
    pub frequency_hz: u32,
    /// How it is sent.
    pub modulation: Modulation,
    /// Downlinks are sent with inverted polarity, so that devices do not hear each other.
    pub inverted_polarity: bool,
    /// Radiated power (EIRP) in dBm.
    pub eirp_dbm: i8,
    /// When it begins.
    pub starts_at: Instant,
    /// How long it takes.
    pub airtime: Duration,
}

impl OnAir {
    /// When its last bit has gone.
    pub fn ends_at(&self) -> Instant {
        self.starts_at + self.airtime
    }
}

/// How well a frame is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Strength in dBm.
    pub rssi_dbm: i16,
    /// Signal-to-noise ratio in tenths of a decibel.
    pub snr_ddb: i16,
}
