//! Data frames: FHDR, FPort, FRMPayload, read as a view and written from plain values.
//!
//! Source: LoRaWAN 1.0.4 §4.3, 1.1 §4.3.

use crate::DevAddr;
use crate::crypto::{
    Aes, Direction, FCntKind, Mic, MicContext, apply_f_opts_cipher, apply_payload_cipher,
    downlink_mic_1_1, mic_1_0, mic_eq, uplink_mic_1_1,
};
use crate::frame::{EncodeError, MIC_LEN, MType, PHY_PAYLOAD_LEN_MAX, ParseError};

/// Longest FOpts: four bits of FCtrl say how long.
pub const F_OPTS_LEN_MAX: usize = 15;

const FHDR_FIXED_LEN: usize = 7;
const DATA_LEN_MIN: usize = 1 + FHDR_FIXED_LEN + MIC_LEN;

/// The flags of FCtrl. Those that have no meaning in a frame's direction are false when read and
/// not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FCtrl {
    /// The network may set (up), or sets (down), the data rate.
    pub adr: bool,
    /// Up: the device asks for any downlink.
    pub adr_ack_req: bool,
    /// Acknowledges the last confirmed frame of the other side.
    pub ack: bool,
    /// Up: the device has switched to class B.
    pub class_b: bool,
    /// Down: more waits for the device.
    pub f_pending: bool,
}

impl FCtrl {
    fn parse(byte: u8, direction: Direction) -> Self {
        let up = direction == Direction::Up;
        let bit4 = byte & 0x10 != 0;
        Self {
            adr: byte & 0x80 != 0,
            adr_ack_req: up && byte & 0x40 != 0,
            ack: byte & 0x20 != 0,
            class_b: up && bit4,
            f_pending: !up && bit4,
        }
    }

    fn to_byte(self, direction: Direction, f_opts_len: u8) -> u8 {
        let (adr_ack_req, bit4) = match direction {
            Direction::Up => (self.adr_ack_req, self.class_b),
            Direction::Down => (false, self.f_pending),
        };
        u8::from(self.adr) << 7
            | u8::from(adr_ack_req) << 6
            | u8::from(self.ack) << 5
            | u8::from(bit4) << 4
            | f_opts_len
    }
}

/// A data frame borrowed from its bytes: shape checked, nothing authenticated or deciphered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataFrame<'a> {
    /// Which way it travels.
    pub direction: Direction,
    /// Whether it asks for an acknowledgement.
    pub confirmed: bool,
    /// Whose session; not unique.
    pub dev_addr: DevAddr,
    /// Flags.
    pub fctrl: FCtrl,
    /// The low 16 bits of the frame counter.
    pub fcnt: u16,
    /// MAC commands as they travel: clear in 1.0.x, enciphered in 1.1. At most 15 bytes.
    pub f_opts: &'a [u8],
    /// The port, if there is one. 0 means that the payload is MAC commands.
    pub f_port: Option<u8>,
    /// The payload, enciphered. May be empty with or without a port.
    pub frm_payload: &'a [u8],
    message: &'a [u8],
    mic: Mic,
}

