//! What goes wrong on purpose at a forwarder, and how often.
//!
//! Each downlink takes three draws whatever the shares are, from a stream that nothing else draws
//! from: changing one share changes nothing else that happens.

use core::ops::Range;

use clock::Duration;
use lorawan::TxStatus;

use crate::chance::Chance;

/// The stream of a forwarder's seed that decides which faults strike.
const STREAM: u64 = 1;

/// What goes wrong on purpose with downlinks; nothing by default. Shares go from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Share of TX_ACK that get lost (the frame is sent all the same).
    pub lose_ack: f64,
    /// Share of downlinks that are refused with `fail_status`.
    pub fail: f64,
    /// What such a refusal says.
    pub fail_status: TxStatus,
    /// By how much a TX_ACK comes late, drawn for each; an empty range means its start.
    pub ack_delay: Range<Duration>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lose_ack: 0.0,
            fail: 0.0,
            fail_status: TxStatus::CollisionPacket,
            ack_delay: Duration::ZERO..Duration::ZERO,
        }
    }
}

/// The faults in force, and the dice for them.
#[derive(Clone, Debug)]
pub(crate) struct FaultDice {
    pub(crate) faults: Faults,
    chance: Chance,
}

/// What becomes of one downlink and its TX_ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blow {
    /// It is refused with this.
    pub(crate) refused: Option<TxStatus>,
    /// Its TX_ACK gets lost.
    pub(crate) ack_lost: bool,
    /// By how much its TX_ACK comes late.
    pub(crate) ack_delay: Duration,
}

impl FaultDice {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { faults: Faults::default(), chance: Chance::stream(seed, STREAM) }
    }

    /// Decides about the next downlink.
    pub(crate) fn strike(&mut self) -> Blow {
        let Faults { lose_ack, fail, fail_status, ack_delay } = &self.faults;
        let refused = self.chance.share(*fail).then_some(*fail_status);
        let ack_lost = self.chance.share(*lose_ack);
        let ack_delay = self.chance.between(ack_delay);
        Blow { refused, ack_lost, ack_delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: Faults) -> Vec<Blow> {
        let mut dice = FaultDice::new([5; 32]);
        dice.faults = faults;
        (0..20_000).map(|_| dice.strike()).collect()
    }

    #[test]
    fn shares_hold_and_one_does_not_move_the_other() {
        let refusing = Faults { fail: 0.25, ..Faults::default() };
        let ack_delay = Duration::from_millis(10)..Duration::from_millis(20);
        let both = Faults { lose_ack: 0.0025, ack_delay: ack_delay.clone(), ..refusing.clone() };
        let (refusing, both) = (struck(refusing), struck(both));
        let refusals = |blows: &[Blow]| -> Vec<bool> {
            blows.iter().map(|blow| blow.refused.is_some()).collect()
        };
        assert_eq!(refusals(&refusing), refusals(&both));
        let count = |blows: &[Blow], is: fn(&Blow) -> bool| blows.iter().filter(|b| is(b)).count();
        assert!((4_700..5_300).contains(&count(&both, |blow| blow.refused.is_some())));
        assert!((20..90).contains(&count(&both, |blow| blow.ack_lost)), "50 of 20,000");
        assert_eq!(count(&refusing, |blow| blow.ack_lost), 0);
        assert_eq!(count(&refusing, |blow| !blow.ack_delay.is_zero()), 0);
        assert!(both.iter().all(|blow| ack_delay.contains(&blow.ack_delay)));
    }
}
