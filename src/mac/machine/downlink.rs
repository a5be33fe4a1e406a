//! When and how a device listens, and what an answer says. Pure.
//!
//! Source: LoRaWAN 1.0.4 §3.3 (windows), §5.1 and §5.9 (LinkCheckAns, DeviceTimeAns), §6.2.6
//! (join).

use bytes::Bytes;
use clock::{Duration, GpsTime};
use lorawan::{
    DataMessage, DevAddr, Direction, DownlinkMacCommand, EncodeError, FCtrl, JOIN_ACCEPT_DELAY1,
    MacCommand as _, MicContext, Modulation, RX2_AFTER_RX1, Region, UplinkMacCommand,
    apply_payload_cipher,
};
use sabotage::Bug;

use super::flow::Heard;
use crate::{DeviceSession, HandedOut, SessionKeys};

/// MHDR and MIC: bytes of a PHYPayload that are not MACPayload.
const AROUND_MAC_PAYLOAD: usize = 5;

/// One receive window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// 1 or 2.
    pub(super) number: u8,
    /// From the end of the uplink.
    pub(super) delay: Duration,
    pub(super) frequency_hz: u32,
    pub(super) modulation: Modulation,
    pub(super) eirp_dbm: i8,
    /// Longest MACPayload (M) in bytes.
    pub(super) mac_payload_max: u8,
    /// Longest FRMPayload with FOpts (N) in bytes.
    pub(super) payload_max: u8,
}

impl Window {
    fn new(
        region: &Region,
        number: u8,
        delay: Duration,
        (frequency_hz, dr): (u32, u8),
    ) -> Option<Self> {
        let max = region.max_payload(dr, false)?;
        let mut eirp_dbm = region.downlink_eirp_dbm(frequency_hz);
        if sabotage::planted(Bug::TooLoud) {
            eirp_dbm = eirp_dbm.max(20);
        }
        Some(Self {
            number,
            delay,
            frequency_hz,
            modulation: region.modulation(dr)?,
            eirp_dbm,
            mac_payload_max: max.mac_payload,
            payload_max: max.frm_payload,
        })
    }

    /// Whether a frame of this length may be sent in it.
    pub(super) fn carries(&self, frame: &[u8]) -> bool {
        frame.len() <= usize::from(self.mac_payload_max) + AROUND_MAC_PAYLOAD
    }
}

/// The windows after a data uplink, RX1 first; one that the region does not have is left out.
pub(super) fn data_windows(
    region: &Region,
    session: &DeviceSession,
    uplink_hz: u32,
    uplink_dr: u8,
) -> Vec<Window> {
    let delay = Duration::from_secs(session.rx1_delay_s.max(1).into());
    let rx1 = region
        .rx1_frequency(uplink_hz)
        .zip(region.rx1_dr(uplink_dr, session.rx1_dr_offset, false))
        .and_then(|at| Window::new(region, 1, delay, at));
    let at = (session.rx2_frequency_hz, session.rx2_dr);
    let rx2 = Window::new(region, 2, delay + RX2_AFTER_RX1, at);
    rx1.into_iter().chain(rx2).collect()
}

/// The windows after a join-request: always the region's own.
pub(super) fn join_windows(region: &Region, uplink_hz: u32, uplink_dr: u8) -> Vec<Window> {
    let rx1 = region
        .rx1_frequency(uplink_hz)
        .zip(region.rx1_dr(uplink_dr, 0, false))
        .and_then(|at| Window::new(region, 1, JOIN_ACCEPT_DELAY1, at));
    let at = (region.rx2_frequency_hz, region.rx2_dr);
    let rx2 = Window::new(region, 2, JOIN_ACCEPT_DELAY1 + RX2_AFTER_RX1, at);
    rx1.into_iter().chain(rx2).collect()
}

/// What the uplink's MAC commands call for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// Commands to put into the answer, in the order they were asked for.
    pub(super) bytes: Vec<u8>,
    /// An answer is due even without commands: the device repeats its own until it hears one.
    pub(super) sticky: bool,
}

/// Answers the questions in an uplink's MAC commands, each kind once.
///
/// * `end_of_uplink`: on the GPS scale.
pub(super) fn answers(
    mac_commands: &[u8],
    heard: &[Heard],
    modulation: Modulation,
    end_of_uplink: GpsTime,
) -> Answers {
    let mut answers = Answers::default();
    let mut commands = Vec::new();
    for command in UplinkMacCommand::walk(mac_commands).map_while(Result::ok) {
        let answer = if command == UplinkMacCommand::LinkCheckReq {
            link_check(heard, modulation)
        } else if command == UplinkMacCommand::DeviceTimeReq {
            device_time(end_of_uplink)
        } else {
            answers.sticky |= is_sticky(command);
            continue;
        };
        if !commands.contains(&answer) {
            commands.push(answer);
        }
    }
    answers.bytes = DownlinkMacCommand::encode_all(&commands);
    answers
}

