//! The queue of frames a concentrator will send "just in time": what it takes and what it refuses.
//!
//! The limits are those of lora_pkt_fwd 4.0.1 as measured; all of its arithmetic is on the 32-bit
//! counter, so the past is the far future: a late frame is reported TOO_EARLY.

use lorawan::TxStatus;

use crate::air::OnAir;

/// Entries the queue holds.
pub(crate) const QUEUE_LEN_MAX: usize = 32;
/// A frame must come earlier than this before its moment: radio start, margin and look-ahead.
const LEAD_MIN_US: u32 = 1_500 + MARGIN_US + 30_000;
/// And no earlier than this: four beacon periods.
const LEAD_MAX_US: u32 = 512_000_000;
/// Time kept free before a frame: radio start and look-ahead.
const BEFORE_US: u32 = 1_500 + 30_000;
/// Time kept free between two frames.
const MARGIN_US: u32 = 1_000;
/// An immediate frame leaves this much later.
const IMMEDIATE_US: u32 = 1_000_000;

/// One frame waiting for its moment.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// The counter's value at which it begins.
    pub(crate) tmst: u32,
    airtime_us: u32,
    pub(crate) frame: OnAir,
}

/// The queue, in no particular order: it is short.
#[derive(Clone, Debug, Default)]
pub(crate) struct JitQueue {
    entries: Vec<Queued>,
}

impl JitQueue {
    /// Takes a frame for the moment `tmst`, or as soon as it can without one.
    ///
    /// * `counter`: the concentrator's counter now.
    /// * Returns when it will begin.
    /// * Errors: the status the forwarder reports.
    pub(crate) fn enqueue(
        &mut self,
        counter: u32,
        tmst: Option<u32>,
        frame: OnAir,
    ) -> Result<u32, TxStatus> {
        if self.entries.len() >= QUEUE_LEN_MAX {
            // The reference forwarder reports a full queue as a collision.
            return Err(TxStatus::CollisionPacket);
        }
        let airtime_us = u32::try_from(frame.airtime.as_micros()).unwrap_or(u32::MAX);
        let tmst = match tmst {
            Some(tmst) => {
                let lead = tmst.wrapping_sub(counter);
                if lead <= LEAD_MIN_US {
                    return Err(TxStatus::TooLate);
                }
                if lead > LEAD_MAX_US {
                    return Err(TxStatus::TooEarly);
                }
                if self.collides(tmst, airtime_us) {
                    return Err(TxStatus::CollisionPacket);
                }
                tmst
            }
            None => self.first_gap(counter, airtime_us)?,
        };
        self.entries.push(Queued { tmst, airtime_us, frame });
        Ok(tmst)
    }

    /// Takes out the first frame whose moment has come, if any.
    pub(crate) fn due(&mut self, counter: u32) -> Option<Queued> {
        let late = |entry: &Queued| counter.wrapping_sub(entry.tmst);
        let (position, _) = (0..)
            .zip(&self.entries)
            // At or behind its moment, as far as a wrapping counter can tell.
            .filter(|(_, entry)| late(entry) <= u32::MAX / 2)
            .max_by_key(|(_, entry)| late(entry))?;
        Some(self.entries.swap_remove(position))
    }

    /// Microseconds until the next frame's moment.
    pub(crate) fn next_in_us(&self, counter: u32) -> Option<u32> {
        let ahead = |entry: &Queued| {
            let ahead = entry.tmst.wrapping_sub(counter);
            if ahead > u32::MAX / 2 { 0 } else { ahead }
        };
        self.entries.iter().map(ahead).min()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    fn collides(&self, tmst: u32, airtime_us: u32) -> bool {
        self.entries.iter().any(|entry| {
            tmst.wrapping_sub(entry.tmst) <= BEFORE_US + entry.airtime_us + MARGIN_US
                || entry.tmst.wrapping_sub(tmst) <= BEFORE_US + airtime_us + MARGIN_US
        })
    }

    /// The first moment at which a frame without one fits: one second on, or after another frame.
    fn first_gap(&self, counter: u32, airtime_us: u32) -> Result<u32, TxStatus> {
        let soon = counter.wrapping_add(IMMEDIATE_US);
        let after_others = self.entries.iter().map(|entry| {
            let gap = entry.airtime_us + BEFORE_US + MARGIN_US + 1;
            entry.tmst.wrapping_add(gap)
        });
        [soon]
            .into_iter()
            .chain(after_others)
            .filter(|tmst| tmst.wrapping_sub(soon) <= LEAD_MAX_US)
            .filter(|tmst| !self.collides(*tmst, airtime_us))
            .min_by_key(|tmst| tmst.wrapping_sub(soon))
            .ok_or(TxStatus::CollisionPacket)
    }
}
