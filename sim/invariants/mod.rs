//! What must hold, one property a file. Pure observers: all of them listen in every run.
//!
//! Each file names its source line in the requirements ("G. Invariants of the simulator") and has
//! tests that show both a history it passes and histories it must not pass.

mod s19_mqtt;
mod s1_keystream;
mod s4_dev_nonce;
mod s6_accept_once;
mod s7_no_loss_after_ack;

use std::fmt;
use std::time::Duration;

pub use s1_keystream::Keystream;
pub use s4_dev_nonce::DevNonceOnce;
pub use s6_accept_once::AcceptOnce;
pub use s7_no_loss_after_ack::NoLossAfterAck;
pub use s19_mqtt::Mqtt;

use crate::oracle::Seen;

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: "S1".
    pub invariant: &'static str,
    /// When it was noticed, in virtual time.
    pub at: Duration,
    /// What was seen, with both sides of the contradiction.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated at {:.6}s: {}", self.invariant, self.at.as_secs_f64(), self.text)
    }
}

/// One property, watched over a whole run.
pub trait Invariant {
    /// Its name in the requirements: "S1".
    fn name(&self) -> &'static str;

    /// Sees the next fact; says what it contradicts, if anything.
    fn observe(&mut self, seen: &Seen) -> Vec<Violation>;

    /// Something that must still come about now that nothing goes wrong any more, if it waits for
    /// anything.
    ///
    /// * `core`: the hosts that must work.
    fn waiting(&self, core: &[String]) -> Option<String> {
        let _ = core;
        None
    }
}

/// All of them, fresh.
pub fn all() -> Vec<Box<dyn Invariant + Send>> {
    vec![
        Box::new(Keystream::default()),
        Box::new(DevNonceOnce::default()),
        Box::new(AcceptOnce::default()),
        Box::new(NoLossAfterAck::default()),
        Box::new(Mqtt::default()),
    ]
}

/// Builds a violation of `invariant` seen at the moment of `seen`.
fn violation(invariant: &'static str, seen: &Seen, text: String) -> Violation {
    Violation { invariant, at: seen.at, text }
}

/// Facts for the tests of the single properties.
#[cfg(test)]
mod history {
    use bytes::Bytes;
    use lorawan::{CodeRate, DevAddr, DevEui, GatewayEui, Modulation};

    use super::*;
    use crate::oracle::{Event, Fact, Reading, Transmission};

    pub(super) fn device(number: u8) -> DevEui {
        DevEui::from_be_bytes([0, 0, 0, 0, 0, 0, 0, number])
    }

    pub(super) fn reading(f_cnt: u32, payload: &'static str) -> Reading {
        Reading {
            device: device(1),
            dev_addr: DevAddr::from_u32(0x0100_0001),
            f_cnt,
            f_port: Some(10),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    pub(super) fn event(id: &str, reading: Reading) -> Event {
        Event { id: id.to_owned(), reading }
    }

    /// RX1 of an uplink on 868.1 MHz.
    pub(super) fn transmission() -> Transmission {
        Transmission {
            gateway: GatewayEui::default(),
            token: 1,
            tmst: Some(1_000_000),
            frequency_hz: 868_100_000,
            power_dbm: 16,
            modulation: Modulation::Lora {
                spreading_factor: 7,
                bandwidth_hz: 125_000,
                code_rate: CodeRate::Cr45,
            },
            airtime: Duration::from_millis(50),
        }
    }

    /// Feeds a history, a second apart; returns what was violated.
    pub(super) fn judge(
        invariant: &mut dyn Invariant,
        history: impl IntoIterator<Item = Fact>,
    ) -> Vec<String> {
        let at = |second: usize| Duration::from_secs(second as u64);
        let facts = history.into_iter().enumerate();
        facts
            .flat_map(|(second, fact)| invariant.observe(&Seen { at: at(second), fact }))
            .map(|violation| violation.to_string())
            .collect()
    }
}
