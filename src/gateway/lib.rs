//! Gateway dialects to and from [`lorawan::Uplink`], [`lorawan::Downlink`] and [`lorawan::TxAck`].
//!
//! One module per dialect. [`semtech`] is the UDP protocol of the packet forwarders; a dialect that
//! comes later (a WebSocket one, an MQTT one) stands beside it and hands out the same values.
//! Nothing here knows a socket or a clock: datagrams and instants are arguments.

pub mod semtech;

mod semtech_flight;
mod semtech_head;
mod semtech_push;
mod semtech_radio;
mod semtech_rxpk;
mod semtech_seen;
mod semtech_server;
mod semtech_stat;
mod semtech_txack;
mod semtech_txpk;

#[cfg(test)]
mod semtech_codec_tests;
#[cfg(test)]
mod semtech_server_tests;
