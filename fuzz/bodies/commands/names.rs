//! The small space of names that scripts draw from.

use lorawan::{DevAddr, DevEui, GatewayEui, JoinEui};
use mac::{NodeId, Sealed};
use store::Id;

const fn id(kind: u8, number: u8) -> Id {
    Id([kind.wrapping_add(number); 16])
}

pub(crate) const CLUSTER: Id = id(0xC1, 0);

pub(crate) const fn tenant(number: u8) -> Id {
    id(0x10, number)
}

pub(crate) const fn application(number: u8) -> Id {
    id(0x20, number)
}

pub(crate) const fn profile(number: u8) -> Id {
    id(0x30, number)
}

pub(crate) const fn user(number: u8) -> Id {
    id(0x40, number)
}

pub(crate) const fn api_key(number: u8) -> Id {
    id(0x50, number)
}

pub(crate) const fn item(number: u8) -> Id {
    id(0x60, number)
}

pub(crate) const fn device(number: u8) -> DevEui {
    DevEui::from_be_bytes([0, 0, 0, 0, 0, 0, 1, number])
}

pub(crate) const fn gateway(number: u8) -> GatewayEui {
    GatewayEui::from_be_bytes([0, 0, 0, 0, 0, 0, 2, number])
}

pub(crate) const fn join_eui(number: u8) -> JoinEui {
    JoinEui::from_be_bytes([0, 0, 0, 0, 0, 0, 3, number])
}

/// Few addresses, so that devices share them.
pub(crate) const fn address(number: u8) -> DevAddr {
    DevAddr::from_u32(0x0100_0000 + number as u32)
}

/// The founder is number 0.
pub(crate) fn node(number: u8) -> NodeId {
    NodeId(u64::from(number) + 1)
}

pub(crate) fn text(word: &str, number: u8) -> String {
    format!("{word}{number}")
}

pub(crate) fn client(number: u8) -> String {
    text("client", number)
}

pub(crate) fn account(number: u8) -> String {
    text("account", number)
}

pub(crate) fn sealed(tag: u8) -> Sealed {
    Sealed { key_id: 1, nonce: [tag; 24], bytes: Box::new([tag; 32]) }
}

/// The keys of a join: never the same again.
pub(crate) fn sealed_by_join(joins: u64) -> Sealed {
    Sealed { key_id: 2, nonce: [0; 24], bytes: Box::new(joins.to_be_bytes()) }
}
