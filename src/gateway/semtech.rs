//! The UDP protocol of Semtech's packet forwarder, versions 1 and 2 (PROTOCOL.TXT of
//! packet_forwarder 4.0.1), in both directions.
//!
//! * Codec: [`parse_upward`] reads what a forwarder sends ([`PushData`], PULL_DATA, [`TxReply`]),
//!   [`encode_ack`] and [`Txpk::encode`] write what a server answers. A forwarder's own side is
//!   here too ([`PushData::encode`], [`encode_pull_data`], [`TxReply::encode`],
//!   [`parse_downward`]): the `radio` crate and the tests speak it.
//! * Machine: [`Server`] is one UDP listener without its socket: it acknowledges, remembers where
//!   each gateway's PULL_DATA came from, numbers downlinks and says what became of each.
//!
//! Whatever is refused is a variant of [`DatagramError`], [`RxpkError`] or [`Refusal`], and each
//! variant's `reason()` is one label of one metric.

pub use crate::semtech_flight::{ACK_TIMEOUT, IN_FLIGHT_MAX, IN_FLIGHT_PER_GATEWAY_MAX};
pub use crate::semtech_head::{
    AckKind, DATAGRAM_LEN_MAX, DatagramError, Downward, Head, Upward, Version, encode_ack,
    encode_pull_data, parse_downward, parse_upward,
};
pub use crate::semtech_push::{PushData, RXPK_MAX};
pub use crate::semtech_radio::PHY_PAYLOAD_LEN_MAX;
pub use crate::semtech_rxpk::{Rxpk, RxpkError};
pub use crate::semtech_seen::{Path, SeenGateway};
pub use crate::semtech_server::{
    GatewaySettings, Output, PATH_AGE_MAX, REGISTERED_MAX, Refusal, SendError, Server, Tally,
    UNREGISTERED_MAX,
};
pub use crate::semtech_stat::Stat;
pub use crate::semtech_txack::TxReply;
pub use crate::semtech_txpk::{TxTiming, Txpk, TxpkError};
