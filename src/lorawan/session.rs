//! The keys of one session, and the frames they open and close, whichever version it speaks.

use crate::crypto::{Aes, MicContext};
use crate::data::{Ciphers1_1, DataFrame, DataMessage};
use crate::frame::EncodeError;
use crate::keys::Key;

/// The keys of one session; the variant says which version's formulas it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKeys {
    /// LoRaWAN 1.0.x, or a 1.1 device on a network that does not negotiate.
    V1_0 {
        /// MIC, and the cipher of FPort 0.
        nwk_s_key: Key,
        /// The cipher of every other port.
        app_s_key: Key,
    },
    /// LoRaWAN 1.1.
    V1_1 {
        /// Half of the uplink MIC: the forwarding network's.
        f_nwk_s_int_key: Key,
        /// The other half, and the downlink MIC: the serving network's.
        s_nwk_s_int_key: Key,
        /// The cipher of FOpts and FPort 0.
        nwk_s_enc_key: Key,
        /// The cipher of every other port.
        app_s_key: Key,
    },
}

/// [`SessionKeys`] made ready for use: keep it where one session speaks often (360 to 720 bytes).
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "the common version stays off the heap")]
pub enum SessionCiphers {
    /// LoRaWAN 1.0.x.
    V1_0 {
        /// MIC, and the cipher of FPort 0.
        nwk_s_key: Aes,
        /// The cipher of every other port.
        app_s_key: Aes,
    },
    /// LoRaWAN 1.1.
    V1_1(Box<Ciphers1_1>),
}

/// What a data frame says once deciphered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedData {
    /// MAC commands of FOpts in the clear.
    pub f_opts: Vec<u8>,
    /// The payload in the clear; MAC commands if the port is 0.
    pub payload: Vec<u8>,
}

impl SessionCiphers {
    /// Expands every key once.
    pub fn new(keys: &SessionKeys) -> Self {
        match keys {
            SessionKeys::V1_0 { nwk_s_key, app_s_key } => {
                Self::V1_0 { nwk_s_key: Aes::new(nwk_s_key), app_s_key: Aes::new(app_s_key) }
            }
            SessionKeys::V1_1 { f_nwk_s_int_key, s_nwk_s_int_key, nwk_s_enc_key, app_s_key } => {
                Self::V1_1(Box::new(Ciphers1_1 {
                    f_nwk_s_int_key: Aes::new(f_nwk_s_int_key),
                    s_nwk_s_int_key: Aes::new(s_nwk_s_int_key),
                    nwk_s_enc_key: Aes::new(nwk_s_enc_key),
                    app_s_key: Aes::new(app_s_key),
                }))
            }
        }
    }

    /// Whether this session sent `frame` as its frame number `fcnt`.
    ///
    /// * `context`: what a 1.1 MIC binds besides; ignored for 1.0.x.
    pub fn verify(&self, frame: &DataFrame<'_>, fcnt: u32, context: MicContext) -> bool {
        match self {
            Self::V1_0 { nwk_s_key, .. } => frame.verify_1_0(nwk_s_key, fcnt),
            Self::V1_1(keys) => {
                frame.verify_1_1(&keys.f_nwk_s_int_key, &keys.s_nwk_s_int_key, fcnt, context)
            }
        }
    }

    /// Deciphers `frame`, which [`Self::verify`] has found to be number `fcnt` of this session.
    pub fn open(&self, frame: &DataFrame<'_>, fcnt: u32) -> OpenedData {
        match self {
            Self::V1_0 { nwk_s_key, app_s_key } => {
                let key = if frame.f_port == Some(0) { nwk_s_key } else { app_s_key };
                OpenedData {
                    f_opts: frame.f_opts.to_vec(),
                    payload: frame.decrypt_payload(key, fcnt),
                }
            }
            Self::V1_1(keys) => {
                let network = &keys.nwk_s_enc_key;
                let key = if frame.f_port == Some(0) { network } else { &keys.app_s_key };
                OpenedData {
                    f_opts: frame.decrypt_f_opts(network, fcnt),
                    payload: frame.decrypt_payload(key, fcnt),
                }
            }
        }
    }

    /// The PHYPayload of `message`.
    ///
    /// * Errors: [`EncodeError`], when no such frame may be sent.
    pub fn seal(
        &self,
        message: &DataMessage<'_>,
        context: MicContext,
    ) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::V1_0 { nwk_s_key, app_s_key } => message.encode_1_0(nwk_s_key, app_s_key),
            Self::V1_1(keys) => message.encode_1_1(keys, context),
        }
    }
}
