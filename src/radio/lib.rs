//! The other side of the air: an end device and a packet forwarder, sans-IO, that really encrypt
//! and keep time. For the demo, the simulator and the tests; never in the server's path.
//!
//! * [`Device`] joins, sends, opens its windows and says of each frame it hears why it took it or
//!   not ([`Verdict`]).
//! * [`Forwarder`] turns frames into datagrams and back as the reference forwarder does, limits of
//!   its downlink queue included.
//! * [`OnAir`] is what passes between them. Whoever owns the world carries it: a device's frame to
//!   forwarders when it *ends*, a forwarder's frame to devices when it *begins*.

mod air;
mod chance;
mod config;
mod device;
mod exchange;
mod faults;
mod forwarder;
mod jit;
mod obey;
mod plan;
mod receive;
mod session;
mod verdict;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod forwarder_tests;
#[cfg(test)]
mod testnet;

pub use air::{OnAir, Signal, airtime};
pub use config::{Activation, AppUplink, DeviceConfig, DeviceVersion, SendError};
pub use device::Device;
pub use exchange::WINDOW_TOLERANCE;
pub use faults::Faults;
pub use forwarder::{Forwarder, ForwarderConfig, ForwarderCounts, ForwarderEffect, Socket};
pub use verdict::{AppDownlink, DeviceEffect, Missed, Sent, Verdict};