impl<'a> DataFrame<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mtype = MType::from_mhdr(bytes.first().copied().unwrap_or(0));
        let too_short = ParseError::Length { mtype, seen: bytes.len() };
        if bytes.len() < DATA_LEN_MIN {
            return Err(too_short);
        }
        let (message, mic) = bytes.split_last_chunk::<MIC_LEN>().ok_or(too_short)?;
        let (head, rest) =
            message.split_first_chunk::<{ 1 + FHDR_FIXED_LEN }>().ok_or(too_short)?;
        let [_, a, b, c, d, fctrl, fcnt_low, fcnt_high] = *head;
        let f_opts_len = usize::from(fctrl & 0x0F);
        let Some((f_opts, tail)) = rest.split_at_checked(f_opts_len) else {
            return Err(ParseError::FOptsLen { wanted: f_opts_len, left: rest.len() });
        };
        let (f_port, frm_payload) = match tail.split_first() {
            Some((port, payload)) => (Some(*port), payload),
            None => (None, tail),
        };
        if f_port == Some(0) && !f_opts.is_empty() {
            return Err(ParseError::FOptsWithPortZero);
        }
        let direction = match mtype {
            MType::UnconfirmedDataDown | MType::ConfirmedDataDown => Direction::Down,
            MType::JoinRequest
            | MType::JoinAccept
            | MType::UnconfirmedDataUp
            | MType::ConfirmedDataUp
            | MType::RejoinRequest
            | MType::Proprietary => Direction::Up,
        };
        Ok(Self {
            direction,
            confirmed: matches!(mtype, MType::ConfirmedDataUp | MType::ConfirmedDataDown),
            dev_addr: DevAddr::from_le_bytes([a, b, c, d]),
            fctrl: FCtrl::parse(fctrl, direction),
            fcnt: u16::from_le_bytes([fcnt_low, fcnt_high]),
            f_opts,
            f_port,
            frm_payload,
            message,
            mic: *mic,
        })
    }

    /// The MIC the frame carries.
    pub const fn mic(&self) -> Mic {
        self.mic
    }

    /// Everything the MIC covers: MHDR up to the MIC.
    pub const fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The message type.
    pub const fn mtype(&self) -> MType {
        data_mtype(self.direction, self.confirmed)
    }

    /// Whether a 1.0.x session with `nwk_s_key` sent this as its frame number `fcnt`.
    pub fn verify_1_0(&self, nwk_s_key: &Aes, fcnt: u32) -> bool {
        mic_eq(self.mic, mic_1_0(nwk_s_key, self.direction, self.dev_addr, fcnt, self.message))
    }

    /// Whether a 1.1 session with these keys sent this as its frame number `fcnt`.
    ///
    /// * `context.conf_fcnt` counts only if this frame's ACK bit is set.
    pub fn verify_1_1(
        &self,
        f_nwk_s_int_key: &Aes,
        s_nwk_s_int_key: &Aes,
        fcnt: u32,
        context: MicContext,
    ) -> bool {
        let keys = (f_nwk_s_int_key, s_nwk_s_int_key);
        let context = bound_context(context, self.fctrl);
        mic_eq(
            self.mic,
            data_mic_1_1(keys, self.direction, self.dev_addr, fcnt, context, self.message),
        )
    }

    /// The payload in the clear.
    ///
    /// * `key`: AppSKey; for FPort 0 NwkSKey (1.0.x) or NwkSEncKey (1.1).
    pub fn decrypt_payload(&self, key: &Aes, fcnt: u32) -> Vec<u8> {
        let mut payload = self.frm_payload.to_vec();
        apply_payload_cipher(key, self.direction, self.dev_addr, fcnt, &mut payload);
        payload
    }

    /// The FOpts of a 1.1 frame in the clear.
    pub fn decrypt_f_opts(&self, nwk_s_enc_key: &Aes, fcnt: u32) -> Vec<u8> {
        let mut f_opts = self.f_opts.to_vec();
        let kind = fcnt_kind(self.direction, self.f_port);
        apply_f_opts_cipher(nwk_s_enc_key, kind, self.direction, self.dev_addr, fcnt, &mut f_opts);
        f_opts
    }
}

/// A data frame to be sent, in the clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage<'a> {
    /// Which way it travels.
    pub direction: Direction,
    /// Whether it asks for an acknowledgement.
    pub confirmed: bool,
    /// Whose session.
    pub dev_addr: DevAddr,
    /// Flags.
    pub fctrl: FCtrl,
    /// The whole counter; its low 16 bits travel.
    pub fcnt: u32,
    /// MAC commands in the clear, at most 15 bytes.
    pub f_opts: &'a [u8],
    /// The port; needed with a payload.
    pub f_port: Option<u8>,
    /// The payload in the clear; MAC commands for port 0.
    pub payload: &'a [u8],
}

