//! MQTT 3.1.1 and 5.0 without a socket: packets, topics, sessions, connections.

mod acl;
mod arena;
mod client;
mod connection;
mod connection_event;
mod decoder;
mod error;
mod index;
mod packet;
mod reason;
mod session;
mod topic;
mod wire_fault;
mod wire_in;
mod wire_out;
mod wire_properties;

pub use acl::{Coverage, coverage, covers};
pub use client::{Client, ClientClosed, ClientConfig, ClientError, ClientEvent};
pub use connection::Connection;
pub use connection_event::*;
pub use decoder::{Decoder, MAX_CONNECT_BYTES, MAX_CONTROL_BYTES, MAX_PROPERTY_BYTES};
pub use error::{EncodeError, PacketError, SessionError};
pub use index::{LOOKUP_BUDGET, Lookup, TopicIndex};
pub use packet::*;
pub use reason::ReasonCode;
pub use session::*;
pub use topic::*;
pub use wire_out::encode;

#[cfg(test)]
mod client_test;
#[cfg(test)]
mod codec_test;
#[cfg(test)]
mod connection_test;
#[cfg(test)]
mod hostile_test;
#[cfg(test)]
mod session_test;
#[cfg(test)]
mod strategies;
