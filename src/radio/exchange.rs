//! One exchange: a frame's transmissions and the two windows after each.
//!
//! Source: LoRaWAN 1.0.4 §3.3 (windows); RETRANSMIT_TIMEOUT: RP002-1.0.4 §3.1.

use clock::{Duration, Instant};
use lorawan::{DevNonce, FCtrl};

use crate::air::{OnAir, Signal};
use crate::plan::Tuning;
use crate::verdict::Missed;

/// How far from a window's moment a frame may begin and still be caught: clock error and the time a
/// receiver looks for a preamble.
pub const WINDOW_TOLERANCE: Duration = Duration::from_millis(20);

/// How long after the second window's moment the exchange stays open. A simulation is never late; a
/// demonstration in real time may learn of a frame a little after it began.
const GIVE_UP: Duration = Duration::from_millis(100);

/// A data frame as it was first built; a retransmission is the same frame.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) confirmed: bool,
    pub(crate) fctrl: FCtrl,
    pub(crate) fcnt: u32,
    pub(crate) f_opts: Vec<u8>,
    pub(crate) f_port: Option<u8>,
    pub(crate) payload: Vec<u8>,
    /// What a 1.1 MIC would bind.
    pub(crate) conf_fcnt: u16,
}

/// What the exchange is about.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    Join { dev_nonce: DevNonce },
    Data(Message),
}

/// One receive window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) opens: Instant,
    pub(crate) tuning: Tuning,
}

impl Window {
    fn is_open(&self, at: Instant) -> bool {
        at + WINDOW_TOLERANCE >= self.opens && at <= self.opens + WINDOW_TOLERANCE
    }
}

/// A frame that has begun in a window.
#[derive(Clone, Debug)]
pub(crate) struct Reception {
    pub(crate) frame: OnAir,
    pub(crate) signal: Signal,
}

/// Where an exchange stands.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Sent, or still sending: the windows follow.
    Listening { windows: [Option<Window>; 2], reception: Option<Reception> },
    /// Waiting to send again.
    Pausing { until: Instant },
}

/// One exchange.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) errand: Errand,
    pub(crate) phase: Phase,
    /// Transmissions so far.
    pub(crate) attempts: u8,
    /// Transmissions at most.
    pub(crate) attempts_max: u8,
    /// When the latest transmission ends.
    pub(crate) sent_at: Instant,
    /// The network has acknowledged it.
    pub(crate) acked: bool,
    /// Any of its transmissions has brought a downlink.
    pub(crate) heard: bool,
}

impl Exchange {
    /// When something is due, and what.
    pub(crate) fn due(&self) -> (Instant, &'static str) {
        match &self.phase {
            Phase::Listening { reception: Some(reception), .. } => {
                (reception.frame.ends_at(), "reception")
            }
            Phase::Listening { windows, reception: None } => (self.closes(windows), "windows"),
            Phase::Pausing { until } => (*until, "retransmission"),
        }
    }

    /// When its windows open; `None` between two transmissions.
    pub(crate) fn windows_open_at(&self) -> [Option<Instant>; 2] {
        match &self.phase {
            Phase::Listening { windows, .. } => windows.map(|one| one.map(|window| window.opens)),
            Phase::Pausing { .. } => [None; 2],
        }
    }

    fn closes(&self, windows: &[Option<Window>; 2]) -> Instant {
        let last = windows.iter().flatten().map(|window| window.opens).max();
        last.unwrap_or(self.sent_at) + GIVE_UP
    }

    /// Takes a frame, if a window is open when it begins.
    pub(crate) fn begin_reception(&mut self, frame: &OnAir, signal: Signal) -> Result<(), Missed> {
        let Phase::Listening { windows, reception } = &mut self.phase else {
            return Err(Missed::NotListening);
        };
        let open = windows.iter().flatten().find(|window| window.is_open(frame.starts_at));
        let Some(Window { tuning, .. }) = open else { return Err(Missed::NotListening) };
        if reception.is_some() {
            return Err(Missed::Busy);
        }
        if !frame.inverted_polarity {
            return Err(Missed::Polarity);
        }
        if frame.frequency_hz != tuning.frequency_hz {
            return Err(Missed::Frequency { listening_hz: tuning.frequency_hz });
        }
        if frame.modulation != tuning.modulation {
            return Err(Missed::Modulation);
        }
        *reception = Some(Reception { frame: frame.clone(), signal });
        Ok(())
    }
}
