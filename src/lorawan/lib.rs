//! LoRaWAN as bytes and numbers: identifiers, keys, the PHYPayload codec, MAC commands, crypto,
//! regional parameters, and the values [`Uplink`], [`Downlink`] and [`TxAck`] that stand between
//! gateway dialects and the network server. Knows no socket, clock, dice or state.

mod ids;
mod keys;
mod radio;

pub use ids::{DevAddr, DevEui, DevNonce, GatewayEui, JoinEui, JoinNonce, NetId, ParseIdError};
pub use keys::Key;
pub use radio::{
    CodeRate, CrcStatus, Downlink, DownlinkTiming, Modulation, TxAck, TxStatus, Uplink,
};