impl DataMessage<'_> {
    /// The PHYPayload for a 1.0.x session.
    ///
    /// * Errors: [`EncodeError`], when no such frame may be sent.
    pub fn encode_1_0(&self, nwk_s_key: &Aes, app_s_key: &Aes) -> Result<Vec<u8>, EncodeError> {
        let key = if self.f_port == Some(0) { nwk_s_key } else { app_s_key };
        let mut bytes = self.encode_unsigned(None, key)?;
        let mic = mic_1_0(nwk_s_key, self.direction, self.dev_addr, self.fcnt, &bytes);
        bytes.extend_from_slice(&mic);
        Ok(bytes)
    }

    /// The PHYPayload for a 1.1 session.
    ///
    /// * `context.conf_fcnt` counts only if the ACK bit is set.
    /// * Errors: [`EncodeError`], when no such frame may be sent.
    pub fn encode_1_1(
        &self,
        keys: &Ciphers1_1,
        context: MicContext,
    ) -> Result<Vec<u8>, EncodeError> {
        let key = if self.f_port == Some(0) { &keys.nwk_s_enc_key } else { &keys.app_s_key };
        let mut bytes = self.encode_unsigned(Some(&keys.nwk_s_enc_key), key)?;
        let mic = data_mic_1_1(
            (&keys.f_nwk_s_int_key, &keys.s_nwk_s_int_key),
            self.direction,
            self.dev_addr,
            self.fcnt,
            bound_context(context, self.fctrl),
            &bytes,
        );
        bytes.extend_from_slice(&mic);
        Ok(bytes)
    }

    /// Everything up to the MIC; FOpts are enciphered if there is a key for them.
    fn encode_unsigned(
        &self,
        f_opts_key: Option<&Aes>,
        payload_key: &Aes,
    ) -> Result<Vec<u8>, EncodeError> {
        let f_opts_len = match u8::try_from(self.f_opts.len()) {
            Ok(len) if self.f_opts.len() <= F_OPTS_LEN_MAX => len,
            _ => return Err(EncodeError::FOptsTooLong { seen: self.f_opts.len() }),
        };
        if self.f_port == Some(0) && f_opts_len > 0 {
            return Err(EncodeError::FOptsWithPortZero);
        }
        if self.f_port.is_none() && !self.payload.is_empty() {
            return Err(EncodeError::PayloadWithoutPort);
        }
        let wanted = DATA_LEN_MIN
            .saturating_add(self.f_opts.len())
            .saturating_add(usize::from(self.f_port.is_some()))
            .saturating_add(self.payload.len());
        if wanted > PHY_PAYLOAD_LEN_MAX {
            return Err(EncodeError::TooLong { wanted });
        }
        let mut bytes = Vec::with_capacity(wanted);
        bytes.push(data_mtype(self.direction, self.confirmed).to_mhdr());
        bytes.extend_from_slice(&self.dev_addr.to_le_bytes());
        bytes.push(self.fctrl.to_byte(self.direction, f_opts_len));
        bytes.extend_from_slice(&self.fcnt.to_le_bytes()[..2]);
        let mut f_opts = [0; F_OPTS_LEN_MAX];
        let f_opts = &mut f_opts[..self.f_opts.len()];
        f_opts.copy_from_slice(self.f_opts);
        if let Some(key) = f_opts_key {
            let kind = fcnt_kind(self.direction, self.f_port);
            apply_f_opts_cipher(key, kind, self.direction, self.dev_addr, self.fcnt, f_opts);
        }
        bytes.extend_from_slice(f_opts);
        bytes.extend(self.f_port);
        let payload_at = bytes.len();
        bytes.extend_from_slice(self.payload);
        let payload = &mut bytes[payload_at..];
        apply_payload_cipher(payload_key, self.direction, self.dev_addr, self.fcnt, payload);
        Ok(bytes)
    }
}

/// The four keys of a 1.1 session, made ready.
#[derive(Clone, Debug)]
pub struct Ciphers1_1 {
    /// FNwkSIntKey: half of the uplink MIC.
    pub f_nwk_s_int_key: Aes,
    /// SNwkSIntKey: the other half, and the downlink MIC.
    pub s_nwk_s_int_key: Aes,
    /// NwkSEncKey: the cipher of FOpts and FPort 0.
    pub nwk_s_enc_key: Aes,
    /// AppSKey: the cipher of every other port.
    pub app_s_key: Aes,
}

const fn data_mtype(direction: Direction, confirmed: bool) -> MType {
    match (direction, confirmed) {
        (Direction::Up, false) => MType::UnconfirmedDataUp,
        (Direction::Down, false) => MType::UnconfirmedDataDown,
        (Direction::Up, true) => MType::ConfirmedDataUp,
        (Direction::Down, true) => MType::ConfirmedDataDown,
    }
}

const fn fcnt_kind(direction: Direction, f_port: Option<u8>) -> FCntKind {
    match (direction, f_port) {
        (Direction::Down, Some(1..)) => FCntKind::Application,
        (Direction::Up | Direction::Down, _) => FCntKind::Network,
    }
}

const fn bound_context(context: MicContext, fctrl: FCtrl) -> MicContext {
    MicContext { conf_fcnt: if fctrl.ack { context.conf_fcnt } else { 0 }, ..context }
}

fn data_mic_1_1(
    (f_nwk_s_int_key, s_nwk_s_int_key): (&Aes, &Aes),
    direction: Direction,
    dev_addr: DevAddr,
    fcnt: u32,
    context: MicContext,
    message: &[u8],
) -> Mic {
    match direction {
        Direction::Up => {
            uplink_mic_1_1(f_nwk_s_int_key, s_nwk_s_int_key, dev_addr, fcnt, context, message)
        }
        Direction::Down => {
            downlink_mic_1_1(s_nwk_s_int_key, dev_addr, fcnt, context.conf_fcnt, message)
        }
    }
}
