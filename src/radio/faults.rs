//! What goes wrong on purpose at a forwarder, and how often.
//!
//! Each downlink takes two draws whatever the shares are, from a stream that nothing else draws
//! from: changing one share changes nothing else that happens.

use clock::Duration;
use lorawan::TxStatus;

use crate::chance::Chance;

/// The stream of a forwarder's seed that decides which faults strike.
const STREAM: u64 = 1;

/// What goes wrong on purpose with downlinks; nothing by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Of a million TX_ACK, how many get lost (the frame is sent all the same).
    pub lose_ack_ppm: u32,
    /// Of a million downlinks, how many are refused with `fail_status`.
    pub fail_ppm: u32,
    /// What such a refusal says.
    pub fail_status: TxStatus,
    /// By how much every TX_ACK comes late.
    pub ack_delay: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            lose_ack_ppm: 0,
            fail_ppm: 0,
            fail_status: TxStatus::CollisionPacket,
            ack_delay: Duration::ZERO,
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
        let Faults { lose_ack_ppm, fail_ppm, fail_status, ack_delay } = self.faults;
        let refused = self.chance.ppm(fail_ppm).then_some(fail_status);
        let ack_lost = self.chance.ppm(lose_ack_ppm);
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
        let refusing = Faults { fail_ppm: 250_000, ..Faults::default() };
        let both = Faults { lose_ack_ppm: 2_500, ..refusing };
        let (refusing, both) = (struck(refusing), struck(both));
        let refusals = |blows: &[Blow]| -> Vec<bool> {
            blows.iter().map(|blow| blow.refused.is_some()).collect()
        };
        assert_eq!(refusals(&refusing), refusals(&both));
        let count = |blows: &[Blow], is: fn(&Blow) -> bool| blows.iter().filter(|b| is(b)).count();
        assert!((4_700..5_300).contains(&count(&both, |blow| blow.refused.is_some())));
        assert!((20..90).contains(&count(&both, |blow| blow.ack_lost)), "50 of 20,000");
        assert_eq!(count(&refusing, |blow| blow.ack_lost), 0);
    }
}
