//! MQTT 3.1.1 and 5.0 without a socket, a clock or a broker: everything of the protocol that can
//! be decided by one connection and one client's session alone.
//!
//! | question | answered by |
//! |---|---|
//! | what do these bytes say, and how is it written? | [`Decoder`], [`encode`], [`Packet`] |
//! | is this a topic, and who wants it? | [`TopicName`], [`TopicFilter`], [`TopicIndex`] |
//! | may this account see it? | [`covers`], [`coverage`] |
//! | what may this connection do, and for how long? | [`Connection`] |
//! | what does the client still have to get? | [`Session`] |
//! | and from the other end of the wire? | [`Client`] |
//!
//! Parsing and writing of packets is a library's; only the three `wire_*` files know it, and what
//! it lets pass they refuse. Accounts, routes, retained messages, wills and the storage of sessions
//! are the broker's, which stands on this crate.
//!
//! # A connection and its session
//!
//! Bytes go into a [`Connection`] and events come out; packets go in and bytes come out. After
//! every call drain `poll_event` and `poll_transmit`, and arm `poll_timeout`. The broker answers
//! CONNECT by `accept` or `refuse`; what the client sent meanwhile waits. A [`Session`] says which
//! message goes out under which packet id; it knows messages by name only, and its
//! [`SessionState`] is what is stored and moved.
//!
//! ```
//! use bytes::BytesMut;
//! use clock::{Duration, Instant};
//! use mqtt::*;
//!
//! let now = Instant::from_secs(1);
//! let mut connection = Connection::new(now, ConnectionConfig::default());
//! let mut session: Session<u64> = Session::new(SessionLimits::default());
//!
//! // A client of this crate stands for the peer.
//! let mut client = Client::new(now, ClientConfig::new(Version::V5, "c1").account("app-7", "pw"));
//! connection.handle_bytes(now, &client.poll_transmit().unwrap());
//!
//! let Some(Event::Connect(connect)) = connection.poll_event() else { panic!() };
//! assert_eq!(connect.username.as_deref(), Some("app-7"));
//! connection.accept(now, Accept::default()).unwrap();
//! session.connected(connection.receive_maximum());
//!
//! // Event 42 was decided, and the client has subscribed to it with QoS 1.
//! assert_eq!(session.enqueue(42, Qos::AtLeastOnce), None);
//! while connection.is_writable()
//!     && let Some(outgoing) = session.poll_outgoing()
//! {
//!     let packet = match outgoing {
//!         Outgoing::Publish { message, delivery } => {
//!             let topic = "application/7/device/1/event/up".parse().unwrap();
//!             Packet::Publish(Publish { delivery, ..Publish::new(topic, message.to_string()) })
//!         }
//!         Outgoing::Pubrel(ack) => Packet::Pubrel(ack),
//!     };
//!     connection.send(now, packet).unwrap();
//! }
//! client.handle_bytes(now, &connection.poll_transmit().unwrap());
//! connection.handle_bytes(now, &client.poll_transmit().unwrap());
//!
//! let Some(Event::Puback(ack)) = connection.poll_event() else { panic!() };
//! assert_eq!(session.handle_puback(ack.packet_id), Ok(42));
//! let silent = now + Duration::from_secs(90);
//! assert_eq!(connection.poll_timeout(), Some((silent, "keep_alive")));
//! ```
//!
//! # What a session promises
//!
//! QoS 1 is not lost and QoS 2 not doubled while the session's state is kept, over any number of
//! connections. The caller keeps the order: a message of the client is safe before its PUBACK or
//! PUBREC is sent, and the state that remembers a QoS 2 packet id is kept together with the
//! message. Nothing is sent twice on one connection (there is no retry timer, as MQTT 5.0 §4.4
//! demands); after a reconnect what is under way goes out again, in order, with DUP.
//!
//! # Limits
//!
//! All have names: [`MAX_CONNECT_BYTES`], [`MAX_CONTROL_BYTES`], [`MAX_PROPERTY_BYTES`],
//! [`MAX_TOPIC_BYTES`], [`MAX_NAME_LEVELS`], [`MAX_FILTER_LEVELS`], [`MAX_WILDCARDS`],
//! [`LOOKUP_BUDGET`], [`ConnectionConfig`], [`SessionLimits`]. What crosses one is counted under
//! [`CloseCause::name`], [`PacketError::name`] or [`TopicError::name`].
//!
//! Not served: topic aliases (0 are offered), enhanced authentication (refused with 0x8C), MQTT 3.1
//! (refused with return code 1), a password without a user name (the codec library refuses it).

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
