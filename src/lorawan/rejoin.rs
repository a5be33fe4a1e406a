//! Rejoin-requests: how an activated 1.1 device makes itself known again.
//!
//! Source: LoRaWAN 1.1 §6.2.4.

use crate::crypto::Aes;
use crate::frame::{MIC_LEN, MType, ParseError, Signed};
use crate::{DevEui, JoinEui, NetId};

/// What a rejoin-request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejoinRequest {
    /// Resets the context: hand-over roaming, or a lost session.
    Type0 {
        /// The network that serves the device.
        net_id: NetId,
        /// Who asks.
        dev_eui: DevEui,
        /// Counts types 0 and 2 since the last join.
        rj_count0: u16,
    },
    /// Restores a lost session through the join server; sent now and then.
    Type1 {
        /// The join server.
        join_eui: JoinEui,
        /// Who asks.
        dev_eui: DevEui,
        /// Counts type 1 over the life of the device.
        rj_count1: u16,
    },
    /// Changes keys, nothing else.
    Type2 {
        /// The network that serves the device.
        net_id: NetId,
        /// Who asks.
        dev_eui: DevEui,
        /// Counts types 0 and 2 since the last join.
        rj_count0: u16,
    },
}

impl RejoinRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Signed<'_, Self>, ParseError> {
        let length = ParseError::Length { mtype: MType::RejoinRequest, seen: bytes.len() };
        let (message, mic) = bytes.split_last_chunk::<MIC_LEN>().ok_or(length)?;
        let (_, kind, body) = match message {
            [mhdr, kind, body @ ..] => (mhdr, *kind, body),
            _ => return Err(length),
        };
        let fields = match kind {
            0 | 2 => Self::parse_network(kind, body),
            1 => Self::parse_join(body),
            seen => return Err(ParseError::RejoinType { seen }),
        };
        Ok(Signed::new(fields.ok_or(length)?, message, *mic))
    }

    fn parse_network(kind: u8, body: &[u8]) -> Option<Self> {
        let (net_id, body) = body.split_first_chunk()?;
        let (dev_eui, body) = body.split_first_chunk()?;
        let net_id = NetId::from_le_bytes(*net_id);
        let dev_eui = DevEui::from_le_bytes(*dev_eui);
        let rj_count0 = u16::from_le_bytes(body.try_into().ok()?);
        Some(match kind {
            0 => Self::Type0 { net_id, dev_eui, rj_count0 },
            _ => Self::Type2 { net_id, dev_eui, rj_count0 },
        })
    }

    fn parse_join(body: &[u8]) -> Option<Self> {
        let (join_eui, body) = body.split_first_chunk()?;
        let (dev_eui, body) = body.split_first_chunk()?;
        Some(Self::Type1 {
            join_eui: JoinEui::from_le_bytes(*join_eui),
            dev_eui: DevEui::from_le_bytes(*dev_eui),
            rj_count1: u16::from_le_bytes(body.try_into().ok()?),
        })
    }

    /// 0, 1 or 2, as the air carries it.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Type0 { .. } => 0,
            Self::Type1 { .. } => 1,
            Self::Type2 { .. } => 2,
        }
    }

    /// Who asks.
    pub const fn dev_eui(&self) -> DevEui {
        match self {
            Self::Type0 { dev_eui, .. }
            | Self::Type1 { dev_eui, .. }
            | Self::Type2 { dev_eui, .. } => *dev_eui,
        }
    }

    /// RJcount0 or RJcount1, whichever the type counts.
    pub const fn rj_count(&self) -> u16 {
        match self {
            Self::Type0 { rj_count0, .. } | Self::Type2 { rj_count0, .. } => *rj_count0,
            Self::Type1 { rj_count1, .. } => *rj_count1,
        }
    }

    /// The PHYPayload: 19 bytes for types 0 and 2, 24 for type 1.
    ///
    /// * `key`: SNwkSIntKey for types 0 and 2, JSIntKey for type 1.
    pub fn encode(&self, key: &Aes) -> Vec<u8> {
        let mut bytes = vec![MType::RejoinRequest.to_mhdr(), self.kind()];
        match self {
            Self::Type0 { net_id, .. } | Self::Type2 { net_id, .. } => {
                bytes.extend_from_slice(&net_id.to_le_bytes());
            }
            Self::Type1 { join_eui, .. } => bytes.extend_from_slice(&join_eui.to_le_bytes()),
        }
        bytes.extend_from_slice(&self.dev_eui().to_le_bytes());
        bytes.extend_from_slice(&self.rj_count().to_le_bytes());
        let mic = key.mic(&[&bytes]);
        bytes.extend_from_slice(&mic);
        bytes
    }
}
