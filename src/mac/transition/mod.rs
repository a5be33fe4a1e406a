//! The pure transitions of a [`crate::DeviceSession`]: what the log's apply does to it, and nothing
//! else may.
//!
//! No clock, no dice, no key: the same session and the same command give the same session, byte for
//! byte. `mac`'s machine calls the reading halves ([`classify()`], [`plan()`]) on its own applied
//! state to know what apply will say; a wrong guess costs a round, never correctness.
//!
//! In the order of a frame's life: [`accept_uplink()`], [`apply_mac_answers()`], [`confirm()`],
//! [`grant_for()`]; then [`plan()`], [`hand_out()`]; then [`record_tx_ack()`].

mod activate;
mod answers;
mod channel_plan;
mod confirm;
mod grant;
mod plan;
mod requests;
mod uplink;

#[cfg(test)]
mod grant_model;
#[cfg(test)]
mod grant_tests;
#[cfg(test)]
mod tests;

pub use activate::{AbpActivation, activate_abp, activate_join, install};
pub use answers::{DeviceStatus, MacOutcome, apply_mac_answers};
pub use confirm::{Confirmation, ItemFate, confirm, record_tx_ack};
pub use grant::{grant_for, raise_next, void_grants};
pub use plan::{DiscardReason, ItemState, Plan, QueueItem, hand_out, plan};
pub use uplink::{FCntVerdict, accept_uplink, classify};
