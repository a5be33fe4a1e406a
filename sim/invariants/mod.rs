//! What must hold, one property a file. Pure observers: all of them listen in every run.
//!
//! Each file names its source line in the requirements ("G. Invariants of the simulator") and has
//! tests that show both a history it passes and histories it must not pass.

mod air;
#[cfg(test)]
mod history;
mod lateness;
mod numbers;
mod s10_one_log;
mod s11_one_home;
mod s12_permitted;
mod s13_no_unauthenticated_write;
mod s14_secrets;
mod s15_stranger;
mod s19_mqtt;
mod s1_keystream;
mod s20_one_radio;
mod s20_outside_plan;
mod s21_bounded;
mod s2_granted_once;
mod s3_downlink_order;
mod s4_dev_nonce;
mod s5_join_nonce;
mod s6_accept_once;
mod s7_no_loss_after_ack;
mod s8_downlink_queue;
mod v5_windows;

use std::fmt;
use std::time::Duration;

pub use s1_keystream::Keystream;
pub use s2_granted_once::GrantedOnce;
pub use s3_downlink_order::DownlinkOrder;
pub use s4_dev_nonce::DevNonceOnce;
pub use s5_join_nonce::JoinNonceRises;
pub use s6_accept_once::AcceptOnce;
pub use s7_no_loss_after_ack::NoLossAfterAck;
pub use s8_downlink_queue::DownlinkQueue;
pub use s10_one_log::OneLog;
pub use s11_one_home::OneHome;
pub use s12_permitted::Permitted;
pub use s13_no_unauthenticated_write::NoUnauthenticatedWrite;
pub use s14_secrets::Secrets;
pub use s15_stranger::Stranger;
pub use s19_mqtt::Mqtt;
pub use s20_one_radio::OneRadio;
pub use s20_outside_plan::OutsidePlan;
pub use s21_bounded::Bounded;
pub use v5_windows::Windows;

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

    /// What is worth telling at the end and is no violation: how much there was to watch.
    fn closing(&self) -> Option<String> {
        None
    }

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
        Box::new(GrantedOnce::default()),
        Box::new(DownlinkOrder::default()),
        Box::new(DevNonceOnce::default()),
        Box::new(JoinNonceRises::default()),
        Box::new(AcceptOnce::default()),
        Box::new(NoLossAfterAck::default()),
        Box::new(DownlinkQueue::default()),
        Box::new(OneLog::default()),
        Box::new(OneHome::default()),
        Box::new(Permitted::default()),
        Box::new(NoUnauthenticatedWrite::default()),
        Box::new(Stranger::default()),
        Box::new(OutsidePlan::default()),
        Box::new(OneRadio::default()),
        Box::new(Windows::default()),
        Box::new(Mqtt::default()),
    ]
}

/// Builds a violation of `invariant` seen at the moment of `seen`.
fn violation(invariant: &'static str, seen: &Seen, text: String) -> Violation {
    Violation { invariant, at: seen.at, text }
}
