//! Frame counters: 32 bits in both ends' heads, 16 on the air.

/// The counter of a session has run out: it may not go round (LoRaWAN 1.0.4 §4.3.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("FCnt {wire} after {last} would pass the end of the 32-bit counter")]
pub struct FCntExhausted {
    /// Highest counter accepted so far.
    pub last: u32,
    /// The 16 bits of the frame.
    pub wire: u16,
}

/// The two 32-bit counters that a 16-bit FCnt on the wire may mean; the MIC tells which.
///
/// * `last`: highest counter accepted so far, in frames; `None` before the first.
/// * Returns the candidate in the same half as `last` first (it may be at or below `last`: a repeat
///   or a replay), then the one in the next half. At the very end of the counter, where no next
///   half exists, both are the first.
/// * Errors: [`FCntExhausted`] when only a counter past 2^32 - 1 could be new.
/// * Source: LoRaWAN 1.0.4 §4.3.1.5.
pub fn fcnt_candidates(last: Option<u32>, wire: u16) -> Result<[u32; 2], FCntExhausted> {
    let base = last.unwrap_or(0) & 0xFFFF_0000;
    let same_half = base | u32::from(wire);
    match (same_half.checked_add(0x1_0000), last) {
        (Some(next_half), _) => Ok([same_half, next_half]),
        (None, Some(last)) if same_half < last => Err(FCntExhausted { last, wire }),
        (None, _) => Ok([same_half, same_half]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_may_lie_in_this_half_or_the_next() {
        assert_eq!(fcnt_candidates(None, 0), Ok([0, 0x1_0000]));
        assert_eq!(fcnt_candidates(None, 0xFFFF), Ok([0xFFFF, 0x1_FFFF]));
        assert_eq!(fcnt_candidates(Some(5), 5), Ok([5, 0x1_0005]));
        assert_eq!(fcnt_candidates(Some(0xFFFF), 0), Ok([0, 0x1_0000]));
        assert_eq!(fcnt_candidates(Some(0x2_FFFE), 1), Ok([0x2_0001, 0x3_0001]));
    }

    #[test]
    fn the_last_half_is_used_to_its_end_and_not_beyond() {
        let last = 0xFFFF_FFF0;
        assert_eq!(fcnt_candidates(Some(last), 0xFFF0), Ok([last, last]));
        assert_eq!(fcnt_candidates(Some(last), 0xFFFF), Ok([u32::MAX, u32::MAX]));
        assert_eq!(fcnt_candidates(Some(last), 0xFFEF), Err(FCntExhausted { last, wire: 0xFFEF }));
        assert_eq!(fcnt_candidates(Some(0xFFFE_FFFF), 0), Ok([0xFFFE_0000, 0xFFFF_0000]));
    }
}
