//! Replicated truth: [`Command`] goes through the log, apply changes the state, [`Reply`] comes out.
//!
//! Apply sees neither clock nor dice nor key: same log, same state, byte for byte.

mod cbor_arc;
mod client;
mod command;
mod event;
mod id;
pub mod model;
mod reply;

pub use client::{MqttMessage, MqttSubscription};
pub use command::{Command, Entry, Proposal, Put};
pub use event::{DeviceInfo, Event, EventRow, LogCode, LogLevel, TxAckEvent, UpEvent};
pub use id::{Id, ParseIdError};
pub use mac::{NodeId, RequestId};
pub use reply::{Refusal, Reply};