const fn is_sticky(command: UplinkMacCommand) -> bool {
    matches!(
        command,
        UplinkMacCommand::RxParamSetupAns { .. }
            | UplinkMacCommand::RxTimingSetupAns
            | UplinkMacCommand::DlChannelAns { .. }
    )
}

fn link_check(heard: &[Heard], modulation: Modulation) -> DownlinkMacCommand {
    let best_ddb = heard.iter().map(|heard| heard.reception.snr_ddb).max().unwrap_or(0);
    let margin_db = (i32::from(best_ddb) - required_snr_ddb(modulation)) / 10;
    let gateways = gateway_count(heard);
    DownlinkMacCommand::LinkCheckAns {
        // 255 is reserved (LoRaWAN 1.0.4 §5.2).
        margin_db: u8::try_from(margin_db.clamp(0, 254)).unwrap_or(0),
        gateway_count: u8::try_from(gateways).unwrap_or(u8::MAX),
    }
}

/// How many different gateways heard it.
pub(super) fn gateway_count(heard: &[Heard]) -> usize {
    let mut gateways: Vec<_> = heard.iter().map(|heard| heard.reception.gateway).collect();
    gateways.sort_unstable();
    gateways.dedup();
    gateways.len()
}

/// The SNR a receiver needs, in tenths of a decibel: facts (f).
pub(super) fn required_snr_ddb(modulation: Modulation) -> i32 {
    match modulation {
        Modulation::Lora { spreading_factor, .. } => 100 - 25 * i32::from(spreading_factor),
        Modulation::Fsk { .. } | Modulation::LrFhss { .. } => 0,
    }
}

fn device_time(at: GpsTime) -> DownlinkMacCommand {
    let micros = at.as_micros();
    DownlinkMacCommand::DeviceTimeAns {
        gps_seconds: u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX),
        fraction: u8::try_from(micros % 1_000_000 * 256 / 1_000_000).unwrap_or(u8::MAX),
    }
}

/// What one data downlink says.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Answers, then requests; at most 15 bytes.
    pub(super) mac_commands: Vec<u8>,
    pub(super) item: Option<HandedOut>,
    pub(super) f_pending: bool,
    /// Acknowledges the uplink.
    pub(super) ack: bool,
}

/// Why a data downlink cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BuildError {
    /// The item is in the clear and the AppSKey is not here.
    #[error("the AppSKey is not here")]
    NoAppKey,
    /// The application encrypted the item for another number.
    #[error("encrypted for another number")]
    WrongNumber,
    /// No such frame exists.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The PHYPayload under number `f_cnt_down`.
pub(super) fn build(
    keys: &SessionKeys,
    session: &DeviceSession,
    f_cnt_down: u32,
    content: &Content,
) -> Result<Bytes, BuildError> {
    let item = content.item.as_ref();
    let payload = match item {
        Some(item) => payload_of(item, keys, session.dev_addr, f_cnt_down)?,
        None => Vec::new(),
    };
    let message = DataMessage {
        direction: Direction::Down,
        confirmed: item.is_some_and(|item| item.confirmed),
        dev_addr: session.dev_addr,
        // The network runs the data rate of every device that lets it: the bit is always set.
        fctrl: FCtrl {
            adr: true,
            ack: content.ack,
            f_pending: content.f_pending,
            ..FCtrl::default()
        },
        fcnt: f_cnt_down,
        f_opts: &content.mac_commands,
        f_port: item.map(|item| item.f_port),
        payload: &payload,
    };
    let ciphers = keys.ciphers(session.mac_version);
    Ok(ciphers.seal(&message, MicContext::default())?.into())
}

/// The payload as the encoder wants it: in the clear. What the application encrypted itself is
/// enciphered once more here, so that the encoder's pass gives it back.
fn payload_of(
    item: &HandedOut,
    keys: &SessionKeys,
    dev_addr: DevAddr,
    f_cnt_down: u32,
) -> Result<Vec<u8>, BuildError> {
    let mut payload = item.data.to_vec();
    match (item.encrypted_f_cnt, &keys.app_s) {
        (Some(wanted), _) if wanted != f_cnt_down => Err(BuildError::WrongNumber),
        (Some(_), _) => {
            let key = (&keys.app_s_or_blank()).into();
            apply_payload_cipher(&key, Direction::Down, dev_addr, f_cnt_down, &mut payload);
            Ok(payload)
        }
        (None, Some(_)) => Ok(payload),
        (None, None) => Err(BuildError::NoAppKey),
    }
}
