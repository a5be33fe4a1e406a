//! What a device keeps of one activation.

use lorawan::{DevAddr, MacCommand as _, SessionCiphers, SessionKeys, UplinkMacCommand};

/// FOpts hold this many bytes.
const F_OPTS_LEN_MAX: usize = 15;
/// Uplinks without a downlink before a device asks for one. Source: RP002-1.0.4 §3.1.
const ADR_ACK_LIMIT: u32 = 64;
/// Uplinks it then waits before each step back to safer settings.
const ADR_ACK_DELAY: u32 = 32;

/// One activation.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) dev_addr: DevAddr,
    pub(crate) keys: SessionKeys,
    pub(crate) ciphers: SessionCiphers,
    /// The number of the next uplink; `None` once they have run out.
    pub(crate) next_fcnt_up: Option<u32>,
    /// The highest downlink number accepted. (1.1 will keep one for each of its two counters.)
    pub(crate) last_fcnt_down: Option<u32>,
    /// The low half of the number of a confirmed downlink that the next uplink acknowledges.
    pub(crate) ack_due: Option<u16>,
    pub(crate) rx1_dr_offset: u8,
    pub(crate) rx2_dr: u8,
    pub(crate) rx2_hz: u32,
    /// Seconds, 1 to 15.
    pub(crate) rx_delay: u8,
    pub(crate) data_rate: u8,
    pub(crate) tx_power: u8,
    /// 1 to 15.
    pub(crate) nb_trans: u8,
    /// The network's limit: at most 1 / 2^n of the time.
    pub(crate) max_duty_cycle: u8,
    /// Uplinks since the last downlink.
    pub(crate) adr_ack_cnt: u32,
    /// Said once.
    pub(crate) answers: Vec<UplinkMacCommand>,
    /// Said again and again until a downlink shows that they were heard.
    pub(crate) sticky: Vec<UplinkMacCommand>,
}

/// What a session starts with.
pub(crate) struct SessionStart {
    pub(crate) dev_addr: DevAddr,
    pub(crate) keys: SessionKeys,
    pub(crate) first_fcnt: u32,
    pub(crate) rx1_dr_offset: u8,
    pub(crate) rx2_dr: u8,
    pub(crate) rx2_hz: u32,
    pub(crate) rx_delay: u8,
    pub(crate) data_rate: u8,
}

/// A step back that a device takes when nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackOff {
    /// All is well.
    None,
    /// Safer settings: more power, else a lower data rate, else every channel.
    Step,
}

impl Session {
    pub(crate) fn new(start: SessionStart) -> Self {
        Self {
            dev_addr: start.dev_addr,
            ciphers: SessionCiphers::new(&start.keys),
            keys: start.keys,
            next_fcnt_up: Some(start.first_fcnt),
            last_fcnt_down: None,
            ack_due: None,
            rx1_dr_offset: start.rx1_dr_offset,
            rx2_dr: start.rx2_dr,
            rx2_hz: start.rx2_hz,
            rx_delay: start.rx_delay.max(1),
            data_rate: start.data_rate,
            tx_power: 0,
            nb_trans: 1,
            max_duty_cycle: 0,
            adr_ack_cnt: 0,
            answers: Vec::new(),
            sticky: Vec::new(),
        }
    }

    /// The FOpts of the next uplink: sticky answers first, then as many others as fit.
    ///
    /// * `requests`: what the application asks of the MAC layer.
    pub(crate) fn f_opts(&self, requests: &[UplinkMacCommand]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in self.sticky.iter().chain(&self.answers).chain(requests) {
            if bytes.len() + command.encoded_len() > F_OPTS_LEN_MAX {
                break;
            }
            command.encode(&mut bytes);
        }
        bytes
    }

    /// Whether the next uplink must ask for any downlink.
    pub(crate) fn adr_ack_req(&self) -> bool {
        self.adr_ack_cnt >= ADR_ACK_LIMIT
    }

    /// Notes that a new uplink goes out; says whether it is time to step back.
    pub(crate) fn count_uplink(&mut self) -> BackOff {
        self.adr_ack_cnt = self.adr_ack_cnt.saturating_add(1);
        let beyond = self.adr_ack_cnt.saturating_sub(ADR_ACK_LIMIT);
        if beyond > 0 && beyond.is_multiple_of(ADR_ACK_DELAY) {
            BackOff::Step
        } else {
            BackOff::None
        }
    }
}
